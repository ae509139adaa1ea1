// Decisions become durable here, and answers wait here until they may leave.
#include "broker/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bug.h"

// What the ledger writes is cut into batches of about this size.
#define LEDGER_BATCH_BYTES ((size_t)4 << 20)

// What is decided without a request (timers, the ledger) uses one arena, which two decisions
// never share: a decision can lead to another while it is committed.
struct arena *commit_scratch(struct broker *b)
{
    if (b->scratch_in_use)
        return arena_new();
    b->scratch_in_use = true;
    return b->scratch;
}

void commit_scratch_done(struct broker *b, struct arena *a)
{
    if (a != b->scratch) {
        arena_free(a);
        return;
    }
    arena_reset(a);
    b->scratch_in_use = false;
}

// The commits of a drill's consumers, one event a partition.
static void tell_tap_of_commits(struct broker *b, const struct request *r, const void *response)
{
    if (!b->tap.on_event || r->api->key != API_OFFSET_COMMIT || !r->body)
        return;
    const struct offset_commit_request *q = r->body;
    const struct offset_commit_response *p = response;
    for (int32_t i = 0; i < p->n_topics && i < q->n_topics; i++)
        for (int32_t k = 0; k < p->topics[i].n_partitions; k++) {
            if (k >= q->topics[i].n_partitions)
                break;
            const struct topic *t = r->version >= 10
                                        ? topics_by_id(b->core->topics, q->topics[i].topic_id)
                                        : topics_by_name(b->core->topics, q->topics[i].name);
            struct tap_event e = {
                .kind = TAP_COMMIT,
                .conn = r->asker.conn,
                .listener = r->channel->peer.listener,
                .group = q->group_id,
                .member = q->member_id,
                .client_id = r->asker.client_id,
                .topic = t ? t->name : q->topics[i].name,
                .partition = q->topics[i].partitions[k].partition_index,
                .offset = q->topics[i].partitions[k].committed_offset,
                .code = (enum kerr)p->topics[i].partitions[k].error_code,
            };
            if (t)
                e.topic_id = t->id;
            b->tap.on_event(b->tap.user, &e);
        }
}

static void apply_all(struct broker *b, const struct effect_record *first,
                      const struct effect_record *end)
{
    bool topics_changed = false;
    uint64_t before = topics_version(b->core->topics) + topics_config_version(b->core->topics);
    for (const struct effect_record *e = first; e != end; e = e->next)
        core_apply(b->core, e->type, e->record);
    for (const struct effect_record *e = first; e != end; e = e->next)
        offsets_topic_add(b->offsets, e->type, e->record);
    uint64_t after = topics_version(b->core->topics) + topics_config_version(b->core->topics);
    topics_changed = before != after;
    if (!topics_changed)
        return;
    int error = partitions_follow(b->partitions, journal_position(b->journal), b->wall_ms);
    if (error)
        broker_fail(b, error, "a partition could not be opened");
}

// Committed offsets are what comes in the greatest numbers, and they touch no file.
static bool is_commits(const struct effect_record *first, const struct effect_record *end)
{
    const struct effect_record *e = first;
    while (e != end && e->type == &offsets_committed_record_msg)
        e = e->next;
    return e == end;
}

// Appends and applies [first, end) as one decision. -E2BIG: nothing was done.
static int append(struct broker *b, const struct effect_record *first,
                  const struct effect_record *end)
{
    uint64_t position = 0;
    int error = 0;
    // One that only reads comes to the same state, and keeps it to itself.
    if (!disk_is_read_only(b->config.disk))
        error = is_commits(first, end) ? journal_append_soon(b->journal, &b->batch, &position)
                                       : journal_append(b->journal, &b->batch, &position);
    journal_batch_clear(&b->batch);
    if (!error)
        apply_all(b, first, end);
    return error;
}

// No client may stop the broker by asking for more at once than the journal takes.
static void refuse_decision(struct broker *b, struct effects *fx)
{
    if (!fx->first_reply)
        broker_fail(b, -E2BIG, "journal: append");
    for (const struct effect_reply *e = fx->first_reply; e; e = e->next) {
        struct request *r = request_by_token(b, e->token);
        if (r)
            request_fail(r, "what it asks for is more than one decision may hold (%u bytes)",
                         JOURNAL_BATCH_MAX_BYTES);
    }
    fx->first_reply = NULL;
}

