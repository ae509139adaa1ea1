#include "os/disk_sim.h"
#include "store/store.h"

#include "../lib/batches.h"
#include "../lib/key_log.h"
#include "base/buf.h"
#include "base/prng.h"
#include "store/log_private.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DIR "/data/t-0"
#define TOPIC STR("t")

// A data directory with one log, started and stopped as the broker does it.
struct world {
    struct disk *d;
    struct store *s;
    struct store_start start;
    struct log *l;
    struct log_open args;
    struct log_report report;
    uint64_t read_bytes; // of the last log_open()
};

static void store_up(struct world *w)
{
    char why[256];
    struct store_config config = {
        .disk = w->d, .dir = "/data", .create = true, .fresh_cluster_id = {{1}}, .node_id = 1};
    assert_int_equal(store_open(&config, &w->s, &w->start, why, sizeof why), 0);
    if (w->start.is_new)
        assert_int_equal(disk_mkdir(w->d, store_journal_dir(w->s)), 0);
}

static int try_open(struct world *w)
{
    uint64_t before = disk_sim_bytes_read(w->d);
    int r = log_open(&w->args, &w->l, &w->report);
    w->read_bytes = disk_sim_bytes_read(w->d) - before;
    return r;
}

static int try_start(struct world *w)
{
    store_up(w);
    w->args.disk = w->d;
    w->args.was_clean = w->start.was_clean;
    w->args.power_lost = w->start.power_lost;
    w->args.mark = store_log_mark(w->s, TOPIC, 0);
    return try_open(w);
}

static void start(struct world *w)
{
    int r = try_start(w);
    if (r < 0)
        printf("%s\n", w->report.text);
    assert_int_equal(r, 0);
    assert_int_equal(store_ready(w->s), 0);
    log_reserved(w->l, log_end(w->l) + 1000);
    w->args.reserved_upto = log_reserve_mark(w->l);
}

static void stop(struct world *w)
{
    struct log_mark mark;
    struct buf left = {0};
    assert_int_equal(log_close_left(w->l, &mark, &left), 0);
    store_add_log_mark(w->s, TOPIC, 0, &mark, &left);
    buf_free(&left);
    assert_int_equal(store_close_clean(w->s, 1), 0);
    w->args.log_start = mark.start;
    w->l = NULL;
    w->s = NULL;
}

static void kill_it(struct world *w)
{
    disk_sim_crash_process(w->d);
    log_close(w->l);
    store_close(w->s);
    w->l = NULL;
    w->s = NULL;
}

static void world_init(struct world *w, uint64_t seed)
{
    *w = (struct world){.d = disk_sim_new(seed)};
    w->args = (struct log_open){
        .dir = DIR, .topic_id = {{7}}, .config = log_config_default, .now_ms = 1000};
    w->args.config.segment_bytes = 3000;
    w->args.config.index_interval_bytes = 300;
    w->args.config.retention_ms = -1;
    start(w);
}

static void world_free(struct world *w)
{
    log_close(w->l);
    store_close(w->s);
    disk_free(w->d);
}

static int append(struct world *w, int64_t producer, int32_t seq)
{
    struct buf b = {0};
    batches_add(&b, &(struct batch_spec){.count = 2,
                                         .value_bytes = 60,
                                         .timestamp_ms = 1000 + log_end(w->l),
                                         .has_producer = producer >= 0,
                                         .producer_id = producer,
                                         .base_sequence = seq});
    struct bytes in = {b.ptr, b.len};
    struct log_span span;
    size_t n;
    int r = log_append(w->l, &in, 1, 1000, &span, &n);
    buf_free(&b);
    return r;
}

static void fill(struct world *w, int n)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(append(w, i % 3 ? 9 + i % 3 : -1, 2 * (i / 3)), 0);
}

