// The course of one run: stage, copies, records, script, closing restart, verdict, clean-up.

#include "drill/run.h"

#include "broker/broker.h"
#include "core/configs.h"
#include "os/net.h"
#include "wire/murmur2.h"

#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define START_MS 60000        // for all copies to be there: a JVM with a cold cache takes seconds
#define FEED_EVERY_MS 20      // between two looks at how much the consumers have before them
#define FEED_MAX_BATCH 100    // records of one append
#define FEED_MAX_BYTES 524288 // likewise: half of the default of max.message.bytes
#define FEED_MAX_RATE 2000    // records a second in all, however fast the consumers are
#define MIN_BACKLOG 10        // records before each copy, so that it is always at work
#define MAX_BACKLOG 400
#define TAIL_RECORDS 5        // to each partition in the end, so that commits pass what was before
#define QUIET_MS 700          // nothing more comes after that, at least
#define COMMIT_QUIET_MS 6000  // K stands still: auto commit's default interval is 5 s
#define EVIDENCE_EVERY_MS 100 // between two readings of a database
#define CONTROL_RECORDS 200
#define LATE_WAIT_MS 1000     // after all is still, for output that is written by a timer
#define START_AT_MS 8000      // then a consumer without a committed offset does not begin by itself
#define LINE_PROGRESS_MS 5000 // on what is no terminal

