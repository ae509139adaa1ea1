#pragma once
// Time. Only the shell reads it; the core is handed numbers.

#include <stdint.h>

struct clock;

struct clock *clock_new(void);
void clock_free(struct clock *c); // NULL is fine

uint64_t clock_now_ms(struct clock *c); // monotonic, never 0; for timers
int64_t clock_wall_ms(struct clock *c); // since 1970; for what is stored and shown
uint64_t clock_now_us(struct clock *c); // monotonic; for measurements only
