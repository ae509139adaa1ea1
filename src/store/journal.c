#include "store/journal_file.h"

#include "base/bug.h"
#include "store/pack.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SNAPSHOT_BYTES (64ull << 20)
// A snapshot is written in pieces of this size.
#define SNAPSHOT_CHUNK_BYTES (1u << 20)
#define PATH_BYTES 4096
#define ROOM_STEP_BYTES (1u << 20) // of space taken ahead

// So much waits to be written together.
#define SOON_MAX_BYTES (256u << 10)

struct journal {
    struct disk *disk;
    char *dir;
    uint64_t snapshot_bytes;
    struct disk_file *file; // the last segment
    uint64_t first;         // its first position
    uint64_t size;          // of it
    uint64_t room_upto;     // of its space, known to be ours
    uint64_t position, synced;
    struct buf soon;      // appended, but not in the file yet
    uint64_t sync_target; // what the sync under way covers; 0: none is under way
    int broken;           // a write or sync failed: what is on disk is not known any more
    bool is_snapshotting;
};

struct journal_snapshot {
    struct journal *journal;
    struct disk_file *file;
    struct journal_batch chunk;
    uint64_t size, n_records;
};

void journal_batch_clear(struct journal_batch *b)
{
    buf_clear(&b->buf);
    b->n_records = 0;
}

void journal_batch_free(struct journal_batch *b)
{
    buf_free(&b->buf);
    kw_out_free(&b->out);
    *b = (struct journal_batch){0};
}

void journal_batch_add_raw(struct journal_batch *b, int16_t type, int16_t version,
                           struct bytes body)
{
    if (b->buf.len == 0)
        buf_extend(&b->buf, JOURNAL_BATCH_HEADER_BYTES);
    uint8_t *p = buf_extend(&b->buf, JOURNAL_RECORD_HEADER_BYTES);
    pack_u16(p, (uint16_t)type);
    pack_u16(p + 2, (uint16_t)version);
    pack_u32(p + 4, (uint32_t)body.len);
    if (body.len)
        buf_add(&b->buf, body.ptr, body.len);
    b->n_records++;
}

void journal_batch_add(struct journal_batch *b, const struct kw_message *type, const void *record)
{
    kw_out_clear(&b->out);
    kw_encode(type, type->max_version, record, &b->out);
    journal_batch_add_raw(b, type->key, type->max_version,
                          (struct bytes){b->out.buf.ptr, b->out.buf.len});
}

// 0: nothing to write, 1: the batch is sealed under the next position.
static int seal_next(struct journal *j, struct journal_batch *b, uint64_t *ret_position)
{
    if (j->broken)
        return j->broken;
    CHECK(!j->is_snapshotting);
    if (b->n_records == 0) {
        *ret_position = j->position;
        return 0;
    }
    if (b->buf.len > JOURNAL_BATCH_MAX_BYTES)
        return -E2BIG;
    journal_batch_seal(b->buf.ptr, b->buf.len, j->position + 1, j->synced, b->n_records);
    return 1;
}

int journal_flush(struct journal *j)
{
    if (j->broken || j->soon.len == 0)
        return j->broken;
    // Want of room is no different here: these decisions are in force already.
    int r = disk_pwrite(j->file, j->soon.ptr, j->soon.len, j->size);
    if (r < 0)
        return j->broken = r;
    j->size += j->soon.len;
    if (j->soon.cap > SOON_MAX_BYTES)
        buf_free(&j->soon);
    j->soon.len = 0;
    return 0;
}

int journal_append_soon(struct journal *j, struct journal_batch *b, uint64_t *ret_position)
{
    int r = seal_next(j, b, ret_position);
    if (r <= 0)
        return r;
    if (j->soon.len + b->buf.len > SOON_MAX_BYTES && (r = journal_flush(j)) < 0)
        return r;
    buf_add(&j->soon, b->buf.ptr, b->buf.len);
    *ret_position = ++j->position;
    return 0;
}

