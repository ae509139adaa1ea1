#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

noreturn void check_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "tally: %s:%d: broken invariant: %s\n", file, line, what);
    abort();
}
