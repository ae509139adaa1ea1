// The script, and its end at every operation on the disk.

#include "cuts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/broker.h"
#include "core/ledger/ledger.h"
#include "os/disk_sim.h"
#include "truth.h"

#define SEGMENT "1048576"
#define LARGE_VALUE 300000 // four of them roll the segment
#define NEVER UINT64_MAX

const char *const cuts_groups[2] = {"members", "loners"};
static const char *const end_names[CUTS_ENDS] = {"SIGKILL", "power cut", "disk error"};

struct cuts *cuts_new(uint64_t seed, bool is_verbose)
{
    struct cuts *c = calloc(1, sizeof *c);
    CHECK(c);
    struct sim_options o = {.seed = seed, .is_verbose = is_verbose};
    sim_init(&c->sim, &o);
    c->sim.truth = truth_new();
    c->next_id = 1;
    c->session_ms = 300000;
    c->producer_id = c->generation = -1;
    c->limit = c->limit_asked = "-1";
    static const char *const names[CUTS_TOPICS] = {"t", "passing", "late", "keys"};
    for (int i = 0; i < CUTS_TOPICS; i++)
        c->topics[i].name = names[i];
    c->topics[CUTS_TOPICS - 1].is_compacted = true;
    for (int g = 0; g < 2; g++)
        for (int p = 0; p < CUTS_PARTITIONS; p++)
            c->committed[g][p] = c->asked[g][p] = -1;
    return c;
}

void cuts_free(struct cuts *c)
{
    link_close(c->link);
    struct truth *t = c->sim.truth;
    sim_free(&c->sim);
    truth_free(t);
    free(c);
}

static void forget_link(struct cuts *c)
{
    link_close(c->link);
    c->link = NULL;
}

bool cuts_start(struct cuts *c)
{
    forget_link(c);
    sim_broker_start(&c->sim);
    if (c->sim.broker || !c->is_armed)
        return !c->sim.has_failed;
    c->sim.has_failed = false; // the end came while it was starting
    c->is_down = true;
    return false;
}

bool cuts_stop(struct cuts *c)
{
    forget_link(c);
    sim_broker_stop(&c->sim); // what fails in it shows at the next start
    return !c->sim.has_failed;
}

static bool cut_power(struct cuts *c)
{
    forget_link(c);
    sim_broker_power_cut(&c->sim);
    cuts_power_was_cut(c);
    return cuts_start(c);
}

bool cuts_kill(struct cuts *c)
{
    forget_link(c);
    sim_broker_kill(&c->sim);
    return cuts_start(c);
}

static bool wait_ms(struct cuts *c, uint64_t ms)
{
    struct sim *s = &c->sim;
    sim_run_until(s, s->now_ms + ms);
    if (s->has_failed && c->is_armed && s->broker && broker_failure(s->broker)) {
        s->has_failed = false;
        c->is_down = true;
    }
    return !s->has_failed && !c->is_down;
}

// Retention by size takes the oldest segments; which offsets they hold is the broker's choice,
// but never beyond what four large records leave.
static bool retain(struct cuts *c)
{
    struct cuts_topic *t = &c->topics[0];
    t->parts[1].start_most = INT64_MAX;
    return cuts_alter(c, t, "1000000") && wait_ms(c, 310000);
}

// Two segments and the one that is written; a quarter of a minute later the cleaner looks.
static bool compact(struct cuts *c)
{
    struct cuts_topic *t = &c->topics[3];
    for (int i = 0; i < 7; i++)
        if (!cuts_produce(c, t, 0, 1, i % 3 ? -1 : 1, LARGE_VALUE))
            return false;
    return wait_ms(c, 16000);
}

static bool first_half(struct cuts *c)
{
    struct cuts_topic *t = &c->topics[0], *passing = &c->topics[1];
    return cuts_start(c) && cuts_create(c, t, 2, SEGMENT) && cuts_producer(c) &&
           cuts_produce(c, t, 0, 3, -1, 8) && cuts_produce(c, t, 0, 2, 1, 8) &&
           cuts_produce(c, t, 1, 1, 1, LARGE_VALUE) && cuts_produce(c, t, 1, 2, -1, LARGE_VALUE) &&
           cuts_join(c) && cuts_commit(c, 0, 0, 2) && cuts_commit(c, 1, 1, 1) &&
           cuts_produce(c, t, 1, 1, 1, LARGE_VALUE) && cuts_produce(c, t, 1, 1, -1, LARGE_VALUE) &&
           cuts_delete_records(c, t, 0, 1) && cuts_create(c, passing, 1, SEGMENT) &&
           cuts_produce(c, passing, 0, 4, -1, 8) && cuts_commit(c, 0, 0, 4) &&
           cuts_delete(c, passing) && cuts_create(c, passing, 2, SEGMENT) &&
           cuts_produce(c, passing, 0, 1, -1, 8) && cuts_repeat(c, t, 0) &&
           cuts_create(c, &c->topics[3], 1, SEGMENT) && compact(c);
}

