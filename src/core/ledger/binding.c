// Whose Fetch is it? Ties (connection, partition) to (group, member, spell).

#include "core/ledger/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/bug.h"

struct feed_key {
    struct uuid topic_id;
    int32_t partition;
};

static struct bytes key_of(const struct feed_key *k)
{
    return (struct bytes){(const uint8_t *)k, sizeof *k};
}

struct feed *find_feed(const struct conn *c, const struct tp *tp)
{
    struct feed_key k = {tp->topic->id, tp->partition};
    return map_get(c->feeds, key_of(&k));
}

struct feed *get_feed(struct conn *c, struct tp *tp)
{
    struct feed *f = find_feed(c, tp);
    if (f)
        return f;
    f = calloc(1, sizeof *f);
    CHECK(f);
    f->conn = c;
    f->tp = tp;
    f->position = f->listed[0] = f->listed[1] = f->first_p = f->repeat_k = -1;
    struct feed_key k = {tp->topic->id, tp->partition};
    map_put(c->feeds, key_of(&k), f);
    tp->feeds = more(tp->feeds, tp->n_feeds, sizeof(struct feed *));
    tp->feeds[tp->n_feeds++] = f;
    return f;
}

void tp_unowned(struct tp *tp, struct ledger_range r)
{
    struct ledger_range *u = &tp->unowned;
    bool none = u->from >= u->to;
    u->from = none || r.from < u->from ? r.from : u->from;
    u->to = none || r.to > u->to ? r.to : u->to;
}

void feed_free(struct feed *f)
{
    struct tp *tp = f->tp;
    for (size_t i = 0; i < f->n_kept; i++)
        tp_unowned(tp, f->kept[i]);
    for (size_t i = 0; i < tp->n_feeds; i++)
        if (tp->feeds[i] == f) {
            tp->feeds[i] = tp->feeds[--tp->n_feeds];
            break;
        }
    free(f);
}

static struct member *latest(struct member *m)
{
    // A chain of successors is as long as the rejoins of one client; a bound keeps a loop that
    // should not exist from hanging the broker.
    for (int i = 0; m && !m->live && m->successor && i < 1000; i++)
        m = m->successor;
    return m;
}

void conn_name_member(struct conn *c, struct member *m)
{
    if (c->bound == m)
        return;
    if (c->bound && c->bound != c->own && c->bound->n_conns)
        c->bound->n_conns--;
    c->bound = m;
    if (m != c->own)
        m->n_conns++;
    m->had_conn = true;
}

// The one live member that the drill copy of this name holds; NULL when none or several. Several
// ended ones are one after the other: the last is meant.
static struct member *of_instance(struct ledger *l, struct str instance, bool *ret_several)
{
    struct member *live = NULL, *ended = NULL;
    void *item;
    *ret_several = false;
    for (size_t it = 0; map_next(l->groups, &it, NULL, &item);) {
        struct group *g = item;
        for (size_t i = 0; i < g->n_members; i++) {
            struct member *m = g->members[i];
            if (!str_eq(m->instance, instance))
                continue;
            // One that was killed is a member until its session ends, but it holds nothing.
            bool here = m->live && (m->n_conns || !m->had_conn);
            if (here && live)
                *ret_several = true;
            if (here)
                live = m;
            else if (!ended || m->seen_ms >= ended->seen_ms)
                ended = m;
        }
    }
    return live ? live : ended;
}

// Whose connection it is beyond doubt.
static struct member *certain_member(struct ledger *l, struct conn *c)
{
    if (c->own && !c->own_mixed)
        return c->own;
    if (c->instance.len <= 0)
        return NULL;
    bool several;
    struct member *m = of_instance(l, c->instance, &several);
    return several ? NULL : m;
}

static bool spell_fits(const struct spell *s, const struct conn *c)
{
    if (s->manual || !s->member)
        return false;
    if (s->member->instance.len > 0 && c->instance.len > 0 &&
        !str_eq(s->member->instance, c->instance))
        return false;
    return same_identity(&s->member->who, &c->who);
}

static struct spell *spell_of_identity(const struct gp *gp, const struct conn *c)
{
    for (size_t i = gp->n_spells; i-- > 0;)
        if (gp->spells[i]->life != SPELL_ENDED && spell_fits(gp->spells[i], c))
            return gp->spells[i];
    return NULL;
}

