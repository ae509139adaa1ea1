#include "client/libtally/consumer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NOBODY SIZE_MAX

static void release(struct tally *t, struct held *h)
{
    size_t bytes = h->message->len + h->message->key_len;
    t->held_bytes -= bytes < t->held_bytes ? bytes : t->held_bytes;
    discard_put(&t->discard, h->message);
}

void store_drop(struct tally *t, const struct partition *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < t->n_held; i++) {
        if (p && t->held[i].partition != p)
            t->held[kept++] = t->held[i];
        else
            release(t, &t->held[i]);
    }
    t->n_held = kept;
    t->n_confirmed = 0; // which those were is asked again
    for (size_t i = 0; i < t->n_partitions; i++) {
        if (!p || t->partitions[i] == p) {
            t->partitions[i]->end = t->partitions[i]->claim.next;
            t->partitions[i]->eof = -1; // it may lie behind what was dropped
        }
    }
}

// The first n are stored, or stand with the dead letters.
static void shift(struct tally *t, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct partition *p = t->held[i].partition;
        p->claim.next = t->held[i].message->offset + 1;
        release(t, &t->held[i]);
    }
    t->n_held -= n;
    t->n_confirmed -= n < t->n_confirmed ? n : t->n_confirmed;
    memmove(t->held, t->held + n, t->n_held * sizeof *t->held);
}

