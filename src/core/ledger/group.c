// Members and generations: what begins and ends spells.

#include "core/ledger/internal.h"

#include "base/bug.h"

static enum ledger_trigger trigger_now(const struct group *g)
{
    return g->now ? g->now->trigger : g->last.trigger;
}

void ledger_rebalance_started(struct ledger *l, struct ledger_time t, struct str group,
                              int32_t generation, enum ledger_trigger trigger, struct str member,
                              struct str reason)
{
    l->now = t;
    struct group *g = get_group(l, group);
    if (g->rebalancing)
        return;
    const struct member *m = find_member(g, member);
    if (trigger == LEDGER_TRIGGER_SESSION_TIMEOUT && m && !m->live)
        trigger = m->left;
    rebalance_begin(g, generation, trigger, member, reason);
}

void ledger_joined(struct ledger *l, struct ledger_time t, struct str group, struct str member,
                   const struct ledger_tp *owned, size_t n_owned)
{
    l->now = t;
    if (member.len <= 0)
        return;
    struct group *g = get_group(l, group);
    struct member *m = get_member(g, member);
    m->live = m->joined_now = true;
    m->joined_ms = t.now_ms;
    if (g->now) {
        drop(&g->now->waited_for);
        g->now->waited_for = keep(member);
    }
    for (size_t i = 0; i < g->n_gps; i++) {
        struct gp *gp = g->gps[i];
        struct spell *s = spell_of(gp, m);
        bool kept = !s || (bug(BUG_FORGET_REVOKE) && n_owned == 0);
        for (size_t j = 0; j < n_owned && !kept; j++)
            kept = owned[j].partition == gp->tp->partition &&
                   uuid_eq(owned[j].topic_id, gp->tp->topic->id);
        if (!kept)
            spell_end(gp, s, trigger_now(g), true);
    }
}

static void member_fill(struct member *m, const struct ledger_member *from)
{
    struct ledger_identity was = m->who;
    bool known = was.software.len > 0 && from->who.software.len <= 0;
    m->who = keep_identity(&from->who);
    if (known) {
        drop(&m->who.software);
        m->who.software = keep(was.software);
    }
    drop_identity(&was);
    drop(&m->instance_id);
    m->instance_id = keep(from->instance_id);
    drop(&m->subscription);
    m->subscription = keep(from->subscription);
    m->session_timeout_ms = from->session_timeout_ms;
    m->rebalance_timeout_ms = from->rebalance_timeout_ms;
    m->live = m->in_generation = true;
    m->joined_now = false;
    group_had_identity(m->group, &m->who);
}

// Put out before it was saved, and a member of the next generation under the same id: a restart in
// between undid its end, and it went on. Whether it gave the part up and was handed it again,
// nobody tells; the more may have been sent that nothing is known of.
static struct spell *revived(struct gp *gp, const struct member *m)
{
    for (size_t i = gp->n_spells; gp->group->l->replay && i-- > 0;) {
        struct spell *s = gp->spells[i];
        if (s->member != m)
            continue;
        if (!s->stood || s->orderly)
            return NULL;
        s->life = SPELL_OPEN;
        s->live = s->stood = s->ack_final = false;
        return s;
    }
    return NULL;
}

// Marks what each member keeps, so that the rest is found in one walk.
static void mark_kept(struct group *g, struct member *m, const struct ledger_member *from)
{
    for (size_t i = 0; i < from->n_assigned; i++) {
        struct tp *tp = get_tp(g->l, from->assigned[i].topic_id, from->assigned[i].partition);
        struct gp *gp = find_gp(g, tp);
        struct spell *s = gp ? spell_of(gp, m) : NULL;
        if (gp && !s)
            s = revived(gp, m);
        if (!s)
            continue;
        s->mark = g->generation;
        s->life = SPELL_OPEN;
    }
}

static void end_departed(struct gp *gp)
{
    for (size_t i = 0; i < gp->n_spells; i++) {
        struct spell *s = gp->spells[i];
        if (s->manual)
            continue;
        if (!s->member || !s->member->in_generation) {
            if (s->life != SPELL_ENDED)
                spell_end(gp, s, trigger_now(gp->group), false);
            s->mark = -1; // a replaced static member: its generation stands, and it is not in it
        } else if (s->life != SPELL_ENDED && s->mark != gp->group->generation) {
            s->life = SPELL_REVOKING;
        }
    }
}

static void begin_assigned(struct group *g, struct member *m, const struct ledger_tp *assigned,
                           size_t n_assigned)
{
    for (size_t i = 0; i < n_assigned; i++) {
        struct tp *tp = get_tp(g->l, assigned[i].topic_id, assigned[i].partition);
        if (!tp)
            continue;
        struct gp *gp = get_gp(g, tp);
        if (spell_of(gp, m))
            continue;
        for (size_t j = 0; j < gp->n_spells; j++)
            if (gp->spells[j]->life == SPELL_REVOKING)
                spell_end(gp, gp->spells[j], trigger_now(g), true);
        spell_begin(gp, m)->mark = g->generation;
    }
}

void ledger_synced(struct ledger *l, struct ledger_time t, struct str group, struct str member,
                   const struct ledger_tp *assigned, size_t n_assigned)
{
    l->now = t;
    struct group *g = find_group(l, group);
    struct member *m = g ? find_member(g, member) : NULL;
    if (!m)
        return;
    m->live = m->in_generation = true; // also one that had left a rebalance which came to nothing
    begin_assigned(g, m, assigned, n_assigned);
}

