// Bytes to messages: an interpreter over the field tables.

#include <errno.h>
#include <stdio.h>

#include "wire/reader.h"
#include "wire/table.h"

// Elements of an array whose element takes no bytes in a version: nothing on the wire bounds
// them. No message of Kafka's has such an array; the limit keeps a hand-made one harmless.
#define EMPTY_ELEMENTS_MAX ((size_t)1024)
// Memory one message may take once decoded. A partition of a Fetch takes about 100 bytes, so
// this is far above what the largest clusters ask for and below what would hurt the machine.
#define DECODED_MEMORY_MAX ((size_t)128 << 20)
// Kafka's strings carry 16 bits of length, in their compact form too.
#define STRING_MAX ((uint32_t)INT16_MAX)

// Where in the message the decoder stands; used only to word a failure.
struct place {
    const struct place *up;
    const char *name;
    int32_t index; // -1 outside arrays
};

struct decoder {
    struct reader r;
    struct arena *arena;
    int version;
    bool is_flexible;
    bool wants_why;
    size_t memory_left;
    const char *why;
};

// What an empty string or byte field points at, so that no pointer that is not null is NULL.
static const uint8_t nothing[1];

static void write_place(const struct place *at, struct buf *out)
{
    if (!at)
        return;
    write_place(at->up, out);
    buf_printf(out, "%s%s", at->up ? "." : "", at->name);
    if (at->index >= 0)
        buf_printf(out, "[%d]", at->index);
}

static bool fail(struct decoder *d, const struct place *at, const char *reason)
{
    if (d->wants_why && !d->why) {
        struct buf text = {0};
        write_place(at, &text);
        d->why = arena_printf(d->arena, "%.*s: %s", (int)text.len, (const char *)text.ptr, reason);
        buf_free(&text);
    }
    return false;
}

static bool truncated(struct decoder *d, const struct place *at)
{
    return fail(d, at, "truncated");
}

static bool is_nullable(const struct decoder *d, const struct kw_field *f)
{
    return f->nullable >> d->version & 1;
}

// The length of a string, byte or array field: -1 for null. Like Kafka, any negative length
// of the older forms is read as null. Sets d->r.bad when truncated.
static int64_t read_length(struct decoder *d, bool is_short)
{
    if (d->is_flexible)
        return (int64_t)reader_uvarint(&d->r) - 1;
    int64_t n = is_short ? reader_i16(&d->r) : reader_i32(&d->r);
    return n < 0 ? -1 : n;
}

static bool read_view(struct decoder *d, const struct kw_field *f, const struct place *at,
                      struct bytes *ret_view, bool *ret_null)
{
    int64_t n = read_length(d, f->kind == KW_STRING);
    if (d->r.bad)
        return truncated(d, at);
    *ret_null = n < 0;
    if (n < 0) {
        *ret_view = (struct bytes){NULL, 0};
        return is_nullable(d, f) || fail(d, at, "null where null is not legal");
    }
    if (f->kind == KW_STRING && n > STRING_MAX)
        return fail(d, at, "a string longer than 32767 bytes");
    if ((uint64_t)n > reader_left(&d->r) || n > INT32_MAX)
        return fail(d, at, "longer than what is left");
    const uint8_t *p = reader_take(&d->r, (size_t)n);
    *ret_view = (struct bytes){n > 0 ? p : nothing, (size_t)n};
    return true;
}

static bool read_number(struct decoder *d, uint8_t kind, void *to)
{
    struct reader *r = &d->r;
    switch (kind) {
    case KW_BOOL:
        *(bool *)to = reader_u8(r) != 0;
        break;
    case KW_I8:
        *(int8_t *)to = reader_i8(r);
        break;
    case KW_I16:
    case KW_U16:
        *(uint16_t *)to = reader_u16(r);
        break;
    case KW_I32:
    case KW_U32:
        *(uint32_t *)to = reader_u32(r);
        break;
    case KW_I64:
        *(int64_t *)to = reader_i64(r);
        break;
    case KW_F64: {
        uint64_t bits = reader_u64(r);
        memcpy(to, &bits, sizeof bits);
        break;
    }
    case KW_UUID: {
        const uint8_t *p = reader_take(r, sizeof(struct uuid));
        if (p)
            memcpy(to, p, sizeof(struct uuid));
        break;
    }
    default:
        UNREACHABLE();
    }
    return !r->bad;
}

static bool decode_struct(struct decoder *d, const struct kw_struct *s, void *to,
                          const struct place *up);

static void *take_memory(struct decoder *d, size_t size)
{
    if (size > d->memory_left)
        return NULL;
    d->memory_left -= size;
    return arena_alloc(d->arena, size);
}

