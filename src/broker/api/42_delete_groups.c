#include "broker/api/api.h"
#include "core/core.h"
#include "core/group/group.h"

void api_delete_groups(struct request *r)
{
    struct effects fx;
    effects_init(&fx, r->arena);
    group_delete(broker_core(r->broker), &r->asker, r->body, &fx);
    broker_commit(r->broker, &fx);
}