// All that a log knows when it was opened, and what of its indexes it finds when it wants them.
static void describe(struct log *l, struct buf *out)
{
    struct segment *s = log_active(l);
    assert_int_equal(log_segment_ready(l, s), 0);
    buf_printf(out, "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 "\n",
               l->start, l->end, l->synced, l->recovery_point, l->durable_point, l->reserve_mark);
    buf_printf(out, "checkpoint %" PRId64 " %" PRId64 " %" PRIu64 "\n", l->checkpoint.base,
               l->checkpoint.end, l->checkpoint.bytes);
    buf_printf(out, "cleaned %" PRId64 " %" PRId64 " %" PRId64 "\n", l->compaction.cleaned,
               l->compaction.gaps, l->compaction.swap_base);
    buf_printf(out, "unborn %d epochs %d:", l->is_unborn, l->has_epochs_file);
    epochs_text(&l->epochs, out);
    for (size_t i = 0; i < l->n_segments; i++)
        buf_printf(out, "segment %" PRId64 " %" PRIu64 " %" PRId64 "\n", l->segments[i]->base,
                   l->segments[i]->size, l->segments[i]->modified_ms);
    segment_state_text(s, out);
    for (size_t i = 0; i < s->n_offsets; i++)
        buf_printf(out, " %" PRIu32 ":%" PRIu32, s->offsets[i].relative_offset,
                   s->offsets[i].position);
    for (size_t i = 0; i < s->n_times; i++)
        buf_printf(out, " %" PRIu32 "@%" PRId64, s->times[i].relative_offset,
                   s->times[i].timestamp_ms);
    buf_printf(out, "\n%d%d%d %zu\n", s->is_loaded, s->keeps_indexes, s->is_unread,
               producer_state_count(l->producers));
    producer_state_encode(l->producers, out);
}

// The log as the words say it is, beside the log that was looked at.
static void same_both_ways(struct world *w)
{
    struct buf told = {0}, seen = {0};
    assert_int_equal(try_start(w), 0);
    assert_int_equal(w->read_bytes, 0);
    assert_string_equal(w->report.text, "");
    struct log_mark plain = *w->args.mark;
    const struct log_mark *mark = w->args.mark;
    describe(w->l, &told);
    log_close(w->l);
    plain.left = NULL;
    w->args.mark = &plain;
    assert_int_equal(try_open(w), 0);
    assert_true(w->read_bytes > 0);
    describe(w->l, &seen);
    if (told.len != seen.len || memcmp(told.ptr, seen.ptr, seen.len) != 0)
        fail_msg("told:\n%.*s\nseen:\n%.*s", (int)told.len, (const char *)told.ptr, (int)seen.len,
                 (const char *)seen.ptr);
    buf_free(&told);
    buf_free(&seen);
    log_close(w->l);
    w->args.mark = mark;
    assert_int_equal(try_open(w), 0);
    assert_int_equal(w->read_bytes, 0);
    assert_int_equal(store_ready(w->s), 0);
    log_reserved(w->l, log_end(w->l) + 1000);
    w->args.reserved_upto = log_reserve_mark(w->l);
}

static void reads_all(struct log *l)
{
    for (int64_t at = log_start(l); at < log_end(l);) {
        struct log_slice slice;
        assert_int_equal(log_read(l, at, 1, log_end(l), true, &slice), 0);
        assert_true(slice.len > 0 && slice.first_offset <= at && slice.end_offset > at);
        at = slice.end_offset;
        log_slice_release(&slice);
    }
    int64_t offset, time_ms;
    assert_int_equal(log_find_time(l, 1000 + log_end(l) - 1, log_end(l), &offset, &time_ms), 0);
    assert_int_equal(offset, log_end(l) - 1);
}

