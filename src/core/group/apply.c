// What the journal says of groups: the one place where hard state changes.

#include "core/group/private.h"

static struct ledger_time time_of(const struct core *c, int64_t wall_ms)
{
    return (struct ledger_time){c->now_ms, wall_ms};
}

static void keep_encoded(struct group *g, const struct group_generation_record *r)
{
    struct kw_out out = {0};
    kw_encode(&group_generation_record_msg, 0, r, &out);
    bytes_release(&g->stable);
    g->stable = bytes_own((struct bytes){out.buf.ptr, out.buf.len});
    kw_out_free(&out);
}

static struct str replaced(struct str *held, struct str s)
{
    struct str copy = str_own(s);
    str_release(held);
    return copy;
}

static struct ledger_identity identity_in(const struct group_generation_record_member *m)
{
    return (struct ledger_identity){m->principal, m->client_host, m->client_id, m->software};
}

// Live, the members are those of the record already; in a replay they are made from it, with the
// one protocol that the record knows of.
static void apply_members(struct core *c, struct group *g, const struct group_generation_record *r)
{
    struct map *named = map_new();
    for (int32_t i = 0; i < r->n_members; i++)
        map_put(named, key_str(r->members[i].member_id), g);
    LIST_EACH (node, &g->members) {
        struct member *m = LIST_ITEM(node, struct member, node);
        if (!map_get(named, key_str(m->id)))
            group_remove_member(c, m);
    }
    map_free(named);

    for (int32_t i = 0; i < r->n_members; i++) {
        const struct group_generation_record_member *in = &r->members[i];
        struct member *m = group_member(g, in->member_id);
        if (!m) {
            struct ledger_identity who = identity_in(in);
            m = group_add_member(g, in->member_id, in->instance_id, &who);
            struct protocol p = {r->protocol_name, in->subscription};
            member_set_protocols(m, &p, 1);
            m->session_timeout_ms = in->session_timeout_ms;
            m->rebalance_timeout_ms = in->rebalance_timeout_ms;
        }
        member_set_assignment(m, in->assignment);
    }
    struct member *leader = str_is_null(r->leader) ? NULL : group_member(g, r->leader);
    if (leader)
        g->leader = leader;
}

static void tell_ledger(struct core *c, const struct group_generation_record *r)
{
    struct arena *a = c->groups->scratch;
    bool is_consumer = str_eq_c(r->protocol_type, "consumer");
    struct ledger_member *members = arena_array(a, (size_t)r->n_members, sizeof *members);
    for (int32_t i = 0; i < r->n_members; i++) {
        const struct group_generation_record_member *in = &r->members[i];
        struct ledger_member *m = &members[i];
        m->member_id = in->member_id;
        m->instance_id = in->instance_id;
        m->who = identity_in(in);
        m->session_timeout_ms = in->session_timeout_ms;
        m->rebalance_timeout_ms = in->rebalance_timeout_ms;
        m->subscription = is_consumer ? consumer_topics(in->subscription, a) : STR_EMPTY;
        if (is_consumer)
            m->assigned = consumer_assigned(c, in->assignment, a, &m->n_assigned);
    }
    ledger_generation(c->ledger, time_of(c, r->wall_ms), r->group_id, r->generation, members,
                      (size_t)r->n_members);
    arena_reset(a);
}

// That they joined, and what each kept, is soft while it happens. The record tells it again.
static void tell_ledger_joined(struct core *c, const struct group_generation_record *r)
{
    struct arena *a = c->groups->scratch;
    for (int32_t i = 0; i < r->n_members; i++) {
        const struct group_generation_record_member *in = &r->members[i];
        size_t n;
        struct ledger_tp *owned = consumer_owned(c, in->subscription, a, &n);
        ledger_joined(c->ledger, time_of(c, r->wall_ms), r->group_id, in->member_id, owned, n);
    }
    arena_reset(a);
}

static void apply_generation(struct core *c, const struct group_generation_record *r)
{
    struct group *g = groups_make(c, r->group_id);
    // A static member that was replaced has the generation of before, and nobody joined.
    if (c->is_replaying && r->generation != g->generation && str_eq_c(r->protocol_type, "consumer"))
        tell_ledger_joined(c, r);
    keep_encoded(g, r);
    apply_members(c, g, r);
    g->generation = r->generation;
    g->protocol_type = replaced(&g->protocol_type, r->protocol_type);
    g->protocol_name = replaced(&g->protocol_name, r->protocol_name);
    g->previous = g->state;
    g->state = r->n_members > 0 ? GROUP_STABLE : GROUP_EMPTY;
    g->state_wall_ms = r->wall_ms;
    group_find_subscribed(c, g);
    if (c->is_replaying)
        group_count_partitions(c, g, &g->topics_seen, &g->partitions_seen);
    tell_ledger(c, r);
}

