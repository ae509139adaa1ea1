// Random events in random order, also nonsense: the states of every partition add up after each,
// nothing is read out of bounds, and what a snapshot restores says the same.

#include "core/ledger/ledger.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PARTITIONS = 2, MEMBERS = 4, CONNS = 6, EVENTS_MAX = 600 };

struct play {
    struct ledger *l;
    struct ledger_time t;
    const uint8_t *at;
    const uint8_t *end;
    struct ledger_range logs[PARTITIONS];
    uint64_t answers;
    int32_t generation;
};

static const struct uuid topic = {{7}};
static const char *const groups[] = {"g", "h"};
static const char *const members[MEMBERS] = {"A", "B", "C", "D"};

static unsigned pick(struct play *p, unsigned below)
{
    return p->at < p->end ? *p->at++ % below : 0;
}

static struct str group_of(struct play *p)
{
    return str_from(groups[pick(p, 4) == 0]);
}

static struct str member_of(struct play *p)
{
    return str_from(members[pick(p, MEMBERS)]);
}

static int32_t part_of(struct play *p)
{
    return (int32_t)pick(p, PARTITIONS);
}

static int64_t offset_of(struct play *p)
{
    return (int64_t)pick(p, 64) * 10 + (int64_t)pick(p, 3);
}

static struct ledger_identity who_of(unsigned n)
{
    static const char *const clients[] = {"app", "app", "other"};
    return (struct ledger_identity){STR("User:ANONYMOUS"), STR("/127.0.0.1"),
                                    str_from(clients[n % 3]), STR("x 1")};
}

static bool bounds(void *ctx, struct uuid id, int32_t partition, struct ledger_range *ret)
{
    const struct play *p = ctx;
    if (!uuid_eq(id, topic) || partition < 0 || partition >= PARTITIONS)
        return false;
    *ret = p->logs[partition];
    return true;
}

// Every seventh offset is none of ours.
static int64_t not_data(void *ctx, struct uuid id, int32_t partition, struct ledger_range r)
{
    (void)ctx, (void)id;
    return partition ? (r.to + 6) / 7 - (r.from + 6) / 7 : 0;
}

static struct ledger *fresh(struct play *p)
{
    struct ledger_logs logs = {p, bounds, not_data};
    return ledger_new(&logs, LEDGER_AT_LEAST_ONCE);
}

static void play_fetch(struct play *p, uint64_t conn)
{
    int32_t part = part_of(p);
    int64_t from = offset_of(p), to = from + (int64_t)pick(p, 200);
    ledger_position(p->l, p->t, conn, topic, part, from);
    if (to > p->logs[part].to)
        to = p->logs[part].to;
    if (from < to)
        ledger_sending(p->l, p->t, conn, topic, part, (struct ledger_range){from, to},
                       ++p->answers);
    if (!pick(p, 8))
        ledger_answer_cut(p->l, conn, p->answers, topic, part, offset_of(p));
}

static void play_commit(struct play *p, uint64_t conn)
{
    static const enum kerr errors[] = {KERR_NONE, KERR_NONE, KERR_NONE, KERR_UNKNOWN_MEMBER_ID,
                                       KERR_COORDINATOR_LOAD_IN_PROGRESS};
    bool memberless = !pick(p, 4);
    struct ledger_commit c = {
        .conn = conn,
        .group = group_of(p),
        .member = memberless ? STR_EMPTY : member_of(p),
        .who = who_of(pick(p, 3)),
        .generation = memberless ? -1 : p->generation,
        .group_was_empty = memberless,
        .topic_id = topic,
        .partition = part_of(p),
        .offset = offset_of(p),
        .error = errors[pick(p, 5)],
        .answer = ++p->answers,
    };
    if (pick(p, 10) == 0)
        ledger_txn_offset(p->l, p->t, &c, (enum ledger_txn)pick(p, 3));
    else if (pick(p, 10) == 0)
        ledger_commit_dropped(p->l, p->t, &c);
    else
        ledger_committed(p->l, p->t, &c);
    if (!pick(p, 12))
        ledger_commit_unanswered(p->l, p->t, conn, c.answer);
}

static void play_generation(struct play *p)
{
    struct ledger_member m[MEMBERS] = {0};
    struct ledger_tp tps[MEMBERS][PARTITIONS];
    size_t n = pick(p, MEMBERS + 1);
    for (size_t i = 0; i < n; i++) {
        m[i] = (struct ledger_member){.member_id = str_from(members[i]),
                                      .instance_id = STR_NULL,
                                      .who = who_of((unsigned)i),
                                      .session_timeout_ms = 10000,
                                      .rebalance_timeout_ms = 60000,
                                      .subscription = STR("t"),
                                      .assigned = tps[i]};
    }
    // Overlaps happen now and then: a leader that assigns badly.
    for (int32_t part = 0; n && part < PARTITIONS; part++)
        for (unsigned turns = pick(p, 8) ? 1 : 2; turns; turns--) {
            struct ledger_member *to = &m[pick(p, (unsigned)n)];
            size_t has = to->n_assigned;
            if (has && tps[to - m][has - 1].partition == part)
                continue;
            tps[to - m][to->n_assigned++] = (struct ledger_tp){topic, part};
        }
    ledger_generation(p->l, p->t, group_of(p), ++p->generation, m, n);
}

static void play_log(struct play *p)
{
    int32_t part = part_of(p);
    struct ledger_range *log = &p->logs[part];
    int64_t at = log->from + (int64_t)pick(p, 100);
    switch (pick(p, 4)) {
    case 0:
        if (at > log->to)
            at = log->to;
        ledger_trimmed(p->l, p->t, topic, part, at, LEDGER_TRIM_RETENTION);
        log->from = at;
        break;
    case 1:
        ledger_records_lost(p->l, p->t, topic, part, (struct ledger_range){log->to, log->to + 5});
        log->to += 5;
        break;
    default:
        log->to += (int64_t)pick(p, 50);
    }
}

