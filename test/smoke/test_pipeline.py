#!/usr/bin/env python3
"""Many requests of one connection at once: whatever is handled together, the answers are those of
one request after the other, in their order.

usage: test_pipeline.py [TALLY] [--seed N]     ends with "N passed, N failed"
"""
import random
import socket
import struct
import sys
import threading
import zlib

import test_serve
from random_requests import batch
from test_serve import PATIENCE_S, ROOT, Server, run_all

sys.path.insert(0, str(ROOT / "test/interop/diff"))
from kafka_wire import Closed, Connection, decode, encode  # noqa: E402

SEED = int(sys.argv[sys.argv.index("--seed") + 1]) if "--seed" in sys.argv else 1
PARTITIONS = 3
VERSIONS = {"Produce": 9, "Metadata": 9, "ListOffsets": 6, "Fetch": 11}
OUT_OF_ORDER, CORRUPT, UNKNOWN = 45, 2, 3


def produce(records, partition=0, acks=-1, topic="t"):
    return {"Acks": acks, "TimeoutMs": 30000, "TopicData": [
        {"Name": topic, "PartitionData": [{"Index": partition, "Records": records}]}]}


def list_end(partition=0):
    return {"ReplicaId": -1, "Topics": [{"Name": "t", "Partitions": [
        {"PartitionIndex": partition, "Timestamp": -1}]}]}


def fetch(partition, offset, wait_ms=0, min_bytes=0):
    return {"ReplicaId": -1, "MaxWaitMs": wait_ms, "MinBytes": min_bytes, "MaxBytes": 1 << 20,
            "Topics": [{"Topic": "t", "Partitions": [
                {"Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": 1 << 20}]}]}


class Pipe:
    """Collects requests, sends them in one piece, reads the answers in order."""

    def __init__(self, server):
        self.conn = Connection(f"127.0.0.1:{server.port}", "pipe", PATIENCE_S)
        self.sent, self.out, self.correlation = [], bytearray(), 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.conn.close()

    def raw(self, payload):
        self.out += struct.pack(">i", len(payload)) + payload

    def add(self, api, body, check=None):
        """check(response) is called with the answer; None: there will be none."""
        self.correlation += 1
        version = VERSIONS[api]
        raw = encode(api + "Request", version, body)
        key = {"Produce": 0, "Fetch": 1, "ListOffsets": 2, "Metadata": 3}[api]
        tags = b"" if api == "Fetch" else b"\0"
        self.raw(struct.pack(">hhih", key, version, self.correlation, 4) + b"pipe" + tags + raw)
        if check:
            self.sent.append((self.correlation, api, check))

    def send(self):
        out, self.out = bytes(self.out), bytearray()
        sender = threading.Thread(target=self.send_all, args=(out,))
        sender.start()
        return sender

    def send_all(self, out):
        try:
            self.conn.socket.sendall(out)
        except ConnectionError:
            pass  # closed by the broker, as some tests want it

    def one(self):
        correlation, api, check = self.sent.pop(0)
        frame = self.conn.read(struct.unpack(">i", self.conn.read(4))[0])
        assert struct.unpack(">i", frame[:4])[0] == correlation, f"not the answer to {api}"
        body = frame[4:] if api == "Fetch" else frame[5:]
        check(decode(api + "Response", VERSIONS[api], body))

    def run(self):
        sender = self.send()
        while self.sent:
            self.one()
        sender.join()

    def ends(self):
        try:
            self.conn.read(1)
        except Closed:
            return True
        return False


def outcome(response):
    part = response["Responses"][0]["PartitionResponses"][0]
    return part["ErrorCode"], part["BaseOffset"]


def expects(error, base=-1):
    def check(response):
        got = outcome(response)
        assert got == (error, base if error == 0 else -1), f"{got} instead of {(error, base)}"
    return check


def nothing(_response):
    pass


def server_with_topic():
    server = Server()
    with Connection(f"127.0.0.1:{server.port}", timeout=PATIENCE_S) as c:
        made = c.call("CreateTopics", 5, {"timeoutMs": PATIENCE_S * 1000, "Topics": [
            {"Name": "t", "NumPartitions": PARTITIONS, "ReplicationFactor": 1}]})
        assert made["Topics"][0]["ErrorCode"] == 0, made
    return server


