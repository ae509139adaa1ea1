#include "store/cleaner.h"

#include "base/map.h"
#include "wire/batch.h"

#include <stdlib.h>

// A marker's key: version, then what it says.
#define MARKER_ABORT 0
#define MARKER_COMMIT 1

struct aborted {
    int64_t producer_id, first, last;
};

struct open_txn {
    int64_t first;
};

struct cleaner_txns {
    struct map *open; // producer id -> struct open_txn, owned
    struct aborted *aborted;
    size_t n, cap;
    struct map *passed; // producer ids whose data was met since their last marker
};

struct cleaner_txns *cleaner_txns_new(void)
{
    struct cleaner_txns *t = calloc(1, sizeof *t);
    CHECK(t);
    t->open = map_new();
    t->passed = map_new();
    return t;
}

void cleaner_txns_free(struct cleaner_txns *t)
{
    if (!t)
        return;
    void *v;
    for (size_t it = 0; map_next(t->open, &it, NULL, &v);)
        free(v);
    map_free(t->open);
    map_free(t->passed);
    free(t->aborted);
    free(t);
}

static struct bytes key_of(const int64_t *id)
{
    return (struct bytes){(const uint8_t *)id, sizeof *id};
}

// What the marker in a control batch says; -1 when it holds none any more.
static int read_marker(const struct batch *b, int *ret_says)
{
    struct buf scratch = {0};
    struct record_iter it;
    struct record rec;
    int says = -1;
    int r = record_iter_start(&it, b, &scratch);
    if (r == 0)
        r = record_next(&it, &rec);
    if (r > 0 && rec.key.len >= 4)
        says = rec.key.ptr[2] << 8 | rec.key.ptr[3];
    buf_free(&scratch);
    *ret_says = says;
    return r < 0 ? r : 0;
}

static void add_aborted(struct cleaner_txns *t, int64_t id, int64_t first, int64_t last)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 16;
        t->aborted = realloc(t->aborted, t->cap * sizeof *t->aborted);
        CHECK(t->aborted);
    }
    t->aborted[t->n++] = (struct aborted){id, first, last};
}

int cleaner_txns_learn(struct cleaner_txns *t, const struct batch *b)
{
    if (!batch_is_control(b)) {
        if (!batch_is_transactional(b) || map_get(t->open, key_of(&b->producer_id)))
            return 0;
        struct open_txn *o = malloc(sizeof *o);
        CHECK(o);
        o->first = b->base_offset;
        map_put(t->open, key_of(&b->producer_id), o);
        return 0;
    }
    int says;
    int r = read_marker(b, &says);
    if (r < 0 || (says != MARKER_ABORT && says != MARKER_COMMIT))
        return r;
    struct open_txn *o = map_remove(t->open, key_of(&b->producer_id));
    if (o && says == MARKER_ABORT)
        add_aborted(t, b->producer_id, o->first, b->base_offset);
    free(o);
    return 0;
}

bool cleaner_txns_is_aborted(const struct cleaner_txns *t, const struct batch *b)
{
    if (!batch_is_transactional(b) || batch_is_control(b))
        return false;
    // They stand in the order of their ends.
    size_t low = 0, high = t->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (t->aborted[mid].last < b->base_offset)
            low = mid + 1;
        else
            high = mid;
    }
    // The next end of this producer settles it, and it may be an end by commit.
    for (size_t i = low; i < t->n; i++)
        if (t->aborted[i].producer_id == b->producer_id)
            return t->aborted[i].first <= b->base_offset;
    return false;
}

bool cleaner_txns_pass(struct cleaner_txns *t, const struct batch *b)
{
    if (batch_is_control(b))
        return b->count == 0 ||
               (b->producer_id >= 0 && !map_remove(t->passed, key_of(&b->producer_id)));
    if (batch_is_transactional(b))
        map_put(t->passed, key_of(&b->producer_id), t);
    return false;
}

int64_t cleaner_txns_open_from(const struct cleaner_txns *t)
{
    int64_t from = INT64_MAX;
    void *v;
    for (size_t it = 0; map_next(t->open, &it, NULL, &v);) {
        const struct open_txn *o = v;
        from = o->first < from ? o->first : from;
    }
    return from;
}

bool cleaner_txns_has_aborted(const struct cleaner_txns *t)
{
    return t->n > 0;
}
