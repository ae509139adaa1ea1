// The copies of a run: started, watched, put out, stopped, and started again as a supervisor would.

#include "broker/broker.h"
#include "core/core.h"
#include "core/group/group.h"
#include "drill/run.h"
#include "os/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#define CLOSE_WAIT_MS 1000 // for the connections of a killed process to be seen closing
#define GONE_MS 1500       // after which a stopped copy's members are put out

static void wake(void *arg, uint32_t events)
{
    (void)arg;
    (void)events;
}

void crew_tell_receipt(struct run *r, int instance, int attempt, int32_t partition, int64_t offset)
{
    char name[16];
    snprintf(name, sizeof name, "%d", instance);
    if (r->real_group)
        ledger_receipt(run_ledger(r), run_time(r), str_from(r->real_group), r->topic_id, partition,
                       offset, str_from(name), (uint32_t)attempt);
}

// Looks at the form of a line. A writer who writes a line and its end apart lets another's line in
// between: two lines in one, and an empty one behind it.
static bool note_form(struct run *r, struct slot *s, struct str line, bool is_evidence)
{
    struct evidence *e = r->o->evidence;
    bool is_mixed = line.len == 0 && s->last_was_odd;
    r->mixed_lines += is_mixed;
    if (!r->script && s->last_line && !is_mixed)
        evidence_learn(e, r->book, str_from(s->last_line));
    free(s->last_line);
    s->last_line = is_evidence ? str_dup(line) : NULL;
    s->last_was_odd = line.len > 0 && evidence_is_odd(e, r->book, line);
    return is_evidence && s->last_was_odd;
}

static void on_line(void *user, struct copy *c, struct str line)
{
    struct run *r = user;
    struct slot *s = c->tag;
    static struct book_spot spots[EVIDENCE_MAX_SPOTS];
    size_t n = evidence_line(r->o->evidence, r->book, line, spots, EVIDENCE_MAX_SPOTS);
    bool is_odd = note_form(r, s, line, n > 0) && r->script;
    if (n == 0)
        return;
    uint64_t now = stage_now_ms();
    if (s->last_line_ms && s->worked > 0 && r->feeds && now - s->last_line_ms > r->slowest_ms &&
        now - s->last_line_ms < 10000)
        r->slowest_ms = now - s->last_line_ms;
    s->last_line_ms = r->last_worked_ms = now;
    if (is_odd && !r->odd_line)
        r->odd_line = str_dup(line);
    for (size_t i = 0; i < n; i++) {
        s->worked++;
        book_worked(r->book, spots[i], s->instance,
                    (r->is_closing ? BOOK_CLOSING : 0U) | (is_odd ? BOOK_ODD : 0U));
        crew_tell_receipt(r, s->instance, c->attempt, spots[i].partition, spots[i].offset);
    }
}

int crew_add(struct run *r, struct slot **ret_slot)
{
    if (r->n_slots == RUN_MAX_SLOTS)
        return run_fail(r, -E2BIG, "more than %d copies", RUN_MAX_SLOTS);
    struct slot *s = &r->slots[r->n_slots];
    *s = (struct slot){.instance = r->n_slots + 1};
    int rc = stage_listen(r->stage, &s->listener, s->address);
    if (rc < 0)
        return run_fail(r, rc, "cannot listen on 127.0.0.1: %s", strerror(-rc));
    char instance[16];
    snprintf(instance, sizeof instance, "%d", s->instance);
    broker_set_instance(stage_broker(r->stage), s->listener, instance);
    r->n_slots++;
    *ret_slot = s;
    return 0;
}

static void forget_members(struct slot *s)
{
    for (size_t i = 0; i < s->n_members; i++)
        free((void *)(uintptr_t)s->members[i].ptr);
    s->n_members = 0;
}

