"""bench/report.md and the plots, from what was measured."""
import math
import pathlib
import statistics

ROOT = pathlib.Path(__file__).resolve().parents[1]
HERE = ROOT / "bench"
COLOURS = {"tally": "#0b6e4f", "kafka": "#c8553d", "limit": "#555555"}

# what, result, ours, theirs, the mark as text, how much less (cost) or more (rate) ours must be.
# "cost": theirs / ours >= mark. "rate": ours / theirs >= mark. "at most": ours <= mark.
MARKS = [
    ("produce acks=1, 1 KB records, 1 MB batches, CPU", "produce_large", "tally", "kafka", "cost",
     3.5),
    ("... against the raw limit (cold), CPU", "produce_large", "tally", "limit", "cost", 0.8),
    ("... against the raw limit (cold), throughput", "produce_large_wall", "tally", "limit",
     "rate", 0.8),
    ("produce acks=1, 16 KB batches, 1 partition, CPU", "produce_small_1", "tally", "kafka",
     "cost", 3),
    ("produce acks=1, 16 KB batches, 16 partitions, CPU", "produce_small_16", "tally", "kafka",
     "cost", 3),
    ("produce acks=1, 100 B records, CPU", "produce_tiny", "tally", "kafka", "cost", 5),
    ("produce acks=all durable, 1 partition, CPU", "produce_durable_1", "tally", "kafka", "cost",
     8),
    ("produce acks=all durable, 1 partition, throughput", "produce_durable_1_wall", "tally",
     "kafka", "rate", 4),
    ("produce acks=all durable, 16 partitions, CPU", "produce_durable_16", "tally", "kafka",
     "cost", 8),
    ("produce acks=all durable, 16 partitions, throughput", "produce_durable_16_wall", "tally",
     "kafka", "rate", None),
    ("produce by Kafka's ProducerPerformance, CPU", "kafka_tools_produce", "tally", "kafka",
     "cost", 3),
    ("consume by Kafka's ConsumerPerformance, CPU", "kafka_tools_consume", "tally", "kafka",
     "cost", 1.3),
    ("consume from the page cache, CPU", "consume", "tally", "kafka", "cost", 1.3),
    ("... against a bare sendfile loop, CPU", "consume", "tally", "limit", "cost", 0.9),
    ("... against a bare sendfile loop, throughput", "consume_wall", "tally", "limit", "rate",
     0.9),
    ("accounting: throughput with it, against without", "accounting_wall", "on", "off", "rate",
     0.98),
    ("accounting: CPU with it, against without", "accounting", "on", "off", "cost", None),
    ("accounting, a fetched partition", "ledger_ns", "tally", None, "at most", 300),
    ("latency p99, 10 k records/s, acks=1", "latency_1_p99", "tally", "kafka", "cost", 2),
    ("latency p99, 10 k records/s, acks=all durable", "latency_all_p99", "tally", "kafka", "cost",
     2),
    ("exec to first answer, existing directory", "start", "tally", None, "at most", 5),
    ("... with many partitions after a clean stop", "start_large", "tally", None, "at most", 200),
    ("recovery after SIGKILL", "recovery", "tally", "kafka", "cost", None),
    ("idle: resident", "idle_rss", "tally", None, "at most", 6),
    ("idle: of a core", "idle_cpu", "tally", None, "at most", 0.05),
    ("memory of a connection", "memory_connection", "tally", None, "at most", 4),
    ("memory of a partition", "memory_partition", "tally", None, "at most", 8),
    ("making many partitions", "create_partitions", "tally", "kafka", "cost", None),
    ("group: all join from cold, one leaves, CPU", "group_join", "tally", "kafka", "cost", None),
    ("group: growth from the second size to the third", "group_linear", "tally", None, "at most",
     1.5),
    ("rebalance: what the broker adds to a handover", "rebalance", "tally", None, "at most", 5),
    ("OffsetCommit, durable, CPU", "commit", "tally", "kafka", "cost", 10),
    ("... against recv, write, sync, send and nothing else", "commit", "tally", "limit", "cost",
     None),
]


def number(x):
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def shown(values):
    if not values:
        return ""
    middle = number(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values))}-{number(max(values))})"


