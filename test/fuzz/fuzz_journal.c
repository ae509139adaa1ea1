// A journal whose files hold what the input says: opening it must refuse or replay, never fault,
// and what was opened once opens again the same.
//
// The first byte says which file the rest fills; checksums are made right, so that what stands
// behind them is reached.

#include "os/disk_sim.h"
#include "store/journal_file.h"
#include "store/pack.h"
#include "wire/crc32c.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int count(void *ctx, const struct journal_entry *e)
{
    uint64_t *n = ctx;
    ++*n;
    for (size_t i = 0; i < e->body.len; i++)
        *n += e->body.ptr[i];
    return 0;
}

static void put(struct disk *d, const char *path, const struct buf *b)
{
    struct disk_file *f;
    CHECK(disk_open(d, path, DISK_WRITE | DISK_CREATE, &f) == 0);
    CHECK(disk_pwrite(f, b->ptr, b->len, 0) == 0);
    disk_close(f);
}

static void mend(struct buf *b)
{
    for (size_t at = JOURNAL_HEADER_BYTES; at + JOURNAL_BATCH_HEADER_BYTES <= b->len;) {
        uint8_t *p = b->ptr + at;
        // Lengths are taken small, so that several batches fit into one input.
        uint32_t len = JOURNAL_BATCH_HEADER_BYTES + (unpack_u32(p) & 0xff);
        if (len > b->len - at)
            break;
        pack_u32(p, len);
        pack_u64(p + 8, unpack_u64(p + 8) & 0xff);
        pack_u64(p + 16, unpack_u64(p + 16) & 0xff);
        pack_u32(p + 4, crc32c(0, p + 8, len - 8));
        at += len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    bool is_snapshot = data[0] & 1;
    struct buf b = {0};
    uint8_t header[JOURNAL_HEADER_BYTES];
    journal_header_write(header, is_snapshot ? JOURNAL_SNAPSHOT_MAGIC : JOURNAL_MAGIC,
                         is_snapshot ? 4 : 1);
    if (!(data[0] & 2))
        buf_add(&b, header, sizeof header);
    buf_add(&b, data + 1, size - 1);
    if (data[0] & 4)
        mend(&b);

    struct disk *d = disk_sim_new(1);
    CHECK(disk_mkdir(d, "/j") == 0);
    put(d, is_snapshot ? "/j/00000000000000000004.snapshot" : "/j/00000000000000000001.journal",
        &b);
    if (is_snapshot) {
        buf_clear(&b);
        journal_header_write(header, JOURNAL_MAGIC, 5);
        buf_add(&b, header, sizeof header);
        put(d, "/j/00000000000000000005.journal", &b);
    }
    buf_free(&b);
    struct journal_config config = {
        .disk = d, .dir = "/j", .is_new = data[0] & 8, .clean_position = -1};
    struct journal *j;
    struct journal_report report;
    uint64_t first = 0, second = 0;
    if (journal_open(&config, count, &first, &j, &report) == 0) {
        uint64_t position = journal_position(j);
        journal_close(j);
        CHECK(journal_open(&config, count, &second, &j, &report) == 0);
        CHECK(first == second && journal_position(j) == position && report.cut_bytes == 0);
        journal_close(j);
    } else {
        CHECK(report.text[0]);
    }
    disk_free(d);
    return 0;
}
