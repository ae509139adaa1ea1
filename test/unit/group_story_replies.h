#pragma once
// How answers are shown in the trace. Part of group_story.h, not to be included by itself.

static void show_join(struct story *s, uint64_t token, const struct join_group_response *r)
{
    struct actor *a = s->asked[token].actor;
    if (r->error_code == KERR_MEMBER_ID_REQUIRED) {
        snprintf(a->id, sizeof a->id, "%.*s", STR_FMT(r->member_id));
        if (!s->asked[token].comes_back) {
            say(s, "%s: MEMBER_ID_REQUIRED", a->name);
            return;
        }
        s->is_back = true;
        do_join(s, a, s->asked[token].words, false);
        s->is_back = false;
        return;
    }
    if (r->error_code) {
        assert_int_equal(r->generation_id, -1);
        assert_int_equal(r->n_members, 0);
        say(s, "%s: join %s", a->name, kerr_name(r->error_code));
        return;
    }
    snprintf(a->id, sizeof a->id, "%.*s", STR_FMT(r->member_id));
    a->generation = r->generation_id;
    char members[500] = "";
    size_t at = 0;
    for (int32_t i = 0; i < r->n_members; i++)
        at += (size_t)snprintf(members + at, sizeof members - at, " %s",
                               name_of(s, r->members[i].member_id));
    say(s, "%s: gen %d %.*s leader %s%s%s%s", a->name, r->generation_id, STR_FMT(r->protocol_name),
        name_of(s, r->leader), r->skip_assignment ? " skip" : "", r->n_members ? " of" : "",
        members);
}

static void show_sync(struct story *s, uint64_t token, const struct sync_group_response *r)
{
    const char *name = s->asked[token].actor->name;
    if (r->error_code) {
        assert_int_equal(r->assignment.len, 0);
        say(s, "%s: sync %s", name, kerr_name(r->error_code));
        return;
    }
    struct consumer_protocol_assignment as;
    int16_t version;
    char text[300] = "nothing";
    size_t at = 0;
    if (r->assignment.len && consumer_assignment_read(r->assignment, s->arena, &as, &version) == 0)
        for (int32_t i = 0; i < as.n_assigned_partitions; i++)
            for (int32_t k = 0; k < as.assigned_partitions[i].n_partitions; k++)
                at += (size_t)snprintf(text + at, sizeof text - at, "%s%.*s-%d", at ? " " : "",
                                       STR_FMT(as.assigned_partitions[i].topic),
                                       as.assigned_partitions[i].partitions[k]);
    say(s, "%s: gets %s", name, text);
}

static void show_fetched(struct story *s, uint64_t token, const struct offset_fetch_response *r)
{
    const char *name = s->asked[token].actor->name;
    int16_t version = s->asked[token].version;
    if (version < 8) {
        if (r->n_topics == 0)
            say(s, "%s: no offsets", name);
        for (int32_t i = 0; i < r->n_topics; i++)
            for (int32_t k = 0; k < r->topics[i].n_partitions; k++)
                say(s, "%s: %.*s-%d at %lld %.*s %s", name, STR_FMT(r->topics[i].name),
                    r->topics[i].partitions[k].partition_index,
                    (long long)r->topics[i].partitions[k].committed_offset,
                    STR_FMT(r->topics[i].partitions[k].metadata),
                    kerr_name(r->topics[i].partitions[k].error_code));
        return;
    }
    const struct offset_fetch_response_group *g = &r->groups[0];
    if (g->n_topics == 0)
        say(s, "%s: no offsets", name);
    for (int32_t i = 0; i < g->n_topics; i++)
        for (int32_t k = 0; k < g->topics[i].n_partitions; k++)
            say(s, "%s: %.*s-%d at %lld %.*s %s", name, STR_FMT(g->topics[i].name),
                g->topics[i].partitions[k].partition_index,
                (long long)g->topics[i].partitions[k].committed_offset,
                STR_FMT(g->topics[i].partitions[k].metadata),
                kerr_name(g->topics[i].partitions[k].error_code));
}

static void show_described(struct story *s, const struct describe_groups_response *r)
{
    const struct describe_groups_response_group *g = &r->groups[0];
    say(s, "%.*s %s %.*s type \"%.*s\" protocol \"%.*s\"", STR_FMT(g->group_id),
        kerr_name(g->error_code), STR_FMT(g->group_state), STR_FMT(g->protocol_type),
        STR_FMT(g->protocol_data));
    for (int32_t i = 0; i < g->n_members; i++)
        say(s, "  %s %.*s %.*s metadata %d assignment %d", name_of(s, g->members[i].member_id),
            STR_FMT(g->members[i].client_id), STR_FMT(g->members[i].client_host),
            g->members[i].member_metadata.len > 0, g->members[i].member_assignment.len > 0);
}

static void show_listed(struct story *s, const struct list_groups_response *r)
{
    for (int32_t i = 0; i < r->n_groups; i++)
        say(s, "listed %.*s \"%.*s\" %.*s %.*s", STR_FMT(r->groups[i].group_id),
            STR_FMT(r->groups[i].protocol_type), STR_FMT(r->groups[i].group_state),
            STR_FMT(r->groups[i].group_type));
    if (r->n_groups == 0)
        say(s, "nothing listed");
}

static void show_reply(struct story *s, uint64_t token, void *response)
{
    const char *name = s->asked[token].actor->name;
    int16_t api = s->asked[token].api;
    const struct kw_message *shape = kw_api(api)->response;
    struct kw_out out = {0};
    kw_encode(shape, s->asked[token].version, response, &out); // legal in the version asked for
    kw_out_free(&out);
    s->asked[token].api = -1;
    switch (api) {
    case API_JOIN_GROUP:
        show_join(s, token, response);
        break;
    case API_SYNC_GROUP:
        show_sync(s, token, response);
        break;
    case API_HEARTBEAT:
        say(s, "%s: beat %s", name, kerr_name(((struct heartbeat_response *)response)->error_code));
        break;
    case API_LEAVE_GROUP: {
        const struct leave_group_response *r = response;
        say(s, "%s: leave %s%s%s", name, kerr_name(r->error_code), r->n_members ? " " : "",
            r->n_members ? kerr_name(r->members[0].error_code) : "");
        break;
    }
    case API_OFFSET_COMMIT: {
        const struct offset_commit_response *r = response;
        for (int32_t i = 0; i < r->n_topics; i++)
            say(s, "%s: commit %s", name, kerr_name(r->topics[i].partitions[0].error_code));
        break;
    }
    case API_OFFSET_FETCH:
        show_fetched(s, token, response);
        break;
    case API_DESCRIBE_GROUPS:
        show_described(s, response);
        break;
    case API_LIST_GROUPS:
        show_listed(s, response);
        break;
    case API_DELETE_GROUPS: {
        const struct delete_groups_response *r = response;
        for (int32_t i = 0; i < r->n_results; i++)
            say(s, "delete %s", kerr_name(r->results[i].error_code));
        break;
    }
    case API_OFFSET_DELETE: {
        const struct offset_delete_response *r = response;
        say(s, "forget %s %s", kerr_name(r->error_code),
            r->n_topics ? kerr_name(r->topics[0].partitions[0].error_code) : "");
        break;
    }
    default:
        fail_msg("token %llu was answered twice", (unsigned long long)token);
    }
}
