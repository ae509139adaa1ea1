#pragma once
// The inside of one run, shared by run.c (its course), crew.c (copies), watch.c (what the broker
// tells), steps.c (triggers and acts), verdict.c. Not for others.

#include "drill/copy.h"
#include "drill/drill.h"
#include "drill/stage.h"

#define RUN_MAX_SLOTS BOOK_MAX_INSTANCES // copies a drill may have, those it starts itself too
#define RUN_MAX_MEMBERS 16               // consumers within one process
#define RUN_MAX_HELD 64                  // one a connection that commits
#define RUN_MAX_CRASHES 10               // a supervisor gives up on what dies all the time
#define RUN_STOP_MS 10000                // from SIGTERM to SIGKILL, as containers are stopped
#define RUN_UNBUFFER                                                                               \
    "a pipe in the command makes most programs do that: stdbuf -oL, PYTHONUNBUFFERED=1, or flush " \
    "each line"
#define RUN_REBALANCE_DELAY "500" // ms: all copies of the start in one generation

// Where a copy runs: its listener stays, processes come and go.
struct slot {
    int instance; // from 1
    int listener;
    char address[32];
    struct copy *copy; // NULL: nothing runs
    int attempts;
    int crashes;
    bool is_wanted;                      // to be kept running
    bool has_asked;                      // any request came from it
    struct str members[RUN_MAX_MEMBERS]; // owned
    size_t n_members;
    int connections;
    bool commit_in_flight; // asked, not yet decided
    int refresh_left;      // Fetches that are still answered with NOT_LEADER_OR_FOLLOWER
    uint64_t rejoin_at_ms; // from then on a heartbeat is told to rejoin, once; 0: not
    uint64_t last_line_ms;
    uint64_t ended_ms; // when its process ended; its members may still be in the group
    int64_t worked;    // lines that were evidence
    char *last_line;   // owned; NULL: it was empty, or no evidence
    bool last_was_odd;
};

// Commits of the request that is looked at.
struct run_commit {
    int32_t partition;
    int64_t k;
};

struct run {
    const struct drill_options *o;
    const struct drill_script *script; // NULL: control
    struct drill_result *result;
    char *why; // why it could not run
    char *dir;
    char *topic;
    char *group;      // as told to the copies
    char *real_group; // as they joined; NULL: none joined yet
    struct uuid topic_id;
    struct stage *stage;
    struct book *book;
    struct copy_plan plan;
    struct slot slots[RUN_MAX_SLOTS];
    int n_slots;
    int members_per_copy;
    uint64_t deadline_ms;
    uint64_t began_ms;

    bool feeds;         // records flow
    uint64_t feed_at;   // place in the feed
    uint64_t fed_ms;    // when last
    bool feed_is_empty; // the file has no more
    int32_t next_partition;
    uint64_t rate_ms; // of the measurement of work
    int64_t rate_worked;
    int64_t backlog; // records to keep before the consumers

    bool holds_commits;
    bool looks_ahead;    // the next commit's sender is stopped at once
    struct slot *chance; // whose commit is looked at
    uint64_t chance_conn;
    struct run_commit commits[64];
    size_t n_commits;
    bool chance_is_decided;
    uint64_t held[RUN_MAX_HELD];
    size_t n_held;
    uint64_t commits_seen; // accepted ones
    int64_t refused_seen;

    struct slot *target;
    bool is_closing;
    bool has_settled;
    bool is_doubtful;       // the evidence turned out not to bear a verdict
    int64_t err_lines;      // of standard error that name records
    int64_t mixed_lines;    // two writers wrote into one another's lines
    char *gave_up;          // on a copy that dies all the time: why it failed; owned
    char *odd_line;         // the first of a form that is not known from the control pass; owned
    int64_t late_shown;     // control: shown only when the copies were stopped
    bool is_cut;            // control: output that stops in the middle of a line
    int cut_looks;          // at a copy whose output was cut in the middle of a line
    bool tolerates_exit;    // copies end by themselves without being started again
    char *other_topic;      // one the command asked for, not ours
    uint64_t requests[128]; // by api, for "what was seen"
    uint64_t evidence_ms;   // when the database was last read
    uint64_t evidence_pause_ms;
    uint64_t last_worked_ms;
    uint64_t slowest_ms; // between two pieces of work of a copy that had work
    uint64_t last_commit_ms;
    uint64_t commit_gap_ms; // the longest between two commits of one partition, while fed
    uint64_t progress_ms;
    const char *doing; // for progress
    bool progress_shown;
};

// run.c
int run_fail(struct run *r, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void run_act(struct run *r, const char *act, const struct slot *target);
// One pass: loop, output of copies, feeding. -errno, -EINTR, or why is set.
MUST_USE int run_pump(struct run *r, int timeout_ms);
typedef bool run_cond(struct run *r);
// 1 when it holds, 0 after the deadline (monotonic ms), or negative.
MUST_USE int run_until(struct run *r, run_cond *cond, uint64_t deadline_ms);
MUST_USE int run_append(struct run *r, int32_t partition, size_t n);
MUST_USE int run_read_evidence(struct run *r); // a database; -EBUSY when it is locked
struct ledger *run_ledger(struct run *r);
struct ledger_time run_time(struct run *r);

// crew.c
MUST_USE int crew_add(struct run *r, struct slot **ret_slot); // a slot with a listener
MUST_USE int crew_start(struct run *r, struct slot *s);       // a process in it
MUST_USE int crew_read(struct run *r);                        // output and ends of all
MUST_USE int crew_kill(struct run *r, struct slot *s, bool evicts);
MUST_USE int crew_stop(struct run *r, struct slot *s); // SIGTERM, waits, SIGKILL
MUST_USE int crew_stop_all(struct run *r);
void crew_free(struct run *r);
void crew_evict(struct run *r, struct slot *s, enum tap_eviction how);
struct slot *crew_by_listener(struct run *r, int listener);
struct slot *crew_by_instance(struct run *r, int instance);
int crew_wanted(const struct run *r);
// The record was worked on, for the ledger. Nothing while the group is not known.
void crew_tell_receipt(struct run *r, int instance, int attempt, int32_t partition, int64_t offset);
bool crew_is_stable(struct run *r);
bool crew_is_empty(struct run *r);
// What was seen of a start that never became stable; owned.
char *crew_story(struct run *r);

// watch.c
void watch_begin(struct run *r);
void watch_release_held(struct run *r);

// steps.c
MUST_USE int steps_play(struct run *r); // 0, or negative; inconclusive is set in the result

// verdict.c
void verdict_reach(struct run *r);
