#include "client/internal.h"

#include <errno.h>

// The last versions that name topics, not ids.
#define OFFSET_FETCH_BY_NAME 7
#define OFFSET_COMMIT_BY_NAME 9

int client_list_offset(struct client *c, struct str topic, int32_t partition, int32_t leader,
                       int64_t timestamp_ms, int64_t *ret_offset)
{
    struct list_offsets_request_partition p;
    list_offsets_request_partition_init(&p);
    p.partition_index = partition;
    p.timestamp = timestamp_ms;
    struct list_offsets_request_topic t;
    list_offsets_request_topic_init(&t);
    t.name = topic;
    t.partitions = &p;
    t.n_partitions = 1;
    struct list_offsets_request request;
    list_offsets_request_init(&request);
    request.replica_id = -1;
    request.topics = &t;
    request.n_topics = 1;

    struct arena *a = arena_new();
    struct list_offsets_response response;
    int result = client_call(c, leader, API_LIST_OFFSETS, -1, &request, a, &response, NULL);
    if (result == 0 && (response.n_topics != 1 || response.topics[0].n_partitions != 1))
        result = client_fail(c, -EBADMSG, "ListOffsets: an answer without the partition");
    if (result == 0 && response.topics[0].partitions[0].error_code)
        result = client_refused(c, response.topics[0].partitions[0].error_code,
                                "offsets of %.*s/%d", STR_FMT(topic), (int)partition);
    if (result == 0)
        *ret_offset = response.topics[0].partitions[0].offset;
    arena_free(a);
    return result;
}

int client_committed(struct client *c, int32_t coordinator, struct str group, struct arena *a,
                     struct client_offset **ret_offsets, int32_t *ret_n_offsets)
{
    struct offset_fetch_request request;
    offset_fetch_request_init(&request);
    request.group_id = group;
    request.topics = NULL;
    request.n_topics = -1; // all of them
    struct offset_fetch_response response;
    int result = client_call(c, coordinator, API_OFFSET_FETCH, OFFSET_FETCH_BY_NAME, &request, a,
                             &response, NULL);
    if (result < 0)
        return result;
    if (response.error_code)
        return client_refused(c, response.error_code, "offsets of group %.*s", STR_FMT(group));

    size_t n = 0;
    for (int32_t i = 0; i < response.n_topics; i++)
        n += (size_t)response.topics[i].n_partitions;
    struct client_offset *offsets = arena_array(a, n, sizeof *offsets);
    n = 0;
    for (int32_t i = 0; i < response.n_topics; i++) {
        for (int32_t j = 0; j < response.topics[i].n_partitions; j++) {
            struct offset_fetch_response_partition *p = &response.topics[i].partitions[j];
            if (p->error_code)
                return client_refused(c, p->error_code, "offset of %.*s/%d",
                                      STR_FMT(response.topics[i].name), (int)p->partition_index);
            offsets[n++] = (struct client_offset){response.topics[i].name, p->partition_index,
                                                  p->committed_offset};
        }
    }
    *ret_offsets = offsets;
    *ret_n_offsets = (int32_t)n;
    return 0;
}

static int check_commit(struct client *c, struct str group,
                        const struct offset_commit_response *response)
{
    for (int32_t i = 0; i < response->n_topics; i++) {
        const struct offset_commit_response_topic *t = &response->topics[i];
        for (int32_t j = 0; j < t->n_partitions; j++) {
            if (t->partitions[j].error_code)
                return client_refused(c, t->partitions[j].error_code,
                                      "group %.*s: offset of %.*s/%d", STR_FMT(group),
                                      STR_FMT(t->name), (int)t->partitions[j].partition_index);
        }
    }
    return 0;
}

int client_commit_offsets(struct client *c, int32_t coordinator, struct str group,
                          const struct client_offset *offsets, int32_t n_offsets)
{
    struct arena *a = arena_new();
    struct offset_commit_request request;
    offset_commit_request_init(&request);
    request.group_id = group;
    request.generation_id_or_member_epoch = -1; // from outside the group
    request.member_id = STR_EMPTY;
    // Neighbours of one topic become one entry.
    request.topics = arena_array(a, (size_t)n_offsets, sizeof *request.topics);
    request.n_topics = 0;
    for (int32_t i = 0; i < n_offsets; i++) {
        struct offset_commit_request_topic *t = &request.topics[request.n_topics];
        if (i > 0 && str_eq(offsets[i - 1].topic, offsets[i].topic)) {
            t--;
        } else {
            offset_commit_request_topic_init(t);
            t->name = offsets[i].topic;
            t->partitions = arena_array(a, (size_t)(n_offsets - i), sizeof *t->partitions);
            t->n_partitions = 0;
            request.n_topics++;
        }
        struct offset_commit_request_partition *p = &t->partitions[t->n_partitions++];
        offset_commit_request_partition_init(p);
        p->partition_index = offsets[i].partition;
        p->committed_offset = offsets[i].offset;
        p->committed_leader_epoch = -1;
        p->committed_metadata = STR_EMPTY;
    }
    struct offset_commit_response response;
    int result = client_call(c, coordinator, API_OFFSET_COMMIT, OFFSET_COMMIT_BY_NAME, &request, a,
                             &response, NULL);
    if (result == 0)
        result = check_commit(c, group, &response);
    arena_free(a);
    return result;
}
