#include "base/map.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

// Entries stand in a dense array in order of insertion; the table holds their index + 1.
// A removed entry leaves a hole (is_live false) until the next rebuild.

// Numbers, uuids and partitions of a uuid stand in the entry itself: no memory of their own, and
// one cache line less.
#define INLINE_KEY_MAX 24

struct entry {
    union {
        uint8_t *ptr;
        uint8_t bytes[INLINE_KEY_MAX];
    } key;
    size_t len;
    uint32_t hash;
    bool is_live;
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

// Eight bytes at a time; no secret needed since iteration never follows the hash.
static uint32_t hash_of(struct bytes key)
{
    const uint64_t odd = 0x9e3779b97f4a7c15u;
    uint64_t h = key.len * odd, word;
    const uint8_t *p = key.ptr;
    size_t left = key.len;
    for (; left >= sizeof word; left -= sizeof word, p += sizeof word) {
        memcpy(&word, p, sizeof word);
        h = (h ^ word) * odd;
        h ^= h >> 32;
    }
    if (left > 0) {
        word = 0;
        memcpy(&word, p, left);
        h = (h ^ word) * odd;
    }
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    return (uint32_t)(h >> 32);
}

static const uint8_t *key_of(const struct entry *e)
{
    return e->len <= INLINE_KEY_MAX ? e->key.bytes : e->key.ptr;
}

static void key_free(struct entry *e)
{
    if (e->len > INLINE_KEY_MAX)
        free(e->key.ptr);
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
        key_free(&m->entries[i]);
    free(m->entries);
    free(m->table);
    free(m);
}

static void table_add(struct map *m, uint32_t hash, uint32_t index)
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
        if (m->entries[i].is_live)
            entries[n++] = m->entries[i];
    free(m->entries);
    free(m->table);
    *m = (struct map){entries, n, n, want, table, want * 2};
    for (size_t i = 0; i < n; i++)
        table_add(m, entries[i].hash, (uint32_t)i);
}

// Position in the table, or SIZE_MAX.
static size_t find(const struct map *m, struct bytes key, uint32_t hash)
{
    if (m->size == 0)
        return SIZE_MAX;
    for (size_t at = hash & (m->size - 1); m->table[at] != 0; at = (at + 1) & (m->size - 1)) {
        if (m->table[at] == TOMB)
            continue;
        const struct entry *e = &m->entries[m->table[at] - 1];
        if (e->hash == hash && e->len == key.len &&
            (key.len == 0 || memcmp(key_of(e), key.ptr, key.len) == 0))
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
    uint32_t hash = hash_of(key);
    size_t at = find(m, key, hash);
    if (at != SIZE_MAX) {
        struct entry *e = &m->entries[m->table[at] - 1];
        void *former = e->value;
        e->value = value;
        return former;
    }
    if (m->used == m->cap)
        rebuild(m);
    struct entry e = {.len = key.len, .hash = hash, .is_live = true, .value = value};
    if (key.len > INLINE_KEY_MAX) {
        e.key.ptr = malloc(key.len);
        CHECK(e.key.ptr);
    }
    if (key.len > 0)
        memcpy(key.len > INLINE_KEY_MAX ? e.key.ptr : e.key.bytes, key.ptr, key.len);
    m->entries[m->used] = e;
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
    key_free(e);
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
        if (!e->is_live)
            continue;
        if (ret_key)
            *ret_key = (struct bytes){key_of(e), e->len};
        if (ret_value)
            *ret_value = e->value;
        return true;
    }
    return false;
}
