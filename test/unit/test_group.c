// How a group comes together, agrees, and comes together again.

#include "group_story.h"

#define STORY(name, setting, value)                                                                \
    static void name##_told(struct story *s);                                                      \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        struct story *s = story_new(setting, value);                                               \
        name##_told(s);                                                                            \
        story_free(s);                                                                             \
    }                                                                                              \
    static void name##_told(struct story *s)

// a and b in generation 1, a leads; a has t-0 and t-1, b has t-2 and t-3.
static void two_stable(struct story *s)
{
    play(s, "join a; join b; run 6s; sync b; sync a give=a:t-0,t-1/b:t-2,t-3");
    forget_trace(s);
}

STORY(first_members_wait_the_initial_delay, NULL, NULL)
{
    play(s, "join a once=1; join a once=1; run 2.9s");
    EXPECT(s, "[0] a: MEMBER_ID_REQUIRED\n");
    play(s, "run 0.1s; sync a give=a:t-0");
    EXPECT(s, "[3] a: gen 1 range leader a of a\n"
              "[3] a: gets t-0\n");
}

STORY(the_initial_delay_is_extended_by_new_members, NULL, NULL)
{
    play(s, "join a; run 2s; join b; run 2s; join c; run 3s");
    // b came within the first 3 s: 3 more. c came within these: 3 more.
    EXPECT(s, "");
    play(s, "run 2s");
    EXPECT(s, "[9] a: gen 1 range leader a of a b c\n"
              "[9] b: gen 1 range leader a\n"
              "[9] c: gen 1 range leader a\n");
}

STORY(the_initial_delay_ends_at_the_rebalance_timeout, NULL, NULL)
{
    play(s, "join a rebalance=4; run 1s; join b rebalance=4; run 2.5s; join c rebalance=4; run 3s");
    EXPECT(s, "[4] a: gen 1 range leader a of a b c\n"
              "[4] b: gen 1 range leader a\n"
              "[4] c: gen 1 range leader a\n");
}

STORY(a_delay_of_zero_is_no_delay, "group.initial.rebalance.delay.ms", "0")
{
    play(s, "join a; run 0s");
    EXPECT(s, "[0] a: gen 1 range leader a of a\n");
}

STORY(old_clients_join_at_once_and_see_no_null, NULL, NULL)
{
    play(s, "join a v=3; run 3s");
    EXPECT(s, "[3] a: gen 1 range leader a of a\n");
    play(s, "join b v=3 protocols=other");
    EXPECT(s, "[3] b: join INCONSISTENT_GROUP_PROTOCOL\n");
}

STORY(version_0_has_no_rebalance_timeout, NULL, NULL)
{
    play(s, "join a v=0 session=7 rebalance=60; run 3s; sync a give=a:t-0; join b v=0 session=7");
    play(s, "beat a; run 5s; beat a");
    forget_trace(s);
    play(s, "run 2s");
    // a beats but does not join again: 7 s, its session timeout, is all it gets.
    EXPECT(s, "[10] b: gen 2 range leader b of b\n");
}

STORY(a_pending_id_holds_the_rebalance_up_and_expires, NULL, NULL)
{
    two_stable(s);
    play(s, "join c once=1; join d; join a; join b; run 9s");
    // All members are here, but an id was given out to c.
    EXPECT(s, "[6] c: MEMBER_ID_REQUIRED\n");
    play(s, "run 1s");
    EXPECT(s, "[16] a: gen 2 range leader a of a b d\n"
              "[16] b: gen 2 range leader a\n"
              "[16] d: gen 2 range leader a\n");
    play(s, "join c once=1");
    EXPECT(s, "[16] c: join UNKNOWN_MEMBER_ID\n");
}

STORY(requests_that_make_no_sense_are_refused, NULL, NULL)
{
    play(s, "join a session=5; join a session=1801; join a id=nobody session=10");
    EXPECT(s, "[0] a: join INVALID_SESSION_TIMEOUT\n"
              "[0] a: join INVALID_SESSION_TIMEOUT\n"
              "[0] a: join UNKNOWN_MEMBER_ID\n");
    play(s, "join b type= ; join c protocols=-; list");
    // Nothing was joined, so no group came to be.
    EXPECT(s, "[0] b: join INCONSISTENT_GROUP_PROTOCOL\n"
              "[0] c: join INCONSISTENT_GROUP_PROTOCOL\n"
              "[0] nothing listed\n");
    play(s, "join e group= ; sync e group= ; beat e group= ; leave e group= ");
    EXPECT(s, "[0] e: join INVALID_GROUP_ID\n"
              "[0] e: sync INVALID_GROUP_ID\n"
              "[0] e: beat INVALID_GROUP_ID\n"
              "[0] e: leave INVALID_GROUP_ID\n");
    play(s, "sync e; beat e; leave e; leave e v=2");
    EXPECT(s, "[0] e: sync UNKNOWN_MEMBER_ID\n"
              "[0] e: beat UNKNOWN_MEMBER_ID\n"
              "[0] e: leave NONE UNKNOWN_MEMBER_ID\n"
              "[0] e: leave UNKNOWN_MEMBER_ID\n");
}

