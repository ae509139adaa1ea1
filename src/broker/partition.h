#pragma once
// One partition while the broker runs: its log, high watermark, what waits for it. Owned by the
// loop thread; nothing here is locked. A partition lives as long as its topic; after deletion it
// lingers, closed, until no answer that is still being sent reads its files.

#include "base/arena.h"
#include "base/list.h"
#include "core/topics.h"

struct broker;
struct log;     // store/log.h
struct request; // broker/request.h

struct partition {
    struct uuid topic_id;
    struct str topic; // points into the struct topic's copy; our own copy
    int32_t index;
    int32_t leader_epoch;
    struct log *log;              // owned
    int64_t high_watermark;       // readers see offsets below this; <= log end
    int64_t synced_end;           // offsets below are durable
    int64_t reserved_end;         // offsets below may be used, synced in the journal
    struct list waiting_fetches;  // struct fetch_wait, woken by append, trim and deletion
    struct list waiting_produces; // acks=all appends not yet durable, in order of offset
    bool is_deleted;
};

struct partitions; // all of a broker, by topic id and index

struct partitions *partitions_new(struct broker *b);
void partitions_free(struct partitions *ps);

// NULL when there is none (unknown topic, index out of range, deleted).
struct partition *partitions_get(struct partitions *ps, struct uuid topic_id, int32_t index);

// Makes the set agree with the topics: opens logs of new partitions, closes and removes those of
// deleted topics. Called after the journal was replayed and after each applied topic record.
// 0, or -errno when a log could not be opened or made.
MUST_USE int partitions_follow(struct partitions *ps, const struct topics *ts);

// Log ends for accounting and lag: -1 when there is no such partition.
int64_t partition_log_start(const struct partition *p);
int64_t partition_log_end(const struct partition *p);
