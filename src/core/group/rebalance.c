// A rebalance of the classic protocol from its start to the new generation: the join phase, in
// which all members send JoinGroup, and the sync phase, in which the leader hands out.

#include "core/group/private.h"

static struct bytes no_bytes(void)
{
    return (struct bytes){(const uint8_t *)"", 0};
}

void ledger_tell_left(const struct turn *t, const struct member *m, enum ledger_left why,
                      struct str reason)
{
    ledger_member_left(t->core->ledger, turn_time(t), m->group->id, m->id, why, reason);
}

void join_reply_error(const struct turn *t, uint64_t token, int16_t version, struct str member,
                      enum kerr error)
{
    if (token == 0)
        return;
    struct join_group_response *r = effects_response(t->fx, &join_group_response_msg);
    r->error_code = (int16_t)error;
    r->generation_id = -1;
    r->protocol_type = STR_NULL;
    r->protocol_name = version >= 7 ? STR_NULL : STR_EMPTY;
    r->leader = STR_EMPTY;
    r->member_id = arena_str(t->fx->arena, member);
    effects_reply(t->fx, token, r);
}

void join_finish_error(const struct turn *t, struct member *m, struct str member, enum kerr error)
{
    if (!m->join.waits)
        return;
    join_reply_error(t, m->join.token, m->join.version, member, error);
    parked_clear(t->core, &m->join);
    m->group->n_awaiting_join--;
}

static void list_members(const struct turn *t, const struct group *g, struct join_group_response *r)
{
    r->members = arena_array(t->fx->arena, g->n_members, sizeof *r->members);
    LIST_EACH (node, &g->members) {
        const struct member *m = LIST_ITEM(node, struct member, node);
        struct join_group_response_member *out = &r->members[r->n_members++];
        out->member_id = arena_str(t->fx->arena, m->id);
        out->group_instance_id = arena_str(t->fx->arena, m->instance_id);
        out->metadata = arena_bytes(t->fx->arena, member_metadata(m, g->protocol_name));
    }
}

struct join_group_response *join_reply_current(const struct turn *t, uint64_t token,
                                               int16_t version, const struct member *m,
                                               bool with_members)
{
    if (token == 0)
        return NULL;
    const struct group *g = m->group;
    struct join_group_response *r = effects_response(t->fx, &join_group_response_msg);
    r->generation_id = g->generation;
    r->protocol_type = arena_str(t->fx->arena, g->protocol_type);
    r->protocol_name = arena_str(t->fx->arena, g->protocol_name);
    if (version < 7 && str_is_null(r->protocol_name))
        r->protocol_name = STR_EMPTY;
    r->leader = g->leader ? arena_str(t->fx->arena, g->leader->id) : STR_EMPTY;
    r->member_id = arena_str(t->fx->arena, m->id);
    if (with_members)
        list_members(t, g, r);
    effects_reply(t->fx, token, r);
    return r;
}

void sync_finish_error(const struct turn *t, struct member *m, enum kerr error)
{
    if (!m->sync.waits)
        return;
    if (m->sync.token) {
        struct sync_group_response *r = effects_response(t->fx, &sync_group_response_msg);
        r->error_code = (int16_t)error;
        r->assignment = no_bytes();
        effects_reply(t->fx, m->sync.token, r);
    }
    parked_clear(t->core, &m->sync);
}

static void set_pending_sync(struct member *m, bool is)
{
    m->group->n_pending_sync += is;
    m->group->n_pending_sync -= m->is_pending_sync;
    m->is_pending_sync = is;
}

static void clear_pending_sync(const struct turn *t, struct group *g)
{
    LIST_EACH (node, &g->members)
        set_pending_sync(LIST_ITEM(node, struct member, node), false);
    heap_cancel(&t->core->timers, &g->sync_timer.node);
}

static void join_timer_set(const struct turn *t, struct group *g, int32_t delay_ms)
{
    heap_set(&t->core->timers, &g->join_timer.node,
             t->now_ms + (uint64_t)(delay_ms > 0 ? delay_ms : 0));
}

// Nobody gets the assignment that was being made: those who wait for it must join again.
static void give_up_assignment(const struct turn *t, struct group *g)
{
    LIST_EACH (node, &g->members) {
        struct member *m = LIST_ITEM(node, struct member, node);
        member_set_assignment(m, no_bytes());
        if (!m->sync.waits)
            continue;
        sync_finish_error(t, m, KERR_REBALANCE_IN_PROGRESS);
        member_touch(t, m);
    }
}

