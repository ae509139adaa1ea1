// Runs test/table/ledger/*.txt: events in, states and incidents out. After every event the states
// must add up, and a second ledger restored from a snapshot must say the same. At the end all
// hard facts are replayed from the beginning, as after a crash without a snapshot.
//
// One event a line, one second apart; see test/table/ledger/README.txt for the words.

#include "ledger_words.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// ---- what must hold

static void report(struct run *r, struct ledger *l, struct buf *out)
{
    struct arena *a = arena_new();
    struct tally_report_request req = {STR_NULL, STR_NULL, 0, 0, true, true};
    struct tally_report_response res;
    ledger_report(l, &req, &res, a);
    if (!str_is_null(res.verify_failure)) {
        buf_add(out, "", 1);
        stop(r, "does not add up:", arena_str(a, res.verify_failure).ptr);
    }
    res.version = 0;
    kw_print(&tally_report_response_msg, 0, &res, out);
    buf_add(out, "", 1);
    arena_free(a);
}

static void check_snapshot(struct run *r)
{
    struct effects fx;
    struct arena *a = arena_new();
    effects_init(&fx, a);
    ledger_snapshot(r->l, &fx);
    struct ledger *twin = fresh(r);
    ledger_set_replay(twin, true);
    for (struct effect_record *e = fx.first_record; e; e = e->next)
        ledger_apply(twin, e->type, e->record);
    ledger_set_replay(twin, false);
    struct buf mine = {0}, its = {0};
    report(r, r->l, &mine);
    report(r, twin, &its);
    if (strcmp((char *)mine.ptr, (char *)its.ptr)) {
        print_error("live:     %s\nrestored: %s\n", (char *)mine.ptr, (char *)its.ptr);
        stop(r, "a restored ledger differs", "");
    }
    buf_free(&mine);
    buf_free(&its);
    ledger_free(twin);
    arena_free(a);
}

static void journal_add(struct run *r, struct entry e)
{
    assert_true(r->n_journal < ENTRIES_MAX);
    e.t = r->t;
    r->journal[r->n_journal++] = e;
}

static void do_state(struct run *r)
{
    struct ledger_tp tp = tp_of(word(r, 2));
    struct ledger_partition_view v;
    if (!ledger_partition(r->l, sw(r, 1), tp.topic_id, tp.partition, &v)) {
        if (!strcmp(word(r, 3), "none"))
            return;
        stop(r, "the partition has no account", "");
    }
    char is[400] = "", want[400] = "";
    for (int i = 0; i < LEDGER_STATES; i++) {
        const char *o = option(r, ledger_state_name((enum ledger_state)i));
        char *end = is + strlen(is);
        if (v.state[i])
            snprintf(end, sizeof is - strlen(is), " %s=%ld",
                     ledger_state_name((enum ledger_state)i), v.state[i]);
        end = want + strlen(want);
        if (o && atol(o))
            snprintf(end, sizeof want - strlen(want), " %s=%ld",
                     ledger_state_name((enum ledger_state)i), atol(o));
    }
    const char *o = option(r, "resent");
    if (strcmp(is, want) || v.resent != (o ? atol(o) : 0)) {
        char text[512];
        snprintf(text, sizeof text, "%s resent=%ld", is, v.resent);
        stop(r, "but it is", text);
    }
    if ((o = option(r, "first")) && atol(o) != v.first)
        stop(r, "first differs", "");
    if ((o = option(r, "k")) && atol(o) != v.committed_offset)
        stop(r, "K differs", "");
}

static void do_times(struct run *r)
{
    struct ledger_tp tp = tp_of(word(r, 2));
    struct ledger_range g = range_of(word(r, 3));
    for (int64_t at = g.from; at < g.to; at++) {
        uint32_t n = 0;
        (void)ledger_state_of(r->l, sw(r, 1), tp.topic_id, tp.partition, at, &n);
        bool is_all = ledger_is_covered(r->l, sw(r, 1), tp.topic_id, tp.partition, at);
        char is[64];
        snprintf(is, sizeof is, "%u%s", n, is_all ? "" : "+");
        if (strcmp(is, word(r, 4)) == 0)
            continue;
        snprintf(is, sizeof is, "%ld: %u%s", at, n, is_all ? "" : "+");
        stop(r, "but it is", is);
    }
}

