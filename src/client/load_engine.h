#pragma once
// What the kinds of load share: connections that never block. Private to src/client.

#include "client/internal.h"
#include "client/load.h"

struct load;

struct load_sent {
    uint64_t at_ns; // when it was sent, or was due
    int64_t tag;    // the kind's own
};

struct load_conn {
    struct load *load;
    int32_t index;
    int32_t node;
    int fd; // -1: closed
    bool wants_out;

    struct {
        const uint8_t *ptr;
        size_t len;
    } out[LOAD_IN_FLIGHT_MAX]; // a ring
    size_t out_first, n_out, out_at;
    struct load_sent sent[LOAD_IN_FLIGHT_MAX]; // a ring: not answered yet
    size_t sent_first, n_sent;

    uint8_t *in; // owned
    size_t in_len, in_cap;
    struct kw_out request; // scratch for one request at a time
    void *kind;            // the kind's own state
};

struct load {
    const struct load_options *options;
    struct load_result *result;
    struct client *client; // owned: metadata, versions
    struct arena *arena;   // owned: lives as long
    struct arena *scratch; // owned: reset with each answer
    struct client_topic topic;
    struct load_conn *conns; // owned
    int32_t n_conns;
    int epoll_fd;
    uint64_t start_ns;
    uint64_t end_ns;  // 0: no time bound
    uint64_t news_ns; // when something last came
    uint64_t progress_ns;
    bool is_done;
    int error; // of a callback
    void *kind;

    // An answer: its body, without size. `s` says what it answers.
    void (*on_answer)(struct load_conn *c, const struct load_sent *s, struct bytes frame);
    // Called once a pass; when it wants to be called again at the latest.
    uint64_t (*on_tick)(struct load *l, uint64_t now_ns);
    bool no_answers; // acks=0: a request is done when it is written
};

uint64_t load_now_ns(void);
// Opens the client, the topic's metadata when `topic`, and n connections, spread over the nodes
// that lead the topic's partitions, or all to `node` when that is not CLIENT_ANY_NODE.
MUST_USE int load_start(struct load *l, const struct load_options *o, struct load_result *r,
                        bool needs_topic, char *why);
MUST_USE int load_open(struct load *l, int32_t n, int32_t node, char *why);
// Connection i to node i modulo n_nodes of these.
MUST_USE int load_open_spread(struct load *l, int32_t n, const int32_t *nodes, int32_t n_nodes,
                              char *why);
// Connection i of those that are to be, now. Blocking.
MUST_USE int load_open_one(struct load *l, int32_t i, int32_t node, char *why);
// Runs until is_done. 0 or -errno with `why`.
MUST_USE int load_run(struct load *l, char *why);
void load_end(struct load *l);

bool load_can_send(const struct load_conn *c);
// The bytes are borrowed until they are written.
void load_send(struct load_conn *c, const uint8_t *frame, size_t len, uint64_t at_ns, int64_t tag);
// Encodes into c->request and sends that: one such at a time.
void load_ask(struct load_conn *c, int16_t api, int version, const void *request, int64_t tag);
MUST_USE bool load_answer(struct load_conn *c, int16_t api, int version, struct bytes frame,
                          void *ret_response); // in l->scratch; false: load_fail was called
void load_fail(struct load *l, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// The version both sides know, at most `max_version` (< 0: no bound).
MUST_USE int load_version(struct load *l, int16_t api, int max_version);
