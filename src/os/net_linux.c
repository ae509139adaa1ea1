#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/map.h"
#include "os/clock.h"
#include "os/disk.h"
#include "os/net_private.h"
#include "os/socket.h"

// Accepted in one pass, so that a flood of connections does not hold up those that are open.
#define ACCEPT_MAX 64
#define IDLE_CHECK_MS 1000
#define IDLE_WAIT_MAX_MS 60000
// How long accepting pauses when no descriptor is left and none of ours closes.
#define ACCEPT_PAUSE_MS 1000

static void take_news(struct worker *w, struct stream *s, enum news news);

static uint64_t now_ms(struct net *n)
{
    return clock_now_ms(n->clock);
}

struct net *net_new(const struct net_limits *limits, struct clock *c)
{
    struct net *n = calloc(1, sizeof *n);
    CHECK(n);
    // sendfile() to a closed socket raises it, and has no flag against it.
    signal(SIGPIPE, SIG_IGN);
    n->limits = *limits;
    n->input.max_bytes = limits->max_input_bytes;
    n->output.max_bytes = limits->max_output_bytes;
    n->clock = c;
    n->worker = (struct worker){.epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                                .max_frame_bytes = limits->max_frame_bytes,
                                .input.budget = &n->input,
                                .output = &n->output,
                                .tell = take_news};
    CHECK(n->worker.epoll_fd >= 0);
    n->by_id = map_new();
    struct list *const lists[] = {&n->conns, &n->ready,  &n->corked,    &n->shorts,  &n->leaving,
                                  &n->dying, &n->buried, &n->listeners, &n->watches, &n->gone};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        list_init(lists[i]);
    if (limits->threads > 1) {
        n->threads = threads_new(limits->threads, &n->worker);
        n->worker.input.keeps_none = true;
        n->wake = (struct slot){.kind = SLOT_WAKE, .fd = threads_wake_fd(n->threads)};
        epoll_set(n->worker.epoll_fd, &n->wake, EPOLL_CTL_ADD, EPOLLIN | EPOLLET);
    }
    n->next_conn = 1;
    n->next_listener = 1;
    return n;
}

void net_set_handler(struct net *n, const struct net_handler *h)
{
    n->handler = *h;
}

size_t net_connections(const struct net *n)
{
    return n->n_conns;
}

static struct conn *conn_find(struct net *n, uint64_t id)
{
    return map_get(n->by_id, key_u64(&id));
}

static struct conn *conn_at(struct list *node)
{
    return (struct conn *)(void *)LIST_ITEM(node, struct slot, node);
}

// ---- Orders: what the loop wants of a connection's socket

static bool is_sending(const struct conn *c)
{
    return atomic_load_explicit(&c->s.sent_bytes, memory_order_acquire) != c->handed_bytes;
}

// What was answered and not handed over goes with it.
static void give_order(struct net *n, struct conn *c, unsigned orders)
{
    if (n->threads)
        threads_order(n->threads, &c->s, &c->out, orders);
    else
        stream_order(&n->worker, &c->s, &c->out, orders);
}

static void uncork(struct conn *c)
{
    list_remove(&c->corked);
    c->is_corked = false;
    c->handed_bytes = c->queued_bytes;
}

static void conn_die(struct net *n, struct conn *c, enum net_reason reason)
{
    if (c->is_dying)
        return;
    uncork(c); // these would have left long ago
    c->is_dying = true;
    c->end.reason = reason;
    list_remove(&c->ready);
    list_remove(&c->waiting);
    list_remove(&c->s.slot.node);
    list_append(&n->leaving, &c->s.slot.node);
    map_remove(n->by_id, key_u64(&c->id));
    give_order(n, c, ORDER_CLOSE);
}

// One that holds the most; the first of these.
static struct conn *find_most(struct net *n, struct conn *most,
                              size_t (*of)(const struct stream *s))
{
    LIST_EACH (at, &n->conns) {
        struct conn *c = conn_at(at);
        size_t bytes = of(&c->s);
        if (bytes > (most ? of(&most->s) : 0))
            most = c;
    }
    return most;
}

static size_t held_bytes(const struct stream *s)
{
    return atomic_load_explicit(&s->held_bytes, memory_order_relaxed);
}

