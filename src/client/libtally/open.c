#include "client/libtally/consumer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define DEFAULT_RECORDS 1000
#define DEFAULT_BYTES (16u << 20)
#define DEFAULT_WAIT_MS 100
#define DEFAULT_TIMEOUT_MS 60000

static int no_memory(struct tally_error *error)
{
    return tally_error_set(error, TALLY_NO_MEMORY, "out of memory");
}

static bool copy_string(const char **s)
{
    if (!*s)
        return true;
    *s = strdup(*s);
    return *s != NULL;
}

static void free_string(const char *s)
{
    // Ours since copy_options(); const only for those who read them.
    char *own;
    memcpy(&own, &s, sizeof own);
    free(own);
}

static size_t count_settings(const char *const *s)
{
    size_t n = 0;
    while (s && s[n])
        n++;
    return n;
}

static bool copy_list(const char *const **list, size_t n)
{
    const char **copy = calloc(n + 1, sizeof *copy);
    if (!copy)
        return false;
    for (size_t i = 0; i < n; i++) {
        copy[i] = strdup((*list)[i]);
        if (!copy[i]) {
            for (size_t k = 0; k < i; k++)
                free_string(copy[k]);
            free(copy);
            return false;
        }
    }
    *list = copy;
    return true;
}

static void free_list(const char *const *list, size_t n)
{
    for (size_t i = 0; list && i < n; i++)
        free_string(list[i]);
    char *own;
    memcpy(&own, &list, sizeof own);
    free(own);
}

static int check(const struct tally_options *o, struct tally_error *error)
{
    if (!o->group || !*o->group)
        return tally_error_set(error, TALLY_INVALID, "give a group");
    if (!o->into)
        return tally_error_set(error, TALLY_INVALID,
                               "give a database: sqlite:FILE or postgres:URL");
    if (!o->process == !o->process_some)
        return tally_error_set(error, TALLY_INVALID,
                               o->process ? "give process or process_some, not both"
                                          : "give a process callback");
    if (!o->topics || o->n_topics < 1 || o->n_topics > CONSUMER_MAX_TOPICS)
        return tally_error_set(error, TALLY_INVALID, "give 1 to %d topics", CONSUMER_MAX_TOPICS);
    if (o->batch_records < 0 || o->batch_records > CONSUMER_MAX_RECORDS || o->batch_ms < 0)
        return tally_error_set(error, TALLY_INVALID, "a batch has 1 to %d records",
                               CONSUMER_MAX_RECORDS);
    if (count_settings(o->librdkafka) % 2)
        return tally_error_set(error, TALLY_INVALID, "librdkafka's settings are pairs");
    for (size_t i = 0; i < o->n_topics; i++) {
        for (size_t k = 0; k < i; k++) {
            if (strcmp(o->topics[i], o->topics[k]) == 0)
                return tally_error_set(error, TALLY_INVALID, "topic %s is given twice",
                                       o->topics[i]);
        }
    }
    return 0;
}

// Fields that an older caller does not know stay 0: the default.
static int copy_options(struct tally *t, const struct tally_options *given,
                        struct tally_error *error)
{
    struct tally_options o = {0};
    if (given->size < offsetof(struct tally_options, from))
        return tally_error_set(error, TALLY_INVALID, "options.size is not set");
    memcpy(&o, given, given->size < sizeof o ? given->size : sizeof o);
    int result = check(&o, error);
    if (result < 0)
        return result;
    o.bootstrap = o.bootstrap ? o.bootstrap : "127.0.0.1:9092";
    o.batch_records = o.batch_records ? o.batch_records : DEFAULT_RECORDS;
    o.batch_bytes = o.batch_bytes ? o.batch_bytes : DEFAULT_BYTES;
    o.batch_ms = o.batch_ms ? o.batch_ms : DEFAULT_WAIT_MS;
    o.timeout_ms = o.timeout_ms ? o.timeout_ms : DEFAULT_TIMEOUT_MS;
    const char **strings[] = {&o.bootstrap, &o.group, &o.into, &o.dead_letter};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        if (!copy_string(strings[i])) {
            while (i > 0)
                free_string(*strings[--i]);
            return no_memory(error);
        }
    }
    bool is_copied = copy_list(&o.topics, o.n_topics);
    if (!is_copied)
        o.n_topics = 0, o.topics = NULL;
    if (is_copied && o.librdkafka)
        is_copied = copy_list(&o.librdkafka, count_settings(o.librdkafka));
    if (!is_copied)
        o.librdkafka = NULL;
    t->o = o;
    return is_copied ? 0 : no_memory(error);
}

