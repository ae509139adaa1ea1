#include "core/group/private.h"

#include <stdlib.h>
#include <string.h>

static void *zeroed(size_t size)
{
    void *p = calloc(1, size ? size : 1);
    CHECK(p);
    return p;
}

// Owned memory is seen through const pointers; freeing it is the one place where that ends.
static void release(const void *p)
{
    free((void *)(uintptr_t)p);
}

struct str str_own(struct str s)
{
    return str_is_null(s) ? STR_NULL : (struct str){str_dup(s), s.len};
}

void str_release(struct str *s)
{
    release(s->ptr);
    *s = STR_NULL;
}

struct bytes bytes_own(struct bytes b)
{
    if (b.len == 0)
        return (struct bytes){NULL, 0};
    uint8_t *copy = zeroed(b.len);
    memcpy(copy, b.ptr, b.len);
    return (struct bytes){copy, b.len};
}

void bytes_release(struct bytes *b)
{
    release(b->ptr);
    *b = (struct bytes){NULL, 0};
}

struct turn turn_of(struct core *c, const struct asker *who, struct effects *fx)
{
    c->now_ms = who->now_ms;
    return (struct turn){c, who, fx, who->now_ms, who->wall_ms};
}

struct ledger_time turn_time(const struct turn *t)
{
    return (struct ledger_time){t->now_ms, t->wall_ms};
}

struct ledger_identity identity_of(const struct asker *who)
{
    return (struct ledger_identity){
        .principal = who->principal,
        .host = who->host,
        .client_id = who->client_id,
        .software = who->software,
    };
}

void turn_own_request(const struct turn *t, struct str group, struct str member, int16_t api)
{
    if (member.len > 0)
        ledger_own_request(t->core->ledger, turn_time(t), t->who->conn, group, member, api);
}

struct groups *groups_new(void)
{
    struct groups *gs = zeroed(sizeof *gs);
    gs->by_id = map_new();
    gs->parked = map_new();
    gs->scratch = arena_new();
    return gs;
}

void groups_free(struct core *c)
{
    struct groups *gs = c->groups;
    if (!gs)
        return;
    void *g;
    for (size_t it = 0; map_next(gs->by_id, &it, NULL, &g);)
        groups_drop(c, g);
    map_free(gs->by_id);
    map_free(gs->parked);
    arena_free(gs->scratch);
    free(gs);
    c->groups = NULL;
}

struct group *groups_get(const struct core *c, struct str id)
{
    return map_get(c->groups->by_id, key_str(id));
}

struct group *groups_make(struct core *c, struct str id)
{
    struct group *g = groups_get(c, id);
    if (g)
        return g;
    g = zeroed(sizeof *g);
    g->id = str_own(id);
    g->protocol_type = g->protocol_name = STR_NULL;
    list_init(&g->members);
    g->by_id = map_new();
    g->by_instance = map_new();
    g->supported = map_new();
    g->pending = map_new();
    g->offsets = map_new();
    g->join_timer.kind = TIMER_GROUP_JOIN;
    g->sync_timer.kind = TIMER_GROUP_SYNC;
    map_put(c->groups->by_id, key_str(g->id), g);
    return g;
}

void groups_drop(struct core *c, struct group *g)
{
    map_remove(c->groups->by_id, key_str(g->id));
    heap_cancel(&c->timers, &g->join_timer.node);
    heap_cancel(&c->timers, &g->sync_timer.node);
    LIST_EACH (node, &g->members)
        group_remove_member(c, LIST_ITEM(node, struct member, node));
    void *p;
    for (size_t it = 0; map_next(g->pending, &it, NULL, &p);)
        group_pending_drop(c, p);
    offsets_free(g);
    map_free(g->by_id);
    map_free(g->by_instance);
    map_free(g->supported);
    map_free(g->pending);
    map_free(g->subscribed);
    map_free(g->offsets);
    str_release(&g->id);
    str_release(&g->protocol_type);
    str_release(&g->protocol_name);
    bytes_release(&g->stable);
    free(g);
}

struct member *group_member(const struct group *g, struct str id)
{
    return map_get(g->by_id, key_str(id));
}

struct member *group_static_member(const struct group *g, struct str instance_id)
{
    return str_is_null(instance_id) ? NULL : map_get(g->by_instance, key_str(instance_id));
}

struct pending *group_pending(const struct group *g, struct str id)
{
    return map_get(g->pending, key_str(id));
}

struct pending *group_pending_add(struct group *g, struct str id)
{
    struct pending *p = zeroed(sizeof *p);
    p->group = g;
    p->id = str_own(id);
    p->timer.kind = TIMER_MEMBER_PENDING;
    map_put(g->pending, key_str(p->id), p);
    return p;
}

void group_pending_drop(struct core *c, struct pending *p)
{
    heap_cancel(&c->timers, &p->timer.node);
    map_remove(p->group->pending, key_str(p->id));
    str_release(&p->id);
    free(p);
}

