"""Learning one batch by heart: sound set-ups do, broken ones are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from speechlm.tokenizer.codes import CodecIdentity
from speechlm.train.overfit import overfit_batch
from speechlm.train.slm import LanguageModelTask

FAST = ["run.learning_rate=0.01", "model.dropout=0.3"]


@pytest.mark.parametrize("stage", ["ar", "nar"])
def test_a_sound_recipe_learns_its_batch_by_heart(slm_config: Path, stage: str) -> None:
    model = ["stage=nar", "model.ar_books=4"] if stage == "nar" else []
    found = overfit_batch(slm_config, [*FAST, *model, "batch_frames=200"], steps=300, share=0.5)
    assert found.is_sound
    assert found.reached <= found.wanted == pytest.approx(0.5 * found.losses[0])
    assert found.verdict().startswith("SOUND: ")


@pytest.mark.parametrize(
    ("override", "cause"),
    [("run.learning_rate=1.0e-7", "hardly falls"), ("run.learning_rate=1.0e30", "not finite")],
)
def test_the_verdict_names_a_wrong_rate(slm_config: Path, override: str, cause: str) -> None:
    found = overfit_batch(slm_config, [override], steps=20)
    assert not found.is_sound
    assert found.verdict().startswith("NOT LEARNED: ")
    assert cause in found.verdict()


def test_the_verdict_names_weights_without_a_gradient(
    slm_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = LanguageModelTask._model

    def detached(task: LanguageModelTask, codec: CodecIdentity) -> Any:
        model, symbols = build(task, codec)
        model.register_parameter("idle", torch.nn.Parameter(torch.ones(2)))
        return model, symbols

    monkeypatch.setattr(LanguageModelTask, "_model", detached)
    found = overfit_batch(slm_config, FAST, steps=2, share=1.5)
    assert not found.is_sound
    assert "no gradient reaches idle" in found.verdict()
