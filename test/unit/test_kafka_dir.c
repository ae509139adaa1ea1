// What is taken for a topic of Apache Kafka, and what is refused by name.

#include "os/disk_sim.h"
#include "store/kafka_dir.h"
#include "store/log.h"

#include "base/buf.h"
#include "wire/batch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char why[512];

static void put(struct disk *d, const char *path, const void *data, size_t len)
{
    struct disk_file *f;
    assert_int_equal(disk_open(d, path, DISK_WRITE | DISK_CREATE, &f), 0);
    assert_int_equal(disk_truncate(f, 0), 0);
    assert_int_equal(disk_pwrite(f, data, len, 0), 0);
    disk_close(f);
}

static struct disk *with_dirs(int n)
{
    struct disk *d = disk_sim_new(1);
    assert_int_equal(disk_mkdir(d, "/k"), 0);
    for (int i = 0; i < n; i++) {
        char path[32];
        snprintf(path, sizeof path, "/k/t-%d", i);
        assert_int_equal(disk_mkdir(d, path), 0);
    }
    return d;
}

static void add(struct buf *out, int64_t base, int32_t epoch, int attributes, int64_t producer)
{
    struct batch_options o = batch_options_default;
    o.base_offset = base;
    o.leader_epoch = epoch;
    o.attributes = (int16_t)attributes;
    o.producer_id = producer;
    o.producer_epoch = producer < 0 ? -1 : 0;
    o.base_sequence = producer < 0 ? -1 : 0;
    struct batch_builder b = {0};
    batch_builder_start(&b, &o);
    for (int i = 0; i < 2; i++)
        batch_builder_add(&b, 1000, (struct bytes){(const uint8_t *)"k", 1},
                          (struct bytes){(const uint8_t *)"v", 1}, NULL, 0);
    assert_int_equal(batch_builder_finish(&b, out), 0);
    batch_builder_free(&b);
}

static void add_marker(struct buf *out, int64_t base, bool is_commit, int64_t producer)
{
    size_t at = out->len;
    batch_append_end_marker(out, is_commit, producer, 0, 0, 1000);
    batch_set_base_offset(out->ptr + at, base);
}

static int check(struct disk *d, struct arena *a, struct kafka_topic *ret)
{
    why[0] = 0;
    return kafka_topic_check(d, "/k", "t", a, ret, why, sizeof why);
}

// One partition with one segment of these bytes: refused, and what is said.
static void refused(const struct buf *b, const char *words)
{
    struct disk *d = with_dirs(1);
    struct arena *a = arena_new();
    struct kafka_topic t;
    put(d, "/k/t-0/00000000000000000010.log", b->ptr, b->len);
    assert_true(check(d, a, &t) < 0);
    if (!strstr(why, words))
        fail_msg("\"%s\" is not in: %s", words, why);
    kafka_topic_free(&t);
    arena_free(a);
    disk_free(d);
}

static void bad_batches_are_named(void **unused)
{
    (void)unused;
    struct buf b = {0};
    add(&b, 10, 0, 0, -1);
    size_t one = b.len;
    add(&b, 11, 0, 0, -1);
    refused(&b, "/k/t-0/00000000000000000010.log: byte 79 (offset 11): offsets go back");
    b.ptr[one + 7] = 12;
    b.ptr[one + 70] ^= 1;
    refused(&b, "byte 79 (offset 12): damaged: the checksum");
    b.ptr[one + 16] = 1;
    refused(&b, "byte 79 (offset 12): records of a format before v2");
    b.len = one + 40;
    refused(&b, "byte 79 (offset 12): damaged, or torn");
    buf_clear(&b);
    add(&b, 9, 0, 0, -1);
    refused(&b, "byte 0 (offset 9): offsets go back");
    buf_free(&b);
}

static void transactions_must_have_ended_well(void **unused)
{
    (void)unused;
    struct buf b = {0};
    add(&b, 10, 0, BATCH_TRANSACTIONAL, 5);
    refused(&b, "a transaction that began at offset 10 did not end");
    size_t open = b.len;
    add_marker(&b, 12, false, 5);
    refused(&b, "(offset 12): ends an aborted transaction");
    b.len = open;
    add_marker(&b, 12, true, 5);
    struct disk *d = with_dirs(1);
    struct arena *a = arena_new();
    struct kafka_topic t;
    put(d, "/k/t-0/00000000000000000010.log", b.ptr, b.len);
    assert_int_equal(check(d, a, &t), 0);
    assert_int_equal(t.partitions[0].records, 2);
    assert_int_equal(t.partitions[0].end, 13);
    assert_int_equal(t.partitions[0].gaps, 13); // the marker is no record
    kafka_topic_free(&t);
    arena_free(a);
    disk_free(d);
    buf_free(&b);
}

