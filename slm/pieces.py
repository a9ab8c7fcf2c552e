"""SentencePiece as the text representation: learned pieces of words, no phonemizer, any language.

With thousands of hours of speech pieces serve as well as phonemes; with less, phonemes win
(docs/text.md). Ids share the specials of `SymbolTable`, so that a language model takes either.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import sentencepiece

from ..errors import ConfigError, CorruptWeights, UnsupportedText
from ..tokenizer.files import write_atomically
from .normalize import normalize
from .text import BOUNDARY, MAX_TEXT_CHARACTERS, NO_TEXT, PAD, SPECIALS, require_text

FILE_NAME = "pieces.model"
MAX_MODEL_BYTES = 16 << 20
# A symbol that no text holds: its presence says that text is normalized as English, so that the one
# file says all that a reader must know.
_ENGLISH = "<english>"
_UNKNOWN = 3  # sentencepiece insists on one; byte fallback leaves it unused


class PieceTokenizer:
    """Text to ids of a SentencePiece model, the specials of `SymbolTable` first.

    Args:
        model: Bytes of a model that `train` wrote.

    Attributes:
        model: These bytes.
        is_english: Whether text is first written as it is spoken (`normalize`), as the pieces were
            learned; numbers then become English words.

    Raises:
        CorruptWeights: If the bytes are no such model.
    """

    def __init__(self, model: bytes) -> None:
        self.model = model
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise CorruptWeights(
                "The bytes are not a SentencePiece model; train one again."
            ) from error
        ids = (PAD, BOUNDARY, NO_TEXT)
        if not model or tuple(self._pieces.IdToPiece(i) for i in ids) != SPECIALS:
            raise CorruptWeights(
                "The SentencePiece model does not begin with the specials of speechlm; "
                "train it with PieceTokenizer.train."
            )
        self.is_english = bool(self._pieces.IsControl(self._pieces.PieceToId(_ENGLISH)))

    @classmethod
    def train(
        cls,
        lines: Iterable[str],
        out_model: str | os.PathLike[str],
        vocab_size: int = 1000,
        model_type: Literal["unigram", "bpe"] = "unigram",
        *,
        is_english: bool = False,
    ) -> PieceTokenizer:
        """Learn pieces from lines of text and write the model file atomically.

        Characters that the lines do not hold are spelled in UTF-8 bytes (byte fallback), so that
        every text has ids and comes back from them.

        Args:
            lines: Text, an utterance or a sentence a line.
            out_model: The file to write.
            vocab_size: Number of ids, the specials and 256 bytes included.
            model_type: Kind of pieces, after Kudo (2018) or Sennrich et al. (2016).
            is_english: Learn from the text as it is spoken, and read all text so; ids then give
                the normalized text back.

        Raises:
            ConfigError: If the lines do not allow a vocabulary of this size, which includes the
                specials and 256 bytes.
            UnsupportedText: If there are no lines.
        """
        read = normalize if is_english else str.strip
        kept = [spoken for line in lines if (spoken := read(line))]
        if not kept:
            raise UnsupportedText("There is no text to learn pieces from; give at least one line.")
        buffer = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.Train(
                sentence_iterator=iter(kept),
                model_writer=buffer,
                vocab_size=vocab_size,
                model_type=model_type,
                byte_fallback=True,
                character_coverage=0.9995,
                normalization_rule_name="identity",  # text comes back as it was
                pad_id=PAD,
                pad_piece=SPECIALS[PAD],
                bos_id=BOUNDARY,
                bos_piece=SPECIALS[BOUNDARY],
                eos_id=-1,
                control_symbols=[SPECIALS[NO_TEXT], *([_ENGLISH] if is_english else [])],
                unk_id=_UNKNOWN,
                num_threads=1,  # the same pieces on any machine
                max_sentence_length=4 * MAX_TEXT_CHARACTERS,
                minloglevel=2,
            )
        except (RuntimeError, OSError, TypeError) as error:
            reason = str(error).rpartition("] ")[2].strip() or str(error)
            raise ConfigError(
                f"A {model_type} model of {vocab_size} pieces cannot be learned from {len(kept)} "
                f"lines ({reason}); choose another size, at least 300, or give more text."
            ) from error
        tokenizer = cls(buffer.getvalue())
        write_atomically(out_model, tokenizer.model)
        return tokenizer

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PieceTokenizer:
        """Read a model file, or `pieces.model` of a model folder.

        Raises:
            CorruptWeights: If the file is missing, too large or no model of ours.
        """
        name = Path(path)
        file = name / FILE_NAME if name.is_dir() else name
        if not file.is_file() or file.stat().st_size > MAX_MODEL_BYTES:
            raise CorruptWeights(
                f"{file} is missing or larger than {MAX_MODEL_BYTES >> 20} MiB; "
                "give a model written by PieceTokenizer.train."
            )
        try:
            return cls(file.read_bytes())
        except CorruptWeights as error:
            raise CorruptWeights(f"{file} cannot be used: {error}") from error

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `pieces.model` into a model folder, beside its weights."""
        write_atomically(Path(folder) / FILE_NAME, self.model)

    @property
    def size(self) -> int:
        """Number of ids, specials included."""
        return int(self._pieces.GetPieceSize())

    def is_byte(self, index: int) -> bool:
        """Whether a piece is one byte of a character that the training text did not hold."""
        return bool(self._pieces.IsByte(index))

    def encode(self, text: str) -> list[int]:
        """Ids of a text, a boundary at both ends.

        Raises:
            UnsupportedText: If the text is empty or too long.
        """
        spoken = require_text(text)
        if self.is_english:
            spoken = require_text(normalize(spoken))
        return [BOUNDARY, *self._pieces.EncodeAsIds(spoken), BOUNDARY]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids, specials left out.

        Raises:
            UnsupportedText: If an id lies outside the vocabulary.
        """
        if wrong := [i for i in ids if not 0 <= i < self.size]:
            raise UnsupportedText(
                f"Id {wrong[0]} lies outside the vocabulary of {self.size} pieces."
            )
        return str(self._pieces.DecodeIds([i for i in ids if i >= len(SPECIALS)]))
