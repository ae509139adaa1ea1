"""Classic consumer groups and their offsets."""
from kafka_wire import encode
from scripts_admin import create, topic

SUBSCRIPTION = b"\0\1" + encode("ConsumerProtocolSubscription", 1, {"Topics": ["t"]})
OTHER_SUBSCRIPTION = b"\0\1" + encode("ConsumerProtocolSubscription", 1, {"Topics": ["t", "u"]})


def join_body(group, member="", instance=None, protocols=("range",), session=10000,
              rebalance=10000, kind="consumer", metadata=SUBSCRIPTION, reason=None):
    return {"GroupId": group, "SessionTimeoutMs": session, "RebalanceTimeoutMs": rebalance,
            "MemberId": member, "GroupInstanceId": instance, "ProtocolType": kind,
            "Protocols": [{"Name": p, "Metadata": metadata} for p in protocols],
            "Reason": reason}


def sync_body(group, generation, member, assignments=(), instance=None, kind="consumer",
              protocol="range"):
    return {"GroupId": group, "GenerationId": generation, "MemberId": member,
            "GroupInstanceId": instance, "ProtocolType": kind, "ProtocolName": protocol,
            "Assignments": [{"MemberId": m, "Assignment": a} for m, a in assignments]}


def heartbeat_body(group, generation, member, instance=None):
    return {"GroupId": group, "GenerationId": generation, "MemberId": member,
            "GroupInstanceId": instance}


def commit_body(group, name, offset, generation=-1, member="", partition=0, metadata="",
                instance=None):
    return {"GroupId": group, "GenerationIdOrMemberEpoch": generation, "MemberId": member,
            "GroupInstanceId": instance, "RetentionTimeMs": -1, "Topics": [
                {"Name": name, "Partitions": [
                    {"PartitionIndex": partition, "CommittedOffset": offset,
                     "CommittedLeaderEpoch": -1, "CommittedMetadata": metadata}]}]}


def ready(r, c, group):
    """The coordinator answers: the offsets topic has been made."""
    r.until(c, "FindCoordinator", 3, {"Key": group, "KeyType": 0},
            lambda a: a["ErrorCode"] == 0)
    r.until(c, "DescribeGroups", 0, {"Groups": [group]},
            lambda a: a["Groups"][0]["ErrorCode"] not in (14, 15, 16))


def joined(r, c, group, version=5, **how):
    """A member of a group that nobody else joins; not recorded."""
    answer = r.quiet(c, "JoinGroup", version, known(join_body(group, **how), version))
    if answer["ErrorCode"] == 79:
        how["member"] = answer["MemberId"]
        answer = r.quiet(c, "JoinGroup", version, known(join_body(group, **how), version))
    return answer


def known(body, version):
    if version < 8:
        body.pop("Reason", None)
    if version < 5:
        body.pop("GroupInstanceId", None)
    return body


def script_join_errors(r):
    c = r.connect()
    ready(r, c, r.name("g"))
    for v in r.common("JoinGroup"):
        def join(title, **how):
            group = how.pop("group", r.name(f"e{v} {title}"))
            r.call(title, c, "JoinGroup", v, join_body(group, **how))
        join("empty group", group="")
        join("session too short", session=1)
        join("session too long", session=3_600_000)
        join("unknown member", member="nobody")
        join("no protocols", protocols=())
        join("empty kind", kind="")
        if v >= 5:
            join("empty instance", instance="")
            join("bad instance", instance="a b")
            join("unknown member with instance", member="nobody", instance="i")


