// Topics made, widened and deleted. Error texts follow Kafka's, which people search for.
#include <string.h>

#include "base/map.h"
#include "core/topics_private.h"

// Kafka bounds one request likewise: the whole answer is one journal batch.
#define NEW_PARTITIONS_PER_REQUEST_MAX 10000
#define WHY_MAX 400

// The n-th id of one request: the fresh id is random, so its neighbours are free as well.
static struct uuid nth_id(struct uuid fresh, int32_t n)
{
    uint32_t low = (uint32_t)fresh.b[12] << 24 | (uint32_t)fresh.b[13] << 16 |
                   (uint32_t)fresh.b[14] << 8 | fresh.b[15];
    low += (uint32_t)n;
    for (int i = 0; i < 4; i++)
        fresh.b[15 - i] = (uint8_t)(low >> 8 * i);
    return fresh;
}

// '.' and '_' are one character in metric names, so such names must not stand side by side.
static const struct topic *colliding(const struct topics *ts, struct str name)
{
    char folded[TOPIC_NAME_MAX];
    return map_get(ts->by_folded, topic_folded(name, folded));
}

static enum kerr check_room(const struct topics *ts, int64_t more, struct arena *a,
                            const char **ret_why)
{
    if (ts->n_partitions + (uint64_t)more <= ts->most_partitions)
        return KERR_NONE;
    *ret_why =
        arena_printf(a, "A broker has at most %llu partitions, %llu are there.",
                     (unsigned long long)ts->most_partitions, (unsigned long long)ts->n_partitions);
    return KERR_POLICY_VIOLATION;
}

// Made by the broker itself when it is first needed: a client that came before it would give
// the projection of the offsets a topic of the wrong shape.
static bool is_reserved(struct str name)
{
    return str_eq_c(name, "__consumer_offsets");
}

static enum kerr check_new_name(const struct topics *ts, struct str name, bool is_internal,
                                struct arena *a, const char **ret_why)
{
    if (topic_name_check(name) != KERR_NONE) {
        *ret_why = topic_name_text(name, a);
        return KERR_INVALID_TOPIC_EXCEPTION;
    }
    if (topics_by_name(ts, name) || (!is_internal && is_reserved(name))) {
        *ret_why = arena_printf(a, "Topic '%.*s' already exists.", STR_FMT(name));
        return KERR_TOPIC_ALREADY_EXISTS;
    }
    const struct topic *other = colliding(ts, name);
    if (!other)
        return KERR_NONE;
    *ret_why = arena_printf(a, "Topic '%.*s' collides with existing topic: %.*s", STR_FMT(name),
                            STR_FMT(other->name));
    return KERR_INVALID_TOPIC_EXCEPTION;
}

// One list of brokers of a manual assignment: the only legal one is our own node.
static enum kerr check_brokers(const struct topics *ts, const int32_t *ids, int32_t n,
                               struct arena *a, const char **ret_why)
{
    if (n <= 0) {
        *ret_why = "The manual partition assignment includes an empty replica list.";
        return KERR_INVALID_REPLICA_ASSIGNMENT;
    }
    for (int32_t i = 0; i < n; i++)
        if (ids[i] != TALLY_NODE_ID && !ts->clamp_replication) {
            *ret_why = arena_printf(a,
                                    "The manual partition assignment includes broker %d, but no "
                                    "such broker is registered.",
                                    ids[i]);
            return KERR_INVALID_REPLICA_ASSIGNMENT;
        }
    if (n > 1 && !ts->clamp_replication) {
        *ret_why = arena_printf(
            a, "The manual partition assignment includes the broker %d more than once.", ids[0]);
        return KERR_INVALID_REPLICA_ASSIGNMENT;
    }
    return KERR_NONE;
}

