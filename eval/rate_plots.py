"""The picture of a rate report: scores over the bits that are compared, a curve a family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UnsupportedAudio
from .extras import require
from .plots import PLOTS_EXTRA, new_figure, save_figure
from .rate_tables import BASELINE

PANELS = {"pesq": "PESQ-WB", "plcmos": "PLCMOS"}
_MARKERS = "osD^vPX*<>"


def save_rate_curves(
    path: Path,
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    original: Mapping[str, Any] | None = None,
) -> None:
    """Draw PESQ and PLCMOS over the bit rate on a logarithmic axis, as one PNG.

    Whiskers are 95 % intervals over the recordings. Ours are drawn in full, programmes dashed.

    Args:
        path: The PNG.
        curves: By family, rows of the table `quality`.
        original: The row of the recordings themselves, a grey line.

    Raises:
        UnsupportedAudio: If no row has a score.
        MissingExtra: If matplotlib is not installed.
    """
    rows = [row for points in curves.values() for row in points]
    names = [name for name in PANELS if any(row.get(name) is not None for row in rows)]
    if not names:
        raise UnsupportedAudio("There is no score to draw over the bit rate; install a scorer.")
    figure = new_figure(width=5.2 * len(names) + 2.6, height=4.4)
    axes = figure.subplots(1, len(names), squeeze=False).flatten()
    ticker = require("matplotlib.ticker", "Drawing a plot", PLOTS_EXTRA)
    handles: dict[str, Any] = {}
    for axis, name in zip(axes, names, strict=True):
        axis.set_xscale("log")
        for number, (family, points) in enumerate(curves.items()):
            known = [r for r in points if None not in (r.get(name), r.get("bits_per_second"))]
            known.sort(key=lambda row: row["bits_per_second"])
            if not known:
                continue
            is_ours = known[0]["kind"] != BASELINE
            handles[family] = axis.errorbar(
                [row["bits_per_second"] for row in known],
                [row[name] for row in known],
                yerr=_whiskers(known, name),
                label=family,
                color=f"C{number % 10}",
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=7 if is_ours else 4,
                linewidth=1.8 if is_ours else 1.0,
                linestyle="-" if is_ours else "--",
                elinewidth=0.7,
                capsize=2,
                zorder=3 if is_ours else 2,
            )
        if original and original.get(name) is not None:
            handles["original"] = axis.axhline(
                original[name], color="grey", linewidth=0.8, linestyle=":", label="original"
            )
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda rate, _: f"{rate / 1000:g}k"))
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.set(title=PANELS[name], xlabel="bits per second")
        axis.grid(alpha=0.3)
    figure.legend(handles=list(handles.values()), loc="outside right center", fontsize=8)
    save_figure(figure, path)


def _whiskers(rows: Sequence[Mapping[str, Any]], name: str) -> list[list[float]]:
    """Lengths of the whiskers below and above each point."""
    low, high = ([row.get(f"{name}_{end}") for row in rows] for end in ("low", "high"))
    return [
        [
            0.0 if end is None else max(0.0, row[name] - end)
            for row, end in zip(rows, low, strict=True)
        ],
        [
            0.0 if end is None else max(0.0, end - row[name])
            for row, end in zip(rows, high, strict=True)
        ],
    ]
