#!/usr/bin/env python3
"""tally report: on a running broker what opens and what fails a job; on the directory of a stopped
one the same report, and not a byte changed.

usage: test_report.py [TALLY]       ends with "N passed, N failed"
"""
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import tempfile

import test_serve
from test_kcat import Server, consume, produce

TALLY, PATIENCE_S = test_serve.TALLY, test_serve.PATIENCE_S


def tally(*arguments):
    done = subprocess.run([TALLY, *arguments], capture_output=True, text=True, timeout=PATIENCE_S)
    return done.returncode, done.stdout, done.stderr


def on(b, *arguments):
    return tally(*arguments, "--bootstrap", f"127.0.0.1:{b.port}")


def fine(done):
    status, out, errors = done
    assert status == 0, errors
    return out


def a_group_moved_by_hand(b):
    """300 records, 100 read and committed, then on to the end: 200 are abandoned."""
    fine(on(b, "topic", "create", "words"))
    produce(b, 0, 300, "-X", "acks=all")
    assert len(consume(b, "g", 100)) == 100
    fine(on(b, "group", "reset", "g", "--topic", "words", "--to", "latest", "--execute"))


def picture(directory):
    """Every name with its content and times."""
    files = {}
    for path in sorted(pathlib.Path(directory).rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        files[str(path)] = (hashlib.sha256(content).hexdigest(), path.stat().st_mtime_ns)
    return files


def looked_at(data, *options):
    before = picture(data)
    report = json.loads(fine(tally("report", "--data", data, "--json", "--verify", *options)))
    assert picture(data) == before, "the directory was changed"
    return report


# ---- what is tested


def test_an_incident_is_told_as_it_opens():
    with Server() as b:
        follower = subprocess.Popen([TALLY, "report", "--follow", "--json", "--fail-on", "risk",
                                     "-b", f"127.0.0.1:{b.port}"], stdout=subprocess.PIPE)
        a_group_moved_by_hand(b)
        told = {"class": "note"}
        while told["class"] == "note":
            told = json.loads(follower.stdout.readline())
        # "closed" at once when it was over before it was first seen.
        assert told["event"] in ("opened", "closed") and told["group"] == "g", told
        assert (told["class"], told["cause"]) == ("risk", "offsets_altered"), told
        assert (told["first"], told["last"], told["records"]) == (100, 299, 200), told
        follower.send_signal(signal.SIGTERM)
        assert follower.wait(PATIENCE_S) == 1, "what it was told to fail on was there"
        follower.stdout.close()


def test_a_job_fails_on_the_classes_it_names():
    with Server() as b:
        a_group_moved_by_hand(b)
        for classes, status in (("risk", 1), ("missed,repeated", 0), ("resent,risk,stalled", 1),
                                ("expected", 0)):
            assert on(b, "report", "--fail-on", classes)[0] == status, classes
        status, _, errors = on(b, "report", "--fail-on", "lost")
        assert status == 2 and "lost" in errors, errors


def test_text_names_the_rebalances_and_the_advice():
    with Server() as b:
        a_group_moved_by_hand(b)
        text = fine(on(b, "report", "--rebalances"))
        for word in ("rebalance 1 ", "risk words/0 100-299: 200 records", "why: offsets_altered",
                     "do: "):
            assert word in text, (word, text)
        assert "all states add up" in fine(on(b, "report", "--verify"))
        assert "words/0 100" not in fine(on(b, "report", "--since", "2099-01-01"))
        status, _, errors = on(b, "report", "--topic", "other")
        assert status == 2 and "other" in errors, errors


def test_a_directory_in_use_names_the_holder():
    with tempfile.TemporaryDirectory() as data, Server(data=data) as b:
        status, out, errors = tally("report", "--data", data)
        assert status == 2 and not out and f"in use by process {b.child.pid}" in errors, errors


def test_a_stopped_broker_is_read_without_a_change():
    with tempfile.TemporaryDirectory() as data:
        with Server(data=data) as b:
            a_group_moved_by_hand(b)
            live = json.loads(fine(on(b, "report", "--json")))
            assert b.stop() == 0
        found = looked_at(data)
        assert found == live, (found, live)
        assert tally("report", "--data", data, "--fail-on", "risk")[0] == 1


def test_a_killed_broker_is_read_as_its_next_start_will_find_it():
    with tempfile.TemporaryDirectory() as data:
        with Server(data=data) as b:
            a_group_moved_by_hand(b)
            produce(b, 300, 400)
            b.child.kill()
            b.child.wait()
        # What a write was stopped in the middle of.
        with open(f"{data}/words-0/{0:020}.log", "ab") as log:
            log.write(b"\0\0\0\0\0\0\1\x90torn")
        said = tally("report", "--data", data)[2]
        assert "did not stop in order" in said and "torn" in said, said
        dead = looked_at(data)
        with Server(data=data) as b:
            assert json.loads(fine(on(b, "report", "--json"))) == dead


def test_what_is_no_data_directory_is_said():
    with tempfile.TemporaryDirectory() as data:
        for directory, why in ((data, "no data directory"), (f"{data}/none", "does not exist")):
            status, _, errors = tally("report", "--data", directory)
            assert status == 2 and why in errors, errors
        assert os.listdir(data) == []
        status, _, errors = tally("report", "--data", data, "--follow")
        assert status == 2 and "--follow" in errors, errors


if __name__ == "__main__":
    test_serve.run_all(globals())
