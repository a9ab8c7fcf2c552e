"""The picture of a loss report: scores over loss, a curve a way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UnsupportedAudio
from .loss_tables import is_share
from .plots import new_figure, save_figure
from .rate_plots import PANELS

_MARKERS = "osD^vPX*<>"
_COLOURS = [f"C{number}" for number in range(10)]
_OTHER_COLOURS = ["black", "dimgrey", "darkgrey", "saddlebrown", "peru", "tan", "olive"]


def save_loss_curves(path: Path, rows: Sequence[Mapping[str, Any]], ours: Sequence[str]) -> None:
    """Draw PESQ and PLCMOS over the losses, as one PNG.

    Shares of loss are joined by lines; other losses stand to the right of them, each at a place of its own.

    Args:
        path: The PNG.
        rows: Of the table `quality`.
        ours: Names of the ways to be drawn in full; the others are dashed.

    Raises:
        UnsupportedAudio: If no row has a score.
        MissingExtra: If matplotlib is not installed.
    """
    panels = [name for name in PANELS if any(row.get(name) is not None for row in rows)]
    if not panels:
        raise UnsupportedAudio("There is no score to draw over the loss; install a scorer.")
    losses = list(dict.fromkeys(row["loss"] for row in rows))
    shares = sorted(filter(is_share, losses), key=float)
    others = [loss for loss in losses if loss not in shares]
    highest = 100 * float(shares[-1]) if shares else 0.0
    step = max(highest, 1.0) / 5
    places = {loss: 100 * float(loss) for loss in shares}
    places |= {loss: highest + step * (1 + number) for number, loss in enumerate(others)}
    figure = new_figure(width=5.2 * len(panels) + 2.6, height=4.6)
    axes = figure.subplots(1, len(panels), squeeze=False).flatten()
    handles: dict[str, Any] = {}
    for axis, panel in zip(axes, panels, strict=True):
        for number, system in enumerate(dict.fromkeys(row["system"] for row in rows)):
            palette = _COLOURS if system in ours else _OTHER_COLOURS
            known = {r["loss"]: r[panel] for r in rows if r["system"] == system}
            known = {loss: value for loss, value in known.items() if value is not None}
            style = {
                "color": palette[number % len(palette)],
                "marker": _MARKERS[number % len(_MARKERS)],
                "markersize": 6 if system in ours else 4,
                "linewidth": 1.8 if system in ours else 1.0,
            }
            joined = [loss for loss in shares if loss in known]
            line = "-" if system in ours else "--"
            (handles[system],) = axis.plot(
                [places[loss] for loss in joined],
                [known[loss] for loss in joined],
                line,
                label=system,
                **style,
            )
            alone = [loss for loss in others if loss in known]
            axis.plot(
                [places[loss] for loss in alone],
                [known[loss] for loss in alone],
                linestyle="",
                **style,
            )
        axis.set_xticks(list(places.values()), [_label(loss) for loss in places], fontsize=8)
        axis.set(title=PANELS[panel], xlabel="packets lost")
        axis.grid(alpha=0.3)
    figure.legend(handles=list(handles.values()), loc="outside right center", fontsize=8)
    save_figure(figure, path)


def _label(loss: str) -> str:
    return f"{100 * float(loss):g} %" if is_share(loss) else loss.replace(":", "\n", 1)
