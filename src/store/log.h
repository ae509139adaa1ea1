#pragma once
// The log of one topic partition, in Kafka's segment, index and record batch format: a directory
// `topic-partition` that Kafka's own tools read (docs/FORMAT.md). Owned by one thread.
//
// The caller checks batches (wire/), keeps the high watermark, and asks for syncs. Times are wall
// clock ms since 1970, as in the records.

#include "os/disk.h"
#include "store/files.h"
#include "store/producer_state.h"
#include <errno.h>

struct log; // opaque

// Of an operation on a log: there is no room, on the disk or for another open file. It left nothing
// behind and can be done again.
static inline bool log_is_want(int error)
{
    return error == -ENOSPC || error == -EMFILE || error == -ENFILE;
}

// Batches of one log_append().
#define LOG_APPEND_MAX 64
// Offsets are reserved in the journal in blocks of this size (log_reserve_wanted()).
#define LOG_RESERVE_BLOCK 100000

struct log_config {
    int64_t segment_bytes;          // segment.bytes
    int64_t segment_ms;             // segment.ms; of a compacted topic at most its longest lag
    int64_t segment_jitter_ms;      // segment.jitter.ms
    int64_t segment_index_bytes;    // segment.index.bytes
    int64_t retention_ms;           // retention.ms, -1: for ever
    int64_t retention_bytes;        // retention.bytes, -1: no bound
    int32_t index_interval_bytes;   // index.interval.bytes
    int64_t producer_expiration_ms; // producer.id.expiration.ms
    bool compacts;                  // cleanup.policy has compact
    double min_dirty_ratio;         // min.cleanable.dirty.ratio
    int64_t min_compaction_lag_ms;  // min.compaction.lag.ms
    int64_t max_compaction_lag_ms;  // max.compaction.lag.ms
    int64_t delete_retention_ms;    // delete.retention.ms
};
extern const struct log_config log_config_default; // Kafka's defaults

// How a log was left by a clean stop; the owner keeps it until the next start.
struct log_mark {
    int64_t start, end;
    uint64_t active_bytes; // size of the active segment
    uint64_t bytes;        // of all segments; 0: not told, by an older version
    const char *left;      // what spares the look at the files (log_left.c), borrowed; or NULL
    int64_t left_before;   // disk_stat.changed of what says so: believed of older files only
};

// For a log that is damaged: what is whole in it is kept, and empty batches say which offsets are
// lost. The segments as they were stay beside, as BASE.log.damaged. All batches are read.
struct log_repair {
    void (*say)(void *ctx, const char *line); // one for each place
    void *ctx;
    size_t n_places;
    int64_t lost_offsets; // offsets that held records, or may have
};

struct log_open {
    struct disk *disk;    // borrowed
    struct files *files;  // borrowed, shared with other logs; NULL: no bound on what is open
    void *owner;          // log_owner()
    const char *dir;      // copied; made when missing, but -ENOENT if offsets were reserved in it
    struct uuid topic_id; // a directory of another id is the rest of a deleted topic: emptied
    struct log_config config;
    int64_t now_ms;
    bool was_clean;              // the last run was stopped in order
    const struct log_mark *mark; // what log_close_clean() said then: trusted, no scan; or NULL
    bool power_lost;             // unclean and the machine went down: continue at reserved_upto
    int64_t reserved_upto;       // from the newest offsets_reserved record; 0: none
    int64_t synced;       // known to have been durable: damage below is no torn write; 0 is safe
    int64_t log_start;    // the highest start the journal was told; 0: none
    int32_t leader_epoch; // the newest the journal was told; 0: none
    struct log_repair *repair; // NULL: none; not on a disk that only reads
};

