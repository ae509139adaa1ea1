// Batches of real producers, batches of our own, and what a leader refuses.

// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "wire/batch.h"
#include "wire/crc32c.h"

static struct bytes text(const char *s)
{
    return (struct bytes){(const uint8_t *)s, s ? strlen(s) : 0};
}

static void assert_bytes(struct bytes b, const char *want)
{
    if (!want) {
        assert_null(b.ptr);
        return;
    }
    assert_non_null(b.ptr);
    assert_int_equal(b.len, strlen(want));
    assert_memory_equal(b.ptr, want, b.len);
}

static struct bytes view(const struct buf *b)
{
    return (struct bytes){b->ptr, b->len};
}

static struct buf read_file(const char *who, int codec)
{
    char path[100];
    snprintf(path, sizeof path, "test/data/batches/%s-%s.bin", who, codec_name(codec));
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s: run from the root of the tree", path);
    struct buf b = {0};
    b.len = fread(buf_extend(&b, 1000), 1, 1000, f);
    fclose(f);
    return b;
}

#define TALLY20                                                                                    \
    "tally tally tally tally tally tally tally tally tally tally "                                 \
    "tally tally tally tally tally tally tally tally tally tally "

static void test_java_batches(void **state)
{
    (void)state;
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        struct buf file = read_file("java", codec), scratch = {0};
        struct batch_rules rules = batch_rules_default;
        rules.now_ms = 1700000000000;
        struct batch b;
        struct batch_refusal why = {0};
        struct record_iter it;
        struct record rec;
        struct record_header h;
        assert_int_equal(batch_check(view(&file), &rules, &scratch, &b, &why), KERR_NONE);
        assert_int_equal(batch_codec(&b), codec);
        assert_int_equal(b.all.len, file.len);
        assert_int_equal(b.count, 3);
        assert_int_equal(b.max_timestamp, 1700000000005);
        assert_true(b.producer_id >= 0 && b.base_sequence == 0);
        assert_int_equal(record_iter_start(&it, &b, &scratch), 0);
        assert_int_equal(record_next(&it, &rec), 1);
        assert_bytes(rec.key, "k0");
        assert_bytes(rec.value, TALLY20);
        assert_int_equal(rec.timestamp_ms, 1700000000000);
        assert_int_equal(rec.n_headers, 2);
        struct bytes rest = rec.headers;
        assert_true(record_header_next(&rest, &h));
        assert_bytes(h.key, "h1");
        assert_bytes(h.value, "v1");
        assert_true(record_header_next(&rest, &h));
        assert_bytes(h.key, "h2");
        assert_bytes(h.value, NULL);
        assert_false(record_header_next(&rest, &h));
        assert_int_equal(record_next(&it, &rec), 1);
        assert_bytes(rec.key, NULL);
        assert_int_equal(record_next(&it, &rec), 1);
        assert_bytes(rec.key, "k2");
        assert_bytes(rec.value, NULL);
        assert_int_equal(rec.offset, 2);
        assert_int_equal(rec.timestamp_ms, 1700000000003);
        assert_int_equal(record_next(&it, &rec), 0);
        buf_free(&file);
        buf_free(&scratch);
    }
}

static void test_librdkafka_batches(void **state)
{
    (void)state;
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        struct buf file = read_file("kcat", codec), scratch = {0};
        struct bytes rest = view(&file);
        struct batch b;
        int n = 0, r;
        while ((r = batch_next(&rest, &b)) > 0) {
            struct record_iter it;
            struct record rec;
            assert_true(batch_crc_matches(&b));
            assert_int_equal(record_iter_start(&it, &b, &scratch), 0);
            while ((r = record_next(&it, &rec)) > 0) {
                assert_bytes(rec.key, n == 0 ? "k0" : "k1");
                assert_bytes(rec.value, n == 0 ? TALLY20 : "v1");
                assert_int_equal(rec.offset, n++);
            }
            assert_int_equal(r, 0);
        }
        assert_int_equal(r, 0);
        assert_int_equal(n, 2);
        assert_int_equal(rest.len, 0);
        buf_free(&file);
        buf_free(&scratch);
    }
}

// ---- our own

