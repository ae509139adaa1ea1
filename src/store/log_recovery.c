#include "store/log_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"

// Opening a log. Nothing is changed before everything that has to be read was read and judged.

struct opening {
    struct log *l;
    const struct log_open *args;
    struct log_report *report;
    struct arena *arena;
    struct log_names names; // in the directory, those of segments as they were at first
    bool is_new;            // the directory was made just now, or is to be made
    size_t cut_segment;     // the segment to cut; n_segments: none
    uint64_t cut_pos;
    int64_t first_scanned; // base of the first segment that was read
    int64_t durable;       // offsets below were known to be
    bool has_checkpoint;
    bool is_damaged; // the file of the durable point
    struct log_checkpoint checkpoint;
};

__attribute__((format(printf, 3, 4))) static int say(struct opening *o, int error,
                                                     const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(o->report->text, sizeof o->report->text, format, args);
    va_end(args);
    return error;
}

// For errors that nothing more exact was said about.
static int say_io(struct opening *o, int error, const char *what)
{
    if (error < 0 && !o->report->text[0])
        say(o, error, "%s: %s: %s", o->l->dir, what, strerror(-error));
    return error;
}

// Whose directory it is stays known until nothing else is left in it, whenever the power fails:
// the next topic of the same name must not find records of this one as its own.
static int dir_empty(struct disk *d, const char *dir)
{
    struct arena *a = arena_new();
    char **names;
    size_t n = 0, n_other = 0;
    int r = disk_list(d, dir, a, &names, &n);
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (strcmp(names[i], METADATA_FILE) == 0)
            continue;
        r = disk_unlink(d, arena_printf(a, "%s/%s", dir, names[i]));
        n_other++;
    }
    if (r == 0 && n_other > 0)
        r = disk_sync_dir(d, dir);
    if (r == 0 && n_other < n)
        r = disk_unlink(d, arena_printf(a, "%s/%s", dir, METADATA_FILE));
    arena_free(a);
    return r;
}

int log_remove_dir(struct disk *d, const char *dir)
{
    int r = dir_empty(d, dir);
    if (r == 0)
        r = disk_rmdir(d, dir);
    return r == -ENOENT ? 0 : r;
}

// A topic that was deleted may have left a directory of this name, before anything of this one was
// written to it. Only a lost power may bring its id back, as long as nothing here was durable.
static int check_other(struct opening *o)
{
    const struct log_open *args = o->args;
    if (args->synced == 0 && (args->reserved_upto == 0 || args->power_lost))
        return 0;
    return say(o, -EBADMSG,
               "%s/" METADATA_FILE ": names another topic, though records of this one were "
               "written: damaged, or of another directory",
               o->l->dir);
}

// On a read-only disk: no directory yet, or that of a deleted topic, is a log that is still empty.
static int dir_look(struct opening *o, bool is_there)
{
    bool is_other = false, is_missing;
    int r = 0;
    if (is_there)
        r = log_read_metadata(o->l, &is_other, &is_missing);
    if (r == 0 && is_other)
        r = check_other(o);
    o->is_new = !is_there || is_other;
    return say_io(o, r, "cannot be read");
}

