// The whole broker on simulated disk, network and clock, and several connections that send it
// requests of every api and version: odd ones, damaged ones, and (or no group would ever come to
// life) those that a member of a group sends, in any order. Between them time goes on, connections
// are cut, the process is killed, the power fails, the broker stops in order.
//
// Whatever comes in: the broker does not stop, answers with what its schema allows, comes to rest,
// its accounts add up, and what a killed process finds in its journal is what it knew.

#include "../lib/batches.h"
#include "../lib/odd_message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/broker.h"
#include "core/configs.h"
#include "core/core.h"
#include "core/ledger/ledger.h"
#include "os/clock_sim.h"
#include "os/disk_sim.h"
#include "os/entropy.h"
#include "os/log.h"
#include "os/net_sim.h"
#include "schema.h"
#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    CONNS = 4,
    ASKED_MAX = 16,
    OPS_MAX = 100,
    PASSES_MAX = 2000,
    LIVES_MAX = 6,
    MEMBERS_MAX = 8,
    ID_BYTES = 64,
};

struct asked {
    const struct kw_api *api;
    int version;
};

struct client {
    uint64_t conn;                 // 0: none
    struct asked asked[ASKED_MAX]; // not answered yet, in order
    unsigned n_asked;
    // As a member: what the answers to JoinGroup said.
    char member[ID_BYTES];
    char all[MEMBERS_MAX][ID_BYTES]; // of whom the leader is told
    int32_t n_all;
    int32_t generation;
    bool is_vague; // sent what may be answered or not: its answers are not told apart
};

struct play {
    struct odd odd;
    struct disk *disk;
    struct clock *clock;
    struct net *net;
    struct entropy *entropy;
    struct configs *configs;
    struct broker *broker;
    struct arena *arena;
    struct client clients[CONNS];
    int listener;
    uint64_t now_ms;
    uint64_t digest;
    bool must_replay;
    unsigned n_lives;
};

// ---- What comes back

static bool keep_id(char to[ID_BYTES], struct str id)
{
    if (id.len <= 0 || id.len >= ID_BYTES)
        return false;
    memcpy(to, id.ptr, (size_t)id.len);
    to[id.len] = 0;
    return true;
}

static void learn_join(struct odd *o, struct client *c, const struct join_group_response *r)
{
    if (keep_id(c->member, r->member_id) &&
        keep_id(o->members[o->n_members % ODD_MEMBERS], r->member_id) && o->n_members < ODD_MEMBERS)
        o->n_members++;
    if (r->error_code != KERR_NONE)
        return;
    o->generation = c->generation = r->generation_id;
    c->n_all = 0;
    for (int32_t i = 0; i < r->n_members && i < MEMBERS_MAX; i++)
        c->n_all += keep_id(c->all[c->n_all], r->members[i].member_id);
}

static void learn(struct odd *o, struct client *c, const struct kw_api *api, const void *response)
{
    if (api->key == API_JOIN_GROUP) {
        learn_join(o, c, response);
    } else if (api->key == API_METADATA) {
        const struct metadata_response *r = response;
        for (int32_t i = 0; i < r->n_topics && o->n_topics < ODD_TOPICS; i++)
            o->topics[o->n_topics++] = r->topics[i].topic_id;
    }
}

static struct client *client_of(struct play *p, uint64_t conn)
{
    for (unsigned i = 0; i < CONNS; i++)
        if (p->clients[i].conn == conn)
            return &p->clients[i];
    return NULL;
}

static void on_answer(void *user, uint64_t conn, struct bytes frame, uint64_t upto)
{
    (void)upto;
    struct play *p = user;
    struct client *c = client_of(p, conn);
    if (!c || c->is_vague)
        return;
    CHECK(c->n_asked > 0);
    struct asked asked = c->asked[0];
    memmove(c->asked, c->asked + 1, --c->n_asked * sizeof *c->asked);
    int32_t id;
    struct bytes body;
    CHECK(frame_read_response(frame, asked.api, asked.version, &id, &body) == 0);
    struct arena *a = arena_new();
    void *response = arena_alloc(a, kw_size_in_memory(asked.api->response));
    const char *why = NULL;
    if (kw_decode(asked.api->response, asked.version, body, a, response, &why) != 0) {
        fprintf(stderr, "%s v%d: %s\n", asked.api->name, asked.version, why);
        abort();
    }
    learn(&p->odd, c, asked.api, response);
    arena_free(a);
}

