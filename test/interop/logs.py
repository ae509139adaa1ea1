#!/usr/bin/env python3
"""The same records to a real Apache Kafka and to tally: the same segments must be on both disks,
when they end, when retention takes them, and what compaction leaves of them.
usage: logs.py [--only CASE], with KAFKA_BOOTSTRAP, KAFKA_DATA, TALLY_BOOTSTRAP and TALLY_DATA."""
import argparse
import os
import pathlib
import random
import struct
import sys
import time
import uuid
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).parent / "diff"))
from kafka_records import crc32c, varint  # noqa: E402
from kafka_wire import ERRORS, Connection  # noqa: E402

MB = 1 << 20
DEADLINE = 40  # seconds until a broker has done what it does in the background
NOW = int(time.time() * 1000)
PREFIX = uuid.uuid4().hex[:8]
CASES = {}


def case(f):
    CASES[f.__name__] = f
    return f


class Broker:
    def __init__(self, name, address, data):
        self.name, self.data = name, pathlib.Path(data)
        self.connection = Connection(address, timeout=20)

    def call(self, api, version, body):
        return self.connection.call(api, version, body)

    def create(self, topic, configs):
        answer = self.call("CreateTopics", 5, {"timeoutMs": 10000, "Topics": [
            {"Name": topic, "NumPartitions": 1, "ReplicationFactor": 1, "Assignments": [],
             "Configs": [{"Name": n, "Value": str(v)} for n, v in configs.items()]}]})
        code = answer["Topics"][0]["ErrorCode"]
        assert code == 0, f"{self.name}: {topic}: {ERRORS.get(code)}"
        until(lambda: self.offset(topic, -1) == 0)

    def alter(self, topic, configs):
        answer = self.call("IncrementalAlterConfigs", 1, {"ValidateOnly": False, "Resources": [
            {"ResourceType": 2, "ResourceName": topic,
             "Configs": [{"Name": n, "ConfigOperation": 0, "Value": str(v)}
                         for n, v in configs.items()]}]})
        assert answer["Responses"][0]["ErrorCode"] == 0, answer

    def list_offset(self, topic, timestamp):
        answer = self.call("ListOffsets", 7, {"ReplicaId": -1, "IsolationLevel": 0, "Topics": [
            {"Name": topic, "Partitions": [{"PartitionIndex": 0, "CurrentLeaderEpoch": -1,
                                            "Timestamp": timestamp}]}]})
        p = answer["Topics"][0]["Partitions"][0]
        return p["ErrorCode"], p["Offset"], p["Timestamp"]

    def offset(self, topic, timestamp):
        error, offset, _ = self.list_offset(topic, timestamp)
        return offset if error == 0 else -1

    def produce(self, topic, records):
        answer = self.call("Produce", 8, {
            "TransactionalId": None, "Acks": -1, "TimeoutMs": 20000, "TopicData": [
                {"Name": topic, "PartitionData": [{"Index": 0, "Records": records}]}]})
        p = answer["Responses"][0]["PartitionResponses"][0]
        return ERRORS.get(p["ErrorCode"], p["ErrorCode"])

    def files(self, topic, suffix):
        """Name -> content of the topic's files, without those that are on their way out."""
        found = {}
        for path in sorted((self.data / f"{topic}-0").iterdir()):
            if path.name.endswith(suffix):
                try:
                    found[path.name] = path.read_bytes()
                except FileNotFoundError:
                    pass  # it went meanwhile
        return found

    def cleaned(self, topic):
        """Up to which offset the log was compacted."""
        try:
            if self.name == "kafka":
                lines = (self.data / "cleaner-offset-checkpoint").read_text().splitlines()[2:]
                return max([int(x.split()[2]) for x in lines if x.split()[0] == topic], default=0)
            text = (self.data / f"{topic}-0" / "compaction").read_text()
            return int(text.split("cleaned ")[1].split()[0])
        except FileNotFoundError:
            return 0


def until(condition, what="it"):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {DEADLINE} s"
        time.sleep(0.05)


def record(index, key, value, time_delta, headers=()):
    body = b"\0" + varint(time_delta) + varint(index)
    for part in (key, value):
        body += varint(-1) if part is None else varint(len(part)) + part
    body += varint(len(headers))
    for name, content in headers:
        body += varint(len(name)) + name + varint(len(content)) + content
    return varint(len(body)) + body


