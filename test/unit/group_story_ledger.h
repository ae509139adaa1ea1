#pragma once
// A ledger that only listens: what it is told becomes lines of the story's trace, beginning with
// "#". Part of group_story.h, not to be included by itself. It must define whatever of the ledger
// the core calls, or the linker brings in the real one beside it.

struct ledger {
    bool is_replaying;
    int commits;
};

struct ledger *ledger_new(const struct ledger_logs *logs, enum ledger_expect expect_default)
{
    (void)logs;
    (void)expect_default;
    struct ledger *l = calloc(1, sizeof *l);
    assert_non_null(l);
    return l;
}
void ledger_free(struct ledger *l)
{
    free(l);
}
void ledger_set_replay(struct ledger *l, bool on)
{
    l->is_replaying = on;
}
void ledger_restarted(struct ledger *l, struct ledger_time t, bool clean)
{
    (void)l;
    (void)t;
    (void)clean;
}
void ledger_apply(struct ledger *l, const struct kw_message *type, const void *record)
{
    (void)l;
    (void)type;
    (void)record;
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
void ledger_snapshot(struct ledger *l, struct effects *fx)
{
    (void)l;
    (void)fx;
}
void ledger_topic_created(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                          struct str name, int32_t partitions)
{
    (void)l;
    (void)t;
    (void)topic_id;
    TELL("topic %.*s of %d", STR_FMT(name), partitions);
}
void ledger_partitions_added(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                             int32_t partitions)
{
    (void)l;
    (void)t;
    (void)topic_id;
    TELL("topic widened to %d", partitions);
}
void ledger_topic_deleted(struct ledger *l, struct ledger_time t, struct uuid topic_id)
{
    (void)l;
    (void)t;
    (void)topic_id;
    TELL("topic deleted");
}
void ledger_trimmed(struct ledger *l, struct ledger_time t, struct uuid topic_id, int32_t partition,
                    int64_t new_start, enum ledger_trim why)
{
    (void)l;
    (void)t;
    (void)topic_id;
    TELL("trimmed %d to %lld, %d", partition, (long long)new_start, (int)why);
}
void ledger_records_lost(struct ledger *l, struct ledger_time t, struct uuid topic_id,
                         int32_t partition, struct ledger_range range)
{
    (void)l;
    (void)t;
    (void)topic_id;
    TELL("lost %d [%lld,%lld)", partition, (long long)range.from, (long long)range.to);
}
const char *ledger_trigger_name(enum ledger_trigger t)
{
    static const char *const names[LEDGER_TRIGGER_COUNT] = {
        [LEDGER_TRIGGER_UNKNOWN] = "unknown",
        [LEDGER_TRIGGER_JOIN] = "join",
        [LEDGER_TRIGGER_LEAVE] = "leave",
        [LEDGER_TRIGGER_SESSION_TIMEOUT] = "session_timeout",
        [LEDGER_TRIGGER_POLL_TIMEOUT] = "poll_timeout",
        [LEDGER_TRIGGER_SUBSCRIPTION_CHANGE] = "subscription_change",
        [LEDGER_TRIGGER_PARTITIONS_ADDED] = "partitions_added",
        [LEDGER_TRIGGER_PARTITION_MOVED] = "partition_moved",
        [LEDGER_TRIGGER_TOPIC_DELETED] = "topic_deleted",
        [LEDGER_TRIGGER_ADMIN] = "admin",
        [LEDGER_TRIGGER_STATIC_REPLACED] = "static_replaced",
    };
    return names[t] ? names[t] : "not the group's to tell";
}
void ledger_own_request(struct ledger *l, struct ledger_time t, uint64_t conn, struct str group,
                        struct str member, int16_t api)
{
    (void)l;
    (void)t;
    (void)group;
    (void)member;
    TELL("connection %llu speaks for its member, api %d", (unsigned long long)conn, api);
}
void ledger_rebalance_started(struct ledger *l, struct ledger_time t, struct str group,
                              int32_t generation, enum ledger_trigger trigger, struct str member,
                              struct str reason)
{
    (void)l;
    (void)t;
    (void)group;
    TELL("rebalance of gen %d: %s by %s \"%.*s\"", generation, ledger_trigger_name(trigger),
         name_of(telling, member), STR_FMT(reason));
}
static const char *tps_text(const struct ledger_tp *tps, size_t n)
{
    static char text[500];
    size_t at = 0;
    text[0] = 0;
    for (size_t i = 0; i < n; i++) {
        const struct topic *topic = topics_by_id(telling->core->topics, tps[i].topic_id);
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%.*s-%d", i ? " " : "",
                               STR_FMT(topic->name), tps[i].partition);
    }
    return text;
}
void ledger_joined(struct ledger *l, struct ledger_time t, struct str group, struct str member,
                   const struct ledger_tp *owned, size_t n_owned)
{
    (void)l;
    (void)t;
    (void)group;
    TELL("joined %s owning [%s]", name_of(telling, member), tps_text(owned, n_owned));
}
void ledger_synced(struct ledger *l, struct ledger_time t, struct str group, struct str member,
                   const struct ledger_tp *assigned, size_t n_assigned)
{
    (void)l;
    (void)t;
    (void)group;
    (void)member;
    (void)assigned;
    (void)n_assigned;
}