int journal_append(struct journal *j, struct journal_batch *b, uint64_t *ret_position)
{
    int r = journal_flush(j);
    if (r == 0)
        r = seal_next(j, b, ret_position);
    if (r <= 0)
        return r;
    r = disk_pwrite(j->file, b->buf.ptr, b->buf.len, j->size);
    if (r == -ENOSPC && disk_truncate(j->file, j->size) == 0) {
        j->room_upto = 0;
        return r;
    }
    if (r < 0)
        return j->broken = r;
    j->size += b->buf.len;
    *ret_position = ++j->position;
    return 0;
}

bool journal_has_room(struct journal *j, uint64_t bytes)
{
    uint64_t upto = j->size + j->soon.len + bytes;
    if (j->room_upto >= upto)
        return true;
    int r = disk_reserve(j->file, j->size, upto - j->size + ROOM_STEP_BYTES);
    if (r < 0 && r != -ENOTSUP)
        return false;
    j->room_upto = r == 0 ? upto + ROOM_STEP_BYTES : UINT64_MAX;
    return true;
}

uint64_t journal_position(const struct journal *j)
{
    return j->position;
}

uint64_t journal_synced(const struct journal *j)
{
    return j->synced;
}

bool journal_sync_start(struct journal *j, uint64_t cookie)
{
    if (j->sync_target || j->broken || j->synced == j->position)
        return false;
    CHECK(j->soon.len == 0);
    j->sync_target = j->position;
    disk_sync_start(j->disk, &j->file, bug(BUG_SKIP_JOURNAL_FSYNC) ? 0 : 1, cookie);
    return true;
}

int journal_sync_done(struct journal *j, int error)
{
    uint64_t target = j->sync_target;
    j->sync_target = 0;
    if (error < 0)
        return j->broken = error;
    if (target > j->synced)
        j->synced = target;
    return 0;
}

int journal_sync(struct journal *j)
{
    if (j->broken)
        return j->broken;
    if (j->synced == j->position)
        return 0;
    int r = journal_flush(j);
    if (r == 0)
        r = disk_sync(j->file);
    if (r < 0)
        return j->broken = r;
    j->synced = j->position;
    return 0;
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    disk_close(j->file);
    buf_free(&j->soon);
    free(j->dir);
    free(j);
}

static void file_path(const struct journal *j, uint64_t number, const char *suffix,
                      char ret_path[PATH_BYTES])
{
    snprintf(ret_path, PATH_BYTES, "%s/%020llu.%s", j->dir, (unsigned long long)number, suffix);
}

// Makes an empty segment and its name durable before anything is written into it.
static int segment_new(struct journal *j, uint64_t first)
{
    char path[PATH_BYTES];
    uint8_t header[JOURNAL_HEADER_BYTES];
    struct disk_file *f = NULL;
    file_path(j, first, "journal", path);
    journal_header_write(header, JOURNAL_MAGIC, first);
    int r = disk_open(j->disk, path, DISK_WRITE | DISK_CREATE, &f);
    if (r == 0)
        r = disk_truncate(f, 0);
    if (r == 0)
        r = disk_pwrite(f, header, sizeof header, 0);
    if (r == 0)
        r = disk_sync(f);
    if (r == 0)
        r = disk_sync_dir(j->disk, j->dir);
    if (r < 0) {
        disk_close(f);
        return r;
    }
    disk_close(j->file);
    j->file = f;
    j->first = first;
    j->size = JOURNAL_HEADER_BYTES;
    j->room_upto = 0;
    return 0;
}

bool journal_wants_snapshot(const struct journal *j)
{
    return !j->broken && !j->is_snapshotting && !j->sync_target && j->size > j->snapshot_bytes;
}

int journal_snapshot_begin(struct journal *j, struct journal_snapshot **ret_snapshot)
{
    CHECK(!j->is_snapshotting && !j->sync_target);
    int r = journal_sync(j);
    if (r < 0)
        return r;
    // The tail goes on in a segment of its own, so that the snapshot replaces whole files.
    if (j->first <= j->position)
        r = segment_new(j, j->position + 1);
    if (r < 0)
        return r;
    char path[PATH_BYTES];
    uint8_t header[JOURNAL_HEADER_BYTES];
    struct disk_file *f = NULL;
    file_path(j, j->position, "snapshot.tmp", path);
    journal_header_write(header, JOURNAL_SNAPSHOT_MAGIC, j->position);
    r = disk_open(j->disk, path, DISK_WRITE | DISK_CREATE, &f);
    if (r == 0)
        r = disk_truncate(f, 0);
    if (r == 0)
        r = disk_pwrite(f, header, sizeof header, 0);
    if (r < 0) {
        disk_close(f);
        return r;
    }
    struct journal_snapshot *s = calloc(1, sizeof *s);
    CHECK(s);
    *s = (struct journal_snapshot){.journal = j, .file = f, .size = sizeof header};
    j->is_snapshotting = true;
    *ret_snapshot = s;
    return 0;
}

