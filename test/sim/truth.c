// What really happened, and the checks of the broker's and the ledger's word against it.

#include "truth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ledger/ledger.h"
#include "world.h"

struct truth *truth_new(void)
{
    struct truth *t = calloc(1, sizeof *t);
    CHECK(t);
    t->next_record = 1;
    return t;
}

void truth_free(struct truth *t)
{
    for (int p = 0; p < TRUTH_PARTITIONS; p++) {
        cells_free(&t->records[p]);
        cells_free(&t->acked[p]);
        for (int g = 0; g < TRUTH_GROUPS; g++) {
            struct truth_part *part = &t->groups[g].parts[p];
            cells_free(&part->sent);
            cells_free(&part->sent_last);
            cells_free(&part->received);
            cells_free(&part->repeated);
            cells_free(&part->spell_last);
        }
    }
    free(t);
}

struct truth_group *truth_group(struct truth *t, const char *name)
{
    for (int g = 0; g < TRUTH_GROUPS; g++) {
        struct truth_group *at = &t->groups[g];
        if (at->name[0] == '\0') {
            snprintf(at->name, sizeof at->name, "%s", name);
            at->is_distinct = true;
        }
        if (strcmp(at->name, name) == 0)
            return at;
    }
    UNREACHABLE();
}

void truth_record(struct sim *s, int32_t partition, int64_t offset, uint32_t record)
{
    uint32_t *had = cells_at(&s->truth->records[partition], offset);
    if (*had != 0 && *had != record)
        sim_fail(s, "offset %d@%lld was used twice: records %u and %u", partition,
                 (long long)offset, *had, record);
    *had = record;
}

void truth_acked(struct sim *s, int32_t partition, int64_t offset, int how)
{
    *cells_at(&s->truth->acked[partition], offset) = (uint32_t)how;
}

void truth_sent(struct truth_group *g, int32_t partition, int64_t offset, uint32_t spell)
{
    uint32_t *last = cells_at(&g->parts[partition].sent_last, offset);
    if (*last != spell)
        cells_count(&g->parts[partition].sent, offset);
    *last = spell;
}

void truth_received(struct truth_group *g, int32_t partition, int64_t offset)
{
    cells_count(&g->parts[partition].received, offset);
}

void truth_processed(struct sim *s, struct truth_group *g, int32_t partition, int64_t offset,
                     uint32_t spell)
{
    uint32_t *last = cells_at(&g->parts[partition].spell_last, offset);
    if (*last != 0 && *last != spell)
        cells_count(&g->parts[partition].repeated, offset);
    *last = spell;
    s->truth->n_processed++;
}

uint64_t truth_commit_asked(struct sim *s, struct truth_group *g, int32_t partition, int64_t offset)
{
    struct truth_part *p = &g->parts[partition];
    if (p->n_commits == TRUTH_COMMITS) // the oldest was never answered, long ago
        memmove(p->commits, p->commits + 1, --p->n_commits * sizeof *p->commits);
    p->commits[p->n_commits++] = (struct truth_commit){
        .id = ++s->truth->next_commit, .asked_ms = s->now_ms, .offset = offset};
    return s->truth->next_commit;
}

// Two requests may overtake each other, on two connections: one may stand behind a fetch that waits
// for records. Only one that was answered before the other was asked came first for certain.
#define WAITS_MS 600

void truth_commit_answered(struct sim *s, struct truth_group *g, int32_t partition, uint64_t id,
                           bool is_accepted)
{
    struct truth_part *p = &g->parts[partition];
    const struct truth_commit *this = NULL;
    for (size_t i = 0; i < p->n_commits && !this; i++)
        if (p->commits[i].id == id)
            this = &p->commits[i];
    if (!this) // a later one was acknowledged while its client slept
        return;
    uint64_t asked_ms = this->asked_ms;
    size_t kept = 0;
    for (size_t i = 0; i < p->n_commits; i++) {
        struct truth_commit c = p->commits[i];
        bool is_this = c.id == id;
        bool came_first = (c.is_acked && c.acked_ms < asked_ms) || c.asked_ms + WAITS_MS < asked_ms;
        if (is_this ? !is_accepted : is_accepted && came_first)
            continue;
        if (is_this) {
            c.is_acked = true;
            c.acked_ms = s->now_ms;
        }
        p->commits[kept++] = c;
    }
    p->n_commits = kept;
    s->truth->n_commits += is_accepted;
}

void truth_after_power_cut(struct sim *s)
{
    for (int p = 0; p < TRUTH_PARTITIONS; p++) {
        struct cells *acked = &s->truth->acked[p];
        int64_t all = cells_end(acked);
        for (int64_t o = 0; (o = cells_next(acked, o, all)) < all; o++)
            if (cells_get(acked, o) == ACKED_LEADER)
                *cells_at(acked, o) = 0;
    }
}

// ---- checks

