#include "store/cleaner.h"

#include "store/log_private.h"
#include "store/store.h"
#include "wire/batch_filter.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What is kept is written in pieces of about this size.
#define WRITE_BYTES (256u << 10)
#define COMPACTION_MAX_BYTES 4096

void cleaning_free(struct cleaning *c)
{
    if (!c)
        return;
    key_map_free(&c->keys);
    cleaner_txns_free(c->txns);
    segment_free(c->output);
    free(c->marks);
    free(c->sources);
    free(c->producers);
    free(c->dir);
    free(c);
}

// The file that says how far it came.

int compaction_read(struct disk *d, const char *dir, struct compaction *ret)
{
    struct arena *a = arena_new();
    struct bytes content;
    struct compaction c;
    int r = disk_read_file(d, arena_printf(a, "%s/" COMPACTION_FILE, dir), COMPACTION_MAX_BYTES, a,
                           &content);
    if (r == 0 && (!text_crc_fits(content) ||
                   sscanf((const char *)content.ptr,
                          "compaction\ncleaned %" SCNd64 "\ngaps %" SCNd64 "\nswap %" SCNd64
                          " %" SCNd64 " bytes %" SCNd64,
                          &c.cleaned, &c.gaps, &c.swap_base, &c.swap_upto, &c.swap_bytes) != 5))
        r = -EBADMSG;
    arena_free(a);
    if (r == 0)
        *ret = c;
    return r == -EFBIG ? -EBADMSG : r;
}

void compaction_no_swap(struct compaction *c)
{
    c->swap_base = c->swap_upto = c->swap_bytes = -1;
}

int compaction_write(struct disk *d, const char *dir, const struct compaction *c)
{
    struct buf text = {0};
    buf_printf(&text,
               "compaction\ncleaned %" PRId64 "\ngaps %" PRId64 "\nswap %" PRId64 " %" PRId64
               " bytes %" PRId64 "\n",
               c->cleaned, c->gaps, c->swap_base, c->swap_upto, c->swap_bytes);
    text_end_with_crc(&text);
    int r = disk_replace_file(d, dir, COMPACTION_FILE, (struct bytes){text.ptr, text.len});
    buf_free(&text);
    return r;
}

// Reading the sources.

struct input {
    struct cleaning *c;
    const struct clean_source *source;
    struct disk_file *file;
    struct window w;
    uint64_t pos;
};

static int bad_source(const struct input *in, int error, const char *what)
{
    struct cleaning *c = in->c;
    c->is_bad_source = true;
    snprintf(c->text, sizeof c->text, "%s/%020" PRId64 ".log: %s at byte %" PRIu64, c->dir,
             in->source->base, what, in->pos);
    return error;
}

