#include "client/libtally/refill.h"

#include "base/thread.h"
#include <stdlib.h>

// Nobody waits for the answer but refill_stop().
#define ASK_MS 500

static void *run(void *user)
{
    struct refill *r = user;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (!r->wanted && !r->ends)
            pthread_cond_wait(&r->some, &r->lock);
        rd_kafka_topic_partition_list_t *partitions = r->wanted;
        r->wanted = NULL;
        if (!partitions)
            break;
        r->is_asking = true;
        bool asks = !r->ends;
        pthread_mutex_unlock(&r->lock);
        if (asks) // one request for each leader
            (void)r->k->rd_kafka_offsets_for_times(r->consumer, partitions, ASK_MS);
        r->k->rd_kafka_topic_partition_list_destroy(partitions);
        pthread_mutex_lock(&r->lock);
        r->is_asking = false;
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static size_t setting(const struct kafka_api *k, const rd_kafka_conf_t *conf, const char *name)
{
    char text[32] = "";
    size_t size = sizeof text;
    if (k->rd_kafka_conf_get(conf, name, text, &size) != RD_KAFKA_CONF_OK)
        return 0;
    return strtoul(text, NULL, 10);
}

void refill_configure(struct refill *r, const struct kafka_api *k, const rd_kafka_conf_t *conf)
{
    r->k = k;
    r->full_records = setting(k, conf, "queued.min.messages");
    r->full_bytes = setting(k, conf, "queued.max.messages.kbytes") * 1024;
}

void refill_start(struct refill *r, rd_kafka_t *consumer)
{
    r->consumer = consumer;
    r->queue = r->k->rd_kafka_queue_get_consumer(consumer);
    if (!r->queue)
        return;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->some, NULL);
    bool has_thread = thread_start(&r->thread, run, r) == 0;
    if (has_thread)
        return;
    r->k->rd_kafka_queue_destroy(r->queue);
    r->queue = NULL;
    pthread_cond_destroy(&r->some);
    pthread_mutex_destroy(&r->lock);
}

// As many of those that were taken last.
static size_t full_at(const struct refill *r)
{
    size_t each = r->taken_records ? r->taken_bytes / r->taken_records : 0;
    size_t by_bytes = r->full_bytes / (each ? each : 1);
    return by_bytes < r->full_records ? by_bytes : r->full_records;
}

bool refill_is_due(struct refill *r)
{
    if (!r->queue)
        return false;
    size_t now = r->k->rd_kafka_queue_length(r->queue), full = full_at(r);
    if (now > r->most_records)
        r->most_records = now;
    // It may have been full between two looks.
    if (r->most_records == 0 || r->most_records < full / 2 || now >= (full + 1) / 2)
        return false;
    r->most_records = now;
    r->taken_records = r->taken_bytes = 0;
    return true;
}

void refill_ask(struct refill *r, rd_kafka_topic_partition_list_t *partitions)
{
    pthread_mutex_lock(&r->lock);
    bool takes = !r->wanted && !r->is_asking;
    if (takes)
        r->wanted = partitions;
    pthread_cond_signal(&r->some);
    pthread_mutex_unlock(&r->lock);
    if (!takes)
        r->k->rd_kafka_topic_partition_list_destroy(partitions);
}

void refill_stop(struct refill *r)
{
    if (!r->queue)
        return;
    pthread_mutex_lock(&r->lock);
    r->ends = true;
    pthread_cond_signal(&r->some);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    r->k->rd_kafka_queue_destroy(r->queue);
    r->queue = NULL;
    pthread_cond_destroy(&r->some);
    pthread_mutex_destroy(&r->lock);
}
