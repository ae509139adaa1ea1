#pragma once
// What the store needs of a v2 batch header, read without looking at the records. The full reader
// is wire/batch.h; this one works on a header whose batch is not in memory.

#include "store/pack.h"

#include <stdbool.h>

#define BATCH_HEADER_BYTES 61
// Base offset, length and leader epoch: what the leader stamps, outside of the crc.
#define BATCH_STAMP_BYTES 16
#define BATCH_CRC_START 21 // the crc covers from here to the end

struct batch_header {
    int64_t base_offset;
    uint32_t bytes; // of the whole batch
    int32_t leader_epoch;
    uint32_t crc;
    uint16_t attributes;
    int32_t last_offset_delta;
    int64_t max_timestamp_ms;
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_seq;
    int32_t count; // of records; less than the offsets say where they were compacted
};

static inline int64_t batch_header_end(const struct batch_header *h)
{
    return h->base_offset + h->last_offset_delta + 1;
}

// False when this cannot be a v2 batch.
static inline bool batch_header_read(const uint8_t *p, struct batch_header *ret_header)
{
    uint32_t len = unpack_u32(p + 8);
    struct batch_header h = {
        .base_offset = (int64_t)unpack_u64(p),
        .bytes = len + 12,
        .leader_epoch = (int32_t)unpack_u32(p + 12),
        .crc = unpack_u32(p + 17),
        .attributes = unpack_u16(p + 21),
        .last_offset_delta = (int32_t)unpack_u32(p + 23),
        .max_timestamp_ms = (int64_t)unpack_u64(p + 35),
        .producer_id = (int64_t)unpack_u64(p + 43),
        .producer_epoch = (int16_t)unpack_u16(p + 51),
        .base_seq = (int32_t)unpack_u32(p + 53),
        .count = (int32_t)unpack_u32(p + 57),
    };
    if (len < BATCH_HEADER_BYTES - 12 || len > INT32_MAX - 12 || p[16] != 2 || h.base_offset < 0 ||
        h.last_offset_delta < 0 || h.base_offset > INT64_MAX - h.last_offset_delta - 1)
        return false;
    *ret_header = h;
    return true;
}