static int snapshot_flush(struct journal_snapshot *s)
{
    struct journal_batch *b = &s->chunk;
    if (b->n_records == 0)
        return 0;
    if (b->buf.len > JOURNAL_BATCH_MAX_BYTES)
        return -E2BIG;
    journal_batch_seal(b->buf.ptr, b->buf.len, 0, 0, b->n_records);
    int r = disk_pwrite(s->file, b->buf.ptr, b->buf.len, s->size);
    if (r < 0)
        return r;
    s->size += b->buf.len;
    s->n_records += b->n_records;
    journal_batch_clear(b);
    return 0;
}

int journal_snapshot_add(struct journal_snapshot *s, const struct kw_message *type,
                         const void *record)
{
    journal_batch_add(&s->chunk, type, record);
    return s->chunk.buf.len < SNAPSHOT_CHUNK_BYTES ? 0 : snapshot_flush(s);
}

int journal_snapshot_add_raw(struct journal_snapshot *s, int16_t type, int16_t version,
                             struct bytes body)
{
    journal_batch_add_raw(&s->chunk, type, version, body);
    return s->chunk.buf.len < SNAPSHOT_CHUNK_BYTES ? 0 : snapshot_flush(s);
}

static void snapshot_free(struct journal_snapshot *s)
{
    s->journal->is_snapshotting = false;
    disk_close(s->file);
    journal_batch_free(&s->chunk);
    free(s);
}

void journal_snapshot_abort(struct journal_snapshot *s)
{
    char path[PATH_BYTES];
    file_path(s->journal, s->journal->position, "snapshot.tmp", path);
    if (disk_unlink(s->journal->disk, path) < 0) {
        // The next open removes it; it is never read.
    }
    snapshot_free(s);
}

// Removes what the snapshot at `position` replaces, and unfinished snapshots.
static int remove_old(struct journal *j, uint64_t position)
{
    struct arena *a = arena_new();
    char **names = NULL;
    size_t n = 0;
    int r = disk_list(j->disk, j->dir, a, &names, &n);
    for (size_t i = 0; r == 0 && i < n; i++) {
        char *dot = NULL;
        uint64_t number = strtoull(names[i], &dot, 10);
        bool is_old = dot == names[i] + 20 &&
                      ((!strcmp(dot, ".snapshot") && number < position) ||
                       (!strcmp(dot, ".journal") && number <= position && number != j->first) ||
                       !strcmp(dot, ".snapshot.tmp"));
        if (is_old)
            r = disk_unlink(j->disk, arena_printf(a, "%s/%s", j->dir, names[i]));
    }
    arena_free(a);
    return r;
}

int journal_snapshot_commit(struct journal_snapshot *s)
{
    struct journal *j = s->journal;
    char temp[PATH_BYTES], path[PATH_BYTES];
    uint8_t footer[JOURNAL_BATCH_HEADER_BYTES];
    file_path(j, j->position, "snapshot.tmp", temp);
    file_path(j, j->position, "snapshot", path);
    int r = snapshot_flush(s);
    // An empty batch that counts the records ends a snapshot: without it, it was cut short.
    journal_batch_seal(footer, sizeof footer, s->n_records, 0, 0);
    if (r == 0)
        r = disk_pwrite(s->file, footer, sizeof footer, s->size);
    if (r == 0)
        r = disk_sync(s->file);
    if (r == 0)
        r = disk_rename(j->disk, temp, path);
    if (r == 0)
        r = disk_sync_dir(j->disk, j->dir);
    snapshot_free(s);
    return r < 0 ? r : remove_old(j, j->position);
}

// Opening.

