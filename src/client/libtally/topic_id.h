#pragma once
// The id of a topic, which librdkafka of Debian 12 does not give: a Metadata request of our own.

#include "client/libtally/claim.h"

// A connection that is kept from one question to the next. Zeros: none yet.
struct topic_id_link {
    int fd;
    bool is_open;
    bool has_ids;     // false: the broker's protocol has none, and no question is sent
    size_t n_waiting; // questions that wait for their answers
    size_t first;     // which of the brokers is tried first: another one after each failure
};

// brokers: HOST:PORT[,HOST:PORT...]; each is tried until one knows, and has timeout_ms to take the
// connection and as much again to answer. ret_id is CLAIM_NO_ID when the broker's protocol has no
// ids. TALLY_KAFKA: no address answers, or none knows the topic (it is being deleted, or the broker
// has just started).
MUST_CHECK int topic_id_ask(const char *brokers, const char *topic, int timeout_ms,
                            char ret_id[CLAIM_TOPIC_ID], struct tally_error *error);

// The two halves of it. The question is under way when this returns; connects where no connection
// stands. TALLY_KAFKA: nobody takes it.
MUST_CHECK int topic_id_send(struct topic_id_link *l, const char *brokers, const char *topic,
                             int timeout_ms, struct tally_error *error);
// The answer to the oldest question that waits for one; topic is that question's. TALLY_KAFKA: none
// came, or the broker does not know the topic; the connection and all questions are given up.
MUST_CHECK int topic_id_receive(struct topic_id_link *l, const char *topic, int timeout_ms,
                                char ret_id[CLAIM_TOPIC_ID], struct tally_error *error);
// Gives up the connection and the questions that wait.
void topic_id_close(struct topic_id_link *l);
