#include "store/log_private.h"

#include "wire/crc32c.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX_BYTES 4096
#define PRODUCERS_MAX_BYTES (PRODUCERS_MAX * 200ull + 4096)
#define MARK_FILE "clean-stop"
#define POINT_FILE "recovery-point"

void log_path(const struct log *l, const char *name, char ret_path[SEGMENT_PATH_BYTES])
{
    snprintf(ret_path, SEGMENT_PATH_BYTES, "%s/%s", l->dir, name);
}

// Writes a file without making it durable. A crash may leave it missing, empty or torn.
static int write_lazily(struct log *l, const char *name, const struct buf *content)
{
    char path[SEGMENT_PATH_BYTES], temp[SEGMENT_PATH_BYTES];
    log_path(l, name, path);
    if (snprintf(temp, sizeof temp, "%s/%s.tmp", l->dir, name) >= (int)sizeof temp)
        return -ENAMETOOLONG;
    struct disk_file *f;
    int r = disk_open(l->disk, temp, DISK_WRITE | DISK_CREATE, &f);
    if (r < 0)
        return r;
    r = disk_truncate(f, 0);
    if (r == 0)
        r = disk_pwrite(f, content->ptr, content->len, 0);
    disk_close(f);
    return r < 0 ? r : disk_rename(l->disk, temp, path);
}

static void end_with_crc(struct buf *text)
{
    uint32_t crc = crc32c(0, text->ptr, text->len);
    buf_printf(text, "crc %08" PRIx32 "\n", crc);
}

static bool crc_fits(struct bytes content)
{
    const char *text = (const char *)content.ptr;
    const char *line = strstr(text, "\ncrc ");
    uint32_t crc = 0;
    return line && sscanf(line, "\ncrc %8" SCNx32, &crc) == 1 &&
           crc == crc32c(0, text, (size_t)(line + 1 - text));
}

static void recovery_point_text(const struct log *l, struct buf *text)
{
    buf_printf(text, "recovery point\n%" PRId64 "\n", l->synced);
    end_with_crc(text);
}

int log_write_recovery_point(struct log *l)
{
    struct buf text = {0};
    recovery_point_text(l, &text);
    int r = write_lazily(l, POINT_FILE, &text);
    buf_free(&text);
    if (r == 0)
        l->recovery_point = l->synced;
    return r;
}

int log_write_durable_point(struct log *l)
{
    struct buf text = {0};
    recovery_point_text(l, &text);
    int r = disk_replace_file(l->disk, l->dir, POINT_FILE, (struct bytes){text.ptr, text.len});
    buf_free(&text);
    if (r == 0)
        l->recovery_point = l->durable_point = l->synced;
    return r;
}

int64_t log_read_recovery_point(struct log *l)
{
    char path[SEGMENT_PATH_BYTES];
    log_path(l, POINT_FILE, path);
    struct arena *a = arena_new();
    struct bytes content;
    int64_t point = 0;
    int r = disk_read_file(l->disk, path, TEXT_MAX_BYTES, a, &content);
    if (r != -ENOENT &&
        (r < 0 || !crc_fits(content) ||
         sscanf((const char *)content.ptr, "recovery point\n%" SCNd64, &point) != 1))
        point = -1;
    arena_free(a);
    return point;
}

int log_write_mark(struct log *l)
{
    struct buf text = {0};
    buf_printf(&text, "clean stop\nstart %" PRId64 "\nend %" PRId64 "\nactive bytes %" PRIu64 "\n",
               l->start, l->end, log_active(l)->size);
    end_with_crc(&text);
    int r = disk_replace_file(l->disk, l->dir, MARK_FILE, (struct bytes){text.ptr, text.len});
    buf_free(&text);
    return r;
}

int log_remove_mark(struct log *l)
{
    char path[SEGMENT_PATH_BYTES];
    log_path(l, MARK_FILE, path);
    int r = disk_unlink(l->disk, path);
    return r == -ENOENT ? 0 : r;
}

int log_read_mark(struct log *l, struct log_mark *ret_mark)
{
    char path[SEGMENT_PATH_BYTES];
    log_path(l, MARK_FILE, path);
    struct arena *a = arena_new();
    struct bytes content;
    int r = disk_read_file(l->disk, path, TEXT_MAX_BYTES, a, &content);
    if (r == 0 && (!crc_fits(content) ||
                   sscanf((const char *)content.ptr,
                          "clean stop\nstart %" SCNd64 "\nend %" SCNd64 "\nactive bytes %" SCNu64,
                          &ret_mark->start, &ret_mark->end, &ret_mark->active_size) != 3))
        r = -EBADMSG;
    arena_free(a);
    return r;
}

