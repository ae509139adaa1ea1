#pragma once
// Consumer groups of the classic protocol and their committed offsets, as Apache Kafka 4 decides
// them. One function per API; each answers asker->token with effects_reply(), at once or (only
// JoinGroup and SyncGroup) later, from another member's request, from core_tick() or from
// core_conn_closed().
//
// Hard state, changed by groups_apply() only: the last stable generation with its members and
// assignments, committed offsets, the removal of a group. Everything about joining (who waits,
// pending members, the coming generation's number) is soft: a crash in the middle of a rebalance
// leaves the last stable generation, as Kafka's does.
//
// The ledger is told everything from here: also ledger_own_request() for each request that names
// a member. The shell tells it of connections, fetches and what became of an answer.

#include "core/core.h"
#include "schema.h"

// Limits of ours, beyond Kafka's settings: what a client can make us keep is bounded.
enum {
    // Ids given out and not yet used (KIP-394), per group: each lives one session timeout.
    GROUP_PENDING_MAX = 10000,
    // Group metadata of one member in one JoinGroup, all protocols together. Kafka's own bound
    // is that the whole group fits one record of 1 MiB.
    GROUP_MEMBER_METADATA_MAX_BYTES = 1 << 20,
    GROUP_PROTOCOLS_MAX = 100,        // protocols one member may offer; clients offer 1 to 4
    GROUP_RECORD_MAX_BYTES = 8 << 20, // one generation with all members, in one record
    // What one OffsetCommit, OffsetDelete or DeleteGroups puts into the journal: well below what
    // a batch of it may hold, though a request may be larger.
    GROUP_DECISION_MAX_BYTES = 16 << 20,
    // A group costs about 1 KiB, and anybody can make one by naming it. Beyond this many a new one
    // is refused with POLICY_VIOLATION: a client says so, where a retriable error would only hang.
    GROUPS_MAX = 200000,
};

struct groups *groups_new(void);
void groups_free(struct core *c); // and takes their timers from the core's heap

void group_join(struct core *c, const struct asker *who, const struct join_group_request *req,
                struct effects *fx);
void group_sync(struct core *c, const struct asker *who, const struct sync_group_request *req,
                struct effects *fx);
void group_heartbeat(struct core *c, const struct asker *who, const struct heartbeat_request *req,
                     struct effects *fx);
void group_leave(struct core *c, const struct asker *who, const struct leave_group_request *req,
                 struct effects *fx);
void group_describe(struct core *c, const struct asker *who,
                    const struct describe_groups_request *req, struct effects *fx);
void group_list(struct core *c, const struct asker *who, const struct list_groups_request *req,
                struct effects *fx);
void group_delete(struct core *c, const struct asker *who, const struct delete_groups_request *req,
                  struct effects *fx);

void offsets_commit(struct core *c, const struct asker *who,
                    const struct offset_commit_request *req, struct effects *fx);
void offsets_fetch(struct core *c, const struct asker *who, const struct offset_fetch_request *req,
                   struct effects *fx);
void offsets_delete(struct core *c, const struct asker *who,
                    const struct offset_delete_request *req, struct effects *fx);

// A drill's act: puts the member out now, as if its session (or its max.poll.interval.ms) had
// ended. Nothing is replied to the asker.
enum kerr group_evict(struct core *c, const struct asker *who, struct str group, struct str member,
                      bool is_poll_timeout, struct effects *fx);

// For the core's assembly, tests and reports.

bool groups_apply(struct core *c, const struct kw_message *type, const void *record);
void groups_topic_removed(struct core *c, struct uuid topic_id); // from apply: its offsets go too
void groups_restore_done(struct core *c, uint64_t now_ms);
void groups_timer(struct core *c, struct core_timer *timer, uint64_t now_ms, int64_t wall_ms,
                  struct effects *fx);
void groups_conn_closed(struct core *c, uint64_t conn);
// The member was kept waiting by us for a part of its session: it begins anew.
void group_answered_late(struct core *c, struct str group, struct str member, uint64_t now_ms);
void groups_snapshot(const struct core *c, struct effects *fx);

// What a report shows of one group. Valid until the next decision.
struct group_view {
    struct str group_id;
    struct str state; // "Stable"
    struct str protocol_type;
    struct str protocol_name; // "" while there is none
    int32_t generation;
    size_t n_members;
    size_t n_offsets;
};
size_t groups_count(const struct core *c);
bool groups_next(const struct core *c, size_t *it, struct group_view *ret); // *it starts at 0
bool groups_find(const struct core *c, struct str group_id, struct group_view *ret);
// The committed offset, or -1.
int64_t group_committed(const struct core *c, struct str group_id, struct uuid topic_id,
                        int32_t partition);
