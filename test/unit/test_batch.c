// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "wire/crc32c.h"
#include "wire/murmur2.h"

static struct bytes text(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

static void test_crc32c_vectors(void **state)
{
    (void)state;
    uint8_t ascending[32];
    uint8_t zeros[32] = {0};
    for (uint8_t i = 0; i < 32; i++)
        ascending[i] = i;
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283U); // RFC 3720 and its errata
    assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aaU);
    assert_int_equal(crc32c(0, ascending, 32), 0x46dd794eU);
    assert_int_equal(crc32c_soft(0, "123456789", 9), 0xe3069283U);
}

static void test_crc32c_hard_is_soft(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 7);
    size_t size = 100000;
    uint8_t *data = malloc(size);
    assert_non_null(data);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)prng_next(&p);
    for (int i = 0; i < 300; i++) {
        size_t at = (size_t)prng_below(&p, 64), len = (size_t)prng_below(&p, size - 64);
        size_t cut = (size_t)prng_below(&p, len + 1);
        uint32_t want = crc32c_soft(0, data + at, len);
        assert_int_equal(crc32c(0, data + at, len), want);
        assert_int_equal(crc32c(crc32c(0, data + at, cut), data + at + cut, len - cut), want);
    }
    free(data);
}

// Vectors of Kafka's UtilsTest.
static void test_murmur2(void **state)
{
    (void)state;
    assert_int_equal((int32_t)murmur2(text("21")), -973932308);
    assert_int_equal((int32_t)murmur2(text("foobar")), -790332482);
    assert_int_equal((int32_t)murmur2(text("a-little-bit-long-string")), -985981536);
    assert_int_equal((int32_t)murmur2(text("a-little-bit-longer-string")), -1486304829);
    assert_int_equal((int32_t)murmur2(text("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8")),
                     -58897971);
    assert_int_equal((int32_t)murmur2(text("abc")), 479470107);
    assert_int_equal(murmur2_partition(text("21"), 10), (-973932308 & 0x7fffffff) % 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c_vectors),
        cmocka_unit_test(test_crc32c_hard_is_soft),
        cmocka_unit_test(test_murmur2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
