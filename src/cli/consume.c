#include "cli/cli.h"
#include "cli/mapping.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROGRESS_MS 500    // on a terminal
#define REPORT_MS 10000    // in a log
#define MAX_LIST 256       // --map, --librdkafka, topics
#define MAX_SECONDS 864000 // ten days

static const char help[] =
    "usage: tally consume TOPIC... --group G --into sqlite:FILE|postgres:URL [OPTION...]\n"
    "\n"
    "Stores every record as one row, in the same transaction as its offset: exactly once,\n"
    "whatever dies when. Any number of copies may run in one group.\n"
    "\n"
    "  -g, --group G               the consumer group\n"
    "  -i, --into DATABASE         sqlite:FILE, or postgres:URL (postgres://user@host/db)\n"
    "  -t, --table TABLE           default: each topic has a table of its name\n"
    "      --create                make the table if it is not there\n"
    "  -f, --format FORMAT         raw (default): topic, partition, record_offset, record_time,\n"
    "                              key, value; lines: the same, key and value as text;\n"
    "                              json, csv: named fields\n"
    "  -m, --map COLUMN=FIELD      json: a name or a path a.b; csv: the column's place, from 1;\n"
    "                              any format: @topic @partition @offset @time @key @value\n"
    "                              @headers @claim_epoch. COLUMN:TYPE=FIELD with --create,\n"
    "                              FIELD? may be missing. None: the table's own columns\n"
    "      --from earliest|latest  where a partition begins that was never read\n"
    "      --if-expired stop|continue   when records left the log unread (default stop)\n"
    "      --batch N               most records a transaction (default 1000)\n"
    "      --batch-ms MS           longest wait to fill one (default 100)\n"
    "      --dead-letter TOPIC     for records that do not fit; otherwise the first one stops\n"
    "      --until-end             end when all that was there at the start is stored\n"
    "      --timeout S             how long broker or database may be away (default 60; 0: ever)\n"
    "  -b, --bootstrap HOST:PORT   any Kafka-protocol cluster (default 127.0.0.1:9092)\n"
    "  -X, --librdkafka NAME=VALUE  a setting of librdkafka (TLS, SASL, session.timeout.ms ...)\n"
    "\n"
    "SIGTERM finishes the transaction in hand and leaves the group. SIGUSR1 prints the counters.\n"
    "\n"
    "examples:\n"
    "  tally consume orders --group billing --into sqlite:orders.db --create\n"
    "  tally consume orders --group billing --into postgres://localhost/shop --format json \\\n"
    "      --map id=id --map amount=total.net --dead-letter orders-unfit\n";

struct consume {
    struct tally_options o;
    struct mapping_options m;
    struct mapping *mapping;
    const char *settings[2 * MAX_LIST + 3];
    size_t n_settings;
    const char *maps[MAX_LIST];
    bool is_terminal;
    int64_t started_ms;
    int64_t shown_ms;
    uint64_t shown_records;
};

static volatile sig_atomic_t is_told_to_stop;
static volatile sig_atomic_t wants_counters;
static volatile sig_atomic_t is_running;

static void on_stop(int signal)
{
    (void)signal;
    is_told_to_stop = 1;
    // Before the first claim there is nothing to finish.
    if (!is_running)
        _exit(CLI_FINE);
}

static void on_counters(int signal)
{
    (void)signal;
    wants_counters = 1;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// --- Options.

static int parse_choice(const char *option, const char *value, const char *const *names,
                        int *ret_choice)
{
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], value) == 0) {
            *ret_choice = i;
            return 0;
        }
    }
    char all[80] = "";
    for (int i = 0; names[i]; i++) {
        strcat(all, i ? ", " : "");
        strcat(all, names[i]);
    }
    return cli_fail("consume", "--%s \"%.40s\": it is one of %s", option, value, all);
}

static int parse_number(const char *option, const char *value, int64_t min, int64_t max,
                        int *ret_number)
{
    int64_t number;
    if (!cli_number(value, min, max, &number))
        return cli_fail("consume", "--%s wants a number, %lld to %lld, not \"%.40s\"", option,
                        (long long)min, (long long)max, value);
    *ret_number = (int)number;
    return 0;
}

static int add_setting(struct consume *c, char *text)
{
    char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return cli_fail("consume", "--librdkafka \"%.60s\": the form is NAME=VALUE", text);
    if (c->n_settings >= MAX_LIST)
        return cli_fail("consume", "more than %d settings of librdkafka", MAX_LIST);
    *equals = 0;
    c->settings[2 * c->n_settings] = text;
    c->settings[2 * c->n_settings + 1] = equals + 1;
    c->n_settings++;
    return 0;
}

static int add_map(struct consume *c, const char *text)
{
    if (c->m.n_maps == MAX_LIST)
        return cli_fail("consume", "more than %d columns", MAX_LIST);
    c->maps[c->m.n_maps++] = text;
    return 0;
}

