// tally bench: the same load on any Kafka-protocol address. The engine is src/client/load*.
#include "cli/cli.h"
#include "client/load.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char help[] =
    "usage: tally bench [produce|consume|latency|commit|group|connect]... [OPTION]...\n"
    "\n"
    "Puts load on any Kafka-protocol address and says what came of it. Without a kind: produce,\n"
    "consume and latency. The topic is made when missing, and what was made is deleted again.\n"
    "\n"
    "  -b, --bootstrap HOST:PORT  (default 127.0.0.1:9092)\n"
    "  -t, --topic NAME           (default tally-bench)\n"
    "  -p, --partitions N         of the topic, when it is made (default 1)\n"
    "  -r, --record-size BYTES    (default 1024)\n"
    "  -B, --batch-bytes BYTES    of a produced batch (default 16384)\n"
    "  -a, --acks all|1|0         (default 1)\n"
    "  -c, --connections N        of produce, consume and connect (default 1)\n"
    "  -i, --in-flight N          requests of a connection that are not answered (default 5)\n"
    "  -n, --records N            stop after so many; of commit: commits\n"
    "  -s, --seconds S            or after so long (default 5)\n"
    "      --rate N               latency: records a second, in open loop (default 10000)\n"
    "      --fetch-bytes BYTES    of a partition in one answer (default 1048576)\n"
    "  -g, --group NAME           of commit and group (default tally-bench)\n"
    "  -m, --members N            of that group, a connection each (default 10)\n"
    "      --groups N             commit: the members spread over GROUP-0, GROUP-1 ...\n"
    "      --leave                group: then one member leaves, the others go on\n"
    "      --hold                 connect: keep all open until standard input ends;\n"
    "                             commit: say \"joined\" and \"committed\", and wait for a line\n"
    "      --keep                 do not delete the topic\n"
    "  -j, --json                 one JSON document\n"
    "\n"
    "Latency counts from the intended time of sending, so a stall is not left out.\n"
    "\n"
    "examples:\n"
    "  tally bench\n"
    "  tally bench produce --record-size 100 --acks all --partitions 16 --connections 4\n"
    "  tally bench latency --rate 20000 --seconds 30 --json\n"
    "  tally bench commit --members 1000 --bootstrap 127.0.0.1:9092\n";

struct kind {
    const char *name;
    int (*run)(const struct load_options *o, struct load_result *ret, char *why);
    bool has_topic;
};

static const struct kind kinds[] = {
    {"produce", load_produce, true}, {"consume", load_consume, true},
    {"latency", load_latency, true}, {"commit", load_commit, true},
    {"group", load_group, true},     {"connect", load_connect, false},
};
#define N_KINDS (sizeof kinds / sizeof kinds[0])
#define DEFAULT_KINDS 3 // the first ones
#define KINDS_MAX 16    // named in one run

struct options {
    struct load_options load;
    const struct kind *kinds[KINDS_MAX];
    size_t n_kinds;
    bool keep;
    bool json;
};

enum { OPT_RATE = 256, OPT_FETCH_BYTES, OPT_GROUPS, OPT_LEAVE, OPT_HOLD, OPT_KEEP };

static const struct option long_options[] = {
    {"bootstrap", required_argument, NULL, 'b'},
    {"topic", required_argument, NULL, 't'},
    {"partitions", required_argument, NULL, 'p'},
    {"record-size", required_argument, NULL, 'r'},
    {"batch-bytes", required_argument, NULL, 'B'},
    {"acks", required_argument, NULL, 'a'},
    {"connections", required_argument, NULL, 'c'},
    {"in-flight", required_argument, NULL, 'i'},
    {"records", required_argument, NULL, 'n'},
    {"seconds", required_argument, NULL, 's'},
    {"rate", required_argument, NULL, OPT_RATE},
    {"fetch-bytes", required_argument, NULL, OPT_FETCH_BYTES},
    {"group", required_argument, NULL, 'g'},
    {"members", required_argument, NULL, 'm'},
    {"groups", required_argument, NULL, OPT_GROUPS},
    {"leave", no_argument, NULL, OPT_LEAVE},
    {"hold", no_argument, NULL, OPT_HOLD},
    {"keep", no_argument, NULL, OPT_KEEP},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

// A number into a field of the given size; false when the option has none.
struct number {
    int option;
    const char *name;
    int64_t min, max;
    size_t at;
    bool is_wide;
};

static const struct number numbers[] = {
    {'p', "--partitions", 1, 100000, offsetof(struct load_options, partitions), false},
    {'r', "--record-size", LOAD_RECORD_MIN, 1 << 20, offsetof(struct load_options, record_bytes),
     false},
    {'B', "--batch-bytes", 100, 64 << 20, offsetof(struct load_options, batch_bytes), false},
    {'c', "--connections", 1, LOAD_CONNECTIONS_MAX, offsetof(struct load_options, connections),
     false},
    {'i', "--in-flight", 1, LOAD_IN_FLIGHT_MAX, offsetof(struct load_options, in_flight), false},
    {'n', "--records", 1, INT64_MAX, offsetof(struct load_options, records), true},
    {'m', "--members", 1, LOAD_CONNECTIONS_MAX, offsetof(struct load_options, members), false},
    {OPT_RATE, "--rate", 1, 100000000, offsetof(struct load_options, rate), true},
    {OPT_GROUPS, "--groups", 1, LOAD_CONNECTIONS_MAX, offsetof(struct load_options, groups), false},
    {OPT_FETCH_BYTES, "--fetch-bytes", 1, 1 << 30, offsetof(struct load_options, fetch_bytes),
     false},
};

static int take_number(struct load_options *o, int option)
{
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const struct number *n = &numbers[i];
        int64_t value;
        if (n->option != option)
            continue;
        if (!cli_number(optarg, n->min, n->max, &value))
            return cli_fail("bench",
                            "%s takes a number from %" PRId64 " to %" PRId64 ", not \"%s\"",
                            n->name, n->min, n->max, optarg);
        char *field = (char *)o + n->at;
        int32_t narrow = (int32_t)value;
        if (n->is_wide)
            memcpy(field, &value, sizeof value);
        else
            memcpy(field, &narrow, sizeof narrow);
        return CLI_FINE;
    }
    return cli_see_help("bench");
}

