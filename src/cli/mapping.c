#include "cli/mapping.h"
#include "base/buf.h"
#include "cli/fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct column {
    char *name;
    char *declared;       // type for --create; NULL: by what it gets
    char *field;          // "@offset", a path in JSON, a number in CSV
    bool is_optional;     // FIELD?: missing is NULL
    enum tally_type type; // of the table
    struct fields_want want;
};

// Rows of one statement: what a statement costs beside its rows is shared by as many. In SQLite
// more gain nothing, and these many divide the usual sizes of a batch.
#define ROWS_AT_ONCE 10
#define MAX_VALUES 999 // parameters that every SQLite takes; one row has fewer
#define SINGLE_ROWS 1000

struct target {
    const char *topic;
    char *table; // quoted
    char *insert;
    char *insert_many; // `rows` at once
    size_t rows;
    struct column *columns;
    size_t n_columns;
};

struct mapping {
    struct mapping_options o;
    struct target *targets;                // one a topic
    struct fields *fields[ROWS_AT_ONCE];   // takers of values out of records
    struct tally_value values[MAX_VALUES]; // of one statement
    size_t n_single; // so many records come with a statement each, to find which is refused
};

static bool refuse(char why[MAPPING_WHY_MAX], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool refuse(char why[MAPPING_WHY_MAX], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, MAPPING_WHY_MAX, format, args);
    va_end(args);
    return false;
}

static char *copy(const char *text, size_t len)
{
    char *c = strndup(text, len);
    CHECK(c);
    return c;
}

static void add_quoted(struct buf *b, const char *name, size_t len)
{
    buf_add(b, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        if (name[i] == '"')
            buf_add(b, "\"", 1);
        buf_add(b, &name[i], 1);
    }
    buf_add(b, "\"", 1);
}

static char *take_text(struct buf *b)
{
    buf_add(b, "", 1);
    return (char *)b->ptr;
}

// A topic's name is one name, dots and all; in --table a dot parts schema and table.
static char *quote_table(const struct mapping_options *o, const char *topic)
{
    struct buf b = {0};
    const char *name = o->table ? o->table : topic;
    const char *dot = o->table ? strchr(name, '.') : NULL;
    if (dot) {
        add_quoted(&b, name, (size_t)(dot - name));
        buf_add(&b, ".", 1);
        name = dot + 1;
    }
    add_quoted(&b, name, strlen(name));
    return take_text(&b);
}

// COLUMN[:TYPE]=FIELD[?]
static bool parse_map(const char *text, struct column *ret, char why[MAPPING_WHY_MAX])
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1])
        return refuse(why, "--map \"%.80s\": the form is COLUMN=FIELD or COLUMN:TYPE=FIELD", text);
    const char *colon = memchr(text, ':', (size_t)(equals - text));
    const char *end = colon ? colon : equals;
    size_t len = strlen(equals + 1);
    bool is_optional = len > 1 && equals[len] == '?';
    *ret = (struct column){
        .name = copy(text, (size_t)(end - text)),
        .declared = colon ? copy(colon + 1, (size_t)(equals - colon) - 1) : NULL,
        .field = copy(equals + 1, is_optional ? len - 1 : len),
        .is_optional = is_optional,
    };
    return true;
}

static void add_column(struct target *t, struct column c)
{
    struct column *more = realloc(t->columns, (t->n_columns + 1) * sizeof *more);
    CHECK(more);
    t->columns = more;
    t->columns[t->n_columns++] = c;
}

static bool add_columns(const struct mapping_options *o, struct target *t,
                        char why[MAPPING_WHY_MAX])
{
    static const char *const own[] = {
        "topic=@topic", "partition=@partition", "record_offset=@offset", "record_time=@time",
        "key=@key",     "value=@value"};
    bool is_own = o->n_maps == 0 && o->format <= MAPPING_LINES;
    const char *const *maps = is_own ? own : o->maps;
    size_t n = is_own ? sizeof own / sizeof own[0] : o->n_maps;
    if (n > MAPPING_MAX_COLUMNS)
        return refuse(why, "more than %d columns", MAPPING_MAX_COLUMNS);
    for (size_t i = 0; i < n; i++) {
        struct column c;
        if (!parse_map(maps[i], &c, why))
            return false;
        add_column(t, c);
        if (!fields_check(o->format, c.field, why))
            return false;
    }
    return true;
}

