#include "os/disk.h"

#include <errno.h>
#include <stdio.h>

int disk_pwrite(struct disk_file *f, const void *data, size_t len, uint64_t pos)
{
    union {
        const void *in;
        void *out;
    } p = {.in = data}; // iovec has no const form; nothing writes through it here
    struct iovec iov = {p.out, len};
    return disk_pwritev(f, &iov, 1, pos);
}

int disk_pread_all(struct disk_file *f, void *data, size_t len, uint64_t pos)
{
    size_t got = 0;
    int r = disk_pread(f, data, len, pos, &got);
    if (r < 0)
        return r;
    return got == len ? 0 : -ENODATA;
}

int disk_sync_dir(struct disk *d, const char *path)
{
    struct disk_file *f;
    int r = disk_open(d, path, DISK_DIR, &f);
    if (r < 0)
        return r;
    r = disk_sync(f);
    disk_close(f);
    return r;
}

int disk_read_file(struct disk *d, const char *path, size_t max, struct arena *a,
                   struct bytes *ret_content)
{
    struct disk_file *f;
    int r = disk_open(d, path, DISK_READ, &f);
    if (r < 0)
        return r;
    uint64_t size = 0;
    r = disk_size(f, &size);
    if (r == 0 && size > max)
        r = -EFBIG;
    if (r == 0) {
        uint8_t *data = arena_alloc(a, (size_t)size + 1); // terminated, for text files
        r = disk_pread_all(f, data, (size_t)size, 0);
        if (r == 0)
            *ret_content = (struct bytes){data, (size_t)size};
    }
    disk_close(f);
    return r;
}

int disk_replace_file(struct disk *d, const char *dir, const char *name, struct bytes content)
{
    struct arena *a = arena_new();
    const char *path = arena_printf(a, "%s/%s", dir, name);
    const char *temp = arena_printf(a, "%s/%s.tmp", dir, name);
    struct disk_file *f = NULL;
    int r = disk_open(d, temp, DISK_WRITE | DISK_CREATE, &f);
    if (r == 0)
        r = disk_truncate(f, 0);
    if (r == 0)
        r = disk_pwrite(f, content.ptr, content.len, 0);
    if (r == 0)
        r = disk_sync(f);
    disk_close(f);
    if (r == 0)
        r = disk_rename(d, temp, path);
    if (r == 0)
        r = disk_sync_dir(d, dir);
    arena_free(a);
    return r;
}
