// What the broker tells: who asks for what, who commits, what was sent. Callbacks of the tap; they
// only take notes, hold or fail, and never run the loop.

#include "broker/broker.h"
#include "drill/run.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static struct slot *slot_of(struct run *r, uint64_t conn)
{
    return crew_by_listener(r, tap_listener(stage_broker(r->stage), conn));
}

static void note_member(struct slot *s, struct str member)
{
    if (member.len <= 0 || s->n_members == RUN_MAX_MEMBERS)
        return;
    for (size_t i = 0; i < s->n_members; i++) {
        if (str_eq(s->members[i], member))
            return;
    }
    s->members[s->n_members++] = (struct str){str_dup(member), member.len};
}

static void note_group(struct run *r, struct str group)
{
    if (r->real_group || group.len <= 0)
        return;
    char *name = str_dup(group);
    static const enum ledger_evidence kinds[] = {LEDGER_EVIDENCE_STDOUT, LEDGER_EVIDENCE_SQL,
                                                 LEDGER_EVIDENCE_NONE};
    struct ledger *l = run_ledger(r);
    ledger_evidence_mode(l, group, kinds[evidence_kind(r->o->evidence)], r->o->control_passed);
    ledger_set_expect(l, group, r->o->expect);
    r->real_group = name;
    // Who assigns itself partitions is known by its first commit, when work is done already.
    bool is_told = evidence_kind(r->o->evidence) == EVIDENCE_STDOUT; // rows: at the end
    for (int32_t p = 0; is_told && p < book_partitions(r->book); p++) {
        struct book_partition *bp = book_partition(r->book, p);
        for (int64_t i = 0; i < bp->n; i++) {
            if (bp->records[i].times > 0)
                crew_tell_receipt(r, bp->records[i].sent_to, 1, p, i);
        }
    }
}

static bool is_our_topic(const struct run *r, struct str name, struct uuid id)
{
    return name.len > 0 ? str_eq_c(name, r->topic) : uuid_eq(id, r->topic_id);
}

static void note_fetch(struct run *r, struct slot *s, const struct fetch_request *f)
{
    for (int32_t i = 0; i < f->n_topics; i++) {
        const struct fetch_request_topic *t = &f->topics[i];
        if (!is_our_topic(r, t->topic, t->topic_id))
            continue;
        for (int32_t j = 0; j < t->n_partitions; j++) {
            int32_t p = t->partitions[j].partition;
            if (p < 0 || p >= book_partitions(r->book))
                continue;
            book_partition(r->book, p)->fetcher = s->instance;
            book_asked(r->book, p, t->partitions[j].fetch_offset);
        }
    }
}

static void note_metadata(struct run *r, struct slot *s, const struct metadata_request *m)
{
    for (int32_t i = 0; i < m->n_topics; i++) {
        struct str name = m->topics[i].name;
        if (is_our_topic(r, name, m->topics[i].topic_id))
            s->refresh_left = 0;
        else if (!r->other_topic && name.len > 0)
            r->other_topic = str_dup(name);
    }
    if (m->n_topics < 0)
        s->refresh_left = 0;
}

static enum tap_act on_commit_request(struct run *r, struct slot *s, struct request *q)
{
    const struct offset_commit_request *c = q->body;
    note_member(s, c->member_id);
    note_group(r, c->group_id);
    if (r->holds_commits && r->n_held < RUN_MAX_HELD) {
        r->held[r->n_held++] = q->asker.token;
        return TAP_HOLD;
    }
    s->commit_in_flight = true;
    if (r->looks_ahead && !r->chance && s->copy && s->copy->state == COPY_RUNNING) {
        // At once, so that it cannot work on while the commit becomes durable; whether it stands
        // still is waited for outside of this callback.
        kill(-s->copy->pid, SIGSTOP);
        r->chance = s;
        r->chance_conn = q->asker.conn;
        r->n_commits = 0;
        r->chance_is_decided = false;
    }
    return TAP_PASS;
}

