// Messages to bytes: an interpreter over the field tables.

#include <stdlib.h>

#include "wire/table.h"
#include "wire/writer.h"

struct encoder {
    struct kw_out *out;
    struct buf *buf;
    int version;
    bool is_flexible;
};

void kw_out_free(struct kw_out *out)
{
    buf_free(&out->buf);
    free(out->splices);
    *out = (struct kw_out){0};
}

void kw_out_clear(struct kw_out *out)
{
    buf_clear(&out->buf);
    out->n_splices = 0;
}

size_t kw_out_total(const struct kw_out *out)
{
    size_t total = out->buf.len;
    for (size_t i = 0; i < out->n_splices; i++)
        total += out->splices[i].len;
    return total;
}

static void add_splice(struct kw_out *out, const struct kw_records *r)
{
    if (out->n_splices == out->cap_splices) {
        out->cap_splices = out->cap_splices ? out->cap_splices * 2 : 8;
        out->splices = realloc(out->splices, out->cap_splices * sizeof *out->splices);
        CHECK(out->splices);
    }
    out->splices[out->n_splices++] = (struct kw_splice){
        .at = out->buf.len, .file = r->file, .file_pos = r->file_pos, .len = (uint32_t)r->len};
}

static inline void write_length(struct encoder *e, int64_t n, bool is_short)
{
    if (e->is_flexible)
        writer_uvarint(e->buf, (uint64_t)(n + 1));
    else if (is_short)
        writer_i16(e->buf, (int16_t)n);
    else
        writer_i32(e->buf, (int32_t)n);
}

static void write_null_length(struct encoder *e, const struct kw_field *f)
{
    CHECK(f->nullable >> e->version & 1);
    write_length(e, -1, f->kind == KW_STRING && !f->is_array);
}

// A string made of two that clients sent (client id and uuid, a name in a sentence) can pass what
// the protocol carries. It is cut, at a whole character: nobody outside may stop the broker.
static inline size_t string_length(const struct str *s)
{
    if (s->len <= INT16_MAX)
        return (size_t)s->len;
    size_t len = INT16_MAX;
    while (len > 0 && ((unsigned char)s->ptr[len] & 0xc0) == 0x80)
        len--;
    return len;
}

static inline void encode_string(struct encoder *e, const struct kw_field *f, const struct str *s)
{
    if (s->len < 0) {
        CHECK(f->nullable >> e->version & 1);
        write_length(e, -1, true);
        return;
    }
    size_t len = string_length(s);
    write_length(e, (int64_t)len, true);
    writer_bytes(e->buf, s->ptr, len);
}

static void encode_bytes(struct encoder *e, const struct kw_field *f, const struct bytes *b)
{
    // A field that can be null is null when its pointer is; any other is empty then.
    if (!b->ptr && f->nullable >> e->version & 1) {
        write_length(e, -1, false);
        return;
    }
    CHECK(b->len <= INT32_MAX - 1 && (b->ptr || b->len == 0));
    write_length(e, (int64_t)b->len, false);
    writer_bytes(e->buf, b->ptr, b->len);
}

static void encode_records(struct encoder *e, const struct kw_field *f, const struct kw_records *r)
{
    if (r->len < 0) {
        write_null_length(e, f);
        return;
    }
    write_length(e, r->len, false);
    if (r->ptr)
        writer_bytes(e->buf, r->ptr, (size_t)r->len);
    else if (r->len > 0)
        add_splice(e->out, r);
}

static void encode_struct(struct encoder *e, const struct kw_struct *s, const void *from);

static void encode_value(struct encoder *e, const struct kw_field *f, const void *from)
{
    struct buf *b = e->buf;
    switch (f->kind) {
    case KW_BOOL:
        writer_u8(b, *(const bool *)from ? 1 : 0);
        return;
    case KW_I8:
        writer_i8(b, *(const int8_t *)from);
        return;
    case KW_I16:
    case KW_U16:
        writer_u16(b, *(const uint16_t *)from);
        return;
    case KW_I32:
    case KW_U32:
        writer_u32(b, *(const uint32_t *)from);
        return;
    case KW_I64:
        writer_i64(b, *(const int64_t *)from);
        return;
    case KW_F64: {
        uint64_t bits;
        memcpy(&bits, from, sizeof bits);
        writer_u64(b, bits);
        return;
    }
    case KW_UUID:
        memcpy(writer_room(b, sizeof(struct uuid)), from, sizeof(struct uuid));
        return;
    case KW_STRING:
        encode_string(e, f, from);
        return;
    case KW_BYTES:
        encode_bytes(e, f, from);
        return;
    case KW_RECORDS:
        encode_records(e, f, from);
        return;
    case KW_STRUCT:
        encode_struct(e, f->sub, from);
        return;
    default:
        UNREACHABLE();
    }
}