static void build(struct buf *out, enum codec codec, int count, uint64_t seed)
{
    struct prng p;
    prng_seed(&p, seed);
    struct batch_options o = batch_options_default;
    o.codec = codec;
    struct batch_builder b = {0};
    batch_builder_start(&b, &o);
    for (int i = 0; i < count; i++) {
        char key[20], value[3000];
        size_t len = (size_t)prng_below(&p, sizeof value);
        snprintf(key, sizeof key, "key-%d", i);
        memset(value, 'a' + i % 26, len);
        for (size_t k = 0; k < len; k += 7)
            value[k] = (char)prng_next(&p);
        struct record_header h = {text("h"), text(i % 2 ? NULL : "x")};
        batch_builder_add(&b, 1000 + (int64_t)prng_below(&p, 500), text(i % 5 ? key : NULL),
                          (struct bytes){(uint8_t *)value, len}, &h, i % 3 ? 1 : 0);
    }
    assert_int_equal(batch_builder_finish(&b, out), 0);
    batch_builder_free(&b);
}

static void test_built_batches_read_back(void **state)
{
    (void)state;
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        struct buf out = {0}, scratch = {0};
        struct batch_rules rules = batch_rules_default;
        struct batch b;
        struct batch_refusal why = {0};
        build(&out, (enum codec)codec, 200, 3);
        assert_int_equal(batch_check(view(&out), &rules, &scratch, &b, &why), KERR_NONE);
        assert_int_equal(b.count, 200);
        struct record_iter it;
        struct record rec;
        assert_int_equal(record_iter_start(&it, &b, &scratch), 0);
        int n = 0;
        while (record_next(&it, &rec) > 0) {
            char key[20];
            snprintf(key, sizeof key, "key-%d", n);
            assert_bytes(rec.key, n % 5 ? key : NULL);
            n++;
        }
        assert_int_equal(n, 200);
        buf_free(&out);
        buf_free(&scratch);
    }
}

// Whatever the damage: no crash, no endless loop. The CRC is made right again, so that the
// damage gets as far as it can.
static void test_damage_is_survived(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 11);
    struct buf scratch = {0};
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        struct buf good = {0};
        build(&good, (enum codec)codec, 20, 5);
        for (int i = 0; i < 200; i++) {
            uint8_t *copy = malloc(good.len);
            assert_non_null(copy);
            memcpy(copy, good.ptr, good.len);
            copy[61 + prng_below(&p, good.len - 61)] ^= (uint8_t)(1 + prng_below(&p, 255));
            uint32_t crc = __builtin_bswap32(crc32c(0, copy + 21, good.len - 21));
            memcpy(copy + 17, &crc, sizeof crc);
            struct batch_rules rules = batch_rules_default;
            struct batch b;
            struct batch_refusal why;
            (void)batch_check((struct bytes){copy, good.len}, &rules, &scratch, &b, &why);
            free(copy);
        }
        buf_free(&good);
    }
    buf_free(&scratch);
}

static void test_cut_batches_are_no_batches(void **state)
{
    (void)state;
    struct buf good = {0};
    build(&good, CODEC_NONE, 3, 5);
    for (size_t len = 0; len < good.len; len++) {
        uint8_t *copy = malloc(len + 1);
        assert_non_null(copy);
        memcpy(copy + 1, good.ptr, len);
        struct bytes rest = {copy + 1, len};
        struct batch b;
        assert_int_equal(batch_next(&rest, &b), 0);
        free(copy);
    }
    buf_free(&good);
}

// ---- refusals: what is wrong, what is said

static enum kerr check_with(const struct buf *in, const struct batch_rules *rules)
{
    struct buf scratch = {0};
    struct batch b;
    struct batch_refusal why = {.error = KERR_NONE};
    enum kerr e = batch_check(view(in), rules, &scratch, &b, &why);
    assert_int_equal(why.error, e);
    assert_true(e == KERR_NONE || why.message);
    buf_free(&scratch);
    return e;
}

static void fix_crc(struct buf *b)
{
    uint32_t crc = __builtin_bswap32(crc32c(0, b->ptr + 21, b->len - 21));
    memcpy(b->ptr + 17, &crc, sizeof crc);
}

