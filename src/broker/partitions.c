#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/map.h"
#include "broker/partition_private.h"
#include "os/disk.h"

// Removing a directory can take milliseconds, and a topic can have thousands: so many a pass.
#define REMOVALS_PER_PASS 2
#define SAVES_PER_PASS 20 // of checkpoints, each a few small files

// Of the files the process may open, the part that logs may have open at once: connections may
// take three quarters, and what is being read keeps files open that a log has closed.
#define LOG_FILES_PART 8
#define LOG_FILES_MIN 16
// Of those, the part that may be in syncs under way, each with a few files.
#define SYNCS_PART 4
// Each costs memory and time at start; what asks for more than this is a mistake.
#define PARTITIONS_MAX 1000000

#define INTERNAL_SEGMENT_BYTES 104857600 // Kafka's offsets.topic.segment.bytes

// A directory that waits for its topic's deletion to be durable.
struct removal {
    struct list node;
    uint64_t position; // 0: durable, may go
    char dir[];
};

struct key {
    uint8_t b[sizeof(struct uuid) + sizeof(int32_t)];
};

static struct key key_of(struct uuid id, int32_t index)
{
    struct key k;
    memcpy(k.b, id.b, sizeof id.b);
    memcpy(k.b + sizeof id.b, &index, sizeof index);
    return k;
}

static struct bytes key_bytes(const struct key *k)
{
    return (struct bytes){k->b, sizeof k->b};
}

void partitions_say(struct partitions *ps, bool is_warning, const char *format, ...)
{
    char line[800];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (ps->config.say)
        ps->config.say(ps->config.ctx, is_warning, line);
}

uint64_t partitions_commit(struct partitions *ps, struct effects *fx)
{
    uint64_t position = ps->config.commit(ps->config.ctx, fx);
    ps->has_failed = ps->has_failed || position == UINT64_MAX;
    return position;
}

struct partitions *partitions_new(const struct partitions_config *config)
{
    struct partitions *ps = calloc(1, sizeof *ps);
    CHECK(ps);
    ps->config = *config;
    topics_limit_partitions(config->topics, PARTITIONS_MAX);
    uint64_t files = disk_files_max(config->disk) / LOG_FILES_PART;
    ps->files = files_new(files > LOG_FILES_MIN ? (size_t)files : LOG_FILES_MIN);
    ps->syncs_max = (files > LOG_FILES_MIN ? (size_t)files : LOG_FILES_MIN) / SYNCS_PART;
    ps->by_key = map_new();
    ps->seen_topics = ps->seen_configs = UINT64_MAX;
    list_init(&ps->dirty);
    list_init(&ps->wants_room);
    list_init(&ps->reserving);
    list_init(&ps->syncing);
    list_init(&ps->sync_wanted);
    list_init(&ps->removing);
    list_init(&ps->unsaved);
    list_init(&ps->saving);
    return ps;
}

static void release_slices(struct partitions *ps);

static void free_all(struct partitions *ps)
{
    release_slices(ps);
    free(ps->releasing);
    while (!list_is_empty(&ps->syncing))
        partition_free(LIST_ITEM(ps->syncing.next, struct partition, syncing));
    while (!list_is_empty(&ps->removing)) {
        struct removal *r = LIST_ITEM(ps->removing.next, struct removal, node);
        list_remove(&r->node);
        free(r);
    }
    map_free(ps->by_key);
    files_free(ps->files);
    free(ps);
}

void partitions_free(struct partitions *ps)
{
    if (!ps)
        return;
    void *v;
    for (size_t it = 0; map_next(ps->by_key, &it, NULL, &v);) {
        struct partition *p = v;
        list_remove(&p->syncing);
        partition_free(p);
    }
    free_all(ps);
}

int partitions_close_clean(struct partitions *ps)
{
    int first = 0;
    void *v;
    for (size_t it = 0; map_next(ps->by_key, &it, NULL, &v);) {
        struct partition *p = v;
        struct log_mark mark;
        struct buf left = {0};
        struct store *store = ps->config.store;
        int r = log_close_left(p->log, &mark, store ? &left : NULL);
        if (r == 0 && store)
            store_add_log_mark(store, p->topic, p->index, &mark, &left);
        buf_free(&left);
        if (r < 0)
            partitions_say(ps, true, "%s-%d: close: %s", p->topic.ptr, p->index, strerror(-r));
        first = first < 0 ? first : r;
        p->log = NULL;
        list_remove(&p->syncing);
        partition_free(p);
    }
    free_all(ps);
    return first;
}