void rebalance_prepare(const struct turn *t, struct group *g, const struct rebalance_cause *why)
{
    if (g->state == GROUP_COMPLETING)
        give_up_assignment(t, g);
    else
        ledger_rebalance_started(t->core->ledger, turn_time(t), g->id, g->generation, why->trigger,
                                 why->member, why->reason);
    clear_pending_sync(t, g);

    g->previous = g->state;
    g->state = GROUP_PREPARING;
    g->is_initial = g->previous == GROUP_EMPTY;
    if (g->is_initial) {
        int32_t delay = core_config(t->core)->group_initial_rebalance_delay_ms;
        int32_t longest = group_rebalance_timeout_ms(g);
        g->delay_ms = delay;
        g->remaining_ms = longest > delay ? longest - delay : 0;
        g->new_member_added = false;
        join_timer_set(t, g, delay);
    } else if (group_all_joined(g)) {
        rebalance_complete(t, g);
    } else {
        join_timer_set(t, g, group_rebalance_timeout_ms(g));
    }
}

void rebalance_maybe_complete(const struct turn *t, struct group *g)
{
    // The initial rebalance ends by its timer only: others may still be starting.
    if (g->state == GROUP_PREPARING && g->previous != GROUP_EMPTY && group_all_joined(g))
        rebalance_complete(t, g);
}

void rebalance_maybe(const struct turn *t, struct group *g, const struct rebalance_cause *why)
{
    if (g->state == GROUP_PREPARING)
        rebalance_maybe_complete(t, g);
    else
        rebalance_prepare(t, g, why);
}

void rebalance_initial_timer(const struct turn *t, struct group *g)
{
    if (!g->is_initial || !g->new_member_added || g->remaining_ms == 0) {
        rebalance_complete(t, g);
        return;
    }
    int32_t configured = core_config(t->core)->group_initial_rebalance_delay_ms;
    int32_t delay = configured < g->remaining_ms ? configured : g->remaining_ms;
    g->new_member_added = false;
    g->remaining_ms = g->remaining_ms > g->delay_ms ? g->remaining_ms - g->delay_ms : 0;
    g->delay_ms = delay;
    join_timer_set(t, g, delay);
}

// The leader must be one that is here. False when nobody is.
static bool elect_joined_leader(struct group *g)
{
    if (g->leader && g->leader->join.waits)
        return true;
    LIST_EACH (node, &g->members) {
        struct member *m = LIST_ITEM(node, struct member, node);
        if (m->join.waits) {
            g->leader = m;
            return true;
        }
    }
    return false;
}

static void put_out_absent(const struct turn *t, struct group *g)
{
    LIST_EACH (node, &g->members) {
        struct member *m = LIST_ITEM(node, struct member, node);
        if (m->join.waits || !str_is_null(m->instance_id))
            continue;
        ledger_tell_left(t, m, LEDGER_LEFT_POLL_TIMEOUT, STR_NULL);
        group_remove_member(t->core, m);
    }
}

static void answer_joined(const struct turn *t, struct group *g)
{
    LIST_EACH (node, &g->members) {
        struct member *m = LIST_ITEM(node, struct member, node);
        if (m->join.waits) {
            join_reply_current(t, m->join.token, m->join.version, m, m == g->leader);
            parked_clear(t->core, &m->join);
            g->n_awaiting_join--;
        }
        member_touch(t, m);
        m->is_new = false;
        set_pending_sync(m, true);
    }
}

static void set_protocol(struct group *g, struct str name)
{
    struct str copy = str_own(name);
    str_release(&g->protocol_name);
    g->protocol_name = copy;
}

void rebalance_complete(const struct turn *t, struct group *g)
{
    heap_cancel(&t->core->timers, &g->join_timer.node);
    put_out_absent(t, g);
    if (g->n_members > 0 && !elect_joined_leader(g)) {
        // Only static members, all silent: wait until they return or their sessions end.
        g->is_initial = false;
        join_timer_set(t, g, group_rebalance_timeout_ms(g));
        return;
    }

    g->generation = g->generation == INT32_MAX ? 1 : g->generation + 1;
    g->previous = g->state;
    if (g->n_members == 0) {
        set_protocol(g, STR_NULL);
        rebalance_emit(t, g, true);
        return;
    }
    set_protocol(g, group_select_protocol(g));
    group_find_subscribed(t->core, g);
    group_count_partitions(t->core, g, &g->topics_seen, &g->partitions_seen);
    g->state = GROUP_COMPLETING;
    answer_joined(t, g);
    heap_set(&t->core->timers, &g->sync_timer.node,
             t->now_ms + (uint64_t)group_rebalance_timeout_ms(g));
}