struct log_report {
    bool scanned;        // recovery looked at the tail
    uint64_t read_bytes; // of segments, to do so
    bool new_epoch;      // power was lost: the log goes on at lost_upto in log_epoch(), which
                         // is durable already; tell the journal (leader_epoch_started)
    uint64_t cut_bytes;  // torn bytes that were cut
    int64_t lost_from;   // offsets [lost_from, lost_upto) may have held acks=1 records that are
    int64_t lost_upto;   // gone: an upper bound, told to the ledger; equal: nothing was lost
    int64_t cut_records; // whole batches behind a torn one, also cut: their records
    char text[512];      // one line for the log, and the reason of a failure; "" otherwise
};

// 0, or -errno: -EBADMSG when a batch is damaged where no crash can have torn it (file, offset and
// what in report->text; the directory is left as it is).
MUST_USE int log_open(const struct log_open *args, struct log **ret_log, struct log_report *report);
void log_close(struct log *l); // as a crash: leaves no clean marker; NULL is fine
// Syncs, writes indexes and producer state, and gives the mark that saves the next open its scan;
// closes in any case.
MUST_USE int log_close_clean(struct log *l, struct log_mark *ret_mark);
// The same; adds to ret_left the text for log_mark.left, or nothing. It is to be written behind all
// that is done to the log, and used only while the machine is up.
struct buf;
MUST_USE int log_close_left(struct log *l, struct log_mark *ret_mark, struct buf *ret_left);
// Removes the directory of a deleted topic's partition and all in it.
MUST_USE int log_remove_dir(struct disk *d, const char *dir);
void log_set_config(struct log *l, const struct log_config *config);

struct log_span {
    int64_t base_offset;
    int64_t end_offset; // of the last batch, + 1
};

// Appends n checked v2 batches in their order, with one write for each segment. Each gets the next
// offsets and the current leader epoch; the bytes given are not changed. Rolls where Kafka would.
// Updates the producer state. Not durable until synced. *ret_n: so many were appended, also when
// it fails. -errno: stop loudly (the file may hold a part of the next), but for -ENOSPC, which
// left nothing of it behind.
MUST_USE int log_append(struct log *l, const struct bytes *batches, size_t n, int64_t now_ms,
                        struct log_span *ret_spans, size_t *ret_n);

struct log_slice {
    struct disk_file *file; // referenced: log_slice_release() when sent
    uint64_t pos;
    uint32_t len;         // 0: nothing there (file is NULL)
    int64_t first_offset; // of the first batch; may be below the offset asked for
    int64_t end_offset;   // last offset of the last batch + 1
};

// Finds whole batches from the one that holds `offset` on, ending at or below upper_offset (a high
// watermark), at most max_bytes of one segment. min_one: the first batch also if it is larger.
// -ERANGE when offset is below the log start or above the log end.
MUST_USE int log_read(struct log *l, int64_t offset, uint32_t max_bytes, int64_t upper_offset,
                      bool min_one, struct log_slice *ret_slice);
void log_slice_release(struct log_slice *s);

int64_t log_start(const struct log *l);
int64_t log_end(const struct log *l);
int64_t log_synced(const struct log *l); // offsets below are durable
uint64_t log_bytes(const struct log *l); // of all segments
const char *log_dir(const struct log *l);
// A segment whose index was not what was written and was made anew, once; -1: none.
int64_t log_take_rebuilt(struct log *l);
void *log_owner(const struct log *l);
struct producer_state *log_producers(struct log *l);

// Starts a sync of all that was appended, unless one is under way or nothing is to do. The cookie
// comes back from disk_poll_done(); give its error to log_sync_done(), which returns it.
bool log_sync_start(struct log *l, uint64_t cookie);
MUST_USE int log_sync_done(struct log *l, int error);
MUST_USE int log_sync(struct log *l); // blocks

// Saves what bounds the work of a recovery: it then reads what came later. True: there is something
// to save. The owner does so now and then; no error of it loses anything.
bool log_checkpoint_due(const struct log *l);
uint64_t log_unchecked_bytes(const struct log *l); // that a recovery would read now
MUST_USE int log_write_checkpoint(struct log *l);

