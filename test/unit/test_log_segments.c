// Where segments end, what retention takes, and which record a time names, as Kafka has them.

#include "os/clock_sim.h"
#include "os/disk_sim.h"
#include "store/log.h"

#include "../lib/batches.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct world {
    struct disk *d;
    struct log_open args;
    struct log *l;
};

static void world_open(struct world *w)
{
    struct log_report report;
    int r = log_open(&w->args, &w->l, &report);
    if (r < 0)
        fail_msg("log_open: %d %s", r, report.text);
    log_reserved(w->l, 100000);
}

static struct world world_new(void)
{
    struct world w = {.d = disk_sim_new(1)};
    w.args = (struct log_open){.disk = w.d,
                               .dir = "/t-0",
                               .topic_id = {{7}},
                               .config = log_config_default,
                               .now_ms = 1000};
    return w;
}

static void world_free(struct world *w)
{
    log_close(w->l);
    disk_free(w->d);
}

static void append_n(struct world *w, const struct batch_spec *specs, size_t n, int64_t now_ms)
{
    struct buf b[LOG_APPEND_MAX] = {{0}};
    struct bytes in[LOG_APPEND_MAX] = {0};
    struct log_span spans[LOG_APPEND_MAX];
    size_t n_done;
    for (size_t i = 0; i < n; i++) {
        batches_add(&b[i], &specs[i]);
        in[i] = (struct bytes){b[i].ptr, b[i].len};
    }
    assert_int_equal(log_append(w->l, in, n, now_ms, spans, &n_done), 0);
    assert_int_equal(n_done, n);
    for (size_t i = 0; i < n; i++)
        buf_free(&b[i]);
}

static void append(struct world *w, struct batch_spec spec)
{
    append_n(w, &spec, 1, spec.timestamp_ms);
}

// The bases of the segments, "0 3 5".
static const char *bases(struct world *w)
{
    static char text[4096];
    struct arena *a = arena_new();
    char **names;
    size_t n;
    assert_int_equal(disk_list(w->d, "/t-0", a, &names, &n), 0);
    text[0] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t at = strlen(text);
        if (strstr(names[i], ".log"))
            snprintf(text + at, sizeof text - at, "%s%d", at ? " " : "", atoi(names[i]));
    }
    arena_free(a);
    return text;
}

static void one_write_ends_where_the_segment_does(void **unused)
{
    (void)unused;
    struct world w = world_new();
    w.args.config.segment_bytes = 1000;
    w.args.config.segment_ms = 5000;
    world_open(&w);
    struct batch_spec specs[6];
    for (int i = 0; i < 6; i++)
        specs[i] = (struct batch_spec){.value_bytes = 400, .timestamp_ms = 1000};
    append_n(&w, specs, 6, 1000); // two fit
    assert_string_equal(bases(&w), "0 2 4");
    specs[1].timestamp_ms = 6001; // a new one by size and then by time
    append_n(&w, specs, 2, 1000);
    assert_string_equal(bases(&w), "0 2 4 6 7");
    world_free(&w);
}

static void what_was_appended_before_the_failure_stays(void **unused)
{
    (void)unused;
    struct world w = world_new();
    w.args.config.segment_bytes = 1000;
    world_open(&w);
    struct buf b = {0};
    batches_add(&b, &(struct batch_spec){.value_bytes = 400, .timestamp_ms = 1000});
    struct bytes in[4] = {{b.ptr, b.len}, {b.ptr, b.len}, {b.ptr, b.len}, {b.ptr, b.len}};
    struct log_span spans[4];
    size_t n_done;
    disk_sim_set_free(w.d, 2 * b.len + 500); // the first segment and its indexes
    assert_int_equal(log_append(w.l, in, 4, 1000, spans, &n_done), -ENOSPC);
    assert_int_equal(n_done, 2);
    assert_int_equal(log_end(w.l), 2);
    disk_sim_set_free(w.d, 10000);
    assert_int_equal(log_append(w.l, in, 1, 1000, spans, &n_done), 0);
    assert_int_equal(spans[0].base_offset, 2);
    assert_string_equal(bases(&w), "0 2");
    buf_free(&b);
    world_free(&w);
}

static void rolls_by_the_records_own_time(void **unused)
{
    (void)unused;
    struct world w = world_new();
    w.args.config.segment_ms = 5000;
    world_open(&w);
    append(&w, (struct batch_spec){.timestamp_ms = 1000});
    struct batch_spec timeless = {.timestamp_ms = -1};
    append_n(&w, &timeless, 1, 1000000); // says nothing about the time
    append(&w, (struct batch_spec){.timestamp_ms = 6000});
    assert_string_equal(bases(&w), "0");
    append(&w, (struct batch_spec){.timestamp_ms = 6001});
    assert_string_equal(bases(&w), "0 3");
    // Where the first has no time, the segment ages from when it was made.
    w.args.config.segment_bytes = 1;
    log_set_config(w.l, &w.args.config);
    append_n(&w, &timeless, 1, 10000);
    assert_string_equal(bases(&w), "0 3 4");
    w.args.config.segment_bytes = 1 << 20;
    log_set_config(w.l, &w.args.config);
    struct batch_spec late = {.timestamp_ms = 50000};
    append_n(&w, &late, 1, 15000);
    assert_string_equal(bases(&w), "0 3 4");
    append_n(&w, &timeless, 1, 15001);
    assert_string_equal(bases(&w), "0 3 4 6");
    world_free(&w);
}

