"""What the tests of exactly-once consumption run in: a broker that can be killed, a real PostgreSQL
of their own, a network that cuts connections in COMMIT. Everything lives in a temporary directory
and ends with it."""
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import psycopg2

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE_S = 60


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(condition, what, patience_s=PATIENCE_S, pause_s=0.02):
    until = time.monotonic() + patience_s
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > until:
            raise AssertionError(f"not within {patience_s} s: {what}")
        time.sleep(pause_s)


class Broker:
    """tally serve, on a port that stays."""

    def __init__(self, folder, *settings):
        self.folder = pathlib.Path(folder)
        self.port = free_port()
        self.settings = [x for s in ("group.initial.rebalance.delay.ms=0",
                                     "group.min.session.timeout.ms=200", *settings)
                         for x in ("--set", s)]
        self.restarts = 0
        self.start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        with open(self.folder / "broker.log", "ab") as log:
            self.child = subprocess.Popen(
                [ROOT / "build/tally", "serve", "--listen", self.address, "--data",
                 self.folder / "broker", *self.settings], stdout=subprocess.PIPE, stderr=log)
        line = self.child.stdout.readline()
        assert line.startswith(b"ready "), (self.folder / "broker.log").read_text()[-2000:]

    def disturb(self, kill=True):
        """Away and back: killed, or stopped in order."""
        self.child.kill() if kill else self.child.terminate()
        self.child.wait()
        self.child.stdout.close()
        self.start()
        self.restarts += 1

    def create(self, topic, partitions):
        tally("topic", "create", topic, "--partitions", str(partitions), "--bootstrap",
              self.address)

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            self.child.wait(PATIENCE_S)
        self.child.stdout.close()


def tally(*arguments, text=None, expect=0, binary=None, environment=None):
    done = subprocess.run([binary or ROOT / "build/tally", *map(str, arguments)], input=text,
                          capture_output=True, text=True, timeout=PATIENCE_S,
                          env={**os.environ, **(environment or {})})
    assert expect is None or done.returncode == expect, (arguments, done.returncode, done.stdout,
                                                         done.stderr)
    return done


class Postgres:
    """A server of our own, as its own user where we are root (it refuses to run as root)."""

    def __init__(self, folder, fsync=False, environment=None):
        self.folder = pathlib.Path(folder)
        self.environment = {**os.environ, **(environment or {})}
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"),
                       key=lambda p: float(p.parent.name))
        if not found:
            raise SystemExit("PostgreSQL is not installed; run make deps")
        self.bin, self.port, self.child, self.restarts = found[-1], free_port(), None, 0
        self.data = self.folder / "pg"
        self.data.mkdir()
        self.how = {}
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            for p in (self.folder, *self.folder.parents):
                if p == pathlib.Path(tempfile.gettempdir()):
                    break
                p.chmod(0o755)
            os.chown(self.data, user.pw_uid, user.pw_gid)
            self.how = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        subprocess.run([self.bin / "initdb", "-D", self.data, "-A", "trust", "-U", "tally",
                        "--no-sync", "-E", "UTF8", "--locale=C"], check=True, capture_output=True,
                       cwd="/", **self.how)
        with open(self.data / "postgresql.conf", "a") as f:
            f.write(f"fsync = {'on' if fsync else 'off'}\nmax_connections = 60\n"
                    "unix_socket_directories = ''\nautovacuum_naptime = 10min\n")
        self.start()

    def start(self):
        with open(self.folder / "pg.log", "ab") as log:
            self.child = subprocess.Popen(
                [self.bin / "postgres", "-D", self.data, "-p", str(self.port), "-h", "127.0.0.1"],
                stdout=log, stderr=log, cwd="/", env=self.environment, **self.how)
        wait_until(self.answers, "PostgreSQL answers")

    def answers(self):
        try:
            psycopg2.connect(self.url()).close()
            return True
        except psycopg2.OperationalError:
            return False

    def url(self, port=None):
        return f"postgres://tally@127.0.0.1:{port or self.port}/postgres"

    def disturb(self):
        """An immediate shutdown: what a crash is to its clients."""
        self.child.send_signal(signal.SIGQUIT)
        self.child.wait(PATIENCE_S)
        self.start()
        self.restarts += 1

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGINT)
            self.child.wait(PATIENCE_S)

    def query(self, sql, parameters=()):
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.query_once(sql, parameters)
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)  # it is being restarted

    def query_once(self, sql, parameters):
        db = psycopg2.connect(self.url())
        try:
            with db, db.cursor() as c:
                c.execute(sql, parameters)
                return c.fetchall() if c.description else []
        finally:
            db.close()


