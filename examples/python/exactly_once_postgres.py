"""Each record once, in PostgreSQL: its row and its offset in one transaction, behind a fence."""
import os
import sys

import psycopg2
from confluent_kafka import KafkaException, TopicPartition
from example import GROUP, TOPIC, consumer, poll, running, show, work

db = psycopg2.connect(sys.argv[1])  # postgres://user@host/name
with db, db.cursor() as sql:
    sql.execute("SELECT pg_advisory_xact_lock(1)")  # copies that start together
    sql.execute("CREATE TABLE IF NOT EXISTS fence (grp TEXT, topic TEXT, part INT,"
                " next_offset BIGINT, epoch BIGINT, PRIMARY KEY (grp, topic, part))")
    sql.execute("CREATE TABLE IF NOT EXISTS results (topic TEXT, partition INT,"
                " record_offset BIGINT, value BYTEA)")
owned = {}  # (topic, partition) -> [next offset, epoch]


def claim(c, p):
    """Fence every older owner first, then read where to start, then prove that we are a member."""
    with db, db.cursor() as sql:
        low, _ = c.get_watermark_offsets(p, timeout=10)
        sql.execute("INSERT INTO fence VALUES (%s, %s, %s, %s, 1) ON CONFLICT (grp, topic, part)"
                    " DO UPDATE SET epoch = fence.epoch + 1 RETURNING next_offset, epoch",
                    (GROUP, p.topic, p.partition, low))
        start, epoch = sql.fetchone()
    c.commit(offsets=[TopicPartition(p.topic, p.partition, start)], asynchronous=False)
    owned[p.topic, p.partition] = [start, epoch]
    return TopicPartition(p.topic, p.partition, start)


def on_assign(c, partitions):
    owned.clear()
    try:
        c.assign([claim(c, p) for p in partitions])  # explicit offsets: none is asked for later
    except KafkaException:  # refused: the group has put us out, and will say so
        owned.clear()
        c.assign([])


def store(m):
    """False: another copy has claimed the partition, and nothing was stored."""
    at = owned[m.topic(), m.partition()]
    with db.cursor() as sql:
        sql.execute("INSERT INTO results VALUES (%s, %s, %s, %s)",
                    (m.topic(), m.partition(), m.offset(), m.value()))
        sql.execute("UPDATE fence SET next_offset = %s WHERE grp = %s AND topic = %s AND part = %s"
                    " AND next_offset = %s AND epoch = %s",
                    (m.offset() + 1, GROUP, m.topic(), m.partition(), *at))
        moved = sql.rowcount == 1
    db.commit() if moved else db.rollback()  # an error here ends this copy: the next one claims
    at[0] = m.offset() + 1
    return moved


c = consumer(enable_auto_commit=False)
c.subscribe([TOPIC], on_assign=on_assign, on_revoke=lambda c, ps: owned.clear())
while running():
    m = poll(c)
    if m is None or (m.topic(), m.partition()) not in owned:
        continue
    work(m)
    if not store(m):
        sys.exit("another copy has claimed our partition; start again")
    show(m)
c.close()
