// A model producer: numbered records, one batch under way at a time or several that go out together
// and are answered in their order, retries until acknowledged.

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
// What clients send before they wait; of an idempotent producer more would not be known again.
#define BURST_MAX 5
#define ASK_PERCENT 20
// So often in a row it may be told that what it sends again is out of order.
#define GAPS_MAX 3

struct under_way {
    int32_t partition;
    uint32_t first_record;
    int32_t n_records;
    int64_t timestamp_ms;
    int32_t sequence;
    int16_t error; // of the last answer
};

struct producer {
    struct actor actor;
    struct link *link;
    int16_t acks;
    bool is_idempotent;
    uint32_t interval_ms;
    bool is_stopped;
    int64_t producer_id; // -1 until known
    int32_t sequence[TRUTH_PARTITIONS];
    int64_t end[TRUTH_PARTITIONS]; // of the last batch that was acknowledged
    struct under_way batches[BURST_MAX];
    size_t n_batches, n_unanswered;
    uint32_t burst; // batches that may go out together
    int n_gaps;
};

static void send_all(struct producer *p);
static void ask_id(struct actor *a, uint64_t arg, struct bytes none);

static struct producer *of(struct actor *a)
{
    return LIST_ITEM(a, struct producer, actor);
}

static void renew_link(struct producer *p)
{
    link_close(p->link);
    p->link = link_open(&p->actor, p->actor.name);
}

static void retry(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct producer *p = of(a);
    renew_link(p);
    send_all(p);
}

static void make_batch(struct producer *p, struct under_way *b)
{
    struct sim *s = p->actor.sim;
    b->partition = (int32_t)prng_below(&s->prng, (uint64_t)s->truth->n_partitions);
    b->n_records = 1 + (int32_t)prng_below(&s->prng, BATCH_RECORDS);
    b->first_record = s->truth->next_record;
    s->truth->next_record += (uint32_t)b->n_records;
    b->timestamp_ms = 946684800000 + (int64_t)s->now_ms;
    b->sequence = p->sequence[b->partition];
    p->sequence[b->partition] += b->n_records;
}

static void next(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct producer *p = of(a);
    if (p->is_stopped)
        return;
    p->n_batches = p->burst == 1 ? 1 : 1 + prng_below(&a->sim->prng, p->burst);
    for (size_t i = 0; i < p->n_batches; i++)
        make_batch(p, &p->batches[i]);
    send_all(p);
}

static void go_on(struct producer *p)
{
    sim_after(&p->actor, 1 + prng_below(&p->actor.sim->prng, p->interval_ms), next, 0,
              (struct bytes){0});
}

static void note_acked(struct producer *p, const struct under_way *b, int64_t base)
{
    struct sim *s = p->actor.sim;
    for (int32_t i = 0; i < b->n_records; i++) {
        truth_record(s, b->partition, base + i, b->first_record + (uint32_t)i);
        truth_acked(s, b->partition, base + i, p->acks == 1 ? ACKED_LEADER : ACKED_ALL);
    }
    s->truth->n_produced += (uint64_t)b->n_records;
    if (p->is_idempotent && base < p->end[b->partition])
        sim_fail(s, "%s: records %u.. stand at %d@%lld, before those that were sent before them",
                 p->actor.name, b->first_record, b->partition, (long long)base);
    p->end[b->partition] = base + b->n_records;
}

// Nobody knows where its records went: it begins anew, without those.
static void begin_anew(struct producer *p)
{
    p->n_batches = 0;
    p->n_gaps = 0;
    memset(p->sequence, 0, sizeof p->sequence);
    sim_after(&p->actor, RETRY_MS, ask_id, 0, (struct bytes){0});
}

// All are answered: what was refused goes out again, in its order.
static void settle(struct producer *p)
{
    size_t n = 0;
    bool is_lost = false, is_gap = false;
    for (size_t i = 0; i < p->n_batches; i++) {
        const struct under_way *b = &p->batches[i];
        // Without idempotence a retry may write twice: these records stay unknown.
        bool is_dropped = !p->is_idempotent && b->error == KERR_NETWORK_EXCEPTION;
        is_lost = is_lost || is_dropped;
        is_gap = is_gap || b->error == KERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        if (b->error != KERR_NONE && !is_dropped)
            p->batches[n++] = *b;
    }
    p->n_batches = n;
    p->n_gaps = is_gap ? p->n_gaps + 1 : 0;
    if (p->n_gaps > GAPS_MAX) {
        begin_anew(p);
    } else if (n > 0) {
        sim_after(&p->actor, RETRY_MS, retry, 0, (struct bytes){0});
    } else {
        if (is_lost)
            renew_link(p);
        go_on(p);
    }
}

