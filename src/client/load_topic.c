#include "client/load_engine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

// Connecting and the first answer have half of what a dead address may take: 5 s.
#define PROBE_TIMEOUT_MS 4400
#define TOPIC_TIMEOUT_MS 60000

const struct load_options load_options_default = {
    .bootstrap = "127.0.0.1:9092",
    .topic = "tally-bench",
    .partitions = 1,
    .record_bytes = 1024,
    .batch_bytes = 16384,
    .acks = 1,
    .connections = 1,
    .in_flight = 5,
    .seconds = 5,
    .rate = 10000,
    .fetch_bytes = 1048576,
    .members = 10,
    .groups = 1,
    .group = "tally-bench",
};

int load_probe(const char *bootstrap, char *why)
{
    // Each address may take two timeouts: one to connect, one to answer.
    int addresses = 1;
    for (const char *p = bootstrap; *p; p++)
        addresses += *p == ',';
    struct client *c;
    int result = client_open(bootstrap, "tally-bench", PROBE_TIMEOUT_MS / 2 / addresses, &c, why);
    if (result < 0)
        return result;
    client_close(c);
    return 0;
}

static int open_client(const struct load_options *o, struct client **ret, char *why)
{
    return client_open(o->bootstrap, "tally-bench", TOPIC_TIMEOUT_MS, ret, why);
}

// Made at once, but a cluster may take a while until every partition has its leader.
static int wait_for_leaders(struct client *c, const char *name)
{
    struct client_deadline deadline = client_deadline(c);
    for (;;) {
        struct arena *a = arena_new();
        struct str topic = str_from(name);
        struct client_topic *topics;
        int32_t n = 0;
        int result = client_metadata(c, &topic, 1, a, &topics, &n);
        bool ready = result == 0 && n == 1 && topics[0].error_code == KERR_NONE;
        for (int32_t i = 0; ready && i < topics[0].n_partitions; i++)
            ready = topics[0].partitions[i].leader >= 0;
        arena_free(a);
        if (result < 0 || ready)
            return result;
        if (!client_wait(deadline))
            return client_fail(c, -ETIMEDOUT, "topic %s has a partition without a leader", name);
    }
}

static int topic_exists(struct client *c, const char *name, bool *ret_exists)
{
    struct arena *a = arena_new();
    struct str topic = str_from(name);
    struct client_topic *topics;
    int32_t n = 0;
    int result = client_metadata(c, &topic, 1, a, &topics, &n);
    if (result == 0)
        *ret_exists = n == 1 && topics[0].error_code == KERR_NONE;
    arena_free(a);
    return result;
}

int load_make_topic(const struct load_options *o, bool *ret_made, char *why)
{
    struct client *c;
    int result = open_client(o, &c, why);
    if (result < 0)
        return result;
    bool exists = false;
    result = topic_exists(c, o->topic, &exists);
    if (result == 0 && !exists)
        result = client_create_topic(c, o->topic, o->partitions, NULL, 0);
    if (result == 0 && !exists)
        result = wait_for_leaders(c, o->topic);
    if (result == 0)
        *ret_made = !exists;
    else
        snprintf(why, CLIENT_WHY_MAX, "%s", client_error(c));
    client_close(c);
    return result;
}

int load_remove_topic(const struct load_options *o, char *why)
{
    struct client *c;
    int result = open_client(o, &c, why);
    if (result < 0)
        return result;
    int32_t node = CLIENT_ANY_NODE;
    result = client_controller(c, &node);
    struct delete_topics_request request;
    delete_topics_request_init(&request);
    struct delete_topics_request_topic topic;
    delete_topics_request_topic_init(&topic);
    struct str name = str_from(o->topic);
    topic.name = name;
    request.topics = &topic;
    request.topic_names = &name;
    request.n_topics = request.n_topic_names = 1;
    request.timeout_ms = TOPIC_TIMEOUT_MS;
    struct arena *a = arena_new();
    struct delete_topics_response response;
    if (result == 0)
        result = client_call(c, node, API_DELETE_TOPICS, -1, &request, a, &response, NULL);
    if (result == 0 && response.n_responses == 1 && response.responses[0].error_code)
        result = client_refused(c, response.responses[0].error_code, "delete topic %s", o->topic);
    if (result < 0)
        snprintf(why, CLIENT_WHY_MAX, "%s", client_error(c));
    arena_free(a);
    client_close(c);
    return result;
}
