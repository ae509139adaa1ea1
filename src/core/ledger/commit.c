// Offsets: committed, refused, altered, read.

#include "core/ledger/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool out_of_date(enum kerr e)
{
    return e == KERR_ILLEGAL_GENERATION || e == KERR_UNKNOWN_MEMBER_ID ||
           e == KERR_REBALANCE_IN_PROGRESS || e == KERR_STALE_MEMBER_EPOCH ||
           e == KERR_FENCED_MEMBER_EPOCH || e == KERR_FENCED_INSTANCE_ID;
}

// The spell of this member, or the last that it had.
static struct spell *spell_last_of(const struct gp *gp, const struct member *m)
{
    for (size_t i = gp->n_spells; m && i-- > 0;)
        if (gp->spells[i]->member == m)
            return gp->spells[i];
    return NULL;
}

// The same by the member's id. Nearly always the last spell is its own: nothing is looked up then.
static struct spell *spell_last_of_id(const struct gp *gp, struct str id)
{
    struct spell *last = gp->n_spells ? gp->spells[gp->n_spells - 1] : NULL;
    if (last && last->member && str_eq(last->member->id, id))
        return last;
    return spell_last_of(gp, find_member(gp->group, id));
}

static struct spell *manual_of(const struct gp *gp, const struct ledger_commit *c, bool ended)
{
    for (size_t i = gp->n_spells; i-- > 0;) {
        struct spell *s = gp->spells[i];
        struct ledger_identity who = {s->principal, s->party.host, s->party.client_id,
                                      s->party.software};
        if (s->manual && (ended || s->life != SPELL_ENDED) && same_identity(&who, &c->who))
            return s;
    }
    return NULL;
}

// Refused after the re-send: it did not cause it, but it tells that the member did not know.
static void contribute(struct gp *gp, const struct spell *s, const struct ledger_commit *c,
                       enum cause cause)
{
    const struct ledger *l = gp->group->l;
    for (size_t i = 0; i < RECENT_MAX && gp->recent[i]; i++) {
        struct incident *in = gp->recent[i];
        if (in->from_spell != s->id || in->v.class != LEDGER_RESENT ||
            in->v.contributing & (UINT64_C(1) << cause) || in->v.cause <= cause)
            continue;
        in->v.contributing |= UINT64_C(1) << cause;
        incident_prove(in, "OffsetCommit", l->now.wall_ms, "of %lld by %.*s: %s",
                       (long long)c->offset, STR_FMT(c->member), kerr_name(c->error));
        incident_touch(in);
        return;
    }
}

static void refused(struct gp *gp, const struct ledger_commit *c)
{
    struct spell *s = spell_last_of_id(gp, c->member);
    if (!s || c->offset <= gp->k)
        return;
    if (!out_of_date(c->error)) {
        if (c->offset > s->lost_k)
            s->lost_k = c->offset;
        return;
    }
    if (s->life == SPELL_ENDED)
        contribute(gp, s, c, CAUSE_DUP_COMMIT_REFUSED);
    if (c->offset > s->refused_k) {
        s->refused_k = c->offset;
        s->refused_wall_ms = gp->group->l->now.wall_ms;
        s->refused_error = c->error;
    }
}

static void spell_committed(struct gp *gp, struct spell *s, const struct ledger_commit *c,
                            int64_t was)
{
    const struct ledger *l = gp->group->l;
    int64_t covered = c->offset < s->sent_end ? c->offset : s->sent_end;
    if (covered > s->confirmed_end)
        s->confirmed_end = covered;
    if (s->watched)
        incidents_recheck(gp, s->id);
    if (s->life == SPELL_ENDED)
        return;
    if (s->life == SPELL_REVOKING || gp->group->rebalancing)
        s->final_commit = true;
    if (c->offset == was)
        return; // the same again says nothing about steps
    if (s->last_commit >= 0 && c->offset - s->last_commit > s->commit_step)
        s->commit_step = c->offset - s->last_commit;
    if (s->commit_ms && s->member)
        s->member->commit_gap_ms = l->now.now_ms - s->commit_ms;
    s->k_before_last = was >= 0 ? was : s->first_p;
    s->last_commit = c->offset;
    if (c->offset > was && was < s->rewound_k) // on its way again from where it had gone back to
        s->rewound_to = s->rewound_k = -1;
    s->commit_ms = l->now.now_ms;
    s->commit_wall_ms = l->now.wall_ms;
    s->commit_conn = c->conn;
    s->commit_answer = c->answer;
}

static void set_mark(struct gp *gp, struct k_mark *mark, enum cause cause, int64_t from, int64_t to,
                     const char *api, const char *text)
{
    bool two = mark->range.from < mark->range.to;
    mark->cause = two && mark->cause > cause ? mark->cause : cause;
    if (two) { // two in a row: both are its doing
        from = from < mark->range.from ? from : mark->range.from;
        to = to > mark->range.to ? to : mark->range.to;
    }
    mark->range = (struct ledger_range){from, to};
    mark->last_spell = gp->next_spell - 1;
    drop(&mark->proof.summary);
    mark->proof = (struct ledger_proof){gp->group->l->now.wall_ms, api, keep(str_from(text))};
}