static void test_header_refusals(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
        bool fix;
        enum kerr want;
    } cases[] = {
        {7, 1, false, KERR_INVALID_RECORD},               // base offset 1
        {15, 9, false, KERR_NONE},                        // any leader epoch
        {16, 1, false, KERR_INVALID_RECORD},              // format v1
        {16, 3, false, KERR_CORRUPT_MESSAGE},             // a format to come
        {20, 0x55, false, KERR_CORRUPT_MESSAGE},          // the CRC
        {22, BATCH_CONTROL, true, KERR_INVALID_RECORD},   // a control batch
        {22, 7, true, KERR_UNSUPPORTED_COMPRESSION_TYPE}, // no such codec
        {26, 9, true, KERR_INVALID_RECORD},               // last offset delta
        {60, 9, true, KERR_INVALID_RECORD},               // count
        {57, 0x80, true, KERR_INVALID_RECORD},            // count below 0
        {43, 0x00, true, KERR_INVALID_RECORD},            // a producer id, no sequence
        {61, 0x7f, true, KERR_INVALID_RECORD},            // first record's length
        {11, 0x40, false, KERR_INVALID_RECORD},           // longer than what is there
        {8, 0x80, false, KERR_CORRUPT_MESSAGE},           // length below 0
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        build(&b, CODEC_NONE, 3, 1);
        b.ptr[cases[i].at] = cases[i].value;
        if (cases[i].at == 11)
            b.ptr[10] = 0xff;
        if (cases[i].fix)
            fix_crc(&b);
        enum kerr got = check_with(&b, &batch_rules_default);
        if (got != cases[i].want)
            fail_msg("case %zu: %s", i, kerr_name(got));
        buf_free(&b);
    }
}

static void test_rules_refuse(void **state)
{
    (void)state;
    struct buf b = {0}, two = {0}, zstd = {0};
    build(&b, CODEC_NONE, 3, 1);
    struct batch_rules r = batch_rules_default;
    r.max_message_bytes = (int64_t)b.len - 1;
    assert_int_equal(check_with(&b, &r), KERR_MESSAGE_TOO_LARGE);
    r = batch_rules_default;
    r.segment_bytes = (int64_t)b.len - 1;
    assert_int_equal(check_with(&b, &r), KERR_RECORD_LIST_TOO_LARGE);
    r = batch_rules_default;
    r.is_compacted = true; // the first record has no key
    assert_int_equal(check_with(&b, &r), KERR_INVALID_RECORD);
    r = batch_rules_default;
    r.now_ms = 100000;
    r.before_max_ms = 10;
    assert_int_equal(check_with(&b, &r), KERR_INVALID_TIMESTAMP);
    r.log_append_time = true;
    assert_int_equal(check_with(&b, &r), KERR_NONE);
    r = batch_rules_default;
    r.now_ms = -3600000;
    assert_int_equal(check_with(&b, &r), KERR_INVALID_TIMESTAMP);

    build(&two, CODEC_NONE, 1, 1);
    build(&two, CODEC_NONE, 1, 1);
    assert_int_equal(check_with(&two, &batch_rules_default), KERR_INVALID_RECORD);
    build(&zstd, CODEC_ZSTD, 3, 1);
    r = batch_rules_default;
    r.produce_version = 6;
    assert_int_equal(check_with(&zstd, &r), KERR_UNSUPPORTED_COMPRESSION_TYPE);
    r.produce_version = 7;
    assert_int_equal(check_with(&zstd, &r), KERR_NONE);
    buf_free(&b);
    buf_free(&two);
    buf_free(&zstd);
}

// Compressed or not: what is inside is looked at.
static void test_what_is_inside_is_checked(void **state)
{
    (void)state;
    for (int codec = CODEC_GZIP; codec < CODEC_COUNT; codec++) {
        struct buf b = {0}, scratch = {0};
        struct batch_rules r = batch_rules_default;
        struct batch out;
        struct batch_refusal why;
        build(&b, (enum codec)codec, 3, 1);
        assert_int_equal(batch_check(view(&b), &r, &scratch, &out, &why), KERR_NONE);
        int64_t newest_ms = out.max_timestamp;
        assert_true(batch_times_fit(b.ptr, false, newest_ms));
        r.decompressed_max = scratch.len - 1;
        assert_int_equal(check_with(&b, &r), KERR_MESSAGE_TOO_LARGE);
        r = batch_rules_default;
        r.now_ms = -3600000;
        assert_int_equal(check_with(&b, &r), KERR_INVALID_TIMESTAMP);
        r.now_ms = 0;
        // The header says another time: the records' counts.
        b.ptr[42]++;
        fix_crc(&b);
        assert_int_equal(batch_check(view(&b), &r, &scratch, &out, &why), KERR_NONE);
        assert_int_equal(out.max_timestamp, newest_ms);
        assert_false(batch_times_fit(b.ptr, false, newest_ms));
        // A record more than is in it; then no stream at all.
        b.ptr[26]++;
        b.ptr[60]++;
        fix_crc(&b);
        assert_int_equal(check_with(&b, &r), KERR_INVALID_RECORD);
        b.ptr[26]--;
        b.ptr[60]--;
        memset(b.ptr + 61, 'x', b.len - 61);
        fix_crc(&b);
        assert_int_equal(check_with(&b, &r), KERR_INVALID_RECORD);
        buf_free(&b);
        buf_free(&scratch);
    }
}

