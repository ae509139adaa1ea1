// What came of it: each record missed, repeated or unfinished, how sure that is, and whether the
// guarantee that is wanted was kept.

#include "broker/broker.h"
#include "drill/incident.h"
#include "drill/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(struct drill_findings *f, const struct book_record *rec, int32_t p, int64_t offset,
                enum ledger_certainty certainty)
{
    if ((f->n & (f->n - 1)) == 0) {
        f->all = realloc(f->all, (f->n ? f->n * 2 : 1) * sizeof *f->all);
        CHECK(f->all);
    }
    f->all[f->n++] = (struct drill_finding){
        .partition = p,
        .offset = offset,
        .key = {str_dup(rec->key), rec->key.len},
        .times = rec->times,
        .below_k = rec->below_k,
        .is_odd = rec->times >= 2 && rec->times - rec->odd < 2,
        .closing = rec->times >= 2 && rec->times - rec->after <= 1 && rec->after > 0,
    };
    if (f->n == 1 || certainty < f->certainty)
        f->certainty = certainty;
}

static void free_findings(struct drill_findings *f)
{
    for (size_t i = 0; i < f->n; i++)
        free((void *)(uintptr_t)f->all[i].key.ptr);
    free(f->all);
}

static void drop_findings(struct drill_findings *f)
{
    free_findings(f);
    *f = (struct drill_findings){.certainty = LEDGER_CERTAIN};
}

// Up to where the group has passed: the committed offset, or for a group that keeps its offsets
// itself the last record it has worked on.
static int64_t passed_end(struct book_partition *bp)
{
    if (bp->k >= 0)
        return bp->k_max > bp->k ? bp->k_max : bp->k;
    int64_t end = bp->n;
    while (end > 0 && bp->records[end - 1].times == 0)
        end--;
    return end;
}

static void look_at(struct run *r, int32_t p)
{
    struct drill_result *d = r->result;
    struct book_partition *bp = book_partition(r->book, p);
    bool blind = evidence_kind(r->o->evidence) == EVIDENCE_NONE;
    bool is_stdout = evidence_kind(r->o->evidence) == EVIDENCE_STDOUT;
    enum ledger_certainty cap = r->o->control_passed ? LEDGER_CERTAIN : LEDGER_LIKELY;
    int64_t passed = passed_end(bp);
    for (int64_t i = 0; i < bp->n; i++) {
        const struct book_record *rec = &bp->records[i];
        bool is_done = blind ? rec->sent_to != 0 : rec->times > 0;
        d->processed += rec->times > 0;
        if (!is_done && rec->excused) {
            d->excused++;
        } else if (!is_done && i < passed) {
            bool unsure = is_stdout && rec->sent_to_killed;
            add(&d->missed, rec, p, i, unsure && cap > LEDGER_LIKELY ? LEDGER_LIKELY : cap);
        } else if (!is_done) {
            add(&d->unfinished, rec, p, i, cap);
        } else if (rec->times >= 2) {
            add(&d->repeated, rec, p, i, cap);
        }
    }
}

// Repeats; those below the committed offset only, and those by lines of a known form only.
static size_t count_repeats(const struct drill_findings *f, bool below_k, bool plain)
{
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++)
        n += (!below_k || f->all[i].below_k) && (!plain || !f->all[i].is_odd);
    return n;
}

#define MIXED                                                                                      \
    "%lld lines of the output ran into one another: several threads or processes write it, each "  \
    "line and its end apart. Write each line in one piece"

static bool is_kept(const struct run *r, bool plain)
{
    const struct drill_result *d = r->result;
    size_t missed = plain && d->missed.n <= (size_t)r->mixed_lines * 2 ? 0 : d->missed.n;
    if (d->unfinished.n > 0)
        return false;
    switch (r->o->expect) {
    case LEDGER_AT_LEAST_ONCE:
        return missed == 0 && count_repeats(&d->repeated, true, plain) == 0;
    case LEDGER_AT_MOST_ONCE:
        return count_repeats(&d->repeated, false, plain) == 0;
    case LEDGER_EXACTLY_ONCE:
        return missed == 0 && count_repeats(&d->repeated, false, plain) == 0;
    }
    return false;
}