// It stays the member that it was.
static void hang_up(struct client *c)
{
    c->conn = 0;
    c->n_asked = 0;
    c->is_vague = false;
}

static void on_closed(void *user, uint64_t conn)
{
    struct client *c = client_of(user, conn);
    if (c)
        hang_up(c);
}

// ---- The broker's life

static void on_replayed(void *user, const struct core *core)
{
    struct play *p = user;
    CHECK(!p->must_replay || core_digest(core) == p->digest);
}

static void start(struct play *p)
{
    struct net_limits limits = {
        .max_frame_bytes = 1 << 20, .max_connections = 100, .max_input_bytes = 64 << 20};
    p->clock = clock_new();
    clock_sim_set(p->clock, p->now_ms);
    p->net = net_new(&limits, p->clock);
    net_sim_set_peer(p->net, &(struct net_sim_peer){p, on_answer, on_closed});
    p->entropy = entropy_new();
    p->configs = configs_new();
    configs_set(p->configs, STR("group.initial.rebalance.delay.ms"), STR("0"));
    uint16_t port;
    CHECK(net_listen(p->net, "127.0.0.1", 9092, &p->listener, &port) == 0);
    struct broker_config config = {.net = p->net,
                                   .clock = p->clock,
                                   .entropy = p->entropy,
                                   .disk = p->disk,
                                   .dir = "/data",
                                   .fixed = p->configs,
                                   .accounting = true,
                                   .on_replayed = on_replayed,
                                   .user = p};
    char why[256] = "";
    CHECK(broker_new(&config, &p->broker, why, sizeof why) == 0);
    broker_add_listener(p->broker, p->listener, "127.0.0.1", port);
    p->n_lives++;
}

static void end(struct play *p, bool power_was_lost)
{
    p->digest = core_digest(broker_core(p->broker));
    p->must_replay = !power_was_lost;
    broker_free(p->broker);
    net_free(p->net);
    clock_free(p->clock);
    entropy_free(p->entropy);
    configs_free(p->configs);
    for (unsigned i = 0; i < CONNS; i++)
        hang_up(&p->clients[i]);
}

static void go_on(struct play *p, uint64_t ms)
{
    p->now_ms += ms;
    clock_sim_set(p->clock, p->now_ms);
    disk_sim_set_time(p->disk, p->now_ms);
    p->odd.time_ms = CLOCK_SIM_WALL_BEGIN_MS + (int64_t)p->now_ms;
}

static void settle(struct play *p)
{
    int quiet = 0;
    for (int i = 0; quiet < 2; i++) {
        CHECK(i < PASSES_MAX);
        int handled = net_run_once(p->net, 0);
        broker_step(p->broker, handled == 0);
        CHECK(!broker_failure(p->broker));
        quiet = handled == 0 && broker_timeout_ms(p->broker) != 0 ? quiet + 1 : 0;
    }
    struct buf why = {0};
    CHECK(ledger_verify(broker_ledger(p->broker), &why));
    buf_free(&why);
}

static void stop(struct play *p)
{
    broker_stop(p->broker);
    for (int i = 0; !broker_is_stopped(p->broker); i++) {
        CHECK(i < PASSES_MAX);
        go_on(p, 1 + (uint64_t)i);
        int handled = net_run_once(p->net, 0);
        broker_step(p->broker, handled == 0);
    }
    CHECK(!broker_failure(p->broker));
    // Its state went with it: the digest of the last decision is not to be had.
    p->must_replay = false;
}

// ---- What goes in

static struct client *client_at(struct play *p, unsigned i)
{
    struct client *c = &p->clients[i];
    if (!c->conn)
        c->conn = net_sim_connect(p->net, p->listener, "127.0.0.1", (uint16_t)(1000 + i));
    return c;
}

static bool is_silent(const struct kw_api *api, const void *request)
{
    return api->key == API_PRODUCE && ((const struct produce_request *)request)->acks == 0;
}