// An owner that was put out since the connection was opened, and whose connection it may be: it
// may go on to fetch, so that the connection does not become another group's by its going.
static bool may_be_ended(struct ledger *l, const struct gp *gp, const struct conn *c)
{
    for (size_t i = gp->n_spells; i-- > 0;) {
        const struct spell *s = gp->spells[i];
        if (s->life == SPELL_ENDED && s->ended_ms >= c->opened_ms && spell_fits(s, c) &&
            !(s->conn && s->conn != c->id && find_conn(l, s->conn)))
            return true;
    }
    return false;
}

bool feed_was_told(const struct feed *f, int64_t p)
{
    return f->listed[0] == p || f->listed[1] == p;
}

static void feed_told(struct feed *f, int64_t offset)
{
    f->listed[1] = f->listed[0];
    f->listed[0] = offset;
}

// A group that keeps its offsets itself needs nobody to tell it where it was. That somebody listed
// the same end of the log who looks like it, and watches its lag, says nothing.
static bool goes_on_elsewhere(const struct gp *gp, int64_t p)
{
    return gp->k_external && gp->first >= 0 && p >= gp->k && p <= runs_sent_end(gp);
}

// ListOffsets may have been asked on another connection of the same client.
static void borrow_listed(const struct gp *gp, struct feed *f, int64_t p)
{
    if (goes_on_elsewhere(gp, p))
        return;
    for (size_t i = 0; i < f->tp->n_feeds && !feed_was_told(f, p); i++) {
        const struct feed *other = f->tp->feeds[i];
        if (!feed_was_told(other, p) || !same_identity(&other->conn->who, &f->conn->who))
            continue;
        feed_told(f, p);
        f->out_of_range = f->out_of_range || other->out_of_range;
    }
}

// An owner of this partition was told to begin there.
static bool is_start(const struct gp *gp, const struct feed *f, int64_t p)
{
    return gp->asked == p ||
           (feed_was_told(f, p) && (gp->asked == -1 || gp->asked == -3 || f->out_of_range));
}

static bool explained(const struct gp *gp, const struct spell *s, const struct feed *f, int64_t p)
{
    if (is_start(gp, f, p))
        return true;
    int64_t sent = s->zone.to > s->sent_end ? s->zone.to : s->sent_end;
    if (gp->first >= 0 && runs_sent_end(gp) > sent)
        sent = runs_sent_end(gp);
    return gp->k >= 0 && p >= gp->k && p <= (sent > gp->k ? sent : gp->k);
}

static void feed_send(struct feed *f, struct ledger_range r)
{
    spell_send(f->gp, find_spell(f->gp, f->spell), r.from, r.to);
}

// What was sent before it was known to whom, if it was sent since the spell began.
static void settle_kept(struct feed *f, struct spell *s)
{
    size_t n = f->n_kept;
    f->n_kept = 0;
    bool is_its = f->first_ms >= s->began_ms;
    for (size_t i = 0; i < n; i++) {
        if (is_its)
            feed_send(f, f->kept[i]);
        else
            tp_unowned(f->tp, f->kept[i]);
    }
}

static void bind(struct feed *f, struct gp *gp, struct spell *s, enum ledger_certainty grade)
{
    f->kind = FEED_BOUND;
    f->gp = gp;
    f->spell = s->id;
    s->conn = f->conn->id;
    s->ack_final = false;
    if (grade < s->attribution)
        s->attribution = grade;
    if (s->member)
        conn_name_member(f->conn, s->member);
    if (f->n_kept && f->first_ms >= s->began_ms && f->first_p >= 0)
        spell_position(gp, s, f, f->first_p);
    settle_kept(f, s);
}

static void make_late(struct feed *f, struct gp *gp, struct spell *s)
{
    f->kind = FEED_LATE;
    f->gp = gp;
    f->spell = s->id;
}

// The connection is this member's: its spell of the partition, or a late fetch of what it had.
static bool resolve_member(struct feed *f, struct member *m, enum ledger_certainty grade)
{
    struct gp *gp = find_gp(m->group, f->tp);
    struct spell *s = gp ? spell_of(gp, m) : NULL;
    if (s) {
        bind(f, gp, s, grade);
        return true;
    }
    for (size_t i = gp ? gp->n_spells : 0; i-- > 0;)
        if (gp->spells[i]->member == m ||
            (gp->spells[i]->member && latest(gp->spells[i]->member) == m)) {
            make_late(f, gp, gp->spells[i]);
            return true;
        }
    return false;
}

