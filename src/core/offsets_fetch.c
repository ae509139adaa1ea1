// OffsetFetch: one group (up to version 7) or many, by topic name or (from 10) by topic id.

#include "core/group/private.h"
#include "core/topics.h"

// Both shapes of the answer are made from this one.
struct fetched {
    int32_t partition;
    int64_t offset;
    int32_t leader_epoch;
    struct str metadata;
    enum kerr error;
};

struct fetch {
    struct turn turn;
    struct str group_id;
    struct str member_id;      // "" or null: none
    const struct group *group; // NULL: there is none
};

static struct fetched look_up(const struct fetch *f, const struct topic *topic, int32_t partition)
{
    struct fetched r = {partition, -1, -1, STR_EMPTY, KERR_NONE};
    const struct committed *o =
        f->group && topic ? offsets_get(f->group, topic->id, partition) : NULL;
    if (o) {
        r.offset = o->offset;
        r.leader_epoch = o->leader_epoch;
        r.metadata = arena_str(f->turn.fx->arena, (struct str){o->metadata, o->metadata_len});
    }
    if (!topic && f->turn.who->version >= 10)
        r.error = KERR_UNKNOWN_TOPIC_ID;
    if (topic)
        ledger_offsets_fetched(f->turn.core->ledger, turn_time(&f->turn), f->turn.who->conn,
                               f->group_id, str_is_null(f->member_id) ? STR_EMPTY : f->member_id,
                               topic->id, partition, r.offset, r.error);
    return r;
}

// What one topic of the answer asks for; all: every offset that the group has in it.
struct asked {
    const struct topic *topic;
    struct str name;
    struct uuid topic_id;
    const int32_t *partitions;
    int32_t n_partitions;
};

static struct asked *all_offsets(const struct fetch *f, int32_t *ret_n)
{
    struct arena *a = f->turn.fx->arena;
    *ret_n = 0;
    if (!f->group)
        return NULL;
    struct asked *list = arena_array(a, map_count(f->group->offsets), sizeof *list);
    void *value;
    for (size_t it = 0; map_next(f->group->offsets, &it, NULL, &value);) {
        const struct topic_offsets *to = value;
        const struct topic *topic = topics_by_id(f->turn.core->topics, to->topic_id);
        if (!topic)
            continue;
        int32_t *partitions = arena_array(a, map_count(to->partitions), sizeof *partitions);
        struct asked *q = &list[(*ret_n)++];
        *q = (struct asked){topic, arena_str(a, topic->name), topic->id, partitions, 0};
        void *o;
        for (size_t k = 0; map_next(to->partitions, &k, NULL, &o);)
            partitions[q->n_partitions++] = ((const struct committed *)o)->partition;
    }
    return list;
}

// Versions 1 to 7.
static struct offset_fetch_response_topic *answer_topics(const struct fetch *f,
                                                         const struct asked *asked, int32_t n)
{
    struct arena *a = f->turn.fx->arena;
    struct offset_fetch_response_topic *topics = arena_array(a, (size_t)n, sizeof *topics);
    for (int32_t i = 0; i < n; i++) {
        struct offset_fetch_response_topic *t = &topics[i];
        offset_fetch_response_topic_init(t);
        t->name = asked[i].name;
        t->partitions = arena_array(a, (size_t)asked[i].n_partitions, sizeof *t->partitions);
        for (int32_t k = 0; k < asked[i].n_partitions; k++) {
            struct fetched r = look_up(f, asked[i].topic, asked[i].partitions[k]);
            t->partitions[t->n_partitions++] = (struct offset_fetch_response_partition){
                r.partition, r.offset, r.leader_epoch, r.metadata, (int16_t)r.error};
        }
    }
    return topics;
}

