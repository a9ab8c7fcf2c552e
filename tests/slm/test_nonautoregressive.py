"""The non-autoregressive model: stages, the prompt's boundary, and learning."""

import math

import pytest
import torch
from tiny_language import IDENTITY, SIZES, K, V, alone, batch_of, nar_model, some_batch, text
from tiny_language import voice_of as voice

from speechlm.errors import ConfigError
from speechlm.slm.config import NonAutoregressiveConfig

ALIGNMENTS = pytest.mark.parametrize("alignment", ["pointer", "prefix"])


def logits(model, batch, stage=0):
    stages = torch.full((len(batch["codes"]),), stage)
    return model(**batch, stages=stages, return_logits=True).logits


@torch.no_grad()
def test_uniform_model_loses_log_v():
    model = nar_model(ar_books=1)
    torch.nn.init.zeros_(model.heads)
    assert float(model(**some_batch()).loss) == pytest.approx(math.log(V), abs=1e-5)


@ALIGNMENTS
@torch.no_grad()
def test_batch_equals_each_item_alone(alignment):
    model, batch = nar_model(alignment=alignment, ar_books=1), some_batch()
    together = logits(model, batch, 1)
    for item in range(3):
        frames = int(batch["num_frames"][item])
        single = logits(model, alone(batch, item), 1)
        assert torch.allclose(together[item, :frames], single[0], atol=1e-5)


@torch.no_grad()
def test_a_stage_reads_the_target_below_itself_and_the_whole_prompt():
    model, batch = nar_model(ar_books=1), alone(some_batch(), 0)
    start = int(batch["prompt_frames"][0])
    before = [logits(model, batch, stage) for stage in range(2)]
    for book in range(K):
        for frame, place in ((start - 2, "prompt"), (start + 2, "target")):
            other = {**batch, "codes": batch["codes"].clone()}
            other["codes"][0, book, frame] = (other["codes"][0, book, frame] + 1) % V
            for stage in range(2):
                moved = bool((logits(model, other, stage) - before[stage]).abs().max() > 1e-6)
                assert moved == (place == "prompt" or book < 1 + stage), (place, book, stage)


@torch.no_grad()
def test_the_boundary_between_prompt_and_target_matters():
    model, batch = nar_model(), alone(some_batch(), 0)
    start = int(batch["prompt_frames"][0])
    # Equal codes in all books on both sides of the boundary: only the segment tells them apart.
    batch["codes"][:, -1] = 0
    model.codes.table.weight[(K - 1) * V :] = 0
    moved = {**batch, "prompt_frames": batch["prompt_frames"] - 1}
    moved["pointer"] = batch["pointer"].clone()
    assert not torch.allclose(logits(model, batch)[0, start:], logits(model, moved)[0, start:])


@torch.no_grad()
def test_stages_are_drawn_per_item():
    model = nar_model(ar_books=1)
    batch = batch_of(*[(voice(n), text(3, n), n) for n in range(8)])
    torch.manual_seed(0)
    seen = model(**batch).stage_losses
    assert bool(seen.isfinite().all())  # eight items hardly ever share one of two stages
    only_first = model(**batch, stages=torch.zeros(8, dtype=torch.int64)).stage_losses
    assert only_first.isfinite().tolist() == [True, False]


@torch.no_grad()
def test_smoothing_raises_the_loss_but_not_the_report():
    batch = some_batch()
    plain, smooth = nar_model(), nar_model(label_smoothing=0.1)
    smooth.load_state_dict(plain.state_dict())
    assert torch.equal(plain(**batch).stage_losses, smooth(**batch).stage_losses)
    assert float(plain(**batch).loss) != float(smooth(**batch).loss)


def test_completing_what_was_learned_gives_the_codes_back(fluent):
    nar, losses = fluent[1], fluent[3]
    assert losses[-1] < 0.05
    batch = batch_of(*[(voice(n), text(6 + n, n), n) for n in range(4)])
    known = batch["codes"].clone()
    known[:, 2][batch["loss_mask"]] = 0
    names = ("symbols", "num_symbols", "num_frames", "prompt_frames", "pointer")
    filled = nar.complete(codes=known, **{name: batch[name] for name in names})
    assert torch.equal(filled, batch["codes"])


def test_the_prompts_voice_reaches_the_target(fluent):
    # Book 3 of the made-up language depends on the voice, which only the prompt and book 2 tell.
    batch = alone(batch_of((voice(1), text(7, 1), 1)), 0)
    other = alone(batch_of((voice(2), text(7, 1), 1)), 0)
    nar = fluent[1]
    with torch.no_grad():
        assert not torch.allclose(logits(nar, batch)[0, -5:], logits(nar, other)[0, -5:], atol=0.1)


def test_a_model_without_a_book_is_refused():
    with pytest.raises(ConfigError, match="leave the non-autoregressive model out"):
        NonAutoregressiveConfig.for_codec(IDENTITY, **{**SIZES, "ar_books": K})
