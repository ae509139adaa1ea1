#include "broker/cold_read.h"
#include "broker/internal.h"
#include "store/log.h"
#include "store/offsets_projection.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// So long may a pass of the loop after pass find new input before timers fire all the same.
#define BUSY_PASSES_MAX 32
// What comes right behind a batch that is to be synced joins its sync, which takes a thousand times
// longer than the look at the sockets that finds it: so many passes that find input a sync waits.
#define SYNC_PASSES_MAX 4
// How long a stop waits for answers that are being sent or synced.
#define STOP_GRACE_MS 2000
// What was sent since the ledger's last snapshot is not known after a crash.
#define LEDGER_SNAPSHOT_MS 10000
#define SPACE_CHECK_MS 1000
// After a crash each log is read from where it was so long before.
#define SAVE_MS 10000

void broker_read_clock(struct broker *b)
{
    b->now_ms = clock_now_ms(b->config.clock);
    b->wall_ms = clock_wall_ms(b->config.clock);
}

// ---- Start

struct replay {
    struct broker *b;
    struct arena *arena;
    char *why;
    size_t why_cap;
};

static int replay_record(void *ctx, const struct journal_entry *e)
{
    struct replay *rp = ctx;
    const struct kw_message *type = kw_record_type(e->type);
    if (!type || e->version > type->max_version) {
        snprintf(rp->why, rp->why_cap,
                 "the journal holds a record of type %d version %d, written by a newer tally; use "
                 "that one",
                 e->type, e->version);
        return -EPROTONOSUPPORT;
    }
    arena_reset(rp->arena);
    void *record = arena_alloc(rp->arena, kw_size_in_memory(type));
    kw_init(type, record);
    const char *where = "";
    int error = kw_decode(type, e->version, e->body, rp->arena, record, &where);
    if (error) {
        snprintf(rp->why, rp->why_cap, "journal position %" PRIu64 ": damaged record %s: %s",
                 e->position, type->name, where);
        return error;
    }
    core_apply(rp->b->core, type, record);
    return 0;
}

static bool log_bounds(void *ctx, struct uuid topic_id, int32_t partition, struct ledger_range *ret)
{
    struct broker *b = ctx;
    const struct partition *p =
        b->partitions ? partitions_get(b->partitions, topic_id, partition) : NULL;
    if (!p)
        return false;
    *ret = (struct ledger_range){partition_log_start(p), partition_high_watermark(p)};
    return true;
}

static int64_t log_not_data(void *ctx, struct uuid topic_id, int32_t partition,
                            struct ledger_range range)
{
    struct broker *b = ctx;
    const struct partition *p =
        b->partitions ? partitions_get(b->partitions, topic_id, partition) : NULL;
    return p ? partition_gap(p, range.from, range.to) : 0;
}

static uint64_t commit_of_partitions(void *ctx, struct effects *fx)
{
    const struct broker *b = ctx;
    uint64_t position = broker_commit(ctx, fx);
    return b->failure ? UINT64_MAX : position;
}

static void partitions_say(void *ctx, bool is_warning, const char *line)
{
    const struct broker *b = ctx;
    log_event(b->config.log, is_warning ? LOG_WARN : LOG_INFO, "%s", line);
}

static void partitions_fail(void *ctx, const char *line)
{
    broker_fail(ctx, -EIO, line);
}

static int open_journal(struct broker *b, char *ret_why, size_t why_cap)
{
    struct replay rp = {.b = b, .arena = arena_new(), .why = ret_why, .why_cap = why_cap};
    struct journal_config config = {.disk = b->config.disk,
                                    .dir = store_journal_dir(b->store),
                                    .is_new = b->start.is_new,
                                    .clean_position = b->start.journal_position,
                                    .has_same_boot = !b->start.power_lost};
    struct journal_report report = {0};
    ret_why[0] = 0;
    int error = journal_open(&config, replay_record, &rp, &b->journal, &report);
    arena_free(rp.arena);
    if (error && !ret_why[0])
        snprintf(ret_why, why_cap, "%s", report.text[0] ? report.text : strerror(-error));
    else if (!error && report.text[0])
        log_event(b->config.log, LOG_WARN, "%s", report.text);
    if (!error)
        log_event(b->config.log, LOG_INFO, "journal: %" PRIu64 " records replayed",
                  report.n_records);
    return error;
}

