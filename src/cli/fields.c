#include "cli/fields.h"
#include "base/buf.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CSV_COLUMNS 1000
#define MAX_TEXTS 512 // made for one record: as many as there are columns

struct csv_column {
    size_t start; // in texts
    size_t len;
};

struct fields {
    enum mapping_format format;
    const struct tally_record *record; // while open
    json_t *json;
    struct buf csv; // columns without their quotes, one after the other
    struct csv_column columns[MAX_CSV_COLUMNS];
    size_t n_columns;
    char *made[MAX_TEXTS]; // texts made for this record
    size_t n_made;
};

enum meta { TOPIC, PARTITION, OFFSET, TIME, KEY, VALUE, HEADERS, EPOCH, N_META };

static const char *const meta_names[N_META] = {"@topic", "@partition", "@offset",  "@time",
                                               "@key",   "@value",     "@headers", "@claim_epoch"};

static enum meta find_meta(const char *field)
{
    enum meta i = TOPIC;
    while (i < N_META && strcmp(meta_names[i], field) != 0)
        i++;
    return i;
}

int fields_meta(const char *field)
{
    enum meta which = find_meta(field);
    return which == N_META ? -1 : (int)which;
}

struct fields *fields_new(enum mapping_format format)
{
    struct fields *f = calloc(1, sizeof *f);
    CHECK(f);
    f->format = format;
    return f;
}

void fields_free(struct fields *f)
{
    if (!f)
        return;
    fields_close(f);
    buf_free(&f->csv);
    free(f);
}

bool fields_check(enum mapping_format format, const char *field, char why[MAPPING_WHY_MAX])
{
    if (field[0] == '@' && find_meta(field) == N_META) {
        snprintf(why, MAPPING_WHY_MAX,
                 "no field %.40s; there are @topic @partition @offset @time @key @value @headers "
                 "@claim_epoch",
                 field);
        return false;
    }
    char *end;
    long place = strtol(field, &end, 10);
    if (field[0] == '@' || format == MAPPING_JSON ||
        (format == MAPPING_CSV && !*end && place >= 1 && place <= MAX_CSV_COLUMNS))
        return true;
    snprintf(why, MAPPING_WHY_MAX,
             format == MAPPING_CSV
                 ? "--map: \"%.40s\" is no column of CSV; give its place, from 1, or an @field"
                 : "--map: \"%.40s\": raw records and lines have @fields only (see --help)",
             field);
    return false;
}

enum tally_type fields_type(enum mapping_format format, const char *field)
{
    switch (find_meta(field)) {
    case PARTITION:
    case OFFSET:
    case TIME:
    case EPOCH:
        return TALLY_INT;
    case KEY:
    case VALUE:
        return format == MAPPING_RAW ? TALLY_BYTES : TALLY_TEXT;
    case TOPIC:
    case HEADERS:
    case N_META:
        break;
    }
    return TALLY_TEXT;
}

// --- Records.

static int parse_json(struct fields *f, struct tally_error *error)
{
    json_error_t e;
    f->json = json_loadb(f->record->value, f->record->value_len, JSON_REJECT_DUPLICATES, &e);
    if (!f->json)
        return tally_error_set(error, TALLY_UNFIT, "the value is no JSON: %s", e.text);
    if (!json_is_object(f->json))
        return tally_error_set(error, TALLY_UNFIT, "the value is JSON, but no object");
    return 0;
}

static int parse_csv(struct fields *f, struct tally_error *error)
{
    const char *at = f->record->value, *end = at + f->record->value_len;
    buf_clear(&f->csv);
    f->n_columns = 0;
    for (bool is_more = true; is_more;) {
        if (f->n_columns == MAX_CSV_COLUMNS)
            return tally_error_set(error, TALLY_UNFIT, "more than %d columns", MAX_CSV_COLUMNS);
        struct csv_column *c = &f->columns[f->n_columns++];
        c->start = f->csv.len;
        bool is_quoted = false;
        for (; at < end && (is_quoted || *at != ','); at++) {
            if (*at == '"' && is_quoted && at + 1 < end && at[1] == '"')
                at++;
            else if (*at == '"') {
                is_quoted = !is_quoted;
                continue;
            }
            buf_add(&f->csv, at, 1);
        }
        if (is_quoted)
            return tally_error_set(error, TALLY_UNFIT, "a quoted CSV field never ends");
        c->len = f->csv.len - c->start;
        is_more = at < end;
        at += is_more;
    }
    return 0;
}

