#!/usr/bin/env python3
"""A broker on a disk that is full, and one whose files have flipped bits.

usage: disk.py [--tally PATH] [--seed N] [--flips N]      ends with "N passed, N failed"

Full: a small tmpfs of its own (as root, or in a user namespace). Where neither may mount, as in
some CI, the full disk is the simulated one; elsewhere that is a failure. Flips: after each one the
broker serves the records that were written, or says which file is damaged; it never serves
others."""
import argparse
import errno
import os
import pathlib
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from clients import IMPATIENT
from soak import ANSWER_S, ROOT, Broker, fetch_offsets, receive
from truth import read_value, value_of

MB = 1 << 20
DISK_MB = 160  # more than the broker's reserve of 64 MB


class Away(Exception):
    """The broker did not start, or ended: its last words."""


class Run:
    def __init__(self, args, place):
        self.broker = Broker(args.tally, place)
        self.place = place

    def start(self):
        self.broker.log.truncate(0)
        try:
            self.broker.start()
        except AssertionError:
            self.broker.child.wait()
            raise Away(self.said()) from None

    def said(self):
        return (self.place / "broker.log").read_text(errors="replace")

    def admin(self):
        return AdminClient({"bootstrap.servers": self.broker.address, **IMPATIENT})

    def make(self, name, **settings):
        config = {k.replace("_", "."): str(v) for k, v in settings.items()}
        admin = self.admin()  # its futures end with it
        admin.create_topics([NewTopic(name, 1, 1, config=config)])[name].result(ANSWER_S)

    def send(self, topic, values, **settings):
        """The error of each, None for those that were taken."""
        p = Producer({"bootstrap.servers": self.broker.address, "retries": 0,
                      "message.timeout.ms": 20000, "linger.ms": 1, **IMPATIENT, **settings})
        errors = [None] * len(values)

        def told(i):
            def on_delivery(error, _message):
                errors[i] = error
            return on_delivery
        for i, v in enumerate(values):
            p.produce(topic, v, partition=0, on_delivery=told(i))
        assert p.flush(30) == 0
        return errors

    def read(self, topic, start=0):
        """All values that stand there, by offset, with the error that ended it."""
        c = Consumer({"bootstrap.servers": self.broker.address, "group.id": "reader",
                      "enable.auto.commit": False, "enable.partition.eof": True,
                      "auto.offset.reset": "error", "check.crcs": True, **IMPATIENT})
        c.assign([TopicPartition(topic, 0, start)])
        got, until = {}, time.monotonic() + ANSWER_S
        try:
            while time.monotonic() < until:
                for m in c.consume(1000, 0.2):
                    if m.error() and m.error().code() == KafkaError._PARTITION_EOF:
                        return got, None
                    if m.error() and m.error().code() not in (KafkaError._TRANSPORT,
                                                              KafkaError._ALL_BROKERS_DOWN):
                        return got, m.error()
                    if not m.error():
                        got[m.offset()] = m.value()
                if self.broker.child.poll() is not None:
                    raise Away(self.said())
            return got, "nothing more came"
        finally:
            c.close()

    def stop(self):
        if self.broker.child.poll() is None:
            self.broker.child.kill()
        self.broker.child.wait()


def check(condition, text):
    if not condition:
        raise AssertionError(text)


# ---- full


def settle_until(what, function):
    until = time.monotonic() + ANSWER_S
    while True:
        value = function()
        if value:
            return value
        check(time.monotonic() < until, what)
        time.sleep(0.1)


def fill(run):
    """Until produce is refused; how many records were taken before."""
    taken = 0
    while True:
        errors = run.send("full", [value_of("w", taken + i).ljust(200000) for i in range(50)],
                          **{"max.in.flight": 1})
        refused = [e for e in errors if e]
        taken += len(errors) - len(refused)
        if refused:
            return taken, refused
        check(taken * 200000 < DISK_MB * MB, "the disk is full and produce is still taken")


def simulated(_args, _place):
    subprocess.run(["make", "-s", "build/sim"], cwd=ROOT, check=True)
    done = subprocess.run([ROOT / "build/sim", "--full"], capture_output=True, text=True)
    check(done.returncode == 0, done.stdout + done.stderr)


