"""Requests of every api and version with values that are legal, on edges, or wrong."""
import pathlib
import random
import struct
import sys
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test/interop/diff"))
import kafka_records  # noqa: E402
from kafka_wire import APIS, Encoder  # noqa: E402


def batch(records, **lies):
    """As new as now, or retention takes it away in the middle of the test."""
    return kafka_records.batch(records, **{"time": int(time.time() * 1000), **lies})


def string(text):
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw


def subscription(*topics):
    return struct.pack(">hi", 0, len(topics)) + b"".join(map(string, topics)) + struct.pack(">i", 0)


def assignment(topic, partitions):
    body = struct.pack(">hi", 0, 1) + string(topic) + struct.pack(">i", len(partitions))
    return body + b"".join(struct.pack(">i", p) for p in partitions) + struct.pack(">i", 0)


# ---- Random requests


EDGES = {"int8": [-1, 0, 1, 2, 3, 127, -128], "int16": [-1, 0, 1, 2, 32767, -32768],
         "uint16": [0, 65535], "uint32": [0, 1 << 31],
         "int32": [-2, -1, 0, 1, 2, 3, 100, 6000, 2147483647, -2147483648],
         "int64": [-3, -2, -1, 0, 1, 5, 100, 1 << 40, (1 << 63) - 1, -(1 << 63)],
         "float64": [0.0, 1e300]}
NAMES = ["", "t0", "t1", "t2", "t3", "g0", "g1", "g2", "range", "consumer", "1", "bad name!", ".",
         "..", "__consumer_offsets", "x" * 249, "x" * 250, "y" * 32767, "\u00e9\u20ac\U0001f600",
         "a\x00b", "retention.ms", "cleanup.policy", "compact", "delete", "100", "t_1", "t.1",
         "__tally_journal", "%s%n", "\x1b[31m"]


class Random:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.ids, self.members = [], []

    def scalar(self, field, kind):
        r = self.r
        name = field.name.lower()
        if kind == "bool":
            return r.random() < 0.5
        if kind == "int32" and name == "validateonly":
            return 0
        if kind in EDGES:
            if name.endswith("timeoutms") and r.random() < 0.7:
                return r.choice([6000, 10000, 0, 100])
            if name == "maxwaitms":
                return r.choice([-1, 0, 1, 50, 2147483647 if r.random() < 0.05 else 10])
            if kind == "int32" and "partition" in name and r.random() < 0.8:
                return r.randrange(4)
            if name in ("numpartitions", "count") and r.random() < 0.95:
                return r.randrange(-1, 5)
            if r.random() < 0.6:
                return r.choice(EDGES[kind][:5])
            return r.choice(EDGES[kind])
        if kind == "uuid":
            return r.choice(self.ids) if self.ids and r.random() < 0.7 else str(
                uuid.UUID(int=r.choice([0, 1, r.getrandbits(128)])))
        if kind == "string":
            if name in ("memberid",) and self.members and r.random() < 0.7:
                return r.choice(self.members)
            if name in ("groupid", "topic", "name", "group") and r.random() < 0.85:
                return r.choice(NAMES[1:8])
            if name == "protocoltype" and r.random() < 0.9:
                return "consumer"
            return r.choice(NAMES) if r.random() < 0.9 else "z%d" % r.randrange(30)
        if kind == "records":
            return self.records()
        if kind == "bytes":
            return r.choice([b"", b"\0", subscription("t0", "t1"), assignment("t0", [0, 1, 2]),
                             subscription("t0")[:-2], r.randbytes(r.randrange(60))])
        raise KeyError(kind)

    def records(self):
        r = self.r
        n = r.randrange(1, 5)
        pairs = [(r.choice([None, b"k"]), r.choice([None, b"", b"v" * r.randrange(200)]))
                 for _ in range(n)]
        lies = {}
        if r.random() < 0.4:
            lies = r.choice([{"base_offset": 7}, {"magic": 1}, {"attributes": r.randrange(128)},
                             {"time": -5}, {"producer": r.randrange(5), "epoch": 0, "sequence":
                                            r.randrange(3)},
                             {"count": 2147483647}, {"count": -1}, {"last_delta": 2147483647},
                             {"last_delta": -3}, {"crc": 1}, {"max_time": 1 << 62}])
        raw = batch(pairs, **lies)
        if r.random() < 0.1:
            raw = raw + batch(pairs)
        if r.random() < 0.1:
            raw = raw[:r.randrange(len(raw))]
        return r.choice([None, b""]) if r.random() < 0.05 else raw

    def value(self, message, field, version, depth):
        r = self.r
        if field.type.startswith("[]"):
            if version in field.nullable and r.random() < 0.2 or r.random() < 0.01:
                return None
            n = r.choice([0, 1, 1, 1, 2, 3]) if r.random() < 0.995 else 300
            if depth > 2:
                n = min(n, 3)
            return [self.item(message, field, field.type[2:], version, depth) for _ in range(n)]
        if version in field.nullable and r.random() < 0.3:
            return None
        if field.type in ("string", "bytes") and r.random() < 0.01:
            return None  # where it is not legal
        return self.item(message, field, field.type, version, depth)

    def item(self, message, field, kind, version, depth):
        children = field.children or message.structs.get(kind)
        if kind in EDGES or kind in ("bool", "uuid", "string", "records", "bytes"):
            return self.scalar(field, kind)
        return self.body(message, children, version, depth + 1)

    def body(self, message, fields, version, depth=0):
        return {f.name: self.value(message, f, version, depth) for f in fields
                if version in f.versions}

    def request(self, api, version):
        message = APIS[api]
        e = Encoder(message, version)
        e.struct(message.fields, self.body(message, message.fields, version))
        return bytes(e.out)

    def mutate(self, raw):
        r, out = self.r, bytearray(raw)
        for _ in range(r.randrange(1, 4)):
            what = r.randrange(5)
            at = r.randrange(len(out) + 1)
            if what == 0 and out:
                out[at % len(out)] ^= 1 << r.randrange(8)
            elif what == 1 and out:
                out[at % len(out)] = r.choice([0, 1, 127, 128, 255])
            elif what == 2:
                del out[at:at + r.randrange(1, 9)]
            elif what == 3:
                out[at:at] = r.randbytes(r.randrange(1, 9))
            else:
                out[at:at + 4] = r.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\0"])
        return bytes(out)
