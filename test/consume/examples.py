#!/usr/bin/env python3
"""libtally as another program gets it (installed, pkg-config, shared and static), and the
examples, killed while they work: totals and rows must be exact.

usage: examples.py     ends with "N passed, N failed" """
import collections
import os
import random
import shlex
import sqlite3
import subprocess
import sys
import time

import world

RECORDS = 3000
KILLS = 5  # that come in the middle of the work
KEYS = 7


def test_installed_library(folder, broker, _):
    root = folder / "installed"
    subprocess.run(["make", "--no-print-directory", "install", f"DESTDIR={root}", "PREFIX=/usr"],
                   cwd=world.ROOT, check=True, capture_output=True)
    lib = root / "usr/lib"
    how = {**os.environ, "PKG_CONFIG_PATH": str(lib / "pkgconfig"),
           "PKG_CONFIG_SYSROOT_DIR": str(root), "LD_LIBRARY_PATH": str(lib)}
    flags = shlex.split(subprocess.run(["pkg-config", "--cflags", "--libs", "libtally"], env=how,
                                       check=True, capture_output=True, text=True).stdout)
    source = str(world.ROOT / "examples/c/libtally_aggregate.c")
    broker.create("numbers", 3)
    world.tally("produce", "numbers", "--format", "json", "--key", "k", "--bootstrap",
                broker.address, text='{"k": 1}\n')
    for name, more in (("shared", []), ("static", ["-static-libgcc", str(lib / "libtally.a")])):
        program = str(folder / name)
        used = [f for f in flags if name == "shared" or f != "-ltally"]
        subprocess.run(["gcc", "-o", program, source, *used, *more, "-ldl", "-lpthread"],
                       check=True)
        done = subprocess.run([program, "numbers", name, str(folder / f"{name}.db"),
                               broker.address], env=how, capture_output=True, text=True,
                              timeout=60)
        assert done.returncode == 1 and "the value is not a number" in done.stderr, done
        linked = subprocess.run(["ldd", program], env=how, capture_output=True, text=True).stdout
        assert ("libtally.so" in linked) == (name == "shared"), linked
        for heavy in ("rdkafka", "libpq", "sqlite"):
            assert heavy not in linked, linked
    # A C++ program can include the header.
    (folder / "a.cc").write_text("#include <tally.h>\nint main() { return tally_int(3).type; }\n")
    subprocess.run(["g++", "-c", "-o", "/dev/null", folder / "a.cc", f"-I{root}/usr/include"],
                   check=True)


def test_aggregate_under_kills(folder, broker, _):
    """Each copy is killed when it has just begun to store, with half a topic still to do."""
    import confluent_kafka as kafka
    broker.create("sums", 3)
    database = world.Sqlite(folder)
    database.file = folder / "sums.db"
    argv = [world.ROOT / "build/examples/c/libtally_aggregate", "sums", "sums", database.file,
            broker.address, "session.timeout.ms", "300", "heartbeat.interval.ms", "100"]
    want, made = collections.Counter(), 0
    producer = kafka.Producer({"bootstrap.servers": broker.address})
    random_, unfinished = random.Random(1), 0

    def counted():
        try:
            return database.query("SELECT COALESCE(SUM(records), 0) FROM total")[0][0]
        except sqlite3.OperationalError:
            return 0

    while unfinished < KILLS:
        assert made < 200 * RECORDS, f"only {unfinished} kills came in the middle"
        for _ in range(4 * RECORDS):
            key = f"key{made % KEYS}"
            want[key] += made
            producer.produce("sums", str(made), key)
            made += 1
        producer.flush(30)
        before = counted()
        child = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        world.wait_until(lambda: counted() > before or child.poll() is not None, "it stores",
                         pause_s=0.002)
        time.sleep(random_.uniform(0, 0.01))
        child.kill()
        child.wait()
        unfinished += counted() < made
    subprocess.run(argv, check=True, timeout=120, stdout=subprocess.DEVNULL)
    rows = database.query("SELECT key, records, amount FROM total")
    assert {k: a for k, _, a in rows} == want and sum(n for _, n, _ in rows) == made, rows


