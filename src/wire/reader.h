#pragma once
// A sticky reader of big-endian bytes: after the first lack of bytes every getter gives zero
// and `bad` stays set, so that one check at the end is enough.

#include <string.h>

#include "base/bytes.h"

struct reader {
    const uint8_t *p;
    const uint8_t *end;
    bool bad;
};

static inline struct reader reader_of(struct bytes in)
{
    // Nothing is somewhere, too: adding 0 to a null pointer is undefined.
    const uint8_t *p = in.ptr ? in.ptr : (const uint8_t *)"";
    return (struct reader){p, in.ptr ? p + in.len : p, false};
}

static inline size_t reader_left(const struct reader *r)
{
    return (size_t)(r->end - r->p);
}

static inline void reader_fail(struct reader *r)
{
    r->bad = true;
    r->p = r->end;
}

// A view of the next n bytes; NULL and bad when there are fewer.
static inline const uint8_t *reader_take(struct reader *r, size_t n)
{
    if (__builtin_expect(reader_left(r) < n, 0)) {
        reader_fail(r);
        return NULL;
    }
    const uint8_t *at = r->p;
    r->p += n;
    return at;
}

static inline uint8_t reader_u8(struct reader *r)
{
    const uint8_t *p = reader_take(r, 1);
    return p ? *p : 0;
}

static inline uint16_t reader_u16(struct reader *r)
{
    const uint8_t *p = reader_take(r, 2);
    uint16_t v = 0;
    if (p)
        memcpy(&v, p, sizeof v);
    return __builtin_bswap16(v);
}

static inline uint32_t reader_u32(struct reader *r)
{
    const uint8_t *p = reader_take(r, 4);
    uint32_t v = 0;
    if (p)
        memcpy(&v, p, sizeof v);
    return __builtin_bswap32(v);
}

static inline uint64_t reader_u64(struct reader *r)
{
    const uint8_t *p = reader_take(r, 8);
    uint64_t v = 0;
    if (p)
        memcpy(&v, p, sizeof v);
    return __builtin_bswap64(v);
}

static inline int8_t reader_i8(struct reader *r)
{
    return (int8_t)reader_u8(r);
}

static inline int16_t reader_i16(struct reader *r)
{
    return (int16_t)reader_u16(r);
}

static inline int32_t reader_i32(struct reader *r)
{
    return (int32_t)reader_u32(r);
}

static inline int64_t reader_i64(struct reader *r)
{
    return (int64_t)reader_u64(r);
}

// At most ten bytes; more, or bits beyond the 64th, are bad.
static inline uint64_t reader_uvarint64(struct reader *r)
{
    if (__builtin_expect(r->p < r->end && *r->p < 0x80, 1))
        return *r->p++;
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        uint8_t b = reader_u8(r);
        if (shift == 63 && b > 1)
            break;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return v;
    }
    reader_fail(r);
    return 0;
}

// At most five bytes, as Kafka reads it; bits beyond the 32nd are bad.
static inline uint32_t reader_uvarint(struct reader *r)
{
    if (__builtin_expect(r->p < r->end && *r->p < 0x80, 1))
        return *r->p++;
    // Lengths of records and of their values.
    if (__builtin_expect(reader_left(r) >= 2 && r->p[1] < 0x80, 1)) {
        uint32_t two = (r->p[0] & 0x7fu) | (uint32_t)r->p[1] << 7;
        r->p += 2;
        return two;
    }
    uint32_t v = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        uint8_t b = reader_u8(r);
        if (shift == 28 && b > 0x0f)
            break;
        v |= (uint32_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return v;
    }
    reader_fail(r);
    return 0;
}

// Zigzag.
static inline int32_t reader_varint(struct reader *r)
{
    uint32_t v = reader_uvarint(r);
    return (int32_t)((v >> 1) ^ (0U - (v & 1)));
}

static inline int64_t reader_varlong(struct reader *r)
{
    uint64_t v = reader_uvarint64(r);
    return (int64_t)((v >> 1) ^ (0ULL - (v & 1)));
}
