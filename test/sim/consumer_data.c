// A model consumer's data: where it begins, what it fetches and holds, the work on it.

#include <string.h>

#include "consumer_private.h"

void consumer_begin_part(struct consumer *c, int32_t p)
{
    c->parts[p] = (struct owned){
        .is_owned = true, .stored = -1, .committed = -1, .spell = ++c->sim->truth->next_spell};
    sim_trace(c->sim, "%s owns %d in generation %d", c->name, p, c->generation);
}

static size_t queue_cap(const struct consumer *c)
{
    return c->plan.prefetch * 4;
}

void consumer_drop_held(struct consumer *c, int32_t p)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->count; i++) {
        struct held_record r = c->queue[(c->head + i) % queue_cap(c)];
        if (r.partition != p)
            c->queue[(c->head + kept++) % queue_cap(c)] = r;
    }
    c->count = kept;
    c->batch_left = c->batch_left < kept ? c->batch_left : (uint32_t)kept;
}

// ---- positions

static void looked_up(struct actor *a, uint64_t arg, const void *response)
{
    struct consumer *c = consumer_of(a);
    const struct list_offsets_response *r = response;
    struct owned *o = &c->parts[arg & 0xff];
    if (!o->is_owned || !o->is_looking || o->spell != arg >> 8)
        return;
    o->is_looking = false;
    if (!r) {
        consumer_reconnect(c);
        return;
    }
    const struct list_offsets_response_partition *part = &r->topics[0].partitions[0];
    if (part->error_code != KERR_NONE) {
        c->must_rejoin = !c->plan.is_assigned;
    } else {
        o->position = part->offset;
        o->has_position = true;
    }
    consumer_pump(c);
}

static void look_up(struct consumer *c, int32_t p)
{
    struct list_offsets_request_partition part;
    list_offsets_request_partition_init(&part);
    part.partition_index = p;
    part.timestamp = c->plan.reads_latest ? -1 : -2;
    struct list_offsets_request_topic topic = {
        .name = STR("t"), .partitions = &part, .n_partitions = 1};
    struct list_offsets_request req;
    kw_init(&list_offsets_request_msg, &req);
    req.replica_id = -1;
    req.topics = &topic;
    req.n_topics = 1;
    c->parts[p].has_position = false;
    c->parts[p].is_looking = true;
    link_request(c->data_link, API_LIST_OFFSETS, 2, &req, looked_up,
                 (uint64_t)c->parts[p].spell << 8 | (uint64_t)p);
}

static void begin_at(struct consumer *c, int32_t p, int64_t committed)
{
    struct owned *o = &c->parts[p];
    if (!o->is_owned || o->has_position || o->is_looking)
        return;
    if (committed < 0) {
        look_up(c, p);
        return;
    }
    o->position = o->committed = committed;
    o->has_position = true;
}

static void find_later(struct actor *a, uint64_t data_epoch, struct bytes none)
{
    (void)none;
    struct consumer *c = consumer_of(a);
    if (data_epoch == c->data_epoch)
        consumer_find_positions(c);
}

static void offsets_fetched(struct actor *a, uint64_t data_epoch, const void *response)
{
    struct consumer *c = consumer_of(a);
    const struct offset_fetch_response *r = response;
    if (data_epoch != c->data_epoch)
        return;
    if (!r) {
        consumer_reconnect(c);
        return;
    }
    bool is_new = c->plan.uses_topic_ids;
    int16_t error = is_new ? r->groups[0].error_code : r->error_code;
    if (error != KERR_NONE || (is_new ? r->groups[0].n_topics : r->n_topics) != 1) {
        sim_after(a, RETRY_MS, find_later, data_epoch, (struct bytes){0});
        return;
    }
    for (int32_t i = 0; !is_new && i < r->topics[0].n_partitions; i++)
        begin_at(c, r->topics[0].partitions[i].partition_index,
                 r->topics[0].partitions[i].committed_offset);
    for (int32_t i = 0; is_new && i < r->groups[0].topics[0].n_partitions; i++)
        begin_at(c, r->groups[0].topics[0].partitions[i].partition_index,
                 r->groups[0].topics[0].partitions[i].committed_offset);
    consumer_pump(c);
}

