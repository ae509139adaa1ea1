#include "os/disk_sim.h"
#include "store/log.h"
#include "store/offsets_projection.h"

#include "schema.h"
#include "wire/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void groups_are_placed_as_java_hashes_them(void **unused)
{
    (void)unused;
    assert_int_equal(offsets_partition(STR("")), 0);
    assert_int_equal(offsets_partition(STR("orders")), 31);
    assert_int_equal(offsets_partition(STR("console-consumer-12345")), 6);
    assert_int_equal(offsets_partition(STR("gr\xc3\xb6\xc3\x9f\x65")), 7);
    assert_int_equal(offsets_partition(STR("\xf0\x9f\x98\x80-team")), 1);
    // Its hash is Integer.MIN_VALUE.
    assert_int_equal(offsets_partition(STR("polygenelubricants")), 0);
}

// What is handed out, as "partition key=value", keys and values in hexadecimal.
static const char *handed_out(struct offsets_projection *p)
{
    static char text[8192];
    int32_t partition, n;
    struct bytes bytes;
    text[0] = 0;
    while (offsets_projection_next(p, &partition, &bytes, &n)) {
        struct batch b;
        struct record_iter it;
        struct record rec;
        struct buf scratch = {0};
        assert_int_equal(batch_read(bytes, &b), 0);
        assert_true(batch_crc_matches(&b));
        assert_int_equal(b.count, n);
        assert_int_equal(record_iter_start(&it, &b, &scratch), 0);
        while (record_next(&it, &rec) > 0) {
            char *at = text + strlen(text);
            at += sprintf(at, "%d ", (int)partition);
            for (size_t i = 0; i < rec.key.len; i++)
                at += sprintf(at, "%02x", rec.key.ptr[i]);
            at += sprintf(at, "=");
            for (size_t i = 0; i < rec.value.len; i++)
                at += sprintf(at, "%02x", rec.value.ptr[i]);
            sprintf(at, "%s\n", rec.value.ptr ? "" : "null");
        }
        buf_free(&scratch);
    }
    return text;
}

static struct offsets_committed_record committed(int64_t offset, int64_t expire_ms)
{
    static struct offsets_committed_record_partition partition;
    static struct offsets_committed_record_topic t;
    partition = (struct offsets_committed_record_partition){
        .partition_index = 1, .committed_offset = offset, .leader_epoch = -1, .metadata = STR("m")};
    t = (struct offsets_committed_record_topic){
        .name = STR("tt"), .partitions = &partition, .n_partitions = 1};
    return (struct offsets_committed_record){
        .group_id = STR("g"), .wall_ms = 5, .expire_ms = expire_ms, .topics = &t, .n_topics = 1};
}

static struct group_generation_record generation(void)
{
    static struct group_generation_record_member m;
    m = (struct group_generation_record_member){.member_id = STR("a"),
                                                .instance_id = STR_NULL,
                                                .client_id = STR("c"),
                                                .client_host = STR("/h"),
                                                .session_timeout_ms = 6,
                                                .rebalance_timeout_ms = 7,
                                                .subscription = {(const uint8_t *)"S", 1},
                                                .assignment = {(const uint8_t *)"A", 1}};
    return (struct group_generation_record){.group_id = STR("g"),
                                            .generation = 3,
                                            .protocol_type = STR("consumer"),
                                            .protocol_name = STR("range"),
                                            .leader = STR("a"),
                                            .wall_ms = 9,
                                            .members = &m,
                                            .n_members = 1};
}

