#include "drill/incident.h"

#include <stdio.h>
#include <time.h>

// Strings come from clients: what is not UTF-8 is shown as null, never a failure.
static json_t *text(struct str s)
{
    json_t *j = s.len < 0 ? NULL : json_stringn(s.ptr ? s.ptr : "", (size_t)s.len);
    return j ? j : json_null();
}

json_t *incident_time(int64_t wall_ms)
{
    char out[64];
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t n = strftime(out, sizeof out, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, sizeof out - n, ".%03dZ", (int)(wall_ms % 1000));
    return json_string(out);
}

static json_t *party(const struct ledger_party *p)
{
    if (str_is_null(p->member))
        return json_null();
    return json_pack("{s:o, s:o, s:o, s:o}", "member", text(p->member), "client_id",
                     text(p->client_id), "host", text(p->host), "software", text(p->software));
}

json_t *incident_json(const struct ledger_incident_view *v)
{
    json_t *contributing = json_array(), *evidence = json_array();
    for (int c = 0; c < CAUSE_COUNT; c++) {
        if (v->contributing & 1ULL << c)
            json_array_append_new(contributing, json_string(cause_name((enum cause)c)));
    }
    for (size_t i = 0; i < v->n_evidence; i++) {
        const struct ledger_proof *p = &v->evidence[i];
        json_array_append_new(evidence,
                              json_pack("{s:o, s:s, s:o}", "time", incident_time(p->wall_ms), "api",
                                        p->api ? p->api : "", "summary", text(p->summary)));
    }
    json_t *j = json_pack("{s:I, s:o, s:o, s:i, s:I, s:I, s:I, s:o}", "id", (json_int_t)v->id,
                          "time", incident_time(v->wall_ms), "topic", text(v->topic), "partition",
                          (int)v->partition, "first", (json_int_t)v->first, "last",
                          (json_int_t)v->last, "records", (json_int_t)v->records, "likely_at_most",
                          v->likely_at_most < 0 ? json_null()
                                                : json_integer((json_int_t)v->likely_at_most));
    json_object_set_new(j, "class", json_string(ledger_class_name(v->class)));
    json_object_set_new(j, "certainty", json_string(ledger_certainty_name(v->certainty)));
    json_object_set_new(j, "cause", json_string(cause_name(v->cause)));
    json_object_set_new(j, "contributing", contributing);
    json_object_set_new(j, "trigger", json_string(ledger_trigger_name(v->trigger)));
    json_object_set_new(j, "rebalance",
                        v->rebalance ? json_integer((json_int_t)v->rebalance) : json_null());
    json_object_set_new(j, "forced", json_boolean(v->forced));
    json_object_set_new(j, "attribution", json_string(ledger_certainty_name(v->attribution)));
    json_object_set_new(j, "from", party(&v->from));
    json_object_set_new(j, "to", party(&v->to));
    json_object_set_new(j, "evidence", evidence);
    json_object_set_new(j, "advice", text(v->advice));
    return j;
}
