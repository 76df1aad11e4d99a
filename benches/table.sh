#!/usr/bin/env bash
# The figures that compare.sh left in a directory, as a table: each server's, and Pyrrha's as a ratio to
# each peer's. Usage: benches/table.sh [out-dir]
set -euo pipefail
out="${1:-target/compare}"

read_json() { # file, expression; nothing if the file or the figure is not there
    [ -s "$1" ] && jq -r "($2) // empty" "$1" 2>/dev/null || true
}

figure() { # server, key
    local f="$out/$1"
    case "$2" in
    ingest_cpu) read_json "$f-load.json" .server_cpu_s_per_million_samples ;;
    ingest_rate) read_json "$f-load.json" .samples_per_s ;;
    memory) read_json "$f-load.json" .server_peak_rss_bytes_per_series ;;
    writes) read_json "$f-restart.json" .writes_accepted_ms ;;
    answers) read_json "$f-restart.json" .answers_complete_ms ;;
    cpu) read_json "$f-public.json" .process.server_cpu_s ;;
    own_cpu) read_json "$f-dashboards.json" .process.server_cpu_s ;;
    p99) read_json "$f-burst.json" .p99_ms ;;
    json) read_json "$f-json.json" '.bytes / 1e6 / ((.ticks - .ticks_without) / 100)' ;;
    one_ms) read_json "$f-one.json" '.seconds | sort | .[1] * 1000' ;;
    one_cpu) read_json "$f-one.json" .cpu_ms ;;
    one_memory) read_json "$f-one.json" '.bytes / 1e6' ;;
    spine) read_json "$f-queries.json" '.queries[] | select(.name == "sum_by_job_rate") | .median_ms' ;;
    esac
}

row() { # key, text, goals
    local ours theirs line
    ours=$(figure pyrrha "$1")
    line="| $2 | $(number "$ours")"
    for peer in prometheus victoria-metrics; do
        theirs=$(figure "$peer" "$1")
        line+=" | $(number "$theirs") | $(ratio "$ours" "$theirs")"
    done
    echo "$line | $3 |"
}

number() { if [ -n "$1" ]; then awk -v x="$1" 'BEGIN { printf (x >= 100 ? "%.0f" : x >= 10 ? "%.1f" : "%.3f"), x }'; else echo "–"; fi; }
ratio() { if [ -n "$1" ] && [ -n "$2" ]; then awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.3f", a / b; else printf "–" }'; else echo "–"; fi; }

# Geometric mean of latencies over the queries of these files for which Prometheus needs 3 ms or more.
mean() { # peer, files' names
    local peer=$1 reference=prometheus server
    shift
    [ -s "$out/prometheus-$1.json" ] || reference=$peer
    for server in pyrrha "$peer"; do
        for file in "$@"; do [ -s "$out/$server-$file.json" ] || { echo "–"; return; }; done
    done
    files() { for file in "${@:2}"; do cat "$out/$1-$file.json"; done; }
    jq -n -r --slurpfile ours <(files pyrrha "$@") --slurpfile theirs <(files "$peer" "$@") \
        --slurpfile ref <(files "$reference" "$@") '
        def times: map(.queries[]) | map({(.name): .median_ms}) | add;
        ($ours | times) as $o | ($theirs | times) as $t | ($ref | times) as $r
        | [$o | keys[] | select($r[.] >= 3 and $t[.] != null) | ($o[.] / $t[.] | log)]
        | "\(add / length | exp * 1000 | round / 1000) over \(length)"'
}

mean_row() { # text, files' names
    local text=$1
    shift
    echo "| $text, geometric mean of latency | | | $(mean prometheus "$@") | | $(mean victoria-metrics "$@") | 0.125, 0.33 |"
}

echo "| | Pyrrha | Prometheus | ratio | VictoriaMetrics | ratio | goals |"
echo "|---|---|---|---|---|---|---|"
row ingest_cpu "ingest, CPU s per million samples" "0.25"
row ingest_rate "ingest, samples/s (4 senders)" ""
row memory "peak resident memory, bytes per series" "0.33"
row writes "\`kill -9\`, then ms until writes are accepted" "0.20"
row answers "\`kill -9\`, then ms until everything is answered" "0.20"
mean_row "public queries" public
mean_row "dashboards and rules of our own" dashboards
mean_row "both" public dashboards
row cpu "public queries, server CPU s" "0.125, 0.25"
row own_cpu "dashboards and rules, server CPU s" "0.125, 0.25"
row p99 "fifty small queries at once, p99 ms" "0.33"
row one_ms "rate over a metric of 100,000 series × 1 h at 15 s, ms" "0.25"
row one_cpu "the same, CPU ms" ""
row one_memory "the same, memory high-water, MB" "0.10"
row spine "the same over 24,832 series, ms" ""
row json "JSON, MB/s per core" "300 MB/s"
for peer in prometheus victoria-metrics; do
    for file in public dashboards; do
        agreed=$(read_json "$out/$peer-agreement-$file.json" '"\(.equal) of \(.queries)"')
        [ -z "$agreed" ] || echo "| queries of $file.toml on which $peer agrees | $agreed | | | | | |"
    done
done

echo
echo "| query | Pyrrha ms | Prometheus ms | ratio | VictoriaMetrics ms | ratio |"
echo "|---|---|---|---|---|---|"
jq -n -r '
    def times: map(.queries[]) | map({(.name): .median_ms}) | add // {};
    def cell: if . == null then "–" else (. * 100 | round / 100 | tostring) end;
    ([inputs | {file: input_filename, queries}]) as $all
    | ($all | map(select(.file | test("/pyrrha-(public|dashboards).json$"))) | times) as $o
    | ($all | map(select(.file | test("/prometheus-(public|dashboards).json$"))) | times) as $p
    | ($all | map(select(.file | test("/victoria-metrics-(public|dashboards).json$"))) | times) as $v
    | $o | to_entries[] | .key as $k | .value as $ms
    | "| \($k) | \($ms | cell) | \($p[$k] | cell) | \(if $p[$k] then $ms / $p[$k] else null end | cell) | \($v[$k] | cell) | \(if $v[$k] then $ms / $v[$k] else null end | cell) |"
    ' "$out"/*-public.json "$out"/*-dashboards.json