// Version 8 and later.
static struct offset_fetch_response_group_topic *
answer_group_topics(const struct fetch *f, const struct asked *asked, int32_t n)
{
    struct arena *a = f->turn.fx->arena;
    struct offset_fetch_response_group_topic *topics = arena_array(a, (size_t)n, sizeof *topics);
    for (int32_t i = 0; i < n; i++) {
        struct offset_fetch_response_group_topic *t = &topics[i];
        offset_fetch_response_group_topic_init(t);
        t->name = asked[i].name;
        t->topic_id = asked[i].topic_id;
        t->partitions = arena_array(a, (size_t)asked[i].n_partitions, sizeof *t->partitions);
        for (int32_t k = 0; k < asked[i].n_partitions; k++) {
            struct fetched r = look_up(f, asked[i].topic, asked[i].partitions[k]);
            t->partitions[t->n_partitions++] = (struct offset_fetch_response_topic_partition){
                r.partition, r.offset, r.leader_epoch, r.metadata, (int16_t)r.error};
        }
    }
    return topics;
}

static void fetch_one(struct fetch *f, const struct offset_fetch_request *req,
                      struct offset_fetch_response *res)
{
    struct asked *asked;
    int32_t n = req->n_topics;
    if (n < 0) {
        asked = all_offsets(f, &n);
    } else {
        asked = arena_array(f->turn.fx->arena, (size_t)n, sizeof *asked);
        for (int32_t i = 0; i < n; i++) {
            const struct offset_fetch_request_topic *t = &req->topics[i];
            asked[i].topic = topics_by_name(f->turn.core->topics, t->name);
            asked[i].name = t->name;
            asked[i].partitions = t->partition_indexes;
            asked[i].n_partitions = t->n_partition_indexes;
        }
    }
    res->topics = answer_topics(f, asked, n);
    res->n_topics = n;
}

static void fetch_group(struct fetch *f, const struct offset_fetch_request_group *in,
                        struct offset_fetch_response_group *out)
{
    const struct topics *known = f->turn.core->topics;
    struct asked *asked;
    int32_t n = in->n_topics;
    if (n < 0) {
        asked = all_offsets(f, &n);
    } else {
        asked = arena_array(f->turn.fx->arena, (size_t)n, sizeof *asked);
        for (int32_t i = 0; i < n; i++) {
            const struct offset_fetch_request_group_topic *t = &in->topics[i];
            asked[i].topic = f->turn.who->version >= 10 ? topics_by_id(known, t->topic_id)
                                                        : topics_by_name(known, t->name);
            asked[i].name = t->name;
            asked[i].topic_id = t->topic_id;
            asked[i].partitions = t->partition_indexes;
            asked[i].n_partitions = t->n_partition_indexes;
        }
    }
    out->topics = answer_group_topics(f, asked, n);
    out->n_topics = n;
}

static struct fetch fetch_of(const struct turn *t, struct str group_id, struct str member_id)
{
    struct fetch f = {*t, group_id, member_id, groups_get(t->core, group_id)};
    if (f.group && member_id.len > 0 && group_member(f.group, member_id))
        turn_own_request(t, group_id, member_id, API_OFFSET_FETCH);
    return f;
}

void offsets_fetch(struct core *c, const struct asker *who, const struct offset_fetch_request *req,
                   struct effects *fx)
{
    struct turn t = turn_of(c, who, fx);
    struct offset_fetch_response *res = effects_response(fx, &offset_fetch_response_msg);
    if (who->version < 8) {
        struct fetch f = fetch_of(&t, req->group_id, STR_NULL);
        fetch_one(&f, req, res);
        effects_reply(fx, who->token, res);
        return;
    }
    res->groups = arena_array(fx->arena, (size_t)req->n_groups, sizeof *res->groups);
    for (int32_t i = 0; i < req->n_groups && arena_used(fx->arena) <= ANSWER_MAX_BYTES; i++) {
        const struct offset_fetch_request_group *in = &req->groups[i];
        struct offset_fetch_response_group *out = &res->groups[res->n_groups++];
        offset_fetch_response_group_init(out);
        out->group_id = in->group_id;
        struct fetch f = fetch_of(&t, in->group_id, in->member_id);
        fetch_group(&f, in, out);
    }
    effects_reply(fx, who->token, res);
}
