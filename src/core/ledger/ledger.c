#include "core/ledger/internal.h"

#include <stdlib.h>
#include <string.h>

struct str keep(struct str s)
{
    return (struct str){str_dup(s), s.len};
}

void drop(struct str *s)
{
    free((void *)(uintptr_t)s->ptr);
    *s = STR_NULL;
}

struct ledger_identity keep_identity(const struct ledger_identity *who)
{
    return (struct ledger_identity){keep(who->principal), keep(who->host), keep(who->client_id),
                                    keep(who->software)};
}

void drop_identity(struct ledger_identity *who)
{
    drop(&who->principal);
    drop(&who->host);
    drop(&who->client_id);
    drop(&who->software);
}

// Nothing known is no difference: a member known from the journal only may lack its software.
static bool fits(struct str a, struct str b)
{
    return a.len <= 0 || b.len <= 0 || str_eq(a, b);
}

bool same_identity(const struct ledger_identity *a, const struct ledger_identity *b)
{
    return str_eq(a->client_id, b->client_id) && fits(a->principal, b->principal) &&
           fits(a->host, b->host) && fits(a->software, b->software);
}

void *more(void *items, size_t n, size_t size)
{
    if (n & (n - 1)) // grows at powers of two only
        return items;
    items = realloc(items, (n ? n * 2 : 1) * size);
    CHECK(items);
    return items;
}

static void *make(size_t size)
{
    void *p = calloc(1, size);
    CHECK(p);
    return p;
}

struct ledger *ledger_new(const struct ledger_logs *logs, enum ledger_expect expect_default)
{
    struct ledger *l = make(sizeof *l);
    l->logs = *logs;
    l->expect_default = expect_default;
    l->groups = map_new();
    l->topics = map_new();
    l->conns = map_new();
    l->processes = map_new();
    l->next_incident = l->next_rebalance = 1;
    l->bindings = 1;
    return l;
}

void gp_free(struct gp *gp)
{
    for (size_t i = 0; i < gp->n_spells; i++)
        spell_free(gp->spells[i]);
    free(gp->spells);
    free(gp->runs);
    drop(&gp->altered.proof.summary);
    drop(&gp->regressed.proof.summary);
    receipts_free(gp->receipts);
    free(gp);
}

static void member_free(struct member *m)
{
    drop(&m->id);
    drop(&m->instance_id);
    drop_identity(&m->who);
    drop(&m->subscription);
    drop(&m->instance);
    free(m);
}

static void group_free(struct group *g)
{
    for (size_t i = 0; i < g->n_gps; i++)
        gp_free(g->gps[i]);
    for (size_t i = 0; i < g->n_members; i++)
        member_free(g->members[i]);
    for (size_t i = 0; i < g->n_identities; i++)
        drop_identity(&g->identities[i]);
    for (size_t i = 0; i < g->n_rebalances; i++)
        rebalance_free(g->rebalances[i]);
    free(g->gps);
    free(g->members);
    map_free(g->by_id);
    free(g->identities);
    free(g->rebalances);
    free(g->seen);
    drop(&g->name);
    free(g);
}

static void topic_free(struct topic *t)
{
    for (int32_t i = 0; i < t->n_tps; i++) {
        free(t->tps[i]->gps);
        free(t->tps[i]->feeds);
        free(t->tps[i]);
    }
    free(t->tps);
    drop(&t->name);
    free(t);
}

static void conn_free(struct conn *c)
{
    void *f;
    for (size_t it = 0; map_next(c->feeds, &it, NULL, &f);)
        feed_free(f);
    map_free(c->feeds);
    drop_identity(&c->who);
    drop(&c->instance);
    free(c);
}

void ledger_free(struct ledger *l)
{
    if (!l)
        return;
    void *item;
    for (size_t it = 0; map_next(l->conns, &it, NULL, &item);)
        conn_free(item);
    for (size_t it = 0; map_next(l->groups, &it, NULL, &item);)
        group_free(item);
    for (size_t it = 0; map_next(l->topics, &it, NULL, &item);)
        topic_free(item);
    for (size_t i = 0; i < l->n_incidents; i++)
        incident_free(l->incidents[i]);
    free(l->incidents);
    free(l->dirty);
    free(l->former);
    free(l->parts);
    map_free(l->conns);
    map_free(l->groups);
    map_free(l->topics);
    map_free(l->processes);
    free(l);
}

struct group *find_group(const struct ledger *l, struct str name)
{
    return map_get(l->groups, key_str(name));
}

struct group *get_group(struct ledger *l, struct str name)
{
    struct group *g = find_group(l, name);
    if (g)
        return g;
    g = make(sizeof *g);
    g->l = l;
    g->name = keep(name);
    g->by_id = map_new();
    g->expect = l->expect_default;
    map_put(l->groups, key_str(g->name), g);
    return g;
}

