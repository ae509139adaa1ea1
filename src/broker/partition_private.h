#pragma once
// The state behind partition.h, for partition.c and partitions.c only.

#include "broker/partition.h"
#include "store/log.h"
#include "store/store.h"

struct map;

struct partition {
    struct partitions *set;
    struct uuid topic_id;
    struct str topic; // owned, terminated
    int32_t index;
    struct log *log; // owned
    struct partition_settings settings;

    int64_t high_watermark;
    int64_t all_from; // first acks=all batch that is not durable, -1: none. May lag behind that
                      // batch's start after a sync, never be beyond it.
    int64_t all_end;  // end of the last acks=all batch

    struct list queued;   // struct append: to be written at the next flush
    struct list no_room;  // waiting for offsets to be reserved
    struct list unsynced; // acks=all, waiting for the sync
    struct list watches;  // struct partition_watch
    struct list dirty;    // in set->dirty: something to do at the next flush
    struct list wants;    // in set->wants_room or set->reserving
    struct list syncing;  // in set->syncing or set->sync_wanted
    struct list unsaved;  // in set->unsaved or set->saving: written to since its checkpoint
    uint64_t reserve_position;
    int64_t reserve_upto; // 0: no reservation under way
    bool is_unreadable;   // was said
    bool is_syncing;
    bool is_uncleanable; // compaction met a damaged segment
    bool is_dropped;     // deleted, kept until its sync ends
};

struct partitions {
    struct partitions_config config;
    struct map *by_key;  // topic id + index -> struct partition, owned
    struct files *files; // owned: of all logs
    size_t n_syncing, syncs_max;
    struct list dirty;
    struct list wants_room;
    struct list reserving;
    struct list syncing;
    struct list sync_wanted;
    bool holds_syncs;
    struct list unsaved;
    struct list saving;          // their turn has come
    struct list removing;        // struct removal
    struct log_slice *releasing; // owned array, given back at the next flush
    size_t n_releasing;
    size_t cap_releasing;
    uint64_t seen_topics;
    uint64_t seen_configs;
    size_t n_recovered; // by reading the tail, at start
    uint64_t recovered_bytes;
    struct partition *cleaning; // being compacted; NULL: none
    int64_t cleaning_bytes;     // that it saved so far
    int64_t cleaning_from;      // where it was clean before
    bool clean_again;           // look at once for the next one
    bool is_started;            // the first follow is done
    bool has_missing;           // some could not be opened for want of files or space; tried again
    bool has_owed;              // some wait until the deletion of a topic of their name is durable
    bool has_failed;
};

void partition_drop(struct partition *p); // fails what waits, closes, frees (now or after its sync)
void partition_free(struct partition *p);
void partition_mark_dirty(struct partition *p);
// Offsets were reserved: what waited for room is queued again.
void partition_reserved(struct partition *p);
void partition_flush(struct partition *p, int64_t wall_ms);
void partition_want_sync(struct partition *p);
void partitions_start_syncs(struct partitions *ps); // that are wanted, as many as may run
void partition_wake_all(struct partition *p);
void partition_save(struct partition *p); // writes the checkpoint of its log
// A step of compaction ended. False: the cookie is not of one.
bool partitions_clean_done(struct partitions *ps, uint64_t cookie, int error);
void partition_stop_cleaning(struct partition *p);
void partitions_say(struct partitions *ps, bool is_warning, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void partition_fail(struct partition *p, int error, const char *what);
// The config's commit(). When that fails nothing may be done that the journal does not know of.
uint64_t partitions_commit(struct partitions *ps, struct effects *fx);
