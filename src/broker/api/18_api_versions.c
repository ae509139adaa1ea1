// What is served. v0 to v2 carry no more than the list; v3 brings the client's own name, v5 which
// cluster and node it believes to talk to. An unknown version is answered in v0 with error 35 and
// the one range that helps (KIP-511); dispatch gives it here with no body.
#include "broker/api/api.h"
#include "broker/internal.h"

#include <ctype.h>

// Java's tools ask for it before they send newer requests. The level is that of the Kafka release
// whose behaviour tally follows. group.version, transaction.version and the others are left out:
// what they stand for is not served.
#define METADATA_VERSION_MIN 7
#define METADATA_VERSION 30

// [a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?
static bool is_software_name(struct str s)
{
    if (s.len <= 0 || !isalnum((unsigned char)s.ptr[0]) ||
        !isalnum((unsigned char)s.ptr[s.len - 1]))
        return false;
    for (int32_t i = 0; i < s.len; i++)
        if (!isalnum((unsigned char)s.ptr[i]) && s.ptr[i] != '-' && s.ptr[i] != '.')
            return false;
    return true;
}

static enum kerr check(const struct request *r, const struct api_versions_request *q)
{
    if (r->version >= 3 && (!is_software_name(q->client_software_name) ||
                            !is_software_name(q->client_software_version)))
        return KERR_INVALID_REQUEST;
    if (r->version < 5)
        return KERR_NONE;
    bool has_cluster = !str_is_null(q->cluster_id), has_node = q->node_id != -1;
    if (has_cluster != has_node)
        return KERR_INVALID_REQUEST;
    if (has_cluster &&
        (!str_eq(q->cluster_id, broker_cluster_id(r->broker)) || q->node_id != TALLY_NODE_ID))
        return KERR_REBOOTSTRAP_REQUIRED;
    return KERR_NONE;
}

// Kafka 4.4 knows version 6 and does not call it stable: it is not advertised there either.
#define INIT_PRODUCER_ID_STABLE 5

static struct api_versions_response_api_key range_of(const struct kw_api *a)
{
    bool is_capped = a->key == API_INIT_PRODUCER_ID && a->max_version > INIT_PRODUCER_ID_STABLE;
    return (struct api_versions_response_api_key){.api_key = a->key,
                                                  .min_version = a->advertised_min_version,
                                                  .max_version = is_capped ? INIT_PRODUCER_ID_STABLE
                                                                           : a->max_version};
}

static void list_apis(struct request *r, struct api_versions_response *p)
{
    size_t count = 0;
    while (kw_api_at(count))
        count++;
    p->api_keys = arena_array(r->arena, count, sizeof *p->api_keys);
    for (size_t i = 0; i < count; i++) {
        const struct kw_api *a = kw_api_at(i);
        if (!a->is_private && api_find(a->key))
            p->api_keys[p->n_api_keys++] = range_of(a);
    }
}

static void list_features(struct request *r, struct api_versions_response *p)
{
    p->supported_features = arena_alloc(r->arena, sizeof *p->supported_features);
    p->n_supported_features = 1;
    p->supported_features[0] =
        (struct api_versions_response_supported_feature){.name = STR("metadata.version"),
                                                         .min_version = METADATA_VERSION_MIN,
                                                         .max_version = METADATA_VERSION};
    p->finalized_features = arena_alloc(r->arena, sizeof *p->finalized_features);
    p->n_finalized_features = 1;
    p->finalized_features[0] =
        (struct api_versions_response_finalized_feature){.name = STR("metadata.version"),
                                                         .max_version_level = METADATA_VERSION,
                                                         .min_version_level = METADATA_VERSION};
    p->finalized_features_epoch = 0;
}

void api_api_versions(struct request *r)
{
    const struct api_versions_request *q = r->body;
    struct api_versions_response *p = request_response(r);
    if (!q) {
        p->error_code = KERR_UNSUPPORTED_VERSION;
        p->api_keys = arena_alloc(r->arena, sizeof *p->api_keys);
        p->api_keys[0] = range_of(r->api);
        p->n_api_keys = 1;
        request_reply_now(r, p);
        return;
    }
    enum kerr error = check(r, q);
    p->error_code = (int16_t)error;
    if (error == KERR_NONE) {
        list_apis(r, p);
        list_features(r, p);
        if (r->version >= 3)
            channel_set_software(r->broker, r->channel, q->client_software_name,
                                 q->client_software_version);
    }
    request_reply_now(r, p);
}