static size_t unread_bytes(const struct stream *s)
{
    return atomic_load_explicit(&s->unread_bytes, memory_order_relaxed);
}

// Closes the one that holds the most input; those that wait for room try again when it has ended.
static void input_make_room(struct net *n, struct conn *c)
{
    list_append(&n->shorts, &c->waiting);
    c->has_input = true;
    if (n->n_full > 0)
        return;
    n->n_full++;
    conn_die(n, find_most(n, c, held_bytes), NET_CLOSED_FULL);
}

static void input_made_room(struct net *n, struct conn *full)
{
    n->n_full--;
    // A frame that is being worked on must stay until on_close().
    if (full->n_open > 0)
        input_write_off(&n->worker.input, &full->s.in);
    else
        input_free(&n->worker.input, &full->s.in);
    while (!list_is_empty(&n->shorts)) {
        struct conn *c = LIST_ITEM(n->shorts.next, struct conn, waiting);
        list_remove(&c->waiting);
        c->has_input = false;
        give_order(n, c, ORDER_READ);
    }
}

// Closes those whose answers take the most until there is room. Never in the middle of something
// else that is done to a connection, or to all of them.
static void output_make_room(struct net *n)
{
    if (!n->is_crowded)
        return;
    n->is_crowded = false;
    while (budget_bytes(&n->output) > n->output.max_bytes + n->condemned_bytes) {
        struct conn *most = find_most(n, NULL, unread_bytes);
        if (!most)
            return;
        most->condemned_bytes = unread_bytes(&most->s);
        n->condemned_bytes += most->condemned_bytes;
        conn_die(n, most, NET_CLOSED_UNREAD);
    }
}

// ---- What a connection waits for

static bool has_good_frame(const struct net *n, const struct conn *c)
{
    return c->has_input && input_has_frame(&c->s.in) &&
           input_frame_size(&c->s.in) - 4 <= n->limits.max_frame_bytes;
}

static bool can_give(const struct net *n, const struct conn *c)
{
    return c->n_open < NET_OPEN_MAX && !c->is_dying && !c->closes_after_send &&
           has_good_frame(n, c) && !is_sending(c);
}

// Another frame may come now.
static void conn_next(struct net *n, struct conn *c)
{
    if (c->is_dying || !c->has_input)
        return;
    bool sends = is_sending(c); // looked at once: a thread may be done with it at any time
    if (!has_good_frame(n, c)) {
        // One that waits for room is told when there is some.
        if (c->n_open == 0 && !c->is_corked && list_is_empty(&c->waiting)) {
            c->has_input = false;
            give_order(n, c, ORDER_READ);
        }
    } else if (sends && !c->asked_to_tell) {
        c->asked_to_tell = true;
        give_order(n, c, ORDER_TELL);
    } else if (!sends && can_give(n, c) && list_is_empty(&c->ready)) {
        list_append(&n->ready, &c->ready);
    }
}

static void hand_over(struct net *n, struct conn *c)
{
    uncork(c);
    bool is_last = c->has_input && c->n_open == 0 && !has_good_frame(n, c);
    if (is_last)
        c->has_input = false;
    give_order(n, c, is_last ? ORDER_READ : 0);
    if (!is_last)
        conn_next(n, c);
}

static uint64_t send_out(struct net *n, struct conn *c, struct kw_out *out, bool may_wait)
{
    if (!c)
        return kw_out_clear(out), 0;
    CHECK(c->n_open > 0);
    for (size_t i = 0; i < out->n_splices; i++)
        disk_file_ref(out->splices[i].file);
    c->queued_bytes += kw_out_total(out);
    budget_add(&n->output, out->buf.cap);
    out_move(&n->output, &c->out, out);
    c->n_open--;
    input_take(&c->s.in);
    uint64_t end = c->queued_bytes;
    if (may_wait && !is_sending(c) && (c->n_open > 0 || input_has_frame(&c->s.in))) {
        c->is_corked = true;
        if (list_is_empty(&c->corked))
            list_append(&n->corked, &c->corked);
        conn_next(n, c);
    } else {
        hand_over(n, c);
        output_make_room(n);
    }
    return end;
}

