#pragma once
// The ledger's own structs, shared by its files and by nobody else.

#include "base/list.h"
#include "base/map.h"
#include "core/ledger/ledger.h"

enum ledger_limits {
    // Runs kept for one partition of a group; older ones fold into counters. A healthy partition
    // has one to three; a hundred handovers with gaps still fit.
    RUNS_MAX = 256,
    // Ended spells kept for one partition: who had it is told for that many handovers.
    SPELLS_MAX = 32,
    // Ended members kept for one group, so that their late fetches and commits are told apart.
    MEMBERS_ENDED_MAX = 64,
    // Identities that a group has had, for coverage. Beyond it every identity is one.
    IDENTITIES_MAX = 256,
    // Ranges kept for one connection and partition that is bound to nobody.
    KEPT_MAX = 16,
    RECENT_MAX = 16,      // incidents of one partition that may still grow
    PROOFS_MAX = 8,       // requests that prove one incident
    PARTY_NAME_MAX = 300, // bytes of each name of a party to an incident
    REBALANCES_MAX = 256, // of one group
    INCIDENTS_MAX = 100000,
    PARTITIONS_MAX = 1 << 20, // of one topic: what a damaged record may not exceed
    // A record sent in that many spells while K stands still is a loop: three sends are still two
    // unlucky restarts.
    LOOP_SENDS = 4,
    LOOP_FETCHES = 8, // of the same position by one member, answers taken, K fixed
    // A connection that has not asked for that long may have been given up by its client, which
    // goes on by another. Longer than any usual fetch.max.wait.ms.
    TAKEOVER_MS = 30000,
    STALL_CHECK_MS = 1000,
    STALL_DEFAULT_MS = 300000, // an owner whose rebalance timeout is not known
    STORM_WINDOW_MS = 60000,
    STORM_REBALANCES = 10, // forced ones; joins and leaves are deployments
};

enum run_flags {
    RUN_INCOMPLETE = 1, // coverage: it may have been sent more often than n says
    RUN_EXPIRED = 2,
    RUN_ABANDONED = 4,
    RUN_GONE = 8, // lost with the power: no answer that spans it holds it
    // Last sent to an owner whose part had ended: never in n, but not "never sent" either, nor is n
    // all that there was.
    RUN_LATE = 16,
    // K had passed it before K went back: to pass it again without work loses nothing.
    RUN_PASSED = 32,
    // Its owner asked for it again, so it has it no more, and was told OFFSET_OUT_OF_RANGE.
    RUN_THROWN = 64,
};

// [from, next run's from); the last one has no end. Equal neighbours are merged.
struct run {
    int64_t from;
    uint32_t spell; // the last spell it was sent in; 0: none
    uint32_t prev;  // the one before that, so that a cut answer can be taken back
    uint8_t n;
    uint8_t flags;
    uint8_t taken; // flags that its last send took from it: with that they are taken back
};

enum spell_start {
    START_NONE,         // nothing fetched yet
    START_OFFSET_FETCH, // where OffsetFetch pointed, or within [K, sent end]
    START_LISTED,       // ListOffsets, after "no offset"
    START_LISTED_RANGE, // ListOffsets, after OFFSET_OUT_OF_RANGE
    START_EXTERNAL,     // nothing we know of gave it
    START_SOUGHT,       // ListOffsets, though there was an offset: the application's own wish
    START_CARRIED,      // where it was in the topic of that name that was deleted
};

enum spell_life {
    SPELL_OPEN,
    SPELL_REVOKING, // no longer assigned, not yet given back
    SPELL_ENDED,
};

