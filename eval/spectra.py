"""Short-time spectra in torch, shared by the scores, the plots and the speaker embedding."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def power_spectrogram(waveform: Tensor, num_fft: int, hop: int) -> Tensor:
    """Squared STFT magnitude with a periodic Hann window, centred frames, zeros beyond both ends.

    Args:
        waveform: float `[L]`, at least one sample.
        num_fft: Window and transform length in samples.
        hop: Samples between frames.

    Returns:
        float `[num_fft // 2 + 1, 1 + L // hop]`.
    """
    window = torch.hann_window(num_fft, dtype=waveform.dtype)
    spectrum = torch.stft(
        waveform, num_fft, hop, window=window, center=True, pad_mode="constant", return_complex=True
    )
    return spectrum.real.square() + spectrum.imag.square()


def mel_spectrogram(
    waveform: Tensor, sampling_rate: int, num_fft: int, hop: int, num_bands: int
) -> Tensor:
    """Power in mel bands from 0 Hz to the Nyquist rate, float `[num_bands, 1 + L // hop]`.

    The bands are Slaney's (linear below 1 kHz, area one), the convention of most speech models.
    """
    bank = _mel_bank(sampling_rate, num_fft, num_bands).to(waveform.dtype)
    return bank @ power_spectrogram(waveform, num_fft, hop)


@lru_cache(maxsize=8)
def _mel_bank(sampling_rate: int, num_fft: int, num_bands: int) -> Tensor:
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(
        num_frequency_bins=num_fft // 2 + 1,
        num_mel_filters=num_bands,
        min_frequency=0.0,
        max_frequency=sampling_rate / 2,
        sampling_rate=sampling_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(bank.T.copy())
