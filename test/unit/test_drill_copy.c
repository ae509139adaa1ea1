#include "drill/copy.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

static struct buf lines; // what was printed, '|' between lines

static void on_line(void *user, struct copy *c, struct str line)
{
    (void)user;
    (void)c;
    buf_printf(&lines, "%.*s|", STR_FMT(line));
}

static struct copy *start(const char *script)
{
    static const char *argv[] = {"/bin/sh", "-c", NULL, NULL};
    static struct copy_plan plan;
    argv[2] = script;
    plan = (struct copy_plan){.argv = (char *const *)(const void *)argv,
                              .topic = "t",
                              .group = "g",
                              .dir = "/d",
                              .on_line = on_line};
    buf_clear(&lines);
    struct copy *c = NULL;
    char *why = NULL;
    if (copy_start(&plan, 2, 1, "host:1", &c, &why) < 0)
        fail_msg("%s", why);
    return c;
}

static void wait_some(struct copy *c)
{
    struct pollfd p[] = {{.fd = c->out_fd, .events = POLLIN}, {.fd = c->end_fd, .events = POLLIN}};
    assert_true(poll(p, 2, 20000) > 0);
    copy_read(c);
}

static void wait_end(struct copy *c)
{
    while (!copy_reap(c))
        wait_some(c);
}

static void wait_lines(struct copy *c, uint64_t n)
{
    while (c->lines < n)
        wait_some(c);
}

static void printed(const char *expected)
{
    buf_add(&lines, "", 1);
    assert_string_equal((const char *)lines.ptr, expected);
    lines.len--;
}

static void test_environment_and_arguments(void **state)
{
    (void)state;
    struct copy *c = start("echo $TALLY_BOOTSTRAP $TALLY_TOPIC $TALLY_GROUP $TALLY_INSTANCE "
                           "$TALLY_ATTEMPT $TALLY_DIR; echo {instance}@{bootstrap}{dir}; "
                           "test -t 1 && echo terminal; printf 'no end'; exit 3");
    wait_end(c);
    printed("host:1 t g 2 1 /d|2@host:1/d|terminal|no end|");
    assert_string_equal(copy_end_text(c), "exited with status 3");
    copy_free(c);
}

static void test_no_such_command(void **state)
{
    (void)state;
    char *argv[] = {(char[]){"/no/such"}, NULL};
    struct copy_plan plan = {.argv = argv, .topic = "t", .group = "g", .dir = "d"};
    struct copy *c = NULL;
    char *why = NULL;
    assert_int_equal(copy_start(&plan, 1, 1, "h:1", &c, &why), -ENOENT);
    assert_string_equal(why, "cannot run \"/no/such\": No such file or directory");
    free(why);
}

// All that was printed before a kill is read, and what is cut off is not taken for a line.
static void test_kill_reads_to_the_end(void **state)
{
    (void)state;
    struct copy *c = start("i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done; "
                           "printf 't/0/1'; echo x >&2; exec tail -f /dev/null");
    while (c->err_tail.len == 0) {
        struct pollfd p[] = {{.fd = c->out_fd, .events = POLLIN},
                             {.fd = c->err_fd, .events = POLLIN}};
        assert_true(poll(p, 2, 20000) > 0);
        copy_read(c);
    }
    copy_kill(c);
    assert_int_equal(c->lines, 2000);
    assert_true(c->was_killed);
    assert_true(WIFSIGNALED(c->wait_status));
    copy_free(c);
}

static void test_freeze_stops_children_too(void **state)
{
    (void)state;
    struct copy *c = start("(while :; do echo a; done) & while :; do echo b; done");
    wait_lines(c, 10);
    assert_int_equal(copy_freeze(c), 0);
    uint64_t at = c->lines;
    struct pollfd p = {.fd = c->out_fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 50), 0);
    copy_thaw(c);
    wait_lines(c, at + 10);
    copy_kill(c);
    at = c->lines;
    assert_false(copy_read(c));
    copy_free(c);
}

static bool is_alive(pid_t pid)
{
    return kill(pid, 0) == 0;
}

static void test_grandchildren_die(void **state)
{
    (void)state;
    copy_adopt_orphans();
    struct copy *c = start("tail -f /dev/null & a=$!; setsid tail -f /dev/null & b=$!; "
                           "echo $a $b; wait");
    wait_lines(c, 1);
    int a, b;
    buf_add(&lines, "", 1);
    assert_int_equal(sscanf((char *)lines.ptr, "%d %d", &a, &b), 2);
    assert_true(is_alive(a));
    copy_kill(c);
    copy_free(c);
    copy_kill_strays();
    assert_false(is_alive(a));
    assert_false(is_alive(b));
}

static void test_terminate(void **state)
{
    (void)state;
    struct copy *c = start("trap 'echo bye; exit 0' TERM; echo up; while :; do :; done");
    wait_lines(c, 1);
    copy_terminate(c);
    wait_end(c);
    printed("up|bye|");
    assert_false(c->was_killed);
    copy_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment_and_arguments),
        cmocka_unit_test(test_no_such_command),
        cmocka_unit_test(test_kill_reads_to_the_end),
        cmocka_unit_test(test_freeze_stops_children_too),
        cmocka_unit_test(test_grandchildren_die),
        cmocka_unit_test(test_terminate),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    buf_free(&lines);
    return rc;
}