static void nothing_is_read_and_all_is_known(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world w;
        struct prng p;
        world_init(&w, seed);
        prng_seed(&p, seed);
        for (int round = 0; round < 4; round++) {
            int seq = (int)log_end(w.l) + 100000 * round;
            for (uint64_t n = prng_below(&p, 40); n > 0; n--, seq += 2)
                assert_int_equal(append(&w, 20 + round, seq), 0);
            if (prng_chance(&p, 30))
                log_trim(w.l, log_start(w.l) + (log_end(w.l) - log_start(w.l)) / 2);
            bool moved;
            if (prng_chance(&p, 30))
                assert_int_equal(log_retain(w.l, 1000, log_end(w.l), &moved), 0);
            if (prng_chance(&p, 20) && log_end(w.l) > 0) {
                assert_int_equal(log_epoch_begin(w.l, log_epoch(w.l) + 1), 0);
                assert_int_equal(append(&w, -1, 0), 0);
            }
            w.args.leader_epoch = log_epoch(w.l);
            if (prng_chance(&p, 30)) { // a start after a crash in between
                assert_int_equal(log_sync(w.l), 0);
                w.args.log_start = log_start(w.l);
                kill_it(&w);
                start(&w);
            }
            stop(&w);
            same_both_ways(&w);
            if (log_end(w.l) > log_start(w.l) && prng_chance(&p, 50))
                reads_all(w.l);
        }
        fill(&w, 5);
        reads_all(w.l);
        world_free(&w);
    }
}

