#include "broker/config_file.h"

#include "base/buf.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct source {
    struct str text;
    int32_t at;
    int line; // of the next character
};

int config_file_set(struct configs *into, const char *where, struct str name, struct str value,
                    config_ignored_fn *ignored, void *ctx, char *ret_why, size_t cap)
{
    char why[512];
    enum config_check check = config_check_broker(name, value, why, sizeof why);
    if (check == CONFIG_UNKNOWN || check == CONFIG_INVALID) {
        snprintf(ret_why, cap, "%s: %s", where, why);
        return -EINVAL;
    }
    if (check == CONFIG_IGNORED) {
        char *text = str_dup(name);
        if (ignored)
            ignored(ctx, where, text);
        free(text);
        return 0;
    }
    configs_set(into, name, value);
    return 0;
}

static bool at_end(const struct source *s)
{
    return s->at >= s->text.len;
}

static char peek(const struct source *s)
{
    return s->text.ptr[s->at];
}

static bool is_newline(char c)
{
    return c == '\n' || c == '\r';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\f';
}

static void skip_newline(struct source *s)
{
    if (!at_end(s) && peek(s) == '\r')
        s->at++;
    if (!at_end(s) && peek(s) == '\n')
        s->at++;
    s->line++;
}

static void skip_blanks(struct source *s)
{
    while (!at_end(s) && is_blank(peek(s)))
        s->at++;
}

// \uXXXX, as UTF-8; a pair of surrogates is two of them.
static bool add_unicode(struct source *s, struct buf *out)
{
    if (s->text.len - s->at < 4)
        return false;
    char digits[5] = {0};
    memcpy(digits, s->text.ptr + s->at, 4);
    char *end;
    unsigned long code = strtoul(digits, &end, 16);
    if (*end || !isxdigit((unsigned char)digits[0]))
        return false;
    s->at += 4;
    uint8_t utf8[3];
    size_t n = 0;
    if (code < 0x80) {
        utf8[n++] = (uint8_t)code;
    } else if (code < 0x800) {
        utf8[n++] = (uint8_t)(0xc0 | code >> 6);
        utf8[n++] = (uint8_t)(0x80 | (code & 0x3f));
    } else {
        utf8[n++] = (uint8_t)(0xe0 | code >> 12);
        utf8[n++] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        utf8[n++] = (uint8_t)(0x80 | (code & 0x3f));
    }
    buf_add(out, utf8, n);
    return true;
}

// After a backslash. A newline there goes on with the next line, its leading blanks dropped.
static bool add_escaped(struct source *s, struct buf *out)
{
    if (at_end(s))
        return true;
    if (is_newline(peek(s))) {
        skip_newline(s);
        skip_blanks(s);
        return true;
    }
    char c = peek(s);
    s->at++;
    if (c == 'u')
        return add_unicode(s, out);
    const char *const from = "tnrf", *found = strchr(from, c);
    if (found && c)
        c = "\t\n\r\f"[found - from];
    buf_add(out, &c, 1);
    return true;
}

// Up to the end of the line, or for a name to what ends it.
static bool take_word(struct source *s, bool is_name, struct buf *out)
{
    while (!at_end(s) && !is_newline(peek(s))) {
        char c = peek(s);
        if (is_name && (is_blank(c) || c == '=' || c == ':'))
            break;
        s->at++;
        if (c != '\\')
            buf_add(out, &c, 1);
        else if (!add_escaped(s, out))
            return false;
    }
    return true;
}

static struct str str_of(const struct buf *b)
{
    return b->len ? (struct str){(const char *)b->ptr, (int32_t)b->len} : STR_EMPTY;
}

static bool take_setting(struct source *s, struct buf *name, struct buf *value)
{
    buf_clear(name);
    buf_clear(value);
    if (!take_word(s, true, name))
        return false;
    skip_blanks(s);
    if (!at_end(s) && (peek(s) == '=' || peek(s) == ':'))
        s->at++;
    skip_blanks(s);
    if (!take_word(s, false, value))
        return false;
    // Properties keep blanks at the end of a value; no setting of Kafka's wants them.
    while (value->len > 0 && is_blank((char)value->ptr[value->len - 1]))
        value->len--;
    return true;
}

int config_file_parse(struct configs *into, const char *path, struct str text,
                      config_ignored_fn *ignored, void *ctx, char *ret_why, size_t cap)
{
    struct source s = {.text = text, .line = 1};
    struct buf name = {0}, value = {0};
    int error = 0;
    while (!error && !at_end(&s)) {
        skip_blanks(&s);
        if (at_end(&s))
            break;
        int line = s.line;
        if (peek(&s) == '#' || peek(&s) == '!') {
            while (!at_end(&s) && !is_newline(peek(&s)))
                s.at++;
        } else if (!is_newline(peek(&s))) {
            char where[600];
            snprintf(where, sizeof where, "%s:%d", path, line);
            if (take_setting(&s, &name, &value)) {
                error = config_file_set(into, where, str_of(&name), str_of(&value), ignored, ctx,
                                        ret_why, cap);
            } else {
                snprintf(ret_why, cap, "%s: \\u must be followed by four hex digits", where);
                error = -EINVAL;
            }
        }
        if (!error && !at_end(&s))
            skip_newline(&s);
    }
    buf_free(&name);
    buf_free(&value);
    return error;
}
