"""Members of classic groups: fencing, leaving, syncing, protocols."""
from scripts_group import (OTHER_SUBSCRIPTION, commit_body, heartbeat_body, join_body, joined,
                           ready, sync_body)


def leave_body(group, *members):
    return {"GroupId": group, "MemberId": members[0][0] if members else "", "Members": [
        {"MemberId": m, "GroupInstanceId": i, "Reason": None} for m, i in members]}


def everything(r, c, when, group, generation, member, instance):
    """One identity in each request that a member may send."""
    r.call(f"{when} joins", c, "JoinGroup", 5, join_body(group, member, instance))
    everything_but_join(r, c, when, group, generation, member, instance)


def everything_but_join(r, c, when, group, generation, member, instance):
    r.call(f"{when} syncs", c, "SyncGroup", 5,
           sync_body(group, generation, member, (), instance))
    r.call(f"{when} beats", c, "Heartbeat", 4,
           heartbeat_body(group, generation, member, instance))
    r.call(f"{when} commits", c, "OffsetCommit", 8,
           commit_body(group, "nt", 5, generation, member, instance=instance))


def script_fenced(r):
    c, admin = r.connect("aa"), r.connect("admin")
    group = r.name("g")
    ready(r, admin, group)
    first = joined(r, c, group, instance="i1")
    old, generation = first["MemberId"], first["GenerationId"]
    r.call("syncs", c, "SyncGroup", 5, sync_body(group, generation, old, [(old, b"A")], "i1"))
    new = joined(r, c, group, instance="i1")["MemberId"]
    everything(r, c, "the old id", group, generation, old, "i1")
    everything_but_join(r, c, "the old id, wrong generation", group, 77, old, "i1")
    everything(r, c, "unknown instance", group, generation, new, "i2")
    everything(r, c, "unknown both", group, generation, "who", "i3")
    everything_but_join(r, c, "empty id", group, generation, "", "i1")
    everything_but_join(r, c, "new id, wrong generation", group, 77, new, "i1")
    everything_but_join(r, c, "new id without its name", group, generation, new, None)
    r.call("fenced leave and others", admin, "LeaveGroup", 4, leave_body(
        group, (old, "i1"), (new, "i2"), ("who", "i1"), ("who", None), ("", None), ("", "i9")))
    r.call("stable", admin, "DescribeGroups", 5, {"Groups": [group]})
    r.call("leaves without its name", admin, "LeaveGroup", 4, leave_body(group, (new, None)))
    r.call("empty", admin, "DescribeGroups", 5, {"Groups": [group]})
    everything(r, c, "who left", group, generation, new, "i1")


def script_static_changes(r):
    """A static member that comes back with another protocol or subscription."""
    c, admin = r.connect("aa"), r.connect("admin")
    for v in (5, 9):
        for title, how in {"the same": {}, "another subscription": {"metadata":
                                                                    OTHER_SUBSCRIPTION},
                           "another protocol": {"protocols": ("sticky",)},
                           "one protocol more": {"protocols": ("sticky", "range")},
                           "another kind": {"kind": "connect"}}.items():
            group = r.name(f"{v} {title}")
            ready(r, admin, group)
            first = joined(r, c, group, instance="i1")
            old, generation = first["MemberId"], first["GenerationId"]
            r.quiet(c, "SyncGroup", 3, {"GroupId": group, "GenerationId": generation,
                                        "MemberId": old, "GroupInstanceId": "i1",
                                        "Assignments": [{"MemberId": old, "Assignment": b"A"}]})
            again = r.call(title, c, "JoinGroup", v, join_body(group, instance="i1", **how))
            if again and not again["ErrorCode"]:
                r.call(f"{title}: syncs", c, "SyncGroup", 5, sync_body(
                    group, again["GenerationId"], again["MemberId"], (), "i1",
                    protocol=again["ProtocolName"]))
            r.call(f"{title}: stands", admin, "DescribeGroups", 5, {"Groups": [group]})
            r.call(f"{title}: removed", admin, "LeaveGroup", 3, leave_body(group, ("", "i1")))


def script_static_before_sync(r):
    """Replaced while the group waits for its leader's assignment."""
    c, d, admin = r.connect("aa"), r.connect("dd"), r.connect("admin")
    group = r.name("g")
    ready(r, admin, group)
    first = joined(r, c, group, instance="i1")
    again = r.call("comes back before the sync", d, "JoinGroup", 5,
                   join_body(group, instance="i1"))
    r.call("stands", admin, "DescribeGroups", 5, {"Groups": [group]})
    everything_but_join(r, c, "the first", group, first["GenerationId"], first["MemberId"], "i1")
    r.call("the second syncs", d, "SyncGroup", 5, sync_body(
        group, again["GenerationId"], again["MemberId"], [(again["MemberId"], b"B")], "i1"))
    r.call("stable", admin, "DescribeGroups", 5, {"Groups": [group]})
    r.call("removed", admin, "LeaveGroup", 3, leave_body(group, ("", "i1")))


def script_leave(r):
    c = r.connect("aa")
    for v in r.common("LeaveGroup"):
        group = r.name(f"g{v}")
        ready(r, c, group)
        first = r.quiet(c, "JoinGroup", 3, {k: w for k, w in join_body(group).items()
                                            if k not in ("GroupInstanceId", "Reason")})
        r.call("nobody", c, "LeaveGroup", v, leave_body(group, ("", None)))
        r.call("an empty list", c, "LeaveGroup", v, leave_body(group))
        r.call("unknown", c, "LeaveGroup", v, leave_body(group, ("who", None)))
        r.call("before the sync", c, "LeaveGroup", v, leave_body(group, (first["MemberId"], None)))
        r.call("twice in one", c, "LeaveGroup", v, leave_body(
            group, (first["MemberId"], None), (first["MemberId"], None)))
        pending = r.call("an id", c, "JoinGroup", 5, join_body(group))["MemberId"]
        r.call("pending stays away", c, "LeaveGroup", v, leave_body(group, (pending, None)))
        r.call("its id is gone", c, "JoinGroup", 5, join_body(group, pending))
        r.call("group", c, "DescribeGroups", 5, {"Groups": [group]})


