#!/usr/bin/env bash
# Thirteen months in a bucket: bytes per sample and window, downsampling, and a query over all of it, cold and
# warm, with its requests and memory. From a directory, and from an S3 server where `s3s-fs` is installed
# (`cargo install --locked s3s-fs@0.14.1 --features binary`), which serves the same files.
#
# Usage: benches/years.sh [out-dir]
#   SERIES=10000  NAMES=10 (one of which is asked)  DAYS=395  STEP_S=60
#   KEEP=1 keeps the data, REUSE=1 takes those of an earlier run with KEEP=1
# Ten thousand series take some 60 GB and an hour; bytes per sample do not depend on their number.
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-target/years}"
series="${SERIES:-10000}"
days="${DAYS:-395}"
step="${STEP_S:-60}"
names="${NAMES:-10}"
end="${END:-1790000000}"
end=$((end / 86400 * 86400))
target="${CARGO_TARGET_DIR:-target}"
mkdir -p "$out"
out=$(realpath "$out")
cargo build --release --quiet --bin pyrrha
pyrrha="$(realpath "$target")/release/pyrrha"

pids=
finish() { for p in $pids; do kill -9 "$p" 2>/dev/null || true; done; }
trap finish EXIT

printf 'type: FILESYSTEM\nconfig:\n  directory: %s\n' "$out/bucket" >"$out/directory.yml"
printf 'type: S3\nconfig:\n  bucket: bucket\n  endpoint: 127.0.0.1:19014\n  insecure: true\n  access_key: key\n  secret_key: secret\n' \
    >"$out/s3.yml"

# Peak resident memory of a process, in bytes, once it has ended; and its CPU seconds, in $out/usage.
watch_usage() { # name, command...
    local name=$1 pid peak=0 now ticks=0
    shift
    "$@" >"$out/$name.log" 2>&1 &
    pid=$!
    while now=$(awk '$1 == "VmHWM:" { print $2 * 1024 }' "/proc/$pid/status" 2>/dev/null) && [ -n "$now" ]; do
        peak=$now
        ticks=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | awk '{ print $12 + $13 }') || true
        sleep 0.2
    done
    wait "$pid" || { tail -n 5 "$out/$name.log" >&2; return 1; }
    echo "{\"peak_bytes\": $peak, \"cpu_seconds\": $((${ticks:-0} / 100))}"
}

if [ -z "${REUSE:-}" ] || [ ! -d "$out/bucket" ]; then
    rm -rf "$out/bucket"
    echo "== blocks of $days days, $series series each $step s"
    cargo run --release --quiet -p pyrrha-benches --bin years -- "$out/bucket" --series "$series" --days "$days" \
        --step-s "$step" --names "$names" --end "$end" | tee "$out/written.json"
    "$pyrrha" bucket rebuild-manifest --objstore.config-file "$out/directory.yml" --tenant anonymous | tail -n 1
    echo "== downsampling"
    watch_usage downsample "$pyrrha" bucket downsample --once --objstore.config-file "$out/directory.yml" \
        --scratch-dir "$out/scratch" | tee "$out/downsample.json"
fi
samples=$(jq .samples "$out/written.json")
echo "== bytes by resolution"
"$pyrrha" bucket ls -o json --objstore.config-file "$out/directory.yml" >"$out/ls.json"
"$pyrrha" bucket du --objstore.config-file "$out/directory.yml"

# A metric of the server, summed over its labels.
metric() { curl -fsS "$url/metrics" | awk -v name="$1" 'index($1, name) == 1 { sum += $2 } END { print sum + 0 }'; }

ask() { # file for the answer
    curl -fsS "$url/api/v1/query_range" --data-urlencode 'query=sum by (job)(rate(x[1h]))' -d stats=all \
        -d "start=$((end - days * 86400 + 3600))" -d "end=$end" -d step=1h -o "$1" -w '%{time_total}'
}

measure() { # name, objstore file
    local before peak cold warm
    rm -rf "$out/data"
    "$pyrrha" server --storage.path="$out/data" --objstore.config-file="$2" --web.listen-address=127.0.0.1:19015 \
        --self-scrape=false --compactor.enabled=false >"$out/server-$1.log" 2>&1 &
    local pid=$!
    pids="$pids $pid"
    url=http://127.0.0.1:19015
    until curl -fsS -o /dev/null "$url/-/ready?for=query" 2>/dev/null; do sleep 0.05; done
    echo 5 >"/proc/$pid/clear_refs"
    before=$(awk '$1 == "VmRSS:" { print $2 * 1024 }' "/proc/$pid/status")
    cold=$(ask "$out/cold-$1.json")
    peak=$(awk '$1 == "VmHWM:" { print $2 * 1024 }' "/proc/$pid/status")
    warm=
    for _ in 1 2 3; do warm="$warm $(ask "$out/warm-$1.json")"; done
    [ "$(jq '.data.result | length' "$out/cold-$1.json")" = 20 ] || { echo "not all jobs are answered" >&2; return 1; }
    cmp <(jq -S .data.result "$out/cold-$1.json") <(jq -S .data.result "$out/warm-$1.json")
    echo "$1: cold $cold s, warm$warm s, memory $(((peak - before) / 1000000)) MB"
    jq -c '.data.stats | del(.samples.totalQueryableSamplesPerStep)' "$out/cold-$1.json"
    kill -9 "$pid"
    wait "$pid" 2>/dev/null || true
}

echo "== the query, a year and a month at steps of one hour; $samples samples are there"
measure directory "$out/directory.yml"
if command -v s3s-fs >/dev/null; then
    s3s-fs --host 127.0.0.1 --port 19014 --access-key key --secret-key secret "$out" >"$out/s3.log" 2>&1 &
    pids="$pids $!"
    sleep 1
    measure s3 "$out/s3.yml"
else
    echo "s3s-fs is not installed: the S3 server is left out"
fi
[ -n "${KEEP:-}" ] || rm -rf "$out/bucket" "$out/scratch" "$out/data"
