// The report as text and JSON, made from one answer of the report API.

#include "cli/cli.h"
#include "cli/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static struct tally_report_response_proof proof = {
    .time_ms = 1700000000456, .api = {"OffsetCommit", 12}, .summary = {"K 100 -> 101", 12}};

static struct tally_report_response_incident incidents[] = {
    {
        .id = 7,
        .time_ms = 1700000000123,
        .topic = {"t", 1},
        .first = 101,
        .last = 102,
        .records = 2,
        .likely_at_most = -1,
        .class = {"resent", 6},
        .certainty = {"likely", 6},
        .cause = {"dup_handover", 12},
        .trigger = {"disconnect", 10},
        .rebalance = 3,
        .attribution = {"likely", 6},
        .from = {{"m\033[1", 4}, {"app", 3}, {"/127.0.0.1", 10}, {"", 0}},
        .to = {{NULL, -1}, {"", 0}, {"", 0}, {"", 0}},
        .evidence = &proof,
        .n_evidence = 1,
        .advice = {"Commit in the revoke callback.", 30},
        .closed = true,
    },
    {.id = 8,
     .first = -1,
     .last = -1,
     .likely_at_most = -1,
     .topic = {NULL, -1},
     .class = {"risk", 4},
     .certainty = {"possible", 8},
     .cause = {"commit_before_work", 18},
     .trigger = {"unknown", 7},
     .from = {{NULL, -1}, {"", 0}, {"", 0}, {"", 0}},
     .to = {{NULL, -1}, {"", 0}, {"", 0}, {"", 0}},
     .quiet = true},
};

static struct tally_report_response_partition partitions[] = {
    {.topic = {"t", 1},
     .end = 5000,
     .committed_offset = 4990,
     .committed = 4990,
     .waiting = 10,
     .resent = 2,
     .owner = {NULL, -1}},
    {.topic = {"t", 1},
     .partition = 1,
     .committed_offset = -1,
     .first = 3,
     .end = 7,
     .skipped = 4,
     .owner = {NULL, -1}},
};

static struct tally_report_response_group group = {
    .group = {"g", 1},
    .protocol = {"classic", 7},
    .state = {"Stable", 6},
    .expect = {"at-least-once", 13},
    .partitions = partitions,
    .n_partitions = 2,
    .incidents = incidents,
    .n_incidents = 2,
};

static const struct tally_report_response report = {
    .groups = &group, .n_groups = 1, .verify_failure = {NULL, -1}};

static void text_is_narrow_and_hides_what_is_quiet(void **state)
{
    (void)state;
    struct report_style style = {.width = 80};
    struct buf out = {0};
    report_text(&report, &style, &out);
    buf_add(&out, "", 1);
    const char *text = (const char *)out.ptr;
    const char *head = "g  classic, Stable, expected: at-least-once\n"
                       "  topic/partition         log  committed  waiting  skipped  resent\n"
                       "  t/0                  0-5000       4990       10        0       2\n"
                       "  t/1              0-7 from 3          0        0        4       0\n"
                       "  #7 2023-11-14T22:13:20.123Z  resent t/0 101-102: 2 records, likely\n"
                       "     why: dup_handover: ";
    assert_memory_equal(text, head, strlen(head));
    assert_non_null(strstr(text, "disconnect, "));
    assert_non_null(strstr(text, "m?[1 (app,"));
    assert_non_null(strstr(text, "Sent twice"));
    assert_non_null(strstr(text, "     do:  Commit in the revoke callback.\n"));
    assert_non_null(strstr(text, "     try: tally drill auto-commit-repeat -- COMMAND\n"));
    assert_non_null(strstr(text, "  not shown (--all): 1 risk\n     risk: a member died"));
    assert_null(strstr(text, "have no committed offset"));
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        size_t len = strcspn(line, "\n");
        assert_true(len <= 80 && (len == 0 || line[len - 1] != ' '));
    }
    buf_free(&out);
}