class Model:
    """What one request after the other would come to."""

    def __init__(self, rnd):
        self.rnd = rnd
        self.end = [0] * PARTITIONS
        self.durable = [0] * PARTITIONS  # of the last acks=all batch
        self.next_seq = {}
        self.last = {}  # (producer, partition): (sequence, count, base)

    def add_produce(self, pipe):
        rnd, p = self.rnd, self.rnd.randrange(PARTITIONS)
        n = rnd.choice([1, 1, 3, 20])
        acks = rnd.choice([-1, -1, 1, 0])
        pairs = [(None, b"v" * rnd.choice([1, 100, 900]))] * n
        kind = rnd.random()
        if kind < 0.05 and acks:
            pipe.add("Produce", produce(batch(pairs, crc=1), p, acks), expects(CORRUPT))
        elif kind < 0.1 and acks:
            pipe.add("Produce", produce(batch(pairs), 77, acks), expects(UNKNOWN))
        elif kind < 0.5:
            self.add_idempotent(pipe, p, pairs)
        else:
            check = expects(0, self.end[p]) if acks else None
            pipe.add("Produce", produce(batch(pairs), p, acks), check)
            self.written(p, n, acks)

    def add_idempotent(self, pipe, p, pairs):
        key = self.rnd.randrange(3), p
        producer, n, what = key[0] + 1000, len(pairs), self.rnd.random()
        sequence = self.next_seq.get(key, 0)
        base = self.end[p]
        error = 0
        if what < 0.15 and key in self.last:  # a retry
            sequence, n, base = self.last[key]
            pairs = [(None, b"again")] * n
        elif what < 0.25 and key in self.last:  # a gap
            sequence, error = sequence + 5, OUT_OF_ORDER
        else:
            self.next_seq[key] = sequence + n
            self.last[key] = sequence, n, base
            self.written(p, n, -1)
        raw = batch(pairs, producer=producer, epoch=0, sequence=sequence)
        pipe.add("Produce", produce(raw, p, -1), expects(error, base))

    def written(self, p, n, acks):
        self.end[p] += n
        if acks == -1:
            self.durable[p] = self.end[p]

    def add_other(self, pipe):
        p, api = self.rnd.randrange(PARTITIONS), self.rnd.choice(["Metadata", "ListOffsets",
                                                                  "Fetch"])
        low, high = self.durable[p], self.end[p]

        def check_end(r):
            offset = r["Topics"][0]["Partitions"][0]["Offset"]
            assert low <= offset <= high, f"{p} ends at {offset}, not {low} to {high}"

        def check_fetch(r):
            part = r["Responses"][0]["Partitions"][0]
            assert part["ErrorCode"] == 0 and low <= part["HighWatermark"] <= high, part
            assert (len(part["Records"]) > 0) == (low > 0) or low < high, part

        if api == "Metadata":
            pipe.add(api, {"Topics": [{"Name": "t"}]}, nothing)
        elif api == "ListOffsets":
            pipe.add(api, list_end(p), check_end)
        else:
            pipe.add(api, fetch(p, 0), check_fetch)


def test_any_mix_is_answered_as_one_after_the_other():
    with server_with_topic() as server, Pipe(server) as pipe:
        model = Model(random.Random(SEED))
        for _ in range(60):
            for _ in range(model.rnd.choice([1, 5, 30, 200])):
                if model.rnd.random() < 0.9:
                    model.add_produce(pipe)
                else:
                    model.add_other(pipe)
            pipe.run()
        for p in range(PARTITIONS):
            pipe.add("Produce", produce(batch([(None, b"last")]), p), expects(0, model.end[p]))
        pipe.run()


def test_a_fetch_that_waits_holds_up_what_stands_behind_it_and_nobody_else():
    with server_with_topic() as server, Pipe(server) as pipe, Pipe(server) as other:
        seen = []
        one = batch([(None, b"v")])
        pipe.add("Produce", produce(one), expects(0, 0))
        pipe.add("Fetch", fetch(0, 1, PATIENCE_S * 1000, 1), seen.append)
        pipe.add("Produce", produce(one), expects(0, 2))
        pipe.send().join()
        pipe.one()
        other.add("Produce", produce(one), expects(0, 1))
        other.run()
        pipe.one()
        assert seen[0]["Responses"][0]["Partitions"][0]["HighWatermark"] == 2, seen
        pipe.one()


