// CreatePartitions: decided by the core.
#include "broker/api/api.h"
#include "core/topics.h"

void api_create_partitions(struct request *r)
{
    struct effects fx;
    effects_init(&fx, r->arena);
    topics_decide_add_partitions(broker_topics(r->broker), &r->asker, r->body, &fx);
    broker_commit(r->broker, &fx);
}
