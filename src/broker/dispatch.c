// From a decoded request to its handler, and from a response to the encoded answer.
#include "broker/api/api.h"
#include "broker/internal.h"
#include "wire/frame.h"

#include <inttypes.h>

struct request *request_by_token(struct broker *b, uint64_t token)
{
    return map_get(b->by_token, key_u64(&token));
}

void *request_response(struct request *r)
{
    void *response = arena_alloc(r->arena, kw_size_in_memory(r->api->response));
    kw_init(r->api->response, response);
    return response;
}

static void trace(const struct request *r, const char *way, const struct kw_message *m,
                  const void *message)
{
    struct log_sink *log = r->broker->config.log;
    if (!message || !log_wants(log, LOG_TRACE))
        return;
    struct buf text = {0};
    kw_print(m, r->version, message, &text);
    buf_add(&text, "", 1);
    log_event(log, LOG_TRACE, "connection %" PRIu64 " %s %s v%d %s", r->asker.conn, way,
              r->api->name, r->version, (const char *)text.ptr);
    buf_free(&text);
}

// A commit that is not applied was still sent by its member.
static void tell_dropped_commit(struct broker *b, const struct request *r)
{
    if (r->api->key != API_OFFSET_COMMIT || !r->body)
        return;
    const struct offset_commit_request *q = r->body;
    struct ledger_commit c = {.conn = r->asker.conn,
                              .group = q->group_id,
                              .member = q->member_id,
                              .who = {.principal = r->asker.principal,
                                      .host = r->asker.host,
                                      .client_id = r->asker.client_id,
                                      .software = r->asker.software},
                              .generation = q->generation_id_or_member_epoch};
    for (int32_t i = 0; i < q->n_topics; i++)
        for (int32_t k = 0; k < q->topics[i].n_partitions; k++) {
            const struct topic *t = r->version >= 10
                                        ? topics_by_id(b->core->topics, q->topics[i].topic_id)
                                        : topics_by_name(b->core->topics, q->topics[i].name);
            if (!t)
                continue;
            c.topic_id = t->id;
            c.partition = q->topics[i].partitions[k].partition_index;
            c.offset = q->topics[i].partitions[k].committed_offset;
            ledger_commit_dropped(b->core->ledger, broker_time(b), &c);
        }
}

// What the journal has to keep is refused before it is decided on when there is no room for it: so
// that nothing is half stored, and no member falls out of its group. Kafka answers a commit that
// its log cannot take in the same way; a client tries again.
static bool is_refused_for_room(struct broker *b, struct request *r)
{
    uint64_t spare = r->api->key == API_OFFSET_COMMIT ? COMMIT_SPARE_BYTES
                     : r->api->key == API_JOIN_GROUP  ? JOIN_SPARE_BYTES
                                                      : 0;
    // A record is smaller than what was asked for, but for the names it repeats.
    if (spare == 0 || journal_has_room(b->journal, 4 * r->body_bytes + spare))
        return false;
    tell_dropped_commit(b, r);
    request_reply(r, request_error_response(r, KERR_NOT_COORDINATOR));
    return true;
}

static void handle(struct broker *b, struct request *r)
{
    r->stage = REQUEST_WORKING;
    if (is_refused_for_room(b, r))
        return;
    log_event(b->config.log, LOG_DEBUG, "connection %" PRIu64 ": %s v%d", r->asker.conn,
              r->api->name, r->version);
    trace(r, "asks", r->api->request, r->body);
    api_find(r->api->key)(r);
}

void dispatch(struct broker *b, struct request *r)
{
    enum kerr code = KERR_UNKNOWN_SERVER_ERROR;
    enum tap_act act = TAP_PASS;
    if (b->tap.on_request && r->body)
        act = b->tap.on_request(b->tap.user, r, &code);
    switch (act) {
    case TAP_PASS:
        handle(b, r);
        return;
    case TAP_HOLD:
        r->stage = REQUEST_TAPPED;
        return;
    case TAP_FAIL:
        tell_dropped_commit(b, r);
        request_reply(r, request_error_response(r, code));
        return;
    case TAP_DROP:
        tell_dropped_commit(b, r);
        net_close(b->config.net, r->asker.conn);
        return;
    default:
        UNREACHABLE();
    }
}

