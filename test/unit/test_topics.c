#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/topics.h"

struct fixture {
    struct arena *arena;
    struct configs *fixed;
    struct topics *ts;
    struct effects fx;
    uint8_t next_id;
};

static int setup(void **state)
{
    static struct fixture f;
    f = (struct fixture){.arena = arena_new(), .fixed = configs_new()};
    f.ts = topics_new(f.fixed);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    topics_free(f->ts);
    configs_free(f->fixed);
    arena_free(f->arena);
    return 0;
}

static struct asker asker(struct fixture *f, int16_t version)
{
    struct asker a = {.token = 7, .version = version, .now_ms = 1000, .wall_ms = 5000};
    a.fresh.b[0] = ++f->next_id;
    effects_init(&f->fx, f->arena);
    return a;
}

// What the shell does with a decision. Gives the one answer, or NULL.
static void *commit(struct fixture *f)
{
    for (struct effect_record *r = f->fx.first_record; r; r = r->next)
        assert_true(topics_apply(f->ts, r->type, r->record));
    return f->fx.first_reply ? f->fx.first_reply->response : NULL;
}

static size_t n_records(const struct fixture *f)
{
    size_t n = 0;
    for (struct effect_record *r = f->fx.first_record; r; r = r->next)
        n++;
    return n;
}

static struct create_topics_response_topic *create_with(struct fixture *f, const char *name,
                                                        int32_t partitions, int16_t factor,
                                                        const char *key, const char *value)
{
    struct create_topics_request_config config = {str_from(key), str_from(value)};
    struct create_topics_request_topic topic = {.name = str_from(name),
                                                .num_partitions = partitions,
                                                .replication_factor = factor,
                                                .configs = &config,
                                                .n_configs = key ? 1 : 0};
    struct create_topics_request req = {.topics = &topic, .n_topics = 1};
    struct asker a = asker(f, 7);
    topics_decide_create(f->ts, &a, &req, &f->fx);
    struct create_topics_response *resp = commit(f);
    assert_int_equal(resp->n_topics, 1);
    return &resp->topics[0];
}

static int create(struct fixture *f, const char *name, int32_t partitions)
{
    return create_with(f, name, partitions, 1, NULL, NULL)->error_code;
}

static void a_topic_is_made_found_and_deleted(void **state)
{
    struct fixture *f = *state;
    struct create_topics_response_topic *made = create_with(f, "orders", 3, -1, NULL, NULL);
    assert_int_equal(made->error_code, KERR_NONE);
    assert_int_equal(made->num_partitions, 3);
    assert_int_equal(made->replication_factor, 1);
    assert_true(made->n_configs > 10);
    const struct topic *t = topics_by_name(f->ts, STR("orders"));
    assert_non_null(t);
    assert_int_equal(t->n_partitions, 3);
    assert_ptr_equal(topics_by_id(f->ts, made->topic_id), t);
    assert_int_equal(create(f, "orders", 1), KERR_TOPIC_ALREADY_EXISTS);

    uint64_t before = topics_version(f->ts);
    struct delete_topics_request_topic d = {.name = STR_NULL, .topic_id = made->topic_id};
    struct delete_topics_request req = {.topics = &d, .n_topics = 1};
    struct asker a = asker(f, 6);
    topics_decide_delete(f->ts, &a, &req, &f->fx);
    struct delete_topics_response *resp = commit(f);
    assert_int_equal(resp->responses[0].error_code, KERR_NONE);
    assert_true(str_eq_c(resp->responses[0].name, "orders"));
    assert_null(topics_by_name(f->ts, STR("orders")));
    assert_true(topics_version(f->ts) != before);

    topics_decide_delete(f->ts, &a, &req, (effects_init(&f->fx, f->arena), &f->fx));
    resp = commit(f);
    assert_int_equal(resp->responses[0].error_code, KERR_UNKNOWN_TOPIC_ID);
}

