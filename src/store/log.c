#include "store/log_private.h"

#include "base/bug.h"
#include "wire/crc32c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct log_config log_config_default = {.segment_bytes = 1 << 30,
                                              .segment_ms = 604800000,
                                              .segment_index_bytes = 10485760,
                                              .retention_ms = 604800000,
                                              .retention_bytes = -1,
                                              .index_interval_bytes = 4096,
                                              .producer_expiration_ms = 86400000,
                                              .min_dirty_ratio = 0.5,
                                              .max_compaction_lag_ms = INT64_MAX,
                                              .delete_retention_ms = 86400000};

static void forget_unsynced(struct log *l, size_t n)
{
    for (size_t i = 0; i < n; i++)
        disk_close(l->unsynced[i]);
    l->n_unsynced -= n;
    if (l->files)
        l->files->n -= n;
    memmove(l->unsynced, l->unsynced + n, l->n_unsynced * sizeof l->unsynced[0]);
    l->n_syncing = 0;
    l->dir_syncing = false;
}

void log_close(struct log *l)
{
    if (!l)
        return;
    log_clean_abandon(l);
    free(l->clean_text);
    for (size_t i = 0; i < l->n_segments; i++)
        segment_free(l->segments[i]);
    free(l->segments);
    forget_unsynced(l, l->n_unsynced);
    list_remove(&l->dirty);
    disk_close(l->dir_file);
    epochs_free(&l->epochs);
    producer_state_free(l->producers);
    free(l->dir);
    free(l);
}

int log_close_clean(struct log *l, struct log_mark *ret_mark)
{
    return log_close_left(l, ret_mark, NULL);
}

int log_close_left(struct log *l, struct log_mark *ret_mark, struct buf *ret_left)
{
    // Most of a topic with many partitions may never have been written to; a stop shall be quick.
    // But the journal counts on the directory from the first reservation of offsets on.
    bool is_untouched = l->end == 0 && l->n_segments == 1 && l->reserve_mark == 0;
    // After a crash the names seen may not be durable ones, nor those that are gone.
    if (l->is_unborn)
        l->dir_changed = true;
    int r = log_clean_finish(l);
    if (r == 0 && !is_untouched)
        r = log_sync(l);
    // Kafka's tools want it there; ours do not need it while there was one epoch only.
    if (r == 0 && !is_untouched && !l->has_epochs_file) {
        struct buf text = {0};
        epochs_text(&l->epochs, &text);
        r = log_write_lazily(l, EPOCHS_FILE, &text);
        l->has_epochs_file = r == 0;
        buf_free(&text);
    }
    if (r == 0 && !is_untouched && log_checkpoint_due(l))
        r = log_write_checkpoint(l);
    if (r == 0)
        *ret_mark = (struct log_mark){.start = l->start,
                                      .end = l->end,
                                      .active_bytes = log_active(l)->size,
                                      .bytes = log_bytes(l)};
    if (r == 0 && ret_left)
        log_left_text(l, ret_left);
    log_close(l);
    return r;
}

void log_set_config(struct log *l, const struct log_config *config)
{
    l->config = *config;
}

void log_add_segment(struct log *l, struct segment *s)
{
    if (l->n_segments == l->cap_segments) {
        l->cap_segments = l->cap_segments ? l->cap_segments * 2 : 4;
        l->segments = realloc(l->segments, l->cap_segments * sizeof *l->segments);
        CHECK(l->segments);
    }
    l->segments[l->n_segments++] = s;
}

