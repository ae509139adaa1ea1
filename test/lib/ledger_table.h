#pragma once
// The words of test/table/ledger/*.txt that tell the ledger something. Checks stand in
// test/table/test_ledger.c.

#include "core/ledger/ledger.h"

enum { WORDS_MAX = 40, TPS_MAX = 64, ENTRIES_MAX = 20000, NAMES_MAX = 64 };

struct test_tp {
    char name[64];
    struct ledger_range log;
    struct ledger_range gaps[8];
    int n_gaps;
};

struct entry { // of the journal: a hard fact told again, or a record of our own
    char *line;
    const struct kw_message *type;
    void *record;
    struct ledger_time t;
};

struct name {
    char name[32];
    struct ledger_identity who;
    uint64_t conn;
    int32_t session_ms, rebalance_ms;
    char subscription[64];
};

struct run {
    struct ledger *l;
    struct ledger_time t;
    struct test_tp tps[TPS_MAX];
    int n_tps;
    struct name names[NAMES_MAX];
    int n_names;
    struct entry *journal;
    size_t n_journal;
    size_t snapshot_at;
    struct arena *arena;
    uint64_t answers;
    char *w[WORDS_MAX];
    int n;
    const char *file;
    int line;
    char *source;
};

struct command {
    const char *name;
    void (*run)(struct run *r);
    bool hard;  // in the journal
    bool check; // changes nothing
};

extern const struct command ledger_events[]; // ends with name NULL

void stop(const struct run *r, const char *what, const char *detail);
const char *word(struct run *r, int i);
struct str sw(struct run *r, int i); // "-" is empty
int64_t num(struct run *r, int i);
const char *option(struct run *r, const char *key); // of key=value; NULL
struct ledger_tp tp_of(const char *text);
struct ledger_range range_of(const char *text);
bool is_refusal(const struct run *r, const struct command *c); // a commit that changes nothing
struct ledger *fresh(struct run *r);
