// Spells: from a partition entering a member's owned list until it leaves it.

#include "core/ledger/internal.h"

#include <stdlib.h>
#include <string.h>

static void drop_party(struct ledger_party *p)
{
    drop(&p->member);
    drop(&p->client_id);
    drop(&p->host);
    drop(&p->software);
}

void spell_free(struct spell *s)
{
    drop_party(&s->party);
    drop(&s->principal);
    free(s);
}

struct spell *find_spell(const struct gp *gp, uint32_t id)
{
    for (size_t i = gp->n_spells; i-- > 0;)
        if (gp->spells[i]->id == id)
            return gp->spells[i];
    return NULL;
}

struct spell *spell_of(const struct gp *gp, const struct member *m)
{
    for (size_t i = gp->n_spells; i-- > 0;)
        if (gp->spells[i]->member == m && gp->spells[i]->life != SPELL_ENDED)
            return gp->spells[i];
    return NULL;
}

struct spell *open_spell(const struct gp *gp)
{
    for (size_t i = gp->n_spells; i-- > 0;)
        if (gp->spells[i]->life != SPELL_ENDED)
            return gp->spells[i];
    return NULL;
}

// Forgets the oldest ended spell when there are too many. Its runs then name nobody.
static void spells_prune(struct gp *gp)
{
    if (gp->n_spells <= SPELLS_MAX)
        return;
    for (size_t i = 0; i < gp->n_spells; i++) {
        if (gp->spells[i]->life != SPELL_ENDED)
            continue;
        spell_free(gp->spells[i]);
        memmove(gp->spells + i, gp->spells + i + 1, (gp->n_spells - i - 1) * sizeof *gp->spells);
        gp->n_spells--;
        gp->group->l->bindings++;
        return;
    }
}

struct spell *spell_add(struct gp *gp)
{
    struct spell *s = calloc(1, sizeof *s);
    CHECK(s);
    spells_prune(gp);
    gp->spells = realloc(gp->spells, (gp->n_spells + 1) * sizeof(struct spell *));
    CHECK(gp->spells);
    gp->spells[gp->n_spells++] = s;
    s->id = gp->next_spell++;
    s->first_p = s->position = s->sent_end = s->acked_end = s->confirmed_end = -1;
    // An external K is only what we think of it.
    s->k_begin = gp->k_external ? -1 : gp->k;
    s->k_end = s->k_before_last = s->last_commit = s->commit_step = -1;
    s->refused_k = s->lost_k = s->rewound_to = s->rewound_k = -1;
    s->attribution = LEDGER_CERTAIN;
    s->party = (struct ledger_party){STR_NULL, STR_NULL, STR_NULL, STR_NULL};
    s->principal = STR_NULL;
    gp->group->l->bindings++;
    return s;
}

struct spell *spell_begin(struct gp *gp, struct member *m)
{
    struct group *g = gp->group;
    struct spell *s = spell_add(gp);
    s->member = m;
    s->began_ms = s->fetched_ms = g->l->now.now_ms;
    s->live = !g->l->replay;
    s->rebalance = g->now ? g->now->id : 0;
    if (m) {
        gp->asked = -2; // it asks for itself
        s->party = (struct ledger_party){keep(m->id), keep(m->who.client_id), keep(m->who.host),
                                         keep(m->who.software)};
        s->principal = keep(m->who.principal);
        rebalance_handover(gp, s);
    }
    return s;
}

// What it was sent and had left the log meanwhile is given up with it.
static void spell_abandon_trimmed(struct gp *gp)
{
    if (gp->first < 0)
        return;
    int64_t start = log_bounds(gp).from;
    int64_t from = gp->k > gp->base ? gp->k : gp->base;
    if (from >= start)
        return;
    run_split(gp, from);
    run_split(gp, start);
    bool any = false;
    for (size_t i = run_at(gp, from); i < gp->n_runs && gp->runs[i].from < start; i++)
        any = run_abandon(gp, &gp->runs[i]) || any;
    if (any)
        judge_trim(gp, from, start, LEDGER_TRIM_RETENTION);
    runs_merge(gp);
}

