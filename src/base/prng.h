#pragma once
// A seeded generator for simulation, tests and drills (xoshiro256**, seeded by splitmix64).
// Never for secrets or ids that must be unique: those come from os/entropy.h.

#include <stdbool.h>
#include <stdint.h>

struct prng {
    uint64_t s[4];
};

void prng_seed(struct prng *p, uint64_t seed);
uint64_t prng_next(struct prng *p);
uint64_t prng_below(struct prng *p, uint64_t bound); // 0 .. bound-1; bound > 0
bool prng_chance(struct prng *p, uint32_t percent);
