package example;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.sqlite.SQLiteConfig;

/**
 * The offset is kept where the result is: both in one SQLite transaction. Nothing is missed and
 * nothing repeated, whatever dies when. The offset in the database is also the fence: a copy that
 * has lost its partition finds that somebody else moved it, and lets go.
 */
public final class ExactlyOnce implements ConsumerRebalanceListener {
    private static final String GROUP = Example.env("TALLY_GROUP", "example");
    private static final String INSTANCE = Example.env("TALLY_INSTANCE", "example");
    // What stands for the ends of a partition whose first record is not stored yet.
    private static final long AT_END = -1;
    private static final long AT_START = -2;

    private final KafkaConsumer<String, String> consumer;
    private final Connection db;
    /** The position of each partition this copy owns, as it stands in the database. */
    private final Map<TopicPartition, Long> owned = new HashMap<>();

    private ExactlyOnce(KafkaConsumer<String, String> consumer, Connection db) {
        this.consumer = consumer;
        this.db = db;
    }

    public static void main(String[] args) throws Exception {
        try (Connection db = open(args)) {
            Example.run(args, Map.of("enable.auto.commit", "false"), consumer -> {
                var mine = new ExactlyOnce(consumer, db);
                consumer.subscribe(Example.topics(), mine);
                while (true) {
                    var records = consumer.poll(Duration.ofMillis(100));
                    for (var partition : records.partitions()) {
                        mine.handle(partition, records.records(partition));
                    }
                }
            });
        }
    }

    private static Connection open(String[] args) throws SQLException {
        String file = Example.env("TALLY_DB", "results.db");
        for (String arg : args) {
            if (!arg.contains("=")) file = arg;
        }
        var config = new SQLiteConfig();
        config.setBusyTimeout(10_000); // the copies share the file
        config.setJournalMode(SQLiteConfig.JournalMode.WAL);
        config.setSynchronous(SQLiteConfig.SynchronousMode.NORMAL);
        config.setTransactionMode(SQLiteConfig.TransactionMode.IMMEDIATE);
        Connection db = config.createConnection("jdbc:sqlite:" + file);
        try (var s = db.createStatement()) {
            s.execute("CREATE TABLE IF NOT EXISTS offsets (consumer_group TEXT, topic TEXT,"
                    + " partition INTEGER, next_offset INTEGER,"
                    + " PRIMARY KEY (consumer_group, topic, partition))");
            s.execute("CREATE TABLE IF NOT EXISTS results (topic TEXT, partition INTEGER,"
                    + " record_offset INTEGER, key TEXT, instance TEXT)");
        }
        return db;
    }

    private PreparedStatement prepare(String sql, Object... values) throws SQLException {
        PreparedStatement s = db.prepareStatement(sql);
        for (int i = 0; i < values.length; i++) s.setObject(i + 1, values[i]);
        return s;
    }

    /** Where to start; a partition never seen starts where TALLY_RESET says. */
    private long storedOffset(TopicPartition p) throws SQLException {
        boolean latest = Example.env("TALLY_RESET", "earliest").equals("latest");
        try (var insert = prepare("INSERT OR IGNORE INTO offsets VALUES (?, ?, ?, ?)",
                        GROUP, p.topic(), p.partition(), latest ? AT_END : AT_START);
                var select = prepare("SELECT next_offset FROM offsets WHERE consumer_group = ?"
                        + " AND topic = ? AND partition = ?", GROUP, p.topic(), p.partition())) {
            insert.executeUpdate();
            try (var rows = select.executeQuery()) {
                rows.next();
                return rows.getLong(1);
            }
        }
    }

    private void goToStored(TopicPartition p) throws SQLException {
        long next = storedOffset(p);
        owned.put(p, next);
        if (next == AT_START) consumer.seekToBeginning(List.of(p));
        else if (next == AT_END) consumer.seekToEnd(List.of(p));
        else consumer.seek(p, next);
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        try {
            for (var p : partitions) goToStored(p);
        } catch (SQLException e) {
            throw new IllegalStateException(e);
        }
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        owned.keySet().removeAll(partitions);
    }

    private void handle(TopicPartition p, List<ConsumerRecord<String, String>> records)
            throws Exception {
        for (var record : records) {
            if (record.offset() < owned.get(p)) continue;
            Example.work();
            if (!save(p, record)) { // another copy was here
                goToStored(p);
                return;
            }
            Example.show(record);
        }
    }

    /** Result and offset, or false when the offset is not where this copy left it. */
    private boolean save(TopicPartition p, ConsumerRecord<String, String> r) throws SQLException {
        db.setAutoCommit(false);
        try (var move = prepare("UPDATE offsets SET next_offset = ? WHERE consumer_group = ?"
                        + " AND topic = ? AND partition = ? AND next_offset = ?",
                        r.offset() + 1, GROUP, p.topic(), p.partition(), owned.get(p));
                var insert = prepare("INSERT INTO results VALUES (?, ?, ?, ?, ?)",
                        p.topic(), p.partition(), r.offset(), r.key(), INSTANCE)) {
            if (move.executeUpdate() == 0) {
                db.rollback();
                return false;
            }
            insert.executeUpdate();
            db.commit();
        } finally {
            db.setAutoCommit(true);
        }
        owned.put(p, r.offset() + 1);
        return true;
    }
}
