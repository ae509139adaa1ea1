"""Topics, settings, cluster, and frames that no broker should swallow."""
import struct

from kafka_wire import Closed
from recording import ZERO_UUID, frame

TOPIC, BROKER = 2, 4
LONG, WEEK_MS = "x" * 250, "604800000"


def topic(name, partitions=1, replication=1, assignments=(), configs=()):
    return {"Name": name, "NumPartitions": partitions, "ReplicationFactor": replication,
            "Assignments": [{"PartitionIndex": p, "BrokerIds": b} for p, b in assignments],
            "Configs": [{"Name": n, "Value": v} for n, v in configs]}


def create(r, c, *topics):
    """Topics that a script needs, made and ready."""
    answer = r.quiet(c, "CreateTopics", 5, {"Topics": list(topics), "timeoutMs": 10000})
    for t in answer["Topics"]:
        if t["ErrorCode"]:
            raise ValueError(f"cannot prepare {t}")
    for t in topics:
        r.until(c, "Metadata", 9, {"Topics": [{"Name": t["Name"]}]},
                lambda a: a["Topics"][0]["ErrorCode"] == 0)
        partitions = max(t["NumPartitions"], 1)
        r.until(c, "ListOffsets", 5, {"ReplicaId": -1, "Topics": [
            {"Name": t["Name"], "Partitions": [{"PartitionIndex": p, "Timestamp": -1}
                                               for p in range(partitions)]}]},
                lambda a: not any(p["ErrorCode"] for p in a["Topics"][0]["Partitions"]))
    return topics[0]["Name"]


def script_api_versions(r):
    c = r.connect()
    for v in r.common("ApiVersions"):
        body = {"ClientSoftwareName": "diff", "ClientSoftwareVersion": "1.0"}
        answer = r.quiet(c, "ApiVersions", v, body)
        r.add(f"ApiVersions v{v}", {"ErrorCode": answer["ErrorCode"]})
    for name in ("", "a b", "-a", "a-", "ok.1"):
        answer = r.quiet(c, "ApiVersions", 3, {"ClientSoftwareName": name,
                                               "ClientSoftwareVersion": "1"})
        r.add(f"software name {name!r}", answer["ErrorCode"])
    # A version nobody knows: a body of version 0 with error 35, which names one api.
    c.correlation += 1
    c.send_frame(frame(18, 99, c.correlation, body=b"\0\5diff\0021\0"))
    answer = c.receive("ApiVersions", 0, False)
    r.add("ApiVersions v99", {"error": answer["ErrorCode"], "apis": len(answer["ApiKeys"])})


def script_create_topics(r):
    c = r.connect()
    for v in r.common("CreateTopics"):
        n = r.name(f"v{v}")
        r.call("fresh", c, "CreateTopics", v, {"Topics": [topic(n, 2)]})
        r.call("exists", c, "CreateTopics", v, {"Topics": [topic(n, 2)]})
        r.call("only validated", c, "CreateTopics", v,
               {"Topics": [topic(n + "-not")], "validateOnly": True})
        r.call("defaults", c, "CreateTopics", v, {"Topics": [topic(n + "d", -1, -1)]})
    last = r.common("CreateTopics")[-1]
    cases = {
        "no name": topic(""), "blank in the name": topic("a b"), "dot": topic("."),
        "two dots": topic(".."), "long name": topic(LONG), "no partitions": topic(r.name("p0"), 0),
        "minus two partitions": topic(r.name("p-2"), -2),
        "replication two": topic(r.name("r2"), 1, 2), "replication zero": topic(r.name("r0"), 1, 0),
        "replication minus two": topic(r.name("r-2"), 1, -2),
        "unknown setting": topic(r.name("c1"), configs=[("no.such", "1")]),
        "bad number": topic(r.name("c2"), configs=[("retention.ms", "x")]),
        "out of range": topic(r.name("c3"), configs=[("retention.ms", "-5")]),
        "null value": topic(r.name("c4"), configs=[("retention.ms", None)]),
        "good setting": topic(r.name("c5"), configs=[("retention.ms", "100000")]),
        "bad policy": topic(r.name("c6"), configs=[("cleanup.policy", "shred")]),
        "assignment": topic(r.name("a1"), -1, -1, [(0, [1])]),
        "assignment and count": topic(r.name("a2"), 1, -1, [(0, [1])]),
        "assignment to nobody": topic(r.name("a3"), -1, -1, [(0, [7])]),
        "assignment with a gap": topic(r.name("a4"), -1, -1, [(1, [1])]),
        "assignment twice the same": topic(r.name("a5"), -1, -1, [(0, [1, 1])]),
        "assignment of none": topic(r.name("a6"), -1, -1, [(0, [])]),
    }
    for title, t in cases.items():
        r.call(title, c, "CreateTopics", last, {"Topics": [t]})
    twice = topic(r.name("twice"))
    r.call("the same twice", c, "CreateTopics", last, {"Topics": [twice, twice]})
    r.call("a dot", c, "CreateTopics", last, {"Topics": [topic(r.name("d.e"))]})
    r.call("collides with the dot", c, "CreateTopics", last, {"Topics": [topic(r.name("d_e"))]})
    r.call("internal name", c, "CreateTopics", last, {"Topics": [topic("__consumer_offsets")]})
    r.call("nothing", c, "CreateTopics", last, {"Topics": []})


