// libtally as other programs use it, rightly and wrongly.
//   library threads DIR TOPIC BOOTSTRAP        handles on threads of their own, all at once
//   library callback HOW INTO TOPIC BOOTSTRAP  a callback that breaks its contract: prints the code
//                                              and the sentence that came of it
//   library some HOW INTO TOPIC BOOTSTRAP      many records a call, one of which does not fit: HOW
//                                              names it, or is "unknown"; "old": a program that
//                                              knows no such callback
//   library slow INTO TOPIC BOOTSTRAP          a callback that is slower than a producer
// threads: ends with 0 when each handle has stored every record of the topic once.

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tally.h>
#include <time.h>

#define HANDLES 4 // the last one goes on until another thread tells it to stop

struct handle {
    pthread_t thread;
    char into[300];
    char group[20];
    const char *topic;
    const char *bootstrap;
    struct tally *_Atomic open; // for the thread that stops it
    bool is_endless;
    long seen; // by its own callbacks only
    int result;
    struct tally_error error;
    struct tally_stats stats;
};

static int set_up(void *user, struct tally_tx *tx, struct tally_error *error)
{
    (void)user;
    return tally_tx_run(tx, "CREATE TABLE IF NOT EXISTS seen (p BIGINT, o BIGINT)", NULL, 0, NULL,
                        error);
}

static int insert(const struct tally_record *r, struct tally_tx *tx, struct tally_error *error)
{
    struct tally_value v[] = {tally_int(r->partition), tally_int(r->offset)};
    return tally_tx_run(tx, "INSERT INTO seen VALUES ($1, $2)", v, 2, NULL, error);
}

// --- Threads.

static int store(void *user, const struct tally_record *r, struct tally_tx *tx,
                 struct tally_error *error)
{
    struct handle *h = user;
    h->seen++;
    return insert(r, tx, error);
}

static void *run(void *argument)
{
    struct handle *h = argument;
    const char *topics[] = {h->topic};
    struct tally_options o = {.size = sizeof o,
                              .into = h->into,
                              .topics = topics,
                              .n_topics = 1,
                              .group = h->group,
                              .bootstrap = h->bootstrap,
                              .process = store,
                              .setup = set_up,
                              .user = h,
                              .until_end = !h->is_endless,
                              .batch_records = 50};
    struct tally *t = NULL;
    h->result = tally_open(&o, &t, &h->error);
    if (h->result == 0) {
        atomic_store(&h->open, t);
        h->result = tally_run(t, &h->error);
        h->stats.size = sizeof h->stats;
        tally_stats(t, &h->stats);
    }
    if (!h->is_endless)
        tally_close(t); // the endless one is closed by who has stopped it
    return NULL;
}

static int run_threads(const char *dir, const char *topic, const char *bootstrap)
{
    static struct handle handles[HANDLES];
    for (int i = 0; i < HANDLES; i++) {
        struct handle *h = &handles[i];
        h->topic = topic;
        h->bootstrap = bootstrap;
        h->is_endless = i == HANDLES - 1;
        snprintf(h->into, sizeof h->into, "sqlite:%s/thread%d.db", dir, i);
        snprintf(h->group, sizeof h->group, "thread%d", i);
        if (pthread_create(&h->thread, NULL, run, h))
            return 2;
    }
    for (int i = 0; i < HANDLES - 1; i++)
        pthread_join(handles[i].thread, NULL);
    struct handle *last = &handles[HANDLES - 1];
    while (!atomic_load(&last->open))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    tally_stop(last->open);
    pthread_join(last->thread, NULL);
    tally_close(last->open);
    int bad = 0;
    for (int i = 0; i < HANDLES; i++) {
        const struct handle *h = &handles[i];
        printf("%d %d %llu %s\n", i, h->result, (unsigned long long)h->stats.records,
               h->result ? h->error.text : "");
        bad += h->result != 0 || h->seen < (long)h->stats.records;
    }
    return bad;
}

// --- Callbacks.

static int misbehave(void *user, const struct tally_record *r, struct tally_tx *tx,
                     struct tally_error *error)
{
    const char *how = user;
    if (r->offset == 1 && strcmp(how, "positive") == 0)
        return 7;
    if (r->offset == 1 && strcmp(how, "silent") == 0)
        return TALLY_UNFIT;
    if (r->offset == 1 && strcmp(how, "commit") == 0)
        (void)tally_tx_run(tx, "COMMIT", NULL, 0, NULL, error);
    if (r->offset == 1 && strcmp(how, "rollback") == 0)
        (void)tally_tx_run(tx, "ROLLBACK", NULL, 0, NULL, error);
    if (r->offset == 1 && strcmp(how, "swallow") == 0)
        (void)tally_tx_run(tx, "INSERT INTO nowhere VALUES (1)", NULL, 0, NULL, error);
    return insert(r, tx, error);
}

