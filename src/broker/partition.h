#pragma once
// The partitions of a running broker: logs, high watermarks, and what waits for them. Owned by
// the loop thread; nothing here is locked, and no call blocks but for a segment roll.
//
// High watermark: readers see offsets below it. It is the log end, but stops before the first
// acks=all batch that is not yet durable.

#include "base/arena.h"
#include "base/list.h"
#include "base/siphash.h"
#include "core/topics.h"
#include "wire/batch.h"

struct disk;
struct log;
struct store;
struct partition;
struct partitions; // all of a broker, by topic id and index

struct partitions_config {
    struct disk *disk;   // borrowed, as all that follows
    struct store *store; // names the directories; may be NULL in tests, then dir is used
    const char *dir;     // only without a store
    struct topics *topics;
    bool was_clean; // how the last run ended: store.h
    bool power_lost;
    struct log_repair *repair; // as in struct broker_config
    char **repair_topics;
    int n_repair_topics;
    struct siphash_key hash; // of keys while a log is compacted; a secret, or zeros
    void *ctx;               // of the functions below
    // Journals the records and applies them to the core at once. Returns the journal position, or
    // UINT64_MAX: they could not be written, and the broker stops.
    uint64_t (*commit)(void *ctx, struct effects *fx);
    // One line for the log.
    void (*say)(void *ctx, bool is_warning, const char *line);
    // The disk failed: the broker stops loudly. May return; nothing is appended afterwards.
    void (*fail)(void *ctx, const char *line);
};

struct partitions *partitions_new(const struct partitions_config *config);
void partitions_free(struct partitions *ps); // as a crash; NULL is fine
// Closes every log so that the next start needs no scan, and frees the set in any case. Errors
// are said; the first is returned.
MUST_USE int partitions_close_clean(struct partitions *ps);

// Makes the set agree with the topics: opens logs of new partitions, takes over changed settings,
// drops partitions of deleted topics. After the journal's replay, and after each commit (cheap
// when nothing changed). position: of the newest journal record, 0 at start: directories of a
// deleted topic go when that is durable. 0, or -errno when a log could not be opened (said).
MUST_USE int partitions_follow(struct partitions *ps, uint64_t position, int64_t wall_ms);
// Removes directories of topics that are no more, left by a crash. Once, after the first follow.
void partitions_clean_leftovers(struct partitions *ps);

// NULL when there is none (unknown topic, index out of range, deleted).
struct partition *partitions_get(struct partitions *ps, struct uuid topic_id, int32_t index);

// What the loop tells, and what it asks at the end of each pass.
void partitions_journal_synced(struct partitions *ps, uint64_t position, int64_t wall_ms);
// A sync with a cookie of ours ended. False: the cookie is not ours.
bool partitions_sync_done(struct partitions *ps, uint64_t cookie, int error);
// Writes what was appended in this pass, starts syncs, wakes watchers.
void partitions_flush(struct partitions *ps, int64_t wall_ms);
bool partitions_has_work(const struct partitions *ps); // the loop need not sleep; NULL is fine
// While on, no sync is begun: what is wanted waits for more to join it.
void partitions_hold_syncs(struct partitions *ps, bool on);
bool partitions_wants_sync(const struct partitions *ps);
// Gives a slice's file back at the end of this pass: the answer that holds it is on its way to
// the socket, which takes a reference of its own.
struct log_slice;
void partitions_release_later(struct partitions *ps, struct log_slice *slice);
// For records of so many bytes, which are counted as written; else produce is refused.
bool partitions_has_room(struct partitions *ps, size_t bytes);
// Saves what bounds the work of a recovery, for all that were written to; during the next passes.
void partitions_save(struct partitions *ps);
bool partitions_has_unsaved(const struct partitions *ps);
// Retention of all logs, and producers that were silent too long.
void partitions_retain(struct partitions *ps, int64_t wall_ms);

// Begins to compact the log that needs it most, unless one is being compacted.
void partitions_clean(struct partitions *ps, int64_t wall_ms);

// Appending. The struct stands in the request; `done` is called once, never from inside
// partition_append(), unless partition_cancel() came first. The batch's bytes stay until then.
enum append_state { APPEND_QUEUED, APPEND_WAITS_ROOM, APPEND_WAITS_SYNC, APPEND_DONE };

struct append {
    struct list node;
    struct batch batch; // checked; its bytes are not changed
    bool is_all;        // acks=all: done when durable
    void (*done)(struct append *a);
    void *ctx;
    struct partition *partition; // valid while it waits
    // The outcome.
    enum append_state state;
    enum kerr error;
    int64_t base_offset;
    int64_t end_offset;
    int64_t log_append_ms; // of a duplicate: the first try's timestamp; else -1
};

void partition_append(struct partition *p, struct append *a);
// A batch was refused before it came to that, and will come again.
void partition_refused(struct partition *p, const struct batch *b);
// The request is gone. What was appended stays appended.
void partition_cancel(struct append *a);

// Watching: wake() is called whenever readers may see more, or less, or the partition is deleted
// (then p is NULL and the watch is off). It must not touch partitions; it takes note.
struct partition_watch {
    struct list node;
    struct partition *p;
    void (*wake)(struct partition_watch *w);
    void *ctx;
};
void partition_watch(struct partition *p, struct partition_watch *w);
void partition_unwatch(struct partition_watch *w); // fine when not watching

// Tells the log what reading the partition's log came to: an index that had to be made anew, and an
// error, once until it can be read again.
void partition_was_read(struct partition *p, int error);

struct uuid partition_topic_id(const struct partition *p);
struct str partition_topic(const struct partition *p);
int32_t partition_index(const struct partition *p);
int32_t partition_epoch(const struct partition *p); // leader epoch
struct log *partition_log(struct partition *p);
const struct log *partition_log_const(const struct partition *p);
int64_t partition_log_start(const struct partition *p);
int64_t partition_log_end(const struct partition *p);
int64_t partition_high_watermark(const struct partition *p);

// Settings of the topic, resolved; renewed by partitions_follow().
struct partition_settings {
    struct batch_rules rules; // produce_version and now_ms are the caller's to fill
    bool log_append_time;
    bool is_internal;
    bool may_delete; // cleanup.policy has delete: records may be deleted by hand
};
const struct partition_settings *partition_settings(const struct partition *p);

// DeleteRecords: journals the new start, then trims. -1 is the high watermark. KERR_NONE with the
// journal position that must be durable before the answer leaves, or OFFSET_OUT_OF_RANGE.
enum kerr partition_delete_records(struct partition *p, int64_t offset, int64_t wall_ms,
                                   uint64_t *ret_position);

// Offsets of the range without a record: never used, as a power cut leaves them, or compacted.
int64_t partition_gap(const struct partition *p, int64_t from, int64_t to);
