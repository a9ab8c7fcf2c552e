"""How lists are drawn from held-out speech: whose turn it is, and where an utterance is cut."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from voice_manifest import manifest_of

from speechlm.data_prep.manifest import Utterance, write_manifest
from speechlm.errors import ConfigError, CorpusError
from speechlm.eval.listing import read_listing
from speechlm.eval.protocols import make_list
from speechlm.tokenizer.audio import write_audio

RATE = 16_000


def test_a_cloning_list_takes_turns_over_held_out_voices(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    drawn = make_list(manifest, tmp_path / "list.jsonl", count=6, seed=3)
    assert len(drawn) == 6
    assert sorted({s.speaker for s in drawn[:3]}) == ["s1", "s2", "s3"]
    assert len({s.text for s in drawn}) == 6
    for sentence in drawn:
        assert sentence.reference is not None
        assert sentence.prompt != sentence.reference
        assert sentence.prompt.stem[:2] == sentence.reference.stem[:2] == sentence.speaker
        assert sentence.reference.stem == sentence.id


def test_a_cloning_list_reads_back_and_repeats_by_its_seed(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    drawn = make_list(manifest, tmp_path / "a.jsonl", seed=1)
    make_list(manifest, tmp_path / "b.jsonl", seed=1)
    make_list(manifest, tmp_path / "c.jsonl", seed=2)
    texts = [(tmp_path / f"{name}.jsonl").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]
    assert read_listing(tmp_path / "a.jsonl") == drawn
    assert len(drawn) == 9  # fewer than asked: all that is there
    assert str(tmp_path) not in texts[0]  # the list can move with its recordings


def test_no_voice_to_prompt_with_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no speaker in the split valid"):
        make_list(manifest_of(tmp_path, each=1), tmp_path / "list.jsonl")


def words_of_noise(path: Path, bursts: list[tuple[float, float]], seconds: float) -> Path:
    """Noise where somebody speaks, silence between."""
    noise = 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(0))
    waveform = torch.zeros_like(noise)
    for start, end in bursts:
        part = slice(round(start * RATE), round(end * RATE))
        waveform[part] = noise[part]
    write_audio(path, waveform, RATE)
    return path


def test_the_cut_falls_into_the_longest_pause(tmp_path: Path) -> None:
    """Four letters a word, 0.1 s each; spaces last 0.1 s, and 0.5 s after the comma."""
    text = "aaaa bbbb cccc dddd, eeee ffff gggg hhhh iiii"
    durations = [0.3]
    durations += [{" ": 0.1, ",": 0.5}.get(letter, 0.1) for letter in text]
    durations.append(0.3)
    pause = 0.3 + 4 * 4 * 0.1 + 3 * 0.1
    audio = words_of_noise(tmp_path / "a.wav", [(0.3, pause), (pause + 0.6, 5.0)], sum(durations))
    utterance = Utterance(
        "a", audio, sum(durations), text, "s", "valid", text, durations_s=durations
    )
    write_manifest(tmp_path / "manifest.jsonl", [utterance])
    (drawn,) = make_list(tmp_path / "manifest.jsonl", tmp_path / "list.jsonl", protocol="continual")
    assert drawn.prompt_text == "aaaa bbbb cccc dddd," and drawn.text == text[21:]
    assert drawn.prompt == drawn.reference == audio
    assert drawn.cut_s is not None and pause < drawn.cut_s < pause + 0.6
    assert read_listing(tmp_path / "list.jsonl") == [drawn]


class Ears:
    """Hears one sentence whatever sounds, and remembers how long it listened."""

    name = "ears"

    def __init__(self, heard: str) -> None:
        self.heard = heard
        self.seconds = 0.0

    def transcribe(self, waveform: Tensor, sampling_rate: int) -> str:
        self.seconds = len(waveform) / sampling_rate
        return self.heard


@pytest.mark.parametrize(
    ("heard", "prompt_text"),
    [("On the 4th we saw", "On the fourth we saw"), ("On the forth we saw", None), ("", None)],
)
def test_without_durations_the_cut_is_where_the_words_are_heard(
    tmp_path: Path, heard: str, prompt_text: str | None
) -> None:
    audio = words_of_noise(tmp_path / "a.wav", [(0.2, 2.8), (3.1, 6.0)], 6.2)
    text = "On the fourth we saw nothing but sand and water."
    write_manifest(tmp_path / "m.jsonl", [Utterance("a", audio, 6.2, text, "s", "valid")])
    ears = Ears(heard)
    options = {"protocol": "continual", "recognizer": ears}
    if prompt_text is None:
        with pytest.raises(CorpusError, match="cut between two words"):
            make_list(tmp_path / "m.jsonl", tmp_path / "list.jsonl", **options)
        return
    (drawn,) = make_list(tmp_path / "m.jsonl", tmp_path / "list.jsonl", **options)
    assert (drawn.prompt_text, drawn.text) == (prompt_text, "nothing but sand and water.")
    assert 2.8 < ears.seconds < 3.1 and drawn.cut_s == pytest.approx(ears.seconds, abs=1e-3)


def test_an_unknown_protocol_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cross, continual, hard"):
        make_list(manifest_of(tmp_path), tmp_path / "list.jsonl", protocol="crss")