static int take_seconds(struct load_options *o)
{
    char *end;
    o->seconds = strtod(optarg, &end);
    if (end != optarg && *end == 0 && o->seconds >= 0.1 && o->seconds <= 86400)
        return CLI_FINE;
    return cli_fail("bench", "--seconds takes a number from 0.1 to 86400, not \"%s\"", optarg);
}

static int take_acks(struct load_options *o)
{
    bool all = !strcmp(optarg, "all") || !strcmp(optarg, "-1");
    if (!all && strcmp(optarg, "0") != 0 && strcmp(optarg, "1") != 0)
        return cli_fail("bench", "--acks takes all, 1 or 0, not \"%s\"", optarg);
    o->acks = all ? (int16_t)-1 : (int16_t)(optarg[0] - '0');
    return CLI_FINE;
}

static int take_option(struct options *o, int option, bool *ret_is_help)
{
    switch (option) {
    case 'b':
        o->load.bootstrap = optarg;
        return CLI_FINE;
    case 't':
        o->load.topic = optarg;
        return CLI_FINE;
    case 'g':
        o->load.group = optarg;
        return CLI_FINE;
    case 'a':
        return take_acks(&o->load);
    case 's':
        return take_seconds(&o->load);
    case OPT_LEAVE:
        o->load.rejoin = true;
        return CLI_FINE;
    case OPT_HOLD:
        o->load.hold = true;
        return CLI_FINE;
    case OPT_KEEP:
        o->keep = true;
        return CLI_FINE;
    case 'j':
        o->json = true;
        return CLI_FINE;
    case 'h':
        *ret_is_help = true;
        return CLI_FINE;
    default:
        return take_number(&o->load, option);
    }
}

static int take_kind(struct options *o, const char *name)
{
    for (size_t i = 0; i < N_KINDS; i++) {
        if (strcmp(kinds[i].name, name) != 0 || o->n_kinds == KINDS_MAX)
            continue;
        o->kinds[o->n_kinds++] = &kinds[i];
        return CLI_FINE;
    }
    return cli_fail("bench", "\"%s\" is no kind of load; see tally bench --help", name);
}

static int parse(int argc, char **argv, struct options *o, bool *ret_is_help)
{
    optind = 0;
    for (int option; (option = getopt_long(argc, argv, "b:t:p:r:B:a:c:i:n:s:g:m:jh", long_options,
                                           NULL)) >= 0;) {
        int status = take_option(o, option, ret_is_help);
        if (status || *ret_is_help)
            return status;
    }
    for (; optind < argc; optind++) {
        int status = take_kind(o, argv[optind]);
        if (status)
            return status;
    }
    if (o->n_kinds == 0)
        while (o->n_kinds < DEFAULT_KINDS) {
            o->kinds[o->n_kinds] = &kinds[o->n_kinds];
            o->n_kinds++;
        }
    return CLI_FINE;
}

// ---- Output

static void show_progress(void *arg, double seconds, int64_t done)
{
    const char *name = arg;
    fprintf(stderr, "\r%s: %" PRId64 " in %.1f s ", name, done, seconds);
}

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static double per_second(const struct load_result *r, int64_t n)
{
    return r->seconds > 0 ? (double)n / r->seconds : 0;
}

