// Reads or sets what is expected of a group (`tally group set`). Never advertised.
#include "broker/api/api.h"
#include "core/core.h"
#include "core/ledger/ledger.h"

// A group name from outside that nobody has yet is kept once an expectation is set for it.
#define GROUP_NAME_MAX 32767

void api_tally_expect(struct request *r)
{
    const struct tally_expect_request *q = r->body;
    struct tally_expect_response *p = request_response(r);
    struct ledger *l = broker_ledger(r->broker);
    enum ledger_expect expect;
    if (q->group.len <= 0 || q->group.len > GROUP_NAME_MAX) {
        p->error_code = KERR_INVALID_GROUP_ID;
        p->error_message = STR("The group's name is empty or too long.");
    } else if (!str_is_null(q->expect) && !ledger_expect_find(q->expect, &expect)) {
        p->error_code = KERR_INVALID_REQUEST;
        p->error_message = STR("An expectation is at-least-once, at-most-once or exactly-once.");
    } else {
        if (!str_is_null(q->expect)) {
            ledger_set_expect(l, q->group, expect);
            struct effects fx;
            effects_init(&fx, r->arena);
            ledger_emit(l, &fx);
            broker_commit(r->broker, &fx);
        }
        p->expect = str_from(ledger_expect_name(ledger_expect(l, q->group)));
    }
    request_reply(r, p);
}
