#!/usr/bin/env python3
"""Bad input to tally consume: one sentence that says what to do, the right exit status, nothing
half stored.

usage: bad.py [NAME...]     ends with "N passed, N failed" """
import json
import os
import pty
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import sys

import confluent_kafka as kafka
import confluent_kafka.admin

import world

BIG = 10 << 20


class Place:
    """A broker and both databases, for all tests; every test has names of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.broker = world.Broker(folder)
        self.sqlite, self.postgres = world.Sqlite(folder), world.Postgres(folder)
        self.n = 0

    def databases(self):
        return [("sqlite", self.sqlite, f"sqlite:{self.sqlite.file}", "BLOB"),
                ("postgres", self.postgres, self.postgres.url(), "BYTEA")]

    def topic(self, *values, partitions=1, settings=()):
        self.n += 1
        name = f"t{self.n}"
        more = [x for s in settings for x in ("--set", s)]
        world.tally("topic", "create", name, "--partitions", partitions, "--bootstrap",
                    self.broker.address, *more)
        self.produce(name, *values)
        return name

    def produce(self, topic, *values):
        p = kafka.Producer({"bootstrap.servers": self.broker.address,
                            "message.max.bytes": 2 * BIG})
        failed = []
        for v in values:
            p.produce(topic, v, partition=0, on_delivery=lambda e, _: e and failed.append(e))
        p.flush(60)
        assert not failed, failed

    def consume(self, *arguments, expect=0, environment=None):
        done = world.tally("consume", *arguments, "--bootstrap", self.broker.address,
                           "--until-end", "--timeout", "2", expect=expect,
                           environment=environment)
        if expect:
            said = [line for line in done.stderr.splitlines()
                    if line.startswith("tally consume: ")]
            assert len(said) == 1 and len(said[0]) < 700, done.stderr
            return said[0]
        return done

    def delete_records(self, topic, before):
        """Moves the log's start, by a DeleteRecords of our own: the client has no call for it."""
        name = topic.encode()
        body = struct.pack(f">hhihih{len(name)}siiqi", 21, 1, 1, -1, 1, len(name), name, 1, 0,
                           before, 30000)
        with socket.create_connection(("127.0.0.1", self.broker.port), 30) as s:
            s.sendall(struct.pack(">i", len(body)) + body)
            answer = s.makefile("rb")
            (n,) = struct.unpack(">i", answer.read(4))
            low, error = struct.unpack(">qh", answer.read(n)[-10:])
        assert (low, error) == (before, 0), (low, error)

    def stop(self):
        self.postgres.stop()
        self.broker.stop()


def says(text, *words):
    for w in words:
        assert w in text, (w, text)


def rows_of(database, table):
    """0 too while there is no such table."""
    try:
        return database.query(f"SELECT count(*) FROM {table}")[0][0]
    except Exception:
        return 0


def stored(database, table, topic):
    """Rows, and next_offset, which must agree where there is one partition from 0."""
    (rows,), = database.query(f"SELECT count(*) FROM {table}")
    offsets = database.query("SELECT next_offset FROM tally_offset WHERE topic = %s", (topic,))
    assert offsets and offsets[0][0] == rows, (rows, offsets)
    return rows


def test_no_broker(p):
    port = world.free_port()
    done = world.tally("consume", "t", "--group", "g", "--into", f"sqlite:{p.folder}/x.db",
                       "--bootstrap", f"127.0.0.1:{port}", "--timeout", "1", expect=2)
    says(done.stderr, f"no broker of 127.0.0.1:{port}", "given up after 1 s", "event=retry")


def test_no_database(p):
    t = p.topic("a")
    port = world.free_port()
    said = p.consume(t, "--group", "g", "--into", f"postgres://tally@127.0.0.1:{port}/postgres",
                     expect=2)
    says(said, "cannot reach database 127.0.0.1/postgres", "given up")


