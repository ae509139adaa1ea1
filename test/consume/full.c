// A full disk, for a process that has this preloaded: once the file FULL_WHEN exists, nothing more
// can be written to files whose path contains FULL_PATH.

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static bool is_full(int fd)
{
    const char *when = getenv("FULL_WHEN"), *path = getenv("FULL_PATH");
    char link[64], at[4096];
    if (!when || !path || access(when, F_OK) != 0)
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, at, sizeof at - 1);
    at[n > 0 ? n : 0] = 0;
    return strstr(at, path) != NULL;
}

#define WRITE(name, fd, ...)                                                                       \
    do {                                                                                           \
        if (is_full(fd)) {                                                                         \
            errno = ENOSPC;                                                                        \
            return -1;                                                                             \
        }                                                                                          \
        void *found = dlsym(RTLD_NEXT, #name);                                                     \
        __typeof__(&name) real;                                                                    \
        memcpy(&real, &found, sizeof real);                                                        \
        return real(fd, __VA_ARGS__);                                                              \
    } while (0)

ssize_t write(int fd, const void *data, size_t n)
{
    WRITE(write, fd, data, n);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    WRITE(pwrite, fd, data, n, at);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at)
{
    WRITE(pwrite64, fd, data, n, at);
}

ssize_t pwritev(int fd, const struct iovec *data, int n, off_t at)
{
    WRITE(pwritev, fd, data, n, at);
}

ssize_t pwritev64(int fd, const struct iovec *data, int n, off64_t at)
{
    WRITE(pwritev64, fd, data, n, at);
}

int posix_fallocate(int fd, off_t at, off_t n)
{
    if (is_full(fd))
        return ENOSPC;
    void *found = dlsym(RTLD_NEXT, "posix_fallocate");
    __typeof__(&posix_fallocate) real;
    memcpy(&real, &found, sizeof real);
    return real(fd, at, n);
}