static void resent_is_an_upper_bound(void **state)
{
    (void)state;
    struct report_style style = {.width = 1000};
    struct tally_report_response_incident i = incidents[0];
    struct buf out = {0};
    i.likely_at_most = 1;
    report_incident_text(&i, (struct str){NULL, -1}, &style, &out);
    i.class = (struct str){"repeated", 8};
    report_incident_text(&i, (struct str){NULL, -1}, &style, &out);
    buf_add(&out, "", 1);
    const char *bound = "Sent twice is not worked on twice: at most 2 were, and this counts what "
                        "was only fetched ahead. Its commits lay 1 records apart at most, so "
                        "likely no more than that.";
    const char *found = strstr((char *)out.ptr, bound);
    assert_non_null(found);
    assert_null(strstr(found + 1, "Sent twice"));
    buf_free(&out);
}

static char *text_of(struct tally_report_response_group *g, bool all)
{
    struct report_style style = {.width = 1000, .all = all};
    struct tally_report_response r = {.groups = g, .n_groups = 1};
    struct buf out = {0};
    report_text(&r, &style, &out);
    buf_add(&out, "", 1);
    return (char *)out.ptr;
}

// Three of a cause, newest first: the first says all, the others what differs.
static void what_was_said_is_referred_to(void **state)
{
    (void)state;
    struct tally_report_response_incident three[] = {incidents[0], incidents[0], incidents[0]};
    three[0].id = 1, three[0].advice = (struct str){"Otherwise.", 10};
    three[1].id = 2;
    three[2].id = 3;
    struct tally_report_response_group g = group;
    g.incidents = three;
    g.n_incidents = 3;
    char *text = text_of(&g, false);
    const char *second = strstr(text, "  #2 ");
    assert_non_null(second);
    assert_non_null(strstr(text, "do:  Commit in the revoke callback.\n     try: tally drill"));
    assert_non_null(strstr(second, "why: dup_handover, as #3. At most 2 were worked on twice. Tr"));
    assert_non_null(strstr(second, "do:  as for #3\n  #1 "));
    assert_non_null(strstr(second, "do:  Otherwise.\n"));
    assert_null(strstr(second, "try:"));
    assert_null(strstr(second, "Sent twice"));
    assert_null(strstr(text, "not shown"));
    free(text);
}

static void what_may_be_lost_is_told_as_that(void **state)
{
    (void)state;
    struct tally_report_response_incident two[] = {incidents[1], incidents[1]};
    two[0].class = (struct str){"note", 4};
    two[1].first = 1, two[1].last = two[1].records = 5, two[1].topic = (struct str){"t", 1};
    struct tally_report_response_partition p = partitions[1];
    struct tally_report_response_group g = group;
    g.incidents = two;
    g.n_incidents = 2;
    g.partitions = &p;
    g.n_partitions = 1;
    p.resent = 1;
    char *text = text_of(&g, false);
    assert_non_null(strstr(text, "  not shown (--all): 1 risk, 1 note\n     risk: a member died"));
    assert_null(strstr(text, "why:"));
    assert_non_null(strstr(text, "  1 of 1 partitions have no committed offset, and"));
    free(text);
    p.resent = 0;
    text = text_of(&g, true);
    assert_non_null(
        strstr(text, "before the work, at most 5 records are lost; if it works first, n"));
    assert_null(strstr(text, "did not live to do it"));
    assert_null(strstr(text, "not shown"));
    assert_null(strstr(text, "no committed offset"));
    free(text);
}

