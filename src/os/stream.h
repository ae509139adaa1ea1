#pragma once
// One connection's socket: what is read from it and written to it. A stream belongs to a worker,
// which alone touches the socket; the loop (net_linux.c) gives it orders and gets its news. Where
// the loop is its own worker both are plain calls, with network threads they are letters
// (net_threads.h). Private to these files.

#include "base/list.h"
#include "os/input.h"
#include "os/net.h"

#include <stdatomic.h>

// Handled in one pass.
#define EVENTS_MAX 256
// Input buffers are kept so long after the last input.
#define SPARES_KEPT_MS 1000

enum slot_kind { SLOT_LISTENER, SLOT_CONN, SLOT_WATCH, SLOT_WAKE };

// What an epoll event points to. Freed between passes only, so that no event of the same pass
// finds it gone.
struct slot {
    struct list node; // the loop's
    enum slot_kind kind;
    int fd; // -1: closed
};

// What the loop wants of a stream, done in this order, after the answers that come with it.
enum order {
    ORDER_OPEN = 1,   // the first: wait for input
    ORDER_TELL = 2,   // NEWS_SENT when all answers are written
    ORDER_FINISH = 4, // end when all answers are written
    ORDER_READ = 8,   // `in` is the worker's again: all frames in it are answered
    ORDER_CLOSE = 16, // the last: end now
};

// What a stream tells the loop.
enum news {
    NEWS_FRAMES = 1,   // there is a whole frame, and `in` is the loop's until ORDER_READ
    NEWS_SHORT = 2,    // no room for input, and `in` is the loop's as above
    NEWS_EOF = 4,      // the peer will send nothing more
    NEWS_SENT = 8,     // what ORDER_TELL asked for
    NEWS_CROWDED = 16, // the socket is full, and answers of all take more than they may
    NEWS_ENDED = 32,   // nothing is read or written any more; `in`, `end_*` are the loop's
    NEWS_GONE = 64,    // after ORDER_CLOSE: the worker has forgotten it
};

struct stream {
    struct slot slot;
    struct worker *worker;
    uint32_t events; // that epoll was told
    struct input in; // the worker's, or the loop's: see enum news
    bool may_read;   // it is the worker's
    bool at_eof;
    bool tells;    // ORDER_TELL
    bool finishes; // ORDER_FINISH
    bool has_ended;
    enum net_reason end_reason;
    int32_t end_frame_len; // NET_CLOSED_BAD_FRAME

    struct kw_out out; // being sent
    size_t out_at;     // of the buffer
    size_t splice_at;
    uint32_t splice_done; // of the current splice

    // For the loop to look at at any time.
    _Atomic uint64_t sent_bytes;
    _Atomic size_t held_bytes;   // the input buffer's
    _Atomic size_t unread_bytes; // the buffer's of answers for which the socket has no room
};

// Who reads and writes sockets.
struct worker {
    int epoll_fd;
    bool is_thread;
    uint32_t max_frame_bytes;
    struct input_pool input;
    struct budget *output; // of all answers that are not wholly written
    void (*tell)(struct worker *w, struct stream *s, enum news news);
};

// Does what is ordered; what is in *answers is taken.
void stream_order(struct worker *w, struct stream *s, struct kw_out *answers, unsigned orders);
void stream_event(struct worker *w, struct stream *s, uint32_t events); // of epoll
void epoll_set(int epoll_fd, struct slot *s, int op, uint32_t events);

// What is left of it, with its references from this splice on.
void out_free(struct budget *b, struct kw_out *out, size_t splice_at);
void out_append(struct budget *b, struct kw_out *to, struct kw_out *more);

static inline bool out_is_empty(const struct kw_out *out)
{
    return out->buf.len == 0 && out->n_splices == 0;
}

// Puts *more behind *to, which leaves it empty. Both count in the budget.
static inline void out_move(struct budget *b, struct kw_out *to, struct kw_out *more)
{
    if (out_is_empty(to) && to->buf.cap == 0) {
        *to = *more;
        *more = (struct kw_out){0};
    } else {
        out_append(b, to, more);
    }
}
