#!/usr/bin/env bash
# The same requests to both brokers again, where limits are low (scripts_limits.py).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
settings=()
for s in group.max.size=2 group.min.session.timeout.ms=1000 group.max.session.timeout.ms=5000 \
    offset.metadata.max.bytes=10 message.max.bytes=1000 auto.create.topics.enable=false \
    num.partitions=2 offsets.retention.check.interval.ms=500; do
    settings+=(--set "$s" --kafka-set "$s")
done
exec "$here/../with" --kafka --set group.initial.rebalance.delay.ms=0 "${settings[@]}" \
    "$here/run.py" --limits '{kafka}' '{tally}'
