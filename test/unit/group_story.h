#pragma once
// Stories about groups: a script of what members do ("join a; sync a; run 10s"), and a trace of
// what came of it, to compare. Included by one test program each. The ledger is replaced by one
// that writes what it is told into the trace (lines beginning with "#"), when asked for.
//
//   join NAME ...     JoinGroup; comes back with the id it is given, unless once=1 is said
//   sync NAME [give=a:t-0,t-1/b:t-2]      leave NAME      beat NAME
//   commit NAME t-0=5 ...                 fetch NAME t-0 ...
//   run 10s           time passes, timers fire         cut NAME   its connection closes
//   crash             the broker is started again from its journal
//   list, describe, delete, forget t      ListGroups, DescribeGroups, DeleteGroups, OffsetDelete
// Words key=value after the name: v (version of the API), group, id, gen, instance, topics, owned,
// type, protocols, meta, session, rebalance (both in s), reason (with _ for spaces), host.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"
#include "core/group/group.h"
#include "core/ledger/ledger.h"
#include "core/topics.h"
#include "wire/consumer_protocol.h"

enum { ACTORS_MAX = 40, JOURNAL_MAX = 4000 };

struct actor {
    char name[16];
    char id[128];
    char instance[64];
    char protocols[64];
    char topics[128];
    char type[32];
    char meta[32];
    int32_t generation;
    int32_t session_s;
    int32_t rebalance_s;
    uint64_t conn;
};

struct journal_entry {
    const struct kw_message *type;
    struct bytes bytes;
};

struct story {
    struct core *core;
    struct configs *fixed;
    struct arena *arena;
    struct arena *keep; // lives as long as the story
    struct buf trace;
    uint64_t now_ms;
    uint64_t next_token;
    uint64_t next_conn;
    uint8_t next_id;
    bool with_ledger;
    bool is_back; // a member comes back with the id it was given
    struct actor actors[ACTORS_MAX];
    size_t n_actors;
    struct {
        struct actor *actor;
        int16_t api;
        int16_t version;
        bool comes_back;
        const char *words;
    } asked[JOURNAL_MAX];
    struct journal_entry journal[JOURNAL_MAX];
    size_t n_journal;
};

static struct story *telling; // whose trace the ledger writes into

static void say(struct story *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct story *s, const char *format, ...)
{
    char line[2000];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    buf_printf(&s->trace, "[%g] %s\n", (double)s->now_ms / 1000.0, line);
}

// Member ids are shown as the name of the actor that holds it; as ? before it was told its id.
static const char *name_of(struct story *s, struct str id)
{
    if (str_is_null(id))
        return "null";
    if (id.len == 0)
        return "-";
    for (size_t i = 0; i < s->n_actors; i++)
        if (str_eq_c(id, s->actors[i].id))
            return s->actors[i].name;
    return "?";
}

#define TELL(...)                                                                                  \
    do {                                                                                           \
        if (telling && telling->with_ledger && !telling->core->is_replaying)                       \
            say(telling, "# " __VA_ARGS__);                                                        \
    } while (0)

#include "group_story_ledger.h"

// ---- The shell: journal, apply, reply.

static void show_reply(struct story *s, uint64_t token, void *response);

static void journal_append(struct story *s, const struct kw_message *type, const void *record)
{
    struct kw_out out = {0};
    kw_encode(type, type->max_version, record, &out);
    assert_true(s->n_journal < JOURNAL_MAX);
    s->journal[s->n_journal++] = (struct journal_entry){
        type, arena_bytes(s->keep, (struct bytes){out.buf.ptr, out.buf.len})};
    kw_out_free(&out);
}

static void apply_bytes(struct core *c, struct arena *a, const struct journal_entry *e)
{
    void *record = arena_alloc(a, kw_size_in_memory(e->type));
    assert_int_equal(kw_decode(e->type, e->type->max_version, e->bytes, a, record, NULL), 0);
    core_apply(c, e->type, record);
}

static void settle(struct story *s, struct effects *fx)
{
    for (struct effect_record *e = fx->first_record; e; e = e->next) {
        journal_append(s, e->type, e->record);
        apply_bytes(s->core, s->arena, &s->journal[s->n_journal - 1]);
    }
    for (struct effect_reply *r = fx->first_reply; r; r = r->next)
        show_reply(s, r->token, r->response);
}

