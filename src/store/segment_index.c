// The index files of a segment, in Kafka's format, and beside them what they should hold: an index
// that is damaged would hide records. None of them needs to be durable.
#include "store/log_private.h"
#include "wire/crc32c.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define STATE_MAX_BYTES 4096

void segment_state_text(const struct segment *s, struct buf *ret_text)
{
    buf_printf(ret_text,
               "segment %" PRId64 " end %" PRId64 " bytes %" PRIu64 " since %" PRIu32 "\n", s->base,
               s->end, s->size, s->bytes_since_index);
    buf_printf(ret_text, "first time %" PRId64 " greatest %" PRId64 " at %" PRId64 "\n",
               s->first_timestamp_ms, s->max_timestamp_ms, s->max_timestamp_offset);
    buf_printf(ret_text, "index %zu %08" PRIx32 " timeindex %zu %08" PRIx32 "\n",
               s->offsets_saved.n, s->offsets_saved.crc, s->times_saved.n, s->times_saved.crc);
}

bool segment_state_parse(const char *text, struct segment_state *ret)
{
    return sscanf(text,
                  "segment %" SCNd64 " end %" SCNd64 " bytes %" SCNu64 " since %" SCNu32
                  "\nfirst time %" SCNd64 " greatest %" SCNd64 " at %" SCNd64 "\nindex %zu %" SCNx32
                  " timeindex %zu %" SCNx32,
                  &ret->base, &ret->end, &ret->bytes, &ret->since_index, &ret->first_ms,
                  &ret->greatest_ms, &ret->greatest_offset, &ret->offsets.n, &ret->offsets.crc,
                  &ret->times.n, &ret->times.crc) == 11;
}

static void encode_offsets(const struct segment *s, size_t from, struct buf *b)
{
    for (size_t i = from; i < s->n_offsets; i++) {
        uint8_t *p = buf_extend(b, SEGMENT_OFFSET_ENTRY);
        pack_u32(p, s->offsets[i].relative_offset);
        pack_u32(p + 4, s->offsets[i].position);
    }
}

static void encode_times(const struct segment *s, size_t from, struct buf *b)
{
    for (size_t i = from; i < s->n_times; i++) {
        uint8_t *p = buf_extend(b, SEGMENT_TIME_ENTRY);
        pack_u64(p, (uint64_t)s->times[i].timestamp_ms);
        pack_u32(p + 8, s->times[i].relative_offset);
    }
}

// Appends the entries in b behind those saved; what else the file holds is of another life.
static int save_index(struct segment *s, const char *suffix, size_t entry_bytes,
                      const struct buf *b, struct index_saved *saved)
{
    if (b->len == 0 && saved->n > 0)
        return 0;
    char path[SEGMENT_PATH_BYTES];
    segment_path(s, suffix, path);
    struct disk_file *f;
    int r = disk_open(s->disk, path, DISK_WRITE | DISK_CREATE, &f);
    if (r < 0)
        return r;
    if (b->len > 0)
        r = disk_pwrite(f, b->ptr, b->len, saved->n * entry_bytes);
    if (r == 0)
        r = disk_truncate(f, saved->n * entry_bytes + b->len);
    disk_close(f);
    if (r < 0)
        return r;
    saved->crc = crc32c(saved->crc, b->ptr, b->len);
    saved->n += b->len / entry_bytes;
    return 0;
}

