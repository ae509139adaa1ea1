#pragma once
// The inside of the group coordinator; for src/core/group and src/core/offsets*.c only.

#include "base/list.h"
#include "base/map.h"
#include "core/group/group.h"
#include "core/ledger/ledger.h"

enum group_state {
    GROUP_EMPTY,
    GROUP_PREPARING,
    GROUP_COMPLETING,
    GROUP_STABLE,
};

// One entry into the coordinator: a request (who is set), or a timer.
struct turn {
    struct core *core;
    const struct asker *who; // NULL for a timer
    struct effects *fx;
    uint64_t now_ms;
    int64_t wall_ms;
};

// A request that waits for others. A connection waits for one request at a time.
struct parked {
    bool waits;
    uint64_t token; // 0: its connection is gone, but the member goes on waiting
    uint64_t conn;
    int16_t version;
};

struct protocol {
    struct str name;
    struct bytes metadata;
};

struct member {
    struct group *group;
    struct list node; // of group->members, in order of joining
    struct str id;
    struct str instance_id; // null: dynamic
    struct str client_id;
    struct str host;
    struct str principal;
    struct str software;
    int32_t session_timeout_ms;
    int32_t rebalance_timeout_ms;
    struct protocol *protocols; // one block with what it points to
    int32_t n_protocols;
    struct bytes assignment;
    struct bytes given; // borrowed: the leader's assignment, while its SyncGroup is decided
    bool is_new;        // has not been through a join phase yet: may expire while it waits
    bool is_pending_sync;
    struct parked join;
    struct parked sync;
    struct core_timer session;
};

// A member id that was given out with MEMBER_ID_REQUIRED (KIP-394).
struct pending {
    struct group *group;
    struct str id;
    struct core_timer timer;
};

struct group {
    struct str id;
    enum group_state state;
    enum group_state previous; // before the current one: EMPTY makes a join phase the initial one
    int32_t generation;        // soft while it is not the one in `stable`
    struct str protocol_type;  // null: a simple group, nobody ever joined
    struct str protocol_name;
    int64_t state_wall_ms; // of the last hard change
    struct member *leader;
    struct list members;
    size_t n_members;
    size_t n_awaiting_join;
    size_t n_pending_sync; // members that are
    struct map *by_id;
    struct map *by_instance;
    struct map *supported; // protocol name -> how many members offer it
    struct map *pending;
    struct map *subscribed; // topic names; NULL: not known
    size_t partitions_seen; // of the subscribed topics when the generation was made
    size_t topics_seen;

    struct core_timer join_timer;
    bool is_initial; // the join timer is that of an initial rebalance
    bool new_member_added;
    int32_t delay_ms;
    int32_t remaining_ms;
    struct core_timer sync_timer;

    struct map *offsets; // topic id -> struct topic_offsets
    size_t n_offsets;
    struct bytes stable; // the last group_generation record, encoded; the hard state
};

struct groups {
    struct map *by_id;
    struct map *parked;    // connection -> struct parked
    struct arena *scratch; // for decoding; reset after each use
    // The commit being decided, for the ledger when its record is applied right after.
    uint64_t commit_conn;
    uint64_t commit_token;
};

struct topic_offsets {
    struct uuid topic_id;
    struct map *partitions; // int32 -> struct committed
};

struct committed {
    int32_t partition;
    int32_t leader_epoch;
    int64_t offset;
    int64_t commit_ms;
    int64_t expire_ms; // -1: by the general rule
    int32_t metadata_len;
    char metadata[];
};

struct str str_own(struct str s); // copy; null stays null
void str_release(struct str *s);  // frees and makes it null
struct bytes bytes_own(struct bytes b);
void bytes_release(struct bytes *b);

struct turn turn_of(struct core *c, const struct asker *who, struct effects *fx);
struct ledger_time turn_time(const struct turn *t);
struct ledger_identity identity_of(const struct asker *who);
// Tells the ledger that this connection speaks for the member; an empty id says nothing.
void turn_own_request(const struct turn *t, struct str group, struct str member, int16_t api);

struct group *groups_get(const struct core *c, struct str id); // NULL: none
struct group *groups_make(struct core *c, struct str id);
void groups_drop(struct core *c, struct group *g); // frees it and all it has

struct member *group_member(const struct group *g, struct str id);
struct member *group_static_member(const struct group *g, struct str instance_id);
struct pending *group_pending(const struct group *g, struct str id);
struct pending *group_pending_add(struct group *g, struct str id);
void group_pending_drop(struct core *c, struct pending *p);
// KERR_NONE, KERR_UNKNOWN_MEMBER_ID or KERR_FENCED_INSTANCE_ID.
enum kerr group_check_member(const struct group *g, struct str id, struct str instance_id);
struct member *group_add_member(struct group *g, struct str id, struct str instance_id,
                                const struct ledger_identity *who);
