#include "store/segment.h"

#include "wire/crc32c.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The crc of a batch is computed in pieces, so that a lying length costs no memory.
#define CRC_CHUNK_BYTES (128u << 10)

struct segment *segment_new(struct disk *d, const char *dir, int64_t base, int64_t now_ms)
{
    struct segment *s = calloc(1, sizeof *s);
    CHECK(s);
    *s = (struct segment){.disk = d,
                          .dir = dir,
                          .base = base,
                          .end = base,
                          .max_timestamp_ms = -1,
                          .max_timestamp_offset = -1,
                          .first_timestamp_ms = -1,
                          .created_ms = now_ms,
                          .modified_ms = now_ms};
    return s;
}

void segment_forget_indexes(struct segment *s)
{
    s->n_offsets = s->n_times = 0;
    s->bytes_since_index = 0;
    s->max_timestamp_ms = s->max_timestamp_offset = s->first_timestamp_ms = -1;
    s->end = s->base;
}

void segment_shut(struct segment *s)
{
    disk_close(s->file);
    s->file = NULL;
    free(s->offsets);
    free(s->times);
    s->offsets = NULL;
    s->times = NULL;
    s->n_offsets = s->cap_offsets = s->n_times = s->cap_times = 0;
}

void segment_free(struct segment *s)
{
    if (!s)
        return;
    segment_shut(s);
    free(s);
}

void segment_path(const struct segment *s, const char *suffix, char ret_path[SEGMENT_PATH_BYTES])
{
    snprintf(ret_path, SEGMENT_PATH_BYTES, "%s/%020" PRId64 ".%s", s->dir, s->base, suffix);
}

int segment_create(struct segment *s)
{
    char path[SEGMENT_PATH_BYTES];
    segment_path(s, "log", path);
    return disk_open(s->disk, path, DISK_WRITE | DISK_CREATE, &s->file);
}

static void add_offset(struct segment *s, uint32_t relative_offset, uint32_t position)
{
    if (s->n_offsets == s->cap_offsets) {
        s->cap_offsets = s->cap_offsets ? s->cap_offsets * 2 : 16;
        s->offsets = realloc(s->offsets, s->cap_offsets * sizeof *s->offsets);
        CHECK(s->offsets);
    }
    s->offsets[s->n_offsets++] = (struct offset_entry){relative_offset, position};
}

static void add_time(struct segment *s, int64_t timestamp_ms, uint32_t relative_offset)
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
        add_offset(s, (uint32_t)(last - s->base), (uint32_t)pos);
        if (s->max_timestamp_ms >= 0)
            add_time(s, s->max_timestamp_ms, (uint32_t)(s->max_timestamp_offset - s->base));
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

static int write_file(struct segment *s, const char *suffix, const struct buf *content,
                      struct disk_file **ret_file)
{
    char path[SEGMENT_PATH_BYTES];
    segment_path(s, suffix, path);
    struct disk_file *f;
    int r = disk_open(s->disk, path, DISK_WRITE | DISK_CREATE, &f);
    if (r < 0)
        return r;
    r = disk_truncate(f, 0);
    if (r == 0 && content->len)
        r = disk_pwrite(f, content->ptr, content->len, 0);
    if (r < 0)
        disk_close(f);
    else
        *ret_file = f;
    return r;
}

int segment_write_indexes(struct segment *s, struct disk_file *ret_files[2])
{
    struct buf b = {0};
    // The last entry names the greatest timestamp of all: retention and lookups rely on it.
    if (s->max_timestamp_ms >= 0)
        add_time(s, s->max_timestamp_ms, (uint32_t)(s->max_timestamp_offset - s->base));
    for (size_t i = 0; i < s->n_offsets; i++) {
        uint8_t *p = buf_extend(&b, SEGMENT_OFFSET_ENTRY);
        pack_u32(p, s->offsets[i].relative_offset);
        pack_u32(p + 4, s->offsets[i].position);
    }
    struct disk_file *offsets_file, *times_file;
    int r = write_file(s, "index", &b, &offsets_file);
    if (r < 0) {
        buf_free(&b);
        return r;
    }
    buf_clear(&b);
    for (size_t i = 0; i < s->n_times; i++) {
        uint8_t *p = buf_extend(&b, SEGMENT_TIME_ENTRY);
        pack_u64(p, (uint64_t)s->times[i].timestamp_ms);
        pack_u32(p + 8, s->times[i].relative_offset);
    }
    r = write_file(s, "timeindex", &b, &times_file);
    buf_free(&b);
    if (r < 0) {
        disk_close(offsets_file);
        return r;
    }
    ret_files[0] = offsets_file;
    ret_files[1] = times_file;
    return 0;
}

