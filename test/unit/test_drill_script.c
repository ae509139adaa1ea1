#include "drill/script.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct drill_script *parse(const char *text)
{
    struct drill_script *s = NULL;
    char *why = NULL;
    struct bytes b = {(const uint8_t *)text, strlen(text)};
    if (drill_script_parse("my.drill", b, &s, &why) < 0)
        fail_msg("%s", why);
    return s;
}

static void refuses(const char *text, const char *expected)
{
    struct drill_script *s = NULL;
    char *why = NULL;
    struct bytes b = {(const uint8_t *)text, strlen(text)};
    assert_int_equal(drill_script_parse("my.drill", b, &s, &why), -EBADMSG);
    assert_null(s);
    if (!strstr(why, expected))
        fail_msg("expected \"%s\" in \"%s\"", expected, why);
    free(why);
}

static void test_parse(void **state)
{
    (void)state;
    struct drill_script *s =
        parse("# mine\ndrill my-own\ntitle It dies\nabout\n    One.\n\n    Two.\n"
              "copies 3\n\nwhen behind 10\ndo kill\n");
    assert_string_equal(s->name, "my-own");
    assert_string_equal(s->title, "It dies");
    assert_string_equal(s->about, "One.\n\nTwo.\n");
    assert_int_equal(s->copies, 3);
    assert_int_equal(s->partitions, 2);
    assert_int_equal(s->n_steps, 2);
    assert_int_equal(s->steps[0].when, WHEN_BEHIND);
    assert_int_equal(s->steps[0].n, 10);
    assert_false(s->steps[0].is_act);
    assert_int_equal(s->steps[1].act, ACT_KILL);
    assert_int_equal(s->steps[1].line, 11);
    drill_script_free(s);
}

static void test_errors_name_the_line(void **state)
{
    (void)state;
    refuses("drill a\nwhen behind\ndo kill\n", "my.drill:2: \"behind\" needs a number from 1");
    refuses("drill a\nwhen behind 10x\ndo kill\n", "my.drill:2: \"behind\" needs a number");
    refuses("drill a\ndo kill 3\n", "my.drill:2: \"kill\" takes no number");
    refuses("drill a\n\ndo explode\n", "my.drill:3: no act \"explode\"; there are: kill,");
    refuses("drill a\nhop\n", "my.drill:2: no statement \"hop\"");
    refuses("drill A\ndo kill\n", "my.drill:1: a drill's name");
    refuses("title x\ndo kill\n", "no \"drill NAME\" line");
    refuses("drill a\ntitle x\n", "no step");
    refuses("drill a\ncopies 0\ndo kill\n", "my.drill:2: \"copies\" needs a number from 1 to 16");
    refuses("drill a\ndrill b\n", "my.drill:2: a second");
}

static void test_builtin(void **state)
{
    (void)state;
    size_t n = 0;
    for (; drill_builtin_file(n); n++) {
        struct drill_script *s = NULL;
        char *why = NULL;
        if (drill_script_load(drill_builtin_file(n), &s, &why) < 0)
            fail_msg("%s", why);
        assert_string_equal(s->name, drill_builtin_file(n));
        assert_true(*s->title && *s->finds && *s->passes && *s->advice && *s->about);
        drill_script_free(s);
    }
    assert_true(n >= 12);
    struct drill_script *s = NULL;
    char *why = NULL;
    assert_int_equal(drill_script_load("no-such", &s, &why), -ENOENT);
    assert_non_null(strstr(why, "tally drill list"));
    free(why);
    assert_int_equal(drill_script_load("./no-such.drill", &s, &why), -ENOENT);
    free(why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_errors_name_the_line),
        cmocka_unit_test(test_builtin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
