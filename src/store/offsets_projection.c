#include "store/offsets_projection.h"

#include "base/list.h"
#include "base/map.h"
#include "schema.h"
#include "wire/batch.h"
#include "wire/writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A batch stays well below max.message.bytes.
#define BATCH_SOFT_BYTES (256u << 10)
#define MARK_FILE "offsets-projection"
#define MARK_MAX_BYTES 256

// Kafka's record types and the value versions it writes without newer features.
enum {
    KEY_OFFSET = 1,
    KEY_GROUP = 2,
    VALUE_OFFSET = 3,
    VALUE_OFFSET_EXPIRING = 1,
    VALUE_GROUP = 3,
};

// What was written for a group, so that it can be taken back.
struct group {
    struct map *offset_keys; // encoded key -> struct held, or the group where nothing is held
    bool has_metadata;
};

// An offset that is to be written: only the last one of each key, since nobody can have seen those
// before it.
struct held {
    struct list in_dirty;
    struct group *group;
    int64_t wall_ms;
    int32_t partition;
    size_t key_len, value_len, value_cap;
    uint8_t bytes[]; // the key, and behind it the value
};

struct ready {
    struct list in_queue;
    int32_t partition, count;
    struct buf batch;
};

struct offsets_projection {
    struct map *groups;
    struct batch_builder builders[OFFSETS_PARTITIONS];
    struct list dirty;        // struct held
    struct list queue;        // struct ready
    bool has_news;            // something is to be handed out
    struct ready *handed_out; // freed with the next call
    struct buf key, value;    // scratch
};

struct offsets_projection *offsets_projection_new(void)
{
    struct offsets_projection *p = calloc(1, sizeof *p);
    CHECK(p);
    p->groups = map_new();
    list_init(&p->queue);
    list_init(&p->dirty);
    for (size_t i = 0; i < OFFSETS_PARTITIONS; i++)
        batch_builder_start(&p->builders[i], &batch_options_default);
    return p;
}

static void group_free(struct group *g)
{
    map_free(g->offset_keys);
    free(g);
}

static void ready_free(struct ready *r)
{
    if (!r)
        return;
    buf_free(&r->batch);
    free(r);
}

void offsets_projection_free(struct offsets_projection *p)
{
    if (!p)
        return;
    void *g;
    for (size_t it = 0; map_next(p->groups, &it, NULL, &g);)
        group_free(g);
    map_free(p->groups);
    LIST_EACH (node, &p->dirty)
        free(LIST_ITEM(node, struct held, in_dirty));
    LIST_EACH (node, &p->queue)
        ready_free(LIST_ITEM(node, struct ready, in_queue));
    ready_free(p->handed_out);
    for (size_t i = 0; i < OFFSETS_PARTITIONS; i++)
        batch_builder_free(&p->builders[i]);
    buf_free(&p->key);
    buf_free(&p->value);
    free(p);
}

// One code point of UTF-8; bad bytes count as U+FFFD, as Java decodes them.
static uint32_t next_code_point(const uint8_t **at, const uint8_t *end)
{
    uint8_t b = *(*at)++;
    int more = b < 0x80             ? 0
               : (b & 0xe0) == 0xc0 ? 1
               : (b & 0xf0) == 0xe0 ? 2
               : (b & 0xf8) == 0xf0 ? 3
                                    : -1;
    if (more < 0)
        return 0xfffd;
    uint32_t c = more == 0 ? b : b & (0x3fu >> more);
    for (; more > 0; more--) {
        if (*at == end || (**at & 0xc0) != 0x80)
            return 0xfffd;
        c = c << 6 | (*(*at)++ & 0x3fu);
    }
    return c;
}

int32_t offsets_partition(struct str group_id)
{
    const uint8_t *at = (const uint8_t *)group_id.ptr;
    const uint8_t *end = at + (group_id.len > 0 ? group_id.len : 0);
    uint32_t hash = 0;
    while (at < end) {
        uint32_t c = next_code_point(&at, end);
        if (c >= 0x10000) {
            hash = 31 * hash + (0xd800 + ((c - 0x10000) >> 10));
            c = 0xdc00 + ((c - 0x10000) & 0x3ff);
        }
        hash = 31 * hash + c;
    }
    int32_t h = (int32_t)hash;
    return (h == INT32_MIN ? 0 : h < 0 ? -h : h) % OFFSETS_PARTITIONS;
}

static void put_str(struct buf *b, struct str s)
{
    // A length of 16 bits is all the format has; the wire has no longer names either.
    int16_t len = s.len > INT16_MAX ? INT16_MAX : (int16_t)s.len;
    writer_i16(b, len);
    if (len > 0)
        buf_add(b, s.ptr, (size_t)len);
}

static void put_bytes(struct buf *b, struct bytes v)
{
    writer_i32(b, (int32_t)v.len);
    if (v.len)
        buf_add(b, v.ptr, v.len);
}

