"""Steps over weights laid out for them: the same model, faster; int8 and bf16 within their rounding."""

import pytest
import torch
from tiny_language import IDENTITY, K, ar_model, text, voice_of
from torch import nn
from transformers import LogitsProcessorList

from speechlm.errors import ConfigError
from speechlm.slm.frame_decoder import PROMPTS_KEPT, FrameDecoder
from speechlm.slm.frame_sampler import FrameSampler
from speechlm.slm.generate import generate_codes
from speechlm.slm.projections import (
    PRECISIONS,
    Int8Projection,
    new_room,
    projection,
)
from speechlm.slm.prompt import Voice
from speechlm.slm.runtime import (
    Runtime,
    Stepper,
    precision_of,
    runtime_of,
    set_precision,
)
from speechlm.slm.sampling import SamplingConfig
from speechlm.tokenizer.storage import round_channels

# Largest share of the outputs' norm that rounding may move; measured .002 and .02 to .04.
TOLERANCES = {"fp32": 1e-5, "bf16": 0.02, "int8": 0.08}
STEPS = 6
NO_PROMPT = Voice.without_text(torch.zeros(K, 0, dtype=torch.int64), IDENTITY)


def scrambled(**fields):
    """A model whose norms have gains unlike 1, so that a forgotten one is noticed."""
    model = ar_model(hidden_size=48, **fields).eval()
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.data += 0.3 * torch.randn(weight.shape, generator=generator)
    return model


@torch.no_grad()
def run(model, inputs, precision=None):
    """States `[steps, B, D]` of inputs `[steps, B, D]` behind a past of 5, and the last logits."""
    steps, batch, width = inputs.shape
    cache = model.decoder.new_cache(batch, 5 + steps)
    past = torch.randn(batch, 5, width, generator=torch.Generator().manual_seed(1))
    model.decoder(past, torch.arange(5), is_causal=True, cache=cache)
    states = []
    if precision is None:
        for t, x in enumerate(inputs):
            position = torch.full((batch, 1), 5 + t)
            states.append(model.decoder(x[:, None], position, cache=cache)[:, 0])
        return torch.stack(states), [head(states[-1]) for head in model.heads]
    stepper = Stepper(Runtime(model, precision), batch, cache.capacity)
    for t, x in enumerate(inputs):
        states.append(stepper.step(x, torch.full((batch,), 5 + t), None, cache))
    return torch.stack(states), [stepper.logits(k, states[-1]) for k in range(len(model.heads))]


def inputs_of(model, batch):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(STEPS, batch, model.config.hidden_size, generator=generator)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("qk_norm", [True, False])
def test_a_step_equals_the_module_within_its_precision(precision, batch, qk_norm):
    model = scrambled(qk_norm=qk_norm)
    inputs = inputs_of(model, batch)
    wanted, wanted_logits = run(model, inputs)
    got, logits = run(model, inputs, precision)
    for ours, theirs in [(got, wanted), *zip(logits, wanted_logits, strict=True)]:
        assert (ours - theirs).norm() < TOLERANCES[precision] * theirs.norm()
    if precision == "fp32":
        assert torch.allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_item_does_not_depend_on_its_neighbours(precision):
    model = scrambled()
    inputs = inputs_of(model, 3)
    loud = inputs.clone()
    loud[:, 1:] *= 30
    assert torch.allclose(
        run(model, inputs, precision)[0][:, 0], run(model, loud, precision)[0][:, 0], atol=1e-5
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("guided_by", [None, 3.0])
@pytest.mark.parametrize("batch", [1, 2])
@torch.no_grad()
def test_codes_of_a_frame_at_once_equal_those_book_by_book(precision, guided_by, batch):
    model = scrambled(ar_books=K)
    set_precision(model, precision)
    rows = batch if guided_by is None else 2 * batch
    one_item = guided_by is not None and batch == 1
    texts, voices = [text(4, i) for i in range(rows)], [voice_of(i) for i in range(rows)]
    decoder = FrameDecoder(model, texts, voices, 1, one_item)
    zeros = torch.zeros(rows, dtype=torch.int64)
    state = decoder.step(decoder.start, zeros, zeros)
    sampler = FrameSampler(model, SamplingConfig(guidance=guided_by), LogitsProcessorList())
    past, scale = (
        torch.zeros(batch, 0, K, dtype=torch.int64),
        torch.full((batch,), guided_by or 1.0),
    )
    uniforms = torch.rand(batch, sampler.num_draws, generator=torch.Generator().manual_seed(3))
    assert isinstance(runtime_of(model).books, torch.jit.ScriptModule)
    together = sampler.codes(decoder, state, past, uniforms, scale)
    at_once = decoder.codes
    asked = []
    decoder.codes = lambda *given: asked.append(at_once(*given))  # None: one by one from here on
    one_by_one = sampler.codes(decoder, state, past, uniforms, scale)
    assert torch.equal(asked[0][0], together[0])
    assert torch.equal(together[0], one_by_one[0])
    for ours, theirs in zip(together[1:], one_by_one[1:], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)
    assert bool(together[2].any()) == (guided_by is not None)


@torch.no_grad()
def test_rows_of_one_utterance_are_rounded_no_more_coarsely_than_apart():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 48, generator=generator)
    rows = torch.randn(2, 48, generator=generator).exp()  # all of one sign, as behind a gate
    product, wanted = Int8Projection(weight), rows @ weight.T
    errors = [(product.rows(rows, new_room(n, 48)) - wanted).norm() for n in (0, 2)]
    assert errors[0] < errors[1] < 0.05 * wanted.norm()