// Before a promise is called broken: offsets that hold no data have no state of their own.
static bool is_data(struct sim *s, const struct truth_group *g, int32_t p, int64_t offset)
{
    uint32_t n;
    return cells_get(&s->truth->records[p], offset) &&
           ledger_state_of(world_ledger(s), str_from(g->name), s->truth->topic_id, p, offset, &n) !=
               LEDGER_NOT_DATA;
}

// Nothing was received of what is said to have gone to nobody.
static void check_unsent(struct sim *s, const struct truth_group *g, int32_t p,
                         const struct ledger_stretch *v, int64_t from, int64_t to)
{
    const struct cells *received = &g->parts[p].received;
    for (int64_t o = from; (o = cells_next(received, o, to)) < to; o++)
        if (is_data(s, g, p, o))
            sim_fail(s, "%s: ledger says %s of %d@%lld, but it was received %u times", g->name,
                     ledger_state_name(v->state), p, (long long)o, cells_get(received, o));
}

// The ledger counts no send that was not.
static void check_counted(struct sim *s, const struct truth_group *g, int32_t p,
                          const struct ledger_stretch *v, int64_t from, int64_t to)
{
    const struct cells *records = &s->truth->records[p];
    for (int64_t o = from; (o = cells_next(records, o, to)) < to; o++)
        if (v->n > cells_get(&g->parts[p].sent, o) && is_data(s, g, p, o)) {
            sim_fail(s, "%s: %d@%lld was sent in %u spells, the ledger counts %u", g->name, p,
                     (long long)o, cells_get(&g->parts[p].sent, o), v->n);
            return;
        }
}

// What was sent to an owner after its part had ended is never counted, but told.
static bool is_told(struct sim *s, const struct truth_group *g, int32_t p, int64_t offset)
{
    struct ledger_incident_view v;
    for (size_t it = 0; ledger_next_incident(world_ledger(s), str_from(g->name), 0, &it, &v);)
        if (v.class == LEDGER_RESENT && v.cause == CAUSE_DUP_TWO_OWNERS && v.partition == p &&
            v.first <= offset && offset <= v.last)
            return true;
    return false;
}

static void check_repeated(struct sim *s, const struct truth_group *g, int32_t p,
                           const struct ledger_stretch *v, int64_t from, int64_t to)
{
    const struct cells *repeated = &g->parts[p].repeated;
    if (g->is_assigned)
        return;
    for (int64_t o = from; (o = cells_next(repeated, o, to)) < to; o++)
        if (is_data(s, g, p, o) && !is_told(s, g, p, o))
            sim_fail(s,
                     "%s: %d@%lld was worked on twice by different spells, the ledger knows of %u",
                     g->name, p, (long long)o, v->n);
}

// The ledger says the same of all offsets of a stretch.
static void check_stretches(struct sim *s, const struct truth_group *g, int32_t p, int64_t from,
                            int64_t end)
{
    struct ledger_stretch v;
    for (; from < end && !s->has_failed; from = v.until) {
        if (!ledger_stretch(world_ledger(s), str_from(g->name), s->truth->topic_id, p, from, &v)) {
            v.until = from + 1;
            continue;
        }
        int64_t to = v.until < end ? v.until : end;
        if ((v.state == LEDGER_SKIPPED || v.state == LEDGER_EXPIRED) && v.n == 0)
            check_unsent(s, g, p, &v, from, to);
        if (g->is_distinct && v.n > 0)
            check_counted(s, g, p, &v, from, to);
        if (v.n < 2 && v.state != LEDGER_UNKNOWN && v.is_covered)
            check_repeated(s, g, p, &v, from, to);
    }
}

// K is one that may be the newest.
static void check_committed(struct sim *s, const struct truth_group *g, int32_t p, int64_t k)
{
    const struct truth_part *part = &g->parts[p];
    int64_t acked = -1;
    for (size_t i = 0; i < part->n_commits; i++) {
        if (part->commits[i].offset == k)
            return;
        if (part->commits[i].is_acked)
            acked = part->commits[i].offset;
    }
    if (acked >= 0 || k >= 0)
        sim_fail(s, "%s: committed of %d is %lld, the newest that was acknowledged is %lld",
                 g->name, p, (long long)k, (long long)acked);
}

static void check_states(struct sim *s, const struct truth_group *g)
{
    struct ledger_partition_view v;
    for (int32_t p = 0; p < s->truth->n_partitions; p++) {
        if (!ledger_partition(world_ledger(s), str_from(g->name), s->truth->topic_id, p, &v)) {
            check_committed(s, g, p, -1);
            continue;
        }
        int64_t sum = 0;
        for (int i = 0; i < LEDGER_STATES; i++)
            sum += v.state[i];
        if (sum != v.end - v.first)
            sim_fail(s, "%s: the states of %d add up to %lld, not to %lld", g->name, p,
                     (long long)sum, (long long)(v.end - v.first));
        check_committed(s, g, p, v.committed_offset);
        check_stretches(s, g, p, v.log_start > v.first ? v.log_start : v.first, v.end);
    }
}