STORY(a_joining_member_makes_all_join_again, NULL, NULL)
{
    two_stable(s);
    play(s, "join c; beat a; beat b; join b; run 1s; join a");
    EXPECT(s, "[6] a: beat REBALANCE_IN_PROGRESS\n"
              "[6] b: beat REBALANCE_IN_PROGRESS\n"
              "[7] a: gen 2 range leader a of a b c\n"
              "[7] b: gen 2 range leader a\n"
              "[7] c: gen 2 range leader a\n");
    play(s, "beat a; sync c; sync b; sync a give=a:t-0/b:t-1/c:t-2,t-3; beat c");
    EXPECT(s, "[7] a: beat NONE\n"
              "[7] a: gets t-0\n"
              "[7] b: gets t-1\n"
              "[7] c: gets t-2 t-3\n"
              "[7] c: beat NONE\n");
}

STORY(who_does_not_rejoin_in_time_is_put_out, NULL, NULL)
{
    play(s, "join a session=30 rebalance=20; join b session=30 rebalance=20; run 6s; sync b;"
            "sync a give=a:t-0/b:t-1");
    forget_trace(s);
    play(s, "join c rebalance=20; join b; beat a; run 15s; beat a; run 5s; beat a");
    // a beats all the time, but 20 s is a hard bound. The leader is now another.
    EXPECT(s, "[6] a: beat REBALANCE_IN_PROGRESS\n"
              "[21] a: beat REBALANCE_IN_PROGRESS\n"
              "[26] b: gen 2 range leader b of b c\n"
              "[26] c: gen 2 range leader b\n"
              "[26] a: beat UNKNOWN_MEMBER_ID\n");
}

STORY(a_silent_member_is_expelled, NULL, NULL)
{
    two_stable(s);
    play(s, "run 9s; beat a; run 0.999s");
    EXPECT(s, "[15] a: beat NONE\n");
    play(s, "run 0.001s; beat a; beat b; join a");
    EXPECT(s, "[16] a: beat REBALANCE_IN_PROGRESS\n"
              "[16] b: beat UNKNOWN_MEMBER_ID\n"
              "[16] a: gen 2 range leader a of a\n");
}

STORY(who_waits_in_a_join_owes_no_heartbeat_but_a_new_one_does, NULL, NULL)
{
    play(
        s,
        "join a session=10 rebalance=900; join b rebalance=900; run 6s; sync a give=a:t-0; sync b");
    forget_trace(s);
    // c is new and gives up waiting after 5 minutes, b is not and stays.
    play(s, "join c rebalance=900; join b; beat a");
    for (int i = 0; i < 40; i++)
        play(s, "run 9s; beat a");
    forget_trace(s);
    play(s, "join a");
    EXPECT(s, "[366] a: gen 2 range leader a of a b\n"
              "[366] b: gen 2 range leader a\n");
}

STORY(a_new_member_that_waits_too_long_is_told_so, NULL, NULL)
{
    play(s, "join a rebalance=900; run 3s; sync a give=a:t-0; join b rebalance=900");
    forget_trace(s);
    for (int i = 0; i < 33; i++)
        play(s, "beat a; run 9s");
    forget_trace(s);
    play(s, "beat a; run 9s");
    EXPECT(s, "[300] a: beat REBALANCE_IN_PROGRESS\n"
              "[303] b: join UNKNOWN_MEMBER_ID\n");
}

STORY(members_that_do_not_sync_are_put_out, NULL, NULL)
{
    play(s,
         "join a rebalance=20 session=60; join b rebalance=20 session=60; run 6s; sync b; run 19s");
    forget_trace(s);
    // a, the leader, never sends its assignment.
    play(s, "run 1s; beat a; join b");
    EXPECT(s, "[26] b: sync REBALANCE_IN_PROGRESS\n"
              "[26] a: beat UNKNOWN_MEMBER_ID\n"
              "[26] b: gen 2 range leader b of b\n");
}

