// tally: the verbs, and nothing else.

#include "cli/cli.h"

#include <signal.h>
#include <string.h>

#define TALLY_VERSION "0.1.0"

static const struct cli_verb verbs[] = {
    {"serve", cli_serve, "a Kafka-compatible broker that accounts for every record"},
    {"drill", cli_drill, "force the cases on your own consumer, and judge"},
    {"report", cli_report, "what each consumer group got: missed, repeated, and why"},
    {"topic", cli_topic, "create, list, describe, alter and delete topics"},
    {"produce", cli_produce, "feed a file or standard input into a topic"},
    {"consume", cli_consume, "into SQLite or PostgreSQL, every record exactly once"},
    {"group", cli_group, "list, describe and reset consumer groups; set what is expected"},
    {"bench", cli_bench, "load on any Kafka-protocol address: throughput and latency"},
};

static int usage(FILE *to)
{
    fputs("usage: tally VERB ...      (tally VERB --help says more)\n\n", to);
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        fprintf(to, "  %-9s %s\n", verbs[i].name, verbs[i].summary);
    return to == stdout ? CLI_FINE : CLI_COULD_NOT_RUN;
}

int main(int argc, char **argv)
{
    // A reader that goes away (`tally report | head`) is an error of write(), not a death.
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2)
        return usage(stderr);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help"))
        return usage(stdout);
    if (!strcmp(argv[1], "--version"))
        return puts("tally " TALLY_VERSION) < 0 ? CLI_COULD_NOT_RUN : CLI_FINE;
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (!strcmp(argv[1], verbs[i].name))
            return verbs[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "tally: no verb \"%s\"; see tally --help\n", argv[1]);
    return CLI_COULD_NOT_RUN;
}
