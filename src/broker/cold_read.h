#pragma once
// Records that are not in the page cache. The loop would wait for the device when it sends them,
// and everybody with it: so a thread of the disk's pool reads them first, and the request goes on
// then.

#include <stdbool.h>
#include <stdint.h>

struct broker;
struct cold_read;
struct log_slice;
struct request;

// Adds a slice, whose file is referenced. NULL makes a new one.
struct cold_read *cold_read_add(struct cold_read *c, const struct log_slice *s);
// False: those that wait keep so many files open that others might not get theirs. Who goes on then
// waits for the device itself, and so those come to their turn.
bool cold_read_has_room(struct broker *b);
// Takes it. The request, which waits for nothing else, becomes due when all was read; whether that
// went well its own reading will show.
void cold_read_start(struct broker *b, struct cold_read *c, struct request *r);
// A work with this cookie has ended. False: it is not one of these.
bool cold_read_done(struct broker *b, uint64_t cookie);
void cold_read_free_all(struct broker *b); // waits for those under way
