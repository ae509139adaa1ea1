#pragma once
// What the files of src/broker share, and nobody else sees.

#include "base/heap.h"
#include "base/map.h"
#include "broker/broker.h"
#include "broker/partition.h"
#include "broker/request.h"
#include "broker/tap.h"
#include "core/core.h"
#include "core/group/group.h"
#include "core/ledger/ledger.h"
#include "os/clock.h"
#include "os/entropy.h"
#include "os/log.h"
#include "os/net.h"
#include "store/journal.h"
#include "store/store.h"

// Space of the journal that is kept for what cannot be refused, on a disk that is full: deletions,
// retention, the end of a rebalance. Less is kept for rebalances that begin.
#define COMMIT_SPARE_BYTES (1u << 20)
#define JOIN_SPARE_BYTES (512u << 10)

// A sync that takes longer stalls us: nobody is put out for what he could not be answered.
#define STALL_MS 1000

// Names the journal's syncs; partitions name theirs by address.
#define JOURNAL_COOKIE 0

// Requests that are being worked on have an arena each, idle connections have none.
// Those of a burst are kept for the next, and but for a few given back when it is over.
#define ARENAS_SPARE_MAX 512
#define ARENAS_KEPT 16

struct listener_address {
    struct list node;
    int listener;
    char *host;     // owned
    char *instance; // owned; "" when nobody's
    int32_t port;
};

// Records that the last answer of a connection holds.
struct sent_range {
    struct uuid topic_id;
    int32_t partition;
    int64_t from;
};

struct channel {
    struct list node; // in broker.conns
    uint64_t id;
    struct net_peer peer;
    char host[52];             // "/127.0.0.1"
    char *client_id;           // owned, of the last request
    char *software;            // owned, "" until ApiVersions v3+
    const char *instance;      // of its listener, "" when none
    bool is_known;             // the ledger was told
    bool is_dropped;           // conn_drop() said why
    struct list asking;        // requests without an answer, in the order in which they came
    uint64_t last_end_bytes;   // of the last answer
    struct sent_range *ranges; // owned: of the last answer
    size_t n_ranges;
    size_t cap_ranges;
    int16_t last_api;
    uint64_t last_token;
};

enum broker_phase {
    PHASE_RUNNING,
    PHASE_DRAINING, // answers finish
    PHASE_CLOSING,  // connections close
    PHASE_STOPPED,
};

struct broker {
    struct broker_config config;
    struct store *store;           // owned
    struct journal *journal;       // owned
    struct core *core;             // owned
    struct partitions *partitions; // owned
    struct offsets_topic *offsets; // owned; NULL until everything was recovered
    struct ledger_logs logs;
    struct store_start start;
    char cluster_id[23];

    struct list listeners;
    struct list conns;
    struct map *by_conn;      // id -> struct channel
    struct map *by_token;     // token -> struct request
    struct list held;         // requests by journal position
    struct list woken;        // requests whose on_due is due at once
    struct heap timers;       // of requests
    struct list cold_running; // cold_read.c
    struct list cold_waiting;
    unsigned n_cold_running;
    size_t n_cold_pieces; // of all of these
    uint64_t next_token;
    struct journal_batch batch;                   // scratch
    struct arena *scratch;                        // of decisions without a request
    struct arena *spare_arenas[ARENAS_SPARE_MAX]; // of requests to come
    size_t n_spare_arenas;
    bool scratch_in_use;
    unsigned committing; // broker_commit() is under way, so often

    uint64_t now_ms;
    int64_t wall_ms;
    unsigned busy_passes; // in a row, while a timer was due
    unsigned sync_passes; // in a row, that a sync of a log waited for more input
    uint64_t ledger_due_ms;
    bool has_news; // for the ledger, since its last snapshot
    bool was_used; // since the last look at the room on the disk
    uint64_t retain_due_ms;
    uint64_t save_due_ms;
    uint64_t clean_due_ms;
    uint64_t space_due_ms;
    bool has_space;

    bool is_syncing; // the journal
    uint64_t sync_began_ms;
    size_t waiting_bytes; // memory of all requests that wait for something

    enum broker_phase phase;
    uint64_t cut_ms; // when draining gives up
    int failure;
    struct tap tap;
};

static inline struct ledger_time broker_time(const struct broker *b)
{
    return (struct ledger_time){b->now_ms, b->wall_ms};
}

void broker_read_clock(struct broker *b);

// channel.c
void channel_handlers(struct broker *b);
struct channel *channel_find(struct broker *b, uint64_t id);
// The request is done with, answered or not: what there is goes to the socket when those before it
// have gone, and the request is freed.
void channel_send(struct broker *b, struct request *r);
// It will not be answered: lets go of what it holds, and frees it.
void channel_abandon(struct broker *b, struct request *r);
void channel_free(struct channel *c);  // without requests
void channel_hurry(struct channel *c); // what waits for more answers with what there is
void channel_identify(struct broker *b, struct channel *c);
void channel_set_software(struct broker *b, struct channel *c, struct str name, struct str version);

// dispatch.c
void dispatch(struct broker *b, struct request *r); // tap, then handler
void dispatch_tapped(struct broker *b, struct request *r);
void dispatch_fire_timers(struct broker *b);
void dispatch_fire_woken(struct broker *b);

// offsets_topic.c
struct offsets_topic *offsets_topic_new(struct broker *b);
void offsets_topic_free(struct offsets_topic *o); // NULL is fine; before the partitions
void offsets_topic_add(struct offsets_topic *o, const struct kw_message *type, const void *record);
uint64_t offsets_topic_due_ms(const struct offsets_topic *o); // UINT64_MAX: nothing can be written
void offsets_topic_step(struct offsets_topic *o, bool at_once); // once a pass
bool offsets_topic_is_whole(const struct offsets_topic *o);     // all was appended

// commit.c
void commit_hold(struct broker *b,
                 struct request *r);   // encoded: waits for the journal, then leaves
void commit_release(struct broker *b); // those whose position is durable
void commit_sync(struct broker *b);    // starts one when something waits
// save: soft facts too. False while the journal has no room for what can wait.
bool commit_ledger(struct broker *b, bool save);
// Runs decide-functions that have no request: begin, fill, broker_commit, end.
struct arena *commit_scratch(struct broker *b);
void commit_scratch_done(struct broker *b, struct arena *a);
int commit_snapshot(struct broker *b); // of the journal, when it wants one, or at the stop
