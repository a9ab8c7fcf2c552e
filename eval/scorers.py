"""The scorers of one evaluation: those that are there, and a sentence for each that is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import MissingExtra, UnsupportedAudio
from .extras import require
from .metrics import mean, mel_distance, pesq_wideband, stoi
from .mos import DistillMos, QualityPredictor
from .pitch import compare_pitch, pitch_track
from .recognizer import Recognizer, Transcriber
from .similarity import SpeakerEncoder, VoiceEncoder, similarity
from .transcripts import TranscriptScore, score_transcripts


@dataclass
class Scorers:
    """A recognizer, a speaker encoder and a quality predictor, each of which may be absent.

    Attributes:
        recognizer: For word error rates, or None.
        encoder: For speaker similarity, or None.
        quality: For predicted opinion scores, or None.
        notes: Why one of them is absent, for the report.
    """

    recognizer: Transcriber | None = None
    encoder: VoiceEncoder | None = None
    quality: QualityPredictor | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def installed(cls, recognizer: str | None = None, *, quality: bool = False) -> Scorers:
        """Load what this machine has, without the network unless a `recognizer` is named.

        Args:
            recognizer: A faster-whisper model by folder or name; None for one of the packages.
            quality: Whether to look for the MOS predictor, the slowest of the three.
        """
        found = cls()
        try:
            require("jiwer", "The word error rate", "make scorers")
            found.recognizer = Recognizer.find(recognizer)
        except MissingExtra as error:
            if recognizer is not None:  # asked for by name, so its absence is an error
                raise
            found.notes.append(str(error))
        try:
            found.encoder = SpeakerEncoder()
        except MissingExtra as error:
            found.notes.append(str(error))
        if quality:
            try:
                found.quality = DistillMos()
            except MissingExtra as error:
                found.notes.append(str(error))
        return found

    @property
    def names(self) -> dict[str, str | None]:
        """What stands in a report: figures of two scorers cannot be compared."""
        return {
            "recognizer": self.recognizer.name if self.recognizer else None,
            "speaker_encoder": self.encoder.name if self.encoder else None,
            **({"mos_predictor": self.quality.name} if self.quality else {}),
        }

    def hear(self, waveform: Tensor, sampling_rate: int) -> str | None:
        """Transcribe float `[L]`; None without a recognizer."""
        return self.recognizer.transcribe(waveform, sampling_rate) if self.recognizer else None

    def voice(self, waveform: Tensor, sampling_rate: int) -> Tensor | None:
        """Embed the voice of float `[L]`; None without an encoder."""
        return self.encoder.embed(waveform, sampling_rate) if self.encoder else None

    def opinion(self, waveform: Tensor, sampling_rate: int) -> float | None:
        """Predict the mean opinion score of float `[L]`; None for silence or without a predictor."""
        return self.quality.predict(waveform, sampling_rate) if self.quality else None


def word_errors(texts: Sequence[str], heard: Sequence[str | None]) -> TranscriptScore | None:
    """Score the transcripts that are there; None if there are none, or no text holds a word."""
    pairs = [(t, h) for t, h in zip(texts, heard, strict=True) if h is not None and t.strip()]
    return score_transcripts([t for t, _ in pairs], [h for _, h in pairs]) if pairs else None


def mean_similarity(
    voices: Sequence[Tensor | None], others: Sequence[Tensor | None]
) -> float | None:
    """Average similarity of pairs in which both voices are known."""
    return mean(
        [
            None if one is None or other is None else similarity(one, other)
            for one, other in zip(voices, others, strict=True)
        ]
    )


def is_nearest(
    voice: Tensor | None, own: Tensor | None, others: Sequence[Tensor | None]
) -> bool | None:
    """Whether a voice is more similar to one than to all of some others; None where any is unknown."""
    known = [other for other in others if other is not None]
    if voice is None or own is None or not known or len(known) < len(others):
        return None
    return similarity(voice, own) > max(similarity(voice, other) for other in known)


class FidelityScorer:
    """PESQ, STOI, mel distance, voicing and pitch of decoded recordings against their originals.

    Keeps the book of what they left out.
    """

    def __init__(self) -> None:
        self._undefined: dict[str, int] = {}
        self._missing: dict[str, str] = {}
        self._track: tuple[Tensor, Tensor] | None = None

    def score(
        self, original: Tensor, decoded: Tensor, sampling_rate: int
    ) -> dict[str, float | None]:
        """Score float `[L]` against its original; None where a score is undefined or missing.

        Raises:
            UnsupportedAudio: If the decoded samples are not finite.
        """
        if not bool(torch.isfinite(decoded).all()):
            raise UnsupportedAudio(
                "The codec decoded a recording to samples that are NaN or infinite; its weights "
                "are damaged, train or export them again."
            )
        values: dict[str, float | None] = {}
        for name, function in (("pesq", pesq_wideband), ("stoi", stoi)):
            values[name] = None
            if name in self._missing:
                continue
            try:
                values[name] = function(original, decoded, sampling_rate)
            except MissingExtra as error:
                self._missing[name] = str(error)
            else:
                self._undefined[name] = self._undefined.get(name, 0) + (values[name] is None)
        values["mel_distance"] = mel_distance(original, decoded, sampling_rate)
        return values | self._pitch(original, decoded, sampling_rate)

    @property
    def notes(self) -> list[str]:
        """One sentence for each score that is missing or was undefined somewhere."""
        undefined = [
            f"{name.upper()} is undefined on {count} decoded recordings (silent or too short); its "
            "mean is over the others."
            for name, count in self._undefined.items()
            if count
        ]
        return [*self._missing.values(), *undefined]

    def _pitch(
        self, original: Tensor, decoded: Tensor, sampling_rate: int
    ) -> dict[str, float | None]:
        if "pitch" in self._missing:
            return {"vuv_f1": None, "pitch_rmse_cents": None}
        try:
            if self._track is None or self._track[0] is not original:
                # one original is scored against many systems in a row
                self._track = (original, pitch_track(original, sampling_rate))
            score = compare_pitch(self._track[1], pitch_track(decoded, sampling_rate))
        except MissingExtra as error:
            self._missing["pitch"] = str(error)
            return {"vuv_f1": None, "pitch_rmse_cents": None}
        return {"vuv_f1": score.vuv_f1, "pitch_rmse_cents": score.pitch_rmse_cents}
