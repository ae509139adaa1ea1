// How a clean stop left a log's files: what a start would find in them, so that it need not look,
// and which files said so, so that it looks when one of them is another. Lines of DATA/clean that
// begin with a blank and belong to the log above them; docs/FORMAT.md has them.
//
// What stands here is believed only while all of it fits. Nothing is changed before, and whatever
// does not fit is left to the way of log_recovery.c, which also finds the words for it.
#include "store/log_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LEFT_VERSION 1
// Producers that go along; of more the file is read.
#define LEFT_PRODUCERS_MAX_BYTES 4096
#define EPOCHS_MAX 1000 // that go along; a log with more is opened as if nothing were told

// Files whose bytes count besides the segments', when they are there.
static const char *const judges[] = {METADATA_FILE, EPOCHS_FILE, COMPACTION_FILE, POINT_FILE};
enum { JUDGE_METADATA, JUDGE_EPOCHS, JUDGE_COMPACTION, JUDGE_POINT, N_JUDGES };

// Writing.

static void stamp_text(const struct disk_stat *st, struct buf *out)
{
    buf_printf(out, " %" PRIu64 " %" PRIu64 " %" PRId64, st->id, st->size, st->changed);
}

// Whether the names are those of the log as it is here, so that the next start would find nothing
// else: somebody may have put a file there meanwhile.
static bool names_fit(const struct log *l, const struct log_names *names)
{
    size_t n = 0;
    for (size_t i = 0; i < names->n; i++) {
        const char *name = names->at[i];
        size_t len = strlen(name);
        if (len == 24 && strcmp(name + 20, ".log") == 0 && strspn(name, "0123456789") == 20) {
            if (n == l->n_segments || l->segments[n]->base != strtoll(name, NULL, 10))
                return false;
            n++;
        } else if (strstr(name, CLEANED_SUFFIX)) {
            return false;
        }
    }
    const struct compaction *c = &l->compaction;
    bool has_compacted = c->cleaned != 0 || c->gaps != 0;
    return n == l->n_segments && c->swap_base < 0 &&
           has_compacted == log_names_have(names, COMPACTION_FILE) &&
           l->has_epochs_file == log_names_have(names, EPOCHS_FILE);
}

static bool judges_text(const struct log *l, const struct log_names *names, struct buf *out)
{
    char path[SEGMENT_PATH_BYTES];
    for (int i = 0; i < N_JUDGES; i++) {
        struct disk_stat st = l->metadata;
        // What is not durable of one epoch's file nobody needs.
        bool counts = i == JUDGE_METADATA ||
                      (log_names_have(names, judges[i]) && (i != JUDGE_EPOCHS || l->epochs.n > 1));
        if (!counts)
            continue;
        log_path(l, judges[i], path);
        // The metadata as it was when it was read or written.
        if (i != JUDGE_METADATA && disk_stat(l->disk, path, &st) < 0)
            return false;
        if (st.id == 0)
            return false;
        buf_printf(out, " file %d", i);
        stamp_text(&st, out);
        buf_add(out, "\n", 1);
    }
    return true;
}

static bool segment_text(const struct segment *s, struct buf *out)
{
    char path[SEGMENT_PATH_BYTES];
    struct disk_stat st;
    segment_path(s, "log", path);
    if (disk_stat(s->disk, path, &st) < 0 || st.size != s->size)
        return false;
    buf_printf(out, " segment %" PRId64, s->base);
    stamp_text(&st, out);
    if (s->is_loaded)
        buf_printf(out, " end %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64, s->end,
                   s->first_timestamp_ms, s->max_timestamp_ms, s->max_timestamp_offset);
    buf_add(out, "\n", 1);
    return true;
}

// Of the active segment, as the last checkpoint has it.
static bool index_text(const struct log *l, struct buf *out)
{
    const struct segment *s = log_active(l);
    if (s->size == 0)
        return true;
    bool is_saved =
        s->is_unread || (s->n_offsets == s->offsets_saved.n && s->n_times == s->times_saved.n);
    if (!is_saved || !s->is_loaded || l->checkpoint.base != s->base ||
        l->checkpoint.bytes != s->size || l->checkpoint.end != s->end)
        return false;
    buf_printf(out, " index %" PRIu32 " %zu %" PRIu32 " %zu %" PRIu32 "\n", s->bytes_since_index,
               s->offsets_saved.n, s->offsets_saved.crc, s->times_saved.n, s->times_saved.crc);
    return true;
}