static void produced(struct actor *a, uint64_t i, const void *response)
{
    struct producer *p = of(a);
    struct under_way *b = &p->batches[i];
    const struct produce_response *r = response;
    int64_t base = -1;
    b->error = KERR_NETWORK_EXCEPTION;
    if (r && r->n_responses == 1 && r->responses[0].n_partition_responses == 1) {
        b->error = r->responses[0].partition_responses[0].error_code;
        base = r->responses[0].partition_responses[0].base_offset;
    }
    if (b->error == KERR_NONE)
        note_acked(p, b, base);
    else
        sim_trace(a->sim, "%s: %s", a->name, kerr_name(b->error));
    if (--p->n_unanswered == 0)
        settle(p);
}

static void send_batch(struct producer *p, size_t i)
{
    const struct under_way *u = &p->batches[i];
    struct batch_options o = batch_options_default;
    if (p->is_idempotent) {
        o.producer_id = p->producer_id;
        o.base_sequence = u->sequence;
        o.producer_epoch = 0;
    }
    struct batch_builder b = {0};
    batch_builder_start(&b, &o);
    for (int32_t k = 0; k < u->n_records; k++) {
        uint64_t id = u->first_record + (uint32_t)k;
        uint8_t key = (uint8_t)(id % TRUTH_KEYS);
        bool is_keyed = plan_has(p->actor.sim->options.seed, PLAN_COMPACTION);
        batch_builder_add(&b, u->timestamp_ms,
                          is_keyed ? (struct bytes){&key, 1} : (struct bytes){0},
                          (struct bytes){(const uint8_t *)&id, sizeof id}, NULL, 0);
    }
    struct buf out = {0};
    CHECK(batch_builder_finish(&b, &out) == 0);
    batch_builder_free(&b);
    struct produce_request_partition_data part;
    produce_request_partition_data_init(&part);
    part.index = u->partition;
    part.records = (struct kw_records){.ptr = out.ptr, .len = (int32_t)out.len};
    struct produce_request_topic_data topic = {
        .name = STR("t"), .partition_data = &part, .n_partition_data = 1};
    struct produce_request req;
    kw_init(&produce_request_msg, &req);
    req.acks = p->acks;
    req.timeout_ms = 30000;
    req.topic_data = &topic;
    req.n_topic_data = 1;
    link_request(p->link, API_PRODUCE, 7, &req, produced, i);
    buf_free(&out);
}

// What stands behind a batch sees it.
static void got_end(struct actor *a, uint64_t partition, const void *response)
{
    struct producer *p = of(a);
    const struct list_offsets_response *r = response;
    if (!r || r->n_topics != 1 || r->topics[0].partitions[0].error_code != KERR_NONE)
        return;
    if (p->acks == -1 && r->topics[0].partitions[0].offset < p->end[partition])
        sim_fail(a->sim, "%s: %d ends at %lld for who asked behind a batch up to %lld", a->name,
                 (int)partition, (long long)r->topics[0].partitions[0].offset,
                 (long long)p->end[partition]);
}

static void ask_end(struct producer *p, int32_t partition)
{
    struct list_offsets_request_partition part;
    list_offsets_request_partition_init(&part);
    part.partition_index = partition;
    part.timestamp = -1;
    struct list_offsets_request_topic topic = {
        .name = STR("t"), .partitions = &part, .n_partitions = 1};
    struct list_offsets_request req;
    kw_init(&list_offsets_request_msg, &req);
    req.topics = &topic;
    req.n_topics = 1;
    link_request(p->link, API_LIST_OFFSETS, 4, &req, got_end, (uint64_t)partition);
}

static void send_all(struct producer *p)
{
    // A link that is closed answers at once, and what is answered may settle.
    size_t n = p->n_unanswered = p->n_batches;
    for (size_t i = 0; i < n; i++) {
        if (p->burst > 1 && prng_chance(&p->actor.sim->prng, ASK_PERCENT))
            ask_end(p, p->batches[i].partition);
        send_batch(p, i);
    }
}

static void got_id(struct actor *a, uint64_t arg, const void *response);

static void ask_id(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct producer *p = of(a);
    renew_link(p);
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
    p->burst = plan_has(s->options.seed, PLAN_PIPELINE) ? BURST_MAX : 1;
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
