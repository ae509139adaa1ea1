#include "os/disk_sim.h"
#include "store/log.h"

#include "../lib/batches.h"
#include "base/prng.h"
#include "wire/batch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct log_mark left; // by the last clean stop

// What the owner of a log knows: the batches it appended, what was durable, what it reserved. The
// reservation stands in the journal, which is durable before it is used.
struct model {
    struct {
        int64_t base;
        int count;
        uint64_t seed;
        int32_t seq;
    } batches[600];
    size_t n;
    int64_t synced, reserved, start;
    int64_t end;     // of the last append that was answered
    int64_t attempt; // end of an append that may or may not have been written
    int32_t epoch;
    uint64_t next_seed;
    int32_t next_seq; // of the one producer
};

static struct log_report report;

static struct files *files; // of the test that wants few; else NULL

static struct log_open args_of(struct disk *d, const struct model *m, bool power_lost)
{
    struct log_open args = {.disk = d,
                            .files = files,
                            .dir = "/t-0",
                            .topic_id = {{7}},
                            .config = log_config_default,
                            .now_ms = 1000,
                            .power_lost = power_lost,
                            .reserved_upto = m->reserved,
                            .log_start = m->start,
                            .leader_epoch = m->epoch};
    args.config.segment_bytes = 2000;
    args.config.index_interval_bytes = 500;
    return args;
}

static int append(struct log *l, struct model *m, struct prng *p)
{
    struct batch_spec spec = {.count = 1 + (int)prng_below(p, 4),
                              .value_bytes = 20 + prng_below(p, 500),
                              .timestamp_ms = 1000 + (int64_t)m->next_seed,
                              .seed = m->next_seed * 1000,
                              .has_producer = 1,
                              .producer_id = 5,
                              .base_sequence = m->next_seq};
    if (!log_has_room(l, spec.count)) {
        m->reserved = log_end(l) + spec.count + 20; // small blocks, to meet their ends often
        log_reserved(l, m->reserved);
    }
    struct buf b = {0};
    batches_add(&b, &spec);
    struct bytes in = {b.ptr, b.len};
    struct log_span span;
    size_t n_done;
    m->next_seed++;
    m->batches[m->n].base = log_end(l);
    m->batches[m->n].count = spec.count;
    m->batches[m->n].seed = spec.seed;
    m->batches[m->n].seq = spec.base_sequence;
    m->attempt = log_end(l) + spec.count;
    int r = log_append(l, &in, 1, spec.timestamp_ms, &span, &n_done);
    buf_free(&b);
    m->n++;
    if (r < 0)
        return r;
    assert_true(span.base_offset >= m->end);
    m->end = span.end_offset;
    m->next_seq += spec.count;
    return 0;
}

// Appends, syncs in both ways, trims and retains until an operation fails.
static void run_script(struct log *l, struct disk *d, struct model *m, struct prng *p, int steps)
{
    bool is_syncing = false;
    for (int i = 0; i < steps; i++) {
        uint64_t what = prng_below(p, 13);
        int r = 0;
        struct disk_done done;
        bool moved;
        if (what < 7) {
            r = append(l, m, p);
        } else if (what < 9) {
            is_syncing |= log_sync_start(l, 1);
        } else if (what == 9 && is_syncing && disk_poll_done(d, &done)) {
            is_syncing = false;
            r = log_sync_done(l, done.error);
        } else if (what == 10) {
            r = log_sync(l);
        } else if (what == 11) {
            m->start = log_start(l) + (log_synced(l) - log_start(l)) / 4;
            log_trim(l, m->start);
            r = log_retain(l, 1000, log_synced(l), &moved);
        } else if (what == 12) {
            r = log_write_checkpoint(l);
        }
        m->synced = log_synced(l) > m->synced ? log_synced(l) : m->synced;
        if (r < 0)
            return;
    }
}

