// Compaction of a log: which records stay, and that every crash leaves the one or the other.

#include "os/disk_sim.h"
#include "store/log.h"

#include "../lib/key_log.h"
#include "base/prng.h"
#include "base/siphash.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct key_log made(const char *first, ...)
{
    struct key_log k;
    key_log_init(&k, disk_sim_new(1));
    key_log_open(&k);
    va_list args;
    va_start(args, first);
    for (const char *batch = first; batch; batch = va_arg(args, const char *))
        assert_int_equal(batch[0] ? key_log_append(&k, batch) : key_log_roll(&k), 0);
    va_end(args);
    return k;
}

#define MADE(...) made(__VA_ARGS__, (const char *)NULL)

static void clean(struct key_log *k)
{
    assert_int_equal(key_log_clean(k, log_end(k->l)), 0);
}

static void the_last_record_of_a_key_stays(void **unused)
{
    (void)unused;
    struct key_log k = MADE("a=1 b=1 c=1", "a=2 d=1", "b=2", "");
    clean(&k);
    assert_string_equal(key_log_read(&k), "2:c=1 3:a=2 4:d=1 5:b=2 6:roll=");
    assert_int_equal(log_start(k.l), 0);
    assert_int_equal(log_end(k.l), 7);
    assert_int_equal(log_cleaned(k.l), 6);
    // The active segment is not looked at; of the sealed ones the next round takes all.
    assert_int_equal(key_log_append(&k, "c=2 d=2"), 0);
    clean(&k);
    assert_string_equal(key_log_read(&k), "2:c=1 3:a=2 4:d=1 5:b=2 6:roll= 7:c=2 8:d=2");
    assert_int_equal(key_log_roll(&k), 0);
    clean(&k);
    // An older batch's last offset is gone with it; the newest one's stays.
    assert_string_equal(key_log_read(&k), "3:a=2 5:b=2 6:roll= 7:c=2 8:d=2 9:roll=");
    clean(&k);
    assert_int_equal(log_cleaned(k.l), 9);
    key_log_free(&k);
}

static void nothing_is_cleaned_above_the_upper_offset(void **unused)
{
    (void)unused;
    struct key_log k = MADE("a=1", "", "a=2", "", "a=3", "");
    assert_int_equal(key_log_clean(&k, 2), 0); // in the second segment
    assert_string_equal(key_log_read(&k), "0:a=1 1:roll= 2:a=2 3:roll= 4:a=3 5:roll=");
    assert_int_equal(key_log_clean(&k, 3), 0);
    assert_string_equal(key_log_read(&k), "1:roll= 2:a=2 3:roll= 4:a=3 5:roll=");
    assert_int_equal(key_log_clean(&k, 6), 0);
    assert_string_equal(key_log_read(&k), "3:roll= 4:a=3 5:roll=");
    key_log_free(&k);
}

static void tombstones_go_when_their_day_has_come(void **unused)
{
    (void)unused;
    struct key_log k = MADE("a=1 b=1", "a b=2", "");
    clean(&k);
    assert_string_equal(key_log_read(&k), "2:a 3:b=2 4:roll=");
    // The first round gave it its day; a round before that keeps it.
    assert_int_equal(key_log_roll(&k), 0);
    k.now_ms += 999;
    clean(&k);
    assert_string_equal(key_log_read(&k), "2:a 3:b=2 4:roll= 5:roll=");
    k.now_ms += 1;
    assert_int_equal(key_log_roll(&k), 0);
    clean(&k);
    assert_string_equal(key_log_read(&k), "3:b=2 5:roll= 6:roll=");
    key_log_free(&k);
}

static void records_without_a_key_go(void **unused)
{
    (void)unused;
    struct key_log k = MADE("a=1 -=x", "-=y", "b=1", "");
    clean(&k);
    assert_string_equal(key_log_read(&k), "0:a=1 3:b=1 4:roll=");
    key_log_free(&k);
}

// Or the log would end before an offset that was given out, once the active segment is gone.
static void the_last_offset_below_the_active_segment_stays(void **unused)
{
    (void)unused;
    struct key_log k = MADE("a=1", "-=x -=y", "");
    clean(&k);
    assert_string_equal(key_log_read(&k), "0:a=1 [2] 3:roll=");
    key_log_free(&k);
}

