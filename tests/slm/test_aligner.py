"""The aligner: sums over paths, best paths, and durations learned from texts alone."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import pytest
import torch
from made_up_speech import (
    IDENTITY,
    aligner,
    boundary_error,
    inputs,
    trained_aligner,
    utterance,
)
from torch import Tensor
from transformers import AutoModel

from speechlm.errors import ConfigError, ModelMismatch, UnsupportedText
from speechlm.slm.aligner import AlignerConfig, AlignerModel, load_aligner, padded
from speechlm.slm.config import AutoregressiveConfig
from speechlm.slm.monotonic import best_path, log_path_sum, off_diagonal
from speechlm.slm.shipped import shipped_models
from speechlm.tokenizer.model_folder import load_model, read_config, save_model

HELD_OUT = [utterance(seed) for seed in range(1000, 1030)]


def paths(frames: int, symbols: int) -> list[Tensor]:
    """Every monotonic path, as the symbol of each frame."""
    found = []
    for starts in combinations(range(1, frames), symbols - 1):
        path = torch.zeros(frames, dtype=torch.int64)
        for start in starts:
            path[start:] += 1
        found.append(path)
    return found


def item_scores(scores: Tensor, frames: int, symbols: int) -> Tensor:
    """Log-likelihood of each path of `[T, S]` scores."""
    rows = torch.arange(frames)
    return torch.stack([scores[rows, path].sum() for path in paths(frames, symbols)])


# items of one batch: padded in frames, in symbols, in neither, and one without a choice
SHAPES = [(7, 3), (5, 4), (7, 4), (4, 4), (6, 1)]


def some_scores() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    frames, symbols = (torch.tensor(sizes) for sizes in zip(*SHAPES, strict=True))
    return 3 * torch.randn(len(SHAPES), 7, 4), frames, symbols


def test_the_sum_is_over_all_paths_and_its_gradient_theirs() -> None:
    scores, frames, symbols = some_scores()
    ours, theirs = (scores.clone().requires_grad_() for _ in range(2))
    found = log_path_sum(ours, frames, symbols)
    expected = torch.stack(
        [item_scores(theirs[i], *shape).logsumexp(0) for i, shape in enumerate(SHAPES)]
    )
    assert torch.allclose(found, expected, atol=1e-4)
    weights = torch.arange(1.0, 6.0)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert ours.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-4)


def test_the_best_path_is_the_best_of_all() -> None:
    scores, frames, symbols = some_scores()
    durations, likelihood = best_path(scores, frames, symbols)
    for i, (num_frames, num_symbols) in enumerate(SHAPES):
        each = item_scores(scores[i], num_frames, num_symbols)
        best = paths(num_frames, num_symbols)[int(each.argmax())]
        assert torch.equal(durations[i], best.bincount(minlength=num_symbols))
        assert float(likelihood[i]) == pytest.approx(float(each.max()), abs=1e-4)


def test_the_diagonal_gives_all_symbols_the_same_time() -> None:
    frames, symbols = torch.tensor([12, 8]), torch.tensor([3, 4])
    off = off_diagonal(torch.zeros(2, 12, 4), frames, symbols)
    durations, _ = best_path(-off, frames, symbols)
    assert [each.tolist() for each in durations] == [[4, 4, 4], [2, 2, 2, 2]]


@torch.no_grad()
def test_an_item_is_scored_as_if_it_were_alone() -> None:
    model = aligner()
    rows = HELD_OUT[:4]
    together, alone = model.scores(**padded([inputs(row) for row in rows]))
    for i, row in enumerate(rows):
        single, voice = model.scores(**padded([inputs(row)]))
        frames, symbols = single.shape[1:]
        assert torch.allclose(together[i, :frames, :symbols], single[0], atol=1e-4)
        assert torch.allclose(alone[i, :frames], voice[0], atol=1e-4)


@pytest.fixture(scope="module")
def trained() -> AlignerModel:
    return trained_aligner()


def test_boundaries_are_found_without_having_seen_one(trained: AlignerModel) -> None:
    # letters last 1 to 9 frames, and a quarter of the frames is noise
    assert boundary_error(trained, HELD_OUT) < 1.0
    assert boundary_error(aligner(), HELD_OUT) > 4.0


def test_a_text_gains_on_its_own_recording(trained: AlignerModel) -> None:
    own = trained.align([inputs(row) for row in HELD_OUT])
    others = [
        (inputs(other)[0], row.codes)
        for row, other in pairwise(HELD_OUT)
        if len(other.phonemes) + 2 <= row.num_frames
    ]
    wrong = trained.align(others)
    assert min(found.gain for found in own) > 0.5
    assert sum(found.gain for found in wrong) / len(wrong) < 0.3


def test_every_symbol_gets_a_frame_and_every_frame_a_symbol(trained: AlignerModel) -> None:
    symbols, codes = inputs(HELD_OUT[0])
    for length in (len(symbols), len(symbols) + 1, codes.shape[1]):
        (found,) = trained.align([(symbols, codes[:, :length])])
        assert int(found.durations.min()) >= 1
        assert int(found.durations.sum()) == length
    with pytest.raises(UnsupportedText, match="do not fit"):
        trained.align([(symbols, codes[:, : len(symbols) - 1])])


def test_a_saved_model_aligns_alike(trained: AlignerModel, tmp_path: Path) -> None:
    rows = [inputs(row) for row in HELD_OUT]
    found = trained.align(rows)

    def moved(loaded: AlignerModel) -> int:
        pairs = zip(found, loaded.align(rows), strict=True)
        return sum(int((one.durations != two.durations).sum()) for one, two in pairs)

    save_model(trained, tmp_path / "whole", storage="float32")
    assert moved(load_model(tmp_path / "whole", AlignerModel)) == 0
    half = tmp_path / "half"
    save_model(trained, half)
    for loaded in (load_model(half, AlignerModel), AutoModel.from_pretrained(half)):
        assert loaded.config.codec_identity == IDENTITY
        # weights are stored in half precision
        assert moved(loaded) <= 4


@pytest.mark.parametrize(
    ("field", "value"), [("num_books", 4), ("num_books", 0), ("kernel_size", 2), ("num_layers", 0)]
)
def test_sizes_that_make_no_model_are_refused(field: str, value: int) -> None:
    with pytest.raises(ConfigError, match=field):
        AlignerConfig.for_codec(IDENTITY, **{field: value})


def test_what_ships_reads_the_shipped_voice_models_codes_and_symbols() -> None:
    model = read_config(shipped_models() / "ar", AutoregressiveConfig)
    shipped = load_aligner(None, model.codec_identity, "The shipped codec")
    assert set(shipped.config.symbols) == set(model.symbols)


def test_what_ships_refuses_other_codecs_and_tells_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match="train one with `speechlm train aligner`"):
        load_aligner(None, IDENTITY, "The codec of some tokens")
    save_model(aligner(), tmp_path)
    assert load_aligner(tmp_path, IDENTITY, "It").config.codec_identity == IDENTITY
