#include "drill/supply.h"

#include "base/arena.h"
#include "base/map.h"
#include "client/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOPIC_WAIT_MS 10000 // for the cluster of --from-topic, each time

struct supply {
    bool is_made_up;
    struct arena *arena; // of the records
    struct supply_record *records;
    uint64_t bytes;
    size_t n;
    size_t cap;
    struct map *keys; // key -> &once or &twice
    char mark[20];
    char key[60]; // of a made-up record
    char value[128];
};

static int once, twice;

static struct bytes keep(struct supply *f, struct bytes b)
{
    return b.ptr ? arena_bytes(f->arena, b) : b;
}

static void add(struct supply *f, const struct supply_record *r)
{
    if (f->n == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 1024;
        f->records = realloc(f->records, f->cap * sizeof *f->records);
        CHECK(f->records);
    }
    f->records[f->n++] = (struct supply_record){keep(f, r->key), keep(f, r->value), r->n_headers,
                                                keep(f, r->headers)};
    f->bytes += r->key.len + r->value.len + r->headers.len;
    if (r->key.ptr)
        map_put(f->keys, r->key, map_get(f->keys, r->key) ? &twice : &once);
}

static struct supply *make(bool is_made_up)
{
    struct supply *f = calloc(1, sizeof *f);
    CHECK(f);
    f->is_made_up = is_made_up;
    f->arena = arena_new();
    f->keys = map_new();
    return f;
}

static bool is_full(const struct supply *f)
{
    return f->n >= SUPPLY_MAX_RECORDS || f->bytes >= SUPPLY_MAX_BYTES;
}

int supply_open(const char *path, enum records_format format, const char *key_field,
                struct supply **ret_supply, char **ret_why)
{
    struct supply *f = make(!path);
    int rc = 0;
    struct records *r = NULL;
    if (path)
        rc = records_open(path, format, key_field, &r, ret_why);
    struct record_read got;
    while (rc == 0 && r && !is_full(f)) {
        rc = records_next(r, &got);
        if (rc < 0)
            *ret_why = strdup(records_why(r));
        if (rc <= 0)
            break;
        add(f, &(struct supply_record){.key = got.key, .value = got.value});
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

static int read_topic(struct supply *f, struct client *c, const char *topic)
{
    struct client_reader *r;
    int rc = client_reader_open(c, topic, &r);
    if (rc < 0)
        return rc;
    struct client_read got;
    while (!is_full(f) && (rc = client_reader_next(r, &got)) > 0)
        add(f, &(struct supply_record){got.key, got.value, got.n_headers, got.headers});
    client_reader_close(r);
    return rc < 0 ? rc : 0;
}

int supply_open_topic(const char *from, struct supply **ret_supply, char **ret_why)
{
    char text[CLIENT_WHY_MAX + 64], why[CLIENT_WHY_MAX];
    const char *slash = strrchr(from, '/');
    if (!slash || slash == from || !slash[1]) {
        snprintf(text, sizeof text, "--from-topic %.200s: the form is HOST:PORT[,HOST:PORT]/TOPIC",
                 from);
        *ret_why = strdup(text);
        return -EINVAL;
    }
    char *bootstrap = strndup(from, (size_t)(slash - from));
    CHECK(bootstrap);
    struct supply *f = make(false);
    struct client *c = NULL;
    int rc = client_open(bootstrap, "tally-drill", TOPIC_WAIT_MS, &c, why);
    if (rc == 0)
        rc = read_topic(f, c, slash + 1);
    if (rc < 0)
        snprintf(text, sizeof text, "--from-topic: %s", c ? client_error(c) : why);
    if (rc == 0 && f->n == 0) {
        rc = -ENODATA;
        snprintf(text, sizeof text, "--from-topic: topic %.250s holds no record", slash + 1);
    }
    client_close(c);
    free(bootstrap);
    if (rc < 0) {
        *ret_why = strdup(text);
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

void supply_mark(struct supply *f, const char *mark)
{
    snprintf(f->mark, sizeof f->mark, "%s", mark);
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
    int key = snprintf(f->key, sizeof f->key, "order%s-%06llu", f->mark, n);
    int value =
        snprintf(f->value, sizeof f->value, "{\"order\":%llu,\"amount\":%llu}", n, n * 37 % 9973);
    *ret_record = (struct supply_record){.key = {(const uint8_t *)f->key, (size_t)key},
                                         .value = {(const uint8_t *)f->value, (size_t)value}};
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
