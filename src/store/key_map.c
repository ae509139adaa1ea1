#include "store/key_map.h"

#include "base/check.h"

#include <stdlib.h>

#define FIRST_SLOTS 1024

struct key_entry {
    struct siphash key;
    int64_t after; // the offset + 1; 0: free
};
_Static_assert(sizeof(struct key_entry) == KEY_MAP_ENTRY_BYTES, "what the setting counts in");

void key_map_init(struct key_map *m, const struct siphash_key *hash, uint64_t bytes)
{
    size_t slots = (size_t)(bytes / KEY_MAP_ENTRY_BYTES);
    *m = (struct key_map){.hash = *hash, .most = slots - slots / 10};
    // One slot is always free, or a search would not end.
    if (m->most == slots && m->most > 0)
        m->most--;
    if (m->most == 0)
        m->most = 1;
}

void key_map_free(struct key_map *m)
{
    free(m->entries);
    m->entries = NULL;
    m->slots = m->count = 0;
}

static struct key_entry *find(const struct key_map *m, const struct siphash *key)
{
    size_t at = (size_t)(key->h[0] % m->slots);
    struct key_entry *e = &m->entries[at];
    while (e->after && (e->key.h[0] != key->h[0] || e->key.h[1] != key->h[1])) {
        at = at + 1 < m->slots ? at + 1 : 0;
        e = &m->entries[at];
    }
    return e;
}

static void grow(struct key_map *m)
{
    size_t limit = m->most + m->most / 9 + 2;
    struct key_entry *before = m->entries;
    size_t n = m->slots;
    m->slots = n ? n * 2 : FIRST_SLOTS;
    if (m->slots > limit)
        m->slots = limit;
    m->entries = calloc(m->slots, sizeof *m->entries);
    CHECK(m->entries);
    for (size_t i = 0; i < n; i++)
        if (before[i].after)
            *find(m, &before[i].key) = before[i];
    free(before);
}

bool key_map_put(struct key_map *m, struct bytes key, int64_t offset)
{
    struct siphash h = siphash(&m->hash, key);
    struct key_entry *e = m->slots ? find(m, &h) : NULL;
    if (!e || !e->after) {
        if (m->count == m->most)
            return false;
        if ((m->count + 1) * 10 > m->slots * 9 && m->slots < m->most + 1)
            grow(m);
        e = find(m, &h);
        m->count++;
    }
    *e = (struct key_entry){h, offset + 1};
    return true;
}

int64_t key_map_get(const struct key_map *m, struct bytes key)
{
    if (m->count == 0)
        return -1;
    struct siphash h = siphash(&m->hash, key);
    return find(m, &h)->after - 1;
}
