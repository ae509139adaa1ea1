#pragma once
// libtally: consume Kafka topics into a database, each record exactly once.
//
// The offset of every partition is stored in the database, in the same transaction as what your
// callback does with the record. Whatever dies when (this process, the database, the broker, the
// network), a record's effect is there once. The database is SQLite or PostgreSQL, the Kafka
// side is librdkafka; both are loaded when a handle is opened, not when your program starts.
//
//     static int store(void *user, const struct tally_record *r, struct tally_tx *tx,
//                      struct tally_error *error)
//     {
//         struct tally_value v[] = {tally_bytes(r->key, r->key_len), tally_int(r->offset)};
//         return tally_tx_run(tx, "INSERT INTO seen VALUES ($1, $2)", v, 2, NULL, error);
//     }
//     ...
//     struct tally_options o = {.size = sizeof o, .bootstrap = "127.0.0.1:9092", .group = "g",
//                               .topics = topics, .n_topics = 1, .into = "sqlite:seen.db",
//                               .process = store};
//     if (tally_open(&o, &t, &error) < 0 || tally_run(t, &error) < 0)
//         fprintf(stderr, "%s\n", error.text);
//     tally_close(t);
//
// HOW IT IS KEPT EXACT. The table tally_offset holds next_offset and claim_epoch for each (group,
// topic id, partition). A copy that is given a partition adds one to claim_epoch, which makes
// every older owner's writes fail, and only then reads next_offset. Each transaction ends with
//     UPDATE tally_offset SET next_offset = END
//      WHERE ... AND next_offset = BEGIN AND claim_epoch = MINE
// and is rolled back when no row was changed. So a paused or cut-off copy can neither repeat nor
// skip. Offsets are committed to Kafka as well, for lag tools, and never read back.
//
// PROOF OF MEMBERSHIP. A paused copy that claims late would fence the rightful owner. It must
// show first that the group still counts it in, and librdkafka 2.0.2 has no getter for the
// generation. What it has is a synchronous OffsetCommit, which carries the member id and the
// generation that librdkafka holds, and which the broker refuses unless both are current. After
// the claim (at time t1 in the database) we commit the exact offset that was read, and begin
// only when the broker has accepted it (at t2, after t1). That is sound:
//   - Any owner R of a later generation who claimed before t1 makes the group's generation newer
//     than ours before t2, so the commit is refused, and we give the claim up. R, whose next
//     UPDATE finds no row, proves itself and claims again.
//   - Any owner who claims after t1 has a higher claim_epoch: it has fenced us.
//   - The generation sent cannot be one in which the partition is no longer ours. A claim runs
//     on the thread that polls. An eager member joins again only after that thread has given its
//     partitions up in the rebalance callback; a cooperative one keeps a partition, in the
//     group's eyes, until it has given it up there and joined once more.
//   - A member that was put out sends member id "" or generation -1. The broker accepts that only
//     in a group without members, where there is no rightful owner to fence.
// A wrong proof could cost the rightful owner a second claim, never a record: the compare-and-set
// above does not rest on it. With KIP-848 the broker checks the member epoch in the same way.
//
// A TOPIC MADE AGAIN has another id, and ids never come back. The id is asked after a batch's last
// record was polled, and answered before its COMMIT; another one ends the run (TALLY_OFFSET) with
// nothing of the batch stored. Small batches that were polled together share one question. Until a
// broker answers, the batch is rolled back and tried again, for at most timeout_ms. Over TLS or
// SASL, and of brokers without ids, it cannot be asked.
//
// THREADS. No global state: handles are independent of each other. One handle belongs to one
// thread at a time; only tally_stop() may be called from any thread, and from a signal handler.
// All callbacks run on the thread that is inside tally_open(), tally_run() or tally_close(). A
// handle has threads of its own, with all signals blocked: librdkafka's, one that frees the
// records that are done with, and one that has librdkafka fetch more in time.
//
// MEMORY. Running out is an error (TALLY_NO_MEMORY, which is -ENOMEM), never an abort of ours.
//
// STABILITY. Fields are added at the end of the structs whose first field is `size`; nothing is
// removed or changes its meaning.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TALLY_API __attribute__((visibility("default")))

