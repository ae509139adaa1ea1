// The requests of a scripted run.

#include "cuts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/broker.h"
#include "os/disk_sim.h"
#include "schema.h"
#include "wire/consumer_protocol.h"

#define PATIENCE_MS 70000
#define SLICE_MS 5

static struct cuts *of(struct actor *a)
{
    return LIST_ITEM(a->sim, struct cuts, sim);
}

static void answer(struct cuts *c, int16_t error)
{
    c->is_answered = true;
    c->error = error;
}

static void lost(struct cuts *c)
{
    c->is_down = true;
    link_close(c->link);
    c->link = NULL;
}

// The armed fault makes the broker stop itself, at once or with the sync that fails.
static bool end_has_come(struct cuts *c)
{
    struct sim *s = &c->sim;
    if (!s->has_failed)
        return false;
    if (c->is_armed && (!s->broker || broker_failure(s->broker))) {
        s->has_failed = false;
        s->failure[0] = '\0';
        lost(c);
    }
    return true;
}

static bool ask(struct cuts *c, int16_t api, int version, const void *request, link_answer_fn *fn,
                void *into)
{
    struct sim *s = &c->sim;
    if (c->is_down || s->has_failed)
        return false;
    if (!c->link)
        c->link = link_open(&s->world, "cuts");
    c->is_answered = false;
    c->error = KERR_NONE;
    c->into = into;
    link_request(c->link, api, version, request, fn, 0);
    uint64_t until = s->now_ms + PATIENCE_MS;
    while (!c->is_answered && s->now_ms < until) {
        sim_run_until(s, s->now_ms + SLICE_MS);
        if (end_has_come(c))
            return false;
    }
    if (!c->is_answered)
        sim_fail(s, "%s was never answered", kw_api(api)->name);
    else if (c->error != KERR_NONE && !c->is_armed && !c->may_refuse)
        sim_fail(s, "%s: %s", kw_api(api)->name, kerr_name(c->error));
    return c->is_answered && c->error == KERR_NONE && !c->is_down;
}

#define TAKES(type)                                                                                \
    struct cuts *c = of(a);                                                                        \
    const struct type *r = response;                                                               \
    (void)arg;                                                                                     \
    if (!r) {                                                                                      \
        answer(c, KERR_NETWORK_EXCEPTION);                                                         \
        return;                                                                                    \
    }

// ---- topics

static void created(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(create_topics_response)
    answer(c, r->topics[0].error_code);
}

bool cuts_create(struct cuts *c, struct cuts_topic *t, int32_t n, const char *segment_bytes)
{
    struct create_topics_request_topic topic;
    create_topics_request_topic_init(&topic);
    topic.name = str_from(t->name);
    topic.num_partitions = n;
    topic.replication_factor = 1;
    struct create_topics_request_config configs[] = {
        {.name = STR("segment.bytes"), .value = str_from(segment_bytes)},
        {.name = STR("cleanup.policy"), .value = STR("compact")},
        {.name = STR("min.cleanable.dirty.ratio"), .value = STR("0")}};
    topic.configs = configs;
    topic.n_configs = t->is_compacted ? 3 : 1;
    struct create_topics_request req;
    kw_init(&create_topics_request_msg, &req);
    req.topics = &topic;
    req.n_topics = 1;
    req.timeout_ms = 30000;
    const char *name = t->name;
    *t = (struct cuts_topic){
        .name = name, .is_compacted = t->is_compacted, .is_there = CUTS_UNSURE, .n_partitions = n};
    bool done = ask(c, API_CREATE_TOPICS, 7, &req, created, NULL);
    if (done)
        t->is_there = CUTS_YES;
    return done;
}

static void deleted(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(delete_topics_response)
    answer(c, r->responses[0].error_code);
}

bool cuts_delete(struct cuts *c, struct cuts_topic *t)
{
    struct str name = str_from(t->name);
    struct delete_topics_request req;
    kw_init(&delete_topics_request_msg, &req);
    req.topic_names = &name;
    req.n_topic_names = 1;
    req.timeout_ms = 30000;
    t->is_there = CUTS_UNSURE;
    bool done = ask(c, API_DELETE_TOPICS, 3, &req, deleted, NULL);
    if (done)
        t->is_there = CUTS_NO;
    return done;
}

