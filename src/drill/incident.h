#pragma once
// An incident of the ledger as JSON, as `tally report --json` prints it.

#include "core/ledger/ledger.h"

#include <jansson.h>

json_t *incident_json(const struct ledger_incident_view *v); // the caller's
json_t *incident_time(int64_t wall_ms);                      // RFC 3339
