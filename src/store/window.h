#pragma once
// Reading a file from front to back in large pieces.

#include "base/buf.h"
#include "os/disk.h"

struct window {
    struct disk_file *file; // borrowed
    uint64_t size;          // of the file when the window was opened
    uint64_t base;          // file position of buf.ptr[0]
    struct buf buf;
};

MUST_USE int window_open(struct window *w, struct disk_file *file);
void window_close(struct window *w);
// The len bytes at pos, valid until the next call; NULL in *ret_data when the file ends before.
// Callers bound len: it is what is kept in memory.
MUST_USE int window_at(struct window *w, uint64_t pos, size_t len, const uint8_t **ret_data);
