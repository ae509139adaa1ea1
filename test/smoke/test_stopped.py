#!/usr/bin/env python3
"""A broker that was stopped for longer than a session (SIGSTOP, as a suspended machine or a disk
that hangs does it) takes what came meanwhile before it fires timers: whoever had sent a Heartbeat
is still a member.

usage: test_stopped.py [TALLY]     ends with "N passed, N failed"
"""
import os
import pathlib
import signal
import sys
import time

from test_serve import PATIENCE_S, ROOT, Server, run_all

sys.path.insert(0, str(ROOT / "test/interop/diff"))
from kafka_wire import Connection  # noqa: E402

MEMBERS = 40
SESSION_MS = 1000
TIMES = 2
MEMBER_ID_REQUIRED = 79


class Member:
    def __init__(self, server, number):
        self.group = f"g{number}"
        self.conn = Connection(f"127.0.0.1:{server.port}", f"member-{number}", PATIENCE_S)
        joined = self.join("")
        self.id = joined["MemberId"]
        if joined["ErrorCode"] == MEMBER_ID_REQUIRED:
            joined = self.join(self.id)
        assert joined["ErrorCode"] == 0, joined
        self.generation = joined["GenerationId"]
        done = self.conn.call("SyncGroup", 3, {
            "GroupId": self.group, "GenerationId": self.generation, "MemberId": self.id,
            "Assignments": [{"MemberId": self.id, "Assignment": b""}]})
        assert done["ErrorCode"] == 0, done

    def join(self, member):
        return self.conn.call("JoinGroup", 5, {
            "GroupId": self.group, "SessionTimeoutMs": SESSION_MS, "RebalanceTimeoutMs": 60000,
            "MemberId": member, "ProtocolType": "consumer",
            "Protocols": [{"Name": "range", "Metadata": b"\0\0\0\0\0\0\0\0\0\0"}]})

    def beat(self):
        self.conn.send("Heartbeat", 3, {"GroupId": self.group, "GenerationId": self.generation,
                                        "MemberId": self.id})

    def answer(self):
        return self.conn.receive("Heartbeat", 3, False)["ErrorCode"]


def wait_until_stopped(pid):
    while pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "T":
        os.sched_yield()


def test_who_sent_a_heartbeat_meanwhile_is_still_a_member():
    options = ["--set", "group.min.session.timeout.ms=1000",
               "--set", "group.initial.rebalance.delay.ms=0"]
    with Server(*options) as b:
        members = [Member(b, i) for i in range(MEMBERS)]
        for _ in range(TIMES):
            for m in members:
                m.beat()
                assert m.answer() == 0
            b.child.send_signal(signal.SIGSTOP)
            wait_until_stopped(b.child.pid)
            over = time.monotonic() + 1.2 * SESSION_MS / 1000
            for m in members:
                m.beat()
            while time.monotonic() < over:  # the sessions end in real time
                time.sleep(0.05)
            b.child.send_signal(signal.SIGCONT)
            errors = [m.answer() for m in members]
            assert not any(errors), f"put out: {sum(map(bool, errors))} of {MEMBERS}, {errors}"
        for m in members:
            m.conn.close()


if __name__ == "__main__":
    run_all(globals())
