#include "client/internal.h"
#include "wire/batch.h"
#include "wire/murmur2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// A batch is sent when it is this large: well below Kafka's default max.message.bytes (1 MB), so
// that one record of the largest size still fits into a batch of its own.
#define BATCH_TARGET_BYTES 262144
// All batches are sent when together they hold this much: one round trip, one sync.
#define PENDING_TARGET_BYTES 4194304

struct slot { // one partition
    struct batch_builder builder;
    int32_t leader;
    int32_t next_sequence;
    int32_t sent_count; // records in `sealed`
    struct buf sealed;  // the batch on its way
};

struct client_producer {
    struct client *client;
    char *topic; // owned
    struct uuid topic_id;
    struct slot *slots; // owned, one a partition
    int32_t n_slots;
    int32_t next_slot; // for records without a key
    size_t pending_bytes;
    int64_t producer_id; // -1: not idempotent
    int16_t producer_epoch;
    client_ack_fn *on_ack;
    void *arg;
};

// Where each partition's leader is now. -EAGAIN: some partition has none at the moment.
static int find_leaders(struct client_producer *p)
{
    struct arena *a = arena_new();
    struct str name = str_from(p->topic);
    struct client_topic *topics;
    int32_t n_topics;
    int result = client_metadata(p->client, &name, 1, a, &topics, &n_topics);
    if (result == 0 && n_topics != 1)
        result = client_fail(p->client, -EBADMSG, "no metadata");
    if (result == 0 && topics[0].error_code == KERR_UNKNOWN_TOPIC_OR_PARTITION)
        result =
            client_fail(p->client, -ENOENT, "no topic \"%s\"; make it with: tally topic create %s",
                        p->topic, p->topic);
    else if (result == 0 && topics[0].error_code)
        result = client_refused(p->client, topics[0].error_code, "topic %s", p->topic);
    if (result == 0 && !p->slots) {
        p->n_slots = topics[0].n_partitions;
        p->slots = calloc((size_t)p->n_slots, sizeof *p->slots);
        CHECK(p->slots || p->n_slots == 0);
    }
    for (int32_t i = 0; result == 0 && i < topics[0].n_partitions && i < p->n_slots; i++) {
        p->slots[i].leader = topics[0].partitions[i].leader;
        if (p->slots[i].leader < 0)
            result = -EAGAIN;
    }
    if (result == 0)
        p->topic_id = topics[0].id;
    arena_free(a);
    return result;
}

static int find_leaders_waiting(struct client_producer *p)
{
    struct client_deadline deadline = client_deadline(p->client);
    int result;
    while ((result = find_leaders(p)) == -EAGAIN) {
        if (!client_wait(deadline))
            return client_fail(p->client, -ETIMEDOUT, "topic %s has a partition without a leader",
                               p->topic);
    }
    return result;
}

// Without a producer id a retry after a lost answer could store a batch twice.
static int become_idempotent(struct client_producer *p)
{
    p->producer_id = -1;
    p->producer_epoch = -1;
    if (!client_has_api(p->client, API_INIT_PRODUCER_ID))
        return 0;
    struct client_deadline deadline = client_deadline(p->client);
    for (;;) {
        struct arena *a = arena_new();
        struct init_producer_id_request request;
        init_producer_id_request_init(&request);
        request.transactional_id = STR_NULL;
        request.transaction_timeout_ms = 60000;
        struct init_producer_id_response response;
        int result = client_call(p->client, CLIENT_ANY_NODE, API_INIT_PRODUCER_ID, -1, &request, a,
                                 &response, NULL);
        int16_t error = result == 0 ? response.error_code : (int16_t)0;
        if (result == 0 && error == KERR_NONE) {
            p->producer_id = response.producer_id;
            p->producer_epoch = response.producer_epoch;
        }
        arena_free(a);
        if (result < 0 || error == KERR_NONE)
            return result;
        if (!kerr_is_retriable(error) || !client_wait(deadline))
            return client_refused(p->client, error, "producer id");
    }
}

