#include "client/libtally/consumer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct partition *partition_find(const struct tally *t, const char *topic, int32_t partition)
{
    for (size_t i = 0; i < t->n_partitions; i++) {
        struct partition *p = t->partitions[i];
        if (p->claim.partition == partition && strcmp(p->topic, topic) == 0)
            return p;
    }
    return NULL;
}

static struct topic *topic_of(const struct tally *t, const char *name)
{
    for (size_t i = 0; i < t->o.n_topics; i++) {
        if (strcmp(t->topics[i].name, name) == 0)
            return &t->topics[i];
    }
    return NULL;
}

static int add(struct tally *t, const char *topic, int32_t partition)
{
    if (partition_find(t, topic, partition))
        return 0;
    if (t->n_partitions == t->cap_partitions) {
        size_t cap = t->cap_partitions ? t->cap_partitions * 2 : 16;
        struct partition **more = realloc(t->partitions, cap * sizeof *more);
        if (!more)
            return TALLY_NO_MEMORY;
        t->partitions = more;
        t->cap_partitions = cap;
    }
    struct partition *p = calloc(1, sizeof *p);
    if (p)
        p->topic = strdup(topic);
    if (!p || !p->topic) {
        free(p);
        return TALLY_NO_MEMORY;
    }
    p->claim.topic = p->topic;
    p->of = topic_of(t, topic);
    p->claim.partition = partition;
    p->eof = p->committed = -1;
    // Sorted: every copy locks the rows of tally_offset in the same order.
    size_t at = t->n_partitions++;
    while (at > 0) {
        const struct partition *before = t->partitions[at - 1];
        int order = strcmp(before->topic, topic);
        if (order < 0 || (order == 0 && before->claim.partition < partition))
            break;
        t->partitions[at] = t->partitions[at - 1];
        at--;
    }
    t->partitions[at] = p;
    return 0;
}

static void free_partition(struct partition *p)
{
    free(p->topic);
    free(p);
}

void partition_free_all(struct tally *t)
{
    for (size_t i = 0; i < t->n_partitions; i++)
        free_partition(t->partitions[i]);
    free(t->partitions);
    t->partitions = NULL;
    t->n_partitions = t->cap_partitions = 0;
}

static rd_kafka_topic_partition_list_t *new_list(struct tally *t)
{
    return t->k.rd_kafka_topic_partition_list_new((int)t->n_partitions + 1);
}

static void list_add(struct tally *t, rd_kafka_topic_partition_list_t *list,
                     const struct partition *p, int64_t offset)
{
    t->k.rd_kafka_topic_partition_list_add(list, p->topic, p->claim.partition)->offset = offset;
}

static bool is_cooperative(struct tally *t)
{
    const char *protocol = t->k.rd_kafka_rebalance_protocol(t->consumer);
    return protocol && strcmp(protocol, "COOPERATIVE") == 0;
}

static void take_error(struct tally *t, rd_kafka_error_t *error)
{
    if (!error)
        return;
    consumer_event(t, TALLY_EVENT_NOTE, NULL, "assignment: %s", t->k.rd_kafka_error_string(error));
    t->k.rd_kafka_error_destroy(error);
}

// Has librdkafka fetch what is owned, each partition from an explicit offset. It never asks the
// broker for a committed one then: a late answer to that could move the position later
// (librdkafka issue 5345). Assigning anew also makes it drop what it fetched for older positions.
static void assign_owned(struct tally *t)
{
    bool is_incremental = is_cooperative(t);
    rd_kafka_topic_partition_list_t *list = new_list(t);
    for (size_t i = 0; i < t->n_partitions; i++) {
        struct partition *p = t->partitions[i];
        if (p->state != PARTITION_OWNED || (is_incremental && p->is_assigned))
            continue;
        list_add(t, list, p, p->end);
        p->is_assigned = true;
    }
    if (is_incremental)
        take_error(t, t->k.rd_kafka_incremental_assign(t->consumer, list));
    else
        t->k.rd_kafka_assign(t->consumer, list);
    t->k.rd_kafka_topic_partition_list_destroy(list);
}

