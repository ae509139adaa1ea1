#include "core/topics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "core/topics_private.h"

struct topics *topics_new(const struct configs *fixed)
{
    struct topics *ts = calloc(1, sizeof *ts);
    CHECK(ts);
    ts->fixed = fixed;
    ts->most_partitions = UINT64_MAX;
    ts->by_id = map_new();
    ts->by_name = map_new();
    ts->by_folded = map_new();
    ts->groups = map_new();
    ts->broker = configs_new();
    ts->all_brokers = configs_new();
    return ts;
}

static void topic_free(struct topic *t)
{
    free((void *)(uintptr_t)t->name.ptr);
    for (int32_t i = 0; i < t->n_partitions; i++)
        free(t->partitions[i].gaps);
    free(t->partitions);
    configs_free(t->configs);
    free(t);
}

void topics_free(struct topics *ts)
{
    if (!ts)
        return;
    void *v;
    for (size_t it = 0; map_next(ts->by_id, &it, NULL, &v);)
        topic_free(v);
    for (size_t it = 0; map_next(ts->groups, &it, NULL, &v);)
        configs_free(v);
    map_free(ts->by_id);
    map_free(ts->by_name);
    map_free(ts->by_folded);
    map_free(ts->groups);
    configs_free(ts->broker);
    configs_free(ts->all_brokers);
    free(ts);
}

const struct topic *topics_by_name(const struct topics *ts, struct str name)
{
    return str_is_null(name) ? NULL : map_get(ts->by_name, key_str(name));
}

const struct topic *topics_by_id(const struct topics *ts, struct uuid id)
{
    return map_get(ts->by_id, key_uuid(&id));
}

size_t topics_count(const struct topics *ts)
{
    return map_count(ts->by_id);
}

uint64_t topics_partitions(const struct topics *ts)
{
    return ts->n_partitions;
}

const struct topic *topics_next(const struct topics *ts, size_t *it)
{
    void *t;
    return map_next(ts->by_id, it, NULL, &t) ? t : NULL;
}

uint64_t topics_version(const struct topics *ts)
{
    return ts->version;
}

uint64_t topics_config_version(const struct topics *ts)
{
    return ts->config_version;
}

struct config_view topics_broker_view(const struct topics *ts)
{
    return (struct config_view){NULL, ts->broker, ts->all_brokers, ts->fixed};
}

struct config_view topics_topic_view(const struct topics *ts, const struct topic *t)
{
    return (struct config_view){t->configs, ts->broker, ts->all_brokers, ts->fixed};
}

const struct configs *topics_group_configs(const struct topics *ts, struct str group)
{
    return map_get(ts->groups, key_str(group));
}

struct config_view topics_group_view(const struct topics *ts, struct str group)
{
    const struct configs *own = topics_group_configs(ts, group);
    return (struct config_view){own, ts->broker, ts->all_brokers, ts->fixed};
}

void topics_clamp_replication(struct topics *ts, bool on)
{
    ts->clamp_replication = on;
}

void topics_limit_partitions(struct topics *ts, uint64_t most)
{
    ts->most_partitions = most;
}

static bool is_topic_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

static bool has_other_char(struct str name)
{
    for (int32_t i = 0; i < name.len; i++)
        if (!is_topic_char(name.ptr[i]))
            return true;
    return false;
}

enum kerr topic_name_check(struct str name)
{
    bool good = name.len > 0 && name.len <= TOPIC_NAME_MAX && !str_eq_c(name, ".") &&
                !str_eq_c(name, "..") && !has_other_char(name);
    return good ? KERR_NONE : KERR_INVALID_TOPIC_EXCEPTION;
}

const char *topic_name_text(struct str name, struct arena *a)
{
    if (name.len <= 0)
        return "Topic name is invalid: the empty string is not allowed";
    if (str_eq_c(name, ".") || str_eq_c(name, ".."))
        return arena_printf(a, "Topic name is invalid: '%.*s' is not allowed", STR_FMT(name));
    if (name.len > TOPIC_NAME_MAX)
        return arena_printf(a,
                            "Topic name is invalid: the length of '%.*s' is longer than the max "
                            "allowed length %d",
                            STR_FMT(name), TOPIC_NAME_MAX);
    return arena_printf(a,
                        "Topic name is invalid: '%.*s' contains one or more characters other than "
                        "ASCII alphanumerics, '.', '_' and '-'",
                        STR_FMT(name));
}

size_t counts_add(struct map *counts, struct bytes key)
{
    uintptr_t n = (uintptr_t)map_get(counts, key) + 1;
    map_put(counts, key, (void *)n);
    return n;
}

size_t counts_get(const struct map *counts, struct bytes key)
{
    return (uintptr_t)map_get(counts, key);
}

struct bytes topic_folded(struct str name, char *buf)
{
    CHECK(name.len <= TOPIC_NAME_MAX);
    for (int32_t i = 0; i < name.len; i++)
        buf[i] = name.ptr[i] == '.' ? '_' : name.ptr[i];
    return (struct bytes){(const uint8_t *)buf, (size_t)name.len};
}

// Topics made and deleted.

