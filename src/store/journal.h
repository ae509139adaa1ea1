#pragma once
// The journal: every decision of the core, one atomic batch each, in one sequence of files with a
// snapshot before its tail. Format: docs/FORMAT.md. Owned by one thread; it never blocks but in
// journal_open(), journal_sync() and the snapshot calls.
//
// A position counts batches: the first ever written is 1. What carries position p may leave the
// process once journal_synced() >= p.

#include "base/arena.h"
#include "os/disk.h"
#include "wire/codec.h"

struct journal;          // opaque
struct journal_snapshot; // opaque: a snapshot being written

// A batch bounds one allocation when it is read back.
#define JOURNAL_BATCH_MAX_BYTES (64u << 20)

struct journal_config {
    struct disk *disk;       // borrowed
    const char *dir;         // copied
    bool is_new;             // store_start.is_new: an empty or missing directory is then right
    int64_t clean_position;  // store_start.journal_position: where a clean stop left it, -1: it
                             // was not clean, so that the tail may be torn
    bool has_same_boot;      // the machine has not been down since the last run wrote: a batch
                             // that is bad before a good one is damage
    uint64_t snapshot_bytes; // tail size that asks for a snapshot; 0: 64 MiB
};

// One record as it stands in the file. body points into the journal's buffer during the call.
struct journal_entry {
    uint64_t position; // of its batch; 0 for a record of the snapshot
    int16_t type;      // schema/records*.kw
    int16_t version;
    struct bytes body; // encoded by the wire codec
};

// Called for each record, first those of the snapshot, then the tail's. Non-zero stops the replay
// and is what journal_open() returns; the callee says why itself.
typedef int journal_replay_fn(void *ctx, const struct journal_entry *e);

struct journal_report {
    uint64_t n_records; // replayed
    uint64_t cut_bytes; // torn tail that was cut; 0: none
    char text[512];     // one line for the log when something was cut, and the reason of a
                        // failure (file, offset, what); "" otherwise
};

// On a read-only disk it can be replayed and closed, nothing else.
// 0, or -errno: -EBADMSG damaged where no crash can have torn it, -ENOENT a file is missing,
// -EPROTONOSUPPORT written by a newer version; report->text says which file and where. On failure
// nothing was changed.
MUST_USE int journal_open(const struct journal_config *config, journal_replay_fn *replay, void *ctx,
                          struct journal **ret_journal, struct journal_report *report);
void journal_close(struct journal *j); // does not sync; NULL is fine

// Records of one decision, built up and appended at once; reuse it with journal_batch_clear().
struct journal_batch {
    struct buf buf;
    struct kw_out out; // scratch of the encoder
    uint32_t n_records;
};
void journal_batch_clear(struct journal_batch *b);
void journal_batch_free(struct journal_batch *b);
// Encodes the record in the newest version of its schema.
void journal_batch_add(struct journal_batch *b, const struct kw_message *type, const void *record);
void journal_batch_add_raw(struct journal_batch *b, int16_t type, int16_t version,
                           struct bytes body);

// Appends all or nothing with one write. An empty batch is legal and takes no position: the answer
// is then the last one. -errno: stop loudly; with -ENOSPC nothing was left behind. -E2BIG: above
// JOURNAL_BATCH_MAX_BYTES.
MUST_USE int journal_append(struct journal *j, struct journal_batch *b, uint64_t *ret_position);

// The same, but written with the next journal_append() or journal_flush(): for decisions that come
// in great numbers and touch nothing outside the journal before they are durable.
MUST_USE int journal_append_soon(struct journal *j, struct journal_batch *b,
                                 uint64_t *ret_position);
MUST_USE int journal_flush(struct journal *j); // 0 or -errno: stop loudly

// Whether so many bytes more can be appended on a disk that is full, because their space was taken
// before. Takes more when it runs low; true where the file system cannot promise that.
bool journal_has_room(struct journal *j, uint64_t bytes);

uint64_t journal_position(const struct journal *j); // of the last batch appended
uint64_t journal_synced(const struct journal *j);   // all up to here is durable

// Starts a sync of all that was appended and flushed, unless one is under way or nothing is to do.
// The cookie
// comes back from disk_poll_done(); give its error to journal_sync_done(), which returns it.
bool journal_sync_start(struct journal *j, uint64_t cookie);
MUST_USE int journal_sync_done(struct journal *j, int error);
MUST_USE int journal_sync(struct journal *j); // blocks

// True once the tail is larger than snapshot_bytes and no snapshot is being written.
bool journal_wants_snapshot(const struct journal *j);
// A snapshot replaces everything up to journal_position() at its begin: write the records that
// rebuild the state of that moment, then commit. Old files are removed after it is durable; a crash
// at any step leaves the old or the new. Appending in between is not allowed.
MUST_USE int journal_snapshot_begin(struct journal *j, struct journal_snapshot **ret_snapshot);
MUST_USE int journal_snapshot_add(struct journal_snapshot *s, const struct kw_message *type,
                                  const void *record);
MUST_USE int journal_snapshot_add_raw(struct journal_snapshot *s, int16_t type, int16_t version,
                                      struct bytes body);
MUST_USE int journal_snapshot_commit(struct journal_snapshot *s); // frees it in any case
void journal_snapshot_abort(struct journal_snapshot *s);