static void a_producer_can_go_on_where_it_was(void **unused)
{
    (void)unused;
    struct key_log k;
    key_log_init(&k, disk_sim_new(1));
    key_log_open(&k);
    k.producer_id = 77;
    assert_int_equal(key_log_append(&k, "a=1 b=1"), 0);
    assert_int_equal(key_log_append(&k, "a=2"), 0);
    k.producer_id = -1;
    assert_int_equal(key_log_append(&k, "a=3 b=3"), 0);
    assert_int_equal(key_log_roll(&k), 0);
    clean(&k);
    assert_string_equal(key_log_read(&k), "[2] 3:a=3 4:b=3 5:roll=");
    // Also when its state is made again from what the log holds.
    log_close(k.l);
    for (int offset = 0; offset < 7; offset++) {
        char path[64];
        snprintf(path, sizeof path, "/t-0/%020d.producers", offset);
        int r = disk_unlink(k.d, path);
        assert_true(r == 0 || r == -ENOENT);
    }
    key_log_open(&k);
    struct producer_batch b = {.producer_id = 77, .first_seq = 3, .last_seq = 3}, original;
    assert_int_equal(producer_state_check(log_producers(k.l), &b, &original), PRODUCER_APPEND);
    b.first_seq = b.last_seq = 2;
    assert_int_equal(producer_state_check(log_producers(k.l), &b, &original), PRODUCER_DUPLICATE);
    assert_int_equal(original.last_offset, 2);
    key_log_free(&k);
}

static void codecs_stay(void **unused)
{
    (void)unused;
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        struct key_log k;
        key_log_init(&k, disk_sim_new(1));
        key_log_open(&k);
        k.codec = codec;
        assert_int_equal(key_log_append(&k, "a=1 b=1 c=1"), 0);
        assert_int_equal(key_log_append(&k, "b=2"), 0);
        assert_int_equal(key_log_roll(&k), 0);
        clean(&k);
        assert_string_equal(key_log_read(&k), "0:a=1 2:c=1 3:b=2 4:roll=");
        struct log_slice s;
        uint8_t header[61];
        assert_int_equal(log_read(k.l, 0, 1 << 20, 5, true, &s), 0);
        assert_int_equal(disk_pread_all(s.file, header, sizeof header, s.pos), 0);
        assert_int_equal(header[22], codec);
        log_slice_release(&s);
        key_log_free(&k);
    }
}

static void lags_and_the_ratio_decide_when(void **unused)
{
    (void)unused;
    struct key_log k = MADE("a=1", "");
    double ratio;
    bool wants;
    struct log_config c = k.args.config;
    c.min_dirty_ratio = 0.5;
    c.min_compaction_lag_ms = 1000;
    log_set_config(k.l, &c);
    assert_int_equal(log_clean_look(k.l, k.now_ms + 999, 2, &ratio, &wants), 0);
    assert_false(wants);
    assert_int_equal(log_clean_look(k.l, k.now_ms + 1000, 2, &ratio, &wants), 0);
    assert_true(wants && ratio > 0.99);
    clean(&k); // not yet: its clock did not go on
    assert_int_equal(log_cleaned(k.l), 0);
    k.now_ms += 1000;
    clean(&k);
    assert_int_equal(log_cleaned(k.l), 1);
    // Two thirds of it are dirty, and the oldest of that is a second old.
    c.min_compaction_lag_ms = 0;
    log_set_config(k.l, &c);
    assert_int_equal(key_log_append(&k, "b=123"), 0);
    assert_int_equal(key_log_roll(&k), 0);
    log_set_config(k.l, &c);
    assert_int_equal(log_clean_look(k.l, k.now_ms, 4, &ratio, &wants), 0);
    assert_true(wants);
    c.min_dirty_ratio = 0.9;
    log_set_config(k.l, &c);
    assert_int_equal(log_clean_look(k.l, k.now_ms, 4, &ratio, &wants), 0);
    assert_false(wants);
    c.max_compaction_lag_ms = 5000;
    log_set_config(k.l, &c);
    assert_int_equal(log_clean_look(k.l, k.now_ms + 4000, 4, &ratio, &wants), 0);
    assert_false(wants);
    assert_int_equal(log_clean_look(k.l, k.now_ms + 4001, 4, &ratio, &wants), 0);
    assert_true(wants);
    c.compacts = false;
    log_set_config(k.l, &c);
    assert_int_equal(log_clean_look(k.l, k.now_ms + 4001, 4, &ratio, &wants), 0);
    assert_false(wants);
    key_log_free(&k);
}

