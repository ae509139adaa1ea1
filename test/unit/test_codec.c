// Every message of the schema in every version: there and back, cut short, damaged.

// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/random_message.h"
#include "base/prng.h"
#include "schema.h"

#define SEEDS 12

typedef void check_fn(const struct kw_message *m, int version, uint64_t seed, struct arena *a);

static void each_version(const struct kw_message *m, check_fn *check)
{
    struct arena *a = arena_new();
    for (int v = m->min_version; v <= m->max_version; v++)
        for (uint64_t seed = 1; seed <= SEEDS; seed++, arena_reset(a))
            check(m, v, seed, a);
    arena_free(a);
}

static void each_message(check_fn *check)
{
    const struct kw_api *api;
    for (size_t i = 0; (api = kw_api_at(i)); i++) {
        each_version(api->request, check);
        each_version(api->response, check);
    }
    static const struct kw_message *const blobs[] = {
        &consumer_protocol_subscription_msg,
        &consumer_protocol_assignment_msg,
        &offset_commit_key_msg,
        &offset_commit_value_msg,
        &group_metadata_key_msg,
        &group_metadata_value_msg,
    };
    for (size_t i = 0; i < sizeof blobs / sizeof *blobs; i++)
        each_version(blobs[i], check);
    const struct kw_message *record;
    for (size_t i = 0; (record = kw_record_type_at(i)); i++)
        each_version(record, check);
}

static void *make(const struct kw_message *m, int version, uint64_t seed, struct arena *a,
                  struct kw_out *ret_out)
{
    struct prng p;
    prng_seed(&p, seed);
    void *msg = arena_alloc(a, kw_size_in_memory(m));
    random_message(&p, m, version, a, msg);
    *ret_out = (struct kw_out){0};
    kw_encode(m, version, msg, ret_out);
    return msg;
}

static struct bytes encoded(const struct kw_out *out)
{
    return (struct bytes){out->buf.ptr, out->buf.len};
}

static void there_and_back(const struct kw_message *m, int version, uint64_t seed, struct arena *a)
{
    struct kw_out out, again = {0};
    void *msg = make(m, version, seed, a, &out);
    void *back = arena_alloc(a, kw_size_in_memory(m));
    const char *why = NULL;
    if (kw_decode(m, version, encoded(&out), a, back, &why) != 0)
        fail_msg("%s v%d seed %d: %s", m->name, version, (int)seed, why);
    if (!kw_equal(m, version, msg, back, &why))
        fail_msg("%s v%d seed %d: %s differs", m->name, version, (int)seed, why);
    kw_encode(m, version, back, &again);
    assert_int_equal(again.buf.len, out.buf.len);
    if (out.buf.len > 0)
        assert_memory_equal(again.buf.ptr, out.buf.ptr, out.buf.len);
    kw_out_free(&out);
    kw_out_free(&again);
}

static void test_there_and_back(void **state)
{
    (void)state;
    each_message(there_and_back);
}

// Each shorter form is refused, and never reads past its end (the copy is exact, for asan).
static void cut_short(const struct kw_message *m, int version, uint64_t seed, struct arena *a)
{
    struct kw_out out;
    make(m, version, seed, a, &out);
    void *back = arena_alloc(a, kw_size_in_memory(m));
    size_t step = 1 + out.buf.len / 300;
    for (size_t len = 0; len < out.buf.len; len += step) {
        uint8_t *copy = malloc(len + 1);
        assert_non_null(copy);
        memcpy(copy + 1, out.buf.ptr, len);
        const char *why = NULL;
        struct arena *small = arena_new();
        int r = kw_decode(m, version, (struct bytes){copy + 1, len}, small, back, &why);
        if (r != -EBADMSG)
            fail_msg("%s v%d cut at %zu of %zu: %d", m->name, version, len, out.buf.len, r);
        assert_non_null(why);
        arena_free(small);
        free(copy);
    }
    kw_out_free(&out);
}

static void test_cut_short(void **state)
{
    (void)state;
    each_message(cut_short);
}

// Whatever still decodes after damage must encode and print.
static void damaged(const struct kw_message *m, int version, uint64_t seed, struct arena *a)
{
    struct kw_out out;
    make(m, version, seed, a, &out);
    struct prng p;
    prng_seed(&p, seed + 1000);
    void *back = arena_alloc(a, kw_size_in_memory(m));
    for (int i = 0; i < 20 && out.buf.len > 0; i++) {
        struct arena *small = arena_new();
        out.buf.ptr[prng_below(&p, out.buf.len)] ^= (uint8_t)(1 << prng_below(&p, 8));
        if (kw_decode(m, version, encoded(&out), small, back, NULL) == 0) {
            struct kw_out again = {0};
            struct buf text = {0};
            kw_encode(m, version, back, &again);
            kw_print(m, version, back, &text);
            kw_out_free(&again);
            buf_free(&text);
        }
        arena_free(small);
    }
    kw_out_free(&out);
}

