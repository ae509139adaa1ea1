#include "client/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int client_fail(struct client *c, int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
    return error;
}

const char *client_error(const struct client *c)
{
    return c->why;
}

int client_refused(struct client *c, int16_t error_code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
    size_t used = n < 0 ? 0 : (size_t)n < sizeof c->why ? (size_t)n : sizeof c->why - 1;
    // Behind a broker's own sentence.
    while (used > 0 && c->why[used - 1] == '.')
        used--;
    snprintf(c->why + used, sizeof c->why - used, " (%s)", kerr_name(error_code));
    return -EREMOTEIO;
}

struct client_deadline client_deadline(const struct client *c)
{
    return (struct client_deadline){conn_now_ms() + c->timeout_ms};
}

bool client_wait(struct client_deadline d)
{
    if (conn_now_ms() + CLIENT_RETRY_MS > d.until_ms)
        return false;
    struct timespec pause = {.tv_nsec = CLIENT_RETRY_MS * 1000000L};
    nanosleep(&pause, NULL);
    return true;
}

static int transport_failed(struct client *c, struct conn *conn, int error)
{
    conn_close(conn);
    switch (error) {
    case -ECONNREFUSED:
        return client_fail(c, error,
                           "nothing listens on %s:%d; start a broker (tally serve) or name one "
                           "with --bootstrap",
                           conn->host, conn->port);
    case -ENOENT:
        return client_fail(c, error, "no host \"%s\"; check --bootstrap", conn->host);
    case -ETIMEDOUT:
        return client_fail(c, error, "%s:%d does not answer within %d s; is it a broker?",
                           conn->host, conn->port, (c->timeout_ms + 999) / 1000);
    case -EPIPE:
        return client_fail(c, error, "%s:%d closed the connection; its log may say why", conn->host,
                           conn->port);
    case -EMSGSIZE:
    case -EBADMSG:
        return client_fail(c, error, "%s:%d does not speak the Kafka protocol; check --bootstrap",
                           conn->host, conn->port);
    default:
        return client_fail(c, error, "%s:%d: %s", conn->host, conn->port, strerror(-error));
    }
}

// One exchange on an open connection.
static int exchange(struct client *c, struct conn *conn, const struct kw_api *api, int version,
                    const void *request, struct arena *a, void *ret_response)
{
    struct request_header header = {
        .api_key = api->key,
        .api_version = (int16_t)version,
        .correlation_id = ++conn->correlation_id,
        .client_id = c->client_id,
    };
    kw_out_clear(&c->out);
    frame_write_request(&header, request, &c->out);
    int result = conn_send(conn, c->out.buf.ptr, c->out.buf.len);
    struct bytes frame = {NULL, 0}, body;
    if (result == 0)
        result = conn_receive(conn, a, &frame);
    int32_t correlation_id = 0;
    if (result == 0)
        result = frame_read_response(frame, api, version, &correlation_id, &body);
    if (result == 0 && correlation_id != conn->correlation_id)
        result = -EBADMSG;
    if (result == 0)
        result = kw_decode(api->response, version, body, a, ret_response, NULL);
    return result;
}

static int ask_api_versions(struct client *c, struct conn *conn)
{
    struct api_versions_request request;
    api_versions_request_init(&request);
    request.client_software_name = STR("tally");
    request.client_software_version = STR("1");
    struct arena *a = arena_new();
    struct api_versions_response response;
    // A small answer; whoever sends it a byte now and then is no broker.
    conn->answer_due_ms = conn_now_ms() + c->timeout_ms;
    int result = exchange(c, conn, kw_api(API_API_VERSIONS), 3, &request, a, &response);
    conn->answer_due_ms = 0;
    conn->n_apis = 0;
    for (int32_t i = 0; result == 0 && i < response.n_api_keys; i++) {
        if (conn->n_apis == CONN_MAX_APIS)
            break;
        conn->apis[conn->n_apis++] =
            (struct conn_api){response.api_keys[i].api_key, response.api_keys[i].min_version,
                              response.api_keys[i].max_version};
    }
    arena_free(a);
    return result;
}

// An open connection of that node, or of any.
static int connect_node(struct client *c, int32_t node, struct conn **ret_conn)
{
    int result = -ENOENT;
    client_fail(c, result, "node %d has no known address", (int)node);
    for (int i = 0; i < c->n_conns; i++) {
        struct conn *conn = c->conns[i];
        if (node != CLIENT_ANY_NODE && conn->node != node)
            continue;
        if (conn->fd < 0) {
            result = conn_open(conn, c->timeout_ms);
            if (result == 0)
                result = ask_api_versions(c, conn);
            if (result < 0) {
                transport_failed(c, conn, result);
                continue;
            }
        }
        *ret_conn = conn;
        return 0;
    }
    return result;
}

