"""Pictures of a speech report: each system's figures beside the others', with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import CorpusError
from .faults import FAULTS
from .plots import new_figure, save_figure

# by name of a figure: title, the name under which its interval stands, and how to read it
_PANELS = {
    "wer": ("word error rate", "wer", "lower is better"),
    "similarity_to_prompt": ("similarity to the prompt", "similarity", "higher is better"),
    "mos": ("MOS, predicted", "", "higher is better"),
    "duration_error": ("duration error", "", "lower is better"),
}


def save_system_scores(
    path: Path, systems: Sequence[Mapping[str, Any]], faults: Sequence[Mapping[str, Any]]
) -> None:
    """Draw bars of each system's figures and counts of its faults, as one PNG.

    Whiskers are 95 % intervals over sentences; a dotted line in the panel of similarity is the
    similarity to other voices' prompts, so what lies above it was cloned.

    Args:
        path: The PNG.
        systems: Rows of the report's table `systems`.
        faults: Rows of its table `faults`.

    Raises:
        CorpusError: If there are no rows.
        MissingExtra: If matplotlib is not installed.
    """
    if not systems:
        raise CorpusError("There are no systems to draw; speak at least one sentence.")
    names = [name for name in _PANELS if any(row.get(name) is not None for row in systems)]
    figure = new_figure(width=3.2 * (len(names) + 1.5), height=3.8)
    axes = figure.subplots(
        1, len(names) + 1, squeeze=False, width_ratios=[1] * len(names) + [1.5]
    ).flatten()
    labels = [" ".join(filter(None, (r["system"], r.get("protocol", "")))) for r in systems]
    for axis, name in zip(axes[:-1], names, strict=True):
        title, interval, reading = _PANELS[name]
        for place, row in enumerate(systems):
            value = row.get(name)
            if value is None:
                continue
            axis.bar(place, value, color=f"C{place % 10}", alpha=0.8)
            low, high = row.get(f"{interval}_low"), row.get(f"{interval}_high")
            if low is not None and high is not None:
                axis.vlines(place, low, high, color="black", linewidth=1.5)
            if name == "similarity_to_prompt":
                other = row.get("similarity_to_other_prompts")
                if other is not None:
                    axis.hlines(other, place - 0.4, place + 0.4, color="black", linestyle=":")
            axis.annotate(
                f"{value:.3g}", (place, max(value, high or 0)), ha="center", va="bottom", fontsize=7
            )
        axis.set(title=title, xlabel=reading)
        axis.margins(y=0.1)
        axis.set_xticks(range(len(labels)), labels, rotation=40, ha="right", fontsize=7)
    _draw_faults(axes[-1], faults)
    save_figure(figure, path)


def _draw_faults(axis: Any, faults: Sequence[Mapping[str, Any]]) -> None:
    width = 0.8 / max(1, len(faults))
    for number, row in enumerate(faults):
        places = [place + (number - (len(faults) - 1) / 2) * width for place in range(len(FAULTS))]
        counts = [row.get(name) for name in FAULTS]
        bars = axis.bar(
            places, [c or 0 for c in counts], width=width, color=f"C{number % 10}", alpha=0.8
        )
        axis.bar_label(bars, ["n/a" if c is None else str(c) for c in counts], fontsize=6)
    most = max((row.get(name) or 0 for row in faults for name in FAULTS), default=0)
    axis.set(title="sentences with a fault", ylim=(0, 1.1 * max(1, most)))
    shown = [name.replace("_", " ") for name in FAULTS]
    axis.set_xticks(range(len(FAULTS)), shown, rotation=40, ha="right", fontsize=7)
