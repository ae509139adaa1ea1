// Stands in until the ledger is there (its internal.h then switches this off): nothing is
// accounted. To be deleted with it.
#include "core/ledger/ledger.h"

#if !__has_include("core/ledger/internal.h")

struct ledger *ledger_new(const struct ledger_logs *logs, enum ledger_expect expect_default)
{
    (void)logs;
    (void)expect_default;
    return NULL;
}

void ledger_free(struct ledger *l)
{
    (void)l;
}

void ledger_conn_opened(struct ledger *l, struct ledger_time t, uint64_t conn,
                        const struct ledger_identity *who, struct str instance)
{
    (void)l;
    (void)t;
    (void)conn;
    (void)who;
    (void)instance;
}

void ledger_conn_closed(struct ledger *l, struct ledger_time t, uint64_t conn)
{
    (void)l;
    (void)t;
    (void)conn;
}

void ledger_own_request(struct ledger *l, struct ledger_time t, uint64_t conn, struct str group,
                        struct str member, int16_t api)
{
    (void)l;
    (void)t;
    (void)conn;
    (void)group;
    (void)member;
    (void)api;
}

void ledger_rebalance_started(struct ledger *l, struct ledger_time t, struct str group,
                              int32_t generation, enum ledger_trigger trigger, struct str member,
                              struct str reason)
{
    (void)l;
    (void)t;
    (void)group;
    (void)generation;
    (void)trigger;
    (void)member;
    (void)reason;
}

void ledger_joined(struct ledger *l, struct ledger_time t, struct str group, struct str member,
                   const struct ledger_tp *owned, size_t n_owned)
{
    (void)l;
    (void)t;
    (void)group;
    (void)member;
    (void)owned;
    (void)n_owned;
}

void ledger_generation(struct ledger *l, struct ledger_time t, struct str group, int32_t generation,
                       const struct ledger_member *members, size_t n_members)
{
    (void)l;
    (void)t;
    (void)group;
    (void)generation;
    (void)members;
    (void)n_members;
}

void ledger_member_left(struct ledger *l, struct ledger_time t, struct str group, struct str member,
                        enum ledger_left why, struct str reason)
{
    (void)l;
    (void)t;
    (void)group;
    (void)member;
    (void)why;
    (void)reason;
}

void ledger_position(struct ledger *l, struct ledger_time t, uint64_t conn, struct uuid topic_id,
                     int32_t partition, int64_t position)
{
    (void)l;
    (void)t;
    (void)conn;
    (void)topic_id;
    (void)partition;
    (void)position;
}

void ledger_sending(struct ledger *l, struct ledger_time t, uint64_t conn, struct uuid topic_id,
                    int32_t partition, struct ledger_range range, uint64_t answer)
{
    (void)l;
    (void)t;
    (void)conn;
    (void)topic_id;
    (void)partition;
    (void)range;
    (void)answer;
}

void ledger_answer_acked(struct ledger *l, uint64_t conn, uint64_t answer)
{
    (void)l;
    (void)conn;
    (void)answer;
}

void ledger_answer_cut(struct ledger *l, uint64_t conn, uint64_t answer, struct uuid topic_id,
                       int32_t partition, int64_t end)
{
    (void)l;
    (void)conn;
    (void)answer;
    (void)topic_id;
    (void)partition;
    (void)end;
}

void ledger_list_offsets(struct ledger *l, struct ledger_time t, uint64_t conn,
                         struct uuid topic_id, int32_t partition, int64_t timestamp, int64_t offset)
{
    (void)l;
    (void)t;
    (void)conn;
    (void)topic_id;
    (void)partition;
    (void)timestamp;
    (void)offset;
}

void ledger_out_of_range(struct ledger *l, struct ledger_time t, uint64_t conn,
                         struct uuid topic_id, int32_t partition, int64_t position)
{
    (void)l;
    (void)t;
    (void)conn;
    (void)topic_id;
    (void)partition;
    (void)position;
}

void ledger_overflow(struct ledger *l, struct ledger_time t, uint64_t conn)
{
    (void)l;
    (void)t;
    (void)conn;
}