static void holes_are_counted(void **unused)
{
    (void)unused;
    struct key_log k = MADE("a=1 b=1 c=1", "a=2 d=1", "b=2", "");
    assert_int_equal(log_holes(k.l, 0, 7), 0);
    clean(&k); // 2:c 3:a 4:d 5:b 6:roll
    for (int again = 0; again < 2; again++) {
        assert_int_equal(log_holes(k.l, 0, 7), 2);
        assert_int_equal(log_holes(k.l, 0, 2), 2);
        assert_int_equal(log_holes(k.l, 1, 2), 1);
        assert_int_equal(log_holes(k.l, 1, 3), 1);
        assert_int_equal(log_holes(k.l, 2, 7), 0);
        assert_int_equal(key_log_close(&k), 0);
        key_log_open(&k); // now they are counted from the log
    }
    key_log_free(&k);
}

// What a key's value is must be the same before and after; the random log against a plain list.

static void fill(struct key_log *k, struct prng *p, int n)
{
    for (int i = 0; i < n; i++) {
        char batch[400] = "";
        for (uint64_t r = prng_below(p, 4) + 1; r > 0; r--) {
            size_t at = strlen(batch);
            int key = (int)prng_below(p, 30);
            snprintf(batch + at, sizeof batch - at, "%sk%d%s%d", at ? " " : "", key,
                     prng_chance(p, 20) ? "" : "=", i);
            if (!strchr(batch + at, '='))
                snprintf(batch + at, sizeof batch - at, "%sk%d", at ? " " : "", key);
        }
        k->codec = (int)prng_below(p, CODEC_COUNT);
        k->producer_id = prng_chance(p, 30) ? (int64_t)prng_below(p, 3) : -1;
        k->sequence = i;
        if (key_log_append(k, batch) < 0 || (prng_chance(p, 10) && key_log_roll(k) < 0))
            return;
    }
}

// "k3=17 ...": the newest value of each key, tombstones left out.
static void newest(const char *text, char ret[2048])
{
    char values[64][24] = {{0}};
    for (const char *at = text; *at;) {
        size_t len = strcspn(at, " ");
        int offset, key, used = 0;
        if (sscanf(at, "%d:k%d%n", &offset, &key, &used) == 2)
            snprintf(values[key], sizeof values[key], "%.*s", (int)(len - (size_t)used), at + used);
        at += len + (at[len] == ' ');
    }
    ret[0] = 0;
    for (int i = 0; i < 64; i++) {
        size_t at = strlen(ret);
        if (values[i][0])
            snprintf(ret + at, 2048 - at, "k%d%s ", i, values[i]);
    }
}

static void every_key_keeps_its_value(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed < 30; seed++) {
        struct key_log k;
        key_log_init(&k, disk_sim_new(seed));
        key_log_open(&k);
        struct prng p;
        prng_seed(&p, seed);
        char before[2048], after[2048];
        for (int round = 0; round < 4; round++) {
            fill(&k, &p, 60);
            newest(key_log_read(&k), before);
            int64_t end = log_end(k.l);
            uint64_t bytes = log_bytes(k.l);
            clean(&k);
            newest(key_log_read(&k), after);
            assert_string_equal(before, after);
            assert_true(log_bytes(k.l) < bytes);
            assert_int_equal(log_end(k.l), end);
            if (round == 2) {
                assert_int_equal(key_log_close(&k), 0);
                key_log_open(&k);
                newest(key_log_read(&k), after);
                assert_string_equal(before, after);
            }
            k.now_ms += 600;
        }
        key_log_free(&k);
    }
}

// The end at every operation on the disk.

enum end { END_KILL, END_POWER, END_ERROR, ENDS };

static void prepare(struct key_log *k, uint64_t seed)
{
    key_log_init(k, disk_sim_new(seed));
    key_log_open(k);
    struct prng p;
    prng_seed(&p, seed);
    fill(k, &p, 40);
    assert_int_equal(log_sync(k->l), 0);
    assert_int_equal(key_log_clean(k, log_end(k->l)), 0);
    fill(k, &p, 20);
    assert_int_equal(log_sync(k->l), 0);
    k->now_ms += 2000;
}

