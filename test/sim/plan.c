// What a seed means.

#include "plan_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/disk_sim.h"
#include "schema.h"

#define SUBSCRIBERS_MAX 6
#define FAULT_EVERY_MS 4000 // on average
#define FILES_MAX 40
#define CHECK_EVERY_MS 5000
#define DRAIN_MS 240000 // without faults, at the end, for everybody to finish

static struct prng *dice(struct plan *p)
{
    return &p->sim.prng;
}

static void topic_made(struct actor *a, uint64_t arg, const void *response)
{
    (void)arg;
    const struct create_topics_response *r = response;
    if (!r || r->n_topics != 1 || r->topics[0].error_code != KERR_NONE)
        sim_fail(a->sim, "the topic could not be made");
    else
        a->sim->truth->topic_id = r->topics[0].topic_id;
}

static void make_topic(struct plan *p)
{
    struct sim *s = &p->sim;
    s->truth->n_partitions = 1 + (int32_t)prng_below(dice(p), 4);
    struct create_topics_request_topic topic;
    create_topics_request_topic_init(&topic);
    topic.name = STR("t");
    topic.num_partitions = s->truth->n_partitions;
    topic.replication_factor = 1;
    struct create_topics_request_config configs[] = {
        {.name = STR("segment.bytes"), .value = STR("1048576")},
        {.name = STR("segment.ms"), .value = STR("10000")},
        {.name = STR("retention.ms"), .value = STR("30000")}};
    struct create_topics_request_config compacted[] = {
        {.name = STR("segment.ms"), .value = STR("10000")},
        {.name = STR("cleanup.policy"), .value = STR("compact,delete")},
        {.name = STR("min.cleanable.dirty.ratio"), .value = STR("0.1")},
        {.name = STR("delete.retention.ms"), .value = STR("20000")},
        {.name = STR("retention.ms"), .value = STR("30000")}};
    topic.configs = configs;
    topic.n_configs = plan_with(p, PLAN_RETENTION) ? 3 : 1;
    if (plan_with(p, PLAN_COMPACTION)) {
        topic.configs = compacted;
        topic.n_configs = plan_with(p, PLAN_RETENTION) ? 5 : 4;
    }
    struct create_topics_request req;
    kw_init(&create_topics_request_msg, &req);
    req.topics = &topic;
    req.n_topics = 1;
    req.timeout_ms = 30000;
    p->admin = link_open(&s->world, "admin");
    link_request(p->admin, API_CREATE_TOPICS, 7, &req, topic_made, 0);
    sim_run_until(s, s->now_ms + 1000);
}

static void plan_consumer(struct plan *p, size_t i)
{
    static const uint32_t sessions_ms[] = {6000, 10000, 45000};
    struct consumer_plan c = {
        .group = prng_chance(dice(p), 70) ? "g1" : "g2",
        .mode = (enum consumer_mode)prng_below(dice(p), 3),
        .session_ms = sessions_ms[prng_below(dice(p), 3)],
        .heartbeat_ms = 2000,
        .auto_commit_ms = 500 + (uint32_t)prng_below(dice(p), 5000),
        .work_ms = 1 + (uint32_t)prng_below(dice(p), 40),
        .poll_records = 1 + (uint32_t)prng_below(dice(p), 50),
        .prefetch = 10 + (uint32_t)prng_below(dice(p), 500),
        .reads_latest = prng_chance(dice(p), 25),
        .one_connection = prng_chance(dice(p), 30),
        .commits_on_revoke = prng_chance(dice(p), 50),
    };
    // Default client ids that collide, and ids of their own.
    if (prng_chance(dice(p), 50))
        snprintf(c.client_id, sizeof c.client_id, "rdkafka");
    else
        snprintf(c.client_id, sizeof c.client_id, "c%zu", i);
    plan_extra_consumer(p, i, &c);
    plan_add_consumer(p, &c);
}

void plan_add_consumer(struct plan *p, const struct consumer_plan *c)
{
    CHECK(p->n_consumers < CONSUMERS_MAX);
    char name[32];
    snprintf(name, sizeof name, "consumer%zu", p->n_consumers);
    struct consumer *new = consumer_new(&p->sim, c, name);
    for (size_t i = 0; i < p->n_consumers; i++)
        consumer_compare(new, p->consumers[i]);
    p->consumers[p->n_consumers++] = new;
    consumer_start(new);
}

static void populate(struct plan *p)
{
    p->n_producers = 1 + prng_below(dice(p), PRODUCERS_MAX);
    for (size_t i = 0; i < p->n_producers; i++) {
        char name[32];
        snprintf(name, sizeof name, "producer%zu", i);
        bool is_idempotent = prng_chance(dice(p), 60);
        int16_t acks = is_idempotent || prng_chance(dice(p), 50) ? -1 : 1;
        p->producers[i] = producer_new(&p->sim, name, acks, is_idempotent,
                                       50 + (uint32_t)prng_below(dice(p), 400));
    }
    size_t n = 1 + prng_below(dice(p), SUBSCRIBERS_MAX);
    for (size_t i = 0; i < n; i++)
        plan_consumer(p, i);
    plan_extra_populate(p);
}

// ---- faults

static void resume(struct actor *a, uint64_t i, struct bytes none)
{
    (void)none;
    consumer_resume(plan_of(a)->consumers[i]);
}