enum long_option { CREATE = 256, FROM, EXPIRED, BATCH, BATCH_MS, DEAD_LETTER, UNTIL_END, TIMEOUT };

static int take_long(struct consume *c, int option, const char *value)
{
    static const char *const froms[] = {"earliest", "latest", NULL};
    static const char *const gaps[] = {"stop", "continue", NULL};
    int choice = 0, result = 0;
    switch (option) {
    case CREATE:
        c->m.creates = true;
        break;
    case FROM:
        result = parse_choice("from", value, froms, &choice);
        c->o.from = (enum tally_from)choice;
        break;
    case EXPIRED:
        result = parse_choice("if-expired", value, gaps, &choice);
        c->o.if_expired = (enum tally_if_expired)choice;
        break;
    case BATCH:
        return parse_number("batch", value, 1, 1000000, &c->o.batch_records);
    case BATCH_MS:
        return parse_number("batch-ms", value, 1, 600000, &c->o.batch_ms);
    case DEAD_LETTER:
        c->o.dead_letter = value;
        break;
    case UNTIL_END:
        c->o.until_end = true;
        break;
    case TIMEOUT:
        result = parse_number("timeout", value, 0, MAX_SECONDS, &choice);
        c->o.timeout_ms = choice ? choice * 1000 : -1;
        break;
    default:
        return cli_see_help("consume");
    }
    return result;
}

static int take_option(struct consume *c, int option, char *value)
{
    static const char *const formats[] = {"raw", "lines", "json", "csv", NULL};
    int choice = 0, result = 0;
    switch (option) {
    case 'g':
        c->o.group = value;
        break;
    case 'i':
        c->o.into = value;
        break;
    case 't':
        c->m.table = value;
        break;
    case 'b':
        c->o.bootstrap = value;
        break;
    case 'f':
        result = parse_choice("format", value, formats, &choice);
        c->m.format = (enum mapping_format)choice;
        break;
    case 'm':
        return add_map(c, value);
    case 'X':
        return add_setting(c, value);
    case 'h':
        fputs(help, stdout);
        exit(CLI_FINE);
    default:
        return take_long(c, option, value);
    }
    return result;
}

