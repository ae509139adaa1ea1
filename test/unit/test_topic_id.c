// The id of a topic, asked of brokers of several kinds: each is a thread with two answers.

#include "client/libtally/topic_id.h"

#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define TIMEOUT_MS 5000

struct bytes_out {
    uint8_t at[256];
    size_t n;
};

struct broker {
    int fd;
    pthread_t thread;
    struct bytes_out versions;
    struct bytes_out metadata; // nothing: it closes the connection
    int asked;                 // connections
    int answered;              // questions
};

static void put(struct bytes_out *o, uint64_t value, size_t n)
{
    for (size_t i = n; i > 0; i--)
        o->at[o->n++] = (uint8_t)(value >> (i - 1) * 8);
}

static void end(struct bytes_out *o)
{
    uint32_t len = (uint32_t)(o->n - 4);
    for (size_t i = 0; i < 4; i++)
        o->at[i] = (uint8_t)(len >> (3 - i) * 8);
}

static void make_versions(struct bytes_out *o, uint16_t error, uint16_t newest_metadata)
{
    put(o, 0, 4);
    put(o, 1, 4); // correlation id
    put(o, error, 2);
    put(o, 2, 4);
    put(o, 18, 2), put(o, 0, 2), put(o, 3, 2);
    put(o, 3, 2), put(o, 0, 2), put(o, newest_metadata, 2);
    end(o);
}

static void make_metadata(struct bytes_out *o, uint16_t error, uint64_t half_of_id)
{
    put(o, 0, 4);
    put(o, 1, 4); // correlation id
    put(o, 0, 1); // tags
    put(o, 0, 4); // throttle time
    put(o, 1, 1); // no brokers
    put(o, 0, 1); // no cluster id
    put(o, 1, 4); // controller
    put(o, 2, 1); // one topic
    put(o, error, 2);
    put(o, 2, 1), put(o, 't', 1);
    put(o, half_of_id, 8), put(o, half_of_id, 8);
    put(o, 0, 1); // not internal
    put(o, 1, 1); // no partitions
    put(o, 0, 4); // operations
    put(o, 0, 1), put(o, 0, 1);
    end(o);
}

static bool answer(int fd, const struct bytes_out *o)
{
    uint8_t request[400];
    ssize_t got = 0, size = 4;
    while (got < size) {
        ssize_t n = recv(fd, request + got, (size_t)(size - got), 0);
        if (n <= 0)
            return false;
        got += n;
        if (got == 4 && size == 4)
            size += request[2] << 8 | request[3];
    }
    return o->n > 0 && send(fd, o->at, o->n, MSG_NOSIGNAL) == (ssize_t)o->n;
}

static void *serve(void *opaque)
{
    struct broker *b = opaque;
    int fd;
    while ((fd = accept(b->fd, NULL, NULL)) >= 0) {
        b->asked++;
        if (answer(fd, &b->versions)) {
            while (answer(fd, &b->metadata))
                b->answered++;
        }
        close(fd);
    }
    return NULL;
}

static void start(struct broker *b, char ret_address[40])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    b->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(b->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(b->fd, 8), 0);
    assert_int_equal(getsockname(b->fd, (struct sockaddr *)&a, &len), 0);
    snprintf(ret_address, 40, "127.0.0.1:%d", ntohs(a.sin_port));
    assert_int_equal(pthread_create(&b->thread, NULL, serve, b), 0);
}

static void stop(struct broker *b)
{
    shutdown(b->fd, SHUT_RDWR);
    pthread_join(b->thread, NULL);
    close(b->fd);
}

// One broker: the code, and the id.
static int ask(struct broker *b, char ret_id[CLAIM_TOPIC_ID])
{
    char address[40];
    struct tally_error error;
    memset(ret_id, 0, CLAIM_TOPIC_ID);
    start(b, address);
    int result = topic_id_ask(address, "t", TIMEOUT_MS, ret_id, &error);
    stop(b);
    return result;
}

static void test_an_id(void **state)
{
    (void)state;
    struct broker b = {0};
    char id[CLAIM_TOPIC_ID];
    make_versions(&b.versions, 0, 13);
    make_metadata(&b.metadata, 0, 0x0102030405060708);
    assert_int_equal(ask(&b, id), 0);
    assert_string_equal(id, "AQIDBAUGBwgBAgMEBQYHCA");
    // No leader now: it is the topic all the same.
    b.metadata.n = 0;
    make_metadata(&b.metadata, 5, 0x0102030405060708);
    assert_int_equal(ask(&b, id), 0);
    assert_string_equal(id, "AQIDBAUGBwgBAgMEBQYHCA");
}

static void test_a_broker_without_ids(void **state)
{
    (void)state;
    struct broker b = {0};
    char id[CLAIM_TOPIC_ID];
    make_versions(&b.versions, 0, 8);
    assert_int_equal(ask(&b, id), 0);
    assert_string_equal(id, CLAIM_NO_ID);
}

static void test_a_broker_that_knows_nothing_yet(void **state)
{
    (void)state;
    struct broker b = {0}, other = {0};
    char id[CLAIM_TOPIC_ID];
    make_versions(&b.versions, 0, 12);
    make_metadata(&b.metadata, 3, 0);
    // Not "no id": a first claim under that would not meet the others' rows.
    assert_int_equal(ask(&b, id), TALLY_KAFKA);
    make_versions(&other.versions, 0, 12);
    make_metadata(&other.metadata, 0, 1);
    char one[40], two[40], brokers[120];
    struct tally_error error;
    b.asked = 0;
    start(&b, one);
    start(&other, two);
    snprintf(brokers, sizeof brokers, "%s, PLAINTEXT://%s", one, two);
    assert_int_equal(topic_id_ask(brokers, "t", TIMEOUT_MS, id, &error), 0);
    stop(&b);
    stop(&other);
    assert_string_equal(id, "AAAAAAAAAAEAAAAAAAAAAQ");
    assert_int_equal(b.asked, 1);
}

