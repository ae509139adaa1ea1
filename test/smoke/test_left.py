#!/usr/bin/env python3
"""A start after a clean stop looks only at what is not as it was left. Whatever somebody did to the
directory meanwhile, it has to come to what it comes to in a copy of the directory, where every file
is another one and so all of them are looked at.

usage: test_left.py [TALLY]       ends with "N passed, N failed"
"""
import hashlib
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile

from test_data_dir import crc32c, produce
from test_serve import PATIENCE_S, TALLY, Server, frame, make_topic, receive, run_all, string

TOPICS = [f"left{i}" for i in range(8)]
FIRST = "0" * 20
# A segment for each record, none of which is old enough to go.
OPTIONS = ("--set", "log.roll.ms=1000", "--set", "log.retention.ms=-1")


def fill(data, times):
    with Server(*OPTIONS, data=data) as b:
        with b.connect() as s:
            for topic in TOPICS:
                make_topic(s, topic.encode())
                for time in times:
                    assert produce(s, topic.encode(), 1, time, topic.encode()) == 0
        assert b.stop() == 0, b.logged()


class World:
    """A directory that was stopped in order twice, and what stood in it the first time."""

    def __init__(self):
        self.place = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.place.name)
        self.data, self.backup = self.root / "data", self.root / "backup"
        fill(str(self.data), (10 ** 6, 2 * 10 ** 6))
        shutil.copytree(self.data, self.backup)
        fill(str(self.data), (3 * 10 ** 6,))

    def close(self):
        self.place.cleanup()


world = None


def get_world():
    global world
    world = world or World()
    return world


def records(s, topic):
    """All of partition 0, and where it begins."""
    s.sendall(frame(2, 1, struct.pack(">ii", -1, 1) + string(topic) +
                    struct.pack(">iiq", 1, 0, -2)))
    offset, got = struct.unpack(">q", receive(s)[-8:])[0], []
    while True:
        body = struct.pack(">iiiib", -1, 0, 0, 1 << 20, 0) + struct.pack(">i", 1) + string(topic)
        s.sendall(frame(1, 4, body + struct.pack(">iiqi", 1, 0, offset, 1 << 20)))
        answer = receive(s)
        at = answer.index(topic) + len(topic) + 4 + 4
        error, _, _, aborted = struct.unpack_from(">hqqi", answer, at)
        size = struct.unpack_from(">i", answer, at + 22 + 8 * 2 * max(aborted, 0))[0]
        if error or size <= 0:
            return offset, error, got
        batches = answer[-size:]
        got.append(batches)
        while batches:
            base, length = struct.unpack_from(">qi", batches)
            offset = base + struct.unpack_from(">i", batches, 23)[0] + 1
            batches = batches[12 + length:]