static enum kerr check_assignments(const struct topics *ts,
                                   const struct create_topics_request_topic *t, struct arena *a,
                                   const char **ret_why)
{
    if (t->replication_factor != -1 || t->num_partitions != -1) {
        *ret_why = t->replication_factor != -1
                       ? "A manual partition assignment was specified, but replication factor "
                         "was not set to -1."
                       : "A manual partition assignment was specified, but numPartitions was "
                         "not set to -1.";
        return KERR_INVALID_REQUEST;
    }
    if (t->n_assignments > TOPIC_PARTITIONS_MAX) {
        *ret_why = "Too many partitions.";
        return KERR_INVALID_PARTITIONS;
    }
    uint8_t *seen = arena_array(a, (size_t)t->n_assignments, 1);
    for (int32_t i = 0; i < t->n_assignments; i++) {
        const struct create_topics_request_assignment *one = &t->assignments[i];
        enum kerr e = check_brokers(ts, one->broker_ids, one->n_broker_ids, a, ret_why);
        if (e != KERR_NONE)
            return e;
        if (one->partition_index < 0 || one->partition_index >= t->n_assignments) {
            *ret_why = "partitions should be a consecutive 0-based integer sequence";
            return KERR_INVALID_REPLICA_ASSIGNMENT;
        }
        if (seen[one->partition_index]++) {
            *ret_why =
                arena_printf(a, "Found multiple manual partition assignments for partition %d",
                             one->partition_index);
            return KERR_INVALID_REPLICA_ASSIGNMENT;
        }
    }
    return KERR_NONE;
}

static enum kerr check_counts(const struct topics *ts, const struct create_topics_request_topic *t,
                              struct arena *a, const char **ret_why)
{
    struct config_view v = topics_broker_view(ts);
    int64_t factor = t->replication_factor == -1 ? config_i64(&v, "default.replication.factor")
                                                 : t->replication_factor;
    if (factor <= 0) {
        *ret_why = "Replication factor must be larger than 0, or -1 to use the default value.";
        return KERR_INVALID_REPLICATION_FACTOR;
    }
    if (t->num_partitions == 0 || t->num_partitions < -1) {
        *ret_why = "Number of partitions was set to an invalid non-positive value.";
        return KERR_INVALID_PARTITIONS;
    }
    if (t->num_partitions > TOPIC_PARTITIONS_MAX) {
        *ret_why = arena_printf(a, "A topic has at most %d partitions.", TOPIC_PARTITIONS_MAX);
        return KERR_INVALID_PARTITIONS;
    }
    if (factor > 1 && !ts->clamp_replication) {
        *ret_why = arena_printf(a,
                                "Unable to replicate the partition %lld time(s): The target "
                                "replication factor of %lld cannot be reached because only 1 "
                                "broker(s) are registered.",
                                (long long)factor, (long long)factor);
        return KERR_INVALID_REPLICATION_FACTOR;
    }
    return KERR_NONE;
}

static enum kerr check_configs(const struct create_topics_request_topic *t, struct arena *a,
                               const char **ret_why)
{
    for (int32_t i = 0; i < t->n_configs; i++) {
        char why[WHY_MAX];
        if (str_is_null(t->configs[i].value)) {
            *ret_why = arena_printf(a, "Null value not supported for topic configs: %.*s",
                                    STR_FMT(t->configs[i].name));
            return KERR_INVALID_CONFIG;
        }
        enum config_check c =
            config_check_topic(t->configs[i].name, t->configs[i].value, why, sizeof why);
        if (c == CONFIG_UNKNOWN || c == CONFIG_INVALID) {
            *ret_why = arena_printf(a, "%s", why);
            return KERR_INVALID_CONFIG;
        }
    }
    return KERR_NONE;
}

static int32_t partitions_wanted(const struct topics *ts,
                                 const struct create_topics_request_topic *t)
{
    if (t->n_assignments > 0)
        return t->n_assignments;
    if (t->num_partitions > 0)
        return t->num_partitions;
    struct config_view v = topics_broker_view(ts);
    int64_t n = config_i64(&v, "num.partitions");
    return n > TOPIC_PARTITIONS_MAX ? TOPIC_PARTITIONS_MAX : (int32_t)n;
}

static enum kerr check_new_topic(const struct topics *ts,
                                 const struct create_topics_request_topic *t, bool is_twice,
                                 struct arena *a, const char **ret_why)
{
    if (is_twice) {
        *ret_why = "Duplicate topic name.";
        return KERR_INVALID_REQUEST;
    }
    enum kerr e = check_new_name(ts, t->name, false, a, ret_why);
    if (e == KERR_NONE)
        e = check_configs(t, a, ret_why);
    if (e != KERR_NONE)
        return e;
    return t->n_assignments > 0 ? check_assignments(ts, t, a, ret_why)
                                : check_counts(ts, t, a, ret_why);
}