def ends_after_good_ones(payload):
    with server_with_topic() as server, Pipe(server) as pipe:
        for i in range(3):
            pipe.add("Produce", produce(batch([(None, b"v")])), expects(0, i))
        pipe.raw(payload)
        pipe.add("Produce", produce(batch([(None, b"v")])), nothing)
        pipe.send().join()
        for _ in range(3):
            pipe.one()
        assert pipe.ends()
        with Pipe(server) as later:
            later.add("Produce", produce(batch([(None, b"v")])), expects(0, 3))
            later.run()


def test_a_request_that_cannot_be_read_ends_the_connection_after_the_answers_before_it():
    header = struct.pack(">hhih", 0, 9, 99, 4) + b"pipe" + b"\0"
    ends_after_good_ones(header + b"\xff" * 20)


def test_an_unknown_api_ends_the_connection_after_the_answers_before_it():
    ends_after_good_ones(struct.pack(">hhih", 999, 0, 99, 4) + b"pipe")


def test_a_cut_header_ends_the_connection_after_the_answers_before_it():
    ends_after_good_ones(b"\0\0")


def test_acks_0_that_fails_ends_the_connection_after_the_answers_before_it():
    body = encode("ProduceRequest", 9, produce(batch([(None, b"v")]), 77, 0))
    ends_after_good_ones(struct.pack(">hhih", 0, 9, 99, 4) + b"pipe" + b"\0" + body)


def test_the_end_of_the_client_loses_nothing_that_came_before():
    with server_with_topic() as server:
        with Pipe(server) as pipe:
            for i in range(50):
                pipe.add("Produce", produce(batch([(None, b"v")]), 0, -1 if i % 3 else 1),
                         expects(0, i))
            pipe.send().join()
            pipe.conn.socket.shutdown(socket.SHUT_WR)
            while pipe.sent:
                pipe.one()
            assert pipe.ends()


def test_who_sends_without_end_and_reads_nothing_fills_no_memory():
    with server_with_topic() as server, Pipe(server) as flood, Pipe(server) as other:
        record = batch([(None, b"v")])
        for _ in range(2000):
            flood.add("Produce", produce(record, 1), nothing)
        out = bytes(flood.out)
        flood.conn.socket.settimeout(1)
        before = server.rss_kb()
        try:
            while True:
                flood.conn.socket.sendall(out)
        except TimeoutError:
            pass  # the broker takes no more
        for i in range(20):
            other.add("Produce", produce(record, 2), expects(0, i))
            other.run()
        grown = server.rss_kb() - before
        assert grown < 16384, f"{grown} KB more"


def test_the_same_bytes_come_out():
    with server_with_topic() as server, Pipe(server) as pipe:
        rnd, sums, got = random.Random(SEED), [], []
        for i in range(300):
            value = rnd.randbytes(rnd.choice([1, 1000, 30000]))
            sums.append(zlib.crc32(value))
            pipe.add("Produce", produce(batch([(None, value)]), 0, rnd.choice([-1, 1])),
                     expects(0, i))
        pipe.run()

        def take(r):
            raw = r["Responses"][0]["Partitions"][0]["Records"]
            while len(raw) >= 61:
                size = 12 + struct.unpack(">i", raw[8:12])[0]
                if size > len(raw):
                    break
                # One record of no key: the value lies between its length and the headers' count.
                at = 61
                for _ in range(5):  # length, attributes, time, offset, key
                    while raw[at] & 128:
                        at += 1
                    at += 1
                while raw[at] & 128:
                    at += 1
                got.append(zlib.crc32(raw[at + 1:size - 1]))
                raw = raw[size:]

        while len(got) < len(sums):
            had = len(got)
            pipe.add("Fetch", fetch(0, had), take)
            pipe.run()
            assert len(got) > had
        assert got == sums


if __name__ == "__main__":
    given = len(sys.argv) > 1 and not sys.argv[1].startswith("--")
    test_serve.TALLY = sys.argv[1] if given else str(ROOT / "build/tally")
    run_all(globals())
