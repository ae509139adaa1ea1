#pragma once
// All processes that came out of one: its session, and whatever its members forked, found by
// /proc. `root` is the leader of the session.

#include <sys/types.h>

enum procs_state {
    PROCS_STOPPED,  // each stands still
    PROCS_STOPPING, // told, not there yet
};

// Tells all to stop. PROCS_STOPPED once two looks in a row have found every one standing still,
// so that none was forked in between.
enum procs_state procs_stop(pid_t root);
void procs_signal(pid_t root, int signal_number);
// SIGKILL until none is left but the root itself, which is its parent's to reap.
void procs_kill(pid_t root);
// Children of this process that lead no session of their own copy: adopted orphans.
void procs_kill_strays(void);