static struct topic *find(struct topics *ts, struct uuid id)
{
    return map_get(ts->by_id, key_uuid(&id));
}

static void topic_widen(struct topic *t, int32_t n)
{
    CHECK(n >= t->n_partitions && n <= TOPIC_PARTITIONS_MAX);
    t->partitions = realloc(t->partitions, (size_t)n * sizeof *t->partitions);
    CHECK(t->partitions || n == 0);
    for (int32_t i = t->n_partitions; i < n; i++)
        t->partitions[i] = (struct topic_partition){0};
    t->n_partitions = n;
}

static void apply_created(struct topics *ts, const struct topic_created_record *r)
{
    CHECK(!find(ts, r->topic_id));
    struct topic *t = calloc(1, sizeof *t);
    CHECK(t);
    t->id = r->topic_id;
    t->name = (struct str){str_dup(r->name), r->name.len};
    t->is_internal = r->is_internal;
    t->created_ms = r->time_ms;
    t->configs = configs_new();
    for (int32_t i = 0; i < r->n_configs; i++)
        configs_set(t->configs, r->configs[i].name, r->configs[i].value);
    topic_widen(t, r->partitions);
    ts->n_partitions += (uint64_t)r->partitions;
    map_put(ts->by_id, key_uuid(&t->id), t);
    CHECK(!map_put(ts->by_name, key_str(t->name), t));
    char folded[TOPIC_NAME_MAX];
    map_put(ts->by_folded, topic_folded(t->name, folded), t);
    ts->version++;
}

// Two topics of one request can share a form; the other one takes the place.
static void unfold(struct topics *ts, const struct topic *gone)
{
    char folded[TOPIC_NAME_MAX], other[TOPIC_NAME_MAX];
    struct bytes key = topic_folded(gone->name, folded);
    if (map_get(ts->by_folded, key) != gone)
        return;
    map_remove(ts->by_folded, key);
    void *t;
    for (size_t it = 0; map_next(ts->by_id, &it, NULL, &t);)
        if (bytes_eq(topic_folded(((struct topic *)t)->name, other), key))
            map_put(ts->by_folded, key, t);
}

static void apply_deleted(struct topics *ts, const struct topic_deleted_record *r)
{
    struct topic *t = map_remove(ts->by_id, key_uuid(&r->topic_id));
    if (!t)
        return;
    map_remove(ts->by_name, key_str(t->name));
    ts->n_partitions -= (uint64_t)t->n_partitions;
    unfold(ts, t);
    topic_free(t);
    ts->version++;
}

static void apply_partitions(struct topics *ts, const struct partitions_added_record *r)
{
    struct topic *t = find(ts, r->topic_id);
    if (!t)
        return;
    ts->n_partitions += (uint64_t)(r->partitions - t->n_partitions);
    topic_widen(t, r->partitions);
    ts->version++;
}

// Settings.

static struct configs *configs_of(struct topics *ts, int8_t type, struct str name)
{
    if (type == RESOURCE_BROKER)
        return name.len > 0 ? ts->broker : ts->all_brokers;
    if (type == RESOURCE_TOPIC) {
        struct topic *t = map_get(ts->by_name, key_str(name));
        return t ? t->configs : NULL;
    }
    CHECK(type == RESOURCE_GROUP);
    struct configs *c = map_get(ts->groups, key_str(name));
    if (!c) {
        c = configs_new();
        map_put(ts->groups, key_str(name), c);
    }
    return c;
}

static void apply_config(struct topics *ts, const struct config_changed_record *r)
{
    struct configs *c = configs_of(ts, r->resource_type, r->resource_name);
    if (!c)
        return;
    configs_set(c, r->name, r->value);
    ts->config_version++;
    if (r->resource_type == RESOURCE_GROUP && configs_count(c) == 0) {
        map_remove(ts->groups, key_str(r->resource_name));
        configs_free(c);
    }
}

// What the journal knows of one log. Records of a topic deleted since are without meaning.

static struct topic_partition *partition_of(struct topics *ts, struct uuid id, int32_t index)
{
    struct topic *t = find(ts, id);
    if (!t)
        return NULL;
    CHECK(index >= 0 && index < t->n_partitions);
    return &t->partitions[index];
}

static void apply_reserved(struct topics *ts, const struct offsets_reserved_record *r)
{
    struct topic_partition *p = partition_of(ts, r->topic_id, r->partition);
    if (!p)
        return;
    p->reserved_upto = r->upto > p->reserved_upto ? r->upto : p->reserved_upto;
    p->synced = r->synced > p->synced ? r->synced : p->synced;
}

static void add_gap(struct topic_partition *p, struct topic_gap gap)
{
    if (gap.from >= gap.to)
        return;
    // What had been written after a former hole may be gone as well: then the two are one.
    while (p->n_gaps > 0 && p->gaps[p->n_gaps - 1].to >= gap.from) {
        const struct topic_gap *last = &p->gaps[--p->n_gaps];
        gap.from = last->from < gap.from ? last->from : gap.from;
    }
    if (p->n_gaps == TOPIC_GAPS_MAX)
        memmove(p->gaps, p->gaps + 1, (size_t)--p->n_gaps * sizeof *p->gaps);
    p->gaps = realloc(p->gaps, ((size_t)p->n_gaps + 1) * sizeof *p->gaps);
    CHECK(p->gaps);
    p->gaps[p->n_gaps++] = gap;
}