def test_somebody_else_in_the_file(p):
    """A lock that passes is waited for, also at the very start, when the journal is changed."""
    t = p.topic("a", "b")
    file = p.folder / "locked.db"
    said = ""
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("CREATE TABLE something (x)")
    other.execute("BEGIN EXCLUSIVE")
    common = [t, "--group", "g", "--into", f"sqlite:{file}", "--create"]
    child = subprocess.Popen([world.ROOT / "build/tally", "consume", *common, "--until-end",
                              "--bootstrap", p.broker.address, "--timeout", "2"], text=True,
                             stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    while "event=retry" not in said:
        said = child.stderr.readline()
        assert said, child.wait()
    says(said, "is locked by another process", "trying again")
    other.execute("COMMIT")
    out, said = child.communicate(timeout=60)
    assert child.returncode == 0 and "2 records stored" in out, said
    other.execute("BEGIN IMMEDIATE")
    says(p.consume(*common, expect=2), "is locked by another process", "given up after 2 s")
    other.close()


def test_a_database_that_is_read_only_for_a_while(p):
    """What a failover looks like to whoever is still connected to the old primary."""
    def make(how):
        p.postgres.query_once(f"ALTER ROLE standby SET default_transaction_read_only = {how}", ())
        p.postgres.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                         " WHERE usename = 'standby'")

    t = p.topic(*"abc")
    p.postgres.query("CREATE ROLE standby LOGIN SUPERUSER")
    into = p.postgres.url().replace("tally@", "standby@")
    common = [t, "--group", "g", "--into", into, "--create"]
    child = subprocess.Popen([world.ROOT / "build/tally", "consume", *common, "--bootstrap",
                              p.broker.address], stderr=subprocess.PIPE, text=True,
                             stdout=subprocess.PIPE)
    world.wait_until(lambda: "event=claimed" in child.stderr.readline(), "claimed")
    make("on")
    p.produce(t, "d", "e")
    world.wait_until(lambda: "is read-only" in child.stderr.readline(), "it says so")
    says(p.consume(*common, expect=2), "database 127.0.0.1/postgres is read-only",
         "target_session_attrs", "given up after 2 s")
    make("off")
    world.wait_until(lambda: p.postgres.query(f"SELECT count(*) FROM {t}") == [(5,)], "d and e")
    child.terminate()
    _, said = child.communicate(timeout=30)
    assert child.returncode == 0, said
    assert stored(p.postgres, t, t) == 5


def test_no_topic(p):
    said = p.consume("nosuch", "--group", "g", "--into", f"sqlite:{p.folder}/x.db", expect=2)
    says(said, "no topic nosuch", "tally topic create nosuch")


def test_wrong_credentials(p):
    t = p.topic("a")
    said = p.consume(t, "--group", "g", "--into",
                     f"postgres://nobody@127.0.0.1:{p.postgres.port}/postgres", expect=2)
    says(said, "check user, password", 'role "nobody" does not exist')
    p.postgres.query("CREATE ROLE guarded LOGIN PASSWORD 'right'")
    hba = p.postgres.data / "pg_hba.conf"
    hba.write_text("host all guarded 127.0.0.1/32 scram-sha-256\n" + hba.read_text())
    p.postgres.query("SELECT pg_reload_conf()")
    url = f"postgres://guarded@127.0.0.1:{p.postgres.port}/postgres"
    world.wait_until(lambda: "authentication failed" in p.consume(
        t, "--group", "g", "--into", url, expect=2, environment={"PGPASSWORD": "wrong"}),
        "a password is asked for")
    said = p.consume(t, "--group", "g", "--into", url, expect=2,
                     environment={"PGPASSWORD": "wrong"})
    assert "wrong" not in said, "a password in the log"


def test_options(p):
    into = f"sqlite:{p.folder}/x.db"
    for arguments, words in [
            (["t", "--into", into], ["--group"]),
            (["t", "--group", "g"], ["--into sqlite:FILE"]),
            (["--group", "g", "--into", into], ["topic"]),
            (["t", "--group", "g", "--into", "mysql:x"], ["sqlite:FILE or postgres:URL"]),
            (["t", "--group", "g", "--into", into, "--batch", "0"], ["--batch", "1 to"]),
            (["t", "--group", "g", "--into", into, "--format", "xml"], ["raw, lines, json, csv"]),
            (["t", "--group", "g", "--into", into, "--map", "a"], ["COLUMN=FIELD"]),
            (["t", "--group", "g", "--into", into, "--map", "a=b"], ["@fields"]),
            (["t", "--group", "g", "--into", into, "--map", "a=@b"], ["@offset"]),
            (["t", "--group", "g", "--into", into, "--format", "csv", "--map", "a=b"], ["place"]),
            (["t", "--group", "g", "--into", into, "--format", "json", "--create"], ["--map"]),
            (["t", "--group", "g", "--into", into, "-X", "no.such=1"], ["no.such"]),
            (["t", "--group", "g", "--into", into, "-X", "enable.auto.commit=true"],
             ["enable.auto.commit"]),
            (["t", "--group", "g", "--into", into, "-X", "metadata.broker.list=x:1"],
             ["metadata.broker.list"]),
            (["t", "t", "--group", "g", "--into", into], ["given twice"]),
            (["t", "--group", "g", "--into", f"sqlite:{p.folder}/none/x.db"],
             ["cannot write database"])]:
        says(p.consume(*arguments, expect=2), *words)


