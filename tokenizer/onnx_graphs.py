"""Encoder and decoder of a codec in operators that ONNX has.

They run the codec's own layers. What ONNX cannot say is put in real arithmetic: Fourier transforms are matrix
products, with windows and all else that is linear folded into the matrices. Phase and noise stay the same
integer arithmetic, so that a runtime hears the noise that torch hears. Shapes are read by `shape[i]`: under
the tracer, `len` would fix the batch.
"""

from __future__ import annotations

import copy
import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from .blocks import Carry, DepthwiseConv, FrameConv, FrameLinear
from .codec import CodecModel
from .encoder import MEL_MEAN, MEL_SCALE, SpectralEncoder
from .fourier import FourierDecoder, window_and_envelope
from .seanet import SEANetEncoder
from .source import (
    BANDWIDTH,
    CYCLE_BITS,
    MAX_LOG_GAIN,
    RESTART_VOICING,
    noise_samples,
    pulse_offsets,
)
from .spectral import frames_of, hann_window, lag_transform, mel_filters

_Part = TypeVar("_Part", bound=nn.Module)
_MAX_DOUBLINGS = 20  # over a million ISTFT frames: more than an hour
_CPU = torch.device("cpu")


def _forward_transform(window: Tensor, fft_size: int, num_bins: int) -> Tensor:
    """`rfft(frames * window, fft_size)` as a matrix, float64 `[length, 2 * num_bins]`, real parts first."""
    samples = torch.arange(len(window), dtype=torch.float64)
    turns = torch.outer(samples, torch.arange(num_bins, dtype=torch.float64)) / fft_size
    angles = 2 * math.pi * turns.remainder(1)
    return torch.cat([angles.cos(), -angles.sin()], 1) * window.double()[:, None]


def _inverse_transform(window: Tensor, num_bins: int, num_columns: int) -> Tensor:
    """`irfft(spectra) * window` as a matrix, float64 `[2 * num_bins, num_columns]`."""
    fft_size = len(window)
    matrix = _forward_transform(window, fft_size, num_bins).T / fft_size
    weight = torch.full((num_bins,), 2.0, dtype=torch.float64)
    weight[0] = 1  # every bin but the real ones stands for its mirror image too
    if num_bins > fft_size / 2:
        weight[-1] = 2 - (fft_size % 2 == 0)
    return F.pad(matrix * weight.repeat(2)[:, None], (0, num_columns - fft_size))


