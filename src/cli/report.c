#include "cli/report.h"
#include "base/map.h"
#include "cli/cli.h"
#include "client/client.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_MS 30000
#define FOLLOW_MS 500 // how often --follow asks
#define WIDTH_MIN 60  // narrower ones break every sentence

static const char help[] =
    "usage: tally report [GROUP] [--bootstrap B | --data DIR] [--topic T] [--since TIME]\n"
    "                    [--follow] [--json] [--rebalances] [--all] [--fail-on CLASS,...] "
    "[--verify]\n"
    "\n"
    "What each consumer group got: committed, in flight, skipped, lost; each incident with what,\n"
    "why and what to do.\n"
    "\n"
    "  -b, --bootstrap HOST:PORT   a running tally (default 127.0.0.1:9092)\n"
    "  -d, --data DIR              the data directory of a broker that is stopped; only read\n"
    "  -t, --topic T               only this topic\n"
    "      --since TIME            incidents since then: 2026-01-31T10:00:00Z, or 15m, 2h, 7d ago\n"
    "  -f, --follow                each incident when it opens and when it closes, until stopped\n"
    "  -j, --json                  one JSON document; with --follow one object a line\n"
    "  -r, --rebalances            the history of rebalances too\n"
    "  -a, --all                   quiet incidents and notes too\n"
    "      --fail-on CLASS,...     exit 1 when there is one: missed, repeated, resent, risk,\n"
    "                              stalled, or expected (what breaks the group's expectation)\n"
    "      --verify                check that the states of every partition add up; exit 1 if not\n"
    "\n"
    "examples:\n"
    "  tally report\n"
    "  tally report orders-app --since 1h --rebalances\n"
    "  tally report orders-app --fail-on expected --json\n"
    "  tally report --data ./tally-data\n";

struct options {
    const char *bootstrap;
    const char *data;
    const char *group;
    const char *topic;
    int64_t since_ms; // 0: all
    bool follow, json, verify, has_fail_on;
    struct report_fail_on fail_on;
    struct report_style style;
};

bool report_fail_on_parse(const char *text, struct report_fail_on *ret)
{
    struct report_fail_on on = {0};
    const struct {
        const char *name;
        bool *flag;
    } known[] = {{"missed", &on.missed}, {"repeated", &on.repeated}, {"resent", &on.resent},
                 {"risk", &on.risk},     {"stalled", &on.stalled},   {"expected", &on.expected}};
    while (*text) {
        size_t len = strcspn(text, ","), i = 0;
        while (i < sizeof known / sizeof known[0] &&
               (strlen(known[i].name) != len || strncmp(known[i].name, text, len) != 0))
            i++;
        if (i == sizeof known / sizeof known[0])
            return false;
        *known[i].flag = true;
        text += len + (text[len] == ',');
    }
    *ret = on;
    return true;
}

static bool incident_fails(const struct tally_report_response_incident *i, struct str expect,
                           const struct report_fail_on *on)
{
    bool may_miss = str_eq_c(expect, "at-most-once"),
         may_repeat = str_eq_c(expect, "at-least-once");
    if (str_eq_c(i->class, "missed"))
        return !i->resolved && (on->missed || (on->expected && !may_miss));
    if (str_eq_c(i->class, "repeated"))
        return on->repeated || (on->expected && !may_repeat);
    if (str_eq_c(i->class, "resent"))
        return on->resent;
    if (str_eq_c(i->class, "risk"))
        return on->risk;
    return str_eq_c(i->class, "stalled") && on->stalled;
}

bool report_fails(const struct tally_report_response *report, const struct report_fail_on *on)
{
    for (int32_t g = 0; g < report->n_groups; g++) {
        const struct tally_report_response_group *group = &report->groups[g];
        for (int32_t i = 0; i < group->n_incidents; i++) {
            if (incident_fails(&group->incidents[i], group->expect, on))
                return true;
        }
    }
    return false;
}

static struct report_style terminal_style(void)
{
    struct report_style style = {.width = REPORT_WIDTH};
    struct winsize size;
    if (isatty(STDOUT_FILENO)) {
        style.color = !getenv("NO_COLOR");
        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= WIDTH_MIN &&
            size.ws_col < REPORT_WIDTH)
            style.width = size.ws_col;
    }
    return style;
}

