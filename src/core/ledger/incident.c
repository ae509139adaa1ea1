// Incidents: one for one event and adjacent ranges, one id for life.

#include "core/ledger/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void party_drop(struct ledger_party *p)
{
    drop(&p->member);
    drop(&p->client_id);
    drop(&p->host);
    drop(&p->software);
}

// Names may be 32 KB long, and incidents are kept in great numbers. Cut at a whole character.
static struct str shown(struct str s)
{
    if (s.len <= PARTY_NAME_MAX)
        return s;
    s.len = PARTY_NAME_MAX;
    while (s.len > 0 && ((unsigned char)s.ptr[s.len] & 0xc0) == 0x80)
        s.len--;
    return s;
}

void party_set(struct ledger_party *to, const struct ledger_party *from)
{
    struct ledger_party was = *to;
    *to = (struct ledger_party){keep(shown(from->member)), keep(shown(from->client_id)),
                                keep(shown(from->host)), keep(shown(from->software))};
    party_drop(&was);
}

void incident_free(struct incident *i)
{
    party_drop(&i->v.from);
    party_drop(&i->v.to);
    for (size_t n = 0; n < i->v.n_evidence; n++)
        drop(&i->proofs[n].summary);
    drop(&i->v.advice);
    free(i);
}

void incident_touch(struct incident *i)
{
    struct ledger *l = i->group->l;
    i->v.version = ++l->version;
    if (i->gp && i->v.class == LEDGER_MISSED && i->v.last >= i->gp->missed_end)
        i->gp->missed_end = i->v.last + 1;
    if (i->dirty)
        return;
    i->dirty = true;
    l->dirty = more(l->dirty, l->n_dirty, sizeof(struct incident *));
    l->dirty[l->n_dirty++] = i;
}

// When what it tells of is sent after all. What is at risk because a commit came before the work
// was sent, and is sent to nobody again.
static bool sending_resolves(const struct incident *in)
{
    return in->v.class == LEDGER_MISSED ||
           (in->v.class == LEDGER_RISK && in->v.cause != CAUSE_COMMIT_BEFORE_WORK);
}

static bool may_be_resolved(const struct incident *in)
{
    return in && !in->v.resolved && sending_resolves(in);
}

// The oldest is forgotten, but first what nothing can be said against any more: somebody may go
// back far for what was missed.
static void remember(struct incident **recent, struct incident *i)
{
    size_t at = RECENT_MAX - 1, n_missed = 0;
    for (size_t n = 0; n < RECENT_MAX; n++)
        n_missed += may_be_resolved(recent[n]);
    while (n_missed <= RECENT_MAX / 2 && may_be_resolved(recent[at]))
        at--;
    memmove(recent + 1, recent, at * sizeof(struct incident *));
    recent[0] = i;
}

static void forget(struct incident **recent, const struct incident *i)
{
    for (size_t n = 0; n < RECENT_MAX; n++)
        if (recent[n] == i) {
            memmove(recent + n, recent + n + 1, (RECENT_MAX - 1 - n) * sizeof(struct incident *));
            recent[RECENT_MAX - 1] = NULL;
            return;
        }
}

// The oldest quarter goes when there are too many: an endless loop must not eat the memory.
static void incidents_prune(struct ledger *l)
{
    if (l->n_incidents < INCIDENTS_MAX)
        return;
    size_t gone = INCIDENTS_MAX / 4;
    for (size_t i = 0; i < gone; i++) {
        struct incident *in = l->incidents[i];
        forget(in->gp ? in->gp->recent : in->group->recent, in);
        for (size_t j = 0; j < l->n_dirty; j++)
            if (l->dirty[j] == in)
                l->dirty[j--] = l->dirty[--l->n_dirty];
        in->group->n_incidents--;
        incident_free(in);
    }
    memmove(l->incidents, l->incidents + gone, (l->n_incidents - gone) * sizeof(struct incident *));
    l->n_incidents -= gone;
}

