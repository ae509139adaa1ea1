// Advice: the catalogue's words with the group's own numbers. See schema/causes.kw.

#include "core/ledger/internal.h"

#include <stdlib.h>
#include <string.h>

struct value {
    const char *name;
    int64_t number; // negative: not observed
    struct str text;
};

enum { VALUES = 11 };

static void collect(const struct incident *in, struct value v[VALUES])
{
    const struct spell *from = in->gp ? find_spell(in->gp, in->from_spell) : NULL;
    const struct spell *to = in->gp ? find_spell(in->gp, in->to_spell) : NULL;
    const struct member *m = from ? from->member : to ? to->member : NULL;
    int64_t live = 0, gps = 0;
    for (size_t i = 0; i < in->group->n_members; i++)
        live += in->group->members[i]->live;
    for (size_t i = 0; i < in->group->n_gps; i++)
        gps += open_spell(in->group->gps[i]) != NULL;
    int64_t poll =
        from && from->sent_end > from->first_p && from->commit_step > 0 ? from->commit_step : -1;
    struct str client = from ? from->party.client_id : STR_NULL;
    if (client.len > PARTY_NAME_MAX)
        client.len = PARTY_NAME_MAX;
    struct str host = from ? from->party.host : STR_NULL;
    const struct value all[VALUES] = {
        {"heartbeat_gap", m && m->heartbeat_gap_ms ? (int64_t)m->heartbeat_gap_ms : -1, STR_NULL},
        {"session_timeout", m && m->session_timeout_ms ? m->session_timeout_ms : -1, STR_NULL},
        {"poll_gap", m && m->poll_gap_ms ? (int64_t)m->poll_gap_ms : -1, STR_NULL},
        {"rebalance_timeout", m && m->rebalance_timeout_ms ? m->rebalance_timeout_ms : -1,
         STR_NULL},
        {"commit_interval", m && m->commit_gap_ms ? (int64_t)m->commit_gap_ms : -1, STR_NULL},
        {"commit_step", from ? from->commit_step : -1, STR_NULL},
        {"poll_records", poll, STR_NULL},
        {"client_id", client.len > 0 ? 0 : -1, client},
        {"host", host.len > 0 ? 0 : -1, host},
        {"members", live ? live : -1, STR_NULL},
        {"partitions", gps ? gps : -1, STR_NULL},
    };
    memcpy(v, all, sizeof all);
    bool polled = in->v.trigger == LEDGER_TRIGGER_POLL_TIMEOUT;
    bool silent = in->v.trigger == LEDGER_TRIGGER_SESSION_TIMEOUT;
    // A gap is worth telling where it is the reason.
    if (!silent)
        v[0].number = -1;
    if (!polled)
        v[2].number = -1;
}

static const struct value *value_of(const struct value v[VALUES], const char *at, size_t len)
{
    for (size_t i = 0; i < VALUES; i++)
        if (strlen(v[i].name) == len && !memcmp(v[i].name, at, len))
            return &v[i];
    return NULL;
}

// One part of the text, values filled in. False when one of them was not observed.
static bool fill(struct buf *out, const char *at, const char *end, const struct value v[VALUES])
{
    while (at < end) {
        const char *close = *at == '{' ? memchr(at, '}', (size_t)(end - at)) : NULL;
        if (!close) {
            buf_add(out, at++, 1);
            continue;
        }
        const struct value *is = value_of(v, at + 1, (size_t)(close - at - 1));
        if (!is || is->number < 0)
            return false;
        if (is->text.len > 0)
            buf_add(out, is->text.ptr, (size_t)is->text.len);
        else
            buf_printf(out, "%lld", (long long)is->number);
        at = close + 1;
    }
    return true;
}

void incident_advise(struct incident *i)
{
    struct value v[VALUES];
    collect(i, v);
    struct buf out = {0};
    const char *at = cause_def(i->v.cause)->advice;
    while (*at) {
        const char *open = strchr(at, '[');
        const char *end = open ? open : at + strlen(at);
        fill(&out, at, end, v);
        if (!open)
            break;
        const char *close = strchr(open, ']');
        CHECK(close);
        size_t before = out.len;
        if (!fill(&out, open + 1, close, v))
            out.len = before;
        at = close + 1;
    }
    while (out.len && out.ptr[out.len - 1] == ' ')
        out.len--;
    drop(&i->v.advice);
    i->v.advice = keep((struct str){(const char *)out.ptr, (int32_t)out.len});
    buf_free(&out);
}
