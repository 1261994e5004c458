#!/usr/bin/env bash
# Makes the Debian package: packaging/deb.sh [--no-build]. Needs cargo-deb (cargo install --locked cargo-deb).
# With --no-build the binary is taken that stands in target/release.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target="${CARGO_TARGET_DIR:-$PWD/target}"
cepa="$target/release/cepa"
if [ "${1:-}" != --no-build ]; then
    cargo build --release --locked -p cepa-node
fi

# What the package has beside what stands in the repository.
made="$target/packaging"
rm -rf "$made"
mkdir -p "$made/man" "$made/completions"
sed -f packaging/debian/cepa.toml.sed config/cepa.toml >"$made/cepa.toml"
sed -e 's|/usr/local/bin/cepa|/usr/bin/cepa|g' config/cepa.service >"$made/cepa.service"
gzip -9n <packaging/debian/changelog >"$made/changelog.Debian.gz"
if "$cepa" man --help >/dev/null 2>&1; then
    "$cepa" man --dir "$made/man"
    find "$made/man" -type f -name '*.1' -exec gzip -9n {} +
fi
if "$cepa" completions --help >/dev/null 2>&1; then
    "$cepa" completions bash >"$made/completions/cepa"
    "$cepa" completions zsh >"$made/completions/_cepa"
    "$cepa" completions fish >"$made/completions/cepa.fish"
fi

# An asset that is not there is an error: what no subcommand made is left out.
variant=()
if [ -n "$(find "$made/man" -type f)" ] && [ -n "$(find "$made/completions" -type f)" ]; then
    variant=(--variant full)
fi
cargo deb --no-build --strip --locked -p cepa-node --output "$target/debian/" "${variant[@]}"