STORY(a_follower_that_does_not_sync_is_put_out_of_a_stable_group, NULL, NULL)
{
    play(s, "join a rebalance=20 session=60; join b rebalance=20 session=60; run 6s;"
            "sync a give=a:t-0/b:t-1; run 20s; beat a; beat b");
    forget_trace(s);
    play(s, "beat a; beat b");
    EXPECT(s, "[26] a: beat REBALANCE_IN_PROGRESS\n"
              "[26] b: beat UNKNOWN_MEMBER_ID\n");
}

STORY(who_waited_for_an_assignment_begins_a_new_session, NULL, NULL)
{
    play(s, "join a; join b; run 6s; sync b; run 9s; beat a; run 3s; join c");
    forget_trace(s);
    // b's session ended while it waited, which did not count; now it counts again.
    play(s, "beat a; run 9.9s; beat a; beat b gen=0; run 0.1s; beat b");
    EXPECT(s, "[18] a: beat REBALANCE_IN_PROGRESS\n"
              "[27.9] a: beat REBALANCE_IN_PROGRESS\n"
              "[27.9] b: beat ILLEGAL_GENERATION\n"
              "[28] b: beat UNKNOWN_MEMBER_ID\n");
}

STORY(a_retried_join_gets_the_current_generation, NULL, NULL)
{
    play(s, "join a; join b; run 6s");
    forget_trace(s);
    play(s, "join a; join b");
    EXPECT(s, "[6] a: gen 1 range leader a of a b\n"
              "[6] b: gen 1 range leader a\n");
    play(s, "sync b; sync a give=a:t-0/b:t-1; join b");
    EXPECT(s, "[6] a: gets t-0\n"
              "[6] b: gets t-1\n"
              "[6] b: gen 1 range leader a\n");
    play(s, "sync b; sync a");
    EXPECT(s, "[6] b: gets t-1\n"
              "[6] a: gets t-0\n");
}

STORY(changed_metadata_while_completing_starts_over, NULL, NULL)
{
    play(s, "join a; join b; run 6s; sync b");
    forget_trace(s);
    play(s, "join a topics=t,u; join b");
    EXPECT(s, "[6] b: sync REBALANCE_IN_PROGRESS\n"
              "[6] a: gen 2 range leader a of a b\n"
              "[6] b: gen 2 range leader a\n");
}

STORY(the_leader_or_changed_metadata_rebalances_a_stable_group, NULL, NULL)
{
    two_stable(s);
    play(s, "join a; beat b; join b; sync b; sync a give=a:t-0/b:t-1");
    EXPECT(s, "[6] b: beat REBALANCE_IN_PROGRESS\n"
              "[6] a: gen 2 range leader a of a b\n"
              "[6] b: gen 2 range leader a\n"
              "[6] a: gets t-0\n"
              "[6] b: gets t-1\n");
    play(s, "join b topics=u; beat a");
    EXPECT(s, "[6] a: beat REBALANCE_IN_PROGRESS\n");
}

STORY(members_vote_for_a_protocol_all_have, NULL, NULL)
{
    play(s, "join a protocols=sticky,range; join b protocols=range,sticky,own;"
            "join c protocols=range,sticky; run 6s");
    EXPECT(s, "[6] a: gen 1 range leader a of a b c\n"
              "[6] b: gen 1 range leader a\n"
              "[6] c: gen 1 range leader a\n");
    play(s, "join d protocols=own; join d protocols=own type=connect; join d protocols=sticky "
            "type=connect");
    EXPECT(s, "[6] d: join INCONSISTENT_GROUP_PROTOCOL\n"
              "[6] d: join INCONSISTENT_GROUP_PROTOCOL\n"
              "[6] d: join INCONSISTENT_GROUP_PROTOCOL\n");
    play(s, "join d protocols=sticky type=consumer; join a; join b; join c");
    EXPECT(s, "[6] a: gen 2 sticky leader a of a b c d\n"
              "[6] b: gen 2 sticky leader a\n"
              "[6] c: gen 2 sticky leader a\n"
              "[6] d: gen 2 sticky leader a\n");
}

