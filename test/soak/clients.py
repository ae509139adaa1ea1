"""The real clients of a soak (librdkafka): each a thread, until told to stop."""
import random
import threading
import time

from confluent_kafka import (Consumer, KafkaError, KafkaException, Producer, TopicPartition,
                             OFFSET_INVALID)
from truth import value_of

TOPIC = "soak"
PARTITIONS = 4
# The broker is away for milliseconds: nobody waits long before asking again.
IMPATIENT = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50,
             "socket.connection.setup.timeout.ms": 2000, "log_level": 0,
             "retry.backoff.ms": 20, "topic.metadata.refresh.interval.ms": 2000}


class Client(threading.Thread):
    def __init__(self, name, address, truth, seed):
        super().__init__(name=name, daemon=True)
        self.address, self.truth = address, truth
        self.dice = random.Random(f"{seed} {name}")
        self.stopped = threading.Event()

    def config(self, **more):
        return {"bootstrap.servers": self.address, "client.id": self.name, **IMPATIENT,
                **{k.replace("_", "."): v for k, v in more.items()}}

    def stop(self):
        self.stopped.set()

    def run(self):
        try:
            self.work()
        except Exception as e:  # a client that dies is a failure, not a silence
            self.truth.fail(f"{self.name} died: {type(e).__name__}: {e}")


class Writer(Client):
    """Numbers its records per partition. is_exact: idempotent and acks=all, asks until each is
    taken. Else acks=1 without a second try: each record is there once or not at all."""

    def __init__(self, name, address, truth, seed, is_exact, per_s):
        super().__init__(name, address, truth, seed)
        self.is_exact, self.per_s = is_exact, per_s
        self.next_seq = [0] * PARTITIONS
        self.paused = threading.Event()

    def on_delivery(self, error, message):
        seq, partition = message_seq(message), message.partition()
        if error:
            self.truth.count("refused")
            if self.is_exact:
                self.truth.fail(f"{self.name} {seq} was given up: {error}")
            return
        self.truth.count("acked" if self.is_exact else "acked_leader")
        if message.offset() == OFFSET_INVALID or message.offset() < 0:
            self.truth.fail(f"{self.name} {seq}: acknowledged without an offset")
            return
        self.truth.note_acked(message.topic(), partition, message.offset(), self.name, seq)

    def settings(self):
        if self.is_exact:
            return self.config(enable_idempotence=True, message_timeout_ms=300000,
                               linger_ms=self.dice.choice((0, 5, 20)),
                               compression_type=self.dice.choice(("none", "lz4", "zstd")))
        return self.config(acks=1, retries=0, message_timeout_ms=10000, linger_ms=5,
                           max_in_flight=1)

    def work(self):
        p = Producer(self.settings())
        while not self.stopped.is_set():
            if self.paused.is_set():
                p.poll(0.05)
                continue
            for _ in range(self.dice.randrange(1, 40)):
                self.send(p)
            p.poll(0)
            time.sleep(self.dice.random() * 40 / self.per_s)
        if p.flush(120) > 0:
            self.truth.fail(f"{self.name}: {len(p)} records were never answered")

    def send(self, p):
        partition = self.dice.randrange(PARTITIONS)
        seq = self.next_seq[partition]
        try:
            p.produce(TOPIC, value_of(self.name, seq), partition=partition,
                      on_delivery=self.on_delivery)
        except BufferError:
            p.poll(0.1)
            return
        self.next_seq[partition] += 1
        self.truth.count("produced")


def message_seq(message):
    return int(message.value().split(b" ", 2)[1])


class Reader(Client):
    """A member of a group: works, then commits and waits for the answer. Leaves and comes back
    now and then; one of a group may be static."""

    def __init__(self, name, address, truth, seed, group, churns, **more):
        super().__init__(name, address, truth, seed)
        self.group, self.churns, self.more = group, churns, more
        self.is_draining = False
        self.position = {}

    def work(self):
        while not self.stopped.is_set():
            life_s = self.dice.uniform(1, 8) if self.churns else 1e9
            c = Consumer(self.config(group_id=self.group, enable_auto_commit=False,
                                     auto_offset_reset="earliest", session_timeout_ms=6000,
                                     heartbeat_interval_ms=500, fetch_wait_max_ms=50,
                                     fetch_error_backoff_ms=20, **self.more))
            c.subscribe([TOPIC], on_assign=self.on_assign, on_revoke=self.on_revoke,
                        on_lost=self.on_lost)
            self.read(c, time.monotonic() + life_s)
            try:
                c.close()
            except KafkaException:
                pass  # the broker was away; the session ends by itself

    def on_assign(self, _consumer, _partitions):
        self.position = {}

    def on_revoke(self, consumer, _partitions):
        self.commit(consumer)
        self.position = {}

    def on_lost(self, _consumer, _partitions):
        self.position = {}

    def read(self, c, until):
        commit_at = time.monotonic() + self.dice.random() * 0.3
        while not self.stopped.is_set():
            now = time.monotonic()
            if now >= until and not self.is_draining:
                break
            for m in c.consume(200, 0.05):
                if m.error():
                    continue
                self.truth.seen(m.topic(), m.partition(), m.offset(), m.value())
                self.truth.count("consumed")
                self.position[m.partition()] = m.offset() + 1
            if now >= commit_at:
                self.commit(c)
                commit_at = now + self.dice.random() * 0.3
        self.commit(c)

    def commit(self, c):
        wanted = dict(self.position)
        if not wanted:
            return
        attempts = {p: self.truth.commit_begins(self.group, TOPIC, p, o)
                    for p, o in wanted.items()}
        try:
            done = c.commit(offsets=[TopicPartition(TOPIC, p, o) for p, o in wanted.items()],
                            asynchronous=False)
        except KafkaException as e:
            for a in attempts.values():
                a.end(False)
            if e.args[0].code() == KafkaError._NO_OFFSET:
                return
            self.truth.count("commits_failed", len(attempts))
            return
        for t in done:
            attempts[t.partition].end(t.error is None)
            self.truth.count("commits_failed" if t.error else "commits")
        for p, o in wanted.items():  # nothing new: nothing to commit again
            if self.position.get(p) == o:
                del self.position[p]
