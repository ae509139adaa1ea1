// The response Kafka gives when a request fails as a whole: the code goes to every part that the
// request names. Used where nothing of the request was done (a drill's act, a bad argument).
#include "broker/api/api.h"

static void produce_error(struct request *r, struct produce_response *p, int16_t code)
{
    const struct produce_request *q = r->body;
    p->responses = arena_array(r->arena, (size_t)q->n_topic_data, sizeof *p->responses);
    p->n_responses = q->n_topic_data;
    for (int32_t i = 0; i < q->n_topic_data; i++) {
        const struct produce_request_topic_data *in = &q->topic_data[i];
        struct produce_response_response *out = &p->responses[i];
        out->name = in->name;
        out->topic_id = in->topic_id;
        out->n_partition_responses = in->n_partition_data;
        out->partition_responses =
            arena_array(r->arena, (size_t)in->n_partition_data, sizeof *out->partition_responses);
        for (int32_t k = 0; k < in->n_partition_data; k++) {
            produce_response_partition_response_init(&out->partition_responses[k]);
            out->partition_responses[k].index = in->partition_data[k].index;
            out->partition_responses[k].error_code = code;
            out->partition_responses[k].base_offset = -1;
        }
    }
}

// The code stands at the top from v7 on, and in each partition below.
static void fetch_error(struct request *r, struct fetch_response *p, int16_t code)
{
    const struct fetch_request *q = r->body;
    // Clients look for a partition's troubles with the partition.
    bool is_of_partition = code == KERR_NOT_LEADER_OR_FOLLOWER;
    p->error_code = is_of_partition ? KERR_NONE : code;
    if (r->version >= 13 && !is_of_partition)
        return;
    p->responses = arena_array(r->arena, (size_t)q->n_topics, sizeof *p->responses);
    p->n_responses = q->n_topics;
    for (int32_t i = 0; i < q->n_topics; i++) {
        const struct fetch_request_topic *in = &q->topics[i];
        struct fetch_response_response *out = &p->responses[i];
        out->topic = in->topic;
        out->topic_id = in->topic_id;
        out->n_partitions = in->n_partitions;
        out->partitions = arena_array(r->arena, (size_t)in->n_partitions, sizeof *out->partitions);
        for (int32_t k = 0; k < in->n_partitions; k++) {
            fetch_response_partition_init(&out->partitions[k]);
            out->partitions[k].partition_index = in->partitions[k].partition;
            out->partitions[k].error_code = code;
            out->partitions[k].high_watermark = -1;
            out->partitions[k].records = (struct kw_records){.ptr = (const uint8_t *)""};
        }
    }
}

static void list_offsets_error(struct request *r, struct list_offsets_response *p, int16_t code)
{
    const struct list_offsets_request *q = r->body;
    p->topics = arena_array(r->arena, (size_t)q->n_topics, sizeof *p->topics);
    p->n_topics = q->n_topics;
    for (int32_t i = 0; i < q->n_topics; i++) {
        p->topics[i].name = q->topics[i].name;
        int32_t n = p->topics[i].n_partitions = q->topics[i].n_partitions;
        p->topics[i].partitions = arena_array(r->arena, (size_t)n, sizeof *p->topics[i].partitions);
        for (int32_t k = 0; k < n; k++) {
            list_offsets_response_partition_init(&p->topics[i].partitions[k]);
            p->topics[i].partitions[k].partition_index = q->topics[i].partitions[k].partition_index;
            p->topics[i].partitions[k].error_code = code;
        }
    }
}

static void commit_error(struct request *r, struct offset_commit_response *p, int16_t code)
{
    const struct offset_commit_request *q = r->body;
    p->topics = arena_array(r->arena, (size_t)q->n_topics, sizeof *p->topics);
    p->n_topics = q->n_topics;
    for (int32_t i = 0; i < q->n_topics; i++) {
        p->topics[i].name = q->topics[i].name;
        p->topics[i].topic_id = q->topics[i].topic_id;
        int32_t n = p->topics[i].n_partitions = q->topics[i].n_partitions;
        p->topics[i].partitions = arena_array(r->arena, (size_t)n, sizeof *p->topics[i].partitions);
        for (int32_t k = 0; k < n; k++) {
            p->topics[i].partitions[k].partition_index = q->topics[i].partitions[k].partition_index;
            p->topics[i].partitions[k].error_code = code;
        }
    }
}

