#!/usr/bin/env python3
"""make bench: tally beside a real Apache Kafka and what the machine can do, under the same load.

QUICK=1 makes it short. Writes build/bench/results.json, bench/report.md and the plots beside it.

Each measurement is taken in turn, A B A B, on servers that were warmed up. Costs are CPU-seconds
of the server process from /proc; what is compared is as durable on both sides."""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import marks
import report
from peers import (DURABLE, JARS, KAFKA, LIMIT, OUT, ROOT, TALLY, Kafka, Tally, raise_file_limit,
                   run)


def build():
    OUT.mkdir(parents=True, exist_ok=True)
    if not TALLY.exists():
        sys.exit("bench: build/tally is missing; run make")
    run("gcc", "-std=gnu17", "-O2", "-D_GNU_SOURCE", "-o", LIMIT, ROOT / "bench/limit.c",
        "-lpthread")
    run(KAFKA, "fetch")


class Bench:
    """The servers, started when first wanted, and what was measured."""

    def __init__(self, quick):
        self.quick = quick
        self.rounds = 2 if quick else 3
        self.work = OUT / "work"
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.servers = {}
        self.results = {}
        self.growth = {}
        self.took = {}  # seconds of each measurement

    def pick(self, quick, full):
        return quick if self.quick else full

    def path(self, name):
        return self.work / name

    def server(self, kind, name="main", *settings):
        """kind tally or kafka; one server for each name."""
        key = f"{kind}-{name}"
        if key not in self.servers:
            make = Tally if kind == "tally" else Kafka
            self.servers[key] = make(self.path(key), *settings)
        return self.servers[key]

    def durable(self, kind):
        return self.server(kind, "durable", *DURABLE[kind])

    def drop(self, kind, name):
        server = self.servers.pop(f"{kind}-{name}", None)
        if server:
            server.stop()
            shutil.rmtree(server.dir, ignore_errors=True)

    def alternate(self, measure, kinds=("tally", "kafka"), rounds=None):
        """measure(kind) in turn; {kind: [value of each round]}."""
        got = {k: [] for k in kinds}
        for _ in range(rounds or self.rounds):
            for kind in kinds:
                got[kind].append(measure(kind))
        return got

    def record(self, name, values, unit, **more):
        self.results[name] = {"unit": unit, "values": values, **more}
        shown = "  ".join(f"{k} {statistics.median(v):.4g}" for k, v in values.items())
        print(f"{name:34} {shown} {unit}", flush=True)

    def grow(self, name, x_label, unit, points):
        """points: {kind: [(x, value)]}"""
        self.growth[name] = {"x": x_label, "unit": unit, "points": points}
        for kind, line in points.items():
            print(f"{name:34} {kind} " + "  ".join(f"{x}: {v:.4g}" for x, v in line) + f" {unit}",
                  flush=True)

    def close(self):
        for server in self.servers.values():
            server.stop()
        shutil.rmtree(self.work, ignore_errors=True)


def machine():
    cpu = next((line.split(":")[1].strip() for line in
                pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), "unknown")
    return {"cpu": cpu, "cores": os.cpu_count(), "load_before": os.getloadavg()[0],
            "kernel": os.uname().release,
            "kafka": next((p.name.removeprefix("kafka-clients-").removesuffix(".jar")
                           for p in JARS.glob("kafka-clients-*.jar")), "?"),
            "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True,
                                     capture_output=True).stdout.strip()}


def save(bench, file, about):
    data = {"machine": about, "results": bench.results, "growth": bench.growth,
            "took": bench.took}
    file.write_text(json.dumps(data, indent=1) + "\n")
    report.write(data)


def seconds_of(name, bench, before):
    """What it takes: as long as the last time, or what stands in the table."""
    return before.get(name) or marks.SECONDS[name][0 if bench.quick else 1]


def measure(bench, name, left_s):
    """True unless it failed."""
    print(f"-- {name}; with what is behind it about {left_s / 60:.0f} min", flush=True)
    began, is_fine = time.monotonic(), True
    try:
        marks.MEASUREMENTS[name](bench)
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:  # OSError: a server is gone
        is_fine = False
        print(f"{name:34} FAILED: {e}", flush=True)
    bench.took[name] = round(time.monotonic() - began)
    return is_fine


def options():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", metavar="NAME", help="only these measurements")
    p.add_argument("--list", action="store_true", help="names them")
    o = p.parse_args()
    unknown = [n for n in o.names if n not in marks.MEASUREMENTS]
    if unknown:
        p.error(f"no measurement {unknown[0]}; run.py --list names them")
    return o


def main():
    o = options()
    names = o.names
    if o.list:
        print("\n".join(marks.MEASUREMENTS))
        return 0
    raise_file_limit()
    build()
    quick = os.environ.get("QUICK", "") not in ("", "0")
    file = OUT / "results.json"
    about = machine()
    bench = Bench(quick)
    before = {}
    if file.exists():
        old = json.loads(file.read_text())
        if old["machine"].get("quick") == quick:
            before = old.get("took", {})
        if names:  # a part is measured anew, the rest stays
            bench.results, bench.growth = old["results"], old["growth"]
            bench.took = dict(before)
    began, failed, todo = time.monotonic(), [], names or list(marks.MEASUREMENTS)
    try:
        for i, name in enumerate(todo):
            left_s = sum(seconds_of(n, bench, before) for n in todo[i:])
            if not measure(bench, name, left_s):
                failed.append(name)
            # Each time, so that a run that is broken off keeps what it measured.
            about.update(quick=quick, seconds=round(time.monotonic() - began), failed=failed)
            save(bench, file, about)
    finally:
        bench.close()
    print(f"{file.relative_to(ROOT)}, bench/report.md: {len(failed)} measurements failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
