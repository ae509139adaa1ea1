#include "drill/stage.h"

#include "broker/broker.h"
#include "core/topics.h"
#include "os/clock.h"
#include "os/disk.h"
#include "os/entropy.h"
#include "os/log.h"
#include "os/net.h"
#include "wire/batch.h"
#include "wire/frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CALL_WAIT_MS 20000         // our own request; the broker is in this process
#define MAX_ANSWER_BYTES (1 << 20) // of our own requests: a few partitions
#define SETTLE_PASSES 20           // a copy that sends without end does not hold us up

struct stage {
    struct clock *clock;
    struct entropy *entropy;
    struct disk *disk;
    struct net *net;
    struct log_sink *log;
    struct broker *broker;
    char *dir; // owned: the broker borrows it for as long as it lives
    int fd;    // our own connection
    bool is_readable;
    int32_t correlation_id;
    bool was_idle;
};

uint64_t stage_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int fail(char **ret_why, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(char **ret_why, int error, const char *format, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    *ret_why = strdup(text);
    CHECK(*ret_why);
    return error;
}

static void on_readable(void *arg, uint32_t events)
{
    (void)events;
    ((struct stage *)arg)->is_readable = true;
}

static int connect_self(struct stage *s, char **ret_why)
{
    int listener;
    uint16_t port;
    int rc = net_listen(s->net, "127.0.0.1", 0, &listener, &port);
    if (rc < 0)
        return fail(ret_why, rc, "cannot listen on 127.0.0.1: %s", strerror(-rc));
    broker_add_listener(s->broker, listener, "127.0.0.1", port);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&to, sizeof to) < 0)
        return fail(ret_why, -errno, "cannot connect to our own broker: %s", strerror(errno));
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return net_watch(s->net, s->fd, EPOLLIN, on_readable, s);
}

int stage_new(const char *dir, const struct configs *fixed, struct stage **ret_stage,
              char **ret_why)
{
    struct stage *s = calloc(1, sizeof *s);
    CHECK(s);
    s->fd = -1;
    s->dir = strdup(dir);
    CHECK(s->dir);
    s->clock = clock_new();
    s->entropy = entropy_new();
    struct net_limits limits = {.max_frame_bytes = FRAME_MAX,
                                .max_connections = 4096,
                                .max_input_bytes = 1 << 30,
                                .idle_ms = 0};
    s->net = net_new(&limits, s->clock);
    s->log = log_sink_new(s->clock, STDERR_FILENO, LOG_ERROR, false);
    int rc = disk_new(&s->disk);
    char why[512] = "";
    if (rc == 0) {
        struct broker_config config = {.net = s->net,
                                       .clock = s->clock,
                                       .entropy = s->entropy,
                                       .disk = s->disk,
                                       .log = s->log,
                                       .dir = s->dir,
                                       .fixed = fixed,
                                       .accounting = true,
                                       .clamp_replication = true};
        rc = broker_new(&config, &s->broker, why, sizeof why);
    }
    if (rc < 0)
        (void)fail(ret_why, rc, "the embedded broker does not start: %s",
                   *why ? why : strerror(-rc));
    if (rc == 0)
        rc = connect_self(s, ret_why);
    if (rc < 0) {
        stage_free(s);
        return rc;
    }
    *ret_stage = s;
    return 0;
}

void stage_free(struct stage *s)
{
    if (!s)
        return;
    if (s->fd >= 0) {
        net_unwatch(s->net, s->fd);
        close(s->fd);
    }
    broker_free(s->broker);
    net_free(s->net);
    disk_free(s->disk);
    log_sink_free(s->log);
    entropy_free(s->entropy);
    clock_free(s->clock);
    free(s->dir);
    free(s);
}

struct broker *stage_broker(struct stage *s)
{
    return s->broker;
}

struct net *stage_net(struct stage *s)
{
    return s->net;
}

void stage_set_tap(struct stage *s, const struct tap *t)
{
    broker_set_tap(s->broker, t);
}

int stage_listen(struct stage *s, int *ret_listener, char ret_address[32])
{
    uint16_t port;
    int rc = net_listen(s->net, "127.0.0.1", 0, ret_listener, &port);
    if (rc < 0)
        return rc;
    broker_add_listener(s->broker, *ret_listener, "127.0.0.1", port);
    snprintf(ret_address, 32, "127.0.0.1:%u", port);
    return 0;
}

int stage_run(struct stage *s, int timeout_ms)
{
    int due_ms = broker_timeout_ms(s->broker);
    if (due_ms >= 0 && due_ms < timeout_ms)
        timeout_ms = due_ms;
    int handled = net_run_once(s->net, timeout_ms);
    broker_step(s->broker, s->was_idle);
    s->was_idle = handled == 0;
    return broker_failure(s->broker) ? -EIO : 0;
}

int stage_settle(struct stage *s)
{
    int rc = 0;
    s->was_idle = false;
    for (int i = 0; rc == 0 && i < SETTLE_PASSES && !s->was_idle; i++)
        rc = stage_run(s, 0);
    return rc;
}

static int send_all(struct stage *s, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(s->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            data += n;
            len -= (size_t)n;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        int rc = stage_run(s, 1);
        if (rc < 0)
            return rc;
    }
    return 0;
}

