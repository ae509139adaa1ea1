#pragma once
// The disk seam. Everything that touches a file goes through here, so that the simulator can lose,
// tear and damage it (disk_sim.c). Paths are as the caller gives them; nothing here keeps them.
// Calls return 0 or -errno. A handle belongs to one thread; only the pool runs elsewhere, and any
// thread may give back a reference.

#include "base/arena.h"
#include "base/bytes.h"
#include "base/check.h"

#include <sys/uio.h>

struct disk;      // opaque
struct disk_file; // opaque, counted: an open file or directory

enum {
    DISK_READ = 0,
    DISK_WRITE = 1,  // read and write
    DISK_CREATE = 2, // with DISK_WRITE: make it when it is not there
    DISK_NEW = 4,    // with DISK_WRITE: -EEXIST when it is there
    DISK_DIR = 8,    // a directory, to sync it
};

// Files one sync can cover: a segment, two that were sealed before it with their indexes, and what
// a new log consists of beside them.
#define DISK_SYNC_FILES_MAX 10
// Pieces of one disk_pwritev().
#define DISK_IOV_MAX 256

struct disk_stat {
    bool is_dir;
    uint64_t size;
    int64_t modified_ms; // last written, since 1970
    // What tells that it is no longer the same, or as it was. Names: of a directory.
    uint64_t id;     // what has this name now, as long as it is there; not 0
    int64_t changed; // when its bytes or names were last, in ns, by the file system's clock, which
                     // may be coarse; nobody can set it
};

struct disk_space {
    uint64_t free_bytes; // for us, not for root
    uint64_t total_bytes;
};

struct disk_done {
    uint64_t cookie;
    int error; // 0 or -errno; an error means the data may be gone: stop loudly
};

// The sync pool starts with the first disk_sync_start(). In the simulator this is a fresh, empty
// disk seeded with 1; simulations use disk_sim_new().
MUST_USE int disk_new(struct disk **ret_disk);
void disk_free(struct disk *d); // waits for running syncs; NULL is fine
// From here on it only reads, for one who looks at a directory that is not his: what would change
// anything is -EROFS, a file asked for with DISK_WRITE is opened for reading, syncs have nothing to
// do, and disk_lock() shares the lock with others that read.
void disk_make_read_only(struct disk *d);
bool disk_is_read_only(const struct disk *d);

MUST_USE int disk_open(struct disk *d, const char *path, unsigned flags,
                       struct disk_file **ret_file);
struct disk_file *disk_file_ref(struct disk_file *f); // one more owner
void disk_close(struct disk_file *f);                 // one owner less; NULL is fine
// The descriptor for sendfile(); -1 in the simulator, which uses disk_pread().
int disk_file_fd(const struct disk_file *f);

// Reads up to len bytes; *ret_len is less only at the end of the file.
MUST_USE int disk_pread(struct disk_file *f, void *data, size_t len, uint64_t pos, size_t *ret_len);
// Reads exactly len bytes; -ENODATA when the file ends before.
MUST_USE int disk_pread_all(struct disk_file *f, void *data, size_t len, uint64_t pos);
// Whether these bytes can be read without waiting for the device, so far as a few looks at them
// tell. They may be gone a moment later. True where the system cannot say.
bool disk_is_cached(struct disk_file *f, uint64_t pos, uint64_t len);
// Writes everything or fails; what a failed call wrote in part is the caller's to cut.
MUST_USE int disk_pwrite(struct disk_file *f, const void *data, size_t len, uint64_t pos);
MUST_USE int disk_pwritev(struct disk_file *f, const struct iovec *iov, int n, uint64_t pos);
MUST_USE int disk_truncate(struct disk_file *f, uint64_t size);
// Takes the space for len bytes at pos, so that writing them does not fail for want of it; the size
// stays. disk_truncate() gives back what lies behind. -ENOTSUP where the file system cannot.
MUST_USE int disk_reserve(struct disk_file *f, uint64_t pos, uint64_t len);
MUST_USE int disk_size(struct disk_file *f, uint64_t *ret_size);
// Says when it was last written: disk_stat.modified_ms.
MUST_USE int disk_set_modified(struct disk_file *f, int64_t ms);
// Blocks until the data (fdatasync), or for a directory its entries (fsync), are durable.
MUST_USE int disk_sync(struct disk_file *f);

MUST_USE int disk_stat(struct disk *d, const char *path, struct disk_stat *ret_stat);
MUST_USE int disk_rename(struct disk *d, const char *from, const char *to); // replaces `to`
MUST_USE int disk_unlink(struct disk *d, const char *path);
MUST_USE int disk_mkdir(struct disk *d, const char *path);
MUST_USE int disk_rmdir(struct disk *d, const char *path);
MUST_USE int disk_sync_dir(struct disk *d, const char *path);
// Names in the directory without . and .., in bytewise order, terminated, in the arena.
MUST_USE int disk_list(struct disk *d, const char *path, struct arena *a, char ***ret_names,
                       size_t *ret_n);
MUST_USE int disk_space(struct disk *d, const char *path, struct disk_space *ret_space);
// Locks the file (made when missing) until it is closed. -EBUSY when another process holds it,
// then *ret_holder_pid says which (0 when that is not known).
MUST_USE int disk_lock(struct disk *d, const char *path, struct disk_file **ret_lock,
                       int64_t *ret_holder_pid);
// How many files this process may have open; UINT64_MAX: no bound.
uint64_t disk_files_max(struct disk *d);
// Changes with each start of the machine: unsynced data has survived while it is the same.
MUST_USE int disk_boot_id(struct disk *d, struct uuid *ret_id);

// Whole small files: read into the arena (at most max bytes, -EFBIG above it), and written so that
// after a crash the old or the new content is there (temporary name, sync, rename, sync dir).
MUST_USE int disk_read_file(struct disk *d, const char *path, size_t max, struct arena *a,
                            struct bytes *ret_content);
MUST_USE int disk_replace_file(struct disk *d, const char *dir, const char *name,
                               struct bytes content);

// Starts making n files durable, in their order, without blocking. The outcome comes back from
// disk_poll_done() with the cookie. The files are referenced until then.
void disk_sync_start(struct disk *d, struct disk_file *const *files, size_t n, uint64_t cookie);
// Runs work(arg) beside the loop, on a thread of the pool (in the simulator: within the poll that
// reports it). It may call what is declared here, with handles of its own, and touches nothing that
// the loop does. What it returns comes back from disk_poll_done() with the cookie.
void disk_work_start(struct disk *d, int (*work)(void *arg), void *arg, uint64_t cookie);
// Waits until the work with this cookie has ended or sees to it that it never begins. Its outcome
// is not reported. Fine when there is none.
void disk_work_abandon(struct disk *d, uint64_t cookie);
// Readable when disk_poll_done() has something; -1 in the simulator.
int disk_event_fd(struct disk *d);
// Takes one finished sync; false when there is none now.
bool disk_poll_done(struct disk *d, struct disk_done *ret_done);
