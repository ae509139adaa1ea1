#include "core/configs.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "schema.h"

// The longest text of a number; anything longer is none.
#define NUMBER_MAX 40

struct configs {
    struct map *values; // name -> owned, terminated text
};

struct configs *configs_new(void)
{
    struct configs *c = calloc(1, sizeof *c);
    CHECK(c);
    c->values = map_new();
    return c;
}

void configs_free(struct configs *c)
{
    if (!c)
        return;
    void *v;
    for (size_t it = 0; map_next(c->values, &it, NULL, &v);)
        free(v);
    map_free(c->values);
    free(c);
}

struct str configs_get(const struct configs *c, struct str name)
{
    return c ? str_from(map_get(c->values, key_str(name))) : STR_NULL;
}

void configs_set(struct configs *c, struct str name, struct str value)
{
    free(str_is_null(value) ? map_remove(c->values, key_str(name))
                            : map_put(c->values, key_str(name), str_dup(value)));
}

size_t configs_count(const struct configs *c)
{
    return c ? map_count(c->values) : 0;
}

bool configs_next(const struct configs *c, size_t *it, struct str *ret_name, struct str *ret_value)
{
    struct bytes key;
    void *value;
    if (!c || !map_next(c->values, it, &key, &value))
        return false;
    *ret_name = (struct str){(const char *)key.ptr, (int32_t)key.len};
    *ret_value = str_from(value);
    return true;
}

// Lookup. A setting can be given under several names: its own, its synonym, and for times the
// synonym's coarser spellings.

#define NAMES_MAX 3

struct spelling {
    const char *name;
    const char *default_text;
    int64_t factor;
};

static bool has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name), m = strlen(suffix);
    return n >= m && strcmp(name + n - m, suffix) == 0;
}

static void add_coarser(const char *name, const char *suffix, int64_t factor,
                        struct spelling *names, size_t *n)
{
    char text[128];
    int len =
        snprintf(text, sizeof text, "%.*s%s", (int)(strlen(name) - strlen(".ms")), name, suffix);
    CHECK(len > 0 && (size_t)len < sizeof text && *n < NAMES_MAX);
    const struct config_def *d = config_def_find(text);
    if (d && d->scopes == CONFIG_SCOPE_BROKER)
        names[(*n)++] = (struct spelling){d->name, d->default_text, factor};
}

// How the broker spells the default of this setting.
static size_t broker_spellings(const struct config_def *d, struct spelling *names)
{
    const char *name = d->synonym ? d->synonym : d->scopes & CONFIG_SCOPE_BROKER ? d->name : NULL;
    if (!name)
        return 0;
    const struct config_def *base = config_def_find(name);
    CHECK(base);
    size_t n = 0;
    names[n++] = (struct spelling){base->name, base->default_text, 1};
    if (d->synonym && has_suffix(name, ".ms")) {
        add_coarser(name, ".minutes", 60000, names, &n);
        add_coarser(name, ".hours", 3600000, names, &n);
    }
    return n;
}

struct found {
    const char *name;
    struct str value;
    int64_t factor;
    enum config_source source;
};

#define FOUND_MAX (1 + NAMES_MAX * 4)

// Every place that gives this setting, the one that counts first.
static size_t find_all(const struct config_view *v, const struct config_def *d, int scope,
                       struct found *out)
{
    size_t n = 0;
    struct str own = scope & (CONFIG_SCOPE_TOPIC | CONFIG_SCOPE_GROUP)
                         ? configs_get(v->own, str_from(d->name))
                         : STR_NULL;
    if (!str_is_null(own))
        out[n++] = (struct found){
            d->name, own, 1, scope & CONFIG_SCOPE_TOPIC ? CONFIG_FROM_TOPIC : CONFIG_FROM_GROUP};
    const struct configs *sets[] = {v->dynamic, v->dynamic_default, v->fixed};
    struct spelling names[NAMES_MAX];
    size_t n_names = broker_spellings(d, names);
    for (size_t i = 0; i < n_names; i++)
        for (size_t s = 0; s < 3; s++) {
            struct str value = configs_get(sets[s], str_from(names[i].name));
            if (!str_is_null(value))
                out[n++] = (struct found){names[i].name, value, names[i].factor,
                                          CONFIG_FROM_BROKER + (enum config_source)s};
        }
    size_t before = n;
    for (size_t i = 0; i < n_names; i++)
        if (names[i].default_text)
            out[n++] = (struct found){names[i].name, str_from(names[i].default_text),
                                      names[i].factor, CONFIG_FROM_DEFAULT};
    if (n == before && d->default_text)
        out[n++] = (struct found){d->name, str_from(d->default_text), 1, CONFIG_FROM_DEFAULT};
    CHECK(n <= FOUND_MAX);
    return n;
}

bool config_parse_i64(struct str text, int64_t *ret)
{
    bool negative = text.len > 0 && text.ptr[0] == '-';
    int32_t at = negative || (text.len > 0 && text.ptr[0] == '+') ? 1 : 0;
    if (at >= text.len)
        return false;
    int64_t n = 0; // negative all the way: INT64_MIN has no positive
    for (; at < text.len; at++) {
        int digit = text.ptr[at] - '0';
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(n, 10, &n) ||
            __builtin_sub_overflow(n, digit, &n))
            return false;
    }
    if (!negative && n == INT64_MIN)
        return false;
    *ret = negative ? n : -n;
    return true;
}