static bool decode_nullable_struct(struct decoder *d, const struct kw_field *f, void **to,
                                   const struct place *at)
{
    int8_t present = reader_i8(&d->r);
    if (d->r.bad)
        return truncated(d, at);
    *to = NULL;
    if (present < 0)
        return is_nullable(d, f) || fail(d, at, "null where null is not legal");
    void *sub = take_memory(d, f->sub->size);
    if (!sub)
        return fail(d, at, "takes too much memory");
    *to = sub;
    return decode_struct(d, f->sub, sub, at);
}

static bool decode_value(struct decoder *d, const struct kw_field *f, void *to,
                         const struct place *at)
{
    struct bytes view;
    bool null;
    switch (f->kind) {
    case KW_STRING:
        if (!read_view(d, f, at, &view, &null))
            return false;
        *(struct str *)to =
            null ? STR_NULL : (struct str){(const char *)view.ptr, (int32_t)view.len};
        return true;
    case KW_BYTES:
        return read_view(d, f, at, to, &null);
    case KW_RECORDS:
        if (!read_view(d, f, at, &view, &null))
            return false;
        *(struct kw_records *)to =
            (struct kw_records){.ptr = view.ptr, .len = null ? -1 : (int32_t)view.len};
        return true;
    case KW_STRUCT:
        if (f->by_pointer)
            return decode_nullable_struct(d, f, to, at);
        return decode_struct(d, f->sub, to, at);
    default:
        return read_number(d, f->kind, to) || truncated(d, at);
    }
}

// The fewest bytes one element can take on the wire.
static size_t element_min(const struct decoder *d, const struct kw_field *f)
{
    if (f->kind == KW_STRUCT)
        return f->sub->min_size[d->version];
    if (f->kind == KW_STRING)
        return d->is_flexible ? 1 : 2;
    if (f->kind == KW_BYTES || f->kind == KW_RECORDS)
        return d->is_flexible ? 1 : 4;
    return kw_kind_size(f->kind);
}

static bool decode_array(struct decoder *d, const struct kw_field *f, uint8_t *owner,
                         struct place *at)
{
    int64_t n = read_length(d, false);
    if (d->r.bad)
        return truncated(d, at);
    void **items = (void **)(void *)(owner + f->offset);
    int32_t *count = (int32_t *)(void *)(owner + f->count_offset);
    *items = NULL;
    *count = n < 0 ? -1 : 0;
    if (n < 0)
        return is_nullable(d, f) || fail(d, at, "null where null is not legal");

    size_t min = element_min(d, f);
    size_t room = min > 0 ? reader_left(&d->r) / min : EMPTY_ELEMENTS_MAX;
    if ((uint64_t)n > room)
        return fail(d, at, "more elements than what is left can hold");
    size_t size = f->kind == KW_STRUCT ? f->sub->size : kw_kind_size(f->kind);
    uint8_t *item = take_memory(d, (size_t)n * size);
    if (!item)
        return fail(d, at, "takes too much memory");
    *items = item;
    *count = (int32_t)n;
    for (int32_t i = 0; i < (int32_t)n; i++, item += size) {
        at->index = i;
        bool ok = f->kind == KW_STRUCT ? decode_struct(d, f->sub, item, at)
                                       : decode_value(d, f, item, at);
        if (!ok)
            return false;
    }
    return true;
}

static bool decode_field(struct decoder *d, const struct kw_field *f, uint8_t *owner,
                         const struct place *up)
{
    struct place at = {up, f->name, -1};
    if (f->is_array)
        return decode_array(d, f, owner, &at);
    return decode_value(d, f, owner + f->offset, &at);
}

static const struct kw_field *find_tag(const struct decoder *d, const struct kw_struct *s,
                                       uint32_t tag)
{
    for (size_t i = s->n_plain; i < s->n_fields; i++)
        if ((uint32_t)s->fields[i].tag == tag && s->fields[i].versions >> d->version & 1)
            return &s->fields[i];
    return NULL;
}

// Each tagged field is read within its own size; what we do not know is skipped.
static bool decode_tags(struct decoder *d, const struct kw_struct *s, uint8_t *owner,
                        const struct place *up)
{
    uint32_t count = reader_uvarint(&d->r);
    for (uint32_t i = 0; i < count && !d->r.bad; i++) {
        uint32_t tag = reader_uvarint(&d->r);
        uint32_t size = reader_uvarint(&d->r);
        const uint8_t *p = reader_take(&d->r, size);
        const struct kw_field *f = p ? find_tag(d, s, tag) : NULL;
        if (!f)
            continue;
        struct reader rest = d->r;
        d->r = (struct reader){p, p + size, false};
        bool ok = decode_field(d, f, owner, up);
        struct place at = {up, f->name, -1};
        if (ok && reader_left(&d->r) > 0)
            ok = fail(d, &at, "shorter than its tag says");
        d->r = rest;
        if (!ok)
            return false;
    }
    struct place at = {up, "tagged fields", -1};
    return d->r.bad ? truncated(d, &at) : true;
}

