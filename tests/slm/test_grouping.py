"""Groups of frames: one step of the Transformer writes several, and nothing else changes."""

import math

import pytest
import torch
from tiny_language import (
    IDENTITY,
    SIZES,
    K,
    V,
    alone,
    ar_model,
    overfit,
    some_batch,
    speak,
    step_error,
    text,
    voice_of,
)
from transformers import PreTrainedModel

from speechlm.errors import ConfigError
from speechlm.slm.config import AutoregressiveConfig
from speechlm.slm.forced_alignment import align
from speechlm.slm.generate import generate_batch, generate_codes
from speechlm.slm.group_decoder import decoder_for
from speechlm.slm.grouping import FrameGroups
from speechlm.slm.initialization import InitializedModel
from speechlm.slm.prompt import Voice
from speechlm.slm.sampling import SamplingConfig

ALIGNMENTS = pytest.mark.parametrize("alignment", ["pointer", "prefix"])
GROUPS = pytest.mark.parametrize("size", [2, 4])
LIKELIEST = SamplingConfig(temperature=0.0, repetition_window=0, max_silence_seconds=0)
NO_PROMPT = Voice.without_text(torch.zeros(K, 0, dtype=torch.int64), IDENTITY)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("alignment", "loss", "in_training"),
    [("pointer", 3.455276, 3.454262), ("prefix", 2.694375, 2.714678)],
)
@torch.no_grad()
def test_groups_of_one_lose_what_the_plain_model_lost(alignment, loss, in_training, monkeypatch):
    # Measured on the model as it was before it knew groups: same weights drawn, same dropout drawn.
    # At that time transformers passed over the rules for whole blocks and heads.
    rule = PreTrainedModel._initialize_weights
    monkeypatch.setattr(InitializedModel, "_initialize_weights", rule)
    model, batch = ar_model(alignment=alignment, group_size=1), some_batch()
    assert float(model(**batch).loss) == pytest.approx(loss, abs=2e-5)
    torch.manual_seed(3)
    assert float(model.train()(**batch).loss) == pytest.approx(in_training, abs=2e-5)
    assert not [name for name, _ in model.named_parameters() if "group" in name]


@GROUPS
def test_prompt_and_target_share_no_group(size):
    prompt_frames, length = torch.tensor([0, 1, 5, 8]), 11
    groups = FrameGroups(prompt_frames, length, size)
    frames = torch.arange(1.0, length + 1).expand(4, -1)[..., None]
    slots = groups.fill(frames)
    assert slots.shape == (4, groups.num_groups, size, 1)
    assert torch.equal(groups.frames(slots), frames)  # nothing is lost, nothing doubled
    assert torch.equal(slots.sum((1, 2)), frames.sum(1))
    counts = groups.group_counts(prompt_frames)
    for item, (prompt, count) in enumerate(zip(prompt_frames, counts, strict=True)):
        assert count == math.ceil(prompt / size)
        assert slots[item, count, 0] == prompt + 1  # the target's first frame opens a group


@GROUPS
@ALIGNMENTS
@torch.no_grad()
def test_batch_equals_each_item_alone(alignment, size):
    model, batch = ar_model(alignment=alignment, group_size=size), some_batch()
    together = model(**batch, return_logits=True).logits
    single = [model(**alone(batch, i), return_logits=True).logits for i in range(3)]
    assert torch.allclose(together, torch.cat(single), atol=1e-5)


@GROUPS
@ALIGNMENTS
@torch.no_grad()
def test_a_frame_sees_only_earlier_frames(alignment, size):
    model, batch = ar_model(alignment=alignment, group_size=size), alone(some_batch(), 0)
    batch["loss_mask"] = torch.ones_like(batch["loss_mask"])
    length = batch["codes"].shape[2]
    before = model(**batch, return_logits=True).logits[:length]
    for frame in range(int(batch["prompt_frames"][0]), length - 1):
        other = {**batch, "codes": batch["codes"].clone()}
        other["codes"][:, :2, frame] = (other["codes"][:, :2, frame] + 1) % V
        after = model(**other, return_logits=True).logits[:length]
        moved = (after[:, 0] - before[:, 0]).abs().amax(-1) > 1e-6
        assert not moved[: frame + 1].any() and moved[frame + 1], frame


