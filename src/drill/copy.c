#include "drill/copy.h"
#include "drill/procs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MAX_LINE_BYTES 65536      // a longer line is cut there: evidence is short
#define MAX_ERR_BYTES 4096        // of standard error, for messages
#define STOP_WAIT_MS 2000         // a process in the kernel's hands may take long to stop
#define DRAIN_WAIT_MS 1000        // the terminal hands over within microseconds
#define FALLBACK_DRAIN_WAIT_MS 50 // when no mark can be set because a write is cut in two

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void pause_ms(int ms)
{
    (void)poll(NULL, 0, ms);
}

char *copy_expand(const struct copy_plan *p, const char *text, int instance, const char *bootstrap)
{
    char number[16];
    snprintf(number, sizeof number, "%d", instance);
    const char *const pairs[][2] = {{"{bootstrap}", bootstrap},
                                    {"{topic}", p->topic},
                                    {"{group}", p->group},
                                    {"{instance}", number},
                                    {"{dir}", p->dir}};
    struct buf out = {0};
    while (*text) {
        size_t taken = 0;
        for (size_t i = 0; !taken && i < sizeof pairs / sizeof *pairs; i++) {
            size_t len = strlen(pairs[i][0]);
            if (strncmp(text, pairs[i][0], len) != 0)
                continue;
            buf_add(&out, pairs[i][1], strlen(pairs[i][1]));
            taken = len;
        }
        if (!taken) {
            buf_add(&out, text, 1);
            taken = 1;
        }
        text += taken;
    }
    buf_add(&out, "", 1);
    return (char *)out.ptr;
}

void copy_adopt_orphans(void)
{
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
}

// In the child. Reports errno through `fd` when it cannot become the command.
static noreturn void become(char *const *argv, int slave, int err, int fd, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int s = 1; s < NSIG; s++)
        (void)signal(s, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // A batch process gives way to us when we wake up: whoever is to be stopped at a commit must
    // not run on while we wait for a processor.
    (void)sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
    if (getppid() != parent)
        _exit(127);
    setsid();
    (void)ioctl(slave, TIOCSCTTY, 0);
    int null = open("/dev/null", O_RDONLY);
    dup2(null, STDIN_FILENO);
    dup2(slave, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    (void)syscall(SYS_close_range, 3, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */);
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    execvp(argv[0], argv);
    int e = errno;
    ssize_t ignored = write(fd, &e, sizeof e);
    (void)ignored;
    _exit(127);
}

static int open_terminal(struct copy *c)
{
    struct termios raw = {0};
    cfmakeraw(&raw);
    raw.c_cflag |= CREAD | CS8;
    struct winsize size = {.ws_row = 1000, .ws_col = 1000};
    int slave;
    if (openpty(&c->out_fd, &slave, NULL, &raw, &size) < 0)
        return -errno;
    fcntl(c->out_fd, F_SETFD, FD_CLOEXEC);
    fcntl(c->out_fd, F_SETFL, O_NONBLOCK);
    fcntl(slave, F_SETFD, FD_CLOEXEC);
    // Held open, so that reading never ends before we have read all; by a description of its
    // own, whose non-blocking mode is not the command's.
    char name[64];
    if (ptsname_r(c->out_fd, name, sizeof name) == 0)
        c->slave_fd = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (c->slave_fd < 0) {
        close(slave);
        return -errno;
    }
    return slave;
}

static FILE *keep_file(const struct copy *c, const char *what)
{
    if (!c->plan->keep_dir)
        return NULL;
    struct buf path = {0};
    buf_printf(&path, "%s/copy-%d.%d.%s", c->plan->keep_dir, c->instance, c->attempt, what);
    buf_add(&path, "", 1);
    FILE *f = fopen((char *)path.ptr, "we");
    buf_free(&path);
    return f;
}

static void set_environment(const struct copy *c, const char *bootstrap)
{
    char number[16];
    setenv("TALLY_BOOTSTRAP", bootstrap, 1);
    setenv("TALLY_TOPIC", c->plan->topic, 1);
    setenv("TALLY_GROUP", c->plan->group, 1);
    setenv("TALLY_DIR", c->plan->dir, 1);
    snprintf(number, sizeof number, "%d", c->instance);
    setenv("TALLY_INSTANCE", number, 1);
    snprintf(number, sizeof number, "%d", c->attempt);
    setenv("TALLY_ATTEMPT", number, 1);
}

// Forks and waits until the child is the command. 0 or the errno of exec, negative.
static int launch(struct copy *c, char *const *argv, int slave, int err, const char *bootstrap)
{
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0)
        return -errno;
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        set_environment(c, bootstrap);
        become(argv, slave, err, report[1], parent);
    }
    int rc = pid < 0 ? -errno : 0;
    close(report[1]);
    int e = 0;
    if (rc == 0 && read(report[0], &e, sizeof e) == (ssize_t)sizeof e) {
        waitpid(pid, NULL, 0);
        rc = -e;
    }
    close(report[0]);
    if (rc == 0) {
        c->pid = pid;
        c->end_fd = (int)syscall(SYS_pidfd_open, pid, 0);
        fcntl(c->end_fd, F_SETFD, FD_CLOEXEC);
    }
    return rc;
}

