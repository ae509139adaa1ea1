// What features add to the plain world.

#include <stdio.h>
#include <string.h>

#include "os/disk_sim.h"
#include "plan_private.h"
#include "schema.h"

#define PARTITIONS_EVERY_MS 60000
#define DELETE_EVERY_MS 20000
#define ADMIN_EVERY_MS 15000
#define STOP_EVERY_MS 30000
#define FULL_EVERY_MS 40000
#define FULL_MS 5000

static const char *const groups[] = {"g1", "g2", "g3"};

void plan_extra_consumer(struct plan *p, size_t i, struct consumer_plan *c)
{
    if (plan_with(p, PLAN_COOPERATIVE))
        c->is_cooperative = strcmp(c->group, "g1") == 0;
    if (plan_with(p, PLAN_STATIC) && plan_chance(p, 70))
        snprintf(c->instance_id, sizeof c->instance_id, "i%zu", plan_chance(p, 15) ? 0 : i);
    if (plan_with(p, PLAN_TOPIC_IDS))
        c->uses_topic_ids = plan_chance(p, 70);
    if (plan_with(p, PLAN_MORE_PARTITIONS))
        c->metadata_ms = 2000 + (uint32_t)plan_below(p, 20000);
    if (plan_with(p, PLAN_APART) && plan_chance(p, 70)) {
        c->is_apart = true;
        c->one_connection = false;
        c->session_ms = 6000;
    }
}

// ---- assign()

static void add_assigned(struct plan *p)
{
    uint32_t n = 1 + (uint32_t)plan_below(p, 2);
    for (uint32_t i = 0; i < n; i++) {
        struct consumer_plan c = {
            .group = "g3",
            .mode = (enum consumer_mode)plan_below(p, 3),
            .auto_commit_ms = 500 + (uint32_t)plan_below(p, 5000),
            .work_ms = 1 + (uint32_t)plan_below(p, 40),
            .poll_records = 1 + (uint32_t)plan_below(p, 50),
            .prefetch = 10 + (uint32_t)plan_below(p, 500),
            .reads_latest = plan_chance(p, 25),
            .one_connection = plan_chance(p, 30),
            .uses_topic_ids = plan_with(p, PLAN_TOPIC_IDS) && plan_chance(p, 70),
            .is_assigned = true,
            .assign_of = n,
            .assign_index = i,
        };
        if (plan_chance(p, 30))
            snprintf(c.client_id, sizeof c.client_id, "rdkafka");
        else
            snprintf(c.client_id, sizeof c.client_id, "a%u", i);
        plan_add_consumer(p, &c);
    }
}

// ---- an administrator's requests, each on a connection of its own

static struct link *ask(struct plan *p, int16_t api, int version, const void *request,
                        link_answer_fn *fn, uint64_t arg)
{
    link_close(p->admin);
    p->admin = link_open(&p->sim.world, "admin");
    link_request(p->admin, api, version, request, fn, arg);
    return p->admin;
}

static void partitions_added(struct actor *a, uint64_t n, const void *response)
{
    const struct create_partitions_response *r = response;
    if (!r || r->results[0].error_code != KERR_NONE || n < (uint64_t)a->sim->truth->n_partitions)
        return;
    a->sim->truth->n_partitions = (int32_t)n;
    sim_trace(a->sim, "%llu partitions", (unsigned long long)n);
}

static void add_partitions(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct plan *p = plan_of(a);
    int32_t n = a->sim->truth->n_partitions + 1;
    if (p->is_quiet || n > TRUTH_PARTITIONS)
        return;
    struct create_partitions_request_topic topic = {
        .name = STR("t"), .count = n, .n_assignments = -1};
    struct create_partitions_request req;
    kw_init(&create_partitions_request_msg, &req);
    req.topics = &topic;
    req.n_topics = 1;
    req.timeout_ms = 30000;
    ask(p, API_CREATE_PARTITIONS, 3, &req, partitions_added, (uint64_t)n);
    sim_after(a, plan_below(p, 2 * PARTITIONS_EVERY_MS), add_partitions, 0, (struct bytes){0});
}

static void nothing(struct actor *a, uint64_t arg, const void *response)
{
    (void)a;
    (void)arg;
    (void)response;
}

