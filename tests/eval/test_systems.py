"""Another system's files find their recordings, and come back at their rate, length and moment."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from speechlm.data_prep.readers import Recording
from speechlm.errors import ConfigError, CorpusError
from speechlm.eval.systems import folder_systems
from speechlm.tokenizer.audio import resample, write_audio

RATE = 16_000


def wave(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 1, 1500, generator=generator)
    return 0.1 * torch.nn.functional.interpolate(coarse, RATE, mode="linear")[0, 0]


def recording(root: Path, below: str, name: str | None = None) -> Recording:
    return Recording(name or Path(below).stem, root / below, None, "")


def test_files_of_another_rate_and_delay_come_back_under_their_original(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    late = torch.nn.functional.pad(resample(wave(1), RATE, 24_000), (600, 0))
    write_audio(tmp_path / "other" / "a.flac", late[:-2000], 24_000)
    (system,) = folder_systems(tmp_path, [f"peer={tmp_path / 'other'}"], ["peer=3000"])
    decoded = system.transmit(recording(tmp_path, "in/a.wav"), wave(1), RATE)
    assert decoded is not None
    assert decoded.bits / decoded.seconds == 3000
    assert decoded.waveform.shape == (RATE,)
    kept = slice(0, RATE - 2000)
    assert float((decoded.waveform - wave(1))[kept].norm() / wave(1)[kept].norm()) < 0.05
    assert "as given, not measured" in system.notes[0]


def test_a_path_decides_before_a_name_and_a_doubled_name_decides_nothing(tmp_path: Path) -> None:
    root, other = tmp_path / "in", tmp_path / "out"
    for number, below in enumerate(["x/a.wav", "y/a.wav", "b.wav"]):
        (other / below).parent.mkdir(parents=True, exist_ok=True)
        write_audio(other / below, wave(number), RATE)
    root.mkdir()
    (system,) = folder_systems(root, [f"peer={other}"])

    def found(below: str, name: str | None = None) -> int | None:
        decoded = system.transmit(recording(root, below, name), wave(0), RATE)
        if decoded is None:
            return None
        near = [float((decoded.waveform - wave(n)).abs().mean()) for n in range(3)]
        return near.index(min(near)) if min(near) < 0.01 else -1

    assert found("x/a.flac") == 0
    assert found("z/a.flac") is None
    assert found("z/b.flac") is not None
    assert found("z/other.flac", name="b") is not None
    assert found("z/c.flac") is None
    (note,) = system.notes
    assert "peer has no file for a, c;" in note
    assert system.transmit(recording(root, "x/a.wav"), wave(0), RATE).bits is None


def test_files_of_another_length_are_pointed_out(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", wave(0).repeat(2), RATE)
    (system,) = folder_systems(tmp_path, [f"peer={tmp_path}"])
    assert system.transmit(recording(tmp_path, "a.wav"), wave(0), RATE) is not None
    assert "differs in length" in system.notes[0]


@pytest.mark.parametrize(
    ("against", "rates", "sentence"),
    [
        (["peer"], [], "write it as NAME="),
        (["=folder"], [], "write it as NAME="),
        (["a=.", "a=."], [], "names a twice"),
        (["a=."], ["b=3000"], "names b, which no --against names"),
        (["a=."], ["a=fast"], "give bits per second"),
        (["a=."], ["a=-1"], "give bits per second"),
        (["a=."], ["a=nan"], "give bits per second"),
    ],
)
def test_wrong_requests_are_one_sentence(
    tmp_path: Path, against: list[str], rates: list[str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        folder_systems(tmp_path, against, rates)


def test_a_folder_without_audio_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CorpusError, match="holds no audio to judge as peer"):
            folder_systems(tmp_path, [f"peer={folder}"])
