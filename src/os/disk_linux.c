#include "base/thread.h"
#include "os/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

// Syncs of different files run side by side so that one slow file does not hold up the journal;
// more threads than this only queue in the device.
#define POOL_THREADS 4
// The kernel keeps and drops what lies together together: one look is enough for so many.
#define CACHED_STEP_BYTES ((uint64_t)256 << 10)
#define CACHED_PAGE_BYTES 4096

struct disk_file {
    int fd;
    atomic_uint refs; // also of network threads, which give back what they have sent
    bool is_dir, is_read_only;
};

struct sync_job {
    struct sync_job *next;
    struct disk_file *files[DISK_SYNC_FILES_MAX];
    size_t n;
    int (*work)(void *arg); // instead of files
    void *arg;
    uint64_t cookie;
    int error;
};

struct disk {
    bool is_read_only;
    pthread_t threads[POOL_THREADS];
    bool has_threads;
    int event_fd;
    pthread_mutex_t lock; // guards what follows
    pthread_cond_t has_work;
    pthread_cond_t has_done;
    struct sync_job *todo, **todo_last;
    struct sync_job *working[POOL_THREADS]; // by thread
    struct sync_job *done, **done_last;
    bool was_told; // event_fd holds something, or will in a moment
    bool is_stopping;
};

int disk_new(struct disk **ret_disk)
{
    struct disk *d = calloc(1, sizeof *d);
    CHECK(d);
    d->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (d->event_fd < 0) {
        int r = -errno;
        free(d);
        return r;
    }
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->has_work, NULL);
    pthread_cond_init(&d->has_done, NULL);
    d->todo_last = &d->todo;
    d->done_last = &d->done;
    *ret_disk = d;
    return 0;
}

static void job_free(struct sync_job *job)
{
    for (size_t i = 0; i < job->n; i++)
        disk_close(job->files[i]);
    free(job);
}

void disk_free(struct disk *d)
{
    if (!d)
        return;
    pthread_mutex_lock(&d->lock);
    d->is_stopping = true;
    pthread_cond_broadcast(&d->has_work);
    pthread_mutex_unlock(&d->lock);
    if (d->has_threads)
        for (size_t i = 0; i < POOL_THREADS; i++)
            pthread_join(d->threads[i], NULL);
    while (d->done) {
        struct sync_job *job = d->done;
        d->done = job->next;
        job_free(job);
    }
    pthread_cond_destroy(&d->has_work);
    pthread_cond_destroy(&d->has_done);
    pthread_mutex_destroy(&d->lock);
    close(d->event_fd);
    free(d);
}

void disk_make_read_only(struct disk *d)
{
    d->is_read_only = true;
}

bool disk_is_read_only(const struct disk *d)
{
    return d->is_read_only;
}

int disk_open(struct disk *d, const char *path, unsigned flags, struct disk_file **ret_file)
{
    if (d->is_read_only)
        flags &= DISK_DIR;
    int mode = flags & DISK_WRITE ? O_RDWR : O_RDONLY;
    if (flags & DISK_CREATE)
        mode |= O_CREAT;
    if (flags & DISK_NEW)
        mode |= O_CREAT | O_EXCL;
    if (flags & DISK_DIR)
        mode |= O_DIRECTORY;
    int fd = open(path, mode | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    struct disk_file *f = calloc(1, sizeof *f);
    CHECK(f);
    *f = (struct disk_file){
        .fd = fd, .refs = 1, .is_dir = flags & DISK_DIR, .is_read_only = d->is_read_only};
    *ret_file = f;
    return 0;
}

struct disk_file *disk_file_ref(struct disk_file *f)
{
    atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
    return f;
}

void disk_close(struct disk_file *f)
{
    if (!f || atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) > 1)
        return;
    close(f->fd);
    free(f);
}

int disk_file_fd(const struct disk_file *f)
{
    return f->fd;
}