static enum tap_act on_request(void *user, struct request *q, enum kerr *ret_code)
{
    struct run *r = user;
    struct slot *s = slot_of(r, q->asker.conn);
    if (!s)
        return TAP_PASS;
    s->has_asked = true;
    if (q->api->key >= 0 && q->api->key < 128)
        r->requests[q->api->key]++;
    switch (q->api->key) {
    case API_JOIN_GROUP:
        s->rejoin_at_ms = 0;
        book_forget_fetcher(r->book, s->instance);
        note_group(r, ((struct join_group_request *)q->body)->group_id);
        note_member(s, ((struct join_group_request *)q->body)->member_id);
        break;
    case API_SYNC_GROUP:
        note_member(s, ((struct sync_group_request *)q->body)->member_id);
        break;
    case API_HEARTBEAT:
        note_member(s, ((struct heartbeat_request *)q->body)->member_id);
        if (s->rejoin_at_ms && stage_now_ms() >= s->rejoin_at_ms) {
            s->rejoin_at_ms = 0;
            *ret_code = KERR_REBALANCE_IN_PROGRESS;
            return TAP_FAIL;
        }
        break;
    case API_OFFSET_COMMIT:
        return on_commit_request(r, s, q);
    case API_METADATA:
        note_metadata(r, s, q->body);
        break;
    case API_FETCH:
        if (s->refresh_left > 0) {
            s->refresh_left--;
            *ret_code = KERR_NOT_LEADER_OR_FOLLOWER;
            return TAP_FAIL;
        }
        note_fetch(r, s, q->body);
        break;
    default:
        break;
    }
    return TAP_PASS;
}

static enum tap_act on_response(void *user, struct request *q, void *response, enum kerr *ret_code)
{
    (void)ret_code;
    struct run *r = user;
    struct slot *s = slot_of(r, q->asker.conn);
    if (!s)
        return TAP_PASS;
    if (q->api->key == API_JOIN_GROUP)
        note_member(s, ((struct join_group_response *)response)->member_id);
    // What it fetches from now on it has looked up in this generation: before that a record would
    // come too early for who begins at the end.
    if (q->api->key == API_SYNC_GROUP)
        book_forget_fetcher(r->book, s->instance);
    return TAP_PASS;
}

static void on_commit(struct run *r, const struct tap_event *e)
{
    struct slot *s = crew_by_listener(r, e->listener);
    if (s)
        s->commit_in_flight = false;
    if (r->chance && e->conn == r->chance_conn)
        r->chance_is_decided = true;
    if (!str_eq_c(e->topic, r->topic) || e->partition >= book_partitions(r->book))
        return;
    if (e->code != KERR_NONE) {
        r->refused_seen++;
        return;
    }
    r->commits_seen++;
    struct book_partition *bp = book_partition(r->book, e->partition);
    uint64_t now = stage_now_ms();
    if (bp->k != e->offset) {
        r->last_commit_ms = now;
        if (bp->commit_ms && r->feeds && now - bp->commit_ms > r->commit_gap_ms)
            r->commit_gap_ms = now - bp->commit_ms;
        bp->commit_ms = now;
    }
    book_committed(r->book, e->partition, e->offset);
    if (r->chance && e->conn == r->chance_conn &&
        r->n_commits < sizeof r->commits / sizeof *r->commits)
        r->commits[r->n_commits++] = (struct run_commit){e->partition, e->offset};
}

static void on_event(void *user, const struct tap_event *e)
{
    struct run *r = user;
    struct slot *s = crew_by_listener(r, e->listener);
    switch (e->kind) {
    case TAP_CONN_OPEN:
        if (s)
            s->connections++;
        break;
    case TAP_CONN_CLOSED:
        if (s && s->connections > 0)
            s->connections--;
        break;
    case TAP_COMMIT:
        on_commit(r, e);
        break;
    case TAP_SENT:
        if (s && str_eq_c(e->topic, r->topic) && e->partition < book_partitions(r->book))
            book_sent(r->book, e->partition, e->offset, e->end, s->instance);
        break;
    }
}

void watch_begin(struct run *r)
{
    struct tap t = {
        .user = r, .on_request = on_request, .on_response = on_response, .on_event = on_event};
    stage_set_tap(r->stage, &t);
}

void watch_release_held(struct run *r)
{
    r->holds_commits = false;
    for (size_t i = 0; i < r->n_held; i++)
        (void)tap_release(stage_broker(r->stage), r->held[i]);
    r->n_held = 0;
}
