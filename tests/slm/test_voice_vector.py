"""The voice vector: what every frame of the target is told of the whole prompt."""

import pytest
import torch
from tiny_language import (
    IDENTITY,
    K,
    ar_model,
    batch_of,
    speak,
    step_error,
    text,
    voice_of,
)

from speechlm.slm.generate import generate_batch, generate_codes
from speechlm.slm.group_decoder import decoder_for
from speechlm.slm.prompt import Voice
from speechlm.slm.sampling import SamplingConfig

ALIGNMENTS = pytest.mark.parametrize("alignment", ["pointer", "prefix"])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def voiced_model(**changes):
    """A model whose voice vector says something, as after training."""
    model = ar_model(voice_vector=True, **changes)
    with torch.no_grad():
        torch.nn.init.normal_(model.voice.output.weight, std=0.5)
    return model


@ALIGNMENTS
@pytest.mark.parametrize("size", [1, 2])
@torch.no_grad()
def test_cached_steps_equal_the_forward_pass(alignment, size):
    model, voice, symbols = (
        voiced_model(alignment=alignment, group_size=size),
        voice_of(1),
        text(5, 1),
    )
    decoder = decoder_for(model, [symbols], [voice], speak(symbols, 1)[0].shape[1])
    assert step_error(model, decoder, voice, symbols) < 1e-5


@ALIGNMENTS
@torch.no_grad()
def test_a_model_that_is_given_one_begins_as_it_was(alignment):
    plain, given = ar_model(alignment=alignment), ar_model(alignment=alignment, voice_vector=True)
    missing, unknown = given.load_state_dict(plain.state_dict(), strict=False)
    assert not unknown and all(name.startswith("voice.") for name in missing)
    batch = batch_of((voice_of(1), text(5, 1), 1), (voice_of(2), text(7, 2), 2))
    logits = [model(**batch, return_logits=True).logits for model in (plain, given)]
    assert torch.equal(*logits)


@torch.no_grad()
def test_it_hears_the_prompt_whole_and_nothing_else():
    model = voiced_model()
    codes, num_frames = torch.randint(0, 12, (2, K, 9)), torch.tensor([5, 0])
    vectors = model.voice_of(codes, num_frames)
    assert torch.equal(vectors[1], torch.zeros(32)) and vectors[0].norm() > 0.1
    shuffled = codes.clone()
    shuffled[:, :, :5] = codes[:, :, [3, 0, 4, 1, 2]]
    shuffled[:, :, 5:] = 0
    assert torch.allclose(model.voice_of(shuffled, num_frames), vectors, atol=1e-6)
    other = codes.clone()
    other[0, 0, 2] = (codes[0, 0, 2] + 1) % 12
    assert not torch.allclose(model.voice_of(other, num_frames)[0], vectors[0], atol=1e-3)


def test_every_weight_gets_a_gradient():
    model = voiced_model().train()
    model(**batch_of((voice_of(1), text(5, 1), 1))).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.voice.parameters())


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_batch_speaks_as_each_voice_alone(guidance):
    model = voiced_model(condition_drop=0.1)
    sampling = SamplingConfig(temperature=0.0, guidance=guidance)
    nobody = Voice.without_text(torch.zeros(K, 0, dtype=torch.int64), IDENTITY)
    voices, symbols = (
        [voice_of(1), voice_of(2, num_symbols=9), nobody],
        [text(5, i) for i in range(3)],
    )
    alone_codes = [
        generate_codes(model, None, s, v, sampling=sampling, generator=seeded(i)).codes
        for i, (s, v) in enumerate(zip(symbols, voices, strict=True))
    ]
    sources = [seeded(i) for i in range(3)]
    together = generate_batch(model, None, symbols, voices, sampling=sampling, generators=sources)
    for one, many in zip(alone_codes, together, strict=True):
        assert torch.equal(one, many.codes)
