#include "client/libtally/topic_id.h"

#include <errno.h>
#include <netdb.h>
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

// NULL: no answer. Otherwise it is the caller's.
static uint8_t *call(int fd, const uint8_t *request, size_t len, int64_t until_ms, size_t *ret_len)
{
    uint8_t size[4];
    if (send(fd, request, len, MSG_NOSIGNAL) != (ssize_t)len || !receive(fd, size, 4, until_ms))
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

static enum asked exchange(int fd, const char *topic, int64_t until_ms, char ret_id[CLAIM_TOPIC_ID])
{
    uint8_t request[REQUEST_MAX];
    size_t len = set_size(request, make_header(API_VERSIONS, 0, request)), n;
    uint8_t *answer = call(fd, request, len, until_ms, &n);
    if (!answer)
        return ASKED_NOTHING;
    bool is_answer, has_ids = read_versions(answer, n, &is_answer);
    free(answer);
    if (!is_answer)
        return ASKED_NOTHING;
    if (!has_ids) {
        snprintf(ret_id, CLAIM_TOPIC_ID, "%s", CLAIM_NO_ID);
        return ASKED_ID;
    }
    answer = call(fd, request, make_request(topic, request), until_ms, &n);
    if (!answer)
        return ASKED_NOTHING;
    enum asked asked = read_metadata(answer, n, ret_id);
    free(answer);
    return asked;
}

static int connect_one(const struct addrinfo *a, int64_t until_ms)
{
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (fd < 0)
        return -1;
    int error = 0;
    socklen_t len = sizeof error;
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0 ||
        (errno == EINPROGRESS && wait_for(fd, POLLOUT, until_ms) &&
         getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0))
        return fd;
    close(fd);
    return -1;
}

static enum asked ask_host(const char *host, const char *port, const char *topic, int timeout_ms,
                           char ret_id[CLAIM_TOPIC_ID])
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all;
    if (getaddrinfo(host, port, &hints, &all) != 0)
        return ASKED_NOTHING;
    enum asked asked = ASKED_NOTHING;
    for (struct addrinfo *a = all; a && asked == ASKED_NOTHING; a = a->ai_next) {
        int64_t until_ms = now_ms() + timeout_ms;
        int fd = connect_one(a, until_ms);
        if (fd < 0)
            continue;
        asked = exchange(fd, topic, until_ms, ret_id);
        close(fd);
    }
    freeaddrinfo(all);
    return asked;
}

// HOST:PORT, HOST, [ADDRESS]:PORT, and librdkafka's PROTOCOL://HOST:PORT.
static enum asked ask_address(const char *at, size_t len, const char *topic, int timeout_ms,
                              char ret_id[CLAIM_TOPIC_ID])
{
    char address[256];
    if (len >= sizeof address)
        return ASKED_NOTHING;
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
    return ask_host(host, port ? port : "9092", topic, timeout_ms, ret_id);
}

int topic_id_ask(const char *brokers, const char *topic, int timeout_ms,
                 char ret_id[CLAIM_TOPIC_ID], struct tally_error *error)
{
    if (strlen(topic) > NAME_MAX_LEN)
        return tally_error_set(error, TALLY_INVALID, "a topic's name has at most %d characters",
                               NAME_MAX_LEN);
    bool is_unknown = false;
    for (const char *at = brokers; *at;) {
        at += strspn(at, " ");
        size_t len = strcspn(at, ",");
        enum asked asked = ask_address(at, len, topic, timeout_ms, ret_id);
        if (asked == ASKED_ID)
            return 0;
        is_unknown = is_unknown || asked == ASKED_UNKNOWN;
        at += len + (at[len] == ',');
    }
    if (is_unknown)
        return tally_error_set(error, TALLY_KAFKA, "the brokers do not know topic %s now", topic);
    return tally_error_set(error, TALLY_KAFKA, "no broker of %.200s answers", brokers);
}
