"""Data for .ci/e2e/thanos, and answers of two servers side by side.

write REPLICA START END: OpenMetrics text. Both replicas see the same values, b three seconds later and without gaps.
compare THANOS PYRRHA replicas|merged START END: fails if an answer differs where both promise the same.
"""

import json
import math
import random
import sys
import urllib.parse
import urllib.request

STEP = 120


def write(replica, start, end):
    delay = 3 if replica == "b" else 0
    print("# TYPE requests counter")
    for n, (job, resets) in enumerate([("api", 0.0), ("api", 0.0005), ("db", 0.01)]):
        draw, value = random.Random(n), 0
        for t in range(start, end, STEP):
            value = draw.randrange(50) + (0 if draw.random() < resets else value)
            if draw.random() < 0.01 and replica == "a":
                continue
            print(f'requests_total{{job="{job}",instance="{n}"}} {value}.0 {t + delay}')
    print("# TYPE temperature gauge")
    for n, scale in enumerate([10, 1e-3, 1e9]):
        draw = random.Random(100 + n)
        for t in range(start, end, STEP):
            value = scale * math.sin(t / 14000) + draw.gauss(0, scale / 10)
            if t // 7200 % 17 == 5 and replica == "a":
                continue
            print(f'temperature{{instance="{n}"}} {value!r} {t + delay}')
    print("# EOF")


def ask(url, **params):
    with urllib.request.urlopen(url + "/api/v1/query_range?" + urllib.parse.urlencode(params), timeout=60) as answer:
        data = json.load(answer)["data"]["result"]
    return {(json.dumps(s["metric"], sort_keys=True), t): float(v) for s in data for t, v in s["values"]}


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= 1e-9 * max(abs(a), abs(b))


def compare(thanos, pyrrha, what, start, end):
    dedup = "false" if what == "replicas" else "true"
    questions = []
    # Thanos' counters hide resets from resets(), and from what rate() makes of a first value near zero.
    for f in "increase delta deriv avg sum min max count last stddev quantile changes".split():
        for metric in ("requests_total", "temperature"):
            call = {
                "avg": "avg_over_time", "sum": "sum_over_time", "min": "min_over_time", "max": "max_over_time",
                "count": "count_over_time", "last": "last_over_time", "stddev": "stddev_over_time",
            }.get(f, f)
            if f == "increase":
                query = 'increase(requests_total{instance="0"}[1h])'
            elif f == "quantile":
                query = f"quantile_over_time(0.9, {metric}[1h])"
            else:
                query = f"{call}({metric}[1h])"
            questions.append((query, "0s", 1800))
    questions += [(q, "0s", 1800) for q in ("requests_total", "sum by (job) (requests_total)", "temperature offset 1d")]
    # What windows say of themselves is the same, whoever made them.
    for resolution, step, window in (("5m", 10800, "6h"), ("1h", 43200, "2d")):
        for f in ("min", "max", "sum"):
            for metric in ("requests_total", "temperature"):
                questions.append((f"{f}_over_time({metric}[{window}])", resolution, step))
    failed = 0
    for query, resolution, step in questions:
        # Windows end with their last millisecond.
        begin = start + 3 * 86400 - (0 if resolution == "0s" else 0.001)
        params = dict(query=query, start=begin, end=end - 86400, step=step, max_source_resolution=resolution)
        a, b = ask(thanos, dedup=dedup, **params), ask(pyrrha, **params)
        differ = [k for k in a.keys() | b.keys() if k not in a or k not in b or not same(a[k], b[k])]
        if differ or not a:
            failed += 1
            print(f"differs: {query} at {resolution}: {len(differ)} of {len(a)}, as {[(k, a.get(k), b.get(k)) for k in differ[:2]]}")
    print(f"{len(questions) - failed} of {len(questions)} questions have the same answer")
    sys.exit(1 if failed else 0)


if sys.argv[1] == "write":
    write(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
else:
    compare(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))