@GROUPS
@ALIGNMENTS
@torch.no_grad()
def test_cached_steps_equal_the_forward_pass(alignment, size):
    model, symbols = ar_model(alignment=alignment, group_size=size), text(5, 1)
    for voice in (voice_of(1), voice_of(2, num_symbols=3), NO_PROMPT):
        codes = speak(symbols, 1)[0]
        decoder = decoder_for(model, [symbols], [voice], codes.shape[1])
        assert step_error(model, decoder, voice, symbols) < 1e-5
        runs = decoder.cache.length - decoder.num_past
        assert runs == math.ceil(codes.shape[1] / size)  # the Transformer ran once a group


@ALIGNMENTS
def test_a_generated_batch_equals_each_item_alone(alignment):
    ar = ar_model(alignment=alignment, group_size=2)
    texts = [text(7, 1), text(2, 2), text(11, 3)]
    voices = [voice_of(1), voice_of(2, num_symbols=2), NO_PROMPT]
    together = generate_batch(ar, None, texts, voices, generators=[seeded(i) for i in range(3)])
    for i, item in enumerate(together):
        single = generate_codes(ar, None, texts[i], voices[i], generator=seeded(i))
        assert torch.equal(item.codes, single.codes)
        assert torch.equal(item.pointer, single.pointer)
        assert item.finish_reason == single.finish_reason


@GROUPS
@pytest.mark.parametrize("bias", [-50.0, 0.0, 50.0])
def test_the_pointer_walks_over_every_symbol_and_ends_inside_a_group_too(bias, size):
    model = ar_model(group_size=size)
    torch.nn.init.constant_(model.advance.bias, bias)
    symbols = text(5, 0)
    spoken = generate_codes(model, None, symbols, voice_of(0), generator=seeded(0))
    assert spoken.pointer[0] == 0 and spoken.pointer[-1] == len(symbols) - 1
    assert set(spoken.pointer.diff().tolist()) <= {0, 1}
    assert spoken.finish_reason == "end"


@pytest.mark.parametrize(("alignment", "size"), [("pointer", 2), ("pointer", 4), ("prefix", 2)])
def test_what_was_learned_in_groups_is_spoken_and_aligned(alignment, size):
    model = ar_model(alignment=alignment, group_size=size, input_drop=0.0, hidden_size=48)
    assert overfit(model, 160)[-1] < 0.1
    for number in range(4):
        symbols = text(6 + number, number)
        codes, pointer = speak(symbols, number)
        spoken = generate_codes(model, None, symbols, voice_of(number), sampling=LIKELIEST)
        assert torch.equal(spoken.codes, codes[:2])
        assert spoken.finish_reason == "end"  # lengths of both parities: ends anywhere in a group
        if alignment == "pointer":
            assert torch.equal(spoken.pointer, pointer)
            heard = align(model, symbols, Voice.without_text(codes, IDENTITY))
            assert (heard - pointer).abs().float().mean() < 0.2


def test_every_weight_gets_a_gradient():
    for alignment in ("pointer", "prefix"):
        model = ar_model(alignment=alignment, group_size=4).train()
        model(**some_batch()).loss.backward()
        assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_groups_that_nobody_tried_are_refused():
    with pytest.raises(ConfigError, match="choose one of 1, 2, 4"):
        AutoregressiveConfig.for_codec(IDENTITY, **{**SIZES, "group_size": 3})


@ALIGNMENTS
def test_bfloat16_training_keeps_float32_losses(alignment):
    model, batch = ar_model(alignment=alignment, group_size=2, condition_drop=0.3), some_batch()
    model.train()
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
    assert loss.dtype == torch.float32
    loss.backward()
    torch.manual_seed(0)
    with torch.no_grad():
        assert float(loss.detach()) == pytest.approx(float(model(**batch).loss), rel=0.2)
