#include "drill/book.h"

#include "base/map.h"

#include <stdlib.h>
#include <string.h>

struct book {
    char *topic;
    struct book_partition *partitions;
    int32_t n_partitions;
    struct map *keys; // key -> struct book_spot, owned; or &twice
    int64_t worked;
};

static struct book_spot twice;

struct book *book_new(const char *topic)
{
    struct book *b = calloc(1, sizeof *b);
    CHECK(b);
    b->topic = strdup(topic);
    CHECK(b->topic);
    b->keys = map_new();
    return b;
}

void book_free(struct book *b)
{
    if (!b)
        return;
    for (int32_t p = 0; p < b->n_partitions; p++) {
        for (int64_t i = 0; i < b->partitions[p].n; i++)
            free((void *)(uintptr_t)b->partitions[p].records[i].key.ptr);
        free(b->partitions[p].records);
    }
    void *spot;
    for (size_t it = 0; map_next(b->keys, &it, NULL, &spot);) {
        if (spot != &twice)
            free(spot);
    }
    map_free(b->keys);
    free(b->partitions);
    free(b->topic);
    free(b);
}

void book_set_partitions(struct book *b, int32_t n)
{
    if (n <= b->n_partitions)
        return;
    b->partitions = realloc(b->partitions, (size_t)n * sizeof *b->partitions);
    CHECK(b->partitions);
    for (int32_t p = b->n_partitions; p < n; p++)
        b->partitions[p] = (struct book_partition){.k = -1, .k_max = -1, .fetched_at = -1};
    b->n_partitions = n;
}

int32_t book_partitions(const struct book *b)
{
    return b->n_partitions;
}

struct book_partition *book_partition(struct book *b, int32_t partition)
{
    CHECK(partition >= 0 && partition < b->n_partitions);
    return &b->partitions[partition];
}

const char *book_topic(const struct book *b)
{
    return b->topic;
}

void book_forbid_key(struct book *b, struct bytes key)
{
    void *old = map_put(b->keys, key, &twice);
    if (old != &twice)
        free(old);
}

void book_add(struct book *b, int32_t partition, struct bytes key)
{
    struct book_partition *p = book_partition(b, partition);
    if ((p->n & (p->n - 1)) == 0) {
        size_t cap = p->n ? (size_t)p->n * 2 : 1;
        p->records = realloc(p->records, cap * sizeof *p->records);
        CHECK(p->records);
    }
    struct book_record *r = &p->records[p->n];
    *r = (struct book_record){.key = STR_NULL};
    if (key.ptr) {
        r->key = (struct str){(const char *)key.ptr, (int32_t)key.len};
        r->key.ptr = str_dup(r->key);
        void *old = map_get(b->keys, key);
        if (old) {
            book_forbid_key(b, key);
        } else if (key.len > 0) {
            struct book_spot *spot = malloc(sizeof *spot);
            CHECK(spot);
            *spot = (struct book_spot){partition, p->n};
            map_put(b->keys, key, spot);
        }
    }
    p->n++;
}

bool book_find_key(const struct book *b, struct str key, struct book_spot *ret_spot)
{
    const struct book_spot *spot = map_get(b->keys, key_str(key));
    if (!spot || spot == &twice)
        return false;
    *ret_spot = *spot;
    return true;
}

bool book_has(const struct book *b, int32_t partition, int64_t offset)
{
    return partition >= 0 && partition < b->n_partitions && offset >= 0 &&
           offset < b->partitions[partition].n;
}

void book_worked(struct book *b, struct book_spot at, int32_t instance, unsigned how)
{
    struct book_record *r = &b->partitions[at.partition].records[at.offset];
    // Clients fetch at times what is not theirs any more, and drop it: being sent is not enough.
    bool is_told = instance ? r->below_to == instance : r->below_to && r->times >= r->below_times;
    if (r->times > 0 && is_told)
        r->below_k = true;
    if (r->times++ == 0)
        b->worked++;
    r->after += (how & BOOK_CLOSING) != 0;
    r->odd += (how & BOOK_ODD) != 0;
    r->sent_to_killed = false;
}

