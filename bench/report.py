"""Medians, ratios, and the tables and charts made of them."""

import base64
import html
import statistics
import subprocess

WORKS = {
    # name: (title, unit, factor from the stored value to the unit)
    "rr-1": ("100-byte round trip, 1 connection", "us CPU", 1e6),
    "rr-64": ("100-byte round trip, 64 connections", "us CPU", 1e6),
    "rr-1000": ("100-byte round trip, 1,000 connections", "us CPU", 1e6),
    "bulk-1": ("GiB, 1 stream", "s CPU", 1),
    "bulk-16": ("GiB, 16 streams", "s CPU", 1),
    "rate": ("tunnel opened, used once, closed", "us CPU", 1e6),
    "latency-p50": ("p50 at an equal offered load, 1,000 connections", "us", 1),
    "latency-p99": ("p99 at an equal offered load, 1,000 connections", "us", 1),
    "latency-p99.9": ("p99.9 at an equal offered load, 1,000 connections", "us", 1),
    "memory": ("idle tunnel", "bytes", 1),
    "memory-closed": ("the same after closing all", "bytes", 1),
    "slow-memory": ("tunnel whose client reads 1,000 bytes a second", "bytes", 1),
    "slow-p99": ("p99 of 64 other tunnels beside such, 2,000 round trips a second", "us", 1),
}
RATIOS = (
    ("cosockd relay", "haproxy"),
    ("cosockd relay", "nginx"),
    ("cosockd loop", "haproxy"),
    ("cosockd relay", "haproxy splice"),
    ("cosockd copying", "haproxy"),
    ("cosockd udp", "nginx"),
    ("cosockd wsbridge", "websockify"),
    ("cosockd wsbridge", "node ws"),
    ("cosockd loop", "websockify"),
    ("cosockd loop", "node ws"),
)

PEERS = ("haproxy", "haproxy splice", "nginx")
# What is aimed at: (work, whose, beside the best of these, ratio at most)
TARGETS = (
    ("rr-64", "cosockd relay", ("haproxy",), 0.90),
    ("rr-64", "cosockd relay", ("nginx",), 0.95),
    ("rr-1000", "cosockd relay", ("haproxy",), 0.65),
    ("rr-1000", "cosockd relay", ("nginx",), 0.62),
    ("rr-64", "cosockd loop", ("haproxy",), 0.95),
    ("rr-1000", "cosockd loop", ("haproxy",), 0.90),
    *((work, *row) for work in ("bulk-1", "bulk-16") for row in (
        ("cosockd relay", ("haproxy splice",), 0.85),
        ("cosockd relay", ("nginx",), 0.35),
        ("cosockd copying", ("haproxy",), 0.70))),
    ("rate", "cosockd relay", PEERS, 1.05),
    ("rate", "cosockd loop", PEERS, 1.05),
    *((f"latency-{p}", ours, PEERS, most) for ours in ("cosockd relay", "cosockd loop")
      for p, most in (("p50", 1.1), ("p99", 1.1), ("p99.9", 1.5))),
)
THROUGHPUT = 0.95  # of the best peer's, of each number of streams


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def ratio(samples, work, above, below):
    """Median of the ratios of runs that were made next to each other."""
    pairs = zip(samples.get((work, above), []), samples.get((work, below), []))
    return median([a / b for a, b in pairs if a is not None and b])


def verdict(title, target, measured, holds):
    """A row of a table of targets; measured: text, None when it was not measured."""
    return [title, target, measured or "-", "-" if measured is None else "yes" if holds else "NO"]


TARGETS_HEAD = ["target", "wanted", "measured", "holds"]


def targets(samples, extra):
    """Rows of text: which of TARGETS hold, and the throughput of bulk."""
    rows = [TARGETS_HEAD]
    for work, ours, peers, most in TARGETS:
        found = [(r, p) for p in peers if (r := ratio(samples, work, ours, p)) is not None]
        worst = max(found, default=None)
        rows.append(verdict(f"{WORKS[work][0]}: {ours.removeprefix('cosockd ')} / {peers[0] if len(peers) == 1 else 'the best peer'}", f"at most {most:.2f}",
                            worst and f"{worst[0]:.2f} ({worst[1]})", worst and worst[0] <= most))
    for work in ("bulk-1", "bulk-16"):
        seen_by = {(work, p): extra.get((work, p, "gibps"), []) for p in ("cosockd relay", *PEERS)}
        found = [(r, p) for p in PEERS if (r := ratio(seen_by, work, "cosockd relay", p)) is not None]
        worst = min(found, default=None)
        rows.append(verdict(f"{WORKS[work][0]}: GiB/s, relay / the best peer", f"at least {THROUGHPUT:.2f}",
                            worst and f"{worst[0]:.2f} ({worst[1]})", worst and worst[0] >= THROUGHPUT))
    return rows


