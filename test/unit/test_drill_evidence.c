#include "drill/evidence.h"

#include <errno.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct book *book;

static int set_up(void **state)
{
    (void)state;
    book = book_new("orders");
    book_set_partitions(book, 2);
    static const char *const keys[] = {"libc6", "make", "bash", "twin", "twin", "Ada Lovelace"};
    for (size_t i = 0; i < 6; i++)
        book_add(book, 0, (struct bytes){(const uint8_t *)keys[i], strlen(keys[i])});
    book_add(book, 1, (struct bytes){NULL, 0});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    book_free(book);
    return 0;
}

static struct evidence *parse(const char *spec, const char *match)
{
    struct evidence *e = NULL;
    char *why = NULL;
    if (evidence_parse(spec, match, &e, &why) < 0)
        fail_msg("%s", why);
    return e;
}

// The records a line names, as "0/1 1/0 ".
static void names(const char *match, const char *line, const char *expected)
{
    struct evidence *e = parse("stdout", match);
    struct book_spot spots[8];
    size_t n = evidence_line(e, book, str_from(line), spots, 8);
    struct buf out = {0};
    for (size_t i = 0; i < n; i++)
        buf_printf(&out, "%d/%lld ", spots[i].partition, (long long)spots[i].offset);
    buf_add(&out, "", 1);
    if (strcmp((const char *)out.ptr, expected) != 0)
        fail_msg("\"%s\": expected \"%s\", got \"%s\"", line, expected, (const char *)out.ptr);
    buf_free(&out);
    evidence_free(e);
}

static void test_ids(void **state)
{
    (void)state;
    names(NULL, "orders/0/1", "0/1 ");
    names(NULL, "done: orders/0/1, orders/1/0.", "0/1 1/0 ");
    names(NULL, "[orders/0/2] bash bash", "0/2 ");
    names(NULL, "orders/0/1 orders/0/1", "0/1 ");
    names(NULL, "orders/0/6", "");  // no such record
    names(NULL, "orders/0/12", ""); // not 0/1
    names(NULL, "orders/0/1x", ""); // not a whole token
    names(NULL, "xorders/0/1", "");
    names(NULL, "other/0/1", "");
    names(NULL, "orders/2/0 orders/-1/0 orders/0/99999999999999999999", "");
}

static void test_keys(void **state)
{
    (void)state;
    names(NULL, "worked on libc6", "0/0 ");
    names(NULL, "key=libc6;", "0/0 ");
    names(NULL, "bash: needs make", "0/2 "); // the first key only: the rest may be prose
    names(NULL, "libc6-dev", "");
    names(NULL, "twin", ""); // occurs twice, so it is no evidence
    names(NULL, "Ada Lovelace", "0/5 ");
    names(NULL, "", "");
}

// A number in a line may be a count, a port, a time.
static void test_number_keys(void **state)
{
    (void)state;
    book_add(book, 1, (struct bytes){(const uint8_t *)"42", 2});
    names(NULL, "42", "1/1 ");
    names(NULL, "worker 7 took 42 ms", "");
    names("took {key} ms", "worker 7 took 42 ms", "1/1 ");
}

static bool is_odd(const struct evidence *e, const char *line)
{
    return evidence_is_odd(e, book, str_from(line));
}

static void learn(struct evidence *e, const char *const *lines)
{
    for (int i = 0; i < 30; i++) {
        for (size_t j = 0; lines[j]; j++)
            evidence_learn(e, book, str_from(lines[j]));
    }
}

