#!/usr/bin/python3
"""Real consumers in a storm of kills, frozen processes, restarts and new partitions, each of which
writes down every record it has worked on. Then the ledger's word is held against theirs:

  - a record nobody worked on stands in an incident that says missed or risk, or is not claimed
  - no record that was worked on is called missed
  - a record that two worked on stands in an incident that says it was sent again
  - members that an incident names for certain are those that worked on its records
  - the states add up

usage: churn.py [TALLY] [--seconds N] [--seed N] [--runs N] [--keep DIR] [--trace]

A run that fails leaves everything in DIR/churn-SEED-... (build/churn without --keep): the data
directory, the broker's log, the members' books, the report, and what was done when. --trace logs
every request: what a member asked for and got.
"""
import argparse
import collections
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

ROOT = pathlib.Path(__file__).resolve().parents[2]
MEMBER = ROOT / "test/churn/member.py"
SESSION_MS = 2000
PATIENCE_S = 90
TOPIC = "storm"
STATES = ("waiting", "in_flight", "returned", "committed", "skipped", "expired", "abandoned",
          "unknown", "not_data")


class Member:
    """One process; a name may live several times, each life with its own book."""

    def __init__(self, plan, name, life, client_id, address, top):
        self.plan, self.name, self.client_id = plan, f"{name}.{life}", client_id
        self.out = top / f"{plan.name}.{self.name}"
        settings = {**plan.settings, "client.id": client_id}
        if plan.is_static:
            settings["group.instance.id"] = name
        self.child = subprocess.Popen(
            ["/usr/bin/python3", str(MEMBER), address, TOPIC, plan.name, str(self.out),
             json.dumps(settings)], stderr=subprocess.DEVNULL)
        self.frozen = self.leaves = False

    def signal(self, number):
        self.leaves = self.leaves or number == signal.SIGTERM
        if self.child.poll() is None:
            self.child.send_signal(number)

    def records(self):
        if not self.out.exists():
            return
        for line in self.out.read_text().splitlines():
            partition, offset, at = map(int, line.split())
            yield partition, offset, at


class Plan:
    """A group: how all its members are written."""

    def __init__(self, name, dice):
        self.name = name
        mode = dice.choice(["auto", "auto", "each", "batch", "batch", "first"])
        strategy = dice.choice(["range", "range", "cooperative-sticky"])
        self.same_client_id = dice.random() < 0.4
        self.reset = dice.choice(["earliest", "earliest", "latest"])
        self.is_static = dice.random() < 0.2
        self.settings = {
            "partition.assignment.strategy": strategy, "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": 300, "auto.offset.reset": self.reset,
            "auto.commit.interval.ms": dice.choice([100, 500, 2000]),
            "fetch.wait.max.ms": 50, "topic.metadata.refresh.interval.ms": 1000,
            "_mode": mode, "_revoke": dice.random() < 0.5,
            "_work_us": dice.choice([0, 500] if mode == "each" else [0, 500, 2000])}
        self.about = (f"{mode} {strategy} {self.reset} revoke={self.settings['_revoke']} "
                      f"same_id={self.same_client_id} static={self.is_static}")


