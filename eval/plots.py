"""Pictures of sounds, trainings and codebooks, drawn without a screen."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CorpusError, UnsupportedAudio
from ..tokenizer.files import write_atomically
from .extras import require
from .spectra import mel_spectrogram, power_spectrogram

PLOTS_EXTRA = "pip install '.[plots]'"
FLOOR_DB = -80.0
MAX_PANELS = 8
RATE_SCORES = {"pesq": "PESQ-WB", "stoi": "STOI", "mos": "MOS, predicted"}
_MEL_BANDS = 80


def save_spectrograms(
    path: Path, sounds: Mapping[str, tuple[Tensor, int]], scale: str = "linear"
) -> None:
    """Draw waveforms above spectrograms, side by side, as one PNG.

    All panels share one decibel scale that ends at the loudest point of the first sound, one time
    axis and one frequency axis, so that what looks different is different.

    Args:
        path: The PNG.
        sounds: By title, (float `[L]`, sampling rate); 1 to 8 of them.
        scale: "linear" (hertz, 32 ms windows) or "mel" (80 bands).

    Raises:
        UnsupportedAudio: If there are no sounds, too many, or one is empty.
        MissingExtra: If matplotlib is not installed.
    """
    if not 1 <= len(sounds) <= MAX_PANELS or any(len(wave) == 0 for wave, _ in sounds.values()):
        raise UnsupportedAudio(f"Spectrograms take 1 to {MAX_PANELS} sounds that are not empty.")
    figure = new_figure(width=0.8 + 4.2 * len(sounds), height=4.6)
    axes = figure.subplots(
        2, len(sounds), squeeze=False, sharex=True, sharey="row", height_ratios=(1, 3.2)
    )
    spectra = {title: _decibels(wave, rate, scale) for title, (wave, rate) in sounds.items()}
    top = max(float(next(iter(spectra.values())).max()), -60.0)
    seconds = max(len(wave) / rate for wave, rate in sounds.values())
    highest = _MEL_BANDS if scale == "mel" else max(rate for _, rate in sounds.values()) / 2000
    image = None
    for column, (title, (wave, rate)) in enumerate(sounds.items()):
        upper, lower = axes[:, column]
        duration = len(wave) / rate
        moments = torch.linspace(0, duration, len(wave)).numpy()
        upper.plot(moments, wave.detach().cpu().numpy(), linewidth=0.3, color="#1f4e79")
        upper.set(title=title, ylim=(-1, 1), xlim=(0, seconds))
        image = lower.imshow(
            (spectra[title] - top).numpy(),
            origin="lower",
            aspect="auto",
            extent=(0, duration, 0, _MEL_BANDS if scale == "mel" else rate / 2000),
            vmin=FLOOR_DB,
            vmax=0,
            cmap="magma",
            interpolation="nearest",
        )
        lower.set(xlabel="seconds", ylim=(0, highest), facecolor="black")
    axes[1, 0].set_ylabel("mel band" if scale == "mel" else "kHz")
    figure.colorbar(image, ax=axes, label="dB", pad=0.01, fraction=0.02)
    save_figure(figure, path)


def save_curves(path: Path, metrics: Path | Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Draw training curves as one PNG, one panel a quantity.

    Names that differ only before the last slash ("train/loss", "valid/loss") share a panel.

    Args:
        path: The PNG.
        metrics: Curves by name, each a list of (step, value); or a JSON-lines file whose rows hold
            "step" and numbers.

    Raises:
        CorpusError: If the file is missing, is no such file, or holds no curve.
        MissingExtra: If matplotlib is not installed.
    """
    curves = read_curves(metrics) if isinstance(metrics, Path) else dict(metrics)
    panels: dict[str, list[str]] = {}
    for name in curves:
        panels.setdefault(name.rpartition("/")[2], []).append(name)
    if not panels:
        raise CorpusError("There are no curves to draw; give rows with a step and a number.")
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(width=4.6 * columns, height=3.0 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes[len(panels) :]:
        axis.remove()
    for axis, (quantity, names) in zip(axes, panels.items(), strict=False):
        for name in names:
            steps, values = zip(*curves[name], strict=True)
            marker = "." if len(steps) < 40 else None
            axis.plot(steps, values, linewidth=1, marker=marker, label=name)
        axis.set(title=quantity, xlabel="step")
        axis.grid(alpha=0.3)
        if len(names) > 1:
            axis.legend(fontsize=7)
    save_figure(figure, path)


def read_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Read curves from JSON lines; a last line that was cut off by a kill is passed over.

    Where a row names its "split", the curve of "loss" is called "train/loss" or "valid/loss".

    Raises:
        CorpusError: If the file is missing or another line is not a JSON object with a step.
    """
    if not path.is_file():
        raise CorpusError(f"{path} does not exist; give the metrics file of a run.")
    curves: dict[str, dict[int, float]] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            step = int(row["step"])
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines) and not isinstance(error, KeyError):
                break
            raise CorpusError(
                f"{path}, line {number}: this is not a row of metrics with a step."
            ) from error
        prefix = f"{row['split']}/" if isinstance(row.get("split"), str) else ""
        for name, value in row.items():
            if name != "step" and type(value) in (int, float) and math.isfinite(value):
                # a run that was resumed repeats steps: the later row is the one that counts
                curves.setdefault(prefix + name, {})[step] = float(value)
    return {name: sorted(points.items()) for name, points in curves.items()}


def save_codebook_usage(path: Path, counts: Tensor, num_masked_books: int = 0) -> None:
    """Draw how evenly each codebook is used, as one PNG.

    Args:
        path: The PNG.
        counts: int64 `[K, V]`, how often each entry was used.
        num_masked_books: How many leading books are peers; they are marked in the legend.

    Raises:
        UnsupportedAudio: If nothing was counted.
        MissingExtra: If matplotlib is not installed.
    """
    if counts.dim() != 2 or not counts.sum(dim=1).all():
        raise UnsupportedAudio("There are no codes to draw; count at least one frame of each book.")
    share = counts.double() / counts.sum(dim=1, keepdim=True)
    books, entries = counts.shape
    figure = new_figure(width=11, height=3.6)
    ranked, bars = figure.subplots(1, 2, width_ratios=(2, 1))
    for book in range(books):
        name = f"book {book + 1}" + (" (masked)" if book < num_masked_books else "")
        order = share[book].sort(descending=True).values
        order = order[order > 0]
        ranked.plot(range(1, len(order) + 1), (order * entries).numpy(), linewidth=1, label=name)
    ranked.axhline(1.0, color="grey", linewidth=0.8, linestyle="--")
    ranked.set(title="entries by rank", xlabel="rank", ylabel="frequency / uniform", yscale="log")
    ranked.legend(fontsize=7)
    perplexity = torch.special.entr(share).sum(dim=1).exp() / entries
    used = (counts > 0).double().mean(dim=1)
    left, right = ([book + shift for book in range(1, books + 1)] for shift in (-0.2, 0.2))
    bars.bar(left, used.tolist(), width=0.4, label="entries used")
    bars.bar(right, perplexity.tolist(), width=0.4, label="perplexity / V")
    bars.set(
        title="share of the codebook", xlabel="book", ylim=(0, 1.2), xticks=range(1, books + 1)
    )
    bars.legend(fontsize=7)
    save_figure(figure, path)


def save_rate_quality(
    path: Path,
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    original: Mapping[str, Any] | None = None,
) -> None:
    """Draw scores over the bit rate, a panel a score and a curve a method, as one PNG.

    Args:
        path: The PNG.
        curves: By method, rows with `bits_per_second` and some of `pesq`, `stoi` and `mos`; a row
            without a rate becomes a line across the panel. The first method is drawn heavier.
        original: Scores of the recordings themselves, dashed.

    Raises:
        UnsupportedAudio: If no row has a score.
        MissingExtra: If matplotlib is not installed.
    """
    rows = [row for points in curves.values() for row in points]
    names = [name for name in RATE_SCORES if any(row.get(name) is not None for row in rows)]
    if not names:
        raise UnsupportedAudio("There is no score to draw over the bit rate; install a scorer.")
    figure = new_figure(width=4.4 * len(names) + 1.6, height=3.8)
    axes = figure.subplots(1, len(names), squeeze=False).flatten()
    ticker = require("matplotlib.ticker", "Drawing a plot", PLOTS_EXTRA)
    handles: dict[str, Any] = {}
    for axis, name in zip(axes, names, strict=True):
        axis.set_xscale("log")
        for number, (title, points) in enumerate(curves.items()):
            known = [row for row in points if row.get(name) is not None]
            style = {"color": f"C{number % 10}", "linewidth": 1.2 if number else 2.4}
            across = [row for row in known if row.get("bits_per_second") is None]
            for row in across:
                handles[title] = axis.axhline(row[name], linestyle=":", label=title, **style)
            rated = sorted(
                (row["bits_per_second"], row[name]) for row in known if row not in across
            )
            if rated:
                rates, values = zip(*rated, strict=True)
                (handles[title],) = axis.plot(rates, values, marker="o", label=title, **style)
        if original and original.get(name) is not None:
            handles["original"] = axis.axhline(
                original[name], color="grey", linewidth=0.8, linestyle="--", label="original"
            )
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda rate, _: f"{rate / 1000:g}k"))
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.set(title=RATE_SCORES[name], xlabel="bits per second")
        axis.grid(alpha=0.3)
    figure.legend(handles=list(handles.values()), loc="outside right center", fontsize=8)
    save_figure(figure, path)


def _decibels(waveform: Tensor, sampling_rate: int, scale: str) -> Tensor:
    waveform = waveform.detach().cpu().float()
    num_fft, hop = round(0.032 * sampling_rate), max(1, round(0.008 * sampling_rate))
    # more columns than pixels only make a slow picture
    hop = max(hop, math.ceil(len(waveform) / 2000))
    if scale == "mel":
        power = mel_spectrogram(waveform, sampling_rate, 2 * num_fft, hop, _MEL_BANDS)
    else:
        power = power_spectrogram(waveform, num_fft, hop)
    return 10 * power.clamp_min(1e-12).log10()


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure of so many inches.

    Raises:
        MissingExtra: If matplotlib is not installed.
    """
    # Figure without pyplot: no global state, no window, and whatever backend the user set stays
    figure = require("matplotlib.figure", "Drawing a plot", PLOTS_EXTRA).Figure(
        figsize=(width, height), layout="constrained"
    )
    return figure


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as a PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
