"""Tables learned from codes code like codes in fewer bits, are kept in a file, and are the same for good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_streams import CODEC, tiny_table, walk

from speechlm.errors import ConfigError, CorpusError, CorruptWeights, ModelMismatch
from speechlm.transmission.frequencies import ideal_bits
from speechlm.transmission.static_learning import learn_static_table
from speechlm.transmission.static_table import StaticTable, StaticTableModel


def cost(model: StaticTableModel, codes: np.ndarray) -> float:
    """Bits per code."""
    state, bits = model.start(), 0.0
    for symbol in codes.T.reshape(-1).tolist():
        bits += ideal_bits(model.frequencies(state), symbol)
        model.push(state, symbol)
    return bits / codes.size


def test_a_past_that_tells_something_saves_bits() -> None:
    learned = learn_static_table([walk(1000, seed=n).numpy() for n in range(20)], CODEC)
    # a step is one of -1, 0, 0, 0, 1, 5: 1.79 bits if the last code is known, 4 if not
    assert cost(StaticTableModel(learned), walk(500, seed=99).numpy()) < 1.9


def test_codes_of_one_class_share_a_table() -> None:
    """Codes 2n and 2n + 1 are followed by the same codes: eight classes lose nothing."""
    rng = np.random.default_rng(0)
    codes = [np.zeros((1, 300), dtype=np.int64) for _ in range(20)]
    for row in codes:
        for t in range(1, 300):
            row[0, t] = (2 * (row[0, t - 1] // 2) + rng.integers(1, 5)) % 16
    (book,) = learn_static_table(codes, CODEC, num_classes=8).books
    assert book.table.shape == (8, 16)
    assert np.array_equal(book.classes[::2], book.classes[1::2])


def test_a_past_that_tells_nothing_takes_no_space() -> None:
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 16, (2, 1000)) for _ in range(20)]
    assert [book.table.shape for book in learn_static_table(codes, CODEC, 8).books] == [(1, 16)] * 2


def test_a_file_brings_the_same_table_back(tmp_path: Path) -> None:
    table = tiny_table()
    table.save(tmp_path / "table.safetensors")
    again = StaticTable.load(tmp_path / "table.safetensors")
    assert again.fingerprint == table.fingerprint and again.codec == CODEC


def test_the_fingerprint_follows_every_value() -> None:
    table = tiny_table()
    book = table.books[1]
    for name in ("start", "classes", "table"):
        values = getattr(book, name).copy()
        flat = values.reshape(-1)
        flat[:2] = flat[:2] + np.array([1, -1]) if name != "classes" else (flat[:2] + 1) % 8
        other = type(book)(**{**vars(book), name: values})
        changed = StaticTable(CODEC, (table.books[0], other, table.books[2]))
        assert changed.fingerprint != table.fingerprint


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.safetensors"
    with pytest.raises(CorruptWeights, match="no static table"):
        StaticTable.load(path)
    tiny_table().save(path)
    whole = path.read_bytes()
    for bad in (b"", whole[:-1], whole[:100], bytes(100)):
        path.write_bytes(bad)
        with pytest.raises(CorruptWeights):
            StaticTable.load(path)
    wrong = bytearray(whole)
    wrong[-2] ^= 1  # a frequency
    path.write_bytes(wrong)
    with pytest.raises(CorruptWeights):
        StaticTable.load(path)


def test_mistakes_are_named() -> None:
    with pytest.raises(CorpusError, match="none"):
        learn_static_table([], CODEC)
    with pytest.raises(ConfigError, match="num_classes"):
        learn_static_table([walk(9).numpy()], CODEC, 0)
    with pytest.raises(ModelMismatch, match="3 books"):
        StaticTableModel(tiny_table(), 4)
