#pragma once
// A small blocking client for the command line: any Kafka-protocol cluster, one thread.
//
// Every call returns 0 or -errno; after a failure client_error() holds one line that says what
// went wrong and what to do. Nothing is retried but what the protocol says passes by itself
// (no leader yet, coordinator loading), until the deadline given to client_open().

#include "base/arena.h"
#include "base/bytes.h"
#include "base/check.h"

struct client;

#define CLIENT_ANY_NODE (-1) // whichever connection is open

// `bootstrap` is HOST:PORT[,HOST:PORT...]. Connects at once and asks for ApiVersions.
// On failure *ret_client is untouched and `why` (of at least CLIENT_WHY_MAX bytes) is filled.
#define CLIENT_WHY_MAX 512
MUST_USE int client_open(const char *bootstrap, const char *client_id, int timeout_ms,
                         struct client **ret_client, char *why);
void client_close(struct client *c); // NULL is fine
const char *client_error(const struct client *c);

// True when the broker that answered first listed this api. Private ones are never listed: call
// them, -EOPNOTSUPP says that it is not a tally.
bool client_has_api(const struct client *c, int16_t api_key);

// One request and its answer. Uses the highest version that this program, the node and
// `max_version` allow (max_version < 0: no further bound). The answer is decoded into the
// arena; it keeps nothing of the request. ret_version may be NULL.
// -EOPNOTSUPP: the node lacks the api. -EPIPE, -ETIMEDOUT, -ECONNREFUSED ...: transport.
MUST_USE int client_call(struct client *c, int32_t node, int16_t api_key, int max_version,
                         const void *request, struct arena *a, void *ret_response,
                         int *ret_version);

// Reports an error code of an answer as client_error() and returns -EREMOTEIO:
//   "create topic orders: TOPIC_ALREADY_EXISTS"
MUST_USE int client_refused(struct client *c, int16_t error_code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Cluster facts, from Metadata.
struct client_partition {
    int32_t partition;
    int32_t leader; // node id; -1 when there is none now
};
struct client_topic {
    struct str name; // in the caller's arena
    struct uuid id;  // zero on brokers without topic ids
    bool is_internal;
    struct client_partition *partitions; // ascending
    int32_t n_partitions;
    int16_t error_code;
};
// names NULL: all topics. Also learns the nodes' addresses, for later calls.
MUST_USE int client_metadata(struct client *c, const struct str *names, int32_t n_names,
                             struct arena *a, struct client_topic **ret_topics,
                             int32_t *ret_n_topics);
// Node of the group's coordinator.
MUST_USE int client_coordinator(struct client *c, struct str group, int32_t *ret_node);
MUST_USE int client_controller(struct client *c, int32_t *ret_node);

// A topic, made; replication factor 1. configs are name, value pairs.
struct client_config {
    const char *name;
    const char *value; // NULL: back to the default (alter only)
};
MUST_USE int client_create_topic(struct client *c, const char *name, int32_t partitions,
                                 const struct client_config *configs, size_t n_configs);

// Offset of a partition by timestamp; -1: none. The protocol's own are two.
#define CLIENT_LATEST (-1)
#define CLIENT_EARLIEST (-2)
MUST_USE int client_list_offset(struct client *c, struct str topic, int32_t partition,
                                int32_t leader, int64_t timestamp_ms, int64_t *ret_offset);

// Everything the group has committed, in the coordinator's order.
struct client_offset {
    struct str topic; // in the caller's arena
    int32_t partition;
    int64_t offset;
};
MUST_USE int client_committed(struct client *c, int32_t coordinator, struct str group,
                              struct arena *a, struct client_offset **ret_offsets,
                              int32_t *ret_n_offsets);
// Commits as an administrator: only into a group without members.
MUST_USE int client_commit_offsets(struct client *c, int32_t coordinator, struct str group,
                                   const struct client_offset *offsets, int32_t n_offsets);

// What a topic holds, from its partitions in turn, up to where each ended when it was opened:
// committed records only, compression undone.
struct client_reader;
struct client_read {
    int32_t partition;
    int64_t offset;
    struct bytes key;   // ptr NULL: none
    struct bytes value; // ptr NULL: tombstone
    int32_t n_headers;
    struct bytes headers; // raw: record_header_next() of wire/batch.h
};
MUST_USE int client_reader_open(struct client *c, const char *topic,
                                struct client_reader **ret_reader);
// 1 and a record, valid until the next call; 0: no more; or -errno.
MUST_USE int client_reader_next(struct client_reader *r, struct client_read *ret_read);
void client_reader_close(struct client_reader *r); // NULL is fine

// Producer: acks=all, idempotent where the broker has InitProducerId. One producer writes one
// topic; records go to the partition of Kafka's default partitioner (murmur2 of the key), or in
// turn when the key is null.
struct client_record {
    struct str key;     // null: no key
    struct bytes value; // ptr NULL: tombstone
    int64_t time_ms;    // -1: now
};
struct client_producer;
struct client_ack {
    int32_t partition;
    int64_t base_offset;
    int32_t n_records;
};
typedef void client_ack_fn(void *arg, const struct client_ack *ack);

MUST_USE int client_producer_open(struct client *c, const char *topic, client_ack_fn *on_ack,
                                  void *arg, struct client_producer **ret_producer);
// Copies the record; sends when a batch is full. partition < 0: chosen by the key.
MUST_USE int client_producer_add(struct client_producer *p, int32_t partition,
                                 const struct client_record *r);
// Sends what is held back and waits for every acknowledgement.
MUST_USE int client_producer_flush(struct client_producer *p);
int32_t client_producer_partitions(const struct client_producer *p);
// Does not flush.
void client_producer_close(struct client_producer *p);
