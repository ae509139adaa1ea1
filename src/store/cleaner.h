#pragma once
// Compaction, the part that runs beside the loop: reads sealed segments, keeps each key's last
// record, writes what replaces them. It opens every file by itself and touches nothing of the log;
// log_clean.c plans it and puts its outcome in place. Private to src/store.
//
// A round goes group by group: the segments of one are replaced by one segment.
//
//   step       settle the group before; write BASE.*.cleaned, sync, say so in `compaction`
//   the loop   swap: the old names go, the new ones take their place
//   last step  settle, say in `compaction` up to where the log is clean

#include "os/disk.h"
#include "store/key_map.h"
#include "store/segment.h"

#include <stdatomic.h>

#define CLEANED_SUFFIX ".cleaned"
#define COMPACTION_FILE "compaction"

struct clean_source {
    int64_t base;
    uint64_t size;
    int64_t modified_ms;
};

struct clean_producer {
    int64_t id;
    int64_t last_offset; // of its newest batch: that one stays, if only as a header
};

// What `compaction` says.
struct compaction {
    int64_t cleaned; // offsets below were compacted: the next round begins here
    int64_t gaps;    // below, offsets may be missing
    // Segments with a base in [base, upto) are being replaced by one of so many bytes; -1: none.
    int64_t swap_base, swap_upto, swap_bytes;
};

struct clean_config {
    int64_t segment_bytes, segment_index_bytes;
    int32_t index_interval_bytes;
    int64_t delete_retention_ms;
    int64_t now_ms;
    uint64_t dedupe_bytes; // log.cleaner.dedupe.buffer.size
    struct siphash_key hash;
};

struct cleaning {
    struct disk *disk; // borrowed
    char *dir;         // owned
    struct clean_config config;
    struct clean_source *sources; // owned: all sealed segments below upper
    size_t n_sources;
    struct clean_producer *producers; // owned, by id
    size_t n_producers;
    int64_t dirty_from, upper;
    struct compaction state;
    atomic_bool is_cancelled;

    struct key_map keys;
    int64_t latest;            // newest offset that the map speaks for
    struct cleaner_txns *txns; // owned
    bool is_mapped, is_over;   // the map is made; the round is done
    // The group that the step wrote: it replaces sources [first, first + n).
    size_t first, n;
    struct segment *output;  // owned; NULL: none
    struct kept_mark *marks; // owned
    size_t n_marks, cap_marks;
    bool needs_swap;    // `compaction` says that the swap is under way
    bool is_swapped;    // and the loop has done it
    bool is_bad_source; // an error that was met in reading
    bool is_unsure;     // what `compaction` says is not known
    bool is_untidy;     // something was left, for the next start to remove
    char text[512];     // and where
};

void cleaning_free(struct cleaning *c); // NULL is fine
// One step, for disk_work_start(). 0 with needs_swap or is_over, or -errno: -ECANCELED, want of
// files or space, and errors of reading leave everything as it was; any other: stop loudly.
int cleaner_step(void *cleaning);
// What a step that did not come to its end left behind.
void cleaner_tidy(struct cleaning *c);

MUST_USE int compaction_read(struct disk *d, const char *dir, struct compaction *ret); // -ENOENT
void compaction_no_swap(struct compaction *c);
MUST_USE int compaction_write(struct disk *d, const char *dir, const struct compaction *c);

// cleaner_txns.c: which transactions were aborted, and which markers still end something.
struct cleaner_txns *cleaner_txns_new(void);
void cleaner_txns_free(struct cleaner_txns *t); // NULL is fine
struct batch;
// In their order, all batches below upper; before the others.
MUST_USE int cleaner_txns_learn(struct cleaner_txns *t, const struct batch *b);
bool cleaner_txns_is_aborted(const struct cleaner_txns *t, const struct batch *b);
// In their order, batches as they are cleaned. Whether the marker ends nothing that is left.
bool cleaner_txns_pass(struct cleaner_txns *t, const struct batch *b);
int64_t cleaner_txns_open_from(const struct cleaner_txns *t); // first offset; INT64_MAX: none
bool cleaner_txns_has_aborted(const struct cleaner_txns *t);  // as far as it was told
