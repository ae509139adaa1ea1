// Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete. Kept by topic id, so that a topic
// that was deleted and made again starts without them.

#include <stdlib.h>
#include <string.h>

#include "core/group/private.h"
#include "core/topics.h"

static void release_topic(struct topic_offsets *to)
{
    void *o;
    for (size_t it = 0; map_next(to->partitions, &it, NULL, &o);)
        free(o);
    map_free(to->partitions);
    free(to);
}

static struct bytes key_i32(const int32_t *n)
{
    return (struct bytes){(const uint8_t *)n, sizeof *n};
}

void offsets_free(struct group *g)
{
    void *to;
    for (size_t it = 0; map_next(g->offsets, &it, NULL, &to);) {
        map_remove(g->offsets, key_uuid(&((struct topic_offsets *)to)->topic_id));
        release_topic(to);
    }
    g->n_offsets = 0;
}

struct committed *offsets_get(const struct group *g, struct uuid topic_id, int32_t partition)
{
    const struct topic_offsets *to = map_get(g->offsets, key_uuid(&topic_id));
    return to ? map_get(to->partitions, key_i32(&partition)) : NULL;
}

static void put(struct group *g, struct uuid topic_id, const struct committed *o,
                struct str metadata)
{
    struct topic_offsets *to = map_get(g->offsets, key_uuid(&topic_id));
    if (!to) {
        to = calloc(1, sizeof *to);
        CHECK(to);
        to->topic_id = topic_id;
        to->partitions = map_new();
        map_put(g->offsets, key_uuid(&topic_id), to);
    }
    size_t len = metadata.len > 0 ? (size_t)metadata.len : 0;
    struct committed *there = map_get(to->partitions, key_i32(&o->partition));
    if (there && (size_t)there->metadata_len == len) {
        *there = *o; // without the metadata, which stands behind it
        there->metadata_len = (int32_t)len;
        if (len > 0)
            memcpy(there->metadata, metadata.ptr, len);
        return;
    }
    struct committed *copy = malloc(sizeof *copy + len);
    CHECK(copy);
    *copy = *o;
    copy->metadata_len = (int32_t)len;
    if (len > 0)
        memcpy(copy->metadata, metadata.ptr, len);
    void *former = map_put(to->partitions, key_i32(&o->partition), copy);
    free(former);
    g->n_offsets += former == NULL;
}

void offsets_remove(struct group *g, struct uuid topic_id, int32_t partition)
{
    struct topic_offsets *to = map_get(g->offsets, key_uuid(&topic_id));
    void *o = to ? map_remove(to->partitions, key_i32(&partition)) : NULL;
    free(o);
    g->n_offsets -= o != NULL;
    if (to && map_count(to->partitions) == 0) {
        map_remove(g->offsets, key_uuid(&topic_id));
        release_topic(to);
    }
}

void offsets_remove_topic(struct group *g, struct uuid topic_id)
{
    struct topic_offsets *to = map_remove(g->offsets, key_uuid(&topic_id));
    if (!to)
        return;
    g->n_offsets -= map_count(to->partitions);
    release_topic(to);
}

// ---- OffsetCommit

// As Java counts a string: in UTF-16 units.
static int64_t utf16_length(struct str s)
{
    int64_t n = 0;
    for (int32_t i = 0; i < s.len; i++) {
        uint8_t b = (uint8_t)s.ptr[i];
        n += (b & 0xc0) != 0x80;
        n += b >= 0xf0;
    }
    return n;
}

static enum kerr check_commit(const struct turn *t, const struct group *g,
                              const struct offset_commit_request *req)
{
    int32_t generation = req->generation_id_or_member_epoch;
    if (!g) {
        if (generation < 0) // a simple group is made
            return groups_count(t->core) < GROUPS_MAX ? KERR_NONE : KERR_POLICY_VIOLATION;
        return t->who->version >= 9 ? KERR_GROUP_ID_NOT_FOUND : KERR_ILLEGAL_GENERATION;
    }
    if (generation < 0 && g->state == GROUP_EMPTY)
        return KERR_NONE;
    if (generation < 0 && req->member_id.len <= 0 && str_is_null(req->group_instance_id))
        return KERR_UNKNOWN_MEMBER_ID; // memberless, while the group has members
    enum kerr error = group_check_member(g, req->member_id, req->group_instance_id);
    if (error)
        return error;
    if (generation != g->generation)
        return KERR_ILLEGAL_GENERATION;
    return g->state == GROUP_COMPLETING ? KERR_REBALANCE_IN_PROGRESS : KERR_NONE;
}

