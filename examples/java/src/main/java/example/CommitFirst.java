package example;

import java.time.Duration;
import java.util.Map;

/** Commit first, work after: at most once. What is in hand at a crash is missed. */
public final class CommitFirst {
    public static void main(String[] args) throws Exception {
        Example.run(args, Map.of("enable.auto.commit", "false"), consumer -> {
            consumer.subscribe(Example.topics());
            while (true) {
                var records = consumer.poll(Duration.ofMillis(100));
                if (!records.isEmpty()) consumer.commitSync();
                for (var record : records) {
                    Example.work();
                    Example.show(record);
                }
            }
        });
    }
}
