#include "wire/batch.h"

#include <errno.h>

#include "wire/crc32c.h"
#include "wire/writer.h"

// Where the fields of the header stand.
enum {
    AT_LENGTH = 8,
    AT_LEADER_EPOCH = 12,
    AT_MAGIC = 16,
    AT_CRC = 17,
    AT_ATTRIBUTES = 21, // the CRC covers from here on
    AT_MAX_TIMESTAMP = 35,
};

int batch_read(struct bytes in, struct batch *ret)
{
    if (in.len <= AT_MAGIC)
        return -ENODATA;
    struct reader r = reader_of(in);
    struct batch b = {.base_offset = reader_i64(&r)};
    int32_t length = reader_i32(&r);
    b.leader_epoch = reader_i32(&r);
    int8_t magic = reader_i8(&r);
    if (magic != BATCH_MAGIC || length < (int32_t)(BATCH_HEADER_SIZE - BATCH_OVERHEAD))
        return -EBADMSG;
    size_t size = (size_t)length + BATCH_OVERHEAD;
    if (size > in.len)
        return -ENODATA;
    b.all = (struct bytes){in.ptr, size};
    b.crc = reader_u32(&r);
    b.attributes = reader_i16(&r);
    b.last_offset_delta = reader_i32(&r);
    b.base_timestamp = reader_i64(&r);
    b.max_timestamp = reader_i64(&r);
    b.producer_id = reader_i64(&r);
    b.producer_epoch = reader_i16(&r);
    b.base_sequence = reader_i32(&r);
    b.count = reader_i32(&r);
    *ret = b;
    return 0;
}

int batch_next(struct bytes *rest, struct batch *ret)
{
    if (rest->len == 0)
        return 0;
    int e = batch_read(*rest, ret);
    if (e)
        return e == -ENODATA ? 0 : e;
    rest->ptr += ret->all.len;
    rest->len -= ret->all.len;
    return 1;
}

static uint32_t crc_of(const uint8_t *batch, size_t len)
{
    return crc32c(0, batch + AT_ATTRIBUTES, len - AT_ATTRIBUTES);
}

bool batch_crc_matches(const struct batch *b)
{
    return crc_of(b->all.ptr, b->all.len) == b->crc;
}

static void put_u64(uint8_t *at, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(at, &v, sizeof v);
}

static void put_u32(uint8_t *at, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(at, &v, sizeof v);
}

void batch_set_base_offset(uint8_t *batch, int64_t base_offset)
{
    put_u64(batch, (uint64_t)base_offset);
}

void batch_set_leader_epoch(uint8_t *batch, int32_t leader_epoch)
{
    put_u32(batch + AT_LEADER_EPOCH, (uint32_t)leader_epoch);
}

static uint8_t low_attributes(const uint8_t *batch, bool log_append_time)
{
    uint8_t others = batch[AT_ATTRIBUTES + 1] & (uint8_t)~BATCH_LOG_APPEND_TIME;
    return others | (log_append_time ? BATCH_LOG_APPEND_TIME : 0);
}

bool batch_times_fit(const uint8_t *batch, bool log_append_time, int64_t max_ms)
{
    uint8_t wanted[8];
    put_u64(wanted, (uint64_t)max_ms);
    return batch[AT_ATTRIBUTES + 1] == low_attributes(batch, log_append_time) &&
           memcmp(wanted, batch + AT_MAX_TIMESTAMP, sizeof wanted) == 0;
}

void batch_set_max_timestamp(uint8_t *batch, size_t len, bool log_append_time, int64_t max_ms)
{
    CHECK(len >= BATCH_HEADER_SIZE);
    if (batch_times_fit(batch, log_append_time, max_ms))
        return;
    batch[AT_ATTRIBUTES + 1] = low_attributes(batch, log_append_time);
    put_u64(batch + AT_MAX_TIMESTAMP, (uint64_t)max_ms);
    put_u32(batch + AT_CRC, crc_of(batch, len));
}

// ---- records

int record_iter_start(struct record_iter *it, const struct batch *b, struct buf *scratch)
{
    return record_iter_start_within(it, b, DECOMPRESSED_MAX, scratch);
}

int record_iter_start_within(struct record_iter *it, const struct batch *b, size_t max,
                             struct buf *scratch)
{
    struct bytes records = {b->all.ptr + BATCH_HEADER_SIZE, b->all.len - BATCH_HEADER_SIZE};
    if (batch_codec(b) != CODEC_NONE) {
        buf_clear(scratch);
        int e = decompress_append(batch_codec(b), records, max, scratch);
        if (e)
            return e;
        records = (struct bytes){scratch->ptr, scratch->len};
    }
    *it = (struct record_iter){.r = reader_of(records), .batch = *b, .left = b->count};
    return b->count < 0 ? -EBADMSG : 0;
}

// A length of -1 is null; any other below 0 is damage.
static inline struct bytes read_blob(struct reader *r)
{
    int32_t len = reader_varint(r);
    if (len < 0) {
        if (len != -1)
            reader_fail(r);
        return (struct bytes){NULL, 0};
    }
    const uint8_t *p = reader_take(r, (size_t)len);
    return (struct bytes){p, p ? (size_t)len : 0};
}

static struct bytes read_headers(struct reader *r, int32_t n)
{
    const uint8_t *from = r->p;
    if (n == 0)
        return (struct bytes){from, 0};
    if (n < 0)
        reader_fail(r);
    for (int32_t i = 0; i < n && !r->bad; i++) {
        if (!read_blob(r).ptr) // a header's key is never null
            reader_fail(r);
        read_blob(r);
    }
    return (struct bytes){from, r->bad ? 0 : (size_t)(r->p - from)};
}

int record_next(struct record_iter *it, struct record *ret)
{
    if (it->left == 0)
        return reader_left(&it->r) == 0 && !it->r.bad ? 0 : -EBADMSG;
    int32_t len = reader_varint(&it->r);
    const uint8_t *p = len >= 0 ? reader_take(&it->r, (size_t)len) : NULL;
    if (!p) {
        reader_fail(&it->r);
        return -EBADMSG;
    }
    struct reader r = {p, p + len, false};
    struct record rec;
    reader_u8(&r); // attributes: none are defined
    int64_t time_delta = reader_varlong(&r);
    rec.offset_delta = reader_varint(&r);
    rec.key = read_blob(&r);
    rec.value = read_blob(&r);
    rec.n_headers = reader_varint(&r);
    rec.headers = read_headers(&r, rec.n_headers);
    if (r.bad || reader_left(&r) > 0) {
        reader_fail(&it->r);
        return -EBADMSG;
    }
    // Both sums wrap as Java's do: the parts come from outside.
    const struct batch *b = &it->batch;
    rec.offset = (int64_t)((uint64_t)b->base_offset + (uint64_t)(int64_t)rec.offset_delta);
    rec.timestamp_ms = b->attributes & BATCH_LOG_APPEND_TIME
                           ? b->max_timestamp
                           : (int64_t)((uint64_t)b->base_timestamp + (uint64_t)time_delta);
    it->left--;
    *ret = rec;
    return 1;
}

bool record_header_next(struct bytes *rest, struct record_header *ret)
{
    if (rest->len == 0)
        return false;
    struct reader r = reader_of(*rest);
    struct record_header h = {.key = read_blob(&r)};
    h.value = read_blob(&r);
    if (r.bad)
        return false;
    *rest = (struct bytes){r.p, reader_left(&r)};
    *ret = h;
    return true;
}
