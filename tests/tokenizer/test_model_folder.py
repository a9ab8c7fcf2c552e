"""Model folders: what is refused, and what a user may write."""

from pathlib import Path

import pytest
from tiny_codecs import TINY

from speechlm.errors import ConfigError, CorruptWeights
from speechlm.tokenizer.codec import load_codec
from speechlm.tokenizer.config import CodecConfig
from speechlm.tokenizer.model_folder import config_from_mapping


def test_a_run_folder_is_told_to_be_exported(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text('{"kind": "codec"}')
    with pytest.raises(CorruptWeights, match=r"run folder .* `speechlm export .*run OUT` first"):
        load_codec(run)


def test_a_whole_number_is_a_number() -> None:
    raw = {**TINY, "pitch_highpass_hz": 100, "min_pitch_hz": 50}
    config = config_from_mapping(raw, CodecConfig, "The recipe")
    assert (config.pitch_highpass_hz, config.min_pitch_hz) == (100.0, 50.0)
    assert (
        config.to_dict()
        == CodecConfig(**{**raw, **{k: float(raw[k]) for k in list(raw)[-2:]}}).to_dict()
    )


@pytest.mark.parametrize(
    ("key", "value"), [("min_pitch_hz", True), ("min_pitch_hz", "60"), ("num_mels", 20.0)]
)
def test_other_types_are_still_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        config_from_mapping({key: value}, CodecConfig, "The recipe")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"num_mels": "many"}, "num_mels is 'many', give a whole number."),
        ({"min_pitch_hz": "low"}, "min_pitch_hz is 'low', give a number."),
    ],
)
def test_a_wrong_type_is_told_by_field_value_and_what_to_give(
    values: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_mapping(values, CodecConfig, "The recipe")
    assert str(caught.value) == f"The recipe has a value of a wrong type: {told}"
