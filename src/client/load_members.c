#include "client/load_members.h"
#include "wire/consumer_protocol.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SESSION_TIMEOUT_MS 60000
#define REBALANCE_TIMEOUT_MS 120000
#define BEAT_EVERY_NS UINT64_C(500000000)
#define COORDINATOR_NEW_NS UINT64_C(30000000000)

enum tag { TAG_JOIN, TAG_SYNC, TAG_BEAT, TAG_LEAVE };

// Of member i: the group, or one of several with a number behind its name.
static struct str name_of(const struct members *m, int32_t i)
{
    const struct load_options *o = m->load->options;
    if (o->groups <= 1)
        return str_from(o->group);
    return str_from(arena_printf(m->load->arena, "%s-%d", o->group, (int)(i % o->groups)));
}

void members_join(struct members *m, int32_t i, uint64_t now_ns)
{
    struct load *l = m->load;
    struct member *me = &m->of[i];
    if (me->state == MEMBER_STABLE)
        m->n_stable--;
    if (me->state == MEMBER_OUT || me->state == MEMBER_STABLE)
        me->asked_ns = now_ns;
    me->state = MEMBER_JOINING;
    struct consumer_protocol_subscription subscription;
    consumer_protocol_subscription_init(&subscription);
    subscription.topics = &l->topic.name;
    subscription.n_topics = 1;
    struct buf blob = {0};
    consumer_subscription_write(0, &subscription, &blob);
    struct join_group_request_protocol protocol;
    join_group_request_protocol_init(&protocol);
    protocol.name = STR("range");
    protocol.metadata = (struct bytes){blob.ptr, blob.len};
    struct join_group_request request;
    join_group_request_init(&request);
    request.group_id = me->group;
    request.session_timeout_ms = SESSION_TIMEOUT_MS;
    request.rebalance_timeout_ms = REBALANCE_TIMEOUT_MS;
    request.member_id = str_from(me->id);
    request.protocol_type = STR("consumer");
    request.protocols = &protocol;
    request.n_protocols = 1;
    me->is_asking = true;
    load_ask(&l->conns[i], API_JOIN_GROUP, m->join_version, &request, TAG_JOIN);
    buf_free(&blob);
}

// Partition p goes to member p modulo the members: enough for a load.
static void assign(struct members *m, const struct join_group_response *r,
                   struct sync_group_request *request, struct buf *blobs)
{
    struct load *l = m->load;
    struct arena *a = l->scratch;
    int32_t n = r->n_members;
    request->assignments = arena_array(a, (size_t)n, sizeof *request->assignments);
    request->n_assignments = n;
    size_t *ends = arena_array(a, (size_t)n + 1, sizeof *ends);
    for (int32_t k = 0; k < n; k++) {
        struct consumer_protocol_assignment_topic_partition tp = {.topic = l->topic.name};
        size_t most = (size_t)(l->topic.n_partitions / n) + 1;
        tp.partitions = arena_array(a, most, sizeof *tp.partitions);
        for (int32_t p = k; p < l->topic.n_partitions; p += n)
            tp.partitions[tp.n_partitions++] = p;
        struct consumer_protocol_assignment given;
        consumer_protocol_assignment_init(&given);
        given.assigned_partitions = &tp;
        given.n_assigned_partitions = tp.n_partitions ? 1 : 0;
        consumer_assignment_write(0, &given, blobs);
        ends[k + 1] = blobs->len;
    }
    for (int32_t k = 0; k < n; k++) {
        struct sync_group_request_assignment *to = &request->assignments[k];
        sync_group_request_assignment_init(to);
        to->member_id = r->members[k].member_id;
        to->assignment = (struct bytes){blobs->ptr + ends[k], ends[k + 1] - ends[k]};
    }
}

