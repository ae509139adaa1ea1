#include "store/log_private.h"

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
    struct log_batch o;
    struct record rec;
    int r = log_batch_read(&o, s, w);
    while (r == 0 && (r = record_next(&o.it, &rec)) > 0) {
        r = 0;
        if (rec.offset < want->from_offset || rec.timestamp_ms < want->timestamp_ms)
            continue;
        want->ret_offset = rec.offset;
        want->ret_timestamp_ms = rec.timestamp_ms;
        break;
    }
    log_batch_free(&o);
    return r < 0 ? r : 0;
}

// The greatest time of a segment's records from the log start on, when it begins before that.
static int max_after_start(const struct log *l, struct segment *s, int64_t *ret_ms)
{
    struct walk w;
    int64_t max = -1;
    int r;
    for (r = segment_find(s, l->start, &w); r > 0; walk_next(&w), r = walk_read(&w)) {
        if (w.header.base_offset >= l->start) {
            max = w.header.max_timestamp_ms > max ? w.header.max_timestamp_ms : max;
            continue;
        }
        struct log_batch o;
        struct record rec;
        r = log_batch_read(&o, s, &w);
        while (r == 0 && (r = record_next(&o.it, &rec)) > 0) {
            r = 0;
            if (rec.offset >= l->start && rec.timestamp_ms > max)
                max = rec.timestamp_ms;
        }
        log_batch_free(&o);
        if (r < 0)
            break;
    }
    if (r == 0)
        *ret_ms = max;
    return r;
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

void log_batch_free(struct log_batch *b)
{
    buf_free(&b->scratch);
    free(b->data);
}

int log_batch_read(struct log_batch *b, struct segment *s, const struct walk *w)
{
    // The batch was written by us within message.max.bytes; its length was checked by the walk.
    *b = (struct log_batch){.data = malloc(w->header.bytes)};
    CHECK(b->data);
    struct batch batch;
    int r = disk_pread_all(s->file, b->data, w->header.bytes, w->pos);
    if (r == 0)
        r = batch_read((struct bytes){b->data, w->header.bytes}, &batch);
    return r == 0 ? record_iter_start(&b->it, &batch, &b->scratch) : r;
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
    int64_t best_ms = -1;
    for (size_t i = 0; i < l->n_segments; i++) {
        struct segment *s = l->segments[i];
        bool is_cut = s->base < l->start;
        int r = s->is_loaded && !is_cut ? 0 : log_segment_ready(l, s);
        if (r < 0)
            return r;
        int64_t ms = s->size > 0 && s->end > l->start ? s->max_timestamp_ms : -1;
        if (is_cut && ms > best_ms)
            r = max_after_start(l, s, &ms);
        if (r < 0)
            return r;
        best_ms = ms > best_ms ? ms : best_ms;
    }
    *ret_offset = -1;
    *ret_timestamp_ms = -1;
    return best_ms < 0 ? 0 : log_find_time(l, best_ms, l->end, ret_offset, ret_timestamp_ms);
}
