#include "store/kafka_dir.h"

#include "store/log_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE_DIGITS 20
#define CHECKPOINT_MAX_BYTES (16u << 20)
#define START_FILE "log-start-offset-checkpoint"

struct check {
    struct disk *disk;
    const char *root;
    struct arena *arena;
    struct kafka_topic *topic;
    struct kafka_partition *partition;
    struct cleaner_txns *txns;
    const struct kafka_segment *segment;
    uint64_t pos;
    char *why;
    size_t why_size;
};

__attribute__((format(printf, 3, 4))) static int say(struct check *c, int error, const char *format,
                                                     ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->why, c->why_size, format, args);
    va_end(args);
    return error;
}

// Names the batch: file, byte, offset.
static int bad(struct check *c, int64_t offset, const char *what)
{
    return say(c, -EBADMSG, "%s/%020" PRId64 ".log: byte %" PRIu64 " (offset %" PRId64 "): %s",
               c->partition->dir, c->segment->base, c->pos, offset, what);
}

bool kafka_parse_dir(const char *name, struct arena *a, char **ret_topic, int32_t *ret_index)
{
    static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const char *dash = strrchr(name, '-');
    if (!dash || dash == name || strspn(dash + 1, "0123456789") != strlen(dash + 1) || !dash[1] ||
        strlen(dash + 1) > 9 || strspn(name, legal) != strlen(name))
        return false;
    *ret_topic = arena_printf(a, "%.*s", (int)(dash - name), name);
    *ret_index = (int32_t)strtol(dash + 1, NULL, 10);
    return true;
}

int kafka_dir_topics(struct disk *d, const char *dir, struct arena *a, char ***ret_names,
                     size_t *ret_n)
{
    char **names;
    size_t n, found = 0;
    int r = disk_list(d, dir, a, &names, &n);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        int32_t index;
        char *topic;
        if (!kafka_parse_dir(names[i], a, &topic, &index) || !strncmp(topic, "__", 2))
            continue;
        bool is_new = true;
        for (size_t k = 0; k < found; k++)
            is_new = is_new && strcmp(names[k], topic) != 0;
        if (is_new)
            names[found++] = topic;
    }
    *ret_names = names;
    *ret_n = found;
    return 0;
}

// Batches.

static int check_batch(struct check *c, const struct batch *b)
{
    struct kafka_partition *p = c->partition;
    if (b->base_offset < c->segment->base || b->base_offset < p->end)
        return bad(c, b->base_offset, "offsets go back");
    if (b->count < 0 || b->last_offset_delta < 0 || b->count > b->last_offset_delta + 1 ||
        batch_codec(b) >= CODEC_COUNT)
        return bad(c, b->base_offset, "not a batch that Apache Kafka writes");
    if (!batch_crc_matches(b))
        return bad(c, b->base_offset, "damaged: the checksum is wrong");
    if (cleaner_txns_learn(c->txns, b) < 0)
        return bad(c, b->base_offset, "damaged control batch");
    if (cleaner_txns_has_aborted(c->txns))
        return bad(c, b->base_offset,
                   "ends an aborted transaction, whose records tally cannot hide");
    int32_t epoch = b->leader_epoch > 0 ? b->leader_epoch : 0;
    if (p->epochs.n == 0 || p->epochs.items[p->epochs.n - 1].epoch < epoch)
        epochs_add(&p->epochs, epoch, b->base_offset, b->base_offset);
    if (b->base_offset > p->end)
        p->gaps = b->base_offset;
    int32_t records = batch_is_control(b) ? 0 : b->count;
    p->records += records;
    p->end = batch_last_offset(b) + 1;
    // A marker, or what compaction left of a batch: such offsets hold no record either.
    if (records <= b->last_offset_delta)
        p->gaps = p->end;
    return 0;
}

static int read_batch(struct check *c, struct window *w, struct batch *ret)
{
    const uint8_t *p = NULL;
    int r = window_at(w, c->pos, BATCH_HEADER_BYTES, &p);
    if (r < 0)
        return bad(c, c->partition->end, strerror(-r));
    if (p && p[16] < BATCH_MAGIC)
        return bad(c, c->partition->end,
                   "records of a format before v2 (Apache Kafka 0.11), which tally does not read");
    struct batch_header h;
    if (!p || !batch_header_read(p, &h) || h.bytes > w->size - c->pos)
        return bad(c, c->partition->end, "damaged, or torn by a stop that was not clean");
    r = window_at(w, c->pos, h.bytes, &p);
    if (r < 0)
        return bad(c, h.base_offset, strerror(-r));
    return p && batch_read((struct bytes){p, h.bytes}, ret) == 0 ? 0
                                                                 : bad(c, h.base_offset, "damaged");
}

static int check_segment(struct check *c, struct kafka_segment *s)
{
    char *path = arena_printf(c->arena, "%s/%020" PRId64 ".log", c->partition->dir, s->base);
    struct disk_file *f = NULL;
    struct window w = {0};
    c->segment = s;
    int r = disk_open(c->disk, path, DISK_READ, &f);
    if (r == 0)
        r = window_open(&w, f);
    if (r < 0)
        return say(c, r, "%s: cannot be read: %s", path, strerror(-r));
    s->bytes = w.size;
    if (s == c->partition->segments)
        c->partition->end = s->base;
    for (c->pos = 0; r == 0 && c->pos < w.size;) {
        struct batch b;
        r = read_batch(c, &w, &b);
        if (r == 0)
            r = check_batch(c, &b);
        if (r == 0)
            c->pos += b.all.len;
    }
    window_close(&w);
    disk_close(f);
    return r;
}

