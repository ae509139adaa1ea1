// A partition directory whose files hold what the input says: opening it must refuse or recover,
// and what was opened is read to its end without a fault.
//
// The first byte says which file the rest fills and how the log was left.

#include "base/buf.h"
#include "os/disk_sim.h"
#include "store/batch_header.h"
#include "store/log.h"
#include "wire/crc32c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct log_mark left; // by the last clean stop

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put(struct disk *d, const char *path, const uint8_t *data, size_t len)
{
    struct disk_file *f;
    CHECK(disk_open(d, path, DISK_WRITE | DISK_CREATE, &f) == 0);
    CHECK(disk_pwrite(f, data, len, 0) == 0);
    disk_close(f);
}

// Makes magic, lengths and checksums right, so that what stands behind them is reached.
static void mend(uint8_t *p, size_t len)
{
    for (size_t at = 0; at + BATCH_HEADER_BYTES <= len;) {
        uint8_t *b = p + at;
        uint32_t bytes = BATCH_HEADER_BYTES + (unpack_u32(b + 8) & 0x7f);
        if (bytes > len - at)
            break;
        pack_u64(b, unpack_u64(b) & 0xff);
        pack_u32(b + 8, bytes - 12);
        b[16] = 2;
        pack_u32(b + 23, unpack_u32(b + 23) & 0xf);
        pack_u32(b + 17, crc32c(0, b + BATCH_CRC_START, bytes - BATCH_CRC_START));
        at += bytes;
    }
}

static void read_all(struct log *l)
{
    int64_t at = log_start(l);
    while (at < log_end(l)) {
        struct log_slice s;
        if (log_read(l, at, 100, log_end(l), true, &s) < 0 || s.len == 0)
            break;
        CHECK(s.end_offset > at);
        at = s.end_offset;
        log_slice_release(&s);
    }
    int64_t offset, time;
    if (log_find_time(l, 1000, log_end(l), &offset, &time) == 0 && offset >= 0)
        CHECK(offset >= log_start(l) && offset < log_end(l));
    if (log_find_max_time(l, &offset, &time) == 0 && offset >= 0)
        CHECK(offset < log_end(l));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"00000000000000000000.log",
                                        "00000000000000000000.log",
                                        "00000000000000000000.index",
                                        "00000000000000000000.timeindex",
                                        "00000000000000000003.producers",
                                        "leader-epoch-checkpoint",
                                        "clean-stop",
                                        "partition.metadata"};
    if (size < 2 || size > 1 << 16)
        return 0;
    struct disk *d = disk_sim_new(1);
    struct log_open args = {.disk = d,
                            .dir = "/t-0",
                            .config = log_config_default,
                            .was_clean = data[0] & 0x10,
                            .power_lost = data[0] & 0x20,
                            .reserved_upto = data[0] & 0x40 ? 100 : 0,
                            .now_ms = 1};
    struct log *l;
    struct log_report report;
    struct buf b = {0};
    buf_add(&b, data + 1, size - 1);
    unsigned which = data[0] & 7;
    if (which != 0)
        mend(b.ptr, b.len);
    if (which > 1) {
        // A good log with the other files, of which one is then replaced.
        struct log_open fresh = args;
        fresh.reserved_upto = 0;
        CHECK(log_open(&fresh, &l, &report) == 0);
        CHECK(log_close_clean(l, &left) == 0);
        buf_clear(&b);
        buf_add(&b, data + 1, size - 1);
    }
    struct disk_stat st;
    if (disk_stat(d, "/t-0", &st) < 0)
        CHECK(disk_mkdir(d, "/t-0") == 0);
    char path[64];
    snprintf(path, sizeof path, "/t-0/%s", names[which]);
    put(d, path, b.ptr, b.len);
    buf_free(&b);
    if (log_open(&args, &l, &report) == 0) {
        read_all(l);
        int64_t end = log_end(l);
        CHECK(log_close_clean(l, &left) == 0);
        args.was_clean = true;
        args.mark = &left;
        args.power_lost = false;
        if (log_open(&args, &l, &report) != 0) {
            fprintf(stderr, "a log closed cleanly does not open: %s\n", report.text);
            abort();
        }
        CHECK(log_end(l) == end);
        read_all(l);
        log_close(l);
    } else {
        CHECK(report.text[0]);
    }
    disk_free(d);
    return 0;
}
