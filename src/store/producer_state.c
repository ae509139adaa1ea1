#include "store/producer_state.h"

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "store/pack.h"
#include "wire/crc32c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "TALLYPRD"
#define VERSION 1
#define HEADER_BYTES 20   // magic, version, count, crc of the rest
#define PRODUCER_BYTES 22 // id, epoch, n_batches, updated
#define BATCH_BYTES 32

struct producer {
    struct list by_age; // in producer_state.oldest, the one idle longest first
    int64_t id;
    int64_t updated_ms;
    int16_t epoch;
    int n; // batches kept, the oldest first
    struct producer_batch batches[PRODUCER_BATCHES_KEPT];
};

// Producers that are not known, and the first batch of theirs that was refused.
#define REFUSED_MAX 256
struct refused {
    int64_t producer_id;
    int32_t seq;
    int16_t epoch;
};

struct producer_state {
    struct map *by_id;
    struct list oldest;
    struct refused *refused; // owned, the oldest first; NULL: none
    size_t n_refused;
};

struct producer_state *producer_state_new(void)
{
    struct producer_state *p = calloc(1, sizeof *p);
    CHECK(p);
    p->by_id = map_new();
    list_init(&p->oldest);
    return p;
}

static struct bytes key_of(const int64_t *id)
{
    return (struct bytes){(const uint8_t *)id, sizeof *id};
}

static void forget(struct producer_state *p, struct producer *r)
{
    map_remove(p->by_id, key_of(&r->id));
    list_remove(&r->by_age);
    free(r);
}

static void clear(struct producer_state *p)
{
    LIST_EACH (node, &p->oldest)
        forget(p, LIST_ITEM(node, struct producer, by_age));
}

void producer_state_free(struct producer_state *p)
{
    if (!p)
        return;
    clear(p);
    map_free(p->by_id);
    free(p->refused);
    free(p);
}

int32_t producer_seq_add(int32_t seq, int32_t n)
{
    return (int32_t)(((uint32_t)seq + (uint32_t)n) & INT32_MAX);
}

static struct refused *find_refused(const struct producer_state *p, int64_t producer_id)
{
    for (size_t i = 0; i < p->n_refused; i++)
        if (p->refused[i].producer_id == producer_id)
            return &p->refused[i];
    return NULL;
}

void producer_state_refused(struct producer_state *p, const struct producer_batch *b)
{
    if (b->producer_id < 0 || map_get(p->by_id, key_of(&b->producer_id)))
        return;
    struct refused *r = find_refused(p, b->producer_id);
    if (r && r->epoch == b->epoch && r->seq <= b->first_seq)
        return;
    if (!r && p->n_refused == REFUSED_MAX) { // the oldest goes
        memmove(p->refused, p->refused + 1, (REFUSED_MAX - 1) * sizeof *p->refused);
        p->n_refused--;
    }
    if (!p->refused) {
        p->refused = calloc(REFUSED_MAX, sizeof *p->refused);
        CHECK(p->refused);
    }
    if (!r)
        r = &p->refused[p->n_refused++];
    *r = (struct refused){b->producer_id, b->first_seq, b->epoch};
}

static void forget_refused(struct producer_state *p, int64_t producer_id)
{
    struct refused *r = find_refused(p, producer_id);
    if (!r)
        return;
    p->n_refused--;
    memmove(r, r + 1, (size_t)(p->refused + p->n_refused - r) * sizeof *r);
    if (p->n_refused > 0)
        return;
    free(p->refused);
    p->refused = NULL;
}

static bool overtakes(const struct producer_state *p, const struct producer_batch *b)
{
    const struct refused *r = find_refused(p, b->producer_id);
    return r && r->epoch == b->epoch && r->seq < b->first_seq;
}

enum producer_verdict producer_state_check(const struct producer_state *p,
                                           const struct producer_batch *b,
                                           struct producer_batch *ret_original)
{
    if (b->producer_id < 0)
        return PRODUCER_APPEND;
    const struct producer *r = map_get(p->by_id, key_of(&b->producer_id));
    if (!r)
        return overtakes(p, b) ? PRODUCER_OUT_OF_ORDER : PRODUCER_APPEND;
    if (b->epoch < r->epoch)
        return PRODUCER_INVALID_EPOCH;
    if (b->epoch > r->epoch)
        return b->first_seq == 0 ? PRODUCER_APPEND : PRODUCER_OUT_OF_ORDER;
    for (int i = 0; i < r->n; i++) {
        if (r->batches[i].first_seq != b->first_seq || r->batches[i].last_seq != b->last_seq)
            continue;
        *ret_original = r->batches[i];
        return PRODUCER_DUPLICATE;
    }
    int32_t next = producer_seq_add(r->batches[r->n - 1].last_seq, 1);
    return b->first_seq == next ? PRODUCER_APPEND : PRODUCER_OUT_OF_ORDER;
}

