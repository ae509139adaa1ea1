#pragma once
// The ledger: what every consumer group was sent, what it committed, what it missed or got twice.
// Per group, topic id and partition every offset is in exactly one of nine states at every
// instant. Pure: facts come in as calls, in the order in which they happened; verdicts are read
// with the views at the end. The rules are in docs/ARCHITECTURE.md, "Ledger decisions".
//
// Who calls what:
//   broker   conn_*, own_request, topic_* and log_* (topic events, from core_apply), tick, emit
//   data     position, sending, answer_*, list_offsets, out_of_range
//   group    rebalance_started, joined, synced, generation, member_left, committed,
//   commit_answered,
//            offsets_fetched, offsets_removed, group_removed
//   drill    instance in conn_opened, evidence_mode, receipt, process_ended, judge
//
// HARD facts are in the journal and are told from core_apply, live and at start-up. SOFT facts
// (connections, fetches, refused commits) are told live only. At start-up: ledger_set_replay(on),
// then every journal record in order (our own through ledger_apply), then ledger_set_replay(off)
// and ledger_restarted(). While replaying no incident is made: incident records are the truth.
//
// A `send` must be told before its bytes are written and before any later decision is told.
// All strings are copied. Nothing here fails: every table has a named limit, and what does not
// fit becomes `unknown` or is counted, never dropped in silence. One thread.

#include "core/effects.h"
#include "schema.h"

struct ledger; // opaque; its fields live in internal.h

struct ledger_time {
    uint64_t now_ms; // monotonic
    int64_t wall_ms; // since 1970
};

// Half open: [from, to).
struct ledger_range {
    int64_t from;
    int64_t to;
};

// What the ledger asks its caller about a log. Both may be called from any ledger function.
struct ledger_logs {
    void *ctx;
    // start: first offset of the log; end: one past the last that consumers may see (the high
    // watermark). False when there is no such partition.
    bool (*bounds)(void *ctx, struct uuid topic_id, int32_t partition, struct ledger_range *ret);
    // How many offsets of the range are no data: control, aborted, compacted or never used.
    // NULL: none are.
    int64_t (*not_data)(void *ctx, struct uuid topic_id, int32_t partition,
                        struct ledger_range range);
};

enum ledger_expect {
    LEDGER_AT_LEAST_ONCE,
    LEDGER_AT_MOST_ONCE,
    LEDGER_EXACTLY_ONCE,
};

struct ledger *ledger_new(const struct ledger_logs *logs, enum ledger_expect expect_default);
void ledger_free(struct ledger *l); // NULL is fine

// ---- Connections (soft; broker)

struct ledger_identity {
    struct str principal;
    struct str host;      // "/127.0.0.1": the address without the port
    struct str client_id; // as in the last request header
    struct str software;  // "apache-kafka-java 4.3.1", or ""
};

// A connection made its first request that names a client. `instance` is the drill copy whose own
// listener it came in by, "" when there is none. Call again when client.id or software turn out
// to be others: the last call holds.
void ledger_conn_opened(struct ledger *l, struct ledger_time t, uint64_t conn,
                        const struct ledger_identity *who, struct str instance);
// After ledger_answer_acked/cut for what is known of its last answers.
void ledger_conn_closed(struct ledger *l, struct ledger_time t, uint64_t conn);
// The connection made one of a group's own requests: JoinGroup, SyncGroup, Heartbeat, LeaveGroup,
// or OffsetCommit/OffsetFetch with a member id. Call before the request is decided (JoinGroup
// without a member id: when the id is given out). api is API_HEARTBEAT and so on.
void ledger_own_request(struct ledger *l, struct ledger_time t, uint64_t conn, struct str group,
                        struct str member, int16_t api);

// ---- Group life (group). A generation is hard, told from core_apply; the rest is soft: a restart
// goes back to the generation in force, and who left it since is a member again.

enum ledger_trigger {
    LEDGER_TRIGGER_UNKNOWN,
    LEDGER_TRIGGER_JOIN,
    LEDGER_TRIGGER_LEAVE,
    LEDGER_TRIGGER_SESSION_TIMEOUT,
    LEDGER_TRIGGER_POLL_TIMEOUT,
    LEDGER_TRIGGER_DISCONNECT, // derived here: session timeout after all connections had closed
    LEDGER_TRIGGER_SUBSCRIPTION_CHANGE,
    LEDGER_TRIGGER_PARTITIONS_ADDED,
    LEDGER_TRIGGER_PARTITION_MOVED,
    LEDGER_TRIGGER_TOPIC_DELETED,
    LEDGER_TRIGGER_ADMIN,
    LEDGER_TRIGGER_STATIC_REPLACED,
    LEDGER_TRIGGER_COMMIT_ERROR,
    LEDGER_TRIGGER_BROKER_RESTART,
    LEDGER_TRIGGER_COUNT,
};

