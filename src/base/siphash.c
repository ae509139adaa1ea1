#include "base/siphash.h"

#include <string.h>

// As Aumasson and Bernstein describe it, with two rounds for each word and four at each end.

struct state {
    uint64_t v[4];
};

static uint64_t rotate(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static void rounds(struct state *s, int n)
{
    uint64_t *v = s->v;
    while (n-- > 0) {
        v[0] += v[1];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[0] = rotate(v[0], 32);
        v[2] += v[3];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[2] = rotate(v[2], 32);
    }
}

static void take(struct state *s, uint64_t word)
{
    s->v[3] ^= word;
    rounds(s, 2);
    s->v[0] ^= word;
}

static uint64_t little_endian(const uint8_t *p, size_t len)
{
    uint64_t word = 0;
    for (size_t i = 0; i < len; i++)
        word |= (uint64_t)p[i] << (8 * i);
    return word;
}

struct siphash siphash(const struct siphash_key *key, struct bytes in)
{
    struct state s = {{key->k[0] ^ 0x736f6d6570736575, key->k[1] ^ 0x646f72616e646f6d ^ 0xee,
                       key->k[0] ^ 0x6c7967656e657261, key->k[1] ^ 0x7465646279746573}};
    size_t at = 0;
    for (; at + 8 <= in.len; at += 8)
        take(&s, little_endian(in.ptr + at, 8));
    take(&s, little_endian(in.ptr + at, in.len - at) | (uint64_t)in.len << 56);
    struct siphash out;
    s.v[2] ^= 0xee;
    rounds(&s, 4);
    out.h[0] = s.v[0] ^ s.v[1] ^ s.v[2] ^ s.v[3];
    s.v[1] ^= 0xdd;
    rounds(&s, 4);
    out.h[1] = s.v[0] ^ s.v[1] ^ s.v[2] ^ s.v[3];
    return out;
}
