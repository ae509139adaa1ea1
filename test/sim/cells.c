#include "cells.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define PAGE_CELLS ((size_t)1024)

void cells_free(struct cells *c)
{
    for (size_t i = 0; i < c->n_pages; i++)
        free(c->pages[i]);
    free(c->pages);
    *c = (struct cells){0};
}

uint32_t cells_get(const struct cells *c, int64_t at)
{
    size_t page = (size_t)at / PAGE_CELLS;
    return page < c->n_pages && c->pages[page] ? c->pages[page][(size_t)at % PAGE_CELLS] : 0;
}

uint32_t *cells_at(struct cells *c, int64_t at)
{
    CHECK(at >= 0);
    size_t page = (size_t)at / PAGE_CELLS;
    if (page >= c->n_pages) {
        c->pages = realloc(c->pages, (page + 1) * sizeof *c->pages);
        CHECK(c->pages);
        memset(c->pages + c->n_pages, 0, (page + 1 - c->n_pages) * sizeof *c->pages);
        c->n_pages = page + 1;
    }
    if (!c->pages[page]) {
        c->pages[page] = calloc(PAGE_CELLS, sizeof(uint32_t));
        CHECK(c->pages[page]);
    }
    return &c->pages[page][(size_t)at % PAGE_CELLS];
}

void cells_count(struct cells *c, int64_t at)
{
    (*cells_at(c, at))++;
}

int64_t cells_end(const struct cells *c)
{
    return (int64_t)(c->n_pages * PAGE_CELLS);
}

int64_t cells_next(const struct cells *c, int64_t from, int64_t to)
{
    while (from < to) {
        size_t page = (size_t)from / PAGE_CELLS;
        if (page >= c->n_pages)
            return to;
        if (!c->pages[page])
            from = (int64_t)((page + 1) * PAGE_CELLS);
        else if (c->pages[page][(size_t)from % PAGE_CELLS])
            return from;
        else
            from++;
    }
    return to;
}