int copy_start(const struct copy_plan *p, int instance, int attempt, const char *bootstrap,
               struct copy **ret_copy, char **ret_why)
{
    struct copy *c = calloc(1, sizeof *c);
    CHECK(c);
    *c = (struct copy){.instance = instance,
                       .attempt = attempt,
                       .plan = p,
                       .out_fd = -1,
                       .err_fd = -1,
                       .end_fd = -1,
                       .slave_fd = -1};
    size_t n = 0;
    while (p->argv[n])
        n++;
    char **argv = calloc(n + 1, sizeof *argv);
    CHECK(argv);
    for (size_t i = 0; i < n; i++)
        argv[i] = copy_expand(p, p->argv[i], instance, bootstrap);
    int err[2] = {-1, -1};
    int slave = open_terminal(c);
    int rc = slave < 0 ? slave : 0;
    if (rc == 0 && pipe2(err, O_CLOEXEC) < 0)
        rc = -errno;
    if (rc == 0)
        rc = launch(c, argv, slave, err[1], bootstrap);
    if (slave >= 0)
        close(slave);
    if (err[1] >= 0)
        close(err[1]);
    c->err_fd = err[0];
    if (c->err_fd >= 0)
        fcntl(c->err_fd, F_SETFL, O_NONBLOCK);
    if (rc < 0) {
        struct buf why = {0};
        buf_printf(&why, "cannot run \"%s\": %s", argv[0], strerror(-rc));
        buf_add(&why, "", 1);
        *ret_why = (char *)why.ptr;
    }
    for (size_t i = 0; i < n; i++)
        free(argv[i]);
    free(argv);
    if (rc < 0) {
        c->state = COPY_ENDED;
        copy_free(c);
        return rc;
    }
    c->keep_out = keep_file(c, "out");
    c->keep_err = keep_file(c, "err");
    *ret_copy = c;
    return 0;
}

static void take_output(struct copy *c, const uint8_t *data, size_t len)
{
    if (c->keep_out)
        fwrite(data, 1, len, c->keep_out);
    while (len > 0) {
        const uint8_t *end = memchr(data, '\n', len);
        size_t piece = end ? (size_t)(end - data) : len;
        size_t room = MAX_LINE_BYTES - c->partial.len;
        buf_add(&c->partial, data, piece < room ? piece : room);
        if (!end)
            return;
        if (c->partial.len > 0 && c->partial.ptr[c->partial.len - 1] == '\r')
            c->partial.len--;
        c->lines++;
        struct str line = {c->partial.ptr ? (const char *)c->partial.ptr : "",
                           (int32_t)c->partial.len};
        c->plan->on_line(c->plan->user, c, line);
        buf_clear(&c->partial);
        data += piece + 1;
        len -= piece + 1;
    }
}

static bool read_errors(struct copy *c)
{
    char piece[4096];
    ssize_t n;
    bool is_any = false;
    while (c->err_fd >= 0 && (n = read(c->err_fd, piece, sizeof piece)) >= 0) {
        if (n == 0) {
            close(c->err_fd);
            c->err_fd = -1;
            break;
        }
        is_any = true;
        if (c->keep_err)
            fwrite(piece, 1, (size_t)n, c->keep_err);
        buf_add(&c->err_tail, piece, (size_t)n);
        if (c->err_tail.len > MAX_ERR_BYTES) {
            size_t cut = c->err_tail.len - MAX_ERR_BYTES;
            memmove(c->err_tail.ptr, c->err_tail.ptr + cut, MAX_ERR_BYTES);
            c->err_tail.len = MAX_ERR_BYTES;
        }
    }
    return is_any;
}

bool copy_read(struct copy *c)
{
    uint8_t piece[16384];
    ssize_t n;
    bool is_any = read_errors(c);
    // Bounded, so that a copy that prints without end does not starve the others.
    for (int i = 0; i < 16 && c->out_fd >= 0; i++) {
        n = read(c->out_fd, piece, sizeof piece);
        if (n <= 0)
            break;
        is_any = true;
        take_output(c, piece, (size_t)n);
    }
    return is_any;
}

