package example;

import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/**
 * Work first, commit after, and commit what is done before partitions are given away.
 * At least once: a crash repeats the records worked on since the last commit.
 */
public final class ManualCommit {
    private static final int COMMIT_EVERY = 20;

    public static void main(String[] args) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> done = new HashMap<>();
        Example.run(args, Map.of("enable.auto.commit", "false"), consumer -> {
            Runnable commitDone = () -> {
                if (!done.isEmpty()) consumer.commitSync(done);
                done.clear();
            };
            consumer.subscribe(Example.topics(), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    commitDone.run();
                }

                @Override
                public void onPartitionsLost(Collection<TopicPartition> partitions) {
                    done.clear(); // another copy owns them already: a commit would be refused
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {}
            });
            int uncommitted = 0;
            while (true) {
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    Example.work();
                    Example.show(record);
                    done.put(new TopicPartition(record.topic(), record.partition()),
                            new OffsetAndMetadata(record.offset() + 1));
                    if (++uncommitted % COMMIT_EVERY == 0) commitDone.run();
                }
                commitDone.run();
            }
        });
    }
}