static void producers_text(const struct log *l, struct buf *out)
{
    static const char digits[] = "0123456789abcdef";
    if (producer_state_count(l->producers) == 0) {
        buf_printf(out, " producers\n");
        return;
    }
    struct buf b = {0};
    producer_state_encode(l->producers, &b);
    if (b.len <= LEFT_PRODUCERS_MAX_BYTES) {
        buf_printf(out, " producers ");
        uint8_t *at = buf_extend(out, 2 * b.len);
        for (size_t i = 0; i < b.len; i++) {
            at[2 * i] = (uint8_t)digits[b.ptr[i] >> 4];
            at[2 * i + 1] = (uint8_t)digits[b.ptr[i] & 15];
        }
        buf_add(out, "\n", 1);
    }
    buf_free(&b);
}

static bool all_text(const struct log *l, const struct log_names *names,
                     const struct disk_stat *dir, struct buf *out)
{
    char id[23];
    uuid_text(l->topic_id, id);
    buf_printf(out, " left %d %s", LEFT_VERSION, id);
    stamp_text(dir, out);
    buf_printf(out, "\n offsets %" PRId64 " %" PRId64 " %" PRId64 "\n epochs %d", l->durable_point,
               l->compaction.cleaned, l->compaction.gaps, l->has_epochs_file);
    for (size_t i = 0; i < l->epochs.n; i++)
        buf_printf(out, " %" PRId32 " %" PRId64, l->epochs.items[i].epoch,
                   l->epochs.items[i].start);
    buf_add(out, "\n", 1);
    if (!judges_text(l, names, out))
        return false;
    for (size_t i = 0; i < l->n_segments; i++)
        if (!segment_text(l->segments[i], out))
            return false;
    if (!index_text(l, out))
        return false;
    producers_text(l, out);
    return true;
}

void log_left_text(const struct log *l, struct buf *out)
{
    size_t before = out->len;
    struct arena *a = arena_new();
    struct log_names names = {0};
    struct disk_stat dir;
    // In this order a change in between is seen by the next start.
    bool is_good = !l->broken && l->durable_point >= 0 && l->epochs.n <= EPOCHS_MAX &&
                   disk_stat(l->disk, l->dir, &dir) == 0 && log_list(l, a, &names) == 0 &&
                   names_fit(l, &names) && all_text(l, &names, &dir, out);
    arena_free(a);
    if (!is_good)
        out->len = before;
}

// Reading. `at` is NULL once something was not as expected.

struct left {
    const char *at;
    struct log *l;
    const struct log_open *args;
};

static bool left_word(struct left *f, const char *word)
{
    size_t n = strlen(word);
    bool is_there = f->at && strncmp(f->at, word, n) == 0;
    if (is_there)
        f->at += n;
    return is_there;
}

static void left_expect(struct left *f, const char *word)
{
    if (!left_word(f, word))
        f->at = NULL;
}

static uint64_t left_u64(struct left *f)
{
    const char *at = f->at;
    uint64_t n = 0;
    if (!at || *at++ != ' ' || *at < '0' || *at > '9') {
        f->at = NULL;
        return 0;
    }
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*at - '0'), &n)) {
            f->at = NULL;
            return 0;
        }
    f->at = at;
    return n;
}

static int64_t left_i64(struct left *f)
{
    bool is_negative = f->at && f->at[0] == ' ' && f->at[1] == '-';
    if (!is_negative)
        return (int64_t)left_u64(f);
    const char *digits = f->at + 2;
    if (*digits < '0' || *digits > '9') {
        f->at = NULL;
        return 0;
    }
    f->at = digits;
    int64_t n = 0;
    for (; *f->at >= '0' && *f->at <= '9'; f->at++)
        n = n * 10 - (*f->at - '0');
    return n;
}

// The file is the one that was there, and was changed before the stop was over: what was done to it
// later has another time, however coarse the clock is that the file system goes by.
static bool is_as_left(struct left *f, const char *path, struct disk_stat *ret)
{
    uint64_t id = left_u64(f), size = left_u64(f);
    int64_t changed = left_i64(f);
    return f->at && disk_stat(f->l->disk, path, ret) == 0 && ret->id == id && ret->size == size &&
           ret->changed == changed && changed < f->args->mark->left_before;
}

static bool read_head(struct left *f)
{
    struct log *l = f->l;
    char id[23];
    struct disk_stat st;
    left_expect(f, " left");
    if (left_u64(f) != LEFT_VERSION)
        return false;
    uuid_text(l->topic_id, id);
    left_expect(f, " ");
    left_expect(f, id);
    if (!is_as_left(f, l->dir, &st) || !st.is_dir)
        return false;
    left_expect(f, "\n offsets");
    l->durable_point = left_i64(f);
    l->compaction = (struct compaction){.cleaned = left_i64(f)};
    l->compaction.gaps = left_i64(f);
    compaction_no_swap(&l->compaction);
    left_expect(f, "\n epochs");
    l->has_epochs_file = left_u64(f) == 1;
    while (f->at && *f->at == ' ') {
        int32_t epoch = (int32_t)left_i64(f);
        int64_t start = left_i64(f);
        epochs_add(&l->epochs, epoch, start, start);
    }
    left_expect(f, "\n");
    return f->at && l->epochs.n > 0 && (l->has_epochs_file || f->args->leader_epoch == 0);
}