void ledger_committed(struct ledger *l, struct ledger_time t, const struct ledger_commit *c)
{
    (void)l;
    (void)t;
    (void)c;
}

void ledger_commit_unanswered(struct ledger *l, struct ledger_time t, uint64_t conn,
                              uint64_t answer)
{
    (void)l;
    (void)t;
    (void)conn;
    (void)answer;
}

void ledger_commit_dropped(struct ledger *l, struct ledger_time t, const struct ledger_commit *c)
{
    (void)l;
    (void)t;
    (void)c;
}

void ledger_txn_offset(struct ledger *l, struct ledger_time t, const struct ledger_commit *c,
                       enum ledger_txn what)
{
    (void)l;
    (void)t;
    (void)c;
    (void)what;
}

void ledger_offsets_fetched(struct ledger *l, struct ledger_time t, uint64_t conn, struct str group,
                            struct str member, struct uuid topic_id, int32_t partition,
                            int64_t offset, enum kerr error)
{
    (void)l;
    (void)t;
    (void)conn;
    (void)group;
    (void)member;
    (void)topic_id;
    (void)partition;
    (void)offset;
    (void)error;
}

void ledger_offset_removed(struct ledger *l, struct ledger_time t, struct str group,
                           struct uuid topic_id, int32_t partition, enum ledger_removed why,
                           const struct ledger_identity *who)
{
    (void)l;
    (void)t;
    (void)group;
    (void)topic_id;
    (void)partition;
    (void)why;
    (void)who;
}

void ledger_group_removed(struct ledger *l, struct ledger_time t, struct str group,
                          const struct ledger_identity *who)
{
    (void)l;
    (void)t;
    (void)group;
    (void)who;
}

void ledger_topic_created(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                          struct str name, int32_t partitions)
{
    (void)l;
    (void)t;
    (void)topic_id;
    (void)name;
    (void)partitions;
}

void ledger_partitions_added(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                             int32_t partitions)
{
    (void)l;
    (void)t;
    (void)topic_id;
    (void)partitions;
}

void ledger_topic_deleted(struct ledger *l, struct ledger_time t, struct uuid topic_id)
{
    (void)l;
    (void)t;
    (void)topic_id;
}

void ledger_trimmed(struct ledger *l, struct ledger_time t, struct uuid topic_id, int32_t partition,
                    int64_t new_start, enum ledger_trim why)
{
    (void)l;
    (void)t;
    (void)topic_id;
    (void)partition;
    (void)new_start;
    (void)why;
}

void ledger_records_lost(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                         int32_t partition, struct ledger_range range)
{
    (void)l;
    (void)t;
    (void)topic_id;
    (void)partition;
    (void)range;
}

void ledger_duplicate_produced(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                               int32_t partition, int64_t first, int64_t offset, struct str proof)
{
    (void)l;
    (void)t;
    (void)topic_id;
    (void)partition;
    (void)first;
    (void)offset;
    (void)proof;
}

void ledger_lso_pinned(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                       int32_t partition, int64_t lso, int64_t since_wall_ms)
{
    (void)l;
    (void)t;
    (void)topic_id;
    (void)partition;
    (void)lso;
    (void)since_wall_ms;
}

void ledger_evidence_mode(struct ledger *l, struct str group, enum ledger_evidence kind,
                          bool control_passed)
{
    (void)l;
    (void)group;
    (void)kind;
    (void)control_passed;
}

void ledger_receipt(struct ledger *l, struct ledger_time t, struct str group, struct uuid topic_id,
                    int32_t partition, int64_t offset, struct str instance, uint32_t attempt)
{
    (void)l;
    (void)t;
    (void)group;
    (void)topic_id;
    (void)partition;
    (void)offset;
    (void)instance;
    (void)attempt;
}

void ledger_process_ended(struct ledger *l, struct ledger_time t, struct str instance, bool killed)
{
    (void)l;
    (void)t;
    (void)instance;
    (void)killed;
}

void ledger_judge(struct ledger *l, struct ledger_time t, struct str group)
{
    (void)l;
    (void)t;
    (void)group;
}

