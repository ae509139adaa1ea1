#include "store/log_private.h"

#include <stdlib.h>

struct files *files_new(size_t max)
{
    struct files *f = calloc(1, sizeof *f);
    CHECK(f);
    f->max = max;
    list_init(&f->idle);
    list_init(&f->dirty);
    return f;
}

void files_free(struct files *f)
{
    free(f);
}

static struct log *first_dirty(struct files *f)
{
    LIST_EACH (at, &f->dirty) {
        struct log *l = LIST_ITEM(at, struct log, dirty);
        if (!log_is_syncing(l))
            return l;
    }
    return NULL;
}

struct log *files_next_dirty(struct files *f)
{
    return f->n < f->max / 2 || f->n_idle >= f->n / 2 ? NULL : first_dirty(f);
}

void files_opened(struct files *f, struct segment *s)
{
    if (!f)
        return;
    f->n++;
    f->n_idle++;
    list_append(&f->idle, &s->idle);
}

void files_closing(struct files *f, struct segment *s)
{
    if (!f)
        return;
    f->n--;
    if (!list_is_empty(&s->idle)) {
        f->n_idle--;
        list_remove(&s->idle);
    }
}

void files_used(struct files *f, struct segment *s)
{
    if (!f || list_is_empty(&s->idle))
        return;
    list_remove(&s->idle);
    list_append(&f->idle, &s->idle);
}

void files_pin(struct files *f, struct segment *s)
{
    if (!f || list_is_empty(&s->idle))
        return;
    list_remove(&s->idle);
    f->n_idle--;
}

void files_unpin(struct files *f, struct segment *s)
{
    if (!f || !s->file || !list_is_empty(&s->idle))
        return;
    list_append(&f->idle, &s->idle);
    f->n_idle++;
}

bool files_give_back(struct files *f)
{
    if (!f || list_is_empty(&f->idle))
        return false;
    segment_close_file(LIST_ITEM(f->idle.next, struct segment, idle));
    return true;
}

int files_room(struct files *f)
{
    while (f && f->n >= f->max) {
        if (files_give_back(f))
            continue;
        // Else all of it is being synced, or one log's that is just being used: a few more.
        struct log *l = first_dirty(f);
        int r = l ? log_sync(l) : 0;
        if (r < 0 || !l || !list_is_empty(&l->dirty))
            return r;
    }
    return 0;
}
