// The other side of the cost: the same rows by the same statements into the same databases, one
// transaction a batch, with no Kafka and no fence.
//   insert DATABASE TABLE ROWS BATCH VALUE_BYTES      prints the seconds it took

#include "client/libtally/sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int insert(struct sink *s, const char *sql, const char *value, size_t len, long at,
                  struct tally_error *error)
{
    struct tally_value key = tally_null();
    struct tally_value v[] = {
        tally_text("work"),     tally_int(0), tally_int(at), tally_int(1700000000000 + at), key,
        tally_bytes(value, len)};
    return sink_run(s, sql, v, 6, NULL, NULL, NULL, error);
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    long rows = atol(argv[3]), batch = atol(argv[4]);
    size_t len = (size_t)atol(argv[5]);
    char *value = malloc(len + 1), sql[400];
    struct sink *s;
    struct tally_error error;
    if (!value || sink_open(argv[1], 10000, &s, &error) < 0 || sink_connect(s, &error) < 0) {
        fprintf(stderr, "insert: %s\n", error.text);
        return 2;
    }
    memset(value, 'v', len);
    snprintf(sql, sizeof sql,
             "INSERT INTO \"%s\" (\"topic\", \"partition\", \"record_offset\", \"record_time\", "
             "\"key\", \"value\") VALUES ($1, $2, $3, $4, $5, $6)",
             argv[2]);
    double started = now_s();
    int result = 0;
    for (long at = 0; result == 0 && at < rows;) {
        result = sink_begin(s, &error);
        for (long i = 0; result == 0 && i < batch && at < rows; i++, at++)
            result = insert(s, sql, value, len, at, &error);
        if (result == 0)
            result = sink_commit(s, &error);
    }
    if (result < 0)
        fprintf(stderr, "insert: %s\n", error.text);
    else
        printf("%.4f\n", now_s() - started);
    sink_close(s);
    free(value);
    return result < 0;
}
