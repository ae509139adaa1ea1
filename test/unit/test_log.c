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

static struct log_report report;
static const struct uuid topic = {{7}};

static struct log_open args_of(struct disk *d)
{
    struct log_open args = {
        .disk = d, .dir = "/t-0", .topic_id = topic, .config = log_config_default, .now_ms = 1000};
    return args;
}

static struct log *opened(const struct log_open *args)
{
    struct log *l = NULL;
    int r = log_open(args, &l, &report);
    if (r < 0)
        fail_msg("log_open: %d %s", r, report.text);
    return l;
}

static int64_t append(struct log *l, const struct batch_spec *spec)
{
    struct buf b = {0};
    struct log_span span;
    size_t n_done;
    batches_add(&b, spec);
    log_reserved(l, log_end(l) + 1000000);
    struct bytes in = {b.ptr, b.len};
    assert_int_equal(log_append(l, &in, 1, spec->timestamp_ms, &span, &n_done), 0);
    assert_int_equal(n_done, 1);
    buf_free(&b);
    assert_int_equal(span.end_offset, log_end(l));
    return span.base_offset;
}

// The offsets of the batches that a read gives, as "first-last first-last".
static const char *read_text(struct log *l, int64_t offset, uint32_t max, int64_t upper,
                             bool min_one)
{
    static char text[4096];
    struct log_slice s;
    int r = log_read(l, offset, max, upper, min_one, &s);
    if (r < 0) {
        snprintf(text, sizeof text, "error %d", r);
        return text;
    }
    text[0] = 0;
    if (s.len == 0)
        return text;
    uint8_t *data = malloc(s.len);
    assert_int_equal(disk_pread_all(s.file, data, s.len, s.pos), 0);
    struct bytes rest = {data, s.len};
    struct batch b;
    int64_t first = -1, end = -1;
    while ((r = batch_next(&rest, &b)) > 0) {
        assert_true(batch_crc_matches(&b));
        if (first < 0)
            first = b.base_offset;
        end = batch_last_offset(&b) + 1;
        size_t at = strlen(text);
        snprintf(text + at, sizeof text - at, "%s%d-%d", at ? " " : "", (int)b.base_offset,
                 (int)end - 1);
    }
    assert_int_equal(r, 0);
    assert_int_equal(rest.len, 0);
    assert_int_equal(s.first_offset, first);
    assert_int_equal(s.end_offset, end);
    free(data);
    log_slice_release(&s);
    return text;
}

static void batches_are_read_back_whole(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct log_open args = args_of(d);
    struct log *l = opened(&args);
    assert_int_equal(append(l, &(struct batch_spec){.count = 3}), 0);
    assert_int_equal(append(l, &(struct batch_spec){.count = 1, .codec = CODEC_ZSTD}), 3);
    assert_int_equal(append(l, &(struct batch_spec){.count = 2}), 4);
    assert_string_equal(read_text(l, 0, 1 << 20, 6, false), "0-2 3-3 4-5");
    assert_string_equal(read_text(l, 1, 1 << 20, 6, false), "0-2 3-3 4-5");
    assert_string_equal(read_text(l, 3, 1 << 20, 6, false), "3-3 4-5");
    assert_string_equal(read_text(l, 3, 1 << 20, 4, false), "3-3"); // high watermark
    assert_string_equal(read_text(l, 0, 1 << 20, 2, false), "");    // inside a batch
    assert_string_equal(read_text(l, 0, 10, 6, false), "");
    assert_string_equal(read_text(l, 0, 10, 6, true), "0-2");
    assert_string_equal(read_text(l, 6, 1 << 20, 6, true), "");
    assert_string_equal(read_text(l, 7, 1 << 20, 7, true), "error -34");
    log_trim(l, 4);
    assert_string_equal(read_text(l, 3, 1 << 20, 6, true), "error -34");
    assert_string_equal(read_text(l, 4, 1 << 20, 6, true), "4-5");
    log_close(l);
    disk_free(d);
}

