// Fetch: whole batches as slices of the log files, cut at a batch end so that what was sent is
// known without parsing. Sessions: the id answered is always 0, which every client takes as "no
// session". A fetch that finds too little is parked on its partitions and tried again when one of
// them moves.
#include <errno.h>
#include <inttypes.h>

#include "base/bug.h"
#include "broker/api/api.h"
#include "broker/api/find.h"
#include "broker/cold_read.h"
#include "core/ledger/ledger.h"
#include "core/topics.h"
#include "os/disk.h"
#include "store/log.h"

#define SESSION_EPOCH_FULL 0     // a full fetch that would open a session
#define SESSION_EPOCH_FINAL (-1) // a full fetch without one
#define READ_COMMITTED 1
// Partitions that a client may still ask for when their topics were deleted. A Fetch of more than
// these and all that exist names some many times: it would only keep memory and time.
#define GONE_PARTITIONS_MAX 10000

struct part {
    const struct fetch_request_topic *topic;
    const struct fetch_request_partition *in;
    struct partition_watch watch; // watch.p is the partition while it is parked
    struct uuid topic_id;
    enum kerr error;
    struct log_slice slice;
    int64_t high_watermark;
    int64_t log_start;
    int32_t diverging_epoch; // -1: none
    int64_t diverging_end;
};

struct fetch {
    struct request *r;
    struct part *parts;
    size_t n_parts;
    uint64_t deadline_ms;
    int64_t max_bytes;
    bool was_cold; // and was read since
};

static struct ledger_time now_of(struct broker *b)
{
    return (struct ledger_time){broker_now_ms(b), broker_wall_ms(b)};
}

static void drop_slices(struct fetch *f)
{
    for (size_t i = 0; i < f->n_parts; i++) {
        if (f->parts[i].slice.len > 0)
            log_slice_release(&f->parts[i].slice);
        f->parts[i].slice = (struct log_slice){0};
    }
}

static void unwatch_all(struct fetch *f)
{
    for (size_t i = 0; i < f->n_parts; i++)
        partition_unwatch(&f->parts[i].watch);
}

// KIP-320: the client's last records come from an epoch that ended before where it stands.
static bool is_diverging(struct part *part, struct partition *p, enum kerr *ret_error)
{
    if (part->in->last_fetched_epoch < 0)
        return false;
    int32_t epoch = -1;
    int64_t end = -1;
    log_epoch_end(partition_log(p), part->in->last_fetched_epoch, &epoch, &end);
    if (end < 0) {
        *ret_error = KERR_OFFSET_OUT_OF_RANGE;
        return false;
    }
    if (epoch >= part->in->last_fetched_epoch && end >= part->in->fetch_offset)
        return false;
    part->diverging_epoch = epoch;
    part->diverging_end = end;
    return true;
}

static enum kerr read_slice(struct part *part, struct partition *p, int64_t room, bool min_one)
{
    int64_t limit = part->in->partition_max_bytes < room ? part->in->partition_max_bytes : room;
    if (limit <= 0 && !min_one)
        return KERR_NONE;
    int r = log_read(partition_log(p), part->in->fetch_offset, limit > 0 ? (uint32_t)limit : 0,
                     part->high_watermark, min_one, &part->slice);
    if (r == -ERANGE)
        return KERR_OFFSET_OUT_OF_RANGE;
    partition_was_read(p, r);
    return r < 0 ? KERR_KAFKA_STORAGE_ERROR : KERR_NONE;
}

// Looks at one partition. True: there is an answer that cannot wait.
static bool try_part(struct fetch *f, struct part *part, int64_t room, bool min_one)
{
    struct request *r = f->r;
    struct partition *p = NULL;
    part->high_watermark = part->log_start = -1;
    part->diverging_epoch = -1;
    part->error = find_partition(r->broker, part->topic->topic, part->topic->topic_id,
                                 r->version >= 13, part->in->partition, &p);
    if (part->error == KERR_NONE)
        part->error = check_leader_epoch(p, part->in->current_leader_epoch);
    if (part->error != KERR_NONE)
        return true;
    part->topic_id = partition_topic_id(p);
    bool diverges = is_diverging(part, p, &part->error);
    if (part->error == KERR_NONE && (part->in->fetch_offset < partition_log_start(p) ||
                                     part->in->fetch_offset > partition_log_end(p)))
        part->error = KERR_OFFSET_OUT_OF_RANGE;
    part->high_watermark = partition_high_watermark(p);
    part->log_start = partition_log_start(p);
    if (part->error == KERR_NONE && !diverges && part->in->fetch_offset < part->high_watermark)
        part->error = read_slice(part, p, room, min_one);
    if (part->error != KERR_NONE)
        part->high_watermark = part->log_start = -1;
    return part->error != KERR_NONE || diverges;
}

