#include "broker/partition.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/partition_private.h"

// A recovery reads no more than this of a log, and what is not durable.
#define UNSAVED_MAX_BYTES (16u << 20)

struct uuid partition_topic_id(const struct partition *p)
{
    return p->topic_id;
}

struct str partition_topic(const struct partition *p)
{
    return p->topic;
}

int32_t partition_index(const struct partition *p)
{
    return p->index;
}

int32_t partition_epoch(const struct partition *p)
{
    return log_epoch(p->log);
}

struct log *partition_log(struct partition *p)
{
    return p->log;
}

const struct log *partition_log_const(const struct partition *p)
{
    return p->log;
}

int64_t partition_log_start(const struct partition *p)
{
    return log_start(p->log);
}

int64_t partition_log_end(const struct partition *p)
{
    return log_end(p->log);
}

int64_t partition_high_watermark(const struct partition *p)
{
    return p->high_watermark;
}

const struct partition_settings *partition_settings(const struct partition *p)
{
    return &p->settings;
}

void partition_mark_dirty(struct partition *p)
{
    if (list_is_empty(&p->dirty))
        list_append(&p->set->dirty, &p->dirty);
}

void partition_fail(struct partition *p, int error, const char *what)
{
    char line[400];
    snprintf(line, sizeof line, "%s-%d: %s: %s", p->topic.ptr, p->index, what, strerror(-error));
    p->set->has_failed = true;
    p->set->config.fail(p->set->config.ctx, line);
}

static void say_rebuilt(struct partition *p)
{
    int64_t rebuilt = log_take_rebuilt(p->log);
    if (rebuilt >= 0)
        partitions_say(p->set, true,
                       "%s: the index of segment %020" PRId64 " was damaged or missing,"
                       " made anew",
                       log_dir(p->log), rebuilt);
}

void partition_was_read(struct partition *p, int error)
{
    say_rebuilt(p);
    if (error == -EBADMSG && !p->is_unreadable)
        partitions_say(p->set, true,
                       "%s: is damaged and cannot be read there; tally topic repair, while this "
                       "broker is stopped, keeps what is whole",
                       log_dir(p->log));
    else if (error < 0 && !p->is_unreadable)
        partitions_say(p->set, true, "%s: cannot be read: %s", log_dir(p->log), strerror(-error));
    p->is_unreadable = error < 0;
}

// Watching.

void partition_watch(struct partition *p, struct partition_watch *w)
{
    w->p = p;
    list_append(&p->watches, &w->node);
}

void partition_unwatch(struct partition_watch *w)
{
    if (!w->p)
        return;
    list_remove(&w->node);
    w->p = NULL;
}

void partition_wake_all(struct partition *p)
{
    LIST_EACH (node, &p->watches) {
        struct partition_watch *w = LIST_ITEM(node, struct partition_watch, node);
        w->wake(w);
    }
}

static void update_high_watermark(struct partition *p)
{
    int64_t end = log_end(p->log);
    int64_t hw = p->all_from >= 0 && p->all_from < end ? p->all_from : end;
    if (hw <= p->high_watermark)
        return;
    p->high_watermark = hw;
    partition_wake_all(p);
}

// Appending.

static void append_finish(struct append *a, enum kerr error)
{
    list_remove(&a->node);
    a->state = APPEND_DONE;
    a->error = error;
    a->done(a);
}

void partition_append(struct partition *p, struct append *a)
{
    a->partition = p;
    a->state = APPEND_QUEUED;
    a->error = KERR_NONE;
    a->base_offset = a->end_offset = a->log_append_ms = -1;
    list_append(&p->queued, &a->node);
    partition_mark_dirty(p);
}

void partition_cancel(struct append *a)
{
    if (a->state == APPEND_DONE)
        return;
    if (a->state != APPEND_WAITS_SYNC) // it was not written
        partition_refused(a->partition, &a->batch);
    list_remove(&a->node);
    a->state = APPEND_DONE;
}

static struct producer_batch producer_batch_of(const struct batch *b)
{
    return (struct producer_batch){
        .producer_id = b->producer_id,
        .epoch = b->producer_epoch,
        .first_seq = b->base_sequence,
        .last_seq = producer_seq_add(b->base_sequence, b->last_offset_delta),
        .timestamp_ms = b->max_timestamp,
    };
}