static void send_request(struct play *p, struct client *c, const struct kw_api *api, int version,
                         const void *request)
{
    struct odd *o = &p->odd;
    if (c->n_asked == ASKED_MAX)
        return;
    static const char *const ids[] = {"app", "", "other", "rdkafka"};
    struct request_header h = {.api_key = api->key,
                               .api_version = (int16_t)version,
                               .correlation_id = 1,
                               .client_id = str_from(ids[odd_pick(o, 4)])};
    struct kw_out out = {0};
    frame_write_request(&h, request, &out);
    unsigned n_damages = odd_pick(o, 16) == 15 ? 1 + odd_pick(o, 3) : 0;
    for (unsigned i = 0; i < n_damages; i++)
        out.buf.ptr[12 + (odd_pick(o, 256) << 8 | odd_pick(o, 256)) % (out.buf.len - 12)] =
            (uint8_t)odd_pick(o, 256);
    if (n_damages > 0)
        c->is_vague = true;
    else if (!is_silent(api, request))
        c->asked[c->n_asked++] = (struct asked){api, version};
    net_sim_arrive(p->net, c->conn, (struct bytes){out.buf.ptr + 4, out.buf.len - 4});
    kw_out_free(&out);
}

// Anything that its schema allows.
static void ask(struct play *p, struct client *c)
{
    struct odd *o = &p->odd;
    const struct kw_api *api = kw_api_at(odd_pick(o, 64));
    if (!api)
        return;
    int version =
        api->min_version + (int)odd_pick(o, (unsigned)(api->max_version - api->min_version + 1));
    arena_reset(p->arena);
    void *request = arena_alloc(p->arena, kw_size_in_memory(api->request));
    odd_message(o, api->request, version, p->arena, request);
    send_request(p, c, api, version, request);
}

// ---- What a member sends

static const char *const groups[] = {"g0", "g1"};
static const char *const topics[] = {"t0", "t1"};
enum { GROUPS = 2, TOPICS = 2, PARTITIONS = 3 };

static struct str group_of(const struct play *p, const struct client *c)
{
    return str_from(groups[(c - p->clients) % GROUPS]);
}

static void add_i16(struct buf *b, int n)
{
    buf_add(b, (uint8_t[]){(uint8_t)(n >> 8), (uint8_t)n}, 2);
}

static void add_i32(struct buf *b, int n)
{
    add_i16(b, n >> 16);
    add_i16(b, n);
}

static void add_name(struct buf *b, const char *name)
{
    add_i16(b, (int)strlen(name));
    buf_add(b, name, strlen(name));
}

static struct bytes taken(struct play *p, struct buf *b)
{
    struct bytes copy = arena_bytes(p->arena, (struct bytes){b->ptr, b->len});
    buf_free(b);
    return copy;
}

// Both topics; a cooperative one names what it says it owns.
static struct bytes subscription(struct play *p)
{
    struct buf b = {0};
    unsigned owned = odd_pick(&p->odd, 4);
    add_i16(&b, owned ? 1 : 0);
    add_i32(&b, TOPICS);
    for (int i = 0; i < TOPICS; i++)
        add_name(&b, topics[i]);
    add_i32(&b, -1);
    if (owned) {
        add_i32(&b, 1);
        add_name(&b, topics[0]);
        add_i32(&b, (int)owned - 1);
        for (unsigned i = 1; i < owned; i++)
            add_i32(&b, (int)i - 1);
    }
    return taken(p, &b);
}

static void join(struct play *p, struct client *c)
{
    struct join_group_request_protocol protocol;
    join_group_request_protocol_init(&protocol);
    protocol.name = STR("range");
    protocol.metadata = subscription(p);
    struct join_group_request q;
    kw_init(&join_group_request_msg, &q);
    q.group_id = group_of(p, c);
    q.session_timeout_ms = 10000;
    q.rebalance_timeout_ms = 60000;
    q.member_id = odd_pick(&p->odd, 8) ? str_from(c->member) : STR_EMPTY;
    if (odd_pick(&p->odd, 8) == 7)
        q.group_instance_id = STR("static");
    q.protocol_type = STR("consumer");
    q.protocols = &protocol;
    q.n_protocols = 1;
    send_request(p, c, kw_api(API_JOIN_GROUP), 5 + (int)odd_pick(&p->odd, 2), &q);
}

