"""Faults of speech are found where they are, and only there."""

from __future__ import annotations

import pytest
import torch

from speechlm.eval.faults import SoundSpan, WordRuns, find_faults, sound_span, word_runs
from speechlm.eval.speech_tables import MODEL, fault_rows

RATE = 16_000
TEXT = "the quick brown fox jumps over the lazy dog today"
WHOLE = SoundSpan(0.1, 2.0, 0.2)


def sound(seconds: float, level: float = 0.1) -> torch.Tensor:
    samples = round(seconds * RATE)
    return level * torch.sin(torch.arange(samples) * 0.3)


@pytest.mark.parametrize(
    ("heard", "runs"),
    [
        (TEXT, (0, 0, 0)),
        ("The quick, brown fox jumps over the lazy dog. Today!", (0, 0, 0)),
        ("the quick brown fox the lazy dog today", (0, 2, 0)),
        ("the quick fox over the lazy dog today", (0, 1, 0)),
        ("the fox jumps over the lazy dog today", (0, 2, 0)),
        ("the quick brown fox today", (0, 5, 0)),
        ("the quick brown fox jumps over", (0, 4, 4)),
        (TEXT + " today today today", (3, 0, 0)),
        ("the quick brown fox brown fox brown fox jumps over the lazy dog today", (4, 0, 0)),
        ("", (0, 10, 10)),
        # a substitution amid a gap: which word it stands for, nobody knows
        ("the quick brown socks dog today", (0, 4, 0)),
    ],
)
def test_runs_of_words(heard: str, runs: tuple[int, int, int]) -> None:
    assert word_runs(TEXT, heard) == WordRuns(*runs)


def test_letters_written_together_are_not_skipped() -> None:
    assert word_runs(
        "send the U S B stick and the X Y Z disk", "send the USB stick and the XYZ disk"
    )
    runs = word_runs("the letters are W, X, Y, Z today", "the letters are WXYZ today")
    assert runs == WordRuns(0, 0, 0)
    assert word_runs("...", "hello") is None


def test_where_a_recording_sounds() -> None:
    silence = torch.zeros(RATE)
    span = sound_span(torch.cat((silence, sound(0.5), silence, silence, sound(0.5), silence)), RATE)
    assert span.start_s == pytest.approx(1, abs=0.021)
    assert span.end_s == pytest.approx(4, abs=0.021)
    assert span.longest_gap_s == pytest.approx(2, abs=0.041)
    for nothing in (torch.zeros(0), silence, sound(1.0, 1e-4)):
        assert sound_span(nothing, RATE).seconds == 0


@pytest.mark.parametrize(
    ("heard", "span", "reason", "faults"),
    [
        (TEXT, WHOLE, "end", []),
        (None, WHOLE, "end", []),
        (TEXT, WHOLE, "length", ["never_stop"]),
        (TEXT, SoundSpan(0, 9, 2.5), "end", ["silence"]),
        ("the quick brown fox", WHOLE, "end", ["skip", "early_stop"]),
        (TEXT + " " + TEXT, WHOLE, None, ["loop"]),
        ("", SoundSpan(0, 0, 0), "failed", ["failed", "empty", "skip", "early_stop"]),
    ],
)
def test_faults_have_names(
    heard: str | None, span: SoundSpan, reason: str | None, faults: list[str]
) -> None:
    assert find_faults(TEXT, heard, span, reason) == faults


def test_what_needs_ears_is_no_zero_without_them() -> None:
    """Nobody heard these sentences: how many skip words is not known."""
    unheard = {"system": MODEL, "heard": None, "faults": ["silence"], "protocol": ""}
    (row,) = fault_rows([unheard, {**unheard, "faults": []}])
    assert row["silence"] == 1 and row["never_stop"] == 0
    assert row["loop"] is row["skip"] is row["early_stop"] is None
    (row,) = fault_rows([unheard, {**unheard, "faults": ["skip"], "heard": "a word"}])
    assert row["skip"] == 1 and row["loop"] == 0