def test_missing_table_or_column(p):
    for kind, database, into, _ in p.databases():
        t = p.topic("a", "b")
        says(p.consume(t, "--group", "g", "--into", into, expect=2), f'table "{t}"', "--create")
        database.query(f"CREATE TABLE {t} (topic TEXT, partition INTEGER, record_offset BIGINT)")
        said = p.consume(t, "--group", "g", "--into", into, expect=2)
        says(said, "record_time", "--create")
        assert database.query(f"SELECT count(*) FROM {t}") == [(0,)], kind


def test_a_type_that_does_not_fit(p):
    for _, database, into, _ in p.databases():
        t = p.topic('{"id": 1}', '{"id": "two"}', '{"id": 3}')
        database.query(f"CREATE TABLE {t} (id INTEGER)")
        said = p.consume(t, "--group", "g", "--into", into, "--format", "json", expect=1)
        says(said, f"{t}/0/1", "id", "not a whole number", "--dead-letter TOPIC")
        assert stored(database, t, t) == 1
        database.query(f"ALTER TABLE {t} ADD at TIMESTAMP")


def test_what_the_database_refuses(p):
    """PostgreSQL's own types are checked by it: the sentence is its own, with our place."""
    t = p.topic('{"at": "2026-01-01"}', '{"at": "never"}')
    p.postgres.query(f"CREATE TABLE {t} (at TIMESTAMP, n INTEGER)")
    said = p.consume(t, "--group", "g", "--into", p.postgres.url(), "--format", "json", "--map",
                     "at=at", expect=1)
    says(said, f"{t}/0/1", "invalid input syntax for type timestamp")
    assert stored(p.postgres, t, t) == 1
    for _, database, into, _ in p.databases():
        t = p.topic('{"n": 1}', '{"n": 1}')
        database.query(f"CREATE TABLE {t} (n INTEGER UNIQUE)")
        said = p.consume(t, "--group", "g", "--into", into, "--format", "json", expect=1)
        assert re.search("unique", said, re.I), said
        assert stored(database, t, t) == 1


def test_text_that_is_none(p):
    bad = [b"good", b"a\0b", b"\xff\xfe", b"\xed\xa0\x80"]
    for _, database, into, _ in p.databases():
        for wrong, words in [(1, "NUL byte"), (2, "not UTF-8"), (3, "not UTF-8")]:
            t = p.topic(bad[0], bad[wrong], "after")
            said = p.consume(t, "--group", "g", "--into", into, "--create", "--format", "lines",
                             expect=1)
            says(said, f"{t}/0/1", "@value", words)
            assert stored(database, t, t) == 1
        t = p.topic(*bad)
        p.consume(t, "--group", "g", "--into", into, "--create")
        rows = database.query(f"SELECT value FROM {t} ORDER BY record_offset")
        assert [bytes(r[0]) for r in rows] == bad


def test_json_that_is_none(p):
    for value, words in [("{", "no JSON"), ("[1]", "no object"), ("{}", "missing"),
                         (None, "tombstone"), ('{"a": 1, "a": 2}', "duplicate"),
                         ('{"a": "\\u0000"}', "JSON"), ("{" * 5000, "JSON")]:
        for _, database, into, _ in p.databases():
            t = p.topic('{"a": 1}', value)
            said = p.consume(t, "--group", "g", "--into", into, "--create", "--format", "json",
                             "--map", "a:BIGINT=a", expect=1)
            says(said, f"{t}/0/1", words)
            assert stored(database, t, t) == 1


def test_csv(p):
    for _, database, into, _ in p.databases():
        t = p.topic('1,"a ""b"", c",x', "2,,y", "3", '4,"open')
        said = p.consume(t, "--group", "g", "--into", into, "--create", "--format", "csv",
                         "--map", "n:INTEGER=1", "--map", "s=2", expect=1)
        says(said, f"{t}/0/2", "fewer columns")
        assert database.query(f"SELECT n, s FROM {t} ORDER BY n") == [(1, 'a "b", c'), (2, "")]