// A group that never had members and commits under this identity: by nothing else is its reader
// told from another group's.
static bool may_be_manual(const struct gp *gp, const struct conn *c)
{
    return gp->group->n_members == 0 && group_knows(gp->group, &c->who);
}

// Another group has, or just had, an owner that looks the same.
static bool fits_another(struct ledger *l, const struct gp *gp, const struct conn *c)
{
    for (size_t i = 0; i < gp->tp->n_gps; i++) {
        const struct gp *other = gp->tp->gps[i];
        if (other != gp &&
            (spell_of_identity(other, c) || may_be_ended(l, other, c) || may_be_manual(other, c)))
            return true;
    }
    return false;
}

// Does another connection serve the spell, and did it ask lately?
static bool is_served(struct ledger *l, const struct feed *f, const struct spell *s)
{
    const struct conn *c = s->conn && s->conn != f->conn->id ? find_conn(l, s->conn) : NULL;
    const struct feed *other = c ? find_feed(c, f->tp) : NULL;
    return other && l->now.now_ms - other->position_ms <= TAKEOVER_MS;
}

// An owner's identity fits. Nobody is bound when owners of several groups fit, or when another
// connection already serves this spell as well as this one would.
static void resolve_identity(struct ledger *l, struct feed *f, int64_t p)
{
    struct gp *gp = NULL;
    struct spell *s = NULL;
    for (size_t i = 0; i < f->tp->n_gps; i++) {
        struct spell *fits = spell_of_identity(f->tp->gps[i], f->conn);
        if (!fits && !may_be_ended(l, f->tp->gps[i], f->conn) &&
            !may_be_manual(f->tp->gps[i], f->conn))
            continue;
        if (s || !fits)
            return;
        gp = f->tp->gps[i];
        s = fits;
    }
    if (!s)
        return;
    // What tells is where it began, not where it is by now.
    int64_t start = f->n_kept ? f->first_p : p;
    borrow_listed(gp, f, start);
    enum ledger_certainty grade = explained(gp, s, f, start) ? LEDGER_LIKELY : LEDGER_POSSIBLE;
    bool taken = s->conn && s->conn != f->conn->id && find_conn(l, s->conn);
    if (taken && grade == LEDGER_POSSIBLE)
        return;
    if (taken && s->attribution > LEDGER_POSSIBLE && is_served(l, f, s))
        return;
    bind(f, gp, s, grade);
}

static bool has_other_data_conn(const struct ledger *l, const struct member *m,
                                const struct conn *c)
{
    void *item;
    for (size_t it = 0; map_next(l->conns, &it, NULL, &item);) {
        const struct conn *other = item;
        if (other != c && other->bound == m)
            return true;
    }
    return false;
}

static bool is_alone_of_its_identity(const struct member *m)
{
    const struct group *g = m->group;
    for (size_t i = 0; i < g->n_members; i++)
        if (g->members[i] != m && g->members[i]->live &&
            same_identity(&g->members[i]->who, &m->who))
            return false;
    return true;
}

// A client that lost its session joins under a new id, and after a restart of the broker by a
// group connection that its former id never used: nothing but its data connection, which came back
// before, goes from one to the other. So where no group connection speaks for the former id any
// more, whoever joined since, looks the same, owns the partition and has no data connection yet, or
// one that only may be its, is that client, if it begins where the partition's owner was told to,
// or where there is no choice: no other member looks so, no other connection was the former's.
static struct member *heir_of(const struct ledger *l, struct feed *f, const struct member *m,
                              int64_t p)
{
    const struct gp *gp = find_gp(m->group, f->tp);
    const struct spell *s = gp ? spell_of_identity(gp, f->conn) : NULL;
    struct member *heir = s ? s->member : NULL;
    if (!heir || m->live || m->n_own || m->successor || heir->born_ms < f->conn->opened_ms)
        return NULL;
    bool is_taken = has_other_data_conn(l, heir, f->conn);
    borrow_listed(gp, f, p);
    if (is_start(gp, f, p))
        return is_taken && s->attribution > LEDGER_POSSIBLE ? NULL : heir;
    return !is_taken && m->n_conns <= 1 && is_alone_of_its_identity(heir) ? heir : NULL;
}

