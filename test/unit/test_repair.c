// Damaged logs, repaired: what is whole stays, what is lost is named, and no offset is used twice.

#include "../lib/key_log.h"
#include "base/prng.h"
#include "os/disk_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OFFSETS_MAX 2000

struct story {
    struct key_log k;
    struct prng p;
    struct log_repair plan;
    char *told[OFFSETS_MAX];   // owned: what stands at an offset
    char *now[OFFSETS_MAX];    // the same, read after the repair
    bool is_lost[OFFSETS_MAX]; // said so
    int64_t end;
    bool is_compacted;
};

static void say(void *ctx, const char *line)
{
    struct story *s = ctx;
    const char *range = strstr(line, "offsets ");
    long from = 0, to = -1;
    assert_non_null(strstr(line, "/t-0/0"));
    if (!range) {
        assert_non_null(strstr(line, "no offset is lost"));
        return;
    }
    assert_int_equal(sscanf(range, "offsets %ld to %ld are lost", &from, &to), 2);
    for (long i = from; i <= to && i < OFFSETS_MAX; i++)
        s->is_lost[i] = true;
}

// "0:a=1 [3] 4:b" into one text for each offset.
static void take(char *into[OFFSETS_MAX], const char *text)
{
    for (int i = 0; i < OFFSETS_MAX; i++) {
        free(into[i]);
        into[i] = NULL;
    }
    for (const char *at = text; *at;) {
        size_t len = strcspn(at, " ");
        const char *colon = memchr(at, ':', len);
        if (colon)
            into[strtol(at, NULL, 10)] = strndup(colon, len - (size_t)(colon - at));
        at += len + (at[len] == ' ');
    }
}

static void write_log(struct story *s, uint64_t seed)
{
    char value[200], record[300];
    struct key_log *k = &s->k;
    key_log_init(k, disk_sim_new(seed));
    prng_seed(&s->p, seed);
    key_log_open(k);
    k->producer_id = prng_chance(&s->p, 50) ? 7 : -1;
    k->codec = prng_chance(&s->p, 30) ? CODEC_LZ4 : CODEC_NONE;
    int n = 5 + (int)prng_below(&s->p, 40);
    for (int i = 0; i < n; i++) {
        memset(value, 'a' + i % 26, sizeof value);
        value[prng_below(&s->p, sizeof value)] = 0;
        snprintf(record, sizeof record, "k%d=%d%s more%d=", (int)prng_below(&s->p, 9), i, value, i);
        assert_int_equal(key_log_append(k, record), 0);
    }
    s->is_compacted = prng_chance(&s->p, 30);
    if (s->is_compacted)
        assert_int_equal(key_log_clean(k, log_end(k->l)), 0);
    s->end = log_end(k->l);
    take(s->told, key_log_read(k));
    k->args.reserved_upto = s->end + 7;
    if (prng_chance(&s->p, 50)) {
        assert_int_equal(key_log_close(k), 0);
        return;
    }
    assert_int_equal(log_sync(k->l), 0);
    k->args.synced = s->end;
    log_close(k->l);
    k->l = NULL;
}

static void free_story(struct story *s)
{
    take(s->told, "");
    take(s->now, "");
    key_log_free(&s->k);
}

static void damage_file(struct story *s, const char *path)
{
    struct disk_stat st;
    struct disk_file *f;
    assert_int_equal(disk_stat(s->k.d, path, &st), 0);
    uint64_t what = prng_below(&s->p, 10);
    // Where compaction was, nobody can tell that a segment is missing.
    if (what == 0 && !s->is_compacted) {
        assert_int_equal(disk_unlink(s->k.d, path), 0);
        return;
    }
    if (st.size == 0)
        return;
    if (what == 1) {
        assert_int_equal(disk_open(s->k.d, path, DISK_WRITE, &f), 0);
        assert_int_equal(disk_truncate(f, prng_below(&s->p, st.size)), 0);
        assert_int_equal(disk_sync(f), 0);
        disk_close(f);
        return;
    }
    for (uint64_t i = 0; i < 1 + what / 4; i++)
        assert_int_equal(disk_sim_flip_bit(s->k.d, path, prng_below(&s->p, st.size),
                                           (unsigned)prng_below(&s->p, 8)),
                         0);
}