struct partition *partitions_get(struct partitions *ps, struct uuid topic_id, int32_t index)
{
    struct key k = key_of(topic_id, index);
    return map_get(ps->by_key, key_bytes(&k));
}

// Settings.

// cleanup.policy is a list. What we keep for ourselves is compacted, as in Kafka.
static bool policy_has(const struct config_view *v, const struct topic *t, const char *what)
{
    struct str list = config_str(v, "cleanup.policy");
    bool is_compact = str_eq_c(STR("compact"), what);
    if (t->is_internal)
        return is_compact;
    return list.len > 0 && memmem(list.ptr, (size_t)list.len, what, strlen(what));
}

static struct log_config log_settings(const struct topics *ts, const struct topic *t)
{
    struct config_view v = topics_topic_view(ts, t);
    struct log_config c = log_config_default;
    c.segment_bytes = config_i64(&v, "segment.bytes");
    c.segment_ms = config_i64(&v, "segment.ms");
    c.segment_jitter_ms = config_i64(&v, "segment.jitter.ms");
    c.segment_index_bytes = config_i64(&v, "segment.index.bytes");
    c.compacts = policy_has(&v, t, "compact");
    bool deletes = policy_has(&v, t, "delete");
    c.retention_ms = deletes ? config_i64(&v, "retention.ms") : -1;
    c.retention_bytes = deletes ? config_i64(&v, "retention.bytes") : -1;
    c.min_dirty_ratio = config_f64(&v, "min.cleanable.dirty.ratio");
    c.min_compaction_lag_ms = config_i64(&v, "min.compaction.lag.ms");
    c.max_compaction_lag_ms = config_i64(&v, "max.compaction.lag.ms");
    c.delete_retention_ms = config_i64(&v, "delete.retention.ms");
    // No record waits for its segment to end for longer than it may stay uncompacted.
    if (c.compacts && c.max_compaction_lag_ms < c.segment_ms)
        c.segment_ms = c.max_compaction_lag_ms;
    if (t->is_internal)
        c.segment_bytes = INTERNAL_SEGMENT_BYTES;
    c.index_interval_bytes = (int32_t)config_i64(&v, "index.interval.bytes");
    return c;
}

// What a topic's settings come to, for all its partitions: to look them up takes longer than to
// open a partition.
struct topic_settings {
    struct partition_settings partition;
    struct log_config log;
};

static struct topic_settings topic_settings(const struct topics *ts, const struct topic *t)
{
    struct config_view v = topics_topic_view(ts, t);
    struct topic_settings all = {.log = log_settings(ts, t)};
    struct partition_settings *s = &all.partition;
    s->rules = batch_rules_default;
    s->rules.max_message_bytes = config_i64(&v, "max.message.bytes");
    s->rules.segment_bytes = config_i64(&v, "segment.bytes");
    s->rules.before_max_ms = config_i64(&v, "message.timestamp.before.max.ms");
    s->rules.after_max_ms = config_i64(&v, "message.timestamp.after.max.ms");
    s->log_append_time = str_eq_c(config_str(&v, "message.timestamp.type"), "LogAppendTime");
    s->rules.log_append_time = s->log_append_time;
    s->rules.is_compacted = !t->is_internal && policy_has(&v, t, "compact");
    s->may_delete = policy_has(&v, t, "delete");
    s->is_internal = t->is_internal;
    return all;
}

static void refresh_settings(struct partitions *ps)
{
    const struct topic *t;
    for (size_t it = 0; (t = topics_next(ps->config.topics, &it));) {
        struct topic_settings settings = topic_settings(ps->config.topics, t);
        for (int32_t i = 0; i < t->n_partitions; i++) {
            struct partition *p = partitions_get(ps, t->id, i);
            if (!p)
                continue;
            p->settings = settings.partition;
            log_set_config(p->log, &settings.log);
        }
    }
}

// Opening.

static char *dir_of(struct partitions *ps, struct arena *a, struct str topic, int32_t index)
{
    if (ps->config.store)
        return store_log_dir(ps->config.store, a, topic, index);
    return arena_printf(a, "%s/%.*s-%d", ps->config.dir, STR_FMT(topic), index);
}

