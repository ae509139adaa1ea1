// The private API behind `tally report` (schema/tally_report.kw). Never advertised.
#include "broker/api/api.h"
#include "core/core.h"
#include "core/group/group.h"
#include "core/ledger/ledger.h"

static void fill_group(struct core *core, struct request *r, struct tally_report_response_group *g)
{
    struct group_view v;
    if (!groups_find(core, g->group, &v))
        return;
    // The classic protocol is the only one there is yet; a group of commits alone has none.
    g->protocol = v.protocol_type.len > 0 ? STR("classic") : STR_EMPTY;
    g->state = arena_str(r->arena, v.state);
}

void api_tally_report(struct request *r)
{
    struct core *core = broker_core(r->broker);
    struct tally_report_response *p = request_response(r);
    ledger_report(core->ledger, r->body, p, r->arena);
    for (int32_t i = 0; i < p->n_groups; i++)
        fill_group(core, r, &p->groups[i]);
    request_reply(r, p);
}
