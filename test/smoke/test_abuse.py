#!/usr/bin/env python3
"""A live broker under abuse: random requests of every api and version, mutated frames, floods, slow
readers. Meanwhile a client that behaves produces, consumes and commits, and must notice nothing. At
the end the broker stops in order and starts again on the same directory with the same content.

usage: test_abuse.py [TALLY] [--seconds N] [--seed N] [--only NAME]
                     ends with "abuse: N passed, N failed"
SERVE_OPTIONS in the environment: given to each broker.
"""
import argparse
import gzip
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test/interop/diff"))
from kafka_records import varint  # noqa: E402
from kafka_wire import APIS, Closed, Connection, encode  # noqa: E402
from random_requests import Random, assignment, batch, subscription  # noqa: E402

PATIENCE_S = 120
# The broker's own bounds (input, waiting requests, unread answers, one request at work) are about
# 1.2 GB together; a build with ASan keeps what was freed for a while.
RSS_MAX_KB = 2 << 20


class Broker:
    def __init__(self, tally, data):
        self.tally, self.data = tally, data
        self.log = open(pathlib.Path(data).parent / "broker.log", "ab")
        self.child = subprocess.Popen(
            [tally, "serve", "--listen", "127.0.0.1:0", "--data", data,
             "--set", "group.initial.rebalance.delay.ms=0",
             *os.environ.get("SERVE_OPTIONS", "").split()],
            stdout=subprocess.PIPE, stderr=self.log)
        line = self.child.stdout.readline().decode()
        found = re.fullmatch(r"ready (127\.0\.0\.1:\d+)\n", line)
        if not found:
            raise AssertionError(f"no ready line but {line!r}: {self.tail()}")
        self.address = found.group(1)

    def tail(self):
        return (pathlib.Path(self.data).parent / "broker.log").read_bytes()[-3000:].decode(
            errors="replace")

    def check(self):
        status = self.child.poll()
        assert status is None, f"the broker is gone, status {status}:\n{self.tail()}"

    def rss_kb(self):
        """The most it ever was."""
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status).group(1))

    def lines(self):
        text = (pathlib.Path(self.data).parent / "broker.log").read_text(errors="replace")
        return text.splitlines()

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        status = self.child.wait(PATIENCE_S)
        assert status == 0, f"SIGTERM: status {status}:\n{self.tail()}"
        self.log.close()

    def kill(self):
        self.child.kill()
        self.child.wait()
        self.log.close()

    def open(self, client_id="abuse"):
        return Connection(self.address, client_id, timeout=PATIENCE_S)


# ---- A client that behaves


