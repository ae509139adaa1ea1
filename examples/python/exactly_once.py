"""The offset is kept where the result is: both in one SQLite transaction. Nothing is missed and
nothing repeated, whatever dies when. The offset in the database is also the fence: a copy that
has lost its partition finds that somebody else moved it, and lets go."""
import os
import sqlite3
import sys

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, TopicPartition
from example import GROUP, INSTANCE, RESET, TOPIC, consumer, poll, running, show, work

files = [a for a in sys.argv[1:] if "=" not in a]
db = sqlite3.connect(files[0] if files else os.environ.get("TALLY_DB", "results.db"),
                     timeout=10, isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA synchronous = NORMAL")
db.execute("CREATE TABLE IF NOT EXISTS offsets (consumer_group TEXT, topic TEXT,"
           " partition INTEGER, next_offset INTEGER,"
           " PRIMARY KEY (consumer_group, topic, partition))")
db.execute("CREATE TABLE IF NOT EXISTS results (topic TEXT, partition INTEGER,"
           " record_offset INTEGER, key TEXT, instance TEXT)")

owned = {}  # (topic, partition) -> position, as it stands in the database


def stored_offset(topic, partition):
    start = OFFSET_END if RESET == "latest" else OFFSET_BEGINNING
    db.execute("INSERT OR IGNORE INTO offsets VALUES (?, ?, ?, ?)",
               (GROUP, topic, partition, start))
    return db.execute("SELECT next_offset FROM offsets WHERE consumer_group = ? AND topic = ?"
                      " AND partition = ?", (GROUP, topic, partition)).fetchone()[0]


def on_assign(c, partitions):
    owned.clear()
    for p in partitions:
        p.offset = owned[p.topic, p.partition] = stored_offset(p.topic, p.partition)
    c.assign(partitions)


def on_revoke(_consumer, _partitions):
    owned.clear()


def handle(c, m):
    where = m.topic(), m.partition()
    if where not in owned or m.offset() < owned[where]:
        return
    work(m)
    db.execute("BEGIN IMMEDIATE")
    moved = db.execute("UPDATE offsets SET next_offset = ? WHERE consumer_group = ? AND topic = ?"
                       " AND partition = ? AND next_offset = ?",
                       (m.offset() + 1, GROUP, *where, owned[where])).rowcount
    if not moved:  # another copy was here
        db.execute("ROLLBACK")
        owned[where] = stored_offset(*where)
        c.seek(TopicPartition(*where, owned[where]))
        return
    db.execute("INSERT INTO results VALUES (?, ?, ?, ?, ?)",
               (*where, m.offset(), (m.key() or b"").decode(errors="replace"), INSTANCE))
    db.execute("COMMIT")
    owned[where] = m.offset() + 1
    show(m)


c = consumer(enable_auto_commit=False)
c.subscribe([TOPIC], on_assign=on_assign, on_revoke=on_revoke)
try:
    while running():
        m = poll(c)
        if m is not None:
            handle(c, m)
finally:
    c.close()
    db.close()
