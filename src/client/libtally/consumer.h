#pragma once
// The fields of a handle, shared by the files of libtally and nobody else.
//
//   open.c       options, settings of librdkafka, both sides made
//   consumer.c   the loop: poll, hold, store, until stop or end
//   partition.c  given and taken partitions, claims and their proof
//   store.c      the transaction; what happens when it fails
//   dead.c       dead letters
//   discard.c    records that are done with

#include "client/libtally/claim.h"
#include "client/libtally/discard.h"
#include "client/libtally/load.h"
#include "client/libtally/refill.h"
#include "client/libtally/topic_id.h"

#include <stdatomic.h>

#define CONSUMER_TICK_MS 100 // longest wait in one poll, and longest time without one
#define CONSUMER_AHEAD                                                                             \
    2000                       // records held for the transactions after the next one, so that
                               // small ones share one question about their topic's id
#define CONSUMER_COMMIT_MS 100 // offsets go to Kafka no more often than this
#define CONSUMER_ID_CHECK_MS                                                                       \
    5000                             // how long an answer about a topic's id is believed, where
                                     // nothing is stored
#define CONSUMER_IDS_AHEAD 16        // questions under way, one for each topic of a batch
#define CONSUMER_ID_CALL_MS 500      // asking in between must not hold up the records
#define CONSUMER_ID_PAUSE_MS 30000   // after nobody answered that
#define CONSUMER_MAX_BROKERS 16      // whose addresses are kept, beside the given ones
#define CONSUMER_CALL_MS 5000        // one question to a broker
#define CONSUMER_BUSY_MS 10000       // one wait for a lock in the database, at most timeout_ms
#define CONSUMER_RETRY_MS 200        // first pause after a failure; doubled up to
#define CONSUMER_RETRY_MAX_MS 2000   // this
#define CONSUMER_REFUSED_MS 1000     // pause after a refused claim: the group will tell us more
#define CONSUMER_BEHIND_MS 15000     // a new leader may not know its high watermark at once
#define CONSUMER_UNKNOWN_MS 5000     // a broker that has just started may not know a topic yet
#define CONSUMER_MAX_RECORDS 1000000 // --batch and the like
#define CONSUMER_SOME 100            // records that one call of process_some brings, at most
#define CONSUMER_MAX_TOPICS 1000

enum partition_state {
    PARTITION_PENDING, // ours in the group, not yet claimed and proven: nothing of it is stored
    PARTITION_OWNED,
};

struct partition {
    char *topic;      // owned; claim.topic is the same
    struct topic *of; // NULL: none of those subscribed to
    struct claim claim;
    enum partition_state state;
    bool is_assigned;     // librdkafka fetches it
    int64_t end;          // behind the last record held; claim.next when none is
    int64_t batch_end;    // behind its last record of the transaction in hand; -1: none
    int64_t eof;          // end of the log, when it was reached there; -1
    int64_t committed;    // to Kafka
    int64_t retry_at_ms;  // PENDING: not before
    int64_t behind_since; // next_offset has been beyond the log since; 0: it is not
};

struct held {
    rd_kafka_message_t *message; // owned
    struct partition *partition;
};

struct topic {
    char *name;
    char id[CLAIM_TOPIC_ID];
    int64_t asked_at_ms; // 0: never
    int64_t check_at_ms; // not before
    int64_t *targets;    // until_end: log end of each partition when run began; -1: done
    int32_t n_targets;
};

// Since when a side has been away; 0: it is there.
struct outage {
    int64_t since_ms;
    int64_t told_ms;
    int pause_ms;
};