static void reads_agree_with_a_list_of_batches(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct log_open args = args_of(d);
    args.config.segment_bytes = 20000;
    struct log *l = opened(&args);
    int64_t ends[400], bases[400];
    uint64_t sizes[400];
    struct prng p;
    prng_seed(&p, 5);
    for (int i = 0; i < 400; i++) {
        uint64_t before = log_bytes(l);
        struct batch_spec spec = {.count = 1 + (int)prng_below(&p, 4),
                                  .value_bytes = prng_below(&p, 900),
                                  .timestamp_ms = 1000 + i};
        bases[i] = append(l, &spec);
        ends[i] = log_end(l);
        sizes[i] = log_bytes(l) - before;
    }
    for (int n = 0; n < 3000; n++) {
        int64_t offset = (int64_t)prng_below(&p, (uint64_t)log_end(l));
        int64_t upper = ends[prng_below(&p, 400)];
        uint32_t max = (uint32_t)prng_below(&p, 6000);
        struct log_slice s;
        assert_int_equal(log_read(l, offset, max, upper, true, &s), 0);
        int i = 0;
        while (ends[i] <= offset)
            i++;
        if (ends[i] > upper) {
            assert_int_equal(s.len, 0);
            continue;
        }
        assert_int_equal(s.first_offset, bases[i]);
        uint64_t len = sizes[i];
        while (i + 1 < 400 && ends[i + 1] <= upper && len + sizes[i + 1] <= max &&
               s.end_offset > ends[i])
            len += sizes[++i];
        assert_int_equal(s.len, len);
        assert_int_equal(s.end_offset, ends[i]);
        // It stops early only at the end of a segment.
        if (i + 1 < 400 && ends[i + 1] <= upper && len + sizes[i + 1] <= max) {
            uint64_t size;
            assert_int_equal(disk_size(s.file, &size), 0);
            assert_int_equal(s.pos + s.len, size);
        }
        log_slice_release(&s);
    }
    log_close(l);
    disk_free(d);
}

static void several_batches_go_with_one_write(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct log_open args = args_of(d);
    struct log *l = opened(&args);
    struct buf b[3] = {{0}};
    struct bytes in[3];
    for (int i = 0; i < 3; i++) {
        batches_add(&b[i], &(struct batch_spec){.count = i + 1});
        in[i] = (struct bytes){b[i].ptr, b[i].len};
    }
    struct log_span spans[3];
    size_t n_done;
    log_reserved(l, 100);
    assert_int_equal(log_append(l, in, 1, 1000, spans, &n_done),
                     0); // makes the directory the log's
    assert_int_equal(log_sync(l), 0);
    uint64_t ops = disk_sim_ops(d);
    assert_int_equal(log_append(l, in, 3, 1000, spans, &n_done), 0);
    assert_int_equal(disk_sim_ops(d), ops + 1);
    assert_int_equal(spans[2].base_offset, 4);
    assert_int_equal(spans[2].end_offset, 7);
    // A full disk leaves nothing behind and does not stop the log.
    disk_sim_set_free(d, 100);
    assert_int_equal(log_append(l, in, 3, 1000, spans, &n_done), -ENOSPC);
    assert_int_equal(n_done, 0);
    disk_sim_set_free(d, 1 << 20);
    assert_int_equal(log_append(l, in, 1, 1000, spans, &n_done), 0);
    assert_int_equal(spans[0].base_offset, 7);
    assert_string_equal(read_text(l, 0, 1 << 20, 8, true), "0-0 1-1 2-3 4-6 7-7");
    // Any other failure does.
    disk_sim_fail_at(d, 0, -EIO);
    assert_int_equal(log_append(l, in, 1, 1000, spans, &n_done), -EIO);
    disk_sim_heal(d);
    assert_int_equal(log_append(l, in, 1, 1000, spans, &n_done), -EIO);
    for (int i = 0; i < 3; i++)
        buf_free(&b[i]);
    log_close(l);
    disk_free(d);
}

static void clean_stop_needs_no_scan_and_keeps_all(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct log_open args = args_of(d);
    args.config.segment_bytes = 3000;
    struct log *l = opened(&args);
    for (int i = 0; i < 40; i++)
        append(l, &(struct batch_spec){.count = 2,
                                       .value_bytes = 100,
                                       .timestamp_ms = 1000 + i,
                                       .has_producer = 1,
                                       .producer_id = 9,
                                       .base_sequence = 2 * i});
    log_trim(l, 5);
    uint64_t bytes = log_bytes(l);
    assert_int_equal(log_close_clean(l, &left), 0);
    args.was_clean = true;
    args.mark = &left;
    args.reserved_upto = 1000;
    for (int again = 0; again < 2; again++) {
        l = opened(&args);
        assert_false(report.scanned);
        assert_int_equal(log_start(l), 5);
        assert_int_equal(log_end(l), 80);
        assert_int_equal(log_synced(l), 80);
        assert_int_equal(log_bytes(l), bytes);
        struct producer_batch b = {.producer_id = 9, .first_seq = 70, .last_seq = 71}, original;
        assert_int_equal(producer_state_check(log_producers(l), &b, &original), PRODUCER_DUPLICATE);
        assert_int_equal(original.base_offset, 70);
        int64_t offset, time;
        assert_int_equal(log_find_time(l, 1021, 80, &offset, &time), 0);
        assert_int_equal(offset, 41); // batch 20 has 1020 and 1021
        assert_int_equal(time, 1021);
        // Untouched logs cost nothing at the next clean stop.
        uint64_t ops = disk_sim_ops(d);
        assert_int_equal(log_close_clean(l, &left), 0);
        assert_int_equal(disk_sim_ops(d), ops);
    }
    // Something took bytes away, or added some.
    struct disk_file *f;
    struct arena *a = arena_new();
    char **names;
    size_t n;
    assert_int_equal(disk_list(d, "/t-0", a, &names, &n), 0);
    const char *last = NULL;
    for (size_t i = 0; i < n; i++)
        if (strstr(names[i], ".log"))
            last = arena_printf(a, "/t-0/%s", names[i]);
    assert_int_equal(disk_open(d, last, DISK_WRITE, &f), 0);
    uint64_t size;
    assert_int_equal(disk_size(f, &size), 0);
    assert_int_equal(disk_truncate(f, size - 1), 0);
    assert_int_equal(log_open(&args, &l, &report), -EBADMSG);
    assert_non_null(strstr(report.text, "but was left with"));
    disk_close(f);
    arena_free(a);
    disk_free(d);
}