// The machine went down under the log: it goes on beyond every offset that may have been used.
static void tell_new_epoch(struct partition *p, const struct log_report *report, struct effects *fx,
                           int64_t wall_ms)
{
    struct leader_epoch_started_record *r = effects_record(fx, &leader_epoch_started_record_msg);
    r->topic_id = p->topic_id;
    r->partition = p->index;
    r->epoch = log_epoch(p->log);
    r->start_offset = log_end(p->log);
    r->lost_from = report->lost_from;
    r->lost_upto = report->lost_upto;
    r->time_ms = wall_ms;
}

// Brings the log and what the journal knows of it together after a crash between the two.
static void reconcile(struct partition *p, const struct topic_partition *tp,
                      const struct log_report *report, struct effects *fx, int64_t wall_ms)
{
    if (report->new_epoch || log_epoch(p->log) > tp->leader_epoch)
        tell_new_epoch(p, report, fx, wall_ms);
    if (log_start(p->log) <= tp->log_start)
        return;
    struct log_start_moved_record *m = effects_record(fx, &log_start_moved_record_msg);
    m->topic_id = p->topic_id;
    m->partition = p->index;
    m->log_start = log_start(p->log);
    m->cause = LOG_START_RETENTION;
    m->time_ms = wall_ms;
}

static struct partition *partition_new(struct partitions *ps, const struct topic *t, int32_t index)
{
    struct partition *p = calloc(1, sizeof *p);
    CHECK(p);
    p->set = ps;
    p->topic_id = t->id;
    p->topic = (struct str){str_dup(t->name), t->name.len};
    p->index = index;
    p->all_from = -1;
    list_init(&p->queued);
    list_init(&p->no_room);
    list_init(&p->unsynced);
    list_init(&p->watches);
    list_init(&p->dirty);
    list_init(&p->wants);
    list_init(&p->syncing);
    list_init(&p->unsaved);
    return p;
}

static struct log_repair *repair_of(const struct partitions *ps, const struct topic *t)
{
    bool is_named = ps->config.n_repair_topics == 0;
    for (int i = 0; i < ps->config.n_repair_topics; i++)
        is_named = is_named || str_eq(t->name, str_from(ps->config.repair_topics[i]));
    return is_named && !ps->is_started ? ps->config.repair : NULL;
}

static int partition_open(struct partitions *ps, const struct topic *t, int32_t index,
                          const char *dir, const struct topic_settings *settings,
                          struct effects *fx, int64_t wall_ms)
{
    const struct topic_partition *tp = &t->partitions[index];
    struct partition *p = partition_new(ps, t, index);
    struct log_open args = {
        .disk = ps->config.disk,
        .files = ps->files,
        .owner = p,
        .dir = dir,
        .topic_id = t->id,
        .config = settings->log,
        .now_ms = wall_ms,
        .was_clean = ps->config.was_clean,
        .power_lost = ps->config.power_lost && !ps->is_started,
        .log_start = tp->log_start,
        .leader_epoch = tp->leader_epoch,
        .reserved_upto = tp->reserved_upto,
        .synced = tp->synced,
        .repair = repair_of(ps, t),
    };
    if (ps->config.store)
        args.mark = store_log_mark(ps->config.store, t->name, index);
    struct log_report report = {0};
    int r = log_open(&args, &p->log, &report);
    if (report.text[0])
        partitions_say(ps, true, "%s", report.text);
    if (r < 0) {
        partitions_say(ps, true, "%s: cannot be opened: %s%s", args.dir,
                       r == -EBADMSG ? "damaged" : strerror(-r),
                       r == -EMFILE ? "; raise the limit of open files (ulimit -n)" : "");
        partition_free(p);
        return r;
    }
    ps->n_recovered += report.scanned && report.read_bytes > 0;
    ps->recovered_bytes += report.read_bytes;
    reconcile(p, tp, &report, fx, wall_ms);
    p->high_watermark = log_end(p->log);
    p->settings = settings->partition;
    struct key k = key_of(t->id, index);
    map_put(ps->by_key, key_bytes(&k), p);
    return 0;
}

// While running, want of files or space is no reason to stop: the partition is not there until
// there is room again.
static int or_later(struct partitions *ps, int r)
{
    if (!ps->is_started || !log_is_want(r))
        return r;
    ps->has_missing = true;
    return 0;
}