static void bad_topics_are_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, "", 1), KERR_INVALID_TOPIC_EXCEPTION);
    assert_int_equal(create(f, "..", 1), KERR_INVALID_TOPIC_EXCEPTION);
    assert_int_equal(create(f, "a b", 1), KERR_INVALID_TOPIC_EXCEPTION);
    char name[TOPIC_NAME_MAX + 2];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    assert_int_equal(create(f, name, 1), KERR_INVALID_TOPIC_EXCEPTION);
    assert_int_equal(create(f, name + 1, 1), KERR_NONE);
    assert_int_equal(create(f, "a.b", 1), KERR_NONE);
    assert_int_equal(create(f, "a_b", 1), KERR_INVALID_TOPIC_EXCEPTION);
    assert_int_equal(create(f, "p", 0), KERR_INVALID_PARTITIONS);
    assert_int_equal(create(f, "p", -2), KERR_INVALID_PARTITIONS);
    assert_int_equal(create(f, "p", TOPIC_PARTITIONS_MAX), KERR_POLICY_VIOLATION);
    assert_int_equal(create_with(f, "p", 1, 2, NULL, NULL)->error_code,
                     KERR_INVALID_REPLICATION_FACTOR);
    assert_int_equal(create_with(f, "p", 1, 0, NULL, NULL)->error_code,
                     KERR_INVALID_REPLICATION_FACTOR);
    topics_clamp_replication(f->ts, true);
    assert_int_equal(create_with(f, "p", 1, 3, NULL, NULL)->error_code, KERR_NONE);
}

static void bad_settings_are_refused(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name, *value;
        enum kerr error;
    } cases[] = {
        {"retention.ms", "1000", KERR_NONE},
        {"retention.ms", "-2", KERR_INVALID_CONFIG},
        {"retention.ms", "soon", KERR_INVALID_CONFIG},
        {"retention.ms", NULL, KERR_INVALID_CONFIG},
        {"segment.bytes", "3000000000", KERR_INVALID_CONFIG},
        {"segment.bytes", "1048575", KERR_INVALID_CONFIG},
        {"segment.bytes", "1048576", KERR_NONE},
        {"preallocate", "maybe", KERR_INVALID_CONFIG},
        {"preallocate", "TRUE", KERR_NONE},
        {"message.timestamp.type", "LogAppendTime", KERR_NONE},
        {"message.timestamp.type", "appendtime", KERR_INVALID_CONFIG},
        {"cleanup.policy", "delete", KERR_NONE},
        {"cleanup.policy", "compact", KERR_NONE},
        {"cleanup.policy", "compact,delete", KERR_NONE},
        {"cleanup.policy", "compact,shrink", KERR_INVALID_CONFIG},
        {"compression.type", "producer", KERR_NONE},
        {"compression.type", "zstd", KERR_INVALID_CONFIG},
        {"min.cleanable.dirty.ratio", "0.5", KERR_NONE},
        {"min.cleanable.dirty.ratio", "1.5", KERR_INVALID_CONFIG},
        {"remote.storage.enable", "false", KERR_NONE},  // Kafka's, of no use here
        {"log.retention.ms", "1", KERR_INVALID_CONFIG}, // a broker's
        {"retention.mss", "1", KERR_INVALID_CONFIG},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%zu", i);
        struct create_topics_response_topic *r =
            create_with(f, name, 1, 1, cases[i].name, cases[i].value);
        if (r->error_code != cases[i].error)
            fail_msg("%s=%s: %s", cases[i].name, cases[i].value, kerr_name(r->error_code));
        if (r->error_code != KERR_NONE)
            assert_non_null(r->error_message.ptr);
    }
    char why[200];
    assert_int_equal(config_check_topic(STR("retention.mss"), STR("1"), why, sizeof why),
                     CONFIG_UNKNOWN);
    assert_non_null(strstr(why, "did you mean retention.ms?"));
    assert_int_equal(config_check_broker(STR("foo.bar"), STR("1"), why, sizeof why),
                     CONFIG_UNKNOWN);
    assert_null(strstr(why, "did you mean")); // four letters of seven away from log.dir
}

static void validate_only_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct create_topics_request_topic topic = {
        .name = STR("t"), .num_partitions = 2, .replication_factor = 1};
    struct create_topics_request req = {.topics = &topic, .n_topics = 1, .validate_only = true};
    struct asker a = asker(f, 7);
    topics_decide_create(f->ts, &a, &req, &f->fx);
    struct create_topics_response *resp = commit(f);
    assert_int_equal(resp->topics[0].error_code, KERR_NONE);
    assert_int_equal(resp->topics[0].num_partitions, 2);
    assert_true(uuid_is_zero(resp->topics[0].topic_id));
    assert_int_equal(topics_count(f->ts), 0);
}

