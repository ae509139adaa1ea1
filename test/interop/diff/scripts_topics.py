"""Edges of topics, logs and what is asked about them."""
import struct

from kafka_records import batch, batch_headers
from recording import ZERO_UUID
from scripts_admin import create, outcome_of, topic
from scripts_data import RECORDS, fetch_body, produce_body, topic_id
from scripts_group import ready

NOBODY = "11111111-1111-4111-8111-111111111111"


def script_create_edges(r):
    c = r.connect()
    there = create(r, c, topic(r.name("there")))
    for v in r.common("CreateTopics"):
        for title, *topics in (
                ("good and bad", topic(r.name(f"g{v}")), topic("a b"), topic(there)),
                ("as long as may be", topic(r.name(f"{v}").ljust(249, "l"))),
                ("one too long", topic(r.name(f"{v}").ljust(250, "l"))),
                ("not ASCII", topic("t\u00e4")),
                ("a slash", topic("a/b")), ("a zero", topic("a\0b")),
                ("setting named twice", topic(r.name(f"c{v}"), configs=[
                    ("retention.ms", "1000"), ("retention.ms", "2000")])),
                ("empty number", topic(r.name(f"e{v}"), configs=[("retention.ms", "")])),
                ("empty name", topic(r.name(f"n{v}"), configs=[("", "x")])),
                ("two policies", topic(r.name(f"p{v}"), configs=[
                    ("cleanup.policy", "compact,delete")])),
                ("a broker's setting", topic(r.name(f"s{v}"), configs=[
                    ("log.retention.ms", "1000")])),
                ("beyond 64 bits", topic(r.name(f"h{v}"), configs=[
                    ("retention.bytes", "99999999999999999999")])),
                ("no boolean", topic(r.name(f"o{v}"), configs=[
                    ("unclean.leader.election.enable", "maybe")])),
                ("no type of time", topic(r.name(f"t{v}"), configs=[
                    ("message.timestamp.type", "Later")])),
                ("replicas of many", topic(r.name(f"m{v}"), 1, 3))):
            for only in (True, False):
                body = {"Topics": list(topics), "timeoutMs": 10000, "validateOnly": only}
                kept = r.send(f"{title}, {'validated' if only else 'made'}", c, "CreateTopics", v,
                              body)
                answer = r.receive(kept)
                if only and answer and r.steps:
                    for t in r.steps[-1][1]["Topics"]:
                        t.pop("TopicId", None)
        if v >= 5:
            r.call("all settings", c, "Metadata", 9, {"Topics": [{"Name": r.name(f"c{v}")}],
                                                      "AllowAutoTopicCreation": False})


def script_collisions(r):
    c = r.connect()
    r.call("a dot", c, "CreateTopics", 5, {"Topics": [topic(r.name("a.b_c"))]})
    for name in ("a_b.c", "a.b.c", "a_b_c", "a.b_c", "a-b_c"):
        for only in (True, False):
            r.call(name, c, "CreateTopics", 4, {"Topics": [topic(r.name(name))],
                                                "validateOnly": only})
    one, two = topic(r.name("x.y")), topic(r.name("x_y"))
    r.call("two of one request", c, "CreateTopics", 5, {"Topics": [one, two]})
    r.call("makes one that collides", c, "Metadata", 5, {
        "Topics": [{"Name": r.name("a_b_c")}], "AllowAutoTopicCreation": True})
    r.call("makes one of a bad name", c, "Metadata", 5, {
        "Topics": [{"Name": "a b"}, {"Name": "."}, {"Name": ""}], "AllowAutoTopicCreation": True})


def script_partitions_edges(r):
    c = r.connect()
    name, other = create(r, c, topic(r.name("t"), 2), topic(r.name("u"))), r.name("u")
    for v in r.common("CreatePartitions"):
        def grow(title, *topics, only=False):
            r.call(title, c, "CreatePartitions", v, {"Topics": [
                {"Name": n, "Count": count, "Assignments": None if a is None else
                 [{"BrokerIds": b} for b in a]} for n, count, a in topics],
                "TimeoutMs": 10000, "ValidateOnly": only})
        grow("named twice", (other, 50, None), (other, 51, None))
        grow("bad name", ("a b", 3, None), ("", 3, None))
        grow("too few assignments", (name, 9, [[1]]))
        grow("too many assignments", (name, 3, [[1], [1]]), only=True)
        grow("empty assignment", (name, 3, [[]]))
        grow("no assignments", (name, 3, []), only=True)
        grow("two replicas", (name, 3, [[1, 1]]))
        grow("good and bad", (name, 3 + v, [[1]]), (r.name("no"), 3, None))
        grow("nothing")
    name = create(r, c, topic(r.name("v"), 1))
    r.call("assigned rightly", c, "CreatePartitions", 1, {"Topics": [
        {"Name": name, "Count": 3, "Assignments": [{"BrokerIds": [1]}] * 2}],
        "TimeoutMs": 10000, "ValidateOnly": False})


