// tally drill: forces the cases on the user's own consumer, and judges.

#include "cli/cli.h"
#include "cli/report.h"
#include "core/configs.h"
#include "drill/show.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

struct request_line {
    struct drill_options o;
    char **cases;
    int n_cases;
    const char *records;
    const char *from_topic;
    const char *key;
    enum records_format format;
    const char *evidence;
    const char *match;
    const char *junit;
    bool is_json;
    bool no_control;
    struct configs *settings;
    struct evidence *parsed_evidence;
    struct drill_script **scripts;
    int n_scripts;
};

static const char help[] =
    "usage: tally drill [CASE...] [OPTION...] -- COMMAND [ARG...]\n"
    "       tally drill list\n"
    "       tally drill show CASE\n"
    "\n"
    "Starts a broker of its own and copies of COMMAND, your unmodified consumer, forces each CASE\n"
    "on it (none named: all), and says which records were missed or worked on twice, and why.\n"
    "COMMAND finds TALLY_BOOTSTRAP, TALLY_TOPIC, TALLY_GROUP, TALLY_INSTANCE, TALLY_ATTEMPT and\n"
    "TALLY_DIR in its environment; {bootstrap} {topic} {group} {instance} {dir} in its arguments\n"
    "are replaced. It says what it has worked on by a line with topic/partition/offset or the "
    "key.\n"
    "\n"
    "  -e, --expect WHAT        at-least-once (default), at-most-once, exactly-once\n"
    "      --evidence MODE      what says that a record was worked on:\n"
    "                           stdout (default): a line of the output;\n"
    "                           sql:sqlite:FILE:QUERY, sql:postgres:URL:QUERY: a row of its\n"
    "                           database, by a query that gives topic, partition and offset, or a\n"
    "                           key;\n"
    "                           none: only what the broker sees.\n"
    "                           A database that outlives a drill is fine: without --topic each\n"
    "                           run has a topic and a group of its own there.\n"
    "      --match PATTERN      a line of output that counts: a regular expression with\n"
    "                           {partition} and {offset}, or {key}\n"
    "      --records FILE       records to feed (lines, JSON, CSV, RFC 822); default: made up\n"
    "      --from-topic BROKER/TOPIC\n"
    "                           records of any Kafka-protocol cluster: HOST:PORT[,...]/TOPIC\n"
    "      --format FORMAT      of FILE: lines, json, csv, rfc822 (default: by its looks)\n"
    "      --key FIELD          of FILE: the field that is the key\n"
    "  -t, --topic T            the topic's name (default drill)\n"
    "  -p, --partitions N       instead of what the case says\n"
    "      --copies N           likewise: how many of COMMAND run\n"
    "      --timeout S          for each case (default 120)\n"
    "  -s, --set NAME=VALUE     a setting of the broker\n"
    "      --no-control         without the control pass: certainty is `likely` at most\n"
    "  -j, --json               all results as one JSON document\n"
    "      --junit FILE         results for CI\n"
    "      --keep DIR           keeps the output of the copies and the broker's directory\n"
    "\n"
    "Exit status: 0 all passed, 1 one failed, 2 none failed but one is inconclusive or could not\n"
    "run.\n"
    "\n"
    "examples:\n"
    "  tally drill list\n"
    "  tally drill auto-commit-miss -- ./my-consumer\n"
    "  tally drill --expect exactly-once --evidence \\\n"
    "      'sql:sqlite:{dir}/out.db:SELECT topic, partition, record_offset FROM results' \\\n"
    "      -- ./my-consumer {dir}/out.db\n"
    "  tally drill join --from-topic 127.0.0.1:9092/orders -- ./my-consumer\n";

static int list(void)
{
    for (size_t i = 0; drill_builtin_file(i); i++) {
        struct drill_script *s = NULL;
        char *why = NULL;
        if (drill_script_load(drill_builtin_file(i), &s, &why) < 0)
            return cli_fail("drill", "%s", why);
        char head[64];
        struct buf line = {0};
        snprintf(head, sizeof head, "%-20s  ", s->name);
        report_sentence(&line, head, str_from(s->title), REPORT_WIDTH);
        fwrite(line.ptr, 1, line.len, stdout);
        buf_free(&line);
        drill_script_free(s);
    }
    return CLI_FINE;
}

static int show(const char *name)
{
    struct drill_script *s = NULL;
    char *why = NULL;
    if (drill_script_load(name, &s, &why) < 0) {
        (void)cli_fail("drill", "%s", why);
        free(why);
        return CLI_COULD_NOT_RUN;
    }
    fputs(s->text, stdout);
    drill_script_free(s);
    return CLI_FINE;
}