struct spell {
    uint32_t id;               // rising within its partition
    struct member *member;     // NULL once forgotten, or for a manual owner
    struct ledger_party party; // owned
    struct str principal;      // owned
    enum spell_life life;
    enum spell_start start;
    bool manual;
    bool orderly;      // ended by LeaveGroup or a revoke the member took part in
    bool final_commit; // accepted inside the revoke exchange
    bool ack_final;    // its connection is closed: acked_end is all there will be
    bool live;         // all that it was sent was told: false after a restart that lost some
    bool stood;        // it had ended when it was saved, under a generation that stood on
    enum ledger_certainty attribution;
    enum ledger_trigger end_trigger;
    uint64_t began_ms;
    uint64_t ended_ms;
    uint64_t fetched_ms; // last Fetch
    int64_t first_p;     // -1: nothing fetched
    int64_t position;    // last P; -1
    int64_t sent_end;    // highest end sent; -1
    int64_t acked_end;
    int64_t confirmed_end;
    int64_t k_begin;       // K when it began; -1
    int64_t k_end;         // K when it ended; -1
    int64_t k_before_last; // K before its last accepted commit; -1
    int64_t last_commit;   // -1
    int64_t commit_step;   // largest between two accepted commits; -1 with fewer than two
    uint64_t commit_ms;
    uint64_t commit_conn; // and answer: of its last commit, until it is known to have arrived
    uint64_t commit_answer;
    int64_t commit_wall_ms;
    int64_t refused_k; // highest K refused for being out of date; -1
    int64_t refused_wall_ms;
    enum kerr refused_error;
    int64_t lost_k;           // highest K received and not applied; -1
    struct ledger_range zone; // what it may have been sent before a crash; empty when settled
    uint64_t conn;            // the connection bound to it; 0
    uint64_t rebalance;       // that began it; 0
    int32_t mark;             // the generation that assigned it last
    int64_t rewound_to;       // where it went back to by itself, below K; -1
    int64_t rewound_k;        // K then
    bool sent_any;
    bool watched; // an incident rests on what it received
};

// A mark left by K going back: what is re-sent within, if first sent before it, is its doing.
struct k_mark {
    struct ledger_range range;
    enum cause cause;
    uint32_t last_spell;
    struct ledger_proof proof; // summary owned
};

struct counters {
    int64_t state[LEDGER_STATES];
    int64_t resent;
};

struct tp;

// One partition of one group: what all this is about.
struct gp {
    struct group *group;
    struct tp *tp;
    int64_t first; // -1: accounting has not begun
    int64_t base;  // runs begin here; below it the counters hold
    int64_t k;     // -1: none
    int64_t ahead; // K passed offsets from here on before they were there; -1: it did not
    bool k_external;
    bool k_txn_only;  // K was never moved but by transactions
    bool begun;       // accounting began and the journal does not know yet
    struct run *runs; // owned
    size_t n_runs;
    size_t cap_runs;
    struct counters folded;
    struct spell **spells; // owned, in order of id; open ones and the last ended
    size_t n_spells;
    uint32_t next_spell;
    struct k_mark altered;
    struct k_mark regressed;
    struct ledger_range late; // sent late to late_spell after it had ended
    uint32_t late_spell;
    bool late_asked;           // after the end; else it was all on its way when the spell ended
    struct ledger_range early; // may have been sent before accounting began, or began lower
    int64_t asked;             // last OffsetFetch answer: -1 none, -2 never asked, -3 error
    uint64_t moved_ms;         // K or the sent end moved last
    uint64_t sent_ms;          // last send to an owner
    struct receipts *receipts; // NULL until there is one
    struct incident *recent[RECENT_MAX]; // newest first
    int64_t missed_end;                  // beyond it nothing is said to be missed
};

struct tp {
    struct topic *topic;
    int32_t partition;
    int64_t created_wall_ms;
    bool added; // by CreatePartitions
    bool trim_admin;
    struct gp **gps; // owned array
    size_t n_gps;
    struct feed **feeds;
    size_t n_feeds;
    // Within it records may have been sent to connections of which it never came out whose they
    // were: closed ones, and all those of before a restart.
    struct ledger_range unowned;
};

struct topic {
    struct uuid id;
    struct str name; // owned
    bool deleted;
    struct tp **tps; // by partition
    int32_t n_tps;
};

struct conn {
    uint64_t id;
    uint64_t opened_ms;
    struct ledger_identity who; // owned
    struct str instance;        // owned
    struct member *own;         // whose own requests it carries
    bool own_mixed;             // more than one member's
    struct member *bound;       // whose data connection it is
    enum ledger_certainty grade;
    struct map *feeds; // by topic id and partition
};

struct sent_answer {
    uint64_t answer;
    struct ledger_range range;
    struct ledger_range fresh; // the first part of it that the spell had not been sent before
};

