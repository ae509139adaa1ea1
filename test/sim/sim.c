// Time, events, and the lives of the broker.

#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "os/clock_sim.h"
#include "os/disk_sim.h"
#include "os/entropy_sim.h"
#include "world.h"

struct event {
    struct timer timer;
    struct list node; // in a paused actor's backlog
    uint64_t actor;
    sim_event_fn *fn;
    uint64_t arg;
    struct bytes payload; // owned
};

void actor_init(struct actor *a, struct sim *s, const char *name)
{
    memset(a, 0, sizeof *a);
    a->sim = s;
    a->id = ++s->next_actor;
    snprintf(a->name, sizeof a->name, "%s", name);
    list_init(&a->backlog);
    map_put(s->actors, key_u64(&a->id), a);
}

static void event_free(struct event *e)
{
    free((void *)(uintptr_t)e->payload.ptr);
    free(e);
}

void actor_end(struct actor *a)
{
    map_remove(a->sim->actors, key_u64(&a->id));
    LIST_EACH (at, &a->backlog) {
        list_remove(at);
        event_free(LIST_ITEM(at, struct event, node));
    }
}

void actor_pause(struct actor *a)
{
    a->is_paused = true;
}

void actor_resume(struct actor *a)
{
    a->is_paused = false;
    LIST_EACH (at, &a->backlog) {
        list_remove(at);
        struct event *e = LIST_ITEM(at, struct event, node);
        heap_set(&a->sim->events, &e->timer, a->sim->now_ms);
    }
}

void sim_after(struct actor *a, uint64_t delay_ms, sim_event_fn *fn, uint64_t arg,
               struct bytes payload)
{
    struct event *e = calloc(1, sizeof *e);
    CHECK(e);
    e->actor = a->id;
    e->fn = fn;
    e->arg = arg;
    list_init(&e->node);
    if (payload.len > 0) {
        uint8_t *copy = malloc(payload.len);
        CHECK(copy);
        memcpy(copy, payload.ptr, payload.len);
        e->payload = (struct bytes){copy, payload.len};
    }
    heap_set(&a->sim->events, &e->timer, a->sim->now_ms + delay_ms);
}

static void mix(struct sim *s, const char *text)
{
    for (; *text; text++)
        s->trace_hash = (s->trace_hash ^ (uint8_t)*text) * 0x100000001b3u;
}

void sim_trace(struct sim *s, const char *format, ...)
{
    char line[1024];
    int at = snprintf(line, sizeof line, "[%llu.%03llu] ", (unsigned long long)(s->now_ms / 1000),
                      (unsigned long long)(s->now_ms % 1000));
    va_list args;
    va_start(args, format);
    vsnprintf(line + at, sizeof line - (size_t)at, format, args);
    va_end(args);
    mix(s, line);
    if (s->options.is_verbose)
        printf("%s\n", line), fflush(stdout);
}

void sim_fail(struct sim *s, const char *format, ...)
{
    if (s->has_failed)
        return;
    s->has_failed = true;
    int at = snprintf(s->failure, sizeof s->failure,
                      "at %llu.%03llu s: ", (unsigned long long)(s->now_ms / 1000),
                      (unsigned long long)(s->now_ms % 1000));
    va_list args;
    va_start(args, format);
    vsnprintf(s->failure + at, sizeof s->failure - (size_t)at, format, args);
    va_end(args);
    sim_trace(s, "FAILED %s", s->failure);
}

void sim_init(struct sim *s, const struct sim_options *o)
{
    memset(s, 0, sizeof *s);
    s->options = *o;
    s->now_ms = 1;
    s->trace_hash = 0xcbf29ce484222325u;
    prng_seed(&s->prng, o->seed);
    entropy_sim_seed(o->seed << 16);
    s->actors = map_new();
    s->all_links = map_new();
    actor_init(&s->world, s, "world");
    s->disk = disk_sim_new(o->seed);
    disk_sim_set_sync_ms(s->disk, 0, 8);
}

void sim_free(struct sim *s)
{
    sim_broker_kill(s);
    struct timer *t;
    while ((t = heap_pop_due(&s->events, UINT64_MAX)))
        event_free(LIST_ITEM(t, struct event, timer));
    heap_free(&s->events);
    actor_end(&s->world);
    map_free(s->actors);
    map_free(s->all_links);
    disk_free(s->disk);
}

static void run_event(struct sim *s, struct event *e)
{
    struct actor *a = map_get(s->actors, key_u64(&e->actor));
    s->n_events++;
    if (a && a->is_paused) {
        list_append(&a->backlog, &e->node);
        return;
    }
    if (a)
        e->fn(a, e->arg, e->payload);
    event_free(e);
}

static uint64_t next_due(struct sim *s, uint64_t end_ms)
{
    uint64_t due = end_ms;
    struct timer *first = heap_first(&s->events);
    if (first && first->due_ms < due)
        due = first->due_ms;
    if (s->broker) {
        uint64_t broker_due = world_broker_due_ms(s);
        if (broker_due < due)
            due = broker_due;
    }
    return due > s->now_ms ? due : s->now_ms;
}

void sim_run_until(struct sim *s, uint64_t end_ms)
{
    while (!s->has_failed && s->now_ms < end_ms) {
        s->now_ms = next_due(s, end_ms);
        disk_sim_set_time(s->disk, s->now_ms);
        if (s->clock)
            clock_sim_set(s->clock, s->now_ms);
        struct timer *t;
        // One instant's events first, then the broker sees all of them: timers fire only after
        // the input that came before.
        while (!s->has_failed && (t = heap_pop_due(&s->events, s->now_ms)))
            run_event(s, LIST_ITEM(t, struct event, timer));
        if (s->broker)
            sim_broker_settle(s);
    }
}
