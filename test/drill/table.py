#!/usr/bin/env python3
"""The table client x drill: each drill must fail a wrong consumer and pass a right one, and what
tally says must be what the consumer's own output, or its database, says when read without tally.

    test/drill/table.py [--tally build/tally] [--client c,python] [--case NAME] [--jobs 2]
                        [--doc FILE]

Exit status 0 when every row came out as it must.
"""
import argparse
import collections
import concurrent.futures
import json
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# case, --expect, (wrong consumer, environment), (right consumer, environment)
LATEST = {"TALLY_RESET": "latest"}
ROWS = [
    ("auto-commit-miss", "at-least-once", ("auto_commit", {}), ("manual_commit", {})),
    ("commit-first-miss", "at-least-once", ("commit_first", {}), ("manual_commit", {})),
    ("auto-commit-repeat", "exactly-once", ("auto_commit", {}), ("exactly_once", {})),
    ("manual-commit-repeat", "exactly-once", ("manual_commit", {}), ("exactly_once", {})),
    ("session-timeout", "exactly-once", ("manual_commit", {}), ("exactly_once", {})),
    ("poll-timeout", "exactly-once", ("manual_commit", {}), ("exactly_once", {})),
    ("join", "exactly-once", ("manual_commit_no_revoke", {}), ("manual_commit", {})),
    ("leave", "exactly-once", ("manual_commit_no_revoke", {}), ("manual_commit", {})),
    ("rolling-restart", "exactly-once", ("manual_commit_no_revoke", {}), ("manual_commit", {})),
    ("partitions-added", "at-least-once", ("manual_commit", LATEST), ("manual_commit", {})),
    ("retention-overtook", "at-least-once", ("manual_commit", LATEST), ("manual_commit", {})),
    ("offset-reset", "exactly-once", ("manual_commit", {}), ("exactly_once", {})),
]

# librdkafka's timer commits also the record that is in hand. Java's and franz-go's auto commit
# writes what earlier polls returned, and a loop that polls again has worked on that; kafkajs's
# writes what its handler has finished. There this drill has nothing to find, and must say so
# after it has looked at commits that were really made (see run()).
PASSES_TOO = {("auto-commit-miss", client, "auto_commit") for client in ("java", "go", "node")}

# Said beside a row of docs/clients.md: why it came out so with this client.
BY_NATURE = {
    ("auto-commit-miss", "java", "auto_commit"):
        "poll() commits what the poll before returned, and the loop has worked on that; work "
        "handed to other threads would be lost",
    ("auto-commit-miss", "go", "auto_commit"):
        "franz-go commits what polls before the last returned, and the loop has worked on that; "
        "work handed to goroutines would be lost",
    ("auto-commit-miss", "node", "auto_commit"):
        "kafkajs commits what the handler has finished",
    ("auto-commit-miss", "c", "auto_commit"):
        "librdkafka's timer commits also the record that is in hand",
    ("auto-commit-miss", "python", "auto_commit"):
        "librdkafka's timer commits also the record that is in hand",
    ("leave", "node", "manual_commit"):
        "by commitOffsetsIfNecessary(offsets): consumer.commitOffsets() does nothing once the "
        "consumer is being disconnected, and repeats what was done last",
    ("rolling-restart", "node", "manual_commit"): "likewise",
}

# What must be found, where a wrong consumer is caught.
FINDS = {"auto-commit-miss": "missed", "commit-first-miss": "missed",
         "partitions-added": "missed", "retention-overtook": "missed"}

SQL = "sql:sqlite:{dir}/results.db:SELECT topic, partition, record_offset FROM results"
# Quick heartbeats, so that a rebalance takes less than the three seconds of the default.
QUICK = {"c": ["heartbeat.interval.ms=300"], "python": ["heartbeat.interval.ms=300"],
         "java": ["heartbeat.interval.ms=300"], "go": ["heartbeat.interval.ms=300"],
         "node": ["heartbeat.interval.ms=300"]}


