// Frames and the blobs of the consumer protocol.

// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <string.h>

#include "schema.h"
#include "wire/consumer_protocol.h"
#include "wire/frame.h"

static struct bytes view(const struct buf *b, size_t from)
{
    return (struct bytes){b->ptr + from, b->len - from};
}

static void test_request_header_of_both_forms(void **state)
{
    (void)state;
    struct heartbeat_request req;
    heartbeat_request_init(&req);
    for (int16_t version = 3; version <= 4; version++) {
        struct request_header h = {API_HEARTBEAT, version, 77, STR("me")}, back;
        struct kw_out out = {0};
        struct bytes body;
        frame_write_request(&h, &req, &out);
        assert_int_equal(out.buf.ptr[3], out.buf.len - 4);
        assert_int_equal(frame_read_request(view(&out.buf, 4), &back, &body), 0);
        assert_int_equal(back.api_version, version);
        assert_int_equal(back.correlation_id, 77);
        assert_true(str_eq(back.client_id, h.client_id));
        // 10 bytes, the client id, and from version 4 on an empty tag section.
        assert_int_equal(body.ptr - out.buf.ptr, 4 + 10 + 2 + (version == 4));
        for (size_t len = 0; len < 12; len++)
            assert_int_equal(frame_read_request((struct bytes){out.buf.ptr + 4, len}, &back, &body),
                             -EBADMSG);
        kw_out_free(&out);
    }
}

static void test_null_client_id_is_empty(void **state)
{
    (void)state;
    static const uint8_t in[] = {0, 12, 0, 0, 0, 0, 0, 9, 0xff, 0xff};
    struct request_header h;
    struct bytes body;
    assert_int_equal(frame_read_request((struct bytes){in, sizeof in}, &h, &body), 0);
    assert_false(str_is_null(h.client_id));
    assert_int_equal(h.client_id.len, 0);
    assert_int_equal(body.len, 0);
}

static void test_unknown_versions_tell_what_was_asked(void **state)
{
    (void)state;
    static const uint8_t in[] = {0, 18, 0, 99, 0, 0, 0, 9, 0, 1, 'c', 0};
    struct request_header h;
    struct bytes body = {NULL, 0};
    assert_int_equal(frame_read_request((struct bytes){in, sizeof in}, &h, &body),
                     -EPROTONOSUPPORT);
    assert_int_equal(h.api_key, API_API_VERSIONS);
    assert_int_equal(h.api_version, 99);
    assert_int_equal(h.correlation_id, 9);
    assert_null(body.ptr);
}

static void test_api_versions_is_answered_without_tags(void **state)
{
    (void)state;
    struct api_versions_response av;
    struct heartbeat_response hb;
    api_versions_response_init(&av);
    heartbeat_response_init(&hb);
    struct kw_out out = {0};
    frame_write_response(kw_api(API_API_VERSIONS), 3, 5, &av, &out);
    // Size, id, error, empty compact array, throttle time, no tags: none in the header.
    assert_int_equal(out.buf.len, 4 + 4 + 2 + 1 + 4 + 1);
    size_t second = out.buf.len;
    frame_write_response(kw_api(API_HEARTBEAT), 4, 6, &hb, &out);
    int32_t id;
    struct bytes body;
    assert_int_equal(
        frame_read_response(view(&out.buf, second + 4), kw_api(API_HEARTBEAT), 4, &id, &body), 0);
    assert_int_equal(id, 6);
    assert_int_equal(body.len, 4 + 2 + 1);
    kw_out_free(&out);
}

static void test_frame_counts_splices(void **state)
{
    (void)state;
    struct fetch_response_partition part;
    struct fetch_response_response topic;
    struct fetch_response resp;
    fetch_response_partition_init(&part);
    fetch_response_response_init(&topic);
    fetch_response_init(&resp);
    part.records = (struct kw_records){.len = 1000, .file = (struct disk_file *)(void *)&part};
    topic.partitions = &part;
    topic.n_partitions = 1;
    resp.responses = &topic;
    resp.n_responses = 1;
    struct kw_out out = {0};
    frame_write_response(kw_api(API_FETCH), 4, 1, &resp, &out);
    size_t size = (size_t)out.buf.ptr[2] << 8 | out.buf.ptr[3];
    assert_int_equal(size, out.buf.len - 4 + 1000);
    kw_out_free(&out);
}

static void test_subscription_of_every_version(void **state)
{
    (void)state;
    struct str topics[] = {STR("a"), STR("b")};
    int32_t owned[] = {0, 7};
    struct consumer_protocol_subscription_topic_partition tp = {STR("a"), owned, 2};
    struct consumer_protocol_subscription s, back;
    consumer_protocol_subscription_init(&s);
    s.topics = topics;
    s.n_topics = 2;
    s.owned_partitions = &tp;
    s.n_owned_partitions = 1;
    s.generation_id = 4;
    s.rack_id = STR("r");
    for (int16_t v = 0; v <= 3; v++) {
        struct arena *a = arena_new();
        struct buf out = {0};
        int16_t got;
        consumer_subscription_write(v, &s, &out);
        buf_add(&out, "tail", 4);
        assert_int_equal(consumer_subscription_read(view(&out, 0), a, &back, &got), 0);
        assert_int_equal(got, v);
        assert_int_equal(back.n_topics, 2);
        assert_int_equal(back.n_owned_partitions, v >= 1 ? 1 : 0);
        assert_int_equal(back.generation_id, v >= 2 ? 4 : -1);
        assert_true(str_eq(back.rack_id, v >= 3 ? STR("r") : STR_NULL));
        out.ptr[1] = 200; // a version to come: read as 3
        if (v == 3)
            assert_int_equal(consumer_subscription_read(view(&out, 0), a, &back, &got), 0);
        out.ptr[0] = 0x80; // a negative one is damage
        assert_int_equal(consumer_subscription_read(view(&out, 0), a, &back, &got), -EBADMSG);
        buf_free(&out);
        arena_free(a);
    }
}

static void test_absurd_assignment_is_refused(void **state)
{
    (void)state;
    // Kafka itself runs out of memory on an array length like this one.
    static const uint8_t in[] = {0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, 't', 0, 0, 0, 0};
    struct consumer_protocol_assignment as;
    struct arena *a = arena_new();
    int16_t v;
    assert_int_equal(consumer_assignment_read((struct bytes){in, sizeof in}, a, &as, &v), -EBADMSG);
    assert_int_equal(consumer_assignment_read((struct bytes){in, 1}, a, &as, &v), -EBADMSG);
    assert_int_equal(consumer_assignment_read((struct bytes){NULL, 0}, a, &as, &v), -EBADMSG);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_header_of_both_forms),
        cmocka_unit_test(test_null_client_id_is_empty),
        cmocka_unit_test(test_unknown_versions_tell_what_was_asked),
        cmocka_unit_test(test_api_versions_is_answered_without_tags),
        cmocka_unit_test(test_frame_counts_splices),
        cmocka_unit_test(test_subscription_of_every_version),
        cmocka_unit_test(test_absurd_assignment_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
