#include "client/libtally/topic_id.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define METADATA 3
#define METADATA_VERSION 12   // flexible, with ids and by name: Kafka 2.8 to 4.x
#define API_VERSIONS 18       // version 0: every broker knows it
#define ANSWER_MAX (16 << 20) // one topic: even 100,000 partitions take less
#define NAME_MAX_LEN 249      // of a topic, as Kafka has it
#define REQUEST_MAX 320       // its name and what stands around it

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
    bool is_short; // read past the end: what was read is zeros
};

static uint64_t get_fixed(struct cursor *c, size_t n)
{
    if ((size_t)(c->end - c->at) < n) {
        c->is_short = true;
        c->at = c->end;
        return 0;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | *c->at++;
    return value;
}

static uint64_t get_varint(struct cursor *c)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 35; shift += 7) {
        uint64_t byte = get_fixed(c, 1);
        value |= (byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return value;
    }
    c->is_short = true;
    return 0;
}

static void skip(struct cursor *c, uint64_t n)
{
    if ((uint64_t)(c->end - c->at) < n) {
        c->is_short = true;
        c->at = c->end;
        return;
    }
    c->at += n;
}

static void skip_compact_string(struct cursor *c)
{
    uint64_t len = get_varint(c);
    skip(c, len ? len - 1 : 0);
}

static void skip_tags(struct cursor *c)
{
    for (uint64_t n = get_varint(c); n > 0 && !c->is_short; n--) {
        get_varint(c);
        skip(c, get_varint(c));
    }
}

static void id_text(const uint8_t *id, char ret[CLAIM_TOPIC_ID])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t n = 0;
    for (size_t bit = 0; bit < 128; bit += 6) {
        unsigned two = (unsigned)id[bit / 8] << 8 | (bit / 8 + 1 < 16 ? id[bit / 8 + 1] : 0u);
        ret[n++] = digits[two >> (10 - bit % 8) & 63];
    }
    ret[n] = 0;
}

// What came of asking one broker.
enum asked { ASKED_NOTHING, ASKED_UNKNOWN, ASKED_ID };

static enum asked read_metadata(const uint8_t *data, size_t len, char ret_id[CLAIM_TOPIC_ID])
{
    struct cursor c = {data, data + len, false};
    get_fixed(&c, 4); // correlation id
    skip_tags(&c);
    get_fixed(&c, 4); // throttle time
    for (uint64_t n = get_varint(&c); n > 1 && !c.is_short; n--) {
        get_fixed(&c, 4); // node
        skip_compact_string(&c);
        get_fixed(&c, 4); // port
        skip_compact_string(&c);
        skip_tags(&c);
    }
    skip_compact_string(&c); // cluster id
    get_fixed(&c, 4);        // controller
    if (get_varint(&c) != 2)
        return ASKED_NOTHING;
    uint64_t error = get_fixed(&c, 2);
    skip_compact_string(&c);
    uint8_t id[16] = {0};
    bool is_zero = true;
    for (size_t i = 0; i < sizeof id; i++) {
        id[i] = (uint8_t)get_fixed(&c, 1);
        is_zero = is_zero && !id[i];
    }
    if (c.is_short)
        return ASKED_NOTHING;
    // With an error and an id (a partition without a leader) it is the id all the same.
    if (is_zero && error)
        return ASKED_UNKNOWN;
    if (is_zero)
        snprintf(ret_id, CLAIM_TOPIC_ID, "%s", CLAIM_NO_ID);
    else
        id_text(id, ret_id);
    return ASKED_ID;
}

// Whether the broker speaks the version of Metadata that we ask in. *ret_is_answer: it is one.
static bool read_versions(const uint8_t *data, size_t len, bool *ret_is_answer)
{
    struct cursor c = {data, data + len, false};
    bool has_metadata = false;
    get_fixed(&c, 4); // correlation id
    uint64_t error = get_fixed(&c, 2);
    for (uint64_t n = get_fixed(&c, 4); n > 0 && !c.is_short; n--) {
        uint64_t api = get_fixed(&c, 2), oldest = get_fixed(&c, 2), newest = get_fixed(&c, 2);
        if (api == METADATA && oldest <= METADATA_VERSION && newest >= METADATA_VERSION)
            has_metadata = true;
    }
    *ret_is_answer = !c.is_short && !error;
    return has_metadata;
}

