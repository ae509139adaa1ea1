#pragma once
// One copy of the user's command: a session of its own on a pseudo-terminal, so that what it
// prints is not held back in its buffers, and so that it and all that it forks can be found,
// frozen and killed. It dies with this process. Not thread-safe; fork happens on the caller's
// thread, which must outlive the copy.

#include "base/buf.h"
#include "base/bytes.h"
#include "base/check.h"

#include <stdio.h>
#include <sys/types.h>

enum copy_state { COPY_RUNNING, COPY_FROZEN, COPY_ENDED };

struct copy;

// A whole line of standard output, without its end. The text is valid during the call.
typedef void copy_line_fn(void *user, struct copy *c, struct str line);

// How copies are started. Everything is borrowed and must outlive the copies.
// {bootstrap} {topic} {group} {instance} {dir} are replaced in each argument.
struct copy_plan {
    char *const *argv; // ends with NULL
    const char *topic;
    const char *group;
    const char *dir;      // scratch directory of the run
    const char *keep_dir; // where output is kept as files; NULL: nowhere
    copy_line_fn *on_line;
    void *user;
};

struct copy {
    int instance; // from 1
    int attempt;  // from 1
    pid_t pid;
    enum copy_state state;
    int out_fd;      // to watch for input: standard output
    int err_fd;      // standard error; -1 once closed
    int end_fd;      // readable when the process ended
    int wait_status; // of an ended copy, as waitpid() gives it
    bool was_killed; // we sent SIGKILL
    bool was_told;   // we sent SIGTERM
    uint64_t lines;  // of standard output so far
    int slave_fd;
    const struct copy_plan *plan;
    struct buf partial;
    struct buf err_tail; // the last of standard error
    FILE *keep_out;
    FILE *keep_err;
    uint32_t marks;
    void *tag; // the owner's
};

// Once a process: orphans of copies become our children, so that they can be found.
void copy_adopt_orphans(void);

// 0, or -errno and *ret_why (the caller's to free) when the command cannot be run at all.
MUST_USE int copy_start(const struct copy_plan *p, int instance, int attempt, const char *bootstrap,
                        struct copy **ret_copy, char **ret_why);
void copy_free(struct copy *c); // kills what is left; NULL is fine

// Takes what there is to read, without waiting. True when there was something.
bool copy_read(struct copy *c);
// True when the process has ended: what it forked is then killed and its output read to the end.
bool copy_reap(struct copy *c);

// Stops every process of the copy, waits until each stands still and all it wrote was read.
// -ESRCH when it has ended meanwhile, -ETIMEDOUT when it would not stop (it runs on).
MUST_USE int copy_freeze(struct copy *c);
void copy_thaw(struct copy *c);
// What was read so far ends in the middle of a line. A process that stands still like that holds
// the rest, and maybe more, in a buffer: what it has not shown may be done.
bool copy_is_cut(const struct copy *c);
void copy_kill(struct copy *c);      // SIGKILL to all of it; returns when it is gone and read
void copy_terminate(struct copy *c); // SIGTERM to its process group; does not wait

// Processes that copies left behind under another session: killed. Call when no copy runs.
void copy_kill_strays(void);

// "exited with status 3", "killed by signal 9 (Killed)". Into a static buffer.
const char *copy_end_text(const struct copy *c);
// Replaces {name}s; owned result. Also for evidence files.
char *copy_expand(const struct copy_plan *p, const char *text, int instance, const char *bootstrap);
