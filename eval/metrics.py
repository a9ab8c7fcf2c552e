"""Scores of a waveform against its original, and of how a codec uses its codebooks.

Each score takes two waveforms of one rate and is None where it is not defined (silence, too short),
so that a report can count those items instead of stopping at them or averaging a made-up number.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import ModelMismatch, UnsupportedAudio
from ..tokenizer.audio import resample
from ..tokenizer.codes import CodecIdentity, Codes
from .extras import require

PESQ_RATE_HZ = 16_000
PIECE_SECONDS = (
    20.0  # P.862.3 asks for 8 to 12 s of speech; its fixed tables overflow on long files
)
_MEL_BANDS = 80
_MEL_FLOOR = 1e-5


def pesq_wideband(reference: Tensor, degraded: Tensor, sampling_rate: int) -> float | None:
    """Wideband PESQ (ITU-T P.862.2), 1.02 (worst) to 4.64 (identical).

    Args:
        reference: The original, float `[L]`.
        degraded: What is judged, float `[L]`; the longer of the two is cut.
        sampling_rate: Of both, in hertz; other rates than 16 kHz are converted.

    Returns:
        The score, averaged over pieces where the recording is longer than 20 s, or None if PESQ
        finds no speech in either or less than a quarter of a second.

    Raises:
        MissingExtra: If the package pesq is not installed.
    """
    pesq = require("pesq", "PESQ")

    def score(original: Tensor, judged: Tensor) -> float | None:
        if not original.any() or not judged.any():
            return None  # the C code divides by the level
        try:
            return float(pesq.pesq(PESQ_RATE_HZ, original.numpy(), judged.numpy(), "wb"))
        except pesq.PesqError:
            return None

    return _over_pieces(score, reference, degraded, sampling_rate)


def stoi(reference: Tensor, degraded: Tensor, sampling_rate: int) -> float | None:
    """Short-time objective intelligibility (Taal et al. 2011), about 0 to 1.

    Returns:
        The score, or None if fewer than 30 frames (0.4 s) of speech are there.

    Raises:
        MissingExtra: If the package pystoi is not installed.
    """
    pystoi = require("pystoi", "STOI")

    def score(original: Tensor, judged: Tensor) -> float | None:
        if not original.any() or not judged.any():
            return None
        with warnings.catch_warnings():
            # pystoi answers 1e-5 with a warning when it has too few frames; that is no score
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(pystoi.stoi(original.numpy(), judged.numpy(), PESQ_RATE_HZ))
            except (RuntimeWarning, ValueError):
                return None

    return _over_pieces(score, reference, degraded, sampling_rate)


def mel_distance(reference: Tensor, degraded: Tensor, sampling_rate: int) -> float:
    """Mean absolute difference of log-mel magnitudes (natural logarithm), 0 for identical.

    80 bands, 64 ms windows every 16 ms, magnitudes clamped at 1e-5: a distance of 1 is a factor
    of e, or 8.7 dB.
    """
    from .spectra import mel_spectrogram

    original, judged = common_length(reference, degraded)
    num_fft, hop = round(0.064 * sampling_rate), round(0.016 * sampling_rate)

    def log_mel(waveform: Tensor) -> Tensor:
        mel = mel_spectrogram(waveform, sampling_rate, num_fft, hop, _MEL_BANDS)
        return mel.sqrt().clamp_min(_MEL_FLOOR).log()

    return float((log_mel(original) - log_mel(judged)).abs().mean())


class CodebookUsage:
    """Counts how often each codebook entry is used.

    Attributes:
        identity: Of the codec whose codes are counted.
        counts: int64 `[K, V]` for the number of books seen.
    """

    def __init__(self, identity: CodecIdentity, num_books: int) -> None:
        self.identity = identity
        self.counts = torch.zeros(num_books, identity.codebook_size, dtype=torch.int64)

    def add(self, codes: Codes) -> None:
        """Count the codes of every item, padding left out.

        Raises:
            ModelMismatch: If they are of another codec or number of books.
        """
        self.identity.require(codes.identity, "A set of codes to count")
        if codes.values.shape[1] != len(self.counts):
            raise ModelMismatch(
                f"Codes of {codes.values.shape[1]} books cannot be counted with codes of "
                f"{len(self.counts)}; count each number of books apart."
            )
        for index in range(len(codes.values)):
            for book, entries in enumerate(codes.item(index)):
                self.counts[book] += torch.bincount(entries, minlength=self.counts.shape[1])

    @property
    def num_frames(self) -> int:
        """Frames counted so far."""
        return int(self.counts[0].sum())

    @property
    def perplexity(self) -> list[float]:
        """Of each book: e to the entropy of its entries, from 1 (constant) to V (uniform).

        It cannot exceed `num_frames`, so state that beside it.
        """
        share = self.counts.double() / max(1, self.num_frames)
        return torch.special.entr(share).sum(dim=1).exp().tolist()

    @property
    def usage(self) -> list[float]:
        """Of each book: the share of its entries that were used at all, 0 to 1."""
        return (self.counts > 0).double().mean(dim=1).tolist()


def mean(values: list[float | None]) -> float | None:
    """Average of the scores that are defined, None if none is."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def common_length(reference: Tensor, degraded: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float32 `[L]` on the CPU, cut to the shorter.

    Raises:
        UnsupportedAudio: If one is empty or not mono.
    """
    length = min(len(reference), len(degraded))
    if reference.dim() != 1 or degraded.dim() != 1 or length == 0:
        raise UnsupportedAudio(
            f"Scores compare two mono waveforms that are not empty, got the shapes "
            f"{list(reference.shape)} and {list(degraded.shape)}."
        )
    first, second = (wave.detach().cpu().float()[:length] for wave in (reference, degraded))
    return first, second


def _over_pieces(
    score: Callable[[Tensor, Tensor], float | None],
    reference: Tensor,
    degraded: Tensor,
    sampling_rate: int,
) -> float | None:
    """Average a score over equal pieces of at most `PIECE_SECONDS` at 16 kHz."""
    original, judged = (
        resample(wave, sampling_rate, PESQ_RATE_HZ) for wave in common_length(reference, degraded)
    )
    pieces = math.ceil(len(original) / (PIECE_SECONDS * PESQ_RATE_HZ))
    pairs = zip(original.chunk(pieces), judged.chunk(pieces), strict=True)
    return mean([score(*pair) for pair in pairs])