// Every partition to one of those that joined, or to none.
static void sync_group(struct play *p, struct client *c)
{
    struct sync_group_request_assignment all[MEMBERS_MAX];
    uint8_t owner[TOPICS][PARTITIONS];
    for (int i = 0; i < TOPICS * PARTITIONS; i++)
        owner[i / PARTITIONS][i % PARTITIONS] = (uint8_t)odd_pick(&p->odd, (unsigned)c->n_all + 1);
    for (int32_t i = 0; i < c->n_all; i++) {
        struct buf b = {0};
        add_i16(&b, 0);
        add_i32(&b, TOPICS);
        for (int t = 0; t < TOPICS; t++) {
            add_name(&b, topics[t]);
            int n = 0;
            for (int k = 0; k < PARTITIONS; k++)
                n += owner[t][k] == i;
            add_i32(&b, n);
            for (int k = 0; k < PARTITIONS; k++)
                if (owner[t][k] == i)
                    add_i32(&b, k);
        }
        add_i32(&b, -1);
        sync_group_request_assignment_init(&all[i]);
        all[i].member_id = str_from(c->all[i]);
        all[i].assignment = taken(p, &b);
    }
    struct sync_group_request q;
    kw_init(&sync_group_request_msg, &q);
    q.group_id = group_of(p, c);
    q.generation_id = c->generation;
    q.member_id = str_from(c->member);
    q.assignments = all;
    q.n_assignments = c->n_all;
    send_request(p, c, kw_api(API_SYNC_GROUP), 3, &q);
}

static void beat_or_leave(struct play *p, struct client *c)
{
    if (odd_pick(&p->odd, 4) < 3) {
        struct heartbeat_request q;
        kw_init(&heartbeat_request_msg, &q);
        q.group_id = group_of(p, c);
        q.generation_id = c->generation;
        q.member_id = str_from(c->member);
        send_request(p, c, kw_api(API_HEARTBEAT), 3, &q);
        return;
    }
    struct leave_group_request q;
    kw_init(&leave_group_request_msg, &q);
    q.group_id = group_of(p, c);
    q.member_id = str_from(c->member);
    send_request(p, c, kw_api(API_LEAVE_GROUP), 1, &q);
}

static void commit(struct play *p, struct client *c)
{
    struct offset_commit_request_partition part;
    struct offset_commit_request_topic topic;
    struct offset_commit_request q;
    offset_commit_request_partition_init(&part);
    offset_commit_request_topic_init(&topic);
    kw_init(&offset_commit_request_msg, &q);
    part.partition_index = (int32_t)odd_pick(&p->odd, PARTITIONS);
    part.committed_offset = odd_pick(&p->odd, 32);
    part.committed_metadata = STR_EMPTY;
    topic.name = str_from(topics[odd_pick(&p->odd, TOPICS)]);
    topic.partitions = &part;
    topic.n_partitions = 1;
    q.group_id = group_of(p, c);
    bool is_alone = odd_pick(&p->odd, 8) == 7;
    q.generation_id_or_member_epoch = is_alone ? -1 : c->generation;
    q.member_id = is_alone ? STR_EMPTY : str_from(c->member);
    q.topics = &topic;
    q.n_topics = 1;
    send_request(p, c, kw_api(API_OFFSET_COMMIT), 7, &q);
}

static void fetch(struct play *p, struct client *c)
{
    struct fetch_request_partition part;
    struct fetch_request_topic topic;
    struct fetch_request q;
    fetch_request_partition_init(&part);
    fetch_request_topic_init(&topic);
    kw_init(&fetch_request_msg, &q);
    part.partition = (int32_t)odd_pick(&p->odd, PARTITIONS);
    part.fetch_offset = odd_pick(&p->odd, 32);
    part.partition_max_bytes = 1 << odd_pick(&p->odd, 20);
    topic.topic = str_from(topics[odd_pick(&p->odd, TOPICS)]);
    topic.partitions = &part;
    topic.n_partitions = 1;
    q.max_wait_ms = odd_pick(&p->odd, 2) ? 1000 : 0;
    q.min_bytes = 1;
    q.topics = &topic;
    q.n_topics = 1;
    send_request(p, c, kw_api(API_FETCH), 4, &q);
}

