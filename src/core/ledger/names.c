#include "core/ledger/ledger.h"

static const char *const state_names[LEDGER_STATES] = {"waiting",   "in_flight", "returned",
                                                       "committed", "skipped",   "expired",
                                                       "abandoned", "unknown",   "not_data"};
static const char *const class_names[] = {"missed", "repeated", "resent",
                                          "risk",   "stalled",  "note"};
static const char *const certainty_names[] = {"possible", "likely", "certain"};
static const char *const expect_names[] = {"at-least-once", "at-most-once", "exactly-once"};
static const char *const trigger_names[LEDGER_TRIGGER_COUNT] = {"unknown",
                                                                "join",
                                                                "leave",
                                                                "session_timeout",
                                                                "poll_timeout",
                                                                "disconnect",
                                                                "subscription_change",
                                                                "partitions_added",
                                                                "partition_moved",
                                                                "topic_deleted",
                                                                "admin",
                                                                "static_replaced",
                                                                "commit_error",
                                                                "broker_restart"};

#define COUNT(a) (sizeof(a) / sizeof *(a))

const char *ledger_state_name(enum ledger_state s)
{
    CHECK((unsigned)s < LEDGER_STATES);
    return state_names[s];
}

const char *ledger_class_name(enum ledger_class c)
{
    CHECK((unsigned)c < COUNT(class_names));
    return class_names[c];
}

bool ledger_class_find(struct str name, enum ledger_class *ret)
{
    for (unsigned i = 0; i < COUNT(class_names); i++)
        if (str_eq_c(name, class_names[i])) {
            *ret = (enum ledger_class)i;
            return true;
        }
    return false;
}

const char *ledger_certainty_name(enum ledger_certainty c)
{
    CHECK((unsigned)c < COUNT(certainty_names));
    return certainty_names[c];
}

const char *ledger_trigger_name(enum ledger_trigger t)
{
    CHECK((unsigned)t < LEDGER_TRIGGER_COUNT);
    return trigger_names[t];
}

const char *ledger_expect_name(enum ledger_expect e)
{
    CHECK((unsigned)e < COUNT(expect_names));
    return expect_names[e];
}

bool ledger_expect_find(struct str name, enum ledger_expect *ret)
{
    for (unsigned i = 0; i < COUNT(expect_names); i++)
        if (str_eq_c(name, expect_names[i])) {
            *ret = (enum ledger_expect)i;
            return true;
        }
    return false;
}
