"""Who trains and who is held out: a function of seed and speaker, so that no speaker is on two sides."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from .output import counted
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
    keys, alone = _keys(recordings)
    given = {r.speaker: split for r, split in reversed(pairs) if split is not None and r.speaker}
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


def split_note(
    recordings: Sequence[Recording],
    splits: Sequence[str],
    valid_share: float,
    pattern: re.Pattern[str] | None = None,
    *,
    test_share: float = 0.0,
    resplit: bool = False,
) -> str:
    """One sentence about what a small corpus, or one with splits of its own, makes of the shares.

    Args:
        recordings: As `assign_splits` took them, with all that follows.
        splits: What it gave.
        valid_share: Share of the speakers that should validate.
        pattern: Finds the names of those who should instead.
        test_share: Share of the speakers that should be kept for tests.
        resplit: Whether no split of the corpus stands.

    Returns:
        What is not as asked, why, and what to set; empty if there is nothing to say.
    """
    shares = {"train": 1.0, "valid": 1.0 if pattern else valid_share, "test": test_share}
    empty = [split for split, share in shares.items() if share > 0 and split not in splits]
    is_given = any(r.split for r in recordings) and not resplit
    keys, alone = _keys(recordings)
    units = counted(len(set(keys)), "recording" if alone else "speaker")
    if empty:
        nothing = f"nothing is in the split {' or '.join(empty)}: "
        if is_given:
            return nothing + "the corpus brings splits of its own; --resplit draws them anew"
        if pattern is not None and "test" not in empty:
            which = "every speaker" if "train" in empty else "no speaker"
            return f"{nothing}--valid-pattern finds {which}; give another pattern, or a share"
        wanted = sum(share > 0 for share in shares.values())
        return (
            f"{nothing}{units} cannot fill {wanted} splits; add some, or set --{empty[-1]}-share 0"
        )
    if is_given or len(set(splits)) == 1:
        return ""
    if pattern is None and 0 < valid_share * len(set(keys)) < 1:
        held = len({key for key, split in zip(keys, splits, strict=True) if split == "valid"})
        other = "" if alone else "--valid-pattern holds out whom you name, "
        return (
            f"{100 * valid_share:g} % of {units} is less than one, so {held} is held out for "
            f"validation; {other}--valid-share 0 nobody"
        )
    if alone:
        return (
            "there is one speaker, or none is known, so recordings are held out and the splits "
            "share a voice; name the speakers to part them"
        )
    return ""


def _keys(recordings: Sequence[Recording]) -> tuple[list[str], bool]:
    """What each recording is drawn by, and whether that is its id for want of two speakers."""
    alone = len({r.speaker for r in recordings}) == 1
    return [r.id if alone or not r.speaker else r.speaker for r in recordings], alone


def _fraction(seed: int, key: str) -> float:
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
