// The offset is kept where the result is: both in one SQLite transaction. Nothing is missed and
// nothing repeated, whatever dies when. The offset in the database is also the fence: a copy
// that has lost its partition finds that somebody else moved it, and lets go.

#include "example.h"

#include <sqlite3.h>

static sqlite3 *db;

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS offsets (consumer_group TEXT, topic TEXT, partition INTEGER,"
    " next_offset INTEGER, PRIMARY KEY (consumer_group, topic, partition));"
    "CREATE TABLE IF NOT EXISTS results (topic TEXT, partition INTEGER, record_offset INTEGER,"
    " key TEXT, instance TEXT);";

static void must(int rc)
{
    if (rc == SQLITE_OK || rc == SQLITE_DONE || rc == SQLITE_ROW)
        return;
    fprintf(stderr, "sqlite: %s\n", sqlite3_errmsg(db));
    exit(1);
}

static void run(const char *sql)
{
    must(sqlite3_exec(db, sql, NULL, NULL, NULL));
}

static sqlite3_stmt *about(const char *sql, const char *topic, int partition)
{
    sqlite3_stmt *s;
    must(sqlite3_prepare_v2(db, sql, -1, &s, NULL));
    must(sqlite3_bind_text(s, 1, example_env("TALLY_GROUP", "example"), -1, SQLITE_STATIC));
    must(sqlite3_bind_text(s, 2, topic, -1, SQLITE_STATIC));
    must(sqlite3_bind_int(s, 3, partition));
    return s;
}

// Where to start; a partition never seen starts where TALLY_RESET says.
static int64_t stored_offset(const char *topic, int partition)
{
    bool latest = !strcmp(example_env("TALLY_RESET", "earliest"), "latest");
    sqlite3_stmt *s =
        about("INSERT OR IGNORE INTO offsets VALUES (?1, ?2, ?3, ?4)", topic, partition);
    must(sqlite3_bind_int64(s, 4, latest ? RD_KAFKA_OFFSET_END : RD_KAFKA_OFFSET_BEGINNING));
    must(sqlite3_step(s));
    sqlite3_finalize(s);

    s = about("SELECT next_offset FROM offsets WHERE consumer_group = ?1 AND topic = ?2"
              " AND partition = ?3",
              topic, partition);
    must(sqlite3_step(s));
    int64_t offset = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return offset;
}

// The position of each partition this copy owns, as it stands in the database.
static rd_kafka_topic_partition_list_t *owned;

static void on_rebalance(rd_kafka_t *consumer, rd_kafka_resp_err_t what,
                         rd_kafka_topic_partition_list_t *partitions, void *opaque)
{
    (void)opaque;
    rd_kafka_topic_partition_list_destroy(owned);
    if (what != RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        owned = rd_kafka_topic_partition_list_new(8);
        rd_kafka_assign(consumer, NULL);
        return;
    }
    for (int i = 0; i < partitions->cnt; i++) {
        rd_kafka_topic_partition_t *p = &partitions->elems[i];
        p->offset = stored_offset(p->topic, p->partition);
    }
    owned = rd_kafka_topic_partition_list_copy(partitions);
    rd_kafka_assign(consumer, partitions);
}

// Moves the stored offset from where this copy left it. False: another copy has moved it.
static bool move_offset(const rd_kafka_topic_partition_t *from, int64_t next)
{
    sqlite3_stmt *s = about("UPDATE offsets SET next_offset = ?4 WHERE consumer_group = ?1"
                            " AND topic = ?2 AND partition = ?3 AND next_offset = ?5",
                            from->topic, from->partition);
    must(sqlite3_bind_int64(s, 4, next));
    must(sqlite3_bind_int64(s, 5, from->offset));
    must(sqlite3_step(s));
    sqlite3_finalize(s);
    return sqlite3_changes(db) == 1;
}

static void store_result(const char *topic, const rd_kafka_message_t *m)
{
    sqlite3_stmt *s;
    must(sqlite3_prepare_v2(db, "INSERT INTO results VALUES (?, ?, ?, ?, ?)", -1, &s, NULL));
    must(sqlite3_bind_text(s, 1, topic, -1, SQLITE_STATIC));
    must(sqlite3_bind_int(s, 2, m->partition));
    must(sqlite3_bind_int64(s, 3, m->offset));
    must(sqlite3_bind_text(s, 4, m->key, (int)m->key_len, SQLITE_STATIC));
    must(sqlite3_bind_text(s, 5, example_env("TALLY_INSTANCE", ""), -1, SQLITE_STATIC));
    must(sqlite3_step(s));
    sqlite3_finalize(s);
}

static void handle(const rd_kafka_message_t *m)
{
    const char *topic = rd_kafka_topic_name(m->rkt);
    rd_kafka_topic_partition_t *p = rd_kafka_topic_partition_list_find(owned, topic, m->partition);
    if (!p)
        return;
    example_work();
    run("BEGIN IMMEDIATE");
    if (!move_offset(p, m->offset + 1)) {
        run("ROLLBACK");
        p->offset = stored_offset(topic, m->partition);
        if (rd_kafka_seek(m->rkt, m->partition, p->offset, 10000))
            exit(1);
        return;
    }
    store_result(topic, m);
    run("COMMIT");
    p->offset = m->offset + 1;
    example_print(m);
}

int main(int argc, char **argv)
{
    const char *file = example_env("TALLY_DB", "results.db");
    if (argc > 1 && !strchr(argv[1], '='))
        file = argv[1];
    must(sqlite3_open(file, &db));
    must(sqlite3_busy_timeout(db, 10000)); // the copies share the file
    run("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
    run(schema);

    rd_kafka_conf_t *conf = example_conf(argc, argv);
    example_set(conf, "enable.auto.commit", "false");
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    owned = rd_kafka_topic_partition_list_new(8);
    rd_kafka_t *consumer = example_subscribe(conf);

    while (!example_stop) {
        rd_kafka_message_t *m = example_poll(consumer);
        if (!m)
            continue;
        handle(m);
        rd_kafka_message_destroy(m);
    }
    example_close(consumer);
    rd_kafka_topic_partition_list_destroy(owned);
    sqlite3_close(db);
    return 0;
}