static int input_open(struct input *in, struct cleaning *c, size_t i)
{
    *in = (struct input){.c = c, .source = &c->sources[i]};
    char path[SEGMENT_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%020" PRId64 ".log", c->dir, in->source->base);
    int r = disk_open(c->disk, path, DISK_READ, &in->file);
    if (r == 0)
        r = window_open(&in->w, in->file);
    if (r == 0 && in->w.size != in->source->size)
        r = -EBADMSG;
    return r < 0 ? bad_source(in, r, "cannot be read") : 0;
}

static void input_close(struct input *in)
{
    window_close(&in->w);
    disk_close(in->file);
}

// 1 and the next batch, 0 at the end. What is damaged would get a fresh checksum when it is written
// again, so that it must be found here.
static int input_next(struct input *in, struct batch *ret)
{
    if (in->pos == in->w.size)
        return 0;
    if (atomic_load(&in->c->is_cancelled))
        return -ECANCELED;
    const uint8_t *p = NULL;
    struct batch_header h;
    int r = window_at(&in->w, in->pos, BATCH_HEADER_BYTES, &p);
    if (r == 0 && p && batch_header_read(p, &h) && h.bytes <= in->w.size - in->pos)
        r = window_at(&in->w, in->pos, h.bytes, &p);
    else if (r == 0)
        return bad_source(in, -EBADMSG, "damaged");
    if (r < 0)
        return bad_source(in, r, "cannot be read");
    if (!p || batch_read((struct bytes){p, h.bytes}, ret) < 0 || !batch_crc_matches(ret))
        return bad_source(in, -EBADMSG, "damaged");
    in->pos += h.bytes;
    return 1;
}

// Learning: transactions and keys.

static int learn_txns(struct cleaning *c)
{
    cleaner_txns_free(c->txns);
    c->txns = cleaner_txns_new();
    int r = 0;
    for (size_t i = 0; i < c->n_sources && r == 0; i++) {
        struct input in;
        struct batch b;
        r = input_open(&in, c, i);
        while (r == 0 && (r = input_next(&in, &b)) > 0) {
            r = cleaner_txns_learn(c->txns, &b);
            if (r < 0)
                r = bad_source(&in, r, "damaged before");
        }
        input_close(&in);
    }
    return r;
}

// 1: the map is full.
static int map_batch(struct cleaning *c, const struct input *in, const struct batch *b,
                     struct buf *scratch)
{
    struct record_iter it;
    struct record rec;
    int r = record_iter_start(&it, b, scratch);
    while (r == 0 && (r = record_next(&it, &rec)) > 0) {
        r = 0;
        if (!rec.key.ptr || rec.offset < c->dirty_from)
            continue;
        if (!key_map_put(&c->keys, rec.key, rec.offset))
            return 1;
        c->latest = rec.offset;
    }
    return r < 0 ? bad_source(in, r, "damaged before") : 0;
}

static int map_source(struct cleaning *c, size_t i, bool *ret_has_txns, struct buf *scratch)
{
    struct input in;
    struct batch b;
    int r = input_open(&in, c, i);
    while (r == 0 && (r = input_next(&in, &b)) > 0) {
        r = 0;
        if (batch_last_offset(&b) < c->dirty_from)
            continue;
        bool is_txn = batch_is_transactional(&b) || batch_is_control(&b);
        *ret_has_txns = *ret_has_txns || is_txn;
        if (!batch_is_control(&b) && !(c->txns && cleaner_txns_is_aborted(c->txns, &b)))
            r = map_batch(c, &in, &b, scratch);
        if (r == 0)
            c->latest = batch_last_offset(&b);
    }
    input_close(&in);
    // Offsets may be missing where a segment ends.
    if (r == 0)
        c->latest = (i + 1 < c->n_sources ? c->sources[i + 1].base : c->upper) - 1;
    return r;
}

static int map_all(struct cleaning *c, bool *ret_has_txns)
{
    struct buf scratch = {0};
    int r = 0;
    key_map_free(&c->keys);
    key_map_init(&c->keys, &c->config.hash, c->config.dedupe_bytes);
    c->latest = -1;
    *ret_has_txns = false;
    for (size_t i = 0; i < c->n_sources && r == 0; i++) {
        int64_t end = i + 1 < c->n_sources ? c->sources[i + 1].base : c->upper;
        if (end > c->dirty_from)
            r = map_source(c, i, ret_has_txns, &scratch);
    }
    buf_free(&scratch);
    return r < 0 ? r : 0;
}

// A log that never saw a transaction is not read once more for them.
static int make_map(struct cleaning *c)
{
    bool has_txns;
    int r = map_all(c, &has_txns);
    if (r == 0 && has_txns) {
        r = learn_txns(c);
        // The caller keeps below the last stable offset; a log that was copied in may say less.
        int64_t open_from = cleaner_txns_open_from(c->txns);
        while (r == 0 && c->n_sources > 0 && c->upper > open_from)
            c->upper = c->sources[--c->n_sources].base;
        if (r == 0)
            r = map_all(c, &has_txns);
    }
    if (!c->txns)
        c->txns = cleaner_txns_new();
    // Sources that the map says nothing about stay as they are.
    while (c->n_sources > 0 && c->sources[c->n_sources - 1].base > c->latest)
        c->n_sources--;
    c->is_mapped = r == 0;
    return r;
}

// Writing a group.

struct output {
    struct cleaning *c;
    struct segment *segment;
    struct buf buf;
    uint64_t flushed; // bytes of the segment that are in the file
    int64_t records;
};

static int output_flush(struct output *o)
{
    int r = 0;
    if (o->buf.len)
        r = disk_pwrite(o->segment->file, o->buf.ptr, o->buf.len, o->flushed);
    if (r == 0)
        o->flushed += o->buf.len;
    buf_clear(&o->buf);
    return r;
}

static void add_mark(struct cleaning *c, int64_t offset, uint64_t pos, int64_t records)
{
    if (c->n_marks && pos < c->marks[c->n_marks - 1].pos + KEPT_MARK_BYTES)
        return;
    if (c->n_marks == c->cap_marks) {
        c->cap_marks = c->cap_marks ? 2 * c->cap_marks : 16;
        c->marks = realloc(c->marks, c->cap_marks * sizeof *c->marks);
        CHECK(c->marks);
    }
    c->marks[c->n_marks++] = (struct kept_mark){offset, pos, records};
}

static bool keeps(void *ctx, const struct batch *b, const struct record *r)
{
    const struct cleaning *c = ctx;
    if (batch_is_control(b) || r->offset > c->latest)
        return true;
    if (!r->key.ptr || r->offset < key_map_get(&c->keys, r->key))
        return false;
    int64_t horizon_ms = batch_delete_horizon(b);
    return r->value.ptr || horizon_ms < 0 || c->config.now_ms < horizon_ms;
}

// The last batch of a producer says what its next sequence is.
static bool is_last_of_producer(const struct cleaning *c, const struct batch *b)
{
    size_t low = 0, high = c->n_producers;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (c->producers[mid].id < b->producer_id)
            low = mid + 1;
        else
            high = mid;
    }
    return b->producer_id >= 0 && low < c->n_producers && c->producers[low].id == b->producer_id &&
           c->producers[low].last_offset == batch_last_offset(b);
}