static void play_group(struct play *p, uint64_t conn)
{
    struct str g = group_of(p), m = member_of(p);
    struct ledger_tp owned = {topic, part_of(p)};
    switch (pick(p, 7)) {
    case 0:
        ledger_own_request(p->l, p->t, conn, g, m, pick(p, 2) ? API_JOIN_GROUP : API_HEARTBEAT);
        break;
    case 1:
        ledger_rebalance_started(p->l, p->t, g, p->generation,
                                 (enum ledger_trigger)pick(p, LEDGER_TRIGGER_COUNT), m, STR_NULL);
        break;
    case 2:
        ledger_joined(p->l, p->t, g, m, &owned, pick(p, 2));
        break;
    case 3:
        ledger_member_left(p->l, p->t, g, m, (enum ledger_left)pick(p, 5), STR_NULL);
        break;
    case 4:
        ledger_offsets_fetched(p->l, p->t, conn, g, m, topic, part_of(p), offset_of(p) - 1,
                               KERR_NONE);
        break;
    case 5:
        ledger_offset_removed(p->l, p->t, g, topic, part_of(p), (enum ledger_removed)pick(p, 2),
                              NULL);
        break;
    default:
        if (!pick(p, 20))
            ledger_group_removed(p->l, p->t, g, NULL);
    }
}

static void play_rest(struct play *p, uint64_t conn)
{
    static const char *const instances[] = {"", "", "1", "2"};
    struct ledger_identity who = who_of(pick(p, 3));
    switch (pick(p, 8)) {
    case 0:
        ledger_conn_closed(p->l, p->t, conn);
        break;
    case 1:
        ledger_answer_acked(p->l, conn, p->answers - pick(p, 3));
        break;
    case 2:
        ledger_list_offsets(p->l, p->t, conn, topic, part_of(p), -1, offset_of(p));
        break;
    case 3:
        ledger_out_of_range(p->l, p->t, conn, topic, part_of(p), offset_of(p));
        break;
    case 4:
        p->t.now_ms += 100000;
        p->t.wall_ms += 100000;
        ledger_tick(p->l, p->t);
        break;
    case 5:
        ledger_receipt(p->l, p->t, group_of(p), topic, part_of(p), offset_of(p), STR("1"),
                       pick(p, 2));
        ledger_evidence_mode(p->l, str_from("g"), LEDGER_EVIDENCE_STDOUT, true);
        ledger_judge(p->l, p->t, str_from("g"));
        break;
    default:
        ledger_conn_opened(p->l, p->t, conn, &who, str_from(instances[pick(p, 4)]));
    }
}

static void print_all(struct play *p, struct ledger *l, struct buf *out)
{
    struct arena *a = arena_new();
    struct tally_report_request req = {STR_NULL, STR_NULL, 0, 0, true, true};
    struct tally_report_response res;
    ledger_report(l, &req, &res, a);
    CHECK(str_is_null(res.verify_failure));
    res.version = 0;
    kw_print(&tally_report_response_msg, 0, &res, out);
    (void)p;
    arena_free(a);
}

// Through the journal's own bytes: what is written is what is read.
static void restart(struct play *p, bool clean)
{
    struct arena *a = arena_new();
    struct effects fx;
    struct buf before = {0}, after = {0};
    effects_init(&fx, a);
    ledger_snapshot(p->l, &fx);
    struct ledger *next = fresh(p);
    ledger_set_replay(next, true);
    for (struct effect_record *e = fx.first_record; e; e = e->next)
        ledger_apply(next, e->type, e->record);
    ledger_set_replay(next, false);
    print_all(p, p->l, &before);
    print_all(p, next, &after);
    CHECK(before.len == after.len && !memcmp(before.ptr, after.ptr, before.len));
    ledger_restarted(next, p->t, clean);
    ledger_free(p->l);
    p->l = next;
    buf_free(&before);
    buf_free(&after);
    arena_free(a);
}

static void play_one(struct play *p)
{
    uint64_t conn = 1 + pick(p, CONNS);
    p->t.now_ms += 10;
    p->t.wall_ms += 10;
    switch (pick(p, 16)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
        play_fetch(p, conn);
        break;
    case 6:
    case 7:
    case 8:
        play_commit(p, conn);
        break;
    case 9:
        play_generation(p);
        break;
    case 10:
        play_log(p);
        break;
    case 11:
    case 12:
        play_group(p, conn);
        break;
    case 13:
        if (!pick(p, 4))
            restart(p, pick(p, 2));
        break;
    default:
        play_rest(p, conn);
    }
    struct buf why = {0};
    CHECK(ledger_verify(p->l, &why)); // the states add up
    buf_free(&why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct play p = {.t = {1000, 1700000000000}, .at = data, .end = data + size};
    p.logs[0] = p.logs[1] = (struct ledger_range){0, 500};
    p.l = fresh(&p);
    ledger_topic_created(p.l, p.t, topic, STR("t"), PARTITIONS);
    for (unsigned c = 1; c <= CONNS; c++) {
        struct ledger_identity who = who_of(c);
        ledger_conn_opened(p.l, p.t, c, &who, STR_EMPTY);
    }
    for (int i = 0; p.at < p.end && i < EVENTS_MAX; i++)
        play_one(&p);
    struct arena *a = arena_new();
    struct effects fx;
    effects_init(&fx, a);
    ledger_emit(p.l, &fx);
    arena_free(a);
    ledger_free(p.l);
    return 0;
}
