"""How near a masked model comes to what was lost, beside what costs nothing: repeating, or leaving out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..transmission.masked_model import MaskedModel

_PLACES = 2  # gaps in an utterance
_BATCH = 128


def gap_figures(
    model: MaskedModel, signals: Sequence[Tensor], gap: int, codebooks: Tensor | None = None
) -> dict[str, float]:
    """Figures of gaps of `gap` whole frames, every lost frame looked at from its own place.

    Args:
        model: In evaluation mode.
        signals: Codes int64 `[K, T]`; those shorter than a look and a gap have no part.
        gap: Frames lost in a row; all others are known.
        codebooks: float `[K, V, C]`, the codec's; None measures no latents.

    Returns:
        `gap_g_hits`, the share of base codes that are the likeliest; with codebooks `gap_g_error` and
        `gap_g_repeated_error`, squared errors over the variance of the latents. Empty without a signal
        that is long enough.
    """
    looks, truths, repeated = [], [], []
    past, future = model.config.past_frames, model.config.future_frames
    for codes in signals:
        for start in _starts(codes, past + 1, gap + future):
            heard = codes.clone()
            heard[:, start : start + gap] = -1
            for place in range(start, start + gap):
                looks.append(heard[:, place - past : place + future + 1])
                truths.append(codes[:, place])
                repeated.append(codes[:, start - 1])
    if not looks:
        return {}
    given, true = torch.stack(looks).to(model.device), torch.stack(truths).to(model.device)
    found = {f"gap_{gap}_hits": _base_hits(model, given, true)}
    if codebooks is not None:
        books = codebooks.to(model.device)
        guesses = _latents(model, given, books)
        wanted = _decoded(true, books)
        found[f"gap_{gap}_error"] = _error(guesses, wanted)
        last = _decoded(torch.stack(repeated).to(model.device), books)
        found[f"gap_{gap}_repeated_error"] = _error(last, wanted)
    return found


def fine_figures(
    model: MaskedModel, signals: Sequence[Tensor], codebooks: Tensor
) -> dict[str, float]:
    """Figures of single frames whose base came and whose fine codes did not; arguments as above.

    Returns:
        `fine_error` of the mean of the missing entries, `no_fine_error` of leaving them out.
    """
    past, future = model.config.past_frames, model.config.future_frames
    looks, truths = [], []
    for codes in signals:
        for place in _starts(codes, past, 1 + future):
            look = codes[:, place - past : place + future + 1].clone()
            look[model.num_given :, past] = -1
            looks.append(look)
            truths.append(codes[:, place])
    if not looks:
        return {}
    given, true = torch.stack(looks).to(model.device), torch.stack(truths).to(model.device)
    books = codebooks.to(model.device)
    wanted, base = _decoded(true, books), _decoded(true[:, : model.num_given], books)
    guesses = _latents(model, given, books)
    return {"fine_error": _error(guesses, wanted), "no_fine_error": _error(base, wanted)}


def _starts(codes: Tensor, before: int, behind: int) -> list[int]:
    """Places of a signal with so many frames before them and, themselves included, behind them."""
    last = codes.shape[1] - behind
    if last < before:
        return []
    spread = torch.linspace(before, last, _PLACES + 2)[1:-1]
    return spread.round().long().tolist()


def _in_batches(run: Callable[[Tensor, Tensor], Tensor], looks: Tensor, true: Tensor) -> Tensor:
    parts = zip(looks.split(_BATCH), true.split(_BATCH), strict=True)
    return torch.cat([run(look, truth) for look, truth in parts])


def _base_hits(model: MaskedModel, looks: Tensor, true: Tensor) -> float:
    place, given = model.config.past_frames, model.num_given

    def hits(look: Tensor, truth: Tensor) -> Tensor:
        codes = look.clone()
        codes[:, :, place] = truth
        is_known = look >= 0
        is_counted = torch.zeros_like(is_known)
        is_counted[:, :given, place] = True
        segments = torch.zeros_like(codes[:, 0])
        out = model(codes.clamp(min=0), is_known, is_known, is_counted, segments)
        found: Tensor = out.hits[:, :given, place]
        return found

    return float(_in_batches(hits, looks, true).float().mean())


def _latents(model: MaskedModel, looks: Tensor, books: Tensor) -> Tensor:
    place = model.config.past_frames

    def mean(look: Tensor, _: Tensor) -> Tensor:
        return model.mean_latents(look, torch.full((len(look),), place, device=look.device), books)

    return _in_batches(mean, looks, looks)


def _decoded(codes: Tensor, books: Tensor) -> Tensor:
    """Latents of int64 `[N, k]`."""
    return torch.stack([books[book, row] for book, row in enumerate(codes.T)]).sum(0)


def _error(guesses: Tensor, wanted: Tensor) -> float:
    variance = (wanted - wanted.mean(0)).square().sum()
    return float((guesses - wanted).square().sum() / variance)
