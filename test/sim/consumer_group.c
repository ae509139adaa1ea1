// A model consumer's membership: join, sync, heartbeat, leave, and the leader's assignment, eager
// and cooperative, dynamic and static.

#include <stdio.h>
#include <string.h>

#include "consumer_private.h"
#include "wire/consumer_protocol.h"

static void retry_join(struct actor *a, uint64_t epoch, struct bytes none)
{
    (void)none;
    struct consumer *c = consumer_of(a);
    if (epoch == c->epoch && c->state == C_JOINING)
        consumer_join(c);
}

void consumer_rejoin_later(struct consumer *c)
{
    c->state = C_JOINING;
    consumer_renew_epoch(c);
    sim_after(&c->actor, RETRY_MS, retry_join, c->epoch, (struct bytes){0});
}

// Nothing may be committed any more. Another process with its instance id: it ends.
static void lost(struct consumer *c, int16_t error)
{
    if (error == KERR_FENCED_INSTANCE_ID) {
        sim_trace(c->sim, "%s is fenced", c->name);
        consumer_kill(c);
        return;
    }
    if (error == KERR_UNKNOWN_MEMBER_ID)
        c->member_id[0] = '\0';
    consumer_give_up_all(c);
    c->generation = -1;
}

// ---- heartbeat

static void heartbeat_answered(struct actor *a, uint64_t epoch, const void *response)
{
    struct consumer *c = consumer_of(a);
    const struct heartbeat_response *r = response;
    if (epoch != c->epoch || c->state != C_RUNNING)
        return;
    if (!r) {
        consumer_reconnect(c);
        return;
    }
    c->alive_ms = c->sim->now_ms;
    if (r->error_code == KERR_NONE)
        return;
    sim_trace(c->sim, "%s heartbeat: %s", c->name, kerr_name(r->error_code));
    if (r->error_code != KERR_REBALANCE_IN_PROGRESS)
        lost(c, r->error_code);
    if (c->state == C_DOWN)
        return;
    c->must_rejoin = true;
    consumer_maybe_rejoin(c);
}

// The coordinator has not answered for a whole session: what it had is another's by now.
static bool is_over(struct consumer *c)
{
    if (!c->plan.is_apart || c->sim->now_ms - c->alive_ms <= c->plan.session_ms)
        return false;
    sim_trace(c->sim, "%s heard nothing for its session", c->name);
    lost(c, KERR_UNKNOWN_MEMBER_ID);
    c->must_rejoin = true;
    consumer_maybe_rejoin(c);
    return true;
}

void consumer_heartbeat_tick(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct consumer *c = consumer_of(a);
    sim_after(a, c->plan.heartbeat_ms, consumer_heartbeat_tick, 0, (struct bytes){0});
    if (c->state != C_RUNNING || c->must_rejoin || is_over(c))
        return;
    struct heartbeat_request req;
    kw_init(&heartbeat_request_msg, &req);
    req.group_id = str_from(c->plan.group);
    req.generation_id = c->generation;
    req.member_id = str_from(c->member_id);
    if (c->plan.instance_id[0])
        req.group_instance_id = str_from(c->plan.instance_id);
    link_request(c->group_link, API_HEARTBEAT, 3, &req, heartbeat_answered, c->epoch);
}

// ---- join again, leave

static void rejoin_now(struct consumer *c)
{
    if (!c->plan.is_cooperative)
        consumer_give_up_all(c);
    c->must_rejoin = false;
    consumer_join(c);
}

// Rejoins when the record in hand is done and the last commit is through, as an eager consumer
// does inside its rebalance callback.
void consumer_maybe_rejoin(struct consumer *c)
{
    if (!c->must_rejoin || c->is_working || c->is_committing || c->state == C_DOWN)
        return;
    c->state = C_JOINING;
    consumer_renew_epoch(c);
    if (c->plan.is_cooperative) {
        rejoin_now(c);
        return;
    }
    c->head = c->count = 0;
    if (c->plan.commits_on_revoke && c->generation >= 0 && consumer_commit(c, rejoin_now))
        return;
    rejoin_now(c);
}

static void left(struct actor *a, uint64_t arg, const void *response)
{
    (void)arg;
    (void)response;
    consumer_kill(consumer_of(a));
}

void consumer_send_leave(struct consumer *c)
{
    struct leave_group_request req;
    kw_init(&leave_group_request_msg, &req);
    req.group_id = str_from(c->plan.group);
    req.member_id = str_from(c->member_id);
    link_request(c->group_link, API_LEAVE_GROUP, 1, &req, left, 0);
}

// ---- what it is given

static void read_assignment(struct consumer *c, struct bytes assignment)
{
    struct arena *a = arena_new();
    struct consumer_protocol_assignment as;
    int16_t version;
    memset(c->assigned, 0, sizeof c->assigned);
    if (consumer_assignment_read(assignment, a, &as, &version) == 0)
        for (int32_t i = 0; i < as.n_assigned_partitions; i++)
            for (int32_t j = 0; j < as.assigned_partitions[i].n_partitions; j++)
                c->assigned[as.assigned_partitions[i].partitions[j]] = true;
    arena_free(a);
}