void book_clear_worked(struct book *b)
{
    for (int32_t p = 0; p < b->n_partitions; p++) {
        for (int64_t i = 0; i < b->partitions[p].n; i++)
            b->partitions[p].records[i].times = 0;
        b->partitions[p].gap = 0;
    }
    b->worked = 0;
}

int64_t book_gap(struct book *b, int32_t partition)
{
    struct book_partition *p = book_partition(b, partition);
    while (p->gap < p->n && (p->records[p->gap].times > 0 || p->records[p->gap].excused))
        p->gap++;
    return p->gap;
}

int64_t book_worked_total(const struct book *b)
{
    return b->worked;
}

int64_t book_records_total(const struct book *b)
{
    int64_t n = 0;
    for (int32_t p = 0; p < b->n_partitions; p++)
        n += b->partitions[p].n;
    return n;
}

int64_t book_beyond_commit(struct book *b, int32_t partition)
{
    struct book_partition *p = book_partition(b, partition);
    int64_t n = 0;
    for (int64_t i = p->k > 0 ? p->k : 0; i < p->n; i++)
        n += p->records[i].times > 0;
    return n;
}

void book_committed(struct book *b, int32_t partition, int64_t k)
{
    struct book_partition *p = book_partition(b, partition);
    p->k = k;
    if (k > p->k_max)
        p->k_max = k;
}

void book_moved(struct book *b, int32_t partition, int64_t k)
{
    struct book_partition *p = book_partition(b, partition);
    for (int64_t i = p->k > 0 ? p->k : 0; i < k && i < p->n; i++)
        p->records[i].excused = p->records[i].times == 0;
    p->k = p->k_max = k;
}

void book_asked(struct book *b, int32_t partition, int64_t offset)
{
    struct book_partition *p = book_partition(b, partition);
    p->fetched_at = offset;
    if (offset > p->sent_end)
        p->jumped_to = offset;
}

void book_sent(struct book *b, int32_t partition, int64_t from, int64_t end, int32_t instance)
{
    CHECK(instance >= 1 && instance <= BOOK_MAX_INSTANCES);
    struct book_partition *p = book_partition(b, partition);
    int64_t *next = &p->next[instance - 1];
    // One that was put out and does not know it yet fetches on from where it was, below what the
    // new owner has committed since. It was not told to begin there.
    bool goes_on = *next > 0 && from == *next;
    *next = end;
    for (int64_t i = from < 0 ? 0 : from; i < end && i < p->n; i++) {
        struct book_record *r = &p->records[i];
        if (r->sent_to && r->times > 0 && i < p->k_max && !goes_on) {
            r->below_to = instance;
            r->below_times = r->times;
        }
        r->sent_to = instance;
        r->sends++;
        r->sent_to_killed = false;
    }
    p->owner = instance;
    if (end > p->sent_end)
        p->sent_end = end;
}

void book_trimmed(struct book *b, int32_t partition, int64_t start)
{
    struct book_partition *p = book_partition(b, partition);
    // What it had committed by then was not taken from it: it had passed that by itself.
    for (int64_t i = p->start > p->k ? p->start : p->k; i < start && i < p->n; i++)
        p->records[i].excused = p->records[i].times == 0;
    p->start = start;
}

void book_killed(struct book *b, int32_t instance)
{
    for (int32_t p = 0; p < b->n_partitions; p++) {
        for (int64_t i = 0; i < b->partitions[p].n; i++) {
            struct book_record *r = &b->partitions[p].records[i];
            if (r->sent_to == instance && r->times == 0)
                r->sent_to_killed = true;
        }
        if (b->partitions[p].fetcher == instance)
            b->partitions[p].fetcher = 0;
    }
}

void book_started(struct book *b, int32_t instance)
{
    CHECK(instance >= 1 && instance <= BOOK_MAX_INSTANCES);
    for (int32_t p = 0; p < b->n_partitions; p++)
        b->partitions[p].next[instance - 1] = 0;
}

void book_forget_fetcher(struct book *b, int32_t instance)
{
    for (int32_t p = 0; p < b->n_partitions; p++) {
        if (b->partitions[p].fetcher == instance)
            b->partitions[p].fetcher = 0;
    }
}

void book_forget_fetchers(struct book *b)
{
    for (int32_t p = 0; p < b->n_partitions; p++)
        b->partitions[p].fetcher = 0;
}
