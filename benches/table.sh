#!/usr/bin/env bash
# Prints what the last `cargo bench -p cepa-benches` measured as a table for the README: the median of
# each benchmark, divided by its elements where it has several.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root="${CARGO_TARGET_DIR:-$PWD/target}/criterion"
processor=$(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)
echo "Measured on $(nproc) cores of $processor, Linux $(uname -r)."
echo
echo "| benchmark | median | of one |"
echo "| --- | ---: | ---: |"
find "$root" -path '*/new/estimates.json' | sort | while read -r estimates; do
    folder=$(dirname "$estimates")
    name=$(sed -n 's/.*"full_id":"\([^"]*\)".*/\1/p' "$folder/benchmark.json" | tr '/' ' ')
    count=$(sed -n 's/.*"Elements":\([0-9]*\).*/\1/p' "$folder/benchmark.json")
    median=$(sed -n 's/.*"median":{[^}]*},"point_estimate":\([0-9.e+-]*\).*/\1/p' "$estimates")
    awk -v name="$name" -v ns="$median" -v count="${count:-1}" 'BEGIN {
        printf "| %s | %.2f us | %.2f us |\n", name, ns / 1000, ns / 1000 / count
    }'
done
