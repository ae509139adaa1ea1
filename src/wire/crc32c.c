#include "wire/crc32c.h"

#include <stdbool.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78U // reversed

// Eight tables: one step takes eight bytes.
static uint32_t soft[8][256];

// Three streams hide the three cycles of the instruction; the tables append a block's worth of
// zeros to a CRC, so that the streams can be joined.
#define LONG_BLOCK ((size_t)8192)
#define SHORT_BLOCK ((size_t)256)
static uint32_t after_long[4][256];
static uint32_t after_short[4][256];

static bool has_instruction;

uint32_t crc32c_soft(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    crc = ~crc;
    for (; len >= 8; p += 8, len -= 8) {
        uint32_t low, high;
        memcpy(&low, p, sizeof low);
        memcpy(&high, p + 4, sizeof high);
        low ^= crc;
        crc = soft[7][low & 0xff] ^ soft[6][low >> 8 & 0xff] ^ soft[5][low >> 16 & 0xff] ^
              soft[4][low >> 24] ^ soft[3][high & 0xff] ^ soft[2][high >> 8 & 0xff] ^
              soft[1][high >> 16 & 0xff] ^ soft[0][high >> 24];
    }
    for (; len > 0; p++, len--)
        crc = soft[0][(crc ^ *p) & 0xff] ^ crc >> 8;
    return ~crc;
}

static inline uint32_t shift(uint32_t table[4][256], uint32_t crc)
{
    return table[0][crc & 0xff] ^ table[1][crc >> 8 & 0xff] ^ table[2][crc >> 16 & 0xff] ^
           table[3][crc >> 24];
}

// The map is linear: the tables follow from its value at each single bit.
static void make_shift(uint32_t table[4][256], const uint32_t bits[32])
{
    for (unsigned byte = 0; byte < 4; byte++)
        for (unsigned n = 0; n < 256; n++) {
            uint32_t v = 0;
            for (unsigned i = 0; i < 8; i++)
                if (n >> i & 1)
                    v ^= bits[byte * 8 + i];
            table[byte][n] = v;
        }
}

static void make_shifts(void)
{
    uint32_t bits[32];
    for (unsigned i = 0; i < 32; i++) {
        bits[i] = 1U << i;
        for (size_t zeros = 0; zeros < SHORT_BLOCK; zeros++)
            bits[i] = soft[0][bits[i] & 0xff] ^ bits[i] >> 8;
    }
    make_shift(after_short, bits);
    for (unsigned i = 0; i < 32; i++) // bits[i] stands after one short block already
        for (size_t n = 1; n < LONG_BLOCK / SHORT_BLOCK; n++)
            bits[i] = shift(after_short, bits[i]);
    make_shift(after_long, bits);
}

// Before main: every thread may ask for a CRC, and the tables take some 20 us.
__attribute__((constructor)) static void make_tables(void)
{
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t crc = n;
        for (int i = 0; i < 8; i++)
            crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        soft[0][n] = crc;
    }
    for (uint32_t n = 0; n < 256; n++)
        for (unsigned t = 1; t < 8; t++)
            soft[t][n] = soft[0][soft[t - 1][n] & 0xff] ^ soft[t - 1][n] >> 8;
#ifdef __x86_64__
    has_instruction = __builtin_cpu_supports("sse4.2");
    make_shifts();
#endif
}

#ifdef __x86_64__

static inline uint64_t load(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

__attribute__((target("sse4.2"))) static const uint8_t *
three_streams(uint32_t *crc, const uint8_t *p, size_t block, uint32_t table[4][256])
{
    uint64_t a = *crc, b = 0, c = 0;
    for (const uint8_t *end = p + block; p < end; p += 8) {
        a = __builtin_ia32_crc32di(a, load(p));
        b = __builtin_ia32_crc32di(b, load(p + block));
        c = __builtin_ia32_crc32di(c, load(p + 2 * block));
    }
    uint32_t joined = shift(table, (uint32_t)a) ^ (uint32_t)b;
    *crc = shift(table, joined) ^ (uint32_t)c;
    return p + 2 * block;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_hard(uint32_t crc, const uint8_t *p,
                                                              size_t len)
{
    crc = ~crc;
    for (; len >= 3 * LONG_BLOCK; len -= 3 * LONG_BLOCK)
        p = three_streams(&crc, p, LONG_BLOCK, after_long);
    for (; len >= 3 * SHORT_BLOCK; len -= 3 * SHORT_BLOCK)
        p = three_streams(&crc, p, SHORT_BLOCK, after_short);
    uint64_t wide = crc;
    for (; len >= 8; p += 8, len -= 8)
        wide = __builtin_ia32_crc32di(wide, load(p));
    crc = (uint32_t)wide;
    for (; len > 0; p++, len--)
        crc = __builtin_ia32_crc32qi(crc, *p);
    return ~crc;
}

#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
#ifdef __x86_64__
    if (has_instruction)
        return crc32c_hard(crc, data, len);
#endif
    return crc32c_soft(crc, data, len);
}
