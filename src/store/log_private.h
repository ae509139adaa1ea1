#pragma once
// What the files of the log module share. Private to src/store.

#include "base/list.h"
#include "store/cleaner.h"
#include "store/epochs.h"
#include "store/files.h"
#include "store/log.h"
#include "store/segment.h"
#include "wire/batch.h"

// Sealed segments a log keeps open for readers; each has a handle and up to 2 MB of index.
#define LOG_OPEN_SEGMENTS 4
// Files besides the active segment that wait for the next sync; a roll beyond it blocks for one.
#define LOG_UNSYNCED_MAX 8
#define LOG_ROLL_FILES 1 // of them, that one roll adds
_Static_assert(LOG_UNSYNCED_MAX + 2 <= DISK_SYNC_FILES_MAX, "with the active and the directory");
// Files of producer state kept: the newest may be torn by a crash.
#define LOG_PRODUCER_FILES 2

#define METADATA_FILE "partition.metadata" // Kafka's

// The names in a log's directory, in bytewise order; in an arena.
struct log_names {
    char **at;
    size_t n;
};

// What "checkpoint" holds. The active segment is as described, unless the machine went down;
// offsets below `durable` are there whatever happens.
struct log_checkpoint {
    int64_t durable;
    struct segment_state active;
};

struct log {
    struct disk *disk;
    struct files *files; // borrowed, may be NULL
    struct list dirty;   // in files->dirty while something is not durable
    void *owner;
    char *dir;
    struct log_config config;
    struct segment **segments; // owned, by base; the last is the active one
    size_t n_segments, cap_segments;
    struct uuid topic_id;
    struct disk_file *dir_file; // open while dir_changed, once something was written
    struct disk_file *unsynced[LOG_UNSYNCED_MAX]; // files to sync before the active segment
    size_t n_unsynced, n_syncing;                 // the first of them are under way
    bool dir_changed, dir_syncing;                // a name in it is not durable yet
    bool is_unborn; // nothing was written yet: not even its own name needs to be durable
    int64_t start, end;
    int64_t synced, sync_target;     // sync_target -1: none is under way
    int64_t recovery_point;          // as in the checkpoint
    int64_t durable_point;           // as in "recovery-point", which no power cut takes back
    struct segment_state checkpoint; // only base, end and bytes
    int64_t reserve_mark;
    struct epochs epochs;
    struct producer_state *producers;
    uint64_t use_counter;
    int64_t rebuilt; // log_take_rebuilt()
    bool has_epochs_file;
    struct disk_stat metadata;    // as it was when it was read or written, with our topic id
    struct compaction compaction; // as the file says; zeros: never compacted
    struct cleaning *cleaning;    // owned: a round is under way
    uint64_t clean_cookie;
    char *clean_text; // owned: log_clean_report.text
    int broken;       // a write or sync failed: what is on disk is not known any more
};

static inline struct segment *log_active(const struct log *l)
{
    return l->segments[l->n_segments - 1];
}

static inline bool log_is_syncing(const struct log *l)
{
    return l->sync_target >= 0;
}

// files.c: what is open.
struct files {
    size_t max, n;     // of open files
    size_t n_idle;     // of idle
    struct list idle;  // struct segment, that not used longest first: may be closed
    struct list dirty; // struct log, dirty longest first
};
void files_opened(struct files *f, struct segment *s);
void files_closing(struct files *f, struct segment *s);
void files_used(struct files *f, struct segment *s);
void files_pin(struct files *f, struct segment *s); // must stay open
void files_unpin(struct files *f, struct segment *s);
// Before one is opened: closes what has to be closed, and syncs what has to be synced before that.
MUST_USE int files_room(struct files *f);
bool files_give_back(struct files *f); // one file; false: none may be closed

void log_add_segment(struct log *l, struct segment *s);
MUST_USE int log_segment_ready(struct log *l, struct segment *s); // opened, for reading
// From here on the log does nothing more: what is on the disk is not known. Gives the error.
int log_break(struct log *l, int error);
void log_remember_unsynced(struct log *l, struct disk_file *f);
MUST_USE int log_open_dir(struct log *l); // before a name in it changes
// Seals the active segment and starts another at the log end.
MUST_USE int log_roll(struct log *l, int64_t now_ms);
// The index of the segment that holds or would hold offset.
size_t log_segment_index(const struct log *l, int64_t offset);
void log_update_producers(struct log *l, const struct batch_header *h, int64_t now_ms);

// One batch in memory, opened: record_next(&b->it). Free it also when reading failed.
struct log_batch {
    uint8_t *data;
    struct buf scratch;
    struct record_iter it;
};
MUST_USE int log_batch_read(struct log_batch *b, struct segment *s, const struct walk *w);
void log_batch_free(struct log_batch *b);

// log_clean.c. Brings a swap to its end that a crash interrupted, and removes what is left of one
// that did not come so far: then the names are others.
MUST_USE int log_clean_recover(struct log *l, const struct log_names *names, int64_t log_start,
                               bool *ret_changed, char *ret_text, size_t size);
// The round under way ends: what was announced is put in place, the rest is dropped. For a clean
// stop.
MUST_USE int log_clean_finish(struct log *l);

// log_left.c. What the next start would find; nothing when something is out of the ordinary.
void log_left_text(const struct log *l, struct buf *out);
// False, and nothing has happened, when the files are not as they were left, or that was not told.
bool log_open_as_left(struct log *l, const struct log_open *args);
int64_t log_end_of(const struct log *l); // from its segments and epochs

// log_repair.c. Before the segments are listed; offsets below durable were there.
MUST_USE int log_repair(struct log *l, const struct log_open *args, int64_t durable, char *ret_text,
                        size_t size);
// The file of the epochs is gone: made from what the batches say.
MUST_USE int log_repair_epochs(struct log *l, const struct log_open *args);

// log_files.c: the small files beside the segments.
void log_path(const struct log *l, const char *name, char ret_path[SEGMENT_PATH_BYTES]);
MUST_USE int log_write_producers(struct log *l);
// Loads the newest good producer state at or below log end and goes on from there.
MUST_USE int log_load_producers(struct log *l, const struct log_names *names);
MUST_USE int log_list(const struct log *l, struct arena *a, struct log_names *ret_names);
bool log_names_have(const struct log_names *names, const char *name);
// Writes a file without making it durable: a crash may leave it missing, empty or torn.
MUST_USE int log_write_lazily(struct log *l, const char *name, const struct buf *content);
void text_end_with_crc(struct buf *text); // what text_crc_fits() looks for
bool text_crc_fits(struct bytes content); // terminated
MUST_USE int log_write_metadata(struct log *l, struct disk_file **ret_file);
// 0 with *ret_is_other, or -errno.
MUST_USE int log_read_metadata(struct log *l, bool *ret_is_other, bool *ret_is_missing);

#define POINT_FILE "recovery-point"
// log_checkpoint.c. False when there is none that is whole.
bool log_read_checkpoint(struct log *l, struct log_checkpoint *ret);
// Durable: retention removes nothing that is not below it.
MUST_USE int log_write_durable_point(struct log *l);
int64_t log_read_durable_point(struct log *l); // 0: none; -1: damaged
