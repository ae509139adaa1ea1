#pragma once
// Where a drill plays: an embedded broker on free ports with a fresh directory, one listener for
// each copy, and a connection of our own to make topics and records with. All in one thread: every
// call that waits runs the loop, so the tap's callbacks may come at any such call, never else.

#include "base/bytes.h"
#include "base/check.h"
#include "broker/tap.h"

struct stage;
struct configs;
struct net;

// dir is made and removed by the caller, and copied. fixed: --set values, borrowed.
MUST_USE int stage_new(const char *dir, const struct configs *fixed, struct stage **ret_stage,
                       char **ret_why);
void stage_free(struct stage *s); // NULL is fine

struct broker *stage_broker(struct stage *s);
struct net *stage_net(struct stage *s);
void stage_set_tap(struct stage *s, const struct tap *t);

// A listener for one more copy: its index from 0, and "127.0.0.1:PORT".
MUST_USE int stage_listen(struct stage *s, int *ret_listener, char ret_address[32]);

// One pass of the loop, waiting at most timeout_ms. -errno when the broker has failed.
MUST_USE int stage_run(struct stage *s, int timeout_ms);
// Passes until nothing is waiting to be read: what copies sent before is in.
MUST_USE int stage_settle(struct stage *s);

MUST_USE int stage_make_topic(struct stage *s, const char *topic, int32_t partitions,
                              char **ret_why);

struct stage_record {
    struct bytes key;   // ptr NULL: none
    struct bytes value; // ptr NULL: tombstone
    int32_t n_headers;
    struct bytes headers; // raw, as in struct record of wire/batch.h
};
// Appends to one partition, acks=1. *ret_base is the first offset.
MUST_USE int stage_append(struct stage *s, const char *topic, int32_t partition,
                          const struct stage_record *records, size_t n, int64_t *ret_base,
                          char **ret_why);
struct uuid stage_topic_id(struct stage *s, const char *topic);
uint64_t stage_now_ms(void); // monotonic
