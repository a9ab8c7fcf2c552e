"""Tiny models of transmission and codes that follow a rule."""

import torch

from speechlm.data_prep.card import finish_dataset
from speechlm.data_prep.shards import TokenRow, write_shard
from speechlm.tokenizer.codes import CodecIdentity, Codes
from speechlm.transmission.config import EntropyConfig, FineConfig
from speechlm.transmission.entropy_model import EntropyModel
from speechlm.transmission.fine_model import FineModel

CODEC = CodecIdentity("ruled", "0" * 16, 16_000, 320, 32, 4, 2)
SIZES = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "ffn_size": 48,
    "code_size": 16,
    "head_size": 24,
    "window": 6,
}


def entropy_model(seed=0, sharpness=8.0, codec=CODEC, **changes):
    """An untrained model whose distributions are far from flat."""
    torch.manual_seed(seed)
    model = EntropyModel(EntropyConfig.for_codec(codec, **{**SIZES, **changes})).eval()
    return _sharpened(model, sharpness)


def fine_model(seed=0, sharpness=8.0, codec=CODEC, **changes):
    """The same of the other kind."""
    torch.manual_seed(seed)
    model = FineModel(FineConfig.for_codec(codec, **{**SIZES, **changes})).eval()
    return _sharpened(model, sharpness)


def _sharpened(model, sharpness):
    with torch.no_grad():
        for head in model.heads:
            head.logits.weight.mul_(sharpness)
    return model


def ruled_codes(frames, seed=0, books=4, batch=None):
    """Codes int64 `[K, T]` or `[B, K, T]`: a walk in book 1, of which the others are functions, and noise."""
    draw = torch.Generator().manual_seed(seed)
    count = 1 if batch is None else batch
    steps = torch.randint(0, 3, (count, frames), generator=draw)
    first = torch.randint(0, 32, (count, 1), generator=draw) + steps.cumsum(1)
    noise = torch.randint(0, 4, (books, count, frames), generator=draw)
    rows = [first % 32] + [(first * (3 + 2 * k) + noise[k]) % 32 for k in range(1, books)]
    codes = torch.stack(rows, dim=1)
    return codes[0] if batch is None else codes


def voiced_codes(frames, seed=0, books=4):
    """Codes int64 `[K, T]`: two books in which a voice has a quarter of the entries, and others as above."""
    draw = torch.Generator().manual_seed(seed)
    base = 8 * (seed % 4) + torch.randint(0, 8, (2, frames), generator=draw)
    noise = torch.randint(0, 4, (books - 2, frames), generator=draw)
    return torch.cat((base, (base[:1] * torch.tensor([[7], [9]])[: books - 2] + noise) % 32))


def write_ruled_dataset(folder, codec=CODEC, books=4, signal=ruled_codes):
    """A token dataset of 50 such utterances of 60 frames, a fifth held out."""
    folder.mkdir(parents=True, exist_ok=True)
    receipts = []
    for split, seeds in (("train", range(40)), ("valid", range(100, 110))):
        rows = [
            TokenRow(
                id=f"u{seed}",
                text="",
                phonemes="",
                durations=torch.zeros(0, dtype=torch.int64),
                speaker="",
                split=split,
                num_samples=60 * codec.hop_length,
                codes=signal(60, seed, books=books),
            )
            for seed in seeds
        ]
        receipts.append(
            write_shard(folder, split, 0, rows, codec=codec, num_books=books, source="made up")
        )
    finish_dataset(folder, receipts, codec, books)
    return folder


def as_codes(values, codec=CODEC):
    """A `Codes` value of whole frames."""
    samples = torch.full((len(values),), values.shape[2] * codec.hop_length)
    return Codes(values, samples, codec)


@torch.no_grad()
def whole(model, codes):
    """Logits of all frames in one pass, `[T, P, V]`, as training computes them."""
    kept = []
    hook = model.decoder.register_forward_hook(lambda _, __, out: kept.append(out[0]))
    model(codes[None], torch.ones(1, codes.shape[1], dtype=torch.bool))
    hook.remove()
    end = model.num_given + model.num_levels
    return torch.stack(model.level_logits(kept[0], codes[model.num_given : end].T), dim=1)


@torch.no_grad()
def stepwise(model, codes):
    """The same a frame at a time."""
    cache, previous, found = model.new_cache(), None, []
    end = model.num_given + model.num_levels
    for frame in codes.T:
        given = frame[None, : model.num_given] if model.num_given else None
        state = model.advance(cache, previous, given)
        previous = frame[None, model.num_given : end]
        found.append(torch.stack(model.level_logits(state, previous), dim=1)[0])
    return torch.stack(found)
