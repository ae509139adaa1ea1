#pragma once
// The data directory: who holds it, what version wrote it, how it was left. Everything else in
// it belongs to the journal and the logs.
//
//   DIR/lock  DIR/meta  DIR/clean  DIR/spare  DIR/__tally_journal/  DIR/<topic>-<partition>/

#include "os/disk.h"

struct store; // opaque
struct log_mark;

#define STORE_VERSION 1
// Kept free so that commits, deletes and retention still work when the disk is full.
#define STORE_RESERVE_BYTES (64ull << 20)

struct store_config {
    struct disk *disk;            // borrowed
    const char *dir;              // copied
    bool create;                  // make the directory when it is missing
    struct uuid fresh_cluster_id; // used when the directory is new
    int32_t node_id;              // likewise; an existing directory keeps its own
    uint64_t reserve_bytes;       // 0: STORE_RESERVE_BYTES
};

struct store_start {
    bool is_new;
    bool was_clean;           // the last run stopped cleanly
    bool power_lost;          // it did not, and the machine has started anew since
    int64_t journal_position; // at the clean stop; -1: the stop was not clean
    struct uuid cluster_id;
    int32_t node_id;
};

// Takes the directory. On failure nothing in it is changed and ret_why (size bytes) says in one
// line which directory and what: in use (by whom), missing, not writable, no data directory,
// half copied, from a newer version. -errno is for exit 2. On a read-only disk the directory has to
// be there, any number of readers share it, and it can be closed only as after a crash.
MUST_USE int store_open(const struct store_config *config, struct store **ret_store,
                        struct store_start *ret_start, char *ret_why, size_t size);
// Call it once the journal and every log have been opened (and leader epochs of a lost power were
// begun), before anything is served or journalled but that: until then a crash is answered like the
// one before it, and a new directory stays new. Durable when it returns.
MUST_USE int store_ready(struct store *s);
void store_close(struct store *s); // as a crash; NULL is fine
// How the last clean stop left a log; NULL: it does not say, or the stop was not clean.
const struct log_mark *store_log_mark(const struct store *s, struct str topic, int32_t partition);
// For the next start: how a log is left, and the text that log_close_left() adds. Goes with the
// marker.
struct buf;
void store_add_log_mark(struct store *s, struct str topic, int32_t partition,
                        const struct log_mark *mark, const struct buf *left);
// After journal and logs are synced and closed: writes the clean marker, releases the lock.
MUST_USE int store_close_clean(struct store *s, uint64_t journal_position);

const char *store_dir(const struct store *s);
const char *store_journal_dir(const struct store *s);
// DIR/<topic>-<partition>, terminated, in the arena.
char *store_log_dir(const struct store *s, struct arena *a, struct str topic, int32_t partition);

// False while less than the reserve is free: then produce is refused and all else goes on.
MUST_USE int store_check_space(struct store *s); // asks the file system
bool store_has_space(const struct store *s);     // as it was asked last
// True once after the last of the disk was given back, so that what frees space can be done.
bool store_gave_spare(struct store *s);
// Takes so many bytes off what was free above the reserve; asks the file system again when that is
// used up. A fast producer fills a disk between two checks by the clock.
bool store_has_room(struct store *s, uint64_t bytes);