struct ledger_tp {
    struct uuid topic_id;
    int32_t partition;
};

struct ledger_member {
    struct str member_id;
    struct str instance_id; // null for a dynamic member
    struct ledger_identity who;
    int32_t session_timeout_ms;
    int32_t rebalance_timeout_ms;
    // The topics it subscribes to, sorted and joined by ','; "" when not known. Members that
    // differ make `mixed_group` likely.
    struct str subscription;
    const struct ledger_tp *assigned; // decoded from its SyncGroup assignment
    size_t n_assigned;
};

// The group left Stable: a rebalance began. member, reason (KIP-800, word for word): STR_NULL when
// not known. Called once a rebalance; the first trigger holds.
void ledger_rebalance_started(struct ledger *l, struct ledger_time t, struct str group,
                              int32_t generation, enum ledger_trigger trigger, struct str member,
                              struct str reason);
// A JoinGroup of a member was taken; owned is its subscription's OwnedPartitions: empty for an
// eager member, which by joining gives everything up. What is missing in it is no longer its.
void ledger_joined(struct ledger *l, struct ledger_time t, struct str group, struct str member,
                   const struct ledger_tp *owned, size_t n_owned);
// A member was handed its part of the generation in force, once more: it had given it up and came
// back, or the rebalance that it had joined did not outlive the broker.
void ledger_synced(struct ledger *l, struct ledger_time t, struct str group, struct str member,
                   const struct ledger_tp *assigned, size_t n_assigned);
// A generation is in force (the leader's assignment arrived, or the group became empty, n_members
// 0). Members of the former generation that are not in it are gone. A partition that a member has
// no longer is `revoking` until its next join, its end, or another's spell of it.
void ledger_generation(struct ledger *l, struct ledger_time t, struct str group, int32_t generation,
                       const struct ledger_member *members, size_t n_members);

enum ledger_left {
    LEDGER_LEFT_LEAVE, // LeaveGroup by the member itself
    LEDGER_LEFT_SESSION_TIMEOUT,
    LEDGER_LEFT_POLL_TIMEOUT, // rebalance timeout, or LeaveGroup saying so
    LEDGER_LEFT_STATIC_REPLACED,
    LEDGER_LEFT_REMOVED, // by an administrator
};

// The member is out of the group. reason as in the request, or STR_NULL. Call it at once, not
// only with the next generation, and before ledger_rebalance_started.
void ledger_member_left(struct ledger *l, struct ledger_time t, struct str group, struct str member,
                        enum ledger_left why, struct str reason);

// ---- Data (soft; data)

// A Fetch asked for offset P of a partition. Before the answer is looked for.
void ledger_position(struct ledger *l, struct ledger_time t, uint64_t conn, struct uuid topic_id,
                     int32_t partition, int64_t position);
// An answer that holds [range) of the partition is about to be written. answer numbers the
// answers of a connection, rising. Offsets below the P of this fetch are not counted.
void ledger_sending(struct ledger *l, struct ledger_time t, uint64_t conn, struct uuid topic_id,
                    int32_t partition, struct ledger_range range, uint64_t answer);
// The other kernel has acknowledged all answers up to this one (TCP_INFO bytes_acked, looked up
// when the connection ends, at the latest before ledger_conn_closed).
void ledger_answer_acked(struct ledger *l, uint64_t conn, uint64_t answer);
// The answer was cut: of this partition nothing at or beyond `end` was written.
void ledger_answer_cut(struct ledger *l, uint64_t conn, uint64_t answer, struct uuid topic_id,
                       int32_t partition, int64_t end);
// ListOffsets answered `offset` for the timestamp asked (-1 latest, -2 earliest, or a time).
void ledger_list_offsets(struct ledger *l, struct ledger_time t, uint64_t conn,
                         struct uuid topic_id, int32_t partition, int64_t timestamp,
                         int64_t offset);
