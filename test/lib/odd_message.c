#include "odd_message.h"

#include <stdio.h>
#include <string.h>

#include "batches.h"
#include "wire/table.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *const names[] = {
    "t0",
    "t1",
    "g0",
    "g1",
    "range",
    "consumer",
    "",
    "t_1",
    "t.1",
    "..",
    "bad name!",
    "__consumer_offsets",
    "retention.ms",
    "1",
    "1000",
    "delete",
    "cleanup.policy",
    "\xff\xfe",
    "%s%n",
    "a",
    "z",
    "\x1b[31m",
    "__tally_journal",
};
static const int64_t edges[] = {0,     1,      -1,        2,         -2,        3,         10,
                                100,   6000,   30000,     -3,        -4,        127,       -128,
                                32767, -32768, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 1000000};

unsigned odd_pick(struct odd *o, unsigned below)
{
    return o->at < o->end ? *o->at++ % below : 0;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

static bool is_name(const struct kw_field *f, const char *name)
{
    return strcmp(f->name, name) == 0;
}

static struct str odd_string(struct odd *o, const struct kw_field *f, struct arena *a)
{
    if (is_name(f, "member_id") && o->n_members > 0 && odd_pick(o, 4) > 0)
        return arena_str(a, str_from(o->members[odd_pick(o, o->n_members)]));
    if ((is_name(f, "topic") || ends_with(f->name, "name") || ends_with(f->name, "names")) &&
        odd_pick(o, 4) > 0)
        return str_from(names[odd_pick(o, 2)]);
    if ((ends_with(f->name, "group_id") || is_name(f, "group") || is_name(f, "groups")) &&
        odd_pick(o, 4) > 0)
        return str_from(names[2 + odd_pick(o, 2)]);
    if (is_name(f, "protocol_type") && odd_pick(o, 8) > 0)
        return STR("consumer");
    unsigned which = odd_pick(o, COUNT(names) + 2);
    if (which < COUNT(names))
        return str_from(names[which]);
    size_t len = which == COUNT(names) ? 249 : 32767;
    char *text = arena_alloc(a, len + 1);
    memset(text, 'x', len);
    return (struct str){text, (int32_t)len};
}

static void add_i16(struct buf *b, int16_t v)
{
    uint16_t u = __builtin_bswap16((uint16_t)v);
    buf_add(b, &u, sizeof u);
}

static void add_i32(struct buf *b, int32_t v)
{
    uint32_t u = __builtin_bswap32((uint32_t)v);
    buf_add(b, &u, sizeof u);
}

// A subscription or an assignment as clients write them, whole or cut.
static struct bytes odd_bytes(struct odd *o, struct arena *a)
{
    struct buf b = {0};
    unsigned kind = odd_pick(o, 4);
    if (kind == 0) {
        unsigned n = odd_pick(o, 8);
        for (unsigned i = 0; i < n; i++)
            buf_add(&b, &(uint8_t){(uint8_t)odd_pick(o, 255)}, 1);
    } else {
        bool is_subscription = kind == 1;
        add_i16(&b, (int16_t)odd_pick(o, 3));
        unsigned n = odd_pick(o, 3);
        add_i32(&b, (int32_t)n);
        for (unsigned i = 0; i < n; i++) {
            const char *name = names[odd_pick(o, 2)];
            add_i16(&b, (int16_t)strlen(name));
            buf_add(&b, name, strlen(name));
            unsigned parts = is_subscription ? 0 : odd_pick(o, 4);
            if (!is_subscription)
                add_i32(&b, (int32_t)parts);
            for (unsigned k = 0; k < parts; k++)
                add_i32(&b, (int32_t)k);
        }
        add_i32(&b, -1);
        if (odd_pick(o, 8) == 7)
            b.len -= b.len > 3 ? 3 : b.len;
    }
    struct bytes copy = arena_bytes(a, (struct bytes){b.ptr, b.len});
    buf_free(&b);
    return copy;
}

static struct bytes odd_batch(struct odd *o, struct arena *a)
{
    struct buf b = {0};
    unsigned bits = odd_pick(o, 256);
    struct batch_spec spec = {.count = (int)odd_pick(o, 5),
                              .timestamp_ms = o->time_ms,
                              .value_bytes = bits & 1 ? 3000 : 0,
                              .codec = bits & 2 ? (int)odd_pick(o, 5) : 0,
                              .has_producer = bits & 4,
                              .producer_id = odd_pick(o, 4),
                              .base_sequence = (int32_t)odd_pick(o, 8)};
    batches_add(&b, &spec);
    if (bits & 8)
        batches_add(&b, &spec);
    if (bits & 16) // the header without its CRC is what a lie can change
        b.ptr[odd_pick(o, 61)] = (uint8_t)odd_pick(o, 256);
    if (bits & 32)
        b.len -= odd_pick(o, 60);
    struct bytes copy = arena_bytes(a, (struct bytes){b.ptr, b.len});
    buf_free(&b);
    return copy;
}

static int64_t odd_number(struct odd *o, const struct kw_field *f)
{
    if (is_name(f, "generation_id") || is_name(f, "generation_id_or_member_epoch"))
        return odd_pick(o, 4) > 0 ? o->generation : edges[odd_pick(o, COUNT(edges))];
    if (ends_with(f->name, "timeout_ms") && odd_pick(o, 4) > 0)
        return 6000 * (1 + (int64_t)odd_pick(o, 8));
    if ((is_name(f, "num_partitions") || is_name(f, "count")) && odd_pick(o, 8) > 0)
        return (int64_t)odd_pick(o, 4) - 1;
    if (is_name(f, "replication_factor") && odd_pick(o, 4) > 0)
        return 1;
    if (is_name(f, "broker_ids") || is_name(f, "resource_type"))
        return odd_pick(o, 5);
    if (strstr(f->name, "offset"))
        return odd_pick(o, 4) > 0 ? (int64_t)odd_pick(o, 32) : edges[odd_pick(o, COUNT(edges))];
    if (ends_with(f->name, "bytes") && odd_pick(o, 4) > 0)
        return 1 << odd_pick(o, 24);
    return edges[odd_pick(o, 4) > 0 ? odd_pick(o, 4) : odd_pick(o, COUNT(edges))];
}

static void fill_number(struct odd *o, const struct kw_field *f, void *to)
{
    if (f->kind == KW_BOOL) {
        *(bool *)to = odd_pick(o, 2);
    } else if (f->kind == KW_UUID) {
        bool is_known = o->n_topics > 0 && odd_pick(o, 4) > 0;
        *(struct uuid *)to = is_known ? o->topics[odd_pick(o, o->n_topics)]
                                      : (struct uuid){{(uint8_t)odd_pick(o, 3)}};
    } else if (f->kind == KW_F64) {
        *(double *)to = (double)odd_number(o, f);
    } else {
        int64_t n = odd_number(o, f);
        memcpy(to, &n, kw_kind_size(f->kind)); // the low bytes stand first
    }
}

static void fill_struct(struct odd *o, const struct kw_struct *s, int version, struct arena *a,
                        uint8_t *owner);

static void fill_value(struct odd *o, const struct kw_field *f, int version, struct arena *a,
                       void *to)
{
    bool null = f->nullable >> version & 1 && !f->is_array && odd_pick(o, 4) == 3;
    if (f->kind == KW_STRING) {
        *(struct str *)to = null ? STR_NULL : odd_string(o, f, a);
    } else if (f->kind == KW_BYTES) {
        *(struct bytes *)to = null ? (struct bytes){NULL, 0} : odd_bytes(o, a);
    } else if (f->kind == KW_RECORDS) {
        struct bytes b = odd_batch(o, a);
        *(struct kw_records *)to = null ? (struct kw_records){.len = -1}
                                        : (struct kw_records){.ptr = b.ptr, .len = (int32_t)b.len};
    } else if (f->kind != KW_STRUCT) {
        fill_number(o, f, to);
    } else if (!f->by_pointer) {
        fill_struct(o, f->sub, version, a, to);
    } else if (null) {
        *(void **)to = NULL;
    } else {
        *(void **)to = arena_alloc(a, f->sub->size);
        fill_struct(o, f->sub, version, a, *(uint8_t **)to);
    }
}

static void fill_array(struct odd *o, const struct kw_field *f, int version, struct arena *a,
                       uint8_t *owner)
{
    int32_t *count = (int32_t *)(void *)(owner + f->count_offset);
    void **items = (void **)(void *)(owner + f->offset);
    static const int32_t counts[] = {1, 1, 1, 2, 0, 3};
    unsigned which = odd_pick(o, COUNT(counts) + 1);
    *items = NULL;
    if (which == COUNT(counts)) {
        *count = f->nullable >> version & 1 ? -1 : 0;
        return;
    }
    *count = counts[which];
    size_t size = f->kind == KW_STRUCT ? f->sub->size : kw_kind_size(f->kind);
    uint8_t *item = arena_array(a, (size_t)*count + 1, size);
    *items = item;
    for (int32_t i = 0; i < *count; i++)
        fill_value(o, f, version, a, item + (size_t)i * size);
}

static void fill_struct(struct odd *o, const struct kw_struct *s, int version, struct arena *a,
                        uint8_t *owner)
{
    kw_struct_init(s, owner);
    for (size_t i = 0; i < s->n_fields; i++) {
        const struct kw_field *f = &s->fields[i];
        if (!(f->versions >> version & 1) || (f->tag >= 0 && odd_pick(o, 2)))
            continue;
        if (f->is_array)
            fill_array(o, f, version, a, owner);
        else
            fill_value(o, f, version, a, owner + f->offset);
    }
}

void odd_message(struct odd *o, const struct kw_message *m, int version, struct arena *a,
                 void *ret_msg)
{
    fill_struct(o, m->body, version, a, ret_msg);
}
