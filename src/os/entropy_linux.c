#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/check.h"
#include "os/entropy.h"

struct entropy {
    char unused;
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

void entropy_fill(struct entropy *e, void *out, size_t len)
{
    (void)e;
    uint8_t *at = out;
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        CHECK(n > 0);
        at += n;
        len -= (size_t)n;
    }
}