uint32_t ledger_receipts_of(const struct ledger *l, struct str group, struct uuid topic_id,
                            int32_t partition, int64_t offset)
{
    (void)l;
    (void)group;
    (void)topic_id;
    (void)partition;
    (void)offset;
    return 0;
}

void ledger_forced(struct ledger *l, struct str group, bool on)
{
    (void)l;
    (void)group;
    (void)on;
}

uint64_t ledger_next_due_ms(const struct ledger *l)
{
    (void)l;
    return UINT64_MAX;
}

void ledger_tick(struct ledger *l, struct ledger_time t)
{
    (void)l;
    (void)t;
}

size_t ledger_emit(struct ledger *l, struct effects *fx)
{
    (void)l;
    (void)fx;
    return 0;
}

void ledger_snapshot(struct ledger *l, struct effects *fx)
{
    (void)l;
    (void)fx;
}

void ledger_apply(struct ledger *l, const struct kw_message *type, const void *record)
{
    (void)l;
    (void)type;
    (void)record;
}

void ledger_set_replay(struct ledger *l, bool on)
{
    (void)l;
    (void)on;
}

void ledger_restarted(struct ledger *l, struct ledger_time t, bool clean)
{
    (void)l;
    (void)t;
    (void)clean;
}

void ledger_accounting(struct ledger *l, struct ledger_time t, bool on)
{
    (void)l;
    (void)t;
    (void)on;
}

enum ledger_expect ledger_expect(const struct ledger *l, struct str group)
{
    (void)l;
    (void)group;
    return 0;
}

void ledger_set_expect(struct ledger *l, struct str group, enum ledger_expect expect)
{
    (void)l;
    (void)group;
    (void)expect;
}

const char *ledger_expect_name(enum ledger_expect e)
{
    (void)e;
    return "";
}

bool ledger_expect_find(struct str name, enum ledger_expect *ret)
{
    (void)name;
    (void)ret;
    return false;
}

const char *ledger_state_name(enum ledger_state s)
{
    (void)s;
    return "";
}

const char *ledger_class_name(enum ledger_class c)
{
    (void)c;
    return "";
}

const char *ledger_certainty_name(enum ledger_certainty c)
{
    (void)c;
    return "";
}

const char *ledger_trigger_name(enum ledger_trigger t)
{
    (void)t;
    return "";
}

bool ledger_class_find(struct str name, enum ledger_class *ret)
{
    (void)name;
    (void)ret;
    return false;
}

bool ledger_next_group(const struct ledger *l, size_t *it, struct ledger_group_view *ret)
{
    (void)l;
    (void)it;
    (void)ret;
    return false;
}

bool ledger_next_partition(const struct ledger *l, struct str group, size_t *it,
                           struct ledger_partition_view *ret)
{
    (void)l;
    (void)group;
    (void)it;
    (void)ret;
    return false;
}

bool ledger_partition(const struct ledger *l, struct str group, struct uuid topic_id,
                      int32_t partition, struct ledger_partition_view *ret)
{
    (void)l;
    (void)group;
    (void)topic_id;
    (void)partition;
    (void)ret;
    return false;
}

bool ledger_next_incident(const struct ledger *l, struct str group, uint64_t since, size_t *it,
                          struct ledger_incident_view *ret)
{
    (void)l;
    (void)group;
    (void)since;
    (void)it;
    (void)ret;
    return false;
}

bool ledger_next_rebalance(const struct ledger *l, struct str group, size_t *it,
                           struct ledger_rebalance_view *ret)
{
    (void)l;
    (void)group;
    (void)it;
    (void)ret;
    return false;
}

enum ledger_state ledger_state_of(const struct ledger *l, struct str group, struct uuid topic_id,
                                  int32_t partition, int64_t offset, uint32_t *ret_n)
{
    (void)l;
    (void)group;
    (void)topic_id;
    (void)partition;
    (void)offset;
    (void)ret_n;
    return 0;
}

bool ledger_verify(const struct ledger *l, struct buf *ret_why)
{
    (void)l;
    (void)ret_why;
    return true;
}

void ledger_report(const struct ledger *l, const struct tally_report_request *req,
                   struct tally_report_response *ret, struct arena *a)
{
    (void)l;
    (void)req;
    (void)ret;
    (void)a;
}

#endif
