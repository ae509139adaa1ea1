#include "store/store.h"

#include "base/buf.h"
#include "base/map.h"
#include "store/log.h"
#include "wire/crc32c.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOURNAL_NAME "__tally_journal"
#define META_MAX_BYTES 4096 // a few lines
// A line for each log; more than any number of them that can be served.
#define CLEAN_MAX_BYTES (1u << 30)
// Of it, what tells of files: of logs beyond that they are looked at.
#define LEFT_MAX_BYTES (64u << 20)
// Given back to the disk when there is no other room: what frees space needs some.
#define SPARE_BYTES (1u << 20)
#define CRC_LINE_BYTES 14 // the last of our text files
#define LOG_NAME_MAX 255  // of a directory

struct store {
    struct disk *disk;
    char *dir;
    char *journal_dir;
    struct disk_file *lock;
    struct disk_file *spare; // holds SPARE_BYTES of the disk for us, NULL before store_ready()
    bool is_spare_held, gave_spare;
    struct store_start start;
    struct uuid boot_id;
    bool is_same_boot; // as meta says
    uint64_t reserve_bytes;
    bool has_space;
    struct map *marks;    // directory name -> struct log_mark, owned
    struct arena *clean;  // owned: what the marks borrow
    struct buf new_marks; // lines of the next marker
    size_t left_bytes;    // of them
    uint64_t room_bytes;  // free above the reserve when it was asked last, less what was taken
};

struct opening {
    const struct store_config *config;
    struct arena *arena;
    struct store *store;
    bool has_meta;
    struct uuid last_boot_id;
    char *why;
    size_t why_size;
};

__attribute__((format(printf, 3, 4))) static int refuse(struct opening *o, int error,
                                                        const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(o->why, o->why_size, format, args);
    va_end(args);
    return error;
}

static void hex(struct uuid u, char ret_text[33])
{
    for (size_t i = 0; i < sizeof u.b; i++)
        snprintf(ret_text + 2 * i, 3, "%02x", u.b[i]);
}

static bool unhex(const char *text, struct uuid *ret_id)
{
    for (size_t i = 0; i < sizeof ret_id->b; i++) {
        unsigned v;
        if (sscanf(text + 2 * i, "%2x", &v) != 1)
            return false;
        ret_id->b[i] = (uint8_t)v;
    }
    return true;
}

// Our small text files end with the crc of what stands before it.
static int write_text(struct store *s, const char *name, struct buf *text)
{
    uint32_t crc = crc32c(0, text->ptr, text->len);
    buf_printf(text, "crc %08" PRIx32 "\n", crc);
    int r = disk_replace_file(s->disk, s->dir, name, (struct bytes){text->ptr, text->len});
    buf_free(text);
    return r;
}

static int read_text(struct opening *o, const char *name, size_t max, struct arena *a,
                     const char **ret_text)
{
    const char *path = arena_printf(a, "%s/%s", o->store->dir, name);
    struct bytes content;
    int r = disk_read_file(o->store->disk, path, max, a, &content);
    if (r < 0)
        return r == -ENOENT ? r : refuse(o, r, "%s: cannot be read: %s", path, strerror(-r));
    *ret_text = (const char *)content.ptr;
    const char *crc_line = content.len > CRC_LINE_BYTES
                               ? strstr(*ret_text + content.len - CRC_LINE_BYTES, "\ncrc ")
                               : NULL;
    uint32_t crc = 0;
    if (!crc_line || sscanf(crc_line, "\ncrc %8" SCNx32, &crc) != 1 ||
        crc != crc32c(0, content.ptr, (size_t)(crc_line + 1 - *ret_text)))
        return refuse(o, -EBADMSG, "%s: damaged", path);
    return 0;
}

static int read_meta(struct opening *o)
{
    struct store_start *start = &o->store->start;
    const char *text;
    int version;
    char cluster[33], boot[33];
    int r = read_text(o, "meta", META_MAX_BYTES, o->arena, &text);
    if (r < 0)
        return r;
    if (sscanf(text, "tally data directory\nversion %d\n", &version) != 1)
        return refuse(o, -EBADMSG, "%s/meta: damaged", o->store->dir);
    if (version != STORE_VERSION)
        return refuse(o, -EPROTONOSUPPORT,
                      "%s: written by a newer tally (format version %d, this one reads %d)",
                      o->store->dir, version, STORE_VERSION);
    if (sscanf(text, "tally data directory\nversion %d\ncluster %32s\nnode %" SCNd32 "\nboot %32s",
               &version, cluster, &start->node_id, boot) != 4 ||
        !unhex(cluster, &start->cluster_id) || !unhex(boot, &o->last_boot_id))
        return refuse(o, -EBADMSG, "%s/meta: damaged", o->store->dir);
    return 0;
}

