#include "os/disk_sim.h"
#include "store/journal.h"

#include "base/prng.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// The state the journal rebuilds here is the list of numbers it was given.
struct state {
    uint64_t numbers[16384];
    size_t n;
};

static int replay(void *ctx, const struct journal_entry *e)
{
    struct state *s = ctx;
    assert_int_equal(e->type, 7);
    assert_int_equal(e->version, 1);
    assert_true(e->body.len >= sizeof(uint64_t));
    memcpy(&s->numbers[s->n++], e->body.ptr, sizeof(uint64_t));
    return 0;
}

static struct journal_config config_of(struct disk *d, bool is_new)
{
    return (struct journal_config){
        .disk = d, .dir = "/j", .is_new = is_new, .clean_position = -1, .snapshot_bytes = 4096};
}

static int reopen(struct disk *d, bool is_new, struct state *s, struct journal **ret_j,
                  struct journal_report *report)
{
    struct journal_config config = config_of(d, is_new);
    s->n = 0;
    return journal_open(&config, replay, s, ret_j, report);
}

// One decision of `n` records with the next numbers, padded so that batches span sectors.
static int put(struct journal *j, uint64_t first, unsigned n)
{
    struct journal_batch b = {0};
    uint8_t body[300] = {0};
    for (unsigned i = 0; i < n; i++) {
        uint64_t v = first + i;
        memcpy(body, &v, sizeof v);
        journal_batch_add_raw(&b, 7, 1, (struct bytes){body, sizeof v + (v * 37) % 290});
    }
    uint64_t position;
    int r = journal_append(j, &b, &position);
    if (r == 0)
        assert_int_equal(position, journal_position(j));
    journal_batch_free(&b);
    return r;
}

static int snapshot(struct journal *j, const struct state *s)
{
    struct journal_snapshot *snap;
    int r = journal_snapshot_begin(j, &snap);
    if (r < 0)
        return r;
    for (size_t i = 0; i < s->n && r == 0; i++) {
        uint8_t body[8];
        memcpy(body, &s->numbers[i], 8);
        r = journal_snapshot_add_raw(snap, 7, 1, (struct bytes){body, 8});
    }
    if (r == 0)
        return journal_snapshot_commit(snap);
    journal_snapshot_abort(snap);
    return r;
}

static int put_soon(struct journal *j, uint64_t v)
{
    struct journal_batch b = {0};
    uint64_t position;
    journal_batch_add_raw(&b, 7, 1, (struct bytes){(const uint8_t *)&v, sizeof v});
    int r = journal_append_soon(j, &b, &position);
    if (r == 0)
        assert_int_equal(position, journal_position(j));
    journal_batch_free(&b);
    return r;
}

// What is to be written soon is written with the next append, flush, sync or when it is much, in
// its order; what was not is gone with the process.
static void batches_that_are_written_soon(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct journal *j;
    struct journal_report report;
    struct state s;
    assert_int_equal(reopen(d, true, &s, &j, &report), 0);
    uint64_t n = 0;
    assert_int_equal(put_soon(j, n++), 0);
    assert_int_equal(put_soon(j, n++), 0);
    assert_int_equal(put(j, n++, 1), 0);
    assert_int_equal(put_soon(j, n++), 0);
    assert_int_equal(journal_sync(j), 0);
    assert_int_equal(journal_synced(j), 4);
    while (n < 12000)
        assert_int_equal(put_soon(j, n++), 0);
    assert_int_equal(journal_flush(j), 0);
    assert_true(journal_sync_start(j, 42));
    for (int i = 0; i < 5; i++)
        assert_int_equal(put_soon(j, 7), 0);
    assert_int_equal(journal_position(j), n + 5);
    journal_close(j);

    assert_int_equal(reopen(d, false, &s, &j, &report), 0);
    assert_int_equal(s.n, n);
    for (uint64_t i = 0; i < n; i++)
        assert_int_equal(s.numbers[i], i);
    assert_int_equal(journal_position(j), n);
    journal_close(j);
    disk_free(d);
}