static void note_idle_members(struct group *g, const struct ledger_member *members, size_t n)
{
    size_t idle = 0, partitions = 0;
    for (size_t i = 0; i < n; i++)
        idle += members[i].n_assigned == 0;
    for (size_t i = 0; i < g->n_gps; i++)
        partitions += open_spell(g->gps[i]) != NULL;
    // Without a partition for now is nothing: cooperative members get theirs in the next turn.
    if (!idle || !partitions || partitions >= n)
        return;
    struct incident *in = incident_open(g, NULL, LEDGER_NOTE, CAUSE_STALLED, -1, -1, 0, 0);
    if (!in)
        return;
    in->v.quiet = true;
    in->v.certainty = in->v.attribution = LEDGER_CERTAIN;
    incident_prove(in, "SyncGroup", g->l->now.wall_ms,
                   "%zu of %zu members have no partition: there are more members than partitions",
                   idle, n);
}

static bool other_application(const struct ledger_member *a, const struct ledger_member *b)
{
    if (a->subscription.len <= 0 || b->subscription.len <= 0 ||
        str_eq(a->subscription, b->subscription))
        return false;
    return !str_eq(a->who.software, b->who.software) || !str_eq(a->who.client_id, b->who.client_id);
}

// Different topics and a different client: two applications that do not know of each other. A
// rolling change of one application's topics looks the same for a while, hence only a note.
static void note_mixed(struct group *g, const struct ledger_member *members, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (!other_application(&members[0], &members[i]))
            continue;
        struct incident *in = incident_open(g, NULL, LEDGER_NOTE, CAUSE_MIXED_GROUP, -1, -1, 0, 0);
        if (!in)
            return;
        in->v.certainty = in->v.attribution = LEDGER_LIKELY;
        incident_prove(in, "JoinGroup", g->l->now.wall_ms,
                       "client %.*s reads %.*s; client %.*s reads %.*s",
                       STR_FMT(members[0].who.client_id), STR_FMT(members[0].subscription),
                       STR_FMT(members[i].who.client_id), STR_FMT(members[i].subscription));
        return;
    }
}

void ledger_generation(struct ledger *l, struct ledger_time t, struct str group, int32_t generation,
                       const struct ledger_member *members, size_t n_members)
{
    l->now = t;
    struct group *g = get_group(l, group);
    g->removed = false;
    for (size_t i = 0; i < g->n_members; i++)
        g->members[i]->in_generation = false;
    if (!g->rebalancing && generation != g->generation)
        rebalance_begin(g, g->generation, LEDGER_TRIGGER_UNKNOWN, STR_NULL, STR_NULL);
    g->generation = generation;
    for (size_t i = 0; i < n_members; i++)
        member_fill(get_member(g, members[i].member_id), &members[i]);
    for (size_t i = 0; i < g->n_members; i++)
        if (!g->members[i]->in_generation)
            g->members[i]->live = false;
    for (size_t i = 0; i < n_members; i++)
        mark_kept(g, get_member(g, members[i].member_id), &members[i]);
    for (size_t i = 0; i < g->n_gps; i++)
        end_departed(g->gps[i]);
    for (size_t i = 0; i < n_members; i++)
        begin_assigned(g, get_member(g, members[i].member_id), members[i].assigned,
                       members[i].n_assigned);
    l->bindings++;
    note_idle_members(g, members, n_members);
    note_mixed(g, members, n_members);
    rebalance_end(g, generation);
    seen_stop(g);
}

static enum ledger_trigger trigger_of(const struct member *m, enum ledger_left why)
{
    switch (why) {
    case LEDGER_LEFT_LEAVE:
        return LEDGER_TRIGGER_LEAVE;
    case LEDGER_LEFT_SESSION_TIMEOUT:
        return m->had_conn && !m->n_conns ? LEDGER_TRIGGER_DISCONNECT
                                          : LEDGER_TRIGGER_SESSION_TIMEOUT;
    case LEDGER_LEFT_POLL_TIMEOUT:
        return LEDGER_TRIGGER_POLL_TIMEOUT;
    case LEDGER_LEFT_STATIC_REPLACED:
        return LEDGER_TRIGGER_STATIC_REPLACED;
    case LEDGER_LEFT_REMOVED:
        return LEDGER_TRIGGER_ADMIN;
    }
    UNREACHABLE();
}

static void observe_gaps(struct group *g, struct member *m, uint64_t now_ms)
{
    uint64_t fetched = m->joined_ms;
    for (size_t i = 0; i < g->n_gps; i++) {
        const struct spell *s = spell_of(g->gps[i], m);
        if (s && s->fetched_ms > fetched)
            fetched = s->fetched_ms;
    }
    if (m->left == LEDGER_TRIGGER_POLL_TIMEOUT && now_ms - fetched > m->poll_gap_ms)
        m->poll_gap_ms = now_ms - fetched;
    if (m->heartbeat_ms && m->left != LEDGER_TRIGGER_LEAVE &&
        now_ms - m->heartbeat_ms > m->heartbeat_gap_ms)
        m->heartbeat_gap_ms = now_ms - m->heartbeat_ms;
}

void ledger_member_left(struct ledger *l, struct ledger_time t, struct str group, struct str member,
                        enum ledger_left why, struct str reason)
{
    l->now = t;
    struct group *g = find_group(l, group);
    struct member *m = g ? find_member(g, member) : NULL;
    if (!m || !m->live)
        return;
    if (why == LEDGER_LEFT_LEAVE && str_eq_c(reason, "consumer poll timeout has expired."))
        why = LEDGER_LEFT_POLL_TIMEOUT;
    m->left = trigger_of(m, why);
    observe_gaps(g, m, t.now_ms);
    m->live = m->in_generation = false;
    g->last.trigger = m->left;
    for (size_t i = 0; i < g->n_gps; i++) {
        struct spell *s = spell_of(g->gps[i], m);
        if (s)
            spell_end(g->gps[i], s, m->left, why == LEDGER_LEFT_LEAVE);
    }
    l->bindings++;
}
