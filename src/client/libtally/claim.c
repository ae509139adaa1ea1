#include "client/libtally/claim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// A number that no other program is likely to lock: two copies must not make the tables at once.
#define SETUP_LOCK "SELECT pg_advisory_xact_lock(8253271943)"

// What makes the library exact. test/consume builds variants without it, to see its tests fail;
// a parameter stays in their statements, because PostgreSQL wants to know its type.
#if defined TALLY_BUG_NO_FENCE || defined TALLY_BUG_BLIND
#define FENCE " AND CAST($6 AS BIGINT) > 0"
#else
#define FENCE " AND claim_epoch = $6"
#endif
#if defined TALLY_BUG_NO_COMPARE || defined TALLY_BUG_BLIND
#define COMPARE " AND CAST($5 AS BIGINT) >= -1"
#else
#define COMPARE " AND next_offset = $5"
#endif

// SQLite gives numbers, PostgreSQL text. INT64_MIN: not a number.
static int64_t number(const struct tally_value *v)
{
    char text[24];
    if (v->type == TALLY_INT)
        return v->integer;
    if (v->type != TALLY_TEXT || v->len == 0 || v->len >= sizeof text)
        return INT64_MIN;
    memcpy(text, v->data, v->len);
    text[v->len] = 0;
    char *end;
    long long value = strtoll(text, &end, 10);
    return *end ? INT64_MIN : value;
}

static int take_number(void *user, const struct tally_value *columns, size_t n,
                       struct tally_error *error)
{
    (void)n;
    (void)error;
    *(int64_t *)user = number(&columns[0]);
    return 0;
}

static int make_tables(struct sink *s, struct tally_error *error)
{
    static const char *const sql[] = {
        "CREATE TABLE IF NOT EXISTS tally_offset_version (version INTEGER NOT NULL)",
        "CREATE TABLE IF NOT EXISTS tally_offset ("
        "group_id TEXT NOT NULL, topic_id TEXT NOT NULL, topic TEXT NOT NULL, "
        "partition INTEGER NOT NULL, next_offset BIGINT NOT NULL, claim_epoch BIGINT NOT NULL, "
        "claimed_by TEXT NOT NULL, updated_at TEXT NOT NULL, "
        "PRIMARY KEY (group_id, topic_id, partition))",
    };
    int result = 0;
    if (s->database == TALLY_POSTGRES)
        result = sink_run(s, SETUP_LOCK, NULL, 0, NULL, NULL, NULL, error);
    for (size_t i = 0; result == 0 && i < sizeof sql / sizeof sql[0]; i++)
        result = sink_run(s, sql[i], NULL, 0, NULL, NULL, NULL, error);
    return result;
}

int claim_setup(struct sink *s, struct tally_error *error)
{
    int64_t version = -1;
    int result = make_tables(s, error);
    if (result == 0)
        result = sink_run(s, "SELECT MAX(version) FROM tally_offset_version", NULL, 0, take_number,
                          &version, NULL, error);
    if (result < 0)
        return result;
    if (version > CLAIM_VERSION)
        return tally_error_set(error, TALLY_OFFSET,
                               "tally_offset is of version %" PRId64 ", made by a newer tally; "
                               "this one knows version %d: use the newer one",
                               version, CLAIM_VERSION);
    if (version >= 0)
        return 0;
    struct tally_value v = tally_int(CLAIM_VERSION);
    return sink_run(s, "INSERT INTO tally_offset_version (version) VALUES ($1)", &v, 1, NULL, NULL,
                    NULL, error);
}

static struct tally_value now_text(char text[32])
{
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return tally_text(text);
}

struct found_id {
    char id[CLAIM_TOPIC_ID];
    int64_t next;
    bool is_found;
};

static int take_id(void *user, const struct tally_value *columns, size_t n,
                   struct tally_error *error)
{
    (void)n;
    (void)error;
    struct found_id *found = user;
    size_t len = columns[0].type == TALLY_TEXT ? columns[0].len : 0;
    if (len >= sizeof found->id)
        len = sizeof found->id - 1;
    if (len)
        memcpy(found->id, columns[0].data, len);
    found->id[len] = 0;
    found->next = number(&columns[1]);
    found->is_found = true;
    return 0;
}

// Rows of the same name and another id: the topic was deleted and made again, and offsets of the
// old one mean nothing in the new. Unless the id was not known then, or is not known now.
static int check_topic_id(const struct claim_group *g, struct claim *c, struct tally_error *error)
{
    struct tally_value v[] = {tally_text(g->group), tally_text(c->topic), tally_int(c->partition),
                              tally_text(c->topic_id)};
    struct found_id found = {0};
    int result = sink_run(g->sink,
                          "SELECT topic_id, next_offset FROM tally_offset WHERE group_id = $1 AND "
                          "topic = $2 AND partition = $3 AND topic_id <> $4",
                          v, 4, take_id, &found, NULL, error);
    if (result < 0 || !found.is_found)
        return result;
    if (strcmp(c->topic_id, CLAIM_NO_ID) == 0) {
        memcpy(c->topic_id, found.id, sizeof c->topic_id);
        return 0;
    }
    if (strcmp(found.id, CLAIM_NO_ID) == 0)
        return sink_run(g->sink,
                        "UPDATE tally_offset SET topic_id = $4 WHERE group_id = $1 AND topic = $2 "
                        "AND partition = $3 AND topic_id = '" CLAIM_NO_ID "'",
                        v, 4, NULL, NULL, NULL, error);
    return tally_error_set(error, TALLY_OFFSET,
                           "%s/%d: stored offset %" PRId64 " is of topic id %s, the topic now has "
                           "id %s (deleted and made again?); to begin anew, delete the group's "
                           "rows of the old id from tally_offset",
                           c->topic, c->partition, found.next, found.id, c->topic_id);
}

