// Static members: they come back under a new id without disturbing the others.

#include "group_story.h"

#define STORY(name)                                                                                \
    static void name##_told(struct story *s);                                                      \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        struct story *s = story_new(NULL, NULL);                                                   \
        play(s,                                                                                    \
             "join a instance=i1; join b instance=i2; run 6s; sync b; sync a give=a:t-0/b:t-1");   \
        forget_trace(s);                                                                           \
        name##_told(s);                                                                            \
        story_free(s);                                                                             \
    }                                                                                              \
    static void name##_told(struct story *s)

STORY(a_follower_is_replaced_without_a_rebalance)
{
    play(s, "join b2 instance=i2; beat a; sync b2; beat b; sync b; commit b t-0=1; leave b");
    EXPECT(s, "[6] b2: gen 1 range leader a\n"
              "[6] a: beat NONE\n"
              "[6] b2: gets t-1\n"
              "[6] b: beat FENCED_INSTANCE_ID\n"
              "[6] b: sync FENCED_INSTANCE_ID\n"
              "[6] b: commit FENCED_INSTANCE_ID\n"
              "[6] b: leave NONE FENCED_INSTANCE_ID\n");
    play(s, "join b");
    EXPECT(s, "[6] b: join FENCED_INSTANCE_ID\n");
}

STORY(a_replaced_leader_is_told_to_skip_the_assignment)
{
    play(s, "join a2 instance=i1; sync a2; beat b");
    EXPECT(s, "[6] a2: gen 1 range leader a2 skip of a2 b\n"
              "[6] a2: gets t-0\n"
              "[6] b: beat NONE\n");
}

STORY(an_older_replaced_leader_is_kept_from_leading)
{
    // Before version 9 there is no skip: the old id is named as leader.
    play(s, "join a2 v=8 instance=i1; sync a2; beat b");
    EXPECT(s, "[6] a2: gen 1 range leader a\n"
              "[6] a2: gets t-0\n"
              "[6] b: beat NONE\n");
}

STORY(the_replacement_survives_a_crash)
{
    play(s, "join b2 instance=i2; crash; beat b2; beat b; sync b2");
    EXPECT(s, "[6] b2: gen 1 range leader a\n"
              "[6] b2: beat NONE\n"
              "[6] b: beat FENCED_INSTANCE_ID\n"
              "[6] b2: gets t-1\n");
}

STORY(a_replacement_with_another_protocol_rebalances)
{
    play(s, "join a protocols=range,own; join b protocols=own,range");
    EXPECT(s, "[6] a: gen 2 range leader a of a b\n"
              "[6] b: gen 2 range leader a\n");
    play(s, "sync b protocols=range; sync a give=a:t-0");
    forget_trace(s);
    play(s, "join a2 instance=i1 protocols=own,range; beat b");
    EXPECT(s, "[6] b: beat REBALANCE_IN_PROGRESS\n");
    play(s, "join b");
    EXPECT(s, "[6] a2: gen 3 own leader a2 of a2 b\n"
              "[6] b: gen 3 own leader a2\n");
}

STORY(a_replacement_while_completing_starts_over)
{
    play(s, "join a; join b; sync b");
    forget_trace(s);
    play(s, "join b2 instance=i2; beat a");
    // b waited for its assignment and is fenced there.
    EXPECT(s, "[6] b: sync FENCED_INSTANCE_ID\n"
              "[6] a: beat REBALANCE_IN_PROGRESS\n");
    play(s, "join a");
    EXPECT(s, "[6] a: gen 3 range leader a of a ?\n"
              "[6] b2: gen 3 range leader a\n");
}

STORY(a_replacement_while_joining_fences_who_waits)
{
    play(s, "join c; join b; join b2 instance=i2");
    EXPECT(s, "[6] b: join FENCED_INSTANCE_ID\n");
    play(s, "join a");
    EXPECT(s, "[6] a: gen 2 range leader a of a ? c\n"
              "[6] b2: gen 2 range leader a\n"
              "[6] c: gen 2 range leader a\n");
}