uint64_t net_send(struct net *n, uint64_t id, struct kw_out *out)
{
    return send_out(n, conn_find(n, id), out, false);
}

uint64_t net_send_soon(struct net *n, uint64_t id, struct kw_out *out)
{
    return send_out(n, conn_find(n, id), out, true);
}

static void flush_corked(struct net *n)
{
    while (!list_is_empty(&n->corked))
        hand_over(n, LIST_ITEM(n->corked.next, struct conn, corked));
    output_make_room(n);
}

void net_skip(struct net *n, uint64_t id)
{
    struct conn *c = conn_find(n, id);
    if (!c)
        return;
    CHECK(c->n_open > 0);
    c->n_open--;
    input_take(&c->s.in);
    conn_next(n, c);
}

void net_close(struct net *n, uint64_t id)
{
    struct conn *c = conn_find(n, id);
    if (c)
        conn_die(n, c, NET_CLOSED_BY_US);
}

void net_close_after_send(struct net *n, uint64_t id)
{
    struct conn *c = conn_find(n, id);
    if (c && is_sending(c)) {
        c->closes_after_send = true;
        list_remove(&c->ready);
        give_order(n, c, ORDER_FINISH);
    } else if (c) { // sends what is corked
        conn_die(n, c, NET_CLOSED_BY_US);
    }
}

uint64_t net_queued(struct net *n, uint64_t id)
{
    const struct conn *c = conn_find(n, id);
    return c ? c->queued_bytes : 0;
}

bool net_is_sending(struct net *n, uint64_t id)
{
    struct conn *c = conn_find(n, id);
    if (!c || !is_sending(c))
        return c && c->is_corked;
    if (n->threads && !c->asked_to_tell) { // so that a pass follows when it is
        c->asked_to_tell = true;
        give_order(n, c, ORDER_TELL);
    }
    return true;
}

// ---- News of a connection's socket

// Once for each request that is being worked on.
static void tell_eof(struct net *n, struct conn *c)
{
    if (!c->at_eof || c->n_open == 0 || c->was_told_eof || c->is_dying)
        return;
    c->was_told_eof = true;
    n->handler.on_eof(n->handler.user, c->id);
}

static void conn_ended(struct net *n, struct conn *c)
{
    c->has_ended = true;
    conn_die(n, c, c->s.end_reason);
    list_remove(&c->s.slot.node);
    list_append(&n->dying, &c->s.slot.node);
    n->condemned_bytes -= c->condemned_bytes;
    if (c->end.reason == NET_CLOSED_BAD_FRAME)
        c->end.frame_len = c->s.end_frame_len;
    if (c->end.reason == NET_CLOSED_FULL)
        input_made_room(n, c);
}

static void hear(struct net *n, struct conn *c, enum news news)
{
    switch (news) {
    case NEWS_FRAMES:
        c->has_input = true;
        if (!c->is_dying && list_is_empty(&c->ready))
            list_append(&n->ready, &c->ready);
        break;
    case NEWS_SHORT:
        if (!c->is_dying)
            input_make_room(n, c);
        break;
    case NEWS_EOF:
        c->at_eof = true;
        tell_eof(n, c);
        break;
    case NEWS_SENT:
        c->asked_to_tell = false;
        conn_next(n, c);
        break;
    case NEWS_CROWDED:
        n->is_crowded = true;
        break;
    case NEWS_ENDED:
        conn_ended(n, c);
        break;
    case NEWS_GONE:
        c->is_gone = true;
        break;
    }
}

static void take_news(struct worker *w, struct stream *s, enum news news)
{
    struct net *n = (struct net *)(void *)w;
    hear(n, (struct conn *)(void *)s, news);
}

static void take_letter(void *arg, struct stream *s, enum news news)
{
    hear(arg, (struct conn *)(void *)s, news);
}

// ---- Opening and closing

