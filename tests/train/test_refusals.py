"""What a wrong recipe is answered: one sentence with file, field, value and what to give."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechlm.errors import ConfigError
from speechlm.train.codec_recipe import CodecTraining
from speechlm.train.config import AlignerTraining, LanguageModelTraining, Strict, read_run_config

AR = "stage: ar\nshards: [tokens]\n"
CASES = [
    (LanguageModelTraining, "stage: or\nshards: [a]", "stage is 'or', give 'ar' or 'nar'"),
    (LanguageModelTraining, "stage: ar", "shards is missing, give it"),
    (LanguageModelTraining, "stage: ar\nshards: tokens", "shards is 'tokens', give a list"),
    (LanguageModelTraining, AR + "batch_frames: 0", "batch_frames is 0, give 1 or more"),
    (LanguageModelTraining, AR + "run: {seed: 1.5}", "run.seed is 1.5, give a whole number"),
    (LanguageModelTraining, AR + "run: {ema_decay: 1}", "run.ema_decay is 1, give less than 1"),
    (LanguageModelTraining, AR + "run: {betas: [0.9]}", "run.betas has too few values"),
    (LanguageModelTraining, AR + "run: fast", "run is 'fast', give a section of keys and values"),
    (LanguageModelTraining, AR + "prompt_loss: perhaps", "give true or false"),
    (
        LanguageModelTraining,
        AR + "lora: {targets: []}",
        "lora.targets is [], give 1 or more values",
    ),
    (
        LanguageModelTraining,
        AR + "run: {learning_rates: 1}",
        "run.learning_rates is an unknown key (do you mean learning_rate?)",
    ),
    (LanguageModelTraining, AR + "lora: {rang: 4}", "(do you mean rank?)"),
    (LanguageModelTraining, AR + "attention_prior_steps: [5, 2]", "is [5, 2], give two steps"),
    (
        LanguageModelTraining,
        AR + "run: {schedule: cosine, cooldown_steps: 3}",
        "give cooldown_steps 0",
    ),
    (
        AlignerTraining,
        "shards: [a]\nrun: {total_steps: 12}",
        "run.total_steps is 12, give two rising",
    ),
    (
        CodecTraining,
        "data: [{manifest: m, repaet: 2}]",
        "data.0.repaet is an unknown key (do you mean repeat?)",
    ),
    (
        CodecTraining,
        "data: []\nadversarial: {discriminators: [mpd, loud]}",
        "adversarial.discriminators.1.family is 'loud', give 'light', 'mpd', 'mrd' or 'mbstft'",
    ),
]
LEAKS = (
    "Value error",
    "Input should",
    "should be a valid",
    "Field required",
    "unable to parse",
    ": :",
)


@pytest.mark.parametrize(("kind", "text", "told"), CASES, ids=[told for _, _, told in CASES])
def test_a_wrong_value_is_told_in_our_words(
    kind: type[Strict], text: str, told: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_run_config(recipe, [], kind)
    sentence = str(caught.value)
    assert told in sentence and "mine.yaml" in sentence
    assert sentence.endswith(".") and "\n" not in sentence
    assert not [leak for leak in LEAKS if leak in sentence]


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(AR + "colour: red\n")
    with pytest.raises(ConfigError) as caught:
        read_run_config(recipe, ["run.total_steps=-1"], LanguageModelTraining)
    for word in ("colour", "run.total_steps is -1", "with run.total_steps=-1"):
        assert word in str(caught.value)


@pytest.mark.parametrize("override", ["run.seed=[", "run.seed={a"])
def test_an_override_that_is_no_yaml_is_refused(override: str, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(AR)
    with pytest.raises(ConfigError, match=r"--set run\.seed=.* is not YAML: line 1"):
        read_run_config(recipe, [override], LanguageModelTraining)


def test_a_file_that_is_no_yaml_is_told_with_the_place(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("stage: ar\nshards: [a\nrun: {}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml is not YAML: line 3"):
        read_run_config(recipe, [], LanguageModelTraining)
