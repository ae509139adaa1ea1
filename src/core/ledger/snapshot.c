// Into the journal.

#include "core/ledger/internal.h"

static struct str copy(struct effects *fx, struct str s)
{
    return arena_str(fx->arena, s);
}

static void put_causes(struct effects *fx, uint64_t set, struct ledger_incident_record *r)
{
    r->contributing = arena_array(fx->arena, 64, sizeof *r->contributing);
    r->n_contributing = 0;
    for (unsigned c = 0; c < CAUSE_COUNT; c++)
        if (set & (UINT64_C(1) << c))
            r->contributing[r->n_contributing++] = str_from(cause_name((enum cause)c));
}

static void put_incident(struct effects *fx, const struct incident *in)
{
    const struct ledger_incident_view *v = &in->v;
    struct ledger_incident_record *r = effects_record(fx, &ledger_incident_record_msg);
    r->id = (int64_t)v->id;
    r->version = (int64_t)v->version;
    r->wall_ms = v->wall_ms;
    r->group = copy(fx, v->group);
    r->topic_id = v->topic_id;
    r->partition = v->partition;
    r->first = v->first;
    r->last = v->last;
    r->records = v->records;
    r->likely_at_most = v->likely_at_most;
    r->class = (int8_t)v->class;
    r->certainty = (int8_t)v->certainty;
    r->attribution = (int8_t)v->attribution;
    r->cap = (int8_t)in->cap;
    r->cause = str_from(cause_name(v->cause));
    put_causes(fx, v->contributing, r);
    r->trigger = (int8_t)v->trigger;
    r->rebalance = (int64_t)v->rebalance;
    r->from.member = copy(fx, v->from.member);
    r->from.client_id = copy(fx, v->from.client_id);
    r->from.host = copy(fx, v->from.host);
    r->from.software = copy(fx, v->from.software);
    r->to.member = copy(fx, v->to.member);
    r->to.client_id = copy(fx, v->to.client_id);
    r->to.host = copy(fx, v->to.host);
    r->to.software = copy(fx, v->to.software);
    r->n_evidence = (int32_t)v->n_evidence;
    r->evidence = arena_array(fx->arena, v->n_evidence, sizeof *r->evidence);
    for (size_t i = 0; i < v->n_evidence; i++) {
        r->evidence[i].wall_ms = v->evidence[i].wall_ms;
        r->evidence[i].api = copy(fx, str_from(v->evidence[i].api));
        r->evidence[i].summary = copy(fx, v->evidence[i].summary);
    }
    r->advice = copy(fx, v->advice);
    r->quiet = v->quiet;
    r->forced = v->forced;
    r->closed = v->closed;
    r->resolved = v->resolved;
    r->k = in->k;
    r->sends = (int32_t)in->sends;
    r->from_spell = in->from_spell;
    r->to_spell = in->to_spell;
    r->part_from = in->part.from;
    r->part_to = in->part.to;
}

static void put_rebalance(struct effects *fx, const struct rebalance *b)
{
    struct ledger_rebalance_record *r = effects_record(fx, &ledger_rebalance_record_msg);
    r->id = (int64_t)b->id;
    r->group = copy(fx, b->group->name);
    r->wall_ms = b->wall_ms;
    r->ended_wall_ms = b->ended_wall_ms;
    r->from_generation = b->from_generation;
    r->to_generation = b->to_generation;
    r->trigger = (int8_t)b->trigger;
    r->member = copy(fx, b->member);
    r->reason = copy(fx, b->reason);
    r->waited_for = copy(fx, b->waited_for);
    r->forced = b->forced;
    r->n_partitions = (int32_t)b->n_parts;
    r->partitions = arena_array(fx->arena, b->n_parts, sizeof *r->partitions);
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct handover *h = &b->parts[i];
        struct ledger_rebalance_record_handover *p = &r->partitions[i];
        p->topic_id = h->tp->topic->id;
        p->partition = h->tp->partition;
        p->spell = h->spell;
        p->from = copy(fx, h->from);
        p->to = copy(fx, h->to);
        p->pause_ms = h->pause_ms;
        p->resent = h->resent;
    }
}

static void put_expectation(struct effects *fx, const struct group *g)
{
    struct ledger_expectation_record *r = effects_record(fx, &ledger_expectation_record_msg);
    r->group = copy(fx, g->name);
    r->expect = (int8_t)g->expect;
}

static void put_topic(struct effects *fx, const struct topic *t)
{
    struct ledger_topic_record *r = effects_record(fx, &ledger_topic_record_msg);
    r->topic_id = t->id;
    r->name = copy(fx, t->name);
    r->deleted = t->deleted;
    r->n_partitions = t->n_tps;
    r->partitions = arena_array(fx->arena, (size_t)t->n_tps, sizeof *r->partitions);
    for (int32_t i = 0; i < t->n_tps; i++) {
        r->partitions[i].created_ms = t->tps[i]->created_wall_ms;
        r->partitions[i].added = t->tps[i]->added;
    }
}