def test_int8_weights_lie_within_half_a_level_and_silence_stays_silent():
    weight = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    rounded, scale = round_channels(weight)
    assert (rounded * scale[:, None] - weight).abs().max() <= scale.max() / 2 + 1e-7
    product = Int8Projection(weight)
    for batch in (1, 2):
        assert torch.equal(
            product.rows(torch.zeros(batch, 16), new_room(batch, 16)).abs().max(), torch.tensor(0.0)
        )


def test_generation_takes_the_laid_out_weights_and_notices_that_the_model_changed():
    model = scrambled()
    with torch.no_grad():
        first = runtime_of(model)
        assert runtime_of(model) is first
        decoder = FrameDecoder(model, [text(4, 0)], [voice_of(0)], 3)
        before = decoder.step(decoder.start, torch.tensor([0]), torch.tensor([0]))
        model.decoder.blocks[0].ffn.output.weight.mul_(-1)
        assert runtime_of(model) is not first
        decoder = FrameDecoder(model, [text(4, 0)], [voice_of(0)], 3)
        after = decoder.step(decoder.start, torch.tensor([0]), torch.tensor([0]))
    assert not torch.allclose(before, after, atol=1e-3)


@pytest.mark.parametrize("guided", [False, True])
def test_a_prompt_is_read_once_for_any_number_of_texts(guided, monkeypatch):
    model = scrambled(condition_drop=0.1, guidance=2.0 if guided else 1.0)
    read = []
    whole = model.decoder.forward
    monkeypatch.setattr(
        model.decoder, "forward", lambda x, *a, **b: read.append(x.shape[1]) or whole(x, *a, **b)
    )

    def spoken(number, seed):
        source = torch.Generator().manual_seed(seed)
        return generate_codes(model, None, text(5, seed=seed), voice_of(number), generator=source)

    first = [spoken(0, 1), spoken(0, 2)]
    assert len(read) == 1
    for number in range(1, PROMPTS_KEPT + 1):
        spoken(number, 1)
    assert len(runtime_of(model).prompts) == PROMPTS_KEPT < len(read)
    again = [spoken(0, 1), spoken(0, 2)]
    assert all(torch.equal(a.codes, b.codes) for a, b in zip(first, again, strict=True))
    with torch.no_grad():
        model.decoder.blocks[0].ffn.output.weight.mul_(-1)  # other weights, other keys and values
    before = len(read)
    spoken(0, 1)
    assert len(read) == before + 1


def test_a_batch_of_unlike_lengths_steps_as_each_item_alone():
    model = scrambled()
    texts, voices = [text(7, 1), text(3, 2)], [voice_of(1), NO_PROMPT]
    zeros = torch.zeros(2, dtype=torch.int64)
    with torch.no_grad():
        together = FrameDecoder(model, texts, voices, 2)
        state = together.step(together.start, zeros, zeros)
        logits = together.book_logits(0, state)
        for i in range(2):
            alone = FrameDecoder(model, texts[i : i + 1], voices[i : i + 1], 2)
            single = alone.step(alone.start, zeros[:1], zeros[:1])
            assert torch.allclose(single[0], state[i], atol=1e-4)
            assert torch.allclose(model.heads[0](single)[0], logits[i], atol=1e-4)


@pytest.mark.parametrize("alignment", ["pointer", "prefix"])
@torch.no_grad()
def test_the_halves_of_a_guided_utterance_step_as_any_two_items(alignment):
    model = scrambled(alignment=alignment)
    texts, voices = [text(7, 1), text(3, 2)], [voice_of(1), NO_PROMPT]
    zeros = torch.zeros(2, dtype=torch.int64)
    states = []
    for one_item in (False, True):
        decoder = FrameDecoder(model, texts, voices, 3, one_item)
        steps = [decoder.step(decoder.start, zeros, zeros) for _ in range(3)]
        states.append(torch.stack(steps))
    assert torch.allclose(*states, atol=1e-5)


@torch.no_grad()
def test_what_lies_in_new_memory_reaches_no_item(monkeypatch):
    model = scrambled()
    texts, voices = [text(7, 1), text(3, 2)], [voice_of(1), NO_PROMPT]
    empty = torch.empty
    monkeypatch.setattr(
        "speechlm.slm.transformer.torch.empty",
        lambda *shape, **options: empty(*shape, **options).fill_(torch.nan),
    )
    decoder = FrameDecoder(model, texts, voices, 2)
    assert decoder.cache.keys.isnan().any()
    zeros = torch.zeros(2, dtype=torch.int64)
    assert decoder.step(decoder.start, zeros, zeros).isfinite().all()


def test_a_model_in_training_or_with_replaced_layers_runs_by_itself():
    model = scrambled()
    assert runtime_of(model) is not None
    assert runtime_of(model.train()) is None
    model.eval()
    mlp = model.decoder.blocks[0].ffn
    mlp.output = nn.Sequential(mlp.output)
    assert runtime_of(model) is None


def test_a_precision_is_chosen_for_one_model_and_an_unknown_one_is_refused():
    model, other = scrambled(), scrambled()
    set_precision(model, "int8")
    assert (precision_of(model), precision_of(other)) == ("int8", "fp32")
    assert 4 * runtime_of(model).num_bytes == runtime_of(other).num_bytes
    with pytest.raises(ConfigError, match="int4"):
        set_precision(model, "int4")
    with pytest.raises(ConfigError, match="int4"):
        projection(torch.zeros(2, 2), None, "int4")


def test_a_full_cache_is_told():
    model = scrambled()
    cache = model.decoder.new_cache(1, 1)
    stepper = Stepper(Runtime(model, "fp32"), 1, 1)
    x, position = torch.zeros(1, model.config.hidden_size), torch.zeros(1, dtype=torch.int64)
    with torch.no_grad():
        stepper.step(x, position, None, cache)
        with pytest.raises(ValueError, match="holds 1"):
            stepper.step(x, position, None, cache)