class Canary(threading.Thread):
    """Produces, reads back and commits as a member of a group, all the time."""

    def __init__(self, broker):
        super().__init__(daemon=True)
        self.broker, self.stopping, self.rounds = broker, threading.Event(), 0
        self.error, self.slowest_s = None, 0.0
        self.next = 0

    def run(self):
        try:
            with self.broker.open("canary") as c:
                self.become_member(c)
                while not self.stopping.is_set():
                    began = time.monotonic()
                    self.round(c)
                    self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                    self.rounds += 1
                    self.stopping.wait(0.02)
        except BaseException as e:  # whatever it is, the test shows it
            if not self.stopping.is_set():
                self.error = f"round {self.rounds}: {type(e).__name__} {e}"

    def become_member(self, c):
        c.call("CreateTopics", 2, {"Topics": [{"Name": "canary", "NumPartitions": 1,
                                               "ReplicationFactor": 1}], "timeoutMs": 9000})
        ask = {"GroupId": "canary", "SessionTimeoutMs": 300000, "RebalanceTimeoutMs": 300000,
               "MemberId": "", "ProtocolType": "consumer",
               "Protocols": [{"Name": "range", "Metadata": subscription("canary")}]}
        got = c.call("JoinGroup", 3, ask)
        assert got["ErrorCode"] == 0, got
        self.member, self.generation = got["MemberId"], got["GenerationId"]
        got = c.call("SyncGroup", 2, {"GroupId": "canary", "GenerationId": self.generation,
                                      "MemberId": self.member, "Assignments": [
                                          {"MemberId": self.member,
                                           "Assignment": assignment("canary", [0])}]})
        assert got["ErrorCode"] == 0, got

    def round(self, c):
        value = b"canary %d" % self.next
        got = c.call("Produce", 7, {"Acks": -1, "TimeoutMs": 60000, "TopicData": [
            {"Name": "canary", "PartitionData": [
                {"Index": 0, "Records": batch([(None, value)])}]}]})
        p = got["Responses"][0]["PartitionResponses"][0]
        assert p["ErrorCode"] == 0 and p["BaseOffset"] == self.next, p
        got = c.call("Fetch", 4, {"ReplicaId": -1, "MaxWaitMs": 5000, "MinBytes": 1,
                                  "MaxBytes": 1 << 20, "Topics": [
                                      {"Topic": "canary", "Partitions": [
                                          {"Partition": 0, "FetchOffset": self.next,
                                           "PartitionMaxBytes": 1 << 20}]}]})
        records = got["Responses"][0]["Partitions"][0]["Records"]
        assert value in (records or b""), got
        self.next += 1
        got = c.call("OffsetCommit", 2, {
            "GroupId": "canary", "GenerationIdOrMemberEpoch": self.generation,
            "MemberId": self.member, "Topics": [{"Name": "canary", "Partitions": [
                {"PartitionIndex": 0, "CommittedOffset": self.next, "CommittedMetadata": ""}]}]})
        assert got["Topics"][0]["Partitions"][0]["ErrorCode"] == 0, got
        got = c.call("Heartbeat", 0, {"GroupId": "canary", "GenerationId": self.generation,
                                      "MemberId": self.member})
        assert got["ErrorCode"] == 0, got

    def check(self):
        assert self.error is None, f"the client that behaves: {self.error}"


def served(broker):
    """api name -> versions, as ApiVersions lists them and as the facts know them."""
    by_key = {int(m.key): n for n, m in APIS.items()}
    with broker.open() as c:
        got = c.call("ApiVersions", 3, {"ClientSoftwareName": "abuse",
                                        "ClientSoftwareVersion": "1"})
    return {by_key[k["ApiKey"]]: [v for v in range(k["MinVersion"], k["MaxVersion"] + 1)
                                  if v in APIS[by_key[k["ApiKey"]]].valid]
            for k in got["ApiKeys"] if k["ApiKey"] in by_key}


def learn(rnd, name, version, answer):
    """Member and topic ids of answers make later requests reach deeper."""
    if name == "JoinGroup" and answer.get("MemberId"):
        rnd.members = (rnd.members + [answer["MemberId"]])[-20:]
    if name == "Metadata" and version >= 10:
        rnd.ids = [t["TopicId"] for t in answer.get("Topics") or []][-40:]


def random_requests(broker, rnd, seconds):
    """Every api and version with values that are legal, on edges, or wrong; some mutated."""
    apis = served(broker)
    pairs = [(n, v) for n, versions in apis.items() for v in versions]
    rnd.r.shuffle(pairs)
    until, done, connection = time.monotonic() + seconds, 0, None
    while time.monotonic() < until or done < len(pairs):
        name, version = pairs[done % len(pairs)] if rnd.r.random() < 0.7 else rnd.r.choice(pairs)
        done += 1
        if connection is None:
            connection = broker.open(rnd.r.choice(["abuse", "", "c" * 32767, "\u20ac" * 10900]))
            # Those who wait (Join, Sync, Fetch) are given up after a moment.
            connection.socket.settimeout(0.3)
        try:
            raw = rnd.request(name, version)
            if rnd.r.random() < 0.25:
                raw = rnd.mutate(raw)
            learn(rnd, name, version, connection.call(name, version, raw))
        except (Closed, OSError, struct.error):
            connection.close()
            connection = None
        except ValueError as e:
            if "correlation" not in str(e) and "acks" not in str(e):
                raise AssertionError(f"{name} v{version}: {e}") from None
            connection.close()
            connection = None
        if done % 200 == 0:
            broker.check()
    if connection:
        connection.close()
    return done