static int filter_one(struct output *o, const struct batch *b, bool is_last, struct buf *scratch)
{
    struct cleaning *c = o->c;
    bool is_spent = cleaner_txns_pass(c->txns, b);
    int64_t horizon_ms = batch_delete_horizon(b);
    // The last batch of all stays, so that the log still ends where it did.
    struct batch_filter f = {.ctx = c,
                             .keeps = keeps,
                             .keeps_none =
                                 cleaner_txns_is_aborted(c->txns, b) ||
                                 (is_spent && horizon_ms >= 0 && horizon_ms <= c->config.now_ms),
                             .keeps_empty = is_last || is_last_of_producer(c, b),
                             .ends_nothing = is_spent,
                             .now_ms = c->config.now_ms,
                             .delete_retention_ms = c->config.delete_retention_ms};
    size_t start = o->buf.len;
    int32_t kept = 0;
    int r = batch_filter(b, &f, scratch, &o->buf, &kept);
    struct batch_header h;
    if (r < 0 || o->buf.len == start || !batch_header_read(o->buf.ptr + start, &h))
        return r;
    add_mark(c, h.base_offset, o->segment->size, o->records);
    o->records += kept;
    segment_add(o->segment, &h, c->config.index_interval_bytes);
    return o->buf.len >= WRITE_BYTES ? output_flush(o) : 0;
}

// Whether this batch is the last below upper, though offsets may be missing behind it.
static bool is_last_of_all(const struct input *in, size_t i, const struct batch *b)
{
    const struct cleaning *c = in->c;
    return batch_last_offset(b) + 1 == c->upper ||
           (i + 1 == c->n_sources && c->latest + 1 == c->upper && in->pos == in->w.size);
}

static int filter_source(struct output *o, size_t i)
{
    struct input in;
    struct batch b;
    struct buf scratch = {0};
    int r = input_open(&in, o->c, i);
    while (r == 0 && (r = input_next(&in, &b)) > 0) {
        r = filter_one(o, &b, is_last_of_all(&in, i, &b), &scratch);
        if (r == -EBADMSG || r == -EFBIG)
            r = bad_source(&in, r, "damaged before");
    }
    buf_free(&scratch);
    input_close(&in);
    return r;
}

static int sync_output(struct segment *s, int64_t modified_ms)
{
    // The indexes need not be durable: what they should hold stands beside them.
    int r = segment_seal_indexes(s);
    if (r == 0)
        r = disk_set_modified(s->file, modified_ms);
    return r == 0 ? disk_sync(s->file) : r;
}

// What is written stands beside what it replaces for a while.
static int check_room(struct cleaning *c)
{
    uint64_t bytes = STORE_RESERVE_BYTES;
    for (size_t i = c->first; i < c->first + c->n; i++)
        bytes += c->sources[i].size;
    struct disk_space space;
    int r = disk_space(c->disk, c->dir, &space);
    return r == 0 && space.free_bytes < bytes ? -ENOSPC : r;
}

static int write_group(struct cleaning *c)
{
    const struct clean_source *last = &c->sources[c->first + c->n - 1];
    struct output o = {.c = c};
    int r = check_room(c);
    if (r < 0)
        return r;
    c->n_marks = 0;
    o.segment = c->output = segment_new(c->disk, NULL, c->dir, c->sources[c->first].base, 0);
    o.segment->suffix = CLEANED_SUFFIX;
    r = segment_create(o.segment);
    if (r == 0)
        r = disk_truncate(o.segment->file, 0);
    for (size_t i = c->first; i < c->first + c->n && r == 0; i++)
        r = filter_source(&o, i);
    if (r == 0)
        r = output_flush(&o);
    buf_free(&o.buf);
    if (r == 0)
        r = sync_output(o.segment, last->modified_ms);
    if (r == 0)
        r = disk_sync_dir(c->disk, c->dir);
    return r;
}

