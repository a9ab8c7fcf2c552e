"""Probes of a codec whose books are known: book 1 is the phoneme, book 2 the speaker, book 3 noise."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from speechlm.cli import app
from speechlm.data_prep.manifest import Utterance, write_manifest
from speechlm.errors import CorpusError
from speechlm.eval.alignments import (
    SILENCE,
    entropy_bits,
    frame_phonemes,
    mutual_information_bits,
    symbol_phonemes,
)
from speechlm.eval.linear_probe import Examples, fit_probe
from speechlm.eval.probes import evaluate_probes
from speechlm.tokenizer.audio import write_audio
from speechlm.tokenizer.codes import CodecIdentity, Codes

EPOCHS = 15
RATE, HOP, V = 16_000, 160, 12
STEP = 0.05  # of loudness between two sounds; a tenth of it between two speakers
SOUNDS = [None, "a", "e", "i", "o", "t", "s", " "]  # by loudness; None is silence


class Loudness:
    """A codec of 100 frames a second that reads sound and speaker off the loudness of a frame."""

    identity = CodecIdentity("loudness", "0" * 16, RATE, HOP, V, 3, 2)
    quantizer = SimpleNamespace(codebooks=torch.eye(3 * V).view(3, V, 3 * V))

    def tokenize(self, waveforms: list[Tensor]) -> Codes:
        (wave,) = waveforms
        tenths = (wave.view(-1, HOP).mean(1) / STEP * 10).round().long()
        noise = torch.Generator().manual_seed(int(tenths.sum()))
        books = (tenths // 10 - 1, tenths % 10, torch.randint(V, tenths.shape, generator=noise))
        return Codes(torch.stack(books)[None], torch.tensor([len(wave)]), self.identity)

    def encoder(self, waveform: Tensor, mask: Tensor) -> Tensor:
        codes = self.tokenize([waveform[0]]).item(0)
        vectors = [F.embedding(c, self.quantizer.codebooks[b]) for b, c in enumerate(codes)]
        return torch.stack(vectors).sum(0)[None] * mask


def corpus(folder: Path, late_s: float = 0.0, *, durations: bool = True) -> Path:
    """Eight speakers to train on and two held out, ten sentences each, durations late by `late_s`."""
    generator = torch.Generator().manual_seed(0)
    utterances = []
    for speaker in range(10):
        for sentence in range(10):
            drawn = torch.randint(1, len(SOUNDS), (12,), generator=generator).tolist()
            sounds = [0, 1, *drawn, 1, 0]  # no space beside a pause
            frames = torch.randint(3, 8, (len(sounds),), generator=generator)
            frames[0] = 10 + frames[0]
            level = (torch.tensor(sounds) + 1 + speaker / 10) * STEP
            wave = level.repeat_interleave(frames * HOP)
            seconds = (frames / 100).tolist()
            seconds[0] += late_s
            seconds[-1] -= late_s
            name = f"{speaker}-{sentence}"
            write_audio(folder / f"{name}.wav", wave, RATE)
            utterances.append(
                Utterance(
                    id=name,
                    audio=folder / f"{name}.wav",
                    seconds=len(wave) / RATE,
                    text="",
                    speaker=f"s{speaker}",
                    split="valid" if speaker > 7 else "train",
                    phonemes="".join(SOUNDS[sound] or "" for sound in sounds),
                    durations_s=tuple(seconds) if durations else None,
                )
            )
    write_manifest(folder / "manifest.jsonl", utterances)
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on durations that are 25 ms late."""
    folder = tmp_path_factory.mktemp("probes")
    (folder / "in").mkdir()
    codec: Any = Loudness()
    source = corpus(folder / "in", 0.025)
    evaluate_probes(source, folder / "out", codec=codec, seed=1, max_epochs=EPOCHS)
    return folder / "out"


@pytest.fixture(scope="module")
def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def by_input(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["input"], row["form"]): row for row in rows}


def test_phonemes_are_found_in_the_book_that_is_the_phoneme(report: dict[str, Any]) -> None:
    rows = by_input(report["tables"]["phoneme_probe"])
    assert list(rows) == [
        ("book 1", "embedding"),
        ("first 2 books", "embedding"),
        ("all 3 books", "embedding"),
        ("latent", "unquantized"),
        ("book 1", "one-hot"),
    ]
    for row in rows.values():
        assert row["accuracy"] == 1 and row["standard_error"] == 0
        assert row["majority"] < 0.5
    entropy = report["tables"]["books"][0]["phoneme_entropy_bits"]
    assert rows["book 1", "one-hot"]["information_bits"] == pytest.approx(entropy, abs=0.1)


def test_late_durations_are_noticed_and_mended(report: dict[str, Any]) -> None:
    assert report["facts"]["label_lag_s"] == pytest.approx(0.025)
    assert report["facts"]["phoneme_classes"] == 7  # six sounds and silence
    assert report["facts"]["frames_without_phoneme"] > 0  # spaces


def test_each_book_shares_with_the_phonemes_what_it_was_given(report: dict[str, Any]) -> None:
    phoneme, speaker, noise = report["tables"]["books"]
    assert phoneme["phoneme_bits"] == pytest.approx(phoneme["phoneme_entropy_bits"], abs=0.01)
    assert abs(noise["phoneme_bits"]) < 0.02 and abs(speaker["phoneme_bits"]) < 0.05
    assert abs(phoneme["chance_bits"]) < 0.02
    assert [row["kind"] for row in (phoneme, speaker, noise)] == ["masked", "masked", "residual"]
    assert (phoneme["usage"], speaker["usage"]) == (pytest.approx(8 / 12), pytest.approx(10 / 12))
    assert noise["perplexity"] > phoneme["perplexity"]