static void batches_come_back_in_order(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct journal *j;
    struct journal_report report;
    struct state s;
    assert_int_equal(reopen(d, true, &s, &j, &report), 0);
    assert_int_equal(s.n, 0);
    assert_int_equal(put(j, 0, 3), 0);
    assert_int_equal(put(j, 3, 1), 0);
    assert_int_equal(journal_position(j), 2);
    assert_int_equal(journal_synced(j), 0);
    assert_true(journal_sync_start(j, 42));
    assert_int_equal(put(j, 4, 1), 0);
    struct disk_done done;
    assert_true(disk_poll_done(d, &done));
    assert_int_equal(done.cookie, 42);
    assert_int_equal(journal_sync_done(j, done.error), 0);
    assert_int_equal(journal_synced(j), 2); // not the one appended meanwhile
    journal_close(j);

    assert_int_equal(reopen(d, false, &s, &j, &report), 0);
    assert_int_equal(s.n, 5);
    for (uint64_t i = 0; i < 5; i++)
        assert_int_equal(s.numbers[i], i);
    assert_int_equal(journal_position(j), 3);
    assert_string_equal(report.text, "");
    journal_close(j);
    disk_free(d);
}

static void snapshot_replaces_what_came_before(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct journal *j;
    struct journal_report report;
    struct state s;
    assert_int_equal(reopen(d, true, &s, &j, &report), 0);
    for (uint64_t i = 0; !journal_wants_snapshot(j); i++) {
        assert_int_equal(put(j, i, 1), 0);
        s.numbers[s.n++] = i;
    }
    assert_int_equal(snapshot(j, &s), 0);
    assert_false(journal_wants_snapshot(j));
    assert_int_equal(put(j, s.n, 2), 0);
    size_t n = s.n + 2;
    journal_close(j);

    assert_int_equal(reopen(d, false, &s, &j, &report), 0);
    assert_int_equal(s.n, n);
    for (uint64_t i = 0; i < n; i++)
        assert_int_equal(s.numbers[i], i);
    journal_close(j);

    struct arena *a = arena_new();
    char **names;
    size_t n_names;
    assert_int_equal(disk_list(d, "/j", a, &names, &n_names), 0);
    assert_int_equal(n_names, 2);
    arena_free(a);
    disk_free(d);
}

// What one run of the script has promised and done when it stopped.
struct promise {
    uint64_t synced; // numbers below were durable
    uint64_t given;  // numbers below were handed to the journal
};

// Appends, syncs and snapshots until an operation fails. Numbers go up by one.
static struct promise run_script(struct disk *d, struct state *s, bool is_new)
{
    struct promise p = {0};
    struct journal *j;
    struct journal_report report;
    if (reopen(d, is_new, s, &j, &report) < 0)
        return p;
    p.synced = p.given = s->n;
    for (unsigned step = 0; step < 24; step++) {
        unsigned n = 1 + step % 3;
        p.given = s->n + n;
        if (put(j, s->n, n) < 0)
            break;
        for (unsigned i = 0; i < n; i++) {
            s->numbers[s->n] = s->n;
            s->n++;
        }
        if (step % 4 == 3) {
            if (journal_sync(j) < 0)
                break;
            p.synced = s->n;
        }
        if (step % 9 == 8) {
            if (snapshot(j, s) < 0)
                break;
            p.synced = s->n;
        }
    }
    journal_close(j);
    return p;
}

static void check_after_crash(struct disk *d, struct promise p, bool is_new)
{
    struct journal *j;
    struct journal_report report;
    struct state s;
    int r = reopen(d, is_new, &s, &j, &report);
    if (r < 0)
        fail_msg("%d %s", r, report.text);
    assert_true(s.n >= p.synced);
    assert_true(s.n <= p.given);
    for (uint64_t i = 0; i < s.n; i++)
        assert_int_equal(s.numbers[i], i);
    // It goes on from here and nothing of what was cut comes back.
    size_t n = s.n;
    assert_int_equal(put(j, n, 2), 0);
    assert_int_equal(journal_sync(j), 0);
    journal_close(j);
    assert_int_equal(reopen(d, false, &s, &j, &report), 0);
    assert_int_equal(s.n, n + 2);
    journal_close(j);
}

