"""What a language model reads: pieces, or phonemes of any alphabet, from corpus to speech."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_codecs import tiny_codec, voice

from speechlm.data_prep.prepare import prepare_corpus
from speechlm.data_prep.text_model import train_text_model
from speechlm.data_prep.tokenize import tokenize_manifest
from speechlm.errors import ConfigError, ModelMismatch, UnsupportedText
from speechlm.slm.pieces import PieceTokenizer
from speechlm.slm.speak import Speaker
from speechlm.slm.text import NO_TEXT, SPECIALS, GivenPhonemes
from speechlm.tokenizer.audio import write_audio
from speechlm.tokenizer.model_folder import save_model
from speechlm.train.batches import Draw
from speechlm.train.config import LanguageModelTraining, read_run_config
from speechlm.train.export import export_run
from speechlm.train.run import run_training
from speechlm.train.slm import LanguageModelTask

TEXTS = ["the old man sat by 2 fires", "an old fire by the sea", "the man and the sea sat still"]
FOREIGN = ["ʁɨβ", "βɨʁʁ", "ɨβʁɨ"]  # a language that no front end here knows
PIECES = 300


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two corpora of four speakers, one with text alone and one with phonemes alone, and a codec."""
    folder = tmp_path_factory.mktemp("written")
    found = {"codec": folder / "codec"}
    save_model(tiny_codec(), found["codec"], "float32")
    for kind in ("text", "phonemes"):
        corpus = folder / kind
        corpus.mkdir()
        rows = []
        for speaker in range(4):
            for number in range(3):
                name = f"s{speaker}-{number}"
                samples = 9600 + 1600 * number
                write_audio(corpus / f"{name}.wav", voice(samples, 110 + 20 * speaker), 16_000)
                row: dict[str, Any] = {"id": name, "audio": f"{name}.wav", "speaker": f"s{speaker}"}
                row["split"] = "valid" if speaker == 3 else "train"
                row["text"] = TEXTS[number] if kind == "text" else ""
                if kind == "phonemes":
                    row["phonemes"] = FOREIGN[number]
                    size = len(FOREIGN[number]) + 2
                    row["durations_s"] = [samples / 16_000 / size] * size
                rows.append(row)
        (corpus / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
        prepare_corpus(
            corpus / "list.jsonl", corpus / "out", progress=False, require_text=kind == "text"
        )
        found[kind] = corpus / "out" / "manifest.jsonl"
        found[f"{kind} shards"] = corpus / "shards"
        tokenize_manifest(
            found[kind], corpus / "shards", codec=tiny_codec(), progress=False, num_books=None
        )
    train_text_model(found["text"], folder / "pieces", PIECES, "bpe")
    found["pieces"] = folder / "pieces"
    return found


@pytest.fixture
def recipe(written: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """A recipe of four steps on one of the corpora."""

    def write(kind: str, **model: object) -> Path:
        sizes = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "ffn_size": 48, "ar_books": 3}
        run = {"total_steps": 4, "validate_every": 4, "checkpoint_every": 2, "num_threads": 1}
        raw = {
            "stage": "ar",
            "model": sizes | model,
            "shards": [str(written[f"{kind} shards"])],
            "batch_frames": 600,
            "prompt_seconds": [0.2, 0.7],
            "run": run | {"precision": "fp32"},
        }
        path = tmp_path / f"{kind}.yaml"
        path.write_text(json.dumps(raw))
        return path

    return write


def test_pieces_go_from_training_to_speech_without_a_front_end(
    written: dict[str, Path],
    recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = recipe("text", text_model=str(written["pieces"]))
    folder = tmp_path / "model"
    for stage in ("ar", "nar"):
        run = run_training("slm", config, [f"stage={stage}"], tmp_path / stage)
        run_training("slm", config, [f"stage={stage}", "run.total_steps=5"], tmp_path / stage)
        export_run(run, folder / stage)
    save_model(tiny_codec(), folder / "codec", "float32")
    monkeypatch.setattr("speechlm.slm.speak.default_front_end", None)  # nobody may call it
    speaker = Speaker.from_pretrained(folder, precision="fp32")
    pieces = PieceTokenizer.load(written["pieces"])
    text = "the man sat by 2 seas 日本"
    assert speaker.encode(text).tolist() == pieces.encode(text)
    prompt = speaker.prepare_voice(voice(16_000))
    speech = speaker.say(text, prompt, max_seconds=0.4, seed=1)
    again = Speaker.from_pretrained(folder, precision="fp32").say(
        text, voice(16_000), max_seconds=0.4, seed=1
    )
    assert 0 < speech.seconds <= 0.4 and speech.notes == [prompt.note]
    assert torch.equal(speech.waveform, again.waveform)
    with pytest.raises(UnsupportedText):
        speaker.say("...", voice(16_000))
    with pytest.raises(ConfigError, match="no front end"):
        Speaker.from_pretrained(folder, front_end=GivenPhonemes())


def test_a_pair_with_different_pieces_is_refused(
    written: dict[str, Path], recipe: Callable[..., Path], tmp_path: Path
) -> None:
    train_text_model(written["text"], tmp_path / "other", PIECES, "bpe", is_english=False)
    models = []
    for stage, pieces in (("ar", written["pieces"]), ("nar", tmp_path / "other")):
        config = recipe("text", text_model=str(pieces))
        settings = read_run_config(config, [f"stage={stage}"], LanguageModelTraining)
        models.append(LanguageModelTask(settings).model)
    speaker = Speaker(tiny_codec(), *models)
    with pytest.raises(ModelMismatch, match="differ in symbols"):
        speaker.say("the sea", voice(16_000), max_seconds=0.1)


def test_pieces_and_the_pointer_alignment_do_not_go_together(
    written: dict[str, Path], recipe: Callable[..., Path]
) -> None:
    config = recipe("text", text_model=str(written["pieces"]), alignment="pointer")
    with pytest.raises(ConfigError, match="prefix"):
        LanguageModelTask(read_run_config(config, [], LanguageModelTraining))


def test_a_prompt_with_unknown_timing_keeps_its_text_only_whole(
    written: dict[str, Path], recipe: Callable[..., Path]
) -> None:
    config = recipe("text", text_model=str(written["pieces"]))
    task = LanguageModelTask(read_run_config(config, [], LanguageModelTraining))
    with_text = 0
    for seed in range(40):
        row = task.rows[seed % len(task.rows)]
        example = task.item(Draw(seed % len(task.rows), seed))
        target = task.symbols.encode(row.text)
        prompt = example.symbols[: len(example.symbols) - len(target)].tolist()
        assert example.symbols.tolist() == prompt + target
        if prompt == [NO_TEXT]:
            continue
        with_text += 1
        (whole,) = {
            o.id: o
            for o in task.rows
            if task.symbols.encode(o.text) == prompt
            and o.num_frames == example.prompt_frames
            and o.speaker == row.speaker
        }.values()
        assert torch.equal(example.codes[:, : example.prompt_frames], whole.codes)
    assert 5 < with_text < 35


def test_phonemes_of_the_corpus_need_no_extra_from_shards_to_speech(
    written: dict[str, Path],
    recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No espeak anywhere: the table is that of the data, and the phonemes to speak are given."""
    real = builtins.__import__

    def without_espeak(name: str, *rest: Any) -> Any:
        if name.startswith(("phonemizer", "espeakng_loader")):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_espeak)
    with pytest.raises(ConfigError, match=r"model\.symbols to `corpus`"):
        LanguageModelTask(read_run_config(recipe("phonemes"), [], LanguageModelTraining))
    config = recipe("phonemes", symbols="corpus", ar_books=6)
    run = run_training("slm", config, [], tmp_path / "run")
    export_run(run, tmp_path / "model" / "ar")
    save_model(tiny_codec(), tmp_path / "model" / "codec", "float32")
    speaker = Speaker.from_pretrained(tmp_path / "model", front_end=GivenPhonemes())
    assert speaker.ar.config.symbols == [*SPECIALS, *sorted({*"".join(FOREIGN)})]
    assert speaker.say("βɨʁ", voice(16_000), max_seconds=0.4).seconds > 0
    with pytest.raises(UnsupportedText, match="'k'"):
        speaker.say("βɨk", voice(16_000))
