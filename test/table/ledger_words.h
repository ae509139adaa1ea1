#pragma once
// The words of test/table/ledger/*.txt that tell the ledger something. Checks stand in
// test/table/test_ledger.c.

#include "core/ledger/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WORDS_MAX = 40, TPS_MAX = 64, ENTRIES_MAX = 20000, NAMES_MAX = 64 };

struct test_tp {
    char name[64];
    struct ledger_range log;
    struct ledger_range gaps[8];
    int n_gaps;
};

struct entry { // of the journal: a hard fact told again, or a record of our own
    char *line;
    const struct kw_message *type;
    void *record;
    struct ledger_time t;
};

struct name {
    char name[32];
    struct ledger_identity who;
    uint64_t conn;
    int32_t session_ms, rebalance_ms;
    char subscription[64];
};

struct run {
    struct ledger *l;
    struct ledger_time t;
    struct test_tp tps[TPS_MAX];
    int n_tps;
    struct name names[NAMES_MAX];
    int n_names;
    struct entry *journal;
    size_t n_journal;
    size_t snapshot_at;
    struct arena *arena;
    uint64_t answers;
    char *w[WORDS_MAX];
    int n;
    const char *file;
    int line;
    char *source;
};

struct command {
    const char *name;
    void (*run)(struct run *r);
    bool hard;  // in the journal
    bool check; // changes nothing
};

static void stop(const struct run *r, const char *what, const char *detail)
{
    print_error("%s:%d: %s\n    %s %s\n", r->file, r->line, r->source, what, detail);
    fail();
}

static const char *word(struct run *r, int i)
{
    if (i >= r->n)
        stop(r, "too few words", "");
    return r->w[i];
}

static struct str sw(struct run *r, int i)
{
    const char *w = word(r, i);
    return strcmp(w, "-") ? str_from(w) : STR_EMPTY;
}

static int64_t num(struct run *r, int i)
{
    return strtoll(word(r, i), NULL, 10);
}

static struct uuid topic_id(const char *name)
{
    struct uuid u = {{1}};
    for (size_t i = 0; name[i] && i + 1 < sizeof u.b; i++)
        u.b[i + 1] = (uint8_t)name[i];
    return u;
}

static struct ledger_tp tp_of(const char *text)
{
    char name[64];
    snprintf(name, sizeof name, "%s", text);
    char *slash = strchr(name, '/');
    assert_non_null(slash);
    *slash = 0;
    return (struct ledger_tp){topic_id(name), atoi(slash + 1)};
}

static struct ledger_range range_of(const char *text)
{
    struct ledger_range g;
    if (sscanf(text, "%ld-%ld", &g.from, &g.to) != 2)
        g.to = g.from + 1;
    return g;
}

static struct test_tp *find_test_tp(struct run *r, struct uuid id, int32_t partition)
{
    for (int i = 0; i < r->n_tps; i++) {
        struct ledger_tp tp = tp_of(r->tps[i].name);
        if (uuid_eq(tp.topic_id, id) && tp.partition == partition)
            return &r->tps[i];
    }
    return NULL;
}

static struct test_tp *test_tp(struct run *r, const char *name)
{
    struct ledger_tp tp = tp_of(name);
    struct test_tp *t = find_test_tp(r, tp.topic_id, tp.partition);
    if (t)
        return t;
    assert_true(r->n_tps < TPS_MAX);
    t = &r->tps[r->n_tps++];
    snprintf(t->name, sizeof t->name, "%s", name);
    return t;
}

static bool bounds(void *ctx, struct uuid id, int32_t partition, struct ledger_range *ret)
{
    struct test_tp *t = find_test_tp(ctx, id, partition);
    if (t)
        *ret = t->log;
    return t != NULL;
}

static int64_t not_data(void *ctx, struct uuid id, int32_t partition, struct ledger_range in)
{
    struct test_tp *t = find_test_tp(ctx, id, partition);
    int64_t n = 0;
    for (int i = 0; t && i < t->n_gaps; i++) {
        int64_t from = t->gaps[i].from > in.from ? t->gaps[i].from : in.from;
        int64_t to = t->gaps[i].to < in.to ? t->gaps[i].to : in.to;
        n += to > from ? to - from : 0;
    }
    return n;
}

