// The content of members' metadata, as far as the broker looks into it: which topics a group
// subscribes to, and what the ledger wants to know of ownership.

#include "core/group/private.h"

#include <stdlib.h>
#include <string.h>

#include "core/topics.h"
#include "wire/consumer_protocol.h"

void group_find_subscribed(struct core *c, struct group *g)
{
    map_free(g->subscribed);
    g->subscribed = NULL;
    if (!group_is_consumer(g))
        return;
    if (g->n_members > 0 && str_is_null(g->protocol_name))
        return;
    struct map *topics = map_new();
    LIST_EACH (node, &g->members) {
        const struct member *m = LIST_ITEM(node, struct member, node);
        struct consumer_protocol_subscription s;
        int16_t version;
        int failed = consumer_subscription_read(member_metadata(m, g->protocol_name),
                                                c->groups->scratch, &s, &version);
        for (int32_t i = 0; !failed && i < s.n_topics; i++)
            map_put(topics, key_str(s.topics[i]), g);
        arena_reset(c->groups->scratch);
        if (failed) {
            // Kafka, too, is then "not aware of the subscribed topics" of the whole group.
            map_free(topics);
            return;
        }
    }
    g->subscribed = topics;
}

bool group_is_subscribed(const struct group *g, struct str topic)
{
    if (!g->subscribed)
        return group_is_consumer(g);
    return map_get(g->subscribed, key_str(topic)) != NULL;
}

void group_count_partitions(const struct core *c, const struct group *g, size_t *ret_topics,
                            size_t *ret_partitions)
{
    size_t topics = 0;
    size_t partitions = 0;
    struct bytes name;
    for (size_t it = 0; g->subscribed && map_next(g->subscribed, &it, &name, NULL);) {
        struct str s = {(const char *)name.ptr, (int32_t)name.len};
        const struct topic *t = topics_by_name(c->topics, s);
        topics += t != NULL;
        partitions += t ? (size_t)t->n_partitions : 0;
    }
    *ret_topics = topics;
    *ret_partitions = partitions;
}

static struct ledger_tp *add_topic(const struct core *c, struct str topic,
                                   const int32_t *partitions, int32_t n, struct ledger_tp *tps,
                                   size_t *count)
{
    const struct topic *t = topics_by_name(c->topics, topic);
    for (int32_t i = 0; t && i < n; i++)
        tps[(*count)++] = (struct ledger_tp){t->id, partitions[i]};
    return tps;
}

struct ledger_tp *consumer_owned(const struct core *c, struct bytes subscription, struct arena *a,
                                 size_t *ret_n)
{
    struct consumer_protocol_subscription s;
    int16_t version;
    *ret_n = 0;
    if (consumer_subscription_read(subscription, a, &s, &version))
        return NULL;
    size_t most = 0;
    for (int32_t i = 0; i < s.n_owned_partitions; i++)
        most += (size_t)s.owned_partitions[i].n_partitions;
    struct ledger_tp *tps = arena_array(a, most, sizeof *tps);
    for (int32_t i = 0; i < s.n_owned_partitions; i++)
        add_topic(c, s.owned_partitions[i].topic, s.owned_partitions[i].partitions,
                  s.owned_partitions[i].n_partitions, tps, ret_n);
    return tps;
}

struct ledger_tp *consumer_assigned(const struct core *c, struct bytes assignment, struct arena *a,
                                    size_t *ret_n)
{
    struct consumer_protocol_assignment s;
    int16_t version;
    *ret_n = 0;
    if (consumer_assignment_read(assignment, a, &s, &version))
        return NULL;
    size_t most = 0;
    for (int32_t i = 0; i < s.n_assigned_partitions; i++)
        most += (size_t)s.assigned_partitions[i].n_partitions;
    struct ledger_tp *tps = arena_array(a, most, sizeof *tps);
    for (int32_t i = 0; i < s.n_assigned_partitions; i++)
        add_topic(c, s.assigned_partitions[i].topic, s.assigned_partitions[i].partitions,
                  s.assigned_partitions[i].n_partitions, tps, ret_n);
    return tps;
}

static int by_name(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

struct str consumer_topics(struct bytes subscription, struct arena *a)
{
    struct consumer_protocol_subscription s;
    int16_t version;
    if (consumer_subscription_read(subscription, a, &s, &version) || s.n_topics <= 0)
        return STR_EMPTY;
    struct str *sorted = arena_array(a, (size_t)s.n_topics, sizeof *sorted);
    size_t size = 0;
    for (int32_t i = 0; i < s.n_topics; i++) {
        sorted[i] = s.topics[i];
        size += (size_t)s.topics[i].len + 1;
    }
    qsort(sorted, (size_t)s.n_topics, sizeof *sorted, by_name);
    char *text = arena_alloc(a, size + 1);
    size_t at = 0;
    for (int32_t i = 0; i < s.n_topics; i++) {
        if (i > 0)
            text[at++] = ',';
        memcpy(text + at, sorted[i].ptr, (size_t)sorted[i].len);
        at += (size_t)sorted[i].len;
    }
    return (struct str){text, (int32_t)at};
}
