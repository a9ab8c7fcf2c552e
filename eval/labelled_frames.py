"""Utterances as a codec sees them, and the phoneme of every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data_prep.manifest import Utterance
from ..tokenizer.audio import read_audio
from ..tokenizer.codec import CodecModel
from ..tokenizer.codes import Codes
from .alignments import frame_phonemes, mutual_information_bits

# Nearest first, so that of equals the least is taken
_LAGS_S = sorted((step * 0.0125 for step in range(-12, 13)), key=abs)


@dataclass(frozen=True)
class EncodedUtterance:
    """One utterance as the codec sees it.

    Attributes:
        utterance: The line of the manifest.
        codes: Of this one recording, all books.
        latent: What the quantizer was given, float32 `[T, D]`.
    """

    utterance: Utterance
    codes: Codes
    latent: Tensor

    @property
    def group(self) -> str:
        """What must not stand on two sides of a split: the speaker, or just this utterance."""
        return self.utterance.speaker or f"utterance {self.utterance.id}"


def encode_utterance(codec: CodecModel, utterance: Utterance) -> EncodedUtterance:
    """Read a recording and send it through the codec's encoder and quantizer.

    Raises:
        UnsupportedAudio: If it cannot be read.
    """
    identity = codec.identity
    waveform = read_audio(utterance.audio, identity.sampling_rate)
    codes = codec.tokenize([waveform])
    frames = int(codes.lengths[0])
    whole = F.pad(waveform, (0, frames * identity.hop_length - len(waveform)))
    with torch.no_grad():
        latent = codec.encoder(whole[None], torch.ones(1, frames, 1, dtype=torch.bool))[0]
    # what inference mode made cannot take part in a probe's training; a copy can
    codes = Codes(codes.values.clone(), codes.num_samples.clone(), identity)
    return EncodedUtterance(utterance, codes, latent.clone())


@dataclass(frozen=True)
class PhonemeLabels:
    """Phonemes of frames as numbers.

    Attributes:
        classes: Names, in the order of their numbers.
        of: By utterance id int64 `[T]`, -1 for frames without phoneme; utterances without durations
            are absent.
        lag_s: Seconds by which the durations were taken to run behind the frames.
    """

    classes: list[str]
    of: dict[str, Tensor]
    lag_s: float

    @classmethod
    def read(cls, items: Sequence[EncodedUtterance], lag_s: float) -> PhonemeLabels:
        """Label the frames, the durations running `lag_s` behind them."""
        names: dict[str, list[str | None]] = {}
        for item in items:
            about, identity = item.utterance, item.codes.identity
            if about.phonemes is not None and about.durations_s is not None:
                frames, rate = int(item.codes.lengths[0]), identity.frame_rate_hz
                names[about.id] = frame_phonemes(
                    about.phonemes, about.durations_s, frames, rate, lag_s
                )
        classes = sorted({name for own in names.values() for name in own if name})
        numbers: dict[str | None, int] = {name: number for number, name in enumerate(classes)}
        of = {key: torch.tensor([numbers.get(n, -1) for n in own]) for key, own in names.items()}
        return cls(classes, of, lag_s)

    def beside_codes(self, items: Sequence[EncodedUtterance]) -> tuple[Tensor, Tensor]:
        """Codes `[K, N]` and labels `[N]` of all frames that have a phoneme."""
        known = [item for item in items if item.utterance.id in self.of]
        if not known:
            return torch.zeros(1, 0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
        labels = torch.cat([self.of[item.utterance.id] for item in known])
        codes = torch.cat([item.codes.item(0) for item in known], dim=1)
        return codes[:, labels >= 0], labels[labels >= 0]

    @classmethod
    def aligned(
        cls, items: Sequence[EncodedUtterance], train: Sequence[EncodedUtterance], num_books: int
    ) -> PhonemeLabels:
        """Labels moved by the lag at which they fit the codes best.

        Durations may run late or early, and a causal codec behind its input.

        Args:
            items: The utterances to label.
            train: Those that choose the lag, out of all within 150 ms in steps of 12.5 ms, as the
                one at which the labels share the most information with the first books.
            num_books: How many books count.
        """

        def information(lag_s: float) -> float:
            codes, labels = cls.read(train, lag_s).beside_codes(train)
            return sum(mutual_information_bits(book, labels) for book in codes[:num_books])

        return cls.read(items, max(_LAGS_S, key=information))