rd_kafka_topic_partition_list_t *partition_list_owned(struct tally *t)
{
    rd_kafka_topic_partition_list_t *list = new_list(t);
    for (size_t i = 0; i < t->n_partitions; i++)
        if (t->partitions[i]->state == PARTITION_OWNED)
            list_add(t, list, t->partitions[i], RD_KAFKA_OFFSET_END);
    return list;
}

void partition_lose(struct tally *t, struct partition *p)
{
    store_drop(t, p);
    p->state = PARTITION_PENDING;
    p->retry_at_ms = 0;
    p->eof = -1;
    if (p->is_assigned && is_cooperative(t)) {
        rd_kafka_topic_partition_list_t *list = new_list(t);
        list_add(t, list, p, 0);
        take_error(t, t->k.rd_kafka_incremental_unassign(t->consumer, list));
        t->k.rd_kafka_topic_partition_list_destroy(list);
    }
    p->is_assigned = false;
}

// --- The claim.

static bool is_due(const struct partition *p, int64_t now)
{
    return p->state == PARTITION_PENDING && p->retry_at_ms <= now;
}

static void postpone(struct tally *t, int64_t now, int pause_ms)
{
    for (size_t i = 0; i < t->n_partitions; i++) {
        if (is_due(t->partitions[i], now))
            t->partitions[i]->retry_at_ms = now + pause_ms;
    }
}

// What a broker answered. TALLY_OFFSET: it is another topic.
static int note_id(struct topic *topic, const char id[CLAIM_TOPIC_ID], struct tally_error *error)
{
    // No id while there was one: another broker, of an older version.
    if (topic->asked_at_ms && strcmp(id, CLAIM_NO_ID) != 0 && strcmp(topic->id, CLAIM_NO_ID) != 0 &&
        strcmp(topic->id, id) != 0)
        return tally_error_set(error, TALLY_OFFSET,
                               "topic %s had id %s and now has id %s: it was deleted and made "
                               "again, and the stored offsets are of the old one; to begin anew, "
                               "delete the group's rows of the old id from tally_offset",
                               topic->name, topic->id, id);
    if (!topic->asked_at_ms || strcmp(id, CLAIM_NO_ID) != 0)
        memcpy(topic->id, id, CLAIM_TOPIC_ID);
    return 0;
}

int partition_check_topic(struct tally *t, struct topic *topic, int timeout_ms,
                          struct tally_error *error)
{
    int64_t now = consumer_now_ms();
    if (topic->asked_at_ms && now - topic->asked_at_ms < CONSUMER_ID_CHECK_MS)
        return 0;
    char id[CLAIM_TOPIC_ID] = CLAIM_NO_ID;
    int result = t->asks_ids ? topic_id_ask(t->brokers, topic->name, timeout_ms, id, error) : 0;
    if (result == 0)
        result = note_id(topic, id, error);
    if (result == 0)
        topic->asked_at_ms = now;
    return result;
}

// The next topic of which something is to be stored, from partitions[*at] on; NULL: none. They are
// sorted, so that those of a topic stand together.
static struct topic *next_topic(const struct tally *t, size_t *at)
{
    const struct topic *before = *at > 0 ? t->partitions[*at - 1]->of : NULL;
    while (t->asks_ids && *at < t->n_partitions) {
        const struct partition *p = t->partitions[(*at)++];
        bool is_stored =
            p->state == PARTITION_OWNED && (p->end > p->claim.next || p->eof > p->claim.next);
        if (is_stored && p->of && p->of != before)
            return p->of;
    }
    return NULL;
}

static int ask_next(struct tally *t, struct tally_error *error)
{
    const struct topic *topic = next_topic(t, &t->asked_to);
    if (!topic)
        return 0;
    return topic_id_send(&t->ids, t->brokers, topic->name, consumer_call_ms(t), error);
}

int partition_ask_ids(struct tally *t, struct tally_error *error)
{
    if (t->ids.n_waiting > 0) // of a transaction that failed before it read them
        topic_id_close(&t->ids);
    t->asked_to = 0;
    int result = 0;
    for (int i = 0; result == 0 && i < CONSUMER_IDS_AHEAD; i++)
        result = ask_next(t, error);
    return result;
}

