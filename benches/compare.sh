#!/usr/bin/env bash
# Whole-process figures of Pyrrha beside Prometheus and VictoriaMetrics (each where it is installed), one
# server after another on the same data on the same machine, and a table of them at the end. About ten
# minutes on two cores that do nothing else.
#
#   1. load, restart after kill -9, the queries of tools/yardstick and of dashboards.toml, fifty small queries at
#      once, JSON
#   2. agreement: the same queries to Pyrrha and the peer
#   3. a metric of 100,000 series: time and memory of a rate over all of them
#
# Usage: benches/compare.sh [out-dir]
#   TARGETS=194 (516 series each)  ONE_METRIC=782 (128 series each; 0 leaves part 3 out)
#   DURATION=2h  RUNS=3  SERVERS="pyrrha prometheus victoria-metrics"
#   FROM=<unix seconds> (a full two hours, four to six hours ago)  KEEP=1 keeps the data
#   REUSE=1 loads nothing where the data of an earlier run with KEEP=1 and the same FROM are there
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-target/compare}"
targets="${TARGETS:-194}"
one_metric="${ONE_METRIC:-782}"
duration="${DURATION:-2h}"
runs="${RUNS:-3}"
servers="${SERVERS:-pyrrha prometheus victoria-metrics}"
from="${FROM:-$((($(date +%s) / 7200 - 2) * 7200))}"
end=$((from + 7200))
target="${CARGO_TARGET_DIR:-target}"
mkdir -p "$out"
out=$(realpath "$out")

cargo build --release --quiet --bin pyrrha
cargo build --release --quiet --package pyrrha-benches --bin burst
mkdir -p "$target"
target=$(realpath "$target")
cargo build --release --quiet --manifest-path tools/yardstick/Cargo.toml --target-dir "$target/yardstick"
yardstick="$target/yardstick/release/yardstick"
burst="$target/release/burst"

