#pragma once
// One segment of a log: NNN.log and its two indexes, in Kafka's format. Private to src/store.
//
// While a segment is written its indexes are in memory; the files are written when it is sealed
// and at a clean stop. A sealed segment is opened, and its indexes loaded, when it is read. The
// file is closed again when others need to be opened (files.h).

#include "base/buf.h"
#include "base/list.h"
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

// How much of an index stands in its file, and what it should be.
struct index_saved {
    size_t n;     // entries
    uint32_t crc; // of their bytes
};

// What stands in a segment's first `bytes`, and in its index files for them.
struct segment_state {
    int64_t base, end;
    uint64_t bytes;
    uint32_t since_index;
    int64_t first_ms, greatest_ms, greatest_offset;
    struct index_saved offsets, times;
};

// Where in a compacted segment how many records came before; one at least every so many bytes.
#define KEPT_MARK_BYTES (64u << 10)
struct kept_mark {
    int64_t offset; // of a batch
    uint64_t pos;
    int64_t records; // before it
};

struct segment {
    struct disk *disk;            // borrowed
    const char *dir;              // borrowed from the log
    const char *suffix;           // of its files, borrowed; NULL: none
    int64_t base;                 // first offset it may hold
    int64_t end;                  // last offset it holds + 1; base when empty
    uint64_t size;                // bytes in .log
    struct files *files;          // borrowed: counts what is open; may be NULL
    struct list idle;             // in files->idle: may be closed
    struct disk_file *file;       // NULL: not open
    bool keeps_indexes;           // those in memory are the only ones
    struct offset_entry *offsets; // owned; valid while file is open or keeps_indexes
    size_t n_offsets, cap_offsets;
    struct time_entry *times;
    size_t n_times, cap_times;
    struct index_saved offsets_saved, times_saved;
    uint32_t bytes_since_index;
    int64_t max_timestamp_ms;     // -1: none
    int64_t max_timestamp_offset; // last offset of its batch
    int64_t first_timestamp_ms;   // of the first batch, for rolling by time; -1: none
    struct kept_mark *marks;      // owned; NULL: not counted yet
    size_t n_marks;
    int64_t created_ms;  // made or opened
    int64_t modified_ms; // last written
    bool was_rebuilt;    // its indexes were not what was written
    bool is_loaded;      // end and timestamps are known
    bool is_unread;      // of the active one: what was saved of its indexes is not in memory yet
    uint64_t used;       // for closing the one not used longest
};

struct files;
// files may be NULL: then nobody closes what is open.
struct segment *segment_new(struct disk *d, struct files *files, const char *dir, int64_t base,
                            int64_t now_ms);
void segment_free(struct segment *s); // closes; NULL is fine

#define SEGMENT_PATH_BYTES 4096
void segment_path(const struct segment *s, const char *suffix, char ret_path[SEGMENT_PATH_BYTES]);

// Makes the .log and opens it for writing.
MUST_USE int segment_create(struct segment *s);
// Opens it for reading (sealed) or writing, with its indexes; those that are missing or do not fit
// are made anew by reading the batches' headers.
MUST_USE int segment_open(struct segment *s, bool writable, int32_t index_interval_bytes);
// What is_unread says is missing; where the files do not fit, it is made anew. -EBADMSG: and cannot
// be. Where it fails all stays as it was.
MUST_USE int segment_read_indexes(struct segment *s, int32_t index_interval_bytes);
// Opens the file for writing and nothing else: the caller reads or has the indexes.
MUST_USE int segment_open_file(struct segment *s, bool writable);
void segment_shut(struct segment *s);       // drops handle and indexes
void segment_close_file(struct segment *s); // as far as it can be opened again at no loss

// Accounts for a batch that was just written at the end.
void segment_add(struct segment *s, const struct batch_header *h, int32_t index_interval_bytes);
// Forgets what the batches said, before they are read again.
void segment_forget_indexes(struct segment *s);
// Reads all headers.
MUST_USE int segment_rebuild(struct segment *s, int32_t index_interval_bytes);
MUST_USE int segment_unlink(struct segment *s);

// segment_index.c. Nothing here is durable; what is read back is what was written, or passed over.
void segment_add_offset(struct segment *s, uint32_t relative_offset, uint32_t position);
void segment_add_time(struct segment *s, int64_t timestamp_ms, uint32_t relative_offset);
// Adds to the files of the segment that is being written what they lack.
MUST_USE int segment_save_indexes(struct segment *s);
// The last of them, with BASE.state beside them. The segment is written no more.
MUST_USE int segment_seal_indexes(struct segment *s);
bool segment_load_indexes(struct segment *s); // of a sealed segment; false: rebuild them
void segment_state_text(const struct segment *s, struct buf *ret_text);
bool segment_state_parse(const char *text, struct segment_state *ret);
// The segment is as it was at that state, its first bytes; false when the files do not fit.
bool segment_use_state(struct segment *s, const struct segment_state *state);
struct segment_state segment_state_of(const struct segment *s); // as it was saved last

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