static struct name *name_of(struct run *r, const char *name)
{
    for (int i = 0; i < r->n_names; i++)
        if (!strcmp(r->names[i].name, name))
            return &r->names[i];
    assert_true(r->n_names < NAMES_MAX);
    struct name *n = &r->names[r->n_names++];
    snprintf(n->name, sizeof n->name, "%s", name);
    n->conn = 100 + (uint64_t)r->n_names;
    n->session_ms = 45000;
    n->rebalance_ms = 300000;
    n->who = (struct ledger_identity){STR("User:ANONYMOUS"), STR("/127.0.0.1"), STR("app"),
                                      STR("librdkafka 2.3")};
    return n;
}

// The value of key=value among the words, or NULL.
static const char *option(struct run *r, const char *key)
{
    size_t len = strlen(key);
    for (int i = 1; i < r->n; i++)
        if (!strncmp(r->w[i], key, len) && r->w[i][len] == '=')
            return r->w[i] + len + 1;
    return NULL;
}

static void identity(struct run *r, struct name *n)
{
    const char *v;
    if ((v = option(r, "client")))
        n->who.client_id = arena_str(r->arena, str_from(v));
    if ((v = option(r, "host")))
        n->who.host = arena_str(r->arena, str_from(v));
    if ((v = option(r, "software")))
        n->who.software = arena_str(r->arena, str_from(v));
    if ((v = option(r, "user")))
        n->who.principal = arena_str(r->arena, str_from(v));
    if ((v = option(r, "session")))
        n->session_ms = atoi(v);
    if ((v = option(r, "poll")))
        n->rebalance_ms = atoi(v);
    if ((v = option(r, "reads")))
        snprintf(n->subscription, sizeof n->subscription, "%s", v);
}

static enum kerr kerr_of(struct run *r, const char *name)
{
    for (int i = -1; i < 140; i++)
        if (!strcmp(kerr_name((int16_t)i), name))
            return (enum kerr)i;
    stop(r, "no such error", name);
    return KERR_NONE;
}

static struct ledger *fresh(struct run *r)
{
    struct ledger_logs logs = {r, bounds, not_data};
    return ledger_new(&logs, LEDGER_AT_LEAST_ONCE);
}

// ---- events

static void do_topic(struct run *r)
{
    const char *name = option(r, "name");
    ledger_topic_created(r->l, r->t, topic_id(word(r, 1)), name ? str_from(name) : sw(r, 1),
                         (int32_t)num(r, 2));
}

static void do_partitions(struct run *r)
{
    ledger_partitions_added(r->l, r->t, topic_id(word(r, 1)), (int32_t)num(r, 2));
}

static void do_untopic(struct run *r)
{
    ledger_topic_deleted(r->l, r->t, topic_id(word(r, 1)));
}

static void do_log(struct run *r)
{
    test_tp(r, word(r, 1))->log.to = num(r, 2);
}

static void do_start(struct run *r)
{
    test_tp(r, word(r, 1))->log.from = num(r, 2);
}

static void do_gap(struct run *r)
{
    struct test_tp *t = test_tp(r, word(r, 1));
    t->gaps[t->n_gaps++] = range_of(word(r, 2));
}

static void do_who(struct run *r)
{
    identity(r, name_of(r, word(r, 1)));
}

static void do_conn(struct run *r)
{
    struct name *n = name_of(r, word(r, 1));
    static uint64_t next = 1000;
    n->conn = next++;
    identity(r, n);
    const char *instance = option(r, "instance");
    ledger_conn_opened(r->l, r->t, n->conn, &n->who, str_from(instance ? instance : ""));
}

static void do_close(struct run *r)
{
    struct name *n = name_of(r, word(r, 1));
    const char *acked = option(r, "acked");
    ledger_answer_acked(r->l, n->conn, acked ? strtoull(acked, NULL, 10) : UINT64_MAX);
    ledger_conn_closed(r->l, r->t, n->conn);
}