enum kerr group_check_member(const struct group *g, struct str id, struct str instance_id)
{
    if (!str_is_null(instance_id)) {
        const struct member *holder = group_static_member(g, instance_id);
        if (!holder)
            return KERR_UNKNOWN_MEMBER_ID;
        if (!str_eq(holder->id, id))
            return KERR_FENCED_INSTANCE_ID;
    }
    return group_member(g, id) ? KERR_NONE : KERR_UNKNOWN_MEMBER_ID;
}

void member_set_identity(struct member *m, const struct ledger_identity *who)
{
    str_release(&m->client_id);
    str_release(&m->host);
    str_release(&m->principal);
    str_release(&m->software);
    m->client_id = str_own(who->client_id);
    m->host = str_own(who->host);
    m->principal = str_own(who->principal);
    m->software = str_own(who->software);
}

struct member *group_add_member(struct group *g, struct str id, struct str instance_id,
                                const struct ledger_identity *who)
{
    struct member *m = zeroed(sizeof *m);
    m->group = g;
    m->id = str_own(id);
    m->instance_id = str_own(instance_id);
    m->client_id = m->host = m->principal = m->software = STR_NULL;
    member_set_identity(m, who);
    m->session.kind = TIMER_MEMBER_SESSION;
    list_append(&g->members, &m->node);
    g->n_members++;
    map_put(g->by_id, key_str(m->id), m);
    if (!str_is_null(instance_id))
        map_put(g->by_instance, key_str(m->instance_id), m);
    if (!g->leader)
        g->leader = m;
    return m;
}

void group_rename_member(struct group *g, struct member *m, struct str id)
{
    map_remove(g->by_id, key_str(m->id));
    str_release(&m->id);
    m->id = str_own(id);
    map_put(g->by_id, key_str(m->id), m);
}

void group_remove_member(struct core *c, struct member *m)
{
    struct group *g = m->group;
    heap_cancel(&c->timers, &m->session.node);
    if (m->join.waits)
        g->n_awaiting_join--;
    g->n_pending_sync -= m->is_pending_sync;
    parked_clear(c, &m->join);
    parked_clear(c, &m->sync);
    member_set_protocols(m, NULL, 0);
    list_remove(&m->node);
    g->n_members--;
    map_remove(g->by_id, key_str(m->id));
    if (!str_is_null(m->instance_id))
        map_remove(g->by_instance, key_str(m->instance_id));
    if (g->leader == m)
        g->leader =
            list_is_empty(&g->members) ? NULL : LIST_ITEM(g->members.next, struct member, node);
    str_release(&m->id);
    str_release(&m->instance_id);
    str_release(&m->client_id);
    str_release(&m->host);
    str_release(&m->principal);
    str_release(&m->software);
    bytes_release(&m->assignment);
    free(m);
}

static void count_supported(struct group *g, const struct member *m, int by)
{
    for (int32_t i = 0; i < m->n_protocols; i++) {
        struct bytes key = key_str(m->protocols[i].name);
        uintptr_t n = (uintptr_t)map_get(g->supported, key) + (uintptr_t)by;
        if (n)
            map_put(g->supported, key, (void *)n);
        else
            map_remove(g->supported, key);
    }
}

static bool offered_before(const struct protocol *protocols, int32_t i)
{
    for (int32_t k = 0; k < i; k++)
        if (str_eq(protocols[k].name, protocols[i].name))
            return true;
    return false;
}

void member_set_protocols(struct member *m, const struct protocol *protocols, int32_t n)
{
    size_t size = 0;
    for (int32_t i = 0; i < n; i++)
        size += sizeof *protocols + (size_t)protocols[i].name.len + protocols[i].metadata.len;
    struct protocol *copy = n > 0 ? zeroed(size) : NULL;
    char *tail = n > 0 ? (char *)(copy + n) : NULL;
    int32_t kept = 0;
    for (int32_t i = 0; i < n; i++) {
        if (offered_before(protocols, i))
            continue;
        struct protocol *p = &copy[kept++];
        p->name = (struct str){tail, protocols[i].name.len};
        memcpy(tail, protocols[i].name.ptr, (size_t)p->name.len);
        tail += p->name.len;
        p->metadata = (struct bytes){(uint8_t *)tail, protocols[i].metadata.len};
        if (p->metadata.len)
            memcpy(tail, protocols[i].metadata.ptr, p->metadata.len);
        tail += p->metadata.len;
    }
    count_supported(m->group, m, -1);
    free(m->protocols);
    m->protocols = copy;
    m->n_protocols = kept;
    count_supported(m->group, m, 1);
}

bool member_matches(const struct member *m, const struct protocol *protocols, int32_t n)
{
    int32_t k = 0;
    for (int32_t i = 0; i < n; i++) {
        if (offered_before(protocols, i))
            continue;
        if (k >= m->n_protocols || !str_eq(m->protocols[k].name, protocols[i].name) ||
            !bytes_eq(m->protocols[k].metadata, protocols[i].metadata))
            return false;
        k++;
    }
    return k == m->n_protocols;
}