void spell_end(struct gp *gp, struct spell *s, enum ledger_trigger why, bool orderly)
{
    if (s->life == SPELL_ENDED)
        return;
    s->life = SPELL_ENDED;
    s->orderly = orderly;
    s->end_trigger = why;
    s->ended_ms = gp->group->l->now.now_ms;
    s->k_end = gp->k;
    gp->group->l->bindings++;
    spell_abandon_trimmed(gp);
    judge_spell_end(gp, s);
    incidents_spell_ended(gp, s->id);
}

enum ledger_certainty spell_delivery(const struct spell *s, int64_t from, int64_t to)
{
    (void)from;
    if (to <= s->confirmed_end)
        return LEDGER_CERTAIN;
    return to <= s->acked_end ? LEDGER_LIKELY : LEDGER_POSSIBLE;
}

static void run_send(struct gp *gp, struct spell *s, size_t i)
{
    struct run *r = &gp->runs[i];
    if (r->flags & RUN_GONE)
        return;
    r->flags &= (uint8_t)~RUN_THROWN;
    if (r->spell == s->id || r->prev == s->id) {
        r->flags &= (uint8_t)~RUN_ABANDONED;
        return;
    }
    struct run was = *r;
    if (r->n < UINT8_MAX)
        r->n++;
    r->prev = r->spell;
    r->spell = s->id;
    r->taken = r->flags & (RUN_ABANDONED | RUN_EXPIRED | RUN_LATE);
    r->flags ^= r->taken;
    int64_t end = run_end(gp, i);
    if (was.n)
        judge_resend(gp, s, &was, was.from, end);
}

// The healthy case: the next records of a partition that one member reads in order.
static bool send_next(struct gp *gp, const struct spell *s, int64_t from, int64_t to)
{
    if (gp->n_runs < 2)
        return false;
    struct run *last = &gp->runs[gp->n_runs - 1], *before = last - 1;
    if (last->from != from || last->n || last->flags || before->spell != s->id || before->n != 1 ||
        before->prev || before->flags || before->taken || from < gp->k || from < gp->missed_end)
        return false;
    last->from = to;
    return true;
}

void spell_send(struct gp *gp, struct spell *s, int64_t from, int64_t to)
{
    if (from < gp->base)
        from = gp->base;
    if (gp->first < 0 || from >= to)
        return;
    gp->sent_ms = gp->group->l->now.now_ms;
    if (!s->sent_any) {
        s->sent_any = true;
        rebalance_first_send(gp, s);
    }
    if (to > s->sent_end) {
        s->sent_end = to;
        gp->moved_ms = gp->sent_ms;
    }
    if (!send_next(gp, s, from, to)) {
        run_split(gp, from);
        run_split(gp, to);
        for (size_t i = run_at(gp, from); i < gp->n_runs && gp->runs[i].from < to; i++)
            run_send(gp, s, i);
        incidents_sent(gp, s, from, to);
        runs_merge(gp);
        runs_fold(gp);
    }
    if (gp->late.from < gp->late.to)
        judge_late(gp, s, from, to);
}

static bool was_sent(const struct run *r, const struct spell *s)
{
    return r->spell == s->id || r->prev == s->id;
}

// What its turn was sent before stays sent when an answer that holds it once more is cut.
struct ledger_range spell_fresh(const struct gp *gp, const struct spell *s, struct ledger_range r)
{
    if (gp->first < 0 || r.from >= s->sent_end)
        return r;
    int64_t from = r.from > gp->base ? r.from : gp->base;
    size_t i = run_at(gp, from);
    for (; from < r.to && was_sent(&gp->runs[i], s); i++)
        from = run_end(gp, i);
    int64_t to = from;
    for (; to < r.to && !was_sent(&gp->runs[i], s); i++)
        to = run_end(gp, i);
    from = from < r.to ? from : r.to;
    return (struct ledger_range){from, to < r.to ? to : r.to};
}