static void test_damaged(void **state)
{
    (void)state;
    each_message(damaged);
}

static void test_heartbeat_bytes(void **state)
{
    (void)state;
    struct heartbeat_request req;
    heartbeat_request_init(&req);
    assert_true(str_is_null(req.group_instance_id));
    req.group_id = STR("g");
    req.generation_id = 5;
    req.member_id = STR("m1");
    struct kw_out out = {0};
    kw_encode(&heartbeat_request_msg, 0, &req, &out);
    assert_int_equal(out.buf.len, 11);
    assert_memory_equal(out.buf.ptr, "\0\1g\0\0\0\5\0\2m1", 11);
    kw_out_clear(&out);
    kw_encode(&heartbeat_request_msg, 4, &req, &out);
    assert_int_equal(out.buf.len, 11);
    assert_memory_equal(out.buf.ptr, "\2g\0\0\0\5\3m1\0\0", 11);
    struct buf text = {0};
    kw_print(&heartbeat_request_msg, 4, &req, &text);
    const char *want = "{group_id=\"g\" generation_id=5 member_id=\"m1\" group_instance_id=null}";
    assert_int_equal(text.len, strlen(want));
    assert_memory_equal(text.ptr, want, text.len);
    buf_free(&text);
    kw_out_free(&out);
}

static void test_defaults(void **state)
{
    (void)state;
    struct describe_topic_partitions_response_partition part;
    describe_topic_partitions_response_partition_init(&part);
    assert_int_equal(part.n_eligible_leader_replicas, -1);
    assert_int_equal(part.n_offline_replicas, 0);
    assert_int_equal(part.leader_epoch, -1);
    struct describe_topic_partitions_response resp;
    describe_topic_partitions_response_init(&resp);
    assert_null(resp.next_cursor);
    struct fetch_request fetch;
    fetch_request_init(&fetch);
    assert_int_equal(fetch.max_bytes, 0x7fffffff);
    assert_int_equal(fetch.replica_state.replica_id, -1);
    assert_true(str_is_null(fetch.cluster_id));
    assert_true(str_eq(fetch.rack_id, STR_EMPTY));
    struct fetch_request_partition wanted;
    fetch_request_partition_init(&wanted);
    assert_true(wanted.high_watermark == INT64_MAX);
    struct metadata_request metadata;
    metadata_request_init(&metadata);
    assert_true(metadata.allow_auto_topic_creation);
}

static void test_failure_names_the_field(void **state)
{
    (void)state;
    // Metadata v1: two topics, the second one's name longer than what is left.
    static const uint8_t in[] = {0, 0, 0, 2, 0, 1, 'a', 0, 9, 'b'};
    struct arena *a = arena_new();
    struct metadata_request req = {.n_topics = 77};
    const char *why = NULL;
    int r = kw_decode(&metadata_request_msg, 1, (struct bytes){in, sizeof in}, a, &req, &why);
    assert_int_equal(r, -EBADMSG);
    assert_string_equal(why, "topics[1].name: longer than what is left");
    assert_int_equal(req.n_topics, 77);
    r = kw_decode(&metadata_request_msg, 14, (struct bytes){in, sizeof in}, a, &req, &why);
    assert_int_equal(r, -EPROTONOSUPPORT);
    arena_free(a);
}

static void test_lying_count_allocates_nothing(void **state)
{
    (void)state;
    static const uint8_t in[] = {0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0};
    struct arena *a = arena_new();
    struct metadata_request req;
    const char *why = NULL;
    int r = kw_decode(&metadata_request_msg, 1, (struct bytes){in, sizeof in}, a, &req, &why);
    assert_int_equal(r, -EBADMSG);
    assert_string_equal(why, "topics: more elements than what is left can hold");
    assert_true(arena_used(a) < 4096);
    // A name takes two bytes at least: nine of them do not fit 17 bytes.
    uint8_t near[4 + 17] = {0, 0, 0, 9};
    r = kw_decode(&metadata_request_msg, 1, (struct bytes){near, sizeof near}, a, &req, &why);
    assert_int_equal(r, -EBADMSG);
    assert_string_equal(why, "topics: more elements than what is left can hold");
    arena_free(a);
}

