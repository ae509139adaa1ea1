// What the tables say without bytes: defaults, comparing, printing, finding.

#include "wire/codec.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "wire/table.h"

// Bytes of an opaque field that kw_print shows; more is cut, the length is always given.
#define PRINTED_BYTES_MAX ((size_t)16)

size_t kw_kind_size(uint8_t kind)
{
    static const uint8_t sizes[] = {
        [KW_BOOL] = sizeof(bool),
        [KW_I8] = 1,
        [KW_I16] = 2,
        [KW_I32] = 4,
        [KW_I64] = 8,
        [KW_U16] = 2,
        [KW_U32] = 4,
        [KW_F64] = 8,
        [KW_UUID] = sizeof(struct uuid),
        [KW_STRING] = sizeof(struct str),
        [KW_BYTES] = sizeof(struct bytes),
        [KW_RECORDS] = sizeof(struct kw_records),
    };
    CHECK(kind < KW_STRUCT);
    return sizes[kind];
}

static struct str default_str(const struct kw_field *f)
{
    return f->default_null ? STR_NULL : f->default_text ? str_from(f->default_text) : STR_EMPTY;
}

static void set_number(uint8_t kind, int64_t n, void *to)
{
    if (kind == KW_BOOL) {
        *(bool *)to = n != 0;
    } else if (kind == KW_F64) {
        *(double *)to = (double)n;
    } else if (kind == KW_UUID) {
        *(struct uuid *)to = (struct uuid){0};
    } else { // The low bytes, whatever the width: little-endian machines only, as all of wire/.
        memcpy(to, &n, kw_kind_size(kind));
    }
}

void kw_field_set_default(const struct kw_field *f, void *owner)
{
    uint8_t *to = (uint8_t *)owner + f->offset;
    if (f->is_array) {
        *(void **)(void *)to = NULL;
        *(int32_t *)(void *)((uint8_t *)owner + f->count_offset) = f->default_null ? -1 : 0;
    } else if (f->kind == KW_STRING) {
        *(struct str *)(void *)to = default_str(f);
    } else if (f->kind == KW_BYTES) {
        *(struct bytes *)(void *)to =
            (struct bytes){f->default_null || !f->nullable ? NULL : (const uint8_t *)"", 0};
    } else if (f->kind == KW_RECORDS) {
        *(struct kw_records *)(void *)to = (struct kw_records){.len = f->default_null ? -1 : 0};
    } else if (f->by_pointer) {
        *(void **)(void *)to = NULL;
    } else if (f->kind == KW_STRUCT) {
        kw_struct_init(f->sub, to);
    } else {
        set_number(f->kind, f->default_number, to);
    }
}

void kw_struct_init(const struct kw_struct *s, void *ret)
{
    memset(ret, 0, s->size);
    for (size_t i = 0; i < s->n_fields; i++)
        if (s->fields[i].has_default)
            kw_field_set_default(&s->fields[i], ret);
}

void kw_init(const struct kw_message *m, void *msg)
{
    kw_struct_init(m->body, msg);
}

size_t kw_size_in_memory(const struct kw_message *m)
{
    return m->body->size;
}

static int32_t array_count(const struct kw_field *f, const void *owner)
{
    return *(const int32_t *)(const void *)((const uint8_t *)owner + f->count_offset);
}

static const uint8_t *array_items(const struct kw_field *f, const void *owner)
{
    return *(const uint8_t *const *)(const void *)((const uint8_t *)owner + f->offset);
}

static bool struct_is_default(const struct kw_struct *s, const void *from)
{
    for (size_t i = 0; i < s->n_fields; i++)
        if (!kw_field_is_default(&s->fields[i], from))
            return false;
    return true;
}

bool kw_field_is_default(const struct kw_field *f, const void *owner)
{
    const void *at = (const uint8_t *)owner + f->offset;
    if (f->fixed && f->fixed <= sizeof f->default_number)
        return memcmp(at, &f->default_number, f->fixed) == 0;
    if (f->is_array)
        return array_count(f, owner) == (f->default_null ? -1 : 0);
    switch (f->kind) {
    case KW_STRING:
        return str_eq(*(const struct str *)at, default_str(f));
    case KW_BYTES: {
        const struct bytes *b = at;
        return b->len == 0 && (!f->nullable || !b->ptr == f->default_null);
    }
    case KW_RECORDS:
        return ((const struct kw_records *)at)->len == (f->default_null ? -1 : 0);
    case KW_STRUCT:
        return f->by_pointer ? *(const void *const *)at == NULL : struct_is_default(f->sub, at);
    default: {
        uint8_t fresh[sizeof(struct uuid)] = {0};
        set_number(f->kind, f->default_number, fresh);
        return memcmp(at, fresh, kw_kind_size(f->kind)) == 0;
    }
    }
}

