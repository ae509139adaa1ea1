"""Limits that are set lower than usual: run.py --limits, both brokers with the settings of
test/suites."""
from kafka_records import batch
from scripts_admin import create, topic
from scripts_data import RECORDS, produce_body
from scripts_group import commit_body, heartbeat_body, join_body, joined, ready
from scripts_members import leave_body


SHORT = {"session": 5000, "rebalance": 2000}


def script_group_size(r):
    """group.max.size=2."""
    conns = [r.connect(f"m{i}") for i in range(4)]
    group, admin = r.name("g"), r.connect("admin")
    ready(r, admin, group)
    ids = []
    for i, c in enumerate(conns):
        answer = r.call(f"member {i} asks for an id", c, "JoinGroup", 5, join_body(group, **SHORT))
        ids.append(answer["MemberId"])
    first = r.send("first joins", conns[0], "JoinGroup", 5, join_body(group, ids[0], **SHORT))
    answer = r.receive(first)
    second = r.send("second joins", conns[1], "JoinGroup", 5, join_body(group, ids[1], **SHORT))
    r.until(admin, "DescribeGroups", 5, {"Groups": [group]},
            lambda d: d["Groups"][0]["GroupState"] == "PreparingRebalance")
    r.call("third joins", conns[2], "JoinGroup", 5, join_body(group, ids[2], **SHORT))
    r.call("static one joins", conns[3], "JoinGroup", 5, join_body(group, instance="i", **SHORT))
    r.call("of old joins", conns[3], "JoinGroup", 3, join_body(group, **SHORT))
    r.call("first again", conns[0], "JoinGroup", 5, join_body(group, ids[0], **SHORT))
    r.receive(second)
    r.call("fourth joins", conns[3], "JoinGroup", 5, join_body(group, ids[3], **SHORT))
    r.call("completing", admin, "DescribeGroups", 5, {"Groups": [group]})
    r.call("first leaves", conns[0], "LeaveGroup", 3, leave_body(group, (ids[0], None)))
    r.add("generation", answer["GenerationId"])
    # Apache Kafka has the new leader by the order of a hash map.
    for _, outcome in r.steps:
        if isinstance(outcome, dict):
            outcome.pop("Leader", None)
            outcome.pop("Members", None)


def script_group_times(r):
    """Sessions from 1000 to 5000 ms."""
    c = r.connect()
    group = r.name("g")
    ready(r, c, group)
    for v in (1, 4, 9):
        for session in (999, 1000, 5000, 5001, 0, -1):
            r.call(f"session {session}", c, "JoinGroup", v,
                   join_body(r.name(f"g{v}{session}"), session=session))
    # A member that says nothing is put out; a pending one, too.
    group = r.name("silent")
    member = joined(r, c, group, session=1000, rebalance=1000)
    pending = r.call("asks for an id", c, "JoinGroup", 5, join_body(group, session=1000))
    # And soon after them the group, which is nothing then (offsets.retention.check.interval.ms).
    r.until(c, "DescribeGroups", 5, {"Groups": [group]},
            lambda d: d["Groups"][0]["GroupState"] == "Dead")
    r.call("both are gone", c, "DescribeGroups", 5, {"Groups": [group]})
    r.call("it beats", c, "Heartbeat", 3,
           heartbeat_body(group, member["GenerationId"], member["MemberId"]))
    r.call("it commits", c, "OffsetCommit", 7, commit_body(
        group, "nt", 1, member["GenerationId"], member["MemberId"]))
    r.call("the other joins", c, "JoinGroup", 5, join_body(group, pending["MemberId"]))


def script_metadata_size(r):
    """offset.metadata.max.bytes=10, counted in bytes or in characters?"""
    c = r.connect()
    name, group = create(r, c, topic(r.name("t"))), r.name("g")
    ready(r, c, group)
    for text in ("x" * 10, "x" * 11, "\u00e4" * 5, "\u00e4" * 6, "\u00e4" * 10, "\u00e4" * 11, ""):
        r.call(f"{len(text)} of {text[:1]!r}", c, "OffsetCommit", 7,
               commit_body(group, name, 5, metadata=text))


def script_message_size(r):
    """message.max.bytes=1000, and no topics made by asking."""
    c = r.connect()
    name = create(r, c, topic(r.name("t")))
    for size in (800, 923, 924, 925, 926, 927, 928, 929, 930, 931, 932, 1000):
        r.call(f"{size} bytes", c, "Produce", 7,
               produce_body(name, batch([(b"k", b"x" * size)], time=r.now)))
    r.call("a topic that there is not", c, "Metadata", 5, {
        "Topics": [{"Name": r.name("no")}], "AllowAutoTopicCreation": True})
    r.call("produced to", c, "Produce", 7,
           produce_body(r.name("no"), batch(RECORDS, time=r.now)))
    r.call("two partitions by default", c, "CreateTopics", 4,
           {"Topics": [topic(r.name("two"), -1, -1)], "timeoutMs": 10000})
    r.until(c, "Metadata", 5, {"Topics": [{"Name": r.name("two")}],
                               "AllowAutoTopicCreation": False},
            lambda a: a["Topics"][0]["ErrorCode"] == 0)
    r.call("they are there", c, "Metadata", 5, {"Topics": [{"Name": r.name("two")}],
                                                "AllowAutoTopicCreation": False})


def script_own_retention(r):
    """offsets.retention.check.interval.ms=500; a retention that the commit names is its own."""
    c = r.connect()
    name = create(r, c, topic(r.name("t")))
    for kind, retention in (("short", 1500), ("long", 600_000), ("usual", -1)):
        group = r.name(kind)
        ready(r, c, group)
        r.call(f"{kind} commit", c, "OffsetCommit", 3, {
            "GroupId": group, "GenerationIdOrMemberEpoch": -1, "MemberId": "",
            "RetentionTimeMs": retention, "Topics": [{"Name": name, "Partitions": [
                {"PartitionIndex": 0, "CommittedOffset": 5, "CommittedMetadata": ""}]}]})
        r.call(f"{kind} is there", c, "OffsetFetch", 5, {"GroupId": group, "Topics": None})
    r.until(c, "OffsetFetch", 5, {"GroupId": r.name("short"), "Topics": None},
            lambda a: not a["Topics"])
    for kind in ("short", "long", "usual"):
        r.call(f"{kind} after that", c, "OffsetFetch", 5,
               {"GroupId": r.name(kind), "Topics": None})
    r.until(c, "DescribeGroups", 5, {"Groups": [r.name("short")]},
            lambda a: a["Groups"][0]["GroupState"] == "Dead")
    r.call("the group went with it", c, "DescribeGroups", 5, {"Groups": [r.name("short")]})
