// CreateTopics: decided by the core. v5+ shows the settings, v7+ the id.
#include "broker/api/api.h"
#include "core/topics.h"

void api_create_topics(struct request *r)
{
    struct effects fx;
    effects_init(&fx, r->arena);
    topics_decide_create(broker_topics(r->broker), &r->asker, r->body, &fx);
    broker_commit(r->broker, &fx);
}
