#include "client/load_engine.h"
#include "wire/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

// The same frames again and again: made once, one a partition, so that the load costs little.
struct frames {
    struct kw_out *of; // owned, one a partition
    int32_t n;
    int32_t records; // in one batch
    int32_t bytes;   // of one batch
    int version;
    int64_t wanted; // requests; 0: until the time is over
    int64_t begun;
    int32_t *next; // owned: of each connection
};

static int64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void build_batch(const struct load_options *o, struct frames *f, struct buf *batch)
{
    struct batch_builder builder = {0};
    batch_builder_start(&builder, &batch_options_default);
    uint8_t *value = malloc((size_t)o->record_bytes);
    CHECK(value);
    for (int32_t i = 0; i < o->record_bytes; i++)
        value[i] = (uint8_t)('a' + i * 31 % 26);
    int64_t now = wall_ms();
    do {
        batch_builder_add(&builder, now, (struct bytes){NULL, 0},
                          (struct bytes){value, (size_t)o->record_bytes}, NULL, 0);
        f->records++;
    } while (batch_builder_size(&builder) + (size_t)o->record_bytes + 16 <= (size_t)o->batch_bytes);
    CHECK(batch_builder_finish(&builder, batch) == 0);
    f->bytes = (int32_t)batch->len;
    batch_builder_free(&builder);
    free(value);
}

static void write_frame(struct load *l, struct frames *f, int32_t i, const struct buf *batch)
{
    struct produce_request_partition_data data;
    produce_request_partition_data_init(&data);
    data.index = l->topic.partitions[i].partition;
    data.records = (struct kw_records){.ptr = batch->ptr, .len = (int32_t)batch->len};
    struct produce_request_topic_data topic;
    produce_request_topic_data_init(&topic);
    topic.name = l->topic.name;
    topic.topic_id = l->topic.id;
    topic.partition_data = &data;
    topic.n_partition_data = 1;
    struct produce_request request;
    produce_request_init(&request);
    request.acks = l->options->acks;
    request.timeout_ms = 30000;
    request.topic_data = &topic;
    request.n_topic_data = 1;
    struct request_header header = {.api_key = API_PRODUCE,
                                    .api_version = (int16_t)f->version,
                                    .client_id = STR("tally-bench")};
    frame_write_request(&header, &request, &f->of[i]);
}

static void send_next(struct load_conn *c, uint64_t now)
{
    struct load *l = c->load;
    struct frames *f = l->kind;
    while (load_can_send(c) && !l->error) {
        bool is_over = f->wanted ? f->begun >= f->wanted : now >= l->end_ns;
        if (is_over)
            return;
        int32_t i = f->next[c->index] % f->n;
        // The next one that the same node leads.
        do
            f->next[c->index] = (f->next[c->index] + 1) % f->n;
        while (l->topic.partitions[f->next[c->index]].leader != c->node);
        f->begun++;
        load_send(c, f->of[i].buf.ptr, f->of[i].buf.len, now, i);
    }
}

static void on_answer(struct load_conn *c, const struct load_sent *s, struct bytes frame)
{
    struct load *l = c->load;
    struct frames *f = l->kind;
    if (frame.ptr) {
        struct produce_response r;
        if (!load_answer(c, API_PRODUCE, f->version, frame, &r))
            return;
        for (int32_t t = 0; t < r.n_responses; t++)
            for (int32_t i = 0; i < r.responses[t].n_partition_responses; i++) {
                int16_t error = r.responses[t].partition_responses[i].error_code;
                if (error)
                    load_fail(l, -EREMOTEIO, "produce to %s: %s", l->options->topic,
                              kerr_name(error));
            }
    }
    uint64_t now = load_now_ns();
    histogram_add(&l->result->latency, now - s->at_ns);
    l->result->records += f->records;
    l->result->bytes += f->bytes;
    l->result->seconds = (double)(now - l->start_ns) / 1e9;
    send_next(c, now);
    bool is_over = f->wanted ? l->result->requests >= f->wanted : now >= l->end_ns;
    for (int32_t i = 0; is_over && i < l->n_conns; i++)
        is_over = l->conns[i].n_sent == 0;
    l->is_done = is_over;
}

static uint64_t tick(struct load *l, uint64_t now)
{
    struct frames *f = l->kind;
    if (f->begun == 0)
        for (int32_t i = 0; i < l->n_conns; i++)
            send_next(&l->conns[i], now);
    return l->no_answers ? now : UINT64_MAX;
}

int load_produce(const struct load_options *o, struct load_result *ret, char *why)
{
    struct load l;
    struct frames f = {0};
    struct buf batch = {0};
    *ret = (struct load_result){0};
    int result = load_start(&l, o, ret, true, why);
    if (result < 0)
        return result;
    l.kind = &f;
    l.on_answer = on_answer;
    l.on_tick = tick;
    l.no_answers = o->acks == 0;
    f.n = l.topic.n_partitions;
    f.version = load_version(&l, API_PRODUCE, -1);
    f.of = calloc((size_t)f.n, sizeof *f.of);
    f.next = calloc((size_t)o->connections, sizeof *f.next);
    CHECK(f.of && f.next);
    build_batch(o, &f, &batch);
    if (f.version >= 0)
        for (int32_t i = 0; i < f.n; i++)
            write_frame(&l, &f, i, &batch);
    for (int32_t i = 0; i < o->connections; i++)
        f.next[i] = i % f.n;
    f.wanted = o->records ? (o->records + f.records - 1) / f.records : 0;
    result = load_open(&l, o->connections, CLIENT_ANY_NODE, why);
    l.start_ns = load_now_ns();
    l.end_ns = l.start_ns + (uint64_t)(o->seconds * 1e9);
    if (result == 0)
        result = load_run(&l, why);
    for (int32_t i = 0; i < f.n; i++)
        kw_out_free(&f.of[i]);
    free(f.of);
    free(f.next);
    buf_free(&batch);
    load_end(&l);
    return result;
}
