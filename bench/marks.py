"""The measurements, by name, in the order in which they are taken."""
import pathlib
import re
import shutil
import statistics
import subprocess
import time

from peers import DURABLE, Kafka, Tally, TALLY, free_port, kafka_tool, limit, run, time_start

MEASUREMENTS = {}
# What each takes on two quiet cores, in the short form and in the whole one.
SECONDS = {
    "produce-large": (6, 40), "produce-small": (7, 45), "produce-tiny": (3, 16),
    "produce-durable": (8, 30), "kafka-tools": (17, 120), "consume": (4, 35),
    "accounting": (22, 110), "latency": (15, 255), "start": (20, 110), "recovery": (24, 80),
    "idle": (23, 90), "memory-connection": (2, 5), "memory-partition": (17, 40),
    "group": (42, 220), "rebalance": (24, 84), "commit": (55, 100),
    "growth-partitions": (28, 130), "growth-connections": (14, 45), "growth-groups": (20, 40),
    "growth-log-size": (3, 20),
}


def measurement(f):
    MEASUREMENTS[f.__name__.replace("_", "-")] = f
    return f


def gb(result):
    return result["bytes"] / 1e9


# ---- Produce

def produce_once(server, mb, record=1024, batch=16384, partitions=1, acks="1", connections=None,
                 settings=()):
    topic = server.make_topic(partitions, *settings)
    r = server.bench("produce", "--topic", topic, "--keep", "--records",
                     str(int(mb * 1e6 / record)), "--record-size", str(record), "--batch-bytes",
                     str(batch), "--acks", acks, "--connections",
                     str(connections or min(partitions, 4)))
    server.delete_topic(topic)
    return r


# What the virtual machine of Kafka takes until it is warm.
WARM_UP_MB = (60, 400)


def warm_up(bench, server, **load):
    """Not durable, so that it does not take long."""
    unsynced = (f"flush.messages={2 ** 63 - 1}",) if server.name == "kafka" else ()
    produce_once(server, bench.pick(*WARM_UP_MB), settings=unsynced, **{**load, "acks": "1"})


def compare_produce(bench, mb, server=None, kafka_part=1.0, **load):
    """kafka_part: of the load, where its rate is so low that the whole would take too long."""
    server = server or bench.server
    for kind in "tally", "kafka":
        warm_up(bench, server(kind), **load)
    part = {"tally": 1.0, "kafka": kafka_part}
    runs = bench.alternate(lambda kind: produce_once(server(kind), mb * part[kind], **load))
    cpu = {k: [r["server_cpu_s"] / gb(r) for r in v] for k, v in runs.items()}
    wall = {k: [r["mb_per_second"] for r in v] for k, v in runs.items()}
    return cpu, wall


@measurement
def produce_large(bench):
    mb = bench.pick(200, 1500)
    cpu, wall = compare_produce(bench, mb, batch=1000000)
    raw = [limit("ingest", "1000000", str(mb), bench.path("limit.dat"))
           for _ in range(bench.rounds)]
    cpu["limit"] = [r["cold_cpu_s_per_gb"] for r in raw]
    wall["limit"] = [r["cold_mb_per_s"] for r in raw]
    bench.record("produce_large", cpu, "CPU-s/GB")
    bench.record("produce_large_wall", wall, "MB/s")


@measurement
def produce_small(bench):
    for partitions in 1, 16:
        cpu, wall = compare_produce(bench, bench.pick(100, 600), partitions=partitions)
        bench.record(f"produce_small_{partitions}", cpu, "CPU-s/GB")
        bench.record(f"produce_small_{partitions}_wall", wall, "MB/s")


@measurement
def produce_tiny(bench):
    cpu, wall = compare_produce(bench, bench.pick(60, 400), record=100)
    bench.record("produce_tiny", cpu, "CPU-s/GB")
    bench.record("produce_tiny_wall", wall, "MB/s")


@measurement
def produce_durable(bench):
    for partitions in 1, 16:
        cpu, wall = compare_produce(bench, bench.pick(20, 80), server=bench.durable,
                                    kafka_part=0.25, partitions=partitions, acks="all")
        bench.record(f"produce_durable_{partitions}", cpu, "CPU-s/GB")
        bench.record(f"produce_durable_{partitions}_wall", wall, "MB/s")


