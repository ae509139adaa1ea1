// What of a damaged log is whole is kept, and says with an empty batch, as compaction leaves them,
// which offsets are lost. The segments as they were stay beside, as BASE.log.damaged. A crash at
// any point leaves the old or the new of each segment, and can be repaired again.
#include "store/log_private.h"
#include "wire/crc32c.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COPY_BYTES (256u << 10)
#define NEW_SUFFIX "log.repaired"
#define OLD_SUFFIX "log.damaged"
#define OLD_MAX 20 // of one segment

// Of a segment as it will be: bytes of the old one, or an empty batch.
struct piece {
    uint64_t pos, bytes;
    int64_t first, end; // the empty batch's offsets
};

struct repair {
    struct log *l;
    struct log_repair *plan;
    struct arena *arena;
    int64_t end;       // the log's, as the journal or a clean stop knows it
    bool is_exact;     // nothing is behind it, so that it is to be reached
    int64_t durable;   // offsets below were there
    struct segment *s; // being looked at
    bool is_sealed;
    int64_t due, upper;
    struct window w;
    struct piece *pieces; // owned
    size_t n_pieces, cap_pieces;
    bool is_changed;
    int64_t gaps;
    char why[SEGMENT_PATH_BYTES + 200];
};

static int fail(struct repair *m, int error, const char *suffix)
{
    char path[SEGMENT_PATH_BYTES];
    segment_path(m->s, suffix, path);
    if (error < 0 && !m->why[0])
        snprintf(m->why, sizeof m->why, "%s: %s", path, strerror(-error));
    return error;
}

static void add_piece(struct repair *m, struct piece p)
{
    if (m->n_pieces == m->cap_pieces) {
        m->cap_pieces = m->cap_pieces ? m->cap_pieces * 2 : 16;
        m->pieces = realloc(m->pieces, m->cap_pieces * sizeof *m->pieces);
        CHECK(m->pieces);
    }
    m->pieces[m->n_pieces++] = p;
}

static void keep(struct repair *m, uint64_t pos, const struct batch_header *h)
{
    struct piece *last = m->n_pieces ? &m->pieces[m->n_pieces - 1] : NULL;
    if (last && last->bytes > 0 && last->pos + last->bytes == pos)
        last->bytes += h->bytes;
    else
        add_piece(m, (struct piece){.pos = pos, .bytes = h->bytes});
    m->due = batch_header_end(h);
}

// Offsets from due to `to` have no batch any more.
static void lose(struct repair *m, int64_t to, uint64_t pos, uint64_t bytes)
{
    char line[SEGMENT_PATH_BYTES + 200], path[SEGMENT_PATH_BYTES];
    int64_t n = to > m->due ? to - m->due : 0;
    segment_path(m->s, "log", path);
    int len = snprintf(line, sizeof line, "%s: byte %" PRIu64 ": ", path, pos);
    if (bytes > 0)
        len += snprintf(line + len, sizeof line - (size_t)len, "%" PRIu64 " bytes are damaged, ",
                        bytes);
    if (n > 0)
        snprintf(line + len, sizeof line - (size_t)len,
                 "offsets %" PRId64 " to %" PRId64 " are lost", m->due, to - 1);
    else
        snprintf(line + len, sizeof line - (size_t)len, "no offset is lost");
    m->plan->say(m->plan->ctx, line);
    m->plan->n_places++;
    m->plan->lost_offsets += n;
    m->is_changed = true;
    while (m->due < to) {
        int64_t end = to - m->due > INT32_MAX ? m->due + INT32_MAX : to;
        add_piece(m, (struct piece){.first = m->due, .end = end});
        m->due = m->gaps = end;
    }
}

// Looking.

static bool reads(const uint8_t *p, struct batch_header *ret)
{
    return p && p[16] == 2 && batch_header_read(p, ret);
}

// A whole batch that can stand there. Its base offset is not in its checksum: one that is too high
// is found out by the batch behind it. What a record holds may look like a batch, too: where
// nothing but the search leads there, the end of the file or a batch has to be behind it.
static int fits(struct repair *m, uint64_t pos, bool is_searched, struct batch_header *h,
                bool *ret_fits)
{
    const uint8_t *p;
    struct batch_header next;
    bool is_valid = false;
    *ret_fits = false;
    int r = window_at(&m->w, pos, BATCH_HEADER_BYTES, &p);
    // Cheap tests first: nearly every byte position fails them.
    if (r < 0 || !reads(p, h) || h->base_offset < m->due || batch_header_end(h) > m->upper)
        return r;
    r = segment_batch_valid(&m->w, pos, h, &is_valid);
    if (r < 0 || !is_valid)
        return r;
    uint64_t behind = pos + h->bytes;
    int64_t end = batch_header_end(h);
    r = window_at(&m->w, behind, BATCH_HEADER_BYTES, &p);
    if (r < 0)
        return r;
    bool is_behind = reads(p, &next);
    if (h->base_offset != m->due && is_behind && next.base_offset < end) {
        r = segment_batch_valid(&m->w, behind, &next, &is_valid);
        *ret_fits = r == 0 && !is_valid && !is_searched;
        return r;
    }
    *ret_fits = !is_searched || behind == m->w.size ||
                (is_behind && next.base_offset >= end && batch_header_end(&next) <= m->upper);
    return 0;
}

