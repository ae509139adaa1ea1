#include "base/buf.h"
#include "cli/records.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/test_drill_records.XXXXXX";

// All records of a text as "key=value;", or the reason why not.
static void read_all(const char *text, enum records_format format, const char *key,
                     const char *expected)
{
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    struct records *r = NULL;
    char *why = NULL;
    struct buf out = {0};
    buf_add(&out, "", 0);
    if (records_open(path, format, key, &r, &why) < 0) {
        buf_printf(&out, "%s", why);
        free(why);
    } else {
        struct record_read got;
        int rc;
        while ((rc = records_next(r, &got)) > 0)
            buf_printf(&out, "%.*s=%.*s;", (int)got.key.len, (const char *)got.key.ptr,
                       (int)got.value.len, (const char *)got.value.ptr);
        if (rc < 0)
            buf_printf(&out, "%s", records_why(r) + strlen(path));
        records_close(r);
    }
    buf_add(&out, "", 1);
    if (!strstr((const char *)out.ptr, expected) ||
        (*expected == '=' && strcmp((const char *)out.ptr, expected) != 0))
        fail_msg("expected \"%s\", got \"%s\"", expected, (const char *)out.ptr);
    buf_free(&out);
}

static void test_lines(void **state)
{
    (void)state;
    read_all("one\ntwo\r\n\nlast", RECORDS_AUTO, NULL, "=one;=two;=;=last;");
    read_all("one\n", RECORDS_AUTO, "id", "lines have no field");
    read_all("", RECORDS_LINES, NULL, "");
}

static void test_json(void **state)
{
    (void)state;
    read_all("{\"a\":\"x y\",\"n\":1.10}\n{\"a\":7}\n", RECORDS_AUTO, "a",
             "x y={\"a\":\"x y\",\"n\":1.10};7={\"a\":7};");
    read_all("{\"a\":1}\n", RECORDS_AUTO, "b", ":1: no field \"b\"");
    read_all("{\"a\":1}\n[1]\n", RECORDS_JSON, NULL, ":2: not one JSON object a line");
}

static void test_csv(void **state)
{
    (void)state;
    read_all("id,name\n1,\"a \"\"b\"\", c\"\n2,\"two\nlines\"\n", RECORDS_CSV, "name",
             "a \"b\", c=1,\"a \"\"b\"\", c\";two\nlines=2,\"two\nlines\";");
    // Blank lines are none; inside quotes they are.
    read_all("id,name\n\n1,a\n\n\n2,\"b\n\nc\"\n\n", RECORDS_CSV, "id", "1=1,a;2=2,\"b\n\nc\";");
    read_all("id,name\n1\n", RECORDS_CSV, "id", ":2: 1 columns where the header has 2");
    read_all("id,name\n1,2\n", RECORDS_CSV, "ix", "no column \"ix\"");
    read_all("id,name\n1,\"2\n", RECORDS_CSV, "id", "a quoted field never ends");
}

static void test_rfc822(void **state)
{
    (void)state;
    read_all("Package: a\nVersion: 1\nTag: x,\n y\n\n\nPackage: b\nSize: 2\n", RECORDS_AUTO, NULL,
             "a=Package: a\nVersion: 1\nTag: x,\n y;b=Package: b\nSize: 2;");
    read_all("Package: a\nVersion: 1\n", RECORDS_RFC822, "version", "1=Package: a");
    read_all("Package: a\n\nVersion: 1\n", RECORDS_RFC822, NULL, ":3: the paragraph has no field");
    read_all("Package: a\nwhat is this\n", RECORDS_RFC822, NULL, ":2: not a \"Field: text\" line");
}

static void test_missing_file(void **state)
{
    (void)state;
    struct records *r = NULL;
    char *why = NULL;
    assert_int_equal(records_open("/nowhere/x", RECORDS_AUTO, NULL, &r, &why), -ENOENT);
    assert_non_null(strstr(why, "/nowhere/x: cannot open"));
    free(why);
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),        cmocka_unit_test(test_json),
        cmocka_unit_test(test_csv),          cmocka_unit_test(test_rfc822),
        cmocka_unit_test(test_missing_file),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return rc;
}
