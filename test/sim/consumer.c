// A model consumer: joins, syncs, looks up its positions, fetches ahead, works on records one by
// one, and commits in one of three ways. Modelled on librdkafka (two connections) and sarama (one).

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schema.h"
#include "truth.h"
#include "wire/batch.h"
#include "wire/consumer_protocol.h"
#include "world.h"

#define RETRY_MS 200

enum consumer_state {
    C_DOWN,
    C_JOINING,
    C_RUNNING,
    C_LEAVING,
};

struct owned {
    bool is_owned;
    bool has_position;
    int64_t position;  // next offset to fetch
    int64_t stored;    // what auto commit or the next manual commit would write; -1 none
    int64_t committed; // asked for last; -1 none
    uint32_t spell;
};

struct held_record {
    int32_t partition;
    int64_t offset;
};

struct consumer {
    struct actor actor; // lives as long as one process; renewed at each start
    struct sim *sim;
    struct consumer_plan plan;
    struct truth_group *truth;
    enum consumer_state state;
    struct link *group_link;
    struct link *data_link;
    char name[24];
    char member_id[128];
    int32_t generation;
    uint32_t epoch; // of the assignment: what belongs to an older one is dropped
    bool must_rejoin;
    bool is_fetching;
    bool is_working;
    bool is_committing;
    struct owned parts[TRUTH_PARTITIONS];
    struct held_record *queue;
    size_t head, count;  // of the queue, a ring of plan.prefetch * 4
    uint32_t batch_left; // records of the present poll
    uint32_t n_lookups;
    uint64_t commit_ids[TRUTH_PARTITIONS]; // of the commit under way
};

// What a Fetch asked for and in which spells, kept until the broker has answered it.
struct asked {
    struct truth_group *group;
    int64_t position[TRUTH_PARTITIONS];
    uint32_t spell[TRUTH_PARTITIONS];
};

static void join(struct consumer *c);
static void pump(struct consumer *c);
static void maybe_rejoin(struct consumer *c);

static struct consumer *of(struct actor *a)
{
    return LIST_ITEM(a, struct consumer, actor);
}

// ---- life

struct consumer *consumer_new(struct sim *s, const struct consumer_plan *plan, const char *name)
{
    struct consumer *c = calloc(1, sizeof *c);
    CHECK(c);
    c->sim = s;
    c->plan = *plan;
    c->truth = truth_group(s->truth, plan->group);
    snprintf(c->name, sizeof c->name, "%s", name);
    c->queue = calloc(plan->prefetch * 4, sizeof *c->queue);
    CHECK(c->queue);
    return c;
}

bool consumer_is_up(const struct consumer *c)
{
    return c->state != C_DOWN;
}

bool consumer_is_paused(const struct consumer *c)
{
    return c->state != C_DOWN && c->actor.is_paused;
}

bool consumer_is_idle(const struct consumer *c)
{
    return c->state == C_DOWN ||
           (c->state == C_RUNNING && !c->must_rejoin && c->count == 0 && !c->is_working);
}

void consumer_compare(struct consumer *a, struct consumer *b)
{
    if (a->truth != b->truth && strcmp(a->plan.client_id, b->plan.client_id) == 0)
        a->truth->is_distinct = b->truth->is_distinct = false;
}

void consumer_kill(struct consumer *c)
{
    if (c->state == C_DOWN)
        return;
    sim_trace(c->sim, "%s killed", c->name);
    c->state = C_DOWN;
    link_close(c->group_link);
    if (c->data_link != c->group_link)
        link_close(c->data_link);
    c->group_link = c->data_link = NULL;
    actor_end(&c->actor);
}

void consumer_free(struct consumer *c)
{
    consumer_kill(c);
    free(c->queue);
    free(c);
}

static void open_links(struct consumer *c)
{
    link_close(c->group_link);
    if (c->data_link != c->group_link)
        link_close(c->data_link);
    c->group_link = link_open(&c->actor, c->plan.client_id);
    c->data_link = c->plan.one_connection ? c->group_link : link_open(&c->actor, c->plan.client_id);
    c->is_fetching = false;
    c->is_committing = false;
}