// What functions return: 0, or one of these. The sentence is in struct tally_error.
enum tally_code {
    TALLY_FINE = 0,
    TALLY_NO_MEMORY = -12, // -ENOMEM
    TALLY_INVALID = -22,   // -EINVAL: an option or a call that cannot be right
    TALLY_LIBRARY = -201,  // librdkafka, libpq or SQLite is not installed
    TALLY_KAFKA = -202,    // the brokers cannot be reached, or refuse
    TALLY_DATABASE = -203, // the database cannot be reached, or stays locked
    TALLY_SQL = -204,      // the database refuses: no such table, no right, disk full ...
    TALLY_UNFIT = -205,    // this record does not fit; a callback may return it
    TALLY_OFFSET = -206,   // a stored offset outside the log, of another topic, or damaged
    TALLY_AGAIN = -207,    // lost to somebody else (deadlock, lock): the transaction is repeated
};

#define TALLY_ERROR_MAX 768
struct tally_error {
    enum tally_code code;
    char text[TALLY_ERROR_MAX]; // one sentence: what is wrong and what to do
};

// Fills the error and returns `code`; for callbacks. error may be NULL.
TALLY_API int tally_error_set(struct tally_error *error, enum tally_code code, const char *format,
                              ...) __attribute__((format(printf, 3, 4)));

struct tally;    // a consumer with its database
struct tally_tx; // the open transaction; valid inside the callback that it was given to

struct tally_header {
    const char *name;
    const void *value; // NULL: no value
    size_t len;
};

// Valid inside the callback.
struct tally_record {
    const char *topic;
    int32_t partition;
    int64_t offset;
    int64_t time_ms;   // milliseconds since 1970; -1: none
    const void *key;   // NULL: no key
    const void *value; // NULL: a tombstone
    size_t key_len;
    size_t value_len;
    const struct tally_header *headers;
    size_t n_headers;
    int64_t claim_epoch; // of the owner that stores it: grows with every change of hands
};

// A parameter or a column. Text is UTF-8 and need not be terminated.
enum tally_type { TALLY_NULL, TALLY_INT, TALLY_REAL, TALLY_TEXT, TALLY_BYTES };
struct tally_value {
    enum tally_type type;
    int64_t integer;
    double real;
    const void *data; // text and bytes
    size_t len;
};
TALLY_API struct tally_value tally_null(void);
TALLY_API struct tally_value tally_int(int64_t integer);
TALLY_API struct tally_value tally_real(double real);
TALLY_API struct tally_value tally_text(const char *text);              // terminated; NULL is null
TALLY_API struct tally_value tally_bytes(const void *data, size_t len); // data NULL is null

// Runs one statement with parameters $1, $2 ... in either database. Statements are prepared once
// and kept by their text. ret_changed (may be NULL): rows inserted, updated or deleted.
// An error ends the transaction: return it from the callback. A statement that finds it ended, by
// that or by a COMMIT of the callback's own, is refused with TALLY_INVALID. TALLY_UNFIT: the
// database says that a value does not fit its column.
TALLY_API int tally_tx_run(struct tally_tx *tx, const char *sql, const struct tally_value *values,
                           size_t n_values, int64_t *ret_changed, struct tally_error *error);
// The same, with a callback for each row of the result; what that returns other than 0 ends it.
// PostgreSQL gives every column as text.
typedef int tally_row_fn(void *user, const struct tally_value *columns, size_t n_columns,
                         struct tally_error *error);
TALLY_API int tally_tx_query(struct tally_tx *tx, const char *sql, const struct tally_value *values,
                             size_t n_values, tally_row_fn *row, void *user,
                             struct tally_error *error);
// The columns a query would give, without running it.
struct tally_column {
    const char *name;
    enum tally_type type; // by the declared type; TALLY_NULL: any
};
typedef int tally_column_fn(void *user, const struct tally_column *column,
                            struct tally_error *error);
TALLY_API int tally_tx_describe(struct tally_tx *tx, const char *sql, tally_column_fn *column,
                                void *user, struct tally_error *error);

enum tally_database { TALLY_SQLITE, TALLY_POSTGRES };
TALLY_API enum tally_database tally_tx_database(const struct tally_tx *tx);
// sqlite3 * or PGconn *, for what is not covered here. Do not begin, commit or roll back with it.
TALLY_API void *tally_tx_native(struct tally_tx *tx);

// Works on one record. 0: store it with its offset. TALLY_UNFIT: to the dead letters, or stop
// when there are none. Anything else stops tally_run(), and the transaction is rolled back.
// It may be called again for the same record (after a rollback), so it must have no effect but
// on the transaction.
typedef int tally_process_fn(void *user, const struct tally_record *record, struct tally_tx *tx,
                             struct tally_error *error);
