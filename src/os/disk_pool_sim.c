#include "os/disk_sim_private.h"

#include <stdlib.h>

void disk_sim_syncs_forget(struct disk *d)
{
    while (d->syncs) {
        struct sim_sync *s = d->syncs;
        d->syncs = s->next;
        free(s);
    }
    d->syncs_last = &d->syncs;
}

static struct sim_sync *add(struct disk *d, uint64_t cookie)
{
    struct sim_sync *s = calloc(1, sizeof *s);
    CHECK(s);
    s->cookie = cookie;
    s->order = d->order;
    uint32_t spread = d->sync_max_ms - d->sync_min_ms;
    s->due_ms = d->now_ms + d->sync_min_ms + prng_below(&d->prng, (uint64_t)spread + 1);
    *d->syncs_last = s;
    d->syncs_last = &s->next;
    return s;
}

void disk_sync_start(struct disk *d, struct disk_file *const *files, size_t n, uint64_t cookie)
{
    CHECK(n <= DISK_SYNC_FILES_MAX);
    struct sim_sync *s = add(d, cookie);
    for (size_t i = 0; i < n; i++)
        s->files[i] = disk_file_ref(files[i]);
    s->n = n;
}

void disk_work_start(struct disk *d, int (*work)(void *arg), void *arg, uint64_t cookie)
{
    struct sim_sync *s = add(d, cookie);
    s->work = work;
    s->arg = arg;
}

void disk_work_abandon(struct disk *d, uint64_t cookie)
{
    struct sim_sync **at = &d->syncs;
    while (*at && !((*at)->work && (*at)->cookie == cookie))
        at = &(*at)->next;
    struct sim_sync *s = *at;
    if (!s)
        return;
    *at = s->next;
    if (!*at)
        d->syncs_last = at;
    free(s);
}

int disk_event_fd(struct disk *d)
{
    (void)d;
    return -1;
}

bool disk_poll_done(struct disk *d, struct disk_done *ret_done)
{
    struct sim_sync **at = NULL;
    for (struct sim_sync **s = &d->syncs; *s; s = &(*s)->next)
        if ((*s)->due_ms <= d->now_ms && (!at || (*s)->due_ms < (*at)->due_ms))
            at = s;
    if (!at)
        return false;
    struct sim_sync *s = *at;
    *at = s->next;
    if (!d->syncs)
        d->syncs_last = &d->syncs;
    for (struct sim_sync *o = d->syncs; o; o = o->next)
        d->syncs_last = &o->next;
    *ret_done = (struct disk_done){s->cookie, s->work ? s->work(s->arg) : 0};
    for (size_t i = 0; i < s->n; i++) {
        if (ret_done->error == 0)
            ret_done->error = disk_sim_sync_now(s->files[i], s->order);
        disk_close(s->files[i]);
    }
    free(s);
    return true;
}

uint64_t disk_sim_next_due_ms(const struct disk *d)
{
    uint64_t due = UINT64_MAX;
    for (const struct sim_sync *s = d->syncs; s; s = s->next)
        if (s->due_ms < due)
            due = s->due_ms;
    return due;
}