class Sqlite:
    def __init__(self, folder):
        self.file = pathlib.Path(folder) / "rows.db"

    def query(self, sql, parameters=()):
        db = sqlite3.connect(self.file, timeout=PATIENCE_S)
        try:
            with db:
                return db.execute(sql.replace("%s", "?"), parameters).fetchall()
        finally:
            db.close()

    def stop(self):
        pass


COMMIT = b"Q" + (11).to_bytes(4, "big") + b"COMMIT\0"


class CuttingProxy:
    """Passes connections on to PostgreSQL and cuts some of them in COMMIT: before it arrives, with
    its answer lost, or with the COMMIT still under way, to arrive when the client has long
    reconnected."""

    def __init__(self, port, chance=0.0, seed=1):
        self.to, self.chance, self.random = port, chance, random.Random(seed)
        self.cuts = {"before": 0, "answer": 0, "late": 0}
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                client.close()
                continue
            threading.Thread(target=self.downstream, args=(server, client), daemon=True).start()
            threading.Thread(target=self.upstream, args=(client, server), daemon=True).start()

    def downstream(self, server, client):
        try:
            while data := server.recv(65536):
                client.sendall(data)
        except OSError:
            pass
        self.close(client)
        self.close(server)

    def upstream(self, client, server):
        try:
            while data := client.recv(65536):
                if data.endswith(COMMIT) and self.cut(client, server, data):
                    return
                server.sendall(data)
        except OSError:
            pass
        self.close(server)
        self.close(client)

    def cut(self, client, server, data):
        with self.lock:
            if self.random.random() >= self.chance:
                return False
            how = self.random.choice(sorted(self.cuts))
            self.cuts[how] += 1
            delay_s = self.random.uniform(0.05, 0.6)
        self.close(client)
        try:
            if how == "answer":
                server.sendall(data)
                server.settimeout(2)
                server.recv(100)
            elif how == "late":
                time.sleep(delay_s)
                server.sendall(data)
                server.settimeout(2)
                server.recv(100)
        except OSError:
            pass
        self.close(server)
        return True

    @staticmethod
    def close(s):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        s.close()

    def stop(self):
        self.listener.close()


def log_of(address, topic, what=lambda m: m.value()):
    """Every record of the topic: (partition, offset) -> value, or `what`, read without a group."""
    import confluent_kafka as kafka
    c = kafka.Consumer({"bootstrap.servers": address, "group.id": "truth",
                        "enable.auto.commit": False, "enable.partition.eof": True})
    partitions = c.list_topics(topic, 30).topics[topic].partitions
    c.assign([kafka.TopicPartition(topic, p, 0) for p in partitions])
    found, ended = {}, set()
    until = time.monotonic() + PATIENCE_S
    while len(ended) < len(partitions):
        assert time.monotonic() < until, f"cannot read {topic} to its end"
        for m in c.consume(1000, 0.2):
            if m.error() and m.error().code() == kafka.KafkaError._PARTITION_EOF:
                ended.add(m.partition())
            elif not m.error():
                found[m.partition(), m.offset()] = what(m)
    c.close()
    return found


class Folder:
    """A temporary directory; kept when something went wrong."""

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="tally-consume."))
        return self.path

    def __exit__(self, kind, *_):
        if kind is None:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            print(f"       kept: {self.path}")


def run_tests(name, found, *arguments, chosen=()):
    """Runs the functions test_... of `found` (a module's globals()), or those chosen; the exit
    status. One that fails does not keep the others from running."""
    tests = {n[5:]: f for n, f in found.items() if n.startswith("test_")}
    chosen = chosen or tests
    failed = 0
    for n in chosen:
        started = time.monotonic()
        try:
            tests[n](*arguments)
            print(f"ok   {n} ({time.monotonic() - started:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL {n}", flush=True)
            traceback.print_exc(file=sys.stdout)
    print(f"{name}: {len(chosen) - failed} passed, {failed} failed")
    return failed != 0


