#!/usr/bin/env python3
"""Each example consumer reads 1,000 records from a broker and stops at SIGTERM.
usage: examples.py BOOTSTRAP [--languages c,python,java,go,node]"""
import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test/interop/diff"))
from kafka_records import batch  # noqa: E402
from kafka_wire import Closed, Connection  # noqa: E402

BUILT = ROOT / "build/examples"
NAMES = ["auto_commit", "manual_commit", "manual_commit_no_revoke", "commit_first",
         "exactly_once"]
RECORDS, PARTITIONS = 1000, 2


def java(name):
    main = "example." + "".join(part.capitalize() for part in name.split("_"))
    return ["java", "-Xmx128M", "-cp", f"{BUILT}/java/classes:{BUILT}/java/jars/*", main]


COMMANDS = {
    "c": lambda name: [str(BUILT / "c" / name)],
    "python": lambda name: ["/usr/bin/python3", str(ROOT / f"examples/python/{name}.py")],
    "java": java,
    "go": lambda name: [str(BUILT / "go" / name)],
    "node": lambda name: ["node", str(BUILT / f"node/{name}.js")],
}


def make_topic(bootstrap, topic):
    with Connection(bootstrap) as c:
        answer = c.call("CreateTopics", 5, {"Topics": [
            {"Name": topic, "NumPartitions": PARTITIONS, "ReplicationFactor": 1}]})
        if answer["Topics"][0]["ErrorCode"]:
            raise SystemExit(f"create topic: {answer}")
        per_partition = RECORDS // PARTITIONS
        for partition in range(PARTITIONS):
            for first in range(0, per_partition, 50):
                records = [(f"k{partition}-{i}".encode(), b"value")
                           for i in range(first, first + 50)]
                produce(c, topic, partition, batch(records, time=int(time.time() * 1000)))


def produce(c, topic, partition, records):
    for _ in range(50):
        answer = c.call("Produce", 9, {"Acks": -1, "TimeoutMs": 10000, "TopicData": [
            {"Name": topic, "PartitionData": [{"Index": partition, "Records": records}]}]})
        error = answer["Responses"][0]["PartitionResponses"][0]["ErrorCode"]
        if error not in (3, 6):  # just made, or without a leader yet
            break
        time.sleep(0.1)
    if error:
        raise SystemExit(f"produce: {answer}")


def committed(bootstrap, group, topic):
    """Sum of the group's committed offsets."""
    with Connection(bootstrap) as c:
        answer = c.call("OffsetFetch", 7, {"GroupId": group, "Topics": [
            {"Name": topic, "PartitionIndexes": list(range(PARTITIONS))}]})
    return sum(max(p["CommittedOffset"], 0) for p in answer["Topics"][0]["Partitions"])


def try_one(bootstrap, topic, language, name):
    """None when all is well, or what is wrong."""
    group = f"{language}-{name}-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as directory:
        env = dict(os.environ, TALLY_BOOTSTRAP=bootstrap, TALLY_TOPIC=topic, TALLY_GROUP=group,
                   TALLY_INSTANCE="1", TALLY_ATTEMPT="1", TALLY_WORK_MS="0",
                   TALLY_DB=f"{directory}/results.db")
        child = subprocess.Popen(COMMANDS[language](name), env=env, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        lines, errors = [], []
        readers = [threading.Thread(target=lambda: lines.extend(child.stdout)),
                   threading.Thread(target=lambda: errors.extend(child.stderr))]
        for r in readers:
            r.start()
        deadline = time.monotonic() + 60
        while len(lines) < RECORDS and time.monotonic() < deadline and child.poll() is None:
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        try:
            status = child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            status = "none: it did not stop at SIGTERM within 20 s"
        for r in readers:
            r.join()
    return judge(lines, status, errors, None if name == "exactly_once"
                 else committed(bootstrap, group, topic), name)


def judge(lines, status, errors, committed_sum, name):
    records = {line.split()[0] for line in lines}
    said = "".join(errors)[-300:]
    if len(records) != RECORDS or len(lines) != RECORDS:
        return f"{len(lines)} lines, {len(records)} records; {said}"
    if status not in (0, 143):  # the Java runtime ends a stopped process with 128 + 15
        return f"exit status {status}; {said}"
    if name in ("manual_commit", "commit_first", "auto_commit") and committed_sum != RECORDS:
        return f"committed {committed_sum} of {RECORDS}; {said}"
    return None


def main():
    p = argparse.ArgumentParser()
    p.add_argument("bootstrap")
    p.add_argument("--languages", default="c,python,java,go,node")
    a = p.parse_args()
    topic = f"examples-{uuid.uuid4().hex[:8]}"
    try:
        make_topic(a.bootstrap, topic)
    except (OSError, Closed, ValueError) as e:
        raise SystemExit(f"{a.bootstrap}: cannot make the topic: {e!r}")
    passed = failed = 0
    for language in a.languages.split(","):
        for name in NAMES:
            started = time.monotonic()
            wrong = try_one(a.bootstrap, topic, language, name)
            print(f"{'FAIL' if wrong else 'ok  '} {language}/{name} "
                  f"({time.monotonic() - started:.1f} s){': ' + wrong if wrong else ''}",
                  flush=True)
            passed, failed = passed + (not wrong), failed + bool(wrong)
    print(f"examples: {passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