static void do_own(struct run *r)
{
    int16_t api = API_HEARTBEAT;
    const char *what = r->n > 4 ? r->w[4] : "heartbeat";
    if (!strcmp(what, "join"))
        api = API_JOIN_GROUP;
    if (!strcmp(what, "leave"))
        api = API_LEAVE_GROUP;
    if (!strcmp(what, "commit"))
        api = API_OFFSET_COMMIT;
    ledger_own_request(r->l, r->t, name_of(r, word(r, 1))->conn, sw(r, 2), sw(r, 3), api);
}

static enum ledger_trigger trigger_of(struct run *r, const char *name)
{
    for (int i = 0; i < LEDGER_TRIGGER_COUNT; i++)
        if (!strcmp(ledger_trigger_name((enum ledger_trigger)i), name))
            return (enum ledger_trigger)i;
    stop(r, "no such trigger", name);
    return LEDGER_TRIGGER_UNKNOWN;
}

static void do_rebalance(struct run *r)
{
    ledger_rebalance_started(r->l, r->t, sw(r, 1), (int32_t)num(r, 2), trigger_of(r, word(r, 3)),
                             r->n > 4 ? sw(r, 4) : STR_NULL, r->n > 5 ? sw(r, 5) : STR_NULL);
}

static size_t list_of(const char *text, struct ledger_tp *ret)
{
    char copy[256];
    size_t n = 0;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *save, *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save))
        if (strcmp(p, "-"))
            ret[n++] = tp_of(p);
    return n;
}

static void do_joined(struct run *r)
{
    struct ledger_tp owned[TPS_MAX];
    size_t n = list_of(word(r, 3), owned);
    ledger_joined(r->l, r->t, sw(r, 1), sw(r, 2), owned, n);
}

static void do_synced(struct run *r)
{
    struct ledger_tp assigned[TPS_MAX];
    size_t n = list_of(word(r, 3), assigned);
    ledger_synced(r->l, r->t, sw(r, 1), sw(r, 2), assigned, n);
}

static void do_gen(struct run *r)
{
    struct ledger_member m[WORDS_MAX];
    static struct ledger_tp tps[WORDS_MAX][TPS_MAX];
    size_t n = 0;
    for (int i = 3; i < r->n; i++, n++) {
        char copy[256];
        snprintf(copy, sizeof copy, "%s", r->w[i]);
        char *eq = strchr(copy, '=');
        *eq = 0;
        struct name *who = name_of(r, copy);
        m[n] = (struct ledger_member){
            .member_id = str_from(who->name),
            .instance_id = STR_NULL,
            .who = who->who,
            .session_timeout_ms = who->session_ms,
            .rebalance_timeout_ms = who->rebalance_ms,
            .subscription = str_from(who->subscription),
            .assigned = tps[n],
            .n_assigned = list_of(eq + 1, tps[n]),
        };
    }
    ledger_generation(r->l, r->t, sw(r, 1), (int32_t)num(r, 2), m, n);
}

static void do_left(struct run *r)
{
    static const char *const why[] = {"leave", "session_timeout", "poll_timeout", "static_replaced",
                                      "removed"};
    for (int i = 0; i < 5; i++)
        if (!strcmp(why[i], word(r, 3))) {
            ledger_member_left(r->l, r->t, sw(r, 1), sw(r, 2), (enum ledger_left)i, STR_NULL);
            return;
        }
    stop(r, "no such reason", r->w[3]);
}

static void do_pos(struct run *r)
{
    struct ledger_tp tp = tp_of(word(r, 2));
    ledger_position(r->l, r->t, name_of(r, word(r, 1))->conn, tp.topic_id, tp.partition, num(r, 3));
}

static void do_send(struct run *r)
{
    struct ledger_tp tp = tp_of(word(r, 2));
    ledger_sending(r->l, r->t, name_of(r, word(r, 1))->conn, tp.topic_id, tp.partition,
                   range_of(word(r, 3)), ++r->answers);
}