enum feed_kind {
    FEED_UNBOUND,
    FEED_BOUND,
    FEED_LATE,
};

// One partition fetched on one connection.
struct feed {
    struct conn *conn;
    struct tp *tp;
    enum feed_kind kind;
    struct gp *gp;
    uint32_t spell;
    uint64_t version; // of the bindings when this was resolved
    int64_t position;
    int64_t first_p; // of what is kept
    uint64_t position_ms;
    uint64_t first_ms;
    int64_t listed[2]; // ListOffsets' last answers: some clients ask for both ends; -1
    bool out_of_range;
    struct ledger_range kept[KEPT_MAX];
    size_t n_kept;
    struct sent_answer last[4]; // sends whose fate is open, newest first
    uint32_t repeats;           // the same P again with something sent in between
    int64_t repeat_k;
    bool sent_since;
};

struct member {
    struct group *group;
    struct str id; // owned
    struct str instance_id;
    struct ledger_identity who; // owned
    struct str subscription;
    struct str instance; // drill copy
    int32_t session_timeout_ms;
    int32_t rebalance_timeout_ms;
    bool live;
    bool in_generation;
    bool joined_now; // in the rebalance under way
    struct member *successor;
    uint64_t seen_ms;      // last own request
    uint64_t heartbeat_ms; // last Heartbeat or Join
    uint64_t heartbeat_gap_ms;
    uint64_t poll_gap_ms; // between two fetches
    uint64_t joined_ms;
    uint64_t born_ms; // it was first heard of; 0: before a restart
    uint64_t commit_gap_ms;
    uint32_t n_conns; // open connections known to be its
    uint32_t n_own;   // those of them that carry its own requests
    bool had_conn;
    enum ledger_trigger left;
};

struct group {
    struct ledger *l;
    struct str name; // owned
    enum ledger_expect expect;
    bool expect_set;
    bool expect_dirty;
    size_t n_incidents; // of all kept
    bool forced;
    bool removed;
    int32_t generation;
    bool rebalancing;
    enum ledger_evidence evidence;
    bool control_passed;
    struct member **members; // owned
    size_t n_members;
    struct map *by_id; // the same by member id
    struct gp **gps;   // owned
    size_t n_gps;
    struct ledger_identity *identities; // owned
    size_t n_identities;
    bool all_identities;
    struct topic_seen *seen; // first position in each topic
    size_t n_seen;
    struct rebalance **rebalances;
    size_t n_rebalances;
    struct rebalance *now;
    struct incident *recent[RECENT_MAX]; // of the group as a whole
    struct ledger_trigger_note {
        enum ledger_trigger trigger;
        uint64_t rebalance;
    } last;
};

struct topic_seen {
    struct topic *topic;
    int64_t wall_ms;
};

struct handover {
    struct tp *tp;
    struct gp *gp;
    uint32_t spell;
    struct str from; // owned
    struct str to;
    uint64_t last_before_ms; // 0: nothing was sent before
    int64_t pause_ms;
    int64_t resent;
};

struct rebalance {
    uint64_t id;
    struct group *group;
    int64_t wall_ms;
    uint64_t began_ms;
    int64_t ended_wall_ms;
    int32_t from_generation;
    int32_t to_generation;
    enum ledger_trigger trigger;
    struct str member;
    struct str reason;
    struct str waited_for;
    bool forced;
    bool stuck_told;
    bool dirty;
    struct handover *parts;
    size_t n_parts;
};

struct incident {
    struct ledger_incident_view v; // strings, proofs and advice owned; version and so on live here
    struct group *group;
    struct gp *gp;             // NULL: the group as a whole
    int64_t k;                 // K when it was last extended
    uint32_t sends;            // spells that got it while K stood there
    enum ledger_certainty cap; // at most this
    uint32_t from_spell;
    uint32_t to_spell;
    struct ledger_range part; // of its range, what these two were both sent
    int64_t emitted_records;  // 0: never journaled
    int emitted_class;
    enum ledger_certainty emitted_certainty;
    bool emitted_closed;
    bool emitted_resolved;
    bool dirty; // stands in the ledger's list
    struct ledger_proof proofs[PROOFS_MAX];
};

