// DescribeConfigs: answered by the core. v1+ with synonyms, v3+ with types and documentation.
#include "broker/api/api.h"
#include "core/topics.h"

void api_describe_configs(struct request *r)
{
    struct effects fx;
    effects_init(&fx, r->arena);
    topics_decide_describe_configs(broker_topics(r->broker), &r->asker, r->body, &fx);
    broker_commit(r->broker, &fx);
}