// ---- comparing

static bool struct_equal(const struct kw_struct *s, int version, const void *a, const void *b,
                         const char **ret_why);

static bool value_equal(const struct kw_field *f, int version, const void *a, const void *b,
                        const char **ret_why)
{
    switch (f->kind) {
    case KW_STRING:
        return str_eq(*(const struct str *)a, *(const struct str *)b);
    case KW_BYTES: {
        const struct bytes *x = a, *y = b;
        bool can_be_null = f->nullable >> version & 1;
        return (!can_be_null || !x->ptr == !y->ptr) && x->len == y->len &&
               (x->len == 0 || memcmp(x->ptr, y->ptr, x->len) == 0);
    }
    case KW_RECORDS: {
        const struct kw_records *x = a, *y = b;
        if (x->len != y->len || x->file != y->file || x->file_pos != y->file_pos)
            return false;
        return x->len <= 0 || !x->ptr || (y->ptr && !memcmp(x->ptr, y->ptr, (size_t)x->len));
    }
    case KW_STRUCT:
        return struct_equal(f->sub, version, a, b, ret_why);
    default:
        return memcmp(a, b, kw_kind_size(f->kind)) == 0;
    }
}

static bool field_equal(const struct kw_field *f, int version, const void *a, const void *b,
                        const char **ret_why)
{
    if (f->is_array) {
        int32_t n = array_count(f, a);
        const uint8_t *x = array_items(f, a), *y = array_items(f, b);
        if (n != array_count(f, b))
            return false;
        size_t size = f->kind == KW_STRUCT ? f->sub->size : kw_kind_size(f->kind);
        for (int32_t i = 0; i < n; i++, x += size, y += size)
            if (!value_equal(f, version, x, y, ret_why))
                return false;
        return true;
    }
    const void *x = (const uint8_t *)a + f->offset, *y = (const uint8_t *)b + f->offset;
    if (f->by_pointer) {
        x = *(const void *const *)x;
        y = *(const void *const *)y;
        if (!x || !y)
            return x == y;
    }
    return value_equal(f, version, x, y, ret_why);
}

static bool struct_equal(const struct kw_struct *s, int version, const void *a, const void *b,
                         const char **ret_why)
{
    for (size_t i = 0; i < s->n_fields; i++) {
        const struct kw_field *f = &s->fields[i];
        if (!(f->versions >> version & 1) || field_equal(f, version, a, b, ret_why))
            continue;
        if (ret_why && !*ret_why)
            *ret_why = f->name;
        return false;
    }
    return true;
}

bool kw_equal(const struct kw_message *m, int version, const void *a, const void *b,
              const char **ret_why)
{
    const char *why = NULL;
    bool same = struct_equal(m->body, version, a, b, &why);
    if (!same && ret_why)
        *ret_why = why;
    return same;
}

// ---- printing

static void print_bytes(const uint8_t *p, size_t len, struct buf *out)
{
    buf_printf(out, "%zu bytes", len);
    for (size_t i = 0; i < len && i < PRINTED_BYTES_MAX; i++)
        buf_printf(out, "%s%02x", i == 0 ? " " : "", p[i]);
    if (len > PRINTED_BYTES_MAX)
        buf_printf(out, "...");
}

// Control characters and quotes are escaped: a client's string must not forge a log line.
static void print_string(struct str s, struct buf *out)
{
    if (s.len < 0) {
        buf_printf(out, "null");
        return;
    }
    buf_printf(out, "\"");
    for (int32_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c < 0x20 || c == 0x7f)
            buf_printf(out, "\\x%02x", c);
        else if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else
            buf_add(out, &c, 1);
    }
    buf_printf(out, "\"");
}

static void print_struct(const struct kw_struct *s, int version, const void *from, struct buf *out);

