// Commit first, work after: at most once. Whatever is in hand when the process dies is missed.

#include "example.h"

int main(int argc, char **argv)
{
    rd_kafka_conf_t *conf = example_conf(argc, argv);
    example_set(conf, "enable.auto.commit", "false");
    rd_kafka_t *consumer = example_subscribe(conf);

    while (!example_stop) {
        rd_kafka_message_t *m = example_poll(consumer);
        if (!m)
            continue;
        rd_kafka_resp_err_t err = rd_kafka_commit_message(consumer, m, 0);
        if (err)
            fprintf(stderr, "commit: %s\n", rd_kafka_err2str(err));
        example_work();
        example_print(m);
        rd_kafka_message_destroy(m);
    }
    example_close(consumer);
    return 0;
}
