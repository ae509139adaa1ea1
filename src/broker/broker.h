#pragma once
// The broker: everything that `tally serve` and a drill run, as a passive object. The loop calls
// net_run_once() and broker_step(); the broker reads time, sockets, files and random numbers only
// through the seams it is given. No globals: a process may hold several.
//
//   net_run_once(net, broker_timeout_ms(b)); broker_step(b);       until broker_is_stopped(b)

#include "base/arena.h"
#include "base/check.h"
#include "core/configs.h"
#include "core/effects.h"

struct broker;
struct clock;
struct core;
struct disk;
struct entropy;
struct journal;
struct ledger;
struct log_repair;
struct log_sink;
struct net;
struct partitions;
struct tap; // broker/tap.h
struct store;
struct topics;
struct tally_report_request;
struct tally_report_response;

struct broker_config {
    struct net *net; // all borrowed, and must outlive the broker
    struct clock *clock;
    struct entropy *entropy;
    struct disk *disk;
    struct log_sink *log;        // NULL is silence
    const char *dir;             // the data directory
    const struct configs *fixed; // config file and --set, already checked
    bool accounting;             // --accounting
    bool clamp_replication;
    struct log_repair *repair; // log.h: damaged logs are mended while they are opened; NULL: not
    char **repair_topics;      // only of these; none: of all
    int n_repair_topics;
    // A verb that only opens the directory and closes it, under other settings than its broker's:
    // nothing grows old, nobody is put out, nothing is compacted.
    bool is_passing;
    // Called once by broker_new() when the journal is replayed and nothing new is decided yet, for
    // tests that compare; NULL is fine.
    void (*on_replayed)(void *user, const struct core *core);
    void *user;
};

// Recovers everything from the directory. 0, or -errno with one line in ret_why that says what is
// wrong and what to do; nothing was changed then (-EBUSY: another process holds the directory).
// On a read-only disk nothing is changed in any case, and the broker can only be asked
// (broker_report()) and freed; net and entropy may be NULL.
MUST_USE int broker_new(const struct broker_config *config, struct broker **ret_broker,
                        char *ret_why, size_t why_cap);
void broker_free(struct broker *b); // does not stop it in order: see broker_stop(); NULL is fine

// A listener that was opened on the net. Connections that came in by it are told this address in
// Metadata and FindCoordinator. host is copied.
void broker_add_listener(struct broker *b, int listener, const char *host, uint16_t port);
// The drill copy that alone knows this listener; copied. Its connections are then its own.
void broker_set_instance(struct broker *b, int listener, const char *instance);
void broker_remove_listener(struct broker *b, int listener);

// What `tally report` prints; the answer is in the arena.
void broker_report(struct broker *b, const struct tally_report_request *q,
                   struct tally_report_response *ret, struct arena *a);

// How long the loop may sleep: until the next timer, 0 when there is work, -1 for ever.
int broker_timeout_ms(struct broker *b);
// After each pass of the loop: takes finished syncs, fires what is due, commits, starts syncs.
// input_was_empty: the pass before handled nothing, so that all input that came before is in.
void broker_step(struct broker *b, bool input_was_empty);

// Begins a clean stop: parked fetches are answered empty, answers finish or are cut, connections
// close, then snapshot and sync. broker_is_stopped() becomes true some passes later.
void broker_stop(struct broker *b);
bool broker_is_stopped(const struct broker *b);
// Non-zero: a write or sync failed and the broker stopped itself; the reason is in the log.
int broker_failure(const struct broker *b);

// The parts, for handlers, reports, drills.
struct core *broker_core(struct broker *b);
struct topics *broker_topics(struct broker *b);
struct ledger *broker_ledger(struct broker *b);
struct journal *broker_journal(struct broker *b);
struct partitions *broker_partitions(struct broker *b);
struct net *broker_net(struct broker *b);
struct store *broker_store(struct broker *b);
struct disk *broker_disk(struct broker *b);
struct log_sink *broker_log(struct broker *b);
const char *broker_dir(const struct broker *b);
struct config_view broker_view(struct broker *b); // settings of the broker
struct str broker_cluster_id(const struct broker *b);
// The address to tell a connection that came in by this listener.
void broker_address(struct broker *b, int listener, struct str *ret_host, int32_t *ret_port);
uint64_t broker_now_ms(struct broker *b); // of this step: the same within one callback
int64_t broker_wall_ms(struct broker *b);
struct uuid broker_fresh_uuid(struct broker *b);

// Commits one decision: journal append, apply each record, answer the tokens when durable. The
// effects' arena may be freed afterwards. A failed append stops the broker.
// Returns the journal's position, which whatever tells of the decision waits for.
uint64_t broker_commit(struct broker *b, struct effects *fx);
// The same for several partitions' housekeeping: a fresh asker without connection or token.
struct asker broker_asker(struct broker *b);

// A write or sync failed: log it and stop. what: "journal: append: ..."
void broker_fail(struct broker *b, int error, const char *what);
