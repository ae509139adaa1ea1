#!/usr/bin/env python3
"""tally bench as a program: every kind of load on a tally, and addresses that are no broker.

usage: test_bench.py [TALLY]       ends with "N passed, N failed"
"""
import contextlib
import json
import socket
import subprocess
import threading
import time

import test_serve

TALLY = test_serve.TALLY
PATIENCE_S = 60


class Server(test_serve.Server):
    def __init__(self):
        super().__init__("--set", "group.initial.rebalance.delay.ms=0")
        self.address = f"127.0.0.1:{self.port}"


def bench(address, *args):
    return subprocess.run([TALLY, "bench", "--bootstrap", address, *args], text=True,
                          capture_output=True, timeout=PATIENCE_S)


def results(address, *args):
    done = bench(address, *args, "--json")
    assert done.returncode == 0 and not done.stderr, done
    return json.loads(done.stdout)["results"]


def test_without_a_kind_it_produces_consumes_and_measures_latency():
    with Server() as s:
        got = results(s.address, "--seconds", "0.3", "--partitions", "3", "--rate", "1000")
        assert [r["kind"] for r in got] == ["produce", "consume", "latency"], got
        assert all(r["records"] > 0 and r["latency_ms"]["max"] > 0 for r in got), got
        done = subprocess.run([TALLY, "topic", "list", "--bootstrap", s.address], text=True,
                              capture_output=True)
        assert "tally-bench" not in done.stdout, done


def test_it_stores_exactly_what_it_says():
    with Server() as s:
        for acks in "all", "1", "0":
            [r] = results(s.address, "produce", "--records", "1000", "--batch-bytes", "10000",
                          "--record-size", "100", "--partitions", "4", "--connections", "3",
                          "--acks", acks, "--topic", f"t{acks}", "--keep")
            [c] = results(s.address, "consume", "--records", str(r["records"]), "--topic",
                          f"t{acks}", "--connections", "2")
            assert r["records"] >= 1000 and c["records"] >= r["records"], (r, c)


def test_groups_commits_and_connections():
    with Server() as s:
        got = results(s.address, "group", "commit", "connect", "--members", "20", "--leave",
                      "--records", "500", "--connections", "50", "--partitions", "7")
        group, commit, connect = got
        assert group["records"] == 20 and group["rebalance_ms"] > 0, group
        assert commit["records"] >= 500, commit
        assert connect["records"] == 50, connect


def test_commits_of_several_groups_are_measured_apart_from_joining():
    with Server() as s, subprocess.Popen(
            [TALLY, "bench", "commit", "--bootstrap", s.address, "--group", "g", "--groups", "3",
             "--members", "6", "--partitions", "4", "--records", "60", "--hold", "--json"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        for word in "joined", "committed":
            line = load.stdout.readline()
            assert line == word + "\n", line
            listed = subprocess.run([TALLY, "group", "list", "--bootstrap", s.address], text=True,
                                    capture_output=True)
            assert all(f"g-{i}" in listed.stdout for i in range(3)), listed
            load.stdin.write("\n")
            load.stdin.flush()
        [r] = json.loads(load.stdout.read())["results"]
        assert r["records"] == 60, r


def test_an_empty_topic_cannot_be_consumed():
    with Server() as s:
        done = bench(s.address, "consume")
        assert done.returncode == 2 and "is empty" in done.stderr, done


def test_a_dead_address_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = bench(f"127.0.0.1:{port}")
    assert done.returncode == 2 and "nothing listens" in done.stderr, done
    assert not done.stdout, done


def test_an_address_that_says_nothing_is_said():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = bench(f"127.0.0.1:{silent.getsockname()[1]}")
    assert done.returncode == 2 and "does not answer" in done.stderr, done


def bench_of(serve):
    """What it says of an address where one connection is given to `serve`."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        def once():
            c, _ = s.accept()
            with c:
                serve(c)
        t = threading.Thread(target=once)
        t.start()
        try:
            return bench(f"127.0.0.1:{s.getsockname()[1]}")
        finally:
            t.join(PATIENCE_S)


def test_a_foreign_address_is_said():
    def answer(c):
        c.recv(4096)
        c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    done = bench_of(answer)
    assert done.returncode == 2 and "does not speak the Kafka protocol" in done.stderr, done


def test_an_address_that_never_ends_its_answer_is_said():
    def drip(c):
        c.sendall(b"\0\0\1\0")
        with contextlib.suppress(OSError):  # when it has hung up
            while True:
                time.sleep(0.1)
                c.sendall(b"\0")
    done = bench_of(drip)
    assert done.returncode == 2 and "does not answer" in done.stderr, done


def test_a_foreign_address_that_talks_is_said():
    for words in (b"SSH-2.0-OpenSSH_9.2p1\r\n", b"\0" * 4096, b"\x7f\xff\xff\xff" * 1000):
        def talk(c):
            c.sendall(words)
            with contextlib.suppress(ConnectionResetError):
                while c.recv(4096):
                    pass
        done = bench_of(talk)
        assert done.returncode == 2 and "does not speak the Kafka protocol" in done.stderr, done


def test_bad_options_are_said():
    for args, word in ((["fly"], "no kind of load"), (["--acks", "2"], "--acks"),
                       (["--connections", "0"], "--connections"), (["--seconds", "x"], "--seconds"),
                       (["--record-size", "1"], "--record-size")):
        done = bench("127.0.0.1:1", *args)
        assert done.returncode == 2 and word in done.stderr, done


if __name__ == "__main__":
    test_serve.run_all(globals())