// Groups: segments that together are no larger than one may be.

static uint64_t index_bytes(const struct cleaning *c, const struct clean_source *s,
                            const char *suffix)
{
    char path[SEGMENT_PATH_BYTES];
    struct disk_stat st;
    snprintf(path, sizeof path, "%s/%020" PRId64 ".%s", c->dir, s->base, suffix);
    return disk_stat(c->disk, path, &st) < 0 ? 0 : st.size;
}

struct sizes {
    uint64_t log, offsets, times;
};

static void add_sizes(const struct cleaning *c, const struct clean_source *s, struct sizes *to)
{
    to->log += s->size;
    to->offsets += index_bytes(c, s, "index");
    to->times += index_bytes(c, s, "timeindex");
}

static void choose_group(struct cleaning *c)
{
    uint64_t index_max = (uint64_t)c->config.segment_index_bytes;
    struct sizes all = {0};
    c->first += c->n;
    c->n = 0;
    while (c->first + c->n < c->n_sources) {
        const struct clean_source *s = &c->sources[c->first + c->n];
        struct sizes with = all;
        add_sizes(c, s, &with);
        size_t next = c->first + c->n + 1;
        int64_t last = (next < c->n_sources ? c->sources[next].base : c->upper) - 1;
        bool fits = with.log <= (uint64_t)c->config.segment_bytes && with.offsets <= index_max &&
                    with.times <= index_max &&
                    (s->size == 0 || last - c->sources[c->first].base <= INT32_MAX);
        if (c->n > 0 && !fits)
            break;
        all = with;
        c->n++;
    }
}

void cleaner_tidy(struct cleaning *c)
{
    if (c->output && !c->needs_swap)
        c->is_untidy = segment_unlink(c->output) < 0;
    segment_free(c->output);
    c->output = NULL;
}

static bool says(const struct cleaning *c, const struct compaction *what)
{
    struct compaction found;
    return compaction_read(c->disk, c->dir, &found) == 0 && found.cleaned == what->cleaned &&
           found.gaps == what->gaps && found.swap_base == what->swap_base &&
           found.swap_upto == what->swap_upto && found.swap_bytes == what->swap_bytes;
}

// A full disk is met before anything is there under its name: then what was said before stands.
static int write_state(struct cleaning *c, const struct compaction *next)
{
    int r = compaction_write(c->disk, c->dir, next);
    c->is_unsure = r < 0 && (!log_is_want(r) || says(c, next));
    if (r == 0)
        c->state = *next;
    return r;
}

// The swap of the step before, or, where the disk was full then, of a round before.
static int settle(struct cleaning *c)
{
    segment_free(c->output);
    c->output = NULL;
    c->needs_swap = false;
    if (c->state.swap_base < 0)
        return 0;
    int r = disk_sync_dir(c->disk, c->dir);
    if (r < 0) {
        c->is_unsure = true;
        return r;
    }
    struct compaction next = c->state;
    compaction_no_swap(&next);
    return write_state(c, &next);
}

static int end_round(struct cleaning *c)
{
    struct compaction next = c->state;
    next.cleaned = c->latest + 1 > c->dirty_from ? c->latest + 1 : c->dirty_from;
    int r = next.cleaned == c->state.cleaned ? 0 : write_state(c, &next);
    c->is_over = r == 0;
    return r;
}

// From here on a crash ends in the swap, which the next start then brings to its end.
static int announce(struct cleaning *c)
{
    size_t next_source = c->first + c->n;
    int64_t upto = next_source < c->n_sources ? c->sources[next_source].base : c->latest + 1;
    struct compaction next = c->state;
    next.swap_base = c->sources[c->first].base;
    next.swap_upto = c->sources[next_source - 1].base + 1;
    next.swap_bytes = (int64_t)c->output->size;
    next.gaps = upto > next.gaps ? upto : next.gaps;
    int r = write_state(c, &next);
    c->needs_swap = r == 0;
    c->is_swapped = false;
    if (r < 0 && !c->is_unsure)
        cleaner_tidy(c);
    return r;
}

int cleaner_step(void *arg)
{
    struct cleaning *c = arg;
    int r = settle(c);
    if (r == 0 && !c->is_mapped)
        r = make_map(c);
    if (r < 0)
        return r;
    choose_group(c);
    if (c->n == 0)
        return end_round(c);
    r = write_group(c);
    if (r < 0) {
        cleaner_tidy(c);
        return r;
    }
    return announce(c);
}
