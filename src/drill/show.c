#include "drill/show.h"
#include "base/buf.h"
#include "cli/report.h"
#include "drill/incident.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void text_sentence(FILE *to, const char *head, const char *text, size_t len)
{
    struct buf out = {0};
    report_sentence(&out, head, (struct str){text, (int32_t)len}, REPORT_WIDTH);
    fwrite(out.ptr, 1, out.len, to);
    buf_free(&out);
}

static void text_findings(FILE *to, const char *what, const struct drill_result *d,
                          const struct drill_findings *f)
{
    if (f->n == 0)
        return;
    fprintf(to, "  %zu %s (%s)\n", f->n, what, ledger_certainty_name(f->certainty));
    for (size_t i = 0; i < f->n && i < SHOW_FINDINGS; i++) {
        const struct drill_finding *x = &f->all[i];
        fprintf(to, "    %s/%d/%lld", d->topic, x->partition, (long long)x->offset);
        if (x->key.len > 0)
            fprintf(to, "  %.*s", STR_FMT(x->key));
        if (x->times > 1)
            fprintf(to, "  worked on %u times", x->times);
        if (x->below_k)
            fprintf(to, "  (sent again although committed)");
        if (x->closing)
            fprintf(to, "  (at the closing restart)");
        fputc('\n', to);
    }
    if (f->n > SHOW_FINDINGS)
        fprintf(to, "    ... and %zu more (--json lists all)\n", f->n - SHOW_FINDINGS);
}

static const char *string_of(const json_t *j, const char *name)
{
    const char *s = json_string_value(json_object_get(j, name));
    return s ? s : "";
}

// What the wire alone gives; not worth a line where evidence says more.
static bool is_hint(const char *class_name)
{
    return strcmp(class_name, "note") == 0 || strcmp(class_name, "risk") == 0 ||
           strcmp(class_name, "resent") == 0;
}

static void text_why(FILE *to, const struct drill_result *d)
{
    struct buf acts = {0};
    for (size_t i = 0; i < d->n_acts; i++) {
        const struct drill_action *a = &d->acts[i];
        buf_printf(&acts, "%s%s%s%s", i ? ", " : "", a->act, *a->target ? " copy " : "", a->target);
    }
    if (d->n_acts > 0)
        text_sentence(to, "  did: ", (const char *)acts.ptr, acts.len);
    buf_free(&acts);
    size_t i;
    json_t *j;
    bool has_verdict = false;
    json_array_foreach(d->incidents, i, j)
    {
        has_verdict |= !is_hint(string_of(j, "class"));
    }
    json_array_foreach(d->incidents, i, j)
    {
        if (has_verdict && is_hint(string_of(j, "class")))
            continue;
        if (i == SHOW_FINDINGS) {
            fprintf(to, "  ... and %zu more incidents\n", json_array_size(d->incidents) - i);
            break;
        }
        fprintf(to, "  why: %s %s/%lld [%lld..%lld] %s, %s, after %s\n", string_of(j, "class"),
                string_of(j, "topic"), json_integer_value(json_object_get(j, "partition")),
                json_integer_value(json_object_get(j, "first")),
                json_integer_value(json_object_get(j, "last")), string_of(j, "cause"),
                string_of(j, "certainty"), string_of(j, "trigger"));
        if (strcmp(string_of(j, "class"), "resent") == 0)
            fprintf(to,
                    "       sent twice, so worked on twice at most %lld times; what was only "
                    "fetched ahead counts too\n",
                    json_integer_value(json_object_get(j, "records")));
    }
}

void show_text(FILE *to, const struct drill_set *s, const struct drill_result *d)
{
    static const char *const words[] = {"PASS", "FAIL", "INCONCLUSIVE"};
    fprintf(to, "%-12s %s  (%s, %lld records, %.1f s)\n", words[d->verdict], d->name,
            ledger_expect_name(s->expect), (long long)d->records, d->seconds);
    if (d->why)
        text_sentence(to, "  ", d->why, strlen(d->why));
    text_findings(to, "missed: never worked on", d, &d->missed);
    text_findings(to, "repeated", d, &d->repeated);
    text_findings(to, "unfinished: not worked on, not passed either", d, &d->unfinished);
    if (d->excused > 0)
        fprintf(to, "  %lld records are excused: the drill itself took them away\n",
                (long long)d->excused);
    if (d->missed.n == 0 && d->repeated.n == 0 && d->unfinished.n == 0 &&
        d->verdict == DRILL_PASS && !d->is_blind)
        fprintf(to, "  nothing missed, nothing repeated (%s)\n",
                ledger_certainty_name(d->certainty));
    text_why(to, d);
    for (const char *line = d->advice; line && *line;) {
        size_t len = strcspn(line, "\n");
        text_sentence(to, "  do:  ", line, len);
        line += len + (line[len] == '\n');
    }
}