static void ask_offsets(struct consumer *c, int32_t *indexes, int32_t n)
{
    struct offset_fetch_request req;
    kw_init(&offset_fetch_request_msg, &req);
    struct offset_fetch_request_topic topic = {
        .name = STR("t"), .partition_indexes = indexes, .n_partition_indexes = n};
    struct offset_fetch_request_group_topic group_topic = {.name = STR("t"),
                                                           .topic_id = c->sim->truth->topic_id,
                                                           .partition_indexes = indexes,
                                                           .n_partition_indexes = n};
    struct offset_fetch_request_group group;
    offset_fetch_request_group_init(&group);
    group.group_id = str_from(c->plan.group);
    group.topics = &group_topic;
    group.n_topics = 1;
    req.group_id = str_from(c->plan.group);
    req.topics = &topic;
    req.n_topics = 1;
    req.groups = &group;
    req.n_groups = 1;
    link_request(c->group_link, API_OFFSET_FETCH, c->plan.uses_topic_ids ? 10 : 5, &req,
                 offsets_fetched, c->data_epoch);
}

void consumer_find_positions(struct consumer *c)
{
    int32_t indexes[TRUTH_PARTITIONS];
    int32_t n = 0;
    for (int32_t p = 0; p < TRUTH_PARTITIONS; p++)
        if (c->parts[p].is_owned && !c->parts[p].has_position && !c->parts[p].is_looking)
            indexes[n++] = p;
    if (n > 0)
        ask_offsets(c, indexes, n);
}

// ---- fetch

// Batches are sent whole; a client drops what lies before its position.
static void fetch_sent(void *context, const void *response)
{
    const struct asked *asked = context;
    const struct fetch_response *r = response;
    for (int32_t i = 0; i < r->n_responses; i++)
        for (int32_t j = 0; j < r->responses[i].n_partitions; j++) {
            const struct fetch_response_partition *part = &r->responses[i].partitions[j];
            int32_t p = part->partition_index;
            struct bytes rest = {part->records.ptr,
                                 part->records.len > 0 ? (size_t)part->records.len : 0};
            struct batch b;
            while (batch_next(&rest, &b) > 0)
                for (int64_t o = b.base_offset; o <= batch_last_offset(&b); o++)
                    if (o >= asked->position[p])
                        truth_sent(asked->group, p, o, asked->spell[p]);
        }
}

static void hold(struct consumer *c, int32_t p, int64_t offset, uint32_t record)
{
    truth_record(c->sim, p, offset, record);
    truth_received(c->truth, p, offset);
    CHECK(c->count < queue_cap(c));
    c->queue[(c->head + c->count++) % queue_cap(c)] = (struct held_record){p, offset};
    c->parts[p].position = offset + 1;
}

static void take_records(struct consumer *c, const struct fetch_response_partition *part)
{
    int32_t p = part->partition_index;
    struct bytes rest = {part->records.ptr, part->records.len > 0 ? (size_t)part->records.len : 0};
    struct batch b;
    struct buf scratch = {0};
    while (batch_next(&rest, &b) > 0) {
        struct record_iter it;
        struct record rec;
        if (record_iter_start(&it, &b, &scratch) != 0) {
            sim_fail(c->sim, "%s was sent a damaged batch", c->name);
            break;
        }
        bool has_room = true;
        while (record_next(&it, &rec) > 0) {
            uint64_t id = 0;
            if (rec.value.len == sizeof id)
                memcpy(&id, rec.value.ptr, sizeof id);
            has_room = c->count < queue_cap(c);
            if (rec.offset >= c->parts[p].position && has_room)
                hold(c, p, rec.offset, (uint32_t)id);
        }
        // A compacted batch may end with offsets without a record.
        if (has_room && batch_last_offset(&b) >= c->parts[p].position)
            c->parts[p].position = batch_last_offset(&b) + 1;
    }
    buf_free(&scratch);
}

static void take_part(struct consumer *c, const struct fetch_response_partition *part)
{
    int32_t p = part->partition_index;
    struct owned *o = &c->parts[p];
    // Given up, or given anew, while the answer was on its way.
    if (!o->is_owned || !o->has_position || o->spell != c->asked.spell[p])
        return;
    if (part->error_code == KERR_OFFSET_OUT_OF_RANGE) {
        sim_trace(c->sim, "%s out of range %d@%lld", c->name, p, (long long)o->position);
        look_up(c, p);
    } else if (part->error_code == KERR_NONE) {
        take_records(c, part);
    }
}

static void fetched(struct actor *a, uint64_t data_epoch, const void *response)
{
    struct consumer *c = consumer_of(a);
    const struct fetch_response *r = response;
    if (data_epoch != c->data_epoch)
        return;
    c->is_fetching = false;
    if (!r) {
        consumer_reconnect(c);
        return;
    }
    for (int32_t i = 0; i < r->n_responses; i++)
        for (int32_t j = 0; j < r->responses[i].n_partitions; j++)
            take_part(c, &r->responses[i].partitions[j]);
    consumer_pump(c);
}

