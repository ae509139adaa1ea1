#include "os/net_sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/map.h"
#include "os/disk.h"

struct arrival {
    struct list node;
    struct bytes frame; // owned
};

struct sim_conn {
    struct list node; // in order of connecting
    uint64_t id;
    struct net_peer peer;
    struct list arrivals;
    struct list open; // frames that were given out and are not answered
    unsigned n_open;
    uint64_t sent;
    uint64_t acked;
    bool is_announced; // on_open has run
    bool is_cut;       // the client is gone
    bool eof_was_told; // on_eof has run
    bool is_closing;   // net_close()
};

struct net {
    struct net_limits limits;
    struct net_handler handler;
    struct net_sim_peer peer;
    struct list conns;
    struct map *by_id;
    uint64_t next_conn;
    int next_listener;
    uint16_t next_port;
};

struct net *net_new(const struct net_limits *limits, struct clock *c)
{
    (void)c;
    struct net *n = calloc(1, sizeof *n);
    CHECK(n);
    n->limits = *limits;
    list_init(&n->conns);
    n->by_id = map_new();
    n->next_conn = 1;
    n->next_listener = 1;
    n->next_port = 9092;
    return n;
}

static void arrival_free(struct arrival *a)
{
    free((void *)(uintptr_t)a->frame.ptr);
    free(a);
}

static void conn_free(struct net *n, struct sim_conn *c)
{
    LIST_EACH (at, &c->arrivals)
        arrival_free(LIST_ITEM(at, struct arrival, node));
    LIST_EACH (at, &c->open)
        arrival_free(LIST_ITEM(at, struct arrival, node));
    list_remove(&c->node);
    map_remove(n->by_id, key_u64(&c->id));
    free(c);
}

void net_free(struct net *n)
{
    if (!n)
        return;
    LIST_EACH (at, &n->conns)
        conn_free(n, LIST_ITEM(at, struct sim_conn, node));
    map_free(n->by_id);
    free(n);
}

void net_set_handler(struct net *n, const struct net_handler *h)
{
    n->handler = *h;
}

void net_sim_set_peer(struct net *n, const struct net_sim_peer *peer)
{
    n->peer = *peer;
}

int net_listen(struct net *n, const char *host, uint16_t port, int *ret_listener,
               uint16_t *ret_port)
{
    (void)host;
    *ret_listener = n->next_listener++;
    *ret_port = port ? port : n->next_port++;
    return 0;
}

void net_unlisten(struct net *n, int listener)
{
    (void)n;
    (void)listener;
}

static struct sim_conn *find(struct net *n, uint64_t conn)
{
    return map_get(n->by_id, key_u64(&conn));
}

uint64_t net_sim_connect(struct net *n, int listener, const char *host, uint16_t port)
{
    struct sim_conn *c = calloc(1, sizeof *c);
    CHECK(c);
    c->id = n->next_conn++;
    snprintf(c->peer.host, sizeof c->peer.host, "%s", host);
    c->peer.port = port;
    c->peer.listener = listener;
    list_init(&c->arrivals);
    list_init(&c->open);
    list_append(&n->conns, &c->node);
    map_put(n->by_id, key_u64(&c->id), c);
    return c->id;
}

void net_sim_arrive(struct net *n, uint64_t conn, struct bytes frame)
{
    struct sim_conn *c = find(n, conn);
    if (!c || c->is_cut)
        return;
    struct arrival *a = malloc(sizeof *a);
    uint8_t *copy = malloc(frame.len + 1);
    CHECK(a && copy);
    memcpy(copy, frame.ptr, frame.len);
    a->frame = (struct bytes){copy, frame.len};
    list_append(&c->arrivals, &a->node);
}

void net_sim_acked(struct net *n, uint64_t conn, uint64_t upto)
{
    struct sim_conn *c = find(n, conn);
    if (c && upto > c->acked)
        c->acked = upto;
}

void net_sim_cut(struct net *n, uint64_t conn)
{
    struct sim_conn *c = find(n, conn);
    if (c)
        c->is_cut = true;
}

bool net_sim_is_open(struct net *n, uint64_t conn)
{
    struct sim_conn *c = find(n, conn);
    return c && !c->is_cut && !c->is_closing;
}

static void take_open(struct sim_conn *c)
{
    CHECK(c->n_open > 0);
    struct arrival *first = LIST_ITEM(c->open.next, struct arrival, node);
    list_remove(&first->node);
    arrival_free(first);
    c->n_open--;
}

// Puts an answer together as sendfile would: the bytes between the splices, and the files'.
static struct bytes flatten(const struct kw_out *out)
{
    size_t total = kw_out_total(out);
    uint8_t *all = malloc(total + 1);
    CHECK(all);
    size_t from = 0;
    size_t at = 0;
    for (size_t i = 0; i < out->n_splices; i++) {
        const struct kw_splice *s = &out->splices[i];
        memcpy(all + at, out->buf.ptr + from, s->at - from);
        at += s->at - from;
        from = s->at;
        CHECK(disk_pread_all(s->file, all + at, s->len, s->file_pos) == 0);
        at += s->len;
    }
    if (out->buf.len > from)
        memcpy(all + at, out->buf.ptr + from, out->buf.len - from);
    return (struct bytes){all, total};
}

