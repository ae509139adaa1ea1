#include "base/histogram.h"

#include <stddef.h>

// Values below 64 have a bucket each; above, the six bits below the highest one choose.
static size_t bucket_of(uint64_t value)
{
    if (value < 1u << HISTOGRAM_SUB_BITS)
        return (size_t)value;
    unsigned top = 63u - (unsigned)__builtin_clzll(value);
    unsigned shift = top - HISTOGRAM_SUB_BITS;
    size_t sub = (size_t)(value >> shift) & ((1u << HISTOGRAM_SUB_BITS) - 1);
    return ((size_t)(shift + 1) << HISTOGRAM_SUB_BITS) + sub;
}

static uint64_t bucket_last(size_t bucket)
{
    size_t octave = bucket >> HISTOGRAM_SUB_BITS;
    if (octave == 0)
        return bucket;
    uint64_t sub = bucket & ((1u << HISTOGRAM_SUB_BITS) - 1);
    uint64_t first = ((uint64_t)(1u << HISTOGRAM_SUB_BITS) + sub) << (octave - 1);
    return first + (((uint64_t)1 << (octave - 1)) - 1);
}

void histogram_add(struct histogram *h, uint64_t value)
{
    h->count++;
    h->sum += (double)value;
    if (value > h->max)
        h->max = value;
    h->buckets[bucket_of(value)]++;
}

uint64_t histogram_quantile(const struct histogram *h, double part)
{
    if (h->count == 0)
        return 0;
    double wanted = part * (double)h->count;
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (h->buckets[i] && (double)seen >= wanted) {
            uint64_t last = bucket_last(i);
            return last < h->max ? last : h->max;
        }
    }
    return h->max;
}

double histogram_mean(const struct histogram *h)
{
    return h->count ? h->sum / (double)h->count : 0;
}