static void compacted_logs_too(void **unused)
{
    (void)unused;
    struct world w;
    struct key_log k;
    world_init(&w, 3);
    key_log_init(&k, w.d);
    w.args.config = k.args.config;
    log_set_config(w.l, &k.args.config);
    k.l = w.l;
    for (int i = 0; i < 12; i++)
        assert_int_equal(key_log_append(&k, i % 2 ? "a=1 b=2" : "a=3 c=4 d=5"), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(key_log_roll(&k), 0);
    assert_int_equal(key_log_clean(&k, log_end(w.l)), 0);
    assert_true(log_gaps_end(w.l) > 0);
    stop(&w);
    same_both_ways(&w);
    world_free(&w);
}

// What somebody may do to the directory while no broker runs.
struct change {
    const char *name;
    void (*make)(struct world *w);
};

static void write_at(struct disk *d, const char *path, const void *data, size_t len, uint64_t pos)
{
    struct disk_file *f;
    assert_int_equal(disk_open(d, path, DISK_WRITE | DISK_CREATE, &f), 0);
    assert_int_equal(disk_pwrite(f, data, len, pos), 0);
    disk_close(f);
}

static void flip(struct world *w, const char *name, uint64_t pos)
{
    char path[100];
    snprintf(path, sizeof path, DIR "/%s", name);
    assert_int_equal(disk_sim_flip_bit(w->d, path, pos, 1), 0);
}

static const char *segment(struct world *w, bool is_active)
{
    static char path[100];
    struct arena *a = arena_new();
    char **names;
    size_t n;
    assert_int_equal(disk_list(w->d, DIR, a, &names, &n), 0);
    path[0] = 0;
    for (size_t i = 0; i < n; i++)
        if (strstr(names[i], ".log") && (is_active || !path[0]))
            snprintf(path, sizeof path, DIR "/%s", names[i]);
    arena_free(a);
    return path;
}

static void cut_one_byte(struct world *w, const char *path)
{
    struct disk_file *f;
    uint64_t size;
    assert_int_equal(disk_open(w->d, path, DISK_WRITE, &f), 0);
    assert_int_equal(disk_size(f, &size), 0);
    assert_int_equal(disk_truncate(f, size - 1), 0);
    disk_close(f);
}

static void cut_active(struct world *w)
{
    cut_one_byte(w, segment(w, true));
}

static void cut_sealed(struct world *w)
{
    cut_one_byte(w, segment(w, false));
}

static void write_within(struct world *w)
{
    write_at(w->d, segment(w, true), "x", 1, 70);
}

static void remove_sealed(struct world *w)
{
    assert_int_equal(disk_unlink(w->d, segment(w, false)), 0);
}

static void add_segment(struct world *w)
{
    write_at(w->d, DIR "/00000000000000999999.log", "x", 1, 0);
}

static void add_half_cleaned(struct world *w)
{
    write_at(w->d, DIR "/00000000000000000000.log.cleaned", "x", 1, 0);
}

static void damage_metadata(struct world *w)
{
    flip(w, METADATA_FILE, 25);
}

static void remove_metadata(struct world *w)
{
    assert_int_equal(disk_unlink(w->d, DIR "/" METADATA_FILE), 0);
}

static void another_topic(struct world *w)
{
    static const char text[] = "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAB";
    write_at(w->d, DIR "/" METADATA_FILE, text, sizeof text - 1, 0);
}

static void damage_epochs(struct world *w)
{
    flip(w, EPOCHS_FILE, 0);
}

static void damage_point(struct world *w)
{
    flip(w, POINT_FILE, 20);
}

static void add_compaction(struct world *w)
{
    write_at(w->d, DIR "/" COMPACTION_FILE, "x", 1, 0);
}

static void remove_checkpoint(struct world *w)
{
    assert_int_equal(disk_unlink(w->d, DIR "/checkpoint"), 0);
}

// As a backup is put back, or a whole directory copied: the same bytes in other files.
static void copy_dir(struct world *w)
{
    struct arena *a = arena_new();
    char **names;
    size_t n;
    assert_int_equal(disk_list(w->d, DIR, a, &names, &n), 0);
    assert_int_equal(disk_rename(w->d, DIR, "/data/away"), 0);
    assert_int_equal(disk_mkdir(w->d, DIR), 0);
    for (size_t i = 0; i < n; i++) {
        struct bytes content;
        assert_int_equal(
            disk_read_file(w->d, arena_printf(a, "/data/away/%s", names[i]), 100000, a, &content),
            0);
        write_at(w->d, arena_printf(a, DIR "/%s", names[i]), content.ptr, content.len, 0);
    }
    arena_free(a);
}

static void remove_dir(struct world *w)
{
    assert_int_equal(disk_rename(w->d, DIR, "/data/away"), 0);
}

static void other_topic_id(struct world *w)
{
    w->args.topic_id.b[3] = 99;
}

static const struct change changes[] = {
    {"the active segment is cut", cut_active},
    {"a sealed segment is cut", cut_sealed},
    {"the active segment is written to", write_within},
    {"a sealed segment is removed", remove_sealed},
    {"a segment is added", add_segment},
    {"what is left of a compaction is added", add_half_cleaned},
    {"partition.metadata is damaged", damage_metadata},
    {"partition.metadata is removed", remove_metadata},
    {"partition.metadata names another topic", another_topic},
    {"leader-epoch-checkpoint is damaged", damage_epochs},
    {"recovery-point is damaged", damage_point},
    {"compaction is added", add_compaction},
    {"checkpoint is removed", remove_checkpoint},
    {"the directory is a copy", copy_dir},
    {"the directory is gone", remove_dir},
    {"the topic is another", other_topic_id},
};

// Two segments and more, two epochs, a recovery point, producers.
static void full_world(struct world *w)
{
    world_init(w, 5);
    fill(w, 60);
    log_trim(w->l, 30);
    bool moved;
    assert_int_equal(log_retain(w->l, 1000, log_end(w->l), &moved), 0);
    assert_int_equal(log_sync(w->l), 0);
    assert_int_equal(log_epoch_begin(w->l, 1), 0);
    w->args.leader_epoch = 1;
    assert_int_equal(append(w, -1, 0), 0);
    assert_true(w->l->n_segments > 2 && w->l->durable_point > 0);
    stop(w);
    w->args.synced = w->args.reserved_upto - 1000;
}

static void what_is_not_as_it_was_left_is_looked_at(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct world told, plain;
        struct buf a = {0}, b = {0};
        full_world(&told);
        full_world(&plain);
        changes[i].make(&told);
        changes[i].make(&plain);
        int r = try_start(&told);
        store_up(&plain);
        plain.args.disk = plain.d;
        plain.args.was_clean = true;
        struct log_mark mark = *store_log_mark(plain.s, TOPIC, 0);
        mark.left = NULL;
        plain.args.mark = &mark;
        int expected = try_open(&plain);
        // The same files are read, and the same words said.
        if (r != expected || strcmp(told.report.text, plain.report.text) != 0 ||
            told.read_bytes != plain.read_bytes)
            fail_msg("%s: %d %s (%" PRIu64 " bytes read), but %d %s (%" PRIu64 ")", changes[i].name,
                     r, told.report.text, told.read_bytes, expected, plain.report.text,
                     plain.read_bytes);
        if (r == 0) {
            describe(told.l, &a);
            describe(plain.l, &b);
            assert_int_equal(a.len, b.len);
            assert_memory_equal(a.ptr, b.ptr, a.len);
        } else {
            told.l = plain.l = NULL;
        }
        buf_free(&a);
        buf_free(&b);
        world_free(&told);
        world_free(&plain);
    }
}

