"""Figures of a rate report follow from its rows alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from speechlm.errors import UnsupportedAudio
from speechlm.eval.rate_plots import save_rate_curves
from speechlm.eval.rate_tables import (
    coding_rows,
    difference_rows,
    failure_notes,
    quality_rows,
    rate_rows,
)


def row(id_: str, system: str, kind: str, **values: Any) -> dict[str, Any]:
    common = {"seconds": 2.0, "coded_seconds": 2.0, "encode_seconds": 0.1, "decode_seconds": 0.2}
    return {"id": id_, "system": system, "kind": kind, **common, **values}


def sent(id_: str, coder: str, payload: int, **values: Any) -> dict[str, Any]:
    told = {"coder": coder, "num_books": 3, "frames": 100, "chunks": 2, "raw_chunks": 0}
    told |= {"raw_bits": 3000, "payload_bits": payload, "container_bits": 600}
    told |= {"bits": payload + 600, "model_bits": None if coder == "raw" else payload - 20.0}
    told |= {"most_over_model_bits": 12.0, "chunks_within": 2, "stream": coder}
    return row(id_, coder, "sent", **(told | values))


def test_a_rate_is_all_bits_by_all_seconds() -> None:
    items = [sent("a", "raw", 3000), sent("b", "raw", 3000, seconds=6.0, coded_seconds=6.0)]
    items[1] |= {"encode_seconds": 0.7, "decode_seconds": 1.4}
    (found,) = rate_rows(items, {"raw": 0.5})
    assert (found["payload_bits_per_second"], found["container_bits_per_second"]) == (750, 150)
    assert (found["total_bits_per_second"], found["latency_ms"]) == (900, 500)
    assert found["encode_rtf"] == pytest.approx(0.1) and found["decode_rtf"] == pytest.approx(0.2)
    assert rate_rows(items, {"raw": None})[0]["latency_ms"] is None


def test_what_failed_and_what_is_undefined_is_left_out_and_noted() -> None:
    truth = {"errors": 0, "words": 10}
    originals = [
        row(i, "original", "original", **truth | {"errors": n}) for n, i in enumerate("abc")
    ]
    programme = [
        row("a", "P", "baseline", bits=100, pesq=2.0, errors=2, words=10),
        {"id": "b", "system": "P", "kind": "baseline", "failed": "it fell over"},
        row("c", "P", "baseline", bits=100, pesq=None, errors=4, words=10),
    ]
    items = [*originals, *programme, {"id": "a", "system": "Q", "kind": "baseline", "failed": "no"}]
    _, found = quality_rows(items)
    assert (found["system"], found["recordings"], found["pesq"]) == ("P", 2, 2.0)
    assert found["wer"] == pytest.approx(0.3)
    assert found["wer_change"] == pytest.approx(0.2)  # against the originals of a and c alone
    assert found["wer_low"] == 0.2 and found["wer_high"] == 0.4
    notes = failure_notes(items)
    assert notes[0] == "P failed on 1 recordings; on b: it fell over"
    assert notes[1].startswith("Q failed") and "PESQ is undefined in 1 of 2 rows" in notes[2]


def test_a_coder_is_compared_on_the_recordings_that_it_has() -> None:
    items = [sent("a", "raw", 3000), sent("b", "raw", 3000)]
    items += [sent("a", "static", 2000), sent("b", "static", 2400)]
    items += [sent("a", "network", 1500), sent("b", "network", 1800, chunks_within=1)]
    static, network = coding_rows(items, "raw", "static")
    assert static["saved_of_raw_percent"] == pytest.approx(100 * (1 - 4400 / 6000))
    assert network["saved_of_static_percent"] == network["saved_of_static_low"] == 25
    assert network["saved_of_raw_low"] == pytest.approx(40)
    assert network["saved_of_raw_high"] == pytest.approx(50)
    assert network["saved_of_raw_stream_percent"] == pytest.approx(100 * (1 - 4500 / 7200))
    assert network["over_model_percent"] == pytest.approx(100 * 40 / 3260)
    assert (network["over_model_bits_per_chunk"], network["chunks_within"]) == (10, 3)
    alone = coding_rows([items[0], items[4]], "raw", "static")[0]
    assert alone["saved_of_static_percent"] is None and alone["saved_of_raw_low"] is None


def test_differences_are_taken_recording_by_recording() -> None:
    items = [
        sent(i, "raw", 3000, pesq=p, plcmos=3.0, errors=5, words=10)
        for i, p in zip("ab", (1, 3), strict=True)
    ]
    for id_, pesq in zip("ab", (1.5, 3.5), strict=True):
        generated = row(id_, "more", "generated", stream="raw", pesq=pesq, plcmos=None)
        items.append(generated | {"stoi": None, "errors": 4, "words": 10})
    items = [{"stoi": None} | item for item in items]
    (found,) = difference_rows(items, ["absent"])
    assert (found["system"], found["against"]) == ("more", "raw")
    assert (found["pesq_change"], found["pesq_low"], found["pesq_high"]) == (0.5, 0.5, 0.5)
    assert found["plcmos_change"] is found["stoi_change"] is None  # undefined, and not measured
    assert found["wer_change"] == pytest.approx(-0.1)
    items.append(row("b", "P", "baseline", pesq=1.0, plcmos=2.0, errors=9, words=10))
    pairs = {(r["system"], r["against"]): r for r in difference_rows(items, ["P"])}
    assert list(pairs) == [("raw", "P"), ("more", "raw"), ("more", "P")]
    alone = pairs["raw", "P"]  # on b, which is all that P has
    assert (alone["recordings"], alone["pesq_change"], alone["wer_change"]) == (1, 2.0, -0.4)
    assert pairs["more", "P"]["pesq_change"] == 2.5 and alone["pesq_low"] is None


def test_the_picture_shows_each_family_and_its_intervals(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    def point(rate: float | None, pesq: float, **values: Any) -> dict[str, Any]:
        return {"kind": "sent", "bits_per_second": rate, "pesq": pesq, **values}

    ours = [point(1500, 2.0), point(3000, 2.4)]
    theirs = [{**point(6000, 1.9), "kind": "baseline"}]
    pictures = {
        "ours": {"ours": ours},
        "both": {"ours": ours, "theirs": theirs},
        "sure": {"ours": [point(1500, 2.0, pesq_low=1.9, pesq_high=2.2), ours[1]]},
        "heard": {"ours": [row | {"plcmos": 4.0} for row in ours]},
    }
    data = {}
    for name, curves in pictures.items():
        save_rate_curves(tmp_path / name, curves, {"plcmos": 4.4})
        data[name] = (tmp_path / name).read_bytes()
    assert len(set(data.values())) == 4
    widths = {name: int.from_bytes(png[16:20], "big") for name, png in data.items()}
    assert widths["heard"] > 1.4 * widths["ours"] == 1.4 * widths["both"]  # a panel a score
    with pytest.raises(UnsupportedAudio, match="no score"):
        save_rate_curves(tmp_path / "none", {"ours": [point(1500, 0) | {"pesq": None}]})
