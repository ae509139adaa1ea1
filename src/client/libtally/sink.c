#include "client/libtally/sink.h"

#include <string.h>

int sink_open(const char *into, int busy_ms, struct sink **ret_sink, struct tally_error *error)
{
    if (strncmp(into, "sqlite:", 7) == 0 && into[7])
        return sink_sqlite_open(into + 7, busy_ms, ret_sink, error);
    if (strncmp(into, "postgres:", 9) == 0 && into[9] && into[9] != '/')
        return sink_postgres_open(into + 9, busy_ms, ret_sink, error);
    // postgres://HOST/DB is itself a URL that libpq understands.
    if (strncmp(into, "postgres://", 11) == 0 || strncmp(into, "postgresql://", 13) == 0)
        return sink_postgres_open(into, busy_ms, ret_sink, error);
    return tally_error_set(error, TALLY_INVALID,
                           "\"%.40s\" names no database; write sqlite:FILE or postgres:URL", into);
}

void sink_close(struct sink *s)
{
    if (s)
        s->ops->close(s);
}

int sink_connect(struct sink *s, struct tally_error *error)
{
    return s->ops->connect(s, error);
}

int sink_begin(struct sink *s, struct tally_error *error)
{
    int result = s->ops->begin(s, error);
    s->is_in_tx = result == 0;
    return result;
}

int sink_commit(struct sink *s, struct tally_error *error)
{
    s->is_in_tx = false;
    return s->ops->commit(s, error);
}

void sink_rollback(struct sink *s)
{
    s->is_in_tx = false;
    s->ops->rollback(s);
}

int sink_run(struct sink *s, const char *sql, const struct tally_value *values, size_t n_values,
             tally_row_fn *row, void *user, int64_t *ret_changed, struct tally_error *error)
{
    if (n_values > SINK_MAX_VALUES)
        return tally_error_set(error, TALLY_INVALID, "a statement has more than %d parameters",
                               SINK_MAX_VALUES);
    if (s->is_in_tx && !s->ops->in_transaction(s))
        return tally_error_set(error, TALLY_INVALID, SINK_TX_ENDED);
    return s->ops->run(s, sql, values, n_values, row, user, ret_changed, error);
}

int sink_describe(struct sink *s, const char *sql, tally_column_fn *column, void *user,
                  struct tally_error *error)
{
    return s->ops->describe(s, sql, column, user, error);
}

void *sink_native(struct sink *s)
{
    return s->ops->native(s);
}
