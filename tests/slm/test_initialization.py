"""Fresh weights are those that the rules ask for, of blocks and heads as well as of single layers."""

import math

import pytest
import torch
from tiny_language import V, ar_model, batch_of, nar_model, text, voice_of

from speechlm.slm.initialization import LOGIT_GAIN


def spread(weight):
    return float(weight.detach().std())


@pytest.mark.parametrize("model", [ar_model, nar_model], ids=["ar", "nar"])
def test_residual_branches_begin_small(model):
    fresh = model(hidden_size=64, num_layers=4)
    for block in fresh.decoder.blocks:
        for branch in (block.attention, block.ffn):
            wanted = (branch.output.in_features * 2 * 4) ** -0.5
            assert spread(branch.output.weight) == pytest.approx(wanted, rel=0.1)


def test_a_fresh_model_knows_nothing_and_says_so():
    fresh = ar_model(hidden_size=64)
    wanted = LOGIT_GAIN / math.sqrt(64)
    assert all(spread(head.logits.weight) == pytest.approx(wanted, rel=0.1) for head in fresh.heads)
    out = fresh(**batch_of((voice_of(1), text(30, 1), 1)))
    assert torch.allclose(out.book_losses, torch.tensor(math.log(V)), atol=0.1)


def test_loaded_weights_stay(tmp_path):
    trained = ar_model(voice_vector=True)
    with torch.no_grad():
        for weight in trained.parameters():
            weight.normal_()
    trained.save_pretrained(tmp_path)
    loaded = type(trained).from_pretrained(tmp_path)
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, trained.state_dict()[name]), name
