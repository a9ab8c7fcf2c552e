"""A scorer that is not installed is one sentence that names the command to install it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from speechlm.errors import MissingExtra
from speechlm.eval import recognizer, similarity
from speechlm.eval.metrics import pesq_wideband, stoi
from speechlm.eval.mos import DistillMos
from speechlm.eval.pitch import pitch_track
from speechlm.eval.plcmos import PlcMos
from speechlm.eval.plots import save_spectrograms
from speechlm.eval.recognizer import Recognizer
from speechlm.eval.scorers import FidelityScorer, Scorers
from speechlm.eval.similarity import SpeakerEncoder
from speechlm.eval.transcripts import score_transcripts

WAVE = torch.sin(torch.arange(8000) / 20)
USES: list[tuple[str, str, Callable[[], object]]] = [
    ("pesq", "[eval]", lambda: pesq_wideband(WAVE, WAVE, 16_000)),
    ("pystoi", "[eval]", lambda: stoi(WAVE, WAVE, 16_000)),
    ("jiwer", "[eval]", lambda: score_transcripts(["a"], ["a"])),
    ("faster_whisper", "[eval]", Recognizer.find),
    (
        "matplotlib.figure",
        "[plots]",
        lambda: save_spectrograms(Path("x"), {"a": (WAVE, 9)}),
    ),
    ("webrtcvad", "make scorers", SpeakerEncoder),
    ("xls_r_sqa", "make scorers", DistillMos),
    ("distillmos", "make scorers", DistillMos),
    ("speechmos.plcmos", "[eval]", PlcMos),
    ("onnxruntime", "[eval]", PlcMos),
    ("pyworld", "[pitch]", lambda: pitch_track(WAVE, 16_000)),
]


@pytest.mark.parametrize(("module", "command", "use"), USES)
def test_a_missing_package_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, module: str, command: str, use: Callable[[], object]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra) as raised:
        use()
    assert command in str(raised.value)
    assert module.partition(".")[0] in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_scorers_are_notes_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    monkeypatch.setitem(sys.modules, "webrtcvad", None)
    monkeypatch.setitem(sys.modules, "distillmos", None)
    monkeypatch.setitem(sys.modules, "xls_r_sqa", None)
    scorers = Scorers.installed(quality=True)
    assert scorers.recognizer is None and scorers.encoder is None and scorers.quality is None
    words = zip(("jiwer", "webrtcvad", "MOS"), scorers.notes, strict=True)
    assert all(word in note for word, note in words)
    assert scorers.hear(WAVE, 16_000) is None and scorers.voice(WAVE, 16_000) is None
    assert scorers.opinion(WAVE, 16_000) is None


def test_a_missing_score_is_a_gap_and_is_noted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    monkeypatch.setitem(sys.modules, "pyworld", None)
    fidelity = FidelityScorer()
    rows = [fidelity.score(WAVE, WAVE, 16_000) for _ in range(2)]
    assert [row["pesq"] for row in rows] == [None, None]
    assert rows[0]["mel_distance"] == 0
    assert [row["vuv_f1"] for row in rows] == [None, None]
    for package in ("pesq", "pyworld"):
        assert sum(package in note for note in fidelity.notes) == 1


def test_no_weights_are_a_sentence_not_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognizer, "_package_folder", lambda name: None)
    with pytest.raises(MissingExtra, match="make scorers"):
        recognizer.installed_weights()


def test_the_stand_in_for_librosa_does_not_outlive_the_import() -> None:
    if "librosa" in sys.modules or similarity.find_spec("librosa"):
        pytest.skip("librosa is installed, so nothing stands in for it")
    with similarity._librosa_stand_in():
        mel = sys.modules["librosa"].feature.melspectrogram(
            y=WAVE.numpy(), sr=16_000, n_fft=400, hop_length=160, n_mels=40
        )
    assert mel.shape == (40, 51)
    assert "librosa" not in sys.modules