def kafka_producer(server, topic, n, record, batch, acks):
    cpu = server.cpu()
    out = kafka_tool("org.apache.kafka.tools.ProducerPerformance", "--topic", topic,
                     "--num-records", str(n), "--record-size", str(record), "--throughput", "-1",
                     "--producer-props", f"bootstrap.servers={server.address}", f"acks={acks}",
                     f"batch.size={batch}", "linger.ms=5")
    used = server.cpu() - cpu
    mb_per_s = float(re.findall(r"\(([\d.]+) MB/sec\)", out)[-1]) * 1.048576
    return used / (n * record / 1e9), mb_per_s


@measurement
def kafka_tools(bench):
    """The same with Kafka's own perf tools as the load."""
    n = bench.pick(150, 600) * 1000
    topics = {}

    def produce(kind):
        server = bench.server(kind)
        topics[kind] = server.make_topic()
        return kafka_producer(server, topics[kind], n, 1000, 16384, "1")

    rounds = bench.pick(1, 3)
    runs = bench.alternate(produce, rounds=rounds)
    bench.record("kafka_tools_produce", {k: [v[0] for v in r] for k, r in runs.items()},
                 "CPU-s/GB")
    bench.record("kafka_tools_produce_wall", {k: [v[1] for v in r] for k, r in runs.items()},
                 "MB/s")

    def consume(kind):
        server = bench.server(kind)
        cpu = server.cpu()
        kafka_tool("org.apache.kafka.tools.ConsumerPerformance", "--topic", topics[kind],
                   "--num-records", str(n), "--bootstrap-server", server.address, "--timeout",
                   "30000")
        return (server.cpu() - cpu) / (n * 1000 / 1e9)

    bench.record("kafka_tools_consume", bench.alternate(consume, rounds=rounds), "CPU-s/GB")


# ---- Consume

@measurement
def consume(bench):
    mb, read_mb = bench.pick(200, 800), bench.pick(1000, 6000)
    topics = {}
    for kind in "tally", "kafka":
        server = bench.server(kind)
        topics[kind] = server.make_topic()
        server.bench("produce", "--topic", topics[kind], "--records", str(mb * 1000),
                     "--batch-bytes", "1000000")
        server.bench("consume", "--topic", topics[kind], "--records", str(mb * 1000))

    def once(kind):
        return bench.server(kind).bench("consume", "--topic", topics[kind], "--records",
                                        str(read_mb * 1000))

    runs = bench.alternate(once)
    cpu = {k: [r["server_cpu_s"] / gb(r) for r in v] for k, v in runs.items()}
    wall = {k: [r["mb_per_second"] for r in v] for k, v in runs.items()}
    raw = [limit("serve", "1048576", str(read_mb), bench.path("limit.dat"))
           for _ in range(bench.rounds)]
    cpu["limit"] = [r["cpu_s_per_gb"] for r in raw]
    wall["limit"] = [r["mb_per_s"] for r in raw]
    bench.record("consume", cpu, "CPU-s/GB")
    bench.record("consume_wall", wall, "MB/s")


@measurement
def accounting(bench):
    """Kafka's own consumer in a group, on a tally that accounts and one that does not."""
    n = bench.pick(200, 1000) * 1000
    on = bench.server("tally")
    off = bench.server("tally", "unaccounted", "--accounting", "off")
    servers, topics = {"on": on, "off": off}, {}
    for key, server in servers.items():
        topics[key] = server.make_topic(16)
        server.bench("produce", "--topic", topics[key], "--records", str(n), "--connections", "4")

    def once(key):
        server, before = servers[key], servers[key].cpu()
        out = kafka_tool("org.apache.kafka.tools.ConsumerPerformance", "--topic", topics[key],
                         "--num-records", str(n), "--bootstrap-server", server.address,
                         "--timeout", "30000")
        rate = float(out.strip().splitlines()[-1].split(",")[3])
        return (server.cpu() - before) / (n * 1024 / 1e9), rate

    runs = bench.alternate(once, kinds=("on", "off"), rounds=bench.pick(2, 6))
    bench.record("accounting", {k: [v[0] for v in r] for k, r in runs.items()}, "CPU-s/GB")
    bench.record("accounting_wall", {k: [v[1] for v in r] for k, r in runs.items()}, "MB/s")
    bench.drop("tally", "unaccounted")
    ledger = TALLY.parent / "test/bench/bench_ledger"
    if ledger.exists():
        out = run(ledger)
        bench.record("ledger_ns", {"tally": [float(re.search(r"([\d.]+) ns", out).group(1))]},
                     "ns a fetched partition",
                     allocations=float(re.search(r"([\d.]+) allocations", out).group(1)))