static int dir_open(struct opening *o)
{
    struct log *l = o->l;
    struct disk_stat st;
    int r = disk_stat(l->disk, l->dir, &st);
    if (r == -ENOENT && o->args->reserved_upto > 0 && !o->args->power_lost && !o->args->repair)
        return say(o, r, "%s: missing, though records were written to it: half copied?", l->dir);
    if ((r == 0 || r == -ENOENT) && disk_is_read_only(l->disk))
        return dir_look(o, r == 0);
    if (r == -ENOENT) {
        r = disk_mkdir(l->disk, l->dir);
        o->is_new = true;
    }
    // After a crash nobody knows which names were durable; and a log that nothing was ever written
    // to is stopped without a sync.
    const struct log_mark *mark = o->args->mark;
    l->is_unborn = o->is_new || !o->args->was_clean || !mark || mark->end == 0;
    bool is_other, is_missing;
    if (r == 0)
        r = log_read_metadata(l, &is_other, &is_missing);
    if (r == 0 && is_other)
        r = check_other(o);
    if (r < 0)
        return say_io(o, r, "cannot be opened");
    if (is_other) {
        say(o, 0, "%s: held the rest of a deleted topic, removed", l->dir);
        r = dir_empty(l->disk, l->dir);
        o->is_new = true;
    }
    if (is_missing && !o->is_new && o->args->reserved_upto > 0)
        say(o, 0, "%s/" METADATA_FILE ": missing or damaged, and written anew", l->dir);
    struct disk_file *f = NULL;
    if (r == 0 && (is_other || is_missing)) {
        r = log_write_metadata(l, &f);
        l->is_unborn = true;
    }
    disk_close(f);
    return say_io(o, r, "cannot be written");
}

static int load_epochs(struct opening *o)
{
    struct log *l = o->l;
    int r = epochs_load(&l->epochs, l->disk, l->dir);
    l->has_epochs_file = r == 0;
    // Before another epoch began nobody needed the file, and nobody made it durable.
    if ((r == -ENOENT || r == -EBADMSG) && o->args->leader_epoch == 0) {
        if (r == -EBADMSG)
            say(o, 0, "%s/%s: damaged, and written anew", l->dir, EPOCHS_FILE);
        epochs_free(&l->epochs);
        epochs_add(&l->epochs, 0, 0, 0);
        return 0;
    }
    if ((r == -ENOENT || r == -EBADMSG) && o->args->repair) {
        epochs_free(&l->epochs);
        return say_io(o, log_repair_epochs(l, o->args), "epochs cannot be made anew");
    }
    if (r == -ENOENT || r == -EBADMSG)
        return say(o, r, "%s/%s: %s, though epoch %" PRId32 " has begun", l->dir, EPOCHS_FILE,
                   r == -ENOENT ? "missing" : "damaged", o->args->leader_epoch);
    return say_io(o, r, "epochs cannot be read");
}

static int make_first(struct opening *o, int64_t base)
{
    struct log *l = o->l;
    struct segment *s = segment_new(l->disk, l->files, l->dir, base, o->args->now_ms);
    int r = segment_create(s);
    log_add_segment(l, s);
    memmove(l->segments + 1, l->segments, (l->n_segments - 1) * sizeof *l->segments);
    l->segments[0] = s;
    l->dir_changed = true;
    s->is_loaded = true;
    return say_io(o, r, "cannot be written");
}

// Only retention removes the first segments. It writes down before that they were durable, and
// tells the journal where the log starts then: what that was told only the power can take back.
static int check_first(struct opening *o)
{
    struct log *l = o->l;
    const struct log_open *args = o->args;
    int64_t base = l->segments[0]->base, expected = args->log_start;
    if (args->was_clean && args->mark && args->mark->start > expected)
        expected = args->mark->start;
    if (args->power_lost && o->durable > expected)
        expected = o->durable;
    if (base <= expected || (args->power_lost && o->is_damaged))
        return 0;
    if (!args->power_lost)
        return say(o, -ENOENT,
                   "%s: the segments before offset %" PRId64 " are missing, though the log starts "
                   "at %" PRId64,
                   l->dir, base, expected);
    if (disk_is_read_only(l->disk))
        return say(o, -EROFS,
                   "%s: the segments before offset %" PRId64
                   " were lost with the power: a start of "
                   "the broker mends it, and only that",
                   l->dir, base);
    return make_first(o, expected);
}