size_t log_segment_index(const struct log *l, int64_t offset)
{
    size_t low = 0, high = l->n_segments;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (l->segments[mid]->base <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low ? low - 1 : 0;
}

static void note_rebuilt(struct log *l, struct segment *s)
{
    if (s->was_rebuilt)
        l->rebuilt = s->base;
    s->was_rebuilt = false;
}

int log_segment_ready(struct log *l, struct segment *s)
{
    s->used = ++l->use_counter;
    files_used(l->files, s);
    if (s->is_unread) {
        int r = segment_read_indexes(s, l->config.index_interval_bytes);
        note_rebuilt(l, s);
        if (r < 0)
            return r;
    }
    if (s->file)
        return 0;
    if (s->keeps_indexes)
        return segment_open_file(s, true);
    struct segment *oldest = NULL;
    size_t n_open = 0;
    for (size_t i = 0; i + 1 < l->n_segments; i++) {
        struct segment *o = l->segments[i];
        if (!o->file)
            continue;
        n_open++;
        if (!oldest || o->used < oldest->used)
            oldest = o;
    }
    if (n_open >= LOG_OPEN_SEGMENTS)
        segment_shut(oldest);
    int r = segment_open(s, false, l->config.index_interval_bytes);
    note_rebuilt(l, s);
    return r;
}

int64_t log_take_rebuilt(struct log *l)
{
    int64_t base = l->rebuilt;
    l->rebuilt = -1;
    return base;
}

// Rolling and appending.

void log_remember_unsynced(struct log *l, struct disk_file *f)
{
    CHECK(l->n_unsynced < LOG_UNSYNCED_MAX);
    l->unsynced[l->n_unsynced++] = disk_file_ref(f);
    if (l->files)
        l->files->n++;
}

// Something of this log is about to be not durable: what holds it stays open.
static void mark_dirty(struct log *l)
{
    files_pin(l->files, log_active(l));
    if (l->files && list_is_empty(&l->dirty))
        list_append(&l->files->dirty, &l->dirty);
}

int log_open_dir(struct log *l)
{
    return l->dir_file ? 0 : disk_open(l->disk, l->dir, DISK_DIR, &l->dir_file);
}

static int open_parent(struct log *l, struct disk_file **ret_file)
{
    char *parent = strdup(l->dir);
    CHECK(parent);
    char *slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent ? 1 : 0] = 0;
    int r = disk_open(l->disk, slash ? parent : ".", DISK_DIR, ret_file);
    free(parent);
    return r;
}

// Before anything is written to a log that nothing was written to: from the next sync on the
// directory is this log's, whenever the power fails.
static int be_born(struct log *l)
{
    struct disk_file *parent, *metadata;
    int r = open_parent(l, &parent);
    if (r < 0)
        return r;
    // Written again, so that the handle that is synced is one that wrote it.
    r = log_write_metadata(l, &metadata);
    if (r == 0) {
        log_remember_unsynced(l, parent);
        log_remember_unsynced(l, metadata);
        disk_close(metadata);
        l->is_unborn = false;
        l->dir_changed = true;
    }
    disk_close(parent);
    return r;
}

// What the next sync has to cover is open, but for the active segment.
static int ready_names(struct log *l)
{
    int r = l->is_unborn ? be_born(l) : 0;
    return r == 0 && l->dir_changed ? log_open_dir(l) : r;
}

int log_break(struct log *l, int error)
{
    return l->broken = log_is_want(error) ? -EIO : error;
}

// For what is only there to save work: without room it is done another time.
static int or_later(int error)
{
    return log_is_want(error) ? 0 : error;
}

int log_roll(struct log *l, int64_t now_ms)
{
    int r = ready_names(l);
    if (r == 0 && log_active(l)->is_unread)
        r = log_segment_ready(l, log_active(l));
    if (r == 0 && l->n_unsynced + LOG_ROLL_FILES > LOG_UNSYNCED_MAX)
        r = log_sync(l);
    // Before the file of the old one is looked at: making room may close it, once it is durable.
    struct segment *old = log_active(l);
    struct segment *s = segment_new(l->disk, l->files, l->dir, l->end, now_ms);
    if (r == 0)
        r = log_open_dir(l);
    if (r == 0)
        r = segment_create(s);
    if (log_is_want(r)) {
        segment_free(s);
        return r;
    }
    if (r == 0)
        r = or_later(segment_seal_indexes(old));
    if (r < 0) {
        segment_free(s);
        return log_break(l, r);
    }
    if (old->file)
        log_remember_unsynced(l, old->file);
    old->keeps_indexes = false;
    files_unpin(l->files, old);
    s->used = old->used = ++l->use_counter;
    s->is_loaded = true;
    log_add_segment(l, s);
    l->dir_changed = true;
    mark_dirty(l);
    // A snapshot that a crash tears is ignored, so that it need not be durable.
    return or_later(log_write_producers(l));
}

// Kafka takes a part of segment.ms off at random, so that not all logs roll at once. Here it
// follows from the segment, so that a run can be played again.
static int64_t jitter_ms(const struct log *l, const struct segment *s)
{
    const struct log_config *c = &l->config;
    int64_t most = c->segment_jitter_ms < c->segment_ms ? c->segment_jitter_ms : c->segment_ms;
    if (most <= 0)
        return 0;
    uint32_t crc = crc32c(0, l->dir, strlen(l->dir));
    return crc32c(crc, &s->base, sizeof s->base) % most;
}

static bool index_is_full(const struct log *l, const struct segment *s, size_t more)
{
    return (s->n_offsets + more) * SEGMENT_OFFSET_ENTRY > (uint64_t)l->config.segment_index_bytes ||
           (s->n_times + more + 1) * SEGMENT_TIME_ENTRY > (uint64_t)l->config.segment_index_bytes;
}

