"""What the clients of a soak know for certain, and the checks of the broker's word against it."""
import threading
import time
import zlib

# A commit that failed may still be carried out, but not later than this.
FAILED_MAY_APPLY_S = 5.0


def value_of(producer, seq):
    """The one value a producer gives its record number seq: its length and all bytes follow."""
    head = b"%s %d " % (producer.encode(), seq)
    body = b"%08x" % zlib.crc32(head)
    return head + body * (1 + seq % 37)


def read_value(value):
    """Who wrote it and which number it is; None when one byte of it is wrong."""
    try:
        producer, seq, _ = value.split(b" ", 2)
        name, n = producer.decode(), int(seq)
    except ValueError:
        return None
    return (name, n) if value_of(name, n) == value else None


class Failed(AssertionError):
    pass


class Truth:
    """Shared by all threads. Offsets are kept for ever: none may be used twice."""

    def __init__(self):
        self.lock = threading.Lock()
        self.failures = []
        self.stands = {}     # (topic, partition) -> {offset: (producer, seq)}
        self.acked = {}      # (topic, partition) -> [(offset, producer, seq)], not yet checked
        self.last_seq = {}   # (topic, partition, producer) -> (seq, offset) read last
        self.commits = {}    # (group, topic, partition) -> [Attempt]
        self.counts = dict.fromkeys(
            ("produced", "acked", "acked_leader", "refused", "consumed", "commits",
             "commits_failed", "checks", "reread", "topics"), 0)

    def count(self, name, n=1):
        with self.lock:
            self.counts[name] += n

    def fail(self, text):
        with self.lock:
            if len(self.failures) < 20:
                self.failures.append(text)
                print(f"soak: FAILED {text}", flush=True)

    # ---- records

    def seen(self, topic, partition, offset, value):
        """A client has read this record, whoever it is."""
        who = read_value(value)
        if who is None:
            self.fail(f"{topic}-{partition} {offset}: nobody wrote {value[:60]!r}")
            return None
        with self.lock:
            had = self.stands.setdefault((topic, partition), {}).setdefault(offset, who)
        if had != who:
            self.fail(f"{topic}-{partition} {offset} was used twice: {had} and {who}")
        return who

    def offsets_below(self, topic, partition, end):
        with self.lock:
            return {o for o in self.stands.get((topic, partition), {}) if o < end}

    def note_acked(self, topic, partition, offset, producer, seq):
        with self.lock:
            self.acked.setdefault((topic, partition), []).append((offset, producer, seq))

    def take_acked(self, topic, partition):
        with self.lock:
            return self.acked.pop((topic, partition), [])

    def put_back_acked(self, topic, partition, some):
        with self.lock:
            self.acked.setdefault((topic, partition), []).extend(some)

    def in_order(self, topic, partition, offset, who, is_exact):
        """Called for every record of a partition in the log's order. is_exact: the producer
        leaves nothing out; else each record is there once at most."""
        producer, seq = who
        key = (topic, partition, producer)
        last, last_offset = self.last_seq.get(key, (-1, -1))
        if seq <= last or (is_exact and seq != last + 1):
            self.fail(f"{topic}-{partition} {offset}: {producer} {seq} after {last} "
                      f"at {last_offset}")
        self.last_seq[key] = (seq, offset)

    def forget_order(self, topic, partition):
        for key in [k for k in self.last_seq if k[:2] == (topic, partition)]:
            del self.last_seq[key]

    # ---- commits

    def commit_begins(self, group, topic, partition, offset):
        attempt = Attempt(offset)
        with self.lock:
            self.commits.setdefault((group, topic, partition), []).append(attempt)
        return attempt

    def check_committed(self, group, topic, partition, value, read_began, read_ended):
        """A read between the two instants gave value (-1: none): may it?"""
        with self.lock:
            attempts = list(self.commits.get((group, topic, partition), []))
        acked = [a for a in attempts if a.is_acked and a.ended < read_began]
        newest = max((a.began for a in acked), default=-1.0)
        legal = {a.offset for a in attempts if a.began < read_ended and a.last_s() >= newest}
        if not acked:
            legal.add(-1)
        if value not in legal:
            self.fail(f"{group} {topic}-{partition}: committed is {value}, may be {sorted(legal)}")
        with self.lock:  # what can no longer be read is forgotten
            self.commits[(group, topic, partition)] = [
                a for a in self.commits.get((group, topic, partition), [])
                if a.last_s() >= newest]


class Attempt:
    def __init__(self, offset):
        self.offset = offset
        self.began = time.monotonic()
        self.ended = None
        self.is_acked = False

    def end(self, is_acked):
        self.is_acked = is_acked
        self.ended = time.monotonic()

    def last_s(self):
        """Not carried out after this."""
        if self.ended is None:
            return float("inf")
        return self.ended if self.is_acked else self.ended + FAILED_MAY_APPLY_S
