#include "drill/database_rows.h"

#include "base/map.h"

#include <ctype.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

// How often a key is there, from before and in the reading that is under way.
struct before {
    int64_t n;
    int64_t seen;
};

struct database {
    char *place;
    char *query;
    struct postgres *postgres; // NULL: SQLite
    struct map *before;        // key -> struct before, owned
    const char *topic;         // while it is looked at what was there before
    int64_t rows;              // likewise
    struct book_spot *spots;   // of the reading that is under way
    size_t n_spots;
    size_t cap_spots;
};

int database_refuse(char **ret_why, const char *format, ...)
{
    char text[700];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    free(*ret_why);
    *ret_why = strdup(text);
    CHECK(*ret_why);
    return -EINVAL;
}

// ---- what is named

static bool begins_query(const char *text)
{
    static const char *const words[] = {"select", "with", "values", "table"};
    while (isspace((unsigned char)*text))
        text++;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t len = strlen(words[i]);
        if (strncasecmp(text, words[i], len) == 0 && !isalnum((unsigned char)text[len]))
            return true;
    }
    return *text == '(';
}

// Where the query stands behind the place; NULL: nowhere.
static const char *find_query(const char *rest, bool is_url)
{
    const char *colon = strchr(rest, ':');
    while (is_url && colon && !begins_query(colon + 1))
        colon = strchr(colon + 1, ':');
    return colon && colon > rest && colon[1] ? colon + 1 : NULL;
}

int database_parse(const char *spec, struct database **ret_database, char **ret_why)
{
    *ret_why = NULL;
    bool is_sqlite = strncmp(spec, "sqlite:", 7) == 0;
    // postgres://HOST/DB is itself a URL that libpq understands.
    bool is_url = strncmp(spec, "postgres://", 11) == 0 || strncmp(spec, "postgresql://", 13) == 0;
    bool is_postgres = is_url || strncmp(spec, "postgres:", 9) == 0;
    const char *rest = is_sqlite ? spec + 7 : is_url ? spec : spec + 9;
    const char *query = is_sqlite || is_postgres ? find_query(rest, is_postgres) : NULL;
    if (!query)
        return database_refuse(ret_why,
                               "--evidence sql:%s: the form is sql:%s with a query that gives "
                               "topic, partition, offset (or a key) of each record worked on",
                               is_sqlite || is_postgres ? "..." : spec,
                               is_sqlite     ? "sqlite:FILE:QUERY"
                               : is_postgres ? "postgres:URL:QUERY"
                                             : "sqlite:FILE:QUERY or sql:postgres:URL:QUERY");
    struct database *d = calloc(1, sizeof *d);
    CHECK(d);
    d->place = strndup(rest, (size_t)(query - 1 - rest));
    d->query = strdup(query);
    d->before = map_new();
    CHECK(d->place && d->query);
    int rc = is_postgres ? postgres_new(d->place, &d->postgres, ret_why) : 0;
    if (rc < 0) {
        database_free(d);
        return rc;
    }
    *ret_database = d;
    return 0;
}

void database_free(struct database *d)
{
    if (!d)
        return;
    void *count;
    for (size_t it = 0; map_next(d->before, &it, NULL, &count);)
        free(count);
    map_free(d->before);
    postgres_free(d->postgres);
    free(d->place);
    free(d->query);
    free(d->spots);
    free(d);
}

const char *database_place(const struct database *d)
{
    return d->place;
}

const char *database_query(const struct database *d)
{
    return d->query;
}

bool database_is_lasting(const struct database *d)
{
    return d->postgres || strncmp(d->place, "{dir}/", 6) != 0;
}

// ---- rows

struct database_columns database_columns(const char *const *names, int n)
{
    struct database_columns c = {-1, -1, -1, -1};
    for (int i = 0; i < n; i++) {
        if (strcasestr(names[i], "topic"))
            c.topic = i;
        else if (strcasestr(names[i], "partition"))
            c.partition = i;
        else if (strcasestr(names[i], "offset"))
            c.offset = i;
    }
    if (c.partition >= 0 && c.offset >= 0)
        return c;
    if (n == 1)
        return (struct database_columns){-1, -1, -1, 0};
    return n == 2 ? (struct database_columns){-1, 0, 1, -1}
                  : (struct database_columns){0, 1, 2, -1};
}

static bool whole_number(struct str text, int64_t *ret)
{
    char digits[24];
    if (text.len <= 0 || (size_t)text.len >= sizeof digits)
        return false;
    memcpy(digits, text.ptr, (size_t)text.len);
    digits[text.len] = '\0';
    char *end;
    *ret = strtoll(digits, &end, 10);
    // A column of type REAL or NUMERIC may show as 5.0.
    return end > digits && (*end == '\0' || strspn(end, ".0") == strlen(end));
}

// "topic/partition/offset"
static bool split_id(const char *topic, struct str key, int64_t *ret_partition, int64_t *ret_offset)
{
    size_t len = strlen(topic);
    if ((size_t)key.len < len + 4 || memcmp(key.ptr, topic, len) != 0 || key.ptr[len] != '/')
        return false;
    struct str rest = {key.ptr + len + 1, key.len - (int32_t)len - 1};
    const char *slash = memchr(rest.ptr, '/', (size_t)rest.len);
    return slash &&
           whole_number((struct str){rest.ptr, (int32_t)(slash - rest.ptr)}, ret_partition) &&
           whole_number((struct str){slash + 1, rest.len - (int32_t)(slash - rest.ptr) - 1},
                        ret_offset);
}