def script_delete_topics(r):
    c = r.connect()
    for v in r.common("DeleteTopics"):
        name = create(r, c, topic(r.name(f"v{v}")))
        by_name = {"TopicNames": [name], "Topics": [{"Name": name, "TopicId": ZERO_UUID}],
                   "TimeoutMs": 10000}
        r.call("there", c, "DeleteTopics", v, by_name)
        r.call("gone", c, "DeleteTopics", v, by_name)
    known = create(r, c, topic(r.name("id")))
    answer = r.quiet(c, "Metadata", 12, {"Topics": [{"Name": known}]})
    topic_id = answer["Topics"][0]["TopicId"]
    other = "11111111-1111-4111-8111-111111111111"
    for title, t in {"unknown id": {"Name": None, "TopicId": other},
                     "name and id": {"Name": known, "TopicId": topic_id},
                     "neither": {"Name": None, "TopicId": ZERO_UUID},
                     "by id": {"Name": None, "TopicId": topic_id}}.items():
        r.call(title, c, "DeleteTopics", 6, {"Topics": [t], "TimeoutMs": 10000})
    r.call("bad name", c, "DeleteTopics", 5, {"TopicNames": ["a b"], "TimeoutMs": 10000})
    r.call("twice the same", c, "DeleteTopics", 5,
           {"TopicNames": [r.name("x"), r.name("x")], "TimeoutMs": 10000})


def script_create_partitions(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), 2))
    count = 2
    for v in r.common("CreatePartitions"):
        for title, n in (("fewer", 1), ("the same", count), ("zero", 0), ("negative", -1)):
            r.call(title, c, "CreatePartitions", v,
                   {"Topics": [{"Name": name, "Count": n, "Assignments": None}],
                    "TimeoutMs": 10000})
        r.call("only validated", c, "CreatePartitions", v,
               {"Topics": [{"Name": name, "Count": count + 1, "Assignments": None}],
                "TimeoutMs": 10000, "ValidateOnly": True})
        count += 1
        r.call("one more", c, "CreatePartitions", v,
               {"Topics": [{"Name": name, "Count": count, "Assignments": None}],
                "TimeoutMs": 10000})
        r.call("unknown topic", c, "CreatePartitions", v,
               {"Topics": [{"Name": r.name("no"), "Count": 3, "Assignments": None}],
                "TimeoutMs": 10000})
        r.call("wrong assignment", c, "CreatePartitions", v,
               {"Topics": [{"Name": name, "Count": count + 1,
                            "Assignments": [{"BrokerIds": [9]}]}], "TimeoutMs": 10000})


