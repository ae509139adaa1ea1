package example;

import java.time.Duration;
import java.util.Map;

/** The client commits by itself, in poll(), every auto.commit.interval.ms (5 s). */
public final class AutoCommit {
    public static void main(String[] args) throws Exception {
        Example.run(args, Map.of("enable.auto.commit", "true"), consumer -> {
            consumer.subscribe(Example.topics());
            while (true) {
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    Example.work();
                    Example.show(record);
                }
            }
        });
    }
}