// Positions are soft, but that one was seen to go back stands in the journal.
static bool was_noted(const struct gp *gp, int64_t from, int64_t to)
{
    bool noted = false;
    for (size_t i = 0; gp->group->l->replay && i < RECENT_MAX && gp->recent[i]; i++) {
        const struct ledger_incident_view *v = &gp->recent[i]->v;
        noted = noted || (v->class == LEDGER_NOTE && v->cause == CAUSE_POSITION_MOVED &&
                          v->first <= from && v->last >= to - 1);
    }
    return noted;
}

static void went_back(struct gp *gp, const struct spell *s, const struct ledger_commit *c,
                      int64_t was, bool altered)
{
    char text[400];
    if (altered) {
        snprintf(text, sizeof text, "%lld -> %lld by client %.*s at %.*s, no member of the group",
                 (long long)was, (long long)c->offset, STR_FMT(c->who.client_id),
                 STR_FMT(c->who.host));
        set_mark(gp, &gp->altered, CAUSE_OFFSETS_ALTERED, c->offset, was, "OffsetCommit", text);
        return;
    }
    // A consumer that went back itself and commits where it is now did not regress by mistake.
    bool went = s && s->rewound_to >= 0 && c->offset >= s->rewound_to && was <= s->rewound_k;
    enum cause cause = CAUSE_DUP_COMMIT_REGRESSED;
    if (went || was_noted(gp, c->offset, was))
        cause = went && s->first_p == s->rewound_to ? spell_start_cause(s) : CAUSE_POSITION_MOVED;
    char where[80] = "";
    if (went)
        snprintf(where, sizeof where, ", which had gone back to %lld", (long long)s->rewound_to);
    snprintf(text, sizeof text, "%lld -> %lld by %.*s%s", (long long)was, (long long)c->offset,
             STR_FMT(c->member), where);
    set_mark(gp, &gp->regressed, cause, c->offset, was, "OffsetCommit", text);
}

static void clear_passed(struct gp *gp)
{
    for (size_t i = 0; i < gp->n_spells; i++) {
        struct spell *s = gp->spells[i];
        if (s->refused_k <= gp->k)
            s->refused_k = -1;
        if (s->lost_k <= gp->k)
            s->lost_k = -1;
    }
    struct k_mark *marks[] = {&gp->altered, &gp->regressed};
    for (size_t i = 0; i < 2; i++)
        if (marks[i]->range.to <= gp->k)
            marks[i]->range = (struct ledger_range){0, 0};
}

static void accepted(struct ledger *l, const struct ledger_commit *c, bool txn)
{
    struct tp *tp = get_tp(l, c->topic_id, c->partition);
    if (!tp || c->offset < 0)
        return;
    struct group *g = get_group(l, c->group);
    g->removed = false;
    struct gp *gp = get_gp(g, tp);
    bool memberless = c->member.len <= 0 && c->generation < 0 && !txn;
    struct spell *s = spell_last_of_id(gp, c->member);
    bool is_unsure = false, is_new = false;
    if (memberless) {
        s = manual_of(gp, c, l->replay);
        // One without a connection is of before a restart: its client reads by another one now.
        bool is_served = s && s->conn && find_conn(l, s->conn);
        is_unsure = !is_served && (l->replay || !manual_bind(gp, c));
        is_new = !is_served && !is_unsure;
        if (is_new) {
            if (s)
                spell_end(gp, s, LEDGER_TRIGGER_DISCONNECT, false);
            s = manual_of(gp, c, false);
        }
        // Who commits may read, and be known by nothing else after a restart.
        group_had_identity(g, &c->who);
    }
    int64_t was = gp->k_external ? -1 : gp->k;
    // What a manual owner did is soft: while replaying only a step back is surely an alteration.
    bool altered = memberless && !s && c->group_was_empty && (!l->replay || c->offset < was);
    int64_t from = gp->k;
    if (gp->first < 0 || c->offset < gp->first)
        gp_first(gp, c->offset);
    gp->k = c->offset;
    gp->k_external = false;
    gp->k_txn_only = gp->k_txn_only && txn;
    if (c->offset != was)
        gp->moved_ms = l->now.now_ms;
    if (gp->ahead >= 0 && gp->ahead < from)
        from = gp->ahead;
    if (from < gp->base)
        from = gp->base;
    if (is_unsure)
        manual_unsure(gp, c, from);
    int64_t there = log_bounds(gp).to;
    gp->ahead = !l->replay && c->offset > there ? there : -1;
    if (c->offset > from)
        gp_uncover_unowned(gp, s, from, c->offset);
    if (c->offset > from)
        judge_passed(gp, s, was, from, c->offset, altered, c);
    if (c->offset < was) {
        runs_passed(gp, c->offset, was);
        went_back(gp, s, c, was, altered);
    }
    if (s && !altered)
        spell_committed(gp, s, c, was);
    clear_passed(gp);
    incidents_passed(gp);
    runs_fold(gp);
}