static void finish_assignment(struct consumer *c)
{
    bool has_revoked = false;
    for (int32_t p = 0; p < TRUTH_PARTITIONS; p++) {
        if (c->parts[p].is_owned && !c->assigned[p]) {
            sim_trace(c->sim, "%s gives up %d", c->name, p);
            has_revoked = true;
            consumer_drop_held(c, p);
            c->parts[p] = (struct owned){0};
        }
        if (!c->parts[p].is_owned && c->assigned[p])
            consumer_begin_part(c, p);
    }
    c->has_assignment = false;
    c->state = C_RUNNING;
    c->must_rejoin = c->must_rejoin || has_revoked; // so that somebody else may have it
    consumer_find_positions(c);
    consumer_pump(c);
}

bool consumer_take_assignment(struct consumer *c)
{
    if (!c->has_assignment || c->is_working || c->is_committing)
        return false;
    if (c->plan.commits_on_revoke && consumer_commit(c, finish_assignment))
        return true;
    finish_assignment(c);
    return true;
}

// The connection ended before the answer.
static void join_cut(struct consumer *c)
{
    consumer_reconnect(c);
    if (c->plan.is_apart && c->state != C_DOWN)
        consumer_rejoin_later(c);
}

static void synced(struct actor *a, uint64_t epoch, const void *response)
{
    struct consumer *c = consumer_of(a);
    const struct sync_group_response *r = response;
    if (epoch != c->epoch)
        return;
    if (!r) {
        join_cut(c);
        return;
    }
    c->alive_ms = c->sim->now_ms;
    if (r->error_code != KERR_NONE) {
        if (r->error_code == KERR_UNKNOWN_MEMBER_ID || r->error_code == KERR_FENCED_INSTANCE_ID)
            lost(c, r->error_code);
        if (c->state != C_DOWN)
            consumer_rejoin_later(c);
        return;
    }
    read_assignment(c, r->assignment);
    consumer_renew_epoch(c);
    if (c->plan.is_cooperative) {
        c->has_assignment = true;
        consumer_pump(c);
        return;
    }
    consumer_give_up_all(c);
    for (int32_t p = 0; p < TRUTH_PARTITIONS; p++)
        if (c->assigned[p])
            consumer_begin_part(c, p);
    c->state = C_RUNNING;
    c->batch_left = 0;
    consumer_find_positions(c);
}

// ---- the leader's part

// Whose the partitions were, as the members say: an index, -1 nobody's, -2 claimed twice.
static void read_owners(const struct join_group_response *r, struct arena *a,
                        int32_t owner[TRUTH_PARTITIONS])
{
    for (int32_t p = 0; p < TRUTH_PARTITIONS; p++)
        owner[p] = -1;
    for (int32_t i = 0; i < r->n_members; i++) {
        struct consumer_protocol_subscription sub;
        int16_t version;
        if (consumer_subscription_read(r->members[i].metadata, a, &sub, &version) != 0)
            continue;
        for (int32_t j = 0; j < sub.n_owned_partitions; j++)
            for (int32_t k = 0; k < sub.owned_partitions[j].n_partitions; k++) {
                int32_t p = sub.owned_partitions[j].partitions[k];
                owner[p] = owner[p] == -1 ? i : -2;
            }
    }
}

// Everybody keeps what he has up to an equal share. What he has beyond it goes to nobody yet: it
// must be given up first.
static void deal_cooperative(const struct consumer *c, const struct join_group_response *r,
                             struct arena *a, int32_t to[TRUTH_PARTITIONS])
{
    int32_t owner[TRUTH_PARTITIONS];
    int32_t *count = arena_array(a, (size_t)r->n_members, sizeof *count);
    int32_t share = (c->n_known + r->n_members - 1) / r->n_members;
    memset(count, 0, (size_t)r->n_members * sizeof *count);
    read_owners(r, a, owner);
    for (int32_t p = 0; p < c->n_known; p++) {
        to[p] = owner[p] >= 0 && count[owner[p]] < share ? owner[p] : -1;
        if (to[p] >= 0)
            count[to[p]]++;
    }
    for (int32_t p = 0; p < c->n_known; p++) {
        if (owner[p] != -1)
            continue;
        to[p] = 0;
        for (int32_t i = 1; i < r->n_members; i++)
            if (count[i] < count[to[p]])
                to[p] = i;
        count[to[p]]++;
    }
}