def test_rows_under_a_kill(folder, broker, postgres):
    """Ten rows a statement, in both databases: each value once, whenever the first copy died."""
    made = 20 * RECORDS
    broker.create("rows", 3)
    world.tally("produce", "rows", "--format", "lines", "--bootstrap", broker.address,
                text="".join(f"v{i}\n" for i in range(made)))
    sqlite = world.Sqlite(folder)
    sqlite.file = folder / "rows.db"
    query = "SELECT count(*), count(DISTINCT value), min(length(value)) FROM stored"

    def stored(database):
        try:
            return database.query(query)[0][0]
        except Exception:
            return 0

    for database, into in ((sqlite, f"sqlite:{sqlite.file}"), (postgres, postgres.url())):
        argv = [world.ROOT / "build/examples/c/libtally_rows", "rows", into[:6], into,
                broker.address]
        child = subprocess.Popen(argv)
        world.wait_until(lambda: stored(database) or child.poll() is not None, "it stores",
                         pause_s=0.002)
        child.kill()
        child.wait()
        subprocess.run(argv, check=True, timeout=120)
        assert [tuple(row) for row in database.query(query)] == [(made, made, 2)]


def test_python_and_postgres_under_kills(folder, broker, postgres):
    broker.create("lines", 4)
    world.tally("produce", "lines", "--format", "lines", "--bootstrap", broker.address,
                text="".join(f"{i}\n" for i in range(RECORDS)))
    how = {**os.environ, "TALLY_BOOTSTRAP": broker.address, "TALLY_TOPIC": "lines",
           "TALLY_GROUP": "python", "TALLY_WORK_MS": "0"}

    def start():
        return subprocess.Popen(["/usr/bin/python3",
                                 world.ROOT / "examples/python/exactly_once_postgres.py",
                                 postgres.url(), "session.timeout.ms=1000",
                                 "heartbeat.interval.ms=200"], env=how,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def rows():
        try:
            return postgres.query("SELECT count(*) FROM results")[0][0]
        except Exception:
            return 0

    copies = [start(), start()]
    random_ = random.Random(2)
    try:
        for _ in range(8):
            time.sleep(random_.uniform(0.5, 1.5))
            n = random_.randrange(2)
            copies[n].kill()
            copies[n].wait()
            copies[n] = start()

        def is_done():
            for n, c in enumerate(copies):
                if c.poll() is not None:  # fenced: it says so and ends
                    copies[n] = start()
            return rows() >= RECORDS
        world.wait_until(is_done, "all rows")
    finally:
        for c in copies:
            c.kill()
            c.wait()
    twice = postgres.query("SELECT partition, record_offset FROM results"
                           " GROUP BY 1, 2 HAVING count(*) > 1")
    assert rows() == RECORDS and not twice, (rows(), twice[:3])


def test_the_manual_pages(folder, *_):
    """Installed, and as man reads them without complaint."""
    pages = folder / "installed/usr/share/man"
    for page in ("man3/libtally.3", "man1/tally-consume.1"):
        assert (pages / page).is_file(), page
        try:
            done = subprocess.run(["man", "--warnings", "-l", "-P", "cat", pages / page],
                                  capture_output=True, text=True,
                                  env={**os.environ, "LC_ALL": "C.UTF-8"})
        except FileNotFoundError:
            return
        assert not done.stderr.strip(), done.stderr
        assert "SYNOPSIS" in done.stdout


def main():
    with world.Folder() as folder:
        broker, postgres = world.Broker(folder), world.Postgres(folder)
        try:
            return world.run_tests("examples", globals(), folder, broker, postgres,
                                   chosen=sys.argv[1:])
        finally:
            postgres.stop()
            broker.stop()


if __name__ == "__main__":
    sys.exit(main())