# ---- Scenarios


def frame(api, version, body, correlation=1, client=b"abuse"):
    message = APIS[api]
    head = struct.pack(">hhih", int(message.key), version, correlation, len(client)) + client
    head += b"\0" if version in message.flexible else b""
    return struct.pack(">i", len(head) + len(body)) + head + body


def raw_socket(broker):
    host, port = broker.address.split(":")
    return socket.create_connection((host, int(port)), PATIENCE_S)


def make_topics(broker, names, partitions=3):
    with broker.open() as c:
        for at in range(0, len(names), 100):
            c.call("CreateTopics", 2, {"timeoutMs": 1000, "Topics": [
                {"Name": n, "NumPartitions": partitions, "ReplicationFactor": 1}
                for n in names[at:at + 100]]})


def fill(broker, topic, n, size):
    with broker.open() as c:
        for _ in range(n):
            c.call("Produce", 7, {"Acks": 1, "TimeoutMs": 1000, "TopicData": [
                {"Name": topic, "PartitionData": [
                    {"Index": 0, "Records": batch([(None, b"r" * size)])}]}]})


def fetch_body(topic, copies=1, wait=0):
    return encode("FetchRequest", 4, {
        "ReplicaId": -1, "MaxWaitMs": wait, "MinBytes": 1, "MaxBytes": 50 << 20,
        "Topics": [{"Topic": topic, "Partitions": [
            {"Partition": 0, "FetchOffset": 0, "PartitionMaxBytes": 50 << 20}] * copies}]})


def reads_end(s):
    """True when the other side closed without a word."""
    s.settimeout(PATIENCE_S)
    try:
        return s.recv(100) == b""
    except ConnectionResetError:
        return True


def wrong_frames(broker, _rnd, _seconds):
    """Each ends its connection with one line that says why, and no other."""
    fetch = encode("FetchRequest", 4, {
        "ReplicaId": -1, "MaxWaitMs": 0, "MinBytes": 1, "MaxBytes": 1, "Topics": []})
    cases = [
        ("too large", struct.pack(">i", 104857601), "104857601 bytes is beyond"),
        ("negative", struct.pack(">i", -5), "-5 bytes is beyond"),
        ("a web browser", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "is beyond"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 60, "is beyond"),
        ("empty", struct.pack(">i", 0), "a frame of 0 bytes is no request"),
        ("half a header", struct.pack(">ihh", 4, 3, 1), "a frame of 4 bytes is no request"),
        ("unknown api", struct.pack(">ihhih", 10, 999, 0, 1, 0), "api 999 is not served"),
        ("an api of brokers", struct.pack(">ihhih", 10, 4, 0, 1, 0), "api 4 is not served"),
        ("negative version", struct.pack(">ihhih", 10, 1, -1, 1, 0), "version -1 is not served"),
        ("version of tomorrow", struct.pack(">ihhih", 10, 1, 99, 1, 0), "version 99"),
        ("truncated body", frame("Fetch", 4, fetch[:-3]), "Fetch v4: topics"),
        ("an array that lies", frame("Fetch", 4, fetch[:-4] + b"\x7f\xff\xff\xff"),
         "more elements"),
        ("null where none may be", frame("Heartbeat", 0, b"\xff\xff" + b"\0" * 6),
         "group_id: null where null is not legal"),
        ("a string that lies", frame("Heartbeat", 0, b"\x7f\xff" + b"\0" * 6),
         "group_id: longer than what is left"),
        ("acks=0 that fails", frame("Produce", 7, encode("ProduceRequest", 7, {
            "Acks": 0, "TimeoutMs": 1, "TopicData": [{"Name": "t0", "PartitionData": [
                {"Index": 99, "Records": batch([(None, b"x")])}]}]})), "acks=0 failed"),
    ]
    for name, raw, why in cases:
        s = raw_socket(broker)
        port = s.getsockname()[1]
        s.sendall(raw)
        assert reads_end(s), f"{name}: answered"
        s.close()
        said = [line for line in broker.lines() if f"127.0.0.1:{port} " in line]
        assert len(said) == 1 and why in said[0], f"{name}: {said}"


