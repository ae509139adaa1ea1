#pragma once
// Load on any Kafka-protocol address, and what it cost in time: the engine of `tally bench`. One
// thread, many connections, several requests in flight on each.
//
// Every load_*() returns 0 or -errno; after a failure `why` (CLIENT_WHY_MAX bytes) holds one line
// that says what went wrong.

#include "base/histogram.h"
#include "client/client.h"

#define LOAD_IN_FLIGHT_MAX 64      // requests on one connection
#define LOAD_CONNECTIONS_MAX 20000 // and members of a group, each of which needs one
#define LOAD_RECORD_MIN 16         // room for the time in it that latency needs

struct load_options {
    const char *bootstrap;
    const char *topic; // made when missing, with `partitions`
    int32_t partitions;
    int32_t record_bytes;
    int32_t batch_bytes; // of a produced batch, at most
    int16_t acks;        // -1, 0 or 1
    int32_t connections;
    int32_t in_flight;
    int64_t records; // stop after so many; 0: after `seconds`
    double seconds;
    int64_t rate;        // latency: records a second
    int32_t fetch_bytes; // consume: of one partition in one answer
    int32_t members;
    const char *group;
    int32_t groups; // of commit: GROUP-0, GROUP-1 ... with the members spread over them; 1: GROUP
    bool rejoin;    // group: one leaves, the others go on
    // connect: wait for the end of standard input with everything open. commit: say "joined" before
    // the first commit, "committed" after the last, and wait for a line each time.
    bool hold;
    // Told about ten times a second; may be NULL.
    void (*progress)(void *arg, double seconds, int64_t done);
    void *arg;
};
extern const struct load_options load_options_default;

struct load_result {
    int64_t records; // of commit: commits; of connect: connections; of group: members
    int64_t bytes;   // of batches
    int64_t requests;
    double seconds;
    struct histogram latency; // ns: of a request; of a record in latency; of joining in group
    struct histogram second;  // latency: from the intended send to the acknowledgement
    double rebalance_ms;      // group: from one member's leaving until all others are assigned
};

// Checks that somebody who speaks the protocol answers, within five seconds in all.
MUST_USE int load_probe(const char *bootstrap, char *why);
// Makes the topic unless it is there. *ret_made says that it was not.
MUST_USE int load_make_topic(const struct load_options *o, bool *ret_made, char *why);
MUST_USE int load_remove_topic(const struct load_options *o, char *why);

MUST_USE int load_produce(const struct load_options *o, struct load_result *ret, char *why);
MUST_USE int load_consume(const struct load_options *o, struct load_result *ret, char *why);
// Open loop: record i is due at start + i / rate, whatever the broker does, and its latency counts
// from then until a consumer has it.
MUST_USE int load_latency(const struct load_options *o, struct load_result *ret, char *why);
MUST_USE int load_commit(const struct load_options *o, struct load_result *ret, char *why);
MUST_USE int load_connect(const struct load_options *o, struct load_result *ret, char *why);
// All members join from cold; with `rejoin` one leaves then.
MUST_USE int load_group(const struct load_options *o, struct load_result *ret, char *why);
