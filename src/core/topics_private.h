#pragma once
// The state behind topics.h, for topics*.c only.

#include "core/topics.h"

struct map;

struct topics {
    const struct configs *fixed; // borrowed
    struct map *by_id;           // struct topic *, owned
    struct map *by_name;         // the same topics
    struct map *by_folded;       // name with '.' as '_' -> one topic of that form
    struct map *groups;          // group id -> struct configs *, owned, never empty
    struct configs *broker;      // of this node
    struct configs *all_brokers; // the default of every node, as Kafka keeps it
    uint64_t version;
    uint64_t config_version;
    int64_t reserved_producer_id; // ids below may have been handed out
    int64_t next_producer_id;     // soft, valid once has_producer_ids
    bool has_producer_ids;        // soft: an id was given out since the start
    bool clamp_replication;
    uint64_t most_partitions;
    uint64_t n_partitions; // of all topics
};

// How often each key stands in a request: a map of counts, so that a request with very many
// entries costs no square of them.
size_t counts_add(struct map *counts, struct bytes key); // the new count
size_t counts_get(const struct map *counts, struct bytes key);

// The name in the form in which '.' and '_' are one character; buf holds TOPIC_NAME_MAX bytes.
struct bytes topic_folded(struct str name, char *buf);
