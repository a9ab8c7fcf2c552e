"""Generation: the right codes, in any batch, with a pointer that walks and ends."""

import dataclasses
import itertools
import math
from dataclasses import replace

import pytest
import torch
from tiny_language import (
    IDENTITY,
    SIZES,
    K,
    ar_model,
    nar_model,
    overfit,
    speak,
    step_error,
    text,
    voice_of,
)

from speechlm.errors import ConfigError, ModelMismatch, UnsupportedText
from speechlm.slm.frame_decoder import FrameDecoder
from speechlm.slm.frame_loop import FrameLoop
from speechlm.slm.generate import generate_batch, generate_codes
from speechlm.slm.length import LengthBounds
from speechlm.slm.prompt import Voice, heard_again
from speechlm.slm.sampling import SamplingConfig
from speechlm.slm.streaming import stream_codes

ALIGNMENTS = pytest.mark.parametrize("alignment", ["pointer", "prefix"])
LIKELIEST = SamplingConfig(temperature=0.0)
NO_PROMPT = Voice.without_text(torch.zeros(K, 0, dtype=torch.int64), IDENTITY)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_sentences_known_by_heart_come_out_right(fluent):
    ar, nar, *_ = fluent
    for number in range(4):
        symbols = text(6 + number, number)
        spoken = generate_codes(
            ar, nar, symbols, voice_of(number), sampling=LIKELIEST, generator=seeded(0)
        )
        codes, pointer = speak(symbols, number)
        assert torch.equal(spoken.codes, codes)
        assert torch.equal(spoken.pointer, pointer)
        assert spoken.finish_reason == "end"
        assert -2 < spoken.log_probability <= 0


def test_the_plain_prefix_model_speaks_and_stops():
    model = ar_model(alignment="prefix", input_drop=0.0)
    overfit(model, 120)
    symbols = text(6, 0)
    spoken = generate_codes(
        model,
        None,
        symbols,
        voice_of(0),
        sampling=dataclasses.replace(LIKELIEST, repetition_window=0),
    )
    assert spoken.finish_reason == "end"
    assert torch.equal(spoken.codes, speak(symbols, 0)[0][:2])


@ALIGNMENTS
@torch.no_grad()
def test_cached_steps_equal_the_forward_pass(alignment):
    model, voice, symbols = ar_model(alignment=alignment), voice_of(1), text(5, 1)
    decoder = FrameDecoder(model, [symbols], [voice], speak(symbols, 1)[0].shape[1])
    assert step_error(model, decoder, voice, symbols) < 1e-5


@ALIGNMENTS
def test_a_batch_equals_each_item_alone(alignment):
    ar, nar = ar_model(alignment=alignment), nar_model(alignment=alignment)
    texts = [text(7, 1), text(2, 2), text(11, 3)]
    voices = [voice_of(1), voice_of(2, num_symbols=2), NO_PROMPT]
    together = generate_batch(ar, nar, texts, voices, generators=[seeded(i) for i in range(3)])
    for i, item in enumerate(together):
        single = generate_codes(ar, nar, texts[i], voices[i], generator=seeded(i))
        assert torch.equal(item.codes, single.codes)
        assert torch.equal(item.pointer, single.pointer)
        assert item.finish_reason == single.finish_reason
        assert item.log_probability == pytest.approx(single.log_probability, abs=1e-3)


@pytest.mark.parametrize("bias", [-50.0, 0.0, 50.0])
def test_the_pointer_walks_over_every_symbol_and_ends(bias):
    model = ar_model()
    torch.nn.init.constant_(model.advance.bias, bias)
    symbols = text(5, 0)
    spoken = generate_codes(model, None, symbols, voice_of(0), generator=seeded(0))
    steps = spoken.pointer.diff()
    assert spoken.pointer[0] == 0 and spoken.pointer[-1] == len(symbols) - 1
    assert set(steps.tolist()) <= {0, 1}
    spent = torch.bincount(spoken.pointer)
    longest = SIZES["max_frames_per_symbol"]
    assert spent.min() >= 1 and spent.max() <= longest
    if bias:  # never leaving by choice, or always
        assert set(spent.tolist()) == {longest if bias < 0 else 1}
    assert spoken.finish_reason == "end"
    assert spoken.codes.shape == (2, len(spoken.pointer))


def test_the_cap_on_frames_holds_and_is_told():
    for alignment in ("pointer", "prefix"):
        model = ar_model(alignment=alignment)
        spoken = generate_codes(
            model, None, text(30, 0), voice_of(0), max_frames=4, generator=seeded(0)
        )
        assert spoken.codes.shape[1] == 4
        assert spoken.finish_reason == "length"


