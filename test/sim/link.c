// One client connection: frames, correlation ids, delays that keep the order within it.

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "schema.h"
#include "sim.h"
#include "wire/frame.h"

// A round trip on the simulated network takes up to twice this.
#define DELAY_MAX_MS 20
// So long may the broker take for an answer that waits for nobody but the disk and the clock.
#define ANSWER_MAX_MS 20000

struct pending {
    struct list node;
    int32_t correlation_id;
    int16_t api;
    int version;
    link_answer_fn *fn;
    uint64_t arg;
    uint64_t arrives_ms; // at the broker
    bool is_written;     // by the broker
    link_sent_fn *sent;  // NULL: not watched
    void *context;       // owned
};

static void pending_free(struct pending *p)
{
    free(p->context);
    free(p);
}

struct link {
    struct actor *owner; // NULL: its end is gone, and the broker may not have heard of it
    uint64_t serial;     // of this link, in all the broker's lives
    uint64_t conn;       // 0 once closed
    char client_id[32];
    int32_t next_correlation_id;
    struct list pending;
    uint64_t last_out_ms; // when the newest request arrives: order is kept
    uint64_t last_in_ms;
    uint64_t written_ms; // the broker wrote its last answer
    bool is_closed;      // by the broker; its client may not have heard
    uint64_t life;       // of the broker it was opened to
};

static uint64_t ordered_delay(struct sim *s, uint64_t *last_ms)
{
    uint64_t at = s->now_ms + 1 + prng_below(&s->prng, DELAY_MAX_MS);
    if (at <= *last_ms)
        at = *last_ms;
    *last_ms = at;
    return at - s->now_ms;
}

struct link *link_open(struct actor *a, const char *client_id)
{
    struct link *l = calloc(1, sizeof *l);
    CHECK(l);
    l->owner = a;
    list_init(&l->pending);
    strncpy(l->client_id, client_id, sizeof l->client_id - 1);
    l->next_correlation_id = 1;
    l->serial = ++a->sim->next_link;
    map_put(a->sim->all_links, key_u64(&l->serial), l);
    if (a->sim->net) {
        uint16_t port = (uint16_t)(20000 + prng_below(&a->sim->prng, 40000));
        l->conn = net_sim_connect(a->sim->net, a->sim->listener, "127.0.0.1", port);
        l->life = a->sim->n_lives;
        map_put(a->sim->links, key_u64(&l->conn), l);
    }
    return l;
}

static void link_free(struct link *l)
{
    LIST_EACH (at, &l->pending) {
        list_remove(at);
        pending_free(LIST_ITEM(at, struct pending, node));
    }
    free(l);
}

// A callback may close this link and open another: nothing of it is touched after the first one.
static void drop_pending(struct link *l)
{
    struct actor *owner = l->owner;
    struct list mine;
    list_init(&mine);
    LIST_EACH (at, &l->pending) {
        list_remove(at);
        list_append(&mine, at);
    }
    LIST_EACH (at, &mine) {
        struct pending *p = LIST_ITEM(at, struct pending, node);
        p->fn(owner, p->arg, NULL);
        pending_free(p);
    }
}

void link_close(struct link *l)
{
    if (!l)
        return;
    struct sim *s = l->owner->sim;
    map_remove(s->all_links, key_u64(&l->serial));
    if (l->conn && l->life == s->n_lives && s->net) {
        net_sim_cut(s->net, l->conn);
        l->owner = NULL; // what the broker writes until it hears of it is watched
    } else {
        link_free(l);
    }
}

bool link_is_open(const struct link *l)
{
    return l && l->conn != 0;
}

// Connection ids begin anew in each life of the broker: what was sent to an older one is lost.
#define IN_LIFE(life, conn) ((uint64_t)(life) << 32 | (conn))

static void arrive(struct actor *a, uint64_t where, struct bytes frame)
{
    if (a->sim->net && where >> 32 == a->sim->n_lives)
        net_sim_arrive(a->sim->net, where & UINT32_MAX, frame);
}

void link_request(struct link *l, int16_t api, int version, const void *request, link_answer_fn *fn,
                  uint64_t arg)
{
    struct sim *s = l->owner->sim;
    if (!link_is_open(l)) {
        if (fn)
            fn(l->owner, arg, NULL);
        return;
    }
    struct request_header h = {.api_key = api,
                               .api_version = (int16_t)version,
                               .correlation_id = l->next_correlation_id++,
                               .client_id = str_from(l->client_id)};
    struct kw_out out = {0};
    frame_write_request(&h, request, &out);
    uint64_t delay = ordered_delay(s, &l->last_out_ms);
    if (fn) {
        struct pending *p = calloc(1, sizeof *p);
        CHECK(p);
        *p = (struct pending){.correlation_id = h.correlation_id,
                              .api = api,
                              .version = version,
                              .fn = fn,
                              .arg = arg,
                              .arrives_ms = s->now_ms + delay};
        list_append(&l->pending, &p->node);
    }
    // The network is the world's, not the client's: a frame on its way arrives though its sender
    // is paused or dead.
    sim_after(&s->world, delay, arrive, IN_LIFE(l->life, l->conn),
              (struct bytes){out.buf.ptr + 4, out.buf.len - 4});
    kw_out_free(&out);
}

