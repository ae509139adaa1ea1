#include "client/load_engine.h"
#include "wire/batch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct reader_state {
    int64_t *offset; // owned: next of each partition
    int64_t *end;    // owned
    int version;
};

static bool is_mine(const struct load_conn *c, int32_t p)
{
    const struct load *l = c->load;
    int32_t n = l->topic.n_partitions < l->n_conns ? l->topic.n_partitions : l->n_conns;
    return l->topic.partitions[p].leader == c->node && p % n == c->index % n;
}

static void fetch(struct load_conn *c)
{
    struct load *l = c->load;
    struct reader_state *s = l->kind;
    arena_reset(l->scratch);
    struct fetch_request_topic topic;
    fetch_request_topic_init(&topic);
    topic.topic = l->topic.name;
    topic.topic_id = l->topic.id;
    topic.partitions =
        arena_array(l->scratch, (size_t)l->topic.n_partitions, sizeof *topic.partitions);
    topic.n_partitions = 0;
    for (int32_t i = 0; i < l->topic.n_partitions; i++) {
        if (!is_mine(c, i))
            continue;
        struct fetch_request_partition *p = &topic.partitions[topic.n_partitions++];
        fetch_request_partition_init(p);
        p->partition = l->topic.partitions[i].partition;
        p->fetch_offset = s->offset[i];
        p->partition_max_bytes = l->options->fetch_bytes;
    }
    struct fetch_request request;
    fetch_request_init(&request);
    request.max_wait_ms = 500;
    request.min_bytes = 1;
    request.max_bytes = 52428800;
    request.topics = &topic;
    request.n_topics = 1;
    request.rack_id = STR_EMPTY;
    load_ask(c, API_FETCH, s->version, &request, 0);
}

static void take_partition(struct load *l, const struct fetch_response_partition *p, int32_t i)
{
    struct reader_state *s = l->kind;
    if (p->error_code) {
        load_fail(l, -EREMOTEIO, "fetch from %s/%d: %s", l->options->topic, (int)p->partition_index,
                  kerr_name(p->error_code));
        return;
    }
    struct bytes rest = {p->records.ptr, p->records.len > 0 ? (size_t)p->records.len : 0};
    struct batch b;
    while (batch_next(&rest, &b) > 0) {
        int64_t next = batch_last_offset(&b) + 1;
        int64_t skipped = s->offset[i] > b.base_offset ? s->offset[i] - b.base_offset : 0;
        if (next > s->offset[i])
            s->offset[i] = next;
        l->result->records += b.count > skipped ? b.count - skipped : 0;
        l->result->bytes += (int64_t)b.all.len;
    }
    // Round again: more may be asked for than there is.
    if (s->offset[i] >= s->end[i])
        s->offset[i] = p->log_start_offset > 0 ? p->log_start_offset : 0;
}

static void on_answer(struct load_conn *c, const struct load_sent *sent, struct bytes frame)
{
    struct load *l = c->load;
    struct reader_state *s = l->kind;
    struct fetch_response r;
    if (!load_answer(c, API_FETCH, s->version, frame, &r))
        return;
    if (r.error_code)
        load_fail(l, -EREMOTEIO, "fetch: %s", kerr_name(r.error_code));
    for (int32_t t = 0; t < r.n_responses; t++)
        for (int32_t k = 0; k < r.responses[t].n_partitions; k++) {
            const struct fetch_response_partition *p = &r.responses[t].partitions[k];
            if (p->partition_index >= 0 && p->partition_index < l->topic.n_partitions)
                take_partition(l, p, p->partition_index);
        }
    uint64_t now = load_now_ns();
    histogram_add(&l->result->latency, now - sent->at_ns);
    l->result->seconds = (double)(now - l->start_ns) / 1e9;
    l->is_done = l->options->records ? l->result->records >= l->options->records : now >= l->end_ns;
    if (!l->is_done && !l->error)
        fetch(c);
}

static uint64_t tick(struct load *l, uint64_t now)
{
    (void)now;
    if (l->result->requests == 0)
        for (int32_t i = 0; i < l->n_conns; i++)
            if (l->conns[i].n_sent == 0)
                fetch(&l->conns[i]);
    return UINT64_MAX;
}

static int find_offsets(struct load *l, struct reader_state *s, char *why)
{
    bool is_empty = true;
    for (int32_t i = 0; i < l->topic.n_partitions; i++) {
        const struct client_partition *p = &l->topic.partitions[i];
        int result = client_list_offset(l->client, l->topic.name, p->partition, p->leader,
                                        CLIENT_EARLIEST, &s->offset[i]);
        if (result == 0)
            result = client_list_offset(l->client, l->topic.name, p->partition, p->leader,
                                        CLIENT_LATEST, &s->end[i]);
        if (result < 0) {
            snprintf(why, CLIENT_WHY_MAX, "%s", client_error(l->client));
            return result;
        }
        is_empty = is_empty && s->end[i] == s->offset[i];
    }
    if (!is_empty)
        return 0;
    snprintf(why, CLIENT_WHY_MAX, "topic %s is empty; fill it with: tally bench produce --topic %s",
             l->options->topic, l->options->topic);
    return -ENODATA;
}

int load_consume(const struct load_options *o, struct load_result *ret, char *why)
{
    struct load l;
    struct reader_state s = {0};
    *ret = (struct load_result){0};
    int result = load_start(&l, o, ret, true, why);
    if (result < 0)
        return result;
    l.kind = &s;
    l.on_answer = on_answer;
    l.on_tick = tick;
    s.offset = calloc((size_t)l.topic.n_partitions, sizeof *s.offset);
    s.end = calloc((size_t)l.topic.n_partitions, sizeof *s.end);
    CHECK(s.offset && s.end);
    s.version = load_version(&l, API_FETCH, -1);
    result = find_offsets(&l, &s, why);
    if (result == 0)
        result = load_open(&l, o->connections, CLIENT_ANY_NODE, why);
    l.start_ns = load_now_ns();
    l.end_ns = l.start_ns + (uint64_t)(o->seconds * 1e9);
    if (result == 0)
        result = load_run(&l, why);
    free(s.offset);
    free(s.end);
    load_end(&l);
    return result;
}
