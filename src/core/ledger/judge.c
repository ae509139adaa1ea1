// What is to be said of a range, and why: causes in the order of schema/causes.kw.

#include "core/ledger/internal.h"

struct verdict {
    enum ledger_class class;
    enum cause cause;
    enum ledger_certainty cap;
    bool quiet;
};

static void limit_to(int64_t *end, int64_t x, int64_t bound)
{
    if (bound > x && bound < *end)
        *end = bound;
}

static bool in_mark(const struct k_mark *m, uint32_t spell, int64_t x, int64_t *end)
{
    if (m->range.from >= m->range.to || spell > m->last_spell)
        return false;
    limit_to(end, x, m->range.from);
    limit_to(end, x, m->range.to);
    return x >= m->range.from && x < m->range.to;
}

// An orderly end: only what lies within one commit step of K may have been worked on.
static struct verdict orderly(const struct spell *p, int64_t x, int64_t *end)
{
    struct verdict v = {LEDGER_RESENT, CAUSE_DUP_HANDOVER, LEDGER_POSSIBLE, true};
    if (p->commit_step < 0)
        return v;
    int64_t within = (p->k_end >= 0 ? p->k_end : p->first_p) + p->commit_step;
    limit_to(end, x, within);
    if (x >= within)
        v = (struct verdict){LEDGER_NOTE, CAUSE_NOT_A_FAULT, LEDGER_CERTAIN, true};
    return v;
}

// The look-alikes that hold whatever else is true.
static bool excused(const struct gp *gp, const struct spell *p, int64_t x, int64_t *end)
{
    if (gp->k_txn_only && gp->k >= 0 && !gp->k_external)
        return true;
    if (!p || !p->ack_final)
        return false;
    int64_t received = p->acked_end > p->confirmed_end ? p->acked_end : p->confirmed_end;
    limit_to(end, x, received);
    return x >= received;
}

static bool reset_below_k(const struct gp *gp, const struct spell *to, int64_t x, int64_t *end)
{
    if (gp->k < 0 || gp->k_external || to->first_p > x)
        return false;
    limit_to(end, x, gp->k);
    return x < gp->k;
}

// It went back there by itself, from where all had been committed.
static bool rewound_over(const struct spell *to, int64_t x, int64_t *end)
{
    if (to->rewound_to < 0)
        return false;
    limit_to(end, x, to->rewound_to);
    limit_to(end, x, to->rewound_k);
    return x >= to->rewound_to && x < to->rewound_k;
}

static struct verdict resend_at(const struct gp *gp, const struct spell *to, const struct run *was,
                                int64_t x, int64_t *end)
{
    const struct spell *p = find_spell(gp, was->spell);
    struct verdict v = {LEDGER_RESENT, CAUSE_DUP_HANDOVER, LEDGER_CERTAIN, false};
    if (excused(gp, p, x, end))
        return (struct verdict){LEDGER_NOTE, CAUSE_NOT_A_FAULT, LEDGER_CERTAIN, true};
    if (in_mark(&gp->altered, was->spell, x, end)) {
        v.cause = CAUSE_OFFSETS_ALTERED;
        return v;
    }
    if (to->start != START_OFFSET_FETCH && reset_below_k(gp, to, x, end)) {
        v.cause = spell_start_cause(to);
        return v;
    }
    if (rewound_over(to, x, end)) {
        v.cause = CAUSE_POSITION_MOVED;
        return v;
    }
    bool back = in_mark(&gp->regressed, was->spell, x, end);
    if (back && gp->regressed.cause < CAUSE_DUP_TWO_OWNERS) {
        v.cause = gp->regressed.cause;
        return v;
    }
    if (p && p != to && p->life != SPELL_ENDED) {
        v.cause = CAUSE_DUP_TWO_OWNERS;
        return v;
    }
    if (back) {
        v.cause = CAUSE_DUP_COMMIT_REGRESSED;
        return v;
    }
    if (!p) {
        v.cap = LEDGER_POSSIBLE;
        return v;
    }
    limit_to(end, x, p->refused_k);
    limit_to(end, x, p->lost_k);
    if (x < p->refused_k || x < p->lost_k) {
        v.cause = x < p->refused_k ? CAUSE_DUP_COMMIT_REFUSED : CAUSE_DUP_COMMIT_LOST;
        return v;
    }
    if (p->final_commit)
        return (struct verdict){LEDGER_NOTE, CAUSE_NOT_A_FAULT, LEDGER_CERTAIN, true};
    return p->orderly ? orderly(p, x, end) : v;
}

