"""Reports change what is sent: up at once, down slowly."""

from __future__ import annotations

from itertools import pairwise

import pytest

from speechlm.errors import ConfigError
from speechlm.transmission.link.profile import PROFILES
from speechlm.transmission.link.reports import Adaptation, ReceiverReport, ladder_of


def report(loss: float = 0.0, jitter: float = 0.0) -> ReceiverReport:
    return ReceiverReport(loss, 0, jitter)


def test_copies_follow_the_loss() -> None:
    adaptation = Adaptation()
    assert adaptation.push(report()) == PROFILES["default"]
    assert adaptation.push(report(0.1)) == PROFILES["redundant-10"]
    for _ in range(3):
        last = adaptation.push(report(0.4))
    assert last == PROFILES["redundant-30"]
    rungs = [adaptation.push(report()) for _ in range(30)]
    assert rungs[0] == PROFILES["redundant-30"] and rungs[-1] == PROFILES["default"]
    assert 5 <= rungs.index(PROFILES["redundant-10"]) <= rungs.index(PROFILES["default"]) - 5


def test_loss_about_a_bound_does_not_flutter() -> None:
    adaptation = Adaptation()
    profiles = [adaptation.push(report(loss)) for loss in [0.04, 0.025] * 40]
    changes = sum(a != b for a, b in pairwise(profiles))
    assert changes <= 1


def test_levels_follow_a_queue() -> None:
    adaptation = Adaptation(num_levels=3)
    assert adaptation.push(report()).fine_levels == 3
    levels = [adaptation.push(report(jitter=0.2)).fine_levels for _ in range(4)]
    assert levels == [2, 1, 1, 1]
    steady = [adaptation.push(report(jitter=0.05)).fine_levels for _ in range(20)]
    assert set(steady) == {1}  # neither bad nor good
    calm = [adaptation.push(report(jitter=0.01)).fine_levels for _ in range(12)]
    assert calm[3] == 1 and calm[5] == 2 and calm[-1] == 3


def test_rungs_of_the_ladder_share_what_a_stream_cannot_change() -> None:
    grids = {
        (p.chunk_frames, p.interleave, p.is_layered, p.playout_frames)
        for p in (PROFILES[n] for n in ("default", "redundant-10", "redundant-30"))
    }
    assert len(grids) == 1


def test_any_profile_has_a_ladder() -> None:
    assert ladder_of(PROFILES["default"]) == (
        PROFILES["default"],
        PROFILES["redundant-10"],
        PROFILES["redundant-30"],
    )
    assert [p.fine_offsets for p in ladder_of(PROFILES["low-delay"])] == [(), (1,), (1,)]


def test_bounds_must_fit_the_ladder() -> None:
    with pytest.raises(ConfigError):
        Adaptation(bounds=(0.1,))
    with pytest.raises(ConfigError):
        Adaptation(bounds=(0.2, 0.1))