struct opening {
    struct journal *j;
    const struct journal_config *config;
    struct journal_report *report;
    journal_replay_fn *replay;
    void *ctx;
    uint64_t *segments; // first positions, ascending
    size_t n_segments;
    uint64_t snapshot; // position of the newest; has_snapshot
    bool has_snapshot;
    uint64_t cut_at; // size to cut the last segment to; UINT64_MAX: leave it
    bool rewrite_header;
};

__attribute__((format(printf, 3, 4))) static int refuse(struct opening *o, int error,
                                                        const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(o->report->text, sizeof o->report->text, format, args);
    va_end(args);
    return error;
}

static int list_files(struct opening *o, struct arena *a)
{
    char **names;
    size_t n = 0;
    int r = disk_list(o->j->disk, o->j->dir, a, &names, &n);
    if (r < 0)
        return refuse(o, r, "%s: cannot be read: %s", o->j->dir, strerror(-r));
    o->segments = arena_array(a, n + 1, sizeof *o->segments);
    for (size_t i = 0; i < n; i++) {
        char *dot = NULL;
        uint64_t number = strtoull(names[i], &dot, 10);
        if (dot != names[i] + 20)
            continue;
        if (!strcmp(dot, ".snapshot")) {
            o->snapshot = number;
            o->has_snapshot = true;
        }
        if (!strcmp(dot, ".journal"))
            o->segments[o->n_segments++] = number;
    }
    return 0;
}

static int open_file(struct opening *o, uint64_t number, const char *suffix, const char *magic,
                     char path[PATH_BYTES], struct disk_file **ret_file, struct window *w)
{
    file_path(o->j, number, suffix, path);
    struct disk_file *f;
    int r = disk_open(o->j->disk, path, DISK_READ, &f);
    if (r < 0)
        return refuse(o, r, "%s: cannot be opened: %s", path, strerror(-r));
    const uint8_t *p = NULL;
    uint64_t position = 0;
    uint32_t version = 0;
    r = window_open(w, f);
    if (r == 0)
        r = window_at(w, 0, JOURNAL_HEADER_BYTES, &p);
    if (r < 0) {
        refuse(o, r, "%s: cannot be read: %s", path, strerror(-r));
    } else {
        r = p ? journal_header_read(p, magic, &position, &version) : -EBADMSG;
        if (r == -EPROTONOSUPPORT)
            refuse(o, r, "%s: format version %u is newer than this tally reads (%d)", path, version,
                   JOURNAL_VERSION);
        else if (r < 0 || position != number)
            r = refuse(o, -EBADMSG, "%s: damaged header", path);
    }
    if (r < 0) {
        window_close(w);
        disk_close(f);
        return r;
    }
    *ret_file = f;
    return 0;
}

static int read_error(struct opening *o, const char *path, uint64_t pos, int error)
{
    if (o->report->text[0])
        return error;
    if (error == -EBADMSG)
        return refuse(o, error, "%s: damaged at byte %llu", path, (unsigned long long)pos);
    return refuse(o, error, "%s: cannot be read at byte %llu: %s", path, (unsigned long long)pos,
                  strerror(-error));
}

static int replay_snapshot(struct opening *o)
{
    char path[PATH_BYTES];
    struct disk_file *f;
    struct window w;
    int r = open_file(o, o->snapshot, "snapshot", JOURNAL_SNAPSHOT_MAGIC, path, &f, &w);
    if (r < 0)
        return r;
    uint64_t pos = JOURNAL_HEADER_BYTES, n = 0;
    bool is_whole = false;
    while (r == 0 && !is_whole) {
        struct journal_batch_header h;
        const uint8_t *batch;
        r = journal_batch_at(&w, pos, &h, &batch);
        if (r == 0 && !batch)
            r = -EBADMSG;
        if (r < 0)
            break;
        if (h.n_records == 0) {
            is_whole = h.position == n && pos + h.len == w.size;
            if (!is_whole)
                r = -EBADMSG;
            break;
        }
        r = journal_batch_replay(&h, batch, 0, o->replay, o->ctx, &n);
        pos += h.len;
    }
    if (r < 0)
        r = read_error(o, path, pos, r);
    o->report->n_records += n;
    o->j->position = o->snapshot;
    window_close(&w);
    disk_close(f);
    return r;
}