int crew_start(struct run *r, struct slot *s)
{
    CHECK(!s->copy);
    r->plan.on_line = on_line;
    r->plan.user = r;
    forget_members(s);
    book_started(r->book, s->instance);
    s->attempts++;
    char *why = NULL;
    int rc = copy_start(&r->plan, s->instance, s->attempts, s->address, &s->copy, &why);
    if (rc < 0) {
        rc = run_fail(r, -ECANCELED, "%s", why);
        free(why);
        return rc;
    }
    s->copy->tag = s;
    s->is_wanted = true;
    s->last_line_ms = 0;
    struct net *net = stage_net(r->stage);
    rc = net_watch(net, s->copy->out_fd, EPOLLIN, wake, NULL);
    if (rc == 0)
        rc = net_watch(net, s->copy->end_fd, EPOLLIN, wake, NULL);
    return rc < 0 ? run_fail(r, rc, "cannot watch a copy: %s", strerror(-rc)) : 0;
}

// Many loggers write to standard error, which is not looked at as evidence.
static void look_at_errors(struct run *r, const struct copy *c)
{
    struct book_spot spot;
    const char *at = (const char *)c->err_tail.ptr;
    for (size_t left = c->err_tail.len; left > 0;) {
        const char *end = memchr(at, '\n', left);
        size_t len = end ? (size_t)(end - at) : left;
        r->err_lines +=
            evidence_line(r->o->evidence, r->book, (struct str){at, (int32_t)len}, &spot, 1) > 0;
        len += end != NULL;
        at += len;
        left -= len;
    }
}

// The process of the slot is gone, its output read.
static void put_away(struct run *r, struct slot *s)
{
    if (!r->script)
        look_at_errors(r, s->copy);
    char instance[16];
    snprintf(instance, sizeof instance, "%d", s->instance);
    struct net *net = stage_net(r->stage);
    net_unwatch(net, s->copy->out_fd);
    net_unwatch(net, s->copy->end_fd);
    bool killed = WIFSIGNALED(s->copy->wait_status) != 0;
    if (killed)
        book_killed(r->book, s->instance);
    ledger_process_ended(run_ledger(r), run_time(r), str_from(instance), killed);
    if (r->chance == s) {
        r->chance = NULL;
        r->looks_ahead = false;
    }
    copy_free(s->copy);
    s->copy = NULL;
    s->commit_in_flight = false;
    s->ended_ms = stage_now_ms();
}

// Undisturbed it ran; under this drill it dies again and again. That is the drill's finding.
static void give_up(struct run *r, struct slot *s, const char *how, const char *said)
{
    char text[600];
    snprintf(text, sizeof text, "copy %d ended %d times by itself (%s)%s%.200s", s->instance,
             s->crashes, how, *said ? "; the last it said: " : "", said);
    text[strcspn(text, "\n")] = '\0';
    if (!r->gave_up)
        r->gave_up = strdup(text);
    s->is_wanted = false;
    crew_evict(r, s, TAP_SESSION_TIMEOUT);
    r->deadline_ms = stage_now_ms(); // nothing more is waited for
}

// A copy that ended although nobody asked it to.
static int on_crash(struct run *r, struct slot *s)
{
    char text[160];
    snprintf(text, sizeof text, "crash: %s", copy_end_text(s->copy));
    s->crashes++;
    bool is_wordless = s->copy->lines == 0;
    char tail[512];
    size_t len = s->copy->err_tail.len;
    size_t from = len > sizeof tail - 1 ? len - (sizeof tail - 1) : 0;
    memcpy(tail, len ? (char *)s->copy->err_tail.ptr + from : "", len - from);
    tail[len - from] = '\0';
    for (char *end = tail + (len - from); end > tail && strchr("\r\n ", end[-1]);)
        *--end = '\0';
    bool has_joined = s->n_members > 0 || s->worked > 0;
    run_act(r, text, s);
    put_away(r, s);
    if (!has_joined && s->crashes >= 3)
        return run_fail(r, -ECANCELED,
                        "the command ended %d times before it had read a record (%s)%s%s",
                        s->crashes, text + 7,
                        is_wordless && !*tail ? ", saying nothing"
                        : *tail               ? "; the last it said: "
                                              : "",
                        tail);
    if (s->crashes > RUN_MAX_CRASHES && r->script && r->o->control_passed) {
        give_up(r, s, text + 7, tail);
        return 0;
    }
    if (s->crashes > RUN_MAX_CRASHES)
        return run_fail(r, -ECANCELED,
                        "copy %d ended %d times by itself (%s); the last it said: %s", s->instance,
                        s->crashes, text + 7, tail);
    crew_evict(r, s, TAP_SESSION_TIMEOUT);
    return crew_start(r, s);
}

