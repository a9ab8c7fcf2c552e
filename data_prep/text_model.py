"""A manifest's transcripts in, a text model out: the pieces that a language model may read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import ConfigError, CorpusError
from ..slm.pieces import FILE_NAME, PieceTokenizer
from ..slm.text import MAX_TEXT_CHARACTERS, SPECIALS, has_words
from .manifest import read_manifest
from .output import counted, make_folder

MODEL_TYPES = ("unigram", "bpe")
# What the trainer of sentencepiece says of a size that its text does not allow
_MOST_PIECES = re.compile(r"set it to a value <= (\d+)")
_LEAST_PIECES = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")
MAX_LINES = 1_000_000  # pieces change little after that, and the trainer's memory grows with them


@dataclass(frozen=True)
class TextModelSummary:
    """What `train_text_model` learned.

    Attributes:
        file: The text model.
        num_pieces: Its ids, specials and bytes included.
        model_type: `unigram` or `bpe`.
        is_english: Whether it reads text as it is spoken in English.
        lines: Distinct transcripts that it was learned from.
        characters_per_piece: Mean over these transcripts.
        held_out_lines: Distinct transcripts of the splits `valid` and `test` that are not among
            them.
        held_out_characters_per_piece: Mean over these; NaN if there are none.
        held_out_byte_share: Share of their pieces that spell a character in bytes.
    """

    file: Path
    num_pieces: int
    model_type: str
    is_english: bool
    lines: int
    characters_per_piece: float
    held_out_lines: int
    held_out_characters_per_piece: float
    held_out_byte_share: float

    def table(self) -> str:
        """A few lines for people."""
        reading = "numbers and abbreviations written out" if self.is_english else "as written"
        source = counted(self.lines, "transcript")
        lines = [
            f"{self.num_pieces} {self.model_type} pieces from {source}, {reading}",
            f"{self.characters_per_piece:.2f} characters a piece",
        ]
        if self.held_out_lines:
            held_out = counted(self.held_out_lines, "held-out transcript")
            lines.append(
                f"{self.held_out_characters_per_piece:.2f} in {held_out}, "
                f"{100 * self.held_out_byte_share:.2f} % of their pieces single bytes"
            )
        return "\n".join([*lines, str(self.file)])


def train_text_model(
    manifest: Path,
    out: Path,
    vocab_size: int = 1000,
    model_type: Literal["unigram", "bpe"] = "unigram",
    *,
    is_english: bool = True,
    max_lines: int = MAX_LINES,
) -> TextModelSummary:
    """Learn pieces from the transcripts of a manifest's `train` split.

    Each transcript counts once, however many speakers read it. The same manifest gives the same
    bytes.

    Args:
        manifest: Written by `prepare_corpus`.
        out: Folder for `pieces.model`, made if need be.
        vocab_size: Number of ids; three specials and 256 bytes are among them.
        model_type: Unigram (Kudo 2018) or byte-pair encoding (Sennrich et al. 2016).
        is_english: Write out numbers and abbreviations first, in learning and in use; for text in
            another language choose False, or bring it written out.
        max_lines: Of more transcripts, so many are taken at equal distances.

    Raises:
        CorpusError: If the manifest cannot be read or has no transcripts to learn from.
        ConfigError: If the options make no sense, or the text does not allow such a size.
    """
    if model_type not in MODEL_TYPES:
        raise ConfigError(
            f"There is no text model {model_type!r}; choose {' or '.join(MODEL_TYPES)}."
        )
    if max_lines < 1:
        raise ConfigError(f"max_lines is {max_lines}; a text model needs at least one line.")
    utterances = read_manifest(manifest)
    usable = {
        u.text: u.split == "train"
        for u in sorted(utterances, key=lambda u: u.split == "train")
        if has_words(u.text) and len(u.text) <= MAX_TEXT_CHARACTERS
    }
    order = dict.fromkeys(u.text for u in utterances if u.text in usable)
    lines = [text for text in order if usable[text]]
    held_out = [text for text in order if not usable[text]]
    if not lines:
        raise CorpusError(
            f"{manifest} has no transcripts in its split `train`; "
            "give a manifest of recordings with their text."
        )
    if len(lines) > max_lines:
        lines = [lines[number * len(lines) // max_lines] for number in range(max_lines)]
    file = make_folder(out) / FILE_NAME
    try:
        pieces = PieceTokenizer.train(lines, file, vocab_size, model_type, is_english=is_english)
    except ConfigError as error:
        raise _said_of(manifest, lines, vocab_size, error) from error
    known, _ = _fit(pieces, lines)
    unseen, byte_share = _fit(pieces, held_out)
    return TextModelSummary(
        file=file,
        num_pieces=pieces.size,
        model_type=model_type,
        is_english=is_english,
        lines=len(lines),
        characters_per_piece=known,
        held_out_lines=len(held_out),
        held_out_characters_per_piece=unseen,
        held_out_byte_share=byte_share,
    )


def _said_of(
    manifest: Path, lines: Sequence[str], vocab_size: int, error: ConfigError
) -> ConfigError:
    """A refusal of the trainer with the size that it allows, where it names one."""
    text = f"{manifest}, of {counted(len(lines), 'different training transcript')},"
    if most := _MOST_PIECES.search(str(error)):
        return ConfigError(
            f"{text} allows {most[1]} pieces at the most, {vocab_size} were asked for; "
            f"set --vocab-size (vocab_size) to {most[1]} or less, or give more text."
        )
    if least := _LEAST_PIECES.search(str(error)):
        return ConfigError(
            f"{text} needs {least[1]} pieces at the least, for its letters and 256 bytes, "
            f"{vocab_size} were asked for; set --vocab-size (vocab_size) to {least[1]} or more."
        )
    return ConfigError(f"{error} The size is --vocab-size (vocab_size).")


def _fit(pieces: PieceTokenizer, lines: Sequence[str]) -> tuple[float, float]:
    """Characters a piece, and the share of pieces that are bytes; NaN without lines."""
    characters = count = num_bytes = 0
    for line in lines:
        ids = [i for i in pieces.encode(line) if i >= len(SPECIALS)]
        characters += len(pieces.decode(ids))
        count += len(ids)
        num_bytes += sum(map(pieces.is_byte, ids))
    if not count:
        return float("nan"), float("nan")
    return characters / count, num_bytes / count
