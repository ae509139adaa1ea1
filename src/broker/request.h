#pragma once
// One request on its way through the broker, and what a handler may do with it.
//
// A handler (src/broker/api/NN_name.c) is `void api_<name>(struct request *r)`. It ends in exactly
// one of: request_reply(), request_reply_now(), request_no_reply(), request_fail(); or it lets the
// request wait (the core answers its token later, or a partition's waiters do), in which case
// r->wait.cancel may be set. A request lives until it is answered or its connection is gone; the
// connection takes no other request until then, so each connection has one at most.

#include "base/arena.h"
#include "base/heap.h"
#include "base/list.h"
#include "core/effects.h"
#include "wire/codec.h"

#include "schema.h"

struct broker;
struct conn; // broker/conn.h

struct request {
    struct broker *broker;
    struct conn *conn;
    const struct kw_api *api;
    int16_t version;
    int32_t correlation_id;
    struct asker asker;  // token, connection, client, host, times; strings live as long as this
    struct arena *arena; // freed with the request
    void *body;          // struct <api>_request; strings point into the connection's frame
    uint64_t due_ms;     // request_wait(): when on_due is called; 0 is never

    // Called at due_ms; must answer, or wait again.
    void (*on_due)(struct request *r);
    // The peer sends nothing more, or the broker stops: answer with what there is (a parked Fetch).
    // NULL: such a request just goes on waiting.
    void (*on_hurry)(struct request *r);
    // The request goes away unanswered (its connection is gone): unlink it from what it waits for.
    void (*on_cancel)(struct request *r);
    void *state; // the handler's own, in the arena
    // Called when the answer has been given to the socket, with the number of bytes of the
    // connection's life at which it ends (net_send()), before any byte is written; and with 0 when
    // it will never leave. For delivery grades. The response is still alive.
    void (*on_leave)(struct request *r, void *response, uint64_t end_bytes);

    // Private to conn.c, dispatch.c and commit.c.
    struct list node;
    struct timer timer;
    enum request_stage {
        REQUEST_FREE,
        REQUEST_WORKING,
        REQUEST_HELD,   // answered, waiting for the journal
        REQUEST_TAPPED, // held back by the tap
    } stage;
};

// A zeroed response of this API with its defaults set, in the request's arena.
void *request_response(struct request *r);

// Answers. The answer leaves when everything the journal holds now is durable, because it may
// tell of it. The response need only live during the call, unless on_leave is set.
void request_reply(struct request *r, void *response);
// The same, without waiting for the journal: the handler knows that nothing in it depends on it
// (a Fetch, a Produce whose log was synced).
void request_reply_now(struct request *r, void *response);
void request_no_reply(struct request *r); // acks=0
// Closes the connection with one log line: what Kafka does with a request it cannot make sense of.
void request_fail(struct request *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
// The response Kafka gives when the whole request fails with this code.
void *request_error_response(struct request *r, enum kerr code);

// Lets it wait: on_due is called at due_ms (monotonic; 0: no timer). May be called again.
void request_wait(struct request *r, uint64_t due_ms);

// A request by its token; NULL when it was answered or its connection is gone.
struct request *request_by_token(struct broker *b, uint64_t token);
