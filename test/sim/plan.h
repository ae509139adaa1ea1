#pragma once
// What a seed means: how many partitions, producers and consumers of which kind, and which faults
// fall when. plan_run() runs it all and checks as it goes.
//
// The upper half of a seed says what is added to the plain world, a bit each, so that a seed below
// 2^32 means the same for ever.

#include "sim.h"

enum plan_feature {
    PLAN_SLOW_DISK = 1,
    PLAN_FEW_FILES = 2,
    PLAN_FEATURES_ALL = 3,
};

static inline bool plan_has(uint64_t seed, enum plan_feature f)
{
    return seed >> 32 & (uint64_t)f;
}
// The seed with some features added, which follow from it.
uint64_t plan_mixed(uint64_t seed);

struct plan_result {
    bool has_failed;
    char failure[512];
    uint64_t trace_hash;
    uint64_t n_events;
    uint64_t n_lives;
    uint64_t n_produced;
    uint64_t n_processed;
    uint64_t n_commits;
    uint64_t n_checks;
    uint64_t simulated_ms;
    uint64_t n_groups;
    uint64_t group_ms; // of many runs together
};

void plan_run(const struct sim_options *o, struct plan_result *ret);
