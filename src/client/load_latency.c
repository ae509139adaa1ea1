// End to end, in open loop: conns[0] produces, conns[1] consumes. Every record carries the time
// it was due, so that a broker that stalls pays for all records that had to wait.
#include "client/load_engine.h"
#include "wire/batch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// Waited for what is on its way when the time is over.
#define GRACE_NS 30000000000ull
// The first part of a run is not counted: caches and just-in-time compilers warm up.
#define WARM_UP_PART 5

struct stream {
    struct load *load;
    int produce_version, fetch_version;
    struct batch_builder *builders; // owned, one a partition
    int64_t *offset;                // owned: next of each partition
    struct buf batch;
    uint8_t *value;
    int64_t due_records; // sent or being sent
    int64_t total;
    int64_t received;
    uint64_t first_due_ns; // of what is in flight
    struct kw_out frames[LOAD_IN_FLIGHT_MAX];
    size_t next_frame;
};

static uint64_t due_ns(const struct stream *s, int64_t record)
{
    double after = (double)record * 1e9 / (double)s->load->options->rate;
    return s->load->start_ns + (uint64_t)after;
}

static bool counts(const struct stream *s, uint64_t at_ns)
{
    uint64_t warm_ns = (uint64_t)(s->load->options->seconds * 1e9) / WARM_UP_PART;
    return at_ns >= s->load->start_ns + warm_ns;
}

static void add_record(struct stream *s, int64_t record, int64_t wall_ms)
{
    uint64_t at = due_ns(s, record);
    memcpy(s->value, &at, sizeof at);
    struct batch_builder *b = &s->builders[record % s->load->topic.n_partitions];
    batch_builder_add(b, wall_ms, (struct bytes){NULL, 0},
                      (struct bytes){s->value, (size_t)s->load->options->record_bytes}, NULL, 0);
}

// All that is due, as one request with a batch for each partition that got something.
static void send_due(struct stream *s, uint64_t now)
{
    struct load *l = s->load;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    int64_t wall_ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000, first = s->due_records;
    int64_t room = l->options->batch_bytes / (l->options->record_bytes + 16) + 1;
    room *= l->topic.n_partitions;
    while (s->due_records < s->total && s->due_records - first < room &&
           due_ns(s, s->due_records) <= now)
        add_record(s, s->due_records++, wall_ms);
    if (s->due_records == first)
        return;
    arena_reset(l->scratch);
    struct produce_request_topic_data topic;
    produce_request_topic_data_init(&topic);
    topic.name = l->topic.name;
    topic.topic_id = l->topic.id;
    topic.partition_data =
        arena_array(l->scratch, (size_t)l->topic.n_partitions, sizeof *topic.partition_data);
    topic.n_partition_data = 0;
    for (int32_t i = 0; i < l->topic.n_partitions; i++) {
        struct buf batch = {0};
        if (s->builders[i].count == 0)
            continue;
        CHECK(batch_builder_finish(&s->builders[i], &batch) == 0);
        struct bytes kept = arena_bytes(l->scratch, (struct bytes){batch.ptr, batch.len});
        buf_free(&batch);
        struct produce_request_partition_data *d = &topic.partition_data[topic.n_partition_data++];
        produce_request_partition_data_init(d);
        d->index = i;
        d->records = (struct kw_records){.ptr = kept.ptr, .len = (int32_t)kept.len};
        l->result->bytes += d->records.len;
    }
    struct produce_request request;
    produce_request_init(&request);
    request.acks = l->options->acks;
    request.timeout_ms = 30000;
    request.topic_data = &topic;
    request.n_topic_data = 1;
    struct request_header header = {.api_key = API_PRODUCE,
                                    .api_version = (int16_t)s->produce_version,
                                    .client_id = STR("tally-bench")};
    struct kw_out *frame = &s->frames[s->next_frame++ % LOAD_IN_FLIGHT_MAX];
    kw_out_clear(frame);
    frame_write_request(&header, &request, frame);
    load_send(&l->conns[0], frame->buf.ptr, frame->buf.len, due_ns(s, first), first);
}

static void fetch(struct stream *s)
{
    struct load *l = s->load;
    arena_reset(l->scratch);
    struct fetch_request_topic topic;
    fetch_request_topic_init(&topic);
    topic.topic = l->topic.name;
    topic.topic_id = l->topic.id;
    topic.n_partitions = l->topic.n_partitions;
    topic.partitions =
        arena_array(l->scratch, (size_t)l->topic.n_partitions, sizeof *topic.partitions);
    for (int32_t i = 0; i < l->topic.n_partitions; i++) {
        fetch_request_partition_init(&topic.partitions[i]);
        topic.partitions[i].partition = i;
        topic.partitions[i].fetch_offset = s->offset[i];
        topic.partitions[i].partition_max_bytes = l->options->fetch_bytes;
    }
    struct fetch_request request;
    fetch_request_init(&request);
    request.max_wait_ms = 500;
    request.min_bytes = 1;
    request.max_bytes = 52428800;
    request.topics = &topic;
    request.n_topics = 1;
    request.rack_id = STR_EMPTY;
    load_ask(&l->conns[1], API_FETCH, s->fetch_version, &request, 0);
}