static bool has_field(const struct target *t, const char *field)
{
    for (size_t i = 0; i < t->n_columns; i++) {
        if (strcmp(t->columns[i].field, field) == 0)
            return true;
    }
    return false;
}

static bool check_options(const struct mapping *m, char why[MAPPING_WHY_MAX])
{
    const struct mapping_options *o = &m->o;
    if (o->creates && o->n_maps == 0 && o->format > MAPPING_LINES)
        return refuse(why, "--create with json or csv needs a --map COLUMN=FIELD for each column");
    if (o->n_topics > 1 && o->table && !has_field(&m->targets[0], "@topic"))
        return refuse(why,
                      "%zu topics into one table: their rows could not be told apart; add "
                      "--map topic=@topic, or leave --table out",
                      o->n_topics);
    return true;
}

bool mapping_new(const struct mapping_options *o, struct mapping **ret_mapping,
                 char why[MAPPING_WHY_MAX])
{
    struct mapping *m = calloc(1, sizeof *m);
    CHECK(m);
    m->o = *o;
    for (size_t i = 0; i < ROWS_AT_ONCE; i++)
        m->fields[i] = fields_new(o->format);
    m->targets = calloc(o->n_topics + 1, sizeof *m->targets);
    CHECK(m->targets);
    bool is_good = true;
    for (size_t i = 0; i < o->n_topics; i++) {
        m->targets[i].topic = o->topics[i];
        m->targets[i].table = quote_table(o, o->topics[i]);
        is_good = is_good && add_columns(o, &m->targets[i], why);
    }
    if (!is_good || !check_options(m, why)) {
        mapping_free(m);
        return false;
    }
    *ret_mapping = m;
    return true;
}

bool mapping_may_want_headers(const struct mapping *m)
{
    for (size_t i = 0; i < m->o.n_topics; i++) {
        // Of a table's own columns the names are not yet known.
        if (m->targets[i].n_columns == 0 || has_field(&m->targets[i], "@headers"))
            return true;
    }
    return false;
}

void mapping_free(struct mapping *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->o.n_topics; i++) {
        struct target *t = &m->targets[i];
        for (size_t c = 0; c < t->n_columns; c++) {
            free(t->columns[c].name);
            free(t->columns[c].declared);
            free(t->columns[c].field);
        }
        free(t->columns);
        free(t->table);
        free(t->insert);
        free(t->insert_many);
    }
    for (size_t i = 0; i < ROWS_AT_ONCE; i++)
        fields_free(m->fields[i]);
    free(m->targets);
    free(m);
}

// --- Tables.

static void add_type(struct buf *b, const struct mapping *m, const struct column *c,
                     enum tally_database database)
{
    enum tally_type type = fields_type(m->o.format, c->field);
    const char *name = c->declared                ? c->declared
                       : type == TALLY_INT        ? "BIGINT"
                       : type != TALLY_BYTES      ? "TEXT"
                       : database == TALLY_SQLITE ? "BLOB"
                                                  : "BYTEA";
    buf_printf(b, " %s", name);
}

static int create(const struct mapping *m, const struct target *t, struct tally_tx *tx,
                  struct tally_error *error)
{
    struct buf b = {0};
    buf_printf(&b, "CREATE TABLE IF NOT EXISTS %s (", t->table);
    for (size_t i = 0; i < t->n_columns; i++) {
        if (i)
            buf_printf(&b, ", ");
        add_quoted(&b, t->columns[i].name, strlen(t->columns[i].name));
        add_type(&b, m, &t->columns[i], tally_tx_database(tx));
    }
    buf_printf(&b, ")");
    char *sql = take_text(&b);
    int result = tally_tx_run(tx, sql, NULL, 0, NULL, error);
    free(sql);
    return result;
}

struct described {
    struct mapping *m;
    struct target *target;
    size_t at;
};

// No --map: every column of the table takes the field of its name, or of its place in CSV.
static int on_any_column(void *user, const struct tally_column *c, struct tally_error *error)
{
    struct described *d = user;
    (void)error;
    char place[24];
    snprintf(place, sizeof place, "%zu", d->target->n_columns + 1);
    const char *field = d->m->o.format == MAPPING_CSV ? place : c->name;
    add_column(d->target, (struct column){.name = copy(c->name, strlen(c->name)),
                                          .field = copy(field, strlen(field)),
                                          .type = c->type});
    return 0;
}

