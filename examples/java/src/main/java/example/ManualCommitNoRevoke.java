package example;

import java.time.Duration;
import java.util.Map;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/**
 * Work first, commit after, from time to time; nothing is done when partitions are taken away,
 * so a rebalance repeats the records worked on since the last commit.
 */
public final class ManualCommitNoRevoke {
    private static final int COMMIT_EVERY = 20;

    public static void main(String[] args) throws Exception {
        Example.run(args, Map.of("enable.auto.commit", "false"), consumer -> {
            consumer.subscribe(Example.topics());
            int count = 0;
            while (true) {
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    Example.work();
                    Example.show(record);
                    if (++count % COMMIT_EVERY != 0) continue;
                    var partition = new TopicPartition(record.topic(), record.partition());
                    consumer.commitAsync(
                            Map.of(partition, new OffsetAndMetadata(record.offset() + 1)), null);
                }
            }
        });
    }
}