struct topic *get_topic(struct ledger *l, struct uuid id)
{
    struct topic *t = map_get(l->topics, key_uuid(&id));
    if (t)
        return t;
    t = make(sizeof *t);
    t->id = id;
    t->name = keep(STR_EMPTY);
    map_put(l->topics, key_uuid(&id), t);
    return t;
}

struct tp *find_tp(const struct ledger *l, struct uuid id, int32_t partition)
{
    struct topic *t = map_get(l->topics, key_uuid(&id));
    return t && partition >= 0 && partition < t->n_tps ? t->tps[partition] : NULL;
}

// NULL when the number is beyond reason.
struct tp *get_tp(struct ledger *l, struct uuid id, int32_t partition)
{
    if (partition < 0 || partition >= PARTITIONS_MAX)
        return NULL;
    struct topic *t = get_topic(l, id);
    while (t->n_tps <= partition) {
        t->tps = more(t->tps, (size_t)t->n_tps, sizeof(struct tp *));
        struct tp *tp = t->tps[t->n_tps] = make(sizeof *tp);
        tp->topic = t;
        tp->partition = t->n_tps++;
        tp->created_wall_ms = l->now.wall_ms;
    }
    return t->tps[partition];
}

struct gp *find_gp(const struct group *g, const struct tp *tp)
{
    for (size_t i = 0; tp && i < tp->n_gps; i++)
        if (tp->gps[i]->group == g)
            return tp->gps[i];
    return NULL;
}

struct gp *get_gp(struct group *g, struct tp *tp)
{
    struct gp *gp = find_gp(g, tp);
    if (gp)
        return gp;
    gp = make(sizeof *gp);
    gp->group = g;
    gp->tp = tp;
    gp->first = gp->k = gp->ahead = -1;
    gp->asked = -2;
    gp->next_spell = 1;
    gp->k_txn_only = true;
    gp->altered.proof.summary = gp->regressed.proof.summary = STR_NULL;
    tp->gps = more(tp->gps, tp->n_gps, sizeof(struct gp *));
    tp->gps[tp->n_gps++] = gp;
    g->gps = more(g->gps, g->n_gps, sizeof(struct gp *));
    g->gps[g->n_gps++] = gp;
    return gp;
}

struct member *find_member(const struct group *g, struct str id)
{
    return map_get(g->by_id, key_str(id));
}

static void forget_in_feed(struct ledger *l, const struct member *m)
{
    void *item;
    for (size_t it = 0; map_next(l->conns, &it, NULL, &item);) {
        struct conn *c = item;
        if (c->own == m)
            c->own = NULL;
        if (c->bound == m)
            c->bound = NULL;
    }
}

// Nobody's fetch is bound to this any more.
static void forget_gp(struct gp *gp)
{
    struct tp *tp = gp->tp;
    for (size_t i = 0; i < tp->n_feeds; i++) {
        struct feed *f = tp->feeds[i];
        if (f->gp != gp)
            continue;
        f->kind = FEED_UNBOUND;
        f->gp = NULL;
        f->spell = 0;
    }
    for (size_t i = 0; i < tp->n_gps; i++)
        if (tp->gps[i] == gp) {
            tp->n_gps--;
            memmove(tp->gps + i, tp->gps + i + 1, (tp->n_gps - i) * sizeof(struct gp *));
            return;
        }
}

// A removed group of which nothing is left to tell: every tool that makes up a group's name for
// itself leaves one behind.
void group_forget(struct ledger *l, struct group *g)
{
    bool has_receipts = false;
    for (size_t i = 0; i < g->n_gps; i++)
        has_receipts = has_receipts || g->gps[i]->receipts;
    if (g->n_incidents || g->expect_set || g->evidence != LEDGER_EVIDENCE_NONE || has_receipts)
        return;
    for (size_t i = 0; i < g->n_members; i++)
        forget_in_feed(l, g->members[i]);
    for (size_t i = 0; i < g->n_gps; i++)
        forget_gp(g->gps[i]);
    map_remove(l->groups, key_str(g->name));
    group_free(g);
}

// The same for a deleted topic that no group has read and no connection names.
void topic_forget(struct ledger *l, struct topic *t)
{
    for (int32_t i = 0; i < t->n_tps; i++)
        if (t->tps[i]->n_gps || t->tps[i]->n_feeds)
            return;
    void *item;
    for (size_t it = 0; map_next(l->groups, &it, NULL, &item);) {
        const struct group *g = item;
        for (size_t i = 0; i < g->n_seen; i++)
            if (g->seen[i].topic == t)
                return;
        for (size_t i = 0; i < g->n_rebalances; i++)
            for (size_t k = 0; k < g->rebalances[i]->n_parts; k++)
                if (g->rebalances[i]->parts[k].tp->topic == t)
                    return;
    }
    for (size_t i = 0; i < l->n_former; i++)
        if (l->former[i] == t)
            l->former[i--] = l->former[--l->n_former];
    map_remove(l->topics, key_uuid(&t->id));
    topic_free(t);
}

