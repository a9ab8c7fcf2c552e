"""Who trains and who is held out: a function of seed and speaker, so that no speaker is on two sides."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from .readers.entry import Recording


def assign_splits(
    recordings: Sequence[Recording],
    valid_share: float,
    seed: int,
    pattern: re.Pattern[str] | None = None,
    *,
    test_share: float = 0.0,
    resplit: bool = False,
) -> list[str]:
    """Choose a split for each recording so that no speaker is in two, unless the corpus says so.

    A given split stands, and the speaker's other recordings follow it. Otherwise the hash of seed
    and speaker decides, so that a grown corpus keeps its split. With a single speaker, or unknown
    ones, the recording's id takes the speaker's place.

    Args:
        recordings: Accepted entries; only id, speaker and split are looked at.
        valid_share: Share of the speakers that validate.
        seed: Another one, another choice.
        pattern: Speakers whose name it finds validate instead.
        test_share: Share of the speakers that are kept for tests.
        resplit: Let no given split stand.
    """
    splits = [None if resplit else r.split for r in recordings]
    pairs = list(zip(recordings, splits, strict=True))
    given = {r.speaker: split for r, split in reversed(pairs) if split is not None and r.speaker}
    alone = len({r.speaker for r in recordings}) == 1
    keys = [r.id if alone or not r.speaker else r.speaker for r in recordings]
    free = {
        key: _fraction(seed, key)
        for key, (r, split) in zip(keys, pairs, strict=True)
        if split is None and (alone or r.speaker not in given)
    }
    whole = len(free) == len(set(keys))  # the corpus brought no split: it must get every side
    if pattern is not None:
        named = {k: r.speaker for k, r in zip(keys, recordings, strict=True) if k in free}
        valid = {key for key, speaker in named.items() if pattern.search(speaker)}
        test = {k for k in set(free) - valid if free[k] < test_share}
    else:
        valid = {key for key, fraction in free.items() if fraction < valid_share}
        test = {k for k, f in free.items() if valid_share <= f < valid_share + test_share}
        order = sorted(free, key=lambda key: (free[key], key))
        if whole and valid_share > 0 and len(order) > 1:
            valid = (valid or {order[0]}) - {order[-1]}
        if whole and test_share > 0 and len(order) > 2:
            test = (test - valid or {next(k for k in order if k not in valid)}) - {order[-1]}
    chosen = dict.fromkeys(test, "test") | dict.fromkeys(valid, "valid")
    return [
        split or (None if alone else given.get(r.speaker)) or chosen.get(key, "train")
        for key, (r, split) in zip(keys, pairs, strict=True)
    ]


def _fraction(seed: int, key: str) -> float:
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
