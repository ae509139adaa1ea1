// Produce: each batch is checked, appended, and answered when it is as durable as was asked.
// v10+ could tell another leader; there is none. v13 names topics by id.
#include <string.h>

#include "broker/api/api.h"
#include "broker/api/find.h"
#include "store/log.h"

#define TXN_ABORTABLE_SINCE                                                                        \
    11 // the version from which INVALID_TXN_STATE reads TRANSACTION_ABORTABLE

struct part {
    struct append append;
    struct partition *p; // valid while the append waits; only its log start is read
    struct produce *produce;
    struct produce_response_partition_response *out;
    bool log_append_time;
};

struct produce {
    struct request *r;
    struct produce_response *resp;
    struct part *parts;
    size_t n_parts;
    size_t n_waiting;
    size_t decompressed; // bytes, to look at its batches
    bool any_error;
    bool is_started; // all appends are handed in
};

static void answer(struct produce *pr)
{
    struct request *r = pr->r;
    const struct produce_request *req = r->body;
    if (req->acks != 0)
        request_reply_now(r, pr->resp);
    else if (pr->any_error)
        request_fail(r, "produce with acks=0 failed; closed, as nothing else can tell the client");
    else
        request_no_reply(r);
}

static void set_error(struct part *part, enum kerr error)
{
    part->out->error_code = (int16_t)error;
    part->produce->any_error = true;
}

static void refuse(struct part *part, const struct batch_refusal *why, struct arena *a)
{
    set_error(part, why->error);
    struct produce_response_partition_response *out = part->out;
    out->error_message = str_from(why->message);
    if (why->record < 0)
        return;
    out->record_errors = arena_array(a, 1, sizeof *out->record_errors);
    out->n_record_errors = 1;
    produce_response_record_error_init(&out->record_errors[0]);
    out->record_errors[0].batch_index = why->record;
    out->record_errors[0].batch_index_error_message = str_from(why->message);
}

static void append_done(struct append *a)
{
    struct part *part = a->ctx;
    struct produce *pr = part->produce;
    if (a->error != KERR_NONE) {
        set_error(part, a->error);
        if (a->error != KERR_UNKNOWN_TOPIC_OR_PARTITION)
            part->out->log_start_offset = partition_log_start(part->p);
    } else {
        part->out->base_offset = a->base_offset;
        part->out->log_append_time_ms = a->log_append_ms >= 0   ? a->log_append_ms
                                        : part->log_append_time ? a->batch.max_timestamp
                                                                : -1;
        part->out->log_start_offset = partition_log_start(part->p);
    }
    if (--pr->n_waiting == 0 && pr->is_started)
        answer(pr);
}

// Where the header says another time than the records do, or the broker's clock is to be in it, the
// batch is changed, on a copy: retention, rolls and searches by time go by the header.
static void set_times(struct batch *b, struct arena *a, bool log_append_time)
{
    if (batch_times_fit(b->all.ptr, log_append_time, b->max_timestamp))
        return;
    uint8_t *copy = arena_alloc(a, b->all.len);
    memcpy(copy, b->all.ptr, b->all.len);
    batch_set_max_timestamp(copy, b->all.len, log_append_time, b->max_timestamp);
    b->all.ptr = copy;
    b->attributes = (int16_t)((b->attributes & ~BATCH_LOG_APPEND_TIME) |
                              (log_append_time ? BATCH_LOG_APPEND_TIME : 0));
}

static enum kerr check_allowed(struct request *r, const struct partition *p, size_t bytes)
{
    if (partition_settings(p)->is_internal)
        return KERR_INVALID_TOPIC_EXCEPTION;
    if (!partitions_has_room(broker_partitions(r->broker), bytes))
        return KERR_KAFKA_STORAGE_ERROR;
    return KERR_NONE;
}

// One that fails counts as much as it may have come to before that.
static void count_decompressed(struct produce *pr, struct buf *scratch, bool has_failed)
{
    size_t bytes = has_failed ? scratch->cap : scratch->len;
    size_t left = DECOMPRESSED_MAX - pr->decompressed;
    pr->decompressed += bytes < left ? bytes : left;
    if (has_failed)
        buf_free(scratch);
    buf_clear(scratch);
}

static enum kerr check_batch(struct part *part, struct bytes records, struct buf *scratch)
{
    struct request *r = part->produce->r;
    struct batch_rules rules = partition_settings(part->p)->rules;
    rules.produce_version = r->version;
    rules.now_ms = r->asker.wall_ms;
    rules.decompressed_max = DECOMPRESSED_MAX - part->produce->decompressed;
    struct batch_refusal why = {.record = -1};
    enum kerr e = batch_check(records, &rules, scratch, &part->append.batch, &why);
    count_decompressed(part->produce, scratch, e != KERR_NONE);
    if (e != KERR_NONE) {
        refuse(part, &why, r->arena);
        return e;
    }
    // Transactions are not built: no producer id can have one open.
    if (batch_is_transactional(&part->append.batch)) {
        const struct produce_request *req = r->body;
        e = str_is_null(req->transactional_id)  ? KERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            : r->version >= TXN_ABORTABLE_SINCE ? KERR_TRANSACTION_ABORTABLE
                                                : KERR_INVALID_TXN_STATE;
        set_error(part, e);
    }
    return e;
}