struct tally {
    struct tally_options o; // strings owned
    struct kafka_api k;
    rd_kafka_t *consumer;
    rd_kafka_t *producer; // NULL: no dead letters
    struct sink *sink;
    struct claim_group group;
    char *member;
    char *brokers; // the given addresses and those that the brokers told
    bool asks_ids; // plain connections only: the request of topic_id.c knows no TLS
    struct topic_id_link ids;
    size_t asked_to; // partitions before this one have their topic asked for
    struct topic *topics;
    struct partition **partitions;
    size_t n_partitions;
    size_t cap_partitions;
    struct held *held;
    size_t n_held;
    size_t cap_held;
    size_t held_bytes;
    size_t n_confirmed; // of held, from the first on: polled before a question about their topics'
                        // ids that was answered well
    struct discard discard;                  // of those that were held
    struct refill refill;                    // of those that come
    struct tally_record seen[CONSUMER_SOME]; // by a callback
    struct tally_header *headers;            // of those
    size_t cap_headers;
    int64_t held_since_ms;
    int64_t committed_at_ms;
    int64_t ticked_at_ms;
    int64_t polled_at_ms;
    int64_t checked_end_ms;
    struct outage kafka;
    char kafka_why[240]; // what librdkafka said last of a broker that it cannot use; "": nothing
    struct outage database;
    struct outage unconfirmed; // nobody says whether a batch's topics are still the same
    struct tally_stats stats;
    struct tally_error failure; // code 0: none. Set by callbacks, which cannot return it
    bool has_joined;            // an assignment has come
    bool gave_up;               // what was held is dropped: what comes now lies behind a gap
    atomic_int stop;
};

struct tally_tx {
    struct tally *t;
};

int64_t consumer_now_ms(void);
// How long one question to a broker may take: never longer than anybody has patience.
int consumer_call_ms(const struct tally *t);
void consumer_event(struct tally *t, enum tally_event_kind kind, const struct partition *p,
                    const char *format, ...) __attribute__((format(printf, 4, 5)));
// What a callback returned, with an error that says so where it set none itself.
int consumer_called(const char *callback, int result, struct tally_error *error);
// Keeps the first error as the reason to stop; returns its code.
int consumer_fail(struct tally *t, const struct tally_error *error);
// A side failed: tells, and waits a little (unless told to stop). 0: try again. Otherwise the
// patience (timeout_ms) is over, and the error is kept.
MUST_CHECK int consumer_wait(struct tally *t, struct outage *o, const struct tally_error *error);
// The same without the wait, for what the loop tries again.
int consumer_outage(struct tally *t, struct outage *o, const struct tally_error *error);
void consumer_restored(struct outage *o);
// TALLY_KAFKA: no broker answers. With librdkafka's reason where it gave one.
int consumer_no_broker(const struct tally *t, rd_kafka_resp_err_t rc, struct tally_error *error);

// Claims what is pending and due, and has librdkafka fetch it.
void partition_claim_due(struct tally *t);
// A claim that no longer stands: what is held of it is dropped, and it is claimed again.
void partition_lose(struct tally *t, struct partition *p);
// All that are ours, to ask for their ends.
rd_kafka_topic_partition_list_t *partition_list_owned(struct tally *t);
void partition_on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t what,
                            rd_kafka_topic_partition_list_t *list, void *opaque);
struct partition *partition_find(const struct tally *t, const char *topic, int32_t partition);
void partition_free_all(struct tally *t);
// Checks that a topic still is the one it was; at most every CONSUMER_ID_CHECK_MS. Each broker has
// timeout_ms to answer.
MUST_CHECK int partition_check_topic(struct tally *t, struct topic *topic, int timeout_ms,
                                     struct tally_error *error);
// Confirms that what is held is of the topics that were claimed: the question is sent when the last
// record has been polled, and answered before the COMMIT. As ids never come back, the records are
// then of that topic, and not of one that was made again. TALLY_KAFKA: not now.
MUST_CHECK int partition_ask_ids(struct tally *t, struct tally_error *error);
MUST_CHECK int partition_confirm_ids(struct tally *t, struct tally_error *error);

// Stores what is held, whatever it takes: one transaction's worth, or all. 0, or a code whose error
// is kept.
int store_batch(struct tally *t);
int store_flush(struct tally *t);
void store_drop(struct tally *t, const struct partition *p); // NULL: all
// Tells Kafka how far we are. Failures do not matter.
void store_commit_to_kafka(struct tally *t, bool is_last);

MUST_CHECK int dead_open(struct tally *t, struct tally_error *error);
// Writes the record to the dead letters and waits for the acknowledgement.
MUST_CHECK int dead_write(struct tally *t, const rd_kafka_message_t *m,
                          const struct tally_error *why, struct tally_error *error);