static void text_histogram(const char *what, const struct histogram *h)
{
    printf("  %-34s p50 %.3f  p99 %.3f  p99.9 %.3f  max %.3f\n", what,
           ms(histogram_quantile(h, 0.5)), ms(histogram_quantile(h, 0.99)),
           ms(histogram_quantile(h, 0.999)), ms(h->max));
}

static void text_result(const struct kind *k, const struct load_result *r)
{
    const char *unit = k->run == load_commit    ? "commits"
                       : k->run == load_group   ? "members"
                       : k->run == load_connect ? "connections"
                                                : "records";
    printf("%s: %" PRId64 " %s in %.2f s, %.0f a second", k->name, r->records, unit, r->seconds,
           per_second(r, r->records));
    if (r->bytes)
        printf(", %.1f MB/s", per_second(r, r->bytes) / 1e6);
    putchar('\n');
    if (k->run == load_latency) {
        text_histogram("intended to received, ms:", &r->latency);
        text_histogram("intended to acknowledged, ms:", &r->second);
    } else {
        text_histogram(k->run == load_group ? "join to assigned, ms:" : "a request, ms:",
                       &r->latency);
    }
    if (r->rebalance_ms > 0)
        printf("  one left, all others assigned again after %.1f ms\n", r->rebalance_ms);
}

static void json_histogram(const char *name, const struct histogram *h)
{
    printf(",\"%s\":{\"count\":%" PRIu64 ",\"mean\":%.6f,\"p50\":%.6f,\"p99\":%.6f,"
           "\"p999\":%.6f,\"max\":%.6f}",
           name, h->count, histogram_mean(h) / 1e6, ms(histogram_quantile(h, 0.5)),
           ms(histogram_quantile(h, 0.99)), ms(histogram_quantile(h, 0.999)), ms(h->max));
}

static void json_result(const struct kind *k, const struct load_result *r)
{
    printf("{\"kind\":\"%s\",\"records\":%" PRId64 ",\"bytes\":%" PRId64 ",\"requests\":%" PRId64
           ",\"seconds\":%.6f,\"records_per_second\":%.1f,\"mb_per_second\":%.3f",
           k->name, r->records, r->bytes, r->requests, r->seconds, per_second(r, r->records),
           per_second(r, r->bytes) / 1e6);
    json_histogram("latency_ms", &r->latency);
    if (k->run == load_latency)
        json_histogram("acknowledged_ms", &r->second);
    if (r->rebalance_ms > 0)
        printf(",\"rebalance_ms\":%.3f", r->rebalance_ms);
    putchar('}');
}

// ---- The run

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int run_kinds(struct options *o)
{
    char why[CLIENT_WHY_MAX];
    bool is_terminal = isatty(STDERR_FILENO);
    struct load_result *r = malloc(sizeof *r);
    if (!r)
        return cli_fail("bench", "out of memory");
    int status = CLI_FINE;
    const char *lead = "{\"results\":[";
    for (size_t i = 0; i < o->n_kinds && status == CLI_FINE; i++) {
        const struct kind *k = o->kinds[i];
        struct load_options load = o->load;
        if (is_terminal) {
            load.progress = show_progress;
            load.arg = (void *)(uintptr_t)k->name;
        }
        int result = k->run(&load, r, why);
        if (is_terminal)
            fputs("\r\33[K", stderr);
        if (result < 0)
            status = cli_fail("bench", "%s: %s", k->name, why);
        else if (o->json) {
            fputs(lead, stdout);
            lead = ",";
            json_result(k, r);
        } else
            text_result(k, r);
    }
    if (o->json)
        printf("%s]}\n", *lead == ',' ? "" : lead);
    free(r);
    return status;
}

static int run(struct options *o)
{
    char why[CLIENT_WHY_MAX];
    if (load_probe(o->load.bootstrap, why) < 0)
        return cli_fail("bench", "%s", why);
    raise_file_limit();
    bool needs_topic = false, made = false;
    for (size_t i = 0; i < o->n_kinds; i++)
        needs_topic = needs_topic || o->kinds[i]->has_topic;
    if (needs_topic && load_make_topic(&o->load, &made, why) < 0)
        return cli_fail("bench", "%s", why);
    int status = run_kinds(o);
    if (made && !o->keep && load_remove_topic(&o->load, why) < 0)
        return cli_fail("bench", "%s", why);
    return status;
}

int cli_bench(int argc, char **argv)
{
    struct options o = {.load = load_options_default};
    bool is_help = false;
    int status = parse(argc, argv, &o, &is_help);
    if (is_help) {
        fputs(help, stdout);
        return CLI_FINE;
    }
    return status ? status : run(&o);
}
