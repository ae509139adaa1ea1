// JoinGroup.

#include "core/group/private.h"

#include <string.h>

enum {
    // A member that has never been through a join phase cannot send heartbeats: its JoinGroup
    // itself expires, so that retries after a lost connection do not pile up.
    NEW_MEMBER_JOIN_TIMEOUT_MS = 5 * 60 * 1000,
    // From this version a dynamic member must come back with the id it was given (KIP-394).
    MEMBER_ID_REQUIRED_VERSION = 4,
    SKIP_ASSIGNMENT_VERSION = 9,
    // A member id is a name, a dash and 36 characters, and must fit a string of the protocol.
    MEMBER_NAME_MAX = INT16_MAX - 37,
};

struct join {
    const struct join_group_request *req;
    struct protocol *protocols; // borrowed from the request
    int32_t n_protocols;
    int32_t rebalance_timeout_ms;
};

static void refuse(const struct turn *t, struct str member, enum kerr error)
{
    join_reply_error(t, t->who->token, t->who->version, member, error);
}

static struct str fresh_member_id(const struct turn *t, const struct join_group_request *req)
{
    const uint8_t *b = t->who->fresh.b;
    struct str name =
        str_is_null(req->group_instance_id) ? t->who->client_id : req->group_instance_id;
    if (name.len > MEMBER_NAME_MAX)
        name.len = MEMBER_NAME_MAX;
    return str_from(arena_printf(t->fx->arena,
                                 "%.*s-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
                                 "%02x%02x%02x%02x%02x%02x",
                                 STR_FMT(name), b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7],
                                 b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]));
}

static bool has_room(const struct turn *t, const struct group *g, struct str member)
{
    size_t max = (size_t)core_config(t->core)->group_max_size;
    const struct member *m = group_member(g, member);
    switch (g->state) {
    case GROUP_EMPTY:
        return true;
    case GROUP_PREPARING:
        // Counting those who wait puts out the last to rejoin of a group that is too large.
        return (m && m->join.waits) || g->n_awaiting_join < max;
    case GROUP_COMPLETING:
    case GROUP_STABLE:
        return m || g->n_members < max;
    }
    UNREACHABLE();
}

// The member waits from here on. An older request of it that still waits is answered: its client
// has given it up.
static void wait_for_join(const struct turn *t, struct member *m)
{
    join_finish_error(t, m, m->id, KERR_REBALANCE_IN_PROGRESS);
    parked_set(t->core, &m->join, t->who);
    m->group->n_awaiting_join++;
}

static void tell_ledger_joined(const struct turn *t, const struct member *m)
{
    size_t n = 0;
    struct ledger_tp *owned = NULL;
    if (group_is_consumer(m->group) && m->n_protocols > 0)
        owned = consumer_owned(t->core, m->protocols[0].metadata, t->fx->arena, &n);
    ledger_joined(t->core->ledger, turn_time(t), m->group->id, m->id, owned, n);
}

static void update_member(const struct turn *t, struct member *m, const struct join *j)
{
    member_set_protocols(m, j->protocols, j->n_protocols);
    m->session_timeout_ms = j->req->session_timeout_ms;
    m->rebalance_timeout_ms = j->rebalance_timeout_ms;
    wait_for_join(t, m);
}

static void add_member(const struct turn *t, struct group *g, struct str id, const struct join *j)
{
    struct pending *p = group_pending(g, id);
    if (p)
        group_pending_drop(t->core, p);
    if (g->n_members == 0) {
        struct str type = str_own(j->req->protocol_type);
        str_release(&g->protocol_type);
        g->protocol_type = type;
    }
    if (g->state == GROUP_PREPARING && g->previous == GROUP_EMPTY)
        g->new_member_added = true;

    struct ledger_identity who = identity_of(t->who);
    struct member *m = group_add_member(g, id, j->req->group_instance_id, &who);
    m->is_new = true;
    update_member(t, m, j);
    heap_set(&t->core->timers, &m->session.node, t->now_ms + NEW_MEMBER_JOIN_TIMEOUT_MS);
    turn_own_request(t, g->id, m->id, API_JOIN_GROUP);
    tell_ledger_joined(t, m);

    struct rebalance_cause why = {LEDGER_TRIGGER_JOIN, m->id, j->req->reason};
    rebalance_maybe(t, g, &why);
}

static void require_member_id(const struct turn *t, struct group *g, struct str id,
                              const struct join *j)
{
    if (map_count(g->pending) >= GROUP_PENDING_MAX) {
        refuse(t, STR_EMPTY, KERR_GROUP_MAX_SIZE_REACHED);
        return;
    }
    struct pending *p = group_pending_add(g, id);
    heap_set(&t->core->timers, &p->timer.node, t->now_ms + (uint64_t)j->req->session_timeout_ms);
    turn_own_request(t, g->id, id, API_JOIN_GROUP);
    refuse(t, id, KERR_MEMBER_ID_REQUIRED);
}

