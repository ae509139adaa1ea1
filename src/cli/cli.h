#pragma once
// The verbs of the command line, one file each, and what they share. argv[0] is the verb.
// Every verb returns the exit status: 0 fine, 1 a check failed, 2 could not run.

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"

#define CLI_FINE 0
#define CLI_CHECK_FAILED 1
#define CLI_COULD_NOT_RUN 2

#define CLI_BOOTSTRAP_DEFAULT "127.0.0.1:9092"

struct cli_verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary; // one line of `tally --help`
};

int cli_serve(int argc, char **argv);
int cli_topic(int argc, char **argv);
int cli_produce(int argc, char **argv);
int cli_group(int argc, char **argv);
int cli_report(int argc, char **argv);
int cli_drill(int argc, char **argv);
int cli_consume(int argc, char **argv);
int cli_bench(int argc, char **argv);

// Prints "tally VERB: ..." on stderr; returns CLI_COULD_NOT_RUN.
int cli_fail(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));

// A name that comes from a client, to be shown: no control characters. In the arena.
struct str cli_shown(struct str s, struct arena *a);

// getopt said what is wrong with the options; says where they are listed. CLI_COULD_NOT_RUN.
int cli_see_help(const char *verb);

// Takes all the open files that this process may have; how many. -1: not known.
int64_t cli_raise_open_files(void);

// A whole decimal number within [min, max]; false otherwise.
bool cli_number(const char *text, int64_t min, int64_t max, int64_t *ret_value);
// Milliseconds since 1970 from RFC 3339 ("2026-01-31T10:00:00Z", also a date alone), or from a
// time ago ("15m", "2h", "7d", "30s").
bool cli_time(const char *text, int64_t *ret_ms);
// RFC 3339, UTC, with milliseconds. For the largest int64_t too.
#define CLI_TIME_MAX 48
void cli_time_text(int64_t ms, char ret_text[CLI_TIME_MAX]);