static int open_partitions(struct broker *b)
{
    struct partitions_config config = {.disk = b->config.disk,
                                       .store = b->store,
                                       .topics = b->core->topics,
                                       .was_clean = b->start.was_clean,
                                       .power_lost = b->start.power_lost,
                                       .repair = b->config.repair,
                                       .repair_topics = b->config.repair_topics,
                                       .n_repair_topics = b->config.n_repair_topics,
                                       .ctx = b,
                                       .commit = commit_of_partitions,
                                       .say = partitions_say,
                                       .fail = partitions_fail};
    entropy_fill(b->config.entropy, &config.hash, sizeof config.hash);
    b->partitions = partitions_new(&config);
    return partitions_follow(b->partitions, 0, b->wall_ms);
}

static int expect_default(const struct broker_config *config)
{
    struct config_view view = {.fixed = config->fixed};
    enum ledger_expect e = LEDGER_AT_LEAST_ONCE;
    (void)ledger_expect_find(config_str(&view, "tally.expect.default"), &e);
    return (int)e;
}

static const char *advice_on_damage(const struct broker *b)
{
    if (b->config.repair && b->config.repair->n_places > 0)
        return ". What was repaired so far stays so; a repair without names does the rest, and "
               "before that the broker does not start";
    return ". Nothing was changed: put back what it names, from a copy, or let tally topic "
           "repair keep what is whole";
}

static int recover(struct broker *b, char *ret_why, size_t why_cap)
{
    bool is_looking = disk_is_read_only(b->config.disk);
    struct uuid fresh = is_looking ? (struct uuid){0} : broker_fresh_uuid(b);
    struct store_config sc = {.disk = b->config.disk,
                              .dir = b->config.dir,
                              .create = true,
                              .fresh_cluster_id = fresh,
                              .node_id = TALLY_NODE_ID};
    int error = store_open(&sc, &b->store, &b->start, ret_why, why_cap);
    if (error)
        return error;
    uuid_text(b->start.cluster_id, b->cluster_id);
    if (is_looking && !b->start.was_clean)
        log_event(b->config.log, LOG_WARN,
                  "%s: its broker did not stop in order: this is what its next start will find, "
                  "nothing is changed now",
                  b->config.dir);
    error = open_journal(b, ret_why, why_cap);
    if (error)
        return error;
    core_replayed(b->core);
    if (b->config.on_replayed)
        b->config.on_replayed(b->config.user, b->core);
    error = open_partitions(b);
    if (error) {
        bool is_damage = error == -EBADMSG || error == -ENOENT;
        snprintf(ret_why, why_cap, "a partition of %s could not be opened: %s; see the log above%s",
                 b->config.dir, is_damage ? "files are damaged or missing" : strerror(-error),
                 is_damage ? advice_on_damage(b) : "");
        return error;
    }
    error = is_looking ? 0 : store_ready(b->store);
    if (error) {
        snprintf(ret_why, why_cap, "%s: %s", b->config.dir, strerror(-error));
        return error;
    }
    if (!is_looking)
        partitions_clean_leftovers(b->partitions);
    core_restore_done(b->core, b->now_ms, b->wall_ms, b->start.was_clean);
    if (!is_looking)
        ledger_accounting(b->core->ledger, broker_time(b), b->config.accounting);
    return 0;
}

