#pragma once
// Partitions over the simulated disk, for the tests of them.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/partition.h"
#include "os/disk_sim.h"
#include "store/log.h"

#define NOW_MS 1700000000000

// Stands for broker and journal: records are applied at once, and durable when the test says so.
struct world {
    struct disk *disk;
    struct topics *topics;
    struct partitions *ps;
    struct arena *arena;
    uint64_t position;
    bool has_failed;
    bool journal_fails;
    struct leader_epoch_started_record last_epoch; // the last one committed
};

static inline uint64_t commit(void *ctx, struct effects *fx)
{
    struct world *w = ctx;
    if (w->journal_fails)
        return UINT64_MAX;
    for (struct effect_record *r = fx->first_record; r; r = r->next) {
        assert_true(topics_apply(w->topics, r->type, r->record));
        if (r->type == &leader_epoch_started_record_msg)
            w->last_epoch = *(const struct leader_epoch_started_record *)r->record;
    }
    return ++w->position;
}

static inline void on_fail(void *ctx, const char *line)
{
    (void)line;
    ((struct world *)ctx)->has_failed = true;
}

static inline void start(struct world *w, bool was_clean, bool power_lost)
{
    struct partitions_config config = {.disk = w->disk,
                                       .dir = "data",
                                       .topics = w->topics,
                                       .was_clean = was_clean,
                                       .power_lost = power_lost,
                                       .ctx = w,
                                       .commit = commit,
                                       .fail = on_fail};
    w->ps = partitions_new(&config);
    assert_int_equal(partitions_follow(w->ps, 0, NOW_MS), 0);
    partitions_clean_leftovers(w->ps);
}

static inline int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->disk = disk_sim_new(7);
    assert_int_equal(disk_mkdir(w->disk, "data"), 0);
    w->topics = topics_new(NULL);
    w->arena = arena_new();
    start(w, true, false);
    *state = w;
    return 0;
}

static inline int teardown(void **state)
{
    struct world *w = *state;
    partitions_free(w->ps);
    topics_free(w->topics);
    arena_free(w->arena);
    disk_free(w->disk);
    free(w);
    return 0;
}

static inline struct uuid make_topic(struct world *w, const char *name)
{
    static uint8_t n;
    struct effects fx;
    effects_init(&fx, w->arena);
    struct asker a = {.wall_ms = NOW_MS};
    memset(a.fresh.b, ++n, sizeof a.fresh.b); // ids that differ throughout, as real ones do
    assert_int_equal(topics_decide_make(w->topics, &a, str_from(name), 1, false, &fx), KERR_NONE);
    commit(w, &fx);
    assert_int_equal(partitions_follow(w->ps, w->position, NOW_MS), 0);
    return topics_by_name(w->topics, str_from(name))->id;
}

static inline void delete_topic(struct world *w, struct uuid id)
{
    struct effects fx;
    effects_init(&fx, w->arena);
    struct topic_deleted_record *r = effects_record(&fx, &topic_deleted_record_msg);
    r->topic_id = id;
    commit(w, &fx);
    assert_int_equal(partitions_follow(w->ps, w->position, NOW_MS), 0);
}

struct
try {
    struct append append;
    bool is_done;
};

static inline void done(struct append *a)
{
    struct try *t = a->ctx;
    assert_false(t->is_done);
    t->is_done = true;
}

// A batch of n records with the keys 0, 1 ..., in the arena.
static inline struct batch make_batch(struct world *w, int n, int64_t producer_id, int32_t sequence)
{
    struct batch_options o = batch_options_default;
    o.producer_id = producer_id;
    o.producer_epoch = producer_id < 0 ? -1 : 0;
    o.base_sequence = sequence;
    struct batch_builder b = {0};
    batch_builder_start(&b, &o);
    struct bytes value = {(const uint8_t *)"value", 5};
    for (uint8_t i = 0; i < n; i++)
        batch_builder_add(&b, NOW_MS, (struct bytes){&i, 1}, value, NULL, 0);
    struct buf out = {0};
    assert_int_equal(batch_builder_finish(&b, &out), 0);
    struct bytes copy = arena_bytes(w->arena, (struct bytes){out.ptr, out.len});
    struct batch batch;
    assert_int_equal(batch_read(copy, &batch), 0);
    buf_free(&out);
    batch_builder_free(&b);
    return batch;
}

static inline struct try *append_as(struct world *w, struct partition *p, int n, bool is_all,
                                    int64_t pid, int32_t sequence)
{
    struct try *t = arena_alloc(w->arena, sizeof *t);
    t->append = (struct append){
        .batch = make_batch(w, n, pid, sequence), .is_all = is_all, .done = done, .ctx = t};
    partition_append(p, &t->append);
    return t;
}

static inline struct try *append(struct world *w, struct partition *p, int n, bool is_all)
{
    return append_as(w, p, n, is_all, -1, -1);
}

static inline void flush(struct world *w)
{
    partitions_flush(w->ps, NOW_MS);
}

static inline void sync_journal(struct world *w)
{
    partitions_journal_synced(w->ps, w->position, NOW_MS);
}

static inline void sync_logs(struct world *w)
{
    struct disk_done d;
    while (disk_poll_done(w->disk, &d))
        assert_true(partitions_sync_done(w->ps, d.cookie, d.error));
}

// The loop, until nothing waits.
static inline void settle(struct world *w)
{
    flush(w);
    sync_journal(w);
    flush(w);
    sync_logs(w);
    flush(w);
    sync_logs(w);
}

static inline void configure(struct world *w, const char *name, const char *value)
{
    struct config_changed_record r = {.resource_type = RESOURCE_TOPIC,
                                      .resource_name = STR("t"),
                                      .name = str_from(name),
                                      .value = str_from(value)};
    topics_apply(w->topics, &config_changed_record_msg, &r);
    assert_int_equal(partitions_follow(w->ps, w->position, NOW_MS), 0);
}
