"""Discriminators of adversarial codec training: on periods, magnitudes, complex bands, and a light one.

Each takes waveforms `[B, L]` and gives logits and the activations of its hidden layers. Spectra are float32
whatever the autocast; only convolutions run in its precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from ..tokenizer.spectral import hann_window

_SLOPE = 0.1  # of the leaky rectifiers, in every published one of these
_FLOOR = 1e-6  # added to powers: -60 dB against a full-scale sine
# Exponent that brings a power to a compressed magnitude: |X| ** 0.3 keeps quiet bands in sight.
_COMPRESSION = 0.3


@dataclass
class Verdict:
    """What a discriminator says of a batch.

    Attributes:
        logits: `[B, ...]`, high where it takes the signal for real.
        features: Activations of the hidden layers, `[B, ...]` each.
    """

    logits: Tensor
    features: list[Tensor]


def _conv(inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int]) -> nn.Module:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return weight_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding))


def _through(layers: nn.ModuleList, signal: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The last activation, and all of them."""
    features = []
    for layer in layers:
        signal = F.leaky_relu(layer(signal), _SLOPE)
        features.append(signal)
    return signal, features


def _spectrum(waveform: Tensor, window: int, hop: int, *, tapered: bool = True) -> Tensor:
    """Complex STFT, frames in the middle dimension: `[B, N, window // 2 + 1]`.

    Scaled so that a full-scale sine peaks near 1 where it is tapered.
    """
    with torch.autocast(waveform.device.type, enabled=False):
        reach = window // 2
        signal = F.pad(waveform.float()[:, None], (reach, reach), mode="reflect")[:, 0]
        shape = hann_window(window, waveform.device)
        spectrum = torch.stft(
            signal,
            window,
            hop,
            window=shape if tapered else torch.ones_like(shape),
            center=False,
            return_complex=True,
        )
        return spectrum.transpose(1, 2) * (4 / window if tapered else 1.0)


class PeriodDiscriminator(nn.Module):
    """Sees every `period`-th sample side by side (HiFi-GAN, Kong et al. 2020, section 2.3)."""

    def __init__(self, period: int, channels: int = 32) -> None:
        super().__init__()
        self.period = period
        widths = [1, *(channels * factor for factor in (1, 4, 16, 32, 32))]
        self.layers = nn.ModuleList(
            _conv(a, b, (5, 1), (3 if number < 4 else 1, 1))
            for number, (a, b) in enumerate(pairwise(widths))
        )
        self.out = _conv(widths[-1], 1, (3, 1), (1, 1))

    def forward(self, waveform: Tensor) -> Verdict:
        """Judge `[B, L]`."""
        signal = waveform[:, None]
        if missing := -signal.shape[-1] % self.period:
            signal = F.pad(signal, (0, missing), mode="reflect")
        last, features = _through(self.layers, signal.unflatten(-1, (-1, self.period)))
        return Verdict(self.out(last), features)


class MagnitudeDiscriminator(nn.Module):
    """Sees the magnitudes of an untapered STFT (UnivNet, Jang et al. 2021; layers of Vocos)."""

    def __init__(self, window: int, hop: int, channels: int = 64) -> None:
        super().__init__()
        self.window, self.hop = window, hop
        c = channels
        self.layers = nn.ModuleList(
            [
                _conv(1, c, (5, 7), (2, 2)),
                _conv(c, c, (3, 5), (1, 2)),
                _conv(c, c, (3, 5), (2, 2)),
                _conv(c, c, (3, 3), (1, 2)),
                _conv(c, c, (3, 3), (2, 2)),
            ]
        )
        self.out = _conv(c, 1, (3, 3), (1, 1))

    def forward(self, waveform: Tensor) -> Verdict:
        """Judge `[B, L]`."""
        spectrum = _spectrum(waveform, self.window, self.hop, tapered=False)
        power = spectrum.real.square() + spectrum.imag.square()
        last, features = _through(self.layers, torch.sqrt(power + _FLOOR)[:, None])
        return Verdict(self.out(last), features)