static void check_batch(const struct model *m, const struct batch *b)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->batches[i].base != b->base_offset || m->batches[i].count != b->count)
            continue;
        struct record_iter it;
        struct record rec;
        struct buf scratch = {0};
        char key[32];
        int len = snprintf(key, sizeof key, "%llu", (unsigned long long)m->batches[i].seed);
        assert_int_equal(record_iter_start(&it, b, &scratch), 0);
        assert_int_equal(record_next(&it, &rec), 1);
        bool same = rec.key.len == (size_t)len && !memcmp(rec.key.ptr, key, (size_t)len);
        buf_free(&scratch);
        if (same)
            return;
    }
    fail_msg("batch at %d was never appended", (int)b->base_offset);
}

// Everything that was durable is there, nothing that was not written; then the model forgets what
// was lost.
static void check_log(struct log *l, struct model *m)
{
    int64_t at = log_start(l), found_end = at;
    bool seen[600] = {0};
    while (at < log_end(l)) {
        struct log_slice s;
        assert_int_equal(log_read(l, at, 1 << 20, log_end(l), true, &s), 0);
        if (s.len == 0)
            break; // a gap at the end
        uint8_t *data = malloc(s.len);
        assert_int_equal(disk_pread_all(s.file, data, s.len, s.pos), 0);
        struct bytes rest = {data, s.len};
        struct batch b;
        int r;
        while ((r = batch_next(&rest, &b)) > 0) {
            assert_true(batch_crc_matches(&b));
            check_batch(m, &b);
            for (size_t i = 0; i < m->n; i++)
                if (m->batches[i].base == b.base_offset)
                    seen[i] = true;
            found_end = batch_last_offset(&b) + 1;
        }
        assert_int_equal(r, 0);
        free(data);
        at = s.end_offset;
        log_slice_release(&s);
    }
    size_t kept = 0;
    for (size_t i = 0; i < m->n; i++) {
        int64_t end = m->batches[i].base + m->batches[i].count;
        if (!seen[i] && end <= m->synced && end > log_start(l))
            fail_msg("durable batch at %d is gone, synced %d, start %d, end %d, %s",
                     (int)m->batches[i].base, (int)m->synced, (int)log_start(l), (int)log_end(l),
                     report.text);
        // Also when the start that found it missing was cut short before it could tell.
        bool is_told = m->batches[i].base >= report.lost_from && end <= report.lost_upto;
        if (!seen[i] && end <= m->end && end > log_start(l) && !is_told)
            fail_msg("batch at %d is gone, and %d to %d is said to be lost",
                     (int)m->batches[i].base, (int)report.lost_from, (int)report.lost_upto);
        if (seen[i] || end <= log_start(l))
            m->batches[kept++] = m->batches[i];
    }
    m->n = kept;
    assert_true(found_end <= m->attempt);
}

static void reopen_after(struct disk *d, struct model *m, bool power_lost, struct log **ret_log)
{
    struct log_open args = args_of(d, m, power_lost);
    struct log *l;
    int64_t answered = m->end;
    int r = log_open(&args, &l, &report);
    if (r < 0)
        fail_msg("%s%d %s", power_lost ? "power lost: " : "", r, report.text);
    // Every answered append survives the process; what the machine loses is said.
    if (power_lost) {
        assert_true(log_end(l) >= m->reserved);
        if (log_end(l) > report.lost_from || report.lost_from < answered)
            assert_true(report.lost_upto >= answered || report.lost_from >= answered);
        if (report.new_epoch)
            assert_true(log_epoch(l) > m->epoch);
    } else {
        assert_true(log_end(l) == answered || log_end(l) == m->attempt);
        assert_int_equal(report.lost_from, report.lost_upto);
    }
    m->epoch = log_epoch(l);
    assert_true(log_synced(l) == log_end(l));
    // Only what was durable is removed in the ordinary way; the rest was lost, and said to be.
    assert_true(log_start(l) <= m->synced);
    check_log(l, m);
    *ret_log = l;
}

