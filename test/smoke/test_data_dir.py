#!/usr/bin/env python3
"""The bad days of a data directory: tally serve says which directory and what is wrong with it,
exits with 2 and touches nothing.

usage: test_data_dir.py [TALLY]       ends with "N passed, N failed"
"""
import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import struct
import subprocess
import tempfile
import time

from test_serve import PATIENCE_S, TALLY, Server, make_topic, frame, receive, run_all, string

NOBODY = 65534


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def tree(place):
    """What stands there, but for the lock, which names its last holder."""
    told = hashlib.sha256()
    for path in sorted(pathlib.Path(place).rglob("*")):
        if path.name == "lock":
            continue
        told.update(f"{path.relative_to(place)} {path.lstat().st_mode}\n".encode())
        if path.is_file():
            told.update(path.read_bytes())
    return told.hexdigest()


def batch(value, time=1000):
    record = b"\0\0\0\1" + bytes([len(value) * 2]) + value + b"\0"
    record = bytes([len(record) * 2]) + record
    body = struct.pack(">hiqqqhii", 0, 0, time, time, -1, -1, -1, 1) + record
    head = struct.pack(">qiib", 0, 9 + len(body), -1, 2)
    return head + struct.pack(">I", crc32c(body)) + body


def produce(s, value=b"kept", acks=-1, time=1000, topic=b"t"):
    records = batch(value, time)
    body = struct.pack(">hhi", -1, acks, 30000) + struct.pack(">i", 1) + string(topic)
    body += struct.pack(">iii", 1, 0, len(records)) + records
    s.sendall(frame(0, 3, body))
    answer = receive(s)
    return struct.unpack_from(">h", answer, 4 + 4 + 2 + len(topic) + 4 + 4)[0]


@contextlib.contextmanager
def filled(is_clean=True, times=(1000,), options=()):
    """A directory with a topic and a record of each time, its broker stopped or killed."""
    with tempfile.TemporaryDirectory() as place:
        data = os.path.join(place, "data")
        with Server(*options, data=data) as b:
            with b.connect() as s:
                make_topic(s)
                for time in times:
                    assert produce(s, time=time) == 0
            if is_clean:
                assert b.stop() == 0, b.logged()
            else:
                b.child.kill()
                b.child.wait()
        yield data


def refused(data, *words, user=None, watched=None):
    watched = watched or data
    before = tree(watched)
    done = subprocess.run([TALLY, "serve", "--listen", "127.0.0.1:0", "--data", data],
                          capture_output=True, timeout=PATIENCE_S, text=True, user=user)
    assert done.returncode == 2, done
    assert done.stdout == "", done
    for word in (data, *words):
        assert word in done.stderr, (word, done.stderr)
    assert tree(watched) == before, f"something was changed: {done.stderr}"
    return done.stderr


def serves(data):
    with Server(data=data) as b:
        with b.connect() as s:
            assert produce(s) == 0
        assert b.stop() == 0, b.logged()


def write_meta(data, change):
    path = pathlib.Path(data, "meta")
    text = re.sub(r"crc \w+\n$", "", change(path.read_text()))
    path.write_text(f"{text}crc {crc32c(text.encode()):08x}\n")


# ---- what is tested


def test_a_missing_directory_is_made_but_not_its_parents():
    with tempfile.TemporaryDirectory() as place:
        refused(os.path.join(place, "no", "such"), "No such file", watched=place)
        with Server(data=os.path.join(place, "fresh")) as b:
            assert b.stop() == 0


def test_a_file_is_no_directory():
    with tempfile.TemporaryDirectory() as place:
        path = pathlib.Path(place, "file")
        path.write_text("mine")
        refused(str(path), "not a directory", watched=place)