static struct core *core_of(const struct story *s)
{
    struct core_needs needs = {.fixed = s->fixed};
    return core_new(&needs);
}

// A core made from the journal, and one made from the snapshot, equal the live one.
static struct core *replayed(struct story *s)
{
    struct arena *a = arena_new();
    struct core *c = core_of(s);
    for (size_t i = 0; i < s->n_journal; i++)
        apply_bytes(c, a, &s->journal[i]);
    assert_int_equal(core_digest(c), core_digest(s->core));

    struct core *again = core_of(s);
    struct effects fx;
    effects_init(&fx, a);
    core_snapshot(s->core, &fx);
    for (struct effect_record *e = fx.first_record; e; e = e->next)
        core_apply(again, e->type, e->record);
    assert_int_equal(core_digest(again), core_digest(s->core));
    assert_int_equal(again->ledger->commits, 0); // a snapshot tells nothing new
    core_free(again);
    arena_free(a);
    return c;
}

static struct asker asker_of(struct story *s, struct actor *actor, int16_t api, int16_t version)
{
    uint64_t token = s->next_token++;
    assert_true(token < JOURNAL_MAX);
    s->asked[token].actor = actor;
    s->asked[token].api = api;
    s->asked[token].version = version;
    struct asker who = {
        .token = token,
        .conn = actor->conn,
        .version = version,
        .client_id = str_from(actor->name),
        .host = STR("/10.0.0.1"),
        .principal = STR("User:ANONYMOUS"),
        .software = STR(""),
        .now_ms = s->now_ms,
        .wall_ms = (int64_t)s->now_ms + 1000000,
    };
    who.fresh.b[15] = ++s->next_id;
    return who;
}

static void make_topic(struct story *s, const char *name, int32_t partitions)
{
    struct effects fx;
    effects_init(&fx, s->arena);
    struct asker who = {.wall_ms = 1};
    who.fresh.b[0] = 0xee;
    who.fresh.b[1] = ++s->next_id;
    assert_int_equal(
        topics_decide_make(s->core->topics, &who, str_from(name), partitions, false, &fx),
        KERR_NONE);
    settle(s, &fx);
}

static struct story *story_new(const char *setting, const char *value)
{
    struct story *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->arena = arena_new();
    s->keep = arena_new();
    s->fixed = configs_new();
    s->next_token = s->next_conn = 1;
    if (setting)
        configs_set(s->fixed, str_from(setting), str_from(value));
    s->core = core_of(s);
    core_restore_done(s->core, 0, 1000000, true);
    telling = s;
    make_topic(s, "t", 4);
    return s;
}

static void story_free(struct story *s)
{
    core_free(replayed(s));
    core_free(s->core);
    configs_free(s->fixed);
    arena_free(s->arena);
    arena_free(s->keep);
    buf_free(&s->trace);
    telling = NULL;
    free(s);
}

// ---- Words of a script.

static const char *word(const char *words, const char *key)
{
    static char values[8][256];
    static int turn;
    size_t len = strlen(key);
    for (const char *p = words; p && *p;) {
        if (strncmp(p, key, len) == 0 && p[len] == '=') {
            char *v = values[turn++ % 8];
            snprintf(v, 256, "%.*s", (int)strcspn(p + len + 1, " ;"), p + len + 1);
            return v;
        }
        p += strcspn(p, " ;");
        p += *p == ' ';
        if (*p == ';')
            break;
    }
    return NULL;
}

static int word_int(const char *words, const char *key, int otherwise)
{
    const char *v = word(words, key);
    return v ? atoi(v) : otherwise;
}

static struct str word_str(struct story *s, const char *words, const char *key,
                           struct str otherwise)
{
    const char *v = word(words, key);
    struct str text = v ? arena_str(s->arena, str_from(v)) : otherwise;
    for (int32_t i = 0; v && i < text.len; i++)
        if (text.ptr[i] == '_')
            ((char *)(uintptr_t)text.ptr)[i] = ' ';
    return text;
}