def wrong_requests(broker, _rnd, _seconds):
    """Well formed and senseless: each is answered with the error that Kafka gives."""
    make_topics(broker, ["t0"])
    one = {"Topics": [{"Name": "t0", "Partitions": [
        {"PartitionIndex": 0, "CommittedOffset": 5, "CommittedMetadata": ""}]}]}
    join = {"SessionTimeoutMs": 10000, "RebalanceTimeoutMs": 10000, "MemberId": "",
            "ProtocolType": "consumer", "Protocols": [{"Name": "range", "Metadata": b""}]}
    topic = {"NumPartitions": 1, "ReplicationFactor": 1}
    records = batch([(None, b"v")])

    def produce(data, name="t0"):
        got = c.call("Produce", 7, {"Acks": -1, "TimeoutMs": 9000, "TopicData": [
            {"Name": name, "PartitionData": [{"Index": 0, "Records": data}]}]})
        return got["Responses"][0]["PartitionResponses"][0]["ErrorCode"]

    def created(name):
        got = c.call("CreateTopics", 2, {"timeoutMs": 1000, "Topics": [{"Name": name, **topic}]})
        return got["Topics"][0]["ErrorCode"]

    def committed(group):
        got = c.call("OffsetCommit", 2, {"GroupId": group, "GenerationIdOrMemberEpoch": -1,
                                         "MemberId": "", **one})
        return got["Topics"][0]["Partitions"][0]["ErrorCode"]

    with broker.open() as c:
        cases = [
            ("wrong crc", produce(batch([(None, b"v")], crc=1)), 2),
            ("wrong count", produce(batch([(None, b"v")], count=7)), 87),
            ("magic 1", produce(batch([(None, b"v")], magic=1)), 87),
            # Kafka says UNKNOWN_SERVER_ERROR.
            ("an unknown codec", produce(batch([(None, b"v")], attributes=7)), 76),
            ("two batches", produce(records + records), 87),
            ("nothing", produce(b""), 87),
            ("cut in the middle", produce(records[:40]), 87),
            ("a topic that is not there", produce(records, "not there"), 3),
            ("a bad name", created("bad name!"), 17),
            ("a long name", created("x" * 250), 17),
            ("a dot", created("."), 17),
            ("no name", created(""), 17),
            ("what the broker makes itself", created("__consumer_offsets"), 36),
            ("commit of the group ''", committed(""), 0),
            ("commit of a group of 32 KB", committed("g" * 32767), 0),
            ("join of the group ''", c.call("JoinGroup", 3, {"GroupId": "", **join})["ErrorCode"],
             24),
            ("session of -1", c.call("JoinGroup", 3, {
                "GroupId": "g", **join, "SessionTimeoutMs": -1})["ErrorCode"], 26),
            ("session of 24 days", c.call("JoinGroup", 3, {
                "GroupId": "g", **join, "SessionTimeoutMs": 2147483647})["ErrorCode"], 26),
            ("no protocol", c.call("JoinGroup", 3, {
                "GroupId": "g", **join, "Protocols": []})["ErrorCode"], 23),
            ("acks of 5", c.call("Produce", 7, {"Acks": 5, "TimeoutMs": 1, "TopicData": [
                {"Name": "t0", "PartitionData": [{"Index": 0, "Records": records}]}]})
             ["Responses"][0]["PartitionResponses"][0]["ErrorCode"], 21),
        ]
    wrong = [(name, got, want) for name, got, want in cases if got != want]
    assert not wrong, f"(what, error, expected): {wrong}"


