#!/usr/bin/env python3
"""Real clients on a broker that is killed all the time: is anything acknowledged ever lost?

usage: soak.py [--minutes N | --seconds N] [--seed N] [--tally PATH] [--keep]

Idempotent acks=all producers, an acks=1 producer, committing consumers that come and go, while
the broker is ended with SIGKILL at random instants (and sometimes stopped in order) and started
again on the same directory. After a start: every acknowledged record stands once, in its
producer's order, at the offset that was told; every acknowledged commit is kept; no offset holds
two records; the ledger's states add up. Ends with "soak: N passed, N failed" (checks)."""
import argparse
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from clients import IMPATIENT, PARTITIONS, TOPIC, Reader, Writer
from truth import Truth

ROOT = pathlib.Path(__file__).resolve().parents[2]
STATES = ("waiting", "in_flight", "returned", "committed", "skipped", "expired", "abandoned",
          "unknown", "not_data")
START_S = 30      # more than any start of this directory takes
ANSWER_S = 20     # a client's patience with one question
DRAIN_S = 90      # for the clients to finish in the end
FULL_EVERY = 50   # checks between two readings of the whole log
SETTINGS = ("group.initial.rebalance.delay.ms=0", "log.segment.bytes=1048576",
            "log.retention.check.interval.ms=1000")


class Broker:
    def __init__(self, tally, place):
        self.tally, self.place = tally, place
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.log = open(place / "broker.log", "ab")
        self.child = None
        self.kills = self.stops = 0
        self.slowest_start_s = 0.0

    def start(self, wait=True):
        options = [o for s in SETTINGS for o in ("--set", s)]
        options += os.environ.get("SERVE_OPTIONS", "").split()
        self.started = time.monotonic()
        self.child = subprocess.Popen(
            [self.tally, "serve", "--listen", self.address, "--data", self.place / "data",
             *options], stdout=subprocess.PIPE, stderr=self.log)
        if wait:
            self.wait_ready()

    def wait_ready(self):
        guard = threading.Timer(START_S, self.child.kill)
        guard.start()
        line = self.child.stdout.readline().decode()
        guard.cancel()
        if not re.fullmatch(r"ready \S+\n", line):
            raise AssertionError(f"the broker does not start: {line!r}, exit status "
                                 f"{self.child.wait()}; see {self.place}/broker.log")
        self.slowest_start_s = max(self.slowest_start_s, time.monotonic() - self.started)

    def kill(self):
        if self.child.poll() is not None:
            raise AssertionError(f"the broker ended by itself, exit status "
                                 f"{self.child.returncode}; see {self.place}/broker.log")
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        self.child.stdout.close()
        self.kills += 1

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        status = self.child.wait(START_S)
        self.child.stdout.close()
        if status:
            raise AssertionError(f"a stop in order ended with {status}")
        self.stops += 1


def fetch_offsets(s, group, topic, partitions):
    """OffsetFetch v5 by hand: librdkafka takes half a second to find a coordinator again."""
    def string(text):
        return struct.pack(">h", len(text)) + text.encode()

    body = struct.pack(">hhi", 9, 5, 1) + string("soak") + string(group)
    body += struct.pack(">i", 1) + string(topic)
    body += struct.pack(f">i{partitions}i", partitions, *range(partitions))
    s.sendall(struct.pack(">i", len(body)) + body)
    size = struct.unpack(">i", receive(s, 4))[0]
    answer = receive(s, size)
    at, offsets = 4 + 4 + 4 + 2 + len(topic) + 4, [None] * partitions
    for _ in range(partitions):
        p, offset, _, metadata = struct.unpack_from(">iqih", answer, at)
        at += 18 + max(metadata, 0)
        error = struct.unpack_from(">h", answer, at)[0]
        at += 2
        if error:
            raise AssertionError(f"offsets of {group} {topic}-{p}: error {error}")
        offsets[p] = offset
    error = struct.unpack_from(">h", answer, at)[0]
    if error or at + 2 != len(answer):
        raise AssertionError(f"offsets of {group}: error {error}, bytes left over")
    return offsets


def receive(s, n):
    got = b""
    while len(got) < n:
        part = s.recv(n - len(got))
        if not part:
            raise AssertionError("the connection was closed instead of an answer")
        got += part
    return got