static int list_segments(struct opening *o)
{
    struct log *l = o->l;
    int r = 0;
    for (size_t i = 0; r == 0 && i < o->names.n; i++) {
        char *name = o->names.at[i], *dot = NULL, path[SEGMENT_PATH_BYTES];
        int64_t base = strtoll(name, &dot, 10);
        struct disk_stat st = {0};
        if (dot != name + 20 || strcmp(dot, ".log") != 0)
            continue;
        log_path(l, name, path);
        r = disk_stat(l->disk, path, &st);
        struct segment *s = segment_new(l->disk, l->files, l->dir, base, o->args->now_ms);
        s->size = st.size;
        s->modified_ms = st.modified_ms;
        log_add_segment(l, s);
    }
    if (r < 0)
        return say_io(o, r, "cannot be read");
    for (size_t i = 0; i + 1 < l->n_segments; i++)
        l->segments[i]->end = l->segments[i + 1]->base;
    if (l->n_segments > 0)
        return check_first(o);
    if (o->args->reserved_upto > 0 && !o->args->power_lost)
        return say(o, -ENOENT, "%s: no segment is there, though records were written", l->dir);
    if (disk_is_read_only(l->disk))
        return 0;
    return make_first(o, 0);
}

int64_t log_end_of(const struct log *l)
{
    int64_t end = log_active(l)->end;
    int64_t epoch_start = l->epochs.items[l->epochs.n - 1].start;
    return end > epoch_start ? end : epoch_start;
}

// Offsets are skipped only where a new epoch begins, and where compaction was.
static bool may_follow(const struct log *l, int64_t end, int64_t next)
{
    return next == end ||
           (next > end && (next <= l->compaction.gaps || epochs_begins_at(&l->epochs, next)));
}

static bool follows(const struct log *l, const struct segment *s, const struct segment *next)
{
    return may_follow(l, s->end, next->base);
}

static int check_sealed(struct opening *o, size_t i)
{
    struct log *l = o->l;
    struct segment *s = l->segments[i], *next = l->segments[i + 1];
    // Before its indexes are made anew: what is refused is not changed.
    if (s->size == 0 && !may_follow(l, s->base, next->base) && next->base > o->args->log_start)
        return say(o, -EBADMSG, "%s/%020" PRId64 ".log: is empty", l->dir, s->base);
    int r = log_segment_ready(l, s);
    if (r == -EBADMSG)
        return say(o, r, "%s/%020" PRId64 ".log: its %" PRIu64 " bytes are damaged, or cut", l->dir,
                   s->base, s->size);
    if (r < 0)
        return say(o, r, "%s/%020" PRId64 ".log: cannot be read: %s", l->dir, s->base,
                   strerror(-r));
    // Below the log start the rest of a retention that a crash interrupted may stand.
    if (!follows(l, s, next) && next->base > o->args->log_start)
        return say(o, -ENOENT, "%s: the segment with offset %" PRId64 " is missing", l->dir,
                   s->end);
    return 0;
}

// Nothing is read after a clean stop, but for what it takes to name the file that is wrong.
static int check_sizes(struct opening *o, const struct log_mark *mark)
{
    struct log *l = o->l;
    struct segment *s = log_active(l);
    if (s->size != mark->active_bytes)
        return say(o, -EBADMSG,
                   "%s/%020" PRId64 ".log: has %" PRIu64 " bytes, but was left with %" PRIu64,
                   l->dir, s->base, s->size, mark->active_bytes);
    uint64_t bytes = log_bytes(l);
    if (mark->bytes == 0 || bytes == mark->bytes)
        return 0;
    for (size_t i = 0; i + 1 < l->n_segments; i++) {
        int r = check_sealed(o, i);
        if (r < 0)
            return r;
    }
    return say(o, -EBADMSG,
               "%s: its .log files have %" PRIu64 " bytes, but were left with %" PRIu64
               ": one was cut, or is missing",
               l->dir, bytes, mark->bytes);
}

