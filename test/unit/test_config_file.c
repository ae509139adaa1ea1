// server.properties as Java reads it, and what is said of a bad one.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/config_file.h"

static char why[1024];
static char ignored[256];

static void on_ignored(void *ctx, const char *where, const char *name)
{
    (void)ctx;
    strncat(ignored, where, sizeof ignored - strlen(ignored) - 1);
    strncat(ignored, " ", sizeof ignored - strlen(ignored) - 1);
    strncat(ignored, name, sizeof ignored - strlen(ignored) - 1);
}

static int parse(struct configs *c, const char *text)
{
    why[0] = ignored[0] = 0;
    return config_file_parse(c, "f", str_from(text), on_ignored, NULL, why, sizeof why);
}

static void expect(const char *text, const char *name, const char *value)
{
    struct configs *c = configs_new();
    int error = parse(c, text);
    assert_string_equal(why, "");
    assert_int_equal(error, 0);
    struct str got = configs_get(c, str_from(name));
    if (!str_eq(got, str_from(value)))
        fail_msg("%s: \"%.*s\", expected \"%s\"", text, STR_FMT(got), value ? value : "(null)");
    configs_free(c);
}

static void expect_error(const char *text, const char *start, const char *part)
{
    struct configs *c = configs_new();
    assert_int_not_equal(parse(c, text), 0);
    if (strncmp(why, start, strlen(start)) != 0 || !strstr(why, part))
        fail_msg("%s: said \"%s\"", text, why);
    configs_free(c);
}

static void test_forms(void **state)
{
    (void)state;
    expect("num.partitions=3", "num.partitions", "3");
    expect("  num.partitions  =  3  \n", "num.partitions", "3");
    expect("num.partitions:3\r\n", "num.partitions", "3");
    expect("num.partitions 3", "num.partitions", "3");
    expect("num.partitions=3\nnum.partitions=4\n", "num.partitions", "4");
    expect("num.parti\\\n    tions=3", "num.partitions", "3");
    expect("num.partitions=\\\r\n   3", "num.partitions", "3");
    expect("\\u006eum.partitions=\\u0033", "num.partitions", "3");
}

static void test_comments(void **state)
{
    (void)state;
    expect("# a\n ! b\nnum.partitions=3", "num.partitions", "3");
    expect("\n\n\t\f\n#\n", "num.partitions", NULL);
}

static void test_escapes_in_values(void **state)
{
    (void)state;
    expect("log.dirs=/a\\ b\\\\c\\=d", "log.dirs", "/a b\\c=d");
    expect("log.dirs=/\\u00e4", "log.dirs", "/\xc3\xa4");
    expect_error("log.dirs=\\u12", "f:1: ", "four hex digits");
}

static void test_unknown_names_the_nearest(void **state)
{
    (void)state;
    expect_error("\n# x\nnum.partitons=3\n", "f:3: ", "num.partitions");
}

static void test_line_counts_continuations(void **state)
{
    (void)state;
    expect_error("num.partitions=\\\n\\\n3\nnum.partitions=0", "f:4: ", "at least 1");
}

static void test_ignored_is_said_once_a_setting(void **state)
{
    (void)state;
    struct configs *c = configs_new();
    assert_int_equal(parse(c, "\nnum.io.threads=8\n"), 0);
    assert_string_equal(ignored, "f:2 num.io.threads");
    assert_int_equal(configs_count(c), 0);
    configs_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_comments),
        cmocka_unit_test(test_escapes_in_values),
        cmocka_unit_test(test_unknown_names_the_nearest),
        cmocka_unit_test(test_line_counts_continuations),
        cmocka_unit_test(test_ignored_is_said_once_a_setting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
