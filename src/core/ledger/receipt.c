// Evidence that records were really processed, and what it proves.

#include "core/ledger/internal.h"

#include <stdlib.h>
#include <string.h>

// What one copy said in one attempt.
struct source {
    struct str instance; // owned
    uint32_t attempt;
    struct ledger_range *ranges; // sorted, never touching
    size_t n_ranges;
};

struct receipts {
    struct source *sources;
    size_t n_sources;
    struct source missed; // told already
    struct source repeated;
};

void receipts_free(struct receipts *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_sources; i++) {
        drop(&r->sources[i].instance);
        free(r->sources[i].ranges);
    }
    free(r->missed.ranges);
    free(r->repeated.ranges);
    free(r->sources);
    free(r);
}

// Index of the first range that ends beyond the offset.
static size_t range_at(const struct source *s, int64_t offset)
{
    size_t low = 0, high = s->n_ranges;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->ranges[middle].to > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static bool source_has(const struct source *s, int64_t offset)
{
    size_t i = range_at(s, offset);
    return i < s->n_ranges && s->ranges[i].from <= offset;
}

static void source_add(struct source *s, int64_t offset)
{
    size_t i = range_at(s, offset);
    if (i < s->n_ranges && s->ranges[i].from <= offset)
        return;
    bool left = i > 0 && s->ranges[i - 1].to == offset;
    bool right = i < s->n_ranges && s->ranges[i].from == offset + 1;
    if (left && right) {
        s->ranges[i - 1].to = s->ranges[i].to;
        memmove(s->ranges + i, s->ranges + i + 1, (s->n_ranges - i - 1) * sizeof *s->ranges);
        s->n_ranges--;
        return;
    }
    if (left || right) {
        if (left)
            s->ranges[i - 1].to++;
        else
            s->ranges[i].from--;
        return;
    }
    s->ranges = realloc(s->ranges, (s->n_ranges + 1) * sizeof *s->ranges);
    CHECK(s->ranges);
    memmove(s->ranges + i + 1, s->ranges + i, (s->n_ranges - i) * sizeof *s->ranges);
    s->ranges[i] = (struct ledger_range){offset, offset + 1};
    s->n_ranges++;
}

static struct source *get_source(struct receipts *r, struct str instance, uint32_t attempt)
{
    for (size_t i = r->n_sources; i-- > 0;)
        if (r->sources[i].attempt == attempt && str_eq(r->sources[i].instance, instance))
            return &r->sources[i];
    r->sources = more(r->sources, r->n_sources, sizeof *r->sources);
    r->sources[r->n_sources] = (struct source){keep(instance), attempt, NULL, 0};
    return &r->sources[r->n_sources++];
}

static struct receipts *get_receipts(struct gp *gp)
{
    if (!gp->receipts) {
        gp->receipts = calloc(1, sizeof *gp->receipts);
        CHECK(gp->receipts);
    }
    return gp->receipts;
}

void ledger_evidence_mode(struct ledger *l, struct str group, enum ledger_evidence kind,
                          bool control_passed)
{
    struct group *g = get_group(l, group);
    g->evidence = kind;
    g->control_passed = control_passed;
}

void ledger_receipt(struct ledger *l, struct ledger_time t, struct str group, struct uuid topic_id,
                    int32_t partition, int64_t offset, struct str instance, uint32_t attempt)
{
    l->now = t;
    struct tp *tp = get_tp(l, topic_id, partition);
    if (!tp || offset < 0)
        return;
    struct gp *gp = get_gp(get_group(l, group), tp);
    source_add(get_source(get_receipts(gp), instance, attempt), offset);
}

void ledger_process_ended(struct ledger *l, struct ledger_time t, struct str instance, bool killed)
{
    static char mark; // the map says only who was killed
    l->now = t;
    if (killed)
        map_put(l->processes, key_str(instance), &mark);
    else
        map_remove(l->processes, key_str(instance));
}

static uint32_t receipts_of(const struct gp *gp, int64_t offset)
{
    uint32_t n = 0;
    for (size_t i = 0; gp->receipts && i < gp->receipts->n_sources; i++)
        n += source_has(&gp->receipts->sources[i], offset);
    return n;
}

uint32_t ledger_receipts_of(const struct ledger *l, struct str group, struct uuid topic_id,
                            int32_t partition, int64_t offset)
{
    const struct group *g = find_group(l, group);
    const struct gp *gp = g ? find_gp(g, find_tp(l, topic_id, partition)) : NULL;
    return gp ? receipts_of(gp, offset) : 0;
}

static bool was_killed(const struct group *g, const struct spell *s)
{
    if (!s || !s->member)
        return true; // not known: the weaker claim
    if (s->member->instance.len > 0 &&
        map_get(g->l->processes, key_str(s->member->instance)) != NULL)
        return true;
    return s->end_trigger == LEDGER_TRIGGER_DISCONNECT ||
           s->end_trigger == LEDGER_TRIGGER_SESSION_TIMEOUT;
}

static enum ledger_certainty absent_certainty(const struct group *g, bool killed)
{
    bool sure = g->evidence == LEDGER_EVIDENCE_SQL || g->evidence == LEDGER_EVIDENCE_TOPIC ||
                g->evidence == LEDGER_EVIDENCE_HTTP;
    if (!g->control_passed)
        return LEDGER_LIKELY;
    return sure || !killed ? LEDGER_CERTAIN : LEDGER_LIKELY;
}

// The cause of an incident of this class that covers the offset.
static enum cause cause_at(const struct gp *gp, enum ledger_class class, int64_t offset,
                           enum cause otherwise)
{
    for (size_t i = 0; i < RECENT_MAX && gp->recent[i]; i++) {
        const struct incident *in = gp->recent[i];
        if (in->v.class == class && in->v.first <= offset && offset <= in->v.last)
            return in->v.cause;
    }
    return otherwise;
}

static void judge_missed(struct gp *gp, const struct run *r, int64_t offset)
{
    const struct spell *s = find_spell(gp, r->spell);
    bool killed = was_killed(gp->group, s);
    enum cause cause = killed ? CAUSE_COMMIT_BEFORE_WORK : CAUSE_COMMIT_WITHOUT_WORK;
    if (r->flags & RUN_ABANDONED)
        cause = cause_at(gp, LEDGER_RISK, offset, CAUSE_RESET_NO_OFFSET);
    struct incident *in =
        incident_open(gp->group, gp, LEDGER_MISSED, cause, offset, offset + 1, r->spell, 0);
    if (!in)
        return;
    in->v.closed = true;
    in->v.certainty = absent_certainty(gp->group, killed);
    in->v.attribution = s ? s->attribution : LEDGER_POSSIBLE;
    in->v.trigger = s ? s->end_trigger : LEDGER_TRIGGER_UNKNOWN;
    incident_parties(in);
    if (!in->v.n_evidence)
        incident_prove(in, "receipts", gp->group->l->now.wall_ms,
                       "none from %lld on, committed is %lld, last sent to %.*s", (long long)offset,
                       (long long)gp->k, STR_FMT(s ? s->party.member : STR_NULL));
    incident_advise(in);
}

// The incident of the wire that covers the offset: it knows why.
static struct incident *wire_incident(const struct gp *gp, int64_t offset)
{
    for (size_t i = 0; i < RECENT_MAX && gp->recent[i]; i++) {
        struct incident *in = gp->recent[i];
        bool resent = in->v.class == LEDGER_RESENT || in->v.class == LEDGER_STALLED ||
                      (in->v.class == LEDGER_NOTE && in->from_spell != in->to_spell);
        if (resent && in->v.first <= offset && offset <= in->v.last)
            return in;
    }
    return NULL;
}

static void judge_repeated(struct gp *gp, const struct run *r, int64_t offset, uint32_t n)
{
    const struct incident *wire = wire_incident(gp, offset);
    enum cause cause = wire && wire->v.cause != CAUSE_NOT_A_FAULT ? wire->v.cause
                       : r->n >= 2                                ? CAUSE_DUP_HANDOVER
                                                                  : CAUSE_POSITION_MOVED;
    struct incident *in =
        incident_open(gp->group, gp, LEDGER_REPEATED, cause, offset, offset + 1,
                      wire ? wire->from_spell : r->prev, wire ? wire->to_spell : r->spell);
    if (!in)
        return;
    in->v.closed = true;
    in->v.certainty = LEDGER_CERTAIN;
    in->v.attribution = wire ? wire->v.attribution : LEDGER_POSSIBLE;
    in->v.trigger = wire ? wire->v.trigger : LEDGER_TRIGGER_UNKNOWN;
    in->v.rebalance = wire ? wire->v.rebalance : 0;
    incident_parties(in);
    if (!in->v.n_evidence)
        incident_prove(in, "receipts", gp->group->l->now.wall_ms, "%u for offset %lld", n,
                       (long long)offset);
    incident_advise(in);
}

// With receipts, what they do not show to be repeated was only sent again.
static void settle_wire(struct gp *gp)
{
    for (size_t i = 0; i < RECENT_MAX && gp->recent[i]; i++) {
        struct incident *in = gp->recent[i];
        if (in->v.class != LEDGER_RESENT)
            continue;
        in->v.class = LEDGER_NOTE;
        in->v.quiet = true;
        incident_touch(in);
    }
}

static void judge_offset(struct gp *gp, const struct run *r, int64_t x)
{
    struct receipts *told = gp->receipts;
    uint32_t n = receipts_of(gp, x);
    if (n >= 2 && !source_has(&told->repeated, x)) {
        judge_repeated(gp, r, x, n);
        source_add(&told->repeated, x);
    }
    bool passed = x < gp->k && !gp->k_external;
    if (n || !passed || spell_is_open(gp, r->spell) || source_has(&told->missed, x) ||
        !data_in(gp, x, x + 1))
        return;
    judge_missed(gp, r, x);
    source_add(&told->missed, x);
}

static void judge_gp(struct gp *gp)
{
    if (gp->first < 0 || !gp->n_runs)
        return;
    get_receipts(gp);
    int64_t end = log_bounds(gp).to;
    for (size_t i = 0; i < gp->n_runs && gp->runs[i].from < end; i++) {
        const struct run *r = &gp->runs[i];
        int64_t to = run_end(gp, i) < end ? run_end(gp, i) : end;
        for (int64_t x = r->from; x < to && r->n; x++)
            judge_offset(gp, r, x);
    }
    settle_wire(gp);
}

void ledger_judge(struct ledger *l, struct ledger_time t, struct str group)
{
    l->now = t;
    struct group *g = find_group(l, group);
    if (!g || g->evidence == LEDGER_EVIDENCE_NONE)
        return;
    for (size_t i = 0; i < g->n_gps; i++)
        judge_gp(g->gps[i]);
}
