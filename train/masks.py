"""What training hides from the masked model: frames as links lose them, and the worlds of packets.

Everything is a function of the generator that is handed over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

_CUT = 0.25  # share of looks that end before or begin after some frame
_BURSTS = 0.5  # share of looks whose losses come in bursts
_LONGEST_BURST = 6
_ORPHANS = 0.15  # share of looks in which fine codes outlive their base codes
_HOLES = 0.25  # share of packets that may lack earlier frames
_HOLE = 0.4  # share of such frames


@dataclass(frozen=True)
class Look:
    """What the model is shown of a piece of T frames, and what it is asked.

    Attributes:
        is_known, is_told, is_counted: bool `[K, T]`, as in `MaskedModel.forward`.
        segments: int64 `[T]`, as there.
    """

    is_known: Mask
    is_told: Mask
    is_counted: Mask
    segments: NDArray[np.int64]


def lossy_look(
    chance: np.random.Generator, num_given: int, num_levels: int, num_frames: int
) -> Look:
    """A receiver's look: some frames lost, fine codes of others too; whatever is lost is asked for.

    The share of lost frames is sin(pi u / 2), u uniform: mostly heavy, as in SoundSpring.
    """
    is_lost = _losses(chance, num_frames)
    levels = np.full(num_frames, num_levels)
    kind = chance.random()
    if kind < 0.3:  # a sender that adapts its rate
        levels[:] = chance.integers(0, num_levels + 1)
    elif kind < 0.6:  # fine codes that are lost on their own
        levels = chance.integers(0, num_levels + 1, num_frames)
    if chance.random() >= _ORPHANS:
        levels = np.where(is_lost, 0, levels)
    is_base = np.broadcast_to(~is_lost, (num_given, num_frames))
    is_known = np.concatenate((is_base, np.arange(num_levels)[:, None] < levels))
    segments = np.zeros(num_frames, dtype=np.int64)
    if chance.random() < _CUT:
        segments[chance.integers(0, num_frames + 1) :] = 1
    return Look(is_known, is_known, ~is_known, segments)


def packet_look(
    chance: np.random.Generator, num_given: int, num_levels: int, num_frames: int, most: int
) -> Look:
    """A coder's look: packets of 1 to `most` frames, of which the base is known; fine codes are asked for."""
    is_base = np.ones(num_frames, dtype=bool)
    segments = np.zeros(num_frames, dtype=np.int64)
    first = number = 0
    while first < num_frames:
        # the larger of two draws: a packet of one frame is rare
        length = int(chance.integers(1, most + 1, 2).max())
        end = min(num_frames, first + length)
        segments[first:end] = number
        if chance.random() < _HOLES:
            # the packet's own frames, which come last, are always there
            own = max(first, end - int(chance.integers(1, 3)))
            is_base[first:own] = chance.random(len(is_base[first:own])) >= _HOLE
        first, number = end, number + 1
    is_known = np.zeros((num_given + num_levels, num_frames), dtype=bool)
    is_known[:num_given] = is_base
    is_counted = np.zeros_like(is_known)
    is_counted[num_given:] = is_base
    return Look(is_known, np.ones_like(is_known), is_counted, segments)


def _losses(chance: np.random.Generator, num_frames: int) -> Mask:
    share = math.sin(math.pi * chance.random() / 2)
    if chance.random() >= _BURSTS:
        is_lost = chance.random(num_frames) < share
    else:
        is_lost = np.zeros(num_frames, dtype=bool)
        while is_lost.sum() < share * num_frames:
            first = int(chance.integers(0, num_frames))
            is_lost[first : first + int(chance.integers(1, _LONGEST_BURST + 1))] = True
    if not is_lost.any():
        is_lost[chance.integers(0, num_frames)] = True
    return is_lost
