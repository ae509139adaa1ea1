#pragma once
// Big-endian numbers in files of ours and Kafka's.

#include <stdint.h>

static inline void pack_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void pack_u32(uint8_t *p, uint32_t v)
{
    pack_u16(p, (uint16_t)(v >> 16));
    pack_u16(p + 2, (uint16_t)v);
}

static inline void pack_u64(uint8_t *p, uint64_t v)
{
    pack_u32(p, (uint32_t)(v >> 32));
    pack_u32(p + 4, (uint32_t)v);
}

static inline uint16_t unpack_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t unpack_u32(const uint8_t *p)
{
    return (uint32_t)unpack_u16(p) << 16 | unpack_u16(p + 2);
}

static inline uint64_t unpack_u64(const uint8_t *p)
{
    return (uint64_t)unpack_u32(p) << 32 | unpack_u32(p + 4);
}