static void prove_refused(struct incident *in, const struct spell *p)
{
    if (in->v.cause == CAUSE_DUP_COMMIT_REFUSED)
        incident_prove(in, "OffsetCommit", p->refused_wall_ms, "of %lld by %.*s: %s",
                       (long long)p->refused_k, STR_FMT(p->party.member),
                       kerr_name(p->refused_error));
    if (in->v.cause == CAUSE_DUP_COMMIT_LOST)
        incident_prove(in, "OffsetCommit", p->commit_wall_ms,
                       "of %lld by %.*s was received, but not applied or not answered",
                       (long long)p->lost_k, STR_FMT(p->party.member));
}

static void prove_resend(struct incident *in, const struct gp *gp, const struct spell *p,
                         const struct spell *to)
{
    int64_t now = gp->group->l->now.wall_ms;
    if (in->v.cause == CAUSE_OFFSETS_ALTERED)
        incident_prove(in, gp->altered.proof.api, gp->altered.proof.wall_ms, "%.*s",
                       STR_FMT(gp->altered.proof.summary));
    const struct k_mark *back = &gp->regressed;
    if (back->range.from < back->range.to && in->v.cause == back->cause)
        incident_prove(in, gp->regressed.proof.api, gp->regressed.proof.wall_ms, "%.*s",
                       STR_FMT(gp->regressed.proof.summary));
    if (p) {
        incident_prove(in, "Fetch", now, "%.*s was sent the records up to %lld",
                       STR_FMT(p->party.member), (long long)p->sent_end);
        prove_refused(in, p);
        if (p->last_commit >= 0)
            incident_prove(in, "OffsetCommit", p->commit_wall_ms, "%.*s committed %lld last",
                           STR_FMT(p->party.member), (long long)p->last_commit);
        if (p->zone.from < p->zone.to)
            incident_prove(in, "broker", now,
                           "up to %lld more may have been sent before the broker stopped: %lld to "
                           "%lld",
                           (long long)(p->zone.to - p->zone.from), (long long)p->zone.from,
                           (long long)p->zone.to - 1);
    }
    bool went = in->v.cause == CAUSE_POSITION_MOVED && to->rewound_to >= 0;
    incident_prove(in, "Fetch", now, "%.*s %s offset %lld, committed was %lld",
                   STR_FMT(to->party.member), went ? "went back to" : "asked for",
                   (long long)(went ? to->rewound_to : to->first_p), (long long)gp->k);
}

// p: who had it before. A member that took part in a rebalance, and is one still, did not fail on
// anything: others came or went.
static void maybe_loop(struct incident *in, const struct gp *gp, const struct spell *p,
                       uint32_t was_to)
{
    bool was_moved = p && p->orderly && p->member && p->member->live;
    if (in->to_spell != was_to && was_to && !was_moved)
        in->sends++;
    if (in->sends < LOOP_SENDS - 1 || in->v.cause == CAUSE_RETRY_LOOP)
        return;
    if (in->v.cause < CAUSE_RETRY_LOOP) { // a cause never moves down the list
        in->v.contributing |= UINT64_C(1) << CAUSE_RETRY_LOOP;
        return;
    }
    in->v.contributing |= UINT64_C(1) << in->v.cause;
    in->v.cause = CAUSE_RETRY_LOOP;
    in->v.class = LEDGER_STALLED;
    in->v.quiet = false;
    incident_prove(in, "Fetch", gp->group->l->now.wall_ms,
                   "sent in %u turns, one after the other, while committed stood at %lld",
                   in->sends + 1, (long long)gp->k);
}

