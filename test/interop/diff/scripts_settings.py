"""Settings: every kind of resource, where a value comes from, what may be changed."""
from scripts_admin import BROKER, TOPIC, create, entries, topic

GROUP, LOGGER, METRICS = 32, 8, 16


def described(r, c, v, title, kind, resource, names, **more):
    answer = r.quiet(c, "DescribeConfigs", v, {"Resources": [
        {"ResourceType": kind, "ResourceName": resource, "ConfigurationKeys": None}], **more})
    for result in answer["Results"]:
        result["Configs"] = [e for e in result["Configs"] or [] if e["Name"] in names]
    r.add(f"{title}: DescribeConfigs v{v}", r.clean(answer))


def script_sources(r):
    c = r.connect()
    names = {"retention.ms", "max.message.bytes", "message.timestamp.type", "flush.messages",
             "compression.type", "segment.bytes", "preallocate"}
    name = create(r, c, topic(r.name("t"), configs=[("max.message.bytes", "100000")]))
    for v in r.common("DescribeConfigs"):
        described(r, c, v, "topic", TOPIC, name, names)
        described(r, c, v, "topic with synonyms", TOPIC, name, names, IncludeSynonyms=True)
    broker = {"log.retention.ms", "log.retention.hours", "num.partitions", "message.max.bytes",
              "offsets.retention.minutes", "group.max.session.timeout.ms", "log.segment.bytes",
              "auto.create.topics.enable", "log.cleanup.policy", "log.retention.bytes",
              "group.min.session.timeout.ms", "group.max.size", "offset.metadata.max.bytes",
              "log.message.timestamp.type", "log.retention.check.interval.ms"}
    for v in (1, 4):
        described(r, c, v, "broker", BROKER, "1", broker)
        described(r, c, v, "broker with synonyms", BROKER, "1", broker, IncludeSynonyms=True)
        described(r, c, v, "defaults of all", BROKER, "", broker, IncludeSynonyms=True)
    r.call("nothing", c, "DescribeConfigs", 4, {"Resources": []})
    r.call("the same twice", c, "DescribeConfigs", 4, {"Resources": [
        {"ResourceType": TOPIC, "ResourceName": name, "ConfigurationKeys": ["retention.ms"]}] * 2})
    r.call("named twice", c, "DescribeConfigs", 4, {"Resources": [
        {"ResourceType": TOPIC, "ResourceName": name,
         "ConfigurationKeys": ["retention.ms", "retention.ms", "no.such"]}]})


def change(r, c, title, *resources, v=1, only=False):
    r.call(title, c, "IncrementalAlterConfigs", v, {"ValidateOnly": only, "Resources": [
        {"ResourceType": kind, "ResourceName": name, "Configs": [
            {"Name": n, "ConfigOperation": operation, "Value": value}
            for n, operation, value in changes]} for kind, name, *changes in resources]})


def script_change_topics(r):
    c = r.connect()
    name, other = create(r, c, topic(r.name("t")), topic(r.name("u"))), r.name("u")
    names = {"retention.ms", "cleanup.policy", "max.message.bytes"}

    def stands(title):
        r.add(title, r.clean(entries(r.quiet(c, "DescribeConfigs", 4, {"Resources": [
            {"ResourceType": TOPIC, "ResourceName": name, "ConfigurationKeys": None}]}), names)))
    for title, *changes in (
            ("append to a list", ("cleanup.policy", 2, "compact")),
            ("append what is there", ("cleanup.policy", 2, "compact")),
            ("subtract from it", ("cleanup.policy", 3, "delete")),
            ("subtract what is not there", ("cleanup.policy", 3, "delete")),
            ("subtract the last", ("cleanup.policy", 3, "compact")),
            ("append rubbish", ("cleanup.policy", 2, "shred")),
            ("two of one name", ("retention.ms", 0, "1000"), ("retention.ms", 0, "2000")),
            ("one good, one bad", ("retention.ms", 0, "5000"), ("segment.bytes", 0, "x")),
            ("delete what is not set", ("segment.bytes", 1, None)),
            ("delete with a value", ("retention.ms", 1, "5")),
            ("empty name", ("", 0, "5")), ("delete unknown", ("no.such", 1, None)),
            ("blanks", ("retention.ms", 0, " 7000 ")), ("empty value", ("retention.ms", 0, "")),
            ("nothing",)):
        change(r, c, title, (TOPIC, name, *changes))
        stands(f"after {title}")
    change(r, c, "the same resource twice", (TOPIC, name, ("retention.ms", 0, "1000")),
           (TOPIC, name, ("retention.ms", 0, "2000")))
    change(r, c, "a good and a bad one", (TOPIC, other, ("retention.ms", 0, "3000")),
           (TOPIC, r.name("no"), ("retention.ms", 0, "2000")))
    change(r, c, "bad name", (TOPIC, "a b", ("retention.ms", 0, "3000")),
           (TOPIC, "", ("retention.ms", 0, "3000")))


def script_change_brokers(r):
    c = r.connect()
    names = {"log.retention.ms", "message.max.bytes", "num.partitions", "log.segment.bytes"}

    def stands(title):
        for resource in ("1", ""):
            described(r, c, 4, f"{title} {resource!r}", BROKER, resource, names,
                      IncludeSynonyms=True)
    # What shows that it has been applied, a moment after the answer.
    applied = {"this one": ("1", ["900000"]), "all": ("", ["800000"]),
               "this one back": ("1", ["800000"]), "all back": ("", [])}
    for title, resource, *changes in (
            ("this one", "1", ("log.retention.ms", 0, "900000")),
            ("all", "", ("log.retention.ms", 0, "800000")),
            ("this one back", "1", ("log.retention.ms", 1, None)),
            ("all back", "", ("log.retention.ms", 1, None)),
            ("read only", "1", ("node.id", 0, "2")),
            ("read only for all", "", ("offsets.topic.num.partitions", 0, "2")),
            ("unknown", "1", ("no.such", 0, "2")), ("bad", "1", ("message.max.bytes", 0, "x")),
            ("out of range", "1", ("log.segment.bytes", 0, "1")),
            ("another broker", "7", ("message.max.bytes", 0, "1000000")),
            ("no broker", "x", ("message.max.bytes", 0, "1000000"))):
        change(r, c, title, (BROKER, resource, *changes))
        if title in applied:
            asked, value = applied[title]
            r.until(c, "DescribeConfigs", 4, {"Resources": [
                {"ResourceType": BROKER, "ResourceName": asked,
                 "ConfigurationKeys": ["log.retention.ms"]}]},
                lambda a: [e["Value"] for e in a["Results"][0]["Configs"]] == value)
            stands(f"after {title}")
    for kind, resource in ((GROUP, r.name("g")), (METRICS, "m"), (0, "x"), (1, "x"), (3, "x")):
        change(r, c, f"kind {kind}", (kind, resource, ("no.such", 0, "1")))
