"""A small corpus of self-made signals, prepared and tokenized once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_codecs import TINY, tiny_codec, voice

from speechlm.data_prep.prepare import prepare_corpus
from speechlm.data_prep.tokenize import tokenize_manifest
from speechlm.tokenizer.audio import write_audio


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of six speakers, four utterances each, with phonemes and durations; one speaker held out."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for speaker in range(6):
        for number in range(4):
            name = f"s{speaker}-{number}"
            num_samples = 12_000 + 1600 * number
            write_audio(
                folder / f"{name}.wav", voice(num_samples, 110 + 20 * speaker, number), 16_000
            )
            rows.append(
                {
                    "id": name,
                    "speaker": f"s{speaker}",
                    "split": "valid" if speaker == 5 else "train",
                    "text": "aba",
                    "audio": f"{name}.wav",
                    "phonemes": "aba",
                    "durations_s": [num_samples / 16_000 / 5] * 5,
                }
            )
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = folder / "prepared"
    prepare_corpus(folder / "list.jsonl", out, progress=False)
    return out / "manifest.jsonl"


@pytest.fixture(scope="session")
def shards(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus as tokens of an untrained codec."""
    out = tmp_path_factory.mktemp("shards")
    tokenize_manifest(corpus, out, codec=tiny_codec(), progress=False)
    return out


@pytest.fixture
def codec_config(corpus: Path, tmp_path: Path) -> Path:
    """A codec recipe of twelve steps."""
    raw = {
        "model": TINY,
        "data": [{"manifest": str(corpus)}],
        "cache": str(tmp_path / "packs"),
        "crop_seconds": 0.2,
        "batch_seconds": 0.8,
        "continuous_steps": 4,
        "validation_items": 2,
        "run": {
            "total_steps": 12,
            "log_every": 1,
            "validate_every": 6,
            "checkpoint_every": 5,
            "warmup_steps": 2,
            "num_threads": 1,
            "precision": "fp32",
        },
    }
    path = tmp_path / "codec.yaml"
    path.write_text(json.dumps(raw))  # JSON is YAML
    return path


@pytest.fixture
def adversarial_config(codec_config: Path, tmp_path: Path) -> Path:
    """The same with small discriminators of every family, from step 6 on."""
    raw = json.loads(codec_config.read_text())
    names = ("light", "mpd", "mrd", "mbstft")
    raw["adversarial"] = {
        # least squares: under hinge, biases see the same slope from both sides until logits pass 1
        "discriminators": [
            {"family": name, "channels": 2, "weight": 0.1, "loss": "lsgan"} for name in names
        ],
        "start_step": 6,
        "ramp_steps": 3,
        "warmup_steps": 2,
        "every_steps": 2,
        "weight_decay": 0.0,
    }
    path = tmp_path / "adversarial.yaml"
    path.write_text(json.dumps(raw))
    return path


@pytest.fixture
def slm_config(shards: Path, tmp_path: Path) -> Path:
    """An AR recipe of eight steps."""
    raw = {
        "stage": "ar",
        "model": {
            "hidden_size": 32,
            "num_layers": 1,
            "num_heads": 2,
            "ffn_size": 48,
            "ar_books": 3,
        },
        "shards": [str(shards)],
        "batch_frames": 600,
        "prompt_seconds": [0.2, 0.4],
        "run": {
            "total_steps": 8,
            "log_every": 1,
            "validate_every": 4,
            "checkpoint_every": 3,
            "warmup_steps": 2,
            "num_threads": 1,
            "precision": "fp32",
        },
    }
    path = tmp_path / "slm.yaml"
    path.write_text(json.dumps(raw))
    return path