uint64_t broker_commit(struct broker *b, struct effects *fx)
{
    if (fx->first_record && !b->failure) {
        journal_batch_clear(&b->batch);
        for (const struct effect_record *e = fx->first_record; e; e = e->next)
            journal_batch_add(&b->batch, e->type, e->record);
        int error = append(b, fx->first_record, NULL);
        if (error == -E2BIG)
            refuse_decision(b, fx);
        else if (error)
            broker_fail(b, error, "journal: append");
    }
    // Answers leave after all of them are encoded: what leaves frees its request, which the others
    // may point into. After a failure nothing is applied, so nothing may be answered.
    b->committing++;
    for (const struct effect_reply *e = fx->first_reply; e && !b->failure; e = e->next) {
        struct request *r = request_by_token(b, e->token);
        if (!r)
            continue; // its connection is gone
        tell_tap_of_commits(b, r, e->response);
        request_reply(r, e->response);
    }
    if (--b->committing == 0 && fx->first_reply)
        commit_release(b);
    return journal_position(b->journal);
}

void commit_hold(struct broker *b, struct request *r)
{
    if (bug(BUG_ANSWER_EARLY))
        r->position = 0;
    if (b->committing == 0 && r->position <= journal_synced(b->journal)) {
        channel_send(b, r);
        return;
    }
    r->stage = REQUEST_HELD;
    // In order of position: what a tap held back comes late, all others at the end.
    struct list *before = &b->held;
    while (before->prev != &b->held &&
           LIST_ITEM(before->prev, struct request, node)->position > r->position)
        before = before->prev;
    list_append(before, &r->node);
}

// Its next sign of life comes after this answer only.
static void tell_answered_late(struct broker *b, const struct request *r)
{
    struct core *c = b->core;
    if (r->api->key == API_HEARTBEAT && r->body) {
        const struct heartbeat_request *q = r->body;
        group_answered_late(c, q->group_id, q->member_id, b->now_ms);
    } else if (r->api->key == API_OFFSET_COMMIT && r->body) {
        const struct offset_commit_request *q = r->body;
        group_answered_late(c, q->group_id, q->member_id, b->now_ms);
    } else if (r->api->key == API_SYNC_GROUP && r->body) {
        const struct sync_group_request *q = r->body;
        group_answered_late(c, q->group_id, q->member_id, b->now_ms);
    } else if (r->api->key == API_JOIN_GROUP && r->body) {
        const struct join_group_request *q = r->body;
        group_answered_late(c, q->group_id, q->member_id, b->now_ms);
    }
}

void commit_release(struct broker *b)
{
    uint64_t synced = journal_synced(b->journal);
    LIST_EACH (at, &b->held) {
        struct request *r = LIST_ITEM(at, struct request, node);
        if (r->position > synced)
            return;
        if (b->now_ms - r->asker.now_ms >= STALL_MS)
            tell_answered_late(b, r);
        channel_send(b, r);
    }
}

void commit_sync(struct broker *b)
{
    int error = journal_flush(b->journal);
    if (error)
        broker_fail(b, error, "journal: append");
    else if (journal_sync_start(b->journal, JOURNAL_COOKIE)) {
        b->is_syncing = true;
        b->sync_began_ms = b->now_ms;
    }
}

// Each record of the ledger says the whole of its thing, so they need not be one batch; and
// together they know no bound.
static void append_in_parts(struct broker *b, const struct effect_record *first)
{
    journal_batch_clear(&b->batch);
    for (const struct effect_record *e = first; e && !b->failure; e = e->next) {
        journal_batch_add(&b->batch, e->type, e->record);
        if (e->next && b->batch.buf.len < LEDGER_BATCH_BYTES)
            continue;
        // On a full disk the rest waits for the next time that all is saved.
        if (!journal_has_room(b->journal, b->batch.buf.len + COMMIT_SPARE_BYTES))
            return;
        int error = append(b, first, e->next);
        if (error)
            broker_fail(b, error, "journal: append");
        first = e->next;
    }
}

bool commit_ledger(struct broker *b, bool save)
{
    if (!journal_has_room(b->journal, COMMIT_SPARE_BYTES))
        return false;
    struct arena *a = commit_scratch(b);
    struct effects fx;
    effects_init(&fx, a);
    if (save)
        ledger_save(b->core->ledger, &fx);
    else
        ledger_emit(b->core->ledger, &fx);
    if (fx.first_record)
        append_in_parts(b, fx.first_record);
    commit_scratch_done(b, a);
    return true;
}

static int write_snapshot(struct journal_snapshot *s, const struct effects *fx)
{
    for (const struct effect_record *e = fx->first_record; e; e = e->next) {
        int error = journal_snapshot_add(s, e->type, e->record);
        if (error) {
            journal_snapshot_abort(s);
            return error;
        }
    }
    return journal_snapshot_commit(s);
}

int commit_snapshot(struct broker *b)
{
    struct journal_snapshot *s = NULL;
    int error = journal_snapshot_begin(b->journal, &s);
    if (error)
        return error;
    struct arena *a = commit_scratch(b);
    struct effects fx;
    effects_init(&fx, a);
    core_snapshot(b->core, &fx);
    error = write_snapshot(s, &fx);
    commit_scratch_done(b, a);
    return error;
}
