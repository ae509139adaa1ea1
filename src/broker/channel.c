// Connections: frames in, answers out, and what the ledger must know of both.
#include "broker/api/api.h"
#include "broker/internal.h"
#include "wire/frame.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Decoded requests that wait (for data, members, the disk) and their answers, of all connections.
#define WAITING_MAX_BYTES ((size_t)256 << 20)
// What an ordinary request takes: those may wait however much the others take.
#define WAITING_SMALL_BYTES ((size_t)64 << 10)

// Of those that an answer consists of, when one cannot be read.
#define LOGS_NAMED_MAX 4

struct channel *channel_find(struct broker *b, uint64_t id)
{
    return map_get(b->by_conn, key_u64(&id));
}

static struct listener_address *listener_of(struct broker *b, int listener)
{
    LIST_EACH (at, &b->listeners) {
        struct listener_address *l = LIST_ITEM(at, struct listener_address, node);
        if (l->listener == listener)
            return l;
    }
    return NULL;
}

static void tell_tap(struct broker *b, const struct channel *c, enum tap_event_kind kind)
{
    if (!b->tap.on_event)
        return;
    struct tap_event e = {.kind = kind,
                          .conn = c->id,
                          .listener = c->peer.listener,
                          .client_id = str_from(c->client_id)};
    b->tap.on_event(b->tap.user, &e);
}

static bool on_open(void *user, uint64_t id, const struct net_peer *peer)
{
    struct broker *b = user;
    if (b->phase != PHASE_RUNNING)
        return false;
    struct channel *c = calloc(1, sizeof *c);
    CHECK(c);
    c->id = id;
    c->peer = *peer;
    snprintf(c->host, sizeof c->host, "/%s", peer->host);
    c->client_id = str_dup(STR_EMPTY);
    c->software = str_dup(STR_EMPTY);
    struct listener_address *l = listener_of(b, peer->listener);
    c->instance = l ? l->instance : "";
    list_init(&c->asking);
    list_append(&b->conns, &c->node);
    map_put(b->by_conn, key_u64(&id), c);
    log_event(b->config.log, LOG_DEBUG, "connection %" PRIu64 " from %s:%u opened", id, peer->host,
              peer->port);
    tell_tap(b, c, TAP_CONN_OPEN);
    return true;
}

