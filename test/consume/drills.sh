#!/usr/bin/env bash
# tally consume under every drill: exactly once, by the rows of its database. And a consumer with
# auto commit under one of them, which must fail: the drill is able to.
#   drills.sh [CASE...]       ends with "N passed, N failed"
set -uo pipefail
cd "$(dirname "$0")/../.."
evidence='sql:sqlite:{dir}/out.db:SELECT topic, partition, record_offset FROM results'
passed=0 failed=0
check() { # WHAT STATUS WANTED OUTPUT
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $1: exit status $2, not $3"
        echo "$4"
    fi
}

# retention-overtook takes records away: only a user can say that this is all right.
out=$(build/tally drill "$@" --expect exactly-once --timeout 90 --evidence "$evidence" -- \
    build/tally consume '{topic}' --group '{group}' --bootstrap '{bootstrap}' \
    --into 'sqlite:{dir}/out.db' --table results --create --if-expired continue \
    -X 'client.id={instance}' -X heartbeat.interval.ms=300 2>&1)
check "tally consume" $? 0 "$out"
grep -E '^(PASS|FAIL|INCONCLUSIVE)' <<<"$out"

out=$(build/tally drill auto-commit-repeat --expect exactly-once -- \
    build/examples/c/auto_commit auto.commit.interval.ms=1000 heartbeat.interval.ms=300 2>&1)
check "auto_commit" $? 1 "$out"
echo "drills: $passed passed, $failed failed"
[ "$failed" = 0 ]
