"""Symbols come back from their bytes, the bytes are as few as theory allows, and garbage ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechlm.errors import CorruptStream
from speechlm.transmission.frequencies import cumulative, frequencies_of_counts
from speechlm.transmission.range_coder import RangeDecoder, RangeEncoder


def encoded(symbols: list[int], tables: list[np.ndarray], bits: int) -> bytes:
    encoder = RangeEncoder()
    for symbol, table in zip(symbols, tables, strict=True):
        encoder.encode(int(table[symbol]), int(table[symbol + 1] - table[symbol]), bits)
    return encoder.finish()


def decoded(data: bytes, tables: list[np.ndarray], bits: int) -> list[int]:
    decoder = RangeDecoder(data)
    return [decoder.decode(table, bits) for table in tables]


@st.composite
def sequences(draw: st.DrawFn) -> tuple[list[int], list[np.ndarray], int]:
    """Symbols, each under a table of its own, from flat to nearly certain."""
    bits = draw(st.integers(8, 24))
    counts = st.lists(st.sampled_from([0, 1, 7, 1000, 1 << 24]), min_size=2, max_size=40)
    tables = [
        cumulative(frequencies_of_counts(np.array(c), bits))
        for c in draw(st.lists(counts, max_size=60))
    ]
    return [draw(st.integers(0, len(table) - 2)) for table in tables], tables, bits


@given(sequences())
def test_symbols_come_back_whatever_the_tables(sequence: tuple) -> None:
    symbols, tables, bits = sequence
    assert decoded(encoded(symbols, tables, bits), tables, bits) == symbols


@given(sequences())
def test_no_byte_is_spent_beyond_the_information(sequence: tuple) -> None:
    symbols, tables, bits = sequence
    pairs = zip(symbols, tables, strict=True)
    ideal = sum(bits - math.log2(table[symbol + 1] - table[symbol]) for symbol, table in pairs)
    assert len(encoded(symbols, tables, bits)) <= ideal / 8 + 1.01


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("end", [0, 2])
def test_a_carry_runs_through_many_bytes(bits: int, end: int) -> None:
    """The interval lies across one half, ever narrower; its last symbol decides: 7f ff ff or 80 00 00."""
    total = 1 << bits
    tables = [np.array([0, total // 2 - 1, total // 2 + 1, total])] * 40
    symbols = [*[1] * 39, end]
    data = encoded(symbols, tables, bits)
    assert data[0] == (0x80 if end else 0x7F)
    assert decoded(data, tables, bits) == symbols


@given(st.binary(max_size=64), st.integers(2, 300))
@settings(deadline=None)
def test_any_bytes_decode_to_something_or_are_refused(data: bytes, size: int) -> None:
    table = cumulative(frequencies_of_counts(np.arange(size)))
    decoder = RangeDecoder(data)
    try:
        assert all(0 <= decoder.decode(table, 16) < size for _ in range(200))
    except CorruptStream:
        pass


def test_what_no_encoder_writes_is_refused() -> None:
    """Rounding leaves a rest of the interval that no symbol has; bytes of ones lead there."""
    table = cumulative(frequencies_of_counts(np.array([1, 2, 4])))
    with pytest.raises(CorruptStream, match="outside"):
        decoded(b"\xff" * 100, [table] * 100, 16)


def test_sizes_are_those_of_constriction() -> None:
    """Another range coder, given the same tables, spends the same number of 32-bit words."""
    constriction = pytest.importorskip("constriction")
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 1000, (2000, 64)) ** 2
    tables = frequencies_of_counts(counts)
    symbols = [int(rng.choice(64, p=table / table.sum())) for table in tables]
    peer = constriction.stream.queue.RangeEncoder()
    family = constriction.stream.model.Categorical(perfect=False)
    shares = (tables / (1 << 16)).astype(np.float64)
    peer.encode(np.array(symbols, dtype=np.int32), family, shares)
    theirs = 4 * len(peer.get_compressed())
    ours = len(encoded(symbols, [cumulative(table) for table in tables], 16))
    assert -8 <= ours - theirs <= 4
    words = constriction.stream.queue.RangeDecoder(peer.get_compressed())
    assert words.decode(family, shares).tolist() == symbols