static struct actor *actor_of(struct story *s, const char *words)
{
    char name[16];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(words, " ;"), words);
    for (size_t i = 0; i < s->n_actors; i++)
        if (strcmp(s->actors[i].name, name) == 0)
            return &s->actors[i];
    assert_true(s->n_actors < ACTORS_MAX);
    struct actor *a = &s->actors[s->n_actors++];
    *a = (struct actor){.generation = -1, .session_s = 10, .rebalance_s = 60};
    snprintf(a->name, sizeof a->name, "%s", name);
    snprintf(a->protocols, sizeof a->protocols, "range");
    snprintf(a->topics, sizeof a->topics, "t");
    snprintf(a->type, sizeof a->type, "consumer");
    a->conn = s->next_conn++;
    return a;
}

static void actor_take(char *to, size_t cap, const char *words, const char *key)
{
    const char *v = word(words, key);
    if (v)
        snprintf(to, cap, "%s", v);
}

static struct str group_word(struct story *s, const char *words)
{
    return word_str(s, words, "group", STR("g"));
}

static struct str instance_of(const struct actor *a)
{
    return a->instance[0] ? str_from(a->instance) : STR_NULL;
}

// "t-0,t-2" as lists by topic.
static int32_t parse_tps(struct story *s, const char *text,
                         struct consumer_protocol_assignment_topic_partition *ret)
{
    int32_t n = 0;
    for (const char *p = text; *p && *p != '/';) {
        const char *dash = strchr(p, '-');
        assert_non_null(dash);
        struct str topic = arena_str(s->arena, (struct str){p, (int32_t)(dash - p)});
        if (n == 0 || !str_eq(ret[n - 1].topic, topic))
            ret[n++] = (struct consumer_protocol_assignment_topic_partition){
                topic, arena_array(s->arena, 100, sizeof(int32_t)), 0};
        ret[n - 1].partitions[ret[n - 1].n_partitions++] = atoi(dash + 1);
        p = dash + 1 + strcspn(dash + 1, ",/");
        p += *p == ',';
    }
    return n;
}

static struct bytes subscription_bytes(struct story *s, const struct actor *a, const char *words)
{
    if (a->meta[0])
        return (struct bytes){(const uint8_t *)a->meta, strlen(a->meta)};
    struct consumer_protocol_subscription sub = {.generation_id = -1, .rack_id = STR_NULL};
    struct str topics[10];
    sub.topics = topics;
    for (const char *p = a->topics; *p;) {
        size_t len = strcspn(p, ",");
        topics[sub.n_topics++] = (struct str){p, (int32_t)len};
        p += len + (p[len] == ',');
    }
    struct consumer_protocol_assignment_topic_partition owned[10];
    struct consumer_protocol_subscription_topic_partition copy[10];
    const char *v = word(words, "owned");
    sub.n_owned_partitions = v ? parse_tps(s, v, owned) : 0;
    for (int32_t i = 0; i < sub.n_owned_partitions; i++)
        copy[i] = (struct consumer_protocol_subscription_topic_partition){
            owned[i].topic, owned[i].partitions, owned[i].n_partitions};
    sub.owned_partitions = copy;
    struct buf out = {0};
    consumer_subscription_write(1, &sub, &out);
    struct bytes copied = arena_bytes(s->arena, (struct bytes){out.ptr, out.len});
    buf_free(&out);
    return copied;
}

// ---- What members do.

static void do_join(struct story *s, struct actor *a, const char *words, bool comes_back)
{
    int16_t version = (int16_t)word_int(words, "v", 9);
    actor_take(a->instance, sizeof a->instance, words, "instance");
    actor_take(a->protocols, sizeof a->protocols, words, "protocols");
    actor_take(a->topics, sizeof a->topics, words, "topics");
    actor_take(a->type, sizeof a->type, words, "type");
    actor_take(a->meta, sizeof a->meta, words, "meta");
    if (!s->is_back)
        actor_take(a->id, sizeof a->id, words, "id");
    if (a->id[0] == '-')
        a->id[0] = 0;
    a->session_s = word_int(words, "session", a->session_s);
    a->rebalance_s = word_int(words, "rebalance", a->rebalance_s);

    struct asker who = asker_of(s, a, API_JOIN_GROUP, version);
    s->asked[who.token].comes_back = comes_back;
    s->asked[who.token].words = words;
    struct join_group_request req = {
        .group_id = group_word(s, words),
        .session_timeout_ms = a->session_s * 1000,
        .rebalance_timeout_ms = a->rebalance_s * 1000,
        .member_id = arena_str(s->arena, str_from(a->id)),
        .group_instance_id = instance_of(a),
        .protocol_type = str_from(a->type),
        .reason = word_str(s, words, "reason", STR_NULL),
    };
    struct join_group_request_protocol protocols[10];
    req.protocols = protocols;
    for (const char *p = a->protocols; *p && *p != '-';) {
        size_t len = strcspn(p, ",");
        protocols[req.n_protocols++] = (struct join_group_request_protocol){
            {p, (int32_t)len}, subscription_bytes(s, a, words)};
        p += len + (p[len] == ',');
    }
    struct effects fx;
    effects_init(&fx, s->arena);
    group_join(s->core, &who, &req, &fx);
    settle(s, &fx);
}

