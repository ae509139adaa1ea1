// SyncGroup and Heartbeat.

#include "core/group/private.h"

static void sync_refuse(const struct turn *t, enum kerr error)
{
    struct sync_group_response *r = effects_response(t->fx, &sync_group_response_msg);
    r->error_code = (int16_t)error;
    r->assignment = (struct bytes){(const uint8_t *)"", 0};
    effects_reply(t->fx, t->who->token, r);
}

static void sync_reply(const struct turn *t, uint64_t token, const struct group *g,
                       struct bytes assignment)
{
    if (token == 0)
        return;
    struct sync_group_response *r = effects_response(t->fx, &sync_group_response_msg);
    r->protocol_type = arena_str(t->fx->arena, g->protocol_type);
    r->protocol_name = arena_str(t->fx->arena, g->protocol_name);
    r->assignment = arena_bytes(t->fx->arena, assignment);
    effects_reply(t->fx, token, r);
}

static bool differs(struct str asked, struct str held)
{
    return !str_is_null(asked) && !str_is_null(held) && !str_eq(asked, held);
}

static enum kerr check_sync(const struct group *g, const struct sync_group_request *req)
{
    enum kerr error = group_check_member(g, req->member_id, req->group_instance_id);
    if (error)
        return error;
    if (req->generation_id != g->generation)
        return KERR_ILLEGAL_GENERATION;
    if (differs(req->protocol_type, g->protocol_type) ||
        differs(req->protocol_name, g->protocol_name))
        return KERR_INCONSISTENT_GROUP_PROTOCOL;
    return g->state == GROUP_PREPARING ? KERR_REBALANCE_IN_PROGRESS : KERR_NONE;
}

// Whom the leader left out gets nothing, and that is an answer too.
static size_t take_assignments(struct group *g, const struct sync_group_request *req)
{
    LIST_EACH (node, &g->members)
        LIST_ITEM(node, struct member, node)->given = (struct bytes){(const uint8_t *)"", 0};
    for (int32_t i = 0; i < req->n_assignments; i++) {
        struct member *m = group_member(g, req->assignments[i].member_id);
        if (m)
            m->given = req->assignments[i].assignment;
    }
    size_t size = group_record_size(g);
    LIST_EACH (node, &g->members)
        size += LIST_ITEM(node, struct member, node)->given.len;
    return size;
}

static void lead(const struct turn *t, struct group *g, const struct sync_group_request *req)
{
    if (take_assignments(g, req) > GROUP_RECORD_MAX_BYTES) {
        struct rebalance_cause why = {LEDGER_TRIGGER_UNKNOWN, req->member_id,
                                      STR("the assignment is too large to be stored")};
        LIST_EACH (node, &g->members)
            sync_finish_error(t, LIST_ITEM(node, struct member, node), KERR_UNKNOWN_SERVER_ERROR);
        rebalance_prepare(t, g, &why);
        return;
    }
    rebalance_emit(t, g, false); // its application makes the group Stable
    LIST_EACH (node, &g->members) {
        struct member *m = LIST_ITEM(node, struct member, node);
        if (!m->sync.waits)
            continue;
        sync_reply(t, m->sync.token, g, m->given);
        parked_clear(t->core, &m->sync);
        member_touch(t, m);
    }
}

static void tell_ledger_synced(const struct turn *t, const struct member *m)
{
    if (!group_is_consumer(m->group))
        return;
    size_t n;
    struct ledger_tp *assigned = consumer_assigned(t->core, m->assignment, t->fx->arena, &n);
    ledger_synced(t->core->ledger, turn_time(t), m->group->id, m->id, assigned, n);
}

void group_sync(struct core *c, const struct asker *who, const struct sync_group_request *req,
                struct effects *fx)
{
    struct turn t = turn_of(c, who, fx);
    if (req->group_id.len <= 0) {
        sync_refuse(&t, KERR_INVALID_GROUP_ID);
        return;
    }
    // From version 5 the protocol must be named.
    if (who->version >= 5 && (str_is_null(req->protocol_type) || str_is_null(req->protocol_name))) {
        sync_refuse(&t, KERR_INCONSISTENT_GROUP_PROTOCOL);
        return;
    }
    struct group *g = groups_get(c, req->group_id);
    enum kerr error = g ? check_sync(g, req) : KERR_UNKNOWN_MEMBER_ID;
    if (error) {
        sync_refuse(&t, error);
        return;
    }
    turn_own_request(&t, g->id, req->member_id, API_SYNC_GROUP);
    struct member *m = group_member(g, req->member_id);
    if (g->state == GROUP_COMPLETING) {
        sync_finish_error(&t, m, KERR_REBALANCE_IN_PROGRESS); // an older one that still waits
        parked_set(c, &m->sync, who);
        rebalance_sync_received(&t, m);
        if (g->leader == m)
            lead(&t, g, req);
    } else {
        CHECK(g->state == GROUP_STABLE);
        rebalance_sync_received(&t, m);
        tell_ledger_synced(&t, m);
        sync_reply(&t, who->token, g, m->assignment);
    }
}

static enum kerr decide_heartbeat(const struct turn *t, struct group *g,
                                  const struct heartbeat_request *req)
{
    enum kerr error = group_check_member(g, req->member_id, req->group_instance_id);
    if (error)
        return error;
    if (req->generation_id != g->generation)
        return KERR_ILLEGAL_GENERATION;
    turn_own_request(t, g->id, req->member_id, API_HEARTBEAT);
    member_touch(t, group_member(g, req->member_id));
    return g->state == GROUP_PREPARING ? KERR_REBALANCE_IN_PROGRESS : KERR_NONE;
}

void group_heartbeat(struct core *c, const struct asker *who, const struct heartbeat_request *req,
                     struct effects *fx)
{
    struct turn t = turn_of(c, who, fx);
    struct heartbeat_response *r = effects_response(fx, &heartbeat_response_msg);
    struct group *g = groups_get(c, req->group_id);
    if (req->group_id.len <= 0)
        r->error_code = KERR_INVALID_GROUP_ID;
    else if (!g)
        r->error_code = KERR_UNKNOWN_MEMBER_ID;
    else
        r->error_code = (int16_t)decide_heartbeat(&t, g, req);
    effects_reply(fx, who->token, r);
}
