#pragma once
// Between the simulator and the broker: the only file that knows the broker's own interface is
// world.c. And what the plan makes: producers, consumers.

#include "sim.h"

uint64_t world_broker_due_ms(struct sim *s); // UINT64_MAX: nothing waits
struct ledger *world_ledger(struct sim *s);  // NULL while the broker is down
bool world_log_bounds(struct sim *s, int32_t partition, int64_t *ret_start, int64_t *ret_end);

enum consumer_mode { CONSUMER_AUTO_COMMIT, CONSUMER_MANUAL_COMMIT, CONSUMER_COMMIT_FIRST };

struct consumer_plan {
    const char *group;
    enum consumer_mode mode;
    uint32_t session_ms;
    uint32_t heartbeat_ms;
    uint32_t auto_commit_ms;
    uint32_t work_ms; // a record; 0 to this
    uint32_t poll_records;
    uint32_t prefetch; // records held at most
    bool reads_latest; // auto.offset.reset
    bool one_connection;
    bool is_apart; // its two connections end and come back each for itself, as librdkafka's do
    bool commits_on_revoke;
    bool is_cooperative;
    bool uses_topic_ids; // as the Java client does
    bool is_assigned;    // assign() instead of subscribe(): each assign_of-th partition
    uint32_t assign_of, assign_index;
    uint32_t metadata_ms; // how often it looks for new partitions; 0 never
    char instance_id[16]; // of a static member; "" for a dynamic one
    char client_id[32];
};

struct consumer;
struct consumer *consumer_new(struct sim *s, const struct consumer_plan *plan, const char *name);
void consumer_start(struct consumer *c); // a fresh process
void consumer_kill(struct consumer *c);
void consumer_leave(struct consumer *c); // SIGTERM: finishes, commits, leaves
void consumer_pause(struct consumer *c); // SIGSTOP
void consumer_resume(struct consumer *c);
bool consumer_is_up(const struct consumer *c);
bool consumer_is_paused(const struct consumer *c);
bool consumer_is_of(const struct consumer *c, const char *group);
// Tells the truth of their groups when the two have one identity.
void consumer_compare(struct consumer *a, struct consumer *b);
void consumer_has_double(struct consumer *c, const char *client_id); // that is no consumer
void consumer_free(struct consumer *c);

struct producer;
struct producer *producer_new(struct sim *s, const char *name, int16_t acks, bool idempotent,
                              uint32_t interval_ms);
void producer_stop(struct producer *p); // no new records
void producer_free(struct producer *p);

// Reads without a group, or asks for offsets only.
struct bystander;
struct bystander *bystander_new(struct sim *s, const char *name, const char *client_id,
                                bool is_exporter);
void bystander_free(struct bystander *b); // NULL is fine
