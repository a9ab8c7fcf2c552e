"""Scores of what comes back over a low rate: PESQ, STOI, PLCMOS and words, as far as they are installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import MissingExtra, UnsupportedAudio
from .extras import require
from .metrics import pesq_wideband, stoi
from .plcmos import PlcMos
from .recognizer import Recognizer
from .report import Row
from .scorers import Scorers, word_errors
from .transcripts import normalise_transcript

SCORES = ("pesq", "stoi", "plcmos")
_FIDELITY: dict[str, tuple[str, Callable[[Tensor, Tensor, int], float | None]]] = {
    "pesq": ("pesq", pesq_wideband),
    "stoi": ("pystoi", stoi),
}


def installed_scorers(*, with_words: bool) -> Scorers:
    """A recognizer, if there are words to hear, and PLCMOS, as far as they are installed."""
    found = Scorers()
    if with_words:
        try:
            require("jiwer", "The word error rate", "make scorers")
            found.recognizer = Recognizer.find()
        except MissingExtra as error:
            found.notes.append(str(error))
    try:
        found.quality = PlcMos()
    except MissingExtra as error:
        found.notes.append(str(error))
    return found


def undefined_notes(items: Sequence[Row]) -> list[str]:
    """A sentence for each of `SCORES` that was undefined in some rows."""
    notes = []
    for score in SCORES:
        mine = [row for row in items if score in row]
        missing = sum(row[score] is None for row in mine)
        if 0 < missing < len(mine):
            notes.append(
                f"{score.upper()} is undefined in {missing} of {len(mine)} rows (silent or too short); "
                "its means are over the others."
            )
    return notes


class RateJudge:
    """Scores what comes back; equal samples of one recording are scored once.

    Args:
        scorers: The recognizer, and PLCMOS as the quality predictor.

    Attributes:
        notes: Why PESQ or STOI is absent.
    """

    def __init__(self, scorers: Scorers) -> None:
        self._scorers = scorers
        self._known: dict[tuple[bool, bytes], Row] = {}
        self.notes: list[str] = []
        self._fidelity: dict[str, Callable[[Tensor, Tensor, int], float | None]] = {}
        for name, (module, score) in _FIDELITY.items():
            try:
                require(module, name.upper())
            except MissingExtra as error:
                self.notes.append(str(error))
            else:
                self._fidelity[name] = score

    @property
    def names(self) -> dict[str, str | None]:
        """What stands in the report."""
        recognizer, quality = self._scorers.recognizer, self._scorers.quality
        return {
            "recognizer": recognizer.name if recognizer else None,
            "mos_predictor": quality.name if quality else None,
        }

    def begin(self) -> None:
        """Another recording comes."""
        self._known.clear()

    def score(self, original: Tensor | None, waveform: Tensor, text: str, rate: int) -> Row:
        """Score float `[L]`, and its words where a text says what they are.

        Args:
            original: float `[L]`; None for the original itself, which nothing is compared with.
            waveform: What is judged, as long.
            text: What is said; may be empty.
            rate: Of both, in hertz.

        Returns:
            `pesq` and `stoi` (with an original), `plcmos`, and `heard`, `errors`, `words`, as far as there
            are scorers; None where a score is undefined.

        Raises:
            UnsupportedAudio: If samples are not finite.
        """
        if not bool(torch.isfinite(waveform).all()):
            raise UnsupportedAudio(
                "A recording was decoded to samples that are NaN or infinite; the codec's weights are "
                "damaged, train or export them again."
            )
        key = (original is None, waveform.contiguous().numpy().tobytes())
        if key not in self._known:
            self._known[key] = self._scored(original, waveform, text, rate)
        return self._known[key]

    def _scored(self, original: Tensor | None, waveform: Tensor, text: str, rate: int) -> Row:
        row: Row = {}
        if original is not None:
            row |= {name: f(original, waveform, rate) for name, f in self._fidelity.items()}
        if self._scorers.quality is not None:
            row["plcmos"] = self._scorers.opinion(waveform, rate)
        heard = self._scorers.hear(waveform, rate) if has_words(text) else None
        score = word_errors([text], [heard])
        if score is not None:
            row["heard"] = heard
            row["errors"] = score.substitutions + score.deletions + score.insertions
            row["words"] = score.words
        return row


def has_words(text: str | None) -> bool:
    """Whether a transcript is there and holds a word."""
    return bool(text) and normalise_transcript(text or "") != ""