static void resend(struct gp *gp, struct spell *to, const struct run *was, int64_t from,
                   int64_t end, struct verdict v)
{
    struct spell *p = find_spell(gp, was->spell);
    if (!data_in(gp, from, end))
        return;
    uint32_t was_to = 0;
    for (size_t i = 0; i < RECENT_MAX && gp->recent[i]; i++)
        if (gp->recent[i]->k == gp->k && gp->recent[i]->v.first <= from &&
            gp->recent[i]->v.last >= from && gp->recent[i]->v.class != LEDGER_NOTE &&
            gp->recent[i]->v.cause > CAUSE_DUP_TWO_OWNERS && !was_to)
            was_to = gp->recent[i]->to_spell;
    struct incident *in =
        incident_open(gp->group, gp, v.class, v.cause, from, end, was->spell, to->id);
    if (!in)
        return;
    bool fresh = !in->v.n_evidence;
    if (fresh) {
        in->cap = v.cap;
        in->v.quiet = v.quiet;
        in->sends = 1;
    } else {
        in->cap = v.cap < in->cap ? v.cap : in->cap;
        in->v.quiet = in->v.quiet && v.quiet;
    }
    if (v.class == LEDGER_RESENT && to->start == START_LISTED && gp->k < 0)
        in->v.contributing |= UINT64_C(1) << CAUSE_RESET_NO_OFFSET;
    if (p)
        p->watched = true;
    to->watched = true;
    in->v.trigger = v.cause == CAUSE_OFFSETS_ALTERED ? LEDGER_TRIGGER_ADMIN
                    : p                              ? p->end_trigger
                                                     : LEDGER_TRIGGER_UNKNOWN;
    in->v.rebalance = to->rebalance;
    int64_t step = p && v.cause == CAUSE_DUP_HANDOVER && !gp->k_external ? p->commit_step : -1;
    in->v.likely_at_most = step > in->v.records ? in->v.records : step;
    incident_parties(in);
    if (fresh)
        prove_resend(in, gp, p, to);
    maybe_loop(in, gp, p, was_to);
    incidents_recheck(gp, to->id);
    incident_advise(in);
}

void judge_resend(struct gp *gp, struct spell *to, const struct run *was, int64_t from, int64_t end)
{
    rebalance_resent(gp, to, data_in(gp, from, end));
    if (gp->group->l->replay)
        return;
    for (int64_t x = from; x < end;) {
        int64_t limit = end;
        struct verdict v = resend_at(gp, to, was, x, &limit);
        resend(gp, to, was, x, limit, v);
        x = limit;
    }
}

void judge_late(struct gp *gp, struct spell *to, int64_t from, int64_t end)
{
    if (gp->group->l->replay || gp->first < 0)
        return;
    from = from > gp->base ? from : gp->base;
    from = from > gp->late.from ? from : gp->late.from;
    end = end < gp->late.to ? end : gp->late.to;
    struct spell *p = find_spell(gp, gp->late_spell);
    if (!p || p == to || to->manual)
        return;
    // Only what the owner was sent as well.
    while (from < end && find_spell(gp, gp->runs[run_at(gp, from)].spell) != to)
        from = run_end(gp, run_at(gp, from));
    int64_t both = from;
    while (both < end && find_spell(gp, gp->runs[run_at(gp, both)].spell) == to)
        both = run_end(gp, run_at(gp, both));
    both = both < end ? both : end;
    if (from >= both || !data_in(gp, from, both))
        return;
    enum ledger_class class = p->orderly ? LEDGER_NOTE : LEDGER_RESENT;
    struct incident *in =
        incident_open(gp->group, gp, class, CAUSE_DUP_TWO_OWNERS, from, both, p->id, to->id);
    if (!in)
        return;
    in->v.quiet = p->orderly || !gp->late_asked;
    in->v.trigger = p->end_trigger;
    in->v.rebalance = to->rebalance;
    // What a late fetch was sent is nowhere confirmed.
    in->cap = LEDGER_POSSIBLE;
    in->v.attribution = in->v.certainty = LEDGER_POSSIBLE;
    if (p->attribution > LEDGER_POSSIBLE && to->attribution > LEDGER_POSSIBLE)
        in->v.attribution = p->attribution < to->attribution ? p->attribution : to->attribution;
    incident_parties(in);
    if (!in->v.n_evidence)
        incident_prove(in, "Fetch", gp->group->l->now.wall_ms,
                       "%.*s %s after its part had ended, from offset %lld",
                       STR_FMT(p->party.member),
                       gp->late_asked ? "fetched on" : "was sent what it had asked for before",
                       (long long)gp->late.from);
    incident_advise(in);
}