static void damage(struct story *s)
{
    struct arena *a = arena_new();
    char **names;
    size_t n, logs = 0;
    assert_int_equal(disk_list(s->k.d, "/t-0", a, &names, &n), 0);
    for (size_t i = 0; i < n; i++)
        if (strstr(names[i], ".log"))
            names[logs++] = names[i];
    uint64_t files = 1 + prng_below(&s->p, 2);
    for (uint64_t i = 0; i < files && logs > 0; i++) {
        size_t chosen = prng_below(&s->p, logs--);
        damage_file(s, arena_printf(a, "/t-0/%s", names[chosen]));
        names[chosen] = names[logs];
    }
    arena_free(a);
}

static int repair(struct story *s)
{
    s->plan = (struct log_repair){.say = say, .ctx = s};
    memset(s->is_lost, 0, sizeof s->is_lost);
    s->k.args.repair = &s->plan;
    int r = key_log_try_open(&s->k);
    s->k.args.repair = NULL;
    return r;
}

static void check(struct story *s, bool was_told)
{
    struct key_log *k = &s->k;
    take(s->now, key_log_read(k));
    for (int64_t i = 0; i < s->end; i++) {
        if (s->now[i])
            assert_string_equal(s->now[i], s->told[i] ? s->told[i] : "nothing");
        else if (s->told[i] && was_told && !s->is_lost[i])
            fail_msg("offset %d is missing and nobody said so", (int)i);
    }
    assert_true(log_end(k->l) >= s->end);
}

static void goes_on(struct story *s)
{
    struct key_log *k = &s->k;
    k->producer_id = -1;
    k->now_ms = k->args.now_ms;
    int64_t end = log_end(k->l);
    assert_int_equal(key_log_append(k, "new=record"), 0);
    char wanted[40];
    snprintf(wanted, sizeof wanted, "%d:new=record", (int)end);
    assert_non_null(strstr(key_log_read(k), wanted));
    k->args.reserved_upto = end + 9;
    assert_int_equal(key_log_close(k), 0);
    key_log_open(k);
    assert_non_null(strstr(key_log_read(k), wanted));
    check(s, false);
    log_close(k->l);
    k->l = NULL;
    k->args.was_clean = false;
    k->args.mark = NULL;
    key_log_open(k);
    assert_non_null(strstr(key_log_read(k), wanted));
}

static void test_what_is_whole_stays(void **state)
{
    (void)state;
    int64_t n_places = 0, lost = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct story s = {0};
        write_log(&s, seed);
        damage(&s);
        if (repair(&s) < 0)
            fail_msg("seed %d: %s", (int)seed, s.k.report.text);
        check(&s, true);
        n_places += (int64_t)s.plan.n_places;
        lost += s.plan.lost_offsets;
        goes_on(&s);
        free_story(&s);
    }
    assert_true(n_places > 300 && lost > 300);
}

static void test_a_whole_log_is_left_alone(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct story s = {0};
        write_log(&s, seed);
        assert_int_equal(repair(&s), 0);
        assert_int_equal(s.plan.n_places, 0);
        check(&s, true);
        assert_int_equal(log_end(s.k.l), s.end);
        goes_on(&s);
        free_story(&s);
    }
}

static void test_nothing_is_left(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct story s = {0};
        write_log(&s, seed);
        assert_int_equal(log_remove_dir(s.k.d, "/t-0"), 0);
        s.k.args.leader_epoch = seed % 2 ? 3 : 0;
        assert_int_equal(repair(&s), 0);
        assert_int_equal(s.plan.n_places, 1);
        assert_string_equal(key_log_read(&s.k)[0] == '[' ? "[" : "", "[");
        goes_on(&s);
        free_story(&s);
    }
}

