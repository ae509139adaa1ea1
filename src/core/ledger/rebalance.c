// Rebalances as objects of their own: who, why, how long each partition rested.

#include "core/ledger/internal.h"

#include <stdlib.h>
#include <string.h>

void rebalance_free(struct rebalance *r)
{
    for (size_t i = 0; i < r->n_parts; i++) {
        drop(&r->parts[i].from);
        drop(&r->parts[i].to);
    }
    free(r->parts);
    drop(&r->member);
    drop(&r->reason);
    drop(&r->waited_for);
    free(r);
}

void rebalance_touch(struct rebalance *r)
{
    r->dirty = true;
    r->group->l->rebalances_dirty = true;
}

struct rebalance *rebalance_add(struct group *g)
{
    if (g->n_rebalances == REBALANCES_MAX) {
        rebalance_free(g->rebalances[0]);
        memmove(g->rebalances, g->rebalances + 1,
                (REBALANCES_MAX - 1) * sizeof(struct rebalance *));
        g->n_rebalances--;
    }
    struct rebalance *r = calloc(1, sizeof *r);
    CHECK(r);
    r->group = g;
    r->ended_wall_ms = -1;
    r->to_generation = -1;
    r->member = r->reason = r->waited_for = STR_NULL;
    g->rebalances = realloc(g->rebalances, (g->n_rebalances + 1) * sizeof(struct rebalance *));
    CHECK(g->rebalances);
    g->rebalances[g->n_rebalances++] = r;
    return r;
}

void rebalance_begin(struct group *g, int32_t generation, enum ledger_trigger trigger,
                     struct str member, struct str reason)
{
    g->rebalancing = true;
    g->last.trigger = trigger;
    if (g->l->replay)
        return; // its record is the truth
    struct rebalance *r = rebalance_add(g);
    r->id = g->l->next_rebalance++;
    r->wall_ms = g->l->now.wall_ms;
    r->began_ms = g->l->now.now_ms;
    r->from_generation = generation;
    r->trigger = trigger;
    r->member = keep(member);
    r->reason = keep(reason);
    r->forced = g->forced;
    rebalance_touch(r);
    g->now = r;
    for (size_t i = 0; i < g->n_members; i++)
        g->members[i]->joined_now = false;
}

void rebalance_end(struct group *g, int32_t generation)
{
    g->rebalancing = false;
    if (!g->now)
        return;
    g->now->to_generation = generation;
    g->now->ended_wall_ms = g->l->now.wall_ms;
    rebalance_touch(g->now);
    g->last.rebalance = g->now->id;
    g->now = NULL;
}

// The owner before: the last spell that is not this one.
static const struct spell *spell_before(const struct gp *gp, const struct spell *s)
{
    const struct spell *before = NULL;
    for (size_t i = 0; i < gp->n_spells && gp->spells[i] != s; i++)
        before = gp->spells[i];
    return before;
}

void rebalance_handover(struct gp *gp, struct spell *to)
{
    struct rebalance *r = gp->group->now;
    if (!r)
        return;
    const struct spell *from = spell_before(gp, to);
    r->parts = more(r->parts, r->n_parts, sizeof *r->parts);
    r->parts[r->n_parts++] = (struct handover){
        .tp = gp->tp,
        .gp = gp,
        .spell = to->id,
        .from = keep(from ? from->party.member : STR_NULL),
        .to = keep(to->party.member),
        .last_before_ms = gp->sent_ms,
        .pause_ms = -1,
    };
    rebalance_touch(r);
}

static struct handover *handover_of(const struct gp *gp, const struct spell *s,
                                    struct rebalance **ret_rebalance)
{
    struct group *g = gp->group;
    for (size_t i = g->n_rebalances; s->rebalance && i-- > 0;) {
        struct rebalance *r = g->rebalances[i];
        if (r->id != s->rebalance)
            continue;
        for (size_t j = 0; j < r->n_parts; j++)
            if (r->parts[j].gp == gp && r->parts[j].spell == s->id) {
                *ret_rebalance = r;
                return &r->parts[j];
            }
        return NULL;
    }
    return NULL;
}

void rebalance_first_send(struct gp *gp, struct spell *s)
{
    struct rebalance *r;
    struct handover *h = handover_of(gp, s, &r);
    if (!h || !h->last_before_ms)
        return;
    h->pause_ms = (int64_t)(gp->group->l->now.now_ms - h->last_before_ms);
    rebalance_touch(r);
}

// Soft: the count grows with every send, the journal gets it with the next snapshot.
void rebalance_resent(struct gp *gp, const struct spell *s, int64_t records)
{
    struct rebalance *r;
    struct handover *h = handover_of(gp, s, &r);
    if (h)
        h->resent += records;
}
