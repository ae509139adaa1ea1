#pragma once
// What the handlers of topics and logs share: from what a request names to the partition.

#include "broker/broker.h"
#include "broker/partition.h"
#include "broker/request.h"

// By id where by_id, else by name. KERR_NONE, UNKNOWN_TOPIC_ID or UNKNOWN_TOPIC_OR_PARTITION.
enum kerr find_topic(struct broker *b, struct str name, struct uuid id, bool by_id,
                     const struct topic **ret_topic);
enum kerr find_partition(struct broker *b, struct str name, struct uuid id, bool by_id,
                         int32_t index, struct partition **ret_partition);
// Compares what the client believes (-1: nothing) with the leader epoch.
enum kerr check_leader_epoch(const struct partition *p, int32_t believed);
// The epoch under which this offset was written.
int32_t epoch_of_offset(const struct partition *p, int64_t offset);

// The only broker there is, as the asking connection's listener advertises it.
struct find_address {
    struct str host;
    int32_t port;
};
struct find_address find_address(struct request *r);

// What everybody may do while there is no authorizer, as Kafka shows it: a bit an operation.
#define ALL_TOPIC_OPERATIONS 3576
#define ALL_CLUSTER_OPERATIONS 8096
