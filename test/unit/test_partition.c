// Partitions over the simulated disk: what readers see, what survives, and when.
#include "os/disk_sim.h"
#include "partition_world.h"

static void the_first_append_waits_until_offsets_are_reserved(void **state)
{
    struct world *w = *state;
    struct partition *p = partitions_get(w->ps, make_topic(w, "t"), 0);
    struct try *t = append(w, p, 3, false);
    assert_false(t->is_done);
    flush(w);
    assert_false(t->is_done);
    assert_int_equal(partition_log_end(p), 0);
    const struct topic *topic = topics_by_name(w->topics, STR("t"));
    assert_true(topic->partitions[0].reserved_upto >= 3);
    partitions_journal_synced(w->ps, w->position - 1, NOW_MS);
    assert_false(t->is_done);
    sync_journal(w);
    assert_true(t->is_done);
    assert_int_equal(t->append.error, KERR_NONE);
    assert_int_equal(t->append.base_offset, 0);
    assert_int_equal(partition_high_watermark(p), 3);
    // From now on no append waits.
    t = append(w, p, 2, false);
    flush(w);
    assert_true(t->is_done);
    assert_int_equal(t->append.base_offset, 3);
}

static void readers_see_nothing_beyond_an_unsynced_acks_all_batch(void **state)
{
    struct world *w = *state;
    struct partition *p = partitions_get(w->ps, make_topic(w, "t"), 0);
    append(w, p, 1, false);
    settle(w);
    struct try *all = append(w, p, 2, true);
    struct try *one = append(w, p, 4, false);
    flush(w);
    assert_false(all->is_done);
    assert_true(one->is_done);
    assert_int_equal(partition_log_end(p), 7);
    assert_int_equal(partition_high_watermark(p), 1);
    sync_logs(w);
    assert_true(all->is_done);
    assert_int_equal(all->append.base_offset, 1);
    assert_int_equal(partition_high_watermark(p), 7);
}

// A record that is synced, one whose sync takes 10 ms from now on, and one that came behind it.
static struct partition *append_during_a_sync(struct world *w, struct try **ret_first,
                                              struct try **ret_second)
{
    struct partition *p = partitions_get(w->ps, make_topic(w, "t"), 0);
    append(w, p, 1, false);
    settle(w);
    disk_sim_set_sync_ms(w->disk, 10, 10);
    disk_sim_set_time(w->disk, 0);
    *ret_first = append(w, p, 1, true);
    flush(w);
    *ret_second = append(w, p, 1, true);
    flush(w);
    return p;
}

static void what_comes_during_a_sync_waits_for_the_next(void **state)
{
    struct world *w = *state;
    struct try *first, *second;
    struct partition *p = append_during_a_sync(w, &first, &second);
    disk_sim_set_time(w->disk, 10);
    sync_logs(w);
    assert_true(first->is_done);
    assert_false(second->is_done);
    assert_int_equal(partition_high_watermark(p), 2);
    flush(w);
    disk_sim_set_time(w->disk, 20);
    sync_logs(w);
    assert_true(second->is_done);
    assert_int_equal(partition_high_watermark(p), 3);
}

// Nobody waits for it any more, but it is in the log, and what comes behind it is seen after it.
static void a_batch_whose_producer_is_gone_is_synced_and_seen(void **state)
{
    struct world *w = *state;
    struct try *first, *second;
    struct partition *p = append_during_a_sync(w, &first, &second);
    partition_cancel(&first->append);
    partition_cancel(&second->append);
    disk_sim_set_time(w->disk, 10);
    sync_logs(w);
    flush(w);
    disk_sim_set_time(w->disk, 20);
    sync_logs(w);
    assert_int_equal(partition_high_watermark(p), 3);
    append(w, p, 1, false);
    flush(w);
    assert_int_equal(partition_high_watermark(p), 4);
}