static void apply_epoch(struct topics *ts, const struct leader_epoch_started_record *r)
{
    struct topic_partition *p = partition_of(ts, r->topic_id, r->partition);
    if (!p)
        return;
    p->leader_epoch = r->epoch;
    p->epoch_start_offset = r->start_offset;
    add_gap(p, (struct topic_gap){r->epoch, r->lost_from, r->start_offset});
}

static void apply_log_start(struct topics *ts, const struct log_start_moved_record *r)
{
    struct topic_partition *p = partition_of(ts, r->topic_id, r->partition);
    if (p && r->log_start > p->log_start)
        p->log_start = r->log_start;
}

bool topics_apply(struct topics *ts, const struct kw_message *type, const void *record)
{
    switch (type->key) {
    case RECORD_TOPIC_CREATED:
        apply_created(ts, record);
        return true;
    case RECORD_TOPIC_DELETED:
        apply_deleted(ts, record);
        return true;
    case RECORD_PARTITIONS_ADDED:
        apply_partitions(ts, record);
        return true;
    case RECORD_CONFIG_CHANGED:
        apply_config(ts, record);
        return true;
    case RECORD_PRODUCER_IDS_RESERVED:
        ts->reserved_producer_id = ((const struct producer_ids_reserved_record *)record)->next;
        return true;
    case RECORD_OFFSETS_RESERVED:
        apply_reserved(ts, record);
        return true;
    case RECORD_LEADER_EPOCH_STARTED:
        apply_epoch(ts, record);
        return true;
    case RECORD_LOG_START_MOVED:
        apply_log_start(ts, record);
        return true;
    default:
        return false;
    }
}

// Snapshot.

static void snapshot_configs(int8_t type, struct str resource, const struct configs *c,
                             struct effects *fx)
{
    struct str name, value;
    for (size_t it = 0; configs_next(c, &it, &name, &value);) {
        struct config_changed_record *r = effects_record(fx, &config_changed_record_msg);
        r->resource_type = type;
        r->resource_name = resource;
        r->name = name;
        r->value = value;
    }
}

static void snapshot_epoch(const struct topic *t, int32_t i, const struct topic_gap *gap,
                           struct effects *fx)
{
    struct leader_epoch_started_record *r = effects_record(fx, &leader_epoch_started_record_msg);
    r->topic_id = t->id;
    r->partition = i;
    r->epoch = gap->epoch;
    r->lost_from = gap->from;
    r->start_offset = gap->to;
}

static void snapshot_partition(const struct topic *t, int32_t i, struct effects *fx)
{
    const struct topic_partition *p = &t->partitions[i];
    for (int32_t g = 0; g < p->n_gaps; g++)
        snapshot_epoch(t, i, &p->gaps[g], fx);
    bool told = p->n_gaps > 0 && p->gaps[p->n_gaps - 1].epoch == p->leader_epoch;
    if (p->leader_epoch > 0 && !told)
        snapshot_epoch(
            t, i,
            &(struct topic_gap){p->leader_epoch, p->epoch_start_offset, p->epoch_start_offset}, fx);
    if (p->reserved_upto > 0) {
        struct offsets_reserved_record *r = effects_record(fx, &offsets_reserved_record_msg);
        r->topic_id = t->id;
        r->partition = i;
        r->upto = p->reserved_upto;
        r->synced = p->synced;
    }
    if (p->log_start > 0) {
        struct log_start_moved_record *r = effects_record(fx, &log_start_moved_record_msg);
        r->topic_id = t->id;
        r->partition = i;
        r->log_start = p->log_start;
    }
}

void topics_snapshot(const struct topics *ts, struct effects *fx)
{
    snapshot_configs(RESOURCE_BROKER, STR("1"), ts->broker, fx);
    snapshot_configs(RESOURCE_BROKER, STR_EMPTY, ts->all_brokers, fx);
    struct bytes key;
    void *v;
    for (size_t it = 0; map_next(ts->groups, &it, &key, &v);)
        snapshot_configs(RESOURCE_GROUP, (struct str){(const char *)key.ptr, (int32_t)key.len}, v,
                         fx);
    for (size_t it = 0; map_next(ts->by_id, &it, NULL, &v);) {
        const struct topic *t = v;
        struct topic_created_record *r = effects_record(fx, &topic_created_record_msg);
        r->topic_id = t->id;
        r->name = t->name;
        r->partitions = t->n_partitions;
        r->is_internal = t->is_internal;
        r->time_ms = t->created_ms;
        snapshot_configs(RESOURCE_TOPIC, t->name, t->configs, fx);
        for (int32_t i = 0; i < t->n_partitions; i++)
            snapshot_partition(t, i, fx);
    }
    if (ts->reserved_producer_id > 0) {
        struct producer_ids_reserved_record *r =
            effects_record(fx, &producer_ids_reserved_record_msg);
        r->next = ts->reserved_producer_id;
    }
}
