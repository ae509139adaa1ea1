// The simulator's command line.
//   sim --seed N [--minutes M] [--verbose]      one run
//   sim --full [--seed N] [--verbose]           scripts on a disk that fills up, a slow one
//   sim --cuts STEP [--seed N] [--verbose]      the scripted run, ended at every STEP-th operation
//                                               on the disk
//   sim --from N --count C [--minutes M]        many; each twice when --twice: equal trace hashes
//                                               --mixed adds features to each (plan.h)
//                                               --bug NAME puts that one in
//   sim --suite FILE --seconds S                the seeds of the file, then fresh ones for as long
//   sim --bugs [--from N --count C]             with each injected bug: it must be caught by one of
//                                               these seeds, and the seed pass without it

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/bug.h"
#include "cuts.h"
#include "plan.h"

static const struct option options[] = {
    {"seed", required_argument, NULL, 's'},    {"from", required_argument, NULL, 's'},
    {"count", required_argument, NULL, 'c'},   {"minutes", required_argument, NULL, 'm'},
    {"cuts", required_argument, NULL, 'u'},    {"verbose", no_argument, NULL, 'v'},
    {"full", no_argument, NULL, 'd'},          {"twice", no_argument, NULL, 't'},
    {"bugs", no_argument, NULL, 'b'},          {"mixed", no_argument, NULL, 'x'},
    {"bug", required_argument, NULL, 'i'},     {"suite", required_argument, NULL, 'f'},
    {"seconds", required_argument, NULL, 'e'}, {NULL, 0, NULL, 0},
};

static const char *seed_text(uint64_t seed)
{
    static char text[24];
    snprintf(text, sizeof text, seed >> 32 ? "0x%llx" : "%llu", (unsigned long long)seed);
    return text;
}

static int run_one(const struct sim_options *o, bool twice, struct plan_result *sum)
{
    struct plan_result r;
    const char *seed = seed_text(o->seed);
    plan_run(o, &r);
    sum->group_ms += r.simulated_ms * r.n_groups;
    sum->n_processed += r.n_processed;
    sum->n_lives += r.n_lives;
    sum->n_checks += r.n_checks;
    if (r.has_failed) {
        printf("sim: seed %s failed %s\n     again: make sim SEED=%s MINUTES=%llu\n", seed,
               r.failure, seed, (unsigned long long)o->minutes);
        return 1;
    }
    if (twice) {
        struct plan_result again;
        plan_run(o, &again);
        if (again.trace_hash != r.trace_hash) {
            printf("sim: seed %s gave two different runs\n", seed);
            return 1;
        }
    }
    if (o->is_verbose || !twice)
        printf("sim: seed %s ok, hash %016llx, %llu events, %llu lives, %llu produced, "
               "%llu processed, %llu commits, %llu checks\n",
               seed, (unsigned long long)r.trace_hash, (unsigned long long)r.n_events,
               (unsigned long long)r.n_lives, (unsigned long long)r.n_produced,
               (unsigned long long)r.n_processed, (unsigned long long)r.n_commits,
               (unsigned long long)r.n_checks);
    return 0;
}

static int run_cuts(const struct sim_options *o, uint64_t step)
{
    uint64_t n = 0;
    int failed = cuts_run(o->seed, step, o->is_verbose, &n);
    printf("cuts: %llu passed, %d failed\n", (unsigned long long)(n - (uint64_t)failed), failed);
    return failed ? 1 : 0;
}

static bool inject(const char *name)
{
    enum bug b = bug_find(name);
#ifdef TALLY_BUGS
    if (b < BUG_COUNT)
        bug_injected = b;
#endif
    if (b == BUG_COUNT)
        printf("sim: no bug %s is compiled in (make BUGS=1 build/bugs/sim)\n", name);
    return b < BUG_COUNT;
}

#ifdef TALLY_BUGS
// Is it caught by one of n seeds, and is that seed green without it?
static bool catches(struct sim_options o, enum bug b, uint64_t n, bool mixed)
{
    struct plan_result r = {0};
    uint64_t first = o.seed;
    for (uint64_t i = 0; i < n && !r.has_failed; i++) {
        o.seed = mixed ? plan_mixed(first + i) : first + i;
        bug_injected = b;
        plan_run(&o, &r);
        bug_injected = BUG_NONE;
    }
    if (!r.has_failed) {
        printf("bugs: %s was not caught by %llu seeds\n", bug_name(b), (unsigned long long)n);
        return false;
    }
    printf("bugs: %s was caught by seed %s, %s\n", bug_name(b), seed_text(o.seed), r.failure);
    plan_run(&o, &r);
    if (r.has_failed)
        printf("bugs: seed %s fails without it, %s\n", seed_text(o.seed), r.failure);
    return !r.has_failed;
}
#endif