def test_speakers_are_found_only_with_the_book_that_is_the_speaker(report: dict[str, Any]) -> None:
    rows = by_input(report["tables"]["speaker_probe"])
    alone, both = rows["book 1", "embedding"], rows["first 2 books", "embedding"]
    assert alone["chance"] == pytest.approx(0.1)
    assert alone["accuracy"] < 0.3
    assert both["accuracy"] > 0.95 and rows["latent", "unquantized"]["accuracy"] > 0.8


def test_items_hold_the_answers_of_each_utterance(out: Path, report: dict[str, Any]) -> None:
    items = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    assert len(items) == 100
    held_out = [item for item in items if "frames" in item]
    assert {item["speaker"] for item in held_out} == {"s8", "s9"}
    assert sum(item["frames"] for item in held_out) == report["facts"]["phoneme_test"]["frames"]
    assert all(item["phonemes_right"]["book 1, one-hot"] == item["frames"] for item in held_out)
    alone = by_input(report["tables"]["speaker_probe"])["book 1", "embedding"]["accuracy"]
    right = [item["speaker_right"]["book 1, embedding"] for item in items]
    assert sum(right) / len(right) == pytest.approx(alone)


def test_limit_takes_whole_speakers_and_the_same_ones_again(tmp_path: Path) -> None:
    corpus(tmp_path)
    codec: Any = Loudness()
    first, again = (
        evaluate_probes(
            tmp_path / "manifest.jsonl", tmp_path / str(n), codec=codec, limit=30, max_epochs=3
        )
        for n in range(2)
    )
    assert first["facts"]["utterances"] == 30 and first["facts"]["speakers"] == 3
    assert first["tables"] == again["tables"]


def test_without_durations_only_speakers_are_probed(tmp_path: Path) -> None:
    codec: Any = Loudness()
    found = evaluate_probes(
        corpus(tmp_path, durations=False), tmp_path / "out", codec=codec, limit=30, max_epochs=3
    )
    assert set(found["tables"]) == {"speaker_probe", "books"}
    assert "durations" in found["notes"][0]
    assert "phoneme_bits" not in found["tables"]["books"][0]


def test_a_corpus_without_held_out_speakers_is_refused(tmp_path: Path) -> None:
    manifest = corpus(tmp_path) / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"valid"', '"train"'))
    codec: Any = Loudness()
    with pytest.raises(CorpusError, match="held-out"):
        evaluate_probes(tmp_path, tmp_path / "out", codec=codec)
    result = CliRunner().invoke(app, ["eval", "probes", str(tmp_path), str(tmp_path / "out")])
    assert result.exit_code == 1 and "held-out" in result.stderr
    assert not (tmp_path / "out").exists()


def test_marks_belong_to_sounds_and_spaces_to_pauses() -> None:
    names = symbol_phonemes('"ˈɔː t, k".')
    assert names == [
        *(SILENCE, SILENCE),  # the boundary and the quote beside it
        *("ɔ", "ɔ", "ɔ"),
        *(None, "t"),
        *(SILENCE, SILENCE),  # the comma and the space after it
        "k",
        *(SILENCE, SILENCE, SILENCE),
    ]


def test_frames_take_the_symbol_at_their_centre() -> None:
    seconds = (0.1, 0.05, 0.0, 0.1, 0.0)
    # centres at 20, 60, 100… ms; b has no time, and past the end is the last boundary
    expected = [SILENCE, SILENCE, "a", "a", "c", "c", SILENCE]
    assert frame_phonemes("abc", seconds, 7, 25.0) == expected
    assert frame_phonemes("abc", seconds, 5, 25.0, lag_s=0.08) == expected[2:]
    with pytest.raises(CorpusError, match="5 durations do not fit 2 phonemes"):
        frame_phonemes("ab", seconds, 5, 25.0)


def test_information_of_independent_codes_is_about_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    codes, labels = (torch.randint(n, (20_000,), generator=generator) for n in (64, 40))
    assert abs(mutual_information_bits(codes, labels)) < 0.01  # 0.09 without correction
    assert mutual_information_bits(labels, labels) == pytest.approx(entropy_bits(labels), abs=0.01)
    assert entropy_bits(codes) == pytest.approx(6, abs=0.01)
    assert entropy_bits(torch.zeros(9, dtype=torch.int64)) == 0


@pytest.mark.parametrize("is_one_hot", [True, False])
def test_probe_of_random_codes_stays_at_chance(is_one_hot: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(64, (6000, 1), generator=generator)
    labels = torch.randint(8, (6000,), generator=generator)
    features = codes if is_one_hot else torch.randn(64, 12, generator=generator)[codes[:, 0]]
    every = Examples(features, labels)
    train, dev, test = (every.select(part) for part in torch.arange(6000).chunk(3))
    first, again = (fit_probe(train, dev, 8, codebook_size=64, seed=3) for _ in range(2))
    accuracy = float((first.predict(test.features) == test.labels).float().mean())
    assert abs(accuracy - 1 / 8) < 0.03
    assert first.loss(test) == pytest.approx(math.log(8), abs=0.03)  # the early stop held it back
    assert torch.equal(first.weight, again.weight)
