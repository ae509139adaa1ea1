// Runs libtally with the n-th allocation failing, for every n: an error with its code, or all
// rows, and never an abort, a leak of a transaction or a crash.
//   nomem DATABASE TOPIC GROUP BOOTSTRAP FAIL_AT [FAIL_FOR]
// Allocations are counted on this program's own thread only, and only those of libtally: what
// librdkafka, SQLite and libpq do without memory is theirs.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tally.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t each);
void *__real_realloc(void *old, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t each);
void *__wrap_realloc(void *old, size_t n);
char *__wrap_strdup(const char *s);

static long seen, fail_at, fail_for = 1;

static int fails(void)
{
    seen++;
    if (fail_at == 0 || seen < fail_at || seen >= fail_at + fail_for)
        return 0;
    errno = ENOMEM;
    return 1;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t each)
{
    return fails() ? NULL : __real_calloc(n, each);
}

void *__wrap_realloc(void *old, size_t n)
{
    return fails() ? NULL : __real_realloc(old, n);
}

char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : __real_strdup(s);
}

static int set_up(void *user, struct tally_tx *tx, struct tally_error *error)
{
    (void)user;
    return tally_tx_run(tx, "CREATE TABLE IF NOT EXISTS seen (o BIGINT, v TEXT)", NULL, 0, NULL,
                        error);
}

static int store(void *user, const struct tally_record *r, struct tally_tx *tx,
                 struct tally_error *error)
{
    (void)user;
    struct tally_value text = {.type = TALLY_TEXT, .data = r->value, .len = r->value_len};
    struct tally_value v[] = {tally_int(r->offset), text};
    return tally_tx_run(tx, "INSERT INTO seen VALUES ($1, $2)", v, 2, NULL, error);
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return 2;
    const char *topics[] = {argv[2]};
    const char *settings[] = {"client.id", "nomem", NULL};
    struct tally_options o = {
        .size = sizeof o,
        .into = argv[1],
        .topics = topics,
        .n_topics = 1,
        .group = argv[3],
        .bootstrap = argv[4],
        .process = store,
        .setup = set_up,
        .until_end = true,
        .timeout_ms = 5000,
        .batch_records = 7,
        .librdkafka = settings,
    };
    fail_at = atol(argv[5]);
    if (argc > 6)
        fail_for = atol(argv[6]);
    struct tally *t = NULL;
    struct tally_error error = {.code = TALLY_FINE};
    int result = tally_open(&o, &t, &error);
    if (result == 0)
        result = tally_run(t, &error);
    tally_close(t);
    printf("%ld %d %s\n", seen, result, result ? error.text : "");
    return result && (int)error.code != result ? 3 : 0;
}