// Members whose process is gone and stays away, and who have not left: static ones, and those of a
// consumer that was not closed. Their session timeout is not waited for.
static void put_out_what_is_gone(struct run *r, struct slot *s)
{
    if (s->n_members == 0 || s->is_wanted || stage_now_ms() - s->ended_ms < GONE_MS)
        return;
    bool is_any = false;
    for (size_t i = 0; r->real_group && i < s->n_members; i++)
        is_any |= tap_evict(stage_broker(r->stage), str_from(r->real_group), s->members[i],
                            TAP_SESSION_TIMEOUT) == KERR_NONE;
    if (is_any)
        run_act(r, "put out (had not left the group)", s);
    forget_members(s);
}

int crew_read(struct run *r)
{
    for (int i = 0; i < r->n_slots; i++) {
        struct slot *s = &r->slots[i];
        if (!s->copy) {
            put_out_what_is_gone(r, s);
            continue;
        }
        copy_read(s->copy);
        if (!copy_reap(s->copy))
            continue;
        if (s->is_wanted && !s->copy->was_told) {
            int rc = on_crash(r, s);
            if (rc < 0)
                return rc;
        } else {
            put_away(r, s);
        }
    }
    return 0;
}

void crew_evict(struct run *r, struct slot *s, enum tap_eviction how)
{
    if (!r->real_group)
        return;
    for (size_t i = 0; i < s->n_members; i++)
        (void)tap_evict(stage_broker(r->stage), str_from(r->real_group), s->members[i], how);
}

int crew_kill(struct run *r, struct slot *s, bool evicts)
{
    if (!s->copy)
        return 0;
    s->is_wanted = false;
    copy_kill(s->copy);
    put_away(r, s);
    uint64_t deadline = stage_now_ms() + CLOSE_WAIT_MS;
    int rc = 0;
    while (rc == 0 && s->connections > 0 && stage_now_ms() < deadline)
        rc = run_pump(r, 5);
    if (rc == 0 && evicts)
        crew_evict(r, s, TAP_SESSION_TIMEOUT);
    return rc;
}

static int wait_ended(struct run *r, struct slot *only)
{
    uint64_t deadline = stage_now_ms() + RUN_STOP_MS;
    for (;;) {
        bool is_any = false;
        for (int i = 0; i < r->n_slots; i++)
            is_any |= r->slots[i].copy && (!only || only == &r->slots[i]);
        if (!is_any)
            return 0;
        int rc = run_pump(r, 10);
        if (rc < 0)
            return rc;
        if (stage_now_ms() < deadline)
            continue;
        for (int i = 0; i < r->n_slots; i++) {
            struct slot *s = &r->slots[i];
            if (!s->copy || (only && only != s))
                continue;
            run_act(r, "kill (did not stop within 10 s)", s);
            rc = crew_kill(r, s, true);
            if (rc < 0)
                return rc;
        }
    }
}

static void tell(struct slot *s)
{
    s->is_wanted = false;
    if (s->copy)
        copy_terminate(s->copy);
}

int crew_stop(struct run *r, struct slot *s)
{
    tell(s);
    return wait_ended(r, s);
}