// Most fields are numbers and strings: these do not leave decode_struct. False when the bytes are
// not there.
static inline bool decode_fixed(struct decoder *d, const struct kw_field *f, uint8_t *to)
{
    const uint8_t *p = d->r.p;
    if (reader_left(&d->r) < f->fixed)
        return false;
    d->r.p = p + f->fixed;
    if (f->fixed == 4) {
        uint32_t v;
        memcpy(&v, p, sizeof v);
        v = __builtin_bswap32(v);
        memcpy(to, &v, sizeof v);
    } else if (f->fixed == 8) {
        uint64_t v;
        memcpy(&v, p, sizeof v);
        v = __builtin_bswap64(v);
        memcpy(to, &v, sizeof v);
    } else if (f->fixed == 2) {
        uint16_t v;
        memcpy(&v, p, sizeof v);
        v = __builtin_bswap16(v);
        memcpy(to, &v, sizeof v);
    } else if (f->fixed == 1) {
        *to = *p;
    } else {
        memcpy(to, p, sizeof(struct uuid));
    }
    return true;
}

// A string that is there, and not long in the compact form. False: it is anything else.
static inline bool decode_short_string(struct decoder *d, struct str *to)
{
    const uint8_t *p = d->r.p;
    size_t left = reader_left(&d->r), head = d->is_flexible ? 1 : 2, len;
    if (left < head || p[0] >= 0x80 || (d->is_flexible && p[0] == 0))
        return false;
    len = d->is_flexible ? p[0] - 1u : (size_t)p[0] << 8 | p[1];
    if (left - head < len)
        return false;
    d->r.p = p + head + len;
    *to = (struct str){(const char *)(len > 0 ? p + head : nothing), (int32_t)len};
    return true;
}

static bool decode_struct(struct decoder *d, const struct kw_struct *s, void *to,
                          const struct place *up)
{
    uint8_t *owner = to;
    for (size_t i = 0; i < s->n_plain; i++) {
        const struct kw_field *f = &s->fields[i];
        if (f->versions >> d->version & 1) {
            if (f->fixed && decode_fixed(d, f, owner + f->offset))
                continue;
            if (f->kind == KW_STRING && !f->is_array &&
                decode_short_string(d, (struct str *)(void *)(owner + f->offset)))
                continue;
            if (!decode_field(d, f, owner, up))
                return false;
        } else if (f->has_default) {
            kw_field_set_default(f, owner);
        }
    }
    for (size_t i = s->n_plain; i < s->n_fields; i++)
        if (s->fields[i].has_default)
            kw_field_set_default(&s->fields[i], owner);
    if (!d->is_flexible)
        return true;
    if (reader_left(&d->r) > 0 && *d->r.p == 0) { // nearly always: no tags
        d->r.p++;
        return true;
    }
    return decode_tags(d, s, owner, up);
}

int kw_decode_part(const struct kw_message *m, int version, struct bytes in, struct arena *a,
                   void *ret_msg, struct bytes *ret_rest, const char **ret_why)
{
    if (version < m->min_version || version > m->max_version) {
        if (ret_why)
            *ret_why = arena_printf(a, "%s: no version %d", m->name, version);
        return -EPROTONOSUPPORT;
    }
    struct decoder d = {
        .r = reader_of(in.ptr ? in : (struct bytes){nothing, 0}),
        .arena = a,
        .version = version,
        .is_flexible = kw_is_flexible(m, version),
        .wants_why = ret_why != NULL,
        .memory_left = DECODED_MEMORY_MAX,
    };
    // Beside, so that a failure leaves *ret_msg untouched.
    void *fresh = arena_alloc(a, m->body->size);
    bool ok = decode_struct(&d, m->body, fresh, NULL);
    if (ok && !ret_rest && reader_left(&d.r) > 0) {
        struct place at = {NULL, m->name, -1};
        ok = fail(&d, &at, "bytes left over");
    }
    if (!ok) {
        if (ret_why)
            *ret_why = d.why;
        return -EBADMSG;
    }
    memcpy(ret_msg, fresh, m->body->size);
    if (ret_rest)
        *ret_rest = (struct bytes){d.r.p, reader_left(&d.r)};
    return 0;
}

int kw_decode(const struct kw_message *m, int version, struct bytes in, struct arena *a,
              void *ret_msg, const char **ret_why)
{
    return kw_decode_part(m, version, in, a, ret_msg, NULL, ret_why);
}