def logs(data):
    told = {}
    for path in sorted(data.glob("*-0/*")):
        if path.suffix == ".log" or path.name == "partition.metadata":
            told[str(path.relative_to(data))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return told


def words(text, data):
    """What was said, without the times and the count of what was replayed."""
    lines = [line.split(" ", 1)[-1] for line in text.replace(str(data), "DATA").splitlines()]
    return [line for line in lines if "listening" not in line and "127.0.0.1" not in line]


def outcome(data):
    """What a start comes to, and how often it read."""
    child = subprocess.Popen([TALLY, "serve", "--listen", "127.0.0.1:0", "--data", str(data),
                              *OPTIONS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ready = child.stdout.readline()
    if not ready:
        said = child.communicate(timeout=PATIENCE_S)[1]
        return (child.returncode, words(said, data), logs(data)), None
    there = Server.__new__(Server)
    there.port = int(ready.split()[1].rsplit(":", 1)[1])
    with there.connect() as s:
        found = [records(s, topic.encode()) for topic in TOPICS]
        written = [produce(s, b"more", 1, 4 * 10 ** 6, topic.encode()) for topic in TOPICS]
        found += [records(s, topic.encode()) for topic in TOPICS]
    # Only now: the first look of retention, soon after the start, reads as well.
    io = pathlib.Path(f"/proc/{child.pid}/io").read_text()
    reads = int(io.split("syscr:")[1].split()[0])
    child.terminate()
    said = child.communicate(timeout=PATIENCE_S)[1]
    return (child.returncode, words(said, data), logs(data), found, written), reads


def the_same(change, is_fast=None):
    """In place and in a copy; is_fast: whether reading was spared."""
    w = get_world()
    data, copy = w.root / "d", w.root / "e"
    for path in data, copy:
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(w.data, data, symlinks=True)
    with Server(*OPTIONS, data=str(data)) as b:  # now the marker tells of these files
        assert b.stop() == 0, b.logged()
    shutil.copytree(data, copy)
    change(data)
    change(copy)
    in_place, reads = outcome(data)
    looked_at, all_reads = outcome(copy)
    for a, b in zip(in_place, looked_at):
        assert a == b, (a, b)
    assert len(in_place) == len(looked_at)
    if is_fast is not None:
        assert (reads < all_reads - 3 * len(TOPICS)) == is_fast, (reads, all_reads)
    return in_place


def newest(directory):
    return max(directory.glob("*.log"))


# ---- what is tested


def test_nothing_was_done():
    done = the_same(lambda data: None, is_fast=True)
    assert done[0] == 0 and len(done[3][0][2]) == 3, done


def test_cut_or_longer():
    def cut(data):
        os.truncate(newest(data / "left3-0"), 60)

    def longer(data):
        with newest(data / "left3-0").open("ab") as f:
            f.write(b"\0")

    def cut_sealed(data):
        os.truncate(data / "left3-0" / f"{FIRST}.log", 60)

    for change in cut, longer, cut_sealed:
        assert the_same(change)[0] == 2


def test_a_segment_is_missing_or_one_too_many():
    def without(data):
        (data / "left5-0" / f"{FIRST}.log").unlink()

    def without_middle(data):
        (data / "left5-0" / f"{FIRST[:-1]}1.log").unlink()

    def with_one_more(data):
        shutil.copy(data / "left5-0" / f"{FIRST}.log", data / "left5-0" / f"{FIRST[:-1]}9.log")

    for change in without, without_middle, with_one_more:
        assert the_same(change)[0] == 2


def test_a_backup_of_one_partition_is_put_back():
    def instead(data):
        shutil.rmtree(data / "left7-0")
        shutil.copytree(get_world().backup / "left7-0", data / "left7-0")

    def over_it(data):  # the files stay the same ones
        for path in (get_world().backup / "left7-0").iterdir():
            (data / "left7-0" / path.name).write_bytes(path.read_bytes())

    assert the_same(instead)[0] == 2
    done = the_same(over_it)  # the segments it has are as they were, the newest is left alone
    assert done[0] == 0 and len(done[3][7][2]) == 3, done


def test_the_same_bytes_are_put_back():
    def instead(data):
        os.rename(data / "left7-0", data.parent / "kept")
        shutil.copytree(data.parent / "kept", data / "left7-0")
        shutil.rmtree(data.parent / "kept")

    def over_it(data):
        for path in list((data / "left7-0").iterdir()):
            path.write_bytes(path.read_bytes())

    def all_of_them(data):
        os.rename(data, data.parent / "kept")
        shutil.copytree(data.parent / "kept", data)
        shutil.rmtree(data.parent / "kept")

    for change, is_fast in (instead, True), (over_it, True), (all_of_them, False):
        done = the_same(change, is_fast)
        assert done[0] == 0 and len(done[3][7][2]) == 3, done


def test_the_directory_of_another_topic():
    def instead(data):
        shutil.rmtree(data / "left2-0")
        shutil.copytree(data / "left3-0", data / "left2-0")

    def over_it(data):
        for path in (data / "left3-0").iterdir():
            (data / "left2-0" / path.name).write_bytes(path.read_bytes())

    def its_metadata(data):
        (data / "left2-0" / "partition.metadata").write_bytes(
            (data / "left3-0" / "partition.metadata").read_bytes())

    def swapped(data):
        os.rename(data / "left2-0", data / "between")
        os.rename(data / "left3-0", data / "left2-0")
        os.rename(data / "between", data / "left3-0")

    for change in instead, over_it, its_metadata, swapped:
        assert the_same(change)[0] == 2


def test_a_topic_copied_in_by_hand():
    def one_more(data):
        shutil.copytree(data / "left2-0", data / "mine-0")

    done = the_same(one_more)
    assert done[0] == 0 and "mine-0" not in str(done[2]), done


def test_metadata_damaged_or_missing():
    def damaged(data):
        path = data / "left4-0" / "partition.metadata"
        content = bytearray(path.read_bytes())
        content[25] ^= 1
        path.write_bytes(content)

    def missing(data):
        (data / "left4-0" / "partition.metadata").unlink()

    for change in damaged, missing:
        done = the_same(change)
        assert done[0] == 0 and any("written anew" in line for line in done[1]), done


def test_only_times_were_changed():
    def touched(data):
        for path in data.glob("left6-0/*"):
            os.utime(path)

    assert the_same(touched)[0] == 0


def test_the_marker_is_gone_or_another():
    def gone(data):
        (data / "clean").unlink()

    def damaged(data):
        content = bytearray((data / "clean").read_bytes())
        content[200] ^= 1
        (data / "clean").write_bytes(content)

    def older(data):
        shutil.copy(get_world().backup / "clean", data / "clean")

    def without_what_was_left(data):
        """As an older version of tally leaves it."""
        lines = (data / "clean").read_text().splitlines(keepends=True)
        text = "".join(line for line in lines[:-1] if not line.startswith(" "))
        (data / "clean").write_text(f"{text}crc {crc32c(text.encode()):08x}\n")

    assert the_same(gone)[0] == 0
    assert the_same(damaged)[0] == 2
    assert the_same(older)[0] == 2
    assert the_same(without_what_was_left, is_fast=False)[0] == 0


def test_after_a_kill_nothing_is_believed():
    """The marker that told of the files is gone with the start that used it."""
    def kill(data):
        with Server(*OPTIONS, data=str(data)) as b:
            with b.connect() as s:
                assert produce(s, topic=b"left1", time=4 * 10 ** 6) == 0
            b.child.kill()
            b.child.wait()
        assert not (data / "clean").exists()

    done = the_same(kill)
    assert done[0] == 0 and len(done[3][1][2]) == 4, done


def test_damage_that_is_met_later_is_named():
    """The indexes are read when they are wanted, and the log where they do not help."""
    with tempfile.TemporaryDirectory() as place:
        data = os.path.join(place, "data")
        with Server(*OPTIONS, data=data) as b:
            with b.connect() as s:
                make_topic(s)
                for _ in range(150):
                    assert produce(s, acks=1) == 0
            assert b.stop() == 0, b.logged()
        # What a stop wrote may be as old as its marker, and is looked at. This one writes none.
        with Server(*OPTIONS, data=data) as b:
            assert b.stop() == 0, b.logged()
        log = pathlib.Path(data, "t-0", f"{FIRST}.log")
        with Server(*OPTIONS, data=data) as b:
            for path, at in (log.with_suffix(".index"), 3), (log, 16):
                with path.open("r+b") as f:
                    f.seek(at)
                    f.write(b"\x7f")
            with b.connect() as s:
                assert records(s, b"t")[1] != 0
                assert produce(s, acks=1) != 0
            assert b.child.wait(PATIENCE_S) == 2, b.logged()
            for said in f"{data}/t-0: is damaged", "tally topic repair", "t-0: append: ":
                assert said in b.logged(), b.logged()


if __name__ == "__main__":
    run_all(globals())