def slow_loris(broker, rnd, seconds):
    """Many that send a request byte by byte and never come to its end."""
    raw = frame("Metadata", 1, encode("MetadataRequest", 1, {"Topics": [{"Name": "t" * 200}]}))
    sockets = [raw_socket(broker) for _ in range(300)]
    until, at = time.monotonic() + min(seconds, 3), 0
    while time.monotonic() < until and at < len(raw) - 1:
        for s in sockets:
            s.sendall(raw[at:at + 1])
        at += 1
    broker.check()
    for s in sockets:
        s.close()


def slow_readers(broker, rnd, _seconds):
    """Ask for much and never read it; then go away."""
    make_topics(broker, ["big"], 1)
    fill(broker, "big", 12, 200000)
    sockets = []
    for _ in range(40):
        s = raw_socket(broker)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(frame("Fetch", 4, fetch_body("big")) * 20)
        sockets.append(s)
    time.sleep(0.5)
    broker.check()
    for s in sockets:
        s.close()


def unfinished_giants(broker, _rnd, _seconds):
    """Requests of 100 MB that never end: the largest go, and the one that behaves stays."""
    sockets, half = [], struct.pack(">i", 100 << 20) + b"x" * (60 << 20)
    for _ in range(12):
        s = raw_socket(broker)
        try:
            s.sendall(half)
        except OSError:
            pass
        sockets.append(s)
    closed = [line for line in broker.lines() if "requests that are not complete yet" in line]
    assert closed, "720 MB were taken"
    for s in sockets:
        s.close()


def make_fat_group(c):
    """Its description takes 2 MB. It is gone ten seconds later."""
    c.send("JoinGroup", 0, {
        "GroupId": "fat", "SessionTimeoutMs": 10000, "MemberId": "", "ProtocolType": "other",
        "Protocols": [{"Name": "p", "Metadata": b"m" * 1000000}]})
    got = c.receive("JoinGroup", 0, False)
    got = c.call("SyncGroup", 0, {"GroupId": "fat", "GenerationId": got["GenerationId"],
                                  "MemberId": got["MemberId"], "Assignments": [
                                      {"MemberId": got["MemberId"],
                                       "Assignment": b"a" * 1000000}]})
    assert got["ErrorCode"] == 0, got


def unread_giants(broker, _rnd, _seconds):
    """Answers of 14 MB that nobody reads, whether they wait for the disk or for the reader."""
    before = len(broker.lines())
    ask = frame("DescribeGroups", 0, encode("DescribeGroupsRequest", 0, {"Groups": ["fat"] * 7}))
    holder = broker.open("holder")
    make_fat_group(holder)
    sockets = []
    for _ in range(30):
        s = raw_socket(broker)
        s.sendall(ask)
        sockets.append(s)
    deadline = time.monotonic() + PATIENCE_S
    while not any("fill the memory set aside" in line for line in broker.lines()[before:]):
        assert time.monotonic() < deadline, "all of it was kept"
        time.sleep(0.05)
    for s in [holder, *sockets]:
        s.close()


def half_closed(broker, rnd, _seconds):
    """Send all, shut down the sending side, then read: what was asked is answered."""
    for _ in range(30):
        s = raw_socket(broker)
        n = rnd.r.randrange(1, 20)
        for i in range(n):
            s.sendall(frame("Metadata", 1, encode("MetadataRequest", 1, {"Topics": []}), i))
        s.shutdown(socket.SHUT_WR)
        data = bytearray()
        while piece := s.recv(65536):
            data += piece
        s.close()
        answers, at = 0, 0
        while at < len(data):
            at += 4 + struct.unpack_from(">i", data, at)[0]
            answers += 1
        assert answers == n, f"{n} requests, {answers} answers after a half-close"


