#pragma once
// The records of one run and what became of each: how often it was worked on by evidence, where
// the committed offset stood, whom it was sent to. Offsets of a partition are dense from 0: the
// drill made the topic and is its only producer.

#include "base/buf.h"
#include "base/bytes.h"
#include "base/check.h"

#define BOOK_MAX_INSTANCES 32 // numbered from 1

struct book;

struct book_record {
    struct str key;  // owned; null: none
    uint32_t times;  // worked on
    uint32_t after;  // of these, in the closing restart
    uint32_t odd;    // of these, by lines of a form that is not known from the control pass
    int32_t sent_to; // instance that got it last; 0: never sent
    uint32_t sends;
    bool sent_to_killed;  // that copy was killed with no evidence of this record
    int32_t below_to;     // instance that began anew here although a higher offset was committed
    uint32_t below_times; // worked on by then
    bool below_k;         // and was worked on again there
    bool excused;         // the drill's own act took it away
};

struct book_partition {
    struct book_record *records; // owned, by offset
    int64_t n;
    int64_t start;      // of the log: trimmed below
    int64_t k;          // committed offset; -1: none
    int64_t k_max;      // the highest since the drill last moved it
    int64_t sent_end;   // highest offset sent to anybody, exclusive
    int64_t gap;        // the first offset not worked on (a hint: none is below it)
    int32_t owner;      // instance it was sent to last; 0: nobody
    int32_t fetcher;    // instance that asked last; 0: nobody since book_forget_fetchers()
    int64_t fetched_at; // the offset it asked for
    int64_t jumped_to;  // it asked for this, beyond what was ever sent: what is below is skipped
    uint64_t commit_ms; // when the last of the consumer came; 0: none
    // Behind what each instance's process was sent last; 0: nothing yet. Who goes on from there was
    // not told by a committed offset to begin there.
    int64_t next[BOOK_MAX_INSTANCES];
};

struct book_spot {
    int32_t partition;
    int64_t offset;
};

struct book *book_new(const char *topic);
void book_free(struct book *b); // NULL is fine

void book_set_partitions(struct book *b, int32_t n); // more, never fewer
int32_t book_partitions(const struct book *b);
struct book_partition *book_partition(struct book *b, int32_t partition);
const char *book_topic(const struct book *b);

// A record was appended. key NULL: none. A key that is there already is no evidence from now on.
void book_add(struct book *b, int32_t partition, struct bytes key);
// The next record that will be appended has this key: known before anybody can report it.
void book_forbid_key(struct book *b, struct bytes key); // occurs more than once in the input
bool book_find_key(const struct book *b, struct str key, struct book_spot *ret_spot);
bool book_has(const struct book *b, int32_t partition, int64_t offset);

enum book_how { BOOK_PLAIN = 0, BOOK_CLOSING = 1, BOOK_ODD = 2 }; // bits
// instance 0: not known.
void book_worked(struct book *b, struct book_spot at, int32_t instance, unsigned how);
void book_clear_worked(struct book *b);              // evidence that is read anew as a whole
int64_t book_gap(struct book *b, int32_t partition); // first offset not worked on nor excused
int64_t book_worked_total(const struct book *b);     // records worked on at least once
int64_t book_records_total(const struct book *b);    // excused ones too
// Records worked on at or beyond the committed offset.
int64_t book_beyond_commit(struct book *b, int32_t partition);

void book_committed(struct book *b, int32_t partition, int64_t k);
// The drill itself moves the committed offset: no later send counts as below it; what is jumped
// over forward is excused.
void book_moved(struct book *b, int32_t partition, int64_t k);
void book_asked(struct book *b, int32_t partition, int64_t offset); // a Fetch at this offset
void book_sent(struct book *b, int32_t partition, int64_t from, int64_t end, int32_t instance);
void book_trimmed(struct book *b, int32_t partition, int64_t start);
void book_killed(struct book *b, int32_t instance);
void book_started(struct book *b, int32_t instance); // a new process: it goes on from nowhere
void book_forget_fetchers(struct book *b);
void book_forget_fetcher(struct book *b, int32_t instance);
