#!/usr/bin/env bash
# Apache Kafka's own command line tools against tally (TALLY_BOOTSTRAP, TALLY_DATA).
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
passed=0 failed=0
tools=org.apache.kafka.tools
run() { "$root/test/interop/kafka" run "$@" 2>&1; }
admin() { run "$1" --bootstrap-server "$TALLY_BOOTSTRAP" "${@:2}"; }

as_sent() { # of $codec, $idempotent
    run $tools.ProducerPerformance --topic "as-sent-$codec" --num-records 2000 \
        --record-size 500 --throughput -1 --producer-props "bootstrap.servers=$TALLY_BOOTSTRAP" \
        compression.type="$codec" enable.idempotence="$idempotent" acks=all
}
dumped() {
    local out
    out=$(run $tools.DumpLogSegments --deep-iteration --files \
        "$(find "$TALLY_DATA/as-sent-$codec-0" -name '*.log' | sort | paste -sd,)")
    if grep -q "isvalid: false\|Found\|Exception" <<<"$out" ||
        grep "^baseOffset" <<<"$out" | grep -vq "compresscodec: $codec "; then
        echo "$out" | head -20
        return 1
    fi
    echo "$(grep -c "^| offset" <<<"$out") records, batches" \
        "$(grep -q "producerId: [0-9]" <<<"$out" && echo by) and" \
        "$(grep -q "producerId: -1" <<<"$out" && echo without)"
}

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
# Every record of what producers sent, as it stands: each codec, idempotent and not.
for codec in none gzip snappy lz4 zstd; do
    expect "kafka-topics --create, $codec" "Created" topics --create --topic "as-sent-$codec" \
        --config segment.bytes=1048576
    for idempotent in true false; do
        expect "kafka-console-producer, $codec, idempotent $idempotent" "" as_sent
    done
    expect "kafka-dump-log --deep-iteration, $codec" "^4000 records, batches by and without$" dumped
done
# What compaction leaves of batches in every codec, by idempotent producers.
keyed() { # CODEC LINES: of fifty keys
    awk -v name="$1" -v n="$2" 'BEGIN { for (i = 0; i < n; i++) { line = name i % 50 ":"
        for (k = 0; k < 40; k++) line = line int(rand() * 1e9) int(rand() * 1e9)
        print line } }'
}
produce_keyed() { # CODEC LINES
    keyed "$1" "$2" | admin $tools.ConsoleProducer --topic keys --compression-codec "$1" \
        --reader-property parse.key=true --reader-property key.separator=:
}
keys=$TALLY_DATA/keys-0
is_compacted() { # until all but the active segment is
    local active
    for _ in $(seq 300); do
        active=$(cd "$keys" && ls ./*.log | tail -1 | sed 's/^..0*\([0-9].*\).log/\1/')
        if [ "$active" -gt 0 ] && grep -q "^cleaned $active$" "$keys/compaction" 2>/dev/null; then
            return 0
        fi
        sleep 0.1
    done
    return 1
}
sealed() { (cd "$keys" && ls -d "$PWD"/*."$1" | head -n "${2:--0}"); }
deep() { # of all segments; what is wrong is said, but for offsets that compaction took
    run $tools.DumpLogSegments --deep-iteration --files "$(sealed log | paste -sd,)" |
        grep -v "isvalid: true\|^| offset\|^Log starting\|^Dumping\|^Non-consec\|is followed by" ||
        echo all valid
}
codecs() {
    run $tools.DumpLogSegments --files "$(sealed log -1 | paste -sd,)" |
        grep -o "compresscodec: [a-z0-9]*" | sort -u | paste -sd' '
}
expect "kafka-topics --create, compacted" "Created topic keys" topics --create --topic keys \
    --config cleanup.policy=compact --config segment.bytes=1048576 \
    --config min.cleanable.dirty.ratio=0.01
for codec in gzip snappy lz4 zstd none; do
    expect "kafka-console-producer of keys, $codec" "" produce_keyed $codec 1500
done
expect "it is compacted" "" is_compacted
expect "kafka-dump-log --deep-iteration of compacted segments" "^all valid$" deep
expect "compacted segments keep their codecs" "gzip.*lz4.*none.*snappy.*zstd" codecs
expect "kafka-dump-log of their indexes" "" run $tools.DumpLogSegments --index-sanity-check \
    --files "$(sealed index | paste -sd,),$(sealed timeindex | paste -sd,)"
expect "kafka-dump-log --verify-index-only" "" run $tools.DumpLogSegments --verify-index-only \
    --files "$(sealed index | paste -sd,),$(sealed timeindex | paste -sd,)"
offsets=$(find "$TALLY_DATA" -name '*.log' -path '*__consumer_offsets*' -size +0 | head -1)
expect "kafka-dump-log --offsets-decoder" "perf" \
    run $tools.DumpLogSegments --offsets-decoder --files "${offsets:-none}"
expect "kafka-topics --delete" "" topics --delete --topic orders
echo "kafka-tools: $passed passed, $failed failed"
[ "$failed" = 0 ]
