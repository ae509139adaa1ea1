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
    // Put off until then; where it stands follows when it comes up.
    uint64_t later_ms, later_order;
};

struct heap {
    struct timer **items; // owned array, nodes are not
    size_t count;
    size_t cap;
    uint64_t next_order;
};

void heap_free(struct heap *h);
void heap_set(struct heap *h, struct timer *t, uint64_t due_ms); // sets or moves
// The same, for what is put off far more often than it fires: it costs next to nothing, and
// heap_first() may show an earlier deadline than the true one.
void heap_put_off(struct heap *h, struct timer *t, uint64_t due_ms);
void heap_cancel(struct heap *h, struct timer *t); // fine when not set
bool timer_is_set(const struct timer *t);
struct timer *heap_first(const struct heap *h); // NULL when empty; no later than what is due next
// What heap_first() shows as due by now is due, then.
void heap_settle(struct heap *h, uint64_t now_ms);
// Takes the first timer due at or before now_ms; NULL when none.
struct timer *heap_pop_due(struct heap *h, uint64_t now_ms);