int broker_new(const struct broker_config *config, struct broker **ret_broker, char *ret_why,
               size_t why_cap)
{
    struct broker *b = calloc(1, sizeof *b);
    CHECK(b);
    b->config = *config;
    list_init(&b->listeners);
    list_init(&b->conns);
    list_init(&b->held);
    list_init(&b->woken);
    list_init(&b->cold_running);
    list_init(&b->cold_waiting);
    b->by_conn = map_new();
    b->by_token = map_new();
    b->scratch = arena_new();
    b->next_token = 1;
    b->has_space = true;
    broker_read_clock(b);
    b->logs = (struct ledger_logs){.ctx = b, .bounds = log_bounds, .not_data = log_not_data};
    struct core_needs needs = {
        .fixed = config->fixed, .logs = &b->logs, .expect_default = expect_default(config)};
    b->core = core_new(&needs);
    topics_clamp_replication(b->core->topics, config->clamp_replication);
    int error = recover(b, ret_why, why_cap);
    if (error) {
        broker_free(b);
        return error;
    }
    *ret_broker = b;
    if (disk_is_read_only(config->disk))
        return 0;
    b->offsets = offsets_topic_new(b);
    channel_handlers(b);
    b->ledger_due_ms = b->now_ms + LEDGER_SNAPSHOT_MS;
    b->space_due_ms = b->now_ms;
    b->retain_due_ms = b->now_ms;
    b->save_due_ms = b->now_ms + SAVE_MS;
    return 0;
}

static void free_conns(struct broker *b)
{
    LIST_EACH (at, &b->conns) {
        struct channel *c = LIST_ITEM(at, struct channel, node);
        LIST_EACH (asking, &c->asking)
            channel_abandon(b, LIST_ITEM(asking, struct request, line));
        channel_free(c);
    }
}

void broker_free(struct broker *b)
{
    if (!b)
        return;
    LIST_EACH (at, &b->listeners)
        broker_remove_listener(b, LIST_ITEM(at, struct listener_address, node)->listener);
    free_conns(b);
    cold_read_free_all(b);
    offsets_topic_free(b->offsets);
    b->offsets = NULL;
    partitions_free(b->partitions);
    b->partitions = NULL;
    journal_close(b->journal);
    store_close(b->store);
    core_free(b->core);
    map_free(b->by_conn);
    map_free(b->by_token);
    heap_free(&b->timers);
    journal_batch_free(&b->batch);
    arena_free(b->scratch);
    while (b->n_spare_arenas > 0)
        arena_free(b->spare_arenas[--b->n_spare_arenas]);
    free(b);
}

// ---- Listeners

static struct listener_address *listener_find(struct broker *b, int listener)
{
    LIST_EACH (at, &b->listeners) {
        struct listener_address *l = LIST_ITEM(at, struct listener_address, node);
        if (l->listener == listener)
            return l;
    }
    return NULL;
}

void broker_add_listener(struct broker *b, int listener, const char *host, uint16_t port)
{
    struct listener_address *l = calloc(1, sizeof *l);
    CHECK(l);
    l->listener = listener;
    l->host = str_dup(str_from(host));
    l->instance = str_dup(STR_EMPTY);
    l->port = port;
    list_append(&b->listeners, &l->node);
}

void broker_set_instance(struct broker *b, int listener, const char *instance)
{
    struct listener_address *l = listener_find(b, listener);
    CHECK(l);
    free(l->instance);
    l->instance = str_dup(str_from(instance));
}

void broker_remove_listener(struct broker *b, int listener)
{
    struct listener_address *l = listener_find(b, listener);
    if (!l)
        return;
    LIST_EACH (at, &b->conns) {
        struct channel *c = LIST_ITEM(at, struct channel, node);
        if (c->peer.listener == listener)
            c->instance = "";
    }
    list_remove(&l->node);
    free(l->host);
    free(l->instance);
    free(l);
}

void broker_address(struct broker *b, int listener, struct str *ret_host, int32_t *ret_port)
{
    const struct listener_address *l = listener_find(b, listener);
    if (!l && !list_is_empty(&b->listeners)) // it was removed: any that is left will do
        l = LIST_ITEM(b->listeners.next, struct listener_address, node);
    *ret_host = l ? str_from(l->host) : STR_EMPTY;
    *ret_port = l ? l->port : -1;
}

// ---- The parts

struct core *broker_core(struct broker *b)
{
    return b->core;
}

struct topics *broker_topics(struct broker *b)
{
    return b->core->topics;
}

struct ledger *broker_ledger(struct broker *b)
{
    return b->core->ledger;
}

