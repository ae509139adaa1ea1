#pragma once
// libtally's own code, several copies of it in one thread, against a group, a log and a database
// that are models. Every call that leaves libtally is a step; between two steps a scheduler says
// who goes on, who is frozen, killed or put out of the group, and which COMMIT arrives late.
// The same seed gives the same run.

#include "client/libtally/consumer.h"

#include <ucontext.h>

#define MODEL_COPIES 3
#define MODEL_PARTITIONS 3
#define MODEL_RECORDS 4 // of each partition
// Partition 0 ends with a marker of a transaction: an offset, and no record.
#define MODEL_END(p) (MODEL_RECORDS + ((p) == 0))
#define MODEL_ALL ((1u << MODEL_PARTITIONS) - 1)
#define MODEL_TOPIC "t"
#define MODEL_TOPIC_ID "AAAAAAAAAAAAAAAAAAAAAA"
#define MODEL_NEW_ID "AAAAAAAAAAAAAAAAAAAAAB" // of the topic made again
#define MODEL_WHY_MAX 200

enum model_protocol { MODEL_EAGER, MODEL_COOPERATIVE };

// A process that runs libtally.
struct copy {
    ucontext_t context;
    char *stack;
    struct tally *t;         // NULL until tally_open() has returned
    rd_kafka_t *client;      // its librdkafka
    struct session *session; // its connection to the database; NULL: none
    bool is_running;         // started, and neither ended nor killed
    bool is_frozen;          // SIGSTOP: neither it nor its librdkafka does anything
    int steps;
    bool is_told_new; // what the broker put into the answer that is on its way
    bool saw_new;     // gave up, as the topic is another one
};

struct model {
    struct copy copies[MODEL_COPIES];
    struct copy *running; // whose step it is
    ucontext_t scheduler;
    enum model_protocol protocol;
    enum tally_database database;
    uint64_t dice;
    bool is_wild; // connections break; later everything is well, and the rest must get done
    int64_t now_ms;
    bool is_made_again;        // the topic, with as many records; none of them may be stored
    char wrong[MODEL_WHY_MAX]; // what is wrong; "": nothing
};
extern struct model model;

// One step ends here.
void model_step(void);
uint32_t model_roll(uint32_t n); // 0 .. n-1
bool model_breaks(uint32_t one_in);
void model_wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

// --- The brokers and each copy's librdkafka.
void kafka_reset(void);
void kafka_background(struct copy *c); // its threads: heartbeat, join, sync
void kafka_killed(struct copy *c);
void kafka_expel(struct copy *c); // the session has timed out
void kafka_expel_dead(void);
void kafka_leave(struct copy *c); // max.poll.interval.ms is over: it leaves by itself
void kafka_join_timeout(void);    // whoever has not joined again is put out

// --- The database.
void database_reset(void);
void database_killed(struct copy *c);
void database_late(void);               // what a lost session left: it commits, or rolls back
void database_end_idle(struct copy *c); // its transaction stood idle for too long
bool database_is_complete(void);
void database_check(void); // every row once
