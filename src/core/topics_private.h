#pragma once
// The state behind topics.h, for topics*.c only.

#include "core/topics.h"

struct map;

struct topics {
    const struct configs *fixed; // borrowed
    struct map *by_id;           // struct topic *, owned
    struct map *by_name;         // the same topics
    struct map *groups;          // group id -> struct configs *, owned, never empty
    struct configs *broker;      // of this node
    struct configs *all_brokers; // the default of every node, as Kafka keeps it
    uint64_t version;
    uint64_t config_version;
    int64_t reserved_producer_id; // ids below may have been handed out
    int64_t next_producer_id;     // soft, valid once has_producer_ids
    bool has_producer_ids;        // soft: an id was given out since the start
    bool clamp_replication;
};