static void apply_removed(struct core *c, const struct group_removed_record *r)
{
    struct group *g = groups_get(c, r->group_id);
    if (!g)
        return; // named twice in one request
    struct ledger_identity who = {r->principal, r->client_host, r->client_id, STR_EMPTY};
    ledger_group_removed(c->ledger, time_of(c, r->wall_ms), r->group_id,
                         r->cause == GROUP_REMOVED_BY_ADMIN ? &who : NULL);
    groups_drop(c, g);
}

bool groups_apply(struct core *c, const struct kw_message *type, const void *record)
{
    switch (type->key) {
    case RECORD_GROUP_GENERATION:
        apply_generation(c, record);
        return true;
    case RECORD_OFFSETS_COMMITTED:
        offsets_apply_committed(c, record);
        return true;
    case RECORD_OFFSETS_REMOVED:
        offsets_apply_removed(c, record);
        return true;
    case RECORD_GROUP_REMOVED:
        apply_removed(c, record);
        return true;
    case RECORD_GROUP_CREATED: {
        const struct group_created_record *r = record;
        groups_make(c, r->group_id)->state_wall_ms = r->wall_ms;
        return true;
    }
    default:
        return false;
    }
}

void groups_topic_removed(struct core *c, struct uuid topic_id)
{
    void *g;
    for (size_t it = 0; map_next(c->groups->by_id, &it, NULL, &g);)
        offsets_remove_topic(g, topic_id);
}

void groups_restore_done(struct core *c, uint64_t now_ms)
{
    struct turn t = {.core = c, .now_ms = now_ms};
    void *value;
    for (size_t it = 0; map_next(c->groups->by_id, &it, NULL, &value);) {
        struct group *g = value;
        LIST_EACH (node, &g->members)
            member_touch(&t, LIST_ITEM(node, struct member, node));
    }
}

void groups_timer(struct core *c, struct core_timer *timer, uint64_t now_ms, int64_t wall_ms,
                  struct effects *fx)
{
    struct turn t = {c, NULL, fx, now_ms, wall_ms};
    struct list *node = (struct list *)(void *)timer; // only the address counts
    switch (timer->kind) {
    case TIMER_GROUP_JOIN: {
        struct group *g = LIST_ITEM(node, struct group, join_timer);
        if (g->is_initial)
            rebalance_initial_timer(&t, g);
        else
            rebalance_complete(&t, g);
        return;
    }
    case TIMER_GROUP_SYNC:
        rebalance_sync_timer(&t, LIST_ITEM(node, struct group, sync_timer));
        return;
    case TIMER_MEMBER_SESSION:
        rebalance_member_silent(&t, LIST_ITEM(node, struct member, session));
        return;
    case TIMER_MEMBER_PENDING:
        rebalance_pending_silent(&t, LIST_ITEM(node, struct pending, timer));
        return;
    case TIMER_OFFSETS_EXPIRY:
        break;
    }
    UNREACHABLE();
}

void groups_snapshot(const struct core *c, struct effects *fx)
{
    void *value;
    for (size_t it = 0; map_next(c->groups->by_id, &it, NULL, &value);) {
        const struct group *g = value;
        if (g->stable.len > 0) {
            struct group_generation_record *r = effects_record(fx, &group_generation_record_msg);
            struct bytes copy = arena_bytes(fx->arena, g->stable);
            CHECK(kw_decode(&group_generation_record_msg, 0, copy, fx->arena, r, NULL) == 0);
        } else {
            struct group_created_record *r = effects_record(fx, &group_created_record_msg);
            r->group_id = arena_str(fx->arena, g->id);
            r->wall_ms = g->state_wall_ms;
        }
        offsets_snapshot(c, g, fx);
    }
}

size_t groups_count(const struct core *c)
{
    return map_count(c->groups->by_id);
}

static void view(const struct group *g, struct group_view *ret)
{
    *ret = (struct group_view){
        .group_id = g->id,
        .state = group_state_name(g),
        .protocol_type = str_is_null(g->protocol_type) ? STR_EMPTY : g->protocol_type,
        .protocol_name = str_is_null(g->protocol_name) ? STR_EMPTY : g->protocol_name,
        .generation = g->generation,
        .n_members = g->n_members,
        .n_offsets = g->n_offsets,
    };
}

bool groups_next(const struct core *c, size_t *it, struct group_view *ret)
{
    void *g;
    if (!map_next(c->groups->by_id, it, NULL, &g))
        return false;
    view(g, ret);
    return true;
}

bool groups_find(const struct core *c, struct str group_id, struct group_view *ret)
{
    const struct group *g = groups_get(c, group_id);
    if (g)
        view(g, ret);
    return g != NULL;
}

int64_t group_committed(const struct core *c, struct str group_id, struct uuid topic_id,
                        int32_t partition)
{
    const struct group *g = groups_get(c, group_id);
    const struct committed *o = g ? offsets_get(g, topic_id, partition) : NULL;
    return o ? o->offset : -1;
}
