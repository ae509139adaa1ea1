#pragma once
// What a seed means: how many partitions, producers and consumers of which kind, and which faults
// fall when. plan_run() runs it all and checks as it goes.
//
// The upper half of a seed says what is added to the plain world, a bit each, so that a seed below
// 2^32 means the same for ever.

#include "sim.h"

enum plan_feature {
    PLAN_SLOW_DISK = 1,
    PLAN_FEW_FILES = 2,        // open at once
    PLAN_COOPERATIVE = 4,      // members of g1
    PLAN_STATIC = 8,           // members, some with an instance id that another has too
    PLAN_TOPIC_IDS = 16,       // consumers that name topics by id, as the Java client does
    PLAN_ASSIGN = 32,          // a group of assign()-only consumers
    PLAN_MORE_PARTITIONS = 64, // are added while everything runs
    PLAN_DELETE_RECORDS = 128,
    PLAN_ADMIN = 256,      // sets offsets and deletes them, from outside
    PLAN_BYSTANDERS = 512, // a reader without a group, an exporter of lags
    PLAN_DISK_FULL = 1024,
    PLAN_RETENTION = 2048,
    PLAN_COMPACTION = 4096,
    PLAN_PIPELINE = 8192, // producers send several batches before they wait
    PLAN_COLD = 16384,    // much of what is fetched is not in the page cache
    PLAN_APART = 32768,   // consumers whose connections come back one by one
    PLAN_FEATURES_ALL = 65535,
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
