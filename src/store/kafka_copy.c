// Copying topics between a data directory of Apache Kafka and ours.

#include "store/kafka_dir.h"
#include "store/log_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COPY_BYTES (256u << 10)
#define TEXT_MAX_BYTES (16u << 20)
#define INDEX_INTERVAL_BYTES 4096
#define START_FILE "log-start-offset-checkpoint"
#define COPYING ".tally-export" // of a directory that is not whole yet

struct copy {
    struct disk *from, *to;
    struct arena *arena;
    char *why;
    size_t why_size;
};

static int say(struct copy *c, int error, const char *path)
{
    if (error < 0 && !c->why[0])
        snprintf(c->why, c->why_size, "%s: %s", path, strerror(-error));
    return error;
}

static int copy_bytes(struct disk_file *from, struct disk_file *to, uint64_t bytes, struct arena *a)
{
    uint8_t *piece = arena_alloc(a, COPY_BYTES);
    int r = 0;
    for (uint64_t pos = 0; pos < bytes && r == 0;) {
        size_t n = bytes - pos < COPY_BYTES ? (size_t)(bytes - pos) : COPY_BYTES;
        r = disk_pread_all(from, piece, n, pos);
        if (r == 0)
            r = disk_pwrite(to, piece, n, pos);
        pos += n;
    }
    return r == 0 ? disk_sync(to) : r;
}

static int copy_file(struct copy *c, const char *from, const char *to, uint64_t bytes)
{
    struct arena *a = arena_new();
    struct disk_file *in = NULL, *out = NULL;
    int r = say(c, disk_open(c->from, from, DISK_READ, &in), from);
    if (r == 0)
        r = disk_open(c->to, to, DISK_WRITE | DISK_NEW, &out);
    if (r == 0)
        r = copy_bytes(in, out, bytes, a);
    disk_close(in);
    disk_close(out);
    arena_free(a);
    return say(c, r, to);
}

static int write_text(struct copy *c, const char *dir, const char *name, const struct buf *text)
{
    int r = disk_replace_file(c->to, dir, name, (struct bytes){text->ptr, text->len});
    return say(c, r, dir);
}

static int write_epochs(struct copy *c, const char *dir, const struct epochs *e)
{
    struct buf text = {0};
    epochs_text(e, &text);
    int r = write_text(c, dir, EPOCHS_FILE, &text);
    buf_free(&text);
    return r;
}

static int write_metadata(struct copy *c, const char *dir, struct uuid id)
{
    char text[23];
    uuid_text(id, text);
    struct buf b = {0};
    buf_printf(&b, "version: 0\ntopic_id: %s", text);
    int r = write_text(c, dir, METADATA_FILE, &b);
    buf_free(&b);
    return r;
}

// The indexes of a segment that was copied, made from what it holds. With BASE.state for us.
static int write_indexes(struct copy *c, const char *dir, int64_t base, bool with_state)
{
    struct segment *s = segment_new(c->to, NULL, dir, base, 0);
    int r = segment_open_file(s, true);
    if (r == 0)
        r = disk_size(s->file, &s->size);
    if (r == 0)
        r = segment_rebuild(s, INDEX_INTERVAL_BYTES);
    if (r == 0 && with_state)
        r = segment_seal_indexes(s);
    if (r == 0 && !with_state && s->max_timestamp_ms >= 0)
        segment_add_time(s, s->max_timestamp_ms, (uint32_t)(s->max_timestamp_offset - s->base));
    if (r == 0 && !with_state)
        r = segment_save_indexes(s);
    segment_free(s);
    return say(c, r, dir);
}

// In.

// One that is there and holds nothing is what an import left that ended right after this.
static int make_dir(struct copy *c, const char *dir)
{
    char **names;
    size_t n;
    int r = disk_mkdir(c->to, dir);
    if (r == -EEXIST && disk_list(c->to, dir, c->arena, &names, &n) == 0 &&
        (n == 0 || (n == 1 && strcmp(names[0], METADATA_FILE ".tmp") == 0)))
        return 0;
    return r;
}

