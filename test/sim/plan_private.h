#pragma once
// The plan's own, shared by plan.c (the plain world) and plan_extra.c (what features add).

#include "plan.h"
#include "truth.h"
#include "world.h"

#define CONSUMERS_MAX 8
#define PRODUCERS_MAX 3

struct plan {
    struct sim sim;
    struct consumer *consumers[CONSUMERS_MAX];
    struct producer *producers[PRODUCERS_MAX];
    size_t n_consumers;
    size_t n_producers;
    struct link *admin;
    struct bystander *bystanders[2];
    bool may_cut_power;
    bool is_full;  // the disk
    bool is_quiet; // no more faults
};

static inline struct plan *plan_of(struct actor *a)
{
    return LIST_ITEM(a->sim, struct plan, sim);
}

static inline bool plan_chance(struct plan *p, uint32_t percent)
{
    return prng_chance(&p->sim.prng, percent);
}

static inline uint64_t plan_below(struct plan *p, uint64_t n)
{
    return prng_below(&p->sim.prng, n);
}

static inline bool plan_with(const struct plan *p, enum plan_feature f)
{
    return plan_has(p->sim.options.seed, f);
}

// What features change in a consumer, in the order of the bits.
void plan_extra_consumer(struct plan *p, size_t i, struct consumer_plan *c);
// Groups, clients and events that features add.
void plan_extra_populate(struct plan *p);
void plan_extra_free(struct plan *p);
void plan_add_consumer(struct plan *p, const struct consumer_plan *c);
