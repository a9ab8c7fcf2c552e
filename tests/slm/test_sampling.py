"""Draws follow the distribution that is asked for, and repeats are drawn again."""

import itertools

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessor,
    LogitsProcessorList,
    SuppressTokensLogitsProcessor,
    TopKLogitsWarper,
)

from speechlm.errors import ConfigError
from speechlm.slm.constraints import ShortestLength, SilenceCap
from speechlm.slm.sampling import BookSampler, RepetitionAwareSampling, SamplingConfig, draw

NOTHING = torch.zeros(1, 0, dtype=torch.int64)


def uniforms(count, seed=0):
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def frequencies(scores, count=20_000):
    drawn = draw(scores.expand(count, -1), uniforms(count))
    return torch.bincount(drawn, minlength=scores.shape[-1]) / count


def test_draws_follow_the_probabilities():
    scores = torch.tensor([[0.0, 1.0, 2.0, -1.0, 0.5]])
    assert torch.allclose(frequencies(scores), scores.softmax(-1)[0], atol=0.01)


def test_excluded_codes_are_never_drawn():
    scores = torch.full((1, 8), -torch.inf)
    scores[0, [0, 3, 5]] = 0.0
    edges = torch.tensor([0.0, 1 / 3, 2 / 3, 1 - 2**-24])
    assert set(draw(scores.expand(4, -1), edges).tolist()) <= {0, 3, 5}
    assert frequencies(scores)[[1, 2, 4, 6, 7]].sum() == 0


def test_a_draw_does_not_depend_on_its_batch():
    scores, chance = torch.randn(50, 30), uniforms(50)
    together = draw(scores, chance)
    single = [int(draw(scores[i : i + 1], chance[i : i + 1])) for i in range(50)]
    assert together.tolist() == single


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"temperature": 1.0, "top_k": 2}, {3, 2}),
        ({"temperature": 1.0, "top_k": 0, "top_p": 0.6}, {3}),
        ({"temperature": 1.0, "top_k": 0, "top_p": 0.8}, {3, 2}),
        ({"temperature": 0.0}, {3}),
        ({"temperature": 1.0, "top_k": 0}, {0, 1, 2, 3}),
    ],
)
def test_filters_keep_the_codes_they_should(settings, kept):
    scores = torch.tensor([[0.0, 1.0, 2.0, 3.0]])  # probabilities .03 .09 .24 .64
    filtered = SamplingConfig(**settings).processors()(NOTHING, scores)
    assert set(torch.nonzero(filtered[0] > -torch.inf).flatten().tolist()) == kept


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_the_short_way_through_top_k_gives_what_the_filters_leave(temperature):
    scores = torch.randn(1, 40, generator=torch.Generator().manual_seed(1))
    filters = SamplingConfig(temperature=temperature, top_k=5).processors()
    sampler = BookSampler(filters)
    count = 20_000
    drawn = sampler(scores.expand(count, -1), NOTHING.expand(count, -1), uniforms(count)[:, None])
    left = filters(NOTHING, scores).softmax(-1)[0]
    assert torch.allclose(torch.bincount(drawn, minlength=40) / count, left, atol=0.01)


def test_the_short_way_is_taken_for_nothing_but_temperature_and_top_k():
    scores = torch.tensor([[0.0, 3.0, 2.9]])
    bounds = SuppressTokensLogitsProcessor([1])
    for filters in ([bounds, TopKLogitsWarper(1)], [TopKLogitsWarper(3), bounds]):
        sampler = BookSampler(LogitsProcessorList(filters))
        drawn = sampler(scores.expand(50, -1), NOTHING.expand(50, -1), uniforms(50)[:, None])
        assert 1 not in drawn


def test_temperature_sharpens():
    scores = torch.tensor([[0.0, 1.0]])
    cold = SamplingConfig(temperature=0.5, top_k=0).processors()(NOTHING, scores)
    assert torch.allclose(cold, 2 * scores)


def test_residual_books_have_their_own_temperature():
    config = SamplingConfig(temperature=1.0, residual_temperature=0.0)
    scores = torch.tensor([[0.0, 1.0, 2.0]])
    assert torch.isinf(config.processors(is_residual=True)(NOTHING, scores)[0, 0])
    assert not torch.isinf(config.processors()(NOTHING, scores)[0, 0])


