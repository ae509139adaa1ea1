#!/usr/bin/env python3
"""The thin thread with librdkafka: produce, consume in a group, commit, restart of the broker (in
order, and killed), go on where it stood.

usage: test_kcat.py [TALLY]       ends with "N passed, N failed"
"""
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import test_serve

PATIENCE_S = 60
RECORDS = 1000


class Server(test_serve.Server):
    def __init__(self, *options, **how):
        super().__init__("--set", "group.initial.rebalance.delay.ms=0", *options, **how)


def kcat(b, *arguments, text=None):
    done = subprocess.run(["kcat", "-b", f"127.0.0.1:{b.port}", *arguments], input=text,
                          capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def consume(b, group, count, *more):
    out = kcat(b, "-G", group, "-X", "auto.offset.reset=earliest", "-c", str(count), *more, "words")
    return [int(line) for line in out.split()]


def produce(b, first, last, *more):
    kcat(b, "-P", "-t", "words", *more, text="".join(f"{i}\n" for i in range(first, last)))


def test_produce_consume_commit_restart():
    with tempfile.TemporaryDirectory() as data:
        with Server(data=data) as b:
            produce(b, 0, RECORDS, "-X", "acks=all")
            assert consume(b, "g", 300) == list(range(300))
            assert b.stop() == 0, b.logged()
        with Server(data=data) as b:
            assert consume(b, "g", 300) == list(range(300, 600))
            b.child.kill()
            b.child.wait()
        with Server(data=data) as b:
            assert consume(b, "g", 300) == list(range(600, 900))
            produce(b, RECORDS, RECORDS + 100, "-X", "acks=1")
            assert consume(b, "g", 200) == list(range(900, 1100))
            assert consume(b, "other", RECORDS + 100) == list(range(RECORDS + 100))


def test_a_transaction_is_refused_at_once():
    with Server() as b:
        done = subprocess.run(["kcat", "-b", f"127.0.0.1:{b.port}", "-P", "-t", "words", "-X",
                               "transactional.id=one"], input="1\n", capture_output=True,
                              text=True, timeout=PATIENCE_S)
        assert done.returncode != 0 and "Transactional" in done.stderr, done
        assert "transactional.id one; transactions are not built" in b.logged(), b.logged()


def test_every_codec_comes_back():
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        with Server() as b:
            produce(b, 0, RECORDS, "-z", codec)
            assert consume(b, "g", RECORDS) == list(range(RECORDS)), codec


def test_idempotent_producer():
    with Server() as b:
        produce(b, 0, RECORDS, "-X", "enable.idempotence=true")
        assert consume(b, "g", RECORDS) == list(range(RECORDS))


def test_two_members_share_the_partitions():
    with Server("--set", "num.partitions=4") as b:
        produce(b, 0, RECORDS)
        members = [subprocess.Popen(
            ["kcat", "-b", f"127.0.0.1:{b.port}", "-G", "g", "-u", "-X",
             "auto.offset.reset=earliest", "words"], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True) for _ in range(2)]
        assigned = [None, None]
        for i, m in enumerate(members):
            for line in m.stderr:
                if "assigned:" in line and line.count("words") == 2:
                    assigned[i] = line
                    break
        assert all(assigned), assigned
        for m in members:
            m.terminate()
            m.communicate(timeout=PATIENCE_S)


def files_are_small():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000))


def test_a_failed_write_stops_loudly():
    with tempfile.TemporaryDirectory() as data:
        with Server(data=data, before=files_are_small) as b:
            subprocess.run(["kcat", "-b", f"127.0.0.1:{b.port}", "-P", "-t", "words", "-X",
                            "message.timeout.ms=2000"], input=("y" * 90000 + "\n") * 5,
                           capture_output=True, text=True, timeout=PATIENCE_S)
            assert b.child.wait(PATIENCE_S) == 2
            assert "stopping: words-0: append: File too large" in b.logged(), b.logged()
        with Server(data=data) as b:
            produce(b, 0, 1)
            assert b.stop() == 0, b.logged()


def test_metadata_lists_topic():
    with Server() as b:
        produce(b, 0, 1)
        assert 'topic "words" with 1 partitions' in kcat(b, "-L")


if __name__ == "__main__":
    test_serve.run_all(globals())