// As Kafka: a segment without a time of its own ages from when it was made or opened.
static bool is_old(const struct log *l, const struct segment *s, int64_t first_ms, int64_t batch_ms,
                   int64_t now_ms)
{
    int64_t waited_ms = first_ms >= 0 ? batch_ms - first_ms : now_ms - s->created_ms;
    return waited_ms > l->config.segment_ms - jitter_ms(l, s);
}

static bool roll_due(const struct log *l, const struct batch_header *h, int64_t now_ms)
{
    const struct segment *s = log_active(l);
    if (batch_header_end(h) - 1 - s->base > INT32_MAX)
        return true;
    return s->size > 0 && (s->size + h->bytes > (uint64_t)l->config.segment_bytes ||
                           is_old(l, s, s->first_timestamp_ms, h->max_timestamp_ms, now_ms) ||
                           index_is_full(l, s, 1));
}

// How many of the batches go into the active segment before it rolls; the first one does.
static size_t fits(const struct log *l, const struct batch_header *headers, size_t n,
                   int64_t now_ms)
{
    const struct segment *s = log_active(l);
    uint64_t size = s->size + headers[0].bytes;
    int64_t first_ms = s->size > 0 ? s->first_timestamp_ms : headers[0].max_timestamp_ms;
    // Near the end of its index one by one: how many entries they make is not known before.
    if (index_is_full(l, s, n))
        return 1;
    for (size_t i = 1; i < n; i++) {
        const struct batch_header *h = &headers[i];
        size += h->bytes;
        if (size > (uint64_t)l->config.segment_bytes ||
            batch_header_end(h) - 1 - s->base > INT32_MAX ||
            is_old(l, s, first_ms, h->max_timestamp_ms, now_ms))
            return i;
    }
    return n;
}

void log_update_producers(struct log *l, const struct batch_header *h, int64_t now_ms)
{
    struct producer_batch b = {.producer_id = h->producer_id,
                               .epoch = h->producer_epoch,
                               .first_seq = h->base_seq,
                               .last_seq = producer_seq_add(h->base_seq, h->last_offset_delta),
                               .base_offset = h->base_offset,
                               .last_offset = batch_header_end(h) - 1,
                               .timestamp_ms = h->max_timestamp_ms};
    // Markers carry no sequence.
    if (h->producer_id >= 0 && h->base_seq >= 0)
        producer_state_update(l->producers, &b, now_ms);
}

// One write, all in the active segment or nothing.
static int write_some(struct log *l, const struct bytes *batches,
                      const struct batch_header *headers, size_t n)
{
    uint8_t stamps[LOG_APPEND_MAX][BATCH_STAMP_BYTES];
    struct iovec iov[2 * LOG_APPEND_MAX];
    for (size_t i = 0; i < n; i++) {
        const struct bytes *b = &batches[i];
        pack_u64(stamps[i], (uint64_t)headers[i].base_offset);
        memcpy(stamps[i] + 8, b->ptr + 8, 4);
        pack_u32(stamps[i] + 12, (uint32_t)headers[i].leader_epoch);
        iov[2 * i] = (struct iovec){stamps[i], BATCH_STAMP_BYTES};
        union {
            const uint8_t *in;
            void *out;
        } rest = {.in = b->ptr + BATCH_STAMP_BYTES}; // iovec has no const form
        iov[2 * i + 1] = (struct iovec){rest.out, b->len - BATCH_STAMP_BYTES};
    }
    struct segment *s = log_active(l);
    int r = ready_names(l);
    if (r == 0)
        r = log_segment_ready(l, s);
    if (r < 0)
        return r;
    r = disk_pwritev(s->file, iov, (int)(2 * n), s->size);
    if (r == -ENOSPC && disk_truncate(s->file, s->size) == 0)
        return r;
    return r < 0 ? log_break(l, r) : 0;
}

