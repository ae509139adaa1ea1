// How far a log is known to be good, so that recovery reads only what came after: offsets that are
// durable, and the state of the active segment with its index files so far. Nothing here is synced:
// what a crash leaves of it fits together, or it is passed over.
#include "store/log_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CHECKPOINT_FILE "checkpoint"
#define TEXT_MAX_BYTES 4096

static int write_file(struct log *l)
{
    struct buf text = {0};
    buf_printf(&text, "checkpoint\ndurable %" PRId64 "\n", l->synced);
    segment_state_text(log_active(l), &text);
    text_end_with_crc(&text);
    int r = log_write_lazily(l, CHECKPOINT_FILE, &text);
    buf_free(&text);
    if (r == 0)
        l->recovery_point = l->synced;
    return r;
}

int log_write_durable_point(struct log *l)
{
    struct buf text = {0};
    buf_printf(&text, "recovery point\n%" PRId64 "\n", l->synced);
    text_end_with_crc(&text);
    int r = disk_replace_file(l->disk, l->dir, POINT_FILE, (struct bytes){text.ptr, text.len});
    buf_free(&text);
    if (r == 0)
        l->durable_point = l->synced;
    return r;
}

bool log_checkpoint_due(const struct log *l)
{
    const struct segment_state *c = &l->checkpoint;
    const struct segment *s = log_active(l);
    return c->base != s->base || c->end != s->end || l->recovery_point < l->synced;
}

uint64_t log_unchecked_bytes(const struct log *l)
{
    const struct segment *s = log_active(l);
    return l->checkpoint.base == s->base ? s->size - l->checkpoint.bytes : s->size;
}

int log_write_checkpoint(struct log *l)
{
    if (l->broken)
        return l->broken;
    struct segment *s = log_active(l);
    int r = segment_save_indexes(s);
    if (r == 0)
        r = log_write_producers(l);
    if (r == 0)
        r = write_file(l);
    if (r < 0)
        return r;
    l->checkpoint = (struct segment_state){.base = s->base, .end = s->end, .bytes = s->size};
    return 0;
}

bool log_read_checkpoint(struct log *l, struct log_checkpoint *ret)
{
    char path[SEGMENT_PATH_BYTES];
    log_path(l, CHECKPOINT_FILE, path);
    struct arena *a = arena_new();
    struct bytes text;
    struct log_checkpoint c = {0};
    int used = 0;
    bool is_good =
        disk_read_file(l->disk, path, TEXT_MAX_BYTES, a, &text) == 0 && text_crc_fits(text) &&
        sscanf((const char *)text.ptr, "checkpoint\ndurable %" SCNd64 " %n", &c.durable, &used) ==
            1 &&
        segment_state_parse((const char *)text.ptr + used, &c.active);
    arena_free(a);
    if (is_good)
        *ret = c;
    return is_good;
}

int64_t log_read_durable_point(struct log *l)
{
    char path[SEGMENT_PATH_BYTES];
    log_path(l, POINT_FILE, path);
    struct arena *a = arena_new();
    struct bytes text;
    int64_t point = 0;
    int r = disk_read_file(l->disk, path, TEXT_MAX_BYTES, a, &text);
    if (r != -ENOENT && (r < 0 || !text_crc_fits(text) ||
                         sscanf((const char *)text.ptr, "recovery point\n%" SCNd64, &point) != 1))
        point = -1;
    arena_free(a);
    return point;
}
