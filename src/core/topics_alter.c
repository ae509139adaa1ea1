// Settings altered and described, and producer ids.
#include <string.h>

#include "base/map.h"
#include "core/topics_private.h"

#define WHY_MAX 400

enum alter_op { ALTER_SET = 0, ALTER_DELETE = 1, ALTER_APPEND = 2, ALTER_SUBTRACT = 3 };

// One resource, its overrides as they stand, and which names it may have.
struct target {
    int8_t type;
    struct str name;
    const struct configs *own; // may be NULL
    int scope;
};

static int32_t strspn_digits(struct str s)
{
    int32_t n = 0;
    while (n < s.len && s.ptr[n] >= '0' && s.ptr[n] <= '9')
        n++;
    return n;
}

static enum kerr find_target(const struct topics *ts, int8_t type, struct str name, struct arena *a,
                             struct target *ret, const char **ret_why)
{
    if (type == RESOURCE_TOPIC && name.len <= 0) {
        *ret_why = "Default topic resources are not allowed.";
        return KERR_INVALID_REQUEST;
    }
    if (type == RESOURCE_TOPIC) {
        const struct topic *t = topics_by_name(ts, name);
        enum kerr e = t ? KERR_NONE : topic_name_check(name);
        if (e != KERR_NONE)
            *ret_why = topic_name_text(name, a);
        if (!t && e == KERR_NONE) {
            *ret_why = arena_printf(a, "The topic '%.*s' does not exist.", STR_FMT(name));
            e = KERR_UNKNOWN_TOPIC_OR_PARTITION;
        }
        if (e == KERR_NONE)
            *ret = (struct target){type, name, t->configs, CONFIG_SCOPE_TOPIC};
        return e;
    }
    if (type == RESOURCE_BROKER) {
        if (name.len > 0 && !str_eq_c(name, "1")) {
            bool is_number = strspn_digits(name) == name.len;
            *ret_why = arena_printf(a,
                                    is_number ? "Unexpected broker id, expected 1 or empty "
                                                "string, but received %.*s"
                                              : "Broker id must be an integer, but it is: %.*s",
                                    STR_FMT(name));
            return KERR_INVALID_REQUEST;
        }
        *ret = (struct target){type, name, name.len > 0 ? ts->broker : ts->all_brokers,
                               CONFIG_SCOPE_BROKER};
        return KERR_NONE;
    }
    if (type == RESOURCE_GROUP) {
        if (name.len <= 0) {
            *ret_why = "Default group resources are not allowed.";
            return KERR_INVALID_REQUEST;
        }
        *ret = (struct target){type, name, topics_group_configs(ts, name), CONFIG_SCOPE_GROUP};
        return KERR_NONE;
    }
    *ret_why = arena_printf(a, "Unknown resource type %d", type);
    return KERR_INVALID_REQUEST;
}

static enum config_check check_name(const struct target *t, struct str name, struct str value,
                                    char *ret_why)
{
    return t->scope == CONFIG_SCOPE_TOPIC    ? config_check_topic(name, value, ret_why, WHY_MAX)
           : t->scope == CONFIG_SCOPE_BROKER ? config_check_broker(name, value, ret_why, WHY_MAX)
                                             : config_check_group(name, value, ret_why, WHY_MAX);
}

// *ret_ignored: Kafka's, of no use here: taken and not kept.
static enum kerr check_one(const struct target *t, struct str name, struct str value,
                           struct arena *a, bool *ret_ignored, const char **ret_why)
{
    char why[WHY_MAX];
    enum config_check c = check_name(t, name, value, why);
    *ret_ignored = c == CONFIG_IGNORED;
    if (c == CONFIG_UNKNOWN || c == CONFIG_INVALID) {
        *ret_why = arena_printf(a, "%s", why);
        return t->scope == CONFIG_SCOPE_BROKER ? KERR_INVALID_REQUEST : KERR_INVALID_CONFIG;
    }
    const struct config_def *d = config_def_find_str(name);
    if (t->scope == CONFIG_SCOPE_BROKER && !config_is_dynamic(d)) {
        *ret_why = arena_printf(a, "Cannot update these configs dynamically: [%s]", d->name);
        return KERR_INVALID_REQUEST;
    }
    return KERR_NONE;
}

// A resource as a key for counting; in the arena.
static struct bytes resource_key(int8_t type, struct str name, struct arena *a)
{
    size_t len = name.len > 0 ? (size_t)name.len : 0;
    uint8_t *key = arena_alloc(a, len + 1);
    key[0] = (uint8_t)type;
    if (len > 0)
        memcpy(key + 1, name.ptr, len);
    return (struct bytes){key, len + 1};
}

