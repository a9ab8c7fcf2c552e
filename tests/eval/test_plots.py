"""Pictures exist, open, and show what they were given."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pytest
import torch

from speechlm.errors import CorpusError, UnsupportedAudio
from speechlm.eval.plots import (
    read_curves,
    save_codebook_usage,
    save_curves,
    save_rate_quality,
    save_spectrograms,
)

pytest.importorskip("matplotlib")
CHIRP = torch.sin(torch.linspace(0, 150, 8000) ** 2 / 5)


def size_of(png: Path) -> tuple[int, int]:
    """Read a PNG to its last byte by its own checksums."""
    data = png.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, kinds = 8, []
    while place < len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        body = data[place + 4 : place + 8 + length]
        assert zlib.crc32(body) == struct.unpack(">I", data[place + 8 + length :][:4])[0]
        kinds.append(kind)
        place += 12 + length
    assert kinds[0] == b"IHDR" and kinds[-1] == b"IEND"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@pytest.mark.parametrize("scale", ["linear", "mel"])
def test_spectrograms_stand_side_by_side(tmp_path: Path, scale: str) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    save_spectrograms(one, {"original": (CHIRP, 16_000)}, scale)
    save_spectrograms(two, {"original": (CHIRP, 16_000), "decoded": (CHIRP, 24_000)}, scale)
    assert size_of(two)[0] > 1.5 * size_of(one)[0]
    assert size_of(two)[1] == size_of(one)[1]


def test_a_spectrogram_shows_its_sound(tmp_path: Path) -> None:
    save_spectrograms(tmp_path / "a.png", {"x": (CHIRP, 16_000)})
    save_spectrograms(tmp_path / "b.png", {"x": (CHIRP, 16_000)})
    save_spectrograms(tmp_path / "c.png", {"x": (CHIRP.flip(0), 16_000)})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()


def test_silence_and_one_sample_can_be_drawn(tmp_path: Path) -> None:
    sounds = {"silence": (torch.zeros(4000), 16_000), "click": (torch.ones(1), 16_000)}
    save_spectrograms(tmp_path / "a.png", sounds)
    assert size_of(tmp_path / "a.png")[0] > 0
    with pytest.raises(UnsupportedAudio, match="not empty"):
        save_spectrograms(tmp_path / "b.png", {"nothing": (torch.zeros(0), 16_000)})


def test_curves_are_read_from_a_run_that_was_killed_and_resumed(tmp_path: Path) -> None:
    rows = [{"step": s, "train/loss": 9.0 - s, "note": "text"} for s in (1, 2, 3, 2, 3)]
    rows.append({"step": 3, "split": "valid", "loss": 1.5})
    lines = [json.dumps(row) for row in rows]
    lines.insert(3, '{"step": 4, "train/loss": NaN}')
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(lines) + '\n{"step": 5, "tra')
    curves = read_curves(path)
    assert curves["train/loss"] == [(1, 8.0), (2, 7.0), (3, 6.0)]
    assert curves["valid/loss"] == [(3, 1.5)] and len(curves) == 2
    save_curves(tmp_path / "curves.png", path)
    assert size_of(tmp_path / "curves.png")[0] > 0


def test_damaged_metrics_are_refused_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2}\nnonsense\n{"step": 3, "loss": 2}\n')
    with pytest.raises(CorpusError, match=r"metrics\.jsonl, line 2"):
        read_curves(path)
    with pytest.raises(CorpusError, match="does not exist"):
        read_curves(tmp_path / "absent.jsonl")
    with pytest.raises(CorpusError, match="no curves"):
        save_curves(tmp_path / "a.png", {})


def test_codebook_usage_is_drawn_and_refuses_a_book_without_codes(tmp_path: Path) -> None:
    counts = torch.randint(0, 9, (4, 64), generator=torch.Generator().manual_seed(0))
    save_codebook_usage(tmp_path / "a.png", counts, num_masked_books=3)
    assert size_of(tmp_path / "a.png")[0] > 0
    counts[2] = 0
    with pytest.raises(UnsupportedAudio, match="no codes"):
        save_codebook_usage(tmp_path / "a.png", counts)


def test_rate_quality_has_a_panel_a_score_and_shows_every_system(tmp_path: Path) -> None:
    ours = [{"bits_per_second": 1000 * n, "pesq": 1 + 0.2 * n, "stoi": None} for n in (3, 1, 2)]
    one, two, three = (tmp_path / f"{n}.png" for n in range(3))
    save_rate_quality(one, {"ours": ours})
    save_rate_quality(two, {"ours": ours, "peer": [{"bits_per_second": None, "pesq": 2.5}]})
    assert size_of(one) == size_of(two)
    assert one.read_bytes() != two.read_bytes()
    rated = [row | {"mos": 3.0} for row in ours]
    save_rate_quality(three, {"ours": rated}, {"pesq": None, "mos": 4.2})
    assert size_of(three)[0] > 1.5 * size_of(one)[0]
    with pytest.raises(UnsupportedAudio, match="no score"):
        save_rate_quality(one, {"ours": [{"bits_per_second": 1000, "pesq": None}]})
