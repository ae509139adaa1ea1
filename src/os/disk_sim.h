#pragma once
// The simulated disk: a file tree in memory that knows what is durable. A write is visible at once
// and durable after a sync of its file; a new, renamed or removed name after a sync of its
// directory. Deterministic from the seed and the order of calls.

#include "os/disk.h"

struct disk *disk_sim_new(uint64_t seed);

// The process dies: open handles and syncs under way are void (close them with
// disk_close() before, or forget them: they stay valid memory until disk_free), locks are
// released, written data survives.
void disk_sim_crash_process(struct disk *d);
// The machine dies as well: of each file's unsynced writes any subset survives, each whole, torn at
// a sector or lost; unsynced names may be lost too. The boot id changes.
void disk_sim_power_cut(struct disk *d);

// Fails the calls counted from now: the n-th write, truncate, rename, unlink, mkdir or sync (0 is
// the next) and all after it return error until disk_sim_heal().
void disk_sim_fail_at(struct disk *d, uint64_t n, int error);
void disk_sim_heal(struct disk *d);
// Calls counted so far (for crash tests at every position).
uint64_t disk_sim_ops(const struct disk *d);
void disk_sim_set_free(struct disk *d, uint64_t free_bytes); // later writes count against it
// How many files may be open; beyond it -EMFILE. 0: no bound.
void disk_sim_set_files_max(struct disk *d, uint64_t files_max);
uint64_t disk_sim_bytes_read(const struct disk *d);          // so far
void disk_sim_set_read_only(struct disk *d, bool read_only); // -EROFS for everything that writes
// The next n syncs say they are done and make nothing durable: an injected bug for tests.
void disk_sim_skip_syncs(struct disk *d, uint32_t n);
// Of what is read, so many in a hundred are not in the page cache.
void disk_sim_set_cold(struct disk *d, unsigned percent);
// Flips one bit in what is stored, also in the durable copy.
MUST_USE int disk_sim_flip_bit(struct disk *d, const char *path, uint64_t pos, unsigned bit);
// Reads of this path fail with -EIO; NULL for none.
void disk_sim_bad_reads(struct disk *d, const char *path);

// Asynchronous syncs take min..max ms (drawn from the seed), default 0: done at the next poll. The
// simulator tells the time and asks when the next one is due (UINT64_MAX: none).
void disk_sim_set_sync_ms(struct disk *d, uint32_t min_ms, uint32_t max_ms);
void disk_sim_set_time(struct disk *d, uint64_t now_ms);
uint64_t disk_sim_next_due_ms(const struct disk *d);
