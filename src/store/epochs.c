#include "store/epochs.h"

#include "base/buf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_MAX_BYTES (1u << 20) // some 40000 epochs: unclean stops of the machine

void epochs_free(struct epochs *e)
{
    free(e->items);
    *e = (struct epochs){0};
}

void epochs_add(struct epochs *e, int32_t epoch, int64_t start, int64_t data_end)
{
    while (e->n && (e->items[e->n - 1].start >= data_end || e->items[e->n - 1].start >= start))
        e->n--;
    e->items = realloc(e->items, (e->n + 1) * sizeof *e->items);
    CHECK(e->items);
    e->items[e->n++] = (struct epoch_start){epoch, start};
}

int epochs_load(struct epochs *e, struct disk *d, const char *dir)
{
    struct arena *a = arena_new();
    struct bytes content;
    int r =
        disk_read_file(d, arena_printf(a, "%s/%s", dir, EPOCHS_FILE), FILE_MAX_BYTES, a, &content);
    if (r == 0) {
        const char *at = (const char *)content.ptr;
        int version = -1, used = 0;
        size_t n = 0;
        if (sscanf(at, "%d %zu %n", &version, &n, &used) != 2 || version != 0)
            r = -EBADMSG;
        for (size_t i = 0; i < n && r == 0; i++) {
            int32_t epoch;
            int64_t start;
            at += used;
            bool ok = sscanf(at, "%" SCNd32 " %" SCNd64 " %n", &epoch, &start, &used) == 2;
            const struct epoch_start *last = e->n ? &e->items[e->n - 1] : NULL;
            if (!ok || epoch < 0 || start < 0 ||
                (last && (last->epoch >= epoch || last->start >= start)))
                r = -EBADMSG;
            else
                epochs_add(e, epoch, start, start);
        }
        if (r == 0 && n == 0)
            r = -ENOENT;
    }
    arena_free(a);
    return r;
}

void epochs_text(const struct epochs *e, struct buf *ret_text)
{
    buf_printf(ret_text, "0\n%zu\n", e->n);
    for (size_t i = 0; i < e->n; i++)
        buf_printf(ret_text, "%" PRId32 " %" PRId64 "\n", e->items[i].epoch, e->items[i].start);
}

int epochs_store(const struct epochs *e, struct disk *d, const char *dir)
{
    struct buf b = {0};
    epochs_text(e, &b);
    int r = disk_replace_file(d, dir, EPOCHS_FILE, (struct bytes){b.ptr, b.len});
    buf_free(&b);
    return r;
}

bool epochs_begins_at(const struct epochs *e, int64_t offset)
{
    for (size_t i = 0; i < e->n; i++)
        if (e->items[i].start == offset)
            return true;
    return false;
}

void epochs_end(const struct epochs *e, int32_t epoch, int64_t log_start, int64_t log_end,
                int32_t *ret_epoch, int64_t *ret_end)
{
    // What lies wholly below the log start is forgotten; the oldest left begins there.
    size_t first = 0;
    while (first + 1 < e->n && e->items[first + 1].start <= log_start)
        first++;
    *ret_epoch = -1;
    *ret_end = -1;
    if (e->n == 0 || epoch < 0 || epoch > e->items[e->n - 1].epoch)
        return;
    if (epoch == e->items[e->n - 1].epoch) {
        *ret_epoch = epoch;
        *ret_end = log_end;
        return;
    }
    if (epoch < e->items[first].epoch) {
        *ret_epoch = epoch;
        *ret_end = e->items[first].start > log_start ? e->items[first].start : log_start;
        return;
    }
    size_t i = first;
    while (e->items[i + 1].epoch <= epoch)
        i++;
    *ret_epoch = e->items[i].epoch;
    *ret_end = e->items[i + 1].start;
}
