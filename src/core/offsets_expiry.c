// Offsets that nobody needs any more, and groups that have become nothing.

#include "core/group/private.h"
#include "core/topics.h"

struct expiry {
    struct core *core;
    struct effects *fx;
    int64_t wall_ms;
    int64_t retention_ms;
};

// From when on the retention of this offset counts. False: it does not expire at all.
static bool counts_from(const struct group *g, const struct committed *o, int64_t *ret_ms)
{
    if (str_is_null(g->protocol_type)) {
        *ret_ms = o->commit_ms; // a simple group: nobody ever joined
        return true;
    }
    if (g->state == GROUP_EMPTY) {
        *ret_ms = g->state_wall_ms; // since its last member went
        return true;
    }
    *ret_ms = o->commit_ms;
    return group_is_consumer(g) && g->subscribed && g->state == GROUP_STABLE;
}

static bool has_expired(const struct expiry *x, const struct group *g, const struct committed *o)
{
    int64_t from;
    if (!counts_from(g, o, &from))
        return false;
    if (o->expire_ms >= 0)
        return x->wall_ms >= o->expire_ms;
    return x->wall_ms - from >= x->retention_ms;
}

static int32_t expired_of_topic(const struct expiry *x, const struct group *g,
                                const struct topic_offsets *to,
                                struct offsets_removed_record_topic *out)
{
    const struct topic *topic = topics_by_id(x->core->topics, to->topic_id);
    out->topic_id = to->topic_id;
    out->name = topic ? arena_str(x->fx->arena, topic->name) : STR_EMPTY;
    out->n_partitions = 0;
    if (topic && group_is_subscribed(g, topic->name))
        return 0;
    out->partitions = arena_array(x->fx->arena, map_count(to->partitions), sizeof *out->partitions);
    void *o;
    for (size_t it = 0; map_next(to->partitions, &it, NULL, &o);)
        if (has_expired(x, g, o))
            out->partitions[out->n_partitions++] = ((const struct committed *)o)->partition;
    return out->n_partitions;
}

// n_work counts records and, a thousand to one, offsets.
static void expire_group(const struct expiry *x, const struct group *g, size_t *n_work)
{
    struct arena *a = x->fx->arena;
    struct offsets_removed_record_topic *topics =
        arena_array(a, map_count(g->offsets), sizeof *topics);
    int32_t n_topics = 0;
    size_t n_expired = 0;
    void *to;
    for (size_t it = 0; map_next(g->offsets, &it, NULL, &to);) {
        size_t n = (size_t)expired_of_topic(x, g, to, &topics[n_topics]);
        n_topics += n > 0;
        n_expired += n;
    }
    if (n_topics > 0) {
        struct offsets_removed_record *r = effects_record(x->fx, &offsets_removed_record_msg);
        *r = (struct offsets_removed_record){.group_id = arena_str(a, g->id),
                                             .cause = OFFSETS_EXPIRED,
                                             .client_id = STR_EMPTY,
                                             .client_host = STR_EMPTY,
                                             .principal = STR_EMPTY,
                                             .wall_ms = x->wall_ms,
                                             .topics = topics,
                                             .n_topics = n_topics};
        *n_work += 1 + n_expired / 1000;
    }
    // Somebody with a pending id is about to join: the group is not nothing yet.
    if (n_expired == g->n_offsets && g->state == GROUP_EMPTY && map_count(g->pending) == 0) {
        struct group_removed_record *r = effects_record(x->fx, &group_removed_record_msg);
        *r = (struct group_removed_record){.group_id = arena_str(a, g->id),
                                           .cause = GROUP_EXPIRED,
                                           .client_id = STR_EMPTY,
                                           .client_host = STR_EMPTY,
                                           .principal = STR_EMPTY,
                                           .wall_ms = x->wall_ms};
        ++*n_work;
    }
}

bool offsets_expire(struct core *c, int64_t wall_ms, struct effects *fx)
{
    struct expiry x = {c, fx, wall_ms, core_config(c)->offsets_retention_ms};
    size_t n_work = 0;
    void *g;
    for (size_t it = 0; map_next(c->groups->by_id, &it, NULL, &g);) {
        expire_group(&x, g, &n_work);
        if (n_work >= EXPIRY_RECORDS_MAX)
            return true;
    }
    return false;
}