static void fetch(struct consumer *c)
{
    struct fetch_request_partition parts[TRUTH_PARTITIONS];
    c->asked = (struct asked){.group = c->truth};
    int32_t n = 0;
    for (int32_t p = 0; p < TRUTH_PARTITIONS; p++) {
        if (!c->parts[p].is_owned || !c->parts[p].has_position)
            continue;
        fetch_request_partition_init(&parts[n]);
        parts[n].partition = p;
        parts[n].fetch_offset = c->parts[p].position;
        c->asked.position[p] = c->parts[p].position;
        c->asked.spell[p] = c->parts[p].spell;
        parts[n].partition_max_bytes = 4096;
        n++;
    }
    if (n == 0)
        return;
    struct fetch_request_topic topic = {.topic = STR("t"),
                                        .topic_id = c->sim->truth->topic_id,
                                        .partitions = parts,
                                        .n_partitions = n};
    struct fetch_request req;
    kw_init(&fetch_request_msg, &req);
    req.max_wait_ms = 500;
    req.min_bytes = 1;
    req.max_bytes = 65536;
    req.topics = &topic;
    req.n_topics = 1;
    c->is_fetching = true;
    link_request(c->data_link, API_FETCH, c->plan.uses_topic_ids ? 16 : 11, &req, fetched,
                 c->data_epoch);
    link_watch(c->data_link, fetch_sent, &c->asked, sizeof c->asked);
}

// ---- work

static void worked(struct actor *a, uint64_t arg, struct bytes payload)
{
    (void)arg;
    struct consumer *c = consumer_of(a);
    struct held_record r;
    uint32_t spell;
    memcpy(&r, payload.ptr, sizeof r);
    memcpy(&spell, payload.ptr + sizeof r, sizeof spell);
    c->is_working = false;
    truth_processed(c->sim, c->truth, r.partition, r.offset, spell);
    struct owned *o = &c->parts[r.partition];
    if (c->plan.mode == CONSUMER_MANUAL_COMMIT && o->is_owned && o->spell == spell)
        o->stored = r.offset + 1;
    if (c->must_rejoin)
        consumer_maybe_rejoin(c);
    else
        consumer_pump(c);
}

static void work(struct consumer *c)
{
    struct held_record r = c->queue[c->head];
    c->head = (c->head + 1) % queue_cap(c);
    c->count--;
    c->batch_left--;
    struct owned *o = &c->parts[r.partition];
    // librdkafka stores the offset as it hands the record out, before the work.
    if (c->plan.mode == CONSUMER_AUTO_COMMIT)
        o->stored = r.offset + 1;
    c->is_working = true;
    struct buf b = {0};
    buf_add(&b, &r, sizeof r);
    buf_add(&b, &o->spell, sizeof o->spell);
    uint64_t takes = c->plan.work_ms ? prng_below(&c->sim->prng, c->plan.work_ms + 1) : 0;
    sim_after(&c->actor, takes, worked, 0, (struct bytes){b.ptr, b.len});
    buf_free(&b);
}

// A new poll: the last one's records are done.
static bool begin_poll(struct consumer *c)
{
    if (c->plan.mode == CONSUMER_MANUAL_COMMIT && consumer_commit(c, consumer_pump))
        return false;
    c->batch_left = c->count < c->plan.poll_records ? (uint32_t)c->count : c->plan.poll_records;
    if (c->plan.mode == CONSUMER_COMMIT_FIRST && c->batch_left > 0) {
        for (uint32_t i = 0; i < c->batch_left; i++) {
            struct held_record *r = &c->queue[(c->head + i) % queue_cap(c)];
            c->parts[r->partition].stored = r->offset + 1;
        }
        if (consumer_commit(c, consumer_pump))
            return false;
    }
    return true;
}

static bool is_looking(const struct consumer *c)
{
    for (int32_t p = 0; p < TRUTH_PARTITIONS; p++)
        if (c->parts[p].is_looking)
            return true;
    return false;
}

void consumer_pump(struct consumer *c)
{
    if (consumer_take_assignment(c))
        return;
    if (c->must_rejoin && c->state == C_RUNNING)
        consumer_maybe_rejoin(c);
    if (!consumer_may_work(c))
        return;
    if (!c->is_fetching && c->count < c->plan.prefetch && !is_looking(c) &&
        link_is_open(c->data_link))
        fetch(c);
    if (c->is_working || c->is_committing)
        return;
    if (c->batch_left == 0 && !begin_poll(c))
        return;
    if (c->batch_left > 0 && c->count > 0)
        work(c);
    else
        c->batch_left = 0;
}