class Storm:
    def __init__(self, args, seed, top):
        self.args, self.top, self.dice = args, pathlib.Path(top), random.Random(seed)
        self.away = random.Random(f"away {seed}")
        self.log = open(self.top / "broker.log", "ab")
        self.began_ns = time.time_ns()
        self.address = "127.0.0.1:0"
        self.start_broker()
        self.restarts = self.dice.choice(["none", "none", "none", "stop", "kill"])
        self.was_killed = False
        self.plans = [Plan(f"g{i}", self.dice) for i in range(2)]
        if self.dice.random() < 0.3:  # two groups that cannot be told apart by what they say
            for p in self.plans:
                p.same_client_id = True
        self.members, self.lives = [], collections.Counter()
        self.admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        self.partitions, self.produced, self.doings = 3, 0, []

    def start_broker(self):
        self.broker = subprocess.Popen(
            [self.args.tally, "serve", "--listen", self.address, "--data", str(self.top / "data"),
             "--set", "group.initial.rebalance.delay.ms=100",
             "--set", "group.min.session.timeout.ms=1000",
             *(["--trace"] if self.args.trace else []),
             *os.environ.get("SERVE_OPTIONS", "").split()],
            stdout=subprocess.PIPE, stderr=self.log)
        line = self.broker.stdout.readline().decode()
        found = re.fullmatch(r"ready (\S+)\n", line)
        assert found, f"the broker said {line!r}"
        self.address = found.group(1)

    def restart_broker(self):
        self.was_killed = self.was_killed or self.restarts == "kill"
        self.broker.send_signal(signal.SIGKILL if self.restarts == "kill" else signal.SIGTERM)
        status = self.broker.wait(PATIENCE_S)
        assert self.restarts == "kill" or status == 0, f"the broker ended with {status}"
        # About as long as a session: some connections come back before their client has given its
        # part up, and others after, under a new id.
        time.sleep(self.away.choice([0, self.away.uniform(0.4, 1.1) * SESSION_MS / 1000]))
        self.start_broker()

    # ---- The storm

    def new_producer(self):
        """One that knows the partitions there are now."""
        p = Producer({"bootstrap.servers": self.address, "linger.ms": 2, "log_level": 0})
        while len(p.list_topics(TOPIC, 10).topics[TOPIC].partitions) != self.partitions:
            time.sleep(0.02)
        return p

    def start(self, plan, name):
        self.lives[plan.name, name] += 1
        life = self.lives[plan.name, name]
        client_id = "app" if plan.same_client_id else f"{plan.name}-{name}-{life}"
        self.members.append(Member(plan, name, life, client_id, self.address, self.top))

    def alive(self, plan):
        return [m for m in self.members if m.plan is plan and m.child.poll() is None]

    def produce(self):
        for _ in range(self.dice.randrange(2, 24)):
            self.producer.produce(TOPIC, b"%d" % self.produced,
                                  partition=self.dice.randrange(self.partitions))
            self.produced += 1
        self.producer.poll(0)

    def act(self):
        plan = self.dice.choice(self.plans)
        alive = self.alive(plan)
        awake = [m for m in alive if not m.frozen]
        what = self.dice.choice(["kill", "kill", "freeze", "freeze", "leave", "start", "start",
                                 "broker"])
        if what == "broker":
            if self.restarts != "none":
                self.doings.append((round(time.time(), 2), "broker", self.restarts))
                self.restart_broker()
            return
        name = f"m{self.dice.randrange(9)}"
        is_taken = plan.is_static and any(m.name.startswith(name + ".") for m in alive)
        if (what == "start" and len(alive) < 4 or not awake) and not is_taken:
            self.start(plan, name)
        elif not awake:
            return
        elif what == "kill":
            self.dice.choice(awake).signal(signal.SIGKILL)
        elif what == "leave":
            self.dice.choice(awake).signal(signal.SIGTERM)
        elif what == "freeze":
            m = self.dice.choice(awake)
            m.signal(signal.SIGSTOP)
            m.frozen = True
            m.thaw_at = time.monotonic() + self.dice.choice([0.5, 1.5, 3, 5])
        else:
            return
        self.doings.append((round(time.time(), 2), plan.name, what))

    def thaw(self, all_of_them=False):
        for m in self.members:
            if m.frozen and (all_of_them or time.monotonic() > m.thaw_at):
                m.signal(signal.SIGCONT)
                m.frozen = False

    def wait_for(self, futures):
        for f in futures.values():
            f.result(30)

    def rage(self):
        self.wait_for(self.admin.create_topics([NewTopic(TOPIC, self.partitions, 1)]))
        self.producer = self.new_producer()
        for _ in range(self.dice.choice([0, 5])):
            self.produce()
        self.producer.flush(30)
        for plan in self.plans:
            for i in range(2):
                self.start(plan, f"m{i}")
        until = time.monotonic() + self.args.seconds
        add_at = time.monotonic() + self.args.seconds * self.dice.random()
        act_at = time.monotonic() + 2
        while time.monotonic() < until:
            self.produce()
            if time.monotonic() > add_at:
                self.partitions += 1
                self.wait_for(self.admin.create_partitions(
                    [NewPartitions(TOPIC, self.partitions)]))
                self.producer.flush(30)
                self.producer = self.new_producer()
                add_at = until + 1
            if time.monotonic() > act_at:
                self.act()
                act_at = time.monotonic() + self.dice.random() * 1.2
            self.thaw()
            time.sleep(0.03)
        self.thaw(True)
        self.producer.flush(30)

    def report(self):
        got = subprocess.run([self.args.tally, "report", "--bootstrap", self.address, "--json",
                              "--all", "--verify", "--rebalances"], capture_output=True,
                             timeout=60, check=False)
        assert got.returncode == 0, got.stderr[-500:]
        return {g["group"]: g for g in json.loads(got.stdout)["groups"]}

    def end_leaving(self, patience_s):
        """librdkafka 2.0.2 may hang in close() when the broker goes away meanwhile: it asks for its
        coordinator for ever, and never for anything else."""
        for m in self.members:
            if m.leaves:
                try:
                    m.child.wait(patience_s)
                except subprocess.TimeoutExpired:
                    m.child.kill()
                    self.doings.append((round(time.time(), 2), m.name, "hung, killed"))

    def drain(self):
        self.end_leaving(10)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for plan in self.plans:
                if not self.alive(plan):
                    self.start(plan, "last")
            groups = self.report()
            rest = [(p.name, q["partition"], q["committed_offset"], q["end"]) for p in self.plans
                    for q in groups.get(p.name, {}).get("partitions", [])
                    if q["committed_offset"] != q["end"] and q["end"] > q["first"]]
            rest += [(p.name, n, None, 0) for p in self.plans for n in range(self.partitions)
                     if n not in {q["partition"] for q in
                                  groups.get(p.name, {}).get("partitions", [])}]
            if not rest and all(p.name in groups for p in self.plans):
                break
            assert time.monotonic() < deadline, f"not drained: {rest}"
            # A `latest` member commits nothing in a partition until there is something for it.
            for partition in {p for _, p, committed, _ in rest if committed is None}:
                self.producer.produce(TOPIC, b"end", partition=partition)
            self.producer.flush(30)
            time.sleep(0.5)
        for m in self.members:
            m.signal(signal.SIGTERM)
        self.end_leaving(PATIENCE_S)

    def end(self):
        for m in self.members:
            if m.child.poll() is None:
                m.child.kill()
            m.child.wait()
        self.broker.send_signal(signal.SIGTERM)
        try:
            return self.broker.wait(PATIENCE_S)
        finally:
            if self.broker.poll() is None:
                self.broker.kill()
            self.log.close()


