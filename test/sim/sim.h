#pragma once
// The simulated world: one broker on a simulated disk, network and clock, model clients around it,
// and one queue of events. Everything that happens follows from the seed.
//
// sim.c      time, events, the broker's lives        link.c      one client connection
// consumer.c a model consumer group member           producer.c  a model producer
// truth.c    what really happened, kept by the models, and the checks against it
// plan.c     what a seed means: sizes, modes, faults  main.c     command line

#include "base/heap.h"
#include "base/list.h"
#include "base/prng.h"
#include "os/net_sim.h"
#include "wire/codec.h"

struct broker;
struct clock;
struct disk;
struct sim;
struct truth;

// Something that lives in the world: a client process. Its events wait while it is paused
// (SIGSTOP) and are dropped once it is dead.
struct actor {
    uint64_t id;
    struct sim *sim;
    char name[24];
    bool is_paused;
    struct list backlog; // events that came due while paused
};

typedef void sim_event_fn(struct actor *a, uint64_t arg, struct bytes payload);

void actor_init(struct actor *a, struct sim *s, const char *name);
void actor_end(struct actor *a); // its events are dropped
void actor_pause(struct actor *a);
void actor_resume(struct actor *a);

struct sim_options {
    uint64_t seed;
    uint64_t minutes; // of simulated time
    bool is_verbose;  // prints the trace
};

struct sim {
    struct sim_options options;
    struct prng prng;
    uint64_t now_ms;
    struct heap events;
    struct map *actors; // by id
    uint64_t next_actor;
    struct disk *disk;
    struct clock *clock; // of the broker's present life
    struct net *net;
    struct broker *broker; // NULL while it is down
    int listener;
    struct map *links;     // by connection id of the present life; NULL while the broker is down
    struct map *all_links; // by serial
    uint64_t next_link;
    struct truth *truth;
    uint64_t trace_hash;
    uint64_t n_events;
    uint64_t n_lives;
    uint64_t digest;    // of the hard state of the life before
    bool must_replay;   // to the same
    struct actor world; // owner of the plan's own events
    bool has_failed;
    char failure[512];
};

void sim_init(struct sim *s, const struct sim_options *o);
void sim_free(struct sim *s);
void sim_after(struct actor *a, uint64_t delay_ms, sim_event_fn *fn, uint64_t arg,
               struct bytes payload); // payload is copied
void sim_run_until(struct sim *s, uint64_t end_ms);
// One line of the trace; part of the hash.
void sim_trace(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
// A broken promise: the run ends with it. The first one counts.
void sim_fail(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

void sim_broker_start(struct sim *s);
void sim_broker_stop(struct sim *s);      // clean
void sim_broker_kill(struct sim *s);      // SIGKILL: what was written survives
void sim_broker_power_cut(struct sim *s); // what was not synced may not
// Lets the broker handle everything that is there.
void sim_broker_settle(struct sim *s);

// One connection of a client. Requests are answered in order, so several may be under way.
struct link;
// The response is NULL when the connection ended first.
typedef void link_answer_fn(struct actor *a, uint64_t arg, const void *response);
struct link *link_open(struct actor *a, const char *client_id);
void link_close(struct link *l); // NULL is fine; pending answers are dropped
bool link_is_open(const struct link *l);
void link_request(struct link *l, int16_t api, int version, const void *request, link_answer_fn *fn,
                  uint64_t arg);
// Called when the broker writes the answer, whether or not anybody reads it.
typedef void link_sent_fn(void *context, const void *response);
// The newest request's answer is watched: context is copied.
void link_watch(struct link *l, link_sent_fn *fn, const void *context, size_t len);
// Fails the run when the broker owes an answer for too long that waits for no other client.
void links_check(struct sim *s);
// From the network, by sim.c.
void link_on_answer(struct link *l, struct bytes frame, uint64_t upto);
void link_on_closed(struct link *l);