// The last segment has no valid batch at pos: a torn tail is cut, damage is refused.
static int judge_tail(struct opening *o, const char *path, struct window *w, uint64_t pos)
{
    uint64_t synced = 0;
    bool has_more;
    uint64_t next = o->j->position + 1;
    int r = journal_synced_after(w, pos + 1, next, &synced, &has_more);
    if (r < 0)
        return read_error(o, path, pos, r);
    if (has_more && o->config->has_same_boot)
        return refuse(o, -EBADMSG,
                      "%s: damaged at byte %llu of %llu: batch %llu is not readable, and good ones "
                      "stand behind it; nothing was changed",
                      path, (unsigned long long)pos, (unsigned long long)w->size,
                      (unsigned long long)next);
    if (synced >= next || o->config->clean_position >= 0)
        return refuse(o, -EBADMSG,
                      "%s: damaged at byte %llu of %llu: batch %llu was durable and is not "
                      "readable; nothing was changed",
                      path, (unsigned long long)pos, (unsigned long long)w->size,
                      (unsigned long long)next);
    o->cut_at = pos;
    o->report->cut_bytes = w->size - pos;
    refuse(o, 0, "%s: torn tail: %llu bytes from byte %llu on were never durable, cut", path,
           (unsigned long long)(w->size - pos), (unsigned long long)pos);
    return 0;
}

static int replay_segment(struct opening *o, uint64_t first, bool is_last)
{
    char path[PATH_BYTES];
    struct disk_file *f;
    struct window w;
    struct journal *j = o->j;
    int r = open_file(o, first, "journal", JOURNAL_MAGIC, path, &f, &w);
    if (r < 0)
        return r;
    uint64_t pos = JOURNAL_HEADER_BYTES, next = first;
    while (r == 0 && pos < w.size) {
        struct journal_batch_header h;
        const uint8_t *batch;
        r = journal_batch_at(&w, pos, &h, &batch);
        if (r == 0 && (!batch || h.position != next)) {
            r = is_last ? judge_tail(o, path, &w, pos) : -EBADMSG;
            break;
        }
        // What an older snapshot already covers is passed over.
        if (r == 0 && next > j->position) {
            r = journal_batch_replay(&h, batch, next, o->replay, o->ctx, &o->report->n_records);
            j->position = next;
        }
        next++;
        pos += h.len;
    }
    if (r < 0)
        r = read_error(o, path, pos, r);
    j->first = first;
    j->size = pos;
    window_close(&w);
    disk_close(f);
    return r;
}

// A segment that holds less than its header was being made when the machine stopped: its header
// is durable before the first batch is written.
static int last_is_unborn(struct opening *o, uint64_t first, bool *ret_is)
{
    char path[PATH_BYTES];
    struct disk_file *f;
    uint8_t header[JOURNAL_HEADER_BYTES];
    uint64_t size = 0, position;
    uint32_t version;
    file_path(o->j, first, "journal", path);
    int r = disk_open(o->j->disk, path, DISK_READ, &f);
    if (r == 0) {
        r = disk_size(f, &size);
        size_t got = 0;
        if (r == 0)
            r = disk_pread(f, header, sizeof header, 0, &got);
        *ret_is = size < sizeof header ||
                  (size == sizeof header &&
                   journal_header_read(header, JOURNAL_MAGIC, &position, &version) == -EBADMSG);
        disk_close(f);
    }
    return r < 0 ? refuse(o, r, "%s: cannot be read: %s", path, strerror(-r)) : 0;
}

