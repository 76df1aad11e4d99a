#!/usr/bin/env bash
# Whole-process figures of Pyrrha beside Prometheus (and VictoriaMetrics where it is installed), one
# server after another on the same data on the same machine: ingest, restart after kill -9, queries.
#
# Usage: benches/compare.sh [out-dir]
#   TARGETS=194 (516 series each)  DURATION=2h  SERVERS="pyrrha prometheus victoria-metrics"  RUNS=5
#   FROM=<unix seconds> (a full two hours, four to six hours ago)  KEEP=1 keeps the data
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-target/compare}"
targets="${TARGETS:-194}"
duration="${DURATION:-2h}"
runs="${RUNS:-5}"
servers="${SERVERS:-pyrrha prometheus victoria-metrics}"
from="${FROM:-$((($(date +%s) / 7200 - 2) * 7200))}"
target="${CARGO_TARGET_DIR:-target}"
mkdir -p "$out"

cargo build --release --quiet --bin pyrrha
cargo build --release --quiet --manifest-path tools/yardstick/Cargo.toml --target-dir "$target/yardstick"
yardstick="$target/yardstick/release/yardstick"

pid=
finish() { [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true; }
trap finish EXIT

start() { # server, data directory; sets pid, url, write, ready
    case "$1" in
    pyrrha)
        "$target/release/pyrrha" server --storage.path="$2" --web.listen-address=127.0.0.1:19109 \
            --self-scrape=false >>"$out/$1.log" 2>&1 &
        url=http://127.0.0.1:19109 write=/api/v1/write ready="/-/ready?for=query"
        ;;
    prometheus)
        printf 'global: {}\n' >"$out/empty.yml"
        prometheus --config.file="$out/empty.yml" --storage.tsdb.path="$2" --log.level=error \
            --web.listen-address=127.0.0.1:19190 --web.enable-remote-write-receiver >>"$out/$1.log" 2>&1 &
        url=http://127.0.0.1:19190 write=/api/v1/write ready=/-/ready
        ;;
    victoria-metrics)
        victoria-metrics -storageDataPath="$2" -httpListenAddr=127.0.0.1:19128 -retentionPeriod=10y \
            -search.disableCache >>"$out/$1.log" 2>&1 &
        url=http://127.0.0.1:19128 write=/api/v1/write ready=/health
        ;;
    esac
    pid=$!
}

# Milliseconds from now until the path answers 200.
until_ok() {
    local began now
    began=$(date +%s%N)
    until curl -fsS -o /dev/null "$url$1" 2>/dev/null; do sleep 0.01; done
    now=$(date +%s%N)
    echo $(((now - began) / 1000000))
}

end=$((from + 7200))
for server in $servers; do
    command -v "$server" >/dev/null || [ "$server" = pyrrha ] || { echo "$server is not installed: left out"; continue; }
    data="$out/data-$server"
    rm -rf "$data" "$out/$server.log"
    echo "== $server"
    start "$server" "$data"
    until_ok "$ready" >/dev/null
    "$yardstick" load --url "$url$write" --targets "$targets" --interval-s 15 --from "$from" \
        --duration "$duration" --concurrency 4 --server-pid "$pid" --data-dir "$data" >"$out/$server-load.json"
    jq -c '{samples, samples_per_s, server_cpu_s_per_million_samples, server_peak_rss_bytes_per_series, latency_ms,
        other_cpu_s: .process.other_cpu_s, errors}' "$out/$server-load.json"
    kill -9 "$pid"
    wait "$pid" 2>/dev/null || true
    start "$server" "$data"
    ready_ms=$(until_ok /-/ready)
    full_ms=$(until_ok "$ready")
    echo "{\"writes_accepted_ms\": $ready_ms, \"answers_complete_ms\": $((ready_ms + full_ms))}" |
        tee "$out/$server-restart.json"
    "$yardstick" query --url "$url" --queries benches/queries.toml --start "$from" --end "$end" --runs "$runs" \
        --server-pid "$pid" --json "$out/$server-spine.json" >/dev/null
    "$yardstick" query --url "$url" --queries tools/yardstick/queries/public.toml --start "$from" --end "$end" \
        --runs "$runs" --server-pid "$pid" --json "$out/$server-public.json" >/dev/null
    "$yardstick" stat --server-pid "$pid" --data-dir "$data" >"$out/$server-stat.json"
    kill -9 "$pid"
    wait "$pid" 2>/dev/null || true
    pid=
    [ -n "${KEEP:-}" ] || rm -rf "$data"
done
