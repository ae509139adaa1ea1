// Runs of libtally under every interleaving that the two plans below make. See model.h.
//   model [--seed N] [--runs N] [--pairs] [--expect-red]      ends with "N passed, N failed"
// The first plan (--pairs) is exhaustive: a copy is stopped at each of its steps, another takes
// over and is run for each number of steps, then both go on; and the topic is made again at each
// step of one. The second rolls dice for three.

#include "model.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACK_BYTES (256u << 10)
#define MAX_TURNS 20000 // of a run: more means that it hangs
#define WILD_TURNS 1500 // after them nothing breaks any more
#define STEP_MS 7

struct model model;

uint32_t model_roll(uint32_t n)
{
    model.dice = model.dice * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(model.dice >> 33) % n;
}

bool model_breaks(uint32_t one_in)
{
    return model.is_wild && model_roll(one_in) == 0;
}

void model_wrong(const char *format, ...)
{
    if (model.wrong[0])
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(model.wrong, sizeof model.wrong, format, args);
    va_end(args);
}

void model_step(void)
{
    struct copy *c = model.running;
    c->steps++;
    swapcontext(&c->context, &model.scheduler);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    (void)clock;
    ret_time->tv_sec = model.now_ms / 1000;
    ret_time->tv_nsec = model.now_ms % 1000 * 1000000;
    return 0;
}

int __wrap_nanosleep(const struct timespec *pause, struct timespec *left);
int __wrap_nanosleep(const struct timespec *pause, struct timespec *left)
{
    (void)left;
    model.now_ms += pause->tv_sec * 1000 + pause->tv_nsec / 1000000;
    model_step();
    return 0;
}

// All is in one thread here: records are freed where they are done with.
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *user);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *user)
{
    (void)thread, (void)attributes, (void)run, (void)user;
    return EAGAIN;
}

// --- A copy.

static int store(void *user, const struct tally_record *r, struct tally_tx *tx,
                 struct tally_error *error)
{
    (void)user;
    struct tally_value v[] = {tally_int(r->partition), tally_int(r->offset),
                              tally_int(r->claim_epoch), tally_int(r->time_ms)};
    return tally_tx_run(tx, "INSERT INTO rows VALUES ($1, $2, $3, $4)", v, 4, NULL, error);
}

static int store_some(void *user, const struct tally_record *records, size_t n, struct tally_tx *tx,
                      size_t *ret_bad, struct tally_error *error)
{
    int result = 0;
    for (size_t i = 0; result == 0 && i < n; i++)
        result = store(user, &records[i], tx, error);
    // Now and then it wants fewer at once, and names one of them or none.
    int64_t last = records[n - 1].offset;
    if (result < 0 || n == 1 || last % 3 == 0)
        return result;
    if (last % 3 == 1)
        *ret_bad = n - 1;
    return tally_error_set(error, TALLY_UNFIT, "too many");
}

static void run_copy(void)
{
    static const char *const topics[] = {MODEL_TOPIC};
    struct copy *c = model.running;
    bool takes_some = c == model.copies; // the others take one at a time
    struct tally_options o = {
        .size = sizeof o,
        .group = "g",
        .topics = topics,
        .n_topics = 1,
        .into = "model",
        .process = takes_some ? NULL : store,
        .process_some = takes_some ? store_some : NULL,
        .batch_records = 3,
        .timeout_ms = -1,
    };
    struct tally_error error = {.code = TALLY_FINE};
    int result = tally_open(&o, &c->t, &error);
    if (result == 0)
        result = tally_run(c->t, &error);
    c->saw_new = model.is_made_again && result == TALLY_OFFSET;
    if (result < 0 && !c->saw_new)
        model_wrong("a copy gave up: %.150s", error.text);
    tally_close(c->t);
    c->is_running = false;
    c->t = NULL;
    model_step();
}

static void start(struct copy *c)
{
    char *stack = c->stack ? c->stack : malloc(STACK_BYTES);
    *c = (struct copy){.stack = stack, .is_running = true};
    getcontext(&c->context);
    c->context.uc_stack.ss_sp = stack;
    c->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&c->context, run_copy, 0);
}

// What it had in memory stays there, as nobody's.
static void kill_copy(struct copy *c)
{
    database_killed(c);
    kafka_killed(c);
    c->is_running = false;
}

static void turn(struct copy *c)
{
    if (!c->is_running || c->is_frozen)
        return;
    model.now_ms += STEP_MS;
    model.running = c;
    swapcontext(&model.scheduler, &c->context);
    kafka_background(c);
}

