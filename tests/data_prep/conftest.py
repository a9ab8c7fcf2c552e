"""Recordings and a codec small enough to know by heart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from speechlm.data_prep.manifest import Utterance, write_manifest
from speechlm.tokenizer.codes import CodecIdentity, Codes

RATE = 8000


class LevelCodec:
    """A codec whose book k holds each frame's level, counted from k, which is easily worked out."""

    def __init__(self, revision: str = "0" * 16) -> None:
        self.identity = CodecIdentity("level", revision, RATE, 80, 64, 4, 2)

    def tokenize(self, waveforms: Sequence[Tensor], num_books: int | None = None) -> Codes:
        hop, size = self.identity.hop_length, self.identity.codebook_size
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        frames = (lengths + hop - 1) // hop
        books = num_books or self.identity.num_codebooks
        values = torch.zeros(len(waveforms), books, int(frames.max()), dtype=torch.int64)
        for item, waveform in enumerate(waveforms):
            padded = torch.nn.functional.pad(
                waveform.abs(), (0, int(frames[item]) * hop - len(waveform))
            )
            level = (padded.view(-1, hop).mean(1) * 1000).long()
            for book in range(books):
                values[item, book, : len(level)] = (level + book) % size
        return Codes(values, lengths, self.identity)


def write_tone(
    path: Path,
    seconds: float,
    pitch_hz: float = 200.0,
    rate: int = RATE,
    amplitude: float = 0.3,
    text: str | None = None,
) -> None:
    """A vowel-like sum of harmonics, swelling so that no two frames are alike, with its text."""
    time = np.arange(round(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * pitch_hz * k * time) / k for k in range(1, 6))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, amplitude * np.linspace(0.2, 1, len(time)) * wave / 2, rate)
    if text is not None:
        path.with_suffix(".txt").write_text(text, encoding="utf-8")


def read_content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def codec() -> LevelCodec:
    return LevelCodec()


@pytest.fixture
def tone() -> Callable[..., None]:
    return write_tone


@pytest.fixture
def content() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder."""
    return read_content


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twelve utterances of 0.5 to 1.05 s by four speakers, the first with phonemes."""
    utterances = []
    for index in range(12):
        audio = tmp_path / "wavs" / f"u{index:02d}.wav"
        seconds = 0.5 + 0.05 * index
        write_tone(audio, seconds, 120 + 10 * index)
        utterances.append(
            Utterance(
                id=f"u{index:02d}",
                audio=audio,
                seconds=seconds,
                text=f"sentence {index}",
                speaker=f"s{index % 4}",
                split="valid" if index % 4 == 3 else "train",
                phonemes="hˈaɪ" if index == 0 else None,
                durations_s=(0.1, 0.05, 0.05, 0.1, 0.1, 0.1) if index == 0 else None,
            )
        )
    write_manifest(tmp_path / "manifest.jsonl", utterances)
    return tmp_path / "manifest.jsonl"
