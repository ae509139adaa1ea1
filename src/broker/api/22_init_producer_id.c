// InitProducerId: decided by the core.
#include "broker/api/api.h"
#include "core/topics.h"
#include "os/log.h"

void api_say_no_transactions(const struct request *r, struct str transactional_id)
{
    log_event(broker_log(r->broker), LOG_WARN,
              "client %.*s asks for transactional.id %.*s; transactions are not built, refused",
              STR_FMT(r->asker.client_id), STR_FMT(transactional_id));
}

void api_init_producer_id(struct request *r)
{
    const struct init_producer_id_request *req = r->body;
    if (req->transactional_id.len > 0)
        api_say_no_transactions(r, req->transactional_id);
    struct effects fx;
    effects_init(&fx, r->arena);
    topics_decide_init_producer_id(broker_topics(r->broker), &r->asker, r->body, &fx);
    broker_commit(r->broker, &fx);
}
