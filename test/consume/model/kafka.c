#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A group coordinator, one topic, and as much of librdkafka as libtally uses: its join states, its
// queue of rebalance callbacks, its positions. Partitions are bits.

#define MAX_MEMBERS 16
#define NOT_FETCHED -1

struct member {
    int id;
    bool has_joined; // in the join phase that is under way
    bool is_leader;
    uint32_t owned;    // as it said when it joined
    uint32_t assigned; // in the generation in force
};

static struct {
    struct member members[MAX_MEMBERS];
    int n_members;
    int last_id;
    int generation;
    bool is_joining;
    bool is_syncing; // the leader's assignment has not come
    int64_t committed[MODEL_PARTITIONS];
} group;

enum op { OP_NONE, OP_ASSIGN, OP_REVOKE };

struct rd_kafka_s {
    struct copy *copy;
    struct rd_kafka_s *following;
    bool is_dead;
    bool is_subscribed;
    void *opaque;
    void (*on_rebalance)(rd_kafka_t *, rd_kafka_resp_err_t, rd_kafka_topic_partition_list_t *,
                         void *);
    int member; // 0: none
    int generation;
    bool waits;       // has joined, and waits for the generation
    bool syncs;       // has that, and waits for its partitions
    bool is_out;      // has learned that it is no member any more
    bool joins_again; // cooperative: it gave something up
    uint32_t assignment;
    enum op op; // queued for the application
    uint32_t op_partitions;
    bool op_is_lost;
    uint32_t to_add; // cooperative: comes after what is to be given up
    int64_t position[MODEL_PARTITIONS];
    bool has_told_end[MODEL_PARTITIONS];
};

struct rd_kafka_conf_s {
    void *opaque;
    void (*on_rebalance)(rd_kafka_t *, rd_kafka_resp_err_t, rd_kafka_topic_partition_list_t *,
                         void *);
};

static rd_kafka_t *clients; // of this run, the killed ones too

void kafka_reset(void)
{
    while (clients) {
        rd_kafka_t *k = clients;
        clients = k->following;
        free(k);
    }
    memset(&group, 0, sizeof group);
}

// --- The coordinator.

static struct member *member_of(int id)
{
    for (int i = 0; id && i < group.n_members; i++) {
        if (group.members[i].id == id)
            return &group.members[i];
    }
    return NULL;
}

static struct member *owner_of(int p)
{
    for (int i = 0; i < group.n_members; i++) {
        if (group.members[i].owned & 1u << p)
            return &group.members[i];
    }
    return NULL;
}

static void complete_join(void)
{
    group.generation++;
    group.is_joining = false;
    group.is_syncing = true;
    for (int i = 0; i < group.n_members; i++) {
        group.members[i].assigned = 0;
        group.members[i].has_joined = false;
        group.members[i].is_leader = i == 0;
    }
    for (int p = 0; p < MODEL_PARTITIONS; p++) {
        bool is_eager = model.protocol == MODEL_EAGER;
        struct member *to = &group.members[(is_eager ? p + group.generation : p) % group.n_members];
        const struct member *owner = is_eager ? NULL : owner_of(p);
        // Cooperative: nobody has it before its owner has joined without it.
        if (!owner || owner == to)
            to->assigned |= 1u << p;
    }
}

static void complete_join_if_all(void)
{
    int n = 0;
    for (int i = 0; i < group.n_members; i++)
        n += group.members[i].has_joined;
    if (group.is_joining && n == group.n_members && n > 0)
        complete_join();
}

static void begin_join(void)
{
    group.is_joining = group.n_members > 0;
    group.is_syncing = false;
    complete_join_if_all();
}

static void put_out(int id)
{
    struct member *m = member_of(id);
    if (!m)
        return;
    group.n_members--;
    memmove(m, m + 1, (size_t)(&group.members[group.n_members] - m) * sizeof *m);
    begin_join();
}