int segment_save_indexes(struct segment *s)
{
    struct buf b = {0};
    encode_offsets(s, s->offsets_saved.n, &b);
    int r = save_index(s, "index", SEGMENT_OFFSET_ENTRY, &b, &s->offsets_saved);
    buf_clear(&b);
    encode_times(s, s->times_saved.n, &b);
    if (r == 0)
        r = save_index(s, "timeindex", SEGMENT_TIME_ENTRY, &b, &s->times_saved);
    buf_free(&b);
    return r;
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

// False when they do not fit the segment.
static bool take_indexes(struct segment *s, struct bytes offsets, struct bytes times)
{
    if (offsets.len % SEGMENT_OFFSET_ENTRY || times.len % SEGMENT_TIME_ENTRY)
        return false;
    for (size_t i = 0; i < offsets.len; i += SEGMENT_OFFSET_ENTRY) {
        uint32_t relative = unpack_u32(offsets.ptr + i), pos = unpack_u32(offsets.ptr + i + 4);
        const struct offset_entry *last = s->n_offsets ? &s->offsets[s->n_offsets - 1] : NULL;
        if (pos >= s->size ||
            (last && (pos <= last->position || relative <= last->relative_offset)))
            return false;
        segment_add_offset(s, relative, pos);
    }
    for (size_t i = 0; i < times.len; i += SEGMENT_TIME_ENTRY) {
        size_t before = s->n_times;
        segment_add_time(s, (int64_t)unpack_u64(times.ptr + i), unpack_u32(times.ptr + i + 8));
        if (s->n_times == before)
            return false;
    }
    return true;
}

// Reads the first n entries of a file that was saved.
static bool read_saved(struct segment *s, const char *suffix, size_t entry_bytes,
                       const struct index_saved *saved, struct arena *a, struct bytes *ret)
{
    *ret = (struct bytes){0};
    if (saved->n == 0)
        return saved->crc == 0;
    if (saved->n > s->size / BATCH_HEADER_BYTES + 1 || read_index(s, suffix, a, ret) < 0 ||
        ret->len / entry_bytes < saved->n)
        return false;
    ret->len = saved->n * entry_bytes;
    return crc32c(0, ret->ptr, ret->len) == saved->crc;
}

struct segment_state segment_state_of(const struct segment *s)
{
    return (struct segment_state){.base = s->base,
                                  .end = s->end,
                                  .bytes = s->size,
                                  .since_index = s->bytes_since_index,
                                  .first_ms = s->first_timestamp_ms,
                                  .greatest_ms = s->max_timestamp_ms,
                                  .greatest_offset = s->max_timestamp_offset,
                                  .offsets = s->offsets_saved,
                                  .times = s->times_saved};
}

static void take_state(struct segment *s, const struct segment_state *state)
{
    s->end = state->end;
    s->bytes_since_index = state->since_index;
    s->first_timestamp_ms = state->first_ms;
    s->max_timestamp_ms = state->greatest_ms;
    s->max_timestamp_offset = state->greatest_offset;
    s->offsets_saved = state->offsets;
    s->times_saved = state->times;
    s->is_loaded = true;
}

bool segment_use_state(struct segment *s, const struct segment_state *state)
{
    uint64_t size = s->size;
    struct bytes o, t;
    struct arena *a = arena_new();
    segment_forget_indexes(s);
    bool is_good = state->base == s->base && state->bytes <= size &&
                   read_saved(s, "index", SEGMENT_OFFSET_ENTRY, &state->offsets, a, &o) &&
                   read_saved(s, "timeindex", SEGMENT_TIME_ENTRY, &state->times, a, &t);
    s->size = state->bytes;
    is_good = is_good && take_indexes(s, o, t);
    arena_free(a);
    if (!is_good) {
        s->size = size;
        segment_forget_indexes(s);
        return false;
    }
    take_state(s, state);
    return true;
}

int segment_read_indexes(struct segment *s, int32_t index_interval_bytes)
{
    const struct segment_state left = segment_state_of(s);
    CHECK(s->is_unread && s->keeps_indexes && s->n_offsets == 0 && s->n_times == 0);
    if (segment_use_state(s, &left)) {
        s->is_unread = false;
        return 0;
    }
    take_state(s, &left);
    int r = s->file ? 0 : segment_open_file(s, true);
    if (r < 0)
        return r;
    r = segment_rebuild(s, index_interval_bytes);
    if (r == 0 && s->end != left.end)
        r = -EBADMSG;
    s->is_unread = r < 0;
    s->was_rebuilt = r == 0;
    if (r < 0) {
        s->n_offsets = s->n_times = 0;
        take_state(s, &left);
    }
    return r;
}

int segment_seal_indexes(struct segment *s)
{
    // Kafka's last entry names the greatest timestamp of all.
    if (s->max_timestamp_ms >= 0)
        segment_add_time(s, s->max_timestamp_ms, (uint32_t)(s->max_timestamp_offset - s->base));
    int r = segment_save_indexes(s);
    struct buf text = {0};
    segment_state_text(s, &text);
    text_end_with_crc(&text);
    struct index_saved whole = {0};
    if (r == 0)
        r = save_index(s, "state", 1, &text, &whole);
    buf_free(&text);
    return r;
}

bool segment_load_indexes(struct segment *s)
{
    char path[SEGMENT_PATH_BYTES];
    segment_path(s, "state", path);
    struct arena *a = arena_new();
    struct bytes text;
    struct segment_state state;
    bool is_good = disk_read_file(s->disk, path, STATE_MAX_BYTES, a, &text) == 0 &&
                   text_crc_fits(text) && segment_state_parse((const char *)text.ptr, &state) &&
                   state.bytes == s->size && segment_use_state(s, &state);
    arena_free(a);
    return is_good;
}