// Goes on with what the tap held.
void dispatch_tapped(struct broker *b, struct request *r)
{
    if (r->stage == REQUEST_TAPPED) {
        r->asker.now_ms = b->now_ms;
        r->asker.wall_ms = b->wall_ms;
        handle(b, r);
    } else if (r->stage == REQUEST_TAPPED_ANSWER) {
        commit_hold(b, r);
    }
}

// True when the answer may go on its way now.
static bool answer_passes(struct broker *b, struct request *r, void **response)
{
    if (!b->tap.on_response || !r->body)
        return true;
    enum kerr code = KERR_UNKNOWN_SERVER_ERROR;
    switch (b->tap.on_response(b->tap.user, r, *response, &code)) {
    case TAP_PASS:
        return true;
    case TAP_HOLD:
        return false;
    case TAP_FAIL:
        *response = request_error_response(r, code);
        return true;
    case TAP_DROP:
        r->drops_answer = true;
        return true;
    default:
        UNREACHABLE();
    }
}

static void encode(struct request *r, void *response)
{
    trace(r, "gets", r->api->response, response);
    kw_out_clear(&r->out);
    frame_write_response(r->api, r->version, r->correlation_id, response, &r->out);
}

// What was decided stands; but to put the answer together would take the memory of everybody else.
static void refuse_answer(struct request *r, void *response)
{
    if (r->on_leave)
        r->on_leave(r, response, 0);
    r->on_leave = NULL;
    request_fail(r, "its answer takes more than %zu bytes", ANSWER_MAX_BYTES);
}

static void answer(struct request *r, void *response, uint64_t position)
{
    struct broker *b = r->broker;
    CHECK(r->stage == REQUEST_WORKING);
    heap_cancel(&b->timers, &r->timer);
    // What a report holds is bounded by what the ledger keeps.
    if (arena_used(r->arena) > ANSWER_MAX_BYTES && !r->api->is_private) {
        refuse_answer(r, response);
        return;
    }
    bool passes = answer_passes(b, r, &response);
    encode(r, response);
    r->response = response;
    r->position = position;
    list_remove(&r->node);
    if (passes)
        commit_hold(b, r);
    else
        r->stage = REQUEST_TAPPED_ANSWER;
}

void request_reply(struct request *r, void *response)
{
    answer(r, response, journal_position(r->broker->journal));
}

void request_reply_now(struct request *r, void *response)
{
    answer(r, response, 0);
}

void request_no_reply(struct request *r)
{
    r->has_no_answer = true;
    channel_send(r->broker, r);
}

void request_wait(struct request *r, uint64_t due_ms)
{
    struct broker *b = r->broker;
    CHECK(r->stage == REQUEST_WORKING);
    heap_cancel(&b->timers, &r->timer);
    list_remove(&r->node);
    if (due_ms > b->now_ms)
        heap_set(&b->timers, &r->timer, due_ms);
    else if (due_ms > 0)
        list_append(&b->woken, &r->node);
}

void dispatch_fire_woken(struct broker *b)
{
    // One round: what wakes itself again waits for the next step.
    struct list now;
    list_init(&now);
    while (!list_is_empty(&b->woken)) {
        struct list *first = b->woken.next;
        list_remove(first);
        list_append(&now, first);
    }
    while (!list_is_empty(&now)) {
        struct request *r = LIST_ITEM(now.next, struct request, node);
        list_remove(&r->node);
        r->on_due(r);
    }
}

void dispatch_fire_timers(struct broker *b)
{
    for (struct timer *t; (t = heap_pop_due(&b->timers, b->now_ms));) {
        struct request *r = LIST_ITEM(t, struct request, timer);
        CHECK(r->on_due);
        r->on_due(r);
    }
}