struct ledger {
    struct ledger_logs logs;
    enum ledger_expect expect_default;
    struct map *groups;
    struct map *topics;
    struct topic **former; // the deleted ones of them
    size_t n_former;
    struct map *conns;
    struct incident **incidents;
    size_t n_incidents;
    size_t cap_incidents;
    uint64_t next_incident;
    uint64_t next_rebalance;
    uint64_t version;
    uint64_t bindings; // rises when an owner, an own connection or a spell changes
    uint64_t checked_ms;
    struct ledger_time now;
    bool replay;
    bool off;
    struct conn *last_conn;  // the hot path asks for the same connection again and again
    struct map *processes;   // drill copies that were killed
    struct incident **dirty; // changed since they were journaled
    size_t n_dirty;
    bool rebalances_dirty;
    bool expects_dirty;
    bool any_begun;
    struct ledger_handover_view *parts; // laid out for ledger_next_rebalance
    size_t parts_room;
    bool restored; // a snapshot was read
};

// ledger.c
struct str keep(struct str s); // owned copy
void drop(struct str *s);
struct ledger_identity keep_identity(const struct ledger_identity *who);
void drop_identity(struct ledger_identity *who);
bool same_identity(const struct ledger_identity *a, const struct ledger_identity *b);
struct group *find_group(const struct ledger *l, struct str name);
struct group *get_group(struct ledger *l, struct str name);
void group_forget(struct ledger *l, struct group *g); // unless there is something to tell of it
void topic_forget(struct ledger *l, struct topic *t);
struct topic *get_topic(struct ledger *l, struct uuid id);
void topic_deleted(struct ledger *l, struct topic *t);
void seen_stop(struct group *g); // accounting stops, unless somebody is left to account for
bool topic_was(const struct topic *former, const struct topic *t); // deleted, of the same name
struct tp *find_tp(const struct ledger *l, struct uuid id, int32_t partition);
struct tp *get_tp(struct ledger *l, struct uuid id, int32_t partition);
struct gp *find_gp(const struct group *g, const struct tp *tp);
struct gp *get_gp(struct group *g, struct tp *tp);
struct member *find_member(const struct group *g, struct str id);
struct member *get_member(struct group *g, struct str id);
struct conn *find_conn(const struct ledger *l, uint64_t id);
void group_had_identity(struct group *g, const struct ledger_identity *who);
bool group_knows(const struct group *g, const struct ledger_identity *who);
struct ledger_range log_bounds(const struct gp *gp);
int64_t data_in(const struct gp *gp, int64_t from, int64_t to); // data records of [from, to)
void *more(void *items, size_t n, size_t size);                 // room for one more
void gp_free(struct gp *gp);

// runs.c
void gp_begin(struct gp *gp, int64_t first); // accounting begins, or begins lower
size_t run_at(const struct gp *gp, int64_t offset);
int64_t run_end(const struct gp *gp, size_t i);
void run_split(struct gp *gp, int64_t at);
void runs_merge(struct gp *gp);
enum ledger_state run_state(const struct gp *gp, const struct run *r);
bool run_abandon(const struct gp *gp, struct run *r); // it is gone: true if that gave it up
void runs_flag(struct gp *gp, int64_t from, int64_t to, uint8_t flag, bool unsent_only);
void runs_expire(struct gp *gp, int64_t from, int64_t to); // what was never sent
void runs_passed(struct gp *gp, int64_t from, int64_t to); // K goes back over what was sent
void runs_thrown(struct gp *gp, const struct spell *s, int64_t from); // what it was sent from there
void gp_uncover(struct gp *gp, int64_t from, int64_t to); // coverage of it is incomplete
void runs_count(const struct gp *gp, struct ledger_partition_view *ret);
void runs_fold(struct gp *gp);
int64_t runs_sent_end(const struct gp *gp);
bool spell_is_open(const struct gp *gp, uint32_t id);

