#include "os/disk_sim.h"
#include "store/store.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char why[256];
static struct store_start start;

static int open_dir(struct disk *d, bool create, struct store **ret_store)
{
    struct store_config config = {
        .disk = d, .dir = "/data", .create = create, .fresh_cluster_id = {{1, 2, 3}}, .node_id = 1};
    return store_open(&config, ret_store, &start, why, sizeof why);
}

// A directory that has been in use once.
static struct disk *used_dir(void)
{
    struct disk *d = disk_sim_new(1);
    struct store *s;
    assert_int_equal(open_dir(d, true, &s), 0);
    assert_int_equal(disk_mkdir(d, store_journal_dir(s)), 0);
    assert_int_equal(store_ready(s), 0);
    assert_int_equal(store_close_clean(s, 17), 0);
    return d;
}

static void identity_survives_and_stops_are_told_apart(void **unused)
{
    (void)unused;
    struct disk *d = used_dir();
    struct store *s;
    assert_int_equal(open_dir(d, false, &s), 0);
    assert_false(start.is_new);
    assert_true(start.was_clean);
    assert_false(start.power_lost);
    assert_int_equal(start.journal_position, 17);
    assert_int_equal(start.cluster_id.b[2], 3);
    assert_int_equal(start.node_id, 1);
    // Not ready yet: the next start finds the same clean stop.
    store_close(s);
    assert_int_equal(open_dir(d, false, &s), 0);
    assert_true(start.was_clean);
    assert_int_equal(store_ready(s), 0);
    disk_sim_crash_process(d);
    store_close(s);

    assert_int_equal(open_dir(d, false, &s), 0);
    assert_false(start.was_clean);
    assert_false(start.power_lost);
    assert_int_equal(start.journal_position, -1);
    assert_int_equal(store_ready(s), 0);
    disk_sim_power_cut(d);
    store_close(s);

    // Power was lost; a crash before ready does not make that forgotten.
    for (int i = 0; i < 2; i++) {
        assert_int_equal(open_dir(d, false, &s), 0);
        assert_true(start.power_lost);
        store_close(s);
    }
    assert_int_equal(open_dir(d, false, &s), 0);
    assert_int_equal(store_ready(s), 0);
    store_close(s);
    assert_int_equal(open_dir(d, false, &s), 0);
    assert_false(start.power_lost);
    store_close(s);
    disk_free(d);
}

static void put_file(struct disk *d, const char *path, const char *text)
{
    struct disk_file *f;
    assert_int_equal(disk_open(d, path, DISK_WRITE | DISK_CREATE, &f), 0);
    assert_int_equal(disk_truncate(f, 0), 0);
    assert_int_equal(disk_pwrite(f, text, strlen(text), 0), 0);
    disk_close(f);
}

static void refused(struct disk *d, int error, const char *text)
{
    struct store *s;
    uint64_t before = disk_sim_ops(d);
    assert_int_equal(open_dir(d, false, &s), error);
    if (!strstr(why, text))
        fail_msg("\"%s\" does not say \"%s\"", why, text);
    assert_int_equal(disk_sim_ops(d), before);
}

static void bad_directories_are_refused_untouched(void **unused)
{
    (void)unused;
    struct store *s;
    struct disk *d = disk_sim_new(1);
    refused(d, -ENOENT, "/data: data directory does not exist");
    put_file(d, "/data", "x");
    refused(d, -ENOTDIR, "not a directory");
    disk_free(d);

    d = disk_sim_new(1);
    assert_int_equal(disk_mkdir(d, "/data"), 0);
    assert_int_equal(disk_mkdir(d, "/data/orders-0"), 0);
    refused(d, -ENOTEMPTY, "orders-0 but no meta");
    disk_free(d);

    d = used_dir();
    assert_int_equal(disk_rmdir(d, "/data/__tally_journal"), 0);
    refused(d, -ENOENT, "__tally_journal is missing: half copied");
    disk_free(d);

    d = used_dir();
    disk_sim_set_read_only(d, true);
    refused(d, -EROFS, "/data: not writable");
    disk_free(d);

    d = used_dir();
    assert_int_equal(open_dir(d, false, &s), 0);
    struct store *second;
    assert_int_equal(open_dir(d, false, &second), -EBUSY);
    assert_non_null(strstr(why, "in use by process 1"));
    store_close(s);
    disk_free(d);

    d = used_dir();
    assert_int_equal(disk_sim_flip_bit(d, "/data/meta", 40, 1), 0);
    refused(d, -EBADMSG, "/data/meta: damaged");
    disk_free(d);
}

