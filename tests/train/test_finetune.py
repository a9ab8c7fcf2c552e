"""`finetune`: one call from recordings to a folder that speaks, which goes on, and refuses early."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_codecs import tiny_codec, voice
from tiny_speaker import SIZES, Letters

from speechlm.data_prep.readers import Recording
from speechlm.data_prep.shards import TokenShards
from speechlm.errors import ConfigError, CorpusError, MissingExtra, ModelMismatch, SpeechLMError
from speechlm.slm.aligner import AlignerConfig, AlignerModel
from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.slm.config import AutoregressiveConfig
from speechlm.slm.speak import Speaker
from speechlm.tokenizer.audio import write_audio
from speechlm.tokenizer.model_folder import load_model, save_model
from speechlm.train.finetune import FineTuning
from speechlm.train.finetune_stages import fine_tune

QUICK = (
    "batch_frames=600",
    "prompt_seconds=[0.2, 0.4]",
    "run.num_threads=1",
    "run.precision=fp32",
    "run.log_every=1",
    "run.validate_every=2",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of untrained models that belong together, the aligner in it too."""
    folder = tmp_path_factory.mktemp("models")
    codec = tiny_codec()
    torch.manual_seed(0)
    save_model(codec, folder / "codec", "float32")
    sizes = {**SIZES, "ar_books": 6}
    ar = AutoregressiveModel(AutoregressiveConfig.for_codec(codec.identity, **sizes))
    save_model(ar, folder / "ar", "float32")
    symbols = {"symbols": SIZES["symbols"], "hidden_size": 16, "num_layers": 1}
    aligner = AlignerModel(AlignerConfig.for_codec(codec.identity, **symbols))
    save_model(aligner, folder / "aligner", "float32")
    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve recordings of two speakers, a folder each, with transcripts beside them."""
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(12):
        name = folder / f"speaker{number % 2}" / f"take{number}.wav"
        name.parent.mkdir(exist_ok=True)
        write_audio(name, voice(16_000 + 800 * number, 110 + 60 * (number % 2), number), 16_000)
        name.with_suffix(".txt").write_text(f"a word {'abcdefghijkl'[number]}")
    return folder


@pytest.fixture
def tune(models: Path) -> Callable[..., list[str]]:
    """A call of `fine_tune`, with the lines that it told."""

    def call(plan: FineTuning, min_seconds: float = 5.0) -> list[str]:
        told: list[str] = []
        asked = replace(
            plan,
            overrides=(*QUICK, *plan.overrides),
            start_from=plan.start_from or models,
            aligner=plan.aligner or models / "aligner",
        )
        fine_tune(
            asked,
            front_end=Letters(),
            min_seconds=min_seconds,
            min_margin=-99.0,  # an untrained aligner tells no text from another
            tell=told.append,
            progress=False,
        )
        return told

    return call


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / "ar", AutoregressiveModel).state_dict()


@pytest.mark.parametrize("lora", [False, True])
def test_what_comes_out_speaks_and_has_learned(
    tune: Callable[..., list[str]], models: Path, recordings: Path, tmp_path: Path, lora: bool
) -> None:
    if lora:
        pytest.importorskip("peft")
    told = tune(FineTuning(str(recordings), tmp_path / "out", lora, steps=2))
    assert [line for line in told if line[0] != " "] == [
        f"1 of 5: prepare {recordings}",
        "2 of 5: tokenize with the codec speechlm-16khz-50hz",
        "3 of 5: align phonemes with frames",
        next(line for line in told if line.startswith("4 of 5: train")),
        f"5 of 5: export to {tmp_path / 'out'}",
    ]
    assert any("12 recordings, 0 rejected" in line for line in told)
    assert any("12 aligned, 0 refused" in line for line in told)
    assert any("held-out loss" in line and " at step 0, " in line for line in told)
    before, after = weights(models), weights(tmp_path / "out")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert (tmp_path / "out" / "ar" / "adapter").is_dir() == lora
    speaker = Speaker.from_pretrained(tmp_path / "out", front_end=Letters(), precision="fp32")
    speech = speaker.say("a b.", prompt=recordings / "speaker0" / "take10.wav")
    assert len(speech.waveform) > 0


def test_every_voice_is_trained_on_and_validated_by_recordings(
    tune: Callable[..., list[str]], recordings: Path, tmp_path: Path
) -> None:
    tune(FineTuning(str(recordings), tmp_path / "out", steps=1))
    train = TokenShards(tmp_path / "out" / "work" / "tokens", split="train")
    valid = TokenShards(tmp_path / "out" / "work" / "tokens", split="valid")
    assert set(train.speakers) == {"speaker0", "speaker1"}
    assert 1 <= len(valid) <= 4 and len(train) + len(valid) == 12


def test_recordings_of_nobody_are_one_persons(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for path in recordings.glob("*/*"):
        (tmp_path / "flat" / path.name).symlink_to(path)
    entries = list(FineTuning(str(tmp_path / "flat"), tmp_path / "out").entries())
    assert len(entries) == 12
    assert len({entry.speaker for entry in entries if isinstance(entry, Recording)} - {""}) == 1
    named = list(FineTuning(str(recordings), tmp_path / "out").entries())
    assert {entry.speaker for entry in named if isinstance(entry, Recording)} == {
        "speaker0",
        "speaker1",
    }


def test_a_second_call_goes_on_and_other_settings_begin_anew(
    tune: Callable[..., list[str]], recordings: Path, tmp_path: Path
) -> None:
    plan = FineTuning(str(recordings), tmp_path / "out", steps=2)
    tune(plan)
    first = weights(plan.out)
    (run,) = plan.work.glob("ar-finetune-*")
    shards = {path: path.stat().st_mtime_ns for path in plan.work.glob("*/*.parquet")}
    tune(plan)
    assert all(torch.equal(value, first[name]) for name, value in weights(plan.out).items())
    told = tune(replace(plan, steps=4))
    assert any("at step 4; " in line and line.endswith("which is exported") for line in told)
    assert {path: path.stat().st_mtime_ns for path in plan.work.glob("*/*.parquet")} == shards
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["split"] == "train"] == [1, 2, 3, 4]
    assert list(plan.work.glob("ar-finetune-*")) == [run]
    told = tune(replace(plan, overrides=("run.learning_rate=1.0e-3", "run.keep_best=false")))
    assert any(line.endswith("at step 2, which is exported") for line in told)
    assert len(list(plan.work.glob("ar-finetune-*"))) == 2


def test_too_little_speech_is_refused_before_training(
    tune: Callable[..., list[str]], recordings: Path, tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match="at least 60 s"):
        tune(FineTuning(str(recordings), tmp_path / "out"), min_seconds=60.0)
    assert not (tmp_path / "out" / "work" / "unaligned").exists()


def test_models_that_no_aligner_ships_for_are_named(
    models: Path, recordings: Path, tmp_path: Path
) -> None:
    plan = FineTuning(str(recordings), tmp_path / "out", start_from=models)
    with pytest.raises(ModelMismatch, match="train one with `speechlm train aligner`"):
        fine_tune(plan, front_end=Letters(), progress=False)
    assert not (tmp_path / "out").exists()


def test_a_missing_espeak_is_told_first(
    models: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "phonemizer.backend", None)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingExtra, match="phonemes"):
        fine_tune(FineTuning(str(recordings), tmp_path / "out"), progress=False)
    assert not (tmp_path / "out").exists()


def test_a_missing_peft_is_told_first(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra, match="peft"):
        FineTuning(str(recordings), tmp_path / "out", lora=True).check()


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"recordings": "none"}, CorpusError, "none does not exist"),
        ({"recordings": "silent"}, CorpusError, "holds 1 recording without a transcript"),
        ({"recordings": "empty"}, CorpusError, "holds no recording with a transcript"),
        ({"out": Path("file")}, ConfigError, "is a file"),
        ({"out": Path("recordings/out")}, ConfigError, "lies in the folder of the recordings"),
        ({"start_from": Path("none")}, SpeechLMError, "no model folder none"),
        ({"aligner": Path("none")}, SpeechLMError, "no model folder none"),
        ({"overrides": ("run.steps=3",)}, ConfigError, "run.steps"),
        ({"overrides": ("stage=nar",)}, ConfigError, "the autoregressive model"),
    ],
)
def test_mistakes_are_told_in_one_sentence_and_leave_nothing(
    change: dict[str, object],
    kind: type[SpeechLMError],
    sentence: str,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").symlink_to(recordings)
    (tmp_path / "silent").mkdir()
    write_audio(tmp_path / "silent" / "a.wav", voice(16_000), 16_000)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    there = sorted(tmp_path.iterdir())
    plan = replace(FineTuning("recordings", Path("out")), **change)  # type: ignore[arg-type]
    with pytest.raises(kind, match=sentence) as told:
        plan.check()
    assert "\n" not in str(told.value)
    assert sorted(tmp_path.iterdir()) == there


def test_few_recordings_are_gone_over_thirty_times_at_the_most() -> None:
    plan = FineTuning("recordings", Path("out"))
    batch = plan.settings().batch_frames
    assert plan.paced(batch).steps == 30 and plan.paced(batch // 2).steps == 15
    assert plan.paced(100 * batch).steps == plan.settings().run.total_steps
    for asked in (replace(plan, steps=90), replace(plan, overrides=("run.total_steps=90",))):
        assert asked.paced(batch) == asked


def test_a_check_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from speechlm.errors import CorpusError;"
        "from speechlm.train.finetune import FineTuning\n"
        f"try: FineTuning({str(tmp_path)!r}, Path('out')).check()\n"
        "except CorpusError: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