static void start_batch(struct client_producer *p, struct slot *s)
{
    struct batch_options options = batch_options_default;
    options.producer_id = p->producer_id;
    options.producer_epoch = p->producer_epoch;
    options.base_sequence = p->producer_id < 0 ? -1 : s->next_sequence;
    batch_builder_start(&s->builder, &options);
}

int client_producer_open(struct client *c, const char *topic, client_ack_fn *on_ack, void *arg,
                         struct client_producer **ret_producer)
{
    struct client_producer *p = calloc(1, sizeof *p);
    CHECK(p);
    p->client = c;
    p->topic = strdup(topic);
    p->on_ack = on_ack;
    p->arg = arg;
    int result = find_leaders_waiting(p);
    if (result == 0)
        result = become_idempotent(p);
    if (result < 0) {
        client_producer_close(p);
        return result;
    }
    for (int32_t i = 0; i < p->n_slots; i++)
        start_batch(p, &p->slots[i]);
    *ret_producer = p;
    return 0;
}

int32_t client_producer_partitions(const struct client_producer *p)
{
    return p->n_slots;
}

void client_producer_close(struct client_producer *p)
{
    if (!p)
        return;
    for (int32_t i = 0; i < p->n_slots; i++) {
        batch_builder_free(&p->slots[i].builder);
        buf_free(&p->slots[i].sealed);
    }
    free(p->slots);
    free(p->topic);
    free(p);
}

// What came of one partition's batch: acknowledged, to be sent again (the batch stays), or -errno.
static int take_answer(struct client_producer *p,
                       const struct produce_response_partition_response *answer)
{
    if (answer->index < 0 || answer->index >= p->n_slots)
        return -EBADMSG;
    struct slot *s = &p->slots[answer->index];
    if (s->sealed.len == 0)
        return -EBADMSG;
    if (answer->error_code == KERR_NONE || answer->error_code == KERR_DUPLICATE_SEQUENCE_NUMBER) {
        struct client_ack ack = {answer->index, answer->base_offset, s->sent_count};
        if (p->producer_id >= 0) {
            int64_t next = (int64_t)s->next_sequence + s->sent_count;
            s->next_sequence = (int32_t)(next > INT32_MAX ? next - INT32_MAX - 1 : next);
        }
        buf_clear(&s->sealed);
        if (p->on_ack)
            p->on_ack(p->arg, &ack);
        return 0;
    }
    if (kerr_is_retriable(answer->error_code))
        return 0;
    return client_refused(p->client, answer->error_code, "%s/%d: a batch of %d records%s%.*s",
                          p->topic, (int)answer->index, (int)s->sent_count,
                          str_is_null(answer->error_message) ? "" : ": ",
                          STR_FMT(answer->error_message));
}

// One Produce with every sealed batch that this leader should take.
static int send_to(struct client_producer *p, int32_t leader, struct arena *a)
{
    struct produce_request_topic_data topic;
    produce_request_topic_data_init(&topic);
    topic.name = str_from(p->topic);
    topic.topic_id = p->topic_id;
    topic.partition_data = arena_array(a, (size_t)p->n_slots, sizeof *topic.partition_data);
    topic.n_partition_data = 0;
    for (int32_t i = 0; i < p->n_slots; i++) {
        struct slot *s = &p->slots[i];
        if (s->leader != leader || s->sealed.len == 0)
            continue;
        struct produce_request_partition_data *d = &topic.partition_data[topic.n_partition_data++];
        produce_request_partition_data_init(d);
        d->index = i;
        d->records = (struct kw_records){.ptr = s->sealed.ptr, .len = (int32_t)s->sealed.len};
    }
    struct produce_request request;
    produce_request_init(&request);
    request.acks = -1;
    request.timeout_ms = p->client->timeout_ms;
    request.topic_data = &topic;
    request.n_topic_data = 1;
    struct produce_response response;
    int result = client_call(p->client, leader, API_PRODUCE, -1, &request, a, &response, NULL);
    for (int32_t t = 0; result == 0 && t < response.n_responses; t++) {
        for (int32_t i = 0; result == 0 && i < response.responses[t].n_partition_responses; i++)
            result = take_answer(p, &response.responses[t].partition_responses[i]);
    }
    return result;
}

