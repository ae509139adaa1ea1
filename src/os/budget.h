#pragma once
// Memory that all connections share, whichever thread they belong to.

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct budget {
    _Atomic uint64_t bytes;
    uint64_t max_bytes; // 0 is no limit
};

static inline uint64_t budget_bytes(struct budget *b)
{
    return atomic_load_explicit(&b->bytes, memory_order_relaxed);
}

static inline void budget_add(struct budget *b, uint64_t bytes)
{
    atomic_fetch_add_explicit(&b->bytes, bytes, memory_order_relaxed);
}

static inline void budget_give(struct budget *b, uint64_t bytes)
{
    atomic_fetch_sub_explicit(&b->bytes, bytes, memory_order_relaxed);
}

// False when it would go beyond the most; what is given back right after counts as given.
static inline bool budget_take(struct budget *b, uint64_t bytes, uint64_t given_after)
{
    uint64_t now = budget_bytes(b);
    do {
        if (b->max_bytes && now + bytes > b->max_bytes + given_after)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&b->bytes, &now, now + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

static inline bool budget_is_over(struct budget *b)
{
    return b->max_bytes && budget_bytes(b) > b->max_bytes;
}

static inline uint64_t budget_left(struct budget *b)
{
    uint64_t now = budget_bytes(b);
    if (!b->max_bytes)
        return UINT64_MAX;
    return now < b->max_bytes ? b->max_bytes - now : 0;
}
