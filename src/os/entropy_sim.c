#include "os/entropy_sim.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/prng.h"

struct entropy {
    struct prng prng;
};

static uint64_t next_seed = 1;

void entropy_sim_seed(uint64_t seed)
{
    next_seed = seed;
}

struct entropy *entropy_new(void)
{
    struct entropy *e = malloc(sizeof *e);
    CHECK(e);
    prng_seed(&e->prng, next_seed++); // ids differ between two lives of one broker
    return e;
}

void entropy_free(struct entropy *e)
{
    free(e);
}

void entropy_fill(struct entropy *e, void *out, size_t len)
{
    uint8_t *p = out;
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)prng_next(&e->prng);
}

struct uuid entropy_uuid(struct entropy *e)
{
    struct uuid u;
    do {
        entropy_fill(e, u.b, sizeof u.b);
        u.b[6] = (uint8_t)((u.b[6] & 0x0f) | 0x40);
        u.b[8] = (uint8_t)((u.b[8] & 0x3f) | 0x80);
    } while (u.b[0] >> 2 == 62); // '-' as the first base64 digit
    return u;
}