static void record_change(const struct target *t, struct str name, struct str value,
                          const struct asker *a, struct effects *fx)
{
    struct str old = configs_get(t->own, name);
    if (str_eq(old, value))
        return;
    struct config_changed_record *r = effects_record(fx, &config_changed_record_msg);
    r->resource_type = t->type;
    r->resource_name = t->name;
    r->name = name;
    r->value = value;
    r->time_ms = a->wall_ms;
}

// AlterConfigs: what is not named goes back to its default.

static enum kerr check_whole(const struct target *t,
                             const struct alter_configs_request_resource *res, struct arena *a,
                             const char **ret_why)
{
    enum kerr e = KERR_NONE;
    bool ignored = false;
    for (int32_t k = 0; e == KERR_NONE && k < res->n_configs; k++) {
        if (str_is_null(res->configs[k].value)) {
            *ret_why = arena_printf(a, "Null value not supported for : %.*s",
                                    STR_FMT(res->configs[k].name));
            return KERR_INVALID_REQUEST;
        }
        e = check_one(t, res->configs[k].name, res->configs[k].value, a, &ignored, ret_why);
    }
    return e;
}

static enum kerr alter_whole(const struct topics *ts, const struct asker *a,
                             const struct alter_configs_request *req, int32_t i, bool is_twice,
                             struct effects *fx, const char **ret_why)
{
    const struct alter_configs_request_resource *res = &req->resources[i];
    if (is_twice) {
        *ret_why = "Each resource must appear at most once.";
        return KERR_INVALID_REQUEST;
    }
    struct target t = {0};
    enum kerr e = find_target(ts, res->resource_type, res->resource_name, fx->arena, &t, ret_why);
    bool ignored = false;
    if (e == KERR_NONE)
        e = check_whole(&t, res, fx->arena, ret_why);
    if (e != KERR_NONE || req->validate_only)
        return e;
    struct str name, value;
    for (size_t it = 0; configs_next(t.own, &it, &name, &value);) {
        bool kept = false;
        for (int32_t k = 0; k < res->n_configs; k++)
            kept = kept || str_eq(res->configs[k].name, name);
        if (!kept)
            record_change(&t, arena_str(fx->arena, name), STR_NULL, a, fx);
    }
    for (int32_t k = 0; k < res->n_configs; k++) {
        (void)check_one(&t, res->configs[k].name, res->configs[k].value, fx->arena, &ignored,
                        ret_why);
        if (!ignored)
            record_change(&t, res->configs[k].name, res->configs[k].value, a, fx);
    }
    return KERR_NONE;
}

void topics_decide_alter_configs(const struct topics *ts, const struct asker *a,
                                 const struct alter_configs_request *req, struct effects *fx)
{
    struct alter_configs_response *resp = effects_response(fx, &alter_configs_response_msg);
    int32_t n = req->n_resources > 0 ? req->n_resources : 0;
    resp->responses = arena_array(fx->arena, (size_t)n, sizeof *resp->responses);
    resp->n_responses = n;
    struct map *counts = map_new();
    for (int32_t i = 0; i < n; i++)
        (void)counts_add(counts, resource_key(req->resources[i].resource_type,
                                              req->resources[i].resource_name, fx->arena));
    for (int32_t i = 0; i < n; i++) {
        struct alter_configs_response_response *out = &resp->responses[i];
        alter_configs_response_response_init(out);
        out->resource_type = req->resources[i].resource_type;
        out->resource_name = req->resources[i].resource_name;
        const char *why = NULL;
        struct bytes key = resource_key(out->resource_type, out->resource_name, fx->arena);
        bool is_twice = counts_get(counts, key) > 1;
        out->error_code = (int16_t)alter_whole(ts, a, req, i, is_twice, fx, &why);
        out->error_message = str_from(why);
    }
    map_free(counts);
    effects_reply(fx, a->token, resp);
}

// IncrementalAlterConfigs.

static bool list_has(struct str list, struct str item)
{
    for (int32_t from = 0, at = 0; at <= list.len; at++)
        if (at == list.len || list.ptr[at] == ',') {
            if (str_eq((struct str){list.ptr + from, at - from}, item))
                return true;
            from = at + 1;
        }
    return false;
}