struct commit {
    struct turn turn;
    const struct offset_commit_request *req;
    bool was_empty; // the group had no members, or did not exist
    enum kerr group_error;
    size_t size; // of what goes into the journal
};

static enum kerr check_partition(struct commit *k, const struct topic *topic,
                                 const struct offset_commit_request_partition *p)
{
    if (!topic)
        return k->turn.who->version >= 10 ? KERR_UNKNOWN_TOPIC_ID : KERR_UNKNOWN_TOPIC_OR_PARTITION;
    if (p->partition_index < 0 || p->partition_index >= topic->n_partitions)
        return KERR_UNKNOWN_TOPIC_OR_PARTITION;
    if (k->group_error)
        return k->group_error;
    if (utf16_length(p->committed_metadata) > core_config(k->turn.core)->offset_metadata_max_bytes)
        return KERR_OFFSET_METADATA_TOO_LARGE;
    k->size += 32 + (p->committed_metadata.len > 0 ? (size_t)p->committed_metadata.len : 0);
    return k->size > GROUP_DECISION_MAX_BYTES ? KERR_INVALID_COMMIT_OFFSET_SIZE : KERR_NONE;
}

static void tell_refused(const struct commit *k, const struct topic *topic,
                         const struct offset_commit_request_partition *p, enum kerr error)
{
    if (!topic)
        return;
    struct ledger_commit fact = {
        .conn = k->turn.who->conn,
        .group = k->req->group_id,
        .member = k->req->member_id,
        .who = identity_of(k->turn.who),
        .generation = k->req->generation_id_or_member_epoch,
        .group_was_empty = k->was_empty,
        .topic_id = topic->id,
        .partition = p->partition_index,
        .offset = p->committed_offset,
        .error = error,
    };
    ledger_committed(k->turn.core->ledger, turn_time(&k->turn), &fact);
}

// Decides one topic; accepted partitions go into *out, which has room for all of them.
static void commit_topic(struct commit *k, const struct offset_commit_request_topic *in,
                         struct offset_commit_response_topic *res,
                         struct offsets_committed_record_topic *out)
{
    struct arena *a = k->turn.fx->arena;
    const struct topic *topic = k->turn.who->version >= 10
                                    ? topics_by_id(k->turn.core->topics, in->topic_id)
                                    : topics_by_name(k->turn.core->topics, in->name);
    k->size += TOPIC_NAME_MAX;
    offset_commit_response_topic_init(res);
    res->name = in->name;
    res->topic_id = in->topic_id;
    res->partitions = arena_array(a, (size_t)in->n_partitions, sizeof *res->partitions);
    *out = (struct offsets_committed_record_topic){.name = STR_EMPTY};
    if (topic) {
        out->topic_id = topic->id;
        out->name = arena_str(a, topic->name);
    }
    out->partitions = arena_array(a, (size_t)in->n_partitions, sizeof *out->partitions);
    for (int32_t i = 0; i < in->n_partitions; i++) {
        const struct offset_commit_request_partition *p = &in->partitions[i];
        enum kerr error = check_partition(k, topic, p);
        res->partitions[res->n_partitions++] = (struct offset_commit_response_partition){
            .partition_index = p->partition_index, .error_code = (int16_t)error};
        if (error) {
            tell_refused(k, topic, p, error);
            continue;
        }
        out->partitions[out->n_partitions++] = (struct offsets_committed_record_partition){
            .partition_index = p->partition_index,
            .committed_offset = p->committed_offset,
            .leader_epoch = p->committed_leader_epoch,
            .metadata = str_is_null(p->committed_metadata) ? STR_EMPTY : p->committed_metadata,
        };
    }
}

static int64_t expire_ms(const struct commit *k)
{
    int64_t keep = k->req->retention_time_ms;
    if (keep == -1)
        return -1;
    if (keep < 0)
        keep = 0;
    return keep > INT64_MAX - k->turn.wall_ms ? INT64_MAX : k->turn.wall_ms + keep;
}

static void fill_record(const struct commit *k, struct offsets_committed_record *r)
{
    const struct asker *who = k->turn.who;
    bool has_member = !k->was_empty || k->req->generation_id_or_member_epoch >= 0;
    r->group_id = k->req->group_id;
    r->generation = has_member ? k->req->generation_id_or_member_epoch : -1;
    r->member_id = has_member ? k->req->member_id : STR_EMPTY;
    r->client_id = who->client_id;
    r->client_host = who->host;
    r->principal = who->principal;
    r->software = who->software;
    r->group_was_empty = k->was_empty;
    r->wall_ms = who->wall_ms;
    r->expire_ms = expire_ms(k);
}