def test_ten_megabytes(p):
    for _, database, into, _ in p.databases():
        t = p.topic(b"x" * BIG, "after", settings=[f"max.message.bytes={2 * BIG}"])
        p.consume(t, "--group", "g", "--into", into, "--create")
        rows = database.query(f"SELECT length(value) FROM {t} ORDER BY record_offset")
        assert rows == [(BIG,), (5,)], rows


def test_many_headers(p):
    """All of them, however many."""
    t = p.topic()
    sender = kafka.Producer({"bootstrap.servers": p.broker.address})
    headers = [(f"h{i}", f"v{i}") for i in range(300)]
    sender.produce(t, "x", headers=headers)
    sender.flush(60)
    for _, database, into, _ in p.databases():
        p.consume(t, "--group", "g", "--into", into, "--create", "--map", "h=@headers")
        (text,), = database.query(f"SELECT h FROM {t}")
        assert json.loads(text) == [list(h) for h in headers], text


def test_another_group(p):
    """Each group has offsets of its own: who misspells one is told that it all comes again."""
    for _, database, into, _ in p.databases():
        t = p.topic("a", "b")
        common = [t, "--into", into, "--create"]
        assert "anew" not in p.consume(*common, "--group", "billing").stderr
        said = p.consume(*common, "--group", "biling").stderr
        says(said, f"group biling begins {t} anew, which group billing has stored")
        assert "anew" not in p.consume(*common, "--group", "biling").stderr
        assert database.query(f"SELECT count(*) FROM {t}") == [(4,)]


def test_another_database(p):
    """The database's offset alone counts: who misspells its name is told what Kafka has."""
    for kind, database, into, _ in p.databases():
        t = p.topic("a", "b")
        common = [t, "--create", "--group", "g"]
        assert "right database" not in p.consume(*common, "--into", into).stderr
        other = f"sqlite:{p.folder}/slip-{kind}.db"
        says(p.consume(*common, "--into", other).stderr, f"{t}/0: group g has committed offset 2 "
             "in Kafka, but nothing is stored in this database", "it begins at 0")
        assert "right database" not in p.consume(*common, "--into", other).stderr
        assert "right database" not in p.consume(*common, "--into", into).stderr
        assert stored(database, t, t) == 2


def test_two_topics_one_table(p):
    for _, database, into, _ in p.databases():
        a, b = p.topic('{"x": 1}'), p.topic('{"x": 2}', '{"x": 3}')
        common = [a, b, "--group", "g", "--into", into, "--create", "--table", f"both_{a}"]
        said = p.consume(*common, "--format", "json", "--map", "x=x", expect=2)
        says(said, "--map topic=@topic")
        p.consume(*common)
        rows = database.query(f"SELECT topic, count(*) FROM both_{a} GROUP BY topic")
        assert dict(rows) == {a: 1, b: 2}


def test_a_newer_version(p):
    for _, database, into, _ in p.databases():
        t = p.topic("a")
        p.consume(t, "--group", "g", "--into", into, "--create")
        database.query("UPDATE tally_offset_version SET version = 7")
        said = p.consume(t, "--group", "g", "--into", into, expect=2)
        database.query("UPDATE tally_offset_version SET version = 1")
        says(said, "version 7", "newer")


def test_edited_by_hand(p):
    for kind, database, into, _ in p.databases():
        t = p.topic(*"abcdef")
        common = [t, "--group", "g", "--into", into, "--create"]

        def edit(to):
            database.query("UPDATE tally_offset SET next_offset = %s WHERE topic = %s", (to, t))

        p.consume(*common)
        edit(4)  # a real offset is believed
        p.consume(*common)
        assert database.query(f"SELECT count(*) FROM {t}") == [(8,)]
        for to in (-5, "abc") if kind == "sqlite" else (-5,):
            edit(to)
            says(p.consume(*common, expect=2), f"{t}/0", "which no tally wrote", "delete the row")
        edit(700)
        says(p.consume(*common, expect=2), f"{t}/0", "700 is outside the log", "0 to 6")
        database.query("UPDATE tally_offset SET next_offset = 6, claim_epoch = -3"
                       " WHERE topic = %s", (t,))
        says(p.consume(*common, expect=2), "claim_epoch -3")
        database.query("UPDATE tally_offset SET claim_epoch = 1 WHERE topic = %s", (t,))
        p.consume(*common)
        assert database.query(f"SELECT count(*) FROM {t}") == [(8,)]


