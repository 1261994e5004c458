#!/usr/bin/env bash
# Whether systemd understands the unit, alone and with the drop-in for AF_XDP, and calls it hardened: an exposure
# under 2.0, as `systemd-analyze security` counts it. Works where systemd is installed and does not run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v systemd-analyze >/dev/null 2>&1; then
    echo "systemd-analyze is not here: the unit is not checked" >&2
    exit 77
fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
# The unit names a program and a user that need not be on this machine.
for name in plain xdp; do
    mkdir "$work/$name"
    sed -e 's|^ExecStart=.*|ExecStart=/bin/true|' -e '/^User=/d' config/cepa.service >"$work/$name/cepa.service"
done
mkdir "$work/xdp/cepa.service.d"
cp config/cepa.service.d/af_xdp.conf "$work/xdp/cepa.service.d/"

for name in plain xdp; do
    told="$(SYSTEMD_UNIT_PATH="$work/$name:" systemd-analyze verify --man=no "$work/$name/cepa.service" 2>&1)"
    if grep -F cepa.service <<<"$told"; then
        echo "systemd does not understand the unit" >&2
        exit 1
    fi
done
# By itself: beside the drop-in it would be taken with it.
mkdir "$work/alone"
cp config/cepa.service "$work/alone/"
systemd-analyze security --offline=true --threshold=20 --no-pager "$work/alone/cepa.service"
