// The client commits by itself, every auto.commit.interval.ms (5 s), whatever poll() has
// returned so far: also the record that is still being worked on.

#include "example.h"

int main(int argc, char **argv)
{
    rd_kafka_conf_t *conf = example_conf(argc, argv);
    example_set(conf, "enable.auto.commit", "true");
    rd_kafka_t *consumer = example_subscribe(conf);

    while (!example_stop) {
        rd_kafka_message_t *m = example_poll(consumer);
        if (!m)
            continue;
        example_work();
        example_print(m);
        rd_kafka_message_destroy(m);
    }
    example_close(consumer);
    return 0;
}
