#include "cli/records.h"

#include "base/buf.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// More columns than this is not a table but another format.
#define MAX_CSV_COLUMNS 4096

struct records {
    FILE *file;
    char *path;
    char *key_field; // NULL: none
    enum records_format format;
    struct buf value;  // the record in hand
    struct buf key;    // its key, where it is not a slice of the value
    struct buf pushed; // a line read while the format was guessed, or the next paragraph's
    bool has_pushed;
    bool is_at_end;
    uint64_t line; // lines read so far
    size_t key_column;
    size_t n_columns; // of the CSV header; 0 before it was read
    char *why;
};

static int fail(struct records *r, uint64_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct records *r, uint64_t line, const char *format, ...)
{
    struct buf what = {0};
    char text[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    buf_printf(&what, "%s:%llu: %s", r->path, (unsigned long long)line, text);
    buf_add(&what, "", 1);
    free(r->why);
    r->why = (char *)what.ptr;
    return -EBADMSG;
}

bool records_format_parse(const char *name, enum records_format *ret_format)
{
    static const char *const names[] = {"auto", "lines", "json", "csv", "rfc822"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret_format = (enum records_format)i;
            return true;
        }
    }
    return false;
}

// Appends one line without its end to *out. 1, 0 at the end, -EBADMSG when too long, -EIO.
static int read_line(struct records *r, struct buf *out)
{
    if (r->has_pushed) {
        buf_add(out, r->pushed.ptr, r->pushed.len);
        r->has_pushed = false;
        return 1;
    }
    bool is_any = false;
    int c;
    while ((c = getc_unlocked(r->file)) != EOF) {
        is_any = true;
        if (c == '\n')
            break;
        if (out->len >= RECORDS_MAX_BYTES)
            return fail(r, r->line + 1, "a record is longer than %d bytes", RECORDS_MAX_BYTES);
        uint8_t byte = (uint8_t)c;
        buf_add(out, &byte, 1);
    }
    if (c == EOF && ferror(r->file)) {
        (void)fail(r, r->line + 1, "cannot read: %s", strerror(errno));
        return -EIO;
    }
    if (!is_any)
        return 0;
    r->line++;
    if (out->len > 0 && out->ptr[out->len - 1] == '\r')
        out->len--;
    return 1;
}

static bool has_suffix(const char *path, const char *suffix)
{
    size_t n = strlen(path), m = strlen(suffix);
    return n >= m && strcasecmp(path + n - m, suffix) == 0;
}

// "Name: text", with a name that RFC 822 allows.
static size_t field_name_len(const struct buf *line)
{
    size_t i = 0;
    while (i < line->len && (isalnum(line->ptr[i]) || line->ptr[i] == '-' || line->ptr[i] == '_'))
        i++;
    return i > 0 && i < line->len && line->ptr[i] == ':' ? i : 0;
}

static int guess_format(struct records *r)
{
    if (has_suffix(r->path, ".json") || has_suffix(r->path, ".jsonl") ||
        has_suffix(r->path, ".ndjson")) {
        r->format = RECORDS_JSON;
        return 0;
    }
    if (has_suffix(r->path, ".csv")) {
        r->format = RECORDS_CSV;
        return 0;
    }
    int rc = read_line(r, &r->pushed);
    if (rc < 0)
        return rc;
    r->has_pushed = rc > 0;
    size_t name = field_name_len(&r->pushed);
    if (r->pushed.len > 0 && r->pushed.ptr[0] == '{')
        r->format = RECORDS_JSON;
    else if (name > 0 && name + 1 < r->pushed.len && r->pushed.ptr[name + 1] == ' ')
        r->format = RECORDS_RFC822;
    else
        r->format = RECORDS_LINES;
    return 0;
}

