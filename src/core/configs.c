#include "core/configs.h"

#include <stdlib.h>

#include "base/map.h"

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