static void delete_records(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct plan *p = plan_of(a);
    int64_t start, end;
    int32_t at = (int32_t)plan_below(p, (uint64_t)a->sim->truth->n_partitions);
    if (p->is_quiet)
        return;
    sim_after(a, plan_below(p, 2 * DELETE_EVERY_MS), delete_records, 0, (struct bytes){0});
    if (!a->sim->broker || !world_log_bounds(a->sim, at, &start, &end))
        return;
    struct delete_records_request_partition part = {
        .partition_index = at,
        .offset = start + (int64_t)plan_below(p, (uint64_t)(end - start) + 1)};
    struct delete_records_request_topic topic = {
        .name = STR("t"), .partitions = &part, .n_partitions = 1};
    struct delete_records_request req = {.topics = &topic, .n_topics = 1, .timeout_ms = 30000};
    sim_trace(a->sim, "records of %d below %lld are deleted", at, (long long)part.offset);
    ask(p, API_DELETE_RECORDS, 2, &req, nothing, 0);
}

// ---- offsets set from outside

static uint64_t admin_pack(uint64_t id, int32_t group, int32_t partition)
{
    return id << 16 | (uint64_t)group << 8 | (uint64_t)partition;
}

static void admin_done(struct actor *a, uint64_t arg, int16_t error)
{
    struct truth_group *g = truth_group(a->sim->truth, groups[arg >> 8 & 0xff]);
    int32_t p = (int32_t)(arg & 0xff);
    if (error != KERR_NONE)
        sim_trace(a->sim, "admin: %s of %d: %s", g->name, p, kerr_name(error));
    truth_commit_answered(a->sim, g, p, arg >> 16, error == KERR_NONE);
}

static void offset_set(struct actor *a, uint64_t arg, const void *response)
{
    const struct offset_commit_response *r = response;
    if (r)
        admin_done(a, arg, r->topics[0].partitions[0].error_code);
}

static void offset_deleted(struct actor *a, uint64_t arg, const void *response)
{
    const struct offset_delete_response *r = response;
    if (r)
        admin_done(a, arg, r->error_code ? r->error_code : r->topics[0].partitions[0].error_code);
}

static void set_offset(struct plan *p, int32_t g, int32_t at, int64_t offset)
{
    struct sim *s = &p->sim;
    struct offset_commit_request_partition part;
    offset_commit_request_partition_init(&part);
    part.partition_index = at;
    part.committed_offset = offset;
    part.committed_metadata = STR_EMPTY;
    struct offset_commit_request_topic topic = {
        .name = STR("t"), .partitions = &part, .n_partitions = 1};
    struct offset_commit_request req;
    kw_init(&offset_commit_request_msg, &req);
    req.group_id = str_from(groups[g]);
    req.generation_id_or_member_epoch = -1;
    req.member_id = STR_EMPTY;
    req.topics = &topic;
    req.n_topics = 1;
    sim_trace(s, "admin sets %d of %s to %lld", at, groups[g], (long long)offset);
    uint64_t id = truth_commit_asked(s, truth_group(s->truth, groups[g]), at, offset);
    ask(p, API_OFFSET_COMMIT, 7, &req, offset_set, admin_pack(id, g, at));
}

static void delete_offset(struct plan *p, int32_t g, int32_t at)
{
    struct sim *s = &p->sim;
    struct offset_delete_request_partition part = {.partition_index = at};
    struct offset_delete_request_topic topic = {
        .name = STR("t"), .partitions = &part, .n_partitions = 1};
    struct offset_delete_request req = {
        .group_id = str_from(groups[g]), .topics = &topic, .n_topics = 1};
    sim_trace(s, "admin deletes %d of %s", at, groups[g]);
    uint64_t id = truth_commit_asked(s, truth_group(s->truth, groups[g]), at, -1);
    ask(p, API_OFFSET_DELETE, 0, &req, offset_deleted, admin_pack(id, g, at));
}

static void alter_offset(struct actor *a, uint64_t g, struct bytes none)
{
    (void)none;
    struct plan *p = plan_of(a);
    int64_t start, end;
    int32_t at = (int32_t)plan_below(p, (uint64_t)a->sim->truth->n_partitions);
    if (!a->sim->broker || !world_log_bounds(a->sim, at, &start, &end))
        return;
    if (plan_chance(p, 25))
        delete_offset(p, (int32_t)g, at);
    else
        set_offset(p, (int32_t)g, at, start + (int64_t)plan_below(p, (uint64_t)(end - start) + 1));
}