static void a_name_twice_in_one_request_is_refused(void **state)
{
    struct fixture *f = *state;
    struct create_topics_request_topic two[] = {
        {.name = STR("t"), .num_partitions = 1, .replication_factor = 1},
        {.name = STR("t"), .num_partitions = 1, .replication_factor = 1},
        {.name = STR("u"), .num_partitions = 1, .replication_factor = 1}};
    struct create_topics_request req = {.topics = two, .n_topics = 3};
    struct asker a = asker(f, 7);
    topics_decide_create(f->ts, &a, &req, &f->fx);
    struct create_topics_response *resp = commit(f);
    assert_int_equal(resp->n_topics, 2);
    assert_int_equal(resp->topics[0].error_code, KERR_INVALID_REQUEST);
    assert_int_equal(resp->topics[1].error_code, KERR_NONE);
    assert_int_equal(topics_count(f->ts), 1);
}

static void manual_assignments_name_our_node_only(void **state)
{
    struct fixture *f = *state;
    int32_t us[] = {1}, other[] = {2};
    struct create_topics_request_assignment good[] = {
        {.partition_index = 1, .broker_ids = us, .n_broker_ids = 1},
        {.partition_index = 0, .broker_ids = us, .n_broker_ids = 1}};
    struct create_topics_request_topic t = {.name = STR("t"),
                                            .num_partitions = -1,
                                            .replication_factor = -1,
                                            .assignments = good,
                                            .n_assignments = 2};
    struct create_topics_request req = {.topics = &t, .n_topics = 1};
    good[1].broker_ids = other;
    struct asker a = asker(f, 7);
    topics_decide_create(f->ts, &a, &req, &f->fx);
    struct create_topics_response *resp = commit(f);
    assert_int_equal(resp->topics[0].error_code, KERR_INVALID_REPLICA_ASSIGNMENT);
    good[1].broker_ids = us;
    a = asker(f, 7);
    topics_decide_create(f->ts, &a, &req, &f->fx);
    resp = commit(f);
    assert_int_equal(resp->topics[0].error_code, KERR_NONE);
    assert_int_equal(topics_by_name(f->ts, STR("t"))->n_partitions, 2);
}

static int widen(struct fixture *f, const char *name, int32_t count)
{
    struct create_partitions_request_topic t = {
        .name = str_from(name), .count = count, .n_assignments = -1};
    struct create_partitions_request req = {.topics = &t, .n_topics = 1};
    struct asker a = asker(f, 3);
    topics_decide_add_partitions(f->ts, &a, &req, &f->fx);
    struct create_partitions_response *resp = commit(f);
    return resp->results[0].error_code;
}

