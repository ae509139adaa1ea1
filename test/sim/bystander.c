// Clients that are no members and no owners: a reader without a group (kcat), which begins anywhere
// and is gone after a while, and an exporter of lags, which asks for offsets and log ends only.

#include <stdlib.h>
#include <string.h>

#include "schema.h"
#include "truth.h"
#include "world.h"

#define EXPORT_EVERY_MS 1000
#define READ_PAUSE_MS 200
#define READS_MAX 20 // from one place

struct bystander {
    struct actor actor;
    struct link *link;
    char client_id[32];
    bool is_exporter;
    int32_t partition;
    int64_t position;
    uint32_t n_left; // reads from here
};

static struct bystander *of(struct actor *a)
{
    return LIST_ITEM(a, struct bystander, actor);
}

static void nothing(struct actor *a, uint64_t arg, const void *response)
{
    (void)a;
    (void)arg;
    (void)response;
}

static void renew_link(struct bystander *b)
{
    link_close(b->link);
    b->link = link_open(&b->actor, b->client_id);
}

// ---- the exporter

static void list_end(struct bystander *b, int32_t p)
{
    struct list_offsets_request_partition part;
    list_offsets_request_partition_init(&part);
    part.partition_index = p;
    part.timestamp = -1;
    struct list_offsets_request_topic topic = {
        .name = STR("t"), .partitions = &part, .n_partitions = 1};
    struct list_offsets_request req;
    kw_init(&list_offsets_request_msg, &req);
    req.replica_id = -1;
    req.topics = &topic;
    req.n_topics = 1;
    link_request(b->link, API_LIST_OFFSETS, 2, &req, nothing, 0);
}

static void export_lags(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct bystander *b = of(a);
    sim_after(a, EXPORT_EVERY_MS, export_lags, 0, (struct bytes){0});
    if (!link_is_open(b->link))
        renew_link(b);
    const struct truth *t = a->sim->truth;
    for (int g = 0; g < TRUTH_GROUPS && t->groups[g].name[0]; g++) {
        struct offset_fetch_request req;
        kw_init(&offset_fetch_request_msg, &req);
        req.group_id = str_from(t->groups[g].name);
        req.n_topics = -1; // all
        link_request(b->link, API_OFFSET_FETCH, 5, &req, nothing, 0);
    }
    for (int32_t p = 0; p < t->n_partitions; p++)
        list_end(b, p);
}

// ---- the reader

static void read_on(struct actor *a, uint64_t arg, struct bytes none);

static void was_read(struct actor *a, uint64_t arg, const void *response)
{
    (void)arg;
    struct bystander *b = of(a);
    const struct fetch_response *r = response;
    if (!r || r->responses[0].partitions[0].error_code != KERR_NONE)
        b->n_left = 0;
    else
        b->position += r->responses[0].partitions[0].records.len / 80; // about; some it reads twice
    sim_after(a, READ_PAUSE_MS, read_on, 0, (struct bytes){0});
}

static void begin_elsewhere(struct bystander *b)
{
    struct sim *s = b->actor.sim;
    int64_t start = 0, end = 0;
    b->n_left = 1 + (uint32_t)prng_below(&s->prng, READS_MAX);
    b->partition = (int32_t)prng_below(&s->prng, (uint64_t)s->truth->n_partitions);
    if (s->broker)
        (void)world_log_bounds(s, b->partition, &start, &end);
    b->position = start + (int64_t)prng_below(&s->prng, (uint64_t)(end - start) + 1);
    renew_link(b);
}

static void read_on(struct actor *a, uint64_t arg, struct bytes none)
{
    (void)arg;
    (void)none;
    struct bystander *b = of(a);
    if (b->n_left == 0 || !link_is_open(b->link))
        begin_elsewhere(b);
    b->n_left--;
    struct fetch_request_partition part;
    fetch_request_partition_init(&part);
    part.partition = b->partition;
    part.fetch_offset = b->position;
    part.partition_max_bytes = 4096;
    struct fetch_request_topic topic = {.topic = STR("t"), .partitions = &part, .n_partitions = 1};
    struct fetch_request req;
    kw_init(&fetch_request_msg, &req);
    req.max_wait_ms = 500;
    req.min_bytes = 1;
    req.max_bytes = 65536;
    req.topics = &topic;
    req.n_topics = 1;
    link_request(b->link, API_FETCH, 11, &req, was_read, 0);
}

struct bystander *bystander_new(struct sim *s, const char *name, const char *client_id,
                                bool is_exporter)
{
    struct bystander *b = calloc(1, sizeof *b);
    CHECK(b);
    actor_init(&b->actor, s, name);
    strncpy(b->client_id, client_id, sizeof b->client_id - 1);
    b->is_exporter = is_exporter;
    sim_after(&b->actor, EXPORT_EVERY_MS, is_exporter ? export_lags : read_on, 0,
              (struct bytes){0});
    return b;
}

void bystander_free(struct bystander *b)
{
    if (!b)
        return;
    link_close(b->link);
    actor_end(&b->actor);
    free(b);
}
