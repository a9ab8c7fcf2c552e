"""The autoregressive model: losses, masks, batches, and learning."""

import math

import pytest
import torch
from tiny_language import IDENTITY, SIZES, V, alone, ar_model, overfit, some_batch
from transformers import AutoModel

from speechlm.errors import ConfigError
from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.slm.config import AutoregressiveConfig
from speechlm.tokenizer.model_folder import load_model, save_model

ALIGNMENTS = pytest.mark.parametrize("alignment", ["pointer", "prefix"])


def zero_outputs(model):
    for head in model.heads:
        torch.nn.init.zeros_(head.logits.weight)
        torch.nn.init.zeros_(head.logits.bias)


@pytest.mark.parametrize("ar_books", [1, 2, 3])
@ALIGNMENTS
@torch.no_grad()
def test_uniform_model_loses_log_v(alignment, ar_books):
    model = ar_model(alignment=alignment, ar_books=ar_books)
    zero_outputs(model)
    losses = model(**some_batch()).book_losses
    first = math.log(V + (alignment == "prefix"))  # the end of speech is one class more
    wanted = torch.tensor([first] + [math.log(V)] * (ar_books - 1))
    assert torch.allclose(losses, wanted, atol=1e-5)


def test_indifferent_pointer_loses_log_two():
    model = ar_model()
    torch.nn.init.zeros_(model.advance.weight)
    with torch.no_grad():
        assert float(model(**some_batch()).advance_loss) == pytest.approx(math.log(2), abs=1e-6)


@ALIGNMENTS
@torch.no_grad()
def test_batch_equals_each_item_alone(alignment):
    model, batch = ar_model(alignment=alignment), some_batch()
    together = model(**batch, return_logits=True).logits
    single = [model(**alone(batch, i), return_logits=True).logits for i in range(3)]
    assert torch.allclose(together, torch.cat(single), atol=1e-5)


@ALIGNMENTS
@torch.no_grad()
def test_a_frame_sees_only_earlier_frames(alignment):
    model, batch = ar_model(alignment=alignment), alone(some_batch(), 0)
    batch["loss_mask"] = torch.ones_like(batch["loss_mask"])
    before = model(**batch, return_logits=True).logits[: batch["codes"].shape[2]]
    frame = 9
    batch["codes"][:, :2, frame] = (batch["codes"][:, :2, frame] + 1) % V
    after = model(**batch, return_logits=True).logits[: batch["codes"].shape[2]]
    # Book 1 of the frame itself depends on earlier frames only; book 2 reads book 1 of its frame.
    moved = (after[:, 0] - before[:, 0]).abs().amax(-1) > 1e-6
    assert not moved[: frame + 1].any() and moved[frame + 1]
    assert (after[frame, 1] - before[frame, 1]).abs().max() > 1e-6


@torch.no_grad()
def test_the_pointer_decides_what_a_frame_reads():
    model, batch = ar_model(), alone(some_batch(), 0)
    before = model(**batch).loss
    batch["pointer"] = batch["pointer"].clone()
    batch["pointer"][0, -1] -= 1
    assert float(model(**batch).loss) != float(before)


@torch.no_grad()
def test_frames_outside_the_mask_do_not_count():
    model, batch = ar_model(), some_batch()
    batch["loss_mask"][:2] = False
    single = alone(some_batch(), 2)
    assert float(model(**batch).loss) == pytest.approx(float(model(**single).loss), abs=1e-5)


def test_hidden_inputs_in_training_only():
    model, batch = ar_model(input_drop=0.5), some_batch()
    with torch.no_grad():
        assert float(model(**batch).loss) == float(model(**batch).loss)
        model.train()
        torch.manual_seed(1)
        first = float(model(**batch).loss)
        torch.manual_seed(2)
        assert float(model(**batch).loss) != first


def test_every_weight_gets_a_gradient():
    for books in (1, 3):
        model = ar_model(ar_books=books).train()
        model(**some_batch()).loss.backward()
        idle = [name for name, p in model.named_parameters() if p.grad is None]
        assert not idle


def test_bfloat16_training_keeps_float32_losses():
    model, batch = ar_model().train(), some_batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
    assert loss.dtype == torch.float32
    loss.backward()
    with torch.no_grad():
        assert float(loss.detach()) == pytest.approx(float(model(**batch).loss), rel=0.2)


def test_four_sentences_are_learned_by_heart(fluent):
    losses = fluent[2]
    assert losses[0] > 0.8 * (math.log(V) + math.log(2))
    assert losses[-1] < 0.02


def test_the_plain_prefix_model_learns_too():
    assert overfit(ar_model(alignment="prefix", input_drop=0.0), 120)[-1] < 0.1


def test_model_folder_round_trip(tmp_path):
    model, batch = ar_model(), some_batch()
    save_model(model, tmp_path, "float32")
    with torch.no_grad():
        wanted = float(model(**batch).loss)
        assert float(load_model(tmp_path, AutoregressiveModel)(**batch).loss) == wanted
        assert float(AutoModel.from_pretrained(tmp_path)(**batch).loss) == wanted


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"alignment": "soft"}, "pointer, prefix"),
        ({"ar_books": 4}, "between 1 and num_codebooks"),
        ({"hidden_size": 30, "num_heads": 4}, "multiple of twice num_heads"),
        ({"dropout": 1.5}, r"\[0, 1\)"),
        ({"text_kernel_size": 4}, "odd"),
        ({"num_layer": 2}, "num_layer"),
        ({"num_layers": "two"}, "num_layers"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_sentence(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        AutoregressiveConfig.for_codec(IDENTITY, **{**SIZES, **changes})


def test_the_configuration_carries_the_codec():
    assert AutoregressiveConfig.for_codec(IDENTITY, **SIZES).codec_identity == IDENTITY