// Drops the ended member that was seen least lately, when there are too many.
static void forget_members(struct group *g)
{
    size_t ended = 0, oldest = SIZE_MAX;
    for (size_t i = 0; i < g->n_members; i++) {
        if (g->members[i]->live)
            continue;
        ended++;
        if (oldest == SIZE_MAX || g->members[i]->seen_ms < g->members[oldest]->seen_ms)
            oldest = i;
    }
    if (ended <= MEMBERS_ENDED_MAX)
        return;
    struct member *m = g->members[oldest];
    forget_in_feed(g->l, m);
    for (size_t i = 0; i < g->n_gps; i++)
        for (size_t j = 0; j < g->gps[i]->n_spells; j++)
            if (g->gps[i]->spells[j]->member == m)
                g->gps[i]->spells[j]->member = NULL;
    for (size_t i = 0; i < g->n_members; i++)
        if (g->members[i]->successor == m)
            g->members[i]->successor = m->successor;
    g->members[oldest] = g->members[--g->n_members];
    map_remove(g->by_id, key_str(m->id));
    member_free(m);
    g->l->bindings++;
}

struct member *get_member(struct group *g, struct str id)
{
    struct member *m = find_member(g, id);
    if (m)
        return m;
    forget_members(g);
    m = make(sizeof *m);
    m->group = g;
    m->id = keep(id);
    m->instance_id = m->subscription = m->instance = STR_NULL;
    m->who = (struct ledger_identity){STR_NULL, STR_NULL, STR_NULL, STR_NULL};
    m->joined_ms = m->seen_ms = g->l->now.now_ms;
    m->born_ms = g->l->replay ? 0 : m->joined_ms;
    g->members = more(g->members, g->n_members, sizeof(struct member *));
    g->members[g->n_members++] = m;
    map_put(g->by_id, key_str(m->id), m);
    return m;
}

void group_had_identity(struct group *g, const struct ledger_identity *who)
{
    for (size_t i = 0; i < g->n_identities; i++)
        if (str_eq(g->identities[i].client_id, who->client_id) &&
            str_eq(g->identities[i].principal, who->principal) &&
            str_eq(g->identities[i].software, who->software))
            return;
    if (g->n_identities == IDENTITIES_MAX) {
        g->all_identities = true;
        return;
    }
    g->identities = more(g->identities, g->n_identities, sizeof *g->identities);
    g->identities[g->n_identities++] = keep_identity(who);
}

bool group_knows(const struct group *g, const struct ledger_identity *who)
{
    for (size_t i = 0; i < g->n_identities; i++)
        if (str_eq(g->identities[i].client_id, who->client_id) &&
            fits(g->identities[i].principal, who->principal) &&
            fits(g->identities[i].software, who->software))
            return true;
    return g->all_identities;
}

struct conn *find_conn(const struct ledger *l, uint64_t id)
{
    return map_get(l->conns, key_u64(&id));
}

struct ledger_range log_bounds(const struct gp *gp)
{
    struct ledger_range r = {0, 0};
    const struct ledger_logs *logs = &gp->group->l->logs;
    if (!logs->bounds || !logs->bounds(logs->ctx, gp->tp->topic->id, gp->tp->partition, &r))
        r = (struct ledger_range){0, 0};
    return r;
}

int64_t data_in(const struct gp *gp, int64_t from, int64_t to)
{
    const struct ledger_logs *logs = &gp->group->l->logs;
    if (!logs->not_data || from >= to)
        return from < to ? to - from : 0;
    int64_t none = logs->not_data(logs->ctx, gp->tp->topic->id, gp->tp->partition,
                                  (struct ledger_range){from, to});
    return none > to - from ? 0 : to - from - none;
}

// ---- connections

void ledger_conn_opened(struct ledger *l, struct ledger_time t, uint64_t conn,
                        const struct ledger_identity *who, struct str instance)
{
    l->now = t;
    struct conn *c = find_conn(l, conn);
    if (!c) {
        c = make(sizeof *c);
        c->id = conn;
        c->opened_ms = t.now_ms;
        c->feeds = map_new();
        map_put(l->conns, key_u64(&conn), c);
    } else {
        drop_identity(&c->who);
        drop(&c->instance);
    }
    c->who = keep_identity(who);
    c->instance = keep(instance);
    l->bindings++;
}

