#pragma once
// The four codecs of record batches, in the framing that Kafka's Java client writes and reads:
// gzip members, snappy in xerial blocks (raw blocks are read too: librdkafka writes them), LZ4
// frames, zstd frames.

#include "base/buf.h"
#include "base/check.h"

enum codec {
    CODEC_NONE,
    CODEC_GZIP,
    CODEC_SNAPPY,
    CODEC_LZ4,
    CODEC_ZSTD,
};
#define CODEC_COUNT 5

// Let the codec choose its level.
#define CODEC_LEVEL_DEFAULT INT32_MIN

// What one batch may grow to, and all batches of one request together: a batch is at most
// message.max.bytes (1 MB by default) on the wire, and 256 MB is what a thousandfold of the
// default's quarter is; more is an attack on memory, or on the time of the others.
#define DECOMPRESSED_MAX ((size_t)256 << 20)

const char *codec_name(int codec);                 // "none", "gzip", ...; "unknown"
bool codec_find(struct str name, enum codec *ret); // "uncompressed" is "none" too

// Appends the compressed form of `in`. 0, or -EINVAL for a level that the codec has not.
MUST_USE int compress_append(enum codec codec, int32_t level, struct bytes in, struct buf *out);
// Appends what `in` decompresses to. 0, -EBADMSG (damaged, cut, unknown codec), -EFBIG (it is
// more than `max` bytes; at most one byte more is ever written). On failure *out is as before.
MUST_USE int decompress_append(int codec, struct bytes in, size_t max, struct buf *out);