uint64_t net_send(struct net *n, uint64_t conn, struct kw_out *out)
{
    struct sim_conn *c = find(n, conn);
    if (!c || c->is_closing) {
        kw_out_clear(out);
        return 0;
    }
    struct bytes frame = flatten(out);
    kw_out_clear(out);
    c->sent += frame.len;
    take_open(c);
    if (n->peer.on_answer)
        n->peer.on_answer(n->peer.user, conn, (struct bytes){frame.ptr + 4, frame.len - 4},
                          c->sent);
    free((void *)(uintptr_t)frame.ptr);
    return c->sent;
}

uint64_t net_send_soon(struct net *n, uint64_t conn, struct kw_out *out)
{
    return net_send(n, conn, out);
}

void net_skip(struct net *n, uint64_t conn)
{
    struct sim_conn *c = find(n, conn);
    if (c && !c->is_closing)
        take_open(c);
}

void net_close(struct net *n, uint64_t conn)
{
    struct sim_conn *c = find(n, conn);
    if (c)
        c->is_closing = true;
}

void net_close_after_send(struct net *n, uint64_t conn)
{
    net_close(n, conn); // an answer is wholly written as soon as it is given
}

uint64_t net_queued(struct net *n, uint64_t conn)
{
    struct sim_conn *c = find(n, conn);
    return c ? c->sent : 0;
}

bool net_is_sending(struct net *n, uint64_t conn)
{
    (void)n;
    (void)conn;
    return false;
}

size_t net_connections(const struct net *n)
{
    return map_count(n->by_id);
}

static void end_conn(struct net *n, struct sim_conn *c)
{
    struct net_end end = {
        .reason = c->is_closing ? NET_CLOSED_BY_US : NET_CLOSED_BY_PEER,
        .sent_bytes = c->sent,
        .acked_bytes = c->acked,
    };
    uint64_t id = c->id;
    bool was_announced = c->is_announced;
    bool tell_peer = c->is_closing && !c->is_cut;
    conn_free(n, c);
    if (was_announced)
        n->handler.on_close(n->handler.user, id, &end);
    if (tell_peer && n->peer.on_closed)
        n->peer.on_closed(n->peer.user, id);
}

// As far as they are taken. What arrives while others are open may join them: more than the real
// one does, so that more is tried.
static bool give_frames(struct net *n, struct sim_conn *c)
{
    bool any = false;
    enum net_taken taken = NET_TAKEN_MORE;
    while (taken == NET_TAKEN_MORE && !c->is_closing && c->n_open < NET_OPEN_MAX &&
           !list_is_empty(&c->arrivals)) {
        struct arrival *a = LIST_ITEM(c->arrivals.next, struct arrival, node);
        list_remove(&a->node);
        list_append(&c->open, &a->node);
        c->n_open++;
        taken = n->handler.on_frame(n->handler.user, c->id, a->frame);
        if (taken == NET_NOT_YET) {
            list_remove(&a->node);
            list_prepend(&c->arrivals, &a->node);
            CHECK(--c->n_open > 0);
        } else {
            any = true;
        }
    }
    return any;
}

// Does the next thing this connection has to tell; false when there is none.
static bool step_conn(struct net *n, struct sim_conn *c)
{
    if (!c->is_announced) {
        c->is_announced = true;
        if (!n->handler.on_open(n->handler.user, c->id, &c->peer)) {
            c->is_announced = false;
            c->is_closing = true;
        }
        return true;
    }
    if (c->is_closing) {
        end_conn(n, c);
        return true;
    }
    if (give_frames(n, c))
        return true;
    if (c->is_cut && c->n_open == 0) {
        end_conn(n, c);
        return true;
    }
    if (c->is_cut && !c->eof_was_told) {
        c->eof_was_told = true;
        n->handler.on_eof(n->handler.user, c->id);
        return true;
    }
    return false;
}

int net_run_once(struct net *n, int timeout_ms)
{
    (void)timeout_ms;
    int handled = 0;
    LIST_EACH (at, &n->conns)
        if (step_conn(n, LIST_ITEM(at, struct sim_conn, node)))
            handled++;
    return handled;
}

bool net_went_round(struct net *n)
{
    (void)n;
    return true;
}

int net_watch(struct net *n, int fd, uint32_t events, net_watch_fn *fn, void *arg)
{
    (void)n;
    (void)fd;
    (void)events;
    (void)fn;
    (void)arg;
    return -ENOSYS;
}

void net_unwatch(struct net *n, int fd)
{
    (void)n;
    (void)fd;
}
