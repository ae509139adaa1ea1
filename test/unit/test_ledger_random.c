// The ledger's fuzz target on fixed seeds, so that every build plays a few thousand events.

#include "../fuzz/fuzz_ledger.c"

#include "base/prng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct prng r;
        uint8_t data[2000];
        prng_seed(&r, seed);
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = (uint8_t)prng_next(&r);
        LLVMFuzzerTestOneInput(data, sizeof data);
    }
}

// A partition of which every second record was sent: more runs than are kept.
static void test_fold(void **state)
{
    (void)state;
    struct play p = {.t = {1000, 1700000000000}};
    p.logs[0] = (struct ledger_range){0, 4000};
    p.l = fresh(&p);
    struct ledger_identity who = who_of(0);
    struct ledger_tp tp = {topic, 0};
    struct ledger_member m = {.member_id = STR("A"),
                              .instance_id = STR_NULL,
                              .who = who,
                              .subscription = STR("t"),
                              .assigned = &tp,
                              .n_assigned = 1};
    ledger_topic_created(p.l, p.t, topic, STR("t"), 1);
    ledger_conn_opened(p.l, p.t, 1, &who, STR_EMPTY);
    ledger_generation(p.l, p.t, STR("g"), 1, &m, 1);
    ledger_own_request(p.l, p.t, 1, STR("g"), STR("A"), API_HEARTBEAT);
    for (int64_t i = 0; i < 4000; i += 2) {
        p.t.now_ms++;
        ledger_position(p.l, p.t, 1, topic, 0, i);
        ledger_sending(p.l, p.t, 1, topic, 0, (struct ledger_range){i, i + 1}, 1);
        struct ledger_commit c = {.conn = 1,
                                  .group = STR("g"),
                                  .member = STR("A"),
                                  .who = who,
                                  .generation = 1,
                                  .topic_id = topic,
                                  .offset = i + 1};
        ledger_committed(p.l, p.t, &c);
        struct buf why = {0};
        assert_true(ledger_verify(p.l, &why));
        buf_free(&why);
    }
    struct ledger_partition_view v;
    assert_true(ledger_partition(p.l, STR("g"), topic, 0, &v));
    assert_int_equal(v.state[LEDGER_COMMITTED], 2000);
    assert_int_equal(v.state[LEDGER_SKIPPED], 1999);
    assert_int_equal(v.state[LEDGER_WAITING], 1);
    restart(&p, true);
    ledger_free(p.l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random), cmocka_unit_test(test_fold)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
