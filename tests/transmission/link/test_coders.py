"""Blocks: every coder gives back what it took, and takes only what it gave."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tiny_streams import CODEC, tiny_table, walk

from speechlm.errors import CorruptStream, ModelMismatch
from speechlm.transmission.link.coders import (
    RawBlockCoder,
    RawFineCoder,
    StaticFineCoder,
    SymbolBlockCoder,
)
from speechlm.transmission.static_table import StaticTableModel

TABLE = tiny_table(num_books=6)
BASE_CODERS = [RawBlockCoder(3, 16), SymbolBlockCoder(StaticTableModel(TABLE, 3))]
FINE_CODERS = [RawFineCoder(3, 3, 16), StaticFineCoder(TABLE, 3)]


@pytest.mark.parametrize("coder", BASE_CODERS)
@pytest.mark.parametrize("num_frames", [1, 2, 5, 16])
def test_base_runs_come_back(coder: object, num_frames: int) -> None:
    codes = walk(num_frames).numpy()
    data = coder.encode(codes)
    assert np.array_equal(coder.decode(data, num_frames), codes)


@pytest.mark.parametrize("coder", FINE_CODERS)
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_fine_runs_come_back(coder: object, levels: int) -> None:
    fine = walk(4, levels, seed=3).numpy()
    base, known = walk(6).numpy(), np.ones(6, dtype=bool)
    data = coder.encode(fine, base, known)
    assert np.array_equal(coder.decode(data, levels, 4, base, known), fine)


def test_a_table_is_shorter_than_codes_as_they_are() -> None:
    sizes = [
        sum(len(coder.encode(walk(5, seed=s).numpy())) for s in range(50)) for coder in BASE_CODERS
    ]
    assert sizes[1] < 0.9 * sizes[0]


@pytest.mark.parametrize("coder", BASE_CODERS)
def test_other_bytes_are_refused_or_are_the_encoder_s(coder: object) -> None:
    draw = random.Random(0)
    for _ in range(300):
        data = draw.randbytes(draw.randrange(9))
        try:
            codes = coder.decode(data, 3)
        except CorruptStream:
            continue
        assert coder.encode(codes) == data


def test_fingerprints_tell_coders_apart() -> None:
    narrow = SymbolBlockCoder(StaticTableModel(TABLE, 4))
    prints = {coder.fingerprint for coder in [*BASE_CODERS, *FINE_CODERS, narrow]}
    assert len(prints) == 5 and all(len(bytes.fromhex(text)) == 8 for text in prints)


def test_a_table_without_fine_books_is_refused() -> None:
    with pytest.raises(ModelMismatch):
        StaticFineCoder(tiny_table(CODEC, 3), 3)
