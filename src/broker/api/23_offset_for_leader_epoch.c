// OffsetForLeaderEpoch: where an epoch ended, so that a client can see that it was cut off.
#include "broker/api/api.h"
#include "broker/api/find.h"
#include "store/log.h"

static void answer_one(struct request *r, struct str topic,
                       const struct offset_for_leader_epoch_request_partition *in,
                       struct offset_for_leader_epoch_response_partition *out)
{
    offset_for_leader_epoch_response_partition_init(out);
    out->partition = in->partition;
    struct partition *p = NULL;
    enum kerr e = find_partition(r->broker, topic, (struct uuid){{0}}, false, in->partition, &p);
    if (e == KERR_NONE)
        e = check_leader_epoch(p, in->current_leader_epoch);
    out->error_code = (int16_t)e;
    if (e == KERR_NONE)
        log_epoch_end(partition_log(p), in->leader_epoch, &out->leader_epoch, &out->end_offset);
}

void api_offset_for_leader_epoch(struct request *r)
{
    const struct offset_for_leader_epoch_request *req = r->body;
    struct offset_for_leader_epoch_response *resp = request_response(r);
    int32_t n = req->n_topics > 0 ? req->n_topics : 0;
    resp->topics = arena_array(r->arena, (size_t)n, sizeof *resp->topics);
    resp->n_topics = n;
    for (int32_t i = 0; i < n; i++) {
        struct offset_for_leader_epoch_response_topic *out = &resp->topics[i];
        int32_t n_here = req->topics[i].n_partitions > 0 ? req->topics[i].n_partitions : 0;
        out->topic = req->topics[i].topic;
        out->partitions = arena_array(r->arena, (size_t)n_here, sizeof *out->partitions);
        out->n_partitions = n_here;
        for (int32_t k = 0; k < n_here; k++)
            answer_one(r, out->topic, &req->topics[i].partitions[k], &out->partitions[k]);
    }
    request_reply(r, resp);
}
