#!/usr/bin/env python3
"""No drill may blame a right consumer, or pass a wrong one, for being written in an unusual way:
the consumers of odd_consumers.py, right and wrong, each with the verdict that is true.

    test/drill/odd.py [--tally build/tally] [--kind NAME[,NAME...]]
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONSUMERS = ROOT / "test/drill/odd_consumers.py"
AT_ONCE = 5  # they wait most of the time

SQL = "sql:sqlite:{dir}/results.db:SELECT topic, partition, record_offset FROM results"
ONCE = ["--expect", "exactly-once"]
# kind, case, options, verdict, what must be found or said ("missed", "repeated", a pattern of
# the reason, or of the advice after "do: "); then settings of the consumer.
ROWS = [
    # Right ones.
    ("plain", "manual-commit-repeat", [], "pass", "repeated", "fetch.message.max.bytes=300"),
    ("plain", "session-timeout", [], "pass", "", "fetch.message.max.bytes=300"),
    ("plain", "manual-commit-repeat", [], "pass", "repeated", "auto.offset.reset=error"),
    ("slow", "auto-commit-miss", [], "pass", "0 of 20 commits ran ahead"),
    ("two_topics", "auto-commit-miss", [], "pass", "0 of 20 commits ran ahead"),
    ("static", "leave", ONCE, "pass", ""),
    ("cooperative", "join", [], "pass", ""),
    ("pair", "manual-commit-repeat", [], "pass", "repeated"),
    ("pair", "rolling-restart", ONCE, "pass", ""),
    ("assigned", "auto-commit-miss", [], "pass", "0 of 20 commits ran ahead"),
    ("assigned", "session-timeout", [], "inconclusive", "is in no group"),
    ("threads", "auto-commit-miss", [], "pass", "0 of 20 commits ran ahead"),
    ("batches", "auto-commit-miss", [], "pass", "0 of 20 commits ran ahead"),
    ("batches", "rolling-restart", ONCE, "pass", ""),
    ("locks", "session-timeout", ["--evidence", SQL], "pass", "repeated", "{dir}/results.db"),
    # What they show is not what they did, or cannot be told from it.
    ("twice", "join", [], "inconclusive", "every record shows twice"),
    ("buffered", "commit-first-miss", [], "inconclusive", "only when the copies were stopped"),
    ("hoard", "join", ["--timeout", "12"], "inconclusive", "wait for more"),
    ("swallows", "join", [], "inconclusive", "6 of 2.. records were committed and do not show"),
    ("wordy", "join", ["--records", "NUMBERS", "--key", "id"], "inconclusive", "of digits only"),
    ("wordy", "auto-commit-miss", ["--records", "NUMBERS", "--key", "id",
                                   "--match", "customer {key}"], "pass", "0 of 20 commits"),
    ("dedupe", "manual-commit-repeat", ONCE, "inconclusive", "such as \"skipped drill/"),
    ("dedupe_first", "manual-commit-repeat", [], "pass", "repeated"),
    ("dedupe_first", "manual-commit-repeat", ["--match", "^{topic}/{partition}/{offset}"],
     "pass", ""),
    ("mixing", "join", [], "inconclusive", "ran into one another"),
    # Wrong ones.
    ("threads_wrong", "auto-commit-miss", [], "fail", "missed"),
    ("threads_wrong", "commit-first-miss", [], "fail", "missed"),
    ("off_by_one", "rolling-restart", ONCE, "fail", "repeated"),
    ("from_start", "join", [], "fail", "repeated"),
    ("never_commits", "join", [*ONCE, "--timeout", "40"], "fail", "do: no copy has committed"),
    ("brittle", "join", [], "fail", "ended 11 times by itself .exited with status 7.*cannot bear"),
    ("commit_end", "retention-overtook", [], "fail", "missed"),
]


def look(out, done, verdict, wanted):
    drill = out["drills"][-1]
    wrong = []
    if drill["verdict"] != verdict:
        wrong.append(f"verdict {drill['verdict']}, not {verdict}: {drill.get('why')}")
    if done.returncode != {"pass": 0, "fail": 1, "inconclusive": 2}[drill["verdict"]]:
        wrong.append(f"exit status {done.returncode}")
    if wanted in ("missed", "repeated"):
        if not drill[wanted]:
            wrong.append(f"nothing {wanted}")
    elif wanted.startswith("do: "):
        if not re.search(wanted[4:], " ".join(drill["advice"])):
            wrong.append(f"the advice is {drill['advice']!r}, not {wanted!r}")
    elif not re.search(wanted, drill.get("why", "")):
        wrong.append(f"the reason is {drill.get('why')!r}, not {wanted!r}")
    found = {c for c in ("missed", "repeated") if drill[c]}
    said = {i["class"] for i in drill["incidents"]} & {"missed", "repeated"}
    if not said <= found and not drill["excused"]:
        wrong.append(f"found {sorted(found)}, but the incidents say {sorted(said)}")
    return wrong


def run(args, row):
    kind, case, options, verdict, wanted, *settings = row
    # With it Python writes a line and its end apart, and the lines of two processes mix.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    env.update(TALLY_WORK_MS="80" if kind == "slow" else "2")
    with tempfile.TemporaryDirectory(prefix="tally-odd.") as folder:
        numbers = pathlib.Path(folder) / "numbers.json"
        numbers.write_text("".join(f'{{"id":"{i}"}}\n' for i in range(1, 5000)))
        options = [str(numbers) if o == "NUMBERS" else o for o in options]
        command = ["/usr/bin/python3", str(CONSUMERS), "plain" if kind == "slow" else kind,
                   "heartbeat.interval.ms=300", *settings]
        done = subprocess.run([args.tally, "drill", case, "--json", *options, "--", *command],
                              capture_output=True, text=True, env=env)
    try:
        out = json.loads(done.stdout)
        return row, out["drills"][-1], look(out, done, verdict, wanted)
    except (ValueError, LookupError):
        return row, {}, [f"exit status {done.returncode}\n{done.stdout}\n{done.stderr[-2000:]}"]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--tally", default=str(ROOT / "build/tally"))
    p.add_argument("--kind")
    args = p.parse_args()
    rows = [r for r in ROWS if not args.kind or r[0] in args.kind.split(",")]
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for row, drill, wrong in pool.map(lambda r: run(args, r), rows):
            print(f"{'BAD' if wrong else 'ok '} {row[0]:14} {row[1]:21} "
                  f"{drill.get('verdict', '?'):12} missed {len(drill.get('missed', [])):4} "
                  f"repeated {len(drill.get('repeated', [])):4} {drill.get('seconds', 0):5.1f} s  "
                  f"{' '.join(row[2] + list(row[5:]))}", flush=True)
            for w in wrong:
                print(f"      {w}", flush=True)
            bad += bool(wrong)
    print(f"odd-consumers: {len(rows) - bad} passed, {bad} failed")
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
