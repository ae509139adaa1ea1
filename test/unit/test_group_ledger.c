// What the ledger is told of a group's life, and in which order.

#include "group_story.h"

#define STORY(name)                                                                                \
    static void name##_told(struct story *s);                                                      \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        struct story *s = story_new(NULL, NULL);                                                   \
        s->with_ledger = true;                                                                     \
        name##_told(s);                                                                            \
        story_free(s);                                                                             \
    }                                                                                              \
    static void name##_told(struct story *s)

static void two_stable(struct story *s)
{
    play(s, "join a; join b; run 6s; sync b; sync a give=a:t-0,t-1/b:t-2,t-3");
    forget_trace(s);
}

STORY(a_group_comes_together)
{
    play(s, "join a reason=first_start; run 3s; sync a give=a:t-0,t-1");
    EXPECT(s, "[0] # connection 1 speaks for its member, api 11\n"
              "[0] # connection 1 speaks for its member, api 11\n"
              "[0] # joined a owning []\n"
              "[0] # rebalance of gen 0: join by a \"first start\"\n"
              "[3] a: gen 1 range leader a of a\n"
              "[3] # connection 1 speaks for its member, api 14\n"
              "[3] # generation 1 of 1\n"
              "[3] #   a subscribes t has [t-0 t-1]\n"
              "[3] a: gets t-0 t-1\n");
}

STORY(a_cooperative_member_keeps_what_it_owns)
{
    two_stable(s);
    play(s, "join c; join b owned=t-2,t-3; join a owned=t-0,t-1");
    EXPECT(s, "[6] # connection 3 speaks for its member, api 11\n"
              "[6] # connection 3 speaks for its member, api 11\n"
              "[6] # joined c owning []\n"
              "[6] # rebalance of gen 1: join by c \"\"\n"
              "[6] # connection 2 speaks for its member, api 11\n"
              "[6] # joined b owning [t-2 t-3]\n"
              "[6] # connection 1 speaks for its member, api 11\n"
              "[6] # joined a owning [t-0 t-1]\n"
              "[6] a: gen 2 range leader a of a b c\n"
              "[6] b: gen 2 range leader a\n"
              "[6] c: gen 2 range leader a\n");
    play(s, "sync a give=a:t-0/b:t-2,t-3; sync b; sync c");
    forget_trace(s);
    // The second step: a gave t-1 up.
    play(s, "join a owned=t-0");
    EXPECT(s, "[6] # connection 1 speaks for its member, api 11\n"
              "[6] # joined a owning [t-0]\n"
              "[6] # rebalance of gen 2: partition_moved by a \"\"\n");
}

STORY(a_join_again_is_told)
{
    two_stable(s);
    play(s, "join b");
    EXPECT(s, "[6] # connection 2 speaks for its member, api 11\n"
              "[6] # joined b owning []\n"
              "[6] b: gen 1 range leader a\n");
}

static void trigger_is(struct story *s, const char *script, const char *wanted)
{
    two_stable(s);
    play(s, script);
    char *all = arena_printf(s->keep, "%.*s", (int)s->trace.len, (const char *)s->trace.ptr);
    char *line = strstr(all, "rebalance of gen");
    assert_non_null(line);
    line[strcspn(line, "\n")] = 0;
    assert_string_equal(line, wanted);
    forget_trace(s);
}

STORY(a_leave_is_told_with_its_reason)
{
    trigger_is(s, "leave a reason=the_consumer_is_being_closed",
               "rebalance of gen 1: leave by a \"the consumer is being closed\"");
}

STORY(a_leave_is_told_before_the_rebalance)
{
    two_stable(s);
    play(s, "leave b reason=bye");
    EXPECT(s, "[6] # connection 2 speaks for its member, api 13\n"
              "[6] # left b: leave \"bye\"\n"
              "[6] # rebalance of gen 1: leave by b \"bye\"\n"
              "[6] b: leave NONE NONE\n");
}

STORY(a_slow_member_that_says_so_is_a_poll_timeout)
{
    trigger_is(s, "leave b reason=consumer_poll_timeout_has_expired.",
               "rebalance of gen 1: poll_timeout by b \"consumer poll timeout has expired.\"");
}

STORY(a_removal_by_an_admin_client_is_the_admins)
{
    trigger_is(s, "leave b reason=member_was_removed_by_an_admin:_upgrade",
               "rebalance of gen 1: admin by b \"member was removed by an admin: upgrade\"");
}

STORY(silence_is_a_session_timeout)
{
    two_stable(s);
    play(s, "run 9s; beat a; run 1s");
    EXPECT(s, "[15] # connection 1 speaks for its member, api 12\n"
              "[15] a: beat NONE\n"
              "[16] # left b: session_timeout \"\"\n"
              "[16] # rebalance of gen 1: session_timeout by b \"\"\n");
}

STORY(who_did_not_rejoin_timed_out)
{
    play(s, "join a session=90; join b session=90; run 6s; sync b; sync a give=a:t-0/b:t-1; join "
            "c; join a");
    forget_trace(s);
    play(s, "run 60s");
    EXPECT(s, "[66] # left b: poll_timeout \"\"\n"
              "[66] a: gen 2 range leader a of a c\n"
              "[66] c: gen 2 range leader a\n");
}

