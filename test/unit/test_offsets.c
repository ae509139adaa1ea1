// Committed offsets: who may commit, what is read back, and when they go.

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

static void two_stable(struct story *s)
{
    play(s, "join a; join b; run 6s; sync b; sync a give=a:t-0,t-1/b:t-2,t-3");
    forget_trace(s);
}

STORY(what_is_committed_is_read_back_also_after_a_crash, NULL, NULL)
{
    two_stable(s);
    play(s, "commit a t-0=5 t-1=6 note=hello; commit b t-2=7; fetch a t-0 t-1; crash; fetch a");
    EXPECT(s, "[6] a: commit NONE\n"
              "[6] a: commit NONE\n"
              "[6] b: commit NONE\n"
              "[6] a: t-0 at 5 hello NONE\n"
              "[6] a: t-1 at 6 hello NONE\n"
              "[6] a: t-0 at 5 hello NONE\n"
              "[6] a: t-1 at 6 hello NONE\n"
              "[6] a: t-2 at 7 n NONE\n");
    play(s, "fetch a v=1 t-2; fetch a v=7; fetch a v=10 t-1; fetch a v=7 group=none;"
            "fetch a group=none t-1");
    EXPECT(s, "[6] a: t-2 at 7 n NONE\n"
              "[6] a: t-0 at 5 hello NONE\n"
              "[6] a: t-1 at 6 hello NONE\n"
              "[6] a: t-2 at 7 n NONE\n"
              "[6] a: t-1 at 6 hello NONE\n"
              "[6] a: no offsets\n"
              "[6] a: t-1 at -1  NONE\n");
}

STORY(only_members_of_the_generation_commit, NULL, NULL)
{
    two_stable(s);
    play(s,
         "commit a t-0=5 gen=0; commit a t-0=5 gen=2; commit x t-0=5 gen=1; commit x t-0=5 gen=-1");
    EXPECT(s, "[6] a: commit ILLEGAL_GENERATION\n"
              "[6] a: commit ILLEGAL_GENERATION\n"
              "[6] x: commit UNKNOWN_MEMBER_ID\n"
              "[6] x: commit UNKNOWN_MEMBER_ID\n");
    play(s, "commit a t-0=5 gen=-1");
    EXPECT(s, "[6] a: commit ILLEGAL_GENERATION\n");
    play(s, "commit x t-0=5 gen=1 group=none; commit x t-0=5 gen=1 group=none v=8; list");
    EXPECT(s, "[6] x: commit GROUP_ID_NOT_FOUND\n"
              "[6] x: commit ILLEGAL_GENERATION\n"
              "[6] listed g \"consumer\" Stable classic\n");
}

STORY(commits_while_a_rebalance_is_under_way, NULL, NULL)
{
    two_stable(s);
    // In the join phase the old generation may still commit; in the sync phase nobody may.
    play(s, "join c; commit b t-2=1; join a; join b; commit a t-0=2");
    EXPECT(s, "[6] b: commit NONE\n"
              "[6] a: gen 2 range leader a of a b c\n"
              "[6] b: gen 2 range leader a\n"
              "[6] c: gen 2 range leader a\n"
              "[6] a: commit REBALANCE_IN_PROGRESS\n");
}

STORY(a_commit_keeps_the_session_alive, NULL, NULL)
{
    two_stable(s);
    play(s, "run 8s; commit a t-0=1; commit b t-2=1; run 8s; beat a; run 8s; beat a");
    EXPECT(s, "[14] a: commit NONE\n"
              "[14] b: commit NONE\n"
              "[22] a: beat NONE\n"
              "[30] a: beat REBALANCE_IN_PROGRESS\n");
}

STORY(unknown_topics_and_long_notes_are_refused_one_by_one, "offset.metadata.max.bytes", "5")
{
    play(s,
         "commit x t-0=1 nowhere-0=1 t-4=1; commit x nowhere-0=1 v=10; commit x t-1=1 note=123456;"
         "commit x t-2=2 v=10 note=12345; fetch x v=10 nowhere-0; fetch x v=9 nowhere-0");
    EXPECT(s, "[0] x: commit NONE\n"
              "[0] x: commit UNKNOWN_TOPIC_OR_PARTITION\n"
              "[0] x: commit UNKNOWN_TOPIC_OR_PARTITION\n"
              "[0] x: commit UNKNOWN_TOPIC_ID\n"
              "[0] x: commit OFFSET_METADATA_TOO_LARGE\n"
              "[0] x: commit NONE\n"
              "[0] x: nowhere-0 at -1  UNKNOWN_TOPIC_ID\n"
              "[0] x: nowhere-0 at -1  NONE\n");
    play(s, "fetch x");
    EXPECT(s, "[0] x: t-0 at 1 n NONE\n"
              "[0] x: t-2 at 2 12345 NONE\n");
}

