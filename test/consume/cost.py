#!/usr/bin/env python3
"""What exactly once costs: rows a second of tally consume, as a ratio to the same rows inserted
with no Kafka and no fence, one transaction a batch. tally puts ten rows into a statement where it
can; a plain program is measured both ways, with a statement a row as most are written, and with ten
(a batch of one has one either way).

usage: cost.py [--rounds N] [--bytes N] [--database sqlite|postgres] [--batch N]
               [--check]
--check: exit status 1 when a ratio at 100 is below 0.8

They take turns and the medians are compared; "best" compares the best rounds, "tens" and the "best"
after it are the same against ten rows a statement. A busy machine slows all, tally consume most:
it has a broker and threads that want to run too."""
import argparse
import datetime
import re
import statistics
import subprocess
import sys

import confluent_kafka as kafka

import world

ROWS = {"sqlite": {1: 50000, 100: 600000, 10000: 600000},
        "postgres": {1: 5000, 100: 80000, 10000: 80000}}
COLUMNS = ("(topic TEXT, partition INTEGER, record_offset BIGINT, record_time BIGINT, key {b},"
           " value {b})")
TIME = re.compile(r"time=(\S+)Z event=(claimed|released)")


def consume_s(broker, into, table, batch, group):
    done = world.tally("consume", "work", "--group", group, "--into", into, "--table", table,
                       "--batch", batch, "--until-end", "--bootstrap", broker.address)
    times = [(e, datetime.datetime.fromisoformat(t)) for t, e in TIME.findall(done.stderr)]
    first = min(t for e, t in times if e == "claimed")
    last = max(t for e, t in times if e == "released")
    return (last - first).total_seconds()


def insert_s(into, table, rows, batch, size, rows_a_statement):
    return float(subprocess.run([world.ROOT / "build/test/consume/insert", into, table, str(rows),
                                 str(batch), str(size), str(rows_a_statement)], check=True,
                                capture_output=True, text=True).stdout)


def fill(broker, rows, size):
    broker.create("work", 1)
    p = kafka.Producer({"bootstrap.servers": broker.address, "linger.ms": 20,
                        "queue.buffering.max.messages": 1000000,
                        "queue.buffering.max.kbytes": 2000000})
    for _ in range(rows):
        p.produce("work", b"v" * size, partition=0)
    p.flush()


def measure(kind, database, into, batch, args, folder):
    rows = ROWS[kind][batch]
    (folder / f"{kind}{batch}").mkdir()
    broker = world.Broker(folder / f"{kind}{batch}")
    ours, plain, tens = [], [], []
    try:
        fill(broker, rows, args.bytes)
        for r in range(args.rounds):
            for what, seconds in (("ours", ours), ("plain", plain), ("tens", tens)):
                table = f"{what}_{batch}_{r}"
                binary = "BLOB" if kind == "sqlite" else "BYTEA"
                database.query(f"CREATE TABLE {table} {COLUMNS.replace('{b}', binary)}")
                seconds.append(consume_s(broker, into, table, batch, table) if what == "ours"
                               else insert_s(into, table, rows, batch, args.bytes,
                                             min(batch, 10) if what == "tens" else 1))
                (n,), = database.query(f"SELECT count(*) FROM {table}")
                assert n == rows, (n, rows)
                database.query(f"DROP TABLE {table}")
    finally:
        broker.stop()
    ratio = statistics.median(plain) / statistics.median(ours)
    print(f"{kind:9} {batch:6}  {rows / statistics.median(ours):10.0f}"
          f" {rows / statistics.median(plain):10.0f}   {ratio:5.2f}  {min(plain) / min(ours):5.2f}"
          f"   {statistics.median(tens) / statistics.median(ours):5.2f}"
          f"  {min(tens) / min(ours):5.2f}", flush=True)
    return ratio


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--bytes", type=int, default=100, help="size of a value")
    p.add_argument("--database", choices=("sqlite", "postgres"))
    p.add_argument("--batch", type=int, choices=(1, 100, 10000))
    p.add_argument("--check", action="store_true")
    args = p.parse_args()
    print(f"rows a second, values of {args.bytes} bytes, median of {args.rounds}\n"
          "database   batch   consumed   inserted   ratio   best    tens   best")
    ratios = {}
    with world.Folder() as folder:
        postgres = world.Postgres(folder, fsync=True)
        try:
            sqlite = world.Sqlite(folder)
            for kind, database, into in (("sqlite", sqlite, f"sqlite:{sqlite.file}"),
                                         ("postgres", postgres, postgres.url())):
                for batch in (1, 100, 10000):
                    if args.database not in (None, kind) or args.batch not in (None, batch):
                        continue
                    ratios[kind, batch] = measure(kind, database, into, batch, args, folder)
        finally:
            postgres.stop()
    if args.check:
        slow = [k for k, r in ratios.items() if k[1] == 100 and r < 0.8]
        print(f"cost: {2 - len(slow)} passed, {len(slow)} failed")
        return bool(slow)
    return 0


if __name__ == "__main__":
    sys.exit(main())