static int open_clean(struct opening *o, const struct log_mark *mark)
{
    struct log *l = o->l;
    struct segment *s = log_active(l);
    int r = check_sizes(o, mark);
    if (r < 0)
        return r;
    const struct segment_state *known = &o->checkpoint.active;
    bool is_known = s->size == 0 ||
                    (o->has_checkpoint && known->bytes == s->size && segment_use_state(s, known));
    s->is_loaded = s->keeps_indexes = true;
    if (is_known && s->size > 0)
        l->checkpoint = *known;
    if (!is_known) {
        say(o, 0, "%s/%020" PRId64 ": its index was not what was left, made anew", l->dir, s->base);
        r = log_segment_ready(l, s);
        if (r == 0)
            r = segment_rebuild(s, l->config.index_interval_bytes);
    }
    if (r < 0)
        return say_io(o, r, "cannot be opened");
    l->end = log_end_of(l);
    if (l->end != mark->end)
        return say(o, -EBADMSG, "%s: ends at offset %" PRId64 ", but was left at %" PRId64, l->dir,
                   l->end, mark->end);
    l->start = mark->start;
    l->synced = l->end;
    l->recovery_point = l->end;
    return say_io(o, log_load_producers(l, &o->names), "producer state cannot be read");
}

// Looks for whole batches behind a bad place: *ret_records counts theirs.
static int search_behind(struct window *w, uint64_t pos, int64_t offset, int64_t *ret_records)
{
    *ret_records = 0;
    while (pos + BATCH_HEADER_BYTES <= w->size) {
        const uint8_t *p;
        struct batch_header h;
        bool is_valid = false;
        int r = window_at(w, pos, BATCH_HEADER_BYTES, &p);
        if (r < 0)
            return r;
        // Cheap tests first: nearly every byte position fails them.
        if (p[16] == 2 && batch_header_read(p, &h) && h.base_offset >= offset &&
            h.base_offset - offset <= INT32_MAX)
            r = segment_batch_valid(w, pos, &h, &is_valid);
        if (r < 0)
            return r;
        if (is_valid)
            *ret_records += h.last_offset_delta + 1;
        pos += is_valid ? h.bytes : 1;
    }
    return 0;
}

// Offsets up to here are accounted for: behind a segment's last batch none may have been written
// until the next epoch begins. (epochs_add() keeps none that stayed empty.)
static int64_t reach(const struct log *l, const struct segment *s)
{
    const struct epochs *e = &l->epochs;
    if (s->size == 0 && e->items[e->n - 1].start > s->end)
        return e->items[e->n - 1].start;
    for (size_t i = 0; i < e->n; i++)
        if (e->items[i].start >= s->end)
            return e->items[i].start;
    return s->end;
}

// No good batch stands at pos, where offset s->end is due.
static int judge(struct opening *o, size_t i, struct window *w, uint64_t pos, int64_t durable)
{
    struct log *l = o->l;
    struct segment *s = l->segments[i];
    int64_t behind = 0;
    int r = search_behind(w, pos + 1, s->end, &behind);
    if (r < 0)
        return say_io(o, r, "cannot be read");
    bool has_more = behind > 0 || (i + 1 < l->n_segments && l->segments[i + 1]->size > 0);
    if (reach(l, s) < durable || (has_more && !o->args->power_lost))
        return say(o, -EBADMSG,
                   "%s/%020" PRId64 ".log: damaged at byte %" PRIu64 " (offset %" PRId64
                   "), and no crash tears there: nothing was changed",
                   l->dir, s->base, pos, s->end);
    o->cut_segment = i;
    o->cut_pos = pos;
    o->report->cut_bytes = w->size - pos;
    o->report->cut_records = behind;
    for (size_t k = i + 1; k < l->n_segments; k++)
        o->report->cut_bytes += l->segments[k]->size;
    say(o, 0,
        "%s/%020" PRId64 ".log: torn at byte %" PRIu64 " (offset %" PRId64 "): %" PRIu64
        " bytes that were never durable cut, %" PRId64 " whole records among them",
        l->dir, s->base, pos, s->end, o->report->cut_bytes, behind);
    return 0;
}

// Whether the checkpoint says how the active segment began. A power cut may have taken what was not
// durable then, and left an older checkpoint than that of a start which cut it and went on.
static bool may_resume(const struct opening *o)
{
    return o->has_checkpoint &&
           (!o->args->power_lost || o->checkpoint.active.end <= o->checkpoint.durable);
}

