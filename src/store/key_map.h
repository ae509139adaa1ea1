#pragma once
// Which keys a stretch of a log holds, and each one's last offset: what compaction goes by. Keys
// are kept as 128-bit hashes under a secret key, so that the memory is bounded by their number.
// Private to src/store.

#include "base/siphash.h"

// One key; the whole is bounded by log.cleaner.dedupe.buffer.size.
#define KEY_MAP_ENTRY_BYTES 24

struct key_map {
    struct siphash_key hash;
    struct key_entry *entries; // owned
    size_t slots, count, most;
};

// The map takes at most `bytes`, of which one part in ten stays free.
void key_map_init(struct key_map *m, const struct siphash_key *hash, uint64_t bytes);
void key_map_free(struct key_map *m);
// False when it is full and the key is not in it.
bool key_map_put(struct key_map *m, struct bytes key, int64_t offset);
int64_t key_map_get(const struct key_map *m, struct bytes key); // -1: not there
