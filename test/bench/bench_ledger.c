// What accounting costs: one member that reads many partitions and commits now and then. Prints the
// time of one fetched partition (asked for, and sent) and how often memory was allocated for it.
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/ledger/ledger.h"

#define PARTITIONS 64
#define ROUNDS 20000
#define WARM_UP_ROUNDS 1000
#define RECORDS_A_FETCH 500
#define FETCHES_A_COMMIT 10
#define CONN 1

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t each);
extern void *__libc_realloc(void *p, size_t n);
void *malloc(size_t n);
void *calloc(size_t n, size_t each);
void *realloc(void *p, size_t n);

static uint64_t allocations;

void *malloc(size_t n)
{
    allocations++;
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t each)
{
    allocations++;
    return __libc_calloc(n, each);
}

void *realloc(void *p, size_t n)
{
    allocations++;
    return __libc_realloc(p, n);
}

static const struct uuid topic = {.b = {1}};
static struct ledger_identity identity(void)
{
    return (struct ledger_identity){.principal = STR("User:ANONYMOUS"),
                                    .host = STR("/127.0.0.1"),
                                    .client_id = STR("bench"),
                                    .software = STR("bench 1")};
}

static int64_t at[PARTITIONS];
static struct ledger_time now = {1000, 1000000};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool bounds(void *ctx, struct uuid topic_id, int32_t partition, struct ledger_range *ret)
{
    (void)ctx;
    (void)topic_id;
    (void)partition;
    *ret = (struct ledger_range){0, INT64_MAX / 2};
    return true;
}

static void set_up(struct ledger *l)
{
    struct ledger_tp assigned[PARTITIONS];
    struct ledger_identity who = identity();
    for (int32_t i = 0; i < PARTITIONS; i++)
        assigned[i] = (struct ledger_tp){topic, i};
    struct ledger_member m = {.member_id = STR("bench-member"),
                              .instance_id = STR_NULL,
                              .who = who,
                              .session_timeout_ms = 45000,
                              .rebalance_timeout_ms = 300000,
                              .subscription = STR("topic"),
                              .assigned = assigned,
                              .n_assigned = PARTITIONS};
    ledger_topic_created(l, now, topic, STR("topic"), PARTITIONS);
    ledger_conn_opened(l, now, CONN, &who, STR_EMPTY);
    ledger_own_request(l, now, CONN, STR("group"), m.member_id, API_JOIN_GROUP);
    ledger_generation(l, now, STR("group"), 1, &m, 1);
}

static void commit_all(struct ledger *l)
{
    for (int32_t i = 0; i < PARTITIONS; i++) {
        struct ledger_commit c = {.conn = CONN,
                                  .group = STR("group"),
                                  .member = STR("bench-member"),
                                  .who = identity(),
                                  .generation = 1,
                                  .topic_id = topic,
                                  .partition = i,
                                  .offset = at[i]};
        ledger_committed(l, now, &c);
    }
}

// Returns the time of the fetches alone.
static uint64_t rounds(struct ledger *l, int n, uint64_t *answer)
{
    uint64_t spent = 0;
    for (int r = 0; r < n; r++) {
        now.now_ms++;
        now.wall_ms++;
        ++*answer;
        uint64_t from = now_ns();
        for (int32_t i = 0; i < PARTITIONS; i++)
            ledger_position(l, now, CONN, topic, i, at[i]);
        for (int32_t i = 0; i < PARTITIONS; i++) {
            struct ledger_range sent = {at[i], at[i] + RECORDS_A_FETCH};
            ledger_sending(l, now, CONN, topic, i, sent, *answer);
            at[i] = sent.to;
        }
        spent += now_ns() - from;
        if (r % FETCHES_A_COMMIT == 0)
            commit_all(l);
    }
    return spent;
}

int main(void)
{
    struct ledger_logs logs = {.bounds = bounds};
    struct ledger *l = ledger_new(&logs, LEDGER_AT_LEAST_ONCE);
    uint64_t answer = 0;
    set_up(l);
    rounds(l, WARM_UP_ROUNDS, &answer);
    uint64_t before = allocations;
    uint64_t ns = rounds(l, ROUNDS, &answer);
    double fetched = (double)ROUNDS * PARTITIONS;
    printf("%.1f ns, %.3f allocations a fetched partition\n", (double)ns / fetched,
           (double)(allocations - before) / fetched);
    struct ledger_partition_view v;
    if (!ledger_partition(l, STR("group"), topic, 0, &v) || v.state[LEDGER_UNKNOWN] > 0) {
        fputs("bench_ledger: what was sent is not accounted for\n", stderr);
        return 1;
    }
    ledger_free(l);
    return 0;
}
