// Writes `__consumer_offsets` behind the journal: what was applied is added, and appended to the
// topic's partitions once a pass. Nobody waits for it, and a start after an unclean stop makes it
// anew (store/offsets_projection.h).
#include "broker/internal.h"
#include "store/log.h"
#include "store/offsets_projection.h"

#include <stdlib.h>

// What is committed again and again is written so often, with the last offset there was. The first
// after a pause is written at once.
#define WRITE_EVERY_MS 100
// Batches under way; more wait in the projection.
#define APPENDS_MAX 64

struct offsets_topic {
    struct broker *broker;
    struct offsets_projection *projection;
    struct list pending; // struct pending
    size_t n_pending;
    uint64_t due_ms; // no sooner is more written
    bool has_failed; // something is missing in the topic: it will be made anew
};

struct pending {
    struct list node;
    struct offsets_topic *owner;
    struct append append;
    struct buf bytes;
};

static void pending_free(struct pending *p)
{
    list_remove(&p->node);
    p->owner->n_pending--;
    buf_free(&p->bytes);
    free(p);
}

static void append_done(struct append *a)
{
    struct pending *p = a->ctx;
    if (a->error != KERR_NONE)
        p->owner->has_failed = true;
    pending_free(p);
}

void offsets_topic_add(struct offsets_topic *o, const struct kw_message *type, const void *record)
{
    if (o)
        offsets_projection_add(o->projection, type, record);
}

static const struct topic *find_topic(struct offsets_topic *o)
{
    return topics_by_name(o->broker->core->topics, STR(OFFSETS_TOPIC));
}

static void make_topic(struct offsets_topic *o)
{
    struct broker *b = o->broker;
    struct arena *a = commit_scratch(b);
    struct effects fx;
    struct asker asker = {.client_id = STR_EMPTY,
                          .host = STR_EMPTY,
                          .principal = STR_EMPTY,
                          .software = STR_EMPTY,
                          .now_ms = b->now_ms,
                          .wall_ms = b->wall_ms,
                          .fresh = broker_fresh_uuid(b)};
    effects_init(&fx, a);
    if (topics_decide_make(b->core->topics, &asker, STR(OFFSETS_TOPIC), OFFSETS_PARTITIONS, true,
                           &fx) == KERR_NONE)
        broker_commit(b, &fx);
    commit_scratch_done(b, a);
}

static void append_batch(struct offsets_topic *o, const struct topic *t, int32_t partition,
                         struct bytes batch)
{
    struct partition *p = partitions_get(o->broker->partitions, t->id, partition);
    if (!p) {
        o->has_failed = true;
        return;
    }
    struct pending *n = calloc(1, sizeof *n);
    CHECK(n);
    n->owner = o;
    buf_add(&n->bytes, batch.ptr, batch.len);
    CHECK(batch_read((struct bytes){n->bytes.ptr, n->bytes.len}, &n->append.batch) == 0);
    n->append.done = append_done;
    n->append.ctx = n;
    list_init(&n->append.node);
    list_append(&o->pending, &n->node);
    o->n_pending++;
    partition_append(p, &n->append);
}

uint64_t offsets_topic_due_ms(const struct offsets_topic *o)
{
    bool has_work = o && offsets_projection_has_news(o->projection) && o->n_pending < APPENDS_MAX;
    return has_work ? o->due_ms : UINT64_MAX;
}

void offsets_topic_step(struct offsets_topic *o, bool at_once)
{
    struct broker *b = o->broker;
    if (!offsets_projection_has_news(o->projection) || (b->now_ms < o->due_ms && !at_once))
        return;
    int32_t partition, n;
    struct bytes batch;
    while (!b->failure && o->n_pending < APPENDS_MAX &&
           offsets_projection_next(o->projection, &partition, &batch, &n)) {
        if (!find_topic(o))
            make_topic(o);
        const struct topic *t = find_topic(o);
        if (t)
            append_batch(o, t, partition, batch);
        else
            o->has_failed = true;
    }
    if (!offsets_projection_has_news(o->projection))
        o->due_ms = b->now_ms + WRITE_EVERY_MS;
}

struct offsets_topic *offsets_topic_new(struct broker *b)
{
    struct offsets_topic *o = calloc(1, sizeof *o);
    CHECK(o);
    o->broker = b;
    o->projection = offsets_projection_new();
    list_init(&o->pending);
    // The projection has to know what there is, also where it need not be written again.
    struct arena *a = arena_new();
    struct effects fx;
    effects_init(&fx, a);
    core_snapshot(b->core, &fx);
    for (const struct effect_record *e = fx.first_record; e; e = e->next)
        offsets_topic_add(o, e->type, e->record);
    arena_free(a);
    const struct topic *t = find_topic(o);
    int32_t partition, n;
    struct bytes batch;
    // What a repair lost of it nothing else would bring back.
    bool is_mended = b->config.repair && b->config.repair->n_places > 0;
    if (!is_mended &&
        offsets_projection_is_current(b->config.disk, b->config.dir, b->start.journal_position))
        while (offsets_projection_next(o->projection, &partition, &batch, &n))
            ;
    else
        for (int32_t i = 0; t && i < t->n_partitions; i++) {
            struct partition *p = partitions_get(b->partitions, t->id, i);
            uint64_t position;
            if (p && partition_log_end(p) > partition_log_start(p))
                (void)partition_delete_records(p, -1, b->wall_ms, &position);
        }
    return o;
}

void offsets_topic_free(struct offsets_topic *o)
{
    if (!o)
        return;
    LIST_EACH (at, &o->pending) {
        struct pending *p = LIST_ITEM(at, struct pending, node);
        partition_cancel(&p->append);
        pending_free(p);
    }
    offsets_projection_free(o->projection);
    free(o);
}

bool offsets_topic_is_whole(const struct offsets_topic *o)
{
    return !o->has_failed && o->n_pending == 0 && !offsets_projection_has_news(o->projection);
}