// The same for n records at once (100 at most), in order and of one transaction, which may bring
// several calls: for statements that take many rows (examples/c/libtally_rows.c). With TALLY_UNFIT
// set *ret_bad to the index of the record that does not fit; where it is not known leave it: the
// records then come again in smaller numbers, in the end one by one.
typedef int tally_process_some_fn(void *user, const struct tally_record *records, size_t n,
                                  struct tally_tx *tx, size_t *ret_bad, struct tally_error *error);
// Called once by tally_open(), in a transaction of its own: make tables, look at columns.
typedef int tally_setup_fn(void *user, struct tally_tx *tx, struct tally_error *error);

enum tally_event_kind {
    TALLY_EVENT_CLAIMED,     // a partition is ours, from `offset` on
    TALLY_EVENT_RELEASED,    // given back or taken away
    TALLY_EVENT_FENCED,      // another copy had claimed: our transaction was rolled back
    TALLY_EVENT_REFUSED,     // the group no longer counts us in; the claim was given up
    TALLY_EVENT_RETRY,       // broker or database: waiting, and trying again
    TALLY_EVENT_RECOVERED,   // a COMMIT without an answer has been looked up
    TALLY_EVENT_DEAD_LETTER, // a record went to the dead letters
    TALLY_EVENT_EXPIRED,     // records left the log before they were read (see if_expired)
    TALLY_EVENT_NOTE,
};
struct tally_event {
    enum tally_event_kind kind;
    const char *topic; // NULL: not about a partition
    int32_t partition;
    int64_t offset;
    int64_t claim_epoch;
    const char *text; // a whole sentence
};
typedef void tally_event_fn(void *user, const struct tally_event *event);
// Called about ten times a second inside tally_run(), whether there are records or not.
typedef void tally_tick_fn(void *user, struct tally *t);

enum tally_from { TALLY_EARLIEST, TALLY_LATEST };
enum tally_if_expired { TALLY_EXPIRED_STOP, TALLY_EXPIRED_CONTINUE };

// 0 or NULL means the default, everywhere. Strings are copied.
struct tally_options {
    size_t size; // sizeof(struct tally_options)
    const char *bootstrap;
    const char *group;
    const char *const *topics;
    size_t n_topics;
    const char *into; // "sqlite:FILE" or "postgres:URL" (a libpq URL or connection string)
    tally_process_fn *process;
    tally_setup_fn *setup;
    tally_event_fn *event;
    tally_tick_fn *tick;
    void *user;                       // for all callbacks
    enum tally_from from;             // where a partition begins that was never read
    enum tally_if_expired if_expired; // next_offset is before the log: stop, or go on and count
    bool until_end;     // tally_run() ends when all that was in the log when it began is stored
    int batch_records;  // most records a transaction (1000)
    size_t batch_bytes; // most bytes of keys and values a transaction (16 MiB)
    int batch_ms;       // longest wait to fill a transaction (100)
    int timeout_ms;     // how long broker or database may be away (60000; -1: for ever)
    const char *dead_letter;       // topic for records that do not fit
    const char *const *librdkafka; // name, value, name, value ..., NULL: settings of librdkafka
    bool no_headers;               // the callback sees none: a tenth less work for small records
    tally_process_some_fn *process_some; // instead of process
};

// Connects to both sides, makes the table tally_offset and runs the setup callback. On failure
// *ret_tally is untouched.
TALLY_API int tally_open(const struct tally_options *options, struct tally **ret_tally,
                         struct tally_error *error);
// Consumes until tally_stop(), the end (until_end), or an error. The transaction in hand is
// finished before it returns 0.
TALLY_API int tally_run(struct tally *t, struct tally_error *error);
// Makes tally_run() return soon. From any thread; safe in signal handlers.
TALLY_API void tally_stop(struct tally *t);
// Leaves the group and closes both sides. NULL is fine.
TALLY_API void tally_close(struct tally *t);

struct tally_stats {
    size_t size;           // set it to sizeof(struct tally_stats) before the call
    uint64_t records;      // stored, with their offsets
    uint64_t transactions; // committed
    uint64_t dead_letters;
    uint64_t fenced;      // transactions rolled back because another copy had claimed
    uint64_t refused;     // claims given up
    uint64_t recovered;   // COMMITs without an answer
    uint64_t expired;     // records that left the log unread (if_expired)
    int64_t lag;          // records in the log behind what is stored, as far as known; -1: unknown
    int64_t n_partitions; // owned
};
TALLY_API void tally_stats(const struct tally *t, struct tally_stats *stats);

#ifdef __cplusplus
}
#endif
