// A running total for each key, kept in SQLite with libtally: exact however often copies of this
// program are killed.   cc libtally_aggregate.c $(pkg-config --cflags --libs libtally)
//
//   libtally_aggregate TOPIC GROUP FILE [BOOTSTRAP [NAME VALUE]...]
// until all that is there now is counted. NAME VALUE: settings of librdkafka.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tally.h>

static int set_up(void *user, struct tally_tx *tx, struct tally_error *error)
{
    (void)user;
    return tally_tx_run(tx,
                        "CREATE TABLE IF NOT EXISTS total (key TEXT PRIMARY KEY, records INTEGER,"
                        " amount INTEGER)",
                        NULL, 0, NULL, error);
}

// The value is a number, which is added to its key's total.
static int add(void *user, const struct tally_record *r, struct tally_tx *tx,
               struct tally_error *error)
{
    (void)user;
    char text[32] = "", *end;
    if (r->value && r->value_len < sizeof text)
        memcpy(text, r->value, r->value_len);
    long long amount = strtoll(text, &end, 10);
    if (end == text || *end)
        return tally_error_set(error, TALLY_UNFIT, "the value is not a number");
    struct tally_value key = tally_bytes(r->key ? r->key : "", r->key_len);
    key.type = TALLY_TEXT;
    struct tally_value values[] = {key, tally_int(amount)};
    return tally_tx_run(tx,
                        "INSERT INTO total VALUES ($1, 1, $2) ON CONFLICT (key) DO UPDATE SET"
                        " records = records + 1, amount = amount + $2",
                        values, 2, NULL, error);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: libtally_aggregate TOPIC GROUP FILE [BOOTSTRAP [NAME VALUE]...]\n");
        return 2;
    }
    char into[4096];
    snprintf(into, sizeof into, "sqlite:%s", argv[3]);
    const char *const topics[] = {argv[1]};
    struct tally_options o = {
        .size = sizeof o,
        .bootstrap = argc > 4 ? argv[4] : NULL,
        .group = argv[2],
        .topics = topics,
        .n_topics = 1,
        .into = into,
        .process = add,
        .setup = set_up,
        .until_end = true,
        .librdkafka = argc > 5 ? (const char *const *)(argv + 5) : NULL,
    };
    struct tally *t = NULL;
    struct tally_error error;
    int result = tally_open(&o, &t, &error);
    if (result == 0)
        result = tally_run(t, &error);
    if (result < 0)
        fprintf(stderr, "libtally_aggregate: %s\n", error.text);
    struct tally_stats s = {.size = sizeof s};
    if (t) {
        tally_stats(t, &s);
        printf("%llu records counted\n", (unsigned long long)s.records);
    }
    tally_close(t);
    return result < 0 ? 1 : 0;
}
