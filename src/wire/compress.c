#include "wire/compress.h"

#include <errno.h>
#include <lz4frame.h>
#include <snappy-c.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "wire/reader.h"
#include "wire/writer.h"

// Output is grown in steps that double from here.
#define FIRST_STEP ((size_t)65536)
// The Java client's block; a reader allocates one at a time.
#define XERIAL_BLOCK ((size_t)32768)
// A snappy block cannot say much more than "64 bytes again" in three bytes. A length beyond this
// ratio is a lie, found out before memory is taken for it.
#define SNAPPY_RATIO_MAX ((size_t)64)

#define GZIP_WINDOW (MAX_WBITS + 16) // + 16: with the gzip wrapper, and no other

static const uint8_t xerial_header[16] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0,
                                          0,    0,   0,   1,   0,   0,   0,   1};

static const char *const names[CODEC_COUNT] = {"none", "gzip", "snappy", "lz4", "zstd"};

const char *codec_name(int codec)
{
    return codec >= 0 && codec < CODEC_COUNT ? names[codec] : "unknown";
}

bool codec_find(struct str name, enum codec *ret)
{
    if (str_eq_c(name, "uncompressed"))
        name = STR("none");
    for (int i = 0; i < CODEC_COUNT; i++)
        if (str_eq_c(name, names[i])) {
            *ret = (enum codec)i;
            return true;
        }
    return false;
}

// ---- compressing

static int gzip_compress(int32_t level, struct bytes in, struct buf *out)
{
    int chosen = level == CODEC_LEVEL_DEFAULT ? Z_DEFAULT_COMPRESSION : level;
    z_stream z = {0};
    if (deflateInit2(&z, chosen, Z_DEFLATED, GZIP_WINDOW, MAX_MEM_LEVEL, Z_DEFAULT_STRATEGY) !=
        Z_OK)
        return -EINVAL;
    size_t room = deflateBound(&z, in.len);
    CHECK(in.len <= UINT32_MAX && room <= UINT32_MAX);
    z.next_out = buf_extend(out, room);
    z.avail_out = (uInt)room;
    z.next_in = (z_const Bytef *)(uintptr_t)in.ptr;
    z.avail_in = (uInt)in.len;
    CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
    out->len -= z.avail_out;
    deflateEnd(&z);
    return 0;
}

static int snappy_pack(struct bytes in, struct buf *out)
{
    writer_bytes(out, xerial_header, sizeof xerial_header);
    for (size_t at = 0; at < in.len; at += XERIAL_BLOCK) {
        size_t len = in.len - at < XERIAL_BLOCK ? in.len - at : XERIAL_BLOCK;
        size_t size = snappy_max_compressed_length(len);
        uint8_t *p = buf_extend(out, 4 + size);
        size_t packed = size;
        CHECK(snappy_compress((const char *)in.ptr + at, len, (char *)p + 4, &packed) == SNAPPY_OK);
        uint32_t big_endian = __builtin_bswap32((uint32_t)packed);
        memcpy(p, &big_endian, sizeof big_endian);
        out->len -= size - packed;
    }
    return 0;
}

// Independent blocks: the Java client reads no others.
static int lz4_compress(int32_t level, struct bytes in, struct buf *out)
{
    LZ4F_preferences_t how = {
        .frameInfo = {.blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockIndependent},
        .compressionLevel = level == CODEC_LEVEL_DEFAULT ? 0 : level,
    };
    size_t room = LZ4F_compressFrameBound(in.len, &how);
    size_t n = LZ4F_compressFrame(buf_extend(out, room), room, in.ptr, in.len, &how);
    CHECK(!LZ4F_isError(n));
    out->len -= room - n;
    return 0;
}

static int zstd_compress(int32_t level, struct bytes in, struct buf *out)
{
    int chosen = level == CODEC_LEVEL_DEFAULT ? ZSTD_CLEVEL_DEFAULT : level;
    if (chosen < ZSTD_minCLevel() || chosen > ZSTD_maxCLevel())
        return -EINVAL;
    size_t room = ZSTD_compressBound(in.len);
    size_t n = ZSTD_compress(buf_extend(out, room), room, in.ptr, in.len, chosen);
    CHECK(!ZSTD_isError(n));
    out->len -= room - n;
    return 0;
}

int compress_append(enum codec codec, int32_t level, struct bytes in, struct buf *out)
{
    switch (codec) {
    case CODEC_NONE:
        writer_bytes(out, in.ptr, in.len);
        return 0;
    case CODEC_GZIP:
        return gzip_compress(level, in, out);
    case CODEC_SNAPPY:
        return snappy_pack(in, out);
    case CODEC_LZ4:
        return lz4_compress(level, in, out);
    case CODEC_ZSTD:
        return zstd_compress(level, in, out);
    default:
        UNREACHABLE();
    }
}

// ---- decompressing

// Where the output of a streaming codec goes: one byte more than `max` is enough to know that
// there is too much.
struct sink {
    struct buf *out;
    size_t start;
    size_t max;
};

static size_t sink_written(const struct sink *s)
{
    return s->out->len - s->start;
}

