// Work first, commit after, as in many a tutorial: nothing is done when partitions are taken
// away, so each rebalance repeats the records worked on since the last commit.

#include "example.h"

enum { COMMIT_EVERY = 20 };

int main(int argc, char **argv)
{
    rd_kafka_conf_t *conf = example_conf(argc, argv);
    example_set(conf, "enable.auto.commit", "false");
    rd_kafka_t *consumer = example_subscribe(conf);

    int count = 0;
    while (!example_stop) {
        rd_kafka_message_t *m = example_poll(consumer);
        if (!m)
            continue;
        example_work();
        example_print(m);
        if (++count % COMMIT_EVERY == 0) {
            rd_kafka_resp_err_t err = rd_kafka_commit_message(consumer, m, 1);
            if (err)
                fprintf(stderr, "commit: %s\n", rd_kafka_err2str(err));
        }
        rd_kafka_message_destroy(m);
    }
    example_close(consumer);
    return 0;
}
