#include "store/log_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const suffixes[] = {"log", "index", "timeindex", "state"};
#define N_SUFFIXES (sizeof suffixes / sizeof *suffixes)
#define BASE_DIGITS 20

bool log_is_cleaning(const struct log *l)
{
    return l->cleaning;
}

int64_t log_cleaned(const struct log *l)
{
    return l->compaction.cleaned;
}

int64_t log_gaps_end(const struct log *l)
{
    return l->compaction.gaps;
}

// What is to be done, as Kafka reckons it.

static int64_t dirty_from(const struct log *l)
{
    int64_t from = l->compaction.cleaned;
    return from < l->start || from > l->end ? l->start : from;
}

// The newest sealed segment's index + 1 below which all may be compacted.
static int cleanable(struct log *l, int64_t now_ms, int64_t upper_offset, size_t *ret_n)
{
    const struct log_config *c = &l->config;
    size_t n = l->n_segments - 1;
    if (upper_offset < log_active(l)->base)
        n = log_segment_index(l, upper_offset);
    for (size_t i = log_segment_index(l, dirty_from(l)); i < n && c->min_compaction_lag_ms > 0;
         i++) {
        struct segment *s = l->segments[i];
        int r = s->is_loaded ? 0 : log_segment_ready(l, s);
        if (r < 0)
            return r;
        int64_t newest_ms = s->max_timestamp_ms >= 0 ? s->max_timestamp_ms : s->modified_ms;
        if (newest_ms > now_ms - c->min_compaction_lag_ms)
            n = i;
    }
    *ret_n = n;
    return 0;
}

// Whether a record waits longer than it may.
static int is_overdue(struct log *l, int64_t now_ms, bool *ret_is)
{
    int64_t lag_ms = l->config.max_compaction_lag_ms;
    *ret_is = false;
    if (lag_ms > now_ms)
        return 0;
    for (size_t i = log_segment_index(l, dirty_from(l)); i + 1 < l->n_segments && !*ret_is; i++) {
        struct segment *s = l->segments[i];
        int r = s->is_loaded ? 0 : log_segment_ready(l, s);
        if (r < 0)
            return r;
        *ret_is = s->first_timestamp_ms > 0 && s->first_timestamp_ms < now_ms - lag_ms;
    }
    return 0;
}

int log_clean_look(struct log *l, int64_t now_ms, int64_t upper_offset, double *ret_ratio,
                   bool *ret_wants)
{
    *ret_ratio = 0;
    *ret_wants = false;
    if (l->broken || l->cleaning || !l->config.compacts || l->n_segments == 1)
        return l->broken;
    size_t n;
    bool is_due = false;
    int r = cleanable(l, now_ms, upper_offset, &n);
    if (r == 0)
        r = is_overdue(l, now_ms, &is_due);
    if (r < 0)
        return r;
    int64_t from = dirty_from(l);
    uint64_t clean_bytes = 0, dirty_bytes = 0;
    for (size_t i = 0; i + 1 < l->n_segments; i++) {
        if (l->segments[i]->base < from)
            clean_bytes += l->segments[i]->size;
        if (i >= log_segment_index(l, from) && i < n)
            dirty_bytes += l->segments[i]->size;
    }
    if (dirty_bytes == 0)
        return 0;
    *ret_ratio = (double)dirty_bytes / (double)(clean_bytes + dirty_bytes);
    *ret_wants = is_due || *ret_ratio > l->config.min_dirty_ratio;
    return 0;
}

// A round.