static void rolls_when_an_index_is_full(void **unused)
{
    (void)unused;
    struct world w = world_new();
    w.args.config.index_interval_bytes = 0;
    w.args.config.segment_index_bytes = 40; // five entries by offset, three by time
    world_open(&w);
    for (int i = 0; i < 12; i++)
        append(&w, (struct batch_spec){.timestamp_ms = 1000}); // one entry by time
    assert_string_equal(bases(&w), "0 6");
    for (int i = 0; i < 12; i++)
        append(&w, (struct batch_spec){.timestamp_ms = 2000 + i});
    // Two entries by time are as many as a segment takes before it is full.
    assert_string_equal(bases(&w), "0 6 12 15 18 21");
    struct batch_spec specs[12];
    for (int i = 0; i < 12; i++)
        specs[i] = (struct batch_spec){.timestamp_ms = 3000};
    append_n(&w, specs, 12, 3000);
    assert_string_equal(bases(&w), "0 6 12 15 18 21 24 30");
    world_free(&w);
}

static void jitter_lets_segments_end_earlier_each_at_its_own_time(void **unused)
{
    (void)unused;
    struct world w = world_new();
    w.args.config.segment_ms = 100000;
    w.args.config.segment_jitter_ms = 50000;
    world_open(&w);
    int64_t at_ms = 0, begun_ms = 0, lengths[10];
    for (int n = 0; n < 10; at_ms += 100) {
        char before[4096];
        strcpy(before, bases(&w));
        append(&w, (struct batch_spec){.timestamp_ms = at_ms});
        if (strcmp(before, bases(&w)) == 0)
            continue;
        lengths[n++] = at_ms - begun_ms;
        begun_ms = at_ms;
    }
    bool differ = false;
    for (int i = 0; i < 10; i++) {
        assert_in_range(lengths[i], 50000, 100100);
        differ = differ || lengths[i] != lengths[0];
    }
    assert_true(differ);
    world_free(&w);
}

static int64_t retained_from(struct world *w, int64_t now_ms)
{
    bool moved;
    assert_int_equal(log_retain(w->l, now_ms, log_end(w->l), &moved), 0);
    return log_start(w->l);
}

static void retention_by_size_to_the_byte(void **unused)
{
    (void)unused;
    struct world w = world_new();
    w.args.config.segment_bytes = 1000;
    w.args.config.retention_ms = -1;
    world_open(&w);
    for (int i = 0; i < 6; i++)
        append(&w, (struct batch_spec){.value_bytes = 400, .timestamp_ms = 1000});
    int64_t all = (int64_t)log_bytes(w.l), one = all / 3;
    w.args.config.retention_bytes = all - one + 1;
    log_set_config(w.l, &w.args.config);
    assert_int_equal(retained_from(&w, 1 << 30), 0);
    w.args.config.retention_bytes = all - one;
    log_set_config(w.l, &w.args.config);
    assert_int_equal(retained_from(&w, 1 << 30), 2);
    w.args.config.retention_bytes = 1;
    log_set_config(w.l, &w.args.config);
    assert_int_equal(retained_from(&w, 1 << 30), 4);
    w.args.config.retention_bytes = 0; // the active segment, too
    log_set_config(w.l, &w.args.config);
    assert_int_equal(retained_from(&w, 1 << 30), 6);
    assert_int_equal(log_bytes(w.l), 0);
    world_free(&w);
}

static void records_without_a_time_age_from_their_writing(void **unused)
{
    (void)unused;
    struct world w = world_new();
    int64_t t = CLOCK_SIM_WALL_BEGIN_MS;
    w.args.config.segment_bytes = 1000;
    w.args.config.retention_ms = 5000;
    w.args.now_ms = t;
    disk_sim_set_time(w.d, 0);
    world_open(&w);
    struct batch_spec timeless = {.value_bytes = 400, .timestamp_ms = -1};
    for (int i = 0; i < 4; i++)
        append_n(&w, &timeless, 1, t);
    assert_int_equal(retained_from(&w, t + 5000), 0);
    // Also when the log was opened since.
    struct log_mark left;
    assert_int_equal(log_close_clean(w.l, &left), 0);
    w.args.was_clean = true;
    w.args.mark = &left;
    w.args.reserved_upto = 100;
    w.args.now_ms = t + 5000;
    world_open(&w);
    assert_int_equal(retained_from(&w, t + 5000), 0);
    assert_int_equal(retained_from(&w, t + 5001), 4);
    world_free(&w);
}

static void greatest(struct world *w, int64_t want_offset, int64_t want_ms)
{
    int64_t offset, ms;
    assert_int_equal(log_find_max_time(w->l, &offset, &ms), 0);
    assert_int_equal(offset, want_offset);
    assert_int_equal(ms, want_ms);
}

static void the_greatest_time_is_that_of_a_record_that_is_there(void **unused)
{
    (void)unused;
    struct world w = world_new();
    world_open(&w);
    greatest(&w, -1, -1);
    append(&w, (struct batch_spec){.count = 3, .timestamp_ms = 9000, .codec = 4}); // to 9002
    append(&w, (struct batch_spec){.count = 3, .timestamp_ms = 5000});
    append(&w, (struct batch_spec){.count = 3, .timestamp_ms = 7000, .codec = 1});
    greatest(&w, 2, 9002);
    log_trim(w.l, 2);
    greatest(&w, 2, 9002);
    log_trim(w.l, 3);
    greatest(&w, 8, 7002);
    log_trim(w.l, 9);
    greatest(&w, -1, -1);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_write_ends_where_the_segment_does),
        cmocka_unit_test(what_was_appended_before_the_failure_stays),
        cmocka_unit_test(rolls_by_the_records_own_time),
        cmocka_unit_test(rolls_when_an_index_is_full),
        cmocka_unit_test(jitter_lets_segments_end_earlier_each_at_its_own_time),
        cmocka_unit_test(retention_by_size_to_the_byte),
        cmocka_unit_test(records_without_a_time_age_from_their_writing),
        cmocka_unit_test(the_greatest_time_is_that_of_a_record_that_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
