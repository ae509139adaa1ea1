#pragma once
// The fields of a client. Private to src/client.

#include "client/client.h"
#include "client/conn.h"
#include "wire/codec.h"
#include "wire/frame.h"

#include "schema.h"

#define CLIENT_MAX_NODES 64 // connections: bootstrap addresses and brokers together
#define CLIENT_RETRY_MS 100 // pause before asking again for what passes by itself

struct client {
    struct conn *conns[CLIENT_MAX_NODES]; // owned
    int n_conns;
    int timeout_ms;
    struct str client_id; // in the arena
    struct arena *arena;  // lives as long as the client
    struct kw_out out;
    bool is_tally; // has answered a private api
    char why[CLIENT_WHY_MAX];
};

// Sets client_error(); returns `error`.
int client_fail(struct client *c, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Bounds the retries of one operation.
struct client_deadline {
    int64_t until_ms;
};
struct client_deadline client_deadline(const struct client *c);
// Waits CLIENT_RETRY_MS; false when the time is over.
bool client_wait(struct client_deadline d);

// Learns or corrects the address of a node.
void client_learn_node(struct client *c, int32_t node, struct str host, int32_t port);
