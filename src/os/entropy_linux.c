#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/check.h"
#include "os/entropy.h"

// Every request takes 16 bytes: they are fetched a page at a time.
#define AHEAD_BYTES 4096u

struct entropy {
    uint8_t ahead[AHEAD_BYTES];
    size_t left; // at the end of `ahead`
};

struct entropy *entropy_new(void)
{
    struct entropy *e = calloc(1, sizeof *e);
    CHECK(e);
    return e;
}

void entropy_free(struct entropy *e)
{
    free(e);
}

static void fetch(uint8_t *at, size_t len)
{
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        CHECK(n > 0);
        at += n;
        len -= (size_t)n;
    }
}

void entropy_fill(struct entropy *e, void *out, size_t len)
{
    if (len > AHEAD_BYTES) {
        fetch(out, len);
        return;
    }
    if (e->left < len) {
        fetch(e->ahead, AHEAD_BYTES);
        e->left = AHEAD_BYTES;
    }
    uint8_t *from = e->ahead + AHEAD_BYTES - e->left;
    memcpy(out, from, len);
    // What was given out is nobody's to read again.
    explicit_bzero(from, len);
    e->left -= len;
}