void link_watch(struct link *l, link_sent_fn *fn, const void *context, size_t len)
{
    if (!link_is_open(l))
        return;
    struct pending *p = LIST_ITEM(l->pending.prev, struct pending, node);
    p->sent = fn;
    p->context = malloc(len);
    CHECK(p->context);
    memcpy(p->context, context, len);
}

// Answers are written in the order of their requests: the one that is written next.
static struct pending *next_to_write(const struct link *l)
{
    LIST_EACH (at, &l->pending) {
        struct pending *p = LIST_ITEM(at, struct pending, node);
        if (!p->is_written)
            return p;
    }
    return NULL;
}

// JoinGroup and SyncGroup wait for other members.
static void check_answer(struct sim *s, const struct link *l)
{
    const struct pending *p = next_to_write(l);
    if (!p || l->conn == 0 || l->is_closed || l->life != s->n_lives || p->api == API_JOIN_GROUP ||
        p->api == API_SYNC_GROUP)
        return;
    uint64_t since = p->arrives_ms > l->written_ms ? p->arrives_ms : l->written_ms;
    if (s->now_ms > since + ANSWER_MAX_MS)
        sim_fail(s, "%s: %s of %llu.%03llu s is not answered", l->owner->name, kw_api(p->api)->name,
                 (unsigned long long)(since / 1000), (unsigned long long)(since % 1000));
}

void links_check(struct sim *s)
{
    void *l;
    for (size_t it = 0; map_next(s->all_links, &it, NULL, &l);)
        check_answer(s, l);
}

static void tell_watcher(struct link *l, struct bytes frame)
{
    struct pending *p = next_to_write(l);
    CHECK(p);
    p->is_written = true;
    l->written_ms = l->owner ? l->owner->sim->now_ms : 0;
    if (!p->sent)
        return;
    int32_t correlation_id;
    struct bytes body;
    struct arena *a = arena_new();
    void *response = arena_alloc(a, 1024);
    const char *why;
    if (frame_read_response(frame, kw_api(p->api), p->version, &correlation_id, &body) == 0 &&
        kw_decode(kw_api(p->api)->response, p->version, body, a, response, &why) == 0)
        p->sent(p->context, response);
    arena_free(a);
}

static void take_answer(struct link *l, struct bytes frame)
{
    CHECK(!list_is_empty(&l->pending));
    struct pending *p = LIST_ITEM(l->pending.next, struct pending, node);
    struct sim *s = l->owner->sim;
    const struct kw_api *api = kw_api(p->api);
    int32_t correlation_id = -1;
    struct bytes body;
    struct arena *a = arena_new();
    void *response = arena_alloc(a, 1024); // larger than any generated response struct
    const char *why = "";
    if (frame_read_response(frame, api, p->version, &correlation_id, &body) != 0 ||
        correlation_id != p->correlation_id ||
        kw_decode(api->response, p->version, body, a, response, &why) != 0)
        sim_fail(s, "%s: bad answer to %s v%d: %s", l->owner->name, api->name, p->version, why);
    else {
        list_remove(&p->node);
        struct pending copy = *p;
        pending_free(p);
        copy.fn(l->owner, copy.arg, response);
    }
    arena_free(a);
}

static struct link *link_of(struct sim *s, uint64_t serial)
{
    return map_get(s->all_links, key_u64(&serial));
}

// Runs as an event of the owner, so that a paused process reads its socket when it goes on.
static void read_answer(struct actor *a, uint64_t serial, struct bytes frame)
{
    struct link *l = link_of(a->sim, serial);
    if (l && l->conn != 0)
        take_answer(l, frame);
}

static void read_closed(struct actor *a, uint64_t serial, struct bytes none)
{
    (void)none;
    struct link *l = link_of(a->sim, serial);
    if (!l)
        return;
    l->conn = 0;
    drop_pending(l);
}

// The client's kernel takes the answer whether or not the process runs.
static void kernel_takes(struct actor *world, uint64_t serial, struct bytes frame)
{
    struct sim *s = world->sim;
    struct link *l = link_of(s, serial);
    if (!l || l->conn == 0)
        return;
    uint64_t upto;
    memcpy(&upto, frame.ptr, sizeof upto);
    if (s->net && l->life == s->n_lives)
        net_sim_acked(s->net, l->conn, upto);
    sim_after(l->owner, 0, read_answer, serial,
              (struct bytes){frame.ptr + sizeof upto, frame.len - sizeof upto});
}

void link_on_answer(struct link *l, struct bytes frame, uint64_t upto)
{
    tell_watcher(l, frame);
    if (!l->owner)
        return;
    struct sim *s = l->owner->sim;
    struct buf b = {0};
    buf_add(&b, &upto, sizeof upto);
    buf_add(&b, frame.ptr, frame.len);
    sim_after(&s->world, ordered_delay(s, &l->last_in_ms), kernel_takes, l->serial,
              (struct bytes){b.ptr, b.len});
    buf_free(&b);
}

void link_on_closed(struct link *l)
{
    if (!l->owner) { // only at the end of the broker's life: connections that we cut are not closed
        link_free(l);
        return;
    }
    l->is_closed = true;
    sim_after(l->owner, ordered_delay(l->owner->sim, &l->last_in_ms), read_closed, l->serial,
              (struct bytes){0});
}
