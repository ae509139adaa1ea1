// When librdkafka's queue is to be filled again, and that each list of partitions is freed once.
#include "client/libtally/refill.h"

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static size_t n_queued;
static atomic_int n_asked, n_lists;
static atomic_bool is_slow;
static sem_t is_asking, may_go; // a slow broker
static int a_queue;
static bool has_queue;

static rd_kafka_conf_res_t get(const rd_kafka_conf_t *conf, const char *name, char *text,
                               size_t *size)
{
    (void)conf;
    snprintf(text, *size, "%d", strcmp(name, "queued.min.messages") == 0 ? 1000 : 64);
    return RD_KAFKA_CONF_OK;
}

static rd_kafka_queue_t *queue_of(rd_kafka_t *consumer)
{
    (void)consumer;
    return has_queue ? (rd_kafka_queue_t *)(void *)&a_queue : NULL;
}

static size_t length(rd_kafka_queue_t *queue)
{
    (void)queue;
    return n_queued;
}

static void destroy_queue(rd_kafka_queue_t *queue)
{
    assert_ptr_equal(queue, &a_queue);
}

static rd_kafka_resp_err_t ask(rd_kafka_t *consumer, rd_kafka_topic_partition_list_t *list, int ms)
{
    (void)consumer;
    (void)list;
    (void)ms;
    atomic_fetch_add(&n_asked, 1);
    if (atomic_load(&is_slow)) {
        sem_post(&is_asking);
        sem_wait(&may_go);
    }
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void destroy_list(rd_kafka_topic_partition_list_t *list)
{
    atomic_fetch_sub(&n_lists, 1);
    free(list);
}

static rd_kafka_topic_partition_list_t *list(void)
{
    atomic_fetch_add(&n_lists, 1);
    return calloc(1, sizeof(rd_kafka_topic_partition_list_t));
}

static void start(struct refill *r)
{
    static const struct kafka_api k = {.rd_kafka_conf_get = get,
                                       .rd_kafka_queue_get_consumer = queue_of,
                                       .rd_kafka_queue_length = length,
                                       .rd_kafka_queue_destroy = destroy_queue,
                                       .rd_kafka_offsets_for_times = ask,
                                       .rd_kafka_topic_partition_list_destroy = destroy_list};
    *r = (struct refill){0};
    n_queued = 0;
    atomic_store(&n_asked, 0);
    atomic_store(&n_lists, 0);
    refill_configure(r, &k, NULL);
    refill_start(r, NULL);
}

static bool is_due_at(struct refill *r, size_t n)
{
    n_queued = n;
    return refill_is_due(r);
}

static void take(struct refill *r, int n, size_t bytes)
{
    while (n-- > 0)
        refill_taken(r, bytes);
}

static void test_it_is_due_when_half_of_a_full_queue_is_taken(void **state)
{
    (void)state;
    struct refill r;
    has_queue = true;
    start(&r);
    take(&r, 10, 10);
    assert_false(is_due_at(&r, 0));
    assert_false(is_due_at(&r, 400)); // at the end of a log it never fills
    assert_false(is_due_at(&r, 0));
    assert_false(is_due_at(&r, 1200));
    assert_false(is_due_at(&r, 600));
    assert_true(is_due_at(&r, 499));
    assert_false(is_due_at(&r, 300)); // once
    assert_false(is_due_at(&r, 900));
    assert_true(is_due_at(&r, 0));
    refill_stop(&r);
}

static void test_large_records_fill_it_sooner(void **state)
{
    (void)state;
    struct refill r;
    has_queue = true;
    start(&r);
    take(&r, 4, 8 << 10); // 8 of them are full, by bytes
    assert_false(is_due_at(&r, 9));
    assert_false(is_due_at(&r, 4));
    assert_true(is_due_at(&r, 3));
    take(&r, 1, 1 << 20); // one is more than all
    assert_false(is_due_at(&r, 1));
    refill_stop(&r);
}

static void test_one_question_at_a_time(void **state)
{
    (void)state;
    struct refill r;
    has_queue = true;
    sem_init(&is_asking, 0, 0);
    sem_init(&may_go, 0, 0);
    start(&r);
    atomic_store(&is_slow, true);
    refill_ask(&r, list());
    sem_wait(&is_asking);
    refill_ask(&r, list()); // not needed any more
    assert_int_equal(atomic_load(&n_lists), 1);
    atomic_store(&is_slow, false);
    sem_post(&may_go);
    while (atomic_load(&n_lists) > 0)
        ;
    assert_int_equal(atomic_load(&n_asked), 1);
    refill_ask(&r, list());
    refill_stop(&r); // whether it was asked by now or not
    assert_int_equal(atomic_load(&n_lists), 0);
}

static void test_without_a_queue_nothing_is_due(void **state)
{
    (void)state;
    struct refill r;
    has_queue = false;
    start(&r);
    take(&r, 10, 10);
    assert_false(is_due_at(&r, 2000));
    assert_false(is_due_at(&r, 0));
    refill_stop(&r);
    refill_stop(&(struct refill){0}); // never started
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_due_when_half_of_a_full_queue_is_taken),
        cmocka_unit_test(test_large_records_fill_it_sooner),
        cmocka_unit_test(test_one_question_at_a_time),
        cmocka_unit_test(test_without_a_queue_nothing_is_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
