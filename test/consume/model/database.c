#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Row locks and visibility as PostgreSQL has them at "read committed"; one writer at a time, as
// SQLite has it.

#define MAX_ROWS 64 // of one transaction
#define NO_ROW -2

struct row {
    int32_t partition;
    int64_t offset;
    int64_t epoch;
    bool is_new; // of the topic made again
};

struct offset_row {
    int64_t next; // NO_ROW
    int64_t epoch;
};

// In the server: it can outlive the client that opened it.
struct session {
    struct session *following;
    bool is_cut;     // the client has gone
    bool has_commit; // and its COMMIT is still on its way
    bool is_open;    // in a transaction
    uint32_t locks;  // of partitions' rows
    uint32_t changed;
    struct offset_row mine[MODEL_PARTITIONS];
    struct row rows[MAX_ROWS];
    size_t n_rows;
};

static struct {
    struct session *sessions;
    struct session *writer; // SQLite
    struct offset_row offsets[MODEL_PARTITIONS];
    int seen[MODEL_PARTITIONS][MODEL_RECORDS];
    int64_t last[MODEL_PARTITIONS];
} db;

struct model_sink {
    struct sink base;
    struct copy *copy;
};

static struct copy *copy_of(struct sink *s)
{
    return ((struct model_sink *)s)->copy;
}

void database_reset(void)
{
    while (db.sessions) {
        struct session *s = db.sessions;
        db.sessions = s->following;
        free(s);
    }
    memset(&db, 0, sizeof db);
    for (int p = 0; p < MODEL_PARTITIONS; p++) {
        db.offsets[p].next = NO_ROW;
        db.last[p] = -1;
    }
}

static void end(struct session *s)
{
    s->is_open = false;
    s->locks = s->changed = 0;
    s->n_rows = 0;
    if (db.writer == s)
        db.writer = NULL;
}

static void forget(struct session *s)
{
    struct session **at = &db.sessions;
    while (*at != s)
        at = &(*at)->following;
    *at = s->following;
    free(s);
}

static void apply(struct session *s)
{
    for (size_t i = 0; i < s->n_rows; i++) {
        const struct row *r = &s->rows[i];
        int64_t now = s->changed & 1u << r->partition ? s->mine[r->partition].epoch
                                                      : db.offsets[r->partition].epoch;
        if (db.seen[r->partition][r->offset]++)
            model_wrong("%d/%lld is stored twice", r->partition, (long long)r->offset);
        if (r->is_new)
            model_wrong("%d/%lld is of the topic made again", r->partition, (long long)r->offset);
        if (r->offset <= db.last[r->partition])
            model_wrong("%d/%lld is out of order", r->partition, (long long)r->offset);
        if (r->epoch != now)
            model_wrong("%d/%lld is stored under claim %lld, and %lld stands", r->partition,
                        (long long)r->offset, (long long)r->epoch, (long long)now);
        db.last[r->partition] = r->offset;
    }
    for (int p = 0; p < MODEL_PARTITIONS; p++) {
        if (s->changed & 1u << p)
            db.offsets[p] = s->mine[p];
    }
    end(s);
}

void database_late(void)
{
    for (struct session *s = db.sessions; s; s = s->following) {
        if (!s->is_cut)
            continue;
        if (s->has_commit)
            apply(s);
        else
            end(s);
        forget(s);
        return;
    }
}

// The client's end of the connection has gone; the server learns of it now, or later.
static void cut(struct copy *c, bool has_commit, bool is_late)
{
    struct session *s = c->session;
    c->session = NULL;
    s->is_cut = true;
    s->has_commit = has_commit && s->is_open;
    if (is_late)
        return;
    if (s->has_commit)
        apply(s);
    end(s);
    forget(s);
}

void database_killed(struct copy *c)
{
    if (c->session)
        cut(c, false, model.database == TALLY_POSTGRES && model_roll(2));
}

void database_end_idle(struct copy *c)
{
    // A session that waits for a lock, or runs a statement, is not idle.
    if (c->session && c->session->is_open && c->is_frozen && model.database == TALLY_POSTGRES)
        cut(c, false, false);
}

