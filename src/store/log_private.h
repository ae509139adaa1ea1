#pragma once
// What the files of the log module share. Private to src/store.

#include "store/epochs.h"
#include "store/log.h"
#include "store/segment.h"

// Sealed segments a log keeps open for readers; each has a handle and up to 2 MB of index.
#define LOG_OPEN_SEGMENTS 4
// Files besides the active segment that wait for the next sync; a roll beyond it blocks for one.
#define LOG_UNSYNCED_MAX 8
_Static_assert(LOG_UNSYNCED_MAX + 2 <= DISK_SYNC_FILES_MAX, "with the active and the directory");
// Files of producer state kept: the newest may be torn by a crash.
#define LOG_PRODUCER_FILES 2

#define METADATA_FILE "partition.metadata" // Kafka's

struct log {
    struct disk *disk;
    char *dir;
    struct log_config config;
    struct segment **segments; // owned, by base; the last is the active one
    size_t n_segments, cap_segments;
    struct disk_file *dir_file;
    struct disk_file *unsynced[LOG_UNSYNCED_MAX]; // files to sync before the active segment
    size_t n_unsynced, n_syncing;                 // the first of them are under way
    bool dir_changed, dir_syncing;                // a name in it is not durable yet
    int64_t start, end;
    int64_t synced, sync_target; // sync_target -1: none is under way
    int64_t recovery_point;      // as in the file
    int64_t durable_point;       // a recovery point that no power cut takes back
    int64_t reserve_mark;
    struct epochs epochs;
    struct producer_state *producers;
    uint64_t use_counter;
    int broken;    // a write or sync failed: what is on disk is not known any more
    bool is_dirty; // differs from what the last clean stop left
};

static inline struct segment *log_active(const struct log *l)
{
    return l->segments[l->n_segments - 1];
}

void log_add_segment(struct log *l, struct segment *s);
MUST_USE int log_segment_ready(struct log *l, struct segment *s); // opened, for reading
void log_remember_unsynced(struct log *l, struct disk_file *f);
// Seals the active segment and starts another at the log end.
MUST_USE int log_roll(struct log *l, int64_t now_ms);
// The index of the segment that holds or would hold offset.
size_t log_segment_index(const struct log *l, int64_t offset);
void log_update_producers(struct log *l, const struct batch_header *h, int64_t now_ms);

// log_files.c: the small files beside the segments.
void log_path(const struct log *l, const char *name, char ret_path[SEGMENT_PATH_BYTES]);
MUST_USE int log_write_producers(struct log *l);
// Loads the newest good producer state at or below log end and goes on from there.
MUST_USE int log_load_producers(struct log *l);
// Not durable, and never claims too much.
MUST_USE int log_write_recovery_point(struct log *l);
MUST_USE int log_write_durable_point(struct log *l);
int64_t log_read_recovery_point(struct log *l); // 0: none; -1: a crash tore it
MUST_USE int log_write_metadata(struct log *l, struct uuid topic_id, struct disk_file **ret_file);
MUST_USE int log_open_metadata(struct log *l, struct disk_file **ret_file);
// 0 with *ret_is_other, or -errno.
MUST_USE int log_read_metadata(struct log *l, struct uuid topic_id, bool *ret_is_other,
                               bool *ret_is_missing);

struct log_mark {
    int64_t start, end;
    uint64_t active_size;
};
MUST_USE int log_write_mark(struct log *l);
MUST_USE int log_remove_mark(struct log *l); // fine when there is none
MUST_USE int log_read_mark(struct log *l, struct log_mark *ret_mark);
