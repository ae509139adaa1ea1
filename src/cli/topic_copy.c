#include "cli/topic_copy.h"

#include "broker/broker.h"
#include "broker/partition.h"
#include "cli/cli.h"
#include "core/topics.h"
#include "os/clock.h"
#include "os/disk.h"
#include "os/entropy.h"
#include "os/log.h"
#include "os/net.h"
#include "store/journal.h"
#include "store/kafka_dir.h"
#include "store/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define WHY_MAX 1024
#define TIMEOUT_MS 30000

// The broker of a data directory, in this process and without a listener.
struct home {
    struct clock *clock;
    struct entropy *entropy;
    struct net *net;
    struct disk *disk;
    struct disk *other; // for Kafka's directory
    struct disk_file *other_lock;
    struct log_sink *log;
    struct configs *configs;
    struct broker *broker;
    struct arena *arena;
    struct log_repair *repair; // with these names; NULL: none
    const struct topic_copy *repair_what;
};

static void home_close(struct home *h)
{
    broker_free(h->broker);
    disk_close(h->other_lock);
    net_free(h->net);
    disk_free(h->disk);
    disk_free(h->other);
    configs_free(h->configs);
    log_sink_free(h->log);
    entropy_free(h->entropy);
    clock_free(h->clock);
    arena_free(h->arena);
}

// A Kafka that runs holds a lock in its directory.
static int take_other(struct home *h, const char *dir, bool is_read_only)
{
    int r = disk_new(&h->other);
    if (r < 0)
        return cli_fail("topic", "disk: %s", strerror(-r));
    if (is_read_only)
        disk_make_read_only(h->other);
    struct disk_stat st;
    r = disk_stat(h->other, dir, &st);
    if (r < 0 || !st.is_dir)
        return cli_fail("topic", "%s: %s", dir, r < 0 ? strerror(-r) : "no directory");
    const char *lock = arena_printf(h->arena, "%s/.lock", dir);
    int64_t pid;
    if (disk_stat(h->other, lock, &st) < 0)
        return CLI_FINE;
    r = disk_lock(h->other, lock, &h->other_lock, &pid);
    if (r == -EBUSY)
        return cli_fail("topic", "%s: an Apache Kafka runs on it; stop that first", dir);
    return r < 0 ? cli_fail("topic", "%s: %s", lock, strerror(-r)) : CLI_FINE;
}

static void on_disk(void *arg, uint32_t events)
{
    (void)arg;
    (void)events; // broker_step() takes what is done
}

static int home_open(struct home *h, const char *data, bool is_read_only)
{
    static const struct net_limits limits = {.max_connections = 1};
    h->clock = clock_new();
    h->entropy = entropy_new();
    h->net = net_new(&limits, h->clock);
    h->log = log_sink_new(h->clock, STDERR_FILENO, LOG_WARN, false);
    h->configs = configs_new();
    (void)cli_raise_open_files();
    int error = disk_new(&h->disk);
    if (!error)
        error = net_watch(h->net, disk_event_fd(h->disk), EPOLLIN, on_disk, NULL);
    if (error)
        return cli_fail("topic", "disk: %s", strerror(-error));
    if (is_read_only)
        disk_make_read_only(h->disk);
    struct broker_config config = {.net = h->net,
                                   .clock = h->clock,
                                   .entropy = h->entropy,
                                   .disk = h->disk,
                                   .log = h->log,
                                   .dir = data,
                                   .fixed = h->configs,
                                   .accounting = true,
                                   .is_passing = true,
                                   .repair = h->repair};
    if (h->repair) {
        config.repair_topics = h->repair_what->names;
        config.n_repair_topics = h->repair_what->n_names;
    }
    char why[WHY_MAX];
    error = broker_new(&config, &h->broker, why, sizeof why);
    return error ? cli_fail("topic", "%s%s", why, error == -EBUSY ? "; stop that broker first" : "")
                 : CLI_FINE;
}

static int home_stop(struct home *h)
{
    broker_stop(h->broker);
    while (!broker_is_stopped(h->broker)) {
        int handled = net_run_once(h->net, broker_timeout_ms(h->broker));
        broker_step(h->broker, handled == 0);
    }
    return broker_failure(h->broker) ? CLI_COULD_NOT_RUN : CLI_FINE;
}

// Out.

