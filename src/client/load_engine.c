#include "client/load_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// A broker that answers nothing for so long will not do it any more.
#define STALL_NS 60000000000ull
#define PROGRESS_NS 100000000ull
#define EVENTS_MAX 512
#define READ_BYTES 65536u
#define CALL_TIMEOUT_MS 60000

uint64_t load_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void load_fail(struct load *l, int error, const char *format, ...)
{
    if (l->error)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(l->client->why, sizeof l->client->why, format, args);
    va_end(args);
    l->error = error;
}

// ---- Start and end

static int take_client_error(struct load *l, int error, char *why)
{
    snprintf(why, CLIENT_WHY_MAX, "%s", client_error(l->client));
    return error;
}

static int find_topic(struct load *l, char *why)
{
    struct str name = str_from(l->options->topic);
    struct client_topic *topics;
    int32_t n = 0;
    int result = client_metadata(l->client, &name, 1, l->arena, &topics, &n);
    if (result == 0 && (n != 1 || topics[0].n_partitions < 1))
        result =
            client_fail(l->client, -ENOENT, "no topic \"%s\"; make it with: tally topic create %s",
                        l->options->topic, l->options->topic);
    if (result < 0)
        return take_client_error(l, result, why);
    l->topic = topics[0];
    return 0;
}

int load_start(struct load *l, const struct load_options *o, struct load_result *r,
               bool needs_topic, char *why)
{
    *l = (struct load){.options = o, .result = r, .epoll_fd = -1};
    int result = client_open(o->bootstrap, "tally-bench", CALL_TIMEOUT_MS, &l->client, why);
    if (result < 0)
        return result;
    l->arena = arena_new();
    l->scratch = arena_new();
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    CHECK(l->epoll_fd >= 0);
    return needs_topic ? find_topic(l, why) : 0;
}

static struct conn *address_of(struct load *l, int32_t node)
{
    struct client *c = l->client;
    for (int i = 0; i < c->n_conns; i++) {
        if (node != CLIENT_ANY_NODE ? c->conns[i]->node == node : c->conns[i]->n_apis > 0)
            return c->conns[i];
    }
    return NULL;
}

int load_open_one(struct load *l, int32_t i, int32_t node, char *why)
{
    struct load_conn *c = &l->conns[i];
    const struct conn *known = address_of(l, node);
    if (!known) {
        snprintf(why, CLIENT_WHY_MAX, "node %d has no known address", (int)node);
        return -ENOENT;
    }
    struct conn fresh = {.port = known->port, .fd = -1};
    memcpy(fresh.host, known->host, sizeof fresh.host);
    int result = conn_open(&fresh, CALL_TIMEOUT_MS);
    if (result < 0) {
        snprintf(why, CLIENT_WHY_MAX, "connection %d to %s:%d: %s%s", (int)i + 1, fresh.host,
                 fresh.port, strerror(-result),
                 result == -EMFILE ? "; raise the limit of open files (ulimit -n)" : "");
        return result;
    }
    c->load = l;
    c->index = i;
    c->node = node;
    c->fd = fresh.fd;
    fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    CHECK(epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, c->fd, &e) == 0);
    return 0;
}

int load_open(struct load *l, int32_t n, int32_t node, char *why)
{
    return load_open_spread(l, n, &node, 1, why);
}

int load_open_spread(struct load *l, int32_t n, const int32_t *nodes, int32_t n_nodes, char *why)
{
    l->conns = calloc((size_t)n, sizeof *l->conns);
    CHECK(l->conns);
    l->n_conns = n;
    for (int32_t i = 0; i < n; i++)
        l->conns[i].fd = -1;
    for (int32_t i = 0; i < n; i++) {
        int32_t to = nodes[i % n_nodes];
        if (to == CLIENT_ANY_NODE && l->topic.n_partitions > 0)
            to = l->topic.partitions[i % l->topic.n_partitions].leader;
        int result = load_open_one(l, i, to, why);
        if (result < 0)
            return result;
    }
    return 0;
}