def script_metadata(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), 3))
    for v in r.common("Metadata"):
        def ask(title, topics, auto=False):
            r.call(title, c, "Metadata", v, {"Topics": topics, "AllowAutoTopicCreation": auto})
        ask("known", [{"Name": name}])
        if v >= 4:  # older ones make the topic
            ask("unknown", [{"Name": r.name("no")}])
            ask("bad name", [{"Name": "a b"}])
            ask("empty name", [{"Name": ""}])
            ask("known and unknown", [{"Name": name}, {"Name": r.name("no")}])
        if v >= 1:
            ask("none", [])
        if v >= 12:
            ask("unknown id", [{"TopicId": "11111111-1111-4111-8111-111111111111", "Name": None}])
    first = r.name("auto")
    r.call("makes it", c, "Metadata", 5, {"Topics": [{"Name": first}],
                                          "AllowAutoTopicCreation": True})
    made = r.until(c, "Metadata", 5, {"Topics": [{"Name": first}],
                                      "AllowAutoTopicCreation": True},
                   lambda a: a["Topics"][0]["ErrorCode"] == 0)
    r.add("made", r.clean(made))


def script_cluster(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), 3))
    for v in r.common("DescribeCluster"):
        r.call("cluster", c, "DescribeCluster", v, {"EndpointType": 1})
        r.call("bad endpoint type", c, "DescribeCluster", v, {"EndpointType": 7})
        r.call("with rights", c, "DescribeCluster", v,
               {"EndpointType": 1, "IncludeClusterAuthorizedOperations": True})
    for v in r.common("DescribeTopicPartitions"):
        def ask(title, names, limit=2000, cursor=None):
            r.call(title, c, "DescribeTopicPartitions", v,
                   {"Topics": [{"Name": n} for n in names], "ResponsePartitionLimit": limit,
                    "Cursor": cursor})
        ask("known", [name])
        ask("unknown", [r.name("no")])
        ask("limit", [name], 2)
        ask("cursor", [name], 2, {"TopicName": name, "PartitionIndex": 2})
    for v in r.common("FindCoordinator"):
        body = {"Key": r.name("g"), "KeyType": 0, "CoordinatorKeys": [r.name("g"), r.name("h")]}
        r.until(c, "FindCoordinator", 3, {"Key": r.name("g"), "KeyType": 0},
                lambda a: a["ErrorCode"] == 0)
        r.call("group", c, "FindCoordinator", v, body)
        r.call("bad type", c, "FindCoordinator", v, {**body, "KeyType": 9})


def entries(answer, names):
    """The settings that are looked at; a broker may have more than another."""
    return [{k: e[k] for k in ("Name", "Value", "ReadOnly", "ConfigSource", "IsSensitive")}
            for result in answer["Results"] for e in result["Configs"] if e["Name"] in names]