// Files.

static int list_partition(struct check *c)
{
    struct kafka_partition *p = c->partition;
    char **names;
    size_t n;
    int r = disk_list(c->disk, p->dir, c->arena, &names, &n);
    if (r < 0)
        return say(c, r, "%s: cannot be read: %s", p->dir, strerror(-r));
    p->segments = arena_array(c->arena, n + 1, sizeof *p->segments);
    for (size_t i = 0; i < n; i++) {
        const char *dot = strrchr(names[i], '.');
        if (dot && (!strcmp(dot, ".swap") || !strcmp(dot, CLEANED_SUFFIX)))
            return say(c, -EBADMSG,
                       "%s/%s: compaction did not end there: start and stop that Kafka once",
                       p->dir, names[i]);
        if (!dot || dot != names[i] + BASE_DIGITS || strcmp(dot, ".log") != 0 ||
            strspn(names[i], "0123456789") != BASE_DIGITS)
            continue;
        p->segments[p->n_segments++].base = strtoll(names[i], NULL, 10);
    }
    if (p->n_segments == 0)
        return say(c, -ENOENT, "%s: no segment is there: no partition of Apache Kafka", p->dir);
    p->start = p->segments[0].base;
    return 0;
}

// The log start that DeleteRecords moved stands in a file for all logs.
static void find_start(struct check *c, int32_t index)
{
    struct bytes content;
    struct arena *a = c->arena;
    if (disk_read_file(c->disk, arena_printf(a, "%s/" START_FILE, c->root), CHECKPOINT_MAX_BYTES, a,
                       &content) < 0)
        return;
    const char *wanted = arena_printf(a, "\n%s %d ", c->topic->name, (int)index);
    const char *line = strstr((const char *)content.ptr, wanted);
    int64_t start = line ? strtoll(line + strlen(wanted), NULL, 10) : 0;
    if (start > c->partition->start)
        c->partition->start = start < c->partition->end ? start : c->partition->end;
}

static int check_partition(struct check *c, int32_t index)
{
    struct kafka_partition *p = c->partition = &c->topic->partitions[index];
    p->dir = arena_printf(c->arena, "%s/%s-%d", c->root, c->topic->name, (int)index);
    int r = list_partition(c);
    c->txns = cleaner_txns_new();
    for (size_t i = 0; i < p->n_segments && r == 0; i++) {
        if (i > 0 && p->end > p->segments[i].base)
            r = say(c, -EBADMSG,
                    "%s/%020" PRId64 ".log: the segment before it goes up to offset %" PRId64,
                    p->dir, p->segments[i].base, p->end);
        if (r == 0)
            r = check_segment(c, &p->segments[i]);
    }
    int64_t open_from = cleaner_txns_open_from(c->txns);
    if (r == 0 && open_from != INT64_MAX)
        r = say(c, -EBADMSG, "%s: a transaction that began at offset %" PRId64 " did not end",
                p->dir, open_from);
    cleaner_txns_free(c->txns);
    if (r < 0)
        return r;
    if (p->epochs.n == 0)
        epochs_add(&p->epochs, 0, 0, 0);
    // An empty segment at the end says nothing that the next roll would not say again.
    if (p->n_segments > 1 && p->segments[p->n_segments - 1].bytes == 0)
        p->n_segments--;
    find_start(c, index);
    return 0;
}

static int count_partitions(struct check *c)
{
    char **names;
    size_t n;
    int r = disk_list(c->disk, c->root, c->arena, &names, &n);
    if (r < 0)
        return say(c, r, "%s: cannot be read: %s", c->root, strerror(-r));
    int32_t found = 0, most = -1;
    for (size_t i = 0; i < n; i++) {
        char *topic;
        int32_t index;
        if (!kafka_parse_dir(names[i], c->arena, &topic, &index) ||
            strcmp(topic, c->topic->name) != 0)
            continue;
        found++;
        most = index > most ? index : most;
    }
    if (found == 0)
        return say(c, -ENOENT, "%s: no topic %s is there, which would be in %s-0", c->root,
                   c->topic->name, c->topic->name);
    if (most >= found)
        return say(c, -ENOENT, "%s: %d directories of topic %s, but one of them is %s-%d", c->root,
                   (int)found, c->topic->name, c->topic->name, (int)most);
    c->topic->n_partitions = found;
    c->topic->partitions = arena_array(c->arena, (size_t)found, sizeof *c->topic->partitions);
    return 0;
}

int kafka_topic_check(struct disk *d, const char *dir, const char *topic, struct arena *a,
                      struct kafka_topic *ret, char *ret_why, size_t size)
{
    *ret = (struct kafka_topic){.name = arena_printf(a, "%s", topic)};
    struct check c = {
        .disk = d, .root = dir, .arena = a, .topic = ret, .why = ret_why, .why_size = size};
    int r = count_partitions(&c);
    for (int32_t i = 0; i < ret->n_partitions && r == 0; i++)
        r = check_partition(&c, i);
    return r;
}

void kafka_topic_free(struct kafka_topic *t)
{
    for (int32_t i = 0; i < t->n_partitions; i++)
        epochs_free(&t->partitions[i].epochs);
}