def test_edited_while_it_runs(p):
    """The compare-and-set keeps what was put there, and the copy goes on from it."""
    for _, database, into, _ in p.databases():
        t = p.topic(*"abcdef")
        child = subprocess.Popen([world.ROOT / "build/tally", "consume", t, "--group", "g",
                                  "--into", into, "--create", "--bootstrap", p.broker.address],
                                 stderr=subprocess.PIPE, stdout=subprocess.PIPE)

        world.wait_until(lambda: rows_of(database, t) == 6, "stored")
        database.query("UPDATE tally_offset SET next_offset = 3 WHERE topic = %s", (t,))
        p.produce(t, "g")
        world.wait_until(lambda: rows_of(database, t) == 6 + 4, "d, e, f again and g")
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=30)
        assert child.returncode == 0 and b"event=fenced" in said, said


def test_the_log_begins_behind_the_stored_offset(p):
    """Records left the log while no copy ran: it stops, each time, and moves nothing by itself."""
    for _, database, into, _ in p.databases():
        t = p.topic(*["a"] * 10)
        common = [t, "--group", "g", "--into", into, "--create"]
        p.consume(*common)
        p.produce(t, *["b"] * 10)
        p.delete_records(t, 15)
        for _ in range(2):
            says(p.consume(*common, expect=2), f"{t}/0: stored offset 10 is outside the log, which "
                 "holds 15 to 20", "have expired", "--if-expired continue")
            assert stored(database, t, t) == 10
        p.delete_records(t, 20)  # nothing is left
        says(p.consume(*common, expect=2), "stored offset 10 is outside the log", "20 to 20")
        p.produce(t, "c")
        done = p.consume(*common, "--if-expired", "continue")
        says(done.stderr, "event=expired", "10 records from 10 on left the log")
        rows = database.query(f"SELECT record_offset FROM {t} ORDER BY record_offset")
        assert [r[0] for r in rows] == [*range(10), 20], rows
        p.consume(*common)


def test_a_damaged_batch(p):
    """librdkafka by itself does not look, or goes on behind it."""
    for _, database, into, _ in p.databases():
        t = p.topic(*["a"] * 5)
        for letter in "bc":
            p.produce(t, *[letter] * 5)
        p.broker.stop()
        log = p.broker.folder / "broker" / f"{t}-0" / ("0" * 20 + ".log")
        data = bytearray(log.read_bytes())
        data[data.rindex(b"b")] ^= 2
        log.write_bytes(data)
        p.broker.start()
        for batch in "1", "100":
            said = p.consume(t, "--group", "g", "--into", into, "--create", "--batch", batch,
                             expect=2)
            says(said, f"{t}/0: records from offset 5 on cannot be read", "CRC32C")
            assert stored(database, t, t) == 5
        says(p.consume(t, "--group", "g", "--into", into, "--librdkafka", "check.crcs=false",
                       expect=2), "check.crcs is not yours to set")


def test_a_topic_made_again(p):
    for _, database, into, _ in p.databases():
        t = p.topic("a", "b")
        p.consume(t, "--group", "g", "--into", into, "--create")
        (old,), = database.query("SELECT topic_id FROM tally_offset WHERE topic = %s", (t,))
        assert len(old) == 22, old
        world.tally("topic", "delete", t, "--bootstrap", p.broker.address)
        world.tally("topic", "create", t, "--bootstrap", p.broker.address)
        p.produce(t, "c", "d", "e")
        said = p.consume(t, "--group", "g", "--into", into, expect=2)
        says(said, f"of topic id {old}", "now has id", "offset 2", "delete")
        assert stored(database, t, t) == 2