// The list with the items of `change` added where missing, or taken out.
static struct str list_change(struct arena *a, struct str list, struct str change, bool append)
{
    struct str from = append ? change : list, against = append ? list : change;
    if (list.len < 0)
        list = STR_EMPTY;
    char *out = arena_alloc(a, (size_t)list.len + (size_t)change.len + 2);
    int32_t len = 0;
    if (append) {
        memcpy(out, list.ptr, (size_t)list.len);
        len = list.len;
    }
    for (int32_t start = 0, at = 0; at <= from.len; at++) {
        if (at < from.len && from.ptr[at] != ',')
            continue;
        struct str item = {from.ptr + start, at - start};
        start = at + 1;
        if (item.len == 0 || list_has(against.len < 0 ? STR_EMPTY : against, item))
            continue;
        if (len > 0)
            out[len++] = ',';
        memcpy(out + len, item.ptr, (size_t)item.len);
        len += item.len;
    }
    return (struct str){out, len};
}

struct change {
    struct str name;
    struct str value; // null removes
    bool ignored;
};

static enum kerr plan_change(const struct topics *ts, const struct target *t,
                             const struct incremental_alter_configs_request_config *c,
                             struct arena *a, struct change *ret, const char **ret_why)
{
    if (c->config_operation < ALTER_SET || c->config_operation > ALTER_SUBTRACT) {
        *ret_why = arena_printf(a, "Unknown configuration operation %d.", c->config_operation);
        return KERR_INVALID_REQUEST;
    }
    *ret = (struct change){c->name, STR_NULL, false};
    if (c->config_operation == ALTER_DELETE) {
        // Nothing to remove for a name that has no value here; Kafka takes that, too.
        ret->ignored = str_is_null(configs_get(t->own, c->name));
        return KERR_NONE;
    }
    if (str_is_null(c->value)) {
        *ret_why = arena_printf(a, "Null value not supported for : %.*s", STR_FMT(c->name));
        return KERR_INVALID_REQUEST;
    }
    ret->value = c->value;
    if (c->config_operation != ALTER_SET) {
        const struct config_def *d = config_def_find_str(c->name);
        if (d && d->type != CONFIG_TYPE_LIST) {
            *ret_why = arena_printf(a, "Can't %s to key %.*s because its type is not LIST.",
                                    c->config_operation == ALTER_APPEND ? "APPEND" : "SUBTRACT",
                                    STR_FMT(c->name));
            return KERR_INVALID_CONFIG;
        }
        struct config_view v = topics_broker_view(ts);
        v.own = t->own;
        if (d && d->scopes & t->scope && !(d->scopes & CONFIG_SCOPE_IGNORED))
            ret->value = list_change(a, config_text(&v, d, a), c->value,
                                     c->config_operation == ALTER_APPEND);
    }
    return check_one(t, c->name, ret->value, a, &ret->ignored, ret_why);
}

static bool has_name_twice(const struct incremental_alter_configs_request_resource *res)
{
    struct map *counts = map_new();
    bool twice = false;
    for (int32_t k = 0; !twice && k < res->n_configs; k++)
        twice = counts_add(counts, key_str(res->configs[k].name)) > 1;
    map_free(counts);
    return twice;
}

static enum kerr alter_parts(const struct topics *ts, const struct asker *a,
                             const struct incremental_alter_configs_request *req, int32_t i,
                             bool is_twice, struct effects *fx, const char **ret_why)
{
    const struct incremental_alter_configs_request_resource *res = &req->resources[i];
    if (is_twice) {
        *ret_why = "Each resource must appear at most once.";
        return KERR_INVALID_REQUEST;
    }
    struct target t = {0};
    enum kerr e = find_target(ts, res->resource_type, res->resource_name, fx->arena, &t, ret_why);
    int32_t n = res->n_configs > 0 ? res->n_configs : 0;
    struct change *changes = arena_array(fx->arena, (size_t)n, sizeof *changes);
    if (e == KERR_NONE && has_name_twice(res)) {
        *ret_why = "Error due to duplicate config keys";
        return KERR_INVALID_REQUEST;
    }
    for (int32_t k = 0; e == KERR_NONE && k < n; k++)
        e = plan_change(ts, &t, &res->configs[k], fx->arena, &changes[k], ret_why);
    for (int32_t k = 0; e == KERR_NONE && !req->validate_only && k < n; k++)
        if (!changes[k].ignored)
            record_change(&t, changes[k].name, changes[k].value, a, fx);
    return e;
}