// Looks at all. True: answer now.
static bool try_all(struct fetch *f)
{
    const struct fetch_request *req = f->r->body;
    int64_t total = 0;
    bool is_due = f->n_parts == 0;
    for (size_t i = 0; i < f->n_parts; i++) {
        struct part *part = &f->parts[i];
        is_due = try_part(f, part, f->max_bytes - total, total == 0) || is_due;
        total += part->slice.len;
    }
    return is_due || total >= req->min_bytes || broker_now_ms(f->r->broker) >= f->deadline_ms;
}

// The answer is about to be written: what it holds counts as sent from here on.
static void on_leave(struct request *r, void *response, uint64_t end_bytes)
{
    (void)response;
    struct fetch *f = r->state;
    for (size_t i = 0; i < f->n_parts; i++) {
        struct part *part = &f->parts[i];
        if (part->slice.len == 0)
            continue;
        int64_t from = part->in->fetch_offset;
        if (bug(BUG_COUNT_BELOW_POSITION))
            from = part->slice.first_offset;
        if (end_bytes > 0)
            request_sending(r, part->topic_id, part->in->partition,
                            (struct ledger_range){from, part->slice.end_offset}, end_bytes);
        partitions_release_later(broker_partitions(r->broker), &part->slice);
    }
}

static void fill_part(const struct fetch_request *req, const struct part *part,
                      struct fetch_response_partition *out)
{
    fetch_response_partition_init(out);
    out->partition_index = part->in->partition;
    out->error_code = (int16_t)part->error;
    out->high_watermark = part->high_watermark;
    out->last_stable_offset = part->high_watermark;
    out->log_start_offset = part->log_start;
    if (part->diverging_epoch >= 0) {
        out->diverging_epoch.epoch = part->diverging_epoch;
        out->diverging_epoch.end_offset = part->diverging_end;
    }
    // No transactions, so none aborted; uncommitted readers are told nothing about them.
    bool is_unknown =
        part->error == KERR_UNKNOWN_TOPIC_OR_PARTITION || part->error == KERR_UNKNOWN_TOPIC_ID;
    out->n_aborted_transactions = req->isolation_level == READ_COMMITTED || is_unknown ? 0 : -1;
    out->records = (struct kw_records){
        .len = (int32_t)part->slice.len, .file = part->slice.file, .file_pos = part->slice.pos};
    // An empty answer is a zero length, not a null: every client takes that.
    if (part->slice.len == 0)
        out->records.ptr = (const uint8_t *)"";
}

static void answer(struct fetch *f)
{
    struct request *r = f->r;
    const struct fetch_request *req = r->body;
    struct fetch_response *resp = request_response(r);
    unwatch_all(f);
    resp->responses = arena_array(r->arena, (size_t)(req->n_topics > 0 ? req->n_topics : 0),
                                  sizeof *resp->responses);
    resp->n_responses = req->n_topics > 0 ? req->n_topics : 0;
    const struct part *part = f->parts;
    for (int32_t i = 0; i < resp->n_responses; i++) {
        const struct fetch_request_topic *in = &req->topics[i];
        struct fetch_response_response *out = &resp->responses[i];
        int32_t n = in->n_partitions > 0 ? in->n_partitions : 0;
        out->topic = in->topic;
        out->topic_id = in->topic_id;
        out->partitions = arena_array(r->arena, (size_t)n, sizeof *out->partitions);
        out->n_partitions = n;
        for (int32_t k = 0; k < n; k++)
            fill_part(req, part++, &out->partitions[k]);
    }
    r->on_leave = on_leave;
    r->on_cancel = NULL;
    request_reply_now(r, resp);
}

// Parking.

static void wake(struct partition_watch *w)
{
    struct fetch *f = w->ctx;
    request_wait(f->r, broker_now_ms(f->r->broker)); // tried again in the next step
}

