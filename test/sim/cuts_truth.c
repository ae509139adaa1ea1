// What must be there after the end of a scripted run.

#include "cuts.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "core/ledger/ledger.h"
#include "world.h"

void cuts_power_was_cut(struct cuts *c)
{
    for (int t = 0; t < CUTS_TOPICS; t++)
        for (int p = 0; p < CUTS_PARTITIONS; p++) {
            struct cuts_partition *part = &c->topics[t].parts[p];
            for (size_t i = 0; i < part->n_batches; i++)
                if (part->batches[i].acks == 1)
                    part->batches[i].may_be_lost = true;
        }
}

uint64_t cuts_at(const struct cuts_places *places, int64_t offset)
{
    for (size_t i = 0; i < places->n; i++)
        if (places->at[i].offset == offset)
            return places->at[i].id;
    return 0;
}

void cuts_note(struct cuts *c, const struct cuts_topic *t, int32_t p, struct cuts_places *places,
               int64_t offset, uint64_t id)
{
    uint64_t had = cuts_at(places, offset);
    if (had != 0 && had != id)
        sim_fail(&c->sim, "%s-%d %lld was used twice: records %llu and %llu", t->name, p,
                 (long long)offset, (unsigned long long)had, (unsigned long long)id);
    if (had != 0)
        return;
    CHECK(places->n < CUTS_PLACES);
    places->at[places->n].offset = offset;
    places->at[places->n++].id = id;
}

static const struct cuts_batch *batch_of(const struct cuts_partition *p, uint64_t id)
{
    for (size_t i = 0; i < p->n_batches; i++)
        if (id >= p->batches[i].first_id && id - p->batches[i].first_id < (uint64_t)p->batches[i].n)
            return &p->batches[i];
    return NULL;
}

// Compaction may take a record once there is a later one of the same key.
static bool is_superseded(const struct cuts_read *r, uint64_t id)
{
    for (size_t i = 0; r->topic->is_compacted && i < r->found.n; i++)
        if (r->found.at[i].id > id && r->found.at[i].id % CUTS_KEYS == id % CUTS_KEYS)
            return true;
    return false;
}

// Every acknowledged record where it was told to be, unless the log begins behind it.
static void check_acked(struct cuts *c, const struct cuts_read *r, int64_t start)
{
    const struct cuts_partition *part = &r->topic->parts[r->partition];
    for (size_t i = 0; i < part->n_batches; i++) {
        const struct cuts_batch *b = &part->batches[i];
        for (int32_t k = 0; b->is_acked && k < b->n; k++) {
            int64_t offset = b->base + k;
            uint64_t id = b->first_id + (uint64_t)k;
            uint64_t there = cuts_at(&r->found, offset);
            if (offset < start || there == id ||
                (there == 0 && (b->may_be_lost || is_superseded(r, id))))
                continue;
            sim_fail(&c->sim, "%s-%d %lld: record %llu was acknowledged (acks %d), %llu is there",
                     r->topic->name, r->partition, (long long)offset, (unsigned long long)id,
                     b->acks, (unsigned long long)there);
        }
    }
}

// Nothing that nobody sent, nothing twice, no offset that held another record before.
static void check_read(struct cuts *c, const struct cuts_read *r)
{
    struct cuts_partition *part = &r->topic->parts[r->partition];
    uint64_t last = 0;
    for (size_t i = 0; i < r->found.n; i++) {
        int64_t offset = r->found.at[i].offset;
        uint64_t id = r->found.at[i].id;
        if (!batch_of(part, id))
            sim_fail(&c->sim, "%s-%d %lld: record %llu was never sent there", r->topic->name,
                     r->partition, (long long)offset, (unsigned long long)id);
        if (id <= last)
            sim_fail(&c->sim, "%s-%d %lld: record %llu comes after %llu", r->topic->name,
                     r->partition, (long long)offset, (unsigned long long)id,
                     (unsigned long long)last);
        last = id;
        cuts_note(c, r->topic, r->partition, &part->known, offset, id);
    }
}

static void check_partition(struct cuts *c, struct cuts_topic *t, int32_t p)
{
    struct cuts_partition *part = &t->parts[p];
    int64_t start, end;
    if (!cuts_bounds(c, t, p, &start, &end))
        return;
    if (start < part->start_least || start > part->start_most)
        sim_fail(&c->sim, "%s-%d begins at %lld, must be %lld to %lld", t->name, p,
                 (long long)start, (long long)part->start_least, (long long)part->start_most);
    part->start_least = start;
    struct cuts_read r = {.topic = t, .partition = p, .next = start};
    if (!cuts_read(c, &r))
        return;
    if (r.next > end)
        sim_fail(&c->sim, "%s-%d: read to %lld, the end is %lld", t->name, p, (long long)r.next,
                 (long long)end);
    check_read(c, &r);
    check_acked(c, &r, start);
}

static void check_topic(struct cuts *c, struct cuts_topic *t)
{
    int32_t n;
    if (!cuts_count(c, t->name, &n))
        return;
    if ((t->is_there == CUTS_YES && n == 0) || (t->is_there == CUTS_NO && n > 0))
        sim_fail(&c->sim, "topic %s has %d partitions, it was %s", t->name, n,
                 t->is_there == CUTS_YES ? "made" : "deleted or never made");
    t->is_there = n > 0 ? CUTS_YES : CUTS_NO;
    if (n == 0)
        return;
    bool is_more = n == t->n_partitions + 1 && t->has_more == CUTS_UNSURE;
    if (n != t->n_partitions && !is_more)
        sim_fail(&c->sim, "topic %s has %d partitions, not %d", t->name, n, t->n_partitions);
    t->n_partitions = n;
    t->has_more = CUTS_NO;
    for (int32_t p = 0; p < n && !c->sim.has_failed; p++)
        check_partition(c, t, p);
}

static void check_commits(struct cuts *c)
{
    for (int g = 0; g < 2; g++)
        for (int32_t p = 0; p < 2; p++) {
            int64_t k = -1;
            if (!cuts_committed(c, g, p, &k))
                return;
            if (k != c->committed[g][p] && k != c->asked[g][p])
                sim_fail(&c->sim, "%s %s-%d: committed is %lld, acknowledged was %lld",
                         cuts_groups[g], c->topics[0].name, p, (long long)k,
                         (long long)c->committed[g][p]);
            c->committed[g][p] = c->asked[g][p] = k;
        }
}

static void check_limit(struct cuts *c)
{
    char value[32];
    if (c->topics[0].is_there != CUTS_YES || !cuts_config(c, &c->topics[0], value))
        return;
    if (strcmp(value, c->limit) && strcmp(value, c->limit_asked))
        sim_fail(&c->sim, "retention.bytes is %s, was set to %s", value, c->limit);
    c->limit = c->limit_asked = strcmp(value, c->limit) ? c->limit_asked : c->limit;
}

void cuts_check(struct cuts *c)
{
    struct sim *s = &c->sim;
    for (int t = 0; t < CUTS_TOPICS && !s->has_failed; t++)
        check_topic(c, &c->topics[t]);
    if (!s->has_failed && c->topics[0].is_there == CUTS_YES)
        check_commits(c);
    if (!s->has_failed)
        check_limit(c);
    if (s->has_failed)
        return;
    struct buf why = {0};
    if (!ledger_verify(world_ledger(s), &why))
        sim_fail(s, "the ledger does not add up: %.*s", (int)why.len, (const char *)why.ptr);
    buf_free(&why);
    c->n_checks++;
}
