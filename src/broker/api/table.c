// What is served. A handler that is not built yet has no line here and is not advertised.
#include "broker/api/api.h"

static const struct api_entry entries[] = {
    {API_PRODUCE, api_produce},
    {API_FETCH, api_fetch},
    {API_LIST_OFFSETS, api_list_offsets},
    {API_METADATA, api_metadata},
    {API_CREATE_TOPICS, api_create_topics},
    {API_DELETE_TOPICS, api_delete_topics},
    {API_DELETE_RECORDS, api_delete_records},
    {API_INIT_PRODUCER_ID, api_init_producer_id},
    {API_OFFSET_FOR_LEADER_EPOCH, api_offset_for_leader_epoch},
    {API_DESCRIBE_CONFIGS, api_describe_configs},
    {API_ALTER_CONFIGS, api_alter_configs},
    {API_CREATE_PARTITIONS, api_create_partitions},
    {API_INCREMENTAL_ALTER_CONFIGS, api_incremental_alter_configs},
    {API_DESCRIBE_CLUSTER, api_describe_cluster},
    {API_DESCRIBE_TOPIC_PARTITIONS, api_describe_topic_partitions},
    {API_OFFSET_COMMIT, api_offset_commit},
    {API_OFFSET_FETCH, api_offset_fetch},
    {API_FIND_COORDINATOR, api_find_coordinator},
    {API_JOIN_GROUP, api_join_group},
    {API_HEARTBEAT, api_heartbeat},
    {API_LEAVE_GROUP, api_leave_group},
    {API_SYNC_GROUP, api_sync_group},
    {API_DESCRIBE_GROUPS, api_describe_groups},
    {API_LIST_GROUPS, api_list_groups},
    {API_API_VERSIONS, api_api_versions},
    {API_DELETE_GROUPS, api_delete_groups},
    {API_OFFSET_DELETE, api_offset_delete},
    {API_TALLY_REPORT, api_tally_report},
    {API_TALLY_EXPECT, api_tally_expect},
};

api_handler *api_find(int16_t key)
{
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        if (entries[i].key == key)
            return entries[i].handle;
    return NULL;
}
