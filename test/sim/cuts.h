#pragma once
// One scripted run of the broker, ended at its n-th operation on the disk, for every n: is
// everything there that was acknowledged before? cuts.c: the script and its ends. cuts_ask.c: the
// requests. cuts_truth.c: what must be there.

#include "sim.h"
#include "wire/batch.h"

#define CUTS_TOPICS 4
#define CUTS_PARTITIONS 3
#define CUTS_BATCHES 64 // of one partition
#define CUTS_PLACES 256 // offsets in use, of one partition
#define CUTS_KEYS 3     // of the compacted topic: a record's key is its number modulo this

enum cuts_end {
    CUTS_KILL,       // SIGKILL: what was written is there
    CUTS_POWER,      // unsynced writes and names are lost, torn or there
    CUTS_DISK_ERROR, // every operation from then on fails; the broker must stop by itself
    CUTS_ENDS,
};

enum cuts_known { CUTS_NO, CUTS_YES, CUTS_UNSURE };

// Which record stands at which offset, in the order they were noted. After lost power a log goes
// on far beyond, so that most offsets are never used.
struct cuts_places {
    struct {
        int64_t offset;
        uint64_t id;
    } at[CUTS_PLACES];
    size_t n;
};

struct cuts_batch {
    uint64_t first_id;
    int32_t n;
    int64_t producer_id; // -1: not idempotent
    int32_t sequence;
    int16_t acks;
    bool is_acked;
    bool may_be_lost; // acks=1 and the power was cut
    int64_t base;     // once acked
};

struct cuts_partition {
    struct cuts_batch batches[CUTS_BATCHES];
    size_t n_batches;
    int32_t next_sequence;
    struct cuts_places known;        // all that was ever seen or told
    int64_t start_least, start_most; // where the log may begin
};

struct cuts_topic {
    const char *name;
    bool is_compacted;
    enum cuts_known is_there;
    enum cuts_known has_more; // partitions than it was made with
    int32_t n_partitions;
    struct cuts_partition parts[CUTS_PARTITIONS];
};

struct cuts {
    struct sim sim;
    struct link *link;
    bool is_armed;   // the end is to come
    bool is_down;    // it came
    bool may_refuse; // an error in an answer is no failure of the run
    bool is_answered;
    int16_t error;       // of the last answer
    int64_t number;      // that it gave: an offset, a producer id
    void *into;          // where an answer goes
    uint64_t next_id;    // of records
    int64_t producer_id; // -1: none yet
    char member_id[64];
    int32_t session_ms;
    int32_t generation;
    struct cuts_topic topics[CUTS_TOPICS];
    int64_t committed[2][CUTS_PARTITIONS]; // acked, by group
    int64_t asked[2][CUTS_PARTITIONS];     // the newest that was asked for
    const char *limit;                     // retention.bytes of the first topic, acked
    const char *limit_asked;
    uint64_t n_checks;
};

extern const char *const cuts_groups[2];

// cuts.c: the broker's lives. A start or an end that fails is said, but at an armed end.
struct cuts *cuts_new(uint64_t seed, bool is_verbose);
void cuts_free(struct cuts *c);
bool cuts_start(struct cuts *c);
bool cuts_stop(struct cuts *c); // in order
bool cuts_kill(struct cuts *c); // and starts it again

// cuts_ask.c: each asks and waits. True: answered without error. False ends the script when the
// end has come; else it is a failure and said.
bool cuts_create(struct cuts *c, struct cuts_topic *t, int32_t n, const char *segment_bytes);
bool cuts_delete(struct cuts *c, struct cuts_topic *t);
bool cuts_more_partitions(struct cuts *c, struct cuts_topic *t, int32_t n);
bool cuts_alter(struct cuts *c, struct cuts_topic *t, const char *value);
bool cuts_producer(struct cuts *c);
bool cuts_produce(struct cuts *c, struct cuts_topic *t, int32_t p, int32_t n, int16_t acks,
                  size_t value_bytes);
bool cuts_repeat(struct cuts *c, struct cuts_topic *t, int32_t p); // the last acked batch again
bool cuts_join(struct cuts *c);
bool cuts_leave(struct cuts *c);
bool cuts_heartbeat(struct cuts *c);
bool cuts_commit(struct cuts *c, int group, int32_t p, int64_t offset); // of the first topic
bool cuts_delete_records(struct cuts *c, struct cuts_topic *t, int32_t p, int64_t offset);
// What the checks ask.
bool cuts_count(struct cuts *c, const char *topic, int32_t *ret_partitions); // 0: not there
bool cuts_bounds(struct cuts *c, struct cuts_topic *t, int32_t p, int64_t *ret_start,
                 int64_t *ret_end);
bool cuts_committed(struct cuts *c, int group, int32_t p, int64_t *ret_offset);
bool cuts_config(struct cuts *c, struct cuts_topic *t, char ret_value[32]);
struct cuts_read {
    struct cuts_topic *topic;
    int32_t partition;
    int64_t next; // offset to read
    struct cuts_places found;
};
bool cuts_read(struct cuts *c, struct cuts_read *r); // all from r->next to the end

// cuts_truth.c
uint64_t cuts_at(const struct cuts_places *places, int64_t offset); // 0: nothing
// The first record at an offset stays for ever; another one is a failure.
void cuts_note(struct cuts *c, const struct cuts_topic *t, int32_t p, struct cuts_places *places,
               int64_t offset, uint64_t id);
void cuts_check(struct cuts *c);
void cuts_power_was_cut(struct cuts *c);

// Runs it all for each `step`-th operation and each way to end; from a seed. Prints what failed.
// Returns how many failed, *ret_n counts the runs.
int cuts_run(uint64_t seed, uint64_t step, bool is_verbose, uint64_t *ret_n);

// full.c: another script, on a disk that fills up. 0, or 1 when it failed, which is printed.
int cuts_full(uint64_t seed, bool is_verbose);
// The same of a disk whose syncs take longer than a session.
int cuts_slow(uint64_t seed, bool is_verbose);