void producer_state_update(struct producer_state *p, const struct producer_batch *b, int64_t now_ms)
{
    if (b->producer_id < 0)
        return;
    struct producer *r = map_get(p->by_id, key_of(&b->producer_id));
    if (!r) {
        if (map_count(p->by_id) >= PRODUCERS_MAX)
            forget(p, LIST_ITEM(p->oldest.next, struct producer, by_age));
        r = calloc(1, sizeof *r);
        CHECK(r);
        r->id = b->producer_id;
        list_init(&r->by_age);
        map_put(p->by_id, key_of(&r->id), r);
        forget_refused(p, r->id);
    }
    if (r->epoch != b->epoch)
        r->n = 0;
    if (r->n == PRODUCER_BATCHES_KEPT)
        memmove(r->batches, r->batches + 1, (size_t)--r->n * sizeof *r->batches);
    r->batches[r->n++] = *b;
    r->epoch = b->epoch;
    r->updated_ms = now_ms;
    list_remove(&r->by_age);
    list_append(&p->oldest, &r->by_age);
}

void producer_state_expire(struct producer_state *p, int64_t now_ms, int64_t expiration_ms)
{
    LIST_EACH (node, &p->oldest) {
        struct producer *r = LIST_ITEM(node, struct producer, by_age);
        if (now_ms - r->updated_ms < expiration_ms)
            break;
        forget(p, r);
    }
}

bool producer_state_next(const struct producer_state *p, size_t *it, struct producer_batch *ret)
{
    void *v;
    if (!map_next(p->by_id, it, NULL, &v))
        return false;
    const struct producer *r = v;
    *ret = r->batches[r->n - 1];
    return true;
}

size_t producer_state_count(const struct producer_state *p)
{
    return map_count(p->by_id);
}

void producer_state_encode(const struct producer_state *p, struct buf *out)
{
    size_t start = out->len;
    buf_extend(out, HEADER_BYTES);
    for (struct list *node = p->oldest.next; node != &p->oldest; node = node->next) {
        const struct producer *r = LIST_ITEM(node, struct producer, by_age);
        uint8_t *at = buf_extend(out, PRODUCER_BYTES);
        pack_u64(at, (uint64_t)r->id);
        pack_u16(at + 8, (uint16_t)r->epoch);
        pack_u32(at + 10, (uint32_t)r->n);
        pack_u64(at + 14, (uint64_t)r->updated_ms);
        for (int i = 0; i < r->n; i++) {
            const struct producer_batch *b = &r->batches[i];
            at = buf_extend(out, BATCH_BYTES);
            pack_u32(at, (uint32_t)b->first_seq);
            pack_u32(at + 4, (uint32_t)b->last_seq);
            pack_u64(at + 8, (uint64_t)b->base_offset);
            pack_u64(at + 16, (uint64_t)b->last_offset);
            pack_u64(at + 24, (uint64_t)b->timestamp_ms);
        }
    }
    uint8_t *header = out->ptr + start;
    memcpy(header, MAGIC, 8);
    pack_u32(header + 8, VERSION);
    pack_u32(header + 12, (uint32_t)map_count(p->by_id));
    pack_u32(header + 16, crc32c(0, header + HEADER_BYTES, out->len - start - HEADER_BYTES));
}

static const uint8_t *decode_one(struct producer_state *p, const uint8_t *at, const uint8_t *end)
{
    if (end - at < PRODUCER_BYTES)
        return NULL;
    struct producer_batch b = {.producer_id = (int64_t)unpack_u64(at),
                               .epoch = (int16_t)unpack_u16(at + 8)};
    uint32_t n = unpack_u32(at + 10);
    int64_t updated_ms = (int64_t)unpack_u64(at + 14);
    at += PRODUCER_BYTES;
    if (n == 0 || n > PRODUCER_BATCHES_KEPT || (uint64_t)(end - at) < (uint64_t)n * BATCH_BYTES)
        return NULL;
    for (uint32_t i = 0; i < n; i++, at += BATCH_BYTES) {
        b.first_seq = (int32_t)unpack_u32(at);
        b.last_seq = (int32_t)unpack_u32(at + 4);
        b.base_offset = (int64_t)unpack_u64(at + 8);
        b.last_offset = (int64_t)unpack_u64(at + 16);
        b.timestamp_ms = (int64_t)unpack_u64(at + 24);
        producer_state_update(p, &b, updated_ms);
    }
    return at;
}

int producer_state_decode(struct producer_state *p, struct bytes in)
{
    clear(p);
    if (in.len < HEADER_BYTES || memcmp(in.ptr, MAGIC, 8) != 0 ||
        unpack_u32(in.ptr + 8) != VERSION ||
        unpack_u32(in.ptr + 16) != crc32c(0, in.ptr + HEADER_BYTES, in.len - HEADER_BYTES))
        return -EBADMSG;
    uint32_t n = unpack_u32(in.ptr + 12);
    const uint8_t *at = in.ptr + HEADER_BYTES, *end = in.ptr + in.len;
    for (uint32_t i = 0; i < n && at; i++)
        at = decode_one(p, at, end);
    if (at == end)
        return 0;
    clear(p);
    return -EBADMSG;
}
