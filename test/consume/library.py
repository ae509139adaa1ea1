#!/usr/bin/env python3
"""libtally in programs of others: handles on threads of their own (built with ThreadSanitizer it
says what they share), and callbacks that break their contract: a sentence, and no row without its
offset beyond what the callback itself committed.

usage: library.py PROGRAM     ends with "N passed, N failed" """
import os
import signal
import sqlite3
import subprocess
import sys

import confluent_kafka as kafka

import world

RECORDS = 300


def run(program, *arguments):
    # librdkafka counts references with atomics that ThreadSanitizer does not see: it would report
    # the end of a topic. What that library locks is still seen.
    how = {**os.environ, "TSAN_OPTIONS": "ignore_noninstrumented_modules=1"}
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True,
                          timeout=120, env=how)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr[:4000])
    return done.stdout


def test_threads(program, folder, broker, _):
    print(run(program, "threads", folder, "t", broker.address).strip())
    for n in range(4):
        db = sqlite3.connect(folder / f"thread{n}.db")
        rows, distinct = db.execute("SELECT count(*), count(DISTINCT p || '/' || o) FROM seen"
                                    ).fetchone()
        (ends,) = db.execute("SELECT SUM(next_offset) FROM tally_offset WHERE next_offset >= 0"
                             ).fetchone()
        db.close()
        # The last one is told to stop, wherever it is.
        assert rows == distinct == (ends or 0), (n, rows, distinct, ends)
        assert rows == RECORDS or n == 3, (n, rows)


def test_callbacks(program, folder, broker, postgres):
    for database, into in ((world.Sqlite(folder), f"sqlite:{folder}/rows.db"),
                           (postgres, postgres.url())):
        for how, code, words, kept in (
                ("positive", -22, "process callback returned 7", 0),
                ("silent", -205, "returned -205 and no sentence", 1),
                ("commit", -22, "never begin, commit or roll back", 1),
                ("rollback", -22, "never begin, commit or roll back", 0)):
            said = run(program, "callback", how, into, "one", broker.address)
            assert said.startswith(f"{code} ") and words in said, (how, into, said)
            rows = database.query("SELECT o FROM seen ORDER BY o")
            assert len(rows) == kept, (how, into, rows)
            ends = database.query("SELECT next_offset FROM tally_offset WHERE group_id = %s",
                                  (how,))
            # A record that does not fit stops behind what came before it.
            assert ends == [(1 if how == "silent" else 0,)], (how, into, ends)
            database.query("DELETE FROM seen")
    # A statement that fails ends a PostgreSQL transaction; SQLite goes on without that statement.
    said = run(program, "callback", "swallow", postgres.url(), "one", broker.address)
    assert said.startswith("-22 ") and "must return the first error" in said, said
    assert postgres.query("SELECT count(*) FROM seen") == [(0,)]


def test_many_records_a_call(program, folder, broker, postgres):
    broker.create("some", 1)
    broker.create("dead", 1)
    p = kafka.Producer({"bootstrap.servers": broker.address})
    for n in range(250):  # more than one call brings
        p.produce("some", b"v", headers=[("h", f"of {n}")] if n % 3 else None)
    p.flush()
    wanted = [(n, f"of {n}" if n % 3 else None) for n in range(250) if n != 3]
    for database, into in ((world.Sqlite(folder), f"sqlite:{folder}/rows.db"),
                           (postgres, postgres.url())):
        for how in "named", "unknown":
            said = run(program, "some", how, into, "some", broker.address)
            assert said.startswith("0 "), (how, into, said)
            rows = database.query("SELECT o, header FROM many ORDER BY o")
            assert rows == wanted, (how, into, rows)
            assert (250,) in database.query("SELECT next_offset FROM tally_offset")
            database.query("DELETE FROM many")
    assert len(world.log_of(broker.address, "dead")) == 4 # one a run
    said = run(program, "some", "both", f"sqlite:{folder}/rows.db", "some", broker.address)
    assert said.startswith("-22 ") and "not both" in said, said
    said = run(program, "some", "old", f"sqlite:{folder}/old.db", "some", broker.address)
    assert said.startswith("0 "), said
    db = sqlite3.connect(folder / "old.db")
    assert db.execute("SELECT count(*) FROM seen").fetchone() == (250,)
    db.close()


def test_until_end_while_more_comes(program, folder, broker, _):
    """What was there at the start is stored: that is the end, though more comes than is stored."""
    broker.create("flood", 1)
    world.tally("produce", "flood", "--format", "lines", "--bootstrap", broker.address,
                text="0\n" * 1000)
    flood = subprocess.Popen(
        ["sh", "-c", 'yes | "$0" produce flood --format lines --rate 2000 --bootstrap "$1"',
         world.ROOT / "build/tally", broker.address],
        stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        said = run(program, "slow", f"sqlite:{folder}/slow.db", "flood", broker.address)
        assert said.startswith("0 ") and flood.poll() is None, said
    finally:
        os.killpg(flood.pid, signal.SIGKILL)
        flood.wait()


def main():
    with world.Folder() as folder:
        broker, postgres = world.Broker(folder), world.Postgres(folder)
        try:
            for topic, partitions, n in (("t", 3, RECORDS), ("one", 1, 5)):
                broker.create(topic, partitions)
                world.tally("produce", topic, "--format", "lines", "--bootstrap", broker.address,
                            text="".join(f"{i}\n" for i in range(n)))
            return world.run_tests("library", globals(), sys.argv[1], folder, broker, postgres)
        finally:
            postgres.stop()
            broker.stop()


if __name__ == "__main__":
    sys.exit(main())
