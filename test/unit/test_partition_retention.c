// What retention takes, and what the journal knows of it.
#include "os/disk_sim.h"
#include "partition_world.h"

static void retention_moves_the_start_and_tells_the_journal(void **state)
{
    struct world *w = *state;
    struct uuid id = make_topic(w, "t");
    struct partition *p = partitions_get(w->ps, id, 0);
    append(w, p, 5, true);
    settle(w);
    partitions_retain(w->ps, NOW_MS + 1000);
    assert_int_equal(partition_log_start(p), 0);
    partitions_retain(w->ps, NOW_MS + 604800000 + 1000);
    assert_int_equal(partition_log_start(p), 5);
    assert_int_equal(topics_by_id(w->topics, id)->partitions[0].log_start, 5);
}

// The journal knows of every segment that goes, or the next start would miss it.
static void nothing_goes_that_the_journal_could_not_be_told_of(void **state)
{
    struct world *w = *state;
    struct uuid id = make_topic(w, "t");
    append(w, partitions_get(w->ps, id, 0), 5, true);
    settle(w);
    w->journal_fails = true;
    partitions_retain(w->ps, NOW_MS + 604800000 + 1000);
    w->journal_fails = false;
    partitions_free(w->ps);
    disk_sim_crash_process(w->disk);
    start(w, false, false);
    struct partition *p = partitions_get(w->ps, id, 0);
    assert_int_equal(partition_log_start(p), 0);
    assert_int_equal(partition_log_end(p), 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(retention_moves_the_start_and_tells_the_journal),
        TEST(nothing_goes_that_the_journal_could_not_be_told_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
