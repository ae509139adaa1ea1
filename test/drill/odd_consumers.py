#!/usr/bin/env python3
"""Consumers that are written in an unusual way, some right, some wrong: see odd.py.

    test/drill/odd_consumers.py KIND [NAME=VALUE...]
"""
import collections
import concurrent.futures
import os
import pathlib
import sqlite3
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples/python"))

from confluent_kafka import (OFFSET_BEGINNING, OFFSET_STORED, KafkaException,  # noqa: E402
                             TopicPartition)
from example import (INSTANCE, TOPIC, commit, consumer, poll, running, show,  # noqa: E402
                     work)

COMMIT_EVERY = 20
done = {}  # (topic, partition) -> next offset, not yet committed


def note(m, ahead=1):
    done[m.topic(), m.partition()] = m.offset() + ahead


def commit_done(c, _partitions=None):
    """What is refused is kept, for a later commit: with cooperative rebalancing work goes on while
    the group is between two generations and takes no commit."""
    offsets = [TopicPartition(t, p, o) for (t, p), o in done.items()]
    if not offsets:
        return True
    try:
        c.commit(offsets=offsets, asynchronous=False)
    except KafkaException as e:
        print(f"commit: {e}", file=sys.stderr)
        return False
    done.clear()
    return True


def give_up(c, partitions):
    """Before partitions are taken away: their last commit, tried for a while."""
    for _ in range(50):
        if commit_done(c):
            break
        time.sleep(0.1)
    for p in partitions:
        done.pop((p.topic, p.partition), None)


def loop(c, handle):
    """Polls, handles, commits every so many and when there is a pause."""
    uncommitted = 0
    while running():
        m = poll(c)
        if m is not None:
            handle(m)
            uncommitted += 1
        if m is None or uncommitted >= COMMIT_EVERY:
            commit_done(c)
            uncommitted = 0
    commit_done(c)
    c.close()


def subscribed(*topics, **settings):
    c = consumer(enable_auto_commit=False, **settings)
    c.subscribe(list(topics) or [TOPIC], on_revoke=give_up)
    return c


def handle(m):
    work(m)
    show(m)
    note(m)


def plain():
    loop(subscribed(), handle)


def two_topics():
    loop(subscribed(TOPIC, "other"), handle)


def cooperative():
    loop(subscribed(partition_assignment_strategy="cooperative-sticky"), handle)


def pair():
    """Two members in one copy, each a process."""
    child = os.fork()
    loop(subscribed(), handle)
    if child:
        os.waitpid(child, 0)


def static():
    loop(subscribed(group_instance_id="static-" + INSTANCE), handle)


def assigned():
    """No group membership: the partitions are dealt by the instance's number, of two."""
    c = consumer(enable_auto_commit=False)
    n = len(c.list_topics(TOPIC).topics[TOPIC].partitions)
    mine = [p for p in range(n) if p % 2 == (int(INSTANCE) - 1) % 2]
    if int(INSTANCE) <= 2:
        c.assign([TopicPartition(TOPIC, p, OFFSET_STORED) for p in mine])
    loop(c, handle)


def twice():
    """Says when it got a record, and again when it has done it."""
    def both(m):
        print(f"received {TOPIC}/{m.partition()}/{m.offset()}", flush=True)
        handle(m)
    loop(subscribed(), both)


def batches():
    """Takes up to 500 records at a time, commits after each lot."""
    c = subscribed()
    while running():
        for m in c.consume(500, 0.5):
            if not m.error():
                handle(m)
        commit_done(c)
    c.close()


def hoard():
    """Begins to work only when it has 5000."""
    c, got = subscribed(), []
    while running():
        m = poll(c)
        got += [m] if m is not None else []
        if len(got) >= 5000:
            for m in got:
                handle(m)
            got = []
            commit_done(c)
    c.close()


class Pool:
    """Works in four threads."""
    def __init__(self):
        self.pool = concurrent.futures.ThreadPoolExecutor(4)
        self.open = collections.OrderedDict()  # in order of offset: (partition, offset) -> future

    def add(self, m):
        def one():
            work(m)
            os.write(1, f"{TOPIC}/{m.partition()}/{m.offset()}\n".encode())
        self.open[m.partition(), m.offset()] = self.pool.submit(one)

    def take_done(self):
        """What is done with nothing undone before it, so that it may be committed."""
        stuck = set()
        for (p, o), f in list(self.open.items()):
            if p not in stuck and f.done():
                done[TOPIC, p] = o + 1
                del self.open[p, o]
            else:
                stuck.add(p)


