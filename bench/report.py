"""Medians, ratios and the tables made of them."""

import statistics

WORKS = {
    # name: (title, unit, factor from the stored value to the unit)
    "rr-1": ("100-byte round trip, 1 connection", "us CPU", 1e6),
    "rr-64": ("100-byte round trip, 64 connections", "us CPU", 1e6),
    "rr-1000": ("100-byte round trip, 1,000 connections", "us CPU", 1e6),
    "bulk-1": ("GiB, 1 stream", "s CPU", 1),
    "bulk-16": ("GiB, 16 streams", "s CPU", 1),
    "rate": ("tunnel opened, used once, closed", "us CPU", 1e6),
    "memory": ("idle tunnel", "bytes", 1),
    "memory-closed": ("the same after closing all", "bytes", 1),
}
RATIOS = (
    ("cosockd relay", "haproxy"),
    ("cosockd relay", "nginx"),
    ("cosockd loop", "haproxy"),
    ("cosockd relay", "haproxy splice"),
)


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def ratio(samples, work, above, below):
    """Median of the ratios of runs that were made next to each other."""
    pairs = zip(samples.get((work, above), []), samples.get((work, below), []))
    return median([a / b for a, b in pairs if a is not None and b])


def table(samples, peers):
    """Rows of text: work, unit, a median per peer, then the ratios."""
    ratios = [(a, b) for a, b in RATIOS if a in peers and b in peers]
    rows = [["per", "unit", *peers, *(f"{a.removeprefix('cosockd ')} / {b}" for a, b in ratios)]]
    for work, (title, unit, factor) in WORKS.items():
        medians = [median(samples.get((work, peer), [])) for peer in peers]
        if all(m is None for m in medians):
            continue
        row = [title, unit]
        for m in medians:
            row.append("-" if m is None else f"{m * factor:.3g}" if unit != "bytes" else f"{m:,.0f}")
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