struct journal *broker_journal(struct broker *b)
{
    return b->journal;
}

struct partitions *broker_partitions(struct broker *b)
{
    return b->partitions;
}

struct net *broker_net(struct broker *b)
{
    return b->config.net;
}

struct store *broker_store(struct broker *b)
{
    return b->store;
}

struct disk *broker_disk(struct broker *b)
{
    return b->config.disk;
}

struct log_sink *broker_log(struct broker *b)
{
    return b->config.log;
}

const char *broker_dir(const struct broker *b)
{
    return b->config.dir;
}

struct config_view broker_view(struct broker *b)
{
    return topics_broker_view(b->core->topics);
}

struct str broker_cluster_id(const struct broker *b)
{
    return str_from(b->cluster_id);
}

uint64_t broker_now_ms(struct broker *b)
{
    return b->now_ms;
}

int64_t broker_wall_ms(struct broker *b)
{
    return b->wall_ms;
}

struct uuid broker_fresh_uuid(struct broker *b)
{
    return entropy_uuid(b->config.entropy);
}

struct asker broker_asker(struct broker *b)
{
    return (struct asker){.client_id = STR("tally"),
                          .host = STR_EMPTY,
                          .principal = STR("User:tally"),
                          .software = STR_EMPTY,
                          .now_ms = b->now_ms,
                          .wall_ms = b->wall_ms,
                          .fresh = broker_fresh_uuid(b)};
}

// ---- Running

void broker_fail(struct broker *b, int error, const char *what)
{
    if (b->failure)
        return;
    b->failure = error;
    log_event(b->config.log, LOG_ERROR, "stopping: %s: %s", what, strerror(-error));
}

// What the core would decide now could not be told, and whoever is due may have been kept silent by
// the disk: its timers wait until that has answered, and sessions of those who waited begin anew.
static bool is_stalled(const struct broker *b)
{
    if (!list_is_empty(&b->held)) // it waits for this sync, or for the next one
        return b->now_ms - LIST_ITEM(b->held.next, struct request, node)->asker.now_ms >= STALL_MS;
    return b->is_syncing && b->now_ms - b->sync_began_ms >= STALL_MS;
}

static uint64_t next_due_ms(struct broker *b)
{
    if (b->config.is_passing)
        return UINT64_MAX;
    uint64_t due = is_stalled(b) ? UINT64_MAX : core_next_due_ms(b->core);
    const struct timer *t = heap_first(&b->timers);
    if (t && t->due_ms < due)
        due = t->due_ms;
    // Where nobody asks for anything there is nothing to look after.
    bool looks_for_room = b->was_used || !b->has_space;
    const uint64_t others[] = {b->has_news ? b->ledger_due_ms : UINT64_MAX,
                               looks_for_room ? b->space_due_ms : UINT64_MAX, b->retain_due_ms,
                               b->clean_due_ms,
                               partitions_has_unsaved(b->partitions) ? b->save_due_ms : UINT64_MAX};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i] < due)
            due = others[i];
    return due;
}

int broker_timeout_ms(struct broker *b)
{
    if (b->failure || (b->phase == PHASE_CLOSING && !b->is_syncing) || !list_is_empty(&b->woken))
        return 0;
    if (partitions_has_work(b->partitions) || b->sync_passes > 0)
        return 0;
    uint64_t due = next_due_ms(b), projection = offsets_topic_due_ms(b->offsets);
    if (projection < due)
        due = projection;
    if (b->phase == PHASE_DRAINING && b->cut_ms < due)
        due = b->cut_ms;
    uint64_t now = clock_now_ms(b->config.clock);
    if (due <= now)
        return 0;
    return due - now > 60000 ? 60000 : (int)(due - now);
}

