#include "broker/api/find.h"

#include "broker/tap.h"
#include "store/log.h"

enum kerr find_topic(struct broker *b, struct str name, struct uuid id, bool by_id,
                     const struct topic **ret_topic)
{
    const struct topic *t =
        by_id ? topics_by_id(broker_topics(b), id) : topics_by_name(broker_topics(b), name);
    if (!t)
        return by_id ? KERR_UNKNOWN_TOPIC_ID : KERR_UNKNOWN_TOPIC_OR_PARTITION;
    *ret_topic = t;
    return KERR_NONE;
}

enum kerr find_partition(struct broker *b, struct str name, struct uuid id, bool by_id,
                         int32_t index, struct partition **ret_partition)
{
    const struct topic *t = NULL;
    enum kerr e = find_topic(b, name, id, by_id, &t);
    if (e != KERR_NONE)
        return e;
    struct partition *p = partitions_get(broker_partitions(b), t->id, index);
    if (!p)
        return KERR_UNKNOWN_TOPIC_OR_PARTITION;
    *ret_partition = p;
    return KERR_NONE;
}

enum kerr check_leader_epoch(const struct partition *p, int32_t believed)
{
    int32_t epoch = partition_epoch(p);
    if (believed < 0 || believed == epoch)
        return KERR_NONE;
    return believed < epoch ? KERR_FENCED_LEADER_EPOCH : KERR_UNKNOWN_LEADER_EPOCH;
}

int32_t epoch_of_offset(const struct partition *p, int64_t offset)
{
    const struct log *l = partition_log_const(p);
    for (int32_t epoch = log_epoch(l); epoch > 0; epoch--) {
        int32_t former = -1;
        int64_t start = -1; // where `epoch` begins is where the one before it ends
        log_epoch_end(l, epoch - 1, &former, &start);
        if (start < 0 || offset >= start)
            return epoch;
    }
    return 0;
}

struct find_address find_address(struct request *r)
{
    struct find_address a = {STR_EMPTY, 0};
    broker_address(r->broker, tap_listener(r->broker, r->asker.conn), &a.host, &a.port);
    return a;
}