static void put_member(struct effects *fx, const struct member *m,
                       struct ledger_group_record_member *r)
{
    r->id = copy(fx, m->id);
    r->instance_id = copy(fx, m->instance_id);
    r->principal = copy(fx, m->who.principal);
    r->host = copy(fx, m->who.host);
    r->client_id = copy(fx, m->who.client_id);
    r->software = copy(fx, m->who.software);
    r->subscription = copy(fx, m->subscription);
    r->instance = copy(fx, m->instance);
    r->session_timeout_ms = m->session_timeout_ms;
    r->rebalance_timeout_ms = m->rebalance_timeout_ms;
    r->live = m->live;
    r->left = (int8_t)m->left;
    r->heartbeat_gap_ms = (int64_t)m->heartbeat_gap_ms;
    r->poll_gap_ms = (int64_t)m->poll_gap_ms;
    r->commit_gap_ms = (int64_t)m->commit_gap_ms;
}

static void put_group(struct effects *fx, const struct group *g)
{
    struct ledger_group_record *r = effects_record(fx, &ledger_group_record_msg);
    r->group = copy(fx, g->name);
    r->generation = g->generation;
    r->rebalancing = g->rebalancing;
    r->removed = g->removed;
    r->last_trigger = (int8_t)g->last.trigger;
    r->last_rebalance = (int64_t)g->last.rebalance;
    r->n_members = (int32_t)g->n_members;
    r->members = arena_array(fx->arena, g->n_members, sizeof *r->members);
    for (size_t i = 0; i < g->n_members; i++)
        put_member(fx, g->members[i], &r->members[i]);
    r->n_identities = (int32_t)g->n_identities;
    r->identities = arena_array(fx->arena, g->n_identities, sizeof *r->identities);
    for (size_t i = 0; i < g->n_identities; i++) {
        r->identities[i].principal = copy(fx, g->identities[i].principal);
        r->identities[i].host = copy(fx, g->identities[i].host);
        r->identities[i].client_id = copy(fx, g->identities[i].client_id);
        r->identities[i].software = copy(fx, g->identities[i].software);
    }
    r->n_seen = (int32_t)g->n_seen;
    r->seen = arena_array(fx->arena, g->n_seen, sizeof *r->seen);
    for (size_t i = 0; i < g->n_seen; i++) {
        r->seen[i].topic_id = g->seen[i].topic->id;
        r->seen[i].wall_ms = g->seen[i].wall_ms;
    }
}

static void put_mark(struct effects *fx, const struct k_mark *m,
                     struct ledger_partition_record_mark *r)
{
    r->from = m->range.from;
    r->to = m->range.to;
    r->cause = str_from(cause_name(m->cause));
    r->last_spell = m->last_spell;
    r->wall_ms = m->proof.wall_ms;
    r->api = copy(fx, m->proof.api ? str_from(m->proof.api) : STR_NULL);
    r->summary = copy(fx, m->proof.summary);
}

static void put_spell(struct effects *fx, const struct spell *s,
                      struct ledger_partition_record_spell *r)
{
    r->id = s->id;
    r->member = copy(fx, s->party.member);
    r->client_id = copy(fx, s->party.client_id);
    r->host = copy(fx, s->party.host);
    r->software = copy(fx, s->party.software);
    r->principal = copy(fx, s->principal);
    r->is_member = s->member != NULL;
    r->life = (int8_t)s->life;
    r->start = (int8_t)s->start;
    r->manual = s->manual;
    r->orderly = s->orderly;
    r->final_commit = s->final_commit;
    r->ack_final = s->ack_final;
    r->attribution = (int8_t)s->attribution;
    r->end_trigger = (int8_t)s->end_trigger;
    r->first_p = s->first_p;
    r->position = s->position;
    r->sent_end = s->sent_end;
    r->acked_end = s->acked_end;
    r->confirmed_end = s->confirmed_end;
    r->k_begin = s->k_begin;
    r->k_end = s->k_end;
    r->k_before_last = s->k_before_last;
    r->last_commit = s->last_commit;
    r->commit_step = s->commit_step;
    r->commit_wall_ms = s->commit_wall_ms;
    r->refused_k = s->refused_k;
    r->refused_wall_ms = s->refused_wall_ms;
    r->refused_error = (int16_t)s->refused_error;
    r->lost_k = s->lost_k;
    r->zone_from = s->zone.from;
    r->zone_to = s->zone.to;
    r->rebalance = (int64_t)s->rebalance;
    r->mark = s->mark;
    r->sent_any = s->sent_any;
    r->rewound_to = s->rewound_to;
    r->rewound_k = s->rewound_k;
    r->watched = s->watched;
}

static void put_runs(struct effects *fx, const struct gp *gp, struct ledger_partition_record *r)
{
    r->n_runs = (int32_t)gp->n_runs;
    r->runs = arena_array(fx->arena, gp->n_runs, sizeof *r->runs);
    for (size_t i = 0; i < gp->n_runs; i++) {
        const struct run *run = &gp->runs[i];
        r->runs[i].from = run->from;
        r->runs[i].spell = run->spell;
        r->runs[i].prev = run->prev;
        r->runs[i].n = run->n;
        r->runs[i].flags = (int8_t)run->flags;
    }
    r->n_folded = LEDGER_STATES;
    r->folded = arena_array(fx->arena, LEDGER_STATES, sizeof *r->folded);
    for (size_t i = 0; i < LEDGER_STATES; i++)
        r->folded[i] = gp->folded.state[i];
    r->folded_resent = gp->folded.resent;
}

