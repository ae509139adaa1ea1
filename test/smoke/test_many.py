#!/usr/bin/env python3
"""More partitions than files: usage: test_many.py [TALLY] [--partitions N] [--files N]

Every partition is written to and read under a small limit of open files; memory a partition; a
start after a clean stop, and one after SIGKILL with nothing new, read no byte of a log."""
import argparse
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

ROOT = pathlib.Path(__file__).resolve().parents[2]
ANSWER_S = 120
MEMORY_MAX = 8192  # bytes a partition
TAIL = 50          # partitions that are written to before the SIGKILL
VALUE = b"v" * 100


class Broker:
    def __init__(self, args, place):
        self.args, self.place = args, place
        self.log = place / "log"

    def start(self):
        limited = f"ulimit -n {self.args.files}; exec \"$@\""
        self.log.write_text("")
        self.child = subprocess.Popen(
            ["bash", "-c", limited, "bash", self.args.tally, "serve", "--listen", "127.0.0.1:0",
             "--data", self.place / "data", *os.environ.get("SERVE_OPTIONS", "").split()],
            stdout=subprocess.PIPE, stderr=self.log.open("ab"))
        line = self.child.stdout.readline().decode()
        assert line.startswith("ready "), self.log.read_text()
        self.address = line.split()[1]
        said = re.search(r"recovered: (\d+) of (\d+) partitions, (\d+) bytes", self.log.read_text())
        return [int(n) for n in said.groups()]

    def rss(self):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024

    def files(self):
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))

    def stop(self, how=signal.SIGTERM):
        self.child.send_signal(how)
        status = self.child.wait(ANSWER_S)
        assert how == signal.SIGKILL or status == 0, f"ended with {status}"


def produce(broker, partitions):
    failed = []
    p = Producer({"bootstrap.servers": broker.address, "linger.ms": 20,
                  "message.timeout.ms": ANSWER_S * 1000})
    for i in partitions:
        p.produce("many", VALUE, partition=i,
                  on_delivery=lambda error, _: error and failed.append(error))
        p.poll(0)
    assert p.flush(ANSWER_S) == 0 and not failed, failed[:3]


def read_all(broker, expected):
    c = Consumer({"bootstrap.servers": broker.address, "group.id": "reader",
                  "auto.offset.reset": "earliest", "enable.auto.commit": False})
    c.assign([TopicPartition("many", p, 0) for p in range(len(expected))])
    got = [0] * len(expected)
    last = time.monotonic()
    while got != expected:
        # It waits the whole time for as many as are asked for, so that time is short.
        messages = c.consume(1000, 0.1)
        last = time.monotonic() if messages else last
        assert time.monotonic() < last + ANSWER_S, \
            f"nothing more comes, {sum(got)} of {sum(expected)} records are here"
        for m in messages:
            assert not m.error() and m.value() == VALUE and m.offset() == got[m.partition()]
            got[m.partition()] += 1
    c.close()


def run(args, place):
    n = args.partitions
    broker = Broker(args, place)
    assert broker.start() == [0, 0, 0]
    empty = broker.rss()
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic("many", n, 1)], request_timeout=ANSWER_S)["many"].result()
    produce(broker, range(n))
    read_all(broker, [1] * n)
    memory = (broker.rss() - empty) / n
    assert memory <= MEMORY_MAX, f"{memory:.0f} bytes a partition"
    assert broker.files() <= args.files * 3 // 4, f"{broker.files()} files are open"
    broker.stop()
    recovered, there, scanned = broker.start()
    assert recovered == 0 and there >= n and scanned == 0, (recovered, there, scanned)
    broker.stop(signal.SIGKILL)
    recovered, there, scanned = broker.start()
    assert recovered == 0 and scanned == 0, (recovered, there, scanned)
    produce(broker, range(TAIL))
    broker.stop(signal.SIGKILL)
    recovered, there, scanned = broker.start()
    # A batch of one record in each, and no other byte.
    assert recovered <= TAIL and scanned <= TAIL * (len(VALUE) + 100), (recovered, there, scanned)
    read_all(broker, [2] * TAIL + [1] * (n - TAIL))
    broker.stop()
    print(f"many: {n} partitions, {memory:.0f} bytes each, {args.files} files")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tally", nargs="?", default=str(ROOT / "build/tally"))
    parser.add_argument("--partitions", type=int, default=10000)
    parser.add_argument("--files", type=int, default=1024)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tally-many-") as place:
        run(args, pathlib.Path(place))
    print("many: 1 passed, 0 failed")


if __name__ == "__main__":
    main()
