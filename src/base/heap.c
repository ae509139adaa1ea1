#include "base/heap.h"

#include <stdlib.h>

#include "base/check.h"

static bool before(const struct timer *a, const struct timer *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->order < b->order;
}

static void place(struct heap *h, size_t at, struct timer *t)
{
    h->items[at] = t;
    t->position = at + 1;
}

static void sift_up(struct heap *h, size_t at, struct timer *t)
{
    while (at > 0 && before(t, h->items[(at - 1) / 2])) {
        place(h, at, h->items[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(h, at, t);
}

static void sift_down(struct heap *h, size_t at, struct timer *t)
{
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= h->count)
            break;
        if (child + 1 < h->count && before(h->items[child + 1], h->items[child]))
            child++;
        if (!before(h->items[child], t))
            break;
        place(h, at, h->items[child]);
        at = child;
    }
    place(h, at, t);
}

void heap_free(struct heap *h)
{
    free(h->items);
    *h = (struct heap){0};
}

void heap_set(struct heap *h, struct timer *t, uint64_t due_ms)
{
    heap_cancel(h, t);
    t->due_ms = due_ms;
    t->order = h->next_order++;
    t->later_ms = 0;
    if (h->count == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 16;
        h->items = realloc(h->items, h->cap * sizeof(struct timer *));
        CHECK(h->items);
    }
    sift_up(h, h->count++, t);
}

void heap_put_off(struct heap *h, struct timer *t, uint64_t due_ms)
{
    if (t->position == 0 || due_ms < t->due_ms) {
        heap_set(h, t, due_ms);
        return;
    }
    t->later_ms = due_ms;
    t->later_order = h->next_order++;
}

void heap_cancel(struct heap *h, struct timer *t)
{
    if (t->position == 0)
        return;
    size_t at = t->position - 1;
    t->position = 0;
    struct timer *last = h->items[--h->count];
    if (last == t)
        return;
    sift_down(h, at, last);
    sift_up(h, last->position - 1, last);
}

bool timer_is_set(const struct timer *t)
{
    return t->position != 0;
}

struct timer *heap_first(const struct heap *h)
{
    return h->count ? h->items[0] : NULL;
}

void heap_settle(struct heap *h, uint64_t now_ms)
{
    struct timer *t;
    while ((t = heap_first(h)) && t->due_ms <= now_ms && t->later_ms != 0) {
        t->due_ms = t->later_ms;
        t->order = t->later_order;
        t->later_ms = 0;
        sift_down(h, 0, t);
    }
}

struct timer *heap_pop_due(struct heap *h, uint64_t now_ms)
{
    // Once each is where it belongs, the first is the one that plain setting would have fired.
    heap_settle(h, now_ms);
    struct timer *t = heap_first(h);
    if (!t || t->due_ms > now_ms)
        return NULL;
    heap_cancel(h, t);
    return t;
}
