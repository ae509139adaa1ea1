#pragma once
// Fills any message of the schema with contents that are ordinary, on an edge or senseless, but
// always legal to encode. Every decision is a byte of the input, so that a fuzzer can learn them.

#include "base/arena.h"
#include "wire/codec.h"

#define ODD_MEMBERS 8
#define ODD_TOPICS 8

struct odd {
    const uint8_t *at; // the input; when it has ended every choice is the first
    const uint8_t *end;
    // What the broker has told: without it no request comes far.
    char members[ODD_MEMBERS][64];
    unsigned n_members;
    struct uuid topics[ODD_TOPICS];
    unsigned n_topics;
    int32_t generation;
    int64_t time_ms;
};

unsigned odd_pick(struct odd *o, unsigned below); // below 256
void odd_message(struct odd *o, const struct kw_message *m, int version, struct arena *a,
                 void *ret_msg);
