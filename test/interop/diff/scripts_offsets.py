"""Committed offsets by topic id, of many groups at once, and in every state of a group."""
from recording import ZERO_UUID
from scripts_admin import create, topic
from scripts_data import topic_id
from scripts_group import (OTHER_SUBSCRIPTION, commit_body, join_body, joined, ready, sync_body)

NOBODY = "11111111-1111-4111-8111-111111111111"


def commit_by_id(group, *topics, generation=-1, member=""):
    return {"GroupId": group, "GenerationIdOrMemberEpoch": generation, "MemberId": member,
            "GroupInstanceId": None, "Topics": [
                {"TopicId": i, "Partitions": [
                    {"PartitionIndex": p, "CommittedOffset": o, "CommittedLeaderEpoch": -1,
                     "CommittedMetadata": "by id"} for p, o in partitions]}
                for i, partitions in topics]}


def fetch_by_id(*groups):
    return {"RequireStable": False, "Groups": [
        {"GroupId": g, "MemberId": None, "MemberEpoch": -1,
         "Topics": None if topics is None else [
             {"TopicId": i, "PartitionIndexes": list(p)} for i, p in topics]}
        for g, topics in groups]}


def script_offsets_by_id(r):
    if 10 not in r.common("OffsetCommit") or 10 not in r.common("OffsetFetch"):
        return
    c = r.connect()
    name, other = create(r, c, topic(r.name("t"), 2), topic(r.name("u"))), r.name("u")
    t, u, group = topic_id(r, c, name), topic_id(r, c, other), r.name("g")
    ready(r, c, group)
    r.call("known and unknown", c, "OffsetCommit", 10,
           commit_by_id(group, (t, [(0, 3), (9, 3)]), (NOBODY, [(0, 3)]), (u, [(0, 1)])))
    r.call("zero id", c, "OffsetCommit", 10, commit_by_id(group, (ZERO_UUID, [(0, 3)])))
    r.call("nothing", c, "OffsetCommit", 10, commit_by_id(group))
    for title, body in {
            "some": fetch_by_id((group, [(t, [0, 1, 9]), (NOBODY, [0]), (ZERO_UUID, [0])])),
            "all": fetch_by_id((group, None)),
            "no topics": fetch_by_id((group, [])),
            "two groups": fetch_by_id((group, [(t, [0])]), (r.name("no"), [(t, [0])]))}.items():
        r.call(title, c, "OffsetFetch", 10, body)
    r.quiet(c, "DeleteTopics", 5, {"TopicNames": [other], "TimeoutMs": 10000})
    r.until(c, "Metadata", 9, {"Topics": [{"Name": other}],
                                "AllowAutoTopicCreation": False},
            lambda a: a["Topics"][0]["ErrorCode"] == 3)
    r.call("of a deleted topic", c, "OffsetFetch", 10, fetch_by_id((group, [(u, [0])])))
    r.call("all, one topic deleted", c, "OffsetFetch", 10, fetch_by_id((group, None)))
    r.call("commit to the deleted one", c, "OffsetCommit", 10, commit_by_id(group, (u, [(0, 1)])))


def script_offset_fetch_batched(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), 2))
    one, two = r.name("one"), r.name("two")
    ready(r, c, one)
    for group in (one, two):
        r.call("commit", c, "OffsetCommit", 7, commit_body(group, name, 5))
    for v in (8, 9):
        def ask(title, *groups):
            r.call(title, c, "OffsetFetch", v, {"RequireStable": False, "Groups": [
                {"GroupId": g, "Topics": topics, "MemberId": None, "MemberEpoch": -1}
                for g, topics in groups]})
        some = [{"Name": name, "PartitionIndexes": [1, 0]}]
        ask("two", (one, some), (two, None))
        ask("one of them unknown", (one, some), (r.name("no"), some), ("", None))
        ask("the same twice", (one, some), (one, None))
        ask("no groups")
        ask("no topics", (one, []))
        ask("no partitions", (one, [{"Name": name, "PartitionIndexes": []}]))
        ask("a partition twice", (one, [{"Name": name, "PartitionIndexes": [0, 0]}]))
    if 9 in r.common("OffsetFetch"):
        for title, member, epoch in (("a stranger", "m", 3), ("an epoch only", None, 3),
                                     ("a name only", "m", -1), ("empty name", "", 3)):
            r.call(title, c, "OffsetFetch", 9, {"RequireStable": True, "Groups": [
                {"GroupId": one, "Topics": some, "MemberId": member, "MemberEpoch": epoch}]})


def commits_of_all_kinds(r, c, when, group, name, generation, member):
    """Who may commit depends on the state of the group, and on who it is."""
    for title, how in {
            "outsider": {}, "outsider with a name": {"member": "who"},
            "member without generation": {"member": member},
            "generation without member": {"generation": generation},
            "stranger": {"member": "who", "generation": generation},
            "old generation": {"member": member, "generation": generation - 1},
            "later generation": {"member": member, "generation": generation + 1},
            "negative generation": {"member": member, "generation": -2},
            "wrong instance": {"member": member, "generation": generation, "instance": "i"},
            "instance only": {"instance": "i"},
            "member": {"member": member, "generation": generation}}.items():
        r.call(f"{when}: {title}", c, "OffsetCommit", 8, commit_body(group, name, 5, **how))