void spell_unsend(struct gp *gp, struct spell *s, int64_t from, int64_t to)
{
    if (from < gp->base)
        from = gp->base;
    if (gp->first < 0 || from >= to)
        return;
    run_split(gp, from);
    run_split(gp, to);
    for (size_t i = run_at(gp, from); i < gp->n_runs && gp->runs[i].from < to; i++) {
        struct run *r = &gp->runs[i];
        if (r->spell != s->id || !r->n)
            continue;
        r->n--;
        r->spell = r->n ? r->prev : 0;
        r->prev = 0;
        r->flags |= r->taken;
        r->taken = 0;
    }
    if (s->sent_end <= to && s->sent_end > from)
        s->sent_end = from;
    incidents_unsent(gp, from, to);
    runs_merge(gp);
}

bool spell_was_reset(const struct spell *s)
{
    return s->start == START_LISTED || s->start == START_LISTED_RANGE || s->start == START_SOUGHT ||
           s->start == START_CARRIED;
}

enum cause spell_start_cause(const struct spell *s)
{
    if (s->start == START_LISTED_RANGE || s->start == START_CARRIED)
        return CAUSE_RESET_OUT_OF_RANGE;
    return s->start == START_LISTED ? CAUSE_RESET_NO_OFFSET : CAUSE_POSITION_MOVED;
}

// Some clients look up the log's ends before they fetch, and are told nothing out of range.
static enum spell_start start_listed(const struct gp *gp)
{
    if (gp->asked == -1 || gp->asked == -3 || gp->k < 0 || gp->k_external)
        return START_LISTED;
    struct ledger_range log = log_bounds(gp);
    return gp->k < log.from || gp->k > log.to ? START_LISTED_RANGE : START_SOUGHT;
}

static enum spell_start start_of(const struct gp *gp, const struct feed *f, int64_t p)
{
    int64_t sent = gp->first < 0 ? -1 : runs_sent_end(gp);
    if (feed_was_told(f, p) && f->out_of_range)
        return START_LISTED_RANGE;
    if (gp->asked == p)
        return START_OFFSET_FETCH;
    if (feed_was_told(f, p))
        return start_listed(gp);
    if (gp->k >= 0 && !gp->k_external && p >= gp->k && p <= (sent > gp->k ? sent : gp->k))
        return START_OFFSET_FETCH;
    return START_EXTERNAL;
}

void group_saw(struct group *g, struct topic *t)
{
    for (size_t i = 0; i < g->n_seen; i++)
        if (g->seen[i].topic == t)
            return;
    g->seen = more(g->seen, g->n_seen, sizeof *g->seen);
    g->seen[g->n_seen++] = (struct topic_seen){t, g->l->now.wall_ms};
}

// A topic made again is no other to the group.
static bool group_saw_topic_before(struct gp *gp)
{
    struct group *g = gp->group;
    for (size_t i = 0; i < g->n_seen; i++)
        if (g->seen[i].topic == gp->tp->topic || topic_was(g->seen[i].topic, gp->tp->topic))
            return gp->tp->created_wall_ms > g->seen[i].wall_ms;
    group_saw(g, gp->tp->topic);
    return false;
}

// Accounting begins with the group's first position or commit; a partition made while the group
// was already there counts from its beginning.
void gp_first(struct gp *gp, int64_t at)
{
    bool begins = gp->first < 0;
    bool added = group_saw_topic_before(gp);
    gp_begin(gp, begins && added ? 0 : at);
    struct ledger_range log = log_bounds(gp);
    // What was trimmed before the group came to it; not what may have been sent to it.
    if (!begins || !added || log.from <= gp->first)
        return;
    gp_uncover_unowned(gp, NULL, gp->first, log.from);
    runs_expire(gp, gp->first, log.from);
}