static void test_no_answer(void **state)
{
    (void)state;
    struct broker b = {0};
    char id[CLAIM_TOPIC_ID];
    assert_int_equal(ask(&b, id), TALLY_KAFKA); // closes at once
    make_versions(&b.versions, 0, 12);
    assert_int_equal(ask(&b, id), TALLY_KAFKA); // closes at the second question
    make_metadata(&b.metadata, 0, 1);
    b.metadata.n = 20; // cut short
    end(&b.metadata);
    assert_int_equal(ask(&b, id), TALLY_KAFKA);
    b.versions.n = 0;
    make_versions(&b.versions, 35, 12);
    assert_int_equal(ask(&b, id), TALLY_KAFKA);
    struct tally_error error;
    assert_int_equal(topic_id_ask("127.0.0.1:1", "t", TIMEOUT_MS, id, &error), TALLY_KAFKA);
}

static void test_a_kept_connection(void **state)
{
    (void)state;
    struct broker b = {0}, other = {0};
    char id[CLAIM_TOPIC_ID], one[40], two[40], brokers[120];
    struct topic_id_link l = {0};
    struct tally_error error;
    make_versions(&b.versions, 0, 12);
    make_metadata(&b.metadata, 0, 0x0102030405060708);
    make_versions(&other.versions, 0, 12);
    make_metadata(&other.metadata, 0, 1);
    start(&b, one);
    start(&other, two);
    snprintf(brokers, sizeof brokers, "127.0.0.1:1,%s,%s", one, two);
    for (int i = 0; i < 3; i++) {
        // Two questions under way at once.
        assert_int_equal(topic_id_send(&l, brokers, "t", TIMEOUT_MS, &error), 0);
        assert_int_equal(topic_id_send(&l, brokers, "t", TIMEOUT_MS, &error), 0);
        for (int k = 0; k < 2; k++) {
            assert_int_equal(topic_id_receive(&l, "t", TIMEOUT_MS, id, &error), 0);
            assert_string_equal(id, "AQIDBAUGBwgBAgMEBQYHCA");
        }
        assert_int_equal(l.n_waiting, 0);
    }
    // The broker goes: a question on its way is lost, the next one goes to another broker.
    assert_int_equal(topic_id_send(&l, brokers, "t", TIMEOUT_MS, &error), 0);
    shutdown(l.fd, SHUT_RDWR);
    stop(&b);
    // Its answer may have come before the end of the connection; no second one can.
    (void)!topic_id_receive(&l, "t", TIMEOUT_MS, id, &error);
    assert_int_equal(topic_id_send(&l, brokers, "t", TIMEOUT_MS, &error), 0);
    assert_int_equal(topic_id_receive(&l, "t", TIMEOUT_MS, id, &error), 0);
    assert_string_equal(id, "AAAAAAAAAAEAAAAAAAAAAQ");
    assert_int_equal(b.asked, 1);
    assert_true(b.answered >= 6);
    topic_id_close(&l);
    stop(&other);
    assert_int_equal(topic_id_send(&l, brokers, "t", TIMEOUT_MS, &error), TALLY_KAFKA);
    assert_false(l.is_open);
}

static void test_a_kept_connection_without_an_answer(void **state)
{
    (void)state;
    struct broker b = {0};
    char id[CLAIM_TOPIC_ID], address[40];
    struct topic_id_link l = {0};
    struct tally_error error;
    make_versions(&b.versions, 0, 12);
    start(&b, address);
    // It closes at the question.
    assert_int_equal(topic_id_send(&l, address, "t", TIMEOUT_MS, &error), 0);
    assert_int_equal(topic_id_receive(&l, "t", TIMEOUT_MS, id, &error), TALLY_KAFKA);
    assert_false(l.is_open);
    stop(&b);
    make_metadata(&b.metadata, 3, 0);
    start(&b, address);
    assert_int_equal(topic_id_send(&l, address, "t", TIMEOUT_MS, &error), 0);
    assert_int_equal(topic_id_receive(&l, "t", TIMEOUT_MS, id, &error), TALLY_KAFKA);
    assert_non_null(strstr(error.text, "do not know topic t"));
    assert_int_equal(l.n_waiting, 0);
    stop(&b);
    // No ids: there is nothing to ask.
    b.versions.n = 0, b.answered = 0;
    make_versions(&b.versions, 0, 8);
    start(&b, address);
    assert_int_equal(topic_id_send(&l, address, "t", TIMEOUT_MS, &error), 0);
    assert_int_equal(topic_id_receive(&l, "t", TIMEOUT_MS, id, &error), 0);
    assert_string_equal(id, CLAIM_NO_ID);
    assert_int_equal(b.answered, 0);
    topic_id_close(&l);
    stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_id),
        cmocka_unit_test(test_a_broker_without_ids),
        cmocka_unit_test(test_a_broker_that_knows_nothing_yet),
        cmocka_unit_test(test_no_answer),
        cmocka_unit_test(test_a_kept_connection),
        cmocka_unit_test(test_a_kept_connection_without_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