int run_fail(struct run *r, int error, const char *format, ...)
{
    struct buf b = {0};
    char text[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    buf_printf(&b, "%s", text);
    buf_add(&b, "", 1);
    free(r->why);
    r->why = (char *)b.ptr;
    return error;
}

static int64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void run_act(struct run *r, const char *act, const struct slot *target)
{
    struct drill_result *d = r->result;
    d->acts = realloc(d->acts, (d->n_acts + 1) * sizeof *d->acts);
    CHECK(d->acts);
    char name[16] = "";
    if (target)
        snprintf(name, sizeof name, "%d", target->instance);
    d->acts[d->n_acts++] =
        (struct drill_action){.wall_ms = wall_ms(), .act = strdup(act), .target = strdup(name)};
}

struct ledger *run_ledger(struct run *r)
{
    return broker_ledger(stage_broker(r->stage));
}

struct ledger_time run_time(struct run *r)
{
    (void)r;
    return (struct ledger_time){stage_now_ms(), wall_ms()};
}

int run_read_evidence(struct run *r)
{
    struct database *d = evidence_database(r->o->evidence);
    if (!d)
        return 0;
    uint64_t began_ms = stage_now_ms();
    char *place = copy_expand(&r->plan, database_place(d), 1, r->slots[0].address);
    char *query = copy_expand(&r->plan, database_query(d), 1, r->slots[0].address);
    char *why = NULL;
    int64_t before = book_worked_total(r->book);
    int rc = database_read(d, place, query, r->book, &why);
    if (rc == -EBUSY && why)
        (void)run_fail(r, rc, "evidence: %s", why); // to be said when it stays so
    else if (rc < 0 && rc != -EBUSY)
        rc = run_fail(r, -ECANCELED, "evidence: %s", why ? why : strerror(-rc));
    r->evidence_ms = stage_now_ms();
    r->evidence_pause_ms = (r->evidence_ms - began_ms) * 9 + EVIDENCE_EVERY_MS;
    if (book_worked_total(r->book) != before)
        r->last_worked_ms = stage_now_ms();
    free(why);
    free(query);
    free(place);
    return rc;
}

// A database that outlives a run may hold rows of former ones.
static int look_before(struct run *r)
{
    struct database *d = evidence_database(r->o->evidence);
    if (!d || !database_is_lasting(d))
        return 0;
    char *place = copy_expand(&r->plan, database_place(d), 1, "127.0.0.1:0");
    char *query = copy_expand(&r->plan, database_query(d), 1, "127.0.0.1:0");
    char *why = NULL;
    int64_t rows = 0;
    int rc = database_look_before(d, place, query, r->topic, &rows, &why);
    if (rc < 0)
        rc = run_fail(r, -ECANCELED, "evidence: %s", why ? why : "the database is locked");
    else if (rows > 0)
        rc = run_fail(r, -ECANCELED,
                      "evidence: the database has %lld rows for topic \"%s\" already, which cannot "
                      "be told from new ones: remove them; or %s",
                      (long long)rows, r->topic,
                      r->o->topic ? "leave --topic out, so that each run has a topic of its own"
                                  : "let the query give the topic too");
    free(why);
    free(query);
    free(place);
    return rc;
}

// ---- feeding

static struct bytes keep(struct arena *a, struct bytes b)
{
    return b.ptr ? arena_bytes(a, b) : b;
}

int run_append(struct run *r, int32_t partition, size_t n)
{
    struct stage_record batch[FEED_MAX_BATCH];
    char *why = NULL;
    int rc = 0;
    while (rc == 0 && n > 0 && !r->feed_is_empty) {
        size_t got = 0;
        struct arena *a = arena_new();
        struct supply_record f;
        size_t bytes = 0;
        bool has_more = false;
        while (got < n && got < FEED_MAX_BATCH &&
               (has_more = supply_at(r->o->supply, r->feed_at, &f))) {
            bytes += f.key.len + f.value.len + f.headers.len;
            if (got > 0 && bytes > FEED_MAX_BYTES)
                break;
            batch[got++] = (struct stage_record){keep(a, f.key), keep(a, f.value), f.n_headers,
                                                 keep(a, f.headers)};
            // Known before it is sent: a copy may report it before the append is answered.
            book_add(r->book, partition, f.key);
            r->feed_at++;
        }
        r->feed_is_empty = !has_more;
        int64_t base = book_partition(r->book, partition)->n - (int64_t)got;
        int64_t at = base;
        if (got > 0)
            rc = stage_append(r->stage, r->topic, partition, batch, got, &at, &why);
        if (rc < 0)
            rc = run_fail(r, -EIO, "%s", why);
        else if (at != base)
            rc = run_fail(r, -EIO, "somebody else writes to topic \"%s\"", r->topic);
        arena_free(a);
        free(why);
        why = NULL;
        n -= got;
    }
    return rc;
}

static int64_t outstanding(struct run *r)
{
    bool is_blind = evidence_kind(r->o->evidence) == EVIDENCE_NONE;
    int64_t n = 0;
    for (int32_t p = 0; p < book_partitions(r->book); p++) {
        struct book_partition *bp = book_partition(r->book, p);
        int64_t from = is_blind ? bp->sent_end : book_gap(r->book, p);
        // What the consumer has passed over or skipped does not keep it busy.
        from = bp->k > from ? bp->k : from;
        from = bp->jumped_to > from ? bp->jumped_to : from;
        n += bp->n > from ? bp->n - from : 0;
    }
    return n;
}

// Keeps about a second of work before the consumers.
static void measure(struct run *r, uint64_t now)
{
    int64_t worked = book_worked_total(r->book);
    if (now - r->rate_ms < 1000)
        return;
    int64_t rate = (worked - r->rate_worked) * 1000 / (int64_t)(now - r->rate_ms);
    int64_t least = (int64_t)MIN_BACKLOG * crew_wanted(r);
    r->backlog = rate < least ? least : rate > MAX_BACKLOG ? MAX_BACKLOG : rate;
    r->rate_ms = now;
    r->rate_worked = worked;
}

static int feed(struct run *r)
{
    uint64_t now = stage_now_ms();
    if (!r->feeds || now - r->fed_ms < FEED_EVERY_MS)
        return 0;
    uint64_t passed = now - r->fed_ms;
    r->fed_ms = now;
    measure(r, now);
    int64_t n = r->backlog - outstanding(r);
    int64_t most = (int64_t)(passed < 1000 ? passed : 1000) * FEED_MAX_RATE / 1000;
    n = n > most ? most : n;
    int32_t partitions = book_partitions(r->book);
    int64_t each = n / partitions;
    if (n <= 0)
        return 0;
    int rc = 0;
    for (int32_t i = 0; rc == 0 && i < partitions; i++) {
        int64_t share = each + (i < n % partitions);
        if (share > 0)
            rc = run_append(r, (r->next_partition + i) % partitions, (size_t)share);
    }
    r->next_partition = (r->next_partition + (int32_t)(n % partitions)) % partitions;
    return rc;
}

// ---- the loop

static void show_progress(struct run *r)
{
    uint64_t now = stage_now_ms();
    bool is_terminal = isatty(STDERR_FILENO);
    if (!r->o->shows_progress || now - r->progress_ms < (is_terminal ? 250 : LINE_PROGRESS_MS))
        return;
    r->progress_ms = now;
    fprintf(stderr, "%s%-20s %3llus  %d copies  %lld sent out, %lld worked on  %s%s",
            is_terminal ? "\r" : "  ", r->script ? r->script->name : "control",
            (unsigned long long)(now - r->began_ms) / 1000, crew_wanted(r),
            (long long)book_records_total(r->book), (long long)book_worked_total(r->book),
            r->doing ? r->doing : "", is_terminal ? "\x1b[K" : "\n");
    r->progress_shown = is_terminal;
    fflush(stderr);
}

int run_pump(struct run *r, int timeout_ms)
{
    if (r->o->interrupted && *r->o->interrupted)
        return -EINTR;
    int rc = stage_run(r->stage, timeout_ms);
    if (rc < 0)
        return run_fail(r, rc, "the embedded broker has failed");
    rc = crew_read(r);
    if (rc == 0)
        rc = feed(r);
    if (rc == 0 && evidence_database(r->o->evidence) &&
        stage_now_ms() - r->evidence_ms > r->evidence_pause_ms) {
        rc = run_read_evidence(r);
        rc = rc == -EBUSY ? 0 : rc;
    }
    show_progress(r);
    return rc;
}

int run_until(struct run *r, run_cond *cond, uint64_t deadline_ms)
{
    while (!cond(r)) {
        if (stage_now_ms() > deadline_ms)
            return 0;
        int rc = run_pump(r, 10);
        if (rc < 0)
            return rc;
    }
    return 1;
}

// ---- settling

static bool is_accounted(struct run *r)
{
    for (int32_t p = 0; p < book_partitions(r->book); p++) {
        struct book_partition *bp = book_partition(r->book, p);
        for (int64_t i = bp->k > bp->gap ? bp->k : book_gap(r->book, p); i < bp->n; i++) {
            if (bp->records[i].times == 0 && !bp->records[i].excused)
                return false;
        }
    }
    return true;
}

static bool is_committed(struct run *r)
{
    for (int32_t p = 0; p < book_partitions(r->book); p++) {
        struct book_partition *bp = book_partition(r->book, p);
        if (bp->k < bp->n && bp->n > 0)
            return false;
    }
    return true;
}

static uint64_t quiet_ms(const struct run *r)
{
    uint64_t slow = r->slowest_ms * 3;
    return slow > QUIET_MS ? slow : QUIET_MS;
}

// For how long no commit must come until none is expected any more: what was seen while records
// flowed tells a timer from a commit after each batch.
static uint64_t commit_quiet_ms(const struct run *r)
{
    uint64_t quiet = r->commit_gap_ms * 2;
    if (r->commits_seen < 4 || quiet > COMMIT_QUIET_MS)
        return COMMIT_QUIET_MS;
    return quiet > QUIET_MS ? quiet : QUIET_MS;
}

// All is worked on or passed over, and the committed offset stands still.
static bool is_settled(struct run *r)
{
    uint64_t now = stage_now_ms();
    bool blind = evidence_kind(r->o->evidence) == EVIDENCE_NONE;
    if (!blind && !is_accounted(r))
        return false;
    if (now - r->last_worked_ms < quiet_ms(r))
        return false;
    if (is_committed(r) || !r->script)
        return true;
    // Whoever has committed will again; whoever never has keeps its offsets elsewhere.
    if (r->commits_seen == 0)
        return !blind || now - r->began_ms > COMMIT_QUIET_MS;
    uint64_t quiet = commit_quiet_ms(r);
    return now - r->last_commit_ms > quiet && now - r->last_worked_ms > quiet;
}

static bool is_at_end(struct run *r)
{
    if (!crew_is_stable(r))
        return false;
    for (int32_t p = 0; p < book_partitions(r->book); p++) {
        if (book_partition(r->book, p)->fetched_at < book_partition(r->book, p)->n)
            return false;
    }
    return stage_now_ms() - r->last_worked_ms > quiet_ms(r);
}

static int feed_the_rest(struct run *r, int64_t least)
{
    r->doing = "feeding the rest";
    int64_t missing = least - book_records_total(r->book);
    int32_t n = book_partitions(r->book);
    r->feeds = false;
    int rc = 0;
    for (int32_t p = 0; rc == 0 && p < n; p++) {
        int64_t share = missing > 0 ? (missing + n - 1) / n : 0;
        rc = run_append(r, p, (size_t)(share > TAIL_RECORDS ? share : TAIL_RECORDS));
    }
    return rc;
}

// Stops and starts all copies, so that what a stale commit hides comes out.
static int closing_restart(struct run *r)
{
    r->doing = "closing restart";
    r->is_closing = true;
    run_act(r, "closing restart", NULL);
    int rc = crew_stop_all(r);
    if (rc == 0)
        rc = run_until(r, crew_is_empty, stage_now_ms() + RUN_STOP_MS);
    book_forget_fetchers(r->book);
    for (int i = 0; rc >= 0 && i < r->n_slots; i++)
        rc = crew_start(r, &r->slots[i]);
    if (rc >= 0)
        rc = run_until(r, is_at_end, r->deadline_ms);
    return rc < 0 ? rc : 0;
}

// ---- begin and end

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    (void)remove(path);
    return 0;
}