static void newer_version_is_named(void **unused)
{
    (void)unused;
    struct disk *d = used_dir();
    // crc32c of the two lines, as a newer tally would write it.
    put_file(d, "/data/meta", "tally data directory\nversion 9\ncrc ac7c4afd\n");
    struct store *s;
    int r = open_dir(d, false, &s);
    if (r != -EPROTONOSUPPORT)
        fail_msg("%d %s", r, why);
    assert_non_null(strstr(why, "newer tally (format version 9, this one reads 1)"));
    disk_free(d);
}

static void crash_at_every_operation_keeps_the_directory_usable(void **unused)
{
    (void)unused;
    for (uint64_t at = 0; at < 60; at++) {
        struct disk *d = disk_sim_new(at);
        struct store *s;
        disk_sim_fail_at(d, at, -EIO);
        bool was_ready = false, was_clean = false;
        if (open_dir(d, true, &s) == 0) {
            if (disk_mkdir(d, store_journal_dir(s)) == 0 && disk_sync_dir(d, "/data") == 0 &&
                store_ready(s) == 0) {
                was_ready = true;
                was_clean = store_close_clean(s, 3) == 0;
            } else {
                store_close(s);
            }
        }
        disk_sim_heal(d);
        disk_sim_power_cut(d);
        int r = open_dir(d, true, &s);
        if (r < 0)
            fail_msg("operation %d: %d %s", (int)at, r, why);
        if (was_ready)
            assert_false(start.is_new);
        if (was_clean)
            assert_true(start.was_clean);
        store_close(s);
        disk_free(d);
    }
}

static void reserve_is_kept(void **unused)
{
    (void)unused;
    struct disk *d = used_dir();
    struct store *s;
    assert_int_equal(open_dir(d, false, &s), 0);
    assert_true(store_has_space(s));
    disk_sim_set_free(d, STORE_RESERVE_BYTES - 1);
    assert_int_equal(store_check_space(s), 0);
    assert_false(store_has_space(s));
    assert_false(store_has_room(s, 1));
    store_close(s);
    disk_free(d);
}

static void what_is_taken_between_two_looks_leaves_the_reserve_alone(void **unused)
{
    (void)unused;
    struct disk *d = used_dir();
    struct store *s;
    assert_int_equal(open_dir(d, false, &s), 0);
    disk_sim_set_free(d, STORE_RESERVE_BYTES + 1000);
    assert_int_equal(store_check_space(s), 0);
    assert_true(store_has_room(s, 600));
    disk_sim_set_free(d, STORE_RESERVE_BYTES + 400);
    assert_true(store_has_room(s, 400));
    disk_sim_set_free(d, STORE_RESERVE_BYTES);
    assert_false(store_has_room(s, 1));
    disk_sim_set_free(d, STORE_RESERVE_BYTES + 5);
    assert_false(store_has_room(s, 6));
    assert_true(store_has_room(s, 5)); // there is room again, and nobody had to wait for the clock
    store_close(s);
    disk_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identity_survives_and_stops_are_told_apart),
        cmocka_unit_test(bad_directories_are_refused_untouched),
        cmocka_unit_test(newer_version_is_named),
        cmocka_unit_test(crash_at_every_operation_keeps_the_directory_usable),
        cmocka_unit_test(reserve_is_kept),
        cmocka_unit_test(what_is_taken_between_two_looks_leaves_the_reserve_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
