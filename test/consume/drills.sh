#!/usr/bin/env bash
# tally consume under every drill: exactly once, by the rows of its database. And a consumer with
# auto commit under one of them, which must fail: the drill is able to.
#   drills.sh [CASE...]       ends with "N passed, N failed"
# A drill mostly waits (for timers, for a group to come to rest): some run side by side.
set -uo pipefail
cd "$(dirname "$0")/../.."
sides=4
evidence='sql:sqlite:{dir}/out.db:SELECT topic, partition, record_offset FROM results'
dir=$(mktemp -d "${TMPDIR:-/tmp}/tally-drills.XXXXXX")
trap 'rm -rf "$dir"' EXIT
[ $# -gt 0 ] || mapfile -t cases < <(build/tally drill list | awk '/^[a-z]/ { print $1 }')
[ $# -eq 0 ] || cases=("$@")

drill_consume() { # CASE...
    # retention-overtook takes records away: only a user can say that this is all right.
    build/tally drill "$@" --expect exactly-once --timeout 90 --evidence "$evidence" -- \
        build/tally consume '{topic}' --group '{group}' --bootstrap '{bootstrap}' \
        --into 'sqlite:{dir}/out.db' --table results --create --if-expired continue \
        -X 'client.id={instance}' -X heartbeat.interval.ms=300
}

drill_auto_commit() {
    build/tally drill auto-commit-repeat --expect exactly-once -- \
        build/examples/c/auto_commit auto.commit.interval.ms=1000 heartbeat.interval.ms=300
}

names=() pids=() wanted=()
begin() { # NAME STATUS COMMAND...
    local name=$1
    wanted+=("$2")
    shift 2
    "$@" >"$dir/$name" 2>&1 &
    names+=("$name") pids+=($!)
}

for ((side = 0; side < sides && side < ${#cases[@]}; side++)); do
    mine=()
    for ((i = side; i < ${#cases[@]}; i += sides)); do mine+=("${cases[i]}"); done
    begin "consume-$side" 0 drill_consume "${mine[@]}"
done
begin auto_commit 1 drill_auto_commit

passed=0 failed=0
for i in "${!pids[@]}"; do
    wait "${pids[i]}"
    status=$?
    if [ "$status" = "${wanted[i]}" ]; then
        passed=$((passed + 1))
        [ "${names[i]}" = auto_commit ] || grep -E '^PASS' "$dir/${names[i]}"
    else
        failed=$((failed + 1))
        echo "FAILED: ${names[i]}: exit status $status, not ${wanted[i]}"
        cat "$dir/${names[i]}"
    fi
done
shown=$(cat "$dir"/consume-* | grep -c '^PASS')
if [ "$shown" != "${#cases[@]}" ]; then
    failed=$((failed + 1))
    echo "FAILED: $shown of ${#cases[@]} cases were shown"
fi
echo "drills: $passed passed, $failed failed"
[ "$failed" = 0 ]
