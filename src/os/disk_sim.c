#include "os/clock_sim.h"
#include "os/disk_sim_private.h"

#include "base/buf.h"
#include "base/map.h"
#include "base/prng.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What a real device writes as one: a torn write breaks at multiples of this.
#define SECTOR 512
#define SIM_TOTAL_BYTES (1ull << 40)

static struct inode *inode_new(struct disk *d, bool is_dir)
{
    struct inode *i = calloc(1, sizeof *i);
    CHECK(i);
    i->is_dir = is_dir;
    i->pending_last = &i->pending;
    i->ops_last = &i->ops;
    if (is_dir) {
        i->entries = map_new();
        i->durable_entries = map_new();
    }
    i->id = (d->inodes ? d->inodes->id : 0) + 1;
    i->next = d->inodes;
    d->inodes = i;
    return i;
}

struct disk *disk_sim_new(uint64_t seed)
{
    struct disk *d = calloc(1, sizeof *d);
    CHECK(d);
    prng_seed(&d->prng, seed);
    d->root = inode_new(d, true);
    d->syncs_last = &d->syncs;
    d->fail_at = UINT64_MAX;
    d->free_bytes = SIM_TOTAL_BYTES;
    memcpy(d->seed_id.b, &seed, sizeof seed);
    return d;
}

int disk_new(struct disk **ret_disk)
{
    *ret_disk = disk_sim_new(1);
    return 0;
}

static void pending_free(struct inode *i)
{
    while (i->pending) {
        struct pending *p = i->pending;
        i->pending = p->next;
        free(p);
    }
    i->pending_last = &i->pending;
}

static void op_free(struct name_op *op)
{
    free(op->removed);
    free(op->added);
    free(op);
}

static void ops_free(struct inode *i)
{
    while (i->ops) {
        struct name_op *op = i->ops;
        i->ops = op->next;
        op_free(op);
    }
    i->ops_last = &i->ops;
}

void disk_free(struct disk *d)
{
    if (!d)
        return;
    disk_sim_syncs_forget(d);
    while (d->files) {
        struct disk_file *f = d->files;
        d->files = f->next;
        free(f);
    }
    while (d->inodes) {
        struct inode *i = d->inodes;
        d->inodes = i->next;
        buf_free(&i->visible);
        buf_free(&i->durable);
        pending_free(i);
        ops_free(i);
        map_free(i->entries);
        map_free(i->durable_entries);
        free(i);
    }
    free(d->bad_reads);
    free(d);
}

static struct bytes key_of(const char *name, size_t len)
{
    return (struct bytes){(const uint8_t *)name, len};
}

static struct inode *lookup(struct disk *d, const char *path, size_t len)
{
    struct inode *at = d->root;
    const char *end = path + len;
    while (path < end) {
        if (*path == '/') {
            path++;
            continue;
        }
        const char *slash = memchr(path, '/', (size_t)(end - path));
        size_t n = (size_t)((slash ? slash : end) - path);
        if (!at || !at->is_dir)
            return NULL;
        if (!(n == 1 && path[0] == '.'))
            at = map_get(at->entries, key_of(path, n));
        path += n;
    }
    return at;
}

// The directory that holds the last name of the path; NULL when there is none.
static struct inode *parent_of(struct disk *d, const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    *ret_name = slash ? slash + 1 : path;
    struct inode *dir = lookup(d, path, slash ? (size_t)(slash - path) : 0);
    return dir && dir->is_dir ? dir : NULL;
}

// Counts a call that changes the disk; the error it is to fail with, or 0.
static int begin_op(struct disk *d)
{
    if (d->is_read_only || d->is_looking)
        return -EROFS;
    return d->ops++ >= d->fail_at ? d->fail_error : 0;
}

static void names_apply(struct map *entries, const struct name_op *op)
{
    if (op->removed)
        map_remove(entries, key_of(op->removed, strlen(op->removed)));
    if (op->added)
        map_put(entries, key_of(op->added, strlen(op->added)), op->ino);
}

static void change_names(struct disk *d, struct inode *dir, const char *removed, const char *added,
                         struct inode *ino)
{
    struct name_op *op = calloc(1, sizeof *op);
    CHECK(op);
    *op = (struct name_op){.order = ++d->order, .ino = ino};
    dir->changed = op->order;
    if (removed)
        op->removed = strdup(removed);
    if (added)
        op->added = strdup(added);
    *dir->ops_last = op;
    dir->ops_last = &op->next;
    names_apply(dir->entries, op);
}