// "log NAME START END BYTES ALL" each, and what begins with a blank is of the log above; the crc of
// the whole was good. By hand: sscanf() takes longer for a line than a log takes to open.
static void read_marks(struct store *s, const char *text, int64_t left_before)
{
    for (const char *at = text, *end; (end = strchr(at, '\n')); at = end + 1) {
        const char *name = at + strlen("log "), *after;
        if (strncmp(at, "log ", 4) != 0 || !(after = memchr(name, ' ', (size_t)(end - name))) ||
            after - name > LOG_NAME_MAX)
            continue;
        char *next;
        struct log_mark m = {.left_before = left_before};
        m.start = strtoll(after, &next, 10);
        m.end = strtoll(next, &next, 10);
        const char *before = next;
        m.active_bytes = strtoull(before, &next, 10);
        if (next == before || next > end)
            continue;
        if (next < end)
            m.bytes = strtoull(next, NULL, 10);
        m.left = left_before && end[1] == ' ' ? end + 1 : NULL;
        struct log_mark *mark = malloc(sizeof *mark);
        CHECK(mark);
        *mark = m;
        struct bytes key = {(const uint8_t *)name, (size_t)(after - name)};
        free(map_put(s->marks, key, mark));
    }
}

static void forget_marks(struct store *s)
{
    void *mark;
    for (size_t it = 0; map_next(s->marks, &it, NULL, &mark);)
        free(mark);
    map_free(s->marks);
    s->marks = map_new();
    arena_free(s->clean);
    s->clean = NULL;
}

static void name_of(struct str topic, int32_t partition, char ret_name[LOG_NAME_MAX + 1])
{
    snprintf(ret_name, LOG_NAME_MAX + 1, "%.*s-%" PRId32, STR_FMT(topic), partition);
}

const struct log_mark *store_log_mark(const struct store *s, struct str topic, int32_t partition)
{
    char name[LOG_NAME_MAX + 1];
    name_of(topic, partition, name);
    return map_get(s->marks, (struct bytes){(const uint8_t *)name, strlen(name)});
}

void store_add_log_mark(struct store *s, struct str topic, int32_t partition,
                        const struct log_mark *mark, const struct buf *left)
{
    char name[LOG_NAME_MAX + 1];
    name_of(topic, partition, name);
    buf_printf(&s->new_marks, "log %s %" PRId64 " %" PRId64 " %" PRIu64 " %" PRIu64 "\n", name,
               mark->start, mark->end, mark->active_bytes, mark->bytes);
    if (s->left_bytes + left->len > LEFT_MAX_BYTES)
        return;
    s->left_bytes += left->len;
    buf_add(&s->new_marks, left->ptr, left->len);
}

static int read_clean(struct opening *o)
{
    const char *text;
    int64_t position;
    struct disk_stat st = {0};
    // Of a file's bytes and names what was not durable can be gone with the power; and another
    // machine's clock is another one.
    bool is_same_boot = o->has_meta && uuid_eq(o->last_boot_id, o->store->boot_id);
    int r = disk_stat(o->store->disk, arena_printf(o->arena, "%s/clean", o->store->dir), &st);
    if (r == -ENOENT)
        return 0;
    o->store->clean = arena_new();
    r = read_text(o, "clean", CLEAN_MAX_BYTES, o->store->clean, &text);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    char head[64] = "";
    strncat(head, text, sizeof head - 1); // sscanf() looks for the end of all it is given
    if (sscanf(head, "clean stop\njournal %" SCNd64, &position) != 1)
        return refuse(o, -EBADMSG, "%s/clean: damaged", o->store->dir);
    o->store->start.was_clean = true;
    o->store->start.journal_position = position;
    read_marks(o->store, text, is_same_boot ? st.changed : 0);
    return 0;
}

static int is_there(struct opening *o, const char *name, bool *ret_is)
{
    struct disk_stat st;
    const char *path = arena_printf(o->arena, "%s/%s", o->store->dir, name);
    int r = disk_stat(o->store->disk, path, &st);
    *ret_is = r == 0;
    return r == 0 || r == -ENOENT ? 0 : refuse(o, r, "%s: cannot be read: %s", path, strerror(-r));
}