static int export_one(struct home *h, const struct topic *t, const char *dir)
{
    struct log **logs = arena_array(h->arena, (size_t)t->n_partitions, sizeof(struct log *));
    int64_t offsets = 0;
    for (int32_t i = 0; i < t->n_partitions; i++) {
        struct partition *p = partitions_get(broker_partitions(h->broker), t->id, i);
        if (!p)
            return cli_fail("topic", "%s-%d is not there", t->name.ptr, (int)i);
        logs[i] = partition_log(p);
        offsets += log_end(logs[i]) - log_start(logs[i]);
    }
    char why[WHY_MAX];
    int r = kafka_copy_out(h->disk, logs, t->n_partitions, t->name.ptr, t->id, h->other, dir, why,
                           sizeof why);
    if (r < 0)
        return cli_fail("topic", "export %s: %s", t->name.ptr, why);
    printf("exported %s: %d partition%s, %" PRId64 " offsets\n", t->name.ptr, (int)t->n_partitions,
           t->n_partitions == 1 ? "" : "s", offsets);
    return CLI_FINE;
}

static int check_names(struct home *h, const struct topic_copy *o)
{
    for (int i = 0; i < o->n_names; i++)
        if (!topics_by_name(broker_topics(h->broker), str_from(o->names[i])))
            return cli_fail("topic", "no topic \"%s\" in %s", o->names[i], o->data);
    return CLI_FINE;
}

static int export_all(struct home *h, const struct topic_copy *o)
{
    const struct topics *ts = broker_topics(h->broker);
    int status = check_names(h, o);
    for (int i = 0; i < o->n_names && status == CLI_FINE; i++)
        status = export_one(h, topics_by_name(ts, str_from(o->names[i])), o->dir);
    const struct topic *t;
    for (size_t it = 0; o->n_names == 0 && status == CLI_FINE && (t = topics_next(ts, &it));)
        if (!t->is_internal)
            status = export_one(h, t, o->dir);
    return status;
}

int cli_topic_export(const struct topic_copy *o)
{
    struct home h = {.arena = arena_new()};
    int status = take_other(&h, o->dir, false);
    if (status == CLI_FINE)
        status = home_open(&h, o->data, true);
    if (status == CLI_FINE)
        status = export_all(&h, o);
    home_close(&h);
    return status;
}

// In.

// The decision to make the topic, as a client's request would make it. Nothing is kept by default
// settings: what is copied in is old, and would be deleted at once.
static int decide_topic(struct home *h, const struct topic_copy *o, const struct kafka_topic *k,
                        struct effects *fx)
{
    struct create_topics_request_topic topic;
    create_topics_request_topic_init(&topic);
    topic.name = str_from(k->name);
    topic.num_partitions = k->n_partitions;
    topic.replication_factor = 1;
    topic.configs = arena_array(h->arena, o->n_configs + 1, sizeof *topic.configs);
    bool has_retention = false;
    for (size_t i = 0; i < o->n_configs; i++) {
        has_retention = has_retention || !strcmp(o->configs[i].name, "retention.ms");
        create_topics_request_config_init(&topic.configs[i]);
        topic.configs[i].name = str_from(o->configs[i].name);
        topic.configs[i].value = str_from(o->configs[i].value);
    }
    topic.n_configs = (int32_t)o->n_configs;
    if (!has_retention)
        topic.configs[topic.n_configs++] =
            (struct create_topics_request_config){.name = STR("retention.ms"), .value = STR("-1")};
    struct create_topics_request request;
    create_topics_request_init(&request);
    request.topics = &topic;
    request.n_topics = 1;
    request.timeout_ms = TIMEOUT_MS;
    struct asker a = broker_asker(h->broker);
    a.version = create_topics_request_msg.max_version;
    topics_decide_create(broker_topics(h->broker), &a, &request, fx);
    const struct create_topics_response *response = fx->first_reply->response;
    const struct create_topics_response_topic *out = &response->topics[0];
    if (!out->error_code)
        return CLI_FINE;
    return cli_fail("topic", "import %s: %s%s%.*s", k->name, kerr_name(out->error_code),
                    out->error_message.len > 0 ? ": " : "", STR_FMT(out->error_message));
}

static void add_log_records(struct home *h, const struct kafka_topic *k, struct uuid id,
                            struct effects *fx)
{
    for (int32_t i = 0; i < k->n_partitions; i++) {
        const struct kafka_partition *p = &k->partitions[i];
        const struct epoch_start *last = &p->epochs.items[p->epochs.n - 1];
        struct offsets_reserved_record *r = effects_record(fx, &offsets_reserved_record_msg);
        r->topic_id = id;
        r->partition = i;
        r->upto = p->end;
        r->synced = p->end;
        if (last->epoch > 0) {
            struct leader_epoch_started_record *e =
                effects_record(fx, &leader_epoch_started_record_msg);
            e->topic_id = id;
            e->partition = i;
            e->epoch = last->epoch;
            e->start_offset = e->lost_from = e->lost_upto = last->start;
            e->time_ms = broker_wall_ms(h->broker);
        }
        if (p->start > 0) {
            struct log_start_moved_record *m = effects_record(fx, &log_start_moved_record_msg);
            m->topic_id = id;
            m->partition = i;
            m->log_start = p->start;
            m->cause = LOG_START_DELETE_RECORDS;
            m->time_ms = broker_wall_ms(h->broker);
        }
    }
}