// The settings of the topic to be, as the answer from version 5 on shows them.
static void show_configs(const struct topics *ts, const struct create_topics_request_topic *t,
                         struct create_topics_response_topic *out, struct arena *a)
{
    struct configs *own = configs_new();
    for (int32_t i = 0; i < t->n_configs; i++)
        configs_set(own, t->configs[i].name, t->configs[i].value);
    struct config_view v = topics_broker_view(ts);
    v.own = own;
    const struct config_def *d;
    int32_t n = 0;
    for (size_t it = 0; config_next(CONFIG_SCOPE_TOPIC, &it);)
        n++;
    out->configs = arena_array(a, (size_t)n, sizeof *out->configs);
    out->n_configs = 0;
    for (size_t it = 0; (d = config_next(CONFIG_SCOPE_TOPIC, &it));) {
        struct create_topics_response_config *c = &out->configs[out->n_configs++];
        create_topics_response_config_init(c);
        struct config_place *places;
        size_t n_places = config_places(&v, d, CONFIG_SCOPE_TOPIC, a, &places);
        c->name = str_from(d->name);
        c->value = config_text(&v, d, a);
        c->config_source = (int8_t)(n_places > 0 ? places[0].source : CONFIG_FROM_DEFAULT);
    }
    configs_free(own);
}

static void record_topic(const struct create_topics_request_topic *t, struct uuid id,
                         int32_t partitions, const struct asker *a, struct effects *fx)
{
    struct topic_created_record *r = effects_record(fx, &topic_created_record_msg);
    r->topic_id = id;
    r->name = t->name;
    r->partitions = partitions;
    r->time_ms = a->wall_ms;
    r->configs = arena_array(fx->arena, (size_t)t->n_configs, sizeof *r->configs);
    r->n_configs = 0;
    for (int32_t i = 0; i < t->n_configs; i++) {
        // What tally has no use for was checked to be Kafka's and is not kept.
        if (config_check_topic(t->configs[i].name, t->configs[i].value, NULL, 0) != CONFIG_OK)
            continue;
        struct topic_created_record_config *c = &r->configs[r->n_configs++];
        topic_created_record_config_init(c);
        c->name = t->configs[i].name;
        c->value = t->configs[i].value;
    }
}

// Names of a request, counted. The caller frees it.
static struct map *count_names(const struct create_topics_request *req)
{
    struct map *counts = map_new();
    for (int32_t i = 0; i < req->n_topics; i++)
        (void)counts_add(counts, key_str(req->topics[i].name));
    return counts;
}

// Answers one topic and records it. *total: partitions of the request so far.
static void create_one(const struct topics *ts, const struct asker *a,
                       const struct create_topics_request_topic *t, bool is_twice,
                       bool validate_only, int64_t *total, struct effects *fx,
                       struct create_topics_response_topic *out)
{
    create_topics_response_topic_init(out);
    out->name = t->name;
    out->error_message = STR_NULL;
    const char *why = NULL;
    enum kerr e = check_new_topic(ts, t, is_twice, fx->arena, &why);
    int32_t partitions = e == KERR_NONE ? partitions_wanted(ts, t) : 0;
    if (*total + partitions > NEW_PARTITIONS_PER_REQUEST_MAX) {
        why = "Excessively large number of partitions per request.";
        e = KERR_POLICY_VIOLATION;
    }
    if (e == KERR_NONE)
        e = check_room(ts, *total + partitions, fx->arena, &why);
    out->error_code = (int16_t)e;
    if (e != KERR_NONE) {
        out->error_message = str_from(why);
        return;
    }
    *total += partitions;
    out->num_partitions = partitions;
    out->replication_factor = 1;
    show_configs(ts, t, out, fx->arena);
    if (validate_only)
        return;
    out->topic_id = nth_id(a->fresh, (int32_t)*total);
    record_topic(t, out->topic_id, partitions, a, fx);
}

void topics_decide_create(const struct topics *ts, const struct asker *a,
                          const struct create_topics_request *req, struct effects *fx)
{
    struct create_topics_response *resp = effects_response(fx, &create_topics_response_msg);
    int32_t n = req->n_topics > 0 ? req->n_topics : 0;
    resp->topics = arena_array(fx->arena, (size_t)n, sizeof *resp->topics);
    resp->n_topics = 0;
    struct map *counts = count_names(req), *answered = map_new();
    int64_t total = 0;
    for (int32_t i = 0; i < n && arena_used(fx->arena) <= ANSWER_MAX_BYTES; i++) {
        const struct create_topics_request_topic *t = &req->topics[i];
        if (counts_add(answered, key_str(t->name)) > 1)
            continue; // answered once, as Kafka does
        create_one(ts, a, t, counts_get(counts, key_str(t->name)) > 1, req->validate_only, &total,
                   fx, &resp->topics[resp->n_topics++]);
    }
    map_free(counts);
    map_free(answered);
    effects_reply(fx, a->token, resp);
}

