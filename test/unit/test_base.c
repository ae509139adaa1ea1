#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/heap.h"
#include "base/map.h"

static void map_keeps_order_of_insertion(void **state)
{
    (void)state;
    struct map *m = map_new();
    int values[1000];
    for (uint64_t i = 0; i < 1000; i++)
        assert_null(map_put(m, key_u64(&i), &values[i]));
    for (uint64_t i = 0; i < 1000; i += 3)
        assert_ptr_equal(map_remove(m, key_u64(&i)), &values[i]);
    uint64_t again = 3;
    map_put(m, key_u64(&again), &values[3]);
    size_t it = 0;
    void *value;
    int *last = NULL;
    size_t seen = 0;
    while (map_next(m, &it, NULL, &value)) {
        if (last && (int *)value != &values[3])
            assert_true((int *)value > last);
        last = value;
        seen++;
    }
    assert_ptr_equal(last, &values[3]);
    assert_int_equal(seen, map_count(m));
    assert_int_equal(seen, 1000 - 334 + 1);
    map_free(m);
}

static void heap_fires_in_order_and_ties_by_setting(void **state)
{
    (void)state;
    struct heap h = {0};
    struct timer t[5] = {0};
    heap_set(&h, &t[0], 30);
    heap_set(&h, &t[1], 10);
    heap_set(&h, &t[2], 10);
    heap_set(&h, &t[3], 20);
    heap_set(&h, &t[4], 5);
    heap_cancel(&h, &t[4]);
    heap_set(&h, &t[0], 10);
    assert_null(heap_pop_due(&h, 9));
    assert_ptr_equal(heap_pop_due(&h, 10), &t[1]);
    assert_ptr_equal(heap_pop_due(&h, 10), &t[2]);
    assert_ptr_equal(heap_pop_due(&h, 10), &t[0]);
    assert_null(heap_pop_due(&h, 10));
    assert_ptr_equal(heap_pop_due(&h, 20), &t[3]);
    heap_free(&h);
}

// What is put off fires as if it had been set anew each time.
static void heap_puts_off_without_changing_the_order(void **state)
{
    (void)state;
    struct heap h = {0};
    struct timer t[4] = {0};
    heap_put_off(&h, &t[0], 10);
    heap_put_off(&h, &t[1], 20);
    heap_set(&h, &t[2], 30);
    heap_put_off(&h, &t[0], 30);
    heap_put_off(&h, &t[1], 25);
    heap_put_off(&h, &t[1], 30);
    heap_set(&h, &t[3], 30);
    heap_put_off(&h, &t[2], 15); // sooner than it was
    assert_true(heap_first(&h)->due_ms <= 15);
    assert_null(heap_pop_due(&h, 14));
    assert_ptr_equal(heap_pop_due(&h, 29), &t[2]);
    assert_null(heap_pop_due(&h, 29));
    heap_put_off(&h, &t[0], 40);
    heap_set(&h, &t[0], 35); // what was put off before counts no more
    assert_ptr_equal(heap_pop_due(&h, 30), &t[1]);
    assert_ptr_equal(heap_pop_due(&h, 30), &t[3]);
    assert_null(heap_pop_due(&h, 34));
    heap_set(&h, &t[1], 36);
    heap_put_off(&h, &t[0], 50);
    heap_settle(&h, 34); // nothing came up yet
    assert_int_equal(heap_first(&h)->due_ms, 35);
    heap_settle(&h, 35);
    assert_ptr_equal(heap_first(&h), &t[1]);
    assert_int_equal(heap_first(&h)->due_ms, 36);
    assert_ptr_equal(heap_pop_due(&h, 36), &t[1]);
    assert_ptr_equal(heap_pop_due(&h, 50), &t[0]);
    assert_null(heap_first(&h));
    heap_free(&h);
}

static void arena_gives_zeroed_memory_after_reset(void **state)
{
    (void)state;
    struct arena *a = arena_new();
    for (int round = 0; round < 3; round++) {
        for (size_t size = 1; size < 100000; size *= 3) {
            unsigned char *p = arena_alloc(a, size);
            for (size_t i = 0; i < size; i++) {
                assert_int_equal(p[i], 0);
                p[i] = 0xff;
            }
        }
        arena_reset(a);
    }
    arena_free(a);
}

static void uuid_text_is_kafkas(void **state)
{
    (void)state;
    struct uuid u = {{0xb1, 0x57, 0x6b, 0x85, 0x7f, 0x3c, 0x4a, 0x52, 0x8e, 0x0e, 0x4c, 0x1c, 0x2e,
                      0x0f, 0xfb, 0xff}};
    char text[23];
    uuid_text(u, text);
    assert_string_equal(text, "sVdrhX88SlKODkwcLg_7_w");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_keeps_order_of_insertion),
        cmocka_unit_test(heap_fires_in_order_and_ties_by_setting),
        cmocka_unit_test(heap_puts_off_without_changing_the_order),
        cmocka_unit_test(arena_gives_zeroed_memory_after_reset),
        cmocka_unit_test(uuid_text_is_kafkas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
