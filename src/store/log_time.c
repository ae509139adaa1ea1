#include "store/log_private.h"

#include "wire/batch.h"

#include <errno.h>
#include <stdlib.h>

// Looking for records by time: the indexes name the batch, the batch is read for the record.

struct wanted {
    int64_t from_offset;  // records below are gone
    int64_t timestamp_ms; // at or after
    int64_t ret_offset;   // -1: not in this batch
    int64_t ret_timestamp_ms;
};

static int find_in_batch(struct segment *s, const struct walk *w, struct wanted *want)
{
    // The batch was written by us within message.max.bytes; its length was checked by the walk.
    uint8_t *data = malloc(w->header.bytes);
    CHECK(data);
    struct buf scratch = {0};
    struct batch b;
    struct record_iter it;
    struct record rec;
    int r = disk_pread_all(s->file, data, w->header.bytes, w->pos);
    if (r == 0)
        r = batch_read((struct bytes){data, w->header.bytes}, &b);
    if (r == 0)
        r = record_iter_start(&it, &b, &scratch);
    while (r == 0 && (r = record_next(&it, &rec)) > 0) {
        r = 0;
        if (rec.offset < want->from_offset || rec.timestamp_ms < want->timestamp_ms)
            continue;
        want->ret_offset = rec.offset;
        want->ret_timestamp_ms = rec.timestamp_ms;
        break;
    }
    buf_free(&scratch);
    free(data);
    return r < 0 ? r : 0;
}

static int find_in_segment(struct log *l, struct segment *s, int64_t upper_offset,
                           struct wanted *want)
{
    struct walk w;
    int r;
    walk_start(&w, s, segment_time_position(s, want->timestamp_ms));
    for (; (r = walk_read(&w)) > 0 && w.header.base_offset < upper_offset; walk_next(&w)) {
        if (w.header.max_timestamp_ms < want->timestamp_ms ||
            batch_header_end(&w.header) <= l->start)
            continue;
        r = find_in_batch(s, &w, want);
        if (r < 0 || want->ret_offset >= 0)
            return r;
    }
    return r < 0 ? r : 0;
}

int log_find_time(struct log *l, int64_t timestamp_ms, int64_t upper_offset, int64_t *ret_offset,
                  int64_t *ret_timestamp_ms)
{
    struct wanted want = {.from_offset = l->start,
                          .timestamp_ms = timestamp_ms,
                          .ret_offset = -1,
                          .ret_timestamp_ms = -1};
    for (size_t i = 0; i < l->n_segments && want.ret_offset < 0; i++) {
        struct segment *s = l->segments[i];
        if (s->base >= upper_offset)
            break;
        if (s->is_loaded && s->max_timestamp_ms < timestamp_ms)
            continue;
        int r = log_segment_ready(l, s);
        if (r == 0 && s->max_timestamp_ms >= timestamp_ms)
            r = find_in_segment(l, s, upper_offset, &want);
        if (r < 0)
            return r;
    }
    bool is_found = want.ret_offset >= 0 && want.ret_offset < upper_offset;
    *ret_offset = is_found ? want.ret_offset : -1;
    *ret_timestamp_ms = is_found ? want.ret_timestamp_ms : -1;
    return 0;
}

int log_find_max_time(struct log *l, int64_t *ret_offset, int64_t *ret_timestamp_ms)
{
    struct segment *best = NULL;
    for (size_t i = 0; i < l->n_segments; i++) {
        struct segment *s = l->segments[i];
        int r = s->is_loaded ? 0 : log_segment_ready(l, s);
        if (r < 0)
            return r;
        if (s->size > 0 && s->end > l->start &&
            (!best || s->max_timestamp_ms > best->max_timestamp_ms))
            best = s;
    }
    *ret_offset = -1;
    *ret_timestamp_ms = -1;
    if (!best || best->max_timestamp_ms < 0)
        return 0;
    return log_find_time(l, best->max_timestamp_ms, l->end, ret_offset, ret_timestamp_ms);
}
