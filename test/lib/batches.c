#include "batches.h"

#include "base/check.h"
#include "wire/batch.h"

#include <stdio.h>
#include <string.h>

void batches_add(struct buf *out, const struct batch_spec *spec)
{
    struct batch_options o = batch_options_default;
    o.codec = (enum codec)spec->codec;
    if (spec->has_producer) {
        o.producer_id = spec->producer_id;
        o.producer_epoch = spec->producer_epoch;
        o.base_sequence = spec->base_sequence;
    }
    struct batch_builder b = {0};
    batch_builder_start(&b, &o);
    struct buf value = {0};
    for (int i = 0; i < (spec->count ? spec->count : 1); i++) {
        char key[32];
        int n = snprintf(key, sizeof key, "%llu", (unsigned long long)spec->seed + (unsigned)i);
        buf_clear(&value);
        buf_add(&value, key, (size_t)n);
        while (value.len < spec->value_bytes)
            buf_add(&value, key, (size_t)n);
        batch_builder_add(&b, spec->timestamp_ms + i,
                          (struct bytes){(const uint8_t *)key, (size_t)n},
                          (struct bytes){value.ptr, value.len}, NULL, 0);
    }
    CHECK(batch_builder_finish(&b, out) == 0);
    buf_free(&value);
    batch_builder_free(&b);
}