bool config_parse_f64(struct str text, double *ret)
{
    char copy[NUMBER_MAX];
    if (text.len <= 0 || text.len >= NUMBER_MAX)
        return false;
    memcpy(copy, text.ptr, (size_t)text.len);
    copy[text.len] = 0;
    char *end;
    double n = strtod(copy, &end);
    if (end == copy || *end != 0 || n != n)
        return false;
    *ret = n;
    return true;
}

static struct str trim(struct str s)
{
    while (s.len > 0 && isspace((unsigned char)s.ptr[0]))
        s.ptr++, s.len--;
    while (s.len > 0 && isspace((unsigned char)s.ptr[s.len - 1]))
        s.len--;
    return s;
}

static const struct config_def *must_find(const char *name)
{
    const struct config_def *d = config_def_find(name);
    CHECK(d);
    CHECK(!(d->scopes & CONFIG_SCOPE_IGNORED));
    return d;
}

static bool find_first(const struct config_view *v, const struct config_def *d, struct found *ret)
{
    struct found all[FOUND_MAX];
    if (find_all(v, d, d->scopes, all) == 0)
        return false;
    *ret = all[0];
    ret->value = trim(ret->value);
    return true;
}

static int64_t found_i64(const struct found *f)
{
    int64_t n;
    CHECK(config_parse_i64(f->value, &n));
    // "-1 hours" means for ever, as -1 ms does.
    return f->factor == 1 ? n : n < 0 ? -1 : n > INT64_MAX / f->factor ? INT64_MAX : n * f->factor;
}

int64_t config_i64(const struct config_view *v, const char *name)
{
    const struct config_def *d = must_find(name);
    CHECK(d->type == CONFIG_TYPE_INT || d->type == CONFIG_TYPE_LONG);
    struct found f;
    CHECK(find_first(v, d, &f));
    return found_i64(&f);
}

bool config_bool(const struct config_view *v, const char *name)
{
    const struct config_def *d = must_find(name);
    struct found f;
    CHECK(d->type == CONFIG_TYPE_BOOL && find_first(v, d, &f));
    return f.value.len == 4; // "true" in any case
}

double config_f64(const struct config_view *v, const char *name)
{
    const struct config_def *d = must_find(name);
    struct found f;
    double n;
    CHECK(d->type == CONFIG_TYPE_DOUBLE && find_first(v, d, &f) && config_parse_f64(f.value, &n));
    return n;
}

struct str config_str(const struct config_view *v, const char *name)
{
    struct found f;
    return find_first(v, must_find(name), &f) ? f.value : STR_NULL;
}

// Takes the next item of a comma-separated list; false at the end.
static bool next_item(struct str *list, struct str *ret_item)
{
    if (list->len <= 0)
        return false;
    int32_t n = 0;
    while (n < list->len && list->ptr[n] != ',')
        n++;
    *ret_item = trim((struct str){list->ptr, n});
    int32_t skip = n < list->len ? n + 1 : n;
    list->ptr += skip;
    list->len -= skip;
    return true;
}

bool config_has(const struct config_view *v, const char *name, const char *item)
{
    struct str list = config_str(v, name), one;
    while (next_item(&list, &one))
        if (str_eq_c(one, item))
            return true;
    return false;
}

size_t config_places(const struct config_view *v, const struct config_def *d, int scope,
                     struct arena *a, struct config_place **ret_places)
{
    struct found all[FOUND_MAX];
    size_t n = find_all(v, d, scope, all);
    struct config_place *places = arena_array(a, n, sizeof *places);
    for (size_t i = 0; i < n; i++)
        places[i] = (struct config_place){all[i].name, all[i].value, all[i].source};
    *ret_places = places;
    return n;
}

struct str config_text(const struct config_view *v, const struct config_def *d, struct arena *a)
{
    struct found f;
    if (!find_first(v, d, &f))
        return STR_NULL;
    if (f.factor == 1)
        return arena_str(a, f.value);
    return str_from(arena_printf(a, "%lld", (long long)found_i64(&f)));
}

bool config_is_dynamic(const struct config_def *d)
{
    if (d->scopes & CONFIG_SCOPE_IGNORED)
        return d->scopes & CONFIG_SCOPE_DYNAMIC;
    if (d->scopes != CONFIG_SCOPE_BROKER)
        return true;
    for (size_t i = 0; i < CONFIG_COUNT; i++)
        if (config_defs[i].synonym && strcmp(config_defs[i].synonym, d->name) == 0)
            return true;
    return false;
}

const struct config_def *config_next(int scope, size_t *it)
{
    while (*it < CONFIG_COUNT) {
        const struct config_def *d = &config_defs[(*it)++];
        if (d->scopes & scope && !(d->scopes & CONFIG_SCOPE_IGNORED))
            return d;
    }
    return NULL;
}