def test_a_repeating_code_is_drawn_from_everything():
    scores = torch.zeros(2000, 4)
    scores[:, 1] = 2.0
    sampler = BookSampler(LogitsProcessorList([TopKLogitsWarper(1)]), window=10, ratio=0.1)
    chance = uniforms(4000).view(2000, 2)
    stuck = torch.ones(2000, 10, dtype=torch.int64)
    shares = torch.bincount(sampler(scores, stuck, chance), minlength=4) / 2000
    assert torch.allclose(shares, scores[0].softmax(-1), atol=0.04)
    fresh = torch.zeros(2000, 10, dtype=torch.int64)
    fresh[:, 0] = 1  # once in ten frames is not above the ratio
    assert bool((sampler(scores, fresh, chance) == 1).all())


def test_the_window_forgets():
    sampler = BookSampler(LogitsProcessorList([TopKLogitsWarper(1)]), window=3, ratio=0.1)
    scores = torch.tensor([[0.0, 5.0]])
    history = torch.tensor([[1, 1, 1, 0, 0, 0]])
    assert int(sampler(scores, history, torch.tensor([[0.5, 0.0]]))) == 1
    assert int(sampler(scores, history[:, :4], torch.tensor([[0.5, 0.0]]))) == 0


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"residual_temperature": 11.0}, "residual_temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"repetition_ratio": 2.0}, "repetition_ratio"),
        ({"repetition_window": -1}, "repetition_window"),
        ({"max_silence_seconds": -1.0}, "max_silence_seconds"),
    ],
)
def test_options_out_of_range_are_refused(settings, name):
    with pytest.raises(ConfigError, match=f"^{name} is"):
        SamplingConfig(**settings)


def test_residual_books_are_never_warmer_than_the_others():
    assert SamplingConfig(0.7).residual_temperature == 0.5
    assert SamplingConfig(0.3).residual_temperature == 0.3
    assert SamplingConfig(0.3, residual_temperature=0.6).residual_temperature == 0.6


def test_an_unknown_option_is_refused():
    assert SamplingConfig.of({"top_k": 3}) == SamplingConfig(top_k=3)
    with pytest.raises(ConfigError, match="no option 'topk'"):
        SamplingConfig.of({"topk": 3})


def test_the_end_waits_for_each_items_shortest_length():
    rule = ShortestLength([2, 5], end_id=3)
    scores = torch.zeros(2, 4)
    for length, allowed in ((1, [False, False]), (2, [True, False]), (5, [True, True])):
        ended = rule(torch.zeros(2, length, dtype=torch.int64), scores)[:, 3] > -torch.inf
        assert ended.tolist() == allowed
    assert not scores.any()  # what was given stays as it was


def test_a_run_of_silence_is_cut_and_only_that():
    cap = SilenceCap(torch.tensor([0, 2]), longest=3)
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0]] * 3)
    past = torch.tensor([[1, 0, 2, 0], [0, 2, 0, 1], [2, 2, 2, 2]])
    blocked = cap(past, scores).isinf()
    assert blocked.tolist() == [[True, False, True, False], [False] * 4, [True, False, True, False]]
    assert not cap(past[:, :2], scores).isinf().any()
    everything = SilenceCap(torch.arange(4), longest=3)
    assert not everything(past, scores).isinf().any()


def test_rules_hold_for_the_second_draw_too():
    scores = torch.zeros(500, 4)
    scores[:, 1] = 9.0
    sampler = BookSampler(
        LogitsProcessorList([TopKLogitsWarper(1)]),
        window=10,
        rules=LogitsProcessorList([ShortestLength([99] * 500, end_id=3)]),
    )
    stuck = torch.ones(500, 10, dtype=torch.int64)
    drawn = sampler(torch.zeros(500, 4), stuck, uniforms(1000).view(500, 2))
    assert set(drawn.tolist()) == {0, 1, 2}


def test_transformers_generate_takes_the_processors():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=15,
        pad_token_id=15,
    )
    model = LlamaForCausalLM(config).eval()

    class Stuck(LogitsProcessor):
        """A model that likes one code a little better than all others."""

        def __call__(self, input_ids, scores):
            return torch.zeros_like(scores).index_fill(1, torch.tensor([5]), 1.0)

    def longest_run(window):
        torch.manual_seed(1)
        likeliest = LogitsProcessorList([TopKLogitsWarper(1)])
        codes = model.generate(
            torch.zeros(1, 1, dtype=torch.int64),
            min_new_tokens=60,
            max_new_tokens=60,
            do_sample=True,
            top_k=0,
            logits_processor=[Stuck(), RepetitionAwareSampling(likeliest, window)],
        )[0].tolist()
        return max(len(list(run)) for _, run in itertools.groupby(codes))

    assert longest_run(window=0) == 60
    assert longest_run(window=10) < 10