// The leader deals the partitions out in turn, in order of member id.
static void assign(struct consumer *c, const struct join_group_response *r, struct arena *a,
                   struct sync_group_request *req)
{
    int32_t n = r->n_members;
    int32_t to[TRUTH_PARTITIONS];
    for (int32_t p = 0; p < TRUTH_PARTITIONS; p++)
        to[p] = p < c->n_known ? p % n : -1;
    if (c->plan.is_cooperative)
        deal_cooperative(c, r, a, to);
    req->assignments = arena_array(a, (size_t)n, sizeof *req->assignments);
    req->n_assignments = n;
    for (int32_t i = 0; i < n; i++) {
        int32_t *mine = arena_array(a, TRUTH_PARTITIONS, sizeof *mine);
        struct consumer_protocol_assignment_topic_partition tp = {.topic = STR("t"),
                                                                  .partitions = mine};
        for (int32_t p = 0; p < c->n_known; p++)
            if (to[p] == i)
                mine[tp.n_partitions++] = p;
        struct consumer_protocol_assignment as = {.assigned_partitions = &tp,
                                                  .n_assigned_partitions = tp.n_partitions > 0};
        struct buf b = {0};
        consumer_assignment_write(1, &as, &b);
        req->assignments[i].member_id = r->members[i].member_id;
        req->assignments[i].assignment = arena_bytes(a, (struct bytes){b.ptr, b.len});
        buf_free(&b);
    }
}

// ---- join

static void join_refused(struct consumer *c, int16_t error)
{
    sim_trace(c->sim, "%s join: %s", c->name, kerr_name(error));
    if (error == KERR_UNKNOWN_MEMBER_ID || error == KERR_FENCED_INSTANCE_ID)
        lost(c, error);
    if (c->state != C_DOWN)
        consumer_rejoin_later(c);
}

static void joined(struct actor *a, uint64_t epoch, const void *response)
{
    struct consumer *c = consumer_of(a);
    const struct join_group_response *r = response;
    if (epoch != c->epoch)
        return;
    if (!r) {
        join_cut(c);
        return;
    }
    if (r->error_code != KERR_FENCED_INSTANCE_ID)
        snprintf(c->member_id, sizeof c->member_id, "%.*s", STR_FMT(r->member_id));
    if (r->error_code == KERR_MEMBER_ID_REQUIRED) {
        consumer_join(c);
        return;
    }
    if (r->error_code != KERR_NONE) {
        join_refused(c, r->error_code);
        return;
    }
    c->generation = r->generation_id;
    c->is_leader = str_eq(r->leader, r->member_id);
    struct arena *scratch = arena_new();
    struct sync_group_request req;
    kw_init(&sync_group_request_msg, &req);
    req.group_id = str_from(c->plan.group);
    req.generation_id = c->generation;
    req.member_id = str_from(c->member_id);
    if (c->plan.instance_id[0])
        req.group_instance_id = str_from(c->plan.instance_id);
    // A static leader that comes back is told of no members: its assignment stands.
    if (c->is_leader && r->n_members > 0)
        assign(c, r, scratch, &req);
    link_request(c->group_link, API_SYNC_GROUP, 3, &req, synced, c->epoch);
    arena_free(scratch);
}

static void write_subscription(const struct consumer *c, struct buf *out)
{
    struct str topic = STR("t");
    int32_t owned[TRUTH_PARTITIONS];
    struct consumer_protocol_subscription_topic_partition tp = {.topic = STR("t"),
                                                                .partitions = owned};
    for (int32_t p = 0; p < TRUTH_PARTITIONS; p++)
        if (c->parts[p].is_owned)
            owned[tp.n_partitions++] = p;
    struct consumer_protocol_subscription sub;
    kw_init(&consumer_protocol_subscription_msg, &sub);
    sub.topics = &topic;
    sub.n_topics = 1;
    sub.owned_partitions = &tp;
    sub.n_owned_partitions = c->plan.is_cooperative && tp.n_partitions > 0;
    consumer_subscription_write(1, &sub, out);
}

void consumer_join(struct consumer *c)
{
    c->state = C_JOINING;
    c->has_assignment = false;
    consumer_renew_epoch(c);
    if (c->plan.is_apart)
        consumer_reconnect_apart(c);
    else if (!link_is_open(c->group_link) || !link_is_open(c->data_link))
        consumer_open_links(c);
    struct buf b = {0};
    write_subscription(c, &b);
    struct join_group_request_protocol protocol = {
        .name = c->plan.is_cooperative ? STR("cooperative-sticky") : STR("range"),
        .metadata = {b.ptr, b.len}};
    struct join_group_request req;
    kw_init(&join_group_request_msg, &req);
    req.group_id = str_from(c->plan.group);
    req.session_timeout_ms = (int32_t)c->plan.session_ms;
    req.rebalance_timeout_ms = 60000;
    req.member_id = str_from(c->member_id);
    if (c->plan.instance_id[0])
        req.group_instance_id = str_from(c->plan.instance_id);
    req.protocol_type = STR("consumer");
    req.protocols = &protocol;
    req.n_protocols = 1;
    if (link_is_open(c->group_link))
        link_request(c->group_link, API_JOIN_GROUP, 5, &req, joined, c->epoch);
    else
        consumer_rejoin_later(c); // the broker is down
    buf_free(&b);
}
