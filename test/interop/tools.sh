#!/usr/bin/env bash
# Apache Kafka's own command line tools against tally (TALLY_BOOTSTRAP, TALLY_DATA).
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
passed=0 failed=0
tools=org.apache.kafka.tools
run() { "$root/test/interop/kafka" run "$@" 2>&1; }
admin() { run "$1" --bootstrap-server "$TALLY_BOOTSTRAP" "${@:2}"; }

# expect NAME PATTERN COMMAND...: the command ends well and its output matches.
expect() {
    local name=$1 pattern=$2 out status
    shift 2
    out=$("$@")
    status=$?
    if [ "$status" = 0 ] && grep -Eq -- "$pattern" <<<"$out"; then
        passed=$((passed + 1))
        echo "ok   $name"
    else
        failed=$((failed + 1))
        printf 'FAIL %s: status %s, no match for %s in:\n%s\n' "$name" "$status" "$pattern" \
            "$(head -20 <<<"$out")"
    fi
}

topics() { admin $tools.TopicCommand "$@"; }
groups() { admin $tools.consumer.group.ConsumerGroupCommand "$@"; }
configs() { admin kafka.admin.ConfigCommand "$@"; }

expect "kafka-topics --create" "Created topic orders" \
    topics --create --topic orders --partitions 3 --config retention.ms=100000
expect "kafka-topics --describe" "PartitionCount: 3.*retention.ms=100000" \
    topics --describe --topic orders
expect "kafka-topics --list" "^orders$" topics --list
expect "kafka-topics --alter" "" topics --alter --topic orders --partitions 4
expect "kafka-configs --alter" "Completed updating" \
    configs --alter --topic orders --add-config retention.ms=200000
expect "kafka-configs --describe" "retention.ms=200000" configs --describe --topic orders
expect "kafka-producer-perf-test" "1000 records sent" \
    run $tools.ProducerPerformance --topic orders --num-records 1000 --record-size 100 \
    --throughput -1 --producer-props "bootstrap.servers=$TALLY_BOOTSTRAP"
expect "kafka-consumer-perf-test" "1000" \
    admin $tools.ConsumerPerformance --topic orders --num-records 1000 --group perf
expect "kafka-get-offsets" "orders:3:[0-9]" admin $tools.GetOffsetShell --topic orders
expect "kafka-consumer-groups --list" "^perf$" groups --list
expect "kafka-consumer-groups --describe" "perf +orders +0 +[0-9]+ +[0-9]+ +0" \
    groups --describe --group perf
expect "kafka-consumer-groups --reset-offsets" "perf +orders +0 +0" \
    groups --reset-offsets --group perf --topic orders --to-earliest --execute
expect "kafka-consumer-groups --delete-offsets" "orders" \
    groups --delete-offsets --group perf --topic orders:0
expect "kafka-consumer-groups --delete" "successful" groups --delete --group perf
segment=$(find "$TALLY_DATA" -name '00000000000000000000.log' -path '*/orders-*' -size +0 | head -1)
expect "kafka-dump-log of a topic" "baseOffset: 0 .*isvalid: true" \
    run $tools.DumpLogSegments --files "${segment:-none}"
offsets=$(find "$TALLY_DATA" -name '*.log' -path '*__consumer_offsets*' -size +0 | head -1)
expect "kafka-dump-log --offsets-decoder" "perf" \
    run $tools.DumpLogSegments --offsets-decoder --files "${offsets:-none}"
expect "kafka-topics --delete" "" topics --delete --topic orders
echo "kafka-tools: $passed passed, $failed failed"
[ "$failed" = 0 ]