// First the files, durable, under the id that the topic will have; then the decision, which makes
// them its own. What a crash leaves before that is removed at the next start.
static int import_one(struct home *h, const struct topic_copy *o, const struct kafka_topic *k)
{
    struct effects fx;
    effects_init(&fx, h->arena);
    int status = decide_topic(h, o, k, &fx);
    if (status != CLI_FINE)
        return status;
    struct uuid id = ((const struct topic_created_record *)fx.first_record->record)->topic_id;
    char why[WHY_MAX];
    int r = kafka_copy_in(h->other, k, h->disk, o->data, id, why, sizeof why);
    if (r < 0)
        return cli_fail("topic", "import %s: %s", k->name, why);
    add_log_records(h, k, id, &fx);
    broker_commit(h->broker, &fx);
    int64_t records = 0;
    for (int32_t i = 0; i < k->n_partitions && !broker_failure(h->broker); i++) {
        const struct partition *p = partitions_get(broker_partitions(h->broker), id, i);
        if (!p || partition_log_end(p) != k->partitions[i].end)
            return cli_fail("topic", "import %s: partition %d could not be opened", k->name,
                            (int)i);
        records += k->partitions[i].records;
    }
    if (broker_failure(h->broker))
        return CLI_COULD_NOT_RUN;
    printf("imported %s: %d partition%s, %" PRId64 " records\n", k->name, (int)k->n_partitions,
           k->n_partitions == 1 ? "" : "s", records);
    return CLI_FINE;
}

// All are looked at before anything is changed.
static int import_checked(struct home *h, const struct topic_copy *o, char **names, size_t n)
{
    struct kafka_topic *topics = arena_array(h->arena, n, sizeof *topics);
    char why[WHY_MAX];
    int status = CLI_FINE;
    for (size_t i = 0; i < n && status == CLI_FINE; i++)
        if (kafka_topic_check(h->other, o->dir, names[i], h->arena, &topics[i], why, sizeof why) <
            0)
            status = cli_fail("topic", "import: %s; nothing was changed", why);
    if (status == CLI_FINE)
        status = home_open(h, o->data, false);
    for (size_t i = 0; i < n && status == CLI_FINE; i++)
        if (topics_by_name(broker_topics(h->broker), str_from(names[i])))
            status = cli_fail("topic", "import: there is a topic %s already; nothing was changed",
                              names[i]);
    for (size_t i = 0; i < n && status == CLI_FINE; i++)
        status = import_one(h, o, &topics[i]);
    if (h->broker) {
        int stopped = home_stop(h);
        status = status == CLI_FINE ? stopped : status;
    }
    for (size_t i = 0; i < n; i++)
        kafka_topic_free(&topics[i]);
    return status;
}

int cli_topic_import(const struct topic_copy *o)
{
    struct home h = {.arena = arena_new()};
    char **names = o->names;
    size_t n = (size_t)o->n_names;
    int status = take_other(&h, o->dir, true);
    if (status == CLI_FINE && n == 0) {
        int r = kafka_dir_topics(h.other, o->dir, h.arena, &names, &n);
        if (r < 0)
            status = cli_fail("topic", "%s: %s", o->dir, strerror(-r));
        else if (n == 0)
            status = cli_fail("topic", "%s: no topic is there: no data directory of Apache Kafka",
                              o->dir);
    }
    if (status == CLI_FINE)
        status = import_checked(&h, o, names, n);
    home_close(&h);
    return status;
}

// Mending.

static void say_place(void *ctx, const char *line)
{
    (void)ctx;
    puts(line);
}

int cli_topic_repair(const struct topic_copy *o)
{
    struct log_repair plan = {.say = say_place};
    struct home h = {.arena = arena_new(), .repair = &plan, .repair_what = o};
    int status = home_open(&h, o->data, false);
    if (status == CLI_FINE)
        status = check_names(&h, o);
    if (h.broker) {
        int stopped = home_stop(&h);
        status = status == CLI_FINE ? stopped : status;
    }
    if (status == CLI_FINE && plan.n_places == 0)
        puts("every batch was read and is whole: nothing was repaired");
    else if (status == CLI_FINE)
        printf("repaired %zu place%s, %" PRId64 " offset%s lost; the segments as they were are "
               "kept as *.log.damaged\n",
               plan.n_places, plan.n_places == 1 ? "" : "s", plan.lost_offsets,
               plan.lost_offsets == 1 ? " is" : "s are");
    home_close(&h);
    return status;
}
