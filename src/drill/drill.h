#pragma once
// One drill: a script played on copies of the user's command, and what came of it.

#include "core/ledger/ledger.h"
#include "drill/evidence.h"
#include "drill/script.h"
#include "drill/supply.h"

#include <jansson.h>
#include <signal.h>

struct configs;

struct drill_options {
    char *const *argv; // the command, ends with NULL; all of this is borrowed
    enum ledger_expect expect;
    const char *topic;         // NULL: "drill"
    int partitions;            // 0: as the script says
    int copies;                // 0: as the script says
    struct evidence *evidence; // learns in the control pass
    struct supply *supply;
    uint64_t timeout_ms;         // for one drill
    const struct configs *fixed; // --set; NULL: none
    const char *keep_dir;        // NULL: nothing is kept
    bool shows_progress;
    bool control_passed; // false: certainty is `likely` at best
    const volatile sig_atomic_t *interrupted;
};

enum drill_verdict { DRILL_PASS, DRILL_FAIL, DRILL_INCONCLUSIVE };

struct drill_finding {
    int32_t partition;
    int64_t offset;
    struct str key; // owned; null: none
    uint32_t times; // worked on
    bool below_k;   // sent again below the committed offset
    bool is_odd;    // a repeat only by lines of a form that the control pass did not show
    bool closing;   // came out at the closing restart only
};

struct drill_findings {
    struct drill_finding *all; // owned
    size_t n;
    enum ledger_certainty certainty; // the weakest of them
};

struct drill_action {
    int64_t wall_ms;
    char *act;    // owned
    char *target; // owned; "" when there is none
};

struct drill_result {
    char *name; // all owned
    char *topic;
    enum drill_verdict verdict;
    char *why;       // NULL: nothing to add
    bool was_forced; // false: the trigger never came, and three kills found nothing
    bool is_control;
    bool is_blind; // no evidence: what was sent is all that is known
    int64_t records;
    int64_t processed;
    int64_t excused;
    struct drill_findings missed;
    struct drill_findings repeated;
    struct drill_findings unfinished;
    enum ledger_certainty certainty;
    struct drill_action *acts;
    size_t n_acts;
    json_t *incidents; // array, as in the report
    char *advice;      // "" when nothing was found
    double seconds;
};

// NULL script: the control pass, no act at all. 0 and a result, also an inconclusive one; or
// -EINTR (interrupted), or -errno and *ret_why: it could not run. Everything it started is gone.
MUST_USE int drill_run(const struct drill_options *o, const struct drill_script *script,
                       struct drill_result **ret_result, char **ret_why);
void drill_result_free(struct drill_result *r);       // NULL is fine
const char *drill_verdict_name(enum drill_verdict v); // "pass"