// A manual owner goes on where it asked last, behind what it was sent then, or, after a crash of
// the broker, behind what it may have been sent.
static bool goes_on(const struct spell *s, int64_t p)
{
    bool may_be_more = s->zone.from < s->zone.to && p > s->sent_end && p <= s->zone.to;
    return s->position >= 0 && (p == s->position || p == s->sent_end || may_be_more);
}

// A manual owner that comes back on another connection, where it was.
static bool resolve_manual(struct feed *f, int64_t p)
{
    for (size_t i = 0; i < f->tp->n_gps; i++) {
        struct gp *gp = f->tp->gps[i];
        struct spell *s = gp->n_spells ? gp->spells[gp->n_spells - 1] : NULL;
        if (!s || !s->manual || !goes_on(s, p) || (s->conn && s->life != SPELL_ENDED))
            continue;
        struct ledger_identity who = {s->principal, s->party.host, s->party.client_id,
                                      s->party.software};
        if (!same_identity(&who, &f->conn->who) || fits_another(gp->group->l, gp, f->conn))
            continue;
        s->life = SPELL_OPEN;
        bind(f, gp, s, LEDGER_LIKELY);
        return true;
    }
    return false;
}

void feed_resolve(struct ledger *l, struct feed *f, int64_t p)
{
    bool was_bound = f->kind == FEED_BOUND;
    const struct spell *s = was_bound ? find_spell(f->gp, f->spell) : NULL;
    f->version = l->bindings;
    if (s && s->life != SPELL_ENDED && (s->manual || s->conn == f->conn->id)) {
        const struct member *own = f->conn->own_mixed ? NULL : f->conn->own;
        if (!own || own == s->member)
            return;
    }
    f->kind = FEED_UNBOUND;
    struct member *m = certain_member(l, f->conn);
    if (m && resolve_member(f, m, LEDGER_CERTAIN))
        return;
    if (m && f->conn->instance.len > 0 && m->live)
        return;
    // A connection bound to a member is no candidate for another while it is open.
    if (f->conn->bound) {
        m = latest(f->conn->bound);
        struct member *heir = heir_of(l, f, m, p);
        if (heir)
            m = m->successor = heir;
        resolve_member(f, m, LEDGER_LIKELY);
        return;
    }
    if (resolve_manual(f, p))
        return;
    resolve_identity(l, f, p);
}

bool manual_bind(struct gp *gp, const struct ledger_commit *c)
{
    struct feed *found = NULL;
    for (size_t i = 0; i < gp->tp->n_feeds; i++) {
        struct feed *f = gp->tp->feeds[i];
        if (f->kind != FEED_UNBOUND || !f->n_kept || f->conn->bound ||
            !same_identity(&f->conn->who, &c->who) || c->offset < f->kept[0].from ||
            c->offset > f->kept[f->n_kept - 1].to)
            continue;
        if (found)
            return false;
        found = f;
    }
    if (!found || fits_another(gp->group->l, gp, found->conn))
        return false;
    struct spell *s = spell_begin(gp, NULL);
    s->manual = true;
    s->party = (struct ledger_party){STR_NULL, keep(c->who.client_id), keep(c->who.host),
                                     keep(c->who.software)};
    s->principal = keep(c->who.principal);
    s->began_ms = found->first_ms;
    group_had_identity(gp->group, &c->who);
    // It may have read before it was known.
    gp_uncover(gp, gp->k > gp->base ? gp->k : gp->base, found->first_p);
    bind(found, gp, s, LEDGER_LIKELY);
    found->version = gp->group->l->bindings;
    return true;
}

void manual_unsure(struct gp *gp, const struct ledger_commit *c, int64_t from)
{
    // A group without members reads what it commits, whoever else it looked like.
    if (gp->group->n_members == 0)
        gp_uncover(gp, from, c->offset);
    for (size_t i = 0; i < gp->tp->n_feeds; i++) {
        const struct feed *f = gp->tp->feeds[i];
        if (f->kind != FEED_UNBOUND || !same_identity(&f->conn->who, &c->who))
            continue;
        for (size_t j = 0; j < f->n_kept; j++)
            gp_uncover(gp, f->kept[j].from, f->kept[j].to);
    }
}

