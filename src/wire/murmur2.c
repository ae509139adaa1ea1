#include "wire/murmur2.h"

#include <string.h>

#define SEED 0x9747b28cU
#define M 0x5bd1e995U

uint32_t murmur2(struct bytes key)
{
    const uint8_t *p = key.ptr;
    size_t left = key.len;
    uint32_t h = SEED ^ (uint32_t)key.len;
    for (; left >= 4; p += 4, left -= 4) {
        uint32_t k;
        memcpy(&k, p, sizeof k);
        k *= M;
        k ^= k >> 24;
        k *= M;
        h = h * M ^ k;
    }
    if (left == 3)
        h ^= (uint32_t)p[2] << 16;
    if (left >= 2)
        h ^= (uint32_t)p[1] << 8;
    if (left >= 1) {
        h ^= p[0];
        h *= M;
    }
    h ^= h >> 13;
    h *= M;
    return h ^ h >> 15;
}

int32_t murmur2_partition(struct bytes key, int32_t count)
{
    return (int32_t)(murmur2(key) & 0x7fffffffU) % count;
}