// Says what came of it.
static int run_to_the_end(const struct tally_options *o)
{
    struct tally *t = NULL;
    struct tally_error error = {.code = TALLY_FINE};
    int result = tally_open(o, &t, &error);
    if (result == 0)
        result = tally_run(t, &error);
    tally_close(t);
    printf("%d %s\n", result, result ? error.text : "");
    return 0;
}

static int run_callback(char *how, const char *into, const char *topic, const char *bootstrap)
{
    const char *topics[] = {topic};
    struct tally_options o = {.size = sizeof o,
                              .into = into,
                              .topics = topics,
                              .n_topics = 1,
                              .group = how,
                              .bootstrap = bootstrap,
                              .process = misbehave,
                              .setup = set_up,
                              .user = how,
                              .until_end = true};
    return run_to_the_end(&o);
}

// --- Many records a call.

#define UNFIT_OFFSET 3

// Leaves the value of each record's only header, to show that none stands in for another.
static int store_some(void *user, const struct tally_record *records, size_t n, struct tally_tx *tx,
                      size_t *ret_bad, struct tally_error *error)
{
    bool is_known = strcmp(user, "named") == 0;
    for (size_t i = 0; i < n; i++) {
        const struct tally_record *r = &records[i];
        struct tally_value v[] = {tally_int(r->offset), tally_null()};
        if (r->n_headers == 1)
            v[1] = tally_text(r->headers[0].value);
        if (v[1].data)
            v[1].len = r->headers[0].len;
        if (r->offset == UNFIT_OFFSET && is_known)
            *ret_bad = i;
        if (r->offset == UNFIT_OFFSET)
            return tally_error_set(error, TALLY_UNFIT, "it is the one");
        int result = tally_tx_run(tx, "INSERT INTO many VALUES ($1, $2)", v, 2, NULL, error);
        if (result < 0)
            return result;
    }
    return 0;
}

static int set_up_some(void *user, struct tally_tx *tx, struct tally_error *error)
{
    (void)user;
    return tally_tx_run(tx, "CREATE TABLE IF NOT EXISTS many (o BIGINT, header TEXT)", NULL, 0,
                        NULL, error);
}

static int run_some(char *how, const char *into, const char *topic, const char *bootstrap)
{
    const char *topics[] = {topic};
    bool is_old = strcmp(how, "old") == 0;
    struct tally_options o = {.size =
                                  is_old ? offsetof(struct tally_options, process_some) : sizeof o,
                              .into = into,
                              .topics = topics,
                              .n_topics = 1,
                              .group = how,
                              .bootstrap = bootstrap,
                              .process_some = store_some,
                              .process = is_old || strcmp(how, "both") == 0 ? misbehave : NULL,
                              .setup = is_old ? set_up : set_up_some,
                              .user = how,
                              .dead_letter = "dead",
                              .until_end = true};
    return run_to_the_end(&o);
}

// --- More comes all the time than can be stored.

static int store_slowly(void *user, const struct tally_record *r, struct tally_tx *tx,
                        struct tally_error *error)
{
    (void)user;
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    return insert(r, tx, error);
}

static int run_slowly(const char *into, const char *topic, const char *bootstrap)
{
    const char *topics[] = {topic};
    struct tally_options o = {.size = sizeof o,
                              .into = into,
                              .topics = topics,
                              .n_topics = 1,
                              .group = "slow",
                              .bootstrap = bootstrap,
                              .process = store_slowly,
                              .setup = set_up,
                              .until_end = true,
                              .batch_records = 1};
    return run_to_the_end(&o);
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "slow") == 0)
        return run_slowly(argv[2], argv[3], argv[4]);
    if (argc == 5 && strcmp(argv[1], "threads") == 0)
        return run_threads(argv[2], argv[3], argv[4]);
    if (argc == 6 && strcmp(argv[1], "callback") == 0)
        return run_callback(argv[2], argv[3], argv[4], argv[5]);
    if (argc == 6 && strcmp(argv[1], "some") == 0)
        return run_some(argv[2], argv[3], argv[4], argv[5]);
    return 2;
}