// Whatever bit of a sealed segment's index is flipped: each offset is still found, and it is told.
static void a_damaged_index_is_made_anew(void **unused)
{
    (void)unused;
    static const char *const names[] = {"index", "timeindex", "state"};
    for (unsigned i = 0; i < 3; i++)
        for (uint64_t pos = 0; pos < 24; pos++) {
            struct disk *d = disk_sim_new(1);
            struct log_open args = args_of(d);
            args.config.segment_bytes = 4000;
            args.config.index_interval_bytes = 300;
            struct log *l = opened(&args);
            for (int k = 0; k < 60; k++)
                append(l, &(struct batch_spec){
                              .count = 1, .value_bytes = 100, .timestamp_ms = 1000 + k});
            assert_int_equal(log_close_clean(l, &left), 0);
            char path[64];
            snprintf(path, sizeof path, "/t-0/00000000000000000000.%s", names[i]);
            assert_int_equal(disk_sim_flip_bit(d, path, pos, pos % 8), 0);
            args.was_clean = true;
            args.mark = &left;
            args.reserved_upto = 1000;
            l = opened(&args);
            for (int64_t at = 0; at < 60; at++) {
                struct log_slice s;
                assert_int_equal(log_read(l, at, 1, 60, true, &s), 0);
                assert_int_equal(s.first_offset, at);
                log_slice_release(&s);
                int64_t offset, time;
                assert_int_equal(log_find_time(l, 1000 + at, 60, &offset, &time), 0);
                assert_int_equal(offset, at);
            }
            assert_int_equal(log_take_rebuilt(l), 0);
            assert_int_equal(log_take_rebuilt(l), -1);
            log_close(l);
            disk_free(d);
        }
}

static void times_are_found_exactly(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct log_open args = args_of(d);
    args.config.segment_bytes = 4000;
    args.config.index_interval_bytes = 300;
    struct log *l = opened(&args);
    int64_t times[300];
    struct prng p;
    prng_seed(&p, 2);
    int n = 0;
    while (n < 297) {
        int count = 1 + (int)prng_below(&p, 3);
        int64_t ms = 5000 + 10 * n - (int64_t)prng_below(&p, 200);
        append(l, &(struct batch_spec){.count = count,
                                       .timestamp_ms = ms,
                                       .value_bytes = 60,
                                       .codec = (int)prng_below(&p, CODEC_COUNT)});
        for (int i = 0; i < count; i++)
            times[n++] = ms + i;
    }
    for (int reopened = 0; reopened < 2; reopened++) {
        for (int64_t t = 4700; t < 8100; t += 7) {
            int want = 0;
            while (want < n && times[want] < t)
                want++;
            int64_t offset, time;
            assert_int_equal(log_find_time(l, t, log_end(l), &offset, &time), 0);
            assert_int_equal(offset, want < n ? want : -1);
            assert_int_equal(time, want < n ? times[want] : -1);
        }
        int64_t offset, time;
        int max = 0;
        for (int i = 0; i < n; i++)
            if (times[i] > times[max])
                max = i;
        assert_int_equal(log_find_max_time(l, &offset, &time), 0);
        assert_int_equal(offset, max);
        assert_int_equal(time, times[max]);
        assert_int_equal(log_close_clean(l, &left), 0);
        args.was_clean = true;
        args.mark = &left;
        args.reserved_upto = log_end(l = opened(&args));
    }
    log_close(l);
    disk_free(d);
}

