#!/usr/bin/env bash
# The main job on real records, in two minutes: Debian's package catalogue is produced into a
# durable broker and read by a consumer that is killed; meanwhile consumers written as their
# clients' documentation says are drilled. Everything it starts and makes is gone at the end.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
tally=$root/build/tally
c=$root/build/examples/c
python="/usr/bin/python3 $root/examples/python"
work=$(mktemp -d "${TMPDIR:-/tmp}/tally-demo.XXXXXX")
started=()
begin=$SECONDS

clean_up() {
    local status=$?
    trap - EXIT
    # What was started is asked, and then made, to go: by its own process id.
    [ ${#started[@]} -eq 0 ] || kill "${started[@]}" 2>/dev/null || true
    for _ in $(seq 50); do
        [ -n "$(jobs -rp)" ] || break
        sleep 0.1
    done
    [ ${#started[@]} -eq 0 ] || kill -KILL "${started[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { printf '\n--- %s  [%d s]\n' "$*" $((SECONDS - begin)); }
die() {
    echo "demo: $*" >&2
    exit 1
}
# Long lists are cut to three lines here; `tally drill` itself shows twenty.
shorten() {
    awk '/^    / { if (++n == 4) print "    ..."; if (n > 3) next } !/^    / { n = 0 } { print }'
}

# drill STATUS LABEL ARGUMENT... : runs one drill and checks that it ends as it must.
drill() {
    local wanted=$1 label=$2 status=0 progress
    shift 2
    step "$label"
    progress=$(mktemp "$work/progress.XXXXXX")
    "$tally" drill --records "$work/packages" "$@" >"$progress.out" 2>"$progress" || status=$?
    shorten <"$progress.out"
    if [ "$status" != "$wanted" ]; then
        cat "$progress" >&2
        echo "demo: \"$label\" ended with status $status, not $wanted" >&2
        return 1
    fi
}

# --- Real records, a durable broker.
command -v apt-cache >/dev/null || die "needs apt-cache: the records are Debian's package catalogue"
step "Debian's package catalogue, a paragraph a package"
apt-cache dumpavail >"$work/packages"
n=$(grep -c '^Package: ' "$work/packages" || true)
[ "$n" -gt 0 ] || die "apt-cache knows no package: run apt-get update first"
echo "$n records, $(du -m "$work/packages" | cut -f1) MB, for example:"
head -4 "$work/packages" | cut -c1-100 | sed 's/^/    /'

step "tally serve: a broker on a fresh directory"
"$tally" serve --listen 127.0.0.1:0 --data "$work/data" \
    >"$work/ready" 2>"$work/serve.log" &
started+=($!)
for _ in $(seq 100); do
    grep -q '^ready' "$work/ready" && break
    sleep 0.05
done
broker=$(awk '/^ready/ { print $2 }' "$work/ready")
[ -n "$broker" ] || {
    cat "$work/serve.log" >&2
    die "the broker did not become ready"
}
echo "ready at $broker"
"$tally" topic create packages --partitions 4 --bootstrap "$broker"

step "tally produce: all records, each acknowledged"
"$tally" produce packages "$work/packages" --format rfc822 --bootstrap "$broker" 2>&1 | tail -2

# --- A consumer in the background: auto commit, killed in the middle of its work, started again.
# Its session ends after 6 s, so that the demo need not wait for the default of 45 s.
consume() {
    TALLY_BOOTSTRAP=$broker TALLY_TOPIC=packages TALLY_GROUP=catalogue TALLY_INSTANCE=$1 \
        TALLY_WORK_MS=1 exec "$c/auto_commit" session.timeout.ms=6000
}
(consume first >"$work/first.out" 2>"$work/first.err") &
first=$!
started+=("$first")
disown "$first" # the shell need not report its death
# By then it has made two automatic commits, five seconds apart.
(
    sleep 12
    kill -KILL "$first" 2>/dev/null
) &
started+=($!)
(
    sleep 13
    consume second >"$work/second.out" 2>"$work/second.err"
) &
started+=($!)

# --- The drills: the C consumers here, the Python ones beside them, shown afterwards.
sql='sql:sqlite:{dir}/results.db:SELECT topic, partition, record_offset FROM results'
python_lane() {
    drill 1 "Python, auto commit: what is in hand when the timer commits is lost" \
        auto-commit-miss -- $python/auto_commit.py &&
        drill 1 "Python, commit first, work after" \
            commit-first-miss -- $python/commit_first.py &&
        drill 1 "Python, work first, commit after, judged as exactly-once" \
            --expect exactly-once manual-commit-repeat -- $python/manual_commit.py &&
        drill 0 "Python, offset and result in one SQLite transaction, judged as exactly-once" \
            --expect exactly-once --evidence "$sql" manual-commit-repeat \
            -- $python/exactly_once.py '{dir}/results.db'
}
python_lane >"$work/python.out" 2>&1 &
lane=$!
started+=("$lane")

drill 1 "C, auto commit, judged as exactly-once: records are lost, and others done twice" \
    --expect exactly-once auto-commit-miss auto-commit-repeat -- "$c/auto_commit"
drill 1 "C, commit first, work after" commit-first-miss -- "$c/commit_first"
drill 0 "C, the good consumer: work first, commit after. A repeat is the price of at-least-once" \
    auto-commit-miss manual-commit-repeat -- "$c/manual_commit"
drill 0 "C, offset and result in one SQLite transaction, judged as exactly-once" \
    --expect exactly-once --evidence "$sql" auto-commit-repeat manual-commit-repeat \
    -- "$c/exactly_once" '{dir}/results.db'
wait "$lane" || {
    cat "$work/python.out"
    die "the Python drills did not end as they must"
}
cat "$work/python.out"

# --- What the durable broker saw of the consumer in the background.
step "tally report: the group whose copy was killed, seen from the broker alone"
"$tally" report catalogue --bootstrap "$broker" | head -40
echo
echo "The broker sees what it sent twice. The consumer's own output, which tally did not look at,"
echo "says what was worked on twice so far:" \
    "$(cat "$work"/first.out "$work"/second.out | cut -d' ' -f1 | sort | uniq -d | wc -l) records."

echo
echo "demo: everything came out as it must, in $((SECONDS - begin)) s"