# ---- What the members say against what the ledger says


class Trial:
    def __init__(self, storm, plan, group):
        self.plan, self.group, self.faults = plan, group, []
        self.storm = storm
        self.counts = collections.Counter()
        self.worked = collections.defaultdict(list)  # (partition, offset) -> [(time, member)]
        for m in storm.members:
            if m.plan is plan:
                for partition, offset, at in m.records():
                    self.worked[partition, offset].append((at, m))
        self.incidents = collections.defaultdict(list)
        for i in group["incidents"]:
            self.incidents[i["partition"]].append(i)

    def fault(self, text):
        self.faults.append(f"{self.plan.name} {text}")

    def seconds(self, at_ns):
        return f"{(at_ns - self.storm.began_ns) / 1e9:.3f}"

    def story(self, partition, offsets):
        """Who worked on them when, of each stretch the first; and when the broker was away."""
        first = [o for o in offsets if o - 1 not in set(offsets)][:4]
        told = [f"{o} by " + ", ".join(f"{m.name} at {self.seconds(at)} s" for at, m in
                                       sorted(self.worked[partition, o], key=lambda x: x[0]))
                for o in first]
        stops = [self.seconds(at * 1e9) for at, who, _ in self.storm.doings if who == "broker"]
        return f"{'; '.join(told)}; broker {self.storm.restarts} at {' '.join(stops)} s"

    def around(self, partition, offset, classes):
        return [i for i in self.incidents[partition]
                if i["class"] in classes and i["first"] <= offset <= i["last"]]

    def check_missed(self, q):
        """Those that nobody worked on."""
        p, gone = q["partition"], []
        for offset in range(q["first"], q["committed_offset"] or 0):
            if (p, offset) in self.worked:
                continue
            self.counts["missed"] += 1
            if not self.around(p, offset, ("missed", "risk")):
                gone.append(offset)
        # What coverage leaves open is counted, not told apart by offset.
        if len(gone) > q["unknown"]:
            self.fault(f"{p}: nobody worked on {spans(gone)}, and no incident says so; "
                       f"{q['unknown']} unknown")

    def check_not_missed(self):
        for p, all_of_p in self.incidents.items():
            for i in all_of_p:
                if i["class"] != "missed" or i["resolved"]:
                    continue
                wrong = [o for o in range(i["first"], i["last"] + 1) if (p, o) in self.worked]
                if wrong:
                    self.fault(f"{p}: incident {i['id']} ({i['certainty']} {i['cause']}) calls "
                               f"{spans(wrong)} missed, they were worked on")

    def check_repeated(self, q):
        p, silent = q["partition"], []
        for (partition, offset), by in sorted(self.worked.items(), key=lambda x: x[0]):
            if partition != p or len(by) < 2:
                continue
            self.counts["repeated"] += 1
            if not self.around(p, offset, ("resent", "repeated", "note", "stalled")):
                silent.append(offset)
        # A broker that is killed forgets what it sent since the last save, and knows that.
        if silent and not self.was_killed:
            self.fault(f"{p}: worked on twice and not said: {spans(silent)} "
                       f"({self.story(p, silent)})")

    def check_names(self):
        """Whom an incident names must have had something of it."""
        if self.plan.same_client_id:
            return
        for p, all_of_p in self.incidents.items():
            for i in all_of_p:
                if i["class"] not in ("resent", "repeated") or i["certainty"] == "possible":
                    continue
                names = {m.client_id for o in range(i["first"], i["last"] + 1)
                         for _, m in self.worked.get((p, o), []) if
                         len(self.worked[p, o]) > 1}
                told = {i["from"]["client_id"], i["to"]["client_id"]}
                self.counts["incidents"] += 1
                if names and not names & told:
                    self.fault(f"{p}: incident {i['id']} names {told}, but {names} worked twice")

    def run(self):
        for q in self.group["partitions"]:
            states = sum(q[s] for s in STATES)
            if states != q["end"] - q["first"]:
                self.fault(f"{q['partition']}: the states are {states}, not "
                           f"{q['end'] - q['first']}")
            unseen = sum((q["partition"], o) not in self.worked
                         for o in range(q["first"], q["end"]))
            if q["skipped"] > unseen:
                self.fault(f"{q['partition']}: {q['skipped']} skipped, but only {unseen} were "
                           "worked on by nobody")
            if not self.is_vague:
                self.counts["unknown"] += q["unknown"]
                self.check_missed(q)
                self.check_repeated(q)
        self.check_not_missed()
        self.check_names()
        self.counts["records"] = len(self.worked)
        return self.faults