static bool option_is(struct run *r, const char *key, const char *value)
{
    const char *o = option(r, key);
    return !o || !strcmp(o, value);
}

static bool number_is(struct run *r, const char *key, int64_t value)
{
    const char *o = option(r, key);
    return !o || atol(o) == value;
}

static bool contributes(struct run *r, uint64_t set)
{
    const char *o = option(r, "contributing");
    return !o || (cause_find(str_from(o)) < CAUSE_COUNT &&
                  set & (UINT64_C(1) << cause_find(str_from(o))));
}

static bool incident_is(struct run *r, const struct ledger_incident_view *v)
{
    const char *advice = option(r, "advice");
    const char *proof = option(r, "proof");
    bool proved = !proof;
    for (size_t i = 0; i < v->n_evidence && !proved; i++)
        proved = memmem(v->evidence[i].summary.ptr, (size_t)v->evidence[i].summary.len, proof,
                        strlen(proof)) != NULL;
    return proved && option_is(r, "certainty", ledger_certainty_name(v->certainty)) &&
           option_is(r, "attribution", ledger_certainty_name(v->attribution)) &&
           option_is(r, "trigger", ledger_trigger_name(v->trigger)) &&
           option_is(r, "quiet", v->quiet ? "yes" : "no") &&
           option_is(r, "closed", v->closed ? "yes" : "no") &&
           option_is(r, "resolved", v->resolved ? "yes" : "no") &&
           option_is(r, "forced", v->forced ? "yes" : "no") &&
           number_is(r, "records", v->records) && number_is(r, "step", v->likely_at_most) &&
           option_is(r, "from", v->from.member.len > 0 ? v->from.member.ptr : "-") &&
           option_is(r, "to", v->to.member.len > 0 ? v->to.member.ptr : "-") &&
           contributes(r, v->contributing) &&
           (!advice || memmem(v->advice.ptr, (size_t)v->advice.len, advice, strlen(advice)));
}

static void list_incidents(struct run *r)
{
    struct ledger_incident_view v;
    for (size_t it = 0; ledger_next_incident(r->l, STR_NULL, 0, &it, &v);) {
        print_error("  is: %s %s p%d %ld-%ld records=%ld step=%ld certainty=%s attribution=%s "
                    "trigger=%s %s%s%s from=%.*s to=%.*s contributing=%lx\n      %.*s\n",
                    ledger_class_name(v.class), cause_name(v.cause), v.partition, v.first,
                    v.last + 1, v.records, v.likely_at_most, ledger_certainty_name(v.certainty),
                    ledger_certainty_name(v.attribution), ledger_trigger_name(v.trigger),
                    v.quiet ? "quiet " : "", v.closed ? "closed " : "",
                    v.resolved ? "resolved " : "", STR_FMT(v.from.member), STR_FMT(v.to.member),
                    v.contributing, STR_FMT(v.advice));
        for (size_t i = 0; i < v.n_evidence; i++)
            print_error("      %s: %.*s\n", v.evidence[i].api, STR_FMT(v.evidence[i].summary));
    }
}

// incident CLASS CAUSE TP|group A-B key=value...
static void do_incident(struct run *r)
{
    struct ledger_incident_view v;
    bool whole = !strcmp(word(r, 3), "group");
    struct ledger_tp tp = whole ? (struct ledger_tp){{{0}}, -1} : tp_of(r->w[3]);
    struct ledger_range g = whole ? (struct ledger_range){-1, 0} : range_of(word(r, 4));
    for (size_t it = 0; ledger_next_incident(r->l, STR_NULL, 0, &it, &v);)
        if (!strcmp(ledger_class_name(v.class), word(r, 1)) &&
            !strcmp(cause_name(v.cause), word(r, 2)) && v.partition == tp.partition &&
            (whole ||
             (uuid_eq(v.topic_id, tp.topic_id) && v.first == g.from && v.last + 1 == g.to)) &&
            incident_is(r, &v))
            return;
    list_incidents(r);
    stop(r, "there is no such incident", "");
}

