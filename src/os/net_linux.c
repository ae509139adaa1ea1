#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "base/map.h"
#include "os/clock.h"
#include "os/disk.h"
#include "os/input.h"
#include "os/net.h"
#include "os/net_private.h"
#include "os/socket.h"

#define LISTENERS_MAX 256
#define EVENTS_MAX 256
// Accepted in one pass, so that a flood of connections does not hold up those that are open.
#define ACCEPT_MAX 64
// Read from one connection in one pass, for the same reason.
#define READ_MAX_BYTES (1u << 20)
#define IDLE_CHECK_MS 1000
#define IDLE_WAIT_MAX_MS 60000
// Input buffers are kept so long after the last input.
#define SPARES_KEPT_MS 1000
// How long accepting pauses when no descriptor is left and none of ours closes.
#define ACCEPT_PAUSE_MS 1000

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
    n->clock = c;
    n->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    CHECK(n->epoll_fd >= 0);
    n->by_id = map_new();
    list_init(&n->conns);
    list_init(&n->ready);
    list_init(&n->corked);
    list_init(&n->dying);
    list_init(&n->listeners);
    list_init(&n->watches);
    list_init(&n->gone);
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

static void epoll_set(struct net *n, struct slot *s, int op, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = s};
    CHECK(epoll_ctl(n->epoll_fd, op, s->fd, &e) == 0);
}

// ---- Output

static bool has_output(const struct conn *c)
{
    return c->is_sending || c->is_corked;
}

static void out_free(struct net *n, struct conn *c)
{
    if (has_output(c))
        n->output_bytes -= c->out.buf.cap;
    if (c->is_sending)
        for (size_t i = c->splice_at; i < c->out.n_splices; i++)
            disk_close(c->out.splices[i].file);
    kw_out_free(&c->out);
    c->out = (struct kw_out){0};
    c->is_sending = false;
}

static struct conn *conn_find(struct net *n, uint64_t id)
{
    return map_get(n->by_id, key_u64(&id));
}

// Writes the buffer up to the next splice. 1: all of it is written, 0: the socket is full.
static int flush_buf(struct conn *c)
{
    bool has_splice = c->splice_at < c->out.n_splices;
    size_t upto = has_splice ? c->out.splices[c->splice_at].at : c->out.buf.len;
    while (c->out_at < upto) {
        int flags = MSG_NOSIGNAL | (has_splice ? MSG_MORE : 0);
        ssize_t sent = send(c->slot.fd, c->out.buf.ptr + c->out_at, upto - c->out_at, flags);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN ? 0 : -errno;
        c->out_at += (size_t)sent;
        c->sent_bytes += (uint64_t)sent;
    }
    return 1;
}

static int flush_splice(struct conn *c)
{
    struct kw_splice *s = &c->out.splices[c->splice_at];
    while (c->splice_done < s->len) {
        off_t at = (off_t)(s->file_pos + c->splice_done);
        ssize_t sent = sendfile(c->slot.fd, disk_file_fd(s->file), &at, s->len - c->splice_done);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN ? 0 : -errno;
        if (sent == 0) // the file is shorter than what was promised
            return -EIO;
        c->splice_done += (uint32_t)sent;
        c->sent_bytes += (uint64_t)sent;
    }
    disk_close(s->file);
    c->splice_at++;
    c->splice_done = 0;
    return 1;
}

static int flush_all(struct conn *c)
{
    for (;;) {
        int done = flush_buf(c);
        if (done <= 0)
            return done;
        if (c->splice_at == c->out.n_splices)
            return 1;
        done = flush_splice(c);
        if (done <= 0)
            return done;
    }
}

static void uncork(struct conn *c)
{
    list_remove(&c->corked);
    c->is_corked = false;
    c->is_sending = true;
}

static void conn_die(struct net *n, struct conn *c, enum net_reason reason)
{
    if (c->is_dying)
        return;
    if (c->is_corked) {
        // These would have left long ago.
        uncork(c);
        (void)flush_all(c);
    }
    c->is_dying = true;
    c->end.reason = reason;
    list_remove(&c->ready);
    list_remove(&c->slot.node);
    list_append(&n->dying, &c->slot.node);
    map_remove(n->by_id, key_u64(&c->id));
}

// ---- Input

// The length is checked as soon as it is known.
static bool input_check(struct net *n, struct conn *c)
{
    size_t size = input_frame_size(&c->in);
    if (size == 0 || size - 4 <= n->limits.max_frame_bytes)
        return true;
    c->end.frame_len = (int32_t)(uint32_t)(size - 4);
    conn_die(n, c, NET_CLOSED_BAD_FRAME);
    return false;
}