static int lost(struct tally_error *error)
{
    return tally_error_set(error, TALLY_DATABASE, "the connection is lost");
}

// A step, in which the connection may go.
static int step(struct sink *sink, struct tally_error *error)
{
    struct copy *c = copy_of(sink);
    model_step();
    if (c->session && model.database == TALLY_POSTGRES && model_breaks(150))
        cut(c, false, model_roll(2));
    return c->session ? 0 : lost(error);
}

static int model_connect(struct sink *sink, struct tally_error *error)
{
    struct copy *c = copy_of(sink);
    if (c->session)
        return 0;
    model_step();
    if (model.database == TALLY_POSTGRES && model_breaks(20))
        return lost(error);
    c->session = calloc(1, sizeof *c->session);
    c->session->following = db.sessions;
    db.sessions = c->session;
    return 0;
}

// Waits until nobody else holds what is wanted; 0 partitions: SQLite's only lock.
static int lock(struct sink *sink, uint32_t wanted, struct tally_error *error)
{
    struct copy *c = copy_of(sink);
    for (;;) {
        bool is_free = !db.writer || db.writer == c->session || wanted;
        for (struct session *s = db.sessions; s; s = s->following)
            is_free = is_free && (s == c->session || !(s->locks & wanted));
        if (is_free)
            break;
        int result = step(sink, error);
        if (result < 0)
            return result;
        if (model_roll(30) == 0)
            return tally_error_set(error, TALLY_AGAIN, "the wait for a lock was too long");
    }
    c->session->locks |= wanted;
    return 0;
}

static int model_begin(struct sink *sink, struct tally_error *error)
{
    int result = step(sink, error);
    if (result == 0 && model.database == TALLY_SQLITE)
        result = lock(sink, 0, error);
    if (result < 0)
        return result;
    struct session *s = copy_of(sink)->session;
    s->is_open = true;
    if (model.database == TALLY_SQLITE)
        db.writer = s;
    return 0;
}

static int model_commit(struct sink *sink, struct tally_error *error)
{
    int result = step(sink, error);
    if (result < 0)
        return result;
    struct copy *c = copy_of(sink);
    if (model.database == TALLY_POSTGRES && model_breaks(8)) {
        cut(c, model_roll(3) > 0, model_roll(2));
        return lost(error);
    }
    apply(c->session);
    model_step();
    return 0;
}

static void model_rollback(struct sink *sink)
{
    if (!copy_of(sink)->session)
        return;
    model_step();
    if (copy_of(sink)->session)
        end(copy_of(sink)->session);
}

static struct offset_row *mine(struct session *s, int32_t p)
{
    if (!(s->changed & 1u << p))
        s->mine[p] = db.offsets[p];
    s->changed |= 1u << p;
    return &s->mine[p];
}

static int claim(struct sink *sink, const struct tally_value *v, tally_row_fn *row, void *user,
                 struct tally_error *error)
{
    int32_t p = (int32_t)v[3].integer;
    int result = lock(sink, 1u << p, error);
    if (result < 0)
        return result;
    struct offset_row *o = mine(copy_of(sink)->session, p);
    if (o->next == NO_ROW)
        *o = (struct offset_row){.next = v[6].integer};
    o->epoch++;
    struct tally_value columns[] = {tally_int(o->next), tally_int(o->epoch)};
    return row(user, columns, 2, error);
}

static int advance(struct sink *sink, const char *sql, const struct tally_value *v,
                   int64_t *ret_changed, struct tally_error *error)
{
    int32_t p = (int32_t)v[2].integer;
    int result = lock(sink, 1u << p, error);
    if (result < 0)
        return result;
    struct session *s = copy_of(sink)->session;
    const struct offset_row *now = s->changed & 1u << p ? &s->mine[p] : &db.offsets[p];
    // The statement of the variants without a safeguard lacks its condition.
    *ret_changed = (!strstr(sql, "next_offset = $5") || now->next == v[4].integer) &&
                   (!strstr(sql, "claim_epoch = $6") || now->epoch == v[5].integer);
    if (*ret_changed)
        mine(s, p)->next = v[3].integer;
    return 0;
}

