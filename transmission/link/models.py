"""Which coders and which concealment a link has: what ships for a codec, and what is asked for by name."""

from __future__ import annotations

from ...tokenizer.codec import CodecModel
from ...tokenizer.codes import CodecIdentity
from ..models import shipped_model
from ..symbol_model import UniformModel
from .coders import RawBlockCoder, RawFineCoder, SymbolBlockCoder
from .concealers import RepetitionConcealer, SilenceConcealer
from .protocols import BlockCoder, Concealer, FineCoder

CONCEALMENTS = ("model", "repeat", "silence")


def shipped_base_coder(codec: CodecIdentity) -> BlockCoder:
    """The best coder of base runs that ships for a codec; codes as they are if none does."""
    model = shipped_model(codec, codec.min_codebooks)
    if isinstance(model, UniformModel):
        return RawBlockCoder(codec.min_codebooks, codec.codebook_size)
    return SymbolBlockCoder(model)


def shipped_fine_coder(codec: CodecIdentity) -> FineCoder:
    """The best coder of fine codes that ships for a codec; codes as they are if none does."""
    num_levels = codec.num_codebooks - codec.min_codebooks
    return RawFineCoder(codec.min_codebooks, num_levels, codec.codebook_size)


def load_concealer(name: str, codec: CodecModel) -> Concealer:
    """Concealment by its name, one of `CONCEALMENTS`."""
    if name == "silence":
        return SilenceConcealer(codec)
    return RepetitionConcealer(codec)