static struct conn *add_conn(struct client *c, const char *host, size_t host_len, int port)
{
    if (c->n_conns == CLIENT_MAX_NODES || host_len >= CONN_HOST_MAX)
        return NULL;
    struct conn *conn = arena_alloc(c->arena, sizeof *conn);
    memcpy(conn->host, host, host_len);
    conn->port = port;
    conn->node = -1;
    conn->fd = -1;
    c->conns[c->n_conns++] = conn;
    return conn;
}

void client_learn_node(struct client *c, int32_t node, struct str host, int32_t port)
{
    for (int i = 0; i < c->n_conns; i++) {
        struct conn *conn = c->conns[i];
        if (conn->node != node)
            continue;
        if (conn->port == port && str_eq_c(host, conn->host))
            return;
        conn_close(conn);
        conn->node = -1; // it has moved; the old address stays a way in
    }
    struct conn *conn = add_conn(c, host.ptr, host.len > 0 ? (size_t)host.len : 0, port);
    if (conn)
        conn->node = node;
}

// "HOST:PORT[,HOST:PORT...]"; the port may be left out, an IPv6 address stands in brackets.
static int parse_bootstrap(struct client *c, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, ",");
        const char *host = text, *end = text + len, *colon = NULL;
        for (const char *p = text; p < end; p++) {
            if (*p == ':')
                colon = p;
        }
        int port = 9092;
        if (colon) {
            char *after;
            long number = strtol(colon + 1, &after, 10);
            if (after != end || number < 1 || number > 65535)
                colon = NULL;
            port = (int)number;
        } else {
            colon = end;
        }
        size_t host_len = colon ? (size_t)(colon - host) : 0;
        if (host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']') {
            host++;
            host_len -= 2;
        }
        if (host_len == 0 || !add_conn(c, host, host_len, port)) {
            return client_fail(c, -EINVAL, "\"%s\" is no address; write HOST:PORT", text);
        }
        text = end + (*end == ',');
    }
    return c->n_conns ? 0 : client_fail(c, -EINVAL, "no address; write HOST:PORT");
}

int client_open(const char *bootstrap, const char *client_id, int timeout_ms,
                struct client **ret_client, char *why)
{
    struct arena *a = arena_new();
    struct client *c = arena_alloc(a, sizeof *c);
    c->arena = a;
    c->timeout_ms = timeout_ms;
    c->client_id = arena_str(a, str_from(client_id));
    struct conn *conn;
    int result = parse_bootstrap(c, bootstrap);
    if (result == 0)
        result = connect_node(c, CLIENT_ANY_NODE, &conn);
    if (result < 0) {
        snprintf(why, CLIENT_WHY_MAX, "%s", c->why);
        client_close(c);
        return result;
    }
    *ret_client = c;
    return 0;
}

void client_close(struct client *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->n_conns; i++)
        conn_close(c->conns[i]);
    kw_out_free(&c->out);
    arena_free(c->arena);
}

bool client_has_api(const struct client *c, int16_t api_key)
{
    for (int i = 0; i < c->n_conns; i++) {
        if (c->conns[i]->n_apis)
            return conn_api(c->conns[i], api_key) != NULL;
    }
    return false;
}

// The version to use; -EOPNOTSUPP when none fits.
static int choose_version(const struct conn *conn, const struct kw_api *api, int max_version)
{
    int ours = max_version >= 0 && max_version < api->max_version ? max_version : api->max_version;
    if (api->is_private)
        return ours;
    const struct conn_api *theirs = conn_api(conn, api->key);
    if (!theirs)
        return -EOPNOTSUPP;
    int version = theirs->max < ours ? theirs->max : ours;
    return version < theirs->min || version < api->min_version ? -EOPNOTSUPP : version;
}

int client_call(struct client *c, int32_t node, int16_t api_key, int max_version,
                const void *request, struct arena *a, void *ret_response, int *ret_version)
{
    const struct kw_api *api = kw_api(api_key);
    CHECK(api);
    struct conn *conn;
    int result = connect_node(c, node, &conn);
    if (result < 0)
        return result;
    int version = choose_version(conn, api, max_version);
    if (version < 0)
        return client_fail(c, version, "%s:%d has no %s that this program knows", conn->host,
                           conn->port, api->name);

    result = exchange(c, conn, api, version, request, a, ret_response);
    if (result == -EPIPE && api->is_private && !c->is_tally) {
        conn_close(conn); // what a broker does with an api that it does not know
        return client_fail(c, -EOPNOTSUPP, "%s:%d is not a tally (another broker?)", conn->host,
                           conn->port);
    }
    if (result < 0)
        return transport_failed(c, conn, result);
    c->is_tally |= api->is_private;
    if (ret_version)
        *ret_version = version;
    return 0;
}
