"""Differences that are meant: (script, step, path of the field, why). Patterns are searched for."""

_REMOTE = r"\[(remote\.|local\.|follower\.|leader\.)"

DIFFERENCES = [
    ("create_topics|describe_configs", "", _REMOTE,
     "one node without tiers has no settings of replicas and tiers"),
    ("create_topics|describe_configs", "", r"\[min.insync.replicas\].ConfigSource",
     "a new Apache Kafka sets it as a default of the cluster; here it is the built-in default"),
    ("create_topics", "only validated", "TopicId", "no id is made up for a topic that is not made"),
    ("metadata", "makes it", "ErrorCode|Partitions",
     "the topic is there at once, so the answer that makes it can already name it"),
    ("cluster", "unknown: DescribeTopicPartitions", "TopicAuthorizedOperations",
     "of a topic that there is not, nothing is allowed"),
    ("alter_configs", "unknown operation", "ErrorCode",
     "Apache Kafka fails inside (UNKNOWN_SERVER_ERROR); the request is what is wrong"),
    ("bad_batches|idempotence", "", "LogStartOffset",
     "a batch that is refused before the log is looked at names no log start"),
    ("bad_batches", "unknown codec", "ErrorCode", "Apache Kafka fails inside"),
    ("bad_batches", "gzip that is none", "ErrorCode|BaseOffset",
     "compressed batches are stored as they came and not opened"),
    ("bad_batches", "too far in the future", "RecordErrors", "the first record that is wrong"),
    ("fetch", "unknown isolation", "", "Apache Kafka fails inside; here any but 1 is uncommitted"),
    ("fetch", "as a follower", "", "one node: who says it is a replica is a reader like others"),
    ("list_offsets", "twice", "Partitions", "each entry of the request gets one of the answer"),
    ("static_members", "still stable", "ClientId",
     "the client that is there now, not the one that it replaced"),
]