// The end comes at every operation of a repair: it can be repaired again, and nothing more is lost.
static void test_a_repair_that_ends_early(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        bool is_over = false;
        for (uint64_t at = 0; !is_over; at++) {
            struct story s = {0}, first;
            write_log(&s, seed);
            damage(&s);
            disk_sim_fail_at(s.k.d, at, -EIO);
            is_over = repair(&s) == 0;
            first = s;
            disk_sim_heal(s.k.d);
            log_close(s.k.l);
            s.k.l = NULL;
            if ((seed + at) % 2)
                disk_sim_power_cut(s.k.d);
            else
                disk_sim_crash_process(s.k.d);
            if (repair(&s) < 0)
                fail_msg("seed %d at %d: %s", (int)seed, (int)at, s.k.report.text);
            for (int i = 0; i < OFFSETS_MAX; i++)
                s.is_lost[i] = s.is_lost[i] || first.is_lost[i];
            check(&s, true);
            goes_on(&s);
            free_story(&s);
        }
    }
}

static void batch_of(int64_t base, const void *value, size_t len, struct buf *ret)
{
    struct batch_options o = batch_options_default;
    struct batch_builder builder = {0};
    o.base_offset = base;
    batch_builder_start(&builder, &o);
    batch_builder_add(&builder, 1000000, (struct bytes){(const uint8_t *)"k", 1},
                      (struct bytes){value, len}, NULL, 0);
    assert_int_equal(batch_builder_finish(&builder, ret), 0);
    batch_builder_free(&builder);
}

static void append_value(struct key_log *k, const void *value, size_t len)
{
    struct buf b = {0};
    struct log_span span;
    size_t n;
    batch_of(0, value, len, &b);
    struct bytes in = {b.ptr, b.len};
    assert_int_equal(log_append(k->l, &in, 1, k->now_ms, &span, &n), 0);
    buf_free(&b);
}

// Who keeps batches in records (a copy of another log, say) does not get them for records, and
// loses none behind them: neither where the batch around them is damaged, nor where it is cut.
static void test_a_batch_within_a_record(void **state)
{
    (void)state;
    const char *path = "/t-0/00000000000000000000.log";
    for (int how = 0; how < 4; how++) {
        struct story s = {0};
        struct buf within = {0};
        struct key_log *k = &s.k;
        key_log_init(k, disk_sim_new(1));
        key_log_open(k);
        batch_of(3, "no record", 9, &within);
        buf_add(&within, "more", 4);
        append_value(k, "first", 5);
        int64_t at = (int64_t)log_bytes(k->l);
        append_value(k, within.ptr, within.len);
        int64_t end = (int64_t)log_bytes(k->l);
        for (int i = 0; i < 4 && how < 2; i++)
            append_value(k, "behind", 6);
        buf_free(&within);
        s.end = log_end(k->l);
        k->args.reserved_upto = s.end + 7;
        assert_int_equal(log_sync(k->l), 0);
        k->args.synced = s.end;
        log_close(k->l);
        k->l = NULL;
        struct disk_file *f;
        assert_int_equal(disk_open(k->d, path, DISK_WRITE, &f), 0);
        if (how == 3) // cut, behind the batch within
            assert_int_equal(disk_truncate(f, (uint64_t)end - 2), 0);
        disk_close(f);
        // A bit of the first batch's checksum; or one of its length.
        if (how != 3)
            assert_int_equal(disk_sim_flip_bit(k->d, path, (uint64_t)at + (how == 1 ? 11 : 18), 1),
                             0);
        assert_int_equal(repair(&s), 0);
        const char *text = key_log_read(k);
        assert_null(strstr(text, "no record"));
        if (how < 2)
            assert_string_equal(text, "0:k=first [1] 2:k=behind 3:k=behind 4:k=behind 5:k=behind");
        free_story(&s);
    }
}

