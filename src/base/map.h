#pragma once
// A map from bytes to pointers. Iteration is in order of insertion, so that two runs of one seed
// never differ by hash or address. Values are not owned; keys are copied.

#include "base/bytes.h"

struct map;

struct map *map_new(void);
void map_free(struct map *m); // NULL is fine; values are the caller's

void *map_get(const struct map *m, struct bytes key);        // NULL when absent
void *map_put(struct map *m, struct bytes key, void *value); // returns the former value or NULL
void *map_remove(struct map *m, struct bytes key);           // returns the value or NULL
size_t map_count(const struct map *m);

// for (size_t it = 0; map_next(m, &it, &key, &value);) ...   Removing the current entry is fine,
// inserting while iterating is not. Either out pointer may be NULL. A key stays where it is until
// the next insertion.
bool map_next(const struct map *m, size_t *it, struct bytes *ret_key, void **ret_value);

static inline struct bytes key_str(struct str s)
{
    return (struct bytes){(const uint8_t *)s.ptr, s.len > 0 ? (size_t)s.len : 0};
}

static inline struct bytes key_uuid(const struct uuid *u)
{
    return (struct bytes){u->b, sizeof u->b};
}

static inline struct bytes key_u64(const uint64_t *n)
{
    return (struct bytes){(const uint8_t *)n, sizeof *n};
}
