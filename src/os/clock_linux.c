#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "os/clock.h"

struct clock {
    uint64_t start_ns; // the first reading, so that numbers in a log stay readable
};

static uint64_t monotonic_ns(void)
{
    // Not CLOCK_BOOTTIME: a suspended machine must not put every member out when it wakes.
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct clock *clock_new(void)
{
    struct clock *c = calloc(1, sizeof *c);
    CHECK(c);
    c->start_ns = monotonic_ns();
    return c;
}

void clock_free(struct clock *c)
{
    free(c);
}

uint64_t clock_now_ms(struct clock *c)
{
    // From 1 on: 0 means "not set" to callers.
    return (monotonic_ns() - c->start_ns) / 1000000u + 1;
}

uint64_t clock_now_us(struct clock *c)
{
    return (monotonic_ns() - c->start_ns) / 1000u;
}

int64_t clock_wall_ms(struct clock *c)
{
    (void)c;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