def script_one_member(r):
    """A whole life in every version of JoinGroup that does not ask for a member id first."""
    for v in r.common("JoinGroup"):
        c = r.connect("solo")
        group = r.name(f"one{v}")
        ready(r, c, group)
        first = r.call("first join", c, "JoinGroup", v, join_body(group, protocols=("range", "rr")))
        if first and first["ErrorCode"] == 79:
            first = r.call("with the id", c, "JoinGroup", v,
                           join_body(group, member=first["MemberId"], protocols=("range", "rr")))
        if not first or first["ErrorCode"]:
            continue
        member, generation = first["MemberId"], first["GenerationId"]
        sync = min(v, r.common("SyncGroup")[-1], 5)
        r.call("heartbeat before sync", c, "Heartbeat", 0, heartbeat_body(group, 1, member))
        r.call("commit before sync", c, "OffsetCommit", 7,
               commit_body(group, r.name("nt"), 1, generation, member))
        r.call("sync, wrong generation", c, "SyncGroup", sync, sync_body(group, 77, member))
        r.call("sync, unknown member", c, "SyncGroup", sync, sync_body(group, generation, "who"))
        r.call("sync, wrong protocol", c, "SyncGroup", 5,
               sync_body(group, generation, member, protocol="rr"))
        r.call("sync, wrong kind", c, "SyncGroup", 5,
               sync_body(group, generation, member, kind="connect"))
        r.call("sync", c, "SyncGroup", sync,
               sync_body(group, generation, member, [(member, b"abc")]))
        r.call("sync again", c, "SyncGroup", sync, sync_body(group, generation, member))
        r.call("heartbeat", c, "Heartbeat", 0, heartbeat_body(group, generation, member))
        r.call("heartbeat, old generation", c, "Heartbeat", 0,
               heartbeat_body(group, generation - 1, member))
        r.call("heartbeat, unknown member", c, "Heartbeat", 0,
               heartbeat_body(group, generation, "who"))
        r.call("stable", c, "DescribeGroups", 5, {"Groups": [group]})
        r.call("offset reset by hand", c, "OffsetCommit", 7, commit_body(group, r.name("nt"), 1))
        r.call("delete while stable", c, "DeleteGroups", 2, {"GroupsNames": [group]})
        r.call("joins again", c, "JoinGroup", v,
               join_body(group, member=member, protocols=("range", "rr")))
        r.call("leave", c, "LeaveGroup", 0, {"GroupId": group, "MemberId": member})
        r.call("leave again", c, "LeaveGroup", 0, {"GroupId": group, "MemberId": member})
        r.call("heartbeat after leaving", c, "Heartbeat", 0,
               heartbeat_body(group, generation, member))
        r.call("empty", c, "DescribeGroups", 5, {"Groups": [group]})
        r.call("delete", c, "DeleteGroups", 2, {"GroupsNames": [group]})
        r.call("gone", c, "DescribeGroups", 5, {"Groups": [group]})


def script_two_members(r):
    a, b, admin = r.connect("aa"), r.connect("bb"), r.connect("admin")
    group = r.name("two")
    ready(r, admin, group)
    first = joined(r, a, group, protocols=("range", "rr"))
    member_a, generation = first["MemberId"], first["GenerationId"]
    r.quiet(a, "SyncGroup", 3, {k: v for k, v in sync_body(
        group, generation, member_a, [(member_a, b"all")]).items()
        if k not in ("ProtocolType", "ProtocolName")})
    pending = r.call("second is asked for an id", b, "JoinGroup", 5,
                     join_body(group, protocols=("range",)))
    member_b = pending["MemberId"]
    r.call("id only: still stable", a, "Heartbeat", 3, heartbeat_body(group, generation, member_a))
    waiting = r.send("second joins", b, "JoinGroup", 5,
                     join_body(group, member=member_b, protocols=("range",)))
    r.until(admin, "DescribeGroups", 5, {"Groups": [group]},
            lambda d: d["Groups"][0]["GroupState"] == "PreparingRebalance")
    r.call("preparing", admin, "DescribeGroups", 5, {"Groups": [group]})
    r.call("rebalance is on", a, "Heartbeat", 3, heartbeat_body(group, generation, member_a))
    r.call("commit while preparing", a, "OffsetCommit", 7,
           commit_body(group, r.name("nt"), 5, generation, member_a))
    r.call("sync while preparing", a, "SyncGroup", 3, sync_body(group, generation, member_a))
    back = r.call("first joins again", a, "JoinGroup", 5,
                  join_body(group, member=member_a, protocols=("range", "rr")))
    second = r.receive(waiting)
    generation = back["GenerationId"]
    r.call("completing", admin, "DescribeGroups", 5, {"Groups": [group]})
    r.call("commit while completing", a, "OffsetCommit", 7,
           commit_body(group, r.name("nt"), 5, generation, member_a))
    r.call("heartbeat while completing", a, "Heartbeat", 3,
           heartbeat_body(group, generation, member_a))
    leader, follower = (a, b) if back["Leader"] == member_a else (b, a)
    leader_id, follower_id = ((member_a, member_b) if leader is a else (member_b, member_a))
    r.add("who leads", "first" if leader is a else "second")
    r.add("both in one generation", second["GenerationId"] == generation)
    waiting = r.send("follower syncs", follower, "SyncGroup", 3,
                     sync_body(group, generation, follower_id))
    r.call("leader syncs", leader, "SyncGroup", 3, sync_body(
        group, generation, leader_id, [(leader_id, b"L"), (follower_id, b"F")]))
    r.receive(waiting)
    r.call("stable", admin, "DescribeGroups", 5, {"Groups": [group]})
    r.call("follower joins with the same", follower, "JoinGroup", 5,
           join_body(group, member=follower_id,
                     protocols=("range", "rr") if follower is a else ("range",)))
    r.call("wrong kind", admin, "JoinGroup", 3, join_body(group, kind="connect"))
    r.call("no common protocol", admin, "JoinGroup", 3, join_body(group, protocols=("sticky",)))
    r.call("old generation commits", a, "OffsetCommit", 7,
           commit_body(group, r.name("nt"), 5, generation - 1, member_a))
    r.call("stranger commits", a, "OffsetCommit", 7,
           commit_body(group, r.name("nt"), 5, generation, "who"))
    r.call("both leave", admin, "LeaveGroup", 4, {"GroupId": group, "Members": [
        {"MemberId": member_a, "GroupInstanceId": None},
        {"MemberId": "who", "GroupInstanceId": None},
        {"MemberId": member_b, "GroupInstanceId": None}]})
    r.call("empty", admin, "DescribeGroups", 5, {"Groups": [group]})


