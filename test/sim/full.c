// A disk that fills up and is given room again, and one that is very slow, under a broker that goes
// on all the while.

#include "cuts.h"

#include <stdio.h>

#include "broker/broker.h"
#include "os/disk_sim.h"
#include "schema.h"

#define SEGMENT "1048576"
#define LARGE_VALUE 300000 // four of them roll the segment
#define COMMITS_MAX 100000 // more than fit the space that the journal has taken ahead
#define HEARTBEAT_MS 2000
#define RETENTION_MS 320000 // a little more than between two checks
#define SESSION_MS 6000
#define SLOW_SYNC_MS 20000
#define ROOM_BYTES (1ull << 30)

static bool is_refused(struct cuts *c, bool is_done, enum kerr error)
{
    if (!is_done && !c->sim.has_failed && c->error == error)
        return true;
    sim_fail(&c->sim, "answered %s on a full disk, not %s", kerr_name(c->error), kerr_name(error));
    return false;
}

static bool stays_a_member(struct cuts *c, uint64_t ms)
{
    struct sim *s = &c->sim;
    for (uint64_t until = s->now_ms + ms; s->now_ms < until;) {
        sim_run_until(s, s->now_ms + HEARTBEAT_MS);
        if (!cuts_heartbeat(c))
            return false;
    }
    return true;
}

static bool fill_up(struct cuts *c)
{
    struct cuts_topic *t = &c->topics[0], *passing = &c->topics[1];
    return cuts_create(c, t, 2, SEGMENT) && cuts_create(c, passing, 1, SEGMENT) &&
           cuts_producer(c) && cuts_produce(c, t, 0, 3, -1, 8) && cuts_produce(c, t, 0, 2, 1, 8) &&
           cuts_produce(c, t, 1, 3, -1, LARGE_VALUE) && cuts_produce(c, t, 1, 3, -1, LARGE_VALUE) &&
           cuts_produce(c, t, 1, 3, 1, LARGE_VALUE) && cuts_produce(c, passing, 0, 4, -1, 8) &&
           cuts_join(c) && cuts_commit(c, 0, 0, 1);
}

// The journal took some space ahead, so that not the first commit is refused.
static bool commits_are_refused(struct cuts *c)
{
    int64_t n = 2, kept = -1;
    while (n < COMMITS_MAX && cuts_commit(c, 0, 0, n % 5))
        n++;
    if (n == COMMITS_MAX)
        sim_fail(&c->sim, "commits are taken without end on a full disk");
    int64_t acked = c->committed[0][0];
    return is_refused(c, false, KERR_NOT_COORDINATOR) && cuts_committed(c, 0, 0, &kept) &&
           kept == acked;
}

static bool while_full(struct cuts *c)
{
    struct cuts_topic *t = &c->topics[0], *passing = &c->topics[1];
    int64_t start, end, start_after, end_after;
    c->may_refuse = true;
    bool is_good = cuts_bounds(c, t, 0, &start, &end) &&
                   is_refused(c, cuts_produce(c, t, 0, 2, -1, 8), KERR_KAFKA_STORAGE_ERROR) &&
                   is_refused(c, cuts_produce(c, t, 0, 2, 1, 8), KERR_KAFKA_STORAGE_ERROR) &&
                   cuts_bounds(c, t, 0, &start_after, &end_after);
    if (is_good && end_after != end)
        sim_fail(&c->sim, "what was refused stands in the log");
    is_good = is_good && commits_are_refused(c);
    c->may_refuse = false;
    if (is_good)
        cuts_check(c);
    // What frees space goes on.
    t->parts[1].start_most = INT64_MAX;
    return is_good && stays_a_member(c, 60000) && cuts_delete_records(c, t, 0, 2) &&
           cuts_alter(c, t, "1000000") && cuts_delete(c, passing) &&
           stays_a_member(c, RETENTION_MS) && cuts_bounds(c, t, 1, &start, &end) && start > 0;
}

static bool with_room(struct cuts *c)
{
    struct cuts_topic *t = &c->topics[0];
    disk_sim_set_free(c->sim.disk, ROOM_BYTES);
    return stays_a_member(c, 4000) && cuts_produce(c, t, 0, 2, -1, 8) &&
           cuts_produce(c, t, 0, 1, 1, 8) && cuts_commit(c, 0, 0, 3) && stays_a_member(c, 4000);
}

int cuts_full(uint64_t seed, bool is_verbose)
{
    struct cuts *c = cuts_new(seed, is_verbose);
    struct sim *s = &c->sim;
    bool is_whole = cuts_start(c) && fill_up(c);
    if (is_whole)
        disk_sim_set_free(s->disk, 0);
    is_whole = is_whole && while_full(c) && with_room(c);
    for (int i = 0; i < 2 && is_whole && !s->has_failed; i++) {
        cuts_check(c);
        is_whole = i == 0 ? cuts_kill(c) : cuts_stop(c) && cuts_start(c);
    }
    if (!s->has_failed)
        cuts_check(c);
    if (!is_whole && !s->has_failed)
        sim_fail(s, "the script did not come to its end");
    bool is_good = !s->has_failed;
    if (!is_good)
        printf("full: seed %llu: %s\n", (unsigned long long)seed, s->failure);
    cuts_free(c);
    return is_good ? 0 : 1;
}

// The member asks again only once it is answered, as clients do: what it waits for is our disk.
static bool slowly(struct cuts *c)
{
    for (int64_t i = 1; i <= 4; i++)
        if (!cuts_commit(c, 0, 0, i) || !cuts_heartbeat(c) || !stays_a_member(c, 3 * HEARTBEAT_MS))
            return false;
    return true;
}

int cuts_slow(uint64_t seed, bool is_verbose)
{
    struct cuts *c = cuts_new(seed, is_verbose);
    struct sim *s = &c->sim;
    c->session_ms = SESSION_MS;
    bool is_whole = cuts_start(c) && cuts_create(c, &c->topics[0], 2, SEGMENT) &&
                    cuts_producer(c) && cuts_produce(c, &c->topics[0], 0, 5, -1, 8) && cuts_join(c);
    disk_sim_set_sync_ms(s->disk, SLOW_SYNC_MS, SLOW_SYNC_MS);
    is_whole = is_whole && slowly(c);
    if (!is_whole && !s->has_failed)
        sim_fail(s, "the script did not come to its end");
    bool is_good = !s->has_failed;
    if (!is_good)
        printf("slow: seed %llu: %s\n", (unsigned long long)seed, s->failure);
    cuts_free(c);
    return is_good ? 0 : 1;
}