static size_t make_header(uint8_t api, uint8_t version, uint8_t out[REQUEST_MAX])
{
    static const char client[] = "tally";
    const uint8_t header[] = {0, api, 0, version, 0, 0, 0, 1, 0, sizeof client - 1};
    memcpy(out + 4, header, sizeof header);
    memcpy(out + 4 + sizeof header, client, sizeof client - 1);
    return 4 + sizeof header + sizeof client - 1;
}

static size_t set_size(uint8_t out[REQUEST_MAX], size_t n)
{
    out[0] = out[1] = 0;
    out[2] = (uint8_t)((n - 4) >> 8);
    out[3] = (uint8_t)(n - 4);
    return n;
}

static size_t make_request(const char *topic, uint8_t out[REQUEST_MAX])
{
    size_t len = strlen(topic), n = make_header(METADATA, METADATA_VERSION, out);
    out[n++] = 0; // tags
    out[n++] = 2; // one topic
    memset(out + n, 0, 16);
    n += 16;
    size_t one_more = len + 1;
    if (one_more >= 0x80)
        out[n++] = (uint8_t)(one_more | 0x80);
    out[n++] = (uint8_t)(one_more >= 0x80 ? one_more >> 7 : one_more);
    memcpy(out + n, topic, len);
    n += len;
    memset(out + n, 0, 4); // tags, no creation, no operations, tags
    return set_size(out, n + 4);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// False when the time is over.
static bool wait_for(int fd, short events, int64_t until_ms)
{
    struct pollfd p = {.fd = fd, .events = events};
    int64_t left = until_ms - now_ms();
    return left > 0 && poll(&p, 1, (int)left) > 0;
}

static bool receive(int fd, uint8_t *into, size_t len, int64_t until_ms)
{
    for (size_t got = 0; got < len;) {
        if (!wait_for(fd, POLLIN, until_ms))
            return false;
        ssize_t n = recv(fd, into + got, len - got, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        got += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool put_out(int fd, const uint8_t *request, size_t len)
{
    return send(fd, request, len, MSG_NOSIGNAL) == (ssize_t)len;
}

// NULL: no answer. Otherwise it is the caller's.
static uint8_t *take_in(int fd, int64_t until_ms, size_t *ret_len)
{
    uint8_t size[4];
    if (!receive(fd, size, 4, until_ms))
        return NULL;
    size_t n = (size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 | size[3];
    uint8_t *answer = n <= ANSWER_MAX ? malloc(n + 1) : NULL;
    if (answer && !receive(fd, answer, n, until_ms)) {
        free(answer);
        return NULL;
    }
    *ret_len = n;
    return answer;
}

static int connect_one(const struct addrinfo *a, int64_t until_ms)
{
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (fd < 0)
        return -1;
    int error = 0, yes = 1;
    socklen_t len = sizeof error;
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0 ||
        (errno == EINPROGRESS && wait_for(fd, POLLOUT, until_ms) &&
         getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0)) {
        // Questions follow each other, and must not wait for the first one's acknowledgement.
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        return fd;
    }
    close(fd);
    return -1;
}

// Asks the broker what it speaks. False: it does not answer.
static bool greet(struct topic_id_link *l, int64_t until_ms)
{
    uint8_t request[REQUEST_MAX];
    size_t len = set_size(request, make_header(API_VERSIONS, 0, request)), n;
    uint8_t *answer = put_out(l->fd, request, len) ? take_in(l->fd, until_ms, &n) : NULL;
    bool is_answer = false;
    if (answer)
        l->has_ids = read_versions(answer, n, &is_answer);
    free(answer);
    return is_answer;
}

static void open_host(struct topic_id_link *l, const char *host, const char *port, int timeout_ms)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all;
    if (getaddrinfo(host, port, &hints, &all) != 0)
        return;
    for (struct addrinfo *a = all; a && !l->is_open; a = a->ai_next) {
        int64_t until_ms = now_ms() + timeout_ms;
        l->fd = connect_one(a, until_ms);
        if (l->fd < 0)
            continue;
        l->is_open = greet(l, until_ms);
        if (!l->is_open)
            close(l->fd);
    }
    freeaddrinfo(all);
}

// HOST:PORT, HOST, [ADDRESS]:PORT, and librdkafka's PROTOCOL://HOST:PORT.
static void open_address(struct topic_id_link *l, const char *at, size_t len, int timeout_ms)
{
    char address[256];
    if (len >= sizeof address)
        return;
    memcpy(address, at, len);
    address[len] = 0;
    char *scheme = strstr(address, "://"), *host = scheme ? scheme + 3 : address;
    char *port = strrchr(host, ':');
    if (port && host[0] == '[' && port > host && port[-1] == ']') {
        port[-1] = 0;
        host++;
    }
    if (port)
        *port++ = 0;
    open_host(l, host, port ? port : "9092", timeout_ms);
}

// NULL: there are not so many.
static const char *nth_broker(const char *brokers, size_t n, size_t *ret_len)
{
    const char *at = brokers;
    for (;; n--) {
        at += strspn(at, " ");
        size_t len = strcspn(at, ",");
        if (n == 0 || !at[len]) {
            *ret_len = len;
            return n == 0 && len > 0 ? at : NULL;
        }
        at += len + 1;
    }
}

static bool put_question(struct topic_id_link *l, const char *topic)
{
    uint8_t request[REQUEST_MAX];
    if (l->has_ids && !put_out(l->fd, request, make_request(topic, request)))
        return false;
    l->n_waiting++;
    return true;
}

static enum asked take_answer(struct topic_id_link *l, int timeout_ms, char ret_id[CLAIM_TOPIC_ID])
{
    l->n_waiting--;
    if (!l->has_ids) {
        snprintf(ret_id, CLAIM_TOPIC_ID, "%s", CLAIM_NO_ID);
        return ASKED_ID;
    }
    size_t n;
    uint8_t *answer = take_in(l->fd, now_ms() + timeout_ms, &n);
    enum asked asked = answer ? read_metadata(answer, n, ret_id) : ASKED_NOTHING;
    free(answer);
    return asked;
}

void topic_id_close(struct topic_id_link *l)
{
    if (l->is_open)
        close(l->fd);
    l->is_open = false;
    l->n_waiting = 0;
}

static int check_name(const char *topic, struct tally_error *error)
{
    if (strlen(topic) <= NAME_MAX_LEN)
        return 0;
    return tally_error_set(error, TALLY_INVALID, "a topic's name has at most %d characters",
                           NAME_MAX_LEN);
}

static int unknown(const char *topic, struct tally_error *error)
{
    return tally_error_set(error, TALLY_KAFKA, "the brokers do not know topic %s now", topic);
}

static int no_broker(const char *brokers, struct tally_error *error)
{
    return tally_error_set(error, TALLY_KAFKA, "no broker of %.200s answers", brokers);
}

int topic_id_ask(const char *brokers, const char *topic, int timeout_ms,
                 char ret_id[CLAIM_TOPIC_ID], struct tally_error *error)
{
    int result = check_name(topic, error);
    if (result < 0)
        return result;
    bool is_unknown = false;
    const char *at;
    size_t len;
    for (size_t i = 0; (at = nth_broker(brokers, i, &len)); i++) {
        struct topic_id_link l = {0};
        enum asked asked = ASKED_NOTHING;
        open_address(&l, at, len, timeout_ms);
        if (l.is_open && put_question(&l, topic))
            asked = take_answer(&l, timeout_ms, ret_id);
        topic_id_close(&l);
        if (asked == ASKED_ID)
            return 0;
        is_unknown = is_unknown || asked == ASKED_UNKNOWN;
    }
    return is_unknown ? unknown(topic, error) : no_broker(brokers, error);
}

// While nothing is asked nothing can have come but the end of the connection.
static bool is_gone(const struct topic_id_link *l)
{
    uint8_t byte;
    return l->n_waiting == 0 && !(recv(l->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
                                  (errno == EAGAIN || errno == EINTR));
}

int topic_id_send(struct topic_id_link *l, const char *brokers, const char *topic, int timeout_ms,
                  struct tally_error *error)
{
    int result = check_name(topic, error);
    if (result < 0)
        return result;
    if (l->is_open && is_gone(l))
        topic_id_close(l);
    size_t n = 0, len;
    while (nth_broker(brokers, n, &len))
        n++;
    for (size_t i = 0; i < n && !l->is_open; i++) {
        const char *at = nth_broker(brokers, (l->first + i) % n, &len);
        open_address(l, at, len, timeout_ms);
    }
    if (l->is_open && put_question(l, topic))
        return 0;
    topic_id_close(l);
    l->first++;
    return no_broker(brokers, error);
}

int topic_id_receive(struct topic_id_link *l, const char *topic, int timeout_ms,
                     char ret_id[CLAIM_TOPIC_ID], struct tally_error *error)
{
    enum asked asked = take_answer(l, timeout_ms, ret_id);
    if (asked == ASKED_ID)
        return 0;
    topic_id_close(l);
    l->first++;
    if (asked == ASKED_UNKNOWN)
        return unknown(topic, error);
    return tally_error_set(error, TALLY_KAFKA, "the broker does not say which id topic %s has",
                           topic);
}
