#pragma once
// A model consumer, shared by its files: consumer.c (a process's life, commits), consumer_group.c
// (membership), consumer_data.c (positions, fetches, work).

#include "schema.h"
#include "truth.h"
#include "wire/batch.h"
#include "world.h"

#define RETRY_MS 200

enum consumer_state {
    C_DOWN,
    C_JOINING,
    C_RUNNING,
    C_LEAVING,
};

struct owned {
    bool is_owned;
    bool has_position;
    bool is_looking;   // ListOffsets is under way
    int64_t position;  // next offset to fetch
    int64_t stored;    // what auto commit or the next manual commit would write; -1 none
    int64_t committed; // asked for last; -1 none
    uint32_t spell;
};

struct held_record {
    int32_t partition;
    int64_t offset;
};

// What a Fetch asked for and in which spells, kept until the broker has answered it.
struct asked {
    struct truth_group *group;
    int64_t position[TRUTH_PARTITIONS];
    uint32_t spell[TRUTH_PARTITIONS];
};

struct consumer {
    struct actor actor; // lives as long as one process; renewed at each start
    struct sim *sim;
    struct consumer_plan plan;
    struct truth_group *truth;
    enum consumer_state state;
    struct link *group_link;
    struct link *data_link;
    bool is_group_away; // it will be opened again; of one whose connections are apart
    bool is_data_away;
    uint64_t alive_ms; // the coordinator answered last, the same
    char name[32];
    char member_id[128];
    int32_t generation;
    uint32_t epoch;      // of membership: answers to what was asked in an older one are dropped
    uint32_t data_epoch; // of what it holds; a cooperative member keeps it over a rebalance
    bool must_rejoin;
    bool is_leader;
    bool is_fetching;
    bool is_working;
    bool is_committing;
    int32_t n_known; // partitions that it has heard of
    struct owned parts[TRUTH_PARTITIONS];
    struct asked asked; // by the Fetch under way
    struct held_record *queue;
    size_t head, count;                    // of the queue, a ring of plan.prefetch * 4
    uint32_t batch_left;                   // records of the present poll
    uint64_t commit_ids[TRUTH_PARTITIONS]; // of the commit under way
    bool has_assignment;                   // that waits for the work in hand
    bool assigned[TRUTH_PARTITIONS];
};

static inline struct consumer *consumer_of(struct actor *a)
{
    return LIST_ITEM(a, struct consumer, actor);
}

// Its membership stands: it may fetch and commit. A cooperative one goes on while it joins.
static inline bool consumer_may_work(const struct consumer *c)
{
    return c->state == C_RUNNING ||
           (c->state == C_JOINING && c->plan.is_cooperative && c->generation >= 0);
}

// consumer.c
typedef void consumer_next_fn(struct consumer *c);
// Commits every stored position that is news. False when there is none.
bool consumer_commit(struct consumer *c, consumer_next_fn *after);
void consumer_open_links(struct consumer *c);
// Each connection that ended will be opened again, at its own time.
void consumer_reconnect_apart(struct consumer *c);
// A connection ended: as clients do, opens new ones and joins again with what it has.
void consumer_reconnect(struct consumer *c);
void consumer_renew_epoch(struct consumer *c);
void consumer_give_up_all(struct consumer *c); // its parts and what it holds of them

// consumer_group.c
void consumer_join(struct consumer *c);
void consumer_maybe_rejoin(struct consumer *c);
void consumer_rejoin_later(struct consumer *c); // a join that came to nothing
void consumer_heartbeat_tick(struct actor *a, uint64_t arg, struct bytes none);
void consumer_send_leave(struct consumer *c);
bool consumer_take_assignment(struct consumer *c); // true: something happened

// consumer_data.c
void consumer_begin_part(struct consumer *c, int32_t p);
void consumer_drop_held(struct consumer *c, int32_t p);
void consumer_find_positions(struct consumer *c); // of parts that have none
// Does whatever can be done next: fetch ahead, begin a poll, work on a record.
void consumer_pump(struct consumer *c);
