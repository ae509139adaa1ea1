// The simulator's command line.
//   sim --seed N [--minutes M] [--verbose]      one run
//   sim --cuts STEP [--seed N] [--verbose]      the scripted run, ended at every STEP-th operation
//                                               on the disk
//   sim --from N --count C [--minutes M]        many; each twice when --twice: equal trace hashes

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "cuts.h"
#include "plan.h"

static const struct option options[] = {
    {"seed", required_argument, NULL, 's'},  {"from", required_argument, NULL, 's'},
    {"count", required_argument, NULL, 'c'}, {"minutes", required_argument, NULL, 'm'},
    {"cuts", required_argument, NULL, 'u'},  {"verbose", no_argument, NULL, 'v'},
    {"twice", no_argument, NULL, 't'},       {NULL, 0, NULL, 0},
};

static int run_one(const struct sim_options *o, bool twice, struct plan_result *sum)
{
    struct plan_result r;
    plan_run(o, &r);
    sum->simulated_ms += r.simulated_ms;
    sum->n_processed += r.n_processed;
    sum->n_lives += r.n_lives;
    sum->n_checks += r.n_checks;
    if (r.has_failed) {
        printf("sim: seed %llu failed %s\n     again: make sim SEED=%llu\n",
               (unsigned long long)o->seed, r.failure, (unsigned long long)o->seed);
        return 1;
    }
    if (twice) {
        struct plan_result again;
        plan_run(o, &again);
        if (again.trace_hash != r.trace_hash) {
            printf("sim: seed %llu gave two different runs\n", (unsigned long long)o->seed);
            return 1;
        }
    }
    if (o->is_verbose || !twice)
        printf("sim: seed %llu ok, hash %016llx, %llu events, %llu lives, %llu produced, "
               "%llu processed, %llu commits, %llu checks\n",
               (unsigned long long)o->seed, (unsigned long long)r.trace_hash,
               (unsigned long long)r.n_events, (unsigned long long)r.n_lives,
               (unsigned long long)r.n_produced, (unsigned long long)r.n_processed,
               (unsigned long long)r.n_commits, (unsigned long long)r.n_checks);
    return 0;
}

static int run_cuts(const struct sim_options *o, uint64_t step)
{
    uint64_t n = 0;
    int failed = cuts_run(o->seed, step, o->is_verbose, &n);
    printf("cuts: %llu passed, %d failed\n", (unsigned long long)(n - (uint64_t)failed), failed);
    return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct sim_options o = {.seed = 1, .minutes = 10};
    uint64_t n = 1;
    bool twice = false;
    uint64_t cuts_step = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 's')
            o.seed = strtoull(optarg, NULL, 0);
        else if (c == 'c')
            n = strtoull(optarg, NULL, 0);
        else if (c == 'm')
            o.minutes = strtoull(optarg, NULL, 0);
        else if (c == 'u')
            cuts_step = strtoull(optarg, NULL, 0);
        else if (c == 'v')
            o.is_verbose = true;
        else if (c == 't')
            twice = true;
        else
            return 2;
    }
    if (cuts_step)
        return run_cuts(&o, cuts_step);
    struct plan_result sum = {0};
    int failed = 0;
    for (uint64_t i = 0; i < n; i++, o.seed++)
        failed += run_one(&o, twice, &sum);
    printf("sim: %llu simulated hours, %llu lives of the broker, %llu records worked on, "
           "%llu checks\n",
           (unsigned long long)(sum.simulated_ms / 3600000), (unsigned long long)sum.n_lives,
           (unsigned long long)sum.n_processed, (unsigned long long)sum.n_checks);
    printf("%llu passed, %d failed\n", (unsigned long long)(n - (uint64_t)failed), failed);
    return failed ? 1 : 0;
}