static void test_setters(void **state)
{
    (void)state;
    struct buf buf = {0};
    build(&buf, CODEC_NONE, 3, 1);
    struct batch b;
    batch_set_base_offset(buf.ptr, 1234567890123);
    batch_set_leader_epoch(buf.ptr, 7);
    assert_int_equal(batch_read(view(&buf), &b), 0);
    assert_int_equal(b.base_offset, 1234567890123);
    assert_int_equal(batch_last_offset(&b), 1234567890125);
    assert_int_equal(b.leader_epoch, 7);
    assert_true(batch_crc_matches(&b));
    uint32_t crc = b.crc;
    batch_set_max_timestamp(buf.ptr, buf.len, false, b.max_timestamp);
    assert_int_equal(batch_read(view(&buf), &b), 0);
    assert_int_equal(b.crc, crc);
    batch_set_max_timestamp(buf.ptr, buf.len, true, 99);
    assert_int_equal(batch_read(view(&buf), &b), 0);
    assert_true(batch_crc_matches(&b) && b.crc != crc && b.attributes & BATCH_LOG_APPEND_TIME);
    struct record_iter it;
    struct record rec;
    assert_int_equal(record_iter_start(&it, &b, NULL), 0);
    assert_int_equal(record_next(&it, &rec), 1);
    assert_int_equal(rec.timestamp_ms, 99);
    batch_set_max_timestamp(buf.ptr, buf.len, false, 99);
    assert_int_equal(batch_read(view(&buf), &b), 0);
    assert_true(batch_crc_matches(&b) && !(b.attributes & BATCH_LOG_APPEND_TIME));
    buf_free(&buf);
}

static void test_end_marker(void **state)
{
    (void)state;
    struct buf buf = {0};
    batch_append_end_marker(&buf, true, 42, 3, 5, 777);
    struct batch b;
    struct record_iter it;
    struct record rec;
    assert_int_equal(batch_read(view(&buf), &b), 0);
    assert_true(batch_is_control(&b) && batch_is_transactional(&b) && batch_crc_matches(&b));
    assert_int_equal(b.producer_id, 42);
    assert_int_equal(b.base_sequence, -1);
    assert_int_equal(record_iter_start(&it, &b, NULL), 0);
    assert_int_equal(record_next(&it, &rec), 1);
    assert_memory_equal(rec.key.ptr, "\0\0\0\1", 4);
    assert_memory_equal(rec.value.ptr, "\0\0\0\0\0\5", 6);
    buf_free(&buf);
}

static void test_decompression_is_bounded(void **state)
{
    (void)state;
    struct bytes zeros = {calloc(1, 1000000), 1000000};
    assert_non_null(zeros.ptr);
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        struct buf packed = {0}, out = {0};
        assert_int_equal(compress_append((enum codec)codec, CODEC_LEVEL_DEFAULT, zeros, &packed),
                         0);
        buf_add(&out, "keep", 4);
        assert_int_equal(decompress_append(codec, view(&packed), 999999, &out), -EFBIG);
        assert_int_equal(out.len, 4);
        assert_int_equal(decompress_append(codec, view(&packed), 1000000, &out), 0);
        assert_int_equal(out.len, 1000004);
        assert_memory_equal(out.ptr + 4, zeros.ptr, zeros.len);
        packed.len -= 3;
        out.len = 4;
        int want = codec == CODEC_NONE ? 0 : -EBADMSG;
        assert_int_equal(decompress_append(codec, view(&packed), 2000000, &out), want);
        buf_free(&packed);
        buf_free(&out);
    }
    free((void *)(uintptr_t)zeros.ptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_java_batches),
        cmocka_unit_test(test_librdkafka_batches),
        cmocka_unit_test(test_built_batches_read_back),
        cmocka_unit_test(test_damage_is_survived),
        cmocka_unit_test(test_cut_batches_are_no_batches),
        cmocka_unit_test(test_header_refusals),
        cmocka_unit_test(test_rules_refuse),
        cmocka_unit_test(test_what_is_inside_is_checked),
        cmocka_unit_test(test_setters),
        cmocka_unit_test(test_end_marker),
        cmocka_unit_test(test_decompression_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