static void do_sync(struct story *s, struct actor *a, const char *words)
{
    struct asker who = asker_of(s, a, API_SYNC_GROUP, (int16_t)word_int(words, "v", 5));
    struct sync_group_request req = {
        .group_id = group_word(s, words),
        .generation_id = word_int(words, "gen", a->generation),
        .member_id = arena_str(s->arena, str_from(a->id)),
        .group_instance_id = instance_of(a),
        .protocol_type = word_str(s, words, "type", str_from(a->type)),
        .protocol_name = word_str(s, words, "protocols",
                                  (struct str){a->protocols, (int32_t)strcspn(a->protocols, ",")}),
    };
    struct sync_group_request_assignment given[ACTORS_MAX];
    req.assignments = given;
    const char *v = word(words, "give");
    for (const char *p = v ? v : ""; *p;) {
        const char *colon = strchr(p, ':');
        assert_non_null(colon);
        char name[16];
        snprintf(name, sizeof name, "%.*s ", (int)(colon - p), p);
        struct consumer_protocol_assignment_topic_partition tps[10];
        struct consumer_protocol_assignment as = {.assigned_partitions = tps};
        as.n_assigned_partitions = parse_tps(s, colon + 1, tps);
        struct buf out = {0};
        consumer_assignment_write(1, &as, &out);
        given[req.n_assignments++] = (struct sync_group_request_assignment){
            str_from(actor_of(s, name)->id),
            arena_bytes(s->arena, (struct bytes){out.ptr, out.len})};
        buf_free(&out);
        p = colon + strcspn(colon, "/");
        p += *p == '/';
    }
    struct effects fx;
    effects_init(&fx, s->arena);
    group_sync(s->core, &who, &req, &fx);
    settle(s, &fx);
}

static void do_beat(struct story *s, struct actor *a, const char *words)
{
    struct asker who = asker_of(s, a, API_HEARTBEAT, 4);
    struct heartbeat_request req = {
        .group_id = group_word(s, words),
        .generation_id = word_int(words, "gen", a->generation),
        .member_id = arena_str(s->arena, str_from(a->id)),
        .group_instance_id = instance_of(a),
    };
    struct effects fx;
    effects_init(&fx, s->arena);
    group_heartbeat(s->core, &who, &req, &fx);
    settle(s, &fx);
}

static void do_leave(struct story *s, struct actor *a, const char *words)
{
    struct asker who = asker_of(s, a, API_LEAVE_GROUP, (int16_t)word_int(words, "v", 5));
    struct leave_group_request_member m = {
        .member_id = arena_str(s->arena, str_from(a->id)),
        .group_instance_id = word_str(s, words, "instance", instance_of(a)),
        .reason = word_str(s, words, "reason", STR_NULL),
    };
    const char *id = word(words, "id");
    if (id)
        m.member_id = id[0] == '-' ? STR_EMPTY : arena_str(s->arena, str_from(id));
    struct leave_group_request req = {
        .group_id = group_word(s, words), .member_id = m.member_id, .members = &m, .n_members = 1};
    struct effects fx;
    effects_init(&fx, s->arena);
    group_leave(s->core, &who, &req, &fx);
    settle(s, &fx);
}

static struct uuid topic_id_of(struct story *s, struct str name)
{
    const struct topic *t = topics_by_name(s->core->topics, name);
    return t ? t->id : (struct uuid){{1}};
}