// A file system whose clock is coarse: what is as old as the marker may have been changed behind
// it.
static void what_is_as_new_as_the_marker_is_looked_at(void **unused)
{
    (void)unused;
    struct world w;
    full_world(&w);
    assert_int_equal(try_start(&w), 0);
    assert_int_equal(w.read_bytes, 0);
    struct log_mark mark = *w.args.mark;
    struct disk_stat st;
    assert_int_equal(disk_stat(w.d, DIR, &st), 0);
    w.args.mark = &mark;
    for (int later = 0; later < 2; later++) {
        log_close(w.l);
        mark.left_before = st.changed + later;
        assert_int_equal(try_open(&w), 0);
        assert_true(later ? w.read_bytes == 0 : w.read_bytes > 0);
    }
    world_free(&w);
}

static void after_a_power_cut_nothing_is_believed(void **unused)
{
    (void)unused;
    struct world w;
    full_world(&w);
    disk_sim_power_cut(w.d);
    store_up(&w);
    assert_true(w.start.was_clean);
    assert_non_null(store_log_mark(w.s, TOPIC, 0));
    assert_null(store_log_mark(w.s, TOPIC, 0)->left);
    world_free(&w);
}

static void text_of_another_version_or_cut_off(void **unused)
{
    (void)unused;
    struct world w;
    full_world(&w);
    assert_int_equal(try_start(&w), 0);
    int64_t end = log_end(w.l);
    struct log_mark mark = *w.args.mark;
    char *text = strdup(mark.left), *upto = strstr(text, "\ncrc");
    assert_non_null(upto);
    w.args.mark = &mark;
    mark.left = text;
    for (size_t len = (size_t)(upto - text); len > 0; len--) {
        log_close(w.l);
        text[len - 1] = 0;
        assert_int_equal(try_open(&w), 0);
        assert_int_equal(log_end(w.l), end);
        assert_true(w.read_bytes > 0);
    }
    log_close(w.l);
    free(text);
    mark.left = " left 2 something else\n";
    assert_int_equal(try_open(&w), 0);
    assert_true(w.read_bytes > 0);
    world_free(&w);
}

// Somebody puts a file there while the broker runs.
static void out_of_the_ordinary_nothing_is_told(void **unused)
{
    (void)unused;
    struct world w;
    world_init(&w, 8);
    fill(&w, 5);
    assert_int_equal(log_sync(w.l), 0);
    struct buf out = {0};
    log_left_text(w.l, &out);
    assert_int_equal(out.len, 0); // its indexes are not saved yet
    assert_int_equal(log_write_checkpoint(w.l), 0);
    w.l->has_epochs_file = true;
    write_at(w.d, DIR "/" EPOCHS_FILE, "0\n1\n0 0\n", 8, 0);
    log_left_text(w.l, &out);
    assert_true(out.len > 0);
    buf_clear(&out);
    add_segment(&w);
    log_left_text(w.l, &out);
    assert_int_equal(out.len, 0);
    buf_free(&out);
    world_free(&w);
}

// The indexes are read when they are wanted, and what is wrong with them is found then.
static void a_damaged_index_is_made_anew_when_it_is_wanted(void **unused)
{
    (void)unused;
    for (int writes_first = 0; writes_first < 2; writes_first++) {
        struct world w;
        world_init(&w, 5);
        fill(&w, 8);
        stop(&w);
        start(&w);
        assert_int_equal(w.read_bytes, 0);
        flip(&w, "00000000000000000000.index", 3);
        if (writes_first)
            assert_int_equal(append(&w, -1, 0), 0);
        else
            reads_all(w.l);
        assert_int_equal(log_take_rebuilt(w.l), 0);
        reads_all(w.l);
        fill(&w, 40);
        reads_all(w.l);
        stop(&w);
        same_both_ways(&w);
        world_free(&w);
    }
}

