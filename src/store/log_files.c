#include "store/log_private.h"

#include "wire/crc32c.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METADATA_MAX_BYTES 4096
#define TOPIC_ID_CHARS 22
#define NEARLY_CHARS 4
#define PRODUCERS_MAX_BYTES (PRODUCERS_MAX * 200ull + 4096)

void log_path(const struct log *l, const char *name, char ret_path[SEGMENT_PATH_BYTES])
{
    snprintf(ret_path, SEGMENT_PATH_BYTES, "%s/%s", l->dir, name);
}

int log_write_lazily(struct log *l, const char *name, const struct buf *content)
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

void text_end_with_crc(struct buf *text)
{
    uint32_t crc = crc32c(0, text->ptr, text->len);
    buf_printf(text, "crc %08" PRIx32 "\n", crc);
}

bool text_crc_fits(struct bytes content)
{
    const char *text = (const char *)content.ptr;
    const char *line = strstr(text, "\ncrc ");
    uint32_t crc = 0;
    return line && sscanf(line, "\ncrc %8" SCNx32, &crc) == 1 &&
           crc == crc32c(0, text, (size_t)(line + 1 - text));
}

int log_write_metadata(struct log *l, struct disk_file **ret_file)
{
    char path[SEGMENT_PATH_BYTES], id[23];
    struct buf text = {0};
    uuid_text(l->topic_id, id);
    buf_printf(&text, "version: 0\ntopic_id: %s", id);
    log_path(l, METADATA_FILE, path);
    struct disk_file *f = NULL;
    int r = disk_open(l->disk, path, DISK_WRITE | DISK_CREATE, &f);
    // In this order what stands there is never less than whole, when it was.
    if (r == 0)
        r = disk_pwrite(f, text.ptr, text.len, 0);
    if (r == 0)
        r = disk_truncate(f, text.len);
    buf_free(&text);
    if (r == 0 && disk_stat(l->disk, path, &l->metadata) < 0)
        l->metadata = (struct disk_stat){0};
    if (r < 0)
        disk_close(f);
    else
        *ret_file = f;
    return r;
}

// Two topics have hardly a character of their ids in common: one that is nearly ours was ours, and
// a bit of it flipped.
static bool is_nearly(const char *found, const char *id)
{
    int n_others = 0;
    for (size_t i = 0; i < TOPIC_ID_CHARS; i++)
        n_others += found[i] != id[i];
    return n_others <= NEARLY_CHARS;
}

int log_read_metadata(struct log *l, bool *ret_is_other, bool *ret_is_missing)
{
    char path[SEGMENT_PATH_BYTES], id[TOPIC_ID_CHARS + 1], found[TOPIC_ID_CHARS + 1] = "";
    uuid_text(l->topic_id, id);
    log_path(l, METADATA_FILE, path);
    struct arena *a = arena_new();
    struct bytes content;
    struct disk_stat before = {0};
    int r = disk_stat(l->disk, path, &before);
    if (r == 0)
        r = disk_read_file(l->disk, path, METADATA_MAX_BYTES, a, &content);
    // Only a whole id names another topic; a torn file is one we were just making.
    bool is_whole = r == 0 &&
                    sscanf((const char *)content.ptr, "version: 0\ntopic_id: %22s", found) == 1 &&
                    strlen(found) == TOPIC_ID_CHARS;
    bool is_same = is_whole && strcmp(found, id) == 0;
    *ret_is_other = is_whole && !is_nearly(found, id);
    *ret_is_missing = !is_same && !*ret_is_other;
    if (is_same)
        l->metadata = before;
    arena_free(a);
    return r == -ENOENT || r == -EFBIG ? 0 : r;
}

// Producer state: NNN.producers holds it as it was when the log ended at NNN.

int log_list(const struct log *l, struct arena *a, struct log_names *ret_names)
{
    return disk_list(l->disk, l->dir, a, &ret_names->at, &ret_names->n);
}

static int compare_name(const void *name, const void *at)
{
    return strcmp(name, *(char *const *)at);
}

bool log_names_have(const struct log_names *names, const char *name)
{
    return names->n && bsearch(name, names->at, names->n, sizeof *names->at, compare_name);
}

// In their order.
static int64_t *producer_files(const struct log_names *names, struct arena *a, size_t *ret_n)
{
    size_t n_found = 0;
    int64_t *offsets = arena_array(a, names->n + 1, sizeof *offsets);
    for (size_t i = 0; i < names->n; i++) {
        char *dot = NULL;
        int64_t offset = strtoll(names->at[i], &dot, 10);
        if (dot == names->at[i] + 20 && !strcmp(dot, ".producers"))
            offsets[n_found++] = offset;
    }
    *ret_n = n_found;
    return offsets;
}

int log_write_producers(struct log *l)
{
    char name[64], path[SEGMENT_PATH_BYTES];
    struct buf content = {0};
    snprintf(name, sizeof name, "%020" PRId64 ".producers", l->end);
    producer_state_encode(l->producers, &content);
    int r = log_write_lazily(l, name, &content);
    buf_free(&content);
    struct arena *a = arena_new();
    struct log_names names = {0};
    if (r == 0)
        r = log_list(l, a, &names);
    size_t n;
    int64_t *offsets = producer_files(&names, a, &n);
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

int log_load_producers(struct log *l, const struct log_names *names)
{
    struct arena *a = arena_new();
    int64_t from = l->segments[0]->base;
    size_t n;
    int64_t *offsets = producer_files(names, a, &n);
    int r = 0;
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
        } else if (offset < l->segments[0]->base) {
            break; // records that came after it have left the log: it would call what follows wrong
        } else if (disk_read_file(l->disk, path, PRODUCERS_MAX_BYTES, a, &content) == 0 &&
                   producer_state_decode(l->producers, content) == 0) {
            from = offset;
            break;
        }
    }
    arena_free(a);
    return r < 0 || from >= l->end ? r : replay_producers(l, from);
}
