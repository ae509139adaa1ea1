#!/usr/bin/python3
"""One consumer as people write them (librdkafka). Every record it has worked on it writes down,
before anything else can happen to it: "partition offset nanoseconds" a line.

usage: member.py ADDRESS TOPIC GROUP OUT JSON       JSON: settings, and what starts with an _:
  _mode    auto: auto commit in a poll loop; each: commit after each record, waiting for the answer;
           batch: after each batch; first: before the work
  _revoke  commit what was worked on in the revoke callback
  _work_us for one record
"""
import json
import os
import signal
import sys
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

address, topic, group, out, text = sys.argv[1:6]
settings = json.loads(text)
own = {k: settings.pop(k) for k in list(settings) if k.startswith("_")}
book = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
done, ending = {}, []
signal.signal(signal.SIGTERM, lambda *_: ending.append(1))


def work(m):
    if own["_work_us"]:
        time.sleep(own["_work_us"] / 1e6)
    os.write(book, b"%d %d %d\n" % (m.partition(), m.offset(), time.time_ns()))
    done[m.partition()] = m.offset() + 1


def commit(c, offsets):
    if not offsets:
        return
    try:
        c.commit(offsets=[TopicPartition(topic, p, o) for p, o in offsets.items()],
                 asynchronous=False)
    except KafkaException:
        pass  # as many applications do: the next commit covers it


def on_revoke(c, partitions):
    if own["_revoke"]:
        commit(c, {t.partition: done[t.partition] for t in partitions if t.partition in done})
    for t in partitions:
        done.pop(t.partition, None)


def on_lost(_consumer, partitions):
    for t in partitions:
        done.pop(t.partition, None)


def take(c, most):
    """Not consume(): when a cooperative rebalance comes in the middle of it, librdkafka 2.0.2 loses
    what it had taken, and nobody but the application can know."""
    got = []
    while len(got) < most:
        m = c.poll(0 if got else 0.2)
        if m is None:
            break
        if not m.error():
            got.append(m)
    return got


def main():
    c = Consumer({"bootstrap.servers": address, "group.id": group, "log_level": 0,
                  "enable.auto.commit": own["_mode"] == "auto", **settings})
    hooks = {"on_revoke": on_revoke, "on_lost": on_lost} if own["_revoke"] else {}
    c.subscribe([topic], **hooks)
    size = 50 if own["_mode"] in ("batch", "first") else 1
    while not ending:
        got = take(c, size)
        if own["_mode"] == "first":
            commit(c, {m.partition(): m.offset() + 1 for m in got})
        for m in got:
            work(m)
        if own["_mode"] in ("each", "batch"):
            commit(c, {m.partition(): m.offset() + 1 for m in got})
    c.close()


main()