int records_open(const char *path, enum records_format format, const char *key_field,
                 struct records **ret_records, char **ret_why)
{
    struct records *r = calloc(1, sizeof *r);
    CHECK(r);
    r->path = strdup(strcmp(path, "-") == 0 ? "standard input" : path);
    r->key_field = key_field ? strdup(key_field) : NULL;
    r->format = format;
    CHECK(r->path);
    int rc = 0;
    errno = 0;
    r->file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (!r->file) {
        rc = errno ? -errno : -EIO;
        struct buf why = {0};
        buf_printf(&why, "%s: cannot open: %s", path, strerror(-rc));
        buf_add(&why, "", 1);
        r->why = (char *)why.ptr;
    } else if (format == RECORDS_AUTO) {
        rc = guess_format(r);
    }
    if (rc == 0 && r->format == RECORDS_LINES && key_field)
        rc = fail(r, 1, "lines have no field \"%s\"; leave --key out or say --format", key_field);
    if (rc < 0) {
        *ret_why = r->why;
        r->why = NULL;
        records_close(r);
        return rc;
    }
    *ret_records = r;
    return 0;
}

static int next_line_record(struct records *r, struct record_read *out)
{
    int rc = read_line(r, &r->value);
    if (rc <= 0)
        return rc;
    out->line = r->line;
    return 1;
}

static int next_json(struct records *r, struct record_read *out)
{
    do {
        buf_clear(&r->value);
        int rc = read_line(r, &r->value);
        if (rc <= 0)
            return rc;
    } while (r->value.len == 0);
    out->line = r->line;
    json_error_t e;
    json_t *j = json_loadb((const char *)r->value.ptr, r->value.len, 0, &e);
    if (!json_is_object(j)) {
        json_decref(j);
        return fail(r, r->line,
                    "not one JSON object a line%s%s; `jq -c .` or `jq -c '.[]'` makes it",
                    j ? "" : ": ", j ? "" : e.text);
    }
    json_t *field = r->key_field ? json_object_get(j, r->key_field) : NULL;
    if (r->key_field && !field) {
        json_decref(j);
        return fail(r, r->line, "no field \"%s\", which --key names", r->key_field);
    }
    if (json_is_string(field)) {
        buf_add(&r->key, json_string_value(field), json_string_length(field));
    } else if (field) {
        char *text = json_dumps(field, JSON_COMPACT | JSON_ENCODE_ANY);
        CHECK(text);
        buf_add(&r->key, text, strlen(text));
        free(text);
    }
    if (field)
        out->key = (struct bytes){r->key.ptr, r->key.len};
    json_decref(j);
    return 1;
}

// Reads one row, which may hold quoted line ends, into the value. 1, 0 or negative.
static int read_csv_row(struct records *r, uint64_t *ret_line)
{
    buf_clear(&r->value);
    bool is_quoted = false;
    size_t seen = 0;
    for (bool goes_on = false;; goes_on = is_quoted) {
        if (goes_on)
            buf_add(&r->value, "\n", 1);
        int rc = read_line(r, &r->value);
        if (rc < 0)
            return rc;
        if (rc == 0)
            return goes_on ? fail(r, *ret_line, "a quoted field never ends") : 0;
        if (!goes_on)
            *ret_line = r->line;
        for (; seen < r->value.len; seen++)
            is_quoted ^= r->value.ptr[seen] == '"';
        if (!is_quoted && r->value.len > 0)
            return 1;
    }
}

// Copies the wanted column of the row to *out (when not NULL); returns how many columns it has.
static size_t csv_columns(const struct buf *row, size_t wanted, struct buf *out)
{
    size_t column = 0;
    bool is_quoted = false;
    for (size_t i = 0; i < row->len; i++) {
        uint8_t c = row->ptr[i];
        if (c == '"' && is_quoted && i + 1 < row->len && row->ptr[i + 1] == '"')
            i++;
        else if (c == '"') {
            is_quoted = !is_quoted;
            continue;
        } else if (c == ',' && !is_quoted) {
            column++;
            continue;
        }
        if (out && column == wanted)
            buf_add(out, &c, 1);
    }
    return column + 1;
}

static int read_csv_header(struct records *r)
{
    uint64_t line = 0;
    int rc = read_csv_row(r, &line);
    if (rc <= 0)
        return rc;
    r->n_columns = csv_columns(&r->value, 0, NULL);
    if (r->n_columns > MAX_CSV_COLUMNS)
        return fail(r, line, "more than %d columns", MAX_CSV_COLUMNS);
    r->key_column = SIZE_MAX;
    for (size_t i = 0; r->key_field && i < r->n_columns; i++) {
        buf_clear(&r->key);
        csv_columns(&r->value, i, &r->key);
        if (r->key.len == strlen(r->key_field) && memcmp(r->key.ptr, r->key_field, r->key.len) == 0)
            r->key_column = i;
    }
    if (r->key_field && r->key_column == SIZE_MAX)
        return fail(r, line, "no column \"%s\", which --key names", r->key_field);
    return 1;
}