// No rebalance: the new process takes over what the old one had. Where it cannot be told to skip
// the assignment, a leader is kept from making one by naming it under its old id.
static void keep_generation(const struct turn *t, struct member *m, struct str former_leader)
{
    bool knows_skip = t->who->version >= SKIP_ASSIGNMENT_VERSION;
    bool leads = m->group->leader == m;
    struct join_group_response *r =
        join_reply_current(t, m->join.token, m->join.version, m, knows_skip && leads);
    r->skip_assignment = knows_skip && leads;
    if (!knows_skip)
        r->leader = former_leader;
    parked_clear(t->core, &m->join);
    m->group->n_awaiting_join--;
    rebalance_emit(t, m->group, true);
}

// Another process has taken the static member's place: whoever speaks with the old id is fenced.
static void replace_static(const struct turn *t, struct member *m, struct str id,
                           const struct join *j)
{
    struct group *g = m->group;
    struct str former_leader = arena_str(t->fx->arena, g->leader->id);
    ledger_tell_left(t, m, LEDGER_LEFT_STATIC_REPLACED, STR_NULL);
    join_finish_error(t, m, m->id, KERR_FENCED_INSTANCE_ID);
    sync_finish_error(t, m, KERR_FENCED_INSTANCE_ID);
    struct ledger_identity who = identity_of(t->who);
    group_rename_member(g, m, id);
    member_set_identity(m, &who);
    turn_own_request(t, g->id, m->id, API_JOIN_GROUP);
    update_member(t, m, j);
    member_touch(t, m);
    m->is_new = false;

    struct rebalance_cause why = {LEDGER_TRIGGER_STATIC_REPLACED, m->id, j->req->reason};
    if (g->state == GROUP_COMPLETING) {
        // The leader may already be handing out to the old id, so nothing can be kept.
        tell_ledger_joined(t, m);
        rebalance_prepare(t, g, &why);
    } else if (g->state == GROUP_PREPARING) {
        tell_ledger_joined(t, m);
        rebalance_maybe_complete(t, g);
    } else if (!str_eq(group_select_protocol(g), g->protocol_name) ||
               group_record_size(g) > GROUP_RECORD_MAX_BYTES) {
        tell_ledger_joined(t, m);
        rebalance_prepare(t, g, &why);
    } else {
        keep_generation(t, m, former_leader);
    }
}

static void join_new(const struct turn *t, struct group *g, const struct join *j)
{
    struct str id = fresh_member_id(t, j->req);
    struct member *holder = group_static_member(g, j->req->group_instance_id);
    if (holder)
        replace_static(t, holder, id, j);
    else if (str_is_null(j->req->group_instance_id) &&
             t->who->version >= MEMBER_ID_REQUIRED_VERSION)
        require_member_id(t, g, id, j);
    else
        add_member(t, g, id, j);
}

// What moved the member to join again; its former metadata is still in place.
static struct rebalance_cause cause_of_rejoin(const struct turn *t, const struct member *m,
                                              const struct join *j)
{
    struct rebalance_cause why = {LEDGER_TRIGGER_UNKNOWN, m->id, j->req->reason};
    const struct group *g = m->group;
    if (!group_is_consumer(g) || m->n_protocols == 0)
        return why;
    size_t topics;
    size_t partitions;
    group_count_partitions(t->core, g, &topics, &partitions);
    struct bytes before = m->protocols[0].metadata;
    struct bytes after = j->protocols[0].metadata;
    if (topics < g->topics_seen)
        why.trigger = LEDGER_TRIGGER_TOPIC_DELETED;
    else if (!str_eq(consumer_topics(before, t->fx->arena), consumer_topics(after, t->fx->arena)))
        why.trigger = LEDGER_TRIGGER_SUBSCRIPTION_CHANGE;
    else if (partitions != g->partitions_seen)
        why.trigger = LEDGER_TRIGGER_PARTITIONS_ADDED;
    else if (!member_matches(m, j->protocols, j->n_protocols))
        // The second step of a cooperative rebalance: the member gave up what it had to.
        why.trigger = LEDGER_TRIGGER_PARTITION_MOVED;
    return why;
}

static void rejoin(const struct turn *t, struct member *m, const struct join *j)
{
    struct rebalance_cause why = cause_of_rejoin(t, m, j);
    update_member(t, m, j);
    tell_ledger_joined(t, m);
    rebalance_maybe(t, m->group, &why);
}

// The generation stands, but an eager member gave up by joining what it had.
static void join_again(const struct turn *t, struct member *m, bool leads)
{
    tell_ledger_joined(t, m);
    join_reply_current(t, t->who->token, t->who->version, m, leads);
}

