#pragma once
// The table tally_offset: who may store what comes next of a partition, and where that begins.
// Every call runs inside the transaction that its caller has open.

#include "client/libtally/sink.h"

#define CLAIM_VERSION 1    // of the tables; a newer one is refused
#define CLAIM_TOPIC_ID 23  // 22 characters of base64 and the end
#define CLAIM_NO_ID "-"    // the broker gives topics no ids, or will not tell us
#define CLAIM_UNSTARTED -1 // next_offset of a partition that was claimed and never begun

struct claim {
    const char *topic; // borrowed
    int32_t partition;
    char topic_id[CLAIM_TOPIC_ID];
    int64_t next; // offset of the next record to store
    int64_t epoch;
};

// Whose claims these are. Strings are borrowed.
struct claim_group {
    struct sink *sink;
    const char *group;
    const char *member; // for people who look into the table
};

// Makes the tables where they are missing and checks their version.
MUST_CHECK int claim_setup(struct sink *s, struct tally_error *error);
// Adds one to the epoch and reads next_offset, which may be CLAIM_UNSTARTED. c->topic, partition
// and topic_id are the caller's. TALLY_OFFSET: the rows are of another topic, or damaged.
MUST_CHECK int claim_take(const struct claim_group *g, struct claim *c, struct tally_error *error);
// Moves next_offset from c->next to `end`, if the claim still stands. *ret_is_ours false: another
// copy has claimed or moved it, and the transaction must be rolled back.
MUST_CHECK int claim_advance(const struct claim_group *g, const struct claim *c, int64_t end,
                             bool *ret_is_ours, struct tally_error *error);
// What stands there now. *ret_next and *ret_epoch are -1 when the row has gone.
MUST_CHECK int claim_read(const struct claim_group *g, const struct claim *c, int64_t *ret_next,
                          int64_t *ret_epoch, struct tally_error *error);
// Another group that has stored the topic in this database, while this one has not begun; "" when
// there is none.
#define CLAIM_GROUP_MAX 256
MUST_CHECK int claim_other_group(const struct claim_group *g, const char *topic,
                                 char ret_group[CLAIM_GROUP_MAX], struct tally_error *error);
// next_offset of every partition of the topic that any copy has claimed.
typedef void claim_seen_fn(void *user, int32_t partition, int64_t next);
MUST_CHECK int claim_list(const struct claim_group *g, const char *topic, claim_seen_fn *seen,
                          void *user, struct tally_error *error);
