"""What `--dry-run` says: that it counts what is there, and writes nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from tiny_codecs import TINY
from typer.testing import CliRunner

from speechlm.cli import app
from speechlm.errors import ConfigError, SpeechLMError
from speechlm.tokenizer.codec import CodecModel
from speechlm.tokenizer.config import CodecConfig
from speechlm.tokenizer.model_folder import save_model
from speechlm.train.codec_recipe import CodecTraining, DiscriminatorSettings
from speechlm.train.describe import (
    CodecDescription,
    LanguageModelDescription,
    Part,
    describe_codec,
)
from speechlm.train.run import describe_training

PLAIN = {**TINY, "has_harmonic_source": False, "upsampling": 1, "head_layers": 0}


def described(model: dict[str, object], **settings: object) -> CodecDescription:
    return describe_codec(CodecTraining(model=model, data=[], **settings))  # type: ignore[arg-type]


def weights(module: object, *kinds: str) -> int:
    """Numbers in the weights of all layers whose names end so."""
    return sum(
        parameter.numel()
        for name, parameter in module.named_parameters()  # type: ignore[attr-defined]
        if name.endswith(kinds) and parameter.dim() > 1
    )


def test_each_weight_at_frame_rate_counts_once_a_frame() -> None:
    found = described(PLAIN)
    codec = CodecModel(CodecConfig(**PLAIN))
    encoder, quantizer, decoder = found.parts
    assert decoder.macs_per_second == pytest.approx(50 * weights(codec.decoder, "weight"))
    # log-mels are a product too: two windows a frame, 257 bins
    mels = 100 * 257 * TINY["num_mels"]
    mels += 100 * 513 * (1 + TINY["num_pitch_lags"])  # and so is the evidence of pitch
    assert encoder.macs_per_second == pytest.approx(50 * weights(codec.encoder, "weight") + mels)
    # three books see a third of the channels each, three see all
    assert quantizer.macs_per_second == pytest.approx(50 * 4 * 16 * 12)
    assert quantizer.parameters == 6 * 16 * 12
    assert found.parameters == sum(p.numel() for p in codec.parameters())


def test_a_wait_of_seconds_hides_no_layer() -> None:
    # what lies behind the window has no output in the first second
    model = {**PLAIN, "is_causal": False, "attention_window": 161}
    decoder = described(model).parts[2]
    once = 50 * weights(CodecModel(CodecConfig(**model)).decoder, "weight")
    assert once <= (decoder.macs_per_second or 0) < 2 * once


def test_strided_layers_count_at_their_own_rates() -> None:
    codec = CodecModel(CodecConfig(encoder="seanet", **PLAIN))
    layers = codec.encoder
    rate, expected = 16_000, 0.0
    for part, stride in [
        (layers.first, 1),
        *(pair for i, s in enumerate((2, 4, 5, 8)) for pair in (
            (layers.residuals[i], 1), (layers.downsamplings[i], s))),
        (layers.lstm, 1),
        (layers.last, 1),
    ]:  # fmt: skip
        rate //= stride
        expected += rate * weights(part, "original1", "weight_ih_l0", "weight_hh_l0")
    assert rate == 50
    found = described({"encoder": "seanet", **PLAIN})
    assert found.parts[0].macs_per_second == pytest.approx(expected)


def test_transforms_count_by_their_length() -> None:
    encoder, quantizer, decoder = described(PLAIN).parts
    # the ISTFT: one real transform of 512 samples a frame
    assert decoder.fft_macs_per_second == pytest.approx(50 * 1.25 * 512 * 9)
    # mels, and the power spectrum of a window and a half, twice a frame
    analysis = 100 * 1.25 * (512 * 9 + 1024 * 10)
    assert encoder.fft_macs_per_second == pytest.approx(analysis)
    assert quantizer.fft_macs_per_second == 0


def test_rates_latency_and_batch_are_the_recipes() -> None:
    found = described(TINY, crop_seconds=0.5, batch_seconds=4.0)
    assert found.bits_per_second == {books: books * 4 * 50.0 for books in (3, 4, 5, 6)}
    assert found.latency_seconds == pytest.approx(0.060)
    assert (found.batch_items, found.crop_seconds) == (8, 0.5)
    plain = described({**TINY, "num_masked_books": 0}).bits_per_second
    assert list(plain) == [1, 2, 3, 4, 5, 6]


def test_the_look_ahead_of_a_model_that_is_not_causal_covers_its_layers() -> None:
    found = described({**PLAIN, "is_causal": False})
    # 3 + 2 x 7 taps see 1 + 2 x 3 frames ahead, 7 + 2 x 7 taps 3 + 2 x 3, and windows a frame
    frames = 1 + 6 + 3 + 6 + math.ceil((512 - 320) / 2 / 320)
    analysis = (512 - 160) // 2
    assert found.lookahead_seconds == pytest.approx((frames * 320 + analysis) / 16_000)
    wider = described({**PLAIN, "is_causal": False, "attention_window": 9})
    # four residual blocks of two convolutions, and half a window
    assert wider.lookahead_seconds - found.lookahead_seconds == pytest.approx(12 * 0.02)


def test_discriminators_are_counted_by_family() -> None:
    families = [DiscriminatorSettings(family="mpd", channels=2, loss="lsgan"), "light"]
    found = described(TINY, adversarial={"discriminators": families})
    periods, light = found.discriminators
    assert periods.name == "mpd (lsgan)"
    assert light.parameters > 0
    # a pass over twice the channels is nearly four times the work
    wide = described(TINY, adversarial={"discriminators": [{"family": "mpd", "channels": 4}]})
    ratio = (wide.discriminators[0].macs_per_second or 0) / (periods.macs_per_second or 1)
    assert 3.5 < ratio < 4
    alone = described(TINY).training_bytes
    assert found.training_bytes - alone == 16 * (periods.parameters + light.parameters)


def test_a_dry_run_needs_no_data_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("codec.yaml").write_text(json.dumps({"model": TINY, "data": [{"manifest": "nowhere"}]}))
    done = CliRunner().invoke(app, ["train", "codec", "codec.yaml", "--dry-run"])
    assert done.exit_code == 0
    assert "16000 Hz" in done.stdout
    assert "60.0 ms, causal" in done.stdout
    assert "600 (3), 800 (4), 1000 (5), 1200 (6) by books" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["codec.yaml"]
    wrong = CliRunner().invoke(
        app, ["train", "codec", "codec.yaml", "--dry-run", "--set", "model.hop_length=321"]
    )
    assert wrong.exit_code == 1
    assert wrong.stdout == ""
    assert len(wrong.stderr.splitlines()) == 1


def test_figures_of_the_table_have_three_digits() -> None:
    found = described(TINY)
    made = CodecDescription(
        **{
            **vars(found),
            "parts": (
                Part("encoder", 7_432_100, 861e6, 0.0),
                Part("quantizer", 999, 1.494e9, 59.04e3),
                Part("decoder", 12_345, 0.0, 999.0),
            ),
        }
    )
    lines = {line.split()[0]: line.split()[1:] for line in made.table().splitlines() if line}
    assert lines["encoder"] == ["7.43", "M", "861", "M", "0"]
    assert lines["quantizer"] == ["999", "1.49", "G", "59.0", "k"]
    assert lines["decoder"] == ["12.3", "k", "0", "999"]


def test_from_describes_the_weights(tmp_path: Path) -> None:
    save_model(CodecModel(CodecConfig(**TINY)), tmp_path / "codec")
    recipe = tmp_path / "tune.yaml"
    recipe.write_text(json.dumps({"data": []}))
    found = describe_training("codec", recipe, [], str(tmp_path / "codec"))
    assert isinstance(found, CodecDescription)
    assert found.parameters == described(TINY).parameters


def test_a_language_model_is_described_from_its_shards(slm_config: Path, tmp_path: Path) -> None:
    found = describe_training("slm", slm_config, [])
    assert isinstance(found, LanguageModelDescription)
    assert found.num_utterances == 20
    wide = describe_training("slm", slm_config, ["model.ffn_size=49"])
    assert isinstance(wide, LanguageModelDescription)
    # one more hidden unit in one layer: two or three matrices of width 32, perhaps a bias
    assert 64 <= wide.parameters - found.parameters <= 97
    assert f"{found.parameters / 1e3:.1f} k" in found.table()
    with pytest.raises(SpeechLMError):
        describe_training("slm", slm_config, [f"shards=['{tmp_path / 'nowhere'}']"])
    with pytest.raises(ConfigError, match="the weights of shipped have"):
        describe_training("slm", slm_config, [], "shipped")