// Consumers ask where the epoch of their last record ended: an answer that is too low sends them
// back to there.
static void test_epochs_are_made_from_the_batches(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++) {
        struct story s = {0};
        struct key_log *k = &s.k;
        key_log_init(k, disk_sim_new(1));
        key_log_open(k);
        assert_int_equal(key_log_append(k, "a=1 b=2 c=3"), 0);
        assert_int_equal(log_sync(k->l), 0);
        log_close(k->l);
        // The machine goes down: the log goes on at the mark.
        disk_sim_power_cut(k->d);
        k->args.reserved_upto = 10;
        k->args.power_lost = true;
        key_log_open(k);
        k->args.power_lost = false;
        k->args.leader_epoch = 1;
        if (how < 2)
            assert_int_equal(key_log_append(k, "d=4"), 0);
        s.end = log_end(k->l);
        if (how % 2) {
            assert_int_equal(log_sync(k->l), 0);
            log_close(k->l);
            k->l = NULL;
            k->args.reserved_upto = s.end;
        } else {
            assert_int_equal(key_log_close(k), 0);
        }
        struct disk_file *f;
        assert_int_equal(disk_open(k->d, "/t-0/leader-epoch-checkpoint", DISK_WRITE, &f), 0);
        assert_int_equal(disk_pwrite(f, "x", 1, 0), 0);
        disk_close(f);
        assert_int_equal(repair(&s), 0);
        assert_int_equal(s.plan.n_places, 0);
        assert_string_equal(key_log_read(k),
                            how < 2 ? "0:a=1 1:b=2 2:c=3 10:d=4" : "0:a=1 1:b=2 2:c=3");
        int32_t epoch;
        int64_t end;
        log_epoch_end(k->l, 0, &epoch, &end);
        assert_int_equal(epoch, 0);
        assert_int_equal(end, 10);
        assert_int_equal(log_epoch(k->l), 1);
        assert_int_equal(log_end(k->l), s.end);
        free_story(&s);
    }
}

// What the journal was told of it can be lost with the power, the removal itself not.
static void test_what_retention_took_is_not_lost(void **state)
{
    (void)state;
    struct story s = {0};
    struct key_log *k = &s.k;
    char value[600] = "v=";
    bool has_moved;
    memset(value + 2, 'x', sizeof value - 3);
    key_log_init(k, disk_sim_new(1));
    key_log_open(k);
    for (int i = 0; i < 6; i++)
        assert_int_equal(key_log_append(k, value), 0);
    assert_int_equal(log_sync(k->l), 0);
    k->args.config.retention_bytes = 1500;
    k->args.config.compacts = false;
    log_set_config(k->l, &k->args.config);
    assert_int_equal(log_retain(k->l, k->now_ms, log_end(k->l), &has_moved), 0);
    assert_true(has_moved);
    int64_t start = log_start(k->l);
    assert_int_equal(log_sync(k->l), 0);
    s.end = log_end(k->l);
    log_close(k->l);
    k->l = NULL;
    disk_sim_power_cut(k->d);
    k->args.reserved_upto = s.end;
    k->args.power_lost = true;
    assert_int_equal(repair(&s), 0);
    assert_int_equal(s.plan.n_places, 0);
    assert_int_equal(log_start(k->l), start);
    free_story(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_retention_took_is_not_lost),
        cmocka_unit_test(test_epochs_are_made_from_the_batches),
        cmocka_unit_test(test_a_batch_within_a_record),
        cmocka_unit_test(test_what_is_whole_stays),
        cmocka_unit_test(test_a_whole_log_is_left_alone),
        cmocka_unit_test(test_nothing_is_left),
        cmocka_unit_test(test_a_repair_that_ends_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