static int take_setting(struct request_line *q, const char *text)
{
    const char *equals = strchr(text, '=');
    char why[512] = "";
    if (!equals)
        return cli_fail("drill", "--set %s: the form is NAME=VALUE", text);
    struct str name = {text, (int32_t)(equals - text)};
    struct str value = str_from(equals + 1);
    enum config_check c = config_check_broker(name, value, why, sizeof why);
    if (c == CONFIG_UNKNOWN || c == CONFIG_INVALID)
        return cli_fail("drill", "--set %s: %s", text, why);
    configs_set(q->settings, name, value);
    return 0;
}

static int take_number(const char *option, const char *text, int64_t min, int64_t max, int *ret)
{
    int64_t n;
    if (!cli_number(text, min, max, &n))
        return cli_fail("drill", "--%s %s: a number from %lld to %lld", option, text,
                        (long long)min, (long long)max);
    *ret = (int)n;
    return 0;
}

static int take_option(struct request_line *q, int c, const char *value)
{
    int seconds = 0, rc;
    switch (c) {
    case 'e':
        if (!ledger_expect_find(str_from(value), &q->o.expect))
            return cli_fail("drill", "--expect %s: at-least-once, at-most-once or exactly-once",
                            value);
        return 0;
    case 'E':
        q->evidence = value;
        return 0;
    case 'm':
        q->match = value;
        return 0;
    case 'r':
        q->records = value;
        return 0;
    case 'f':
        if (!records_format_parse(value, &q->format))
            return cli_fail("drill", "--format %s: lines, json, csv or rfc822", value);
        return 0;
    case 'k':
        q->key = value;
        return 0;
    case 't':
        q->o.topic = value;
        return 0;
    case 'p':
        return take_number("partitions", value, 1, 64, &q->o.partitions);
    case 'c':
        return take_number("copies", value, 1, 16, &q->o.copies);
    case 'T':
        rc = take_number("timeout", value, 1, 86400, &seconds);
        q->o.timeout_ms = (uint64_t)seconds * 1000;
        return rc;
    case 's':
        return take_setting(q, value);
    case 'n':
        q->no_control = true;
        return 0;
    case 'j':
        q->is_json = true;
        return 0;
    case 'J':
        q->junit = value;
        return 0;
    case 'K':
        q->o.keep_dir = value;
        return 0;
    case 'F':
        q->from_topic = value;
        return 0;
    case 'b':
        return cli_fail("drill", "--bootstrap comes with `tally proxy`, in a later version: drills "
                                 "run on a broker of their own; --from-topic BROKER/TOPIC feeds "
                                 "it with your cluster's records");
    default:
        return cli_see_help("drill");
    }
}

static int parse(struct request_line *q, int argc, char **argv)
{
    static const struct option options[] = {
        {"expect", required_argument, NULL, 'e'},
        {"evidence", required_argument, NULL, 'E'},
        {"match", required_argument, NULL, 'm'},
        {"records", required_argument, NULL, 'r'},
        {"format", required_argument, NULL, 'f'},
        {"key", required_argument, NULL, 'k'},
        {"topic", required_argument, NULL, 't'},
        {"partitions", required_argument, NULL, 'p'},
        {"copies", required_argument, NULL, 'c'},
        {"timeout", required_argument, NULL, 'T'},
        {"set", required_argument, NULL, 's'},
        {"no-control", no_argument, NULL, 'n'},
        {"json", no_argument, NULL, 'j'},
        {"junit", required_argument, NULL, 'J'},
        {"keep", required_argument, NULL, 'K'},
        {"from-topic", required_argument, NULL, 'F'},
        {"bootstrap", required_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "e:t:p:s:jh", options, NULL)) != -1) {
        int rc = take_option(q, c, optarg);
        if (rc != 0)
            return rc;
    }
    if (q->from_topic && (q->records || q->key || q->format != RECORDS_AUTO))
        return cli_fail("drill", "--from-topic does not go with --records, --format or --key");
    q->cases = argv + optind;
    q->n_cases = argc - optind;
    return 0;
}

// Everything that can be wrong is found before anything is started.
static int prepare(struct request_line *q)
{
    char *why = NULL;
    int rc = 0;
    size_t builtin = 0;
    while (drill_builtin_file(builtin))
        builtin++;
    q->n_scripts = q->n_cases ? q->n_cases : (int)builtin;
    q->scripts = calloc((size_t)q->n_scripts, sizeof(struct drill_script *));
    CHECK(q->scripts);
    for (int i = 0; rc == 0 && i < q->n_scripts; i++) {
        const char *name = q->n_cases ? q->cases[i] : drill_builtin_file((size_t)i);
        rc = drill_script_load(name, &q->scripts[i], &why);
    }
    if (rc == 0)
        rc = evidence_parse(q->evidence, q->match, &q->parsed_evidence, &why);
    if (rc == 0 && q->from_topic)
        rc = supply_open_topic(q->from_topic, &q->o.supply, &why);
    else if (rc == 0)
        rc = supply_open(q->records, q->format, q->key, &q->o.supply, &why);
    q->o.evidence = q->parsed_evidence;
    if (rc < 0) {
        rc = cli_fail("drill", "%s", why ? why : strerror(-rc));
        free(why);
    }
    return rc;
}