static void print_number(uint8_t kind, const void *from, struct buf *out)
{
    switch (kind) {
    case KW_BOOL:
        buf_printf(out, "%s", *(const bool *)from ? "true" : "false");
        break;
    case KW_I8:
        buf_printf(out, "%d", *(const int8_t *)from);
        break;
    case KW_I16:
        buf_printf(out, "%d", *(const int16_t *)from);
        break;
    case KW_I32:
        buf_printf(out, "%" PRId32, *(const int32_t *)from);
        break;
    case KW_I64:
        buf_printf(out, "%" PRId64, *(const int64_t *)from);
        break;
    case KW_U16:
        buf_printf(out, "%u", *(const uint16_t *)from);
        break;
    case KW_U32:
        buf_printf(out, "%" PRIu32, *(const uint32_t *)from);
        break;
    case KW_F64:
        buf_printf(out, "%g", *(const double *)from);
        break;
    default:
        UNREACHABLE();
    }
}

static void print_value(const struct kw_field *f, int version, const void *from, struct buf *out)
{
    switch (f->kind) {
    case KW_UUID: {
        char text[23];
        uuid_text(*(const struct uuid *)from, text);
        buf_printf(out, "%s", text);
        break;
    }
    case KW_STRING:
        print_string(*(const struct str *)from, out);
        break;
    case KW_BYTES: {
        const struct bytes *b = from;
        if (!b->ptr && f->nullable >> version & 1)
            buf_printf(out, "null");
        else
            print_bytes(b->ptr, b->len, out);
        break;
    }
    case KW_RECORDS: {
        const struct kw_records *r = from;
        buf_printf(out, r->len < 0 ? "null" : "%" PRId32 " bytes", r->len);
        break;
    }
    case KW_STRUCT:
        print_struct(f->sub, version, from, out);
        break;
    default:
        print_number(f->kind, from, out);
    }
}

static void print_field(const struct kw_field *f, int version, const void *owner, struct buf *out)
{
    const void *at = (const uint8_t *)owner + f->offset;
    if (f->is_array) {
        int32_t n = array_count(f, owner);
        const uint8_t *item = array_items(f, owner);
        size_t size = f->kind == KW_STRUCT ? f->sub->size : kw_kind_size(f->kind);
        buf_printf(out, n < 0 ? "null" : "[");
        for (int32_t i = 0; i < n; i++, item += size) {
            if (i > 0)
                buf_printf(out, " ");
            print_value(f, version, item, out);
        }
        if (n >= 0)
            buf_printf(out, "]");
        return;
    }
    if (f->by_pointer) {
        at = *(const void *const *)at;
        if (!at) {
            buf_printf(out, "null");
            return;
        }
    }
    print_value(f, version, at, out);
}

// Tagged fields that hold their default are left out, as they are on the wire.
static void print_struct(const struct kw_struct *s, int version, const void *from, struct buf *out)
{
    const char *gap = "";
    buf_printf(out, "{");
    for (size_t i = 0; i < s->n_fields; i++) {
        const struct kw_field *f = &s->fields[i];
        if (!(f->versions >> version & 1) || (f->tag >= 0 && kw_field_is_default(f, from)))
            continue;
        buf_printf(out, "%s%s=", gap, f->name);
        print_field(f, version, from, out);
        gap = " ";
    }
    buf_printf(out, "}");
}

void kw_print(const struct kw_message *m, int version, const void *msg, struct buf *out)
{
    print_struct(m->body, version, msg, out);
}

// ---- finding

const struct kw_api *kw_api_at(size_t index)
{
    return index < kw_n_apis ? &kw_apis[index] : NULL;
}

const struct kw_api *kw_api(int16_t key)
{
    size_t low = 0, high = kw_n_apis;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (kw_apis[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < kw_n_apis && kw_apis[low].key == key ? &kw_apis[low] : NULL;
}

const struct kw_message *kw_record_type_at(size_t index)
{
    return index < kw_n_record_types ? kw_record_types[index] : NULL;
}

const struct kw_message *kw_record_type(int16_t type)
{
    for (size_t i = 0; i < kw_n_record_types; i++)
        if (kw_record_types[i]->key == type)
            return kw_record_types[i];
    return NULL;
}
