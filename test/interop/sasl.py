#!/usr/bin/env python3
"""tally consume against a real Apache Kafka that wants a name and a password (SASL/PLAIN): the
wrong ones, none, and ones without rights end it with one sentence, nothing stored; with the right
ones every record is stored once, also when a copy without them goes on and back.

usage: sasl.py     ends with "N passed, N failed" """
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test/consume"))
import world  # noqa: E402

PASSWORDS = {"tally": "right-secret", "stranger": "known-secret"}


def free_pair():
    """Two ports in a row: the script's controller takes the second."""
    while True:
        port = world.free_port()
        try:
            with world.socket.create_server(("127.0.0.1", port + 1)):
                return port
        except OSError:
            pass


class Kafka:
    """One listener for everybody, who may do all, and one with SASL/PLAIN."""

    def __init__(self, folder):
        self.folder = folder
        port, guarded = free_pair(), world.free_port()
        self.plain, self.guarded = f"127.0.0.1:{port}", f"127.0.0.1:{guarded}"
        users = " ".join(f'user_{u}="{p}"' for u, p in PASSWORDS.items())
        both = f"PLAINTEXT://{self.plain},SASL_PLAINTEXT://{self.guarded}"
        subprocess.run(
            [ROOT / "test/interop/kafka", "start", folder,
             f"listeners={both},CONTROLLER://127.0.0.1:{port + 1}", f"advertised.listeners={both}",
             "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,"
             "SASL_PLAINTEXT:SASL_PLAINTEXT",
             "sasl.enabled.mechanisms=PLAIN",
             "listener.name.sasl_plaintext.plain.sasl.jaas.config="
             f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};",
             "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
             "super.users=User:ANONYMOUS;User:tally"],
            env={**os.environ, "KAFKA_PORT": str(port)}, stdout=subprocess.DEVNULL, check=True)

    def stop(self):
        subprocess.run([ROOT / "test/interop/kafka", "stop", self.folder], check=True)


class Place:
    def __init__(self, folder):
        self.kafka = Kafka(folder / "kafka")
        self.database = world.Sqlite(folder)
        self.into = f"sqlite:{self.database.file}"
        for topic in ("work", "dead"):
            world.wait_until(lambda: world.tally("topic", "create", topic, "--bootstrap",
                                                 self.kafka.plain, expect=None).returncode == 0,
                             f"{topic} is made")
        self.n = 0

    def produce(self, text):
        world.tally("produce", "work", "--bootstrap", self.kafka.plain, text=text)
        self.n += len(text.splitlines())

    def consume(self, *more, address=None, user=None, password=None, expect=0, timeout=60):
        how = []
        if user:
            for setting in ("security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN",
                            f"sasl.username={user}", f"sasl.password={password}"):
                how += ["-X", setting]
        done = world.tally("consume", "work", "--group", "g", "--into", self.into, "--create",
                           "--until-end", "--timeout", timeout, "--bootstrap",
                           address or self.kafka.guarded, *how, *more, expect=expect)
        if expect:
            said = [line for line in done.stderr.splitlines() if not line.startswith("time=")]
            assert len(said) == 1 and said[0].startswith("tally consume: "), done.stderr
            for p in (password, *PASSWORDS.values()):
                assert not p or p not in done.stderr, "a password in the log"
            return said[0]
        return done.stdout

    def rows(self):
        try:
            return self.database.query("SELECT count(*), count(DISTINCT record_offset) FROM work")
        except world.sqlite3.OperationalError:
            return [(0, 0)]


def says(text, *words):
    for w in words:
        assert w in text, (w, text)


def test_wrong_password(p):
    p.produce("a\nb\nc\n")
    for user, password in (("tally", "wrong-secret"), ("nobody", "wrong-secret")):
        said = p.consume(user=user, password=password, expect=2)
        says(said, "refuses our credentials", p.kafka.guarded)
    assert p.rows() == [(0, 0)]


def test_no_password(p):
    """The broker hangs up on who does not begin with SASL: it is away, as far as anybody knows."""
    said = p.consume(expect=2, timeout=2)
    says(said, f"no broker of {p.kafka.guarded}", "given up after 2 s", "SASL")
    assert p.rows() == [(0, 0)]


def test_a_password_for_nobody(p):
    said = p.consume(address=p.kafka.plain, user="tally", password=PASSWORDS["tally"], expect=2,
                     timeout=2)
    says(said, p.kafka.plain)
    assert p.rows() == [(0, 0)]


def test_no_rights(p):
    said = p.consume(user="stranger", password=PASSWORDS["stranger"], expect=2)
    says(said, "topic work", "authorization failed")
    assert p.rows() == [(0, 0)]


def test_the_right_one(p):
    """And back and forth between one that can ask for the topic's id and one that cannot."""
    right = {"user": "tally", "password": PASSWORDS["tally"]}
    says(p.consume("--dead-letter", "dead", **right), "3 records stored")
    assert p.database.query("SELECT topic_id FROM tally_offset") == [("-",)]
    p.produce("d\n")
    says(p.consume(address=p.kafka.plain), "1 records stored")
    (topic_id,), = p.database.query("SELECT topic_id FROM tally_offset")
    assert len(topic_id) == 22, topic_id
    p.produce("e\n")
    says(p.consume(**right), "1 records stored")
    assert p.rows() == [(p.n, p.n)]
    assert p.database.query("SELECT topic_id, next_offset FROM tally_offset") == [(topic_id, p.n)]


def test_dead_letters(p):
    """Their producer shows the same name and password."""
    p.produce("no number\n")
    out = p.consume("--dead-letter", "dead", "--format", "json", "--map", "value=@value", "--map",
                    "record_offset=n", user="tally", password=PASSWORDS["tally"])
    says(out, "0 records stored, 1 dead letters")
    assert list(world.log_of(p.kafka.plain, "dead").values()) == [b"no number"]


def main():
    with world.Folder() as folder:
        place = Place(folder)
        try:
            return world.run_tests("sasl", globals(), place, chosen=sys.argv[1:])
        finally:
            place.kafka.stop()


if __name__ == "__main__":
    sys.exit(main())
