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