void topics_decide_alter_configs_incrementally(const struct topics *ts, const struct asker *a,
                                               const struct incremental_alter_configs_request *req,
                                               struct effects *fx)
{
    struct incremental_alter_configs_response *resp =
        effects_response(fx, &incremental_alter_configs_response_msg);
    int32_t n = req->n_resources > 0 ? req->n_resources : 0;
    resp->responses = arena_array(fx->arena, (size_t)n, sizeof *resp->responses);
    resp->n_responses = n;
    struct map *counts = map_new();
    for (int32_t i = 0; i < n; i++)
        (void)counts_add(counts, resource_key(req->resources[i].resource_type,
                                              req->resources[i].resource_name, fx->arena));
    for (int32_t i = 0; i < n; i++) {
        struct incremental_alter_configs_response_response *out = &resp->responses[i];
        incremental_alter_configs_response_response_init(out);
        out->resource_type = req->resources[i].resource_type;
        out->resource_name = req->resources[i].resource_name;
        const char *why = NULL;
        struct bytes key = resource_key(out->resource_type, out->resource_name, fx->arena);
        bool is_twice = counts_get(counts, key) > 1;
        out->error_code = (int16_t)alter_parts(ts, a, req, i, is_twice, fx, &why);
        out->error_message = str_from(why);
    }
    map_free(counts);
    effects_reply(fx, a->token, resp);
}

// DescribeConfigs.

// Kafka's numbers of types: boolean, string, int, short, long, double, list, class, password.
static int8_t wire_type(enum config_type t)
{
    switch (t) {
    case CONFIG_TYPE_BOOL:
        return 1;
    case CONFIG_TYPE_INT:
        return 3;
    case CONFIG_TYPE_LONG:
        return 5;
    case CONFIG_TYPE_DOUBLE:
        return 6;
    case CONFIG_TYPE_LIST:
        return 7;
    case CONFIG_TYPE_STRING:
    default:
        return 2;
    }
}

static void describe_one(const struct config_view *v, const struct config_def *d,
                         const struct target *t, const struct describe_configs_request *req,
                         struct arena *a, struct describe_configs_response_config *out)
{
    describe_configs_response_config_init(out);
    struct config_place *places;
    size_t n = config_places(v, d, t->scope, a, &places);
    out->name = str_from(d->name);
    out->value = config_text(v, d, a);
    out->read_only = t->scope == CONFIG_SCOPE_BROKER && !config_is_dynamic(d);
    out->config_source = (int8_t)(n > 0 ? places[0].source : CONFIG_FROM_DEFAULT);
    out->config_type = wire_type(d->type);
    out->documentation = req->include_documentation ? str_from(d->doc) : STR_NULL;
    out->synonyms = arena_array(a, n, sizeof *out->synonyms);
    out->n_synonyms = req->include_synonyms ? (int32_t)n : 0;
    for (int32_t i = 0; i < out->n_synonyms; i++) {
        describe_configs_response_synonym_init(&out->synonyms[i]);
        out->synonyms[i].name = str_from(places[i].name);
        out->synonyms[i].value = arena_str(a, places[i].value);
        out->synonyms[i].source = (int8_t)places[i].source;
    }
}

// What one target has, in the order of the table. Shared by all resources of a request that have
// the same: a resource may be named again and again, and most topics have no setting of their own.
struct description {
    struct describe_configs_response_config *configs;
    const struct config_def **defs; // of each
    int32_t n;
    size_t bytes; // about what all of it takes in an answer
};

static size_t describe_bytes(const struct describe_configs_response_config *c)
{
    size_t bytes = sizeof *c;
    const struct str texts[] = {c->name, c->value, c->documentation};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        bytes += texts[i].len > 0 ? (size_t)texts[i].len : 0;
    for (int32_t i = 0; i < c->n_synonyms; i++)
        bytes += sizeof c->synonyms[i] + (size_t)c->synonyms[i].name.len +
                 (size_t)c->synonyms[i].value.len;
    return bytes;
}

static struct description *describe_target(const struct topics *ts, const struct target *t,
                                           const struct describe_configs_request *req,
                                           struct arena *a)
{
    struct config_view v = topics_broker_view(ts);
    v.own = t->scope == CONFIG_SCOPE_BROKER ? NULL : t->own;
    // The resource "" shows what was altered for all brokers and nothing else, as in Kafka.
    bool only_altered = t->scope == CONFIG_SCOPE_BROKER && t->name.len <= 0;
    if (only_altered)
        v.dynamic = NULL;
    const struct config_def *d;
    size_t n = 0;
    for (size_t it = 0; config_next(t->scope, &it);)
        n++;
    struct description *out = arena_alloc(a, sizeof *out);
    out->configs = arena_array(a, n, sizeof *out->configs);
    out->defs = arena_array(a, n, sizeof(struct config_def *));
    for (size_t it = 0; (d = config_next(t->scope, &it));) {
        if (only_altered && str_is_null(configs_get(ts->all_brokers, str_from(d->name))))
            continue;
        out->defs[out->n] = d;
        describe_one(&v, d, t, req, a, &out->configs[out->n]);
        out->bytes += describe_bytes(&out->configs[out->n++]);
    }
    return out;
}

