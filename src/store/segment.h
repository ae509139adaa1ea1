#pragma once
// One segment of a log: NNN.log and its two indexes, in Kafka's format. Private to src/store.
//
// While a segment is written its indexes are in memory; the files are written when it is sealed
// and at a clean stop. A sealed segment is opened, and its indexes loaded, when it is read.

#include "os/disk.h"
#include "store/batch_header.h"
#include "store/window.h"

// In the files.
#define SEGMENT_OFFSET_ENTRY 8
#define SEGMENT_TIME_ENTRY 12

struct offset_entry {
    uint32_t relative_offset; // last offset of the batch at `position`, minus the base
    uint32_t position;
};

struct time_entry {
    int64_t timestamp_ms;     // greatest so far
    uint32_t relative_offset; // last offset of the batch that holds it
};

struct segment {
    struct disk *disk;            // borrowed
    const char *dir;              // borrowed from the log
    int64_t base;                 // first offset it may hold
    int64_t end;                  // last offset it holds + 1; base when empty
    uint64_t size;                // bytes in .log
    struct disk_file *file;       // NULL: not open (sealed ones only)
    struct offset_entry *offsets; // owned; valid while file is open
    size_t n_offsets, cap_offsets;
    struct time_entry *times;
    size_t n_times, cap_times;
    uint32_t bytes_since_index;
    int64_t max_timestamp_ms;     // -1: none
    int64_t max_timestamp_offset; // last offset of its batch
    int64_t first_timestamp_ms;   // of the first batch, for rolling by time; -1: none
    int64_t created_ms;           // made or opened
    int64_t modified_ms;          // last written
    bool is_loaded;               // end and timestamps are known
    uint64_t used;                // for closing the one not used longest
};

struct segment *segment_new(struct disk *d, const char *dir, int64_t base, int64_t now_ms);
void segment_free(struct segment *s); // closes; NULL is fine

#define SEGMENT_PATH_BYTES 4096
void segment_path(const struct segment *s, const char *suffix, char ret_path[SEGMENT_PATH_BYTES]);

// Makes the .log and opens it for writing.
MUST_USE int segment_create(struct segment *s);
// Opens it for reading (sealed) or writing, with its indexes; those that are missing or do not fit
// are made anew by reading the batches' headers.
MUST_USE int segment_open(struct segment *s, bool writable, int32_t index_interval_bytes);
void segment_shut(struct segment *s); // drops handle and indexes

// Accounts for a batch that was just written at the end.
void segment_add(struct segment *s, const struct batch_header *h, int32_t index_interval_bytes);
// Forgets what the batches said, before they are read again.
void segment_forget_indexes(struct segment *s);
// Writes both index files and hands them out, to be synced and closed by the caller: an index that
// a power cut may have shortened would let retention delete too much.
MUST_USE int segment_write_indexes(struct segment *s, struct disk_file *ret_files[2]);
MUST_USE int segment_write_indexes_durably(struct segment *s);
MUST_USE int segment_unlink(struct segment *s);

// Reading headers one after the other.
struct walk {
    struct segment *segment; // borrowed, open
    uint64_t pos;            // of the batch in `header`
    struct batch_header header;
    uint8_t chunk[4096];
    uint64_t chunk_pos;
    size_t chunk_len;
};

void walk_start(struct walk *w, struct segment *s, uint64_t pos);
// The batch at w->pos: 1, 0 at the end of the segment, -EBADMSG when none can stand there.
MUST_USE int walk_read(struct walk *w);
static inline void walk_next(struct walk *w)
{
    w->pos += w->header.bytes;
}

// Finds the batch that holds offset, or the first behind it: as walk_read().
MUST_USE int segment_find(struct segment *s, int64_t offset, struct walk *w);
// Position of the last indexed batch that begins at or before pos and ends below upper_offset (k =
// 1: the one before it), for cutting; 0 when there is none.
uint64_t segment_entry_before(const struct segment *s, uint64_t pos, int64_t upper_offset,
                              size_t k);
// Where to start looking for a timestamp: before it all are smaller.
uint64_t segment_time_position(const struct segment *s, int64_t timestamp_ms);

// Whether a whole batch with a good crc stands at pos; *ret_header is then filled.
MUST_USE int segment_batch_valid(struct window *w, uint64_t pos, struct batch_header *ret_header,
                                 bool *ret_valid);
