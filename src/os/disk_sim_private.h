#pragma once
// What the simulated disk is made of: disk_sim.c has the file tree, disk_pool_sim.c what runs
// beside the loop.

#include "base/buf.h"
#include "base/map.h"
#include "base/prng.h"
#include "os/disk_sim.h"

// A write or truncate that is visible and not yet durable.
struct pending {
    struct pending *next;
    uint64_t order;
    bool is_truncate;
    uint64_t pos; // of a truncate: the size
    size_t len;
    uint8_t data[];
};

// A file or directory. Never freed before the disk: names and handles point to it.
struct inode {
    struct inode *next; // all of the disk
    bool is_dir;
    struct buf visible, durable;
    uint64_t reserved; // bytes from the front that are taken off what is free; at least visible
    uint64_t modified_ms;
    uint64_t id, changed; // the order of the last change
    struct pending *pending, **pending_last;
    // Of a directory: name -> inode as seen, and as it is after a power cut.
    struct map *entries, *durable_entries;
    struct name_op *ops, **ops_last;
};

// A change of names that is visible and not yet durable. A rename within one directory is one.
struct name_op {
    struct name_op *next;
    uint64_t order;
    char *removed;     // owned, or NULL
    char *added;       // owned, or NULL
    struct inode *ino; // of added
};

struct disk_file {
    struct disk_file *next; // all of the disk
    struct disk *disk;
    struct inode *ino;
    uint64_t process; // a handle dies with the process that opened it
    unsigned refs;
    bool is_writable, is_lock, is_shared;
};

struct sim_sync {
    struct sim_sync *next;
    struct disk_file *files[DISK_SYNC_FILES_MAX];
    size_t n;
    int (*work)(void *arg); // instead of files
    void *arg;
    uint64_t cookie, due_ms, order;
};

struct disk {
    struct prng prng;
    struct inode *inodes, *root;
    struct disk_file *files;
    struct sim_sync *syncs, **syncs_last;
    uint64_t process, boot, order, ops;
    uint64_t fail_at; // op number; UINT64_MAX: never
    int fail_error;
    uint64_t free_bytes, now_ms;
    uint64_t files_max; // 0: no bound
    uint64_t n_files;   // open ones of this process
    uint64_t bytes_read;
    unsigned cold_percent;
    uint32_t skip_syncs, sync_min_ms, sync_max_ms;
    bool is_read_only; // everything fails that writes
    bool is_looking;   // disk_make_read_only(): nothing tries to
    char *bad_reads;   // owned path
    struct uuid seed_id;
};

// Makes durable what was done up to `order`.
MUST_USE int disk_sim_sync_now(struct disk_file *f, uint64_t order);
void disk_sim_syncs_forget(struct disk *d);
