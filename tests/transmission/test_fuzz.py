"""Damaged and forged streams end in an error with a name, or in codes with the damage told."""

from __future__ import annotations

import pytest

from speechlm.benchmarks import fuzz_lmc


@pytest.mark.parametrize("with_sound", [False, True])
def test_no_stream_ends_otherwise_than_promised(with_sound: bool) -> None:
    ends = fuzz_lmc.run(60 if with_sound else 300, seed=7, with_sound=with_sound)
    assert set(ends) <= {"CorruptStream", "ModelMismatch", "damage told", "whole"}
    assert ends["damage told"] > sum(ends.values()) / 3


def test_the_cap_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that believed every number would be caught."""
    monkeypatch.setattr("speechlm.transmission.container_reader.MAX_CHUNKS_UNSEEN", 1 << 20)
    with pytest.raises(RuntimeError, match="Stream"):
        fuzz_lmc.run(3000, seed=0)