static void produce(struct play *p, struct client *c, const char *name, int32_t index)
{
    struct buf b = {0};
    struct batch_spec spec = {.count = 5, .timestamp_ms = p->odd.time_ms};
    batches_add(&b, &spec);
    struct produce_request_partition_data part;
    struct produce_request_topic_data topic;
    struct produce_request q;
    produce_request_partition_data_init(&part);
    produce_request_topic_data_init(&topic);
    kw_init(&produce_request_msg, &q);
    part.index = index;
    part.records = (struct kw_records){.ptr = b.ptr, .len = (int32_t)b.len};
    topic.name = str_from(name);
    topic.partition_data = &part;
    topic.n_partition_data = 1;
    q.acks = -1;
    q.timeout_ms = 30000;
    q.topic_data = &topic;
    q.n_topic_data = 1;
    send_request(p, c, kw_api(API_PRODUCE), 7, &q);
    buf_free(&b);
}

static void act_as_member(struct play *p, struct client *c)
{
    arena_reset(p->arena);
    switch (odd_pick(&p->odd, 10)) {
    case 0:
    case 1:
        join(p, c);
        return;
    case 2:
    case 3:
        sync_group(p, c);
        return;
    case 4:
        beat_or_leave(p, c);
        return;
    case 5:
    case 6:
        commit(p, c);
        return;
    case 7:
    case 8:
        fetch(p, c);
        return;
    default:
        produce(p, c, topics[odd_pick(&p->odd, TOPICS)], (int32_t)odd_pick(&p->odd, PARTITIONS));
    }
}

static void make_topics(struct play *p, struct client *c)
{
    struct create_topics_request_topic all[TOPICS];
    for (int i = 0; i < TOPICS; i++) {
        create_topics_request_topic_init(&all[i]);
        all[i].name = str_from(topics[i]);
        all[i].num_partitions = PARTITIONS;
        all[i].replication_factor = 1;
    }
    struct create_topics_request q;
    kw_init(&create_topics_request_msg, &q);
    q.timeout_ms = 1000;
    q.topics = all;
    q.n_topics = TOPICS;
    send_request(p, c, kw_api(API_CREATE_TOPICS), 2, &q);
}

// Bytes as they stand in the input.
static void send_raw(struct play *p, struct client *c)
{
    struct odd *o = &p->odd;
    size_t len = odd_pick(o, 256);
    if (len > (size_t)(o->end - o->at))
        len = (size_t)(o->end - o->at);
    c->is_vague = true;
    net_sim_arrive(p->net, c->conn, (struct bytes){o->at, len});
    o->at += len;
}

static void cut(struct play *p, unsigned i)
{
    if (p->clients[i].conn)
        net_sim_cut(p->net, p->clients[i].conn);
    hang_up(&p->clients[i]);
}

static void op(struct play *p)
{
    static const uint16_t waits_ms[] = {1, 100, 3000, 10000, 60000};
    struct odd *o = &p->odd;
    unsigned what = odd_pick(o, 32);
    unsigned who = odd_pick(o, CONNS);
    if (what < 12) {
        ask(p, client_at(p, who));
    } else if (what < 24) {
        act_as_member(p, client_at(p, who));
    } else if (what == 24) {
        send_raw(p, client_at(p, who));
    } else if (what == 25) {
        cut(p, who);
    } else if (what < 29) {
        go_on(p, waits_ms[odd_pick(o, 5)]);
    } else if (p->n_lives < LIVES_MAX) {
        if (what == 29)
            disk_sim_crash_process(p->disk);
        else if (what == 30)
            disk_sim_power_cut(p->disk);
        else
            stop(p);
        bool was_stopped = what == 31;
        end(p, what == 30);
        p->must_replay = p->must_replay && !was_stopped;
        start(p);
    }
    // Not always: requests then come in together.
    if (odd_pick(o, 4) > 0)
        settle(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct play p = {.odd = {.at = data, .end = data + size, .generation = 1}, .now_ms = 1};
    p.disk = disk_sim_new(size);
    p.arena = arena_new();
    start(&p);
    go_on(&p, 1);
    make_topics(&p, client_at(&p, 0));
    settle(&p);
    for (int i = 0; i < TOPICS * PARTITIONS; i++)
        produce(&p, client_at(&p, 0), topics[i % TOPICS], i / TOPICS);
    settle(&p);
    for (int i = 0; i < OPS_MAX && p.odd.at < p.odd.end; i++)
        op(&p);
    settle(&p);
    disk_sim_crash_process(p.disk);
    end(&p, false);
    start(&p);
    settle(&p);
    end(&p, false);
    disk_free(p.disk);
    arena_free(p.arena);
    return 0;
}