static void take_batch(struct stream *s, const struct batch *b, int32_t i, uint64_t now)
{
    struct record_iter it;
    struct record r;
    struct buf scratch = {0};
    if (record_iter_start(&it, b, &scratch) < 0)
        load_fail(s->load, -EBADMSG, "a batch that cannot be read");
    while (!s->load->error && record_next(&it, &r) > 0) {
        uint64_t at;
        if (r.offset < s->offset[i] || r.value.len < sizeof at)
            continue;
        memcpy(&at, r.value.ptr, sizeof at);
        s->offset[i] = r.offset + 1;
        s->received++;
        if (!counts(s, at))
            continue;
        histogram_add(&s->load->result->latency, now > at ? now - at : 0);
        s->load->result->records++;
    }
    buf_free(&scratch);
}

static void take_fetch(struct stream *s, struct load_conn *c, struct bytes frame)
{
    struct load *l = s->load;
    struct fetch_response r;
    uint64_t now = load_now_ns();
    if (!load_answer(c, API_FETCH, s->fetch_version, frame, &r))
        return;
    for (int32_t t = 0; t < r.n_responses; t++)
        for (int32_t k = 0; k < r.responses[t].n_partitions; k++) {
            const struct fetch_response_partition *p = &r.responses[t].partitions[k];
            if (p->error_code || p->partition_index >= l->topic.n_partitions) {
                load_fail(l, -EREMOTEIO, "fetch: %s", kerr_name(p->error_code));
                return;
            }
            struct bytes rest = {p->records.ptr, p->records.len > 0 ? (size_t)p->records.len : 0};
            struct batch b;
            while (batch_next(&rest, &b) > 0)
                take_batch(s, &b, p->partition_index, now);
        }
    if (s->received >= s->total)
        l->is_done = true;
    else if (!l->error)
        fetch(s);
}

static void take_produce(struct stream *s, struct load_conn *c, const struct load_sent *sent,
                         struct bytes frame)
{
    struct load *l = s->load;
    struct produce_response r;
    uint64_t now = load_now_ns();
    if (!load_answer(c, API_PRODUCE, s->produce_version, frame, &r))
        return;
    for (int32_t t = 0; t < r.n_responses; t++)
        for (int32_t i = 0; i < r.responses[t].n_partition_responses; i++)
            if (r.responses[t].partition_responses[i].error_code)
                load_fail(l, -EREMOTEIO, "produce: %s",
                          kerr_name(r.responses[t].partition_responses[i].error_code));
    if (counts(s, sent->at_ns))
        histogram_add(&l->result->second, now - sent->at_ns);
}

static void on_answer(struct load_conn *c, const struct load_sent *sent, struct bytes frame)
{
    struct stream *s = c->load->kind;
    if (c->index == 1)
        take_fetch(s, c, frame);
    else
        take_produce(s, c, sent, frame);
}

static uint64_t tick(struct load *l, uint64_t now)
{
    struct stream *s = l->kind;
    l->result->seconds = (double)(now - l->start_ns) / 1e9;
    if (l->conns[1].n_sent == 0)
        fetch(s);
    while (load_can_send(&l->conns[0]) && s->due_records < s->total &&
           due_ns(s, s->due_records) <= now && !l->error)
        send_due(s, now);
    if (s->due_records < s->total)
        return load_can_send(&l->conns[0]) ? due_ns(s, s->due_records) : UINT64_MAX;
    if (now > l->end_ns + GRACE_NS)
        load_fail(l, -ETIMEDOUT, "%lld of %lld records have not arrived",
                  (long long)(s->total - s->received), (long long)s->total);
    return UINT64_MAX;
}

static int prepare(struct load *l, struct stream *s, char *why)
{
    s->produce_version = load_version(l, API_PRODUCE, -1);
    s->fetch_version = load_version(l, API_FETCH, -1);
    size_t n = (size_t)l->topic.n_partitions;
    s->builders = calloc(n, sizeof *s->builders);
    s->offset = calloc(n, sizeof *s->offset);
    s->value = malloc((size_t)l->options->record_bytes);
    CHECK(s->builders && s->offset && s->value);
    memset(s->value, 'v', (size_t)l->options->record_bytes);
    for (size_t i = 0; i < n; i++) {
        const struct client_partition *p = &l->topic.partitions[i];
        batch_builder_start(&s->builders[i], &batch_options_default);
        int result = client_list_offset(l->client, l->topic.name, p->partition, p->leader,
                                        CLIENT_LATEST, &s->offset[i]);
        if (result < 0) {
            snprintf(why, CLIENT_WHY_MAX, "%s", client_error(l->client));
            return result;
        }
    }
    s->total = (int64_t)(l->options->seconds * (double)l->options->rate);
    return load_open(l, 2, CLIENT_ANY_NODE, why);
}

int load_latency(const struct load_options *o, struct load_result *ret, char *why)
{
    struct load l;
    struct stream s = {.load = &l};
    *ret = (struct load_result){0};
    int result = load_start(&l, o, ret, true, why);
    if (result < 0)
        return result;
    l.kind = &s;
    l.on_answer = on_answer;
    l.on_tick = tick;
    result = prepare(&l, &s, why);
    l.start_ns = load_now_ns() + 10000000u;
    l.end_ns = l.start_ns + (uint64_t)(o->seconds * 1e9);
    if (result == 0)
        result = load_run(&l, why);
    for (int32_t i = 0; s.builders && i < l.topic.n_partitions; i++)
        batch_builder_free(&s.builders[i]);
    for (size_t i = 0; i < LOAD_IN_FLIGHT_MAX; i++)
        kw_out_free(&s.frames[i]);
    free(s.builders);
    free(s.offset);
    free(s.value);
    load_end(&l);
    return result;
}