static void spell_rewound(const struct gp *gp, struct spell *s, int64_t p)
{
    bool again = s->rewound_to >= 0 && s->rewound_k == gp->k;
    s->rewound_to = again && s->rewound_to < p ? s->rewound_to : p;
    s->rewound_k = gp->k;
}

static void spell_starts(struct gp *gp, struct spell *s, const struct feed *f, int64_t p)
{
    bool is_carried = s->start == START_CARRIED;
    s->first_p = p;
    s->start = start_of(gp, f, p);
    if (is_carried && s->start == START_EXTERNAL)
        s->start = START_CARRIED;
    if (gp->first < 0)
        gp_first(gp, p);
    bool own_k = gp->k >= 0 && !gp->k_external;
    if (own_k && p < gp->k && s->start != START_OFFSET_FETCH)
        spell_rewound(gp, s, p);
    if (s->start != START_EXTERNAL || own_k || !s->live)
        return;
    // The group keeps its offsets itself: where it starts is what it has done. (One that began
    // before the broker crashed does not start here.)
    int64_t was = gp->k;
    gp->k = p;
    gp->k_external = true;
    if (s->attribution == LEDGER_CERTAIN)
        s->attribution = LEDGER_LIKELY;
    if (p > gp->first && was < p)
        judge_passed(gp, s, was, was < gp->first ? gp->first : was, p, false, NULL);
}

static void spell_zone(struct gp *gp, struct spell *s, int64_t p)
{
    if (s->zone.from >= s->zone.to || p < s->zone.from || p > s->zone.to)
        return;
    struct ledger_range zone = s->zone;
    s->zone = (struct ledger_range){0, 0};
    if (s->attribution == LEDGER_CERTAIN)
        s->attribution = LEDGER_LIKELY;
    // What has left the log since, and may have been compacted before, nobody can count any more.
    int64_t start = log_bounds(gp).from;
    spell_send(gp, s, zone.from > start ? zone.from : start, p);
}

static void spell_seek(struct gp *gp, struct spell *s, int64_t p)
{
    struct group *g = gp->group;
    bool back = p < gp->k && p < s->sent_end && !gp->k_external;
    if (!back)
        return;
    spell_rewound(gp, s, p);
    if (p < gp->base)
        return;
    struct incident *in =
        incident_open(g, gp, LEDGER_NOTE, CAUSE_POSITION_MOVED, p, gp->k, s->id, s->id);
    if (!in)
        return;
    in->v.certainty = in->v.attribution = s->attribution;
    incident_prove(in, "Fetch", g->l->now.wall_ms,
                   "the same owner asked for offset %lld after %lld; committed was %lld",
                   (long long)p, (long long)s->position, (long long)gp->k);
}

// Below all that the group ever asked for: accounting begins there. What lies below K it had no
// need of until now, so nothing of that is skipped.
static void begin_lower(struct gp *gp, int64_t p)
{
    int64_t was = gp->first;
    gp_begin(gp, p);
    runs_flag(gp, p, was < gp->k ? was : gp->k, RUN_INCOMPLETE, true);
}

void spell_position(struct gp *gp, struct spell *s, const struct feed *f, int64_t p)
{
    uint64_t now_ms = gp->group->l->now.now_ms;
    if (p < gp->first)
        begin_lower(gp, p);
    if (s->first_p < 0)
        spell_starts(gp, s, f, p);
    else
        spell_seek(gp, s, p);
    if (s->zone.from < s->zone.to)
        spell_zone(gp, s, p);
    if (s->member && s->sent_any && now_ms - s->fetched_ms > s->member->poll_gap_ms)
        s->member->poll_gap_ms = now_ms - s->fetched_ms;
    s->fetched_ms = now_ms;
    s->position = p;
    if (p > s->confirmed_end && p <= s->sent_end)
        s->confirmed_end = p;
    if (s->watched)
        incidents_recheck(gp, s->id);
}
