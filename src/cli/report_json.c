#include "cli/cli.h"
#include "cli/report.h"

#include <stdlib.h>
#include <string.h>

// Names come from clients: what is no UTF-8 is kept readable rather than lost.
static json_t *text(struct str s)
{
    if (str_is_null(s))
        return json_null();
    json_t *value = json_stringn(s.ptr ? s.ptr : "", (size_t)s.len);
    if (value)
        return value;
    char *copy = str_dup(s);
    for (int32_t i = 0; i < s.len; i++) { // it may hold zeros too
        if (copy[i] & 0x80)
            copy[i] = '?';
    }
    value = json_stringn(copy, (size_t)s.len);
    free(copy);
    return value;
}

json_t *report_name_json(struct str s)
{
    return text(s);
}

static json_t *time_text(int64_t ms)
{
    char s[CLI_TIME_MAX];
    cli_time_text(ms, s);
    return json_string(s);
}

static json_t *number_or_null(int64_t n)
{
    return n < 0 ? json_null() : json_integer(n);
}

static json_t *party(const struct tally_report_response_party *p)
{
    if (str_is_null(p->member))
        return json_null();
    return json_pack("{s:o, s:o, s:o, s:o}", "member", text(p->member), "client_id",
                     text(p->client_id), "host", text(p->host), "software", text(p->software));
}

static json_t *evidence(const struct tally_report_response_incident *i)
{
    json_t *list = json_array();
    for (int32_t n = 0; n < i->n_evidence; n++)
        json_array_append_new(
            list, json_pack("{s:o, s:o, s:o}", "time", time_text(i->evidence[n].time_ms), "api",
                            text(i->evidence[n].api), "summary", text(i->evidence[n].summary)));
    return list;
}

json_t *report_incident_json(const struct tally_report_response_incident *i)
{
    json_t *contributing = json_array();
    for (int32_t n = 0; n < i->n_contributing; n++)
        json_array_append_new(contributing, text(i->contributing[n]));
    json_t *o =
        json_pack("{s:I, s:o, s:o, s:i, s:o, s:o, s:I, s:o}", "id", (json_int_t)i->id, "time",
                  time_text(i->time_ms), "topic", text(i->topic), "partition", (int)i->partition,
                  "first", number_or_null(i->first), "last", number_or_null(i->last), "records",
                  (json_int_t)i->records, "likely_at_most", number_or_null(i->likely_at_most));
    json_object_set_new(o, "class", text(i->class));
    json_object_set_new(o, "certainty", text(i->certainty));
    json_object_set_new(o, "cause", text(i->cause));
    json_object_set_new(o, "contributing", contributing);
    json_object_set_new(o, "trigger", text(i->trigger));
    json_object_set_new(o, "rebalance", i->rebalance ? json_integer(i->rebalance) : json_null());
    json_object_set_new(o, "attribution", text(i->attribution));
    json_object_set_new(o, "from", party(&i->from));
    json_object_set_new(o, "to", party(&i->to));
    json_object_set_new(o, "evidence", evidence(i));
    json_object_set_new(o, "advice", text(i->advice));
    json_object_set_new(o, "quiet", json_boolean(i->quiet));
    json_object_set_new(o, "forced", json_boolean(i->forced));
    json_object_set_new(o, "closed", json_boolean(i->closed));
    json_object_set_new(o, "resolved", json_boolean(i->resolved));
    return o;
}

json_t *report_rebalance_json(const struct tally_report_response_rebalance *r)
{
    json_t *partitions = json_array();
    for (int32_t n = 0; n < r->n_partitions; n++) {
        const struct tally_report_response_handover *h = &r->partitions[n];
        json_array_append_new(partitions,
                              json_pack("{s:o, s:i, s:o, s:o, s:o, s:I}", "topic", text(h->topic),
                                        "partition", (int)h->partition, "from", text(h->from), "to",
                                        text(h->to), "pause_ms", number_or_null(h->pause_ms),
                                        "resent", (json_int_t)h->resent));
    }
    json_t *o = json_pack("{s:I, s:o, s:o, s:i, s:o}", "id", (json_int_t)r->id, "time",
                          time_text(r->time_ms), "ended",
                          r->ended_ms < 0 ? json_null() : time_text(r->ended_ms), "from_epoch",
                          (int)r->from_epoch, "to_epoch", number_or_null(r->to_epoch));
    json_object_set_new(o, "trigger", text(r->trigger));
    json_object_set_new(o, "member", text(r->member));
    json_object_set_new(o, "reason", text(r->reason));
    json_object_set_new(o, "waited_for", text(r->waited_for));
    json_object_set_new(o, "forced", json_boolean(r->forced));
    json_object_set_new(o, "partitions", partitions);
    return o;
}

static json_t *partition_json(const struct tally_report_response_partition *p)
{
    const struct {
        const char *name;
        int64_t value;
    } counts[] = {{"log_start", p->log_start},
                  {"first", p->first},
                  {"end", p->end},
                  {"committed_offset", p->committed_offset},
                  {"waiting", p->waiting},
                  {"in_flight", p->in_flight},
                  {"returned", p->returned},
                  {"committed", p->committed},
                  {"skipped", p->skipped},
                  {"expired", p->expired},
                  {"abandoned", p->abandoned},
                  {"unknown", p->unknown},
                  {"not_data", p->not_data},
                  {"resent", p->resent}};
    char id[23];
    uuid_text(p->topic_id, id);
    json_t *o = json_pack("{s:o, s:s, s:i}", "topic", text(p->topic), "topic_id", id, "partition",
                          (int)p->partition);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        json_object_set_new(o, counts[i].name, json_integer(counts[i].value));
    if (p->committed_offset < 0)
        json_object_set_new(o, "committed_offset", json_null());
    json_object_set_new(o, "owner", text(p->owner));
    return o;
}

static json_t *group_json(const struct tally_report_response_group *g)
{
    json_t *partitions = json_array(), *rebalances = json_array(), *incidents = json_array();
    for (int32_t i = 0; i < g->n_partitions; i++)
        json_array_append_new(partitions, partition_json(&g->partitions[i]));
    for (int32_t i = 0; i < g->n_rebalances; i++)
        json_array_append_new(rebalances, report_rebalance_json(&g->rebalances[i]));
    for (int32_t i = 0; i < g->n_incidents; i++)
        json_array_append_new(incidents, report_incident_json(&g->incidents[i]));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "group", text(g->group), "protocol",
                     text(g->protocol), "state", text(g->state), "expect", text(g->expect),
                     "partitions", partitions, "rebalances", rebalances, "incidents", incidents);
}

json_t *report_json(const struct tally_report_response *report)
{
    json_t *groups = json_array();
    for (int32_t i = 0; i < report->n_groups; i++)
        json_array_append_new(groups, group_json(&report->groups[i]));
    return json_pack("{s:o}", "groups", groups);
}