def batch(records, times, gzip=False, producer=-1, epoch=-1, sequence=-1):
    """records: (key, value); times: one for each."""
    body = b"".join(record(i, k, v, t - times[0], [(b"h", b"%d" % i)] if i % 3 == 1 else [])
                    for i, ((k, v), t) in enumerate(zip(records, times)))
    if gzip:
        packer = zlib.compressobj(wbits=31)
        body = packer.compress(body) + packer.flush()
    tail = struct.pack(">hiqqqhii", int(gzip), len(records) - 1, times[0], max(times), producer,
                       epoch, sequence, len(records)) + body
    return struct.pack(">qiibI", 0, len(tail) + 9, -1, 2, crc32c(tail)) + tail


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def varint(self):
        shift = value = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value >> 1 ^ -(value & 1)

    def blob(self):
        n = self.varint()
        if n < 0:
            return None
        self.at += n
        return self.data[self.at - n:self.at]


def decode(data):
    """Batches of a segment as dictionaries that say the same on both sides: the time from which
    tombstones may go is each broker's own."""
    found, at = [], 0
    names = ("attributes", "last_delta", "time", "max_time", "producer", "epoch", "sequence",
             "count")
    while at < len(data):
        base, length, _epoch, magic, crc = struct.unpack_from(">qiibI", data, at)
        fields = dict(zip(names, struct.unpack_from(">hiqqqhii", data, at + 21)))
        end = at + 12 + length
        assert magic == 2 and crc == crc32c(data[at + 21:end]), f"damaged at {at}"
        body = data[at + 61:end]
        if fields["attributes"] & 7 == 1:
            body = zlib.decompress(body, wbits=31)
        r, records = Reader(body), []
        for _ in range(fields["count"]):
            r.varint()
            r.at += 1
            when = fields["time"] + r.varint()
            offset = base + r.varint()
            key, value = r.blob(), r.blob()
            headers = [(r.blob(), r.blob()) for _ in range(r.varint())]
            records.append((offset, when, key, value, headers))
        assert r.at == len(body)
        if fields["attributes"] & 0x40:
            fields["time"] = "<when tombstones may go>"
        found.append({"base": base, **fields, "records": records})
        at = end
    return found


def same(brokers, topic, what):
    """what(broker) must become equal on both sides."""
    seen = {}

    def equal():
        for b in brokers:
            seen[b.name] = what(b)
        return seen["kafka"] == seen["tally"]
    try:
        until(equal)
    except AssertionError:
        raise AssertionError(f"{topic}: {difference(seen['kafka'], seen['tally'])}") from None


def difference(a, b, path=""):
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(set(a) | set(b), key=str):
            if a.get(key) != b.get(key):
                return difference(a.get(key), b.get(key), f"{path}/{key}")
    if isinstance(a, list) and isinstance(b, list):
        for i, (x, y) in enumerate(zip(a, b)):
            if x != y:
                return difference(x, y, f"{path}/{i}")
        return f"{path}: kafka has {len(a)}, tally {len(b)}"
    return f"{path}: kafka {str(a)[:300]}, tally {str(b)[:300]}"


def same_segments(brokers, topic):
    same(brokers, topic, lambda b: b.files(topic, ".log"))
    active = max(brokers[0].files(topic, ".log"))[:20]
    for suffix in (".index", ".timeindex"):  # tally has that of the active segment in memory
        same(brokers, topic, lambda b, suffix=suffix: {
            name: data for name, data in b.files(topic, suffix).items() if name[:20] != active})


def same_offsets(brokers, topic, times):
    for t in times:
        same(brokers, f"{topic} at {t}", lambda b, t=t: b.list_offset(topic, t))


def right_offsets(brokers, topic, times):
    """Where a batch lost its newest record Apache Kafka can miss a record of a later segment, so
    both are held against what stands in the log."""
    records = [r for data in brokers[0].files(topic, ".log").values() for b in decode(data)
               for r in b["records"]]
    for t in times:
        want = next(((offset, when) for offset, when, *_ in records if when >= t), (-1, -1))
        answers = {b.name: b.list_offset(topic, t)[1:] for b in brokers}
        assert answers["tally"] == want, f"{topic} at {t}: {want} stands there, tally {answers}"
        assert answers["kafka"] in (want, (-1, -1)), f"{topic} at {t}: {want}, kafka {answers}"


def same_batches(brokers, topic):
    same(brokers, topic, lambda b: {name: decode(data)
                                    for name, data in b.files(topic, ".log").items()})


def setup(brokers, name, configs, batches):
    topic = f"{PREFIX}-{name.replace('_', '-')}"
    for b in brokers:
        b.create(topic, configs)
        for data in batches:
            error = b.produce(topic, data)
            assert error == "NONE", f"{b.name}: {topic}: {error}"
    return topic