static void do_commit(struct story *s, struct actor *a, const char *words)
{
    struct asker who = asker_of(s, a, API_OFFSET_COMMIT, (int16_t)word_int(words, "v", 9));
    struct offset_commit_request req = {
        .group_id = group_word(s, words),
        .generation_id_or_member_epoch = word_int(words, "gen", a->generation),
        .member_id = word(words, "id") ? STR_EMPTY : arena_str(s->arena, str_from(a->id)),
        .group_instance_id = instance_of(a),
        .retention_time_ms = word_int(words, "keep_ms", -1),
    };
    struct offset_commit_request_topic topics[10];
    struct offset_commit_request_partition partitions[10];
    req.topics = topics;
    for (const char *p = words + strcspn(words, " ;"); *p == ' ';) {
        p++;
        char topic[100];
        int partition;
        long long offset;
        if (sscanf(p, "%99[^- ;=]-%d=%lld", topic, &partition, &offset) == 3) {
            partitions[req.n_topics] = (struct offset_commit_request_partition){
                partition, offset, 7, word_str(s, words, "note", STR("n"))};
            topics[req.n_topics] =
                (struct offset_commit_request_topic){.name = arena_str(s->arena, str_from(topic)),
                                                     .topic_id = topic_id_of(s, str_from(topic)),
                                                     .partitions = &partitions[req.n_topics],
                                                     .n_partitions = 1};
            req.n_topics++;
        }
        p += strcspn(p, " ;");
    }
    struct effects fx;
    effects_init(&fx, s->arena);
    offsets_commit(s->core, &who, &req, &fx);
    settle(s, &fx);
}

static void do_fetch(struct story *s, struct actor *a, const char *words)
{
    int16_t version = (int16_t)word_int(words, "v", 9);
    struct asker who = asker_of(s, a, API_OFFSET_FETCH, version);
    struct str group = group_word(s, words);
    struct offset_fetch_request req = {.group_id = group};
    struct offset_fetch_request_topic topics[10];
    struct offset_fetch_request_group_topic group_topics[10];
    int32_t partitions[10];
    int32_t n = 0;
    for (const char *p = words + strcspn(words, " ;"); *p == ' ';) {
        p++;
        char topic[100];
        if (sscanf(p, "%99[^- ;=]-%d", topic, &partitions[n]) == 2) {
            struct str name = arena_str(s->arena, str_from(topic));
            topics[n] = (struct offset_fetch_request_topic){name, &partitions[n], 1};
            group_topics[n] = (struct offset_fetch_request_group_topic){name, topic_id_of(s, name),
                                                                        &partitions[n], 1};
            n++;
        }
        p += strcspn(p, " ;");
    }
    req.topics = topics;
    req.n_topics = n ? n : -1; // none named: all
    struct offset_fetch_request_group g = {.group_id = group,
                                           .member_id = str_from(a->id),
                                           .member_epoch = -1,
                                           .topics = group_topics,
                                           .n_topics = req.n_topics};
    req.groups = &g;
    req.n_groups = 1;
    struct effects fx;
    effects_init(&fx, s->arena);
    offsets_fetch(s->core, &who, &req, &fx);
    settle(s, &fx);
}

static void do_list(struct story *s, const char *words)
{
    struct actor *a = actor_of(s, "admin");
    struct asker who = asker_of(s, a, API_LIST_GROUPS, 5);
    struct str state = word_str(s, words, "state", STR_NULL);
    struct str type = word_str(s, words, "type", STR_NULL);
    struct list_groups_request req = {.states_filter = &state,
                                      .n_states_filter = state.len > 0,
                                      .types_filter = &type,
                                      .n_types_filter = type.len > 0};
    struct effects fx;
    effects_init(&fx, s->arena);
    group_list(s->core, &who, &req, &fx);
    settle(s, &fx);
}

static void do_describe(struct story *s, const char *words)
{
    struct asker who =
        asker_of(s, actor_of(s, "admin"), API_DESCRIBE_GROUPS, (int16_t)word_int(words, "v", 6));
    struct str group = group_word(s, words);
    struct describe_groups_request req = {.groups = &group, .n_groups = 1};
    struct effects fx;
    effects_init(&fx, s->arena);
    group_describe(s->core, &who, &req, &fx);
    settle(s, &fx);
}