static int run_one(struct request_line *q, struct drill_set *set, const struct drill_script *s)
{
    struct drill_result *d = NULL;
    char *why = NULL;
    int rc = drill_run(&q->o, s, &d, &why);
    if (rc < 0) {
        (void)cli_fail("drill", "%s%s%s", s ? s->name : "control", ": ", why);
        free(why);
        return rc;
    }
    bool is_shown = s || d->verdict != DRILL_PASS;
    if (!s) {
        static const char *const names[] = {"passed", "failed", "inconclusive"};
        set->control = names[d->verdict];
        q->o.control_passed = d->verdict != DRILL_INCONCLUSIVE;
    }
    if (!is_shown) {
        if (!q->is_json)
            printf("control      passed: %lld records, each %s, nothing done to it\n",
                   (long long)d->records, d->is_blind ? "sent" : "shown once");
        drill_result_free(d);
    } else {
        set->results[set->n++] = d;
        if (!q->is_json)
            show_text(stdout, set, d);
    }
    fflush(stdout);
    return 0;
}

static int run_all(struct request_line *q, struct drill_set *set)
{
    int rc = 0;
    q->o.control_passed = !q->no_control;
    if (!q->no_control) {
        rc = run_one(q, set, NULL);
        if (rc == 0 && !q->o.control_passed)
            return 0; // the evidence accuses nobody; the why of the control says how to mend it
    }
    for (int i = 0; rc == 0 && i < q->n_scripts; i++)
        rc = run_one(q, set, q->scripts[i]);
    return rc;
}

static int finish(struct request_line *q, struct drill_set *set, int rc)
{
    int status = rc < 0 ? CLI_COULD_NOT_RUN : CLI_FINE;
    bool failed = false;
    for (size_t i = 0; i < set->n; i++) {
        failed |= set->results[i]->verdict == DRILL_FAIL;
        if (set->results[i]->verdict == DRILL_INCONCLUSIVE)
            status = CLI_COULD_NOT_RUN;
    }
    if (failed && rc == 0)
        status = CLI_CHECK_FAILED;
    if (q->is_json && rc == 0)
        show_json(stdout, set);
    if (q->junit && rc == 0) {
        int junit = show_junit(q->junit, set);
        if (junit < 0)
            status = cli_fail("drill", "cannot write %s: %s", q->junit, strerror(-junit));
    }
    for (size_t i = 0; i < set->n; i++)
        drill_result_free(set->results[i]);
    free(set->results);
    return status;
}

static void catch_signals(void)
{
    struct sigaction a = {.sa_handler = on_signal};
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGHUP, &a, NULL);
}

int cli_drill(int argc, char **argv)
{
    int own = 0;
    while (own < argc && strcmp(argv[own], "--") != 0)
        own++;
    for (int i = 1; i < own; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return fputs(help, stdout) < 0;
    }
    if (own == 2 && own == argc && strcmp(argv[1], "list") == 0)
        return list();
    if (own == 3 && own == argc && strcmp(argv[1], "show") == 0)
        return show(argv[2]);
    struct request_line q = {
        .evidence = "stdout",
        .o = {.timeout_ms = 120000, .shows_progress = true, .interrupted = &interrupted}};
    q.settings = configs_new();
    q.o.fixed = q.settings;
    int status = parse(&q, own, argv);
    if (status == 0 && own + 1 >= argc)
        status = cli_fail("drill", "no command: tally drill [CASE...] -- COMMAND [ARG...]");
    if (status == 0) {
        q.o.argv = argv + own + 1;
        status = prepare(&q);
    }
    if (status == 0) {
        struct drill_set set = {.expect = q.o.expect, .control = "skipped"};
        set.results = calloc((size_t)q.n_scripts + 1, sizeof(struct drill_result *));
        CHECK(set.results);
        catch_signals();
        status = finish(&q, &set, run_all(&q, &set));
    }
    for (int i = 0; i < q.n_scripts; i++)
        drill_script_free(q.scripts[i]);
    free(q.scripts);
    evidence_free(q.parsed_evidence);
    supply_free(q.o.supply);
    configs_free(q.settings);
    return status;
}