void kafka_join_timeout(void)
{
    if (!group.is_joining)
        return;
    int n = 0;
    for (int i = 0; i < group.n_members; i++) {
        if (group.members[i].has_joined)
            group.members[n++] = group.members[i];
    }
    if (n == 0)
        return;
    group.n_members = n;
    complete_join();
}

void kafka_expel(struct copy *c)
{
    if (c->client)
        put_out(c->client->member);
}

void kafka_expel_dead(void)
{
    for (rd_kafka_t *k = clients; k; k = k->following) {
        if (k->is_dead)
            put_out(k->member);
    }
}

static int join(rd_kafka_t *k, uint32_t owned)
{
    struct member *m = member_of(k->member);
    if (!m) {
        if (group.n_members == MAX_MEMBERS)
            return 0;
        m = &group.members[group.n_members++];
        *m = (struct member){.id = ++group.last_id};
    }
    m->has_joined = true;
    m->owned = owned;
    int id = m->id;
    begin_join();
    return id;
}

// As Kafka's classic coordinator checks a commit.
static rd_kafka_resp_err_t check_commit(int member, int generation)
{
    if (generation < 0 && group.n_members == 0)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    if (!member_of(member))
        return RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID;
    if (generation != group.generation)
        return RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION;
    return group.is_syncing ? RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS : RD_KAFKA_RESP_ERR_NO_ERROR;
}

// --- The threads of one client.

static void queue(rd_kafka_t *k, enum op op, uint32_t partitions, bool is_lost)
{
    k->op = op;
    k->op_partitions = partitions;
    k->op_is_lost = is_lost;
}

static void go_out(rd_kafka_t *k)
{
    k->member = 0;
    k->generation = -1;
    k->waits = k->syncs = false;
    k->is_out = true;
}

void kafka_leave(struct copy *c)
{
    rd_kafka_t *k = c->client;
    if (!k || !k->member)
        return;
    put_out(k->member);
    go_out(k);
}

static void learn_assignment(rd_kafka_t *k, uint32_t now)
{
    k->syncs = false;
    if (model.protocol == MODEL_EAGER) {
        k->assignment = now;
        queue(k, OP_ASSIGN, now, false);
        return;
    }
    uint32_t gone = k->assignment & ~now;
    k->to_add = now & ~k->assignment;
    k->joins_again = gone != 0;
    if (gone) {
        queue(k, OP_REVOKE, gone, false);
    } else {
        k->assignment |= k->to_add;
        queue(k, OP_ASSIGN, k->to_add, false);
        k->to_add = 0;
    }
}

static void send_join(rd_kafka_t *k, uint32_t owned)
{
    k->member = join(k, owned);
    k->waits = k->member != 0;
    k->syncs = k->joins_again = false;
}

static void rejoin(rd_kafka_t *k)
{
    if (k->op != OP_NONE || !k->is_subscribed)
        return;
    bool is_eager = model.protocol == MODEL_EAGER;
    if (k->assignment && (is_eager || k->is_out)) {
        queue(k, OP_REVOKE, k->assignment, k->is_out);
        return;
    }
    k->is_out = false;
    send_join(k, k->assignment);
}

void kafka_background(struct copy *c)
{
    rd_kafka_t *k = c->client;
    if (!k || !k->is_subscribed)
        return;
    struct member *m = member_of(k->member);
    if (k->member && !m)
        go_out(k);
    if (!m) {
        rejoin(k);
    } else if (group.is_joining) {
        if (!m->has_joined)
            rejoin(k);
    } else if (k->waits) {
        k->waits = false;
        k->syncs = true;
        k->generation = group.generation;
    } else if (k->syncs) {
        if (m->is_leader)
            group.is_syncing = false;
        if (!group.is_syncing && k->op == OP_NONE)
            learn_assignment(k, m->assigned);
    } else if (k->joins_again && k->op == OP_NONE) {
        rejoin(k);
    }
}