def test_the_prefix_model_never_says_nothing():
    model = ar_model(alignment="prefix")
    torch.nn.init.constant_(model.heads[0].logits.bias[-1:], 50.0)
    spoken = generate_codes(model, None, text(3, 0), voice_of(0), sampling=LIKELIEST)
    assert spoken.codes.shape[1] == LengthBounds.of(model, text(3, 0)).shortest
    assert spoken.finish_reason == "end"


def test_a_seed_repeats_and_another_differs():
    model, symbols = ar_model(), text(8, 0)
    first, again, other = (
        generate_codes(model, None, symbols, voice_of(0), generator=seeded(s)) for s in (5, 5, 6)
    )
    assert torch.equal(first.codes, again.codes)
    assert first.codes.shape != other.codes.shape or not torch.equal(first.codes, other.codes)


@ALIGNMENTS
def test_a_short_prompt_is_heard_again_and_one_with_its_text_is_not(alignment):
    model = ar_model(alignment=alignment, min_prompt_seconds=1.0)
    short, words = voice_of(0), text(4, seed=1)
    frames = short.codes.shape[1]
    times = math.ceil(IDENTITY.frame_rate_hz / frames)
    assert times > 1

    def spoken(voice, **options):
        sampling = SamplingConfig(**options)
        return generate_codes(
            model, None, words, voice, sampling=sampling, generator=seeded(3), max_frames=40
        )

    written_out = Voice.without_text(short.codes.repeat(1, times), IDENTITY)
    again, once = spoken(short), spoken(short, min_prompt_seconds=0)
    assert torch.equal(again.codes, spoken(written_out, min_prompt_seconds=0).codes)
    assert again.log_probability != once.log_probability
    long = voice_of(0, num_symbols=60)
    assert heard_again(long, 1.0) is long
    told = replace(short, symbols=torch.tensor([1, 4, 1]), vocabulary="x")
    nobody = Voice.without_text(short.codes[:, :0], IDENTITY)
    assert heard_again(told, 1.0) is told and heard_again(nobody, 1.0) is nobody


def test_how_long_a_prompt_shall_be_has_bounds():
    for wrong in (-1, 11):
        with pytest.raises(ConfigError, match="min_prompt_seconds"):
            SamplingConfig(min_prompt_seconds=wrong)
        with pytest.raises(ConfigError, match="min_prompt_seconds"):
            ar_model(min_prompt_seconds=wrong)


def test_a_batch_of_reasons():
    model, long, short = ar_model(), text(20, 0), text(1, 1)
    torch.nn.init.constant_(model.advance.bias, 50.0)
    pair = generate_batch(
        model,
        None,
        [long, short],
        [voice_of(0)] * 2,
        max_frames=10,
        generators=[seeded(0), seeded(1)],
    )
    assert [item.finish_reason for item in pair] == ["length", "end"]
    assert [item.codes.shape[1] for item in pair] == [10, 3]


def test_what_does_not_belong_together_is_refused():
    ar, voice = ar_model(), voice_of(0)
    foreign = dataclasses.replace(IDENTITY, revision="1" * 16)
    with pytest.raises(ModelMismatch, match="The voice was made with codec"):
        generate_codes(ar, None, text(3, 0), dataclasses.replace(voice, identity=foreign))
    with pytest.raises(ModelMismatch, match="differ in ar_books"):
        generate_codes(ar, nar_model(ar_books=1), text(3, 0), voice)
    with pytest.raises(ModelMismatch, match="has 2 codebooks"):
        thin = dataclasses.replace(voice, codes=voice.codes[:2])
        generate_codes(ar, nar_model(), text(3, 0), thin)
    with pytest.raises(UnsupportedText, match="no symbol"):
        generate_codes(ar, None, torch.zeros(0, dtype=torch.int64), voice)
    with pytest.raises(UnsupportedText, match="table of 11"):
        generate_codes(ar, None, torch.tensor([1, 11, 1]), voice)
    with pytest.raises(ConfigError, match="max_frames"):
        generate_codes(ar, None, text(3, 0), voice, max_frames=0)
    with pytest.raises(ConfigError, match="2 texts came with 1 voices"):
        generate_batch(ar, None, [text(3, 0)] * 2, [voice])


def test_the_first_take_is_what_one_take_gives_and_the_best_is_kept():
    model = ar_model()
    texts, voices = [text(7, 1), text(4, 2)], [voice_of(1), voice_of(2)]

    def takes(count, choose="likeliest"):
        sources = [seeded(i) for i in range(2)]
        return generate_batch(
            model,
            None,
            texts,
            voices,
            generators=sources,
            num_candidates=count,
            choose=choose,
        )

    def each_frame(take):
        return take.log_probability / take.codes.shape[1]

    single, again, likeliest, shortest = takes(1), takes(6), takes(6), takes(6, "shortest")
    for i in range(2):
        assert torch.equal(likeliest[i].codes, again[i].codes)
        assert each_frame(likeliest[i]) >= each_frame(single[i]) - 1e-4
        assert shortest[i].codes.shape[1] <= single[i].codes.shape[1]
    assert any(each_frame(likeliest[i]) > each_frame(single[i]) + 1e-3 for i in range(2))
    assert any(shortest[i].codes.shape[1] < likeliest[i].codes.shape[1] for i in range(2))
    with pytest.raises(ConfigError, match="num_candidates"):
        takes(0)
    with pytest.raises(ConfigError, match="choose is 'best'"):
        takes(2, "best")