STORY(sync_checks_who_when_and_what, NULL, NULL)
{
    play(s, "join a; join b; run 6s");
    forget_trace(s);
    play(s, "sync a gen=0; sync a type=connect; sync a protocols=other; sync a gen=2");
    EXPECT(s, "[6] a: sync ILLEGAL_GENERATION\n"
              "[6] a: sync INCONSISTENT_GROUP_PROTOCOL\n"
              "[6] a: sync INCONSISTENT_GROUP_PROTOCOL\n"
              "[6] a: sync ILLEGAL_GENERATION\n");
    play(s, "sync a give=a:t-0; beat a gen=0; sync b; join c; sync a; beat b gen=3");
    // Whom the leader leaves out gets nothing.
    EXPECT(s, "[6] a: gets t-0\n"
              "[6] a: beat ILLEGAL_GENERATION\n"
              "[6] b: gets nothing\n"
              "[6] a: sync REBALANCE_IN_PROGRESS\n"
              "[6] b: beat ILLEGAL_GENERATION\n");
}

STORY(leaving_rebalances_and_the_last_one_empties, NULL, NULL)
{
    two_stable(s);
    play(s, "leave a; beat b; join b; beat a; sync b give=b:t-0; leave b; describe; leave b");
    EXPECT(s, "[6] a: leave NONE NONE\n"
              "[6] b: beat REBALANCE_IN_PROGRESS\n"
              "[6] b: gen 2 range leader b of b\n"
              "[6] a: beat UNKNOWN_MEMBER_ID\n"
              "[6] b: gets t-0\n"
              "[6] b: leave NONE NONE\n"
              "[6] g NONE Empty type \"consumer\" protocol \"\"\n"
              "[6] b: leave NONE UNKNOWN_MEMBER_ID\n");
    play(s, "join c; run 3s; leave c v=1");
    EXPECT(s, "[9] c: gen 4 range leader c of c\n"
              "[9] c: leave NONE\n");
}

STORY(a_member_that_leaves_elsewhere_is_answered_where_it_waits, NULL, NULL)
{
    two_stable(s);
    play(s, "join c; join b; leave b");
    EXPECT(s, "[6] b: leave NONE NONE\n"
              "[6] b: join UNKNOWN_MEMBER_ID\n");
    play(s, "join a");
    EXPECT(s, "[6] a: gen 2 range leader a of a c\n"
              "[6] c: gen 2 range leader a\n");
    play(s, "sync c; leave c");
    EXPECT(s, "[6] c: leave NONE NONE\n"
              "[6] c: sync UNKNOWN_MEMBER_ID\n");
}

STORY(a_pending_member_may_leave, NULL, NULL)
{
    two_stable(s);
    play(s, "join c once=1; join a; join b; leave c");
    EXPECT(s, "[6] c: MEMBER_ID_REQUIRED\n"
              "[6] c: leave NONE NONE\n"
              "[6] a: gen 2 range leader a of a b\n"
              "[6] b: gen 2 range leader a\n");
}

STORY(the_size_of_a_group_is_limited, "group.max.size", "2")
{
    two_stable(s);
    play(s, "join c; join a; join b; join c id=- v=3");
    EXPECT(s, "[6] c: join GROUP_MAX_SIZE_REACHED\n"
              "[6] a: gen 2 range leader a of a b\n"
              "[6] b: gen 2 range leader a\n"
              "[6] c: join GROUP_MAX_SIZE_REACHED\n");
}

STORY(a_connection_that_closes_forgets_its_request_only, NULL, NULL)
{
    two_stable(s);
    play(s, "join c; join b; cut b; join a; describe");
    // b is still in: its session begins now, and it can sync from elsewhere.
    EXPECT(s, "[6] a: gen 2 range leader a of a b c\n"
              "[6] c: gen 2 range leader a\n"
              "[6] g NONE CompletingRebalance type \"consumer\" protocol \"\"\n"
              "[6]   a a /10.0.0.1 metadata 0 assignment 1\n"
              "[6]   b b /10.0.0.1 metadata 0 assignment 1\n"
              "[6]   c c /10.0.0.1 metadata 0 assignment 0\n");
    play(s, "sync b gen=2; cut b; cut b; sync a give=b:t-1; sync b gen=2");
    EXPECT(s, "[6] a: gets nothing\n"
              "[6] b: gets t-1\n");
}

STORY(a_second_join_of_the_same_member_answers_the_first, NULL, NULL)
{
    two_stable(s);
    play(s, "join c; join b; join b");
    EXPECT(s, "[6] b: join REBALANCE_IN_PROGRESS\n");
}

