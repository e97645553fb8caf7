"""Medians, ratios, and the tables and charts made of them."""

import html
import math
import statistics

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
}
RATIOS = (
    ("cosockd relay", "haproxy"),
    ("cosockd relay", "nginx"),
    ("cosockd loop", "haproxy"),
    ("cosockd relay", "haproxy splice"),
    ("cosockd wsbridge", "websockify"),
    ("cosockd wsbridge", "node ws"),
    ("cosockd loop", "websockify"),
    ("cosockd loop", "node ws"),
)


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def ratio(samples, work, above, below):
    """Median of the ratios of runs that were made next to each other."""
    pairs = zip(samples.get((work, above), []), samples.get((work, below), []))
    return median([a / b for a, b in pairs if a is not None and b])


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

BAR, WIDTH = 22, 760


def chart(title, values, unit, factor):
    """Bars of (name, value) as SVG; names without a value are left out."""
    rows = [(name, value * factor) for name, value in values if value is not None]
    most = max([value for _, value in rows], default=0) or 1
    svg = [f'<h2>{html.escape(title)} ({html.escape(unit)})</h2>',
           f'<svg width="{WIDTH}" height="{BAR * len(rows)}" role="img">']
    for i, (name, value) in enumerate(rows):
        y = i * BAR
        long = max(value, 0) / most * (WIDTH - 260)
        color = "#2a6" if name.startswith("cosockd") else "#89a"
        svg.append(f'<text x="120" y="{y + 15}" text-anchor="end">{html.escape(name)}</text>'
                   f'<rect x="128" y="{y + 3}" width="{long:.1f}" height="{BAR - 6}" fill="{color}"/>'
                   f'<text x="{134 + long:.1f}" y="{y + 15}">{form(value)}</text>')
    return "\n".join([*svg, "</svg>"])


def curve(title, unit, points):
    """Values over a number of connections (logarithmic), a line per name: {name: [(connections, value), ...]}."""
    every = [p for line in points.values() for p in line]
    high = max([v for _, v in every], default=0) or 1
    low, far = (f([math.log(n) for n, _ in every], default=0) for f in (min, max))
    place = lambda n, v: (60 + (math.log(n) - low) / ((far - low) or 1) * (WIDTH - 240), 230 - v / high * 200)
    svg = [f'<h2>{html.escape(title)} ({html.escape(unit)})</h2>', f'<svg width="{WIDTH}" height="260" role="img">',
           f'<text x="4" y="34">{form(high)}</text><text x="40" y="234">0</text>']
    for n in sorted({n for n, _ in every}):
        svg.append(f'<text x="{place(n, 0)[0]:.0f}" y="250" text-anchor="middle">{n:,}</text>')
    for i, (name, line) in enumerate(points.items()):
        color = ("#2a6", "#26a", "#a62", "#a26", "#666")[i % 5]
        at = [place(n, v) for n, v in line]
        svg.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" '
                   f'points="{" ".join(f"{x:.0f},{y:.0f}" for x, y in at)}"/>')
        svg.append(f'<text x="{WIDTH - 170}" y="{30 + 18 * i}" fill="{color}">{html.escape(name)}</text>')
    return "\n".join([*svg, "</svg>"])


def page(title, about, charts, tables):
    parts = [f'<!doctype html><meta charset="utf-8"><title>{html.escape(title)}</title>',
             "<style>body{font:14px sans-serif;margin:2em;max-width:80em}svg text{font:12px sans-serif}h2{font-size:15px;"
             "margin:1.5em 0 .3em}td,th{padding:2px 10px;text-align:right}td:first-child,th:first-child{text-align:left}"
             "</style>",
             f"<h1>{html.escape(title)}</h1><p>{html.escape(about)}</p>", *charts]
    for rows in tables:
        head = "".join(f"<th>{html.escape(c)}</th>" for c in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows[1:])
        parts.append(f"<table><tr>{head}</tr>{body}</table>")
    return "\n".join(parts)