// Is all that this owner is sent known to be sent to it? Not when its fetches were never seen, or
// when an owner in another group looks the same.
static bool is_told_apart(const struct gp *gp, const struct spell *s)
{
    if (!s || !s->member || s->first_p < 0)
        return false;
    for (size_t i = 0; i < gp->tp->n_gps; i++) {
        const struct gp *other = gp->tp->gps[i];
        for (size_t j = 0; other != gp && j < other->n_spells; j++) {
            const struct member *m = other->spells[j]->member;
            if (m && same_identity(&m->who, &s->member->who))
                return false;
        }
    }
    return true;
}

void gp_uncover_unowned(struct gp *gp, const struct spell *by, int64_t from, int64_t to)
{
    const struct tp *tp = gp->tp;
    if (gp->group->n_members > 0 && (!by || is_told_apart(gp, by)))
        return;
    for (size_t i = 0; i <= tp->n_feeds; i++) {
        const struct feed *f = i < tp->n_feeds ? tp->feeds[i] : NULL;
        if (f && f->kind != FEED_UNBOUND)
            continue;
        for (size_t j = 0; j < (f ? f->n_kept : 1); j++) {
            struct ledger_range r = f ? f->kept[j] : tp->unowned;
            gp_uncover(gp, r.from > from ? r.from : from, r.to < to ? r.to : to);
        }
    }
}

static void keep_range(struct feed *f, struct ledger_range r)
{
    if (!f->n_kept) {
        f->first_ms = f->position_ms;
        f->first_p = f->position;
    }
    struct ledger_range *last = f->n_kept ? &f->kept[f->n_kept - 1] : NULL;
    if (last && r.from <= last->to && r.to >= last->from) {
        last->from = r.from < last->from ? r.from : last->from;
        last->to = r.to > last->to ? r.to : last->to;
        return;
    }
    if (f->n_kept == KEPT_MAX) {
        tp_unowned(f->tp, f->kept[0]);
        memmove(f->kept, f->kept + 1, (KEPT_MAX - 1) * sizeof *f->kept);
        f->n_kept--;
    }
    f->kept[f->n_kept++] = r;
}

// Somebody who might be a member of these groups was sent this, and we cannot tell.
static void unbound_send(struct feed *f, struct ledger_range r)
{
    keep_range(f, r);
    if (bug(BUG_FORGET_UNBOUND))
        return;
    for (size_t i = 0; i < f->tp->n_gps; i++) {
        struct gp *gp = f->tp->gps[i];
        const struct spell *s = open_spell(gp);
        // An owner that nothing was sent to yet may fetch under a name that we do not expect.
        bool owner_unseen = s && !s->manual && !s->sent_any;
        if (owner_unseen || group_knows(gp->group, &f->conn->who))
            gp_uncover(gp, r.from, r.to);
    }
}

// To the owner, now or before, that it most likely is; another group's reader may look the same.
static void shared_send(const struct feed *f, struct ledger_range r)
{
    tp_unowned(f->tp, r);
    for (size_t i = 0; i < f->tp->n_gps; i++) {
        struct gp *gp = f->tp->gps[i];
        if (gp != f->gp && may_be_manual(gp, f->conn))
            gp_uncover(gp, r.from, r.to);
    }
}

// What nobody, or only somebody before it, was sent as well: it is not in n, and n is not all.
static void flag_late(struct gp *gp, const struct spell *s, struct ledger_range r)
{
    int64_t from = r.from > gp->base ? r.from : gp->base;
    if (gp->first < 0 || from >= r.to)
        return;
    run_split(gp, from);
    run_split(gp, r.to);
    for (size_t i = run_at(gp, from); i < gp->n_runs && gp->runs[i].from < r.to; i++)
        if (gp->runs[i].spell < s->id)
            gp->runs[i].flags |= RUN_LATE;
    runs_merge(gp);
    runs_fold(gp);
}

