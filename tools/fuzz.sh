#!/usr/bin/env bash
# Builds every test/fuzz/fuzz_NAME.c with libFuzzer, ASan and UBSan into build/fuzz and runs each
# for its share of the time, from the seeds in test/fuzz/corpus/NAME. What it finds new stays in
# build/fuzz/corpus/NAME. Fails on the first crash and says how to repeat it.
#   tools/fuzz.sh [SECONDS]   default 60
set -eu -o pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
command -v clang >/dev/null || { echo "fuzz: needs clang (Debian: clang)" >&2; exit 2; }

targets=(test/fuzz/fuzz_*.c)
names=()
for source in "${targets[@]}"; do
    name=$(basename "$source" .c)
    names+=("build/fuzz/${name#fuzz_}")
done
make --no-print-directory CC=clang SAN=fuzz "${names[@]}"

share=$((seconds / ${#targets[@]}))
[ "$share" -ge 1 ] || share=1
for binary in "${names[@]}"; do
    name=$(basename "$binary")
    mkdir -p "build/fuzz/corpus/$name" "test/fuzz/corpus/$name" "build/fuzz/crashes"
    log=build/fuzz/$name.log
    if ! "$binary" -max_total_time="$share" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
        -artifact_prefix="build/fuzz/crashes/$name-" -print_final_stats=1 \
        "build/fuzz/corpus/$name" "test/fuzz/corpus/$name" >"$log" 2>&1; then
        tail -40 "$log"
        echo "fuzz: $name failed; repeat with: $binary $(ls -t build/fuzz/crashes/"$name"-* | head -1)"
        exit 1
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "  FUZZ $name: ${runs:-?} runs in $share s"
done
