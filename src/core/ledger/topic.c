// What happens to topics and logs.

#include "core/ledger/internal.h"

#include <stdlib.h>
#include <string.h>

void topic_deleted(struct ledger *l, struct topic *t)
{
    if (t->deleted)
        return;
    t->deleted = true;
    l->former = more(l->former, l->n_former, sizeof(struct topic *));
    l->former[l->n_former++] = t;
}

bool topic_was(const struct topic *former, const struct topic *t)
{
    return former != t && former->deleted && former->name.len > 0 && str_eq(former->name, t->name);
}

// Who held a partition of the former topic when it was deleted, and holds it still: assignments go
// by name.
static struct spell *spell_outlived(const struct gp *gp)
{
    for (size_t i = gp->n_spells; i-- > 0;) {
        struct spell *s = gp->spells[i];
        if (s->end_trigger == LEDGER_TRIGGER_TOPIC_DELETED && s->member && s->member->live &&
            s->member->in_generation && s->mark == gp->group->generation)
            return s;
    }
    return NULL;
}

// Nothing need tell the members that the topic was made again: they fetch on from where they were.
static void carry_over(const struct topic *former, struct topic *t)
{
    for (int32_t i = 0; i < former->n_tps && i < t->n_tps; i++)
        for (size_t j = 0; j < former->tps[i]->n_gps; j++) {
            const struct spell *was = spell_outlived(former->tps[i]->gps[j]);
            struct gp *gp = was ? get_gp(former->tps[i]->gps[j]->group, t->tps[i]) : NULL;
            if (!gp || open_spell(gp))
                continue;
            struct spell *s = spell_begin(gp, was->member);
            s->mark = was->mark;
            s->start = START_CARRIED;
        }
}

void ledger_topic_created(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                          struct str name, int32_t partitions)
{
    l->now = t;
    struct topic *topic = get_topic(l, topic_id);
    drop(&topic->name);
    topic->name = keep(name);
    if (partitions > 0)
        get_tp(l, topic_id, partitions - 1);
    for (size_t i = 0; i < l->n_former; i++)
        if (topic_was(l->former[i], topic))
            carry_over(l->former[i], topic);
}

void ledger_partitions_added(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                             int32_t partitions)
{
    l->now = t;
    struct topic *topic = get_topic(l, topic_id);
    int32_t was = topic->n_tps;
    if (partitions > 0)
        get_tp(l, topic_id, partitions - 1);
    for (int32_t i = was; i < topic->n_tps; i++)
        topic->tps[i]->added = true;
}

// Accounting stops when the group has neither members nor offsets: it may as well be another then.
static bool goes_on(const struct group *g)
{
    for (size_t i = 0; i < g->n_members; i++)
        if (g->members[i]->live)
            return true;
    for (size_t i = 0; i < g->n_gps; i++)
        if (g->gps[i]->k >= 0 && !g->gps[i]->tp->topic->deleted)
            return true;
    return false;
}

static void forget_seen(struct group *g, size_t i)
{
    g->n_seen--;
    memmove(g->seen + i, g->seen + i + 1, (g->n_seen - i) * sizeof *g->seen);
}

void seen_stop(struct group *g)
{
    bool any = false;
    for (size_t i = 0; i < g->n_seen; i++)
        any = any || g->seen[i].topic->deleted;
    if (!any || goes_on(g))
        return;
    for (size_t i = g->n_seen; i-- > 0;)
        if (g->seen[i].topic->deleted)
            forget_seen(g, i);
}

// Did the group read the topic until it was deleted? One that gave it up long ago, and whose
// offsets are gone, begins anew with the next of that name.
static bool reads(const struct group *g, const struct topic *t)
{
    for (int32_t i = 0; i < t->n_tps; i++) {
        const struct gp *gp = find_gp(g, t->tps[i]);
        if (gp && (gp->k >= 0 || (gp->n_spells && g->rebalancing) || open_spell(gp)))
            return true;
    }
    return false;
}

static void stop_seeing(struct group *g, const struct topic *t)
{
    for (size_t i = g->n_seen; i-- > 0;)
        if ((g->seen[i].topic == t || topic_was(g->seen[i].topic, t)) && !reads(g, t))
            forget_seen(g, i);
    seen_stop(g);
}

void ledger_topic_deleted(struct ledger *l, struct ledger_time t, struct uuid topic_id)
{
    l->now = t;
    struct topic *topic = get_topic(l, topic_id);
    topic_deleted(l, topic);
    void *item;
    for (size_t it = 0; map_next(l->groups, &it, NULL, &item);)
        stop_seeing(item, topic);
    for (int32_t i = 0; i < topic->n_tps; i++) {
        struct tp *tp = topic->tps[i];
        struct ledger_range log = {0, 0};
        if (l->logs.bounds && l->logs.bounds(l->logs.ctx, topic_id, i, &log))
            ledger_trimmed(l, t, topic_id, i, log.to, LEDGER_TRIM_DELETE_RECORDS);
        for (size_t j = 0; j < tp->n_gps; j++)
            for (size_t k = 0; k < tp->gps[j]->n_spells; k++)
                if (tp->gps[j]->spells[k]->life != SPELL_ENDED)
                    spell_end(tp->gps[j], tp->gps[j]->spells[k], LEDGER_TRIGGER_TOPIC_DELETED,
                              true);
    }
    topic_forget(l, topic);
}

