"""Produce, Fetch and the offsets of logs."""
import gzip
import struct

from kafka_records import batch, crc32c, record
from recording import ZERO_UUID
from scripts_admin import create, topic

RECORDS = [(b"k1", b"v1"), (b"k2", b"v2")]


def topic_id(r, c, name):
    return r.quiet(c, "Metadata", 12, {"Topics": [{"Name": name}]})["Topics"][0]["TopicId"]


def produce_body(name, records, partition=0, acks=-1, by_id=ZERO_UUID, transactional=None):
    return {"TransactionalId": transactional, "Acks": acks, "TimeoutMs": 10000, "TopicData": [
        {"Name": name, "TopicId": by_id,
         "PartitionData": [{"Index": partition, "Records": records}]}]}


def with_crc(data):
    """A batch whose header was changed by hand, made right again."""
    return data[:17] + struct.pack(">I", crc32c(data[21:])) + data[21:]


def script_produce(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), 2))
    by_id = topic_id(r, c, name)
    for v in r.common("Produce"):
        if v < 3:
            continue
        def put(title, records, **more):
            r.call(title, c, "Produce", v,
                   produce_body(more.pop("name", name), records, by_id=more.pop("by_id", by_id),
                                **more))
        put("good", batch(RECORDS, time=r.now))
        put("one answer of two partitions", batch(RECORDS, time=r.now), partition=1)
        put("unknown partition", batch(RECORDS, time=r.now), partition=9)
        put("negative partition", batch(RECORDS, time=r.now), partition=-1)
        put("unknown topic", batch(RECORDS, time=r.now), name=r.name("no"),
            by_id="11111111-1111-4111-8111-111111111111")
        put("acks 2", batch(RECORDS, time=r.now), acks=2)
        put("acks 1", batch(RECORDS, time=r.now), acks=1)


def script_produce_bad_batches(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), 1))
    v = min(9, r.common("Produce")[-1])
    good = batch(RECORDS, time=r.now)
    cases = {
        "bad crc": batch(RECORDS, time=r.now, crc=12345),
        "magic 1": batch(RECORDS, time=r.now, magic=1),
        "magic 0": batch(RECORDS, time=r.now, magic=0),
        "magic 3": batch(RECORDS, time=r.now, magic=3),
        "count too high": batch(RECORDS, time=r.now, count=3),
        "count too low": batch(RECORDS, time=r.now, count=1),
        "count zero": batch(RECORDS, time=r.now, count=0),
        "negative count": batch(RECORDS, time=r.now, count=-1),
        "last delta too high": batch(RECORDS, time=r.now, last_delta=5),
        "last delta negative": batch(RECORDS, time=r.now, last_delta=-1),
        "no records in it": batch([], time=r.now),
        "base offset 5": batch(RECORDS, time=r.now, base_offset=5),
        "two batches": good + good,
        "empty": b"",
        "cut": good[:-1],
        "only a header": good[:61],
        "a few bytes": good[:20],
        "rubbish behind": good + b"xyz",
        "control": batch(RECORDS, time=r.now, attributes=0x20),
        "transactional without producer": batch(RECORDS, time=r.now, attributes=0x10),
        "unknown codec": batch(RECORDS, time=r.now, attributes=7),
        "too far in the future": batch(RECORDS, time=r.now + 7200_000),
        "old": batch(RECORDS, time=r.now - 1000_000),
        "log append time bit": batch(RECORDS, time=r.now, attributes=8),
        "negative time": batch(RECORDS, time=-1),
        "max time lies": batch(RECORDS, time=r.now, max_time=r.now + 5),
        "null key and value": batch([(None, None)], time=r.now),
        "length lies": good[:8] + struct.pack(">i", 10) + good[12:],
        "length far too long": good[:8] + struct.pack(">i", 1 << 30) + good[12:],
        "too large": batch([(b"k", b"x" * 1_100_000)], time=r.now),
        "as large as may be": batch([(b"k", b"x" * 1_040_000)], time=r.now),
        "producer without sequence": batch(RECORDS, time=r.now, producer=1, epoch=0),
    }
    for title, records in cases.items():
        r.call(title, c, "Produce", v, produce_body(name, records))
    inner = bytearray(good)
    inner[61] = 99  # the first record's length
    r.call("record length lies", c, "Produce", v, produce_body(name, with_crc(bytes(inner))))
    r.call("a null transaction", c, "Produce", v, produce_body(name, good, transactional="tx"))
    r.call("what stands", c, "ListOffsets", 5, {"ReplicaId": -1, "Topics": [
        {"Name": name, "Partitions": [{"PartitionIndex": 0, "Timestamp": -1}]}]})
    r.call("in the headers", c, "Fetch", 11, fetch_body(name, 0, ZERO_UUID))