// A Fetch at P was answered OFFSET_OUT_OF_RANGE. After ledger_position of the same P.
void ledger_out_of_range(struct ledger *l, struct ledger_time t, uint64_t conn,
                         struct uuid topic_id, int32_t partition, int64_t position);
// Observations were lost (a ring ran over): what was sent on the connection from here on, or to
// anybody when conn is 0, is not known.
void ledger_overflow(struct ledger *l, struct ledger_time t, uint64_t conn);

// ---- Offsets (group)

struct ledger_commit {
    uint64_t conn; // 0 while replaying
    struct str group;
    struct str member;          // "" when nobody's membership stands behind it
    struct ledger_identity who; // of the request
    int32_t generation;         // -1 without membership
    bool group_was_empty;       // no members, or no such group
    struct uuid topic_id;
    int32_t partition;
    int64_t offset;  // K
    enum kerr error; // KERR_NONE: accepted
    uint64_t answer; // names the answer for ledger_commit_answered; 0: not watched
};

// Accepted: hard, from core_apply. Refused: soft, when it is refused.
void ledger_committed(struct ledger *l, struct ledger_time t, const struct ledger_commit *c);
// The answer could not be written: the connection had ended.
void ledger_commit_unanswered(struct ledger *l, struct ledger_time t, uint64_t conn,
                              uint64_t answer);
// A commit was received and not applied (held, dropped by a drill or by a broken connection).
void ledger_commit_dropped(struct ledger *l, struct ledger_time t, const struct ledger_commit *c);
// TxnOffsetCommit and the marker that settles it. Soft until transactions are built.
enum ledger_txn {
    LEDGER_TXN_PENDING,
    LEDGER_TXN_APPLIED,
    LEDGER_TXN_DROPPED,
};
void ledger_txn_offset(struct ledger *l, struct ledger_time t, const struct ledger_commit *c,
                       enum ledger_txn what);
// OffsetFetch answered: offset -1 is "none". member "" when the request named none. Soft.
void ledger_offsets_fetched(struct ledger *l, struct ledger_time t, uint64_t conn, struct str group,
                            struct str member, struct uuid topic_id, int32_t partition,
                            int64_t offset, enum kerr error);

enum ledger_removed {
    LEDGER_REMOVED_ADMIN, // OffsetDelete
    LEDGER_REMOVED_EXPIRED,
};
// A committed offset is gone while the group stays. who: NULL for expiry. Hard.
void ledger_offset_removed(struct ledger *l, struct ledger_time t, struct str group,
                           struct uuid topic_id, int32_t partition, enum ledger_removed why,
                           const struct ledger_identity *who);
// The group and all its offsets are gone. who: NULL when it expired. Hard.
void ledger_group_removed(struct ledger *l, struct ledger_time t, struct str group,
                          const struct ledger_identity *who);

// ---- Topics and logs (hard, from core_apply; broker)

void ledger_topic_created(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                          struct str name, int32_t partitions);
void ledger_partitions_added(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                             int32_t partitions); // the new total
void ledger_topic_deleted(struct ledger *l, struct ledger_time t, struct uuid topic_id);

enum ledger_trim {
    LEDGER_TRIM_RETENTION,
    LEDGER_TRIM_DELETE_RECORDS,
    LEDGER_TRIM_LOST, // a power cut: records acknowledged with acks=1 are gone
};
// The log starts at new_start now. Before the records are gone: bounds() and not_data() still
// answer for them. Never called with LEDGER_TRIM_LOST.
void ledger_trimmed(struct ledger *l, struct ledger_time t, struct uuid topic_id, int32_t partition,
                    int64_t new_start, enum ledger_trim why);
// Records of [range) that consumers may have seen are gone for good; offsets go on beyond it.
void ledger_records_lost(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                         int32_t partition, struct ledger_range range);
// The same record stands at `offset` and at `first`: the producer's doing.
void ledger_duplicate_produced(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                               int32_t partition, int64_t first, int64_t offset, struct str proof);
// An open transaction holds the last stable offset at lso since since_wall_ms.
void ledger_lso_pinned(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                       int32_t partition, int64_t lso, int64_t since_wall_ms);

// ---- Evidence of processing (soft; drill)