void disk_make_read_only(struct disk *d)
{
    d->is_looking = true;
}

bool disk_is_read_only(const struct disk *d)
{
    return d->is_looking;
}

int disk_open(struct disk *d, const char *path, unsigned flags, struct disk_file **ret_file)
{
    const char *name;
    if (d->is_looking)
        flags &= DISK_DIR;
    if (d->files_max && d->n_files >= d->files_max)
        return -EMFILE;
    struct inode *ino = lookup(d, path, strlen(path));
    if (!ino && (flags & (DISK_CREATE | DISK_NEW))) {
        struct inode *dir = parent_of(d, path, &name);
        if (!dir)
            return -ENOENT;
        int r = begin_op(d);
        if (r < 0)
            return r;
        ino = inode_new(d, false);
        change_names(d, dir, NULL, name, ino);
    } else if (ino && (flags & DISK_NEW)) {
        return -EEXIST;
    }
    if (!ino)
        return -ENOENT;
    if ((flags & DISK_DIR) && !ino->is_dir)
        return -ENOTDIR;
    if ((flags & DISK_WRITE) && ino->is_dir)
        return -EISDIR;
    if ((flags & DISK_WRITE) && d->is_read_only)
        return -EROFS;
    d->n_files++;
    struct disk_file *f = calloc(1, sizeof *f);
    CHECK(f);
    *f = (struct disk_file){.next = d->files,
                            .disk = d,
                            .ino = ino,
                            .process = d->process,
                            .refs = 1,
                            .is_writable = flags & DISK_WRITE};
    d->files = f;
    *ret_file = f;
    return 0;
}

struct disk_file *disk_file_ref(struct disk_file *f)
{
    CHECK(f->refs > 0);
    f->refs++;
    return f;
}

void disk_close(struct disk_file *f)
{
    if (!f)
        return;
    CHECK(f->refs > 0);
    if (--f->refs > 0)
        return;
    if (f->process == f->disk->process)
        f->disk->n_files--;
    struct disk_file **at = &f->disk->files;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    free(f);
}

int disk_file_fd(const struct disk_file *f)
{
    (void)f;
    return -1;
}

static bool is_stale(const struct disk_file *f)
{
    return f->process != f->disk->process;
}

bool disk_is_cached(struct disk_file *f, uint64_t pos, uint64_t len)
{
    (void)pos;
    (void)len;
    struct disk *d = f->disk;
    return d->cold_percent == 0 || !prng_chance(&d->prng, d->cold_percent);
}

void disk_sim_set_cold(struct disk *d, unsigned percent)
{
    d->cold_percent = percent;
}

int disk_pread(struct disk_file *f, void *data, size_t len, uint64_t pos, size_t *ret_len)
{
    if (is_stale(f))
        return -EBADF;
    if (f->ino->is_dir)
        return -EISDIR;
    struct disk *d = f->disk;
    if (d->bad_reads && lookup(d, d->bad_reads, strlen(d->bad_reads)) == f->ino)
        return -EIO;
    const struct buf *v = &f->ino->visible;
    size_t n = pos >= v->len ? 0 : v->len - (size_t)pos;
    if (n > len)
        n = len;
    if (n)
        memcpy(data, v->ptr + pos, n);
    d->bytes_read += n;
    *ret_len = n;
    return 0;
}

static void resize(struct buf *b, size_t size)
{
    if (size <= b->len) {
        b->len = size;
        return;
    }
    size_t more = size - b->len;
    memset(buf_extend(b, more), 0, more);
}

static void put(struct buf *b, const uint8_t *data, size_t len, uint64_t pos)
{
    if (pos + len > b->len)
        resize(b, (size_t)pos + len);
    if (len)
        memcpy(b->ptr + pos, data, len);
}

static struct pending *pending_add(struct disk *d, struct inode *i, size_t len, uint64_t pos)
{
    struct pending *p = calloc(1, sizeof *p + len);
    CHECK(p);
    *p = (struct pending){.order = ++d->order, .pos = pos, .len = len};
    i->changed = p->order;
    i->modified_ms = d->now_ms;
    *i->pending_last = p;
    i->pending_last = &p->next;
    return p;
}

