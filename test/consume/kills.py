#!/usr/bin/env python3
"""Copies of tally consume are killed, frozen beyond their session, told to stop and joined by
others; the database is restarted and its connections are cut in COMMIT; brokers are killed. In
the end every record must have its row exactly once, in order, and no row may have been stored by
an owner whose claim another copy had taken over.

usage: kills.py [--database sqlite|postgres|both] [--seconds N] [--kills N] [--seed N]
                [--tally FILE] [--kafka-nodes N [--kip-848 DIR]] [--expect-red]

--tally names the program the copies run (a variant without one of the safeguards, with
--expect-red: the test must then find rows that are wrong). --kip-848: by the new group protocol,
with the librdkafka of DIR (2.4 or later). Ends with "N passed, N failed"."""
import argparse
import collections
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import psycopg2.errors

import world

PARTITIONS = 6
SESSION_MS = 1000
# A small one ends many transactions; a large one waits for its time, with records in hand.
BATCHES = (20, 200, 1000)
TOPIC = "work"
# Group settings of each group of copies: the mix is part of the test.
STYLES = [
    ("eager", 3, ["partition.assignment.strategy=range"]),
    ("cooperative", 3, ["partition.assignment.strategy=cooperative-sticky"]),
    ("static", 3, ["partition.assignment.strategy=range", "group.instance.id={n}"]),
]
# The new protocol leaves times and assignment to the broker.
NEW_STYLES = [("new", 3, ["group.protocol=consumer"]),
              ("new_static", 3, ["group.protocol=consumer", "group.instance.id={n}"])]
NEW_BROKER = [f"group.consumer.{name}={value}" for name, value in (
    ("min.session.timeout.ms", SESSION_MS), ("session.timeout.ms", SESSION_MS),
    ("min.heartbeat.interval.ms", 200), ("heartbeat.interval.ms", 200))]
TIMES = [f"session.timeout.ms={SESSION_MS}", "heartbeat.interval.ms=200"]
COMMON = ["topic.metadata.refresh.interval.ms=1000", "reconnect.backoff.max.ms=500",
          "fetch.wait.max.ms=50"]

# Faults of librdkafka 2.0.2: one more way for a copy to die, and no reason for a wrong row.
STATIC_FENCED = ["another copy has joined with the same group.instance.id",
                 "another copy has this group.instance.id"]
LIBRDKAFKA_ABORTS = ["rd_kafka_sticky_assignor_state_destroy"]

SQLITE_TABLES = [
    "CREATE TABLE {t} (seq INTEGER PRIMARY KEY, p INTEGER, o INTEGER, epoch INTEGER, v TEXT)",
    "CREATE TABLE {t}_stale (p INTEGER, o INTEGER, epoch INTEGER, now INTEGER)",
    "CREATE TRIGGER {t}_trigger AFTER INSERT ON {t} BEGIN"
    " INSERT INTO {t}_stale SELECT NEW.p, NEW.o, NEW.epoch, claim_epoch FROM tally_offset"
    " WHERE group_id = '{t}' AND partition = NEW.p AND claim_epoch > NEW.epoch; END",
]
POSTGRES_TABLES = [
    "CREATE TABLE {t} (seq BIGSERIAL, p INTEGER, o BIGINT, epoch BIGINT, v TEXT)",
    "CREATE TABLE {t}_stale (p INTEGER, o BIGINT, epoch BIGINT, now BIGINT)",
    "CREATE FUNCTION {t}_check() RETURNS trigger AS $$ BEGIN"
    " INSERT INTO {t}_stale SELECT NEW.p, NEW.o, NEW.epoch, claim_epoch FROM tally_offset"
    " WHERE group_id = '{t}' AND partition = NEW.p AND claim_epoch > NEW.epoch;"
    " RETURN NEW; END $$ LANGUAGE plpgsql",
    "CREATE TRIGGER {t}_trigger AFTER INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION {t}_check()",
]