static int in_partition(struct copy *c, const struct kafka_partition *p, const char *dir,
                        struct uuid id)
{
    int r = say(c, make_dir(c, dir), dir);
    if (r == 0)
        r = write_metadata(c, dir, id);
    for (size_t i = 0; i < p->n_segments && r == 0; i++) {
        const struct kafka_segment *s = &p->segments[i];
        const char *name = arena_printf(c->arena, "%020" PRId64 ".log", s->base);
        r = copy_file(c, arena_printf(c->arena, "%s/%s", p->dir, name),
                      arena_printf(c->arena, "%s/%s", dir, name), s->bytes);
        if (r == 0 && i + 1 < p->n_segments)
            r = write_indexes(c, dir, s->base, true);
    }
    if (r == 0)
        r = write_epochs(c, dir, &p->epochs);
    if (r == 0 && p->gaps > 0) {
        struct compaction state = {.gaps = p->gaps};
        compaction_no_swap(&state);
        r = say(c, compaction_write(c->to, dir, &state), dir);
    }
    return r == 0 ? say(c, disk_sync_dir(c->to, dir), dir) : r;
}

int kafka_copy_in(struct disk *from, const struct kafka_topic *t, struct disk *to, const char *data,
                  struct uuid topic_id, char *ret_why, size_t size)
{
    struct copy c = {
        .from = from, .to = to, .arena = arena_new(), .why = ret_why, .why_size = size};
    ret_why[0] = 0;
    int r = 0;
    int32_t n = 0;
    for (; n < t->n_partitions && r == 0; n++)
        r = in_partition(&c, &t->partitions[n],
                         arena_printf(c.arena, "%s/%s-%d", data, t->name, (int)n), topic_id);
    if (r == 0)
        r = say(&c, disk_sync_dir(to, data), data);
    for (int32_t i = 0; i < n && r < 0; i++) {
        const char *dir = arena_printf(c.arena, "%s/%s-%d", data, t->name, (int)i);
        if (r == -EEXIST && i + 1 == n)
            break; // that one was not ours
        if (log_remove_dir(to, dir) < 0)
            snprintf(ret_why + strlen(ret_why), size - strlen(ret_why), "; %s was left", dir);
    }
    arena_free(c.arena);
    return r;
}

// Out.

struct target {
    char *dir, *temp;
    bool is_there; // Kafka made it
};

static int remove_dir(struct copy *c, const char *dir)
{
    char **names;
    size_t n = 0;
    int r = disk_list(c->to, dir, c->arena, &names, &n);
    for (size_t i = 0; i < n && r == 0; i++)
        r = disk_unlink(c->to, arena_printf(c->arena, "%s/%s", dir, names[i]));
    return r == 0 ? disk_rmdir(c->to, dir) : r;
}

// An empty directory that Kafka made gives its topic id to what takes its place.
static int look_at_target(struct copy *c, struct target *t, struct uuid id)
{
    char **names;
    size_t n = 0;
    int r = disk_list(c->to, t->dir, c->arena, &names, &n);
    t->is_there = r == 0;
    if (r < 0 && r != -ENOENT)
        return say(c, r, t->dir);
    for (size_t i = 0; i < n; i++) {
        struct disk_stat st = {0};
        const char *dot = strrchr(names[i], '.');
        char *path = arena_printf(c->arena, "%s/%s", t->dir, names[i]);
        if (!dot || strcmp(dot, ".log") != 0)
            continue;
        if (disk_stat(c->to, path, &st) == 0 && st.size > 0) {
            snprintf(c->why, c->why_size, "%s: holds records already", path);
            return -EEXIST;
        }
    }
    r = disk_mkdir(c->to, t->temp);
    if (r == -EEXIST) { // of an export that did not come to its end
        r = remove_dir(c, t->temp);
        if (r == 0)
            r = disk_mkdir(c->to, t->temp);
    }
    say(c, r, t->temp);
    struct bytes content;
    const char *path = arena_printf(c->arena, "%s/" METADATA_FILE, t->dir);
    if (r == 0 && t->is_there &&
        disk_read_file(c->to, path, TEXT_MAX_BYTES, c->arena, &content) == 0) {
        struct buf text = {0};
        buf_add(&text, content.ptr, content.len);
        r = write_text(c, t->temp, METADATA_FILE, &text);
        buf_free(&text);
        return r;
    }
    return r == 0 ? write_metadata(c, t->temp, id) : r;
}

static int out_partition(struct copy *c, struct log *l, const char *dir)
{
    int r = 0;
    for (size_t i = 0; i < l->n_segments && r == 0; i++) {
        const struct segment *s = l->segments[i];
        const char *name = arena_printf(c->arena, "%020" PRId64 ".log", s->base);
        r = copy_file(c, arena_printf(c->arena, "%s/%s", l->dir, name),
                      arena_printf(c->arena, "%s/%s", dir, name), s->size);
        if (r == 0)
            r = write_indexes(c, dir, s->base, false);
    }
    if (r == 0)
        r = write_epochs(c, dir, &l->epochs);
    return r == 0 ? say(c, disk_sync_dir(c->to, dir), dir) : r;
}