static int compare_producers(const void *a, const void *b)
{
    const struct clean_producer *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void copy_producers(const struct log *l, struct cleaning *c)
{
    c->producers = calloc(producer_state_count(l->producers) + 1, sizeof *c->producers);
    CHECK(c->producers);
    struct producer_batch last;
    for (size_t it = 0; producer_state_next(l->producers, &it, &last);)
        c->producers[c->n_producers++] =
            (struct clean_producer){last.producer_id, last.last_offset};
    if (c->n_producers)
        qsort(c->producers, c->n_producers, sizeof *c->producers, compare_producers);
}

void log_clean_begin(struct log *l, int64_t now_ms, int64_t upper_offset, uint64_t dedupe_bytes,
                     const struct siphash_key *hash, uint64_t cookie)
{
    CHECK(!l->cleaning);
    struct cleaning *c = calloc(1, sizeof *c);
    CHECK(c);
    c->disk = l->disk;
    c->dir = strdup(l->dir);
    CHECK(c->dir);
    c->config = (struct clean_config){.segment_bytes = l->config.segment_bytes,
                                      .segment_index_bytes = l->config.segment_index_bytes,
                                      .index_interval_bytes = l->config.index_interval_bytes,
                                      .delete_retention_ms = l->config.delete_retention_ms,
                                      .now_ms = now_ms,
                                      .dedupe_bytes = dedupe_bytes,
                                      .hash = *hash};
    size_t n = 0;
    if (cleanable(l, now_ms, upper_offset, &n) < 0)
        n = 0; // it was read a moment ago; then this round finds nothing to do
    c->sources = calloc(n + 1, sizeof *c->sources);
    CHECK(c->sources);
    for (size_t i = 0; i < n; i++) {
        const struct segment *s = l->segments[i];
        c->sources[i] = (struct clean_source){s->base, s->size, s->modified_ms};
    }
    c->n_sources = n;
    c->dirty_from = dirty_from(l);
    c->upper = l->segments[n]->base;
    c->state = l->compaction;
    copy_producers(l, c);
    l->cleaning = c;
    l->clean_cookie = cookie;
    disk_work_start(l->disk, cleaner_step, c, cookie);
}

static void name_of(const struct cleaning *c, int64_t base, const char *suffix, const char *more,
                    char ret_path[SEGMENT_PATH_BYTES])
{
    snprintf(ret_path, SEGMENT_PATH_BYTES, "%s/%020" PRId64 ".%s%s", c->dir, base, suffix, more);
}

// The segments [first, first + n) of the log are now the one that was written.
static void replace(struct log *l, size_t first, size_t n, struct cleaning *c)
{
    const struct segment *out = c->output;
    struct segment *s =
        segment_new(l->disk, l->files, l->dir, out->base, l->segments[first]->created_ms);
    s->end = out->end;
    s->size = out->size;
    s->max_timestamp_ms = out->max_timestamp_ms;
    s->max_timestamp_offset = out->max_timestamp_offset;
    s->first_timestamp_ms = out->first_timestamp_ms;
    s->modified_ms = l->segments[first + n - 1]->modified_ms;
    s->is_loaded = true;
    s->marks = c->marks;
    s->n_marks = c->n_marks;
    c->marks = NULL;
    c->n_marks = c->cap_marks = 0;
    for (size_t i = first; i < first + n; i++)
        segment_free(l->segments[i]);
    l->segments[first] = s;
    memmove(l->segments + first + 1, l->segments + first + n,
            (l->n_segments - first - n) * sizeof *l->segments);
    l->n_segments -= n - 1;
}

static int swap(struct log *l, struct cleaning *c, int64_t *ret_saved)
{
    int64_t base = c->sources[c->first].base;
    size_t first = log_segment_index(l, base);
    CHECK(l->segments[first]->base == base && first + c->n < l->n_segments);
    *ret_saved = -(int64_t)c->output->size;
    int r = 0;
    for (size_t i = 0; i < c->n && r == 0; i++) {
        struct segment *s = l->segments[first + i];
        CHECK(s->base == c->sources[c->first + i].base);
        *ret_saved += (int64_t)s->size;
        if (i > 0)
            r = segment_unlink(s);
    }
    for (size_t i = 0; i < N_SUFFIXES && r == 0; i++) {
        char from[SEGMENT_PATH_BYTES], to[SEGMENT_PATH_BYTES];
        name_of(c, base, suffixes[i], CLEANED_SUFFIX, from);
        name_of(c, base, suffixes[i], "", to);
        r = disk_rename(l->disk, from, to);
    }
    if (r < 0)
        return l->broken = r;
    replace(l, first, c->n, c);
    l->compaction = c->state;
    c->is_swapped = true;
    return 0;
}

static void end_round(struct log *l)
{
    cleaning_free(l->cleaning);
    l->cleaning = NULL;
}

int log_clean_done(struct log *l, int error, struct log_clean_report *ret_report)
{
    struct cleaning *c = l->cleaning;
    free(l->clean_text);
    l->clean_text = strdup(c->text[0] ? c->text : error < 0 ? strerror(-error) : "");
    CHECK(l->clean_text);
    *ret_report = (struct log_clean_report){.is_over = true, .text = l->clean_text};
    bool is_harmless = !c->is_unsure && (c->is_bad_source || log_is_want(error) ||
                                         error == -ECANCELED || error == -ENOENT);
    if (error == 0 && c->needs_swap) {
        error = l->broken ? l->broken : swap(l, c, &ret_report->bytes_saved);
        if (error == 0) {
            ret_report->is_over = false;
            disk_work_start(l->disk, cleaner_step, c, l->clean_cookie);
            return 0;
        }
    } else if (error == 0 || is_harmless) {
        l->compaction = c->state;
        ret_report->is_bad = c->is_bad_source;
        error = 0;
    } else {
        l->broken = error;
    }
    end_round(l);
    return error;
}

void log_clean_abandon(struct log *l)
{
    if (!l->cleaning)
        return;
    atomic_store(&l->cleaning->is_cancelled, true);
    disk_work_abandon(l->disk, l->clean_cookie);
    end_round(l);
}

int log_clean_finish(struct log *l)
{
    struct cleaning *c = l->cleaning;
    if (!c)
        return 0;
    atomic_store(&c->is_cancelled, true);
    disk_work_abandon(l->disk, l->clean_cookie);
    int64_t saved;
    int r = l->broken;
    if (r == 0 && c->needs_swap && !c->is_swapped)
        r = swap(l, c, &saved);
    if (r == 0 && c->is_unsure)
        r = -EIO;
    if (r == 0)
        l->compaction = c->state;
    if (r == 0 && l->compaction.swap_base >= 0) {
        compaction_no_swap(&l->compaction);
        r = disk_sync_dir(l->disk, l->dir);
        if (r == 0)
            r = compaction_write(l->disk, l->dir, &l->compaction);
    }
    end_round(l);
    return r < 0 ? l->broken = r : 0;
}

// At the start.

// BASE.log, BASE.index.cleaned ...: which base, and whether a name of a segment it is at all.
static bool parse_name(const char *name, int64_t *ret_base, bool *ret_is_cleaned)
{
    size_t digits = strspn(name, "0123456789");
    if (digits != BASE_DIGITS || name[digits] != '.')
        return false;
    *ret_base = strtoll(name, NULL, 10);
    for (size_t i = 0; i < N_SUFFIXES; i++) {
        const char *rest = name + digits + 1;
        size_t len = strlen(suffixes[i]);
        if (strncmp(rest, suffixes[i], len) != 0)
            continue;
        *ret_is_cleaned = strcmp(rest + len, CLEANED_SUFFIX) == 0;
        if (*ret_is_cleaned || !rest[len])
            return true;
    }
    return false;
}

// Whether the new segment is there, under the one name or the other. Retention may have taken it
// since, where the disk was too full to say that the swap was over.
static bool has_swap(struct log *l, int64_t log_start)
{
    const struct compaction *c = &l->compaction;
    char path[SEGMENT_PATH_BYTES];
    struct disk_stat st;
    snprintf(path, sizeof path, "%s/%020" PRId64 ".log" CLEANED_SUFFIX, l->dir, c->swap_base);
    int r = disk_stat(l->disk, path, &st);
    if (r == -ENOENT) {
        snprintf(path, sizeof path, "%s/%020" PRId64 ".log", l->dir, c->swap_base);
        r = disk_stat(l->disk, path, &st);
    }
    if (r == -ENOENT)
        return log_start > c->swap_base;
    return r == 0 && st.size == (uint64_t)c->swap_bytes;
}

static int recover_name(struct log *l, const char *name, bool *ret_changed)
{
    const struct compaction *c = &l->compaction;
    char path[SEGMENT_PATH_BYTES], to[SEGMENT_PATH_BYTES];
    int64_t base;
    bool is_cleaned;
    if (!parse_name(name, &base, &is_cleaned))
        return 0;
    log_path(l, name, path);
    bool is_swapped = c->swap_base >= 0 && base == c->swap_base;
    if (is_cleaned && is_swapped) {
        snprintf(to, sizeof to, "%.*s", (int)(strlen(path) - strlen(CLEANED_SUFFIX)), path);
        *ret_changed = true;
        return disk_rename(l->disk, path, to);
    }
    bool is_replaced = base > c->swap_base && base < c->swap_upto && c->swap_base >= 0;
    if (!is_cleaned && !is_replaced)
        return 0;
    *ret_changed = true;
    return disk_unlink(l->disk, path);
}

int log_clean_recover(struct log *l, const struct log_names *names, int64_t log_start,
                      bool *ret_changed, char *ret_text, size_t size)
{
    struct compaction *c = &l->compaction;
    *c = (struct compaction){0};
    compaction_no_swap(c);
    int r = log_names_have(names, COMPACTION_FILE) ? compaction_read(l->disk, l->dir, c) : 0;
    if (r < 0 && r != -ENOENT) {
        snprintf(ret_text, size, "%s/" COMPACTION_FILE ": %s", l->dir,
                 r == -EBADMSG ? "damaged" : strerror(-r));
        return r;
    }
    if (c->swap_base >= 0 && !has_swap(l, log_start)) {
        snprintf(ret_text, size,
                 "%s/%020" PRId64 ".log" CLEANED_SUFFIX ": was to take its place with %" PRId64
                 " bytes and is not there, or not whole: nothing was changed",
                 l->dir, c->swap_base, c->swap_bytes);
        return -EBADMSG;
    }
    // Who only looks sees a log with a gap, and every record below it or above.
    if (disk_is_read_only(l->disk))
        return 0;
    r = 0;
    for (size_t i = 0; i < names->n && r == 0; i++)
        r = recover_name(l, names->at[i], ret_changed);
    if (r == 0 && (*ret_changed || c->swap_base >= 0))
        r = disk_sync_dir(l->disk, l->dir);
    if (r == 0 && c->swap_base >= 0) {
        compaction_no_swap(c);
        r = compaction_write(l->disk, l->dir, c);
    }
    if (r < 0)
        snprintf(ret_text, size, "%s: compaction cannot be brought to its end: %s", l->dir,
                 strerror(-r));
    return r;
}

// Offsets without a record.

static int64_t records_of(const struct batch_header *h)
{
    bool is_control = h->attributes & BATCH_CONTROL;
    return is_control || h->count < 0 ? 0 : h->count;
}

static int make_marks(struct segment *s)
{
    size_t cap = 0;
    int64_t records = 0;
    struct walk w;
    int r;
    if (s->marks)
        return 0;
    walk_start(&w, s, 0);
    for (; (r = walk_read(&w)) > 0; walk_next(&w)) {
        bool is_due = s->n_marks == 0 || w.pos >= s->marks[s->n_marks - 1].pos + KEPT_MARK_BYTES;
        if (is_due && s->n_marks == cap) {
            cap = cap ? 2 * cap : 16;
            s->marks = realloc(s->marks, cap * sizeof *s->marks);
            CHECK(s->marks);
        }
        if (is_due)
            s->marks[s->n_marks++] = (struct kept_mark){w.header.base_offset, w.pos, records};
        records += records_of(&w.header);
    }
    if (r < 0) {
        free(s->marks);
        s->marks = NULL;
        s->n_marks = 0;
    }
    return r;
}

static int count_in_batch(struct segment *s, const struct walk *w, int64_t offset, int64_t *ret_n)
{
    struct log_batch b;
    struct record rec;
    int64_t n = 0;
    int r = log_batch_read(&b, s, w);
    while (r == 0 && (r = record_next(&b.it, &rec)) > 0) {
        r = 0;
        n += rec.offset < offset;
    }
    log_batch_free(&b);
    *ret_n += n;
    return r;
}

// Records of the segment below the offset.
static int records_below(struct log *l, struct segment *s, int64_t offset, int64_t *ret_n)
{
    *ret_n = 0;
    int r = log_segment_ready(l, s);
    if (r == 0)
        r = make_marks(s);
    if (r < 0)
        return r;
    size_t low = 0, high = s->n_marks;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (s->marks[mid].offset <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    struct walk w;
    walk_start(&w, s, low ? s->marks[low - 1].pos : 0);
    *ret_n = low ? s->marks[low - 1].records : 0;
    for (; (r = walk_read(&w)) > 0 && w.header.base_offset < offset; walk_next(&w)) {
        if (batch_header_end(&w.header) > offset && !(w.header.attributes & BATCH_CONTROL))
            return count_in_batch(s, &w, offset, ret_n);
        *ret_n += records_of(&w.header);
    }
    return r < 0 ? r : 0;
}

int64_t log_holes(struct log *l, int64_t from, int64_t to)
{
    if (to > l->compaction.gaps)
        to = l->compaction.gaps;
    if (from < l->segments[0]->base)
        from = l->segments[0]->base;
    if (from >= to)
        return 0;
    int64_t records = 0;
    for (size_t i = log_segment_index(l, from); i < l->n_segments; i++) {
        struct segment *s = l->segments[i];
        int64_t below = 0, all;
        if (s->base >= to)
            break;
        int r = records_below(l, s, to, &all);
        if (r == 0 && from > s->base)
            r = records_below(l, s, from, &below);
        if (r < 0)
            return 0; // what cannot be read now counts as records
        records += all - below;
    }
    return to - from > records ? to - from - records : 0;
}