static void retry_join(struct actor *a, uint64_t epoch, struct bytes none)
{
    (void)none;
    struct consumer *c = of(a);
    if (epoch == c->epoch && c->state == C_JOINING)
        join(c);
}

static void join_later(struct consumer *c)
{
    c->state = C_JOINING;
    c->epoch++;
    sim_after(&c->actor, RETRY_MS, retry_join, c->epoch, (struct bytes){0});
}

static void auto_commit_tick(struct actor *a, uint64_t arg, struct bytes none);
static void heartbeat_tick(struct actor *a, uint64_t arg, struct bytes none);

void consumer_start(struct consumer *c)
{
    if (c->state != C_DOWN)
        return;
    actor_init(&c->actor, c->sim, c->name);
    sim_trace(c->sim, "%s starts, of %s, as %s", c->name, c->plan.group, c->plan.client_id);
    c->member_id[0] = '\0';
    c->generation = -1;
    c->head = c->count = 0;
    c->is_working = c->must_rejoin = false;
    memset(c->parts, 0, sizeof c->parts);
    c->state = C_JOINING;
    open_links(c);
    sim_after(&c->actor, c->plan.heartbeat_ms, heartbeat_tick, 0, (struct bytes){0});
    if (c->plan.mode == CONSUMER_AUTO_COMMIT)
        sim_after(&c->actor, c->plan.auto_commit_ms, auto_commit_tick, 0, (struct bytes){0});
    join(c);
}

void consumer_pause(struct consumer *c)
{
    sim_trace(c->sim, "%s stopped (SIGSTOP)", c->name);
    actor_pause(&c->actor);
}

void consumer_resume(struct consumer *c)
{
    if (c->state == C_DOWN || !c->actor.is_paused)
        return;
    sim_trace(c->sim, "%s goes on (SIGCONT)", c->name);
    actor_resume(&c->actor);
}

// A connection ended: as clients do, open new ones and join again with what we have.
static void reconnect(struct consumer *c)
{
    if (c->state == C_DOWN || c->state == C_LEAVING)
        return;
    open_links(c);
    c->must_rejoin = true;
    maybe_rejoin(c);
}

// ---- commits

typedef void after_commit_fn(struct consumer *c);

static void commit_answered(struct actor *a, uint64_t arg, const void *response)
{
    struct consumer *c = of(a);
    const struct offset_commit_response *r = response;
    after_commit_fn *after = (after_commit_fn *)(uintptr_t)arg;
    c->is_committing = false;
    for (int32_t i = 0; r && i < r->n_topics; i++)
        for (int32_t j = 0; j < r->topics[i].n_partitions; j++) {
            int32_t p = r->topics[i].partitions[j].partition_index;
            int16_t error = r->topics[i].partitions[j].error_code;
            truth_commit_answered(c->sim, c->truth, p, c->commit_ids[p], error == KERR_NONE);
            if (error != KERR_NONE) {
                sim_trace(c->sim, "%s commit of %d refused: %s", c->name, p, kerr_name(error));
                if (error == KERR_UNKNOWN_MEMBER_ID || error == KERR_ILLEGAL_GENERATION)
                    c->must_rejoin = true;
            }
        }
    if (!r && !link_is_open(c->group_link))
        reconnect(c);
    else if (after)
        after(c);
}

