#include <string.h>

#include "wire/batch.h"
#include "wire/crc32c.h"
#include "wire/writer.h"

const struct batch_options batch_options_default = {
    .codec = CODEC_NONE,
    .codec_level = CODEC_LEVEL_DEFAULT,
    .leader_epoch = -1,
    .producer_id = -1,
    .producer_epoch = -1,
    .base_sequence = -1,
};

void batch_builder_start(struct batch_builder *b, const struct batch_options *o)
{
    b->options = *o;
    b->count = 0;
    b->base_timestamp = 0;
    b->max_timestamp = BATCH_NO_TIMESTAMP;
    buf_clear(&b->records);
}

void batch_builder_free(struct batch_builder *b)
{
    buf_free(&b->records);
}

static size_t blob_size(struct bytes b)
{
    return b.ptr ? writer_uvarint_size(zigzag((int64_t)b.len)) + b.len : 1;
}

static void write_blob(struct buf *out, struct bytes b)
{
    writer_varint(out, b.ptr ? (int64_t)b.len : -1);
    if (b.ptr)
        writer_bytes(out, b.ptr, b.len);
}

void batch_builder_add(struct batch_builder *b, int64_t timestamp_ms, struct bytes key,
                       struct bytes value, const struct record_header *headers, int n_headers)
{
    CHECK(b->count < INT32_MAX && key.len <= INT32_MAX && value.len <= INT32_MAX);
    if (b->count == 0)
        b->base_timestamp = timestamp_ms;
    if (timestamp_ms > b->max_timestamp)
        b->max_timestamp = timestamp_ms;
    int64_t time_delta = (int64_t)((uint64_t)timestamp_ms - (uint64_t)b->base_timestamp);

    size_t size = 1 + writer_uvarint_size(zigzag(time_delta)) +
                  writer_uvarint_size(zigzag(b->count)) + blob_size(key) + blob_size(value) +
                  writer_uvarint_size(zigzag(n_headers));
    for (int i = 0; i < n_headers; i++)
        size += blob_size(headers[i].key) + blob_size(headers[i].value);

    struct buf *out = &b->records;
    writer_varint(out, (int64_t)size);
    writer_u8(out, 0);
    writer_varint(out, time_delta);
    writer_varint(out, b->count);
    write_blob(out, key);
    write_blob(out, value);
    writer_varint(out, n_headers);
    for (int i = 0; i < n_headers; i++) {
        CHECK(headers[i].key.ptr);
        write_blob(out, headers[i].key);
        write_blob(out, headers[i].value);
    }
    b->count++;
}

size_t batch_builder_size(const struct batch_builder *b)
{
    return BATCH_HEADER_SIZE + b->records.len;
}

static void write_header(const struct batch_builder *b, struct buf *out)
{
    const struct batch_options *o = &b->options;
    int16_t attributes = (int16_t)((o->attributes & ~BATCH_CODEC_MASK) | (int)o->codec);
    writer_i64(out, o->base_offset);
    writer_i32(out, 0); // length
    writer_i32(out, o->leader_epoch);
    writer_i8(out, BATCH_MAGIC);
    writer_u32(out, 0); // crc
    writer_i16(out, attributes);
    writer_i32(out, b->count - 1);
    writer_i64(out, b->base_timestamp);
    writer_i64(out, b->max_timestamp);
    writer_i64(out, o->producer_id);
    writer_i16(out, o->producer_epoch);
    writer_i32(out, o->base_sequence);
    writer_i32(out, b->count);
}

int batch_builder_finish(struct batch_builder *b, struct buf *out)
{
    if (b->count == 0)
        return 0;
    size_t start = out->len;
    write_header(b, out);
    struct bytes records = {b->records.ptr, b->records.len};
    int e = compress_append(b->options.codec, b->options.codec_level, records, out);
    if (e) {
        out->len = start;
        return e;
    }
    uint8_t *batch = out->ptr + start;
    size_t len = out->len - start;
    CHECK(len <= INT32_MAX);
    uint32_t length = __builtin_bswap32((uint32_t)(len - BATCH_OVERHEAD));
    memcpy(batch + 8, &length, sizeof length);
    uint32_t crc = __builtin_bswap32(crc32c(0, batch + 21, len - 21));
    memcpy(batch + 17, &crc, sizeof crc);
    struct batch_options options = b->options;
    batch_builder_start(b, &options);
    return 0;
}

void batch_append_end_marker(struct buf *out, bool is_commit, int64_t producer_id,
                             int16_t producer_epoch, int32_t coordinator_epoch, int64_t now_ms)
{
    struct batch_options o = batch_options_default;
    o.attributes = BATCH_TRANSACTIONAL | BATCH_CONTROL;
    o.producer_id = producer_id;
    o.producer_epoch = producer_epoch;
    struct batch_builder b = {0};
    batch_builder_start(&b, &o);
    uint32_t epoch = __builtin_bswap32((uint32_t)coordinator_epoch);
    const uint8_t key[4] = {0, 0, 0, is_commit ? 1 : 0};
    uint8_t value[6] = {0};
    memcpy(value + 2, &epoch, sizeof epoch);
    batch_builder_add(&b, now_ms, (struct bytes){key, sizeof key},
                      (struct bytes){value, sizeof value}, NULL, 0);
    CHECK(batch_builder_finish(&b, out) == 0);
    batch_builder_free(&b);
}
