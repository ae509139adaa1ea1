#pragma once
// Memory of one request: allocated piece by piece, freed at once. Never returns NULL: running
// out of memory stops the process (CHECK), so sizes that come from outside are bounded first.

#include "base/bytes.h"

struct arena;

struct arena *arena_new(void);
void arena_free(struct arena *a);  // NULL is fine
void arena_reset(struct arena *a); // frees everything in it, keeps the first block

void *arena_alloc(struct arena *a, size_t size); // zeroed, aligned for any type
void *arena_array(struct arena *a, size_t count, size_t size);
struct str arena_str(struct arena *a, struct str s); // copy; null stays null; terminated
struct bytes arena_bytes(struct arena *a, struct bytes b);
char *arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
size_t arena_used(const struct arena *a);
// Counts as used what is in it once and will be written out several times.
void arena_charge(struct arena *a, size_t size);
