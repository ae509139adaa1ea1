#pragma once
// All handlers, one thin file an API (NN_name.c). The table in table.c says which are served, and
// with it what ApiVersions advertises.

#include "broker/broker.h"
#include "broker/request.h"

typedef void api_handler(struct request *r);

struct api_entry {
    int16_t key;
    api_handler *handle;
};

api_handler *api_find(int16_t key); // NULL: not served

api_handler api_produce, api_fetch, api_list_offsets, api_metadata, api_create_topics,
    api_delete_topics, api_delete_records, api_init_producer_id, api_offset_for_leader_epoch,
    api_describe_configs, api_alter_configs, api_create_partitions, api_incremental_alter_configs,
    api_describe_cluster, api_describe_topic_partitions;

api_handler api_offset_commit, api_offset_fetch, api_find_coordinator, api_join_group,
    api_heartbeat, api_leave_group, api_sync_group, api_describe_groups, api_list_groups,
    api_api_versions, api_delete_groups, api_offset_delete, api_tally_report, api_tally_expect;

// The line in the log for who asks for transactions, which the answer refuses.
void api_say_no_transactions(const struct request *r, struct str transactional_id);
