// What the ledger shows, and whether it adds up.

#include "core/ledger/internal.h"

#include <stdlib.h>
#include <string.h>

static void *nth(const struct map *m, size_t *it)
{
    void *item = NULL;
    return map_next(m, it, NULL, &item) ? item : NULL;
}

bool ledger_next_group(const struct ledger *l, size_t *it, struct ledger_group_view *ret)
{
    const struct group *g = nth(l->groups, it);
    while (g && g->removed)
        g = nth(l->groups, it);
    if (!g)
        return false;
    size_t live = 0;
    for (size_t i = 0; i < g->n_members; i++)
        live += g->members[i]->live;
    *ret = (struct ledger_group_view){g->name, g->expect_set ? g->expect : l->expect_default, live};
    return true;
}

static void view_gp(const struct gp *gp, struct ledger_partition_view *ret)
{
    struct ledger_range log = log_bounds(gp);
    const struct spell *s = open_spell(gp);
    *ret = (struct ledger_partition_view){
        .topic_id = gp->tp->topic->id,
        .topic = gp->tp->topic->name,
        .partition = gp->tp->partition,
        .log_start = log.from,
        .first = gp->first,
        .end = log.to > gp->first ? log.to : gp->first,
        .committed_offset = gp->k_external ? -1 : gp->k,
        .owner = s ? s->party.member : STR_NULL,
    };
    runs_count(gp, ret);
}

bool ledger_next_partition(const struct ledger *l, struct str group, size_t *it,
                           struct ledger_partition_view *ret)
{
    const struct group *g = find_group(l, group);
    while (g && *it < g->n_gps) {
        const struct gp *gp = g->gps[(*it)++];
        if (gp->first < 0 || gp->tp->topic->deleted)
            continue;
        view_gp(gp, ret);
        return true;
    }
    return false;
}

bool ledger_partition(const struct ledger *l, struct str group, struct uuid topic_id,
                      int32_t partition, struct ledger_partition_view *ret)
{
    const struct group *g = find_group(l, group);
    const struct gp *gp = g ? find_gp(g, find_tp(l, topic_id, partition)) : NULL;
    if (!gp || gp->first < 0)
        return false;
    view_gp(gp, ret);
    return true;
}

bool ledger_next_incident(const struct ledger *l, struct str group, uint64_t since, size_t *it,
                          struct ledger_incident_view *ret)
{
    // A report asks for each of many groups: those that have none must cost nothing.
    const struct group *g = group.len >= 0 ? find_group(l, group) : NULL;
    if (group.len >= 0 && (!g || !g->n_incidents))
        return false;
    while (*it < l->n_incidents) {
        const struct incident *in = l->incidents[(*it)++];
        if (in->v.version <= since || (g && g != in->group))
            continue;
        *ret = in->v;
        ret->topic = in->gp ? in->gp->tp->topic->name : STR_NULL;
        if (ret->advice.len < 0)
            ret->advice = str_from(cause_def(in->v.cause)->advice);
        return true;
    }
    return false;
}

static const struct ledger_handover_view *view_parts(const struct rebalance *r)
{
    struct ledger *l = r->group->l;
    if (r->n_parts > l->parts_room) {
        l->parts_room = r->n_parts * 2;
        l->parts = realloc(l->parts, l->parts_room * sizeof *l->parts);
        CHECK(l->parts);
    }
    struct ledger_handover_view *parts = l->parts;
    for (size_t i = 0; i < r->n_parts; i++) {
        const struct handover *h = &r->parts[i];
        parts[i] = (struct ledger_handover_view){
            h->tp->topic->id, h->tp->topic->name, h->tp->partition, h->from, h->to,
            h->pause_ms,      h->resent};
    }
    return parts;
}

static bool view_rebalance(const struct rebalance *r, struct ledger_rebalance_view *ret)
{
    *ret = (struct ledger_rebalance_view){
        .id = r->id,
        .group = r->group->name,
        .wall_ms = r->wall_ms,
        .ended_wall_ms = r->ended_wall_ms,
        .from_generation = r->from_generation,
        .to_generation = r->to_generation,
        .trigger = r->trigger,
        .member = r->member,
        .reason = r->reason,
        .waited_for = r->waited_for,
        .forced = r->forced,
        .partitions = view_parts(r),
        .n_partitions = r->n_parts,
    };
    return true;
}