static void partitions_only_grow(void **state)
{
    struct fixture *f = *state;
    create(f, "t", 2);
    assert_int_equal(widen(f, "t", 2), KERR_INVALID_PARTITIONS);
    assert_int_equal(widen(f, "t", 1), KERR_INVALID_PARTITIONS);
    assert_int_equal(widen(f, "u", 1), KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(widen(f, "t", 5), KERR_NONE);
    assert_int_equal(topics_by_name(f->ts, STR("t"))->n_partitions, 5);
}

static void partitions_of_all_topics_are_bounded(void **state)
{
    struct fixture *f = *state;
    create(f, "gone", 4);
    struct topic_deleted_record gone = {.topic_id = topics_by_name(f->ts, STR("gone"))->id};
    topics_apply(f->ts, &topic_deleted_record_msg, &gone);
    topics_limit_partitions(f->ts, 5);
    assert_int_equal(create(f, "t", 6), KERR_POLICY_VIOLATION);
    assert_int_equal(create(f, "t", 3), KERR_NONE);
    assert_int_equal(widen(f, "t", 6), KERR_POLICY_VIOLATION);
    assert_int_equal(widen(f, "t", 5), KERR_NONE);
    struct asker a = asker(f, 12);
    assert_int_equal(topics_decide_make(f->ts, &a, STR("u"), 0, false, &f->fx),
                     KERR_POLICY_VIOLATION);
}

static int alter(struct fixture *f, int8_t type, const char *resource, const char *name, int8_t op,
                 const char *value)
{
    struct incremental_alter_configs_request_config c = {
        .name = str_from(name), .config_operation = op, .value = str_from(value)};
    struct incremental_alter_configs_request_resource res = {
        .resource_type = type, .resource_name = str_from(resource), .configs = &c, .n_configs = 1};
    struct incremental_alter_configs_request req = {.resources = &res, .n_resources = 1};
    struct asker a = asker(f, 1);
    topics_decide_alter_configs_incrementally(f->ts, &a, &req, &f->fx);
    struct incremental_alter_configs_response *resp = commit(f);
    return resp->responses[0].error_code;
}

static int64_t retention(struct fixture *f)
{
    struct config_view v = topics_topic_view(f->ts, topics_by_name(f->ts, STR("t")));
    return config_i64(&v, "retention.ms");
}

static void settings_fall_back_from_topic_to_broker_to_default(void **state)
{
    struct fixture *f = *state;
    create(f, "t", 1);
    assert_int_equal(retention(f), 604800000);
    configs_set(f->fixed, STR("log.retention.hours"), STR("2"));
    assert_int_equal(retention(f), 7200000);
    configs_set(f->fixed, STR("log.retention.minutes"), STR("3"));
    assert_int_equal(retention(f), 180000);
    configs_set(f->fixed, STR("log.retention.ms"), STR("4"));
    assert_int_equal(retention(f), 4);
    assert_int_equal(alter(f, RESOURCE_BROKER, "", "log.retention.ms", 0, "5"), KERR_NONE);
    assert_int_equal(retention(f), 5);
    assert_int_equal(alter(f, RESOURCE_BROKER, "1", "log.retention.ms", 0, "6"), KERR_NONE);
    assert_int_equal(retention(f), 6);
    assert_int_equal(alter(f, RESOURCE_TOPIC, "t", "retention.ms", 0, "7"), KERR_NONE);
    assert_int_equal(retention(f), 7);
    assert_int_equal(alter(f, RESOURCE_TOPIC, "t", "retention.ms", 1, NULL), KERR_NONE);
    assert_int_equal(retention(f), 6);
}

static void alterations_are_checked(void **state)
{
    struct fixture *f = *state;
    create(f, "t", 1);
    assert_int_equal(alter(f, RESOURCE_TOPIC, "u", "retention.ms", 0, "1"),
                     KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(alter(f, RESOURCE_TOPIC, "t", "retention.ms", 0, NULL), KERR_INVALID_REQUEST);
    assert_int_equal(alter(f, RESOURCE_TOPIC, "t", "retention.ms", 2, "1"), KERR_INVALID_CONFIG);
    assert_int_equal(alter(f, RESOURCE_TOPIC, "t", "retention.ms", 9, "1"), KERR_INVALID_REQUEST);
    assert_int_equal(alter(f, RESOURCE_BROKER, "2", "log.retention.ms", 0, "1"),
                     KERR_INVALID_REQUEST);
    // Read once at start, so it cannot be altered while running.
    assert_int_equal(alter(f, RESOURCE_BROKER, "1", "max.connections", 0, "1"),
                     KERR_INVALID_REQUEST);
    assert_int_equal(alter(f, RESOURCE_TOPIC, "t", "cleanup.policy", 2, "shrink"),
                     KERR_INVALID_CONFIG);
    assert_int_equal(alter(f, RESOURCE_TOPIC, "t", "cleanup.policy", 2, "delete"), KERR_NONE);
    assert_int_equal(alter(f, RESOURCE_TOPIC, "t", "cleanup.policy", 3, "delete"), KERR_NONE);
    struct config_view v = topics_topic_view(f->ts, topics_by_name(f->ts, STR("t")));
    assert_false(config_has(&v, "cleanup.policy", "delete"));
    assert_int_equal(alter(f, RESOURCE_GROUP, "g", "tally.expect", 0, "exactly-once"), KERR_NONE);
    v = topics_group_view(f->ts, STR("g"));
    assert_true(str_eq_c(config_str(&v, "tally.expect"), "exactly-once"));
    v = topics_group_view(f->ts, STR("other"));
    assert_true(str_eq_c(config_str(&v, "tally.expect"), "at-least-once"));
}

static void alter_configs_replaces_all(void **state)
{
    struct fixture *f = *state;
    create_with(f, "t", 1, 1, "retention.ms", "7");
    struct alter_configs_request_config c = {STR("segment.ms"), STR("9")};
    struct alter_configs_request_resource res = {
        .resource_type = RESOURCE_TOPIC, .resource_name = STR("t"), .configs = &c, .n_configs = 1};
    struct alter_configs_request req = {.resources = &res, .n_resources = 1};
    struct asker a = asker(f, 2);
    topics_decide_alter_configs(f->ts, &a, &req, &f->fx);
    struct alter_configs_response *resp = commit(f);
    assert_int_equal(resp->responses[0].error_code, KERR_NONE);
    assert_int_equal(n_records(f), 2);
    const struct topic *t = topics_by_name(f->ts, STR("t"));
    assert_int_equal(configs_count(t->configs), 1);
    assert_true(str_eq_c(configs_get(t->configs, STR("segment.ms")), "9"));
}

static void settings_say_where_they_come_from(void **state)
{
    struct fixture *f = *state;
    create_with(f, "t", 1, 1, "retention.ms", "7");
    configs_set(f->fixed, STR("log.retention.hours"), STR("2"));
    struct str keys[] = {STR("retention.ms")};
    struct describe_configs_request_resource res = {.resource_type = RESOURCE_TOPIC,
                                                    .resource_name = STR("t"),
                                                    .configuration_keys = keys,
                                                    .n_configuration_keys = 1};
    struct describe_configs_request req = {.resources = &res,
                                           .n_resources = 1,
                                           .include_synonyms = true,
                                           .include_documentation = true};
    struct asker a = asker(f, 4);
    topics_decide_describe_configs(f->ts, &a, &req, &f->fx);
    struct describe_configs_response *resp = commit(f);
    assert_int_equal(resp->results[0].n_configs, 1);
    struct describe_configs_response_config *c = &resp->results[0].configs[0];
    assert_true(str_eq_c(c->value, "7"));
    assert_int_equal(c->config_source, CONFIG_FROM_TOPIC);
    assert_int_equal(c->config_type, 5);
    assert_non_null(c->documentation.ptr);
    assert_int_equal(c->n_synonyms, 3);
    assert_true(str_eq_c(c->synonyms[1].name, "log.retention.hours"));
    assert_true(str_eq_c(c->synonyms[1].value, "2"));
    assert_int_equal(c->synonyms[1].source, CONFIG_FROM_FILE);
    assert_int_equal(c->synonyms[2].source, CONFIG_FROM_DEFAULT);
}

// A request can name a topic as often as it fits in: what it has is put together once, and what the
// answer would take is bounded all the same.
static void settings_named_again_are_described_once(void **state)
{
    struct fixture *f = *state;
    enum { OWN = 3, N = 400000 }; // the third has a setting of its own
    create(f, "t", 1);
    create(f, "u", 1);
    create_with(f, "v", 1, 1, "retention.ms", "7");
    struct str keys[] = {STR("retention.ms"), STR("no.such"), STR("retention.ms")};
    struct str names[] = {STR("t"), STR("u"), STR("t"), STR("v")};
    struct describe_configs_request_resource *res = calloc(N, sizeof *res);
    assert_non_null(res);
    for (size_t i = 0; i < N; i++)
        res[i] = (struct describe_configs_request_resource){.resource_type = RESOURCE_TOPIC,
                                                            .resource_name = names[i % 4],
                                                            .n_configuration_keys = -1};
    res[4].resource_type = RESOURCE_BROKER;
    res[4].resource_name = STR("1");
    res[7].configuration_keys = keys;
    res[7].n_configuration_keys = 3;
    struct describe_configs_request req = {.resources = res, .n_resources = 8};
    struct asker a = asker(f, 4);
    topics_decide_describe_configs(f->ts, &a, &req, &f->fx);
    struct describe_configs_response *resp = commit(f);
    assert_int_equal(resp->n_results, 8);
    const struct describe_configs_response_result *r = resp->results;
    assert_ptr_equal(r[1].configs, r[0].configs);
    assert_ptr_equal(r[2].configs, r[0].configs);
    assert_ptr_equal(r[6].configs, r[0].configs);
    assert_ptr_not_equal(r[OWN].configs, r[0].configs);
    assert_int_equal(r[OWN].n_configs, r[0].n_configs);
    assert_ptr_not_equal(r[4].configs, r[0].configs);
    assert_int_equal(r[7].n_configs, 1);
    assert_true(str_eq_c(r[7].configs[0].value, "7"));

    effects_init(&f->fx, f->arena);
    req.n_resources = N;
    topics_decide_describe_configs(f->ts, &a, &req, &f->fx);
    resp = commit(f);
    assert_true(resp->n_results < N);
    assert_true(arena_used(f->arena) > ANSWER_MAX_BYTES); // so it is refused
    free(res);
}

static int64_t next_producer_id(struct fixture *f)
{
    struct init_producer_id_request req = {.transactional_id = STR_NULL};
    struct asker a = asker(f, 4);
    topics_decide_init_producer_id(f->ts, &a, &req, &f->fx);
    struct init_producer_id_response *resp = commit(f);
    assert_int_equal(resp->error_code, KERR_NONE);
    return resp->producer_id;
}

static void copy_state(struct fixture *f)
{
    struct topics *copy = topics_new(f->fixed);
    effects_init(&f->fx, f->arena);
    topics_snapshot(f->ts, &f->fx);
    for (struct effect_record *r = f->fx.first_record; r; r = r->next)
        assert_true(topics_apply(copy, r->type, r->record));
    topics_free(f->ts);
    f->ts = copy;
}

static void producer_ids_are_never_given_twice(void **state)
{
    struct fixture *f = *state;
    int64_t first = next_producer_id(f);
    assert_int_equal(n_records(f), 1);
    assert_int_equal(next_producer_id(f), first + 1);
    assert_int_equal(n_records(f), 0);
    copy_state(f); // as a restart does
    assert_int_equal(next_producer_id(f), first + PRODUCER_ID_BLOCK);
    struct init_producer_id_request req = {.transactional_id = STR("x")};
    struct asker a = asker(f, 4);
    topics_decide_init_producer_id(f->ts, &a, &req, &f->fx);
    struct init_producer_id_response *resp = commit(f);
    assert_int_equal(resp->error_code, KERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
}

static void a_snapshot_gives_the_state_again(void **state)
{
    struct fixture *f = *state;
    create_with(f, "t", 2, 1, "retention.ms", "7");
    create(f, "u", 1);
    alter(f, RESOURCE_BROKER, "", "log.retention.ms", 0, "5");
    alter(f, RESOURCE_GROUP, "g", "tally.expect", 0, "exactly-once");
    struct uuid id = topics_by_name(f->ts, STR("t"))->id;
    struct offsets_reserved_record reserved = {.topic_id = id, .partition = 1, .upto = 9};
    struct leader_epoch_started_record epoch = {
        .topic_id = id, .partition = 1, .epoch = 3, .lost_from = 4, .start_offset = 9};
    struct log_start_moved_record start = {.topic_id = id, .partition = 1, .log_start = 2};
    topics_apply(f->ts, &offsets_reserved_record_msg, &reserved);
    topics_apply(f->ts, &leader_epoch_started_record_msg, &epoch);
    // Written up to 12 and lost from 11 on; then nothing was written, and what there was is lost.
    epoch.epoch = 4, epoch.lost_from = 11, epoch.start_offset = 20;
    topics_apply(f->ts, &leader_epoch_started_record_msg, &epoch);
    epoch.epoch = 5, epoch.lost_from = 10, epoch.start_offset = 30;
    topics_apply(f->ts, &leader_epoch_started_record_msg, &epoch);
    epoch.epoch = 6, epoch.lost_from = epoch.start_offset = 33;
    topics_apply(f->ts, &leader_epoch_started_record_msg, &epoch);
    topics_apply(f->ts, &log_start_moved_record_msg, &start);
    copy_state(f);
    const struct topic *t = topics_by_id(f->ts, id);
    assert_non_null(t);
    assert_true(str_eq_c(t->name, "t"));
    assert_int_equal(t->partitions[1].reserved_upto, 9);
    assert_int_equal(t->partitions[1].leader_epoch, 6);
    assert_int_equal(t->partitions[1].epoch_start_offset, 33);
    assert_int_equal(t->partitions[1].n_gaps, 2);
    assert_int_equal(t->partitions[1].gaps[0].from, 4);
    assert_int_equal(t->partitions[1].gaps[0].to, 9);
    assert_int_equal(t->partitions[1].gaps[1].from, 10);
    assert_int_equal(t->partitions[1].gaps[1].to, 30);
    assert_int_equal(t->partitions[1].log_start, 2);
    assert_int_equal(t->partitions[0].leader_epoch, 0);
    assert_int_equal(retention(f), 7);
    struct config_view v = topics_broker_view(f->ts);
    assert_int_equal(config_i64(&v, "log.retention.ms"), 5);
    assert_non_null(topics_group_configs(f->ts, STR("g")));
}

static void the_offsets_topic_is_the_brokers_own(void **state)
{
    struct fixture *f = *state;
    struct str name = STR("__consumer_offsets");
    struct asker a = asker(f, 12);
    assert_int_equal(create(f, "__consumer_offsets", 1), KERR_TOPIC_ALREADY_EXISTS);
    assert_int_equal(topics_decide_make(f->ts, &a, name, 0, false, &f->fx),
                     KERR_TOPIC_ALREADY_EXISTS);
    assert_int_equal(topics_decide_make(f->ts, &a, name, 50, true, &f->fx), KERR_NONE);
}

static void a_topic_is_made_on_demand_once(void **state)
{
    struct fixture *f = *state;
    configs_set(f->fixed, STR("num.partitions"), STR("4"));
    struct asker a = asker(f, 12);
    assert_int_equal(topics_decide_make(f->ts, &a, STR("t"), 0, false, &f->fx), KERR_NONE);
    assert_int_equal(topics_decide_make(f->ts, &a, STR("t"), 0, false, &f->fx),
                     KERR_TOPIC_ALREADY_EXISTS);
    assert_int_equal(topics_decide_make(f->ts, &a, STR("__x"), 50, true, &f->fx), KERR_NONE);
    commit(f);
    assert_int_equal(topics_by_name(f->ts, STR("t"))->n_partitions, 4);
    assert_false(topics_by_name(f->ts, STR("t"))->is_internal);
    assert_int_equal(topics_by_name(f->ts, STR("__x"))->n_partitions, 50);
    assert_true(topics_by_name(f->ts, STR("__x"))->is_internal);
}

// An existing server.properties of Kafka works: what tally has no use for is known.
static void kafkas_other_settings_are_known(void **state)
{
    (void)state;
    static const char *const names[] = {"background.threads", "process.roles",
                                        "controller.quorum.voters",
                                        "offsets.topic.replication.factor", "num.io.threads"};
    char why[200];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(config_check_broker(str_from(names[i]), STR("1"), why, sizeof why),
                         CONFIG_IGNORED);
    assert_int_equal(config_check_broker(STR("log.retention.hour"), STR("1"), why, sizeof why),
                     CONFIG_UNKNOWN);
    assert_non_null(strstr(why, "log.retention.hours"));
}

// Every setting must be readable with the type it says, so that no lookup can fail later.
static void every_default_passes_its_own_check(void **state)
{
    struct fixture *f = *state;
    struct config_view v = topics_broker_view(f->ts);
    const struct config_def *d;
    for (size_t it = 0; (d = config_next(CONFIG_SCOPE_TOPIC, &it));) {
        char why[200] = "";
        struct str value = config_text(&v, d, f->arena);
        if (config_check_topic(str_from(d->name), value, why, sizeof why) != CONFIG_OK)
            fail_msg("%s: %s", d->name, why);
    }
    for (size_t it = 0; (d = config_next(CONFIG_SCOPE_BROKER, &it));) {
        char why[200] = "";
        if (d->default_text && config_check_broker(str_from(d->name), str_from(d->default_text),
                                                   why, sizeof why) != CONFIG_OK)
            fail_msg("%s: %s", d->name, why);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_topic_is_made_found_and_deleted),
        TEST(bad_topics_are_refused),
        TEST(bad_settings_are_refused),
        TEST(validate_only_changes_nothing),
        TEST(a_name_twice_in_one_request_is_refused),
        TEST(manual_assignments_name_our_node_only),
        TEST(partitions_only_grow),
        TEST(partitions_of_all_topics_are_bounded),
        TEST(settings_fall_back_from_topic_to_broker_to_default),
        TEST(alterations_are_checked),
        TEST(alter_configs_replaces_all),
        TEST(settings_say_where_they_come_from),
        TEST(settings_named_again_are_described_once),
        TEST(producer_ids_are_never_given_twice),
        TEST(a_snapshot_gives_the_state_again),
        TEST(the_offsets_topic_is_the_brokers_own),
        TEST(a_topic_is_made_on_demand_once),
        TEST(kafkas_other_settings_are_known),
        TEST(every_default_passes_its_own_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