// spell.c
struct spell *find_spell(const struct gp *gp, uint32_t id);
struct spell *spell_of(const struct gp *gp, const struct member *m); // open or revoking
struct spell *open_spell(const struct gp *gp);                       // the last one begun
struct spell *spell_begin(struct gp *gp, struct member *m);
void spell_end(struct gp *gp, struct spell *s, enum ledger_trigger why, bool orderly);
void spell_send(struct gp *gp, struct spell *s, int64_t from, int64_t to);
struct ledger_range spell_fresh(const struct gp *gp, const struct spell *s, struct ledger_range r);
void spell_unsend(struct gp *gp, struct spell *s, int64_t from, int64_t to);
void spell_position(struct gp *gp, struct spell *s, const struct feed *f, int64_t p);
void spell_free(struct spell *s);
struct spell *spell_add(struct gp *gp);
void gp_first(struct gp *gp, int64_t at);
void group_saw(struct group *g, struct topic *t); // had a position in it, now or before
enum ledger_certainty spell_delivery(const struct spell *s, int64_t from, int64_t to);
bool spell_was_reset(const struct spell *s); // it began where the log or a former topic said
enum cause spell_start_cause(const struct spell *s); // of its beginning elsewhere than at K

// binding.c
void feed_resolve(struct ledger *l, struct feed *f, int64_t p);
struct feed *find_feed(const struct conn *c, const struct tp *tp);
struct feed *get_feed(struct conn *c, struct tp *tp);
bool feed_was_told(const struct feed *f, int64_t p); // by ListOffsets
void feed_free(struct feed *f);
bool manual_bind(struct gp *gp, const struct ledger_commit *c);
// What this identity was sent and nobody is known to have may be the group's, and so may [from, K)
// of a group that never had members.
// What may have been sent to readers of the group that nobody knows of. by: who passed it, or NULL.
void gp_uncover_unowned(struct gp *gp, const struct spell *by, int64_t from, int64_t to);
void tp_unowned(struct tp *tp, struct ledger_range r);
void manual_unsure(struct gp *gp, const struct ledger_commit *c, int64_t from);
void conn_name_member(struct conn *c, struct member *m);

// incident.c
struct incident *incident_open(struct group *g, struct gp *gp, enum ledger_class class,
                               enum cause cause, int64_t from, int64_t to, uint32_t from_spell,
                               uint32_t to_spell);
void incident_touch(struct incident *i);
void incident_parties(struct incident *i);
void incidents_recheck(struct gp *gp, uint32_t spell);
struct incident *incident_add(struct group *g, struct gp *gp);
void party_set(struct ledger_party *to, const struct ledger_party *from);
void incident_prove(struct incident *i, const char *api, int64_t wall_ms, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void incident_advise(struct incident *i);
void incident_free(struct incident *i);
void incidents_passed(struct gp *gp);                   // K moved
void incidents_spell_ended(struct gp *gp, uint32_t id); // its spell ended
// Records that were sent to nobody before were sent to this owner after all.
void incidents_sent(struct gp *gp, const struct spell *s, int64_t from, int64_t to);
void incidents_doubt(struct gp *gp, int64_t from, int64_t to);  // they may have been
void incidents_unsent(struct gp *gp, int64_t from, int64_t to); // that was taken back

// judge.c
void judge_resend(struct gp *gp, struct spell *to, const struct run *was, int64_t from,
                  int64_t end);
void judge_late(struct gp *gp, struct spell *to, int64_t from, int64_t end);
// was: K before; -1.
void judge_passed(struct gp *gp, struct spell *by, int64_t was, int64_t from, int64_t to,
                  bool altered, const struct ledger_commit *c);
void judge_spell_end(struct gp *gp, struct spell *s);
void judge_trim(struct gp *gp, int64_t from, int64_t to, enum ledger_trim why);

// rebalance.c
void rebalance_begin(struct group *g, int32_t generation, enum ledger_trigger trigger,
                     struct str member, struct str reason);
void rebalance_end(struct group *g, int32_t generation);
void rebalance_handover(struct gp *gp, struct spell *to);
void rebalance_first_send(struct gp *gp, struct spell *s);
void rebalance_resent(struct gp *gp, const struct spell *s, int64_t records);
struct rebalance *rebalance_add(struct group *g);
void rebalance_free(struct rebalance *r);
void rebalance_touch(struct rebalance *r);

// receipt.c
void receipts_free(struct receipts *r);