static uint64_t taken(const struct inode *i)
{
    return i->reserved > i->visible.len ? i->reserved : i->visible.len;
}

int disk_reserve(struct disk_file *f, uint64_t pos, uint64_t len)
{
    if (is_stale(f) || !f->is_writable)
        return -EBADF;
    uint64_t had = taken(f->ino), growth = pos + len > had ? pos + len - had : 0;
    if (growth > f->disk->free_bytes)
        return -ENOSPC;
    f->disk->free_bytes -= growth;
    f->ino->reserved = had + growth;
    return 0;
}

int disk_pwritev(struct disk_file *f, const struct iovec *iov, int n, uint64_t pos)
{
    if (is_stale(f) || !f->is_writable)
        return f->disk->is_looking ? -EROFS : -EBADF;
    CHECK(n >= 0 && n <= DISK_IOV_MAX);
    struct disk *d = f->disk;
    struct buf data = {0};
    for (int i = 0; i < n; i++)
        buf_add(&data, iov[i].iov_base, iov[i].iov_len);
    size_t len = data.len;
    int r = begin_op(d);
    // A write that fails may have written its first part.
    if (r < 0)
        len = r == -EROFS ? 0 : (size_t)prng_below(&d->prng, len + 1);
    uint64_t had = taken(f->ino);
    uint64_t growth = pos + len > had ? pos + len - had : 0;
    if (growth > d->free_bytes) {
        len = growth - d->free_bytes > len ? 0 : len - (size_t)(growth - d->free_bytes);
        growth = d->free_bytes;
        if (r == 0)
            r = -ENOSPC;
    }
    if (len) {
        d->free_bytes -= growth;
        struct pending *p = pending_add(d, f->ino, len, pos);
        memcpy(p->data, data.ptr, len);
        put(&f->ino->visible, p->data, len, pos);
    }
    buf_free(&data);
    return r;
}

int disk_truncate(struct disk_file *f, uint64_t size)
{
    if (is_stale(f) || !f->is_writable)
        return f->disk->is_looking ? -EROFS : -EBADF;
    int r = begin_op(f->disk);
    if (r < 0)
        return r;
    if (size < taken(f->ino))
        f->disk->free_bytes += taken(f->ino) - size;
    f->ino->reserved = 0;
    pending_add(f->disk, f->ino, 0, size)->is_truncate = true;
    resize(&f->ino->visible, (size_t)size);
    return 0;
}

int disk_size(struct disk_file *f, uint64_t *ret_size)
{
    if (is_stale(f))
        return -EBADF;
    *ret_size = f->ino->visible.len;
    return 0;
}

static void pending_apply(struct buf *b, const struct pending *p)
{
    if (p->is_truncate)
        resize(b, (size_t)p->pos);
    else
        put(b, p->data, p->len, p->pos);
}

// Makes durable what was done up to `order`.
static void inode_sync(struct inode *i, uint64_t order)
{
    while (i->pending && i->pending->order <= order) {
        struct pending *p = i->pending;
        pending_apply(&i->durable, p);
        i->pending = p->next;
        free(p);
    }
    if (!i->pending)
        i->pending_last = &i->pending;
    while (i->ops && i->ops->order <= order) {
        struct name_op *op = i->ops;
        names_apply(i->durable_entries, op);
        i->ops = op->next;
        op_free(op);
    }
    if (!i->ops)
        i->ops_last = &i->ops;
}

int disk_sim_sync_now(struct disk_file *f, uint64_t order)
{
    if (is_stale(f))
        return -EBADF;
    struct disk *d = f->disk;
    int r = d->is_looking ? 0 : begin_op(d);
    if (r < 0 || d->is_looking)
        return r;
    if (d->skip_syncs > 0)
        d->skip_syncs--;
    else
        inode_sync(f->ino, order);
    return 0;
}

int disk_set_modified(struct disk_file *f, int64_t ms)
{
    if (is_stale(f) || !f->is_writable)
        return -EBADF;
    f->ino->modified_ms = (uint64_t)(ms - CLOCK_SIM_WALL_BEGIN_MS);
    return 0;
}