int fields_open(struct fields *f, const struct tally_record *r, struct tally_error *error)
{
    f->record = r;
    if (f->format <= MAPPING_LINES)
        return 0;
    if (!r->value)
        return tally_error_set(error, TALLY_UNFIT, "there is no value (a tombstone)");
    return f->format == MAPPING_JSON ? parse_json(f, error) : parse_csv(f, error);
}

void fields_close(struct fields *f)
{
    json_decref(f->json);
    f->json = NULL;
    for (size_t i = 0; i < f->n_made; i++)
        free(f->made[i]);
    f->n_made = 0;
}

// --- Fitting.

static int unfit(const struct fields_want *w, struct tally_error *error, const char *what)
{
    return tally_error_set(error, TALLY_UNFIT, "field %s into column %s: %s", w->field, w->column,
                           what);
}

// Well-formed UTF-8 (RFC 3629) without NUL, which no text column takes.
static const char *what_is_wrong(const unsigned char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        unsigned char c = s[i];
        size_t n = c < 0x80                ? 1
                   : c >= 0xc2 && c < 0xe0 ? 2
                   : c >= 0xe0 && c < 0xf0 ? 3
                   : c >= 0xf0 && c < 0xf5 ? 4
                                           : 0;
        if (c == 0)
            return "a NUL byte in text";
        if (n == 0 || i + n > len)
            return "not UTF-8; map it to a column of bytes";
        for (size_t k = 1; k < n; k++) {
            if ((s[i + k] & 0xc0) != 0x80)
                return "not UTF-8; map it to a column of bytes";
        }
        if ((c == 0xe0 && s[i + 1] < 0xa0) || (c == 0xed && s[i + 1] > 0x9f) ||
            (c == 0xf0 && s[i + 1] < 0x90) || (c == 0xf4 && s[i + 1] > 0x8f))
            return "not UTF-8; map it to a column of bytes";
        i += n;
    }
    return NULL;
}

static int as_text(const struct fields_want *w, const void *data, size_t len,
                   struct tally_value *ret, struct tally_error *error)
{
    const char *wrong = what_is_wrong(data, len);
    if (wrong)
        return unfit(w, error, wrong);
    *ret = (struct tally_value){.type = TALLY_TEXT, .data = data, .len = len};
    return 0;
}

// Text into a number's column of SQLite, which would take anything.
static int as_number(const struct fields_want *w, const void *data, size_t len,
                     struct tally_value *ret, struct tally_error *error)
{
    char text[64], *end;
    if (len == 0 || len >= sizeof text)
        return unfit(w, error, "not a number");
    memcpy(text, data, len);
    text[len] = 0;
    errno = 0;
    if (w->type == TALLY_INT)
        *ret = tally_int(strtoll(text, &end, 10));
    else
        *ret = tally_real(strtod(text, &end));
    if (errno || end != text + len)
        return unfit(w, error, w->type == TALLY_INT ? "not a whole number" : "not a number");
    return 0;
}

// is_binary: the bytes of a raw record, which a column without a type takes as they are.
static int fit(const struct fields_want *w, const void *data, size_t len, bool is_binary,
               struct tally_value *ret, struct tally_error *error)
{
    switch (w->type) {
    case TALLY_BYTES:
        *ret = tally_bytes(len ? data : "", len);
        return 0;
    case TALLY_INT:
    case TALLY_REAL:
        return as_number(w, data, len, ret, error);
    case TALLY_NULL:
        if (is_binary && w->database == TALLY_SQLITE) {
            *ret = tally_bytes(len ? data : "", len);
            return 0;
        }
        break;
    case TALLY_TEXT:
        break;
    }
    return as_text(w, data, len, ret, error);
}

static char *keep(struct fields *f, char *made)
{
    CHECK(made);
    CHECK(f->n_made < MAX_TEXTS);
    f->made[f->n_made++] = made;
    return made;
}