int log_write_metadata(struct log *l, struct uuid topic_id, struct disk_file **ret_file)
{
    char path[SEGMENT_PATH_BYTES], id[23];
    struct buf text = {0};
    uuid_text(topic_id, id);
    buf_printf(&text, "version: 0\ntopic_id: %s", id);
    log_path(l, METADATA_FILE, path);
    struct disk_file *f = NULL;
    int r = disk_open(l->disk, path, DISK_WRITE | DISK_CREATE, &f);
    if (r == 0)
        r = disk_truncate(f, 0);
    if (r == 0)
        r = disk_pwrite(f, text.ptr, text.len, 0);
    buf_free(&text);
    if (r < 0)
        disk_close(f);
    else
        *ret_file = f;
    return r;
}

int log_open_metadata(struct log *l, struct disk_file **ret_file)
{
    char path[SEGMENT_PATH_BYTES];
    log_path(l, METADATA_FILE, path);
    return disk_open(l->disk, path, DISK_READ, ret_file);
}

int log_read_metadata(struct log *l, struct uuid topic_id, bool *ret_is_other, bool *ret_is_missing)
{
    char path[SEGMENT_PATH_BYTES], id[23], found[23] = "";
    uuid_text(topic_id, id);
    log_path(l, METADATA_FILE, path);
    struct arena *a = arena_new();
    struct bytes content;
    int r = disk_read_file(l->disk, path, TEXT_MAX_BYTES, a, &content);
    // Only a whole id names another topic; a torn file is one we were just making.
    bool is_whole = r == 0 &&
                    sscanf((const char *)content.ptr, "version: 0\ntopic_id: %22s", found) == 1 &&
                    strlen(found) == 22;
    *ret_is_missing = !is_whole;
    *ret_is_other = is_whole && strcmp(found, id) != 0;
    arena_free(a);
    return r == -ENOENT || r == -EFBIG ? 0 : r;
}

// Producer state: NNN.producers holds it as it was when the log ended at NNN.

static int list_producer_files(struct log *l, struct arena *a, int64_t **ret_offsets, size_t *ret_n)
{
    char **names;
    size_t n = 0, n_found = 0;
    int r = disk_list(l->disk, l->dir, a, &names, &n);
    if (r < 0)
        return r;
    int64_t *offsets = arena_array(a, n + 1, sizeof *offsets);
    for (size_t i = 0; i < n; i++) {
        char *dot = NULL;
        int64_t offset = strtoll(names[i], &dot, 10);
        if (dot == names[i] + 20 && !strcmp(dot, ".producers"))
            offsets[n_found++] = offset;
    }
    *ret_offsets = offsets;
    *ret_n = n_found;
    return 0;
}

int log_write_producers(struct log *l)
{
    char name[64], path[SEGMENT_PATH_BYTES];
    struct buf content = {0};
    snprintf(name, sizeof name, "%020" PRId64 ".producers", l->end);
    producer_state_encode(l->producers, &content);
    int r = write_lazily(l, name, &content);
    buf_free(&content);
    struct arena *a = arena_new();
    int64_t *offsets;
    size_t n = 0;
    if (r == 0)
        r = list_producer_files(l, a, &offsets, &n);
    for (size_t i = 0; r == 0 && i + LOG_PRODUCER_FILES < n; i++) {
        snprintf(name, sizeof name, "%020" PRId64 ".producers", offsets[i]);
        log_path(l, name, path);
        r = disk_unlink(l->disk, path);
    }
    arena_free(a);
    return r;
}

static int replay_producers(struct log *l, int64_t from)
{
    for (size_t i = log_segment_index(l, from); i < l->n_segments; i++) {
        struct segment *s = l->segments[i];
        int r = log_segment_ready(l, s);
        if (r < 0)
            return r;
        struct walk w;
        for (r = segment_find(s, from, &w); r > 0; r = walk_read(&w)) {
            log_update_producers(l, &w.header, w.header.max_timestamp_ms);
            walk_next(&w);
        }
        if (r < 0)
            return r;
    }
    return 0;
}

int log_load_producers(struct log *l)
{
    struct arena *a = arena_new();
    int64_t *offsets, from = l->segments[0]->base;
    size_t n = 0;
    int r = list_producer_files(l, a, &offsets, &n);
    while (r == 0 && n > 0) {
        int64_t offset = offsets[--n];
        char name[64], path[SEGMENT_PATH_BYTES];
        snprintf(name, sizeof name, "%020" PRId64 ".producers", offset);
        log_path(l, name, path);
        struct bytes content;
        if (offset > l->end) {
            // Of a tail that was cut: its offsets will be given to other records.
            r = disk_unlink(l->disk, path);
            l->dir_changed = true;
        } else if (disk_read_file(l->disk, path, PRODUCERS_MAX_BYTES, a, &content) == 0 &&
                   producer_state_decode(l->producers, content) == 0) {
            from = offset;
            break;
        }
    }
    arena_free(a);
    return r < 0 ? r : replay_producers(l, from);
}
