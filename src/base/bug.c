#include "base/bug.h"

#include <string.h>

#ifdef TALLY_BUGS
enum bug bug_injected;
static const bool are_compiled_in = true;
#else
static const bool are_compiled_in = false;
#endif

static const char *const names[] = {
#define BUG_TEXT(name, text) text,
    BUGS(BUG_TEXT)
#undef BUG_TEXT
};

const char *bug_name(enum bug b)
{
    return names[b];
}

enum bug bug_find(const char *name)
{
    for (int b = 0; are_compiled_in && b < BUG_COUNT; b++)
        if (strcmp(names[b], name) == 0)
            return (enum bug)b;
    return BUG_COUNT;
}