def test_a_text_keeps_its_length_within_what_is_plausible():
    hasty = ar_model(max_frames_per_symbol=40)
    torch.nn.init.constant_(hasty.advance.bias, 50.0)
    slow = ar_model(max_frames_per_symbol=40)
    torch.nn.init.constant_(slow.advance.bias, -50.0)
    symbols = text(60, 0)
    bounds = LengthBounds.of(hasty, symbols)
    seconds = [
        generate_codes(model, None, symbols, voice_of(0), generator=seeded(0)).codes.shape[1] / 50
        for model in (hasty, slow)
    ]
    # 62 symbols of 0.03 to 0.22 s, and something for silences at the ends
    assert seconds[0] >= 62 * 0.03 - 0.15
    assert seconds[1] <= 62 * 0.22 + 0.85
    assert bounds.shortest <= seconds[0] * 50 and seconds[1] * 50 <= bounds.longest
    # a cap below what is plausible forbids no end
    assert LengthBounds.of(hasty, symbols, 10) == LengthBounds(1, 10)


def test_a_pointer_does_not_stand_in_a_pause():
    symbols = [*SIZES["symbols"][:3], *"abcd ,.!"]
    model = ar_model(symbols=symbols, max_frames_per_symbol=60)
    torch.nn.init.constant_(model.advance.bias, -50.0)
    spoken = torch.tensor([1, 3, 4, 8, 7, 5, 6, 1])  # a b , blank c d
    pauses = SamplingConfig(max_silence_seconds=0.2)
    pointer = generate_codes(
        model, None, spoken, voice_of(0), sampling=pauses, generator=seeded(0)
    ).pointer
    spent = torch.bincount(pointer)
    assert spent[[0, 3, 7]].tolist() == [10, 10, 10] and spent[4] == 1
    free = SamplingConfig(max_silence_seconds=0.0)
    pointer = generate_codes(
        model, None, spoken, voice_of(0), sampling=free, generator=seeded(0)
    ).pointer
    assert torch.bincount(pointer)[3] > 10


def test_of_a_pause_before_the_first_sound_a_breath_is_kept():
    """A prompt with a second of room before its first word is no reason to wait as long."""
    model = ar_model(symbols=[*SIZES["symbols"][:7], ","], max_frames_per_symbol=60)
    torch.nn.init.constant_(model.advance.bias, -50.0)
    spoken = torch.tensor([1, 7, 3, 4, 1])  # , a b
    options = SamplingConfig(max_silence_seconds=0.6)
    bound = LengthBounds.of(model, spoken)
    loop = FrameLoop(model, [spoken], [voice_of(0)], [bound], options, [seeded(0)])
    while not loop.is_over:
        loop.step()
    written = int(loop.num_frames[0])
    assert int((loop.pointers[0, :written] < 2).sum()) > 25
    heard = generate_codes(model, None, spoken, voice_of(0), sampling=options, generator=seeded(0))
    assert int((heard.pointer < 2).sum()) == 10  # 0.2 s
    assert torch.equal(heard.codes, loop.codes[0, written - heard.codes.shape[1] : written].T)
    pieces = stream_codes(
        model, None, spoken, voice_of(0), sampling=options, generator=seeded(0), first_frames=3
    )
    assert torch.equal(torch.cat(list(pieces), dim=1), heard.codes)
    nothing = generate_codes(model, None, torch.tensor([1, 7, 1]), voice_of(0), sampling=options)
    assert nothing.codes.shape[1] > 10  # where no sound ever comes nothing is left out


def test_a_prefix_model_falls_silent_only_so_long():
    model = ar_model(alignment="prefix")
    with torch.no_grad():
        model.heads[0].logits.bias[4] = 30.0  # nothing but the code of silence
    options = SamplingConfig(1.0, top_k=0, repetition_window=0, max_silence_seconds=0.1)

    def longest(silent):
        codes = generate_batch(
            model,
            None,
            [text(12, 0)],
            [voice_of(0)],
            sampling=options,
            generators=[seeded(0)],
            silent_codes=silent,
        )[0].codes[0]
        runs = [len(list(run)) for code, run in itertools.groupby(codes.tolist()) if code == 4]
        return max(runs)

    assert longest(torch.tensor([4])) == 5
    assert longest(None) > 50
