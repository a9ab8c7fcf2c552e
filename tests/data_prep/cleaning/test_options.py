import sys

import pytest

from speechlm.data_prep.cleaning import CleaningOptions
from speechlm.errors import ConfigError, MissingExtra


@pytest.mark.parametrize(
    "values",
    [
        {"min_seconds": 2, "max_seconds": 1},
        {"max_seconds": float("inf")},
        {"resample_hz": 100},
        {"downmix": "loud"},
        {"trim_margin_s": -1},
        {"loudness_lufs": 3},
        {"loudness_lufs": float("nan")},
        {"max_clipped_share": 2},
        {"min_bandwidth_hz": 0},
        {"min_bandwidth_share": 1.5},
        {"scripts": ("Klingon",)},
        {"characters_per_second": (30, 4)},
        {"apparent_speed": (2, 1)},
    ],
)
def test_values_that_make_no_sense_are_refused_in_a_sentence(values):
    with pytest.raises(ConfigError, match=r"[;:] |use |give "):
        CleaningOptions(**values)


@pytest.mark.parametrize("step", [{"trim_silence": True}, {"loudness_lufs": -23}])
def test_a_missing_package_is_told_before_the_first_recording(step, monkeypatch):
    for module in ("silero_vad", "pyloudnorm"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"\[clean\]"):
        CleaningOptions(**step).require_extras()
    CleaningOptions().require_extras()