void kafka_killed(struct copy *c)
{
    if (c->client)
        c->client->is_dead = true;
    c->client = NULL;
}

// --- What the application calls.

static rd_kafka_conf_t *k_conf_new(void)
{
    return calloc(1, sizeof(rd_kafka_conf_t));
}

static void k_conf_destroy(rd_kafka_conf_t *conf)
{
    free(conf);
}

static rd_kafka_conf_res_t k_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value,
                                      char *why, size_t size)
{
    (void)conf, (void)name, (void)value, (void)why, (void)size;
    return RD_KAFKA_CONF_OK;
}

static rd_kafka_conf_res_t k_conf_get(const rd_kafka_conf_t *conf, const char *name, char *value,
                                      size_t *size)
{
    (void)conf, (void)name;
    snprintf(value, *size, "model");
    return RD_KAFKA_CONF_OK;
}

static void k_conf_set_opaque(rd_kafka_conf_t *conf, void *opaque)
{
    conf->opaque = opaque;
}

static void k_conf_set_rebalance_cb(rd_kafka_conf_t *conf,
                                    void (*on)(rd_kafka_t *, rd_kafka_resp_err_t,
                                               rd_kafka_topic_partition_list_t *, void *))
{
    conf->on_rebalance = on;
}

static void k_conf_set_log_cb(rd_kafka_conf_t *conf,
                              void (*on)(const rd_kafka_t *, int, const char *, const char *))
{
    (void)conf, (void)on;
}

static void k_conf_set_error_cb(rd_kafka_conf_t *conf,
                                void (*on)(rd_kafka_t *, int, const char *, void *))
{
    (void)conf, (void)on;
}

static rd_kafka_t *k_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, char *why, size_t size)
{
    (void)type, (void)why, (void)size;
    rd_kafka_t *k = calloc(1, sizeof *k);
    k->copy = model.running;
    k->opaque = conf->opaque;
    k->on_rebalance = conf->on_rebalance;
    k->generation = -1;
    for (int p = 0; p < MODEL_PARTITIONS; p++)
        k->position[p] = NOT_FETCHED;
    k->following = clients;
    clients = k;
    free(conf);
    return k;
}

static void k_destroy(rd_kafka_t *k)
{
    k->copy->client = NULL; // the rest goes with the run
}

static int k_poll(rd_kafka_t *k, int timeout_ms)
{
    (void)k, (void)timeout_ms;
    return 0;
}