static bool second_half(struct cuts *c)
{
    struct cuts_topic *t = &c->topics[0], *late = &c->topics[2];
    return cuts_produce(c, t, 0, 2, -1, 8) && cuts_produce(c, t, 0, 1, 1, 8) &&
           cuts_more_partitions(c, t, 3) && cuts_produce(c, t, 2, 2, -1, 8) &&
           cuts_commit(c, 1, 0, 3) && cuts_leave(c) && cuts_stop(c) && cuts_start(c) &&
           cuts_create(c, late, 1, SEGMENT) && cuts_produce(c, late, 0, 2, 1, 8) &&
           cuts_produce(c, t, 1, 3, -1, LARGE_VALUE) && retain(c) && cuts_repeat(c, t, 1) &&
           cuts_producer(c) && cuts_produce(c, t, 1, 1, -1, 8) && cuts_commit(c, 1, 1, 2) &&
           cuts_delete_records(c, t, 0, 4) && cuts_delete(c, late) && compact(c) &&
           cuts_repeat(c, &c->topics[3], 0) && cuts_stop(c);
}

// True when the whole script ran.
static bool script(struct cuts *c)
{
    return first_half(c) && cuts_kill(c) && cuts_produce(c, &c->topics[0], 0, 2, 1, 8) &&
           cut_power(c) && second_half(c);
}

// The end has come, or the script is over: the broker is started once more, and must serve.
static void afterwards(struct cuts *c, enum cuts_end how)
{
    struct sim *s = &c->sim;
    forget_link(c);
    if (how == CUTS_POWER) {
        if (s->clock)
            sim_broker_power_cut(s);
        else
            disk_sim_power_cut(s->disk);
        cuts_power_was_cut(c);
    } else {
        sim_broker_kill(s);
        disk_sim_crash_process(s->disk);
    }
    s->must_replay = false; // what failed may stand in the journal all the same
    disk_sim_heal(s->disk);
    c->is_armed = c->is_down = false;
    if (!cuts_start(c))
        return;
    cuts_check(c);
    if (s->has_failed || c->topics[0].is_there != CUTS_YES)
        return;
    struct cuts_topic *t = &c->topics[0];
    if (c->producer_id >= 0)
        (void)cuts_repeat(c, t, 0);
    (void)(cuts_producer(c) && cuts_produce(c, t, 0, 2, -1, 8) && cuts_produce(c, t, 1, 1, 1, 8) &&
           cuts_commit(c, 1, 0, 5));
    cuts_check(c);
    if (!s->has_failed && cuts_stop(c) && cuts_start(c))
        cuts_check(c);
}

static bool run_one(uint64_t seed, uint64_t at, enum cuts_end how, bool is_verbose,
                    uint64_t *ret_ops)
{
    struct cuts *c = cuts_new(seed, is_verbose);
    struct sim *s = &c->sim;
    c->is_armed = at != NEVER;
    if (c->is_armed)
        disk_sim_fail_at(s->disk, at, -EIO);
    bool is_whole = script(c);
    if (ret_ops)
        *ret_ops = disk_sim_ops(s->disk);
    if (!is_whole && !c->is_armed && !s->has_failed)
        sim_fail(s, "the script did not come to its end");
    if (!s->has_failed)
        afterwards(c, how);
    bool is_good = !s->has_failed;
    if (!is_good)
        printf("cuts: seed %llu, %s at operation %llu: %s\n", (unsigned long long)seed,
               end_names[how], (unsigned long long)at, s->failure);
    cuts_free(c);
    return is_good;
}

int cuts_run(uint64_t seed, uint64_t step, bool is_verbose, uint64_t *ret_n)
{
    uint64_t n_ops = 0;
    int failed = run_one(seed, NEVER, CUTS_KILL, is_verbose, &n_ops) ? 0 : 1;
    *ret_n += 1;
    for (uint64_t at = 0; at < n_ops && failed < 10; at += step)
        for (int how = 0; how < CUTS_ENDS; how++) {
            // Every run has dice of its own for what a power cut takes.
            if (!run_one(seed, at, (enum cuts_end)how, false, NULL))
                failed++;
            *ret_n += 1;
        }
    printf("cuts: seed %llu: %llu operations on the disk\n", (unsigned long long)seed,
           (unsigned long long)n_ops);
    return failed;
}