static uint8_t *sink_room(struct sink *s, size_t *ret_size)
{
    size_t written = sink_written(s);
    size_t size = written < FIRST_STEP ? FIRST_STEP : written;
    if (size > s->max + 1 - written)
        size = s->max + 1 - written;
    *ret_size = size;
    return buf_extend(s->out, size);
}

static bool sink_is_over(const struct sink *s)
{
    return sink_written(s) > s->max;
}

// Several members may follow each other, as java.util.zip reads them.
static int gzip_decompress(struct bytes in, struct sink *s)
{
    z_stream z = {0};
    CHECK(inflateInit2(&z, GZIP_WINDOW) == Z_OK && in.len <= UINT32_MAX);
    z.next_in = (z_const Bytef *)(uintptr_t)in.ptr;
    z.avail_in = (uInt)in.len;
    int r = Z_OK;
    while (r == Z_OK && !sink_is_over(s)) {
        size_t size;
        z.next_out = sink_room(s, &size);
        z.avail_out = (uInt)size;
        r = inflate(&z, Z_NO_FLUSH);
        s->out->len -= z.avail_out;
        if (r == Z_STREAM_END && z.avail_in > 0)
            r = inflateReset(&z);
    }
    inflateEnd(&z);
    return sink_is_over(s) ? -EFBIG : r == Z_STREAM_END ? 0 : -EBADMSG;
}

static int snappy_block(struct bytes in, struct sink *s)
{
    size_t len;
    if (snappy_uncompressed_length((const char *)in.ptr, in.len, &len) != SNAPPY_OK ||
        len / SNAPPY_RATIO_MAX > in.len)
        return -EBADMSG;
    if (len > s->max - sink_written(s))
        return -EFBIG;
    uint8_t *p = buf_extend(s->out, len);
    return snappy_uncompress((const char *)in.ptr, in.len, (char *)p, &len) == SNAPPY_OK ? 0
                                                                                         : -EBADMSG;
}

static int snappy_decompress(struct bytes in, struct sink *s)
{
    if (in.len < sizeof xerial_header || memcmp(in.ptr, xerial_header, 8) != 0)
        return snappy_block(in, s);
    struct reader r = reader_of(in);
    reader_take(&r, sizeof xerial_header);
    while (reader_left(&r) > 0) {
        uint32_t len = reader_u32(&r);
        const uint8_t *p = reader_take(&r, len);
        if (r.bad)
            return -EBADMSG;
        int e = snappy_block((struct bytes){p, len}, s);
        if (e)
            return e;
    }
    return 0;
}

static int lz4_decompress(struct bytes in, struct sink *s)
{
    LZ4F_dctx *d;
    CHECK(!LZ4F_isError(LZ4F_createDecompressionContext(&d, LZ4F_VERSION)));
    size_t at = 0, hint = 1;
    bool stuck = false;
    while (!sink_is_over(s) && !LZ4F_isError(hint) && !stuck && (at < in.len || hint > 0)) {
        size_t size, given = in.len - at;
        uint8_t *p = sink_room(s, &size);
        size_t made = size;
        hint = LZ4F_decompress(d, p, &made, in.ptr + at, &given, NULL);
        if (LZ4F_isError(hint))
            made = 0;
        s->out->len -= size - made;
        at += given;
        stuck = given == 0 && made == 0; // asks for bytes that are not there
    }
    LZ4F_freeDecompressionContext(d);
    return sink_is_over(s) ? -EFBIG : hint == 0 ? 0 : -EBADMSG;
}

static int zstd_decompress(struct bytes in, struct sink *s)
{
    ZSTD_DCtx *d = ZSTD_createDCtx();
    CHECK(d);
    ZSTD_inBuffer from = {in.ptr, in.len, 0};
    size_t hint = 1;
    bool stuck = false;
    while (!sink_is_over(s) && !ZSTD_isError(hint) && !stuck &&
           (from.pos < from.size || hint > 0)) {
        size_t size, before = from.pos;
        uint8_t *p = sink_room(s, &size);
        ZSTD_outBuffer to = {p, size, 0};
        hint = ZSTD_decompressStream(d, &to, &from);
        s->out->len -= size - to.pos;
        stuck = from.pos == before && to.pos == 0;
    }
    ZSTD_freeDCtx(d);
    return sink_is_over(s) ? -EFBIG : hint == 0 ? 0 : -EBADMSG;
}

int decompress_append(int codec, struct bytes in, size_t max, struct buf *out)
{
    struct sink s = {out, out->len, max};
    int e;
    CHECK(max < SIZE_MAX);
    switch (codec) {
    case CODEC_NONE:
        if (in.len > max)
            return -EFBIG;
        writer_bytes(out, in.ptr, in.len);
        return 0;
    case CODEC_GZIP:
        e = gzip_decompress(in, &s);
        break;
    case CODEC_SNAPPY:
        e = snappy_decompress(in, &s);
        break;
    case CODEC_LZ4:
        e = lz4_decompress(in, &s);
        break;
    case CODEC_ZSTD:
        e = zstd_decompress(in, &s);
        break;
    default:
        return -EBADMSG;
    }
    if (e)
        out->len = s.start;
    return e;
}