def where_it_stands(pid):
    """Its threads, as far as a debugger is there to tell."""
    if not shutil.which("gdb"):
        return "no gdb to tell where"
    return subprocess.run(["gdb", "-p", str(pid), "-batch", "-ex", "thread apply all bt 12"],
                          capture_output=True, text=True).stdout[-6000:]


class Group:
    """Some copies of tally consume in one consumer group, with a table of their own."""

    def __init__(self, run, name, copies, settings):
        self.run, self.name, self.settings = run, name, settings
        self.copies, self.started = [None] * copies, [0.0] * copies
        self.frozen = set()
        for sql in SQLITE_TABLES if run.kind == "sqlite" else POSTGRES_TABLES:
            run.database.query(sql.replace("{t}", name))
        for n in range(copies):
            self.start(n)

    def start(self, n):
        times = [] if self.run.args.kip_848 else TIMES
        settings = [s.replace("{n}", str(n)) for s in times + COMMON + self.settings]
        argv = [self.run.tally, "consume", TOPIC, "--group", self.name, "--into", self.run.into,
                "--bootstrap", self.run.broker.address, "--table", self.name, "--format", "lines",
                "--batch", str(BATCHES[n % len(BATCHES)]), "--batch-ms", "50", "--timeout", "0"]
        for column in ("p=@partition", "o=@offset", "epoch=@claim_epoch", "v=@value"):
            argv += ["--map", column]
        for s in settings + [f"client.id={self.name}-{n}"]:
            argv += ["--librdkafka", s]
        with open(self.run.folder / f"{self.name}-{n}.log", "ab") as log:
            self.copies[n] = subprocess.Popen(argv, stdout=log, stderr=log,
                                              env=self.run.environment)
        self.started[n] = time.monotonic()

    def judge_end(self, n, status, what):
        """0 after SIGTERM; SIGTERM itself when it came before the program could look."""
        young = time.monotonic() - self.started[n] < 10  # a busy machine starts it late
        if status == 0 or (status == -signal.SIGTERM and young):
            return
        log = (self.run.folder / f"{self.name}-{n}.log").read_text()
        if status == -signal.SIGABRT and any(a in log for a in LIBRDKAFKA_ABORTS):
            self.run.counts["aborts of librdkafka itself"] += 1
            return
        # Back from a freeze its own earlier JoinGroup can be answered after the later one; by the
        # new protocol a killed copy's place is taken until its session is over.
        if (status == 2 and "group.instance.id=" in str(self.settings)
                and any(s in log for s in STATIC_FENCED)):
            self.run.counts["static members put out"] += 1
            return
        self.run.wrong.append(f"{self.name}-{n}: {what}, status {status}: {log[-300:]}")

    def reap(self, n):
        """A copy that ended by itself: allowed after SIGTERM only."""
        status = self.copies[n].poll()
        if status is not None:
            self.judge_end(n, status or "0 by itself", "ended")
            self.start(n)

    def tend(self):
        for n in range(len(self.copies)):
            self.reap(n)

    def epochs(self, owner="%"):
        try:
            return dict(self.run.database.query(
                "SELECT partition, claim_epoch FROM tally_offset WHERE group_id = %s"
                " AND claimed_by LIKE %s", (self.name, owner)))
        except (sqlite3.OperationalError, psycopg2.errors.UndefinedTable) as e:
            assert "tally_offset" in str(e), e
            return {}  # no copy has come so far that it made the table

    # --- What happens to them.

    def kill(self, random_, run):
        n = random_.randrange(len(self.copies))
        self.copies[n].kill()
        self.copies[n].wait()
        run.counts["kills"] += 1
        self.start(n)

    def term(self, random_, run):
        n = random_.randrange(len(self.copies))
        if n in self.frozen:
            return
        self.copies[n].terminate()
        try:
            status = self.copies[n].wait(30)
        except subprocess.TimeoutExpired:
            status = f"none within 30 s, {where_it_stands(self.copies[n].pid)}"
            self.copies[n].kill()
            self.copies[n].wait()
        self.judge_end(n, status, "SIGTERM")
        run.counts["orderly stops"] += 1
        self.start(n)

    def freeze(self, random_, run):
        """A zombie: silent for longer than its session, then back with records in hand."""
        n = random_.randrange(len(self.copies))
        self.copies[n].send_signal(signal.SIGSTOP)
        self.frozen.add(n)
        run.pause(SESSION_MS / 1000 * random_.uniform(1.2, 2.5))
        self.copies[n].send_signal(signal.SIGCONT)
        self.frozen.discard(n)
        run.counts["zombies"] += 1

    def zombie_race(self, random_, run):
        """A zombie comes back just after the next owner has claimed, before it stored anything."""
        n = random_.randrange(len(self.copies))
        before = self.epochs(f"%/{self.copies[n].pid}")
        if not before:
            return  # it owns nothing
        self.copies[n].send_signal(signal.SIGSTOP)
        self.frozen.add(n)
        until = time.monotonic() + 4 * SESSION_MS / 1000
        while time.monotonic() < until and not run.is_over():
            now = self.epochs()
            if any(now.get(p, 0) > e for p, e in before.items()):
                break
            time.sleep(0.002)
        others = [c for i, c in enumerate(self.copies) if i != n]
        for c in others:
            c.send_signal(signal.SIGSTOP)
        self.copies[n].send_signal(signal.SIGCONT)
        time.sleep(0.3)
        for c in others:
            c.send_signal(signal.SIGCONT)
        self.frozen.discard(n)
        run.counts["zombie races"] += 1

    def thaw(self):
        for c in self.copies:
            if c.poll() is None:
                c.send_signal(signal.SIGCONT)

    def stop(self):
        self.thaw()
        for c in self.copies:
            c.terminate()
        for n, c in enumerate(self.copies):
            try:
                self.judge_end(n, c.wait(30), "SIGTERM at the end")
            except subprocess.TimeoutExpired:
                self.run.wrong.append(f"{self.name}-{n}: did not end within 30 s of SIGTERM, "
                                      + where_it_stands(c.pid))
                c.kill()
                c.wait()

    def kill_all(self):
        for c in self.copies:
            if c and c.poll() is None:
                c.kill()
                c.wait()

    # --- What came of it.

    def is_done(self, ends):
        rows = self.run.database.query(
            "SELECT partition, next_offset FROM tally_offset WHERE group_id = %s", (self.name,))
        return dict(rows) == ends

    def looks_wrong(self):
        (rows, distinct), = self.run.database.query(
            f"SELECT count(*), count(DISTINCT p || '/' || o) FROM {self.name}")
        (stale,), = self.run.database.query(f"SELECT count(*) FROM {self.name}_stale")
        return rows != distinct or stale > 0

    def verify(self, log):
        rows = self.run.database.query(f"SELECT p, o, v FROM {self.name} ORDER BY seq")
        seen = collections.Counter((p, o) for p, o, _ in rows)
        twice = [k for k, n in seen.items() if n > 1]
        missing = [k for k in log if k not in seen]
        alien = [k for k in seen if k not in log]
        wrong_value = [(p, o) for p, o, v in rows if log.get((p, o), v.encode()) != v.encode()]
        last, disorder = {}, []
        for p, o, _ in rows:
            if o <= last.get(p, -1):
                disorder.append((p, o))
            last[p] = o
        stale = self.run.database.query(f"SELECT p, o, epoch, now FROM {self.name}_stale")
        for what, found in (("more than once", twice), ("missing", missing),
                            ("not in the log", alien), ("with another value", wrong_value),
                            ("out of order", disorder),
                            ("stored by an owner that another had superseded", stale)):
            if found:
                self.run.has_wrong_rows = True
                self.run.wrong.append(f"{self.name}: {len(found)} of {len(log)} records {what}, "
                                      f"for example {sorted(found)[:3]}")
        return len(rows)