def script_delete_topics_edges(r):
    c = r.connect()
    name, other = create(r, c, topic(r.name("t")), topic(r.name("u"))), r.name("u")
    t = topic_id(r, c, name)
    r.call("id twice", c, "DeleteTopics", 6, {"TimeoutMs": 10000, "Topics": [
        {"Name": None, "TopicId": t}, {"Name": None, "TopicId": t}]})
    r.call("id and its name", c, "DeleteTopics", 6, {"TimeoutMs": 10000, "Topics": [
        {"Name": None, "TopicId": t}, {"Name": name, "TopicId": ZERO_UUID}]})
    r.call("name twice", c, "DeleteTopics", 6, {"TimeoutMs": 10000, "Topics": [
        {"Name": other, "TopicId": ZERO_UUID}, {"Name": other, "TopicId": ZERO_UUID}]})
    r.call("nothing", c, "DeleteTopics", 6, {"TimeoutMs": 10000, "Topics": []})
    r.call("empty name", c, "DeleteTopics", 5, {"TimeoutMs": 10000, "TopicNames": [""]})
    r.call("still there", c, "Metadata", 9, {"Topics": [{"Name": other}],
                                             "AllowAutoTopicCreation": False})


def script_metadata_edges(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), 2))
    t = topic_id(r, c, name)
    for v in r.common("Metadata"):
        def ask(title, topics, **more):
            r.call(title, c, "Metadata", v, {"Topics": topics, "AllowAutoTopicCreation": False,
                                             **more})
        if v >= 4:
            ask("twice the same", [{"Name": name}, {"Name": name}])
        if v >= 8:
            ask("with rights", [{"Name": name}], IncludeTopicAuthorizedOperations=True,
                IncludeClusterAuthorizedOperations=True)
        if v >= 10:
            ask("id and name", [{"Name": name, "TopicId": t}])
        if v >= 12:
            ask("by id", [{"Name": None, "TopicId": t}])
            ask("zero id", [{"Name": None, "TopicId": ZERO_UUID}])
            ask("name and another id", [{"Name": name, "TopicId": NOBODY}])
        all_of_them = r.quiet(c, "Metadata", v, {"Topics": [] if v == 0 else None, **(
            {"AllowAutoTopicCreation": False} if v >= 4 else {})})
        r.add(f"all: Metadata v{v}", r.clean([x for x in all_of_them["Topics"]
                                              if x["Name"] == name]))


def script_describe_partitions_edges(r):
    c = r.connect()
    names = [create(r, c, topic(r.name(n), 2)) for n in ("c", "a", "b")]

    def ask(title, asked, limit=2000, cursor=None):
        r.call(title, c, "DescribeTopicPartitions", 0, {
            "Topics": [{"Name": n} for n in asked], "ResponsePartitionLimit": limit,
            "Cursor": cursor and {"TopicName": cursor[0], "PartitionIndex": cursor[1]}})
    ask("unsorted", names)
    ask("twice", [names[0], names[0]])
    ask("limit 0", names, 0)
    ask("limit -1", names, -1)
    ask("limit 1", names, 1)
    ask("limit 3", names, 3)
    ask("limit at a topic's end", names, 4)
    ask("cursor at the second", names, 2000, (r.name("b"), 1))
    ask("cursor past the partitions", names, 2000, (r.name("b"), 9))
    ask("cursor between", names, 2000, (r.name("aa"), 0))
    ask("cursor past all", names, 2000, (r.name("z"), 0))
    ask("negative cursor", names, 2000, (r.name("b"), -1))
    ask("bad names", ["a b", ""])


def script_coordinator_edges(r):
    c = r.connect()
    ready(r, c, r.name("g"))
    for v in r.common("FindCoordinator"):
        for title, key, keys, kind in (
                ("no name", "", [""], 0), ("no keys", "g", [], 0),
                ("twice", "g", ["g", "g"], 0), ("good and empty", "g", ["g", ""], 0),
                ("share", "g", ["g"], 2), ("negative type", "g", ["g"], -1)):
            r.call(title, c, "FindCoordinator", v,
                   {"Key": key, "KeyType": kind, "CoordinatorKeys": keys})