static void sync_up(struct members *m, int32_t i, const struct join_group_response *r)
{
    struct load *l = m->load;
    struct member *me = &m->of[i];
    struct sync_group_request request;
    sync_group_request_init(&request);
    request.group_id = me->group;
    request.generation_id = r->generation_id;
    request.member_id = str_from(me->id);
    request.protocol_type = STR("consumer");
    request.protocol_name = STR("range");
    struct buf blobs = {0};
    if (str_eq(r->leader, r->member_id))
        assign(m, r, &request, &blobs);
    me->state = MEMBER_SYNCING;
    me->is_asking = true;
    load_ask(&l->conns[i], API_SYNC_GROUP, m->sync_version, &request, TAG_SYNC);
    buf_free(&blobs);
}

static void take_join(struct members *m, int32_t i, struct bytes frame)
{
    struct load *l = m->load;
    struct member *me = &m->of[i];
    struct join_group_response r;
    if (!load_answer(&l->conns[i], API_JOIN_GROUP, m->join_version, frame, &r))
        return;
    switch (r.error_code) {
    case KERR_NONE:
    case KERR_MEMBER_ID_REQUIRED:
        snprintf(me->id, sizeof me->id, "%.*s", STR_FMT(r.member_id));
        me->generation = r.generation_id;
        if (r.error_code)
            members_join(m, i, load_now_ns());
        else
            sync_up(m, i, &r);
        return;
    case KERR_UNKNOWN_MEMBER_ID:
        me->id[0] = 0;
        members_join(m, i, load_now_ns());
        return;
    case KERR_COORDINATOR_LOAD_IN_PROGRESS:
    case KERR_COORDINATOR_NOT_AVAILABLE:
    case KERR_REBALANCE_IN_PROGRESS:
        members_join(m, i, load_now_ns());
        return;
    default:
        break;
    }
    // A coordinator that is new to the group may say for a while that it is none.
    if (r.error_code == KERR_NOT_COORDINATOR && load_now_ns() - l->start_ns < COORDINATOR_NEW_NS)
        members_join(m, i, load_now_ns());
    else
        load_fail(l, -EREMOTEIO, "join group %s: %s", l->options->group, kerr_name(r.error_code));
}

static void take_assignment(struct members *m, int32_t i, struct bytes assignment)
{
    struct load *l = m->load;
    struct consumer_protocol_assignment a;
    int16_t version;
    m->of[i].partition = i % l->topic.n_partitions;
    if (consumer_assignment_read(assignment, l->scratch, &a, &version) == 0 &&
        a.n_assigned_partitions > 0 && a.assigned_partitions[0].n_partitions > 0)
        m->of[i].partition = a.assigned_partitions[0].partitions[0];
}

static void take_sync(struct members *m, int32_t i, struct bytes frame)
{
    struct load *l = m->load;
    struct member *me = &m->of[i];
    struct sync_group_response r;
    if (!load_answer(&l->conns[i], API_SYNC_GROUP, m->sync_version, frame, &r))
        return;
    if (r.error_code == KERR_REBALANCE_IN_PROGRESS || r.error_code == KERR_ILLEGAL_GENERATION ||
        r.error_code == KERR_UNKNOWN_MEMBER_ID) {
        members_join(m, i, load_now_ns());
        return;
    }
    if (r.error_code) {
        load_fail(l, -EREMOTEIO, "sync group %s: %s", l->options->group, kerr_name(r.error_code));
        return;
    }
    take_assignment(m, i, r.assignment);
    me->state = MEMBER_STABLE;
    m->n_stable++;
    if (me->generation > m->generation)
        m->generation = me->generation;
    me->beat_ns = load_now_ns() + m->beat_every_ns;
    if (m->on_stable)
        m->on_stable(m, i);
}

static void take_beat(struct members *m, int32_t i, struct bytes frame)
{
    struct load *l = m->load;
    struct heartbeat_response r;
    if (!load_answer(&l->conns[i], API_HEARTBEAT, m->beat_version, frame, &r))
        return;
    m->of[i].beat_ns = load_now_ns() + m->beat_every_ns;
    if (r.error_code)
        members_join(m, i, load_now_ns());
}

