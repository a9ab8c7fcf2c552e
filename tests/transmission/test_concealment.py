"""Concealment: the codec's own latents where all came, bounded and honest guesses where not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_codecs import tiny_codec
from tiny_masked import masked_model

from speechlm.errors import ModelMismatch
from speechlm.tokenizer.codec import CodecModel
from speechlm.tokenizer.model_folder import save_model
from speechlm.tokenizer.stream import CodecStream
from speechlm.transmission.concealment import MaskedConcealer
from speechlm.transmission.masked_model import MaskedModel


@pytest.fixture(scope="module")
def codec() -> CodecModel:
    return tiny_codec()


@pytest.fixture(scope="module")
def model(codec: CodecModel) -> MaskedModel:
    return masked_model(codec=codec.identity)


@pytest.fixture
def concealer(model: MaskedModel, codec: CodecModel) -> MaskedConcealer:
    return MaskedConcealer(model, codec)


def received(codec: CodecModel, frames: int = 24, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    shape = (codec.config.num_codebooks, frames)
    return torch.randint(0, codec.config.codebook_size, shape, generator=draw)


def test_without_loss_every_latent_is_the_codecs_own(
    concealer: MaskedConcealer, codec: CodecModel
) -> None:
    codes = received(codec)
    own = codec.quantizer.decode(codes[None])[0]
    found = torch.stack([concealer.latent(codes, index) for index in range(codes.shape[1])])
    assert torch.equal(found, own)


def test_a_guess_reads_no_further_than_its_bounds(
    concealer: MaskedConcealer, codec: CodecModel
) -> None:
    codes, index = received(codec), 12
    codes[:, index] = -1
    assert (concealer.past_frames, concealer.future_frames) == (6, 2)
    guess = concealer.latent(codes, index)
    other = received(codec, seed=1)
    first, last = index - concealer.past_frames, index + concealer.future_frames
    beyond = other.clone()
    beyond[:, first : last + 1] = codes[:, first : last + 1]
    assert torch.equal(concealer.latent(beyond, index), guess)
    assert torch.equal(concealer.latent(codes[:, first : last + 1], index - first), guess)
    for place in (first, index - 1, index + 1, last):
        changed = codes.clone()
        changed[:, place] = other[:, place]
        assert not torch.equal(concealer.latent(changed, index), guess)


def test_what_came_of_a_frame_is_played_and_only_the_rest_is_guessed(
    concealer: MaskedConcealer, codec: CodecModel
) -> None:
    codes, index = received(codec), 9
    entries = codec.quantizer.codebooks
    base = codec.config.num_masked_books
    partly = codes.clone()
    partly[base + 1 :, index] = -1
    played = sum(entries[k, codes[k, index]] for k in range(base + 1))
    rest = concealer.latent(partly, index) - played
    # a mean of entries lies within them
    widest = sum(entries[k].norm(dim=1).max() for k in range(base + 1, len(entries)))
    assert 0 < rest.norm() <= widest
    orphan = codes.clone()
    orphan[:base, index] = -1
    kept = sum(entries[k, codes[k, index]] for k in range(base, len(entries)))
    channels = codec.quantizer.slices
    guess = concealer.latent(orphan, index) - kept
    for book, seen in enumerate(channels):
        low, high = entries[book, :, seen].amin(0), entries[book, :, seen].amax(0)
        assert bool(((low - 1e-5 <= guess[seen]) & (guess[seen] <= high + 1e-5)).all())


def test_guesses_do_not_feed_on_guesses(concealer: MaskedConcealer, codec: CodecModel) -> None:
    """A frame's guess is the same whether or not others of its gap were asked for before."""
    codes = received(codec)
    codes[:, 10:14] = -1
    kept = codes.clone()
    alone = concealer.latent(codes, 13)
    for index in range(10, 14):
        last = concealer.latent(codes, index)
    assert torch.equal(last, alone)
    assert torch.equal(codes, kept)


def test_a_stream_begins_and_ends_with_losses(
    concealer: MaskedConcealer, codec: CodecModel
) -> None:
    nothing = torch.full((codec.config.num_codebooks, 3), -1)
    played = torch.stack([concealer.latent(nothing, index) for index in range(3)])
    assert bool(played.isfinite().all())
    stream = CodecStream(codec)
    samples = torch.cat((stream.pull_latents(played), stream.drain()))
    assert len(samples) == 3 * codec.config.hop_length


def test_a_concealer_comes_from_a_folder_and_of_its_own_codec_only(
    model: MaskedModel, codec: CodecModel, tmp_path: Path
) -> None:
    save_model(model, tmp_path, "float32")
    codes = received(codec)
    codes[:, 5] = -1
    loaded = MaskedConcealer.load(tmp_path, codec)
    assert torch.equal(loaded.latent(codes, 5), MaskedConcealer(model, codec).latent(codes, 5))
    with pytest.raises(ModelMismatch, match="concealment"):
        MaskedConcealer.load(tmp_path, tiny_codec(codec_id="another"))
