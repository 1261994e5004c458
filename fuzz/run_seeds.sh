#!/usr/bin/env bash
# Builds every fuzz target and runs each on its seeds: a crash or a failed assertion ends it. Needs the
# stable toolchain and a C++ compiler for libFuzzer; to fuzz for longer, give a number of seconds for
# each target, or use `cargo fuzz run TARGET`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
seconds="${1:-0}"

if ! command -v c++ >/dev/null 2>&1; then
    if [ "${CI:-}" = true ] && command -v apt-get >/dev/null 2>&1; then
        apt-get install -y g++
    else
        echo "missing: c++ (libFuzzer is written in C++: for example apt-get install g++)" >&2
        exit 1
    fi
fi

host=$(rustc -vV | sed -n 's/^host: //p')
# What cargo-fuzz passes without a sanitizer: coverage that libFuzzer can follow.
export RUSTFLAGS="--cfg fuzzing -Ccodegen-units=4 -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# Its own target directory: other flags would rebuild everything that stands in the shared one.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/../target}/fuzz"
cargo build --release --target "$host" --bins

count=0
for target in fuzz_targets/*.rs; do
    name=$(basename "$target" .rs)
    binary="$CARGO_TARGET_DIR/$host/release/$name"
    log="$CARGO_TARGET_DIR/$name.log"
    if [ "$seconds" -eq 0 ]; then
        # A file given as an argument is run once.
        arguments=(seeds/"$name"/*)
    else
        mkdir -p "corpus/$name"
        arguments=(-max_total_time="$seconds" "corpus/$name" "seeds/$name")
    fi
    if ! "$binary" "${arguments[@]}" >"$log" 2>&1; then
        echo "fuzz target $name failed:" >&2
        tail -n 40 "$log" >&2
        exit 1
    fi
    count=$((count + 1))
    echo "$name: $(find "seeds/$name" -type f | wc -l) seeds"
done
echo "$count passed, 0 failed"
