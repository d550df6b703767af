"""What a run tells: a table, JSON, and a picture of each benchmark's figures against their bars."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
import psutil
from rich.console import Console
from rich.table import Table

from bench.figure import Figure
from chimera.version import __version__

mpl.use("Agg")
from matplotlib import pyplot as plt


def table(figures: Sequence[Figure]) -> None:
    """Print it."""
    shown = Table("", "figure", "value", "bar", "", "method")
    for one in figures:
        bar = "" if one.bar is None else f"{'≤' if one.most else '≥'} {one.bar:,g} {one.unit}"
        verdict = {None: "", True: "reached", False: "missed"}[one.reached]
        shown.add_row(one.bench, one.name, f"{number(one.value)} {one.unit}", bar, verdict, one.method)
    Console(width=None if sys.stdout.isatty() else 200).print(shown)


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def write(figures: Sequence[Figure], directory: Path) -> None:
    """JSON and pictures."""
    directory.mkdir(parents=True, exist_ok=True)
    about = {
        "chimera": __version__,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "figures": [one.as_dict() for one in figures],
    }
    (directory / "bench.json").write_text(json.dumps(about, indent=2, ensure_ascii=False), encoding="utf-8")
    for bench in sorted({one.bench for one in figures}):
        picture([one for one in figures if one.bench == bench and one.bar], directory / f"{bench}.png")


def read(directory: Path) -> list[Figure]:
    """What the last runs wrote there; nothing where there was none."""
    path = directory / "bench.json"
    if not path.exists():
        return []
    told = json.loads(path.read_text(encoding="utf-8"))["figures"]
    return [Figure(**{name: one[name] for name in one if name != "reached"}) for one in told]


def renewed(before: Sequence[Figure], now: Sequence[Figure]) -> list[Figure]:
    """All figures, those of the benchmarks that ran now in place of their older ones."""
    ran = {one.bench for one in now}
    return sorted([*now, *(one for one in before if one.bench not in ran)], key=lambda one: one.bench)


def machine() -> str:
    """What it was measured on, as a sentence."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}, Chimera {__version__}, "
        f"Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {memory:.0f} GiB."
    )


def publish(figures: Sequence[Figure], about: str, docs: Path) -> None:
    """Write the figures into the documentation, between their marks."""
    rows = [one for one in figures if one.bench != "B8"]
    scale = [one for one in figures if one.bench == "B8"]
    if rows:
        _between(docs / "performance.md", "bench", f"{about}\n\n{_markdown(rows)}")
    if scale:
        _between(docs / "scale.md", "scale", f"{about}\n\n{_markdown(scale)}")


def _markdown(figures: Sequence[Figure]) -> str:
    lines = ["| | Figure | Value | Bar | |", "|---|---|---|---|---|"]
    for one in figures:
        bar = "" if one.bar is None else f"{'≤' if one.most else '≥'} {one.bar:,g} {one.unit}"
        verdict = {None: "", True: "reached", False: "**missed**"}[one.reached]
        name = f"{one.name} ({one.method})" if one.method else one.name
        lines.append(f"| {one.bench} | {name} | {number(one.value)} {one.unit} | {bar} | {verdict} |")
    return "\n".join(lines)


def _between(path: Path, mark: str, text: str) -> None:
    page = path.read_text(encoding="utf-8")
    head, begin, rest = page.partition(f"<!-- {mark}: python -m bench --publish -->")
    _, end, tail = rest.partition(f"<!-- /{mark} -->")
    if not begin or not end:
        raise ValueError(f"{path} has no place marked {mark!r}")
    path.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")


def picture(figures: Sequence[Figure], path: Path) -> None:
    """Each figure as a share of its bar."""
    if not figures:
        return
    made, axes = plt.subplots(figsize=(9, 0.8 + 0.55 * len(figures)))
    shares = [one.value / one.bar for one in figures if one.bar]
    colours = ["#2a9d8f" if one.reached else "#d1495b" for one in figures]
    axes.barh([one.name for one in figures], shares, color=colours)
    for at, one in enumerate(figures):
        axes.text(shares[at], at, f" {number(one.value)} {one.unit}", va="center")
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("share of the bar")
    axes.spines[["top", "right"]].set_visible(False)
    made.tight_layout()
    made.savefig(path, dpi=150)
    plt.close(made)