static int replay_all(struct opening *o)
{
    struct journal *j = o->j;
    bool is_unborn = false;
    int r = 0;
    if (o->n_segments > 0 && o->config->clean_position < 0)
        r = last_is_unborn(o, o->segments[o->n_segments - 1], &is_unborn);
    if (r == 0 && o->has_snapshot)
        r = replay_snapshot(o);
    if (r < 0)
        return r;
    size_t n = o->n_segments - (is_unborn ? 1 : 0);
    for (size_t i = 0; i < n && r == 0; i++) {
        bool is_covered = i + 1 < o->n_segments && o->segments[i + 1] <= j->position + 1;
        if (is_covered)
            continue;
        if (o->segments[i] > j->position + 1)
            return refuse(o, -ENOENT, "%s: the file with batch %llu is missing", j->dir,
                          (unsigned long long)j->position + 1);
        r = replay_segment(o, o->segments[i], i + 1 == o->n_segments);
    }
    if (r < 0)
        return r;
    // Old segments go only after the new one's header is durable.
    bool may_be_unborn = n > 0 || o->config->is_new;
    if (is_unborn && (o->segments[n] != j->position + 1 || !may_be_unborn))
        return refuse(o, -EBADMSG, "%s/%020llu.journal: damaged header", j->dir,
                      (unsigned long long)o->segments[n]);
    o->rewrite_header = is_unborn || o->n_segments == 0;
    if (o->n_segments == 0 && (o->has_snapshot || !o->config->is_new))
        return refuse(o, -ENOENT, "%s: the journal's last file is missing", j->dir);
    if (o->config->clean_position >= 0 && (uint64_t)o->config->clean_position != j->position)
        return refuse(o, -EBADMSG, "%s: ends at batch %llu, but was left at %llu", j->dir,
                      (unsigned long long)j->position,
                      (unsigned long long)o->config->clean_position);
    return 0;
}

// Everything was readable: now the directory may be changed.
static int make_ready(struct opening *o)
{
    struct journal *j = o->j;
    char path[PATH_BYTES];
    int r;
    if (disk_is_read_only(j->disk)) {
        j->synced = j->position;
        return 0;
    }
    if (o->rewrite_header) {
        r = segment_new(j, j->position + 1);
    } else {
        file_path(j, j->first, "journal", path);
        r = disk_open(j->disk, path, DISK_WRITE, &j->file);
        if (r == 0 && o->cut_at != UINT64_MAX)
            r = disk_truncate(j->file, o->cut_at);
        // What was replayed may still be in the page cache only; it is about to be relied on. After
        // a clean stop it is known to be durable.
        bool is_durable = o->config->clean_position >= 0 && o->cut_at == UINT64_MAX;
        if (r == 0 && !is_durable)
            r = disk_sync(j->file);
        if (r == 0 && !is_durable)
            r = disk_sync_dir(j->disk, j->dir);
    }
    if (r == 0)
        r = remove_old(j, o->has_snapshot ? o->snapshot : 0);
    if (r < 0)
        return refuse(o, r, "%s: cannot be written: %s", j->dir, strerror(-r));
    j->synced = j->position;
    return 0;
}

// Makes a directory, if there is none yet, and its name durable.
static int dir_new(struct disk *d, const char *dir)
{
    int r = disk_mkdir(d, dir);
    if (r < 0 && r != -EEXIST)
        return r;
    char parent[PATH_BYTES];
    snprintf(parent, sizeof parent, "%s", dir);
    char *slash = strrchr(parent, '/');
    if (!slash)
        return disk_sync_dir(d, ".");
    slash[slash == parent ? 1 : 0] = 0;
    return disk_sync_dir(d, parent);
}

int journal_open(const struct journal_config *config, journal_replay_fn *replay, void *ctx,
                 struct journal **ret_journal, struct journal_report *report)
{
    *report = (struct journal_report){0};
    struct journal *j = calloc(1, sizeof *j);
    CHECK(j);
    j->disk = config->disk;
    j->dir = strdup(config->dir);
    CHECK(j->dir);
    j->snapshot_bytes = config->snapshot_bytes ? config->snapshot_bytes : DEFAULT_SNAPSHOT_BYTES;
    struct opening o = {.j = j,
                        .config = config,
                        .report = report,
                        .replay = replay,
                        .ctx = ctx,
                        .cut_at = UINT64_MAX};
    struct arena *a = arena_new();
    int r = 0;
    if (config->is_new) {
        r = dir_new(j->disk, j->dir);
        if (r < 0)
            refuse(&o, r, "%s: cannot be made: %s", j->dir, strerror(-r));
    }
    if (r == 0)
        r = list_files(&o, a);
    if (r == 0)
        r = replay_all(&o);
    if (r == 0)
        r = make_ready(&o);
    arena_free(a);
    if (r != 0) {
        journal_close(j);
        return r;
    }
    *ret_journal = j;
    return 0;
}