class Run:
    def __init__(self, kind, folder, broker, args):
        self.kind, self.folder, self.broker, self.args = kind, folder, broker, args
        self.tally, self.environment = args.tally, dict(os.environ)
        if args.kip_848:
            self.environment["LD_LIBRARY_PATH"] = args.kip_848
        self.wrong, self.counts, self.groups = [], collections.Counter(), []
        self.has_wrong_rows = False
        self.over = threading.Event()
        self.proxy = None
        if kind == "sqlite":
            self.database = world.Sqlite(folder)
            self.into = f"sqlite:{self.database.file}"
        else:
            self.database = world.Postgres(folder)
            self.proxy = world.CuttingProxy(self.database.port, 0.03, args.seed)
            self.into = self.database.url(self.proxy.port)
        self.until = time.monotonic() + args.seconds
        self.look_at = time.monotonic() + 2

    def is_over(self):
        if self.args.watch and time.monotonic() > self.look_at and not self.over.is_set():
            self.look_at = time.monotonic() + 2
            if any(g.looks_wrong() for g in self.groups):
                self.over.set()
        enough = self.args.kills and self.counts["kills"] >= self.args.kills
        if self.wrong or enough or (not self.args.kills and time.monotonic() > self.until):
            self.over.set()
        return self.over.is_set()

    def pause(self, seconds):
        self.over.wait(seconds)

    def torment(self, group, seed):
        random_ = random.Random(seed)
        acts = [(group.kill, 12), (group.freeze, 1), (group.term, 2), (group.zombie_race, 6)]
        actions, weights = zip(*acts)
        try:
            while not self.is_over():
                # A group that is never at rest never stores: progress is part of the test.
                self.pause(random_.uniform(0.05, 0.6))
                for _ in range(random_.choice((1, 1, 2, 3))):
                    random_.choices(actions, weights)[0](random_, self)
                group.tend()
        except Exception as e:  # a thread's end must not look like success
            self.wrong.append(f"{group.name}: the test itself failed: {e!r}")
        self.over.set() if self.wrong else None

    def disturb_database(self, seed):
        random_ = random.Random(seed)
        while not self.is_over():
            self.pause(random_.uniform(4, 8))
            if not self.is_over():
                self.database.disturb()

    def checked(self, name, *arguments):
        try:
            name(*arguments)
        except Exception as e:
            self.wrong.append(f"the test itself failed: {e!r}")

    def start(self):
        for name, copies, settings in NEW_STYLES if self.args.kip_848 else STYLES:
            self.groups.append(Group(self, f"in_{self.kind}_{name}", copies, settings))
        work = [(self.torment, g, self.args.seed + i) for i, g in enumerate(self.groups)]
        if self.kind == "postgres":
            work.append((self.checked, self.disturb_database, self.args.seed))
        self.threads = [threading.Thread(target=w[0], args=w[1:], daemon=True) for w in work]
        for t in self.threads:
            t.start()

    def finish(self, ends, log):
        for t in self.threads:
            t.join()
        if self.proxy:
            self.proxy.chance = 0
        stored = 0
        for g in self.groups:
            g.thaw()
        for g in self.groups:
            try:
                world.wait_until(lambda: g.tend() or g.is_done(ends),
                                 f"{g.name} stored everything")
            except AssertionError as e:
                group = world.tally("group", "describe", g.name, "--bootstrap",
                                    self.broker.address, expect=None)
                self.wrong.append(f"{e}; {group.stdout}{group.stderr}")
            g.stop()
            stored += g.verify(log)
        return stored

    def close(self):
        for g in self.groups:
            g.kill_all()
        if self.proxy:
            self.proxy.stop()
        self.database.stop()

    def report(self, stored):
        text = "".join(p.read_text(errors="replace")
                       for p in self.folder.glob("*.log"))
        c = self.counts
        more = {"fenced": text.count("event=fenced"), "claims refused": text.count("event=refused"),
                "unknown COMMITs": text.count("event=recovered")}
        if self.proxy:
            more["connections cut in COMMIT"] = sum(self.proxy.cuts.values())
            more["database restarts"] = self.database.restarts
        facts = ", ".join(f"{n} {what}" for what, n in {**c, **more}.items())
        print(f"{self.kind}: {stored} rows stored, {facts}", flush=True)


