// The private API behind `tally report` (schema/tally_report.kw). Never advertised.
#include "broker/api/api.h"
#include "core/core.h"
#include "core/group/group.h"
#include "core/ledger/ledger.h"

static void fill_group(struct core *core, struct tally_report_response_group *g, struct arena *a)
{
    struct group_view v;
    if (!groups_find(core, g->group, &v))
        return;
    // The classic protocol is the only one there is yet; a group of commits alone has none.
    g->protocol = v.protocol_type.len > 0 ? STR("classic") : STR_EMPTY;
    g->state = arena_str(a, v.state);
}

void broker_report(struct broker *b, const struct tally_report_request *q,
                   struct tally_report_response *ret, struct arena *a)
{
    struct core *core = broker_core(b);
    ledger_report(core->ledger, q, ret, a);
    for (int32_t i = 0; i < ret->n_groups; i++)
        fill_group(core, &ret->groups[i], a);
}

void api_tally_report(struct request *r)
{
    struct tally_report_response *p = request_response(r);
    broker_report(r->broker, r->body, p, r->arena);
    request_reply(r, p);
}
