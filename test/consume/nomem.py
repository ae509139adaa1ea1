#!/usr/bin/env python3
"""libtally without memory: every single allocation of it fails once. What comes out is an error
that says so, or a run that is exact all the same; never a crash.

usage: nomem.py     ends with "N passed, N failed" """
import subprocess
import sys

import world

PROGRAM = world.ROOT / "build/test/consume/nomem"
RECORDS = 30


def main():
    passed = failed = 0
    with world.Folder() as folder:
        broker, postgres = world.Broker(folder), world.Postgres(folder)
        try:
            broker.create("t", 2)
            world.tally("produce", "t", "--format", "lines", "--bootstrap", broker.address,
                        text="".join(f"{i}\n" for i in range(RECORDS)))
            for database, into in ((world.Sqlite(folder), f"sqlite:{folder}/rows.db"),
                                   (postgres, postgres.url())):
                n, kind = 0, type(database).__name__
                while True:
                    done = subprocess.run([PROGRAM, into, "t", "g", broker.address, str(n)],
                                          capture_output=True, text=True, timeout=60)
                    words = done.stdout.split(None, 2)
                    is_good = done.returncode == 0 and words and words[1] in ("0", "-12")
                    passed, failed = passed + is_good, failed + (not is_good)
                    if not is_good:
                        print(f"{kind}, allocation {n}: status {done.returncode}, "
                              f"{done.stdout}{done.stderr}")
                    if not words or n > int(words[0]) or failed > 5:
                        break  # further than the run allocates
                    n += 1
                    if n > 1:  # from the start again; otherwise there is nothing to do
                        rows = database.query("SELECT count(*), count(DISTINCT v) FROM seen")
                        (ends,), = database.query("SELECT sum(next_offset) FROM tally_offset"
                                                  " WHERE next_offset >= 0")
                        if rows[0][0] != rows[0][1] or rows[0][0] != (ends or 0):
                            failed += 1
                            print(f"{kind}, allocation {n - 1}: {rows} rows, offsets {ends}")
                        if rows[0][0] == RECORDS:
                            database.query("DELETE FROM seen")
                            database.query("DELETE FROM tally_offset")
                print(f"{kind}: {n} allocations failed one after the other", flush=True)
        finally:
            postgres.stop()
            broker.stop()
    print(f"nomem: {passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