static void reset(enum model_protocol protocol, enum tally_database database, uint64_t seed)
{
    kafka_reset();
    database_reset();
    for (int i = 0; i < MODEL_COPIES; i++)
        model.copies[i] = (struct copy){.stack = model.copies[i].stack};
    model.protocol = protocol;
    model.database = database;
    model.dice = seed * 0x9e3779b97f4a7c15u + 1;
    model.is_wild = model.is_made_again = false;
    model.now_ms = 1000;
    model.wrong[0] = 0;
}

// Everybody is well, and goes on until all is stored; then all end in order.
static bool finish(void)
{
    bool is_any = true;
    model.is_wild = false;
    kafka_expel_dead();
    for (int i = 0; i < MODEL_COPIES; i++)
        model.copies[i].is_frozen = false;
    for (int n = 0; is_any && !model.wrong[0]; n++) {
        bool is_complete = database_is_complete();
        is_any = false;
        for (int i = 0; i < MODEL_COPIES; i++) {
            struct copy *c = &model.copies[i];
            if (is_complete && c->t)
                tally_stop(c->t);
            turn(c);
            is_any = is_any || c->is_running;
        }
        if (!is_any && !is_complete && !model.wrong[0]) { // all were told to stop
            start(&model.copies[0]);
            is_any = true;
        }
        if (n % 50 == 0)
            database_late();
        if (n > MAX_TURNS)
            model_wrong("it hangs");
    }
    if (!model.wrong[0])
        database_check();
    // Of a run that went wrong some are still there.
    for (int i = 0; i < MODEL_COPIES; i++) {
        if (model.copies[i].is_running)
            kill_copy(&model.copies[i]);
    }
    return !model.wrong[0];
}

// --- The first plan.

enum fate { FATE_FREEZE, FATE_OUT, FATE_KILL, FATE_CUT, FATE_STOP, N_FATES };
static const char *const fate_names[] = {"frozen", "put out", "killed", "cut off", "told to stop"};

static void meet(struct copy *c, enum fate fate)
{
    switch (fate) {
    case FATE_FREEZE:
        kafka_expel(c);
        c->is_frozen = true;
        break;
    case FATE_OUT:
        kafka_leave(c);
        c->is_frozen = true;
        break;
    case FATE_KILL:
        kafka_expel(c);
        kill_copy(c);
        break;
    case FATE_CUT: // its transaction is ended for it
        kafka_expel(c);
        c->is_frozen = true;
        database_end_idle(c);
        break;
    case FATE_STOP: // it ends in order
        if (c->t)
            tally_stop(c->t);
        c->is_frozen = model_roll(2);
        break;
    case N_FATES:
        break;
    }
}

// False: the first copy makes fewer than `at` steps.
static bool run_pair(enum fate fate, int at, int until)
{
    struct copy *a = &model.copies[0], *b = &model.copies[1];
    start(a);
    for (int i = 0; a->steps < at; i++) {
        if (database_is_complete() || i > MAX_TURNS)
            return false;
        turn(a);
    }
    meet(a, fate);
    start(b);
    for (int i = 0; b->steps < until && i < MAX_TURNS; i++) {
        turn(b);
        turn(a);
    }
    a->is_frozen = false;
    return true;
}

static void say(const char *plan, const char *what)
{
    printf("%s, %s, %s, %s: %s\n", plan, model.protocol == MODEL_EAGER ? "eager" : "cooperative",
           model.database == TALLY_SQLITE ? "sqlite" : "postgres", what, model.wrong);
}

#define MAX_SAID 5          // failures of one plan that are printed
#define MADE_AGAIN_SEEDS 20 // each polls in an order of its own
#define PAIR_STEPS 70       // of the second copy: enough to claim, read and store

static void run_pairs(enum model_protocol protocol, enum tally_database database, int *passed,
                      int *failed)
{
    char what[80];
    for (enum fate fate = 0; fate < N_FATES; fate++) {
        bool is_more = true;
        for (int at = 1; is_more; at++) {
            for (int until = 0; is_more && until < PAIR_STEPS; until++) {
                reset(protocol, database, 1);
                is_more = run_pair(fate, at, until);
                bool is_good = finish();
                *passed += is_good;
                *failed += !is_good;
                snprintf(what, sizeof what, "%s at step %d, back after %d of the other",
                         fate_names[fate], at, until);
                if (!is_good && *failed <= MAX_SAID)
                    say("pairs", what);
            }
        }
    }
}