// [["name","value"], ...]; a value that is no text as hexadecimal digits.
static char *headers_text(const struct tally_record *r)
{
    json_t *all = json_array();
    for (size_t i = 0; i < r->n_headers; i++) {
        const struct tally_header *h = &r->headers[i];
        json_t *value = h->value ? json_stringn(h->value, h->len) : json_null();
        if (!value) {
            struct buf b = {0};
            for (size_t k = 0; k < h->len; k++)
                buf_printf(&b, "%02x", ((const unsigned char *)h->value)[k]);
            value = json_stringn((const char *)b.ptr, b.len);
            buf_free(&b);
        }
        json_array_append_new(all, json_pack("[so]", h->name, value));
    }
    char *text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return text;
}

static int take_meta(struct fields *f, const struct fields_want *w, enum meta which,
                     struct tally_value *ret, struct tally_error *error)
{
    const struct tally_record *r = f->record;
    bool is_key = which == KEY;
    const void *data = is_key ? r->key : r->value;
    switch (which) {
    case TOPIC:
        *ret = tally_text(r->topic);
        return 0;
    case PARTITION:
        *ret = tally_int(r->partition);
        return 0;
    case OFFSET:
        *ret = tally_int(r->offset);
        return 0;
    case TIME:
        *ret = r->time_ms < 0 ? tally_null() : tally_int(r->time_ms);
        return 0;
    case EPOCH:
        *ret = tally_int(r->claim_epoch);
        return 0;
    case HEADERS:
        *ret = tally_text(keep(f, headers_text(r)));
        return 0;
    case KEY:
    case VALUE:
    case N_META:
        break;
    }
    *ret = tally_null();
    if (!data)
        return 0;
    return fit(w, data, is_key ? r->key_len : r->value_len, f->format == MAPPING_RAW, ret, error);
}

static const json_t *find_member(const json_t *object, const char *path)
{
    const json_t *whole = json_object_get(object, path);
    if (whole)
        return whole; // a name with dots in it
    const char *dot = strchr(path, '.');
    if (!dot || !json_is_object(object))
        return NULL;
    return find_member(json_object_getn(object, path, (size_t)(dot - path)), dot + 1);
}

static int take_json(struct fields *f, const struct fields_want *w, struct tally_value *ret,
                     struct tally_error *error)
{
    const json_t *j = find_member(f->json, w->field);
    bool is_number_column = w->type == TALLY_INT || w->type == TALLY_REAL;
    if (!j && !w->is_optional)
        return unfit(w, error, "it is missing (FIELD? in --map allows that)");
    *ret = tally_null();
    if (!j || json_is_null(j))
        return 0;
    if (json_is_string(j))
        return fit(w, json_string_value(j), json_string_length(j), false, ret, error);
    if (json_is_boolean(j) && (is_number_column || w->database == TALLY_SQLITE)) {
        *ret = tally_int(json_is_true(j));
        return 0;
    }
    if (json_is_real(j) && w->type == TALLY_INT)
        return unfit(w, error, "not a whole number");
    if (json_is_integer(j) && w->type != TALLY_TEXT && w->type != TALLY_BYTES) {
        *ret = tally_int(json_integer_value(j));
        return 0;
    }
    if (json_is_real(j) && w->type != TALLY_TEXT && w->type != TALLY_BYTES) {
        *ret = tally_real(json_real_value(j));
        return 0;
    }
    if (is_number_column)
        return unfit(w, error, "not a number");
    char *text = keep(f, json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY));
    return fit(w, text, strlen(text), false, ret, error);
}

int fields_take(struct fields *f, const struct fields_want *w, struct tally_value *ret,
                struct tally_error *error)
{
    if (w->meta >= 0)
        return take_meta(f, w, (enum meta)w->meta, ret, error);
    if (f->format == MAPPING_JSON)
        return take_json(f, w, ret, error);
    size_t at = strtoul(w->field, NULL, 10);
    if (at > f->n_columns) {
        *ret = tally_null();
        return w->is_optional ? 0 : unfit(w, error, "the row has fewer columns");
    }
    const struct csv_column *c = &f->columns[at - 1];
    // An empty field is no number: it is NULL there.
    if (c->len == 0 && w->type != TALLY_TEXT && w->type != TALLY_BYTES) {
        *ret = tally_null();
        return 0;
    }
    return fit(w, f->csv.ptr ? (const void *)(f->csv.ptr + c->start) : "", c->len, false, ret,
               error);
}