static void take_syncs(struct broker *b)
{
    struct disk_done done;
    while (disk_poll_done(b->config.disk, &done)) {
        if (done.cookie != JOURNAL_COOKIE) {
            if (!cold_read_done(b, done.cookie))
                (void)partitions_sync_done(b->partitions, done.cookie, done.error);
            continue;
        }
        b->is_syncing = false;
        int error = journal_sync_done(b->journal, done.error);
        if (error)
            broker_fail(b, error, "journal: sync");
        else
            partitions_journal_synced(b->partitions, journal_synced(b->journal), b->wall_ms);
    }
    if (!b->failure)
        commit_release(b);
}

static void fire_core_timers(struct broker *b)
{
    for (bool fired = true; fired && !b->failure;) {
        struct arena *a = commit_scratch(b);
        struct effects fx;
        effects_init(&fx, a);
        fired = core_tick(b->core, b->now_ms, b->wall_ms, &fx);
        if (fired)
            broker_commit(b, &fx);
        commit_scratch_done(b, a);
    }
}

static void housekeeping(struct broker *b)
{
    if (b->now_ms >= b->space_due_ms) {
        b->space_due_ms = b->now_ms + SPACE_CHECK_MS;
        b->was_used = false;
        while (b->n_spare_arenas > ARENAS_KEPT)
            arena_free(b->spare_arenas[--b->n_spare_arenas]);
        bool had = b->has_space;
        if (store_check_space(b->store) == 0)
            b->has_space = store_has_space(b->store);
        if (had != b->has_space)
            log_event(b->config.log, LOG_WARN,
                      b->has_space ? "%s: there is room again, produce is taken"
                                   : "%s: the disk is almost full, produce is refused",
                      b->config.dir);
    }
    if (store_gave_spare(b->store)) // what frees space goes first
        b->retain_due_ms = b->now_ms;
    if (b->now_ms >= b->retain_due_ms) {
        struct config_view view = broker_view(b);
        int64_t every = config_i64(&view, "log.retention.check.interval.ms");
        b->retain_due_ms = b->now_ms + (uint64_t)every;
        partitions_retain(b->partitions, b->wall_ms);
    }
    if (b->now_ms >= b->save_due_ms) {
        b->save_due_ms = b->now_ms + SAVE_MS;
        partitions_save(b->partitions);
    }
    if (b->now_ms >= b->clean_due_ms) {
        struct config_view view = broker_view(b);
        b->clean_due_ms = b->now_ms + (uint64_t)config_i64(&view, "log.cleaner.backoff.ms");
        partitions_clean(b->partitions, b->wall_ms);
    }
    if (b->now_ms >= b->ledger_due_ms) {
        b->ledger_due_ms = b->now_ms + LEDGER_SNAPSHOT_MS;
        if (b->has_news && commit_ledger(b, true))
            b->has_news = false;
    }
    if (journal_wants_snapshot(b->journal) && b->has_space && !b->is_syncing && !b->failure) {
        int error = commit_snapshot(b);
        if (error)
            broker_fail(b, error, "journal: snapshot");
    }
}

// The end of a pass for the logs.
static void flush_logs(struct broker *b, bool input_was_empty)
{
    bool holds = !input_was_empty && b->sync_passes < SYNC_PASSES_MAX;
    partitions_hold_syncs(b->partitions, holds);
    partitions_flush(b->partitions, b->wall_ms);
    b->sync_passes = holds && partitions_wants_sync(b->partitions) ? b->sync_passes + 1 : 0;
}

// Timers must not overtake input that came before them: after a stall everything that waits in
// the sockets is taken first. Input without end must not keep timers off for ever either.
static bool timers_may_fire(struct broker *b, bool input_was_empty)
{
    // A session that was renewed is not due: passes are counted from when somebody's time is up.
    core_settle_timers(b->core, b->now_ms);
    if (input_was_empty || next_due_ms(b) > b->now_ms) {
        b->busy_passes = 0;
        return input_was_empty;
    }
    if (!net_went_round(b->config.net) || ++b->busy_passes < BUSY_PASSES_MAX)
        return false;
    b->busy_passes = 0;
    return true;
}

// ---- Stopping

