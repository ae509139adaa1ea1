#pragma once
// Record batches for tests of the store.

#include "base/buf.h"

struct batch_spec {
    int count;            // records; 0 means 1
    int64_t timestamp_ms; // of the first record, the others 1 ms later each
    size_t value_bytes;   // 0: "N" of the seed only
    uint64_t seed;        // what the values say
    int64_t producer_id;  // with has_producer
    int16_t producer_epoch;
    int32_t base_sequence;
    int codec;
    int has_producer;
};

// Appends one batch as a client would send it (base offset 0).
void batches_add(struct buf *out, const struct batch_spec *spec);
