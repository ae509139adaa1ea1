// DescribeCluster: one broker, which is its own controller. v1+ can ask for controllers, which
// only a controller's own listener answers.
#include "broker/api/api.h"
#include "broker/api/find.h"

#define ENDPOINT_BROKERS 1
#define ENDPOINT_CONTROLLERS 2

void api_describe_cluster(struct request *r)
{
    const struct describe_cluster_request *req = r->body;
    struct describe_cluster_response *resp = request_response(r);
    resp->cluster_id = broker_cluster_id(r->broker);
    if (req->endpoint_type != ENDPOINT_BROKERS) {
        bool known = req->endpoint_type == ENDPOINT_CONTROLLERS;
        resp->error_code = known ? KERR_MISMATCHED_ENDPOINT_TYPE : KERR_UNSUPPORTED_ENDPOINT_TYPE;
        resp->error_message = str_from(kerr_message(resp->error_code));
        request_reply(r, resp);
        return;
    }
    struct find_address at = find_address(r);
    resp->controller_id = TALLY_NODE_ID;
    resp->brokers = arena_array(r->arena, 1, sizeof *resp->brokers);
    resp->n_brokers = 1;
    describe_cluster_response_broker_init(&resp->brokers[0]);
    resp->brokers[0].broker_id = TALLY_NODE_ID;
    resp->brokers[0].host = at.host;
    resp->brokers[0].port = at.port;
    if (req->include_cluster_authorized_operations)
        resp->cluster_authorized_operations = ALL_CLUSTER_OPERATIONS;
    request_reply(r, resp);
}