static void member_lost_conn(struct member *m)
{
    if (m && m->n_conns)
        m->n_conns--;
}

// Its spells have all the acknowledgements that they will ever get.
static void conn_settle_acks(struct conn *c)
{
    void *item;
    for (size_t it = 0; map_next(c->feeds, &it, NULL, &item);) {
        struct feed *f = item;
        struct spell *s = f->kind != FEED_UNBOUND ? find_spell(f->gp, f->spell) : NULL;
        if (!s || s->conn != c->id)
            continue;
        s->ack_final = true;
        s->conn = 0;
        if (s->manual && s->life != SPELL_ENDED)
            spell_end(f->gp, s, LEDGER_TRIGGER_DISCONNECT, false);
    }
}

void ledger_conn_closed(struct ledger *l, struct ledger_time t, uint64_t conn)
{
    l->now = t;
    struct conn *c = find_conn(l, conn);
    if (!c)
        return;
    conn_settle_acks(c);
    member_lost_conn(c->own);
    if (c->own)
        c->own->n_own--;
    if (c->bound != c->own)
        member_lost_conn(c->bound);
    map_remove(l->conns, key_u64(&conn));
    if (l->last_conn == c)
        l->last_conn = NULL;
    conn_free(c);
    l->bindings++;
}

static void member_timing(struct member *m, uint64_t now_ms, int16_t api)
{
    m->seen_ms = now_ms;
    if (api != API_HEARTBEAT && api != API_JOIN_GROUP && api != API_SYNC_GROUP)
        return;
    if (m->heartbeat_ms && now_ms - m->heartbeat_ms > m->heartbeat_gap_ms)
        m->heartbeat_gap_ms = now_ms - m->heartbeat_ms;
    m->heartbeat_ms = now_ms;
}

static void conn_own(struct ledger *l, struct conn *c, struct member *m)
{
    struct member *was = c->own;
    if (was == m)
        return;
    if (was && was->group == m->group && !was->successor && m->successor != was) {
        was->successor = m; // a member id that joins later on the same connection
    } else if (was) {
        c->own_mixed = true;
    }
    member_lost_conn(was);
    if (was)
        was->n_own--;
    m->n_own++;
    c->own = m;
    if (c->bound != m)
        m->n_conns++;
    m->had_conn = true;
    l->bindings++;
}

void ledger_own_request(struct ledger *l, struct ledger_time t, uint64_t conn, struct str group,
                        struct str member, int16_t api)
{
    l->now = t;
    struct conn *c = find_conn(l, conn);
    if (!c || member.len <= 0)
        return;
    // Nearly always the one that it was before.
    struct member *m = c->own;
    if (!m || !str_eq(m->id, member) || !str_eq(m->group->name, group))
        m = find_member(get_group(l, group), member);
    if (!m) {
        // An id that is no member's may be a zombie's from before a restart, or nonsense.
        if (api != API_JOIN_GROUP)
            return;
        m = get_member(get_group(l, group), member);
    }
    member_timing(m, t.now_ms, api);
    if (m->who.client_id.len < 0) {
        drop_identity(&m->who);
        m->who = keep_identity(&c->who);
        group_had_identity(m->group, &m->who);
    }
    if (m->instance.len < 0 && c->instance.len > 0) {
        m->instance = keep(c->instance);
        l->bindings++;
    }
    if (api == API_JOIN_GROUP)
        m->live = true;
    conn_own(l, c, m);
}

void ledger_overflow(struct ledger *l, struct ledger_time t, uint64_t conn)
{
    l->now = t;
    void *item;
    for (size_t it = 0; map_next(l->groups, &it, NULL, &item);) {
        struct group *g = item;
        for (size_t i = 0; i < g->n_gps; i++) {
            struct spell *s = open_spell(g->gps[i]);
            if (conn && (!s || (s->conn && s->conn != conn)))
                continue;
            gp_uncover(g->gps[i], g->gps[i]->base, log_bounds(g->gps[i]).to);
        }
    }
}

void ledger_accounting(struct ledger *l, struct ledger_time t, bool on)
{
    if (on == !l->off)
        return;
    ledger_overflow(l, t, 0);
    l->off = !on;
}

// ---- expectation

enum ledger_expect ledger_expect(const struct ledger *l, struct str group)
{
    const struct group *g = find_group(l, group);
    return g && g->expect_set ? g->expect : l->expect_default;
}

void ledger_set_expect(struct ledger *l, struct str group, enum ledger_expect expect)
{
    struct group *g = get_group(l, group);
    g->expect = expect;
    g->expect_set = g->expect_dirty = l->expects_dirty = true;
}

void ledger_forced(struct ledger *l, struct str group, bool on)
{
    get_group(l, group)->forced = on;
}