class Checks:
    """Reads what the broker says, between two kills."""

    def __init__(self, broker, truth, groups, exact):
        self.broker, self.truth, self.groups, self.exact = broker, truth, groups, exact
        self.position = [0] * PARTITIONS
        self.consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "soak-check",
                                  "enable.auto.commit": False, "enable.partition.eof": False,
                                  "auto.offset.reset": "error", "fetch.wait.max.ms": 10,
                                  "fetch.error.backoff.ms": 20, **IMPATIENT})

    def ask(self, what, function):
        """The broker runs while this asks; connections of before the kill may fail once."""
        until = time.monotonic() + ANSWER_S
        while True:
            try:
                return function()
            except KafkaException as e:
                if time.monotonic() > until:
                    raise AssertionError(f"{what}: {e}") from None
                time.sleep(0.02)

    def whole_log(self):
        """From the start once more: all that ever stood there stands there still."""
        for p in range(PARTITIONS):
            self.truth.forget_order(TOPIC, p)
        self.position = [0] * PARTITIONS
        n = self.new_records()
        for p in range(PARTITIONS):
            lacking = set(range(self.position[p])) ^ self.truth.offsets_below(
                TOPIC, p, self.position[p])  # the readers may be further by now
            if lacking:
                self.truth.fail(f"{TOPIC}-{p}: read to {self.position[p]}, without "
                                f"{sorted(lacking)[:5]}")
        self.truth.count("reread", n)

    def new_records(self):
        acked = [self.truth.take_acked(TOPIC, p) for p in range(PARTITIONS)]
        n = 0
        for p in range(PARTITIONS):
            at = TopicPartition(TOPIC, p)
            _, end = self.ask("watermarks",
                              lambda: self.consumer.get_watermark_offsets(at, timeout=2))
            n += self.read(p, end)
            self.check_acked(p, acked[p], end)
        self.truth.count("checks")
        return n

    def read(self, p, end):
        n, until = 0, time.monotonic() + ANSWER_S
        if self.position[p] < end:
            self.consumer.assign([TopicPartition(TOPIC, p, self.position[p])])
        while self.position[p] < end:
            for m in self.consumer.consume(5000, 0.05):
                if m.error():
                    continue
                if m.offset() != self.position[p]:
                    self.truth.fail(f"{TOPIC}-{p}: {m.offset()} comes after "
                                    f"{self.position[p] - 1}")
                self.position[p] = m.offset() + 1
                who = self.truth.seen(TOPIC, p, m.offset(), m.value())
                if who:
                    self.truth.in_order(TOPIC, p, m.offset(), who, who[0] in self.exact)
                n, until = n + 1, time.monotonic() + ANSWER_S
            if time.monotonic() > until:
                raise AssertionError(f"{TOPIC}-{p}: nothing comes from {self.position[p]} on, "
                                     f"the end is {end}")
        return n

    def check_acked(self, p, acked, end):
        later = []
        for offset, producer, seq in acked:
            if offset >= end:
                # acks=1 may be told before it may be read.
                if producer in self.exact:
                    self.truth.fail(f"{TOPIC}-{p}: {producer} {seq} was acknowledged at {offset}, "
                                    f"the log ends at {end}")
                else:
                    later.append((offset, producer, seq))
                continue
            stands = self.truth.stands.get((TOPIC, p), {}).get(offset)
            if stands != (producer, seq):
                self.truth.fail(f"{TOPIC}-{p} {offset}: {producer} {seq} was acknowledged there, "
                                f"{stands} stands there")
        self.truth.put_back_acked(TOPIC, p, later)

    def committed(self):
        for group in self.groups:
            self.committed_of(group)
        self.truth.count("checks")

    def committed_of(self, group):
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.broker.port), ANSWER_S) as s:
            s.settimeout(ANSWER_S)
            got = fetch_offsets(s, group, TOPIC, PARTITIONS)
        ended = time.monotonic()
        for p, offset in enumerate(got):
            self.truth.check_committed(group, TOPIC, p, offset, began, ended)
        return got

    def report(self):
        began = time.monotonic()
        done = subprocess.run([self.broker.tally, "report", "--bootstrap", self.broker.address,
                               "--verify", "--json"], capture_output=True, timeout=ANSWER_S)
        ended = time.monotonic()
        if done.returncode:
            self.truth.fail(f"report --verify: {done.stderr.decode()!r}")
        for group in json.loads(done.stdout)["groups"]:
            for p in group["partitions"]:
                added = sum(p[s] for s in STATES)
                if added != p["end"] - p["first"]:
                    self.truth.fail(f"{group['group']} {p['topic']}-{p['partition']}: the states "
                                    f"add up to {added}, not to {p['end'] - p['first']}")
                if group["group"] in self.groups and p["topic"] == TOPIC:
                    k = p["committed_offset"]
                    self.truth.check_committed(group["group"], TOPIC, p["partition"],
                                               -1 if k is None else k, began, ended)
        self.truth.count("checks")

    def close(self):
        self.consumer.close()