def script_closed_batches(r):
    """Compressed ones: what is in them is looked at, too."""
    c = r.connect()
    v = min(9, r.common("Produce")[-1])
    inside = b"".join(record(i, k, x) for i, (k, x) in enumerate(RECORDS))
    squeezed = gzip.compress(inside)
    lies = bytearray(inside)
    lies[0] ^= 4
    late = record(0, b"k", b"v", 7200_000)
    cases = {
        "good": (2, squeezed, {}),
        "no gzip": (2, b"records", {}),
        "cut": (2, squeezed[:-9], {}),
        "empty": (2, b"", {}),
        "two members": (2, gzip.compress(inside[:5]) + gzip.compress(inside[5:]), {}),
        "one too many said": (3, squeezed, {}),
        "one too few said": (1, squeezed, {}),
        "none in it": (1, gzip.compress(b""), {}),
        "offsets from 1": (1, gzip.compress(record(1, b"k", b"v")), {}),
        "a key's length lies": (1, gzip.compress(b"\x10\0\0\0\x70kvvv\0"), {}),
        "too far in the future": (1, gzip.compress(late), {}),
        "no key": (1, gzip.compress(record(0, None, b"v")), {}),
        "max time lies": (2, squeezed, {"max_time": r.now + 5}),
        "max time far away": (2, squeezed, {"max_time": r.now + (1 << 41)}),
        "max time before": (2, squeezed, {"max_time": r.now - 5}),
        "log append time bit": (2, squeezed, {"attributes": 9}),
    }
    stored_by_kafka = {
        "rubbish behind the codec": (2, squeezed + b"xyz", {}),
        "a record's length lies": (2, gzip.compress(bytes(lies)), {}),
    }
    for policy in "delete", "compact":
        name = create(r, c, topic(r.name(policy), configs=[("cleanup.policy", policy)]))

        def put(title, n, body, more):
            r.call(f"{policy}: {title}", c, "Produce", v, produce_body(name, batch(
                n, body=body, **{"time": r.now, "attributes": 1, **more})))
        for title, case in cases.items():
            put(title, *case)
        r.call(f"{policy}: what stands", c, "Fetch", 11, fetch_body(name, 0, ZERO_UUID))
        for title, case in stored_by_kafka.items():
            put(title, *case)


def script_idempotence(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), 1))
    for v in r.common("InitProducerId"):
        def init(title, transactional, timeout=60000, **more):
            return r.call(title, c, "InitProducerId", v,
                          {"TransactionalId": transactional, "TransactionTimeoutMs": timeout,
                           **more})
        init("plain", None)
        init("empty transactional id", "")
        init("plain, absurd timeout", None, -1)
        if v >= 3:
            init("plain, with a producer id", None, ProducerId=5, ProducerEpoch=3)
    pid = r.quiet(c, "InitProducerId", 1, {"TransactionalId": None,
                                           "TransactionTimeoutMs": 60000})["ProducerId"]

    def put(title, sequence, epoch=0, producer=None, records=RECORDS):
        r.call(title, c, "Produce", 8, produce_body(name, batch(
            records, time=r.now, producer=pid if producer is None else producer, epoch=epoch,
            sequence=sequence)))
    put("first", 0)
    put("first again", 0)
    put("second", 2)
    put("third", 4)
    put("second again", 2)
    put("gap", 10)
    put("overlaps", 5)
    put("same start, other length", 4, records=RECORDS[:1])
    put("fourth", 6)
    put("fifth", 8)
    put("sixth", 10)
    put("seventh", 12)
    put("too old a duplicate", 0)
    put("new epoch, wrong start", 5, epoch=1)
    put("new epoch", 0, epoch=1)
    put("old epoch", 14, epoch=0)
    put("unknown producer, later sequence", 7, producer=pid + 500_000)
    put("negative sequence", -1)
    put("largest sequence", 2147483646, producer=pid + 500_001)
    put("around the end", 0, producer=pid + 500_001)


def fetch_body(name, offset, by_id, partition=0, maximum=1 << 20, **more):
    entry = {"Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": maximum,
             "LogStartOffset": -1, **more.pop("part", {})}
    return {"MaxWaitMs": 50, "MinBytes": 1, "MaxBytes": 1 << 24, "SessionEpoch": -1,
            "Topics": [{"Topic": name, "TopicId": by_id, "Partitions": [entry]}], **more}


