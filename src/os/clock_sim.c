#include "os/clock_sim.h"

#include <stdlib.h>

#include "base/check.h"

// Simulated time begins here, on a date that is easy to tell from a real one in a trace.
#define WALL_BEGIN_MS 946684800000 // 2000-01-01T00:00:00Z

struct clock {
    uint64_t now_ms;
};

struct clock *clock_new(void)
{
    struct clock *c = calloc(1, sizeof *c);
    CHECK(c);
    c->now_ms = 1;
    return c;
}

void clock_free(struct clock *c)
{
    free(c);
}

void clock_sim_set(struct clock *c, uint64_t now_ms)
{
    CHECK(now_ms >= c->now_ms);
    c->now_ms = now_ms;
}

uint64_t clock_now_ms(struct clock *c)
{
    return c->now_ms;
}

int64_t clock_wall_ms(struct clock *c)
{
    return WALL_BEGIN_MS + (int64_t)c->now_ms;
}

uint64_t clock_now_us(struct clock *c)
{
    return c->now_ms * 1000;
}