int partition_confirm_ids(struct tally *t, struct tally_error *error)
{
    struct topic *topic;
    size_t at = 0;
    int result = 0;
    while (result == 0 && (topic = next_topic(t, &at))) {
        char id[CLAIM_TOPIC_ID];
        result = topic_id_receive(&t->ids, topic->name, consumer_call_ms(t), id, error);
        if (result == 0)
            result = note_id(topic, id, error);
        if (result == 0)
            result = ask_next(t, error);
        if (result == 0)
            topic->asked_at_ms = consumer_now_ms();
    }
    return result;
}

static int check_topics(struct tally *t, struct tally_error *error)
{
    for (size_t i = 0; i < t->o.n_topics; i++) {
        int result = partition_check_topic(t, &t->topics[i], consumer_call_ms(t), error);
        if (result < 0)
            return result;
    }
    return 0;
}

// One transaction for all that are due.
static int take_claims(struct tally *t, int64_t now, struct tally_error *error)
{
    int result = sink_connect(t->sink, error);
    if (result == 0)
        result = sink_begin(t->sink, error);
    for (size_t i = 0; result == 0 && i < t->n_partitions; i++) {
        struct partition *p = t->partitions[i];
        if (!is_due(p, now))
            continue;
        snprintf(p->claim.topic_id, CLAIM_TOPIC_ID, "%s", p->of ? p->of->id : CLAIM_NO_ID);
        result = claim_take(&t->group, &p->claim, error);
    }
    if (result == 0)
        return sink_commit(t->sink, error);
    sink_rollback(t->sink);
    return result;
}

// Moves the stored offset without a record: a beginning, or a gap that the user accepts.
static int move(struct tally *t, struct partition *p, int64_t to, struct tally_error *error)
{
    bool is_ours = false;
    int result = sink_begin(t->sink, error);
    if (result == 0)
        result = claim_advance(&t->group, &p->claim, to, &is_ours, error);
    if (result == 0 && is_ours)
        result = sink_commit(t->sink, error);
    if (result < 0 || !is_ours)
        sink_rollback(t->sink);
    if (result == 0 && !is_ours)
        result = tally_error_set(error, TALLY_AGAIN, "another copy has claimed %s/%d", p->topic,
                                 (int)p->claim.partition);
    if (result == 0)
        p->claim.next = to;
    return result;
}

static int outside(struct partition *p, int64_t low, int64_t high, struct tally_error *error)
{
    return tally_error_set(error, TALLY_OFFSET,
                           "%s/%d: stored offset %" PRId64 " is outside the log, which holds "
                           "%" PRId64 " to %" PRId64 "; %s",
                           p->topic, (int)p->claim.partition, p->claim.next, low, high,
                           p->claim.next < low
                               ? "the records between have expired: --if-expired continue accepts "
                                 "that, or put a real offset into tally_offset"
                               : "was the topic cut or made again? Put a real offset into "
                                 "tally_offset, or delete the row to begin anew");
}

static int expired(struct tally *t, struct partition *p, int64_t low, int64_t high,
                   struct tally_error *error)
{
    if (t->o.if_expired == TALLY_EXPIRED_STOP)
        return outside(p, low, high, error);
    int64_t from = p->claim.next;
    int result = move(t, p, low, error);
    if (result < 0)
        return result;
    t->stats.expired += (uint64_t)(low - from);
    consumer_event(t, TALLY_EVENT_EXPIRED, p,
                   "%s/%d: %" PRId64 " records from %" PRId64 " on left the log before they were "
                   "read",
                   p->topic, (int)p->claim.partition, low - from, from);
    return 0;
}

static int64_t committed_in_kafka(struct tally *t, const struct partition *p)
{
    rd_kafka_topic_partition_list_t *list = new_list(t);
    list_add(t, list, p, RD_KAFKA_OFFSET_INVALID);
    (void)t->k.rd_kafka_committed(t->consumer, list, consumer_call_ms(t));
    int64_t offset = list->elems[0].offset;
    t->k.rd_kafka_topic_partition_list_destroy(list);
    return offset;
}

// A partition that was never read, as far as this database knows. A slip in its name would look
// just so, and store every record once more.
static int first_start(struct tally *t, struct partition *p, int64_t from,
                       struct tally_error *error)
{
    int64_t committed = committed_in_kafka(t, p);
    int result = move(t, p, from, error);
    if (result == 0 && committed > from)
        consumer_event(t, TALLY_EVENT_NOTE, p,
                       "%s/%d: group %s has committed offset %" PRId64 " in Kafka, but nothing is "
                       "stored in this database, which alone counts: it begins at %" PRId64
                       "; is it the right database?",
                       p->topic, (int)p->claim.partition, t->o.group, committed, from);
    return result;
}

