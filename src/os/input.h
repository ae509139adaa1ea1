#pragma once
// What connections have sent and nobody has taken yet: length-prefixed frames. A busy connection
// reads much at once into a buffer that it gives back when all of it was taken; an idle one has
// none. Private to os/net_linux.c and what it is made of.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/check.h"
#include "os/budget.h"

// A busy connection reads so much at once.
#define INPUT_BULK_BYTES (128u << 10)
// The beginning of a frame that is still to come stays in a buffer of this size.
#define INPUT_SMALL_BYTES 4096u
// A request of this size waits for its answer in a buffer of its own: when a thousand wait at once,
// they lie close together, and what was read into is still in the caches for the next connection.
#define INPUT_TINY_BYTES 512u
// Given back and kept for the next reader, and none of them longer than this: a frame of the
// usual largest size. Freed when nothing happens.
#define INPUT_SPARES_MAX 4
#define INPUT_SPARE_MAX_BYTES (2u << 20)

struct input {
    uint8_t *buf; // owned; NULL with cap 0
    size_t at;    // of the first frame that is not done with
    size_t next;  // of the first that was not given out; while that is not `at`, nothing moves
    size_t len;   // up to where it is filled
    size_t cap;
    bool is_written_off; // not counted among what is held
};

struct input_pool {
    struct budget *budget; // held by all connections: capacity, also where it is not filled
    bool keeps_none;       // nobody reads with what would be kept
    struct input spares[INPUT_SPARES_MAX];
    size_t n_spares;
};

void input_pool_trim(struct input_pool *p); // frees the spare ones

// Of the next frame, with its length of 4 bytes; 0: not known yet.
size_t input_frame_size(const struct input *in);
bool input_has_frame(const struct input *in);
struct bytes input_give(struct input *in);                  // the next frame, without its length
void input_take_back(struct input *in, struct bytes frame); // the last one given, after all
// Makes room for at least one more byte behind len, when no frame is given out. Memory grows with
// what has really arrived.
// 0 or -ENOBUFS when all connections together would hold more than they may.
MUST_USE int input_room(struct input_pool *p, struct input *in);
void input_take(struct input *in); // the first frame given out is done with
// No more is to be read for now: what is not needed goes, when no frame is given out.
void input_settle(struct input_pool *p, struct input *in);
// Will be freed soon: counts as if it were.
void input_write_off(struct input_pool *p, struct input *in);
void input_free(struct input_pool *p, struct input *in);