// alarms N: incidents that are neither notes nor quiet. all N: every one.
static void count_incidents(struct run *r, bool alarms)
{
    struct ledger_incident_view v;
    int64_t n = 0;
    for (size_t it = 0; ledger_next_incident(r->l, STR_NULL, 0, &it, &v);)
        n += !alarms || (v.class != LEDGER_NOTE && !v.quiet);
    if (n == num(r, 1))
        return;
    list_incidents(r);
    stop(r, "but there are others", "");
}

static void do_alarms(struct run *r)
{
    count_incidents(r, true);
}

static void do_all(struct run *r)
{
    count_incidents(r, false);
}

// rebalances GROUP N [trigger=] [pause=] [from=] [to=] [resent=]: the last one is this.
static void do_rebalances(struct run *r)
{
    struct ledger_rebalance_view v = {0};
    int64_t n = 0;
    bool ok = true;
    for (size_t it = 0; ledger_next_rebalance(r->l, sw(r, 1), &it, &v); n++) {
        const struct ledger_handover_view *h = v.n_partitions ? v.partitions : NULL;
        ok = option_is(r, "trigger", ledger_trigger_name(v.trigger)) &&
             (!option(r, "pause") || (h && number_is(r, "pause", h->pause_ms))) &&
             (!option(r, "resent") || (h && number_is(r, "resent", h->resent))) &&
             option_is(r, "member", v.member.len > 0 ? v.member.ptr : "-") &&
             option_is(r, "waited", v.waited_for.len > 0 ? v.waited_for.ptr : "-");
    }
    if (n != num(r, 2) || !ok)
        stop(r, "but it is not so", ledger_trigger_name(v.trigger));
}

static void do_snapshot(struct run *r)
{
    struct effects fx;
    effects_init(&fx, r->arena);
    r->snapshot_at = r->n_journal;
    ledger_snapshot(r->l, &fx);
    for (struct effect_record *e = fx.first_record; e; e = e->next)
        journal_add(r, (struct entry){NULL, e->type, e->record, r->t});
}

// What the opening of the logs tells after a power cut.
struct losses {
    struct ledger_tp tp[4];
    struct ledger_range range[4];
    int n;
};
static void replay(struct run *r, struct ledger *l, size_t from, const struct losses *lost);

// crash [TP A-B]...: and these records are found to be gone.
static void do_crash(struct run *r)
{
    struct losses lost = {.n = r->n / 2};
    for (int i = 0; i < lost.n; i++) {
        lost.tp[i] = tp_of(r->w[2 * i + 1]);
        lost.range[i] = range_of(r->w[2 * i + 2]);
    }
    struct ledger *next = fresh(r);
    replay(r, next, r->snapshot_at, &lost);
    ledger_free(r->l);
    r->l = next;
}

static void do_stop(struct run *r) // a clean stop and start
{
    do_snapshot(r);
    struct ledger *next = fresh(r);
    replay(r, next, r->snapshot_at, NULL);
    ledger_free(r->l);
    r->l = next;
}

static const struct command checks[] = {
    {"snapshot", do_snapshot, false, false},
    {"crash", do_crash, false, false},
    {"stop", do_stop, false, false},
    {"state", do_state, false, true},
    {"times", do_times, false, true},
    {"incident", do_incident, false, true},
    {"alarms", do_alarms, false, true},
    {"all", do_all, false, true},
    {"rebalances", do_rebalances, false, true},
    {NULL, NULL, false, false},
};

static const struct command *parse(struct run *r, char *copy)
{
    r->n = 0;
    for (char *save, *p = strtok_r(copy, " \t", &save); p; p = strtok_r(NULL, " \t", &save)) {
        if (*p == '#')
            break;
        assert_true(r->n < WORDS_MAX);
        r->w[r->n++] = p;
    }
    for (const struct command *c = ledger_events; r->n && c->name; c++)
        if (!strcmp(c->name, r->w[0]))
            return c;
    for (const struct command *c = checks; r->n && c->name; c++)
        if (!strcmp(c->name, r->w[0]))
            return c;
    if (r->n)
        stop(r, "no such word", r->w[0]);
    return NULL;
}