// The claim's offset against the log. TALLY_AGAIN: later.
static int find_start(struct tally *t, struct partition *p, struct tally_error *error)
{
    int64_t low, high;
    rd_kafka_resp_err_t rc = t->k.rd_kafka_query_watermark_offsets(
        t->consumer, p->topic, p->claim.partition, &low, &high, consumer_call_ms(t));
    if (rc)
        return tally_error_set(error, TALLY_KAFKA, "%s/%d: cannot ask for the log's range: %s",
                               p->topic, (int)p->claim.partition, t->k.rd_kafka_err2str(rc));
#ifdef TALLY_BUG_KAFKA_OFFSETS
    int64_t committed = committed_in_kafka(t, p);
    p->claim.next = committed < 0 ? low : committed;
#endif
    if (p->claim.next == CLAIM_UNSTARTED)
        return first_start(t, p, t->o.from == TALLY_LATEST ? high : low, error);
    if (p->claim.next < low)
        return expired(t, p, low, high, error);
    if (p->claim.next <= high) {
        p->behind_since = 0;
        return 0;
    }
    int64_t now = consumer_now_ms();
    if (!p->behind_since)
        p->behind_since = now;
    outside(p, low, high, error);
    int64_t patience_ms = t->o.timeout_ms >= 0 && t->o.timeout_ms < CONSUMER_BEHIND_MS
                              ? t->o.timeout_ms
                              : CONSUMER_BEHIND_MS;
    return now - p->behind_since < patience_ms ? TALLY_AGAIN : TALLY_OFFSET;
}

static bool is_refusal(rd_kafka_resp_err_t rc)
{
    enum { FENCED_MEMBER_EPOCH = 110, STALE_MEMBER_EPOCH = 113 }; // librdkafka 2.0 lacks the names
    return rc == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION ||
           rc == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID ||
           rc == RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS ||
           rc == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID || (int)rc == FENCED_MEMBER_EPOCH ||
           (int)rc == STALE_MEMBER_EPOCH;
}

static bool is_denied(rd_kafka_resp_err_t rc)
{
    return rc == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ||
           rc == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
           rc == RD_KAFKA_RESP_ERR_INVALID_GROUP_ID;
}

// The proof of membership: see tally.h.
static int prove(struct tally *t, struct partition *p, struct tally_error *error)
{
    rd_kafka_topic_partition_list_t *list = new_list(t);
    list_add(t, list, p, p->claim.next);
    rd_kafka_resp_err_t rc = t->k.rd_kafka_commit(t->consumer, list, 0);
    if (!rc)
        rc = list->elems[0].err;
    t->k.rd_kafka_topic_partition_list_destroy(list);
    if (!rc) {
        p->committed = p->claim.next;
        return 0;
    }
    tally_error_set(error, TALLY_KAFKA, "group %s, %s/%d: %s", t->o.group, p->topic,
                    (int)p->claim.partition, t->k.rd_kafka_err2str(rc));
    if (is_refusal(rc)) {
        t->stats.refused++;
        consumer_event(t, TALLY_EVENT_REFUSED, p, "%s/%d: the group does not count us in: %s",
                       p->topic, (int)p->claim.partition, t->k.rd_kafka_err2name(rc));
        p->retry_at_ms = consumer_now_ms() + CONSUMER_REFUSED_MS;
        return 1;
    }
    return is_denied(rc) ? TALLY_INVALID : TALLY_KAFKA;
}

static void begin(struct tally *t, struct partition *p)
{
    p->state = PARTITION_OWNED;
    p->is_assigned = false;
    p->end = p->claim.next;
    p->eof = -1;
    consumer_event(t, TALLY_EVENT_CLAIMED, p,
                   "%s/%d: claimed from offset %" PRId64 ", epoch %" PRId64, p->topic,
                   (int)p->claim.partition, p->claim.next, p->claim.epoch);
}