// ---- K passed

// was: K before, which may have lain beyond what there was.
static enum cause skip_cause(const struct gp *gp, const struct spell *by, bool altered, int64_t was,
                             int64_t x, int64_t *end)
{
    if (altered)
        return CAUSE_OFFSETS_ALTERED;
    if (by && spell_was_reset(by)) {
        limit_to(end, x, by->first_p);
        if (x < by->first_p)
            return spell_start_cause(by);
    }
    limit_to(end, x, was);
    int64_t sent = runs_sent_end(gp);
    limit_to(end, x, sent);
    return x < was || x >= sent ? CAUSE_SKIP_COMMIT_AHEAD : CAUSE_POSITION_MOVED;
}

static void passed(struct gp *gp, const struct spell *by, enum ledger_class class, enum cause cause,
                   int64_t from, int64_t end, const struct ledger_commit *c)
{
    if (!data_in(gp, from, end))
        return;
    struct incident *in = incident_open(gp->group, gp, class, cause, from, end, 0, by ? by->id : 0);
    if (!in)
        return;
    bool added = cause == CAUSE_RESET_NO_OFFSET && gp->tp->added;
    bool carried = cause == CAUSE_RESET_OUT_OF_RANGE && by && by->start == START_CARRIED;
    in->v.trigger = cause == CAUSE_OFFSETS_ALTERED ? LEDGER_TRIGGER_ADMIN
                    : added                        ? LEDGER_TRIGGER_PARTITIONS_ADDED
                    : carried                      ? LEDGER_TRIGGER_TOPIC_DELETED
                                                   : LEDGER_TRIGGER_UNKNOWN;
    in->v.rebalance = by ? by->rebalance : 0;
    in->v.attribution = by ? by->attribution : LEDGER_POSSIBLE;
    in->v.certainty = class == LEDGER_RISK ? LEDGER_LIKELY : LEDGER_CERTAIN;
    if (gp->k_external && in->v.certainty > LEDGER_LIKELY)
        in->v.certainty = LEDGER_LIKELY;
    incident_parties(in);
    int64_t now = gp->group->l->now.wall_ms;
    if (by)
        incident_prove(in, "Fetch", now, "%.*s began at offset %lld%s", STR_FMT(by->party.member),
                       (long long)by->first_p,
                       by->start == START_LISTED         ? ": no offset, ListOffsets gave it"
                       : by->start == START_LISTED_RANGE ? ": out of range, ListOffsets gave it"
                       : by->start == START_SOUGHT       ? ": ListOffsets gave it, beside an offset"
                       : by->start == START_CARRIED
                           ? ": where it was in the topic of that name that was deleted"
                           : "");
    if (c)
        incident_prove(in, "OffsetCommit", now, "of %lld by client %.*s at %.*s",
                       (long long)c->offset, STR_FMT(c->who.client_id), STR_FMT(c->who.host));
    incident_advise(in);
}

static bool passes_as_abandoned(const struct gp *gp, const struct spell *by, const struct run *r,
                                bool altered)
{
    bool reset = by && spell_was_reset(by) && r->from < by->first_p;
    if (!r->n || r->flags & RUN_PASSED)
        return false;
    if (reset && r->spell == by->id && r->flags & RUN_THROWN)
        return true;
    bool open = spell_is_open(gp, r->spell) || spell_is_open(gp, r->prev);
    return !open && (altered || (reset && r->spell != by->id));
}

