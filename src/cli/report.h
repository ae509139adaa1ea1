#pragma once
// What `tally report` and `tally drill` print of the ledger. Pure: answers of the private report
// API in, text or JSON out.

#include "base/buf.h"
#include "base/check.h"
#include "schema.h"

#include <jansson.h>

// One incident as the contract of `report --json` has it. New reference.
json_t *report_incident_json(const struct tally_report_response_incident *incident);
json_t *report_rebalance_json(const struct tally_report_response_rebalance *rebalance);
// A name that came from a client, also one that is no UTF-8. New reference.
json_t *report_name_json(struct str s);
// The whole document. New reference.
json_t *report_json(const struct tally_report_response *report);

struct report_style {
    bool color;
    bool all;        // also quiet incidents and notes
    bool rebalances; // their history too
    int width;       // columns; longer sentences are broken
};

// A sentence behind its head ("  do:  "), broken at blanks under where it begins.
void report_sentence(struct buf *out, const char *head, struct str sentence, int width);
#define REPORT_WIDTH 100 // columns where standard output is no terminal

void report_text(const struct tally_report_response *report, const struct report_style *style,
                 struct buf *out);
// One incident, three lines. group: printed with it when not null.
void report_incident_text(const struct tally_report_response_incident *incident, struct str group,
                          const struct report_style *style, struct buf *out);

// A data directory whose broker is stopped; nothing is changed in it. The exit status; *ret_data is
// set, and to be closed, in any case.
struct report_data; // opaque
MUST_USE int report_data_open(const char *dir, struct report_data **ret_data);
void report_data_close(struct report_data *d); // NULL is fine
void report_data_ask(struct report_data *d, const struct tally_report_request *request,
                     struct tally_report_response *ret, struct arena *a);

// --fail-on: a list of classes, or "expected".
struct report_fail_on {
    bool missed, repeated, resent, risk, stalled, expected;
};
MUST_USE bool report_fail_on_parse(const char *text, struct report_fail_on *ret);
// True when an incident of the report is one of these; missed records that were sent after all
// are not.
bool report_fails(const struct tally_report_response *report, const struct report_fail_on *on);
