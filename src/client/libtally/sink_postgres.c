#include "client/libtally/load.h"
#include "client/libtally/sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// pg_type.oid of what we tell apart.
enum {
    OID_BYTEA = 17,
    OID_INT8 = 20,
    OID_INT2 = 21,
    OID_INT4 = 23,
    OID_TEXT = 25,
    OID_FLOAT4 = 700,
    OID_FLOAT8 = 701,
    OID_BPCHAR = 1042,
    OID_VARCHAR = 1043,
};

#define NUMBER_MAX 32           // a number as text
#define STATEMENT_NAME_BYTES 24 // "t" and a number

struct postgres_sink {
    struct sink base;
    struct postgres_api api;
    PGconn *conn; // NULL: not open
    char *conninfo;
    char place[160]; // "host/dbname", for messages; never the password
    int busy_ms;
    char *statements[SINK_MAX_STATEMENTS]; // prepared as "t0", "t1" ... on this connection
    size_t n_statements;
};

static struct postgres_sink *self(struct sink *s)
{
    return (struct postgres_sink *)s;
}

static void drop_connection(struct postgres_sink *p)
{
    if (p->conn)
        p->api.PQfinish(p->conn);
    p->conn = NULL;
    for (size_t i = 0; i < p->n_statements; i++)
        free(p->statements[i]);
    p->n_statements = 0;
}

static bool starts(const char *state, const char *with)
{
    return strncmp(state, with, strlen(with)) == 0;
}

static int refuse_state(struct postgres_sink *p, const char *state, const char *why,
                        struct tally_error *error)
{
    // 57014: a statement_timeout of the server's, while it waited for a lock, say.
    if (starts(state, "40") || starts(state, "55P03") || starts(state, "57014"))
        return tally_error_set(error, TALLY_AGAIN, "database %s: %s", p->place, why);
    // 22: data, 23: constraints, 54: program limits (an index row too large).
    if (starts(state, "22") || starts(state, "23") || starts(state, "54"))
        return tally_error_set(error, TALLY_UNFIT, "%s", why);
    if (starts(state, "53100"))
        return tally_error_set(error, TALLY_SQL,
                               "no space left in database %s; free some and start again: what was "
                               "stored stays, with its offset",
                               p->place);
    if (starts(state, "25P02"))
        return tally_error_set(error, TALLY_INVALID, SINK_TX_ENDED);
    if (starts(state, "53200"))
        return tally_error_set(error, TALLY_NO_MEMORY, "database %s: %s", p->place, why);
    return tally_error_set(error, TALLY_SQL, "database %s: %s", p->place, why);
}

static int refuse(struct postgres_sink *p, const PGresult *r, struct tally_error *error)
{
    const char *state = r ? p->api.PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
    const char *why = r ? p->api.PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    bool is_lost = !p->conn || p->api.PQstatus(p->conn) != CONNECTION_OK;
    // 25006: a standby since a failover. Another address of the URL, or the same one in a while,
    // may lead to the server that takes writes.
    if (state && !is_lost && starts(state, "25006")) {
        drop_connection(p);
        return tally_error_set(error, TALLY_DATABASE,
                               "database %s is read-only (a standby after a failover?); name the "
                               "server that takes writes, or several, with "
                               "target_session_attrs=read-write",
                               p->place);
    }
    // 57P: the server is being shut down, or comes up. 25P03: it ended our idle transaction.
    if (!state || is_lost || starts(state, "57P") || starts(state, "25P03")) {
        int code = tally_error_set(error, TALLY_DATABASE, "lost the connection to database %s: %s",
                                   p->place,
                                   why       ? why
                                   : p->conn ? p->api.PQerrorMessage(p->conn)
                                             : "closed");
        drop_connection(p);
        return code;
    }
    return refuse_state(p, state, why ? why : "refused", error);
}

// Takes the result. 0 when it is a success.
static int finish(struct postgres_sink *p, PGresult *r, struct tally_error *error)
{
    ExecStatusType status = p->api.PQresultStatus(r);
    int result = 0;
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        result = refuse(p, r, error);
    p->api.PQclear(r);
    return result;
}

