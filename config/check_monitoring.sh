#!/usr/bin/env bash
# Shows that what lies here works in the real tools: promtool reads alerts, their tests and the config; a real
# Prometheus scrapes the nodes of a devnet, and answers every expression of the dashboard and of the alerts.
#
#   config/check_monitoring.sh [CEPA]      the binary; by default a debug build of it
#
# Takes about a minute; everything is on loopback and in a temporary directory, and ends with it. With CI=true what
# is missing is installed from Debian; elsewhere it is said what is not checked.
set -euo pipefail
exec </dev/null
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(dirname "$here")"
node_count=4

missing=""
for tool in promtool prometheus curl jq; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
if [ -n "$missing" ] && [ "${CI:-}" = true ]; then
    # The package would start a server of its own. Images for containers have such a policy already: it stays.
    policy=""
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    fi
    is_installed=1
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends prometheus curl jq >/dev/null || is_installed=0
    [ -z "$policy" ] || rm -f "$policy"
    [ "$is_installed" = 1 ] || { echo "failed: apt-get installs no$missing" >&2 && exit 1; }
elif [ -n "$missing" ]; then
    echo "not installed:$missing (Debian: apt-get install prometheus curl jq); monitoring is not checked here"
    exit 0
fi

work="$(mktemp -d)"
running=()
finish() {
    for id in "${running[@]}"; do kill "$id" 2>/dev/null || true; done
    for id in "${running[@]}"; do wait "$id" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
fail() {
    echo "failed: $*" >&2
    exit 1
}
# Runs a command until it succeeds, for so many seconds.
within() {
    local seconds="$1"
    shift
    for _ in $(seq "$seconds"); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 1
    done
    return 1
}

echo "== promtool"
promtool check config "$here/prometheus/prometheus.yml"
promtool check rules "$here/prometheus/alerts.yml"
promtool test rules "$here/prometheus/alerts_test.yml"

echo "== a devnet of $node_count nodes"
cepa="${1:-}"
if [ -z "$cepa" ]; then
    (cd "$root" && cargo build --quiet -p cepa-node)
    cepa="${CARGO_TARGET_DIR:-$root/target}/debug/cepa"
fi
cepa="$(realpath "$cepa")"
(cd "$work" && exec "$cepa" devnet --nodes "$node_count" --swarms 1 >"$work/devnet.out" 2>&1) &
running+=($!)
told() { grep -q '^  .*cepa.* send ' "$work/devnet.out"; }
within 120 told || { cat "$work/devnet.out"; fail "the devnet does not hold"; }
mapfile -t targets < <(sed -n 's/^admin_listen = "\(.*\)"$/\1/p' "$work"/devnet/*/cepa.toml)
[ "${#targets[@]}" -eq "$node_count" ] || fail "${#targets[@]} of $node_count nodes have an admin socket"
for target in "${targets[@]}"; do
    curl -fsS "http://$target/metrics" >"$work/scrape"
    promtool check metrics <"$work/scrape" || fail "promtool does not like what $target tells"
done
echo "$(grep -c '^# TYPE' "$work/scrape") metrics, $(grep -vc '^#' "$work/scrape") lines a node"

echo "== prometheus"
is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port=$((20000 + RANDOM % 10000))
while is_taken "$port"; do port=$((port + 1)); done
{
    printf 'global:\n  scrape_interval: 2s\n  evaluation_interval: 2s\n'
    printf 'rule_files: ["%s"]\n' "$here/prometheus/alerts.yml"
    printf 'scrape_configs:\n  - job_name: cepa\n    static_configs:\n      - targets: [%s]\n' \
        "$(printf '"%s",' "${targets[@]}")"
} >"$work/prometheus.yml"
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" \
    --web.listen-address="127.0.0.1:$port" >"$work/prometheus.out" 2>&1 &
running+=($!)
api="http://127.0.0.1:$port/api/v1"
query() { curl -fsS "$api/query" --data-urlencode "query=$1" 2>/dev/null || echo '{"status":"error"}'; }
all_up() { [ "$(query 'count(count_over_time(up{job="cepa"}[1m]) > 8 and up == 1)' |
    jq -r '.data.result[0].value[1] // 0')" = "$node_count" ]; }
within 60 all_up || { tail -5 "$work/prometheus.out"; fail "prometheus does not reach all nodes"; }

# The devnet has a network file and no oxend, whose numbers are not told then.
oxend='cepa_(oxend_|view_age|uptime_proof|decommission_|node_active|peer_test_|peers_failing|peers_passing)'
expressions=0 empty=0
check() {
    local name="$1" expression="$2" answer
    expression="${expression//\$instance/.*}"
    expression="${expression//\$__rate_interval/30s}"
    answer="$(query "$expression")"
    expressions=$((expressions + 1))
    [ "$(jq -r .status <<<"$answer")" = success ] || fail "$name: $expression: $answer"
    [ "$(jq '.data.result | length' <<<"$answer")" -gt 0 ] && return
    [[ "$expression" =~ $oxend ]] || fail "$name gives nothing: $expression"
    empty=$((empty + 1))
}
while IFS=$'\t' read -r name expression; do
    check "$name" "$expression"
done < <(jq -r '.panels[] | select(.targets) | .title as $t | .targets[] | [$t, .expr] | @tsv' \
    "$here/grafana/cepa.json" | sed 's/\\\\/\\/g')
echo "$expressions expressions of the dashboard are answered, $empty of them empty without oxend"
rules="$(curl -fsS "$api/rules")"
[ "$(jq '[.data.groups[].rules[] | select(.health != "ok")] | length' <<<"$rules")" = 0 ] ||
    fail "rules that do not hold: $(jq -c '[.data.groups[].rules[] | select(.health != "ok")]' <<<"$rules")"
echo "$(jq '[.data.groups[].rules[]] | length' <<<"$rules") rules are evaluated," \
    "firing: $(jq -c '[.data.groups[].rules[] | select(.state == "firing") | .name]' <<<"$rules")"

echo "== the dashboard as Grafana's own types read it"
python="$(command -v python3 || true)"
if [ -n "$python" ] && ! "$python" -c 'import grafana_foundation_sdk' 2>/dev/null && [ "${CI:-}" = true ]; then
    if "$python" -m venv "$work/venv" 2>/dev/null &&
        "$work/venv/bin/pip" install -q --retries 0 --timeout 10 'grafana-foundation-sdk' 2>/dev/null; then
        python="$work/venv/bin/python"
    fi
fi
if [ -n "$python" ] && "$python" -c 'import grafana_foundation_sdk' 2>/dev/null; then
    "$python" - "$here/grafana/cepa.json" <<'PYTHON'
import json, sys
from grafana_foundation_sdk.models.dashboard import Dashboard
with open(sys.argv[1]) as file:
    dashboard = Dashboard.from_json(json.load(file))
print(f"{dashboard.title}: {len(dashboard.panels)} panels and rows")
PYTHON
else
    echo "grafana-foundation-sdk is not installed (pip); not checked here"
fi
echo "monitoring holds"