def script_static_members(r):
    a, b, admin = r.connect("aa"), r.connect("bb"), r.connect("admin")
    group = r.name("static")
    ready(r, admin, group)
    for v in (5, 9):
        group = r.name(f"static{v}")
        first = r.call("joins", a, "JoinGroup", v, join_body(group, instance="i1"))
        if not first:
            continue
        old, generation = first["MemberId"], first["GenerationId"]
        r.call("syncs", a, "SyncGroup", 5, sync_body(group, generation, old, [(old, b"A")], "i1"))
        again = r.call("comes back", b, "JoinGroup", v, join_body(group, instance="i1"))
        new = again["MemberId"]
        r.add("has another id", old != new)
        r.call("still stable", admin, "DescribeGroups", 5, {"Groups": [group]})
        r.call("syncs again", b, "SyncGroup", 5,
               sync_body(group, again["GenerationId"], new, (), "i1"))
        r.call("old one beats", a, "Heartbeat", 4, heartbeat_body(group, generation, old, "i1"))
        r.call("old one beats without name", a, "Heartbeat", 4,
               heartbeat_body(group, generation, old))
        r.call("old one commits", a, "OffsetCommit", 7,
               commit_body(group, r.name("nt"), 5, generation, old, instance="i1"))
        r.call("old one syncs", a, "SyncGroup", 5, sync_body(group, generation, old, (), "i1"))
        r.call("old one joins", a, "JoinGroup", v, join_body(group, old, "i1"))
        r.call("old one leaves", a, "LeaveGroup", 4, {"GroupId": group, "Members": [
            {"MemberId": old, "GroupInstanceId": "i1"}]})
        r.call("new one beats", b, "Heartbeat", 4, heartbeat_body(group, generation, new, "i1"))
        r.call("unknown instance beats", b, "Heartbeat", 4,
               heartbeat_body(group, generation, new, "i2"))
        r.call("administrator removes", admin, "LeaveGroup", 4, {"GroupId": group, "Members": [
            {"MemberId": "", "GroupInstanceId": "i1"},
            {"MemberId": "", "GroupInstanceId": "i9"}]})
        r.call("empty", admin, "DescribeGroups", 5, {"Groups": [group]})


def script_unknown_groups(r):
    c = r.connect()
    group = r.name("nobody")
    ready(r, c, group)
    for v in r.common("Heartbeat"):
        r.call("no such group", c, "Heartbeat", v, heartbeat_body(group, 1, "m"))
        r.call("no name", c, "Heartbeat", v, heartbeat_body("", 1, "m"))
    for v in r.common("SyncGroup"):
        r.call("no such group", c, "SyncGroup", v, sync_body(group, 1, "m"))
        r.call("no name", c, "SyncGroup", v, sync_body("", 1, "m"))
        if v >= 5:
            r.call("no kind", c, "SyncGroup", v, sync_body(group, 1, "m", kind=None))
    for v in r.common("LeaveGroup"):
        for title, name in (("no such group", group), ("no name", "")):
            r.call(title, c, "LeaveGroup", v, {"GroupId": name, "MemberId": "m", "Members": [
                {"MemberId": "m", "GroupInstanceId": None}]})
    for v in r.common("DescribeGroups"):
        r.call("no such group", c, "DescribeGroups", v, {"Groups": [group]})
        r.call("no name", c, "DescribeGroups", v, {"Groups": [""]})
        r.call("with rights", c, "DescribeGroups", v,
               {"Groups": [group], "IncludeAuthorizedOperations": True})
    for v in r.common("DeleteGroups"):
        r.call("no such group", c, "DeleteGroups", v, {"GroupsNames": [group]})
        r.call("no name", c, "DeleteGroups", v, {"GroupsNames": [""]})
    for v in r.common("OffsetDelete"):
        r.call("no such group", c, "OffsetDelete", v, {"GroupId": group, "Topics": [
            {"Name": "t", "Partitions": [{"PartitionIndex": 0}]}]})