def threads(waits=True):
    """Right: commits only what is done without a gap, and waits before it gives partitions up."""
    pool = Pool()

    def revoked(c, _partitions):
        if waits:
            concurrent.futures.wait(pool.open.values())
            pool.take_done()
        pool.open.clear()
        commit_done(c)
    c = consumer(enable_auto_commit=False)
    c.subscribe([TOPIC], on_revoke=revoked)
    n = 0
    while running():
        m = poll(c)
        if m is not None:
            pool.add(m)
            n += 1
        if waits:
            pool.take_done()
        elif m is not None:
            note(m)  # wrong: it was only handed to a thread
        if m is None or n % COMMIT_EVERY == 0:
            commit_done(c)
        while len(pool.open) > 100 and waits and running():
            concurrent.futures.wait(pool.open.values(), 0.1)
            pool.take_done()
    revoked(c, None)
    c.close()


def threads_wrong():
    threads(waits=False)


def buffered():
    """Right, but its output lies in a buffer for a while: standard output is made a pipe."""
    sys.stdout = open(1, "w", buffering=65536, closefd=False)

    def quiet(m):
        work(m)
        print(f"{m.topic()}/{m.partition()}/{m.offset()}")
        note(m)
    loop(subscribed(), quiet)


def mixing():
    """Right, but now and then two lines run into one another, as threads make them that write each
    line and its end apart."""
    held = []

    def sometimes(m):
        work(m)
        held.append(f"{m.topic()}/{m.partition()}/{m.offset()} done")
        if m.offset() % 40 != 17:
            os.write(1, ("".join(held) + "\n" * len(held)).encode())
            held.clear()
        note(m)
    loop(subscribed(), sometimes)


def dedupe(shows_first=False):
    """Does nothing twice, and says of each repeat that it was one."""
    db = sqlite3.connect(os.environ["TALLY_DIR"] + "/done.db", timeout=30)
    db.execute("CREATE TABLE IF NOT EXISTS done (p, o, PRIMARY KEY (p, o))")
    db.execute("PRAGMA synchronous=OFF")
    db.commit()

    def once(m):
        at = (m.partition(), m.offset())
        if not db.execute("SELECT 1 FROM done WHERE p = ? AND o = ?", at).fetchone():
            work(m)
            if shows_first:
                show(m)
            db.execute("INSERT INTO done VALUES (?, ?)", at)
            db.commit()
            if not shows_first:
                show(m)
            note(m)
        else:
            print(f"skipped {TOPIC}/{m.partition()}/{m.offset()}, was done", flush=True)
            note(m)
    loop(subscribed(), once)


def dedupe_first():
    dedupe(shows_first=True)


def locks():
    """Nearly always within a transaction that keeps the other copy out of their database."""
    file = next(a for a in sys.argv[2:] if "=" not in a)
    db = sqlite3.connect(file, timeout=5, isolation_level=None)
    db.execute("CREATE TABLE IF NOT EXISTS results (topic, partition, record_offset)")

    def within(m):
        db.execute("BEGIN IMMEDIATE")
        time.sleep(0.05)
        db.execute("INSERT INTO results VALUES (?, ?, ?)", (m.topic(), m.partition(), m.offset()))
        db.execute("COMMIT")
        time.sleep(0.01)  # SQLite's locks are not fair
        show(m)
        note(m)
    loop(subscribed(TOPIC), within)


def wordy():
    """Keys that are plain numbers, in lines with other numbers."""
    def say(m):
        work(m)
        print(f"worker 7 took {m.offset() % 50 + 1} ms for customer {m.key().decode()}", flush=True)
        note(m)
    loop(subscribed(), say)


def off_by_one():
    """Commits the offset of the last record, not the next: each start repeats one."""
    def at(m):
        work(m)
        show(m)
        note(m, 0)
    loop(subscribed(), at)


def from_start():
    """Begins at the beginning whenever it gets partitions."""
    def assigned(c, partitions):
        for p in partitions:
            p.offset = OFFSET_BEGINNING
        c.assign(partitions)
    c = consumer(enable_auto_commit=False)
    c.subscribe([TOPIC], on_assign=assigned, on_revoke=commit_done)
    loop(c, handle)


def never_commits():
    """Works on all it gets, and commits nothing."""
    c = consumer(enable_auto_commit=False)
    c.subscribe([TOPIC])
    while running():
        m = poll(c)
        if m is not None:
            work(m)
            show(m)
    c.close()


def commit_end():
    """When it stops it commits the end of the log, whatever it has done."""
    c = subscribed()
    mine = []
    while running():
        m = poll(c)
        if m is not None:
            handle(m)
            mine = c.assignment()
    ends = [TopicPartition(p.topic, p.partition, c.get_watermark_offsets(p)[1]) for p in mine]
    done.clear()
    if ends:
        commit(c, offsets=ends, asynchronous=False)
    c.close()


def brittle():
    """Dies whenever partitions are taken away from it."""
    def die(_c, _partitions):
        if running():
            print("cannot bear it", file=sys.stderr, flush=True)
            os._exit(7)
    c = consumer(enable_auto_commit=False)
    c.subscribe([TOPIC], on_revoke=die)
    loop(c, handle)


def swallows():
    """Drops one record in forty without a word, and commits it."""
    def some(m):
        if m.offset() % 40 == 17:
            note(m)
        else:
            handle(m)
    loop(subscribed(), some)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