// Whether a deleted topic's records stand in the new partition's directory and its deletion is not
// durable: after a lost power they may be wanted again.
static bool dir_is_owed(const struct partitions *ps, const char *dir)
{
    LIST_EACH (node, &ps->removing) {
        const struct removal *r = LIST_ITEM(node, struct removal, node);
        if (r->position != 0 && strcmp(r->dir, dir) == 0)
            return true;
    }
    return false;
}

static int open_missing_of(struct partitions *ps, const struct topic *t, struct effects *fx,
                           int64_t wall_ms)
{
    struct topic_settings settings = {0};
    bool has_settings = false;
    int r = 0;
    for (int32_t i = 0; r == 0 && !ps->has_missing && i < t->n_partitions; i++) {
        if (partitions_get(ps, t->id, i))
            continue;
        if (!has_settings)
            settings = topic_settings(ps->config.topics, t);
        has_settings = true;
        const char *dir = dir_of(ps, fx->arena, t->name, i);
        if (dir_is_owed(ps, dir))
            ps->has_owed = true;
        else
            r = or_later(ps, partition_open(ps, t, i, dir, &settings, fx, wall_ms));
    }
    return r;
}

static int open_missing(struct partitions *ps, int64_t wall_ms)
{
    struct arena *arena = arena_new();
    struct effects fx;
    effects_init(&fx, arena);
    int r = 0;
    ps->has_missing = ps->has_owed = false;
    const struct topic *t;
    for (size_t it = 0; r == 0 && (t = topics_next(ps->config.topics, &it));)
        r = open_missing_of(ps, t, &fx, wall_ms);
    if (fx.first_record)
        partitions_commit(ps, &fx);
    arena_free(arena);
    return r;
}

static void drop_deleted(struct partitions *ps, uint64_t position)
{
    void *v;
    struct bytes key;
    for (size_t it = 0; map_next(ps->by_key, &it, &key, &v);) {
        struct partition *p = v;
        if (topics_by_id(ps->config.topics, p->topic_id))
            continue;
        const char *dir = log_dir(p->log);
        struct removal *r = malloc(sizeof *r + strlen(dir) + 1);
        CHECK(r);
        r->position = position;
        strcpy(r->dir, dir);
        list_append(&ps->removing, &r->node);
        map_remove(ps->by_key, key);
        partition_drop(p);
    }
}

int partitions_follow(struct partitions *ps, uint64_t position, int64_t wall_ms)
{
    const struct topics *ts = ps->config.topics;
    int r = 0;
    if (ps->seen_topics != topics_version(ts)) {
        ps->seen_topics = topics_version(ts);
        drop_deleted(ps, position);
        r = open_missing(ps, wall_ms);
    }
    if (ps->seen_configs != topics_config_version(ts)) {
        ps->seen_configs = topics_config_version(ts);
        if (ps->is_started) // else all were opened with them just now
            refresh_settings(ps);
    }
    if (r == 0 && !ps->is_started)
        partitions_say(ps, false, "recovered: %zu of %zu partitions, %" PRIu64 " bytes scanned",
                       ps->n_recovered, map_count(ps->by_key), ps->recovered_bytes);
    if (r == 0)
        ps->is_started = true;
    return r;
}

// Removing.

// A topic of the same name may have been made since: its log has taken the directory over.
static bool name_is_used(struct partitions *ps, const char *name)
{
    const char *dash = strrchr(name, '-');
    const struct topic *t =
        topics_by_name(ps->config.topics, (struct str){name, (int32_t)(dash - name)});
    struct partition *p = t ? partitions_get(ps, t->id, (int32_t)strtol(dash + 1, NULL, 10)) : NULL;
    return p && strcmp(strrchr(log_dir(p->log), '/') + 1, name) == 0;
}

static void remove_dir(struct partitions *ps, const char *dir)
{
    if (name_is_used(ps, strrchr(dir, '/') + 1))
        return;
    int r = log_remove_dir(ps->config.disk, dir);
    if (r < 0 && r != -ENOENT)
        partitions_say(ps, true, "%s: cannot be removed: %s", dir, strerror(-r));
}