int crew_stop_all(struct run *r)
{
    for (int i = 0; i < r->n_slots; i++)
        tell(&r->slots[i]);
    return wait_ended(r, NULL);
}

void crew_free(struct run *r)
{
    for (int i = 0; i < r->n_slots; i++) {
        struct slot *s = &r->slots[i];
        if (s->copy) {
            net_unwatch(stage_net(r->stage), s->copy->out_fd);
            net_unwatch(stage_net(r->stage), s->copy->end_fd);
            copy_free(s->copy);
        }
        forget_members(s);
        free(s->last_line);
    }
    copy_kill_strays();
}

struct slot *crew_by_listener(struct run *r, int listener)
{
    for (int i = 0; i < r->n_slots; i++) {
        if (r->slots[i].listener == listener)
            return &r->slots[i];
    }
    return NULL;
}

struct slot *crew_by_instance(struct run *r, int instance)
{
    return instance >= 1 && instance <= r->n_slots ? &r->slots[instance - 1] : NULL;
}

int crew_wanted(const struct run *r)
{
    int n = 0;
    for (int i = 0; i < r->n_slots; i++)
        n += r->slots[i].is_wanted;
    return n;
}

static bool find_group(struct run *r, struct group_view *ret)
{
    return r->real_group &&
           groups_find(broker_core(stage_broker(r->stage)), str_from(r->real_group), ret);
}

bool crew_is_stable(struct run *r)
{
    struct group_view g;
    int wanted = crew_wanted(r);
    bool is_group = r->requests[API_JOIN_GROUP] > 0;
    if (is_group && !find_group(r, &g))
        return false;
    if (is_group) {
        size_t members = (size_t)wanted * (size_t)(r->members_per_copy ? r->members_per_copy : 1);
        if (!str_eq_c(g.state, "Stable") || g.n_members < members ||
            (r->members_per_copy && g.n_members != members))
            return false;
    }
    for (int32_t p = 0; p < book_partitions(r->book); p++) {
        struct slot *s = crew_by_instance(r, book_partition(r->book, p)->fetcher);
        if (!s || !s->copy)
            return false;
    }
    if (!r->members_per_copy && is_group && wanted > 0)
        r->members_per_copy = (int)g.n_members / wanted;
    return true;
}

bool crew_is_empty(struct run *r)
{
    struct group_view g;
    return !find_group(r, &g) || g.n_members == 0;
}

char *crew_story(struct run *r)
{
    struct buf b = {0};
    struct group_view g;
    bool has_group = find_group(r, &g);
    int silent = 0;
    for (int i = 0; i < r->n_slots; i++)
        silent += r->slots[i].is_wanted && !r->slots[i].has_asked;
    if (silent == r->n_slots)
        buf_printf(&b, "no copy has sent a request to the broker; does the command connect to "
                       "TALLY_BOOTSTRAP, or to {bootstrap} in its arguments?");
    else if (silent > 0)
        buf_printf(&b, "%d of %d copies have sent no request to their broker address", silent,
                   r->n_slots);
    else if (has_group)
        buf_printf(&b, "group \"%s\" is %.*s with %zu members of %d copies", r->real_group,
                   STR_FMT(g.state), g.n_members, crew_wanted(r));
    else
        buf_printf(&b, "no copy has joined a group");
    int missing = 0;
    for (int32_t p = 0; p < book_partitions(r->book); p++)
        missing += book_partition(r->book, p)->fetcher == 0;
    if (silent == 0 && missing > 0)
        buf_printf(&b, "; %d of %d partitions of topic \"%s\" are not fetched", missing,
                   book_partitions(r->book), r->topic);
    if (r->other_topic)
        buf_printf(&b, "; the command asked for topic \"%s\": --topic %s makes that one",
                   r->other_topic, r->other_topic);
    buf_add(&b, "", 1);
    return (char *)b.ptr;
}
