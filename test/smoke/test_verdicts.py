#!/usr/bin/python3
"""What real consumers (librdkafka) do that looks like something else, and what the ledger has to
say of it. Each test knows which records its application was handed.

usage: test_verdicts.py [TALLY]       ends with "N passed, N failed"
"""
import json
import socket
import struct
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from test_kcat import PATIENCE_S, Server
from test_report import fine, on
from test_serve import receive, run_all


def at(offset):
    return TopicPartition("t", 0, offset)


class World(Server):
    """A broker with one topic of one partition."""

    def __init__(self):
        super().__init__("--set", "group.min.session.timeout.ms=500")
        self.members = []

    def __exit__(self, *details):
        for m in self.members:
            m.close()
        super().__exit__(*details)

    def make(self, records):
        fine(on(self, "topic", "create", "t"))
        self.produce(records)
        return self

    def produce(self, records):
        p = Producer({"bootstrap.servers": f"127.0.0.1:{self.port}", "linger.ms": 1,
                      "batch.num.messages": 20, "log_level": 0})
        for i in range(records):
            p.produce("t", b"%d" % i, partition=0)
        assert p.flush(PATIENCE_S) == 0

    def join(self, name, on_assign=None):
        m = Consumer({"bootstrap.servers": f"127.0.0.1:{self.port}", "group.id": "g",
                      "client.id": name, "enable.auto.commit": False,
                      "auto.offset.reset": "earliest", "heartbeat.interval.ms": 100,
                      "session.timeout.ms": 6000, "fetch.wait.max.ms": 20, "log_level": 0})
        m.subscribe(["t"], **({"on_assign": on_assign} if on_assign else {}))
        self.members.append(m)
        return m

    def leave(self, m):
        self.members.remove(m)
        m.close()

    def delete_records(self, before):
        """confluent-kafka has no call for it before 2.0."""
        body = struct.pack(">hhihih1siiqi", 21, 1, 1, -1, 1, 1, b"t", 1, 0, before, 30000)
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as s:
            s.sendall(struct.pack(">i", len(body)) + body)
            assert struct.unpack(">qh", receive(s)[-10:]) == (before, 0)

    def group(self):
        said = fine(on(self, "report", "g", "--all", "--verify", "--json"))
        return json.loads(said)["groups"][0]

    def partition(self):
        return next(q for q in self.group()["partitions"] if q["end"] > 0)

    def loud(self):
        """What is said and stands: [(class, cause, first, last)]."""
        return [(i["class"], i["cause"], i["first"], i["last"])
                for i in self.group()["incidents"] if not i["quiet"] and not i["resolved"]]


def wait(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came"


def take(m, count):
    """The offsets that its application is handed."""
    handed = []

    def took():
        r = m.poll(0.1)
        if r is not None and not r.error():
            handed.append(r.offset())
        return len(handed) == count

    wait(took)
    return handed


def commit(m, offset):
    m.commit(offsets=[at(offset)], asynchronous=False)


# ---- what is tested


def test_what_a_paused_consumer_threw_away_and_can_not_get_again_is_at_risk():
    with World().make(3000) as b:
        a = b.join("a")
        assert take(a, 100)[-1] == 99
        commit(a, 100)
        a.pause(a.assignment())
        wait(lambda: b.partition()["in_flight"] == 2900)
        b.delete_records(2000)
        a.resume(a.assignment())
        assert take(a, 1000) == list(range(2000, 3000))
        commit(a, 3000)
        assert b.loud() == [("risk", "reset_out_of_range", 100, 1999)]
        assert b.partition()["abandoned"] == 1900


def test_what_follows_a_seek_back_is_the_seek_s_doing():
    with World().make(2000) as b:
        a = b.join("a")
        take(a, 1000)
        commit(a, 1000)
        a.seek(at(500))
        assert take(a, 10) == list(range(500, 510))
        commit(a, 510)
        assert b.loud() == [("note", "position_moved", 500, 999)]
        b.leave(a)
        assert take(b.join("b"), 1490)[0] == 510
        assert ("resent", "position_moved", 510, 999) in b.loud()
        assert "dup_commit_regressed" not in [i[1] for i in b.loud()]


def test_a_replay_on_assignment_was_not_reset():
    def replay(m, partitions):
        m.assign([TopicPartition(p.topic, p.partition, OFFSET_BEGINNING) for p in partitions])

    with World().make(1000) as b:
        a = b.join("a")
        take(a, 1000)
        commit(a, 1000)
        b.leave(a)
        c = b.join("c", replay)
        for done in range(100, 1001, 100):
            take(c, 100)
            commit(c, done)
        assert b.loud() == [("resent", "position_moved", 0, 999)]


def test_an_offset_moved_by_hand_and_put_back_is_no_loss():
    with World().make(2000) as b:
        a = b.join("a")
        take(a, 1000)
        commit(a, 1000)
        b.leave(a)
        for where in ("300", "1000"):
            fine(on(b, "group", "reset", "g", "--topic", "t", "--to", where, "--execute"))
        assert b.loud() == []
        assert b.partition()["abandoned"] == 0


def test_a_commit_beyond_the_end_skips_what_comes_there():
    with World().make(1000) as b:
        a = b.join("a")
        take(a, 1000)
        commit(a, 1500)
        b.leave(a)
        b.produce(1000)
        c = b.join("c")
        assert take(c, 500)[0] == 1500
        commit(c, 2000)
        assert ("missed", "skip_commit_ahead", 1000, 1499) in b.loud()


def test_a_topic_made_again_under_a_member():
    with World().make(1000) as b:
        a = b.join("a")
        take(a, 1000)
        commit(a, 1000)
        a.pause(a.assignment())
        fine(on(b, "topic", "delete", "t"))
        b.make(2000)
        a.resume(a.assignment())
        assert take(a, 1000) == list(range(1000, 2000))
        commit(a, 2000)
        assert b.loud() == [("missed", "reset_out_of_range", 0, 999)]
        assert b.partition()["skipped"] == 1000


def test_members_that_join_one_after_the_other_are_no_retry_loop():
    with World().make(100) as b:
        take(b.join("m0"), 1)
        for i in range(1, 6):
            joined = []
            b.join(f"m{i}", lambda m, p, joined=joined: joined.append(m))

            def all_poll(joined=joined):
                for m in b.members:
                    m.poll(0.01)
                return joined

            wait(all_poll)
            wait(lambda: all_poll() and b.partition()["in_flight"] == 100)
        assert b.partition()["resent"] == 100, b.partition()
        assert b.loud() == [], b.loud()


if __name__ == "__main__":
    run_all(globals())