// Never sent and out of the log: expired. Sent in ended spells only and not committed: abandoned.
static void gp_trim(struct gp *gp, int64_t to, enum ledger_trim why)
{
    if (gp->first < 0)
        return;
    int64_t from = gp->k > gp->base ? gp->k : gp->base;
    int64_t end = log_bounds(gp).to;
    if (to > end)
        to = end;
    if (from >= to)
        return;
    gp_uncover_unowned(gp, NULL, from, to);
    run_split(gp, from);
    run_split(gp, to);
    for (size_t i = run_at(gp, from); i < gp->n_runs && gp->runs[i].from < to; i++) {
        struct run *r = &gp->runs[i];
        if (run_state(gp, r) == LEDGER_WAITING)
            r->flags |= r->flags & RUN_LATE ? RUN_INCOMPLETE : RUN_EXPIRED;
        else
            run_abandon(gp, r);
    }
    judge_trim(gp, from, to, why);
    runs_merge(gp);
    runs_fold(gp);
}

void ledger_trimmed(struct ledger *l, struct ledger_time t, struct uuid topic_id, int32_t partition,
                    int64_t new_start, enum ledger_trim why)
{
    l->now = t;
    struct tp *tp = find_tp(l, topic_id, partition);
    if (!tp)
        return;
    tp->trim_admin = why == LEDGER_TRIM_DELETE_RECORDS;
    for (size_t i = 0; i < tp->n_gps; i++)
        gp_trim(tp->gps[i], new_start, why);
}

// May somebody have been sent what the ledger does not know of? The machine went down, and with it
// all that was not in a snapshot.
static bool may_have_been_sent(const struct gp *gp)
{
    for (size_t i = 0; i < gp->n_spells; i++)
        if (!gp->spells[i]->live)
            return true;
    return gp->k > runs_sent_end(gp);
}

void ledger_records_lost(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                         int32_t partition, struct ledger_range range)
{
    l->now = t;
    struct tp *tp = find_tp(l, topic_id, partition);
    for (size_t i = 0; tp && i < tp->n_gps; i++) {
        struct gp *gp = tp->gps[i];
        runs_flag(gp, range.from, range.to, RUN_GONE, false);
        int64_t from = gp->k > gp->base ? gp->k : gp->base;
        if (range.from > from)
            from = range.from;
        if (gp->first < 0 || from >= range.to)
            continue;
        run_split(gp, from);
        run_split(gp, range.to);
        for (size_t j = run_at(gp, from); j < gp->n_runs && gp->runs[j].from < range.to; j++) {
            struct run *r = &gp->runs[j];
            if (run_state(gp, r) == LEDGER_WAITING)
                r->flags |=
                    r->flags & RUN_LATE || may_have_been_sent(gp) ? RUN_INCOMPLETE : RUN_EXPIRED;
            else
                run_abandon(gp, r);
        }
        judge_trim(gp, from, range.to, LEDGER_TRIM_LOST);
        runs_merge(gp);
    }
}

void ledger_duplicate_produced(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                               int32_t partition, int64_t first, int64_t offset, struct str proof)
{
    l->now = t;
    struct tp *tp = find_tp(l, topic_id, partition);
    for (size_t i = 0; tp && i < tp->n_gps; i++) {
        struct gp *gp = tp->gps[i];
        struct incident *in = incident_open(gp->group, gp, LEDGER_NOTE, CAUSE_LOG_DUPLICATE, offset,
                                            offset + 1, 0, 0);
        if (!in)
            continue;
        in->v.certainty = LEDGER_LIKELY;
        incident_prove(in, "Produce", t.wall_ms, "the record at %lld stands at %lld as well: %.*s",
                       (long long)first, (long long)offset, STR_FMT(proof));
    }
}

void ledger_lso_pinned(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                       int32_t partition, int64_t lso, int64_t since_wall_ms)
{
    l->now = t;
    struct tp *tp = find_tp(l, topic_id, partition);
    for (size_t i = 0; tp && i < tp->n_gps; i++) {
        struct gp *gp = tp->gps[i];
        int64_t end = log_bounds(gp).to;
        if (!open_spell(gp) || lso >= end)
            continue;
        struct incident *in = incident_open(gp->group, gp, LEDGER_STALLED, CAUSE_STALLED, lso, end,
                                            0, open_spell(gp)->id);
        if (!in)
            continue;
        in->v.certainty = LEDGER_CERTAIN;
        incident_prove(in, "Fetch", t.wall_ms,
                       "an open transaction holds the last stable offset at %lld for %lld ms",
                       (long long)lso, (long long)(t.wall_ms - since_wall_ms));
    }
}
