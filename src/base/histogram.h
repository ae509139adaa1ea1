#pragma once
// Counts values in buckets that are at most 1.6 % wide: percentiles of latencies in fixed memory.

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 6 // 64 buckets for each power of two
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram { // start from {0}
    uint64_t count;
    uint64_t max;
    double sum;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t value);
// The smallest value that `part` (0 to 1) of all values do not exceed, to within a bucket, never
// above the greatest value seen. 0 when there are none.
uint64_t histogram_quantile(const struct histogram *h, double part);
double histogram_mean(const struct histogram *h); // 0 when there are none
