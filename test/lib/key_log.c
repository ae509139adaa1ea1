#include "key_log.h"

#include "base/siphash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void key_log_init(struct key_log *k, struct disk *d)
{
    *k = (struct key_log){.d = d, .now_ms = 1000000, .producer_id = -1};
    k->args = (struct log_open){.disk = k->d,
                                .dir = "/t-0",
                                .topic_id = {{7}},
                                .config = log_config_default,
                                .now_ms = k->now_ms};
    k->args.config.segment_bytes = 1000;
    k->args.config.compacts = true;
    k->args.config.retention_ms = -1;
    k->args.config.min_dirty_ratio = 0;
    k->args.config.delete_retention_ms = 1000;
}

void key_log_free(struct key_log *k)
{
    log_close(k->l);
    disk_free(k->d);
}

int key_log_try_open(struct key_log *k)
{
    int r = log_open(&k->args, &k->l, &k->report);
    if (r == 0)
        log_reserved(k->l, log_end(k->l) + 1000000);
    return r;
}

void key_log_open(struct key_log *k)
{
    int r = key_log_try_open(k);
    if (r < 0)
        printf("cannot be opened: %s\n", k->report.text);
    CHECK(r == 0);
}

int key_log_close(struct key_log *k)
{
    int r = log_close_clean(k->l, &k->mark);
    k->l = NULL;
    k->args.was_clean = r == 0;
    k->args.mark = r == 0 ? &k->mark : NULL;
    return r;
}

static int append_bytes(struct key_log *k, const struct buf *b)
{
    struct bytes in = {b->ptr, b->len};
    struct log_span span;
    size_t n;
    return log_append(k->l, &in, 1, k->now_ms, &span, &n);
}

int key_log_append(struct key_log *k, const char *records)
{
    struct batch_options o = batch_options_default;
    o.codec = (enum codec)k->codec;
    o.producer_id = k->producer_id;
    o.producer_epoch = k->producer_id < 0 ? -1 : 0;
    o.base_sequence = k->producer_id < 0 ? -1 : k->sequence;
    struct batch_builder builder = {0};
    batch_builder_start(&builder, &o);
    for (const char *at = records; *at;) {
        size_t len = strcspn(at, " ");
        const char *equals = memchr(at, '=', len);
        size_t key = equals ? (size_t)(equals - at) : len;
        struct bytes value = {NULL, 0};
        if (equals)
            value = (struct bytes){(const uint8_t *)equals + 1, len - key - 1};
        struct bytes name = {(const uint8_t *)at, key};
        if (key == 1 && *at == '-')
            name = (struct bytes){NULL, 0};
        batch_builder_add(&builder, k->now_ms, name, value, NULL, 0);
        k->sequence++;
        at += len + (at[len] == ' ');
    }
    struct buf b = {0};
    CHECK(batch_builder_finish(&builder, &b) == 0);
    batch_builder_free(&builder);
    int r = append_bytes(k, &b);
    buf_free(&b);
    return r;
}

int key_log_roll(struct key_log *k)
{
    struct log_config c = k->args.config;
    c.segment_bytes = 1;
    log_set_config(k->l, &c);
    int r = key_log_append(k, "roll=");
    log_set_config(k->l, &k->args.config);
    return r;
}

int key_log_clean(struct key_log *k, int64_t upper)
{
    static const struct siphash_key hash = {{1, 2}};
    double ratio;
    bool wants;
    int r = log_clean_look(k->l, k->now_ms, upper, &ratio, &wants);
    if (r < 0 || !wants)
        return r;
    struct log_clean_report report = {0};
    log_clean_begin(k->l, k->now_ms, upper, 1 << 20, &hash, 5);
    while (r == 0 && !report.is_over) {
        struct disk_done done;
        CHECK(disk_poll_done(k->d, &done) && done.cookie == 5);
        r = log_clean_done(k->l, done.error, &report);
    }
    if (r == 0 && report.text[0])
        printf("cleaning ended: %s\n", report.text);
    return r;
}

static void add_text(const struct batch *b, struct buf *out)
{
    struct buf scratch = {0};
    struct record_iter it;
    struct record rec;
    CHECK(batch_crc_matches(b) && record_iter_start(&it, b, &scratch) == 0);
    if (b->count == 0)
        buf_printf(out, "%s[%d]", out->len ? " " : "", (int)batch_last_offset(b));
    int r;
    while ((r = record_next(&it, &rec)) > 0)
        buf_printf(out, "%s%d:%.*s%s%.*s", out->len ? " " : "", (int)rec.offset, (int)rec.key.len,
                   (const char *)rec.key.ptr, rec.value.ptr ? "=" : "", (int)rec.value.len,
                   (const char *)rec.value.ptr);
    CHECK(r == 0);
    buf_free(&scratch);
}

void key_log_text(struct key_log *k, struct buf *out)
{
    int64_t at = log_start(k->l);
    buf_clear(out);
    for (;;) {
        struct log_slice s;
        int r = log_read(k->l, at, 1 << 20, log_end(k->l), true, &s);
        CHECK(r == 0);
        if (s.len == 0)
            break;
        uint8_t *data = malloc(s.len);
        CHECK(data && disk_pread_all(s.file, data, s.len, s.pos) == 0);
        struct bytes rest = {data, s.len};
        struct batch b;
        while (batch_next(&rest, &b) > 0)
            add_text(&b, out);
        CHECK(rest.len == 0 && s.end_offset > at);
        at = s.end_offset;
        free(data);
        log_slice_release(&s);
    }
    buf_add(out, "", 1);
}

const char *key_log_read(struct key_log *k)
{
    static struct buf text;
    key_log_text(k, &text);
    return (const char *)text.ptr;
}