static void test_unknown_tags_are_skipped(void **state)
{
    (void)state;
    // Heartbeat v4 with the tags 7 (3 bytes) and 200 (none).
    static const uint8_t in[] = "\2g\0\0\0\5\3m1\0\2\7\3abc\xc8\1\0";
    struct arena *a = arena_new();
    struct heartbeat_request req;
    const char *why = NULL;
    int r = kw_decode(&heartbeat_request_msg, 4, (struct bytes){in, sizeof in - 1}, a, &req, &why);
    assert_int_equal(r, 0);
    assert_true(str_eq_c(req.member_id, "m1"));
    arena_free(a);
}

static void test_tag_that_lies_about_its_size(void **state)
{
    (void)state;
    // ApiVersions response v3 with tag 1, an i64, said to be nine bytes.
    static const uint8_t in[] = {0, 0, 1, 0, 0, 0, 0, 1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 5, 0};
    struct arena *a = arena_new();
    struct api_versions_response resp;
    const char *why = NULL;
    int r = kw_decode(&api_versions_response_msg, 3, (struct bytes){in, sizeof in}, a, &resp, &why);
    assert_int_equal(r, -EBADMSG);
    assert_string_equal(why, "finalized_features_epoch: shorter than its tag says");
    arena_free(a);
}

static void test_records_in_a_file_are_spliced(void **state)
{
    (void)state;
    struct fetch_response_partition part;
    fetch_response_partition_init(&part);
    part.records = (struct kw_records){
        .len = 300, .file = (struct disk_file *)(void *)&part, .file_pos = 4096};
    struct fetch_response_response topic;
    fetch_response_response_init(&topic);
    topic.topic = STR("t");
    topic.partitions = &part;
    topic.n_partitions = 1;
    struct fetch_response resp;
    fetch_response_init(&resp);
    resp.responses = &topic;
    resp.n_responses = 1;
    struct kw_out out = {0};
    kw_encode(&fetch_response_msg, 12, &resp, &out);
    assert_int_equal(out.n_splices, 1);
    assert_int_equal(out.splices[0].len, 300);
    assert_int_equal(out.splices[0].file_pos, 4096);
    assert_int_equal(kw_out_total(&out), out.buf.len + 300);
    // 301 as an uvarint stands before the splice, three empty tag sections behind it.
    assert_memory_equal(out.buf.ptr + out.splices[0].at - 2, "\xad\2", 2);
    assert_int_equal(out.buf.len - out.splices[0].at, 3);
    kw_out_free(&out);
}

static void test_overlong_strings_are_cut(void **state)
{
    (void)state;
    struct buf text = {0};
    memset(buf_extend(&text, 40000), 'x', 40000);
    memcpy(text.ptr + 32766, "\xc3\xa4", 2); // the limit falls into this character
    struct heartbeat_request req, back;
    heartbeat_request_init(&req);
    req.group_id = (struct str){(const char *)text.ptr, (int32_t)text.len};
    struct arena *a = arena_new();
    for (int v = 0; v <= 4; v += 4) {
        struct kw_out out = {0};
        kw_encode(&heartbeat_request_msg, v, &req, &out);
        assert_int_equal(kw_decode(&heartbeat_request_msg, v, encoded(&out), a, &back, NULL), 0);
        assert_int_equal(back.group_id.len, 32766);
        kw_out_free(&out);
    }
    arena_free(a);
    buf_free(&text);
}

static void test_tables_of_names(void **state)
{
    (void)state;
    assert_string_equal(kerr_name(KERR_ILLEGAL_GENERATION), "ILLEGAL_GENERATION");
    assert_string_equal(kerr_name(-1), "UNKNOWN_SERVER_ERROR");
    assert_string_equal(kerr_name(9999), "UNKNOWN");
    assert_true(kerr_is_retriable(KERR_NOT_COORDINATOR));
    assert_false(kerr_is_retriable(KERR_NONE));
    assert_string_equal(kw_api(API_INIT_PRODUCER_ID)->name, "InitProducerId");
    assert_int_equal(kw_api(API_PRODUCE)->advertised_min_version, 0);
    assert_null(kw_api(4));
    assert_null(config_def_find("no.such.setting"));
    assert_int_equal(config_def_find("retention.ms") - config_defs, CONFIG_RETENTION_MS);
    assert_int_equal(cause_find(STR("offsets_altered")), CAUSE_OFFSETS_ALTERED);
    assert_int_equal(cause_find(STR("no_such_cause")), CAUSE_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_heartbeat_bytes),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_failure_names_the_field),
        cmocka_unit_test(test_lying_count_allocates_nothing),
        cmocka_unit_test(test_unknown_tags_are_skipped),
        cmocka_unit_test(test_tag_that_lies_about_its_size),
        cmocka_unit_test(test_records_in_a_file_are_spliced),
        cmocka_unit_test(test_overlong_strings_are_cut),
        cmocka_unit_test(test_tables_of_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
