#pragma once
// Network threads: workers (os/stream.h) beside the loop, each with an epoll and a share of the
// connections of its own. They and the loop share nothing but letters, orders one way and news the
// other, under one lock, and the counters of a budget and of a stream. A letter hands over what it
// names. Private to net_linux.c.
//
// What is posted together wakes the other side once, and only when it sleeps.

#include "os/net.h"
#include "os/stream.h"

struct threads;

// A round is over when every thread has taken a look at its sockets that began after the round did,
// and the loop has what it found. Start from {0}.
struct round {
    bool is_on;
    uint64_t looks[NET_THREADS_MAX];
};

// Each is a worker with the limits and the budgets of this one.
struct threads *threads_new(unsigned n, const struct worker *like);
void threads_free(struct threads *t); // stops them: all streams are the caller's then; NULL is fine
// For the loop's epoll, edge-triggered: there may be news, or the rest that it waits for.
int threads_wake_fd(const struct threads *t);

void threads_adopt(struct threads *t, struct stream *s); // to the thread with the fewest
void threads_forget(struct threads *t, struct stream *s);
// Leaves with the next threads_post() or threads_sleep(). Takes *answers.
void threads_order(struct threads *t, struct stream *s, struct kw_out *answers, unsigned orders);
void threads_post(struct threads *t);

// Posts, and says how long the loop may wait of timeout_ms. With rests_first, and while a thread is
// at work or has something to do, it is a moment at least, which ends as soon as all of them rest.
int threads_sleep(struct threads *t, int timeout_ms, bool rests_first);
// The loop has waited. Gives it what the threads have told up to now; returns how many news.
int threads_take_news(struct threads *t, void (*hear)(void *arg, struct stream *s, enum news news),
                      void *arg);
// Nothing is there that the loop has not been told: all threads wait, and no socket has anything.
bool threads_rest(struct threads *t);
// Whether the round is over; one begins when none is on.
bool threads_round_is_over(struct threads *t, struct round *r);
