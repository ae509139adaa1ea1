#pragma once
// Bugs put in on purpose, to see that the simulator finds them. Compiled in with -DTALLY_BUGS only
// (make BUGS=1, build/bugs); in every other build bug() is a constant.

#include <stdbool.h>

// skip_fsync           a sync of a log leaves its newest file out
// skip_journal_fsync   the same of the journal
// answer_early         answers leave before the journal is durable
// reuse_offset         after a power cut the log goes on where its records end
// count_below_position what was sent of a batch below the position counts as sent
// forget_revoke        an eager member's join ends no spell
// forget_crash         the ledger takes every start for one after a clean stop
// forget_unbound       who might be a member is overlooked
// forget_cold          a Fetch whose records were read from the disk is not gone on with
#define BUGS(X)                                                                                    \
    X(NONE, "none")                                                                                \
    X(SKIP_FSYNC, "skip_fsync")                                                                    \
    X(SKIP_JOURNAL_FSYNC, "skip_journal_fsync")                                                    \
    X(ANSWER_EARLY, "answer_early")                                                                \
    X(REUSE_OFFSET, "reuse_offset")                                                                \
    X(COUNT_BELOW_POSITION, "count_below_position")                                                \
    X(FORGET_REVOKE, "forget_revoke")                                                              \
    X(FORGET_CRASH, "forget_crash")                                                                \
    X(FORGET_UNBOUND, "forget_unbound")                                                            \
    X(FORGET_COLD, "forget_cold")

enum bug {
#define BUG_NAME(name, text) BUG_##name,
    BUGS(BUG_NAME)
#undef BUG_NAME
        BUG_COUNT,
};

#ifdef TALLY_BUGS
extern enum bug bug_injected;
static inline bool bug(enum bug b)
{
    return bug_injected == b;
}
#else
static inline bool bug(enum bug b)
{
    (void)b;
    return false;
}
#endif

const char *bug_name(enum bug b);
// BUG_COUNT when there is none of that name, or when none is compiled in.
enum bug bug_find(const char *name);