int disk_pread(struct disk_file *f, void *data, size_t len, uint64_t pos, size_t *ret_len)
{
    size_t got = 0;
    while (got < len) {
        ssize_t n = pread(f->fd, (char *)data + got, len - got, (off_t)(pos + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    *ret_len = got;
    return 0;
}

static bool is_byte_cached(const struct disk_file *f, uint64_t pos)
{
    char byte;
    struct iovec to = {.iov_base = &byte, .iov_len = 1};
    // The kernel begins to read it when it is not there.
    return preadv2(f->fd, &to, 1, (off_t)pos, RWF_NOWAIT) >= 0 || errno != EAGAIN;
}

bool disk_is_cached(struct disk_file *f, uint64_t pos, uint64_t len)
{
    for (uint64_t at = 0; at < len; at += CACHED_STEP_BYTES)
        if (!is_byte_cached(f, pos + at))
            return false;
    return len <= CACHED_PAGE_BYTES || is_byte_cached(f, pos + len - 1);
}

int disk_pwritev(struct disk_file *f, const struct iovec *iov, int n, uint64_t pos)
{
    struct iovec rest[DISK_IOV_MAX];
    if (f->is_read_only)
        return -EROFS;
    CHECK(n >= 0 && n <= DISK_IOV_MAX);
    memcpy(rest, iov, (size_t)n * sizeof *iov);
    struct iovec *at = rest;
    while (n > 0) {
        ssize_t done = pwritev(f->fd, at, n, (off_t)pos);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -errno;
        pos += (uint64_t)done;
        size_t left = (size_t)done;
        while (n > 0 && left >= at->iov_len) {
            left -= at->iov_len;
            at++, n--;
        }
        if (n > 0) {
            at->iov_base = (char *)at->iov_base + left;
            at->iov_len -= left;
        }
    }
    return 0;
}

int disk_truncate(struct disk_file *f, uint64_t size)
{
    if (f->is_read_only)
        return -EROFS;
    return ftruncate(f->fd, (off_t)size) < 0 ? -errno : 0;
}

int disk_reserve(struct disk_file *f, uint64_t pos, uint64_t len)
{
    int r;
    while ((r = fallocate(f->fd, FALLOC_FL_KEEP_SIZE, (off_t)pos, (off_t)len)) < 0 &&
           errno == EINTR)
        ;
    if (r < 0)
        return errno == EOPNOTSUPP || errno == ENOSYS ? -ENOTSUP : -errno;
    return 0;
}

int disk_size(struct disk_file *f, uint64_t *ret_size)
{
    struct stat st;
    if (fstat(f->fd, &st) < 0)
        return -errno;
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

int disk_set_modified(struct disk_file *f, int64_t ms)
{
    struct timespec at = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    const struct timespec times[2] = {at, at};
    return futimens(f->fd, times) < 0 ? -errno : 0;
}

int disk_sync(struct disk_file *f)
{
    if (f->is_read_only)
        return 0;
    return (f->is_dir ? fsync(f->fd) : fdatasync(f->fd)) < 0 ? -errno : 0;
}

int disk_stat(struct disk *d, const char *path, struct disk_stat *ret_stat)
{
    (void)d;
    struct stat st;
    if (stat(path, &st) < 0)
        return -errno;
    *ret_stat = (struct disk_stat){
        .is_dir = S_ISDIR(st.st_mode),
        .size = (uint64_t)st.st_size,
        .modified_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000,
        .id = st.st_ino,
        .changed = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec,
    };
    return 0;
}

int disk_rename(struct disk *d, const char *from, const char *to)
{
    if (d->is_read_only)
        return -EROFS;
    return rename(from, to) < 0 ? -errno : 0;
}

int disk_unlink(struct disk *d, const char *path)
{
    if (d->is_read_only)
        return -EROFS;
    return unlink(path) < 0 ? -errno : 0;
}

int disk_mkdir(struct disk *d, const char *path)
{
    if (d->is_read_only)
        return -EROFS;
    return mkdir(path, 0755) < 0 ? -errno : 0;
}

int disk_rmdir(struct disk *d, const char *path)
{
    if (d->is_read_only)
        return -EROFS;
    return rmdir(path) < 0 ? -errno : 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int disk_list(struct disk *d, const char *path, struct arena *a, char ***ret_names, size_t *ret_n)
{
    (void)d;
    DIR *dir = opendir(path);
    if (!dir)
        return -errno;
    char **names = NULL;
    size_t n = 0, cap = 0;
    struct dirent *e;
    while (errno = 0, (e = readdir(dir))) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 16;
            char **more = arena_array(a, cap, sizeof *more);
            if (n)
                memcpy(more, names, n * sizeof *names);
            names = more;
        }
        names[n++] = (char *)(uintptr_t)arena_str(a, str_from(e->d_name)).ptr;
    }
    int r = -errno;
    closedir(dir);
    if (r < 0)
        return r;
    if (n)
        qsort(names, n, sizeof *names, compare_names);
    *ret_names = names;
    *ret_n = n;
    return 0;
}

int disk_space(struct disk *d, const char *path, struct disk_space *ret_space)
{
    (void)d;
    struct statvfs st;
    if (statvfs(path, &st) < 0)
        return -errno;
    *ret_space = (struct disk_space){st.f_bavail * (uint64_t)st.f_frsize,
                                     st.f_blocks * (uint64_t)st.f_frsize};
    return 0;
}

int disk_lock(struct disk *d, const char *path, struct disk_file **ret_lock,
              int64_t *ret_holder_pid)
{
    struct disk_file *f;
    int r = disk_open(d, path, DISK_WRITE | DISK_CREATE, &f);
    if (r < 0)
        return r;
    char text[32] = "";
    struct flock range = {.l_type = d->is_read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(f->fd, F_OFD_SETLK, &range) < 0) {
        r = errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
        ssize_t n = pread(f->fd, text, sizeof text - 1, 0);
        *ret_holder_pid = n > 0 ? strtoll(text, NULL, 10) : 0;
        disk_close(f);
        return r;
    }
    if (d->is_read_only) {
        *ret_lock = f;
        return 0;
    }
    int len = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    r = disk_truncate(f, 0);
    if (r == 0)
        r = disk_pwrite(f, text, (size_t)len, 0);
    if (r < 0) {
        disk_close(f);
        return r;
    }
    *ret_lock = f;
    return 0;
}

uint64_t disk_files_max(struct disk *d)
{
    (void)d;
    struct rlimit files;
    return getrlimit(RLIMIT_NOFILE, &files) == 0 ? (uint64_t)files.rlim_cur : UINT64_MAX;
}

int disk_boot_id(struct disk *d, struct uuid *ret_id)
{
    (void)d;
    char text[64];
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, text, sizeof text - 1);
    int r = n < 0 ? -errno : 0;
    close(fd);
    if (r < 0)
        return r;
    text[n] = 0;
    struct uuid id;
    size_t nibbles = 0;
    for (const char *c = text; *c && nibbles < 32; c++) {
        if (*c == '-')
            continue;
        int v = *c >= '0' && *c <= '9' ? *c - '0' : *c >= 'a' && *c <= 'f' ? *c - 'a' + 10 : -1;
        if (v < 0)
            break;
        uint8_t *b = &id.b[nibbles / 2];
        *b = (uint8_t)(nibbles % 2 ? *b | v : v << 4);
        nibbles++;
    }
    if (nibbles != 32)
        return -EBADMSG;
    *ret_id = id;
    return 0;
}

static struct sync_job **free_place(struct disk *d)
{
    size_t i = 0;
    while (d->working[i])
        i++;
    CHECK(i < POOL_THREADS);
    return &d->working[i];
}

static void *pool_main(void *arg)
{
    struct disk *d = arg;
    pthread_mutex_lock(&d->lock);
    for (;;) {
        while (!d->todo && !d->is_stopping)
            pthread_cond_wait(&d->has_work, &d->lock);
        struct sync_job *job = d->todo;
        if (!job)
            break;
        d->todo = job->next;
        if (!d->todo)
            d->todo_last = &d->todo;
        struct sync_job **place = free_place(d);
        *place = job;
        pthread_mutex_unlock(&d->lock);

        for (size_t i = 0; i < job->n && job->error == 0; i++)
            job->error = disk_sync(job->files[i]);
        if (job->work)
            job->error = job->work(job->arg);

        pthread_mutex_lock(&d->lock);
        *place = NULL;
        job->next = NULL;
        *d->done_last = job;
        d->done_last = &job->next;
        pthread_cond_broadcast(&d->has_done);
        if (d->was_told)
            continue;
        d->was_told = true;
        // The loop that this wakes shall not have to wait for the lock.
        pthread_mutex_unlock(&d->lock);
        uint64_t one = 1;
        CHECK(write(d->event_fd, &one, sizeof one) == sizeof one);
        pthread_mutex_lock(&d->lock);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

static void pool_start(struct disk *d)
{
    for (size_t i = 0; i < POOL_THREADS; i++)
        CHECK(thread_start(&d->threads[i], pool_main, d) == 0);
    d->has_threads = true;
}

static void job_start(struct disk *d, struct sync_job *job)
{
    if (!d->has_threads)
        pool_start(d);
    pthread_mutex_lock(&d->lock);
    *d->todo_last = job;
    d->todo_last = &job->next;
    pthread_mutex_unlock(&d->lock);
    pthread_cond_signal(&d->has_work);
}

void disk_sync_start(struct disk *d, struct disk_file *const *files, size_t n, uint64_t cookie)
{
    CHECK(n <= DISK_SYNC_FILES_MAX);
    struct sync_job *job = calloc(1, sizeof *job);
    CHECK(job);
    for (size_t i = 0; i < n; i++)
        job->files[i] = disk_file_ref(files[i]);
    job->n = n;
    job->cookie = cookie;
    job_start(d, job);
}

void disk_work_start(struct disk *d, int (*work)(void *arg), void *arg, uint64_t cookie)
{
    struct sync_job *job = calloc(1, sizeof *job);
    CHECK(job);
    *job = (struct sync_job){.work = work, .arg = arg, .cookie = cookie};
    job_start(d, job);
}

// Takes the work with the cookie off a list.
static struct sync_job *take_work(struct sync_job **list, struct sync_job ***last, uint64_t cookie)
{
    struct sync_job **at = list;
    while (*at && !((*at)->work && (*at)->cookie == cookie))
        at = &(*at)->next;
    struct sync_job *job = *at;
    if (job)
        *at = job->next;
    if (job && !*at)
        *last = at;
    return job;
}

static bool is_working(const struct disk *d, uint64_t cookie)
{
    for (size_t i = 0; i < POOL_THREADS; i++)
        if (d->working[i] && d->working[i]->work && d->working[i]->cookie == cookie)
            return true;
    return false;
}

void disk_work_abandon(struct disk *d, uint64_t cookie)
{
    pthread_mutex_lock(&d->lock);
    struct sync_job *job = take_work(&d->todo, &d->todo_last, cookie);
    while (is_working(d, cookie))
        pthread_cond_wait(&d->has_done, &d->lock);
    if (!job)
        job = take_work(&d->done, &d->done_last, cookie);
    pthread_mutex_unlock(&d->lock);
    free(job);
}

int disk_event_fd(struct disk *d)
{
    return d->event_fd;
}

bool disk_poll_done(struct disk *d, struct disk_done *ret_done)
{
    pthread_mutex_lock(&d->lock);
    struct sync_job *job = d->done;
    if (job) {
        d->done = job->next;
        if (!d->done)
            d->done_last = &d->done;
    } else if (d->was_told) {
        uint64_t count;
        // Empty: let the descriptor sleep again. EAGAIN: what it is told is still on its way.
        if (read(d->event_fd, &count, sizeof count) >= 0)
            d->was_told = false;
        else
            CHECK(errno == EAGAIN);
    }
    pthread_mutex_unlock(&d->lock);
    if (!job)
        return false;
    *ret_done = (struct disk_done){job->cookie, job->error};
    job_free(job);
    return true;
}
