"""Small `.lmc` streams and the models that code them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from speechlm.tokenizer.codes import CodecIdentity
from speechlm.transmission.codes_stream import CodesReader, CodesWriter
from speechlm.transmission.static_learning import learn_static_table
from speechlm.transmission.static_table import StaticTable, StaticTableModel
from speechlm.transmission.symbol_model import SymbolModel

CODEC = CodecIdentity("tiny", "0123456789abcdef", 16_000, 320, 16, 6, 3)
HOP = 320


def walk(num_frames: int, num_books: int = 3, seed: int = 0, size: int = 16) -> torch.Tensor:
    """Codes `[K, T]` in which each follows the one before it by a small step, mostly."""
    rng = np.random.default_rng(seed)
    steps = rng.choice([-1, 0, 0, 0, 1, 5], (num_books, num_frames))
    return torch.from_numpy(np.cumsum(steps, 1) % size)


def tiny_table(codec: CodecIdentity = CODEC, num_books: int = 3) -> StaticTable:
    """A static table learned from such codes."""
    codes = [walk(100, num_books, seed, codec.codebook_size).numpy() for seed in range(20)]
    return learn_static_table(codes, codec, num_classes=8)


def written(
    codes: torch.Tensor,
    model: SymbolModel | None = None,
    num_samples: int | None = None,
    **options: Any,
) -> bytes:
    """The stream of codes `[K, T]`, in one piece."""
    model = StaticTableModel(tiny_table(), len(codes)) if model is None else model
    writer = CodesWriter(CODEC, model, **{"chunk_frames": 10, **options})
    end = codes.shape[1] * HOP if num_samples is None else num_samples
    return writer.push(codes) + writer.finish(end)


def read(data: bytes, model: SymbolModel | None = None, cut: int = 1 << 30) -> tuple[Any, ...]:
    """Codes of a stream `[K, T]`, a mask of its concealed frames, and the reader."""
    reader = CodesReader(StaticTableModel(tiny_table()) if model is None else model)
    pieces = []
    for start in range(0, len(data), cut):
        pieces += reader.push(data[start : start + cut])
    pieces += reader.finish()
    books = reader.header.num_books
    codes = torch.cat([torch.zeros(books, 0, dtype=torch.long), *(p.codes for p in pieces)], 1)
    concealed = [flag for p in pieces for flag in [p.is_concealed] * p.codes.shape[1]]
    return codes, torch.tensor(concealed, dtype=torch.bool), reader