static void test_forms(void **state)
{
    (void)state;
    struct evidence *e = parse("stdout", NULL);
    assert_false(is_odd(e, "anything orders/0/1")); // nothing learnt
    learn(e, (const char *[]){"09:12:33 INFO [w-1] done orders/0/1 bash in 3 ms",
                              "09:12:34 INFO [w-2] done orders/0/0 libc6 in 12 ms", NULL});
    assert_false(is_odd(e, "23:00:01 INFO [w-2] done orders/1/0 make in 7 ms"));
    assert_true(is_odd(e, "23:00:01 WARN [w-2] done orders/1/0 make in 7 ms"));
    assert_true(is_odd(e, "23:00:01 INFO [w-2] skipped orders/1/0 make in 7 ms"));
    assert_true(is_odd(e, "23:00:01 INFO [w-2] done orders/1/0 make in 7 ms (again)"));
    evidence_free(e);
    // With text of the records behind it, what stands before it is the form.
    e = parse("stdout", NULL);
    learn(e, (const char *[]){"done orders/0/1 Ada", "done orders/0/2 Grace",
                              "done orders/0/3 Jean", "done orders/0/4 Edith",
                              "done orders/0/5 Mary", "done orders/0/5 Kay", "done orders/0/5 Fran",
                              "done orders/0/5 Lynn", "done orders/0/5 Sue", NULL});
    assert_false(is_odd(e, "done orders/1/0 Barbara"));
    assert_true(is_odd(e, "skipped orders/1/0 Barbara"));
    evidence_free(e);
    // The user has said which lines count.
    e = parse("stdout", "{topic}/{partition}/{offset}");
    learn(e, (const char *[]){"done orders/0/1", NULL});
    assert_false(is_odd(e, "skipped orders/0/1"));
    evidence_free(e);
}

static void test_match(void **state)
{
    (void)state;
    names("p={partition} o={offset}", "x p=0 o=2 y", "0/2 ");
    names("p={partition} o={offset}", "orders/0/1", "");
    names("(done|ok) {topic}:{partition}:{offset}", "ok orders:0:3", "0/3 ");
    names("(done|ok) {topic}:{partition}:{offset}", "ok other:0:3", "");
    names("needs {key}", "bash needs make", "0/1 ");
    struct evidence *e = NULL;
    char *why = NULL;
    assert_int_equal(evidence_parse("stdout", "nothing", &e, &why), -EINVAL);
    free(why);
    assert_int_equal(evidence_parse("stdout", "{key}(", &e, &why), -EINVAL);
    free(why);
}

static void test_specs(void **state)
{
    (void)state;
    struct evidence *e = NULL;
    char *why = NULL;
    static const char *const bad[] = {
        "sql:postgres:x:y", "sql:sqlite:file", "sql:sqlite::q", "topic:x", "http", "guess"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(evidence_parse(bad[i], NULL, &e, &why), -EINVAL);
        assert_non_null(why);
        free(why);
    }
}

static int query(const struct evidence *e, const char *path, char **ret_why)
{
    struct database *d = evidence_database(e);
    return database_read(d, path, database_query(d), book, ret_why);
}

static void test_sqlite(void **state)
{
    (void)state;
    char path[] = "/tmp/test_drill_evidence.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    struct buf spec = {0};
    buf_printf(&spec, "sql:sqlite:%s:SELECT topic, partition, record_offset FROM r", path);
    buf_add(&spec, "", 1);
    struct evidence *e = parse((char *)spec.ptr, NULL);
    char *why = NULL;
    assert_int_equal(query(e, path, &why), 0); // no such table yet: no rows
    assert_int_equal(book_worked_total(book), 0);
    sqlite3_exec(db,
                 "CREATE TABLE r (topic, partition, record_offset);"
                 "INSERT INTO r VALUES ('orders', 0, 1), ('orders', 0, 1), ('orders', 1, 0),"
                 " ('other', 0, 0), ('orders', 0, 77)",
                 NULL, NULL, NULL);
    for (int i = 0; i < 2; i++) { // read anew each time, not added up
        assert_int_equal(query(e, path, &why), 0);
        assert_int_equal(book_worked_total(book), 2);
        assert_int_equal(book_partition(book, 0)->records[1].times, 2);
        assert_int_equal(book_partition(book, 0)->records[0].times, 0);
    }
    struct database *d = evidence_database(e);
    assert_false(database_is_held(d, path));
    // Its writer does not keep readers out yet, and other writers already.
    sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    assert_int_equal(query(e, path, &why), 0);
    assert_true(database_is_held(d, path));
    sqlite3_exec(db, "ROLLBACK; BEGIN EXCLUSIVE", NULL, NULL, NULL);
    assert_int_equal(query(e, path, &why), -EBUSY);
    assert_true(database_is_held(d, path));
    sqlite3_close(db);
    evidence_free(e);
    buf_free(&spec);
    e = parse("sql:sqlite:f:DELETE FROM r", NULL);
    assert_int_equal(query(e, path, &why), -EINVAL);
    free(why);
    evidence_free(e);
    unlink(path);
}

