// A model consumer: joins, syncs, looks up its positions, fetches ahead, works on records one by
// one, and commits in one of three ways. Modelled on librdkafka (two connections), sarama (one) and
// the Java client (topic ids). This file: a process from start to end, and its commits.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumer_private.h"

struct consumer *consumer_new(struct sim *s, const struct consumer_plan *plan, const char *name)
{
    struct consumer *c = calloc(1, sizeof *c);
    CHECK(c);
    c->sim = s;
    c->plan = *plan;
    c->truth = truth_group(s->truth, plan->group);
    c->truth->is_assigned = c->truth->is_assigned || plan->is_assigned;
    // From outside nothing tells an assign()-only client that goes on from one that begins anew.
    if (plan->is_assigned)
        c->truth->is_distinct = false;
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

bool consumer_is_of(const struct consumer *c, const char *group)
{
    return strcmp(c->plan.group, group) == 0;
}

void consumer_compare(struct consumer *a, struct consumer *b)
{
    if (a->truth != b->truth && strcmp(a->plan.client_id, b->plan.client_id) == 0)
        a->truth->is_distinct = b->truth->is_distinct = false;
}

void consumer_has_double(struct consumer *c, const char *client_id)
{
    if (strcmp(c->plan.client_id, client_id) == 0)
        c->truth->is_distinct = false;
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

void consumer_open_links(struct consumer *c)
{
    link_close(c->group_link);
    if (c->data_link != c->group_link)
        link_close(c->data_link);
    c->group_link = link_open(&c->actor, c->plan.client_id);
    c->data_link = c->plan.one_connection ? c->group_link : link_open(&c->actor, c->plan.client_id);
    c->is_fetching = false;
    c->is_committing = false;
    for (int32_t p = 0; p < TRUTH_PARTITIONS; p++)
        c->parts[p].is_looking = false;
}

// ---- connections that come back one by one

static void data_back(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct consumer *c = consumer_of(a);
    c->is_data_away = false;
    link_close(c->data_link);
    c->data_link = link_open(&c->actor, c->plan.client_id);
    c->is_fetching = false;
    for (int32_t p = 0; p < TRUTH_PARTITIONS; p++)
        c->parts[p].is_looking = false;
    sim_trace(c->sim, "%s has a data connection again", c->name);
    consumer_reconnect_apart(c);
    consumer_find_positions(c);
    consumer_pump(c);
}

static void group_back(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct consumer *c = consumer_of(a);
    c->is_group_away = false;
    link_close(c->group_link);
    c->group_link = link_open(&c->actor, c->plan.client_id);
    c->is_committing = false;
    sim_trace(c->sim, "%s has a group connection again", c->name);
    consumer_reconnect_apart(c);
    consumer_find_positions(c);
    consumer_pump(c);
}

void consumer_reconnect_apart(struct consumer *c)
{
    struct prng *dice = &c->sim->prng;
    if (!link_is_open(c->data_link) && !c->is_data_away) {
        c->is_data_away = true;
        sim_after(&c->actor, RETRY_MS + prng_below(dice, 1000), data_back, 0, (struct bytes){0});
    }
    if (!link_is_open(c->group_link) && !c->is_group_away) {
        c->is_group_away = true;
        // Sometimes for longer than its session.
        uint64_t most = prng_chance(dice, 50) ? 1000 : 3 * c->plan.session_ms / 2;
        sim_after(&c->actor, RETRY_MS + prng_below(dice, most), group_back, 0, (struct bytes){0});
    }
}

void consumer_renew_epoch(struct consumer *c)
{
    c->epoch++;
    if (!c->plan.is_cooperative)
        c->data_epoch++;
}

void consumer_give_up_all(struct consumer *c)
{
    memset(c->parts, 0, sizeof c->parts);
    c->head = c->count = 0;
    c->data_epoch++;
    c->is_fetching = false;
    c->has_assignment = false;
}

static void auto_commit_tick(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct consumer *c = consumer_of(a);
    if (consumer_may_work(c) && !c->is_committing)
        consumer_commit(c, NULL);
    sim_after(a, c->plan.auto_commit_ms, auto_commit_tick, 0, (struct bytes){0});
}

// Metadata is asked for anew now and then; a leader that sees more partitions joins again.
static void metadata_tick(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct consumer *c = consumer_of(a);
    sim_after(a, c->plan.metadata_ms, metadata_tick, 0, (struct bytes){0});
    if (c->n_known == c->sim->truth->n_partitions)
        return;
    c->n_known = c->sim->truth->n_partitions;
    if (c->state != C_RUNNING || !c->is_leader)
        return;
    c->must_rejoin = true;
    consumer_maybe_rejoin(c);
}

static void start_assigned(struct consumer *c)
{
    c->state = C_RUNNING;
    for (int32_t p = 0; p < c->n_known; p++)
        if (p % (int32_t)c->plan.assign_of == (int32_t)c->plan.assign_index)
            consumer_begin_part(c, p);
    consumer_find_positions(c);
}

void consumer_start(struct consumer *c)
{
    if (c->state != C_DOWN)
        return;
    actor_init(&c->actor, c->sim, c->name);
    sim_trace(c->sim, "%s starts, of %s, as %s", c->name, c->plan.group, c->plan.client_id);
    c->member_id[0] = '\0';
    c->is_group_away = c->is_data_away = false;
    c->alive_ms = c->sim->now_ms;
    c->generation = -1;
    c->is_working = c->must_rejoin = c->is_leader = false;
    consumer_give_up_all(c);
    c->n_known = c->sim->truth->n_partitions;
    c->state = C_JOINING;
    consumer_open_links(c);
    if (c->plan.mode == CONSUMER_AUTO_COMMIT)
        sim_after(&c->actor, c->plan.auto_commit_ms, auto_commit_tick, 0, (struct bytes){0});
    if (c->plan.is_assigned) {
        start_assigned(c);
        return;
    }
    if (c->plan.metadata_ms)
        sim_after(&c->actor, c->plan.metadata_ms, metadata_tick, 0, (struct bytes){0});
    sim_after(&c->actor, c->plan.heartbeat_ms, consumer_heartbeat_tick, 0, (struct bytes){0});
    consumer_join(c);
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

static void go_on(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct consumer *c = consumer_of(a);
    if (c->state != C_RUNNING)
        return;
    if (!link_is_open(c->group_link) || !link_is_open(c->data_link))
        consumer_open_links(c);
    if (!link_is_open(c->data_link)) {
        sim_after(a, RETRY_MS, go_on, 0, (struct bytes){0});
        return;
    }
    consumer_find_positions(c);
    consumer_pump(c);
}

void consumer_reconnect(struct consumer *c)
{
    if (c->state == C_LEAVING)
        consumer_kill(c); // nothing more to be said
    if (c->state == C_DOWN)
        return;
    if (c->plan.is_assigned) {
        sim_after(&c->actor, RETRY_MS, go_on, 0, (struct bytes){0});
        return;
    }
    if (c->plan.is_apart) {
        consumer_reconnect_apart(c);
        return;
    }
    consumer_open_links(c);
    c->must_rejoin = true;
    consumer_maybe_rejoin(c);
}

void consumer_leave(struct consumer *c)
{
    if (c->state != C_RUNNING || c->is_working || c->is_committing || c->actor.is_paused ||
        c->must_rejoin || c->has_assignment) {
        consumer_kill(c); // caught at a bad moment: as if SIGKILL had followed
        return;
    }
    sim_trace(c->sim, "%s leaves", c->name);
    c->state = C_LEAVING;
    c->head = c->count = 0;
    // Static members and those outside of the group protocol just go.
    consumer_next_fn *last =
        c->plan.is_assigned || c->plan.instance_id[0] ? consumer_kill : consumer_send_leave;
    if (!consumer_commit(c, last))
        last(c);
}

// ---- commits

static void one_answered(struct consumer *c, int32_t p, int16_t error)
{
    truth_commit_answered(c->sim, c->truth, p, c->commit_ids[p], error == KERR_NONE);
    if (error == KERR_NONE)
        return;
    sim_trace(c->sim, "%s commit of %d refused: %s", c->name, p, kerr_name(error));
    if (error == KERR_UNKNOWN_MEMBER_ID || error == KERR_ILLEGAL_GENERATION)
        c->must_rejoin = c->must_rejoin || (c->state == C_RUNNING && !c->plan.is_assigned);
}

static void commit_answered(struct actor *a, uint64_t arg, const void *response)
{
    struct consumer *c = consumer_of(a);
    const struct offset_commit_response *r = response;
    consumer_next_fn *after = (consumer_next_fn *)(uintptr_t)arg;
    c->is_committing = false;
    for (int32_t i = 0; r && i < r->n_topics; i++)
        for (int32_t j = 0; j < r->topics[i].n_partitions; j++)
            one_answered(c, r->topics[i].partitions[j].partition_index,
                         r->topics[i].partitions[j].error_code);
    bool is_cut = !r && !link_is_open(c->group_link);
    if (is_cut)
        consumer_reconnect(c);
    if (after && (!is_cut || (c->plan.is_apart && c->state != C_DOWN)))
        after(c);
}

static void send_commit(struct consumer *c, struct offset_commit_request_partition *parts,
                        int32_t n, consumer_next_fn *after)
{
    struct offset_commit_request_topic topic = {.name = STR("t"),
                                                .topic_id = c->sim->truth->topic_id,
                                                .partitions = parts,
                                                .n_partitions = n};
    struct offset_commit_request req;
    kw_init(&offset_commit_request_msg, &req);
    req.group_id = str_from(c->plan.group);
    req.generation_id_or_member_epoch = c->generation;
    req.member_id = str_from(c->member_id);
    if (c->plan.instance_id[0])
        req.group_instance_id = str_from(c->plan.instance_id);
    req.topics = &topic;
    req.n_topics = 1;
    c->is_committing = true;
    link_request(c->group_link, API_OFFSET_COMMIT, c->plan.uses_topic_ids ? 10 : 7, &req,
                 commit_answered, (uint64_t)(uintptr_t)after);
}

bool consumer_commit(struct consumer *c, consumer_next_fn *after)
{
    struct offset_commit_request_partition parts[TRUTH_PARTITIONS];
    int32_t n = 0;
    if (c->plan.is_apart && !link_is_open(c->group_link))
        return false; // what is stored stays so
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
    if (n > 0)
        send_commit(c, parts, n, after);
    return n > 0;
}