static struct str never_null(struct str s)
{
    return str_is_null(s) ? STR_EMPTY : s;
}

static void finish(struct offsets_projection *p, int32_t partition)
{
    struct batch_builder *b = &p->builders[partition];
    if (b->count == 0)
        return;
    struct ready *r = calloc(1, sizeof *r);
    CHECK(r);
    r->partition = partition;
    r->count = b->count;
    CHECK(batch_builder_finish(b, &r->batch) == 0);
    list_append(&p->queue, &r->in_queue);
}

static void put(struct offsets_projection *p, int32_t partition, int64_t wall_ms, struct bytes key,
                struct bytes value)
{
    p->has_news = true;
    batch_builder_add(&p->builders[partition], wall_ms, key, value, NULL, 0);
    if (batch_builder_size(&p->builders[partition]) >= BATCH_SOFT_BYTES)
        finish(p, partition);
}

static struct bytes key_of(const struct held *h)
{
    return (struct bytes){h->bytes, h->key_len};
}

static void held_free(struct held *h)
{
    list_remove(&h->in_dirty);
    free(h);
}

static struct held *held_new(struct offsets_projection *p, struct group *g, struct bytes key,
                             size_t value_cap)
{
    struct held *h = malloc(sizeof *h + key.len + value_cap);
    CHECK(h);
    *h = (struct held){.group = g, .key_len = key.len, .value_cap = value_cap};
    memcpy(h->bytes, key.ptr, key.len);
    list_append(&p->dirty, &h->in_dirty);
    map_put(g->offset_keys, key, h);
    return h;
}

static void hold(struct offsets_projection *p, struct group *g, int32_t partition, int64_t wall_ms,
                 struct bytes key, const struct buf *value)
{
    void *there = map_get(g->offset_keys, key);
    struct held *h = there != g ? there : NULL;
    if (h && value->len > h->value_cap) {
        held_free(h);
        h = NULL;
    }
    if (!h)
        h = held_new(p, g, key, value->len);
    p->has_news = true;
    h->partition = partition;
    h->wall_ms = wall_ms;
    h->value_len = value->len;
    memcpy(h->bytes + h->key_len, value->ptr, value->len);
}

// Whatever is held for the key is overtaken.
static void take_back(struct offsets_projection *p, struct str group_id, int64_t wall_ms,
                      struct bytes key, struct group *g, void *there)
{
    put(p, offsets_partition(group_id), wall_ms, key, (struct bytes){NULL, 0});
    if (there != g)
        held_free(there);
}

static void put_held(struct offsets_projection *p)
{
    while (!list_is_empty(&p->dirty)) {
        struct held *h = LIST_ITEM(p->dirty.next, struct held, in_dirty);
        put(p, h->partition, h->wall_ms, key_of(h),
            (struct bytes){h->bytes + h->key_len, h->value_len});
        map_put(h->group->offset_keys, key_of(h), h->group);
        held_free(h);
    }
}

static struct group *group_of(struct offsets_projection *p, struct str group_id)
{
    struct group *g = map_get(p->groups, key_str(group_id));
    if (g)
        return g;
    g = calloc(1, sizeof *g);
    CHECK(g);
    g->offset_keys = map_new();
    map_put(p->groups, key_str(group_id), g);
    return g;
}

static struct bytes offset_key(struct offsets_projection *p, struct str group_id, struct str topic,
                               int32_t partition)
{
    buf_clear(&p->key);
    writer_i16(&p->key, KEY_OFFSET);
    put_str(&p->key, group_id);
    put_str(&p->key, topic);
    writer_i32(&p->key, partition);
    return (struct bytes){p->key.ptr, p->key.len};
}

static struct bytes group_key(struct offsets_projection *p, struct str group_id)
{
    buf_clear(&p->key);
    writer_i16(&p->key, KEY_GROUP);
    put_str(&p->key, group_id);
    return (struct bytes){p->key.ptr, p->key.len};
}

static void add_committed(struct offsets_projection *p, const struct offsets_committed_record *r)
{
    struct group *g = group_of(p, r->group_id);
    int32_t partition = offsets_partition(r->group_id);
    for (int32_t i = 0; i < r->n_topics; i++) {
        const struct offsets_committed_record_topic *t = &r->topics[i];
        for (int32_t k = 0; k < t->n_partitions; k++) {
            const struct offsets_committed_record_partition *o = &t->partitions[k];
            struct bytes key = offset_key(p, r->group_id, t->name, o->partition_index);
            struct buf *v = &p->value;
            buf_clear(v);
            writer_i16(v, r->expire_ms >= 0 ? VALUE_OFFSET_EXPIRING : VALUE_OFFSET);
            writer_i64(v, o->committed_offset);
            if (r->expire_ms < 0)
                writer_i32(v, o->leader_epoch);
            put_str(v, never_null(o->metadata));
            writer_i64(v, r->wall_ms);
            if (r->expire_ms >= 0)
                writer_i64(v, r->expire_ms);
            hold(p, g, partition, r->wall_ms, key, v);
        }
    }
}