// get CONN TP A-B: a Fetch at A and its answer.
static void do_get(struct run *r)
{
    struct ledger_tp tp = tp_of(word(r, 2));
    struct ledger_range g = range_of(word(r, 3));
    uint64_t conn = name_of(r, word(r, 1))->conn;
    ledger_position(r->l, r->t, conn, tp.topic_id, tp.partition, g.from);
    ledger_sending(r->l, r->t, conn, tp.topic_id, tp.partition, g, ++r->answers);
}

static void do_cut(struct run *r)
{
    struct ledger_tp tp = tp_of(word(r, 2));
    ledger_answer_cut(r->l, name_of(r, word(r, 1))->conn, r->answers, tp.topic_id, tp.partition,
                      num(r, 3));
}

static void do_list(struct run *r)
{
    struct ledger_tp tp = tp_of(word(r, 2));
    ledger_list_offsets(r->l, r->t, name_of(r, word(r, 1))->conn, tp.topic_id, tp.partition,
                        num(r, 3), num(r, 4));
}

static void do_oor(struct run *r)
{
    struct ledger_tp tp = tp_of(word(r, 2));
    ledger_out_of_range(r->l, r->t, name_of(r, word(r, 1))->conn, tp.topic_id, tp.partition,
                        num(r, 3));
}

// commit CONN GROUP MEMBER|- GENERATION TP K [ERROR|lost] [empty]
static void fill_commit(struct run *r, struct ledger_commit *c)
{
    struct ledger_tp tp = tp_of(word(r, 5));
    *c = (struct ledger_commit){
        .conn = name_of(r, word(r, 1))->conn,
        .group = sw(r, 2),
        .member = sw(r, 3),
        .who = name_of(r, word(r, 1))->who,
        .generation = (int32_t)num(r, 4),
        .group_was_empty = num(r, 4) < 0,
        .topic_id = tp.topic_id,
        .partition = tp.partition,
        .offset = num(r, 6),
        .answer = r->answers + 1,
    };
}

static void do_commit(struct run *r)
{
    struct ledger_commit c;
    fill_commit(r, &c);
    if (c.member.len > 0)
        ledger_own_request(r->l, r->t, c.conn, c.group, c.member, API_OFFSET_COMMIT);
    if (r->n > 7 && !strcmp(r->w[7], "lost")) {
        ledger_commit_dropped(r->l, r->t, &c);
        return;
    }
    if (r->n > 7 && !strcmp(r->w[7], "txn")) {
        ledger_txn_offset(r->l, r->t, &c, LEDGER_TXN_APPLIED);
        return;
    }
    if (r->n > 7)
        c.error = kerr_of(r, r->w[7]);
    ledger_committed(r->l, r->t, &c);
}

static void do_ofetch(struct run *r)
{
    struct ledger_tp tp = tp_of(word(r, 4));
    ledger_offsets_fetched(r->l, r->t, name_of(r, word(r, 1))->conn, sw(r, 2), sw(r, 3),
                           tp.topic_id, tp.partition, num(r, 5),
                           r->n > 6 ? kerr_of(r, r->w[6]) : KERR_NONE);
}

static void do_trim(struct run *r)
{
    struct ledger_tp tp = tp_of(word(r, 1));
    bool admin = r->n > 3 && !strcmp(r->w[3], "admin");
    ledger_trimmed(r->l, r->t, tp.topic_id, tp.partition, num(r, 2),
                   admin ? LEDGER_TRIM_DELETE_RECORDS : LEDGER_TRIM_RETENTION);
    test_tp(r, r->w[1])->log.from = num(r, 2);
}

static void do_lose(struct run *r)
{
    struct ledger_tp tp = tp_of(word(r, 1));
    ledger_records_lost(r->l, r->t, tp.topic_id, tp.partition, range_of(word(r, 2)));
}

static void do_removed(struct run *r)
{
    struct ledger_tp tp = tp_of(word(r, 2));
    ledger_offset_removed(
        r->l, r->t, sw(r, 1), tp.topic_id, tp.partition,
        strcmp(word(r, 3), "admin") ? LEDGER_REMOVED_EXPIRED : LEDGER_REMOVED_ADMIN, NULL);
}

static void do_ungroup(struct run *r)
{
    ledger_group_removed(r->l, r->t, sw(r, 1), NULL);
}