// To a former owner. What was on its way when an orderly spell ended is thrown away; one that was
// put out, or is frozen, may work on it yet.
static void late_send(struct feed *f, struct ledger_range r)
{
    struct gp *gp = f->gp;
    const struct spell *s = find_spell(gp, f->spell);
    bool was_asked = s && f->position_ms > s->ended_ms;
    if (s) {
        runs_flag(gp, r.from, r.to, RUN_LATE, true);
        incidents_doubt(gp, r.from, r.to); // it may work on what was passed over as never sent
    }
    if (!s || (!was_asked && s->orderly))
        return;
    flag_late(gp, s, r);
    if (gp->late_spell == f->spell && r.from <= gp->late.to && r.to >= gp->late.from) {
        gp->late.from = r.from < gp->late.from ? r.from : gp->late.from;
        gp->late.to = r.to > gp->late.to ? r.to : gp->late.to;
        gp->late_asked = gp->late_asked || was_asked;
    } else {
        gp->late = r;
        gp->late_spell = f->spell;
        gp->late_asked = was_asked;
    }
    if (gp->first < 0 || r.to <= gp->base)
        return;
    // Whoever came after it may have been sent the same, also one that has ended meanwhile.
    for (size_t i = run_at(gp, r.from > gp->base ? r.from : gp->base);
         i < gp->n_runs && gp->runs[i].from < r.to; i++) {
        struct spell *after = find_spell(gp, gp->runs[i].spell);
        if (after && after->id > s->id)
            judge_late(gp, after, r.from > gp->runs[i].from ? r.from : gp->runs[i].from, r.to);
    }
}

static struct conn *conn_of(struct ledger *l, uint64_t id)
{
    if (!l->last_conn || l->last_conn->id != id)
        l->last_conn = find_conn(l, id);
    return l->last_conn;
}

static void same_again(struct feed *f, struct spell *s, int64_t p)
{
    struct gp *gp = f->gp;
    if (p > f->position || f->repeat_k != gp->k)
        f->repeats = 0;
    f->repeat_k = gp->k;
    bool stuck = p == (gp->k >= 0 ? gp->k : s->first_p) && !gp->k_external;
    if (p > f->position || !f->sent_since || !stuck)
        return;
    if (++f->repeats < LOOP_FETCHES)
        return;
    struct incident *in = incident_open(gp->group, gp, LEDGER_STALLED, CAUSE_RETRY_LOOP, p,
                                        s->sent_end, s->id, s->id);
    if (!in)
        return;
    in->v.attribution = in->v.certainty = s->attribution;
    if (in->v.n_evidence == 0)
        incident_prove(in, "Fetch", gp->group->l->now.wall_ms,
                       "offset %lld was asked for again %u times and answered, committed stood "
                       "still",
                       (long long)p, f->repeats);
}

// An ended owner that asks for more has got what it was sent before.
static void late_position(struct feed *f, int64_t p)
{
    struct spell *s = find_spell(f->gp, f->spell);
    if (!s || p <= s->confirmed_end || p > s->sent_end)
        return;
    s->confirmed_end = p;
    if (s->watched)
        incidents_recheck(f->gp, s->id);
}

void ledger_position(struct ledger *l, struct ledger_time t, uint64_t conn, struct uuid topic_id,
                     int32_t partition, int64_t position)
{
    l->now = t;
    struct conn *c = conn_of(l, conn);
    struct tp *tp = c && !l->off ? get_tp(l, topic_id, partition) : NULL;
    if (!tp)
        return;
    struct feed *f = get_feed(c, tp);
    if (f->version != l->bindings || f->kind == FEED_UNBOUND)
        feed_resolve(l, f, position);
    struct spell *s = f->kind == FEED_BOUND ? find_spell(f->gp, f->spell) : NULL;
    if (s) {
        same_again(f, s, position);
        if (s->first_p < 0)
            borrow_listed(f->gp, f, position);
        spell_position(f->gp, s, f, position);
        f->out_of_range = false; // it led here, and nowhere else
    } else if (f->kind == FEED_LATE) {
        late_position(f, position);
    }
    f->position = position;
    f->position_ms = t.now_ms;
    f->sent_since = false;
}