static bool read_judges(struct left *f)
{
    char path[SEGMENT_PATH_BYTES];
    struct disk_stat st;
    while (left_word(f, " file")) {
        uint64_t i = left_u64(f);
        if (i >= N_JUDGES)
            return false;
        log_path(f->l, judges[i], path);
        if (!is_as_left(f, path, &st))
            return false;
        if (i == JUDGE_METADATA)
            f->l->metadata = st;
        left_expect(f, "\n");
    }
    return f->at && f->l->metadata.id != 0;
}

static bool read_segments(struct left *f)
{
    char path[SEGMENT_PATH_BYTES];
    struct log *l = f->l;
    struct disk_stat st;
    while (left_word(f, " segment")) {
        int64_t base = left_i64(f);
        struct segment *s = segment_new(l->disk, l->files, l->dir, base, f->args->now_ms);
        if (l->n_segments > 0)
            log_active(l)->end = log_active(l)->is_loaded ? log_active(l)->end : base;
        log_add_segment(l, s);
        segment_path(s, "log", path);
        if (!is_as_left(f, path, &st))
            return false;
        s->size = st.size;
        s->modified_ms = st.modified_ms;
        s->is_loaded = left_word(f, " end");
        if (s->is_loaded) {
            s->end = left_i64(f);
            s->first_timestamp_ms = left_i64(f);
            s->max_timestamp_ms = left_i64(f);
            s->max_timestamp_offset = left_i64(f);
        }
        left_expect(f, "\n");
    }
    return f->at && l->n_segments > 0 && log_active(l)->is_loaded;
}

static bool read_index(struct left *f)
{
    struct log *l = f->l;
    struct segment *s = log_active(l);
    s->keeps_indexes = true;
    if (s->size == 0)
        return true;
    left_expect(f, " index");
    s->bytes_since_index = (uint32_t)left_u64(f);
    s->offsets_saved.n = (size_t)left_u64(f);
    s->offsets_saved.crc = (uint32_t)left_u64(f);
    s->times_saved.n = (size_t)left_u64(f);
    s->times_saved.crc = (uint32_t)left_u64(f);
    left_expect(f, "\n");
    s->is_unread = s->offsets_saved.n > 0 || s->times_saved.n > 0;
    l->checkpoint = segment_state_of(s);
    return f->at;
}

static int nibble(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_producers(struct left *f)
{
    if (!left_word(f, " producers")) { // too many to go along
        struct arena *a = arena_new();
        struct log_names names = {0};
        bool is_good = log_list(f->l, a, &names) == 0 && log_load_producers(f->l, &names) == 0;
        arena_free(a);
        return is_good;
    }
    if (*f->at == '\n')
        return true;
    struct buf b = {0};
    const char *at = f->at + 1;
    for (; nibble(at[0]) >= 0 && nibble(at[1]) >= 0; at += 2)
        *buf_extend(&b, 1) = (uint8_t)(nibble(at[0]) << 4 | nibble(at[1]));
    bool is_good = *f->at == ' ' && *at == '\n' &&
                   producer_state_decode(f->l->producers, (struct bytes){b.ptr, b.len}) == 0;
    buf_free(&b);
    return is_good;
}

static void forget(struct log *l)
{
    for (size_t i = 0; i < l->n_segments; i++)
        segment_free(l->segments[i]);
    l->n_segments = 0;
    epochs_free(&l->epochs);
    producer_state_free(l->producers);
    l->producers = producer_state_new();
    l->metadata = (struct disk_stat){0};
    l->checkpoint = (struct segment_state){0};
    l->compaction = (struct compaction){0};
    l->durable_point = l->end = 0;
    l->has_epochs_file = false;
}

bool log_open_as_left(struct log *l, const struct log_open *args)
{
    const struct log_mark *mark = args->mark;
    if (!args->was_clean || !mark || !mark->left || args->repair)
        return false;
    struct left f = {.at = mark->left, .l = l, .args = args};
    bool is_good = read_head(&f) && read_judges(&f) && read_segments(&f) && read_index(&f);
    int64_t first = args->log_start > mark->start ? args->log_start : mark->start;
    if (is_good) {
        l->end = log_end_of(l);
        is_good = l->segments[0]->base <= first && log_active(l)->size == mark->active_bytes &&
                  log_bytes(l) == mark->bytes && l->end == mark->end && read_producers(&f);
    }
    if (!is_good) {
        forget(l);
        return false;
    }
    l->is_unborn = mark->end == 0;
    l->start = mark->start;
    l->synced = l->recovery_point = l->end;
    return true;
}
