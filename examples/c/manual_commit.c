// Work first, commit after, and commit what is done before partitions are given away.
// At least once: a crash repeats the records worked on since the last commit.

#include "example.h"

enum { COMMIT_EVERY = 20 };

static rd_kafka_topic_partition_list_t *done; // next offset of each partition, not yet committed

static void commit_done(rd_kafka_t *consumer)
{
    if (done->cnt == 0)
        return;
    rd_kafka_resp_err_t err = rd_kafka_commit(consumer, done, 0);
    if (err)
        fprintf(stderr, "commit: %s\n", rd_kafka_err2str(err));
    rd_kafka_topic_partition_list_destroy(done);
    done = rd_kafka_topic_partition_list_new(8);
}

static void on_rebalance(rd_kafka_t *consumer, rd_kafka_resp_err_t what,
                         rd_kafka_topic_partition_list_t *partitions, void *opaque)
{
    (void)opaque;
    bool cooperative = !strcmp(rd_kafka_rebalance_protocol(consumer), "COOPERATIVE");
    bool assigned = what == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    if (!assigned)
        commit_done(consumer);

    if (cooperative && assigned)
        rd_kafka_error_destroy(rd_kafka_incremental_assign(consumer, partitions));
    else if (cooperative)
        rd_kafka_error_destroy(rd_kafka_incremental_unassign(consumer, partitions));
    else
        rd_kafka_assign(consumer, assigned ? partitions : NULL);
}

static void mark_done(const rd_kafka_message_t *m)
{
    const char *topic = rd_kafka_topic_name(m->rkt);
    rd_kafka_topic_partition_t *p = rd_kafka_topic_partition_list_find(done, topic, m->partition);
    if (!p)
        p = rd_kafka_topic_partition_list_add(done, topic, m->partition);
    p->offset = m->offset + 1;
}

int main(int argc, char **argv)
{
    rd_kafka_conf_t *conf = example_conf(argc, argv);
    example_set(conf, "enable.auto.commit", "false");
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    done = rd_kafka_topic_partition_list_new(8);
    rd_kafka_t *consumer = example_subscribe(conf);

    int uncommitted = 0;
    while (!example_stop) {
        rd_kafka_message_t *m = example_poll(consumer);
        if (m) {
            example_work();
            example_print(m);
            mark_done(m);
            rd_kafka_message_destroy(m);
            uncommitted++;
        }
        if (uncommitted >= COMMIT_EVERY || !m) {
            commit_done(consumer);
            uncommitted = 0;
        }
    }
    example_close(consumer); // calls on_rebalance, which commits what is left
    rd_kafka_topic_partition_list_destroy(done);
    return 0;
}
