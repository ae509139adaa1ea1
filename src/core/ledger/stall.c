// No progress: what only time shows.

#include "core/ledger/internal.h"

static bool any_members(const struct ledger *l)
{
    void *item;
    for (size_t it = 0; map_next(l->groups, &it, NULL, &item);) {
        const struct group *g = item;
        for (size_t i = 0; i < g->n_members; i++)
            if (g->members[i]->live)
                return true;
    }
    return false;
}

uint64_t ledger_next_due_ms(const struct ledger *l)
{
    return any_members(l) ? l->checked_ms + STALL_CHECK_MS : UINT64_MAX;
}

// Is the partition fetched by somebody who may be its owner, though we cannot tell?
static bool maybe_fetched(const struct gp *gp, uint64_t since_ms)
{
    for (size_t i = 0; i < gp->tp->n_feeds; i++) {
        const struct feed *f = gp->tp->feeds[i];
        if (f->kind == FEED_UNBOUND && f->position_ms >= since_ms && f->position >= 0)
            return true;
    }
    return false;
}

static void check_owner(struct gp *gp)
{
    struct group *g = gp->group;
    uint64_t now_ms = g->l->now.now_ms;
    struct spell *s = open_spell(gp);
    if (!s || s->manual || s->life != SPELL_OPEN || !s->member || !s->member->live)
        return;
    uint64_t limit_ms = s->member->rebalance_timeout_ms > 0
                            ? (uint64_t)s->member->rebalance_timeout_ms
                            : STALL_DEFAULT_MS;
    int64_t end = log_bounds(gp).to;
    int64_t next = s->position > s->sent_end ? s->position : s->sent_end;
    if (next < 0)
        next = gp->k >= 0 ? gp->k : gp->base;
    // Everything sent is a consumer at work, not a stall of the fetching. So is one that commits: a
    // slow one has enough to do with what it was sent before.
    uint64_t moved_ms = gp->moved_ms > s->fetched_ms ? gp->moved_ms : s->fetched_ms;
    if (now_ms - moved_ms <= limit_ms || next >= end || maybe_fetched(gp, s->fetched_ms))
        return;
    struct incident *in =
        incident_open(g, gp, LEDGER_STALLED, CAUSE_STALLED, next, end, s->id, s->id);
    if (!in)
        return;
    in->v.certainty = in->v.attribution =
        s->first_p < 0 && s->attribution > LEDGER_LIKELY ? LEDGER_LIKELY : s->attribution;
    incident_parties(in);
    if (!in->v.n_evidence)
        incident_prove(in, "Fetch", g->l->now.wall_ms,
                       "the owner has not fetched the partition for %llu ms, its rebalance "
                       "timeout is %llu ms; %lld records wait",
                       (unsigned long long)(now_ms - s->fetched_ms), (unsigned long long)limit_ms,
                       (long long)(end - next));
    incident_advise(in);
}

// A rebalance that does not end: twice the longest time that a member has to join again.
static void check_stuck(struct group *g)
{
    struct rebalance *r = g->now;
    uint64_t limit_ms = 0;
    struct str slow = STR_NULL;
    for (size_t i = 0; i < g->n_members; i++) {
        const struct member *m = g->members[i];
        if (!m->live)
            continue;
        if (m->rebalance_timeout_ms > 0 && (uint64_t)m->rebalance_timeout_ms > limit_ms)
            limit_ms = (uint64_t)m->rebalance_timeout_ms;
        if (!m->joined_now)
            slow = m->id;
    }
    if (!r || r->stuck_told || g->l->now.now_ms - r->began_ms <= 2 * limit_ms || !limit_ms)
        return;
    struct incident *in = incident_open(g, NULL, LEDGER_STALLED, CAUSE_STALLED, -1, -1, 0, 0);
    if (!in)
        return;
    r->stuck_told = true;
    in->v.certainty = in->v.attribution = LEDGER_CERTAIN;
    in->v.trigger = r->trigger;
    in->v.rebalance = r->id;
    incident_prove(in, "JoinGroup", g->l->now.wall_ms,
                   "a rebalance has not ended for %llu ms%s%.*s",
                   (unsigned long long)(g->l->now.now_ms - r->began_ms),
                   slow.len > 0 ? ", it waits for " : "", STR_FMT(slow));
    incident_advise(in);
}

static bool is_forced_out(enum ledger_trigger t)
{
    return t == LEDGER_TRIGGER_SESSION_TIMEOUT || t == LEDGER_TRIGGER_POLL_TIMEOUT ||
           t == LEDGER_TRIGGER_SUBSCRIPTION_CHANGE || t == LEDGER_TRIGGER_DISCONNECT ||
           t == LEDGER_TRIGGER_UNKNOWN;
}

static void check_storm(struct group *g)
{
    size_t n = 0;
    for (size_t i = g->n_rebalances; i-- > 0;) {
        const struct rebalance *r = g->rebalances[i];
        if (g->l->now.wall_ms - r->wall_ms > STORM_WINDOW_MS)
            break;
        n += is_forced_out(r->trigger);
    }
    bool told = g->recent[0] && g->recent[0]->v.cause == CAUSE_STALLED &&
                g->l->now.wall_ms - g->recent[0]->v.wall_ms < STORM_WINDOW_MS;
    if (n < STORM_REBALANCES || told)
        return;
    struct incident *in = incident_open(g, NULL, LEDGER_STALLED, CAUSE_STALLED, -1, -1, 0, 0);
    if (!in)
        return;
    in->v.certainty = in->v.attribution = LEDGER_CERTAIN;
    incident_prove(in, "JoinGroup", g->l->now.wall_ms, "%zu rebalances within %d s", n,
                   STORM_WINDOW_MS / 1000);
    incident_advise(in);
}

void ledger_tick(struct ledger *l, struct ledger_time t)
{
    l->now = t;
    l->checked_ms = t.now_ms;
    void *item;
    for (size_t it = 0; map_next(l->groups, &it, NULL, &item);) {
        struct group *g = item;
        if (g->rebalancing)
            check_stuck(g);
        check_storm(g);
        for (size_t i = 0; i < g->n_gps && !g->rebalancing; i++)
            check_owner(g->gps[i]);
    }
}
