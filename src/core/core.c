#include "core/core.h"

#include <stdlib.h>

#include "base/list.h"
#include "core/group/private.h"
#include "core/topics.h"

struct core *core_new(const struct core_needs *needs)
{
    struct core *c = calloc(1, sizeof *c);
    CHECK(c);
    c->topics = topics_new(needs->fixed);
    c->groups = groups_new();
    c->ledger = ledger_new(needs->logs, (enum ledger_expect)needs->expect_default);
    c->expiry.kind = TIMER_OFFSETS_EXPIRY;
    c->config_version = UINT64_MAX;
    c->is_replaying = true;
    ledger_set_replay(c->ledger, true);
    return c;
}

void core_free(struct core *c)
{
    if (!c)
        return;
    groups_free(c);
    ledger_free(c->ledger);
    topics_free(c->topics);
    heap_free(&c->timers);
    free(c);
}

const struct core_config *core_config(struct core *c)
{
    uint64_t version = topics_config_version(c->topics);
    if (version == c->config_version)
        return &c->config;
    struct config_view v = topics_broker_view(c->topics);
    c->config = (struct core_config){
        .group_min_session_timeout_ms = (int32_t)config_i64(&v, "group.min.session.timeout.ms"),
        .group_max_session_timeout_ms = (int32_t)config_i64(&v, "group.max.session.timeout.ms"),
        .group_initial_rebalance_delay_ms =
            (int32_t)config_i64(&v, "group.initial.rebalance.delay.ms"),
        .group_max_size = (int32_t)config_i64(&v, "group.max.size"),
        .offset_metadata_max_bytes = (int32_t)config_i64(&v, "offset.metadata.max.bytes"),
        .offsets_retention_ms = config_i64(&v, "offsets.retention.minutes") * 60000,
        .offsets_retention_check_interval_ms =
            config_i64(&v, "offsets.retention.check.interval.ms"),
    };
    c->config_version = version;
    return &c->config;
}

static struct ledger_time time_of(const struct core *c, int64_t wall_ms)
{
    return (struct ledger_time){c->now_ms, wall_ms};
}

static void tell_log_start(struct core *c, const struct log_start_moved_record *r)
{
    enum ledger_trim why = r->cause == 1 ? LEDGER_TRIM_DELETE_RECORDS : LEDGER_TRIM_RETENTION;
    ledger_trimmed(c->ledger, time_of(c, r->time_ms), r->topic_id, r->partition, r->log_start, why);
}

static void tell_lost(struct core *c, const struct leader_epoch_started_record *r)
{
    struct ledger_range lost = {r->lost_from, r->start_offset};
    if (lost.from < lost.to)
        ledger_records_lost(c->ledger, time_of(c, r->time_ms), r->topic_id, r->partition, lost);
}

// Topics and logs: their facts go to the ledger after the topics know them, but for a deletion,
// where the former topic must still be found.
static void apply_topics(struct core *c, const struct kw_message *type, const void *record)
{
    if (type->key == RECORD_TOPIC_DELETED) {
        const struct topic_deleted_record *r = record;
        ledger_topic_deleted(c->ledger, time_of(c, r->time_ms), r->topic_id);
        groups_topic_removed(c, r->topic_id);
    }
    if (!topics_apply(c->topics, type, record))
        return;
    if (type->key == RECORD_TOPIC_CREATED) {
        const struct topic_created_record *r = record;
        ledger_topic_created(c->ledger, time_of(c, r->time_ms), r->topic_id, r->name,
                             r->partitions);
    } else if (type->key == RECORD_PARTITIONS_ADDED) {
        const struct partitions_added_record *r = record;
        ledger_partitions_added(c->ledger, time_of(c, r->time_ms), r->topic_id, r->partitions);
    } else if (type->key == RECORD_LOG_START_MOVED) {
        tell_log_start(c, record);
    } else if (type->key == RECORD_LEADER_EPOCH_STARTED) {
        tell_lost(c, record);
    }
}

void core_apply(struct core *c, const struct kw_message *type, const void *record)
{
    if (type->key < 20)
        apply_topics(c, type, record);
    else if (type->key < 40)
        groups_apply(c, type, record);
    else if (type->key >= 60)
        ledger_apply(c->ledger, type, record);
}

static void expiry_set(struct core *c, uint64_t now_ms, bool at_once)
{
    int64_t wait = core_config(c)->offsets_retention_check_interval_ms;
    heap_set(&c->timers, &c->expiry.node, now_ms + (at_once ? 0 : (uint64_t)wait));
}

void core_replayed(struct core *c)
{
    ledger_set_replay(c->ledger, false);
}

void core_restore_done(struct core *c, uint64_t now_ms, int64_t wall_ms, bool clean)
{
    CHECK(c->is_replaying);
    core_replayed(c);
    c->is_replaying = false;
    c->now_ms = now_ms;
    groups_restore_done(c, now_ms);
    expiry_set(c, now_ms, false);
    ledger_restarted(c->ledger, (struct ledger_time){now_ms, wall_ms}, clean);
}

uint64_t core_next_due_ms(const struct core *c)
{
    const struct timer *first = heap_first(&c->timers);
    uint64_t ledger = ledger_next_due_ms(c->ledger);
    return first && first->due_ms < ledger ? first->due_ms : ledger;
}

void core_settle_timers(struct core *c, uint64_t now_ms)
{
    heap_settle(&c->timers, now_ms);
}

bool core_tick(struct core *c, uint64_t now_ms, int64_t wall_ms, struct effects *fx)
{
    c->now_ms = now_ms;
    struct timer *due = heap_pop_due(&c->timers, now_ms);
    if (!due) {
        if (ledger_next_due_ms(c->ledger) > now_ms)
            return false;
        ledger_tick(c->ledger, (struct ledger_time){now_ms, wall_ms});
        return true;
    }
    struct core_timer *timer = (struct core_timer *)(void *)due; // its first member
    if (timer->kind == TIMER_OFFSETS_EXPIRY)
        expiry_set(c, now_ms, offsets_expire(c, wall_ms, fx));
    else
        groups_timer(c, timer, now_ms, wall_ms, fx);
    return true;
}

void core_conn_closed(struct core *c, uint64_t conn)
{
    groups_conn_closed(c, conn);
}

void core_snapshot(const struct core *c, struct effects *fx)
{
    topics_snapshot(c->topics, fx);
    groups_snapshot(c, fx);
    ledger_snapshot(c->ledger, fx);
}

uint64_t core_digest(const struct core *c)
{
    struct arena *a = arena_new();
    struct effects fx;
    effects_init(&fx, a);
    topics_snapshot(c->topics, &fx);
    groups_snapshot(c, &fx);
    uint64_t hash = 0xcbf29ce484222325; // FNV-1a
    struct kw_out out = {0};
    for (const struct effect_record *e = fx.first_record; e; e = e->next) {
        kw_out_clear(&out);
        kw_encode(e->type, e->type->max_version, e->record, &out);
        for (size_t i = 0; i < out.buf.len; i++)
            hash = (hash ^ out.buf.ptr[i]) * 0x100000001b3;
    }
    kw_out_free(&out);
    arena_free(a);
    return hash;
}