enum kerr topics_decide_make(const struct topics *ts, const struct asker *a, struct str name,
                             int32_t partitions, bool is_internal, struct effects *fx)
{
    const char *why;
    enum kerr e = check_new_name(ts, name, is_internal, fx->arena, &why);
    if (e != KERR_NONE)
        return e;
    int32_t nth = 0;
    for (const struct effect_record *r = fx->first_record; r; r = r->next) {
        if (r->type != &topic_created_record_msg)
            continue;
        const struct topic_created_record *made = r->record;
        if (str_eq(made->name, name))
            return KERR_TOPIC_ALREADY_EXISTS;
        nth++;
    }
    const struct create_topics_request_topic t = {.name = name, .num_partitions = partitions};
    struct topic_created_record *r;
    int32_t n = partitions_wanted(ts, &t);
    e = check_room(ts, n, fx->arena, &why);
    if (e != KERR_NONE)
        return e;
    record_topic(&t, nth_id(a->fresh, nth), n, a, fx);
    for (struct effect_record *last = fx->first_record; last; last = last->next)
        if (!last->next) {
            r = last->record;
            r->is_internal = is_internal;
        }
    return KERR_NONE;
}

// Widening.

static enum kerr check_widen(const struct topics *ts,
                             const struct create_partitions_request_topic *t, struct arena *a,
                             const char **ret_why)
{
    const struct topic *old = topics_by_name(ts, t->name);
    if (!old) {
        return KERR_UNKNOWN_TOPIC_OR_PARTITION;
    }
    if (t->count == old->n_partitions) {
        *ret_why = arena_printf(a, "Topic already has %d partition(s).", old->n_partitions);
        return KERR_INVALID_PARTITIONS;
    }
    if (t->count < old->n_partitions) {
        *ret_why = arena_printf(a,
                                "The topic %.*s currently has %d partition(s); %d would not be an "
                                "increase.",
                                STR_FMT(t->name), old->n_partitions, t->count);
        return KERR_INVALID_PARTITIONS;
    }
    if (old->is_internal) {
        *ret_why = "An internal topic keeps its number of partitions.";
        return KERR_INVALID_PARTITIONS;
    }
    int32_t more = t->count - old->n_partitions;
    if (t->count > TOPIC_PARTITIONS_MAX || more > NEW_PARTITIONS_PER_REQUEST_MAX) {
        *ret_why = "Excessively large number of partitions per request.";
        return KERR_POLICY_VIOLATION;
    }
    enum kerr e = check_room(ts, more, a, ret_why);
    if (e != KERR_NONE || t->n_assignments < 0)
        return e;
    if (t->n_assignments != more) {
        *ret_why = arena_printf(a,
                                "Attempted to add %d additional partition(s), but only %d "
                                "assignment(s) were specified.",
                                more, t->n_assignments);
        return KERR_INVALID_REPLICA_ASSIGNMENT;
    }
    for (int32_t i = 0; e == KERR_NONE && i < t->n_assignments; i++)
        e = check_brokers(ts, t->assignments[i].broker_ids, t->assignments[i].n_broker_ids, a,
                          ret_why);
    return e;
}

void topics_decide_add_partitions(const struct topics *ts, const struct asker *a,
                                  const struct create_partitions_request *req, struct effects *fx)
{
    struct create_partitions_response *resp = effects_response(fx, &create_partitions_response_msg);
    int32_t n = req->n_topics > 0 ? req->n_topics : 0;
    resp->results = arena_array(fx->arena, (size_t)n, sizeof *resp->results);
    resp->n_results = 0;
    struct map *counts = map_new(), *answered = map_new();
    for (int32_t i = 0; i < n; i++)
        (void)counts_add(counts, key_str(req->topics[i].name));
    for (int32_t i = 0; i < n; i++) {
        const struct create_partitions_request_topic *t = &req->topics[i];
        if (counts_add(answered, key_str(t->name)) > 1)
            continue;
        bool is_twice = counts_get(counts, key_str(t->name)) > 1;
        const char *why = is_twice ? "Duplicate topic name." : NULL;
        enum kerr e = is_twice ? KERR_INVALID_REQUEST : KERR_NONE;
        struct create_partitions_response_result *out = &resp->results[resp->n_results++];
        create_partitions_response_result_init(out);
        out->name = t->name;
        if (e == KERR_NONE)
            e = check_widen(ts, t, fx->arena, &why);
        out->error_code = (int16_t)e;
        out->error_message = str_from(why);
        if (e != KERR_NONE || req->validate_only)
            continue;
        struct partitions_added_record *r = effects_record(fx, &partitions_added_record_msg);
        r->topic_id = topics_by_name(ts, t->name)->id;
        r->partitions = t->count;
        r->time_ms = a->wall_ms;
    }
    map_free(counts);
    map_free(answered);
    effects_reply(fx, a->token, resp);
}

