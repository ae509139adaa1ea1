#pragma once
// Topics in a data directory of Apache Kafka: what one of them holds, and how it is copied into
// ours and out of it. Kafka's directory is read through a disk of its own, which only reads.

#include "base/arena.h"
#include "os/disk.h"
#include "store/epochs.h"

struct kafka_segment {
    int64_t base;
    uint64_t bytes;
};

struct kafka_partition {
    char *dir; // in the arena, as all that follows
    struct kafka_segment *segments;
    size_t n_segments;
    struct epochs epochs;
    int64_t start, end;
    int64_t gaps; // below, offsets may hold no record: compacted, or a transaction's marker
    int64_t records;
};

struct kafka_topic {
    char *name;
    struct kafka_partition *partitions;
    int32_t n_partitions;
};

// TOPIC-NUMBER; false: it is no partition's directory.
bool kafka_parse_dir(const char *name, struct arena *a, char **ret_topic, int32_t *ret_index);
// Names of topics in dir, sorted, without internal ones.
MUST_USE int kafka_dir_topics(struct disk *d, const char *dir, struct arena *a, char ***ret_names,
                              size_t *ret_n);
// Reads every batch. 0; or -errno with one line in ret_why that names file, byte and offset. Free
// the topic's epochs with kafka_topic_free() in any case.
MUST_USE int kafka_topic_check(struct disk *d, const char *dir, const char *topic, struct arena *a,
                               struct kafka_topic *ret, char *ret_why, size_t size);
void kafka_topic_free(struct kafka_topic *t);

// Copies a checked topic from disk `from` into new directories DATA/TOPIC-N, as log_open() wants
// them, all of it durable. What was made is removed when it fails.
MUST_USE int kafka_copy_in(struct disk *from, const struct kafka_topic *t, struct disk *to,
                           const char *data, struct uuid topic_id, char *ret_why, size_t size);

struct log;
// Copies logs, those of all partitions in their order, into a directory of Kafka's: as new
// directories TOPIC-N, or in the place of empty ones that Kafka made, whose topic id stays. Kafka
// must not run. What was made is removed when it fails.
MUST_USE int kafka_copy_out(struct disk *from, struct log *const *logs, int32_t n,
                            const char *topic, struct uuid topic_id, struct disk *to,
                            const char *dir, char *ret_why, size_t size);