static void encode_array(struct encoder *e, const struct kw_field *f, const uint8_t *owner)
{
    const uint8_t *item = *(const uint8_t *const *)(const void *)(owner + f->offset);
    int32_t n = *(const int32_t *)(const void *)(owner + f->count_offset);
    if (n < 0) {
        write_null_length(e, f);
        return;
    }
    write_length(e, n, false);
    size_t size = f->kind == KW_STRUCT ? f->sub->size : kw_kind_size(f->kind);
    for (int32_t i = 0; i < n; i++, item += size)
        encode_value(e, f, item);
}

static void encode_field(struct encoder *e, const struct kw_field *f, const uint8_t *owner)
{
    if (f->is_array) {
        encode_array(e, f, owner);
    } else if (f->by_pointer) {
        const void *sub = *(const void *const *)(const void *)(owner + f->offset);
        CHECK(sub || f->nullable >> e->version & 1);
        writer_i8(e->buf, sub ? 1 : -1);
        if (sub)
            encode_struct(e, f->sub, sub);
    } else {
        encode_value(e, f, owner + f->offset);
    }
}

static bool tag_is_written(const struct encoder *e, const struct kw_field *f, const uint8_t *owner)
{
    return f->versions >> e->version & 1 && !kw_field_is_default(f, owner);
}

// The size stands before the field: one byte is left for it and more made when it needs more.
static void encode_tag(struct encoder *e, const struct kw_field *f, const uint8_t *owner)
{
    writer_uvarint(e->buf, (uint64_t)f->tag);
    size_t at = e->buf->len;
    size_t n_splices = e->out->n_splices;
    writer_u8(e->buf, 0);
    encode_field(e, f, owner);
    CHECK(e->out->n_splices == n_splices); // records are never tagged
    size_t size = e->buf->len - at - 1;
    size_t wide = writer_uvarint_size(size);
    if (wide > 1) {
        writer_room(e->buf, wide - 1);
        memmove(e->buf->ptr + at + wide, e->buf->ptr + at + 1, size);
    }
    writer_uvarint_at(e->buf->ptr + at, size);
}

// Most fields are numbers and strings: these do not leave encode_struct.
static inline void encode_fixed(struct encoder *e, uint8_t size, const uint8_t *from)
{
    uint8_t *to = writer_room(e->buf, size);
    if (size == 4) {
        uint32_t v;
        memcpy(&v, from, sizeof v);
        v = __builtin_bswap32(v);
        memcpy(to, &v, sizeof v);
    } else if (size == 8) {
        uint64_t v;
        memcpy(&v, from, sizeof v);
        v = __builtin_bswap64(v);
        memcpy(to, &v, sizeof v);
    } else if (size == 2) {
        uint16_t v;
        memcpy(&v, from, sizeof v);
        v = __builtin_bswap16(v);
        memcpy(to, &v, sizeof v);
    } else if (size == 1) {
        *to = *from;
    } else {
        memcpy(to, from, sizeof(struct uuid));
    }
}

static void encode_struct(struct encoder *e, const struct kw_struct *s, const void *from)
{
    const uint8_t *owner = from;
    for (size_t i = 0; i < s->n_plain; i++) {
        const struct kw_field *f = &s->fields[i];
        if (!(f->versions >> e->version & 1))
            continue;
        if (f->fixed)
            encode_fixed(e, f->fixed, owner + f->offset);
        else if (f->kind == KW_STRING && !f->is_array)
            encode_string(e, f, (const struct str *)(const void *)(owner + f->offset));
        else
            encode_field(e, f, owner);
    }
    if (!e->is_flexible)
        return;
    uint32_t count = 0;
    for (size_t i = s->n_plain; i < s->n_fields; i++)
        count += tag_is_written(e, &s->fields[i], owner);
    if (count == 0) {
        writer_u8(e->buf, 0);
        return;
    }
    writer_uvarint(e->buf, count);
    for (size_t i = s->n_plain; i < s->n_fields; i++)
        if (tag_is_written(e, &s->fields[i], owner))
            encode_tag(e, &s->fields[i], owner);
}

void kw_encode(const struct kw_message *m, int version, const void *msg, struct kw_out *out)
{
    CHECK(version >= m->min_version && version <= m->max_version);
    struct encoder e = {.out = out,
                        .buf = &out->buf,
                        .version = version,
                        .is_flexible = kw_is_flexible(m, version)};
    encode_struct(&e, m->body, msg);
}
