#pragma once
// A database that takes transactions: SQLite or PostgreSQL behind one small interface.
// One sink belongs to one thread.
//
// What the calls return, and what the caller then does:
//   TALLY_DATABASE  the connection is gone: sink_connect(), later
//   TALLY_AGAIN     lost to another session (lock, deadlock): repeat the transaction
//   TALLY_UNFIT     a value does not fit
//   TALLY_SQL, TALLY_NO_MEMORY ...   stop
// After any error the transaction must be ended with sink_rollback().

#include "client/libtally/error.h"

struct sink;

struct sink_ops {
    int (*connect)(struct sink *s, struct tally_error *error);
    int (*begin)(struct sink *s, struct tally_error *error);
    int (*commit)(struct sink *s, struct tally_error *error);
    void (*rollback)(struct sink *s);
    bool (*in_transaction)(struct sink *s); // as the database has it; false when it surely is not
    int (*run)(struct sink *s, const char *sql, const struct tally_value *values, size_t n_values,
               tally_row_fn *row, void *user, int64_t *ret_changed, struct tally_error *error);
    int (*describe)(struct sink *s, const char *sql, tally_column_fn *column, void *user,
                    struct tally_error *error);
    void *(*native)(struct sink *s);
    void (*close)(struct sink *s);
};

struct sink {
    const struct sink_ops *ops;
    enum tally_database database;
    bool is_in_tx; // between our BEGIN and our COMMIT or ROLLBACK
};

#define SINK_MAX_STATEMENTS 64 // kept prepared; further ones are prepared anew each time
#define SINK_MAX_VALUES 1000   // parameters of one statement, as SQLite's own default was

// How long PostgreSQL lets a transaction of ours stand idle before it is thrown away: a frozen
// copy must not hold its locks for ever.
#define SINK_IDLE_MS 10000

// `into` is "sqlite:FILE" or "postgres:URL". busy_ms: how long one call may wait for a lock.
// Connects; a database that cannot be reached, or is locked, may come: sink_connect(), later.
MUST_CHECK int sink_open(const char *into, int busy_ms, struct sink **ret_sink,
                         struct tally_error *error);
void sink_close(struct sink *s); // NULL is fine
// Connects anew when the connection is gone; otherwise does nothing.
MUST_CHECK int sink_connect(struct sink *s, struct tally_error *error);
MUST_CHECK int sink_begin(struct sink *s, struct tally_error *error);
// TALLY_DATABASE here means that nobody knows whether it was committed.
MUST_CHECK int sink_commit(struct sink *s, struct tally_error *error);
void sink_rollback(struct sink *s);
// row and ret_changed may be NULL.
MUST_CHECK int sink_run(struct sink *s, const char *sql, const struct tally_value *values,
                        size_t n_values, tally_row_fn *row, void *user, int64_t *ret_changed,
                        struct tally_error *error);
MUST_CHECK int sink_describe(struct sink *s, const char *sql, tally_column_fn *column, void *user,
                             struct tally_error *error);
void *sink_native(struct sink *s);

// What a statement finds when its callback has ended the transaction, or went on after an error
// that ended it: from there on each statement would stand by itself.
#define SINK_TX_ENDED                                                                              \
    "the transaction has ended before its offset was stored: a callback must return the first "    \
    "error it gets, and never begin, commit or roll back"

// For sink.c only.
MUST_CHECK int sink_sqlite_open(const char *file, int busy_ms, struct sink **ret_sink,
                                struct tally_error *error);
MUST_CHECK int sink_postgres_open(const char *url, int busy_ms, struct sink **ret_sink,
                                  struct tally_error *error);