// Reads every batch of a segment, or of the active one those behind the checkpoint; what is good
// goes into its indexes.
static int scan(struct opening *o, size_t i, int64_t durable)
{
    struct log *l = o->l;
    struct segment *s = l->segments[i];
    struct window w = {0};
    uint64_t bytes = s->size;
    bool is_active = i + 1 == l->n_segments;
    s->keeps_indexes = true;
    if (!is_active || !may_resume(o) || !segment_use_state(s, &o->checkpoint.active)) {
        segment_shut(s);
        segment_forget_indexes(s);
        s->size = 0;
        s->is_loaded = s->keeps_indexes = true;
    }
    if (s->size > 0)
        l->checkpoint = o->checkpoint.active;
    if (s->size == bytes)
        return 0;
    int r = segment_open_file(s, true);
    if (r == 0)
        r = window_open(&w, s->file);
    if (r == 0)
        o->report->read_bytes += w.size - s->size;
    while (r == 0 && s->size < w.size) {
        struct batch_header h;
        bool is_valid;
        r = segment_batch_valid(&w, s->size, &h, &is_valid);
        if (r < 0)
            break;
        if (!is_valid || !may_follow(l, s->end, h.base_offset)) {
            r = judge(o, i, &w, s->size, durable);
            break;
        }
        segment_add(s, &h, l->config.index_interval_bytes);
    }
    window_close(&w);
    return say_io(o, r, "cannot be read");
}

static int scan_tail(struct opening *o)
{
    struct log *l = o->l;
    int64_t durable = o->durable;
    size_t first = log_segment_index(l, durable);
    int r = 0;
    o->cut_segment = l->n_segments;
    o->report->scanned = true;
    o->first_scanned = l->segments[first]->base;
    for (size_t i = 0; i < first && r == 0; i++)
        r = check_sealed(o, i);
    for (size_t i = first; i < l->n_segments && r == 0; i++) {
        r = scan(o, i, durable);
        if (r < 0 || o->cut_segment < l->n_segments || i + 1 == l->n_segments)
            break;
        struct segment *s = l->segments[i], *next = l->segments[i + 1];
        if (follows(l, s, next))
            continue;
        // The end of this segment never reached the disk, the next one did.
        if (!o->args->power_lost || reach(l, s) < durable)
            return say(o, -ENOENT, "%s: the segment with offset %" PRId64 " is missing", l->dir,
                       s->end);
        o->cut_segment = i;
        o->cut_pos = s->size;
        for (size_t k = i + 1; k < l->n_segments; k++)
            o->report->cut_bytes += l->segments[k]->size;
        say(o, 0,
            "%s: offsets from %" PRId64 " to %" PRId64 " were never durable: %" PRIu64
            " bytes behind them cut",
            l->dir, s->end, next->base, o->report->cut_bytes);
        break;
    }
    if (r < 0)
        return r;
    size_t last = o->cut_segment < l->n_segments ? o->cut_segment : l->n_segments - 1;
    if (reach(l, l->segments[last]) < durable)
        return say(o, -EBADMSG, "%s: ends at offset %" PRId64 ", but %" PRId64 " was durable",
                   l->dir, l->segments[last]->end, durable);
    return 0;
}

static int apply_cut(struct opening *o)
{
    struct log *l = o->l;
    int r = 0;
    if (o->cut_segment < l->n_segments && !disk_is_read_only(l->disk)) {
        struct segment *s = l->segments[o->cut_segment];
        r = log_segment_ready(l, s);
        if (r == 0)
            r = disk_truncate(s->file, o->cut_pos);
    }
    // What lies behind the cut goes, and segments that were begun and hold nothing.
    while (r == 0 && l->n_segments > 1 &&
           (l->n_segments > o->cut_segment + 1 || log_active(l)->size == 0)) {
        struct segment *s = log_active(l);
        r = disk_is_read_only(l->disk) ? 0 : segment_unlink(s);
        if (r < 0)
            break;
        segment_free(s);
        l->n_segments--;
        s = log_active(l);
        // Below the recovery point it was opened for reading, if at all.
        if (s->base < o->first_scanned) {
            segment_shut(s);
            r = segment_open(s, true, l->config.index_interval_bytes);
        }
    }
    return r;
}

