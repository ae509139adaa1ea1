#include "base/map.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

// Entries stand in a dense array in order of insertion; the table holds their index + 1.
// A removed entry leaves a hole (key NULL) until the next rebuild.
struct entry {
    uint8_t *key;
    size_t len;
    uint64_t hash;
    void *value;
};

struct map {
    struct entry *entries;
    size_t used; // entries in the array, holes included
    size_t live;
    size_t cap;
    uint32_t *table; // 0 free, else index + 1; TOMB was removed
    size_t size;     // power of two
};

#define TOMB UINT32_MAX

// FNV-1a with a final mix: short keys, no secret needed since iteration never follows the hash.
static uint64_t hash_of(struct bytes key)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < key.len; i++)
        h = (h ^ key.ptr[i]) * 0x100000001b3u;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

struct map *map_new(void)
{
    struct map *m = calloc(1, sizeof *m);
    CHECK(m);
    return m;
}

void map_free(struct map *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->used; i++)
        free(m->entries[i].key);
    free(m->entries);
    free(m->table);
    free(m);
}

static void table_add(struct map *m, uint64_t hash, uint32_t index)
{
    size_t at = hash & (m->size - 1);
    while (m->table[at] != 0)
        at = (at + 1) & (m->size - 1);
    m->table[at] = index + 1;
}

static void rebuild(struct map *m)
{
    size_t want = 8;
    while (want < m->live * 2 + 2)
        want *= 2;
    struct entry *entries = malloc(want * sizeof *entries);
    uint32_t *table = calloc(want * 2, sizeof *table);
    CHECK(entries && table && want < TOMB / 2);
    size_t n = 0;
    for (size_t i = 0; i < m->used; i++)
        if (m->entries[i].key)
            entries[n++] = m->entries[i];
    free(m->entries);
    free(m->table);
    *m = (struct map){entries, n, n, want, table, want * 2};
    for (size_t i = 0; i < n; i++)
        table_add(m, entries[i].hash, (uint32_t)i);
}

// Position in the table, or SIZE_MAX.
static size_t find(const struct map *m, struct bytes key, uint64_t hash)
{
    if (m->size == 0)
        return SIZE_MAX;
    for (size_t at = hash & (m->size - 1); m->table[at] != 0; at = (at + 1) & (m->size - 1)) {
        if (m->table[at] == TOMB)
            continue;
        const struct entry *e = &m->entries[m->table[at] - 1];
        if (e->hash == hash && e->len == key.len &&
            (key.len == 0 || memcmp(e->key, key.ptr, key.len) == 0))
            return at;
    }
    return SIZE_MAX;
}

void *map_get(const struct map *m, struct bytes key)
{
    size_t at = find(m, key, hash_of(key));
    return at == SIZE_MAX ? NULL : m->entries[m->table[at] - 1].value;
}

void *map_put(struct map *m, struct bytes key, void *value)
{
    uint64_t hash = hash_of(key);
    size_t at = find(m, key, hash);
    if (at != SIZE_MAX) {
        struct entry *e = &m->entries[m->table[at] - 1];
        void *former = e->value;
        e->value = value;
        return former;
    }
    if (m->used == m->cap)
        rebuild(m);
    uint8_t *copy = malloc(key.len + 1);
    CHECK(copy);
    if (key.len > 0)
        memcpy(copy, key.ptr, key.len);
    m->entries[m->used] = (struct entry){copy, key.len, hash, value};
    table_add(m, hash, (uint32_t)m->used);
    m->used++;
    m->live++;
    return NULL;
}

void *map_remove(struct map *m, struct bytes key)
{
    size_t at = find(m, key, hash_of(key));
    if (at == SIZE_MAX)
        return NULL;
    struct entry *e = &m->entries[m->table[at] - 1];
    void *value = e->value;
    free(e->key);
    *e = (struct entry){0};
    m->table[at] = TOMB;
    m->live--;
    return value;
}

size_t map_count(const struct map *m)
{
    return m->live;
}

bool map_next(const struct map *m, size_t *it, struct bytes *ret_key, void **ret_value)
{
    while (*it < m->used) {
        const struct entry *e = &m->entries[(*it)++];
        if (!e->key)
            continue;
        if (ret_key)
            *ret_key = (struct bytes){e->key, e->len};
        if (ret_value)
            *ret_value = e->value;
        return true;
    }
    return false;
}
