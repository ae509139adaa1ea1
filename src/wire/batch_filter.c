#include "wire/batch_filter.h"

#include "wire/crc32c.h"
#include "wire/writer.h"

#include <errno.h>
#include <string.h>

static const size_t crc_at = 17, crc_start = 21, length_at = 8;

struct outcome {
    int32_t kept;
    bool has_tombstone;
    int64_t first_ms, max_ms;
};

static bool is_kept(const struct batch *b, const struct batch_filter *f, const struct record *r)
{
    return !f->keeps_none && f->keeps(f->ctx, b, r);
}

static int look(const struct batch *b, const struct batch_filter *f, struct buf *scratch,
                struct outcome *ret)
{
    struct record_iter it;
    struct record rec;
    struct outcome o = {.max_ms = BATCH_NO_TIMESTAMP};
    int r = record_iter_start(&it, b, scratch);
    while (r == 0 && (r = record_next(&it, &rec)) > 0) {
        r = 0;
        if (!is_kept(b, f, &rec))
            continue;
        if (o.kept++ == 0)
            o.first_ms = rec.timestamp_ms;
        if (rec.timestamp_ms > o.max_ms)
            o.max_ms = rec.timestamp_ms;
        o.has_tombstone = o.has_tombstone || !rec.value.ptr;
    }
    if (r == 0)
        *ret = o;
    return r;
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

static void write_record(struct buf *out, const struct record *rec, int64_t base_ms)
{
    int64_t time_delta = (int64_t)((uint64_t)rec->timestamp_ms - (uint64_t)base_ms);
    size_t size = 1 + writer_uvarint_size(zigzag(time_delta)) +
                  writer_uvarint_size(zigzag(rec->offset_delta)) + blob_size(rec->key) +
                  blob_size(rec->value) + writer_uvarint_size(zigzag(rec->n_headers)) +
                  rec->headers.len;
    writer_varint(out, (int64_t)size);
    writer_u8(out, 0);
    writer_varint(out, time_delta);
    writer_varint(out, rec->offset_delta);
    write_blob(out, rec->key);
    write_blob(out, rec->value);
    writer_varint(out, rec->n_headers);
    writer_bytes(out, rec->headers.ptr, rec->headers.len);
}

static void write_header(struct buf *out, const struct batch *b, int attributes, int64_t base_ms,
                         int64_t max_ms, int32_t count)
{
    writer_i64(out, b->base_offset);
    writer_i32(out, 0); // length
    writer_i32(out, b->leader_epoch);
    writer_i8(out, BATCH_MAGIC);
    writer_u32(out, 0); // crc
    writer_i16(out, (int16_t)attributes);
    writer_i32(out, b->last_offset_delta);
    writer_i64(out, base_ms);
    writer_i64(out, max_ms);
    writer_i64(out, b->producer_id);
    writer_i16(out, b->producer_epoch);
    writer_i32(out, b->base_sequence);
    writer_i32(out, count);
}

static void finish(struct buf *out, size_t start)
{
    uint8_t *batch = out->ptr + start;
    size_t len = out->len - start;
    CHECK(len <= INT32_MAX);
    uint32_t length = __builtin_bswap32((uint32_t)(len - BATCH_OVERHEAD));
    memcpy(batch + length_at, &length, sizeof length);
    uint32_t crc = __builtin_bswap32(crc32c(0, batch + crc_start, len - crc_start));
    memcpy(batch + crc_at, &crc, sizeof crc);
}

// The records were looked at once before and are whole.
static int rebuild(const struct batch *b, const struct batch_filter *f, const struct outcome *o,
                   int64_t horizon_ms, struct buf *scratch, struct buf *out)
{
    bool has_horizon = horizon_ms >= 0;
    int64_t base_ms = has_horizon ? horizon_ms : o->first_ms;
    int attributes = has_horizon ? b->attributes | BATCH_DELETE_HORIZON
                                 : b->attributes & ~(int)BATCH_DELETE_HORIZON;
    size_t start = out->len;
    int64_t max_ms = b->attributes & BATCH_LOG_APPEND_TIME ? b->max_timestamp : o->max_ms;
    write_header(out, b, attributes, base_ms, max_ms, o->kept);
    struct record_iter it;
    struct record rec;
    struct buf records = {0};
    int r = record_iter_start(&it, b, scratch);
    while (r == 0 && (r = record_next(&it, &rec)) > 0) {
        r = 0;
        if (is_kept(b, f, &rec))
            write_record(&records, &rec, base_ms);
    }
    if (r == 0)
        r = compress_append((enum codec)batch_codec(b), CODEC_LEVEL_DEFAULT,
                            (struct bytes){records.ptr, records.len}, out);
    buf_free(&records);
    if (r < 0)
        out->len = start;
    else
        finish(out, start);
    return r;
}

static void write_empty(const struct batch *b, struct buf *out)
{
    int kept = BATCH_LOG_APPEND_TIME | BATCH_TRANSACTIONAL | BATCH_CONTROL;
    size_t start = out->len;
    write_header(out, b, b->attributes & kept, BATCH_NO_TIMESTAMP, b->max_timestamp, 0);
    finish(out, start);
}

int batch_filter(const struct batch *b, const struct batch_filter *f, struct buf *scratch,
                 struct buf *out, int32_t *ret_kept)
{
    struct outcome o = {0};
    int r = look(b, f, scratch, &o);
    if (r < 0)
        return r;
    int64_t horizon_ms = batch_delete_horizon(b);
    bool needs_horizon = (o.has_tombstone || f->ends_nothing) && horizon_ms < 0;
    if (needs_horizon)
        horizon_ms = f->now_ms > INT64_MAX - f->delete_retention_ms
                         ? INT64_MAX
                         : f->now_ms + f->delete_retention_ms;
    if (o.kept > 0 && o.kept == b->count && !needs_horizon)
        writer_bytes(out, b->all.ptr, b->all.len);
    else if (o.kept > 0)
        r = rebuild(b, f, &o, horizon_ms, scratch, out);
    else if (f->keeps_empty)
        write_empty(b, out);
    if (r == 0)
        *ret_kept = o.kept;
    return r;
}