static int on_column(void *user, const struct tally_column *c, struct tally_error *error)
{
    struct described *d = user;
    (void)error;
    if (d->at < d->target->n_columns)
        d->target->columns[d->at++].type = c->type;
    return 0;
}

static int describe(struct mapping *m, struct target *t, struct tally_tx *tx,
                    struct tally_error *error)
{
    struct described d = {m, t, 0};
    bool is_any = t->n_columns == 0;
    struct buf b = {0};
    buf_printf(&b, "SELECT %s", is_any ? "*" : "");
    for (size_t i = 0; i < t->n_columns; i++) {
        if (i)
            buf_printf(&b, ", ");
        // Qualified: SQLite would take an unknown name in quotes for a string.
        buf_printf(&b, "%s.", t->table);
        add_quoted(&b, t->columns[i].name, strlen(t->columns[i].name));
    }
    buf_printf(&b, " FROM %s LIMIT 0", t->table);
    char *sql = take_text(&b);
    int result = tally_tx_describe(tx, sql, is_any ? on_any_column : on_column, &d, error);
    free(sql);
    if (result == TALLY_SQL)
        tally_error_set(error, TALLY_SQL,
                        "table %s: %s; make the table or the column, or say "
                        "--create for a new table",
                        t->table, error->text);
    return result;
}

static int on_noticed(void *user, const struct tally_value *columns, size_t n_columns,
                      struct tally_error *error)
{
    (void)columns;
    (void)n_columns;
    (void)error;
    *(bool *)user = true;
    return 0;
}

// Whether something in PostgreSQL could tell rows of one statement from rows with one each: a
// trigger, a rule, a reference to a row that comes later, and whatever a view hides. SQLite does
// all it does row by row.
static int notices_statements(const struct target *t, struct tally_tx *tx, bool *ret_notices,
                              struct tally_error *error)
{
    static const char sql[] =
        "WITH RECURSIVE parts(part) AS (SELECT to_regclass($1::text)::oid UNION"
        "  SELECT i.inhrelid FROM pg_inherits i JOIN parts ON i.inhparent = part) "
        "SELECT 1 FROM parts JOIN pg_class c ON c.oid = part WHERE c.relkind NOT IN ('r', 'p')"
        "  OR EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = part AND NOT tgisinternal"
        "    AND (tgtype & 4) <> 0)"                                                     // INSERT
        "  OR EXISTS (SELECT 1 FROM pg_rewrite WHERE ev_class = part AND ev_type = '3')" // INSERT
        "  OR EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = part AND contype = 'f'"
        "    AND confrelid IN (SELECT part FROM parts)) LIMIT 1";
    struct tally_value table = tally_text(t->table);
    *ret_notices = false;
    if (tally_tx_database(tx) != TALLY_POSTGRES)
        return 0;
    return tally_tx_query(tx, sql, &table, 1, on_noticed, ret_notices, error);
}

static char *make_insert(const struct target *t, size_t rows)
{
    struct buf b = {0};
    buf_printf(&b, "INSERT INTO %s (", t->table);
    for (size_t i = 0; i < t->n_columns; i++) {
        if (i)
            buf_printf(&b, ", ");
        add_quoted(&b, t->columns[i].name, strlen(t->columns[i].name));
    }
    buf_printf(&b, ") VALUES ");
    for (size_t i = 0; i < rows * t->n_columns; i++) {
        bool is_first = i % t->n_columns == 0, is_last = (i + 1) % t->n_columns == 0;
        const char *before = i == 0 ? "(" : is_first ? ", (" : ", ";
        buf_printf(&b, "%s$%zu%s", before, i + 1, is_last ? ")" : "");
    }
    return take_text(&b);
}

static struct fields_want wanted(const struct column *c, enum tally_database database)
{
    return (struct fields_want){.field = c->field,
                                .meta = fields_meta(c->field),
                                .column = c->name,
                                .type = c->type,
                                .is_optional = c->is_optional,
                                .database = database};
}