def spans(offsets):
    """[1, 2, 3, 7] -> "1-3 7"."""
    found = []
    for o in offsets:
        if found and found[-1][1] == o - 1:
            found[-1][1] = o
        else:
            found.append([o, o])
    text = " ".join(f"{a}-{b}" if a < b else f"{a}" for a, b in found[:8])
    return text + (" ..." if len(found) > 8 else "")


def one_run(args, seed, top):
    storm = Storm(args, seed, top)
    faults, counts = [], collections.Counter()
    try:
        storm.rage()
        storm.drain()
        groups = storm.report()
        (storm.top / "report.json").write_text(json.dumps(groups, indent=1))
        for plan in storm.plans:
            trial = Trial(storm, plan, groups[plan.name])
            # Two groups of one name: whose a Fetch is cannot always be told, and then is not.
            trial.is_vague = all(p.same_client_id for p in storm.plans)
            trial.was_killed = storm.was_killed
            faults += [f"{f} [{plan.about}]" for f in trial.run()]
            counts += trial.counts
    except AssertionError as e:
        faults.append(str(e))
    status = storm.end()
    if status != 0:
        faults.append(f"the broker ended with {status}")
    (storm.top / "doings").write_text("\n".join(map(str, storm.doings)))
    return faults, counts, storm


def main():
    p = argparse.ArgumentParser()
    p.add_argument("tally", nargs="?", default=str(ROOT / "build/tally"))
    p.add_argument("--seconds", type=float, default=12)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--runs", type=int, default=1)
    p.add_argument("--keep", help="a directory for what failed runs leave behind")
    p.add_argument("--trace", action="store_true")
    args = p.parse_args()
    failed = 0
    for seed in range(args.seed, args.seed + args.runs):
        top = tempfile.mkdtemp(prefix=f"churn-{seed}-")
        faults, counts, storm = one_run(args, seed, top)
        failed += bool(faults)
        print(f"seed {seed}: {counts['records']} records, {counts['repeated']} worked on twice, "
              f"{counts['missed']} by nobody, {counts['unknown']} unknown, "
              f"{len(storm.members)} processes, broker {storm.restarts}; "
              f"{'; '.join(p.about for p in storm.plans)}", flush=True)
        for f in faults:
            print(f"  FAILED {f}", flush=True)
        if faults:
            keep = pathlib.Path(args.keep or ROOT / "build/churn")
            keep.mkdir(parents=True, exist_ok=True)
            kept = shutil.move(top, keep / pathlib.Path(top).name)
            print(f"  kept in {kept}", flush=True)
        else:
            shutil.rmtree(top)
    print(f"churn: {args.runs - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
