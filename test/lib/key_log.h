#pragma once
// A log of keyed records for tests of compaction: what is in it reads as text.

#include "os/disk.h"
#include "store/log.h"
#include "wire/batch.h"

struct key_log {
    struct disk *d;
    struct log_open args;
    struct log *l;
    int64_t now_ms;
    struct log_report report;
    struct log_mark mark;
    int64_t producer_id; // of what is appended; -1: none
    int32_t sequence;
    int codec;
};

// /t-0 on the disk, which it owns then; compacted, a segment for about every kilobyte.
void key_log_init(struct key_log *k, struct disk *d);
void key_log_free(struct key_log *k);
int key_log_try_open(struct key_log *k);
void key_log_open(struct key_log *k);
int key_log_close(struct key_log *k); // a clean stop; what opens it next knows
// One batch: "a=1 b=2 c" is three records, the last of them a tombstone. Returns 0 or -errno.
int key_log_append(struct key_log *k, const char *records);
int key_log_roll(struct key_log *k); // seals what is there
// A whole round, below upper. Returns what ended it; fine when nothing is due.
int key_log_clean(struct key_log *k, int64_t upper);
// "0:a=1 2:c" of all records; "[3]" is a batch without records that ends at 3. In *out.
void key_log_text(struct key_log *k, struct buf *out);
const char *key_log_read(struct key_log *k); // the same, valid until the next call