int mapping_setup(void *mapping, struct tally_tx *tx, struct tally_error *error)
{
    struct mapping *m = mapping;
    for (size_t i = 0; i < m->o.n_topics; i++) {
        struct target *t = &m->targets[i];
        int result = m->o.creates ? create(m, t, tx, error) : 0;
        bool is_noticed = false;
        if (result == 0)
            result = describe(m, t, tx, error);
        if (result == 0)
            result = notices_statements(t, tx, &is_noticed, error);
        if (result < 0)
            return result;
        if (t->n_columns > MAPPING_MAX_COLUMNS)
            return tally_error_set(error, TALLY_SQL, "table %s has more than %d columns", t->table,
                                   MAPPING_MAX_COLUMNS);
        for (size_t c = 0; c < t->n_columns; c++)
            t->columns[c].want = wanted(&t->columns[c], tally_tx_database(tx));
        free(t->insert); // the setup may be repeated after a lost connection
        free(t->insert_many);
        t->rows = t->n_columns * ROWS_AT_ONCE <= MAX_VALUES && !is_noticed ? ROWS_AT_ONCE : 1;
        t->insert = make_insert(t, 1);
        t->insert_many = make_insert(t, t->rows);
    }
    return 0;
}

// --- Records.

static struct target *target_of(const struct mapping *m, const struct tally_record *r)
{
    struct target *t = m->targets;
    for (size_t i = 1; i < m->o.n_topics && strcmp(t->topic, r->topic) != 0; i++)
        t = &m->targets[i];
    return t;
}

// How many of n records go into the next statement.
static size_t next_rows(const struct mapping *m, const struct target *t,
                        const struct tally_record *records, size_t n)
{
    if (n < t->rows || m->n_single > 0)
        return 1;
    for (size_t i = 1; m->o.n_topics > 1 && i < t->rows; i++) {
        if (target_of(m, &records[i]) != t)
            return 1;
    }
    return t->rows;
}

static int take_row(const struct target *t, struct fields *f, const struct tally_record *r,
                    struct tally_value *ret_values, struct tally_error *error)
{
    int result = fields_open(f, r, error);
    for (size_t i = 0; result == 0 && i < t->n_columns; i++)
        result = fields_take(f, &t->columns[i].want, &ret_values[i], error);
    return result;
}

// One statement. *ret_bad is set where the record is known.
static int store_rows(struct mapping *m, const struct target *t, const struct tally_record *records,
                      size_t n, struct tally_tx *tx, size_t *ret_bad, struct tally_error *error)
{
    size_t width = t->n_columns, taken = 0;
    int result = 0;
    for (; result == 0 && taken < n; taken++) {
        *ret_bad = taken;
        struct tally_value *values = m->values + taken * width;
        result = take_row(t, m->fields[taken], &records[taken], values, error);
    }
    if (result == 0) {
        const char *sql = n > 1 ? t->insert_many : t->insert;
        *ret_bad = n > 1 ? n : 0;
        result = tally_tx_run(tx, sql, m->values, n * width, NULL, error);
    }
    for (size_t i = 0; i < taken; i++)
        fields_close(m->fields[i]);
    return result;
}

// What many rows at once are refused for, as by a limit of a statement's time: each may fit by
// itself, and only its own statement's error is its own.
static bool may_fit_singly(int result)
{
    return result == TALLY_UNFIT || result == TALLY_AGAIN || result == TALLY_SQL;
}

int mapping_store(void *mapping, const struct tally_record *records, size_t n, struct tally_tx *tx,
                  size_t *ret_bad, struct tally_error *error)
{
    struct mapping *m = mapping;
    for (size_t at = 0, rows; at < n; at += rows) {
        const struct target *t = target_of(m, &records[at]);
        rows = next_rows(m, t, &records[at], n - at);
        m->n_single -= m->n_single > 0;
        size_t bad = rows;
        int result = store_rows(m, t, &records[at], rows, tx, &bad, error);
        if (result == TALLY_UNFIT && bad < rows) {
            *ret_bad = at + bad;
        } else if (rows > 1 && may_fit_singly(result)) {
            m->n_single = SINGLE_ROWS; // they come again
            return tally_error_set(error, TALLY_UNFIT, "%zu rows were refused together", rows);
        }
        if (result < 0)
            return result;
    }
    return 0;
}
