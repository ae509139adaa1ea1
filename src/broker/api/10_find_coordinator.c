// The one node there is coordinates everything. Its address is that of the listener the request
// came in by, so that a consumer behind a listener of its own stays there.
#include "broker/api/api.h"
#include "broker/internal.h"

enum { KEY_GROUP, KEY_TRANSACTION, KEY_SHARE };

struct refusal {
    enum kerr error; // KERR_NONE: it is not refused
    struct str why;
};

static struct refusal refusal(int8_t key_type)
{
    switch (key_type) {
    case KEY_GROUP:
        return (struct refusal){KERR_NONE, STR_NULL};
    case KEY_TRANSACTION: // as InitProducerId: librdkafka would ask for ever after INVALID_REQUEST
        return (struct refusal){KERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
                                STR("This broker does not serve transactions.")};
    case KEY_SHARE:
        return (struct refusal){KERR_INVALID_REQUEST,
                                STR("This broker does not serve share groups.")};
    default:
        return (struct refusal){KERR_INVALID_REQUEST, STR("Unknown coordinator key type.")};
    }
}

static void answer_one(struct find_coordinator_response *p, struct refusal refused, struct str host,
                       int32_t port)
{
    bool good = refused.error == KERR_NONE;
    p->error_code = (int16_t)refused.error;
    p->error_message = good ? STR("NONE") : refused.why;
    p->node_id = good ? TALLY_NODE_ID : -1;
    p->host = good ? host : STR_EMPTY;
    p->port = good ? port : -1;
}

void api_find_coordinator(struct request *r)
{
    const struct find_coordinator_request *q = r->body;
    struct find_coordinator_response *p = request_response(r);
    struct refusal refused = refusal(q->key_type);
    bool good = refused.error == KERR_NONE;
    struct str host;
    int32_t port;
    broker_address(r->broker, r->channel->peer.listener, &host, &port);
    answer_one(p, refused, host, port);
    if (q->key_type == KEY_TRANSACTION)
        api_say_no_transactions(r, q->n_coordinator_keys > 0 ? q->coordinator_keys[0] : q->key);
    p->coordinators = arena_array(r->arena, (size_t)q->n_coordinator_keys, sizeof *p->coordinators);
    p->n_coordinators = q->n_coordinator_keys;
    for (int32_t i = 0; i < q->n_coordinator_keys; i++)
        p->coordinators[i] = (struct find_coordinator_response_coordinator){
            .key = q->coordinator_keys[i],
            .node_id = good ? TALLY_NODE_ID : -1,
            .host = good ? host : STR_EMPTY,
            .port = good ? port : -1,
            .error_code = (int16_t)refused.error,
            .error_message = good ? STR_EMPTY : refused.why,
        };
    request_reply(r, p);
}