static void work(struct database *d, const struct book *b, int64_t partition, int64_t offset)
{
    if (partition < 0 || partition > INT32_MAX || !book_has(b, (int32_t)partition, offset))
        return;
    if (d->n_spots == d->cap_spots) {
        d->cap_spots = d->cap_spots ? d->cap_spots * 2 : 1024;
        d->spots = realloc(d->spots, d->cap_spots * sizeof *d->spots);
        CHECK(d->spots);
    }
    d->spots[d->n_spots++] = (struct book_spot){(int32_t)partition, offset};
}

static void key_row(struct database *d, struct str key, struct book *b)
{
    int64_t partition, offset;
    struct before *was = map_get(d->before, key_str(key));
    if (split_id(b ? book_topic(b) : d->topic, key, &partition, &offset)) {
        if (b)
            work(d, b, partition, offset);
        else
            d->rows++;
        return;
    }
    if (!b && !was) {
        was = calloc(1, sizeof *was);
        CHECK(was);
        map_put(d->before, key_str(key), was);
    }
    struct book_spot at;
    if (!b)
        was->n++;
    else if (was && was->seen < was->n)
        was->seen++;
    else if (book_find_key(b, key, &at))
        work(d, b, at.partition, at.offset);
}

void database_row(struct database *d, const struct database_columns *c, const struct str *values,
                  struct book *b)
{
    const char *topic = b ? book_topic(b) : d->topic;
    if (c->key >= 0) {
        if (values[c->key].len >= 0)
            key_row(d, values[c->key], b);
        return;
    }
    if (c->topic >= 0 && !str_eq_c(values[c->topic], topic))
        return;
    int64_t partition, offset;
    if (!whole_number(values[c->partition], &partition) ||
        !whole_number(values[c->offset], &offset))
        return;
    if (b)
        work(d, b, partition, offset);
    else
        d->rows++;
}

// ---- SQLite

static int take_rows(struct database *d, sqlite3_stmt *s, struct book *b)
{
    const char *names[DATABASE_MAX_COLUMNS];
    struct str values[DATABASE_MAX_COLUMNS];
    int n = sqlite3_column_count(s);
    n = n > DATABASE_MAX_COLUMNS ? DATABASE_MAX_COLUMNS : n;
    if (n == 0)
        return SQLITE_DONE;
    for (int i = 0; i < n; i++)
        names[i] = sqlite3_column_name(s, i);
    struct database_columns c = database_columns(names, n);
    int rc;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        for (int i = 0; i < n; i++) {
            const char *text = (const char *)sqlite3_column_text(s, i);
            values[i] = text ? (struct str){text, sqlite3_column_bytes(s, i)} : STR_NULL;
        }
        database_row(d, &c, values, b);
    }
    return rc;
}

static int sqlite_read(struct database *d, const char *file, const char *query, struct book *b,
                       char **ret_why)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    if (access(file, F_OK) != 0) // opening it would make it
        return 0;
    int rc = sqlite3_open_v2(file, &db, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, query, -1, &s, NULL);
    if (rc == SQLITE_OK && s && sqlite3_stmt_readonly(s))
        rc = take_rows(d, s, b);
    else if (rc == SQLITE_OK)
        rc = SQLITE_READONLY;
    int result = 0;
    if (rc == SQLITE_BUSY || rc == SQLITE_LOCKED)
        result = -EBUSY;
    else if (rc == SQLITE_READONLY)
        result = database_refuse(ret_why, "the evidence query must only read: %.200s", query);
    else if (rc != SQLITE_OK && rc != SQLITE_DONE &&
             !(rc == SQLITE_ERROR && strstr(sqlite3_errmsg(db), "no such table")))
        result = database_refuse(ret_why, "%s: %s", file, sqlite3_errmsg(db));
    sqlite3_finalize(s);
    sqlite3_close(db);
    return result;
}

bool database_is_held(const struct database *d, const char *place)
{
    sqlite3 *db = NULL;
    if (d->postgres || access(place, F_OK) != 0)
        return false;
    int rc = sqlite3_open_v2(place, &db, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, "BEGIN IMMEDIATE; ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(db);
    return rc == SQLITE_BUSY;
}

// ---- both

static int read_rows(struct database *d, const char *place, const char *query, struct book *b,
                     char **ret_why)
{
    void *count;
    for (size_t it = 0; map_next(d->before, &it, NULL, &count);)
        ((struct before *)count)->seen = 0;
    d->n_spots = 0;
    *ret_why = NULL;
    int rc = d->postgres ? postgres_read(d->postgres, d, place, query, b, ret_why)
                         : sqlite_read(d, place, query, b, ret_why);
    // Only a reading to the end replaces what was known.
    if (rc < 0 || !b)
        return rc;
    book_clear_worked(b);
    for (size_t i = 0; i < d->n_spots; i++)
        book_worked(b, d->spots[i], 0, BOOK_PLAIN);
    return 0;
}

int database_read(struct database *d, const char *place, const char *query, struct book *b,
                  char **ret_why)
{
    return read_rows(d, place, query, b, ret_why);
}

int database_look_before(struct database *d, const char *place, const char *query,
                         const char *topic, int64_t *ret_rows, char **ret_why)
{
    void *count;
    for (size_t it = 0; map_next(d->before, &it, NULL, &count);)
        ((struct before *)count)->n = 0;
    d->topic = topic;
    d->rows = 0;
    int rc = read_rows(d, place, query, NULL, ret_why);
    d->topic = NULL;
    *ret_rows = d->rows;
    return rc;
}