static void more(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(create_partitions_response)
    answer(c, r->results[0].error_code);
}

bool cuts_more_partitions(struct cuts *c, struct cuts_topic *t, int32_t n)
{
    struct create_partitions_request_topic topic;
    create_partitions_request_topic_init(&topic);
    topic.name = str_from(t->name);
    topic.count = n;
    topic.n_assignments = -1;
    struct create_partitions_request req;
    kw_init(&create_partitions_request_msg, &req);
    req.topics = &topic;
    req.n_topics = 1;
    req.timeout_ms = 30000;
    t->has_more = CUTS_UNSURE;
    bool done = ask(c, API_CREATE_PARTITIONS, 1, &req, more, NULL);
    if (done) {
        t->has_more = CUTS_NO;
        t->n_partitions = n;
    }
    return done;
}

static void altered(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(incremental_alter_configs_response)
    answer(c, r->responses[0].error_code);
}

bool cuts_alter(struct cuts *c, struct cuts_topic *t, const char *value)
{
    struct incremental_alter_configs_request_config config = {.name = STR("retention.bytes"),
                                                              .value = str_from(value)};
    struct incremental_alter_configs_request_resource resource = {
        .resource_type = 2, .resource_name = str_from(t->name), .configs = &config, .n_configs = 1};
    struct incremental_alter_configs_request req;
    kw_init(&incremental_alter_configs_request_msg, &req);
    req.resources = &resource;
    req.n_resources = 1;
    c->limit_asked = value;
    bool done = ask(c, API_INCREMENTAL_ALTER_CONFIGS, 0, &req, altered, NULL);
    if (done)
        c->limit = value;
    return done;
}

// ---- records

static void got_id(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(init_producer_id_response)
    c->number = r->producer_id;
    answer(c, r->error_code);
}

bool cuts_producer(struct cuts *c)
{
    struct init_producer_id_request req;
    kw_init(&init_producer_id_request_msg, &req);
    req.transactional_id = STR_NULL;
    req.transaction_timeout_ms = 60000;
    if (!ask(c, API_INIT_PRODUCER_ID, 1, &req, got_id, NULL))
        return false;
    if (c->number == c->producer_id)
        sim_fail(&c->sim, "producer id %lld was given twice", (long long)c->number);
    c->producer_id = c->number;
    for (int t = 0; t < CUTS_TOPICS; t++)
        for (int p = 0; p < CUTS_PARTITIONS; p++)
            c->topics[t].parts[p].next_sequence = 0;
    return true;
}

static void produced(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(produce_response)
    c->number = r->responses[0].partition_responses[0].base_offset;
    answer(c, r->responses[0].partition_responses[0].error_code);
}

static bool send_batch(struct cuts *c, const struct cuts_topic *t, int32_t p,
                       const struct cuts_batch *b, size_t value_bytes)
{
    struct batch_options o = batch_options_default;
    if (b->producer_id >= 0) {
        o.producer_id = b->producer_id;
        o.producer_epoch = 0;
        o.base_sequence = b->sequence;
    }
    struct batch_builder builder = {0};
    batch_builder_start(&builder, &o);
    uint8_t *value = calloc(1, value_bytes);
    CHECK(value && value_bytes >= sizeof b->first_id);
    for (int32_t i = 0; i < b->n; i++) {
        uint64_t id = b->first_id + (uint64_t)i;
        uint8_t key = (uint8_t)(id % CUTS_KEYS);
        memcpy(value, &id, sizeof id);
        batch_builder_add(&builder, 946684800000 + (int64_t)c->sim.now_ms,
                          t->is_compacted ? (struct bytes){&key, 1} : (struct bytes){0},
                          (struct bytes){value, value_bytes}, NULL, 0);
    }
    struct buf out = {0};
    CHECK(batch_builder_finish(&builder, &out) == 0);
    batch_builder_free(&builder);
    free(value);
    struct produce_request_partition_data part;
    produce_request_partition_data_init(&part);
    part.index = p;
    part.records = (struct kw_records){.ptr = out.ptr, .len = (int32_t)out.len};
    struct produce_request_topic_data topic = {
        .name = str_from(t->name), .partition_data = &part, .n_partition_data = 1};
    struct produce_request req;
    kw_init(&produce_request_msg, &req);
    req.acks = b->acks;
    req.timeout_ms = 30000;
    req.topic_data = &topic;
    req.n_topic_data = 1;
    bool done = ask(c, API_PRODUCE, 7, &req, produced, NULL);
    buf_free(&out);
    return done;
}