bool ledger_next_rebalance(const struct ledger *l, struct str group, size_t *it,
                           struct ledger_rebalance_view *ret)
{
    if (group.len >= 0) {
        const struct group *g = find_group(l, group);
        return g && *it < g->n_rebalances && view_rebalance(g->rebalances[(*it)++], ret);
    }
    size_t skip = *it;
    void *item;
    for (size_t at = 0; map_next(l->groups, &at, NULL, &item);) {
        const struct group *g = item;
        if (skip < g->n_rebalances) {
            (*it)++;
            return view_rebalance(g->rebalances[skip], ret);
        }
        skip -= g->n_rebalances;
    }
    return false;
}

enum ledger_state ledger_state_of(const struct ledger *l, struct str group, struct uuid topic_id,
                                  int32_t partition, int64_t offset, uint32_t *ret_n)
{
    const struct group *g = find_group(l, group);
    const struct gp *gp = g ? find_gp(g, find_tp(l, topic_id, partition)) : NULL;
    *ret_n = 0;
    if (!gp || gp->first < 0 || offset < gp->base)
        return LEDGER_UNKNOWN;
    struct run r = gp->runs[run_at(gp, offset)];
    r.from = offset;
    *ret_n = r.n;
    return data_in(gp, offset, offset + 1) ? run_state(gp, &r) : LEDGER_NOT_DATA;
}

bool ledger_is_covered(const struct ledger *l, struct str group, struct uuid topic_id,
                       int32_t partition, int64_t offset)
{
    const struct group *g = find_group(l, group);
    const struct gp *gp = g ? find_gp(g, find_tp(l, topic_id, partition)) : NULL;
    return gp && gp->first >= 0 && offset >= gp->base &&
           !(gp->runs[run_at(gp, offset)].flags & (RUN_INCOMPLETE | RUN_LATE));
}

bool ledger_stretch(const struct ledger *l, struct str group, struct uuid topic_id,
                    int32_t partition, int64_t offset, struct ledger_stretch *ret)
{
    const struct group *g = find_group(l, group);
    const struct gp *gp = g ? find_gp(g, find_tp(l, topic_id, partition)) : NULL;
    if (!gp || gp->first < 0 || offset < gp->base)
        return false;
    size_t i = run_at(gp, offset);
    struct run r = gp->runs[i];
    r.from = offset;
    int64_t until = run_end(gp, i);
    if (offset < gp->k && gp->k < until)
        until = gp->k;
    *ret = (struct ledger_stretch){until, run_state(gp, &r), r.n,
                                   !(r.flags & (RUN_INCOMPLETE | RUN_LATE))};
    return true;
}

static bool gp_adds_up(const struct gp *gp, struct buf *why)
{
    struct ledger_partition_view v;
    view_gp(gp, &v);
    int64_t sum = 0;
    bool negative = false;
    for (size_t i = 0; i < LEDGER_STATES; i++) {
        sum += v.state[i];
        negative = negative || v.state[i] < 0;
    }
    bool ordered = gp->n_runs && gp->runs[0].from == gp->base;
    for (size_t i = 1; i < gp->n_runs; i++)
        ordered = ordered && gp->runs[i - 1].from < gp->runs[i].from;
    if (sum == v.end - v.first && !negative && ordered)
        return true;
    buf_printf(why, "group %.*s topic %.*s partition %d: the states add up to %lld, not to %lld%s",
               STR_FMT(gp->group->name), STR_FMT(v.topic), v.partition, (long long)sum,
               (long long)(v.end - v.first), ordered ? "" : ", runs out of order");
    return false;
}

bool ledger_verify(const struct ledger *l, struct buf *ret_why)
{
    void *item;
    for (size_t it = 0; map_next(l->groups, &it, NULL, &item);) {
        const struct group *g = item;
        for (size_t i = 0; i < g->n_gps; i++)
            if (g->gps[i]->first >= 0 && !g->gps[i]->tp->topic->deleted &&
                !gp_adds_up(g->gps[i], ret_why))
                return false;
    }
    return true;
}