static void a_log_damaged_as_well_is_refused_when_it_is_wanted(void **unused)
{
    (void)unused;
    for (int of_last = 0; of_last < 2; of_last++) {
        struct world w;
        struct log_slice slice;
        world_init(&w, 5);
        fill(&w, 8);
        assert_int_equal(log_read(w.l, 14, 1000, 16, true, &slice), 0);
        uint64_t last = slice.pos;
        log_slice_release(&slice);
        stop(&w);
        start(&w);
        flip(&w, "00000000000000000000.index", 3);
        // A batch of another version, or a last one that says it has more records.
        flip(&w, "00000000000000000000.log", of_last ? last + 26 : 16);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(log_read(w.l, 0, 1000, 16, true, &slice), -EBADMSG);
            assert_int_equal(append(&w, -1, 0), -EBADMSG);
            assert_int_equal(log_end(w.l), 16);
        }
        world_free(&w);
    }
}

// A segment ends where it would have without the stop: its indexes count, read or not.
static void a_full_index_ends_the_segment(void **unused)
{
    (void)unused;
    struct world w[2];
    struct buf said[2] = {{0}, {0}};
    for (int stops = 0; stops < 2; stops++) {
        world_init(&w[stops], 5);
        w[stops].args.config.segment_bytes = 1000000;
        w[stops].args.config.segment_index_bytes = 100;
        log_set_config(w[stops].l, &w[stops].args.config);
        for (int i = 0; i < 60; i++) {
            if (stops) {
                stop(&w[1]);
                start(&w[1]);
            }
            assert_int_equal(append(&w[stops], -1, 0), 0);
        }
        for (size_t i = 0; i < w[stops].l->n_segments; i++)
            buf_printf(&said[stops], "%" PRId64 " ", w[stops].l->segments[i]->base);
        assert_true(w[stops].l->n_segments > 2);
    }
    assert_int_equal(said[0].len, said[1].len);
    assert_memory_equal(said[0].ptr, said[1].ptr, said[0].len);
    for (int i = 0; i < 2; i++) {
        buf_free(&said[i]);
        world_free(&w[i]);
    }
}

static void a_segment_sealed_unread_has_its_indexes(void **unused)
{
    (void)unused;
    struct arena *a = arena_new();
    struct bytes index[2];
    for (int stops = 0; stops < 2; stops++) {
        struct world w;
        world_init(&w, 5);
        fill(&w, 10);
        if (stops) {
            stop(&w);
            start(&w);
        }
        assert_int_equal(log_roll(w.l, 1000), 0);
        assert_int_equal(
            disk_read_file(w.d, DIR "/00000000000000000000.timeindex", 10000, a, &index[stops]), 0);
        reads_all(w.l);
        world_free(&w);
    }
    assert_int_equal(index[0].len, index[1].len);
    assert_memory_equal(index[0].ptr, index[1].ptr, index[0].len);
    arena_free(a);
}

static void want_of_files_is_no_damage(void **unused)
{
    (void)unused;
    struct world w;
    world_init(&w, 5);
    fill(&w, 8);
    stop(&w);
    start(&w);
    struct log_slice slice;
    disk_sim_set_files_max(w.d, 1);
    assert_int_equal(log_read(w.l, 0, 1000, 16, true, &slice), -EMFILE);
    assert_int_equal(append(&w, -1, 0), -EMFILE);
    disk_sim_set_files_max(w.d, 0);
    assert_int_equal(append(&w, -1, 0), 0);
    reads_all(w.l);
    assert_int_equal(log_take_rebuilt(w.l), -1);
    world_free(&w);
}