static struct slot *first_sealed(struct client_producer *p)
{
    for (int32_t i = 0; i < p->n_slots; i++) {
        if (p->slots[i].sealed.len)
            return &p->slots[i];
    }
    return NULL;
}

// True when the failure is one of the connection and the same batches may be sent again: the
// broker knows them by their sequence.
static bool may_resend(const struct client_producer *p, int result)
{
    return p->producer_id >= 0 &&
           (result == -EPIPE || result == -ETIMEDOUT || result == -ECONNREFUSED);
}

static int send_sealed(struct client_producer *p)
{
    struct client_deadline deadline = client_deadline(p->client);
    struct slot *s;
    for (bool again = false; (s = first_sealed(p)); again = true) {
        if (again) {
            int result = client_wait(deadline) ? find_leaders(p) : -ETIMEDOUT;
            if (result == -EAGAIN || (may_resend(p, result) && result != -ETIMEDOUT))
                continue;
            if (result == -ETIMEDOUT)
                return client_fail(p->client, result, "%s/%d: not acknowledged within %d s",
                                   p->topic, (int)(s - p->slots),
                                   (p->client->timeout_ms + 999) / 1000);
            if (result < 0)
                return result;
        }
        int32_t leaders[CLIENT_MAX_NODES], n_leaders = 0;
        for (int32_t i = 0; i < p->n_slots; i++) {
            int32_t leader = p->slots[i].leader, known = 0;
            if (p->slots[i].sealed.len == 0)
                continue;
            while (known < n_leaders && leaders[known] != leader)
                known++;
            if (known == n_leaders && n_leaders < CLIENT_MAX_NODES)
                leaders[n_leaders++] = leader;
        }
        for (int32_t i = 0; i < n_leaders; i++) {
            struct arena *a = arena_new();
            int result = send_to(p, leaders[i], a);
            arena_free(a);
            if (result < 0 && !may_resend(p, result))
                return result;
        }
    }
    return 0;
}

int client_producer_flush(struct client_producer *p)
{
    for (int32_t i = 0; i < p->n_slots; i++) {
        struct slot *s = &p->slots[i];
        if (s->builder.count == 0)
            continue;
        s->sent_count = s->builder.count;
        // The sequence is known only now: the batch before has been acknowledged.
        s->builder.options.base_sequence = p->producer_id < 0 ? -1 : s->next_sequence;
        int result = batch_builder_finish(&s->builder, &s->sealed);
        CHECK(result == 0);
    }
    p->pending_bytes = 0;
    int result = send_sealed(p);
    for (int32_t i = 0; i < p->n_slots; i++)
        start_batch(p, &p->slots[i]);
    return result;
}

int client_producer_add(struct client_producer *p, int32_t partition, const struct client_record *r)
{
    struct bytes key = {(const uint8_t *)r->key.ptr, r->key.len > 0 ? (size_t)r->key.len : 0};
    if (partition < 0) {
        partition = key.ptr ? murmur2_partition(key, p->n_slots) : p->next_slot;
        if (!key.ptr)
            p->next_slot = (p->next_slot + 1) % p->n_slots;
    }
    if (partition >= p->n_slots)
        return client_fail(p->client, -EINVAL, "%s has no partition %d", p->topic, (int)partition);

    struct slot *s = &p->slots[partition];
    size_t size = key.len + r->value.len;
    if (s->builder.count && (batch_builder_size(&s->builder) + size > BATCH_TARGET_BYTES ||
                             p->pending_bytes + size > PENDING_TARGET_BYTES)) {
        int result = client_producer_flush(p);
        if (result < 0)
            return result;
    }
    int64_t time_ms = r->time_ms;
    if (time_ms < 0) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        time_ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    }
    batch_builder_add(&s->builder, time_ms, key, r->value, NULL, 0);
    p->pending_bytes += size;
    return 0;
}
