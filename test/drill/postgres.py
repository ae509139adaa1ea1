#!/usr/bin/env python3
"""--evidence sql:postgres: rows of a real PostgreSQL say what was worked on. Right and wrong
consumers, rows of former runs, and bad input.

    test/drill/postgres.py [--tally build/tally]
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
sys.path.insert(0, str(ROOT / "test/consume"))

import world  # noqa: E402

QUICK = "heartbeat.interval.ms=300"
passed = failed = 0


def check(name, ok, detail=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print(f"FAILED {name}: {detail}", flush=True)


def drill(tally, *argv):
    return subprocess.run([tally, "drill", *argv], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "LC_ALL": "C"})


def consumer(order, url):
    return ["/usr/bin/python3", str(ROOT / "test/drill/postgres_consumer.py"), order, url, QUICK]


def verdicts(tally, url, evidence, command, *argv):
    done = drill(tally, *argv, "--json", "--evidence", f"sql:{url}:{evidence}", "--", *command)
    try:
        return json.loads(done.stdout), done
    except ValueError:
        return {"control": None, "drills": []}, done


def rows(server, table, topic, part="partition", offset="record_offset"):
    return {(p, o): n for p, o, n in server.query(
        f"SELECT {part}, {offset}, count(*) FROM {table} WHERE topic = %s GROUP BY 1, 2", (topic,))}


def truth(name, d, seen):
    """What the drill says against the table read without it."""
    twice = {k: n for k, n in seen.items() if n > 1}
    check(f"{name}: repeated", {(f["partition"], f["offset"]): f["times"]
                                for f in d["repeated"]} == twice, (d["repeated"], twice))
    check(f"{name}: missed", not [f for f in d["missed"] if (f["partition"], f["offset"]) in seen],
          d["missed"])
    check(f"{name}: records", len(seen) + len(d["missed"]) + d["excused"] == d["records"],
          (len(seen), d["records"]))


def topics(server, table):
    return [t for t, in server.query(f"SELECT DISTINCT topic FROM {table} ORDER BY 1")]


def once(tally, server):
    """Exactly once, its offset in the same transaction; twice, on a database that is not new."""
    command = ["/usr/bin/python3", str(ROOT / "examples/python/exactly_once_postgres.py"),
               server.url(), QUICK]
    known = set()
    for case in ("manual-commit-repeat", "session-timeout"):
        out, done = verdicts(tally, server.url(), "SELECT topic, partition, record_offset"
                             " FROM results", command, case, "--expect", "exactly-once")
        check(f"once, {case}: status", done.returncode == 0, done)
        for d in out["drills"]:
            check(f"once, {case}: verdict", d["verdict"] == "pass" and d["certainty"] == "certain",
                  d)
            topic = next((t for t in topics(server, "results") if t not in known and
                          len(rows(server, "results", t)) == d["records"]), None)
            check(f"once, {case}: a topic of its own", topic, topics(server, "results"))
            if topic:
                truth(f"once, {case}", d, rows(server, "results", topic))
        known |= set(topics(server, "results"))


def wrong(tally, server):
    query = "WITH r AS (SELECT * FROM done) SELECT topic, part AS partition, off::text AS offset" \
            " FROM r"
    cases = (("work-first", "manual-commit-repeat", "exactly-once", "repeated"),
             ("work-first", "commit-first-miss", "at-least-once", None),
             ("commit-first", "commit-first-miss", "at-least-once", "missed"))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ran = pool.map(lambda c: verdicts(tally, server.url(), query,
                                          consumer(c[0], server.url()), c[1], "--expect", c[2],
                                          "--timeout", "60"), cases)
    for (order, case, expect, finds), (out, done) in zip(cases, ran):
        name = f"{order}, {case}"
        check(f"{name}: status", done.returncode == (1 if finds else 0), done)
        for d in out["drills"]:
            check(f"{name}: verdict", d["verdict"] == ("fail" if finds else "pass"), d)
            check(f"{name}: certain", d["certainty"] == "certain", d["certainty"])
            check(f"{name}: finds", not finds or d[finds], d)
            if finds:
                truth(name, d, rows(server, "done", d[finds][0]["topic"], "part", "off"))


def keys(tally, server):
    """A query that gives keys only: what is there from before does not count."""
    command = consumer("work-first", server.url())
    out, done = verdicts(tally, server.url(), "SELECT name FROM done", command,
                         "manual-commit-repeat", "--expect", "exactly-once")
    check("keys: status", done.returncode == 1, done)
    check("keys: repeated", out["drills"] and out["drills"][0]["repeated"], out)
    # The same keys again in each run of a set, as a file has them.
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        f.writelines(f'{{"id":"k-{i}"}}\n' for i in range(5000))
        f.flush()
        out, done = verdicts(tally, server.url(), "SELECT name FROM done", command,
                             "manual-commit-repeat", "--records", f.name, "--key", "id")
        check("keys of a file: status", done.returncode == 0, done)
        check("keys of a file: control", out["control"] == "passed", out)


def restart(tally, server):
    """The database goes away in the middle and comes back: waited for, nothing judged meanwhile."""
    command = consumer("work-first", server.url())
    child = subprocess.Popen([tally, "drill", "join", "--json", "--evidence",
                              f"sql:{server.url()}:SELECT topic, part AS partition, off AS offset"
                              " FROM done", "--", *command], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
    start = len(topics(server, "done"))
    world.wait_until(lambda: len(topics(server, "done")) > start, "a first row")
    server.disturb()
    out, err = child.communicate(timeout=240)
    check("restart: status", child.returncode == 0, (child.returncode, out[-1500:], err[-1500:]))


def bad(tally, server):
    free = world.free_port()
    true = ["--", "true"]
    cases = [
        (f"sql:postgres://tally@127.0.0.1:{free}/x:SELECT 1", [],
         r"evidence: database 127\.0\.0\.1/x: .*refused"),
        (f"sql:{server.url()}x:SELECT 1", [], r"database \"postgresx\" does not exist"),
        (f"sql:{server.url()}", [], r"sql:postgres:URL:QUERY with a query"),
        (f"sql:{server.url()}:DELETE FROM done", [], r"sql:postgres:URL:QUERY with a query"),
        (f"sql:{server.url()}:WITH d AS (DELETE FROM done RETURNING *) SELECT * FROM d", [],
         r"the evidence query must only read"),
        (f"sql:{server.url()}:SELECT 1; DROP TABLE done", [], r"multiple commands"),
        (f"sql:{server.url()}:SELECT FROM WHERE", [], r"syntax error .* in: SELECT FROM WHERE"),
        (f"sql:{server.url()}:SELECT nothing FROM done", [], r"column \"nothing\" does not exist"),
        ("sql:postgres:host=h port=x=y:SELECT 1", [], r"evidence: .*port|no connection that libpq"),
        ("sql:postgres:nonsense here:SELECT 1", [], r"no connection that libpq knows"),
        ("sql:mysql:x:SELECT 1", [], r"sqlite:FILE:QUERY or sql:postgres:URL:QUERY"),
        (f"sql:{server.url()}:SELECT topic, part, off FROM done", ["--topic", "KNOWN"],
         r"has \d+ rows for topic \"drill-[0-9a-f]+\" already.*leave --topic out"),
        (f"sql:{server.url()}:SELECT part AS partition, off AS offset FROM done", [],
         r"rows for topic .* already.*let the query give the topic"),
    ]
    for evidence, more, expected in cases:
        more = [topics(server, "done")[0] if m == "KNOWN" else m for m in more]
        done = drill(tally, "join", *more, "--evidence", evidence, *true)
        said = [x for x in done.stderr.splitlines() if x.startswith("tally drill: ")]
        check(f"{evidence}: status", done.returncode == 2, done)
        check(f"{evidence}: message", len(said) == 1 and re.search(expected, said[0]), done.stderr)
    done = drill(tally, "join", "--evidence",
                 f"sql:postgres://tally:secret@127.0.0.1:{free}/x:SELECT 1", *true)
    check("no password in messages", done.returncode == 2 and "secret" not in done.stderr, done)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--tally", default=str(ROOT / "build/tally"))
    args = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="tally-drill-pg.") as folder:
        server = world.Postgres(folder)
        try:
            with concurrent.futures.ThreadPoolExecutor() as pool:
                for _ in pool.map(lambda part: part(args.tally, server), (once, wrong, keys)):
                    pass
            restart(args.tally, server)
            bad(args.tally, server)
        finally:
            server.stop()
    print(f"drills on PostgreSQL: {passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