STORY(a_note_is_measured_as_java_measures_it, "offset.metadata.max.bytes", "3")
{
    // Two umlauts are two units in four bytes; a character beyond the first plane is two units.
    play(s, "commit x t-0=1 note=\xc3\xa4\xc3\xa4; commit x t-0=1 "
            "note=\xf0\x9f\x98\x80\xf0\x9f\x98\x80");
    EXPECT(s, "[0] x: commit NONE\n"
              "[0] x: commit OFFSET_METADATA_TOO_LARGE\n");
}

STORY(a_commit_fits_the_journal, NULL, NULL)
{
    // 20,000 times a kilobyte is within a request's size, but not taken at once.
    enum { COUNT = 20000 };
    char *note = arena_alloc(s->arena, 1024);
    memset(note, 'n', 1024);
    struct offset_commit_request_partition *p = arena_array(s->arena, COUNT, sizeof *p);
    for (int i = 0; i < COUNT; i++)
        p[i] = (struct offset_commit_request_partition){1, i, -1, {note, 1024}};
    struct offset_commit_request_topic t = {
        .name = STR("t"), .partitions = p, .n_partitions = COUNT};
    struct offset_commit_request req = {.group_id = STR("g"),
                                        .generation_id_or_member_epoch = -1,
                                        .member_id = STR_EMPTY,
                                        .group_instance_id = STR_NULL,
                                        .retention_time_ms = -1,
                                        .topics = &t,
                                        .n_topics = 1};
    struct asker who = asker_of(s, actor_of(s, "x"), API_OFFSET_COMMIT, 9);
    struct effects fx;
    effects_init(&fx, s->arena);
    offsets_commit(s->core, &who, &req, &fx);
    const struct offset_commit_response *r = fx.first_reply->response;
    assert_int_equal(r->topics[0].partitions[0].error_code, KERR_NONE);
    assert_int_equal(r->topics[0].partitions[COUNT - 1].error_code,
                     KERR_INVALID_COMMIT_OFFSET_SIZE);
    settle(s, &fx);
    assert_in_range(s->journal[s->n_journal - 1].bytes.len, 1, GROUP_DECISION_MAX_BYTES);
}

STORY(a_group_may_have_no_name, NULL, NULL)
{
    play(s, "commit x group= t-0=3; fetch x group= t-0; list");
    EXPECT(s, "[0] x: commit NONE\n"
              "[0] x: t-0 at 3 n NONE\n"
              "[0] listed  \"\" Empty classic\n");
}

STORY(offsets_of_a_subscribed_topic_cannot_be_deleted, NULL, NULL)
{
    make_topic(s, "u", 1);
    two_stable(s);
    play(s, "commit a t-0=1 u-0=1; forget t; forget u; forget u partition=1; forget w; fetch a");
    EXPECT(s, "[6] a: commit NONE\n"
              "[6] a: commit NONE\n"
              "[6] forget NONE GROUP_SUBSCRIBED_TO_TOPIC\n"
              "[6] forget NONE NONE\n"
              "[6] forget NONE UNKNOWN_TOPIC_OR_PARTITION\n"
              "[6] forget NONE UNKNOWN_TOPIC_OR_PARTITION\n"
              "[6] a: t-0 at 1 n NONE\n");
    play(s, "leave a; leave b; forget t; fetch a; forget t group=none");
    EXPECT(s, "[6] a: leave NONE NONE\n"
              "[6] b: leave NONE NONE\n"
              "[6] forget NONE NONE\n"
              "[6] a: no offsets\n"
              "[6] forget GROUP_ID_NOT_FOUND \n");
    play(s, "join w type=connect group=k; forget t group=k; commit x gen=-1 t-0=1 group=l; forget "
            "t group=l");
    EXPECT(s, "[6] forget NON_EMPTY_GROUP \n"
              "[6] x: commit NONE\n"
              "[6] forget NONE NONE\n");
}

STORY(a_subscription_nobody_understands_protects_all_topics, NULL, NULL)
{
    play(s, "join a meta=garbage; run 3s; sync a; commit a t-0=1; forget t");
    EXPECT(s, "[3] a: gen 1 range leader a of a\n"
              "[3] a: gets nothing\n"
              "[3] a: commit NONE\n"
              "[3] forget NONE GROUP_SUBSCRIBED_TO_TOPIC\n");
}

STORY(offsets_expire_some_time_after_the_last_member_left, "offsets.retention.minutes", "60")
{
    two_stable(s);
    play(s, "commit a t-0=1");
    for (int i = 0; i < 900; i++)
        play(s, "run 9s; beat a; beat b");
    forget_trace(s);
    // Two hours: a stable group keeps what it subscribes to.
    play(s, "fetch a; leave a; leave b; run 3000s; fetch a; run 1200s; fetch a; list");
    EXPECT(s, "[8106] a: t-0 at 1 n NONE\n"
              "[8106] a: leave NONE NONE\n"
              "[8106] b: leave NONE NONE\n"
              "[11106] a: t-0 at 1 n NONE\n"
              "[12306] a: no offsets\n"
              "[12306] nothing listed\n");
}

