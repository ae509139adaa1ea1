// The triggers and acts of a script.

#include "broker/broker.h"
#include "core/core.h"
#include "core/group/group.h"
#include "drill/run.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FALLBACK_KILLS 3     // when no commit ever ran ahead
#define FALLBACK_WORKED 10   // records after which to kill one that makes no commits
#define NO_COMMIT_MS 12000   // auto commit's default interval is 5 s
#define NATURAL_WAIT_MS 6000 // for n records beyond a commit, before commits are held
#define NATURAL_TRIES 20     // of stopping a process, likewise
#define DECIDE_WAIT_MS 2000  // for a commit that is under way to be durable
#define REFRESH_FETCHES 8    // one connection a broker and a few in flight; then clients know
#define REFRESH_WAIT_MS 1500 // for a group to notice new partitions by itself
#define KEPT_OUT_MS 15000    // nobody takes over from the copy that stands still
#define UNLOCK_WAIT_MS 5000  // for a moment at which it holds no lock of the database
#define OTHERS_WRITE_MS 100  // a transaction of a copy that runs is over by then
#define MOVED_WAIT_MS 2000   // for evidence of the new owner, where evidence is not by copy

// What a trigger came to.
enum came { CAME, CAME_NOT, CAME_FALLBACK };

static int inconclusive(struct run *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int inconclusive(struct run *r, const char *format, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (!r->result->why)
        r->result->why = strdup(text);
    r->result->verdict = DRILL_INCONCLUSIVE;
    return 0;
}

static bool is_late(const struct run *r)
{
    return stage_now_ms() > r->deadline_ms;
}

static void thaw_all(struct run *r)
{
    for (int i = 0; i < r->n_slots; i++) {
        if (r->slots[i].copy)
            copy_thaw(r->slots[i].copy);
    }
}

// Stops a copy for a look at it: it stands still, what it wrote is read, and what it sent is
// decided. 1, 0 when it ended or would not stop, or negative.
static int still(struct run *r, struct slot *s)
{
    if (!s->copy)
        return 0;
    int rc = copy_freeze(s->copy);
    if (rc == -ESRCH || rc == -ETIMEDOUT)
        return 0;
    if (rc == 0)
        rc = stage_settle(r->stage);
    uint64_t until = stage_now_ms() + DECIDE_WAIT_MS;
    while (rc == 0 && s->commit_in_flight && stage_now_ms() < until)
        rc = run_pump(r, 2);
    if (rc < 0)
        return rc;
    rc = run_read_evidence(r);
    if (rc == -EBUSY) {
        // It was stopped in the middle of a write to its database: nothing can be seen now.
        if (s->copy)
            copy_thaw(s->copy);
        return 0;
    }
    return rc < 0 ? rc : s->copy != NULL;
}

static bool chance_came(struct run *r)
{
    return r->chance != NULL;
}

static bool chance_decided(struct run *r)
{
    return !r->chance || r->chance_is_decided;
}

// Waits for the next commit, whose sender is stopped as it arrives. 1 with r->chance standing
// still and its commits known, 0 at the deadline, or negative.
static int next_chance(struct run *r, uint64_t deadline_ms)
{
    r->looks_ahead = true;
    int rc = run_until(r, chance_came, deadline_ms);
    r->looks_ahead = false;
    if (rc <= 0)
        return rc;
    int is_still = still(r, r->chance);
    if (is_still < 0)
        return is_still;
    rc = run_until(r, chance_decided, stage_now_ms() + DECIDE_WAIT_MS);
    if (rc < 0)
        return rc;
    if (!is_still && r->chance) {
        if (r->chance->copy)
            copy_kill(r->chance->copy); // stopped and not still: not to be left like that
        r->chance = NULL;
    }
    return 1;
}

static bool is_cut(const struct slot *s)
{
    return s->copy && copy_is_cut(s->copy);
}

static bool is_ahead(struct run *r)
{
    for (size_t i = 0; r->chance && i < r->n_commits; i++) {
        if (book_gap(r->book, r->commits[i].partition) < r->commits[i].k)
            return true;
    }
    return false;
}

static int restart(struct run *r, struct slot *s)
{
    int rc = crew_kill(r, s, true);
    if (rc == 0)
        rc = crew_start(r, s);
    return rc;
}

// No commit ran ahead while it was looked at: kill right after a commit, a few times, and let the
// evidence decide.
static int fall_back(struct run *r, int chances)
{
    for (int i = 0; i < FALLBACK_KILLS; i++) {
        int64_t worked = book_worked_total(r->book);
        uint64_t until = stage_now_ms() + NO_COMMIT_MS;
        int rc = 0;
        if (chances > 0)
            rc = next_chance(r, until);
        while (rc == 0 && !r->chance && book_worked_total(r->book) < worked + FALLBACK_WORKED &&
               !is_late(r))
            rc = run_pump(r, 10);
        if (rc < 0)
            return rc;
        struct slot *s = r->chance;
        for (int j = 0; !s && j < r->n_slots; j++)
            s = r->slots[(i + j) % r->n_slots].copy ? &r->slots[(i + j) % r->n_slots] : NULL;
        r->chance = NULL;
        if (!s)
            continue;
        run_act(r, "kill", s);
        rc = restart(r, s);
        if (rc == 0)
            book_forget_fetchers(r->book);
        if (rc == 0)
            rc = run_until(r, crew_is_stable, r->deadline_ms);
        if (rc < 0)
            return rc;
    }
    char why[160];
    if (chances > 0)
        snprintf(why, sizeof why, "0 of %d commits ran ahead; killed three times after a commit",
                 chances);
    else
        snprintf(why, sizeof why, "the consumer commits nothing; killed three times at work");
    r->result->was_forced = false;
    free(r->result->why);
    r->result->why = strdup(why);
    return 0;
}

static int when_ahead(struct run *r, enum came *ret)
{
    int wanted = r->script->chances, chances = 0;
    uint64_t began = stage_now_ms();
    int64_t worked = book_worked_total(r->book);
    *ret = CAME_NOT;
    while (chances < wanted && !is_late(r)) {
        uint64_t until = chances ? r->deadline_ms : began + NO_COMMIT_MS;
        int rc = next_chance(r, until < r->deadline_ms ? until : r->deadline_ms);
        if (rc < 0)
            return rc;
        if (rc == 0 && chances == 0 && r->commits_seen == 0 &&
            book_worked_total(r->book) > worked + FALLBACK_WORKED) {
            *ret = CAME_FALLBACK;
            return fall_back(r, 0);
        }
        if (rc == 0 || !r->chance)
            break;
        if (is_ahead(r) && !is_cut(r->chance)) {
            r->target = r->chance;
            r->chance = NULL;
            *ret = CAME;
            return 0;
        }
        if (r->n_commits > 0 && !is_cut(r->chance))
            chances++;
        r->cut_looks += is_cut(r->chance);
        if (r->chance->copy)
            copy_thaw(r->chance->copy);
        r->chance = NULL;
    }
    if (r->cut_looks > chances)
        return inconclusive(
            r,
            "the output of a copy ended in the middle of a line in %d of %d looks: "
            "it is held in a buffer, so nobody can tell what is done; " RUN_UNBUFFER,
            r->cut_looks, r->cut_looks + chances);
    if (chances >= wanted) {
        *ret = CAME_FALLBACK;
        return fall_back(r, chances);
    }
    return inconclusive(r,
                        "only %d of %d commits came in time, and none ran ahead of the work; a "
                        "longer --timeout gives it more",
                        chances, wanted);
}

static struct slot *who_is_behind(struct run *r, int64_t n)
{
    for (int32_t p = 0; p < book_partitions(r->book); p++) {
        struct slot *s = crew_by_instance(r, book_partition(r->book, p)->owner);
        if (s && s->copy && s->is_wanted && s->copy->state == COPY_RUNNING &&
            book_beyond_commit(r->book, p) >= n)
            return s;
    }
    return NULL;
}

static bool is_still_behind(struct run *r, const struct slot *s, int64_t n)
{
    for (int32_t p = 0; p < book_partitions(r->book); p++) {
        if (book_partition(r->book, p)->owner == s->instance && book_beyond_commit(r->book, p) >= n)
            return true;
    }
    return false;
}

static int when_behind(struct run *r, int64_t n, enum came *ret)
{
    uint64_t began = stage_now_ms();
    int tries = 0;
    bool held_here = false;
    *ret = CAME_NOT;
    while (!is_late(r)) {
        int rc = run_pump(r, 5);
        if (rc == 0)
            rc = run_read_evidence(r);
        if (rc < 0 && rc != -EBUSY)
            return rc;
        struct slot *s = who_is_behind(r, n);
        if (s && (rc = still(r, s)) != 0) {
            if (rc < 0)
                return rc;
            if (is_still_behind(r, s, n)) {
                r->target = s;
                *ret = CAME;
                return 0;
            }
            if (s->copy)
                copy_thaw(s->copy);
            tries++;
        }
        if (!r->holds_commits &&
            (stage_now_ms() - began > NATURAL_WAIT_MS || tries >= NATURAL_TRIES)) {
            // It commits too often to be met with so much undone: its commits wait from here on.
            run_act(r, "hold commits", NULL);
            r->holds_commits = held_here = true;
            n = 1;
        }
    }
    if (held_here)
        watch_release_held(r);
    return inconclusive(r, "no copy was seen to have worked on a record beyond its commit: if it "
                           "commits before the work, this cannot happen to it, and records can be "
                           "lost instead (tally drill commit-first-miss auto-commit-miss)");
}

static int wait_cond(struct run *r, run_cond *cond, const char *what, enum came *ret)
{
    *ret = CAME_NOT;
    if (cond == crew_is_stable && crew_wanted(r) == 0)
        return inconclusive(r, "no copy is left to take over: this drill needs more --copies");
    int rc = run_until(r, cond, r->deadline_ms);
    *ret = rc > 0 ? CAME : CAME_NOT;
    if (rc != 0)
        return rc < 0 ? rc : 0;
    char *story = crew_story(r);
    rc = inconclusive(r, "%s: %s", what, story);
    free(story);
    return rc;
}

static int64_t work_seen(struct run *r)
{
    if (evidence_kind(r->o->evidence) != EVIDENCE_NONE)
        return book_worked_total(r->book);
    int64_t sent = 0;
    for (int32_t p = 0; p < book_partitions(r->book); p++)
        sent += book_partition(r->book, p)->sent_end;
    return sent;
}

static int when_worked(struct run *r, int64_t n, enum came *ret)
{
    int64_t goal = work_seen(r) + n;
    *ret = CAME_NOT;
    while (work_seen(r) < goal) {
        if (is_late(r))
            return inconclusive(r, "the work stood still: %lld records were waited for, %lld came",
                                (long long)n, (long long)n - goal + work_seen(r));
        int rc = run_pump(r, 10);
        if (rc == 0)
            rc = run_read_evidence(r);
        if (rc < 0 && rc != -EBUSY)
            return rc;
    }
    *ret = CAME;
    return 0;
}

// Every partition that the target had was sent to another copy.
static int when_moved(struct run *r, enum came *ret)
{
    bool had[64] = {0};
    int32_t n = book_partitions(r->book) < 64 ? book_partitions(r->book) : 64;
    for (int32_t p = 0; p < n; p++)
        had[p] = r->target && book_partition(r->book, p)->owner == r->target->instance;
    int64_t others = 0;
    for (int i = 0; i < r->n_slots; i++)
        others += &r->slots[i] == r->target ? 0 : r->slots[i].worked;
    *ret = CAME_NOT;
    uint64_t moved_ms = 0, began_ms = stage_now_ms();
    if (crew_wanted(r) < 2)
        return inconclusive(r, "no other copy runs to take over: --copies 2 or more");
    if (r->requests[API_JOIN_GROUP] == 0)
        return inconclusive(r, "the consumer is in no group (it assigns itself its partitions), so "
                               "nobody takes over from a copy that is put out");
    while (!is_late(r)) {
        bool all = true;
        int64_t now_others = 0;
        for (int32_t p = 0; p < n; p++)
            all &= !had[p] || book_partition(r->book, p)->owner != r->target->instance;
        for (int i = 0; i < r->n_slots; i++)
            now_others += &r->slots[i] == r->target ? 0 : r->slots[i].worked;
        if (all && !moved_ms)
            moved_ms = stage_now_ms();
        if (all && (now_others >= others + 10 || stage_now_ms() - moved_ms > MOVED_WAIT_MS)) {
            *ret = CAME;
            return 0;
        }
        // Its session has long expired: what keeps the others may be a lock in their database.
        if (evidence_database(r->o->evidence) && stage_now_ms() - began_ms > KEPT_OUT_MS)
            thaw_all(r);
        int rc = run_pump(r, 10);
        if (rc < 0)
            return rc;
    }
    return inconclusive(r, "no other copy took over the partitions of the one that was put out");
}

static int when_commit(struct run *r, enum came *ret)
{
    *ret = CAME_NOT;
    int rc = next_chance(r, r->deadline_ms);
    if (rc < 0)
        return rc;
    if (rc == 0 || !r->chance)
        return inconclusive(r, "the consumer made no commit");
    r->target = r->chance;
    r->chance = NULL;
    *ret = CAME;
    return 0;
}

static int when(struct run *r, const struct drill_step *step, enum came *ret)
{
    static char doing[64];
    bool needs = step->when == WHEN_AHEAD || step->when == WHEN_BEHIND;
    *ret = CAME_NOT;
    if (needs && evidence_kind(r->o->evidence) == EVIDENCE_NONE)
        return inconclusive(r, "without evidence of the work nobody can tell what is done");
    snprintf(doing, sizeof doing, "waiting: %s", drill_when_name(step->when));
    r->doing = doing;
    switch (step->when) {
    case WHEN_AHEAD:
        return when_ahead(r, ret);
    case WHEN_BEHIND:
        return when_behind(r, step->n, ret);
    case WHEN_WORKED:
        return when_worked(r, step->n, ret);
    case WHEN_STABLE:
        return wait_cond(r, crew_is_stable, "the group did not settle", ret);
    case WHEN_MOVED:
        return when_moved(r, ret);
    case WHEN_EMPTY:
        return wait_cond(r, crew_is_empty, "the group did not become empty", ret);
    case WHEN_COMMIT:
        return when_commit(r, ret);
    }
    return 0;
}

static struct slot *target(struct run *r)
{
    if (r->target && r->target->copy)
        return r->target;
    for (int i = 0; i < r->n_slots; i++) {
        if (r->slots[i].copy && r->slots[i].is_wanted)
            return r->target = &r->slots[i];
    }
    return NULL;
}

static int act_start_all(struct run *r)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < r->n_slots; i++) {
        if (!r->slots[i].copy)
            rc = crew_start(r, &r->slots[i]);
    }
    return rc;
}