def test_not_writable():
    user = NOBODY if os.geteuid() == 0 else None
    with filled() as data:
        os.chmod(os.path.dirname(data), 0o755)
        for path in [pathlib.Path(data), *pathlib.Path(data).rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        refused(data, "not writable", user=user)
        for path in [pathlib.Path(data), *pathlib.Path(data).rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        serves(data)


def test_not_writable_and_empty():
    user = NOBODY if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o555)
        refused(place, "not writable", user=user)


def test_in_use():
    with tempfile.TemporaryDirectory() as place:
        data = os.path.join(place, "data")
        with Server(data=data) as b:
            said = refused(data, "in use", str(b.child.pid))
            assert len(said.splitlines()) == 1, said


def test_from_a_newer_version():
    with filled() as data:
        write_meta(data, lambda text: text.replace("version 1", "version 99"))
        refused(data, "newer", "99")
        write_meta(data, lambda text: text.replace("version 99", "version 1"))
        serves(data)


def test_meta_damaged():
    with filled() as data:
        path = pathlib.Path(data, "meta")
        good = path.read_bytes()
        for bad in (b"", good[:20], good.replace(b"node 1", b"node 2"), b"\xff" * 100):
            path.write_bytes(bad)
            refused(data, "meta")
        path.write_bytes(good)
        serves(data)


def test_somebody_elses_directory():
    with tempfile.TemporaryDirectory() as place:
        pathlib.Path(place, "thesis.tex").write_text("mine")
        refused(place, "thesis.tex", "not a tally data directory")


def without(data, name, is_clean_kept=True):
    """The tree as a copy that stopped half-way would be."""
    path = pathlib.Path(data, name)
    kept = f"{data}.kept"
    os.rename(path, kept)
    refused(data, name.split("/")[0])
    os.rename(kept, path)
    assert is_clean_kept == pathlib.Path(data, "clean").exists()


def test_half_copied_after_a_clean_stop():
    with filled() as data:
        for name in ("meta", "__tally_journal", "t-0", "t-0/00000000000000000000.log"):
            without(data, name)
        serves(data)


def test_half_copied_after_a_crash():
    with filled(is_clean=False) as data:
        for name in ("meta", "__tally_journal", "t-0", "t-0/00000000000000000000.log"):
            without(data, name, is_clean_kept=False)
        serves(data)


def test_journal_without_its_files():
    for is_clean in (True, False):
        with filled(is_clean) as data:
            journal = pathlib.Path(data, "__tally_journal")
            for path in list(journal.iterdir()):
                without(data, f"__tally_journal/{path.name}", is_clean)
            kept = f"{data}.kept"
            os.rename(journal, kept)
            journal.mkdir()
            refused(data, "__tally_journal")
            journal.rmdir()
            os.rename(kept, journal)
            serves(data)


def test_a_log_shorter_than_it_was_left():
    with filled() as data:
        path = pathlib.Path(data, "t-0/00000000000000000000.log")
        good = path.read_bytes()
        for bad in (b"", good[:-1], good + b"\0"):
            path.write_bytes(bad)
            refused(data, "t-0")
        path.write_bytes(good)
        serves(data)


def test_an_older_segment_cut_or_missing():
    # A segment for each record, none of which is old enough to go.
    options = ("--set", "log.roll.ms=1000", "--set", "log.retention.ms=-1")
    for is_clean in (True, False):
        with filled(is_clean, (10 ** 6, 2 * 10 ** 6, 3 * 10 ** 6), options) as data:
            for offset in (0, 1):
                path = pathlib.Path(data, f"t-0/{offset:020}.log")
                good = path.read_bytes()
                for bad in (None, b"", good[:len(good) // 2], good[:-1]):
                    path.unlink()
                    if bad is not None:
                        path.write_bytes(bad)
                    refused(data, "t-0", f"offset {offset + 1}" if bad is None and offset == 0
                            else "")
                    path.write_bytes(good)
            serves(data)


def earliest(s):
    """Where partition 0 of t begins."""
    s.sendall(frame(2, 1, struct.pack(">ii", -1, 1) + string(b"t") +
                    struct.pack(">iiq", 1, 0, -2)))
    return struct.unpack(">q", receive(s)[-8:])[0]


def repair(data, *names):
    return subprocess.run([TALLY, "topic", "repair", *names, "--data", data], text=True,
                          capture_output=True, timeout=PATIENCE_S)


def test_a_damaged_log_is_repaired():
    """And the one that is whole is left alone; so is the record behind the damage."""
    now = int(time.time() * 1000)
    with filled(is_clean=False, times=(now, now, now)) as data:
        path = pathlib.Path(data, "t-0", "0" * 20 + ".log")
        content = bytearray(path.read_bytes())
        size = len(content) // 3
        content[size + 62] ^= 1
        path.write_bytes(content)
        path.with_name("checkpoint").unlink(missing_ok=True)
        said = refused(data, path.name, f"byte {size} (offset 1)", "tally topic repair")
        assert "from a copy" in said, said
        done = repair(data, "u")
        assert done.returncode == 2 and path.name in done.stderr, done
        assert path.read_bytes() == content and not path.with_suffix(".log.damaged").exists()
        done = repair(data, "t")
        assert done.returncode == 0, done
        assert f"{path}: byte {size}: {size} bytes are damaged, offsets 1 to 1 are lost" in \
            done.stdout and "1 offset is lost" in done.stdout, done
        assert path.with_suffix(".log.damaged").read_bytes() == content
        assert path.read_bytes()[:size] == content[:size]
        assert path.read_bytes()[-size:] == content[-size:]
        done = repair(data)
        assert done.returncode == 0 and "nothing was repaired" in done.stdout, done
        serves(data)


def test_a_repair_removes_nothing_by_age():
    """How long they stay may be said in the broker's file of settings, which a repair has not."""
    options = ("--set", "log.roll.ms=1000", "--set", "log.retention.ms=-1")
    with filled(times=(10 ** 6, 2 * 10 ** 6), options=options) as data:
        logs = sorted(pathlib.Path(data, "t-0").glob("*.log"))
        content = [path.read_bytes() for path in logs]
        done = repair(data)
        assert done.returncode == 0 and "nothing was repaired" in done.stdout, done
        assert [path.read_bytes() for path in logs] == content
        with Server(*options, data=data) as b, b.connect() as s:
            assert earliest(s) == 0


def test_a_repair_of_one_topic_of_two():
    """It says what it has done, though the other one keeps the broker from starting."""
    now = int(time.time() * 1000)
    with filled(is_clean=False, times=(now, now, now)) as data:
        with Server(data=data) as b:
            with b.connect() as s:
                make_topic(s, b"u")
                assert [produce(s, time=now, topic=b"u") for _ in range(3)] == [0, 0, 0]
            assert b.stop() == 0, b.logged()
        for name in ("t-0", "u-0"):
            path = pathlib.Path(data, name, "0" * 20 + ".log")
            content = path.read_bytes()
            path.write_bytes(content[:len(content) // 3 * 2])
        done = repair(data, "t")
        assert done.returncode == 2 and "offsets 2 to 2 are lost" in done.stdout, done
        assert "stays so" in done.stderr and "Nothing was changed" not in done.stderr, done
        done = repair(data)
        assert done.returncode == 0 and "u-0" in done.stdout and "t-0" not in done.stdout, done
        serves(data)


def commit(s, offset):
    body = string(b"a-group") + struct.pack(">i", -1) + string(b"") + struct.pack(">qi", -1, 1)
    body += string(b"t") + struct.pack(">iiq", 1, 0, offset) + string(b"")
    s.sendall(frame(8, 2, body))
    assert receive(s)[-2:] == b"\0\0"


def test_committed_offsets_are_written_anew():
    """What is lost of __consumer_offsets stands in the journal."""
    with filled() as data:
        with Server(data=data) as b:
            with b.connect() as s:
                commit(s, 1)
            assert b.stop() == 0, b.logged()
        [log] = [path for path in pathlib.Path(data).glob("__consumer_offsets-*/*.log")
                 if path.stat().st_size]
        content = bytearray(log.read_bytes())
        content[63] ^= 1
        log.write_bytes(content)
        done = repair(data)
        assert done.returncode == 0 and f"{log}: byte 0: " in done.stdout, done
        assert b"a-group" in log.read_bytes()
        serves(data)


def test_a_partition_moved_away_begins_anew():
    now = int(time.time() * 1000)
    with filled(times=(now, now)) as data:
        shutil.move(pathlib.Path(data, "t-0"), pathlib.Path(data).parent / "away")
        refused(data, "t-0", "missing", "tally topic repair")
        done = repair(data)
        assert done.returncode == 0 and "offsets 0 to 1 are lost" in done.stdout, done
        serves(data)


def test_a_damaged_journal_is_not_repaired():
    with filled(is_clean=False) as data:
        [path] = pathlib.Path(data, "__tally_journal").glob("*.journal")
        content = bytearray(path.read_bytes())
        content[40] ^= 1
        path.write_bytes(content)
        before = tree(data)
        done = repair(data)
        assert done.returncode == 2 and path.name in done.stderr and not done.stdout, done
        assert tree(data) == before


def test_a_journal_shorter_than_it_was_left():
    with filled() as data:
        for path in sorted(pathlib.Path(data, "__tally_journal").iterdir()):
            good = path.read_bytes()
            for bad in (b"", good[:len(good) // 2], good[:-1]):
                path.write_bytes(bad)
                refused(data, path.name)
            path.write_bytes(good)
        serves(data)


def test_a_journal_of_a_newer_version():
    with filled() as data:
        for path in sorted(pathlib.Path(data, "__tally_journal").iterdir()):
            good = path.read_bytes()
            head = good[:8] + struct.pack(">i", 99) + good[12:28]
            path.write_bytes(head + struct.pack(">I", crc32c(head)) + good[32:])
            refused(data, path.name)
            path.write_bytes(good)
        serves(data)


def test_a_whole_copy_serves():
    for is_clean in (True, False):
        with filled(is_clean) as data:
            copy = f"{data}.copy"
            shutil.copytree(data, copy)
            serves(copy)
            serves(data)


if __name__ == "__main__":
    run_all(globals())
