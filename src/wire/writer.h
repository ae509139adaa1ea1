#pragma once
// Big-endian appends to a buf.

#include <string.h>

#include "base/buf.h"

// Room for n bytes, counted in. The common case does not leave the caller.
static inline uint8_t *writer_room(struct buf *b, size_t n)
{
    if (__builtin_expect(b->cap - b->len < n, 0))
        return buf_extend(b, n);
    uint8_t *at = b->ptr + b->len;
    b->len += n;
    return at;
}

static inline void writer_u8(struct buf *b, uint8_t v)
{
    *writer_room(b, 1) = v;
}

static inline void writer_u16(struct buf *b, uint16_t v)
{
    v = __builtin_bswap16(v);
    memcpy(writer_room(b, sizeof v), &v, sizeof v);
}

static inline void writer_u32(struct buf *b, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(writer_room(b, sizeof v), &v, sizeof v);
}

static inline void writer_u64(struct buf *b, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(writer_room(b, sizeof v), &v, sizeof v);
}

static inline void writer_i8(struct buf *b, int8_t v)
{
    writer_u8(b, (uint8_t)v);
}

static inline void writer_i16(struct buf *b, int16_t v)
{
    writer_u16(b, (uint16_t)v);
}

static inline void writer_i32(struct buf *b, int32_t v)
{
    writer_u32(b, (uint32_t)v);
}

static inline void writer_i64(struct buf *b, int64_t v)
{
    writer_u64(b, (uint64_t)v);
}

static inline void writer_bytes(struct buf *b, const void *data, size_t len)
{
    if (len > 0)
        memcpy(writer_room(b, len), data, len);
}

// Writes at most ten bytes at p; returns how many.
static inline size_t writer_uvarint_at(uint8_t *p, uint64_t v)
{
    size_t n = 0;
    while (v >= 0x80) {
        p[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (uint8_t)v;
    return n;
}

static inline size_t writer_uvarint_size(uint64_t v)
{
    size_t n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

static inline void writer_uvarint(struct buf *b, uint64_t v)
{
    if (__builtin_expect(v < 0x80, 1)) { // nearly every length
        writer_u8(b, (uint8_t)v);
        return;
    }
    uint8_t text[10];
    size_t n = writer_uvarint_at(text, v);
    memcpy(writer_room(b, n), text, n);
}

static inline uint64_t zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static inline void writer_varint(struct buf *b, int64_t v)
{
    writer_uvarint(b, zigzag(v));
}
