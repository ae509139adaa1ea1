#include "store/segment.h"

#include "store/log_private.h"
#include "wire/crc32c.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The crc of a batch is computed in pieces, so that a lying length costs no memory.
#define CRC_CHUNK_BYTES (128u << 10)

struct segment *segment_new(struct disk *d, struct files *files, const char *dir, int64_t base,
                            int64_t now_ms)
{
    struct segment *s = calloc(1, sizeof *s);
    CHECK(s);
    *s = (struct segment){.disk = d,
                          .files = files,
                          .dir = dir,
                          .base = base,
                          .end = base,
                          .max_timestamp_ms = -1,
                          .max_timestamp_offset = -1,
                          .first_timestamp_ms = -1,
                          .created_ms = now_ms,
                          .modified_ms = now_ms};
    list_init(&s->idle);
    return s;
}

void segment_forget_indexes(struct segment *s)
{
    s->n_offsets = s->n_times = 0;
    s->offsets_saved = s->times_saved = (struct index_saved){0};
    s->bytes_since_index = 0;
    s->max_timestamp_ms = s->max_timestamp_offset = s->first_timestamp_ms = -1;
    s->end = s->base;
}

static void drop_file(struct segment *s)
{
    if (!s->file)
        return;
    files_closing(s->files, s);
    disk_close(s->file);
    s->file = NULL;
}

void segment_close_file(struct segment *s)
{
    if (s->keeps_indexes)
        drop_file(s);
    else
        segment_shut(s);
}

void segment_shut(struct segment *s)
{
    drop_file(s);
    s->keeps_indexes = false;
    free(s->offsets);
    free(s->times);
    s->offsets = NULL;
    s->times = NULL;
    s->n_offsets = s->cap_offsets = s->n_times = s->cap_times = 0;
    s->offsets_saved = s->times_saved = (struct index_saved){0};
}

void segment_free(struct segment *s)
{
    if (!s)
        return;
    segment_shut(s);
    free(s->marks);
    free(s);
}

void segment_path(const struct segment *s, const char *suffix, char ret_path[SEGMENT_PATH_BYTES])
{
    snprintf(ret_path, SEGMENT_PATH_BYTES, "%s/%020" PRId64 ".%s%s", s->dir, s->base, suffix,
             s->suffix ? s->suffix : "");
}

static int open_file(struct segment *s, unsigned flags)
{
    CHECK(!s->file);
    char path[SEGMENT_PATH_BYTES];
    segment_path(s, "log", path);
    int r = files_room(s->files);
    if (r == 0)
        r = disk_open(s->disk, path, flags, &s->file);
    while (r == -EMFILE && files_give_back(s->files)) // connections took more than their part
        r = disk_open(s->disk, path, flags, &s->file);
    if (r == 0)
        files_opened(s->files, s);
    return r;
}

int segment_create(struct segment *s)
{
    int r = open_file(s, DISK_WRITE | DISK_CREATE);
    s->keeps_indexes = r == 0;
    return r;
}

int segment_open_file(struct segment *s, bool writable)
{
    int r = open_file(s, writable ? DISK_WRITE : DISK_READ);
    uint64_t size = 0;
    if (r == 0 && s->keeps_indexes)
        r = disk_size(s->file, &size);
    // Nobody but us may have changed it in between.
    if (r == 0 && s->keeps_indexes && size < s->size)
        r = -EBADMSG;
    if (r < 0)
        drop_file(s);
    return r;
}

void segment_add_offset(struct segment *s, uint32_t relative_offset, uint32_t position)
{
    if (s->n_offsets == s->cap_offsets) {
        s->cap_offsets = s->cap_offsets ? s->cap_offsets * 2 : 16;
        s->offsets = realloc(s->offsets, s->cap_offsets * sizeof *s->offsets);
        CHECK(s->offsets);
    }
    s->offsets[s->n_offsets++] = (struct offset_entry){relative_offset, position};
}

void segment_add_time(struct segment *s, int64_t timestamp_ms, uint32_t relative_offset)
{
    // Kafka's time index only ever rises.
    if (s->n_times && s->times[s->n_times - 1].timestamp_ms >= timestamp_ms)
        return;
    if (s->n_times == s->cap_times) {
        s->cap_times = s->cap_times ? s->cap_times * 2 : 16;
        s->times = realloc(s->times, s->cap_times * sizeof *s->times);
        CHECK(s->times);
    }
    s->times[s->n_times++] = (struct time_entry){timestamp_ms, relative_offset};
}

// Index and times of a batch at `pos`; shared by appending and rebuilding.
static void index_batch(struct segment *s, const struct batch_header *h, uint64_t pos,
                        int32_t index_interval_bytes)
{
    int64_t last = batch_header_end(h) - 1;
    if (pos == 0)
        s->first_timestamp_ms = h->max_timestamp_ms;
    if (h->max_timestamp_ms > s->max_timestamp_ms) {
        s->max_timestamp_ms = h->max_timestamp_ms;
        s->max_timestamp_offset = last;
    }
    if (s->bytes_since_index > (uint32_t)index_interval_bytes) {
        segment_add_offset(s, (uint32_t)(last - s->base), (uint32_t)pos);
        if (s->max_timestamp_ms >= 0)
            segment_add_time(s, s->max_timestamp_ms, (uint32_t)(s->max_timestamp_offset - s->base));
        s->bytes_since_index = 0;
    }
    s->bytes_since_index += h->bytes;
    s->end = last + 1;
}