// The look at the files takes the checkpoint for an older one then, and reads the log.
static void an_epoch_without_records_is_known(void **unused)
{
    (void)unused;
    struct world w;
    world_init(&w, 5);
    fill(&w, 8);
    assert_int_equal(log_epoch_begin(w.l, 1), 0);
    w.args.leader_epoch = 1;
    stop(&w);
    start(&w);
    assert_int_equal(w.read_bytes, 0);
    assert_int_equal(log_epoch(w.l), 1);
    reads_all(w.l);
    fill(&w, 3);
    reads_all(w.l);
    assert_int_equal(log_sync(w.l), 0);
    kill_it(&w);
    start(&w);
    assert_int_equal(log_end(w.l), 22);
    reads_all(w.l);
    world_free(&w);
}

static void many_producers_stay_known(void **unused)
{
    (void)unused;
    struct world w;
    world_init(&w, 5);
    for (int i = 0; i < 400; i++) // more than go along
        assert_int_equal(append(&w, 100 + i, 0), 0);
    stop(&w);
    start(&w);
    assert_int_equal(producer_state_count(log_producers(w.l)), 400);
    assert_true(w.read_bytes > 0);
    world_free(&w);
}

// The marker is worth more than what it tells of files.
static void on_a_full_disk_the_marker_is_written_without(void **unused)
{
    (void)unused;
    struct world w;
    struct log_mark mark;
    struct buf left = {0};
    world_init(&w, 5);
    fill(&w, 8);
    assert_int_equal(log_close_left(w.l, &mark, &left), 0);
    store_add_log_mark(w.s, TOPIC, 0, &mark, &left);
    store_add_log_mark(w.s, STR("u"), 0, &mark, &left);
    disk_sim_set_free(w.d, left.len);
    assert_int_equal(store_close_clean(w.s, 1), 0);
    disk_sim_set_free(w.d, 1 << 20);
    buf_free(&left);
    start(&w);
    assert_true(w.start.was_clean);
    assert_false(w.report.scanned);
    assert_true(w.read_bytes > 0);
    assert_int_equal(log_end(w.l), 16);
    world_free(&w);
}

static void the_marker_stays_small_enough_to_be_read(void **unused)
{
    (void)unused;
    struct world w;
    struct log_mark mark = {0};
    struct buf left = {0};
    world_init(&w, 5);
    log_close(w.l);
    memset(buf_extend(&left, 1 << 20), ' ', 1 << 20);
    left.ptr[left.len - 1] = '\n';
    for (int32_t i = 0; i < 70; i++)
        store_add_log_mark(w.s, TOPIC, i, &mark, &left);
    assert_int_equal(store_close_clean(w.s, 1), 0);
    store_up(&w);
    assert_non_null(store_log_mark(w.s, TOPIC, 63)->left);
    for (int32_t i = 64; i < 70; i++)
        assert_null(store_log_mark(w.s, TOPIC, i)->left);
    buf_free(&left);
    w.l = NULL;
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_read_and_all_is_known),
        cmocka_unit_test(compacted_logs_too),
        cmocka_unit_test(what_is_not_as_it_was_left_is_looked_at),
        cmocka_unit_test(what_is_as_new_as_the_marker_is_looked_at),
        cmocka_unit_test(after_a_power_cut_nothing_is_believed),
        cmocka_unit_test(text_of_another_version_or_cut_off),
        cmocka_unit_test(out_of_the_ordinary_nothing_is_told),
        cmocka_unit_test(a_damaged_index_is_made_anew_when_it_is_wanted),
        cmocka_unit_test(a_log_damaged_as_well_is_refused_when_it_is_wanted),
        cmocka_unit_test(a_full_index_ends_the_segment),
        cmocka_unit_test(a_segment_sealed_unread_has_its_indexes),
        cmocka_unit_test(want_of_files_is_no_damage),
        cmocka_unit_test(an_epoch_without_records_is_known),
        cmocka_unit_test(many_producers_stay_known),
        cmocka_unit_test(on_a_full_disk_the_marker_is_written_without),
        cmocka_unit_test(the_marker_stays_small_enough_to_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