int log_append(struct log *l, const struct bytes *batches, size_t n, int64_t now_ms,
               struct log_span *ret_spans, size_t *ret_n)
{
    *ret_n = 0;
    if (l->broken)
        return l->broken;
    CHECK(n > 0 && n <= LOG_APPEND_MAX);
    int ready = log_active(l)->is_unread ? log_segment_ready(l, log_active(l)) : 0;
    if (ready < 0)
        return ready;
    struct batch_header headers[LOG_APPEND_MAX];
    int64_t next = l->end;
    for (size_t i = 0; i < n; i++) {
        const struct bytes *b = &batches[i];
        struct batch_header *h = &headers[i];
        CHECK(b->len >= BATCH_HEADER_BYTES && batch_header_read(b->ptr, h) && h->bytes == b->len);
        h->base_offset = next;
        h->leader_epoch = log_epoch(l);
        next = batch_header_end(h);
    }
    CHECK(next <= l->reserve_mark);
    for (size_t i = 0, m = 0; i < n; i += m) {
        int r = roll_due(l, &headers[i], now_ms) ? log_roll(l, now_ms) : 0;
        m = fits(l, headers + i, n - i, now_ms);
        if (r == 0)
            r = write_some(l, batches + i, headers + i, m);
        if (r < 0)
            return r;
        mark_dirty(l);
        log_active(l)->modified_ms = now_ms;
        for (size_t k = i; k < i + m; k++) {
            const struct batch_header *h = &headers[k];
            segment_add(log_active(l), h, l->config.index_interval_bytes);
            log_update_producers(l, h, now_ms);
            l->end = batch_header_end(h);
            ret_spans[k] = (struct log_span){h->base_offset, l->end};
        }
        *ret_n = i + m;
    }
    return 0;
}

// Syncing. A sync covers what was sealed since the last, the active segment, and the directory.
// Files stay listed until it is done, so that a blocking one in between covers them as well.

static size_t sync_files(struct log *l, struct disk_file *ret_files[DISK_SYNC_FILES_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < l->n_unsynced; i++)
        ret_files[n++] = l->unsynced[i];
    if (log_active(l)->file) // else it was durable before it was closed
        ret_files[n++] = log_active(l)->file;
    if (l->dir_changed || l->dir_syncing)
        ret_files[n++] = l->dir_file;
    return n;
}

// What a finished sync leaves may be closed, unless more was written meanwhile.
static void settle_files(struct log *l)
{
    if (l->broken || l->sync_target >= 0 || l->synced < l->end || l->n_unsynced || l->dir_changed)
        return;
    disk_close(l->dir_file);
    l->dir_file = NULL;
    list_remove(&l->dirty);
    files_unpin(l->files, log_active(l));
}

bool log_sync_start(struct log *l, uint64_t cookie)
{
    if (l->sync_target >= 0 || l->broken || (l->synced == l->end && list_is_empty(&l->dirty)))
        return false;
    struct disk_file *files[DISK_SYNC_FILES_MAX];
    size_t n = sync_files(l, files);
    if (bug(BUG_SKIP_FSYNC))
        n = l->n_unsynced;
    l->sync_target = l->end;
    l->n_syncing = l->n_unsynced;
    l->dir_syncing = l->dir_changed;
    l->dir_changed = false;
    disk_sync_start(l->disk, files, n, cookie);
    return true;
}

// After what was sealed is durable, recovery need not look at it again.
static int advance_recovery_point(struct log *l)
{
    int64_t base = log_active(l)->base;
    return l->synced >= base && l->recovery_point < base ? or_later(log_write_checkpoint(l)) : 0;
}

int log_sync_done(struct log *l, int error)
{
    int64_t target = l->sync_target;
    l->sync_target = -1;
    if (error < 0)
        return log_break(l, error);
    forget_unsynced(l, l->n_syncing);
    if (target > l->synced)
        l->synced = target;
    settle_files(l);
    return advance_recovery_point(l);
}

int log_sync(struct log *l)
{
    if (l->broken)
        return l->broken;
    struct disk_file *files[DISK_SYNC_FILES_MAX];
    bool is_needed = l->synced < l->end || l->dir_changed || l->n_unsynced;
    int r = is_needed ? ready_names(l) : 0;
    if (r < 0)
        return log_is_want(r) ? r : log_break(l, r);
    size_t n = is_needed ? sync_files(l, files) : 0;
    for (size_t i = 0; i < n; i++) {
        r = disk_sync(files[i]);
        if (r < 0)
            return log_break(l, r);
    }
    forget_unsynced(l, l->n_unsynced);
    l->dir_changed = false;
    l->synced = l->end;
    settle_files(l);
    return advance_recovery_point(l);
}

// Reading.