def script_fetch(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), 2))
    by_id = topic_id(r, c, name)
    for i in range(3):
        r.quiet(c, "Produce", 7, produce_body(name, batch(RECORDS, time=r.now)))
    for v in r.common("Fetch"):
        def get(title, offset, **more):
            r.call(title, c, "Fetch", v, fetch_body(more.pop("name", name), offset,
                                                    more.pop("by_id", by_id), **more))
        get("from the start", 0)
        get("from the middle of a batch", 3)
        get("at the end", 6)
        get("past the end", 7)
        get("negative", -1)
        get("one byte", 0, maximum=1)
        get("one byte in all", 0, MaxBytes=1)
        get("no bytes", 0, maximum=0)
        get("empty partition", 0, partition=1)
        get("unknown partition", 0, partition=9)
        get("unknown topic", 0, name=r.name("no"), by_id="11111111-1111-4111-8111-111111111111")
        get("read committed", 0, IsolationLevel=1)
        get("unknown isolation", 0, IsolationLevel=7)
        if v >= 7:
            get("unknown session", 0, SessionId=12345, SessionEpoch=7)
        if v >= 9:
            get("current epoch", 0, part={"CurrentLeaderEpoch": 0})
            get("epoch of the future", 0, part={"CurrentLeaderEpoch": 5})
        if v >= 12:
            get("fetched epoch", 0, part={"LastFetchedEpoch": 0})
            get("fetched epoch of the future", 0, part={"LastFetchedEpoch": 5})
        get("as a follower", 0, ReplicaId=7, ReplicaState={"ReplicaId": 7, "ReplicaEpoch": 1})


def script_list_offsets(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), 2))
    for i in range(3):
        r.quiet(c, "Produce", 7, produce_body(name, batch(RECORDS, time=r.now - 1000 + i * 100)))
    for v in r.common("ListOffsets"):
        def ask(title, timestamp, partition=0, topic_name=name, epoch=-1, twice=False, **more):
            one = {"PartitionIndex": partition, "Timestamp": timestamp, "CurrentLeaderEpoch": epoch}
            answer = r.quiet(c, "ListOffsets", v, {"ReplicaId": -1, "TimeoutMs": 5000, "Topics": [
                {"Name": topic_name, "Partitions": [one, one] if twice else [one]}], **more})
            for t in answer["Topics"]:
                for p in t["Partitions"]:
                    if p["Timestamp"] > 0:
                        p["Timestamp"] -= r.now
            r.add(f"{title}: ListOffsets v{v}", r.clean(answer))
        for special in range(-8, 0):
            ask(f"timestamp {special}", special)
        ask("before all", 0)
        ask("the second batch", r.now - 950)
        ask("exactly the third", r.now - 800)
        ask("after all", r.now + 100)
        ask("empty", -1, 1)
        ask("empty by time", 5, 1)
        ask("unknown partition", -1, 9)
        ask("unknown topic", -1, 0, r.name("no"))
        ask("read committed", -1, IsolationLevel=1)
        ask("twice", -1, twice=True)
        if v >= 4:
            ask("epoch of the future", -1, epoch=9)


def script_leader_epochs(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), 1))
    r.quiet(c, "Produce", 7, produce_body(name, batch(RECORDS, time=r.now)))
    for v in r.common("OffsetForLeaderEpoch"):
        for title, epoch, current, partition in (
                ("now", 0, 0, 0), ("unknown now", 0, -1, 0), ("of the future", 5, 0, 0),
                ("negative", -1, 0, 0), ("fenced", 0, 9, 0), ("unknown partition", 0, 0, 9)):
            r.call(title, c, "OffsetForLeaderEpoch", v, {"ReplicaId": -1, "Topics": [
                {"Topic": name, "Partitions": [{"Partition": partition, "LeaderEpoch": epoch,
                                                "CurrentLeaderEpoch": current}]}]})
        r.call("unknown topic", c, "OffsetForLeaderEpoch", v, {"ReplicaId": -1, "Topics": [
            {"Topic": r.name("no"), "Partitions": [{"Partition": 0, "LeaderEpoch": 0,
                                                    "CurrentLeaderEpoch": -1}]}]})


def script_delete_records(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), 1))
    by_id = topic_id(r, c, name)
    for i in range(10):
        r.quiet(c, "Produce", 7, produce_body(name, batch(RECORDS, time=r.now)))
    offset = 0
    for v in r.common("DeleteRecords"):
        def cut(title, at, partition=0, topic_name=name):
            r.call(title, c, "DeleteRecords", v, {"TimeoutMs": 5000, "Topics": [
                {"Name": topic_name, "Partitions": [{"PartitionIndex": partition,
                                                     "Offset": at}]}]})
        offset += 3
        cut("in a batch", offset)
        cut("before the start", 1)
        cut("past the end", 99)
        cut("minus two", -2)
        cut("unknown partition", 0, 9)
        cut("unknown topic", 0, 0, r.name("no"))
    r.call("below the start", c, "Fetch", 11, fetch_body(name, 1, by_id))
    r.call("at the start", c, "Fetch", 11, fetch_body(name, offset, by_id))
    r.call("to the end", c, "DeleteRecords", 1, {"TimeoutMs": 5000, "Topics": [
        {"Name": name, "Partitions": [{"PartitionIndex": 0, "Offset": -1}]}]})
    r.call("then the earliest", c, "ListOffsets", 5, {"ReplicaId": -1, "Topics": [
        {"Name": name, "Partitions": [{"PartitionIndex": 0, "Timestamp": -2}]}]})