// TOPIC-NUMBER with a legal topic name: what a partition's directory is called.
static bool is_partition_name(const char *name)
{
    const char *dash = strrchr(name, '-');
    if (!dash || dash == name || !dash[1] || strspn(dash + 1, "0123456789") != strlen(dash + 1))
        return false;
    struct str topic = {name, (int32_t)(dash - name)};
    return topic_name_check(topic) == KERR_NONE;
}

void partitions_clean_leftovers(struct partitions *ps)
{
    struct arena *a = arena_new();
    const char *root = ps->config.store ? store_dir(ps->config.store) : ps->config.dir;
    char **names;
    size_t n = 0;
    if (disk_list(ps->config.disk, root, a, &names, &n) < 0)
        n = 0;
    for (size_t i = 0; i < n; i++) {
        struct disk_stat st;
        if (!is_partition_name(names[i]) || name_is_used(ps, names[i]))
            continue;
        char *dir = arena_printf(a, "%s/%s", root, names[i]);
        char *mark = arena_printf(a, "%s/partition.metadata", dir);
        if (disk_stat(ps->config.disk, mark, &st) < 0)
            continue;
        partitions_say(ps, false, "%s: left by a deleted topic, removed", dir);
        remove_dir(ps, dir);
    }
    arena_free(a);
}

// The loop.

void partitions_journal_synced(struct partitions *ps, uint64_t position, int64_t wall_ms)
{
    bool any = false;
    LIST_EACH (node, &ps->reserving) {
        struct partition *p = LIST_ITEM(node, struct partition, wants);
        if (p->reserve_position > position)
            continue;
        partition_reserved(p);
        any = true;
    }
    LIST_EACH (node, &ps->removing) {
        struct removal *r = LIST_ITEM(node, struct removal, node);
        if (r->position <= position)
            r->position = 0;
    }
    if (ps->has_owed && !ps->has_failed) {
        int r = open_missing(ps, wall_ms);
        if (r < 0) {
            ps->has_failed = true;
            ps->config.fail(ps->config.ctx, "a partition could not be opened");
        }
    }
    if (any)
        partitions_flush(ps, wall_ms);
}

// One record for each log that runs out of reserved offsets, all in one batch.
static void reserve(struct partitions *ps)
{
    if (list_is_empty(&ps->wants_room) || ps->has_failed)
        return;
    struct arena *arena = arena_new();
    struct effects fx;
    effects_init(&fx, arena);
    struct list begun;
    list_init(&begun);
    while (!list_is_empty(&ps->wants_room)) {
        struct partition *p = LIST_ITEM(ps->wants_room.next, struct partition, wants);
        list_remove(&p->wants);
        list_append(&begun, &p->wants);
        int64_t records = 1;
        LIST_EACH (node, &p->no_room)
            records += LIST_ITEM(node, struct append, node)->batch.last_offset_delta + 1;
        p->reserve_upto = log_reserve_wanted(p->log, records);
        struct offsets_reserved_record *r = effects_record(&fx, &offsets_reserved_record_msg);
        r->topic_id = p->topic_id;
        r->partition = p->index;
        r->upto = p->reserve_upto;
        r->synced = log_synced(p->log);
    }
    uint64_t position = partitions_commit(ps, &fx);
    arena_free(arena);
    while (!list_is_empty(&begun)) {
        struct partition *p = LIST_ITEM(begun.next, struct partition, wants);
        list_remove(&p->wants);
        p->reserve_position = position;
        list_append(&ps->reserving, &p->wants);
    }
}

void partitions_release_later(struct partitions *ps, struct log_slice *slice)
{
    if (slice->len == 0)
        return;
    if (ps->n_releasing == ps->cap_releasing) {
        ps->cap_releasing = ps->cap_releasing ? 2 * ps->cap_releasing : 16;
        ps->releasing = realloc(ps->releasing, ps->cap_releasing * sizeof *ps->releasing);
        CHECK(ps->releasing);
    }
    ps->releasing[ps->n_releasing++] = *slice;
    *slice = (struct log_slice){0};
}

static void release_slices(struct partitions *ps)
{
    for (size_t i = 0; i < ps->n_releasing; i++)
        log_slice_release(&ps->releasing[i]);
    ps->n_releasing = 0;
}

bool partitions_has_room(struct partitions *ps, size_t bytes)
{
    return !ps->has_failed && (!ps->config.store || store_has_room(ps->config.store, bytes));
}

