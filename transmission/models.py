"""Which model codes a stream: what ships for a codec, and what a header asks for."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from pathlib import Path

from ..errors import ModelMismatch
from ..tokenizer.codes import CodecIdentity
from .container import StreamHeader
from .static_table import StaticTable, StaticTableModel
from .symbol_model import SymbolModel, UniformModel


def shipped_model(codec: CodecIdentity, num_books: int) -> SymbolModel:
    """The best model that ships for the first `num_books` books of a codec; a uniform one if none does."""
    for profile in reversed(_SHIPPED):
        model = _SHIPPED[profile](codec, num_books)
        if model is not None:
            return model
    return UniformModel(num_books, codec.codebook_size)


def model_of_header(header: StreamHeader, given: SymbolModel | None = None) -> SymbolModel:
    """The model that coded a stream: `given`, or one that ships.

    Raises:
        ModelMismatch: If it is another one, or none ships.
    """
    codec, profile = header.codec, header.numeric_profile
    if isinstance(given, StaticTableModel):
        given = given.narrowed(header.num_books)
    if profile == UniformModel.numeric_profile:
        return UniformModel(header.num_books, codec.codebook_size)
    model = given
    if model is None and profile in _SHIPPED:
        model = _SHIPPED[profile](codec, header.num_books)
    found = None if model is None else (model.numeric_profile, model.fingerprint)
    if model is None or found != (profile, header.model_fingerprint):
        has = "none ships for its codec" if found is None else f"{found[0]} {found[1]} is here"
        raise ModelMismatch(
            f"The stream was coded with the entropy model {profile} {header.model_fingerprint}, but {has}; "
            "give the model that `speechlm compress` had."
        )
    if (model.num_books, model.codebook_size) != (header.num_books, codec.codebook_size):
        raise ModelMismatch(
            f"The stream sends {header.num_books} books of {codec.codebook_size} entries, the entropy "
            f"model codes {model.num_books} of {model.codebook_size}; one of them is mislabelled."
        )
    return model


def _shipped_table(codec: CodecIdentity, num_books: int) -> SymbolModel | None:
    folder = Path(str(importlib.resources.files(__package__))) / "weights"
    path = folder / "static.safetensors"
    if not path.is_file():
        return None
    table = StaticTable.load(path)
    if table.codec != codec or table.num_books < num_books:
        return None
    return StaticTableModel(table, num_books)


# A loader for each profile that may ship, the better one later.
_SHIPPED: dict[str, Callable[[CodecIdentity, int], SymbolModel | None]] = {
    "static": _shipped_table,
}
