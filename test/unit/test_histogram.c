#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/histogram.h"

static struct histogram *fresh(void)
{
    struct histogram *h = calloc(1, sizeof *h);
    assert_non_null(h);
    return h;
}

static void an_empty_one_says_nothing(void **state)
{
    (void)state;
    struct histogram *h = fresh();
    assert_int_equal(histogram_quantile(h, 0.99), 0);
    assert_true(histogram_mean(h) < 0.001);
    free(h);
}

static void small_values_are_exact(void **state)
{
    (void)state;
    struct histogram *h = fresh();
    for (uint64_t v = 1; v <= 50; v++)
        histogram_add(h, v);
    assert_int_equal(histogram_quantile(h, 0.5), 25);
    assert_int_equal(histogram_quantile(h, 1), 50);
    free(h);
}

// Whatever the size: never below the value, never more than 1.6 % above, never above the greatest.
static void large_values_are_close(void **state)
{
    (void)state;
    for (uint64_t v = 1; v < UINT64_MAX / 3; v = v * 3 / 2 + 1) {
        struct histogram *h = fresh();
        histogram_add(h, v);
        histogram_add(h, v);
        histogram_add(h, v * 2);
        uint64_t half = histogram_quantile(h, 0.5);
        assert_true(half >= v && half - v <= v / 63);
        assert_int_equal(histogram_quantile(h, 1), v * 2);
        free(h);
    }
    struct histogram *h = fresh();
    histogram_add(h, UINT64_MAX);
    assert_true(histogram_quantile(h, 0.5) == UINT64_MAX);
    free(h);
}

static void one_of_a_thousand_is_beyond_p99(void **state)
{
    (void)state;
    struct histogram *h = fresh();
    for (int i = 0; i < 999; i++)
        histogram_add(h, 10);
    histogram_add(h, 100000);
    assert_int_equal(histogram_quantile(h, 0.99), 10);
    assert_int_equal(histogram_quantile(h, 0.999), 10);
    assert_int_equal(histogram_quantile(h, 0.9999), 100000);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_says_nothing),
        cmocka_unit_test(small_values_are_exact),
        cmocka_unit_test(large_values_are_close),
        cmocka_unit_test(one_of_a_thousand_is_beyond_p99),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