static void power_cut_at_every_operation(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        for (uint64_t at = 0;; at++) {
            struct disk *d = disk_sim_new(seed * 1000 + at);
            struct state s = {0};
            disk_sim_fail_at(d, at, -EIO);
            struct promise p = run_script(d, &s, true);
            bool is_done = disk_sim_ops(d) <= at;
            disk_sim_heal(d);
            if (seed % 3 == 0)
                disk_sim_crash_process(d);
            else
                disk_sim_power_cut(d);
            check_after_crash(d, p, p.synced == 0);
            disk_free(d);
            if (is_done)
                break;
        }
    }
}

static void power_cut_inside_recovery(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct disk *d = disk_sim_new(seed);
        struct state s = {0};
        disk_sim_fail_at(d, 20 + seed, -EIO);
        struct promise p = run_script(d, &s, true);
        disk_sim_heal(d);
        disk_sim_power_cut(d);
        disk_sim_fail_at(d, seed % 5, -EIO);
        struct journal *j;
        struct journal_report report;
        if (reopen(d, p.synced == 0, &s, &j, &report) == 0)
            journal_close(j);
        disk_sim_heal(d);
        disk_sim_power_cut(d);
        check_after_crash(d, p, p.synced == 0);
        disk_free(d);
    }
}

static void skipped_sync_is_noticed_by_this_test(void **unused)
{
    (void)unused;
    unsigned n_lost = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct disk *d = disk_sim_new(seed);
        struct journal *j;
        struct journal_report report;
        struct state s;
        assert_int_equal(reopen(d, true, &s, &j, &report), 0);
        disk_sim_skip_syncs(d, 1);
        assert_int_equal(put(j, 0, 3), 0);
        assert_int_equal(journal_sync(j), 0);
        journal_close(j);
        disk_sim_power_cut(d);
        assert_int_equal(reopen(d, false, &s, &j, &report), 0);
        if (s.n == 0)
            n_lost++;
        journal_close(j);
        disk_free(d);
    }
    assert_true(n_lost > 0);
}

static void every_flipped_bit_of_durable_batches_is_refused(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(3);
    struct journal *j;
    struct journal_report report;
    struct state s;
    assert_int_equal(reopen(d, true, &s, &j, &report), 0);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(put(j, i, 1), 0);
        assert_int_equal(journal_sync(j), 0);
    }
    uint64_t size;
    struct disk_file *f;
    const char *path = "/j/00000000000000000001.journal";
    // Of the last batch nobody can tell whether it ever was durable; the ones before are known.
    assert_int_equal(put(j, 5, 1), 0);
    journal_close(j);
    assert_int_equal(disk_open(d, path, DISK_READ, &f), 0);
    assert_int_equal(disk_size(f, &size), 0);
    disk_close(f);
    uint64_t last = 28 + 8 + 8 + (5 * 37) % 290;
    for (uint64_t pos = 0; pos < size - last; pos++) {
        if (pos >= 12 && pos < 16)
            continue; // spare bytes of the header are under its crc too
        assert_int_equal(disk_sim_flip_bit(d, path, pos, (unsigned)pos), 0);
        int r = reopen(d, false, &s, &j, &report);
        if (r != -EBADMSG)
            fail_msg("byte %d gave %d %s", (int)pos, r, report.text);
        assert_non_null(strstr(report.text, path));
        assert_int_equal(disk_sim_flip_bit(d, path, pos, (unsigned)pos), 0);
    }
    assert_int_equal(reopen(d, false, &s, &j, &report), 0);
    assert_int_equal(s.n, 6);
    journal_close(j);
    disk_free(d);
}