@measurement
def latency(bench):
    for acks, server in ("1", bench.server), ("all", bench.durable):
        def once(kind):
            s = server(kind)
            topic = s.make_topic()
            r = s.bench("latency", "--topic", topic, "--keep", "--acks", acks, "--rate", "10000",
                        "--seconds", str(bench.pick(3, 20)), "--in-flight", "5")
            s.delete_topic(topic)
            return r["latency_ms"]

        for kind in "tally", "kafka":
            warm_up(bench, server(kind))
        runs = bench.alternate(once, rounds=bench.pick(1, 3))
        for part in "p50", "p99", "p999":
            bench.record(f"latency_{acks}_{part}", {k: [r[part] for r in v]
                                                    for k, v in runs.items()}, "ms")


# ---- Start, recovery

def fill(server, partitions, mb):
    topic = server.make_topic(partitions)
    server.bench("produce", "--topic", topic, "--records", str(int(mb * 1000)), "--batch-bytes",
                 "1000000" if partitions == 1 else "4000", "--connections", "4")
    return topic


def kafka_port(directory):
    text = (pathlib.Path(directory) / "server.properties").read_text()
    return int(re.search(r"listeners=PLAINTEXT://[^:]+:(\d+)", text).group(1))


def start_ms(bench, kind, directory):
    port = kafka_port(directory) if kind == "kafka" else free_port()
    peer = Kafka if kind == "kafka" else Tally
    time_start(peer, directory, port)
    return [time_start(peer, directory, port) for _ in range(bench.pick(5, 11) if kind == "tally"
                                                             else 2)]


@measurement
def start(bench):
    values = {}
    for kind in "tally", "kafka":
        with (Tally if kind == "tally" else Kafka)(bench.path(f"start-{kind}")) as s:
            fill(s, 1, 1)
        values[kind] = start_ms(bench, kind, s.dir)
        shutil.rmtree(s.dir)
    bench.record("start", values, "ms")
    points = []
    for partitions, mb in ((1, 10), (100, 100)) + bench.pick((), ((10000, 10000),)):
        with Tally(bench.path("start-large")) as s:
            fill(s, partitions, mb)
        points.append((partitions, statistics.median(start_ms(bench, "tally", s.dir))))
        shutil.rmtree(s.dir)
    bench.grow("start by partitions and size", "partitions (1, 100, 10,000 with 0.01, 0.1, 10 GB)",
               "ms", {"tally": points})
    bench.record("start_large", {"tally": [points[-1][1]]}, "ms", partitions=points[-1][0])


@measurement
def recovery(bench):
    """Until a record can be read again, by GB that were written and not synced."""
    mb = bench.pick(200, 2000)

    def once(kind):
        peer = Tally if kind == "tally" else Kafka
        s = peer(bench.path(f"recovery-{kind}"))
        topic = s.make_topic()
        produced = s.bench("produce", "--topic", topic, "--keep", "--records", str(mb * 1000),
                           "--batch-bytes", "1000000")
        s.kill()
        began = time.monotonic()
        with peer(s.dir) as again:
            while subprocess.run([TALLY, "bench", "consume", "--bootstrap", again.address,
                                  "--topic", topic, "--records", "1"],
                                 capture_output=True).returncode:
                if time.monotonic() - began > 300:
                    raise RuntimeError(f"{kind} does not come back")
            seconds = time.monotonic() - began
        s.stop()
        shutil.rmtree(s.dir)
        return seconds / gb(produced)

    bench.record("recovery", bench.alternate(once, rounds=bench.pick(1, 2)), "s/GB")


