#pragma once
// What a decision of the core asks the shell to do. The shell appends all records of one
// decision to the journal as one batch, applies each with core_apply(), and lets the replies
// leave when the journal is synced up to there. Everything lives in the request's arena or in
// the effects' own; nothing here is durable until the shell has made it so.

#include "base/arena.h"
#include "wire/codec.h"

// Who asks. Filled by the shell; strings live as long as the request.
struct asker {
    uint64_t token;       // names the request; answered exactly once with effects_reply()
    uint64_t conn;        // names the connection, never used twice in one run
    int16_t version;      // of the request
    struct str client_id; // never null: null is "" (RequestHeader)
    struct str host;      // "/127.0.0.1", as Kafka shows it
    struct str principal; // "User:ANONYMOUS" without authentication
    struct str software;  // "apache-kafka-java 4.3.1" from ApiVersions v3+, or ""
    uint64_t now_ms;      // monotonic: for timers
    int64_t wall_ms;      // since 1970: for what is stored and shown
    struct uuid fresh;    // random, for whatever id this request may need
};

// Memory that one request may take with what is made for it. A decision whose answer is longer than
// what was asked stops filling it beyond this; the shell then closes the connection instead of
// sending a part.
#define ANSWER_MAX_BYTES ((size_t)128 << 20)

struct effect_record {
    const struct kw_message *type;
    void *record; // struct <name>_record in the arena
    struct effect_record *next;
};

struct effect_reply {
    uint64_t token;
    void *response; // struct <api>_response in the arena
    struct effect_reply *next;
};

struct effects {
    struct arena *arena; // borrowed
    struct effect_record *first_record;
    struct effect_record **last_record;
    struct effect_reply *first_reply;
    struct effect_reply **last_reply;
};

void effects_init(struct effects *fx, struct arena *a);
// Allocates a record of this type with its defaults set, as the next of the batch.
void *effects_record(struct effects *fx, const struct kw_message *type);
// Answers a request. The response is allocated with its defaults set by the caller
// (effects_response) and encoded by the shell in the version that was asked.
void *effects_response(struct effects *fx, const struct kw_message *type);
void effects_reply(struct effects *fx, uint64_t token, void *response);