def commit_by_hand(port, group, topic, offset, metadata):
    """OffsetCommit v2, once: the error of the answer."""
    def string(text):
        return struct.pack(">h", len(text)) + text.encode()

    body = struct.pack(">hhi", 8, 2, 1) + string("disk") + string(group)
    body += struct.pack(">i", -1) + string("") + struct.pack(">q", -1)
    body += struct.pack(">i", 1) + string(topic)
    body += struct.pack(">iiq", 1, 0, offset) + string(metadata)
    with socket.create_connection(("127.0.0.1", port), ANSWER_S) as s:
        s.settimeout(ANSWER_S)
        s.sendall(struct.pack(">i", len(body)) + body)
        answer = receive(s, struct.unpack(">i", receive(s, 4))[0])
    return struct.unpack(">h", answer[-2:])[0]


def full_disk(args, place):
    disk = place / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tally-soak", disk],
                             capture_output=True, text=True)
    if mounted.returncode:
        print(f"disk: no small disk can be mounted: {mounted.stderr.strip()}", flush=True)
        check(os.environ.get("CI"), "the test needs a disk that is really full")
        print("disk: only the simulated disk was full", flush=True)
        return
    run = Run(args, place)
    (place / "data").symlink_to(disk / "data")
    (disk / "data").mkdir()
    try:
        run.start()
        run.make("full", segment_bytes=MB, max_message_bytes=MB)
        run.make("small")
        check(run.send("small", [b"before"]) == [None], "the first record was refused")
        taken, refused = fill(run)
        check({e.code() for e in refused} <= {KafkaError.KAFKA_STORAGE_ERROR},
              f"refused with {refused[0]}")
        while_full(run, disk, taken)
        after_room(run)
        run.broker.stop()
        run.start()
        got, error = run.read("small")
        check(error is None and list(got.values())[0] == b"before", f"{got} {error}")
    finally:
        run.stop()
        subprocess.run(["umount", "-l", disk], check=True)


def while_full(run, disk, taken):
    """Somebody else takes the rest of the disk as well, but for a little."""
    free = shutil.disk_usage(disk).free
    other = disk / "others"
    with other.open("wb") as f:
        f.write(b"x" * max(free - 2 * MB, 0))
    settle_until("the log does not say that the disk is full",
                 lambda: "almost full" in run.said())
    errors = run.send("small", [b"late"])
    check(errors[0] and errors[0].code() == KafkaError.KAFKA_STORAGE_ERROR, f"answered {errors}")
    got, error = run.read("full")
    check(error is None and len(got) >= taken, f"{len(got)} of {taken} records, {error}")
    commits_while_full(run, disk)
    other.unlink()
    subprocess.run([run.broker.tally, "topic", "alter", "full", "--bootstrap", run.broker.address,
                    "--set", f"retention.bytes={10 * MB}"], check=True, capture_output=True)
    settle_until("retention did not go on", lambda: shutil.disk_usage(disk).free > 80 * MB)


def commits_while_full(run, disk):
    """Not a byte is left: commits go on in what the journal took ahead, then they are refused."""
    commit(run, "full", 7)
    rest = disk / "rest"
    try:
        with rest.open("wb", buffering=0) as f:
            while f.write(b"x" * 4096) == 4096:
                pass
    except OSError as e:
        check(e.errno == errno.ENOSPC, str(e))
    taken = 7
    while (code := commit_by_hand(run.broker.port, "g", "full", taken + 1, "m" * 4000)) == 0:
        taken += 1
        check(taken < 10000, "commits are taken without end")
    check(code == KafkaError.NOT_COORDINATOR, f"the commit is refused with {code}")
    check(committed(run, "full") == taken, f"{committed(run, 'full')} is committed, not {taken}")
    got, error = run.read("small")
    check(error is None and got, f"nothing can be read: {error}")
    check(run.broker.child.poll() is None, "the broker has ended")
    rest.unlink()
    settle_until("commits are not taken again", lambda: commit_by_hand(
        run.broker.port, "g", "full", 5, "") == 0)


def commit(run, topic, offset):
    c = Consumer({"bootstrap.servers": run.broker.address, "group.id": "g", **IMPATIENT})
    c.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    c.close()


def after_room(run):
    settle_until("produce is not taken again", lambda: run.send("small", [b"again"]) == [None])
    admin = run.admin()
    admin.delete_topics(["full"])["full"].result(ANSWER_S)
    settle_until("the log does not say that there is room",
                 lambda: "there is room again" in run.said())


# ---- flipped bits


def flip(path, dice):
    data = bytearray(path.read_bytes())
    at, bit = dice.randrange(len(data)), dice.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    return f"{path.parent.name}/{path.name} byte {at} of {len(data)} bit {bit}"