static int insert(struct sink *sink, const struct tally_value *v, struct tally_error *error)
{
    struct session *s = copy_of(sink)->session;
    if (s->n_rows == MAX_ROWS)
        return tally_error_set(error, TALLY_SQL, "a transaction of more than %d rows", MAX_ROWS);
    s->rows[s->n_rows++] =
        (struct row){(int32_t)v[0].integer, v[1].integer, v[2].integer, v[3].integer != 0};
    return 0;
}

static int look(const struct tally_value *v, tally_row_fn *row, void *user,
                struct tally_error *error)
{
    const struct offset_row *o = &db.offsets[v[2].integer];
    struct tally_value columns[] = {tally_int(o->next), tally_int(o->epoch)};
    return o->next == NO_ROW ? 0 : row(user, columns, 2, error);
}

// No callback of the model ends it.
static bool model_in_transaction(struct sink *sink)
{
    (void)sink;
    return true;
}

static bool is(const char *sql, const char *with)
{
    return strncmp(sql, with, strlen(with)) == 0;
}

static int model_run(struct sink *sink, const char *sql, const struct tally_value *values, size_t n,
                     tally_row_fn *row, void *user, int64_t *ret_changed, struct tally_error *error)
{
    (void)n;
    int result = step(sink, error);
    if (result < 0)
        return result;
    if (is(sql, "INSERT INTO rows"))
        return insert(sink, values, error);
    if (is(sql, "INSERT INTO tally_offset ("))
        return claim(sink, values, row, user, error);
    if (is(sql, "UPDATE tally_offset SET next_offset"))
        return advance(sink, sql, values, ret_changed, error);
    if (is(sql, "SELECT next_offset, claim_epoch"))
        return look(values, row, user, error);
    if (is(sql, "SELECT MAX(version)"))
        return row(user, &(struct tally_value){.type = TALLY_INT, .integer = CLAIM_VERSION}, 1,
                   error);
    if (is(sql, "SELECT topic_id") || is(sql, "SELECT MIN(group_id)") ||
        is(sql, "SELECT pg_advisory") || is(sql, "CREATE TABLE"))
        return 0;
    return tally_error_set(error, TALLY_SQL, "the model does not know: %s", sql);
}

static void model_close(struct sink *sink)
{
    database_killed(copy_of(sink));
    free(sink);
}

int __wrap_sink_open(const char *into, int busy_ms, struct sink **ret_sink,
                     struct tally_error *error);
int __wrap_sink_open(const char *into, int busy_ms, struct sink **ret_sink,
                     struct tally_error *error)
{
    static const struct sink_ops ops = {
        .connect = model_connect,
        .begin = model_begin,
        .commit = model_commit,
        .rollback = model_rollback,
        .in_transaction = model_in_transaction,
        .run = model_run,
        .close = model_close,
    };
    (void)into;
    (void)busy_ms;
    (void)error;
    struct model_sink *s = calloc(1, sizeof *s);
    *s = (struct model_sink){{.ops = &ops, .database = model.database}, model.running};
    *ret_sink = &s->base;
    return 0;
}

bool database_is_complete(void)
{
    for (int p = 0; p < MODEL_PARTITIONS; p++) {
        if (db.offsets[p].next < MODEL_END(p))
            return false;
    }
    return true;
}

void database_check(void)
{
    for (int p = 0; p < MODEL_PARTITIONS; p++) {
        for (int o = 0; o < MODEL_RECORDS; o++) {
            if (db.seen[p][o] != 1)
                model_wrong("%d/%d is stored %d times", p, o, db.seen[p][o]);
        }
        if (db.offsets[p].next != MODEL_END(p))
            model_wrong("%d: next_offset is %lld", p, (long long)db.offsets[p].next);
    }
}