static void conn_open(struct net *n, const struct listener *l, int fd,
                      const struct sockaddr_storage *from)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    struct conn *c = calloc(1, sizeof *c);
    CHECK(c);
    c->s.slot = (struct slot){.kind = SLOT_CONN, .fd = fd};
    list_init(&c->ready);
    list_init(&c->waiting);
    list_init(&c->corked);
    c->id = n->next_conn++;
    socket_peer(&c->peer, from, &c->peer.port);
    c->peer.listener = l->id;
    c->peer.local_port = socket_local_port(fd);
    c->active_ms = now_ms(n);
    if (!n->handler.on_open(n->handler.user, c->id, &c->peer)) {
        close(fd);
        free(c);
        return;
    }
    list_append(&n->conns, &c->s.slot.node);
    map_put(n->by_id, key_u64(&c->id), c);
    n->n_conns++;
    if (n->threads)
        threads_adopt(n->threads, &c->s);
    give_order(n, c, ORDER_OPEN);
}

static void pause_accepting(struct net *n, bool on)
{
    n->is_paused = on;
    n->resume_ms = on ? now_ms(n) + ACCEPT_PAUSE_MS : 0;
    LIST_EACH (at, &n->listeners) {
        struct slot *s = LIST_ITEM(at, struct slot, node);
        epoll_set(n->worker.epoll_fd, s, EPOLL_CTL_MOD, on ? 0 : EPOLLIN);
    }
}

static void listener_accept(struct net *n, struct listener *l)
{
    for (int i = 0; i < ACCEPT_MAX && l->slot.fd >= 0; i++) {
        if (n->n_conns >= n->limits.max_connections) {
            pause_accepting(n, true);
            n->handler.on_accept_paused(n->handler.user, -EUSERS);
            return;
        }
        struct sockaddr_storage from = {0};
        socklen_t len = sizeof from;
        int fd = accept4(l->slot.fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            conn_open(n, l, fd, &from);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            int error = -errno;
            pause_accepting(n, true);
            n->handler.on_accept_paused(n->handler.user, error);
            return;
        } else if (errno == EAGAIN) {
            return;
        } // anything else concerns that one connection, which has gone already
    }
}

static void conn_reap(struct net *n, struct conn *c)
{
    int fd = c->s.slot.fd;
    c->end.sent_bytes = atomic_load_explicit(&c->s.sent_bytes, memory_order_acquire);
    c->end.acked_bytes = socket_acked_bytes(fd, c->end.sent_bytes);
    n->n_conns--;
    n->handler.on_close(n->handler.user, c->id, &c->end);
    close(fd);
    c->s.slot.fd = -1;
    input_free(&n->worker.input, &c->s.in);
    list_append(&n->buried, &c->s.slot.node);
}

static int reap_dying(struct net *n)
{
    int count = 0;
    while (!list_is_empty(&n->dying)) {
        struct conn *c = conn_at(n->dying.next);
        list_remove(&c->s.slot.node);
        conn_reap(n, c);
        count++;
    }
    if (count > 0 && n->is_paused)
        pause_accepting(n, false);
    return count;
}

static void free_gone(struct net *n)
{
    if (list_is_empty(&n->buried) && list_is_empty(&n->gone))
        return;
    LIST_EACH (at, &n->buried) {
        struct conn *c = conn_at(at);
        if (!c->is_gone)
            continue;
        if (n->threads)
            threads_forget(n->threads, &c->s);
        out_free(&n->output, &c->out, 0);
        list_remove(at);
        list_append(&n->gone, at);
    }
    LIST_EACH (at, &n->gone) {
        list_remove(at);
        free(LIST_ITEM(at, struct slot, node)); // the slot is each one's first field
    }
}

int net_listen(struct net *n, const char *host, uint16_t port, int *ret_listener,
               uint16_t *ret_port)
{
    int fd = -1;
    int error = socket_listen(host, port, &fd);
    if (error)
        return error;
    struct listener *l = calloc(1, sizeof *l);
    CHECK(l);
    l->slot = (struct slot){.kind = SLOT_LISTENER, .fd = fd};
    l->id = n->next_listener++;
    list_append(&n->listeners, &l->slot.node);
    epoll_set(n->worker.epoll_fd, &l->slot, EPOLL_CTL_ADD, n->is_paused ? 0 : EPOLLIN);
    *ret_listener = l->id;
    *ret_port = socket_local_port(fd);
    return 0;
}

