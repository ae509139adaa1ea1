#pragma once
// One request on its way through the broker, and what a handler may do with it.
//
// A handler (src/broker/api/NN_name.c) is `void api_<name>(struct request *r)`. It ends in exactly
// one of: request_reply(), request_reply_now(), request_no_reply(), request_fail(); or it lets the
// request wait (the core answers its token later, or a partition's waiters do). A request lives
// until it is answered or its connection is gone. Its connection takes no other request until then,
// but for Produce: those that come together are handled together, and answered in their order.

#include "base/arena.h"
#include "base/heap.h"
#include "base/list.h"
#include "core/effects.h"
#include "wire/codec.h"

#include "schema.h"

struct broker;
struct ledger_range;
struct channel; // internal.h

struct request {
    struct broker *broker;
    struct channel *channel;
    const struct kw_api *api;
    int16_t version;
    int32_t correlation_id;
    struct asker asker;  // token, connection, client, host, times; strings live as long as this
    struct arena *arena; // freed with the request
    void *body;          // struct <api>_request; strings point into the connection's frame
    size_t body_bytes;   // as it came

    // Called at due_ms; must answer, or wait again.
    void (*on_due)(struct request *r);
    // The peer sends nothing more, or the broker stops: answer with what there is (a parked Fetch).
    // NULL: such a request just goes on waiting.
    void (*on_hurry)(struct request *r);
    // The request goes away unanswered (its connection is gone): unlink it from what it waits for.
    void (*on_cancel)(struct request *r);
    void *state; // the handler's own, in the arena
    // Called once with what request_reply() was given, before any byte of it is written: end_bytes
    // is where the answer will end among the bytes of the connection's life, which also numbers
    // it; 0 when it will never leave.
    void (*on_leave)(struct request *r, void *response, uint64_t end_bytes);

    // Private to channel.c, dispatch.c and commit.c.
    enum request_stage {
        REQUEST_TAPPED, // held back by the tap before it was dispatched
        REQUEST_WORKING,
        REQUEST_TAPPED_ANSWER, // held back by the tap after it was answered
        REQUEST_HELD,          // answered, waiting for the journal
        REQUEST_IN_LINE,       // done, but one that came before it is not
    } stage;
    struct list line; // in channel.asking
    struct list node; // in broker.woken while it works, in broker.held once answered
    struct timer timer;
    void *response;       // for on_leave
    struct kw_out out;    // the encoded answer
    uint64_t position;    // of the journal, that it waits for
    bool drops_answer;    // TAP_DROP of a response
    bool has_no_answer;   // request_no_reply()
    const char *failure;  // request_fail() while others were before it
    size_t waiting_bytes; // its part of broker.waiting_bytes
};

// A zeroed response of this API with its defaults set, in the request's arena.
void *request_response(struct request *r);

// Answers. The answer leaves when everything the journal holds now is durable, because it may
// tell of it. The
// response lives as long as the request where on_leave is set.
void request_reply(struct request *r, void *response);
// The same, without waiting for the journal: the handler knows that nothing in it depends on it
// (a Fetch, a Produce whose log was synced).
void request_reply_now(struct request *r, void *response);
void request_no_reply(struct request *r); // acks=0
// Closes the connection with one log line: what Kafka does with a request it cannot make sense of.
void request_fail(struct request *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
// The response Kafka gives when the whole request fails with this code.
void *request_error_response(struct request *r, enum kerr code);

// Lets it wait: on_due is called at due_ms (monotonic; 0: no timer), or within this step when that
// is not in the future. May be called again.
void request_wait(struct request *r, uint64_t due_ms);

// From on_leave: records of the partition are in the answer that is about to be written. Tells
// the ledger and whoever watches, and remembers it so that an answer that was cut is taken back.
void request_sending(struct request *r, struct uuid topic_id, int32_t partition,
                     struct ledger_range range, uint64_t end_bytes);

// A request by its token; NULL when it was answered or its connection is gone.
struct request *request_by_token(struct broker *b, uint64_t token);