static void check_after(struct key_log *k, const char *before, int64_t end, uint64_t at)
{
    char after[2048];
    k->args.synced = end;
    k->args.reserved_upto = end;
    int r = key_log_try_open(k);
    if (r < 0)
        fail_msg("after operation %d: %s", (int)at, k->report.text);
    newest(key_log_read(k), after);
    assert_string_equal(before, after);
    assert_int_equal(log_end(k->l), end);
    struct arena *a = arena_new();
    char **names;
    size_t n;
    assert_int_equal(disk_list(k->d, "/t-0", a, &names, &n), 0);
    for (size_t i = 0; i < n; i++)
        assert_null(strstr(names[i], ".cleaned"));
    arena_free(a);
    // And it goes on.
    assert_int_equal(key_log_append(k, "k0=x"), 0);
    assert_int_equal(key_log_roll(k), 0);
    newest(key_log_read(k), after);
    assert_int_equal(key_log_clean(k, log_end(k->l)), 0);
    char again[2048];
    newest(key_log_read(k), again);
    assert_string_equal(after, again);
}

// True: the round came to its end before.
static bool end_at(uint64_t seed, uint64_t at, enum end how)
{
    struct key_log k;
    char before[2048];
    prepare(&k, seed);
    newest(key_log_read(&k), before);
    int64_t end = log_end(k.l);
    disk_sim_fail_at(k.d, at, -EIO);
    int r = key_log_clean(&k, end);
    if (r == 0) // what is not due to compaction alone: the clean stop
        r = key_log_close(&k);
    else
        log_close(k.l);
    k.l = NULL;
    disk_sim_heal(k.d);
    if (how == END_POWER && r < 0) {
        disk_sim_power_cut(k.d);
        k.args.power_lost = true;
    } else if (how == END_KILL) {
        disk_sim_crash_process(k.d);
    }
    check_after(&k, before, end, at);
    key_log_free(&k);
    return r == 0;
}

static void every_crash_leaves_every_value(void **unused)
{
    (void)unused;
    uint64_t n = 0;
    for (uint64_t seed = 1; seed < 6; seed++)
        for (int how = 0; how < ENDS; how++)
            for (uint64_t at = 0; !end_at(seed, at, (enum end)how); at++)
                n++;
    print_message("%d ends\n", (int)n);
    assert_true(n > 200);
}

static void a_clean_stop_ends_a_round_at_any_step(void **unused)
{
    (void)unused;
    for (int steps = 0;; steps++) {
        struct key_log k;
        static const struct siphash_key hash = {{1, 2}};
        char before[2048], after[2048];
        prepare(&k, 3);
        newest(key_log_read(&k), before);
        int64_t end = log_end(k.l);
        struct log_clean_report report = {0};
        log_clean_begin(k.l, k.now_ms, end, 1 << 20, &hash, 5);
        for (int i = 0; i < steps && !report.is_over; i++) {
            struct disk_done done;
            assert_true(disk_poll_done(k.d, &done));
            assert_int_equal(log_clean_done(k.l, done.error, &report), 0);
        }
        assert_int_equal(key_log_close(&k), 0);
        k.args.reserved_upto = end;
        key_log_open(&k);
        newest(key_log_read(&k), after);
        assert_string_equal(before, after);
        key_log_free(&k);
        if (report.is_over) {
            assert_true(steps > 2);
            break;
        }
    }
}

// The disk is full from the given step on: the round ends in order, and what comes after it finds
// everything. False: the round was over before.
static bool full_at(int steps, int what_then)
{
    struct key_log k;
    static const struct siphash_key hash = {{1, 2}};
    char before[2048], after[2048];
    prepare(&k, 3);
    newest(key_log_read(&k), before);
    int64_t end = log_end(k.l), start = 0;
    struct log_clean_report report = {0};
    log_clean_begin(k.l, k.now_ms, end, 1 << 20, &hash, 5);
    bool is_full = false;
    for (int i = 0; !report.is_over; i++) {
        struct disk_done done;
        is_full = i == steps || is_full;
        disk_sim_set_free(k.d, is_full ? 0 : 1ull << 40);
        assert_true(disk_poll_done(k.d, &done));
        assert_int_equal(log_clean_done(k.l, done.error, &report), 0);
    }
    newest(key_log_read(&k), after);
    assert_string_equal(before, after);
    if (what_then == 0) { // tried again
        disk_sim_set_free(k.d, 1ull << 40);
        assert_int_equal(key_log_clean(&k, end), 0);
    } else if (what_then == 1 ||
               what_then == 3) { // room is made by retention, which may take what was written
        bool has_moved;
        disk_sim_set_free(k.d, 1 << 20); // the spare
        start = log_synced(k.l);
        log_trim(k.l, start);
        assert_int_equal(log_retain(k.l, k.now_ms, start, &has_moved), 0);
        newest(key_log_read(&k), before);
    }
    log_close(k.l);
    k.l = NULL;
    disk_sim_set_free(k.d, 1ull << 40);
    if (what_then == 3) { // and the power takes what the journal was told of that
        disk_sim_power_cut(k.d);
        k.args.power_lost = true;
        if (key_log_try_open(&k) < 0)
            fail_msg("after step %d: %s", steps, k.report.text);
    } else {
        disk_sim_crash_process(k.d);
        k.args.log_start = start;
        check_after(&k, before, end, (uint64_t)steps);
    }
    key_log_free(&k);
    return is_full;
}