def script_offsets(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), 2))
    ready(r, c, r.name("g"))
    for v in (v for v in r.common("OffsetCommit") if v <= 9):
        group = r.name(f"g{v}")
        def commit(title, *where, **how):
            r.call(title, c, "OffsetCommit", v, commit_body(group, *where, **how))
        commit("no group yet, generation 3", name, 5, generation=3, member="m")
        commit("from outside", name, 5)
        commit("back", name, 2)
        commit("negative", name, -1)
        commit("unknown topic", r.name("no"), 5)
        commit("unknown partition", name, 5, partition=9)
        commit("metadata", name, 7, metadata="hello")
        commit("too much metadata", name, 9, metadata="x" * 4097)
        commit("just enough metadata", name, 9, metadata="x" * 4096)
        commit("null metadata", name, 9, partition=1, metadata=None)
        commit("a stranger", name, 5, generation=3, member="m")
        r.call("no group name", c, "OffsetCommit", v, commit_body("", name, 5))
        fetch_offsets(r, c, group, name)
        r.call("a simple group", c, "DescribeGroups", 5, {"Groups": [group]})


def fetch_offsets(r, c, group, name):
    for v in (v for v in r.common("OffsetFetch") if v <= 9):
        topics = [{"Name": name, "PartitionIndexes": [0, 1, 9]},
                  {"Name": r.name("no"), "PartitionIndexes": [0]}]

        def ask(title, which, group_name=group, stable=False):
            r.call(title, c, "OffsetFetch", v, {
                "GroupId": group_name, "Topics": which, "RequireStable": stable,
                "Groups": [{"GroupId": group_name, "Topics": which, "MemberId": None,
                            "MemberEpoch": -1}]})
        ask("some", topics)
        ask("unknown group", topics, r.name("never"))
        ask("no group name", topics, "")
        ask("stable", topics, stable=True)
        if v >= 2:
            ask("all", None)
            ask("all of an unknown group", None, r.name("never"))


def script_offset_delete(r):
    c = r.connect("solo")
    name = create(r, c, topic(r.name("t"), 2))
    group = r.name("g")
    ready(r, c, group)
    r.quiet(c, "OffsetCommit", 7, {k: v for k, v in commit_body(group, name, 5).items()
                                   if k != "RetentionTimeMs"})

    def delete(title, topic_name=name, partition=0):
        r.call(title, c, "OffsetDelete", 0, {"GroupId": group, "Topics": [
            {"Name": topic_name, "Partitions": [{"PartitionIndex": partition}]}]})
    delete("unknown partition", partition=9)
    delete("unknown topic", r.name("no"))
    delete("nothing committed there", partition=1)
    delete("there")
    delete("gone")
    r.call("what is left", c, "OffsetFetch", 7, {"GroupId": group, "Topics": None})
    r.call("the group without offsets", c, "DescribeGroups", 5, {"Groups": [group]})
    member = joined(r, c, group)
    r.quiet(c, "SyncGroup", 3, {"GroupId": group, "GenerationId": member["GenerationId"],
                                "MemberId": member["MemberId"], "Assignments": []})
    delete("while subscribed to another topic")
    r.call("left", c, "LeaveGroup", 1, {"GroupId": group, "MemberId": member["MemberId"]})


def script_list_groups(r):
    c = r.connect("solo")
    names = [r.name("simple"), r.name("member")]
    ready(r, c, names[0])
    r.quiet(c, "OffsetCommit", 7, {k: v for k, v in commit_body(
        names[0], create(r, c, topic(r.name("t"))), 5).items() if k != "RetentionTimeMs"})
    member = joined(r, c, names[1])
    for v in r.common("ListGroups"):
        for title, states, types in (("all", [], []), ("empty ones", ["Empty"], []),
                                     ("in lower case", ["empty"], []),
                                     ("unknown state", ["Sleeping"], []),
                                     ("classic ones", [], ["classic"]),
                                     ("new ones", [], ["consumer"]),
                                     ("unknown type", [], ["weird"])):
            body = {}
            if v >= 4:
                body["StatesFilter"] = states
            if v >= 5:
                body["TypesFilter"] = types
            answer = r.quiet(c, "ListGroups", v, body)
            answer["Groups"] = [g for g in answer["Groups"] if g["GroupId"] in names]
            r.add(f"{title}: ListGroups v{v}", r.clean(answer))
    r.call("left", c, "LeaveGroup", 1, {"GroupId": names[1], "MemberId": member["MemberId"]})
