"""Tables learned from codes code like codes in fewer bits, are kept in a file, and are the same for good."""

from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from tiny_streams import CODEC, tiny_table, walk

from speechlm.errors import ConfigError, CorpusError, CorruptWeights, ModelMismatch
from speechlm.transmission.frequencies import ideal_bits
from speechlm.transmission.static_learning import learn_static_table
from speechlm.transmission.static_table import StaticTable, StaticTableModel

PARTS = ("start", "classes", "table")


def wide_table() -> StaticTable:
    """Tables of many entries, most of which a code never follows."""
    codec = type(CODEC)(**{**vars(CODEC), "codebook_size": 256})
    return learn_static_table([walk(1000, 2, n, 256).numpy() for n in range(5)], codec, 64)


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


def test_a_file_takes_less_than_its_numbers(tmp_path: Path) -> None:
    table = wide_table()
    table.save(tmp_path / "table.safetensors")
    numbers = sum(2 * getattr(b, part).size for b in table.books for part in PARTS)
    assert (tmp_path / "table.safetensors").stat().st_size < numbers / 2


def test_a_file_with_a_tensor_a_table_still_loads(tmp_path: Path) -> None:
    table = tiny_table()
    tensors = {
        f"book{n}.{part}": getattr(book, part).astype(np.uint16)
        for n, book in enumerate(table.books)
        for part in PARTS
    }
    metadata = {"format": "speechlm-static-table-1", "codec": CODEC.to_json()}
    save_file(tensors, tmp_path / "old.safetensors", metadata)
    assert StaticTable.load(tmp_path / "old.safetensors").fingerprint == table.fingerprint


@pytest.mark.parametrize(
    "damage", ["bomb", "short", "cut", "trailing", "classes", "absurd", "floats", "not packed"]
)
def test_a_packed_file_unpacks_to_what_its_header_implies_or_not_at_all(
    tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "table.safetensors"
    tiny_table().save(path)
    with safe_open(path, "np") as file:
        metadata, packed = file.metadata(), file.get_tensor("packed")
    whole = packed.tobytes()
    bad = {
        "bomb": zlib.compress(bytes(64 << 20)),
        "short": zlib.compress(zlib.decompress(whole)[:-2]),
        "cut": whole[:-1],
        "trailing": whole + b"\0",
        "not packed": bytes(100),
    }.get(damage, whole)
    tensor = np.frombuffer(bad, np.uint8)
    if damage == "floats":
        tensor = tensor.astype(np.float32)
    if damage == "classes":
        metadata["classes"] = '[8, 8, "8"]'
    if damage == "absurd":
        codec = dict(vars(CODEC), codebook_size=1 << 16, num_codebooks=1 << 10)
        metadata["codec"] = type(CODEC)(**codec).to_json()
        metadata["classes"] = str([1 << 16] * (1 << 10))
    save_file({"packed": tensor}, path, metadata)
    tracemalloc.start()
    with pytest.raises(CorruptWeights, match="no static table, or a damaged one"):
        StaticTable.load(path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


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