static void add_removed_offsets(struct offsets_projection *p,
                                const struct offsets_removed_record *r)
{
    struct group *g = group_of(p, r->group_id);
    for (int32_t i = 0; i < r->n_topics; i++) {
        const struct offsets_removed_record_topic *t = &r->topics[i];
        for (int32_t k = 0; k < t->n_partitions; k++) {
            struct bytes key = offset_key(p, r->group_id, t->name, t->partitions[k]);
            void *there = map_remove(g->offset_keys, key);
            if (there)
                take_back(p, r->group_id, r->wall_ms, key, g, there);
        }
    }
}

static void add_generation(struct offsets_projection *p, const struct group_generation_record *r)
{
    struct buf *v = &p->value;
    buf_clear(v);
    writer_i16(v, VALUE_GROUP);
    put_str(v, never_null(r->protocol_type));
    writer_i32(v, r->generation);
    put_str(v, r->protocol_name);
    put_str(v, r->leader);
    writer_i64(v, r->wall_ms);
    writer_i32(v, r->n_members > 0 ? r->n_members : 0);
    for (int32_t i = 0; i < r->n_members; i++) {
        const struct group_generation_record_member *m = &r->members[i];
        put_str(v, m->member_id);
        put_str(v, m->instance_id);
        put_str(v, m->client_id);
        put_str(v, m->client_host);
        writer_i32(v, m->rebalance_timeout_ms);
        writer_i32(v, m->session_timeout_ms);
        put_bytes(v, m->subscription);
        put_bytes(v, m->assignment);
    }
    put(p, offsets_partition(r->group_id), r->wall_ms, group_key(p, r->group_id),
        (struct bytes){v->ptr, v->len});
    group_of(p, r->group_id)->has_metadata = true;
}

static void add_removed_group(struct offsets_projection *p, const struct group_removed_record *r)
{
    struct group *g = map_remove(p->groups, key_str(r->group_id));
    if (!g)
        return;
    struct bytes key;
    void *there;
    for (size_t it = 0; map_next(g->offset_keys, &it, &key, &there);)
        take_back(p, r->group_id, r->wall_ms, key, g, there);
    if (g->has_metadata)
        put(p, offsets_partition(r->group_id), r->wall_ms, group_key(p, r->group_id),
            (struct bytes){NULL, 0});
    group_free(g);
}

void offsets_projection_add(struct offsets_projection *p, const struct kw_message *type,
                            const void *record)
{
    if (type == &offsets_committed_record_msg)
        add_committed(p, record);
    else if (type == &offsets_removed_record_msg)
        add_removed_offsets(p, record);
    else if (type == &group_generation_record_msg)
        add_generation(p, record);
    else if (type == &group_removed_record_msg)
        add_removed_group(p, record);
}

bool offsets_projection_has_news(const struct offsets_projection *p)
{
    return p->has_news;
}

bool offsets_projection_next(struct offsets_projection *p, int32_t *ret_partition,
                             struct bytes *ret_batch, int32_t *ret_records)
{
    ready_free(p->handed_out);
    p->handed_out = NULL;
    if (list_is_empty(&p->queue)) {
        put_held(p);
        for (int32_t i = 0; i < OFFSETS_PARTITIONS; i++)
            finish(p, i);
    }
    if (list_is_empty(&p->queue)) {
        p->has_news = false;
        return false;
    }
    struct ready *r = LIST_ITEM(p->queue.next, struct ready, in_queue);
    list_remove(&r->in_queue);
    p->handed_out = r;
    *ret_partition = r->partition;
    *ret_batch = (struct bytes){r->batch.ptr, r->batch.len};
    *ret_records = r->count;
    return true;
}

bool offsets_projection_is_current(struct disk *d, const char *data_dir, int64_t clean_position)
{
    struct arena *a = arena_new();
    struct bytes content;
    int64_t position = -1;
    int r = disk_read_file(d, arena_printf(a, "%s/%s", data_dir, MARK_FILE), MARK_MAX_BYTES, a,
                           &content);
    if (r == 0 &&
        sscanf((const char *)content.ptr, "holds journal up to\n%" SCNd64 "\n", &position) != 1)
        position = -1;
    arena_free(a);
    return clean_position >= 0 && position == clean_position;
}

int offsets_projection_mark(struct disk *d, const char *data_dir, uint64_t journal_position)
{
    struct buf text = {0};
    buf_printf(&text, "holds journal up to\n%" PRIu64 "\n", journal_position);
    int r = disk_replace_file(d, data_dir, MARK_FILE, (struct bytes){text.ptr, text.len});
    buf_free(&text);
    return r;
}