def script_sync_edges(r):
    c = r.connect("aa")
    for title, given in {"nothing for the leader": [], "for a stranger": [("who", b"x")],
                         "twice": "twice", "empty": "empty", "large": "large"}.items():
        group = r.name(title)
        ready(r, c, group)
        first = joined(r, c, group)
        m, generation = first["MemberId"], first["GenerationId"]
        if isinstance(given, str):
            given = {"twice": [(m, b"1"), (m, b"2")], "empty": [(m, b"")],
                     "large": [(m, b"y" * 300_000)]}[given]
        r.call(f"{title}: no protocol", c, "SyncGroup", 5,
               sync_body(group, generation, m, given, protocol=None))
        r.call(f"{title}: syncs", c, "SyncGroup", 4, sync_body(group, generation, m, given))
        r.call(f"{title}: again, others", c, "SyncGroup", 5,
               sync_body(group, generation, m, [(m, b"later")]))
        r.call(f"{title}: stands", c, "DescribeGroups", 5, {"Groups": [group]})
        r.call(f"{title}: leader joins again", c, "JoinGroup", 5, join_body(group, m))
        r.call(f"{title}: syncs anew", c, "SyncGroup", 5,
               sync_body(group, generation + 1, m, [(m, b"new")]))
        r.call(f"{title}: leaves", c, "LeaveGroup", 3, leave_body(group, (m, None)))


def script_protocols(r):
    """What an empty group remembers of its kind; votes; protocols named twice."""
    c = r.connect("aa")
    group = r.name("g")
    ready(r, c, group)
    first = joined(r, c, group, protocols=("range", "rr"))
    m = first["MemberId"]
    r.call("joins with fewer", c, "JoinGroup", 5, join_body(group, m, protocols=("rr",)))
    r.call("joins with another kind", c, "JoinGroup", 5, join_body(group, m, kind="connect"))
    r.call("joins with none", c, "JoinGroup", 5, join_body(group, m, protocols=()))
    r.call("no rebalance timeout", c, "JoinGroup", 5, join_body(group, m, rebalance=0))
    r.call("negative rebalance timeout", c, "JoinGroup", 5, join_body(group, m, rebalance=-1))
    r.call("leaves", c, "LeaveGroup", 3, leave_body(group, (m, None)))
    r.call("empty", c, "DescribeGroups", 5, {"Groups": [group]})
    answer = joined(r, c, group, kind="connect", protocols=("default",), metadata=b"")
    r.add("an empty group changes its kind", r.clean(answer))
    r.call("stands", c, "DescribeGroups", 5, {"Groups": [group]})
    r.call("consumer offsets all the same", c, "OffsetCommit", 7, commit_body(group, "nt", 5))
    r.call("leaves", c, "LeaveGroup", 3, leave_body(group, (answer["MemberId"], None)))
    r.call("listed", c, "DescribeGroups", 5, {"Groups": [group, group, r.name("no")]})
    for reason in ("because", "x" * 300):
        r.call("with a reason", c, "JoinGroup", 8, join_body(r.name("why"), reason=reason))


def script_leader_comes_back(r):
    """The leader's JoinGroup starts a rebalance, a follower's with the same does not."""
    a, b, admin = r.connect("aa"), r.connect("bb"), r.connect("admin")
    for v in (4, 5, 9):
        group = r.name(f"g{v}")
        ready(r, admin, group)
        m = joined(r, a, group)["MemberId"]
        pending = r.quiet(b, "JoinGroup", 4, {k: w for k, w in join_body(group).items()
                                              if k not in ("GroupInstanceId", "Reason")})
        n = pending["MemberId"]
        waiting = r.send("second", b, "JoinGroup", v, join_body(group, n))
        r.until(admin, "DescribeGroups", 5, {"Groups": [group]},
                lambda d: d["Groups"][0]["GroupState"] == "PreparingRebalance")
        back = r.call("first", a, "JoinGroup", v, join_body(group, m))
        r.receive(waiting)
        leader, follower, lc, fc = (m, n, a, b) if back["Leader"] == m else (n, m, b, a)
        g = back["GenerationId"]
        r.call("follower again before the sync", fc, "JoinGroup", v, join_body(group, follower))
        waiting = r.send("follower syncs", fc, "SyncGroup", 5, sync_body(group, g, follower))
        r.call("leader syncs", lc, "SyncGroup", 5, sync_body(
            group, g, leader, [(leader, b"L"), (follower, b"F")]))
        r.receive(waiting)
        r.call("follower again", fc, "JoinGroup", v, join_body(group, follower))
        waiting = r.send("leader again", lc, "JoinGroup", v, join_body(group, leader))
        r.until(admin, "DescribeGroups", 5, {"Groups": [group]},
                lambda d: d["Groups"][0]["GroupState"] == "PreparingRebalance")
        r.call("follower beats", fc, "Heartbeat", 3, heartbeat_body(group, g, follower))
        r.call("follower leaves", fc, "LeaveGroup", 3, leave_body(group, (follower, None)))
        r.receive(waiting)
        r.call("leader leaves", lc, "LeaveGroup", 3, leave_body(group, (leader, None)))
