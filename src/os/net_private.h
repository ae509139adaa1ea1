#pragma once
// What net_linux.c keeps of each descriptor. Private to it.

#include "os/net_threads.h"
#include "os/stream.h"

struct listener {
    struct slot slot;
    int id;
};

struct watch {
    struct slot slot;
    net_watch_fn *fn; // NULL: removed
    void *arg;
};

// What the loop knows of a connection; its socket is the stream's.
struct conn {
    struct stream s;     // its slot is in net.conns, the longest idle first; or in net.leaving ...
    struct list ready;   // in net.ready while a whole frame waits in the input
    struct list waiting; // in net.shorts while there is no room for its input
    uint64_t id;
    struct net_peer peer;
    uint64_t active_ms;

    bool has_input;  // the stream's `in` is ours: NEWS_FRAMES or NEWS_SHORT, no ORDER_READ yet
    unsigned n_open; // frames that were given out and are not answered
    bool at_eof;
    bool was_told_eof;

    struct kw_out out;  // answers that the stream was not given yet
    struct list corked; // in net.corked while they wait for those to come
    bool is_corked;
    bool asked_to_tell; // ORDER_TELL
    bool closes_after_send;
    uint64_t queued_bytes; // by net_send()
    uint64_t handed_bytes; // of these, with the stream, or about to be

    bool is_dying;            // no longer in net.by_id
    bool has_ended;           // NEWS_ENDED
    bool is_gone;             // NEWS_GONE
    uint64_t condemned_bytes; // NET_CLOSED_UNREAD: what its end will set free
    struct net_end end;
};

struct net {
    struct worker worker;    // the loop as its own worker
    struct threads *threads; // NULL: it is
    struct slot wake;        // of threads
    struct budget input;
    struct budget output;
    struct net_limits limits;
    struct clock *clock;
    struct net_handler handler;
    struct map *by_id;
    struct list conns;
    struct list ready;
    struct list corked;
    struct list shorts;
    struct list leaving; // were told to end
    struct list dying;   // have ended, and nobody was told yet
    struct list buried;  // on_close() was called, and the worker may still name them
    struct list listeners;
    struct list watches;
    struct list gone; // slots to free
    uint64_t next_conn;
    int next_listener;
    size_t n_conns;
    size_t n_full;            // NET_CLOSED_FULL that have not ended yet
    uint64_t condemned_bytes; // of all that are to end as NET_CLOSED_UNREAD
    bool is_crowded;          // NEWS_CROWDED
    bool is_paused;           // no accepting
    uint64_t resume_ms;
    uint64_t idle_check_ms;
    uint64_t idle_now_ms; // threads: what is idle at this time is closed after this round
    struct round idle_round;
    struct round round; // net_went_round()
};
