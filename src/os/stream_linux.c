#include "os/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "os/disk.h"

// Read from one connection in one pass, so that one that sends a lot does not hold up the others.
#define READ_MAX_BYTES (1u << 20)

void epoll_set(int epoll_fd, struct slot *s, int op, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = s};
    CHECK(epoll_ctl(epoll_fd, op, s->fd, &e) == 0);
}

static void end(struct worker *w, struct stream *s, enum net_reason reason)
{
    if (s->has_ended)
        return;
    s->has_ended = true;
    s->may_read = false;
    s->end_reason = reason;
    if (w->is_thread) // else the loop closes it in this pass
        epoll_set(w->epoll_fd, &s->slot, EPOLL_CTL_DEL, 0);
    out_free(w->output, &s->out, s->splice_at);
    atomic_store_explicit(&s->unread_bytes, 0, memory_order_relaxed);
    w->tell(w, s, NEWS_ENDED);
}

// ---- Output

void out_free(struct budget *b, struct kw_out *out, size_t splice_at)
{
    if (out->buf.cap > 0)
        budget_give(b, out->buf.cap);
    for (size_t i = splice_at; i < out->n_splices; i++)
        disk_close(out->splices[i].file);
    kw_out_free(out);
    *out = (struct kw_out){0};
}

void out_append(struct budget *b, struct kw_out *to, struct kw_out *more)
{
    budget_give(b, to->buf.cap + more->buf.cap);
    size_t cap = to->n_splices + more->n_splices + 1;
    to->splices = realloc(to->splices, cap * sizeof *to->splices);
    CHECK(to->splices);
    for (size_t i = 0; i < more->n_splices; i++) {
        struct kw_splice *s = &to->splices[to->n_splices++];
        *s = more->splices[i];
        s->at += to->buf.len;
    }
    to->cap_splices = cap;
    buf_add(&to->buf, more->buf.ptr, more->buf.len);
    kw_out_free(more);
    *more = (struct kw_out){0};
    budget_add(b, to->buf.cap);
}

static void count_sent(struct stream *s, ssize_t more)
{
    uint64_t before = atomic_load_explicit(&s->sent_bytes, memory_order_relaxed);
    atomic_store_explicit(&s->sent_bytes, before + (uint64_t)more, memory_order_release);
}

// Writes the buffer up to the next splice. 1: all of it is written, 0: the socket is full.
static int flush_buf(struct stream *s)
{
    bool has_splice = s->splice_at < s->out.n_splices;
    size_t upto = has_splice ? s->out.splices[s->splice_at].at : s->out.buf.len;
    while (s->out_at < upto) {
        int flags = MSG_NOSIGNAL | (has_splice ? MSG_MORE : 0);
        ssize_t sent = send(s->slot.fd, s->out.buf.ptr + s->out_at, upto - s->out_at, flags);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN ? 0 : -errno;
        s->out_at += (size_t)sent;
        count_sent(s, sent);
    }
    return 1;
}

static int flush_splice(struct stream *s)
{
    struct kw_splice *p = &s->out.splices[s->splice_at];
    while (s->splice_done < p->len) {
        off_t at = (off_t)(p->file_pos + s->splice_done);
        ssize_t sent = sendfile(s->slot.fd, disk_file_fd(p->file), &at, p->len - s->splice_done);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN ? 0 : -errno;
        if (sent == 0) // the file is shorter than what was promised
            return -EIO;
        s->splice_done += (uint32_t)sent;
        count_sent(s, sent);
    }
    disk_close(p->file);
    s->splice_at++;
    s->splice_done = 0;
    return 1;
}

static int flush_all(struct stream *s)
{
    for (;;) {
        int done = flush_buf(s);
        if (done <= 0)
            return done;
        if (s->splice_at == s->out.n_splices)
            return 1;
        done = flush_splice(s);
        if (done <= 0)
            return done;
    }
}

// ---- Input

static bool can_read(const struct stream *s)
{
    return s->may_read && out_is_empty(&s->out);
}

static void arm(struct worker *w, struct stream *s)
{
    if (s->has_ended)
        return;
    uint32_t events = out_is_empty(&s->out) ? 0 : EPOLLOUT;
    // Input is no longer waited for only when some comes at the wrong time: most requests are
    // answered before the next one is here.
    if (can_read(s) || s->events & EPOLLIN)
        events |= EPOLLIN;
    if (!s->at_eof)
        events |= EPOLLRDHUP;
    if (events != s->events)
        epoll_set(w->epoll_fd, &s->slot, EPOLL_CTL_MOD, events);
    s->events = events;
}

// The length is checked as soon as it is known.
static bool check_length(struct worker *w, struct stream *s)
{
    size_t size = input_frame_size(&s->in);
    if (size == 0 || size - 4 <= w->max_frame_bytes)
        return true;
    s->end_frame_len = (int32_t)(uint32_t)(size - 4);
    end(w, s, NET_CLOSED_BAD_FRAME);
    return false;
}

static void settle(struct worker *w, struct stream *s)
{
    input_settle(&w->input, &s->in);
    atomic_store_explicit(&s->held_bytes, s->in.cap, memory_order_relaxed);
}

