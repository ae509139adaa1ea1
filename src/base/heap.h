#pragma once
// Timers: a binary heap of deadlines. Equal deadlines fire in the order they were set, so that
// a run is the same each time. Nodes stand inside their owners.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timer {
    uint64_t due_ms;
    uint64_t order;  // the heap's own
    size_t position; // index + 1; 0 when not set
};

struct heap {
    struct timer **items; // owned array, nodes are not
    size_t count;
    size_t cap;
    uint64_t next_order;
};

void heap_free(struct heap *h);
void heap_set(struct heap *h, struct timer *t, uint64_t due_ms); // sets or moves
void heap_cancel(struct heap *h, struct timer *t);               // fine when not set
bool timer_is_set(const struct timer *t);
struct timer *heap_first(const struct heap *h); // NULL when empty
// Takes the first timer due at or before now_ms; NULL when none.
struct timer *heap_pop_due(struct heap *h, uint64_t now_ms);