STORY(other_topics_are_a_subscription_change)
{
    trigger_is(s, "join b topics=t,u", "rebalance of gen 1: subscription_change by b \"\"");
}

STORY(a_leader_that_sees_new_partitions)
{
    two_stable(s);
    struct effects fx;
    effects_init(&fx, s->arena);
    struct partitions_added_record *r = effects_record(&fx, &partitions_added_record_msg);
    r->topic_id = topic_id_of(s, STR("t"));
    r->partitions = 6;
    settle(s, &fx);
    play(s, "join a reason=cached_metadata_has_changed");
    EXPECT(s, "[6] # topic widened to 6\n"
              "[6] # connection 1 speaks for its member, api 11\n"
              "[6] # joined a owning []\n"
              "[6] # rebalance of gen 1: partitions_added by a \"cached metadata has changed\"\n");
}

STORY(a_leader_that_rejoins_for_its_own_reasons)
{
    trigger_is(s, "join a reason=rebalance_enforced_by_user",
               "rebalance of gen 1: unknown by a \"rebalance enforced by user\"");
}

STORY(a_static_member_is_replaced)
{
    play(s, "join a instance=i; run 3s; sync a give=a:t-0");
    forget_trace(s);
    play(s, "join b instance=i");
    EXPECT(s, "[3] # left a: static_replaced \"\"\n"
              "[3] # connection 2 speaks for its member, api 11\n"
              "[3] # generation 1 of 1\n"
              "[3] #   ? subscribes t has [t-0]\n"
              "[3] b: gen 1 range leader b skip of b\n");
}

STORY(commits_are_told_taken_or_refused)
{
    two_stable(s);
    play(s, "commit a t-0=5; commit a t-0=6 gen=0; commit x t-0=1 group=other; fetch a t-0");
    EXPECT(s, "[6] # connection 1 speaks for its member, api 8\n"
              "[6] # committed 5 by a gen 1: NONE\n"
              "[6] a: commit NONE\n"
              "[6] # committed 6 by a gen 0: ILLEGAL_GENERATION\n"
              "[6] a: commit ILLEGAL_GENERATION\n"
              "[6] # committed 1 by - gen -1 into an empty group: NONE\n"
              "[6] x: commit NONE\n"
              "[6] # connection 1 speaks for its member, api 9\n"
              "[6] # offset of 0 read by a: 5 NONE\n"
              "[6] a: t-0 at 5 n NONE\n");
    play(s, "forget t group=other; delete group=other");
    EXPECT(s, "[6] # offset of 0 removed, admin, by /10.0.0.1\n"
              "[6] forget NONE NONE\n"
              "[6] # group other removed by /10.0.0.1\n"
              "[6] delete NONE\n");
}

STORY(expiry_is_nobodys_doing)
{
    play(s, "commit x t-0=1 v=4 keep_ms=1");
    forget_trace(s);
    play(s, "run 600s");
    EXPECT(s, "[600] # offset of 0 removed, expired, by nobody\n"
              "[600] # group g removed by nobody\n");
}

STORY(logs_that_lose_their_head_or_tail)
{
    struct effects fx;
    effects_init(&fx, s->arena);
    struct log_start_moved_record *m = effects_record(&fx, &log_start_moved_record_msg);
    m->topic_id = topic_id_of(s, STR("t"));
    m->partition = 1;
    m->log_start = 10;
    m->cause = 1;
    struct leader_epoch_started_record *e = effects_record(&fx, &leader_epoch_started_record_msg);
    e->topic_id = m->topic_id;
    e->partition = 2;
    e->epoch = 1;
    e->lost_from = 20;
    e->start_offset = 30;
    settle(s, &fx);
    EXPECT(s, "[0] # trimmed 1 to 10, 1\n"
              "[0] # lost 2 [20,30)\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_comes_together),
        cmocka_unit_test(a_cooperative_member_keeps_what_it_owns),
        cmocka_unit_test(a_join_again_is_told),
        cmocka_unit_test(a_leave_is_told_with_its_reason),
        cmocka_unit_test(a_leave_is_told_before_the_rebalance),
        cmocka_unit_test(a_slow_member_that_says_so_is_a_poll_timeout),
        cmocka_unit_test(a_removal_by_an_admin_client_is_the_admins),
        cmocka_unit_test(silence_is_a_session_timeout),
        cmocka_unit_test(who_did_not_rejoin_timed_out),
        cmocka_unit_test(other_topics_are_a_subscription_change),
        cmocka_unit_test(a_leader_that_sees_new_partitions),
        cmocka_unit_test(a_leader_that_rejoins_for_its_own_reasons),
        cmocka_unit_test(a_static_member_is_replaced),
        cmocka_unit_test(commits_are_told_taken_or_refused),
        cmocka_unit_test(expiry_is_nobodys_doing),
        cmocka_unit_test(logs_that_lose_their_head_or_tail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