STORY(a_crash_leaves_the_last_stable_generation, NULL, NULL)
{
    two_stable(s);
    play(s, "join c; join b; crash; beat a gen=1; beat b gen=1; sync b gen=1; beat c; describe");
    EXPECT(s, "[6] a: beat NONE\n"
              "[6] b: beat NONE\n"
              "[6] b: gets t-2 t-3\n"
              "[6] c: beat UNKNOWN_MEMBER_ID\n"
              "[6] g NONE Stable type \"consumer\" protocol \"range\"\n"
              "[6]   a a /10.0.0.1 metadata 1 assignment 1\n"
              "[6]   b b /10.0.0.1 metadata 1 assignment 1\n");
    // Sessions began anew with the start.
    play(s, "run 9.9s; beat a; run 0.1s; beat a; beat b");
    EXPECT(s, "[15.9] a: beat NONE\n"
              "[16] a: beat REBALANCE_IN_PROGRESS\n"
              "[16] b: beat UNKNOWN_MEMBER_ID\n");
}

STORY(who_left_before_a_crash_is_not_back_after_it, NULL, NULL)
{
    two_stable(s);
    play(s, "leave b; join a; sync a give=a:t-0; crash; describe; join c; run 1s; join a");
    EXPECT(s, "[6] b: leave NONE NONE\n"
              "[6] a: gen 2 range leader a of a\n"
              "[6] a: gets t-0\n"
              "[6] g NONE Stable type \"consumer\" protocol \"range\"\n"
              "[6]   a a /10.0.0.1 metadata 1 assignment 1\n"
              "[7] a: gen 3 range leader a of a c\n"
              "[7] c: gen 3 range leader a\n");
}

STORY(a_crash_in_the_first_rebalance_leaves_an_empty_group, NULL, NULL)
{
    play(s, "join a; run 3s; crash; beat a; list; join a id=-; run 3s");
    EXPECT(s, "[3] a: gen 1 range leader a of a\n"
              "[3] a: beat UNKNOWN_MEMBER_ID\n"
              "[3] listed g \"\" Empty classic\n"
              "[6] a: gen 1 range leader a of a\n");
}

STORY(groups_are_listed_described_and_deleted, NULL, NULL)
{
    two_stable(s);
    play(s, "commit x t-0=1 group=simple; list; list state=stable; list state=EMPTY type=Classic;"
            "list state=unheard; list type=consumer");
    EXPECT(s, "[6] x: commit NONE\n"
              "[6] listed g \"consumer\" Stable classic\n"
              "[6] listed simple \"\" Empty classic\n"
              "[6] listed g \"consumer\" Stable classic\n"
              "[6] listed simple \"\" Empty classic\n"
              "[6] nothing listed\n"
              "[6] nothing listed\n");
    play(s, "describe group=none; describe group=none v=5; delete; delete group=none;"
            "delete group=simple twice=1; list");
    EXPECT(s, "[6] none GROUP_ID_NOT_FOUND Dead type \"\" protocol \"\"\n"
              "[6] none NONE Dead type \"\" protocol \"\"\n"
              "[6] delete NON_EMPTY_GROUP\n"
              "[6] delete GROUP_ID_NOT_FOUND\n"
              "[6] delete NONE\n"
              "[6] listed g \"consumer\" Stable classic\n");
    play(s, "leave a; leave b; delete; list; beat a");
    EXPECT(s, "[6] a: leave NONE NONE\n"
              "[6] b: leave NONE NONE\n"
              "[6] delete NONE\n"
              "[6] nothing listed\n"
              "[6] a: beat UNKNOWN_MEMBER_ID\n");
}

STORY(there_is_an_end_to_the_number_of_groups, NULL, NULL)
{
    play(s, "join a once=1; commit x t-0=1 group=x");
    struct core *told = s->core;
    s->core = core_of(s); // not from the journal: this one has all the groups it may have
    core_restore_done(s->core, 0, 0, true);
    char id[16];
    for (int i = 0; i < GROUPS_MAX; i++) {
        snprintf(id, sizeof id, "g%d", i);
        struct group_created_record r = {.group_id = str_from(id)};
        core_apply(s->core, &group_created_record_msg, &r);
    }
    forget_trace(s);
    play(s, "join b group=new once=1; join b group=g7 once=1");
    EXPECT(s, "[0] b: join POLICY_VIOLATION\n"
              "[0] b: MEMBER_ID_REQUIRED\n");
    core_free(s->core);
    s->core = told;
}