enum ledger_evidence {
    LEDGER_EVIDENCE_NONE,
    LEDGER_EVIDENCE_STDOUT,
    LEDGER_EVIDENCE_HTTP,
    LEDGER_EVIDENCE_TOPIC,
    LEDGER_EVIDENCE_SQL,
};
// From now on receipts of this kind are what counts as processed in the group.
void ledger_evidence_mode(struct ledger *l, struct str group, enum ledger_evidence kind,
                          bool control_passed);
// The record was processed by this copy. Idempotent by (instance, attempt).
void ledger_receipt(struct ledger *l, struct ledger_time t, struct str group, struct uuid topic_id,
                    int32_t partition, int64_t offset, struct str instance, uint32_t attempt);
// A copy ended: killed, or by itself.
void ledger_process_ended(struct ledger *l, struct ledger_time t, struct str instance, bool killed);
// The group has settled and all evidence is in: opens the incidents that receipts prove (missed
// by receipts, repeated). May be called again as evidence grows.
void ledger_judge(struct ledger *l, struct ledger_time t, struct str group);
// Times that each offset of the range was processed by receipts: 0, 1, 2 ...
uint32_t ledger_receipts_of(const struct ledger *l, struct str group, struct uuid topic_id,
                            int32_t partition, int64_t offset);
// What the drill does to the group from now on is its own doing: incidents say `forced`.
void ledger_forced(struct ledger *l, struct str group, bool on);

// ---- Time, journal, restart (broker)

uint64_t ledger_next_due_ms(const struct ledger *l); // UINT64_MAX: nothing waits
void ledger_tick(struct ledger *l, struct ledger_time t);

// Writes a journal record for every incident, rebalance and expectation that changed since the
// last call. Call it once a loop, after the decisions. Returns how many.
size_t ledger_emit(struct ledger *l, struct effects *fx);
// Writes what else has changed, soft facts above all: at a clean stop, and now and then so that
// less is unknown after a crash. Each record says the whole of its thing, so they may be cut into
// several batches.
void ledger_save(struct ledger *l, struct effects *fx);
// Writes records that restore everything, with the journal's snapshot.
void ledger_snapshot(struct ledger *l, struct effects *fx);
// Records 60-99. A no-op unless replaying: live, the ledger has told them itself.
void ledger_apply(struct ledger *l, const struct kw_message *type, const void *record);
void ledger_set_replay(struct ledger *l, bool on);
// Start-up is over and the logs are open. clean: the broker had stopped in order, after a
// snapshot. Connections of before are gone; spells, members and generations live on.
void ledger_restarted(struct ledger *l, struct ledger_time t, bool clean);
// Accounting was switched off or on again: what happens in between is unknown.
void ledger_accounting(struct ledger *l, struct ledger_time t, bool on);

// ---- Expectation

enum ledger_expect ledger_expect(const struct ledger *l, struct str group);
void ledger_set_expect(struct ledger *l, struct str group, enum ledger_expect expect);
const char *ledger_expect_name(enum ledger_expect e); // "at-least-once"
bool ledger_expect_find(struct str name, enum ledger_expect *ret);

// ---- Views. Valid until the next call that is not const. Iteration in order of first mention.

enum ledger_state {
    LEDGER_WAITING,
    LEDGER_IN_FLIGHT,
    LEDGER_RETURNED,
    LEDGER_COMMITTED,
    LEDGER_SKIPPED,
    LEDGER_EXPIRED,
    LEDGER_ABANDONED,
    LEDGER_UNKNOWN,
    LEDGER_NOT_DATA,
    LEDGER_STATES,
};
const char *ledger_state_name(enum ledger_state s); // "in_flight"

struct ledger_partition_view {
    struct uuid topic_id;
    struct str topic;
    int32_t partition;
    int64_t log_start;
    int64_t first;
    int64_t end;
    int64_t committed_offset;     // -1: none
    int64_t state[LEDGER_STATES]; // add up to end - first
    int64_t resent;
    struct str owner; // member id, or null
};

enum ledger_class {
    LEDGER_MISSED,
    LEDGER_REPEATED,
    LEDGER_RESENT,
    LEDGER_RISK,
    LEDGER_STALLED,
    LEDGER_NOTE,
};
enum ledger_certainty {
    LEDGER_POSSIBLE,
    LEDGER_LIKELY,
    LEDGER_CERTAIN,
};
const char *ledger_class_name(enum ledger_class c);
const char *ledger_certainty_name(enum ledger_certainty c);
const char *ledger_trigger_name(enum ledger_trigger t);
bool ledger_class_find(struct str name, enum ledger_class *ret);