bool cuts_produce(struct cuts *c, struct cuts_topic *t, int32_t p, int32_t n, int16_t acks,
                  size_t value_bytes)
{
    struct cuts_partition *part = &t->parts[p];
    CHECK(part->n_batches < CUTS_BATCHES);
    struct cuts_batch *b = &part->batches[part->n_batches++];
    *b = (struct cuts_batch){.first_id = c->next_id,
                             .n = n,
                             .producer_id = acks == -1 ? c->producer_id : -1,
                             .sequence = acks == -1 ? part->next_sequence : -1,
                             .acks = acks};
    c->next_id += (uint64_t)n;
    if (!send_batch(c, t, p, b, value_bytes))
        return false;
    b->is_acked = true;
    b->base = c->number;
    if (acks == -1)
        part->next_sequence += n;
    for (int32_t i = 0; i < n; i++)
        cuts_note(c, t, p, &part->known, b->base + i, b->first_id + (uint64_t)i);
    return true;
}

bool cuts_repeat(struct cuts *c, struct cuts_topic *t, int32_t p)
{
    const struct cuts_partition *part = &t->parts[p];
    for (size_t i = part->n_batches; i-- > 0;) {
        const struct cuts_batch *b = &part->batches[i];
        if (!b->is_acked || b->producer_id < 0)
            continue;
        if (!send_batch(c, t, p, b, sizeof b->first_id))
            return false;
        if (c->number != b->base)
            sim_fail(&c->sim, "%s-%d: the batch at %lld, sent again, was answered with %lld",
                     t->name, p, (long long)b->base, (long long)c->number);
        return true;
    }
    return true;
}

static void records_deleted(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(delete_records_response)
    answer(c, r->topics[0].partitions[0].error_code);
}

bool cuts_delete_records(struct cuts *c, struct cuts_topic *t, int32_t p, int64_t offset)
{
    struct delete_records_request_partition part = {.partition_index = p, .offset = offset};
    struct delete_records_request_topic topic = {
        .name = str_from(t->name), .partitions = &part, .n_partitions = 1};
    struct delete_records_request req;
    kw_init(&delete_records_request_msg, &req);
    req.topics = &topic;
    req.n_topics = 1;
    req.timeout_ms = 30000;
    if (t->parts[p].start_most < offset)
        t->parts[p].start_most = offset;
    bool done = ask(c, API_DELETE_RECORDS, 1, &req, records_deleted, NULL);
    if (done)
        t->parts[p].start_least = offset;
    return done;
}

// ---- groups

static void joined(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(join_group_response)
    snprintf(c->member_id, sizeof c->member_id, "%.*s", STR_FMT(r->member_id));
    c->generation = r->generation_id;
    answer(c, r->error_code == KERR_MEMBER_ID_REQUIRED ? KERR_NONE : r->error_code);
}

static void synced(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(sync_group_response)
    answer(c, r->error_code);
}

bool cuts_join(struct cuts *c)
{
    struct str topic = str_from(c->topics[0].name);
    struct consumer_protocol_subscription sub;
    kw_init(&consumer_protocol_subscription_msg, &sub);
    sub.topics = &topic;
    sub.n_topics = 1;
    struct buf b = {0};
    consumer_subscription_write(1, &sub, &b);
    struct join_group_request_protocol protocol = {.name = STR("range"),
                                                   .metadata = {b.ptr, b.len}};
    struct join_group_request req;
    kw_init(&join_group_request_msg, &req);
    req.group_id = str_from(cuts_groups[0]);
    req.session_timeout_ms = c->session_ms;
    req.rebalance_timeout_ms = 60000;
    req.member_id = STR_EMPTY;
    req.protocol_type = STR("consumer");
    req.protocols = &protocol;
    req.n_protocols = 1;
    bool done = ask(c, API_JOIN_GROUP, 5, &req, joined, NULL);
    if (done && c->generation < 0) {
        req.member_id = str_from(c->member_id);
        done = ask(c, API_JOIN_GROUP, 5, &req, joined, NULL);
    }
    buf_free(&b);
    if (!done)
        return false;
    int32_t all[] = {0, 1};
    struct consumer_protocol_assignment_topic_partition mine = {
        .topic = topic, .partitions = all, .n_partitions = 2};
    struct consumer_protocol_assignment as;
    kw_init(&consumer_protocol_assignment_msg, &as);
    as.assigned_partitions = &mine;
    as.n_assigned_partitions = 1;
    struct buf blob = {0};
    consumer_assignment_write(1, &as, &blob);
    struct sync_group_request_assignment give = {.member_id = str_from(c->member_id),
                                                 .assignment = {blob.ptr, blob.len}};
    struct sync_group_request sync;
    kw_init(&sync_group_request_msg, &sync);
    sync.group_id = req.group_id;
    sync.generation_id = c->generation;
    sync.member_id = give.member_id;
    sync.assignments = &give;
    sync.n_assignments = 1;
    done = ask(c, API_SYNC_GROUP, 3, &sync, synced, NULL);
    buf_free(&blob);
    return done;
}