// Cuts at the last batch that ends within limit and at or below upper. The slice begins at
// `first`; the outputs stay when not even that batch fits.
static int cut(struct segment *s, const struct walk *first, uint64_t limit, int64_t upper,
               uint64_t *ret_pos, int64_t *ret_offset)
{
    if (s->size <= limit && s->end <= upper) {
        *ret_pos = s->size;
        *ret_offset = s->end;
        return 0;
    }
    // The last indexed batch before the limit may not end within it; the one before it does.
    for (size_t k = 0; k < 2; k++) {
        uint64_t from = segment_entry_before(s, limit, upper, k);
        struct walk w;
        walk_start(&w, s, from > first->pos ? from : first->pos);
        bool found = false;
        int r;
        while ((r = walk_read(&w)) > 0 && w.pos + w.header.bytes <= limit &&
               batch_header_end(&w.header) <= upper) {
            found = true;
            walk_next(&w);
            *ret_pos = w.pos;
            *ret_offset = batch_header_end(&w.header);
        }
        if (r < 0)
            return r;
        if (found || from <= first->pos)
            return 0;
    }
    return 0;
}

int log_read(struct log *l, int64_t offset, uint32_t max_bytes, int64_t upper_offset, bool min_one,
             struct log_slice *ret_slice)
{
    if (offset < l->start || offset > l->end)
        return -ERANGE;
    struct log_slice slice = {.first_offset = offset, .end_offset = offset};
    for (size_t i = log_segment_index(l, offset); i < l->n_segments && offset < upper_offset; i++) {
        struct segment *s = l->segments[i];
        int r = log_segment_ready(l, s);
        if (r < 0)
            return r;
        struct walk w;
        r = segment_find(s, offset, &w);
        if (r < 0)
            return r;
        // Offsets may have gaps, also where one segment ends.
        if (r == 0)
            continue;
        uint64_t end_pos = w.pos;
        int64_t end_offset = offset;
        r = cut(s, &w, w.pos + max_bytes, upper_offset, &end_pos, &end_offset);
        if (r < 0)
            return r;
        if (end_pos == w.pos && min_one && batch_header_end(&w.header) <= upper_offset) {
            end_pos = w.pos + w.header.bytes;
            end_offset = batch_header_end(&w.header);
        }
        if (end_pos > w.pos)
            slice = (struct log_slice){.file = disk_file_ref(s->file),
                                       .pos = w.pos,
                                       .len = (uint32_t)(end_pos - w.pos),
                                       .first_offset = w.header.base_offset,
                                       .end_offset = end_offset};
        break;
    }
    *ret_slice = slice;
    return 0;
}

void log_slice_release(struct log_slice *s)
{
    disk_close(s->file);
    s->file = NULL;
}

int64_t log_start(const struct log *l)
{
    return l->start;
}

int64_t log_end(const struct log *l)
{
    return l->end;
}

int64_t log_synced(const struct log *l)
{
    return l->synced;
}

uint64_t log_bytes(const struct log *l)
{
    uint64_t n = 0;
    for (size_t i = 0; i < l->n_segments; i++)
        n += l->segments[i]->size;
    return n;
}

const char *log_dir(const struct log *l)
{
    return l->dir;
}

void *log_owner(const struct log *l)
{
    return l->owner;
}

struct producer_state *log_producers(struct log *l)
{
    return l->producers;
}

int64_t log_reserve_mark(const struct log *l)
{
    return l->reserve_mark;
}

bool log_has_room(const struct log *l, int64_t n_records)
{
    return l->end + n_records <= l->reserve_mark;
}

int64_t log_reserve_wanted(const struct log *l, int64_t n_records)
{
    int64_t need = l->end + n_records;
    return (need > l->reserve_mark ? need : l->reserve_mark) + LOG_RESERVE_BLOCK;
}

bool log_reserve_due(const struct log *l)
{
    return l->reserve_mark - l->end < LOG_RESERVE_BLOCK / 2;
}

void log_reserved(struct log *l, int64_t upto)
{
    if (upto > l->reserve_mark)
        l->reserve_mark = upto;
}

int32_t log_epoch(const struct log *l)
{
    return l->epochs.items[l->epochs.n - 1].epoch;
}

int log_epoch_begin(struct log *l, int32_t epoch)
{
    CHECK(epoch > log_epoch(l));
    const struct segment *s = log_active(l);
    // An empty segment may begin where an epoch does: that one explains its base.
    epochs_add(&l->epochs, epoch, l->end, s->size > 0 ? s->end : s->base + 1);
    if (disk_is_read_only(l->disk))
        return 0;
    int r = 0;
    if (l->is_unborn) {
        l->dir_changed = true;
        r = log_sync(l);
    }
    if (r == 0)
        r = epochs_store(&l->epochs, l->disk, l->dir);
    l->has_epochs_file = r == 0;
    return r < 0 ? log_break(l, r) : 0;
}

void log_epoch_end(const struct log *l, int32_t epoch, int32_t *ret_epoch, int64_t *ret_end)
{
    epochs_end(&l->epochs, epoch, l->start, l->end, ret_epoch, ret_end);
}