static void do_delete(struct story *s, const char *words)
{
    struct asker who = asker_of(s, actor_of(s, "admin"), API_DELETE_GROUPS, 3);
    struct str groups[2] = {group_word(s, words), group_word(s, words)};
    struct delete_groups_request req = {.groups_names = groups,
                                        .n_groups_names = word(words, "twice") ? 2 : 1};
    struct effects fx;
    effects_init(&fx, s->arena);
    group_delete(s->core, &who, &req, &fx);
    settle(s, &fx);
}

static void do_forget(struct story *s, const char *words)
{
    struct asker who = asker_of(s, actor_of(s, "admin"), API_OFFSET_DELETE, 0);
    struct offset_delete_request_partition p = {word_int(words, "partition", 0)};
    struct offset_delete_request_topic t = {(struct str){words, (int32_t)strcspn(words, " ;")}, &p,
                                            1};
    struct offset_delete_request req = {
        .group_id = group_word(s, words), .topics = &t, .n_topics = 1};
    struct effects fx;
    effects_init(&fx, s->arena);
    offsets_delete(s->core, &who, &req, &fx);
    settle(s, &fx);
}

static void do_run(struct story *s, uint64_t until_ms)
{
    while (core_next_due_ms(s->core) <= until_ms) {
        s->now_ms = core_next_due_ms(s->core);
        struct effects fx;
        effects_init(&fx, s->arena);
        // False where what looked due had been put off, which is known then.
        assert_true(core_tick(s->core, s->now_ms, (int64_t)s->now_ms + 1000000, &fx) ||
                    core_next_due_ms(s->core) > s->now_ms);
        settle(s, &fx);
    }
    s->now_ms = until_ms;
}

static void do_crash(struct story *s)
{
    struct core *c = replayed(s);
    core_free(s->core);
    s->core = c;
    core_restore_done(c, s->now_ms, (int64_t)s->now_ms + 1000000, false);
}

static bool starts(const char *p, const char *verb, const char **ret_words)
{
    size_t len = strlen(verb);
    if (strncmp(p, verb, len) != 0 || (p[len] != ' ' && p[len] != ';' && p[len] != 0))
        return false;
    *ret_words = p + len + (p[len] == ' ');
    return true;
}

static void play_one(struct story *s, const char *p)
{
    const char *w;
    if (starts(p, "join", &w))
        do_join(s, actor_of(s, w), w, word(w, "once") == NULL);
    else if (starts(p, "sync", &w))
        do_sync(s, actor_of(s, w), w);
    else if (starts(p, "beat", &w))
        do_beat(s, actor_of(s, w), w);
    else if (starts(p, "leave", &w))
        do_leave(s, actor_of(s, w), w);
    else if (starts(p, "commit", &w))
        do_commit(s, actor_of(s, w), w);
    else if (starts(p, "fetch", &w))
        do_fetch(s, actor_of(s, w), w);
    else if (starts(p, "run", &w))
        do_run(s, s->now_ms + (uint64_t)(atof(w) * 1000));
    else if (starts(p, "cut", &w))
        core_conn_closed(s->core, actor_of(s, w)->conn);
    else if (starts(p, "crash", &w))
        do_crash(s);
    else if (starts(p, "list", &w))
        do_list(s, w);
    else if (starts(p, "describe", &w))
        do_describe(s, w);
    else if (starts(p, "delete", &w))
        do_delete(s, w);
    else if (starts(p, "forget", &w))
        do_forget(s, w);
    else
        fail_msg("no such command: %s", p);
}

static void play(struct story *s, const char *script)
{
    const char *p = script;
    while (*p) {
        p += strspn(p, " ;\n");
        if (*p)
            play_one(s, p);
        p += strcspn(p, ";");
    }
}

// What happened since the last look, word for word.
static void expect_at(struct story *s, const char *wanted, int line)
{
    char *got = arena_printf(s->keep, "%.*s", (int)s->trace.len,
                             s->trace.ptr ? (const char *)s->trace.ptr : "");
    buf_clear(&s->trace);
    if (strcmp(got, wanted) != 0)
        fail_msg("line %d\n--- wanted\n%s--- got\n%s", line, wanted, got);
}
#define EXPECT(s, wanted) expect_at(s, wanted, __LINE__)

static void forget_trace(struct story *s)
{
    buf_clear(&s->trace);
}

#include "group_story_replies.h"