static void test_book(void **state)
{
    (void)state;
    struct book_partition *p = book_partition(book, 0);
    assert_int_equal(book_gap(book, 0), 0);
    book_worked(book, (struct book_spot){0, 0}, 1, BOOK_PLAIN);
    book_worked(book, (struct book_spot){0, 1}, 1, BOOK_PLAIN);
    book_worked(book, (struct book_spot){0, 3}, 1, BOOK_PLAIN);
    assert_int_equal(book_gap(book, 0), 2);
    assert_int_equal(book_beyond_commit(book, 0), 3);
    book_sent(book, 0, 0, 6, 1);
    book_committed(book, 0, 2);
    assert_int_equal(book_beyond_commit(book, 0), 1);
    book_sent(book, 0, 2, 6, 2); // at the commit and beyond: what at-least-once allows
    assert_false(p->records[3].below_k);
    book_committed(book, 0, 4);
    book_committed(book, 0, 1); // put back
    book_sent(book, 0, 1, 6, 2);
    book_worked(book, (struct book_spot){0, 1}, 1, BOOK_PLAIN); // by somebody else, late
    assert_false(p->records[1].below_k);
    book_worked(book, (struct book_spot){0, 1}, 2, BOOK_PLAIN);
    book_worked(book, (struct book_spot){0, 3}, 2, BOOK_PLAIN);
    assert_true(p->records[1].below_k);
    assert_true(p->records[3].below_k);
    book_killed(book, 2);
    assert_true(p->records[2].sent_to_killed);
    assert_false(p->records[3].sent_to_killed); // there is evidence of it
    book_trimmed(book, 0, 4);
    assert_true(p->records[2].excused); // above the committed offset as it stands now
    assert_false(p->records[3].excused);
    assert_int_equal(book_gap(book, 0), 4);
}

// Who was put out and does not know it fetches on below what the next owner has committed.
static void test_below_commit(void **state)
{
    (void)state;
    struct book_partition *p = book_partition(book, 0);
    book_sent(book, 0, 0, 2, 1);
    book_sent(book, 0, 0, 5, 2);
    for (int64_t i = 0; i < 5; i++)
        book_worked(book, (struct book_spot){0, i}, 1, BOOK_PLAIN);
    book_committed(book, 0, 5);
    book_sent(book, 0, 2, 4, 1); // goes on from where it was
    book_worked(book, (struct book_spot){0, 2}, 1, BOOK_PLAIN);
    assert_false(p->records[2].below_k);
    book_started(book, 1);
    book_sent(book, 0, 4, 5, 1); // a new process has nothing to go on from
    book_worked(book, (struct book_spot){0, 4}, 1, BOOK_PLAIN);
    assert_true(p->records[4].below_k);
    book_sent(book, 0, 0, 2, 2); // went back by itself
    book_worked(book, (struct book_spot){0, 0}, 2, BOOK_PLAIN);
    assert_true(p->records[0].below_k);
    assert_false(p->records[1].below_k); // was sent, and dropped
    // Rows do not say who wrote them; what is read anew each time has to become more.
    book_clear_worked(book);
    book_worked(book, (struct book_spot){0, 1}, 0, BOOK_PLAIN);
    assert_false(p->records[1].below_k);
    book_worked(book, (struct book_spot){0, 1}, 0, BOOK_PLAIN);
    assert_true(p->records[1].below_k);
}

// What it had committed without having worked on it, retention did not take from it.
static void test_trimming_excuses_no_early_commit(void **state)
{
    (void)state;
    struct book_partition *p = book_partition(book, 0);
    book_worked(book, (struct book_spot){0, 0}, 1, BOOK_PLAIN);
    book_committed(book, 0, 3);
    book_trimmed(book, 0, 5);
    assert_false(p->records[1].excused);
    assert_false(p->records[2].excused);
    assert_true(p->records[3].excused);
    assert_true(p->records[4].excused);
    assert_false(p->records[5].excused);
    assert_int_equal(book_gap(book, 0), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ids, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_match, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_specs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sqlite, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_book, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_number_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_forms, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_below_commit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_trimming_excuses_no_early_commit, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