static void say_why(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say_why(struct run *r, const char *format, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    free(r->result->why);
    r->result->why = strdup(text);
}

static int64_t count_only_odd(struct run *r)
{
    int64_t n = 0;
    for (int32_t p = 0; p < book_partitions(r->book); p++) {
        struct book_partition *bp = book_partition(r->book, p);
        for (int64_t i = 0; i < bp->n; i++)
            n += bp->records[i].times > 0 && bp->records[i].odd == bp->records[i].times;
    }
    return n;
}

// A line that names a record may say that it was skipped, or that its commit failed. A verdict that
// rests on lines unlike those of the control pass is none.
static void judge(struct run *r)
{
    struct drill_result *d = r->result;
    d->verdict = is_kept(r, false) ? DRILL_PASS : DRILL_FAIL;
    bool hides =
        d->verdict == DRILL_PASS && r->o->expect != LEDGER_AT_MOST_ONCE && count_only_odd(r) > 0;
    bool accuses = d->verdict == DRILL_FAIL && is_kept(r, true);
    if (!hides && !accuses)
        return;
    d->verdict = DRILL_INCONCLUSIVE;
    r->is_doubtful = true;
    d->missed.certainty = d->repeated.certainty = LEDGER_POSSIBLE;
    if (accuses && d->missed.n > 0)
        say_why(r, "%zu records do not show, but " MIXED, d->missed.n, (long long)r->mixed_lines);
    else
        say_why(
            r,
            "it rests on lines of a form that the control pass did not show, such as \"%.100s\": "
            "say with --match PATTERN which lines mean that a record was worked on",
            r->odd_line);
}

// Without evidence only what was never sent is known to be undone, and what was sent once not to be
// done twice.
static void judge_blind(struct run *r)
{
    struct drill_result *d = r->result;
    int64_t twice = 0;
    for (int32_t p = 0; p < book_partitions(r->book); p++) {
        struct book_partition *bp = book_partition(r->book, p);
        for (int64_t i = 0; i < bp->n; i++)
            twice += bp->records[i].sends > 1;
    }
    d->verdict = is_kept(r, false) ? DRILL_PASS : DRILL_FAIL;
    if (d->verdict == DRILL_FAIL)
        return;
    if (r->script && r->o->expect != LEDGER_AT_LEAST_ONCE && twice > 0) {
        d->verdict = DRILL_INCONCLUSIVE;
        say_why(r,
                "%lld records were sent twice: without evidence nobody can tell whether they were "
                "worked on twice",
                (long long)twice);
        return;
    }
    say_why(r, "every record was sent; without evidence nobody can tell what was worked on");
}

// The control pass asks first whether the evidence is good enough to accuse anyone.
static void judge_control(struct run *r)
{
    struct drill_result *d = r->result;
    const char *mend = evidence_kind(r->o->evidence) == EVIDENCE_STDOUT
                           ? "print one line for each record when its work is done, with "
                             "topic/partition/offset or a key that no other record has (a key of "
                             "digits only counts in a line of its own), or give --match PATTERN"
                           : "the query must give each record that was worked on, once for each "
                             "time";
    int64_t sent_without = 0;
    for (size_t i = 0; i < d->missed.n; i++) {
        const struct drill_finding *f = &d->missed.all[i];
        sent_without += book_partition(r->book, f->partition)->records[f->offset].sent_to != 0;
    }
    d->verdict = DRILL_INCONCLUSIVE;
    if (d->processed == 0 && r->err_lines > 0)
        say_why(r,
                "control pass: none of the %lld records shows in standard output, but standard "
                "error names them: only standard output is read, so run it as "
                "sh -c 'exec COMMAND 2>&1'",
                (long long)d->records);
    else if (d->processed == 0 && d->missed.n == 0 && d->records > 0)
        say_why(r,
                "control pass: the %lld records were sent to the copies, which in %llu s neither "
                "showed nor committed one: does the command wait for more of them? If it has "
                "done its work: %s",
                (long long)d->records, (unsigned long long)(stage_now_ms() - r->began_ms) / 1000,
                mend);
    else if (r->late_shown > 0 && (r->has_settled || d->unfinished.n == 0))
        say_why(r,
                "control pass: %lld records showed only when the copies were stopped%s. If that is "
                "when they were worked on, it is too late: a crash would lose them. If only their "
                "lines were held in a buffer: " RUN_UNBUFFER,
                (long long)r->late_shown,
                r->is_cut ? ", and the output was cut in the middle of a line" : "");
    else if (d->processed == 0 && d->records > 0)
        say_why(r, "control pass: none of the %lld records shows in the evidence (%s): %s",
                (long long)d->records, evidence_name(r->o->evidence), mend);
    else if ((int64_t)d->repeated.n == d->processed && d->processed > 1)
        say_why(r, "control pass: every record shows twice or more in the evidence: %s", mend);
    else if (sent_without > 0 && r->mixed_lines > 0)
        say_why(r, "control pass: %lld of %lld records were committed and do not show, and " MIXED,
                (long long)sent_without, (long long)d->records, (long long)r->mixed_lines);
    else if (sent_without > 0)
        say_why(r,
                "control pass: %lld of %lld records were committed and do not show in the "
                "evidence: %s",
                (long long)sent_without, (long long)d->records, mend);
    else if (d->unfinished.n > 0)
        say_why(r,
                "control pass: %zu of %lld records were not finished in time; a longer "
                "--timeout, or fewer --partitions",
                d->unfinished.n, (long long)d->records);
    else
        d->verdict = is_kept(r, false) ? DRILL_PASS : DRILL_FAIL;
    if (d->verdict != DRILL_INCONCLUSIVE)
        return;
    // Evidence that is not good enough accuses nobody.
    drop_findings(&d->missed);
    drop_findings(&d->repeated);
    drop_findings(&d->unfinished);
}

static bool is_in(const struct drill_findings *f, int32_t partition, int64_t first, int64_t last)
{
    for (size_t i = 0; i < f->n; i++) {
        if (f->all[i].partition == partition && f->all[i].offset >= first &&
            f->all[i].offset <= last)
            return true;
    }
    return false;
}

static bool is_any_in(const struct drill_result *d, const struct ledger_incident_view *v)
{
    return is_in(&d->missed, v->partition, v->first, v->last) ||
           is_in(&d->repeated, v->partition, v->first, v->last) ||
           is_in(&d->unfinished, v->partition, v->first, v->last);
}

static void add_advice(struct buf *b, struct str text)
{
    if (text.len <= 0 || (b->len && memmem(b->ptr, b->len, text.ptr, (size_t)text.len)))
        return;
    buf_printf(b, "%s%.*s", b->len ? "\n" : "", STR_FMT(text));
}

static bool looks_for_misses(const struct drill_script *s)
{
    for (size_t i = 0; s && i < s->n_steps; i++) {
        if (!s->steps[i].is_act && s->steps[i].when == WHEN_AHEAD)
            return true;
    }
    return false;
}

// The ledger says of the wire what the evidence does not bear out; what the drill excuses stands.
static bool is_denied(struct run *r, const struct ledger_incident_view *v)
{
    if (r->is_doubtful || (!r->script && r->result->verdict == DRILL_INCONCLUSIVE))
        return true;
    if (evidence_kind(r->o->evidence) == EVIDENCE_NONE || v->partition < 0 ||
        (v->class != LEDGER_MISSED && v->class != LEDGER_REPEATED))
        return false;
    for (int64_t i = v->first; i <= v->last && i >= 0; i++) {
        if (!book_has(r->book, v->partition, i) ||
            book_partition(r->book, v->partition)->records[i].excused)
            return false;
    }
    return true;
}

static void explain(struct run *r)
{
    struct drill_result *d = r->result;
    struct buf advice = {0};
    d->incidents = json_array();
    // Where it passed and only repeats showed that were not looked for, the incidents' own advice
    // is the better one.
    bool is_about_it = d->verdict != DRILL_PASS || d->missed.n > 0 || !looks_for_misses(r->script);
    bool has_script = r->script && is_about_it;
    bool is_any = !r->is_doubtful && (d->missed.n || d->repeated.n || d->unfinished.n);
    struct ledger *l = run_ledger(r);
    struct str group = str_from(r->real_group ? r->real_group : r->group);
    struct ledger_incident_view v;
    if (d->repeated.n && r->commits_seen == 0)
        add_advice(&advice, STR("Commit: no copy has committed an offset, so each one begins where "
                                "auto.offset.reset says, unless it keeps its offsets elsewhere."));
    if (is_any && has_script)
        add_advice(&advice, str_from(r->script->advice));
    for (size_t it = 0; ledger_next_incident(l, group, 0, &it, &v);) {
        bool explains = !r->is_doubtful && is_any_in(d, &v);
        if (!explains && (v.quiet || is_denied(r, &v)))
            continue;
        json_array_append_new(d->incidents, incident_json(&v));
        if (explains && !has_script)
            add_advice(&advice, v.advice);
    }
    buf_add(&advice, "", 1);
    d->advice = (char *)advice.ptr;
}

#define ROWS_TOLD 20 // of one record; it is repeated, however many there are

// The rows of a database are read again and again and belong to no copy: the ledger gets them once,
// at the end, a source for the first row of each record, one for the second, and so on.
static void tell_rows(struct run *r)
{
    if (evidence_kind(r->o->evidence) != EVIDENCE_SQL)
        return;
    for (int32_t p = 0; p < book_partitions(r->book); p++) {
        const struct book_partition *bp = book_partition(r->book, p);
        for (int64_t i = 0; i < bp->n; i++) {
            uint32_t rows = bp->records[i].times < ROWS_TOLD ? bp->records[i].times : ROWS_TOLD;
            for (int row = 1; row <= (int)rows; row++)
                crew_tell_receipt(r, 0, row, p, i);
        }
    }
}

void verdict_reach(struct run *r)
{
    struct drill_result *d = r->result;
    d->records = book_records_total(r->book);
    d->missed.certainty = d->repeated.certainty = d->unfinished.certainty = LEDGER_CERTAIN;
    for (int32_t p = 0; p < book_partitions(r->book); p++)
        look_at(r, p);
    d->is_blind = evidence_kind(r->o->evidence) == EVIDENCE_NONE;
    if (d->is_blind && d->verdict != DRILL_INCONCLUSIVE)
        judge_blind(r);
    else if (!r->script)
        judge_control(r);
    else if (d->verdict != DRILL_INCONCLUSIVE)
        judge(r);
    if (r->gave_up) {
        d->verdict = DRILL_FAIL;
        say_why(r, "%s", r->gave_up);
    }
    if (d->verdict == DRILL_INCONCLUSIVE && !r->has_settled) {
        // It ran out of time: what was still under way is nobody's fault.
        drop_findings(&d->missed);
        drop_findings(&d->unfinished);
    }
    d->certainty = d->is_blind            ? LEDGER_POSSIBLE
                   : r->o->control_passed ? LEDGER_CERTAIN
                                          : LEDGER_LIKELY;
    const struct drill_findings *const all[] = {&d->missed, &d->repeated, &d->unfinished};
    for (size_t i = 0; i < 3; i++) {
        if (all[i]->n > 0 && all[i]->certainty < d->certainty)
            d->certainty = all[i]->certainty;
    }
    tell_rows(r);
    if (r->real_group)
        ledger_judge(run_ledger(r), run_time(r), str_from(r->real_group));
    explain(r);
}

void drill_result_free(struct drill_result *d)
{
    if (!d)
        return;
    free_findings(&d->missed);
    free_findings(&d->repeated);
    free_findings(&d->unfinished);
    for (size_t i = 0; i < d->n_acts; i++) {
        free(d->acts[i].act);
        free(d->acts[i].target);
    }
    free(d->acts);
    json_decref(d->incidents);
    free(d->name);
    free(d->topic);
    free(d->why);
    free(d->advice);
    free(d);
}

const char *drill_verdict_name(enum drill_verdict v)
{
    static const char *const names[] = {"pass", "fail", "inconclusive"};
    return names[v];
}
