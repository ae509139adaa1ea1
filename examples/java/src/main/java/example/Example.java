package example;

import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

/** What all Java examples share: settings from the environment, the work, a clean stop. */
final class Example {
    static final String TOPIC = env("TALLY_TOPIC", "example");
    private static final long WORK_MS = Long.parseLong(env("TALLY_WORK_MS", "2"));

    interface Loop {
        void run(KafkaConsumer<String, String> consumer) throws Exception;
    }

    private Example() {}

    static String env(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value;
    }

    /** Runs the loop until SIGTERM, then closes the consumer, which leaves the group. */
    static void run(String[] args, Map<String, String> settings, Loop loop) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", env("TALLY_BOOTSTRAP", "127.0.0.1:9092"));
        p.put("group.id", env("TALLY_GROUP", "example"));
        p.put("client.id", env("TALLY_INSTANCE", "example"));
        p.put("auto.offset.reset", env("TALLY_RESET", "earliest"));
        p.putAll(settings);
        for (String arg : args) {
            String[] pair = arg.split("=", 2);
            if (pair.length == 2) p.put(pair[0], pair[1]);
        }
        CountDownLatch closed = new CountDownLatch(1);
        StringDeserializer text = new StringDeserializer();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(p, text, text)) {
            Runtime.getRuntime().addShutdownHook(new Thread(() -> {
                consumer.wakeup();
                try {
                    closed.await();
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
            }));
            loop.run(consumer);
        } catch (WakeupException e) {
            // The shutdown hook asked for it.
        } finally {
            closed.countDown();
        }
    }

    static List<String> topics() {
        return List.of(TOPIC);
    }

    static void work() throws InterruptedException {
        Thread.sleep(WORK_MS);
    }

    static void show(ConsumerRecord<String, String> r) {
        String key = r.key() == null ? "" : r.key();
        System.out.println(r.topic() + "/" + r.partition() + "/" + r.offset() + " " + key);
        System.out.flush();
    }
}
