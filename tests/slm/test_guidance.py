"""Classifier-free guidance: items without text and prompt, and the mixing at generation."""

import dataclasses

import pytest
import torch
from tiny_language import (
    K,
    alone,
    ar_model,
    batch_of,
    overfit,
    some_batch,
    speak,
    text,
    voice_of,
)

from speechlm.errors import ConfigError
from speechlm.slm.frame_loop import FrameLoop
from speechlm.slm.generate import generate_batch, generate_codes
from speechlm.slm.group_decoder import decoder_for
from speechlm.slm.guidance import Utterances, adapted, guided, unconditional, without_condition
from speechlm.slm.length import LengthBounds
from speechlm.slm.sampling import SamplingConfig
from speechlm.slm.text import NO_TEXT

ALIGNMENTS = pytest.mark.parametrize("alignment", ["pointer", "prefix"])
SIZES = pytest.mark.parametrize("size", [1, 2])
LIKELIEST = SamplingConfig(temperature=0.0, repetition_window=0, max_silence_seconds=0)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def dropped(batch, is_dropped, *, uses_pointer):
    given = {**batch, "pointer": batch["pointer"] if uses_pointer else None}
    return without_condition(Utterances(**given), torch.tensor(is_dropped))._asdict()


@SIZES
@ALIGNMENTS
@torch.no_grad()
def test_a_dropped_item_tells_nothing_of_its_prompt_and_words(alignment, size):
    model = ar_model(alignment=alignment, group_size=size)
    codes = speak(text(5, 1), 1)[0]
    batch = alone(batch_of((voice_of(1), text(5, 1), 1)), 0)
    other = alone(batch_of((voice_of(2, num_symbols=3), text(5, 1), 1)), 0)
    start = int(other["prompt_frames"][0])
    other["symbols"][0, -3] += 1  # another word, the same sounds
    other["codes"][:, :, start:] = codes
    uses_pointer = alignment == "pointer"
    one, two = (dropped(b, [True], uses_pointer=uses_pointer) for b in (batch, other))
    logits = [model(**b, return_logits=True).logits for b in (one, two)]
    assert torch.allclose(*logits, atol=1e-5)
    whole = model(**batch, return_logits=True).logits
    assert not torch.allclose(logits[0], whole, atol=1e-3)


@ALIGNMENTS
@torch.no_grad()
def test_dropping_one_item_leaves_the_others(alignment):
    model, batch = ar_model(alignment=alignment), some_batch()
    after = dropped(batch, [False, True, False], uses_pointer=alignment == "pointer")
    for item in (0, 2):
        kept = alone({k: v for k, v in after.items() if v is not None}, item)
        for name, value in alone(batch, item).items():
            if name in kept:
                assert torch.equal(kept[name], value), (item, name)
    assert int(after["loss_mask"].sum()) == int(batch["loss_mask"].sum())  # all targets still count
    assert model(**after).loss.isfinite()


@SIZES
@ALIGNMENTS
@torch.no_grad()
def test_the_unconditional_half_of_generation_is_what_training_saw(alignment, size):
    model = ar_model(alignment=alignment, group_size=size)
    voice, symbols = voice_of(1), text(5, 1)
    codes, pointer = speak(symbols, 1)
    batch = alone(batch_of((voice, symbols, 1)), 0)
    seen = dropped(batch, [True], uses_pointer=model.uses_pointer)
    wanted = model(**seen, return_logits=True).logits[: codes.shape[1]]
    nothing, nobody = unconditional(symbols, voice, model.uses_pointer)
    decoder = decoder_for(model, [symbols, nothing], [voice, nobody], codes.shape[1])
    previous, age = decoder.start, 0
    for t in range(codes.shape[1]):
        age = age + 1 if t and pointer[t] == pointer[t - 1] else 0
        state = decoder.step(previous, pointer[t].expand(2), torch.tensor([age, age]))
        logits = model.book_logits(state, codes[:2, t].expand(2, -1))
        for book in range(2):
            got = logits[book][1, : wanted.shape[-1]]
            assert torch.allclose(got, wanted[t, book], atol=1e-5), (t, book)
        previous = model.codes(codes[:2, t : t + 1].expand(2, -1, 1)).sum(1)[:, 0]


def test_the_scale_runs_from_unconditional_past_conditional():
    logits = torch.randn(6, 4, generator=seeded(0))
    conditional, other = logits[:3], logits[3:]
    mixed = guided(logits, torch.tensor([1.0, 0.0, 2.5]))
    assert torch.equal(mixed[0], conditional[0]) and torch.equal(mixed[1], other[1])
    assert torch.allclose(mixed[2], other[2] + 2.5 * (conditional[2] - other[2]), atol=1e-5)


def test_guidance_rises_where_text_and_prompt_say_little():
    frames = torch.tensor([3, 100, 100, 100, 100])
    each_code = torch.tensor([0.1, 0.1, 0.7, 0.8, 1.5])
    scale = adapted(3.0, 6.0, each_code * frames * 6, frames, 6)
    assert scale[0] == 3 and scale[1] == 6 and scale[4] == 3  # the first is too short to tell
    assert 6 > scale[2] > scale[3] > 3
    assert adapted(3.0, 3.0, each_code * frames * 6, frames, 6).tolist() == [3] * 5


