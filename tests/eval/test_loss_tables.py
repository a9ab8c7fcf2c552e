"""Means over recordings, falls and differences of a loss report, from rows made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from speechlm.eval.loss_tables import difference_rows, fall_rows, quality_rows

OPUS = {"kind": "Opus", "has_copies": True}


def row(system: str, loss: str, pesq: float, recording: str = "a", **more: Any) -> dict[str, Any]:
    ours = {"kind": "ours", "profile": "default", "concealment": "model", "is_hung": False}
    common = {"id": recording, "seconds": 2.0, "latency_ms": 140.0, "plcmos": pesq}
    return {**ours, **common, "system": system, "loss": loss, "pesq": pesq, **more}


def test_a_recording_counts_once_however_many_seeds_it_had() -> None:
    items = [row("x", "0.1", 1.0), row("x", "0.1", 3.0), row("x", "0.1", 4.0, "b")]
    (found,) = quality_rows(items)
    assert found["pesq"] == pytest.approx(3.0)
    assert found["recordings"] == 2
    assert found["pesq_low"] <= 3.0 <= found["pesq_high"]


def test_falls_are_taken_over_rising_shares() -> None:
    scores = {"0.1": 2.5, "wlan": 9.0, "0": 3.0, "0.3": 2.6}
    items = [row("x", loss, pesq) for loss, pesq in scores.items()]
    (found,) = fall_rows(items, list(scores))
    assert found["pesq_fall_at_0.1"] == pytest.approx(0.5)
    assert found["pesq_fall_at_0.3"] == pytest.approx(0.4)
    assert found["pesq_falls_always"] is False
    items[3] = row("x", "0.3", 2.4)
    (found,) = fall_rows(items, list(scores))
    assert found["pesq_falls_always"] is True


def test_the_best_of_other_codecs_may_not_be_slower() -> None:
    items = [
        row("default, model", "0.1", 3.0),
        row("Opus 20 ms, FEC", "0.1", 2.0, **OPUS, latency_ms=46.5),
        row("Opus 40 ms, FEC", "0.1", 2.2, **OPUS, latency_ms=86.5),
        row("Opus 120 ms, FEC", "0.1", 2.9, **OPUS, latency_ms=246.5),
    ]
    (found,) = difference_rows(items)
    assert found["against"] == "Opus 40 ms, FEC"
    assert found["plcmos_change"] == pytest.approx(0.8)


def test_differences_are_between_ways_through_the_same_packets() -> None:
    items = [
        row("default, model", "0.1", 3.0),
        row("default, model", "0.1", 2.0, "b"),
        row("default, repeat", "0.1", 2.5, concealment="repeat"),
        row("default, model, hung", "0.1", 1.5, is_hung=True),
        row("lean, repeat", "0.1", 1.0, profile="lean", concealment="repeat"),
        row("default, silence", "0.3", 1.0, concealment="silence"),
    ]
    found = {each["against"]: each["pesq_change"] for each in difference_rows(items)}
    assert found == {
        "default, repeat": pytest.approx(0.5),
        "default, model, hung": pytest.approx(1.5),
    }
