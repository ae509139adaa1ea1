#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

// Most requests fit in one block; larger ones double so that a big answer costs few blocks.
#define FIRST_BLOCK ((size_t)4096)
#define LARGEST_BLOCK ((size_t)1 << 20)

struct block {
    struct block *next;
    size_t size;
    size_t used;
    _Alignas(max_align_t) uint8_t data[];
};

struct arena {
    struct block *head; // the block in use; the first one made is last in the list
    size_t total;
};

static struct block *block_new(size_t size, struct block *next)
{
    struct block *b = malloc(sizeof *b + size);
    CHECK(b);
    b->next = next;
    b->size = size;
    b->used = 0;
    return b;
}

struct arena *arena_new(void)
{
    struct arena *a = calloc(1, sizeof *a);
    CHECK(a);
    a->head = block_new(FIRST_BLOCK, NULL);
    return a;
}

void arena_reset(struct arena *a)
{
    while (a->head->next) {
        struct block *next = a->head->next;
        free(a->head);
        a->head = next;
    }
    a->head->used = 0;
    a->total = 0;
}

void arena_free(struct arena *a)
{
    if (!a)
        return;
    arena_reset(a);
    free(a->head);
    free(a);
}

void *arena_alloc(struct arena *a, size_t size)
{
    const size_t align = _Alignof(max_align_t);
    CHECK(size <= SIZE_MAX - align);
    size = (size + align - 1) / align * align;
    if (a->head->size - a->head->used < size) {
        size_t want = a->head->size * 2;
        if (want > LARGEST_BLOCK)
            want = LARGEST_BLOCK;
        a->head = block_new(size > want ? size : want, a->head);
    }
    void *p = a->head->data + a->head->used;
    a->head->used += size;
    a->total += size;
    return memset(p, 0, size);
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    CHECK(size == 0 || count <= SIZE_MAX / 2 / size);
    return arena_alloc(a, count * size);
}

struct str arena_str(struct arena *a, struct str s)
{
    if (s.len < 0)
        return STR_NULL;
    char *copy = arena_alloc(a, (size_t)s.len + 1);
    if (s.len > 0)
        memcpy(copy, s.ptr, (size_t)s.len);
    return (struct str){copy, s.len};
}

struct bytes arena_bytes(struct arena *a, struct bytes b)
{
    uint8_t *copy = arena_alloc(a, b.len + 1);
    if (b.len > 0)
        memcpy(copy, b.ptr, b.len);
    return (struct bytes){copy, b.len};
}

char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(len >= 0);
    char *text = arena_alloc(a, (size_t)len + 1);
    vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    return text;
}

void arena_charge(struct arena *a, size_t size)
{
    a->total += size;
}

size_t arena_used(const struct arena *a)
{
    return a->total;
}