static void directories_must_be_whole(void **unused)
{
    (void)unused;
    struct disk *d = with_dirs(3);
    struct arena *a = arena_new();
    struct kafka_topic t;
    assert_int_equal(check(d, a, &t), -ENOENT);
    assert_non_null(strstr(why, "/k/t-0: no segment is there"));
    assert_int_equal(disk_rmdir(d, "/k/t-1"), 0);
    assert_int_equal(check(d, a, &t), -ENOENT);
    assert_non_null(strstr(why, "2 directories of topic t, but one of them is t-2"));
    put(d, "/k/t-0/00000000000000000000.log.swap", "", 0);
    assert_int_equal(disk_mkdir(d, "/k/t-1"), 0);
    assert_int_equal(check(d, a, &t), -EBADMSG);
    assert_non_null(strstr(why, "compaction did not end there"));
    char **names;
    size_t n;
    assert_int_equal(kafka_dir_topics(d, "/k", a, &names, &n), 0);
    assert_int_equal(n, 1);
    assert_string_equal(names[0], "t");
    char *topic;
    int32_t index;
    assert_true(kafka_parse_dir("a-b-12", a, &topic, &index));
    assert_string_equal(topic, "a-b");
    assert_int_equal(index, 12);
    static const char *const others[] = {"a", "a-", "-1", "a-1x", "a-1.0f3-delete", "a-9999999999"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(kafka_parse_dir(others[i], a, &topic, &index));
    arena_free(a);
    disk_free(d);
}

// In and out: epochs, gaps and the log start come along, and nothing is left when it fails.

static void write_topic(struct disk *d)
{
    struct buf b = {0};
    add(&b, 10, 0, 0, -1); // 10 11
    add(&b, 14, 2, 0, -1); // 14 15: compacted before
    put(d, "/k/t-0/00000000000000000010.log", b.ptr, b.len);
    buf_clear(&b);
    add(&b, 16, 3, 0, -1);
    put(d, "/k/t-0/00000000000000000016.log", b.ptr, b.len);
    const char starts[] = "0\n2\nother 0 5\nt 0 11\n";
    put(d, "/k/log-start-offset-checkpoint", starts, sizeof starts - 1);
    buf_free(&b);
}

static struct log *open_copy(struct disk *d, struct log_open *args)
{
    struct log_report report;
    struct log *l;
    *args = (struct log_open){.disk = d,
                              .dir = "/data/t-0",
                              .topic_id = {{9}},
                              .config = log_config_default,
                              .now_ms = 1000,
                              .reserved_upto = 18,
                              .synced = 18,
                              .log_start = 11,
                              .leader_epoch = 3};
    int r = log_open(args, &l, &report);
    if (r < 0)
        fail_msg("%s", report.text);
    return l;
}

static void a_topic_comes_in_and_goes_out(void **unused)
{
    (void)unused;
    struct disk *d = with_dirs(1);
    struct arena *a = arena_new();
    struct kafka_topic t;
    write_topic(d);
    assert_int_equal(disk_mkdir(d, "/data"), 0);
    assert_int_equal(disk_sync_dir(d, "/"), 0);
    assert_int_equal(check(d, a, &t), 0);
    const struct kafka_partition *p = &t.partitions[0];
    assert_int_equal(p->start, 11);
    assert_int_equal(p->end, 18);
    assert_int_equal(p->gaps, 14);
    assert_int_equal(p->records, 6);
    assert_int_equal(p->epochs.n, 3);
    struct uuid id = {{9}};
    assert_int_equal(kafka_copy_in(d, &t, d, "/data", id, why, sizeof why), 0);
    disk_sim_power_cut(d);
    struct log_open args;
    struct log *l = open_copy(d, &args);
    assert_int_equal(log_start(l), 11);
    assert_int_equal(log_end(l), 18);
    assert_int_equal(log_epoch(l), 3);
    assert_int_equal(log_holes(l, 10, 18), 2);
    int32_t epoch;
    int64_t end;
    log_epoch_end(l, 2, &epoch, &end);
    assert_int_equal(end, 16);

    assert_int_equal(disk_mkdir(d, "/out"), 0);
    assert_int_equal(disk_mkdir(d, "/out/t-0"), 0);
    const char metadata[] = "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA";
    put(d, "/out/t-0/partition.metadata", metadata, sizeof metadata - 1);
    put(d, "/out/t-0/00000000000000000000.log", "", 0);
    assert_int_equal(kafka_copy_out(d, &l, 1, "t", id, d, "/out", why, sizeof why), 0);
    struct bytes content;
    assert_int_equal(disk_read_file(d, "/out/t-0/partition.metadata", 99, a, &content), 0);
    assert_string_equal((const char *)content.ptr, metadata);
    assert_int_equal(disk_read_file(d, "/out/log-start-offset-checkpoint", 99, a, &content), 0);
    assert_string_equal((const char *)content.ptr, "0\n1\nt 0 11\n");
    struct kafka_topic again;
    assert_int_equal(kafka_topic_check(d, "/out", "t", a, &again, why, sizeof why), 0);
    assert_int_equal(again.partitions[0].records, 6);
    assert_int_equal(again.partitions[0].start, 11);
    assert_int_equal(again.partitions[0].epochs.n, 3);
    struct disk_stat st;
    assert_int_equal(disk_stat(d, "/out/t-0/00000000000000000016.timeindex", &st), 0);
    assert_int_equal(kafka_copy_out(d, &l, 1, "t", id, d, "/out", why, sizeof why), -EEXIST);
    assert_non_null(strstr(why, "holds records already"));
    log_close(l);
    kafka_topic_free(&again);
    kafka_topic_free(&t);
    arena_free(a);
    disk_free(d);
}

static void what_fails_leaves_nothing(void **unused)
{
    (void)unused;
    for (uint64_t at = 0;; at++) {
        struct disk *d = with_dirs(1);
        struct arena *a = arena_new();
        struct kafka_topic t;
        struct uuid id = {{9}};
        write_topic(d);
        assert_int_equal(disk_mkdir(d, "/data"), 0);
        assert_int_equal(check(d, a, &t), 0);
        disk_sim_set_free(d, at * 20); // so far the disk has room
        int r = kafka_copy_in(d, &t, d, "/data", id, why, sizeof why);
        char **names;
        size_t n;
        assert_int_equal(disk_list(d, "/data", a, &names, &n), 0);
        assert_int_equal(n, r == 0 ? 1 : 0);
        if (r < 0)
            assert_non_null(strstr(why, "No space left"));
        kafka_topic_free(&t);
        arena_free(a);
        disk_free(d);
        if (r == 0) {
            assert_true(at > 10);
            break;
        }
    }
}

// The end comes at every operation: what is left is known for what it is, and the next import and
// the next export pass it by.
static void a_copy_that_ends_early_is_made_again(void **unused)
{
    (void)unused;
    bool is_over = false;
    for (uint64_t at = 0; !is_over; at++) {
        struct disk *kafka = with_dirs(1), *d = disk_sim_new(at);
        struct arena *a = arena_new();
        struct kafka_topic t;
        struct uuid id = {{9}};
        write_topic(kafka);
        assert_int_equal(disk_mkdir(d, "/data"), 0);
        assert_int_equal(disk_mkdir(d, "/out"), 0);
        assert_int_equal(disk_sync_dir(d, "/"), 0);
        assert_int_equal(check(kafka, a, &t), 0);
        disk_sim_fail_at(d, at, -EIO);
        is_over = kafka_copy_in(kafka, &t, d, "/data", id, why, sizeof why) == 0;
        disk_sim_heal(d);
        if (at % 2)
            disk_sim_power_cut(d);
        else
            disk_sim_crash_process(d);
        struct disk_stat st;
        if (disk_stat(d, "/data/t-0/partition.metadata", &st) == 0)
            assert_int_equal(log_remove_dir(d, "/data/t-0"), 0); // as the next start does
        assert_int_equal(kafka_copy_in(kafka, &t, d, "/data", id, why, sizeof why), 0);
        struct log_open args;
        struct log *l = open_copy(d, &args);
        disk_sim_fail_at(d, at, -EIO);
        if (kafka_copy_out(d, &l, 1, "t", id, d, "/out", why, sizeof why) < 0) {
            is_over = false;
            disk_sim_heal(d);
            assert_true(disk_stat(d, "/out/t-0", &st) < 0 || st.is_dir);
            if (disk_stat(d, "/out/t-0", &st) < 0)
                assert_int_equal(kafka_copy_out(d, &l, 1, "t", id, d, "/out", why, sizeof why), 0);
        }
        disk_sim_heal(d);
        struct kafka_topic again;
        assert_int_equal(kafka_topic_check(d, "/out", "t", a, &again, why, sizeof why), 0);
        assert_int_equal(again.partitions[0].records, 6);
        kafka_topic_free(&again);
        log_close(l);
        kafka_topic_free(&t);
        arena_free(a);
        disk_free(d);
        disk_free(kafka);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_batches_are_named),
        cmocka_unit_test(transactions_must_have_ended_well),
        cmocka_unit_test(directories_must_be_whole),
        cmocka_unit_test(a_topic_comes_in_and_goes_out),
        cmocka_unit_test(what_fails_leaves_nothing),
        cmocka_unit_test(a_copy_that_ends_early_is_made_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