void broker_stop(struct broker *b)
{
    if (b->phase != PHASE_RUNNING)
        return;
    broker_read_clock(b);
    log_event(b->config.log, LOG_INFO, "stopping");
    b->phase = PHASE_DRAINING;
    b->cut_ms = b->now_ms + STOP_GRACE_MS;
    LIST_EACH (at, &b->listeners)
        net_unlisten(b->config.net, LIST_ITEM(at, struct listener_address, node)->listener);
    LIST_EACH (at, &b->conns) {
        struct channel *c = LIST_ITEM(at, struct channel, node);
        channel_hurry(c);
    }
}

static bool has_unfinished(struct broker *b)
{
    LIST_EACH (at, &b->conns) {
        struct channel *c = LIST_ITEM(at, struct channel, node);
        LIST_EACH (asking, &c->asking) {
            const struct request *r = LIST_ITEM(asking, struct request, line);
            if (r->api->key == API_PRODUCE || r->stage == REQUEST_HELD)
                return true;
        }
        if (net_is_sending(b->config.net, c->id))
            return true;
    }
    return false;
}

// Everything in its order: the ledger's words into the journal, all of it durable, then the marker
// that says so. What fails here leaves the directory as after a crash, which is safe.
static int close_store(struct broker *b)
{
    (void)commit_ledger(b, false);
    (void)commit_ledger(b, true);
    int error = b->failure;
    if (!error) // while the logs are open: the ledger looks at them
        error = commit_snapshot(b);
    bool offsets_whole = false;
    if (!error) {
        do {
            offsets_topic_step(b->offsets, true);
            partitions_flush(b->partitions, b->wall_ms);
        } while (!b->failure && offsets_topic_due_ms(b->offsets) != UINT64_MAX);
        offsets_whole = offsets_topic_is_whole(b->offsets);
        offsets_topic_free(b->offsets);
        b->offsets = NULL;
        error = partitions_close_clean(b->partitions);
        b->partitions = NULL;
    }
    if (!error)
        error = journal_sync(b->journal);
    if (error)
        return error;
    uint64_t position = journal_position(b->journal);
    journal_close(b->journal);
    b->journal = NULL;
    if (offsets_whole)
        error = offsets_projection_mark(b->config.disk, b->config.dir, position);
    if (error)
        return error;
    error = store_close_clean(b->store, position);
    b->store = NULL;
    return error;
}

static void stop_step(struct broker *b)
{
    if (b->failure)
        b->phase = PHASE_CLOSING;
    if (b->phase == PHASE_DRAINING && (!has_unfinished(b) || b->now_ms >= b->cut_ms))
        b->phase = PHASE_CLOSING;
    if (b->phase != PHASE_CLOSING)
        return;
    LIST_EACH (at, &b->conns)
        net_close(b->config.net, LIST_ITEM(at, struct channel, node)->id);
    // No snapshot begins while a sync is under way; a disk that hangs must not hold up a failure.
    if (!list_is_empty(&b->conns) || (b->is_syncing && !b->failure))
        return;
    if (!b->failure) {
        int error = close_store(b);
        if (error)
            broker_fail(b, error, "closing the data directory");
    }
    b->phase = PHASE_STOPPED;
    log_event(b->config.log, b->failure ? LOG_ERROR : LOG_INFO, "stopped");
}

void broker_step(struct broker *b, bool input_was_empty)
{
    if (b->phase == PHASE_STOPPED)
        return;
    broker_read_clock(b);
    take_syncs(b);
    if (!b->failure && !b->config.is_passing && timers_may_fire(b, input_was_empty)) {
        if (!is_stalled(b))
            fire_core_timers(b);
        dispatch_fire_timers(b);
        housekeeping(b);
    }
    if (!b->failure) {
        offsets_topic_step(b->offsets, false);
        flush_logs(b, input_was_empty);
        dispatch_fire_woken(b);
        if (b->phase != PHASE_CLOSING) {
            (void)commit_ledger(b, false);
            commit_sync(b);
        }
    }
    if (b->phase != PHASE_RUNNING || b->failure)
        stop_step(b);
}

bool broker_is_stopped(const struct broker *b)
{
    return b->phase == PHASE_STOPPED;
}

int broker_failure(const struct broker *b)
{
    return b->failure;
}