static int execute(struct postgres_sink *p, const char *sql, struct tally_error *error)
{
    if (!p->conn)
        return refuse(p, NULL, error);
    return finish(p, p->api.PQexec(p->conn, sql), error);
}

static void ignore_notice(void *user, const char *message)
{
    (void)user;
    (void)message;
}

// What will be as wrong in a minute as now.
static bool is_final(const char *why)
{
    static const char *const words[] = {"authentication failed", "does not exist",
                                        "no pg_hba.conf entry",  "permission denied",
                                        "no password supplied",  "is not permitted to log in"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strstr(why, words[i]))
            return true;
    }
    return false;
}

static int postgres_connect(struct sink *s, struct tally_error *error)
{
    struct postgres_sink *p = self(s);
    if (p->conn && p->api.PQstatus(p->conn) == CONNECTION_OK)
        return 0;
    drop_connection(p);
    // What stands before the connection string is a default that it may change.
    static const char *const names[] = {"connect_timeout", "tcp_user_timeout",
                                        "fallback_application_name", "dbname", NULL};
    const char *const values[] = {"10", "30000", "tally", p->conninfo, NULL};
    PGconn *conn = p->api.PQconnectdbParams(names, values, 1);
    if (!conn)
        return tally_error_set(error, TALLY_NO_MEMORY, "libpq ran out of memory");
    if (p->api.PQstatus(conn) != CONNECTION_OK) {
        const char *why = p->api.PQerrorMessage(conn);
        int code =
            is_final(why)
                ? tally_error_set(error, TALLY_SQL,
                                  "database %s lets us not in: %s; check user, password and name",
                                  p->place, why)
                : tally_error_set(error, TALLY_DATABASE, "cannot reach database %s: %s", p->place,
                                  why);
        p->api.PQfinish(conn);
        return code;
    }
    p->conn = conn;
    p->api.PQsetNoticeProcessor(conn, ignore_notice, NULL);
    char sql[256];
    snprintf(sql, sizeof sql,
             "SET client_encoding = 'UTF8'; SET lock_timeout = %d; "
             "SET idle_in_transaction_session_timeout = %d; "
             "SET default_transaction_isolation = 'read committed'",
             p->busy_ms, SINK_IDLE_MS);
    return execute(p, sql, error);
}

static int postgres_begin(struct sink *s, struct tally_error *error)
{
    return execute(self(s), "BEGIN", error);
}

static int postgres_commit(struct sink *s, struct tally_error *error)
{
    return execute(self(s), "COMMIT", error);
}

static void postgres_rollback(struct sink *s)
{
    struct postgres_sink *p = self(s);
    if (p->conn)
        (void)execute(p, "ROLLBACK", NULL);
}

// Of a connection that is lost nothing is known.
static bool postgres_in_transaction(struct sink *s)
{
    struct postgres_sink *p = self(s);
    return p->api.PQtransactionStatus(p->conn) != PQTRANS_IDLE;
}

// Parameters as libpq takes them. Numbers and text go as text, so that the server fits them to the
// column, whatever its type; bytes go as they are.
struct parameters {
    const char **values;
    int *lengths;
    int *formats;
    char *texts; // terminated copies, one after the other
};

static void free_parameters(struct parameters *w)
{
    free(w->values);
    free(w->lengths);
    free(w->formats);
    free(w->texts);
}

// Returns how much of `at` it took.
static size_t make_text(const struct tally_value *v, char *at)
{
    if (v->type == TALLY_INT)
        return (size_t)snprintf(at, NUMBER_MAX, "%lld", (long long)v->integer) + 1;
    if (v->type == TALLY_REAL)
        return (size_t)snprintf(at, NUMBER_MAX, "%.17g", v->real) + 1;
    if (v->len)
        memcpy(at, v->data, v->len);
    at[v->len] = 0;
    return v->len + 1;
}