static void replay(struct run *r, struct ledger *l, size_t from, const struct losses *lost)
{
    struct ledger *live = r->l;
    struct ledger_time now = r->t;
    struct test_tp tps[TPS_MAX];
    memcpy(tps, r->tps, sizeof tps);
    r->l = l;
    ledger_set_replay(l, true);
    for (size_t i = from; i < r->n_journal; i++) {
        struct entry *e = &r->journal[i];
        r->t = e->t;
        if (e->type) {
            ledger_apply(l, e->type, e->record);
            continue;
        }
        char *copy = arena_printf(r->arena, "%s", e->line);
        parse(r, copy)->run(r);
    }
    ledger_set_replay(l, false);
    r->t = now;
    memcpy(r->tps, tps, sizeof tps);
    for (int i = 0; lost && i < lost->n; i++)
        ledger_records_lost(l, now, lost->tp[i].topic_id, lost->tp[i].partition, lost->range[i]);
    ledger_restarted(l, now, lost == NULL);
    r->l = live;
    struct buf out = {0};
    report(r, l, &out);
    buf_free(&out);
}

static void step(struct run *r, char *line)
{
    r->source = line;
    char *copy = arena_printf(r->arena, "%s", line);
    const struct command *c = parse(r, copy);
    if (!c)
        return;
    if (!c->check) {
        r->t.now_ms += 1000;
        r->t.wall_ms += 1000;
    }
    if (c->hard && !is_refusal(r, c))
        journal_add(r, (struct entry){arena_printf(r->arena, "%s", line), NULL, NULL, r->t});
    c->run(r);
    struct effects fx;
    effects_init(&fx, r->arena);
    ledger_emit(r->l, &fx);
    for (struct effect_record *e = fx.first_record; e; e = e->next)
        journal_add(r, (struct entry){NULL, e->type, e->record, r->t});
    if (!c->check)
        check_snapshot(r);
}

static void run_file(const char *path)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    struct run *r = calloc(1, sizeof *r);
    r->journal = calloc(ENTRIES_MAX, sizeof *r->journal);
    r->arena = arena_new();
    r->file = path;
    r->t = (struct ledger_time){1000, 1700000000000};
    r->l = fresh(r);
    char line[512];
    while (fgets(line, sizeof line, f)) {
        r->line++;
        line[strcspn(line, "\n")] = 0;
        step(r, line);
    }
    fclose(f);
    char end[] = "(replayed from the beginning)";
    r->source = end;
    struct ledger *again = fresh(r);
    replay(r, again, 0, &(struct losses){0});
    ledger_free(again);
    ledger_free(r->l);
    arena_free(r->arena);
    free(r->journal);
    free(r);
}

static void test_file(void **state)
{
    run_file(*state);
}

static int is_table(const struct dirent *d)
{
    size_t len = strlen(d->d_name);
    return len > 4 && !strcmp(d->d_name + len - 4, ".txt") && strcmp(d->d_name, "README.txt");
}

int main(void)
{
    struct dirent **files;
    int n = scandir("test/table/ledger", &files, is_table, alphasort);
    if (n <= 0)
        return 1;
    struct CMUnitTest *tests = calloc((size_t)n, sizeof *tests);
    for (int i = 0; i < n; i++) {
        char path[512];
        snprintf(path, sizeof path, "test/table/ledger/%s", files[i]->d_name);
        char *kept = strdup(path);
        tests[i] = (struct CMUnitTest){kept, test_file, NULL, NULL, kept};
        free(files[i]);
    }
    free(files);
    int failed = _cmocka_run_group_tests("ledger", tests, (size_t)n, NULL, NULL);
    for (int i = 0; i < n; i++)
        free(tests[i].initial_state);
    free(tests);
    return failed;
}