static void left(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(leave_group_response)
    answer(c, r->error_code);
}

bool cuts_leave(struct cuts *c)
{
    struct leave_group_request req;
    kw_init(&leave_group_request_msg, &req);
    req.group_id = str_from(cuts_groups[0]);
    req.member_id = str_from(c->member_id);
    bool done = ask(c, API_LEAVE_GROUP, 1, &req, left, NULL);
    c->member_id[0] = '\0';
    c->generation = -1;
    return done;
}

static void beaten(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(heartbeat_response)
    answer(c, r->error_code);
}

bool cuts_heartbeat(struct cuts *c)
{
    struct heartbeat_request req;
    kw_init(&heartbeat_request_msg, &req);
    req.group_id = str_from(cuts_groups[0]);
    req.generation_id = c->generation;
    req.member_id = str_from(c->member_id);
    return ask(c, API_HEARTBEAT, 3, &req, beaten, NULL);
}

static void commit_answered(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(offset_commit_response)
    answer(c, r->topics[0].partitions[0].error_code);
}

bool cuts_commit(struct cuts *c, int group, int32_t p, int64_t offset)
{
    struct offset_commit_request_partition part;
    offset_commit_request_partition_init(&part);
    part.partition_index = p;
    part.committed_offset = offset;
    struct offset_commit_request_topic topic = {
        .name = str_from(c->topics[0].name), .partitions = &part, .n_partitions = 1};
    struct offset_commit_request req;
    kw_init(&offset_commit_request_msg, &req);
    req.group_id = str_from(cuts_groups[group]);
    req.generation_id_or_member_epoch = group == 0 ? c->generation : -1;
    req.member_id = group == 0 ? str_from(c->member_id) : STR_EMPTY;
    req.topics = &topic;
    req.n_topics = 1;
    c->asked[group][p] = offset;
    bool done = ask(c, API_OFFSET_COMMIT, 7, &req, commit_answered, NULL);
    if (done)
        c->committed[group][p] = offset;
    return done;
}

// ---- what the checks ask

static void counted(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(metadata_response)
    int16_t error = r->topics[0].error_code;
    *(int32_t *)c->into = error == KERR_NONE ? r->topics[0].n_partitions : 0;
    answer(c, error == KERR_UNKNOWN_TOPIC_OR_PARTITION ? KERR_NONE : error);
}

bool cuts_count(struct cuts *c, const char *topic, int32_t *ret_partitions)
{
    struct metadata_request_topic t;
    metadata_request_topic_init(&t);
    t.name = str_from(topic);
    struct metadata_request req;
    kw_init(&metadata_request_msg, &req);
    req.topics = &t;
    req.n_topics = 1;
    req.allow_auto_topic_creation = false;
    return ask(c, API_METADATA, 4, &req, counted, ret_partitions);
}

static void looked_up(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(list_offsets_response)
    *(int64_t *)c->into = r->topics[0].partitions[0].offset;
    answer(c, r->topics[0].partitions[0].error_code);
}

