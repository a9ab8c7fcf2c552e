"""Symbol durations in seconds -> whole codec frames."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


def durations_to_frames(
    durations_s: Sequence[float], num_frames: int, frame_rate_hz: float
) -> list[int]:
    """Give every symbol its frames, at least one each.

    The boundaries between symbols are moved to whole frames so that the sum of the squared moves is
    the least possible. With one frame taken off every symbol, what is asked for is the nearest
    non-decreasing whole-number sequence between 0 and `num_frames - S`; the pool-adjacent-violators
    algorithm finds it (Ayer et al. 1955), and clipping and rounding keep it optimal.

    Args:
        durations_s: S durations; what lies past the last frame is cut, what is missing goes to the
            last symbol.
        num_frames: T.
        frame_rate_hz: Frames per second.

    Returns:
        S counts whose sum is `num_frames`, or an empty list if there are fewer frames than symbols
        (such an utterance has no alignment).
    """
    symbols = len(durations_s)
    if symbols == 0 or num_frames < symbols:
        return []
    spare = num_frames - symbols
    targets, end = [], 0.0
    for index, duration in enumerate(durations_s[:-1]):
        end += duration * frame_rate_hz
        targets.append(min(end, float(num_frames)) - (index + 1))
    bounds = [min(max(round(level), 0), spare) for level in _non_decreasing(targets)]
    edges = [0, *(bound + index + 1 for index, bound in enumerate(bounds)), num_frames]
    return [after - before for before, after in pairwise(edges)]


def _non_decreasing(targets: Sequence[float]) -> list[float]:
    """Isotonic regression: the non-decreasing sequence nearest to `targets` in squares."""
    blocks: list[tuple[float, int]] = []  # (sum, size) of runs that share one level
    for target in targets:
        total, size = target, 1
        while blocks and blocks[-1][0] * size > total * blocks[-1][1]:
            before, count = blocks.pop()
            total, size = total + before, size + count
        blocks.append((total, size))
    return [total / size for total, size in blocks for _ in range(size)]