static void start_part(struct part *part, const struct produce_request_topic_data *topic,
                       const struct produce_request_partition_data *in, struct buf *scratch)
{
    struct request *r = part->produce->r;
    const struct produce_request *req = r->body;
    produce_response_partition_response_init(part->out);
    part->out->index = in->index;
    part->out->base_offset = -1;
    struct bytes records = {in->records.ptr, in->records.len > 0 ? (size_t)in->records.len : 0};
    struct partition *p = NULL;
    enum kerr e =
        find_partition(r->broker, topic->name, topic->topic_id, r->version >= 13, in->index, &p);
    if (e == KERR_NONE)
        e = check_allowed(r, p, records.len);
    if (e == KERR_KAFKA_STORAGE_ERROR && batch_read(records, &part->append.batch) == 0)
        partition_refused(p, &part->append.batch);
    if (e != KERR_NONE) {
        set_error(part, e);
        return;
    }
    part->p = p;
    if (check_batch(part, records, scratch) != KERR_NONE)
        return;
    part->log_append_time = partition_settings(p)->log_append_time;
    if (part->log_append_time)
        part->append.batch.max_timestamp = r->asker.wall_ms;
    set_times(&part->append.batch, r->arena, part->log_append_time);
    part->append.is_all = req->acks == -1;
    part->append.done = append_done;
    part->append.ctx = part;
    part->produce->n_waiting++;
    partition_append(p, &part->append);
}

static void start_all(struct produce *pr, struct arena *a)
{
    const struct produce_request *req = pr->r->body;
    struct produce_response *resp = pr->resp;
    size_t n = 0;
    for (int32_t i = 0; i < req->n_topic_data; i++)
        n += req->topic_data[i].n_partition_data > 0 ? (size_t)req->topic_data[i].n_partition_data
                                                     : 0;
    pr->parts = arena_array(a, n, sizeof *pr->parts);
    int32_t n_topics = req->n_topic_data > 0 ? req->n_topic_data : 0;
    resp->responses = arena_array(a, (size_t)n_topics, sizeof *resp->responses);
    resp->n_responses = n_topics;
    struct buf scratch = {0};
    for (int32_t i = 0; i < n_topics; i++) {
        const struct produce_request_topic_data *topic = &req->topic_data[i];
        struct produce_response_response *out = &resp->responses[i];
        int32_t n_here = topic->n_partition_data > 0 ? topic->n_partition_data : 0;
        out->name = topic->name;
        out->topic_id = topic->topic_id;
        out->partition_responses = arena_array(a, (size_t)n_here, sizeof *out->partition_responses);
        out->n_partition_responses = n_here;
        for (int32_t k = 0; k < n_here; k++) {
            struct part *part = &pr->parts[pr->n_parts++];
            part->produce = pr;
            part->out = &out->partition_responses[k];
            start_part(part, topic, &topic->partition_data[k], &scratch);
        }
    }
    buf_free(&scratch);
}

static void cancel(struct request *r)
{
    struct produce *pr = r->state;
    for (size_t i = 0; i < pr->n_parts; i++)
        if (pr->parts[i].append.done)
            partition_cancel(&pr->parts[i].append);
}

// acks=all was not reached in time. The records stay: the client may find them there.
static void time_out(struct request *r)
{
    struct produce *pr = r->state;
    for (size_t i = 0; i < pr->n_parts; i++) {
        struct part *part = &pr->parts[i];
        if (!part->append.done || part->append.state == APPEND_DONE)
            continue;
        partition_cancel(&part->append);
        set_error(part, KERR_REQUEST_TIMED_OUT);
    }
    answer(pr);
}

void api_produce(struct request *r)
{
    const struct produce_request *req = r->body;
    struct produce *pr = arena_alloc(r->arena, sizeof *pr);
    pr->r = r;
    pr->resp = request_response(r);
    if (req->acks < -1 || req->acks > 1) {
        request_reply_now(r, request_error_response(r, KERR_INVALID_REQUIRED_ACKS));
        return;
    }
    r->state = pr;
    start_all(pr, r->arena);
    pr->is_started = true;
    if (pr->n_waiting == 0) {
        answer(pr);
        return;
    }
    r->on_cancel = cancel;
    r->on_due = time_out;
    bool waits = req->acks == -1 && req->timeout_ms > 0;
    request_wait(r, waits ? broker_now_ms(r->broker) + (uint64_t)req->timeout_ms : 0);
}