static int take_claim(void *user, const struct tally_value *columns, size_t n,
                      struct tally_error *error)
{
    (void)n;
    struct claim *c = user;
    c->next = number(&columns[0]);
    c->epoch = number(&columns[1]);
    if (c->next >= CLAIM_UNSTARTED && c->epoch > 0)
        return 0;
    return tally_error_set(error, TALLY_OFFSET,
                           "%s/%d: tally_offset holds next_offset %" PRId64
                           " and claim_epoch %" PRId64 ", which no tally wrote; put a real offset "
                           "there, or delete the row to begin anew",
                           c->topic, c->partition, c->next, c->epoch - 1);
}

int claim_take(const struct claim_group *g, struct claim *c, struct tally_error *error)
{
    int result = check_topic_id(g, c, error);
    if (result < 0)
        return result;
    char now[32];
    struct tally_value v[] = {tally_text(g->group),      tally_text(c->topic_id),
                              tally_text(c->topic),      tally_int(c->partition),
                              tally_text(g->member),     now_text(now),
                              tally_int(CLAIM_UNSTARTED)};
    return sink_run(g->sink,
                    "INSERT INTO tally_offset (group_id, topic_id, topic, partition, next_offset, "
                    "claim_epoch, claimed_by, updated_at) VALUES ($1, $2, $3, $4, $7, 1, $5, $6) "
                    "ON CONFLICT (group_id, topic_id, partition) DO UPDATE SET "
                    "claim_epoch = tally_offset.claim_epoch + 1, claimed_by = $5, updated_at = $6 "
                    "RETURNING next_offset, claim_epoch",
                    v, 7, take_claim, c, NULL, error);
}

int claim_advance(const struct claim_group *g, const struct claim *c, int64_t end,
                  bool *ret_is_ours, struct tally_error *error)
{
    char now[32];
    struct tally_value v[] = {
        tally_text(g->group), tally_text(c->topic_id), tally_int(c->partition),
        tally_int(end),       tally_int(c->next),      tally_int(c->epoch),
        now_text(now)};
    int64_t changed = 0;
    int result = sink_run(g->sink,
                          "UPDATE tally_offset SET next_offset = $4, updated_at = $7 "
                          "WHERE group_id = $1 AND topic_id = $2 AND partition = $3" COMPARE FENCE,
                          v, 7, NULL, NULL, &changed, error);
    if (result < 0)
        return result;
    *ret_is_ours = changed == 1;
    return 0;
}

struct found_claim {
    int64_t next;
    int64_t epoch;
};

static int take_found(void *user, const struct tally_value *columns, size_t n,
                      struct tally_error *error)
{
    (void)n;
    (void)error;
    *(struct found_claim *)user = (struct found_claim){number(&columns[0]), number(&columns[1])};
    return 0;
}

int claim_read(const struct claim_group *g, const struct claim *c, int64_t *ret_next,
               int64_t *ret_epoch, struct tally_error *error)
{
    struct tally_value v[] = {tally_text(g->group), tally_text(c->topic_id),
                              tally_int(c->partition)};
    struct found_claim found = {-1, -1};
    int result = sink_run(g->sink,
                          "SELECT next_offset, claim_epoch FROM tally_offset WHERE group_id = $1 "
                          "AND topic_id = $2 AND partition = $3",
                          v, 3, take_found, &found, NULL, error);
    if (result < 0)
        return result;
    *ret_next = found.next;
    *ret_epoch = found.epoch;
    return 0;
}

struct listing {
    claim_seen_fn *seen;
    void *user;
};

static int take_listed(void *user, const struct tally_value *columns, size_t n,
                       struct tally_error *error)
{
    (void)n;
    (void)error;
    struct listing *l = user;
    l->seen(l->user, (int32_t)number(&columns[0]), number(&columns[1]));
    return 0;
}

int claim_list(const struct claim_group *g, const char *topic, claim_seen_fn *seen, void *user,
               struct tally_error *error)
{
    struct tally_value v[] = {tally_text(g->group), tally_text(topic)};
    struct listing l = {seen, user};
    return sink_run(g->sink,
                    "SELECT partition, next_offset FROM tally_offset WHERE group_id = $1 AND "
                    "topic = $2",
                    v, 2, take_listed, &l, NULL, error);
}

static int take_group(void *user, const struct tally_value *columns, size_t n,
                      struct tally_error *error)
{
    (void)n;
    (void)error;
    size_t len = columns[0].type == TALLY_TEXT ? columns[0].len : 0;
    snprintf(user, CLAIM_GROUP_MAX, "%.*s", len < CLAIM_GROUP_MAX ? (int)len : CLAIM_GROUP_MAX - 1,
             len ? (const char *)columns[0].data : "");
    return 0;
}

int claim_other_group(const struct claim_group *g, const char *topic,
                      char ret_group[CLAIM_GROUP_MAX], struct tally_error *error)
{
    struct tally_value v[] = {tally_text(g->group), tally_text(topic)};
    ret_group[0] = 0;
    return sink_run(g->sink,
                    "SELECT MIN(group_id) FROM tally_offset WHERE topic = $2 AND next_offset > 0 "
                    "AND NOT EXISTS (SELECT 1 FROM tally_offset WHERE group_id = $1 AND topic = "
                    "$2)",
                    v, 2, take_group, ret_group, NULL, error);
}
