#!/usr/bin/env python3
"""tally drill --from-topic: the records of another cluster reach the consumer as they are.

    test/drill/from_topic.py BOOTSTRAP [--transactions]       a broker that is there
    test/drill/from_topic.py consume [NAME=VALUE...]          the consumer
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples/python"))

import confluent_kafka as kafka  # noqa: E402

N = 450
passed = failed = 0


def check(name, ok, detail=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print(f"FAILED {name}: {str(detail)[:2000]}", flush=True)


def text(key, value, headers):
    """A record as one word."""
    return json.dumps([key.hex() if key is not None else None,
                       value.hex() if value is not None else None,
                       [[k, v.hex() if v is not None else None] for k, v in headers or []]],
                      separators=(",", ":"))


def consume():
    from example import TOPIC, consumer, poll, running, work
    c = consumer(enable_auto_commit=False)
    c.subscribe([TOPIC])
    while running():
        m = poll(c)
        if m is not None:
            work(m)
            line = f"{TOPIC}/{m.partition()}/{m.offset()} {text(m.key(), m.value(), m.headers())}\n"
            os.write(1, line.encode())
            c.commit(m, asynchronous=False)
    c.close()


def record(i):
    """Keys, none, and bytes that are no text; values, none, empty, large; headers."""
    key = None if i % 7 == 3 else b"k\xff\x00%06d" % i if i % 5 == 0 else b"key-%06d" % i
    value = None if i % 11 == 5 else b"" if i % 11 == 6 else b"%d|" % i * (1 + i % 13 * 40)
    headers = [("trace", b"%d" % i), ("empty", b""), ("none", None)][:i % 4] if i % 4 else None
    return key, value, headers


def produce(bootstrap, topic, transactions):
    """Returns the records that a reader must get."""
    wanted = []
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        p = kafka.Producer({"bootstrap.servers": bootstrap, "compression.type": codec})
        for i in range(len(wanted), len(wanted) + N // 5):
            key, value, headers = record(i)
            p.produce(topic, value, key, headers=headers or [], partition=i % 3)
            wanted.append(text(key, value, headers))
        assert p.flush(60) == 0
    if transactions:
        t = kafka.Producer({"bootstrap.servers": bootstrap, "transactional.id": topic})
        t.init_transactions(60)
        for n in range(6):
            t.begin_transaction()
            for i in range(20):
                value = f"transaction {n} {i}".encode()
                t.produce(topic, value, partition=i % 3)
                if n % 2 == 0:
                    wanted.append(text(None, value, None))
            t.flush(60)
            t.commit_transaction(60) if n % 2 == 0 else t.abort_transaction(60)
    return wanted


def tally(*argv):
    return subprocess.run([ROOT / "build/tally", *map(str, argv)], capture_output=True, text=True,
                          timeout=300)


def seen(folder):
    found = {}
    for path in folder.glob("copy-*.out"):
        for line in path.read_text().splitlines():
            at, word = line.split(" ", 1)
            found[at] = word
    return found


def main():
    bootstrap, transactions = sys.argv[1], "--transactions" in sys.argv
    topic = f"source-{os.getpid()}-{bootstrap.rsplit(':', 1)[1]}"
    made = tally("topic", "create", topic, "--partitions", 3, "--bootstrap", bootstrap)
    assert made.returncode == 0, made
    wanted = produce(bootstrap, topic, transactions)
    # Everything that is there is fed, because the drill asks for more.
    with tempfile.TemporaryDirectory(prefix="tally-from-topic.") as folder:
        script = pathlib.Path(folder) / "all.drill"
        script.write_text("drill all\nrecords 100000\nwhen worked 20\n")
        done = tally("drill", script, "--json", "--no-control", "--keep", folder, "--from-topic",
                     f"{bootstrap}/{topic}", "--", "/usr/bin/python3", __file__, "consume",
                     "heartbeat.interval.ms=300")
        check("status", done.returncode == 0, done)
        check("records", json.loads(done.stdout)["drills"][0]["records"] == len(wanted),
              (done.stdout[:300], len(wanted)))
        got = seen(pathlib.Path(folder) / "all")
        check("each once", len(got) == len(wanted), (len(got), len(wanted)))
        check("as they are", sorted(got.values()) == sorted(wanted),
              sorted(set(got.values()) ^ set(wanted))[:5])
    empty = tally("topic", "create", topic + "-empty", "--bootstrap", bootstrap)
    assert empty.returncode == 0, empty
    for name, why in ((topic + "-empty", "holds no record"),
                      ("no-such-topic", "UNKNOWN_TOPIC_OR_PARTITION")):
        done = tally("drill", "join", "--from-topic", f"{bootstrap}/{name}", "--", "true")
        check(f"{name}: status", done.returncode == 2, done)
        check(f"{name}: message", why in done.stderr, done.stderr)
    print(f"from-topic: {passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(consume() if sys.argv[1] == "consume" else main())