int disk_sync(struct disk_file *f)
{
    return disk_sim_sync_now(f, f->disk->order);
}

int disk_stat(struct disk *d, const char *path, struct disk_stat *ret_stat)
{
    struct inode *i = lookup(d, path, strlen(path));
    if (!i)
        return -ENOENT;
    *ret_stat = (struct disk_stat){
        .is_dir = i->is_dir,
        .size = i->visible.len,
        .modified_ms = CLOCK_SIM_WALL_BEGIN_MS + (int64_t)i->modified_ms,
        .id = i->id,
        .changed = (int64_t)i->changed,
    };
    return 0;
}

int disk_rename(struct disk *d, const char *from, const char *to)
{
    const char *from_name, *to_name;
    struct inode *from_dir = parent_of(d, from, &from_name);
    struct inode *to_dir = parent_of(d, to, &to_name);
    struct inode *i = lookup(d, from, strlen(from));
    if (!from_dir || !to_dir || !i)
        return -ENOENT;
    int r = begin_op(d);
    if (r < 0)
        return r;
    if (from_dir == to_dir) {
        change_names(d, from_dir, from_name, to_name, i);
    } else {
        change_names(d, to_dir, NULL, to_name, i);
        change_names(d, from_dir, from_name, NULL, NULL);
    }
    return 0;
}

int disk_unlink(struct disk *d, const char *path)
{
    const char *name;
    struct inode *dir = parent_of(d, path, &name);
    struct inode *i = lookup(d, path, strlen(path));
    if (!dir || !i)
        return -ENOENT;
    if (i->is_dir)
        return -EISDIR;
    int r = begin_op(d);
    if (r < 0)
        return r;
    d->free_bytes += i->visible.len;
    change_names(d, dir, name, NULL, NULL);
    return 0;
}

int disk_mkdir(struct disk *d, const char *path)
{
    const char *name;
    struct inode *dir = parent_of(d, path, &name);
    if (lookup(d, path, strlen(path)))
        return -EEXIST;
    if (!dir)
        return -ENOENT;
    int r = begin_op(d);
    if (r < 0)
        return r;
    change_names(d, dir, NULL, name, inode_new(d, true));
    return 0;
}

