// DeleteTopics: decided by the core. v6+ by name or id.
#include "broker/api/api.h"
#include "core/topics.h"

void api_delete_topics(struct request *r)
{
    struct effects fx;
    effects_init(&fx, r->arena);
    topics_decide_delete(broker_topics(r->broker), &r->asker, r->body, &fx);
    broker_commit(r->broker, &fx);
}