static int next_csv(struct records *r, struct record_read *out)
{
    int rc = r->n_columns == 0 ? read_csv_header(r) : 1;
    if (rc <= 0)
        return rc;
    rc = read_csv_row(r, &out->line);
    if (rc <= 0)
        return rc;
    buf_clear(&r->key);
    size_t n = csv_columns(&r->value, r->key_column, &r->key);
    if (n != r->n_columns)
        return fail(r, out->line, "%zu columns where the header has %zu", n, r->n_columns);
    if (r->key_column != SIZE_MAX)
        out->key = (struct bytes){r->key.ptr, r->key.len};
    return 1;
}

static void take_rfc822_key(struct records *r, const struct buf *line, struct record_read *out)
{
    size_t name = field_name_len(line);
    if (name == 0 || name != strlen(r->key_field) || out->key.ptr ||
        strncasecmp((const char *)line->ptr, r->key_field, name) != 0)
        return;
    size_t at = name + 1;
    while (at < line->len && (line->ptr[at] == ' ' || line->ptr[at] == '\t'))
        at++;
    buf_clear(&r->key);
    buf_add(&r->key, line->ptr + at, line->len - at);
    buf_add(&r->key, "", 1); // so that an empty key is still a key
    out->key = (struct bytes){r->key.ptr, r->key.len - 1};
}

static int next_rfc822(struct records *r, struct record_read *out)
{
    struct buf line = {0};
    int rc;
    while ((rc = read_line(r, &line)) > 0) {
        if (line.len == 0 && r->value.len > 0)
            break;
        if (line.len > 0) {
            bool is_first = r->value.len == 0;
            size_t name = field_name_len(&line);
            if (is_first)
                out->line = r->line;
            if (name == 0 && (is_first || (line.ptr[0] != ' ' && line.ptr[0] != '\t'))) {
                rc = fail(r, r->line, "not a \"Field: text\" line");
                break;
            }
            if (is_first && !r->key_field)
                r->key_field = strndup((const char *)line.ptr, name);
            take_rfc822_key(r, &line, out);
            if (!is_first)
                buf_add(&r->value, "\n", 1);
            buf_add(&r->value, line.ptr, line.len);
            if (r->value.len > RECORDS_MAX_BYTES) {
                rc = fail(r, out->line, "a record is longer than %d bytes", RECORDS_MAX_BYTES);
                break;
            }
        }
        buf_clear(&line);
    }
    buf_free(&line);
    if (rc < 0)
        return rc;
    if (r->value.len == 0)
        return 0;
    if (!out->key.ptr)
        return fail(r, out->line, "the paragraph has no field \"%s\"; --key names another",
                    r->key_field);
    return 1;
}

int records_next(struct records *r, struct record_read *ret_record)
{
    struct record_read out = {0};
    buf_clear(&r->value);
    buf_clear(&r->key);
    int rc = 0;
    switch (r->format) {
    case RECORDS_AUTO:
    case RECORDS_LINES:
        rc = next_line_record(r, &out);
        break;
    case RECORDS_JSON:
        rc = next_json(r, &out);
        break;
    case RECORDS_CSV:
        rc = next_csv(r, &out);
        break;
    case RECORDS_RFC822:
        rc = next_rfc822(r, &out);
        break;
    }
    if (rc <= 0)
        return rc;
    static const uint8_t nothing[1];
    out.value = (struct bytes){r->value.ptr ? r->value.ptr : nothing, r->value.len};
    *ret_record = out;
    return 1;
}

const char *records_why(const struct records *r)
{
    return r->why ? r->why : "";
}

void records_close(struct records *r)
{
    if (!r)
        return;
    if (r->file && r->file != stdin)
        fclose(r->file);
    buf_free(&r->value);
    buf_free(&r->key);
    buf_free(&r->pushed);
    free(r->path);
    free(r->key_field);
    free(r->why);
    free(r);
}
