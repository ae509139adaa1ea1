#pragma once
// The simulated network. It has no time of its own: the simulator decides when a frame arrives and
// when an answer reaches the client, and calls net_run_once() to let the broker see what is there.

#include "os/net.h"

// What the simulator hears; called from inside net_send(), net_close() and net_run_once(), so it
// only takes notes.
struct net_sim_peer {
    void *user;
    // An answer left the broker: the frame without its length. `upto` is what net_send() returned.
    // Also when the client is gone and the broker has not heard of it: nobody will read it then.
    void (*on_answer)(void *user, uint64_t conn, struct bytes frame, uint64_t upto);
    void (*on_closed)(void *user, uint64_t conn); // by the broker
};

void net_sim_set_peer(struct net *n, const struct net_sim_peer *peer);

// A client connects; the broker hears of it in the next net_run_once(). Ids as in net.h.
uint64_t net_sim_connect(struct net *n, int listener, const char *host, uint16_t port);
// A whole request frame (without its length) arrives.
void net_sim_arrive(struct net *n, uint64_t conn, struct bytes frame);
// The client's kernel has taken everything up to here.
void net_sim_acked(struct net *n, uint64_t conn, uint64_t upto);
// The connection ends from outside (closed or cut); what had arrived before is still delivered.
void net_sim_cut(struct net *n, uint64_t conn);
bool net_sim_is_open(struct net *n, uint64_t conn);