int disk_rmdir(struct disk *d, const char *path)
{
    const char *name;
    struct inode *dir = parent_of(d, path, &name);
    struct inode *i = lookup(d, path, strlen(path));
    if (!dir || !i)
        return -ENOENT;
    if (!i->is_dir)
        return -ENOTDIR;
    if (map_count(i->entries) > 0)
        return -ENOTEMPTY;
    int r = begin_op(d);
    if (r < 0)
        return r;
    change_names(d, dir, name, NULL, NULL);
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int disk_list(struct disk *d, const char *path, struct arena *a, char ***ret_names, size_t *ret_n)
{
    struct inode *i = lookup(d, path, strlen(path));
    if (!i)
        return -ENOENT;
    if (!i->is_dir)
        return -ENOTDIR;
    size_t n = 0;
    char **names = arena_array(a, map_count(i->entries) + 1, sizeof *names);
    struct bytes key;
    for (size_t it = 0; map_next(i->entries, &it, &key, NULL);)
        names[n++] = arena_printf(a, "%.*s", (int)key.len, (const char *)key.ptr);
    qsort(names, n, sizeof *names, compare_names);
    *ret_names = names;
    *ret_n = n;
    return 0;
}

int disk_space(struct disk *d, const char *path, struct disk_space *ret_space)
{
    if (!lookup(d, path, strlen(path)))
        return -ENOENT;
    *ret_space = (struct disk_space){d->free_bytes, SIM_TOTAL_BYTES};
    return 0;
}

int disk_lock(struct disk *d, const char *path, struct disk_file **ret_lock,
              int64_t *ret_holder_pid)
{
    struct disk_file *f;
    int r = disk_open(d, path, DISK_WRITE | DISK_CREATE, &f);
    if (r < 0)
        return r;
    for (struct disk_file *o = d->files; o; o = o->next) {
        if (!o->is_lock || o->ino != f->ino || is_stale(o) || (o->is_shared && d->is_looking))
            continue;
        *ret_holder_pid = 1;
        disk_close(f);
        return -EBUSY;
    }
    f->is_lock = true;
    f->is_shared = d->is_looking;
    *ret_lock = f;
    return 0;
}

uint64_t disk_files_max(struct disk *d)
{
    return d->files_max ? d->files_max : UINT64_MAX;
}

uint64_t disk_sim_bytes_read(const struct disk *d)
{
    return d->bytes_read;
}

void disk_sim_set_files_max(struct disk *d, uint64_t files_max)
{
    d->files_max = files_max;
}

int disk_boot_id(struct disk *d, struct uuid *ret_id)
{
    *ret_id = d->seed_id;
    memcpy(ret_id->b + 8, &d->boot, sizeof d->boot);
    return 0;
}

void disk_sim_crash_process(struct disk *d)
{
    disk_sim_syncs_forget(d);
    d->process++;
    d->n_files = 0;
}

// A write that reached the device in part: each sector it touches is old or new.
static void pending_tear(struct disk *d, struct buf *b, const struct pending *p)
{
    size_t done = 0;
    while (done < p->len) {
        size_t n = SECTOR - (size_t)((p->pos + done) % SECTOR);
        if (n > p->len - done)
            n = p->len - done;
        if (prng_chance(&d->prng, 50))
            put(b, p->data + done, n, p->pos + done);
        done += n;
    }
}

static void inode_power_cut(struct disk *d, struct inode *i)
{
    for (struct pending *p = i->pending; p; p = p->next) {
        uint64_t fate = prng_below(&d->prng, 3);
        if (fate == 0)
            pending_apply(&i->durable, p);
        else if (fate == 1 && !p->is_truncate)
            pending_tear(d, &i->durable, p);
    }
    pending_free(i);
    buf_clear(&i->visible);
    buf_add(&i->visible, i->durable.ptr, i->durable.len);
    if (!i->is_dir)
        return;
    for (struct name_op *op = i->ops; op; op = op->next)
        if (prng_chance(&d->prng, 50))
            names_apply(i->durable_entries, op);
    ops_free(i);
    map_free(i->entries);
    i->entries = map_new();
    struct bytes key;
    void *value;
    for (size_t it = 0; map_next(i->durable_entries, &it, &key, &value);)
        map_put(i->entries, key, value);
}

void disk_sim_power_cut(struct disk *d)
{
    disk_sim_crash_process(d);
    d->boot++;
    for (struct inode *i = d->inodes; i; i = i->next)
        inode_power_cut(d, i);
}

void disk_sim_fail_at(struct disk *d, uint64_t n, int error)
{
    CHECK(error < 0);
    d->fail_at = d->ops + n;
    d->fail_error = error;
}

void disk_sim_heal(struct disk *d)
{
    d->fail_at = UINT64_MAX;
}

uint64_t disk_sim_ops(const struct disk *d)
{
    return d->ops;
}

void disk_sim_set_free(struct disk *d, uint64_t free_bytes)
{
    d->free_bytes = free_bytes;
}

void disk_sim_set_read_only(struct disk *d, bool read_only)
{
    d->is_read_only = read_only;
}

void disk_sim_skip_syncs(struct disk *d, uint32_t n)
{
    d->skip_syncs = n;
}

int disk_sim_flip_bit(struct disk *d, const char *path, uint64_t pos, unsigned bit)
{
    struct inode *i = lookup(d, path, strlen(path));
    if (!i || i->is_dir)
        return -ENOENT;
    if (pos >= i->visible.len)
        return -ERANGE;
    i->changed = ++d->order; // as if somebody had written it
    i->visible.ptr[pos] ^= (uint8_t)(1u << (bit % 8));
    if (pos < i->durable.len)
        i->durable.ptr[pos] ^= (uint8_t)(1u << (bit % 8));
    return 0;
}

void disk_sim_bad_reads(struct disk *d, const char *path)
{
    free(d->bad_reads);
    d->bad_reads = path ? strdup(path) : NULL;
}

void disk_sim_set_sync_ms(struct disk *d, uint32_t min_ms, uint32_t max_ms)
{
    CHECK(min_ms <= max_ms);
    d->sync_min_ms = min_ms;
    d->sync_max_ms = max_ms;
}

void disk_sim_set_time(struct disk *d, uint64_t now_ms)
{
    d->now_ms = now_ms;
}
