// Joining, rebalances, commits and mere connections.
#include "client/load_members.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// The last version that names topics.
#define OFFSET_COMMIT_BY_NAME 9
#define TAG_COMMIT MEMBERS_TAGS
// Members notice a rebalance by their heartbeats: while one is awaited they are this close.
#define CLOSE_BEAT_NS UINT64_C(20000000)

enum group_phase { PHASE_JOIN, PHASE_LEAVE, PHASE_LEAVING, PHASE_REJOIN };

struct group_run {
    struct members members;
    enum group_phase phase;
    uint64_t left_ns;
    int32_t generation_before;
    int version; // of OffsetCommit
    bool commits;
    int64_t begun;
};

static void all_stable(struct group_run *g, uint64_t now)
{
    struct load *l = g->members.load;
    if (g->phase == PHASE_JOIN) {
        l->result->records = g->members.n;
        l->result->seconds = (double)(now - l->start_ns) / 1e9;
        l->is_done = !l->options->rejoin || g->members.n < 2;
        g->phase = PHASE_LEAVE;
    }
}

static void rejoin_tick(struct group_run *g, uint64_t now)
{
    struct members *m = &g->members;
    struct load *l = m->load;
    if (g->phase == PHASE_LEAVE && !m->of[m->n - 1].is_asking) {
        g->left_ns = now;
        g->generation_before = m->generation;
        m->beat_every_ns = CLOSE_BEAT_NS;
        members_leave(m, m->n - 1);
        g->phase = PHASE_LEAVING;
    }
    if (g->phase == PHASE_LEAVING && !m->of[m->n - 1].is_asking) {
        for (int32_t i = 0; i < m->n; i++)
            m->of[i].beat_ns = now + (uint64_t)i * CLOSE_BEAT_NS / (uint64_t)m->n;
        g->phase = PHASE_REJOIN;
    }
    if (g->phase != PHASE_REJOIN || m->n_stable < m->n - 1 || m->generation == g->generation_before)
        return;
    for (int32_t i = 0; i < m->n - 1; i++)
        if (m->of[i].generation != m->generation)
            return;
    l->result->rebalance_ms = (double)(now - g->left_ns) / 1e6;
    l->is_done = true;
}

static void on_stable(struct members *m, int32_t i)
{
    struct load *l = m->load;
    uint64_t now = load_now_ns();
    histogram_add(&l->result->latency, now - m->of[i].asked_ns);
    if (m->n_stable == m->n)
        all_stable((struct group_run *)m, now);
}

static uint64_t group_tick(struct load *l, uint64_t now)
{
    struct group_run *g = l->kind;
    struct members *m = &g->members;
    for (int32_t i = 0; i < m->n; i++)
        if (m->of[i].state == MEMBER_OUT && g->phase == PHASE_JOIN)
            members_join(m, i, now);
    rejoin_tick(g, now);
    return members_beat(m, now);
}

static int run_group(struct group_run *g, const struct load_options *o, struct load *l,
                     struct load_result *ret, char *why)
{
    *ret = (struct load_result){0};
    int result = load_start(l, o, ret, true, why);
    if (result < 0)
        return result;
    result = members_open(&g->members, l, o->members, why);
    g->members.on_stable = on_stable;
    l->start_ns = load_now_ns();
    return result;
}

int load_group(const struct load_options *o, struct load_result *ret, char *why)
{
    struct load l;
    struct group_run g = {0};
    int result = run_group(&g, o, &l, ret, why);
    l.on_tick = group_tick;
    if (result == 0)
        result = load_run(&l, why);
    if (result == 0)
        members_leave_all(&g.members);
    if (l.client) {
        members_close(&g.members);
        load_end(&l);
    }
    return result;
}

// ---- Commits

// Whoever measures takes what it needs and says so with a line.
static void hold(const struct load *l, const char *what)
{
    if (!l->options->hold)
        return;
    puts(what);
    fflush(stdout);
    char c;
    while (read(STDIN_FILENO, &c, 1) > 0 && c != '\n')
        ;
}

static void commit(struct group_run *g, int32_t i, uint64_t now)
{
    struct members *m = &g->members;
    struct load *l = m->load;
    struct member *me = &m->of[i];
    struct offset_commit_request_partition p;
    offset_commit_request_partition_init(&p);
    p.partition_index = me->partition;
    p.committed_offset = me->offset++;
    p.committed_metadata = STR_EMPTY;
    struct offset_commit_request_topic topic;
    offset_commit_request_topic_init(&topic);
    topic.name = l->topic.name;
    topic.partitions = &p;
    topic.n_partitions = 1;
    struct offset_commit_request request;
    offset_commit_request_init(&request);
    request.group_id = me->group;
    request.generation_id_or_member_epoch = me->generation;
    request.member_id = str_from(me->id);
    request.topics = &topic;
    request.n_topics = 1;
    me->is_asking = true;
    g->begun++;
    (void)now;
    load_ask(&l->conns[i], API_OFFSET_COMMIT, g->version, &request, TAG_COMMIT);
}