STORY(a_member_id_fits_the_protocol, NULL, NULL)
{
    char *name = arena_alloc(s->arena, INT16_MAX);
    memset(name, 'c', INT16_MAX);
    struct join_group_request_protocol p = {STR("range"), {(const uint8_t *)"x", 1}};
    struct join_group_request req = {.group_id = STR("g"),
                                     .session_timeout_ms = 10000,
                                     .member_id = STR_EMPTY,
                                     .group_instance_id = STR_NULL,
                                     .protocol_type = STR("consumer"),
                                     .protocols = &p,
                                     .n_protocols = 1,
                                     .reason = STR_NULL};
    struct asker who = asker_of(s, actor_of(s, "x"), API_JOIN_GROUP, 9);
    who.client_id = (struct str){name, INT16_MAX};
    struct effects fx;
    effects_init(&fx, s->arena);
    group_join(s->core, &who, &req, &fx);
    const struct join_group_response *r = fx.first_reply->response;
    assert_int_equal(r->error_code, KERR_MEMBER_ID_REQUIRED);
    assert_int_equal(r->member_id.len, INT16_MAX);
    assert_memory_equal(r->member_id.ptr + r->member_id.len - 3, "001", 2);
    settle(s, &(struct effects){.first_record = fx.first_record});
}

STORY(a_generation_too_large_to_store_is_refused, NULL, NULL)
{
    play(s, "join a; run 3s");
    forget_trace(s);
    enum { SIZE = GROUP_RECORD_MAX_BYTES + 1 };
    struct sync_group_request_assignment given = {str_from(actor_of(s, "a")->id),
                                                  {arena_alloc(s->arena, SIZE), SIZE}};
    struct asker who = asker_of(s, actor_of(s, "a"), API_SYNC_GROUP, 5);
    struct sync_group_request req = {.group_id = STR("g"),
                                     .generation_id = 1,
                                     .member_id = given.member_id,
                                     .group_instance_id = STR_NULL,
                                     .protocol_type = STR("consumer"),
                                     .protocol_name = STR("range"),
                                     .assignments = &given,
                                     .n_assignments = 1};
    struct effects fx;
    effects_init(&fx, s->arena);
    group_sync(s->core, &who, &req, &fx);
    settle(s, &fx);
    play(s, "beat a");
    EXPECT(s, "[3] a: sync UNKNOWN_SERVER_ERROR\n"
              "[3] a: beat REBALANCE_IN_PROGRESS\n");
}

#define TOLD(name) cmocka_unit_test(name)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TOLD(first_members_wait_the_initial_delay),
        TOLD(the_initial_delay_is_extended_by_new_members),
        TOLD(the_initial_delay_ends_at_the_rebalance_timeout),
        TOLD(a_delay_of_zero_is_no_delay),
        TOLD(old_clients_join_at_once_and_see_no_null),
        TOLD(version_0_has_no_rebalance_timeout),
        TOLD(a_pending_id_holds_the_rebalance_up_and_expires),
        TOLD(requests_that_make_no_sense_are_refused),
        TOLD(a_joining_member_makes_all_join_again),
        TOLD(who_does_not_rejoin_in_time_is_put_out),
        TOLD(a_silent_member_is_expelled),
        TOLD(who_waits_in_a_join_owes_no_heartbeat_but_a_new_one_does),
        TOLD(a_new_member_that_waits_too_long_is_told_so),
        TOLD(members_that_do_not_sync_are_put_out),
        TOLD(a_follower_that_does_not_sync_is_put_out_of_a_stable_group),
        TOLD(who_waited_for_an_assignment_begins_a_new_session),
        TOLD(a_retried_join_gets_the_current_generation),
        TOLD(changed_metadata_while_completing_starts_over),
        TOLD(the_leader_or_changed_metadata_rebalances_a_stable_group),
        TOLD(members_vote_for_a_protocol_all_have),
        TOLD(sync_checks_who_when_and_what),
        TOLD(leaving_rebalances_and_the_last_one_empties),
        TOLD(a_member_that_leaves_elsewhere_is_answered_where_it_waits),
        TOLD(a_pending_member_may_leave),
        TOLD(the_size_of_a_group_is_limited),
        TOLD(a_connection_that_closes_forgets_its_request_only),
        TOLD(a_second_join_of_the_same_member_answers_the_first),
        TOLD(a_crash_leaves_the_last_stable_generation),
        TOLD(who_left_before_a_crash_is_not_back_after_it),
        TOLD(a_crash_in_the_first_rebalance_leaves_an_empty_group),
        TOLD(groups_are_listed_described_and_deleted),
        TOLD(a_member_id_fits_the_protocol),
        TOLD(a_generation_too_large_to_store_is_refused),
        TOLD(there_is_an_end_to_the_number_of_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
