// Every record as a row, ten rows in a statement, in SQLite or PostgreSQL with libtally: exactly
// once however often copies of this program are killed.
//   cc libtally_rows.c $(pkg-config --cflags --libs libtally)
//
//   libtally_rows TOPIC GROUP sqlite:FILE|postgres:URL [BOOTSTRAP]
// until all that is there now is stored.

#include <stdio.h>
#include <tally.h>

#define ROWS 10
#define COLUMNS 3

static int set_up(void *user, struct tally_tx *tx, struct tally_error *error)
{
    (void)user;
    return tally_tx_run(tx,
                        "CREATE TABLE IF NOT EXISTS stored (part INTEGER, place BIGINT,"
                        " value TEXT)",
                        NULL, 0, NULL, error);
}

// One statement for n rows. Its text is the same for the same n: each is prepared once.
static int store(const struct tally_record *r, size_t n, struct tally_tx *tx,
                 struct tally_error *error)
{
    char sql[64 + 32 * ROWS] = "INSERT INTO stored VALUES ";
    int at = 26;
    struct tally_value values[ROWS * COLUMNS];
    for (size_t i = 0; i < n; i++) {
        size_t v = i * COLUMNS;
        at += snprintf(sql + at, sizeof sql - (size_t)at, "%s($%zu, $%zu, $%zu)", i ? ", " : "",
                       v + 1, v + 2, v + 3);
        values[v] = tally_int(r[i].partition);
        values[v + 1] = tally_int(r[i].offset);
        values[v + 2] = tally_bytes(r[i].value, r[i].value_len);
        if (r[i].value)
            values[v + 2].type = TALLY_TEXT;
    }
    return tally_tx_run(tx, sql, values, n * COLUMNS, NULL, error);
}

// process_some: up to 100 records. Where a row does not fit, store() returns TALLY_UNFIT. Which one
// it was is not known here, so *ret_bad is left alone, and the records come again in smaller
// numbers.
static int store_some(void *user, const struct tally_record *records, size_t n, struct tally_tx *tx,
                      size_t *ret_bad, struct tally_error *error)
{
    (void)user, (void)ret_bad;
    int result = 0;
    for (size_t at = 0; result == 0 && at < n; at += ROWS)
        result = store(records + at, n - at < ROWS ? n - at : ROWS, tx, error);
    return result;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: libtally_rows TOPIC GROUP sqlite:FILE|postgres:URL [BOOTSTRAP]\n");
        return 2;
    }
    const char *const topics[] = {argv[1]};
    const char *const settings[] = {"session.timeout.ms", "6000", NULL};
    struct tally_options o = {
        .size = sizeof o,
        .bootstrap = argc > 4 ? argv[4] : NULL,
        .group = argv[2],
        .topics = topics,
        .n_topics = 1,
        .into = argv[3],
        .process_some = store_some,
        .setup = set_up,
        .until_end = true,
        .no_headers = true,
        .librdkafka = settings,
    };
    struct tally *t = NULL;
    struct tally_error error;
    int result = tally_open(&o, &t, &error);
    if (result == 0)
        result = tally_run(t, &error);
    if (result < 0)
        fprintf(stderr, "libtally_rows: %s\n", error.text);
    tally_close(t);
    return result < 0 ? 1 : 0;
}