class Producer(threading.Thread):
    """Keeps records coming until told to stop."""

    def __init__(self, broker, rate):
        super().__init__(daemon=True)
        self.broker, self.rate, self.over, self.n = broker, rate, threading.Event(), 0

    def run(self):
        import confluent_kafka as kafka
        p = kafka.Producer({"bootstrap.servers": self.broker.address, "enable.idempotence": True,
                            "linger.ms": 5, "reconnect.backoff.max.ms": 500,
                            "log_level": 0})
        while not self.over.wait(1 / 50):
            for _ in range(max(1, self.rate // 50)):
                p.produce(TOPIC, f"record {self.n}", partition=self.n % PARTITIONS)
                self.n += 1
            p.poll(0)
        p.flush(30)


def disturb_broker(broker, over, seed):
    random_ = random.Random(seed)
    while not over.wait(random_.uniform(6, 12)):
        broker.disturb(random_.random() < 0.7)


def run_all(args, kinds, folder):
    broker = (world.Cluster(folder, args.kafka_nodes, *(NEW_BROKER if args.kip_848 else []))
              if args.kafka_nodes else world.Broker(folder))
    runs = []
    try:
        broker.create(TOPIC, PARTITIONS)
        producer = Producer(broker, args.rate)
        producer.start()
        for kind in kinds:
            (folder / kind).mkdir()
            runs.append(Run(kind, folder / kind, broker, args))
            runs[-1].start()
        over = threading.Event()
        disturber = threading.Thread(target=disturb_broker, args=(broker, over, args.seed),
                                     daemon=True)
        disturber.start()
        while not all(r.is_over() for r in runs):
            time.sleep(0.2)
        over.set()
        disturber.join()
        producer.over.set()
        producer.join()
        log = world.log_of(broker.address, TOPIC)
        ends = {p: max(o for q, o in log if q == p) + 1 for p in range(PARTITIONS)}
        for r in runs:
            r.report(r.finish(ends, log))
        print(f"broker: {len(log)} records, {broker.restarts} restarts")
        return [w for r in runs for w in r.wrong], any(r.has_wrong_rows for r in runs)
    finally:
        for r in runs:
            r.over.set()
            r.close()
        broker.stop()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--database", default="both", choices=("sqlite", "postgres", "both"))
    p.add_argument("--seconds", type=float, default=20)
    p.add_argument("--kills", type=int, default=0)
    p.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    p.add_argument("--rate", type=int, default=600)
    p.add_argument("--tally", default=str(world.ROOT / "build/tally"))
    p.add_argument("--kafka-nodes", type=int, default=0)
    p.add_argument("--kip-848", metavar="DIR")
    p.add_argument("--expect-red", action="store_true")
    p.add_argument("--watch", action="store_true", help="end as soon as rows look wrong")
    args = p.parse_args()
    kinds = ("sqlite", "postgres") if args.database == "both" else (args.database,)
    print(f"kills: seed {args.seed}, {' and '.join(kinds)}, {args.tally}", flush=True)
    with world.Folder() as folder:
        wrong, has_wrong_rows = run_all(args, kinds, folder)
        for w in wrong:
            print(f"  {w}")
        # A copy that ended by itself proves nothing about a safeguard: rows must be wrong.
        is_good = has_wrong_rows if args.expect_red else not wrong
        is_good = is_good and not any("itself failed" in w for w in wrong)
        print(f"kills: {int(is_good)} passed, {int(not is_good)} failed", flush=True)
        if not is_good:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