static void slot_close(struct net *n, struct slot *s)
{
    close(s->fd);
    s->fd = -1;
    list_remove(&s->node);
    list_append(&n->gone, &s->node);
}

void net_unlisten(struct net *n, int listener)
{
    LIST_EACH (at, &n->listeners) {
        struct listener *l = (struct listener *)(void *)LIST_ITEM(at, struct slot, node);
        if (l->id == listener)
            slot_close(n, &l->slot);
    }
}

int net_watch(struct net *n, int fd, uint32_t events, net_watch_fn *fn, void *arg)
{
    struct watch *w = calloc(1, sizeof *w);
    CHECK(w);
    *w = (struct watch){.slot = {.kind = SLOT_WATCH, .fd = fd}, .fn = fn, .arg = arg};
    struct epoll_event e = {.events = events, .data.ptr = w};
    if (epoll_ctl(n->worker.epoll_fd, EPOLL_CTL_ADD, fd, &e) != 0) {
        int error = -errno;
        free(w);
        return error;
    }
    list_append(&n->watches, &w->slot.node);
    return 0;
}

void net_unwatch(struct net *n, int fd)
{
    LIST_EACH (at, &n->watches) {
        struct watch *w = (struct watch *)(void *)LIST_ITEM(at, struct slot, node);
        if (w->slot.fd != fd)
            continue;
        epoll_ctl(n->worker.epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        w->fn = NULL;
        list_remove(&w->slot.node);
        list_append(&n->gone, &w->slot.node);
        return;
    }
}

void net_free(struct net *n)
{
    if (!n)
        return;
    threads_free(n->threads);
    LIST_EACH (at, &n->listeners)
        slot_close(n, LIST_ITEM(at, struct slot, node));
    struct list *const lists[] = {&n->conns, &n->leaving, &n->dying, &n->buried};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        LIST_EACH (at, lists[i]) {
            struct conn *c = conn_at(at);
            out_free(&n->output, &c->s.out, c->s.splice_at);
            out_free(&n->output, &c->out, 0);
            input_free(&n->worker.input, &c->s.in);
            slot_close(n, &c->s.slot);
        }
    LIST_EACH (at, &n->watches) {
        list_remove(at);
        list_append(&n->gone, at);
    }
    free_gone(n);
    input_pool_trim(&n->worker.input);
    map_free(n->by_id);
    close(n->worker.epoll_fd);
    free(n);
}

// ---- The loop

// What is there goes out together, as far as it is taken.
static int give_frames(struct net *n, struct conn *c)
{
    int count = 0;
    enum net_taken taken = NET_TAKEN_MORE;
    while (taken == NET_TAKEN_MORE && can_give(n, c) && count < NET_OPEN_MAX) {
        struct bytes frame = input_give(&c->s.in);
        c->n_open++;
        taken = n->handler.on_frame(n->handler.user, c->id, frame);
        if (taken == NET_NOT_YET) {
            c->n_open--;
            input_take_back(&c->s.in, frame);
            CHECK(c->n_open > 0);
        } else {
            c->was_told_eof = false;
            count++;
        }
    }
    // One that was answered at once has asked for what came after it, and that may be gone by now.
    if (!can_give(n, c))
        list_remove(&c->ready);
    return count;
}

static int deliver_ready(struct net *n)
{
    // Those that become ready while these are handled have to wait for the next pass.
    struct list now;
    list_init(&now);
    while (!list_is_empty(&n->ready)) {
        struct list *first = n->ready.next;
        list_remove(first);
        list_append(&now, first);
    }
    int count = 0;
    while (!list_is_empty(&now)) {
        struct conn *c = LIST_ITEM(now.next, struct conn, ready);
        list_remove(&c->ready);
        c->active_ms = now_ms(n);
        list_remove(&c->s.slot.node);
        list_append(&n->conns, &c->s.slot.node);
        count += give_frames(n, c);
        tell_eof(n, c);
    }
    return count;
}

// With threads: what came before this time was told.
static bool idle_round_is_over(struct net *n, uint64_t *now)
{
    if (n->idle_now_ms == 0)
        n->idle_now_ms = *now;
    if (!threads_round_is_over(n->threads, &n->idle_round))
        return false;
    *now = n->idle_now_ms;
    n->idle_now_ms = 0;
    return true;
}

static void close_idle(struct net *n)
{
    uint64_t now = now_ms(n);
    if (n->limits.idle_ms == 0 || now < n->idle_check_ms)
        return;
    if (n->threads && !idle_round_is_over(n, &now))
        return;
    n->idle_check_ms = now + IDLE_CHECK_MS;
    LIST_EACH (at, &n->conns) {
        struct conn *c = conn_at(at);
        if (now < c->active_ms + n->limits.idle_ms)
            return;
        // One that is to be closed may have requests that get no answer any more.
        if (c->n_open == 0 || c->closes_after_send)
            conn_die(n, c, NET_CLOSED_IDLE);
    }
}

// Until the connection that was idle the longest is to be closed.
static int until_idle_ms(struct net *n)
{
    if (list_is_empty(&n->conns))
        return IDLE_CHECK_MS;
    const struct conn *c = conn_at(n->conns.next);
    uint64_t now = now_ms(n), due = c->active_ms + n->limits.idle_ms;
    if (c->n_open > 0 || due < now + IDLE_CHECK_MS)
        return IDLE_CHECK_MS;
    return due - now > IDLE_WAIT_MAX_MS ? IDLE_WAIT_MAX_MS : (int)(due - now);
}

static bool has_work(const struct net *n)
{
    return !list_is_empty(&n->ready) || !list_is_empty(&n->dying);
}

static int wait_ms(struct net *n, int timeout_ms)
{
    if (has_work(n))
        return 0;
    int most = -1;
    if (n->is_paused)
        most = ACCEPT_PAUSE_MS;
    else if (n->limits.idle_ms && n->n_conns > 0)
        most = until_idle_ms(n);
    if (n->worker.input.n_spares > 0 && (most < 0 || most > SPARES_KEPT_MS))
        most = SPARES_KEPT_MS;
    if (most >= 0 && (timeout_ms < 0 || timeout_ms > most))
        return most;
    return timeout_ms;
}

// Returns how many things have happened.
static int handle_event(struct net *n, const struct epoll_event *e)
{
    struct slot *s = e->data.ptr;
    if (s->kind == SLOT_CONN) {
        stream_event(&n->worker, (struct stream *)(void *)s, e->events);
    } else if (s->kind == SLOT_LISTENER) {
        if (s->fd >= 0 && !n->is_paused)
            listener_accept(n, (struct listener *)(void *)s);
    } else if (s->kind == SLOT_WATCH) {
        struct watch *w = (struct watch *)(void *)s;
        if (w->fn)
            w->fn(w->arg, e->events);
    }
    return s->kind != SLOT_WAKE;
}

static int wait_and_handle(struct net *n, int most_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(n->worker.epoll_fd, events, EVENTS_MAX, most_ms);
    // So it ends when the process was stopped (SIGSTOP): what came meanwhile is to be found.
    while (count < 0 && errno == EINTR)
        count = epoll_wait(n->worker.epoll_fd, events, EVENTS_MAX, 0);
    CHECK(count >= 0);
    if (count == 0 && most_ms > 0)
        input_pool_trim(&n->worker.input);
    int handled = 0;
    for (int i = 0; i < count; i++)
        handled += handle_event(n, &events[i]);
    if (n->threads)
        handled += threads_take_news(n->threads, take_letter, n);
    output_make_room(n);
    return handled;
}

int net_run_once(struct net *n, int timeout_ms)
{
    flush_corked(n);
    int most_ms = wait_ms(n, timeout_ms);
    if (n->threads)
        most_ms = threads_sleep(n->threads, most_ms, most_ms == 0 && !has_work(n));
    int handled = wait_and_handle(n, most_ms) + deliver_ready(n) + reap_dying(n);
    close_idle(n);
    if (n->is_paused && now_ms(n) >= n->resume_ms && n->n_conns < n->limits.max_connections)
        pause_accepting(n, false);
    free_gone(n);
    if (n->threads) {
        threads_post(n->threads);
        handled += handled == 0 && !threads_rest(n->threads);
    }
    return handled;
}

bool net_went_round(struct net *n)
{
    return !n->threads || threads_round_is_over(n->threads, &n->round);
}
