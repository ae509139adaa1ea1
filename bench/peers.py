"""The programs that are compared: how they are started, what they cost, and the load on them."""
import itertools
import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
OUT = ROOT / "build/bench"
# Another binary, to compare two of our own.
TALLY = pathlib.Path(os.environ.get("TALLY", ROOT / "build/tally"))
LIMIT = OUT / "limit"
KAFKA = ROOT / "test/interop/kafka"
JARS = ROOT / "build/interop/jars"
PATIENCE_S = 900
# What Apache Kafka's own start script gives it.
KAFKA_HEAP = ("-Xmx1G -Xms1G -XX:+UseG1GC -XX:MaxGCPauseMillis=20 "
              "-XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent")
TICKS = os.sysconf("SC_CLK_TCK")

_topics = itertools.count(1)


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                          timeout=PATIENCE_S, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}: "
                           f"{done.stderr[-600:]}{done.stdout[-200:]}")
    return done.stdout


def limit(*args):
    return json.loads(run(LIMIT, *args))


def status_kb(pid, name):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+)", text).group(1))


class Server:
    """A running broker. cpu() is what all its threads have used, in seconds."""

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_kb(self):
        return status_kb(self.pid, "VmRSS")

    def wakeups(self):
        total = 0
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            total += int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)",
                                   (task / "status").read_text()).group(1))
        return total

    def topic(self):
        return f"bench-{next(_topics)}"

    def bench(self, *args):
        """Our own load: its results, and the server's CPU beside each."""
        before, cpu = time.monotonic(), self.cpu()
        out = run(TALLY, "bench", "--bootstrap", self.address, "--json", *args)
        used = self.cpu() - cpu
        results = json.loads(out)["results"]
        results[-1]["server_cpu_s"] = used
        results[-1]["wall_s"] = time.monotonic() - before
        return results[-1]

    def commits(self, topic, group, members, n):
        """n commits of that group, without what joining and leaving cost: CPU-seconds of the
        server for a million, and commits a second."""
        command = [TALLY, "bench", "commit", "--bootstrap", self.address, "--topic", topic,
                   "--keep", "--group", group, "--members", members, "--records", n, "--hold",
                   "--json"]
        with subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as load:
            def wait_for(word):
                line = load.stdout.readline()
                if line != word + "\n":
                    raise RuntimeError(f"bench commit: {line}{load.stderr.read()[-600:]}")

            wait_for("joined")
            cpu = self.cpu()
            print(file=load.stdin, flush=True)
            wait_for("committed")
            used = self.cpu() - cpu
            out, _ = load.communicate("\n", PATIENCE_S)
        result = json.loads(out)["results"][0]
        return used / result["records"] * 1e6, result["records_per_second"]

    def make_topic_only(self, partitions):
        """Nothing is produced to it."""
        name = self.topic()
        run(TALLY, "topic", "create", name, "--partitions", partitions, "--bootstrap",
            self.address)
        return name

    def make_groups(self, topic, n):
        """Groups that have committed and have no members any more."""
        if n > 0:
            self.bench("commit", "--topic", topic, "--keep", "--group", self.topic(), "--groups", n,
                       "--members", n, "--records", 2 * n)

    def make_topic(self, partitions=1, *settings):
        """Made, and every partition of it has taken a small batch: a new one of Kafka's may say
        for a while that it has no leader."""
        name = self.topic()
        run(TALLY, "topic", "create", name, "--partitions", partitions,
            "--bootstrap", self.address, *itertools.chain(*(("--set", s) for s in settings)))
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                run(TALLY, "bench", "produce", "--bootstrap", self.address, "--topic", name,
                    "--keep", "--record-size", 16, "--batch-bytes", 100, "--records",
                    2 * partitions)
                return name
            except RuntimeError as e:
                # One that has just been made may also not be listed yet.
                if not any(w in str(e) for w in ("LEADER", "ALREADY_EXISTS")) or \
                        time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def delete_topic(self, name):
        run(TALLY, "topic", "delete", name, "--bootstrap", self.address)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Tally(Server):
    name = "tally"

    def __init__(self, directory, *options):
        self.dir = pathlib.Path(directory)
        self.log = open(f"{directory}.log", "ab")
        self.child = subprocess.Popen(
            [TALLY, "serve", "--listen", "127.0.0.1:0", "--data", directory,
             "--set", "group.initial.rebalance.delay.ms=3000", *options],
            stdout=subprocess.PIPE, stderr=self.log)
        line = self.child.stdout.readline().decode()
        if not line.startswith("ready "):
            raise RuntimeError(f"tally does not start; see {directory}.log")
        self.address = line.split()[1]
        self.pid = self.child.pid

    def cpu(self):
        ns = 0
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            ns += int((task / "schedstat").read_text().split()[0])
        return ns / 1e9

    def kill(self):
        self.child.kill()
        self.child.wait()

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            self.child.wait(PATIENCE_S)
        self.child.stdout.close()
        self.log.close()

    @staticmethod
    def start_command(directory, port):
        return [TALLY, "serve", "--listen", f"127.0.0.1:{port}", "--data", directory]


class Kafka(Server):
    name = "kafka"

    def __init__(self, directory, *settings):
        self.dir = pathlib.Path(directory)
        # What is deleted goes at once, as ours does: otherwise its pages stay in memory. And a
        # group of 10,000 members is one record.
        self.address = run(KAFKA, "start", directory, "group.initial.rebalance.delay.ms=3000",
                           "log.segment.delete.delay.ms=0", "message.max.bytes=20971520",
                           *settings,
                           env={**os.environ, "KAFKA_HEAP": KAFKA_HEAP}).strip()
        self.pid = int((self.dir / "pid").read_text())

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        while pathlib.Path(f"/proc/{self.pid}").exists():
            if pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(") ", 1)[1][0] == "Z":
                break
            time.sleep(0.02)
        (self.dir / "pid").unlink()

    def stop(self):
        run(KAFKA, "stop", self.dir)

    @staticmethod
    def start_command(directory, port):
        """Starts what Kafka(directory) has left, on its own port."""
        return ["java", *KAFKA_HEAP.split(), "-server", "-Djava.awt.headless=true",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{JARS}/*", "kafka.Kafka",
                f"{directory}/server.properties"]


DURABLE = {"tally": (), "kafka": ("log.flush.interval.messages=1",)}


def kafka_tool(name, *args):
    return run(KAFKA, "run", name, *args)


def time_start(peer, directory, port):
    """Milliseconds from exec to the first answer; the server is stopped again."""
    child = subprocess.Popen([str(LIMIT), "start", str(port),
                              *map(str, peer.start_command(directory, port))],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
    for line in child.stdout:
        if line.startswith(b'{"ms"'):
            child.stdin.close()
            child.stdout.read()
            child.wait(PATIENCE_S)
            return json.loads(line)["ms"]
    raise RuntimeError(f"{peer.name} does not start in {directory}")