static void records_are_written_in_kafkas_format(void **unused)
{
    (void)unused;
    struct offsets_projection *p = offsets_projection_new();
    struct offsets_committed_record c = committed(66, -1);
    offsets_projection_add(p, &offsets_committed_record_msg, &c);
    assert_string_equal(handed_out(p), "3 0001000167000274740000"
                                       "0001="
                                       "0003"
                                       "0000000000000042"
                                       "ffffffff"
                                       "00016d"
                                       "0000000000000005\n");
    c = committed(67, 99);
    offsets_projection_add(p, &offsets_committed_record_msg, &c);
    assert_string_equal(handed_out(p), "3 00010001670002747400000001="
                                       "0001"
                                       "0000000000000043"
                                       "00016d"
                                       "0000000000000005"
                                       "0000000000000063\n");
    struct group_generation_record g = generation();
    offsets_projection_add(p, &group_generation_record_msg, &g);
    assert_string_equal(handed_out(p), "3 0002000167="
                                       "0003"
                                       "0008636f6e73756d6572"
                                       "00000003"
                                       "000572616e6765"
                                       "000161"
                                       "0000000000000009"
                                       "00000001"
                                       "000161"
                                       "ffff"
                                       "000163"
                                       "00022f68"
                                       "00000007"
                                       "00000006"
                                       "0000000153"
                                       "0000000141\n");
    struct group_removed_record gone = {.group_id = STR("g"), .wall_ms = 10};
    offsets_projection_add(p, &group_removed_record_msg, &gone);
    assert_string_equal(handed_out(p), "3 00010001670002747400000001=null\n3 0002000167=null\n");
    offsets_projection_add(p, &group_removed_record_msg, &gone);
    assert_string_equal(handed_out(p), "");
    offsets_projection_free(p);
}

// Of what was committed several times before it was handed out only the last is written.
static void the_last_offset_of_each_key_is_written(void **unused)
{
    (void)unused;
    const char *last = "3 00010001670002747400000001=0003000000000000004500000000"
                       "00036d6d6d0000000000000006\n";
    struct offsets_projection *p = offsets_projection_new();
    assert_false(offsets_projection_has_news(p));
    for (int64_t offset = 66; offset <= 69; offset++) {
        struct offsets_committed_record c = committed(offset, -1);
        if (offset == 69) {
            c.topics->partitions->metadata = STR("mmm"); // longer than what was held
            c.topics->partitions->leader_epoch = 0;
            c.wall_ms = 6;
        }
        offsets_projection_add(p, &offsets_committed_record_msg, &c);
    }
    assert_true(offsets_projection_has_news(p));
    assert_string_equal(handed_out(p), last);
    assert_false(offsets_projection_has_news(p));

    struct offsets_committed_record c = committed(70, -1);
    offsets_projection_add(p, &offsets_committed_record_msg, &c);
    int32_t one = 1;
    struct offsets_removed_record_topic t = {
        .name = STR("tt"), .partitions = &one, .n_partitions = 1};
    struct offsets_removed_record removed = {
        .group_id = STR("g"), .wall_ms = 7, .topics = &t, .n_topics = 1};
    offsets_projection_add(p, &offsets_removed_record_msg, &removed);
    assert_string_equal(handed_out(p), "3 00010001670002747400000001=null\n");

    offsets_projection_add(p, &offsets_committed_record_msg, &c);
    struct group_removed_record gone = {.group_id = STR("g"), .wall_ms = 10};
    offsets_projection_add(p, &group_removed_record_msg, &gone);
    assert_string_equal(handed_out(p), "3 00010001670002747400000001=null\n");
    offsets_projection_add(p, &offsets_committed_record_msg, &c); // is freed with the rest
    offsets_projection_free(p);
}

static void mark_counts_only_after_a_clean_stop(void **unused)
{
    (void)unused;
    struct disk *d = disk_sim_new(1);
    assert_int_equal(disk_mkdir(d, "/data"), 0);
    assert_false(offsets_projection_is_current(d, "/data", 7));
    assert_int_equal(offsets_projection_mark(d, "/data", 7), 0);
    assert_true(offsets_projection_is_current(d, "/data", 7));
    assert_false(offsets_projection_is_current(d, "/data", 8));
    assert_false(offsets_projection_is_current(d, "/data", -1));
    disk_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_are_placed_as_java_hashes_them),
        cmocka_unit_test(records_are_written_in_kafkas_format),
        cmocka_unit_test(the_last_offset_of_each_key_is_written),
        cmocka_unit_test(mark_counts_only_after_a_clean_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