def test_a_topic_made_again_under_a_running_copy(p):
    """Filled beyond the stored offset at once: the copy reads on there, and stores none of it."""
    admin = kafka.admin.AdminClient({"bootstrap.servers": p.broker.address})
    for _ in range(8):
        for kind, database, into, _ in p.databases():
            t = p.topic(*["old"] * 20)
            child = subprocess.Popen([world.ROOT / "build/tally", "consume", t, "--group", "g",
                                      "--into", into, "--create", "--batch", "3", "--bootstrap",
                                      p.broker.address, "-X", "fetch.error.backoff.ms=0"],
                                     text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE)

            world.wait_until(lambda: rows_of(database, t) == 20, "stored")
            (old,), = database.query("SELECT topic_id FROM tally_offset WHERE topic = %s", (t,))
            admin.delete_topics([t])[t].result(30)
            admin.create_topics([kafka.admin.NewTopic(t, 1, 1)])[t].result(30)
            p.produce(t, *["new"] * 60)
            _, said = child.communicate(timeout=60)
            assert child.returncode == 2, (kind, child.returncode, said)
            says(said, f"topic {t} had id {old} and now has id", "delete the group's rows")
            rows = database.query(f"SELECT value, count(*) FROM {t} GROUP BY value")
            assert [(bytes(v), n) for v, n in rows] == [(b"old", 20)], (kind, rows)
            assert stored(database, t, t) == 20


def test_dead_letters(p):
    t = p.topic("a")
    says(p.consume(t, "--group", "g", "--into", f"sqlite:{p.folder}/x.db", "--create",
                   "--dead-letter", "nosuch", expect=2), "no topic nosuch")
    for _, database, into, _ in p.databases():
        t, dead = p.topic('{"n": 1}', "bad", '{"n": 2}', "worse", "worst"), p.topic()
        common = [t, "--group", "g", "--into", into, "--create", "--format", "json", "--map",
                  "n:BIGINT=n"]
        done = p.consume(*common, "--dead-letter", dead)
        says(done.stdout, "2 records stored, 3 dead letters")
        assert database.query(f"SELECT n FROM {t} ORDER BY n") == [(1,), (2,)]
        log = world.log_of(p.broker.address, dead)
        assert list(log.values()) == [b"bad", b"worse", b"worst"], log
        assert database.query("SELECT next_offset FROM tally_offset WHERE topic = %s",
                              (t,)) == [(5,)]


def test_dead_letters_among_many(p):
    """Rows go in many a statement. What the database itself refuses is one row all the same."""
    n, unfit = 1500, {4, 16, 17, 18, 699, 1499}
    for _, database, into, _ in p.databases():
        t, dead = p.topic(*(f"bad {o}" if o in unfit else f"{o}" for o in range(n))), p.topic()
        database.query(f"CREATE TABLE {t} (o BIGINT, value TEXT CHECK (value < 'bad'))")
        done = p.consume(t, "--group", "g", "--into", into, "--format", "lines", "--map",
                         "o=@offset", "--map", "value=@value", "--dead-letter", dead)
        says(done.stdout, f"{n - len(unfit)} records stored, {len(unfit)} dead letters")
        assert database.query(f"SELECT o, value FROM {t} ORDER BY o") == [
            (o, f"{o}") for o in range(n) if o not in unfit]
        log = world.log_of(p.broker.address, dead)
        assert list(log.values()) == [b"bad %d" % o for o in sorted(unfit)], log