bool cuts_bounds(struct cuts *c, struct cuts_topic *t, int32_t p, int64_t *ret_start,
                 int64_t *ret_end)
{
    struct list_offsets_request_partition part;
    list_offsets_request_partition_init(&part);
    part.partition_index = p;
    struct list_offsets_request_topic topic = {
        .name = str_from(t->name), .partitions = &part, .n_partitions = 1};
    struct list_offsets_request req;
    kw_init(&list_offsets_request_msg, &req);
    req.replica_id = -1;
    req.topics = &topic;
    req.n_topics = 1;
    part.timestamp = -2;
    bool done = ask(c, API_LIST_OFFSETS, 2, &req, looked_up, ret_start);
    part.timestamp = -1;
    return done && ask(c, API_LIST_OFFSETS, 2, &req, looked_up, ret_end);
}

static void offsets_fetched(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(offset_fetch_response)
    *(int64_t *)c->into = r->topics[0].partitions[0].committed_offset;
    answer(c, r->error_code);
}

bool cuts_committed(struct cuts *c, int group, int32_t p, int64_t *ret_offset)
{
    struct offset_fetch_request_topic topic = {
        .name = str_from(c->topics[0].name), .partition_indexes = &p, .n_partition_indexes = 1};
    struct offset_fetch_request req;
    kw_init(&offset_fetch_request_msg, &req);
    req.group_id = str_from(cuts_groups[group]);
    req.topics = &topic;
    req.n_topics = 1;
    return ask(c, API_OFFSET_FETCH, 5, &req, offsets_fetched, ret_offset);
}

static void described(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(describe_configs_response)
    if (r->results[0].error_code == KERR_NONE)
        snprintf(c->into, 32, "%.*s", STR_FMT(r->results[0].configs[0].value));
    answer(c, r->results[0].error_code);
}

bool cuts_config(struct cuts *c, struct cuts_topic *t, char ret_value[32])
{
    struct str key = STR("retention.bytes");
    struct describe_configs_request_resource resource = {.resource_type = 2,
                                                         .resource_name = str_from(t->name),
                                                         .configuration_keys = &key,
                                                         .n_configuration_keys = 1};
    struct describe_configs_request req;
    kw_init(&describe_configs_request_msg, &req);
    req.resources = &resource;
    req.n_resources = 1;
    return ask(c, API_DESCRIBE_CONFIGS, 1, &req, described, ret_value);
}

static void take_batch(struct cuts *c, struct cuts_read *read, const struct batch *b)
{
    struct buf scratch = {0};
    struct record_iter it;
    struct record rec;
    if (!batch_crc_matches(b) || record_iter_start(&it, b, &scratch) != 0) {
        sim_fail(&c->sim, "%s-%d %lld: a damaged batch", read->topic->name, read->partition,
                 (long long)b->base_offset);
        return;
    }
    while (record_next(&it, &rec) > 0) {
        uint64_t id;
        CHECK(rec.value.len >= sizeof id);
        memcpy(&id, rec.value.ptr, sizeof id);
        if (rec.offset < read->next) // the batch of the first one holds some before it
            continue;
        read->next = rec.offset + 1;
        cuts_note(c, read->topic, read->partition, &read->found, rec.offset, id);
    }
    // Of a compacted batch the last records may be gone, or all.
    if (batch_last_offset(b) + 1 > read->next)
        read->next = batch_last_offset(b) + 1;
    buf_free(&scratch);
}

static void fetched(struct actor *a, uint64_t arg, const void *response)
{
    TAKES(fetch_response)
    const struct fetch_response_partition *part = &r->responses[0].partitions[0];
    struct bytes rest = {part->records.ptr, part->records.len > 0 ? (size_t)part->records.len : 0};
    struct batch b;
    c->number = 0;
    while (batch_next(&rest, &b) > 0) {
        take_batch(c, c->into, &b);
        c->number++;
    }
    answer(c, part->error_code);
}

bool cuts_read(struct cuts *c, struct cuts_read *r)
{
    do {
        struct fetch_request_partition part;
        fetch_request_partition_init(&part);
        part.partition = r->partition;
        part.fetch_offset = r->next;
        part.partition_max_bytes = 1 << 20;
        struct fetch_request_topic topic = {
            .topic = str_from(r->topic->name), .partitions = &part, .n_partitions = 1};
        struct fetch_request req;
        kw_init(&fetch_request_msg, &req);
        req.max_wait_ms = 0;
        req.min_bytes = 1;
        req.max_bytes = 1 << 20;
        req.topics = &topic;
        req.n_topics = 1;
        if (!ask(c, API_FETCH, 11, &req, fetched, r))
            return false;
    } while (c->number > 0);
    return true;
}