def command(client, consumer):
    args = QUICK[client]
    if client == "c":
        return [str(ROOT / "build/examples/c" / consumer)] + args
    if client == "python":
        # Debian's, which has its confluent-kafka package.
        return ["/usr/bin/python3", str(ROOT / "examples/python" / f"{consumer}.py")] + args
    if client == "java":
        jars = ROOT / "build/examples/java"
        name = "".join(part.capitalize() for part in consumer.split("_"))
        return ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/classes:{jars}/jars/*",
                "example." + name] + args
    if client == "go":
        return [str(ROOT / "build/examples/go" / consumer)] + args
    return ["node", str(ROOT / "build/examples/node" / f"{consumer}.js")] + args


def read_output(keep):
    """What the copies printed: a count for each topic/partition/offset."""
    seen = collections.Counter()
    for path in sorted(keep.glob("copy-*.out")):
        # A last line without its end may have been cut off by a kill.
        for line in path.read_bytes().decode(errors="replace").split("\n")[:-1]:
            m = re.match(r"(\S+)/(\d+)/(\d+)\b", line)
            if m:
                seen[m[1], int(m[2]), int(m[3])] += 1
    return seen


def read_database(path):
    seen = collections.Counter()
    with sqlite3.connect(path) as db:
        for row in db.execute("SELECT topic, partition, record_offset FROM results"):
            seen[row] += 1
    return seen


def ids(findings):
    return {(f["topic"], f["partition"], f["offset"]): f.get("times", 0) for f in findings}


def check_truth(drill, seen):
    """Compares the lists with an independent reading of the same evidence."""
    wrong = []
    missed, repeated, unfinished = (ids(drill[k]) for k in ("missed", "repeated", "unfinished"))
    twice = {k: n for k, n in seen.items() if n > 1}
    if repeated != twice:
        wrong.append(f"repeated: tally says {len(repeated)}, the evidence {len(twice)}; "
                     f"differing: {sorted(set(repeated.items()) ^ set(twice.items()))[:3]}")
    for k in list(missed) + list(unfinished):
        if k in seen:
            wrong.append(f"{k} is called missed and is in the evidence")
    if len(seen) != drill["processed"]:
        wrong.append(f"processed: tally says {drill['processed']}, the evidence {len(seen)}")
    total = len(seen) + len(missed) + len(unfinished) + drill["excused"]
    if total != drill["records"]:
        wrong.append(f"{drill['records']} records, but {total} are accounted for")
    # An incident may say more exactly why, and nothing else than what was found.
    for i in drill["incidents"]:
        found = set(ids(drill.get(i["class"], []))) | (set(unfinished) if i["class"] == "missed"
                                                       else set())
        inside = {k for k in found if k[:2] == (i["topic"], i["partition"])
                  and i["first"] <= k[2] <= i["last"]}
        if i["class"] in ("missed", "repeated") and len(inside) < i["records"] \
                and not drill["excused"]:
            wrong.append(f"incident {i['class']} {i['cause']} {i['first']}-{i['last']} of "
                         f"{i['records']} records: {len(inside)} of them were found")
    return wrong


def run(args, client, case, expect, consumer, env, verdict):
    keep = pathlib.Path(tempfile.mkdtemp(prefix="tally-table."))
    argv = [args.tally, "drill", case, "--expect", expect, "--json", "--keep", str(keep),
            "--timeout", "90"]
    cmd = command(client, consumer)
    if consumer == "auto_commit":
        cmd.append("auto.commit.interval.ms=1000")
    if consumer == "exactly_once":
        argv += ["--evidence", SQL]
        cmd.insert(1 if client == "c" else len(cmd), "{dir}/results.db")
        # The driver unpacks its native library there, and a killed process leaves it behind.
        if client == "java":
            cmd.insert(1, "-Dorg.sqlite.tmpdir={dir}")
    environ = dict(__import__("os").environ, **env)
    done = subprocess.run(argv + ["--"] + cmd, capture_output=True, text=True, env=environ)
    wrong = []
    drill = {}
    try:
        out = json.loads(done.stdout)
        drill = [d for d in out["drills"] if d["case"] == case][0]
    except (ValueError, IndexError):
        wrong.append(f"no result; exit status {done.returncode}\n{done.stdout[-2000:]}"
                     f"{done.stderr[-2000:]}")
    if drill:
        if drill["verdict"] != verdict:
            wrong.append(f"verdict {drill['verdict']}, not {verdict}: {drill.get('why', '')}")
        if out["control"] != "passed":
            wrong.append(f"control {out['control']}: {[d.get('why') for d in out['drills']]}")
        if verdict == "fail" and not drill[FINDS.get(case, "repeated")]:
            wrong.append(f"nothing {FINDS.get(case, 'repeated')}")
        if done.returncode != {"pass": 0, "fail": 1, "inconclusive": 2}[drill["verdict"]]:
            wrong.append(f"exit status {done.returncode}")
        if (case, client, consumer) in PASSES_TOO and not re.match(
                "0 of 20 commits ran ahead", drill.get("why", "")):
            wrong.append(f"passed without 20 commits looked at: {drill.get('why')}")
        where = keep / case
        seen = (read_database(where / "results.db") if consumer == "exactly_once"
                else read_output(where))
        wrong += check_truth(drill, seen)
    elif not any(keep.iterdir()):
        wrong.append("nothing was kept")
    if not wrong:
        shutil.rmtree(keep)
    return client, case, consumer, env, expect, drill, wrong, keep


def versions():
    """What the examples are built on, by client."""
    pom = (ROOT / "examples/java/pom.xml").read_text()
    go = (ROOT / "examples/go/go.mod").read_text()
    node = json.loads((ROOT / "examples/node/package.json").read_text())
    rdkafka = subprocess.run(["pkg-config", "--modversion", "rdkafka"], capture_output=True,
                             text=True).stdout.strip()
    python = subprocess.run(["/usr/bin/python3", "-c", "import confluent_kafka as k; "
                             "print(k.version()[0], 'on librdkafka', k.libversion()[0])"],
                            capture_output=True, text=True).stdout.strip()
    return {
        "c": f"C, librdkafka {rdkafka}",
        "python": f"Python, confluent-kafka {python}",
        "java": "Java, kafka-clients " + re.search(
            r"kafka-clients</artifactId>\s*<version>([^<]+)", pom)[1],
        "go": "Go, franz-go " + re.search(r"franz-go v(\S+)", go)[1],
        "node": "Node, kafkajs " + node["dependencies"]["kafkajs"],
    }


INTRO = """# What each drill said of each example consumer

Made by `make matrix`, which runs every drill on the consumers in [examples/](../examples); not to
be edited. For each drill a wrong consumer must fail and a right one pass. What tally says is
compared there with the consumer's own output, or its database, read without tally.

The counts are of one run and differ from one to the next; the verdicts do not. *Repeated* records
count also where a drill passes: under at-least-once they are the price agreed to. A miss after a
kill is `likely`: the line that is not there may have died with the process. `manual_commit` commits
when partitions are taken away, `manual_commit_no_revoke` does not; `latest` is
`auto.offset.reset=latest`; `exactly_once` keeps its offset in SQLite, in the transaction of the
result, and is judged by its rows.
"""


def write_doc(path, rows):
    title, out = versions(), [INTRO]
    for client in dict.fromkeys(r[0] for r in rows):
        out.append(f"\n## {title[client]}\n\n| drill | `--expect` | consumer | verdict | missed | "
                   "repeated | certainty | by nature |\n|---|---|---|---|---:|---:|---|---|\n")
        for _, case, consumer, env, expect, d, _, _ in (r for r in rows if r[0] == client):
            note = BY_NATURE.get((case, client, consumer), "")
            if "ran ahead" in d.get("why", "") and not note:
                note = d["why"].split(";")[0]
            out.append(f"| {case} | {expect} | `{consumer}`{' latest' if env else ''} | "
                       f"**{d['verdict']}** | {len(d['missed'])} | {len(d['repeated'])} | "
                       f"{d['certainty']} | {note} |\n")
    pathlib.Path(path).write_text("".join(out))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--tally", default=str(ROOT / "build/tally"))
    p.add_argument("--client", default="c,python")
    p.add_argument("--case")
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--doc", help="write the results there, when all came out as they must")
    args = p.parse_args()
    jobs = []
    for client in args.client.split(","):
        for case, expect, wrong, right in ROWS:
            if args.case and case not in args.case.split(","):
                continue
            for consumer, verdict in ((wrong, "fail"), (right, "pass")):
                if (case, client, consumer[0]) in PASSES_TOO:
                    verdict = "pass"
                jobs.append((client, case, expect, *consumer, verdict))
    bad, rows = 0, []
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for row in pool.map(lambda j: run(args, *j), jobs):
            rows.append(row)
            client, case, consumer, env, _, drill, wrong, keep = row
            name = consumer + (" latest" if env else "")
            print(f"{'ok  ' if not wrong else 'BAD '} {client:7} {case:21} {name:24} "
                  f"{drill.get('verdict', '?'):12} missed {len(drill.get('missed', [])):4} "
                  f"repeated {len(drill.get('repeated', [])):4} "
                  f"{drill.get('certainty', '?'):8} {drill.get('seconds', 0):5.1f} s", flush=True)
            for line in wrong:
                print(f"       {line}", flush=True)
            if wrong:
                print(f"       see {keep}", flush=True)
                bad += 1
    if args.doc and not bad:
        write_doc(args.doc, rows)
    print(f"table: {len(jobs) - bad} passed, {bad} failed")
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
