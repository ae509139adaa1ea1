#pragma once
// Has librdkafka fetch again as soon as its queue has room. Up to version 2.1 it looks once a
// second whether one that was full has some (later fetch.queue.backoff.ms says how often), or when
// something else is asked of the partition's leader. So that is done, by a thread of its own, when
// the queue was full and half of it is taken: where a partition ends nobody needs the answer.

#include "client/libtally/load.h"

#include <pthread.h>
#include <stdbool.h>

// What librdkafka holds at most: a few megabytes, which stay in the processor's caches.
#define REFILL_RECORDS "20000"

struct refill {
    const struct kafka_api *k;
    rd_kafka_t *consumer;
    rd_kafka_queue_t *queue; // owned; NULL: nobody asks
    size_t full_records;     // whichever comes first
    size_t full_bytes;
    size_t most_records; // that were seen in it since the leaders were asked
    size_t taken_records, taken_bytes;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t some;
    rd_kafka_topic_partition_list_t *wanted; // under the lock, and the following; owned
    bool is_asking;
    bool ends;
};

// From the settings of a consumer that is still to be made.
void refill_configure(struct refill *r, const struct kafka_api *k, const rd_kafka_conf_t *conf);
// Without a thread, when none can be had, it does nothing.
void refill_start(struct refill *r, rd_kafka_t *consumer);
// A record was taken from the queue.
static inline void refill_taken(struct refill *r, size_t bytes)
{
    r->taken_records++;
    r->taken_bytes += bytes;
}
// Whether the leaders are to be asked now. Once: the caller goes on with refill_ask().
bool refill_is_due(struct refill *r);
// Takes the list.
void refill_ask(struct refill *r, rd_kafka_topic_partition_list_t *partitions);
// Before the consumer goes. Without refill_start() it does nothing.
void refill_stop(struct refill *r);