// Reads until a mark comes out that we write behind all that the copy has written: the kernel
// hands a terminal's output over later than write() returns, so "nothing to read" proves nothing.
static void drain(struct copy *c)
{
    char mark[40];
    int len = snprintf(mark, sizeof mark, "\x1e\x1ftally %u\x1f\x1e", ++c->marks);
    struct buf got = {0};
    bool is_written = false;
    uint64_t start = now_ms(), last_data = start;
    while (now_ms() - start < DRAIN_WAIT_MS) {
        if (!is_written)
            is_written = write(c->slave_fd, mark, (size_t)len) == len;
        bool is_any = false;
        uint8_t piece[16384];
        ssize_t n;
        while ((n = read(c->out_fd, piece, sizeof piece)) > 0) {
            buf_add(&got, piece, (size_t)n);
            is_any = true;
        }
        uint8_t *at = got.len ? memmem(got.ptr, got.len, mark, (size_t)len) : NULL;
        if (at) {
            size_t before = (size_t)(at - got.ptr);
            memmove(at, at + len, got.len - before - (size_t)len);
            got.len -= (size_t)len;
            break;
        }
        if (is_any)
            last_data = now_ms();
        else if (!is_written && now_ms() - last_data > FALLBACK_DRAIN_WAIT_MS)
            break;
        struct pollfd p = {.fd = c->out_fd, .events = POLLIN};
        (void)poll(&p, 1, 1);
    }
    take_output(c, got.ptr, got.len);
    buf_free(&got);
    read_errors(c);
}

static void note_end(struct copy *c)
{
    copy_thaw(c);
    procs_kill(c->pid);
    drain(c);
    // A last line without an end may be cut off in the middle of a number when the process was
    // killed; it counts only when the process ended by itself.
    if (c->partial.len > 0 && !c->was_killed && WIFEXITED(c->wait_status))
        take_output(c, (const uint8_t *)"\n", 1);
    buf_clear(&c->partial);
    c->state = COPY_ENDED;
    if (c->keep_out)
        fflush(c->keep_out);
    if (c->keep_err)
        fflush(c->keep_err);
}

bool copy_reap(struct copy *c)
{
    if (c->state == COPY_ENDED)
        return true;
    int status;
    if (waitpid(c->pid, &status, WNOHANG) != c->pid)
        return false;
    c->wait_status = status;
    note_end(c);
    return true;
}

int copy_freeze(struct copy *c)
{
    if (copy_reap(c))
        return -ESRCH;
    kill(-c->pid, SIGSTOP);
    uint64_t start = now_ms();
    for (;;) {
        enum procs_state s = procs_stop(c->pid);
        if (s == PROCS_STOPPED)
            break;
        if (copy_reap(c))
            return -ESRCH;
        if (now_ms() - start > STOP_WAIT_MS) {
            procs_signal(c->pid, SIGCONT);
            return -ETIMEDOUT;
        }
        if (s == PROCS_STOPPING)
            pause_ms(1);
    }
    c->state = COPY_FROZEN;
    drain(c);
    return 0;
}

void copy_thaw(struct copy *c)
{
    if (c->state != COPY_FROZEN)
        return;
    procs_signal(c->pid, SIGCONT);
    c->state = COPY_RUNNING;
}

bool copy_is_cut(const struct copy *c)
{
    return c->partial.len > 0;
}

void copy_kill(struct copy *c)
{
    if (c->state == COPY_ENDED || copy_reap(c))
        return;
    c->was_killed = true;
    kill(c->pid, SIGKILL);
    kill(-c->pid, SIGKILL);
    procs_kill(c->pid);
    int status = 0;
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        ;
    c->wait_status = status;
    c->state = COPY_RUNNING;
    note_end(c);
}

void copy_terminate(struct copy *c)
{
    if (copy_reap(c))
        return;
    c->was_told = true;
    kill(-c->pid, SIGTERM);
    copy_thaw(c);
}

void copy_kill_strays(void)
{
    procs_kill_strays();
}

const char *copy_end_text(const struct copy *c)
{
    static char text[64];
    if (WIFSIGNALED(c->wait_status))
        snprintf(text, sizeof text, "was killed by signal %d (%s)", WTERMSIG(c->wait_status),
                 strsignal(WTERMSIG(c->wait_status)));
    else
        snprintf(text, sizeof text, "exited with status %d", WEXITSTATUS(c->wait_status));
    return text;
}

void copy_free(struct copy *c)
{
    if (!c)
        return;
    copy_kill(c);
    int *const fds[] = {&c->out_fd, &c->err_fd, &c->end_fd, &c->slave_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
    }
    if (c->keep_out)
        fclose(c->keep_out);
    if (c->keep_err)
        fclose(c->keep_err);
    buf_free(&c->partial);
    buf_free(&c->err_tail);
    free(c);
}