static int run_bugs(const struct sim_options *o, uint64_t n, bool mixed)
{
#ifdef TALLY_BUGS
    int caught = 0, missed = 0;
    for (int b = BUG_NONE + 1; b < BUG_COUNT; b++)
        *(catches(*o, (enum bug)b, n, mixed) ? &caught : &missed) += 1;
    printf("bugs: %d passed, %d failed\n", caught, missed);
    return missed ? 1 : 0;
#else
    (void)o;
    (void)n;
    (void)mixed;
    printf("sim: no bugs are compiled in; make sim-bugs\n");
    return 2;
#endif
}

// ---- the suite of `make check`

// A seed that once found something stays: one a line, a comment behind it.
static int run_fixed(struct sim_options o, const char *path, struct plan_result *sum, uint64_t *n)
{
    FILE *f = fopen(path, "r");
    if (!f) {
        perror(path);
        return 1;
    }
    char line[256];
    int failed = 0;
    while (fgets(line, sizeof line, f)) {
        char *end;
        o.seed = strtoull(line, &end, 0);
        if (end == line)
            continue;
        failed += run_one(&o, *n == 0, sum);
        *n += 1;
    }
    fclose(f);
    return failed;
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// The fixed seeds, then fresh ones until the time is over.
static int run_suite(struct sim_options o, const char *path, uint64_t seconds)
{
    double began = seconds_now();
    struct plan_result sum = {0};
    uint64_t n = 0, fixed, first;
    int failed = run_fixed(o, path, &sum, &n);
    fixed = n;
    if (getrandom(&first, sizeof first, 0) != sizeof first)
        return 1;
    first &= UINT32_MAX >> 1;
    printf("sim: fresh seeds from %llu on, mixed\n", (unsigned long long)first);
    fflush(stdout);
    for (; seconds_now() - began < (double)seconds; n++) {
        o.seed = plan_mixed(first + n - fixed);
        failed += run_one(&o, n == fixed, &sum);
    }
    double took = seconds_now() - began;
    printf("sim: %llu fixed and %llu fresh seeds, %.1f group-hours, %.0f a minute; %llu lives of "
           "the broker, %llu records worked on\n",
           (unsigned long long)fixed, (unsigned long long)(n - fixed),
           (double)sum.group_ms / 3600000, (double)sum.group_ms / 3600000 / took * 60,
           (unsigned long long)sum.n_lives, (unsigned long long)sum.n_processed);
    printf("sim: %llu passed, %d failed\n", (unsigned long long)(n - (uint64_t)failed), failed);
    return failed ? 1 : 0;
}

static int run_range(struct sim_options o, uint64_t n, bool mixed, bool twice)
{
    struct plan_result sum = {0};
    int failed = 0;
    uint64_t first = o.seed;
    for (uint64_t i = 0; i < n; i++) {
        o.seed = mixed ? plan_mixed(first + i) : first + i;
        failed += run_one(&o, twice, &sum);
    }
    printf("sim: %.1f simulated group-hours, %llu lives of the broker, %llu records worked on, "
           "%llu checks\n",
           (double)sum.group_ms / 3600000, (unsigned long long)sum.n_lives,
           (unsigned long long)sum.n_processed, (unsigned long long)sum.n_checks);
    printf("sim: %llu passed, %d failed\n", (unsigned long long)(n - (uint64_t)failed), failed);
    return failed ? 1 : 0;
}

struct args {
    struct sim_options o;
    uint64_t n;
    uint64_t cuts_step;
    uint64_t seconds;
    const char *suite;
    bool twice, mixed, with_bugs, is_full;
};

static bool parse(struct args *a, int argc, char **argv)
{
    *a = (struct args){.o = {.seed = 1, .minutes = 10}, .n = 1, .seconds = 50};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 's')
            a->o.seed = strtoull(optarg, NULL, 0);
        else if (c == 'c')
            a->n = strtoull(optarg, NULL, 0);
        else if (c == 'm')
            a->o.minutes = strtoull(optarg, NULL, 0);
        else if (c == 'u')
            a->cuts_step = strtoull(optarg, NULL, 0);
        else if (c == 'd')
            a->is_full = true;
        else if (c == 'e')
            a->seconds = strtoull(optarg, NULL, 0);
        else if (c == 'f')
            a->suite = optarg;
        else if (c == 'v')
            a->o.is_verbose = true;
        else if (c == 't')
            a->twice = true;
        else if (c == 'x')
            a->mixed = true;
        else if (c == 'b')
            a->with_bugs = true;
        else if (c != 'i' || !inject(optarg))
            return false;
    }
    return optind == argc;
}

int main(int argc, char **argv)
{
    struct args a;
    if (!parse(&a, argc, argv))
        return 2;
    if (a.with_bugs)
        return run_bugs(&a.o, a.n, a.mixed);
    if (a.is_full) {
        int failed = cuts_full(a.o.seed, a.o.is_verbose) + cuts_slow(a.o.seed, a.o.is_verbose);
        printf("disk: %d passed, %d failed\n", 2 - failed, failed);
        return failed ? 1 : 0;
    }
    if (a.cuts_step)
        return run_cuts(&a.o, a.cuts_step);
    if (a.suite)
        return run_suite(a.o, a.suite, a.seconds);
    return run_range(a.o, a.n, a.mixed, a.twice);
}