def script_describe_configs(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t"), configs=[("retention.ms", "100000")]))
    looked_at = {"retention.ms", "cleanup.policy", "segment.bytes", "max.message.bytes",
                 "compression.type", "message.timestamp.type", "min.insync.replicas",
                 "retention.bytes", "delete.retention.ms", "segment.ms"}
    for v in r.common("DescribeConfigs"):
        def ask(kind, resource, keys=None):
            return {"Resources": [{"ResourceType": kind, "ResourceName": resource,
                                   "ConfigurationKeys": keys}]}
        answer = r.quiet(c, "DescribeConfigs", v, ask(TOPIC, name))
        r.add(f"settings of a topic v{v}", r.clean(entries(answer, looked_at)))
        r.call("one setting", c, "DescribeConfigs", v, ask(TOPIC, name, ["retention.ms"]))
        r.call("no setting", c, "DescribeConfigs", v, ask(TOPIC, name, []))
        r.call("unknown setting", c, "DescribeConfigs", v, ask(TOPIC, name, ["no.such"]))
        r.call("unknown topic", c, "DescribeConfigs", v, ask(TOPIC, r.name("no")))
        r.call("bad topic", c, "DescribeConfigs", v, ask(TOPIC, "a b"))
        r.call("unknown kind", c, "DescribeConfigs", v, ask(77, name))
        r.call("another broker", c, "DescribeConfigs", v, ask(BROKER, "7"))
        r.call("no broker", c, "DescribeConfigs", v, ask(BROKER, "x"))


def script_alter_configs(r):
    c = r.connect()
    name = create(r, c, topic(r.name("t")))

    def change(v, title, key, operation, value, kind=TOPIC, resource=name, **more):
        r.call(title, c, "IncrementalAlterConfigs", v,
               {"Resources": [{"ResourceType": kind, "ResourceName": resource, "Configs": [
                   {"Name": key, "ConfigOperation": operation, "Value": value}]}], **more})

    def stands(title, value):
        answer = r.until(c, "DescribeConfigs", 4, {"Resources": [
            {"ResourceType": TOPIC, "ResourceName": name, "ConfigurationKeys": ["retention.ms"]}]},
            lambda a: a["Results"][0]["Configs"][0]["Value"] == value)
        r.add(title, r.clean(entries(answer, {"retention.ms"})))

    for v in r.common("IncrementalAlterConfigs"):
        change(v, "set", "retention.ms", 0, "200000")
        stands("after set", "200000")
        change(v, "only validated", "retention.ms", 0, "300000", ValidateOnly=True)
        stands("after validation", "200000")
        change(v, "delete", "retention.ms", 1, None)
        stands("after delete", WEEK_MS)
        change(v, "append to no list", "retention.ms", 2, "1")
        change(v, "subtract from no list", "retention.ms", 3, "1")
        change(v, "unknown operation", "retention.ms", 9, "1")
        change(v, "unknown setting", "no.such", 0, "1")
        change(v, "bad value", "retention.ms", 0, "x")
        change(v, "null value", "retention.ms", 0, None)
        change(v, "out of range", "segment.bytes", 0, "1")
        change(v, "unknown topic", "retention.ms", 0, "1", resource=r.name("no"))
        change(v, "unknown kind", "retention.ms", 0, "1", kind=77)
    for v in r.common("AlterConfigs"):
        def alter(title, configs, resource=name):
            r.call(title, c, "AlterConfigs", v, {"Resources": [
                {"ResourceType": TOPIC, "ResourceName": resource, "Configs": configs}]})
        alter("set", [{"Name": "retention.ms", "Value": "400000"}])
        stands("after alter", "400000")
        alter("nothing: all back", [])
        stands("after nothing", WEEK_MS)
        alter("bad value", [{"Name": "retention.ms", "Value": "x"}])
        alter("unknown topic", [], r.name("no"))


def outcome_of(r, title, send):
    """Whether the broker closes a connection on which `send` sent something wrong."""
    c = r.connect()
    c.socket.settimeout(5)
    try:
        send(c)
        r.add(title, f"answered with {len(c.read(4))} bytes")
    except Closed:
        r.add(title, "closed the connection")
    except TimeoutError:
        r.add(title, "neither answered nor closed")


def script_bad_frames(r):
    outcome_of(r, "unknown api", lambda c: c.send_frame(frame(9999, 0)))
    outcome_of(r, "negative api", lambda c: c.send_frame(frame(-1, 0)))
    outcome_of(r, "version too high", lambda c: c.send_frame(frame(3, 99)))
    outcome_of(r, "negative version", lambda c: c.send_frame(frame(3, -1)))
    outcome_of(r, "empty frame", lambda c: c.send_frame(b""))
    outcome_of(r, "half a header", lambda c: c.send_frame(b"\0\3\0"))
    outcome_of(r, "no body", lambda c: c.send_frame(frame(11, 0)))
    outcome_of(r, "array that lies", lambda c: c.send_frame(
        frame(3, 1, body=struct.pack(">i", 1 << 30))))
    outcome_of(r, "string that lies", lambda c: c.send_frame(
        frame(3, 1, body=struct.pack(">ih", 1, 30000) + b"x")))
    outcome_of(r, "negative size", lambda c: c.socket.sendall(struct.pack(">i", -5)))
    outcome_of(r, "huge size", lambda c: c.socket.sendall(struct.pack(">i", 1 << 30)))
    outcome_of(r, "another protocol", lambda c: c.socket.sendall(b"GET / HTTP/1.1\r\n\r\n"))
    c = r.connect()
    r.call("others notice nothing", c, "Metadata", 9, {"Topics": []})