def one_flip(run, original, dice, written):
    data = run.place / "data"
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(original, data)
    files = sorted(p for p in data.rglob("*") if p.is_file() and p.stat().st_size > 0
                   and p.name != "lock" and not p.parent.name.startswith("__consumer"))
    where = flip(dice.choice(files), dice)
    name = where.split(" ")[0].split("/")[1]
    try:
        run.start()
        got, error = run.read("t")
        offset = None if error else committed(run)
    except Away as e:
        words = str(e)
        check(name in words or where.split("/")[0] in words,
              f"{where}: the broker stops without naming it: {words[-300:]!r}")
        return "refused; " + repaired(run, data, where, written)
    finally:
        run.stop()
    for o, v in got.items():
        check(written.get(o) == v, f"{where}: offset {o} is {v[:60]!r}")
    said = run.said()
    if name in said and "torn" in said:
        # The last batch of the log: nothing tells it from one that a crash tore.
        check(list(got) == list(range(len(got))), f"{where}: a hole")
        return "cut, and named"
    if error is None:
        check(len(got) == len(written), f"{where}: {len(got)} of {len(written)} records and "
                                        "nobody says so")
        check(offset == 5, f"{where}: committed is {offset}")
        return "whole"
    return "said while reading; " + repaired(run, data, where, written)


def repaired(run, data, where, written):
    """What is whole of the records is kept, and what is not is named."""
    done = subprocess.run([run.broker.tally, "topic", "repair", "--data", data],
                          capture_output=True, text=True)
    if not where.startswith("t-"):
        check(done.returncode == 2, f"{where}: repair says {done.stdout}")
        return "no repair"
    check(done.returncode == 0, f"{where}: cannot be repaired: {done.stderr[-500:]}")
    lost = set()
    for first, last in re.findall(r"offsets (\d+) to (\d+) are lost", done.stdout):
        lost |= set(range(int(first), int(last) + 1))
    try:
        run.start()
        got, error = run.read("t")
        check(error is None and committed(run) == 5, f"{where}: {error}, {committed(run)}")
    finally:
        run.stop()
    check(set(got) == set(written) - lost and len(lost & set(written)) < len(written) // 2 and
          all(written[o] == v for o, v in got.items()),
          f"{where}: {len(got)} of {len(written)} records, {len(lost)} lost")
    return "repaired"


def committed(run, topic="t"):
    with socket.create_connection(("127.0.0.1", run.broker.port), ANSWER_S) as s:
        return fetch_offsets(s, "g", topic, 1)[0]


def flips(args, place, is_clean):
    run = Run(args, place)
    run.start()
    run.make("t", segment_bytes=MB, index_interval_bytes=64)
    values = [value_of("w", i).ljust(3000) for i in range(900)]
    check(not any(run.send("t", values, **{"enable.idempotence": True, "retries": 9})), "refused")
    commit(run, "t", 5)
    written, error = run.read("t")
    check(error is None and list(written.values()) == values, "not what was written")
    if is_clean:
        run.broker.stop()
    else:
        run.broker.kill()
    original = place / "original"
    shutil.move(place / "data", original)
    dice, outcomes = random.Random(f"{args.seed} {is_clean}"), {}
    for _ in range(args.flips):
        how = one_flip(run, original, dice, written)
        outcomes[how] = outcomes.get(how, 0) + 1
    print(f"disk: {args.flips} flips after a {'clean stop' if is_clean else 'SIGKILL'}: "
          f"{outcomes}", flush=True)


def may_mount_somehow():
    """Not root: begins again as root of a namespace of its own, where that is allowed."""
    inside = "TALLY_DISK_NAMESPACE"
    can = subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode == 0
    if os.geteuid() != 0 and inside not in os.environ and can:
        os.execvpe("unshare", ["unshare", "-Urm", sys.executable, *sys.argv],
                   {**os.environ, inside: "1"})


def main():
    may_mount_somehow()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tally", default=str(ROOT / "build/tally"))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--flips", type=int, default=40)
    args = parser.parse_args()
    print(f"disk: seed {args.seed}", flush=True)
    tests = {"simulated full disk": simulated,
             "full disk": full_disk,
             "flips after a clean stop": lambda a, p: flips(a, p, True),
             "flips after SIGKILL": lambda a, p: flips(a, p, False)}
    failed = 0
    for name, test in tests.items():
        with tempfile.TemporaryDirectory(prefix="tally-disk-") as place:
            try:
                test(args, pathlib.Path(place))
                print(f"ok      {name}", flush=True)
            except (AssertionError, Away, KafkaException, subprocess.CalledProcessError) as e:
                failed += 1
                print(f"FAILED  {name}: {type(e).__name__}: {e}", flush=True)
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