def test_what_a_guidance_is_asked_for_is_what_it_is():
    model = ar_model(condition_drop=0.1, guidance=2.0, max_guidance=5.0)

    def limits(**options):
        sampler = FrameLoop(
            model,
            [text(5, 1)],
            [voice_of(1)],
            [LengthBounds.of(model, text(5, 1))],
            SamplingConfig(**options),
        ).sampler
        return sampler.guidance, sampler.max_guidance

    assert limits() == (2, 5)
    assert limits(guidance=3.0) == (3, 3)  # who names a scale gets that one
    assert limits(guidance=3.0, max_guidance=4.0) == (3, 4)
    assert limits(max_guidance=4.0) == (2, 4)
    assert limits(guidance=1.0) == (1, 1)
    with pytest.raises(ConfigError, match="max_guidance is 1"):
        ar_model(condition_drop=0.1, guidance=2.0, max_guidance=1.5)
    with pytest.raises(ConfigError, match="max_guidance is 11"):
        SamplingConfig(max_guidance=11)


@SIZES
@ALIGNMENTS
def test_a_guided_batch_equals_each_item_alone(alignment, size):
    model = ar_model(alignment=alignment, group_size=size, condition_drop=0.1)
    sampling = SamplingConfig(guidance=2.0, max_guidance=4.0)
    texts, voices = [text(7, 1), text(2, 2)], [voice_of(1), voice_of(2, num_symbols=2)]
    generators = [seeded(i) for i in range(2)]
    together = generate_batch(model, None, texts, voices, sampling=sampling, generators=generators)
    for i, item in enumerate(together):
        single = generate_codes(
            model, None, texts[i], voices[i], sampling=sampling, generator=seeded(i)
        )
        assert torch.equal(item.codes, single.codes)
        assert torch.equal(item.pointer, single.pointer)


def test_a_model_trained_without_conditions_now_and_then_speaks_guided():
    model = ar_model(input_drop=0.0, hidden_size=48, condition_drop=0.25)
    overfit(model, 200)
    for number in range(4):
        symbols = text(6 + number, number)
        spoken = generate_codes(
            model,
            None,
            symbols,
            voice_of(number),
            sampling=dataclasses.replace(LIKELIEST, guidance=1.5),
            generator=seeded(0),
        )
        assert torch.equal(spoken.codes, speak(symbols, number)[0][:2])


def test_conditions_are_dropped_in_training_only():
    model, batch = ar_model(condition_drop=0.5, input_drop=0.0), some_batch()
    with torch.no_grad():
        kept = float(model(**batch).loss)
        assert float(model(**batch).loss) == kept
        model.train()
        torch.manual_seed(0)
        losses = {float(model(**batch).loss) for _ in range(20)}
    assert 2 < len(losses) <= 8  # three items, each dropped or not
    assert min(abs(loss - kept) for loss in losses) < 1e-5


def test_guidance_needs_a_model_that_was_trained_for_it():
    with pytest.raises(ConfigError, match="without condition_drop"):
        generate_codes(
            ar_model(), None, text(3, 0), voice_of(0), sampling=SamplingConfig(guidance=2.0)
        )
    with pytest.raises(ConfigError, match="between 1"):
        SamplingConfig(guidance=0.0)


def test_an_unconditional_item_has_no_prompt_and_no_words():
    symbols, voice = text(5, 1), voice_of(1)
    for uses_pointer, length in ((True, len(symbols)), (False, 1)):
        nothing, nobody = unconditional(symbols, voice, uses_pointer)
        assert nothing.tolist() == [NO_TEXT] * length
        assert nobody.codes.shape == (K, 0) and not len(nobody.symbols)


def forced(model, symbols, voice, take):
    """Log-probability of a take's codes in one pass."""
    prompt = voice.codes[:2]
    codes = torch.cat((prompt, take.codes), 1)
    frame = torch.arange(codes.shape[1])
    logits = model(
        torch.cat((voice.symbols, symbols))[None],
        torch.tensor([len(voice.symbols) + len(symbols)]),
        codes[None],
        torch.tensor([codes.shape[1]]),
        torch.tensor([prompt.shape[1]]),
        (frame >= prompt.shape[1])[None],
        torch.cat((voice.pointer, take.pointer + len(voice.symbols)))[None],
        return_logits=True,
    ).logits
    return float(logits.log_softmax(-1).gather(-1, take.codes.T[..., None]).sum())


@SIZES
@torch.no_grad()
def test_evidence_is_by_how_much_text_and_prompt_make_the_codes_likelier(size):
    model = ar_model(group_size=size, condition_drop=0.1)
    texts, voices = [text(5, 1), text(9, 2)], [voice_of(1), voice_of(2)]
    sampling = SamplingConfig(guidance=2.0)
    takes = generate_batch(
        model, None, texts, voices, sampling=sampling, generators=[seeded(0), seeded(1)]
    )
    for symbols, voice, take in zip(texts, voices, takes, strict=True):
        nothing, nobody = unconditional(symbols, voice, uses_pointer=True)
        wanted = forced(model, symbols, voice, take) - forced(model, nothing, nobody, take)
        assert take.evidence == pytest.approx(wanted, abs=1e-3)
        assert abs(wanted) > 0.01


@torch.no_grad()
def test_the_most_faithful_take_is_kept_and_without_guidance_the_likeliest():
    model = ar_model(condition_drop=0.1)

    def take(count, choose, guidance):
        return generate_batch(
            model,
            None,
            [text(7, 1)],
            [voice_of(1)],
            sampling=SamplingConfig(guidance=guidance),
            generators=[seeded(0)],
            num_candidates=count,
            choose=choose,
        )[0]

    def each_frame(one):
        return one.evidence / one.codes.shape[1]

    single, kept = take(1, "faithful", 2.0), take(8, "faithful", 2.0)
    likeliest, shortest = (take(8, name, 2.0) for name in ("likeliest", "shortest"))
    assert all(each_frame(kept) >= each_frame(other) for other in (single, likeliest, shortest))
    assert each_frame(kept) > each_frame(single) + 1e-3
    unguided = take(8, "faithful", 1.0)
    assert unguided.evidence is None
    assert torch.equal(unguided.codes, take(8, "likeliest", 1.0).codes)