static void on_answer(struct load_conn *c, const struct load_sent *s, struct bytes frame)
{
    struct members *m = c->kind;
    int32_t i = c->index;
    m->of[i].is_asking = false;
    switch (s->tag) {
    case TAG_JOIN:
        take_join(m, i, frame);
        return;
    case TAG_SYNC:
        take_sync(m, i, frame);
        return;
    case TAG_BEAT:
        take_beat(m, i, frame);
        return;
    case TAG_LEAVE:
        return;
    default:
        m->on_other(m, i, s, frame);
    }
}

void members_leave(struct members *m, int32_t i)
{
    struct member *me = &m->of[i];
    struct leave_group_request_member who;
    leave_group_request_member_init(&who);
    who.member_id = str_from(me->id);
    struct leave_group_request request;
    leave_group_request_init(&request);
    request.group_id = me->group;
    request.member_id = who.member_id;
    request.members = &who;
    request.n_members = 1;
    if (me->state == MEMBER_STABLE)
        m->n_stable--;
    me->state = MEMBER_OUT;
    me->is_asking = true;
    load_ask(&m->load->conns[i], API_LEAVE_GROUP, m->leave_version, &request, TAG_LEAVE);
}

uint64_t members_beat(struct members *m, uint64_t now_ns)
{
    uint64_t next = UINT64_MAX;
    for (int32_t i = 0; i < m->n; i++) {
        struct member *me = &m->of[i];
        if (me->state != MEMBER_STABLE || me->is_asking)
            continue;
        if (me->beat_ns > now_ns) {
            next = me->beat_ns < next ? me->beat_ns : next;
            continue;
        }
        struct heartbeat_request request;
        heartbeat_request_init(&request);
        request.group_id = me->group;
        request.generation_id = me->generation;
        request.member_id = str_from(me->id);
        me->is_asking = true;
        load_ask(&m->load->conns[i], API_HEARTBEAT, m->beat_version, &request, TAG_BEAT);
    }
    return next;
}

int members_open(struct members *m, struct load *l, int32_t n, char *why)
{
    *m = (struct members){.load = l, .n = n, .beat_every_ns = BEAT_EVERY_NS};
    l->kind = m;
    l->on_answer = on_answer;
    m->of = calloc((size_t)n, sizeof *m->of);
    CHECK(m->of);
    m->join_version = load_version(l, API_JOIN_GROUP, -1);
    m->sync_version = load_version(l, API_SYNC_GROUP, -1);
    m->beat_version = load_version(l, API_HEARTBEAT, -1);
    m->leave_version = load_version(l, API_LEAVE_GROUP, -1);
    int32_t groups = l->options->groups > 1 ? l->options->groups : 1;
    int32_t *nodes = arena_array(l->arena, (size_t)groups, sizeof *nodes);
    for (int32_t i = 0; i < n; i++) {
        m->of[i].group = i < groups ? name_of(m, i) : m->of[i % groups].group;
        int result = i < groups ? client_coordinator(l->client, m->of[i].group, &nodes[i]) : 0;
        if (result < 0) {
            snprintf(why, CLIENT_WHY_MAX, "%s", client_error(l->client));
            return result;
        }
    }
    int result = load_open_spread(l, n, nodes, groups < n ? groups : n, why);
    for (int32_t i = 0; i < n; i++)
        l->conns[i].kind = m;
    return result;
}

static uint64_t leaving_tick(struct load *l, uint64_t now)
{
    const struct members *m = l->kind;
    l->is_done = true;
    for (int32_t i = 0; i < m->n; i++)
        l->is_done = l->is_done && !m->of[i].is_asking;
    return now + BEAT_EVERY_NS;
}

void members_leave_all(struct members *m)
{
    struct load *l = m->load;
    char why[CLIENT_WHY_MAX];
    l->on_tick = leaving_tick;
    l->is_done = false;
    for (int32_t i = 0; i < m->n && !l->error; i++)
        if (m->of[i].state == MEMBER_STABLE && !m->of[i].is_asking)
            members_leave(m, i);
    (void)!load_run(l, why); // who cannot leave is put out in time
}

void members_close(struct members *m)
{
    free(m->of);
}
