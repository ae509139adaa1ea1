#!/usr/bin/env python3
"""Runs the suites of test/suites, goes on after a failure, and ends with "N passed, N failed".

usage: run_tests.py GROUP [NAME...]     e.g. run_tests.py check, run_tests.py check tidy sim
       run_tests.py --total FILE        the closing line for several runs (see TALLY_RESULTS)

A suite is one shell command. What it prints goes to build/logs; the counts are taken from its own
closing lines. A suite that fails without counting a failure counts as one. TALLY_RESULTS names a
file to which the counts of a run are added; what failed is said again by --total, since whoever
reads a long log reads its end."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOGS = ROOT / "build/logs"
TAIL_LINES = 60
BAD_LINES = 12
BAD = re.compile(r"FAIL|BAD|[Ee]rror|wrong|assert|not done after|Sanitizer")

CMOCKA_PASSED = re.compile(r"^\[  PASSED  \] (\d+) test\(s\)\.$", re.M)
CMOCKA_FAILED = re.compile(r"^\[  FAILED  \] .*?(\d+) test\(s\), listed below:$", re.M)
PLAIN = re.compile(r"^(?:\S+: )?(\d+) passed, (\d+) failed", re.M)


def suites(group):
    for line in (ROOT / "test/suites").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            of, name, seconds, command = line.split(None, 3)
            if of == group:
                yield name, int(seconds), command


def counts(text, status):
    passed = sum(int(n) for n in CMOCKA_PASSED.findall(text))
    failed = sum(int(n) for n in CMOCKA_FAILED.findall(text))
    for p, f in PLAIN.findall(text):
        passed, failed = passed + int(p), failed + int(f)
    if status and not failed:
        failed = 1
    if not status and not passed:
        passed = 1
    return passed, failed


def run_suite(name, seconds, command, log):
    """Exit status; the whole process group is ended when its time is over."""
    child = subprocess.Popen(["bash", "-euo", "pipefail", "-c", command], cwd=ROOT,
                             stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                             start_new_session=True)
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        log.write(f"\n{name}: not done after {seconds} s\n".encode())
        return 124
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def run_group(group, only):
    chosen = [s for s in suites(group) if not only or s[0] in only]
    if not chosen:
        print(f"run_tests: no suite {' '.join(only)} in group {group}", file=sys.stderr)
        return 2
    LOGS.mkdir(parents=True, exist_ok=True)
    all_passed = all_failed = 0
    broken = []
    for name, seconds, command in chosen:
        print(f"{group}: {name} ...", flush=True)
        started, path = time.monotonic(), LOGS / f"{group}-{name}.log"
        with path.open("wb") as log:
            status = run_suite(name, seconds, command, log)
        text = path.read_text(errors="replace")
        passed, failed = counts(text, status)
        if status or failed:
            broken.append(name)
            print("\n".join("    " + line for line in text.splitlines()[-TAIL_LINES:]))
            remember(f"{group}: {name}", text)
        print(f"{group}: {name}: {'FAILED' if status or failed else 'ok'}, {passed} passed, "
              f"{failed} failed, {time.monotonic() - started:.0f} s", flush=True)
        all_passed, all_failed = all_passed + passed, all_failed + failed
    if broken:
        print(f"{group}: failed: {' '.join(broken)} (logs in build/logs)")
    report(all_passed, all_failed)
    return 1 if broken else 0


def remember(suite, text):
    """For the closing words of --total: the lines that look like the reason, and the last ones."""
    if "TALLY_RESULTS" not in os.environ:
        return
    lines = text.splitlines()
    bad = [n for n, line in enumerate(lines) if BAD.search(line)][:BAD_LINES]
    near = sorted({m for n in bad for m in (n, n + 1) if m < len(lines)}
                  | set(range(max(0, len(lines) - 4), len(lines))))
    with open(os.environ["TALLY_RESULTS"] + ".failed", "a") as f:
        f.write(f"{suite} failed:\n" + "".join(f"    {lines[n][:300]}\n" for n in near))


def report(passed, failed):
    if "TALLY_RESULTS" in os.environ:
        with open(os.environ["TALLY_RESULTS"], "a") as f:
            f.write(f"{passed} {failed}\n")
    print(f"{passed} passed, {failed} failed", flush=True)


def total(path):
    rows = [tuple(map(int, line.split())) for line in open(path)]
    passed, failed = (sum(column) for column in zip(*rows)) if rows else (0, 0)
    told = pathlib.Path(path + ".failed")
    if told.exists():
        print(told.read_text(), end="")
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--total":
        sys.exit(total(sys.argv[2]))
    if len(sys.argv) < 2:
        print(__doc__)
        sys.exit(2)
    sys.exit(run_group(sys.argv[1], sys.argv[2:]))