static int parse(int argc, char **argv, struct consume *c)
{
    static const struct option options[] = {{"group", required_argument, NULL, 'g'},
                                            {"into", required_argument, NULL, 'i'},
                                            {"table", required_argument, NULL, 't'},
                                            {"create", no_argument, NULL, CREATE},
                                            {"format", required_argument, NULL, 'f'},
                                            {"map", required_argument, NULL, 'm'},
                                            {"from", required_argument, NULL, FROM},
                                            {"if-expired", required_argument, NULL, EXPIRED},
                                            {"batch", required_argument, NULL, BATCH},
                                            {"batch-ms", required_argument, NULL, BATCH_MS},
                                            {"dead-letter", required_argument, NULL, DEAD_LETTER},
                                            {"until-end", no_argument, NULL, UNTIL_END},
                                            {"timeout", required_argument, NULL, TIMEOUT},
                                            {"bootstrap", required_argument, NULL, 'b'},
                                            {"librdkafka", required_argument, NULL, 'X'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    int option;
    while ((option = getopt_long(argc, argv, "g:i:t:f:m:b:X:h", options, NULL)) != -1) {
        int result = take_option(c, option, optarg);
        if (result)
            return result;
    }
    if (optind == argc)
        return cli_fail("consume", "name a topic (see tally consume --help)");
    if (!c->o.group)
        return cli_fail("consume", "name a group: --group G");
    if (!c->o.into)
        return cli_fail("consume", "name a database: --into sqlite:FILE or --into postgres:URL");
    c->o.n_topics = c->m.n_topics = (size_t)(argc - optind);
    c->o.topics = c->m.topics = (const char *const *)(argv + optind);
    return 0;
}

// --- What is shown.

static void print_counters(const struct tally_stats *s, const char *event, uint64_t rate)
{
    char now[CLI_TIME_MAX];
    cli_time_text(wall_ms(), now);
    fprintf(stderr,
            "time=%s event=%s records=%llu per_second=%llu lag=%lld partitions=%lld "
            "transactions=%llu dead_letters=%llu fenced=%llu refused=%llu recovered=%llu "
            "expired=%llu\n",
            now, event, (unsigned long long)s->records, (unsigned long long)rate, (long long)s->lag,
            (long long)s->n_partitions, (unsigned long long)s->transactions,
            (unsigned long long)s->dead_letters, (unsigned long long)s->fenced,
            (unsigned long long)s->refused, (unsigned long long)s->recovered,
            (unsigned long long)s->expired);
}

static void show_on_terminal(const struct tally_stats *s, uint64_t rate)
{
    char left[40] = "";
    if (s->lag > 0 && rate > 0)
        snprintf(left, sizeof left, ", %lld s left", (long long)s->lag / (long long)rate);
    fprintf(stderr, "\r\033[K%llu records stored, %llu a second, lag %lld%s",
            (unsigned long long)s->records, (unsigned long long)rate,
            (long long)(s->lag < 0 ? 0 : s->lag), left);
}

static void on_tick(void *user, struct tally *t)
{
    struct consume *c = user;
    if (is_told_to_stop)
        tally_stop(t);
    int64_t now = now_ms(), period = c->is_terminal ? PROGRESS_MS : REPORT_MS;
    bool is_asked = wants_counters;
    if (!is_asked && now - c->shown_ms < period)
        return;
    wants_counters = 0; // before they are printed: who reads them may ask again at once
    struct tally_stats s = {.size = sizeof s};
    tally_stats(t, &s);
    int64_t passed = now - c->shown_ms;
    uint64_t rate = passed > 0 ? (s.records - c->shown_records) * 1000 / (uint64_t)passed : 0;
    c->shown_ms = now;
    c->shown_records = s.records;
    if (is_asked || !c->is_terminal)
        print_counters(&s, is_asked ? "counters" : "progress", rate);
    else
        show_on_terminal(&s, rate);
}

static void print_quoted(const char *text)
{
    fputc('"', stderr);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', stderr);
        fputc(*text, stderr);
    }
    fputs("\"\n", stderr);
}

static void on_event(void *user, const struct tally_event *e)
{
    static const char *const names[] = {"claimed",   "released",    "fenced",  "refused", "retry",
                                        "recovered", "dead-letter", "expired", "note"};
    struct consume *c = user;
    // On a terminal, what a person wants to know while it runs well is the progress.
    if (c->is_terminal) {
        if (e->kind != TALLY_EVENT_CLAIMED && e->kind != TALLY_EVENT_RELEASED)
            fprintf(stderr, "\r\033[K%s\n", e->text);
        return;
    }
    char now[CLI_TIME_MAX];
    cli_time_text(wall_ms(), now);
    fprintf(stderr, "time=%s event=%s ", now, names[e->kind]);
    if (e->topic)
        fprintf(stderr, "topic=%s partition=%d offset=%lld epoch=%lld ", e->topic,
                (int)e->partition, (long long)e->offset, (long long)e->claim_epoch);
    fputs("text=", stderr);
    print_quoted(e->text);
}

static int on_setup(void *user, struct tally_tx *tx, struct tally_error *error)
{
    struct consume *c = user;
    return mapping_setup(c->mapping, tx, error);
}

static int on_records(void *user, const struct tally_record *records, size_t n, struct tally_tx *tx,
                      size_t *ret_bad, struct tally_error *error)
{
    struct consume *c = user;
    return mapping_store(c->mapping, records, n, tx, ret_bad, error);
}

static int fail(const struct consume *c, const struct tally_error *error)
{
    if (c->is_terminal)
        fputs("\r\033[K", stderr);
    cli_fail("consume", "%s%s", error->text,
             error->code == TALLY_UNFIT && !c->o.dead_letter
                 ? "; --dead-letter TOPIC puts such records aside and goes on"
                 : "");
    return error->code == TALLY_UNFIT ? CLI_CHECK_FAILED : CLI_COULD_NOT_RUN;
}

static int run(struct consume *c)
{
    struct tally *t;
    struct tally_error error;
    c->o.no_headers = !mapping_may_want_headers(c->mapping);
    if (tally_open(&c->o, &t, &error) < 0)
        return fail(c, &error);
    is_running = 1;
    c->started_ms = c->shown_ms = now_ms();
    int result = tally_run(t, &error);
    struct tally_stats s = {.size = sizeof s};
    tally_stats(t, &s);
    tally_close(t);
    if (result < 0)
        return fail(c, &error);
    if (c->is_terminal)
        fputs("\r\033[K", stderr);
    printf("%llu records stored", (unsigned long long)s.records);
    if (s.dead_letters)
        printf(", %llu dead letters", (unsigned long long)s.dead_letters);
    puts("");
    return CLI_FINE;
}

int cli_consume(int argc, char **argv)
{
    struct sigaction stop = {.sa_handler = on_stop}, counters = {.sa_handler = on_counters};
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGUSR1, &counters, NULL);
    struct consume *c = calloc(1, sizeof *c);
    if (!c)
        return cli_fail("consume", "out of memory");
    c->o = (struct tally_options){.size = sizeof c->o,
                                  .bootstrap = CLI_BOOTSTRAP_DEFAULT,
                                  .process_some = on_records,
                                  .setup = on_setup,
                                  .event = on_event,
                                  .tick = on_tick,
                                  .user = c,
                                  .librdkafka = c->settings};
    c->m.maps = c->maps;
    c->is_terminal = isatty(STDERR_FILENO);
    int status = parse(argc, argv, c);
    char why[MAPPING_WHY_MAX];
    if (status == 0 && !mapping_new(&c->m, &c->mapping, why))
        status = cli_fail("consume", "%s", why);
    if (status == 0)
        status = run(c);
    mapping_free(c->mapping);
    free(c);
    return status;
}
