// What a Kafka leader checks on the batch of a client, in its order (ProduceRequest,
// UnifiedLog.analyzeAndValidateRecords, LogValidator).

#include <errno.h>

#include "wire/batch.h"

// From this version of Produce on a client may send zstd.
#define PRODUCE_WITH_ZSTD 7
// The least a message of any format takes after its length; less is damage.
#define OLDEST_MESSAGE_MIN 14

const struct batch_rules batch_rules_default = {
    .produce_version = INT16_MAX,
    .max_message_bytes = 1048588,
    .segment_bytes = 1073741824,
    .before_max_ms = INT64_MAX,
    .after_max_ms = 3600000,
    .decompressed_max = DECOMPRESSED_MAX,
};

static enum kerr refuse(struct batch_refusal *ret, enum kerr error, const char *message)
{
    *ret = (struct batch_refusal){error, message, -1};
    return error;
}

static enum kerr refuse_record(struct batch_refusal *ret, enum kerr error, const char *message,
                               int32_t record)
{
    *ret = (struct batch_refusal){error, message, record};
    return error;
}

// Bytes that are no batch of ours: an older format is refused, the rest is damage.
static enum kerr judge_unreadable(struct bytes in, struct batch_refusal *ret)
{
    struct reader r = reader_of(in);
    reader_i64(&r);
    int32_t length = reader_i32(&r);
    reader_i32(&r);
    int8_t magic = reader_i8(&r);
    if (length >= OLDEST_MESSAGE_MIN && (magic == 0 || magic == 1))
        return refuse(ret, KERR_INVALID_RECORD, "Only record batches of format v2 are accepted.");
    return refuse(ret, KERR_CORRUPT_MESSAGE, "The record batch is damaged.");
}

static enum kerr take_one(struct bytes records, const struct batch_rules *rules,
                          struct batch *ret_batch, struct batch_refusal *ret)
{
    struct bytes rest = records;
    struct batch second;
    int r = batch_next(&rest, ret_batch);
    if (r < 0)
        return judge_unreadable(records, ret);
    if (r == 0)
        return refuse(ret, KERR_INVALID_RECORD, "There is no whole record batch.");
    if (batch_codec(ret_batch) == CODEC_ZSTD && rules->produce_version < PRODUCE_WITH_ZSTD)
        return refuse(ret, KERR_UNSUPPORTED_COMPRESSION_TYPE,
                      "Produce requests below version 7 may not carry zstd.");
    r = batch_next(&rest, &second);
    if (r < 0)
        return judge_unreadable(rest, ret);
    if (r > 0)
        return refuse(ret, KERR_INVALID_RECORD, "There is more than one record batch.");
    return KERR_NONE;
}

static enum kerr check_header(const struct batch *b, const struct batch_rules *rules,
                              struct batch_refusal *ret)
{
    if (b->base_offset != 0)
        return refuse(ret, KERR_INVALID_RECORD, "The base offset of a client's batch must be 0.");
    if ((int64_t)b->all.len > rules->max_message_bytes)
        return refuse(ret, KERR_MESSAGE_TOO_LARGE, "The record batch exceeds max.message.bytes.");
    if (!batch_crc_matches(b))
        return refuse(ret, KERR_CORRUPT_MESSAGE, "The record batch's CRC is wrong.");
    if ((int64_t)b->all.len > rules->segment_bytes)
        return refuse(ret, KERR_RECORD_LIST_TOO_LARGE, "The record batch exceeds segment.bytes.");
    if (batch_codec(b) >= CODEC_COUNT)
        return refuse(ret, KERR_UNSUPPORTED_COMPRESSION_TYPE, "The codec is unknown.");
    if (b->count <= 0 || (int64_t)b->last_offset_delta + 1 != b->count)
        return refuse(ret, KERR_INVALID_RECORD,
                      "The record count does not agree with the last offset delta.");
    if (batch_is_control(b))
        return refuse(ret, KERR_INVALID_RECORD, "Clients may not write control records.");
    if (b->producer_id >= 0 && b->base_sequence < 0)
        return refuse(ret, KERR_INVALID_RECORD, "A producer id needs a sequence number.");
    return KERR_NONE;
}

// Times come from outside: the distance is taken without overflow.
static bool time_is_allowed(int64_t ms, const struct batch_rules *rules)
{
    if (rules->log_append_time || ms == BATCH_NO_TIMESTAMP)
        return true;
    if (ms > rules->now_ms)
        return (uint64_t)ms - (uint64_t)rules->now_ms <= (uint64_t)rules->after_max_ms;
    return (uint64_t)rules->now_ms - (uint64_t)ms <= (uint64_t)rules->before_max_ms;
}

static enum kerr check_records(struct record_iter *it, const struct batch_rules *rules,
                               int64_t *ret_max_timestamp, struct batch_refusal *ret)
{
    struct record rec;
    int64_t max = BATCH_NO_TIMESTAMP;
    int32_t index = 0;
    int r;
    while ((r = record_next(it, &rec)) > 0) {
        if (rec.offset_delta != index)
            return refuse(ret, KERR_INVALID_RECORD, "The inner offsets must be 0, 1, 2 ...");
        if (rules->is_compacted && !rec.key.ptr)
            return refuse_record(ret, KERR_INVALID_RECORD,
                                 "A compacted topic takes no record without a key.", index);
        if (!time_is_allowed(rec.timestamp_ms, rules))
            return refuse_record(ret, KERR_INVALID_TIMESTAMP,
                                 "The timestamp is out of the range that the topic allows.", index);
        if (rec.timestamp_ms > max)
            max = rec.timestamp_ms;
        index++;
    }
    if (r < 0)
        return refuse(ret, KERR_INVALID_RECORD, "A record of the batch is malformed.");
    *ret_max_timestamp = max;
    return KERR_NONE;
}

// Its CRC is right, so that nothing is gained by sending it again: errors that a client takes as
// final. One that is too much may be split by its client.
static enum kerr judge_closed(int error, struct batch_refusal *ret)
{
    if (error == -EFBIG)
        return refuse(ret, KERR_MESSAGE_TOO_LARGE, "The record batch decompresses to too much.");
    return refuse(ret, KERR_INVALID_RECORD, "The record batch cannot be decompressed.");
}

enum kerr batch_check(struct bytes records, const struct batch_rules *rules, struct buf *scratch,
                      struct batch *ret_batch, struct batch_refusal *ret_refusal)
{
    struct batch b;
    enum kerr error = take_one(records, rules, &b, ret_refusal);
    if (!error)
        error = check_header(&b, rules, ret_refusal);
    if (error)
        return error;
    struct record_iter it;
    int e = record_iter_start_within(&it, &b, rules->decompressed_max, scratch);
    error =
        e ? judge_closed(e, ret_refusal) : check_records(&it, rules, &b.max_timestamp, ret_refusal);
    if (!error)
        *ret_batch = b;
    return error;
}
