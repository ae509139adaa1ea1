// Whether a name and a value may be set. Texts follow Kafka's where people search for them.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/configs.h"
#include "schema.h"

// A name further away than this is no typing error.
#define TYPO_MAX 4
#define NAME_MAX_LEN 96

struct why {
    char *text;
    size_t cap;
};

static enum config_check invalid(struct why w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static enum config_check invalid(struct why w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (w.cap > 0)
        vsnprintf(w.text, w.cap, format, args);
    va_end(args);
    return CONFIG_INVALID;
}

// A value from outside is shown shortened.
#define SHOWN(v) ((v).len > 100 ? 100 : (v).len > 0 ? (int)(v).len : 0), ((v).ptr ? (v).ptr : "")

static const char *type_name(enum config_type t)
{
    return t == CONFIG_TYPE_INT ? "INT" : t == CONFIG_TYPE_LONG ? "LONG" : "DOUBLE";
}

static enum config_check check_number(const struct config_def *d, struct str value, struct why w)
{
    int64_t n = 0;
    double real = 0;
    bool good = d->type == CONFIG_TYPE_DOUBLE ? config_parse_f64(value, &real)
                                              : config_parse_i64(value, &n);
    if (good && d->type == CONFIG_TYPE_INT && (n < INT32_MIN || n > INT32_MAX))
        good = false;
    if (!good)
        return invalid(w, "Invalid value %.*s for configuration %s: Not a number of type %s",
                       SHOWN(value), d->name, type_name(d->type));
    bool is_double = d->type == CONFIG_TYPE_DOUBLE;
    if (is_double ? real < (double)d->min : n < d->min)
        return invalid(w, "Invalid value %.*s for configuration %s: Value must be at least %lld",
                       SHOWN(value), d->name, (long long)d->min);
    if (is_double ? real > (double)d->max : n > d->max)
        return invalid(w,
                       "Invalid value %.*s for configuration %s: Value must be no more than %lld",
                       SHOWN(value), d->name, (long long)d->max);
    return CONFIG_OK;
}

static bool is_one_of(const char *const *values, struct str item)
{
    for (; *values; values++)
        if (str_eq_c(item, *values))
            return true;
    return false;
}

static enum config_check not_one_of(const struct config_def *d, struct str item, struct why w)
{
    char list[256] = "";
    size_t len = 0;
    for (size_t i = 0; d->values[i] && len < sizeof list; i++)
        len += (size_t)snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "", d->values[i]);
    return invalid(w, "Invalid value %.*s for configuration %s: String must be one of: %s",
                   SHOWN(item), d->name, list);
}

static struct str trim(struct str s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s.ptr++, s.len--;
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

static enum config_check check_list(const struct config_def *d, struct str list, struct why w)
{
    while (d->values && list.len > 0) {
        const char *comma = memchr(list.ptr, ',', (size_t)list.len);
        int32_t n = comma ? (int32_t)(comma - list.ptr) : list.len;
        struct str item = trim((struct str){list.ptr, n});
        if (!is_one_of(d->values, item))
            return not_one_of(d, item, w);
        list.ptr += comma ? n + 1 : n;
        list.len -= comma ? n + 1 : n;
    }
    return CONFIG_OK;
}

static bool is_text(struct str v, const char *text)
{
    return v.len == (int32_t)strlen(text) && strncasecmp(v.ptr, text, (size_t)v.len) == 0;
}

// What Kafka would take and tally cannot do is refused by name: quietly keeping records otherwise
// than asked would be worse.
static enum config_check check_built(const struct config_def *d, struct str value, struct why w)
{
    if (strcmp(d->name, "compression.type") == 0 && !str_eq_c(value, "producer"))
        return invalid(w,
                       "Invalid value %.*s for configuration %s: tally stores batches as they "
                       "were sent; use producer",
                       SHOWN(value), d->name);
    return CONFIG_OK;
}

static enum config_check check_value(const struct config_def *d, struct str value, struct why w)
{
    value = trim(value);
    enum config_check c = CONFIG_OK;
    switch (d->type) {
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_LONG:
    case CONFIG_TYPE_DOUBLE:
        return check_number(d, value, w);
    case CONFIG_TYPE_BOOL:
        if (!is_text(value, "true") && !is_text(value, "false"))
            return invalid(w,
                           "Invalid value %.*s for configuration %s: Expected value to be "
                           "either true or false",
                           SHOWN(value), d->name);
        return CONFIG_OK;
    case CONFIG_TYPE_LIST:
        c = check_list(d, value, w);
        break;
    case CONFIG_TYPE_STRING:
        if (d->values && !is_one_of(d->values, value))
            return not_one_of(d, value, w);
        break;
    default:
        break;
    }
    return c == CONFIG_OK ? check_built(d, value, w) : c;
}

// Edits between two names, the usual dynamic programme over two rows.
static size_t distance(struct str a, const char *b)
{
    size_t row[NAME_MAX_LEN + 1], m = strlen(b);
    if (a.len < 0 || a.len > NAME_MAX_LEN || m > NAME_MAX_LEN)
        return SIZE_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= (size_t)a.len; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t above = row[j];
            size_t best = corner + (a.ptr[i - 1] != b[j - 1]);
            best = best < above + 1 ? best : above + 1;
            best = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
            corner = above;
            row[j] = best;
        }
    }
    return row[m];
}

static enum config_check unknown(struct str name, int scope, const char *what, struct why w)
{
    const char *nearest = NULL;
    size_t len = name.len > 0 ? (size_t)name.len : 0;
    size_t least = (len / 3 < TYPO_MAX ? len / 3 : TYPO_MAX) + 1; // of a short name nearly all
    for (size_t i = 0; i < CONFIG_COUNT; i++) {
        size_t n = config_defs[i].scopes & scope ? distance(name, config_defs[i].name) : SIZE_MAX;
        if (n < least) {
            least = n;
            nearest = config_defs[i].name;
        }
    }
    if (nearest)
        (void)invalid(w, "Unknown %s config name: %.*s (did you mean %s?)", what, SHOWN(name),
                      nearest);
    else
        (void)invalid(w, "Unknown %s config name: %.*s", what, SHOWN(name));
    return CONFIG_UNKNOWN;
}

static enum config_check check(struct str name, struct str value, int scope, const char *what,
                               struct why w)
{
    if (w.cap > 0)
        w.text[0] = 0;
    const struct config_def *d = config_def_find_str(name);
    if (!d || !(d->scopes & scope))
        return unknown(name, scope, what, w);
    if (d->scopes & CONFIG_SCOPE_IGNORED)
        return CONFIG_IGNORED;
    if (str_is_null(value))
        return invalid(w, "Null value not supported for configuration %s", d->name);
    return check_value(d, value, w);
}

enum config_check config_check_broker(struct str name, struct str value, char *ret_why, size_t cap)
{
    return check(name, value, CONFIG_SCOPE_BROKER, "broker", (struct why){ret_why, cap});
}

enum config_check config_check_topic(struct str name, struct str value, char *ret_why, size_t cap)
{
    return check(name, value, CONFIG_SCOPE_TOPIC, "topic", (struct why){ret_why, cap});
}

enum config_check config_check_group(struct str name, struct str value, char *ret_why, size_t cap)
{
    return check(name, value, CONFIG_SCOPE_GROUP, "group", (struct why){ret_why, cap});
}