// What a failed step of a claim means. True: go on with the next partition.
static bool judge(struct tally *t, int result, struct partition *p, const struct tally_error *error)
{
    int64_t now = consumer_now_ms();
    struct outage *side = result == TALLY_KAFKA ? &t->kafka : &t->database;
    if (result == TALLY_KAFKA || result == TALLY_DATABASE || result == TALLY_AGAIN) {
        if (p)
            p->retry_at_ms = now + CONSUMER_RETRY_MS;
        else
            postpone(t, now, CONSUMER_RETRY_MS);
        return consumer_outage(t, side, error) == 0;
    }
    consumer_fail(t, error);
    return false;
}

// True when some partition became ours.
static bool claim_due(struct tally *t)
{
    int64_t now = consumer_now_ms();
    bool is_any = false, is_new = false;
    for (size_t i = 0; i < t->n_partitions; i++)
        is_any = is_any || is_due(t->partitions[i], now);
    if (!is_any || t->failure.code)
        return false;
    struct tally_error error;
    int result = check_topics(t, &error);
    if (result == 0)
        result = take_claims(t, now, &error);
    if (result < 0) {
        (void)judge(t, result, NULL, &error);
        return false;
    }
    for (size_t i = 0; i < t->n_partitions; i++) {
        struct partition *p = t->partitions[i];
        if (!is_due(p, now))
            continue;
        result = find_start(t, p, &error);
        if (result == 0)
            result = prove(t, p, &error);
        if (result < 0 && !judge(t, result, p, &error))
            return is_new;
        if (result != 0)
            continue;
        consumer_restored(&t->kafka);
        consumer_restored(&t->database);
        begin(t, p);
        is_new = true;
    }
    return is_new;
}

void partition_claim_due(struct tally *t)
{
    if (claim_due(t))
        assign_owned(t);
}

// --- What the group tells.

static void given(struct tally *t, const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        if (add(t, list->elems[i].topic, list->elems[i].partition) < 0) {
            struct tally_error error;
            tally_error_set(&error, TALLY_NO_MEMORY, "out of memory for a partition");
            consumer_fail(t, &error);
        }
    }
    t->has_joined = true;
    (void)claim_due(t);
    assign_owned(t); // also with nothing: librdkafka waits for it
}

static void forget(struct tally *t, const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        struct partition *p = partition_find(t, list->elems[i].topic, list->elems[i].partition);
        if (!p)
            continue;
        store_drop(t, p);
        if (p->state == PARTITION_OWNED)
            consumer_event(t, TALLY_EVENT_RELEASED, p, "%s/%d: released at offset %" PRId64,
                           p->topic, (int)p->claim.partition, p->claim.next);
        size_t at = 0;
        while (t->partitions[at] != p)
            at++;
        t->n_partitions--;
        memmove(&t->partitions[at], &t->partitions[at + 1],
                (t->n_partitions - at) * sizeof t->partitions[0]);
        free_partition(p);
    }
}

static void taken(struct tally *t, const rd_kafka_topic_partition_list_t *list)
{
    bool is_incremental = is_cooperative(t);
    rd_kafka_topic_partition_list_t *fetched = new_list(t);
    // The transaction in hand is finished while the group still counts us in; what is held behind
    // it is dropped, and read again by who gets the partition. A lost assignment has owners
    // already, and our transaction would only find itself fenced.
    if (!t->k.rd_kafka_assignment_lost(t->consumer) && !t->failure.code && store_batch(t) == 0)
        store_commit_to_kafka(t, true);
    for (int i = 0; i < list->cnt; i++) {
        struct partition *p = partition_find(t, list->elems[i].topic, list->elems[i].partition);
        if (p && p->is_assigned)
            list_add(t, fetched, p, 0);
    }
    forget(t, list);
    if (is_incremental)
        take_error(t, t->k.rd_kafka_incremental_unassign(t->consumer, fetched));
    else
        t->k.rd_kafka_assign(t->consumer, NULL);
    t->k.rd_kafka_topic_partition_list_destroy(fetched);
}

void partition_on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t what,
                            rd_kafka_topic_partition_list_t *list, void *opaque)
{
    (void)rk;
    struct tally *t = opaque;
    if (what == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
        given(t, list);
    else
        taken(t, list);
}