// Closes those that hold the most until there is room. False: the connection itself was one.
static bool input_make_room(struct net *n, struct conn *c)
{
    while (input_room(&n->input, &c->in) < 0 && !c->is_dying) {
        struct conn *most = c;
        LIST_EACH (at, &n->conns) {
            struct conn *other = (struct conn *)(void *)LIST_ITEM(at, struct slot, node);
            if (other->in.cap > most->in.cap)
                most = other;
        }
        conn_die(n, most, NET_CLOSED_FULL);
        // A frame that is being worked on must stay until on_close().
        if (most->n_open > 0)
            input_write_off(&n->input, &most->in);
        else
            input_free(&n->input, &most->in);
    }
    return !c->is_dying;
}

static void conn_read(struct net *n, struct conn *c)
{
    size_t total = 0;
    while (!input_has_frame(&c->in) && total < READ_MAX_BYTES) {
        if (!input_make_room(n, c))
            return;
        size_t room = c->in.cap - c->in.len;
        ssize_t got = recv(c->slot.fd, c->in.buf + c->in.len, room, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            break;
        if (got <= 0) {
            conn_die(n, c, got < 0 ? NET_CLOSED_ERROR : NET_CLOSED_BY_PEER);
            return;
        }
        c->in.len += (size_t)got;
        total += (size_t)got;
        if (!input_check(n, c))
            return;
        if ((size_t)got < room && c->in.cap <= INPUT_BULK_BYTES) // that was all there is
            break;
    }
    if (input_has_frame(&c->in) && list_is_empty(&c->ready))
        list_append(&n->ready, &c->ready);
    input_settle(&n->input, &c->in);
}

// ---- What a connection waits for

static bool can_read(const struct conn *c)
{
    return c->n_open == 0 && !c->is_sending && !c->is_dying && list_is_empty(&c->ready);
}

static bool can_give(const struct net *n, const struct conn *c)
{
    return c->n_open < NET_OPEN_MAX && !c->is_sending && !c->is_dying && input_has_frame(&c->in) &&
           input_frame_size(&c->in) - 4 <= n->limits.max_frame_bytes;
}

static void conn_arm(struct net *n, struct conn *c)
{
    if (c->is_dying)
        return;
    uint32_t events = c->is_sending ? EPOLLOUT : 0;
    // Input is no longer waited for only when some comes at the wrong time: most requests are
    // answered before the next one is here.
    if (can_read(c) || c->events & EPOLLIN)
        events |= EPOLLIN;
    if (!c->at_eof)
        events |= EPOLLRDHUP;
    if (events != c->events)
        epoll_set(n, &c->slot, EPOLL_CTL_MOD, events);
    c->events = events;
}

// Another frame may come now.
static void conn_next(struct net *n, struct conn *c)
{
    // A frame that is too long closes the connection when those before it are answered.
    if (c->n_open == 0 && !input_check(n, c))
        return;
    if (can_give(n, c) && list_is_empty(&c->ready))
        list_append(&n->ready, &c->ready);
    conn_arm(n, c);
}

static void conn_flush(struct net *n, struct conn *c)
{
    int done = flush_all(c);
    if (done < 0) {
        bool peer = done == -EPIPE || done == -ECONNRESET;
        conn_die(n, c, peer ? NET_CLOSED_BY_PEER : NET_CLOSED_ERROR);
    } else if (done == 1) {
        out_free(n, c);
        if (c->closes_after_send)
            conn_die(n, c, NET_CLOSED_BY_US);
        else
            conn_next(n, c);
    } else {
        conn_arm(n, c);
    }
}

// What an answer of before has left unsent goes first.
static void out_add(struct net *n, struct conn *c, struct kw_out *more)
{
    if (!has_output(c)) {
        c->out = *more;
        c->out_at = c->splice_at = 0;
        c->splice_done = 0;
    } else {
        n->output_bytes -= c->out.buf.cap;
        size_t cap = c->out.n_splices + more->n_splices + 1;
        c->out.splices = realloc(c->out.splices, cap * sizeof *c->out.splices);
        CHECK(c->out.splices);
        for (size_t i = 0; i < more->n_splices; i++) {
            struct kw_splice *s = &c->out.splices[c->out.n_splices++];
            *s = more->splices[i];
            s->at += c->out.buf.len;
        }
        c->out.cap_splices = cap;
        buf_add(&c->out.buf, more->buf.ptr, more->buf.len);
        kw_out_free(more);
    }
    n->output_bytes += c->out.buf.cap;
    *more = (struct kw_out){0};
}

// Closes those whose answers take the most until there is room.
static void output_make_room(struct net *n)
{
    while (n->limits.max_output_bytes && n->output_bytes > n->limits.max_output_bytes) {
        struct conn *most = NULL;
        LIST_EACH (at, &n->conns) {
            struct conn *c = (struct conn *)(void *)LIST_ITEM(at, struct slot, node);
            if (has_output(c) && (!most || c->out.buf.cap > most->out.buf.cap))
                most = c;
        }
        if (!most)
            return;
        conn_die(n, most, NET_CLOSED_UNREAD);
        out_free(n, most);
    }
}

static uint64_t send_out(struct net *n, struct conn *c, struct kw_out *out, bool is_corked)
{
    if (!c)
        return kw_out_clear(out), 0;
    CHECK(c->n_open > 0);
    for (size_t i = 0; i < out->n_splices; i++)
        disk_file_ref(out->splices[i].file);
    c->queued_bytes += kw_out_total(out);
    out_add(n, c, out);
    c->n_open--;
    input_take(&n->input, &c->in);
    uint64_t end = c->queued_bytes;
    if (is_corked && !c->is_sending && (c->n_open > 0 || input_has_frame(&c->in))) {
        c->is_corked = true;
        if (list_is_empty(&c->corked))
            list_append(&n->corked, &c->corked);
        conn_next(n, c);
        return end;
    }
    uncork(c);
    conn_flush(n, c);
    output_make_room(n);
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
    LIST_EACH (at, &n->corked) {
        struct conn *c = LIST_ITEM(at, struct conn, corked);
        uncork(c);
        conn_flush(n, c);
    }
    output_make_room(n);
}

void net_skip(struct net *n, uint64_t id)
{
    struct conn *c = conn_find(n, id);
    if (!c)
        return;
    CHECK(c->n_open > 0);
    c->n_open--;
    input_take(&n->input, &c->in);
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
    if (c && c->is_sending)
        c->closes_after_send = true;
    else if (c) // sends what is corked
        conn_die(n, c, NET_CLOSED_BY_US);
}

uint64_t net_queued(struct net *n, uint64_t id)
{
    const struct conn *c = conn_find(n, id);
    return c ? c->queued_bytes : 0;
}

bool net_is_sending(struct net *n, uint64_t id)
{
    const struct conn *c = conn_find(n, id);
    return c && has_output(c);
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
    c->slot = (struct slot){.kind = SLOT_CONN, .fd = fd};
    list_init(&c->ready);
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
    list_append(&n->conns, &c->slot.node);
    map_put(n->by_id, key_u64(&c->id), c);
    n->n_conns++;
    c->events = EPOLLIN | EPOLLRDHUP;
    epoll_set(n, &c->slot, EPOLL_CTL_ADD, c->events);
}

static void pause_accepting(struct net *n, bool on)
{
    n->is_paused = on;
    n->resume_ms = on ? now_ms(n) + ACCEPT_PAUSE_MS : 0;
    LIST_EACH (at, &n->listeners) {
        struct slot *s = LIST_ITEM(at, struct slot, node);
        epoll_set(n, s, EPOLL_CTL_MOD, on ? 0 : EPOLLIN);
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
    c->end.sent_bytes = c->sent_bytes;
    c->end.acked_bytes = socket_acked_bytes(c->slot.fd, c->sent_bytes);
    n->n_conns--;
    n->handler.on_close(n->handler.user, c->id, &c->end);
    close(c->slot.fd);
    c->slot.fd = -1;
    out_free(n, c);
    input_free(&n->input, &c->in);
    list_append(&n->gone, &c->slot.node);
}

static int reap_dying(struct net *n)
{
    int count = 0;
    while (!list_is_empty(&n->dying)) {
        struct conn *c = (struct conn *)(void *)LIST_ITEM(n->dying.next, struct slot, node);
        list_remove(&c->slot.node);
        conn_reap(n, c);
        count++;
    }
    if (count > 0 && n->is_paused)
        pause_accepting(n, false);
    return count;
}

static void free_gone(struct net *n)
{
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
    epoll_set(n, &l->slot, EPOLL_CTL_ADD, n->is_paused ? 0 : EPOLLIN);
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
    if (epoll_ctl(n->epoll_fd, EPOLL_CTL_ADD, fd, &e) != 0) {
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
        epoll_ctl(n->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
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
    LIST_EACH (at, &n->listeners)
        slot_close(n, LIST_ITEM(at, struct slot, node));
    struct list *const both[] = {&n->conns, &n->dying};
    for (size_t i = 0; i < 2; i++)
        LIST_EACH (at, both[i]) {
            struct conn *c = (struct conn *)(void *)LIST_ITEM(at, struct slot, node);
            out_free(n, c);
            input_free(&n->input, &c->in);
            slot_close(n, &c->slot);
        }
    LIST_EACH (at, &n->watches) {
        list_remove(at);
        list_append(&n->gone, at);
    }
    free_gone(n);
    input_pool_trim(&n->input);
    map_free(n->by_id);
    close(n->epoll_fd);
    free(n);
}

// ---- The loop

// Once for each request that is being worked on.
static void tell_eof(struct net *n, struct conn *c)
{
    if (!c->at_eof || c->n_open == 0 || c->was_told_eof || c->is_dying)
        return;
    c->was_told_eof = true;
    n->handler.on_eof(n->handler.user, c->id);
}

static void conn_event(struct net *n, struct conn *c, uint32_t events)
{
    if (c->is_dying || c->slot.fd < 0)
        return;
    // Broken for good: what is unsent is lost, and what was being worked on has no one to tell.
    if (events & (EPOLLERR | EPOLLHUP)) {
        conn_die(n, c, events & EPOLLERR ? NET_CLOSED_ERROR : NET_CLOSED_BY_PEER);
        return;
    }
    if (events & EPOLLRDHUP)
        c->at_eof = true;
    if (events & EPOLLOUT && c->is_sending)
        conn_flush(n, c);
    if (events & EPOLLIN) {
        if (can_read(c))
            conn_read(n, c);
        else
            epoll_set(n, &c->slot, EPOLL_CTL_MOD, c->events &= ~(uint32_t)EPOLLIN);
    }
    tell_eof(n, c);
    conn_arm(n, c);
}

// What is there goes out together, as far as it is taken.
static int give_frames(struct net *n, struct conn *c)
{
    int count = 0;
    enum net_taken taken = NET_TAKEN_MORE;
    while (taken == NET_TAKEN_MORE && can_give(n, c) && count < NET_OPEN_MAX) {
        struct bytes frame = input_give(&c->in);
        c->n_open++;
        taken = n->handler.on_frame(n->handler.user, c->id, frame);
        if (taken == NET_NOT_YET) {
            c->n_open--;
            input_take_back(&c->in, frame);
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
        list_remove(&c->slot.node);
        list_append(&n->conns, &c->slot.node);
        count += give_frames(n, c);
        conn_arm(n, c);
        tell_eof(n, c);
    }
    return count;
}

static void close_idle(struct net *n)
{
    uint64_t now = now_ms(n);
    if (n->limits.idle_ms == 0 || now < n->idle_check_ms)
        return;
    n->idle_check_ms = now + IDLE_CHECK_MS;
    LIST_EACH (at, &n->conns) {
        struct conn *c = (struct conn *)(void *)LIST_ITEM(at, struct slot, node);
        if (now - c->active_ms < n->limits.idle_ms)
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
    const struct conn *c = (struct conn *)(void *)LIST_ITEM(n->conns.next, struct slot, node);
    uint64_t now = now_ms(n), due = c->active_ms + n->limits.idle_ms;
    if (c->n_open > 0 || due < now + IDLE_CHECK_MS)
        return IDLE_CHECK_MS;
    return due - now > IDLE_WAIT_MAX_MS ? IDLE_WAIT_MAX_MS : (int)(due - now);
}

static int wait_ms(struct net *n, int timeout_ms)
{
    if (!list_is_empty(&n->ready) || !list_is_empty(&n->dying))
        return 0;
    int most = -1;
    if (n->is_paused)
        most = ACCEPT_PAUSE_MS;
    else if (n->limits.idle_ms && n->n_conns > 0)
        most = until_idle_ms(n);
    if (n->input.n_spares > 0 && (most < 0 || most > SPARES_KEPT_MS))
        most = SPARES_KEPT_MS;
    if (most >= 0 && (timeout_ms < 0 || timeout_ms > most))
        return most;
    return timeout_ms;
}

static void handle_event(struct net *n, const struct epoll_event *e)
{
    struct slot *s = e->data.ptr;
    if (s->kind == SLOT_CONN) {
        conn_event(n, (struct conn *)(void *)s, e->events);
    } else if (s->kind == SLOT_LISTENER) {
        if (s->fd >= 0 && !n->is_paused)
            listener_accept(n, (struct listener *)(void *)s);
    } else {
        struct watch *w = (struct watch *)(void *)s;
        if (w->fn)
            w->fn(w->arg, e->events);
    }
}

int net_run_once(struct net *n, int timeout_ms)
{
    struct epoll_event events[EVENTS_MAX];
    flush_corked(n);
    int most_ms = wait_ms(n, timeout_ms);
    int count = epoll_wait(n->epoll_fd, events, EVENTS_MAX, most_ms);
    if (count < 0)
        CHECK(errno == EINTR);
    if (count == 0 && most_ms > 0)
        input_pool_trim(&n->input);
    for (int i = 0; i < count; i++)
        handle_event(n, &events[i]);
    int handled = (count > 0 ? count : 0) + deliver_ready(n) + reap_dying(n);
    close_idle(n);
    if (n->is_paused && now_ms(n) >= n->resume_ms && n->n_conns < n->limits.max_connections)
        pause_accepting(n, false);
    free_gone(n);
    return handled;
}