static void json_has_the_names_of_the_contract(void **state)
{
    (void)state;
    json_t *all = report_json(&report);
    json_t *g = json_array_get(json_object_get(all, "groups"), 0);
    json_t *i = json_array_get(json_object_get(g, "incidents"), 0);
    char *text = json_dumps(i, JSON_COMPACT);
    assert_string_equal(
        text,
        "{\"id\":7,\"time\":\"2023-11-14T22:13:20.123Z\",\"topic\":\"t\",\"partition\":0,"
        "\"first\":101,\"last\":102,\"records\":2,\"likely_at_most\":null,\"class\":\"resent\","
        "\"certainty\":\"likely\",\"cause\":\"dup_handover\",\"contributing\":[],"
        "\"trigger\":\"disconnect\",\"rebalance\":3,\"attribution\":\"likely\","
        "\"from\":{\"member\":\"m\\u001B[1\",\"client_id\":\"app\",\"host\":\"/127.0.0.1\","
        "\"software\":\"\"},\"to\":null,"
        "\"evidence\":[{\"time\":\"2023-11-14T22:13:20.456Z\",\"api\":\"OffsetCommit\","
        "\"summary\":\"K 100 -> 101\"}],\"advice\":\"Commit in the revoke callback.\","
        "\"quiet\":false,\"forced\":false,\"closed\":true,\"resolved\":false}");
    free(text);
    json_t *p = json_array_get(json_object_get(g, "partitions"), 1);
    assert_true(json_is_null(json_object_get(p, "committed_offset")));
    assert_int_equal(json_integer_value(json_object_get(p, "skipped")), 4);
    json_decref(all);
}

static void no_utf8_does_not_lose_a_document(void **state)
{
    (void)state;
    struct tally_report_response_incident i = incidents[0];
    i.from.client_id = (struct str){"a\0\xff", 3};
    json_t *o = report_incident_json(&i);
    const json_t *name = json_object_get(json_object_get(o, "from"), "client_id");
    assert_int_equal(json_string_length(name), 3);
    assert_memory_equal(json_string_value(name), "a\0?", 3);
    json_decref(o);
}

static bool fails(const char *class, const char *expect, const char *on_text)
{
    struct tally_report_response_incident i = incidents[0];
    struct tally_report_response_group g = group;
    i.class = str_from(class);
    g.expect = str_from(expect);
    g.incidents = &i;
    g.n_incidents = 1;
    struct tally_report_response r = {.groups = &g, .n_groups = 1};
    struct report_fail_on on;
    assert_true(report_fail_on_parse(on_text, &on));
    return report_fails(&r, &on);
}

static void fail_on_expected_follows_the_guarantee(void **state)
{
    (void)state;
    assert_true(fails("missed", "at-least-once", "expected"));
    assert_false(fails("repeated", "at-least-once", "expected"));
    assert_false(fails("missed", "at-most-once", "expected"));
    assert_true(fails("repeated", "at-most-once", "expected"));
    assert_true(fails("missed", "exactly-once", "expected"));
    assert_true(fails("repeated", "exactly-once", "expected"));
    assert_false(fails("resent", "exactly-once", "expected"));
    assert_true(fails("resent", "at-least-once", "risk,resent"));
    struct report_fail_on on;
    assert_false(report_fail_on_parse("missed,lost", &on));
    assert_false(report_fail_on_parse("miss", &on));
}

static void times_are_read_and_written(void **state)
{
    (void)state;
    int64_t ms;
    char text[CLI_TIME_MAX];
    assert_true(cli_time("2023-11-14T22:13:20.123Z", &ms));
    assert_int_equal(ms, 1700000000123);
    assert_true(cli_time("2023-11-14T23:13:20+01:00", &ms));
    assert_int_equal(ms, 1700000000000);
    assert_true(cli_time("2023-11-14", &ms));
    assert_true(cli_time("2h", &ms));
    assert_false(cli_time("yesterday", &ms));
    assert_false(cli_time("2023-11-14T", &ms));
    assert_false(cli_time("2023-11-14T22:13:20X", &ms));
    cli_time_text(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999Z");
    cli_time_text(INT64_MAX, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_narrow_and_hides_what_is_quiet),
        cmocka_unit_test(resent_is_an_upper_bound),
        cmocka_unit_test(what_was_said_is_referred_to),
        cmocka_unit_test(what_may_be_lost_is_told_as_that),
        cmocka_unit_test(json_has_the_names_of_the_contract),
        cmocka_unit_test(no_utf8_does_not_lose_a_document),
        cmocka_unit_test(fail_on_expected_follows_the_guarantee),
        cmocka_unit_test(times_are_read_and_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
