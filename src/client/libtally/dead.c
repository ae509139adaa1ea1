#include "client/libtally/consumer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

// Where the record came from stands in its headers: a crash between the acknowledgement and the
// transaction writes it again, and a reader can tell.
#define DEAD_TIMEOUT_MS "30000"

struct delivery {
    bool is_done;
    rd_kafka_resp_err_t result;
};

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    (void)rk;
    (void)opaque;
    struct delivery *d = m->_private;
    d->is_done = true;
    d->result = m->err;
}

int dead_open(struct tally *t, struct tally_error *error)
{
    static const char *const settings[][2] = {{"acks", "all"},
                                              {"enable.idempotence", "true"},
                                              {"message.timeout.ms", DEAD_TIMEOUT_MS},
                                              {"linger.ms", "0"},
                                              {"message.max.bytes", "1000000000"}};
    rd_kafka_conf_t *conf = t->k.rd_kafka_conf_new();
    char why[256];
    t->k.rd_kafka_conf_set(conf, "bootstrap.servers", t->o.bootstrap, why, sizeof why);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        t->k.rd_kafka_conf_set(conf, settings[i][0], settings[i][1], why, sizeof why);
    // What is the consumer's alone is refused or ignored here: connections are what both share.
    for (const char *const *s = t->o.librdkafka; s && *s; s += 2) {
        if (!strncmp(s[0], "security.", 9) || !strncmp(s[0], "sasl.", 5) ||
            !strncmp(s[0], "ssl.", 4) || !strcmp(s[0], "client.id"))
            t->k.rd_kafka_conf_set(conf, s[0], s[1], why, sizeof why);
    }
    t->k.rd_kafka_conf_set_log_cb(conf, NULL);
    t->k.rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    t->producer = t->k.rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (t->producer)
        return 0;
    t->k.rd_kafka_conf_destroy(conf);
    return tally_error_set(error, TALLY_KAFKA, "cannot write dead letters: %s", why);
}

static rd_kafka_headers_t *make_headers(struct tally *t, const rd_kafka_message_t *m,
                                        const struct tally_error *why)
{
    rd_kafka_headers_t *theirs = NULL, *all;
    if (t->k.rd_kafka_message_headers(m, &theirs) == RD_KAFKA_RESP_ERR_NO_ERROR && theirs)
        all = t->k.rd_kafka_headers_copy(theirs);
    else
        all = t->k.rd_kafka_headers_new(4);
    char partition[16], offset[24];
    snprintf(partition, sizeof partition, "%d", (int)m->partition);
    snprintf(offset, sizeof offset, "%" PRId64, m->offset);
    t->k.rd_kafka_header_add(all, "tally-topic", -1, t->k.rd_kafka_topic_name(m->rkt), -1);
    t->k.rd_kafka_header_add(all, "tally-partition", -1, partition, -1);
    t->k.rd_kafka_header_add(all, "tally-offset", -1, offset, -1);
    t->k.rd_kafka_header_add(all, "tally-error", -1, why->text, -1);
    return all;
}

static int failed(struct tally *t, rd_kafka_resp_err_t rc, struct tally_error *error)
{
    bool is_final = rc == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
                    rc == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
                    rc == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
                    rc == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    tally_error_set(error, TALLY_KAFKA, "dead-letter topic %s: %s%s", t->o.dead_letter,
                    t->k.rd_kafka_err2str(rc),
                    is_final ? "; make the topic, with the rights and max.message.bytes it needs"
                             : "");
    return is_final ? TALLY_INVALID : TALLY_KAFKA;
}

#ifdef __clang__
// The RD_KAFKA_V_ macros of librdkafka check their types with statement expressions.
#pragma clang diagnostic ignored "-Wgnu-statement-expression"
#endif

int dead_write(struct tally *t, const rd_kafka_message_t *m, const struct tally_error *why,
               struct tally_error *error)
{
    struct delivery d = {.is_done = false};
    rd_kafka_headers_t *headers = make_headers(t, m, why);
    rd_kafka_resp_err_t rc = t->k.rd_kafka_producev(
        t->producer, RD_KAFKA_V_TOPIC(t->o.dead_letter), RD_KAFKA_V_KEY(m->key, m->key_len),
        RD_KAFKA_V_VALUE(m->payload, m->len), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_OPAQUE(&d), RD_KAFKA_V_END);
    if (rc) {
        t->k.rd_kafka_headers_destroy(headers);
        return failed(t, rc, error);
    }
    // It ends by itself after message.timeout.ms, and must: the delivery points at our stack.
    while (!d.is_done)
        t->k.rd_kafka_poll(t->producer, CONSUMER_TICK_MS);
    if (d.result)
        return failed(t, d.result, error);
    struct partition *p = partition_find(t, t->k.rd_kafka_topic_name(m->rkt), m->partition);
    consumer_event(t, TALLY_EVENT_DEAD_LETTER, p, "%s/%d/%" PRId64 ": to %s: %s",
                   t->k.rd_kafka_topic_name(m->rkt), (int)m->partition, m->offset, t->o.dead_letter,
                   why->text);
    return 0;
}
