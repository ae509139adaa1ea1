#include "cli/cli.h"
#include "cli/records.h"
#include "client/client.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_MS 30000
#define FLUSH_MS 100    // records are held back no longer than this while input flows
#define PROGRESS_MS 500 // how often the counter on the terminal moves
#define MAX_RATE 10000000

static const char help[] =
    "usage: tally produce TOPIC [FILE] [--format lines|json|csv|rfc822] [--key FIELD] [--rate N]\n"
    "\n"
    "Feeds a file, or standard input, into a topic; waits until every record is acknowledged.\n"
    "\n"
    "  -b, --bootstrap HOST:PORT   any Kafka-protocol cluster (default 127.0.0.1:9092)\n"
    "  -f, --format FORMAT         lines, json (an object a line), csv (with a header line) or\n"
    "                              rfc822 (paragraphs); told from the file when not given\n"
    "  -k, --key FIELD             the field or column that is the record's key\n"
    "  -r, --rate N                records a second\n"
    "      --partition N           all into this partition (default: by the key, as Kafka does)\n"
    "\n"
    "examples:\n"
    "  tally produce orders orders.json --key id\n"
    "  apt-cache dumpavail | tally produce packages --format rfc822\n";

struct options {
    const char *bootstrap;
    const char *topic;
    const char *file;
    const char *key;
    enum records_format format;
    int64_t rate; // 0: as fast as it goes
    int64_t partition;
};

struct progress {
    uint64_t added;
    uint64_t acknowledged;
    int64_t started_ms;
    int64_t flushed_ms;
    int64_t shown_ms;
    bool on_terminal;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {{"bootstrap", required_argument, NULL, 'b'},
                                            {"format", required_argument, NULL, 'f'},
                                            {"key", required_argument, NULL, 'k'},
                                            {"rate", required_argument, NULL, 'r'},
                                            {"partition", required_argument, NULL, 'P'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    *o = (struct options){.bootstrap = CLI_BOOTSTRAP_DEFAULT, .file = "-", .partition = -1};
    int c;
    while ((c = getopt_long(argc, argv, "b:f:k:r:h", options, NULL)) != -1) {
        if (c == 'b') {
            o->bootstrap = optarg;
        } else if (c == 'f') {
            if (!records_format_parse(optarg, &o->format))
                return cli_fail("produce", "no format \"%s\": lines, json, csv, rfc822", optarg);
        } else if (c == 'k') {
            o->key = optarg;
        } else if (c == 'r') {
            if (!cli_number(optarg, 1, MAX_RATE, &o->rate))
                return cli_fail("produce", "--rate wants records a second, 1 to %d", MAX_RATE);
        } else if (c == 'P') {
            if (!cli_number(optarg, 0, INT32_MAX, &o->partition))
                return cli_fail("produce", "--partition wants a number, not \"%s\"", optarg);
        } else if (c == 'h') {
            fputs(help, stdout);
            exit(CLI_FINE);
        } else {
            return cli_see_help("produce");
        }
    }
    if (argc - optind < 1 || argc - optind > 2)
        return cli_fail("produce", "give a topic and at most one file (see --help)");
    o->topic = argv[optind];
    if (argc - optind == 2)
        o->file = argv[optind + 1];
    return 0;
}

static void show_progress(struct progress *p, bool last)
{
    int64_t now = now_ms();
    if (!p->on_terminal || (!last && now - p->shown_ms < PROGRESS_MS))
        return;
    p->shown_ms = now;
    int64_t elapsed = now - p->started_ms;
    fprintf(stderr, "\r%llu acknowledged, %lld a second%s", (unsigned long long)p->acknowledged,
            elapsed ? (long long)((int64_t)p->acknowledged * 1000 / elapsed) : 0LL,
            last ? "\n" : "");
}

static void on_ack(void *arg, const struct client_ack *ack)
{
    struct progress *p = arg;
    p->acknowledged += (uint64_t)ack->n_records;
    show_progress(p, false);
}

// False while standard input has nothing for us: then nothing is held back for a larger batch.
static bool more_is_coming(const struct options *o)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    return strcmp(o->file, "-") != 0 || poll(&in, 1, 0) > 0;
}

// Sleeps until the rate allows the next record.
static void keep_rate(const struct options *o, const struct progress *p)
{
    int64_t due = p->started_ms + (int64_t)(p->added * 1000 / (uint64_t)o->rate);
    int64_t wait_ms = due - now_ms();
    if (wait_ms <= 0)
        return;
    struct timespec pause = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

// The record that was not acknowledged first stands after the acknowledged ones.
static int failed(const struct client *c, const struct progress *p)
{
    return cli_fail("produce", "%s (%llu records acknowledged before it)", client_error(c),
                    (unsigned long long)p->acknowledged);
}

static int feed(struct client *c, struct client_producer *producer, struct records *records,
                const struct options *o, struct progress *p)
{
    struct record_read r;
    int more;
    while ((more = records_next(records, &r)) > 0) {
        if (o->rate)
            keep_rate(o, p);
        struct client_record record = {.value = r.value, .time_ms = -1, .key = STR_NULL};
        if (r.key.ptr)
            record.key = (struct str){(const char *)r.key.ptr, (int32_t)r.key.len};
        if (client_producer_add(producer, (int32_t)o->partition, &record) < 0)
            return failed(c, p);
        p->added++;
        if (now_ms() - p->flushed_ms < FLUSH_MS && more_is_coming(o))
            continue;
        if (client_producer_flush(producer) < 0)
            return failed(c, p);
        p->flushed_ms = now_ms();
    }
    // What was read before a bad record is stored all the same.
    if (client_producer_flush(producer) < 0)
        return failed(c, p);
    if (more < 0)
        return cli_fail("produce", "%s (%llu records acknowledged before it)", records_why(records),
                        (unsigned long long)p->acknowledged);
    return CLI_FINE;
}

static int produce(struct client *c, struct records *records, const struct options *o)
{
    struct progress p = {.on_terminal = isatty(STDERR_FILENO), .started_ms = now_ms()};
    p.flushed_ms = p.shown_ms = p.started_ms;
    struct client_producer *producer;
    if (client_producer_open(c, o->topic, on_ack, &p, &producer) < 0)
        return cli_fail("produce", "%s", client_error(c));
    int status = feed(c, producer, records, o, &p);
    client_producer_close(producer);
    show_progress(&p, true);
    if (status == CLI_FINE)
        printf("%llu records acknowledged\n", (unsigned long long)p.acknowledged);
    return status;
}

int cli_produce(int argc, char **argv)
{
    struct options o;
    int status = parse(argc, argv, &o);
    if (status)
        return status;

    struct records *records;
    char *why_records;
    if (records_open(o.file, o.format, o.key, &records, &why_records) < 0) {
        status = cli_fail("produce", "%s", why_records);
        free(why_records);
        return status;
    }
    char why[CLIENT_WHY_MAX];
    struct client *c;
    if (client_open(o.bootstrap, "tally-produce", TIMEOUT_MS, &c, why) < 0) {
        records_close(records);
        return cli_fail("produce", "%s", why);
    }
    status = produce(c, records, &o);
    client_close(c);
    records_close(records);
    return status;
}
