#!/usr/bin/env bash
# Builds every fuzz target of fuzz/Cargo.toml into $OUT, each with its seeds and its dictionary. Run by
# ClusterFuzzLite in the image of the Dockerfile, with SRC, OUT and SANITIZER set; FUZZ_TARGETS, a list of
# names, builds only those.
set -euo pipefail
: "${SRC:?the directory above the project}" "${OUT:?where the targets go}"
cd "$SRC/cepa"
host=$(rustc -vV | sed -n 's/^host: //p')
# The toolchain of the image, a nightly, and not the one that the project pins.
export RUSTUP_TOOLCHAIN="${RUSTUP_TOOLCHAIN:-nightly}"

case "${SANITIZER:-address}" in
    address) sanitizer=address ;;
    # For coverage reports the image sets RUSTFLAGS itself.
    coverage | none) sanitizer=none ;;
    *) echo "no fuzz target is built with the sanitizer $SANITIZER" >&2 && exit 1 ;;
esac

# `cargo fuzz list` names no canary: that is a package of its own, since it must crash.
read -r -a targets <<<"${FUZZ_TARGETS:-$(cargo fuzz list | tr '\n' ' ')}"
# A list that fails is an empty one, and nothing would be built without a word.
[ "${#targets[@]}" -ne 0 ] || { echo "cargo fuzz lists no targets" >&2 && exit 1; }
for name in "${targets[@]}"; do
    cargo fuzz build --release --debug-assertions --sanitizer "$sanitizer" "$name"
    cp "fuzz/target/$host/release/$name" "$OUT/$name"
    (cd "fuzz/seeds/$name" && zip -q -r "$OUT/${name}_seed_corpus.zip" .)
    dictionary=$(sed -n "s/^$name = \"\(.*\)\"$/\1/p" fuzz/dictionaries/targets.toml)
    cp "fuzz/dictionaries/$dictionary.dict" "$OUT/$name.dict"
done
echo "${#targets[@]} fuzz targets built"