int segment_write_indexes_durably(struct segment *s)
{
    struct disk_file *files[2];
    int r = segment_write_indexes(s, files);
    if (r < 0)
        return r;
    for (size_t i = 0; i < 2; i++) {
        if (r == 0)
            r = disk_sync(files[i]);
        disk_close(files[i]);
    }
    return r;
}

int segment_unlink(struct segment *s)
{
    static const char *const suffixes[] = {"index", "timeindex", "log"};
    char path[SEGMENT_PATH_BYTES];
    int r = 0;
    for (size_t i = 0; i < 3 && (r == 0 || r == -ENOENT); i++) {
        segment_path(s, suffixes[i], path);
        r = disk_unlink(s->disk, path);
    }
    return r == -ENOENT ? 0 : r;
}

static int read_index(struct segment *s, const char *suffix, struct arena *a,
                      struct bytes *ret_content)
{
    char path[SEGMENT_PATH_BYTES];
    segment_path(s, suffix, path);
    // No index is larger than one entry for each header that fits.
    return disk_read_file(s->disk, path, (size_t)(s->size / BATCH_HEADER_BYTES + 2) * 12, a,
                          ret_content);
}

// Loads both indexes; false when they do not fit the segment.
static bool load_indexes(struct segment *s, struct arena *a)
{
    struct bytes offsets, times;
    if (read_index(s, "index", a, &offsets) < 0 || read_index(s, "timeindex", a, &times) < 0)
        return false;
    if (offsets.len % SEGMENT_OFFSET_ENTRY || times.len % SEGMENT_TIME_ENTRY)
        return false;
    for (size_t i = 0; i < offsets.len; i += SEGMENT_OFFSET_ENTRY) {
        uint32_t relative = unpack_u32(offsets.ptr + i), pos = unpack_u32(offsets.ptr + i + 4);
        const struct offset_entry *last = s->n_offsets ? &s->offsets[s->n_offsets - 1] : NULL;
        if (pos >= s->size ||
            (last && (pos <= last->position || relative <= last->relative_offset)))
            return false;
        add_offset(s, relative, pos);
    }
    for (size_t i = 0; i < times.len; i += SEGMENT_TIME_ENTRY) {
        size_t before = s->n_times;
        add_time(s, (int64_t)unpack_u64(times.ptr + i), unpack_u32(times.ptr + i + 8));
        if (s->n_times == before)
            return false;
    }
    if (s->size > 0 && s->n_times == 0)
        return false;
    if (s->n_times) {
        s->max_timestamp_ms = s->times[s->n_times - 1].timestamp_ms;
        s->max_timestamp_offset = s->base + s->times[s->n_times - 1].relative_offset;
    }
    return true;
}

// The end and first timestamp of a segment whose indexes were loaded.
static int find_end(struct segment *s)
{
    struct walk w;
    walk_start(&w, s, 0);
    int r = walk_read(&w);
    if (r <= 0)
        return r;
    s->first_timestamp_ms = w.header.max_timestamp_ms;
    walk_start(&w, s, segment_entry_before(s, s->size, INT64_MAX, 0));
    uint64_t from = w.pos;
    while ((r = walk_read(&w)) > 0) {
        s->end = batch_header_end(&w.header);
        walk_next(&w);
    }
    s->bytes_since_index = (uint32_t)(s->size - from);
    return r;
}

static int rebuild(struct segment *s, int32_t index_interval_bytes)
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
    char path[SEGMENT_PATH_BYTES];
    segment_path(s, "log", path);
    int r = disk_open(s->disk, path, writable ? DISK_WRITE : DISK_READ, &s->file);
    if (r < 0)
        return r;
    r = disk_size(s->file, &s->size);
    struct arena *a = arena_new();
    segment_forget_indexes(s);
    if (r == 0)
        r = load_indexes(s, a) ? find_end(s) : rebuild(s, index_interval_bytes);
    arena_free(a);
    if (r < 0)
        segment_shut(s);
    else
        s->is_loaded = true;
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