static void retention_removes_whole_segments(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct log_open args = args_of(d);
    args.config.segment_bytes = 1000;
    args.config.retention_ms = 1000;
    struct log *l = opened(&args);
    for (int i = 0; i < 20; i++)
        append(l, &(struct batch_spec){.value_bytes = 400, .timestamp_ms = 10000 + 100 * i});
    bool moved;
    assert_int_equal(log_retain(l, 11000, 20, &moved), 0);
    assert_false(moved);
    assert_int_equal(log_retain_due_ms(l), 10000 + 100 + 1000 + 1); // the first holds two
    // Not above the high watermark.
    assert_int_equal(log_retain(l, 13000, 3, &moved), 0);
    assert_true(moved);
    assert_int_equal(log_start(l), 2);
    assert_int_equal(log_retain(l, 11801, 20, &moved), 0);
    assert_int_equal(log_start(l), 8);
    // An active segment that is old is replaced by an empty one; offsets go on.
    assert_int_equal(log_retain(l, 50000, 20, &moved), 0);
    assert_int_equal(log_start(l), 20);
    assert_int_equal(log_end(l), 20);
    assert_int_equal(log_bytes(l), 0);
    assert_int_equal(log_retain_due_ms(l), INT64_MAX);
    assert_int_equal(append(l, &(struct batch_spec){.timestamp_ms = 60000}), 20);
    // By size: as many as keep at least retention.bytes.
    args.config.retention_bytes = 2000;
    log_set_config(l, &args.config);
    for (int i = 0; i < 20; i++)
        append(l, &(struct batch_spec){.value_bytes = 400, .timestamp_ms = 60000});
    assert_int_equal(log_retain(l, 60000, log_end(l), &moved), 0);
    assert_true(log_bytes(l) >= 2000 && log_bytes(l) < 3000);
    // Deleted records: what lies wholly below the start goes.
    log_trim(l, log_end(l));
    assert_int_equal(log_retain(l, 60000, log_end(l), &moved), 0);
    assert_true(log_bytes(l) < 1000);
    int64_t end = log_end(l);
    assert_int_equal(log_close_clean(l, &left), 0);
    args.was_clean = true;
    args.mark = &left;
    args.reserved_upto = 100;
    l = opened(&args);
    assert_int_equal(log_start(l), end);
    log_close(l);
    disk_free(d);
}

static void old_files_stay_readable_while_they_are_sent(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct log_open args = args_of(d);
    args.config.segment_bytes = 200;
    struct log *l = opened(&args);
    for (int i = 0; i < 10; i++)
        append(l, &(struct batch_spec){.value_bytes = 100, .timestamp_ms = 1000});
    struct log_slice s;
    assert_int_equal(log_read(l, 0, 1000, 10, true, &s), 0);
    bool moved;
    assert_int_equal(log_retain(l, INT64_MAX / 2, 10, &moved), 0);
    assert_true(moved);
    uint8_t data[100];
    assert_int_equal(disk_pread_all(s.file, data, sizeof data, s.pos), 0);
    log_slice_release(&s);
    log_close(l);
    disk_free(d);
}

static void rolls_by_time(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct log_open args = args_of(d);
    args.config.segment_ms = 5000;
    struct log *l = opened(&args);
    append(l, &(struct batch_spec){.timestamp_ms = 1000});
    append(l, &(struct batch_spec){.timestamp_ms = 6000});
    struct disk_stat st;
    assert_int_equal(disk_stat(d, "/t-0/00000000000000000001.log", &st), -ENOENT);
    append(l, &(struct batch_spec){.timestamp_ms = 6001});
    assert_int_equal(disk_stat(d, "/t-0/00000000000000000002.log", &st), 0);
    log_close(l);
    disk_free(d);
}

static void epoch_ends_are_answered_as_kafka_does(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct log_open args = args_of(d);
    struct log *l = opened(&args);
    append(l, &(struct batch_spec){.count = 10});
    assert_int_equal(log_epoch_begin(l, 3), 0); // at 10
    append(l, &(struct batch_spec){.count = 10});
    assert_int_equal(log_epoch_begin(l, 5), 0); // at 20
    append(l, &(struct batch_spec){.count = 10});
    static const struct {
        int32_t epoch, want_epoch;
        int64_t want_end;
    } rows[] = {{5, 5, 30}, {6, -1, -1}, {4, 3, 20}, {3, 3, 20}, {2, 0, 10}, {0, 0, 10}};
    int32_t epoch;
    int64_t end;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        log_epoch_end(l, rows[i].epoch, &epoch, &end);
        assert_int_equal(epoch, rows[i].want_epoch);
        assert_int_equal(end, rows[i].want_end);
    }
    log_trim(l, 15);
    log_epoch_end(l, 0, &epoch, &end);
    assert_int_equal(epoch, 0);
    assert_int_equal(end, 15);
    assert_int_equal(log_close_clean(l, &left), 0);
    args.was_clean = true;
    args.mark = &left;
    l = opened(&args);
    assert_int_equal(log_epoch(l), 5);
    log_close(l);
    disk_free(d);
}

