#pragma once
// The simulated clock: it moves only when the simulator says so.

#include "os/clock.h"

// Simulated time begins here, on a date that is easy to tell from a real one in a trace.
#define CLOCK_SIM_WALL_BEGIN_MS 946684800000 // 2000-01-01T00:00:00Z

void clock_sim_set(struct clock *c, uint64_t now_ms);