static int take_option(int c, struct options *o)
{
    switch (c) {
    case 'b':
        o->bootstrap = optarg;
        return 0;
    case 'd':
        o->data = optarg;
        return 0;
    case 't':
        o->topic = optarg;
        return 0;
    case 's':
        if (cli_time(optarg, &o->since_ms))
            return 0;
        return cli_fail("report",
                        "--since wants a time (2026-01-31T10:00:00Z, 15m, 2h, 7d), not "
                        "\"%s\"",
                        optarg);
    case 'f':
        o->follow = true;
        return 0;
    case 'j':
        o->json = true;
        return 0;
    case 'r':
        o->style.rebalances = true;
        return 0;
    case 'a':
        o->style.all = true;
        return 0;
    case 'v':
        o->verify = true;
        return 0;
    case 'x':
        o->has_fail_on = true;
        if (report_fail_on_parse(optarg, &o->fail_on))
            return 0;
        return cli_fail("report",
                        "--fail-on takes missed, repeated, resent, risk, stalled, "
                        "expected; not \"%s\"",
                        optarg);
    case 'h':
        fputs(help, stdout);
        exit(CLI_FINE);
    default:
        return cli_see_help("report");
    }
}

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {{"bootstrap", required_argument, NULL, 'b'},
                                            {"data", required_argument, NULL, 'd'},
                                            {"topic", required_argument, NULL, 't'},
                                            {"since", required_argument, NULL, 's'},
                                            {"follow", no_argument, NULL, 'f'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"rebalances", no_argument, NULL, 'r'},
                                            {"all", no_argument, NULL, 'a'},
                                            {"verify", no_argument, NULL, 'v'},
                                            {"fail-on", required_argument, NULL, 'x'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    *o = (struct options){.bootstrap = CLI_BOOTSTRAP_DEFAULT, .style = terminal_style()};
    int c;
    while ((c = getopt_long(argc, argv, "b:d:t:fjrah", options, NULL)) != -1) {
        int status = take_option(c, o);
        if (status)
            return status;
    }
    if (o->data && o->follow)
        return cli_fail("report",
                        "--follow waits for what a running broker tells; --data has none");
    if (argc - optind > 1)
        return cli_fail("report", "one group, or none for all (see --help)");
    if (optind < argc)
        o->group = argv[optind];
    return 0;
}

// Where the answers come from: a running broker, or the directory of a stopped one.
struct source {
    struct client *client;    // NULL: data
    struct report_data *data; // owned, both
};

static int source_open(const struct options *o, struct source *ret)
{
    char why[CLIENT_WHY_MAX];
    if (o->data)
        return report_data_open(o->data, &ret->data);
    if (client_open(o->bootstrap, "tally-report", TIMEOUT_MS, &ret->client, why) < 0)
        return cli_fail("report", "%s", why);
    return CLI_FINE;
}

static void source_close(struct source *s)
{
    client_close(s->client);
    report_data_close(s->data);
}

static int ask(const struct source *s, const struct options *o, int64_t after_version,
               struct arena *a, struct tally_report_response *ret)
{
    struct tally_report_request request;
    tally_report_request_init(&request);
    request.group = str_from(o->group);
    request.topic = str_from(o->topic);
    request.since_ms = o->since_ms;
    request.after_version = after_version;
    request.rebalances = o->style.rebalances || o->json;
    request.verify = o->verify;
    if (s->data) {
        report_data_ask(s->data, &request, ret, a);
        return CLI_FINE;
    }
    struct client *c = s->client;
    int result = client_call(c, CLIENT_ANY_NODE, API_TALLY_REPORT, -1, &request, a, ret, NULL);
    if (result < 0)
        return cli_fail("report", "%s", client_error(c));
    if (ret->error_code)
        return cli_fail("report", "%s: %.*s", kerr_name(ret->error_code),
                        STR_FMT(ret->error_message));
    return CLI_FINE;
}

static int print_json(json_t *document, size_t flags)
{
    // An answer that did not fit in memory or on the pipe must not look like a whole one.
    int failed = !document || json_dumpf(document, stdout, flags) != 0;
    json_decref(document);
    putchar('\n');
    return failed || fflush(stdout) != 0
               ? cli_fail("report", "standard output: %s", strerror(errno))
               : CLI_FINE;
}

static int print_text(const struct options *o, const struct tally_report_response *report)
{
    struct buf out = {0};
    report_text(report, &o->style, &out);
    size_t written = fwrite(out.ptr, 1, out.len, stdout);
    bool failed = written != out.len || fflush(stdout) != 0;
    buf_free(&out);
    return failed ? cli_fail("report", "standard output: %s", strerror(errno)) : CLI_FINE;
}

static int report_once(const struct source *s, const struct options *o, struct arena *a)
{
    struct tally_report_response report;
    int status = ask(s, o, 0, a, &report);
    if (status)
        return status;
    if (o->group && report.n_groups == 0)
        return cli_fail("report",
                        "no group \"%s\" is accounted%s%s; tally report names all (one that has "
                        "neither members nor committed offsets is forgotten within ten minutes)",
                        o->group, o->topic ? " on topic " : "", o->topic ? o->topic : "");
    if (o->topic && report.n_groups == 0)
        return cli_fail("report", "no group has read from a topic \"%s\"", o->topic);
    status = o->json ? print_json(report_json(&report), JSON_INDENT(2)) : print_text(o, &report);
    if (status)
        return status;
    if (o->verify && !str_is_null(report.verify_failure)) {
        cli_fail("report", "does not add up: %.*s", STR_FMT(report.verify_failure));
        return CLI_CHECK_FAILED;
    }
    if (o->verify && !o->json)
        printf("all states add up\n");
    return o->has_fail_on && report_fails(&report, &o->fail_on) ? CLI_CHECK_FAILED : CLI_FINE;
}

static volatile sig_atomic_t stopped;

static void on_stop(int signal)
{
    (void)signal;
    stopped = 1;
}

enum { SEEN_OPEN = 1, SEEN_CLOSED = 2 };

static int follow_incident(const struct options *o, const struct tally_report_response_group *g,
                           const struct tally_report_response_incident *i, struct map *seen)
{
    if (!o->json && !o->style.all && (i->quiet || str_eq_c(i->class, "note")))
        return CLI_FINE;
    static char marks[] = {0, SEEN_OPEN, SEEN_CLOSED};
    uint64_t id = (uint64_t)i->id;
    char *mark = i->closed ? &marks[SEEN_CLOSED] : &marks[SEEN_OPEN];
    char *before = map_put(seen, key_u64(&id), mark);
    if (before && *before >= *mark)
        return CLI_FINE;
    if (o->json) {
        json_t *line = report_incident_json(i);
        json_object_set_new(line, "event", json_string(i->closed ? "closed" : "opened"));
        json_object_set_new(line, "group", report_name_json(g->group));
        return print_json(line, JSON_COMPACT);
    }
    struct buf out = {0};
    report_incident_text(i, g->group, &o->style, &out);
    size_t written = fwrite(out.ptr, 1, out.len, stdout);
    buf_free(&out);
    return written == 0 || fflush(stdout) != 0 ? cli_fail("report", "standard output is closed")
                                               : CLI_FINE;
}

static int follow_once(const struct source *s, const struct options *o, struct map *seen,
                       int64_t *version, bool *ret_failed)
{
    struct arena *a = arena_new();
    struct tally_report_response report;
    int status = ask(s, o, *version, a, &report);
    for (int32_t g = 0; status == CLI_FINE && g < report.n_groups; g++) {
        struct tally_report_response_group *group = &report.groups[g];
        for (int32_t i = 0; status == CLI_FINE && i < group->n_incidents; i++)
            status = follow_incident(o, group, &group->incidents[i], seen);
    }
    if (status == CLI_FINE) {
        *version = report.version;
        if (o->has_fail_on && report_fails(&report, &o->fail_on))
            *ret_failed = true;
    }
    arena_free(a);
    return status;
}

static int follow(const struct source *s, const struct options *o)
{
    struct sigaction act = {.sa_handler = on_stop};
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    struct map *seen = map_new();
    int64_t version = 0;
    bool failed = false;
    int status = CLI_FINE;
    while (!stopped && status == CLI_FINE) {
        status = follow_once(s, o, seen, &version, &failed);
        struct timespec pause = {.tv_nsec = FOLLOW_MS * 1000000L};
        if (status == CLI_FINE)
            nanosleep(&pause, NULL);
    }
    map_free(seen);
    return stopped ? (failed ? CLI_CHECK_FAILED : CLI_FINE) : status;
}

int cli_report(int argc, char **argv)
{
    struct options o;
    int status = parse(argc, argv, &o);
    if (status)
        return status;
    struct source source = {0};
    status = source_open(&o, &source);
    struct arena *a = arena_new();
    if (status == CLI_FINE)
        status = o.follow ? follow(&source, &o) : report_once(&source, &o, a);
    arena_free(a);
    source_close(&source);
    return status;
}