static int make_parameters(const struct tally_value *values, size_t n, struct parameters *ret,
                           struct tally_error *error)
{
    size_t bytes = 1;
    for (size_t i = 0; i < n; i++) {
        if (values[i].len > INT32_MAX)
            return tally_error_set(error, TALLY_UNFIT, "a value of %zu bytes", values[i].len);
        if (values[i].type == TALLY_TEXT && values[i].len &&
            memchr(values[i].data, 0, values[i].len))
            return tally_error_set(error, TALLY_UNFIT, "a NUL byte in text");
        bytes += values[i].type == TALLY_TEXT ? values[i].len + 1 : NUMBER_MAX;
    }
    struct parameters w = {
        .values = calloc(n + 1, sizeof *w.values),
        .lengths = calloc(n + 1, sizeof *w.lengths),
        .formats = calloc(n + 1, sizeof *w.formats),
        .texts = malloc(bytes),
    };
    if (!w.values || !w.lengths || !w.formats || !w.texts) {
        free_parameters(&w);
        return tally_error_set(error, TALLY_NO_MEMORY, "out of memory for %zu parameters", n);
    }
    char *at = w.texts;
    for (size_t i = 0; i < n; i++) {
        const struct tally_value *v = &values[i];
        if (v->type == TALLY_BYTES) {
            w.values[i] = v->len ? v->data : "";
            w.lengths[i] = (int)v->len;
            w.formats[i] = 1;
        } else if (v->type != TALLY_NULL) {
            w.values[i] = at;
            at += make_text(v, at);
        }
    }
    *ret = w;
    return 0;
}

// The name under which it is prepared; *ret_name "" : the unnamed one.
static int prepare(struct postgres_sink *p, const char *sql, char ret_name[STATEMENT_NAME_BYTES],
                   struct tally_error *error)
{
    if (!p->conn)
        return refuse(p, NULL, error);
    for (size_t i = 0; i < p->n_statements; i++) {
        if (strcmp(p->statements[i], sql) == 0) {
            snprintf(ret_name, STATEMENT_NAME_BYTES, "t%zu", i);
            return 0;
        }
    }
    char *copy = p->n_statements < SINK_MAX_STATEMENTS ? strdup(sql) : NULL;
    ret_name[0] = 0;
    if (copy)
        snprintf(ret_name, STATEMENT_NAME_BYTES, "t%zu", p->n_statements);
    int result = finish(p, p->api.PQprepare(p->conn, ret_name, sql, 0, NULL), error);
    if (result < 0 || !copy) {
        free(copy);
        return result;
    }
    p->statements[p->n_statements++] = copy;
    return 0;
}

static int give_rows(struct postgres_sink *p, const PGresult *r, tally_row_fn *row, void *user,
                     struct tally_error *error)
{
    int n = p->api.PQnfields(r);
    struct tally_value *columns = calloc((size_t)n + 1, sizeof *columns);
    if (!columns)
        return tally_error_set(error, TALLY_NO_MEMORY, "out of memory for a row");
    int result = 0;
    for (int i = 0; result == 0 && i < p->api.PQntuples(r); i++) {
        for (int c = 0; c < n; c++) {
            columns[c] = (struct tally_value){.type = TALLY_TEXT,
                                              .data = p->api.PQgetvalue(r, i, c),
                                              .len = (size_t)p->api.PQgetlength(r, i, c)};
            if (p->api.PQgetisnull(r, i, c))
                columns[c] = tally_null();
        }
        result = row(user, columns, (size_t)n, error);
    }
    free(columns);
    return result;
}

static int postgres_run(struct sink *s, const char *sql, const struct tally_value *values,
                        size_t n_values, tally_row_fn *row, void *user, int64_t *ret_changed,
                        struct tally_error *error)
{
    struct postgres_sink *p = self(s);
    char name[STATEMENT_NAME_BYTES];
    struct parameters w = {0};
    int result = prepare(p, sql, name, error);
    if (result == 0)
        result = make_parameters(values, n_values, &w, error);
    if (result < 0)
        return result;
    PGresult *r =
        p->api.PQexecPrepared(p->conn, name, (int)n_values, w.values, w.lengths, w.formats, 0);
    free_parameters(&w);
    ExecStatusType status = p->api.PQresultStatus(r);
    if (status == PGRES_TUPLES_OK && row)
        result = give_rows(p, r, row, user, error);
    if (ret_changed && (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK))
        *ret_changed = strtoll(p->api.PQcmdTuples(r), NULL, 10);
    int finished = finish(p, r, error);
    return finished < 0 ? finished : result;
}