static bool may_follow(const struct repair *m, int64_t next)
{
    return next == m->due || (next > m->due && (next <= m->l->compaction.gaps ||
                                                epochs_begins_at(&m->l->epochs, next)));
}

// Behind the damaged batch at *pos, if its length leads to a whole one or to the end of the file:
// nothing is looked for within it then.
static int find_behind(struct repair *m, uint64_t *pos, struct batch_header *h, bool *ret_found)
{
    const uint8_t *p;
    struct batch_header bad;
    *ret_found = false;
    int r = window_at(&m->w, *pos, BATCH_HEADER_BYTES, &p);
    if (r < 0 || !reads(p, &bad) || bad.bytes > m->w.size - *pos)
        return r;
    uint64_t behind = *pos + bad.bytes;
    r = behind < m->w.size ? fits(m, behind, false, h, ret_found) : 0;
    if (*ret_found || behind == m->w.size)
        *pos = behind;
    return r;
}

// Right behind a good batch none stands with a later offset: then that offset is the damage.
static int find_next(struct repair *m, uint64_t *pos, struct batch_header *h, bool *ret_found)
{
    int r = fits(m, *pos, false, h, ret_found);
    if (r < 0 || (*ret_found && may_follow(m, h->base_offset)))
        return r;
    r = find_behind(m, pos, h, ret_found);
    while (r == 0 && *pos + BATCH_HEADER_BYTES < m->w.size && !*ret_found) {
        *pos += 1;
        r = fits(m, *pos, true, h, ret_found);
    }
    return r;
}

// Nothing whole comes any more: how far the offsets went. Those of one batch stand in its header
// twice; else no more is known than what was reserved.
static int tail_end(struct repair *m, uint64_t pos, int64_t *ret_end)
{
    const uint8_t *p;
    struct batch_header h;
    int r = window_at(&m->w, pos, BATCH_HEADER_BYTES, &p);
    bool is_one = r == 0 && reads(p, &h) && h.base_offset == m->due &&
                  h.count == h.last_offset_delta + 1 && h.bytes == m->w.size - pos;
    int64_t end = is_one ? batch_header_end(&h) : m->upper;
    *ret_end = m->is_sealed || m->is_exact || end > m->upper ? m->upper : end;
    if (*ret_end == INT64_MAX)
        *ret_end = m->due;
    return r;
}

static int look_at_batches(struct repair *m)
{
    int r = 0;
    for (uint64_t pos = 0; r == 0 && pos < m->w.size;) {
        struct batch_header h;
        bool is_found;
        uint64_t at = pos;
        r = find_next(m, &at, &h, &is_found);
        if (r < 0)
            break;
        if (!is_found) {
            int64_t end;
            r = tail_end(m, pos, &end);
            if (r == 0)
                lose(m, end, pos, m->w.size - pos);
            break;
        }
        if (at > pos)
            lose(m, h.base_offset, pos, at - pos);
        keep(m, at, &h);
        pos = at + h.bytes;
    }
    return r;
}

// The next segment, or what was known of the log's end, says which offsets should have come.
static void look_at_end(struct repair *m)
{
    bool is_short = m->is_sealed || m->is_exact || m->due < m->durable;
    if (is_short && m->due < m->upper && m->upper != INT64_MAX && !may_follow(m, m->upper))
        lose(m, m->upper, m->w.size, 0);
}

// Writing.

static int32_t epoch_at(const struct log *l, int64_t offset)
{
    int32_t epoch = l->epochs.items[0].epoch;
    for (size_t i = 0; i < l->epochs.n && l->epochs.items[i].start <= offset; i++)
        epoch = l->epochs.items[i].epoch;
    return epoch;
}

static void empty_batch(const struct log *l, int64_t first, int64_t end,
                        uint8_t ret[BATCH_HEADER_BYTES])
{
    memset(ret, 0, BATCH_HEADER_BYTES);
    pack_u64(ret, (uint64_t)first);
    pack_u32(ret + 8, BATCH_HEADER_BYTES - 12);
    pack_u32(ret + 12, (uint32_t)epoch_at(l, first));
    ret[16] = 2;
    pack_u32(ret + 23, (uint32_t)(end - first - 1));
    // No times, no producer, no sequence: all -1.
    memset(ret + 27, 0xff, 8 + 8 + 8 + 2 + 4);
    pack_u32(ret + 17, crc32c(0, ret + BATCH_CRC_START, BATCH_HEADER_BYTES - BATCH_CRC_START));
}

