"""Which model codes a stream: what ships for a codec, what a file holds, and what a header asks for."""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Callable
from pathlib import Path

from ..errors import ModelMismatch
from ..tokenizer.codes import CodecIdentity
from .container import StreamHeader
from .entropy_coding import IntegerEntropyModel
from .integer_fine import IntegerFineModel
from .static_table import StaticTable, StaticTableModel
from .symbol_model import SymbolModel, UniformModel

WEIGHTS = Path(str(importlib.resources.files(__package__))) / "weights"


def load_entropy_model(
    path: str | os.PathLike[str], codec: CodecIdentity | None = None, num_books: int | None = None
) -> SymbolModel:
    """The model of a static table's file, or of an entropy model's folder.

    Args:
        path: Written by `speechlm static-table`, or by `speechlm export` of an entropy model.
        codec: Refuse a model of any other codec.
        num_books: Books to code; all of the model's if not given.

    Raises:
        CorruptWeights: If the file or folder cannot be used.
        ModelMismatch: If it is made for another codec or for fewer books.
    """
    model: StaticTableModel | IntegerEntropyModel
    if Path(path).is_dir():
        model = IntegerEntropyModel.load(path)
    else:
        model = StaticTableModel(StaticTable.load(path), num_books)
    if codec is not None:
        codec.require(model.codec, f"The entropy model {path}")
    if num_books not in (None, model.num_books):
        raise ModelMismatch(
            f"The entropy model {path} codes {model.num_books} books, {num_books} are to be sent; "
            "give one for as many."
        )
    return model


def shipped_model(codec: CodecIdentity, num_books: int) -> SymbolModel:
    """The best model that ships for the first `num_books` books of a codec; a uniform one if none does."""
    for load in reversed(_SHIPPED.values()):
        model = load(codec, num_books)
        if model is not None:
            return model
    return UniformModel(num_books, codec.codebook_size)


def shipped_fine_model(codec: CodecIdentity, num_books: int) -> IntegerFineModel | None:
    """The fine model that ships for a codec and fills in what `num_books` sent books leave, or None."""
    path = WEIGHTS / "fine"
    model = IntegerFineModel.load(path) if path.is_dir() else None
    return model if model and (model.codec, model.num_base_books) == (codec, num_books) else None


def model_of_header(header: StreamHeader, given: SymbolModel | None = None) -> SymbolModel:
    """The model that coded a stream: `given`, or one that ships.

    Raises:
        ModelMismatch: If it is another one, or none ships.
    """
    codec, profile = header.codec, header.numeric_profile
    if profile == UniformModel.numeric_profile:
        return UniformModel(header.num_books, codec.codebook_size)
    model = given
    if model is None and profile in _SHIPPED:
        model = _SHIPPED[profile](codec, header.num_books)
    if isinstance(model, StaticTableModel) and model.num_books > header.num_books:
        model = model.narrowed(header.num_books)
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
    path = WEIGHTS / "static.safetensors"
    table = StaticTable.load(path) if path.is_file() else None
    if table is None or table.codec != codec or table.num_books < num_books:
        return None
    return StaticTableModel(table, num_books)


def _shipped_network(codec: CodecIdentity, num_books: int) -> SymbolModel | None:
    path = WEIGHTS / "entropy"
    model = IntegerEntropyModel.load(path) if path.is_dir() else None
    return model if model and (model.codec, model.num_books) == (codec, num_books) else None


# A loader for each profile that may ship, the better one later.
_SHIPPED: dict[str, Callable[[CodecIdentity, int], SymbolModel | None]] = {
    StaticTableModel.numeric_profile: _shipped_table,
    IntegerEntropyModel.numeric_profile: _shipped_network,
}