// Commits every stored position that is news. False when there is none.
static bool commit(struct consumer *c, after_commit_fn *after)
{
    struct offset_commit_request_partition parts[TRUTH_PARTITIONS];
    int32_t n = 0;
    for (int32_t p = 0; p < TRUTH_PARTITIONS; p++) {
        struct owned *o = &c->parts[p];
        if (!o->is_owned || o->stored < 0 || o->stored == o->committed)
            continue;
        offset_commit_request_partition_init(&parts[n]);
        parts[n].partition_index = p;
        parts[n].committed_offset = o->stored;
        parts[n].committed_metadata = STR_EMPTY;
        n++;
        o->committed = o->stored;
        c->commit_ids[p] = truth_commit_asked(c->sim, c->truth, p, o->stored);
        sim_trace(c->sim, "%s commits %d@%lld", c->name, p, (long long)o->stored);
    }
    if (n == 0)
        return false;
    struct offset_commit_request_topic topic = {
        .name = STR("t"), .partitions = parts, .n_partitions = n};
    struct offset_commit_request req;
    kw_init(&offset_commit_request_msg, &req);
    req.group_id = str_from(c->plan.group);
    req.generation_id_or_member_epoch = c->generation;
    req.member_id = str_from(c->member_id);
    req.topics = &topic;
    req.n_topics = 1;
    c->is_committing = true;
    link_request(c->group_link, API_OFFSET_COMMIT, 7, &req, commit_answered,
                 (uint64_t)(uintptr_t)after);
    return true;
}

static void auto_commit_tick(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct consumer *c = of(a);
    if (c->state == C_RUNNING && !c->is_committing)
        commit(c, NULL);
    sim_after(a, c->plan.auto_commit_ms, auto_commit_tick, 0, (struct bytes){0});
}

// ---- membership

static void heartbeat_answered(struct actor *a, uint64_t epoch, const void *response)
{
    struct consumer *c = of(a);
    const struct heartbeat_response *r = response;
    if (epoch != c->epoch || c->state != C_RUNNING)
        return;
    if (!r) {
        reconnect(c);
        return;
    }
    if (r->error_code == KERR_NONE)
        return;
    sim_trace(c->sim, "%s heartbeat: %s", c->name, kerr_name(r->error_code));
    if (r->error_code == KERR_UNKNOWN_MEMBER_ID)
        c->member_id[0] = '\0';
    if (r->error_code != KERR_REBALANCE_IN_PROGRESS) { // lost: nothing may be committed any more
        memset(c->parts, 0, sizeof c->parts);
        c->generation = -1;
    }
    c->must_rejoin = true;
    maybe_rejoin(c);
}

static void heartbeat_tick(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct consumer *c = of(a);
    sim_after(a, c->plan.heartbeat_ms, heartbeat_tick, 0, (struct bytes){0});
    if (c->state != C_RUNNING || c->must_rejoin)
        return;
    struct heartbeat_request req;
    kw_init(&heartbeat_request_msg, &req);
    req.group_id = str_from(c->plan.group);
    req.generation_id = c->generation;
    req.member_id = str_from(c->member_id);
    link_request(c->group_link, API_HEARTBEAT, 3, &req, heartbeat_answered, c->epoch);
}

static void rejoin_now(struct consumer *c)
{
    memset(c->parts, 0, sizeof c->parts);
    c->head = c->count = 0;
    c->must_rejoin = false;
    join(c);
}

// Rejoins when the record in hand is done and the last commit is through, as an eager consumer
// does inside its rebalance callback.
static void maybe_rejoin(struct consumer *c)
{
    if (!c->must_rejoin || c->is_working || c->is_committing || c->state == C_DOWN)
        return;
    c->state = C_JOINING;
    c->epoch++;
    c->head = c->count = 0;
    if (c->plan.commits_on_revoke && c->generation >= 0 && commit(c, rejoin_now))
        return;
    rejoin_now(c);
}

static void left(struct actor *a, uint64_t arg, const void *response)
{
    (void)arg;
    (void)response;
    consumer_kill(of(a));
}

static void leave_now(struct consumer *c)
{
    struct leave_group_request req;
    kw_init(&leave_group_request_msg, &req);
    req.group_id = str_from(c->plan.group);
    req.member_id = str_from(c->member_id);
    link_request(c->group_link, API_LEAVE_GROUP, 1, &req, left, 0);
}

void consumer_leave(struct consumer *c)
{
    if (c->state != C_RUNNING || c->is_working || c->is_committing || c->actor.is_paused ||
        c->must_rejoin) {
        consumer_kill(c); // caught at a bad moment: as if SIGKILL had followed
        return;
    }
    sim_trace(c->sim, "%s leaves", c->name);
    c->state = C_LEAVING;
    c->head = c->count = 0;
    if (!commit(c, leave_now))
        leave_now(c);
}