def _frames(signal: Tensor, length: int, hop: int) -> Tensor:
    """`frames_of` for a signal of whole hops, none of which a frame lacks: `[B, n, length]`.

    Frames are put together from hops, since runtimes gather single samples slowly.
    """
    rows, num_hops = frames_of(signal, hop, hop), -(-length // hop)
    count = rows.shape[1] - num_hops + 1
    pieces = [rows[:, place : place + count] for place in range(num_hops)]
    pieces[-1] = pieces[-1][..., : length - (num_hops - 1) * hop]
    return torch.cat(pieces, -1)


class _Conv(nn.Module):
    """`FrameConv` of a whole signal."""

    def __init__(self, layer: FrameConv) -> None:
        super().__init__()
        self.context, self.conv = layer.context, layer.conv

    def forward(
        self, x: Tensor, mask: Tensor | None = None, carry: Carry | None = None
    ) -> tuple[Tensor, Tensor | None]:
        rows = F.pad(x.transpose(1, 2), (self.context.left, self.context.right))
        return self.conv(rows).transpose(1, 2), mask


class _Depthwise(nn.Module):
    """`DepthwiseConv`."""

    def __init__(self, layer: DepthwiseConv) -> None:
        super().__init__()
        self.conv = layer.conv

    def forward(self, rows: Tensor) -> Tensor:
        image = rows.transpose(1, 2)[:, :, None]  # runtimes have faster kernels for images
        weight = self.conv.weight[:, :, None]
        out = F.conv2d(image, weight, self.conv.bias, groups=len(weight))
        return out[:, :, 0].transpose(1, 2)


def _without_guards(module: _Part) -> _Part:
    """Copy a part of the codec, with one path where a layer's path depends on the length.

    Tracing such a branch would fix the batch, or hold the result to the lengths that take it. Weight norm
    is worked out, too.
    """
    whole = copy.deepcopy(module).float().cpu().eval().requires_grad_(False)
    for parent in list(whole.modules()):
        for name, child in parent.named_children():
            if isinstance(child, FrameConv):
                setattr(parent, name, _Conv(child))
            elif isinstance(child, DepthwiseConv):
                setattr(parent, name, _Depthwise(child))
            elif isinstance(child, FrameLinear):
                plain = nn.Linear(child.in_features, child.out_features, child.bias is not None)
                plain.weight, plain.bias = child.weight, child.bias
                setattr(parent, name, plain)
            elif isinstance(child, nn.Conv1d) and parametrize.is_parametrized(child):
                # the copy shares its class with the codec's layer: there the norm cannot be removed
                settled = nn.Conv1d(
                    child.in_channels, child.out_channels, child.kernel_size[0], child.stride[0]
                )
                settled.weight, settled.bias = nn.Parameter(child.weight.detach()), child.bias
                setattr(parent, name, settled.requires_grad_(False))
    return whole


class _Features(nn.Module):
    """`SpectralEncoder.features` of a whole signal, as matrix products."""

    transform: Tensor
    filters: Tensor
    lags: Tensor

    def __init__(self, encoder: SpectralEncoder) -> None:
        super().__init__()
        config = encoder.config
        self.num_subframes, self.left = config.num_subframes, encoder.margins[0]
        self.hop = config.hop_length // config.num_subframes
        length = config.window_length
        self.length = length
        window = hann_window(length, _CPU)
        self.num_bins = length // 2 + 1
        transform = _forward_transform(window, length, self.num_bins)
        # magnitudes are scaled so that a full-scale sine peaks near 1
        filters = mel_filters(config.sampling_rate, length, config.num_mels, _CPU) * (4 / length)
        self.register_buffer("filters", filters)
        self.has_evidence = config.num_pitch_lags > 0
        if self.has_evidence:
            fft_size = 1 << (length + length // 2 - 1).bit_length()
            lags = lag_transform(
                length,
                fft_size,
                config.sampling_rate,
                config.min_pitch_hz,
                config.max_pitch_hz,
                config.num_pitch_lags,
                config.pitch_highpass_hz,
                _CPU,
            )
            self.register_buffer("lags", lags)
            centred = _forward_transform(window, fft_size, fft_size // 2 + 1)
            # a frame loses its mean before the window: the matrix's columns do
            centred -= centred.mean(0)
            transform = torch.cat([transform, centred], 1)
        self.register_buffer("transform", transform.float())

    def forward(self, waveform: Tensor) -> Tensor:
        """float32 `[B, L]` -> `[B, T, num_subframes * (mels + lags)]` with T = ceil(L / hop_length)."""
        size = self.hop * self.num_subframes
        count = (waveform.shape[1] + size - 1) // size
        hops = count * self.num_subframes - 1 + -(-self.length // self.hop)
        right = hops * self.hop - self.left - waveform.shape[1]
        frames = _frames(F.pad(waveform, (self.left, right)), self.length, self.hop)
        squares = (frames @ self.transform).square()
        bins = self.num_bins
        power = squares[..., :bins] + squares[..., bins : 2 * bins]
        mels = (torch.sqrt(power + 1e-14) @ self.filters).clamp(min=1e-5).log()
        parts = [(mels - MEL_MEAN) / MEL_SCALE]
        if self.has_evidence:
            real, imaginary = squares[..., 2 * bins :].chunk(2, -1)
            correlation = (real + imaginary) @ self.lags
            parts.append(correlation[..., 1:] / (correlation[..., :1] + 1e-5))
        features = torch.cat(parts, -1)
        return features.reshape(waveform.shape[0], count, self.num_subframes * features.shape[-1])


class _SpectralLatent(nn.Module):
    """`SpectralEncoder.forward` of whole signals without padding."""

    def __init__(self, encoder: SpectralEncoder) -> None:
        super().__init__()
        self.features, self.encoder = _Features(encoder), encoder

    def forward(self, waveform: Tensor) -> Tensor:
        """float32 `[B, L]` -> `[B, T, D]`."""
        hidden, _ = self.encoder.embed(self.features(waveform))
        hidden, _ = self.encoder.stack(hidden)
        latent: Tensor = self.encoder.project(hidden)
        return latent


class _SEANetLatent(nn.Module):
    """`SEANetEncoder.forward` of whole signals without padding, channels first."""

    def __init__(self, encoder: SEANetEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    @staticmethod
    def _conv(layer: Any, x: Tensor) -> Tensor:
        context, conv = layer.context, layer.conv
        rows = F.pad(x, (context.left, context.right))
        return F.conv1d(rows, conv.weight, conv.bias, context.stride)

    def forward(self, waveform: Tensor) -> Tensor:
        """float32 `[B, L]` -> `[B, T, D]`."""
        encoder, hop = self.encoder, self.encoder.config.hop_length
        length = waveform.shape[1]
        right = (length + hop - 1) // hop * hop - length
        x = self._conv(encoder.first, F.pad(waveform, (0, right))[:, None])
        for residual, downsampling in zip(encoder.residuals, encoder.downsamplings, strict=True):
            hidden = self._conv(residual.squeeze, F.elu(x))
            x = self._conv(residual.shortcut, x) + self._conv(residual.expand, F.elu(hidden))
            x = self._conv(downsampling, F.elu(x))
        if encoder.lstm is not None:
            x = x + encoder.lstm(x.transpose(1, 2))[0].transpose(1, 2)
        return self._conv(encoder.last, F.elu(x)).transpose(1, 2)


class EncoderGraph(nn.Module):
    """Waveform to codes, in operators that ONNX has.

    Args:
        codec: The codec; its layers are copied.
    """

    codebooks: Tensor

    def __init__(self, codec: CodecModel) -> None:
        super().__init__()
        encoder = _without_guards(codec.encoder)
        self.latent: nn.Module = (
            _SEANetLatent(encoder)
            if isinstance(encoder, SEANetEncoder)
            else _SpectralLatent(encoder)
        )
        quantizer = codec.quantizer
        self.channels = [quantizer.channels(book) for book in range(quantizer.num_codebooks)]
        self.register_buffer("codebooks", quantizer.codebooks.detach().float().cpu())
        for book, seen in enumerate(self.channels):
            entries = self.codebooks[book, :, seen]
            self.register_buffer(f"entries_{book}", -2 * entries.T)
            self.register_buffer(f"norms_{book}", entries.square().sum(-1))

    def forward(self, input_values: Tensor) -> Tensor:
        """float32 `[B, L]` -> int64 `[B, K, ceil(L / hop)]`."""
        residual = self.latent(input_values)
        codes = []
        for book, seen in enumerate(self.channels):
            entries, norms = getattr(self, f"entries_{book}"), getattr(self, f"norms_{book}")
            index = (residual[..., seen] @ entries + norms).argmin(-1)
            residual = residual - F.embedding(index, self.codebooks[book])
            codes.append(index)
        return torch.stack(codes, 1)


class DecoderGraph(nn.Module):
    """Codes to waveform, in operators that ONNX has.

    Args:
        codec: The codec; its layers are copied.
    """

    codebooks: Tensor
    head_weight: Tensor
    head_bias: Tensor
    synthesis: Tensor
    analysis: Tensor
    offsets: Tensor
    half_steps: Tensor

    def __init__(self, codec: CodecModel) -> None:
        super().__init__()
        self.config = config = codec.config
        self.decoder: FourierDecoder = _without_guards(codec.decoder)
        decoder = self.decoder
        self.fewest_books = codec.identity.min_codebooks
        self.register_buffer("codebooks", codec.quantizer.codebooks.detach().float().cpu())
        size, hop, bins = config.fft_size, config.synthesis_hop, decoder.num_bins
        self.num_hops = -(-size // hop)
        length = self.num_hops * hop
        # rows of the head whose bins stay silent are left out, and so are these bins of the transforms
        rows = torch.arange(len(decoder.head.bias)).view(-1, decoder.all_bins)[:, :bins].flatten()
        self.register_buffer("head_weight", decoder.head.weight.detach()[rows])
        self.register_buffer("head_bias", decoder.head.bias.detach()[rows])
        del decoder.head
        synthesis = _inverse_transform(window_and_envelope(size, hop, _CPU), bins, length)
        self.register_buffer("synthesis", synthesis.float())
        if config.has_harmonic_source:
            window = hann_window(size, _CPU)
            analysis = _forward_transform(window, size, bins)
            limits = torch.tensor([config.min_pitch_hz, config.max_pitch_hz]).log()
            self.pitch_range: list[float] = limits.tolist()
            # a tensor, because the exporter rounds numbers to single precision
            half_step = config.synthesis_hop / config.sampling_rate * 2 ** (CYCLE_BITS - 1)
            self.register_buffer("half_steps", torch.tensor(half_step, dtype=torch.float64))
            self.register_buffer("analysis", analysis.float())
            self.register_buffer("offsets", pulse_offsets(size, config.sampling_rate, _CPU))

    def forward(self, audio_codes: Tensor, noise_seed: Tensor | None = None) -> Tensor:
        """int64 `[B, k, T]` and a seed, int64 `[]` -> float32 `[B, T * hop]`."""
        config, decoder = self.config, self.decoder
        books = torch.arange(audio_codes.shape[1])[:, None]
        # A runtime refuses an index past the end, but counts a negative one from there: such a code is
        # sent past the end, too. Reading the last book that must be there refuses codes without it.
        last = audio_codes[:, self.fewest_books - 1, None]
        is_code = (audio_codes >= 0) & (last >= 0)
        entries = torch.where(is_code, audio_codes, config.codebook_size)
        latent = self.codebooks[books, entries].sum(1)
        hidden, _ = decoder.embed(F.pad(latent, (0, 0, 1, 1)))
        if decoder.prenet is not None:
            hidden, _ = decoder.prenet(hidden)
        hidden, _ = decoder.stack(hidden)
        fine = hidden
        if decoder.upsample is not None:
            fine = decoder.upsample(hidden)
            rows = fine.shape[1] * config.upsampling
            fine = fine.reshape(fine.shape[0], rows, fine.shape[-1] // config.upsampling)
        if decoder.head_stack is not None:
            fine, _ = decoder.head_stack(fine)
        parts = F.linear(fine, self.head_weight, self.head_bias).split(decoder.num_bins, -1)
        gain = parts[0].clamp(max=MAX_LOG_GAIN).exp()
        real, imaginary = gain * parts[1].cos(), gain * parts[1].sin()
        if noise_seed is None:
            scale = config.fft_size**0.5
            real, imaginary = real * scale, imaginary * scale
        else:
            pulses = self._pulses(hidden).chunk(2, -1)
            noise = self._noise(fine.shape[1], noise_seed).chunk(2, -1)
            level = parts[2].clamp(max=MAX_LOG_GAIN).exp()
            real, imaginary = (
                real * pulses[0] - imaginary * pulses[1] + level * noise[0],
                real * pulses[1] + imaginary * pulses[0] + level * noise[1],
            )
        return self._overlap_add(torch.cat([real, imaginary], -1) @ self.synthesis)

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """Windowed frames `[B, N, num_hops * hop]` to samples `[B, T * hop_length]`."""
        config, last = self.config, self.num_hops - 1
        pieces = frames.chunk(self.num_hops, -1)
        rows = F.pad(pieces[last], (0, 0, last, 0))
        for place in reversed(range(last)):  # oldest frames first, as in torch
            rows = rows + F.pad(pieces[place], (0, 0, place, last - place))
        first = config.hop_length + config.synthesis_reach
        length = rows.shape[1] * config.synthesis_hop
        total = frames.shape[1] * config.synthesis_hop - 2 * config.hop_length
        return rows.reshape(rows.shape[0], length)[:, first : first + total]

    def _pulses(self, hidden: Tensor) -> Tensor:
        """Voiced pulse trains as `pulse_spectrum` makes them, `[B, N, 2 * num_bins]`."""
        config = self.config
        head: Any = self.decoder.pitch_head
        shape = hidden.shape[0], hidden.shape[1] * config.upsampling
        raw = [part.reshape(shape) for part in head(hidden).chunk(2, -1)]
        low, high = self.pitch_range
        pitch = (0.5 * (low + high) + raw[0]).clamp(low, high).exp()
        halves = (pitch.double() * self.half_steps).round().long()
        steps = torch.cat([halves[:, :1], halves[:, :-1]], 1) + halves
        voicing = torch.sigmoid(raw[1])
        unvoiced = voicing < RESTART_VOICING
        # as in `pulse_phase`; `cummax` is no operator of ONNX, doubling steps are
        restarts = unvoiced & ~F.pad(unvoiced[:, :-1], (1, 0), value=True)
        total = steps.cumsum(1)
        start = torch.where(restarts, total, torch.zeros_like(total))
        for power in range(_MAX_DOUBLINGS):
            start = torch.maximum(start, F.pad(start, (1 << power, 0))[:, : start.shape[1]])
        phase = ((total - start) & ((1 << CYCLE_BITS) - 1)).double() / (1 << CYCLE_BITS)
        pitch = pitch[..., None]
        harmonics = BANDWIDTH * config.sampling_rate / pitch
        whole = harmonics.floor()
        level = torch.sqrt(2 / harmonics)
        turns = phase.float()[..., None] + pitch * self.offsets
        half = (turns - turns.round()).abs().clamp(min=3e-5) * math.pi
        series = ((2 * whole + 1) * half).sin() / half.sin() * (0.5 * level)
        series = series + ((2 * whole + 2) * half).cos() * ((harmonics - whole) * level)
        series = series - 0.5 * level
        spectra = series @ self.analysis
        return spectra * voicing[..., None]

    def _noise(self, count: int, seed: Tensor) -> Tensor:
        """Noise as `noise_spectrum` makes it, `[1, N, 2 * num_bins]`."""
        config = self.config
        first = -config.upsampling * config.synthesis_hop - config.synthesis_reach
        length = (count - 1 + self.num_hops) * config.synthesis_hop
        seeds: Any = seed  # a number elsewhere, the same arithmetic
        samples = noise_samples(first, length, seeds, _CPU)[None]
        return _frames(samples, config.fft_size, config.synthesis_hop) @ self.analysis