static const struct description *description_of(const struct topics *ts, const struct target *t,
                                                const struct describe_configs_request *req,
                                                struct map *seen, struct arena *a)
{
    bool is_plain = t->scope != CONFIG_SCOPE_BROKER && configs_count(t->own) == 0;
    struct bytes key = resource_key(t->type, is_plain ? STR_EMPTY : t->name, a);
    struct description *d = map_get(seen, key);
    if (!d) {
        d = describe_target(ts, t, req, a);
        map_put(seen, key, d);
    }
    return d;
}

// Those that are asked for, each once, however often they are named.
static void pick(const struct description *d, const struct describe_configs_request_resource *res,
                 struct arena *a, struct describe_configs_response_result *out)
{
    bool asked[CONFIG_COUNT] = {false};
    int32_t n = 0;
    for (int32_t i = 0; i < res->n_configuration_keys; i++) {
        const struct config_def *def = config_def_find_str(res->configuration_keys[i]);
        n += def && !asked[def - config_defs];
        if (def)
            asked[def - config_defs] = true;
    }
    out->configs = arena_array(a, (size_t)(n < d->n ? n : d->n), sizeof *out->configs);
    for (int32_t i = 0; i < d->n; i++)
        if (asked[d->defs[i] - config_defs]) {
            out->configs[out->n_configs++] = d->configs[i];
            arena_charge(a, describe_bytes(&d->configs[i]));
        }
}

static void describe(const struct topics *ts, const struct describe_configs_request *req, int32_t i,
                     struct map *seen, struct arena *a,
                     struct describe_configs_response_result *out)
{
    const struct describe_configs_request_resource *res = &req->resources[i];
    describe_configs_response_result_init(out);
    out->resource_type = res->resource_type;
    out->resource_name = res->resource_name;
    struct target t = {0};
    const char *why = NULL;
    out->error_code = (int16_t)find_target(ts, res->resource_type, res->resource_name, a, &t, &why);
    out->error_message = why ? str_from(why) : STR_EMPTY;
    if (out->error_code != KERR_NONE)
        return;
    const struct description *d = description_of(ts, &t, req, seen, a);
    if (res->n_configuration_keys > 0) {
        pick(d, res, a, out);
        return;
    }
    out->configs = d->configs;
    out->n_configs = d->n;
    arena_charge(a, d->bytes);
}

void topics_decide_describe_configs(const struct topics *ts, const struct asker *a,
                                    const struct describe_configs_request *req, struct effects *fx)
{
    struct describe_configs_response *resp = effects_response(fx, &describe_configs_response_msg);
    int32_t n = req->n_resources > 0 ? req->n_resources : 0;
    resp->results = arena_array(fx->arena, (size_t)n, sizeof *resp->results);
    struct map *seen = map_new();
    for (int32_t i = 0; i < n && arena_used(fx->arena) <= ANSWER_MAX_BYTES; i++)
        describe(ts, req, i, seen, fx->arena, &resp->results[resp->n_results++]);
    map_free(seen);
    effects_reply(fx, a->token, resp);
}

// Producer ids.

void topics_decide_init_producer_id(struct topics *ts, const struct asker *a,
                                    const struct init_producer_id_request *req, struct effects *fx)
{
    struct init_producer_id_response *resp = effects_response(fx, &init_producer_id_response_msg);
    effects_reply(fx, a->token, resp);
    if (!str_is_null(req->transactional_id)) {
        // Fatal in every client; a retriable error would have them ask for ever.
        resp->producer_epoch = -1;
        resp->error_code = req->transactional_id.len == 0
                               ? KERR_INVALID_REQUEST
                               : KERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
        return;
    }
    // The first id of a run: what is left of the former run's block may be in use.
    if (!ts->has_producer_ids)
        ts->next_producer_id = ts->reserved_producer_id;
    ts->has_producer_ids = true;
    if (ts->next_producer_id >= ts->reserved_producer_id) {
        struct producer_ids_reserved_record *r =
            effects_record(fx, &producer_ids_reserved_record_msg);
        r->next = ts->next_producer_id + PRODUCER_ID_BLOCK;
    }
    resp->producer_id = ts->next_producer_id++;
    resp->producer_epoch = 0;
}
