#include "drill/supply.h"

#include "base/arena.h"
#include "base/map.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct supply {
    bool is_made_up;
    struct arena *arena; // of the records
    struct supply_record *records;
    size_t n;
    size_t cap;
    struct map *keys; // key -> &once or &twice
    char key[32];     // of a made-up record
    char value[128];
};

static int once, twice;

static void add(struct supply *f, const struct record_read *r)
{
    if (f->n == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 1024;
        f->records = realloc(f->records, f->cap * sizeof *f->records);
        CHECK(f->records);
    }
    f->records[f->n++] =
        (struct supply_record){arena_bytes(f->arena, r->key), arena_bytes(f->arena, r->value)};
    if (r->key.ptr)
        map_put(f->keys, r->key, map_get(f->keys, r->key) ? &twice : &once);
}

int supply_open(const char *path, enum records_format format, const char *key_field,
                struct supply **ret_supply, char **ret_why)
{
    struct supply *f = calloc(1, sizeof *f);
    CHECK(f);
    f->is_made_up = !path;
    f->arena = arena_new();
    f->keys = map_new();
    int rc = 0;
    struct records *r = NULL;
    if (path)
        rc = records_open(path, format, key_field, &r, ret_why);
    struct record_read got;
    uint64_t bytes = 0;
    while (rc == 0 && r && f->n < SUPPLY_MAX_RECORDS && bytes < SUPPLY_MAX_BYTES) {
        rc = records_next(r, &got);
        if (rc < 0)
            *ret_why = strdup(records_why(r));
        if (rc <= 0)
            break;
        add(f, &got);
        bytes += got.key.len + got.value.len;
        rc = 0;
    }
    if (rc == 0 && path && f->n == 0) {
        rc = -ENODATA;
        *ret_why = strdup("the file of --records holds no record");
    }
    records_close(r);
    if (rc < 0) {
        supply_free(f);
        return rc;
    }
    *ret_supply = f;
    return 0;
}

void supply_free(struct supply *f)
{
    if (!f)
        return;
    map_free(f->keys);
    arena_free(f->arena);
    free(f->records);
    free(f);
}

bool supply_at(struct supply *f, uint64_t place, struct supply_record *ret_record)
{
    if (!f->is_made_up) {
        if (place >= f->n)
            return false;
        *ret_record = f->records[place];
        return true;
    }
    unsigned long long n = place + 1;
    int key = snprintf(f->key, sizeof f->key, "order-%06llu", n);
    int value =
        snprintf(f->value, sizeof f->value, "{\"order\":%llu,\"amount\":%llu}", n, n * 37 % 9973);
    *ret_record = (struct supply_record){{(const uint8_t *)f->key, (size_t)key},
                                         {(const uint8_t *)f->value, (size_t)value}};
    return true;
}

void supply_forbid_keys(const struct supply *f, struct book *b)
{
    struct bytes key;
    void *times;
    for (size_t it = 0; map_next(f->keys, &it, &key, &times);) {
        if (times == &twice)
            book_forbid_key(b, key);
    }
}