STORY(what_a_stable_group_does_not_subscribe_to_expires, "offsets.retention.minutes", "20")
{
    make_topic(s, "u", 1);
    two_stable(s);
    play(s, "commit a t-0=1 u-0=1");
    for (int i = 0; i < 210; i++)
        play(s, "run 9s; beat a; beat b");
    forget_trace(s);
    play(s, "fetch a");
    EXPECT(s, "[1896] a: t-0 at 1 n NONE\n");
}

STORY(nothing_expires_while_members_join, "offsets.retention.minutes", "10")
{
    make_topic(s, "u", 1);
    two_stable(s);
    play(s, "commit a t-0=1 u-0=1");
    for (int i = 0; i < 132; i++)
        play(s, "run 9s; beat a; beat b");
    play(s, "join c; run 8s; beat a; beat b"); // over the check at 1200 s
    forget_trace(s);
    play(s, "fetch a");
    EXPECT(s, "[1202] a: t-0 at 1 n NONE\n"
              "[1202] a: u-0 at 1 n NONE\n");
}

STORY(a_group_that_somebody_is_about_to_join_stays, NULL, NULL)
{
    play(s, "join a once=1 session=700; run 650s; list; run 600s; list");
    EXPECT(s, "[0] a: MEMBER_ID_REQUIRED\n"
              "[650] listed g \"\" Empty classic\n"
              "[1250] nothing listed\n");
}

STORY(a_simple_group_expires_commit_by_commit, "offsets.retention.minutes", "60")
{
    play(s, "commit x t-0=1; run 1800s; commit x t-1=1; run 2400s; fetch x; run 1800s; list");
    EXPECT(s, "[0] x: commit NONE\n"
              "[1800] x: commit NONE\n"
              "[4200] x: t-1 at 1 n NONE\n"
              "[6000] nothing listed\n");
}

STORY(old_clients_name_their_own_retention, NULL, NULL)
{
    play(s, "commit x t-0=1 v=4 keep_ms=700000; run 1199s; fetch x; run 1s; list");
    EXPECT(s, "[0] x: commit NONE\n"
              "[1199] x: t-0 at 1 n NONE\n"
              "[1200] nothing listed\n");
}

STORY(offsets_go_with_their_topic, NULL, NULL)
{
    make_topic(s, "u", 1);
    play(s, "commit x t-0=1 u-0=2");
    struct effects fx;
    effects_init(&fx, s->arena);
    struct topic_deleted_record *r = effects_record(&fx, &topic_deleted_record_msg);
    r->topic_id = topic_id_of(s, STR("t"));
    settle(s, &fx);
    struct group_view g;
    assert_true(groups_find(s->core, STR("g"), &g));
    assert_int_equal(g.n_offsets, 1);
    make_topic(s, "t", 1);
    play(s, "fetch x; fetch x t-0");
    EXPECT(s, "[0] x: commit NONE\n"
              "[0] x: commit NONE\n"
              "[0] x: u-0 at 2 n NONE\n"
              "[0] x: t-0 at -1  NONE\n");
}

STORY(many_groups_expire_in_small_batches, "offsets.retention.minutes", "1")
{
    char script[64];
    for (int i = 0; i < 1200; i++) {
        snprintf(script, sizeof script, "commit x t-0=1 group=g%d", i);
        play(s, script);
    }
    forget_trace(s);
    size_t before = s->n_journal;
    s->now_ms = 600000;
    struct effects fx;
    effects_init(&fx, s->arena);
    assert_true(core_tick(s->core, s->now_ms, 1600000, &fx));
    settle(s, &fx);
    assert_in_range(s->n_journal - before, 900, 1001);
    play(s, "run 0s; list");
    EXPECT(s, "[600] nothing listed\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_committed_is_read_back_also_after_a_crash),
        cmocka_unit_test(only_members_of_the_generation_commit),
        cmocka_unit_test(commits_while_a_rebalance_is_under_way),
        cmocka_unit_test(a_commit_keeps_the_session_alive),
        cmocka_unit_test(unknown_topics_and_long_notes_are_refused_one_by_one),
        cmocka_unit_test(a_note_is_measured_as_java_measures_it),
        cmocka_unit_test(a_commit_fits_the_journal),
        cmocka_unit_test(a_group_may_have_no_name),
        cmocka_unit_test(offsets_of_a_subscribed_topic_cannot_be_deleted),
        cmocka_unit_test(a_subscription_nobody_understands_protects_all_topics),
        cmocka_unit_test(offsets_expire_some_time_after_the_last_member_left),
        cmocka_unit_test(what_a_stable_group_does_not_subscribe_to_expires),
        cmocka_unit_test(nothing_expires_while_members_join),
        cmocka_unit_test(a_group_that_somebody_is_about_to_join_stays),
        cmocka_unit_test(a_simple_group_expires_commit_by_commit),
        cmocka_unit_test(old_clients_name_their_own_retention),
        cmocka_unit_test(offsets_go_with_their_topic),
        cmocka_unit_test(many_groups_expire_in_small_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