// Offsets below the mark are promised never to be given to other records. Before records pass it
// (log_has_room() says no; log_reserve_due() says so half a block earlier) the owner journals
// offsets_reserved{end = log_reserve_wanted()} and calls log_reserved() once that is durable.
// Appending beyond the mark is a programmer error. A new log has mark 0.
int64_t log_reserve_mark(const struct log *l);
bool log_has_room(const struct log *l, int64_t n_records);
int64_t log_reserve_wanted(const struct log *l, int64_t n_records); // the mark to ask for next
bool log_reserve_due(const struct log *l);
void log_reserved(struct log *l, int64_t upto);

// First record at or after timestamp t (not above upper_offset): *ret_offset -1 when none.
MUST_USE int log_find_time(struct log *l, int64_t timestamp_ms, int64_t upper_offset,
                           int64_t *ret_offset, int64_t *ret_timestamp_ms);
// The record with the greatest timestamp; -1 and -1 in an empty log.
MUST_USE int log_find_max_time(struct log *l, int64_t *ret_offset, int64_t *ret_timestamp_ms);

int32_t log_epoch(const struct log *l); // the current leader epoch
// Begins a new epoch at log_end(); durable when it returns.
MUST_USE int log_epoch_begin(struct log *l, int32_t epoch);
// As Kafka answers OffsetForLeaderEpoch: *ret_epoch -1 and *ret_end -1 when unknown.
void log_epoch_end(const struct log *l, int32_t epoch, int32_t *ret_epoch, int64_t *ret_end);

// DeleteRecords: moves the start up to offset (at most log_end()). Durable by the owner's record in
// the journal, which comes back as log_open.log_start; whole segments below go with log_retain().
void log_trim(struct log *l, int64_t offset);
// Where the log will start once retention has been at it.
MUST_USE int log_retain_look(struct log *l, int64_t now_ms, int64_t upper_offset,
                             int64_t *ret_start);
// Deletes segments that are too old or too many, and rolls an active one that is. Returns whether
// the log start moved in *ret_start_moved.
MUST_USE int log_retain(struct log *l, int64_t now_ms, int64_t upper_offset, bool *ret_start_moved);
// When log_retain() has something to do by age alone; INT64_MAX: never.
int64_t log_retain_due_ms(const struct log *l);

// Compaction: of records with equal keys the last one stays. Sealed segments only, and only below
// upper_offset; beside the loop, in steps whose outcome log_clean_done() puts in place. While a
// round is under way retention takes nothing.

// How much of the log was not compacted yet, of what could be; *ret_wants when it is due.
MUST_USE int log_clean_look(struct log *l, int64_t now_ms, int64_t upper_offset, double *ret_ratio,
                            bool *ret_wants);
struct siphash_key;
// Begins a round. The cookie comes back from disk_poll_done(), with an error for log_clean_done().
void log_clean_begin(struct log *l, int64_t now_ms, int64_t upper_offset, uint64_t dedupe_bytes,
                     const struct siphash_key *hash, uint64_t cookie);
bool log_is_cleaning(const struct log *l);

struct log_clean_report {
    bool is_over;        // else the next step has begun
    bool is_bad;         // a segment is damaged or cannot be read: nothing was changed
    const char *text;    // why; valid until the next call
    int64_t bytes_saved; // by this step
};
// -errno: the disk failed, stop loudly.
MUST_USE int log_clean_done(struct log *l, int error, struct log_clean_report *ret_report);
// Ends the round as soon as it can; waits for the step that is running. For a log that goes away.
void log_clean_abandon(struct log *l);
// Offsets below hold each key once, or had their chance.
int64_t log_cleaned(const struct log *l);
// From here on no record is missing because of compaction.
int64_t log_gaps_end(const struct log *l);
// How many offsets of [from, to) hold no record because of compaction. Reads at most a piece of a
// segment, but a whole one the first time after it was opened.
int64_t log_holes(struct log *l, int64_t from, int64_t to);
