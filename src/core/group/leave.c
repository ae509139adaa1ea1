// LeaveGroup: by a member itself, or by an administrator on behalf of members.

#include "core/group/private.h"

#include <string.h>

// What clients write into the reason (KIP-800), as far as it tells who wanted the leave.
static const char poll_timeout_says[] = "poll timeout has expired";
static const char admin_says[] = "member was removed by an admin";

static bool says(struct str reason, const char *words)
{
    return reason.len > 0 && memmem(reason.ptr, (size_t)reason.len, words, strlen(words));
}

struct leaver {
    struct str member_id;
    struct str instance_id;
    struct str reason;
};

static void put_out(const struct turn *t, struct member *m, const struct leaver *l,
                    bool by_instance, struct rebalance_cause *ret_why)
{
    enum ledger_left left = LEDGER_LEFT_LEAVE;
    enum ledger_trigger trigger = LEDGER_TRIGGER_LEAVE;
    if (by_instance || says(l->reason, admin_says)) {
        left = LEDGER_LEFT_REMOVED;
        trigger = LEDGER_TRIGGER_ADMIN;
    } else {
        turn_own_request(t, m->group->id, m->id, API_LEAVE_GROUP);
        if (says(l->reason, poll_timeout_says)) {
            left = LEDGER_LEFT_POLL_TIMEOUT;
            trigger = LEDGER_TRIGGER_POLL_TIMEOUT;
        }
    }
    if (str_is_null(ret_why->member))
        *ret_why = (struct rebalance_cause){trigger, arena_str(t->fx->arena, m->id), l->reason};
    join_finish_error(t, m, STR_EMPTY, KERR_UNKNOWN_MEMBER_ID);
    sync_finish_error(t, m, KERR_UNKNOWN_MEMBER_ID);
    ledger_tell_left(t, m, left, l->reason);
    group_remove_member(t->core, m);
}

static enum kerr leave_one(const struct turn *t, struct group *g, const struct leaver *l,
                           struct rebalance_cause *ret_why)
{
    if (!g)
        return KERR_UNKNOWN_MEMBER_ID;
    if (l->member_id.len <= 0) {
        struct member *m = group_static_member(g, l->instance_id);
        if (!m)
            return KERR_UNKNOWN_MEMBER_ID;
        put_out(t, m, l, true, ret_why);
        return KERR_NONE;
    }
    struct pending *p = group_pending(g, l->member_id);
    if (p) {
        group_pending_drop(t->core, p);
        return KERR_NONE;
    }
    enum kerr error = group_check_member(g, l->member_id, l->instance_id);
    if (error == KERR_NONE)
        put_out(t, group_member(g, l->member_id), l, false, ret_why);
    return error;
}

void group_leave(struct core *c, const struct asker *who, const struct leave_group_request *req,
                 struct effects *fx)
{
    struct turn t = turn_of(c, who, fx);
    struct leave_group_response *r = effects_response(fx, &leave_group_response_msg);
    effects_reply(fx, who->token, r);
    if (req->group_id.len <= 0) {
        r->error_code = KERR_INVALID_GROUP_ID;
        return;
    }
    struct group *g = groups_get(c, req->group_id);
    struct rebalance_cause why = {LEDGER_TRIGGER_LEAVE, STR_NULL, STR_NULL};
    bool somebody = false;
    if (who->version < 3) {
        struct leaver l = {req->member_id, STR_NULL, STR_NULL};
        r->error_code = (int16_t)leave_one(&t, g, &l, &why);
        somebody = r->error_code == KERR_NONE;
    } else {
        r->members = arena_array(fx->arena, (size_t)req->n_members, sizeof *r->members);
        for (int32_t i = 0; i < req->n_members; i++) {
            const struct leave_group_request_member *m = &req->members[i];
            struct leaver l = {m->member_id, m->group_instance_id, m->reason};
            enum kerr error = leave_one(&t, g, &l, &why);
            somebody |= error == KERR_NONE;
            r->members[r->n_members++] = (struct leave_group_response_member){
                .member_id = m->member_id,
                .group_instance_id = m->group_instance_id,
                .error_code = (int16_t)error,
            };
        }
    }
    if (!somebody || !g || g->state == GROUP_EMPTY)
        return;
    rebalance_maybe(&t, g, &why);
}