static void leave_ten(const struct log_open *args)
{
    struct log *l = opened(args);
    append(l, &(struct batch_spec){.count = 10});
    log_close(l);
}

static void another_topics_rest_is_removed(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct log_open args = args_of(d);
    struct log *l;
    leave_ten(&args);
    memset(args.topic_id.b, 8, sizeof args.topic_id.b);
    l = opened(&args);
    assert_non_null(strstr(report.text, "deleted topic"));
    assert_int_equal(log_end(l), 0);
    log_close(l);
    assert_int_equal(log_remove_dir(d, "/t-0"), 0);
    assert_int_equal(log_remove_dir(d, "/t-0"), 0);
    args.reserved_upto = 10;
    assert_int_equal(log_open(&args, &l, &report), -ENOENT);
    assert_non_null(strstr(report.text, "half copied"));
    disk_free(d);
}

// A bit that flips in the name of the owner is no reason to throw its records away.
static void a_damaged_owner_is_no_other_topic(void **unused)
{
    (void)unused;
    char path[] = "/t-0/partition.metadata";
    struct disk_stat st = {.size = 1};
    for (uint64_t bit = 0; bit < st.size * 8; bit++) {
        struct disk *d = disk_sim_new(1);
        struct log_open args = args_of(d);
        struct log *l;
        leave_ten(&args);
        assert_int_equal(disk_stat(d, path, &st), 0);
        assert_int_equal(disk_sim_flip_bit(d, path, bit / 8, (unsigned)(bit % 8)), 0);
        args.reserved_upto = 10;
        args.power_lost = bit % 3 == 0;
        l = opened(&args);
        assert_true(bit / 8 < 25 || args.power_lost || strstr(report.text, "written anew"));
        assert_true(log_end(l) >= 10 && log_bytes(l) > 0);
        log_close(l);
        disk_free(d);
    }
}

static void another_owner_of_written_records_is_refused(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct log_open args = args_of(d);
    struct log *l;
    leave_ten(&args);
    struct uuid own = args.topic_id;
    memset(args.topic_id.b, 8, sizeof args.topic_id.b);
    args.reserved_upto = 10;
    assert_int_equal(log_open(&args, &l, &report), -EBADMSG);
    assert_non_null(strstr(report.text, "names another topic"));
    args.power_lost = true;
    args.synced = 3;
    assert_int_equal(log_open(&args, &l, &report), -EBADMSG);
    args.topic_id = own;
    l = opened(&args);
    assert_true(log_bytes(l) > 0);
    log_close(l);
    disk_free(d);
}

static void reservations_are_asked_for_in_time(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    struct log_open args = args_of(d);
    struct log *l = opened(&args);
    assert_false(log_has_room(l, 1));
    assert_true(log_reserve_due(l));
    assert_int_equal(log_reserve_wanted(l, 1), 1 + LOG_RESERVE_BLOCK);
    log_reserved(l, 1 + LOG_RESERVE_BLOCK);
    assert_true(log_has_room(l, 1 + LOG_RESERVE_BLOCK));
    assert_false(log_has_room(l, 2 + LOG_RESERVE_BLOCK));
    assert_false(log_reserve_due(l));
    log_close(l);
    disk_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_are_read_back_whole),
        cmocka_unit_test(reads_agree_with_a_list_of_batches),
        cmocka_unit_test(several_batches_go_with_one_write),
        cmocka_unit_test(clean_stop_needs_no_scan_and_keeps_all),
        cmocka_unit_test(a_damaged_index_is_made_anew),
        cmocka_unit_test(times_are_found_exactly),
        cmocka_unit_test(retention_removes_whole_segments),
        cmocka_unit_test(old_files_stay_readable_while_they_are_sent),
        cmocka_unit_test(rolls_by_time),
        cmocka_unit_test(epoch_ends_are_answered_as_kafka_does),
        cmocka_unit_test(another_topics_rest_is_removed),
        cmocka_unit_test(a_damaged_owner_is_no_other_topic),
        cmocka_unit_test(another_owner_of_written_records_is_refused),
        cmocka_unit_test(reservations_are_asked_for_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
