// A buffer of record batches: checked as a leader does, iterated, decompressed. The CRC is made
// right where the first byte asks for it, so that what stands behind it is reached.

#include <stdlib.h>
#include <string.h>

#include "wire/batch.h"
#include "wire/crc32c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(struct bytes in)
{
    struct buf scratch = {0};
    struct batch b;
    while (batch_next(&in, &b) > 0) {
        struct record_iter it;
        struct record rec;
        if (record_iter_start(&it, &b, &scratch) != 0)
            continue;
        while (record_next(&it, &rec) > 0) {
            struct record_header h;
            int32_t n = 0;
            while (record_header_next(&rec.headers, &h))
                n++;
            CHECK(n == rec.n_headers);
        }
    }
    buf_free(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    uint8_t *copy = malloc(size - 1);
    CHECK(copy);
    memcpy(copy, data + 1, size - 1);
    struct bytes in = {copy, size - 1};
    struct batch b;
    if (data[0] & 1 && batch_read(in, &b) == 0) {
        uint32_t crc = __builtin_bswap32(crc32c(0, copy + 21, b.all.len - 21));
        memcpy(copy + 17, &crc, sizeof crc);
        batch_set_base_offset(copy, 0);
    }
    struct batch_rules rules = batch_rules_default;
    struct batch_refusal why;
    struct buf scratch = {0};
    rules.is_compacted = data[0] & 4;
    if (batch_check(in, &rules, &scratch, &b, &why) == KERR_NONE) {
        // What was accepted reads without a fault.
        struct record_iter it;
        struct record rec;
        int r;
        CHECK(record_iter_start(&it, &b, &scratch) == 0);
        while ((r = record_next(&it, &rec)) > 0)
            ;
        CHECK(r == 0);
    }
    buf_free(&scratch);
    read_all(in);
    free(copy);
    return 0;
}