// The topic is deleted and made again, with as many records, at one step of a copy that knows it.
// False: the copy makes fewer than `at` steps.
static bool run_made_again(int at)
{
    struct copy *c = &model.copies[0];
    start(c);
    for (int known_at = 0; !known_at || c->steps < known_at + at;) {
        if (!known_at && c->t && c->t->topics[0].asked_at_ms)
            known_at = c->steps;
        if (database_is_complete())
            return false;
        turn(c);
    }
    model.is_made_again = true;
    for (int i = 0; c->is_running && i < MAX_TURNS; i++)
        turn(c);
    if (!c->saw_new)
        model_wrong("the copy does not notice the topic made again");
    return true;
}

static void run_all_made_again(enum model_protocol protocol, enum tally_database database,
                               int *passed, int *failed)
{
    bool is_more = true;
    char what[40];
    for (int at = 1; is_more; at++) {
        for (uint64_t seed = 1; is_more && seed <= MADE_AGAIN_SEEDS; seed++) {
            reset(protocol, database, seed);
            is_more = run_made_again(at);
            if (model.copies[0].is_running)
                kill_copy(&model.copies[0]);
            *passed += !model.wrong[0];
            *failed += model.wrong[0] != 0;
            snprintf(what, sizeof what, "at step %d", at);
            if (model.wrong[0] && *failed <= MAX_SAID)
                say("made again", what);
        }
    }
}

// --- The second plan.

static void disturb(struct copy *c)
{
    switch (model_roll(10)) {
    case 0:
        kill_copy(c);
        break;
    case 9:
        if (c->t)
            tally_stop(c->t);
        break;
    case 1:
        kafka_expel(c);
        break;
    case 2:
        kafka_leave(c);
        break;
    case 3:
        kafka_join_timeout();
        break;
    case 4:
    case 5:
        c->is_frozen = !c->is_frozen;
        break;
    case 6:
        kafka_expel_dead();
        break;
    case 7:
        database_end_idle(c);
        break;
    default:
        database_late();
    }
}

static bool run_dice(uint64_t seed)
{
    reset(seed & 1 ? MODEL_EAGER : MODEL_COOPERATIVE, seed & 2 ? TALLY_SQLITE : TALLY_POSTGRES,
          seed);
    model.is_wild = true;
    uint32_t calm = 5 + model_roll(60);
    for (int i = 0; i < WILD_TURNS && !model.wrong[0] && !database_is_complete(); i++) {
        struct copy *c = &model.copies[model_roll(MODEL_COPIES)];
        if (!c->is_running && model_roll(10) == 0)
            start(c);
        else if (model_roll(calm) == 0)
            disturb(c);
        else
            turn(c);
    }
    for (int i = 0; i < MODEL_COPIES; i++) {
        if (!model.copies[i].is_running)
            start(&model.copies[i]);
    }
    return finish();
}

static void run_seeds(uint64_t first, long runs, int *passed, int *failed)
{
    char what[40];
    for (long i = 0; i < runs; i++) {
        bool is_good = run_dice(first + (uint64_t)i);
        *passed += is_good;
        *failed += !is_good;
        snprintf(what, sizeof what, "seed %llu", (unsigned long long)first + (uint64_t)i);
        if (!is_good && *failed <= MAX_SAID)
            say("dice", what);
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    long runs = 0;
    bool has_pairs = false, wants_red = false;
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--seed") == 0 && has_value)
            seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--runs") == 0 && has_value)
            runs = strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--pairs") == 0)
            has_pairs = true;
        else if (strcmp(argv[i], "--expect-red") == 0)
            wants_red = true;
        else
            return 2;
    }
    int passed = 0, failed = 0;
    for (int i = 0; has_pairs && i < 4; i++) {
        enum model_protocol protocol = i & 1 ? MODEL_EAGER : MODEL_COOPERATIVE;
        enum tally_database database = i & 2 ? TALLY_SQLITE : TALLY_POSTGRES;
        run_pairs(protocol, database, &passed, &failed);
        run_all_made_again(protocol, database, &passed, &failed);
    }
    run_seeds(seed, runs, &passed, &failed);
    if (wants_red) {
        printf("%d of %d runs found it\nmodel: %d passed, %d failed\n", failed, passed + failed,
               failed > 0, failed == 0);
        return failed == 0;
    }
    printf("model: %d passed, %d failed\n", passed, failed);
    return failed != 0;
}