static int put_in_place(struct copy *c, const struct target *t)
{
    int r = t->is_there ? remove_dir(c, t->dir) : 0;
    if (r == 0)
        r = disk_rename(c->to, t->temp, t->dir);
    return say(c, r, t->dir);
}

// Where records were deleted inside of a segment, one file says so for all logs.
static int write_starts(struct copy *c, struct log *const *logs, int32_t n, const char *topic,
                        const char *dir)
{
    struct buf lines = {0}, text = {0};
    struct bytes content;
    size_t count = 0;
    bool is_needed = false;
    const char *path = arena_printf(c->arena, "%s/" START_FILE, dir);
    if (disk_read_file(c->to, path, TEXT_MAX_BYTES, c->arena, &content) == 0) {
        size_t prefix = strlen(topic);
        char *rest = NULL;
        char *copy = arena_printf(c->arena, "%s", (const char *)content.ptr);
        strtok_r(copy, "\n", &rest);
        strtok_r(NULL, "\n", &rest);
        for (char *line; (line = strtok_r(NULL, "\n", &rest));) {
            if (!strncmp(line, topic, prefix) && line[prefix] == ' ')
                continue;
            buf_printf(&lines, "%s\n", line);
            count++;
        }
        is_needed = true;
    }
    for (int32_t i = 0; i < n; i++) {
        if (log_start(logs[i]) <= logs[i]->segments[0]->base)
            continue;
        buf_printf(&lines, "%s %d %" PRId64 "\n", topic, (int)i, log_start(logs[i]));
        count++;
        is_needed = true;
    }
    buf_printf(&text, "0\n%zu\n", count);
    buf_add(&text, lines.ptr, lines.len);
    int r = is_needed ? write_text(c, dir, START_FILE, &text) : 0;
    buf_free(&lines);
    buf_free(&text);
    return r;
}

// Partitions that the logs do not have would be left as they are.
static int check_others(struct copy *c, const char *topic, int32_t n, const char *dir)
{
    char **names;
    size_t n_names;
    int r = say(c, disk_list(c->to, dir, c->arena, &names, &n_names), dir);
    for (size_t i = 0; i < n_names && r == 0; i++) {
        char *found;
        int32_t index;
        if (!kafka_parse_dir(names[i], c->arena, &found, &index) || strcmp(found, topic) != 0 ||
            index < n)
            continue;
        snprintf(c->why, c->why_size, "%s/%s: the topic has %d partition%s here", dir, names[i],
                 (int)n, n == 1 ? "" : "s");
        r = -EEXIST;
    }
    return r;
}

int kafka_copy_out(struct disk *from, struct log *const *logs, int32_t n, const char *topic,
                   struct uuid topic_id, struct disk *to, const char *dir, char *ret_why,
                   size_t size)
{
    struct copy c = {
        .from = from, .to = to, .arena = arena_new(), .why = ret_why, .why_size = size};
    ret_why[0] = 0;
    struct target *targets = arena_array(c.arena, (size_t)n, sizeof *targets);
    int r = check_others(&c, topic, n, dir);
    int32_t made = 0;
    for (; made < n && r == 0; made++) {
        struct target *t = &targets[made];
        t->dir = arena_printf(c.arena, "%s/%s-%d", dir, topic, (int)made);
        t->temp = arena_printf(c.arena, "%s" COPYING, t->dir);
        r = look_at_target(&c, t, topic_id);
        if (r == 0)
            r = out_partition(&c, logs[made], t->temp);
    }
    bool is_whole = r == 0;
    for (int32_t i = 0; i < n && r == 0; i++)
        r = put_in_place(&c, &targets[i]);
    if (r == 0)
        r = write_starts(&c, logs, n, topic, dir);
    if (r == 0)
        r = say(&c, disk_sync_dir(to, dir), dir);
    for (int32_t i = 0; i < made && !is_whole; i++)
        if (remove_dir(&c, targets[i].temp) < 0 && i + 1 < made)
            snprintf(ret_why + strlen(ret_why), size - strlen(ret_why), "; %s was left",
                     targets[i].temp);
    arena_free(c.arena);
    return r;
}