struct incident *incident_add(struct group *g, struct gp *gp)
{
    struct ledger *l = g->l;
    incidents_prune(l);
    if (l->n_incidents == l->cap_incidents) {
        l->cap_incidents = l->cap_incidents ? l->cap_incidents * 2 : 16;
        l->incidents = realloc(l->incidents, l->cap_incidents * sizeof(struct incident *));
        CHECK(l->incidents);
    }
    struct incident *in = calloc(1, sizeof *in);
    CHECK(in);
    l->incidents[l->n_incidents++] = in;
    in->group = g;
    g->n_incidents++;
    in->gp = gp;
    in->cap = LEDGER_CERTAIN;
    in->v.group = g->name;
    in->v.partition = gp ? gp->tp->partition : -1;
    if (gp)
        in->v.topic_id = gp->tp->topic->id;
    in->v.likely_at_most = -1;
    in->v.advice = STR_NULL;
    in->v.from = in->v.to = (struct ledger_party){STR_NULL, STR_NULL, STR_NULL, STR_NULL};
    in->v.evidence = in->proofs;
    remember(gp ? gp->recent : g->recent, in);
    return in;
}

static bool adjacent(const struct incident *in, int64_t from, int64_t to)
{
    return from <= in->v.last + 1 && to >= in->v.first;
}

static bool same_event(const struct incident *in, enum ledger_class class, enum cause cause,
                       int64_t from, int64_t to, uint32_t to_spell)
{
    if (!adjacent(in, from, to))
        return false;
    bool again = class == LEDGER_RESENT && cause > CAUSE_DUP_TWO_OWNERS && in->gp &&
                 in->k == in->gp->k && in->v.class != LEDGER_NOTE;
    // The same records once more while K stands still: the same event, whatever it is called now.
    if (again && in->v.cause == CAUSE_RETRY_LOOP)
        return true;
    if (in->v.class != class || in->v.cause != cause)
        return false;
    if (again || in->to_spell == to_spell)
        return true;
    return false;
}

static void grow(struct incident *in, int64_t from, int64_t to)
{
    if (from < in->v.first)
        in->v.first = from;
    if (to - 1 > in->v.last)
        in->v.last = to - 1;
    in->v.records = in->gp ? data_in(in->gp, in->v.first, in->v.last + 1) : 0;
}

static void set_spells(struct incident *in, uint32_t from_spell, uint32_t to_spell,
                       struct ledger_range part)
{
    struct ledger_range *p = &in->part;
    bool goes_on = in->from_spell == from_spell && in->to_spell == to_spell && p->from <= part.to &&
                   part.from <= p->to;
    in->from_spell = from_spell;
    in->to_spell = to_spell;
    if (!goes_on)
        *p = part;
    p->from = part.from < p->from ? part.from : p->from;
    p->to = part.to > p->to ? part.to : p->to;
}

// The open incident that this belongs to, grown, or a new one; NULL while replaying.
struct incident *incident_open(struct group *g, struct gp *gp, enum ledger_class class,
                               enum cause cause, int64_t from, int64_t to, uint32_t from_spell,
                               uint32_t to_spell)
{
    struct ledger *l = g->l;
    if (l->replay)
        return NULL;
    struct incident **recent = gp ? gp->recent : g->recent;
    struct incident *in = NULL;
    for (size_t i = 0; i < RECENT_MAX && recent[i] && !in; i++) {
        bool same = gp ? same_event(recent[i], class, cause, from, to, to_spell)
                       : recent[i]->v.cause == cause && recent[i]->v.class == class;
        if (same)
            in = recent[i];
    }
    bool fresh = !in;
    if (fresh) {
        in = incident_add(g, gp);
        in->v.id = l->next_incident++;
        in->v.wall_ms = l->now.wall_ms;
        in->v.class = class;
        in->v.cause = cause;
        in->v.first = from;
        in->v.last = to - 1;
        in->v.forced = g->forced;
    }
    if (gp) {
        grow(in, from, to);
        in->k = gp->k;
    } else {
        in->v.first = in->v.last = -1;
    }
    set_spells(in, from_spell, to_spell, (struct ledger_range){from, to});
    in->v.closed = false;
    if (fresh)
        incident_advise(in);
    incident_touch(in);
    return in;
}

