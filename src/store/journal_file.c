#include "store/journal_file.h"

#include "store/pack.h"
#include "wire/crc32c.h"

#include <errno.h>
#include <string.h>

void journal_header_write(uint8_t to[JOURNAL_HEADER_BYTES], const char *magic, uint64_t position)
{
    memset(to, 0, JOURNAL_HEADER_BYTES);
    memcpy(to, magic, 8);
    pack_u32(to + 8, JOURNAL_VERSION);
    pack_u64(to + 16, position);
    pack_u32(to + 28, crc32c(0, to, 28));
}

int journal_header_read(const uint8_t from[JOURNAL_HEADER_BYTES], const char *magic,
                        uint64_t *ret_position, uint32_t *ret_version)
{
    if (memcmp(from, magic, 8) != 0 || unpack_u32(from + 28) != crc32c(0, from, 28))
        return -EBADMSG;
    *ret_version = unpack_u32(from + 8);
    if (*ret_version != JOURNAL_VERSION)
        return -EPROTONOSUPPORT;
    *ret_position = unpack_u64(from + 16);
    return 0;
}

void journal_batch_seal(uint8_t *batch, size_t len, uint64_t position, uint64_t synced,
                        uint32_t n_records)
{
    pack_u32(batch, (uint32_t)len);
    pack_u64(batch + 8, position);
    pack_u64(batch + 16, synced);
    pack_u32(batch + 24, n_records);
    pack_u32(batch + 4, crc32c(0, batch + 8, len - 8));
}

static struct journal_batch_header header_unpack(const uint8_t *p)
{
    return (struct journal_batch_header){unpack_u32(p), unpack_u64(p + 8), unpack_u64(p + 16),
                                         unpack_u32(p + 24)};
}

int journal_batch_at(struct window *w, uint64_t pos, struct journal_batch_header *ret_header,
                     const uint8_t **ret_batch)
{
    const uint8_t *p;
    *ret_batch = NULL;
    int r = window_at(w, pos, JOURNAL_BATCH_HEADER_BYTES, &p);
    if (r < 0 || !p)
        return r;
    struct journal_batch_header h = header_unpack(p);
    if (h.len < JOURNAL_BATCH_HEADER_BYTES || h.len > JOURNAL_BATCH_MAX_BYTES)
        return 0;
    r = window_at(w, pos, h.len, &p);
    if (r < 0 || !p)
        return r;
    if (unpack_u32(p + 4) != crc32c(0, p + 8, h.len - 8))
        return 0;
    *ret_header = h;
    *ret_batch = p;
    return 0;
}

int journal_batch_replay(const struct journal_batch_header *h, const uint8_t *batch,
                         uint64_t position, journal_replay_fn *replay, void *ctx,
                         uint64_t *n_records)
{
    const uint8_t *p = batch + JOURNAL_BATCH_HEADER_BYTES;
    const uint8_t *end = batch + h->len;
    for (uint32_t i = 0; i < h->n_records; i++) {
        if (end - p < JOURNAL_RECORD_HEADER_BYTES)
            return -EBADMSG;
        struct journal_entry e = {.position = position,
                                  .type = (int16_t)unpack_u16(p),
                                  .version = (int16_t)unpack_u16(p + 2)};
        size_t len = unpack_u32(p + 4);
        p += JOURNAL_RECORD_HEADER_BYTES;
        if ((size_t)(end - p) < len)
            return -EBADMSG;
        e.body = (struct bytes){p, len};
        int r = replay(ctx, &e);
        if (r != 0)
            return r;
        p += len;
        ++*n_records;
    }
    return p == end ? 0 : -EBADMSG;
}

int journal_synced_after(struct window *w, uint64_t pos, uint64_t position, uint64_t *ret_synced,
                         bool *ret_is_any)
{
    *ret_synced = 0;
    *ret_is_any = false;
    while (pos + JOURNAL_BATCH_HEADER_BYTES <= w->size) {
        const uint8_t *p;
        int r = window_at(w, pos, JOURNAL_BATCH_HEADER_BYTES, &p);
        if (r < 0)
            return r;
        struct journal_batch_header h = header_unpack(p);
        // Cheap tests first: nearly every byte position fails them.
        bool may_be = h.position > position && h.position - position < UINT32_MAX &&
                      h.synced < h.position && h.len >= JOURNAL_BATCH_HEADER_BYTES &&
                      h.len <= w->size - pos && h.len <= JOURNAL_BATCH_MAX_BYTES;
        const uint8_t *batch = NULL;
        if (may_be) {
            r = journal_batch_at(w, pos, &h, &batch);
            if (r < 0)
                return r;
        }
        *ret_is_any = *ret_is_any || batch;
        if (batch && h.synced > *ret_synced)
            *ret_synced = h.synced;
        pos += batch ? h.len : 1;
    }
    return 0;
}
