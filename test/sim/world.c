// The simulator's side of the broker: how it is started, driven, killed and looked into.

#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/map.h"
#include "broker/broker.h"
#include "broker/partition.h"
#include "core/configs.h"
#include "core/core.h"
#include "os/clock_sim.h"
#include "os/disk_sim.h"
#include "os/entropy.h"
#include "os/log.h"
#include "plan.h"
#include "schema.h"
#include "store/log.h"
#include "truth.h"

// A pass that finds nothing to do twice in a row ends a settle; more than this is a livelock.
#define PASSES_MAX 100000

struct world_life {
    struct log_sink *log;
    struct entropy *entropy;
    struct configs *configs;
};
static struct world_life life;

static void on_answer(void *user, uint64_t conn, struct bytes frame, uint64_t upto)
{
    struct sim *s = user;
    struct link *l = map_get(s->links, key_u64(&conn));
    if (l)
        link_on_answer(l, frame, upto);
}

static void on_closed(void *user, uint64_t conn)
{
    struct sim *s = user;
    struct link *l = map_get(s->links, key_u64(&conn));
    if (l)
        link_on_closed(l);
}

// Replayed state equals live state: nothing that was applied may be gone after a SIGKILL.
static void on_replayed(void *user, const struct core *core)
{
    struct sim *s = user;
    if (s->must_replay && core_digest(core) != s->digest)
        sim_fail(s, "replayed state differs from the live state of before");
}

void sim_broker_start(struct sim *s)
{
    CHECK(!s->broker);
    s->n_lives++;
    struct net_limits limits = {
        .max_frame_bytes = 1 << 20, .max_connections = 1000, .max_input_bytes = 64 << 20};
    s->clock = clock_new();
    clock_sim_set(s->clock, s->now_ms);
    s->net = net_new(&limits, s->clock);
    net_sim_set_peer(s->net, &(struct net_sim_peer){s, on_answer, on_closed});
    s->links = map_new();
    uint16_t port;
    CHECK(net_listen(s->net, "127.0.0.1", 9092, &s->listener, &port) == 0);
    life.entropy = entropy_new();
    life.configs = configs_new();
    if (plan_has(s->options.seed, PLAN_RETENTION))
        configs_set(life.configs, STR("log.retention.check.interval.ms"), STR("5000"));
    life.log =
        s->options.is_verbose ? log_sink_new(s->clock, STDOUT_FILENO, LOG_INFO, false) : NULL;
    struct broker_config config = {.net = s->net,
                                   .clock = s->clock,
                                   .entropy = life.entropy,
                                   .disk = s->disk,
                                   .dir = "/data",
                                   .fixed = life.configs,
                                   .log = life.log,
                                   .accounting = true,
                                   .on_replayed = on_replayed,
                                   .user = s};
    char why[256] = "";
    int r = broker_new(&config, &s->broker, why, sizeof why);
    if (r != 0) {
        s->broker = NULL;
        sim_fail(s, "the broker does not start: %s", why);
        return;
    }
    broker_add_listener(s->broker, s->listener, "127.0.0.1", port);
    sim_trace(s, "broker up, life %llu", (unsigned long long)s->n_lives);
}

static void end_life(struct sim *s, bool has_lost_power)
{
    s->digest = s->broker ? core_digest(broker_core(s->broker)) : 0;
    s->must_replay = s->broker != NULL && !has_lost_power;
    // The clients' connections end with the process, and they hear of it.
    struct map *links = s->links;
    s->links = NULL;
    struct net *net = s->net;
    s->net = NULL;
    broker_free(s->broker);
    s->broker = NULL;
    net_free(net);
    clock_free(s->clock);
    s->clock = NULL;
    entropy_free(life.entropy);
    configs_free(life.configs);
    log_sink_free(life.log);
    void *l;
    for (size_t it = 0; links && map_next(links, &it, NULL, &l);)
        link_on_closed(l);
    map_free(links);
}

void sim_broker_kill(struct sim *s)
{
    if (!s->clock)
        return;
    sim_trace(s, "broker killed");
    disk_sim_crash_process(s->disk);
    end_life(s, false);
}

void sim_broker_power_cut(struct sim *s)
{
    sim_trace(s, "power cut");
    disk_sim_power_cut(s->disk);
    end_life(s, true);
    truth_after_power_cut(s);
}

void sim_broker_stop(struct sim *s)
{
    sim_trace(s, "broker stops");
    broker_stop(s->broker);
    for (int i = 0; i < PASSES_MAX && !broker_is_stopped(s->broker); i++) {
        s->now_ms++;
        clock_sim_set(s->clock, s->now_ms);
        disk_sim_set_time(s->disk, s->now_ms);
        int handled = net_run_once(s->net, 0);
        broker_step(s->broker, handled == 0);
    }
    if (!broker_is_stopped(s->broker))
        sim_fail(s, "the broker does not stop");
    end_life(s, false);
}

void sim_broker_settle(struct sim *s)
{
    int quiet = 0;
    for (int i = 0; i < PASSES_MAX; i++) {
        int handled = net_run_once(s->net, 0);
        broker_step(s->broker, handled == 0);
        // No room for the journal: it ends, and is started again when there is some.
        if (broker_failure(s->broker) == -ENOSPC && plan_has(s->options.seed, PLAN_DISK_FULL)) {
            sim_broker_kill(s);
            s->must_replay = false; // what was decided and found no room
            return;
        }
        if (broker_failure(s->broker)) {
            sim_fail(s, "the broker stopped itself: %d", broker_failure(s->broker));
            return;
        }
        quiet = handled == 0 && broker_timeout_ms(s->broker) != 0 ? quiet + 1 : 0;
        if (quiet == 2)
            return;
    }
    sim_fail(s, "the broker never comes to rest");
}

uint64_t world_broker_due_ms(struct sim *s)
{
    int wait_ms = broker_timeout_ms(s->broker);
    uint64_t due = wait_ms < 0 ? UINT64_MAX : s->now_ms + (uint64_t)(wait_ms > 0 ? wait_ms : 1);
    uint64_t disk_due = disk_sim_next_due_ms(s->disk);
    return disk_due < due ? disk_due : due;
}

struct ledger *world_ledger(struct sim *s)
{
    return s->broker ? broker_ledger(s->broker) : NULL;
}

bool world_log_bounds(struct sim *s, int32_t partition, int64_t *ret_start, int64_t *ret_end)
{
    struct partition *p =
        partitions_get(broker_partitions(s->broker), s->truth->topic_id, partition);
    if (!p)
        return false;
    *ret_start = partition_log_start(p);
    *ret_end = partition_log_end(p);
    return true;
}