static bool begins_epoch(const struct opening *o, int64_t end)
{
    return o->args->power_lost && o->args->reserved_upto > end && !bug(BUG_REUSE_OFFSET);
}

// The log goes on where no offset was given out before.
static int skip_to_mark(struct opening *o)
{
    struct log *l = o->l;
    const struct log_open *args = o->args;
    // The start that began this epoch may have lost its journal to the next power cut: what it had
    // found missing is told now.
    bool is_told = log_epoch(l) <= args->leader_epoch;
    o->report->lost_from = is_told ? l->end : log_active(l)->end;
    o->report->lost_upto = l->end;
    if (!begins_epoch(o, l->end))
        return 0;
    int32_t epoch = log_epoch(l) > args->leader_epoch ? log_epoch(l) : args->leader_epoch;
    o->report->lost_upto = args->reserved_upto;
    o->report->new_epoch = true;
    l->end = args->reserved_upto;
    return log_epoch_begin(l, epoch + 1);
}

// What was read may stand in the page cache only; it is about to be relied on.
static int settle(struct opening *o)
{
    struct log *l = o->l;
    int r = 0;
    for (size_t i = 0; i + 1 < l->n_segments && r == 0; i++) {
        struct segment *s = l->segments[i];
        if (s->base < o->first_scanned)
            continue;
        r = log_segment_ready(l, s);
        if (r == 0)
            r = disk_sync(s->file);
        if (r == 0)
            r = segment_seal_indexes(s);
        s->keeps_indexes = false;
    }
    l->synced = -1;
    if (r == 0) // it is not open when the checkpoint told all of it
        r = log_segment_ready(l, log_active(l));
    if (r == 0)
        r = log_sync(l);
    return r < 0 ? r : log_write_checkpoint(l);
}

static int open_unclean(struct opening *o)
{
    struct log *l = o->l;
    int r = scan_tail(o);
    if (r < 0)
        return r;
    // A log that nothing was written to costs no sync; its names are made durable with the first.
    bool is_empty =
        l->n_segments == 1 && log_active(l)->size == 0 && o->cut_segment == l->n_segments;
    // A new epoch is durable before it is told of, and so is the way to its file.
    bool needs_names = !is_empty || begins_epoch(o, log_end_of(l));
    size_t n_before = l->n_segments;
    bool was_durable = o->durable > 0 && o->cut_segment == n_before;
    r = apply_cut(o);
    l->end = log_end_of(l);
    l->start = l->segments[0]->base;
    was_durable = was_durable && l->n_segments == n_before && o->durable >= l->end &&
                  o->report->read_bytes == 0;
    l->synced = l->end;
    // Before the checkpoint, which says again what they are.
    if (r == 0 && !disk_is_read_only(l->disk))
        r = log_load_producers(l, &o->names);
    if (r == 0 && needs_names && !was_durable && !disk_is_read_only(l->disk))
        r = settle(o);
    if (r == 0)
        r = skip_to_mark(o);
    l->synced = l->end;
    return say_io(o, r, "cannot be recovered");
}

// Only a read-only disk has a log without a segment: nothing was written to it yet.
static int open_nothing(struct opening *o)
{
    struct log *l = o->l;
    if (l->epochs.n == 0)
        epochs_add(&l->epochs, 0, 0, 0);
    struct segment *s = segment_new(l->disk, l->files, l->dir, 0, o->args->now_ms);
    s->is_loaded = true;
    log_add_segment(l, s);
    int r = skip_to_mark(o);
    l->synced = l->end;
    return r;
}