static void a_retry_is_answered_with_the_first_offset(void **state)
{
    struct world *w = *state;
    struct partition *p = partitions_get(w->ps, make_topic(w, "t"), 0);
    append(w, p, 5, false);
    struct try *first = append_as(w, p, 2, false, 9, 0);
    struct try *again = append_as(w, p, 2, false, 9, 0); // in the same pass
    struct try *gap = append_as(w, p, 1, false, 9, 7);
    settle(w);
    assert_int_equal(first->append.base_offset, 5);
    assert_int_equal(again->append.error, KERR_NONE);
    assert_int_equal(again->append.base_offset, 5);
    assert_int_equal(again->append.log_append_ms, NOW_MS);
    assert_int_equal(gap->append.error, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_int_equal(partition_log_end(p), 7);
}

// What a producer has under way goes into one write and one sync; each batch is judged by what
// those before it leave behind, also by those of the same write.
static void a_producers_batches_are_judged_in_order_in_one_write(void **state)
{
    struct world *w = *state;
    struct partition *p = partitions_get(w->ps, make_topic(w, "t"), 0);
    append(w, p, 1, true);
    settle(w);
    uint64_t before = disk_sim_ops(w->disk);
    struct try *all[8];
    for (int i = 0; i < 4; i++) {
        all[2 * i] = append_as(w, p, 2, true, 9, 2 * i);
        all[2 * i + 1] = append_as(w, p, 1, true, 10, i);
    }
    flush(w);
    sync_logs(w);
    assert_int_equal(disk_sim_ops(w->disk), before + 2);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(all[i]->append.error, KERR_NONE);
        assert_int_equal(all[i]->append.base_offset, 1 + i / 2 * 3 + i % 2 * 2);
    }
    // A retry, a gap, an old epoch between good ones: nobody else suffers.
    struct try *next = append_as(w, p, 1, true, 9, 8);
    struct try *gap = append_as(w, p, 1, true, 9, 10);
    struct try *retry = append_as(w, p, 1, true, 10, 3);
    struct try *again = append_as(w, p, 1, true, 9, 8);
    struct try *other = append_as(w, p, 1, true, 10, 4);
    struct try *last = append_as(w, p, 1, true, 9, 9);
    settle(w);
    assert_int_equal(next->append.base_offset, 13);
    assert_int_equal(gap->append.error, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_int_equal(retry->append.base_offset, 12);
    assert_int_equal(again->append.base_offset, 13);
    assert_int_equal(other->append.base_offset, 14);
    assert_int_equal(last->append.base_offset, 15);
    assert_int_equal(partition_log_end(p), 16);
}

// What comes while the first waits for offsets does not overtake it.
static void what_waits_for_offsets_is_not_overtaken(void **state)
{
    struct world *w = *state;
    struct partition *p = partitions_get(w->ps, make_topic(w, "t"), 0);
    struct try *first = append_as(w, p, 3, false, 9, 0);
    struct try *second = append_as(w, p, 1, false, 9, 3);
    flush(w);
    struct try *third = append_as(w, p, 1, false, 9, 4);
    flush(w);
    struct try *fourth = append_as(w, p, 1, false, 9, 5);
    sync_journal(w);
    assert_int_equal(first->append.base_offset, 0);
    assert_int_equal(second->append.base_offset, 3);
    assert_int_equal(third->append.base_offset, 4);
    assert_int_equal(fourth->append.base_offset, 5);
    assert_int_equal(partition_log_end(p), 6);
}

static void a_sync_that_is_held_covers_what_comes_meanwhile(void **state)
{
    struct world *w = *state;
    struct partition *p = partitions_get(w->ps, make_topic(w, "t"), 0);
    append(w, p, 1, false);
    settle(w);
    partitions_hold_syncs(w->ps, true);
    struct try *first = append(w, p, 1, true);
    flush(w);
    assert_true(partitions_wants_sync(w->ps));
    struct try *second = append(w, p, 1, true);
    flush(w);
    sync_logs(w);
    assert_false(first->is_done);
    partitions_hold_syncs(w->ps, false);
    flush(w);
    assert_false(partitions_wants_sync(w->ps));
    sync_logs(w);
    assert_true(first->is_done);
    assert_true(second->is_done);
    assert_int_equal(partition_high_watermark(p), 3);
}

static void a_retry_with_acks_all_waits_until_the_first_is_durable(void **state)
{
    struct world *w = *state;
    struct partition *p = partitions_get(w->ps, make_topic(w, "t"), 0);
    append(w, p, 1, false);
    settle(w);
    disk_sim_set_sync_ms(w->disk, 10, 10);
    disk_sim_set_time(w->disk, 0);
    struct try *first = append_as(w, p, 1, true, 9, 0);
    flush(w);
    partition_cancel(&first->append); // its connection is gone
    struct try *again = append_as(w, p, 1, true, 9, 0);
    flush(w);
    assert_false(again->is_done);
    assert_int_equal(partition_high_watermark(p), 1);
    disk_sim_set_time(w->disk, 10);
    sync_logs(w);
    assert_true(again->is_done);
    assert_false(first->is_done);
    assert_int_equal(partition_high_watermark(p), 2);
}

struct count {
    struct partition_watch watch;
    int n;
};

static void wake(struct partition_watch *w)
{
    ((struct count *)w->ctx)->n++;
}

static void watchers_are_told_of_what_they_can_see(void **state)
{
    struct world *w = *state;
    struct uuid id = make_topic(w, "t");
    struct partition *p = partitions_get(w->ps, id, 0);
    append(w, p, 1, false);
    settle(w);
    struct count c = {.watch = {.wake = wake, .ctx = &c}};
    partition_watch(p, &c.watch);
    append(w, p, 1, true);
    flush(w);
    assert_int_equal(c.n, 0); // not visible yet
    sync_logs(w);
    assert_int_equal(c.n, 1);
    uint64_t position;
    assert_int_equal(partition_delete_records(p, 1, NOW_MS, &position), KERR_NONE);
    assert_int_equal(c.n, 2);
    delete_topic(w, id);
    assert_int_equal(c.n, 3);
    assert_null(c.watch.p);
    partition_unwatch(&c.watch); // fine
}

static bool exists(struct world *w, const char *path)
{
    struct disk_stat st;
    return disk_stat(w->disk, path, &st) == 0;
}

static void a_deleted_topic_goes_when_the_journal_is_durable(void **state)
{
    struct world *w = *state;
    struct uuid id = make_topic(w, "t");
    struct partition *p = partitions_get(w->ps, id, 0);
    append(w, p, 1, false);
    settle(w);
    struct try *waiting = append(w, p, 1, true);
    flush(w); // its sync is under way
    struct try *queued = append(w, p, 1, false);
    delete_topic(w, id);
    assert_int_equal(waiting->append.error, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(queued->append.error, KERR_UNKNOWN_TOPIC_OR_PARTITION);
    assert_null(partitions_get(w->ps, id, 0));
    assert_true(exists(w, "data/t-0"));
    sync_logs(w);
    partitions_journal_synced(w->ps, w->position - 1, NOW_MS);
    flush(w);
    assert_true(exists(w, "data/t-0"));
    sync_journal(w);
    assert_true(partitions_has_work(w->ps));
    flush(w);
    assert_false(partitions_has_work(w->ps));
    assert_false(exists(w, "data/t-0"));
}

static void a_topic_made_anew_is_empty(void **state)
{
    struct world *w = *state;
    struct uuid id = make_topic(w, "t");
    append(w, partitions_get(w->ps, id, 0), 3, false);
    settle(w);
    delete_topic(w, id);
    id = make_topic(w, "t");
    sync_journal(w); // removes the former's directory, but not the new one's
    struct partition *p = partitions_get(w->ps, id, 0);
    assert_int_equal(partition_log_end(p), 0);
    flush(w);
    assert_true(exists(w, "data/t-0"));
    struct try *t = append(w, p, 2, true);
    settle(w);
    assert_true(t->is_done);
    assert_int_equal(t->append.base_offset, 0);
}

static void a_topic_made_anew_spares_the_former_until_its_deletion_is_durable(void **state)
{
    struct world *w = *state;
    struct uuid id = make_topic(w, "t");
    append(w, partitions_get(w->ps, id, 0), 3, true);
    settle(w);
    delete_topic(w, id);
    struct uuid anew = make_topic(w, "t");
    assert_null(partitions_get(w->ps, anew, 0));
    flush(w);
    assert_true(exists(w, "data/t-0/00000000000000000000.log"));
    partitions_journal_synced(w->ps, w->position - 1, NOW_MS); // the deletion, not the making
    assert_non_null(partitions_get(w->ps, anew, 0));
    assert_int_equal(partition_log_end(partitions_get(w->ps, anew, 0)), 0);
}

// A power cut at each step of the removal, and a topic of the same name after it.
static void records_of_a_deleted_topic_never_come_back(void **state)
{
    struct world *w = *state;
    assert_int_equal(disk_sync_dir(w->disk, "."), 0);
    struct uuid id = make_topic(w, "t");
    for (uint64_t step = 0; step < 24; step++) {
        append(w, partitions_get(w->ps, id, 0), 3, true);
        settle(w);
        delete_topic(w, id);
        disk_sim_fail_at(w->disk, step, -EIO);
        sync_journal(w);
        flush(w);
        partitions_free(w->ps);
        disk_sim_power_cut(w->disk);
        disk_sim_heal(w->disk);
        w->has_failed = false;
        start(w, false, true);
        id = make_topic(w, "t");
        struct partition *p = partitions_get(w->ps, id, 0);
        assert_non_null(p);
        assert_int_equal(partition_log_end(p), 0);
    }
}

static void leftovers_of_deleted_topics_are_removed_at_start(void **state)
{
    struct world *w = *state;
    struct uuid id = make_topic(w, "t");
    make_topic(w, "u");
    assert_int_equal(disk_mkdir(w->disk, "data/mine-1"), 0); // not ours
    append(w, partitions_get(w->ps, id, 0), 1, false);
    settle(w);
    delete_topic(w, id);
    partitions_free(w->ps); // a crash before the directory went
    start(w, false, false);
    assert_false(exists(w, "data/t-0"));
    assert_true(exists(w, "data/u-0"));
    assert_true(exists(w, "data/mine-1"));
}

static void deleted_records_stay_deleted(void **state)
{
    struct world *w = *state;
    struct uuid id = make_topic(w, "t");
    struct partition *p = partitions_get(w->ps, id, 0);
    append(w, p, 5, true);
    settle(w);
    uint64_t position = 0;
    assert_int_equal(partition_delete_records(p, 6, NOW_MS, &position), KERR_OFFSET_OUT_OF_RANGE);
    assert_int_equal(partition_delete_records(p, 3, NOW_MS, &position), KERR_NONE);
    assert_true(position > 0);
    assert_int_equal(partition_log_start(p), 3);
    partitions_free(w->ps);
    start(w, false, false);
    p = partitions_get(w->ps, id, 0);
    assert_int_equal(partition_log_start(p), 3);
    assert_int_equal(partition_delete_records(p, -1, NOW_MS, &position), KERR_NONE);
    assert_int_equal(partition_log_start(p), 5);
}

static void a_killed_process_loses_nothing(void **state)
{
    struct world *w = *state;
    struct uuid id = make_topic(w, "t");
    append(w, partitions_get(w->ps, id, 0), 5, false);
    settle(w);
    partitions_free(w->ps);
    disk_sim_crash_process(w->disk);
    start(w, false, false);
    struct partition *p = partitions_get(w->ps, id, 0);
    assert_int_equal(partition_log_end(p), 5);
    assert_int_equal(partition_epoch(p), 0);
    struct try *t = append(w, p, 1, false);
    flush(w);
    assert_true(t->is_done); // the reservation of before holds
    assert_int_equal(t->append.base_offset, 5);
}

static void a_power_cut_loses_no_durable_record_and_reuses_no_offset(void **state)
{
    struct world *w = *state;
    struct uuid id = make_topic(w, "t");
    struct partition *p = partitions_get(w->ps, id, 0);
    struct try *durable = append(w, p, 5, true);
    settle(w);
    assert_true(durable->is_done);
    append(w, p, 3, false); // acks=1: may be lost
    flush(w);
    int64_t end = partition_log_end(p);
    partitions_free(w->ps);
    disk_sim_power_cut(w->disk);
    start(w, false, true);
    p = partitions_get(w->ps, id, 0);
    assert_int_equal(partition_log_start(p), 0);
    assert_true(partition_log_end(p) >= end);
    assert_int_equal(partition_epoch(p), 1);
    const struct topic_partition *tp = &topics_by_id(w->topics, id)->partitions[0];
    assert_int_equal(tp->leader_epoch, 1);
    assert_int_equal(w->last_epoch.start_offset, partition_log_end(p));
    assert_true(w->last_epoch.lost_from >= 5);
    assert_true(partition_gap(p, 0, INT64_MAX) > 0);
    assert_int_equal(partition_gap(p, 0, 5), 0);
    struct try *t = append(w, p, 1, true);
    settle(w);
    assert_true(t->is_done);
    assert_true(t->append.base_offset >= end);
    struct log_slice slice = {0};
    assert_int_equal(log_read(partition_log(p), 0, 1000, 5, true, &slice), 0);
    assert_int_equal(slice.end_offset, 5);
    log_slice_release(&slice);
    // A second cut leaves a second hole; the first stays one.
    int64_t first = partition_gap(p, 0, INT64_MAX);
    int64_t second_end = partition_log_end(p);
    partitions_free(w->ps);
    disk_sim_power_cut(w->disk);
    start(w, false, true);
    p = partitions_get(w->ps, id, 0);
    assert_int_equal(partition_gap(p, 0, second_end), first);
    assert_true(partition_gap(p, second_end, INT64_MAX) > 0);
}

static void a_clean_stop_needs_no_scan_and_keeps_the_offsets(void **state)
{
    struct world *w = *state;
    struct uuid id = make_topic(w, "t");
    append_as(w, partitions_get(w->ps, id, 0), 2, false, 9, 0);
    settle(w);
    assert_int_equal(partitions_close_clean(w->ps), 0);
    start(w, true, false);
    struct partition *p = partitions_get(w->ps, id, 0);
    assert_int_equal(partition_high_watermark(p), 2);
    struct try *again = append_as(w, p, 2, true, 9, 0);
    settle(w);
    assert_int_equal(again->append.base_offset, 0); // the producer is still known
}

// Offsets were reserved for what never came: the journal counts on the directory from then on.
static void a_clean_stop_with_reserved_offsets_outlives_the_power(void **state)
{
    struct world *w = *state;
    assert_int_equal(disk_sync_dir(w->disk, "."), 0);
    struct uuid id = make_topic(w, "t");
    struct try *t = append(w, partitions_get(w->ps, id, 0), 1, true);
    flush(w);
    partition_cancel(&t->append);
    sync_journal(w);
    assert_int_equal(partitions_close_clean(w->ps), 0);
    disk_sim_power_cut(w->disk);
    start(w, true, false);
    assert_int_equal(partition_log_end(partitions_get(w->ps, id, 0)), 0);
}

static void a_failed_sync_stops_the_broker(void **state)
{
    struct world *w = *state;
    struct partition *p = partitions_get(w->ps, make_topic(w, "t"), 0);
    append(w, p, 1, false);
    settle(w);
    struct try *t = append(w, p, 1, true);
    disk_sim_fail_at(w->disk, 1, -EIO); // after the write
    flush(w);
    sync_logs(w);
    assert_true(w->has_failed);
    assert_false(t->is_done); // nothing is said about what is not known
    disk_sim_heal(w->disk);
    struct try *later = append(w, p, 1, false);
    flush(w);
    assert_int_equal(later->append.error, KERR_KAFKA_STORAGE_ERROR);
}

static void a_full_disk_refuses_and_goes_on(void **state)
{
    struct world *w = *state;
    struct partition *p = partitions_get(w->ps, make_topic(w, "t"), 0);
    append(w, p, 1, false);
    settle(w);
    disk_sim_set_free(w->disk, 0);
    struct try *t = append(w, p, 1, false);
    flush(w);
    assert_int_equal(t->append.error, KERR_KAFKA_STORAGE_ERROR);
    assert_false(w->has_failed);
    assert_int_equal(partition_log_end(p), 1);
    disk_sim_set_free(w->disk, 1 << 20);
    t = append(w, p, 1, false);
    flush(w);
    assert_int_equal(t->append.error, KERR_NONE);
    assert_int_equal(t->append.base_offset, 1);
}

// A producer's first batch finds no room, and those behind it, already on their way, do: they must
// not overtake it, or it would be taken for an old one when it comes again.
static void nothing_overtakes_a_refused_first_batch(void **state)
{
    struct world *w = *state;
    struct partition *p = partitions_get(w->ps, make_topic(w, "t"), 0);
    append(w, p, 1, false);
    settle(w);
    disk_sim_set_free(w->disk, 0);
    struct try *first = append_as(w, p, 2, false, 77, 0);
    struct try *second = append_as(w, p, 2, false, 77, 2);
    flush(w);
    assert_int_equal(first->append.error, KERR_KAFKA_STORAGE_ERROR);
    assert_int_equal(second->append.error, KERR_KAFKA_STORAGE_ERROR);
    disk_sim_set_free(w->disk, 1 << 20);
    struct try *third = append_as(w, p, 2, false, 77, 4);
    struct try *other = append_as(w, p, 2, false, 78, 4); // known long ago, for all we can tell
    flush(w);
    assert_int_equal(third->append.error, KERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_int_equal(other->append.error, KERR_NONE);
    for (int32_t sequence = 0; sequence < 6; sequence += 2) {
        struct try *again = append_as(w, p, 2, false, 77, sequence);
        flush(w);
        assert_int_equal(again->append.error, KERR_NONE);
    }
    assert_int_equal(partition_log_end(p), 1 + 2 + 6);
}

static void settings_are_followed(void **state)
{
    struct world *w = *state;
    struct partition *p = partitions_get(w->ps, make_topic(w, "t"), 0);
    assert_int_equal(partition_settings(p)->rules.max_message_bytes, 1048588);
    configure(w, "max.message.bytes", "100");
    assert_int_equal(partition_settings(p)->rules.max_message_bytes, 100);
    assert_true(partition_settings(p)->may_delete && !partition_settings(p)->rules.is_compacted);
    configure(w, "cleanup.policy", "compact");
    assert_true(!partition_settings(p)->may_delete && partition_settings(p)->rules.is_compacted);
    configure(w, "cleanup.policy", "delete,compact");
    assert_true(partition_settings(p)->may_delete && partition_settings(p)->rules.is_compacted);
}

// Two sealed segments with the same five keys, and the active one.
static struct partition *make_compacted(struct world *w, struct uuid *ret_id)
{
    *ret_id = make_topic(w, "t");
    configure(w, "cleanup.policy", "compact,delete");
    configure(w, "segment.bytes", "100");
    configure(w, "min.cleanable.dirty.ratio", "0.01");
    struct partition *p = partitions_get(w->ps, *ret_id, 0);
    for (int i = 0; i < 2; i++) {
        append(w, p, 5, true);
        settle(w);
    }
    append(w, p, 1, true);
    settle(w);
    return p;
}

static void compacted_offsets_hold_no_data(void **state)
{
    struct world *w = *state;
    struct uuid id;
    struct partition *p = make_compacted(w, &id);
    assert_int_equal(partition_gap(p, 0, 11), 0);
    partitions_clean(w->ps, NOW_MS);
    settle(w);
    assert_int_equal(log_cleaned(partition_log(p)), 10);
    assert_int_equal(partition_gap(p, 0, 11), 5);
    assert_int_equal(partition_gap(p, 3, 7), 2);
    assert_int_equal(partition_gap(p, 5, 11), 0);
    assert_int_equal(partition_log_start(p), 0);
    assert_int_equal(partition_high_watermark(p), 11);
}

static void a_round_of_compaction_holds_retention_up(void **state)
{
    struct world *w = *state;
    struct uuid id;
    struct partition *p = make_compacted(w, &id);
    partitions_clean(w->ps, NOW_MS);
    partitions_retain(w->ps, NOW_MS + 2 * 604800000ll);
    assert_int_equal(partition_log_start(p), 0);
    settle(w);
    partitions_retain(w->ps, NOW_MS + 2 * 604800000ll);
    assert_int_equal(partition_log_start(p), 11);
    assert_false(w->has_failed);
}

static void a_topic_can_be_deleted_while_it_is_compacted(void **state)
{
    struct world *w = *state;
    struct uuid id;
    make_compacted(w, &id);
    partitions_clean(w->ps, NOW_MS);
    delete_topic(w, id);
    settle(w);
    char **names;
    size_t n;
    assert_int_equal(disk_list(w->disk, "data", w->arena, &names, &n), 0);
    assert_int_equal(n, 0);
    assert_false(w->has_failed);
    // And the next one is compacted.
    struct partition *p = make_compacted(w, &id);
    partitions_clean(w->ps, NOW_MS);
    settle(w);
    assert_int_equal(log_cleaned(partition_log(p)), 10);
}

static void a_failed_step_of_compaction_stops_the_broker(void **state)
{
    struct world *w = *state;
    struct uuid id;
    struct partition *p = make_compacted(w, &id);
    partitions_clean(w->ps, NOW_MS);
    disk_sim_fail_at(w->disk, 3, -EIO);
    struct disk_done d;
    assert_true(disk_poll_done(w->disk, &d));
    assert_true(partitions_sync_done(w->ps, d.cookie, d.error));
    assert_true(w->has_failed);
    disk_sim_heal(w->disk);
    assert_int_equal(partition_gap(p, 0, 11), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_append_waits_until_offsets_are_reserved),
        TEST(readers_see_nothing_beyond_an_unsynced_acks_all_batch),
        TEST(what_comes_during_a_sync_waits_for_the_next),
        TEST(a_batch_whose_producer_is_gone_is_synced_and_seen),
        TEST(a_retry_is_answered_with_the_first_offset),
        TEST(a_producers_batches_are_judged_in_order_in_one_write),
        TEST(what_waits_for_offsets_is_not_overtaken),
        TEST(a_sync_that_is_held_covers_what_comes_meanwhile),
        TEST(a_retry_with_acks_all_waits_until_the_first_is_durable),
        TEST(watchers_are_told_of_what_they_can_see),
        TEST(a_deleted_topic_goes_when_the_journal_is_durable),
        TEST(a_topic_made_anew_is_empty),
        TEST(a_topic_made_anew_spares_the_former_until_its_deletion_is_durable),
        TEST(records_of_a_deleted_topic_never_come_back),
        TEST(leftovers_of_deleted_topics_are_removed_at_start),
        TEST(deleted_records_stay_deleted),
        TEST(a_killed_process_loses_nothing),
        TEST(a_power_cut_loses_no_durable_record_and_reuses_no_offset),
        TEST(a_clean_stop_needs_no_scan_and_keeps_the_offsets),
        TEST(a_clean_stop_with_reserved_offsets_outlives_the_power),
        TEST(a_failed_sync_stops_the_broker),
        TEST(a_full_disk_refuses_and_goes_on),
        TEST(nothing_overtakes_a_refused_first_batch),
        TEST(settings_are_followed),
        TEST(compacted_offsets_hold_no_data),
        TEST(a_round_of_compaction_holds_retention_up),
        TEST(a_topic_can_be_deleted_while_it_is_compacted),
        TEST(a_failed_step_of_compaction_stops_the_broker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