static enum tally_type type_of_oid(unsigned oid)
{
    switch (oid) {
    case OID_BYTEA:
        return TALLY_BYTES;
    case OID_INT2:
    case OID_INT4:
    case OID_INT8:
        return TALLY_INT;
    case OID_FLOAT4:
    case OID_FLOAT8:
        return TALLY_REAL;
    case OID_TEXT:
    case OID_BPCHAR:
    case OID_VARCHAR:
        return TALLY_TEXT;
    default:
        return TALLY_NULL;
    }
}

static int postgres_describe(struct sink *s, const char *sql, tally_column_fn *column, void *user,
                             struct tally_error *error)
{
    struct postgres_sink *p = self(s);
    char name[STATEMENT_NAME_BYTES];
    int result = prepare(p, sql, name, error);
    if (result < 0)
        return result;
    PGresult *r = p->api.PQdescribePrepared(p->conn, name);
    if (p->api.PQresultStatus(r) == PGRES_COMMAND_OK) {
        for (int i = 0; result == 0 && i < p->api.PQnfields(r); i++) {
            struct tally_column c = {p->api.PQfname(r, i), type_of_oid(p->api.PQftype(r, i))};
            result = column(user, &c, error);
        }
    }
    int finished = finish(p, r, error);
    return finished < 0 ? finished : result;
}

static void *postgres_native(struct sink *s)
{
    return self(s)->conn;
}

static void postgres_close(struct sink *s)
{
    struct postgres_sink *p = self(s);
    drop_connection(p);
    free(p->conninfo);
    free(p);
}

// Where it is, for messages; and whether libpq understands it at all.
static int read_place(struct postgres_sink *p, struct tally_error *error)
{
    char *why = NULL;
    PQconninfoOption *all = p->api.PQconninfoParse(p->conninfo, &why);
    if (!all) {
        tally_error_set(error, TALLY_INVALID, "postgres: is no connection that libpq knows: %s",
                        why ? why : "out of memory");
        p->api.PQfreemem(why);
        return TALLY_INVALID;
    }
    const char *host = NULL, *name = NULL;
    for (PQconninfoOption *o = all; o->keyword; o++) {
        if (strcmp(o->keyword, "host") == 0)
            host = o->val;
        else if (strcmp(o->keyword, "dbname") == 0)
            name = o->val;
    }
    snprintf(p->place, sizeof p->place, "%.100s/%.50s", host ? host : "local", name ? name : "");
    p->api.PQconninfoFree(all);
    return 0;
}

int sink_postgres_open(const char *url, int busy_ms, struct sink **ret_sink,
                       struct tally_error *error)
{
    static const struct sink_ops ops = {
        .connect = postgres_connect,
        .begin = postgres_begin,
        .commit = postgres_commit,
        .rollback = postgres_rollback,
        .in_transaction = postgres_in_transaction,
        .run = postgres_run,
        .describe = postgres_describe,
        .native = postgres_native,
        .close = postgres_close,
    };
    struct postgres_sink *p = calloc(1, sizeof *p);
    if (!p)
        return tally_error_set(error, TALLY_NO_MEMORY, "out of memory");
    p->base = (struct sink){.ops = &ops, .database = TALLY_POSTGRES};
    p->busy_ms = busy_ms;
    p->conninfo = strdup(url);
    int result = p->conninfo ? load_postgres(&p->api, error)
                             : tally_error_set(error, TALLY_NO_MEMORY, "out of memory");
    if (result == 0)
        result = read_place(p, error);
    if (result == 0)
        result = postgres_connect(&p->base, error);
    // A server that is not there yet may come: the caller decides how long to wait.
    if (result < 0 && result != TALLY_DATABASE) {
        postgres_close(&p->base);
        return result;
    }
    *ret_sink = &p->base;
    return 0;
}