STORY(a_static_member_that_does_not_rejoin_stays)
{
    play(s, "join c rebalance=9; join b rebalance=9; join a rebalance=9; sync a give=a:t-0");
    forget_trace(s);
    // Now b is silent in the join phase: at its end it is still a member, until its session ends.
    play(s, "join c topics=t,u rebalance=9 session=60; join a session=60; run 9s; describe");
    EXPECT(s, "[15] a: gen 3 range leader a of a b c\n"
              "[15] c: gen 3 range leader a\n"
              "[15] g NONE CompletingRebalance type \"consumer\" protocol \"\"\n"
              "[15]   a a /10.0.0.1 metadata 0 assignment 1\n"
              "[15]   b b /10.0.0.1 metadata 0 assignment 0\n"
              "[15]   c c /10.0.0.1 metadata 0 assignment 0\n");
}

STORY(a_leader_that_does_not_rejoin_leads_no_longer)
{
    play(s, "join a session=60; join b; sync a; sync b");
    forget_trace(s);
    play(s, "join b topics=t,u; run 30s; beat a; run 30s; beat a gen=3");
    EXPECT(s, "[36] a: beat REBALANCE_IN_PROGRESS\n"
              "[66] b: gen 3 range leader b of a b\n"
              "[66] a: beat NONE\n");
}

STORY(a_replacement_is_no_new_member)
{
    // d is new: its join expires. d2 is not: it may wait as long as it takes.
    play(s, "join d instance=i4; join d2 instance=i4");
    forget_trace(s);
    play(s, "beat a; beat b; run 9s; beat a; beat b; run 9s; join a; join b");
    EXPECT(s, "[6] a: beat REBALANCE_IN_PROGRESS\n"
              "[6] b: beat REBALANCE_IN_PROGRESS\n"
              "[15] a: beat REBALANCE_IN_PROGRESS\n"
              "[15] b: beat REBALANCE_IN_PROGRESS\n"
              "[24] a: gen 2 range leader a of a b ?\n"
              "[24] b: gen 2 range leader a\n"
              "[24] d2: gen 2 range leader a\n");
}

STORY(when_only_silent_static_members_are_left_the_group_waits)
{
    play(s,
         "join c rebalance=9 v=3; join b rebalance=9; join a rebalance=9; sync a; sync b; sync c");
    forget_trace(s);
    play(s, "leave c; run 9s");
    // Nobody joined: no generation, until the sessions of a and b end and it is empty.
    EXPECT(s, "[6] c: leave NONE NONE\n");
    play(s, "run 1s; run 10s; describe");
    EXPECT(s, "[26] g NONE Empty type \"consumer\" protocol \"\"\n");
}

STORY(an_administrator_removes_by_instance)
{
    play(s, "leave x id=- instance=i2; leave x id=- instance=i9; beat b; beat a");
    EXPECT(s, "[6] x: leave NONE NONE\n"
              "[6] x: leave NONE UNKNOWN_MEMBER_ID\n"
              "[6] b: beat UNKNOWN_MEMBER_ID\n"
              "[6] a: beat REBALANCE_IN_PROGRESS\n");
}

STORY(an_id_without_its_instance_is_fenced)
{
    play(s, "leave a instance=i2; leave a instance=i9");
    EXPECT(s, "[6] a: leave NONE FENCED_INSTANCE_ID\n"
              "[6] a: leave NONE UNKNOWN_MEMBER_ID\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_follower_is_replaced_without_a_rebalance),
        cmocka_unit_test(a_replaced_leader_is_told_to_skip_the_assignment),
        cmocka_unit_test(an_older_replaced_leader_is_kept_from_leading),
        cmocka_unit_test(the_replacement_survives_a_crash),
        cmocka_unit_test(a_replacement_with_another_protocol_rebalances),
        cmocka_unit_test(a_replacement_while_completing_starts_over),
        cmocka_unit_test(a_replacement_while_joining_fences_who_waits),
        cmocka_unit_test(a_static_member_that_does_not_rejoin_stays),
        cmocka_unit_test(a_leader_that_does_not_rejoin_leads_no_longer),
        cmocka_unit_test(a_replacement_is_no_new_member),
        cmocka_unit_test(when_only_silent_static_members_are_left_the_group_waits),
        cmocka_unit_test(an_administrator_removes_by_instance),
        cmocka_unit_test(an_id_without_its_instance_is_fenced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
