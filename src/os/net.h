#pragma once
// Sockets that carry length-prefixed frames, and the loop that drives everything.
//
// The requests of a connection are answered in their order, each by one net_send() or net_skip().
// Those that are there already are given out together, as far as on_frame() takes them (then
// NET_OPEN_MAX are unanswered at most); nothing more is read before all of them are answered, and
// none is given out while an answer waits for the socket. So what a connection can make us hold is
// one input buffer, and the output that waits for a slow reader the answers to these. No callback
// is ever run from inside a net_*() call other than net_run_once().
//
// With threads (net_limits) others read and write the sockets. Whoever calls sees nothing of it but
// that an answer leaves a little later, when net_run_once() goes on or is called again.

#include "base/bytes.h"
#include "base/check.h"
#include "wire/codec.h"

// Frames of one connection that were given out and are not answered.
#define NET_OPEN_MAX 32
#define NET_THREADS_MAX 64

struct net;
struct clock;

struct net_limits {
    uint32_t max_frame_bytes; // socket.request.max.bytes; a longer frame ends the connection
    uint32_t max_connections; // beyond it accepting pauses
    // Of all input buffers: beyond it the connection that holds the most is closed, so that those
    // that send a lot and never end do not crowd out the others.
    uint64_t max_input_bytes;
    // Of all answers that wait for slow readers, file slices not counted: beyond it the connection
    // with the largest is closed. 0 is no limit.
    uint64_t max_output_bytes;
    uint64_t idle_ms; // connections.max.idle.ms; 0 is never
    // That read and write the sockets; 0 and 1: the loop does.
    unsigned threads;
};

enum net_reason {
    NET_CLOSED_BY_PEER,
    NET_CLOSED_BY_US, // net_close()
    NET_CLOSED_IDLE,
    NET_CLOSED_BAD_FRAME, // length below 0 or beyond max_frame_bytes
    NET_CLOSED_FULL,      // max_input_bytes
    NET_CLOSED_UNREAD,    // max_output_bytes
    NET_CLOSED_ERROR,     // the socket failed
    NET_CLOSED_FILE,      // a slice of a file could not be read, or the file has become too short
};

struct net_peer {
    char host[48]; // "127.0.0.1", "::1"
    uint16_t port;
    int listener; // which listener it came in by
    uint16_t local_port;
};

struct net_end {
    enum net_reason reason;
    int32_t frame_len;    // NET_CLOSED_BAD_FRAME: what it claimed
    uint64_t sent_bytes;  // given to the kernel in the connection's life
    uint64_t acked_bytes; // of these, acknowledged by the other kernel (TCP_INFO), at most
};

enum net_taken {
    NET_TAKEN,      // another may come when this one is answered
    NET_TAKEN_MORE, // the next may come at once
    NET_NOT_YET,    // give it again when one of those before it is answered; there is one
};

struct net_handler {
    void *user;
    // A new connection; ids are never used twice in one run. False closes it (no on_close).
    bool (*on_open)(void *user, uint64_t conn, const struct net_peer *peer);
    // A whole frame without its length. Stays valid until net_send() or net_skip() for it, or
    // on_close(), once it was taken.
    enum net_taken (*on_frame)(void *user, uint64_t conn, struct bytes frame);
    // The peer will send nothing more, but a request of it is still being worked on. What waits
    // for more data (a parked Fetch) may as well be answered now. The answer is still sent.
    void (*on_eof)(void *user, uint64_t conn);
    // Gone. Not called for a connection that on_open refused.
    void (*on_close)(void *user, uint64_t conn, const struct net_end *end);
    // No file descriptor is left (-EMFILE, -ENFILE), no memory (-ENOBUFS), or max_connections are
    // open (-EUSERS): accepting pauses until one has closed.
    void (*on_accept_paused)(void *user, int error);
};

// The process ignores SIGPIPE from here on; whoever starts other programs resets it in them.
struct net *net_new(const struct net_limits *limits, struct clock *c);
void net_free(struct net *n); // closes everything, calls nobody; NULL is fine
void net_set_handler(struct net *n, const struct net_handler *h); // before net_run_once()

// Listens. Port 0 takes a free one; *ret_port says which. *ret_listener is an id, never reused.
// 0 or -errno (-EADDRINUSE, -EADDRNOTAVAIL, -EINVAL for a host that has no address).
MUST_USE int net_listen(struct net *n, const char *host, uint16_t port, int *ret_listener,
                        uint16_t *ret_port);
void net_unlisten(struct net *n, int listener); // its connections live on

// Answers the first request that has no answer yet with *out, a whole frame with its size
// (wire/frame.h). Its content is taken and *out left empty. Returns the number of bytes handed to
// this connection in its life once this answer is complete: compare with net_end.acked_bytes. 0
// when it is gone. Each splice's file is referenced until it was sent (disk_file_ref).
uint64_t net_send(struct net *n, uint64_t conn, struct kw_out *out);
// The same, for an answer that nobody is told about when it leaves (Produce): while other frames of
// this connection are there it waits for their answers, until the next net_run_once() at most, and
// all leave in one write.
uint64_t net_send_soon(struct net *n, uint64_t conn, struct kw_out *out);
void net_skip(struct net *n, uint64_t conn);  // the first has no answer (acks=0)
void net_close(struct net *n, uint64_t conn); // what is not written is lost; on_close() follows
// Closes after what net_send() was given has been written.
void net_close_after_send(struct net *n, uint64_t conn);
uint64_t net_queued(struct net *n, uint64_t conn); // what net_send() was given in its life
// An answer is not wholly written yet; with threads it may be, and that is seen in a later pass.
bool net_is_sending(struct net *n, uint64_t conn);
size_t net_connections(const struct net *n);

// One pass: waits at most timeout_ms (-1: for ever) for something to happen, then handles all of
// what has happened once. Returns how many events it handled; 0 only when nothing had come in: no
// socket had anything when it looked. With threads it may wait for them a moment longer, and return
// 1 when they have not looked yet.
int net_run_once(struct net *n, int timeout_ms);
// For one who does something at its time, after the input that came before, when no pass returns 0:
// whether every socket was looked at, and what was found handled, since this was last so. Each pass
// does, but with threads it takes several.
bool net_went_round(struct net *n);

// Further descriptors in the same loop (signals, pseudo-terminals, the disk pool). Real world
// only: the simulator has none. events and what is passed on are EPOLLIN, EPOLLOUT, ...
typedef void net_watch_fn(void *arg, uint32_t events);
MUST_USE int net_watch(struct net *n, int fd, uint32_t events, net_watch_fn *fn, void *arg);
void net_unwatch(struct net *n, int fd);
