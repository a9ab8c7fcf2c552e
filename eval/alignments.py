"""Which phoneme a codec frame holds: symbol durations -> one label a frame."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import CorpusError

SILENCE = "silence"
_STRESS = "ˈˌ"
_PAUSES = ";:,.!?—…"
# Length marks, aspiration, diacritics: they say more of the sign before them
_MODIFIERS = ("Lm", "Mn", "Sk")


def symbol_phonemes(phonemes: str) -> list[str | None]:
    """Name the sound under every symbol of an utterance, both boundaries included.

    The synthesizers' durations give marks a time of their own, which is the time of a sound: a
    stress mark counts with the sound that follows, a length mark with the one before. Boundaries
    and pause marks are silence, and so are spaces and quotation marks beside them. A space inside
    running speech is no sound and no pause: its time lies somewhere in the two words' transition.

    Args:
        phonemes: One character a symbol, without the boundaries.

    Returns:
        `len(phonemes) + 2` names: a phoneme (one character), `SILENCE`, or None for symbols whose
        time belongs to no phoneme.
    """
    names: list[str | None] = [SILENCE, *(_sound(character) for character in phonemes), SILENCE]
    for index in range(len(phonemes), 0, -1):  # from the end: two stress marks take one sound
        if phonemes[index - 1] in _STRESS:
            names[index] = names[index + 1]
    for index in range(1, len(names) - 1):
        if unicodedata.category(phonemes[index - 1]) in _MODIFIERS:
            if phonemes[index - 1] not in _STRESS:
                names[index] = names[index - 1]
    for step in (1, -1):  # a pause spreads over the spaces and quotes on both of its sides
        order = range(len(names))[::step]
        for before, index in pairwise(order):
            if names[index] is None and names[before] == SILENCE:
                names[index] = SILENCE
    return names


def frame_phonemes(
    phonemes: str,
    durations_s: Sequence[float],
    num_frames: int,
    frame_rate_hz: float,
    lag_s: float = 0.0,
) -> list[str | None]:
    """Name the phoneme at the centre of every frame.

    Unlike `durations_to_frames`, which gives each symbol a frame for a model to point at, this
    moves nothing: a symbol in which no frame has its centre labels none.

    Args:
        phonemes: As in a manifest.
        durations_s: Seconds of each symbol, boundaries included: `len(phonemes) + 2` numbers.
        num_frames: T; frames past the last symbol's end get its name.
        frame_rate_hz: Frames per second.
        lag_s: Seconds by which the durations run behind the frames; a negative number if ahead.

    Returns:
        T names as of `symbol_phonemes`.

    Raises:
        CorpusError: If the durations do not fit the phonemes.
    """
    names = symbol_phonemes(phonemes)
    if len(durations_s) != len(names):
        raise CorpusError(
            f"{len(durations_s)} durations do not fit {len(phonemes)} phonemes and two "
            "boundaries; run `speechlm prepare` again."
        )
    ends = torch.tensor(durations_s, dtype=torch.float64).cumsum(0)
    centres = (torch.arange(num_frames, dtype=torch.float64) + 0.5) / frame_rate_hz + lag_s
    symbols = torch.searchsorted(ends, centres, right=True).clamp(max=len(names) - 1)
    return [names[index] for index in symbols.tolist()]


def mutual_information_bits(first: Tensor, second: Tensor) -> float:
    """Mutual information of two sequences of integers, in bits.

    From counts, each of the three entropies with Miller and Madow's first-order correction of the
    bias (Miller 1955: (cells in use - 1) / (2 N) nats). Frames that follow each other are alike, so
    there are fewer independent ones than N, and some upward bias remains: compare with the value
    for labels of other utterances.

    Args:
        first, second: int64 `[N]`, not negative.
    """
    pairs = first * (int(second.max()) + 1) + second if len(second) else first
    return entropy_bits(first) + entropy_bits(second) - entropy_bits(pairs)


def entropy_bits(values: Tensor) -> float:
    """Entropy of int64 `[N]` from counts, Miller-Madow corrected, in bits."""
    if not len(values):
        return 0.0
    counts = torch.unique(values, return_counts=True)[1].double()
    share = counts / counts.sum()
    nats = torch.special.entr(share).sum() + (len(counts) - 1) / (2 * counts.sum())
    return float(nats / torch.log(torch.tensor(2.0, dtype=torch.float64)))


def _sound(character: str) -> str | None:
    if character in _PAUSES:
        return SILENCE
    # Punctuation, symbols and separators; marks are renamed by what they mark
    return None if unicodedata.category(character)[0] in "PZS" else character
