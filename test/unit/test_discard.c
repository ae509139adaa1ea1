// The records that libtally is done with: each is freed once, whether its thread keeps up or not.
#include "client/libtally/discard.h"

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define MANY (5 * DISCARD_MAX + 7)

static atomic_int n_freed;
static sem_t may_free; // the thread waits for it
static atomic_bool is_slow;
static pthread_t owner;

static void destroy(rd_kafka_message_t *m)
{
    if (atomic_load(&is_slow) && !pthread_equal(pthread_self(), owner)) {
        sem_wait(&may_free);
        sem_post(&may_free);
    }
    m->_private = m; // twice would be found by the sanitizers
    free(m);
    atomic_fetch_add(&n_freed, 1);
}

static struct discard *start(void)
{
    static const struct kafka_api k = {.rd_kafka_message_destroy = destroy};
    struct discard *d = calloc(1, sizeof *d);
    assert_non_null(d);
    atomic_store(&n_freed, 0);
    owner = pthread_self();
    discard_start(d, &k);
    return d;
}

static void put(struct discard *d, int n, size_t bytes)
{
    for (int i = 0; i < n; i++) {
        rd_kafka_message_t *m = calloc(1, sizeof *m);
        assert_non_null(m);
        m->len = bytes;
        discard_put(d, m);
    }
}

static void stop(struct discard *d, int n)
{
    discard_stop(d);
    assert_int_equal(atomic_load(&n_freed), n);
    free(d);
}

static void test_all_are_freed(void **state)
{
    (void)state;
    static const int numbers[] = {0, 1, DISCARD_HAND - 1, DISCARD_HAND, DISCARD_MAX, MANY};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct discard *d = start();
        put(d, numbers[i], 100);
        stop(d, numbers[i]);
    }
}

static void test_few_are_freed_after_a_flush(void **state)
{
    (void)state;
    struct discard *d = start();
    for (int i = 1; i <= 3; i++) {
        put(d, 1, 100);
        while (atomic_load(&n_freed) < i) // the thread may still be at the one before
            discard_flush(d);
    }
    stop(d, 3);
}

// Who has them does not wait for the thread, and does not keep more than it may.
static void test_a_thread_that_is_behind(void **state)
{
    (void)state;
    for (size_t bytes = 100; bytes <= DISCARD_MAX_BYTES; bytes *= 400) {
        sem_init(&may_free, 0, 0);
        atomic_store(&is_slow, true);
        struct discard *d = start();
        put(d, MANY, bytes);
        assert_true(atomic_load(&n_freed) >= MANY - 2 * DISCARD_MAX);
        assert_true(d->n_filling < DISCARD_MAX && d->filling_bytes < DISCARD_MAX_BYTES);
        sem_post(&may_free);
        stop(d, MANY);
        atomic_store(&is_slow, false);
        sem_destroy(&may_free);
    }
}

static void test_without_a_thread(void **state)
{
    (void)state;
    struct discard *d = calloc(1, sizeof *d);
    assert_non_null(d);
    discard_stop(d); // never started
    free(d);
    d = start();
    atomic_store(&is_slow, false);
    discard_stop(d);
    put(d, 3, 100);
    assert_int_equal(atomic_load(&n_freed), 3);
    free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_are_freed),
        cmocka_unit_test(test_few_are_freed_after_a_flush),
        cmocka_unit_test(test_a_thread_that_is_behind),
        cmocka_unit_test(test_without_a_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
