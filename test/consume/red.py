#!/usr/bin/env python3
"""kills.py and the model against variants, each without one safeguard. Both must find wrong rows
with each of them, or they prove nothing about the real one.

  no-fence        the claim epoch left out of the UPDATE: a zombie stores under the next owner
  no-compare      next_offset left out: a COMMIT that arrives late makes records come twice
  blind           both left out
  kafka-offsets   where to start is what was committed to Kafka, after the transaction

usage: red.py [VARIANT...]     ends with "N passed, N failed"; to be found out is to pass"""
import subprocess
import sys

import world

# PostgreSQL for no-compare: SQLite has no COMMIT that arrives late.
VARIANTS = {"no-fence": "sqlite", "no-compare": "postgres", "blind": "sqlite",
            "kafka-offsets": "sqlite"}
SECONDS = 90  # at most: a run ends when something is wrong, mostly within ten


def main():
    passed = failed = 0
    for name in sys.argv[1:] or VARIANTS:
        model = [world.ROOT / f"build/bugs/model-{name}", "--runs", "5000", "--expect-red"]
        kills = ["/usr/bin/python3", world.ROOT / "test/consume/kills.py", "--database",
                 VARIANTS[name], "--seconds", str(SECONDS), "--expect-red", "--watch", "--tally",
                 world.ROOT / f"build/bugs/tally-{name}"]
        for what, argv in (("model", model), ("kills", kills)):
            done = subprocess.run(argv, capture_output=True, text=True)
            is_found = done.returncode == 0
            passed, failed = passed + is_found, failed + (not is_found)
            print(f"--- {name}, {what}: {'found out' if is_found else 'NOT FOUND'}")
            said = (done.stdout + done.stderr).splitlines()[:12]
            print("\n".join("    " + line for line in said), flush=True)
    print(f"red: {passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
