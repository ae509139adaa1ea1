#pragma once
// The simulated clock: it moves only when the simulator says so.

#include "os/clock.h"

void clock_sim_set(struct clock *c, uint64_t now_ms);
