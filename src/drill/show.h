#pragma once
// Results of a set of drills, for people, programs and CI.

#include "drill/drill.h"

#include <stdio.h>

struct drill_set {
    enum ledger_expect expect;
    const char *control;     // "passed", "failed", "inconclusive", "skipped"
    const char *control_why; // NULL: nothing to say
    struct drill_result **results;
    size_t n;
};

#define SHOW_FINDINGS 20 // of each list; JSON has all

void show_text(FILE *to, const struct drill_set *s, const struct drill_result *d);
void show_json(FILE *to, const struct drill_set *s);
// 0 or -errno.
MUST_USE int show_junit(const char *path, const struct drill_set *s);