static void do_evidence(struct run *r)
{
    static const char *const kinds[] = {"none", "stdout", "http", "topic", "sql"};
    for (int i = 0; i < 5; i++)
        if (!strcmp(kinds[i], word(r, 2)))
            ledger_evidence_mode(r->l, sw(r, 1), (enum ledger_evidence)i,
                                 r->n > 3 && !strcmp(r->w[3], "control"));
}

static void do_receipt(struct run *r)
{
    struct ledger_tp tp = tp_of(word(r, 2));
    struct ledger_range g = range_of(word(r, 3));
    for (int64_t x = g.from; x < g.to; x++)
        ledger_receipt(r->l, r->t, sw(r, 1), tp.topic_id, tp.partition, x, sw(r, 4),
                       r->n > 5 ? (uint32_t)num(r, 5) : 0);
}

static void do_killed(struct run *r)
{
    ledger_process_ended(r->l, r->t, sw(r, 1), true);
}

static void do_judge(struct run *r)
{
    ledger_judge(r->l, r->t, sw(r, 1));
}

static void do_forced(struct run *r)
{
    ledger_forced(r->l, sw(r, 1), !strcmp(word(r, 2), "on"));
}

static void do_expect(struct run *r)
{
    enum ledger_expect e;
    if (!ledger_expect_find(sw(r, 2), &e))
        stop(r, "no such expectation", "");
    ledger_set_expect(r->l, sw(r, 1), e);
}

static void do_duplicate(struct run *r)
{
    struct ledger_tp tp = tp_of(word(r, 1));
    ledger_duplicate_produced(r->l, r->t, tp.topic_id, tp.partition, num(r, 2), num(r, 3),
                              STR("equal key and value"));
}

static void do_pinned(struct run *r)
{
    struct ledger_tp tp = tp_of(word(r, 1));
    ledger_lso_pinned(r->l, r->t, tp.topic_id, tp.partition, num(r, 2), r->t.wall_ms - 60000);
}

static void do_overflow(struct run *r)
{
    ledger_overflow(r->l, r->t, r->n > 1 ? name_of(r, r->w[1])->conn : 0);
}

static void do_wait(struct run *r)
{
    r->t.now_ms += (uint64_t)num(r, 1);
    r->t.wall_ms += num(r, 1);
}

static void do_tick(struct run *r)
{
    ledger_tick(r->l, r->t);
}

static bool is_refusal(const struct run *r, const struct command *c)
{
    return c->run == do_commit && r->n > 7 && strcmp(r->w[7], "txn");
}

static const struct command ledger_events[] = {
    {"topic", do_topic, true, false},
    {"partitions", do_partitions, true, false},
    {"untopic", do_untopic, true, false},
    {"log", do_log, false, false},
    {"start", do_start, false, false},
    {"gap", do_gap, false, false},
    {"who", do_who, false, false},
    {"conn", do_conn, false, false},
    {"close", do_close, false, false},
    {"own", do_own, false, false},
    {"rebalance", do_rebalance, false, false},
    {"joined", do_joined, false, false},
    {"synced", do_synced, false, false},
    {"gen", do_gen, true, false},
    {"left", do_left, false, false},
    {"pos", do_pos, false, false},
    {"send", do_send, false, false},
    {"get", do_get, false, false},
    {"cut", do_cut, false, false},
    {"list", do_list, false, false},
    {"oor", do_oor, false, false},
    {"commit", do_commit, true, false},
    {"ofetch", do_ofetch, false, false},
    {"trim", do_trim, true, false},
    {"lose", do_lose, true, false},
    {"removed", do_removed, true, false},
    {"ungroup", do_ungroup, true, false},
    {"evidence", do_evidence, false, false},
    {"receipt", do_receipt, false, false},
    {"killed", do_killed, false, false},
    {"judge", do_judge, false, false},
    {"forced", do_forced, false, false},
    {"expect", do_expect, false, false},
    {"duplicate", do_duplicate, false, false},
    {"pinned", do_pinned, false, false},
    {"overflow", do_overflow, false, false},
    {"wait", do_wait, false, true},
    {"tick", do_tick, false, false},
    {NULL, NULL, false, false},
};