// A process that dies leaves what it wrote in the order it wrote it: a bad batch before a good one
// is damage. A machine that goes down may leave just that.
static void a_bad_batch_before_a_good_one(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(5);
    struct journal *j;
    struct journal_report report;
    struct state s;
    assert_int_equal(reopen(d, true, &s, &j, &report), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(put(j, i, 1), 0);
    journal_close(j);
    uint64_t second = 32 + 28 + 8 + 8;
    assert_int_equal(disk_sim_flip_bit(d, "/j/00000000000000000001.journal", second + 30, 1), 0);
    struct journal_config config = config_of(d, false);
    config.has_same_boot = true;
    s.n = 0;
    assert_int_equal(journal_open(&config, replay, &s, &j, &report), -EBADMSG);
    assert_non_null(strstr(report.text, "batch 2 is not readable, and good ones stand behind it"));
    assert_int_equal(reopen(d, false, &s, &j, &report), 0);
    assert_int_equal(s.n, 1);
    assert_non_null(strstr(report.text, "torn tail"));
    journal_close(j);
    disk_free(d);
}

static void newer_missing_and_shortened_files_are_refused(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(4);
    struct journal *j;
    struct journal_report report;
    struct state s;
    assert_int_equal(reopen(d, false, &s, &j, &report), -ENOENT);
    assert_int_equal(reopen(d, true, &s, &j, &report), 0);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(put(j, i, 1), 0);
    assert_int_equal(journal_sync(j), 0);
    uint64_t position = journal_position(j);
    journal_close(j);

    // After a clean stop a shorter file was not left by us.
    struct journal_config config = config_of(d, false);
    config.clean_position = (int64_t)position;
    s.n = 0;
    assert_int_equal(journal_open(&config, replay, &s, &j, &report), 0);
    journal_close(j);
    struct disk_file *f;
    uint64_t size;
    assert_int_equal(disk_open(d, "/j/00000000000000000001.journal", DISK_WRITE, &f), 0);
    assert_int_equal(disk_size(f, &size), 0);
    assert_int_equal(disk_truncate(f, size - 28 - 8 - 8 - 4 * 37), 0);
    s.n = 0;
    assert_int_equal(journal_open(&config, replay, &s, &j, &report), -EBADMSG);
    assert_non_null(strstr(report.text, "was left at 5"));
    disk_close(f);
    assert_int_equal(disk_unlink(d, "/j/00000000000000000001.journal"), 0);
    assert_int_equal(reopen(d, false, &s, &j, &report), -ENOENT);
    disk_free(d);
}

static void full_disk_leaves_the_journal_usable(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(5);
    struct journal *j;
    struct journal_report report;
    struct state s;
    assert_int_equal(reopen(d, true, &s, &j, &report), 0);
    assert_int_equal(put(j, 0, 1), 0);
    disk_sim_set_free(d, 20);
    assert_int_equal(put(j, 1, 1), -ENOSPC);
    disk_sim_set_free(d, 1 << 20);
    assert_int_equal(put(j, 1, 1), 0);
    journal_close(j);
    assert_int_equal(reopen(d, false, &s, &j, &report), 0);
    assert_int_equal(s.n, 2);
    journal_close(j);
    disk_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_come_back_in_order),
        cmocka_unit_test(batches_that_are_written_soon),
        cmocka_unit_test(snapshot_replaces_what_came_before),
        cmocka_unit_test(power_cut_at_every_operation),
        cmocka_unit_test(power_cut_inside_recovery),
        cmocka_unit_test(skipped_sync_is_noticed_by_this_test),
        cmocka_unit_test(every_flipped_bit_of_durable_batches_is_refused),
        cmocka_unit_test(a_bad_batch_before_a_good_one),
        cmocka_unit_test(newer_missing_and_shortened_files_are_refused),
        cmocka_unit_test(full_disk_leaves_the_journal_usable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