void ledger_sending(struct ledger *l, struct ledger_time t, uint64_t conn, struct uuid topic_id,
                    int32_t partition, struct ledger_range range, uint64_t answer)
{
    l->now = t;
    struct conn *c = conn_of(l, conn);
    struct tp *tp = c && !l->off ? find_tp(l, topic_id, partition) : NULL;
    struct feed *f = tp ? find_feed(c, tp) : NULL;
    if (!f)
        return;
    if (range.from < f->position && !bug(BUG_COUNT_BELOW_POSITION))
        range.from = f->position;
    if (range.from >= range.to)
        return;
    f->sent_since = true;
    // The answer to a fetch that was parked while the partition changed hands is its asker's.
    struct spell *s = f->kind == FEED_BOUND ? find_spell(f->gp, f->spell) : NULL;
    if (s && s->life == SPELL_ENDED) {
        f->kind = FEED_LATE;
        s = NULL;
    }
    memmove(f->last + 1, f->last, sizeof f->last - sizeof f->last[0]);
    f->last[0] = (struct sent_answer){answer, range, s ? spell_fresh(f->gp, s, range) : range};
    bool is_own = c->own && !c->own_mixed;
    if (s ? s->attribution < LEDGER_CERTAIN : f->kind == FEED_LATE && !is_own)
        shared_send(f, range);
    if (s)
        spell_send(f->gp, s, range.from, range.to);
    else if (f->kind == FEED_LATE)
        late_send(f, range);
    else
        unbound_send(f, range);
}

void ledger_answer_acked(struct ledger *l, uint64_t conn, uint64_t answer)
{
    struct conn *c = find_conn(l, conn);
    void *item;
    for (size_t it = 0; c && map_next(c->feeds, &it, NULL, &item);) {
        struct feed *f = item;
        struct spell *s = f->kind != FEED_UNBOUND ? find_spell(f->gp, f->spell) : NULL;
        for (size_t i = 0; s && i < sizeof f->last / sizeof *f->last; i++)
            if (f->last[i].range.to > s->acked_end && f->last[i].answer <= answer)
                s->acked_end =
                    f->last[i].range.to < s->sent_end ? f->last[i].range.to : s->sent_end;
        if (s && s->watched)
            incidents_recheck(f->gp, s->id);
    }
}

// Nobody got [end, ...) of it.
static void take_back(struct gp *gp, struct spell *s, const struct sent_answer *a, int64_t end)
{
    spell_unsend(gp, s, end > a->fresh.from ? end : a->fresh.from, a->fresh.to);
    // Behind a hole which that filled there may be more that was sent for the first time.
    gp_uncover(gp, end > a->fresh.to ? end : a->fresh.to, a->range.to);
}

void ledger_answer_cut(struct ledger *l, uint64_t conn, uint64_t answer, struct uuid topic_id,
                       int32_t partition, int64_t end)
{
    struct conn *c = find_conn(l, conn);
    struct tp *tp = c ? find_tp(l, topic_id, partition) : NULL;
    struct feed *f = tp ? find_feed(c, tp) : NULL;
    struct spell *s = f && f->kind != FEED_UNBOUND ? find_spell(f->gp, f->spell) : NULL;
    for (size_t i = 0; f && i < sizeof f->last / sizeof *f->last; i++) {
        struct sent_answer *a = &f->last[i];
        if (a->answer != answer || a->range.to <= end)
            continue;
        if (s && f->kind == FEED_BOUND)
            take_back(f->gp, s, a, end);
        a->range.to = end > a->range.from ? end : a->range.from;
    }
}

void ledger_list_offsets(struct ledger *l, struct ledger_time t, uint64_t conn,
                         struct uuid topic_id, int32_t partition, int64_t timestamp, int64_t offset)
{
    (void)timestamp;
    l->now = t;
    struct conn *c = find_conn(l, conn);
    struct tp *tp = c ? get_tp(l, topic_id, partition) : NULL;
    if (tp && offset >= 0)
        feed_told(get_feed(c, tp), offset);
}

void ledger_out_of_range(struct ledger *l, struct ledger_time t, uint64_t conn,
                         struct uuid topic_id, int32_t partition, int64_t position)
{
    l->now = t;
    struct conn *c = find_conn(l, conn);
    struct tp *tp = c ? get_tp(l, topic_id, partition) : NULL;
    struct feed *f = tp ? get_feed(c, tp) : NULL;
    if (!f)
        return;
    f->out_of_range = true;
    struct spell *s = f->kind == FEED_BOUND ? find_spell(f->gp, f->spell) : NULL;
    // The position it was refused is no start: where the reset leads is.
    if (s) {
        runs_thrown(f->gp, s, position);
        s->first_p = -1;
        s->zone = (struct ledger_range){0, 0};
    }
}
