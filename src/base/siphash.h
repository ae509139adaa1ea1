#pragma once
// SipHash-2-4 with 128 bits of output: a hash that nobody without the key can make collide.

#include "base/bytes.h"

struct siphash_key {
    uint64_t k[2];
};

struct siphash {
    uint64_t h[2];
};

struct siphash siphash(const struct siphash_key *key, struct bytes in);