static int make_topics(struct tally *t, struct tally_error *error)
{
    t->topics = calloc(t->o.n_topics, sizeof *t->topics);
    if (!t->topics)
        return no_memory(error);
    for (size_t i = 0; i < t->o.n_topics; i++) {
        t->topics[i].name = strdup(t->o.topics[i]);
        if (!t->topics[i].name)
            return no_memory(error);
    }
    return 0;
}

static void on_kafka_error(rd_kafka_t *rk, int code, const char *why, void *opaque)
{
    (void)rk;
    struct tally *t = opaque;
    struct tally_error error;
    if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION) {
        tally_error_set(&error, TALLY_INVALID, "the broker refuses our credentials: %s", why);
        consumer_fail(t, &error);
    } else if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        consumer_no_broker(t, RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, &error);
        consumer_outage(t, &t->kafka, &error);
    } else {
        snprintf(t->kafka_why, sizeof t->kafka_why, "%s", why);
    }
}

static int set(struct tally *t, rd_kafka_conf_t *conf, const char *name, const char *value,
               struct tally_error *error)
{
    char why[256];
    if (t->k.rd_kafka_conf_set(conf, name, value, why, sizeof why) == RD_KAFKA_CONF_OK)
        return 0;
    return tally_error_set(error, TALLY_INVALID, "librdkafka: %s", why);
}

// What the guarantee rests on is not for settings to change.
static int check_setting(const char *name, struct tally_error *error)
{
    static const char *const ours[] = {"enable.auto.commit",
                                       "enable.auto.offset.store",
                                       "auto.offset.reset",
                                       "enable.partition.eof",
                                       "group.id",
                                       "bootstrap.servers",
                                       "check.crcs",
                                       "auto.commit.enable",
                                       "metadata.broker.list"};
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        if (strcmp(name, ours[i]) == 0)
            return tally_error_set(error, TALLY_INVALID,
                                   "librdkafka setting %s is not yours to set here", name);
    }
    return 0;
}

static int configure(struct tally *t, rd_kafka_conf_t *conf, struct tally_error *error)
{
    const char *const settings[][2] = {
        {"bootstrap.servers", t->o.bootstrap},
        {"group.id", t->o.group},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"},
        {"enable.partition.eof", "true"},
        {"check.crcs", "true"}, // off in librdkafka: what came damaged would be stored
        {"client.id", "libtally"},
        {"queued.min.messages", REFILL_RECORDS},
    };
    int result = 0;
    bool has_debug = false;
    char unknown[256]; // to librdkafka before 2.2 (refill.h)
    (void)t->k.rd_kafka_conf_set(conf, "fetch.queue.backoff.ms", "10", unknown, sizeof unknown);
    t->asks_ids = true;
    for (size_t i = 0; result == 0 && i < sizeof settings / sizeof settings[0]; i++)
        result = set(t, conf, settings[i][0], settings[i][1], error);
    for (const char *const *s = t->o.librdkafka; result == 0 && s && *s; s += 2) {
        result = check_setting(s[0], error);
        if (result == 0)
            result = set(t, conf, s[0], s[1], error);
        has_debug = has_debug || strcmp(s[0], "debug") == 0;
        if (strcmp(s[0], "security.protocol") == 0 && strcasecmp(s[1], "plaintext") != 0)
            t->asks_ids = false;
    }
    if (!has_debug)
        t->k.rd_kafka_conf_set_log_cb(conf, NULL);
    refill_configure(&t->refill, &t->k, conf);
    t->k.rd_kafka_conf_set_opaque(conf, t);
    t->k.rd_kafka_conf_set_error_cb(conf, on_kafka_error);
    t->k.rd_kafka_conf_set_rebalance_cb(conf, partition_on_rebalance);
    return result;
}

// claimed_by: whoever looks into the table wants to know where to look next.
static int name_member(struct tally *t, const rd_kafka_conf_t *conf, struct tally_error *error)
{
    char client[128] = "", host[128] = "", text[320];
    size_t size = sizeof client;
    t->k.rd_kafka_conf_get(conf, "client.id", client, &size);
    gethostname(host, sizeof host - 1);
    snprintf(text, sizeof text, "%s@%s/%ld", client, host, (long)getpid());
    t->member = strdup(text);
    return t->member ? 0 : no_memory(error);
}

static int make_consumer(struct tally *t, struct tally_error *error)
{
    rd_kafka_conf_t *conf = t->k.rd_kafka_conf_new();
    char why[256];
    int result = configure(t, conf, error);
    if (result == 0)
        result = name_member(t, conf, error);
    if (result == 0) {
        t->consumer = t->k.rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
        if (t->consumer) {
            t->k.rd_kafka_poll_set_consumer(t->consumer);
            discard_start(&t->discard, &t->k);
            refill_start(&t->refill, t->consumer);
            return 0;
        }
        result = tally_error_set(error, TALLY_INVALID, "librdkafka: %s", why);
    }
    t->k.rd_kafka_conf_destroy(conf);
    return result;
}

