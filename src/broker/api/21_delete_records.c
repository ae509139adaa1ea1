// DeleteRecords: the journal knows the new start before anything is gone.
#include "broker/api/api.h"
#include "broker/api/find.h"

static void delete_one(struct request *r, struct str topic,
                       const struct delete_records_request_partition *in,
                       struct delete_records_response_partition *out)
{
    delete_records_response_partition_init(out);
    out->partition_index = in->partition_index;
    out->low_watermark = -1;
    struct partition *p = NULL;
    enum kerr e =
        find_partition(r->broker, topic, (struct uuid){{0}}, false, in->partition_index, &p);
    uint64_t position = 0; // the answer waits for all of the journal anyway
    if (e == KERR_NONE)
        e = !partition_settings(p)->may_delete
                ? KERR_POLICY_VIOLATION
                : partition_delete_records(p, in->offset, r->asker.wall_ms, &position);
    if (e == KERR_NONE)
        out->low_watermark = partition_log_start(p);
    out->error_code = (int16_t)e;
}

void api_delete_records(struct request *r)
{
    const struct delete_records_request *req = r->body;
    struct delete_records_response *resp = request_response(r);
    int32_t n = req->n_topics > 0 ? req->n_topics : 0;
    resp->topics = arena_array(r->arena, (size_t)n, sizeof *resp->topics);
    resp->n_topics = n;
    for (int32_t i = 0; i < n; i++) {
        struct delete_records_response_topic *out = &resp->topics[i];
        int32_t n_here = req->topics[i].n_partitions > 0 ? req->topics[i].n_partitions : 0;
        out->name = req->topics[i].name;
        out->partitions = arena_array(r->arena, (size_t)n_here, sizeof *out->partitions);
        out->n_partitions = n_here;
        for (int32_t k = 0; k < n_here; k++)
            delete_one(r, out->name, &req->topics[i].partitions[k], &out->partitions[k]);
    }
    request_reply(r, resp);
}