static int make_dirs(struct run *r)
{
    struct buf b = {0};
    if (r->o->keep_dir) {
        buf_printf(&b, "%s/%s", r->o->keep_dir, r->script ? r->script->name : "control");
        buf_add(&b, "", 1);
        r->dir = (char *)b.ptr;
        (void)mkdir(r->o->keep_dir, 0777);
        (void)nftw(r->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        if (mkdir(r->dir, 0777) < 0)
            return run_fail(r, -errno, "cannot make %s: %s", r->dir, strerror(errno));
        return 0;
    }
    const char *tmp = getenv("TMPDIR");
    buf_printf(&b, "%s/tally-drill.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    buf_add(&b, "", 1);
    r->dir = (char *)b.ptr;
    if (!mkdtemp(r->dir)) {
        int rc = run_fail(r, -errno, "cannot make %s: %s", r->dir, strerror(errno));
        r->dir[0] = '\0';
        return rc;
    }
    return 0;
}

static int start_stage(struct run *r, struct configs *settings)
{
    struct buf b = {0};
    buf_printf(&b, "%s/broker", r->dir);
    buf_add(&b, "", 1);
    char *why = NULL;
    int rc = 0;
    if (mkdir((char *)b.ptr, 0777) < 0)
        rc = run_fail(r, -errno, "cannot make %s: %s", (char *)b.ptr, strerror(errno));
    if (rc == 0)
        rc = stage_new((char *)b.ptr, settings, &r->stage, &why);
    if (rc == 0) {
        watch_begin(r);
        int n = r->o->partitions ? r->o->partitions : r->script ? r->script->partitions : 2;
        rc = stage_make_topic(r->stage, r->topic, n, &why);
        book_set_partitions(r->book, n);
        r->topic_id = stage_topic_id(r->stage, r->topic);
    }
    if (why)
        rc = run_fail(r, rc, "%s", why);
    free(why);
    buf_free(&b);
    return rc;
}

// Positions were looked up, there were none, and nobody chooses one: auto.offset.reset=none.
static bool waits_for_an_offset(struct run *r)
{
    return r->real_group && r->requests[API_OFFSET_FETCH] > 0 && r->requests[API_FETCH] == 0 &&
           r->requests[API_LIST_OFFSETS] == 0;
}

// As an operator does for such a consumer: a committed offset at the beginning.
static int commit_start(struct run *r)
{
    run_act(r, "commit offset 0 (the consumer has none and chooses none)", NULL);
    int rc = crew_stop_all(r);
    if (rc == 0)
        rc = run_until(r, crew_is_empty, stage_now_ms() + RUN_STOP_MS);
    for (int32_t p = 0; rc >= 0 && p < book_partitions(r->book); p++) {
        enum kerr e = tap_set_offset(stage_broker(r->stage), str_from(r->real_group),
                                     str_from(r->topic), p, 0);
        if (e != KERR_NONE)
            return run_fail(r, -EIO, "cannot commit offset 0: %s", kerr_name(e));
        book_moved(r->book, p, 0);
    }
    for (int i = 0; rc >= 0 && i < r->n_slots; i++)
        rc = crew_start(r, &r->slots[i]);
    return rc < 0 ? rc : 0;
}

static int start_copies(struct run *r)
{
    r->doing = "waiting for the group";
    int n = r->o->copies ? r->o->copies : r->script ? r->script->copies : 2;
    int rc = 0;
    for (int i = 0; rc == 0 && i < n; i++) {
        struct slot *s;
        rc = crew_add(r, &s);
        if (rc == 0)
            rc = crew_start(r, s);
    }
    uint64_t until = stage_now_ms() + START_AT_MS;
    if (rc == 0)
        rc = run_until(r, crew_is_stable, until < r->deadline_ms ? until : r->deadline_ms);
    if (rc == 0 && waits_for_an_offset(r))
        rc = commit_start(r);
    until += START_MS - START_AT_MS;
    if (rc == 0)
        rc = run_until(r, crew_is_stable, until < r->deadline_ms ? until : r->deadline_ms);
    if (rc == 0) {
        char *story = crew_story(r);
        rc = run_fail(r, -ECANCELED, "the copies did not become ready within %llu s: %s",
                      (unsigned long long)((stage_now_ms() - r->began_ms) / 1000), story);
        free(story);
        return rc;
    }
    return rc < 0 ? rc : 0;
}

static int64_t count_not_shown(struct run *r)
{
    int64_t n = 0;
    for (int32_t p = 0; p < book_partitions(r->book); p++) {
        struct book_partition *bp = book_partition(r->book, p);
        for (int64_t i = 0; i < bp->n; i++)
            n += bp->records[i].times == 0;
    }
    return n;
}

static bool is_all_shown(struct run *r)
{
    return count_not_shown(r) == 0;
}

// Stops the copies for good. What shows only then in the control pass, when all stood still before,
// was done long ago, or is done when nobody expects it any more.
static int stop_for_good(struct run *r)
{
    bool looks = !r->script && evidence_kind(r->o->evidence) == EVIDENCE_STDOUT;
    int rc = 0;
    if (looks)
        rc = run_until(r, is_all_shown, stage_now_ms() + LATE_WAIT_MS);
    int64_t before = count_not_shown(r);
    for (int i = 0; i < r->n_slots; i++)
        r->is_cut |= r->slots[i].copy && copy_is_cut(r->slots[i].copy);
    r->doing = "stopping";
    if (rc >= 0)
        rc = crew_stop_all(r);
    if (looks)
        r->late_shown = before - count_not_shown(r);
    return rc < 0 ? rc : 0;
}

static int play(struct run *r)
{
    int rc = start_copies(r);
    if (rc < 0)
        return rc;
    r->feeds = true;
    r->backlog = (int64_t)MIN_BACKLOG * crew_wanted(r);
    r->rate_ms = r->fed_ms = r->last_worked_ms = r->last_commit_ms = stage_now_ms();
    if (r->script)
        rc = steps_play(r);
    int64_t least = r->script ? r->script->records : CONTROL_RECORDS;
    bool goes_on = rc == 0 && r->result->verdict != DRILL_INCONCLUSIVE && !r->gave_up;
    if (goes_on)
        rc = feed_the_rest(r, least);
    r->doing = "settling";
    if (goes_on && rc == 0)
        rc = run_until(r, is_settled, r->deadline_ms);
    r->has_settled = goes_on && rc > 0;
    if (goes_on && rc >= 0 && r->script)
        rc = closing_restart(r);
    if (rc >= 0)
        rc = stop_for_good(r);
    if (rc >= 0) {
        rc = run_read_evidence(r);
        if (rc == -EBUSY)
            rc =
                r->why ? -ECANCELED : run_fail(r, -ECANCELED, "the evidence database stays locked");
    }
    return rc < 0 ? rc : 0;
}

static void copy_settings(const struct configs *from, struct configs *to)
{
    struct str name, value;
    configs_set(to, STR("group.initial.rebalance.delay.ms"), STR(RUN_REBALANCE_DELAY));
    for (size_t it = 0; from && configs_next(from, &it, &name, &value);)
        configs_set(to, name, value);
}

static void clean_up(struct run *r)
{
    if (r->progress_shown)
        fprintf(stderr, "\r\x1b[K");
    if (r->stage)
        crew_free(r);
    if (r->stage && r->o->keep_dir) {
        broker_stop(stage_broker(r->stage));
        for (int i = 0; i < 1000 && !broker_is_stopped(stage_broker(r->stage)); i++) {
            if (stage_run(r->stage, 5) < 0)
                break;
        }
    }
    if (r->stage)
        stage_set_tap(r->stage, NULL);
    stage_free(r->stage);
    if (r->dir && *r->dir && !r->o->keep_dir)
        (void)nftw(r->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    book_free(r->book);
    free(r->dir);
    free(r->topic);
    free(r->group);
    free(r->real_group);
    free(r->other_topic);
    free(r->odd_line);
    free(r->gave_up);
}

// In a database that outlives a run, each run has a topic and keys of its own.
static void name_run(struct run *r)
{
    struct database *d = evidence_database(r->o->evidence);
    char mark[20] = "", topic[32], group[40];
    if (d && database_is_lasting(d)) {
        uint32_t n;
        CHECK(getrandom(&n, sizeof n, 0) == sizeof n);
        snprintf(mark, sizeof mark, "-%08x", n);
    }
    snprintf(topic, sizeof topic, "drill%s", mark);
    snprintf(group, sizeof group, "drill-group%s", mark);
    r->topic = strdup(r->o->topic ? r->o->topic : topic);
    r->group = strdup(group);
    CHECK(r->topic && r->group);
    supply_mark(r->o->supply, mark);
}

int drill_run(const struct drill_options *o, const struct drill_script *script,
              struct drill_result **ret_result, char **ret_why)
{
    copy_adopt_orphans();
    struct run r = {.o = o, .script = script};
    r.result = calloc(1, sizeof *r.result);
    CHECK(r.result);
    r.began_ms = stage_now_ms();
    r.deadline_ms = r.began_ms + o->timeout_ms;
    name_run(&r);
    r.result->name = strdup(script ? script->name : "control");
    r.result->topic = strdup(r.topic);
    r.result->is_control = !script;
    r.book = book_new(r.topic);
    supply_forbid_keys(o->supply, r.book);
    struct configs *settings = configs_new();
    copy_settings(o->fixed, settings);
    int rc = make_dirs(&r);
    r.plan = (struct copy_plan){.argv = o->argv,
                                .topic = r.topic,
                                .group = r.group,
                                .dir = r.dir,
                                .keep_dir = o->keep_dir ? r.dir : NULL};
    if (rc == 0)
        rc = look_before(&r);
    if (rc == 0)
        rc = start_stage(&r, settings);
    if (rc == 0)
        rc = play(&r);
    if (rc == 0)
        verdict_reach(&r);
    r.result->seconds = (double)(stage_now_ms() - r.began_ms) / 1000.0;
    clean_up(&r);
    configs_free(settings);
    if (rc < 0) {
        drill_result_free(r.result);
        *ret_why = r.why ? r.why : rc == -EINTR ? strdup("interrupted") : strdup(strerror(-rc));
        return rc;
    }
    free(r.why);
    *ret_result = r.result;
    return 0;
}
