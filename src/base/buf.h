#pragma once
// A growing byte buffer. Never fails: running out of memory stops the process.

#include "base/bytes.h"

struct buf {
    uint8_t *ptr; // owned
    size_t len;
    size_t cap;
};

void buf_free(struct buf *b);
void buf_clear(struct buf *b);                   // keeps the memory
uint8_t *buf_extend(struct buf *b, size_t more); // room for more bytes, already counted in len
void buf_add(struct buf *b, const void *data, size_t len);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