// Without a meta: what else is there.
static int look_for_other(struct opening *o)
{
    const char *dir = o->store->dir;
    char **names;
    size_t n = 0;
    int r = disk_list(o->store->disk, dir, o->arena, &names, &n);
    if (r < 0)
        return refuse(o, r, "%s: cannot be read: %s", dir, strerror(-r));
    const char *other = NULL;
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], JOURNAL_NAME) && strcmp(names[i], "lock") &&
            strcmp(names[i], "meta.tmp") && strcmp(names[i], "lost+found"))
            other = names[i];
    // A crash in the very first start leaves a lock and an empty journal: still new.
    if (other)
        return refuse(o, -ENOTEMPTY,
                      "%s: holds %s but no meta: not a tally data directory, or half copied", dir,
                      other);
    if (disk_is_read_only(o->store->disk))
        return refuse(o, -ENOENT, "%s: no data directory of tally: it has no meta", dir);
    return 0;
}

// What is there, before anything is touched.
static int look(struct opening *o)
{
    const char *dir = o->store->dir;
    struct disk_stat st;
    int r = disk_stat(o->store->disk, dir, &st);
    if (r == -ENOENT && o->config->create && !disk_is_read_only(o->store->disk))
        return 0;
    if (r == -ENOENT)
        return refuse(o, r, "%s: data directory does not exist", dir);
    if (r < 0)
        return refuse(o, r, "%s: %s", dir, strerror(-r));
    if (!st.is_dir)
        return refuse(o, -ENOTDIR, "%s: not a directory", dir);
    // Not by a list of the directory: there may be ten thousands in it.
    bool has_journal = false;
    r = is_there(o, "meta", &o->has_meta);
    if (r == 0 && o->has_meta)
        r = is_there(o, JOURNAL_NAME, &has_journal);
    if (r < 0)
        return r;
    if (!o->has_meta)
        return look_for_other(o);
    if (!has_journal)
        return refuse(o, -ENOENT, "%s: %s is missing: half copied", dir, JOURNAL_NAME);
    return read_meta(o);
}

static int take(struct opening *o)
{
    struct store *s = o->store;
    struct disk_stat st;
    int r = 0;
    if (disk_stat(s->disk, s->dir, &st) == -ENOENT)
        r = disk_mkdir(s->disk, s->dir);
    if (r < 0)
        return refuse(o, r, "%s: cannot be made: %s", s->dir, strerror(-r));
    int64_t holder = 0;
    r = disk_lock(s->disk, arena_printf(o->arena, "%s/lock", s->dir), &s->lock, &holder);
    if (r == -EBUSY)
        return refuse(o, r, "%s: in use by process %" PRId64, s->dir, holder);
    if (r == -ENOENT && disk_is_read_only(s->disk))
        r = 0; // a copy without its lock is held by nobody
    if (r < 0)
        return refuse(o, r, "%s: not %s: %s", s->dir,
                      disk_is_read_only(s->disk) ? "readable" : "writable", strerror(-r));
    r = disk_boot_id(s->disk, &s->boot_id);
    if (r < 0)
        return refuse(o, r, "boot id cannot be read: %s", strerror(-r));
    // Only now nobody else changes it.
    if (o->has_meta)
        r = read_meta(o);
    return r == 0 && o->has_meta ? read_clean(o) : r;
}

int store_open(const struct store_config *config, struct store **ret_store,
               struct store_start *ret_start, char *ret_why, size_t size)
{
    struct store *s = calloc(1, sizeof *s);
    CHECK(s);
    s->disk = config->disk;
    s->dir = strdup(config->dir);
    s->reserve_bytes = config->reserve_bytes ? config->reserve_bytes : STORE_RESERVE_BYTES;
    s->start.journal_position = -1;
    s->marks = map_new();
    CHECK(s->dir);
    CHECK(asprintf(&s->journal_dir, "%s/%s", s->dir, JOURNAL_NAME) > 0);
    struct opening o = {
        .config = config, .arena = arena_new(), .store = s, .why = ret_why, .why_size = size};
    if (size)
        ret_why[0] = 0;
    int r = look(&o);
    if (r == 0)
        r = take(&o);
    if (r == 0) {
        s->start.is_new = !o.has_meta;
        if (s->start.is_new) {
            s->start.cluster_id = config->fresh_cluster_id;
            s->start.node_id = config->node_id;
        }
        s->is_same_boot = o.has_meta && uuid_eq(o.last_boot_id, s->boot_id);
        s->start.power_lost = o.has_meta && !s->start.was_clean && !s->is_same_boot;
        r = store_check_space(s);
        if (r < 0)
            refuse(&o, r, "%s: %s", s->dir, strerror(-r));
    }
    arena_free(o.arena);
    if (r < 0) {
        store_close(s);
        return r;
    }
    *ret_store = s;
    *ret_start = s->start;
    return 0;
}

