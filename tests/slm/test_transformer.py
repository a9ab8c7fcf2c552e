"""Masks, cache and norms of the Transformer."""

import pytest
import torch
from tiny_language import ar_model, nar_model, some_batch

from speechlm.slm.transformer import (
    KeyValueCache,
    RMSNorm,
    Transformer,
    padding_mask,
    prefix_lm_mask,
    rotate,
    rotation,
)

SIZE, HEADS = 32, 2


@pytest.fixture
def stack():
    torch.manual_seed(0)
    return Transformer(SIZE, 3, HEADS, 48).eval()


def full(stack, x, mask=None, **given):
    return stack(x, torch.arange(x.shape[1]), mask=mask, **given)


@pytest.mark.parametrize("prefill", [0, 1, 7])
@torch.no_grad()
def test_cached_steps_equal_one_full_pass(stack, prefill):
    x = torch.randn(2, 12, SIZE)
    wanted = full(stack, x, is_causal=True)
    cache = stack.new_cache(2, 12)
    parts = []
    if prefill:
        parts.append(full(stack, x[:, :prefill], is_causal=True, cache=cache))
    for t in range(prefill, 12):
        parts.append(stack(x[:, t : t + 1], torch.tensor([t]), cache=cache))
    assert torch.allclose(torch.cat(parts, 1), wanted, atol=1e-5)


@torch.no_grad()
def test_left_padding_changes_nothing(stack):
    x = torch.randn(1, 6, SIZE)
    padded = torch.cat((torch.full((1, 4, SIZE), 9.0), x), 1)
    is_valid = torch.arange(10)[None] >= 4
    positions = (torch.arange(10) - 4).clamp(min=0)[None]
    got = stack(padded, positions, mask=prefix_lm_mask(is_valid, 0))[:, 4:]
    assert torch.allclose(got, full(stack, x, is_causal=True), atol=1e-5)


@torch.no_grad()
def test_bidirectional_batch_equals_each_alone(stack):
    x = torch.randn(2, 9, SIZE)
    lengths = torch.tensor([9, 5])
    mask = padding_mask(torch.arange(9) < lengths[:, None])
    together = full(stack, x, mask)
    for item, length in enumerate(lengths.tolist()):
        single = full(stack, x[item : item + 1, :length])
        assert torch.allclose(together[item, :length], single[0], atol=1e-5)


@torch.no_grad()
def test_prefix_sees_itself_and_the_rest_sees_the_past(stack):
    prefix, length = 4, 9
    x = torch.randn(1, length, SIZE)
    mask = prefix_lm_mask(torch.ones(1, length, dtype=torch.bool), prefix)
    before = full(stack, x, mask)
    for changed in range(length):
        other = x.clone()
        other[:, changed] += 1
        moved = (full(stack, other, mask) - before).abs().amax(-1)[0] > 1e-6
        reached = torch.arange(length) >= (0 if changed < prefix else changed)
        assert torch.equal(moved, reached), f"position {changed}"


def test_padding_is_seen_by_nobody_else():
    mask = prefix_lm_mask(torch.tensor([[True, False, True, True, False]]), 2)[0, 0]
    assert torch.equal(mask[:, 1], torch.tensor([False, True, False, False, False]))
    assert torch.equal(mask[:, 4], torch.tensor([False, False, False, False, True]))


def test_rotation_keeps_lengths_and_knows_only_distances():
    query, key = torch.randn(2, 1, 1, 1, 8)
    score = [
        float((rotate(query, *angles) * rotate(key, *other)).sum())
        for angles, other in (
            (rotation(torch.tensor([start + 3]), 8, 1e4), rotation(torch.tensor([start]), 8, 1e4))
            for start in (0, 50)
        )
    ]
    assert score[0] == pytest.approx(score[1], abs=1e-4)
    turned = rotate(query, *rotation(torch.tensor([17]), 8, 1e4))
    assert float(turned.norm()) == pytest.approx(float(query.norm()), rel=1e-5)


def test_stage_gains_belong_to_their_stage():
    norm = RMSNorm(4, num_stages=2)
    with torch.no_grad():
        norm.weight[1] = 3.0
    x = torch.randn(2, 5, 4)
    plain, tripled = norm(x, torch.tensor([0, 0])), norm(x, torch.tensor([0, 1]))
    assert torch.equal(plain[0], tripled[0])
    assert torch.allclose(3 * plain[1], tripled[1])
    with pytest.raises(ValueError, match="stage"):
        norm(x)


def test_cache_refuses_more_than_it_holds():
    cache = KeyValueCache(1, 1, HEADS, 4, capacity=3)
    cache.extend(0, torch.zeros(1, HEADS, 3, 4), torch.zeros(1, HEADS, 3, 4))
    with pytest.raises(ValueError, match="holds 3"):
        cache.extend(0, torch.zeros(1, HEADS, 4, 4), torch.zeros(1, HEADS, 4, 4))


@torch.no_grad()
def test_reordered_cache_continues_the_chosen_items(stack):
    x = torch.randn(3, 5, SIZE)
    cache = stack.new_cache(3, 6)
    full(stack, x, is_causal=True, cache=cache)
    order = torch.tensor([2, 1, 2])
    cache.reorder(order)
    following = torch.randn(3, 1, SIZE)
    got = stack(following, torch.tensor([5]), cache=cache)
    wanted = full(stack, torch.cat((x[order], following), 1), is_causal=True)[:, 5:]
    assert torch.allclose(got, wanted, atol=1e-5)


def test_causal_flag_behind_a_past_is_refused(stack):
    cache = stack.new_cache(1, 4)
    full(stack, torch.randn(1, 2, SIZE), is_causal=True, cache=cache)
    with pytest.raises(ValueError, match="mask"):
        full(stack, torch.randn(1, 2, SIZE), is_causal=True, cache=cache)


@pytest.mark.parametrize("make", [ar_model, nar_model])
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of the older name, which still works
def test_activation_checkpointing_gives_the_same_gradients(make):
    def gradients(model):
        torch.manual_seed(0)
        out = model(**some_batch())
        model.zero_grad()
        out.loss.backward()
        return out.loss, {name: p.grad.clone() for name, p in model.named_parameters()}

    model = make(dropout=0.2).train()
    loss, wanted = gradients(model)
    kept = []
    hook = model.decoder.blocks[0].ffn.register_forward_hook(lambda *_: kept.append(1))
    model.gradient_checkpointing_enable()
    again, got = gradients(model)
    hook.remove()
    assert len(kept) == 2  # forward, and once more on the way back
    assert torch.equal(loss, again)
    assert all(torch.equal(got[name], value) for name, value in wanted.items())
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
