#!/usr/bin/env bash
# logs.py with brokers that look after their logs all the time.
set -euo pipefail
cd "$(dirname "$0")"
exec ./with --kafka --set log.cleaner.backoff.ms=100 --set log.retention.check.interval.ms=300 \
    --kafka-set log.cleaner.backoff.ms=100 --kafka-set log.retention.check.interval.ms=300 \
    --kafka-set log.initial.task.delay.ms=100 --kafka-set log.segment.delete.delay.ms=0 \
    ./logs.py "$@"