def judge(row, result):
    """(ratio as text, met: True, False or None)."""
    _, _, ours, theirs, how, mark = row
    mine = statistics.median(result["values"][ours])
    if how == "at most":
        return "", mine <= mark
    other = statistics.median(result["values"][theirs])
    over, under = (other, mine) if how == "cost" else (mine, other)
    ratio = over / under if under else math.inf
    return f"{ratio:.3g}", None if mark is None else ratio >= mark


def mark_text(row):
    how, mark = row[4], row[5]
    if mark is None:
        return "shown"
    return f"<= {mark:g}" if how == "at most" else f">= {mark:g} times"


def table(results):
    lines = ["| what | unit | tally | compared | ratio | mark | met |",
             "|---|---|---|---|---|---|---|"]
    for row in MARKS:
        what, name, ours, theirs = row[:4]
        if name not in results:
            continue
        r = results[name]
        values = r["values"]
        other = theirs or ("kafka" if "kafka" in values else None)
        compared = f"{other}: {shown(values[other])}" if other else ""
        ratio, met = judge(row, r)
        more = ", ".join(f"{r[k]:,} {k}" for k in ("members", "partitions", "connections",
                                                   "allocations") if k in r)
        unit = r["unit"] + (f" ({more})" if more else "")
        verdict = {True: "yes", False: "**no**", None: ""}[met]
        lines.append(f"| {what} | {unit} | {shown(values[ours])} | {compared} | {ratio} | "
                     f"{mark_text(row)} | {verdict} |")
    return lines


# ---- Plots

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 560, 300, 64, 44, 30, 90


def ticks(low, high):
    return [10.0 ** e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def plot(name, g):
    points = [p for line in g["points"].values() for p in line]
    xs = [p[0] for p in points]
    ys = [max(p[1], 1e-6) for p in points]
    xt, yt = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))

    def at(value, marks, start, length):
        span = math.log10(marks[-1] / marks[0]) or 1
        return start + length * math.log10(max(value, 1e-6) / marks[0]) / span

    def px(x):
        return at(x, xt, LEFT, WIDTH - LEFT - RIGHT)

    def py(y):
        return at(y, yt, HEIGHT - BOTTOM, -(HEIGHT - BOTTOM - TOP))

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
           f'font-family="sans-serif" font-size="11">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
           f'<text x="{LEFT}" y="18" font-size="13">{name} ({g["unit"]})</text>']
    for x in xt:
        out.append(f'<text x="{px(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
                   f'{x:g}</text>')
    for y in yt:
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(y):.1f}" y2="{py(y):.1f}" '
                   f'stroke="#ddd"/><text x="{LEFT - 6}" y="{py(y) + 4:.1f}" text-anchor="end">'
                   f'{y:g}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" '
               f'text-anchor="middle">{g["x"]}</text>')
    for kind, line in g["points"].items():
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in line)
        colour = COLOURS.get(kind, "#333")
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{colour}"/>'
                for x, y in line]
        x, y = line[-1]
        out.append(f'<text x="{px(x) + 8:.1f}" y="{py(y) + 4:.1f}" fill="{colour}">{kind} '
                   f'{number(y)}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


def file_name(name):
    return "".join(c if c.isalnum() else "-" for c in name).strip("-").replace("--", "-") + ".svg"


def write(data):
    m = data["machine"]
    form = "the short form (QUICK=1): only a glance" if m["quick"] else "the whole form"
    lines = ["# What tally costs, beside Apache Kafka and the machine itself", "",
             f"Made by `make bench` ({form}) at {m['commit']} on {m['cores']} cores of "
             f"{m['cpu']}, Linux {m['kernel']}, beside Apache Kafka {m['kafka']}; load average "
             f"before it {m['load_before']:.2f}. Medians, with the least and the greatest. A ratio "
             "is how much less ours costs, or how much more it moves.", ""]
    if m["failed"]:
        lines += [f"Not measured, because it failed: {', '.join(m['failed'])}.", ""]
    lines += table(data["results"]) + ["", "## How cost grows", ""]
    plots = HERE / "plots"
    plots.mkdir(exist_ok=True)
    for name, g in data["growth"].items():
        (plots / file_name(name)).write_text(plot(name, g))
        lines += [f"![{name}](plots/{file_name(name)})", ""]
    notes = HERE / "notes.md"
    if notes.exists():
        lines += [notes.read_text().rstrip(), ""]
    (HERE / "report.md").write_text("\n".join(lines))
