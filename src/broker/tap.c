#include "broker/tap.h"

#include "broker/internal.h"

void broker_set_tap(struct broker *b, const struct tap *t)
{
    b->tap = t ? *t : (struct tap){0};
}

bool tap_release(struct broker *b, uint64_t token)
{
    struct request *r = request_by_token(b, token);
    if (!r || (r->stage != REQUEST_TAPPED && r->stage != REQUEST_TAPPED_ANSWER))
        return false;
    broker_read_clock(b);
    dispatch_tapped(b, r);
    return true;
}

void tap_cut(struct broker *b, uint64_t conn)
{
    net_close(b->config.net, conn);
}

int tap_listener(struct broker *b, uint64_t conn)
{
    const struct channel *c = channel_find(b, conn);
    return c ? c->peer.listener : -1;
}

// A decision of the drill's own, committed as any other.
struct act {
    struct arena *arena;
    struct effects fx;
    struct asker who;
};

static void act_begin(struct broker *b, struct act *a)
{
    broker_read_clock(b);
    a->arena = commit_scratch(b);
    effects_init(&a->fx, a->arena);
    a->who = broker_asker(b);
}

static void act_end(struct broker *b, struct act *a)
{
    broker_commit(b, &a->fx);
    commit_scratch_done(b, a->arena);
}

// What was decided answers nobody's token; the code is in the response.
static void *act_response(const struct act *a)
{
    CHECK(a->fx.first_reply);
    return a->fx.first_reply->response;
}

enum kerr tap_evict(struct broker *b, struct str group, struct str member, enum tap_eviction how)
{
    struct act a;
    act_begin(b, &a);
    enum kerr error = group_evict(b->core, &a.who, group, member, how == TAP_POLL_TIMEOUT, &a.fx);
    act_end(b, &a);
    return error;
}

enum kerr tap_add_partitions(struct broker *b, struct str topic, int32_t total)
{
    struct act a;
    act_begin(b, &a);
    struct create_partitions_request q;
    struct create_partitions_request_topic t;
    kw_init(&create_partitions_request_msg, &q);
    create_partitions_request_topic_init(&t);
    t.name = topic;
    t.count = total;
    t.n_assignments = -1;
    q.topics = &t;
    q.n_topics = 1;
    a.who.version = create_partitions_request_msg.max_version;
    topics_decide_add_partitions(b->core->topics, &a.who, &q, &a.fx);
    const struct create_partitions_response *p = act_response(&a);
    enum kerr error =
        p->n_results > 0 ? (enum kerr)p->results[0].error_code : KERR_UNKNOWN_SERVER_ERROR;
    act_end(b, &a);
    return error;
}

enum kerr tap_trim(struct broker *b, struct str topic, int32_t partition, int64_t new_start)
{
    broker_read_clock(b);
    const struct topic *t = topics_by_name(b->core->topics, topic);
    struct partition *p = t ? partitions_get(b->partitions, t->id, partition) : NULL;
    uint64_t position;
    if (!p)
        return KERR_UNKNOWN_TOPIC_OR_PARTITION;
    return partition_delete_records(p, new_start, b->wall_ms, &position);
}

enum kerr tap_set_offset(struct broker *b, struct str group, struct str topic, int32_t partition,
                         int64_t offset)
{
    struct act a;
    act_begin(b, &a);
    struct offset_commit_request q;
    struct offset_commit_request_topic t;
    struct offset_commit_request_partition p;
    kw_init(&offset_commit_request_msg, &q);
    offset_commit_request_topic_init(&t);
    offset_commit_request_partition_init(&p);
    // An old version, which names the topic and not its id.
    a.who.version = 8;
    p.partition_index = partition;
    p.committed_offset = offset;
    p.committed_metadata = STR_EMPTY;
    t.name = topic;
    t.partitions = &p;
    t.n_partitions = 1;
    q.group_id = group;
    q.member_id = STR_EMPTY;
    q.topics = &t;
    q.n_topics = 1;
    offsets_commit(b->core, &a.who, &q, &a.fx);
    const struct offset_commit_response *r = act_response(&a);
    enum kerr error = r->n_topics > 0 && r->topics[0].n_partitions > 0
                          ? (enum kerr)r->topics[0].partitions[0].error_code
                          : KERR_UNKNOWN_SERVER_ERROR;
    act_end(b, &a);
    return error;
}
