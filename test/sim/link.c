// One client connection: frames, correlation ids, delays that keep the order within it.

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "schema.h"
#include "sim.h"
#include "wire/frame.h"

// A round trip on the simulated network takes up to twice this.
#define DELAY_MAX_MS 20

struct pending {
    struct list node;
    int32_t correlation_id;
    int16_t api;
    int version;
    link_answer_fn *fn;
    uint64_t arg;
};

struct link {
    struct actor *owner;
    uint64_t conn; // 0 once closed
    char client_id[32];
    int32_t next_correlation_id;
    struct list pending;
    uint64_t last_out_ms; // when the newest request arrives: order is kept
    uint64_t last_in_ms;
    uint32_t life; // of the broker it was opened to
};

static uint64_t ordered_delay(struct sim *s, uint64_t *last_ms)
{
    uint64_t at = s->now_ms + 1 + prng_below(&s->prng, DELAY_MAX_MS);
    if (at <= *last_ms)
        at = *last_ms;
    *last_ms = at;
    return at - s->now_ms;
}

struct link *link_open(struct actor *a, const char *client_id)
{
    struct link *l = calloc(1, sizeof *l);
    CHECK(l);
    l->owner = a;
    list_init(&l->pending);
    strncpy(l->client_id, client_id, sizeof l->client_id - 1);
    l->next_correlation_id = 1;
    if (a->sim->net) {
        uint16_t port = (uint16_t)(20000 + prng_below(&a->sim->prng, 40000));
        l->conn = net_sim_connect(a->sim->net, a->sim->listener, "127.0.0.1", port);
        l->life = (uint32_t)a->sim->n_lives;
        map_put(a->sim->links, key_u64(&l->conn), l);
    }
    return l;
}

static void drop_pending(struct link *l, bool tell)
{
    while (!list_is_empty(&l->pending)) {
        struct pending *p = LIST_ITEM(l->pending.next, struct pending, node);
        list_remove(&p->node);
        struct pending copy = *p;
        free(p);
        if (tell && copy.fn)
            copy.fn(l->owner, copy.arg, NULL);
    }
}

void link_close(struct link *l)
{
    if (!l)
        return;
    struct sim *s = l->owner->sim;
    if (l->conn && l->life == s->n_lives && s->net) {
        map_remove(s->links, key_u64(&l->conn));
        net_sim_cut(s->net, l->conn);
    }
    drop_pending(l, false);
    free(l);
}

bool link_is_open(const struct link *l)
{
    return l && l->conn != 0;
}

static void arrive(struct actor *a, uint64_t conn, struct bytes frame)
{
    if (a->sim->net)
        net_sim_arrive(a->sim->net, conn, frame);
}

void link_request(struct link *l, int16_t api, int version, const void *request,
                  link_answer_fn *fn, uint64_t arg)
{
    struct sim *s = l->owner->sim;
    if (!link_is_open(l)) {
        if (fn)
            fn(l->owner, arg, NULL);
        return;
    }
    struct kw_out out = {0};
    frame_request(api, version, l->next_correlation_id, str_from(l->client_id), request, &out);
    struct pending *p = calloc(1, sizeof *p);
    CHECK(p);
    *p = (struct pending){.correlation_id = l->next_correlation_id++,
                          .api = api,
                          .version = version,
                          .fn = fn,
                          .arg = arg};
    list_append(&l->pending, &p->node);
    // The network is the world's, not the client's: a frame on its way arrives though its sender
    // is paused or dead.
    sim_after(&s->world, ordered_delay(s, &l->last_out_ms), arrive, l->conn,
              (struct bytes){out.buf.ptr, out.buf.len});
    kw_out_free(&out);
}
