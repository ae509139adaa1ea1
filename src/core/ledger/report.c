// The private report API: the views as one response.

#include "core/ledger/internal.h"

static struct str text(struct arena *a, const char *s)
{
    return arena_str(a, str_from(s));
}

static void put_partition(const struct ledger_partition_view *v,
                          struct tally_report_response_partition *p, struct arena *a)
{
    p->topic = arena_str(a, v->topic);
    p->topic_id = v->topic_id;
    p->partition = v->partition;
    p->log_start = v->log_start;
    p->first = v->first;
    p->end = v->end;
    p->committed_offset = v->committed_offset;
    p->waiting = v->state[LEDGER_WAITING];
    p->in_flight = v->state[LEDGER_IN_FLIGHT];
    p->returned = v->state[LEDGER_RETURNED];
    p->committed = v->state[LEDGER_COMMITTED];
    p->skipped = v->state[LEDGER_SKIPPED];
    p->expired = v->state[LEDGER_EXPIRED];
    p->abandoned = v->state[LEDGER_ABANDONED];
    p->unknown = v->state[LEDGER_UNKNOWN];
    p->not_data = v->state[LEDGER_NOT_DATA];
    p->resent = v->resent;
    p->owner = arena_str(a, v->owner);
}

static bool wanted(struct str filter, struct str topic)
{
    return filter.len < 0 || str_eq(filter, topic);
}

static void put_partitions(const struct ledger *l, const struct tally_report_request *req,
                           struct tally_report_response_group *g, struct arena *a)
{
    struct ledger_partition_view v;
    size_t n = 0;
    for (size_t it = 0; ledger_next_partition(l, g->group, &it, &v);)
        n += wanted(req->topic, v.topic);
    g->partitions = arena_array(a, n, sizeof *g->partitions);
    g->n_partitions = 0;
    for (size_t it = 0; ledger_next_partition(l, g->group, &it, &v);)
        if (wanted(req->topic, v.topic))
            put_partition(&v, &g->partitions[g->n_partitions++], a);
}

static void put_rebalance(const struct ledger_rebalance_view *v,
                          struct tally_report_response_rebalance *r, struct arena *a)
{
    r->id = (int64_t)v->id;
    r->time_ms = v->wall_ms;
    r->ended_ms = v->ended_wall_ms;
    r->from_epoch = v->from_generation;
    r->to_epoch = v->to_generation;
    r->trigger = text(a, ledger_trigger_name(v->trigger));
    r->member = arena_str(a, v->member);
    r->reason = arena_str(a, v->reason);
    r->waited_for = arena_str(a, v->waited_for);
    r->forced = v->forced;
    r->n_partitions = (int32_t)v->n_partitions;
    r->partitions = arena_array(a, v->n_partitions, sizeof *r->partitions);
    for (size_t i = 0; i < v->n_partitions; i++) {
        const struct ledger_handover_view *h = &v->partitions[i];
        struct tally_report_response_handover *p = &r->partitions[i];
        p->topic = arena_str(a, h->topic);
        p->partition = h->partition;
        p->from = arena_str(a, h->from);
        p->to = arena_str(a, h->to);
        p->pause_ms = h->pause_ms;
        p->resent = h->resent;
    }
}

static void put_rebalances(const struct ledger *l, const struct tally_report_request *req,
                           struct tally_report_response_group *g, struct arena *a)
{
    struct ledger_rebalance_view v;
    size_t n = 0;
    g->n_rebalances = 0;
    if (!req->rebalances)
        return;
    for (size_t it = 0; ledger_next_rebalance(l, g->group, &it, &v);)
        n++;
    g->rebalances = arena_array(a, n, sizeof *g->rebalances);
    for (size_t it = 0; ledger_next_rebalance(l, g->group, &it, &v);)
        if (v.wall_ms >= req->since_ms)
            put_rebalance(&v, &g->rebalances[g->n_rebalances++], a);
}

static void put_party(const struct ledger_party *p, struct tally_report_response_party *r,
                      struct arena *a)
{
    r->member = arena_str(a, p->member);
    r->client_id = p->client_id.len > 0 ? arena_str(a, p->client_id) : STR_EMPTY;
    r->host = p->host.len > 0 ? arena_str(a, p->host) : STR_EMPTY;
    r->software = p->software.len > 0 ? arena_str(a, p->software) : STR_EMPTY;
}

