#pragma once
// The open files of many logs, bounded: there may be more partitions than a process may have files
// open. A segment is opened when it is used, and the one not used longest is closed again. What is
// not durable yet stays open until it is: the error of a lost write is only sure to be told to who
// had the file open when it was written.
//
// Owned by the thread that owns the logs.

#include "base/check.h"

#include <stddef.h>

struct files; // opaque
struct log;

// max: how many may be open; a bound that is kept but while one log needs more at once.
struct files *files_new(size_t max);
void files_free(struct files *f); // after its logs; NULL is fine

// A log to sync soon, because much of what may be open holds what is not durable; NULL: none. The
// owner starts its sync; else files are wanted and opening one has to wait for a sync.
struct log *files_next_dirty(struct files *f);