void load_end(struct load *l)
{
    for (int32_t i = 0; i < l->n_conns; i++) {
        struct load_conn *c = &l->conns[i];
        if (c->fd >= 0)
            close(c->fd);
        free(c->in);
        kw_out_free(&c->request);
    }
    free(l->conns);
    if (l->epoll_fd >= 0)
        close(l->epoll_fd);
    arena_free(l->scratch);
    arena_free(l->arena);
    client_close(l->client);
}

// ---- Sending

bool load_can_send(const struct load_conn *c)
{
    return c->fd >= 0 && c->n_sent < (size_t)c->load->options->in_flight;
}

static void broken(struct load_conn *c, int error)
{
    load_fail(c->load, error, "the broker closed connection %d (%s); its log may say why",
              (int)c->index + 1, strerror(-error));
}

static void want_output(struct load_conn *c, bool wants)
{
    if (c->wants_out == wants)
        return;
    c->wants_out = wants;
    struct epoll_event e = {.events = wants ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
    CHECK(epoll_ctl(c->load->epoll_fd, EPOLL_CTL_MOD, c->fd, &e) == 0);
}

static void sent_done(struct load_conn *c, struct bytes frame)
{
    struct load_sent s = c->sent[c->sent_first];
    c->sent_first = (c->sent_first + 1) % LOAD_IN_FLIGHT_MAX;
    c->n_sent--;
    c->load->result->requests++;
    c->load->on_answer(c, &s, frame);
}

static void flush(struct load_conn *c)
{
    while (c->n_out > 0 && !c->load->error) {
        const uint8_t *from = c->out[c->out_first].ptr + c->out_at;
        size_t left = c->out[c->out_first].len - c->out_at;
        ssize_t n = send(c->fd, from, left, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            broken(c, -errno);
            return;
        }
        c->out_at += (size_t)n;
        if (c->out_at < c->out[c->out_first].len)
            continue;
        c->out_at = 0;
        c->out_first = (c->out_first + 1) % LOAD_IN_FLIGHT_MAX;
        c->n_out--;
    }
    want_output(c, c->n_out > 0);
}

void load_send(struct load_conn *c, const uint8_t *frame, size_t len, uint64_t at_ns, int64_t tag)
{
    CHECK(c->n_sent < LOAD_IN_FLIGHT_MAX && c->n_out < LOAD_IN_FLIGHT_MAX);
    size_t at = (c->out_first + c->n_out++) % LOAD_IN_FLIGHT_MAX;
    c->out[at].ptr = frame;
    c->out[at].len = len;
    c->sent[(c->sent_first + c->n_sent++) % LOAD_IN_FLIGHT_MAX] = (struct load_sent){at_ns, tag};
    if (c->n_out == 1)
        flush(c);
}

void load_ask(struct load_conn *c, int16_t api, int version, const void *request, int64_t tag)
{
    struct request_header header = {
        .api_key = api, .api_version = (int16_t)version, .client_id = STR("tally-bench")};
    kw_out_clear(&c->request);
    frame_write_request(&header, request, &c->request);
    load_send(c, c->request.buf.ptr, c->request.buf.len, load_now_ns(), tag);
}

bool load_answer(struct load_conn *c, int16_t api, int version, struct bytes frame,
                 void *ret_response)
{
    struct load *l = c->load;
    const struct kw_api *a = kw_api(api);
    int32_t correlation_id;
    struct bytes body;
    const char *where = "";
    arena_reset(l->scratch);
    int result = frame_read_response(frame, a, version, &correlation_id, &body);
    if (result == 0)
        result = kw_decode(a->response, version, body, l->scratch, ret_response, &where);
    if (result == 0)
        return true;
    load_fail(l, result, "an answer to %s that cannot be read: %s", a->name, where);
    return false;
}

int load_version(struct load *l, int16_t key, int max_version)
{
    const struct kw_api *api = kw_api(key);
    const struct conn *conn = address_of(l, CLIENT_ANY_NODE);
    const struct conn_api *theirs = conn ? conn_api(conn, key) : NULL;
    int version =
        max_version >= 0 && max_version < api->max_version ? max_version : api->max_version;
    if (theirs && theirs->max < version)
        version = theirs->max;
    if (theirs && version >= theirs->min && version >= api->min_version)
        return version;
    load_fail(l, -EOPNOTSUPP, "the broker has no %s that this program knows", api->name);
    return -EOPNOTSUPP;
}

// ---- Receiving

static size_t frame_len(const struct load_conn *c, size_t at)
{
    const uint8_t *p = c->in + at;
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

static void take_frames(struct load_conn *c)
{
    size_t at = 0;
    while (c->in_len - at >= 4 && !c->load->error) {
        size_t len = frame_len(c, at);
        if (len > FRAME_MAX || c->n_sent == 0) {
            load_fail(c->load, -EBADMSG, "an answer that cannot be read");
            return;
        }
        if (c->in_len - at - 4 < len)
            break;
        sent_done(c, (struct bytes){c->in + at + 4, len});
        at += len + 4;
    }
    memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
}

static void receive(struct load_conn *c)
{
    size_t want = c->in_len >= 4 ? frame_len(c, 0) + 4 : 0;
    if (want > FRAME_MAX) {
        load_fail(c->load, -EBADMSG, "an answer that cannot be read");
        return;
    }
    want = want > c->in_len + 4096 ? want : c->in_len + 4096;
    if (c->in_cap < want) {
        c->in_cap = want > READ_BYTES ? want : want <= 4096 ? 4096 : READ_BYTES;
        c->in = realloc(c->in, c->in_cap);
        CHECK(c->in);
    }
    ssize_t n = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        broken(c, n < 0 ? -errno : -EPIPE);
        return;
    }
    c->in_len += (size_t)n;
    take_frames(c);
}

// ---- The loop

static void tell_progress(struct load *l, uint64_t now)
{
    if (!l->options->progress || now < l->progress_ns)
        return;
    l->progress_ns = now + PROGRESS_NS;
    l->options->progress(l->options->arg, (double)(now - l->start_ns) / 1e9, l->result->records);
}

// acks=0 has no answers: what is wholly written counts as done.
static void take_unanswered(struct load *l)
{
    for (int32_t i = 0; i < l->n_conns && !l->error; i++) {
        struct load_conn *c = &l->conns[i];
        while (c->n_sent > c->n_out && !l->error)
            sent_done(c, (struct bytes){NULL, 0});
    }
}

static int wait_some(struct load *l, struct epoll_event *events, uint64_t now, uint64_t due)
{
    uint64_t until = now + PROGRESS_NS;
    if (due < until)
        until = due > now ? due : now;
    struct timespec t = {.tv_sec = (time_t)((until - now) / 1000000000u),
                         .tv_nsec = (long)((until - now) % 1000000000u)};
    return epoll_pwait2(l->epoll_fd, events, EVENTS_MAX, &t, NULL);
}

int load_run(struct load *l, char *why)
{
    struct epoll_event events[EVENTS_MAX];
    l->news_ns = load_now_ns();
    while (!l->is_done && !l->error) {
        uint64_t now = load_now_ns(), due = UINT64_MAX;
        if (l->on_tick)
            due = l->on_tick(l, now);
        if (l->is_done || l->error)
            break;
        int n = wait_some(l, events, now, due);
        now = load_now_ns();
        for (int i = 0; i < n && !l->error; i++) {
            struct load_conn *c = events[i].data.ptr;
            l->news_ns = now;
            if (events[i].events & EPOLLOUT)
                flush(c);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !l->error)
                receive(c);
        }
        if (l->no_answers)
            take_unanswered(l);
        tell_progress(l, now);
        if (now - l->news_ns > STALL_NS)
            load_fail(l, -ETIMEDOUT, "no answer for %d s", (int)(STALL_NS / 1000000000u));
    }
    return l->error ? take_client_error(l, l->error, why) : 0;
}