def script_commits_by_state(r):
    a, b, c = r.connect("aa"), r.connect("bb"), r.connect("admin")
    name, group = create(r, c, topic(r.name("t"))), r.name("g")
    ready(r, c, group)
    commits_of_all_kinds(r, c, "no group", group, name, 1, "m")
    first = joined(r, a, group)
    member, generation = first["MemberId"], first["GenerationId"]
    commits_of_all_kinds(r, c, "completing", group, name, generation, member)
    r.call("sync", a, "SyncGroup", 5, sync_body(group, generation, member, [(member, b"x")]))
    commits_of_all_kinds(r, c, "stable", group, name, generation, member)
    second = r.call("second is asked for an id", b, "JoinGroup", 5, join_body(group))
    commits_of_all_kinds(r, c, "one pending", group, name, generation, second["MemberId"])
    waiting = r.send("second joins", b, "JoinGroup", 5, join_body(group, second["MemberId"]))
    r.until(c, "DescribeGroups", 5, {"Groups": [group]},
            lambda d: d["Groups"][0]["GroupState"] == "PreparingRebalance")
    commits_of_all_kinds(r, c, "preparing", group, name, generation, member)
    r.call("delete while preparing", c, "DeleteGroups", 2, {"GroupsNames": [group]})
    r.call("offset delete while preparing", c, "OffsetDelete", 0, {"GroupId": group, "Topics": [
        {"Name": name, "Partitions": [{"PartitionIndex": 0}]}]})
    r.call("first leaves", a, "LeaveGroup", 1, {"GroupId": group, "MemberId": member})
    r.receive(waiting)
    r.call("delete while completing", c, "DeleteGroups", 2, {"GroupsNames": [group]})
    r.call("second leaves", b, "LeaveGroup", 1,
           {"GroupId": group, "MemberId": second["MemberId"]})
    commits_of_all_kinds(r, c, "empty", group, name, generation, member)
    r.call("delete, one twice, one unknown", c, "DeleteGroups", 2,
           {"GroupsNames": [group, r.name("no")]})
    commits_of_all_kinds(r, c, "deleted", group, name, generation, member)
    r.call("what stands", c, "OffsetFetch", 7, {"GroupId": group, "Topics": None})


def script_offset_delete_with_members(r):
    c = r.connect("solo")
    mine, other = create(r, c, topic("t-" + r.prefix), topic("u-" + r.prefix)), "u-" + r.prefix
    for kind, metadata in (("consumer", None), ("connect", b"x")):
        group = r.name(f"{kind} {metadata}")
        ready(r, c, group)
        for name in (mine, other):
            r.call("commit", c, "OffsetCommit", 7, commit_body(group, name, 5))
        if metadata is None:
            metadata = OTHER_SUBSCRIPTION[:2] + OTHER_SUBSCRIPTION[2:].replace(
                b"\0\1t", len(mine).to_bytes(2, "big") + mine.encode())
        m = joined(r, c, group, kind=kind, metadata=metadata)

        def delete(title, *topics):
            r.call(f"{kind}: {title}", c, "OffsetDelete", 0, {"GroupId": group, "Topics": [
                {"Name": n, "Partitions": [{"PartitionIndex": p} for p in ps]}
                for n, ps in topics]})
        delete("completing", (mine, [0]), (other, [0, 7]))
        r.call("sync", c, "SyncGroup", 5, sync_body(
            group, m["GenerationId"], m["MemberId"], [(m["MemberId"], b"x")], kind=kind))
        delete("stable", (mine, [0]), (other, [0, 7]))
        delete("nothing")
        r.call("leave", c, "LeaveGroup", 1, {"GroupId": group, "MemberId": m["MemberId"]})
        delete("empty", (mine, [0, 0]), (r.name("no"), [0]))
        r.call("what stands", c, "OffsetFetch", 7, {"GroupId": group, "Topics": None})
        r.call("group", c, "DescribeGroups", 5, {"Groups": [group]})


def script_commit_edges(r):
    c = r.connect()
    name, group = create(r, c, topic(r.name("t"), 2)), r.name("g")
    ready(r, c, group)
    for v in (2, 3, 6, 8):
        def commit(title, *partitions, retention=-1, epoch=-1):
            r.call(title, c, "OffsetCommit", v, {
                "GroupId": group, "GenerationIdOrMemberEpoch": -1, "MemberId": "",
                "RetentionTimeMs": retention, "Topics": [{"Name": name, "Partitions": [
                    {"PartitionIndex": p, "CommittedOffset": o, "CommittedLeaderEpoch": epoch,
                     "CommittedMetadata": m} for p, o, m in partitions]}]})
        commit("the same twice", (0, 1, "a"), (0, 2, "b"))
        commit("one good, one too large", (0, 1, "a"), (1, 1, "x" * 5000))
        commit("negative partition", (-1, 1, "a"))
        commit("far beyond the log", (0, 1 << 62, "a"))
        commit("minus two", (0, -2, "a"))
        commit("leader epoch", (0, 7, "a"), epoch=99)
        commit("negative leader epoch", (1, 7, "a"), epoch=-5)
        commit("own retention", (0, 7, "a"), retention=5)
        commit("none")
        r.call("stands", c, "OffsetFetch", 7, {"GroupId": group, "Topics": None})
    for group in ("", "x" * 32000, "with blank", "a/b", "\u00e4\u4e2d\U0001f600", "\0"):
        r.call(f"group {group[:12]!r}", c, "OffsetCommit", 7, commit_body(group, name, 5))
        r.call(f"group {group[:12]!r}", c, "OffsetFetch", 7, {"GroupId": group, "Topics": None})
        r.call(f"group {group[:12]!r}", c, "DeleteGroups", 2, {"GroupsNames": [group]})
