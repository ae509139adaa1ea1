#pragma once
// What all C examples share: settings from the environment, the work, a clean stop.

#include <librdkafka/rdkafka.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static volatile sig_atomic_t example_stop;

static inline void example_on_signal(int signal)
{
    (void)signal;
    example_stop = 1;
}

static inline const char *example_env(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static inline void example_set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[256];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK) {
        fprintf(stderr, "%s\n", why);
        exit(2);
    }
}

// The settings every example has; arguments name=value are further ones.
static inline rd_kafka_conf_t *example_conf(int argc, char **argv)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    example_set(conf, "bootstrap.servers", example_env("TALLY_BOOTSTRAP", "127.0.0.1:9092"));
    example_set(conf, "group.id", example_env("TALLY_GROUP", "example"));
    example_set(conf, "client.id", example_env("TALLY_INSTANCE", "example"));
    example_set(conf, "auto.offset.reset", example_env("TALLY_RESET", "earliest"));
    for (int i = 1; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (!equals)
            continue;
        *equals = 0;
        example_set(conf, argv[i], equals + 1);
        *equals = '=';
    }
    struct sigaction on_stop = {.sa_handler = example_on_signal};
    sigaction(SIGTERM, &on_stop, NULL);
    sigaction(SIGINT, &on_stop, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    return conf;
}

// A consumer of that configuration, subscribed to the topic.
static inline rd_kafka_t *example_subscribe(rd_kafka_conf_t *conf)
{
    char why[256];
    rd_kafka_t *consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
    if (!consumer) {
        fprintf(stderr, "%s\n", why);
        exit(2);
    }
    rd_kafka_poll_set_consumer(consumer);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, example_env("TALLY_TOPIC", "example"),
                                      RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t err = rd_kafka_subscribe(consumer, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    if (err) {
        fprintf(stderr, "subscribe: %s\n", rd_kafka_err2str(err));
        exit(2);
    }
    return consumer;
}

// The next record, or NULL when there was none for a while. Errors are printed.
static inline rd_kafka_message_t *example_poll(rd_kafka_t *consumer)
{
    rd_kafka_message_t *m = rd_kafka_consumer_poll(consumer, 100);
    if (m && m->err) {
        fprintf(stderr, "consume: %s\n", rd_kafka_message_errstr(m));
        rd_kafka_message_destroy(m);
        return NULL;
    }
    return m;
}

static inline void example_work(void)
{
    long ms = strtol(example_env("TALLY_WORK_MS", "2"), NULL, 10);
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static inline void example_print(const rd_kafka_message_t *m)
{
    printf("%s/%d/%lld %.*s\n", rd_kafka_topic_name(m->rkt), (int)m->partition,
           (long long)m->offset, (int)m->key_len, m->key ? (const char *)m->key : "");
}

static inline void example_close(rd_kafka_t *consumer)
{
    rd_kafka_consumer_close(consumer);
    rd_kafka_destroy(consumer);
}