void ledger_committed(struct ledger *l, struct ledger_time t, const struct ledger_commit *c)
{
    l->now = t;
    if (c->error == KERR_NONE) {
        accepted(l, c, false);
        return;
    }
    struct group *g = find_group(l, c->group);
    struct gp *gp = g ? find_gp(g, find_tp(l, c->topic_id, c->partition)) : NULL;
    if (gp)
        refused(gp, c);
}

void ledger_commit_unanswered(struct ledger *l, struct ledger_time t, uint64_t conn,
                              uint64_t answer)
{
    l->now = t;
    void *item;
    for (size_t it = 0; answer && map_next(l->groups, &it, NULL, &item);) {
        struct group *g = item;
        for (size_t i = 0; i < g->n_gps; i++)
            for (size_t j = 0; j < g->gps[i]->n_spells; j++) {
                struct spell *s = g->gps[i]->spells[j];
                if (s->commit_conn == conn && s->commit_answer == answer)
                    s->lost_k = s->last_commit;
            }
    }
}

void ledger_commit_dropped(struct ledger *l, struct ledger_time t, const struct ledger_commit *c)
{
    l->now = t;
    struct group *g = find_group(l, c->group);
    struct gp *gp = g ? find_gp(g, find_tp(l, c->topic_id, c->partition)) : NULL;
    struct spell *s = gp ? spell_last_of_id(gp, c->member) : NULL;
    if (s && c->offset > s->lost_k)
        s->lost_k = c->offset;
}

void ledger_txn_offset(struct ledger *l, struct ledger_time t, const struct ledger_commit *c,
                       enum ledger_txn what)
{
    l->now = t;
    if (what == LEDGER_TXN_APPLIED)
        accepted(l, c, true);
}

void ledger_offsets_fetched(struct ledger *l, struct ledger_time t, uint64_t conn, struct str group,
                            struct str member, struct uuid topic_id, int32_t partition,
                            int64_t offset, enum kerr error)
{
    l->now = t;
    struct group *g = find_group(l, group);
    struct gp *gp = g ? find_gp(g, find_tp(l, topic_id, partition)) : NULL;
    struct conn *c = find_conn(l, conn);
    if (!gp)
        return;
    if (error != KERR_NONE && member.len <= 0 && (!c || !group_knows(g, &c->who)))
        return;
    gp->asked = error != KERR_NONE ? -3 : offset < 0 ? -1 : offset;
}

void ledger_offset_removed(struct ledger *l, struct ledger_time t, struct str group,
                           struct uuid topic_id, int32_t partition, enum ledger_removed why,
                           const struct ledger_identity *who)
{
    l->now = t;
    struct group *g = find_group(l, group);
    struct gp *gp = g ? find_gp(g, find_tp(l, topic_id, partition)) : NULL;
    if (!gp || gp->k < 0 || gp->k_external)
        return;
    char text[400];
    if (why == LEDGER_REMOVED_EXPIRED)
        snprintf(text, sizeof text, "%lld -> none: expired", (long long)gp->k);
    else
        snprintf(text, sizeof text, "%lld -> none: deleted by client %.*s at %.*s",
                 (long long)gp->k, STR_FMT(who ? who->client_id : STR_EMPTY),
                 STR_FMT(who ? who->host : STR_EMPTY));
    runs_passed(gp, gp->first, gp->k);
    set_mark(gp, &gp->altered, CAUSE_OFFSETS_ALTERED, gp->first, gp->k,
             why == LEDGER_REMOVED_EXPIRED ? "offsets.retention.minutes" : "OffsetDelete", text);
    gp->k = -1;
}

static void gp_stop(struct gp *gp)
{
    for (size_t i = 0; i < gp->n_spells; i++) {
        incidents_spell_ended(gp, gp->spells[i]->id);
        spell_free(gp->spells[i]);
    }
    gp->n_spells = 0;
    gp->n_runs = 0;
    gp->first = gp->k = gp->ahead = -1;
    gp->base = 0;
    gp->asked = -2;
    gp->k_external = false;
    gp->k_txn_only = true;
    gp->folded = (struct counters){0};
    gp->altered.range = gp->regressed.range = gp->late = gp->early = (struct ledger_range){0, 0};
}

void ledger_group_removed(struct ledger *l, struct ledger_time t, struct str group,
                          const struct ledger_identity *who)
{
    (void)who;
    l->now = t;
    struct group *g = find_group(l, group);
    if (!g)
        return;
    for (size_t i = 0; i < g->n_gps; i++)
        gp_stop(g->gps[i]);
    for (size_t i = 0; i < g->n_members; i++)
        g->members[i]->live = false;
    g->n_seen = 0;
    g->removed = true;
    l->bindings++;
    group_forget(l, g);
}
