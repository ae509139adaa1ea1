#include "drill/procs.h"

#include "base/check.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_KILL_ROUNDS 1000 // a fork bomb may outrun us; a millisecond each

struct proc {
    pid_t pid;
    pid_t parent;
    pid_t session;
    char state;
    bool is_ours;
};

struct procs {
    struct proc *all;
    size_t n;
    size_t cap;
};

static bool read_stat(pid_t pid, struct proc *ret)
{
    char path[32], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    // The name in parentheses may hold anything, also parentheses.
    const char *after = strrchr(text, ')');
    int parent, group, session;
    char state;
    if (!after || sscanf(after + 1, " %c %d %d %d", &state, &parent, &group, &session) != 4)
        return false;
    *ret = (struct proc){pid, parent, session, state, false};
    return true;
}

static void list_all(struct procs *p)
{
    p->n = 0;
    DIR *d = opendir("/proc");
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        char *end;
        long pid = strtol(e->d_name, &end, 10);
        struct proc one;
        if (*end || pid <= 0 || !read_stat((pid_t)pid, &one))
            continue;
        if (p->n == p->cap) {
            p->cap = p->cap ? p->cap * 2 : 256;
            p->all = realloc(p->all, p->cap * sizeof *p->all);
            CHECK(p->all);
        }
        p->all[p->n++] = one;
    }
    closedir(d);
}

static bool is_ours(const struct procs *p, pid_t pid)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->all[i].pid == pid)
            return p->all[i].is_ours;
    }
    return false;
}

static void find(struct procs *p, pid_t root)
{
    list_all(p);
    for (bool is_grown = true; is_grown;) {
        is_grown = false;
        for (size_t i = 0; i < p->n; i++) {
            struct proc *q = &p->all[i];
            if (q->is_ours || q->pid == getpid())
                continue;
            q->is_ours = q->pid == root || q->session == root || is_ours(p, q->parent);
            is_grown |= q->is_ours;
        }
    }
}

static bool is_gone(const struct proc *p)
{
    return p->state == 'Z' || p->state == 'X';
}

void procs_signal(pid_t root, int signal_number)
{
    struct procs p = {0};
    find(&p, root);
    for (size_t i = 0; i < p.n; i++) {
        if (p.all[i].is_ours && !is_gone(&p.all[i]))
            kill(p.all[i].pid, signal_number);
    }
    free(p.all);
}

// The state of a process is that of its first thread; the others may still run for a moment.
static bool are_threads_still(pid_t pid)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *d = opendir(path);
    bool is_still = true;
    for (struct dirent *e; d && is_still && (e = readdir(d));) {
        char thread[sizeof path + 280], text[512];
        if (e->d_name[0] == '.')
            continue;
        snprintf(thread, sizeof thread, "%s/%s/stat", path, e->d_name);
        int fd = open(thread, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
        if (fd >= 0)
            close(fd);
        text[n > 0 ? n : 0] = '\0';
        const char *after = strrchr(text, ')');
        is_still = !after || !after[1] || strchr("TtZX", after[2]);
    }
    if (d)
        closedir(d);
    return is_still;
}

static bool look_stopped(struct procs *p, pid_t root)
{
    bool is_still = true;
    find(p, root);
    for (size_t i = 0; i < p->n; i++) {
        struct proc *q = &p->all[i];
        if (!q->is_ours || is_gone(q))
            continue;
        if ((q->state == 'T' || q->state == 't') && are_threads_still(q->pid))
            continue;
        kill(q->pid, SIGSTOP);
        is_still = false;
    }
    return is_still;
}

enum procs_state procs_stop(pid_t root)
{
    struct procs p = {0};
    // Twice: one that was passed over may have forked.
    bool is_still = look_stopped(&p, root);
    is_still = is_still && look_stopped(&p, root);
    free(p.all);
    return is_still ? PROCS_STOPPED : PROCS_STOPPING;
}

void procs_kill(pid_t root)
{
    struct procs p = {0};
    for (int round = 0; round < MAX_KILL_ROUNDS; round++) {
        bool is_any = false;
        find(&p, root);
        for (size_t i = 0; i < p.n; i++) {
            struct proc *q = &p.all[i];
            if (!q->is_ours || q->pid == root)
                continue;
            if (q->parent == getpid())
                (void)waitpid(q->pid, NULL, WNOHANG);
            if (is_gone(q))
                continue;
            kill(q->pid, SIGKILL);
            is_any = true;
        }
        if (!is_any)
            break;
        (void)poll(NULL, 0, 1);
    }
    free(p.all);
}

void procs_kill_strays(void)
{
    struct procs p = {0};
    for (int round = 0; round < MAX_KILL_ROUNDS; round++) {
        bool is_any = false;
        list_all(&p);
        for (size_t i = 0; i < p.n; i++) {
            struct proc *q = &p.all[i];
            if (q->parent != getpid())
                continue;
            kill(q->pid, SIGKILL);
            is_any |= waitpid(q->pid, NULL, WNOHANG) == 0;
        }
        if (!is_any)
            break;
        (void)poll(NULL, 0, 1);
    }
    free(p.all);
}
