"""The diagonal prior on attention: its shape, whom it leads, and that it goes without a trace."""

import math

import pytest
import torch
from tiny_language import alone, ar_model, batch_of, some_batch, text, voice_of

from speechlm.slm.attention_prior import (
    CONCENTRATION,
    FLOOR,
    diagonal_prior,
    prefix_prior,
    prior_strength,
    target_symbols_from,
)


def beta_binomial(n, alpha, beta):
    """Probabilities of 0 to n successes."""

    def log_beta(a, b):
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    found = [
        math.comb(n, k) * math.exp(log_beta(k + alpha, n - k + beta) - log_beta(alpha, beta))
        for k in range(n + 1)
    ]
    assert math.isclose(sum(found), 1.0)
    return found


def test_it_is_the_beta_binomial_relative_to_its_peak():
    symbols, frames = 7, 20
    prior = diagonal_prior(torch.tensor([symbols]), torch.tensor([frames]), symbols, frames)[0]
    for t in (0, 3, 10, 19):
        alpha, beta = CONCENTRATION * (t + 1), CONCENTRATION * (frames - t)
        wanted = torch.tensor(beta_binomial(symbols - 1, alpha, beta)).log()
        wanted = (wanted - wanted.max()).clamp(min=FLOOR)
        assert torch.allclose(prior[t], wanted, atol=1e-4)


def test_its_peak_moves_through_the_text_in_order():
    prior = diagonal_prior(torch.tensor([9]), torch.tensor([40]), 9, 40)[0]
    peaks = prior.argmax(-1)
    assert peaks[0] == 0 and peaks[-1] == 8 and bool((peaks.diff() >= 0).all())
    assert float(prior.max()) == 0 and float(prior.min()) >= FLOOR


def test_padding_changes_nothing():
    short, long = torch.tensor([5]), torch.tensor([12])
    alone_ = diagonal_prior(short, long, 5, 12)
    padded = diagonal_prior(torch.tensor([5, 9]), torch.tensor([12, 30]), 9, 30)
    assert torch.allclose(padded[:1, :12, :5], alone_)


def test_the_targets_text_begins_at_the_last_boundary_but_one():
    with_text = [1, 5, 6, 1, 1, 7, 8, 1]
    cut = [5, 6, 1, 7, 8, 1]  # a piece of a prompt without its boundaries
    without = [2, 1, 7, 8, 1]
    nothing = [2]
    rows = [with_text, cut, without, nothing]
    padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], batch_first=True)
    found = target_symbols_from(padded, torch.tensor([len(r) for r in rows]))
    assert found.tolist() == [4, 2, 1, 0]


def test_only_the_targets_frames_are_led_and_only_to_its_text():
    symbols = torch.tensor([[2, 1, 7, 8, 1, 0]])
    prior = prefix_prior(symbols, torch.tensor([5]), torch.tensor([4]), torch.tensor([10]), 12)
    assert prior.shape == (1, 1, 18, 18)
    whole = prior[0, 0]
    assert not whole[: 6 + 4].any()  # text and prompt look where they like
    assert not whole[:, 6:].any()  # and everyone at frames
    led = whole[6 + 4 : 6 + 10, :5]
    assert bool((led[:, 0] == FLOOR).all())  # the prompt's text
    assert led[0].argmax() == 1 and led[-1].argmax() == 4


@pytest.mark.parametrize("size", [1, 2])
def test_strength_zero_and_evaluation_are_the_model_without_it(size):
    model, batch = ar_model(alignment="prefix", input_drop=0.0, group_size=size), some_batch()
    with torch.no_grad():
        plain = model(**batch).loss
        model.prior_strength = 1.0
        assert torch.equal(model(**batch).loss, plain)  # evaluation never reads it
        model.train()
        led = model(**batch).loss
        assert not torch.allclose(led, plain, atol=1e-4)
        model.prior_strength = 1e-6
        assert torch.allclose(model(**batch).loss, plain, atol=1e-4)
    model.prior_strength = 1.0
    model(**batch).loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_a_batch_with_it_equals_each_item_alone():
    model = ar_model(alignment="prefix", input_drop=0.0).train()
    model.prior_strength = 1.0
    items = [(voice_of(1), text(5, 1), 1), (voice_of(2), text(9, 2), 2)]
    batch = batch_of(*items)
    with torch.no_grad():
        together = model(**batch, return_logits=True).logits
        single = [model(**alone(batch, i), return_logits=True).logits for i in range(2)]
    assert torch.allclose(together, torch.cat(single), atol=1e-5)


def test_bfloat16_training_takes_it():
    model = ar_model(alignment="prefix").train()
    model.prior_strength = 1.0
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**some_batch()).loss
    loss.backward()
    assert loss.isfinite()


def test_its_strength_stays_falls_and_is_gone():
    strengths = [prior_strength(step, 10, 20) for step in range(25)]
    assert strengths[:11] == [1.0] * 11
    assert strengths[20:] == [0.0] * 5
    assert strengths[10:21] == pytest.approx([1 - step / 10 for step in range(11)])
    assert [prior_strength(step, 0, 0) for step in range(3)] == [0.0] * 3  # off
