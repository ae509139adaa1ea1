#include "base/map.h"
#include "broker/partition_private.h"

#include <inttypes.h>
#include <string.h>

// Compaction of one log at a time, beside the loop (store/log_clean.c). A partition's sync has its
// address for a cookie; this one is odd.
static uint64_t cookie_of(const struct partition *p)
{
    return (uint64_t)(uintptr_t)p | 1;
}

static bool is_filthier(struct partition *p, int64_t wall_ms, double *ratio)
{
    double mine;
    bool wants;
    if (p->is_uncleanable)
        return false;
    int r = log_clean_look(p->log, wall_ms, p->high_watermark, &mine, &wants);
    if (r < 0 && !p->set->has_failed) {
        p->is_uncleanable = true;
        partitions_say(p->set, true, "%s-%d: will not be compacted: %s", p->topic.ptr, p->index,
                       strerror(-r));
    }
    if (r < 0 || !wants || mine <= *ratio)
        return false;
    *ratio = mine;
    return true;
}

void partitions_clean(struct partitions *ps, int64_t wall_ms)
{
    struct config_view view = topics_broker_view(ps->config.topics);
    ps->clean_again = false;
    if (ps->cleaning || ps->has_failed || !config_bool(&view, "log.cleaner.enable"))
        return;
    struct partition *best = NULL;
    double ratio = 0;
    void *v;
    for (size_t it = 0; map_next(ps->by_key, &it, NULL, &v);)
        if (is_filthier(v, wall_ms, &ratio))
            best = v;
    if (!best)
        return;
    ps->cleaning = best;
    ps->cleaning_bytes = 0;
    ps->cleaning_from = log_cleaned(best->log);
    uint64_t bytes = (uint64_t)config_i64(&view, "log.cleaner.dedupe.buffer.size");
    log_clean_begin(best->log, wall_ms, best->high_watermark, bytes, &ps->config.hash,
                    cookie_of(best));
}

bool partitions_clean_done(struct partitions *ps, uint64_t cookie, int error)
{
    struct partition *p = ps->cleaning;
    if (!p || cookie != cookie_of(p))
        return false;
    struct log_clean_report report;
    int r = log_clean_done(p->log, error, &report);
    ps->cleaning_bytes += report.bytes_saved;
    if (r == 0 && !report.is_over)
        return true;
    ps->cleaning = NULL;
    if (r < 0) {
        partition_fail(p, r, "compaction");
        return true;
    }
    p->is_uncleanable = report.is_bad;
    if (report.is_bad)
        partitions_say(ps, true, "%s; %s-%d will not be compacted", report.text, p->topic.ptr,
                       p->index);
    else if (report.text[0])
        partitions_say(ps, true, "%s-%d: compaction: %s; tried again later", p->topic.ptr, p->index,
                       report.text);
    else
        partitions_say(ps, false,
                       "%s-%d: compacted up to offset %" PRId64 ", %" PRId64 " bytes less",
                       p->topic.ptr, p->index, log_cleaned(p->log), ps->cleaning_bytes);
    // The next one at once, unless nothing could be done here, which would be found out for ever.
    ps->clean_again = report.is_bad || log_cleaned(p->log) > ps->cleaning_from;
    return true;
}

void partition_stop_cleaning(struct partition *p)
{
    if (p->set->cleaning != p)
        return;
    log_clean_abandon(p->log);
    p->set->cleaning = NULL;
}