// It does not say which of its range are the records that it counts, but no more were missed than
// those that nobody received, nor resent than those sent twice.
static void check_incident(struct sim *s, const struct truth_group *g,
                           const struct ledger_incident_view *v)
{
    const struct truth_part *part = &g->parts[v->partition];
    const struct cells *records = &s->truth->records[v->partition];
    int64_t end = v->last + 1, n_received = 0, n_once = 0;
    for (int64_t o = v->first; (o = cells_next(records, o, end)) < end; o++) {
        n_received += cells_get(&part->received, o) > 0;
        n_once += cells_get(&part->sent, o) < 2;
    }
    bool is_missed = v->class == LEDGER_MISSED && !v->resolved;
    if (is_missed && v->records + n_received > end - v->first)
        sim_fail(s, "%s: incident %llu says %lld of %d@%lld to %lld were missed, %s; %lld received",
                 g->name, (unsigned long long)v->id, (long long)v->records, v->partition,
                 (long long)v->first, (long long)v->last, ledger_certainty_name(v->certainty),
                 (long long)n_received);
    if (v->class == LEDGER_RESENT && v->records + n_once > end - v->first)
        sim_fail(s, "%s: incident %llu says %lld of %d@%lld to %lld were resent, %s; %lld were not",
                 g->name, (unsigned long long)v->id, (long long)v->records, v->partition,
                 (long long)v->first, (long long)v->last, ledger_certainty_name(v->certainty),
                 (long long)n_once);
}

static void check_incidents(struct sim *s, const struct truth_group *g)
{
    enum ledger_certainty least = g->is_distinct ? LEDGER_LIKELY : LEDGER_CERTAIN;
    struct ledger_incident_view v;
    for (size_t it = 0; ledger_next_incident(world_ledger(s), str_from(g->name), 0, &it, &v);)
        if (v.certainty >= least && v.partition >= 0 && !s->has_failed)
            check_incident(s, g, &v);
}

// Every record that was acknowledged still stands between the log's start and end.
static void check_logs(struct sim *s)
{
    for (int32_t p = 0; p < s->truth->n_partitions; p++) {
        int64_t start, end;
        if (!world_log_bounds(s, p, &start, &end))
            continue;
        const struct cells *acked = &s->truth->acked[p];
        int64_t all = cells_end(acked);
        int64_t beyond = cells_next(acked, end, all);
        if (beyond < all)
            sim_fail(s, "the acknowledged record %d@%lld is beyond the log's end %lld", p,
                     (long long)beyond, (long long)end);
    }
}

void truth_check(struct sim *s)
{
    if (!s->broker || s->has_failed)
        return;
    s->truth->n_checks++;
    struct buf why = {0};
    if (!ledger_verify(world_ledger(s), &why))
        sim_fail(s, "the ledger does not add up: %.*s", (int)why.len, (const char *)why.ptr);
    buf_free(&why);
    check_logs(s);
    for (int g = 0; g < TRUTH_GROUPS && s->truth->groups[g].name[0]; g++) {
        check_states(s, &s->truth->groups[g]);
        check_incidents(s, &s->truth->groups[g]);
    }
}

static void dump_incidents(struct sim *s, const struct truth_group *g)
{
    struct ledger_incident_view v;
    for (size_t it = 0; ledger_next_incident(world_ledger(s), str_from(g->name), 0, &it, &v);) {
        sim_trace(s, "%s: incident %llu %s %s %s %d@%lld to %lld%s", g->name,
                  (unsigned long long)v.id, ledger_certainty_name(v.certainty),
                  ledger_class_name(v.class), cause_name(v.cause), v.partition, (long long)v.first,
                  (long long)v.last, v.closed ? ", closed" : "");
        for (size_t i = 0; i < v.n_evidence; i++)
            sim_trace(s, "    %s: %.*s", v.evidence[i].api, STR_FMT(v.evidence[i].summary));
    }
}

static void dump_states(struct sim *s, const struct truth_group *g, int32_t p, int64_t end)
{
    enum ledger_state was = LEDGER_STATES;
    uint32_t was_n = 0;
    bool was_covered = true;
    for (int64_t o = 0; o < end; o++) {
        uint32_t n;
        struct ledger *l = world_ledger(s);
        enum ledger_state now = ledger_state_of(l, str_from(g->name), s->truth->topic_id, p, o, &n);
        bool covered = ledger_is_covered(l, str_from(g->name), s->truth->topic_id, p, o);
        if (now != was || n != was_n || covered != was_covered)
            sim_trace(s, "%s: from %d@%lld on: %s n=%u%s", g->name, p, (long long)o,
                      ledger_state_name(now), n, covered ? "" : ", not covered");
        was = now;
        was_n = n;
        was_covered = covered;
    }
}

void truth_dump(struct sim *s)
{
    for (int i = 0; s->broker && i < TRUTH_GROUPS && s->truth->groups[i].name[0]; i++) {
        const struct truth_group *g = &s->truth->groups[i];
        dump_incidents(s, g);
        int64_t start, end;
        for (int32_t p = 0; p < s->truth->n_partitions; p++)
            if (world_log_bounds(s, p, &start, &end))
                dump_states(s, g, p, end);
    }
}