static void park(struct fetch *f)
{
    drop_slices(f);
    for (size_t i = 0; i < f->n_parts; i++) {
        struct part *part = &f->parts[i];
        struct partition *p =
            partitions_get(broker_partitions(f->r->broker), part->topic_id, part->in->partition);
        if (!p || part->watch.p)
            continue;
        part->watch.wake = wake;
        part->watch.ctx = f;
        partition_watch(p, &part->watch);
    }
    request_wait(f->r, f->deadline_ms);
}

// False: nothing of it has to be waited for.
static bool read_first(struct fetch *f)
{
    struct cold_read *c = NULL;
    bool may = !f->was_cold && cold_read_has_room(f->r->broker);
    for (size_t i = 0; may && i < f->n_parts; i++) {
        const struct log_slice *s = &f->parts[i].slice;
        if (s->len > 0 && !disk_is_cached(s->file, s->pos, s->len))
            c = cold_read_add(c, s);
    }
    if (!c)
        return false;
    f->was_cold = true;
    unwatch_all(f);
    drop_slices(f);
    cold_read_start(f->r->broker, c, f->r);
    return true;
}

static void try_again(struct request *r)
{
    struct fetch *f = r->state;
    drop_slices(f);
    if (!try_all(f))
        park(f);
    else if (!read_first(f))
        answer(f);
}

static void hurry(struct request *r)
{
    struct fetch *f = r->state;
    (void)try_all(f);
    answer(f);
}

static void cancel(struct request *r)
{
    struct fetch *f = r->state;
    unwatch_all(f);
    drop_slices(f);
}

// Tells the ledger what was asked for, before the answer is looked for.
static void tell_positions(struct fetch *f)
{
    struct broker *b = f->r->broker;
    struct ledger *l = broker_ledger(b);
    for (size_t i = 0; l && i < f->n_parts; i++) {
        struct part *part = &f->parts[i];
        struct partition *p = NULL;
        if (find_partition(b, part->topic->topic, part->topic->topic_id, f->r->version >= 13,
                           part->in->partition, &p) != KERR_NONE)
            continue;
        int64_t at = part->in->fetch_offset;
        struct uuid id = partition_topic_id(p);
        ledger_position(l, now_of(b), f->r->asker.conn, id, part->in->partition, at);
        if (at < partition_log_start(p) || at > partition_log_end(p))
            ledger_out_of_range(l, now_of(b), f->r->asker.conn, id, part->in->partition, at);
    }
}

static size_t count_parts(const struct fetch_request *req)
{
    size_t n = 0;
    for (int32_t i = 0; i < req->n_topics; i++)
        n += req->topics[i].n_partitions > 0 ? (size_t)req->topics[i].n_partitions : 0;
    return n;
}

static struct fetch *fetch_new(struct request *r, size_t n)
{
    const struct fetch_request *req = r->body;
    struct fetch *f = arena_alloc(r->arena, sizeof *f);
    f->r = r;
    struct config_view v = broker_view(r->broker);
    f->max_bytes = config_i64(&v, "fetch.max.bytes");
    if (req->max_bytes < f->max_bytes)
        f->max_bytes = req->max_bytes;
    f->deadline_ms =
        broker_now_ms(r->broker) + (req->max_wait_ms > 0 ? (uint64_t)req->max_wait_ms : 0);
    f->parts = arena_array(r->arena, n, sizeof *f->parts);
    for (int32_t i = 0; i < req->n_topics; i++)
        for (int32_t k = 0; k < req->topics[i].n_partitions; k++) {
            struct part *part = &f->parts[f->n_parts++];
            part->topic = &req->topics[i];
            part->in = &req->topics[i].partitions[k];
        }
    return f;
}

void api_fetch(struct request *r)
{
    const struct fetch_request *req = r->body;
    // A session that there is not: only a full fetch can begin anew.
    if (req->session_epoch != SESSION_EPOCH_FULL && req->session_epoch != SESSION_EPOCH_FINAL) {
        struct fetch_response *resp = request_response(r);
        resp->error_code = KERR_FETCH_SESSION_ID_NOT_FOUND;
        request_reply_now(r, resp);
        return;
    }
    size_t n = count_parts(req);
    uint64_t there = topics_partitions(broker_topics(r->broker));
    if (n > there + GONE_PARTITIONS_MAX) {
        request_fail(r, "%zu partitions where there are %" PRIu64, n, there);
        return;
    }
    struct fetch *f = fetch_new(r, n);
    r->state = f;
    r->on_due = try_again;
    r->on_hurry = hurry;
    r->on_cancel = cancel;
    tell_positions(f);
    try_again(r);
}