class TopicChurn:
    """Topics made and deleted: what was answered for is so after a kill."""

    def __init__(self, broker, truth, dice):
        self.truth, self.dice = truth, dice
        self.admin = AdminClient({"bootstrap.servers": broker.address, **IMPATIENT})
        self.there, self.gone, self.unsure = set(), set(), set()
        self.n = 0

    def act(self):
        """Asks for one change and waits for the answer, a kill may come between."""
        if self.there and self.dice.random() < 0.5:
            name = self.dice.choice(sorted(self.there))
            self.there.discard(name)
            future, to = self.admin.delete_topics([name], request_timeout=1)[name], self.gone
        else:
            # A name that was deleted is used again now and then.
            if self.gone and self.dice.random() < 0.5:
                name = self.dice.choice(sorted(self.gone))
                self.gone.discard(name)
            else:
                self.n += 1
                name = f"passing-{self.n}"
            topic = NewTopic(name, self.dice.randrange(1, 6), 1)
            future, to = self.admin.create_topics([topic], request_timeout=1)[name], self.there
        self.unsure.add(name)
        return name, future, to

    def settle(self, acted):
        name, future, to = acted
        try:
            future.result(5)
            self.unsure.discard(name)
            to.add(name)
            self.truth.count("topics")
        except (KafkaException, TimeoutError):
            pass  # done or not: nothing is known of it

    def check(self, ask):
        names = set(ask("metadata", lambda: self.admin.list_topics(timeout=2)).topics)
        for name in self.there - names:
            self.truth.fail(f"topic {name} was made and is not there")
        for name in self.gone & names:
            self.truth.fail(f"topic {name} was deleted and is there")
        self.truth.count("checks")


