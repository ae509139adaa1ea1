#pragma once
// What really happened, as only the models know it: which record stands at which offset, who
// received and who processed it, which answers were given. The checks compare it with what the
// broker and the ledger say.

#include "sim.h"

#define TRUTH_PARTITIONS 8 // of the one topic
#define TRUTH_GROUPS 3

struct truth_group {
    char name[16];
    // Per partition and offset, counted up to 255. Received: a client's process read it off its
    // socket. Processed: its work was done. Spells: by how many different spells it was processed.
    struct buf received[TRUTH_PARTITIONS];
    struct buf processed[TRUTH_PARTITIONS];
    struct buf repeated[TRUTH_PARTITIONS];
    struct buf last_spell[TRUTH_PARTITIONS]; // uint32_t: which spell processed it last
    int64_t acked_commit[TRUTH_PARTITIONS];  // K of the newest acknowledged commit; -1 none
    int64_t asked_commit[TRUTH_PARTITIONS];  // greatest K ever asked for
};

struct truth {
    struct uuid topic_id;
    int32_t n_partitions;
    struct buf records[TRUTH_PARTITIONS]; // uint64_t record id by offset; 0: none seen
    struct buf acked[TRUTH_PARTITIONS];   // uint8_t by offset: the acks it was answered for
    struct truth_group groups[TRUTH_GROUPS];
    uint64_t next_record;
    uint64_t next_spell;
    uint64_t n_produced;
    uint64_t n_processed;
    uint64_t n_commits;
    uint64_t n_checks;
    bool lost_power; // acks=1 records may be gone
};

enum { ACKED_LEADER = 1, ACKED_ALL = 2 };

struct truth *truth_new(void);
void truth_free(struct truth *t);
struct truth_group *truth_group(struct truth *t, const char *name);
// A record was seen at this offset (answered or read). Two records at one offset is a failure.
void truth_record(struct sim *s, int32_t partition, int64_t offset, uint64_t record);
void truth_acked(struct sim *s, int32_t partition, int64_t offset, int how);
void truth_received(struct sim *s, struct truth_group *g, int32_t partition, int64_t offset);
void truth_processed(struct sim *s, struct truth_group *g, int32_t partition, int64_t offset,
                     uint32_t spell);
uint32_t truth_count(const struct buf *counts, int64_t offset);

// After an unclean end of a life: what a power cut may take is forgotten.
void truth_after_power_cut(struct sim *s);
// Is every acknowledged record and commit there, and does the ledger agree with what happened?
void truth_check(struct sim *s);
// What the ledger says of everybody, into the trace: after a failure.
void truth_dump(struct sim *s);