static int copy_range(struct repair *m, struct disk_file *out, uint64_t from, uint64_t bytes,
                      uint64_t *at)
{
    int r = 0;
    for (uint64_t done = 0; r == 0 && done < bytes;) {
        size_t n = bytes - done < COPY_BYTES ? (size_t)(bytes - done) : COPY_BYTES;
        const uint8_t *p;
        r = window_at(&m->w, from + done, n, &p);
        if (r == 0)
            r = disk_pwrite(out, p, n, *at);
        done += n;
        *at += n;
    }
    return r;
}

static int write_pieces(struct repair *m)
{
    char path[SEGMENT_PATH_BYTES];
    struct disk_file *out = NULL;
    uint64_t at = 0;
    segment_path(m->s, NEW_SUFFIX, path);
    int r = disk_open(m->l->disk, path, DISK_WRITE | DISK_CREATE, &out);
    if (r == 0)
        r = disk_truncate(out, 0);
    for (size_t i = 0; r == 0 && i < m->n_pieces; i++) {
        const struct piece *p = &m->pieces[i];
        uint8_t header[BATCH_HEADER_BYTES];
        if (p->bytes > 0) {
            r = copy_range(m, out, p->pos, p->bytes, &at);
            continue;
        }
        empty_batch(m->l, p->first, p->end, header);
        r = disk_pwrite(out, header, sizeof header, at);
        at += sizeof header;
    }
    if (r == 0)
        r = disk_sync(out);
    disk_close(out);
    return fail(m, r, NEW_SUFFIX);
}

// Where one of a repair before stands, or of one that did not come to its end, it stays.
static int open_old(struct repair *m, struct disk_file **ret)
{
    char path[SEGMENT_PATH_BYTES], suffix[32] = OLD_SUFFIX;
    int r = -EEXIST;
    for (int i = 2; r == -EEXIST && i <= OLD_MAX + 1; i++) {
        segment_path(m->s, suffix, path);
        r = disk_open(m->l->disk, path, DISK_WRITE | DISK_NEW, ret);
        snprintf(suffix, sizeof suffix, OLD_SUFFIX "-%d", i);
    }
    return r;
}

static int keep_old(struct repair *m)
{
    struct disk_file *out = NULL;
    uint64_t at = 0;
    int r = open_old(m, &out);
    if (r == 0)
        r = copy_range(m, out, 0, m->w.size, &at);
    if (r == 0)
        r = disk_sync(out);
    disk_close(out);
    return fail(m, r, OLD_SUFFIX);
}

static int remove_file(struct repair *m, const char *path)
{
    int r = disk_unlink(m->l->disk, path);
    return r == -ENOENT ? 0 : r;
}

// What told of the old content goes first: it would be believed where the sizes agree.
static int put_in_place(struct repair *m)
{
    struct log *l = m->l;
    char from[SEGMENT_PATH_BYTES], to[SEGMENT_PATH_BYTES];
    l->compaction.gaps = l->compaction.gaps > m->gaps ? l->compaction.gaps : m->gaps;
    int r = compaction_write(l->disk, l->dir, &l->compaction);
    segment_path(m->s, "state", from);
    if (r == 0)
        r = remove_file(m, from);
    log_path(l, "checkpoint", from);
    if (r == 0)
        r = remove_file(m, from);
    if (r == 0)
        r = disk_sync_dir(l->disk, l->dir);
    segment_path(m->s, NEW_SUFFIX, from);
    segment_path(m->s, "log", to);
    if (r == 0)
        r = disk_rename(l->disk, from, to);
    if (r == 0)
        r = disk_sync_dir(l->disk, l->dir);
    return fail(m, r, "log");
}

static int mend(struct repair *m, bool is_there)
{
    int r = write_pieces(m);
    if (r == 0 && is_there)
        r = keep_old(m);
    return r == 0 ? put_in_place(m) : r;
}

// One segment of those that are there.
static int repair_segment(struct repair *m, int64_t base, int64_t upper, bool is_last)
{
    m->s = segment_new(m->l->disk, NULL, m->l->dir, base, 0);
    m->n_pieces = 0;
    m->is_changed = false;
    m->due = base;
    m->upper = upper;
    m->is_sealed = !is_last;
    int r = segment_open_file(m->s, false);
    if (r == 0)
        r = window_open(&m->w, m->s->file);
    if (r == 0)
        r = look_at_batches(m);
    if (r == 0)
        look_at_end(m);
    fail(m, r, "log");
    if (r == 0 && m->is_changed)
        r = mend(m, true);
    window_close(&m->w);
    segment_free(m->s);
    m->s = NULL;
    return r;
}

