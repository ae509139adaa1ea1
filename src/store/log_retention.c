#include "store/log_private.h"

void log_trim(struct log *l, int64_t offset)
{
    CHECK(offset <= l->end);
    if (offset <= l->start)
        return;
    l->start = offset;
}

static bool is_expired(const struct log *l, const struct segment *s, int64_t now_ms)
{
    // Records without a timestamp age from when the last of them was written.
    int64_t newest_ms = s->max_timestamp_ms >= 0 ? s->max_timestamp_ms : s->modified_ms;
    return l->config.retention_ms >= 0 && now_ms - newest_ms > l->config.retention_ms;
}

// Whether the i-th segment goes, once those before it have gone. bytes: from it on.
static bool must_go(const struct log *l, size_t i, uint64_t bytes, int64_t now_ms,
                    int64_t upper_offset)
{
    const struct segment *s = l->segments[i];
    bool is_active = i + 1 == l->n_segments;
    int64_t end = is_active ? l->end : l->segments[i + 1]->base;
    if (!is_active && end <= l->start)
        return true;
    // The active segment goes only as a whole, and a new one takes over.
    if (end > upper_offset || (is_active && s->size == 0))
        return false;
    int64_t keep = l->config.retention_bytes;
    bool is_surplus = keep >= 0 && bytes >= (uint64_t)keep + s->size;
    return is_surplus || is_expired(l, s, now_ms);
}

int log_retain_look(struct log *l, int64_t now_ms, int64_t upper_offset, int64_t *ret_start)
{
    *ret_start = l->start;
    uint64_t bytes = log_bytes(l);
    for (size_t i = 0; i < l->n_segments && !l->cleaning && !l->broken; i++) {
        struct segment *s = l->segments[i];
        int r = s->is_loaded ? 0 : log_segment_ready(l, s);
        if (r < 0)
            return r;
        if (!must_go(l, i, bytes, now_ms, upper_offset))
            break;
        bytes -= s->size;
        int64_t end = i + 1 == l->n_segments ? l->end : l->segments[i + 1]->base;
        *ret_start = end > *ret_start ? end : *ret_start;
    }
    return l->broken;
}

// Removes the oldest segment. One after the other and each durably, so that a crash never leaves a
// hole in the middle; and what goes is known to have been durable, so that recovery can tell a
// segment that retention removed from one that the power took.
static int remove_first(struct log *l)
{
    struct segment *s = l->segments[0];
    int64_t next = l->segments[1]->base;
    int r = l->synced < next ? log_sync(l) : 0;
    if (r == 0 && l->durable_point < next)
        r = log_write_durable_point(l);
    if (r == 0)
        r = log_open_dir(l);
    if (log_is_want(r))
        return r;
    if (r == 0)
        r = segment_unlink(s);
    if (r == 0)
        r = disk_sync(l->dir_file);
    if (r < 0)
        return log_break(l, r);
    if (!l->dir_changed && !l->dir_syncing) {
        disk_close(l->dir_file);
        l->dir_file = NULL;
    }
    segment_free(s);
    l->n_segments--;
    for (size_t i = 0; i < l->n_segments; i++)
        l->segments[i] = l->segments[i + 1];
    if (l->start < l->segments[0]->base)
        l->start = l->segments[0]->base;
    return 0;
}

int log_retain(struct log *l, int64_t now_ms, int64_t upper_offset, bool *ret_start_moved)
{
    if (l->broken)
        return l->broken;
    int64_t start = l->start;
    *ret_start_moved = false;
    producer_state_expire(l->producers, now_ms, l->config.producer_expiration_ms);
    while (!l->cleaning) {
        struct segment *s = l->segments[0];
        bool is_active = l->n_segments == 1;
        int r = s->is_loaded ? 0 : log_segment_ready(l, s);
        if (r < 0)
            return r;
        if (!must_go(l, 0, log_bytes(l), now_ms, upper_offset))
            break;
        if (is_active)
            r = log_roll(l, now_ms);
        if (r == 0 && is_active)
            r = log_sync(l);
        if (r == 0)
            r = remove_first(l);
        *ret_start_moved = l->start != start;
        if (r < 0)
            return r;
    }
    return 0;
}

int64_t log_retain_due_ms(const struct log *l)
{
    const struct segment *s = l->segments[0];
    if (l->config.retention_ms < 0 || s->size == 0)
        return INT64_MAX;
    int64_t newest_ms =
        s->is_loaded && s->max_timestamp_ms >= 0 ? s->max_timestamp_ms : s->modified_ms;
    return newest_ms > INT64_MAX - 1 - l->config.retention_ms
               ? INT64_MAX
               : newest_ms + l->config.retention_ms + 1;
}
