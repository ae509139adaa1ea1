#pragma once
// The framing that segments and snapshots of the journal share (docs/FORMAT.md). Private to
// src/store.

#include "store/journal.h"
#include "store/window.h"

#define JOURNAL_VERSION 1
#define JOURNAL_HEADER_BYTES 32
#define JOURNAL_BATCH_HEADER_BYTES 28
#define JOURNAL_RECORD_HEADER_BYTES 8
#define JOURNAL_MAGIC "TALLYJNL"
#define JOURNAL_SNAPSHOT_MAGIC "TALLYSNP"

struct journal_batch_header {
    uint32_t len; // of the whole batch
    uint64_t position;
    uint64_t synced; // this position was durable when the batch was written
    uint32_t n_records;
};

void journal_header_write(uint8_t to[JOURNAL_HEADER_BYTES], const char *magic, uint64_t position);
// 0, -EBADMSG, or -EPROTONOSUPPORT (then *ret_version is what wrote it).
MUST_USE int journal_header_read(const uint8_t from[JOURNAL_HEADER_BYTES], const char *magic,
                                 uint64_t *ret_position, uint32_t *ret_version);

// Fills in the header of a batch whose records stand behind it.
void journal_batch_seal(uint8_t *batch, size_t len, uint64_t position, uint64_t synced,
                        uint32_t n_records);
// The batch at pos: *ret_batch NULL when there is no valid one (torn, damaged, end).
MUST_USE int journal_batch_at(struct window *w, uint64_t pos,
                              struct journal_batch_header *ret_header, const uint8_t **ret_batch);
// Hands out the records of a valid batch. -EBADMSG when they do not fill it exactly.
MUST_USE int journal_batch_replay(const struct journal_batch_header *h, const uint8_t *batch,
                                  uint64_t position, journal_replay_fn *replay, void *ctx,
                                  uint64_t *n_records);
// Looks behind a bad batch for later ones and says up to which position they know the journal
// to have been durable; whether there is any.
MUST_USE int journal_synced_after(struct window *w, uint64_t pos, uint64_t position,
                                  uint64_t *ret_synced, bool *ret_is_any);
