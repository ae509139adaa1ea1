// A model producer: one batch under way at a time, numbered records, retries until acknowledged.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"
#include "schema.h"
#include "truth.h"
#include "wire/batch.h"
#include "world.h"

#define RETRY_MS 300
#define BATCH_RECORDS 8

struct producer {
    struct actor actor;
    struct link *link;
    int16_t acks;
    bool is_idempotent;
    uint32_t interval_ms;
    bool is_stopped;
    int64_t producer_id; // -1 until known
    int32_t sequence[TRUTH_PARTITIONS];
    // The batch under way.
    int32_t partition;
    uint32_t first_record;
    int32_t n_records; // 0: none
    int64_t timestamp_ms;
};

static void send_batch(struct producer *p);

static struct producer *of(struct actor *a)
{
    return LIST_ITEM(a, struct producer, actor);
}

static void retry(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct producer *p = of(a);
    link_close(p->link);
    p->link = link_open(a, a->name);
    send_batch(p);
}

static void next(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct producer *p = of(a);
    struct sim *s = a->sim;
    if (p->is_stopped)
        return;
    p->partition = (int32_t)prng_below(&s->prng, (uint64_t)s->truth->n_partitions);
    p->n_records = 1 + (int32_t)prng_below(&s->prng, BATCH_RECORDS);
    p->first_record = s->truth->next_record;
    s->truth->next_record += (uint32_t)p->n_records;
    p->timestamp_ms = 946684800000 + (int64_t)s->now_ms;
    send_batch(p);
}

static void go_on(struct producer *p)
{
    sim_after(&p->actor, 1 + prng_below(&p->actor.sim->prng, p->interval_ms), next, 0,
              (struct bytes){0});
}

static void note_acked(struct producer *p, int64_t base)
{
    struct sim *s = p->actor.sim;
    for (int32_t i = 0; i < p->n_records; i++) {
        truth_record(s, p->partition, base + i, p->first_record + (uint32_t)i);
        truth_acked(s, p->partition, base + i, p->acks == 1 ? ACKED_LEADER : ACKED_ALL);
    }
    s->truth->n_produced += (uint64_t)p->n_records;
}

static void produced(struct actor *a, uint64_t arg, const void *response)
{
    (void)arg;
    struct producer *p = of(a);
    const struct produce_response *r = response;
    int16_t error = KERR_NETWORK_EXCEPTION;
    int64_t base = -1;
    if (r && r->n_responses == 1 && r->responses[0].n_partition_responses == 1) {
        error = r->responses[0].partition_responses[0].error_code;
        base = r->responses[0].partition_responses[0].base_offset;
    }
    if (error != KERR_NONE) {
        sim_trace(a->sim, "%s: %s", a->name, kerr_name(error));
        if (!p->is_idempotent && error == KERR_NETWORK_EXCEPTION) {
            // Without idempotence a retry may write twice: these records stay unknown.
            p->n_records = 0;
            link_close(p->link);
            p->link = link_open(a, a->name);
            go_on(p);
            return;
        }
        sim_after(a, RETRY_MS, retry, 0, (struct bytes){0});
        return;
    }
    note_acked(p, base);
    p->sequence[p->partition] += p->n_records;
    p->n_records = 0;
    go_on(p);
}

static void send_batch(struct producer *p)
{
    struct sim *s = p->actor.sim;
    struct batch_options o = batch_options_default;
    if (p->is_idempotent) {
        o.producer_id = p->producer_id;
        o.base_sequence = p->sequence[p->partition];
        o.producer_epoch = 0;
    }
    struct batch_builder b = {0};
    batch_builder_start(&b, &o);
    for (int32_t i = 0; i < p->n_records; i++) {
        uint64_t id = p->first_record + (uint32_t)i;
        uint8_t key = (uint8_t)(id % TRUTH_KEYS);
        bool is_keyed = plan_has(p->actor.sim->options.seed, PLAN_COMPACTION);
        batch_builder_add(&b, p->timestamp_ms,
                          is_keyed ? (struct bytes){&key, 1} : (struct bytes){0},
                          (struct bytes){(const uint8_t *)&id, sizeof id}, NULL, 0);
    }
    struct buf out = {0};
    CHECK(batch_builder_finish(&b, &out) == 0);
    batch_builder_free(&b);
    struct produce_request_partition_data part;
    produce_request_partition_data_init(&part);
    part.index = p->partition;
    part.records = (struct kw_records){.ptr = out.ptr, .len = (int32_t)out.len};
    struct produce_request_topic_data topic = {
        .name = STR("t"), .partition_data = &part, .n_partition_data = 1};
    struct produce_request req;
    kw_init(&produce_request_msg, &req);
    req.acks = p->acks;
    req.timeout_ms = 30000;
    req.topic_data = &topic;
    req.n_topic_data = 1;
    (void)s;
    link_request(p->link, API_PRODUCE, 7, &req, produced, 0);
    buf_free(&out);
}

static void got_id(struct actor *a, uint64_t arg, const void *response);

static void ask_id(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct producer *p = of(a);
    link_close(p->link);
    p->link = link_open(a, a->name);
    struct init_producer_id_request req;
    kw_init(&init_producer_id_request_msg, &req);
    req.transactional_id = STR_NULL;
    req.transaction_timeout_ms = 60000;
    link_request(p->link, API_INIT_PRODUCER_ID, 1, &req, got_id, 0);
}

static void got_id(struct actor *a, uint64_t arg, const void *response)
{
    (void)arg;
    struct producer *p = of(a);
    const struct init_producer_id_response *r = response;
    if (!r || r->error_code != KERR_NONE) {
        sim_after(a, RETRY_MS, ask_id, 0, (struct bytes){0});
        return;
    }
    p->producer_id = r->producer_id;
    go_on(p);
}

struct producer *producer_new(struct sim *s, const char *name, int16_t acks, bool idempotent,
                              uint32_t interval_ms)
{
    struct producer *p = calloc(1, sizeof *p);
    CHECK(p);
    actor_init(&p->actor, s, name);
    p->acks = acks;
    p->is_idempotent = idempotent;
    p->interval_ms = interval_ms;
    p->producer_id = -1;
    p->link = link_open(&p->actor, name);
    if (idempotent)
        ask_id(&p->actor, 0, (struct bytes){0});
    else
        go_on(p);
    return p;
}

void producer_stop(struct producer *p)
{
    p->is_stopped = true;
}

void producer_free(struct producer *p)
{
    link_close(p->link);
    actor_end(&p->actor);
    free(p);
}
