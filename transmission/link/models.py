"""Which coders and which concealment a link has: what ships for a codec, and what is asked for by name."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ...errors import ConfigError, ModelMismatch
from ...tokenizer.codec import CodecModel
from ...tokenizer.codes import CodecIdentity
from ..concealment import MaskedConcealer
from ..masked_coding import MaskedFineCoder
from ..models import WEIGHTS, load_entropy_model
from ..static_table import StaticTable, StaticTableModel
from .coders import RawBlockCoder, RawFineCoder, StaticFineCoder, SymbolBlockCoder
from .concealers import RepetitionConcealer, SilenceConcealer
from .packet import StreamIdentity
from .packet_coder import PacketCoder
from .profile import LinkProfile
from .protocols import BlockCoder, Concealer, FineCoder

CONCEALMENTS = ("model", "repeat", "silence")
MASKED = WEIGHTS / "masked"
TABLE = WEIGHTS / "static.safetensors"


def stream_coder(
    codec: CodecIdentity,
    profile: LinkProfile,
    base_coder: BlockCoder | None,
    fine_coder: FineCoder | None,
    session: int | None,
    *,
    verifies: bool,
) -> PacketCoder:
    """What both ends of a stream make its packets with, and its identity.

    Args:
        codec: Whose codes are sent.
        profile: The stream's.
        base_coder, fine_coder: The best that ship for the codec where not given.
        session: Number of the stream.
        verifies: As in `PacketCoder`.

    Raises:
        ModelMismatch: If the coders do not fit the codec.
    """
    base_coder = shipped_base_coder(codec) if base_coder is None else base_coder
    fine_coder = shipped_fine_coder(codec) if fine_coder is None else fine_coder
    has_context = profile.has_context
    identity = StreamIdentity(
        codec, base_coder.fingerprint, fine_coder.fingerprint, has_context, session
    )
    return PacketCoder(identity, base_coder, fine_coder, verifies=verifies)


def shipped_base_coder(codec: CodecIdentity) -> BlockCoder:
    """The static table that ships for a codec; codes as they are if none does.

    An entropy model would save some bytes a packet, but each frame of a run, copies too, takes it a step at
    both ends, which is more than real time leaves.
    """
    table = _shipped_table(codec)
    if table is None:
        return RawBlockCoder(codec.min_codebooks, codec.codebook_size)
    return SymbolBlockCoder(StaticTableModel(table, codec.min_codebooks))


def load_base_coder(path: Path, codec: CodecIdentity) -> BlockCoder:
    """A coder of base runs from a static table's file or an entropy model's folder.

    Raises:
        CorruptWeights: If it cannot be used.
        ModelMismatch: If it is made for another codec or for fewer books.
    """
    return SymbolBlockCoder(load_entropy_model(path, codec, codec.min_codebooks))


def shipped_fine_coder(codec: CodecIdentity) -> FineCoder:
    """The best coder of fine codes that ships for a codec; codes as they are if none does."""
    coder = _masked_coder(MASKED) if MASKED.is_dir() else None
    if coder is not None and coder.codec == codec:
        return coder
    num_levels = codec.num_codebooks - codec.min_codebooks
    table = _shipped_table(codec)
    if table is not None and table.num_books == codec.num_codebooks:
        return StaticFineCoder(table, codec.min_codebooks)
    return RawFineCoder(codec.min_codebooks, num_levels, codec.codebook_size)


def load_fine_coder(folder: Path, codec: CodecIdentity) -> FineCoder:
    """A coder of fine codes from a masked model's folder.

    Raises:
        CorruptWeights: If it cannot be used.
        ModelMismatch: If it is made for another codec.
    """
    coder = _masked_coder(folder)
    codec.require(coder.codec, f"The masked model {folder}")
    return coder


def load_concealer(name: str, codec: CodecModel, folder: Path | None = None) -> Concealer:
    """Concealment by its name.

    Args:
        name: One of `CONCEALMENTS`. `model` is repetition where no masked model ships for the codec.
        codec: The codec that plays.
        folder: The masked model's; what ships if not given.

    Raises:
        ConfigError: If there is no such name.
        CorruptWeights: If the folder cannot be used.
        ModelMismatch: If its model is made for another codec.
    """
    if name not in CONCEALMENTS:
        raise ConfigError(f"There is no concealment {name}; choose {', '.join(CONCEALMENTS)}.")
    if name == "silence":
        return SilenceConcealer(codec)
    if name == "model" and (folder is not None or MASKED.is_dir()):
        try:
            return MaskedConcealer.load(MASKED if folder is None else folder, codec)
        except ModelMismatch:
            if folder is not None:
                raise
    return RepetitionConcealer(codec)


def _shipped_table(codec: CodecIdentity) -> StaticTable | None:
    table = _table(TABLE) if TABLE.is_file() else None
    return table if table is not None and table.codec == codec else None


@lru_cache(maxsize=2)
def _table(path: Path) -> StaticTable:
    return StaticTable.load(path)


@lru_cache(maxsize=4)
def _masked_coder(folder: Path) -> MaskedFineCoder:
    return MaskedFineCoder.load(folder)
