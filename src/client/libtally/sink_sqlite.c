#include "client/libtally/load.h"
#include "client/libtally/sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// Parameters are named $1, $2 ...; where each stands is looked up once.
struct statement {
    char *sql; // NULL: not kept
    sqlite3_stmt *handle;
    int *places; // of the first n_known; has room for as many as the statement has parameters
    size_t n_known;
    size_t cap_known;
};

struct sqlite_sink {
    struct sink base;
    struct sqlite_api api;
    sqlite3 *db; // NULL: not open
    char *file;
    int busy_ms;
    struct statement statements[SINK_MAX_STATEMENTS];
    size_t n_statements;
    size_t last; // the statement run last, likely the next one
};

static struct sqlite_sink *self(struct sink *s)
{
    return (struct sqlite_sink *)s;
}

static int refuse(struct sqlite_sink *q, struct tally_error *error)
{
    int code = q->api.sqlite3_extended_errcode(q->db);
    const char *why = q->api.sqlite3_errmsg(q->db);
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        return tally_error_set(error, TALLY_NO_MEMORY, "SQLite ran out of memory");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return tally_error_set(error, TALLY_AGAIN,
                               "database %s is locked by another process; see who has it open "
                               "(fuser)",
                               q->file);
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_TOOBIG:
        return tally_error_set(error, TALLY_UNFIT, "%s", why);
    case SQLITE_FULL:
        return tally_error_set(error, TALLY_SQL,
                               "no space left for database %s; free some and start again: what "
                               "was stored stays, with its offset",
                               q->file);
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return tally_error_set(error, TALLY_SQL, "%s: %s; name another file or restore a backup",
                               q->file, why);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
        return tally_error_set(error, TALLY_SQL,
                               "cannot write database %s: %s; check the path and its rights",
                               q->file, why);
    default:
        return tally_error_set(error, TALLY_SQL, "database %s: %s", q->file, why);
    }
}