// The log remembers the producer up to the last batch that is there, and nothing of lost ones.
static void check_producer(struct log *l, struct model *m)
{
    size_t last = m->n;
    while (last > 0 && m->batches[last - 1].base + m->batches[last - 1].count > log_end(l))
        last--;
    m->next_seq = 0;
    if (last == 0)
        return;
    int32_t next = m->batches[last - 1].seq + m->batches[last - 1].count;
    struct producer_batch original;
    struct producer_batch b = {.producer_id = 5, .first_seq = next, .last_seq = next + 100};
    assert_int_equal(producer_state_check(log_producers(l), &b, &original), PRODUCER_APPEND);
    m->next_seq = next;
    // Its records may all have left the log, and the snapshot that remembered it be torn.
    if (m->batches[last - 1].base < log_start(l) && producer_state_count(log_producers(l)) == 0)
        return;
    b.first_seq = next + 1;
    assert_int_equal(producer_state_check(log_producers(l), &b, &original), PRODUCER_OUT_OF_ORDER);
}

static void crash_at_every_operation(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 4000; seed++) {
        files = seed % 2 ? files_new(1 + seed % 4) : NULL;
        struct disk *d = disk_sim_new(seed);
        struct prng p;
        struct model *m = calloc(1, sizeof *m);
        prng_seed(&p, seed);
        struct log_open args = args_of(d, m, false);
        struct log *l;
        assert_int_equal(log_open(&args, &l, &report), 0);
        for (int round = 0; round < 4; round++) {
            int error = prng_chance(&p, 20) ? -ENOSPC : -EIO;
            disk_sim_fail_at(d, prng_below(&p, 60), error);
            m->end = m->attempt = log_end(l);
            run_script(l, d, m, &p, 80);
            disk_sim_heal(d);
            bool power_lost = prng_chance(&p, 60);
            log_close(l);
            if (power_lost)
                disk_sim_power_cut(d);
            else
                disk_sim_crash_process(d);
            // Now and then the recovery is interrupted, too, or what follows it.
            while (prng_chance(&p, 30)) {
                args = args_of(d, m, power_lost);
                disk_sim_fail_at(d, prng_below(&p, 60), -EIO);
                if (log_open(&args, &l, &report) == 0)
                    log_close(l);
                disk_sim_heal(d);
                if (power_lost)
                    disk_sim_power_cut(d);
                else
                    disk_sim_crash_process(d);
            }
            reopen_after(d, m, power_lost, &l);
            m->synced = log_end(l);
            check_producer(l, m);
        }
        assert_int_equal(log_close_clean(l, &left), 0);
        disk_sim_power_cut(d);
        args = args_of(d, m, false);
        args.was_clean = true;
        args.mark = &left;
        int r = log_open(&args, &l, &report);
        if (r < 0)
            fail_msg("%d %s", r, report.text);
        assert_false(report.scanned);
        check_log(l, m);
        log_close(l);
        free(m);
        disk_free(d);
        files_free(files);
        files = NULL;
    }
}

static void append_bytes(struct log *l, struct model *m, struct prng *p, uint64_t bytes)
{
    for (uint64_t until = log_bytes(l) + bytes; log_bytes(l) < until; m->n = 0)
        assert_int_equal(append(l, m, p), 0);
}

// Small files and headers, beside what is counted.
#define OTHER_BYTES 20000

