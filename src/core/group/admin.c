// DescribeGroups, ListGroups, DeleteGroups.

#include "core/group/private.h"

#include <strings.h>

enum {
    // READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS as bits: all there is for a group.
    GROUP_OPERATIONS = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11,
    DESCRIBE_NOT_FOUND_VERSION = 6,
};

static void describe_members(const struct group *g, struct describe_groups_response_group *out,
                             struct arena *a)
{
    out->members = arena_array(a, g->n_members, sizeof *out->members);
    LIST_EACH (node, &g->members) {
        const struct member *m = LIST_ITEM(node, struct member, node);
        struct bytes metadata = {(const uint8_t *)"", 0};
        // Before the group is stable it has not agreed on a protocol.
        if (g->state == GROUP_STABLE)
            metadata = arena_bytes(a, member_metadata(m, g->protocol_name));
        out->members[out->n_members++] = (struct describe_groups_response_member){
            .member_id = arena_str(a, m->id),
            .group_instance_id = arena_str(a, m->instance_id),
            .client_id = arena_str(a, m->client_id),
            .client_host = arena_str(a, m->host),
            .member_metadata = metadata,
            .member_assignment = arena_bytes(a, m->assignment),
        };
    }
}

static struct str or_empty(struct str s, struct arena *a)
{
    return str_is_null(s) ? STR_EMPTY : arena_str(a, s);
}

void group_describe(struct core *c, const struct asker *who,
                    const struct describe_groups_request *req, struct effects *fx)
{
    struct arena *a = fx->arena;
    struct describe_groups_response *r = effects_response(fx, &describe_groups_response_msg);
    r->groups = arena_array(a, (size_t)req->n_groups, sizeof *r->groups);
    for (int32_t i = 0; i < req->n_groups && arena_used(a) <= ANSWER_MAX_BYTES; i++) {
        struct describe_groups_response_group *out = &r->groups[r->n_groups++];
        describe_groups_response_group_init(out);
        const struct group *g = groups_get(c, req->groups[i]);
        out->group_id = req->groups[i];
        out->protocol_type = out->protocol_data = STR_EMPTY;
        if (g) {
            out->group_state = group_state_name(g);
            out->protocol_type = or_empty(g->protocol_type, a);
            if (g->state == GROUP_STABLE)
                out->protocol_data = or_empty(g->protocol_name, a);
            describe_members(g, out, a);
            continue;
        }
        out->group_state = STR("Dead");
        if (who->version < DESCRIBE_NOT_FOUND_VERSION)
            continue;
        out->error_code = KERR_GROUP_ID_NOT_FOUND;
        out->error_message =
            str_from(arena_printf(a, "Group %.*s not found.", STR_FMT(req->groups[i])));
    }
    for (int32_t i = 0; i < r->n_groups && req->include_authorized_operations; i++)
        if (r->groups[i].error_code == KERR_NONE)
            r->groups[i].authorized_operations = GROUP_OPERATIONS;
    effects_reply(fx, who->token, r);
}

static bool among(struct str name, const struct str *list, int32_t n)
{
    if (n <= 0)
        return true;
    for (int32_t i = 0; i < n; i++)
        if (list[i].len == name.len && strncasecmp(list[i].ptr, name.ptr, (size_t)name.len) == 0)
            return true;
    return false;
}

void group_list(struct core *c, const struct asker *who, const struct list_groups_request *req,
                struct effects *fx)
{
    struct list_groups_response *r = effects_response(fx, &list_groups_response_msg);
    r->groups = arena_array(fx->arena, map_count(c->groups->by_id), sizeof *r->groups);
    void *value;
    for (size_t it = 0; map_next(c->groups->by_id, &it, NULL, &value);) {
        const struct group *g = value;
        if (!among(group_state_name(g), req->states_filter, req->n_states_filter) ||
            !among(STR("classic"), req->types_filter, req->n_types_filter))
            continue;
        r->groups[r->n_groups++] = (struct list_groups_response_group){
            .group_id = arena_str(fx->arena, g->id),
            .protocol_type = or_empty(g->protocol_type, fx->arena),
            .group_state = group_state_name(g),
            .group_type = STR("classic"),
        };
    }
    effects_reply(fx, who->token, r);
}

void group_delete(struct core *c, const struct asker *who, const struct delete_groups_request *req,
                  struct effects *fx)
{
    struct delete_groups_response *r = effects_response(fx, &delete_groups_response_msg);
    r->results = arena_array(fx->arena, (size_t)req->n_groups_names, sizeof *r->results);
    struct map *named = map_new(); // a group named twice is answered once
    size_t size = 0;
    for (int32_t i = 0; i < req->n_groups_names; i++) {
        struct str name = req->groups_names[i];
        if (map_put(named, key_str(name), r))
            continue;
        const struct group *g = groups_get(c, name);
        struct delete_groups_response_result *out = &r->results[r->n_results++];
        delete_groups_response_result_init(out);
        out->group_id = name;
        if (!g) {
            out->error_code = KERR_GROUP_ID_NOT_FOUND;
        } else if (g->state != GROUP_EMPTY) {
            out->error_code = KERR_NON_EMPTY_GROUP;
        } else if ((size += (size_t)name.len + (size_t)who->client_id.len + 100) >
                   GROUP_DECISION_MAX_BYTES) {
            out->error_code = KERR_COORDINATOR_NOT_AVAILABLE; // retriable: the rest comes then
        } else {
            struct group_removed_record *gone = effects_record(fx, &group_removed_record_msg);
            gone->group_id = arena_str(fx->arena, name);
            gone->cause = GROUP_REMOVED_BY_ADMIN;
            gone->client_id = who->client_id;
            gone->client_host = who->host;
            gone->principal = who->principal;
            gone->wall_ms = who->wall_ms;
        }
    }
    map_free(named);
    effects_reply(fx, who->token, r);
}
