#include "../lib/random_message.h"

#include "wire/table.h"

static struct bytes random_bytes(struct prng *p, struct arena *a)
{
    // Now and then long enough for a length of two or three bytes.
    size_t len = (size_t)prng_below(p, prng_chance(p, 5) ? 20000 : 12);
    uint8_t *data = arena_alloc(a, len + 1);
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)prng_next(p);
    return (struct bytes){data, len};
}

static void fill_struct(struct prng *p, const struct kw_struct *s, int version, struct arena *a,
                        uint8_t *owner);

static void fill_number(struct prng *p, uint8_t kind, uint8_t *to)
{
    if (kind == KW_BOOL) {
        *(bool *)(void *)to = prng_chance(p, 50);
        return;
    }
    if (kind == KW_F64) {
        *(double *)(void *)to = (double)(int32_t)prng_next(p);
        return;
    }
    for (size_t i = 0; i < kw_kind_size(kind); i++)
        to[i] = prng_chance(p, 60) ? 0 : (uint8_t)prng_next(p);
}

static void fill_value(struct prng *p, const struct kw_field *f, int version, struct arena *a,
                       void *to)
{
    bool null = f->nullable >> version & 1 && !f->is_array && prng_chance(p, 30);
    struct bytes b = random_bytes(p, a);
    switch (f->kind) {
    case KW_STRING:
        *(struct str *)to = null ? STR_NULL : (struct str){(const char *)b.ptr, (int32_t)b.len};
        break;
    case KW_BYTES:
        *(struct bytes *)to = null ? (struct bytes){NULL, 0} : b;
        break;
    case KW_RECORDS:
        *(struct kw_records *)to = null ? (struct kw_records){.len = -1}
                                        : (struct kw_records){.ptr = b.ptr, .len = (int32_t)b.len};
        break;
    case KW_STRUCT:
        if (f->by_pointer && null) {
            *(void **)to = NULL;
        } else if (f->by_pointer) {
            *(void **)to = arena_alloc(a, f->sub->size);
            fill_struct(p, f->sub, version, a, *(uint8_t **)to);
        } else {
            fill_struct(p, f->sub, version, a, to);
        }
        break;
    default:
        fill_number(p, f->kind, to);
    }
}

static void fill_array(struct prng *p, const struct kw_field *f, int version, struct arena *a,
                       uint8_t *owner)
{
    int32_t *count = (int32_t *)(void *)(owner + f->count_offset);
    void **items = (void **)(void *)(owner + f->offset);
    *items = NULL;
    if (f->nullable >> version & 1 && prng_chance(p, 30)) {
        *count = -1;
        return;
    }
    *count = (int32_t)prng_below(p, 4);
    size_t size = f->kind == KW_STRUCT ? f->sub->size : kw_kind_size(f->kind);
    uint8_t *item = arena_array(a, (size_t)*count + 1, size);
    *items = item;
    for (int32_t i = 0; i < *count; i++)
        fill_value(p, f, version, a, item + (size_t)i * size);
}

static void fill_struct(struct prng *p, const struct kw_struct *s, int version, struct arena *a,
                        uint8_t *owner)
{
    kw_struct_init(s, owner);
    for (size_t i = 0; i < s->n_fields; i++) {
        const struct kw_field *f = &s->fields[i];
        if (!(f->versions >> version & 1) || (f->tag >= 0 && prng_chance(p, 30)))
            continue;
        if (f->is_array)
            fill_array(p, f, version, a, owner);
        else
            fill_value(p, f, version, a, owner + f->offset);
    }
}

void random_message(struct prng *p, const struct kw_message *m, int version, struct arena *a,
                    void *ret_msg)
{
    fill_struct(p, m->body, version, a, ret_msg);
}