// Deletion.

struct deletion {
    struct str name; // null: by id
    struct uuid id;
};

static const struct topic *find_deleted(const struct topics *ts, const struct deletion *d)
{
    return str_is_null(d->name) ? topics_by_id(ts, d->id) : topics_by_name(ts, d->name);
}

// What two deletions of the same topic have in common, however they name it.
static struct bytes deletion_key(const struct topics *ts, const struct deletion *d)
{
    const struct topic *t = find_deleted(ts, d);
    return t ? key_uuid(&t->id) : uuid_is_zero(d->id) ? key_str(d->name) : key_uuid(&d->id);
}

static enum kerr check_delete(const struct topics *ts, const struct deletion *d, bool is_twice,
                              int version, const char **ret_why)
{
    bool has_id = !uuid_is_zero(d->id);
    if (!str_is_null(d->name) == has_id) {
        *ret_why = has_id ? "You may not specify both topic name and topic id."
                          : "Neither topic name nor id were specified.";
        return KERR_INVALID_REQUEST;
    }
    const struct topic *t = find_deleted(ts, d);
    if (is_twice) {
        *ret_why = has_id ? "Duplicate topic id." : "Duplicate topic name.";
        return KERR_INVALID_REQUEST;
    }
    struct config_view v = topics_broker_view(ts);
    enum kerr e = KERR_NONE;
    if (!config_bool(&v, "delete.topic.enable"))
        e = version < 3 ? KERR_INVALID_REQUEST : KERR_TOPIC_DELETION_DISABLED;
    else if (!t)
        e = has_id ? KERR_UNKNOWN_TOPIC_ID : KERR_UNKNOWN_TOPIC_OR_PARTITION;
    if (e != KERR_NONE) {
        *ret_why = kerr_message(e);
        return e;
    }
    if (t->is_internal) {
        *ret_why = "An internal topic cannot be deleted.";
        return KERR_INVALID_TOPIC_EXCEPTION;
    }
    return KERR_NONE;
}

void topics_decide_delete(const struct topics *ts, const struct asker *a,
                          const struct delete_topics_request *req, struct effects *fx)
{
    struct delete_topics_response *resp = effects_response(fx, &delete_topics_response_msg);
    int32_t n = a->version >= 6 ? req->n_topics : req->n_topic_names;
    n = n > 0 ? n : 0;
    struct deletion *all = arena_array(fx->arena, (size_t)n, sizeof *all);
    for (int32_t i = 0; i < n; i++)
        all[i] = a->version >= 6 ? (struct deletion){req->topics[i].name, req->topics[i].topic_id}
                                 : (struct deletion){req->topic_names[i], {{0}}};
    resp->responses = arena_array(fx->arena, (size_t)n, sizeof *resp->responses);
    resp->n_responses = 0;
    struct map *counts = map_new(), *answered = map_new();
    for (int32_t i = 0; i < n; i++)
        (void)counts_add(counts, deletion_key(ts, &all[i]));
    for (int32_t i = 0; i < n; i++) {
        struct bytes key = deletion_key(ts, &all[i]);
        if (counts_add(answered, key) > 1)
            continue;
        struct delete_topics_response_response *out = &resp->responses[resp->n_responses++];
        delete_topics_response_response_init(out);
        const struct topic *t = find_deleted(ts, &all[i]);
        const char *why = NULL;
        enum kerr e = check_delete(ts, &all[i], counts_get(counts, key) > 1, a->version, &why);
        out->error_code = (int16_t)e;
        out->error_message = str_from(why);
        out->name = all[i].name;
        out->topic_id = all[i].id;
        if (e != KERR_NONE)
            continue;
        out->name = arena_str(fx->arena, t->name); // the topic is gone when this is encoded
        out->topic_id = t->id;
        struct topic_deleted_record *r = effects_record(fx, &topic_deleted_record_msg);
        r->topic_id = t->id;
        r->time_ms = a->wall_ms;
    }
    map_free(counts);
    map_free(answered);
    effects_reply(fx, a->token, resp);
}