class BandDiscriminator(nn.Module):
    """Sees real and imaginary parts of an STFT, band by band (DAC, Kumar et al. 2023, section 3.4).

    Each band has layers of its own; what they find is laid side by side for the output. Waveforms are
    freed of their mean and brought to a peak of 0.8 first, so that loudness gives nothing away.
    """

    def __init__(
        self,
        window: int,
        channels: int = 32,
        bands: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
    ) -> None:
        super().__init__()
        self.window = window
        edges = [int(share * (window // 2 + 1)) for share in bands]
        self.bands = list(pairwise(edges))
        c = channels
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    _conv(2, c, (3, 9), (1, 1)),
                    _conv(c, c, (3, 9), (1, 2)),
                    _conv(c, c, (3, 9), (1, 2)),
                    _conv(c, c, (3, 9), (1, 2)),
                    _conv(c, c, (3, 3), (1, 1)),
                ]
            )
            for _ in self.bands
        )
        self.out = _conv(c, 1, (3, 3), (1, 1))

    def forward(self, waveform: Tensor) -> Verdict:
        """Judge `[B, L]`."""
        waveform = waveform.float() - waveform.float().mean(-1, keepdim=True)
        waveform = 0.8 * waveform / (waveform.abs().amax(-1, keepdim=True) + 1e-9)
        spectrum = _spectrum(waveform, self.window, self.window // 4)
        parts = torch.stack([spectrum.real, spectrum.imag], 1)
        found, every = [], []
        for (low, high), layers in zip(self.bands, self.layers, strict=True):
            last, features = _through(layers, parts[..., low:high])  # type: ignore[arg-type]
            found.append(last)
            every += features
        return Verdict(self.out(torch.cat(found, -1)), every)


class LightDiscriminator(nn.Module):
    """Sees a compressed complex spectrogram in patches of bins; small enough for one processor core.

    The first layer takes 16 bins at a stride of 8 to one position, so that all further layers work on a
    grid an eighth as wide: half the time of full-resolution layers of as many channels, measured.
    """

    def __init__(self, window: int, hop: int, channels: int = 32, patch: int = 8) -> None:
        super().__init__()
        self.window, self.hop = window, hop
        widths = [channels * factor for factor in (1, 1, 2, 2)]
        strides = [(1, 1), (2, 2), (1, 2)]
        self.layers = nn.ModuleList(
            [
                weight_norm(nn.Conv2d(3, widths[0], (3, 2 * patch), (1, patch), (1, patch // 2))),
                *(
                    _conv(a, b, (3, 3), stride)
                    for (a, b), stride in zip(pairwise(widths), strides, strict=True)
                ),
            ]
        )
        self.out = _conv(widths[-1], 1, (3, 3), (1, 1))
        # torch's own start lets activations fade from layer to layer: a short run would be spent on that
        for layer in self.layers:
            start = nn.init.kaiming_normal_(torch.empty_like(layer.weight), _SLOPE)  # type: ignore[arg-type]
            layer.weight = start  # type: ignore[assignment]

    def forward(self, waveform: Tensor) -> Verdict:
        """Judge `[B, L]`."""
        spectrum = _spectrum(waveform, self.window, self.hop)[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square() + _FLOOR
        level = power.log()
        gain = torch.exp((_COMPRESSION - 1) / 2 * level)
        # the level, about -14 to 0, is brought to the range of the other two
        parts = torch.stack([spectrum.real * gain, spectrum.imag * gain, 0.1 * level + 0.7], 1)
        last, features = _through(self.layers, parts)
        return Verdict(self.out(last), features)


_FAMILIES: dict[str, list[tuple[type[nn.Module], dict[str, Any]]]] = {
    "mpd": [(PeriodDiscriminator, {"period": period}) for period in (2, 3, 5, 7, 11)],
    "mrd": [
        (MagnitudeDiscriminator, {"window": window, "hop": hop})
        for window, hop in ((1024, 256), (2048, 512), (512, 128))
    ],
    "mbstft": [(BandDiscriminator, {"window": window}) for window in (2048, 1024, 512)],
    "light": [
        (LightDiscriminator, {"window": window, "hop": window // 4}) for window in (1024, 512)
    ],
}


def discriminator_family(name: str, channels: int | None = None) -> nn.ModuleList:
    """The sub-discriminators of a family.

    Args:
        name: `mpd` (periods 2, 3, 5, 7, 11), `mrd` (magnitudes at windows 1024, 2048, 512), `mbstft`
            (complex bands at windows 2048, 1024, 512) or `light` (windows 1024 and 512).
        channels: Of the first layers; None for the published number.
    """
    size = {} if channels is None else {"channels": channels}
    return nn.ModuleList(kind(**arguments, **size) for kind, arguments in _FAMILIES[name])