# The same load generator with one family of series; see its README on estate.txt.
one="$target/yardstick-one-metric"
if [ "$one_metric" != 0 ] && [ ! -x "$one/yardstick" ]; then
    mkdir -p "$one/src"
    cp tools/yardstick/Cargo.* "$one/"
    cp tools/yardstick/src/* "$one/src/"
    grep -E '^#|latency http_request_duration_seconds' tools/yardstick/src/estate.txt >"$one/src/estate.txt"
    cargo build --release --quiet --manifest-path "$one/Cargo.toml" --target-dir "$one/target"
    cp "$one/target/release/yardstick" "$one/yardstick"
fi

pids=" "
finish() {
    local status=$?
    for p in $pids; do kill -9 "$p" 2>/dev/null || true; done
    if [ "$status" != 0 ]; then
        echo "== stopped with status $status; what there is so far:"
        benches/table.sh "$out" || true
    fi
}
trap finish EXIT

start() { # server, data directory; sets pid, url, write, ready, param
    param=
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
        url=http://127.0.0.1:19128 write=/api/v1/write ready=/health param="--param nocache=1"
        ;;
    esac
    pid=$!
    pids="$pids$pid "
}

stop() { # pid
    kill -9 "$1"
    wait "$1" 2>/dev/null || true
    # Its number may be another process' by the time that this script ends.
    pids="${pids/ $1 / }"
}

# A part that fails does not keep the others from being measured.
left_out() { echo "$server: $1 failed and is left out" >&2; }

# Milliseconds from now until the path answers 200; fails if the server ends, or after ten minutes.
until_ok() {
    local began now
    began=$(date +%s%N)
    until curl -fsS -o /dev/null "$url$1" 2>/dev/null; do
        now=$(date +%s%N)
        if ! kill -0 "$pid" 2>/dev/null || [ $(((now - began) / 1000000000)) -gt 600 ]; then
            echo "no answer from $url$1" >&2
            return 1
        fi
        sleep 0.01
    done
    now=$(date +%s%N)
    echo $(((now - began) / 1000000))
}

# CPU time of the server so far, in ticks of 10 ms.
ticks() { sed 's/.*) //' "/proc/$pid/stat" | awk '{ print $12 + $13 }'; }

# A line of /proc/PID/status in bytes.
memory() { awk -v key="$1:" '$1 == key { print $2 * 1024 }' "/proc/$pid/status"; }

range() { # expression, seconds before the end, step in seconds; the answer goes to curl's other arguments
    local expr=$1 span=$2 step=$3
    shift 3
    curl -fsS "$url/api/v1/query_range" --data-urlencode "query=$expr" -d "start=$((end - span))" \
        -d "end=$end" -d "step=$step" -d nocache=1 "$@"
}

# Encoding alone: CPU time of an answer of 1,000 series and points, less that of their count.
json_rate() {
    local selector='node_cpu_seconds_total{mode="idle", cpu=~"[0-5]"}' bytes=0 before middle after
    range "$selector" 7000 7 -o /dev/null
    before=$(ticks)
    for _ in 1 2 3 4 5 6 7 8; do
        bytes=$((bytes + $(range "$selector" 7000 7 -o /dev/null -w '%{size_download}')))
    done
    middle=$(ticks)
    for _ in 1 2 3 4 5 6 7 8; do range "count($selector)" 7000 7 -o /dev/null; done
    after=$(ticks)
    echo "{\"bytes\": $bytes, \"ticks\": $((middle - before)), \"ticks_without\": $((after - middle))}"
}

# Memory of a rate over all series of the metric, and its time.
rate_over_all() {
    local expr='sum by (job) (rate(http_request_duration_seconds_bucket[5m]))' before peak cpu
    echo 5 >"/proc/$pid/clear_refs"
    before=$(memory VmRSS)
    range "$expr" 3600 15 -o /dev/null
    peak=$(memory VmHWM)
    cpu=$(ticks)
    local times=()
    for _ in 1 2 3; do times+=("$(range "$expr" 3600 15 -o /dev/null -w '%{time_total}')"); done
    cpu=$((($(ticks) - cpu) * 10 / 3))
    echo "{\"bytes\": $((peak - before)), \"cpu_ms\": $cpu, \"seconds\": [$(IFS=,; echo "${times[*]}")]}"
}

for server in $servers; do
    command -v "$server" >/dev/null || [ "$server" = pyrrha ] || { echo "$server is not installed: left out"; continue; }
    echo "== $server: $targets targets, $duration"
    data="$out/data-$server"
    if [ -z "${REUSE:-}" ] || [ ! -d "$data" ]; then
        rm -rf "$data" "$out/$server.log" "$out/$server"-*.json
        start "$server" "$data"
        until_ok "$ready" >/dev/null
        "$yardstick" load --url "$url$write" --targets "$targets" --interval-s 15 --from "$from" \
            --duration "$duration" --concurrency 4 --server-pid "$pid" --data-dir "$data" >"$out/$server-load.json"
        stop "$pid"
    fi
    start "$server" "$data"
    ready_ms=$(until_ok "${ready%%\?*}")
    full_ms=$(until_ok "$ready")
    echo "{\"writes_accepted_ms\": $ready_ms, \"answers_complete_ms\": $((ready_ms + full_ms))}" >"$out/$server-restart.json"
    # shellcheck disable=SC2086 # a flag and its value
    for file in benches/queries.toml benches/dashboards.toml tools/yardstick/queries/public.toml; do
        "$yardstick" query --url "$url" --queries "$file" --start "$from" --end "$end" --runs "$runs" $param \
            --server-pid "$pid" --json "$out/$server-$(basename "$file" .toml).json" >/dev/null ||
            left_out "$file"
    done
    "$burst" --url "$url" --end "$end" --rounds 20 >"$out/$server-burst.json" || left_out "small queries at once"
    json_rate >"$out/$server-json.json" || left_out "JSON"
    if [ "$server" != pyrrha ] && [ -d "$out/data-pyrrha" ]; then
        peer=$url peer_pid=$pid
        start pyrrha "$out/data-pyrrha"
        until_ok "$ready" >/dev/null
        for file in benches/dashboards.toml tools/yardstick/queries/public.toml; do
            agreement="$out/$server-agreement-$(basename "$file" .toml)"
            "$yardstick" compare --ref "$peer" --test "$url" --queries "$file" --start "$from" --end "$end" \
                --runs 1 --json "$agreement.json" >"$agreement.txt" || true
        done
        stop "$pid"
        pid=$peer_pid
    fi
    stop "$pid"

    if [ "$one_metric" != 0 ]; then
        echo "== $server: one metric, $one_metric targets, 70m"
        single="$out/data-$server-one-metric"
        rm -rf "$single"
        start "$server" "$single"
        until_ok "$ready" >/dev/null
        "$one/yardstick" load --url "$url$write" --targets "$one_metric" --interval-s 15 --from "$((end - 4200))" \
            --duration 70m --concurrency 4 --server-pid "$pid" --data-dir "$single" >"$out/$server-one-load.json"
        stop "$pid"
        start "$server" "$single"
        until_ok "$ready" >/dev/null
        rate_over_all >"$out/$server-one.json" || left_out "a rate over one metric"
        stop "$pid"
        rm -rf "$single"
    fi
    [ -n "${KEEP:-}" ] || [ "$server" = pyrrha ] || rm -rf "$data"
done
[ -n "${KEEP:-}" ] || rm -rf "$out/data-pyrrha"
benches/table.sh "$out" | tee "$out/table.md"