void segment_add(struct segment *s, const struct batch_header *h, int32_t index_interval_bytes)
{
    index_batch(s, h, s->size, index_interval_bytes);
    s->size += h->bytes;
}

int segment_unlink(struct segment *s)
{
    static const char *const suffixes[] = {"index", "timeindex", "state", "log"};
    char path[SEGMENT_PATH_BYTES];
    int r = 0;
    for (size_t i = 0; i < 4 && (r == 0 || r == -ENOENT); i++) {
        segment_path(s, suffixes[i], path);
        r = disk_unlink(s->disk, path);
    }
    return r == -ENOENT ? 0 : r;
}

int segment_rebuild(struct segment *s, int32_t index_interval_bytes)
{
    struct walk w;
    int r;
    segment_forget_indexes(s);
    walk_start(&w, s, 0);
    while ((r = walk_read(&w)) > 0) {
        index_batch(s, &w.header, w.pos, index_interval_bytes);
        walk_next(&w);
    }
    return r;
}

int segment_open(struct segment *s, bool writable, int32_t index_interval_bytes)
{
    int r = open_file(s, writable ? DISK_WRITE : DISK_READ);
    if (r < 0)
        return r;
    r = disk_size(s->file, &s->size);
    bool is_known = r == 0 && segment_load_indexes(s);
    if (r == 0 && !is_known) {
        r = segment_rebuild(s, index_interval_bytes);
        s->was_rebuilt = true;
        // So that it need not be done again; where that fails it is.
        if (r == 0 && !writable)
            (void)(segment_seal_indexes(s) == 0);
    }
    if (r < 0)
        segment_shut(s);
    else
        s->is_loaded = true;
    s->keeps_indexes = r == 0 && writable;
    return r;
}

void walk_start(struct walk *w, struct segment *s, uint64_t pos)
{
    w->segment = s;
    w->pos = pos;
    w->chunk_len = 0;
}

int walk_read(struct walk *w)
{
    struct segment *s = w->segment;
    if (w->pos == s->size)
        return 0;
    if (w->pos > s->size || s->size - w->pos < BATCH_HEADER_BYTES)
        return -EBADMSG;
    bool is_in = w->chunk_len && w->pos >= w->chunk_pos &&
                 w->pos + BATCH_HEADER_BYTES <= w->chunk_pos + w->chunk_len;
    if (!is_in) {
        int r = disk_pread(s->file, w->chunk, sizeof w->chunk, w->pos, &w->chunk_len);
        if (r < 0)
            return r;
        if (w->chunk_len < BATCH_HEADER_BYTES)
            return -EBADMSG;
        w->chunk_pos = w->pos;
    }
    if (!batch_header_read(w->chunk + (w->pos - w->chunk_pos), &w->header) ||
        w->header.bytes > s->size - w->pos)
        return -EBADMSG;
    return 1;
}

int segment_find(struct segment *s, int64_t offset, struct walk *w)
{
    size_t low = 0, high = s->n_offsets;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (s->base + s->offsets[mid].relative_offset <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    walk_start(w, s, low ? s->offsets[low - 1].position : 0);
    int r;
    while ((r = walk_read(w)) > 0 && batch_header_end(&w->header) <= offset)
        walk_next(w);
    return r;
}

uint64_t segment_entry_before(const struct segment *s, uint64_t pos, int64_t upper_offset, size_t k)
{
    size_t low = 0, high = s->n_offsets;
    while (low < high) {
        size_t mid = (low + high) / 2;
        const struct offset_entry *e = &s->offsets[mid];
        if (e->position <= pos && s->base + e->relative_offset < upper_offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low > k ? s->offsets[low - 1 - k].position : 0;
}

uint64_t segment_time_position(const struct segment *s, int64_t timestamp_ms)
{
    int64_t offset = -1;
    for (size_t low = 0, high = s->n_times; low < high;) {
        size_t mid = (low + high) / 2;
        if (s->times[mid].timestamp_ms < timestamp_ms) {
            offset = s->times[mid].relative_offset;
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    size_t low = 0, high = s->n_offsets;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (s->offsets[mid].relative_offset <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low ? s->offsets[low - 1].position : 0;
}

int segment_batch_valid(struct window *w, uint64_t pos, struct batch_header *ret_header,
                        bool *ret_valid)
{
    const uint8_t *p;
    *ret_valid = false;
    int r = window_at(w, pos, BATCH_HEADER_BYTES, &p);
    if (r < 0 || !p)
        return r;
    struct batch_header h;
    if (!batch_header_read(p, &h) || h.bytes > w->size - pos)
        return 0;
    uint32_t crc = 0;
    for (uint64_t at = BATCH_CRC_START; at < h.bytes;) {
        size_t n = h.bytes - at < CRC_CHUNK_BYTES ? (size_t)(h.bytes - at) : CRC_CHUNK_BYTES;
        r = window_at(w, pos + at, n, &p);
        if (r < 0)
            return r;
        CHECK(p);
        crc = crc32c(crc, p, n);
        at += n;
    }
    *ret_header = h;
    *ret_valid = crc == h.crc;
    return 0;
}
