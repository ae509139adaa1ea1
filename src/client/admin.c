#include "client/internal.h"

#include <errno.h>
#include <stdlib.h>

static int compare_partitions(const void *a, const void *b)
{
    const struct client_partition *x = a, *y = b;
    return (x->partition > y->partition) - (x->partition < y->partition);
}

static void take_topic(const struct metadata_response_topic *from, struct arena *a,
                       struct client_topic *to)
{
    to->name = arena_str(a, from->name);
    to->id = from->topic_id;
    to->is_internal = from->is_internal;
    to->error_code = from->error_code;
    to->n_partitions = from->n_partitions;
    to->partitions = arena_array(a, (size_t)from->n_partitions, sizeof *to->partitions);
    for (int32_t i = 0; i < from->n_partitions; i++) {
        to->partitions[i] = (struct client_partition){from->partitions[i].partition_index,
                                                      from->partitions[i].leader_id};
    }
    if (to->n_partitions > 1)
        qsort(to->partitions, (size_t)to->n_partitions, sizeof *to->partitions, compare_partitions);
}

static int ask_metadata(struct client *c, const struct str *names, int32_t n_names, struct arena *a,
                        struct metadata_response *ret)
{
    struct metadata_request request;
    metadata_request_init(&request);
    request.allow_auto_topic_creation = false;
    request.n_topics = names ? n_names : -1;
    request.topics = NULL;
    if (names)
        request.topics = arena_array(a, (size_t)n_names, sizeof *request.topics);
    for (int32_t i = 0; names && i < n_names; i++) {
        metadata_request_topic_init(&request.topics[i]);
        request.topics[i].name = names[i];
    }
    int result = client_call(c, CLIENT_ANY_NODE, API_METADATA, -1, &request, a, ret, NULL);
    for (int32_t i = 0; result == 0 && i < ret->n_brokers; i++)
        client_learn_node(c, ret->brokers[i].node_id, ret->brokers[i].host, ret->brokers[i].port);
    return result;
}

int client_metadata(struct client *c, const struct str *names, int32_t n_names, struct arena *a,
                    struct client_topic **ret_topics, int32_t *ret_n_topics)
{
    struct metadata_response response;
    int result = ask_metadata(c, names, n_names, a, &response);
    if (result < 0)
        return result;
    struct client_topic *topics = arena_array(a, (size_t)response.n_topics, sizeof *topics);
    for (int32_t i = 0; i < response.n_topics; i++)
        take_topic(&response.topics[i], a, &topics[i]);
    *ret_topics = topics;
    *ret_n_topics = response.n_topics;
    return 0;
}

int client_controller(struct client *c, int32_t *ret_node)
{
    struct arena *a = arena_new();
    struct metadata_response response;
    int result = ask_metadata(c, &STR_EMPTY, 0, a, &response);
    if (result == 0)
        *ret_node = response.controller_id;
    arena_free(a);
    return result;
}

static int find_coordinator(struct client *c, struct str group, struct arena *a, int16_t *ret_error,
                            int32_t *ret_node)
{
    struct find_coordinator_request request;
    find_coordinator_request_init(&request);
    struct find_coordinator_response response;
    request.key = group;
    request.key_type = 0;
    request.coordinator_keys = &group;
    request.n_coordinator_keys = 1;
    int version;
    int result =
        client_call(c, CLIENT_ANY_NODE, API_FIND_COORDINATOR, -1, &request, a, &response, &version);
    if (result < 0)
        return result;
    int16_t error = response.error_code;
    int32_t node = response.node_id, port = response.port;
    struct str host = response.host;
    if (version >= 4) {
        if (response.n_coordinators != 1)
            return client_fail(c, -EBADMSG, "no coordinator named");
        error = response.coordinators[0].error_code;
        node = response.coordinators[0].node_id;
        host = response.coordinators[0].host;
        port = response.coordinators[0].port;
    }
    *ret_error = error;
    if (error)
        return 0;
    client_learn_node(c, node, host, port);
    *ret_node = node;
    return 0;
}

int client_coordinator(struct client *c, struct str group, int32_t *ret_node)
{
    struct client_deadline deadline = client_deadline(c);
    for (;;) {
        struct arena *a = arena_new();
        int16_t error = KERR_NONE;
        int result = find_coordinator(c, group, a, &error, ret_node);
        arena_free(a);
        if (result < 0 || error == KERR_NONE)
            return result;
        if (!kerr_is_retriable(error) || !client_wait(deadline))
            return client_refused(c, error, "coordinator of group %.*s", STR_FMT(group));
    }
}

int client_create_topic(struct client *c, const char *name, int32_t partitions,
                        const struct client_config *configs, size_t n_configs)
{
    int32_t node = CLIENT_ANY_NODE;
    int result = client_controller(c, &node);
    if (result < 0)
        return result;

    struct arena *a = arena_new();
    struct create_topics_request_topic topic;
    create_topics_request_topic_init(&topic);
    topic.name = str_from(name);
    topic.num_partitions = partitions;
    topic.replication_factor = -1; // the cluster's default
    topic.configs = arena_array(a, n_configs, sizeof *topic.configs);
    topic.n_configs = (int32_t)n_configs;
    for (size_t i = 0; i < n_configs; i++) {
        create_topics_request_config_init(&topic.configs[i]);
        topic.configs[i].name = str_from(configs[i].name);
        topic.configs[i].value = str_from(configs[i].value);
    }
    struct create_topics_request request;
    create_topics_request_init(&request);
    request.topics = &topic;
    request.n_topics = 1;
    request.timeout_ms = c->timeout_ms;
    struct create_topics_response response;
    result = client_call(c, node, API_CREATE_TOPICS, -1, &request, a, &response, NULL);
    if (result == 0 && response.n_topics == 1 && response.topics[0].error_code) {
        struct str message = response.topics[0].error_message;
        result = client_refused(c, response.topics[0].error_code, "create topic %s%s%.*s", name,
                                str_is_null(message) ? "" : ": ", STR_FMT(message));
    }
    arena_free(a);
    return result;
}