static void only_what_came_after_the_checkpoint_is_read(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct model *m = calloc(1, sizeof *m);
    struct prng p;
    prng_seed(&p, 1);
    struct log_open args = args_of(d, m, false);
    args.config.segment_bytes = 300000;
    args.config.index_interval_bytes = 20000;
    struct log *l;
    assert_int_equal(log_open(&args, &l, &report), 0);
    append_bytes(l, m, &p, 800000);
    assert_int_equal(log_sync(l), 0);
    assert_int_equal(log_write_checkpoint(l), 0);
    assert_false(log_checkpoint_due(l));
    uint64_t before = log_bytes(l);
    append_bytes(l, m, &p, 3000);
    uint64_t tail = log_bytes(l) - before;
    assert_true(log_checkpoint_due(l));
    assert_int_equal(log_unchecked_bytes(l), tail);
    int64_t end = log_end(l);
    log_close(l);
    disk_sim_crash_process(d);

    args.reserved_upto = m->reserved;
    uint64_t read = disk_sim_bytes_read(d);
    assert_int_equal(log_open(&args, &l, &report), 0);
    assert_int_equal(report.read_bytes, tail);
    assert_in_range(disk_sim_bytes_read(d) - read, tail, tail + OTHER_BYTES);
    assert_int_equal(log_end(l), end);
    assert_int_equal(log_close_clean(l, &left), 0);

    args.was_clean = true;
    args.mark = &left;
    read = disk_sim_bytes_read(d);
    assert_int_equal(log_open(&args, &l, &report), 0);
    assert_false(report.scanned);
    assert_int_equal(report.read_bytes, 0);
    assert_in_range(disk_sim_bytes_read(d) - read, 0, OTHER_BYTES);
    assert_int_equal(log_end(l), end);
    log_close(l);
    free(m);
    disk_free(d);
}

static void a_checkpoint_that_does_not_fit_is_passed_over(void **unused)
{
    (void)unused;
    static const char *const names[] = {"checkpoint", "00000000000000000000.index",
                                        "00000000000000000000.timeindex"};
    for (size_t i = 0; i < 3; i++) {
        struct disk *d = disk_sim_new(1);
        struct model *m = calloc(1, sizeof *m);
        struct prng p;
        prng_seed(&p, 1);
        struct log_open args = args_of(d, m, false);
        args.config.segment_bytes = 1 << 20;
        struct log *l;
        assert_int_equal(log_open(&args, &l, &report), 0);
        append_bytes(l, m, &p, 100000);
        int64_t end = log_end(l);
        assert_int_equal(log_close_clean(l, &left), 0);
        char path[64];
        snprintf(path, sizeof path, "/t-0/%s", names[i]);
        assert_int_equal(disk_sim_flip_bit(d, path, 20, 3), 0);
        args.reserved_upto = m->reserved;
        assert_int_equal(log_open(&args, &l, &report), 0);
        assert_true(report.read_bytes >= 100000);
        assert_int_equal(log_end(l), end);
        log_close(l);
        args.was_clean = true;
        args.mark = &left;
        assert_int_equal(disk_sim_flip_bit(d, path, 20, 3), 0);
        assert_int_equal(log_open(&args, &l, &report), 0);
        assert_int_equal(log_end(l), end);
        assert_true(i == 0 || report.text[0]);
        log_close(l);
        free(m);
        disk_free(d);
    }
}

static void append_one(struct log *l, uint64_t seed)
{
    struct buf b = {0};
    batches_add(&b, &(struct batch_spec){.count = 2, .seed = seed, .value_bytes = 200 * seed});
    struct bytes in = {b.ptr, b.len};
    struct log_span span;
    size_t n;
    log_reserved(l, log_end(l) + 1000);
    assert_int_equal(log_append(l, &in, 1, 1000, &span, &n), 0);
    buf_free(&b);
}

static void make_durable(struct disk *d, const char *path)
{
    struct disk_file *f;
    assert_int_equal(disk_open(d, path, DISK_READ, &f), 0);
    assert_int_equal(disk_sync(f), 0);
    disk_close(f);
}

