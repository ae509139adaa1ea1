// Out of the journal, and what a crash leaves unknown.

#include "core/ledger/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/bug.h"

// Values come from disk: what a newer or damaged record holds must not index anything.
static int within(int64_t value, int limit)
{
    return value >= 0 && value < limit ? (int)value : 0;
}

// Names of APIs are told apart by text; the catalogue of those we write is small.
static const char *api_name(struct str s)
{
    static const char *const known[] = {"OffsetCommit",  "Fetch",      "JoinGroup",
                                        "SyncGroup",     "Produce",    "receipts",
                                        "DeleteRecords", "power loss", "retention",
                                        "OffsetDelete",  "broker",     "offsets.retention.minutes"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (str_eq_c(s, known[i]))
            return known[i];
    return "journal";
}

static struct ledger_party party_of(const struct ledger_incident_record_party *p)
{
    return (struct ledger_party){p->member, p->client_id, p->host, p->software};
}

static struct incident *incident_by_id(struct ledger *l, uint64_t id)
{
    for (size_t i = l->n_incidents; i-- > 0 && l->incidents[i]->v.id >= id;)
        if (l->incidents[i]->v.id == id)
            return l->incidents[i];
    return NULL;
}

static void incident_fill(struct incident *in, const struct ledger_incident_record *r)
{
    struct ledger_incident_view *v = &in->v;
    v->id = (uint64_t)r->id;
    v->version = (uint64_t)r->version;
    v->wall_ms = r->wall_ms;
    v->first = r->first;
    v->last = r->last;
    v->records = r->records;
    v->likely_at_most = r->likely_at_most;
    v->class = (enum ledger_class)within(r->class, LEDGER_NOTE + 1);
    v->certainty = (enum ledger_certainty)within(r->certainty, LEDGER_CERTAIN + 1);
    v->attribution = (enum ledger_certainty)within(r->attribution, LEDGER_CERTAIN + 1);
    in->cap = (enum ledger_certainty)within(r->cap, LEDGER_CERTAIN + 1);
    // It may name spells that only the life before knew: whose are these deliveries that would
    // make it surer?
    in->cap = v->certainty < in->cap ? v->certainty : in->cap;
    v->cause = cause_find(r->cause);
    if (v->cause == CAUSE_COUNT)
        v->cause = CAUSE_NOT_A_FAULT;
    v->contributing = 0;
    for (int32_t i = 0; i < r->n_contributing; i++)
        if (cause_find(r->contributing[i]) < CAUSE_COUNT)
            v->contributing |= UINT64_C(1) << cause_find(r->contributing[i]);
    v->trigger = (enum ledger_trigger)within(r->trigger, LEDGER_TRIGGER_COUNT);
    v->rebalance = (uint64_t)r->rebalance;
    struct ledger_party from = party_of(&r->from), to = party_of(&r->to);
    party_set(&v->from, &from);
    party_set(&v->to, &to);
    for (size_t i = 0; i < v->n_evidence; i++)
        drop(&in->proofs[i].summary);
    v->n_evidence = 0;
    for (int32_t i = 0; i < r->n_evidence && i < PROOFS_MAX; i++)
        in->proofs[v->n_evidence++] = (struct ledger_proof){
            r->evidence[i].wall_ms, api_name(r->evidence[i].api), keep(r->evidence[i].summary)};
    drop(&v->advice);
    v->advice = keep(r->advice);
    v->quiet = r->quiet;
    v->forced = r->forced;
    v->closed = r->closed;
    v->resolved = r->resolved;
    in->k = r->k;
    in->sends = (uint32_t)r->sends;
    in->from_spell = r->from_spell;
    in->to_spell = r->to_spell;
    in->part = (struct ledger_range){r->part_from, r->part_to};
    in->emitted_records = v->records > 0 ? v->records : 1;
    in->emitted_class = (int)v->class;
    in->emitted_certainty = v->certainty;
    in->emitted_closed = v->closed;
    in->emitted_resolved = v->resolved;
}

static void apply_incident(struct ledger *l, const struct ledger_incident_record *r)
{
    struct group *g = get_group(l, r->group);
    struct tp *tp = r->partition >= 0 ? get_tp(l, r->topic_id, r->partition) : NULL;
    struct incident *in = incident_by_id(l, (uint64_t)r->id);
    if (!in)
        in = incident_add(g, tp ? get_gp(g, tp) : NULL);
    incident_fill(in, r);
    if (in->gp && in->v.class == LEDGER_MISSED && in->v.last >= in->gp->missed_end)
        in->gp->missed_end = in->v.last + 1;
    if (in->v.id >= l->next_incident)
        l->next_incident = in->v.id + 1;
    if (in->v.version > l->version)
        l->version = in->v.version;
}

static void apply_rebalance(struct ledger *l, const struct ledger_rebalance_record *r)
{
    struct group *g = get_group(l, r->group);
    struct rebalance *b = NULL;
    for (size_t i = 0; i < g->n_rebalances; i++)
        if (g->rebalances[i]->id == (uint64_t)r->id)
            b = g->rebalances[i];
    if (!b)
        b = rebalance_add(g);
    drop(&b->member);
    drop(&b->reason);
    drop(&b->waited_for);
    for (size_t i = 0; i < b->n_parts; i++) {
        drop(&b->parts[i].from);
        drop(&b->parts[i].to);
    }
    b->n_parts = 0;
    b->id = (uint64_t)r->id;
    b->wall_ms = r->wall_ms;
    b->ended_wall_ms = r->ended_wall_ms;
    b->from_generation = r->from_generation;
    b->to_generation = r->to_generation;
    b->trigger = (enum ledger_trigger)within(r->trigger, LEDGER_TRIGGER_COUNT);
    b->member = keep(r->member);
    b->reason = keep(r->reason);
    b->waited_for = keep(r->waited_for);
    b->forced = r->forced;
    for (int32_t i = 0; i < r->n_partitions; i++) {
        const struct ledger_rebalance_record_handover *p = &r->partitions[i];
        struct tp *tp = get_tp(l, p->topic_id, p->partition);
        if (!tp)
            continue;
        b->parts = more(b->parts, b->n_parts, sizeof *b->parts);
        b->parts[b->n_parts++] = (struct handover){
            tp, get_gp(g, tp), p->spell, keep(p->from), keep(p->to), 0, p->pause_ms, p->resent};
    }
    g->now = b->ended_wall_ms < 0 ? b : g->now == b ? NULL : g->now;
    if (b->id >= l->next_rebalance)
        l->next_rebalance = b->id + 1;
}

static void apply_topic(struct ledger *l, const struct ledger_topic_record *r)
{
    struct topic *t = get_topic(l, r->topic_id);
    drop(&t->name);
    t->name = keep(r->name);
    if (r->deleted)
        topic_deleted(l, t);
    for (int32_t i = 0; i < r->n_partitions; i++) {
        struct tp *tp = get_tp(l, r->topic_id, i);
        if (!tp)
            return;
        tp->created_wall_ms = r->partitions[i].created_ms;
        tp->added = r->partitions[i].added;
    }
}

static void apply_member(struct group *g, const struct ledger_group_record_member *r)
{
    struct member *m = get_member(g, r->id);
    struct ledger_identity who = {r->principal, r->host, r->client_id, r->software};
    drop_identity(&m->who);
    m->who = keep_identity(&who);
    drop(&m->instance_id);
    m->instance_id = keep(r->instance_id);
    drop(&m->subscription);
    m->subscription = keep(r->subscription);
    drop(&m->instance);
    m->instance = keep(r->instance);
    m->session_timeout_ms = r->session_timeout_ms;
    m->rebalance_timeout_ms = r->rebalance_timeout_ms;
    m->live = m->in_generation = r->live;
    m->left = (enum ledger_trigger)within(r->left, LEDGER_TRIGGER_COUNT);
    m->heartbeat_gap_ms = (uint64_t)r->heartbeat_gap_ms;
    m->poll_gap_ms = (uint64_t)r->poll_gap_ms;
    m->commit_gap_ms = (uint64_t)r->commit_gap_ms;
}

static void apply_group(struct ledger *l, const struct ledger_group_record *r)
{
    struct group *g = get_group(l, r->group);
    g->generation = r->generation;
    g->rebalancing = r->rebalancing;
    g->removed = r->removed;
    g->last.trigger = (enum ledger_trigger)within(r->last_trigger, LEDGER_TRIGGER_COUNT);
    g->last.rebalance = (uint64_t)r->last_rebalance;
    for (int32_t i = 0; i < r->n_members; i++)
        apply_member(g, &r->members[i]);
    for (int32_t i = 0; i < r->n_identities; i++) {
        struct ledger_identity who = {r->identities[i].principal, r->identities[i].host,
                                      r->identities[i].client_id, r->identities[i].software};
        group_had_identity(g, &who);
    }
    g->n_seen = 0;
    free(g->seen);
    g->seen = NULL;
    for (int32_t i = 0; i < r->n_seen; i++) {
        g->seen = more(g->seen, g->n_seen, sizeof *g->seen);
        g->seen[g->n_seen++] =
            (struct topic_seen){get_topic(l, r->seen[i].topic_id), r->seen[i].wall_ms};
    }
}

static void mark_fill(struct k_mark *m, enum cause cause,
                      const struct ledger_partition_record_mark *r)
{
    drop(&m->proof.summary);
    m->range = (struct ledger_range){r->from, r->to};
    m->cause = cause_find(r->cause);
    if (m->cause == CAUSE_COUNT) // version 0 did not say
        m->cause = cause;
    m->last_spell = r->last_spell;
    m->proof = (struct ledger_proof){r->wall_ms, api_name(r->api), keep(r->summary)};
}

// The generation in force gave it this part, and outlives the rebalance that ended the spell.
static bool stands(const struct gp *gp, const struct spell *s)
{
    return s->member && !s->manual && s->mark == gp->group->generation;
}

static void spell_fill(struct gp *gp, struct spell *s,
                       const struct ledger_partition_record_spell *r)
{
    s->id = r->id;
    s->member = r->is_member ? find_member(gp->group, r->member) : NULL;
    s->party = (struct ledger_party){keep(r->member), keep(r->client_id), keep(r->host),
                                     keep(r->software)};
    s->principal = keep(r->principal);
    s->life = (enum spell_life)within(r->life, SPELL_ENDED + 1);
    s->start = (enum spell_start)within(r->start, START_CARRIED + 1);
    s->manual = r->manual;
    s->orderly = r->orderly;
    s->final_commit = r->final_commit;
    s->ack_final = r->ack_final;
    s->attribution = (enum ledger_certainty)within(r->attribution, LEDGER_CERTAIN + 1);
    s->end_trigger = (enum ledger_trigger)within(r->end_trigger, LEDGER_TRIGGER_COUNT);
    s->first_p = r->first_p;
    s->position = r->position;
    s->sent_end = r->sent_end;
    s->acked_end = r->acked_end;
    s->confirmed_end = r->confirmed_end;
    s->k_begin = r->k_begin;
    s->k_end = r->k_end;
    s->k_before_last = r->k_before_last;
    s->last_commit = r->last_commit;
    s->commit_step = r->commit_step;
    s->commit_wall_ms = r->commit_wall_ms;
    s->refused_k = r->refused_k;
    s->refused_wall_ms = r->refused_wall_ms;
    s->refused_error = (enum kerr)r->refused_error;
    s->lost_k = r->lost_k;
    s->zone = (struct ledger_range){r->zone_from, r->zone_to};
    s->rebalance = (uint64_t)r->rebalance;
    s->mark = r->mark;
    s->sent_any = r->sent_any;
    // Version 0 said only that it went back: where it was then.
    s->rewound_to = r->rewound ? r->position : r->rewound_to;
    s->rewound_k = r->rewound ? gp->k : r->rewound_k;
    s->watched = r->watched;
    s->live = s->life == SPELL_ENDED; // an open one may have been sent more since
    s->stood = s->live && stands(gp, s);
}

static void runs_fill(struct gp *gp, const struct ledger_partition_record *r)
{
    free(gp->runs);
    gp->n_runs = gp->cap_runs = (size_t)(r->n_runs > 0 ? r->n_runs : 0);
    gp->runs = calloc(gp->n_runs + 1, sizeof *gp->runs);
    CHECK(gp->runs);
    for (size_t i = 0; i < gp->n_runs; i++)
        gp->runs[i] =
            (struct run){r->runs[i].from,       r->runs[i].spell,          r->runs[i].prev,
                         (uint8_t)r->runs[i].n, (uint8_t)r->runs[i].flags, 0};
    gp->folded = (struct counters){0};
    for (int32_t i = 0; i < r->n_folded && i < LEDGER_STATES; i++)
        gp->folded.state[i] = r->folded[i];
    gp->folded.resent = r->folded_resent;
}

static void apply_partition(struct ledger *l, const struct ledger_partition_record *r)
{
    struct tp *tp = get_tp(l, r->topic_id, r->partition);
    if (!tp)
        return;
    struct gp *gp = get_gp(get_group(l, r->group), tp);
    for (size_t i = 0; i < gp->n_spells; i++)
        spell_free(gp->spells[i]);
    gp->n_spells = 0;
    bool begins = gp->first < 0 && r->first >= 0;
    gp->first = r->first;
    if (begins && !tp->topic->deleted) // of that, the group's record tells
        group_saw(gp->group, tp->topic);
    gp->base = r->base;
    gp->k = r->k;
    gp->k_external = r->k_external;
    gp->k_txn_only = r->k_txn_only;
    gp->asked = r->asked;
    runs_fill(gp, r);
    mark_fill(&gp->altered, CAUSE_OFFSETS_ALTERED, &r->altered);
    mark_fill(&gp->regressed, CAUSE_DUP_COMMIT_REGRESSED, &r->regressed);
    gp->late = (struct ledger_range){r->late_from, r->late_to};
    gp->late_spell = r->late_spell;
    gp->late_asked = true;
    gp->early = (struct ledger_range){r->early_from, r->early_to};
    for (int32_t i = 0; i < r->n_spells; i++)
        spell_fill(gp, spell_add(gp), &r->spells[i]);
    gp->next_spell = r->next_spell;
}

void ledger_apply(struct ledger *l, const struct kw_message *type, const void *record)
{
    if (!l->replay)
        return;
    if (type == &ledger_incident_record_msg)
        apply_incident(l, record);
    else if (type == &ledger_rebalance_record_msg)
        apply_rebalance(l, record);
    else if (type == &ledger_topic_record_msg)
        apply_topic(l, record);
    else if (type == &ledger_group_record_msg)
        apply_group(l, record);
    else if (type == &ledger_partition_record_msg)
        apply_partition(l, record);
    else if (type == &ledger_expectation_record_msg) {
        const struct ledger_expectation_record *r = record;
        struct group *g = get_group(l, r->group);
        g->expect = (enum ledger_expect)within(r->expect, LEDGER_EXACTLY_ONCE + 1);
        g->expect_set = true;
    }
}

void ledger_set_replay(struct ledger *l, bool on)
{
    l->replay = on;
}

// A member that was put out of a rebalance which the restart undid is a member again, and fetches
// on as if nothing had happened. One that had left or joined anew begins anew when it comes back.
static void gp_revive(struct gp *gp)
{
    for (size_t i = 0; i < gp->n_spells; i++) {
        struct spell *s = gp->spells[i];
        if (s->life != SPELL_ENDED || s->orderly || !stands(gp, s))
            continue;
        s->life = SPELL_OPEN;
        s->ack_final = false;
        s->member->live = s->member->in_generation = true;
    }
}

// From where on an owner was surely sent all up to its next fetch; -1 when nobody knows. What has
// left the log it may never have come to: then it was led elsewhere, to one end of the log.
static int64_t sent_from(const struct gp *gp, const struct spell *s)
{
    int64_t start = log_bounds(gp).from;
    int64_t from = s->sent_end >= 0 ? s->sent_end : s->first_p >= 0 ? s->first_p : s->k_begin;
    return from >= start ? from : s->last_commit >= start ? s->last_commit : -1;
}

// One that was put out while its connection was open need not know that it was.
static bool may_fetch_on(const struct spell *s)
{
    return !s->manual && !s->orderly && s->end_trigger != LEDGER_TRIGGER_DISCONNECT;
}

// What an owner may have been sent between the last snapshot and the crash. Its own next fetch
// tells (spell_position); until then and for the rest it is unknown.
static void gp_crashed(struct gp *gp)
{
    int64_t end = log_bounds(gp).to;
    int64_t unsure = end;
    bool owned = false;
    for (size_t i = 0; i < gp->n_spells; i++) {
        struct spell *s = gp->spells[i];
        bool was_open = s->life != SPELL_ENDED;
        if (!was_open && s->live && !s->stood) {
            if (may_fetch_on(s)) {
                owned = true;
                unsure = s->sent_end < unsure ? s->sent_end : unsure;
            }
            continue;
        }
        owned = true;
        // It may have been handed the same part again, and another generation begun since.
        if (!was_open && s->live) {
            int64_t k = gp->k < s->k_end ? gp->k : s->k_end;
            unsure = k < unsure ? k : unsure;
            continue;
        }
        int64_t from = sent_from(gp, s);
        if (from >= 0 && from < end)
            s->zone = (struct ledger_range){from, end};
        if (from < 0)
            from = 0;
        // From where it began, or stood in the snapshot, it may have been sent all once more: a
        // member that joins again under a standing generation leaves no record.
        if (s->k_begin < from)
            from = s->k_begin >= 0 ? s->k_begin : 0;
        unsure = from < unsure ? from : unsure;
    }
    // A group without members has readers that nothing tells of but their commits.
    if (gp->group->n_members == 0 && gp->k >= 0) {
        owned = true;
        unsure = gp->k < unsure ? gp->k : unsure;
    }
    // Somebody moved K beyond all that we know of, so somebody was there.
    int64_t sent = gp->first < 0 ? end : runs_sent_end(gp);
    if (gp->k > sent)
        owned = true;
    if (owned)
        gp_uncover(gp, sent < unsure ? sent : unsure > 0 ? unsure : 0, end);
}

// Of what was sent before, only what was bound to somebody is known.
static void topic_restarted(struct ledger *l, struct topic *topic)
{
    for (int32_t i = 0; i < topic->n_tps; i++) {
        struct ledger_range log = {0, 0};
        if (l->logs.bounds && l->logs.bounds(l->logs.ctx, topic->id, i, &log) && log.to > 0)
            tp_unowned(topic->tps[i], (struct ledger_range){0, log.to});
    }
}

// K passed offsets that are not there yet: when they are, they were sent to nobody.
static void gp_ahead(struct gp *gp)
{
    const struct ledger_logs *logs = &gp->group->l->logs;
    struct ledger_range log;
    bool is_there =
        logs->bounds && logs->bounds(logs->ctx, gp->tp->topic->id, gp->tp->partition, &log);
    if (is_there && !gp->tp->topic->deleted && !gp->k_external && gp->k > log.to)
        gp->ahead = log.to;
}

void ledger_restarted(struct ledger *l, struct ledger_time t, bool clean)
{
    l->now = t;
    void *item;
    for (size_t it = 0; map_next(l->topics, &it, NULL, &item);)
        topic_restarted(l, item);
    for (size_t it = 0; map_next(l->groups, &it, NULL, &item);) {
        struct group *g = item;
        for (size_t i = 0; i < g->n_gps; i++) {
            struct gp *gp = g->gps[i];
            gp_revive(gp);
            if (clean)
                gp_ahead(gp);
            for (size_t j = 0; j < gp->n_spells; j++) {
                gp->spells[j]->conn = 0;
                gp->spells[j]->began_ms = gp->spells[j]->fetched_ms = t.now_ms;
            }
            if (!clean && !bug(BUG_FORGET_CRASH))
                gp_crashed(gp);
        }
        for (size_t i = 0; i < g->n_members; i++)
            g->members[i]->n_conns = 0;
        // A rebalance is soft: the group stands where its last generation left it.
        if (g->rebalancing)
            rebalance_end(g, g->generation);
    }
    l->bindings++;
}