// librdkafka goes on with brokers that are not among the given addresses; so must we.
static int keep_addresses(struct tally *t, const struct rd_kafka_metadata *all,
                          struct tally_error *error)
{
    size_t size = strlen(t->o.bootstrap) + 1, len = 0;
    int n = all->broker_cnt < CONSUMER_MAX_BROKERS ? all->broker_cnt : CONSUMER_MAX_BROKERS;
    for (int i = 0; i < n; i++)
        size += strlen(all->brokers[i].host) + sizeof ",[]:65535";
    char *text = malloc(size);
    if (!text)
        return no_memory(error);
    len = (size_t)snprintf(text, size, "%s", t->o.bootstrap);
    for (int i = 0; i < n; i++) {
        const struct rd_kafka_metadata_broker *b = &all->brokers[i];
        bool is_ipv6 = strchr(b->host, ':') != NULL;
        len += (size_t)snprintf(text + len, size - len, ",%s%s%s:%u", is_ipv6 ? "[" : "", b->host,
                                is_ipv6 ? "]" : "", (unsigned)b->port & 0xffff);
    }
    free(t->brokers);
    t->brokers = text;
    return 0;
}

// TALLY_KAFKA: not now.
static int look_for_topic(struct tally *t, const char *name, int call_ms, bool *ret_is_unknown,
                          struct tally_error *error)
{
    const struct rd_kafka_metadata *all;
    rd_kafka_topic_t *handle = t->k.rd_kafka_topic_new(t->consumer, name, NULL);
    *ret_is_unknown = false;
    if (!handle)
        return tally_error_set(error, TALLY_INVALID, "\"%s\" is no topic's name", name);
    rd_kafka_resp_err_t rc = t->k.rd_kafka_metadata(t->consumer, 0, handle, &all, call_ms);
    t->k.rd_kafka_topic_destroy(handle);
    // What the error callback knows: wrong credentials, the reason why nobody answers.
    t->k.rd_kafka_poll(t->consumer, 0);
    if (rc)
        return consumer_no_broker(t, rc, error);
    rc = all->topic_cnt == 1 ? all->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    int kept = keep_addresses(t, all, error);
    t->k.rd_kafka_metadata_destroy(all);
    if (kept < 0 || !rc)
        return kept;
    *ret_is_unknown = rc == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    if (*ret_is_unknown)
        return tally_error_set(error, TALLY_KAFKA,
                               "no topic %s; make it (tally topic create %s) or check the name",
                               name, name);
    bool is_final = rc == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
                    rc == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION;
    return tally_error_set(error, is_final ? TALLY_INVALID : TALLY_KAFKA, "topic %s: %s", name,
                           t->k.rd_kafka_err2str(rc));
}

static int reach_topic(struct tally *t, const char *name, struct tally_error *error)
{
    int64_t unknown_since = 0;
    int result;
    bool is_unknown;
    // A short question first: a broker that refuses our credentials says so to librdkafka at once,
    // and leaves the question without an answer.
    result = look_for_topic(t, name, CONSUMER_ID_CALL_MS, &is_unknown, error);
    if (result == TALLY_KAFKA && !is_unknown && !t->failure.code)
        result = look_for_topic(t, name, consumer_call_ms(t), &is_unknown, error);
    for (; result == TALLY_KAFKA;
         result = look_for_topic(t, name, consumer_call_ms(t), &is_unknown, error)) {
        int64_t now = consumer_now_ms();
        if (!is_unknown || !unknown_since)
            unknown_since = is_unknown ? now : 0;
        else if (now - unknown_since >= CONSUMER_UNKNOWN_MS)
            return error->code = TALLY_INVALID;
        if (t->failure.code || consumer_wait(t, &t->kafka, error) < 0) {
            *error = t->failure;
            return t->failure.code;
        }
    }
    return result;
}

static int reach_brokers(struct tally *t, struct tally_error *error)
{
    for (size_t i = 0; i < t->o.n_topics; i++) {
        int result = reach_topic(t, t->o.topics[i], error);
        if (result < 0)
            return result;
    }
    if (t->o.dead_letter) {
        int result = reach_topic(t, t->o.dead_letter, error);
        if (result < 0)
            return result;
    }
    consumer_restored(&t->kafka);
    return 0;
}