def form(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(samples, peers, works=None, ratios=RATIOS):
    """Rows of text: work, unit, a median per peer, then the ratios. works: WORKS, or others like them."""
    ratios = [(a, b) for a, b in ratios if a in peers and b in peers]
    rows = [["per", "unit", *peers, *(f"{a.removeprefix('cosockd ')} / {b}" for a, b in ratios)]]
    for work, (title, unit, factor) in (works or WORKS).items():
        medians = [median(samples.get((work, peer), [])) for peer in peers]
        if all(m is None for m in medians):
            continue
        row = [title, unit]
        for m in medians:
            row.append("-" if m is None else form(m * factor))
        for above, below in ratios:
            r = None if work == "memory-closed" else ratio(samples, work, above, below)
            row.append("-" if r is None else f"{r:.2f}")
        rows.append(row)
    return rows


def seen(extra, peers):
    """Rows of text: what the load saw meanwhile."""
    rows = [["seen by the load", *peers]]
    names = (("rr-64", "rps", "round trips/s, 64 connections", "{:,.0f}"),
             ("rr-64", "p50", "p50 us, 64 connections", "{:,.0f}"),
             ("rr-64", "p99", "p99 us, 64 connections", "{:,.0f}"),
             ("rr-1000", "rps", "round trips/s, 1,000 connections", "{:,.0f}"),
             ("rr-1000", "p50", "p50 us, 1,000 connections", "{:,.0f}"),
             ("rr-1000", "p99", "p99 us, 1,000 connections", "{:,.0f}"),
             ("bulk-1", "gibps", "GiB/s, 1 stream", "{:.2f}"),
             ("bulk-16", "gibps", "GiB/s, 16 streams", "{:.2f}"),
             ("rate", "rps", "tunnels/s", "{:,.0f}"))
    for work, key, title, form in names:
        medians = [median(extra.get((work, peer, key), [])) for peer in peers]
        if any(m is not None for m in medians):
            rows.append([title, *("-" if m is None else form.format(m) for m in medians)])
    return rows


def as_text(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(w) for cell, w in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def as_markdown(rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "| --- |" + " ---: |" * (len(rows[0]) - 1))
    return "\n".join(lines)


# ---- a page with plots

WIDTH, HEIGHT = 620, 240
COLORS = ("#22aa66", "#2266aa", "#aa6622", "#aa2266", "#666666")


def drawing(title, unit, commands):
    """The HTML of a chart that gnuplot draws."""
    head = [f'set terminal svg size {WIDTH},{HEIGHT} font "sans,11" background "white"', "set encoding utf8",
            "set grid y", "set yrange [0:*]", 'set format y "%.9g"', f"set ylabel {quoted(unit)} noenhanced"]
    try:
        run = subprocess.run(["gnuplot"], input="\n".join(head + commands) + "\n", capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "<p>(no chart: gnuplot is not installed)</p>"
    if run.returncode != 0:
        return f"<p>(no chart: {html.escape(run.stderr)})</p>"
    image = base64.b64encode(run.stdout.encode()).decode()
    return f'<figure><figcaption>{html.escape(title)} ({html.escape(unit)})</figcaption><img alt="" src="data:image/svg+xml;base64,{image}"></figure>'


def quoted(text):
    """As a string of gnuplot's that stands in a line of data, too."""
    return '"' + text.replace('"', "'").replace("\\", "") + '"'


def chart(title, values, unit, factor):
    """Bars of (name, value); names without a value are left out."""
    bars = [(name, value * factor) for name, value in values if value is not None]
    if not bars:
        return ""
    high = max(value for _, value in bars)
    names = ", ".join(quoted(name).replace(" ", "\\n") + f" {i}" for i, (name, _) in enumerate(bars))
    data = [f"{i} {max(value, 0):.9g} {quoted(form(value))} 0x{COLORS[0 if name.startswith('cosockd') else 4][1:]}"
            for i, (name, value) in enumerate(bars)]
    return drawing(title, unit, [
        "$bars << END", *data, "END", f"set yrange [0:{high * 1.15 if high > 0 else 1:g}]", "unset key", "set style fill solid",
        "set boxwidth 0.5", "set offsets 0.6, 0.6, 0, 0", "set bmargin 3.5", f"set xtics ({names}) noenhanced scale 0",
        "plot $bars using 1:2:4 with boxes linecolor rgb variable, "
        "$bars using 1:2:3 with labels noenhanced offset 0,0.6"])


def curve(title, unit, points):
    """Values over a number of connections (logarithmic), a line per name: {name: [(connections, value), ...]}."""
    lines = [(f"$line{i}", name, sorted(line)) for i, (name, line) in enumerate(points.items()) if line]
    if not lines:
        return ""
    sizes = sorted({n for _, _, line in lines for n, _ in line})
    ticks = ", ".join(f'"{n:,}" {n}' for n in sizes)
    data = [text for block, _, line in lines for text in (f"{block} << END", *(f"{n} {v:.9g}" for n, v in line), "END")]
    plots = ", ".join(f'{block} using 1:2 with linespoints pointtype 7 pointsize 0.5 linewidth 2 linecolor rgb "{COLORS[i % 5]}" '
                      f"title {quoted(name)} noenhanced" for i, (block, name, _) in enumerate(lines))
    return drawing(title, unit, [*data, "set logscale x", "set key outside right", f"set xtics ({ticks})",
                                 f"set xrange [{sizes[0] / 1.3:g}:{sizes[-1] * 1.3:g}]", f"plot {plots}"])


STYLE = """
body { font: 14px sans-serif; margin: 1em }
table { border-collapse: collapse; margin: 1.5em 0 }
td, th { padding: 3px 8px; text-align: right; border-bottom: 1px solid #ddd; max-width: 22em }
td:first-child, th:first-child { text-align: left; min-width: 20em }
figure { display: inline-block; margin: 1em 1em 0 0 }
figcaption { font-weight: bold }
"""


def page(title, about, charts, tables):
    parts = [f'<!doctype html><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>',
             f"<h1>{html.escape(title)}</h1><p>{html.escape(about.replace('`', ''))}</p>"]
    for rows in tables:
        head = "".join(f"<th>{html.escape(c)}</th>" for c in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows[1:])
        parts.append(f"<table><tr>{head}</tr>{body}</table>")
    return "\n".join(parts + charts)