void offsets_commit(struct core *c, const struct asker *who,
                    const struct offset_commit_request *req, struct effects *fx)
{
    struct commit k = {.turn = turn_of(c, who, fx), .req = req};
    struct group *g = groups_get(c, req->group_id);
    k.was_empty = !g || g->state == GROUP_EMPTY;
    k.group_error = check_commit(&k.turn, g, req);
    if (k.group_error == KERR_NONE && !k.was_empty) {
        turn_own_request(&k.turn, g->id, req->member_id, API_OFFSET_COMMIT);
        // A member that commits is alive.
        member_touch(&k.turn, group_member(g, req->member_id));
    }

    size_t n = (size_t)req->n_topics;
    struct offset_commit_response *res = effects_response(fx, &offset_commit_response_msg);
    res->topics = arena_array(fx->arena, n, sizeof *res->topics);
    struct offsets_committed_record_topic *topics = arena_array(fx->arena, n, sizeof *topics);
    int32_t n_topics = 0;
    for (int32_t i = 0; i < req->n_topics; i++) {
        commit_topic(&k, &req->topics[i], &res->topics[res->n_topics++], &topics[n_topics]);
        n_topics += topics[n_topics].n_partitions > 0;
    }
    effects_reply(fx, who->token, res);
    if (n_topics == 0)
        return;
    struct offsets_committed_record *r = effects_record(fx, &offsets_committed_record_msg);
    fill_record(&k, r);
    r->topics = topics;
    r->n_topics = n_topics;
    c->groups->commit_conn = who->conn;
    c->groups->commit_token = who->token;
}

void offsets_apply_committed(struct core *c, const struct offsets_committed_record *r)
{
    bool is_new = !groups_get(c, r->group_id);
    struct group *g = groups_make(c, r->group_id);
    if (is_new)
        g->state_wall_ms = r->wall_ms;
    struct ledger_commit fact = {
        .conn = c->is_replaying ? 0 : c->groups->commit_conn,
        .answer = c->is_replaying ? 0 : c->groups->commit_token,
        .group = r->group_id,
        .member = r->member_id,
        .who = {r->principal, r->client_host, r->client_id, r->software},
        .generation = r->generation,
        .group_was_empty = r->group_was_empty,
    };
    for (int32_t i = 0; i < r->n_topics; i++) {
        const struct offsets_committed_record_topic *topic = &r->topics[i];
        for (int32_t k = 0; k < topic->n_partitions; k++) {
            const struct offsets_committed_record_partition *p = &topic->partitions[k];
            struct committed o = {.partition = p->partition_index,
                                  .leader_epoch = p->leader_epoch,
                                  .offset = p->committed_offset,
                                  .commit_ms = r->wall_ms,
                                  .expire_ms = r->expire_ms};
            put(g, topic->topic_id, &o, p->metadata);
            fact.topic_id = topic->topic_id;
            fact.partition = p->partition_index;
            fact.offset = p->committed_offset;
            if (!r->is_snapshot)
                ledger_committed(c->ledger, (struct ledger_time){c->now_ms, r->wall_ms}, &fact);
        }
    }
}

// ---- OffsetDelete

static bool delete_topic(const struct turn *t, const struct group *g,
                         const struct offset_delete_request_topic *in,
                         struct offset_delete_response_topic *res,
                         struct offsets_removed_record_topic *out, size_t *size)
{
    *size += TOPIC_NAME_MAX;
    struct arena *a = t->fx->arena;
    const struct topic *topic = topics_by_name(t->core->topics, in->name);
    offset_delete_response_topic_init(res);
    res->name = in->name;
    res->partitions = arena_array(a, (size_t)in->n_partitions, sizeof *res->partitions);
    *out = (struct offsets_removed_record_topic){.name = in->name};
    out->partitions = arena_array(a, (size_t)in->n_partitions, sizeof *out->partitions);
    if (topic)
        out->topic_id = topic->id;
    for (int32_t i = 0; i < in->n_partitions; i++) {
        int32_t partition = in->partitions[i].partition_index;
        enum kerr error = KERR_NONE;
        if (!topic || partition < 0 || partition >= topic->n_partitions)
            error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
        else if (group_is_subscribed(g, in->name))
            error = KERR_GROUP_SUBSCRIBED_TO_TOPIC;
        else if (!offsets_get(g, topic->id, partition))
            error = KERR_NONE; // nothing to delete is no error
        else if ((*size += sizeof partition) > GROUP_DECISION_MAX_BYTES)
            error = KERR_COORDINATOR_NOT_AVAILABLE; // retriable: the rest goes then
        else
            out->partitions[out->n_partitions++] = partition;
        res->partitions[res->n_partitions++] = (struct offset_delete_response_partition){
            .partition_index = partition, .error_code = (int16_t)error};
    }
    return out->n_partitions > 0;
}

