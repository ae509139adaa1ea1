// The other side of the cost: the same rows into the same databases, one transaction a batch, with
// no Kafka and no fence. As a program of its own would do it: SQLite's own calls, opened as they
// open by default; for PostgreSQL, where the server does the work, those of libtally.
//   insert DATABASE TABLE ROWS BATCH VALUE_BYTES ROWS_A_STATEMENT      prints the seconds it took
// BATCH is a multiple of ROWS_A_STATEMENT.

#include "client/libtally/load.h"
#include "client/libtally/sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COLUMNS "(\"topic\", \"partition\", \"record_offset\", \"record_time\", \"key\", \"value\")"

struct work {
    const char *database, *table;
    long rows, batch, rows_a_statement;
    char *value;
    int len;
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int64_t time_of(long at)
{
    return 1700000000000 + at;
}

#define SQL_MAX 4000
#define MAX_ROWS_A_STATEMENT 10
#define N_COLUMNS 6

static void make_sql(const struct work *w, char ret_sql[SQL_MAX])
{
    int len = snprintf(ret_sql, SQL_MAX, "INSERT INTO \"%s\" " COLUMNS " VALUES ", w->table);
    for (long i = 0; i < w->rows_a_statement * N_COLUMNS; i++)
        len += snprintf(ret_sql + len, SQL_MAX - (size_t)len, "%s$%ld%s",
                        i == 0               ? "("
                        : i % N_COLUMNS == 0 ? ", ("
                                             : ", ",
                        i + 1, (i + 1) % N_COLUMNS == 0 ? ")" : "");
}

// ---- SQLite

struct plain {
    struct sqlite_api api;
    sqlite3 *db;
    sqlite3_stmt *insert;
    char why[256];
};

static bool check(struct plain *p, int rc)
{
    if (rc == SQLITE_OK || rc == SQLITE_DONE)
        return true;
    snprintf(p->why, sizeof p->why, "%s", p->api.sqlite3_errmsg(p->db));
    return false;
}

static bool execute(struct plain *p, const char *sql)
{
    return check(p, p->api.sqlite3_exec(p->db, sql, NULL, NULL, NULL));
}

static bool bind_plain(struct plain *p, const struct work *w, long at, int place)
{
    const struct sqlite_api *a = &p->api;
    sqlite3_stmt *s = p->insert;
    sqlite3_uint64 len = (sqlite3_uint64)w->len;
    return check(p, a->sqlite3_bind_text64(s, place, "work", 4, SQLITE_STATIC, SQLITE_UTF8)) &&
           check(p, a->sqlite3_bind_int64(s, place + 1, 0)) &&
           check(p, a->sqlite3_bind_int64(s, place + 2, at)) &&
           check(p, a->sqlite3_bind_int64(s, place + 3, time_of(at))) &&
           check(p, a->sqlite3_bind_null(s, place + 4)) &&
           check(p, a->sqlite3_bind_blob64(s, place + 5, w->value, len, SQLITE_STATIC));
}

static bool insert_plain(struct plain *p, const struct work *w, long at)
{
    bool is_fine = true;
    for (long i = 0; is_fine && i < w->rows_a_statement; i++)
        is_fine = bind_plain(p, w, at + i, (int)(i * N_COLUMNS) + 1);
    is_fine = is_fine && check(p, p->api.sqlite3_step(p->insert));
    return check(p, p->api.sqlite3_reset(p->insert)) && is_fine;
}

static bool run_plain(struct plain *p, const struct work *w, double *ret_started)
{
    char sql[SQL_MAX];
    make_sql(w, sql);
    const char *file = w->database + strlen("sqlite:");
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    bool is_fine = check(p, p->api.sqlite3_open_v2(file, &p->db, flags, NULL)) &&
                   execute(p, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL") &&
                   check(p, p->api.sqlite3_prepare_v2(p->db, sql, -1, &p->insert, NULL));
    *ret_started = now_s();
    for (long at = 0; is_fine && at < w->rows;) {
        is_fine = execute(p, "BEGIN IMMEDIATE");
        for (long i = 0; is_fine && i < w->batch && at < w->rows; i += w->rows_a_statement) {
            is_fine = insert_plain(p, w, at);
            at += w->rows_a_statement;
        }
        is_fine = is_fine && execute(p, "COMMIT");
    }
    return is_fine;
}

static int into_sqlite(const struct work *w)
{
    struct plain p = {.why = "SQLite cannot be loaded"};
    struct tally_error error;
    double started = 0;
    bool is_fine = load_sqlite(&p.api, &error) == 0 && run_plain(&p, w, &started);
    if (is_fine)
        printf("%.4f\n", now_s() - started);
    else
        fprintf(stderr, "insert: %s\n", p.why);
    if (p.db) {
        p.api.sqlite3_finalize(p.insert);
        p.api.sqlite3_close_v2(p.db);
    }
    return is_fine ? 0 : 1;
}

// ---- PostgreSQL

static int insert(struct sink *s, const char *sql, const struct work *w, long at,
                  struct tally_error *error)
{
    struct tally_value v[MAX_ROWS_A_STATEMENT * N_COLUMNS], *next = v;
    for (long i = 0; i < w->rows_a_statement; i++, at++) {
        *next++ = tally_text("work");
        *next++ = tally_int(0);
        *next++ = tally_int(at);
        *next++ = tally_int(time_of(at));
        *next++ = tally_null();
        *next++ = tally_bytes(w->value, (size_t)w->len);
    }
    return sink_run(s, sql, v, (size_t)(next - v), NULL, NULL, NULL, error);
}

static int into_postgres(const struct work *w)
{
    char sql[SQL_MAX];
    struct sink *s;
    struct tally_error error;
    if (sink_open(w->database, 10000, &s, &error) < 0 || sink_connect(s, &error) < 0) {
        fprintf(stderr, "insert: %s\n", error.text);
        return 2;
    }
    make_sql(w, sql);
    double started = now_s();
    int result = 0;
    for (long at = 0; result == 0 && at < w->rows;) {
        result = sink_begin(s, &error);
        for (long i = 0; result == 0 && i < w->batch && at < w->rows; i += w->rows_a_statement) {
            result = insert(s, sql, w, at, &error);
            at += w->rows_a_statement;
        }
        if (result == 0)
            result = sink_commit(s, &error);
    }
    if (result < 0)
        fprintf(stderr, "insert: %s\n", error.text);
    else
        printf("%.4f\n", now_s() - started);
    sink_close(s);
    return result < 0;
}

int main(int argc, char **argv)
{
    if (argc != 7)
        return 2;
    struct work w = {.database = argv[1],
                     .table = argv[2],
                     .rows = atol(argv[3]),
                     .batch = atol(argv[4]),
                     .rows_a_statement = atol(argv[6]),
                     .len = atoi(argv[5])};
    w.value = malloc((size_t)w.len + 1);
    if (!w.value || w.rows_a_statement < 1 || w.rows_a_statement > MAX_ROWS_A_STATEMENT)
        return 2;
    memset(w.value, 'v', (size_t)w.len);
    bool is_sqlite = strncmp(w.database, "sqlite:", strlen("sqlite:")) == 0;
    int status = is_sqlite ? into_sqlite(&w) : into_postgres(&w);
    free(w.value);
    return status;
}