// A slip in the group's name would store every record once more, and look like any first start.
static int look_for_others(struct tally *t, struct tally_error *error)
{
    for (size_t i = 0; i < t->o.n_topics; i++) {
        char other[CLAIM_GROUP_MAX];
        int result = claim_other_group(&t->group, t->o.topics[i], other, error);
        if (result < 0)
            return result;
        if (other[0])
            consumer_event(t, TALLY_EVENT_NOTE, NULL,
                           "group %s begins %s anew, which group %s has stored in this database: "
                           "each group stores every record once",
                           t->o.group, t->o.topics[i], other);
    }
    return 0;
}

static int set_up(struct tally *t, struct tally_error *error)
{
    struct tally_tx tx = {t};
    int result = sink_connect(t->sink, error);
    if (result == 0)
        result = sink_begin(t->sink, error);
    if (result == 0)
        result = claim_setup(t->sink, error);
    if (result == 0)
        result = look_for_others(t, error);
    if (result == 0 && t->o.setup) {
        error->code = TALLY_FINE;
        result = consumer_called("setup", t->o.setup(t->o.user, &tx, error), error);
    }
    if (result == 0)
        return sink_commit(t->sink, error);
    sink_rollback(t->sink);
    return result;
}

static int reach_database(struct tally *t, struct tally_error *error)
{
    int result;
    while ((result = set_up(t, error)) == TALLY_DATABASE || result == TALLY_AGAIN) {
        if (consumer_wait(t, &t->database, error) < 0) {
            *error = t->failure;
            return t->failure.code;
        }
    }
    consumer_restored(&t->database);
    return result;
}

static int subscribe(struct tally *t, struct tally_error *error)
{
    rd_kafka_topic_partition_list_t *list =
        t->k.rd_kafka_topic_partition_list_new((int)t->o.n_topics);
    for (size_t i = 0; i < t->o.n_topics; i++)
        t->k.rd_kafka_topic_partition_list_add(list, t->o.topics[i], RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t rc = t->k.rd_kafka_subscribe(t->consumer, list);
    t->k.rd_kafka_topic_partition_list_destroy(list);
    if (rc)
        return tally_error_set(error, TALLY_KAFKA, "cannot subscribe: %s",
                               t->k.rd_kafka_err2str(rc));
    return 0;
}

static int busy_ms(const struct tally *t)
{
    int patience_ms = t->o.timeout_ms;
    return patience_ms > 0 && patience_ms < CONSUMER_BUSY_MS ? patience_ms : CONSUMER_BUSY_MS;
}

static int open_all(struct tally *t, const struct tally_options *options, struct tally_error *error)
{
    int result = copy_options(t, options, error);
    if (result == 0)
        result = make_topics(t, error);
    if (result == 0)
        result = load_kafka(&t->k, error);
    if (result == 0)
        result = make_consumer(t, error);
    if (result == 0)
        result = sink_open(t->o.into, busy_ms(t), &t->sink, error);
    if (result < 0)
        return result;
    t->group = (struct claim_group){t->sink, t->o.group, t->member};
    result = reach_brokers(t, error);
    if (result == 0)
        result = reach_database(t, error);
    if (result == 0 && t->o.dead_letter)
        result = dead_open(t, error);
    return result == 0 ? subscribe(t, error) : result;
}

int tally_open(const struct tally_options *options, struct tally **ret_tally,
               struct tally_error *error)
{
    struct tally_error unused;
    struct tally *t = calloc(1, sizeof *t);
    if (!t)
        return no_memory(error);
    int result = open_all(t, options, error ? error : &unused);
    if (result < 0) {
        tally_close(t);
        return result;
    }
    *ret_tally = t;
    return 0;
}

void tally_close(struct tally *t)
{
    if (!t)
        return;
    if (t->consumer) {
        t->k.rd_kafka_consumer_close(t->consumer);
        store_drop(t, NULL);
        discard_stop(&t->discard); // librdkafka waits for its records
        refill_stop(&t->refill);
        t->k.rd_kafka_destroy(t->consumer);
    }
    if (t->producer)
        t->k.rd_kafka_destroy(t->producer);
    sink_close(t->sink);
    topic_id_close(&t->ids);
    partition_free_all(t);
    for (size_t i = 0; t->topics && i < t->o.n_topics; i++) {
        free(t->topics[i].name);
        free(t->topics[i].targets);
    }
    free(t->topics);
    free(t->held);
    free(t->headers);
    free(t->member);
    free(t->brokers);
    free_list(t->o.topics, t->o.n_topics);
    free_list(t->o.librdkafka, count_settings(t->o.librdkafka));
    free_string(t->o.bootstrap);
    free_string(t->o.group);
    free_string(t->o.into);
    free_string(t->o.dead_letter);
    free(t);
}
