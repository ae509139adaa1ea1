// Runs of equal facts, and the state that follows from them. The state of an offset is computed,
// never stored: only what cannot be known later (expired, abandoned) is a flag.

#include "core/ledger/internal.h"

#include <stdlib.h>
#include <string.h>

static void run_insert(struct gp *gp, size_t at, struct run r)
{
    if (gp->n_runs == gp->cap_runs) {
        gp->cap_runs = gp->cap_runs ? gp->cap_runs * 2 : 4;
        gp->runs = realloc(gp->runs, gp->cap_runs * sizeof *gp->runs);
        CHECK(gp->runs);
    }
    memmove(gp->runs + at + 1, gp->runs + at, (gp->n_runs - at) * sizeof *gp->runs);
    gp->runs[at] = r;
    gp->n_runs++;
}

void gp_begin(struct gp *gp, int64_t first)
{
    // A position is soft, but where accounting begins must outlive a crash.
    if (!gp->group->l->replay && (gp->first < 0 || (first < gp->first && gp->base == gp->first)))
        gp->begun = gp->group->l->any_begun = true;
    if (gp->first < 0) {
        gp->first = gp->base = first;
        run_insert(gp, 0, (struct run){.from = first});
        runs_flag(gp, gp->early.from, gp->early.to, RUN_INCOMPLETE, false);
        return;
    }
    if (first >= gp->first)
        return;
    // What folded lies above: it can only be kept as counters when the new part folds as well,
    // so a group that folded already does not begin lower.
    if (gp->base > gp->first)
        return;
    run_insert(gp, 0, (struct run){.from = first});
    int64_t was = gp->first;
    gp->first = gp->base = first;
    runs_flag(gp, gp->early.from, gp->early.to < was ? gp->early.to : was, RUN_INCOMPLETE, false);
    runs_merge(gp);
}

void gp_uncover(struct gp *gp, int64_t from, int64_t to)
{
    if (from >= to)
        return;
    if (gp->first < 0 || from < gp->first) {
        bool none = gp->early.from >= gp->early.to;
        gp->early.from = none || from < gp->early.from ? from : gp->early.from;
        gp->early.to = none || to > gp->early.to ? to : gp->early.to;
    }
    runs_flag(gp, from, to, RUN_INCOMPLETE, false);
    incidents_doubt(gp, from, to);
}