static void join_known(const struct turn *t, struct group *g, const struct join *j)
{
    const struct join_group_request *req = j->req;
    if (group_pending(g, req->member_id) && str_is_null(req->group_instance_id)) {
        add_member(t, g, req->member_id, j);
        return;
    }
    enum kerr error = group_check_member(g, req->member_id, req->group_instance_id);
    if (error) {
        refuse(t, req->member_id, error);
        return;
    }
    turn_own_request(t, g->id, req->member_id, API_JOIN_GROUP);
    struct member *m = group_member(g, req->member_id);
    bool same = member_matches(m, j->protocols, j->n_protocols);
    bool leads = g->leader == m;
    switch (g->state) {
    case GROUP_PREPARING:
        rejoin(t, m, j);
        return;
    case GROUP_COMPLETING:
        // It may have missed the answer to its JoinGroup.
        if (same)
            join_again(t, m, leads);
        else
            rejoin(t, m, j);
        return;
    case GROUP_STABLE:
        // The leader joins again when something changed that members' metadata do not show.
        if (leads || !same)
            rejoin(t, m, j);
        else
            join_again(t, m, false);
        return;
    case GROUP_EMPTY:
        refuse(t, req->member_id, KERR_UNKNOWN_MEMBER_ID);
        return;
    }
}

static enum kerr check_request(const struct turn *t, const struct join_group_request *req)
{
    const struct core_config *config = core_config(t->core);
    if (req->group_id.len <= 0)
        return KERR_INVALID_GROUP_ID;
    if (req->session_timeout_ms < config->group_min_session_timeout_ms ||
        req->session_timeout_ms > config->group_max_session_timeout_ms)
        return KERR_INVALID_SESSION_TIMEOUT;
    size_t size = 0;
    for (int32_t i = 0; i < req->n_protocols; i++)
        size += (size_t)req->protocols[i].name.len + req->protocols[i].metadata.len;
    if (req->n_protocols > GROUP_PROTOCOLS_MAX || size > GROUP_MEMBER_METADATA_MAX_BYTES)
        return KERR_INVALID_REQUEST;
    return KERR_NONE;
}

static struct join join_of(const struct turn *t, const struct join_group_request *req)
{
    struct join j = {.req = req, .n_protocols = req->n_protocols};
    // Version 0 has no rebalance timeout: the session timeout stands for both.
    j.rebalance_timeout_ms =
        t->who->version == 0 ? req->session_timeout_ms : req->rebalance_timeout_ms;
    if (j.rebalance_timeout_ms < 0)
        j.rebalance_timeout_ms = 0;
    j.protocols = arena_array(t->fx->arena, (size_t)req->n_protocols, sizeof *j.protocols);
    for (int32_t i = 0; i < req->n_protocols; i++)
        j.protocols[i] = (struct protocol){req->protocols[i].name, req->protocols[i].metadata};
    return j;
}

void group_join(struct core *c, const struct asker *who, const struct join_group_request *req,
                struct effects *fx)
{
    struct turn t = turn_of(c, who, fx);
    enum kerr error = check_request(&t, req);
    if (error) {
        refuse(&t, req->member_id, error);
        return;
    }
    struct join j = join_of(&t, req);
    struct group *g = groups_get(c, req->group_id);
    bool is_new_member = req->member_id.len <= 0;
    if (!g && !is_new_member) {
        refuse(&t, req->member_id, KERR_UNKNOWN_MEMBER_ID);
    } else if (g && !has_room(&t, g, req->member_id)) {
        struct member *m = group_member(g, req->member_id);
        if (m) {
            ledger_tell_left(&t, m, LEDGER_LEFT_REMOVED, STR_NULL);
            sync_finish_error(&t, m, KERR_UNKNOWN_MEMBER_ID);
            group_remove_member(c, m);
        } else if (group_pending(g, req->member_id)) {
            group_pending_drop(c, group_pending(g, req->member_id));
        }
        refuse(&t, STR_EMPTY, KERR_GROUP_MAX_SIZE_REACHED);
        rebalance_maybe_complete(&t, g);
    } else if (!group_supports(g, req->protocol_type, j.protocols, j.n_protocols)) {
        refuse(&t, is_new_member ? STR_EMPTY : req->member_id, KERR_INCONSISTENT_GROUP_PROTOCOL);
    } else if (!g && groups_count(c) >= GROUPS_MAX) {
        refuse(&t, STR_EMPTY, KERR_POLICY_VIOLATION);
    } else if (is_new_member) {
        if (!g) {
            struct group_created_record *r = effects_record(fx, &group_created_record_msg);
            r->group_id = arena_str(fx->arena, req->group_id);
            r->wall_ms = who->wall_ms;
            g = groups_make(c, req->group_id);
        }
        join_new(&t, g, &j);
    } else {
        join_known(&t, g, &j);
    }
}
