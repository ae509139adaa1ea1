#pragma once
// What really happened, as only the models know it: which record stands at which offset, who was
// sent, received and processed it, which answers were given. The checks compare it with what the
// broker and the ledger say.

#include "cells.h"
#include "sim.h"

#define TRUTH_PARTITIONS 8 // of the one topic
#define TRUTH_GROUPS 4
#define TRUTH_KEYS 50    // where the topic is compacted: a record's key is its number modulo this
#define TRUTH_COMMITS 64 // of one partition, that may be the newest

// A commit that was asked for. Which one counts is known within a network delay only.
struct truth_commit {
    uint64_t id;
    uint64_t asked_ms;
    int64_t offset; // -1: the offset was removed
    bool is_acked;
    uint64_t acked_ms; // when the answer came
};

struct truth_part {
    struct cells sent;       // in how many spells a broker's answer held it
    struct cells sent_last;  // the last of them
    struct cells received;   // times that a client's process read it off its socket
    struct cells repeated;   // times that it was worked on in another spell than the last time
    struct cells spell_last; // which spell worked on it last
    struct truth_commit commits[TRUTH_COMMITS];
    size_t n_commits;
};

struct truth_group {
    char name[16];
    // No other client of the world has the identity of one of its members: then nothing may be
    // taken for a member's that is not.
    bool is_distinct;
    // Its consumers assign() themselves: one that comes back where it stood cannot be told from one
    // that only opened another connection, so that the second time may not be counted.
    bool is_assigned;
    struct truth_part parts[TRUTH_PARTITIONS];
};

struct truth {
    struct uuid topic_id;
    int32_t n_partitions;
    struct cells records[TRUTH_PARTITIONS]; // record id by offset; 0: none seen
    struct cells acked[TRUTH_PARTITIONS];   // by offset: the acks it was answered for
    struct truth_group groups[TRUTH_GROUPS];
    uint32_t next_record;
    uint32_t next_spell;
    uint64_t next_commit;
    uint64_t n_produced;
    uint64_t n_processed;
    uint64_t n_commits;
    uint64_t n_checks;
};

enum { ACKED_LEADER = 1, ACKED_ALL = 2 };

struct truth *truth_new(void);
void truth_free(struct truth *t);
struct truth_group *truth_group(struct truth *t, const char *name);
// A record was seen at this offset (answered or read). Two records at one offset is a failure.
void truth_record(struct sim *s, int32_t partition, int64_t offset, uint32_t record);
void truth_acked(struct sim *s, int32_t partition, int64_t offset, int how);
void truth_sent(struct truth_group *g, int32_t partition, int64_t offset, uint32_t spell);
void truth_received(struct truth_group *g, int32_t partition, int64_t offset);
void truth_processed(struct sim *s, struct truth_group *g, int32_t partition, int64_t offset,
                     uint32_t spell);
// A commit was asked for: what names it when its answer comes. A refused one never was.
uint64_t truth_commit_asked(struct sim *s, struct truth_group *g, int32_t partition,
                            int64_t offset);
void truth_commit_answered(struct sim *s, struct truth_group *g, int32_t partition, uint64_t id,
                           bool is_accepted);

// After an unclean end of a life: what a power cut may take is forgotten.
void truth_after_power_cut(struct sim *s);
// Is every acknowledged record and commit there, and does the ledger agree with what happened?
void truth_check(struct sim *s);
// What the ledger says of everybody, into the trace: after a failure.
void truth_dump(struct sim *s);