size_t run_at(const struct gp *gp, int64_t offset)
{
    size_t low = 0, high = gp->n_runs;
    // The hot path asks for the last run or the one before.
    if (high > 1 && gp->runs[high - 1].from <= offset)
        return high - 1;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (gp->runs[middle].from <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

int64_t run_end(const struct gp *gp, size_t i)
{
    return i + 1 < gp->n_runs ? gp->runs[i + 1].from : INT64_MAX;
}

void run_split(struct gp *gp, int64_t at)
{
    if (at <= gp->base || at == INT64_MAX)
        return;
    size_t i = run_at(gp, at);
    if (gp->runs[i].from == at)
        return;
    struct run r = gp->runs[i];
    r.from = at;
    run_insert(gp, i + 1, r);
}

static bool run_equal(const struct run *a, const struct run *b)
{
    return a->spell == b->spell && a->prev == b->prev && a->n == b->n && a->flags == b->flags &&
           a->taken == b->taken;
}

void runs_merge(struct gp *gp)
{
    size_t kept = 0;
    for (size_t i = 1; i < gp->n_runs; i++)
        if (!run_equal(&gp->runs[kept], &gp->runs[i]))
            gp->runs[++kept] = gp->runs[i];
    if (gp->n_runs)
        gp->n_runs = kept + 1;
}

bool spell_is_open(const struct gp *gp, uint32_t id)
{
    const struct spell *s = id ? find_spell(gp, id) : NULL;
    return s && s->life != SPELL_ENDED;
}

// The state of the run's first offset; callers split at K before.
enum ledger_state run_state(const struct gp *gp, const struct run *r)
{
    if (r->flags & RUN_EXPIRED)
        return LEDGER_EXPIRED;
    if (r->flags & RUN_ABANDONED)
        return LEDGER_ABANDONED;
    if (r->n == 0) {
        if (r->flags & RUN_INCOMPLETE || (r->flags & RUN_LATE && r->from < gp->k))
            return LEDGER_UNKNOWN;
        return r->from < gp->k ? LEDGER_SKIPPED : LEDGER_WAITING;
    }
    if (r->from < gp->k)
        return LEDGER_COMMITTED;
    if (spell_is_open(gp, r->spell) || spell_is_open(gp, r->prev))
        return LEDGER_IN_FLIGHT;
    return LEDGER_RETURNED;
}

bool run_abandon(const struct gp *gp, struct run *r)
{
    // What was committed once was done, though K went back over it.
    bool is_given_up = run_state(gp, r) == LEDGER_RETURNED && !(r->flags & RUN_PASSED);
    if (is_given_up)
        r->flags |= RUN_ABANDONED;
    return is_given_up;
}

void runs_flag(struct gp *gp, int64_t from, int64_t to, uint8_t flag, bool unsent_only)
{
    if (gp->first < 0)
        return;
    if (from < gp->base)
        from = gp->base;
    if (from >= to)
        return;
    run_split(gp, from);
    run_split(gp, to);
    for (size_t i = run_at(gp, from); i < gp->n_runs && gp->runs[i].from < to; i++)
        if (!unsent_only || gp->runs[i].n == 0)
            gp->runs[i].flags |= flag;
    runs_merge(gp);
    runs_fold(gp);
}

void runs_expire(struct gp *gp, int64_t from, int64_t to)
{
    run_split(gp, from);
    run_split(gp, to);
    for (size_t i = run_at(gp, from); i < gp->n_runs && gp->runs[i].from < to; i++)
        if (gp->runs[i].n == 0 && !(gp->runs[i].flags & (RUN_INCOMPLETE | RUN_LATE)))
            gp->runs[i].flags |= RUN_EXPIRED;
    runs_merge(gp);
    runs_fold(gp);
}

void runs_passed(struct gp *gp, int64_t from, int64_t to)
{
    if (gp->first < 0)
        return;
    from = from > gp->base ? from : gp->base;
    if (from >= to)
        return;
    run_split(gp, from);
    run_split(gp, to);
    for (size_t i = run_at(gp, from); i < gp->n_runs && gp->runs[i].from < to; i++)
        if (gp->runs[i].n && !(gp->runs[i].flags & (RUN_EXPIRED | RUN_ABANDONED)))
            gp->runs[i].flags |= RUN_PASSED;
    runs_merge(gp);
    runs_fold(gp);
}

void runs_thrown(struct gp *gp, const struct spell *s, int64_t from)
{
    from = from > gp->k ? from : gp->k;
    from = from > gp->base ? from : gp->base;
    if (gp->first < 0 || from >= s->sent_end)
        return;
    run_split(gp, from);
    for (size_t i = run_at(gp, from); i < gp->n_runs && gp->runs[i].from < s->sent_end; i++)
        if (gp->runs[i].spell == s->id)
            gp->runs[i].flags |= RUN_THROWN;
    runs_merge(gp);
    runs_fold(gp);
}

int64_t runs_sent_end(const struct gp *gp)
{
    for (size_t i = gp->n_runs; i-- > 0;)
        if (gp->runs[i].n)
            return run_end(gp, i);
    return gp->base;
}

static void count(const struct gp *gp, const struct run *r, int64_t from, int64_t to,
                  struct counters *c)
{
    struct run at = *r;
    at.from = from;
    int64_t data = data_in(gp, from, to);
    c->state[run_state(gp, &at)] += data;
    c->state[LEDGER_NOT_DATA] += to - from - data;
    if (r->n >= 2)
        c->resent += data;
}

// Counts [from, to) of a run, on both sides of K.
static void count_run(const struct gp *gp, const struct run *r, int64_t from, int64_t to,
                      struct counters *c)
{
    if (from < gp->k && gp->k < to) {
        count(gp, r, from, gp->k, c);
        from = gp->k;
    }
    if (from < to)
        count(gp, r, from, to, c);
}

void runs_count(const struct gp *gp, struct ledger_partition_view *ret)
{
    struct counters c = gp->folded;
    int64_t end = ret->end;
    for (size_t i = 0; i < gp->n_runs && gp->runs[i].from < end; i++) {
        int64_t to = run_end(gp, i);
        count_run(gp, &gp->runs[i], gp->runs[i].from, to < end ? to : end, &c);
    }
    memcpy(ret->state, c.state, sizeof c.state);
    ret->resent = c.resent;
}

static void fold_to(struct gp *gp, int64_t to)
{
    run_split(gp, to);
    size_t i = 0;
    for (; i < gp->n_runs && gp->runs[i].from < to; i++)
        count_run(gp, &gp->runs[i], gp->runs[i].from, run_end(gp, i), &gp->folded);
    memmove(gp->runs, gp->runs + i, (gp->n_runs - i) * sizeof *gp->runs);
    gp->n_runs -= i;
    gp->base = to;
    CHECK(gp->n_runs && gp->runs[0].from == to);
}

// Settled: out of the log, and no later fact can change its state.
static int64_t settled_end(const struct gp *gp, int64_t log_start)
{
    for (size_t i = 0; i < gp->n_runs; i++) {
        const struct run *r = &gp->runs[i];
        int64_t limit = log_start;
        if (!(r->flags & (RUN_EXPIRED | RUN_ABANDONED)) && gp->k < limit)
            limit = gp->k;
        if (run_end(gp, i) > limit)
            return limit > r->from ? limit : r->from;
    }
    return gp->base;
}

void runs_fold(struct gp *gp)
{
    if (gp->n_runs <= RUNS_MAX)
        return;
    struct ledger_range log = log_bounds(gp);
    int64_t to = settled_end(gp, log.from);
    if (to > gp->base)
        fold_to(gp, to);
    if (gp->n_runs > RUNS_MAX)
        fold_to(gp, gp->runs[gp->n_runs / 2].from);
}
