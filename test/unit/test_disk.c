#include "os/disk.h"
#include "store/log.h"

#include "../lib/batches.h"
#include "../lib/key_log.h"
#include "base/siphash.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct log_mark left; // by the last clean stop

// The real disk, in a temporary directory.

static char dir[64];

static const char *in_dir(struct arena *a, const char *name)
{
    return arena_printf(a, "%s/%s", dir, name);
}

static int setup(void **unused)
{
    (void)unused;
    snprintf(dir, sizeof dir, "/tmp/tally-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **unused)
{
    (void)unused;
    struct disk *d;
    if (disk_new(&d) < 0)
        return -1;
    int r = log_remove_dir(d, dir);
    disk_free(d);
    return r;
}

static void files_are_written_listed_and_removed(void **unused)
{
    (void)unused;
    struct disk *d;
    struct disk_file *f;
    struct arena *a = arena_new();
    assert_int_equal(disk_new(&d), 0);
    assert_int_equal(disk_open(d, in_dir(a, "b"), DISK_WRITE, &f), -ENOENT);
    assert_int_equal(disk_open(d, in_dir(a, "b"), DISK_WRITE | DISK_NEW, &f), 0);
    struct disk_file *again;
    assert_int_equal(disk_open(d, in_dir(a, "b"), DISK_WRITE | DISK_NEW, &again), -EEXIST);
    assert_int_equal(disk_pwrite(f, "hello", 5, 3), 0);
    char data[16];
    size_t n;
    assert_int_equal(disk_pread(f, data, sizeof data, 0, &n), 0);
    assert_int_equal(n, 8);
    assert_memory_equal(data, "\0\0\0hello", 8);
    assert_int_equal(disk_pread_all(f, data, 6, 3), -ENODATA);
    assert_int_equal(disk_truncate(f, 4), 0);
    uint64_t size;
    assert_int_equal(disk_size(f, &size), 0);
    assert_int_equal(size, 4);
    disk_close(f);

    assert_int_equal(disk_replace_file(d, dir, "a", (struct bytes){(const uint8_t *)"new", 3}), 0);
    char **names;
    assert_int_equal(disk_list(d, dir, a, &names, &n), 0);
    assert_int_equal(n, 2);
    assert_string_equal(names[0], "a");
    assert_string_equal(names[1], "b");
    struct bytes content;
    assert_int_equal(disk_read_file(d, in_dir(a, "a"), 2, a, &content), -EFBIG);
    assert_int_equal(disk_read_file(d, in_dir(a, "a"), 3, a, &content), 0);
    assert_memory_equal(content.ptr, "new", 3);
    struct disk_space space;
    assert_int_equal(disk_space(d, dir, &space), 0);
    assert_true(space.free_bytes <= space.total_bytes);
    struct uuid boot, boot_again;
    assert_int_equal(disk_boot_id(d, &boot), 0);
    assert_int_equal(disk_boot_id(d, &boot_again), 0);
    assert_true(uuid_eq(boot, boot_again) && !uuid_is_zero(boot));
    arena_free(a);
    disk_free(d);
}

static void lock_names_its_holder(void **unused)
{
    (void)unused;
    struct disk *d;
    struct disk_file *lock;
    struct arena *a = arena_new();
    int64_t holder = 0;
    assert_int_equal(disk_new(&d), 0);
    assert_int_equal(disk_lock(d, in_dir(a, "lock"), &lock, &holder), 0);
    pid_t child = fork();
    if (child == 0) {
        struct disk_file *mine;
        int r = disk_lock(d, in_dir(a, "lock"), &mine, &holder);
        _exit(r == -EBUSY && holder == getppid() ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    disk_close(lock);
    assert_int_equal(disk_lock(d, in_dir(a, "lock"), &lock, &holder), 0);
    disk_close(lock);
    arena_free(a);
    disk_free(d);
}

static void syncs_come_back_by_the_event_descriptor(void **unused)
{
    (void)unused;
    struct disk *d;
    struct disk_file *f;
    struct arena *a = arena_new();
    struct disk_done done;
    assert_int_equal(disk_new(&d), 0);
    assert_false(disk_poll_done(d, &done));
    assert_int_equal(disk_open(d, in_dir(a, "s"), DISK_WRITE | DISK_CREATE, &f), 0);
    uint64_t sum = 0;
    for (uint64_t i = 1; i <= 20; i++) {
        assert_int_equal(disk_pwrite(f, "x", 1, i), 0);
        disk_sync_start(d, &f, 1, i);
    }
    disk_close(f); // the syncs hold it
    for (int n = 0; n < 20;) {
        struct pollfd p = {.fd = disk_event_fd(d), .events = POLLIN};
        assert_int_equal(poll(&p, 1, 10000), 1);
        while (disk_poll_done(d, &done)) {
            assert_int_equal(done.error, 0);
            sum += done.cookie;
            n++;
        }
    }
    assert_int_equal(sum, 210);
    struct pollfd p = {.fd = disk_event_fd(d), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    arena_free(a);
    disk_free(d);
}

static void log_works_on_a_real_disk(void **unused)
{
    (void)unused;
    struct disk *d;
    struct arena *a = arena_new();
    assert_int_equal(disk_new(&d), 0);
    struct log_open args = {
        .disk = d, .dir = in_dir(a, "orders-0"), .topic_id = {{1}}, .config = log_config_default};
    args.config.segment_bytes = 20000;
    struct log *l;
    struct log_report report;
    assert_int_equal(log_open(&args, &l, &report), 0);
    log_reserved(l, 1000);
    for (int i = 0; i < 100; i++) {
        struct buf b = {0};
        batches_add(&b,
                    &(struct batch_spec){.count = 5, .timestamp_ms = 1000 * i, .value_bytes = 99});
        struct bytes in = {b.ptr, b.len};
        struct log_span span;
        size_t n_done;
        assert_int_equal(log_append(l, &in, 1, 1000 * i, &span, &n_done), 0);
        buf_free(&b);
    }
    while (log_synced(l) < 500) {
        struct disk_done done;
        struct pollfd p = {.fd = disk_event_fd(d), .events = POLLIN};
        log_sync_start(l, 3);
        assert_int_equal(poll(&p, 1, 10000), 1);
        while (disk_poll_done(d, &done))
            assert_int_equal(log_sync_done(l, done.error), 0);
    }
    struct log_slice s;
    assert_int_equal(log_read(l, 250, 1000, 500, true, &s), 0);
    assert_int_equal(s.first_offset, 250);
    assert_true(disk_file_fd(s.file) >= 0);
    log_slice_release(&s);
    const char *keep = getenv("TALLY_TEST_KEEP"); // for looking at it with Kafka's own tools
    assert_int_equal(log_close_clean(l, &left), 0);
    if (keep) {
        assert_int_equal(disk_rename(d, args.dir, keep), 0);
    } else {
        args.was_clean = true;
        args.mark = &left;
        args.reserved_upto = 1000;
        assert_int_equal(log_open(&args, &l, &report), 0);
        assert_int_equal(log_end(l), 500);
        log_close(l);
        assert_int_equal(log_remove_dir(d, args.dir), 0);
    }
    arena_free(a);
    disk_free(d);
}

// The pool's own threads: a round to its end, and rounds that are given up at any moment.
static void compaction_works_beside_the_loop(void **unused)
{
    (void)unused;
    struct key_log k;
    struct disk *d;
    struct arena *a = arena_new();
    static const struct siphash_key hash = {{1, 2}};
    assert_int_equal(disk_new(&d), 0);
    key_log_init(&k, d);
    k.args.dir = in_dir(a, "keys-0");
    key_log_open(&k);
    for (int i = 0; i < 400; i++) {
        char record[32];
        snprintf(record, sizeof record, "k%d=%d", i % 40, i);
        assert_int_equal(key_log_append(&k, record), 0);
    }
    int64_t end = log_end(k.l);
    for (int i = 0; i < 20; i++) {
        log_clean_begin(k.l, k.now_ms, end, 1 << 20, &hash, 5);
        for (int n = 0; n < i * 20; n++) {
            char record[32];
            snprintf(record, sizeof record, "k%d=%d", n % 40, 1000 + n);
            assert_int_equal(key_log_append(&k, record), 0);
        }
        log_clean_abandon(k.l);
    }
    struct log_clean_report report = {0};
    end = log_end(k.l);
    log_clean_begin(k.l, k.now_ms, end, 1 << 20, &hash, 5);
    while (!report.is_over) {
        struct pollfd p = {.fd = disk_event_fd(d), .events = POLLIN};
        struct disk_done done;
        assert_int_equal(poll(&p, 1, 10000), 1);
        if (disk_poll_done(d, &done))
            assert_int_equal(log_clean_done(k.l, done.error, &report), 0);
        assert_int_equal(key_log_append(&k, "more=x"), 0);
    }
    assert_string_equal(report.text, "");
    assert_true(log_holes(k.l, 0, end) > 3000);
    assert_int_equal(key_log_close(&k), 0);
    key_log_open(&k);
    assert_int_equal(log_cleaned(k.l) > end - 40, true);
    log_close(k.l);
    assert_int_equal(log_remove_dir(d, k.args.dir), 0);
    arena_free(a);
    disk_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_are_written_listed_and_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(lock_names_its_holder, setup, teardown),
        cmocka_unit_test_setup_teardown(syncs_come_back_by_the_event_descriptor, setup, teardown),
        cmocka_unit_test_setup_teardown(log_works_on_a_real_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(compaction_works_beside_the_loop, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