static bool commits_are_over(const struct group_run *g, uint64_t now)
{
    const struct load *l = g->members.load;
    return l->options->records ? g->begun >= l->options->records : now >= l->end_ns;
}

static void on_commit(struct members *m, int32_t i, const struct load_sent *s, struct bytes frame)
{
    struct group_run *g = (struct group_run *)m;
    struct load *l = m->load;
    struct offset_commit_response r;
    if (!load_answer(&l->conns[i], API_OFFSET_COMMIT, g->version, frame, &r))
        return;
    uint64_t now = load_now_ns();
    int16_t error = r.n_topics == 1 && r.topics[0].n_partitions == 1
                        ? r.topics[0].partitions[0].error_code
                        : (int16_t)KERR_UNKNOWN_SERVER_ERROR;
    if (error)
        load_fail(l, -EREMOTEIO, "commit: %s", kerr_name(error));
    histogram_add(&l->result->latency, now - s->at_ns);
    l->result->records++;
    l->result->seconds = (double)(now - l->start_ns) / 1e9;
    m->of[i].beat_ns = now + m->beat_every_ns;
    if (!commits_are_over(g, now))
        commit(g, i, now);
    else
        l->is_done = l->result->records >= g->begun;
}

static uint64_t commit_tick(struct load *l, uint64_t now)
{
    struct group_run *g = l->kind;
    struct members *m = &g->members;
    if (g->phase == PHASE_JOIN)
        return group_tick(l, now);
    if (!g->commits && m->n_stable == m->n) {
        g->commits = true;
        *l->result = (struct load_result){0};
        hold(l, "joined");
        now = load_now_ns();
        l->start_ns = now;
        l->end_ns = now + (uint64_t)(l->options->seconds * 1e9);
    }
    for (int32_t i = 0; g->commits && i < m->n && g->begun < m->n; i++)
        if (!m->of[i].is_asking && m->of[i].state == MEMBER_STABLE && m->of[i].offset == 0)
            commit(g, i, now);
    return g->begun < m->n ? now + 1000000u : members_beat(m, now);
}

int load_commit(const struct load_options *o, struct load_result *ret, char *why)
{
    struct load l;
    struct group_run g = {0};
    struct load_options mine = *o;
    mine.rejoin = true; // goes on once all are in
    int result = run_group(&g, &mine, &l, ret, why);
    l.on_tick = commit_tick;
    g.members.on_other = on_commit;
    if (result == 0) {
        g.version = load_version(&l, API_OFFSET_COMMIT, OFFSET_COMMIT_BY_NAME);
        result = load_run(&l, why);
    }
    if (result == 0) {
        hold(&l, "committed");
        members_leave_all(&g.members);
    }
    if (l.client) {
        members_close(&g.members);
        load_end(&l);
    }
    return result;
}

// ---- Connections

static void on_versions(struct load_conn *c, const struct load_sent *s, struct bytes frame)
{
    struct load *l = c->load;
    (void)frame;
    histogram_add(&l->result->latency, load_now_ns() - s->at_ns);
    l->result->records++;
    l->is_done = true;
}

// One after the other: how long until a new connection has its first answer.
int load_connect(const struct load_options *o, struct load_result *ret, char *why)
{
    struct load l;
    *ret = (struct load_result){0};
    int result = load_start(&l, o, ret, false, why);
    if (result < 0)
        return result;
    l.on_answer = on_versions;
    l.conns = calloc((size_t)o->connections, sizeof *l.conns);
    CHECK(l.conns);
    l.start_ns = load_now_ns();
    for (int32_t i = 0; result == 0 && i < o->connections; i++) {
        struct api_versions_request request;
        api_versions_request_init(&request);
        request.client_software_name = STR("tally-bench");
        request.client_software_version = STR("1");
        uint64_t before = load_now_ns();
        result = load_open_one(&l, i, CLIENT_ANY_NODE, why);
        if (result < 0)
            break;
        load_ask(&l.conns[i], API_API_VERSIONS, 3, &request, 0);
        l.conns[i].sent[0].at_ns = before;
        l.n_conns = i + 1;
        l.is_done = false;
        result = load_run(&l, why);
    }
    ret->seconds = (double)(load_now_ns() - l.start_ns) / 1e9;
    char line[64];
    if (result == 0 && o->hold) {
        fputs("open\n", stdout);
        fflush(stdout);
        while (read(STDIN_FILENO, line, sizeof line) > 0)
            ;
    }
    load_end(&l);
    return result;
}