// A power cut leaves a checkpoint's content and not its name; the start after it gives the name
// back with content that is not durable, and goes on where the log was cut; then the power fails
// again.
static void an_older_checkpoint_is_not_taken_for_the_newer(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed < 60; seed++) {
        struct disk *d = disk_sim_new(seed);
        struct model m = {0};
        struct log_open args = args_of(d, &m, false);
        struct log *l;
        assert_int_equal(log_open(&args, &l, &report), 0);
        append_one(l, 1);
        assert_int_equal(log_sync(l), 0);
        append_one(l, 2);
        assert_int_equal(log_write_checkpoint(l), 0);
        make_durable(d, "/t-0/checkpoint");
        assert_int_equal(disk_rename(d, "/t-0/checkpoint", "/t-0/checkpoint.tmp"), 0);
        assert_int_equal(disk_sync_dir(d, "/t-0"), 0);
        for (int64_t end = 4; end < 3000; end += 1002) {
            log_close(l);
            disk_sim_power_cut(d);
            args.power_lost = true;
            args.reserved_upto = end + 1000;
            int r = log_open(&args, &l, &report);
            if (r < 0)
                fail_msg("seed %d: %s", (int)seed, report.text);
            struct log_slice s = {0};
            int64_t last = args.synced > 2 ? args.synced - 2 : 0;
            assert_int_equal(log_read(l, last, 1 << 20, log_end(l), true, &s), 0);
            assert_int_equal(s.len > 0 ? s.first_offset : -1, last);
            log_slice_release(&s);
            append_one(l, 3);
            assert_int_equal(log_sync(l), 0);
            args.synced = log_end(l);
            args.leader_epoch = log_epoch(l);
        }
        log_close(l);
        disk_free(d);
    }
}

// A log that nothing was written to is stopped without a sync: its names are not durable yet.
static void what_is_written_after_a_quick_stop_is_durable(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct disk *d = disk_sim_new(seed);
        struct prng p;
        struct model *m = calloc(1, sizeof *m);
        prng_seed(&p, seed);
        struct log_open args = args_of(d, m, false);
        struct log *l;
        assert_int_equal(log_open(&args, &l, &report), 0);
        assert_int_equal(log_close_clean(l, &left), 0);
        args.was_clean = true;
        args.mark = &left;
        assert_int_equal(log_open(&args, &l, &report), 0);
        assert_int_equal(append(l, m, &p), 0);
        assert_int_equal(log_sync(l), 0);
        m->synced = log_synced(l);
        log_close(l);
        disk_sim_power_cut(d);
        reopen_after(d, m, true, &l);
        assert_true(log_end(l) >= m->end && report.lost_from >= m->end);
        log_close(l);
        free(m);
        disk_free(d);
    }
}