def test_dead_letters_say_their_own_reason(p):
    """Rows that come together and collide, in the statement or at COMMIT; among them one that JSON
    refuses, and one that the column does."""
    def reason(m):
        h = dict(m.headers())
        return int(h["tally-offset"]), h["tally-error"].decode()

    n = 48
    values = [json.dumps({"id": i // 2, "v": "x" * (9 if i == 20 else 1)}) for i in range(n)]
    values[14] = "{"
    wanted = {i: "(?i)unique" for i in range(1, n, 2) if i not in (15, 21)}
    wanted |= {14: "the value is no JSON", 20: "short"}
    for kind, database, into, _ in p.databases():
        for when in ["", " DEFERRABLE INITIALLY DEFERRED"][:1 + (kind == "postgres")]:
            t, dead = p.topic(*values), p.topic()
            database.query(f"CREATE TABLE {t} (id INT UNIQUE{when}, v TEXT,"
                           " CONSTRAINT short CHECK (length(v) < 9))")
            p.consume(t, "--group", "g", "--into", into, "--format", "json", "--dead-letter", dead)
            rows = database.query(f"SELECT id FROM {t} ORDER BY id")
            assert rows == [(i,) for i in range(n // 2)], rows
            said = list(world.log_of(p.broker.address, dead, reason).values())
            assert [o for o, _ in said] == sorted(wanted), said
            for o, why in said:
                assert re.search(wanted[o], why), (o, why)


def test_what_many_rows_at_once_are_refused_for(p):
    """As by a limit of a statement's time. Each row by itself is fine, and there are more of them
    than come by themselves before many are tried again."""
    n = 2500
    for state in "57014", "0A000", "23514":
        t = p.topic(*map(str, range(n)))
        p.postgres.query(
            f"""CREATE FUNCTION {t}_alone() RETURNS bool AS $$ BEGIN
            IF current_setting('alone.at', true) = statement_timestamp()::text THEN
                RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'not alone';
            END IF;
            PERFORM set_config('alone.at', statement_timestamp()::text, true);
            RETURN true; END $$ LANGUAGE plpgsql""")
        p.postgres.query(f"CREATE TABLE {t} (o BIGINT CHECK ({t}_alone()))")
        done = p.consume(t, "--group", "g", "--into", p.postgres.url(), "--map", "o=@offset",
                         "--batch", f"{n}")
        says(done.stdout, f"{n} records stored")
        assert p.postgres.query(f"SELECT o FROM {t} ORDER BY o") == [(o,) for o in range(n)]


def test_what_tells_rows_of_one_statement_apart(p):
    """Triggers, rules and references see one row after the other, however many come at once."""
    n, into = 40, p.postgres.url()

    def consume(make, *values):
        t, dead = p.topic(*values), p.topic()
        p.postgres.query(re.sub(r"\bT(?=\b|_)", t, make))
        p.consume(t, "--group", "g", "--into", into, "--format", "csv", "--dead-letter", dead)
        return t, list(world.log_of(p.broker.address, dead).values())

    trigger = """CREATE TABLE T_log (seen BIGINT, nth SERIAL);
        CREATE FUNCTION T_see() RETURNS trigger AS $$ BEGIN
            INSERT INTO T_log SELECT count(*) FROM T; RETURN NULL; END $$ LANGUAGE plpgsql;"""
    for made in (
            "CREATE TABLE T (v INT); CREATE TRIGGER see AFTER INSERT ON T FOR EACH ROW",
            "CREATE TABLE T (v INT); CREATE TRIGGER see AFTER INSERT ON T FOR EACH STATEMENT",
            "CREATE TABLE T (v INT) PARTITION BY LIST (v); CREATE TABLE T_all PARTITION OF T"
            " DEFAULT; CREATE TRIGGER see AFTER INSERT ON T_all FOR EACH ROW",
            "CREATE TABLE T_all (v INT); CREATE VIEW T AS SELECT * FROM T_all;"
            " CREATE TRIGGER see AFTER INSERT ON T_all FOR EACH ROW"):
        t, dead = consume(f"{trigger} {made} EXECUTE FUNCTION T_see()", *map(str, range(n)))
        assert p.postgres.query(f"SELECT seen FROM {t}_log ORDER BY nth") == [
            (i + 1,) for i in range(n)], made
        assert not dead, dead
    t, dead = consume("CREATE TABLE T (v INT); CREATE RULE once AS ON INSERT TO T WHERE EXISTS"
                      " (SELECT 1 FROM T old WHERE old.v = NEW.v) DO INSTEAD NOTHING",
                      *(str(i // 2) for i in range(n)))
    assert p.postgres.query(f"SELECT v FROM {t} ORDER BY v") == [(i,) for i in range(n // 2)]
    t, dead = consume("CREATE TABLE T (v INT PRIMARY KEY, up INT REFERENCES T)",
                      *(f"{i},{i + (i == 24)}" for i in range(n)))
    assert dead == [b"24,25"], dead
    assert p.postgres.query(f"SELECT count(*) FROM {t}") == [(n - 1,)]


def check_disk_full(p, database, into, said_of_it, is_full, environment):
    t = p.topic(*[b"x" * 20000] * 20)
    child = subprocess.Popen([world.ROOT / "build/tally", "consume", t, "--group", "g", "--into",
                              into, "--create", "--batch", "5", "--bootstrap", p.broker.address],
                             stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    world.wait_until(lambda: rows_of(database, t) == 20, "stored")
    is_full.touch()
    p.produce(t, *[b"x" * 20000] * 60)
    _, said = child.communicate(timeout=60)
    is_full.unlink()
    assert child.returncode == 2, said
    says(said.decode(), said_of_it, "free some and start again")
    assert 20 <= stored(database, t, t) < 80
    p.consume(t, "--group", "g", "--into", into)
    assert stored(database, t, t) == 80


def test_disk_full(p):
    place = p.folder / "full"
    place.mkdir()
    is_full = place / "is_full"
    subprocess.run(["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", place / "full.so",
                    world.ROOT / "test/consume/full.c", "-ldl"], check=True)
    small = {"LD_PRELOAD": str(place / "full.so"), "FULL_WHEN": str(is_full)}
    sqlite = world.Sqlite(place)
    check_disk_full(p, sqlite, f"sqlite:{sqlite.file}", "no space left for database", is_full,
                    {**os.environ, **small, "FULL_PATH": "rows.db"})
    postgres = world.Postgres(place, environment={**small, "FULL_PATH": "/pg/base/"})
    try:
        check_disk_full(p, postgres, postgres.url(), "no space left in database", is_full,
                        dict(os.environ))
    finally:
        postgres.stop()


def test_stop_while_the_database_is_away(p):
    t = p.topic("a")
    child = subprocess.Popen([world.ROOT / "build/tally", "consume", t, "--group", "g", "--into",
                              f"postgres://tally@127.0.0.1:{world.free_port()}/x", "--timeout",
                              "0", "--bootstrap", p.broker.address], stderr=subprocess.PIPE)
    assert any(b"event=retry" in line for line in child.stderr)
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) == 0
    child.stderr.close()


def test_what_is_shown(p):
    """Progress on a terminal; a log otherwise, and the counters on request."""
    t = p.topic(*"abc")
    argv = [world.ROOT / "build/tally", "consume", t, "--group", "g", "--into",
            f"sqlite:{p.folder}/shown.db", "--create", "--bootstrap", p.broker.address]
    ours, theirs = pty.openpty()
    child = subprocess.Popen(argv, stderr=theirs, stdout=subprocess.DEVNULL)
    shown = b""
    while b"3 records stored" not in shown:  # the end of the test's time is the end of patience
        shown += os.read(ours, 1000)
    child.terminate()
    assert child.wait(30) == 0
    os.close(ours)
    os.close(theirs)
    assert re.search(rb"\r\033\[K3 records stored, \d+ a second, lag \d+", shown), shown
    assert b"event=" not in shown, shown
    child = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert any(b"event=claimed" in line for line in child.stderr)
    line = b""
    while b" lag=0 " not in line:  # -1 until the brokers have told where the log ends
        child.send_signal(signal.SIGUSR1)
        line = next(line for line in child.stderr if b"event=counters" in line)
    for name in (b"records=0 ", b"partitions=1 ", b"fenced=0 "):
        assert name in line, line
    child.terminate()
    assert child.wait(30) == 0
    child.stderr.close()


def test_time_left(p):
    """On a terminal, where there is much to do and it is slow."""
    t = p.topic(*["x"] * 2000)
    p.postgres.query(f"CREATE TABLE {t} (v TEXT)")
    p.postgres.query(f"CREATE FUNCTION {t}_slow() RETURNS trigger AS $$ BEGIN"
                     " PERFORM pg_sleep(0.005); RETURN NEW; END $$ LANGUAGE plpgsql")
    p.postgres.query(f"CREATE TRIGGER slow BEFORE INSERT ON {t} FOR EACH ROW"
                     f" EXECUTE FUNCTION {t}_slow()")
    ours, theirs = pty.openpty()
    child = subprocess.Popen([world.ROOT / "build/tally", "consume", t, "--group", "g", "--into",
                              p.postgres.url(), "--format", "lines", "--map", "v=@value",
                              "--batch", "10", "--bootstrap", p.broker.address], stderr=theirs,
                             stdout=subprocess.DEVNULL)
    shown = b""
    while not re.search(rb"\d+ records stored, [1-9]\d* a second, lag \d+, \d+ s left", shown):
        shown += os.read(ours, 1000)
    child.terminate()
    assert child.wait(30) == 0
    os.close(ours)
    os.close(theirs)
    assert 0 < stored(p.postgres, t, t) < 2000


def main():
    with world.Folder() as folder:
        place = Place(folder)
        try:
            return world.run_tests("bad", globals(), place, chosen=sys.argv[1:])
        finally:
            place.stop()


if __name__ == "__main__":
    sys.exit(main())