def pipelined(broker, rnd, _seconds):
    """Many requests in one write are answered all, in their order."""
    s = raw_socket(broker)
    out, n = b"", 3000
    for i in range(n):
        out += frame("Metadata", 1, encode("MetadataRequest", 1, {"Topics": []}), i)
    feeder = threading.Thread(target=s.sendall, args=(out,), daemon=True)
    feeder.start()
    stream = s.makefile("rb")
    for i in range(n):
        size, correlation = struct.unpack(">ii", stream.read(8))
        assert correlation == i, f"answer {i} has the number {correlation}"
        stream.read(size - 4)
    feeder.join()
    s.close()


def connection_flood(broker, rnd, _seconds):
    """Open, half a frame, gone: a thousand times, some kept."""
    kept = []
    for i in range(1000):
        s = raw_socket(broker)
        s.sendall(struct.pack(">i", 1 << 20) + b"x" * rnd.r.randrange(100))
        if i % 5 == 0:
            kept.append(s)
        else:
            s.close()
    broker.check()
    for s in kept:
        s.close()


def lying_lengths(broker, rnd, _seconds):
    """Lengths beyond everything, arrays of millions that are not there."""
    for n in (-1, -(1 << 31), (1 << 31) - 1, 104857601, 0, 1, 7):
        s = raw_socket(broker)
        s.sendall(struct.pack(">i", n) + b"abcdefgh")
        s.settimeout(0.2)
        try:
            s.recv(10)
        except OSError:
            pass
        s.close()
    for name, versions in served(broker).items():
        for count in (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x08"):
            for version in versions[::3] + versions[-1:]:
                s = raw_socket(broker)
                s.sendall(frame(name, version, count * 6))
                s.settimeout(0.02)
                try:
                    s.recv(10)
                except OSError:
                    pass
                s.close()


def read_some(s, rnd):
    """A part of one answer, or all of it, or nothing because the connection is closed."""
    try:
        head = s.recv(4, socket.MSG_WAITALL)
        left = struct.unpack(">i", head)[0] if len(head) == 4 else 0
        while left > 0 and rnd.r.random() < 0.7:
            piece = s.recv(min(left, 1 << 20))
            left = left - len(piece) if piece else 0
    except OSError:
        pass


def answers_that_grow(broker, rnd, _seconds):
    """A small request, repeated in itself, whose answer would take gigabytes."""
    make_topics(broker, ["wide"], 200)
    with broker.open("holder") as holder:
        make_fat_group(holder)
        asks = [
            ("DescribeGroups", 0, {"Groups": ["fat"] * 200}),
            ("DescribeGroups", 5, {"Groups": ["fat"] * 200}),
            ("Metadata", 9, {"Topics": [{"Name": "wide"}] * 20000,
                             "AllowAutoTopicCreation": False}),
            ("DescribeConfigs", 4, {"Resources": [
                {"ResourceType": 2, "ResourceName": "wide", "ConfigurationKeys": None}] * 40000,
                "IncludeSynonyms": True, "IncludeDocumentation": True}),
            ("DescribeConfigs", 1, {"Resources": [
                {"ResourceType": 4, "ResourceName": "1", "ConfigurationKeys": None}] * 20000,
                "IncludeSynonyms": True}),
        ]
        for name, version, body in asks:
            c = broker.open()
            c.send(name, version, body)
            read_some(c.socket, rnd)
            c.close()
            broker.check()
            assert broker.rss_kb() < RSS_MAX_KB, f"{name}: {broker.rss_kb()} KB"


def decisions_too_large(broker, rnd, _seconds):
    """More than one batch of the journal takes: refused, and nothing stops."""
    policies = ",".join(["delete"] * 4600)
    many = [{"Name": "cleanup.policy", "Value": policies}] * 2500
    with broker.open() as c:
        try:
            c.call("CreateTopics", 4, {"timeoutMs": 1000, "Topics": [
                {"Name": "loaded", "NumPartitions": 1, "ReplicationFactor": 1, "Configs": many}]})
            raise AssertionError("a decision of 80 MB was taken")
        except (Closed, OSError):
            pass
    broker.check()
    assert "more than one decision may hold" in broker.lines()[-1], broker.lines()[-1]


def joins_and_disconnects(broker, rnd, _seconds):
    """Members come, wait, go away at any point, with metadata of nearly a megabyte."""
    make_topics(broker, ["t0", "t1"])
    held = []
    for i in range(250):
        s = raw_socket(broker)
        body = {"GroupId": f"churn{rnd.r.randrange(3)}", "SessionTimeoutMs": 6000,
                "MemberId": "", "ProtocolType": "consumer", "Protocols": [
                    {"Name": "range", "Metadata": subscription("t0", "t1") +
                     b"m" * rnd.r.choice([0, 10, 900000])}]}
        s.sendall(frame("JoinGroup", 0, encode("JoinGroupRequest", 0, body)))
        held.append(s)
        if rnd.r.random() < 0.6:
            held.pop(rnd.r.randrange(len(held))).close()
    broker.check()
    for s in held:
        s.close()


def many_groups(broker, rnd, _seconds):
    """Thousands of groups, some with names of 32 KB, that only commit."""
    make_topics(broker, ["t0"])
    with broker.open() as c:
        for i in range(600):
            name = f"many{i}" if i % 50 else f"many{i}" + "n" * 32000
            got = c.call("OffsetCommit", 2, {
                "GroupId": name, "GenerationIdOrMemberEpoch": -1, "MemberId": "", "Topics": [
                    {"Name": "t0", "Partitions": [{"PartitionIndex": i % 3, "CommittedOffset": i,
                                                   "CommittedMetadata": "m" * (i % 4096)}]}]})
            assert got["Topics"][0]["Partitions"][0]["ErrorCode"] == 0, got
        c.call("ListGroups", 4, {})


def parked_giants(broker, rnd, _seconds):
    """Requests that wait must not hold more memory than there is for them."""
    make_topics(broker, ["empty"], 1)
    held = []
    # As many partitions as a Fetch may name; and more, which is refused.
    bodies = [fetch_body("empty", copies=n, wait=60000) for n in (9000, 400000)]
    try:
        for i in range(160):
            body = bodies[i % 20 == 0]
            s = raw_socket(broker)
            s.sendall(frame("Fetch", 4, body))
            held.append(s)
    except OSError:
        pass
    with broker.open() as c:
        c.call("Metadata", 1, {"Topics": []})
    broker.check()
    assert broker.rss_kb() < RSS_MAX_KB, f"{broker.rss_kb()} KB"
    for s in held:
        s.close()


def squeezed(byte, n):
    """A gzip stream that says one byte n times."""
    packer = zlib.compressobj(wbits=31)
    piece = byte * (1 << 20)
    return b"".join([*(packer.compress(piece) for _ in range(n >> 20)), packer.flush()])


def bombs(broker, _rnd, _seconds):
    """One request may make the broker decompress 256 MB, however many batches say they are more."""
    make_topics(broker, ["bombs"], 12)
    large = 100 << 20
    head = b"\0\0\0" + varint(1) + b"k" + varint(large)
    record = varint(len(head) + large + 1) + head
    good = gzip.compress(record) + squeezed(b"x", large) + gzip.compress(b"\0")
    for body, first in ((good, 0), (squeezed(b"\0", large), 87)):
        data = batch(1, attributes=1, body=body)
        with broker.open() as c:
            got = c.call("Produce", 9, {"Acks": 1, "TimeoutMs": 9000, "TopicData": [
                {"Name": "bombs", "PartitionData": [{"Index": i, "Records": data}
                                                    for i in range(12)]}]})
        errors = [p["ErrorCode"] for p in got["Responses"][0]["PartitionResponses"]]
        assert errors == [first] * 2 + [10] * 10, errors


SCENARIOS = [wrong_frames, bombs, wrong_requests, slow_loris, lying_lengths, half_closed, pipelined,
             slow_readers, unfinished_giants, unread_giants, connection_flood,
             joins_and_disconnects, many_groups, parked_giants, decisions_too_large,
             answers_that_grow]


# ---- The end


def content(broker):
    """What a restart must not change."""
    shown = {}
    with broker.open("content") as c:
        got = c.call("Metadata", 9, {"Topics": None})
        for t in got["Topics"]:
            shown["topic " + t["Name"]] = len(t["Partitions"])
            parts = [p["PartitionIndex"] for p in t["Partitions"]]
            for when in (-1, -2):
                answer = c.call("ListOffsets", 1, {"ReplicaId": -1, "Topics": [
                    {"Name": t["Name"], "Partitions": [
                        {"PartitionIndex": p, "Timestamp": when} for p in parts]}]})
                if t["Name"] != "__consumer_offsets":
                    shown[f"{t['Name']} {when}"] = sorted(
                        (p["PartitionIndex"], p["Offset"])
                        for p in answer["Topics"][0]["Partitions"])
        for g in c.call("ListGroups", 3, {})["Groups"]:
            answer = c.call("OffsetFetch", 7, {"GroupId": g["GroupId"], "Topics": None})
            shown["group " + g["GroupId"]] = sorted(
                (t["Name"], p["PartitionIndex"], p["CommittedOffset"], p["Metadata"])
                for t in answer["Topics"] for p in t["Partitions"])
    return shown


def report(broker):
    done = subprocess.run([broker.tally, "report", "--bootstrap", broker.address, "--json",
                           "--verify"], capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == 0, f"report --verify: {done.returncode} {done.stderr[-500:]}"
    return done.stdout


def run(args, data):
    failed, passed = [], 0
    broker = Broker(args.tally, data)
    canary = Canary(broker)
    canary.start()
    rnd = Random(args.seed)
    make_topics(broker, ["t0", "t1", "t2", "t3"])
    chosen = [f for f in SCENARIOS + [random_requests] if args.only in (None, f.__name__)]
    for f in chosen:
        began = time.monotonic()
        try:
            f(broker, rnd, args.seconds)
            broker.check()
            canary.check()
            assert broker.rss_kb() < RSS_MAX_KB, f"{broker.rss_kb()} KB of memory"
            passed += 1
        except Exception as e:  # one failed scenario does not hide the next
            failed.append(f.__name__)
            if args.verbose:
                traceback.print_exc()
            print(f"FAILED {f.__name__}: {type(e).__name__} {e}", flush=True)
            if broker.child.poll() is not None:
                break
        if args.verbose:
            print(f"{f.__name__}: {time.monotonic() - began:.1f} s, {broker.rss_kb() >> 10} MB",
                  flush=True)
    try:
        canary.stopping.set()
        canary.join()
        canary.check()
        report(broker)
        before = content(broker)
        broker.stop()
        broker = Broker(args.tally, data)
        after = content(broker)
        changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k)
                         # members that left unseen end their sessions in between
                         )
        assert not changed, "\n".join(f"{k[:80]}: {str(before.get(k))[:200]} -> "
                                      f"{str(after.get(k))[:200]}" for k in changed[:10])
        report(broker)
        broker.stop()
        passed += 1
    except Exception as e:
        failed.append("stop and restart")
        print(f"FAILED stop and restart: {type(e).__name__} {e}", flush=True)
    finally:
        if broker.child.poll() is None:
            broker.kill()
    print(f"canary: {canary.rounds} rounds, slowest {canary.slowest_s:.2f} s")
    print(f"abuse: {passed} passed, {len(failed)} failed")
    return 1 if failed else 0


def main():
    p = argparse.ArgumentParser()
    p.add_argument("tally", nargs="?", default=str(ROOT / "build/tally"))
    p.add_argument("--seconds", type=float, default=8)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--only")
    p.add_argument("--verbose", action="store_true")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as top:
        return run(args, os.path.join(top, "data"))


if __name__ == "__main__":
    sys.exit(main())