def first_number(text, name):
    found = re.search(rf"\b{name}=(\d+)", text)
    return int(found.group(1)) if found else 0


class Cluster:
    """Apache Kafka, n nodes in one cluster; the jars come from test/interop/kafka fetch."""

    def __init__(self, folder, n, *settings):
        self.folder, self.n, self.restarts = pathlib.Path(folder), n, 0
        subprocess.run([ROOT / "test/interop/kafka", "fetch"], check=True)
        self.jars = str(ROOT / "build/interop/jars/*")
        self.ports = [free_port() for _ in range(n)]
        controllers = [free_port() for _ in range(n)]
        voters = ",".join(f"{i + 1}@127.0.0.1:{p}" for i, p in enumerate(controllers))
        copies = min(3, n)
        self.nodes = [None] * n
        for i in range(n):
            home = self.folder / f"node{i + 1}"
            home.mkdir()
            (home / "server.properties").write_text("\n".join([
                "process.roles=broker,controller", f"node.id={i + 1}",
                f"controller.quorum.voters={voters}",
                f"listeners=PLAINTEXT://127.0.0.1:{self.ports[i]},"
                f"CONTROLLER://127.0.0.1:{controllers[i]}",
                f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.ports[i]}",
                "controller.listener.names=CONTROLLER", f"log.dirs={home}/data",
                f"offsets.topic.replication.factor={copies}", "offsets.topic.num.partitions=6",
                f"transaction.state.log.replication.factor={copies}",
                f"transaction.state.log.min.isr={(copies + 1) // 2}",
                f"share.coordinator.state.topic.replication.factor={copies}",
                f"min.insync.replicas={(copies + 1) // 2}", "replica.lag.time.max.ms=3000",
                f"default.replication.factor={copies}", "broker.session.timeout.ms=3000",
                "group.initial.rebalance.delay.ms=0", "group.min.session.timeout.ms=200",
                *settings, ""]))
            self.java(i, "kafka.tools.StorageTool", "format", "-t", "tallyConsumeAAAAAAAAAA", "-c",
                      str(home / "server.properties"), "--ignore-formatted").wait(60)
            self.start_node(i)
        for i in range(n):
            self.wait_for(i)

    @property
    def address(self):
        return ",".join(f"127.0.0.1:{p}" for p in self.ports)

    def java(self, i, *arguments):
        with open(self.folder / f"node{i + 1}" / "log", "ab") as log:
            return subprocess.Popen(
                ["java", "-Xmx400M", "-Xms200M", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                 "-cp", self.jars, *arguments], stdout=log, stderr=log)

    def start_node(self, i):
        self.nodes[i] = self.java(i, "kafka.Kafka",
                                  str(self.folder / f"node{i + 1}" / "server.properties"))

    def wait_for(self, i):
        def answers():
            assert self.nodes[i].poll() is None, f"node {i + 1} died; see its log"
            try:
                socket.create_connection(("127.0.0.1", self.ports[i]), 1).close()
                return True
            except OSError:
                return False
        wait_until(answers, f"node {i + 1} answers", 120, 0.1)

    def disturb(self, kill=True):
        """One node away and back: every partition that it leads gets another leader."""
        i = self.restarts % self.n
        self.nodes[i].kill() if kill else self.nodes[i].terminate()
        self.nodes[i].wait(PATIENCE_S)
        time.sleep(4)
        self.start_node(i)
        self.wait_for(i)
        self.restarts += 1
        time.sleep(10)  # until it is in sync again: two nodes away are not what is tested

    def create(self, topic, partitions):
        done = self.java(0, "org.apache.kafka.tools.TopicCommand", "--bootstrap-server",
                         self.address, "--create", "--topic", topic, "--partitions",
                         str(partitions)).wait(PATIENCE_S)
        assert done == 0, "cannot create the topic; see node1/log"

    def stop(self):
        for node in self.nodes:
            if node and node.poll() is None:
                node.kill()
                node.wait()