// ---- records

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
    size_t cap = c->plan.prefetch * 4;
    CHECK(c->count < cap);
    c->queue[(c->head + c->count++) % cap] = (struct held_record){p, offset};
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
        while (record_next(&it, &rec) > 0) {
            uint64_t id = 0;
            if (rec.value.len == sizeof id)
                memcpy(&id, rec.value.ptr, sizeof id);
            if (rec.offset >= c->parts[p].position && c->count < c->plan.prefetch * 4)
                hold(c, p, rec.offset, (uint32_t)id);
        }
    }
    buf_free(&scratch);
}

static void look_up(struct consumer *c, int32_t p, bool is_latest);

static void fetched(struct actor *a, uint64_t epoch, const void *response)
{
    struct consumer *c = of(a);
    const struct fetch_response *r = response;
    if (epoch != c->epoch)
        return;
    c->is_fetching = false;
    if (!r) {
        reconnect(c);
        return;
    }
    for (int32_t i = 0; i < r->n_responses; i++)
        for (int32_t j = 0; j < r->responses[i].n_partitions; j++) {
            const struct fetch_response_partition *part = &r->responses[i].partitions[j];
            struct owned *o = &c->parts[part->partition_index];
            if (!o->is_owned)
                continue;
            if (part->error_code == KERR_OFFSET_OUT_OF_RANGE) {
                sim_trace(c->sim, "%s out of range %d@%lld", c->name, part->partition_index,
                          (long long)o->position);
                o->has_position = false;
                look_up(c, part->partition_index, c->plan.reads_latest);
            } else if (part->error_code == KERR_NONE) {
                take_records(c, part);
            }
        }
    pump(c);
}

static void fetch(struct consumer *c)
{
    struct fetch_request_partition parts[TRUTH_PARTITIONS];
    struct asked asked = {.group = c->truth};
    int32_t n = 0;
    for (int32_t p = 0; p < TRUTH_PARTITIONS; p++) {
        if (!c->parts[p].is_owned || !c->parts[p].has_position)
            continue;
        fetch_request_partition_init(&parts[n]);
        parts[n].partition = p;
        parts[n].fetch_offset = c->parts[p].position;
        asked.position[p] = c->parts[p].position;
        asked.spell[p] = c->parts[p].spell;
        parts[n].partition_max_bytes = 4096;
        n++;
    }
    if (n == 0)
        return;
    struct fetch_request_topic topic = {.topic = STR("t"), .partitions = parts, .n_partitions = n};
    struct fetch_request req;
    kw_init(&fetch_request_msg, &req);
    req.max_wait_ms = 500;
    req.min_bytes = 1;
    req.max_bytes = 65536;
    req.topics = &topic;
    req.n_topics = 1;
    c->is_fetching = true;
    link_request(c->data_link, API_FETCH, 11, &req, fetched, c->epoch);
    link_watch(c->data_link, fetch_sent, &asked, sizeof asked);
}

static void worked(struct actor *a, uint64_t arg, struct bytes payload)
{
    (void)arg;
    struct consumer *c = of(a);
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
        maybe_rejoin(c);
    else
        pump(c);
}

static void work(struct consumer *c)
{
    struct held_record r = c->queue[c->head];
    c->head = (c->head + 1) % (c->plan.prefetch * 4);
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
    if (c->plan.mode == CONSUMER_MANUAL_COMMIT && commit(c, pump))
        return false;
    c->batch_left = c->count < c->plan.poll_records ? (uint32_t)c->count : c->plan.poll_records;
    if (c->plan.mode == CONSUMER_COMMIT_FIRST && c->batch_left > 0) {
        for (uint32_t i = 0; i < c->batch_left; i++) {
            struct held_record *r = &c->queue[(c->head + i) % (c->plan.prefetch * 4)];
            c->parts[r->partition].stored = r->offset + 1;
        }
        if (commit(c, pump))
            return false;
    }
    return true;
}

