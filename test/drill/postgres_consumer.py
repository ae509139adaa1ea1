#!/usr/bin/env python3
"""A consumer whose results are rows of PostgreSQL, and whose offsets are Kafka's: work first and
commit after, or the other way round.

    test/drill/postgres_consumer.py work-first|commit-first URL [NAME=VALUE...]
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples/python"))

import psycopg2  # noqa: E402
from confluent_kafka import TopicPartition  # noqa: E402
from example import TOPIC, commit, consumer, poll, running, work  # noqa: E402

order, url = sys.argv[1:3]
db = psycopg2.connect(url)
with db, db.cursor() as sql:
    sql.execute("SELECT pg_advisory_xact_lock(1)")
    sql.execute("CREATE TABLE IF NOT EXISTS done (topic TEXT, part INT, off BIGINT, name TEXT)")


def store(m):
    work(m)
    with db, db.cursor() as sql:
        sql.execute("INSERT INTO done VALUES (%s, %s, %s, %s)",
                    (m.topic(), m.partition(), m.offset(), (m.key() or b"").decode()))


def done(c, m):
    commit(c, offsets=[TopicPartition(m.topic(), m.partition(), m.offset() + 1)],
           asynchronous=False)


c = consumer(enable_auto_commit=False)
c.subscribe([TOPIC])
while running():
    m = poll(c)
    if m is None:
        continue
    for step in (store, done) if order == "work-first" else (done, store):
        step(m) if step is store else step(c, m)
c.close()