static int execute(struct sqlite_sink *q, const char *sql, struct tally_error *error)
{
    return q->api.sqlite3_exec(q->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : refuse(q, error);
}

static int sqlite_connect(struct sink *s, struct tally_error *error)
{
    struct sqlite_sink *q = self(s);
    if (q->db)
        return 0;
    // A handle belongs to one thread at a time (tally.h): SQLite need not lock at every call.
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    int rc = q->api.sqlite3_open_v2(q->file, &q->db, flags, NULL);
    if (!q->db)
        return tally_error_set(error, TALLY_NO_MEMORY, "SQLite ran out of memory");
    int result = rc == SQLITE_OK ? 0 : refuse(q, error);
    if (result == 0) {
        q->api.sqlite3_busy_timeout(q->db, q->busy_ms);
        // Without a sync at each commit a power cut takes the last transactions, rows and offsets
        // together: they are read again. A rollback journal would have readers stop us.
        result = execute(q, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL", error);
    }
    if (result < 0) {
        q->api.sqlite3_close_v2(q->db);
        q->db = NULL;
    }
    return result;
}

static int sqlite_begin(struct sink *s, struct tally_error *error)
{
    return execute(self(s), "BEGIN IMMEDIATE", error);
}

static int sqlite_commit(struct sink *s, struct tally_error *error)
{
    return execute(self(s), "COMMIT", error);
}

static bool sqlite_in_transaction(struct sink *s)
{
    struct sqlite_sink *q = self(s);
    return q->db && !q->api.sqlite3_get_autocommit(q->db);
}

static void sqlite_rollback(struct sink *s)
{
    // Some errors (a full disk) have rolled back already.
    if (sqlite_in_transaction(s))
        (void)execute(self(s), "ROLLBACK", NULL);
}

// An unkept statement stands in `spare`; the caller finalizes it.
static int prepare(struct sqlite_sink *q, const char *sql, struct statement *spare,
                   struct statement **ret_statement, struct tally_error *error)
{
    for (size_t i = 0; i < q->n_statements; i++) {
        size_t at = (q->last + i) % q->n_statements;
        if (strcmp(q->statements[at].sql, sql) == 0) {
            q->last = at;
            *ret_statement = &q->statements[at];
            return 0;
        }
    }
    sqlite3_stmt *handle = NULL;
    if (q->api.sqlite3_prepare_v2(q->db, sql, -1, &handle, NULL) != SQLITE_OK)
        return refuse(q, error);
    if (!handle)
        return tally_error_set(error, TALLY_INVALID, "an empty statement");
    char *copy = q->n_statements < SINK_MAX_STATEMENTS ? strdup(sql) : NULL;
    *ret_statement = copy ? &q->statements[q->n_statements++] : spare;
    size_t n = copy ? (size_t)q->api.sqlite3_bind_parameter_count(handle) : 0;
    int *places = n ? malloc(n * sizeof *places) : NULL; // without it each is looked up each time
    **ret_statement = (struct statement){
        .sql = copy, .handle = handle, .places = places, .cap_known = places ? n : 0};
    return 0;
}

// 0: the statement has no such parameter.
static int place_of(struct sqlite_sink *q, struct statement *s, size_t i)
{
    if (i < s->n_known)
        return s->places[i];
    char name[24];
    snprintf(name, sizeof name, "$%zu", i + 1);
    int at = q->api.sqlite3_bind_parameter_index(s->handle, name);
    if (i == s->n_known && i < s->cap_known)
        s->places[s->n_known++] = at;
    return at;
}

static int bind_one(struct sqlite_sink *q, sqlite3_stmt *h, int at, const struct tally_value *v)
{
    switch (v->type) {
    case TALLY_NULL:
        return q->api.sqlite3_bind_null(h, at);
    case TALLY_INT:
        return q->api.sqlite3_bind_int64(h, at, v->integer);
    case TALLY_REAL:
        return q->api.sqlite3_bind_double(h, at, v->real);
    case TALLY_TEXT:
        return q->api.sqlite3_bind_text64(h, at, v->data, v->len, SQLITE_STATIC, SQLITE_UTF8);
    case TALLY_BYTES:
        // A pointer to nothing would be bound as NULL.
        return v->len ? q->api.sqlite3_bind_blob64(h, at, v->data, v->len, SQLITE_STATIC)
                      : q->api.sqlite3_bind_zeroblob(h, at, 0);
    }
    return SQLITE_MISUSE;
}

static int bind_all(struct sqlite_sink *q, struct statement *s, const struct tally_value *values,
                    size_t n, struct tally_error *error)
{
    for (size_t i = 0; i < n; i++) {
        int at = place_of(q, s, i);
        if (at > 0 && bind_one(q, s->handle, at, &values[i]) != SQLITE_OK)
            return refuse(q, error);
    }
    return 0;
}

static struct tally_value column_value(struct sqlite_sink *q, sqlite3_stmt *h, int at)
{
    switch (q->api.sqlite3_column_type(h, at)) {
    case SQLITE_INTEGER:
        return tally_int(q->api.sqlite3_column_int64(h, at));
    case SQLITE_FLOAT:
        return tally_real(q->api.sqlite3_column_double(h, at));
    case SQLITE_TEXT: {
        const void *text = q->api.sqlite3_column_text(h, at);
        size_t len = (size_t)q->api.sqlite3_column_bytes(h, at);
        return (struct tally_value){.type = TALLY_TEXT, .data = text, .len = len};
    }
    case SQLITE_BLOB: {
        const void *data = q->api.sqlite3_column_blob(h, at);
        return tally_bytes(data ? data : "", (size_t)q->api.sqlite3_column_bytes(h, at));
    }
    default:
        return tally_null();
    }
}

static int give_row(struct sqlite_sink *q, sqlite3_stmt *h, tally_row_fn *row, void *user,
                    struct tally_error *error)
{
    int n = q->api.sqlite3_column_count(h);
    struct tally_value *columns = calloc((size_t)n + 1, sizeof *columns);
    if (!columns)
        return tally_error_set(error, TALLY_NO_MEMORY, "out of memory for a row");
    for (int i = 0; i < n; i++)
        columns[i] = column_value(q, h, i);
    int rc = row(user, columns, (size_t)n, error);
    free(columns);
    return rc;
}

static int sqlite_run(struct sink *s, const char *sql, const struct tally_value *values,
                      size_t n_values, tally_row_fn *row, void *user, int64_t *ret_changed,
                      struct tally_error *error)
{
    struct sqlite_sink *q = self(s);
    struct statement spare, *statement = &spare;
    int result = prepare(q, sql, &spare, &statement, error);
    if (result < 0)
        return result;
    sqlite3_stmt *h = statement->handle;
    result = bind_all(q, statement, values, n_values, error);
    int rc = SQLITE_DONE;
    while (result == 0 && (rc = q->api.sqlite3_step(h)) == SQLITE_ROW) {
        if (row)
            result = give_row(q, h, row, user, error);
    }
    if (result == 0 && rc != SQLITE_DONE)
        result = refuse(q, error);
    if (result == 0 && ret_changed)
        *ret_changed = q->api.sqlite3_changes(q->db);
    q->api.sqlite3_reset(h);
    if (statement->sql)
        q->api.sqlite3_clear_bindings(h);
    else
        q->api.sqlite3_finalize(h);
    return result;
}

// SQLite's own rules of affinity, of its documentation "Datatypes In SQLite", 3.1.
static enum tally_type declared_type(const char *type)
{
    if (!type || !*type)
        return TALLY_NULL;
    if (strcasestr(type, "INT"))
        return TALLY_INT;
    if (strcasestr(type, "CHAR") || strcasestr(type, "CLOB") || strcasestr(type, "TEXT"))
        return TALLY_TEXT;
    if (strcasestr(type, "BLOB"))
        return TALLY_BYTES;
    if (strcasestr(type, "REAL") || strcasestr(type, "FLOA") || strcasestr(type, "DOUB"))
        return TALLY_REAL;
    return TALLY_NULL;
}

static int sqlite_describe(struct sink *s, const char *sql, tally_column_fn *column, void *user,
                           struct tally_error *error)
{
    struct sqlite_sink *q = self(s);
    sqlite3_stmt *h;
    if (q->api.sqlite3_prepare_v2(q->db, sql, -1, &h, NULL) != SQLITE_OK)
        return refuse(q, error);
    int result = 0;
    for (int i = 0; result == 0 && i < q->api.sqlite3_column_count(h); i++) {
        struct tally_column c = {q->api.sqlite3_column_name(h, i),
                                 declared_type(q->api.sqlite3_column_decltype(h, i))};
        result = column(user, &c, error);
    }
    q->api.sqlite3_finalize(h);
    return result;
}

static void *sqlite_native(struct sink *s)
{
    return self(s)->db;
}

static void sqlite_close(struct sink *s)
{
    struct sqlite_sink *q = self(s);
    for (size_t i = 0; i < q->n_statements; i++) {
        q->api.sqlite3_finalize(q->statements[i].handle);
        free(q->statements[i].sql);
        free(q->statements[i].places);
    }
    if (q->db)
        q->api.sqlite3_close_v2(q->db);
    free(q->file);
    free(q);
}

int sink_sqlite_open(const char *file, int busy_ms, struct sink **ret_sink,
                     struct tally_error *error)
{
    static const struct sink_ops ops = {
        .connect = sqlite_connect,
        .begin = sqlite_begin,
        .commit = sqlite_commit,
        .rollback = sqlite_rollback,
        .in_transaction = sqlite_in_transaction,
        .run = sqlite_run,
        .describe = sqlite_describe,
        .native = sqlite_native,
        .close = sqlite_close,
    };
    struct sqlite_sink *q = calloc(1, sizeof *q);
    if (!q)
        return tally_error_set(error, TALLY_NO_MEMORY, "out of memory");
    q->base = (struct sink){.ops = &ops, .database = TALLY_SQLITE};
    q->busy_ms = busy_ms;
    q->file = strdup(file);
    int result = q->file ? load_sqlite(&q->api, error)
                         : tally_error_set(error, TALLY_NO_MEMORY, "out of memory");
    if (result == 0)
        result = sqlite_connect(&q->base, error);
    // Somebody else is in it (the change to a write-ahead log waits for nobody): that passes, and
    // the caller decides how long to wait.
    if (result < 0 && result != TALLY_AGAIN) {
        sqlite_close(&q->base);
        return result;
    }
    *ret_sink = &q->base;
    return 0;
}
