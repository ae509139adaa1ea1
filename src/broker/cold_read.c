#include "broker/cold_read.h"

#include <stdlib.h>

#include "base/bug.h"
#include "broker/internal.h"
#include "os/disk.h"
#include "store/log.h"

// At once: the pool's other threads are for the syncs that everybody waits for.
#define RUNNING_MAX 2
// Of the files that may be open.
#define FILES_PART 8
#define CHUNK_BYTES ((size_t)128 << 10)

struct cold_read {
    struct list node; // in broker.cold_running or broker.cold_waiting
    uint64_t token;
    size_t n, cap;
    struct log_slice *pieces; // owned, their files referenced
};

struct cold_read *cold_read_add(struct cold_read *c, const struct log_slice *s)
{
    if (!c) {
        c = calloc(1, sizeof *c);
        CHECK(c);
        list_init(&c->node);
    }
    if (c->n == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 4;
        c->pieces = realloc(c->pieces, c->cap * sizeof *c->pieces);
        CHECK(c->pieces);
    }
    disk_file_ref(s->file);
    c->pieces[c->n++] = *s;
    return c;
}

static void cold_read_free(struct broker *b, struct cold_read *c)
{
    list_remove(&c->node);
    b->n_cold_pieces -= c->n;
    for (size_t i = 0; i < c->n; i++)
        log_slice_release(&c->pieces[i]);
    free(c->pieces);
    free(c);
}

// On a thread of the pool. What it reads is for the page cache.
static int read_all(void *arg)
{
    struct cold_read *c = arg;
    uint8_t *chunk = malloc(CHUNK_BYTES);
    CHECK(chunk);
    for (size_t i = 0; i < c->n; i++) {
        const struct log_slice *p = &c->pieces[i];
        size_t got = 1;
        for (uint64_t done = 0; done < p->len && got > 0; done += got) {
            size_t left = p->len - done;
            int r = disk_pread(p->file, chunk, left < CHUNK_BYTES ? left : CHUNK_BYTES,
                               p->pos + done, &got);
            if (r < 0)
                break;
        }
    }
    free(chunk);
    return 0;
}

static uint64_t cookie_of(const struct cold_read *c)
{
    return (uint64_t)(uintptr_t)c;
}

static void start_waiting(struct broker *b)
{
    while (b->n_cold_running < RUNNING_MAX && !list_is_empty(&b->cold_waiting)) {
        struct cold_read *c = LIST_ITEM(b->cold_waiting.next, struct cold_read, node);
        list_remove(&c->node);
        list_append(&b->cold_running, &c->node);
        b->n_cold_running++;
        disk_work_start(b->config.disk, read_all, c, cookie_of(c));
    }
}

bool cold_read_has_room(struct broker *b)
{
    return b->n_cold_pieces < disk_files_max(b->config.disk) / FILES_PART;
}

void cold_read_start(struct broker *b, struct cold_read *c, struct request *r)
{
    b->n_cold_pieces += c->n;
    c->token = r->asker.token;
    request_wait(r, 0);
    list_append(&b->cold_waiting, &c->node);
    start_waiting(b);
}

bool cold_read_done(struct broker *b, uint64_t cookie)
{
    LIST_EACH (at, &b->cold_running) {
        struct cold_read *c = LIST_ITEM(at, struct cold_read, node);
        if (cookie_of(c) != cookie)
            continue;
        struct request *r = request_by_token(b, c->token);
        bool is_there = r && r->stage == REQUEST_WORKING; // it was not hurried, nor its client gone
        if (is_there && !bug(BUG_FORGET_COLD))
            request_wait(r, b->now_ms);
        cold_read_free(b, c);
        b->n_cold_running--;
        start_waiting(b);
        return true;
    }
    return false;
}

void cold_read_free_all(struct broker *b)
{
    LIST_EACH (at, &b->cold_waiting)
        cold_read_free(b, LIST_ITEM(at, struct cold_read, node));
    LIST_EACH (at, &b->cold_running) {
        struct cold_read *c = LIST_ITEM(at, struct cold_read, node);
        disk_work_abandon(b->config.disk, cookie_of(c));
        cold_read_free(b, c);
    }
    b->n_cold_running = 0;
}