static bool has_removals(const struct partitions *ps)
{
    return !list_is_empty(&ps->removing) &&
           LIST_ITEM(ps->removing.next, struct removal, node)->position == 0;
}

void partitions_hold_syncs(struct partitions *ps, bool on)
{
    ps->holds_syncs = on;
}

bool partitions_wants_sync(const struct partitions *ps)
{
    return !list_is_empty(&ps->sync_wanted);
}

bool partitions_has_work(const struct partitions *ps)
{
    return ps && (has_removals(ps) || !list_is_empty(&ps->saving));
}

void partitions_save(struct partitions *ps)
{
    while (!list_is_empty(&ps->unsaved)) {
        struct list *first = ps->unsaved.next;
        list_remove(first);
        list_append(&ps->saving, first);
    }
}

bool partitions_has_unsaved(const struct partitions *ps)
{
    return !list_is_empty(&ps->unsaved);
}

static void save_some(struct partitions *ps)
{
    for (int i = 0; i < SAVES_PER_PASS && !list_is_empty(&ps->saving); i++)
        partition_save(LIST_ITEM(ps->saving.next, struct partition, unsaved));
}

static void remove_some(struct partitions *ps)
{
    for (int i = 0; i < REMOVALS_PER_PASS && has_removals(ps); i++) {
        struct removal *r = LIST_ITEM(ps->removing.next, struct removal, node);
        list_remove(&r->node);
        remove_dir(ps, r->dir);
        free(r);
    }
}

void partitions_flush(struct partitions *ps, int64_t wall_ms)
{
    release_slices(ps);
    remove_some(ps);
    save_some(ps);
    while (!list_is_empty(&ps->dirty)) {
        struct partition *p = LIST_ITEM(ps->dirty.next, struct partition, dirty);
        list_remove(&p->dirty);
        partition_flush(p, wall_ms);
    }
    partitions_start_syncs(ps);
    reserve(ps);
    if (ps->clean_again)
        partitions_clean(ps, wall_ms);
}

static void retention_failed(struct partition *p, int error)
{
    if (log_is_want(error))
        partitions_say(p->set, true, "%s: retention: %s", log_dir(p->log), strerror(-error));
    else if (error < 0)
        partition_fail(p, error, "retention");
}

// The journal is told before anything goes, while it can still be seen what goes.
static void tell_retention(struct partitions *ps, int64_t wall_ms)
{
    struct arena *arena = arena_new();
    struct effects fx;
    effects_init(&fx, arena);
    void *v;
    for (size_t it = 0; !ps->has_failed && map_next(ps->by_key, &it, NULL, &v);) {
        struct partition *p = v;
        int64_t start = 0;
        int r = log_retain_look(p->log, wall_ms, p->high_watermark, &start);
        retention_failed(p, r);
        if (r < 0 || start <= log_start(p->log))
            continue;
        struct log_start_moved_record *m = effects_record(&fx, &log_start_moved_record_msg);
        m->topic_id = p->topic_id;
        m->partition = p->index;
        m->log_start = start;
        m->cause = LOG_START_RETENTION;
        m->time_ms = wall_ms;
    }
    if (fx.first_record)
        partitions_commit(ps, &fx);
    for (const struct effect_record *e = fx.first_record; e && !ps->has_failed; e = e->next) {
        const struct log_start_moved_record *m = e->record;
        struct partition *p = partitions_get(ps, m->topic_id, m->partition);
        if (!p)
            continue;
        log_trim(p->log, m->log_start);
        partition_wake_all(p);
    }
    arena_free(arena);
}

void partitions_retain(struct partitions *ps, int64_t wall_ms)
{
    if (ps->has_missing && open_missing(ps, wall_ms) < 0)
        partitions_say(ps, true, "some partitions are still not open");
    struct config_view view = topics_broker_view(ps->config.topics);
    int64_t expiration_ms = config_i64(&view, "producer.id.expiration.ms");
    tell_retention(ps, wall_ms);
    void *v;
    for (size_t it = 0; !ps->has_failed && map_next(ps->by_key, &it, NULL, &v);) {
        struct partition *p = v;
        producer_state_expire(log_producers(p->log), wall_ms, expiration_ms);
        bool moved;
        // What the journal was told of goes, and no more.
        retention_failed(p, log_retain(p->log, wall_ms, log_start(p->log), &moved));
    }
}