struct bytes member_metadata(const struct member *m, struct str protocol)
{
    for (int32_t i = 0; i < m->n_protocols; i++)
        if (str_eq(m->protocols[i].name, protocol))
            return m->protocols[i].metadata;
    return (struct bytes){(const uint8_t *)"", 0};
}

void member_set_assignment(struct member *m, struct bytes assignment)
{
    struct bytes copy = bytes_own(assignment);
    bytes_release(&m->assignment);
    m->assignment = copy;
}

void member_touch(const struct turn *t, struct member *m)
{
    uint64_t timeout_ms = m->session_timeout_ms > 0 ? (uint64_t)m->session_timeout_ms : 0;
    heap_put_off(&t->core->timers, &m->session.node, t->now_ms + timeout_ms);
}

void group_answered_late(struct core *c, struct str group, struct str member, uint64_t now_ms)
{
    struct group *g = groups_get(c, group);
    struct member *m = g ? group_member(g, member) : NULL;
    struct turn t = {.core = c, .now_ms = now_ms};
    if (m)
        member_touch(&t, m);
}

bool group_supports(const struct group *g, struct str type, const struct protocol *protocols,
                    int32_t n)
{
    if (!g || g->state == GROUP_EMPTY)
        return type.len > 0 && n > 0;
    if (!str_eq(g->protocol_type, type))
        return false;
    for (int32_t i = 0; i < n; i++)
        if ((uintptr_t)map_get(g->supported, key_str(protocols[i].name)) == g->n_members)
            return true;
    return false;
}

static bool all_support(const struct group *g, struct str protocol)
{
    return (uintptr_t)map_get(g->supported, key_str(protocol)) == g->n_members;
}

// Each member votes for the first protocol in its list that all support.
static size_t count_votes(const struct group *g, struct str protocol)
{
    size_t votes = 0;
    LIST_EACH (node, &g->members) {
        const struct member *m = LIST_ITEM(node, struct member, node);
        for (int32_t i = 0; i < m->n_protocols; i++) {
            if (!all_support(g, m->protocols[i].name))
                continue;
            votes += str_eq(m->protocols[i].name, protocol);
            break;
        }
    }
    return votes;
}

struct str group_select_protocol(const struct group *g)
{
    // Kafka leaves a tie to chance; here the order of the member that joined first decides.
    const struct member *first = LIST_ITEM(g->members.next, struct member, node);
    struct str best = STR_NULL;
    size_t most = 0;
    for (int32_t i = 0; i < first->n_protocols; i++) {
        struct str name = first->protocols[i].name;
        size_t votes = all_support(g, name) ? count_votes(g, name) : 0;
        if (votes > most) {
            most = votes;
            best = name;
        }
    }
    return best;
}

int32_t group_rebalance_timeout_ms(const struct group *g)
{
    int32_t longest = 0;
    LIST_EACH (node, &g->members) {
        const struct member *m = LIST_ITEM(node, struct member, node);
        if (m->rebalance_timeout_ms > longest)
            longest = m->rebalance_timeout_ms;
    }
    return longest;
}

bool group_all_joined(const struct group *g)
{
    return g->n_members == g->n_awaiting_join && map_count(g->pending) == 0;
}

bool group_is_consumer(const struct group *g)
{
    return str_eq_c(g->protocol_type, "consumer");
}

size_t group_record_size(const struct group *g)
{
    size_t size = 0;
    LIST_EACH (node, &g->members) {
        const struct member *m = LIST_ITEM(node, struct member, node);
        size += (size_t)m->id.len + (size_t)m->client_id.len + (size_t)m->host.len +
                (size_t)m->principal.len + (size_t)m->software.len;
        size += m->instance_id.len > 0 ? (size_t)m->instance_id.len : 0;
        size += member_metadata(m, g->protocol_name).len + m->assignment.len;
    }
    return size;
}

struct str group_state_name(const struct group *g)
{
    switch (g->state) {
    case GROUP_EMPTY:
        return STR("Empty");
    case GROUP_PREPARING:
        return STR("PreparingRebalance");
    case GROUP_COMPLETING:
        return STR("CompletingRebalance");
    case GROUP_STABLE:
        return STR("Stable");
    }
    UNREACHABLE();
}

void parked_set(struct core *c, struct parked *p, const struct asker *who)
{
    *p = (struct parked){true, who->token, who->conn, who->version};
    map_put(c->groups->parked, key_u64(&who->conn), p);
}

void parked_clear(struct core *c, struct parked *p)
{
    if (p->waits && p->token)
        map_remove(c->groups->parked, key_u64(&p->conn));
    *p = (struct parked){0};
}

void groups_conn_closed(struct core *c, uint64_t conn)
{
    struct parked *p = map_remove(c->groups->parked, key_u64(&conn));
    if (p)
        p->token = 0;
}