// False: it has to wait for room, or has ended.
static bool make_room(struct worker *w, struct stream *s)
{
    while (input_room(&w->input, &s->in) < 0) {
        atomic_store_explicit(&s->held_bytes, s->in.cap, memory_order_relaxed);
        s->may_read = false;
        w->tell(w, s, NEWS_SHORT);
        if (w->is_thread || !s->may_read)
            return false;
    }
    return true;
}

static void stream_read(struct worker *w, struct stream *s)
{
    size_t total = 0;
    while (!input_has_frame(&s->in) && total < READ_MAX_BYTES) {
        if (!make_room(w, s))
            return;
        size_t room = s->in.cap - s->in.len;
        ssize_t got = recv(s->slot.fd, s->in.buf + s->in.len, room, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            break;
        if (got <= 0) {
            end(w, s, got < 0 ? NET_CLOSED_ERROR : NET_CLOSED_BY_PEER);
            return;
        }
        s->in.len += (size_t)got;
        total += (size_t)got;
        if (!check_length(w, s))
            return;
        if ((size_t)got < room && s->in.cap <= INPUT_BULK_BYTES) // that was all there is
            break;
    }
    settle(w, s);
    if (input_has_frame(&s->in)) {
        s->may_read = false;
        w->tell(w, s, NEWS_FRAMES);
    }
}

// ---- Orders and events

// All is answered and written: the peer's turn. A frame that is too long closes the connection
// when those before it are answered.
static void next_turn(struct worker *w, struct stream *s)
{
    if (s->has_ended)
        return;
    if (can_read(s)) {
        if (!check_length(w, s))
            return;
        settle(w, s);
    }
    arm(w, s);
}

static void stream_flush(struct worker *w, struct stream *s)
{
    int done = flush_all(s);
    if (done < 0) {
        bool peer = done == -EPIPE || done == -ECONNRESET;
        // No socket says that.
        bool file = done == -EIO;
        end(w, s, peer ? NET_CLOSED_BY_PEER : file ? NET_CLOSED_FILE : NET_CLOSED_ERROR);
        return;
    }
    if (done == 0) {
        atomic_store_explicit(&s->unread_bytes, s->out.buf.cap, memory_order_relaxed);
        if (s->may_read) // what was answered goes, however long the peer takes
            settle(w, s);
        if (budget_is_over(w->output))
            w->tell(w, s, NEWS_CROWDED);
        arm(w, s);
        return;
    }
    out_free(w->output, &s->out, s->splice_at);
    s->out_at = s->splice_at = 0;
    atomic_store_explicit(&s->unread_bytes, 0, memory_order_relaxed);
    if (s->finishes) {
        end(w, s, NET_CLOSED_BY_US);
        return;
    }
    bool tells = s->tells;
    s->tells = false;
    next_turn(w, s);
    if (tells && !s->has_ended)
        w->tell(w, s, NEWS_SENT);
}

void stream_order(struct worker *w, struct stream *s, struct kw_out *answers, unsigned orders)
{
    if (orders & ORDER_OPEN) {
        s->may_read = true;
        s->events = EPOLLIN | EPOLLRDHUP;
        epoll_set(w->epoll_fd, &s->slot, EPOLL_CTL_ADD, s->events);
    }
    bool has_answers = !out_is_empty(answers);
    if (s->has_ended) {
        out_free(w->output, answers, 0);
    } else {
        s->tells |= (orders & ORDER_TELL) != 0;
        s->finishes |= (orders & ORDER_FINISH) != 0;
        s->may_read |= (orders & ORDER_READ) != 0;
        if (has_answers)
            out_move(w->output, &s->out, answers);
        if (has_answers || orders & (ORDER_TELL | ORDER_FINISH))
            stream_flush(w, s);
        else if (orders & ORDER_READ)
            next_turn(w, s);
    }
    if (orders & ORDER_CLOSE) {
        end(w, s, NET_CLOSED_BY_US);
        w->tell(w, s, NEWS_GONE);
    }
}

void stream_event(struct worker *w, struct stream *s, uint32_t events)
{
    if (s->has_ended)
        return;
    // Broken for good: what is unsent is lost, and what was being worked on has no one to tell.
    if (events & (EPOLLERR | EPOLLHUP)) {
        end(w, s, events & EPOLLERR ? NET_CLOSED_ERROR : NET_CLOSED_BY_PEER);
        return;
    }
    bool is_new_eof = events & EPOLLRDHUP && !s->at_eof;
    s->at_eof |= is_new_eof;
    if (events & EPOLLOUT && !out_is_empty(&s->out))
        stream_flush(w, s);
    if (events & EPOLLIN && !s->has_ended) {
        if (can_read(s))
            stream_read(w, s);
        else if (s->events & EPOLLIN)
            epoll_set(w->epoll_fd, &s->slot, EPOLL_CTL_MOD, s->events &= ~(uint32_t)EPOLLIN);
    }
    if (is_new_eof && !s->has_ended)
        w->tell(w, s, NEWS_EOF);
    arm(w, s);
}