// Does whatever can be done next: fetch ahead, begin a poll, work on a record.
static void pump(struct consumer *c)
{
    if (c->must_rejoin)
        maybe_rejoin(c);
    if (c->state != C_RUNNING)
        return;
    if (!c->is_fetching && c->count < c->plan.prefetch && c->n_lookups == 0 &&
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

// ---- positions

static void looked_up(struct actor *a, uint64_t arg, const void *response)
{
    struct consumer *c = of(a);
    const struct list_offsets_response *r = response;
    if ((uint32_t)(arg >> 8) != c->epoch)
        return;
    int32_t p = (int32_t)(arg & 0xff);
    c->n_lookups--;
    if (!r) {
        reconnect(c);
        return;
    }
    const struct list_offsets_response_partition *part = &r->topics[0].partitions[0];
    if (part->error_code != KERR_NONE) {
        c->must_rejoin = true;
    } else {
        c->parts[p].position = part->offset;
        c->parts[p].has_position = true;
    }
    pump(c);
}

static void look_up(struct consumer *c, int32_t p, bool is_latest)
{
    struct list_offsets_request_partition part;
    list_offsets_request_partition_init(&part);
    part.partition_index = p;
    part.timestamp = is_latest ? -1 : -2;
    struct list_offsets_request_topic topic = {
        .name = STR("t"), .partitions = &part, .n_partitions = 1};
    struct list_offsets_request req;
    kw_init(&list_offsets_request_msg, &req);
    req.replica_id = -1;
    req.topics = &topic;
    req.n_topics = 1;
    c->n_lookups++;
    link_request(c->data_link, API_LIST_OFFSETS, 2, &req, looked_up,
                 (uint64_t)c->epoch << 8 | (uint64_t)p);
}

static void offsets_fetched(struct actor *a, uint64_t epoch, const void *response)
{
    struct consumer *c = of(a);
    const struct offset_fetch_response *r = response;
    if (epoch != c->epoch)
        return;
    if (!r) {
        reconnect(c);
        return;
    }
    if (r->error_code != KERR_NONE || r->n_topics != 1) {
        join_later(c);
        return;
    }
    for (int32_t i = 0; i < r->topics[0].n_partitions; i++) {
        const struct offset_fetch_response_partition *part = &r->topics[0].partitions[i];
        struct owned *o = &c->parts[part->partition_index];
        if (part->committed_offset >= 0) {
            o->position = part->committed_offset;
            o->committed = part->committed_offset;
            o->has_position = true;
        } else {
            look_up(c, part->partition_index, c->plan.reads_latest);
        }
    }
    pump(c);
}

static void begin_spells(struct consumer *c, struct bytes assignment)
{
    struct arena *a = arena_new();
    struct consumer_protocol_assignment as;
    int16_t version;
    memset(c->parts, 0, sizeof c->parts);
    if (consumer_assignment_read(assignment, a, &as, &version) == 0)
        for (int32_t i = 0; i < as.n_assigned_partitions; i++)
            for (int32_t j = 0; j < as.assigned_partitions[i].n_partitions; j++) {
                int32_t p = as.assigned_partitions[i].partitions[j];
                c->parts[p] = (struct owned){.is_owned = true,
                                             .stored = -1,
                                             .committed = -1,
                                             .spell = ++c->sim->truth->next_spell};
                sim_trace(c->sim, "%s owns %d in generation %d", c->name, p, c->generation);
            }
    arena_free(a);
}

static void synced(struct actor *a, uint64_t epoch, const void *response)
{
    struct consumer *c = of(a);
    const struct sync_group_response *r = response;
    if (epoch != c->epoch)
        return;
    if (!r) {
        reconnect(c);
        return;
    }
    if (r->error_code != KERR_NONE) {
        if (r->error_code == KERR_UNKNOWN_MEMBER_ID)
            c->member_id[0] = '\0';
        join_later(c);
        return;
    }
    begin_spells(c, r->assignment);
    c->state = C_RUNNING;
    c->epoch++;
    c->n_lookups = 0;
    c->is_fetching = false;
    c->batch_left = 0;
    int32_t indexes[TRUTH_PARTITIONS];
    int32_t n = 0;
    for (int32_t p = 0; p < TRUTH_PARTITIONS; p++)
        if (c->parts[p].is_owned)
            indexes[n++] = p;
    if (n == 0)
        return;
    struct offset_fetch_request_topic topic = {
        .name = STR("t"), .partition_indexes = indexes, .n_partition_indexes = n};
    struct offset_fetch_request req;
    kw_init(&offset_fetch_request_msg, &req);
    req.group_id = str_from(c->plan.group);
    req.topics = &topic;
    req.n_topics = 1;
    link_request(c->group_link, API_OFFSET_FETCH, 5, &req, offsets_fetched, c->epoch);
}

// The leader deals the partitions out in turn, in order of member id.
static void assign(struct consumer *c, const struct join_group_response *r, struct arena *a,
                   struct sync_group_request *req)
{
    int32_t n = r->n_members;
    req->assignments = arena_array(a, (size_t)n, sizeof *req->assignments);
    req->n_assignments = n;
    for (int32_t i = 0; i < n; i++) {
        int32_t *mine = arena_array(a, TRUTH_PARTITIONS, sizeof *mine);
        struct consumer_protocol_assignment_topic_partition tp = {.topic = STR("t"),
                                                                  .partitions = mine};
        for (int32_t p = 0; p < c->sim->truth->n_partitions; p++)
            if (p % n == i)
                mine[tp.n_partitions++] = p;
        struct consumer_protocol_assignment as = {.assigned_partitions = &tp,
                                                  .n_assigned_partitions = tp.n_partitions > 0};
        struct buf b = {0};
        consumer_assignment_write(1, &as, &b);
        req->assignments[i].member_id = r->members[i].member_id;
        req->assignments[i].assignment = arena_bytes(a, (struct bytes){b.ptr, b.len});
        buf_free(&b);
    }
}

static void joined(struct actor *a, uint64_t epoch, const void *response)
{
    struct consumer *c = of(a);
    const struct join_group_response *r = response;
    if (epoch != c->epoch)
        return;
    if (!r) {
        reconnect(c);
        return;
    }
    if (r->error_code == KERR_MEMBER_ID_REQUIRED || r->error_code == KERR_NONE)
        snprintf(c->member_id, sizeof c->member_id, "%.*s", STR_FMT(r->member_id));
    if (r->error_code == KERR_MEMBER_ID_REQUIRED) {
        join(c);
        return;
    }
    if (r->error_code != KERR_NONE) {
        sim_trace(c->sim, "%s join: %s", c->name, kerr_name(r->error_code));
        if (r->error_code == KERR_UNKNOWN_MEMBER_ID)
            c->member_id[0] = '\0';
        join_later(c);
        return;
    }
    c->generation = r->generation_id;
    struct arena *scratch = arena_new();
    struct sync_group_request req;
    kw_init(&sync_group_request_msg, &req);
    req.group_id = str_from(c->plan.group);
    req.generation_id = c->generation;
    req.member_id = str_from(c->member_id);
    if (str_eq(r->leader, r->member_id))
        assign(c, r, scratch, &req);
    link_request(c->group_link, API_SYNC_GROUP, 3, &req, synced, c->epoch);
    arena_free(scratch);
}

static void join(struct consumer *c)
{
    c->state = C_JOINING;
    c->epoch++;
    if (!link_is_open(c->group_link) || !link_is_open(c->data_link))
        open_links(c);
    struct str topic = STR("t");
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
    req.group_id = str_from(c->plan.group);
    req.session_timeout_ms = (int32_t)c->plan.session_ms;
    req.rebalance_timeout_ms = 60000;
    req.member_id = str_from(c->member_id);
    req.protocol_type = STR("consumer");
    req.protocols = &protocol;
    req.n_protocols = 1;
    if (link_is_open(c->group_link))
        link_request(c->group_link, API_JOIN_GROUP, 5, &req, joined, c->epoch);
    else
        join_later(c); // the broker is down
    buf_free(&b);
}