static void wait_for_sync(struct partition *p, struct append *a)
{
    list_remove(&a->node);
    if (a->end_offset <= log_synced(p->log)) {
        append_finish(a, KERR_NONE);
        return;
    }
    a->state = APPEND_WAITS_SYNC;
    list_append(&p->unsynced, &a->node);
}

// A retry of what is in the log: the first try's offset is the answer, and no second copy.
static void answer_duplicate(struct partition *p, struct append *a,
                             const struct producer_batch *first)
{
    a->base_offset = first->base_offset;
    a->end_offset = first->last_offset + 1;
    a->log_append_ms = first->timestamp_ms;
    if (a->is_all)
        wait_for_sync(p, a);
    else
        append_finish(a, KERR_NONE);
}

// Judges the next append against its producer's history. True: it is to be written.
static bool is_fresh(struct partition *p, struct append *a)
{
    if (a->batch.producer_id < 0)
        return true;
    struct producer_batch mine = producer_batch_of(&a->batch), first = {0};
    switch (producer_state_check(log_producers(p->log), &mine, &first)) {
    case PRODUCER_APPEND:
        return true;
    case PRODUCER_DUPLICATE:
        answer_duplicate(p, a, &first);
        return false;
    case PRODUCER_OUT_OF_ORDER:
        append_finish(a, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
        return false;
    case PRODUCER_INVALID_EPOCH:
        append_finish(a, KERR_INVALID_PRODUCER_EPOCH);
        return false;
    }
    UNREACHABLE();
}

static void want_room(struct partition *p)
{
    if (p->reserve_upto == 0 && list_is_empty(&p->wants))
        list_append(&p->set->wants_room, &p->wants);
}

// The same producer's last one in this write.
static const struct append *before(struct append *const *gathered, size_t n, int64_t producer_id)
{
    while (producer_id >= 0 && n-- > 0)
        if (gathered[n]->batch.producer_id == producer_id)
            return gathered[n];
    return NULL;
}

static bool continues(const struct batch *first, const struct batch *next)
{
    int32_t last_seq = producer_seq_add(first->base_sequence, first->last_offset_delta);
    return next->producer_epoch == first->producer_epoch &&
           next->base_sequence == producer_seq_add(last_seq, 1);
}

static void wait_for_room(struct partition *p, struct append *a)
{
    list_remove(&a->node);
    a->state = APPEND_WAITS_ROOM;
    list_append(&p->no_room, &a->node);
    want_room(p);
}

// Takes from the queue what one write can hold. A producer's next batch goes on where the one
// before it in this write ends; else it waits for the next write, to be judged by the state that
// this one leaves. Nothing overtakes what waits for room.
static size_t gather(struct partition *p, struct append **out)
{
    size_t n = 0;
    int64_t records = 0;
    while (n < LOG_APPEND_MAX && !list_is_empty(&p->queued)) {
        struct append *a = LIST_ITEM(p->queued.next, struct append, node);
        const struct append *mine = before(out, n, a->batch.producer_id);
        int64_t count = (int64_t)a->batch.last_offset_delta + 1;
        if (!list_is_empty(&p->no_room)) {
            wait_for_room(p, a);
            continue;
        }
        if (mine && !continues(&mine->batch, &a->batch))
            break;
        if (!mine && !is_fresh(p, a))
            continue;
        if (!log_has_room(p->log, records + count)) {
            wait_for_room(p, a);
            continue;
        }
        list_remove(&a->node);
        records += count;
        out[n++] = a;
    }
    return n;
}

static void finish_written(struct partition *p, struct append *a, const struct log_span *span)
{
    a->base_offset = span->base_offset;
    a->end_offset = span->end_offset;
    if (!a->is_all) {
        append_finish(a, KERR_NONE);
        return;
    }
    if (p->all_from < 0)
        p->all_from = span->base_offset;
    p->all_end = span->end_offset;
    wait_for_sync(p, a);
}

void partition_refused(struct partition *p, const struct batch *b)
{
    struct producer_batch mine = producer_batch_of(b);
    producer_state_refused(log_producers(p->log), &mine);
}

static void refuse(struct partition *p, struct append *a)
{
    partition_refused(p, &a->batch);
    append_finish(a, KERR_KAFKA_STORAGE_ERROR);
}

static void write_queued(struct partition *p, int64_t wall_ms)
{
    struct append *all[LOG_APPEND_MAX];
    struct bytes batches[LOG_APPEND_MAX];
    struct log_span spans[LOG_APPEND_MAX];
    while (!list_is_empty(&p->queued)) {
        size_t n = gather(p, all);
        for (size_t i = 0; i < n; i++)
            batches[i] = all[i]->batch.all;
        int r = 0;
        size_t n_written = 0;
        if (n > 0)
            r = p->set->has_failed ? -EIO
                                   : log_append(p->log, batches, n, wall_ms, spans, &n_written);
        for (size_t i = 0; i < n; i++) {
            if (i < n_written)
                finish_written(p, all[i], &spans[i]);
            else
                refuse(p, all[i]);
        }
        say_rebuilt(p);
        if (r == -EBADMSG)
            partition_was_read(p, r);
        if (r < 0 && !log_is_want(r) && !p->set->has_failed)
            partition_fail(p, r, "append");
    }
}

void partition_flush(struct partition *p, int64_t wall_ms)
{
    write_queued(p, wall_ms);
    if (log_reserve_mark(p->log) > 0 && log_reserve_due(p->log))
        want_room(p);
    partition_want_sync(p);
    update_high_watermark(p);
    if (log_unchecked_bytes(p->log) >= UNSAVED_MAX_BYTES)
        partition_save(p);
    else if (list_is_empty(&p->unsaved) && log_checkpoint_due(p->log))
        list_append(&p->set->unsaved, &p->unsaved);
}

void partition_save(struct partition *p)
{
    list_remove(&p->unsaved);
    if (p->set->has_failed || !log_checkpoint_due(p->log))
        return;
    int r = log_write_checkpoint(p->log);
    if (r < 0 && !log_is_want(r))
        partition_fail(p, r, "checkpoint");
}

static void start_sync(struct partition *p)
{
    p->is_syncing = log_sync_start(p->log, (uint64_t)(uintptr_t)p);
    if (!p->is_syncing)
        return;
    list_remove(&p->syncing);
    list_append(&p->set->syncing, &p->syncing);
    p->set->n_syncing++;
}

// At the end of the pass at the earliest, or when there are fewer.
void partition_want_sync(struct partition *p)
{
    struct partitions *ps = p->set;
    // Where nobody waits any more, since who asked for it has gone, readers still do.
    bool is_wanted = !list_is_empty(&p->unsynced) || p->all_from >= 0;
    bool waits = !p->is_syncing && is_wanted && !ps->has_failed;
    if (waits && list_is_empty(&p->syncing))
        list_append(&ps->sync_wanted, &p->syncing);
}

static void after_sync(struct partition *p)
{
    int64_t synced = log_synced(p->log);
    // Beyond the sync there may be acks=1 batches before the next acks=all one; stopping at the
    // sync's end holds them back until the next sync, and never shows too much.
    p->all_from = p->all_from >= 0 && p->all_end > synced ? synced : -1;
    LIST_EACH (node, &p->unsynced) {
        struct append *a = LIST_ITEM(node, struct append, node);
        if (a->end_offset <= synced)
            append_finish(a, KERR_NONE);
    }
    partition_want_sync(p);
    update_high_watermark(p);
}

void partitions_start_syncs(struct partitions *ps)
{
    while (!ps->holds_syncs && ps->n_syncing < ps->syncs_max && !list_is_empty(&ps->sync_wanted) &&
           !ps->has_failed) {
        struct partition *p = LIST_ITEM(ps->sync_wanted.next, struct partition, syncing);
        list_remove(&p->syncing);
        // It was synced meanwhile, when its files were wanted for others.
        if (log_synced(p->log) == log_end(p->log))
            after_sync(p);
        else
            start_sync(p);
    }
    // Logs that nobody waits for, before files have to be waited for; also while there is input
    // all the time.
    struct log *l;
    while (ps->n_syncing < ps->syncs_max && !ps->has_failed && (l = files_next_dirty(ps->files))) {
        struct partition *p = log_owner(l);
        start_sync(p);
        if (!p->is_syncing)
            break;
    }
}

bool partitions_sync_done(struct partitions *ps, uint64_t cookie, int error)
{
    if (partitions_clean_done(ps, cookie, error))
        return true;
    LIST_EACH (node, &ps->syncing) {
        struct partition *p = LIST_ITEM(node, struct partition, syncing);
        if ((uint64_t)(uintptr_t)p != cookie)
            continue;
        list_remove(&p->syncing);
        p->is_syncing = false;
        ps->n_syncing--;
        int r = log_sync_done(p->log, error);
        if (p->is_dropped)
            partition_free(p);
        else if (r < 0)
            partition_fail(p, r, "sync");
        else
            after_sync(p);
        return true;
    }
    return false;
}

void partition_reserved(struct partition *p)
{
    list_remove(&p->wants);
    log_reserved(p->log, p->reserve_upto);
    p->reserve_upto = 0;
    while (!list_is_empty(&p->no_room)) {
        struct append *a = LIST_ITEM(p->no_room.prev, struct append, node);
        list_remove(&a->node);
        a->state = APPEND_QUEUED;
        list_prepend(&p->queued, &a->node); // what came later comes after it
    }
    partition_mark_dirty(p);
}

// The end of a partition.

static void fail_list(struct list *appends)
{
    while (!list_is_empty(appends))
        append_finish(LIST_ITEM(appends->next, struct append, node),
                      KERR_UNKNOWN_TOPIC_OR_PARTITION);
}

void partition_free(struct partition *p)
{
    list_remove(&p->dirty);
    list_remove(&p->wants);
    list_remove(&p->syncing);
    list_remove(&p->unsaved);
    log_close(p->log);
    free((void *)(uintptr_t)p->topic.ptr);
    free(p);
}

void partition_drop(struct partition *p)
{
    p->is_dropped = true;
    partition_stop_cleaning(p);
    fail_list(&p->queued);
    fail_list(&p->no_room);
    fail_list(&p->unsynced);
    LIST_EACH (node, &p->watches) {
        struct partition_watch *w = LIST_ITEM(node, struct partition_watch, node);
        partition_unwatch(w);
        w->wake(w);
    }
    list_remove(&p->dirty);
    list_remove(&p->wants);
    list_remove(&p->unsaved);
    if (!p->is_syncing)
        partition_free(p);
}

enum kerr partition_delete_records(struct partition *p, int64_t offset, int64_t wall_ms,
                                   uint64_t *ret_position)
{
    if (offset == -1)
        offset = p->high_watermark;
    if (offset < 0 || offset > p->high_watermark)
        return KERR_OFFSET_OUT_OF_RANGE;
    *ret_position = 0;
    if (offset <= log_start(p->log))
        return KERR_NONE;
    struct arena *arena = arena_new();
    struct effects fx;
    effects_init(&fx, arena);
    struct log_start_moved_record *r = effects_record(&fx, &log_start_moved_record_msg);
    r->topic_id = p->topic_id;
    r->partition = p->index;
    r->log_start = offset;
    r->cause = LOG_START_DELETE_RECORDS;
    r->time_ms = wall_ms;
    *ret_position = partitions_commit(p->set, &fx);
    arena_free(arena);
    if (p->set->has_failed)
        return KERR_KAFKA_STORAGE_ERROR;
    log_trim(p->log, offset);
    partition_wake_all(p);
    return KERR_NONE;
}

int64_t partition_gap(const struct partition *p, int64_t from, int64_t to)
{
    const struct topic *t = topics_by_id(p->set->config.topics, p->topic_id);
    if (!t || p->index >= t->n_partitions)
        return 0;
    const struct topic_partition *tp = &t->partitions[p->index];
    // Where the log was compacted both kinds of gap are counted from what is there.
    int64_t compacted = log_gaps_end(p->log);
    int64_t n = log_holes(p->log, from, to < compacted ? to : compacted);
    from = from > compacted ? from : compacted;
    for (int32_t i = tp->n_gaps; i-- > 0 && tp->gaps[i].to > from;) {
        int64_t low = from > tp->gaps[i].from ? from : tp->gaps[i].from;
        int64_t high = to < tp->gaps[i].to ? to : tp->gaps[i].to;
        n += high > low ? high - low : 0;
    }
    return n;
}