void incident_parties(struct incident *i)
{
    const struct spell *from = i->gp ? find_spell(i->gp, i->from_spell) : NULL;
    const struct spell *to = i->gp ? find_spell(i->gp, i->to_spell) : NULL;
    if (from && !str_eq(i->v.from.member, shown(from->party.member)))
        party_set(&i->v.from, &from->party);
    else if (from && i->v.from.client_id.len < 0)
        party_set(&i->v.from, &from->party);
    if (to && (!str_eq(i->v.to.member, shown(to->party.member)) || i->v.to.client_id.len < 0))
        party_set(&i->v.to, &to->party);
}

void incident_prove(struct incident *i, const char *api, int64_t wall_ms, const char *format, ...)
{
    if (i->v.n_evidence == PROOFS_MAX)
        return;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    i->proofs[i->v.n_evidence++] = (struct ledger_proof){wall_ms, api, keep(str_from(text))};
    incident_touch(i);
}

static enum ledger_certainty least(enum ledger_certainty a, enum ledger_certainty b)
{
    return a < b ? a : b;
}

static enum ledger_certainty pair_certainty(const struct spell *from, const struct spell *to,
                                            int64_t first, int64_t end)
{
    if (!from || !to)
        return LEDGER_POSSIBLE;
    enum ledger_certainty c = least(from->attribution, to->attribution);
    c = least(c, spell_delivery(from, first, end));
    return least(c, spell_delivery(to, first, end));
}

// Where it grew over several turns, its last two spells may have been sent a part of it only: the
// rest is as sure as the two that were sent that.
static enum ledger_certainty resend_certainty(const struct incident *in, const struct spell *from,
                                              const struct spell *to)
{
    const struct gp *gp = in->gp;
    int64_t end = in->v.last + 1;
    if (in->part.from <= in->v.first && in->part.to >= end)
        return pair_certainty(from, to, in->v.first, end);
    enum ledger_certainty c = in->v.first < gp->base ? in->v.certainty : LEDGER_CERTAIN;
    for (size_t i = run_at(gp, in->v.first); i < gp->n_runs && gp->runs[i].from < end; i++) {
        const struct run *r = &gp->runs[i];
        int64_t at = r->from > in->v.first ? r->from : in->v.first;
        int64_t until = run_end(gp, i) < end ? run_end(gp, i) : end;
        if (r->flags & RUN_GONE)
            continue;
        enum ledger_certainty of_it = LEDGER_POSSIBLE;
        if (r->n >= 2)
            of_it = pair_certainty(find_spell(gp, r->prev), find_spell(gp, r->spell), at, until);
        if (of_it < LEDGER_CERTAIN && in->part.from <= at && in->part.to >= until) {
            enum ledger_certainty last = pair_certainty(from, to, at, until);
            of_it = last > of_it ? last : of_it;
        }
        c = least(c, of_it);
    }
    return c;
}

// What the certainty of a re-send rests on may become better known: deliveries are confirmed.
void incidents_recheck(struct gp *gp, uint32_t spell)
{
    for (size_t i = 0; i < RECENT_MAX && gp->recent[i]; i++) {
        struct incident *in = gp->recent[i];
        bool rests = in->from_spell == spell || in->to_spell == spell;
        bool wire = in->v.class == LEDGER_RESENT || in->v.class == LEDGER_STALLED ||
                    (in->v.class == LEDGER_NOTE && in->v.cause == CAUSE_NOT_A_FAULT);
        const struct spell *from = find_spell(gp, in->from_spell);
        const struct spell *to = find_spell(gp, in->to_spell);
        if (!rests || !wire || !from || !to || in->from_spell == in->to_spell ||
            in->v.cause == CAUSE_DUP_TWO_OWNERS)
            continue;
        enum ledger_certainty attribution = least(from->attribution, to->attribution);
        enum ledger_certainty c = least(resend_certainty(in, from, to), in->cap);
        if (c == in->v.certainty && attribution == in->v.attribution)
            continue;
        in->v.certainty = c;
        in->v.attribution = attribution;
        incident_touch(in);
    }
}

