#pragma once
// What net_linux.c keeps of each descriptor. Private to it.

#include "base/list.h"
#include "os/input.h"
#include "os/net.h"

enum slot_kind { SLOT_LISTENER, SLOT_CONN, SLOT_WATCH };

// What an epoll event points to. Freed between passes only, so that no event of the same pass
// finds it gone.
struct slot {
    struct list node;
    enum slot_kind kind;
    int fd; // -1: closed
};

struct listener {
    struct slot slot;
    int id;
    bool is_paused;
};

struct watch {
    struct slot slot;
    net_watch_fn *fn; // NULL: removed
    void *arg;
};

struct conn {
    struct slot slot;  // in net.conns, the longest idle first; or in net.dying
    struct list ready; // in net.ready while a whole frame waits in `in`
    uint64_t id;
    struct net_peer peer;
    uint32_t events; // that epoll was told
    uint64_t active_ms;

    struct input in;
    unsigned n_open; // frames that were given out and are not answered
    bool at_eof;
    bool was_told_eof;

    struct kw_out out; // being sent
    size_t out_at;     // of the buffer
    size_t splice_at;
    uint32_t splice_done; // of the current splice
    bool is_sending;
    struct list corked; // in net.corked while `out` waits for the answers to come
    bool is_corked;
    bool closes_after_send;
    uint64_t queued_bytes;
    uint64_t sent_bytes;

    bool is_dying;
    struct net_end end;
};

struct net {
    int epoll_fd;
    struct net_limits limits;
    struct clock *clock;
    struct net_handler handler;
    struct map *by_id;
    struct list conns;
    struct list ready;
    struct list corked;
    struct list dying;
    struct list listeners;
    struct list watches;
    struct list gone; // slots to free
    uint64_t next_conn;
    int next_listener;
    size_t n_conns;
    struct input_pool input;
    uint64_t output_bytes; // of all answers that are not wholly written
    bool is_paused;        // no accepting
    uint64_t resume_ms;
    uint64_t idle_check_ms;
};