class Soak:
    def __init__(self, args, place):
        self.args, self.dice = args, random.Random(args.seed)
        self.truth = Truth()
        self.n_checks = 0
        self.broker = Broker(args.tally, place)
        a, t, s = self.broker.address, self.truth, args.seed
        self.writers = [Writer(f"exact{i}", a, t, s, True, 400) for i in range(3)]
        self.writers.append(Writer("leader0", a, t, s, False, 200))
        self.readers = [Reader(f"r{i}", a, t, s, "steady", False) for i in range(2)]
        self.readers.append(Reader("r2", a, t, s, "steady", True))
        # Not cooperative-sticky: librdkafka 2.0's assignor aborts the process under such churn.
        self.readers += [Reader(f"c{i}", a, t, s, "churning", True,
                                partition_assignment_strategy="roundrobin") for i in range(2)]
        self.readers.append(Reader("s0", a, t, s, "static", True, group_instance_id="one"))
        self.readers.append(Reader("s1", a, t, s, "static", False, group_instance_id="two"))
        exact = {w.name for w in self.writers if w.is_exact}
        self.groups = sorted({r.group for r in self.readers})
        self.checks = Checks(self.broker, self.truth, self.groups, exact)
        self.topics = TopicChurn(self.broker, self.truth, self.dice)

    def make_topic(self):
        made = self.topics.admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])
        made[TOPIC].result(ANSWER_S)

    def check_all(self, whole=False):
        self.checks.committed()
        self.checks.report()
        if whole:
            self.checks.whole_log()
        else:
            self.checks.new_records()
        self.topics.check(self.checks.ask)

    def one_round(self):
        """One life of the broker: the checks, a while of work, and its end."""
        kind = self.dice.random()
        if kind < 0.1:  # killed while it recovers or just after
            time.sleep(self.dice.random() * 0.03)
        else:
            self.broker.wait_ready()
            self.checks.committed()  # before anybody commits again
            if kind < 0.5:
                self.n_checks += 1
                self.check_all(whole=self.n_checks % FULL_EVERY == 0)
            time.sleep(self.dice.random() * 0.4)
        acted = self.topics.act() if self.dice.random() < 0.3 else None
        time.sleep(self.dice.random() * 0.02)
        if kind > 0.95:
            self.broker.stop()
        else:
            self.broker.kill()
        self.broker.start(wait=False)
        if acted:
            self.topics.settle(acted)

    def run(self):
        self.broker.start()
        self.make_topic()
        self.broker.kill()
        self.broker.start(wait=False)
        for client in self.writers + self.readers:
            client.start()
        until = time.monotonic() + self.args.seconds
        shown = time.monotonic()
        while time.monotonic() < until and not self.truth.failures:
            self.one_round()
            if time.monotonic() - shown > 15:
                shown = time.monotonic()
                self.show()
        self.broker.wait_ready()
        self.drain()

    def drain(self):
        """Nobody dies any more: everything that was sent is taken, read and committed."""
        for w in self.writers:
            w.stop()
        for w in self.writers:
            w.join(DRAIN_S + 60)
        for r in self.readers:
            r.is_draining = True
        self.wait_for_readers()
        self.check_all(whole=True)
        for r in self.readers:
            r.stop()
        for r in self.readers:
            r.join(DRAIN_S)
        self.check_end()
        self.broker.stop()
        self.broker.start()  # after a clean stop, which scans nothing
        self.check_all(whole=True)
        self.check_end()
        self.checks.close()
        self.broker.stop()

    def ends(self):
        return [self.checks.ask("watermarks", lambda: self.checks.consumer.get_watermark_offsets(
            TopicPartition(TOPIC, p), timeout=2))[1] for p in range(PARTITIONS)]

    def wait_for_readers(self):
        until = time.monotonic() + DRAIN_S
        for group in self.groups:
            while True:
                ends = self.ends()
                got = self.checks.committed_of(group)
                if got == ends:
                    break
                if time.monotonic() > until:
                    self.truth.fail(f"{group} does not come to the end: {got} of {ends}")
                    break
                time.sleep(0.1)

    def check_end(self):
        for w in self.writers:
            for p in range(PARTITIONS):
                last = self.truth.last_seq.get((TOPIC, p, w.name), (-1, -1))[0]
                if w.is_exact and last + 1 != w.next_seq[p]:
                    self.truth.fail(f"{TOPIC}-{p}: {w.name} wrote {w.next_seq[p]}, "
                                    f"{last + 1} stand there")
        if any(self.truth.acked.values()):
            self.truth.fail(f"acknowledged and not found: "
                            f"{[v[:3] for v in self.truth.acked.values() if v]}")

    def show(self):
        c = self.truth.counts
        print(f"soak: {self.broker.kills} kills, {self.broker.stops} stops; {c['acked']} records "
              f"acknowledged for all, {c['acked_leader']} for one, {c['refused']} refused; "
              f"{c['consumed']} read, {c['commits']} commits ({c['commits_failed']} failed), "
              f"{c['topics']} topic changes; {c['checks']} checks, {c['reread']} records read "
              f"again; slowest start {self.broker.slowest_start_s * 1000:.0f} ms", flush=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seconds", type=float, help="instead of minutes")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--tally", default=str(ROOT / "build/tally"))
    parser.add_argument("--keep", action="store_true", help="keep the directory")
    args = parser.parse_args()
    args.seconds = args.seconds or args.minutes * 60
    return args


def main():
    args = parse()
    print(f"soak: seed {args.seed}, {args.seconds:.0f} s", flush=True)
    place = pathlib.Path(tempfile.mkdtemp(prefix="tally-soak-"))
    soak = Soak(args, place)
    try:
        soak.run()
    except (AssertionError, KafkaException, subprocess.TimeoutExpired) as e:
        soak.truth.fail(f"{type(e).__name__}: {e}")
    finally:
        if soak.broker.child and soak.broker.child.poll() is None:
            soak.broker.child.kill()
            soak.broker.child.wait()
    soak.show()
    failures = soak.truth.failures
    if failures or args.keep:
        print(f"soak: seed {args.seed}; the directory is kept: {place}")
    else:
        shutil.rmtree(place)
    print(f"soak: {soak.truth.counts['checks']} passed, {len(failures)} failed", flush=True)
    sys.stdout.flush()
    # Threads of a failed run may still wait for a broker that is gone.
    os._exit(1 if failures else 0)


if __name__ == "__main__":
    main()