static void start_group(struct actor *a, uint64_t g, struct bytes none)
{
    (void)none;
    struct plan *p = plan_of(a);
    for (size_t i = 0; i < p->n_consumers; i++)
        if (consumer_is_of(p->consumers[i], groups[g]))
            consumer_start(p->consumers[i]);
}

// Half of the time as it must be done: the group is stopped before.
static void administer(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct plan *p = plan_of(a);
    if (p->is_quiet)
        return;
    sim_after(a, plan_below(p, 2 * ADMIN_EVERY_MS), administer, 0, (struct bytes){0});
    uint64_t g = plan_below(p, plan_with(p, PLAN_ASSIGN) ? 3 : 2);
    if (plan_chance(p, 50)) {
        alter_offset(a, g, (struct bytes){0});
        return;
    }
    for (size_t i = 0; i < p->n_consumers; i++)
        if (consumer_is_of(p->consumers[i], groups[g]))
            consumer_leave(p->consumers[i]);
    sim_after(a, 2000 + plan_below(p, 8000), alter_offset, g, (struct bytes){0});
    sim_after(a, 2000 + plan_below(p, 15000), start_group, g, (struct bytes){0});
}

// ---- the broker stops in order, so that nothing it knew is lost

static void stop_broker(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    const struct plan *p = plan_of(a);
    if (p->is_quiet || a->sim->has_failed)
        return;
    sim_after(a, plan_below(plan_of(a), 2 * STOP_EVERY_MS), stop_broker, 0, (struct bytes){0});
    if (p->is_full) // it could not start
        return;
    sim_broker_stop(a->sim);
    sim_broker_start(a->sim);
    truth_check(a->sim);
}

// ---- the disk

static void has_room(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    sim_trace(a->sim, "the disk has room");
    disk_sim_set_free(a->sim->disk, UINT64_C(1) << 40);
    plan_of(a)->is_full = false;
    if (!a->sim->broker)
        sim_broker_start(a->sim);
}

static void fill_disk(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct plan *p = plan_of(a);
    if (p->is_quiet)
        return;
    sim_trace(a->sim, "the disk is almost full");
    disk_sim_set_free(a->sim->disk, plan_below(p, 5000));
    p->is_full = true;
    sim_after(a, 1 + plan_below(p, 2 * FULL_MS), has_room, 0, (struct bytes){0});
    sim_after(a, 2 * FULL_MS + plan_below(p, 2 * FULL_EVERY_MS), fill_disk, 0, (struct bytes){0});
}

// ---- the whole

static void at_first(struct plan *p, enum plan_feature f, sim_event_fn *fn, uint64_t every_ms)
{
    if (plan_with(p, f))
        sim_after(&p->sim.world, plan_below(p, 2 * every_ms), fn, 0, (struct bytes){0});
}

void plan_extra_populate(struct plan *p)
{
    if (plan_with(p, PLAN_ASSIGN))
        add_assigned(p);
    at_first(p, PLAN_MORE_PARTITIONS, add_partitions, PARTITIONS_EVERY_MS);
    at_first(p, PLAN_DELETE_RECORDS, delete_records, DELETE_EVERY_MS);
    at_first(p, PLAN_ADMIN, administer, ADMIN_EVERY_MS);
    at_first(p, PLAN_DISK_FULL, fill_disk, FULL_EVERY_MS);
    at_first(p, PLAN_APART, stop_broker, STOP_EVERY_MS);
    if (!plan_with(p, PLAN_BYSTANDERS))
        return;
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "exporter" : "reader";
        const char *client_id = plan_chance(p, 50) ? "rdkafka" : name;
        p->bystanders[i] = bystander_new(&p->sim, name, client_id, i == 1);
        for (size_t j = 0; j < p->n_consumers; j++)
            consumer_has_double(p->consumers[j], client_id);
    }
}

void plan_extra_free(struct plan *p)
{
    for (int i = 0; i < 2; i++)
        bystander_free(p->bystanders[i]);
}