// Before v2 there is no top-level code: it goes to the partitions.
static void offset_fetch_error(struct request *r, struct offset_fetch_response *p, int16_t code)
{
    const struct offset_fetch_request *q = r->body;
    p->error_code = code;
    p->groups = arena_array(r->arena, (size_t)q->n_groups, sizeof *p->groups);
    p->n_groups = q->n_groups;
    for (int32_t i = 0; i < q->n_groups; i++) {
        p->groups[i].group_id = q->groups[i].group_id;
        p->groups[i].error_code = code;
    }
    if (r->version >= 2 || q->n_topics <= 0)
        return;
    p->topics = arena_array(r->arena, (size_t)q->n_topics, sizeof *p->topics);
    p->n_topics = q->n_topics;
    for (int32_t i = 0; i < q->n_topics; i++) {
        p->topics[i].name = q->topics[i].name;
        int32_t n = p->topics[i].n_partitions = q->topics[i].n_partition_indexes;
        p->topics[i].partitions = arena_array(r->arena, (size_t)n, sizeof *p->topics[i].partitions);
        for (int32_t k = 0; k < n; k++) {
            offset_fetch_response_partition_init(&p->topics[i].partitions[k]);
            p->topics[i].partitions[k].partition_index = q->topics[i].partition_indexes[k];
            p->topics[i].partitions[k].committed_offset = -1;
            p->topics[i].partitions[k].metadata = STR_EMPTY;
            p->topics[i].partitions[k].error_code = code;
        }
    }
}

static void coordinator_error(struct request *r, struct find_coordinator_response *p, int16_t code)
{
    const struct find_coordinator_request *q = r->body;
    p->error_code = code;
    p->node_id = p->port = -1;
    p->coordinators = arena_array(r->arena, (size_t)q->n_coordinator_keys, sizeof *p->coordinators);
    p->n_coordinators = q->n_coordinator_keys;
    for (int32_t i = 0; i < q->n_coordinator_keys; i++)
        p->coordinators[i] =
            (struct find_coordinator_response_coordinator){.key = q->coordinator_keys[i],
                                                           .node_id = -1,
                                                           .host = STR_EMPTY,
                                                           .port = -1,
                                                           .error_code = code,
                                                           .error_message = STR_NULL};
}

static void metadata_error(struct request *r, struct metadata_response *p, int16_t code)
{
    const struct metadata_request *q = r->body;
    p->error_code = code;
    if (q->n_topics <= 0)
        return;
    p->topics = arena_array(r->arena, (size_t)q->n_topics, sizeof *p->topics);
    p->n_topics = q->n_topics;
    for (int32_t i = 0; i < q->n_topics; i++) {
        metadata_response_topic_init(&p->topics[i]);
        p->topics[i].error_code = code;
        p->topics[i].name = str_is_null(q->topics[i].name) ? STR_EMPTY : q->topics[i].name;
        p->topics[i].topic_id = q->topics[i].topic_id;
    }
}

void *request_error_response(struct request *r, enum kerr error)
{
    void *p = request_response(r);
    int16_t code = (int16_t)error;
    switch (r->api->key) {
    case API_PRODUCE:
        produce_error(r, p, code);
        break;
    case API_FETCH:
        fetch_error(r, p, code);
        break;
    case API_LIST_OFFSETS:
        list_offsets_error(r, p, code);
        break;
    case API_METADATA:
        metadata_error(r, p, code);
        break;
    case API_OFFSET_COMMIT:
        commit_error(r, p, code);
        break;
    case API_OFFSET_FETCH:
        offset_fetch_error(r, p, code);
        break;
    case API_FIND_COORDINATOR:
        coordinator_error(r, p, code);
        break;
    case API_JOIN_GROUP: {
        struct join_group_response *j = p;
        j->error_code = code;
        j->protocol_name = r->version >= 7 ? STR_NULL : STR_EMPTY;
        break;
    }
    case API_SYNC_GROUP:
        ((struct sync_group_response *)p)->error_code = code;
        break;
    case API_HEARTBEAT:
        ((struct heartbeat_response *)p)->error_code = code;
        break;
    case API_LEAVE_GROUP:
        ((struct leave_group_response *)p)->error_code = code;
        break;
    case API_LIST_GROUPS:
        ((struct list_groups_response *)p)->error_code = code;
        break;
    case API_INIT_PRODUCER_ID: {
        struct init_producer_id_response *i = p;
        i->error_code = code;
        i->producer_id = i->producer_epoch = -1;
        break;
    }
    case API_API_VERSIONS:
        ((struct api_versions_response *)p)->error_code = code;
        break;
    default: // the script of a drill is checked for this
        break;
    }
    return p;
}
