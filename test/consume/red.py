#!/usr/bin/env python3
"""kills.py and the model against variants, each without one safeguard. Both must find wrong rows
with each of them, or they prove nothing about the real one.

  no-fence        the claim epoch left out of the UPDATE: a zombie stores under the next owner
  no-compare      next_offset left out: a COMMIT that arrives late makes records come twice
  blind           both left out
  kafka-offsets   where to start is what was committed to Kafka, after the transaction

usage: red.py [VARIANT...]     ends with "N passed, N failed"; to be found out is to pass"""
import concurrent.futures
import subprocess
import sys
import time

import world

# PostgreSQL for no-compare: SQLite has no COMMIT that arrives late.
VARIANTS = {"no-fence": "sqlite", "no-compare": "postgres", "blind": "sqlite",
            "kafka-offsets": "sqlite"}
SECONDS = 120  # at most: a run ends when something is wrong, mostly within ten
SIDE_BY_SIDE = 2  # they wait for sessions to end more than they work


def run(name):
    """What both say: a list of (what, whether it was found out, lines)."""
    model = [world.ROOT / f"build/bugs/model-{name}", "--runs", "1000", "--expect-red"]
    kills = ["/usr/bin/python3", world.ROOT / "test/consume/kills.py", "--database",
             VARIANTS[name], "--seconds", str(SECONDS), "--expect-red", "--watch", "--tally",
             world.ROOT / f"build/bugs/tally-{name}"]
    said = []
    for what, argv in (("model", model), ("kills", kills)):
        started = time.monotonic()
        done = subprocess.run(argv, capture_output=True, text=True)
        said.append((f"{what}, {time.monotonic() - started:.0f} s", done.returncode == 0,
                     (done.stdout + done.stderr).splitlines()[:12]))
    return said


def main():
    passed = failed = 0
    names = sys.argv[1:] or list(VARIANTS)
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for name, said in zip(names, pool.map(run, names)):
            for what, is_found, lines in said:
                passed, failed = passed + is_found, failed + (not is_found)
                print(f"--- {name}, {what}: {'found out' if is_found else 'NOT FOUND'}")
                print("\n".join("    " + line for line in lines), flush=True)
    print(f"red: {passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