def numbered(n, size, step_ms=1000, start=NOW - 3_000_000, gzip=lambda i: False):
    """Batches of one to three records, the times rising with some disorder."""
    dice = random.Random(n * 1000003 + size)
    for i in range(n):
        count = dice.randint(1, 3)
        times = [start + i * step_ms + dice.randint(-5, 5) * step_ms // 4 for _ in range(count)]
        yield batch([(b"k%d" % dice.randint(0, 40), b"%06d" % i * (size // count // 6))
                     for _ in range(count)], times, gzip(i))


@case
def segments_end_by_size(brokers):
    topic = setup(brokers, "size", {"segment.bytes": MB, "index.interval.bytes": 100_000},
                  list(numbered(70, 90_000)))
    same_segments(brokers, topic)
    same_offsets(brokers, topic, [-1, -2, -3, 0] +
                 [NOW - 3_000_000 + i * 1777 for i in range(40)])


@case
def segments_end_by_time(brokers):
    topic = setup(brokers, "time", {"segment.ms": 20_000, "index.interval.bytes": 0},
                  list(numbered(200, 100)))
    same_segments(brokers, topic)


@case
def segments_end_by_their_index(brokers):
    topic = setup(brokers, "index", {"segment.index.bytes": 100, "index.interval.bytes": 200},
                  list(numbered(120, 150)))
    same_segments(brokers, topic)


@case
def times_inside_of_compressed_batches(brokers):
    topic = setup(brokers, "gzip", {"segment.bytes": MB},
                  list(numbered(60, 3000, gzip=lambda i: i % 2)))
    same_segments(brokers, topic)
    same_offsets(brokers, topic, [-3] + [NOW - 3_000_000 + i * 350 for i in range(150)])


@case
def retention_by_time(brokers):
    start = NOW - 3_000_000
    topic = setup(brokers, "old", {"segment.bytes": MB, "retention.ms": -1},
                  list(numbered(70, 90_000, start=start)))
    same_segments(brokers, topic)
    for b in brokers:
        # In the middle of what there is, with a minute to spare until a segment more is due.
        b.alter(topic, {"retention.ms": int(time.time() * 1000) - start - 33_000})
    until(lambda: brokers[0].offset(topic, -2) > 0, "retention")
    same_segments(brokers, topic)
    same_offsets(brokers, topic, [-2, -3, 0])
    for b in brokers:
        b.alter(topic, {"retention.ms": 1000})
    until(lambda: brokers[0].offset(topic, -2) == brokers[0].offset(topic, -1), "retention")
    same_segments(brokers, topic)
    same_offsets(brokers, topic, [-1, -2, -3, 0])


@case
def retention_by_size(brokers):
    topic = setup(brokers, "large", {"segment.bytes": MB, "retention.ms": -1},
                  list(numbered(70, 90_000)))
    sizes = [len(d) for _, d in sorted(brokers[0].files(topic, ".log").items())]
    start = 0
    for i, keep in ((1, sum(sizes[1:])), (2, sum(sizes[2:]) - 1), (4, sum(sizes[4:]) - 1),
                    (len(sizes), 0)):
        for b in brokers:
            b.alter(topic, {"retention.bytes": keep})
        until(lambda: brokers[0].offset(topic, -2) > start, f"retention {i}")
        start = brokers[0].offset(topic, -2)
        same_segments(brokers, topic)
        same_offsets(brokers, topic, [-1, -2, -3])


def keyed(n, seed, size=9000, producers=True, start=NOW - 3_000_000, lasting=0):
    """lasting: each so manyth batch has a key of its own."""
    dice = random.Random(seed)
    sequences = {}
    for i in range(n):
        count = dice.randint(1, 6)
        records = [(b"k%d" % dice.randint(0, 80),
                    None if dice.random() < 0.1 else b"%06d" % i * (size // count // 6))
                   for _ in range(count)]
        if lasting and i % lasting == 0:
            records[0] = (b"batch%d" % i, b"stays")
        times = [start + i * 1000 + j for j in range(count)]
        producer = {}
        if producers and dice.random() < 0.3:
            pid = 700_000 + dice.randint(0, 3)
            producer = {"producer": pid, "epoch": 0, "sequence": sequences.get(pid, 0)}
            sequences[pid] = producer["sequence"] + count
        yield batch(records, times, gzip=dice.random() < 0.3, **producer)


def compacted(brokers, topic):
    """Every sealed segment was cleaned: the rounds of both are over."""
    def done():
        return all(b.cleaned(topic) == int(max(b.files(topic, ".log"))[:20]) for b in brokers)
    until(done, f"compaction of {topic}: {[b.cleaned(topic) for b in brokers]}")
    same_batches(brokers, topic)


COMPACT = {"cleanup.policy": "compact", "segment.bytes": MB, "min.cleanable.dirty.ratio": "0.01"}


@case
def the_last_record_of_a_key(brokers):
    batches = list(keyed(900, 1))
    topic = setup(brokers, "keys", {**COMPACT, "min.compaction.lag.ms": 10**12}, batches)
    same_segments(brokers, topic)
    for b in brokers:
        b.alter(topic, {"min.compaction.lag.ms": 0})
    compacted(brokers, topic)
    same_offsets(brokers, topic, [-1, -2, -3])
    right_offsets(brokers, topic, [NOW - 3_000_000 + i * 9000 for i in range(100)])
    # The second round meets what the first one left.
    for b in brokers:
        b.alter(topic, {"min.compaction.lag.ms": 10**12})
    for data in keyed(700, 2, producers=False, start=NOW - 2_000_000):
        assert [b.produce(topic, data) for b in brokers] == ["NONE", "NONE"]
    for b in brokers:
        b.alter(topic, {"min.compaction.lag.ms": 0})
    compacted(brokers, topic)


@case
def tombstones_have_their_day(brokers):
    topic = setup(brokers, "tombstones", {**COMPACT, "delete.retention.ms": 0},
                  list(keyed(500, 3)))
    compacted(brokers, topic)
    for data in keyed(400, 4, producers=False, start=NOW - 2_000_000):
        assert [b.produce(topic, data) for b in brokers] == ["NONE", "NONE"]
    compacted(brokers, topic)


@case
def no_older_than_the_lag(brokers):
    """The newest segments stay as they are."""
    topic = setup(brokers, "lag", {**COMPACT, "min.compaction.lag.ms": 3_000_000 - 300_000},
                  list(keyed(600, 5)))
    until(lambda: all(b.cleaned(topic) > 0 for b in brokers), "compaction")
    same(brokers, topic, lambda b: b.cleaned(topic))
    same_batches(brokers, topic)


@case
def compact_and_delete(brokers):
    topic = setup(brokers, "both", {**COMPACT, "cleanup.policy": "compact,delete",
                                    "retention.ms": -1, "min.compaction.lag.ms": 10**12},
                  list(keyed(600, 6, lasting=10)))
    for b in brokers: # the rounds of both begin with the same records
        b.alter(topic, {"min.compaction.lag.ms": 0})
    compacted(brokers, topic)
    first = decode(min(brokers[0].files(topic, ".log").items())[1])
    for b in brokers:
        b.alter(topic, {"retention.ms":
                        int(time.time() * 1000) - max(x["max_time"] for x in first) - 1})
    until(lambda: all(b.offset(topic, -2) > 0 for b in brokers), "retention")
    same_batches(brokers, topic)
    same_offsets(brokers, topic, [-1, -2, -3])


@case
def what_is_refused(brokers):
    topic = setup(brokers, "refused", COMPACT, [batch([(b"k", b"v")], [NOW])])
    for data in (batch([(None, b"v")], [NOW]), batch([(b"k", b"v"), (None, b"v")], [NOW] * 2),
                 batch([(b"k", b"v"), (None, b"v")], [NOW] * 2, gzip=True),
                 batch([(b"k", None)], [NOW]), batch([(b"", b"v")], [NOW])):
        same(brokers, topic, lambda b, data=data: b.produce(topic, data))
    same(brokers, topic, lambda b: b.call("DeleteRecords", 1, {"TimeoutMs": 5000, "Topics": [
        {"Name": topic, "Partitions": [{"PartitionIndex": 0, "Offset": 1}]}]})["Topics"])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--only", default="")
    only = p.parse_args().only
    brokers = [Broker("kafka", os.environ["KAFKA_BOOTSTRAP"], os.environ["KAFKA_DATA"]),
               Broker("tally", os.environ["TALLY_BOOTSTRAP"], os.environ["TALLY_DATA"])]
    passed = failed = 0
    for name, run in CASES.items():
        if only not in name:
            continue
        started = time.monotonic()
        try:
            run(brokers)
            passed += 1
            print(f"ok   {name}, {time.monotonic() - started:.1f} s", flush=True)
        except AssertionError as e:
            failed += 1
            print(f"FAIL {name}: {e}", flush=True)
    print(f"logs: {passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
