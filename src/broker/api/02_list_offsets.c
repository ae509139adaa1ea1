// ListOffsets: an offset by time. Negative times are names: -1 latest, -2 earliest, -3 greatest
// timestamp (v7), -4 earliest local (v8), -5 latest tiered (v9), -6 earliest pending upload (v11).
#include "base/map.h"
#include "broker/api/api.h"
#include "broker/api/find.h"
#include "core/ledger/ledger.h"
#include "store/log.h"

enum {
    TIME_LATEST = -1,
    TIME_EARLIEST = -2,
    TIME_GREATEST = -3,
    TIME_EARLIEST_LOCAL = -4,
    TIME_LATEST_TIERED = -5,
    TIME_PENDING_UPLOAD = -6,
};

static bool is_known(int64_t timestamp, int version)
{
    return timestamp >= TIME_EARLIEST || (timestamp == TIME_GREATEST && version >= 7) ||
           (timestamp == TIME_EARLIEST_LOCAL && version >= 8) ||
           (timestamp == TIME_LATEST_TIERED && version >= 9) ||
           (timestamp == TIME_PENDING_UPLOAD && version >= 11);
}

// -1 and -1 stay where nothing is found.
static enum kerr find_by_time(struct partition *p, int64_t timestamp,
                              struct list_offsets_response_partition *out)
{
    int64_t hw = partition_high_watermark(p), offset = -1, time_ms = -1;
    int r = timestamp == TIME_GREATEST
                ? log_find_max_time(partition_log(p), &offset, &time_ms)
                : log_find_time(partition_log(p), timestamp, hw, &offset, &time_ms);
    partition_was_read(p, r);
    if (r < 0)
        return KERR_KAFKA_STORAGE_ERROR;
    if (offset < 0 || offset >= hw)
        return KERR_NONE;
    out->offset = offset;
    out->timestamp = time_ms;
    out->leader_epoch = epoch_of_offset(p, offset);
    return KERR_NONE;
}

static enum kerr find_offset(struct request *r, struct partition *p,
                             const struct list_offsets_request_partition *in,
                             struct list_offsets_response_partition *out)
{
    enum kerr e = check_leader_epoch(p, in->current_leader_epoch);
    if (e != KERR_NONE)
        return e;
    if (!is_known(in->timestamp, r->version))
        return KERR_UNSUPPORTED_VERSION;
    switch (in->timestamp) {
    case TIME_LATEST:
        out->offset = partition_high_watermark(p); // nothing is transactional: LSO is the same
        out->leader_epoch = partition_epoch(p);
        return KERR_NONE;
    case TIME_EARLIEST:
    case TIME_EARLIEST_LOCAL:
        out->offset = partition_log_start(p);
        out->leader_epoch = epoch_of_offset(p, out->offset);
        return KERR_NONE;
    case TIME_LATEST_TIERED:
    case TIME_PENDING_UPLOAD:
        return KERR_NONE;
    default:
        return find_by_time(p, in->timestamp, out);
    }
}

static void answer_one(struct request *r, struct str topic, struct map *seen,
                       const struct list_offsets_request_partition *in,
                       struct list_offsets_response_partition *out)
{
    list_offsets_response_partition_init(out);
    out->partition_index = in->partition_index;
    struct partition *p = NULL;
    enum kerr e =
        find_partition(r->broker, topic, (struct uuid){{0}}, false, in->partition_index, &p);
    if (e == KERR_NONE) {
        uint64_t key = (uint64_t)(uintptr_t)p;
        e = map_put(seen, key_u64(&key), p) ? KERR_INVALID_REQUEST : find_offset(r, p, in, out);
    }
    out->error_code = (int16_t)e;
    struct ledger *l = broker_ledger(r->broker);
    if (e == KERR_NONE && l)
        ledger_list_offsets(
            l, (struct ledger_time){broker_now_ms(r->broker), broker_wall_ms(r->broker)},
            r->asker.conn, partition_topic_id(p), in->partition_index, in->timestamp, out->offset);
}

void api_list_offsets(struct request *r)
{
    const struct list_offsets_request *req = r->body;
    struct list_offsets_response *resp = request_response(r);
    int32_t n = req->n_topics > 0 ? req->n_topics : 0;
    resp->topics = arena_array(r->arena, (size_t)n, sizeof *resp->topics);
    resp->n_topics = n;
    struct map *seen = map_new(); // a partition may stand in a request once
    for (int32_t i = 0; i < n; i++) {
        struct list_offsets_response_topic *out = &resp->topics[i];
        int32_t n_here = req->topics[i].n_partitions > 0 ? req->topics[i].n_partitions : 0;
        out->name = req->topics[i].name;
        out->partitions = arena_array(r->arena, (size_t)n_here, sizeof *out->partitions);
        out->n_partitions = n_here;
        for (int32_t k = 0; k < n_here; k++)
            answer_one(r, out->name, seen, &req->topics[i].partitions[k], &out->partitions[k]);
    }
    map_free(seen);
    request_reply(r, resp);
}