// The directory is new until its meta is there; its own name is made durable with it.
static int sync_parent(struct store *s)
{
    char *parent = strdup(s->dir);
    CHECK(parent);
    char *slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent ? 1 : 0] = 0;
    int r = disk_sync_dir(s->disk, slash ? parent : ".");
    free(parent);
    return r;
}

// Without it nothing is wrong yet, so that no error of it is.
static void open_spare(struct store *s)
{
    char *path;
    CHECK(asprintf(&path, "%s/spare", s->dir) > 0);
    if (disk_open(s->disk, path, DISK_WRITE | DISK_CREATE, &s->spare) < 0)
        s->spare = NULL;
    else
        s->is_spare_held = disk_reserve(s->spare, 0, SPARE_BYTES) == 0;
    free(path);
}

int store_ready(struct store *s)
{
    forget_marks(s); // they are no longer true
    int r = 0;
    if (s->start.was_clean) {
        char *path;
        CHECK(asprintf(&path, "%s/clean", s->dir) > 0);
        r = disk_unlink(s->disk, path);
        free(path);
        if (r == 0)
            r = disk_sync_dir(s->disk, s->dir);
    }
    if (r == 0 && s->start.is_new)
        r = sync_parent(s);
    if (r < 0 || s->is_same_boot)
        return r;
    struct buf text = {0};
    char cluster[33], boot[33];
    hex(s->start.cluster_id, cluster);
    hex(s->boot_id, boot);
    buf_printf(&text, "tally data directory\nversion %d\ncluster %s\nnode %" PRId32 "\nboot %s\n",
               STORE_VERSION, cluster, s->start.node_id, boot);
    r = write_text(s, "meta", &text);
    if (r == 0)
        open_spare(s);
    return r;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    disk_close(s->lock);
    disk_close(s->spare);
    forget_marks(s);
    map_free(s->marks);
    buf_free(&s->new_marks);
    free(s->journal_dir);
    free(s->dir);
    free(s);
}

// What tells of files is most of the marker, and only saves time.
static void drop_left(struct buf *marks)
{
    size_t kept = 0;
    for (size_t at = 0, n; at < marks->len; at += n) {
        const uint8_t *line = marks->ptr + at, *end = memchr(line, '\n', marks->len - at);
        CHECK(end);
        n = (size_t)(end + 1 - line);
        if (*line == ' ')
            continue;
        memmove(marks->ptr + kept, line, n);
        kept += n;
    }
    marks->len = kept;
}

static int write_clean(struct store *s, uint64_t journal_position)
{
    struct buf text = {0};
    buf_printf(&text, "clean stop\njournal %" PRIu64 "\n", journal_position);
    buf_add(&text, s->new_marks.ptr, s->new_marks.len);
    return write_text(s, "clean", &text);
}

int store_close_clean(struct store *s, uint64_t journal_position)
{
    int r = write_clean(s, journal_position);
    if (r == -ENOSPC && s->left_bytes > 0) {
        drop_left(&s->new_marks);
        r = write_clean(s, journal_position);
    }
    store_close(s);
    return r;
}

const char *store_dir(const struct store *s)
{
    return s->dir;
}

const char *store_journal_dir(const struct store *s)
{
    return s->journal_dir;
}

char *store_log_dir(const struct store *s, struct arena *a, struct str topic, int32_t partition)
{
    return arena_printf(a, "%s/%.*s-%" PRId32, s->dir, STR_FMT(topic), partition);
}

int store_check_space(struct store *s)
{
    struct disk_space space;
    int r = disk_space(s->disk, s->dir, &space);
    if (r < 0)
        return r;
    if (s->spare && s->is_spare_held && space.free_bytes < SPARE_BYTES) {
        s->is_spare_held = disk_truncate(s->spare, 0) < 0;
        s->gave_spare = !s->is_spare_held;
    } else if (s->spare && !s->is_spare_held && space.free_bytes >= s->reserve_bytes) {
        s->is_spare_held = disk_reserve(s->spare, 0, SPARE_BYTES) == 0;
    }
    s->has_space = space.free_bytes >= s->reserve_bytes;
    s->room_bytes = s->has_space ? space.free_bytes - s->reserve_bytes : 0;
    return 0;
}

bool store_gave_spare(struct store *s)
{
    bool gave = s->gave_spare;
    s->gave_spare = false;
    return gave;
}

bool store_has_room(struct store *s, uint64_t bytes)
{
    if (s->room_bytes < bytes && store_check_space(s) < 0)
        return false;
    if (s->room_bytes < bytes)
        return false;
    s->room_bytes -= bytes;
    return true;
}

bool store_has_space(const struct store *s)
{
    return s->has_space;
}
