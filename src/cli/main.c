// tally: the verbs, and nothing else.

#include "cli/cli.h"

#include <signal.h>
#include <string.h>

#define TALLY_VERSION "0.1.0"

static const struct cli_verb verbs[] = {
    {"serve", cli_serve, "a Kafka-compatible broker that accounts for every record"},
    {"drill", cli_drill, "force the cases on your own consumer, and judge"},
    {"report", cli_report, "what each consumer group got: missed, repeated, and why"},
    {"topic", cli_topic, "create, describe, alter, delete, export and import topics"},
    {"produce", cli_produce, "feed a file or standard input into a topic"},
    {"consume", cli_consume, "into SQLite or PostgreSQL, every record exactly once"},
    {"group", cli_group, "list, describe and reset consumer groups; set what is expected"},
    {"bench", cli_bench, "load on any Kafka-protocol address: throughput and latency"},
};

static int usage(FILE *to)
{
    fputs("usage: tally VERB [OPTION...]\n"
          "       tally VERB --help\n"
          "\n"
          "Which records did your Kafka consumers miss or handle twice, and why?\n"
          "\n",
          to);
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        fprintf(to, "  %-9s %s\n", verbs[i].name, verbs[i].summary);
    fputs("\n"
          "Exit status: 0 fine, 1 a check failed, 2 could not run.\n",
          to);
    return to == stdout ? CLI_FINE : CLI_COULD_NOT_RUN;
}

static bool is_help(const char *word)
{
    return !strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help");
}

int main(int argc, char **argv)
{
    // A reader that goes away (`tally report | head`) is an error of write(), not a death.
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2)
        return usage(stderr);
    if (!strcmp(argv[1], "--version"))
        return puts("tally " TALLY_VERSION) < 0 ? CLI_COULD_NOT_RUN : CLI_FINE;
    if (is_help(argv[1]) && argc == 2)
        return usage(stdout);
    char help[] = "--help";
    const char *name = argv[1];
    if (is_help(name)) { // `tally help report` is `tally report --help`
        name = argv[2];
        argv[2] = help;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(name, verbs[i].name) != 0)
            continue;
        // What getopt_long() says begins with it.
        char full[32];
        snprintf(full, sizeof full, "tally %s", verbs[i].name);
        argv[1] = full;
        return verbs[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "tally: no verb \"%s\"; see tally --help\n", name);
    return CLI_COULD_NOT_RUN;
}
