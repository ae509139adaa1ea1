#pragma once
// One small number for each offset of a log. A log jumps far ahead after a power cut, so the
// numbers stand in pages that are made when one of them is set.

#include <stddef.h>
#include <stdint.h>

struct cells {
    uint32_t **pages; // owned; NULL where all are 0
    size_t n_pages;
};

void cells_free(struct cells *c);
uint32_t cells_get(const struct cells *c, int64_t at);
uint32_t *cells_at(struct cells *c, int64_t at); // to be set
void cells_count(struct cells *c, int64_t at);   // one more
int64_t cells_end(const struct cells *c);        // all from here on are 0
// The first of [from, to) that is not 0; `to` when there is none.
int64_t cells_next(const struct cells *c, int64_t from, int64_t to);