def script_produce_edges(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), 2, configs=[("min.insync.replicas", "2")]))
    plain = create(r, c, topic(r.name("u"), 2))
    u, good = topic_id(r, c, plain), batch(RECORDS, time=r.now)
    for v in r.common("Produce"):
        if v < 3:
            continue
        by_id = topic_id(r, c, name)
        r.call("too few replicas", c, "Produce", v, produce_body(name, good, by_id=by_id))
        r.call("too few, acks 1", c, "Produce", v, produce_body(name, good, 0, 1, by_id=by_id))
        r.call("acks -2", c, "Produce", v, produce_body(plain, good, 0, -2, by_id=u))
        r.call("nothing", c, "Produce", v, {"TransactionalId": None, "Acks": -1,
                                            "TimeoutMs": 1000, "TopicData": []})
        parts = [{"Index": 0, "Records": good}, {"Index": 9, "Records": good},
                 {"Index": 1, "Records": good[:-1]}]
        r.call("three partitions", c, "Produce", v, {
            "TransactionalId": None, "Acks": -1, "TimeoutMs": 1000,
            "TopicData": [{"Name": plain, "TopicId": u, "PartitionData": parts}]})
        if v >= 13:
            r.call("zero id", c, "Produce", v, produce_body("", good, by_id=ZERO_UUID))
    for title, body in {"good": produce_body(plain, good, acks=0),
                        "unknown topic": produce_body(r.name("no"), good, acks=0),
                        "unknown partition": produce_body(plain, good, 9, acks=0),
                        "bad crc": produce_body(plain, batch(RECORDS, crc=1), acks=0)}.items():
        def send(connection, body=body):
            connection.send("Produce", 7, body)
            connection.send("Metadata", 1, {"Topics": []})
        outcome_of(r, f"acks 0, {title}", send)


def script_log_append_time(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), configs=[("message.timestamp.type",
                                                     "LogAppendTime")]))
    limited = create(r, c, topic(r.name("u"), configs=[
        ("message.timestamp.before.max.ms", "1000"), ("message.timestamp.after.max.ms", "1000"),
        ("max.message.bytes", "200")]))
    t, u = topic_id(r, c, name), topic_id(r, c, limited)
    r.call("stamped", c, "Produce", 9, produce_body(name, batch(RECORDS, time=5)))
    stored = r.quiet(c, "Fetch", 11, fetch_body(name, 0, t))
    header, = batch_headers(stored["Responses"][0]["Partitions"][0]["Records"])
    r.add("stamped with its arrival", {"later": header.pop("max_time") >= r.now, "time": header})
    r.call("too old", c, "Produce", 9, produce_body(limited, batch(RECORDS, time=r.now - 600_000)))
    r.call("too young", c, "Produce", 9,
           produce_body(limited, batch(RECORDS, time=r.now + 600_000)))
    r.call("no time", c, "Produce", 9, produce_body(limited, batch(RECORDS, time=-1)))
    r.call("too large", c, "Produce", 9,
           produce_body(limited, batch([(b"k", b"v" * 300)], time=r.now + 30)))
    r.call("nothing there", c, "Fetch", 11, fetch_body(limited, 0, u))


def script_fetch_edges(r):
    c = r.connect()
    name, other = create(r, c, topic(r.name("t"), 3), topic(r.name("u"))), r.name("u")
    t = topic_id(r, c, name)
    for p in range(3):
        r.quiet(c, "Produce", 7, produce_body(name, batch([(b"k", b"v" * 500)], time=r.now), p))
    r.quiet(c, "DeleteRecords", 1, {"TimeoutMs": 5000, "Topics": [
        {"Name": name, "Partitions": [{"PartitionIndex": 2, "Offset": 1}]}]})
    for v in r.common("Fetch"):
        def ask(title, *parts, total=1 << 24, wait=50, minimum=1, **more):
            entries = [{"Partition": p, "FetchOffset": o, "PartitionMaxBytes": m,
                        "LogStartOffset": -1} for p, o, m in parts]
            r.call(title, c, "Fetch", v, {
                "MaxWaitMs": wait, "MinBytes": minimum, "MaxBytes": total,
                "SessionEpoch": more.pop("epoch", -1), "Topics": [
                    {"Topic": name, "TopicId": t, "Partitions": entries}], **more})
        ask("two", (0, 0, 1 << 20), (1, 0, 1 << 20))
        ask("two, bytes for one", (0, 0, 1 << 20), (1, 0, 1 << 20), total=600)
        ask("two, one byte each", (0, 0, 1), (1, 0, 1))
        ask("one bad, one good", (9, 0, 1), (1, 0, 1 << 20))
        ask("one out of range", (0, 9, 1 << 20), (1, 0, 1 << 20))
        ask("before the start", (2, 0, 1 << 20))
        ask("at the start, empty", (2, 1, 1 << 20))
        ask("nothing")
        ask("more than there is", (0, 0, 1 << 20), minimum=1 << 20)
        ask("does not wait", (0, 1, 1 << 20), wait=0)
        ask("negative waiting", (0, 1, 1 << 20), wait=-1)
        ask("no least", (0, 1, 1 << 20), minimum=0, wait=400)
        ask("negative bytes", (0, 0, -1), total=-1)
        if v >= 7:
            ask("session of epoch 0", (0, 0, 1 << 20), epoch=0)
            ask("no session, epoch 5", (0, 0, 1 << 20), epoch=5)
            ask("negative epoch", (0, 0, 1 << 20), epoch=-7)
    for v in (12, 13):
        r.call("of a topic without records", c, "Fetch", v,
               fetch_body(other, 0, topic_id(r, c, other)))


