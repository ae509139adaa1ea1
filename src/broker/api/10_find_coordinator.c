// The one node there is coordinates everything. Its address is that of the listener the request
// came in by, so that a consumer behind a listener of its own stays there.
#include "broker/api/api.h"
#include "broker/internal.h"
#include "os/log.h"

enum { KEY_GROUP, KEY_TRANSACTION, KEY_SHARE };

static struct str refusal(int8_t key_type)
{
    switch (key_type) {
    case KEY_GROUP:
        return STR_NULL;
    case KEY_TRANSACTION:
        return STR("This broker does not serve transactions.");
    case KEY_SHARE:
        return STR("This broker does not serve share groups.");
    default:
        return STR("Unknown coordinator key type.");
    }
}

// As InitProducerId: librdkafka would ask for ever after INVALID_REQUEST.
static int16_t error_of(int8_t key_type)
{
    return (int16_t)(key_type == KEY_GROUP         ? KERR_NONE
                     : key_type == KEY_TRANSACTION ? KERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                                                   : KERR_INVALID_REQUEST);
}

static void log_refusal(const struct request *r, const struct find_coordinator_request *q)
{
    struct str key = q->n_coordinator_keys > 0 ? q->coordinator_keys[0] : q->key;
    if (q->key_type == KEY_TRANSACTION)
        log_event(broker_log(r->broker), LOG_WARN,
                  "client %.*s asks for transactional.id %.*s; transactions are not built, refused",
                  STR_FMT(r->asker.client_id), STR_FMT(key));
}

static void answer_one(struct find_coordinator_response *p, int16_t error, struct str why,
                       struct str host, int32_t port)
{
    bool good = str_is_null(why);
    p->error_code = error;
    p->error_message = good ? STR("NONE") : why;
    p->node_id = good ? TALLY_NODE_ID : -1;
    p->host = good ? host : STR_EMPTY;
    p->port = good ? port : -1;
}

void api_find_coordinator(struct request *r)
{
    const struct find_coordinator_request *q = r->body;
    struct find_coordinator_response *p = request_response(r);
    struct str host, why = refusal(q->key_type);
    bool good = str_is_null(why);
    int32_t port;
    broker_address(r->broker, r->channel->peer.listener, &host, &port);
    int16_t error = error_of(q->key_type);
    answer_one(p, error, why, host, port);
    log_refusal(r, q);
    p->coordinators = arena_array(r->arena, (size_t)q->n_coordinator_keys, sizeof *p->coordinators);
    p->n_coordinators = q->n_coordinator_keys;
    for (int32_t i = 0; i < q->n_coordinator_keys; i++)
        p->coordinators[i] = (struct find_coordinator_response_coordinator){
            .key = q->coordinator_keys[i],
            .node_id = good ? TALLY_NODE_ID : -1,
            .host = good ? host : STR_EMPTY,
            .port = good ? port : -1,
            .error_code = error,
            .error_message = good ? STR_EMPTY : why,
        };
    request_reply(r, p);
}
