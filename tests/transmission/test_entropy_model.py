"""The entropy model: what each distribution may depend on, and that a step is what was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_transmission import CODEC, entropy_model, ruled_codes, stepwise, whole
from transformers import AutoModel

from speechlm.errors import ConfigError, ModelMismatch
from speechlm.tokenizer.model_folder import load_model, save_model
from speechlm.transmission.config import EntropyConfig
from speechlm.transmission.entropy_model import EntropyModel


def test_steps_give_what_was_trained() -> None:
    model, codes = entropy_model(), ruled_codes(40)
    torch.testing.assert_close(stepwise(model, codes), whole(model, codes), atol=2e-4, rtol=1e-4)


def test_a_code_depends_on_the_past_and_on_lower_levels_of_its_frame_only() -> None:
    model, codes = entropy_model(), ruled_codes(12)
    before = whole(model, codes)
    other = codes.clone()
    other[1, 5] = (other[1, 5] + 7) % 32  # the upper of two levels
    changed = (whole(model, other) != before).any(-1)
    assert not changed[:6].any()  # frames before, its own lower level, and itself
    assert changed[6].all()
    other = codes.clone()
    other[0, 5] = (other[0, 5] + 7) % 32
    changed = (whole(model, other) != before).any(-1)
    assert not changed[:5].any()
    assert changed[5].tolist() == [False, True]


def test_books_that_are_not_sent_are_not_read() -> None:
    model, codes = entropy_model(), ruled_codes(12)
    other = codes.clone()
    other[2:] = 31 - other[2:]
    assert torch.equal(whole(model, other), whole(model, codes))


def test_what_left_every_window_is_forgotten() -> None:
    model, codes = entropy_model(window=3, num_layers=2), ruled_codes(30)
    other = codes.clone()
    other[:, 0] = (other[:, 0] + 5) % 32
    changed = (whole(model, other) != whole(model, codes)).flatten(1).any(1)
    # its codes enter with frame 1; each layer carries them two frames further
    assert changed.nonzero().max() == 1 + 2 * (3 - 1)


def test_memory_of_a_stream_does_not_grow() -> None:
    model = entropy_model(window=4)
    cache, previous = model.new_cache(), None
    sizes = set()
    with torch.no_grad():
        for frame in ruled_codes(40).T:
            model.advance(cache, previous)
            previous = frame[None, :2]
            sizes.add(sum(keys.numel() for keys in (*cache.keys, *cache.values)))
    assert max(sizes) == 2 * 2 * 32 * 3  # keys and values, layers, width, window - 1


def test_masked_frames_do_not_count() -> None:
    model, codes = entropy_model(), ruled_codes(20, batch=2)
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[1, 12:] = False
    other = codes.clone()
    other[1, :, 12:] = 0
    with torch.no_grad():
        assert model(codes, mask).loss == model(other, mask).loss


def test_codes_begin_as_alike_as_the_entries_of_the_codec() -> None:
    model = entropy_model()
    entries = torch.linspace(-1, 1, 32)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    model.take_codebooks(entries.expand(4, -1, -1))
    table = model.codes.table.weight.detach().unflatten(0, (2, 32))
    for vectors in (*table, *(head.logits.weight.detach() for head in model.heads)):
        distance = torch.cdist(vectors, vectors)
        assert bool((distance[0].diff() > 0).all())
    with pytest.raises(ModelMismatch, match="32 entries"):
        model.take_codebooks(torch.zeros(4, 16, 3))


def test_a_saved_model_comes_back_through_the_auto_classes(tmp_path: Path) -> None:
    model = entropy_model()
    save_model(model, tmp_path, "float32")
    codes = ruled_codes(9)
    for loaded in (load_model(tmp_path, EntropyModel), AutoModel.from_pretrained(tmp_path)):
        assert torch.equal(whole(loaded, codes), whole(model, codes))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_base_books": 1}, "masked books"),
        ({"num_base_books": 5}, "masked books"),
        ({"num_heads": 5}, "multiple of num_heads"),
        ({"window": 0}, "window"),
        ({"dropout": 1.0}, "dropout"),
        ({"widow": 4}, "widow"),
    ],
)
def test_sizes_that_contradict_are_refused(change: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        EntropyConfig.for_codec(CODEC, **change)