static int act_roll(struct run *r)
{
    int n = r->n_slots;
    for (int i = 0; i < n; i++) {
        struct slot *s = &r->slots[i];
        if (!s->copy)
            continue;
        run_act(r, "stop", s);
        int rc = crew_stop(r, s);
        if (rc == 0)
            rc = crew_start(r, s);
        book_forget_fetchers(r->book);
        if (rc == 0)
            rc = run_until(r, crew_is_stable, r->deadline_ms);
        if (rc < 0)
            return rc;
        if (rc == 0)
            return inconclusive(r, "the group did not settle after copy %d was restarted",
                                s->instance);
        enum came came;
        rc = when_worked(r, 20, &came);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int act_add_partitions(struct run *r, int64_t n)
{
    int32_t total = book_partitions(r->book) + (int32_t)n;
    enum kerr e = tap_add_partitions(stage_broker(r->stage), str_from(r->topic), total);
    if (e != KERR_NONE)
        return run_fail(r, -EIO, "cannot add partitions: %s", kerr_name(e));
    book_set_partitions(r->book, total);
    return stage_settle(r->stage);
}

static int act_reset(struct run *r, int64_t back)
{
    for (int32_t p = 0; p < book_partitions(r->book); p++) {
        struct book_partition *bp = book_partition(r->book, p);
        if (bp->k < 0 && bp->sent_end == 0)
            continue;
        // Without a committed offset the place is where it has worked to.
        int64_t from = bp->k >= 0 ? bp->k : book_gap(r->book, p);
        int64_t to = from > back ? from - back : 0;
        enum kerr e = tap_set_offset(stage_broker(r->stage), str_from(r->real_group),
                                     str_from(r->topic), p, to);
        if (e != KERR_NONE)
            return run_fail(r, -EIO, "cannot move the committed offset: %s", kerr_name(e));
        book_moved(r->book, p, to);
    }
    return stage_settle(r->stage);
}

static int act_trim(struct run *r, int64_t past)
{
    for (int32_t p = 0; p < book_partitions(r->book); p++) {
        struct book_partition *bp = book_partition(r->book, p);
        int64_t from = bp->k >= 0 ? bp->k : book_gap(r->book, p);
        int64_t to = from + past < bp->n ? from + past : bp->n;
        enum kerr e = tap_trim(stage_broker(r->stage), str_from(r->topic), p, to);
        if (e != KERR_NONE)
            return run_fail(r, -EIO, "cannot trim the log: %s", kerr_name(e));
        book_trimmed(r->book, p, to);
    }
    return stage_settle(r->stage);
}

// Clients ask for metadata when a Fetch is answered with "not the leader". Some (librdkafka) do not
// look for new partitions in that answer, but their group's leader does when it deals partitions:
// whoever has not rejoined by itself soon is told to.
static void make_refresh(struct slot *s)
{
    s->refresh_left = REFRESH_FETCHES;
    s->rejoin_at_ms = stage_now_ms() + REFRESH_WAIT_MS;
}

static int act_append(struct run *r, int64_t n)
{
    int rc = 0;
    for (int32_t p = 0; rc == 0 && p < book_partitions(r->book); p++)
        rc = run_append(r, p, (size_t)n);
    return rc;
}

// Acts that need no running target.
static int act_on_all(struct run *r, const struct drill_step *step)
{
    struct slot *s = NULL;
    int rc = 0;
    switch ((int)step->act) {
    case ACT_HOLD_COMMITS:
        r->holds_commits = true;
        return 0;
    case ACT_RELEASE:
        watch_release_held(r);
        return stage_settle(r->stage);
    case ACT_START:
        rc = crew_add(r, &s);
        return rc < 0 ? rc : crew_start(r, s);
    case ACT_STOP_ALL:
        r->feeds = false;
        return crew_stop_all(r);
    case ACT_START_ALL:
        rc = act_start_all(r);
        if (rc == 0)
            rc = run_until(r, crew_is_stable, r->deadline_ms);
        r->feeds = true;
        return rc < 0 ? rc : 0;
    case ACT_ROLL:
        return act_roll(r);
    case ACT_ADD_PARTITIONS:
        return act_add_partitions(r, step->n);
    case ACT_APPEND:
        return act_append(r, step->n);
    case ACT_REFRESH:
        for (int i = 0; i < r->n_slots; i++)
            make_refresh(&r->slots[i]);
        return 0;
    case ACT_RESET_BACK:
        return act_reset(r, step->n);
    case ACT_TRIM_PAST:
        return act_trim(r, step->n);
    default:
        return 1; // one of the others
    }
}

// Whether somebody keeps the lock of the database. Those that run let go of it by themselves.
static int is_kept_locked(struct run *r, const struct database *d, const char *place)
{
    uint64_t until = stage_now_ms() + OTHERS_WRITE_MS;
    int rc = 0;
    while (rc == 0 && database_is_held(d, place)) {
        if (stage_now_ms() >= until)
            return 1;
        rc = run_pump(r, 2);
    }
    return rc;
}

// A copy stopped within its transaction keeps the others out of a database that they share for as
// long as it stands still. Then it goes on for a moment: its commits are held, so that it is still
// ahead of them when it is stopped again.
static int freeze(struct run *r, struct slot *s)
{
    struct database *d = evidence_database(r->o->evidence);
    char *place = d ? copy_expand(&r->plan, database_place(d), 1, r->slots[0].address) : NULL;
    uint64_t until = stage_now_ms() + UNLOCK_WAIT_MS;
    int rc = copy_freeze(s->copy);
    while (rc == 0 && place) {
        rc = is_kept_locked(r, d, place);
        if (rc <= 0 || stage_now_ms() > until || !s->copy)
            break;
        copy_thaw(s->copy);
        rc = run_pump(r, 2);
        if (rc == 0)
            rc = s->copy ? copy_freeze(s->copy) : -ESRCH;
    }
    free(place);
    return rc > 0 || rc == -ESRCH || rc == -ETIMEDOUT ? 0 : rc;
}

static int act_on_target(struct run *r, const struct drill_step *step, struct slot *s)
{
    int rc = 0;
    switch ((int)step->act) {
    case ACT_KILL:
        rc = restart(r, s);
        watch_release_held(r);
        return rc;
    case ACT_FREEZE:
        return freeze(r, s);
    case ACT_THAW:
        copy_thaw(s->copy);
        return 0;
    case ACT_EVICT_SESSION:
        crew_evict(r, s, TAP_SESSION_TIMEOUT);
        return 0;
    case ACT_EVICT_POLL:
        crew_evict(r, s, TAP_POLL_TIMEOUT);
        copy_thaw(s->copy);
        return 0;
    default: // ACT_STOP
        return crew_stop(r, s);
    }
}

static int act(struct run *r, const struct drill_step *step)
{
    bool is_quiet =
        step->act == ACT_HOLD_COMMITS || step->act == ACT_RELEASE || step->act == ACT_ROLL;
    bool has_target = step->act == ACT_KILL || step->act == ACT_FREEZE || step->act == ACT_THAW ||
                      step->act == ACT_EVICT_SESSION || step->act == ACT_EVICT_POLL ||
                      step->act == ACT_STOP;
    struct slot *s = has_target ? target(r) : NULL;
    if (has_target && !s)
        return inconclusive(r, "no copy was running for \"%s\"", drill_act_name(step->act));
    if (!has_target && step->act != ACT_RELEASE)
        thaw_all(r);
    if (r->real_group)
        ledger_forced(run_ledger(r), str_from(r->real_group), true);
    if (!is_quiet)
        run_act(r, drill_act_name(step->act), s);
    r->doing = drill_act_name(step->act);
    bool changes = step->act != ACT_HOLD_COMMITS && step->act != ACT_RELEASE &&
                   step->act != ACT_FREEZE && step->act != ACT_APPEND;
    if (changes)
        book_forget_fetchers(r->book);
    return has_target ? act_on_target(r, step, s) : act_on_all(r, step);
}

int steps_play(struct run *r)
{
    r->result->was_forced = true;
    bool skips_act = false;
    for (size_t i = 0; i < r->script->n_steps; i++) {
        const struct drill_step *step = &r->script->steps[i];
        if (step->is_act && skips_act)
            continue; // the kills of the fallback stand for it
        enum came came = CAME;
        int rc = step->is_act ? act(r, step) : when(r, step, &came);
        if (rc < 0)
            return rc;
        if (r->result->verdict == DRILL_INCONCLUSIVE || came == CAME_NOT)
            break;
        skips_act = came == CAME_FALLBACK;
    }
    watch_release_held(r);
    thaw_all(r);
    if (r->real_group)
        ledger_forced(run_ledger(r), str_from(r->real_group), false);
    return 0;
}