void ledger_generation(struct ledger *l, struct ledger_time t, struct str group, int32_t generation,
                       const struct ledger_member *members, size_t n_members)
{
    (void)l;
    (void)t;
    (void)group;
    TELL("generation %d of %zu", generation, n_members);
    for (size_t i = 0; i < n_members; i++)
        TELL("  %s subscribes %.*s has [%s]", name_of(telling, members[i].member_id),
             STR_FMT(members[i].subscription),
             tps_text(members[i].assigned, members[i].n_assigned));
}
void ledger_member_left(struct ledger *l, struct ledger_time t, struct str group, struct str member,
                        enum ledger_left why, struct str reason)
{
    static const char *const names[] = {"leave", "session_timeout", "poll_timeout",
                                        "static_replaced", "removed"};
    (void)l;
    (void)t;
    (void)group;
    TELL("left %s: %s \"%.*s\"", name_of(telling, member), names[why], STR_FMT(reason));
}
void ledger_committed(struct ledger *l, struct ledger_time t, const struct ledger_commit *c)
{
    l->commits++;
    (void)t;
    TELL("committed %lld by %s gen %d%s: %s", (long long)c->offset, name_of(telling, c->member),
         c->generation, c->group_was_empty ? " into an empty group" : "", kerr_name((int)c->error));
}
void ledger_offsets_fetched(struct ledger *l, struct ledger_time t, uint64_t conn, struct str group,
                            struct str member, struct uuid topic_id, int32_t partition,
                            int64_t offset, enum kerr error)
{
    (void)l;
    (void)t;
    (void)conn;
    (void)group;
    (void)topic_id;
    TELL("offset of %d read by %s: %lld %s", partition, name_of(telling, member), (long long)offset,
         kerr_name((int)error));
}
void ledger_offset_removed(struct ledger *l, struct ledger_time t, struct str group,
                           struct uuid topic_id, int32_t partition, enum ledger_removed why,
                           const struct ledger_identity *who)
{
    (void)l;
    (void)t;
    (void)group;
    (void)topic_id;
    TELL("offset of %d removed, %s, by %.*s", partition,
         why == LEDGER_REMOVED_ADMIN ? "admin" : "expired",
         STR_FMT(who ? who->host : STR("nobody")));
}
void ledger_group_removed(struct ledger *l, struct ledger_time t, struct str group,
                          const struct ledger_identity *who)
{
    (void)l;
    (void)t;
    TELL("group %.*s removed by %.*s", STR_FMT(group), STR_FMT(who ? who->host : STR("nobody")));
}