void group_rename_member(struct group *g, struct member *m, struct str id);
void member_set_identity(struct member *m, const struct ledger_identity *who);
// Takes it out of the group and frees it; whoever waits for it must have been answered.
void group_remove_member(struct core *c, struct member *m);
// Replaces what the member offers. Of protocols with the same name the first counts.
void member_set_protocols(struct member *m, const struct protocol *protocols, int32_t n);
bool member_matches(const struct member *m, const struct protocol *protocols, int32_t n);
struct bytes member_metadata(const struct member *m, struct str protocol); // "" when it has none
void member_set_assignment(struct member *m, struct bytes assignment);
void member_touch(const struct turn *t, struct member *m); // its session begins anew

bool group_supports(const struct group *g, struct str type, const struct protocol *protocols,
                    int32_t n);
struct str group_select_protocol(const struct group *g); // borrowed from a member
int32_t group_rebalance_timeout_ms(const struct group *g);
bool group_all_joined(const struct group *g);
void group_find_subscribed(struct core *c, struct group *g);
bool group_is_subscribed(const struct group *g, struct str topic);
bool group_is_consumer(const struct group *g);
// How many topics and partitions there are of those that are subscribed.
void group_count_partitions(const struct core *c, const struct group *g, size_t *ret_topics,
                            size_t *ret_partitions);
// About how large the record of its present members and assignments is.
size_t group_record_size(const struct group *g);
struct str group_state_name(const struct group *g);

// Waiting and answering.
void parked_set(struct core *c, struct parked *p, const struct asker *who);
void parked_clear(struct core *c, struct parked *p);
void join_reply_error(const struct turn *t, uint64_t token, int16_t version, struct str member,
                      enum kerr error);
void join_finish_error(const struct turn *t, struct member *m, struct str member, enum kerr error);
// The member joined the current generation; the leader's answer lists all members.
// Returns what was replied, for the caller to alter; NULL when nobody waits any more.
struct join_group_response *join_reply_current(const struct turn *t, uint64_t token,
                                               int16_t version, const struct member *m,
                                               bool with_members);
void sync_finish_error(const struct turn *t, struct member *m, enum kerr error);

// Why a rebalance starts, for the ledger.
struct rebalance_cause {
    enum ledger_trigger trigger;
    struct str member;
    struct str reason; // the client's, word for word, or null
};

void rebalance_prepare(const struct turn *t, struct group *g, const struct rebalance_cause *why);
// Starts one where the state allows it, else completes the join phase when all are there.
void rebalance_maybe(const struct turn *t, struct group *g, const struct rebalance_cause *why);
void rebalance_maybe_complete(const struct turn *t, struct group *g);
void rebalance_complete(const struct turn *t, struct group *g);
void rebalance_initial_timer(const struct turn *t, struct group *g);
void rebalance_sync_timer(const struct turn *t, struct group *g);
void rebalance_member_silent(const struct turn *t, struct member *m);
void rebalance_pending_silent(const struct turn *t, struct pending *p);
void rebalance_sync_received(const struct turn *t, struct member *m);
// Emits the record that puts the present members into force with m->given, or (when keep is set)
// with the assignments they have.
void rebalance_emit(const struct turn *t, struct group *g, bool keep);

void ledger_tell_left(const struct turn *t, const struct member *m, enum ledger_left why,
                      struct str reason);
// Decodes names into ids for the ledger; the result is in the arena.
struct ledger_tp *consumer_owned(const struct core *c, struct bytes subscription, struct arena *a,
                                 size_t *ret_n);
struct ledger_tp *consumer_assigned(const struct core *c, struct bytes assignment, struct arena *a,
                                    size_t *ret_n);
// The topics subscribed to, sorted and joined by ','; "" when unknown.
struct str consumer_topics(struct bytes subscription, struct arena *a);

// In the records offsets_removed and group_removed.
enum {
    OFFSETS_REMOVED_BY_ADMIN = 1,
    OFFSETS_EXPIRED = 2,
    GROUP_REMOVED_BY_ADMIN = 1,
    GROUP_EXPIRED = 2,
};

// src/core/offsets.c
void offsets_free(struct group *g);
struct committed *offsets_get(const struct group *g, struct uuid topic_id, int32_t partition);
void offsets_remove(struct group *g, struct uuid topic_id, int32_t partition);
void offsets_remove_topic(struct group *g, struct uuid topic_id);
void offsets_apply_committed(struct core *c, const struct offsets_committed_record *r);
void offsets_apply_removed(struct core *c, const struct offsets_removed_record *r);
void offsets_snapshot(const struct core *c, const struct group *g, struct effects *fx);
// src/core/offsets_expiry.c
enum {
    // A batch of the journal stays small: what is left expires a moment later.
    EXPIRY_RECORDS_MAX = 1000,
};
// Emits what has expired. True when there is more to do at once.
bool offsets_expire(struct core *c, int64_t wall_ms, struct effects *fx);