// Offsets before the first segment that is there, or of a log without any.
static int repair_missing(struct repair *m, int64_t base, int64_t upper)
{
    m->s = segment_new(m->l->disk, NULL, m->l->dir, base, 0);
    m->n_pieces = 0;
    m->due = base;
    m->w = (struct window){0};
    lose(m, upper, 0, 0);
    int r = mend(m, false);
    segment_free(m->s);
    m->s = NULL;
    return r;
}

static int list_bases(struct repair *m, int64_t **ret_bases, size_t *ret_n)
{
    char **names;
    size_t n = 0, found = 0;
    int r = disk_list(m->l->disk, m->l->dir, m->arena, &names, &n);
    int64_t *bases = arena_array(m->arena, n + 1, sizeof *bases);
    for (size_t i = 0; r == 0 && i < n; i++) {
        char *dot = NULL;
        int64_t base = strtoll(names[i], &dot, 10);
        if (dot == names[i] + 20 && strcmp(dot, ".log") == 0)
            bases[found++] = base;
    }
    *ret_bases = bases;
    *ret_n = found;
    return r;
}

// Epochs.

// The epochs that the batches of a segment name, up to the first that cannot be read.
static int read_epochs(struct log *l, int64_t base, int32_t newest)
{
    struct segment *s = segment_new(l->disk, NULL, l->dir, base, 0);
    struct window w = {0};
    const uint8_t *p = NULL;
    struct batch_header h;
    struct epochs *e = &l->epochs;
    int r = segment_open_file(s, false);
    if (r == 0)
        r = window_open(&w, s->file);
    for (uint64_t pos = 0; r == 0; pos += h.bytes) {
        r = window_at(&w, pos, BATCH_HEADER_BYTES, &p);
        if (r < 0 || !reads(p, &h))
            break;
        bool is_next = e->n == 0 || (h.leader_epoch > e->items[e->n - 1].epoch &&
                                     h.base_offset > e->items[e->n - 1].start);
        if (is_next && h.leader_epoch >= 0 && h.leader_epoch <= newest)
            epochs_add(e, h.leader_epoch, e->n ? h.base_offset : 0, h.base_offset);
    }
    window_close(&w);
    segment_free(s);
    return r;
}

int log_repair_epochs(struct log *l, const struct log_open *args)
{
    struct repair m = {.l = l, .arena = arena_new()};
    struct epochs *e = &l->epochs;
    int64_t *bases;
    size_t n;
    int r = list_bases(&m, &bases, &n);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = read_epochs(l, bases[i], args->leader_epoch);
    arena_free(m.arena);
    // Nothing was written in the last one yet: then it begins where the log goes on.
    int64_t end = args->was_clean && args->mark ? args->mark->end : args->reserved_upto;
    if (e->n == 0)
        epochs_add(e, args->leader_epoch, 0, 0);
    else if (e->items[e->n - 1].epoch < args->leader_epoch && end > e->items[e->n - 1].start)
        epochs_add(e, args->leader_epoch, end, end);
    l->has_epochs_file = true;
    return r == 0 ? epochs_store(e, l->disk, l->dir) : r;
}

int log_repair(struct log *l, const struct log_open *args, int64_t durable, char *ret_text,
               size_t size)
{
    const struct log_mark *mark = args->was_clean ? args->mark : NULL;
    int64_t start = args->log_start;
    if (mark && mark->start > start)
        start = mark->start;
    struct repair m = {.l = l,
                       .plan = args->repair,
                       .arena = arena_new(),
                       .end = mark ? mark->end : args->reserved_upto,
                       .is_exact = mark != NULL,
                       .durable = durable};
    if (m.end == 0)
        m.end = INT64_MAX; // nothing is known of it
    int64_t *bases;
    size_t n;
    int r = list_bases(&m, &bases, &n);
    int64_t first = n ? bases[0] : m.end;
    // What the journal was told of a retention is lost then, and that took only what was durable.
    bool may_be_taken = args->power_lost && n && first <= durable;
    if (r == 0 && first > start && first != INT64_MAX && !may_be_taken)
        r = repair_missing(&m, start, first);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = repair_segment(&m, bases[i], i + 1 < n ? bases[i + 1] : m.end, i + 1 == n);
    if (r < 0)
        snprintf(ret_text, size, "%s: cannot be repaired: %s", l->dir,
                 m.why[0] ? m.why : strerror(-r));
    free(m.pieces);
    arena_free(m.arena);
    return r;
}
