#pragma once
// The assembly of the pure core: topics, configs, groups with their offsets, and the ledger, with
// one heap of timers. It reads no clock, socket, file or random number.
//
// The way of every change:
//   decide   a request (or a timer, or a closed connection) goes in; records and replies come
//            out in `struct effects`. Soft state (who waits, timers) may change here.
//   journal  the shell appends all records of the decision as one batch.
//   apply    core_apply() for each of them, in order, before anything else enters the core.
//   reply    the replies leave when the journal is synced up to that batch.
// Start-up is the same core_apply() over the journal, then core_replayed(), then (the logs are
// opened, which may decide something new) core_restore_done().

#include "base/heap.h"
#include "core/effects.h"

struct configs;
struct groups;
struct ledger;
struct ledger_logs;
struct topics;

// The settings the group coordinator depends on, resolved from the broker's own (core_config).
struct core_config {
    int32_t group_min_session_timeout_ms;
    int32_t group_max_session_timeout_ms;
    int32_t group_initial_rebalance_delay_ms;
    int32_t group_max_size;
    int32_t offset_metadata_max_bytes;
    int64_t offsets_retention_ms; // offsets.retention.minutes
    int64_t offsets_retention_check_interval_ms;
};

enum core_timer_kind {
    TIMER_OFFSETS_EXPIRY, // core
    TIMER_GROUP_JOIN,     // struct group: the join phase ends
    TIMER_GROUP_SYNC,     // struct group: members that sent no SyncGroup are put out
    TIMER_MEMBER_SESSION, // struct member
    TIMER_MEMBER_PENDING, // struct pending: an id given out and not used
};

// Stands inside its owner; the kind tells which.
struct core_timer {
    struct timer node;
    enum core_timer_kind kind;
};

struct core {
    struct topics *topics; // owned
    struct groups *groups; // owned
    struct ledger *ledger; // owned
    struct heap timers;    // of struct core_timer
    struct core_timer expiry;
    struct core_config config; // cached for config_version; read it with core_config()
    uint64_t config_version;
    bool is_replaying;
    uint64_t now_ms; // of the latest entry: what the ledger is told from core_apply()
};

// What the core borrows from the shell.
struct core_needs {
    const struct configs *fixed;    // the broker's own settings; may be NULL (all defaults)
    const struct ledger_logs *logs; // how the ledger looks at a log; outlives the core
    int expect_default;             // enum ledger_expect
};

// Starts as one that replays: core_apply() for each journal record, then core_replayed(),
// core_restore_done().
struct core *core_new(const struct core_needs *needs);
void core_free(struct core *c); // NULL is fine

// The present values; valid until the next record is applied.
const struct core_config *core_config(struct core *c);

// Applies one journal record: the only way hard state changes. Tells the ledger what it must know
// of it (topics, logs, generations, offsets). Records of types that the core does not know are
// not its own and are left alone.
void core_apply(struct core *c, const struct kw_message *type, const void *record);
// The journal is at its end: what is applied from here on is new, and its verdicts as well.
void core_replayed(struct core *c);
// After the replay of the journal, the logs being open: session and expiry timers start afresh,
// now. clean: the broker had stopped in order (see ledger_restarted).
void core_restore_done(struct core *c, uint64_t now_ms, int64_t wall_ms, bool clean);

// When the next timer is due at the earliest, the ledger's among them; UINT64_MAX when none is set.
// A session that was renewed may show its former end until then, or until it is settled.
uint64_t core_next_due_ms(const struct core *c);
void core_settle_timers(struct core *c, uint64_t now_ms);
// Fires exactly one due timer. False when none was due (and nothing was done). The caller
// commits the effects, then calls again.
bool core_tick(struct core *c, uint64_t now_ms, int64_t wall_ms, struct effects *fx);

// The connection is gone: its parked requests will not be answered (their tokens are forgotten).
// A member that waits in a join stays in it, as in Kafka: its session timer starts when the join
// phase ends. The ledger is told by the shell, which knows what was acknowledged.
void core_conn_closed(struct core *c, uint64_t conn);

// Emits records that rebuild the hard state in an empty core, for the journal's snapshot.
void core_snapshot(const struct core *c, struct effects *fx);
// Equal for equal hard state, whatever order of events led to it: replayed state equals live
// state. Soft state has no part in it.
uint64_t core_digest(const struct core *c);
