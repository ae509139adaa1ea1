#include "client/libtally/consumer.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int64_t consumer_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// The clock of the loop: it is read once for every record, and a few milliseconds do not matter.
static int64_t coarse_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int consumer_call_ms(const struct tally *t)
{
    int patience_ms = t->o.timeout_ms;
    return patience_ms > 0 && patience_ms < CONSUMER_CALL_MS ? patience_ms : CONSUMER_CALL_MS;
}

void consumer_event(struct tally *t, enum tally_event_kind kind, const struct partition *p,
                    const char *format, ...)
{
    if (!t->o.event)
        return;
    char text[TALLY_ERROR_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct tally_event e = {.kind = kind, .text = text, .partition = -1, .offset = -1};
    if (p) {
        e.topic = p->topic;
        e.partition = p->claim.partition;
        e.offset = p->claim.next;
        e.claim_epoch = p->claim.epoch;
    }
    t->o.event(t->o.user, &e);
}

int consumer_fail(struct tally *t, const struct tally_error *error)
{
    if (!t->failure.code)
        t->failure = *error;
    return t->failure.code;
}

int consumer_called(const char *callback, int result, struct tally_error *error)
{
    if (result > 0)
        return tally_error_set(error, TALLY_INVALID,
                               "the %s callback returned %d; 0 or a code of enum tally_code is "
                               "what it may return",
                               callback, result);
    if (result < 0 && (int)error->code != result)
        tally_error_set(error, (enum tally_code)result,
                        "the %s callback returned %d and no sentence", callback, result);
    return result;
}

int consumer_no_broker(const struct tally *t, rd_kafka_resp_err_t rc, struct tally_error *error)
{
    const char *why = t->kafka_why[0] ? t->kafka_why : t->k.rd_kafka_err2str(rc);
    // librdkafka says it only when it finds the end by reading, not when by writing.
    bool hung_up = strstr(why, "in state UP") && !strstr(why, "SASL");
    return tally_error_set(error, TALLY_KAFKA, "no broker of %.200s answers: %s%s", t->o.bootstrap,
                           why,
                           hung_up ? "; one that hangs up may want SASL or TLS: see "
                                     "security.protocol"
                                   : "");
}

void consumer_restored(struct outage *o)
{
    *o = (struct outage){0};
}

int consumer_outage(struct tally *t, struct outage *o, const struct tally_error *error)
{
    int64_t now = consumer_now_ms();
    if (!o->since_ms) {
        *o = (struct outage){.since_ms = now, .pause_ms = CONSUMER_RETRY_MS};
    } else if (t->o.timeout_ms >= 0 && now - o->since_ms > t->o.timeout_ms) {
        struct tally_error given_up;
        enum tally_code code = error->code == TALLY_AGAIN ? TALLY_DATABASE : error->code;
        tally_error_set(&given_up, code, "%s (given up after %d s; --timeout sets how long)",
                        error->text, t->o.timeout_ms / 1000);
        return consumer_fail(t, &given_up);
    }
    if (now - o->told_ms >= CONSUMER_RETRY_MAX_MS) {
        o->told_ms = now;
        consumer_event(t, TALLY_EVENT_RETRY, NULL, "%s; trying again", error->text);
    }
    return 0;
}

int consumer_wait(struct tally *t, struct outage *o, const struct tally_error *error)
{
    int result = consumer_outage(t, o, error);
    if (result < 0)
        return result;
    for (int waited = 0; waited < o->pause_ms && !atomic_load(&t->stop); waited += 20) {
        struct timespec pause = {.tv_nsec = 20 * 1000000L};
        nanosleep(&pause, NULL);
    }
    o->pause_ms *= 2;
    if (o->pause_ms > CONSUMER_RETRY_MAX_MS)
        o->pause_ms = CONSUMER_RETRY_MAX_MS;
    return 0;
}

// --- What a poll brings.

static bool hold(struct tally *t, rd_kafka_message_t *m, struct partition *p)
{
    if (t->n_held == t->cap_held) {
        size_t cap = t->cap_held ? t->cap_held * 2 : 256;
        struct held *more = realloc(t->held, cap * sizeof *more);
        if (!more) {
            struct tally_error error;
            tally_error_set(&error, TALLY_NO_MEMORY, "out of memory for %zu records", cap);
            consumer_fail(t, &error);
            return false;
        }
        t->held = more;
        t->cap_held = cap;
    }
    if (t->n_held == 0)
        t->held_since_ms = coarse_ms();
    t->held[t->n_held++] = (struct held){m, p};
    t->held_bytes += m->len + m->key_len;
    p->end = m->offset + 1;
    return true;
}

static struct partition *partition_of(const struct tally *t, const rd_kafka_message_t *m)
{
    if (!m->rkt)
        return NULL;
    // Records come in runs of one partition. What is held is of partitions that are still there.
    if (t->n_held > 0) {
        const struct held *last = &t->held[t->n_held - 1];
        if (last->message->rkt == m->rkt && last->message->partition == m->partition)
            return last->partition;
    }
    return partition_find(t, t->k.rd_kafka_topic_name(m->rkt), m->partition);
}

static void stop_fatal(struct tally *t)
{
    struct tally_error error;
    char why[256] = "";
    enum { UNRELEASED_INSTANCE_ID = 111 }; // librdkafka 2.0 lacks the name
    rd_kafka_resp_err_t rc = t->k.rd_kafka_fatal_error(t->consumer, why, sizeof why);
    if ((int)rc == UNRELEASED_INSTANCE_ID)
        tally_error_set(&error, TALLY_INVALID,
                        "group %s: another copy has this group.instance.id; give each copy its "
                        "own, or, if that one died, start again when its session is over",
                        t->o.group);
    else if (rc == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID)
        tally_error_set(&error, TALLY_INVALID,
                        "group %s: another copy has joined with the same group.instance.id; give "
                        "each copy its own",
                        t->o.group);
    else
        tally_error_set(&error, TALLY_KAFKA, "group %s: %s", t->o.group, why);
    consumer_fail(t, &error);
}

static void stop_with(struct tally *t, enum tally_code code, const char *what,
                      const rd_kafka_message_t *m)
{
    struct tally_error error;
    tally_error_set(&error, code, "group %s: %s: %s", t->o.group, what,
                    t->k.rd_kafka_err2str(m->err));
    consumer_fail(t, &error);
}

// librdkafka goes on behind what it could not read: those records would be missed. What came before
// is stored, so that the next start comes to the same place.
static void stop_at_unreadable(struct tally *t, struct partition *p, const rd_kafka_message_t *m)
{
    if (!p || p->state != PARTITION_OWNED || store_flush(t) != 0 || p->state != PARTITION_OWNED)
        return;
    struct tally_error error;
    const char *why = m->payload ? m->payload : "";
    tally_error_set(&error, TALLY_KAFKA,
                    "%s/%d: records from offset %" PRId64 " on cannot be read (%.*s); nothing from "
                    "there on is stored: mend the log, or delete its records up to behind them",
                    p->claim.topic, p->claim.partition, m->offset, (int)m->len, why);
    consumer_fail(t, &error);
}

static void on_error(struct tally *t, const rd_kafka_message_t *m)
{
    struct partition *p = partition_of(t, m);
    struct tally_error error;
    switch ((int)m->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        consumer_restored(&t->kafka);
        if (p && p->state == PARTITION_OWNED && m->offset >= p->end && !t->gave_up)
            p->eof = m->offset;
        return;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
        if (p && p->state == PARTITION_OWNED) {
            if (store_flush(t) == 0 && p->state == PARTITION_OWNED)
                partition_lose(t, p); // the claim looks at the log's range, and says what is wrong
        }
        return;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
        stop_with(t, TALLY_INVALID, "the brokers do not let us read; see their ACLs", m);
        return;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
        for (size_t i = 0; i < t->o.n_topics; i++) {
            t->topics[i].asked_at_ms -= t->topics[i].asked_at_ms ? CONSUMER_ID_CHECK_MS : 0;
            t->topics[i].check_at_ms = 0;
        }
        tally_error_set(&error, TALLY_KAFKA, "a topic is missing: %s",
                        t->k.rd_kafka_err2str(m->err));
        consumer_outage(t, &t->kafka, &error);
        return;
    case RD_KAFKA_RESP_ERR__BAD_MSG:
    case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
    case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED: // a format or a codec
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
        stop_at_unreadable(t, p, m);
        return;
    case RD_KAFKA_RESP_ERR__FATAL:
        stop_fatal(t);
        return;
    default:
        consumer_event(t, TALLY_EVENT_NOTE, p, "%s", t->k.rd_kafka_err2str(m->err));
    }
}

static void take(struct tally *t, rd_kafka_message_t *m)
{
    refill_taken(&t->refill, m->len + m->key_len);
    if (m->err) {
        on_error(t, m);
    } else {
        struct partition *p = partition_of(t, m);
        consumer_restored(&t->kafka);
        // What was fetched before a claim was lost, or below where it now begins.
        if (p && p->state == PARTITION_OWNED && p->is_assigned && m->offset >= p->end &&
            !t->gave_up && hold(t, m, p))
            return;
    }
    t->k.rd_kafka_message_destroy(m);
}

// --- The loop.

static bool is_full(const struct tally *t, int64_t now)
{
    return t->n_held >= (size_t)t->o.batch_records || t->held_bytes >= t->o.batch_bytes ||
           (t->n_held > 0 && now - t->held_since_ms >= t->o.batch_ms);
}

static int poll_ms(const struct tally *t, int64_t now)
{
    if (t->n_held == 0)
        return CONSUMER_TICK_MS;
    int64_t left = t->held_since_ms + t->o.batch_ms - now;
    return left < 0 ? 0 : left > CONSUMER_TICK_MS ? CONSUMER_TICK_MS : (int)left;
}

// Takes in what has come, so far as it is wanted; waits for the first only, and only where there
// is not yet enough for a transaction.
static void gather(struct tally *t, int64_t now)
{
    size_t batch = (size_t)t->o.batch_records;
    size_t most = batch > CONSUMER_AHEAD ? batch : CONSUMER_AHEAD;
    // Callbacks are served here, also while much is held.
    if (t->n_held >= batch && now - t->polled_at_ms < CONSUMER_TICK_MS)
        return;
    t->polled_at_ms = now;
    int wait_ms = is_full(t, now) ? 0 : poll_ms(t, now);
    rd_kafka_message_t *m;
    do {
        m = t->k.rd_kafka_consumer_poll(t->consumer, wait_ms);
        if (m)
            take(t, m);
        wait_ms = 0;
    } while (m && !t->failure.code && !atomic_load(&t->stop) && t->n_held < most &&
             t->held_bytes < t->o.batch_bytes);
    if (refill_is_due(&t->refill))
        refill_ask(&t->refill, partition_list_owned(t));
}

// The brokers seem to be away: ask, before anybody gives up.
static void check_brokers(struct tally *t)
{
    if (!t->kafka.since_ms || consumer_now_ms() - t->kafka.told_ms < CONSUMER_RETRY_MAX_MS)
        return;
    const struct rd_kafka_metadata *all;
    rd_kafka_resp_err_t rc =
        t->k.rd_kafka_metadata(t->consumer, 0, NULL, &all, consumer_call_ms(t));
    if (!rc) {
        t->k.rd_kafka_metadata_destroy(all);
        t->kafka_why[0] = 0;
        consumer_restored(&t->kafka);
        return;
    }
    struct tally_error error;
    consumer_no_broker(t, rc, &error);
    consumer_outage(t, &t->kafka, &error);
}

static void check_ids(struct tally *t)
{
    struct tally_error error;
    int64_t now = coarse_ms();
    for (size_t i = 0; i < t->o.n_topics; i++) {
        struct topic *topic = &t->topics[i];
        if (!topic->asked_at_ms || now < topic->check_at_ms)
            continue;
        int result = partition_check_topic(t, topic, CONSUMER_ID_CALL_MS, &error);
        // Nobody answering is no news here: librdkafka tells of outages.
        topic->check_at_ms = now + (result == TALLY_KAFKA ? CONSUMER_ID_PAUSE_MS : 0);
        if (result == TALLY_OFFSET)
            consumer_fail(t, &error);
    }
}

static void tick(struct tally *t, int64_t now)
{
    if (now - t->ticked_at_ms < CONSUMER_TICK_MS)
        return;
    t->ticked_at_ms = now;
    discard_flush(&t->discard);
    if (t->o.tick)
        t->o.tick(t->o.user, t);
    check_ids(t);
    check_brokers(t);
    partition_claim_due(t);
    store_commit_to_kafka(t, false);
}

// --- The end, where there is one.

static int note_targets(struct tally *t, struct topic *topic, struct tally_error *error)
{
    const struct rd_kafka_metadata *all;
    rd_kafka_topic_t *handle = t->k.rd_kafka_topic_new(t->consumer, topic->name, NULL);
    rd_kafka_resp_err_t rc =
        t->k.rd_kafka_metadata(t->consumer, 0, handle, &all, consumer_call_ms(t));
    t->k.rd_kafka_topic_destroy(handle);
    if (rc || all->topic_cnt != 1)
        return tally_error_set(error, TALLY_KAFKA, "topic %s: %s", topic->name,
                               t->k.rd_kafka_err2str(rc));
    int32_t n = all->topics[0].partition_cnt;
    t->k.rd_kafka_metadata_destroy(all);
    free(topic->targets);
    topic->targets = calloc((size_t)n + 1, sizeof *topic->targets);
    if (!topic->targets)
        return tally_error_set(error, TALLY_NO_MEMORY, "out of memory for %d partitions", (int)n);
    topic->n_targets = n;
    for (int32_t i = 0; i < n; i++) {
        int64_t low;
        rc = t->k.rd_kafka_query_watermark_offsets(t->consumer, topic->name, i, &low,
                                                   &topic->targets[i], consumer_call_ms(t));
        if (rc)
            return tally_error_set(error, TALLY_KAFKA, "%s/%d: cannot ask for the log's end: %s",
                                   topic->name, (int)i, t->k.rd_kafka_err2str(rc));
        if (topic->targets[i] == low)
            topic->targets[i] = -1; // nothing in it
    }
    return 0;
}

static int note_all_targets(struct tally *t)
{
    for (size_t i = 0; i < t->o.n_topics; i++) {
        struct tally_error error;
        int result;
        while ((result = note_targets(t, &t->topics[i], &error)) == TALLY_KAFKA) {
            if (consumer_wait(t, &t->kafka, &error) < 0)
                return t->failure.code;
            if (atomic_load(&t->stop))
                return 0;
        }
        if (result < 0)
            return consumer_fail(t, &error);
    }
    consumer_restored(&t->kafka);
    return 0;
}

static void on_listed(void *user, int32_t partition, int64_t next)
{
    struct topic *topic = user;
    if (partition >= 0 && partition < topic->n_targets && next >= topic->targets[partition])
        topic->targets[partition] = -1;
}

// What is not claimed yet may hold a stored offset that is wrong.
static bool has_something_to_do(const struct tally *t)
{
    for (size_t i = 0; i < t->n_partitions; i++) {
        const struct partition *p = t->partitions[i];
        int32_t at = p->claim.partition;
        bool has_target = p->of && at < p->of->n_targets;
        if (p->state == PARTITION_PENDING || (has_target && p->claim.next < p->of->targets[at]))
            return true;
    }
    return false;
}

// Other copies may hold some of the partitions: what is stored says it for all.
static bool is_at_end(struct tally *t)
{
    if (!t->o.until_end || !t->has_joined || has_something_to_do(t))
        return false;
    int64_t now = consumer_now_ms();
    if (now - t->checked_end_ms < CONSUMER_TICK_MS)
        return false;
    t->checked_end_ms = now;
    for (size_t i = 0; i < t->o.n_topics; i++) {
        struct topic *topic = &t->topics[i];
        int32_t at = 0;
        while (at < topic->n_targets && topic->targets[at] < 0)
            at++;
        if (at == topic->n_targets)
            continue;
        struct tally_error error;
        if (sink_connect(t->sink, &error) < 0 ||
            claim_list(&t->group, topic->name, on_listed, topic, &error) < 0)
            return false;
        for (; at < topic->n_targets; at++) {
            if (topic->targets[at] >= 0)
                return false;
        }
    }
    return true;
}

int tally_run(struct tally *t, struct tally_error *error)
{
    if (t->o.until_end && note_all_targets(t) < 0)
        goto done;
    while (!t->failure.code && !atomic_load(&t->stop)) {
        int64_t now = coarse_ms();
        tick(t, now);
        gather(t, now);
        if (t->failure.code || (!is_full(t, now) && t->n_held > 0))
            continue;
        if (store_batch(t) == 0 && is_at_end(t))
            break;
    }
    // At the end, what came behind it: a run after this one goes on where it was fetched.
    while (!t->failure.code && !atomic_load(&t->stop) && t->n_held > 0)
        (void)store_batch(t);
    if (!t->failure.code && store_batch(t) == 0)
        store_commit_to_kafka(t, true);
done:
    store_drop(t, NULL);
    discard_flush(&t->discard);
    if (t->o.tick)
        t->o.tick(t->o.user, t);
    if (t->failure.code && error)
        *error = t->failure;
    return t->failure.code;
}

void tally_stop(struct tally *t)
{
    atomic_store(&t->stop, 1);
}

void tally_stats(const struct tally *t, struct tally_stats *stats)
{
    struct tally_stats all = t->stats;
    all.n_partitions = 0;
    for (size_t i = 0; i < t->n_partitions; i++) {
        const struct partition *p = t->partitions[i];
        int64_t low, high;
        if (p->state != PARTITION_OWNED)
            continue;
        all.n_partitions++;
        if (t->k.rd_kafka_get_watermark_offsets(t->consumer, p->topic, p->claim.partition, &low,
                                                &high) ||
            high < 0) {
            all.lag = -1;
            continue;
        }
        if (all.lag >= 0 && high > p->claim.next)
            all.lag += high - p->claim.next;
    }
    all.size = stats->size < sizeof all ? stats->size : sizeof all;
    memcpy(stats, &all, all.size);
}

// --- The transaction, as callbacks see it.

int tally_tx_run(struct tally_tx *tx, const char *sql, const struct tally_value *values,
                 size_t n_values, int64_t *ret_changed, struct tally_error *error)
{
    return sink_run(tx->t->sink, sql, values, n_values, NULL, NULL, ret_changed, error);
}

int tally_tx_query(struct tally_tx *tx, const char *sql, const struct tally_value *values,
                   size_t n_values, tally_row_fn *row, void *user, struct tally_error *error)
{
    return sink_run(tx->t->sink, sql, values, n_values, row, user, NULL, error);
}

int tally_tx_describe(struct tally_tx *tx, const char *sql, tally_column_fn *column, void *user,
                      struct tally_error *error)
{
    return sink_describe(tx->t->sink, sql, column, user, error);
}

enum tally_database tally_tx_database(const struct tally_tx *tx)
{
    return tx->t->sink->database;
}

void *tally_tx_native(struct tally_tx *tx)
{
    return sink_native(tx->t->sink);
}