static void a_disk_that_fills_up_ends_a_round_at_any_step(void **unused)
{
    (void)unused;
    for (int what_then = 0; what_then < 4; what_then++) {
        int steps = 0;
        while (full_at(steps, what_then))
            steps++;
        assert_true(steps > 2);
    }
}

static void a_damaged_segment_is_left_alone(void **unused)
{
    (void)unused;
    struct key_log k = MADE("a=1 b=1", "a=2", "", "a=3", "");
    char before[200];
    snprintf(before, sizeof before, "%s", key_log_read(&k));
    assert_int_equal(disk_sim_flip_bit(k.d, "/t-0/00000000000000000000.log", 70, 3), 0);
    static const struct siphash_key hash = {{1, 2}};
    log_clean_begin(k.l, k.now_ms, log_end(k.l), 1 << 20, &hash, 5);
    struct disk_done done;
    struct log_clean_report report;
    assert_true(disk_poll_done(k.d, &done));
    assert_int_equal(log_clean_done(k.l, done.error, &report), 0);
    assert_true(report.is_over && report.is_bad);
    assert_non_null(strstr(report.text, "/t-0/00000000000000000000.log: damaged at byte 0"));
    assert_int_equal(disk_sim_flip_bit(k.d, "/t-0/00000000000000000000.log", 70, 3), 0);
    assert_string_equal(key_log_read(&k), before);
    // A full disk: later, perhaps.
    disk_sim_set_free(k.d, 1000);
    assert_int_equal(key_log_clean(&k, log_end(k.l)), 0);
    assert_string_equal(key_log_read(&k), before);
    disk_sim_set_free(k.d, 1ull << 40);
    clean(&k);
    assert_string_equal(key_log_read(&k), "1:b=1 3:roll= 4:a=3 5:roll=");
    key_log_free(&k);
}

static void a_small_map_takes_several_rounds(void **unused)
{
    (void)unused;
    struct key_log k = MADE("a=1 b=1 c=1 d=1", "", "e=1 f=1 a=2 b=2", "", "c=2 d=2 g=1", "");
    static const struct siphash_key hash = {{1, 2}};
    int rounds = 0;
    for (int64_t cleaned = -1; cleaned < log_cleaned(k.l); rounds++) {
        cleaned = log_cleaned(k.l);
        log_clean_begin(k.l, k.now_ms, log_end(k.l), (uint64_t)4 * 24, &hash, 5); // three keys
        struct log_clean_report report = {0};
        while (!report.is_over) {
            struct disk_done done;
            assert_true(disk_poll_done(k.d, &done));
            assert_int_equal(log_clean_done(k.l, done.error, &report), 0);
        }
    }
    assert_true(rounds > 4);
    assert_string_equal(key_log_read(&k),
                        "5:e=1 6:f=1 7:a=2 8:b=2 9:roll= 10:c=2 11:d=2 12:g=1 13:roll=");
    key_log_free(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_record_of_a_key_stays),
        cmocka_unit_test(nothing_is_cleaned_above_the_upper_offset),
        cmocka_unit_test(tombstones_go_when_their_day_has_come),
        cmocka_unit_test(records_without_a_key_go),
        cmocka_unit_test(the_last_offset_below_the_active_segment_stays),
        cmocka_unit_test(a_producer_can_go_on_where_it_was),
        cmocka_unit_test(codecs_stay),
        cmocka_unit_test(lags_and_the_ratio_decide_when),
        cmocka_unit_test(holes_are_counted),
        cmocka_unit_test(every_key_keeps_its_value),
        cmocka_unit_test(every_crash_leaves_every_value),
        cmocka_unit_test(a_clean_stop_ends_a_round_at_any_step),
        cmocka_unit_test(a_disk_that_fills_up_ends_a_round_at_any_step),
        cmocka_unit_test(a_damaged_segment_is_left_alone),
        cmocka_unit_test(a_small_map_takes_several_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
