#pragma once
// A batch without some of its records, as Kafka's cleaner leaves it: offsets, sequences and the
// header's first and last offset stay, codec and kind of timestamp too.

#include "wire/batch.h"

struct batch_filter {
    void *ctx;
    bool (*keeps)(void *ctx, const struct batch *b, const struct record *r);
    bool keeps_none;  // whatever keeps() says
    bool keeps_empty; // a header stays where no record does
    // The batch holds a marker without a transaction: it gets a day of deletion, too.
    bool ends_nothing;
    int64_t now_ms;
    int64_t delete_retention_ms; // delete.retention.ms, from now_ms on
};

// The day from which the tombstones of the batch may go (KIP-534); -1: not said yet.
static inline int64_t batch_delete_horizon(const struct batch *b)
{
    return b->attributes & BATCH_DELETE_HORIZON ? b->base_timestamp : -1;
}

// Appends what is left of a whole batch to *out, which may be nothing; *ret_kept counts its
// records. A batch that loses nothing is copied as it is, unless tombstones in it need their day.
// *scratch as in record_iter_start(). 0, -EBADMSG, -EFBIG; then *out is as before.
MUST_USE int batch_filter(const struct batch *b, const struct batch_filter *f, struct buf *scratch,
                          struct buf *out, int32_t *ret_kept);
