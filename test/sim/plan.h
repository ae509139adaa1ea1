#pragma once
// What a seed means: how many partitions, producers and consumers of which kind, and which faults
// fall when. plan_run() runs it all and checks as it goes.

#include "sim.h"

// Bugs put in on purpose, to see that the checks find them (src/base/bug.h).
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
};

void plan_run(const struct sim_options *o, struct plan_result *ret);