// Into t->headers, from index `first` on.
static int read_headers(struct tally *t, const rd_kafka_message_t *m, size_t first, size_t *ret_n,
                        struct tally_error *error)
{
    rd_kafka_headers_t *all;
    size_t n = 0;
    *ret_n = 0;
    // librdkafka makes a list for every record, also where there are none.
    if (t->o.no_headers || t->k.rd_kafka_message_headers(m, &all) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    size_t count = t->k.rd_kafka_header_cnt(all);
    if (first + count > t->cap_headers) {
        struct tally_header *more = realloc(t->headers, 2 * (first + count) * sizeof *more);
        if (!more)
            return tally_error_set(error, TALLY_NO_MEMORY, "out of memory for %zu headers", count);
        t->headers = more;
        t->cap_headers = 2 * (first + count);
    }
    struct tally_header *h = t->headers + first;
    while (n < count && t->k.rd_kafka_header_get_all(all, n, &h[n].name, &h[n].value, &h[n].len) ==
                            RD_KAFKA_RESP_ERR_NO_ERROR)
        n++;
    *ret_n = n;
    return 0;
}

static struct tally_record show(const struct tally *t, const struct held *h)
{
    const rd_kafka_message_t *m = h->message;
    return (struct tally_record){
        .topic = h->partition->topic,
        .partition = m->partition,
        .offset = m->offset,
        .time_ms = t->k.rd_kafka_message_timestamp(m, NULL),
        .key = m->key,
        .key_len = m->key_len,
        .value = m->payload,
        .value_len = m->len,
        .claim_epoch = h->partition->claim.epoch,
    };
}

// Into t->seen.
static int show_some(struct tally *t, const struct held *held, size_t n, struct tally_error *error)
{
    size_t n_headers = 0;
    for (size_t i = 0; i < n; i++) {
        t->seen[i] = show(t, &held[i]);
        int result = read_headers(t, held[i].message, n_headers, &t->seen[i].n_headers, error);
        if (result < 0)
            return result;
        n_headers += t->seen[i].n_headers;
    }
    // Now that they no longer move.
    size_t first = 0;
    for (size_t i = 0; i < n && n_headers > 0; first += t->seen[i++].n_headers)
        t->seen[i].headers = t->headers + first;
    return 0;
}

// *ret_bad: with TALLY_UNFIT, the index of a record before which all fit.
static int process(struct tally *t, size_t n, size_t *ret_bad, struct tally_error *error)
{
    struct tally_tx tx = {t};
    error->code = TALLY_FINE;
    if (t->o.process_some) {
        int result = t->o.process_some(t->o.user, t->seen, n, &tx, ret_bad, error);
        return consumer_called("process_some", result, error);
    }
    int result = 0;
    for (size_t i = 0; result == 0 && i < n; i++) {
        error->code = TALLY_FINE;
        *ret_bad = i;
        result = t->o.process(t->o.user, &t->seen[i], &tx, error);
        result = consumer_called("process", result, error);
    }
    return result;
}

// What the callback makes of the first n records held.
static int work(struct tally *t, size_t n, size_t *ret_bad, struct tally_error *error)
{
    int result = 0;
    for (size_t at = 0; result == 0 && at < n; at += CONSUMER_SOME) {
        size_t some = n - at < CONSUMER_SOME ? n - at : CONSUMER_SOME;
        size_t bad = NOBODY;
        result = show_some(t, &t->held[at], some, error);
        if (result == 0)
            result = process(t, some, &bad, error);
        if (result == TALLY_UNFIT)
            *ret_bad = bad < some ? at + bad : at ? at : NOBODY;
    }
    return result;
}

// Where the partitions are when the first n records held are stored.
static void find_ends(struct tally *t, size_t n)
{
    for (size_t i = 0; i < t->n_partitions; i++) {
        struct partition *p = t->partitions[i];
        bool is_at_eof = n == 0 && p->state == PARTITION_OWNED && p->eof > p->claim.next;
        p->batch_end = is_at_eof ? p->eof : -1;
    }
    for (size_t i = 0; i < n; i++)
        t->held[i].partition->batch_end = t->held[i].message->offset + 1;
}

// How an attempt to store ended, beside its code.
struct attempt {
    size_t bad;               // index of a record before which all fit; NOBODY
    struct partition *fenced; // NULL
    bool is_unknown;          // the COMMIT had no answer
    bool is_unconfirmed;      // no broker says that the topics are still the same
};

static int advance_all(struct tally *t, size_t n, struct attempt *a, struct tally_error *error)
{
    find_ends(t, n);
    for (size_t i = 0; i < t->n_partitions; i++) {
        struct partition *p = t->partitions[i];
        if (p->batch_end < 0)
            continue;
        bool is_ours = false;
        int result = claim_advance(&t->group, &p->claim, p->batch_end, &is_ours, error);
        if (result < 0)
            return result;
        if (!is_ours) {
            a->fenced = p;
            return tally_error_set(error, TALLY_AGAIN, "another copy has claimed %s/%d", p->topic,
                                   (int)p->claim.partition);
        }
    }
    return 0;
}

// Ids never come back: a question confirms all records that were polled before it, also those of
// later transactions.
static bool is_confirmed(const struct tally *t, size_t n)
{
    return n > 0 && n <= t->n_confirmed;
}

// The question went out before the work, so that its way there and back costs little. What the
// work made of a record counts only if that is of our topic: also that it does not fit.
static int confirm(struct tally *t, int worked, struct attempt *a, struct tally_error *error)
{
    if (worked < 0 && worked != TALLY_UNFIT)
        return worked;
    struct tally_error why;
    int result = partition_confirm_ids(t, &why);
    if (result == 0) {
        t->n_confirmed = t->n_held;
        return worked;
    }
    a->is_unconfirmed = result == TALLY_KAFKA;
    *error = why;
    return result;
}

// One transaction: the first n records held and their offsets. The records come last into the
// database and the offsets after them, so that its locks are held as shortly as can be.
static int attempt(struct tally *t, size_t n, bool skips, struct attempt *a,
                   struct tally_error *error)
{
    *a = (struct attempt){.bad = NOBODY};
    int result = sink_connect(t->sink, error);
    if (result < 0)
        return result;
    bool asks = !is_confirmed(t, n);
    result = asks ? partition_ask_ids(t, error) : 0;
    a->is_unconfirmed = result == TALLY_KAFKA;
    if (result < 0)
        return result;
    result = sink_begin(t->sink, error);
    if (result == 0 && !skips)
        result = work(t, n, &a->bad, error);
    if (asks)
        result = confirm(t, result, a, error);
    if (result == 0)
        result = advance_all(t, n, a, error);
    if (result == 0) {
        result = sink_commit(t->sink, error);
        a->is_unknown = result == TALLY_DATABASE;
    }
    if (result < 0)
        sink_rollback(t->sink);
    return result;
}

static int dead_letter(struct tally *t, const struct tally_error *why)
{
    struct held *h = &t->held[0];
    struct tally_error error;
    if (!t->o.dead_letter) {
        tally_error_set(&error, TALLY_UNFIT, "%s/%d/%" PRId64 ": %s", h->partition->topic,
                        (int)h->message->partition, h->message->offset, why->text);
        return consumer_fail(t, &error);
    }
    int result;
    while ((result = dead_write(t, h->message, why, &error)) == TALLY_KAFKA) {
        if (consumer_wait(t, &t->kafka, &error) < 0)
            return t->failure.code;
    }
    if (result < 0)
        return consumer_fail(t, &error);
    consumer_restored(&t->kafka);
    return 0;
}

// After a COMMIT without an answer nothing is done before it is known what the database holds.
// The read does not wait for a transaction that is still on its way there: should that arrive
// later, the compare-and-set of the next one fails and we read again.
static int look_up(struct tally *t, size_t n, bool *ret_is_stored, struct tally_error *error)
{
    int result = sink_connect(t->sink, error);
    if (result < 0)
        return result;
    find_ends(t, n);
    for (size_t i = 0; i < t->n_partitions; i++) {
        struct partition *p = t->partitions[i];
        int64_t next, epoch;
        if (p->batch_end < 0)
            continue;
        result = claim_read(&t->group, &p->claim, &next, &epoch, error);
        if (result < 0)
            return result;
        t->stats.recovered++;
        // Under another claim the offset says nothing about ours: the next attempt finds that out.
        *ret_is_stored = next >= p->batch_end && epoch == p->claim.epoch;
        consumer_event(
            t, TALLY_EVENT_RECOVERED, p,
            "%s/%d: a COMMIT had no answer; the database holds offset %" PRId64 ": it was %s",
            p->topic, (int)p->claim.partition, next, *ret_is_stored ? "done" : "not done");
        return 0; // the others were in the same transaction
    }
    return 0;
}

static void lose(struct tally *t, struct partition *p)
{
    t->stats.fenced++;
    consumer_event(t, TALLY_EVENT_FENCED, p,
                   "%s/%d: another copy has claimed it or moved its offset; rolled back", p->topic,
                   (int)p->claim.partition);
    partition_lose(t, p);
}

static void stored(struct tally *t, size_t n, bool skips)
{
    consumer_restored(&t->database);
    consumer_restored(&t->unconfirmed);
    t->stats.transactions++;
    if (skips)
        t->stats.dead_letters += n;
    else
        t->stats.records += n;
    if (n == 0) {
        for (size_t i = 0; i < t->n_partitions; i++) {
            struct partition *p = t->partitions[i];
            if (p->state == PARTITION_OWNED && p->eof > p->claim.next)
                p->claim.next = p->end = p->eof;
        }
    }
    shift(t, n);
}

// Waits until the unanswered COMMIT is known. 1: it was done.
static int settle(struct tally *t, size_t n, struct tally_error *error)
{
    bool is_stored = false;
    int result;
    while ((result = look_up(t, n, &is_stored, error)) < 0) {
        if (result != TALLY_DATABASE && result != TALLY_AGAIN)
            return consumer_fail(t, error);
        if (consumer_wait(t, &t->database, error) < 0)
            return t->failure.code;
        if (atomic_load(&t->stop))
            return 0;
    }
    return is_stored ? 1 : 0;
}

// Stores the first n. 0: something was stored, or dropped, and the caller goes on with what is
// left. Otherwise the error is kept.
static int store_some(struct tally *t, size_t n, bool skips)
{
    struct attempt a;
    struct tally_error error;
    int result = attempt(t, n, skips, &a, &error);
    if (result == 0) {
        stored(t, n, skips);
        return 0;
    }
    if (a.fenced) {
        lose(t, a.fenced);
        return 0;
    }
    if (a.is_unconfirmed)
        return consumer_wait(t, &t->unconfirmed, &error);
    if (a.is_unknown && n > 0) {
        int known = settle(t, n, &error);
        if (known == 1)
            stored(t, n, skips);
        return known < 0 ? known : 0;
    }
    if (result == TALLY_UNFIT) {
        // What came before it first, alone; or, when nobody knows which it was, a half.
        if (n > 1)
            return store_some(t, a.bad == NOBODY ? n / 2 : a.bad ? a.bad : 1, false);
        result = n == 1 ? dead_letter(t, &error) : consumer_fail(t, &error);
        return result < 0 ? result : store_some(t, 1, true);
    }
    if (result == TALLY_DATABASE || result == TALLY_AGAIN)
        return consumer_wait(t, &t->database, &error);
    return consumer_fail(t, &error);
}

// Told to stop while the database or the brokers are away: nothing more is stored, and that is
// fine.
static bool gives_up(struct tally *t)
{
    return (t->database.since_ms || t->unconfirmed.since_ms) && atomic_load(&t->stop);
}

// Records of the next transaction.
static size_t next_batch(const struct tally *t)
{
    size_t n = 0, bytes = 0;
    while (n < t->n_held && n < (size_t)t->o.batch_records && bytes < t->o.batch_bytes) {
        const rd_kafka_message_t *m = t->held[n++].message;
        bytes += m->len + m->key_len;
    }
    return n;
}

static int store_held(struct tally *t, size_t n)
{
    int result = 0;
    size_t rest = t->n_held - n; // of a claim that is lost these are dropped too
    while (result == 0 && t->n_held > rest) {
        if (gives_up(t)) {
            store_drop(t, NULL);
            t->gave_up = true;
            return 0;
        }
        result = store_some(t, n < t->n_held - rest ? n : t->n_held - rest, false);
    }
    return result;
}

int store_batch(struct tally *t)
{
    int result = store_held(t, next_batch(t));
    // One attempt: the caller comes back, and has other things to do while the database is away.
    for (size_t i = 0; result == 0 && t->n_held == 0 && i < t->n_partitions; i++) {
        const struct partition *p = t->partitions[i];
        if (p->state == PARTITION_OWNED && p->eof > p->claim.next && !gives_up(t))
            return store_some(t, 0, false);
    }
    return result;
}

int store_flush(struct tally *t)
{
    int result = 0;
    while (result == 0 && t->n_held > 0)
        result = store_batch(t);
    return result;
}

void store_commit_to_kafka(struct tally *t, bool is_last)
{
    int64_t now = consumer_now_ms();
    if (!is_last && now - t->committed_at_ms < CONSUMER_COMMIT_MS)
        return;
    t->committed_at_ms = now;
    rd_kafka_topic_partition_list_t *list =
        t->k.rd_kafka_topic_partition_list_new((int)t->n_partitions + 1);
    for (size_t i = 0; i < t->n_partitions; i++) {
        struct partition *p = t->partitions[i];
        if (p->state != PARTITION_OWNED || p->committed == p->claim.next)
            continue;
        t->k.rd_kafka_topic_partition_list_add(list, p->topic, p->claim.partition)->offset =
            p->claim.next;
        p->committed = p->claim.next;
    }
    if (list->cnt > 0)
        t->k.rd_kafka_commit(t->consumer, list, is_last ? 0 : 1);
    t->k.rd_kafka_topic_partition_list_destroy(list);
}