static json_t *findings_json(const struct drill_result *d, const struct drill_findings *f)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->n; i++) {
        const struct drill_finding *x = &f->all[i];
        json_t *key = x->key.len >= 0 ? json_stringn(x->key.ptr, (size_t)x->key.len) : NULL;
        json_t *j =
            json_pack("{s:s, s:i, s:I, s:o}", "topic", d->topic, "partition", (int)x->partition,
                      "offset", (json_int_t)x->offset, "key", key ? key : json_null());
        if (x->times > 0)
            json_object_set_new(j, "times", json_integer(x->times));
        if (x->times > 1)
            json_object_set_new(j, "below_committed", json_boolean(x->below_k));
        json_object_set_new(j, "phase", json_string(x->closing ? "closing" : "drill"));
        json_array_append_new(list, j);
    }
    return list;
}

static json_t *lines_json(const char *text)
{
    json_t *list = json_array();
    while (text && *text) {
        size_t len = strcspn(text, "\n");
        json_array_append_new(list, json_stringn(text, len));
        text += len + (text[len] == '\n');
    }
    return list;
}

static json_t *result_json(const struct drill_result *d)
{
    json_t *acts = json_array();
    for (size_t i = 0; i < d->n_acts; i++)
        json_array_append_new(acts, json_pack("{s:o, s:s, s:s}", "time",
                                              incident_time(d->acts[i].wall_ms), "act",
                                              d->acts[i].act, "target", d->acts[i].target));
    json_t *j = json_pack("{s:s, s:s, s:I, s:I, s:I}", "case", d->name, "verdict",
                          drill_verdict_name(d->verdict), "records", (json_int_t)d->records,
                          "processed", (json_int_t)d->processed, "excused", (json_int_t)d->excused);
    if (d->why)
        json_object_set_new(j, "why", json_string(d->why));
    if (!d->is_control)
        json_object_set_new(j, "forced", json_boolean(d->was_forced));
    json_object_set_new(j, "missed", findings_json(d, &d->missed));
    json_object_set_new(j, "repeated", findings_json(d, &d->repeated));
    json_object_set_new(j, "unfinished", findings_json(d, &d->unfinished));
    json_object_set_new(j, "certainty", json_string(ledger_certainty_name(d->certainty)));
    json_object_set_new(j, "acts", acts);
    json_object_set(j, "incidents", d->incidents);
    json_object_set_new(j, "advice", lines_json(d->advice));
    json_object_set_new(j, "seconds", json_real((double)(int64_t)(d->seconds * 10 + 0.5) / 10));
    return j;
}

void show_json(FILE *to, const struct drill_set *s)
{
    json_t *drills = json_array();
    for (size_t i = 0; i < s->n; i++)
        json_array_append_new(drills, result_json(s->results[i]));
    json_t *all =
        json_pack("{s:s, s:s}", "expect", ledger_expect_name(s->expect), "control", s->control);
    if (s->control_why)
        json_object_set_new(all, "why", json_string(s->control_why));
    json_object_set_new(all, "drills", drills);
    json_dumpf(all, to, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    fputc('\n', to);
    json_decref(all);
}

static void put_xml(FILE *to, const char *text)
{
    for (; text && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '<')
            fputs("&lt;", to);
        else if (c == '>')
            fputs("&gt;", to);
        else if (c == '&')
            fputs("&amp;", to);
        else if (c == '"')
            fputs("&quot;", to);
        else
            fputc(c < 32 && c != '\n' && c != '\t' ? '?' : c, to);
    }
}

int show_junit(const char *path, const struct drill_set *s)
{
    FILE *to = fopen(path, "we");
    if (!to)
        return -errno;
    size_t failed = 0, skipped = 0;
    for (size_t i = 0; i < s->n; i++) {
        failed += s->results[i]->verdict == DRILL_FAIL;
        skipped += s->results[i]->verdict == DRILL_INCONCLUSIVE;
    }
    fprintf(to,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"tally drill\" "
            "tests=\"%zu\" failures=\"%zu\" errors=\"%zu\">\n",
            s->n, failed, skipped);
    for (size_t i = 0; i < s->n; i++) {
        const struct drill_result *d = s->results[i];
        fprintf(to, "  <testcase classname=\"tally.drill\" name=\"");
        put_xml(to, d->name);
        fprintf(to, "\" time=\"%.1f\">\n", d->seconds);
        if (d->verdict != DRILL_PASS) {
            const char *tag = d->verdict == DRILL_FAIL ? "failure" : "error";
            fprintf(to, "    <%s message=\"%zu missed, %zu repeated, %zu unfinished", tag,
                    d->missed.n, d->repeated.n, d->unfinished.n);
            if (d->why) {
                fputs("; ", to);
                put_xml(to, d->why);
            }
            fputs("\">", to);
            char *text = NULL;
            size_t len = 0;
            FILE *m = open_memstream(&text, &len);
            if (m) {
                show_text(m, s, d);
                fclose(m);
                put_xml(to, text);
                free(text);
            }
            fprintf(to, "</%s>\n", tag);
        }
        fputs("  </testcase>\n", to);
    }
    fputs("</testsuite>\n", to);
    int rc = ferror(to) ? -EIO : 0;
    return fclose(to) != 0 ? -errno : rc;
}