static void read_checkpoint(struct opening *o)
{
    struct log *l = o->l;
    o->has_checkpoint = log_read_checkpoint(l, &o->checkpoint);
    // Of an epoch before, brought back by a power cut: the log was cut since, and written anew.
    bool is_stale = l->epochs.n > 0 && l->epochs.items[l->epochs.n - 1].start > 0 &&
                    o->checkpoint.active.end <= l->epochs.items[l->epochs.n - 1].start;
    l->recovery_point = o->has_checkpoint ? o->checkpoint.durable : 0;
    o->has_checkpoint = o->has_checkpoint && !is_stale;
    l->durable_point = log_names_have(&o->names, POINT_FILE) ? log_read_durable_point(l) : 0;
    o->is_damaged = l->durable_point < 0;
    o->durable = o->args->synced;
    if (o->durable < l->recovery_point)
        o->durable = l->recovery_point;
    if (o->durable < l->durable_point)
        o->durable = l->durable_point;
    // Compaction syncs what it writes before it takes the place of anything.
    if (o->durable < l->compaction.gaps)
        o->durable = l->compaction.gaps;
}

// Segments below may have been removed by retention. The power can take what the journal was told
// of that, but not the durable point, which is written before.
static int64_t gone_upto(const struct opening *o)
{
    int64_t start = o->args->log_start;
    int64_t point = o->args->power_lost ? log_read_durable_point(o->l) : 0;
    return point > start ? point : start;
}

static int list_names(struct opening *o)
{
    return say_io(o, log_list(o->l, o->arena, &o->names), "cannot be read");
}

static int look_and_open(struct opening *o)
{
    struct log *l = o->l;
    int r = dir_open(o);
    bool is_there = !o->is_new || !disk_is_read_only(l->disk);
    if (r == 0 && is_there)
        r = load_epochs(o);
    if (r == 0 && is_there)
        r = list_names(o);
    bool has_changed = false;
    if (r == 0)
        r = log_clean_recover(l, &o->names, gone_upto(o), &has_changed, o->report->text,
                              sizeof o->report->text);
    if (r == 0 && has_changed)
        r = list_names(o);
    read_checkpoint(o);
    if (r == 0 && o->args->repair) {
        r = log_repair(l, o->args, o->durable, o->report->text, sizeof o->report->text);
        if (r == 0)
            r = list_names(o);
        read_checkpoint(o);
    }
    if (r == 0 && is_there)
        r = list_segments(o);
    if (r < 0)
        return r;
    bool is_as_left = o->args->was_clean && !o->is_new && !o->args->repair;
    const struct log_mark *mark = is_as_left ? o->args->mark : NULL;
    if (l->n_segments == 0)
        return open_nothing(o);
    return mark ? open_clean(o, mark) : open_unclean(o);
}

static int open_all(struct opening *o)
{
    struct log *l = o->l;
    int r = log_open_as_left(l, o->args) ? 0 : look_and_open(o);
    if (r < 0)
        return r;
    if (o->args->log_start > l->start)
        l->start = o->args->log_start < l->end ? o->args->log_start : l->end;
    l->reserve_mark = o->args->reserved_upto > l->end ? o->args->reserved_upto : l->end;
    return 0;
}

int log_open(const struct log_open *args, struct log **ret_log, struct log_report *report)
{
    *report = (struct log_report){0};
    struct log *l = calloc(1, sizeof *l);
    CHECK(l);
    l->disk = args->disk;
    l->files = args->files;
    l->owner = args->owner;
    l->topic_id = args->topic_id;
    list_init(&l->dirty);
    l->dir = strdup(args->dir);
    CHECK(l->dir);
    l->config = args->config;
    l->sync_target = -1;
    l->rebuilt = -1;
    l->producers = producer_state_new();
    struct opening o = {.l = l, .args = args, .report = report, .arena = arena_new()};
    int r = open_all(&o);
    arena_free(o.arena);
    if (r < 0) {
        log_close(l);
        return r;
    }
    *ret_log = l;
    return 0;
}
