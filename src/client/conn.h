#pragma once
// One blocking connection to one broker. Private to src/client.

#include "base/arena.h"
#include "base/bytes.h"
#include "base/check.h"

struct kw_out;

#define CONN_MAX_APIS 256 // more entries of an ApiVersions answer are ignored
#define CONN_HOST_MAX 256 // as long as a DNS name may be

struct conn_api {
    int16_t key;
    int16_t min;
    int16_t max;
};

struct conn {
    int32_t node; // -1: a bootstrap address whose node id is not known
    char host[CONN_HOST_MAX];
    int port;
    int fd; // -1: closed
    int32_t correlation_id;
    int64_t answer_due_ms;               // by CLOCK_MONOTONIC; 0: as long as something comes
    struct conn_api apis[CONN_MAX_APIS]; // what the broker listed
    int n_apis;
};

// Connects within timeout_ms, which then bounds each read and write too. 0 or -errno
// (-ENOENT: no such host).
MUST_USE int conn_open(struct conn *conn, int timeout_ms);
void conn_close(struct conn *conn);
int64_t conn_now_ms(void);
MUST_USE int conn_send(struct conn *conn, const void *data, size_t len);
// One frame, without its size. -EPIPE when the broker closed, -EMSGSIZE when it is absurd.
MUST_USE int conn_receive(struct conn *conn, struct arena *a, struct bytes *ret_frame);
// NULL when the broker does not list it.
const struct conn_api *conn_api(const struct conn *conn, int16_t key);
