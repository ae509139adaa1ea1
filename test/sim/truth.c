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
        buf_free(&t->records[p]);
        buf_free(&t->acked[p]);
        for (int g = 0; g < TRUTH_GROUPS; g++) {
            buf_free(&t->groups[g].received[p]);
            buf_free(&t->groups[g].processed[p]);
            buf_free(&t->groups[g].repeated[p]);
            buf_free(&t->groups[g].last_spell[p]);
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
            for (int p = 0; p < TRUTH_PARTITIONS; p++)
                at->acked_commit[p] = -1;
        }
        if (strcmp(at->name, name) == 0)
            return at;
    }
    UNREACHABLE();
}

static uint8_t *cell(struct buf *b, int64_t index, size_t size)
{
    size_t need = ((size_t)index + 1) * size;
    if (b->len < need) {
        size_t more = need - b->len;
        memset(buf_extend(b, more), 0, more);
    }
    return b->ptr + (size_t)index * size;
}

static void count(struct buf *b, int64_t offset)
{
    uint8_t *n = cell(b, offset, 1);
    if (*n < 255)
        (*n)++;
}

uint32_t truth_count(const struct buf *counts, int64_t offset)
{
    return (size_t)offset < counts->len ? counts->ptr[offset] : 0;
}

void truth_record(struct sim *s, int32_t partition, int64_t offset, uint64_t record)
{
    uint64_t had;
    uint8_t *at = cell(&s->truth->records[partition], offset, sizeof had);
    memcpy(&had, at, sizeof had);
    if (had != 0 && had != record)
        sim_fail(s, "offset %d@%lld was used twice: records %llu and %llu", partition,
                 (long long)offset, (unsigned long long)had, (unsigned long long)record);
    memcpy(at, &record, sizeof record);
}

void truth_acked(struct sim *s, int32_t partition, int64_t offset, int how)
{
    *cell(&s->truth->acked[partition], offset, 1) = (uint8_t)how;
}

void truth_received(struct sim *s, struct truth_group *g, int32_t partition, int64_t offset)
{
    (void)s;
    count(&g->received[partition], offset);
}

void truth_processed(struct sim *s, struct truth_group *g, int32_t partition, int64_t offset,
                     uint32_t spell)
{
    uint32_t last;
    uint8_t *at = cell(&g->last_spell[partition], offset, sizeof last);
    memcpy(&last, at, sizeof last);
    if (last != 0 && last != spell)
        count(&g->repeated[partition], offset);
    memcpy(at, &spell, sizeof spell);
    count(&g->processed[partition], offset);
    s->truth->n_processed++;
}

void truth_after_power_cut(struct sim *s)
{
    s->truth->lost_power = true;
    for (int p = 0; p < TRUTH_PARTITIONS; p++)
        for (size_t i = 0; i < s->truth->acked[p].len; i++)
            if (s->truth->acked[p].ptr[i] == ACKED_LEADER)
                s->truth->acked[p].ptr[i] = 0;
}

// ---- checks

static bool was_seen(const struct sim *s, int32_t p, int64_t offset)
{
    const struct buf *records = &s->truth->records[p];
    uint64_t record = 0;
    if (records->len / sizeof record > (size_t)offset)
        memcpy(&record, records->ptr + (size_t)offset * sizeof record, sizeof record);
    return record != 0;
}

// Before a promise is called broken: offsets that hold no data have no state of their own.
static bool is_data(struct sim *s, const struct truth_group *g, int32_t p, int64_t offset)
{
    uint32_t n;
    return was_seen(s, p, offset) &&
           ledger_state_of(world_ledger(s), str_from(g->name), s->truth->topic_id, p, offset, &n) !=
               LEDGER_NOT_DATA;
}

// The ledger says the same of all of [from, to).
static void check_stretch(struct sim *s, const struct truth_group *g, int32_t p,
                          const struct ledger_stretch *v, int64_t from, int64_t to)
{
    bool passed = (v->state == LEDGER_SKIPPED || v->state == LEDGER_EXPIRED) && v->n == 0;
    for (int64_t o = from; passed && o < to; o++)
        if (truth_count(&g->received[p], o) && is_data(s, g, p, o))
            sim_fail(s, "%s: ledger says %s of %d@%lld, but it was received %u times", g->name,
                     ledger_state_name(v->state), p, (long long)o, truth_count(&g->received[p], o));
    bool once = v->n < 2 && v->state != LEDGER_UNKNOWN && v->is_covered;
    for (int64_t o = from; once && o < to; o++)
        if (truth_count(&g->repeated[p], o) && is_data(s, g, p, o))
            sim_fail(s,
                     "%s: %d@%lld was worked on twice by different spells, the ledger knows of %u",
                     g->name, p, (long long)o, v->n);
}

static void check_partition(struct sim *s, const struct truth_group *g, int32_t p, int64_t from,
                            int64_t end)
{
    struct ledger_stretch v;
    for (; from < end; from = v.until) {
        if (!ledger_stretch(world_ledger(s), str_from(g->name), s->truth->topic_id, p, from, &v))
            v.until = from + 1;
        else
            check_stretch(s, g, p, &v, from, v.until < end ? v.until : end);
    }
}

static void check_states(struct sim *s, struct truth_group *g)
{
    struct ledger_partition_view v;
    for (int32_t p = 0; p < s->truth->n_partitions; p++) {
        if (!ledger_partition(world_ledger(s), str_from(g->name), s->truth->topic_id, p, &v))
            continue;
        int64_t sum = 0;
        for (int i = 0; i < LEDGER_STATES; i++)
            sum += v.state[i];
        if (sum != v.end - v.first)
            sim_fail(s, "%s: the states of %d add up to %lld, not to %lld", g->name, p,
                     (long long)sum, (long long)(v.end - v.first));
        if (g->acked_commit[p] >= 0 && v.committed_offset < 0)
            sim_fail(s, "%s: the acknowledged commit %d@%lld is gone", g->name, p,
                     (long long)g->acked_commit[p]);
        check_partition(s, g, p, v.log_start > v.first ? v.log_start : v.first, v.end);
    }
}

static void check_certain(struct sim *s, struct truth_group *g)
{
    struct ledger_incident_view v;
    for (size_t it = 0; ledger_next_incident(world_ledger(s), str_from(g->name), 0, &it, &v);) {
        if (v.certainty != LEDGER_CERTAIN || v.partition < 0)
            continue;
        for (int64_t o = v.first; o <= v.last; o++) {
            uint32_t received = truth_count(&g->received[v.partition], o);
            if (v.class == LEDGER_MISSED && received > 0)
                sim_fail(s, "%s: incident %llu says %d@%lld was certainly missed; received %u",
                         g->name, (unsigned long long)v.id, v.partition, (long long)o, received);
            if (v.class == LEDGER_RESENT && received < 2 && v.records == v.last - v.first + 1)
                sim_fail(s, "%s: incident %llu says %d@%lld was certainly resent; received %u",
                         g->name, (unsigned long long)v.id, v.partition, (long long)o, received);
        }
    }
}

// Every record that was acknowledged still stands between the log's start and end.
static void check_logs(struct sim *s)
{
    for (int32_t p = 0; p < s->truth->n_partitions; p++) {
        int64_t start, end;
        if (!world_log_bounds(s, p, &start, &end))
            continue;
        const struct buf *acked = &s->truth->acked[p];
        for (int64_t o = end; o < (int64_t)acked->len; o++)
            if (acked->ptr[o])
                sim_fail(s, "the acknowledged record %d@%lld is beyond the log's end %lld", p,
                         (long long)o, (long long)end);
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
        check_certain(s, &s->truth->groups[g]);
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