static rd_kafka_resp_err_t k_poll_set_consumer(rd_kafka_t *k)
{
    k->copy->client = k;
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t k_subscribe(rd_kafka_t *k, const rd_kafka_topic_partition_list_t *list)
{
    (void)list;
    k->is_subscribed = true;
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void give_op(rd_kafka_t *k)
{
    enum op op = k->op;
    uint32_t partitions = k->op_partitions;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(MODEL_PARTITIONS);
    for (int p = 0; p < MODEL_PARTITIONS; p++) {
        if (partitions & 1u << p)
            rd_kafka_topic_partition_list_add(list, MODEL_TOPIC, p);
    }
    k->on_rebalance(k,
                    op == OP_ASSIGN ? RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS
                                    : RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS,
                    list, k->opaque);
    rd_kafka_topic_partition_list_destroy(list);
    k->op = OP_NONE;
    if (op == OP_ASSIGN)
        return;
    k->assignment &= ~partitions;
    if (k->to_add && !k->is_out) {
        k->assignment |= k->to_add;
        queue(k, OP_ASSIGN, k->to_add, false);
    }
    k->to_add = 0;
}

static rd_kafka_message_t *make_message(int p, int64_t offset, rd_kafka_resp_err_t code)
{
    static char topic, payload[] = "v";
    rd_kafka_message_t *m = calloc(1, sizeof *m);
    m->rkt = (rd_kafka_topic_t *)&topic;
    m->partition = p;
    m->offset = offset;
    m->err = code;
    m->payload = code ? NULL : payload;
    m->_private = model.is_made_again ? payload : NULL;
    m->len = code ? 0 : 1;
    return m;
}

static rd_kafka_message_t *next_message(rd_kafka_t *k)
{
    int first = (int)model_roll(MODEL_PARTITIONS);
    for (int i = 0; i < MODEL_PARTITIONS; i++) {
        int p = (first + i) % MODEL_PARTITIONS;
        if (k->position[p] == NOT_FETCHED)
            continue;
        if (k->position[p] < MODEL_RECORDS)
            return make_message(p, k->position[p]++, RD_KAFKA_RESP_ERR_NO_ERROR);
        if (!k->has_told_end[p]) {
            k->has_told_end[p] = true;
            return make_message(p, MODEL_END(p), RD_KAFKA_RESP_ERR__PARTITION_EOF);
        }
    }
    return NULL;
}

static rd_kafka_message_t *k_consumer_poll(rd_kafka_t *k, int timeout_ms)
{
    model_step();
    if (timeout_ms == 0 && model_roll(4) == 0)
        return NULL; // the next ones are still on their way
    // What was fetched before may lie in front of the callback.
    rd_kafka_message_t *m = k->op == OP_NONE || model_roll(2) ? next_message(k) : NULL;
    if (!m && k->op != OP_NONE)
        give_op(k);
    else if (!m)
        model.now_ms += timeout_ms;
    return m;
}

static rd_kafka_resp_err_t k_consumer_close(rd_kafka_t *k)
{
    k->is_subscribed = false;
    if (k->op == OP_ASSIGN)
        give_op(k);
    if (k->assignment) {
        queue(k, OP_REVOKE, k->assignment, k->is_out);
        give_op(k);
    }
    put_out(k->member);
    go_out(k);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static int64_t k_message_timestamp(const rd_kafka_message_t *m, rd_kafka_timestamp_type_t *type)
{
    (void)type;
    return m->_private ? 1 : 0; // of the topic made again
}

static rd_kafka_resp_err_t k_message_headers(const rd_kafka_message_t *m,
                                             rd_kafka_headers_t **headers)
{
    (void)m, (void)headers;
    return RD_KAFKA_RESP_ERR__NOENT;
}

static void k_message_destroy(rd_kafka_message_t *m)
{
    free(m);
}

static const char *k_topic_name(const rd_kafka_topic_t *topic)
{
    (void)topic;
    return MODEL_TOPIC;
}

static rd_kafka_topic_t *k_topic_new(rd_kafka_t *k, const char *name, rd_kafka_topic_conf_t *conf)
{
    static char topic;
    (void)k, (void)name, (void)conf;
    return (rd_kafka_topic_t *)&topic;
}

static void k_topic_destroy(rd_kafka_topic_t *topic)
{
    (void)topic;
}

static void fetch_from(rd_kafka_t *k, const rd_kafka_topic_partition_list_t *list, bool is_fetched)
{
    for (int i = 0; list && i < list->cnt; i++) {
        int p = list->elems[i].partition;
        k->position[p] = is_fetched ? list->elems[i].offset : NOT_FETCHED;
        k->has_told_end[p] = false;
        if (is_fetched && k->position[p] < 0)
            model_wrong("%d: assigned without an offset", p);
    }
}

static rd_kafka_resp_err_t k_assign(rd_kafka_t *k, const rd_kafka_topic_partition_list_t *list)
{
    model_step();
    for (int p = 0; p < MODEL_PARTITIONS; p++)
        k->position[p] = NOT_FETCHED;
    fetch_from(k, list, true);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_error_t *k_incremental_assign(rd_kafka_t *k,
                                              const rd_kafka_topic_partition_list_t *list)
{
    model_step();
    fetch_from(k, list, true);
    return NULL;
}

static rd_kafka_error_t *k_incremental_unassign(rd_kafka_t *k,
                                                const rd_kafka_topic_partition_list_t *list)
{
    model_step();
    fetch_from(k, list, false);
    return NULL;
}

static int k_assignment_lost(rd_kafka_t *k)
{
    return k->op == OP_REVOKE && k->op_is_lost;
}

static const char *k_rebalance_protocol(rd_kafka_t *k)
{
    (void)k;
    return model.protocol == MODEL_EAGER ? "EAGER" : "COOPERATIVE";
}

static rd_kafka_resp_err_t k_commit(rd_kafka_t *k, const rd_kafka_topic_partition_list_t *list,
                                    int is_async)
{
    model_step();
    int member = k->member, generation = k->generation;
    if (!is_async)
        model_step(); // on its way
    if (model_breaks(40))
        return RD_KAFKA_RESP_ERR__TRANSPORT;
    rd_kafka_resp_err_t rc = check_commit(member, generation);
    for (int i = 0; !rc && i < list->cnt; i++)
        group.committed[list->elems[i].partition] = list->elems[i].offset;
    if (!is_async)
        model_step(); // its answer is on its way
    if ((rc == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID || rc == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION) &&
        k->member == member && k->generation == generation && member) {
        put_out(member);
        go_out(k);
    }
    return model_breaks(40) ? RD_KAFKA_RESP_ERR__TRANSPORT : rc;
}

static rd_kafka_resp_err_t k_committed(rd_kafka_t *k, rd_kafka_topic_partition_list_t *list,
                                       int timeout_ms)
{
    (void)k, (void)timeout_ms;
    model_step();
    for (int i = 0; i < list->cnt; i++)
        list->elems[i].offset = group.committed[list->elems[i].partition];
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t k_watermarks(rd_kafka_t *k, const char *topic, int32_t partition,
                                        int64_t *low, int64_t *high, int timeout_ms)
{
    (void)k, (void)topic, (void)timeout_ms;
    model_step();
    if (model_breaks(40))
        return RD_KAFKA_RESP_ERR__TIMED_OUT;
    *low = 0;
    *high = MODEL_END(partition);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t k_metadata(rd_kafka_t *k, int all, rd_kafka_topic_t *only,
                                      const struct rd_kafka_metadata **ret, int timeout_ms)
{
    static struct rd_kafka_metadata_topic topic = {.partition_cnt = MODEL_PARTITIONS};
    static const struct rd_kafka_metadata metadata = {.topic_cnt = 1, .topics = &topic};
    (void)k, (void)all, (void)only, (void)timeout_ms;
    *ret = &metadata;
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void k_metadata_destroy(const struct rd_kafka_metadata *metadata)
{
    (void)metadata;
}

// None whose length could be asked: what is fetched when is the model's own choice.
static rd_kafka_queue_t *k_queue(rd_kafka_t *k)
{
    (void)k;
    return NULL;
}

int __wrap_load_kafka(struct kafka_api *ret_api, struct tally_error *error);
int __wrap_load_kafka(struct kafka_api *ret_api, struct tally_error *error)
{
    (void)error;
    *ret_api = (struct kafka_api){
        .rd_kafka_conf_new = k_conf_new,
        .rd_kafka_conf_destroy = k_conf_destroy,
        .rd_kafka_conf_set = k_conf_set,
        .rd_kafka_conf_get = k_conf_get,
        .rd_kafka_conf_set_opaque = k_conf_set_opaque,
        .rd_kafka_conf_set_rebalance_cb = k_conf_set_rebalance_cb,
        .rd_kafka_conf_set_log_cb = k_conf_set_log_cb,
        .rd_kafka_conf_set_error_cb = k_conf_set_error_cb,
        .rd_kafka_new = k_new,
        .rd_kafka_destroy = k_destroy,
        .rd_kafka_poll = k_poll,
        .rd_kafka_poll_set_consumer = k_poll_set_consumer,
        .rd_kafka_subscribe = k_subscribe,
        .rd_kafka_consumer_poll = k_consumer_poll,
        .rd_kafka_consumer_close = k_consumer_close,
        .rd_kafka_message_timestamp = k_message_timestamp,
        .rd_kafka_message_headers = k_message_headers,
        .rd_kafka_message_destroy = k_message_destroy,
        .rd_kafka_topic_name = k_topic_name,
        .rd_kafka_topic_new = k_topic_new,
        .rd_kafka_topic_destroy = k_topic_destroy,
        .rd_kafka_topic_partition_list_new = rd_kafka_topic_partition_list_new,
        .rd_kafka_topic_partition_list_add = rd_kafka_topic_partition_list_add,
        .rd_kafka_topic_partition_list_destroy = rd_kafka_topic_partition_list_destroy,
        .rd_kafka_assign = k_assign,
        .rd_kafka_incremental_assign = k_incremental_assign,
        .rd_kafka_incremental_unassign = k_incremental_unassign,
        .rd_kafka_assignment_lost = k_assignment_lost,
        .rd_kafka_rebalance_protocol = k_rebalance_protocol,
        .rd_kafka_commit = k_commit,
        .rd_kafka_committed = k_committed,
        .rd_kafka_query_watermark_offsets = k_watermarks,
        .rd_kafka_queue_get_consumer = k_queue,
        .rd_kafka_metadata = k_metadata,
        .rd_kafka_metadata_destroy = k_metadata_destroy,
        .rd_kafka_err2str = rd_kafka_err2str,
        .rd_kafka_err2name = rd_kafka_err2name,
    };
    return 0;
}

int __wrap_topic_id_ask(const char *bootstrap, const char *topic, int timeout_ms,
                        char ret_id[CLAIM_TOPIC_ID], struct tally_error *error);
int __wrap_topic_id_ask(const char *bootstrap, const char *topic, int timeout_ms,
                        char ret_id[CLAIM_TOPIC_ID], struct tally_error *error)
{
    (void)bootstrap, (void)topic, (void)timeout_ms, (void)error;
    memcpy(ret_id, model.is_made_again ? MODEL_NEW_ID : MODEL_TOPIC_ID, CLAIM_TOPIC_ID);
    return 0;
}

static int no_answer(struct topic_id_link *l, struct tally_error *error)
{
    l->n_waiting = 0;
    return tally_error_set(error, TALLY_KAFKA, "the broker has gone");
}

int __wrap_topic_id_send(struct topic_id_link *l, const char *brokers, const char *topic,
                         int timeout_ms, struct tally_error *error);
int __wrap_topic_id_send(struct topic_id_link *l, const char *brokers, const char *topic,
                         int timeout_ms, struct tally_error *error)
{
    (void)brokers, (void)topic, (void)timeout_ms;
    struct copy *c = model.running;
    model_step();
    if (model_breaks(60))
        return no_answer(l, error);
    l->n_waiting++;
    c->is_told_new = model.is_made_again; // the broker may answer at once
    return 0;
}

int __wrap_topic_id_receive(struct topic_id_link *l, const char *topic, int timeout_ms,
                            char ret_id[CLAIM_TOPIC_ID], struct tally_error *error);
int __wrap_topic_id_receive(struct topic_id_link *l, const char *topic, int timeout_ms,
                            char ret_id[CLAIM_TOPIC_ID], struct tally_error *error)
{
    (void)topic, (void)timeout_ms;
    const struct copy *c = model.running;
    model_step();
    if (l->n_waiting == 0)
        model_wrong("an answer is read to no question");
    if (model_breaks(60))
        return no_answer(l, error);
    l->n_waiting--;
    memcpy(ret_id, c->is_told_new ? MODEL_NEW_ID : MODEL_TOPIC_ID, CLAIM_TOPIC_ID);
    return 0;
}