static void put_gp(struct effects *fx, const struct gp *gp)
{
    struct ledger_partition_record *r = effects_record(fx, &ledger_partition_record_msg);
    r->group = copy(fx, gp->group->name);
    r->topic_id = gp->tp->topic->id;
    r->partition = gp->tp->partition;
    r->first = gp->first;
    r->base = gp->base;
    r->k = gp->k;
    r->k_external = gp->k_external;
    r->k_txn_only = gp->k_txn_only;
    r->asked = gp->asked;
    r->next_spell = gp->next_spell;
    put_runs(fx, gp, r);
    put_mark(fx, &gp->altered, &r->altered);
    put_mark(fx, &gp->regressed, &r->regressed);
    r->late_from = gp->late.from;
    r->late_to = gp->late.to;
    r->late_spell = gp->late_spell;
    r->early_from = gp->early.from;
    r->early_to = gp->early.to;
    r->n_spells = (int32_t)gp->n_spells;
    r->spells = arena_array(fx->arena, gp->n_spells, sizeof *r->spells);
    for (size_t i = 0; i < gp->n_spells; i++)
        put_spell(fx, gp->spells[i], &r->spells[i]);
}

// An incident that grows or shrinks with every fetch is written when it opens, doubles, halves,
// changes or closes.
static bool worth_writing(const struct incident *in, bool all)
{
    return all || !in->emitted_records || in->v.closed != in->emitted_closed ||
           in->v.resolved != in->emitted_resolved || (int)in->v.class != in->emitted_class ||
           in->v.certainty < in->emitted_certainty || in->v.records >= 2 * in->emitted_records ||
           (in->v.records > 0 && 2 * in->v.records <= in->emitted_records);
}

static size_t emit_incidents(struct ledger *l, struct effects *fx, bool all)
{
    size_t written = 0, left = 0;
    for (size_t i = 0; i < l->n_dirty; i++) {
        struct incident *in = l->dirty[i];
        if (!worth_writing(in, all)) {
            l->dirty[left++] = in;
            continue;
        }
        put_incident(fx, in);
        in->emitted_records = in->v.records > 0 ? in->v.records : 1;
        in->emitted_class = (int)in->v.class;
        in->emitted_certainty = in->v.certainty;
        in->emitted_closed = in->v.closed;
        in->emitted_resolved = in->v.resolved;
        in->dirty = false;
        written++;
    }
    // Room is kept by powers of two (more), so the count may only fall, which is safe.
    l->n_dirty = left;
    return written;
}

size_t ledger_emit(struct ledger *l, struct effects *fx)
{
    size_t n = emit_incidents(l, fx, false);
    if (!l->rebalances_dirty && !l->expects_dirty && !l->any_begun)
        return n;
    void *item;
    for (size_t it = 0; map_next(l->groups, &it, NULL, &item);) {
        struct group *g = item;
        if (g->expect_dirty) {
            put_expectation(fx, g);
            g->expect_dirty = false;
            n++;
        }
        for (size_t i = 0; l->any_begun && i < g->n_gps; i++) {
            if (!g->gps[i]->begun)
                continue;
            put_gp(fx, g->gps[i]);
            g->gps[i]->begun = false;
            n++;
        }
        for (size_t i = 0; l->rebalances_dirty && i < g->n_rebalances; i++) {
            if (!g->rebalances[i]->dirty)
                continue;
            put_rebalance(fx, g->rebalances[i]);
            g->rebalances[i]->dirty = false;
            n++;
        }
    }
    l->rebalances_dirty = l->expects_dirty = l->any_begun = false;
    return n;
}

void ledger_save(struct ledger *l, struct effects *fx)
{
    (void)emit_incidents(l, fx, true);
    void *item;
    for (size_t it = 0; map_next(l->groups, &it, NULL, &item);) {
        const struct group *g = item;
        put_group(fx, g);
        for (size_t i = 0; i < g->n_gps; i++)
            put_gp(fx, g->gps[i]);
    }
}

void ledger_snapshot(struct ledger *l, struct effects *fx)
{
    void *item;
    for (size_t it = 0; map_next(l->topics, &it, NULL, &item);)
        put_topic(fx, item);
    for (size_t it = 0; map_next(l->groups, &it, NULL, &item);) {
        struct group *g = item;
        put_group(fx, g);
        if (g->expect_set)
            put_expectation(fx, g);
        for (size_t i = 0; i < g->n_gps; i++)
            put_gp(fx, g->gps[i]);
        for (size_t i = 0; i < g->n_rebalances; i++)
            put_rebalance(fx, g->rebalances[i]);
    }
    for (size_t i = 0; i < l->n_incidents; i++)
        put_incident(fx, l->incidents[i]);
}
