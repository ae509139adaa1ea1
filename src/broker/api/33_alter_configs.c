// AlterConfigs: decided by the core. What is not named goes back to its default.
#include "broker/api/api.h"
#include "core/topics.h"

void api_alter_configs(struct request *r)
{
    struct effects fx;
    effects_init(&fx, r->arena);
    topics_decide_alter_configs(broker_topics(r->broker), &r->asker, r->body, &fx);
    broker_commit(r->broker, &fx);
}