static void restart(struct actor *a, uint64_t i, struct bytes none)
{
    (void)none;
    consumer_start(plan_of(a)->consumers[i]);
}

static void fault_consumer(struct plan *p)
{
    size_t i = prng_below(dice(p), p->n_consumers);
    struct consumer *c = p->consumers[i];
    if (!consumer_is_up(c))
        return;
    uint64_t kind = prng_below(dice(p), 10);
    if (kind < 4) {
        consumer_kill(c);
        sim_after(&p->sim.world, prng_below(dice(p), 20000), restart, i, (struct bytes){0});
    } else if (kind < 7) {
        consumer_leave(c);
        sim_after(&p->sim.world, 1000 + prng_below(dice(p), 20000), restart, i, (struct bytes){0});
    } else if (!consumer_is_paused(c)) {
        consumer_pause(c);
        sim_after(&p->sim.world, prng_below(dice(p), 60000), resume, i, (struct bytes){0});
    }
}

static void fault_broker(struct plan *p)
{
    uint64_t kind = prng_below(dice(p), 10);
    if (p->is_full)
        return; // it could not start
    if (kind < 5)
        sim_broker_kill(&p->sim);
    else if (kind < 8 && p->may_cut_power)
        sim_broker_power_cut(&p->sim);
    else
        sim_broker_stop(&p->sim);
    sim_broker_start(&p->sim);
    truth_check(&p->sim);
}

static void fault(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct plan *p = plan_of(a);
    if (p->is_quiet || a->sim->has_failed)
        return;
    if (prng_chance(dice(p), 80))
        fault_consumer(p);
    else
        fault_broker(p);
    sim_after(a, prng_below(dice(p), 2 * FAULT_EVERY_MS), fault, 0, (struct bytes){0});
}

static void check(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    truth_check(a->sim);
    links_check(a->sim);
    sim_after(a, CHECK_EVERY_MS, check, 0, (struct bytes){0});
}

// ---- the whole

static void drain(struct plan *p)
{
    p->is_quiet = true;
    for (size_t i = 0; i < p->n_producers; i++)
        producer_stop(p->producers[i]);
    sim_run_until(&p->sim, p->sim.now_ms + 61000); // every pause and restart is over
    for (size_t i = 0; i < p->n_consumers; i++)
        if (!consumer_is_up(p->consumers[i]))
            consumer_start(p->consumers[i]);
    sim_run_until(&p->sim, p->sim.now_ms + DRAIN_MS);
    truth_check(&p->sim);
}

static void end(struct plan *p, struct plan_result *ret)
{
    struct sim *s = &p->sim;
    *ret = (struct plan_result){.has_failed = s->has_failed,
                                .trace_hash = s->trace_hash,
                                .n_events = s->n_events,
                                .n_lives = s->n_lives,
                                .n_produced = s->truth->n_produced,
                                .n_processed = s->truth->n_processed,
                                .n_commits = s->truth->n_commits,
                                .n_checks = s->truth->n_checks,
                                .simulated_ms = s->now_ms};
    for (int g = 0; g < TRUTH_GROUPS && s->truth->groups[g].name[0]; g++)
        ret->n_groups++;
    memcpy(ret->failure, s->failure, sizeof ret->failure);
    for (size_t i = 0; i < p->n_consumers; i++)
        consumer_free(p->consumers[i]);
    for (size_t i = 0; i < p->n_producers; i++)
        producer_free(p->producers[i]);
    plan_extra_free(p);
    link_close(p->admin);
    struct truth *t = s->truth;
    sim_free(s);
    truth_free(t);
}

uint64_t plan_mixed(uint64_t seed)
{
    struct prng p;
    prng_seed(&p, seed ^ 0x6d69786564u);
    uint64_t features = 0;
    for (uint64_t bit = 1; bit <= PLAN_FEATURES_ALL; bit <<= 1)
        if (PLAN_FEATURES_ALL & bit && prng_chance(&p, 30))
            features |= bit;
    return features << 32 | (seed & UINT32_MAX);
}

void plan_run(const struct sim_options *o, struct plan_result *ret)
{
    struct plan *p = calloc(1, sizeof *p);
    CHECK(p);
    struct sim *s = &p->sim;
    sim_init(s, o);
    s->truth = truth_new();
    p->may_cut_power = prng_chance(&s->prng, 50);
    if (plan_has(o->seed, PLAN_SLOW_DISK)) {
        p->may_cut_power = true; // what is said too early is lost only then
        disk_sim_set_sync_ms(s->disk, 0, 8 + (uint32_t)prng_below(&s->prng, 1000));
    }
    if (plan_has(o->seed, PLAN_COLD))
        disk_sim_set_cold(s->disk, 50);
    // Less than one for each partition: they are opened and closed all the time.
    if (plan_has(o->seed, PLAN_FEW_FILES))
        disk_sim_set_files_max(s->disk, FILES_MAX);
    sim_broker_start(s);
    if (!s->has_failed)
        make_topic(p);
    if (!s->has_failed) {
        populate(p);
        sim_after(&s->world, FAULT_EVERY_MS, fault, 0, (struct bytes){0});
        sim_after(&s->world, CHECK_EVERY_MS, check, 0, (struct bytes){0});
        sim_run_until(s, o->minutes * 60000);
        drain(p);
        if (s->has_failed && o->is_verbose)
            truth_dump(s);
    }
    end(p, ret);
    free(p);
}
