#include "os/clock_sim.h"

#include <stdlib.h>

#include "base/check.h"

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
    return CLOCK_SIM_WALL_BEGIN_MS + (int64_t)c->now_ms;
}

uint64_t clock_now_us(struct clock *c)
{
    return c->now_ms * 1000;
}