static void incident_close(struct incident *in)
{
    if (in->v.closed)
        return;
    in->v.closed = true;
    incident_touch(in);
}

void incidents_passed(struct gp *gp)
{
    for (size_t i = 0; i < RECENT_MAX && gp->recent[i]; i++)
        if (gp->k > gp->recent[i]->v.last)
            incident_close(gp->recent[i]);
}

void incidents_spell_ended(struct gp *gp, uint32_t id)
{
    for (size_t i = 0; i < RECENT_MAX && gp->recent[i]; i++)
        if (gp->recent[i]->to_spell == id)
            incident_close(gp->recent[i]);
}

// Data records of an incident that were sent to nobody yet, or to nobody again.
static int64_t unsent_of(const struct gp *gp, const struct incident *in)
{
    int64_t n = 0, from = in->v.first, to = in->v.last + 1;
    bool is_missed = in->v.class == LEDGER_MISSED;
    for (size_t i = run_at(gp, from); i < gp->n_runs && gp->runs[i].from < to; i++) {
        int64_t at = gp->runs[i].from > from ? gp->runs[i].from : from;
        int64_t end = run_end(gp, i) < to ? run_end(gp, i) : to;
        if (is_missed ? !gp->runs[i].n : gp->runs[i].flags & RUN_ABANDONED)
            n += data_in(gp, at, end);
    }
    return n;
}

static bool may_touch(const struct incident *in, int64_t from, int64_t to)
{
    return may_be_resolved(in) && from <= in->v.last && to > in->v.first;
}

void incidents_sent(struct gp *gp, const struct spell *s, int64_t from, int64_t to)
{
    // Whether it was this owner that was sent them is a guess.
    if (s->attribution == LEDGER_POSSIBLE) {
        incidents_doubt(gp, from, to);
        return;
    }
    for (size_t i = 0; i < RECENT_MAX && gp->recent[i]; i++) {
        struct incident *in = gp->recent[i];
        if (!may_touch(in, from, to) || in->v.first < gp->base)
            continue;
        int64_t left = unsent_of(gp, in);
        if (left >= in->v.records)
            continue;
        if (left == 0)
            in->v.resolved = in->v.closed = true;
        else
            in->v.records = left;
        incident_touch(in);
    }
}

void incidents_unsent(struct gp *gp, int64_t from, int64_t to)
{
    for (size_t i = 0; i < RECENT_MAX && gp->recent[i]; i++) {
        struct incident *in = gp->recent[i];
        if (!sending_resolves(in) || from > in->v.last || to <= in->v.first ||
            in->v.first < gp->base)
            continue;
        int64_t left = unsent_of(gp, in);
        if (left == 0 || (left <= in->v.records && !in->v.resolved))
            continue;
        in->v.records = left;
        in->v.resolved = false;
        incident_touch(in);
    }
}

void incidents_doubt(struct gp *gp, int64_t from, int64_t to)
{
    for (size_t i = 0; i < RECENT_MAX && gp->recent[i]; i++) {
        struct incident *in = gp->recent[i];
        if (in->v.class != LEDGER_MISSED || !may_touch(in, from, to) ||
            in->v.certainty == LEDGER_POSSIBLE)
            continue;
        in->v.certainty = in->cap = LEDGER_POSSIBLE;
        incident_touch(in);
    }
}