void judge_passed(struct gp *gp, struct spell *by, int64_t was, int64_t from, int64_t to,
                  bool altered, const struct ledger_commit *c)
{
    run_split(gp, from);
    run_split(gp, to);
    if (by && by->first_p > from && by->first_p < to)
        run_split(gp, by->first_p);
    for (size_t i = run_at(gp, from); i < gp->n_runs && gp->runs[i].from < to; i++) {
        struct run *r = &gp->runs[i];
        if (r->flags & (RUN_EXPIRED | RUN_ABANDONED))
            continue;
        int64_t end = run_end(gp, i);
        bool is_abandoned = passes_as_abandoned(gp, by, r, altered);
        r->flags &= (uint8_t) ~(RUN_PASSED | RUN_THROWN);
        if (is_abandoned) {
            r->flags |= RUN_ABANDONED;
            int64_t limit = end;
            if (!gp->group->l->replay)
                passed(gp, by, LEDGER_RISK, skip_cause(gp, by, altered, was, r->from, &limit),
                       r->from, end, c);
        }
        if (r->n || r->flags & (RUN_INCOMPLETE | RUN_LATE) || gp->group->l->replay)
            continue;
        // K may lie beyond the log. Nothing that is not there yet is missed.
        int64_t there = log_bounds(gp).to;
        for (int64_t x = r->from; x < end && x < there;) {
            int64_t limit = end < there ? end : there;
            enum cause cause = skip_cause(gp, by, altered, was, x, &limit);
            passed(gp, by, LEDGER_MISSED, cause, x, limit, c);
            x = limit;
        }
    }
    runs_merge(gp);
}

// ---- the end of a spell, and of records

void judge_spell_end(struct gp *gp, struct spell *s)
{
    bool died = s->end_trigger == LEDGER_TRIGGER_DISCONNECT ||
                s->end_trigger == LEDGER_TRIGGER_SESSION_TIMEOUT;
    if (gp->group->l->replay || !died || s->manual || s->last_commit < 0 ||
        s->last_commit != gp->k || s->k_before_last < 0 || s->k_before_last >= s->last_commit ||
        gp->k_txn_only || !data_in(gp, s->k_before_last, s->last_commit))
        return;
    struct incident *in = incident_open(gp->group, gp, LEDGER_RISK, CAUSE_COMMIT_BEFORE_WORK,
                                        s->k_before_last, s->last_commit, s->id, 0);
    if (!in)
        return;
    in->v.quiet = true;
    in->v.closed = true;
    in->v.trigger = s->end_trigger;
    in->v.rebalance = s->rebalance;
    in->v.attribution = s->attribution;
    in->v.certainty = s->attribution < LEDGER_LIKELY ? s->attribution : LEDGER_LIKELY;
    incident_parties(in);
    incident_prove(in, "OffsetCommit", s->commit_wall_ms,
                   "%.*s committed %lld after %lld, and then ended without leaving",
                   STR_FMT(s->party.member), (long long)s->last_commit,
                   (long long)s->k_before_last);
    incident_advise(in);
}

static void trimmed(struct gp *gp, int64_t from, int64_t to, bool expired, enum ledger_trim why)
{
    if (!data_in(gp, from, to))
        return;
    struct incident *in = incident_open(gp->group, gp, expired ? LEDGER_MISSED : LEDGER_RISK,
                                        CAUSE_RESET_OUT_OF_RANGE, from, to, 0, 0);
    if (!in)
        return;
    in->v.certainty = expired ? LEDGER_CERTAIN : LEDGER_LIKELY;
    in->v.attribution = LEDGER_CERTAIN;
    in->v.trigger = gp->tp->topic->deleted ? LEDGER_TRIGGER_TOPIC_DELETED
                    : gp->tp->trim_admin   ? LEDGER_TRIGGER_ADMIN
                                           : LEDGER_TRIGGER_UNKNOWN;
    static const char *const api[] = {"retention", "DeleteRecords", "power loss"};
    if (!in->v.n_evidence)
        incident_prove(in, api[why], gp->group->l->now.wall_ms,
                       "records below %lld left the log, committed was %lld%s", (long long)to,
                       (long long)gp->k,
                       expired ? ", never sent to the group" : ", sent but not committed");
    incident_advise(in);
}

void judge_trim(struct gp *gp, int64_t from, int64_t to, enum ledger_trim why)
{
    if (gp->group->l->replay)
        return;
    for (size_t i = run_at(gp, from); i < gp->n_runs && gp->runs[i].from < to; i++) {
        const struct run *r = &gp->runs[i];
        int64_t end = run_end(gp, i) < to ? run_end(gp, i) : to;
        bool expired = r->flags & RUN_EXPIRED;
        // Nobody is said to have missed what he may have been sent.
        if (expired ? !(r->flags & RUN_INCOMPLETE) : r->flags & RUN_ABANDONED)
            trimmed(gp, r->from, end, expired, why);
    }
}