// Reads one whole frame, running the loop meanwhile.
static int receive(struct stage *s, struct buf *in)
{
    uint64_t deadline = stage_now_ms() + CALL_WAIT_MS;
    for (;;) {
        uint8_t piece[16384];
        ssize_t n = recv(s->fd, piece, sizeof piece, MSG_DONTWAIT);
        if (n == 0)
            return -ECONNRESET;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
        if (n > 0)
            buf_add(in, piece, (size_t)n);
        uint32_t size = 0;
        if (in->len >= 4)
            size = (uint32_t)in->ptr[0] << 24 | (uint32_t)in->ptr[1] << 16 |
                   (uint32_t)in->ptr[2] << 8 | in->ptr[3];
        if (size > MAX_ANSWER_BYTES)
            return -EMSGSIZE;
        if (in->len >= 4 && in->len >= 4 + (size_t)size)
            return 0;
        if (stage_now_ms() > deadline)
            return -ETIMEDOUT;
        int rc = n > 0 ? 0 : stage_run(s, 100);
        if (rc < 0)
            return rc;
    }
}

static int call(struct stage *s, int16_t key, int16_t version, const void *request, struct arena *a,
                void *ret_response)
{
    const struct kw_api *api = kw_api(key);
    struct request_header h = {.api_key = key,
                               .api_version = version,
                               .correlation_id = ++s->correlation_id,
                               .client_id = STR("tally-drill")};
    struct kw_out out = {0};
    frame_write_request(&h, request, &out);
    int rc = send_all(s, out.buf.ptr, out.buf.len);
    kw_out_free(&out);
    struct buf in = {0};
    if (rc == 0)
        rc = receive(s, &in);
    if (rc == 0) {
        struct bytes frame = arena_bytes(a, (struct bytes){in.ptr + 4, in.len - 4});
        struct bytes body;
        int32_t id;
        rc = frame_read_response(frame, api, version, &id, &body);
        if (rc == 0)
            rc = kw_decode(api->response, version, body, a, ret_response, NULL);
    }
    buf_free(&in);
    return rc;
}

int stage_make_topic(struct stage *s, const char *topic, int32_t partitions, char **ret_why)
{
    struct arena *a = arena_new();
    struct create_topics_request req;
    struct create_topics_response resp;
    struct create_topics_request_topic t;
    kw_init(&create_topics_request_msg, &req);
    create_topics_request_topic_init(&t);
    t.name = str_from(topic);
    t.num_partitions = partitions;
    t.replication_factor = 1;
    req.topics = &t;
    req.n_topics = 1;
    int rc = call(s, API_CREATE_TOPICS, 5, &req, a, &resp);
    if (rc < 0)
        rc = fail(ret_why, rc, "cannot make the topic: %s", strerror(-rc));
    else if (resp.n_topics != 1 || resp.topics[0].error_code != 0)
        rc = fail(ret_why, -EINVAL, "cannot make the topic \"%s\": %s", topic,
                  resp.n_topics == 1 ? kerr_name(resp.topics[0].error_code) : "no answer");
    arena_free(a);
    return rc;
}

static int refused(const struct produce_response *r, const char *topic, int32_t partition,
                   size_t bytes, char **ret_why)
{
    if (r->n_responses != 1 || r->responses[0].n_partition_responses != 1)
        return fail(ret_why, -EIO, "cannot append to %s/%d: no answer", topic, partition);
    int16_t code = r->responses[0].partition_responses[0].error_code;
    if (code == KERR_MESSAGE_TOO_LARGE)
        return fail(ret_why, -EIO,
                    "a record of %zu bytes is larger than the broker of the drill takes; --set "
                    "message.max.bytes=%zu",
                    bytes, bytes);
    return fail(ret_why, -EIO, "cannot append to %s/%d: %s", topic, partition, kerr_name(code));
}

static void add_record(struct batch_builder *b, struct arena *a, int64_t now_ms,
                       const struct stage_record *r)
{
    struct record_header *headers = arena_array(a, (size_t)r->n_headers, sizeof *headers);
    struct bytes rest = r->headers;
    int n = 0;
    while (n < r->n_headers && record_header_next(&rest, &headers[n]))
        n++;
    batch_builder_add(b, now_ms, r->key, r->value, headers, n);
}

int stage_append(struct stage *s, const char *topic, int32_t partition,
                 const struct stage_record *records, size_t n, int64_t *ret_base, char **ret_why)
{
    struct batch_builder b = {0};
    struct buf bytes = {0};
    batch_builder_start(&b, &batch_options_default);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    struct arena *a = arena_new();
    for (size_t i = 0; i < n; i++)
        add_record(&b, a, now_ms, &records[i]);
    int rc = batch_builder_finish(&b, &bytes);
    CHECK(rc == 0);
    struct produce_request req;
    struct produce_response resp;
    struct produce_request_topic_data t;
    struct produce_request_partition_data p;
    kw_init(&produce_request_msg, &req);
    produce_request_topic_data_init(&t);
    produce_request_partition_data_init(&p);
    p.index = partition;
    p.records = (struct kw_records){.ptr = bytes.ptr, .len = (int32_t)bytes.len};
    t.name = str_from(topic);
    t.partition_data = &p;
    t.n_partition_data = 1;
    req.acks = 1;
    req.timeout_ms = CALL_WAIT_MS;
    req.topic_data = &t;
    req.n_topic_data = 1;
    rc = call(s, API_PRODUCE, 9, &req, a, &resp);
    if (rc < 0)
        rc = fail(ret_why, rc, "cannot append to %s/%d: %s", topic, partition, strerror(-rc));
    else if (resp.n_responses != 1 || resp.responses[0].n_partition_responses != 1 ||
             resp.responses[0].partition_responses[0].error_code != 0)
        rc = refused(&resp, topic, partition, bytes.len, ret_why);
    else
        *ret_base = resp.responses[0].partition_responses[0].base_offset;
    batch_builder_free(&b);
    buf_free(&bytes);
    arena_free(a);
    return rc;
}

struct uuid stage_topic_id(struct stage *s, const char *topic)
{
    const struct topic *t = topics_by_name(broker_topics(s->broker), str_from(topic));
    return t ? t->id : (struct uuid){0};
}
