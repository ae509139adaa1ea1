// Metadata. v0: no names means all; v1+: null means all, none means none. v4+ says whether topics
// may be made; before, they may. v10+ knows ids, v12+ asks by them.
//
// Kafka answers the request that makes a topic with UNKNOWN_TOPIC_OR_PARTITION, and the client asks
// again. Here the topic is there at once, so the answer says so: it leaves when that is durable.
#include "base/map.h"
#include "broker/api/api.h"
#include "broker/api/find.h"

// A request for more new topics than this is no ordinary client's; the rest may ask again.
#define NEW_TOPICS_MAX 1000

static int32_t *only_us(struct arena *a)
{
    int32_t *ids = arena_array(a, 1, sizeof *ids);
    ids[0] = TALLY_NODE_ID;
    return ids;
}

static void fill_topic(struct request *r, const struct topic *t,
                       struct metadata_response_topic *out)
{
    out->error_code = KERR_NONE;
    out->name = arena_str(r->arena, t->name);
    out->topic_id = t->id;
    out->is_internal = t->is_internal;
    out->n_partitions = t->n_partitions;
    out->partitions = arena_array(r->arena, (size_t)t->n_partitions, sizeof *out->partitions);
    int32_t *us = only_us(r->arena);
    for (int32_t i = 0; i < t->n_partitions; i++) {
        struct metadata_response_partition *p = &out->partitions[i];
        metadata_response_partition_init(p);
        p->partition_index = i;
        p->leader_id = TALLY_NODE_ID;
        p->leader_epoch = t->partitions[i].leader_epoch;
        p->replica_nodes = p->isr_nodes = us;
        p->n_replica_nodes = p->n_isr_nodes = 1;
    }
    const struct metadata_request *req = r->body;
    if (req->include_topic_authorized_operations)
        out->topic_authorized_operations = ALL_TOPIC_OPERATIONS;
}

static void fill_asked(struct request *r, const struct metadata_request_topic *in,
                       struct metadata_response_topic *out)
{
    metadata_response_topic_init(out);
    out->name = in->name;
    out->topic_id = in->topic_id;
    bool by_id = !uuid_is_zero(in->topic_id);
    const struct topic *t = NULL;
    if (by_id ? r->version < 12 : str_is_null(in->name)) {
        out->error_code = by_id ? KERR_INVALID_REQUEST : KERR_INVALID_TOPIC_EXCEPTION;
        if (r->version < 12 && str_is_null(out->name))
            out->name = STR_EMPTY;
        return;
    }
    enum kerr e = find_topic(r->broker, in->name, in->topic_id, by_id, &t);
    if (e == KERR_NONE)
        fill_topic(r, t, out);
    else if (!by_id && topic_name_check(in->name) != KERR_NONE)
        out->error_code = KERR_INVALID_TOPIC_EXCEPTION;
    else
        out->error_code = (int16_t)e;
}

static void make_missing(struct request *r)
{
    const struct metadata_request *req = r->body;
    struct config_view v = broker_view(r->broker);
    if ((r->version >= 4 && !req->allow_auto_topic_creation) ||
        !config_bool(&v, "auto.create.topics.enable"))
        return;
    struct effects fx;
    effects_init(&fx, r->arena);
    int made = 0;
    for (int32_t i = 0; i < req->n_topics && made < NEW_TOPICS_MAX; i++) {
        const struct metadata_request_topic *t = &req->topics[i];
        if (str_is_null(t->name) || !uuid_is_zero(t->topic_id) ||
            topics_by_name(broker_topics(r->broker), t->name))
            continue;
        if (topics_decide_make(broker_topics(r->broker), &r->asker, t->name, 0, false, &fx) ==
            KERR_NONE)
            made++;
    }
    if (made > 0)
        broker_commit(r->broker, &fx);
}

static void fill_all(struct request *r, struct metadata_response *resp)
{
    const struct topics *ts = broker_topics(r->broker);
    resp->topics = arena_array(r->arena, topics_count(ts), sizeof *resp->topics);
    resp->n_topics = 0;
    const struct topic *t;
    for (size_t it = 0; (t = topics_next(ts, &it));) {
        struct metadata_response_topic *out = &resp->topics[resp->n_topics++];
        metadata_response_topic_init(out);
        fill_topic(r, t, out);
    }
}

// Who asks twice is answered once.
static void fill_named(struct request *r, struct metadata_response *resp)
{
    const struct metadata_request *req = r->body;
    resp->topics = arena_array(r->arena, (size_t)req->n_topics, sizeof *resp->topics);
    struct map *seen = map_new();
    for (int32_t i = 0; i < req->n_topics && arena_used(r->arena) <= ANSWER_MAX_BYTES; i++) {
        const struct metadata_request_topic *t = &req->topics[i];
        struct bytes key = uuid_is_zero(t->topic_id) ? key_str(t->name) : key_uuid(&t->topic_id);
        if (!map_put(seen, key, resp))
            fill_asked(r, t, &resp->topics[resp->n_topics++]);
    }
    map_free(seen);
}

void api_metadata(struct request *r)
{
    const struct metadata_request *req = r->body;
    struct metadata_response *resp = request_response(r);
    struct find_address at = find_address(r);
    resp->brokers = arena_array(r->arena, 1, sizeof *resp->brokers);
    resp->n_brokers = 1;
    metadata_response_broker_init(&resp->brokers[0]);
    resp->brokers[0].node_id = TALLY_NODE_ID;
    resp->brokers[0].host = at.host;
    resp->brokers[0].port = at.port;
    resp->cluster_id = broker_cluster_id(r->broker);
    resp->controller_id = TALLY_NODE_ID;
    if (req->include_cluster_authorized_operations)
        resp->cluster_authorized_operations = ALL_CLUSTER_OPERATIONS;
    if (req->n_topics < 0 || (r->version == 0 && req->n_topics == 0)) {
        fill_all(r, resp);
    } else {
        make_missing(r);
        fill_named(r, resp);
    }
    request_reply(r, resp);
}