# ---- Idle and size

@measurement
def idle(bench):
    rss, cpu, wakeups = {}, {}, {}
    seconds = bench.pick(5, 30)
    for kind in "tally", "kafka":
        with (Tally if kind == "tally" else Kafka)(bench.path(f"idle-{kind}")) as s:
            run(TALLY, "topic", "list", "--bootstrap", s.address)
            time.sleep(2 if kind == "tally" else bench.pick(4, 10))
            before, woken = s.cpu(), s.wakeups()
            time.sleep(seconds)
            rss[kind] = [s.rss_kb() / 1024]
            cpu[kind] = [100 * (s.cpu() - before) / seconds]
            wakeups[kind] = [(s.wakeups() - woken) / seconds]
        shutil.rmtree(s.dir)
    bench.record("idle_rss", rss, "MiB")
    bench.record("idle_cpu", cpu, "% of a core")
    bench.record("idle_wakeups", wakeups, "a second")


@measurement
def memory_connection(bench):
    n = bench.pick(1000, 5000)
    values = {}
    for kind in "tally", "kafka":
        s = bench.server(kind)
        before = s.rss_kb()
        child = subprocess.Popen([TALLY, "bench", "connect", "--hold", "--connections", str(n),
                                  "--bootstrap", s.address], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        values[kind] = [(s.rss_kb() - before) / n]
        child.communicate()
    bench.record("memory_connection", values, "KiB a connection", connections=n)


@measurement
def memory_partition(bench):
    n = bench.pick(1000, 10000)
    values, seconds = {}, {}
    for kind in "tally", "kafka":
        with (Tally if kind == "tally" else Kafka)(bench.path(f"parts-{kind}")) as s:
            run(TALLY, "topic", "list", "--bootstrap", s.address)
            before, began = s.rss_kb(), time.monotonic()
            for topic in "many", "more":  # Kafka makes fewer than 10,000 at once
                run(TALLY, "topic", "create", topic, "--partitions", n // 2, "--bootstrap",
                    s.address)
            seconds[kind] = [time.monotonic() - began]
            values[kind] = [(s.rss_kb() - before) / n]
        shutil.rmtree(s.dir)
    bench.record("memory_partition", values, "KiB a partition", partitions=n)
    bench.record("create_partitions", seconds, "s", partitions=n)


# ---- Groups

def group_once(server, members):
    # Empty: the first checkpoint of what was written would fall anywhere.
    topic = server.make_topic_only(min(members, 100))
    name = server.topic()
    r = server.bench("group", "--topic", topic, "--keep", "--group", name, "--members",
                     str(members), "--leave")
    server.delete_topic(topic)
    return r


@measurement
def group(bench):
    sizes = bench.pick((10, 100, 300), (100, 1000, 10000))
    join = {"tally": [], "kafka": []}
    leave = {"tally": [], "kafka": []}
    mark = {"tally": [], "kafka": []}
    for members in sizes:
        runs = bench.alternate(lambda kind: group_once(bench.server(kind), members),
                               rounds=1 if bench.quick or members > 1000 else 3)
        for kind, rs in runs.items():
            join[kind].append((members, statistics.median(r["server_cpu_s"] for r in rs)))
            leave[kind].append((members, statistics.median(r["rebalance_ms"] for r in rs)))
            if members == sizes[1]:
                mark[kind] = [r["server_cpu_s"] for r in rs]
    bench.grow("group: join and one leaves, CPU", "members", "CPU-s", join)
    bench.grow("group: one leaves, until all are assigned", "members", "ms", leave)
    bench.record("group_join", mark, "CPU-s", members=sizes[1])
    line = join["tally"]
    bench.record("group_linear", {"tally": [(line[2][1] / line[1][1]) /
                                            (line[2][0] / line[1][0])]}, "times linear")


@measurement
def rebalance(bench):
    """Two members, one leaves, the other notices at once: what the broker adds."""
    runs = bench.alternate(lambda kind: group_once(bench.server(kind), 2)["rebalance_ms"],
                           rounds=bench.pick(2, 7))
    bench.record("rebalance", runs, "ms")


# Commits that the virtual machine of Kafka takes until it is warm: the cost of one goes on falling
# until then, to less than half.
WARM_UP_COMMITS = {"kafka": (150000, 300000), "tally": (2000, 20000)}


@measurement
def commit(bench):
    """One commit in flight a member, of a partition of its own; durable on both sides: Kafka's
    coordinator appends what came together and, with log.flush.interval.messages=1, syncs that."""
    members = bench.pick(100, 1000)
    topics = {kind: bench.durable(kind).make_topic_only(members) for kind in ("tally", "kafka")}

    def once(kind, n):
        s = bench.durable(kind)
        return s.commits(topics[kind], s.topic(), members, n)

    for kind in "tally", "kafka":
        once(kind, bench.pick(*WARM_UP_COMMITS[kind]))
    n = {"tally": bench.pick(20000, 200000), "kafka": bench.pick(10000, 100000)}
    runs = bench.alternate(lambda kind: once(kind, n[kind]))
    raw = [limit("exchange", str(members), str(n["tally"]), bench.path("limit.dat"))
           for _ in range(bench.rounds)]
    cpu = {k: [v[0] for v in r] for k, r in runs.items()}
    rate = {k: [v[1] for v in r] for k, r in runs.items()}
    cpu["limit"] = [r["cpu_s_per_million"] for r in raw]
    rate["limit"] = [r["per_second"] for r in raw]
    bench.record("commit", cpu, "CPU-s/million", members=members)
    bench.record("commit_rate", rate, "a second")


# ---- How cost grows

@measurement
def growth_partitions(bench):
    points = {"tally": [], "kafka": []}
    for partitions in 1, 10, 100, 1000:
        for kind in points:
            r = produce_once(bench.server(kind), bench.pick(60, 300), partitions=partitions,
                             connections=4)
            points[kind].append((partitions, r["server_cpu_s"] / gb(r)))
    bench.grow("produce, 16 KB batches, by partitions", "partitions", "CPU-s/GB", points)


@measurement
def growth_connections(bench):
    points = {"tally": [], "kafka": []}
    for connections in 1, 10, 100, 1000:
        for kind in points:
            r = produce_once(bench.server(kind), bench.pick(60, 300), partitions=16,
                             connections=connections)
            points[kind].append((connections, r["server_cpu_s"] / gb(r)))
    bench.grow("produce, 16 KB batches, by connections", "connections", "CPU-s/GB", points)


@measurement
def growth_groups(bench):
    """Commits of ten members, with so many groups that were there before."""
    points = {"tally": [], "kafka": []}
    for kind in points:
        at_once = {"tally": ("--set", "group.initial.rebalance.delay.ms=0"),
                   "kafka": ("group.initial.rebalance.delay.ms=0",)}
        s = bench.server(kind, "groups", *DURABLE[kind], *at_once[kind])
        topic, made = s.make_topic_only(10), 0
        s.commits(topic, s.topic(), 10, bench.pick(2000, 20000))
        for groups in 1, 10, 100, *bench.pick((), (1000,)):
            s.make_groups(topic, groups - made)
            made = groups
            n = bench.pick(4000, 20000) // (4 if kind == "kafka" else 1)
            points[kind].append((groups, s.commits(topic, s.topic(), 10, n)[0]))
        bench.drop(kind, "groups")
    bench.grow("commits, durable, by groups", "groups", "CPU-s/million", points)


@measurement
def growth_log_size(bench):
    points = {"tally": [], "kafka": []}
    for mb in 10, 100, bench.pick(300, 1000):
        for kind in points:
            server = bench.server(kind)
            topic = fill(server, 1, mb)
            read = ("consume", "--topic", topic, "--records", str(bench.pick(300, 2000) * 1000))
            server.bench(*read)
            points[kind].append((mb, server.bench(*read)["server_cpu_s"] /
                                 (bench.pick(300, 2000) / 1e3)))
            server.delete_topic(topic)
    bench.grow("consume, by size of the log", "MB", "CPU-s/GB", points)