def script_list_offsets_edges(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), 1))
    for times in ((500, 100), (300, 300), (200, 500), (50, 60)):
        r.quiet(c, "Produce", 7, produce_body(name, batch(
            RECORDS, time=r.now - 1000 + times[0]) if times[0] == times[1] else batch(
            [RECORDS[0]], time=r.now - 1000 + times[0]) + b""))
    for cut in (0, 1, 3):
        r.quiet(c, "DeleteRecords", 1, {"TimeoutMs": 5000, "Topics": [
            {"Name": name, "Partitions": [{"PartitionIndex": 0, "Offset": cut}]}]})
        for v in r.common("ListOffsets"):
            for at in (-1, -2, -3, -4, -5, -6, r.now - 1000, r.now - 700, r.now - 699,
                       r.now - 500, r.now - 499, r.now - 800):
                answer = r.quiet(c, "ListOffsets", v, {
                    "ReplicaId": -1, "Topics": [{"Name": name, "Partitions": [
                        {"PartitionIndex": 0, "Timestamp": at}]}]})
                for p in answer["Topics"][0]["Partitions"]:
                    if p["Timestamp"] > 0:
                        p["Timestamp"] -= r.now
                label = at if at < 0 else f"now{at - r.now}"
                r.add(f"cut {cut}, {label}: ListOffsets v{v}", r.clean(answer))
    for title, body in {"a follower": {"ReplicaId": 5, "Topics": []},
                        "nothing": {"ReplicaId": -1, "Topics": []}}.items():
        r.call(title, c, "ListOffsets", 5, body)


def script_trailing_bytes(r):
    """What stands behind a good body, and fields nobody knows."""
    head = struct.pack(">hhih", 3, 12, 7, 4) + b"diff"
    none = b"\x01\0\0\0"  # no topics, nothing made, no rights, no tags
    outcome_of(r, "tag in the header", lambda c: c.send_frame(head + b"\x01\x63\x02ab" + none))
    outcome_of(r, "tag in the body", lambda c: c.send_frame(
        head + b"\0" + none[:-1] + b"\x01\x63\x02ab"))
    outcome_of(r, "tag longer than the frame", lambda c: c.send_frame(
        head + b"\0" + none[:-1] + b"\x01\x63\x7fab"))
    outcome_of(r, "bytes left over", lambda c: c.send_frame(head + b"\0" + none + b"zzz"))
    outcome_of(r, "bytes left over, an old version", lambda c: c.send_frame(
        struct.pack(">hhih", 3, 1, 7, -1) + struct.pack(">i", 0) + b"zzz"))
    outcome_of(r, "bytes left over, a heartbeat", lambda c: c.send_frame(
        struct.pack(">hhih", 12, 0, 7, -1) + b"\0\1g\0\0\0\1\0\1mzzz"))
    outcome_of(r, "bytes left over, no body", lambda c: c.send_frame(
        struct.pack(">hhih", 18, 0, 7, -1) + b"\0"))
    outcome_of(r, "no client id", lambda c: c.send_frame(
        struct.pack(">hhih", 3, 1, 7, -1) + struct.pack(">i", 0)))
    outcome_of(r, "client id not UTF-8", lambda c: c.send_frame(
        struct.pack(">hhih", 3, 1, 7, 2) + b"\xff\xfe" + struct.pack(">i", 0)))
    outcome_of(r, "client id that lies", lambda c: c.send_frame(
        struct.pack(">hhih", 3, 1, 7, 3000) + struct.pack(">i", 0)))
    outcome_of(r, "array of minus two", lambda c: c.send_frame(
        struct.pack(">hhih", 3, 1, 7, -1) + struct.pack(">i", -2)))
    outcome_of(r, "null array that may not be", lambda c: c.send_frame(
        struct.pack(">hhih", 15, 0, 7, -1) + struct.pack(">i", -1)))
    outcome_of(r, "null name that may not be", lambda c: c.send_frame(
        struct.pack(">hhih", 15, 0, 7, -1) + struct.pack(">ih", 1, -1)))
    outcome_of(r, "varint without end", lambda c: c.send_frame(head + b"\0" + b"\xff" * 12))