static void put_causes(uint64_t set, struct tally_report_response_incident *r, struct arena *a)
{
    r->contributing = arena_array(a, CAUSE_COUNT, sizeof *r->contributing);
    r->n_contributing = 0;
    for (unsigned c = 0; c < CAUSE_COUNT; c++)
        if (set & (UINT64_C(1) << c))
            r->contributing[r->n_contributing++] = text(a, cause_name((enum cause)c));
}

static void put_incident(const struct ledger_incident_view *v,
                         struct tally_report_response_incident *r, struct arena *a)
{
    r->id = (int64_t)v->id;
    r->version = (int64_t)v->version;
    r->time_ms = v->wall_ms;
    r->topic = arena_str(a, v->topic);
    r->partition = v->partition;
    r->first = v->first;
    r->last = v->last;
    r->records = v->records;
    r->likely_at_most = v->likely_at_most;
    r->class = text(a, ledger_class_name(v->class));
    r->certainty = text(a, ledger_certainty_name(v->certainty));
    r->cause = text(a, cause_name(v->cause));
    put_causes(v->contributing, r, a);
    r->trigger = text(a, ledger_trigger_name(v->trigger));
    r->rebalance = (int64_t)v->rebalance;
    r->attribution = text(a, ledger_certainty_name(v->attribution));
    put_party(&v->from, &r->from, a);
    put_party(&v->to, &r->to, a);
    r->n_evidence = (int32_t)v->n_evidence;
    r->evidence = arena_array(a, v->n_evidence, sizeof *r->evidence);
    for (size_t i = 0; i < v->n_evidence; i++) {
        r->evidence[i].time_ms = v->evidence[i].wall_ms;
        r->evidence[i].api = text(a, v->evidence[i].api);
        r->evidence[i].summary = arena_str(a, v->evidence[i].summary);
    }
    r->advice = arena_str(a, v->advice);
    r->quiet = v->quiet;
    r->forced = v->forced;
    r->closed = v->closed;
    r->resolved = v->resolved;
}

static bool incident_wanted(const struct tally_report_request *req,
                            const struct ledger_incident_view *v)
{
    return v->wall_ms >= req->since_ms && (v->topic.len < 0 || wanted(req->topic, v->topic));
}

static void put_incidents(const struct ledger *l, const struct tally_report_request *req,
                          struct tally_report_response_group *g, struct arena *a)
{
    struct ledger_incident_view v;
    uint64_t since = req->after_version > 0 ? (uint64_t)req->after_version : 0;
    size_t n = 0;
    for (size_t it = 0; ledger_next_incident(l, g->group, since, &it, &v);)
        n += incident_wanted(req, &v);
    g->incidents = arena_array(a, n, sizeof *g->incidents);
    g->n_incidents = 0;
    for (size_t it = 0; ledger_next_incident(l, g->group, since, &it, &v);)
        if (incident_wanted(req, &v))
            put_incident(&v, &g->incidents[g->n_incidents++], a);
}

void ledger_report(const struct ledger *l, const struct tally_report_request *req,
                   struct tally_report_response *ret, struct arena *a)
{
    struct ledger_group_view v;
    size_t n = 0;
    for (size_t it = 0; ledger_next_group(l, &it, &v);)
        n += wanted(req->group, v.group);
    kw_init(&tally_report_response_msg, ret);
    ret->error_message = ret->verify_failure = STR_NULL;
    ret->version = (int64_t)l->version;
    ret->groups = arena_array(a, n, sizeof *ret->groups);
    ret->n_groups = 0;
    for (size_t it = 0; ledger_next_group(l, &it, &v);) {
        if (!wanted(req->group, v.group))
            continue;
        struct tally_report_response_group *g = &ret->groups[ret->n_groups];
        g->group = arena_str(a, v.group);
        g->protocol = g->state = STR_EMPTY;
        g->expect = text(a, ledger_expect_name(v.expect));
        put_partitions(l, req, g, a);
        put_rebalances(l, req, g, a);
        put_incidents(l, req, g, a);
        // One that has nothing to do with the topic asked for is left out.
        bool is_other = !str_is_null(req->topic) && g->n_partitions == 0 && g->n_incidents == 0;
        ret->n_groups += !is_other;
    }
    struct buf why = {0};
    if (req->verify && !ledger_verify(l, &why))
        ret->verify_failure = arena_str(a, (struct str){(const char *)why.ptr, (int32_t)why.len});
    buf_free(&why);
}