void offsets_delete(struct core *c, const struct asker *who,
                    const struct offset_delete_request *req, struct effects *fx)
{
    struct turn t = turn_of(c, who, fx);
    struct offset_delete_response *res = effects_response(fx, &offset_delete_response_msg);
    effects_reply(fx, who->token, res);
    const struct group *g = groups_get(c, req->group_id);
    if (!g) {
        res->error_code = KERR_GROUP_ID_NOT_FOUND;
        return;
    }
    if (g->state != GROUP_EMPTY && !group_is_consumer(g)) {
        res->error_code = KERR_NON_EMPTY_GROUP;
        return;
    }
    size_t n = (size_t)req->n_topics;
    res->topics = arena_array(fx->arena, n, sizeof *res->topics);
    struct offsets_removed_record_topic *topics = arena_array(fx->arena, n, sizeof *topics);
    int32_t n_topics = 0;
    size_t size = 0;
    for (int32_t i = 0; i < req->n_topics; i++)
        n_topics += delete_topic(&t, g, &req->topics[i], &res->topics[res->n_topics++],
                                 &topics[n_topics], &size);
    if (n_topics == 0)
        return;
    struct offsets_removed_record *r = effects_record(fx, &offsets_removed_record_msg);
    *r = (struct offsets_removed_record){
        .group_id = req->group_id,
        .cause = OFFSETS_REMOVED_BY_ADMIN,
        .client_id = who->client_id,
        .client_host = who->host,
        .principal = who->principal,
        .wall_ms = who->wall_ms,
        .topics = topics,
        .n_topics = n_topics,
    };
}

void offsets_apply_removed(struct core *c, const struct offsets_removed_record *r)
{
    struct group *g = groups_get(c, r->group_id);
    if (!g)
        return;
    struct ledger_identity who = {r->principal, r->client_host, r->client_id, STR_EMPTY};
    bool by_admin = r->cause == OFFSETS_REMOVED_BY_ADMIN;
    for (int32_t i = 0; i < r->n_topics; i++) {
        const struct offsets_removed_record_topic *topic = &r->topics[i];
        for (int32_t k = 0; k < topic->n_partitions; k++) {
            ledger_offset_removed(c->ledger, (struct ledger_time){c->now_ms, r->wall_ms},
                                  r->group_id, topic->topic_id, topic->partitions[k],
                                  by_admin ? LEDGER_REMOVED_ADMIN : LEDGER_REMOVED_EXPIRED,
                                  by_admin ? &who : NULL);
            offsets_remove(g, topic->topic_id, topic->partitions[k]);
        }
    }
}

// One record an offset: each has its own time.
void offsets_snapshot(const struct core *c, const struct group *g, struct effects *fx)
{
    struct arena *a = fx->arena;
    void *value;
    for (size_t it = 0; map_next(g->offsets, &it, NULL, &value);) {
        const struct topic_offsets *to = value;
        const struct topic *topic = topics_by_id(c->topics, to->topic_id);
        void *entry;
        for (size_t k = 0; map_next(to->partitions, &k, NULL, &entry);) {
            const struct committed *o = entry;
            struct offsets_committed_record *r = effects_record(fx, &offsets_committed_record_msg);
            struct offsets_committed_record_topic *out = arena_alloc(a, sizeof *out);
            struct offsets_committed_record_partition *p = arena_alloc(a, sizeof *p);
            r->group_id = arena_str(a, g->id);
            r->generation = -1;
            r->member_id = r->client_id = r->client_host = r->principal = r->software = STR_EMPTY;
            r->is_snapshot = true;
            r->wall_ms = o->commit_ms;
            r->expire_ms = o->expire_ms;
            r->topics = out;
            r->n_topics = 1;
            out->topic_id = to->topic_id;
            out->name = topic ? arena_str(a, topic->name) : STR_EMPTY;
            out->partitions = p;
            out->n_partitions = 1;
            p->partition_index = o->partition;
            p->committed_offset = o->offset;
            p->leader_epoch = o->leader_epoch;
            p->metadata = arena_str(a, (struct str){o->metadata, o->metadata_len});
        }
    }
}