void rebalance_sync_received(const struct turn *t, struct member *m)
{
    set_pending_sync(m, false);
    if (m->group->n_pending_sync == 0)
        heap_cancel(&t->core->timers, &m->group->sync_timer.node);
}

void rebalance_sync_timer(const struct turn *t, struct group *g)
{
    if (g->state != GROUP_COMPLETING && g->state != GROUP_STABLE)
        return;
    struct rebalance_cause why = {LEDGER_TRIGGER_POLL_TIMEOUT, STR_NULL, STR_NULL};
    bool somebody = false;
    LIST_EACH (node, &g->members) {
        struct member *m = LIST_ITEM(node, struct member, node);
        if (!m->is_pending_sync)
            continue;
        if (!somebody)
            why.member = arena_str(t->fx->arena, m->id);
        somebody = true;
        ledger_tell_left(t, m, LEDGER_LEFT_POLL_TIMEOUT, STR_NULL);
        group_remove_member(t->core, m);
    }
    if (somebody)
        rebalance_prepare(t, g, &why);
}

static void expel(const struct turn *t, struct member *m, enum ledger_left left,
                  enum ledger_trigger trigger)
{
    struct group *g = m->group;
    struct rebalance_cause why = {trigger, arena_str(t->fx->arena, m->id), STR_NULL};
    join_finish_error(t, m, STR_EMPTY, KERR_UNKNOWN_MEMBER_ID);
    sync_finish_error(t, m, KERR_UNKNOWN_MEMBER_ID);
    ledger_tell_left(t, m, left, STR_NULL);
    group_remove_member(t->core, m);
    if (g->state == GROUP_STABLE || g->state == GROUP_COMPLETING)
        rebalance_prepare(t, g, &why);
    else if (g->state == GROUP_PREPARING && group_all_joined(g))
        rebalance_complete(t, g);
}

void rebalance_member_silent(const struct turn *t, struct member *m)
{
    // Who waits for us owes no heartbeat; a new one does, or defunct joins would pile up.
    if (!m->is_new && (m->join.waits || m->sync.waits))
        return;
    expel(t, m, LEDGER_LEFT_SESSION_TIMEOUT, LEDGER_TRIGGER_SESSION_TIMEOUT);
}

enum kerr group_evict(struct core *c, const struct asker *who, struct str group, struct str member,
                      bool is_poll_timeout, struct effects *fx)
{
    struct turn t = turn_of(c, who, fx);
    struct group *g = groups_get(c, group);
    struct member *m = g ? group_member(g, member) : NULL;
    if (!m)
        return KERR_UNKNOWN_MEMBER_ID;
    if (is_poll_timeout)
        expel(&t, m, LEDGER_LEFT_POLL_TIMEOUT, LEDGER_TRIGGER_POLL_TIMEOUT);
    else
        expel(&t, m, LEDGER_LEFT_SESSION_TIMEOUT, LEDGER_TRIGGER_SESSION_TIMEOUT);
    return KERR_NONE;
}

void rebalance_pending_silent(const struct turn *t, struct pending *p)
{
    struct group *g = p->group;
    group_pending_drop(t->core, p);
    if (g->state == GROUP_PREPARING && group_all_joined(g))
        rebalance_complete(t, g);
}

void rebalance_emit(const struct turn *t, struct group *g, bool keep)
{
    struct group_generation_record *r = effects_record(t->fx, &group_generation_record_msg);
    struct arena *a = t->fx->arena;
    r->group_id = arena_str(a, g->id);
    r->generation = g->generation;
    r->protocol_type = arena_str(a, g->protocol_type);
    r->protocol_name = arena_str(a, g->protocol_name);
    r->leader = g->leader ? arena_str(a, g->leader->id) : STR_NULL;
    r->wall_ms = t->wall_ms;
    r->members = arena_array(a, g->n_members, sizeof *r->members);
    LIST_EACH (node, &g->members) {
        const struct member *m = LIST_ITEM(node, struct member, node);
        r->members[r->n_members++] = (struct group_generation_record_member){
            .member_id = arena_str(a, m->id),
            .instance_id = arena_str(a, m->instance_id),
            .client_id = arena_str(a, m->client_id),
            .client_host = arena_str(a, m->host),
            .principal = arena_str(a, m->principal),
            .software = arena_str(a, m->software),
            .session_timeout_ms = m->session_timeout_ms,
            .rebalance_timeout_ms = m->rebalance_timeout_ms,
            .subscription = arena_bytes(a, member_metadata(m, g->protocol_name)),
            .assignment = arena_bytes(a, keep ? m->assignment : m->given),
        };
    }
}
