"""Training the decoder alone: what was tokenized before must stay valid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_codecs import voice

from speechlm.errors import ConfigError
from speechlm.tokenizer.codec import CodecModel, load_codec
from speechlm.train.export import export_run
from speechlm.train.run import run_training


@pytest.fixture
def before(codec_config: Path, tmp_path: Path) -> Path:
    """A codec folder with codebooks, in half precision as codecs ship."""
    run = run_training("codec", codec_config, ["run.total_steps=6"], tmp_path / "first")
    export_run(run, tmp_path / "before")
    return tmp_path / "before"


@pytest.fixture
def after(before: Path, codec_config: Path, tmp_path: Path) -> Path:
    """The same after steps of its decoder."""
    overrides = ["trains=decoder", "model={}", "run.total_steps=10"]
    run = run_training("codec", codec_config, overrides, tmp_path / "second", str(before))
    export_run(run, tmp_path / "after")
    return tmp_path / "after"


def test_codes_and_their_identity_stay_and_the_sound_changes(before: Path, after: Path) -> None:
    old, new = load_codec(before), load_codec(after)
    signal = voice(9000, 140, 3)
    codes = old.tokenize([signal])
    again = new.tokenize([signal])
    assert torch.equal(codes.values, again.values)
    assert codes.identity == again.identity
    decoded = new.synthesize(codes)[0]  # the old codec's codes are taken
    assert not torch.equal(decoded, old.synthesize(codes)[0])


def test_a_later_run_of_the_decoder_keeps_the_first_revision(
    before: Path, after: Path, codec_config: Path, tmp_path: Path
) -> None:
    overrides = ["trains=decoder", "model={}", "run.total_steps=2"]
    run = run_training("codec", codec_config, overrides, tmp_path / "third", str(after))
    export_run(run, tmp_path / "again")
    assert load_codec(tmp_path / "again").identity == load_codec(before).identity


@pytest.mark.parametrize("part", ["encoder", "quantizer"])
def test_weights_that_make_other_codes_have_a_revision_of_their_own(after: Path, part: str) -> None:
    codec: CodecModel = load_codec(after)
    kept = codec.identity
    with torch.no_grad():
        tensors = (
            codec.quantizer.codebooks if part == "quantizer" else next(codec.encoder.parameters())
        )
        tensors.mul_(1.01)
    codec.eval()  # which drops the cached hash
    assert codec.identity != kept


def test_training_all_of_it_again_gives_another_revision(
    before: Path, after: Path, codec_config: Path, tmp_path: Path
) -> None:
    run = run_training(
        "codec", codec_config, ["model={}", "run.total_steps=2"], tmp_path / "whole", str(after)
    )
    export_run(run, tmp_path / "whole-export")
    assert load_codec(tmp_path / "whole-export").identity != load_codec(before).identity


def test_frozen_codebooks_ignore_what_falls_to_them(after: Path) -> None:
    codec = load_codec(after)
    codec.freeze_codes()
    codec.train()
    kept = codec.quantizer.codebooks.clone()
    out = codec(torch.randn(2, 3200))
    out.audio_values.square().mean().backward()
    assert torch.equal(codec.quantizer.codebooks, kept)
    assert all(p.grad is None for p in codec.encoder.parameters())
    assert any(p.grad is not None for p in codec.decoder.parameters())


def test_a_decoder_without_codebooks_is_refused(codec_config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="codebooks are set; give --from"):
        run_training("codec", codec_config, ["trains=decoder"], tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_runs_of_before_go_on_without_the_new_keys(codec_config: Path, tmp_path: Path) -> None:
    run = run_training("codec", codec_config, ["run.total_steps=2"], tmp_path / "run")
    for name, keys in (
        ("config.json", ["trains"]),
        ("model.json", ["codes_revision", "codes_fingerprint"]),
    ):
        raw = json.loads((run / name).read_text())
        for key in keys:
            del raw[key]
        (run / name).write_text(json.dumps(raw))
    run_training("codec", codec_config, ["run.total_steps=3"], run)
    export_run(run, tmp_path / "out")
    assert load_codec(tmp_path / "out").identity.revision