struct ledger_party {
    struct str member; // null: nobody
    struct str client_id;
    struct str host;
    struct str software;
};

struct ledger_proof {
    int64_t wall_ms;
    const char *api; // "OffsetCommit"
    struct str summary;
};

struct ledger_incident_view {
    uint64_t id;
    uint64_t version; // rises with every change of any incident; for --follow
    int64_t wall_ms;
    struct str group;
    struct uuid topic_id;
    struct str topic;
    int32_t partition;      // -1: the group as a whole
    int64_t first;          // -1 for a group as a whole
    int64_t last;           // inclusive
    int64_t records;        // data records among them: an upper bound for `resent`
    int64_t likely_at_most; // -1: null
    enum ledger_class class;
    enum ledger_certainty certainty;
    enum ledger_certainty attribution;
    enum cause cause;
    uint64_t contributing; // bit 1 << cause
    enum ledger_trigger trigger;
    uint64_t rebalance; // 0: none
    struct ledger_party from;
    struct ledger_party to;
    const struct ledger_proof *evidence;
    size_t n_evidence;
    struct str advice;
    bool quiet;  // shown only when asked for
    bool forced; // a drill's act
    bool closed;
    bool resolved; // missed records were sent after all
};

struct ledger_handover_view {
    struct uuid topic_id;
    struct str topic;
    int32_t partition;
    struct str from; // member id, or null
    struct str to;
    int64_t pause_ms; // last record sent before to first after; -1: not known
    int64_t resent;
};

struct ledger_rebalance_view {
    uint64_t id;
    struct str group;
    int64_t wall_ms;
    int64_t ended_wall_ms; // -1: under way
    int32_t from_generation;
    int32_t to_generation; // -1: under way
    enum ledger_trigger trigger;
    struct str member;
    struct str reason;
    struct str waited_for; // the member that joined last, or null
    bool forced;
    const struct ledger_handover_view *partitions;
    size_t n_partitions;
};

struct ledger_group_view {
    struct str group;
    enum ledger_expect expect;
    size_t n_members;
};

// for (size_t it = 0; ledger_next_group(l, &it, &g);) ...
bool ledger_next_group(const struct ledger *l, size_t *it, struct ledger_group_view *ret);
bool ledger_next_partition(const struct ledger *l, struct str group, size_t *it,
                           struct ledger_partition_view *ret);
bool ledger_partition(const struct ledger *l, struct str group, struct uuid topic_id,
                      int32_t partition, struct ledger_partition_view *ret);
// group null: of all groups. In order of id, those changed after version `since` (0: all).
bool ledger_next_incident(const struct ledger *l, struct str group, uint64_t since, size_t *it,
                          struct ledger_incident_view *ret);
bool ledger_next_rebalance(const struct ledger *l, struct str group, size_t *it,
                           struct ledger_rebalance_view *ret);
// The state of one offset, and in how many spells it was sent (at most 3 is told apart).
enum ledger_state ledger_state_of(const struct ledger *l, struct str group, struct uuid topic_id,
                                  int32_t partition, int64_t offset, uint32_t *ret_n);
// Is that number all there was? False where a crash, an overflow or two that cannot be told apart
// leave it a lower bound, and for what has folded.
bool ledger_is_covered(const struct ledger *l, struct str group, struct uuid topic_id,
                       int32_t partition, int64_t offset);
// The same of a whole range with equal facts: [offset, until). Gaps in it are not told apart.
struct ledger_stretch {
    int64_t until; // INT64_MAX: no end
    enum ledger_state state;
    uint32_t n;
    bool is_covered;
};
// False when nothing is kept of that offset: accounting has not begun there, or it has folded.
bool ledger_stretch(const struct ledger *l, struct str group, struct uuid topic_id,
                    int32_t partition, int64_t offset, struct ledger_stretch *ret);
// Do the states of every partition add up? False with the first that does not in *ret_why.
bool ledger_verify(const struct ledger *l, struct buf *ret_why);

// ---- The private report API (schema/tally_report.kw)

// Fills the response. Its strings are copies in the arena. Does not fill a group's protocol and
// state: the caller does (groups[i].protocol, groups[i].state), "" until then.
void ledger_report(const struct ledger *l, const struct tally_report_request *req,
                   struct tally_report_response *ret, struct arena *a);
