#pragma once
// Record batches of format v2: reading, checking what a client sends, changing the header,
// building. Nothing here trusts a length that came from outside.

#include "base/buf.h"
#include "base/check.h"
#include "schema.h"
#include "wire/compress.h"
#include "wire/reader.h"

#define BATCH_HEADER_SIZE ((size_t)61)
#define BATCH_OVERHEAD ((size_t)12) // base offset and length, which the length does not count
#define BATCH_MAGIC 2
#define BATCH_NO_TIMESTAMP (-1)

enum batch_attribute {
    BATCH_CODEC_MASK = 0x07,
    BATCH_LOG_APPEND_TIME = 0x08,
    BATCH_TRANSACTIONAL = 0x10,
    BATCH_CONTROL = 0x20,
    BATCH_DELETE_HORIZON = 0x40,
};

// The header of one batch and where its bytes are. A view: valid as long as the bytes.
struct batch {
    struct bytes all; // the whole batch, header included
    int64_t base_offset;
    int32_t leader_epoch;
    uint32_t crc;
    int16_t attributes;
    int32_t last_offset_delta;
    int64_t base_timestamp;
    int64_t max_timestamp;
    int64_t producer_id; // -1: none
    int16_t producer_epoch;
    int32_t base_sequence;
    int32_t count;
};

static inline int64_t batch_last_offset(const struct batch *b)
{
    return b->base_offset + b->last_offset_delta;
}

static inline int batch_codec(const struct batch *b)
{
    return b->attributes & BATCH_CODEC_MASK;
}

static inline bool batch_is_transactional(const struct batch *b)
{
    return b->attributes & BATCH_TRANSACTIONAL;
}

static inline bool batch_is_control(const struct batch *b)
{
    return b->attributes & BATCH_CONTROL;
}

// Reads the batch at the start of `in`. 0; -ENODATA when `in` ends before the batch does (a Fetch
// response may be cut, a file torn); -EBADMSG when this is no v2 batch. The CRC is not looked at.
MUST_USE int batch_read(struct bytes in, struct batch *ret);
// Takes the next batch off *rest: 1, or 0 at the end, where a cut batch is left in *rest, or
// -EBADMSG. for (struct bytes rest = in; (r = batch_next(&rest, &b)) > 0;) ...
MUST_USE int batch_next(struct bytes *rest, struct batch *ret);
bool batch_crc_matches(const struct batch *b);

// These change a whole batch in memory. Base offset and leader epoch stand outside the CRC; the
// last makes a new one if anything changes.
void batch_set_base_offset(uint8_t *batch, int64_t base_offset);
void batch_set_leader_epoch(uint8_t *batch, int32_t leader_epoch);
void batch_set_max_timestamp(uint8_t *batch, size_t len, bool log_append_time, int64_t max_ms);
// False when that would change something.
bool batch_times_fit(const uint8_t *batch, bool log_append_time, int64_t max_ms);

// ---- records

struct record {
    int64_t offset;
    int64_t timestamp_ms; // the batch's where that is LogAppendTime
    int32_t offset_delta;
    struct bytes key;   // ptr NULL: null
    struct bytes value; // ptr NULL: null
    int32_t n_headers;
    struct bytes headers; // raw: record_header_next()
};

struct record_header {
    struct bytes key;
    struct bytes value; // ptr NULL: null
};

struct record_iter {
    struct reader r;
    struct batch batch;
    int32_t left;
};

// Starts on a batch. A compressed one is decompressed into *scratch, which is cleared and must
// outlive the records (start from {0}, reuse at will, buf_free in the end). 0, -EBADMSG, -EFBIG.
MUST_USE int record_iter_start(struct record_iter *it, const struct batch *b, struct buf *scratch);
// The same, -EFBIG when it decompresses to more than max bytes.
MUST_USE int record_iter_start_within(struct record_iter *it, const struct batch *b, size_t max,
                                      struct buf *scratch);
// 1 and the next record; 0 after the last; -EBADMSG (cut, lying length, bytes left over).
MUST_USE int record_next(struct record_iter *it, struct record *ret);
// Takes the next header off *rest (a copy of record.headers). False at the end: record_next has
// checked them all.
bool record_header_next(struct bytes *rest, struct record_header *ret);

// ---- what a leader checks on a client's Produce

struct batch_rules {
    int16_t produce_version;
    bool is_compacted;         // each record needs a key
    bool log_append_time;      // message.timestamp.type: the records' own times do not matter
    int64_t max_message_bytes; // max.message.bytes
    int64_t segment_bytes;     // segment.bytes
    int64_t now_ms;            // wall clock
    int64_t before_max_ms;     // message.timestamp.before.max.ms
    int64_t after_max_ms;      // message.timestamp.after.max.ms
    size_t decompressed_max;   // bytes that the batch may decompress to
};
// Kafka's defaults: 1 MB, 1 GB, no bound before, an hour after; and DECOMPRESSED_MAX.
extern const struct batch_rules batch_rules_default;

struct batch_refusal {
    enum kerr error;
    const char *message; // one constant sentence
    int32_t record;      // which record of the batch (record_errors); -1: the batch as a whole
};

// Checks the records field of one partition as a Kafka leader does: exactly one whole v2 batch,
// its size, CRC, counts, sequence, and each record's shape, order, key and time, compressed or
// not. KERR_NONE and the batch, or the error with *ret_refusal filled. *scratch as in
// record_iter_start(). ret_batch->max_timestamp is that of the records: where the header says
// another (batch_times_fit()), the caller does batch_set_max_timestamp() before storing it.
// Where Kafka rebuilds a batch whose inner offsets are not 0..n-1, tally refuses it.
enum kerr batch_check(struct bytes records, const struct batch_rules *rules, struct buf *scratch,
                      struct batch *ret_batch, struct batch_refusal *ret_refusal);

// ---- building

struct batch_options {
    enum codec codec;
    int32_t codec_level; // CODEC_LEVEL_DEFAULT
    int16_t attributes;  // without the codec: transactional, control, LogAppendTime
    int32_t leader_epoch;
    int64_t base_offset;
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_sequence;
};
// No codec, no producer id, offset 0.
extern const struct batch_options batch_options_default;

struct batch_builder {
    struct batch_options options;
    struct buf records; // owned
    int32_t count;
    int64_t base_timestamp;
    int64_t max_timestamp;
};

void batch_builder_start(struct batch_builder *b, const struct batch_options *o); // reusable
void batch_builder_free(struct batch_builder *b);
// Adds one record behind the others. headers may be NULL when n_headers is 0.
void batch_builder_add(struct batch_builder *b, int64_t timestamp_ms, struct bytes key,
                       struct bytes value, const struct record_header *headers, int n_headers);
size_t batch_builder_size(const struct batch_builder *b); // uncompressed, header included
// Appends the finished batch to *out (nothing when no record was added) and starts anew.
// 0, or -EINVAL for a codec level that there is not.
MUST_USE int batch_builder_finish(struct batch_builder *b, struct buf *out);

// The one-record control batch that ends a transaction.
void batch_append_end_marker(struct buf *out, bool is_commit, int64_t producer_id,
                             int16_t producer_epoch, int32_t coordinator_epoch, int64_t now_ms);