static void conn_drop(struct broker *b, struct channel *c, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void conn_drop(struct broker *b, struct channel *c, const char *format, ...)
{
    if (c->is_dropped)
        return;
    c->is_dropped = true;
    char why[512];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    log_event(b->config.log, LOG_WARN, "connection %" PRIu64 " from %s:%u closed: %s", c->id,
              c->peer.host, c->peer.port, why);
    // What was answered before is still the client's.
    net_close_after_send(b->config.net, c->id);
}

static struct request *first_asking(const struct channel *c)
{
    return list_is_empty(&c->asking) ? NULL : LIST_ITEM(c->asking.next, struct request, line);
}

void request_fail(struct request *r, const char *format, ...)
{
    char why[480];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    struct channel *c = r->channel;
    if (r == first_asking(c)) {
        conn_drop(r->broker, c, "%s v%d: %s", r->api->name, r->version, why);
        return;
    }
    // Those before it get their answers.
    r->failure = arena_printf(r->arena, "%s", why);
    channel_send(r->broker, r);
}

// The ledger learns of a connection with its first request, and again when it turns out to be
// somebody else's.
void channel_identify(struct broker *b, struct channel *c)
{
    c->is_known = true;
    struct ledger_identity who = {.principal = STR("User:ANONYMOUS"),
                                  .host = str_from(c->host),
                                  .client_id = str_from(c->client_id),
                                  .software = str_from(c->software)};
    ledger_conn_opened(b->core->ledger, broker_time(b), c->id, &who, str_from(c->instance));
}

void channel_set_software(struct broker *b, struct channel *c, struct str name, struct str version)
{
    struct buf text = {0};
    buf_printf(&text, "%.*s %.*s", STR_FMT(name), STR_FMT(version));
    struct str now = {(const char *)text.ptr, (int32_t)text.len};
    if (!str_eq(now, str_from(c->software))) {
        free(c->software);
        c->software = str_dup(now);
        channel_identify(b, c);
    }
    buf_free(&text);
}

static void take_client_id(struct broker *b, struct channel *c, struct str client_id)
{
    if (c->is_known && str_eq(client_id, str_from(c->client_id)))
        return;
    free(c->client_id);
    c->client_id = str_dup(client_id);
    channel_identify(b, c);
}

static struct request *request_begin(struct broker *b, struct channel *c,
                                     const struct request_header *h, const struct kw_api *api)
{
    struct arena *arena = b->n_spare_arenas ? b->spare_arenas[--b->n_spare_arenas] : arena_new();
    struct request *r = arena_alloc(arena, sizeof *r);
    *r = (struct request){
        .broker = b, .channel = c, .api = api, .version = h->api_version, .arena = arena};
    r->correlation_id = h->correlation_id;
    list_init(&r->node);
    r->stage = REQUEST_WORKING;
    r->asker = (struct asker){.token = b->next_token++,
                              .conn = c->id,
                              .version = h->api_version,
                              .client_id = str_from(c->client_id),
                              .host = str_from(c->host),
                              .principal = STR("User:ANONYMOUS"),
                              .software = str_from(c->software),
                              .now_ms = b->now_ms,
                              .wall_ms = b->wall_ms,
                              .fresh = broker_fresh_uuid(b)};
    list_append(&c->asking, &r->line);
    map_put(b->by_token, key_u64(&r->asker.token), r);
    return r;
}

// It stands in its own arena.
static void request_free(struct broker *b, struct request *r)
{
    b->waiting_bytes -= r->waiting_bytes;
    map_remove(b->by_token, key_u64(&r->asker.token));
    list_remove(&r->node);
    heap_cancel(&b->timers, &r->timer);
    kw_out_free(&r->out);
    list_remove(&r->line);
    // A request that needed much leaves little behind: arena_reset keeps the first block.
    struct arena *arena = r->arena;
    arena_reset(arena);
    if (b->n_spare_arenas < ARENAS_SPARE_MAX)
        b->spare_arenas[b->n_spare_arenas++] = arena;
    else
        arena_free(arena);
}

// An unknown api or version cannot be answered, but for ApiVersions: its answer in version 0 says
// which versions there are.
static struct request *refuse_or_begin(struct broker *b, struct channel *c,
                                       struct request_header *h)
{
    const struct kw_api *api = kw_api(h->api_key);
    if (api && h->api_key == API_API_VERSIONS) {
        h->api_version = 0;
        return request_begin(b, c, h, api);
    }
    if (!api || !api_find(h->api_key))
        conn_drop(b, c, "api %d is not served", h->api_key);
    else
        conn_drop(b, c, "%s version %d is not served (%d to %d are)", api->name, h->api_version,
                  api->min_version, api->max_version);
    return NULL;
}

// A request that was not answered at once keeps its memory until it is. Those that wait, however
// many, must leave room for the others.
static void bound_waiting(struct broker *b, struct channel *c, uint64_t token)
{
    struct request *r = request_by_token(b, token);
    if (!r || r->api->is_private)
        return;
    r->waiting_bytes = arena_used(r->arena) + r->out.buf.cap;
    b->waiting_bytes += r->waiting_bytes;
    if (b->waiting_bytes > WAITING_MAX_BYTES && r->waiting_bytes > WAITING_SMALL_BYTES)
        conn_drop(b, c, "%s v%d: requests that wait fill the memory set aside for them",
                  r->api->name, r->version);
}

// What is no Produce waits until all before it are answered, and so do those behind it: what they
// do may be seen by each other. So does what ends the connection or changes who it is.
static bool may_follow(const struct broker *b, const struct channel *c,
                       const struct request_header *h)
{
    const struct request *last = LIST_ITEM(c->asking.prev, struct request, line);
    bool is_tapped = last->stage == REQUEST_TAPPED || last->stage == REQUEST_TAPPED_ANSWER;
    return h->api_key == API_PRODUCE && last->api->key == API_PRODUCE && !is_tapped &&
           !last->drops_answer && !last->failure && !c->is_dropped && b->phase == PHASE_RUNNING &&
           str_eq(h->client_id, str_from(c->client_id));
}

// Decodes and dispatches. False: it cannot be read, and others are to be answered before that is
// said.
static bool take_request(struct broker *b, struct channel *c, const struct request_header *h,
                         struct bytes body)
{
    bool is_alone = list_is_empty(&c->asking);
    struct request *r = request_begin(b, c, h, kw_api(h->api_key));
    uint64_t token = r->asker.token;
    r->body_bytes = body.len;
    r->body = arena_alloc(r->arena, kw_size_in_memory(r->api->request));
    const char *why = "";
    struct bytes rest = {0};
    int error = kw_decode_part(r->api->request, r->version, body, r->arena, r->body, &rest, &why);
    if (error) // untouched by what could not be read
        kw_init(r->api->request, r->body);
    if (error && !is_alone) {
        request_free(b, r);
        return false;
    }
    // Apache Kafka takes a request for what it is and drops what stands behind it.
    if (rest.len > 0)
        log_event(b->config.log, LOG_DEBUG, "connection %" PRIu64 ": %s v%d: %zu bytes left over",
                  c->id, r->api->name, r->version, rest.len);
    if (error)
        request_fail(r, "%s", why);
    else
        dispatch(b, r);
    bound_waiting(b, c, token);
    return true;
}

static enum net_taken on_frame(void *user, uint64_t id, struct bytes frame)
{
    struct broker *b = user;
    struct channel *c = channel_find(b, id);
    CHECK(c);
    broker_read_clock(b);
    struct request_header h;
    struct bytes body = {0};
    int error = frame_read_request(frame, &h, &body);
    if (!list_is_empty(&c->asking) && (error || !may_follow(b, c, &h)))
        return NET_NOT_YET;
    if (b->phase != PHASE_RUNNING) {
        net_close(b->config.net, id);
        return NET_TAKEN;
    }
    if (error == -EBADMSG) {
        conn_drop(b, c, "a frame of %zu bytes is no request", frame.len);
        return NET_TAKEN;
    }
    take_client_id(b, c, h.client_id);
    b->has_news = b->was_used = true;
    if (error == -EPROTONOSUPPORT || !api_find(h.api_key)) {
        struct request *r = refuse_or_begin(b, c, &h);
        if (r)
            dispatch(b, r);
        return NET_TAKEN;
    }
    if (!take_request(b, c, &h, body))
        return NET_NOT_YET;
    return h.api_key == API_PRODUCE ? NET_TAKEN_MORE : NET_TAKEN;
}

static void on_eof(void *user, uint64_t id)
{
    struct broker *b = user;
    struct channel *c = channel_find(b, id);
    broker_read_clock(b);
    if (c)
        channel_hurry(c);
}

void channel_hurry(struct channel *c)
{
    struct request *first = first_asking(c); // a Produce does not hurry, and all others are alone
    if (first && first->stage == REQUEST_WORKING && first->on_hurry)
        first->on_hurry(first);
}

// What the last answers came to. An answer that the kernel never took whole cannot be read by a
// client: all of it is taken back. One that the other kernel acknowledged was delivered there.
static void settle_answers(struct broker *b, struct channel *c, const struct net_end *end)
{
    struct ledger *l = b->core->ledger;
    // Answers are numbered by where they end.
    ledger_answer_acked(l, c->id, end->acked_bytes);
    bool was_cut = c->last_end_bytes > end->sent_bytes;
    const struct request *first = first_asking(c);
    if (!was_cut && !first)
        return;
    for (size_t i = 0; was_cut && i < c->n_ranges; i++) {
        const struct sent_range *s = &c->ranges[i];
        ledger_answer_cut(l, c->id, c->last_end_bytes, s->topic_id, s->partition, s->from);
    }
    int16_t api = first ? first->api->key : c->last_api;
    uint64_t token = first ? first->asker.token : c->last_token;
    if (api == API_OFFSET_COMMIT)
        ledger_commit_unanswered(l, broker_time(b), c->id, token);
}

// Which logs the answer was of: one of them is to be looked at.
static void log_unread_file(struct broker *b, const struct channel *c)
{
    struct buf of = {0};
    for (size_t i = 0; i < c->n_ranges && i < LOGS_NAMED_MAX; i++) {
        const struct sent_range *s = &c->ranges[i];
        const struct topic *t = topics_by_id(b->core->topics, s->topic_id);
        buf_printf(&of, "%s%.*s-%" PRId32 " from offset %" PRId64 " on", i ? ", " : "",
                   STR_FMT(t ? t->name : STR_EMPTY), s->partition, s->from);
    }
    if (c->n_ranges > LOGS_NAMED_MAX)
        buf_printf(&of, " and %zu more", c->n_ranges - LOGS_NAMED_MAX);
    log_event(b->config.log, LOG_ERROR,
              "connection %" PRIu64
              " from %s:%u closed: a log that an answer consists of cannot be "
              "read from its disk: %.*s",
              c->id, c->peer.host, c->peer.port, (int)of.len, (const char *)of.ptr);
    buf_free(&of);
}

static void log_close(struct broker *b, const struct channel *c, const struct net_end *end)
{
    struct log_sink *log = b->config.log;
    if (end->reason == NET_CLOSED_BAD_FRAME)
        log_event(log, LOG_WARN,
                  "connection %" PRIu64 " from %s:%u closed: a frame of %" PRId32
                  " bytes is beyond socket.request.max.bytes",
                  c->id, c->peer.host, c->peer.port, end->frame_len);
    else if (end->reason == NET_CLOSED_FILE)
        log_unread_file(b, c);
    else if (end->reason == NET_CLOSED_UNREAD)
        log_event(log, LOG_WARN,
                  "connection %" PRIu64 " from %s:%u closed: answers that are not read fill the "
                  "memory set aside for them",
                  c->id, c->peer.host, c->peer.port);
    else if (end->reason == NET_CLOSED_FULL)
        log_event(log, LOG_WARN,
                  "connection %" PRIu64 " from %s:%u closed: requests that are not complete yet "
                  "fill the memory set aside for them",
                  c->id, c->peer.host, c->peer.port);
    else
        log_event(log, LOG_DEBUG, "connection %" PRIu64 " from %s:%u ended", c->id, c->peer.host,
                  c->peer.port);
}

static void on_close(void *user, uint64_t id, const struct net_end *end)
{
    struct broker *b = user;
    struct channel *c = channel_find(b, id);
    CHECK(c);
    broker_read_clock(b);
    log_close(b, c, end);
    settle_answers(b, c, end);
    LIST_EACH (at, &c->asking)
        channel_abandon(b, LIST_ITEM(at, struct request, line));
    core_conn_closed(b->core, id);
    ledger_conn_closed(b->core->ledger, broker_time(b), id);
    tell_tap(b, c, TAP_CONN_CLOSED);
    map_remove(b->by_conn, key_u64(&id));
    list_remove(&c->node);
    channel_free(c);
}

void channel_free(struct channel *c)
{
    free(c->ranges);
    free(c->client_id);
    free(c->software);
    free(c);
}

static void on_accept_paused(void *user, int error)
{
    struct broker *b = user;
    log_event(b->config.log, LOG_WARN,
              error == -EUSERS ? "accepting pauses: max.connections are open"
                               : "accepting pauses: %s; raise the limit of open files",
              strerror(-error));
}

void channel_handlers(struct broker *b)
{
    struct net_handler h = {.user = b,
                            .on_open = on_open,
                            .on_frame = on_frame,
                            .on_eof = on_eof,
                            .on_close = on_close,
                            .on_accept_paused = on_accept_paused};
    net_set_handler(b->config.net, &h);
}

void channel_abandon(struct broker *b, struct request *r)
{
    if (r->stage == REQUEST_WORKING && r->on_cancel)
        r->on_cancel(r);
    bool is_answered = r->stage == REQUEST_HELD || r->stage == REQUEST_TAPPED_ANSWER;
    if (is_answered && r->on_leave)
        r->on_leave(r, r->response, 0);
    request_free(b, r);
}

static void send_answer(struct broker *b, struct request *r)
{
    struct channel *c = r->channel;
    uint64_t end_bytes = net_queued(b->config.net, c->id) + kw_out_total(&r->out);
    c->n_ranges = 0;
    c->last_end_bytes = end_bytes;
    c->last_api = r->api->key;
    c->last_token = r->asker.token;
    if (r->on_leave)
        r->on_leave(r, r->response, end_bytes);
    struct kw_out out = r->out;
    r->out = (struct kw_out){0};
    bool is_produce = r->api->key == API_PRODUCE;
    request_free(b, r);
    if (is_produce)
        net_send_soon(b->config.net, c->id, &out);
    else
        net_send(b->config.net, c->id, &out);
    kw_out_free(&out);
}

// The first of its connection. False: it stays the first, and nothing behind it is answered.
static bool leave(struct broker *b, struct request *r)
{
    struct channel *c = r->channel;
    if (r->failure) {
        conn_drop(b, c, "%s v%d: %s", r->api->name, r->version, r->failure);
        return false;
    }
    if (r->drops_answer) {
        // An answer that never left.
        r->stage = REQUEST_HELD;
        net_close(b->config.net, c->id);
        return false;
    }
    if (r->has_no_answer) {
        request_free(b, r);
        net_skip(b->config.net, c->id);
    } else {
        send_answer(b, r);
    }
    return true;
}

void channel_send(struct broker *b, struct request *r)
{
    struct channel *c = r->channel;
    r->stage = REQUEST_IN_LINE;
    list_remove(&r->node); // of those that are held
    heap_cancel(&b->timers, &r->timer);
    for (bool is_next = true; is_next;) {
        struct request *first = first_asking(c);
        is_next = first && first->stage == REQUEST_IN_LINE && leave(b, first);
    }
}

void request_sending(struct request *r, struct uuid topic_id, int32_t partition,
                     struct ledger_range range, uint64_t end_bytes)
{
    struct broker *b = r->broker;
    struct channel *c = r->channel;
    ledger_sending(b->core->ledger, broker_time(b), c->id, topic_id, partition, range, end_bytes);
    if (c->n_ranges == c->cap_ranges) {
        c->cap_ranges = c->cap_ranges ? c->cap_ranges * 2 : 8;
        c->ranges = realloc(c->ranges, c->cap_ranges * sizeof *c->ranges);
        CHECK(c->ranges);
    }
    c->ranges[c->n_ranges++] = (struct sent_range){topic_id, partition, range.from};
    if (!b->tap.on_event)
        return;
    // A Fetch by topic id (v13+) names no topic.
    const struct topic *t = topics_by_id(b->core->topics, topic_id);
    struct tap_event e = {.kind = TAP_SENT,
                          .conn = c->id,
                          .listener = c->peer.listener,
                          .client_id = r->asker.client_id,
                          .topic_id = topic_id,
                          .topic = t ? t->name : STR_EMPTY,
                          .partition = partition,
                          .offset = range.from,
                          .end = range.to};
    b->tap.on_event(b->tap.user, &e);
}