static void torn_tail_is_cut_and_told(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct model *m = calloc(1, sizeof *m);
    struct prng p;
    prng_seed(&p, 1);
    struct log_open args = args_of(d, m, false);
    struct log *l;
    assert_int_equal(log_open(&args, &l, &report), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(append(l, m, &p), 0);
    int64_t end = log_end(l);
    log_close(l);
    struct disk_file *f;
    uint64_t size;
    assert_int_equal(disk_open(d, "/t-0/00000000000000000000.log", DISK_WRITE, &f), 0);
    assert_int_equal(disk_size(f, &size), 0);
    assert_int_equal(disk_truncate(f, size - 7), 0);
    disk_close(f);
    args = args_of(d, m, false);
    assert_int_equal(log_open(&args, &l, &report), 0);
    assert_true(report.scanned);
    assert_int_equal(log_end(l), m->batches[2].base);
    assert_true(report.cut_bytes > 0);
    assert_non_null(strstr(report.text, "00000000000000000000.log: torn at byte"));
    assert_true(end > log_end(l));
    log_close(l);
    free(m);
    disk_free(d);
}

// A few batches in two segments, the first durable.
static struct disk *two_segments(struct model *m)
{
    struct disk *d = disk_sim_new(2);
    struct prng p;
    prng_seed(&p, 3);
    struct log_open args = args_of(d, m, false);
    struct log *l;
    assert_int_equal(log_open(&args, &l, &report), 0);
    while (log_bytes(l) < 3500)
        assert_int_equal(append(l, m, &p), 0);
    assert_int_equal(log_sync(l), 0);
    // Until the last segment holds three.
    for (int n = 0; n < 3; n++) {
        char path[64];
        struct disk_stat st;
        snprintf(path, sizeof path, "/t-0/%020d.log", (int)log_end(l));
        assert_int_equal(append(l, m, &p), 0);
        if (disk_stat(d, path, &st) == 0)
            n = 0;
    }
    log_close(l);
    return d;
}

static void damage_is_refused_with_its_place(void **unused)
{
    (void)unused;
    struct model *m = calloc(1, sizeof *m);
    struct disk *d = two_segments(m);
    struct log_open args = args_of(d, m, false);
    struct arena *a = arena_new();
    char **names;
    size_t n, n_logs = 0;
    assert_int_equal(disk_list(d, "/t-0", a, &names, &n), 0);
    const char *path = NULL; // the last segment: the one that is scanned
    for (size_t i = 0; i < n; i++) {
        if (!strstr(names[i], ".log"))
            continue;
        path = arena_printf(a, "/t-0/%s", names[i]);
        n_logs++;
    }
    for (unsigned bit = 0; bit < 8 * 70; bit++) {
        if (bit / 8 >= 12 && bit / 8 < 16)
            continue; // the leader epoch is outside of every crc
        assert_int_equal(disk_sim_flip_bit(d, path, bit / 8, bit % 8), 0);
        struct log *l;
        uint64_t ops = disk_sim_ops(d);
        int r = log_open(&args, &l, &report);
        if (r != -EBADMSG || !strstr(report.text, path))
            fail_msg("bit %u: %d %s", bit, r, report.text);
        assert_int_equal(disk_sim_ops(d), ops);
        assert_int_equal(disk_sim_flip_bit(d, path, bit / 8, bit % 8), 0);
    }
    assert_true(n_logs >= 2);
    arena_free(a);
    free(m);
    disk_free(d);
}

static void missing_segment_is_refused(void **unused)
{
    (void)unused;
    struct model *m = calloc(1, sizeof *m);
    struct disk *d = two_segments(m);
    struct log_open args = args_of(d, m, false);
    struct log *l;
    struct disk_file *f;
    assert_int_equal(disk_open(d, "/t-0/00000000000000000000.log", DISK_WRITE, &f), 0);
    assert_int_equal(disk_truncate(f, 0), 0);
    disk_close(f);
    assert_int_equal(log_open(&args, &l, &report), -EBADMSG);
    assert_non_null(strstr(report.text, ".log: is empty"));
    assert_int_equal(disk_unlink(d, "/t-0/00000000000000000000.log"), 0);
    assert_int_equal(log_open(&args, &l, &report), -ENOENT);
    assert_non_null(strstr(report.text, "are missing, though the log starts at 0"));
    free(m);
    disk_free(d);
}

static void skipped_sync_is_noticed(void **unused)
{
    (void)unused;
    int n_lost = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct disk *d = disk_sim_new(seed);
        struct model *m = calloc(1, sizeof *m);
        struct prng p;
        prng_seed(&p, seed);
        struct log_open args = args_of(d, m, false);
        struct log *l;
        assert_int_equal(log_open(&args, &l, &report), 0);
        assert_int_equal(append(l, m, &p), 0);
        assert_int_equal(log_sync(l), 0);
        assert_int_equal(append(l, m, &p), 0);
        disk_sim_skip_syncs(d, 1);
        assert_int_equal(log_sync(l), 0);
        int64_t synced = log_synced(l);
        log_close(l);
        disk_sim_power_cut(d);
        args = args_of(d, m, true);
        assert_int_equal(log_open(&args, &l, &report), 0);
        if (report.lost_from < synced)
            n_lost++;
        log_close(l);
        free(m);
        disk_free(d);
    }
    assert_true(n_lost > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash_at_every_operation),
        cmocka_unit_test(only_what_came_after_the_checkpoint_is_read),
        cmocka_unit_test(a_checkpoint_that_does_not_fit_is_passed_over),
        cmocka_unit_test(an_older_checkpoint_is_not_taken_for_the_newer),
        cmocka_unit_test(what_is_written_after_a_quick_stop_is_durable),
        cmocka_unit_test(torn_tail_is_cut_and_told),
        cmocka_unit_test(damage_is_refused_with_its_place),
        cmocka_unit_test(missing_segment_is_refused),
        cmocka_unit_test(skipped_sync_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
