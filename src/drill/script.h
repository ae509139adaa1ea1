#pragma once
// A drill file: what it is for, its settings, and its steps, one statement a line.
//
//   drill NAME              lower case, digits and '-'
//   title, finds, passes, advice TEXT
//   about                   then indented lines of explanation
//   copies, partitions, records, chances N
//   when TRIGGER [N]        waits until it is so
//   do ACT [N]              does it
//
// '#' begins a comment line. docs/DRILLS.md lists triggers and acts; the table in script.c is
// the one list of them.

#include "base/bytes.h"
#include "base/check.h"

enum drill_when {
    WHEN_AHEAD,  // an accepted commit covers a record without evidence, on a still process
    WHEN_BEHIND, // a copy has worked on n records or more beyond its commit, on a still process
    WHEN_WORKED, // n records of all were worked on since the last step
    WHEN_STABLE, // the group is stable, all running copies are members
    WHEN_MOVED,  // the target's partitions have another owner, who has worked on one record
    WHEN_EMPTY,  // the group has no member
    WHEN_COMMIT, // the next accepted commit
};

enum drill_act {
    ACT_KILL,          // SIGKILL to the target, its members put out at once; then started again
    ACT_FREEZE,        // SIGSTOP to the target
    ACT_THAW,          // SIGCONT
    ACT_EVICT_SESSION, // put the target's members out as a session timeout would
    ACT_EVICT_POLL,    // as a client whose poll() came too late leaves
    ACT_HOLD_COMMITS,  // the commits of all copies wait at the broker, not applied
    ACT_RELEASE,       // and no longer
    ACT_START,         // one more copy
    ACT_STOP,          // SIGTERM to the target, as a deployment would
    ACT_STOP_ALL,
    ACT_START_ALL,      // what is not running
    ACT_ROLL,           // stop and start each copy, one after the other
    ACT_ADD_PARTITIONS, // n more
    ACT_APPEND,         // n records to each partition, the newest partitions too
    ACT_REFRESH,        // clients are made to ask for metadata
    ACT_RESET_BACK,     // committed offsets n back, in each partition, the group being empty
    ACT_TRIM_PAST,      // retention removes all up to n records past the committed offset
};

struct drill_step {
    bool is_act;
    enum drill_when when;
    enum drill_act act;
    int64_t n;
    int line;
};

#define DRILL_MAX_STEPS 64 // a drill is a short story; more is a mistake

struct drill_script {
    char *name; // all owned, never NULL after a successful parse ("" when left out)
    char *title;
    char *finds;
    char *passes;
    char *advice;
    char *about;
    char *text; // the whole file
    int copies;
    int partitions;
    int records; // fed at least
    int chances;
    struct drill_step steps[DRILL_MAX_STEPS];
    size_t n_steps;
};

// file is for messages. 0, or -EBADMSG and *ret_why "FILE:LINE: what" (the caller's to free).
MUST_USE int drill_script_parse(const char *file, struct bytes text,
                                struct drill_script **ret_script, char **ret_why);
// A built-in case by name, else a path (what has a '/' or ends in .drill).
MUST_USE int drill_script_load(const char *name_or_path, struct drill_script **ret_script,
                               char **ret_why);
void drill_script_free(struct drill_script *s); // NULL is fine

const char *drill_when_name(enum drill_when w);
const char *drill_act_name(enum drill_act a);

// The built-in drills, in the order of their files' names, without ".drill"; NULL past the end.
const char *drill_builtin_text(size_t index);
const char *drill_builtin_file(size_t index);
