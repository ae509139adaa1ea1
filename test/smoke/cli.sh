#!/usr/bin/env bash
# topic, produce, group and report against a running broker (TALLY_BOOTSTRAP; KAFKA_BOOTSTRAP when
# there is one: topic, produce and group must work there just as well).
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
tally=$root/build/tally
passed=0 failed=0

# expect NAME STATUS PATTERN COMMAND...
expect() {
    local name=$1 wanted=$2 pattern=$3 out status
    shift 3
    out=$("$@" 2>&1 </dev/null)
    status=$?
    if [ "$status" = "$wanted" ] && grep -Eq -- "$pattern" <<<"$out"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAIL %s: status %s instead of %s, or no match for %s in:\n%s\n' "$name" "$status" \
            "$wanted" "$pattern" "$out"
    fi
}

consume() { # GROUP TOPIC: everything there is
    TALLY_GROUP=$1 TALLY_TOPIC=$2 TALLY_WORK_MS=0 timeout 8 "$root/build/examples/c/manual_commit"
    [ $? = 124 ]
}

common() { # BOOTSTRAP
    local at=$1 dir
    dir=$(mktemp -d)
    printf '{"id":%d}\n' 1 2 3 4 5 6 >"$dir/six.json"
    printf '{"id":1}\nbad\n' >"$dir/bad.json"
    expect "topic create" 0 "created cli with 2 partitions" \
        "$tally" topic create cli -p 2 --set retention.ms=500000 -b "$at"
    expect "topic create again" 2 "already exists \\(TOPIC_ALREADY_EXISTS\\)" \
        "$tally" topic create cli -b "$at"
    expect "topic list" 0 "^cli" "$tally" topic list -b "$at"
    expect "topic describe" 0 "retention.ms=500000" "$tally" topic describe cli -b "$at"
    expect "topic alter" 0 "cli has 3 partitions" "$tally" topic alter cli -p 3 -b "$at"
    expect "topic alter, nonsense" 2 "INVALID_CONFIG" \
        "$tally" topic alter cli --set nonsense=1 -b "$at"
    expect "produce" 0 "^6 records acknowledged" \
        "$tally" produce cli "$dir/six.json" --key id -b "$at"
    expect "produce, a bad record" 2 "bad.json:2: .*1 records acknowledged" \
        "$tally" produce cli "$dir/bad.json" --format json --key id -b "$at"
    expect "produce, no topic" 2 "tally topic create" \
        "$tally" produce nowhere "$dir/six.json" -b "$at"
    expect "consume" 0 "cli/" env TALLY_BOOTSTRAP="$at" bash -c "$(declare -f consume)
        root=$root; consume readers cli"
    expect "group list" 0 "^readers.*Empty" "$tally" group list -b "$at"
    expect "group describe" 0 "cli +[0-9] +[0-9]+ +[0-9]+ +0" \
        "$tally" group describe readers -b "$at"
    expect "group reset, shown" 0 "nothing was changed" \
        "$tally" group reset readers --topic cli --to earliest -b "$at"
    expect "group reset" 0 "-> 0" \
        "$tally" group reset readers --topic cli --to earliest --execute -b "$at"
    expect "topic delete" 0 "deleted cli" "$tally" topic delete cli -b "$at"
    expect "topic delete again" 2 "no topic .cli.; tally topic list" \
        "$tally" topic delete cli -b "$at"
    expect "topic alter, gone" 2 "no topic .cli." \
        "$tally" topic alter cli --set retention.ms=5 -b "$at"
    rm -rf "$dir"
}

common "$TALLY_BOOTSTRAP"
expect "report" 0 "readers +classic, Empty" "$tally" report -b "$TALLY_BOOTSTRAP"
expect "report --json" 0 '"group": "readers"' \
    "$tally" report readers --json -b "$TALLY_BOOTSTRAP"
expect "report --verify" 0 "all states add up" "$tally" report --verify -b "$TALLY_BOOTSTRAP"
expect "report --fail-on" 0 "" "$tally" report --fail-on missed -b "$TALLY_BOOTSTRAP"
expect "report of nobody" 2 "no group" "$tally" report nobody -b "$TALLY_BOOTSTRAP"
expect "group set" 0 "exactly-once" \
    "$tally" group set readers --expect exactly-once -b "$TALLY_BOOTSTRAP"
expect "group set, nonsense" 2 "readers" \
    "$tally" group set readers --expect twice -b "$TALLY_BOOTSTRAP"
expect "nobody listens" 2 "start a broker" "$tally" topic list -b 127.0.0.1:1
expect "no address" 2 "HOST:PORT" "$tally" topic list -b x:y
expect "topic create, no name" 2 "which topic" "$tally" topic create -b 127.0.0.1:1
expect "no verb" 2 "no verb" "$tally" frobnicate
if [ -n "${KAFKA_BOOTSTRAP:-}" ]; then
    common "$KAFKA_BOOTSTRAP"
    expect "report of Apache Kafka" 2 "is not a tally" "$tally" report -b "$KAFKA_BOOTSTRAP"
fi
echo "cli: $passed passed, $failed failed"
[ "$failed" = 0 ]
