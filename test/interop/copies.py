#!/usr/bin/env python3
"""Topics of a real Apache Kafka copied into tally and out again: tally topic import and export.
What is read from the one is what is read from the other, and both go on from there."""
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import logs  # noqa: E402
from logs import batch, decode, keyed  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
TALLY = ROOT / "build/tally"
COUNTS = {"passed": 0, "failed": 0}
MB = 1 << 20


def check(name, ok, detail=""):
    COUNTS["passed" if ok else "failed"] += 1
    print(f"{'ok  ' if ok else 'FAIL'} {name}{'' if ok else ': ' + str(detail)[:600]}", flush=True)
    return ok


class Kafka:
    def __init__(self, directory, **settings):
        self.directory, self.settings = directory, settings
        self.data = directory / "data"

    def start(self):
        done = subprocess.run([ROOT / "test/interop/kafka", "start", self.directory,
                               *[f"{k.replace('_', '.')}={v}" for k, v in self.settings.items()]],
                              stdout=subprocess.PIPE, text=True, check=True)
        self.address = done.stdout.split()[-1]
        return logs.Broker("kafka", self.address, self.data)

    def stop(self):
        subprocess.run([ROOT / "test/interop/kafka", "stop", self.directory], check=True)


class Tally:
    def __init__(self, data):
        self.data = data

    def start(self):
        self.process = subprocess.Popen([TALLY, "serve", "--listen", "127.0.0.1:0", "--data",
                                         self.data], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("ready "), line
        return logs.Broker("tally", line.split()[1], self.data)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(30) == 0, "tally did not stop well"


def topic(*arguments):
    return subprocess.run([TALLY, "topic", *map(str, arguments)], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def read(broker, name, partition=0):
    """Log start, end and all batches that a consumer is sent."""
    logs.until(lambda: broker.offset(name, -2) >= 0, f"a leader of {name}")
    start, end = broker.offset(name, -2), broker.offset(name, -1)
    at, found = start, []
    while at < end:
        answer = broker.call("Fetch", 11, {
            "MaxWaitMs": 100, "MinBytes": 1, "MaxBytes": 8 * MB, "SessionEpoch": -1, "Topics": [
                {"Topic": name, "Partitions": [{"Partition": partition, "FetchOffset": at,
                                                "PartitionMaxBytes": 4 * MB,
                                                "LogStartOffset": -1}]}]})
        part = answer["Responses"][0]["Partitions"][0]
        assert part["ErrorCode"] == 0, part
        batches = whole(part["Records"])
        if not batches:
            break
        found += batches
        at = batches[-1]["base"] + batches[-1]["last_delta"] + 1
    return start, end, found


def whole(data):
    """Decoded batches, without a cut one at the end."""
    at = 0
    while len(data) - at >= 12:
        size = 12 + int.from_bytes(data[at + 8:at + 12], "big")
        if len(data) - at < size:
            break
        at += size
    return decode(data[:at])


def same(name, wanted, found):
    for title, a, b in zip(("start", "end", "batches"), wanted, found):
        if a != b:
            check(name, False, f"{title}: {logs.difference(a, b)}")
            return
    check(name, len(wanted[2]) > 0, "nothing was read")


def fill(kafka, broker):
    broker.create("plain", {"segment.bytes": MB})
    for data in keyed(400, 11):
        assert broker.produce("plain", data) == "NONE"
    broker.create("compacted", {"cleanup.policy": "compact", "segment.bytes": MB,
                                "min.cleanable.dirty.ratio": "0.01"})
    for data in keyed(500, 12):
        assert broker.produce("compacted", data) == "NONE"
    active = int(max(broker.files("compacted", ".log"))[:20])
    logs.until(lambda: broker.cleaned("compacted") == active, "compaction")
    broker.create("cut", {"segment.bytes": MB})
    for data in keyed(50, 13):
        assert broker.produce("cut", data) == "NONE"
    broker.call("DeleteRecords", 1, {"TimeoutMs": 5000, "Topics": [
        {"Name": "cut", "Partitions": [{"PartitionIndex": 0, "Offset": 33}]}]})
    broker.create("transactions", {})
    subprocess.run([ROOT / "test/interop/kafka", "run",
                    "org.apache.kafka.tools.ProducerPerformance", "--topic", "transactions",
                    "--num-records", "500", "--record-size", "50", "--throughput", "-1",
                    "--transactional-id", "copies", "--transaction-duration-ms", "20",
                    "--producer-props", f"bootstrap.servers={kafka.address}"],
                   check=True, stdout=subprocess.DEVNULL)


NAMES = ("plain", "compacted", "cut", "transactions")


def bad_input(work, kafka_data):
    """Each is refused by name, and leaves no data directory behind."""
    def refused(name, directory, *words, topics=()):
        data = work / "refused"
        out = topic("import", directory, *topics, "--data", data)
        ok = out.returncode == 2 and all(w in out.stdout for w in words)
        check(f"refused: {name}", ok and not data.exists(), f"{out.returncode}: {out.stdout}")

    damaged = work / "damaged"
    shutil.copytree(kafka_data, damaged)
    segment = sorted((damaged / "plain-0").glob("*.log"))[1]
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    refused("a flipped bit", damaged, segment.name, "offset", "checksum", "nothing was changed")
    segment.write_bytes(content[:len(content) // 2])
    refused("a segment that was cut", damaged, segment.name, "offset")
    segment.unlink()
    shutil.rmtree(damaged / "plain-0")
    refused("a topic that is not there", damaged, "no topic plain", topics=["plain"])
    (damaged / "plain-1").mkdir()
    refused("a partition without segments", damaged, "plain", topics=["plain"])
    for junk, words in (("empty", ["no topic is there"]), ("photos", ["no topic is there"])):
        (work / junk).mkdir()
        if junk == "photos":
            (work / junk / "a-1.jpg").write_bytes(b"x" * 100)
        refused(f"a foreign directory: {junk}", work / junk, *words)
    refused("no directory", work / "nowhere", "No such file")


def main():
    work = pathlib.Path(tempfile.mkdtemp(prefix="tally-copies."))
    first, second = Kafka(work / "first", log_cleaner_backoff_ms=100), Kafka(work / "second")
    tally = Tally(work / "tally")
    try:
        broker = first.start()
        fill(first, broker)
        wanted = {name: read(broker, name) for name in NAMES}
        out = topic("import", first.data, "--data", tally.data)
        check("a Kafka that runs is not touched", out.returncode == 2 and
              "runs on it" in out.stdout and not tally.data.exists(), out.stdout)
        first.stop()
        bad_input(work, first.data)
        out = topic("import", first.data, "--data", tally.data)
        check("import", out.returncode == 0 and "imported plain: 1 partition, " in out.stdout,
              out.stdout)
        out = topic("import", first.data, "plain", "--data", tally.data)
        check("a topic that is there is not imported again", out.returncode == 2 and
              "there is a topic plain already" in out.stdout, out.stdout)
        broker = tally.start()
        for name in NAMES:
            same(f"tally has what Kafka had: {name}", wanted[name], read(broker, name))
        more = batch([(b"k1", b"after")], [logs.NOW])
        for name in NAMES:
            check(f"tally goes on: {name}", broker.produce(name, more) == "NONE")
        wanted = {name: read(broker, name) for name in NAMES}
        (work / "out").mkdir()
        out = topic("export", work / "out", "--data", tally.data)
        check("a tally that runs is not touched", out.returncode == 2 and
              "stop that broker" in out.stdout, out.stdout)
        tally.stop()

        broker = second.start()
        for name in NAMES:
            broker.create(name, {})
        second.stop()
        out = topic("export", second.data, *NAMES, "--data", tally.data)
        check("export", out.returncode == 0, out.stdout)
        out = topic("export", second.data, "plain", "--data", tally.data)
        check("records in Kafka are not overwritten", out.returncode == 2 and
              "holds records already" in out.stdout, out.stdout)
        broker = second.start()
        for name in NAMES:
            same(f"Kafka has what tally had: {name}", wanted[name], read(broker, name))
            check(f"Kafka goes on: {name}", broker.produce(name, more) == "NONE")
        broker = tally.start()
        for name in NAMES:
            same(f"tally still has it: {name}", wanted[name], read(broker, name))
        tally.stop()
    finally:
        for broker in (first, second):
            broker.stop()
        if getattr(tally, "process", None) and tally.process.poll() is None:
            tally.process.kill()
        if not COUNTS["failed"]:
            shutil.rmtree(work)
    print(f"copies: {COUNTS['passed']} passed, {COUNTS['failed']} failed")
    sys.exit(COUNTS["failed"] > 0)


if __name__ == "__main__":
    main()
