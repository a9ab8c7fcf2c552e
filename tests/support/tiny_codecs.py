"""Tiny codecs and signals that any test may use."""

import math

import torch

from speechlm.tokenizer.codec import CodecModel
from speechlm.tokenizer.config import CodecConfig

TINY = {
    "encoder_width": 16,
    "encoder_layers": 2,
    "decoder_width": 16,
    "decoder_layers": 2,
    "head_width": 8,
    "head_layers": 1,
    "num_mels": 20,
    "num_pitch_lags": 8,
    "latent_size": 12,
    "codebook_size": 16,
    "seanet_filters": 8,
    "seanet_lstm_layers": 1,
    "expansion": 2,
}


def tiny_codec(**changes: object) -> CodecModel:
    """An untrained codec whose codebooks fit its latents, so that codes follow the signal."""
    torch.manual_seed(0)
    codec = CodecModel(CodecConfig(**{**TINY, **changes})).eval()
    frames = 8 * codec.config.codebook_size
    mask = torch.ones(1, frames, 1, dtype=torch.bool)
    with torch.no_grad():
        latent = codec.encoder(voice(frames * codec.config.hop_length)[None], mask)
        codec.quantizer.initialise(latent[0], iterations=3)
    return codec.eval()


def voice(num_samples: int, pitch: float = 140.0, seed: int = 0) -> torch.Tensor:
    """A speech-like signal: harmonics with a slow envelope, and some noise."""
    time = torch.arange(num_samples) / 16_000
    tone = sum(torch.cos(2 * math.pi * pitch * k * time) / k for k in range(1, 12))
    envelope = 0.5 + 0.5 * torch.sin(2 * math.pi * 3 * time)
    noise = torch.randn(num_samples, generator=torch.Generator().manual_seed(seed))
    return 0.1 * tone * envelope + 0.005 * noise
